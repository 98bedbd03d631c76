/* The counters' segment: one page-aligned block per worker slot, written by that worker alone with relaxed atomics, read by anybody.
 * Nobody takes anything in it for granted, not even its writer: another process may have written anything, at any time, so every index in
 * it is read once and checked. */
#ifndef SP_ACCOUNT_SEGMENT_H
#define SP_ACCOUNT_SEGMENT_H

#include <stdatomic.h>

#include <sallyport/account.h>

/* What the buckets of a histogram hold: values up to each bound; one more bucket holds what is above the last. */
#define SP_BOUNDS_MAX 18
struct sp_scale {
    unsigned n;
    bool seconds; /* values are microseconds and told as seconds; else they are told as they are */
    uint64_t bound[SP_BOUNDS_MAX];
    const char *text[SP_BOUNDS_MAX]; /* as the `le` label says it */
};
extern const struct sp_scale sp_scale_requests; /* from 1 ms to 10 min */
extern const struct sp_scale sp_scale_tokens;   /* the last three are OpenTelemetry's, of its conventions for generative AI */
extern const struct sp_scale sp_scale_first_token;
extern const struct sp_scale sp_scale_per_token;

struct sp_histogram {
    _Atomic uint64_t bucket[SP_BOUNDS_MAX + 1];
    _Atomic uint64_t sum;
};
void sp_histogram_add(struct sp_histogram *histogram, const struct sp_scale *scale, uint64_t value);

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

/* What the answers of one model took. */
enum sp_direction { SP_TOKENS_IN, SP_TOKENS_OUT, SP_DIRECTIONS };
struct sp_model_usage {
    _Atomic uint64_t tokens[SP_DIRECTIONS], estimated;
    struct sp_histogram per_answer[SP_DIRECTIONS], first_token, per_token;
};

/* Whose usage is told by name: an API key with its tenant, or a tenant alone. Names are compared as words; a tenant's text is padded with
 * zeros. An entry that is given to another name is not to be read meanwhile: its version is odd then; 0: it never had a name. */
#define SP_TENANT_LEN 128 /* bytes; what the file of API keys takes */
struct sp_usage_name {
    uint64_t key; /* the eight characters of the id; 0: none */
    uint64_t tenant[SP_TENANT_LEN / sizeof(uint64_t)];
};
#define SP_USAGE_NAME_WORDS (sizeof(struct sp_usage_name) / sizeof(uint64_t))
struct sp_usage_entry {
    _Atomic uint64_t version;
    _Atomic uint64_t name[SP_USAGE_NAME_WORDS];
    _Atomic uint64_t tokens[SP_DIRECTIONS];
};
/* Entries are dense, so that readers touch only pages that were written. The first one gets what has no entry: "other". */
struct sp_usage_names {
    _Atomic uint32_t n; /* entries that ever had a name, besides the first */
    struct sp_usage_entry entry[1 + SP_USAGE_NAMES_MAX];
};
/* Which entries have a name now, in the order of the names. Not in the segment: the writer goes by it unchecked. */
struct sp_usage_order {
    uint32_t n;
    uint16_t sorted[SP_USAGE_NAMES_MAX]; /* from 1 to SP_USAGE_NAMES_MAX */
};

/* One refusal. The n-th of a worker is at n modulo the ring's size, with version 2n + 1 while it is written and 2n + 2 from then on: a
 * reader that finds the same version before and after has what belongs together. */
#define SP_REFUSALS_MAX 2048
struct sp_refusal_slot {
    _Atomic uint64_t version;
    _Atomic uint64_t word[SP_REFUSAL_RECORD_WORDS];
};
_Static_assert(sizeof(struct sp_refusal_slot) == 384, "a ring is 768 KiB");

enum sp_backend_word { SP_BACKEND_UNKNOWN, SP_BACKEND_DOWN, SP_BACKEND_UP };

struct sp_worker_block {
    _Alignas(4096) _Atomic uint64_t counter[SP_COUNTER_COUNT];
    _Atomic uint64_t gauge[SP_GAUGE_COUNT];
    _Atomic uint32_t queue[SP_POOLS_MAX];
    struct sp_histogram total, first_byte;
    _Atomic uint64_t limit[SP_LIMITS_MAX][SP_OUTCOME_COUNT];
    _Atomic uint8_t backend[SP_SERVERS_MAX];
    /* Pairs are dense, so that readers touch only pages that were written. When all are taken, pair 0 ("none") gets the rest. */
    _Atomic uint32_t n_pairs;
    struct sp_traffic_pair pair[SP_PAIRS_MAX];
    _Atomic uint16_t pair_at[SP_ROUTES_MAX + 1][SP_POOLS_MAX + 1]; /* index into pair; 0: not yet. For the writer alone */
    struct sp_model_usage model[1 + SP_MODELS_MAX];                /* by slot, after the one of no model: low slots are taken first */
    struct sp_usage_names keys, tenants;
    _Atomic uint64_t n_refusals; /* since the start */
    struct sp_refusal_slot refusal[SP_REFUSALS_MAX];
};

struct sp_counters_segment {
    _Atomic uint8_t begun[SP_WORKERS_MAX]; /* slots that ever had a worker */
    struct sp_worker_block worker[SP_WORKERS_MAX];
};

/* A process's own. The orders are of the blocks that it writes, from sp_count_usage_for() on. */
struct sp_counters {
    struct sp_counters_segment *segment;
    struct sp_usage_order keys[SP_WORKERS_MAX], tenants[SP_WORKERS_MAX];
};

static inline uint64_t sp_word(const _Atomic uint64_t *word) { return atomic_load_explicit(word, memory_order_relaxed); }
/* One writer: a plain load and store, no locked instruction. */
static inline void sp_word_add(_Atomic uint64_t *word, uint64_t by) {
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + by, memory_order_relaxed);
}

/* The block to write; NULL: no such slot. */
static inline struct sp_worker_block *sp_counters_own(struct sp_counters *counters, unsigned worker_slot) {
    return worker_slot < SP_WORKERS_MAX ? &counters->segment->worker[worker_slot] : NULL;
}
/* The block of a slot that ever had a worker, else NULL. */
const struct sp_worker_block *sp_counters_block(const struct sp_counters *counters, unsigned worker_slot);
/* How many of its pairs to look at, and one of them, checked: false when it names no route or pool there can be. */
uint32_t sp_block_pairs(const struct sp_worker_block *block);
bool sp_block_pair(const struct sp_worker_block *block, uint32_t at, uint32_t *ret_route, uint32_t *ret_pool);

/* ---- Usage by name (usage_names.c) ---- */
bool sp_usage_name_make(struct sp_span key, struct sp_span tenant, struct sp_usage_name *ret); /* false: longer than any name can be */
/* The entry to count it in: its own or the first. */
struct sp_usage_entry *sp_usage_entry_of(struct sp_usage_names *names, const struct sp_usage_order *order, const struct sp_usage_name *name);
/* Sums over all workers of the keys' or the tenants' entries, each name once; "other" among them. */
struct sp_usage_sum {
    struct sp_usage_name name;
    uint64_t tokens[SP_DIRECTIONS];
};
int sp_usage_sums(const struct sp_counters *counters, bool tenants, struct sp_usage_sum **ret,
                  size_t *ret_n) SP_MUST_USE; /* -ENOMEM; to be freed */

#endif
