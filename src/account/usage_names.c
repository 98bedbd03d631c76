/* Whose usage is told by name. A worker's entries change hands only in sp_count_usage_for(); between two of those a name is found by
 * bisection, and nothing is ever added by a request. */
#include <errno.h>

#include "segment.h"

_Static_assert(sizeof((struct sp_api_key_config){0}.id) == sizeof(uint64_t) + 1, "the id of an API key is one word");

bool sp_usage_name_make(struct sp_span key, struct sp_span tenant, struct sp_usage_name *ret) {
    *ret = (struct sp_usage_name){0};
    if (key.len > sizeof ret->key || tenant.len > sizeof ret->tenant)
        return false;
    if (key.len > 0)
        memcpy(&ret->key, key.at, key.len);
    if (tenant.len > 0)
        memcpy(ret->tenant, tenant.at, tenant.len);
    return true;
}

static void name_of(const struct sp_usage_entry *entry, struct sp_usage_name *ret) {
    uint64_t *word = (uint64_t *)ret;
    for (unsigned i = 0; i < SP_USAGE_NAME_WORDS; i++)
        word[i] = sp_word(&entry->name[i]);
}

/* Any order will do, and by words one word mostly decides. */
static int compare(const struct sp_usage_name *name, const struct sp_usage_entry *entry) {
    const uint64_t *word = (const uint64_t *)name;
    for (unsigned i = 0; i < SP_USAGE_NAME_WORDS; i++) {
        uint64_t other = sp_word(&entry->name[i]);
        if (word[i] != other)
            return word[i] < other ? -1 : 1;
    }
    return 0;
}

/* ---- The writer ---- */

/* true: *ret_at is its place in the order; false: where it would be put. Names that change meanwhile lead astray, but not out of it. */
static bool bisect(const struct sp_usage_names *names, const struct sp_usage_order *order, const struct sp_usage_name *name,
                   uint32_t *ret_at) {
    uint32_t low = 0, high = order->n;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int difference = compare(name, &names->entry[order->sorted[middle]]);
        if (difference == 0) {
            *ret_at = middle;
            return true;
        }
        if (difference < 0)
            high = middle;
        else
            low = middle + 1;
    }
    *ret_at = low;
    return false;
}

struct sp_usage_entry *sp_usage_entry_of(struct sp_usage_names *names, const struct sp_usage_order *order,
                                         const struct sp_usage_name *name) {
    uint32_t at;
    return &names->entry[bisect(names, order, name, &at) ? order->sorted[at] : 0];
}

/* An entry that lost its name behind our back is given out twice: there may be more than there is room for. */
static void insert(struct sp_usage_order *order, uint32_t at, uint32_t entry) {
    if (order->n == SP_USAGE_NAMES_MAX)
        return;
    memmove(&order->sorted[at + 1], &order->sorted[at], (order->n - at) * sizeof order->sorted[0]);
    order->sorted[at] = (uint16_t)entry;
    order->n++;
}

static bool has_name(const struct sp_usage_entry *entry) {
    uint64_t version = sp_word(&entry->version);
    return version > 0 && version % 2 == 0;
}

