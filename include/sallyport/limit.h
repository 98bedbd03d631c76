/* limit: token buckets as pure integer functions, the store in shared memory, the store in Redis, and the limiter that asks them.
 * It must not know HTTP, principals or routes: it gets policies, facts and costs, and answers with a decision. */
#ifndef SALLYPORT_LIMIT_H
#define SALLYPORT_LIMIT_H

#include <sallyport/base.h>
#include <sallyport/config.h>
#include <sallyport/loop.h>
#include <sallyport/revocations.h>

/* ---- The bucket (LIMITS): micro-tokens and microseconds, integers only; pure. ----
 * A burst beyond 2^63 micro-tokens is kept as that. A clock before the bucket's own counts as the bucket's own: nothing accrues, and the
 * answer's waits, which start at the clock given, are longer by the difference. */
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
    bool never;         /* cost is larger than burst: it can never succeed */
    uint64_t remaining; /* whole tokens left, rounded down, 0 when in debt */
    uint64_t reset_us;  /* until full */
    uint64_t retry_us;  /* until `cost` is there; 0 when admitted; UINT64_MAX: never */
};
void sp_bucket_fill(const struct sp_bucket_policy *policy, uint64_t now_us, struct sp_bucket *bucket); /* a new bucket: full */
void sp_bucket_advance(const struct sp_bucket_policy *policy, uint64_t now_us, struct sp_bucket *bucket);
/* cost in whole tokens. Refused: nothing is taken. */
struct sp_bucket_answer sp_bucket_take(const struct sp_bucket_policy *policy, uint64_t now_us, uint64_t cost, struct sp_bucket *bucket);
/* delta in micro-tokens: positive gives back (capped at burst), negative charges (may become debt). */
void sp_bucket_settle(const struct sp_bucket_policy *policy, uint64_t now_us, int64_t delta_micro, struct sp_bucket *bucket);
/* Reload: accrue at the old policy until now, then min(level, new burst). */
void sp_bucket_change(const struct sp_bucket_policy *old_policy, const struct sp_bucket_policy *new_policy, uint64_t now_us,
                      struct sp_bucket *bucket);

/* ---- The store in shared memory (segment SP_SEGMENT_BUCKETS) ----
 * All workers of one machine, on CLOCK_MONOTONIC; lock-free; zeroed memory is empty and a killed worker leaves nothing to repair. A
 * bucket's rate is the configured one or less, by at most amount / (64 · period in µs). Every worker follows the policy of the newest
 * generation that any of them was configured with. See src/limit/local_table.h. */
size_t sp_limit_segment_size(void); /* constant; the pages that are never touched cost nothing */

/* ---- What a request is, for limits ---- */
struct sp_limit_facts {
    struct sp_span subject, tenant, key_id, model, route;
    uint8_t address[16]; /* IPv4-mapped or IPv6; IPv6 counts per /64 */
};

/* ---- Decisions ----
 * A limit may bound three things, each of them its own bucket or count: requests, tokens of language models, requests at one time.
 * A refused request takes nothing from any of them: what one gave is given back when another refuses. A shadow limit refuses nobody: it is
 * charged when it would have admitted and the request was admitted, and is otherwise only named.
 * Without Redis (on_outage) the decision is `degraded`, whatever it says: share — this gateway's part of rate, burst and concurrency, at
 * least one, from the level Redis last told; open — no say; closed — refused, to be tried again after a second. */
enum sp_limit_kind { SP_LIMIT_REQUESTS, SP_LIMIT_TOKENS, SP_LIMIT_CONCURRENCY, SP_LIMIT_KINDS };

/* A bucket as clients are shown it. */
struct sp_limit_view {
    const struct sp_limit_config *limit; /* NULL: no limit bounds this */
    uint64_t burst, remaining;           /* burst: the one in force, which remaining counts down from */
    uint64_t reset_ms;                   /* until full, rounded up */
};

