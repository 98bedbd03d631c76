/* The signature algorithms a token may name (RFC 7518 §3.1, RFC 8037 §3.1), and the digests they need, fetched once.
 * An algorithm is a property of a key here, never of a token: the token only has to name the one its key is bound to. */
#ifndef SALLYPORT_IDENTITY_ALGORITHM_H
#define SALLYPORT_IDENTITY_ALGORITHM_H

#include <openssl/evp.h>
#include <sallyport/base.h>
#include <sallyport/config.h>

enum sp_key_kind { SP_KEY_RSA, SP_KEY_EC, SP_KEY_OKP, SP_KEY_SECRET };
enum sp_digest_kind { SP_SHA256, SP_SHA384, SP_SHA512, SP_DIGEST_COUNT, SP_DIGEST_NONE = SP_DIGEST_COUNT };
#define SP_DIGEST_MAX 64
#define SP_SHA256_LEN 32

struct sp_algorithm {
    const char *name;
    enum sp_key_kind kind;
    enum sp_digest_kind digest; /* NONE: the signature scheme hashes for itself */
    bool pss;
    const char *curve; /* `crv` of the keys that fit; NULL for RSA and secrets */
    const char *group; /* what OpenSSL calls it */
    size_t coordinate; /* bytes of one coordinate, and of r and s */
};

const struct sp_algorithm *sp_algorithm(enum sp_jwt_algorithm algorithm);
/* Exactly as written in the RFCs; names are case-sensitive (RFC 7515 §4.1.1). */
bool sp_algorithm_find(struct sp_span name, enum sp_jwt_algorithm *ret);

/* Digests are fetched at the first call in a thread and kept: a fetch takes locks and looks through providers. */
int sp_digests_prepare(void) SP_MUST_USE;             /* -ENOMEM: OpenSSL has none to give */
const EVP_MD *sp_digest_md(enum sp_digest_kind kind); /* NULL before sp_digests_prepare() succeeded */
size_t sp_digest_len(enum sp_digest_kind kind);
/* Writes sp_digest_len(kind) bytes. */
bool sp_digest(enum sp_digest_kind kind, struct sp_span text, uint8_t out[SP_DIGEST_MAX]) SP_MUST_USE;

#endif
