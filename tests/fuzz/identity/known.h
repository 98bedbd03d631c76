/* One identity for the fuzzers, made once: an issuer whose private keys no longer exist, so that the tokens in known_tokens.h are all it
 * will ever accept; and an issuer with a shared secret, so that claims of any kind can be signed. */
#ifndef TESTS_FUZZ_IDENTITY_KNOWN_H
#define TESTS_FUZZ_IDENTITY_KNOWN_H

#include <sallyport/identity.h>

#include "known_tokens.h"

#define KNOWN_NOW           UINT64_C(1800000000)
#define KNOWN_SECRET_ISSUER "https://secret.test"
#define KNOWN_CLAIMS                                                                                                                       \
    { "sub", "org_id", "realm.roles", "scope" }
#define KNOWN_CACHE_S 30
#define KNOWN_SECRET "0123456789abcdef0123456789abcdef"

static struct sp_identity *known_identity(void) {
    static struct sp_identity *identity;
    static const char *audience[] = {"inference"}, *types[] = {"at+jwt", "JWT"};
    static struct sp_issuer_config issuers[] = {
        {.issuer = {KNOWN_ISSUER, "fuzz:1:1"},
         .audience = {audience, 1},
         .jwks_json = KNOWN_JWKS,
         .algorithms = (1u << SP_ALG_HS256) - 1,
         .claims = KNOWN_CLAIMS,
         .leeway_s = 60,
         .types = {types, 2},
         .fingerprint = 1},
        {.issuer = {KNOWN_SECRET_ISSUER, "fuzz:2:1"},
         .audience = {audience, 1},
         .algorithms = 1u << SP_ALG_HS256,
         .secret = KNOWN_SECRET,
         .claims = KNOWN_CLAIMS,
         .leeway_s = 60,
         .max_token_age_s = 86400,
         .introspection = {.url = "https://secret.test/introspect", .cache_s = KNOWN_CACHE_S},
         .types = {types, 2},
         .fingerprint = 2},
    };
    static struct sp_role_config roles[] = {{.name = "chat"}, {.name = "batch"}};
    static struct sp_config config = {.refs = 2, .issuers = issuers, .n_issuers = 2, .roles = roles, .n_roles = 2};
    char *error = NULL;
    if (!identity && sp_identity_new(&config, &error, &identity) < 0)
        abort();
    return identity;
}

#endif
