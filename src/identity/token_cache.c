/* A map for finding, a list for what was used least recently, a heap for what expires next. */
#include "token_cache.h"

#include "principal.h"
#include "refused.h"

#include <errno.h>

#define EXPIRE_AT_ONCE 8 /* entries that one call may clear away: a bound on the work of one request */

struct entry {
    struct sp_map_node node;
    struct sp_list used; /* most recently used first */
    uint8_t digest[32];
    uint64_t fingerprint; /* of the issuer it was verified for */
    uint64_t key_stamp;   /* of the key set it was verified with; 0: with none */
    uint64_t serial;      /* of the identity its roles were mapped with */
    uint64_t key_changes; /* when it was last looked at whether it still stands */
    size_t heap_at;
    struct sp_principal *principal;
};

struct sp_token_cache {
    struct sp_map map;
    struct sp_list used;
    struct entry **heap; /* binary, the earliest to expire at 0; map.count entries */
    size_t max;
    uint64_t epoch;
    struct sp_refused *refused;
};

/* ---- The heap ---- */

static void put(struct sp_token_cache *cache, size_t at, struct entry *entry) {
    cache->heap[at] = entry;
    entry->heap_at = at;
}

static bool earlier(const struct entry *a, const struct entry *b) { return a->principal->expires_at_s < b->principal->expires_at_s; }

static void sift_up(struct sp_token_cache *cache, size_t at) {
    struct entry *entry = cache->heap[at];
    for (size_t parent; at > 0 && earlier(entry, cache->heap[parent = (at - 1) / 2]); at = parent)
        put(cache, at, cache->heap[parent]);
    put(cache, at, entry);
}

static void sift_down(struct sp_token_cache *cache, size_t at, size_t count) {
    struct entry *entry = cache->heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && earlier(cache->heap[child + 1], cache->heap[child]))
            child++;
        if (!earlier(cache->heap[child], entry))
            break;
        put(cache, at, cache->heap[child]);
    }
    put(cache, at, entry);
}

/* ---- Entries ---- */

static void drop(struct sp_token_cache *cache, struct entry *entry) {
    size_t last = cache->map.count - 1, at = entry->heap_at;
    if (at != last) {
        put(cache, at, cache->heap[last]);
        sift_down(cache, at, last);
        sift_up(cache, at);
    }
    sp_map_remove(&cache->map, &entry->node);
    sp_list_remove(&entry->used);
    sp_principal_unref(entry->principal);
    free(entry);
}

static void expire(struct sp_token_cache *cache, uint64_t now_s) {
    for (int i = 0; i < EXPIRE_AT_ONCE && cache->map.count && cache->heap[0]->principal->expires_at_s <= now_s; i++)
        drop(cache, cache->heap[0]);
}

/* The digest is a uniform hash already, and nobody gets an entry without a valid signature. */
static uint64_t hash_of(const uint8_t digest[32]) {
    uint64_t hash;
    memcpy(&hash, digest, sizeof hash);
    return hash;
}

static struct entry *lookup(const struct sp_token_cache *cache, const uint8_t digest[32]) {
    for (struct sp_map_node *node = sp_map_first(&cache->map, hash_of(digest)); node; node = sp_map_next(node)) {
        struct entry *entry = SP_CONTAINER(node, struct entry, node);
        if (memcmp(entry->digest, digest, sizeof entry->digest) == 0)
            return entry;
    }
    return NULL;
}

/* Another generation may give the same names other bits: whoever holds the old principal keeps it, new requests get a new one. */
static bool map_roles_anew(struct entry *entry, const struct sp_identity *identity) {
    struct sp_span names = sp_principal_role_names(entry->principal);
    uint64_t roles = sp_roles_mask(identity->config, names);
    if (roles != entry->principal->roles) {
        struct sp_principal like = *entry->principal, *mapped;
        like.roles = roles;
        if (sp_principal_new(&like, names, &mapped) < 0)
            return false;
        sp_principal_unref(entry->principal);
        entry->principal = mapped;
    }
    entry->serial = identity->serial;
    return true;
}

struct sp_principal *sp_token_cache_find(struct sp_token_cache *cache, const struct sp_identity *identity, const uint8_t digest[32],
                                         uint64_t now_s) {
    expire(cache, now_s);
    struct entry *entry = lookup(cache, digest);
    if (!entry)
        return NULL;
    bool current = entry->principal->expires_at_s > now_s;
    if (current && (entry->serial != identity->serial || entry->key_changes != sp_key_changes())) {
        current = sp_identity_vouches(identity, entry->fingerprint, entry->key_stamp) && map_roles_anew(entry, identity);
        entry->key_changes = sp_key_changes();
    }
    if (!current) {
        drop(cache, entry);
        return NULL;
    }
    sp_list_remove(&entry->used);
    sp_list_prepend(&cache->used, &entry->used);
    return sp_principal_ref(entry->principal);
}

void sp_token_cache_add(struct sp_token_cache *cache, const struct sp_identity *identity, const struct sp_issuer *issuer,
                        const uint8_t digest[32], struct sp_principal *principal) {
    struct entry *old = lookup(cache, digest);
    if (old)
        drop(cache, old);
    else if (cache->map.count == cache->max)
        drop(cache, sp_list_entry(cache->used.prev, struct entry, used));

    struct entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return;
    size_t at = cache->map.count;
    if (sp_map_add(&cache->map, &entry->node, hash_of(digest)) < 0) {
        free(entry);
        return;
    }
    memcpy(entry->digest, digest, sizeof entry->digest);
    entry->fingerprint = issuer->config->fingerprint;
    entry->key_stamp = principal->kind == SP_CREDENTIAL_OPAQUE ? 0 : issuer->keys->stamp;
    entry->key_changes = sp_key_changes();
    entry->serial = identity->serial;
    entry->principal = sp_principal_ref(principal);
    sp_list_prepend(&cache->used, &entry->used);
    put(cache, at, entry);
    sift_up(cache, at);
}

int sp_token_cache_new(size_t max_tokens, struct sp_token_cache **ret) {
    struct sp_token_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return -ENOMEM;
    cache->max = sp_max(max_tokens, (size_t)1);
    cache->heap = calloc(cache->max, sizeof *cache->heap);
    cache->refused = sp_refused_new();
    if (!cache->heap || !cache->refused) {
        free(cache->heap);
        free(cache->refused);
        free(cache);
        return -ENOMEM;
    }
    sp_map_init(&cache->map);
    sp_list_init(&cache->used);
    *ret = cache;
    return 0;
}

void sp_token_cache_empty(struct sp_token_cache *cache) {
    while (cache->map.count)
        drop(cache, cache->heap[cache->map.count - 1]);
    cache->epoch++;
}

void sp_token_cache_free(struct sp_token_cache *cache) {
    if (!cache)
        return;
    sp_token_cache_empty(cache);
    sp_map_free(&cache->map);
    free(cache->refused);
    free(cache->heap);
    free(cache);
}

size_t sp_token_cache_count(const struct sp_token_cache *cache) { return cache->map.count; }
struct sp_refused *sp_token_cache_refused(struct sp_token_cache *cache) { return cache->refused; }
uint64_t sp_token_cache_epoch(const struct sp_token_cache *cache) { return cache->epoch; }
