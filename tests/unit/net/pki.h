/* Authorities, what they sign and what they revoke, made in memory. */
#ifndef SALLYPORT_TEST_NET_PKI_H
#define SALLYPORT_TEST_NET_PKI_H

#include "support.h"

struct test_subject {
    X509 *x509;
    EVP_PKEY *key;
    char *pem, *key_pem; /* the certificate alone */
};
struct test_wish {
    const char *cn;
    const char *alternatives; /* as openssl(1) writes them: "DNS:a,IP:127.0.0.1"; NULL: none */
    const char *usage;        /* extendedKeyUsage; NULL: none */
    bool authority;
    long from_s, until_s; /* from now; both 0: an hour before to a day after */
    const char *key;      /* NULL: "EC" */
};
/* issuer NULL: signed by itself. Everything is made anew; test_subject_free(). */
void test_subject_make(struct test_subject *subject, const struct test_subject *issuer, const struct test_wish *wish);
void test_subject_free(struct test_subject *subject);
/* A list of revocations: `revoked` NULL: of nothing. until_s from now. malloc'ed PEM. */
char *test_crl(const struct test_subject *issuer, const struct test_subject *revoked, long until_s);
char *test_joined(const char *a, const char *b);

#endif
