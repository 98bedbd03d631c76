/* What both sides of TLS have in common. */
#include <openssl/err.h>

#include "tls.h"

#define CIPHERSUITES    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define FULL_RECORD_LEN (SSL3_RT_HEADER_LENGTH + SSL3_RT_MAX_PLAIN_LENGTH + 1 + EVP_GCM_TLS_TAG_LEN)
/* Two per recv(2), no byte more, and what OpenSSL leaves out so that payloads are aligned; held only while there is something in it. */
#define READ_BUFFER_LEN      (2 * FULL_RECORD_LEN + SSL3_ALIGN_PAYLOAD - SSL3_RT_HEADER_LENGTH)
#define PEER_CERTIFICATE_MAX (64 * 1024) /* a whole chain, from somebody who is not known yet */

/* The first that this OpenSSL knows. From 3.5 on there is a hybrid group (RFC 9794 says what that is), and a star says of which groups a
 * client sends a key share at once: with both a server that has no hybrid needs no second round. */
static bool set_groups(SSL_CTX *context) {
    static const char *const groups[] = {"*X25519MLKEM768:*X25519:P-256:P-384", "X25519MLKEM768:X25519:P-256:P-384", "X25519:P-256:P-384"};
    for (size_t i = 0; i < SP_COUNT(groups); i++) {
        if (SSL_CTX_set1_groups_list(context, groups[i]) == 1)
            return true;
        ERR_clear_error();
    }
    return false;
}

SSL_CTX *sp_tls_context_new(const SSL_METHOD *method) {
    SSL_CTX *context = SSL_CTX_new(method);
    if (!context)
        return NULL;
    SSL_CTX_set_security_level(context, 2);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL); /* until sp_tls_verify() */
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, READ_BUFFER_LEN);
    SSL_CTX_set_max_cert_list(context, PEER_CERTIFICATE_MAX);
    if (SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 && SSL_CTX_set_ciphersuites(context, CIPHERSUITES) == 1 &&
        set_groups(context))
        return context;
    SSL_CTX_free(context);
    return NULL;
}
