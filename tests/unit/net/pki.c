#include "pki.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

static char *bio_text(BIO *bio) {
    char *bytes = NULL;
    long len = BIO_get_mem_data(bio, &bytes);
    char *text = sp_span_dup(sp_span(bytes, (size_t)len));
    BIO_free(bio);
    assert_non_null(text);
    return text;
}

static void extend(X509 *x509, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(x509, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

void test_subject_make(struct test_subject *subject, const struct test_subject *issuer, const struct test_wish *wish) {
    static long serial = 4096;
    *subject = (struct test_subject){.x509 = X509_new()};
    if (!wish->key || strcmp(wish->key, "EC") == 0)
        subject->key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    else
        subject->key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)strtoul(wish->key, NULL, 10));
    assert_non_null(subject->key);
    X509 *x509 = subject->x509, *signer = issuer ? issuer->x509 : x509;
    X509_set_version(x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x509), wish->from_s || wish->until_s ? wish->from_s : -3600);
    X509_gmtime_adj(X509_getm_notAfter(x509), wish->from_s || wish->until_s ? wish->until_s : 24 * 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_UTF8, (const unsigned char *)wish->cn, -1, -1, 0);
    X509_set_issuer_name(x509, X509_get_subject_name(signer));
    X509_set_pubkey(x509, subject->key);
    if (wish->authority) {
        extend(x509, signer, NID_basic_constraints, "critical,CA:TRUE");
        extend(x509, signer, NID_key_usage, "critical,keyCertSign,cRLSign");
    }
    if (wish->alternatives)
        extend(x509, signer, NID_subject_alt_name, wish->alternatives);
    if (wish->usage)
        extend(x509, signer, NID_ext_key_usage, wish->usage);
    assert_true(X509_sign(x509, issuer ? issuer->key : subject->key, EVP_sha256()) > 0);
    BIO *certificate = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(certificate, x509), 1);
    assert_int_equal(PEM_write_bio_PrivateKey(key, subject->key, NULL, NULL, 0, NULL, NULL), 1);
    subject->pem = bio_text(certificate);
    subject->key_pem = bio_text(key);
}

void test_subject_free(struct test_subject *subject) {
    X509_free(subject->x509);
    EVP_PKEY_free(subject->key);
    free(subject->pem);
    free(subject->key_pem);
}

char *test_crl(const struct test_subject *issuer, const struct test_subject *revoked, long until_s) {
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *from = X509_gmtime_adj(NULL, -7200), *until = X509_gmtime_adj(NULL, until_s);
    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x509));
    X509_CRL_set1_lastUpdate(crl, from);
    X509_CRL_set1_nextUpdate(crl, until);
    if (revoked) {
        X509_REVOKED *entry = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->x509));
        X509_REVOKED_set_revocationDate(entry, from);
        assert_int_equal(X509_CRL_add0_revoked(crl, entry), 1);
    }
    assert_true(X509_CRL_sign(crl, issuer->key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509_CRL(bio, crl), 1);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    X509_CRL_free(crl);
    return bio_text(bio);
}

char *test_joined(const char *a, const char *b) {
    char *text = NULL;
    assert_true(asprintf(&text, "%s%s", a, b) >= 0);
    return text;
}
