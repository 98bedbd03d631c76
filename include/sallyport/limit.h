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
 * A refused request takes nothing from any limit. A shadow limit refuses nobody: it is charged when it would have admitted and the request
 * was admitted, and is otherwise only named.
 * Without Redis (on_outage) the decision is `degraded`, whatever it says: share — this gateway's part of rate and burst, at least one
 * token, from the level Redis last told; open — no say; closed — refused, to be tried again after a second. What was admitted during an
 * outage is not told to Redis afterwards. */
struct sp_limit_decision {
    bool admitted;
    bool never;                               /* 400: the cost can never fit */
    bool degraded;                            /* decided without the shared store */
    const struct sp_limit_config *refused_by; /* NULL when admitted */
    /* Of the limit that refused, else of the tightest (least remaining / burst) one; NULL: no limit applied. For x-ratelimit-*. */
    const struct sp_limit_config *shown;
    uint64_t limit, remaining;                    /* of `shown`, requests; limit is the burst in force, which remaining counts down from */
    uint64_t reset_ms;                            /* until full, rounded up */
    uint64_t retry_after_ms;                      /* when refused; rounded up, so that a lone client that waits it out succeeds */
    const struct sp_limit_config *shadow_refused; /* a shadow limit that would have refused; NULL: none */
};

/* One decision under way; embedded in the exchange. Zero to begin. */
struct sp_limit_request {
    const struct sp_limit_config *limits[SP_REQUEST_LIMITS_MAX]; /* the snapshot's; in the order given, each once */
    size_t n_limits;
    struct sp_limit_facts facts;
    uint64_t cost;                                  /* requests: 1 */
    bool peek;                                      /* would the cost be there? Nothing is taken, whatever the answer */
    void (*done)(struct sp_limit_request *request); /* only after PENDING; never from inside sp_limiter_admit() */
    struct sp_limit_decision decision;              /* set when decided */
    /* private: */
    struct sp_list node;
    void *pending;
};
enum sp_limit_progress { SP_LIMIT_DECIDED, SP_LIMIT_PENDING };

struct sp_tls_client; /* net.h */
struct sp_limiter;    /* one per worker */
/* segment: the mapped SP_SEGMENT_BUCKETS of sp_limit_segment_size() bytes; hash_key: the same in every worker of this gateway. */
int sp_limiter_new(struct sp_loop *loop, void *segment, const struct sp_hash_key *hash_key, struct sp_limiter **ret) SP_MUST_USE;
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
/* All limits of the request together, all or nothing. Never waits longer than redis.deadline. Without Redis it decides at once, allocates
 * nothing and makes no system call. After PENDING, `done` is called exactly once unless cancelled; it may free the request. */
enum sp_limit_progress sp_limiter_admit(struct sp_limiter *limiter, struct sp_limit_request *request) SP_MUST_USE;
/* Harmless when not pending. What a late reply took stays taken. */
void sp_limiter_cancel(struct sp_limiter *limiter, struct sp_limit_request *request);

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
    uint64_t overflowed; /* over all workers: admitted by a limit's overflow bucket, because the table in shared memory was crowded */
    char problem[SP_LIMITER_PROBLEM_MAX]; /* last one, a sentence; "" none */
};
void sp_limiter_state(const struct sp_limiter *limiter, struct sp_limiter_state *ret);

/* The level of one bucket without taking, from this machine's memory; for `ctl`. false: absent, which is full. */
bool sp_limiter_peek_local(struct sp_limiter *limiter, const struct sp_limit_config *limit, const struct sp_limit_facts *facts,
                           struct sp_bucket_answer *ret);

#endif
