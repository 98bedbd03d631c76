/* identity: credentials → principal. API keys, JWTs (RFC 7519, 8725, 9068) against key sets, opaque tokens as their issuer answers about
 * them (RFC 7662), client certificates and tokens bound to them (RFC 8705); roles and scopes.
 * No I/O of its own: key digests come with the configuration snapshot, key sets with it or later, answers when they were asked for.
 * It must not know HTTP, connections or limits. */
#ifndef SALLYPORT_IDENTITY_H
#define SALLYPORT_IDENTITY_H

#include <sallyport/base.h>
#include <sallyport/config.h>

enum sp_credential_kind { SP_CREDENTIAL_NONE, SP_CREDENTIAL_API_KEY, SP_CREDENTIAL_JWT, SP_CREDENTIAL_OPAQUE, SP_CREDENTIAL_CERTIFICATE };
#define SP_THUMBPRINT_LEN 32 /* SHA-256 of a certificate */

/* Who is calling. Immutable, reference-counted, one thread. Spans belong to it. */
struct sp_principal {
    unsigned refs;
    enum sp_credential_kind kind; /* NONE: the route asks for no credential */
    struct sp_span subject;       /* API key: its name; token: the subject claim; certificate: its first alternative name, else its subject */
    /* The subject told apart by kind and issuer, so that nobody is counted as another of the same name: "key:NAME", "jwt:ISSUER SUBJECT"
     * (opaque tokens too: who calls is the same), "cert:SUBJECT"; empty: nobody. */
    struct sp_span account;
    struct sp_span tenant;        /* empty: none */
    struct sp_span key_id;        /* API key: its id; JWT: kid, may be empty; certificate: its thumbprint in base64url; opaque: empty */
    struct sp_span issuer;        /* tokens; else empty */
    uint64_t roles;               /* mask over sp_config.roles of the snapshot asked with */
    struct sp_span scopes;        /* parted by single spaces */
    bool bound;                   /* a token that is good only beside the certificate with this thumbprint (RFC 8705 §3) */
    uint8_t thumbprint[SP_THUMBPRINT_LEN];
    uint64_t expires_at_s;        /* Unix time from which the credential is no longer accepted, leeway included; 0: never */
};
struct sp_principal *sp_principal_ref(struct sp_principal *principal);
void sp_principal_unref(struct sp_principal *principal); /* takes NULL */
bool sp_principal_has_scope(const struct sp_principal *principal, struct sp_span scope);

/* What can be verified with one configuration: keys bound to one algorithm each, API-key digests by id. Ref-counted, one thread; nothing in
 * it changes but the key sets that are fetched. */
struct sp_identity;
/* Keeps a reference to `config`. -EINVAL with *ret_error (malloc'ed, begins with the file:line:column of what is wrong); -ENOMEM. */
int sp_identity_new(struct sp_config *config, char **ret_error, struct sp_identity **ret) SP_MUST_USE;
struct sp_identity *sp_identity_ref(struct sp_identity *identity);
void sp_identity_unref(struct sp_identity *identity); /* takes NULL; principals handed out live on */

/* ---- Key sets that are fetched while the identity is in use (issuers whose `fetches_keys` is set) ---- */
/* Replaces the key set of the issuer with this fingerprint at once, for every identity that shares it; tokens verified with the one before
 * are verified again. An empty span: it has none any more. The same bytes again change nothing.
 * 0; -ENOENT: no such issuer, or its keys are not fetched; -EINVAL with *ret_error (malloc'ed, one sentence), the set before stays; -ENOMEM. */
int sp_identity_set_keys(struct sp_identity *identity, uint64_t issuer_fingerprint, struct sp_span jwks, char **ret_error) SP_MUST_USE;
/* Begins with what an earlier identity knows: the same issuers, their keys fetched from the same place, share one key set from now on. */
void sp_identity_inherit(struct sp_identity *identity, struct sp_identity *from);

/* Verified tokens by SHA-256 until they expire; least recently used go first. Lives across reloads: an entry counts only while its issuer's
 * configuration (of a JWT also the key set) is the same, and its roles are mapped anew for each generation. And, in a small table
 * of fixed size, what was asked about in vain: kids that no fetch brought, opaque tokens that are not active. */
struct sp_token_cache; /* an entry is at most a few KiB: what one token of 8 KiB can name, mostly a few hundred bytes */
int sp_token_cache_new(size_t max_tokens, struct sp_token_cache **ret) SP_MUST_USE;
void sp_token_cache_free(struct sp_token_cache *cache);
void sp_token_cache_empty(struct sp_token_cache *cache); /* what connections remember (below) is void from then on too */
size_t sp_token_cache_count(const struct sp_token_cache *cache);

/* The certificate that the connection's other end has proved to hold; verified when the connection was made. */
struct sp_certificate_credential {
    struct sp_span name;    /* first alternative name; empty: none */
    struct sp_span subject; /* distinguished name; empty: none */
    const uint8_t *thumbprint; /* SP_THUMBPRINT_LEN */
    uint64_t not_after_s;   /* Unix time */
};
#define SP_CERTIFICATE_NAME_MAX 1024

/* The bytes of the credential fields of one request; at most one of each kind of field (more: the caller answers 400). Empty: absent. */
struct sp_credentials {
    struct sp_span authorization; /* the whole value of Authorization */
    struct sp_span x_api_key;
    struct sp_span api_key;
    const struct sp_certificate_credential *certificate; /* the connection's; NULL: none */
};

