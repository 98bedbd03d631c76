/* The inside of an identity: issuers with their keys, and API keys by id. */
#ifndef SALLYPORT_IDENTITY_ISSUER_H
#define SALLYPORT_IDENTITY_ISSUER_H

#include "key_set.h"

/* The key set of an issuer; where it is fetched, successive identities share it. */
struct sp_issuer_keys {
    unsigned refs;
    struct sp_key_set *set; /* NULL: none known */
    uint64_t stamp;         /* of the set's bytes; 0: none */
};

struct sp_issuer {
    const struct sp_issuer_config *config; /* the identity's reference to the configuration keeps it */
    struct sp_span name;
    struct sp_issuer_keys *keys;
    struct sp_bound_key *secret; /* HS256; NULL: not used */
};

struct sp_known_key { /* an API key */
    struct sp_map_node node;
    const struct sp_api_key_config *config;
    struct sp_principal *principal;
};

struct sp_identity {
    unsigned refs;
    uint64_t serial; /* no two identities of one process have the same */
    struct sp_config *config;
    struct sp_issuer *issuers;
    size_t n_issuers;
    struct sp_hash_key hash_key;
    struct sp_map keys_by_id;
    struct sp_known_key *known_keys;
    size_t n_known_keys;
    uint8_t no_digest[32]; /* what an unknown id is compared with */
    struct sp_principal *nobody;
    struct sp_jwt_room *room;
};

const struct sp_issuer *sp_identity_issuer(const struct sp_identity *identity, struct sp_span name); /* NULL: unknown */
/* Grows with every change of any key set: what was verified before must be looked at again. */
uint64_t sp_key_changes(void);
/* A new stamp and set; takes `set`, which may be NULL with stamp 0. */
void sp_issuer_keys_put(struct sp_issuer_keys *keys, struct sp_key_set *set, uint64_t stamp);
struct sp_issuer_keys *sp_issuer_keys_new(void) SP_MUST_USE;
void sp_issuer_keys_unref(struct sp_issuer_keys *keys);           /* takes NULL */
int sp_key_stamp(struct sp_span jwks, uint64_t *ret) SP_MUST_USE; /* -ENOMEM */
/* Whether a token verified under this issuer configuration and key set (0: whatever its keys) would be verified still. */
bool sp_identity_vouches(const struct sp_identity *identity, uint64_t fingerprint, uint64_t key_stamp);
const struct sp_known_key *sp_identity_key(const struct sp_identity *identity, const char id[8]); /* NULL: unknown */

#endif
