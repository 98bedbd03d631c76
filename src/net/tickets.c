/* Session tickets (RFC 8446 §4.6.1) that any worker can open: sealed with AES-256-CBC and HMAC-SHA-256 (RFC 5077 §4) under keys that the
 * supervisor gives to all of them. The newest key seals; older ones still open, and what they open is sealed anew. */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "tls.h"

#define KEYS_MAX 3
#define NAME_LEN 16

struct ticket_key { /* as the message carries it */
    uint8_t name[NAME_LEN];
    uint8_t cipher[32];
    uint8_t mac[32];
};
_Static_assert(sizeof(struct ticket_key) == 80, "a ticket key is 80 bytes on the wire");

struct sp_tls_tickets {
    struct ticket_key keys[KEYS_MAX]; /* newest first */
    size_t n_keys;
    EVP_CIPHER *cipher; /* fetched once: a fetch takes a lock of OpenSSL's */
};

static int tickets_index(void) {
    static int index = -1;
    if (index < 0)
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    return index;
}

struct sp_tls_tickets *sp_tls_tickets_new(void) {
    struct sp_tls_tickets *tickets = calloc(1, sizeof *tickets);
    if (!tickets)
        return NULL;
    tickets->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (!tickets->cipher) {
        ERR_clear_error();
        free(tickets);
        return NULL;
    }
    return tickets;
}

void sp_tls_tickets_set(struct sp_tls_tickets *tickets, const uint8_t (*keys)[80], size_t n) {
    sp_wipe(tickets->keys, sizeof tickets->keys);
    tickets->n_keys = sp_min(n, (size_t)KEYS_MAX);
    if (tickets->n_keys)
        memcpy(tickets->keys, keys, tickets->n_keys * sizeof tickets->keys[0]);
}

void sp_tls_tickets_free(struct sp_tls_tickets *tickets) {
    if (!tickets)
        return;
    sp_wipe(tickets->keys, sizeof tickets->keys);
    EVP_CIPHER_free(tickets->cipher);
    free(tickets);
}

bool sp_tls_tickets_usable(const struct sp_tls_tickets *tickets) { return tickets && tickets->n_keys > 0; }

static bool prepare_mac(EVP_MAC_CTX *mac, struct ticket_key *key) {
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3). Sealing: 1 done, -1 failed. Opening: 2 done, and a new ticket follows; 0 no such key: a full
 * handshake follows; -1 failed. */
static int ticket_key(SSL *ssl, unsigned char name[NAME_LEN], unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int sealing) {
    struct sp_tls_tickets *tickets = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tickets_index());
    if (!sp_tls_tickets_usable(tickets))
        return sealing ? -1 : 0; /* without a key no ticket is asked for, see new_ssl() */
    if (sealing) {
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(tickets->cipher)) != 1)
            return -1;
        struct ticket_key *newest = &tickets->keys[0];
        memcpy(name, newest->name, NAME_LEN);
        return EVP_EncryptInit_ex2(cipher, tickets->cipher, newest->cipher, iv, NULL) == 1 && prepare_mac(mac, newest) ? 1 : -1;
    }
    for (size_t i = 0; i < tickets->n_keys; i++) {
        struct ticket_key *key = &tickets->keys[i];
        if (memcmp(name, key->name, NAME_LEN) != 0)
            continue;
        if (EVP_DecryptInit_ex2(cipher, tickets->cipher, key->cipher, iv, NULL) != 1 || !prepare_mac(mac, key))
            return -1;
        return 2;
    }
    return 0;
}

int sp_tls_tickets_install(struct sp_tls_tickets *tickets, SSL_CTX *context) {
    if (SSL_CTX_set_ex_data(context, tickets_index(), tickets) != 1)
        return -ENOMEM;
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ticket_key) == 1 ? 0 : -ENOMEM;
}
