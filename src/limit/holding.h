/* Holdings: what requests under way hold (reserved tokens, places), written down in shared memory, so that a sibling can settle for a
 * worker that was killed. One region per worker slot. A record is let go of exactly once: by its owner, or by who takes it over, decided by
 * one compare-and-swap of its state; a worker that stood still for long and comes back finds that it no longer holds anything. What was
 * taken counts as held from the next instruction on (sp_holding_note() before, sp_holding_count() after): a worker killed between the two
 * leaves something that stays taken, never something that comes back though nobody took it. It must not know Redis or buckets: it keeps
 * names and numbers. */
#ifndef SP_LIMIT_HOLDING_H
#define SP_LIMIT_HOLDING_H

#include <sallyport/base.h>
#include <sallyport/config.h>
#include <sallyport/limit.h>

#define SP_HOLDINGS_PER_WORKER 4096 /* requests with reservations or places at one time; more are not written down */
#define SP_HOLDING_ITEMS_MAX   8    /* of one request; more: not written down */
#define SP_HOLDING_KEY_MAX     191  /* of a bucket's key in Redis; longer: not written down, what was reserved stays spent */

enum sp_holding_what { SP_HELD_LOCAL = 1, SP_HELD_SHARE, SP_HELD_REDIS, SP_HELD_PLACE };

struct sp_holding_item {
    uint8_t what; /* enum: tokens in this machine's bucket, in its share, in Redis; a place */
    uint8_t key_len;
    uint64_t name;                    /* local bucket's key or place's name */
    char key[SP_HOLDING_KEY_MAX + 1]; /* Redis: without prefix */
};
struct sp_holding;          /* a record */
struct sp_holdings_segment; /* zeroed memory holds nothing */
struct sp_holdings {
    struct sp_holdings_segment *segment;
    unsigned slot;
    uint32_t next; /* no record before this one is free, as far as we know */
    bool settled;  /* what a predecessor left was looked for */
};
size_t sp_holdings_segment_size(void); /* pages never touched cost nothing */
/* Opens the region of this worker slot; what is there from a predecessor stays until sp_holdings_recover(). Two processes never have one
 * slot at the same time. */
void sp_holdings_open(struct sp_holdings_segment *segment, unsigned worker_slot, struct sp_holdings *ret);
/* An empty record; NULL: none is free. Before the first sp_holdings_recover() there is none. */
struct sp_holding *sp_holding_begin(struct sp_holdings *holdings);
/* Writes items behind those that count, in place of what was noted there before and never counted. false: they do not fit. */
bool sp_holding_note(struct sp_holding *holding, const struct sp_holding_item *items, size_t n);
size_t sp_holding_counted(const struct sp_holding *holding); /* the items that count: what is noted next comes behind them */
/* The key of an item, also after the end, until the next sp_holding_begin(). */
struct sp_span sp_holding_key(const struct sp_holding *holding, size_t item);
/* So many more of the items noted count, all at one instant, and of each that is of tokens `tokens` are reserved. false: somebody has taken
 * the record over and settles what counted before. */
bool sp_holding_count(struct sp_holding *holding, size_t n, uint64_t tokens);
void sp_holding_progress(struct sp_holding *holding, uint64_t tokens); /* what it has cost so far */
/* true: it was ours, and is let go of: the caller settles. false: somebody has taken it over and settles. The record is not ours any more.
 */
bool sp_holding_end(struct sp_holdings *holdings, struct sp_holding *holding);
/* Once a second: says that we are alive; calls `settle` for every record of our own region that a predecessor left (first call), and of
 * regions whose worker has been silent for SP_HOLDER_SILENT_MS, unless we have been silent ourselves: then from the next call on. used: what
 * it had cost when it was last told. */
typedef void sp_holding_left(void *owner, const struct sp_holding_item *items, size_t n, uint64_t reserved, uint64_t used);
void sp_holdings_recover(struct sp_holdings *holdings, uint64_t now_ms, sp_holding_left *settle, void *owner);

#endif
