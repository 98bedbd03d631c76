/* Concurrency: places that requests hold while they run. This machine's places are counted in shared memory by all workers, lock-free
 * (slots_table.h); with Redis, the machine first gets places there for itself, as many as it needs, and counts within them.
 *
 * In Redis one key per (limit, subject), see places.lua: for each gateway the places it has and the instant, by Redis' clock, at which they
 * expire unless it is heard of again (SP_PLACES_TTL_MS, told again every third of that). So a gateway that dies frees its places by itself,
 * and a worker that dies frees them through its record (holding.h). Places no longer needed are given back after SP_PLACES_LINGER_MS
 * (mode leased) or at once (mode strict): a busy caller costs no Redis command per request. So another gateway may wait that long for a
 * place that nobody uses, and SP_PLACES_TTL_MS for one of a gateway that died. Places that a gateway has to give up to others are nobody
 * else's until it has heard of that and said so: it does at once.
 *
 * What holds: at every instant the requests that run, over all gateways, are no more than the bound. It is exceeded only where requests run
 * that Redis does not know of, until it is told: Redis lost what it knew (restarted empty, failed over to a replica that was behind) or
 * on_outage let them in without it, for two seconds; they began before there was a Redis in the configuration; a gateway stood still as a
 * whole for SP_PLACES_TTL_MS while its requests went on; Redis' clock was set forward by more than two thirds of that. From then on nobody
 * gets a place until enough of them are done. So it is, too, where a bound is lowered.
 *
 * Gateways that want more than there is have equal parts (places.lua), after ten seconds at the latest.
 * Redis away: places that the machine has are used until they expire, and not kept for longer than they linger; more are not to be had
 * (SP_PLACE_AWAY). When it is back it is told what runs. */
#ifndef SP_LIMIT_SLOTS_H
#define SP_LIMIT_SLOTS_H

#include "lease.h"
#include "redis_route.h"

#define SP_PLACES_TTL_MS    15000
#define SP_PLACES_LINGER_MS 100

struct sp_slots_segment;
size_t sp_slots_segment_size(void);

struct sp_slots; /* one per worker */
int sp_slots_new(struct sp_loop *loop, struct sp_slots_segment *segment, const struct sp_hash_key *hash_key, struct sp_redis_route *route,
                 struct sp_slots **ret) SP_MUST_USE;
void sp_slots_free(struct sp_slots *slots);                                      /* takes NULL */
void sp_slots_configure(struct sp_slots *slots, const struct sp_config *config); /* borrowed until the next call */

/* A place that is wanted; kept by the asker until `answered`, once, never from inside sp_slots_take(), unless cancelled. */
struct sp_place_ask {
    const struct sp_limit_config *limit;
    const struct sp_limit_facts *facts; /* kept by the asker until answered */
    uint64_t due_us;
    /* told false: Redis did not say in time: take share, or as on_outage says. */
    void (*answered)(struct sp_place_ask *ask, bool told, bool taken);
    uint64_t name;       /* sp_slots_name_of() limit and facts; 0: it is yet to be found */
    struct sp_list node; /* private */
    void *pending;
};
enum sp_place_verdict { SP_PLACE_TAKEN, SP_PLACE_REFUSED, SP_PLACE_PENDING, SP_PLACE_AWAY /* Redis is not to be asked now */ };
/* space: as for buckets; LOCAL counts against limit->concurrency on this machine alone, SHARE against this gateway's part of it.
 * With Redis (space SP_SPACE_LOCAL is then not used) takes one of the machine's places, or asks for more. Where the table has no room for
 * the name nothing can be counted: REFUSED. */
enum sp_place_verdict sp_slots_take(struct sp_slots *slots, struct sp_place_ask *ask, bool without_redis, unsigned gateways);
void sp_slots_cancel(struct sp_slots *slots, struct sp_place_ask *ask);
/* A place back, by the name it was taken under: harmless when the count is 0 already. */
uint64_t sp_slots_name(const struct sp_slots *slots, const struct sp_limit_config *limit, const struct sp_limit_facts *facts);
/* The same, with the sp_subject_hash() of the facts. */
uint64_t sp_slots_name_of(const struct sp_slots *slots, const struct sp_limit_config *limit, uint64_t subject_hash);
void sp_slots_give(struct sp_slots *slots, uint64_t name);
/* Before the end of this process: what is not used any more is given back now. true: all of it has arrived; if not, turn the loop and ask
 * again. */
bool sp_slots_settled(struct sp_slots *slots);
/* Names that found no room in the table, over all workers: nothing was admitted for them. */
uint64_t sp_slots_crowded(const struct sp_slots *slots);
/* For `ctl limits`: in use here, and had from Redis (0 without it). */
void sp_slots_peek(const struct sp_slots *slots, uint64_t name, uint64_t *ret_used, uint64_t *ret_had);

#endif
