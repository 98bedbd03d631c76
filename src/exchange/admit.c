/* admit: is there budget? All limits of the route and of the caller's roles together, each once, all or nothing. */
#include "private.h"

#include <stdio.h>

_Static_assert(SP_LIMITS_MAX <= 64, "a bit per limit");

/* false: more limits apply than can be decided together. None may be left out, so the request cannot be let in. */
static bool collect(struct sp_exchange *x, const unsigned *limits, size_t n, uint64_t *seen) {
    const struct sp_config *config = x->snapshot->config;
    for (size_t i = 0; i < n; i++) {
        uint64_t bit = UINT64_C(1) << limits[i];
        if (*seen & bit)
            continue;
        if (x->limit.n_limits == SP_REQUEST_LIMITS_MAX)
            return false;
        *seen |= bit;
        x->limit.limits[x->limit.n_limits++] = &config->limits[limits[i]];
    }
    return true;
}

static bool ask(struct sp_exchange *x) {
    const struct sp_config *config = x->snapshot->config;
    uint64_t seen = 0;
    if (!collect(x, x->route->limits, x->route->n_limits, &seen))
        return false;
    for (uint64_t roles = x->roles; roles; roles &= roles - 1) {
        const struct sp_role_config *role = &config->roles[__builtin_ctzll(roles)];
        if (!collect(x, role->limits, role->n_limits, &seen))
            return false;
    }
    x->limit.cost = 1;
    x->limit.tokens = x->inspection.listing ? 0 : x->inspection.reserve;
    x->limit.stays = true;
    struct sp_limit_facts *facts = &x->limit.facts;
    facts->subject = x->principal->account;
    facts->tenant = x->principal->tenant;
    facts->key_id = x->principal->key_id;
    facts->route = sp_span_text(x->route->name);
    facts->model = sp_span_text(x->model ? x->model->name : NULL);
    memcpy(facts->address, x->from->address.bytes, sizeof facts->address);
    return true;
}

static void decided_later(struct sp_limit_request *request) {
    struct sp_exchange *x = SP_CONTAINER(request, struct sp_exchange, limit);
    x->limit_pending = false;
    x->limited = true;
    sp_exchange_run(x);
}

void sp_count_decision(struct sp_exchange *x) {
    const struct sp_service_parts *parts = &x->service->parts;
    const struct sp_limit_decision *decision = &x->limit.decision;
    for (size_t i = 0; i < x->limit.n_limits && parts->counters; i++) {
        const struct sp_limit_config *limit = x->limit.limits[i];
        if (limit == decision->shadow_refused)
            sp_count_limit(parts->counters, parts->worker_slot, limit->slot, SP_OUTCOME_SHADOW_REFUSED);
        else if (limit == decision->refused_by)
            sp_count_limit(parts->counters, parts->worker_slot, limit->slot, SP_OUTCOME_REFUSED);
        else if (decision->admitted && !x->limit.peek)
            sp_count_limit(parts->counters, parts->worker_slot, limit->slot, SP_OUTCOME_ADMITTED);
    }
    if (decision->degraded)
        sp_service_count(x->service, SP_COUNTER_LIMITS_DEGRADED, 1);
}

const char *sp_limit_sentence(struct sp_exchange *x, const char *format) {
    const char *limit = x->limit.decision.refused_by ? x->limit.decision.refused_by->name : "unknown";
    size_t size = strlen(format) + strlen(limit) + 1;
    char *text = sp_arena_alloc(&x->arena, size);
    if (!text)
        return "A limit was reached.";
    int n = snprintf(text, size, "%.*s%s%s", (int)(strstr(format, "%s") - format), format, limit, strstr(format, "%s") + 2);
    return n > 0 ? text : "A limit was reached.";
}

static enum sp_stage_answer never(struct sp_exchange *x) {
    const struct sp_limit_decision *decision = &x->limit.decision;
    if (decision->refused_kind != SP_LIMIT_TOKENS)
        return sp_reply(x, 400, "never_within_limit", sp_limit_sentence(x, "The request costs more than the limit '%s' can ever hold."), "limit");
    return sp_reply(x, 400, "never_within_limit",
                    sp_sentence(x, "The request reserves %llu tokens (prompt and the longest answer asked for); the limit '%s' never holds more than %llu. "
                                   "Shorten the prompt or ask for a shorter answer with max_tokens.",
                                (unsigned long long)decision->asked, decision->refused_by->name, (unsigned long long)decision->most),
                    "limit");
}

static enum sp_stage_answer decide(struct sp_exchange *x) {
    const struct sp_limit_decision *decision = &x->limit.decision;
    sp_count_decision(x);
    if (decision->admitted)
        return SP_STAGE_NEXT;
    if (decision->never)
        return never(x);
    const char *format = "Rate limit reached: '%s'. Try again after the time in Retry-After.";
    if (decision->refused_kind == SP_LIMIT_TOKENS)
        format = "Rate limit on tokens reached: '%s'. Try again after the time in Retry-After.";
    else if (decision->refused_kind == SP_LIMIT_CONCURRENCY)
        format = "Too many requests at one time: '%s'. Try again when one of yours has ended.";
    return sp_reply(x, 429, "rate_limit_exceeded", sp_limit_sentence(x, format), "limit");
}

enum sp_stage_answer sp_stage_admit(struct sp_exchange *x) {
    if (x->limit_pending)
        return SP_STAGE_WAIT;
    if (!x->limited) {
        if (!ask(x))
            return sp_reply(x, 503, "too_many_limits", "More limits apply to you than can be decided at once. Tell the operator.", "too many limits");
        if (x->limit.n_limits == 0)
            return SP_STAGE_NEXT;
        x->limit.done = decided_later;
        if (sp_limiter_admit(x->service->parts.limiter, &x->limit) == SP_LIMIT_PENDING) {
            x->limit_pending = true;
            return SP_STAGE_WAIT;
        }
        x->limited = true;
    }
    return decide(x);
}
