/* The limiter: asks Redis where there is one, this machine's buckets where there is none, and what each limit says of outages when Redis
 * does not answer. */
#include <errno.h>

#include "local_store.h"
#include "redis_store.h"
#include "revocation_feed.h"
#include "subject.h"

#define CLOSED_RETRY_US SP_MICRO /* a limit that is closed while Redis is away is tried again after a second */

struct sp_limiter {
    struct sp_local_store local;
    struct sp_hash_key hash_key;
    struct sp_config *config;
    struct sp_redis_store *redis;
    struct sp_revocation_feed *feed;
};

/* ---- Decisions on this machine ---- */

/* One request's limits, asked in one space of the table. */
struct session {
    struct sp_limiter *limiter;
    const struct sp_limit_request *request;
    enum sp_local_space space;
    uint64_t now_us;
    struct sp_limit_answer answers[SP_REQUEST_LIMITS_MAX];
    struct sp_local_taken taken[SP_REQUEST_LIMITS_MAX];
    uint16_t in_table; /* bit i: limits[i] has a bucket to ask */
};

_Static_assert(SP_REQUEST_LIMITS_MAX <= 16, "a bit per limit");

/* This gateway's part of a limit whose whole is in Redis. The rates of all gateways add up to the rate; so do the bursts where each gets a
 * whole token, else each has one, for a gateway that may never admit anything would be closed. */
static void publish(struct sp_limiter *limiter, enum sp_local_space space, const struct sp_limit_config *limit, uint64_t generation,
                    uint64_t now_us) {
    struct sp_rate rate = limit->requests;
    uint64_t burst = limit->request_burst;
    if (rate.amount == 0 || rate.period_us == 0 || burst == 0)
        return;
    if (space == SP_SPACE_SHARE && limiter->config->redis) {
        uint64_t gateways = sp_max(limiter->config->redis->gateways, 1u);
        if (__builtin_mul_overflow(rate.period_us, gateways, &rate.period_us))
            rate.period_us = UINT64_MAX;
        burst = sp_max(burst / gateways, (uint64_t)1);
    }
    sp_local_publish(&limiter->local, space, limit->slot, generation, &rate, burst, now_us);
}

static struct sp_local_bucket bucket_of(const struct session *session, size_t i) {
    const struct sp_limit_config *limit = session->request->limits[i];
    return sp_local_name(session->space, limit->slot, sp_subject_hash(&session->limiter->hash_key, limit->by, &session->request->facts));
}

/* Nobody has published this limit: the request brought it from a snapshot that this process was never configured with. */
static void publish_late(const struct session *session, size_t i) {
    publish(session->limiter, session->space, session->request->limits[i], 0, session->now_us);
}

static void peek(struct session *session, size_t i) {
    struct sp_local_store *local = &session->limiter->local;
    struct sp_local_bucket bucket = bucket_of(session, i);
    if (sp_local_peek(local, bucket, session->now_us, session->request->cost, &session->answers[i], NULL) < 0) {
        publish_late(session, i);
        (void)!sp_local_peek(local, bucket, session->now_us, session->request->cost, &session->answers[i], NULL);
    }
}

static bool take(struct session *session, size_t i) {
    struct sp_local_store *local = &session->limiter->local;
    struct sp_local_bucket bucket = bucket_of(session, i);
    uint64_t cost = session->request->cost;
    if (sp_local_take(local, bucket, session->now_us, cost, &session->answers[i], &session->taken[i]) < 0) {
        publish_late(session, i);
        (void)!sp_local_take(local, bucket, session->now_us, cost, &session->answers[i], &session->taken[i]);
    }
    return session->answers[i].asked && session->answers[i].bucket.admitted;
}

static bool any_refuses(const struct session *session) {
    for (size_t i = 0; i < session->request->n_limits; i++)
        if (sp_answer_refuses(session->request->limits[i], &session->answers[i]))
            return true;
    return false;
}

