/* One listener's TLS of one generation: what is offered, and which certificate answers to which name. */
#include <errno.h>
#include <openssl/err.h>

#include "tls.h"

#define TICKET_LIFETIME (2 * 60 * 60)

/* ---- What a handshake asks ---- */

/* Our order decides. A client that offers protocols, none of them ours, is told so by an alert (RFC 7301 §3.2). */
static int choose_protocol(SSL *ssl, const unsigned char **ret, unsigned char *ret_len, const unsigned char *offered, unsigned len,
                           void *server_pointer) {
    const struct sp_tls_server *server = server_pointer;
    for (size_t i = 0; i < server->n_protocols; i++) {
        struct sp_span wanted = sp_span_text(server->protocols[i]);
        for (unsigned at = 0; at < len && at + 1 + offered[at] <= len; at += 1u + offered[at]) {
            if (!sp_span_eq(wanted, sp_span((const char *)offered + at + 1, offered[at])))
                continue;
            *ret = offered + at + 1;
            *ret_len = offered[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static enum sp_tls_match best_match(const struct sp_tls_server *server, struct sp_span host) {
    enum sp_tls_match best = SP_TLS_MATCH_NONE;
    for (size_t i = 0; i < server->n_identities && best != SP_TLS_MATCH_EXACT; i++) {
        enum sp_tls_match match = sp_tls_identity_match(&server->identities[i], host);
        best = sp_max(best, match);
    }
    return best;
}

/* Whether an earlier certificate of the same rank has this type of key: the first of each type answers. */
static bool type_taken(const struct sp_tls_server *server, size_t before, struct sp_span host, enum sp_tls_match rank) {
    int type = EVP_PKEY_get_base_id(server->identities[before].key);
    for (size_t i = 0; i < before; i++)
        if (EVP_PKEY_get_base_id(server->identities[i].key) == type && sp_tls_identity_match(&server->identities[i], host) == rank)
            return true;
    return false;
}

/* The default is already in place. When the client names a host that others of our certificates answer to, they replace it: all of them,
 * so that OpenSSL picks between an ECDSA and an RSA one by what the client can verify. 1: go on, 0: alert. */
static int choose_certificate(SSL *ssl, void *server_pointer) {
    const struct sp_tls_server *server = server_pointer;
    struct sp_span host = sp_span_text(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
    enum sp_tls_match rank = host.len > 0 ? best_match(server, host) : SP_TLS_MATCH_NONE;
    if (rank == SP_TLS_MATCH_NONE)
        return 1;
    SSL_certs_clear(ssl);
    for (size_t i = 0; i < server->n_identities; i++) {
        const struct sp_tls_identity *identity = &server->identities[i];
        if (sp_tls_identity_match(identity, host) != rank || type_taken(server, i, host, rank))
            continue;
        if (SSL_use_cert_and_key(ssl, identity->leaf, identity->key, identity->chain, 1) != 1)
            return 0;
    }
    return 1;
}

/* ---- Setting up ---- */

/* A ticket is worth something only where everything that was verified to earn it would be verified the same way again. */
static int set_session_context(struct sp_tls_server *server, const struct sp_listener_config *listener) {
    const char *client_ca = listener->client_ca_pem ? listener->client_ca_pem : "";
    const char *client_crl = listener->client_crl_pem ? listener->client_crl_pem : "";
    const uint32_t facts[3] = {listener->slot, (uint32_t)listener->client_certificate, (uint32_t)strlen(client_ca)};
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool hashed = hash && EVP_DigestInit_ex2(hash, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(hash, facts, sizeof facts) == 1 &&
                  EVP_DigestUpdate(hash, client_ca, strlen(client_ca)) == 1 &&
                  EVP_DigestUpdate(hash, client_crl, strlen(client_crl)) == 1 && EVP_DigestFinal_ex(hash, server->trust_hash, NULL) == 1;
    EVP_MD_CTX_free(hash);
    return hashed && SSL_CTX_set_session_id_context(server->context, server->trust_hash, sizeof server->trust_hash) == 1 ? 0 : -ENOMEM;
}

static int set_up_context(SSL_CTX *context) {
    /* The cheapest suite is ours to choose; a client that puts ChaCha20 first has no AES in hardware, and gets it. */
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(context, TICKET_LIFETIME);
    if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 || SSL_CTX_set_num_tickets(context, 1) != 1 ||
        SSL_CTX_set_max_early_data(context, 0) != 1 || SSL_CTX_set_recv_max_early_data(context, 0) != 1)
        return -ENOTSUP;
    return 0;
}

/* Whoever gives a certificate must give a good one, also where none is required. */
static int ask_clients(struct sp_tls_server *server, const struct sp_listener_config *listener, char **ret_error) {
    if (listener->client_certificate == SP_CLIENT_CERT_NONE)
        return 0;
    if (!listener->client_ca_pem)
        return sp_tls_refuse(ret_error, "%s: client certificates are asked for, but there is no client_ca to verify them with",
                             listener->address.where);
    int r = sp_tls_trust_authorities(server->context, &listener->client_ca, listener->client_ca_pem, true, ret_error);
    if (r == 0 && listener->client_crl_pem)
        r = sp_tls_trust_revocations(server->context, &listener->client_crl, listener->client_crl_pem, ret_error);
    bool required = listener->client_certificate == SP_CLIENT_CERT_REQUIRED;
    sp_tls_verify(server->context, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0));
    server->asks_clients = true;
    server->requires_clients = required;
    return r;
}

static int copy_protocols(struct sp_tls_server *server, const struct sp_listener_config *listener) {
    if (listener->protocols.count == 0)
        return 0;
    server->protocols = calloc(listener->protocols.count, sizeof *server->protocols);
    if (!server->protocols)
        return -ENOMEM;
    for (size_t i = 0; i < listener->protocols.count; i++) {
        server->protocols[i] = sp_span_dup(sp_span_text(listener->protocols.item[i]));
        if (!server->protocols[i])
            return -ENOMEM;
        server->n_protocols++;
    }
    return 0;
}

/* What OpenSSL will not have is said when it is configured. The first stays in the context, as the default; the others are tried on an
 * object that is thrown away. */
static int try_identity(struct sp_tls_server *server, const struct sp_tls_identity *identity, const struct sp_text *chain,
                        char **ret_error) {
    if (identity == &server->identities[0]) {
        if (SSL_CTX_use_cert_and_key(server->context, identity->leaf, identity->key, identity->chain, 1) == 1)
            return 0;
    } else {
        SSL *trial = SSL_new(server->context);
        if (!trial)
            return -ENOMEM;
        int taken = SSL_use_cert_and_key(trial, identity->leaf, identity->key, identity->chain, 1);
        SSL_free(trial);
        if (taken == 1)
            return 0;
    }
    return sp_tls_refuse(ret_error, "%s: the certificate in %s cannot be used: %s", chain->where, chain->text, sp_tls_reason());
}

static int load_identities(struct sp_tls_server *server, const struct sp_listener_config *listener, const struct sp_tls_signer *signer,
                           char **ret_error) {
    if (listener->n_certificates == 0)
        return sp_tls_refuse(ret_error, "%s: a listener with TLS needs a certificate", listener->address.where);
    server->identities = calloc(listener->n_certificates, sizeof *server->identities);
    if (!server->identities)
        return -ENOMEM;
    for (size_t i = 0; i < listener->n_certificates; i++) {
        const struct sp_certificate_config *certificate = &listener->certificates[i];
        struct sp_tls_identity *identity = &server->identities[server->n_identities++];
        int r = sp_tls_identity_load(identity, certificate, signer, ret_error);
        if (r == 0)
            r = try_identity(server, identity, &certificate->chain, ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

static void server_free(struct sp_tls_server *server) {
    for (size_t i = 0; i < server->n_identities; i++)
        sp_tls_identity_free(&server->identities[i]);
    for (size_t i = 0; i < server->n_protocols; i++)
        free(server->protocols[i]);
    free(server->identities);
    free(server->protocols);
    SSL_CTX_free(server->context);
    free(server);
}

static int build(struct sp_tls_server *server, const struct sp_listener_config *listener, const struct sp_tls_signer *signer,
                 char **ret_error) {
    server->context = sp_tls_context_new(TLS_server_method());
    if (!server->context)
        return -ENOMEM;
    int r = set_up_context(server->context);
    if (r == 0)
        r = set_session_context(server, listener);
    if (r == 0)
        r = copy_protocols(server, listener);
    if (r == 0)
        r = sp_tls_tickets_install(server->tickets, server->context);
    if (r == 0)
        r = ask_clients(server, listener, ret_error);
    if (r == 0)
        r = load_identities(server, listener, signer, ret_error);
    if (r < 0)
        return r;
    SSL_CTX_set_alpn_select_cb(server->context, choose_protocol, server);
    if (server->n_identities > 1)
        SSL_CTX_set_cert_cb(server->context, choose_certificate, server);
    return 0;
}

int sp_tls_server_new(const struct sp_listener_config *listener, const struct sp_tls_signer *signer, struct sp_tls_tickets *tickets,
                      char **ret_error, struct sp_tls_server **ret) {
    struct sp_tls_server *server = calloc(1, sizeof *server);
    if (!server)
        return -ENOMEM;
    server->refs = 1;
    server->tickets = tickets;
    int r = build(server, listener, signer, ret_error);
    if (r < 0) {
        ERR_clear_error();
        server_free(server);
        return r;
    }
    *ret = server;
    return 0;
}

bool sp_tls_server_accepts(const struct sp_tls_server *tls, const struct sp_transport *transport) {
    const struct sp_tls_server *before = NULL;
    const SSL *ssl = sp_tls_ssl_of(transport, &before);
    if (!ssl || !tls->asks_clients || memcmp(before->trust_hash, tls->trust_hash, sizeof tls->trust_hash) == 0)
        return true;
    return SSL_get0_peer_certificate(ssl) ? sp_tls_verify_again(tls->context, ssl) : !tls->requires_clients;
}

struct sp_tls_server *sp_tls_server_ref(struct sp_tls_server *tls) {
    tls->refs++;
    return tls;
}

void sp_tls_server_unref(struct sp_tls_server *tls) {
    if (tls && --tls->refs == 0)
        server_free(tls);
}
