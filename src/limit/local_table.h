/* What the table of buckets looks like. Zeroed memory is an empty table. Everything in it changes by a compare-and-swap of one
 * cell, so a process killed between any two instructions leaves nothing to repair.
 *
 * A bucket is one cell: whose it is, and one word: the instant at which it will be full (GCRA's way of writing a level: what is missing is
 * the time until then, divided by the cost of a token in time). Instants are 1/64 µs of CLOCK_MONOTONIC in 56 bits: 35 years of uptime and
 * of time to full together, half for each. The cost of a token is rounded up to that unit, once per policy: a bucket behaves exactly like
 * struct sp_bucket at 64 tokens per `cost` µs, which is the configured rate or less by at most one part in 64 · period / amount.
 *
 * The upper 8 bits of the word name the policy the instant was computed under. Each limit has one current policy for all workers, whatever
 * generation they are on; the others on the ring are kept until no cell names them any more. */
#ifndef SP_LIMIT_LOCAL_TABLE_H
#define SP_LIMIT_LOCAL_TABLE_H

#include "cell.h"
#include "local_store.h"

#define TABLE_CELLS (UINT64_C(1) << 20)
#define WINDOW      16                                   /* cells in which a key may live; a multiple of the 4 that share a cache line */
#define LINE_CELLS  4                                    /* cells per cache line */
#define PAGE_CELLS  256                                  /* cells per page of 4 KiB */
#define ROWS        (SP_SPACE_COUNT * 2 * SP_LIMITS_MAX) /* by space, kind and limit */
#define ROW_BITS    8                                    /* the low bits of a key: its row */
#define TAGS        256                                  /* tag 0 is a claim: a cell somebody is about to fill */
#define SWEEP_EVERY 127 /* new policies of a limit: fewer than half the tags, so that a tag is never ambiguous */

#define UNITS_PER_US 64
#define INSTANT_BITS 56
#define INSTANT_MAX  ((UINT64_C(1) << INSTANT_BITS) - 1)
#define SPAN_MAX     (INSTANT_MAX / 2) /* the longest time to full */

_Static_assert(ROWS <= 1 << ROW_BITS, "a key's low bits name its row");
_Static_assert(SWEEP_EVERY * 2 < TAGS - 1, "between two sweeps no tag comes round again");

/* One limit. head: {generation << 32 | version, packed policy}; overflow: the bucket shared by subjects that found no room;
 * former[tag]: {version + 1, packed policy}. */
struct sp_local_row {
    struct sp_cell head, overflow;
    struct sp_cell former[TAGS];
};

struct sp_local_segment {
    _Alignas(64) uint64_t evicted_at;                /* units: the latest clock by which a cell was taken from a full bucket */
    uint64_t overflowed;                             /* decisions admitted by an overflow bucket */
    uint64_t touched[TABLE_CELLS / PAGE_CELLS / 64]; /* pages that ever held a bucket: a sweep reads no others */
    struct sp_local_row rows[ROWS];
    _Alignas(4096) struct sp_cell cells[TABLE_CELLS];
};

static inline unsigned tag_of(uint64_t word) { return (unsigned)(word >> INSTANT_BITS); }
static inline uint64_t instant_of(uint64_t word) { return word & INSTANT_MAX; }
static inline uint64_t word_of(unsigned tag, uint64_t instant) { return (uint64_t)tag << INSTANT_BITS | sp_min(instant, INSTANT_MAX); }
static inline uint64_t units_of(uint64_t us) { return sp_min(us, SPAN_MAX / UNITS_PER_US) * UNITS_PER_US; }

static inline unsigned sp_local_row(enum sp_local_space space, enum sp_limit_kind kind, unsigned slot) {
    return ((unsigned)space * 2 + (unsigned)kind) * SP_LIMITS_MAX + slot;
}

/* Mixed into a subject's hash, so that its buckets of several limits do not live in one window. */
static inline uint64_t sp_local_spread(unsigned row) { return row * UINT64_C(0x9e3779b97f4a7c15); }

/* The policy in force. false: none was ever published for this limit. */
bool sp_local_current(const struct sp_local_row *row, struct sp_local_policy *ret);
/* The instant at which the bucket in this cell is full under `policy`, having accrued until now under its own, and then taken
 * min(level, the new burst). */
uint64_t sp_local_full_at(const struct sp_local_row *row, uint64_t word, const struct sp_local_policy *policy, uint64_t now);

#endif