/* All or nothing. With several limits each is looked at before any is taken from, so that a request that will be refused does not get in
 * the way of others even for a moment; giving back is only for what changed between the look and the take. */
static void ask_table(struct session *session) {
    const struct sp_limit_request *request = session->request;
    bool alone = request->n_limits == 1 && !request->peek;
    for (size_t i = 0; i < request->n_limits && !alone; i++)
        if (session->in_table >> i & 1)
            peek(session, i);
    if (request->peek || any_refuses(session))
        return;
    uint32_t taken = 0;
    for (size_t i = 0; i < request->n_limits; i++) {
        if (!(session->in_table >> i & 1))
            continue;
        if (take(session, i))
            taken |= 1u << i;
        else if (sp_answer_refuses(request->limits[i], &session->answers[i]))
            break;
    }
    if (!any_refuses(session))
        return;
    for (size_t i = 0; i < request->n_limits; i++)
        if (taken >> i & 1)
            sp_local_give_back(&session->limiter->local, &session->taken[i]);
}

static struct sp_limit_answer closed_answer(const struct sp_limit_config *limit) {
    return (struct sp_limit_answer){
        .asked = true, .burst = limit->request_burst, .bucket = {.reset_us = CLOSED_RETRY_US, .retry_us = CLOSED_RETRY_US}};
}

/* space says why we decide here: these are the buckets, or Redis is away. */
static void decide_here(struct sp_limiter *limiter, struct sp_limit_request *request, enum sp_local_space space) {
    struct session session __attribute__((uninitialized)); /* two kilobytes, of which a request uses a few words */
    session.limiter = limiter;
    session.request = request;
    session.space = space;
    session.now_us = sp_clock_us();
    session.in_table = 0;
    for (size_t i = 0; i < request->n_limits; i++) {
        const struct sp_limit_config *limit = request->limits[i];
        session.answers[i] = (struct sp_limit_answer){0};
        if (limit->requests.amount == 0)
            continue;
        if (space == SP_SPACE_LOCAL || limit->on_outage == SP_OUTAGE_SHARE)
            session.in_table |= (uint16_t)(1u << i);
        else if (limit->on_outage == SP_OUTAGE_CLOSED)
            session.answers[i] = closed_answer(limit);
    }
    ask_table(&session);
    sp_decision_combine(request->limits, session.answers, request->n_limits, &request->decision);
    request->decision.degraded = space == SP_SPACE_SHARE;
}

/* ---- Decisions by Redis ---- */

/* What Redis just said is where this gateway's share begins, should Redis be away next. The share has the same time to full: rate and burst
 * are both divided. */
static void remember(struct sp_limiter *limiter, const struct sp_limit_request *request, const struct sp_limit_answer *answers) {
    struct session session = {.limiter = limiter, .request = request, .space = SP_SPACE_SHARE, .now_us = sp_clock_us()};
    for (size_t i = 0; i < request->n_limits; i++)
        if (answers[i].asked && request->limits[i]->on_outage == SP_OUTAGE_SHARE)
            sp_local_remember(&limiter->local, bucket_of(&session, i), session.now_us, answers[i].bucket.reset_us);
}

static void answered(void *owner, struct sp_limit_request *request, const struct sp_limit_answer *answers) {
    struct sp_limiter *limiter = owner;
    if (answers) {
        remember(limiter, request, answers);
        sp_decision_combine(request->limits, answers, request->n_limits, &request->decision);
    } else {
        decide_here(limiter, request, SP_SPACE_SHARE);
    }
    request->done(request);
}

