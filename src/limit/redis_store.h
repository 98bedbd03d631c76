/* The buckets in Redis: takes, leases, settlements and looks, each decided by the script in one step; pipelined with all others of the same
 * loop turn; never waited for longer than the deadline. In a cluster one command per hash slot. It must not know where else tokens could
 * come from, or what is done without an answer. */
#ifndef SP_LIMIT_REDIS_STORE_H
#define SP_LIMIT_REDIS_STORE_H

#include "decision.h"
#include "redis_route.h"

#define SP_REDIS_BURST_MAX ((UINT64_C(1) << 52) / SP_MICRO) /* tokens; a larger burst is kept as this, and a debt is at most as large */

/* A rate as the script computes with it: micro-tokens per microsecond in lowest terms, den · (num + 1) < 2^53. Exact for every rate whose
 * amount times period in seconds stays below that; otherwise rounded down. */
struct sp_redis_ratio {
    uint64_t num, den;
};
struct sp_redis_ratio sp_redis_ratio_of(const struct sp_rate *rate);

/* One bucket of an ask. */
struct sp_redis_part {
    const struct sp_limit_config *limit; /* of a snapshot that the asker keeps until it is answered */
    enum sp_limit_kind kind;             /* REQUESTS or TOKENS */
    uint64_t cost;                       /* whole tokens to take; 0: only the lease */
    uint64_t lease;                      /* whole tokens wished for ahead: as many as there are, after all costs; only if everything is
                                            admitted. 0: none */
    /* The answer: */
    struct sp_limit_answer answer;
    uint64_t leased;                     /* granted */
    uint64_t taken_us;                   /* Redis' instant of this, for sp_redis_store_give_back() */
};
#define SP_REDIS_PARTS_MAX (2 * SP_REQUEST_LIMITS_MAX)

/* One question, all or nothing. Kept by the asker until `answered`, which is called once, never from inside sp_redis_store_ask(), unless
 * cancelled. */
struct sp_redis_ask {
    struct sp_redis_part part[SP_REDIS_PARTS_MAX];
    size_t n;
    const struct sp_limit_facts *facts; /* read inside sp_redis_store_ask() only */
    bool peek;                          /* nothing is taken */
    uint64_t now_us;                    /* given: sp_clock_us() a moment ago; 0: it is read */
    uint64_t sent_us;                   /* set: sp_clock_us() before it left */
    uint64_t due_us;                    /* given: sp_clock_us() at which the answer comes too late; 0: redis.deadline from now */
    /* told: the parts' answers hold. Not told: Redis did not say in time (or could not); what it takes all the same, when its reply comes
     * late, is given back to the bucket by the store. */
    void (*answered)(struct sp_redis_ask *ask, bool told);
    struct sp_list node; /* private */
    void *pending;
};

struct sp_redis_store;
/* identity: of this process, different in every process of every gateway and after every restart: names its settlements. */
int sp_redis_store_new(struct sp_loop *loop, uint64_t identity, struct sp_redis_store **ret) SP_MUST_USE;
void sp_redis_store_free(struct sp_redis_store *store); /* takes NULL; asks under way are forgotten without a call */
/* Borrowed until the next call. As sp_redis_route_configure(). */
int sp_redis_store_configure(struct sp_redis_store *store, const struct sp_config *config, struct sp_tls_client *tls) SP_MUST_USE;
/* 0: `answered` will be called. -errno: Redis is not to be asked now. In a cluster an ask whose parts live in several hash slots is several
 * commands; where one of them refuses, the store gives back what others took. */
int sp_redis_store_ask(struct sp_redis_store *store, struct sp_redis_ask *ask) SP_MUST_USE;
void sp_redis_store_cancel(struct sp_redis_store *store, struct sp_redis_ask *ask); /* what its reply takes is given back */

/* What an admitted ask took of one bucket, back again, because nothing came of it: of tokens all, of requests what keeps every interval
 * exact: less by what has accrued since. */
void sp_redis_store_give_back(struct sp_redis_store *store, const struct sp_limit_config *limit, enum sp_limit_kind kind,
                              const struct sp_limit_facts *facts, uint64_t cost, uint64_t taken_us);

/* Settlement: delta whole tokens, positive gives back (capped at the burst), negative charges (may become debt). Summed up per bucket and
 * sent at most every SP_SETTLE_MS, one command under way per bucket, each with an id that makes it count at most once; kept over outages,
 * SP_SETTLEMENTS_MAX buckets at most (beyond: payments back are dropped, charges as well, and both are counted). Of requests only charges:
 * what was taken of them is given back by sp_redis_store_give_back(), which knows when that was. */
#define SP_SETTLE_MS        100
#define SP_SETTLE_REPEAT_MS 300000 /* what was sent and not answered is repeated so long, then it is counted as lost */
#define SP_SETTLEMENTS_MAX  16384
void sp_redis_store_settle(struct sp_redis_store *store, const struct sp_limit_config *limit, enum sp_limit_kind kind,
                           const struct sp_limit_facts *facts, int64_t delta);
/* The same, with the key of the bucket (without prefix) at hand. */
void sp_redis_store_settle_known(struct sp_redis_store *store, const struct sp_limit_config *limit, enum sp_limit_kind kind,
                                 struct sp_span key, int64_t delta);
/* The same for a bucket known by its key alone (without prefix, as sp_subject_redis_key() wrote it): what another process held. */
void sp_redis_store_settle_key(struct sp_redis_store *store, struct sp_span key, int64_t delta);
/* Before the end of this process: what is not sent yet leaves in this turn. Whether everything is settled and answered; if not, turn the
 * loop and ask again. */
bool sp_redis_store_settled(struct sp_redis_store *store);

struct sp_redis_route *sp_redis_store_route(struct sp_redis_store *store); /* the store's */
void sp_redis_store_state(const struct sp_redis_store *store, struct sp_limiter_state *ret);

#endif
