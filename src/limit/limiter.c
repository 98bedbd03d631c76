/* The limiter: asks Redis where there is one, this machine's memory where there is none, and what each limit says of outages when Redis
 * does not answer. */
#include "limiter.h"

#include <errno.h>

#include "revocation_feed.h"
#include "subject.h"

#define DECIDINGS_KEPT 256
#define RECOVERY_MS    1000
#define PAGE           UINT64_C(4096)

/* ---- The segment: one part after the other, each on pages of its own ---- */

struct parts {
    size_t leases, slots, holdings, end; /* the buckets begin it */
};

static size_t to_page(size_t size) { return (size + PAGE - 1) & ~(PAGE - 1); }

static struct parts parts(void) {
    struct parts at = {.leases = to_page(sp_local_segment_size())};
    at.slots = at.leases + to_page(sp_lease_segment_size());
    at.holdings = at.slots + to_page(sp_slots_segment_size());
    at.end = at.holdings + to_page(sp_holdings_segment_size());
    return at;
}

size_t sp_limit_segment_size(void) { return parts().end; }

/* ---- Decisions ---- */

static bool with_redis(const struct sp_limiter *limiter) { return limiter->config && limiter->config->redis; }

/* Nothing of the arrays is set but what the request uses. */
static struct sp_deciding *begin(struct sp_limiter *limiter, struct sp_limit_request *request) {
    struct sp_deciding *deciding = sp_pool_get(&limiter->decidings);
    if (!deciding)
        return NULL;
    deciding->limiter = limiter;
    deciding->request = request;
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++) {
        deciding->open[kind] = deciding->leased[kind] = deciding->asked[kind] = deciding->taken[kind] = 0;
        for (size_t i = 0; i < request->n_limits; i++) {
            deciding->answers[kind][i] = (struct sp_limit_answer){0};
            deciding->wish[kind][i] = 0;
            if (sp_limit_rate(request->limits[i], kind)->amount > 0 && (kind == SP_LIMIT_REQUESTS || request->tokens > 0))
                deciding->open[kind] |= 1u << i;
        }
    }
    for (size_t i = 0; i < request->n_limits; i++)
        request->whose[i] = sp_subject_hash(&limiter->hash_key, request->limits[i]->by, &request->facts);
    /* Where buckets live is memory that was not touched for long when there are many callers: it comes while places are asked for. */
    if (with_redis(limiter))
        sp_deciding_expect_leases(deciding);
    else
        sp_limiter_expect(limiter, request, deciding->open, SP_SPACE_LOCAL);
    deciding->degraded = deciding->place_pending = false;
    deciding->next_place = 0;
    deciding->place_refused = deciding->place_shadowed = NULL;
    deciding->now_us = with_redis(limiter) ? sp_clock_us() : 0;
    deciding->due_us = with_redis(limiter) ? deciding->now_us + limiter->config->redis->deadline_ms * 1000 : 0;
    return deciding;
}

/* As far as it goes now. false: it waits. */
static bool go_on(struct sp_deciding *deciding) {
    if (!sp_deciding_places(deciding))
        return false;
    if (deciding->place_refused)
        return true;
    if (with_redis(deciding->limiter))
        return sp_deciding_with_redis(deciding);
    sp_deciding_here(deciding, SP_SPACE_LOCAL);
    return true;
}

static void conclude(struct sp_deciding *deciding) {
    struct sp_limit_request *request = deciding->request;
    struct sp_limit_decision *decision = &request->decision;
    sp_decision_combine(request, deciding->answers, decision);
    decision->degraded = deciding->degraded;
    if (deciding->place_refused)
        sp_decision_refuse_place(deciding->place_refused, SP_PLACE_RETRY_MS, decision);
    if (!decision->shadow_refused)
        decision->shadow_refused = deciding->place_shadowed;
    if (!decision->admitted)
        sp_deciding_undo(deciding);
    else if (!request->peek)
        sp_deciding_keep(deciding);
    sp_pool_put(&deciding->limiter->decidings, deciding);
}

