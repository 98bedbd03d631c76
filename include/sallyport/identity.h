/* identity: credentials → principal. API keys, JWTs (RFC 7519, 8725, 9068) against read-only key sets; roles and scopes.
 * No I/O of its own: key sets and key digests come with the configuration snapshot.
 * It must not know HTTP, connections or limits. */
#ifndef SALLYPORT_IDENTITY_H
#define SALLYPORT_IDENTITY_H

#include <sallyport/base.h>
#include <sallyport/config.h>

enum sp_credential_kind { SP_CREDENTIAL_NONE, SP_CREDENTIAL_API_KEY, SP_CREDENTIAL_JWT, SP_CREDENTIAL_OPAQUE };

/* Who is calling. Immutable, reference-counted, one thread. Spans belong to it. */
struct sp_principal {
    unsigned refs;
    enum sp_credential_kind kind; /* NONE: the route asks for no credential */
    struct sp_span subject;       /* API key: its name; JWT: the subject claim */
    struct sp_span tenant;        /* empty: none */
    struct sp_span key_id;        /* API key: its id; JWT: kid, may be empty */
    struct sp_span issuer;        /* JWT; else empty */
    uint64_t roles;               /* mask over sp_config.roles of the snapshot asked with */
    struct sp_span scopes;        /* parted by single spaces */
    uint64_t expires_at_s;        /* Unix time from which the credential is no longer accepted, leeway included; 0: never */
};
struct sp_principal *sp_principal_ref(struct sp_principal *principal);
void sp_principal_unref(struct sp_principal *principal); /* takes NULL */
bool sp_principal_has_scope(const struct sp_principal *principal, struct sp_span scope);

/* What can be verified with one configuration: keys bound to one algorithm each, API-key digests by id. Immutable, ref-counted. */
struct sp_identity;
/* Keeps a reference to `config`. -EINVAL with *ret_error (malloc'ed, begins with the file:line:column of what is wrong); -ENOMEM. */
int sp_identity_new(struct sp_config *config, char **ret_error, struct sp_identity **ret) SP_MUST_USE;
struct sp_identity *sp_identity_ref(struct sp_identity *identity);
void sp_identity_unref(struct sp_identity *identity); /* takes NULL; principals handed out live on */

/* Verified tokens by SHA-256 until they expire; least recently used go first. Lives across reloads: an entry counts only while the
 * fingerprint of its issuer's configuration and key set is the same, and its roles are mapped anew for each generation. */
struct sp_token_cache; /* an entry is at most a few KiB: what one token of 8 KiB can name, mostly a few hundred bytes */
int sp_token_cache_new(size_t max_tokens, struct sp_token_cache **ret) SP_MUST_USE;
void sp_token_cache_free(struct sp_token_cache *cache);
void sp_token_cache_empty(struct sp_token_cache *cache); /* what connections remember (below) is void from then on too */
size_t sp_token_cache_count(const struct sp_token_cache *cache);

/* The bytes of the credential fields of one request; at most one of each kind of field (more: the caller answers 400). Empty: absent. */
struct sp_credentials {
    struct sp_span authorization; /* the whole value of Authorization */
    struct sp_span x_api_key;
    struct sp_span api_key;
};

enum sp_auth_verdict {
    SP_AUTH_OK,
    SP_AUTH_NONE,      /* no credential: 401 */
    SP_AUTH_AMBIGUOUS, /* two different credentials: 400 */
    SP_AUTH_INVALID,   /* not valid, whatever the cause: 401 invalid_token */
    SP_AUTH_EXPIRED,   /* was valid once: 401 invalid_token */
    SP_AUTH_NOT_HERE,  /* a good credential of a kind this route does not take: 401 */
};

/* Decides. `accepted` are bits of enum sp_authenticate. With only SP_AUTHENTICATE_NONE the verdict is OK with a shared nameless principal,
 * whatever was sent; with SP_AUTHENTICATE_NONE among others it is so when no credential was sent.
 * now_s is Unix time. OK: *ret is the caller's reference. *ret_reason is a constant for the log ("signature", "expired", "unknown key", …),
 * never sent to a client. cache and last may be NULL. One credential in two fields is one credential.
 * The hot path (a remembered token) is one SHA-256, or none when the caller's bytes equal those remembered in `last`. */
struct sp_auth_memory { /* per connection: the last credential, so that a repeated one costs one comparison. Zero to begin. */
    struct sp_principal *principal;
    uint64_t generation, epoch; /* of the identity and of the token cache that were asked */
    uint32_t length;
    char *bytes;        /* the credential without its scheme, wiped and freed by sp_auth_memory_clear() */
    uint32_t capacity;
    uint32_t accepted;
    const void *identity;
};
void sp_auth_memory_clear(struct sp_auth_memory *memory);
enum sp_auth_verdict sp_identity_authenticate(struct sp_identity *identity, struct sp_token_cache *cache, struct sp_auth_memory *last,
                                              const struct sp_credentials *credentials, uint32_t accepted, uint64_t now_s,
                                              struct sp_principal **ret, const char **ret_reason) SP_MUST_USE;

/* ---- API keys: sp_ id(8) _ secret(43) checksum(6) ----
 * id: 8 base62 digits. secret: 256 random bits in base64url. checksum: the CRC-32 (as in zlib) of the 55 characters before it, as
 * 6 base62 digits, the most significant first. base62 is 0-9 A-Z a-z. A scanner can tell a key from its look; a typo is told before any lookup. */
#define SP_API_KEY_LEN (3 + 8 + 1 + 43 + 6)
struct sp_api_key_text {
    char text[SP_API_KEY_LEN + 1];
    char id[8 + 1];
    uint8_t digest[32];
};
int sp_api_key_generate(struct sp_api_key_text *ret) SP_MUST_USE;
/* Form and checksum only. On success the id and the SHA-256 of the secret. */
bool sp_api_key_parse(struct sp_span text, char ret_id[8 + 1], uint8_t ret_digest[32]) SP_MUST_USE;

/* ---- Pure pieces, for tests and fuzzers ---- */
struct sp_key_set;
/* A JSON Web Key Set (RFC 7517). `algorithms`: bits of enum sp_jwt_algorithm that keys may be bound to. Keys for other uses, types, curves
 * or algorithms are passed over; a malformed or weak one, a private key or a secret refuses the set: -EINVAL with *ret_error
 * (malloc'ed, one sentence); -ENOMEM. */
int sp_key_set_parse(struct sp_span jwks, uint32_t algorithms, char **ret_error, struct sp_key_set **ret) SP_MUST_USE;
void sp_key_set_free(struct sp_key_set *set);
size_t sp_key_set_count(const struct sp_key_set *set); /* of bound keys: one without `alg` counts once for each algorithm it is bound to */
/* One token against the issuer it names; no memory of earlier ones. A token is at most 8 KiB, its header 1 KiB.
 * Age: `iat` + max_token_age; a token without `iat` is refused where what is left until `exp` is more than max_token_age. */
enum sp_auth_verdict sp_jwt_verify(struct sp_identity *identity, struct sp_span token, uint64_t now_s, struct sp_principal **ret,
                                   const char **ret_reason) SP_MUST_USE;

#endif
