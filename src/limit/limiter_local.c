/* Decisions on this machine: in its own buckets where no Redis is configured, in its share of them where Redis is away. */
#include "limiter.h"

#define AWAY_RETRY_US  SP_MICRO /* what is refused because Redis is away is tried again after a second */
#define STOOD_STILL_US 1000     /* a decision that took longer was interrupted: the clock it went by is not to be trusted any more */

/* Open buckets that are asked in the table. */
struct session {
    struct sp_deciding *deciding;
    enum sp_local_space space;
    uint64_t now_us;
    uint32_t in_table[SP_LIMIT_BUCKETS];
    bool all_fit; /* as they were seen */
    struct sp_local_attempt seen[SP_LIMIT_BUCKETS][SP_REQUEST_LIMITS_MAX];
};

/* ---- Policies ---- */

/* This gateway's part of a limit whose whole is in Redis. The rates of all gateways add up to the rate; so do the bursts where each gets a
 * whole token, else each has one, for a gateway that may never admit anything would be closed. */
static void publish(struct sp_limiter *limiter, enum sp_local_space space, const struct sp_limit_config *limit, uint64_t generation,
                    const struct sp_config *config) {
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++) {
        struct sp_rate rate = *sp_limit_rate(limit, kind);
        uint64_t burst = sp_limit_burst(limit, kind);
        if (rate.amount == 0 || rate.period_us == 0 || burst == 0)
            continue;
        if (space == SP_SPACE_SHARE && config->redis) {
            uint64_t gateways = sp_max(config->redis->gateways, 1u);
            if (__builtin_mul_overflow(rate.period_us, gateways, &rate.period_us))
                rate.period_us = UINT64_MAX;
            burst = sp_max(burst / gateways, (uint64_t)1);
        }
        sp_local_publish(&limiter->local, space, kind, limit->slot, generation, &rate, burst, sp_clock_us());
    }
}

void sp_limiter_publish(struct sp_limiter *limiter, const struct sp_config *config) {
    enum sp_local_space space = config->redis ? SP_SPACE_SHARE : SP_SPACE_LOCAL;
    for (size_t i = 0; i < config->n_limits; i++)
        publish(limiter, space, &config->limits[i], config->generation, config);
}

/* Nobody has published this limit: the request brought it from a snapshot that this process was never configured with. */
static void publish_late(const struct session *session, size_t i) {
    struct sp_limiter *limiter = session->deciding->limiter;
    publish(limiter, session->space, session->deciding->request->limits[i], 0, limiter->config);
}

void sp_limiter_expect(struct sp_limiter *limiter, const struct sp_limit_request *request, const uint32_t buckets[SP_LIMIT_BUCKETS],
                       enum sp_local_space space) {
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (uint32_t rest = buckets[kind]; rest; rest &= rest - 1) {
            unsigned i = (unsigned)__builtin_ctz(rest);
            sp_local_expect(&limiter->local, sp_local_name(space, kind, request->limits[i]->slot, request->whose[i]));
        }
}

/* The share has the same time to full as the whole: rate and burst are both divided. What it gave while Redis was away Redis does not know:
 * of requests it is not given again when Redis is away the next time, so that outages that follow each other quickly admit no more than one
 * long one. Of tokens refunds raise the level, which only Redis knows in full. */
void sp_limiter_remember(struct sp_limiter *limiter, const struct sp_limit_config *limit, enum sp_limit_kind kind, uint64_t hash,
                         uint64_t now_us, const struct sp_bucket_answer *told) {
    if (limit->on_outage == SP_OUTAGE_SHARE)
        sp_local_remember(&limiter->local, sp_local_name(SP_SPACE_SHARE, kind, limit->slot, hash), now_us, told->reset_us,
                          kind == SP_LIMIT_TOKENS);
}

/* ---- The table ---- */

static struct sp_local_bucket bucket_of(const struct session *session, unsigned kind, size_t i) {
    const struct sp_deciding *deciding = session->deciding;
    return sp_local_name(session->space, kind, deciding->request->limits[i]->slot, deciding->request->whose[i]);
}

static void peek(struct session *session, unsigned kind, size_t i) {
    struct sp_deciding *deciding = session->deciding;
    struct sp_local_store *local = &deciding->limiter->local;
    struct sp_limit_answer *answer = &deciding->answers[kind][i];
    uint64_t cost = sp_cost_of(deciding->request, kind);
    if (sp_local_peek(local, bucket_of(session, kind, i), session->now_us, cost, answer, NULL) == 0)
        return;
    publish_late(session, i);
    (void)!sp_local_peek(local, bucket_of(session, kind, i), session->now_us, cost, answer, NULL);
}

static bool take(struct session *session, unsigned kind, size_t i) {
    struct sp_deciding *deciding = session->deciding;
    struct sp_local_store *local = &deciding->limiter->local;
    struct sp_limit_answer *answer = &deciding->answers[kind][i];
    uint64_t cost = sp_cost_of(deciding->request, kind);
    if (session->all_fit && sp_local_take_seen(&session->seen[kind][i], cost, answer, &deciding->here[kind][i]))
        return true;
    if (sp_local_take(local, bucket_of(session, kind, i), session->now_us, cost, answer, &deciding->here[kind][i]) < 0) {
        publish_late(session, i);
        (void)!sp_local_take(local, bucket_of(session, kind, i), session->now_us, cost, answer, &deciding->here[kind][i]);
    }
    return answer->asked && answer->bucket.admitted;
}

