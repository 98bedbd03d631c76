/* The inside of TLS on the server side. Private to net/. */
#ifndef SALLYPORT_NET_TLS_H
#define SALLYPORT_NET_TLS_H

#include <openssl/ssl.h>

#include <sallyport/net.h>

/* One certificate chain with its key and the names it answers to. */
struct sp_tls_identity {
    X509 *leaf;
    STACK_OF(X509) * chain; /* the intermediates, leaf excluded; NULL: none */
    EVP_PKEY *key;
    char **names; /* from the SAN's dNSName entries, lower case as written there; "*.example.com" is a wildcard */
    size_t n_names;
};

struct sp_tls_server {
    unsigned refs;
    SSL_CTX *context;
    struct sp_tls_tickets *tickets; /* borrowed: the worker's */
    struct sp_tls_identity *identities;
    size_t n_identities; /* the first is the default */
    char **protocols;    /* ALPN, most wanted first */
    size_t n_protocols;
};

/* certificate.c: reads a chain and its key; *ret_error is one sentence that begins with where the configuration says so. */
int sp_tls_identity_load(struct sp_tls_identity *identity, const struct sp_certificate_config *config, const struct sp_tls_signer *signer,
                         char **ret_error) SP_MUST_USE;
void sp_tls_identity_free(struct sp_tls_identity *identity); /* what it holds */
enum sp_tls_match { SP_TLS_MATCH_NONE, SP_TLS_MATCH_WILDCARD, SP_TLS_MATCH_EXACT };
enum sp_tls_match sp_tls_identity_match(const struct sp_tls_identity *identity, struct sp_span host);

/* tickets.c */
int sp_tls_tickets_install(struct sp_tls_tickets *tickets, SSL_CTX *context) SP_MUST_USE;
bool sp_tls_tickets_usable(const struct sp_tls_tickets *tickets); /* there is a key to seal one with */

/* Formats into *ret_error; always -EINVAL, so that a caller can return it. */
int sp_tls_refuse(char **ret_error, const char *format, ...) SP_PRINTF(2, 3);
/* What OpenSSL last said, as words; empties its queue. */
const char *sp_tls_reason(void);

#endif
