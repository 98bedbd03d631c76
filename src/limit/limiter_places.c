/* Places of limits on requests at one time. They come first: a place that is refused costs nobody a token. */
#include "limiter.h"

static void refused(struct sp_deciding *deciding, const struct sp_limit_config *limit) {
    if (!limit->shadow)
        deciding->place_refused = limit;
    else if (!deciding->place_shadowed)
        deciding->place_shadowed = limit;
}

/* Redis is not to be asked, or did not say in time. */
static void take_without(struct sp_deciding *deciding) {
    struct sp_limiter *limiter = deciding->limiter;
    const struct sp_limit_config *limit = deciding->place.limit;
    const struct sp_redis_config *redis = limiter->config ? limiter->config->redis : NULL;
    if (redis) {
        deciding->degraded = true;
        if (limit->on_outage == SP_OUTAGE_OPEN)
            return;
        if (limit->on_outage == SP_OUTAGE_CLOSED)
            return refused(deciding, limit);
    }
    if (sp_slots_take(limiter->slots, &deciding->place, true, redis ? sp_max(redis->gateways, 1u) : 1) == SP_PLACE_TAKEN)
        sp_deciding_count_place(deciding);
    else
        refused(deciding, limit);
}

static void place_answered(struct sp_place_ask *ask, bool told, bool taken) {
    struct sp_deciding *deciding = SP_CONTAINER(ask, struct sp_deciding, place);
    deciding->place_pending = false;
    deciding->now_us = sp_clock_us();
    if (!told)
        take_without(deciding);
    else if (taken)
        sp_deciding_count_place(deciding);
    else
        refused(deciding, ask->limit);
    deciding->next_place++;
    sp_deciding_resume(deciding);
}

/* false: it waits. */
static bool take_next(struct sp_deciding *deciding) {
    struct sp_limiter *limiter = deciding->limiter;
    if (!limiter->config || !limiter->config->redis) {
        take_without(deciding);
        return true;
    }
    switch (sp_slots_take(limiter->slots, &deciding->place, false, sp_max(limiter->config->redis->gateways, 1u))) {
    case SP_PLACE_TAKEN:
        sp_deciding_count_place(deciding);
        return true;
    case SP_PLACE_REFUSED:
        refused(deciding, deciding->place.limit);
        return true;
    case SP_PLACE_PENDING:
        deciding->place_pending = true;
        return false;
    case SP_PLACE_AWAY:
        break;
    }
    take_without(deciding);
    return true;
}
bool sp_deciding_places(struct sp_deciding *deciding) {
    const struct sp_limit_request *request = deciding->request;
    if (!request->stays || request->peek)
        return true;
    for (; deciding->next_place < request->n_limits && !deciding->place_refused; deciding->next_place++) {
        const struct sp_limit_config *limit = request->limits[deciding->next_place];
        if (limit->concurrency == 0)
            continue;
        deciding->place = (struct sp_place_ask){.limit = limit,
                                                .facts = &request->facts,
                                                .name = sp_place_name(deciding->limiter, request, deciding->next_place),
                                                .due_us = deciding->due_us,
                                                .answered = place_answered};
        sp_deciding_note_place(deciding);
        if (!take_next(deciding))
            return false;
    }
    return true;
}