void sp_deciding_resume(struct sp_deciding *deciding) {
    struct sp_limit_request *request = deciding->request;
    if (!go_on(deciding))
        return;
    sp_list_remove(&request->node);
    request->pending = NULL;
    conclude(deciding);
    request->done(request);
}

static bool asks_anything(const struct sp_limit_request *request) {
    bool asks = false;
    for (size_t i = 0; i < request->n_limits; i++) {
        const struct sp_limit_config *limit = request->limits[i];
        asks = asks || limit->requests.amount > 0 || (limit->tokens.amount > 0 && request->tokens > 0) ||
               (limit->concurrency > 0 && request->stays && !request->peek);
    }
    return asks;
}

/* Without memory nothing can be counted: refused, for the limits hold whatever happens. */
static void refuse_for_want_of_memory(struct sp_limit_request *request) {
    request->decision = (struct sp_limit_decision){
        .refused_by = request->limits[0], .retry_after_ms = 1000, .asked = request->cost, .most = request->limits[0]->request_burst};
}

enum sp_limit_progress sp_limiter_admit(struct sp_limiter *limiter, struct sp_limit_request *request) {
    request->pending = NULL;
    request->holding = NULL;
    request->places = 0;
    request->tokens_held = 0;
    memset(request->from, SP_FROM_NOWHERE, sizeof request->from);
    memset(request->noted, 0, sizeof request->noted);
    if (!asks_anything(request)) {
        request->decision = (struct sp_limit_decision){.admitted = true};
        return SP_LIMIT_DECIDED;
    }
    struct sp_deciding *deciding = begin(limiter, request);
    if (!deciding) {
        refuse_for_want_of_memory(request);
        return SP_LIMIT_DECIDED;
    }
    if (go_on(deciding)) {
        conclude(deciding);
        return SP_LIMIT_DECIDED;
    }
    request->pending = deciding;
    sp_list_init(&request->node);
    sp_list_append(&limiter->waiting, &request->node);
    return SP_LIMIT_PENDING;
}

/* ---- Life ---- */

static void recover(struct sp_timer *timer) {
    struct sp_limiter *limiter = SP_CONTAINER(timer, struct sp_limiter, recovery);
    sp_limiter_recover(limiter);
    sp_timer_start(limiter->loop, timer, RECOVERY_MS);
}

static int open_redis(struct sp_limiter *limiter, struct sp_slots_segment *slots) {
    uint64_t identity;
    sp_random(&identity, sizeof identity);
    int r = sp_redis_store_new(limiter->loop, identity, &limiter->redis);
    if (r < 0)
        return r;
    struct sp_redis_route *route = sp_redis_store_route(limiter->redis);
    r = sp_slots_new(limiter->loop, slots, &limiter->hash_key, route, &limiter->slots);
    return r < 0 ? r : sp_revocation_feed_new(limiter->loop, route, &limiter->feed);
}

int sp_limiter_new(struct sp_loop *loop, void *segment, const struct sp_hash_key *hash_key, unsigned worker_slot, struct sp_limiter **ret) {
    struct sp_limiter *limiter = calloc(1, sizeof *limiter);
    if (!limiter)
        return -ENOMEM;
    struct parts at = parts();
    char *bytes = segment;
    limiter->loop = loop;
    limiter->hash_key = *hash_key;
    limiter->recovery.fire = recover;
    sp_list_init(&limiter->waiting);
    sp_pool_init(&limiter->decidings, sizeof(struct sp_deciding), DECIDINGS_KEPT);
    sp_limiter_init_refills(limiter);
    sp_local_open(segment, sp_clock_us, &limiter->local);
    limiter->leases = (struct sp_leases){.segment = (void *)(bytes + at.leases), .clock_us = sp_clock_us};
    sp_holdings_open((void *)(bytes + at.holdings), worker_slot, &limiter->holdings);
    int r = open_redis(limiter, (void *)(bytes + at.slots));
    if (r < 0) {
        sp_limiter_free(limiter);
        return r;
    }
    *ret = limiter;
    return 0;
}