/* The version is odd from here until give_name(); a worker that is killed in between leaves an entry that nobody reads. */
static void take_name(struct sp_usage_entry *entry) {
    atomic_store_explicit(&entry->version, sp_word(&entry->version) | 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static void give_name(struct sp_usage_entry *entry, const struct sp_usage_name *name) {
    const uint64_t *word = (const uint64_t *)name;
    take_name(entry);
    for (unsigned i = 0; i < SP_USAGE_NAME_WORDS; i++)
        atomic_store_explicit(&entry->name[i], word[i], memory_order_relaxed);
    for (unsigned i = 0; i < SP_DIRECTIONS; i++)
        atomic_store_explicit(&entry->tokens[i], 0, memory_order_relaxed);
    atomic_store_explicit(&entry->version, sp_word(&entry->version) + 1, memory_order_release);
}

static uint32_t entries(const struct sp_usage_names *names) {
    uint32_t n = atomic_load_explicit(&names->n, memory_order_acquire); /* once: sp_min() would look twice */
    return sp_min(n, (uint32_t)SP_USAGE_NAMES_MAX);
}

/* Sorts anew what has a name. */
static void sort(const struct sp_usage_names *names, struct sp_usage_order *order) {
    uint32_t at;
    struct sp_usage_name name;
    order->n = 0;
    for (uint32_t i = 1; i <= entries(names); i++) {
        name_of(&names->entry[i], &name);
        if (has_name(&names->entry[i]) && !bisect(names, order, &name, &at))
            insert(order, at, i);
    }
}

/* An entry without a name: one that lost it, or the next one; 0: there is no room. *cursor is where to look on. */
static uint32_t free_entry(struct sp_usage_names *names, uint32_t *cursor) {
    for (uint32_t n = entries(names); *cursor <= n; ++*cursor)
        if (!has_name(&names->entry[*cursor]))
            return (*cursor)++;
    if (*cursor > SP_USAGE_NAMES_MAX)
        return 0;
    atomic_store_explicit(&names->n, *cursor, memory_order_release);
    return (*cursor)++;
}

/* The name that the i-th API key has among keys, or among tenants; false: it is not told by name. */
static bool key_name(const struct sp_config *config, size_t i, bool tenants, struct sp_usage_name *ret) {
    const struct sp_api_key_config *key = &config->api_keys[i];
    if (tenants && !key->tenant)
        return false;
    return sp_usage_name_make(tenants ? SP_SPAN("") : sp_span_text(key->id), sp_span_text(key->tenant), ret);
}

static void rename_entries(struct sp_usage_names *names, struct sp_usage_order *order, const struct sp_config *config, bool tenants) {
    bool kept[1 + SP_USAGE_NAMES_MAX] = {0};
    struct sp_usage_name name;
    uint32_t at, cursor = 1, entry;
    sort(names, order);
    for (size_t i = 0; i < config->n_api_keys; i++)
        if (key_name(config, i, tenants, &name) && bisect(names, order, &name, &at))
            kept[order->sorted[at]] = true;
    for (uint32_t i = 1; i <= entries(names); i++)
        if (!kept[i])
            take_name(&names->entry[i]);
    sort(names, order);
    for (size_t i = 0; i < config->n_api_keys; i++) {
        if (config->api_keys[i].revoked || !key_name(config, i, tenants, &name) || bisect(names, order, &name, &at))
            continue;
        entry = free_entry(names, &cursor);
        if (entry == 0)
            return;
        give_name(&names->entry[entry], &name);
        insert(order, at, entry);
    }
}

void sp_count_usage_for(struct sp_counters *counters, unsigned worker_slot, const struct sp_config *config) {
    struct sp_worker_block *block = sp_counters_own(counters, worker_slot);
    if (!block)
        return;
    rename_entries(&block->keys, &counters->keys[worker_slot], config, false);
    rename_entries(&block->tenants, &counters->tenants[worker_slot], config, true);
}

/* ---- Readers ---- */

/* false: it has no name, or was given another one meanwhile. */
static bool read_entry(const struct sp_usage_entry *entry, struct sp_usage_sum *ret) {
    uint64_t version = atomic_load_explicit(&entry->version, memory_order_acquire);
    if (version == 0 || version % 2 == 1)
        return false;
    name_of(entry, &ret->name);
    for (unsigned i = 0; i < SP_DIRECTIONS; i++)
        ret->tokens[i] = sp_word(&entry->tokens[i]);
    atomic_thread_fence(memory_order_acquire);
    return sp_word(&entry->version) == version;
}

static int by_name(const void *a, const void *b) {
    const struct sp_usage_sum *left = a, *right = b;
    return memcmp(&left->name, &right->name, sizeof left->name);
}

static const struct sp_usage_names *names_in(const struct sp_worker_block *block, bool tenants) {
    return tenants ? &block->tenants : &block->keys;
}

static size_t join(struct sp_usage_sum *sums, size_t n) {
    size_t joined = 0;
    for (size_t i = 0; i < n; i++) {
        if (joined == 0 || by_name(&sums[joined - 1], &sums[i]) != 0) {
            sums[joined++] = sums[i];
            continue;
        }
        for (unsigned j = 0; j < SP_DIRECTIONS; j++)
            sums[joined - 1].tokens[j] += sums[i].tokens[j];
    }
    return joined;
}

/* What has no entry is told as "other", together with whoever is really called that. */
static void name_the_first(struct sp_usage_sum *sum, bool tenants) {
    (void)sp_usage_name_make(tenants ? SP_SPAN("") : SP_SPAN("other"), tenants ? SP_SPAN("other") : SP_SPAN(""), &sum->name);
}

int sp_usage_sums(const struct sp_counters *counters, bool tenants, struct sp_usage_sum **ret, size_t *ret_n) {
    uint32_t n[SP_WORKERS_MAX] = {0};
    size_t room = 1, count = 1;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        n[slot] = block ? entries(names_in(block, tenants)) : 0;
        room += n[slot];
    }
    struct sp_usage_sum *sums = calloc(room, sizeof *sums);
    if (!sums)
        return -ENOMEM;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        if (!block)
            continue;
        const struct sp_usage_names *names = names_in(block, tenants);
        for (unsigned i = 0; i < SP_DIRECTIONS; i++)
            sums[0].tokens[i] += sp_word(&names->entry[0].tokens[i]);
        for (uint32_t i = 1; i <= n[slot]; i++)
            count += read_entry(&names->entry[i], &sums[count]);
    }
    name_the_first(&sums[0], tenants);
    qsort(sums, count, sizeof *sums, by_name);
    *ret_n = join(sums, count);
    *ret = sums;
    return 0;
}
