/* The limiter from inside: what its files share. A decision goes through these stages, each of which may have to wait for Redis:
 *
 *     places   (limiter_places.c)   of limits on requests at one time, one after the other
 *     buckets  (limiter_remote.c)   with Redis: leases, then one question for what they do not answer
 *              (limiter_local.c)    without: this machine's buckets, or what on_outage says
 *     the end  (limiter_settle.c)   admitted: what is held is remembered and written down; else everything taken goes back
 *
 * and a request that was admitted comes back to limiter_settle.c when it is over. */
#ifndef SP_LIMIT_LIMITER_H
#define SP_LIMIT_LIMITER_H

#include "holding.h"
#include "lease.h"
#include "local_store.h"
#include "redis_store.h"
#include "slots.h"

struct sp_limiter {
    struct sp_loop *loop;
    struct sp_hash_key hash_key;
    struct sp_config *config; /* NULL: not configured yet */
    struct sp_local_store local;
    struct sp_leases leases;
    struct sp_holdings holdings;
    struct sp_slots *slots;
    struct sp_redis_store *redis;
    struct sp_revocation_feed *feed;
    struct sp_pool decidings, refills;
    struct sp_list waiting;   /* requests, by their node */
    struct sp_list refilling; /* struct refill */
    struct sp_timer recovery;
    uint64_t leased, strict, settlements, recovered; /* as the state tells them */
};

#define SP_PLACE_RETRY_MS 1000 /* when a place will be free nobody knows */

/* Where what a request holds came from: sp_limit_request.from. */
enum sp_limit_from { SP_FROM_NOWHERE, SP_FROM_LOCAL, SP_FROM_SHARE, SP_FROM_REDIS };

/* A decision under way. Bit i of a mask: limits[i]. */
struct sp_deciding {
    struct sp_limiter *limiter;
    struct sp_limit_request *request;
    uint64_t due_us, now_us; /* with Redis: the latest instant for its answer; the clock, since nothing was waited for */
    /* Buckets, by kind: */
    uint32_t open[SP_LIMIT_BUCKETS];   /* not answered yet */
    uint32_t leased[SP_LIMIT_BUCKETS]; /* taken from a lease */
    uint32_t asked[SP_LIMIT_BUCKETS];  /* taken in Redis */
    uint32_t taken[SP_LIMIT_BUCKETS];  /* taken here, in `space` */
    enum sp_local_space space;
    bool degraded;
    struct sp_limit_answer answers[SP_LIMIT_BUCKETS][SP_REQUEST_LIMITS_MAX];
    uint64_t expiry_us[SP_LIMIT_BUCKETS][SP_REQUEST_LIMITS_MAX]; /* of what is leased */
    uint64_t wish[SP_LIMIT_BUCKETS][SP_REQUEST_LIMITS_MAX];      /* ahead, not yet sent */
    uint64_t asked_us[SP_LIMIT_BUCKETS][SP_REQUEST_LIMITS_MAX];  /* Redis' instant at which it took */
    struct sp_local_taken here[SP_LIMIT_BUCKETS][SP_REQUEST_LIMITS_MAX];
    /* Places: */
    size_t next_place;
    bool place_pending, place_noted;
    const struct sp_limit_config *place_refused, *place_shadowed;
    struct sp_place_ask place;
    struct sp_redis_ask ask;
};

_Static_assert(SP_REQUEST_LIMITS_MAX <= 32, "a bit per limit");

static inline uint64_t sp_cost_of(const struct sp_limit_request *request, size_t kind) {
    return kind == SP_LIMIT_TOKENS ? request->tokens : request->cost;
}
/* The name that a place of limits[i] is taken under. */
static inline uint64_t sp_place_name(const struct sp_limiter *limiter, const struct sp_limit_request *request, size_t i) {
    return sp_slots_name_of(limiter->slots, request->limits[i], request->whose[i]);
}
static inline bool sp_deciding_refused(const struct sp_deciding *deciding) {
    for (size_t kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (size_t i = 0; i < deciding->request->n_limits; i++)
            if (sp_answer_refuses(deciding->request->limits[i], &deciding->answers[kind][i]))
                return true;
    return false;
}

/* limiter.c. A decision that had to wait goes on, and is told when it is made. */
void sp_deciding_resume(struct sp_deciding *deciding);

/* limiter_places.c. true: all are taken, or one refused; false: Redis is asked, sp_deciding_resume() will be called. */
bool sp_deciding_places(struct sp_deciding *deciding);

/* limiter_local.c: answers every open bucket in this space, at once. All or nothing, what was taken elsewhere left aside. */
void sp_deciding_here(struct sp_deciding *deciding, enum sp_local_space space);
/* Bit i of buckets[kind]: the bucket of limits[i] will be asked about in a moment. */
void sp_limiter_expect(struct sp_limiter *limiter, const struct sp_limit_request *request, const uint32_t buckets[SP_LIMIT_BUCKETS],
                       enum sp_local_space space);
void sp_limiter_publish(struct sp_limiter *limiter, const struct sp_config *config);
/* What Redis just said is where this gateway's share begins, should Redis be away next. */
void sp_limiter_remember(struct sp_limiter *limiter, const struct sp_limit_config *limit, enum sp_limit_kind kind, uint64_t hash,
                         uint64_t now_us, const struct sp_bucket_answer *told);

/* limiter_remote.c */
void sp_deciding_expect_leases(const struct sp_deciding *deciding);
/* true: every bucket is answered; false: Redis is asked, sp_deciding_resume() will be called. */
bool sp_deciding_with_redis(struct sp_deciding *deciding);
void sp_limiter_forget_leases(struct sp_limiter *limiter, const struct sp_config *old, const struct sp_config *config);
void sp_limiter_init_refills(struct sp_limiter *limiter);
void sp_limiter_drop_refills(struct sp_limiter *limiter); /* after the store is gone */

/* limiter_settle.c */
void sp_deciding_undo(struct sp_deciding *deciding);        /* everything taken so far goes back */
void sp_deciding_keep(struct sp_deciding *deciding);        /* everything taken is the request's until it is finished */
void sp_deciding_note_place(struct sp_deciding *deciding);  /* before the next place is asked for */
void sp_deciding_count_place(struct sp_deciding *deciding); /* it was taken */
void sp_limiter_recover(struct sp_limiter *limiter);

#endif
