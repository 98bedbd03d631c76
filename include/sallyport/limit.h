/* limit: token buckets as pure integer functions, the store in shared memory, the store in Redis, and the limiter that asks them.
 * It must not know HTTP, principals or routes: it gets policies, facts and costs, and answers with a decision. */
#ifndef SALLYPORT_LIMIT_H
#define SALLYPORT_LIMIT_H

#include <sallyport/base.h>
#include <sallyport/config.h>
#include <sallyport/loop.h>

/* ---- The bucket (LIMITS): micro-tokens and microseconds, integers only; pure. ---- */
#define SP_MICRO UINT64_C(1000000)
struct sp_bucket_policy {
    struct sp_rate rate;
    uint64_t burst; /* whole tokens */
};
struct sp_bucket {
    int64_t level_micro; /* never above burst; below zero only by settlement */
    uint64_t time_us;    /* when that was the level; never goes back */
    uint64_t remainder;  /* of the division by the rate's period, so that nothing is lost to rounding */
};
struct sp_bucket_answer {
    bool admitted;
    bool never;          /* cost is larger than burst: it can never succeed */
    uint64_t remaining;  /* whole tokens left, rounded down, 0 when in debt */
    uint64_t reset_us;   /* until full */
    uint64_t retry_us;   /* until `cost` is there; 0 when admitted */
};
void sp_bucket_fill(const struct sp_bucket_policy *policy, uint64_t now_us, struct sp_bucket *bucket); /* a new bucket: full */
void sp_bucket_advance(const struct sp_bucket_policy *policy, uint64_t now_us, struct sp_bucket *bucket);
/* cost in whole tokens. Refused: nothing is taken. */
struct sp_bucket_answer sp_bucket_take(const struct sp_bucket_policy *policy, uint64_t now_us, uint64_t cost, struct sp_bucket *bucket);
/* delta in micro-tokens: positive gives back (capped at burst), negative charges (may become debt). */
void sp_bucket_settle(const struct sp_bucket_policy *policy, uint64_t now_us, int64_t delta_micro, struct sp_bucket *bucket);
/* Reload: accrue at the old policy until now, then min(level, new burst). */
void sp_bucket_change(const struct sp_bucket_policy *old_policy, const struct sp_bucket_policy *new_policy, uint64_t now_us, struct sp_bucket *bucket);

/* ---- The store in shared memory (segment SP_SEGMENT_BUCKETS) ---- */
size_t sp_limit_segment_size(void); /* constant; the pages that are never touched cost nothing */

/* ---- What a request is, for limits ---- */
struct sp_limit_facts {
    struct sp_span subject, tenant, key_id, model, route;
    uint8_t address[16]; /* IPv4-mapped or IPv6; IPv6 counts per /64 */
};

struct sp_limit_decision {
    bool admitted;
    bool never;              /* 400: the cost can never fit */
    bool degraded;           /* decided without the shared store */
    const struct sp_limit_config *refused_by;    /* NULL when admitted */
    /* Of the limit that refused, else of the tightest (least remaining / burst) one; NULL: no limit applied. For x-ratelimit-*. */
    const struct sp_limit_config *shown;
    uint64_t limit, remaining; /* of `shown`, requests */
    uint64_t reset_ms;       /* until full, rounded up */
    uint64_t retry_after_ms; /* when refused; rounded up, so that a lone client that waits it out succeeds */
    const struct sp_limit_config *shadow_refused; /* a shadow limit that would have refused; NULL: none */
};

/* One decision under way; embedded in the exchange. Zero to begin. */
struct sp_limit_request {
    const struct sp_limit_config *limits[SP_REQUEST_LIMITS_MAX]; /* the snapshot's; in the order given, each once */
    size_t n_limits;
    struct sp_limit_facts facts;
    uint64_t cost;                              /* requests: 1 */
    void (*done)(struct sp_limit_request *request); /* only after PENDING; never from inside sp_limiter_admit() */
    struct sp_limit_decision decision;          /* set when decided */
    /* private: */
    struct sp_list node;
    void *pending;
};
enum sp_limit_progress { SP_LIMIT_DECIDED, SP_LIMIT_PENDING };

struct sp_limiter; /* one per worker */
/* segment: the mapped SP_SEGMENT_BUCKETS of sp_limit_segment_size() bytes; hash_key: the same in every worker of this gateway. */
int sp_limiter_new(struct sp_loop *loop, void *segment, const struct sp_hash_key *hash_key, struct sp_limiter **ret) SP_MUST_USE;
void sp_limiter_free(struct sp_limiter *limiter);
/* A new snapshot: policies of its generation from now on; Redis reconnects only if where or who changed. Keeps a reference. */
int sp_limiter_configure(struct sp_limiter *limiter, struct sp_config *config) SP_MUST_USE;
/* All limits of the request together, all or nothing. Never waits longer than redis.deadline. */
enum sp_limit_progress sp_limiter_admit(struct sp_limiter *limiter, struct sp_limit_request *request) SP_MUST_USE;
void sp_limiter_cancel(struct sp_limiter *limiter, struct sp_limit_request *request); /* harmless when not pending; what a late reply took stays taken */

struct sp_limiter_state {
    bool shared;             /* Redis configured */
    bool up;                 /* connected and answering */
    bool breaker_open;
    uint64_t commands;       /* EVALSHA sent */
    uint64_t timeouts, errors, reconnects;
    uint64_t overflowed;     /* over all workers: admitted by a limit's overflow bucket, because the table in shared memory was crowded */
    char problem[160];       /* last one, a sentence; "" none */
};
void sp_limiter_state(const struct sp_limiter *limiter, struct sp_limiter_state *ret);

/* The level of one bucket without taking, from this machine's memory; for `ctl`. false: absent, which is full. */
bool sp_limiter_peek_local(struct sp_limiter *limiter, const struct sp_limit_config *limit, const struct sp_limit_facts *facts,
                           struct sp_bucket_answer *ret);

#endif
