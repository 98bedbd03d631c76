/* The buckets of this machine, of requests and of tokens: a table in shared memory that all workers change at once without locks.
 *
 * A full bucket is the same as an absent one, so only full buckets give way to others. Where all cells a key may use hold buckets that are
 * not full, the request is charged to one overflow bucket of its limit, and while that one is not full, new buckets of the limit begin at
 * its level: crowding makes a limit stricter, never looser. Keys are 57 bits of a keyed hash: two subjects of one limit that collide share
 * a bucket. */
#ifndef SP_LIMIT_LOCAL_STORE_H
#define SP_LIMIT_LOCAL_STORE_H

#include "cell.h"
#include "decision.h"

struct sp_local_segment; /* zeroed memory is an empty table */
size_t sp_local_segment_size(void);

enum sp_local_space {
    SP_SPACE_LOCAL, /* no Redis is configured: these are the buckets */
    SP_SPACE_SHARE, /* this gateway's share of the buckets in Redis, for when it is away */
    SP_SPACE_COUNT
};

struct sp_local_store {
    struct sp_local_segment *segment;
    uint64_t (*clock_us)(void); /* sp_clock_us() */
    uint64_t claims;            /* numbers this process's claims; begins at random so that no two processes' agree */
};

struct sp_local_bucket {
    unsigned row;
    uint64_t key; /* says the row too */
};

struct sp_local_policy {
    uint64_t cost;  /* units per token, ≥ 1 */
    uint64_t burst; /* tokens; cost · burst ≤ SPAN_MAX */
    uint32_t version;
    unsigned tag;
};

/* An attempt at a bucket: one cell, seen once, to be swapped once. Units and policies: see local_table.h. */
struct sp_local_attempt {
    struct sp_local_segment *segment;
    struct sp_local_row *row;
    struct sp_local_bucket bucket;
    uint64_t now; /* units */
    struct sp_local_policy policy;
    struct sp_cell *cell; /* the bucket's, or one claimed for it, or the overflow bucket; NULL: none */
    struct sp_cell seen;  /* what it held: the swap that ends the attempt starts from this */
    uint64_t full_at;     /* under `policy` */
    bool overflow;
};

/* What a take changed, to give it back. */
struct sp_local_taken {
    struct sp_local_bucket bucket;
    uint64_t cost, until; /* until: so long this take alone keeps the bucket from being full, whatever others give back */
    unsigned tag;
    bool overflow;
};

/* clock_us: the clock that every process of this machine shares, CLOCK_MONOTONIC. */
void sp_local_open(void *segment, uint64_t (*clock_us)(void), struct sp_local_store *ret);

/* From now on buckets of this limit follow this rate and burst, unless a generation at least as new has already said what they follow.
 * Any number of processes may say so at once. A rate or burst of zero is not a limit: not to be published. */
void sp_local_publish(struct sp_local_store *store, enum sp_local_space space, enum sp_limit_kind kind, unsigned slot, uint64_t generation,
                      const struct sp_rate *rate, uint64_t burst, uint64_t now_us);

/* kind: SP_LIMIT_REQUESTS or SP_LIMIT_TOKENS. */
struct sp_local_bucket sp_local_name(enum sp_local_space space, enum sp_limit_kind kind, unsigned slot, uint64_t subject_hash);
struct sp_local_bucket sp_local_bucket_of_key(uint64_t key); /* a name's key, kept elsewhere meanwhile */
/* The bucket will be asked about in a moment: where it lives is fetched, so that several are fetched at once. */
void sp_local_expect(const struct sp_local_store *store, struct sp_local_bucket bucket);
/* All or nothing of `cost` tokens. -ENOENT: no policy was published for this limit. ret_taken is set when admitted. */
int sp_local_take(struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, uint64_t cost, struct sp_limit_answer *ret,
                  struct sp_local_taken *ret_taken) SP_MUST_USE;
/* true: sp_local_take() would admit. false: that is for sp_local_peek() to say. */
bool sp_local_fits(const struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, uint64_t cost,
                   struct sp_local_attempt *ret_seen);
/* sp_local_take() of what sp_local_fits() has just seen to be there. false: it has no cell, or is not as it was seen: nothing was taken. */
bool sp_local_take_seen(const struct sp_local_attempt *seen, uint64_t cost, struct sp_limit_answer *ret, struct sp_local_taken *ret_taken);
/* What sp_local_take() would answer. *ret_present (may be NULL): whether the bucket has a cell. */
int sp_local_peek(struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, uint64_t cost, struct sp_limit_answer *ret,
                  bool *ret_present) SP_MUST_USE;
/* Undoes a take: all of it at once, less by what time has accrued since, and nothing where the policy changed. The clock is asked inside,
 * after the cell was read: this process may have stood still since the take. */
void sp_local_give_back(struct sp_local_store *store, const struct sp_local_taken *taken);
/* What a reservation turned out to cost: delta whole tokens, positive gives back (capped at full), negative charges, into debt where the
 * bucket has less; a debt takes at most four years to be made up for. Without a published policy, or where a bucket that found no room is
 * charged to the overflow bucket, giving back is left out: crowding never gives more. */
void sp_local_settle(struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, int64_t delta);
/* Whole tokens in the bucket now, below zero in debt. -ENOENT: no policy was published. */
int sp_local_level(struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, int64_t *ret) SP_MUST_USE;
/* The bucket will be full in `full_in_us`, whatever was known before; unless it may rise, not before it would have been. */
void sp_local_remember(struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, uint64_t full_in_us, bool may_rise);
uint64_t sp_local_overflowed(const struct sp_local_store *store);

#endif
