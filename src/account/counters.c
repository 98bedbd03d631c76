#include <errno.h>

#include "segment.h"

int sp_counters_open(void *segment, struct sp_counters **ret) {
    if ((uintptr_t)segment % _Alignof(struct sp_counters_segment) != 0)
        return -EINVAL;
    struct sp_counters *counters = calloc(1, sizeof *counters);
    if (!counters)
        return -ENOMEM;
    counters->segment = segment;
    *ret = counters;
    return 0;
}

void sp_counters_free(struct sp_counters *counters) { free(counters); }

const struct sp_worker_block *sp_counters_block(const struct sp_counters *counters, unsigned worker_slot) {
    if (worker_slot >= SP_WORKERS_MAX || !atomic_load_explicit(&counters->segment->begun[worker_slot], memory_order_acquire))
        return NULL;
    return &counters->segment->worker[worker_slot];
}

uint32_t sp_block_pairs(const struct sp_worker_block *block) {
    uint32_t n = atomic_load_explicit(&block->n_pairs, memory_order_acquire);
    return sp_min(n, (uint32_t)SP_PAIRS_MAX);
}

bool sp_block_pair(const struct sp_worker_block *block, uint32_t at, uint32_t *ret_route, uint32_t *ret_pool) {
    uint32_t route = atomic_load_explicit(&block->pair[at].route, memory_order_relaxed);
    uint32_t pool = atomic_load_explicit(&block->pair[at].pool, memory_order_relaxed);
    if (route > SP_ROUTE_NONE || pool > SP_POOL_NONE)
        return false;
    *ret_route = route;
    *ret_pool = pool;
    return true;
}

void sp_counters_begin(struct sp_counters *counters, unsigned worker_slot) {
    struct sp_worker_block *block = sp_counters_own(counters, worker_slot);
    if (!block)
        return;
    for (unsigned i = 0; i < SP_GAUGE_COUNT; i++)
        atomic_store_explicit(&block->gauge[i], 0, memory_order_relaxed);
    for (unsigned i = 0; i < SP_POOLS_MAX; i++)
        atomic_store_explicit(&block->queue[i], 0, memory_order_relaxed);
    for (unsigned i = 0; i < SP_SERVERS_MAX; i++)
        atomic_store_explicit(&block->backend[i], SP_BACKEND_UNKNOWN, memory_order_relaxed);
    if (sp_block_pairs(block) == 0) {
        atomic_store_explicit(&block->pair[0].route, SP_ROUTE_NONE, memory_order_relaxed);
        atomic_store_explicit(&block->pair[0].pool, SP_POOL_NONE, memory_order_relaxed);
        atomic_store_explicit(&block->n_pairs, 1, memory_order_release);
    }
    /* A predecessor killed between taking a pair and noting where it is left one that would be taken twice. */
    for (uint32_t i = 1, route, pool; i < sp_block_pairs(block); i++)
        if (sp_block_pair(block, i, &route, &pool))
            atomic_store_explicit(&block->pair_at[route][pool], (uint16_t)i, memory_order_relaxed);
    atomic_store_explicit(&counters->segment->begun[worker_slot], 1, memory_order_release);
}

void sp_count(struct sp_counters *counters, unsigned worker_slot, enum sp_counter counter, uint64_t by) {
    struct sp_worker_block *block = sp_counters_own(counters, worker_slot);
    if (block && counter < SP_COUNTER_COUNT)
        sp_word_add(&block->counter[counter], by);
}

void sp_gauge(struct sp_counters *counters, unsigned worker_slot, enum sp_gauge gauge, uint64_t value) {
    struct sp_worker_block *block = sp_counters_own(counters, worker_slot);
    if (block && gauge < SP_GAUGE_COUNT)
        atomic_store_explicit(&block->gauge[gauge], value, memory_order_relaxed);
}

static struct sp_traffic_pair *take_pair(struct sp_worker_block *block, unsigned route, unsigned pool) {
    uint32_t n = sp_block_pairs(block);
    if (n == SP_PAIRS_MAX || (route == SP_ROUTE_NONE && pool == SP_POOL_NONE))
        return &block->pair[0];
    struct sp_traffic_pair *pair = &block->pair[n];
    atomic_store_explicit(&pair->route, route, memory_order_relaxed);
    atomic_store_explicit(&pair->pool, pool, memory_order_relaxed);
    atomic_store_explicit(&block->n_pairs, n + 1, memory_order_release);
    atomic_store_explicit(&block->pair_at[route][pool], (uint16_t)n, memory_order_relaxed);
    return pair;
}

