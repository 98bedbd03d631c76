/* What comes of looking at a peer's certificate: nothing when it is good, a sentence when it is not. */
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "tls.h"
#include "transport.h"

#define DEPTH_MAX 8   /* authorities between a certificate and the one we trust */
#define SHOWN_MAX 256 /* of a name that a stranger wrote, in the log */

static bool is_mismatch(int error) { return error == X509_V_ERR_HOSTNAME_MISMATCH || error == X509_V_ERR_IP_ADDRESS_MISMATCH; }

/* `expected` is the name a server's certificate should have; NULL: a client's. */
static void describe(struct sp_transport *transport, X509_STORE_CTX *verification, const char *expected) {
    int error = X509_STORE_CTX_get_error(verification), depth = X509_STORE_CTX_get_error_depth(verification);
    X509 *leaf = X509_STORE_CTX_get0_cert(verification), *culprit = X509_STORE_CTX_get_current_cert(verification);
    _cleanup_(sp_free_pointer) char *subject = leaf ? sp_tls_name_text(X509_get_subject_name(leaf)) : NULL;
    _cleanup_(sp_free_pointer) char *serial = leaf ? sp_tls_serial_text(leaf) : NULL;
    _cleanup_(sp_free_pointer) char *authority = depth > 0 && culprit ? sp_tls_name_text(X509_get_subject_name(culprit)) : NULL;
    _cleanup_(sp_free_pointer) char *names = leaf && is_mismatch(error) ? sp_tls_alternatives_text(leaf) : NULL;
    sp_transport_set_problem(transport, "tls: %s%s is refused: subject \"%.*s\", serial %s%s%.*s%s: %s%s%s",
                             expected ? "the certificate for " : "the client's certificate", expected ? expected : "", SHOWN_MAX,
                             subject ? subject : "", serial ? serial : "", authority ? ", at its authority \"" : "", SHOWN_MAX,
                             authority ? authority : "", authority ? "\"" : "", X509_verify_cert_error_string(error),
                             names ? ", it is for " : "", names ? names : "");
}

/* The last call for a good chain is for the certificate itself. */
static int judge(int good, X509_STORE_CTX *verification) {
    SSL *ssl = X509_STORE_CTX_get_ex_data(verification, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct sp_transport *transport = sp_tls_transport_of(ssl);
    if (good) {
        /* What a ticket brings back is not verified again: it would outlive an expiry and a revocation. */
        if (SSL_is_server(ssl))
            (void)SSL_set_num_tickets(ssl, 0); /* takes any number */
        return 1;
    }
    transport->certificate_refused = true;
    const struct sp_tls_client *client = sp_tls_client_of(ssl);
    describe(transport, verification, client ? client->name : NULL);
    return 0;
}

/* As OpenSSL does in a handshake. */
bool sp_tls_verify_again(SSL_CTX *context, const SSL *ssl) {
    X509_STORE_CTX *verification = X509_STORE_CTX_new();
    bool good = verification &&
                X509_STORE_CTX_init(verification, SSL_CTX_get_cert_store(context), SSL_get0_peer_certificate(ssl),
                                    SSL_get_peer_cert_chain(ssl)) == 1 &&
                X509_STORE_CTX_set_default(verification, "ssl_client") == 1;
    if (good) {
        X509_VERIFY_PARAM *rules = X509_STORE_CTX_get0_param(verification);
        X509_VERIFY_PARAM_set_auth_level(rules, SSL_CTX_get_security_level(context));
        good = X509_VERIFY_PARAM_set1(rules, SSL_CTX_get0_param(context)) == 1 && X509_verify_cert(verification) == 1;
    }
    X509_STORE_CTX_free(verification);
    ERR_clear_error();
    return good;
}

void sp_tls_verify(SSL_CTX *context, int mode) {
    SSL_CTX_set_verify(context, mode, judge);
    SSL_CTX_set_verify_depth(context, DEPTH_MAX);
}
