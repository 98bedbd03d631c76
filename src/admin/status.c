/* What control knows, as JSON. */
#include "endpoints.h"

bool sp_admin_ready(const struct sp_admin_view *view) {
    /* A worker says which generation it serves as soon as it serves one. */
    if (!view->config || view->status.draining || sp_gauge_sum(view->counters, SP_GAUGE_GENERATION) == 0)
        return false;
    for (uint32_t i = 0; i < view->status.n; i++)
        if (view->processes[i].role == SP_ROLE_WORKER && view->processes[i].pid != 0)
            return true;
    return false;
}

json_t *sp_time_json(uint64_t wall_ms) {
    char text[SP_TIMESTAMP_LEN + 1];
    sp_timestamp(wall_ms, text);
    return json_string(text);
}

json_t *sp_string_json(struct sp_span text) {
    _cleanup_(sp_buffer_free) struct sp_buffer quoted;
    sp_buffer_init(&quoted, SP_MESSAGE_MAX * 8);
    if (sp_buffer_append_json(&quoted, text) < 0)
        return NULL;
    return json_loadb(sp_buffer_span(&quoted).at, sp_buffer_len(&quoted), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

static json_t *processes_json(const struct sp_admin_view *view) {
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < view->status.n; i++) {
        const struct sp_msg_process *process = &view->processes[i];
        json_array_append_new(list, json_pack("{s:s,s:I,s:I,s:I,s:o}", "role", sp_role_name((enum sp_role_id)process->role), "slot",
                                              (json_int_t)process->slot, "pid", (json_int_t)process->pid, "restarts",
                                              (json_int_t)process->restarts, "started", sp_time_json(process->started_wall_ms)));
    }
    return list;
}

static json_t *workers_json(const struct sp_counters *counters) {
    static const struct {
        const char *name;
        enum sp_counter counter;
    } sums[] = {
        {"connections_total", SP_COUNTER_CONNECTIONS},
        {"connections_refused_total", SP_COUNTER_CONNECTIONS_REFUSED},
        {"handshakes_total", SP_COUNTER_HANDSHAKES},
        {"handshakes_failed_total", SP_COUNTER_HANDSHAKES_FAILED},
        {"requests_total", SP_COUNTER_REQUESTS},
        {"requests_malformed_total", SP_COUNTER_REQUESTS_MALFORMED},
        {"clients_left_total", SP_COUNTER_CLIENTS_LEFT},
        {"retries_total", SP_COUNTER_RETRIES},
        {"backend_failures_total", SP_COUNTER_BACKEND_FAILURES},
        {"limits_degraded_total", SP_COUNTER_LIMITS_DEGRADED},
        {"limits_leased_total", SP_COUNTER_LIMITS_LEASED},
        {"limits_strict_total", SP_COUNTER_LIMITS_STRICT},
        {"settlements_total", SP_COUNTER_SETTLEMENTS},
        {"settlements_dropped_total", SP_COUNTER_SETTLEMENTS_DROPPED},
        {"holdings_recovered_total", SP_COUNTER_HOLDINGS_RECOVERED},
        {"log_lines_dropped_total", SP_COUNTER_LOG_LINES_DROPPED},
    };
    json_t *object = json_pack("{s:I,s:I}", "connections", (json_int_t)sp_gauge_sum(counters, SP_GAUGE_CONNECTIONS), "exchanges",
                               (json_int_t)sp_gauge_sum(counters, SP_GAUGE_EXCHANGES));
    for (size_t i = 0; object && i < SP_COUNT(sums); i++)
        json_object_set_new(object, sums[i].name, json_integer((json_int_t)sp_counter_sum(counters, sums[i].counter)));
    return object;
}

json_t *sp_redis_json(const struct sp_admin_view *view) {
    const struct sp_config *config = view->config;
    if (!config || !config->redis)
        return json_pack("{s:b,s:n}", "configured", 0, "up");
    return json_pack("{s:b,s:b}", "configured", 1, "up", sp_counters_redis_up(view->counters) ? 1 : 0);
}

static json_t *limits_json(const struct sp_admin_view *view) {
    json_t *list = json_array();
    for (size_t i = 0; list && view->config && i < view->config->n_limits; i++) {
        const struct sp_limit_config *limit = &view->config->limits[i];
        json_int_t outcomes[SP_OUTCOME_COUNT];
        for (unsigned j = 0; j < SP_OUTCOME_COUNT; j++)
            outcomes[j] = (json_int_t)sp_counters_limit(view->counters, limit->slot, (enum sp_limit_outcome)j);
        json_array_append_new(list, json_pack("{s:s,s:b,s:I,s:I,s:I}", "name", limit->name, "shadow", limit->shadow ? 1 : 0, "admitted",
                                              outcomes[SP_OUTCOME_ADMITTED], "refused", outcomes[SP_OUTCOME_REFUSED], "shadow_refused",
                                              outcomes[SP_OUTCOME_SHADOW_REFUSED]));
    }
    return list;
}

static json_t *routes_json(const struct sp_admin_view *view) {
    json_t *list = json_array();
    for (size_t i = 0; list && view->config && i < view->config->n_routes; i++) {
        const struct sp_route_config *route = &view->config->routes[i];
        json_int_t class[6];
        for (unsigned j = 0; j < SP_COUNT(class); j++)
            class[j] = (json_int_t)sp_counters_requests(view->counters, route->slot, j);
        json_array_append_new(list, json_pack("{s:s,s:I,s:I,s:I,s:I,s:I}", "name", route->name, "requests", class[0], "2xx", class[2],
                                              "3xx", class[3], "4xx", class[4], "5xx", class[5]));
    }
    return list;
}

static json_t *models_json(const struct sp_admin_view *view) {
    json_t *list = json_array();
    for (size_t i = 0; list && view->config && i < view->config->n_models; i++) {
        const struct sp_model_config *model = &view->config->models[i];
        struct sp_model_tokens tokens = sp_counters_tokens(view->counters, model->slot);
        json_array_append_new(list, json_pack("{s:s,s:s,s:I,s:I,s:I}", "name", model->name, "pool", model->pool->name, "tokens_in",
                                              (json_int_t)tokens.input, "tokens_out", (json_int_t)tokens.output, "tokens_estimated",
                                              (json_int_t)tokens.estimated));
    }
    return list;
}

static json_t *queues_json(const struct sp_admin_view *view) {
    json_t *list = json_array();
    for (size_t i = 0; list && view->config && i < view->config->n_pools; i++) {
        const struct sp_pool_config *pool = &view->config->pools[i];
        json_array_append_new(
            list, json_pack("{s:s,s:I}", "pool", pool->name, "waiting", (json_int_t)sp_counters_queue(view->counters, pool->slot)));
    }
    return list;
}

static const char *probe_name(const struct sp_admin_view *view, unsigned server_slot) {
    static const char *const names[] = {[SP_PROBE_WAITING] = "waiting", [SP_PROBE_UP] = "up", [SP_PROBE_DOWN] = "down"};
    return view->health ? names[sp_health_state(view->health, server_slot)] : NULL;
}

static json_t *backend_list(const struct sp_admin_view *view) {
    json_t *list = json_array();
    for (size_t i = 0; list && view->config && i < view->config->n_pools; i++) {
        const struct sp_pool_config *pool = &view->config->pools[i];
        for (size_t j = 0; j < pool->n_servers; j++) {
            unsigned slot = pool->servers[j].slot;
            const char *probe = probe_name(view, slot);
            bool up = sp_counters_backend_up(view->counters, slot) && (!probe || strcmp(probe, "down") != 0);
            json_array_append_new(list, json_pack("{s:s,s:s,s:b,s:s?}", "pool", pool->name, "server", pool->servers[j].url.text, "up",
                                                  up ? 1 : 0, "probe", probe));
        }
    }
    return list;
}

json_t *sp_backends_json(const struct sp_admin_view *view) { return json_pack("{s:o}", "backends", backend_list(view)); }

json_t *sp_status_json(const struct sp_admin_view *view) {
    uint64_t now = sp_wall_ms();
    uint64_t uptime_s = now > view->started_wall_ms ? (now - view->started_wall_ms) / 1000 : 0;
    return json_pack("{s:s,s:s?,s:I,s:o,s:I,s:b,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "version", SP_VERSION, "configuration",
                     view->config ? view->config->path : NULL, "generation", (json_int_t)view->status.generation, "started",
                     sp_time_json(view->started_wall_ms), "uptime_s", (json_int_t)uptime_s, "ready", sp_admin_ready(view) ? 1 : 0,
                     "draining", view->status.draining ? 1 : 0, "processes", processes_json(view), "workers", workers_json(view->counters),
                     "redis", sp_redis_json(view), "limits", limits_json(view), "backends", backend_list(view), "queues", queues_json(view),
                     "routes", routes_json(view), "models", models_json(view));
}