static bool only_one(const struct session *session) {
    bool both_kinds = session->in_table[SP_LIMIT_REQUESTS] && session->in_table[SP_LIMIT_TOKENS];
    return session->deciding->request->n_limits == 1 && !both_kinds;
}

static void look_at_all(struct session *session) {
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (uint32_t rest = session->in_table[kind]; rest; rest &= rest - 1)
            peek(session, kind, (size_t)__builtin_ctz(rest));
}

static bool all_fit(struct session *session) {
    const struct sp_deciding *deciding = session->deciding;
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (uint32_t rest = session->in_table[kind]; rest; rest &= rest - 1) {
            size_t i = (size_t)__builtin_ctz(rest);
            if (!sp_local_fits(&deciding->limiter->local, bucket_of(session, kind, i), session->now_us, sp_cost_of(deciding->request, kind),
                               &session->seen[kind][i]))
                return false;
        }
    return true;
}

/* false: one refused. */
static bool take_all(struct session *session) {
    struct sp_deciding *deciding = session->deciding;
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (uint32_t rest = session->in_table[kind]; rest; rest &= rest - 1) {
            size_t i = (size_t)__builtin_ctz(rest);
            if (take(session, kind, i))
                deciding->taken[kind] |= 1u << i;
            else if (sp_answer_refuses(deciding->request->limits[i], &deciding->answers[kind][i]))
                return false;
        }
    return true;
}

static void give_all_back(struct session *session) {
    struct sp_deciding *deciding = session->deciding;
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++) {
        for (uint32_t rest = deciding->taken[kind]; rest; rest &= rest - 1)
            sp_local_give_back(&deciding->limiter->local, &deciding->here[kind][__builtin_ctz(rest)]);
        deciding->taken[kind] = 0;
    }
}

/* All or nothing. With several buckets each is looked at before any is taken from, so that a request that will be refused does not get in
 * the way of others even for a moment; giving back is only for what changed between the look and the take.
 *
 * The instant of the decision is the clock it went by. A process that was stopped in between would act on an instant long past, and later
 * than others who went by the true one: it gives back what it took and decides again. */
static void ask_table(struct session *session) {
    struct sp_deciding *deciding = session->deciding;
    for (;;) {
        session->now_us = sp_clock_us();
        bool unseen = !deciding->request->peek && only_one(session);
        session->all_fit = !deciding->request->peek && !unseen && all_fit(session);
        if (!unseen && !session->all_fit)
            look_at_all(session);
        if (deciding->request->peek || sp_deciding_refused(deciding))
            return;
        bool all = take_all(session);
        if (all && sp_clock_us() <= session->now_us + STOOD_STILL_US)
            return;
        give_all_back(session);
        if (!all)
            return;
    }
}

/* What is more than a share can ever hold may still be had when Redis is back. */
static void put_off(struct session *session) {
    struct sp_deciding *deciding = session->deciding;
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (uint32_t rest = session->in_table[kind]; rest; rest &= rest - 1) {
            size_t i = (size_t)__builtin_ctz(rest);
            struct sp_bucket_answer *bucket = &deciding->answers[kind][i].bucket;
            if (!bucket->never || sp_cost_of(deciding->request, kind) > sp_limit_burst(deciding->request->limits[i], kind))
                continue;
            bucket->never = false;
            bucket->retry_us = AWAY_RETRY_US;
        }
}

void sp_deciding_here(struct sp_deciding *deciding, enum sp_local_space space) {
    struct session session SP_UNINITIALIZED;
    session.deciding = deciding;
    session.space = space;
    session.in_table[SP_LIMIT_REQUESTS] = session.in_table[SP_LIMIT_TOKENS] = 0;
    deciding->space = space;
    deciding->degraded = deciding->degraded || space == SP_SPACE_SHARE;
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++) {
        for (uint32_t rest = deciding->open[kind]; rest; rest &= rest - 1) {
            size_t i = (size_t)__builtin_ctz(rest);
            const struct sp_limit_config *limit = deciding->request->limits[i];
            struct sp_limit_answer *answer = &deciding->answers[kind][i];
            *answer = (struct sp_limit_answer){0};
            if (space == SP_SPACE_LOCAL || limit->on_outage == SP_OUTAGE_SHARE)
                session.in_table[kind] |= 1u << i;
            else if (limit->on_outage == SP_OUTAGE_CLOSED)
                *answer = (struct sp_limit_answer){
                    .asked = true, .burst = sp_limit_burst(limit, kind), .bucket = {.reset_us = AWAY_RETRY_US, .retry_us = AWAY_RETRY_US}};
        }
        deciding->open[kind] = 0;
    }
    if (session.in_table[SP_LIMIT_REQUESTS] || session.in_table[SP_LIMIT_TOKENS])
        ask_table(&session);
    if (space == SP_SPACE_SHARE)
        put_off(&session);
}