struct sp_limit_decision {
    bool admitted;
    bool never;                               /* 400: the cost can never fit; `most` says what could */
    bool degraded;                            /* decided without the shared store */
    const struct sp_limit_config *refused_by; /* NULL when admitted */
    enum sp_limit_kind refused_kind;
    uint64_t asked, most;                     /* refused: what was asked of refused_by, and its burst (concurrency: its bound) */
    /* Of requests and of tokens: the limit that refused, else the tightest (least remaining / burst) one. For x-ratelimit-*. */
    struct sp_limit_view shown[2];            /* by SP_LIMIT_REQUESTS and SP_LIMIT_TOKENS */
    uint64_t retry_after_ms;                  /* when refused; rounded up, so that a lone client that waits it out succeeds.
                                                 Concurrency: an estimate, 1 s where nothing is known */
    const struct sp_limit_config *shadow_refused; /* a shadow limit that would have refused; NULL: none */
};

/* One decision under way, and what it holds until sp_limiter_finish(); embedded in the exchange. Zero to begin. */
struct sp_limit_request {
    const struct sp_limit_config *limits[SP_REQUEST_LIMITS_MAX]; /* the snapshot's; in the order given, each once */
    size_t n_limits;
    struct sp_limit_facts facts;                    /* borrowed until finish */
    uint64_t cost;                                  /* requests: 1 */
    uint64_t tokens;                                /* to reserve of limits on tokens; 0: none is asked about tokens */
    bool stays;                                     /* it takes a place of limits on concurrency until it is finished */
    bool peek;                                      /* would the cost be there? Nothing is taken, whatever the answer */
    void (*done)(struct sp_limit_request *request); /* only after PENDING; never from inside sp_limiter_admit() */
    struct sp_limit_decision decision;              /* set when decided */
    /* private: */
    struct sp_list node;
    void *pending;
    uint64_t whose[SP_REQUEST_LIMITS_MAX];  /* by limit: the facts it counts by, as a hash */
    uint8_t from[2][SP_REQUEST_LIMITS_MAX]; /* where what was taken came from, by kind and limit: enum in limiter.h */
    uint8_t noted[SP_REQUEST_LIMITS_MAX];   /* by limit: 1 + the item of `holding` that names what tokens were taken from; 0: none */
    uint64_t tokens_held;                   /* reserved and not settled yet */
    uint32_t places;                        /* bit i: holds a place of limits[i] */
    struct sp_holding *holding;             /* its record in shared memory; NULL: none */
};
enum sp_limit_progress { SP_LIMIT_DECIDED, SP_LIMIT_PENDING };

struct sp_tls_client; /* net.h */
struct sp_limiter;    /* one per worker */
/* segment: the mapped SP_SEGMENT_BUCKETS of sp_limit_segment_size() bytes; hash_key: the same in every worker of this gateway, another in
 * every other gateway. worker_slot: what a worker that had this slot before and died still held is settled by us, and so is what a sibling
 * holds that has not been heard of for SP_HOLDER_SILENT_MS. */
#define SP_HOLDER_SILENT_MS 15000
int sp_limiter_new(struct sp_loop *loop, void *segment, const struct sp_hash_key *hash_key, unsigned worker_slot, struct sp_limiter **ret) SP_MUST_USE;
void sp_limiter_free(struct sp_limiter *limiter); /* takes NULL; requests under way are not told */
/* A new snapshot: policies of its generation from now on; Redis reconnects only if where, which database or what its TLS is made of changed,
 * and then requests under way are decided without it, `done` being called from inside. Another user or password is told on the connection
 * that is there, between decisions. Keeps references. redis_tls is for rediss://, else NULL. Not to be called from inside `done`.
 * -EINVAL: Redis cannot be reached as configured (a host that is neither an address nor "localhost"; rediss:// without redis_tls): the
 * snapshot is in force all the same, degraded, and the state's problem says so.
 *
 * Which policy a bucket in Redis follows, where gateways differ: the one loaded last. Each decision carries sp_config.loaded_wall_ms of the
 * snapshot its limits are from (0 when that is not the current one); the bucket keeps the highest it has seen together with that policy,
 * and a lower or equal one uses what is stored. One from the future counts as Redis' now, so a gateway whose clock is wrong does not rule
 * for ever. A user of its own needs: ~<prefix>* +evalsha +script|load +get +set +time +ping; with API keys +eval
 * +zrange +zrangebyscore +zscore +zadd +zremrangebyrank; +select for a database, and +config|get or
 * +info to see that nothing is evicted. Keys are described in src/limit/subject.h, values in src/limit/token_bucket.lua. */