/* Requests under way are forgotten, and what they hold so far goes back. */
static void forget_waiting(struct sp_limiter *limiter) {
    while (!sp_list_empty(&limiter->waiting))
        sp_limiter_finish(limiter, sp_list_entry(limiter->waiting.next, struct sp_limit_request, node), 0);
}

void sp_limiter_free(struct sp_limiter *limiter) {
    if (!limiter)
        return;
    forget_waiting(limiter);
    sp_timer_stop(&limiter->recovery);
    sp_redis_store_free(limiter->redis); /* first: commands under way come home to the others */
    sp_revocation_feed_free(limiter->feed);
    sp_slots_free(limiter->slots);
    sp_limiter_drop_refills(limiter);
    sp_pool_drain(&limiter->decidings);
    sp_config_unref(limiter->config);
    free(limiter);
}

/* What a predecessor left is settled once there is a configuration: before that nobody knows where. */
int sp_limiter_configure(struct sp_limiter *limiter, struct sp_config *config, struct sp_tls_client *redis_tls) {
    struct sp_config *old = limiter->config;
    limiter->config = sp_config_ref(config);
    sp_limiter_publish(limiter, config);
    sp_limiter_forget_leases(limiter, old, config);
    int r = sp_redis_store_configure(limiter->redis, config, redis_tls);
    sp_slots_configure(limiter->slots, config);
    sp_revocation_feed_configure(limiter->feed, config);
    sp_config_unref(old);
    if (!old)
        recover(&limiter->recovery);
    return r;
}

/* ---- Looking ---- */

void sp_limiter_state(const struct sp_limiter *limiter, struct sp_limiter_state *ret) {
    *ret = (struct sp_limiter_state){0};
    sp_redis_store_state(limiter->redis, ret);
    ret->overflowed = sp_local_overflowed(&limiter->local) + sp_slots_crowded(limiter->slots);
    ret->leased = limiter->leased;
    ret->strict = limiter->strict;
    ret->settlements = limiter->settlements;
    ret->recovered = limiter->recovered;
    const char *feed = sp_revocation_feed_problem(limiter->feed);
    if (!ret->problem[0])
        memcpy(ret->problem, feed, strlen(feed) + 1);
}

static void level_of(struct sp_limiter *limiter, const struct sp_limit_config *limit, enum sp_limit_kind kind, uint64_t hash,
                     struct sp_limit_level *ret) {
    enum sp_local_space space = with_redis(limiter) ? SP_SPACE_SHARE : SP_SPACE_LOCAL;
    struct sp_local_bucket bucket = sp_local_name(space, kind, limit->slot, hash);
    struct sp_limit_answer answer;
    uint64_t now_us = sp_clock_us();
    if (sp_limit_rate(limit, kind)->amount == 0 || sp_local_peek(&limiter->local, bucket, now_us, 1, &answer, &ret->present) < 0 ||
        sp_local_level(&limiter->local, bucket, now_us, &ret->level) < 0)
        return;
    ret->burst = answer.burst;
    sp_lease_peek(&limiter->leases, sp_lease_name(limit->slot, kind, hash), &ret->leased, &ret->refused_us);
}

void sp_limiter_levels(struct sp_limiter *limiter, const struct sp_limit_config *limit, const struct sp_limit_facts *facts,
                       struct sp_limit_levels *ret) {
    *ret = (struct sp_limit_levels){0};
    uint64_t hash = sp_subject_hash(&limiter->hash_key, limit->by, facts);
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        level_of(limiter, limit, kind, hash, &ret->bucket[kind]);
    if (limit->concurrency > 0)
        sp_slots_peek(limiter->slots, sp_slots_name_of(limiter->slots, limit, hash), &ret->places_used, &ret->places_had);
}

/* ---- Revocations ---- */

void sp_limiter_share_revocations(struct sp_limiter *limiter, const struct sp_revocations *known, sp_revoked_elsewhere *learned,
                                  void *owner) {
    sp_revocation_feed_share(limiter->feed, known, learned, owner);
}

void sp_limiter_tell_revocations(struct sp_limiter *limiter) { sp_revocation_feed_tell(limiter->feed); }
