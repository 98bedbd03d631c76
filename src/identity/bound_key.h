/* A key for checking signatures, bound to one algorithm when it is made: no later step can use it with another. */
#ifndef SALLYPORT_IDENTITY_BOUND_KEY_H
#define SALLYPORT_IDENTITY_BOUND_KEY_H

#include <openssl/evp.h>
#include <sallyport/base.h>
#include <sallyport/config.h>

#define SP_HS256_SECRET_MIN 32 /* RFC 7518 §3.2: no shorter than the digest */

struct sp_bound_key {
    enum sp_jwt_algorithm algorithm;
    size_t signature_len;           /* the only one it takes, in bytes */
    EVP_PKEY_CTX *verify;           /* RSA and EC */
    EVP_MD_CTX *prepared, *scratch; /* EdDSA */
    EVP_MAC_CTX *mac;               /* HS256 */
    size_t kid_len;                 /* 0: it has none */
    char kid[];
};
static inline struct sp_span sp_bound_key_kid(const struct sp_bound_key *key) { return sp_span(key->kid, key->kid_len); }

/* Takes a reference of `key`. */
int sp_bound_key_new(enum sp_jwt_algorithm algorithm, EVP_PKEY *key, struct sp_span kid, struct sp_bound_key **ret) SP_MUST_USE;
/* HS256. -EINVAL: shorter than SP_HS256_SECRET_MIN. */
int sp_bound_secret_new(struct sp_span secret, struct sp_bound_key **ret) SP_MUST_USE;
void sp_bound_key_free(struct sp_bound_key *key); /* takes NULL */
/* The signature as JWS carries it (ECDSA: r and s side by side). Leaves nothing in OpenSSL's error queue. */
bool sp_bound_key_verify(struct sp_bound_key *key, struct sp_span signed_text, struct sp_span signature) SP_MUST_USE;

#endif
