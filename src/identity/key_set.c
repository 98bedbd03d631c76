#include "key_set.h"

#include "algorithm.h"
#include "json.h"

#include <errno.h>

struct sp_key_set {
    struct sp_bound_key **keys;
    size_t count, capacity;
};

void sp_key_set_free(struct sp_key_set *set) {
    if (!set)
        return;
    for (size_t i = 0; i < set->count; i++)
        sp_bound_key_free(set->keys[i]);
    free(set->keys);
    free(set);
}

size_t sp_key_set_count(const struct sp_key_set *set) { return set->count; }

static void release_set(struct sp_key_set **set) { sp_key_set_free(*set); }

static bool has(const struct sp_key_set *set, enum sp_jwt_algorithm algorithm, struct sp_span kid) {
    for (size_t i = 0; i < set->count; i++)
        if (set->keys[i]->algorithm == algorithm && sp_span_eq(sp_bound_key_kid(set->keys[i]), kid))
            return true;
    return false;
}

static int add(struct sp_key_set *set, struct sp_bound_key *key) {
    if (set->count == set->capacity) {
        size_t capacity = set->capacity ? 2 * set->capacity : 8;
        struct sp_bound_key **grown = reallocarray(set->keys, capacity, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        set->keys = grown;
        set->capacity = capacity;
    }
    set->keys[set->count++] = key;
    return 0;
}

/* A key without `alg` is bound once to each algorithm it could be used with. */
static int bind_each(struct sp_key_set *set, const struct sp_jwk *jwk, size_t number, uint32_t algorithms, char **ret_error) {
    for (unsigned i = 0; i < SP_ALG_COUNT; i++) {
        enum sp_jwt_algorithm algorithm = (enum sp_jwt_algorithm)i;
        if (!(jwk->algorithms & algorithms & 1u << i))
            continue;
        if (jwk->kid.len && has(set, algorithm, jwk->kid))
            return sp_explain(ret_error, "key %zu: another key for %s has the same kid", number, sp_algorithm(algorithm)->name);
        struct sp_bound_key *bound;
        int r = sp_bound_key_new(algorithm, jwk->key, jwk->kid, &bound);
        if (r < 0)
            return r;
        r = add(set, bound);
        if (r < 0) {
            sp_bound_key_free(bound);
            return r;
        }
    }
    return 0;
}

static int read_keys(struct sp_key_set *set, const json_t *list, uint32_t algorithms, char **ret_error) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        struct sp_jwk jwk;
        const char *wrong;
        int r = sp_jwk_read(item, &wrong, &jwk);
        if (r == -EINVAL)
            return sp_explain(ret_error, "key %zu: %s", i + 1, wrong);
        if (r < 0)
            return r;
        if (!jwk.key)
            continue;
        r = bind_each(set, &jwk, i + 1, algorithms, ret_error);
        EVP_PKEY_free(jwk.key);
        if (r < 0)
            return r;
    }
    return 0;
}

int sp_key_set_parse(struct sp_span jwks, uint32_t algorithms, char **ret_error, struct sp_key_set **ret) {
    if (jwks.len > SP_JWKS_MAX)
        return sp_explain(ret_error, "a key set may have at most 256 KiB");
    _cleanup_(sp_json_release) json_t *document = sp_json_object(jwks);
    if (!document)
        return sp_explain(ret_error, "not a JSON object without duplicate members");
    const json_t *list = json_object_get(document, "keys");
    if (!json_is_array(list))
        return sp_explain(ret_error, "no JSON Web Key Set: it has no list of keys (RFC 7517 §5)");
    if (json_array_size(list) > SP_JWKS_KEYS_MAX)
        return sp_explain(ret_error, "a key set may have at most %d keys", SP_JWKS_KEYS_MAX);

    _cleanup_(release_set) struct sp_key_set *set = calloc(1, sizeof *set);
    if (!set)
        return -ENOMEM;
    int r = read_keys(set, list, algorithms, ret_error);
    if (r == 0)
        *ret = sp_take(set);
    return r;
}

const char sp_key_unknown[] = "unknown key";

struct sp_bound_key *sp_key_set_pick(const struct sp_key_set *set, enum sp_jwt_algorithm algorithm, struct sp_span kid,
                                     const char **ret_wrong) {
    struct sp_bound_key *found = NULL;
    *ret_wrong = sp_key_unknown;
    for (size_t i = 0; i < set->count; i++) {
        struct sp_bound_key *key = set->keys[i];
        if (key->algorithm != algorithm || (kid.len && !sp_span_eq(sp_bound_key_kid(key), kid)))
            continue;
        if (found) {
            *ret_wrong = "no kid, and several keys fit";
            return NULL;
        }
        found = key;
    }
    return found;
}
