/* A sorted array: lookups are a few comparisons, additions are rare, and there is nothing to hash that a peer could choose. */
#include <errno.h>

#include <sallyport/revocations.h>

struct sp_revocations {
    struct sp_revocation *item; /* by id */
    size_t count, capacity;
};

bool sp_key_id_valid(struct sp_span id) {
    if (id.len != SP_KEY_ID_LEN)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        char c = id.at[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')))
            return false;
    }
    return true;
}

int sp_revocations_new(struct sp_revocations **ret) {
    struct sp_revocations *revocations = calloc(1, sizeof *revocations);
    if (!revocations)
        return -ENOMEM;
    *ret = revocations;
    return 0;
}

void sp_revocations_free(struct sp_revocations *revocations) {
    if (!revocations)
        return;
    free(revocations->item);
    free(revocations);
}

/* Where the id is, or would be put. */
static size_t place_of(const struct sp_revocations *revocations, const char id[SP_KEY_ID_LEN]) {
    size_t low = 0, high = revocations->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(revocations->item[middle].id, id, SP_KEY_ID_LEN) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool stands_at(const struct sp_revocations *revocations, size_t at, const char id[SP_KEY_ID_LEN]) {
    return at < revocations->count && memcmp(revocations->item[at].id, id, SP_KEY_ID_LEN) == 0;
}

static int grow(struct sp_revocations *revocations) {
    size_t capacity = revocations->capacity ? revocations->capacity * 2 : 16;
    struct sp_revocation *item = reallocarray(revocations->item, capacity, sizeof *item);
    if (!item)
        return -ENOMEM;
    revocations->item = item;
    revocations->capacity = capacity;
    return 0;
}

int sp_revocations_add(struct sp_revocations *revocations, const struct sp_revocation *revocation) {
    if (!sp_key_id_valid(sp_span(revocation->id, SP_KEY_ID_LEN)))
        return -EINVAL;
    size_t at = place_of(revocations, revocation->id);
    if (stands_at(revocations, at, revocation->id)) {
        bool news = revocation->now && !revocations->item[at].now;
        revocations->item[at].now |= revocation->now;
        return news;
    }
    if (revocations->count == SP_REVOCATIONS_MAX)
        return -ENOSPC;
    if (revocations->count == revocations->capacity) {
        int r = grow(revocations);
        if (r < 0)
            return r;
    }
    memmove(&revocations->item[at + 1], &revocations->item[at], (revocations->count - at) * sizeof *revocations->item);
    revocations->item[at] = *revocation;
    revocations->count++;
    return 1;
}

const struct sp_revocation *sp_revocations_find(const struct sp_revocations *revocations, struct sp_span id) {
    if (revocations->count == 0 || id.len != SP_KEY_ID_LEN)
        return NULL;
    size_t at = place_of(revocations, id.at);
    return stands_at(revocations, at, id.at) ? &revocations->item[at] : NULL;
}

void sp_revocations_clear(struct sp_revocations *revocations) { revocations->count = 0; }

size_t sp_revocations_count(const struct sp_revocations *revocations) { return revocations->count; }

const struct sp_revocation *sp_revocations_at(const struct sp_revocations *revocations, size_t i) { return &revocations->item[i]; }

static int compare_ids(const void *a, const void *b) { return memcmp(*(const char *const *)a, *(const char *const *)b, SP_KEY_ID_LEN); }

int sp_revocations_keep_known(struct sp_revocations *revocations, const struct sp_config *config) {
    _cleanup_(sp_free_pointer) const char **known = calloc(config->n_api_keys + 1, sizeof *known);
    if (!known)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_api_keys; i++)
        known[i] = config->api_keys[i].id;
    qsort(known, config->n_api_keys, sizeof *known, compare_ids);
    size_t kept = 0;
    for (size_t i = 0; i < revocations->count; i++) {
        const char *id = revocations->item[i].id;
        if (bsearch(&id, known, config->n_api_keys, sizeof *known, compare_ids))
            revocations->item[kept++] = revocations->item[i];
    }
    revocations->count = kept;
    return 0;
}

bool sp_key_id_known(const struct sp_config *config, const char id[SP_KEY_ID_LEN]) {
    for (size_t i = 0; i < config->n_api_keys; i++)
        if (memcmp(config->api_keys[i].id, id, SP_KEY_ID_LEN) == 0)
            return true;
    return false;
}
