/* Building an identity from a configuration, and looking things up in it. */
#include "algorithm.h"
#include "issuer.h"
#include "principal.h"
#include "token.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/err.h>
#include <openssl/pem.h>

static uint64_t last_serial; /* one thread builds identities in each process */

/* ---- Issuers ---- */

static const char *where(const struct sp_text *text, const struct sp_text *otherwise) {
    return text->where ? text->where : otherwise->where ? otherwise->where : "?";
}

static int read_key_set(struct sp_issuer *issuer, char **ret_error) {
    const struct sp_issuer_config *config = issuer->config;
    if (!config->jwks_json)
        return 0;
    const char *at = where(&config->jwks, &config->issuer), *name = config->jwks.text ? config->jwks.text : "jwks";
    _cleanup_(sp_free_pointer) char *wrong = NULL;
    struct sp_key_set *set = NULL;
    uint64_t stamp = 0;
    int r = sp_key_set_parse(sp_span_text(config->jwks_json), config->algorithms, &wrong, &set);
    if (r == -EINVAL)
        return sp_explain(ret_error, "%s: %s: %s", at, name, wrong);
    if (r == 0)
        r = sp_key_stamp(sp_span_text(config->jwks_json), &stamp);
    if (r < 0) {
        sp_key_set_free(set);
        return r;
    }
    sp_issuer_keys_put(issuer->keys, set, stamp);
    if (sp_key_set_count(set) == 0 && !config->secret)
        return sp_explain(ret_error, "%s: %s: no key in it fits the issuer's algorithms", at, name);
    return 0;
}

static int read_secret(struct sp_issuer *issuer, char **ret_error) {
    const struct sp_issuer_config *config = issuer->config;
    if (!config->secret)
        return 0;
    int r = sp_bound_secret_new(sp_span_text(config->secret), &issuer->secret);
    if (r == -EINVAL)
        return sp_explain(ret_error, "%s: %s: a secret for HS256 must have at least %d bytes", where(&config->issuer, &config->jwks),
                       config->secret_file ? config->secret_file : "secret_file", SP_HS256_SECRET_MIN);
    return r;
}

/* Who signs the issuer's own certificate: control uses it, but only here can it be refused before it is in force. */
static int check_authorities(const struct sp_issuer_config *config, char **ret_error) {
    size_t count = 0;
    if (!config->ca_pem)
        return 0;
    BIO *bytes = BIO_new_mem_buf(config->ca_pem, -1);
    if (!bytes)
        return -ENOMEM;
    for (X509 *authority; (authority = PEM_read_bio_X509(bytes, NULL, NULL, NULL)); count++)
        X509_free(authority);
    BIO_free(bytes);
    bool whole = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE; /* which is how its end is told */
    ERR_clear_error();
    return whole && count ? 0
                          : sp_explain(ret_error, "%s: %s is not a file of certificates in PEM form", where(&config->issuer, &config->jwks),
                                    config->ca ? config->ca : "ca");
}

static int add_issuer(struct sp_identity *identity, const struct sp_issuer_config *config, char **ret_error) {
    struct sp_span name = sp_span_text(config->issuer.text);
    if (sp_identity_issuer(identity, name))
        return sp_explain(ret_error, "%s: issuer " SP_SPAN_FMT " is there twice", where(&config->issuer, &config->jwks), SP_SPAN_ARG(name));
    struct sp_issuer *issuer = &identity->issuers[identity->n_issuers++];
    issuer->config = config;
    issuer->name = name;
    issuer->keys = sp_issuer_keys_new();
    if (!issuer->keys)
        return -ENOMEM;
    int r = check_authorities(config, ret_error);
    if (r == 0)
        r = read_key_set(issuer, ret_error);
    return r < 0 ? r : read_secret(issuer, ret_error);
}