void sp_count_request(struct sp_counters *counters, unsigned worker_slot, unsigned route_slot, unsigned pool_slot, unsigned status,
                      uint64_t total_us, int64_t first_byte_us) {
    struct sp_worker_block *block = sp_counters_own(counters, worker_slot);
    if (!block)
        return;
    unsigned route = sp_min(route_slot, (unsigned)SP_ROUTE_NONE), pool = sp_min(pool_slot, (unsigned)SP_POOL_NONE);
    unsigned at = atomic_load_explicit(&block->pair_at[route][pool], memory_order_relaxed); /* once */
    struct sp_traffic_pair *pair = at > 0 && at < SP_PAIRS_MAX ? &block->pair[at] : take_pair(block, route, pool);
    sp_word_add(&pair->by_code[sp_code_slot(status)], 1);
    sp_word_add(&block->counter[SP_COUNTER_REQUESTS], 1);
    sp_histogram_add(&block->total, &sp_scale_requests, total_us);
    if (first_byte_us >= 0)
        sp_histogram_add(&block->first_byte, &sp_scale_requests, (uint64_t)first_byte_us);
}

void sp_count_limit(struct sp_counters *counters, unsigned worker_slot, unsigned limit_slot, enum sp_limit_outcome outcome) {
    struct sp_worker_block *block = sp_counters_own(counters, worker_slot);
    if (block && limit_slot < SP_LIMITS_MAX && outcome < SP_OUTCOME_COUNT)
        sp_word_add(&block->limit[limit_slot][outcome], 1);
}

void sp_set_backend_up(struct sp_counters *counters, unsigned worker_slot, unsigned server_slot, bool up) {
    struct sp_worker_block *block = sp_counters_own(counters, worker_slot);
    if (block && server_slot < SP_SERVERS_MAX)
        atomic_store_explicit(&block->backend[server_slot], up ? SP_BACKEND_UP : SP_BACKEND_DOWN, memory_order_relaxed);
}

void sp_gauge_queue(struct sp_counters *counters, unsigned worker_slot, unsigned pool_slot, uint32_t length) {
    struct sp_worker_block *block = sp_counters_own(counters, worker_slot);
    if (block && pool_slot < SP_POOLS_MAX)
        atomic_store_explicit(&block->queue[pool_slot], length, memory_order_relaxed);
}

/* ---- Readers ---- */

uint64_t sp_counter_sum(const struct sp_counters *counters, enum sp_counter counter) {
    uint64_t sum = 0;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX && counter < SP_COUNTER_COUNT; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        sum += block ? sp_word(&block->counter[counter]) : 0;
    }
    return sum;
}

uint64_t sp_gauge_sum(const struct sp_counters *counters, enum sp_gauge gauge) {
    uint64_t sum = 0;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX && gauge < SP_GAUGE_COUNT; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        sum += block ? sp_word(&block->gauge[gauge]) : 0;
    }
    return sum;
}

bool sp_counters_redis_up(const struct sp_counters *counters) {
    unsigned configured = 0, up = 0;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        if (block && sp_word(&block->gauge[SP_GAUGE_REDIS_CONFIGURED]) > 0) {
            configured++;
            up += sp_word(&block->gauge[SP_GAUGE_REDIS_UP]) > 0;
        }
    }
    return configured > 0 && up == configured;
}

bool sp_counters_backend_up(const struct sp_counters *counters, unsigned server_slot) {
    bool up = false, down = false;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX && server_slot < SP_SERVERS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        uint8_t word = block ? atomic_load_explicit(&block->backend[server_slot], memory_order_relaxed) : SP_BACKEND_UNKNOWN;
        up = up || word == SP_BACKEND_UP;
        down = down || word == SP_BACKEND_DOWN;
    }
    return up || !down;
}

static uint64_t pair_requests(const struct sp_traffic_pair *pair, unsigned status_class) {
    uint64_t sum = 0;
    for (unsigned code = 0; code < sp_code_count(); code++)
        if (status_class == 0 || sp_code_class(code) == status_class)
            sum += sp_word(&pair->by_code[code]);
    return sum;
}

uint64_t sp_counters_requests(const struct sp_counters *counters, unsigned route_slot, unsigned status_class) {
    uint64_t sum = 0;
    uint32_t wanted = sp_min(route_slot, (unsigned)SP_ROUTE_NONE), route, pool;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        for (uint32_t i = 0; block && i < sp_block_pairs(block); i++)
            if (sp_block_pair(block, i, &route, &pool) && route == wanted)
                sum += pair_requests(&block->pair[i], status_class);
    }
    return sum;
}

uint64_t sp_counters_limit(const struct sp_counters *counters, unsigned limit_slot, enum sp_limit_outcome outcome) {
    uint64_t sum = 0;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX && limit_slot < SP_LIMITS_MAX && outcome < SP_OUTCOME_COUNT; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        sum += block ? sp_word(&block->limit[limit_slot][outcome]) : 0;
    }
    return sum;
}

uint64_t sp_counters_queue(const struct sp_counters *counters, unsigned pool_slot) {
    uint64_t sum = 0;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX && pool_slot < SP_POOLS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        sum += block ? atomic_load_explicit(&block->queue[pool_slot], memory_order_relaxed) : 0;
    }
    return sum;
}
