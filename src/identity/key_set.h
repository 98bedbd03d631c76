/* JSON Web Key Sets: reading keys, binding each to its algorithms, and finding the one a token asks for. */
#ifndef SALLYPORT_IDENTITY_KEY_SET_H
#define SALLYPORT_IDENTITY_KEY_SET_H

#include "bound_key.h"

#include <jansson.h>
#include <sallyport/identity.h>

#define SP_JWKS_MAX      (256 * 1024) /* bytes of a key set */
#define SP_JWKS_KEYS_MAX 64           /* keys in one */
#define SP_RSA_BITS_MIN  2048
#define SP_RSA_BITS_MAX  8192
#define SP_SIGNATURE_MAX (SP_RSA_BITS_MAX / 8)
#define SP_KID_MAX       255

/* ---- One JSON Web Key (RFC 7517, RFC 7518 §6, RFC 8037) ---- */
struct sp_jwk {
    EVP_PKEY *key;       /* NULL: well-formed, but of no use here (another use, another algorithm) */
    uint32_t algorithms; /* what it may be bound to: those of its type and curve, or the one its `alg` names */
    struct sp_span kid;  /* borrowed from the JSON; empty: none */
};
/* 0; -EINVAL with *ret_wrong, a constant that says what is wrong with the key; -ENOMEM. The key in *ret is the caller's. */
int sp_jwk_read(const json_t *jwk, const char **ret_wrong, struct sp_jwk *ret) SP_MUST_USE;

/* ---- A set of them ---- */
extern const char sp_key_unknown[]; /* what is wrong when another set might have the key */
/* The key that fits: of this algorithm, and with this kid unless the token names none. NULL with *ret_wrong. */
struct sp_bound_key *sp_key_set_pick(const struct sp_key_set *set, enum sp_jwt_algorithm algorithm, struct sp_span kid,
                                     const char **ret_wrong);

#endif
