/* The inside of an identity: issuers with their keys, and API keys by id. */
#ifndef SALLYPORT_IDENTITY_ISSUER_H
#define SALLYPORT_IDENTITY_ISSUER_H

#include "key_set.h"

struct sp_issuer {
    const struct sp_issuer_config *config; /* the identity's reference to the configuration keeps it */
    struct sp_span name;
    struct sp_key_set *keys;     /* NULL: none known */
    struct sp_bound_key *secret; /* HS256; NULL: not used */
    uint64_t fingerprint;        /* of the configuration and the key set together */
};

struct sp_known_key { /* an API key */
    struct sp_map_node node;
    const struct sp_api_key_config *config;
    struct sp_principal *principal;
};

struct sp_identity {
    unsigned refs;
    uint64_t serial; /* no two identities of one process have the same, nor one before and after a change of keys */
    struct sp_config *config;
    struct sp_issuer *issuers;
    size_t n_issuers;
    struct sp_hash_key hash_key;
    struct sp_map keys_by_id;
    struct sp_known_key *known_keys;
    size_t n_known_keys;
    uint8_t no_digest[32]; /* what an unknown id is compared with */
    struct sp_principal *nobody;
};

const struct sp_issuer *sp_identity_issuer(const struct sp_identity *identity, struct sp_span name);       /* NULL: unknown */
const struct sp_issuer *sp_identity_fingerprint(const struct sp_identity *identity, uint64_t fingerprint); /* NULL: none has it */
const struct sp_known_key *sp_identity_key(const struct sp_identity *identity, const char id[8]);          /* NULL: unknown */

#endif