enum sp_limit_progress sp_limiter_admit(struct sp_limiter *limiter, struct sp_limit_request *request) {
    request->pending = NULL;
    bool counted = false;
    for (size_t i = 0; i < request->n_limits; i++)
        counted |= request->limits[i]->requests.amount > 0;
    if (!counted) {
        request->decision = (struct sp_limit_decision){.admitted = true};
        return SP_LIMIT_DECIDED;
    }
    if (!limiter->config || !limiter->config->redis) {
        decide_here(limiter, request, SP_SPACE_LOCAL);
        return SP_LIMIT_DECIDED;
    }
    if (sp_redis_store_ask(limiter->redis, request) == 0)
        return SP_LIMIT_PENDING;
    decide_here(limiter, request, SP_SPACE_SHARE);
    return SP_LIMIT_DECIDED;
}

void sp_limiter_cancel(struct sp_limiter *limiter, struct sp_limit_request *request) { sp_redis_store_cancel(limiter->redis, request); }

/* ---- Life ---- */

int sp_limiter_new(struct sp_loop *loop, void *segment, const struct sp_hash_key *hash_key, struct sp_limiter **ret) {
    struct sp_limiter *limiter = calloc(1, sizeof *limiter);
    if (!limiter)
        return -ENOMEM;
    limiter->hash_key = *hash_key;
    sp_local_open(segment, sp_clock_us, &limiter->local);
    int r = sp_redis_store_new(loop, answered, limiter, &limiter->redis);
    if (r == 0)
        r = sp_revocation_feed_new(loop, sp_redis_store_client(limiter->redis), &limiter->feed);
    if (r < 0) {
        sp_redis_store_free(limiter->redis);
        free(limiter);
        return r;
    }
    *ret = limiter;
    return 0;
}

void sp_limiter_free(struct sp_limiter *limiter) {
    if (!limiter)
        return;
    sp_redis_store_free(limiter->redis);
    sp_revocation_feed_free(limiter->feed);
    sp_config_unref(limiter->config);
    free(limiter);
}

int sp_limiter_configure(struct sp_limiter *limiter, struct sp_config *config, struct sp_tls_client *redis_tls) {
    struct sp_config *old = limiter->config;
    uint64_t now_us = sp_clock_us();
    limiter->config = sp_config_ref(config);
    enum sp_local_space space = config->redis ? SP_SPACE_SHARE : SP_SPACE_LOCAL;
    for (size_t i = 0; i < config->n_limits; i++)
        publish(limiter, space, &config->limits[i], config->generation, now_us);
    int r = sp_redis_store_configure(limiter->redis, config, redis_tls);
    sp_revocation_feed_configure(limiter->feed, config);
    sp_config_unref(old);
    return r;
}

void sp_limiter_state(const struct sp_limiter *limiter, struct sp_limiter_state *ret) {
    *ret = (struct sp_limiter_state){0};
    sp_redis_store_state(limiter->redis, ret);
    ret->overflowed = sp_local_overflowed(&limiter->local);
    const char *feed = sp_revocation_feed_problem(limiter->feed);
    if (!ret->problem[0])
        memcpy(ret->problem, feed, strlen(feed) + 1);
}

void sp_limiter_share_revocations(struct sp_limiter *limiter, const struct sp_revocations *known, sp_revoked_elsewhere *learned, void *owner) {
    sp_revocation_feed_share(limiter->feed, known, learned, owner);
}

void sp_limiter_tell_revocations(struct sp_limiter *limiter) { sp_revocation_feed_tell(limiter->feed); }

bool sp_limiter_peek_local(struct sp_limiter *limiter, const struct sp_limit_config *limit, const struct sp_limit_facts *facts,
                           struct sp_bucket_answer *ret) {
    bool shared = limiter->config && limiter->config->redis, present = false;
    uint64_t hash = sp_subject_hash(&limiter->hash_key, limit->by, facts);
    struct sp_local_bucket bucket = sp_local_name(shared ? SP_SPACE_SHARE : SP_SPACE_LOCAL, limit->slot, hash);
    struct sp_limit_answer answer;
    if (sp_local_peek(&limiter->local, bucket, sp_clock_us(), 1, &answer, &present) < 0 || !present)
        return false;
    *ret = answer.bucket;
    return true;
}
