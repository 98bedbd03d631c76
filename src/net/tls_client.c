/* Us as a client of TLS: whom we believe, who we are, whom we ask for; and the session that makes the next handshake short. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "tls.h"

#define CIPHERS          "ECDHE+AESGCM:ECDHE+CHACHA20" /* for TLS 1.2: forward secrecy and AEAD, or nothing */
#define SESSION_TRUST_MS (60 * 60 * 1000)              /* a resumed session shows no certificate: look at it again once an hour */

/* ---- Sessions ---- */

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    struct sp_tls_client *client = sp_tls_client_of(ssl);
    SSL_SESSION_free(client->session);
    client->session = session;
    return 1; /* the reference is ours now */
}

static bool may_resume(const struct sp_tls_client *client, uint64_t now_ms) {
    return client->session && now_ms - client->verified_ms < SESSION_TRUST_MS && SSL_SESSION_is_resumable(client->session);
}

/* ---- One handshake ---- */

static bool set_name(SSL *ssl, const struct sp_tls_client *client) {
    X509_VERIFY_PARAM *wanted = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (client->is_address)
        return X509_VERIFY_PARAM_set1_ip_asc(wanted, client->name) == 1; /* RFC 6066 §3: no address in SNI */
    return X509_VERIFY_PARAM_set1_host(wanted, client->name, 0) == 1 && SSL_set_tlsext_host_name(ssl, client->name) == 1;
}

SSL *sp_tls_client_ssl(struct sp_tls_client *client, uint64_t now_ms) {
    SSL *ssl = SSL_new(client->context);
    if (!ssl || !set_name(ssl, client) || (may_resume(client, now_ms) && SSL_set_session(ssl, client->session) != 1)) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_connect_state(ssl);
    return ssl;
}

/* ---- Setting up ---- */

static int offer(SSL_CTX *context, const char *alpn) {
    unsigned char wire[256];
    size_t len = strlen(alpn);
    if (len >= sizeof wire)
        return -EINVAL;
    wire[0] = (unsigned char)len;
    memcpy(wire + 1, alpn, len);
    return SSL_CTX_set_alpn_protos(context, wire, (unsigned)len + 1) == 0 ? 0 : -ENOMEM;
}

static int be(SSL_CTX *context, const struct sp_certificate_config *own, const struct sp_tls_signer *signer, char **ret_error) {
    struct sp_tls_identity identity = {0};
    int r = sp_tls_identity_load(&identity, own, signer, ret_error);
    if (r == 0 && SSL_CTX_use_cert_and_key(context, identity.leaf, identity.key, identity.chain, 1) != 1)
        r = sp_tls_refuse(ret_error, "%s: the certificate in %s cannot be used: %s", own->chain.where, own->chain.text, sp_tls_reason());
    sp_tls_identity_free(&identity);
    return r;
}

static int set_up(SSL_CTX *context, const struct sp_tls_client_config *config, const char *alpn, const struct sp_tls_signer *signer,
                  char **ret_error) {
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep_session);
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 || SSL_CTX_set_cipher_list(context, CIPHERS) != 1)
        return -ENOTSUP;
    int r = alpn ? offer(context, alpn) : 0;
    if (r == 0 && !config->ca_pem)
        r = sp_tls_refuse(ret_error, "%s: there is no authority to verify the server with", config->ca.where ? config->ca.where : "tls");
    if (r == 0)
        r = sp_tls_trust_authorities(context, &config->ca, config->ca_pem, false, ret_error);
    if (r == 0 && config->own.chain.text)
        r = be(context, &config->own, signer, ret_error);
    sp_tls_verify(context, SSL_VERIFY_PEER);
    return r;
}

/* Each part with its length, so that no two lists of parts look alike. */
static bool hash_text(EVP_MD_CTX *hash, const char *text) {
    uint64_t len = text ? strlen(text) + 1 : 0;
    return EVP_DigestUpdate(hash, &len, sizeof len) == 1 && EVP_DigestUpdate(hash, text ? text : "", text ? strlen(text) : 0) == 1;
}

static int take_fingerprint(struct sp_tls_client *client, const struct sp_tls_client_config *config, const char *alpn) {
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool done = hash && EVP_DigestInit_ex2(hash, EVP_sha256(), NULL) == 1 && hash_text(hash, config->ca_pem) &&
                hash_text(hash, config->own.chain_pem) && hash_text(hash, config->own.key_pem) && hash_text(hash, alpn) &&
                EVP_DigestFinal_ex(hash, client->fingerprint, NULL) == 1;
    EVP_MD_CTX_free(hash);
    return done ? 0 : -ENOMEM;
}

static struct sp_tls_client *client_alloc(const char *name) {
    struct sp_tls_client *client = calloc(1, sizeof *client);
    uint8_t address[16];
    if (!client)
        return NULL;
    client->refs = 1;
    client->is_address = sp_address_parse(sp_span_text(name), address);
    client->name = strdup(name);
    if (client->name)
        return client;
    free(client);
    return NULL;
}

int sp_tls_client_new(const struct sp_tls_client_config *config, const char *name, const char *alpn, const struct sp_tls_signer *signer,
                      char **ret_error, struct sp_tls_client **ret) {
    struct sp_tls_client *client = client_alloc(name);
    if (!client)
        return -ENOMEM;
    client->context = sp_tls_context_new(TLS_client_method());
    int r = client->context ? set_up(client->context, config, alpn, signer, ret_error) : -ENOMEM;
    if (r == 0)
        r = take_fingerprint(client, config, alpn);
    if (r < 0) {
        ERR_clear_error();
        sp_tls_client_unref(client);
        return r;
    }
    *ret = client;
    return 0;
}

int sp_tls_client_for(const struct sp_tls_client *client, const char *name, struct sp_tls_client **ret) {
    struct sp_tls_client *other = client_alloc(name);
    if (!other)
        return -ENOMEM;
    if (SSL_CTX_up_ref(client->context) == 1)
        other->context = client->context;
    memcpy(other->fingerprint, client->fingerprint, sizeof other->fingerprint);
    *ret = other;
    return 0;
}

bool sp_tls_client_same(const struct sp_tls_client *a, const struct sp_tls_client *b) {
    if (!a || !b)
        return a == b;
    return memcmp(a->fingerprint, b->fingerprint, sizeof a->fingerprint) == 0 && strcmp(a->name, b->name) == 0;
}

struct sp_tls_client *sp_tls_client_ref(struct sp_tls_client *tls) {
    tls->refs++;
    return tls;
}

void sp_tls_client_unref(struct sp_tls_client *tls) {
    if (!tls || --tls->refs > 0)
        return;
    SSL_SESSION_free(tls->session);
    SSL_CTX_free(tls->context);
    free(tls->name);
    free(tls);
}
