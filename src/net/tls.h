/* The inside of TLS, both sides. Private to net/. */
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
    bool asks_clients;      /* for a certificate */
    bool requires_clients;  /* to have one */
    uint8_t trust_hash[32]; /* of the listener, whether it asks, whom it trusts and what is revoked */
};

struct sp_tls_client {
    unsigned refs;
    SSL_CTX *context; /* shared with what sp_tls_client_for() made */
    char *name;
    bool is_address;         /* the name is one */
    uint8_t fingerprint[32]; /* of the files and protocols the context was made of */
    SSL_SESSION *session;    /* the last; NULL: none */
    uint64_t verified_ms;    /* when a certificate was last looked at, by the loop's clock; sessions go back to it */
};
/* tls_client.c: a handshake to be, with its name and the last session. NULL: out of memory. */
SSL *sp_tls_client_ssl(struct sp_tls_client *client, uint64_t now_ms) SP_MUST_USE;

/* certificate.c: reads a chain and its key; *ret_error is one sentence that begins with where the configuration says so. */
int sp_tls_identity_load(struct sp_tls_identity *identity, const struct sp_certificate_config *config, const struct sp_tls_signer *signer,
                         char **ret_error) SP_MUST_USE;
void sp_tls_identity_free(struct sp_tls_identity *identity); /* what it holds */
enum sp_tls_match { SP_TLS_MATCH_NONE, SP_TLS_MATCH_WILDCARD, SP_TLS_MATCH_EXACT };
enum sp_tls_match sp_tls_identity_match(const struct sp_tls_identity *identity, struct sp_span host);

/* tickets.c */
int sp_tls_tickets_install(struct sp_tls_tickets *tickets, SSL_CTX *context) SP_MUST_USE;
bool sp_tls_tickets_usable(const struct sp_tls_tickets *tickets); /* there is a key to seal one with */

/* tls_context.c: what both sides share: suites, groups, security level 2, buffers. NULL: out of memory, or OpenSSL lacks what is needed. */
SSL_CTX *sp_tls_context_new(const SSL_METHOD *method) SP_MUST_USE;

/* trust.c: whom a context believes. The authorities of a PEM file (tell: the peer is told their names, so that it can choose); and what
 * they have revoked, in which then every certificate of a chain is looked up: one list of each authority is needed, and none may be out of
 * date. *ret_error as above. */
int sp_tls_trust_authorities(SSL_CTX *context, const struct sp_text *ca, const char *pem, bool tell, char **ret_error) SP_MUST_USE;
int sp_tls_trust_revocations(SSL_CTX *context, const struct sp_text *crl, const char *pem, char **ret_error) SP_MUST_USE;

/* verify.c: from now on peers of this context are verified, and a refusal is noted as the transport's problem. `mode` is as of
 * SSL_CTX_set_verify(3). */
void sp_tls_verify(SSL_CTX *context, int mode);
/* A client that was verified before, by the rules of `context`. */
bool sp_tls_verify_again(SSL_CTX *context, const SSL *ssl);

/* peer_certificate.c: the facts of a certificate. -EMSGSIZE when a name in it is longer than SP_PEER_NAME_MAX; -EINVAL, -ENOMEM. */
int sp_tls_peer_new(X509 *certificate, struct sp_peer_certificate **ret) SP_MUST_USE;
void sp_tls_peer_free(struct sp_peer_certificate *peer); /* takes NULL */
/* As RFC 2253 writes it; malloc'ed, NULL: out of memory. */
char *sp_tls_name_text(const X509_NAME *name) SP_MUST_USE;
char *sp_tls_serial_text(const X509 *certificate) SP_MUST_USE;
/* The first names a server's certificate is for, parted by commas; malloc'ed, NULL: out of memory. */
char *sp_tls_alternatives_text(const X509 *certificate) SP_MUST_USE;

/* transport_tls.c: whose handshake this is. */
struct sp_transport *sp_tls_transport_of(const SSL *ssl);
const SSL *sp_tls_ssl_of(const struct sp_transport *transport,
                         const struct sp_tls_server **ret_server); /* NULL: plain, or our client side */
struct sp_tls_client *sp_tls_client_of(const SSL *ssl);            /* NULL: ours is the server's side */

/* Formats into *ret_error; always -EINVAL, so that a caller can return it. */
int sp_tls_refuse(char **ret_error, const char *format, ...) SP_PRINTF(2, 3);
/* What OpenSSL last said, as words; empties its queue. */
const char *sp_tls_reason(void);

#endif
