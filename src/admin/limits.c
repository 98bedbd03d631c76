/* The limits in force and who is held to them, as JSON; and the whole configuration, for comparing. */
#include <stdio.h>

#include <sallyport/limit.h>

#include "endpoints.h"
#include "names.h"

enum { REFUSALS_LOOKED_AT = 100, REFUSALS_TOLD = 10 };

static const char *const outages[] = {[SP_OUTAGE_SHARE] = "share", [SP_OUTAGE_OPEN] = "open", [SP_OUTAGE_CLOSED] = "closed"};

json_t *sp_by_json(uint32_t by) {
    static const char *const names[] = {"subject", "tenant", "key", "address", "model", "route", "global"};
    json_t *list = json_array();
    for (size_t i = 0; list && i < SP_COUNT(names); i++)
        if (by & 1u << i)
            json_array_append_new(list, json_string(names[i]));
    return list;
}

static json_t *rate_text(const struct sp_rate *rate) {
    static const struct {
        uint64_t period_us;
        const char *name;
    } periods[] = {{1000000, "s"}, {60000000, "min"}, {UINT64_C(3600000000), "h"}};
    for (size_t i = 0; i < SP_COUNT(periods); i++)
        if (rate->period_us == periods[i].period_us)
            return json_sprintf("%llu/%s", (unsigned long long)rate->amount, periods[i].name);
    return json_sprintf("%llu/%lluus", (unsigned long long)rate->amount, (unsigned long long)rate->period_us);
}

/* How it is decided: on this machine alone, or with Redis by leases, or by asking each time. */
static const char *mode_of(const struct sp_config *config, const struct sp_limit_config *limit, enum sp_limit_kind kind) {
    if (!config->redis)
        return "here";
    return sp_limit_leasable(limit, kind) ? "leased" : "strict";
}

static json_t *bucket_json(const struct sp_config *config, const struct sp_limit_config *limit, enum sp_limit_kind kind) {
    const struct sp_rate *rate = kind == SP_LIMIT_TOKENS ? &limit->tokens : &limit->requests;
    uint64_t burst = kind == SP_LIMIT_TOKENS ? limit->token_burst : limit->request_burst;
    if (rate->amount == 0)
        return json_null();
    return json_pack("{s:o,s:I,s:I,s:I,s:s}", "rate", rate_text(rate), "amount", (json_int_t)rate->amount, "period_us",
                     (json_int_t)rate->period_us, "burst", (json_int_t)burst, "mode", mode_of(config, limit, kind));
}

static void add_if_named(json_t *list, const char *name, const unsigned *limits, size_t n, size_t index) {
    for (size_t i = 0; i < n; i++)
        if (limits[i] == index) {
            json_array_append_new(list, json_string(name));
            return;
        }
}

static json_t *roles_json(const struct sp_config *config, size_t index) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < config->n_roles; i++)
        add_if_named(list, config->roles[i].name, config->roles[i].limits, config->roles[i].n_limits, index);
    return list;
}

static json_t *routes_json(const struct sp_config *config, size_t index) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < config->n_routes; i++)
        add_if_named(list, config->routes[i].name, config->routes[i].limits, config->routes[i].n_limits, index);
    return list;
}

static json_t *policy_json(const struct sp_config *config, size_t index) {
    const struct sp_limit_config *limit = &config->limits[index];
    return json_pack("{s:s,s:o,s:o,s:o,s:o,s:s,s:s,s:b,s:s,s:o,s:o}", "name", limit->name, "by", sp_by_json(limit->by), "requests",
                     bucket_json(config, limit, SP_LIMIT_REQUESTS), "tokens", bucket_json(config, limit, SP_LIMIT_TOKENS), "concurrency",
                     limit->concurrency > 0 ? json_integer((json_int_t)limit->concurrency) : json_null(), "mode",
                     limit->mode == SP_LIMIT_STRICT ? "strict" : "leased", "on_outage", outages[limit->on_outage], "shadow",
                     limit->shadow ? 1 : 0, "count", limit->count == SP_COUNT_UNAUTHORIZED ? "unauthorized" : "all", "roles",
                     roles_json(config, index), "routes", routes_json(config, index));
}

json_t *sp_limit_policies_json(const struct sp_config *config) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < config->n_limits; i++)
        if (json_array_append_new(list, policy_json(config, i)) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *counted_json(const struct sp_admin_view *view) {
    static const char *const names[SP_OUTCOME_COUNT] = {"admitted", "refused", "shadow_refused"};
    json_t *list = view->config ? sp_limit_policies_json(view->config) : json_array(), *row;
    size_t i;
    json_array_foreach(list, i, row) for (unsigned outcome = 0; outcome < SP_OUTCOME_COUNT; outcome++) {
        uint64_t count = sp_counters_limit(view->counters, view->config->limits[i].slot, (enum sp_limit_outcome)outcome);
        json_object_set_new(row, names[outcome], json_integer((json_int_t)count));
    }
    return list;
}

/* The last ones that a limit refused, or a shadow would have, among what is kept. */
static int put_refusals(const struct sp_admin_view *view, json_t *into) {
    struct sp_refusal_record found[REFUSALS_LOOKED_AT];
    size_t n = sp_refusals_latest(view->counters, SP_SPAN(""), found, SP_COUNT(found)), kept = 0;
    for (size_t i = 0; i < n && kept < REFUSALS_TOLD; i++) {
        struct sp_refused refused;
        sp_refusal_of(&found[i], &refused);
        if (refused.limit.len > 0)
            found[kept++] = found[i];
    }
    json_t *refusals = sp_refusals_json(view, found, kept);
    int r = refusals ? json_object_update(into, refusals) : -1;
    json_decref(refusals);
    return r;
}

json_t *sp_limits_json(const struct sp_admin_view *view) {
    json_t *answer =
        json_pack("{s:I,s:o,s:{s:I,s:I,s:I},s:o}", "generation", (json_int_t)view->status.generation, "redis", sp_redis_json(view),
                  "decisions", "leased", (json_int_t)sp_counter_sum(view->counters, SP_COUNTER_LIMITS_LEASED), "strict",
                  (json_int_t)sp_counter_sum(view->counters, SP_COUNTER_LIMITS_STRICT), "degraded",
                  (json_int_t)sp_counter_sum(view->counters, SP_COUNTER_LIMITS_DEGRADED), "limits", counted_json(view));
    if (answer && put_refusals(view, answer) < 0) {
        json_decref(answer);
        answer = NULL;
    }
    return answer;
}

json_t *sp_configuration_json(const struct sp_admin_view *view) {
    const struct sp_config *config = view->config;
    const char *outline = config && config->outline ? config->outline : "{}";
    return json_pack("{s:I,s:s?,s:o,s:o}", "generation", (json_int_t)view->status.generation, "path", config ? config->path : NULL,
                     "configuration", json_loads(outline, 0, NULL), "limits", config ? sp_limit_policies_json(config) : json_array());
}