int sp_limiter_configure(struct sp_limiter *limiter, struct sp_config *config, struct sp_tls_client *redis_tls) SP_MUST_USE;
/* All limits of the request together, all or nothing. Never waits longer than redis.deadline. Without Redis, and where leases serve, it
 * decides at once, allocates nothing and makes no system call. After PENDING, `done` is called exactly once unless cancelled; it may free
 * the request (after sp_limiter_finish()). */
enum sp_limit_progress sp_limiter_admit(struct sp_limiter *limiter, struct sp_limit_request *request) SP_MUST_USE;
/* What the request has cost so far, should this process be killed: sibling workers settle by it. No system call, no allocation. */
void sp_limiter_progress(struct sp_limiter *limiter, struct sp_limit_request *request, uint64_t tokens);
/* The one end of every request, whatever became of it: pending, it is cancelled (what a late reply takes is given back); refused, nothing
 * is left to do; admitted, the difference between what was reserved and `tokens`, what it really took, is paid back or charged (as debt
 * where the bucket has less), and its places are free. A second call does nothing. Settlement reaches Redis within 0.2 s, or when it is
 * back: bounded memory, at most once each, in any order. */
void sp_limiter_finish(struct sp_limiter *limiter, struct sp_limit_request *request, uint64_t tokens);
/* Before the end of this process: what is left to be settled in Redis leaves in this turn. true: everything has arrived. */
bool sp_limiter_settled(struct sp_limiter *limiter);

/* ---- API keys revoked by any of the gateways that share the Redis ----
 * `known` is what this worker knows (borrowed for the limiter's life, also to tell it to a Redis that does not); `learned` gets what Redis lists,
 * most of it known already, at most 0.4 s after it was written there. Without Redis nothing happens. See src/limit/revocation_feed.h. */
typedef void sp_revoked_elsewhere(void *owner, const struct sp_revocation *listed, size_t n);
void sp_limiter_share_revocations(struct sp_limiter *limiter, const struct sp_revocations *known, sp_revoked_elsewhere *learned, void *owner);
void sp_limiter_tell_revocations(struct sp_limiter *limiter); /* something was added to `known`: now, or when Redis is back */

#define SP_LIMITER_PROBLEM_MAX 400
struct sp_limiter_state {
    bool shared; /* Redis configured */
    bool up;     /* connected and answering */
    bool breaker_open;
    uint64_t commands; /* EVALSHA sent */
    uint64_t timeouts, errors, reconnects;
    uint64_t overflowed; /* over all workers: admitted by a limit's overflow bucket, or refused a place, because a table in shared memory was crowded */
    uint64_t leased, strict;       /* with Redis: decisions without asking it, and questions to it */
    uint64_t settlements;          /* requests whose tokens were settled in Redis */
    uint64_t settlements_dropped;  /* given up: more buckets than can be kept, no Redis configured any more, or nobody knows for too long
                                      whether they arrived */
    uint64_t recovered;            /* requests of killed workers that we settled */
    char problem[SP_LIMITER_PROBLEM_MAX]; /* last one, a sentence; "" none */
};
void sp_limiter_state(const struct sp_limiter *limiter, struct sp_limiter_state *ret);

/* Whether a bucket (requests or tokens) of this limit is leased where there is a Redis: mode leased, and a burst that leasing fits. Else each
 * decision asks. */
bool sp_limit_leasable(const struct sp_limit_config *limit, enum sp_limit_kind kind) SP_MUST_USE;

/* What this machine's memory says of one limit and subject, nothing being taken; for `ctl limits`. */
struct sp_limit_level {
    bool present;        /* it has a bucket here, else it is full, or only Redis knows */
    int64_t level;       /* whole tokens, below zero in debt; with Redis: of this gateway's share, as Redis told last */
    uint64_t burst;      /* of the bucket here; 0: the limit does not bound this */
    uint64_t leased;     /* tokens held ahead, alive now */
    uint64_t refused_us; /* Redis has refused it for that much longer; 0: not */
};
struct sp_limit_levels {
    struct sp_limit_level bucket[2]; /* by SP_LIMIT_REQUESTS and SP_LIMIT_TOKENS */
    uint64_t places_used, places_had; /* here, and had from Redis (0 without it) */
};
void sp_limiter_levels(struct sp_limiter *limiter, const struct sp_limit_config *limit, const struct sp_limit_facts *facts,
                       struct sp_limit_levels *ret);

#endif
