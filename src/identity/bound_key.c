/* A key with the one algorithm it may be used with, and OpenSSL's contexts made ready, so that checking a signature fetches
 * nothing and sets nothing up. */
#include "bound_key.h"
#include "algorithm.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#define COORDINATE_MAX 66
#define DER_MAX        (3 + 2 * (2 + 1 + COORDINATE_MAX))

static int prepare_public(struct sp_bound_key *bound, EVP_PKEY *key) {
    const struct sp_algorithm *algorithm = sp_algorithm(bound->algorithm);
    EVP_PKEY_CTX *context = bound->verify = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    if (!context || EVP_PKEY_verify_init(context) != 1 || EVP_PKEY_CTX_set_signature_md(context, sp_digest_md(algorithm->digest)) != 1)
        return -ENOMEM;
    if (algorithm->kind == SP_KEY_EC) {
        bound->signature_len = 2 * algorithm->coordinate;
        return 0;
    }
    bound->signature_len = (size_t)EVP_PKEY_get_size(key);
    if (EVP_PKEY_CTX_set_rsa_padding(context, algorithm->pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) != 1)
        return -ENOMEM;
    /* RFC 7518 §3.5: MGF1 with the same digest, and a salt as long as the digest. */
    if (algorithm->pss && (EVP_PKEY_CTX_set_rsa_mgf1_md(context, sp_digest_md(algorithm->digest)) != 1 ||
                           EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) != 1))
        return -ENOMEM;
    return 0;
}

static int prepare_eddsa(struct sp_bound_key *bound, EVP_PKEY *key) {
    bound->signature_len = 64;
    bound->prepared = EVP_MD_CTX_new();
    bound->scratch = EVP_MD_CTX_new();
    if (!bound->prepared || !bound->scratch || EVP_DigestVerifyInit_ex(bound->prepared, NULL, NULL, NULL, NULL, key, NULL) != 1)
        return -ENOMEM;
    return 0;
}

static struct sp_bound_key *allocate(enum sp_jwt_algorithm algorithm, struct sp_span kid) {
    struct sp_bound_key *bound = calloc(1, sizeof *bound + kid.len);
    if (!bound || sp_digests_prepare() < 0) {
        free(bound);
        return NULL;
    }
    bound->algorithm = algorithm;
    bound->kid_len = kid.len;
    if (kid.len)
        memcpy(bound->kid, kid.at, kid.len);
    return bound;
}

static void release(struct sp_bound_key **bound) { sp_bound_key_free(*bound); }

int sp_bound_key_new(enum sp_jwt_algorithm algorithm, EVP_PKEY *key, struct sp_span kid, struct sp_bound_key **ret) {
    _cleanup_(release) struct sp_bound_key *bound = allocate(algorithm, kid);
    if (!bound)
        return -ENOMEM;
    int r = sp_algorithm(algorithm)->kind == SP_KEY_OKP ? prepare_eddsa(bound, key) : prepare_public(bound, key);
    ERR_clear_error();
    if (r == 0)
        *ret = sp_take(bound);
    return r;
}

int sp_bound_secret_new(struct sp_span secret, struct sp_bound_key **ret) {
    if (secret.len < SP_HS256_SECRET_MIN)
        return -EINVAL;
    _cleanup_(release) struct sp_bound_key *bound = allocate(SP_ALG_HS256, SP_SPAN(""));
    if (!bound)
        return -ENOMEM;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA2-256", 0), OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    bound->mac = mac ? EVP_MAC_CTX_new(mac) : NULL;
    EVP_MAC_free(mac);
    bound->signature_len = SP_SHA256_LEN;
    int r = bound->mac && EVP_MAC_init(bound->mac, (const uint8_t *)secret.at, secret.len, params) == 1 ? 0 : -ENOMEM;
    ERR_clear_error();
    if (r == 0)
        *ret = sp_take(bound);
    return r;
}

void sp_bound_key_free(struct sp_bound_key *key) {
    if (!key)
        return;
    EVP_PKEY_CTX_free(key->verify);
    EVP_MD_CTX_free(key->prepared);
    EVP_MD_CTX_free(key->scratch);
    EVP_MAC_CTX_free(key->mac);
    free(key);
}

/* ASN.1 INTEGER, positive, shortest form. Returns bytes written. */
static size_t write_integer(const uint8_t *number, size_t len, uint8_t *out) {
    while (len > 1 && *number == 0) {
        number++;
        len--;
    }
    size_t sign = *number >> 7; /* a leading zero keeps it positive */
    out[0] = 0x02;
    out[1] = (uint8_t)(len + sign);
    out[2] = 0;
    memcpy(out + 2 + sign, number, len);
    return 2 + sign + len;
}

/* JWS puts r and s side by side (RFC 7518 §3.4); OpenSSL wants Ecdsa-Sig-Value (RFC 3279 §2.2.3). */
static size_t write_ecdsa_der(struct sp_span signature, uint8_t out[DER_MAX]) {
    uint8_t body[DER_MAX];
    const uint8_t *r = (const uint8_t *)signature.at;
    size_t half = signature.len / 2;
    size_t len = write_integer(r, half, body);
    len += write_integer(r + half, half, body + len);

    size_t head = 0;
    out[head++] = 0x30;
    if (len > 127)
        out[head++] = 0x81; /* at most 138: one length byte is enough */
    out[head++] = (uint8_t)len;
    memcpy(out + head, body, len);
    return head + len;
}

static bool verify_public(struct sp_bound_key *key, struct sp_span text, struct sp_span signature) {
    const struct sp_algorithm *algorithm = sp_algorithm(key->algorithm);
    uint8_t digest[SP_DIGEST_MAX], der[DER_MAX];
    if (!sp_digest(algorithm->digest, text, digest))
        return false;
    const uint8_t *bytes = (const uint8_t *)signature.at;
    size_t len = signature.len;
    if (algorithm->kind == SP_KEY_EC) {
        len = write_ecdsa_der(signature, der);
        bytes = der;
    }
    return EVP_PKEY_verify(key->verify, bytes, len, digest, sp_digest_len(algorithm->digest)) == 1;
}

static bool verify_eddsa(struct sp_bound_key *key, struct sp_span text, struct sp_span signature) {
    /* A one-shot verification finishes its context in newer OpenSSL: each gets a copy of the prepared one. */
    return EVP_MD_CTX_copy_ex(key->scratch, key->prepared) == 1 &&
           EVP_DigestVerify(key->scratch, (const uint8_t *)signature.at, signature.len, (const uint8_t *)text.at, text.len) == 1;
}

static bool verify_secret(struct sp_bound_key *key, struct sp_span text, struct sp_span signature) {
    uint8_t expected[SP_SHA256_LEN];
    size_t len;
    return EVP_MAC_init(key->mac, NULL, 0, NULL) == 1 && EVP_MAC_update(key->mac, (const uint8_t *)text.at, text.len) == 1 &&
           EVP_MAC_final(key->mac, expected, &len, sizeof expected) == 1 && len == sizeof expected &&
           CRYPTO_memcmp(expected, signature.at, sizeof expected) == 0;
}

bool sp_bound_key_verify(struct sp_bound_key *key, struct sp_span signed_text, struct sp_span signature) {
    if (signature.len != key->signature_len)
        return false;
    bool good = key->mac        ? verify_secret(key, signed_text, signature)
                : key->prepared ? verify_eddsa(key, signed_text, signature)
                                : verify_public(key, signed_text, signature);
    if (!good)
        ERR_clear_error(); /* what is left there would be taken for a TLS error later */
    return good;
}