/* What only the issuer can say about a credential, and what it has said. Belongs to one request; zero to begin. */
enum sp_question_kind { SP_QUESTION_KEYS /* are there newer keys? */, SP_QUESTION_TOKEN /* is this opaque token active? */ };
struct sp_auth_question {
    uint64_t answered, silent; /* in: issuers (bits by index in sp_config.issuers) that were asked: with an answer, without one */
    const char *reason;        /* in: why the last answer was not good enough; a constant, NULL: no answer yet */
    enum sp_question_kind kind; /* out, with SP_AUTH_WAIT: what to ask whom, now */
    unsigned issuer;
    struct sp_span token;      /* TOKEN: the token; as long-lived as the credentials */
    uint8_t key[32];           /* equal for equal questions, and for them alone */
};

enum sp_auth_verdict {
    SP_AUTH_OK,
    SP_AUTH_NONE,      /* no credential: 401 */
    SP_AUTH_AMBIGUOUS, /* two different credentials: 400 */
    SP_AUTH_INVALID,   /* not valid, whatever the cause: 401 invalid_token */
    SP_AUTH_EXPIRED,   /* was valid once: 401 invalid_token */
    SP_AUTH_NOT_HERE,  /* a good credential of a kind this route does not take: 401 */
    SP_AUTH_WAIT,      /* ask the question, note who answered, and call again */
    SP_AUTH_UNAVAILABLE, /* an issuer that may know the token did not answer: 503 */
};

/* Decides. `accepted` are bits of enum sp_authenticate. With only SP_AUTHENTICATE_NONE the verdict is OK with a shared nameless principal,
 * whatever was sent; with SP_AUTHENTICATE_NONE among others it is so when no credential was sent.
 * now_s is Unix time. OK: *ret is the caller's reference. *ret_reason is a constant for the log ("signature", "expired", "unknown key", …),
 * never sent to a client. cache, last and question may be NULL; without a question nothing can be asked. One credential in two fields is one
 * credential. A token or key that was sent decides; the certificate counts where none was sent, or nothing else is taken.
 * An unknown key of an issuer whose keys are fetched is a question, unless this kid was asked about in vain lately; so is an opaque token
 * to each issuer that has introspection, in order. WAIT comes at most once per issuer and request.
 * The hot path (a remembered token) is one SHA-256, or none when the caller's bytes equal those remembered in `last`. */
struct sp_auth_memory { /* per connection: the last credential, so that a repeated one costs one comparison. Zero to begin. */
    struct sp_principal *principal;
    uint64_t generation, epoch; /* of the identity and of the token cache that were asked */
    uint64_t key_changes;
    uint32_t length;
    char *bytes;        /* the credential without its scheme, wiped and freed by sp_auth_memory_clear() */
    uint32_t capacity;
    uint32_t accepted;
    const void *identity;
};
void sp_auth_memory_clear(struct sp_auth_memory *memory);
enum sp_auth_verdict sp_identity_authenticate(struct sp_identity *identity, struct sp_token_cache *cache, struct sp_auth_memory *last,
                                              const struct sp_credentials *credentials, uint32_t accepted, uint64_t now_s,
                                              struct sp_auth_question *question, struct sp_principal **ret,
                                              const char **ret_reason) SP_MUST_USE;
/* What an issuer answered (RFC 7662 §2.2) to the question of that key about an opaque token: remembered in the cache for the issuer's `cache`,
 * never beyond the token's exp; as not good for at most 10 s. Returns "ok", or why it is not good, a constant for the log. */
#define SP_INTROSPECTION_MAX (63 * 1024) /* bytes of an answer */
const char *sp_identity_introspected(struct sp_identity *identity, struct sp_token_cache *cache, unsigned issuer, struct sp_span token,
                                     const uint8_t question_key[32], struct sp_span answer, uint64_t now_s);

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
/* Where an authorization server's metadata (OpenID Connect Discovery §4, RFC 8414 §3) says its key set is. -EINVAL with *ret_error (malloc'ed,
 * one sentence): not such a document, of another issuer, or a place that may not be asked. -ENOMEM. */
#define SP_METADATA_MAX (64 * 1024) /* bytes */
int sp_metadata_jwks_uri(struct sp_span metadata, struct sp_span issuer, char **ret_error, char **ret_jwks_uri) SP_MUST_USE;
enum sp_metadata_form { SP_METADATA_OPENID, SP_METADATA_OAUTH, SP_METADATA_FORMS };
/* Where that metadata is, by the issuer's name: malloc'ed; NULL: out of memory. */
char *sp_metadata_url(struct sp_span issuer, enum sp_metadata_form form) SP_MUST_USE;
/* One introspection answer, without memory of others: OK with a principal that expires no later than the answer may be remembered. */
enum sp_auth_verdict sp_introspection_read(const struct sp_identity *identity, unsigned issuer, struct sp_span answer, uint64_t now_s,
                                           struct sp_principal **ret, const char **ret_reason) SP_MUST_USE;
/* One token against the issuer it names; no memory of earlier ones. A token is at most 8 KiB, its header 1 KiB.
 * Age: `iat` + max_token_age; a token without `iat` is refused where what is left until `exp` is more than max_token_age. */
enum sp_auth_verdict sp_jwt_verify(struct sp_identity *identity, struct sp_span token, uint64_t now_s, struct sp_principal **ret,
                                   const char **ret_reason) SP_MUST_USE;

#endif