static int add_issuers(struct sp_identity *identity, char **ret_error) {
    const struct sp_config *config = identity->config;
    identity->issuers = calloc(sp_max(config->n_issuers, (size_t)1), sizeof *identity->issuers);
    if (!identity->issuers)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_issuers; i++) {
        int r = add_issuer(identity, &config->issuers[i], ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- API keys ---- */

static int key_roles(const struct sp_identity *identity, const struct sp_api_key_config *key, uint64_t *ret, char **ret_error) {
    uint64_t roles = 0;
    for (size_t i = 0; i < key->roles.count; i++) {
        uint64_t role = sp_roles_mask(identity->config, sp_span_text(key->roles.item[i]));
        if (!role)
            return sp_explain(ret_error, "%s: API key %s: there is no role %s", where(&identity->config->api_keys_file, &(struct sp_text){0}),
                           key->id, key->roles.item[i]);
        roles |= role;
    }
    *ret = roles;
    return 0;
}

static int add_key(struct sp_identity *identity, const struct sp_api_key_config *config, char **ret_error) {
    struct sp_span id = sp_span_text(config->id);
    if (id.len != 8 || sp_identity_key(identity, config->id))
        return sp_explain(ret_error, "%s: API key id %s %s", where(&identity->config->api_keys_file, &(struct sp_text){0}), config->id,
                       id.len == 8 ? "is there twice" : "must have 8 characters");
    struct sp_principal like = {.kind = SP_CREDENTIAL_API_KEY,
                                .subject = sp_span_text(config->name),
                                .tenant = sp_span_text(config->tenant),
                                .key_id = id,
                                .expires_at_s = config->expires_at_s};
    int r = key_roles(identity, config, &like.roles, ret_error);
    if (r < 0)
        return r;
    struct sp_known_key *key = &identity->known_keys[identity->n_known_keys];
    r = sp_principal_new(&like, sp_span(NULL, 0), &key->principal);
    if (r < 0)
        return r;
    key->config = config;
    identity->n_known_keys++;
    return sp_map_add(&identity->keys_by_id, &key->node, sp_hash(&identity->hash_key, config->id, id.len));
}

static int add_keys(struct sp_identity *identity, char **ret_error) {
    const struct sp_config *config = identity->config;
    identity->known_keys = calloc(sp_max(config->n_api_keys, (size_t)1), sizeof *identity->known_keys);
    if (!identity->known_keys)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_api_keys; i++) {
        int r = add_key(identity, &config->api_keys[i], ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- The whole ---- */

static void identity_free(struct sp_identity *identity) {
    for (size_t i = 0; i < identity->n_issuers; i++) {
        sp_issuer_keys_unref(identity->issuers[i].keys);
        sp_bound_key_free(identity->issuers[i].secret);
    }
    for (size_t i = 0; i < identity->n_known_keys; i++)
        sp_principal_unref(identity->known_keys[i].principal);
    sp_map_free(&identity->keys_by_id);
    sp_principal_unref(identity->nobody);
    sp_jwt_room_free(identity->room);
    free(identity->issuers);
    free(identity->known_keys);
    sp_config_unref(identity->config);
    free(identity);
}

struct sp_identity *sp_identity_ref(struct sp_identity *identity) {
    identity->refs++;
    return identity;
}

void sp_identity_unref(struct sp_identity *identity) {
    if (identity && --identity->refs == 0)
        identity_free(identity);
}

static void release(struct sp_identity **identity) { sp_identity_unref(*identity); }

/* jansson's tables are seeded once per process; by default from a file, which a confined process cannot open. */
static void seed_json(void) {
    size_t seed;
    sp_random(&seed, sizeof seed);
    json_object_seed(seed ? seed : 1); /* 0 asks for the default; later calls change nothing */
}

int sp_identity_new(struct sp_config *config, char **ret_error, struct sp_identity **ret) {
    seed_json();
    int r = sp_digests_prepare();
    if (r < 0)
        return r;
    _cleanup_(release) struct sp_identity *identity = calloc(1, sizeof *identity);
    if (!identity)
        return -ENOMEM;
    identity->refs = 1;
    identity->serial = ++last_serial;
    identity->config = sp_config_ref(config);
    sp_map_init(&identity->keys_by_id);
    sp_random(&identity->hash_key, sizeof identity->hash_key);
    sp_random(identity->no_digest, sizeof identity->no_digest);
    identity->room = sp_jwt_room_new();
    if (!identity->room)
        return -ENOMEM;
    r = sp_principal_new(&(struct sp_principal){.kind = SP_CREDENTIAL_NONE}, sp_span(NULL, 0), &identity->nobody);
    if (r == 0)
        r = add_issuers(identity, ret_error);
    if (r == 0)
        r = add_keys(identity, ret_error);
    if (r == 0)
        *ret = sp_take(identity);
    return r;
}

const struct sp_issuer *sp_identity_issuer(const struct sp_identity *identity, struct sp_span name) {
    for (size_t i = 0; i < identity->n_issuers; i++)
        if (sp_span_eq(identity->issuers[i].name, name))
            return &identity->issuers[i];
    return NULL;
}

const struct sp_known_key *sp_identity_key(const struct sp_identity *identity, const char id[8]) {
    uint64_t hash = sp_hash(&identity->hash_key, id, 8);
    for (struct sp_map_node *node = sp_map_first(&identity->keys_by_id, hash); node; node = sp_map_next(node)) {
        const struct sp_known_key *key = SP_CONTAINER(node, struct sp_known_key, node);
        if (memcmp(key->config->id, id, 8) == 0)
            return key;
    }
    return NULL;
}
