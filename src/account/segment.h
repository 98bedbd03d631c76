/* The counters' segment: one page-aligned block per worker slot, written by that worker alone with relaxed atomics, read by anybody.
 * Readers take nothing in it for granted: another process may have written anything, so every index read here is checked. */
#ifndef SP_ACCOUNT_SEGMENT_H
#define SP_ACCOUNT_SEGMENT_H

#include <stdatomic.h>

#include <sallyport/account.h>

/* Upper bounds in microseconds; one more bucket holds what is above the last. */
#define SP_HISTOGRAM_BOUNDS 18
extern const uint64_t sp_histogram_bounds_us[SP_HISTOGRAM_BOUNDS];
extern const char *const sp_histogram_bounds_text[SP_HISTOGRAM_BOUNDS]; /* the same in seconds, as the `le` label says it */

struct sp_histogram {
    _Atomic uint64_t bucket[SP_HISTOGRAM_BOUNDS + 1];
    _Atomic uint64_t sum_us;
};
void sp_histogram_add(struct sp_histogram *histogram, uint64_t us);

/* Statuses with a count of their own; any other is counted by its class, and 0 (none was sent) as "none". */
#define SP_CODES_MAX 40
unsigned sp_code_slot(unsigned status); /* always below sp_code_count() */
unsigned sp_code_count(void);
const char *sp_code_label(unsigned code_slot); /* "200", "4xx", "none" */
unsigned sp_code_class(unsigned code_slot);    /* 1 to 5; 0 for none */

/* Requests of one route to one pool. The last route and pool number stands for "none". */
#define SP_ROUTE_NONE SP_ROUTES_MAX
#define SP_POOL_NONE  SP_POOLS_MAX
struct sp_traffic_pair {
    _Atomic uint32_t route, pool;
    _Atomic uint64_t by_code[SP_CODES_MAX];
};
#define SP_PAIRS_MAX 1024

enum sp_backend_word { SP_BACKEND_UNKNOWN, SP_BACKEND_DOWN, SP_BACKEND_UP };

struct sp_worker_block {
    _Alignas(4096) _Atomic uint64_t counter[SP_COUNTER_COUNT];
    _Atomic uint64_t gauge[SP_GAUGE_COUNT];
    struct sp_histogram total, first_byte;
    _Atomic uint64_t limit[SP_LIMITS_MAX][SP_OUTCOME_COUNT];
    _Atomic uint8_t backend[SP_SERVERS_MAX];
    /* Pairs are dense, so that readers touch only pages that were written. When all are taken, pair 0 ("none") gets the rest. */
    _Atomic uint32_t n_pairs;
    struct sp_traffic_pair pair[SP_PAIRS_MAX];
    uint16_t pair_at[SP_ROUTES_MAX + 1][SP_POOLS_MAX + 1]; /* index into pair; 0: not yet. The writer's own */
};

struct sp_counters_segment {
    _Atomic uint8_t begun[SP_WORKERS_MAX]; /* slots that ever had a worker */
    struct sp_worker_block worker[SP_WORKERS_MAX];
};

struct sp_counters {
    struct sp_counters_segment *segment;
};

static inline uint64_t sp_word(const _Atomic uint64_t *word) { return atomic_load_explicit(word, memory_order_relaxed); }
/* One writer: a plain load and store, no locked instruction. */
static inline void sp_word_add(_Atomic uint64_t *word, uint64_t by) {
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + by, memory_order_relaxed);
}

/* The block of a slot that ever had a worker, else NULL. */
const struct sp_worker_block *sp_counters_block(const struct sp_counters *counters, unsigned worker_slot);
/* How many of its pairs to look at, and one of them, checked: false when it names no route or pool there can be. */
uint32_t sp_block_pairs(const struct sp_worker_block *block);
bool sp_block_pair(const struct sp_worker_block *block, uint32_t at, uint32_t *ret_route, uint32_t *ret_pool);

#endif
