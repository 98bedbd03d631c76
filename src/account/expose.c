/* The Prometheus text exposition, format 0.0.4. Every label value comes from the configuration or from a table of ours. */
#include <errno.h>

#include "expose.h"

/* What is told without labels. Help texts are part of the operator's contract: they say what is counted, in whole sentences. */
static const struct {
    enum sp_counter counter;
    const char *name, *help;
} plain_counters[] = {
    {SP_COUNTER_CONNECTIONS, "sallyport_connections_total", "Client connections accepted."},
    {SP_COUNTER_CONNECTIONS_REFUSED, "sallyport_connections_refused_total", "Client connections refused by a cap or an address list."},
    {SP_COUNTER_HANDSHAKES, "sallyport_tls_handshakes_total", "TLS handshakes completed."},
    {SP_COUNTER_HANDSHAKES_FAILED, "sallyport_tls_handshakes_failed_total", "TLS handshakes that failed or took too long."},
    {SP_COUNTER_HANDSHAKES_RESUMED, "sallyport_tls_handshakes_resumed_total", "TLS handshakes that resumed a session."},
    {SP_COUNTER_REQUESTS_MALFORMED, "sallyport_requests_malformed_total", "Requests refused as malformed."},
    {SP_COUNTER_CLIENTS_LEFT, "sallyport_clients_left_total", "Clients that left before their answer was complete."},
    {SP_COUNTER_RETRIES, "sallyport_retries_total", "Requests sent to a backend a second time."},
    {SP_COUNTER_BACKEND_CONNECTIONS, "sallyport_backend_connections_total", "Connections opened to backends."},
    {SP_COUNTER_BACKEND_FAILURES, "sallyport_backend_failures_total", "Backends that could not be reached, broke off or spoke nonsense."},
    {SP_COUNTER_BYTES_IN, "sallyport_received_bytes_total", "Bytes of requests received from clients."},
    {SP_COUNTER_BYTES_OUT, "sallyport_sent_bytes_total", "Bytes of answers sent to clients."},
    {SP_COUNTER_LOG_LINES_DROPPED, "sallyport_log_lines_dropped_total", "Access log lines dropped because the log could not be written."},
    {SP_COUNTER_REDIS_COMMANDS, "sallyport_redis_commands_total", "Commands sent to Redis."},
    {SP_COUNTER_REDIS_ERRORS, "sallyport_redis_errors_total", "Commands that Redis refused or never answered for want of a connection."},
    {SP_COUNTER_REDIS_TIMEOUTS, "sallyport_redis_timeouts_total", "Commands that Redis did not answer within the deadline."},
    {SP_COUNTER_LIMITS_DEGRADED, "sallyport_limits_degraded_total", "Requests decided without the shared limits."},
    {SP_COUNTER_LIMITS_LEASED, "sallyport_limits_leased_total", "Requests decided from tokens held ahead, without asking Redis."},
    {SP_COUNTER_LIMITS_STRICT, "sallyport_limits_strict_total", "Requests decided by asking Redis."},
    {SP_COUNTER_SETTLEMENTS, "sallyport_settlements_total", "Settlements of reserved tokens sent to Redis."},
    {SP_COUNTER_SETTLEMENTS_DROPPED, "sallyport_settlements_dropped_total", "Settlements given up: too many while Redis was away."},
    {SP_COUNTER_HOLDINGS_RECOVERED, "sallyport_holdings_recovered_total", "Requests of killed workers that another worker settled."},
    {SP_COUNTER_RELOADS, "sallyport_reloads_total", "Configurations taken into use, counted by each worker."},
};
_Static_assert(SP_COUNT(plain_counters) == SP_COUNTER_COUNT - 1, "every counter is exposed; requests are by route, pool and code");

static const struct {
    enum sp_gauge gauge;
    const char *name, *help;
} plain_gauges[] = {
    {SP_GAUGE_CONNECTIONS, "sallyport_connections", "Client connections open."},
    {SP_GAUGE_EXCHANGES, "sallyport_exchanges", "Requests in flight."},
    {SP_GAUGE_BODY_BYTES, "sallyport_body_bytes", "Bytes of request and answer bodies held in memory."},
    {SP_GAUGE_TOKEN_CACHE, "sallyport_verified_tokens", "Verified tokens remembered."},
};

static const char *const outcome_labels[SP_OUTCOME_COUNT] = {"admitted", "refused", "shadow_refused"};

int sp_expose_head(struct sp_buffer *out, const char *name, const char *type, const char *help) {
    return sp_buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline are escaped, as the format says. */
int sp_expose_label(struct sp_buffer *out, const char *name, const char *value) {
    int r = sp_buffer_printf(out, "%s=\"", name);
    for (const char *at = value; r == 0 && *at; at++) {
        if (*at == '\\' || *at == '"')
            r = sp_buffer_printf(out, "\\%c", *at);
        else if (*at == '\n')
            r = sp_buffer_append(out, "\\n", 2);
        else
            r = sp_buffer_append(out, at, 1);
    }
    return r < 0 ? r : sp_buffer_append(out, "\"", 1);
}

static int expose_plain(const struct sp_counters *counters, struct sp_buffer *out) {
    for (size_t i = 0; i < SP_COUNT(plain_counters); i++) {
        int r = sp_expose_head(out, plain_counters[i].name, "counter", plain_counters[i].help);
        if (r == 0)
            r = sp_buffer_printf(out, "%s %llu\n", plain_counters[i].name,
                                 (unsigned long long)sp_counter_sum(counters, plain_counters[i].counter));
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < SP_COUNT(plain_gauges); i++) {
        int r = sp_expose_head(out, plain_gauges[i].name, "gauge", plain_gauges[i].help);
        if (r == 0)
            r = sp_buffer_printf(out, "%s %llu\n", plain_gauges[i].name, (unsigned long long)sp_gauge_sum(counters, plain_gauges[i].gauge));
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- Histograms ---- */

void sp_histogram_sum(const struct sp_histogram *histogram, struct sp_histogram_sum *sum) {
    for (unsigned i = 0; i <= SP_BOUNDS_MAX; i++)
        sum->bucket[i] += sp_word(&histogram->bucket[i]);
    sum->sum += sp_word(&histogram->sum);
}

/* Buckets are read one by one while they grow: the count is their sum and never disagrees with them. */
int sp_expose_histogram(struct sp_buffer *out, const char *name, const char *labels, const struct sp_scale *scale,
                        const struct sp_histogram_sum *sum) {
    const char *comma = *labels ? "," : "", *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    uint64_t count = 0;
    int r = 0;
    for (unsigned i = 0; r == 0 && i <= scale->n; i++) {
        count += sum->bucket[i];
        r = sp_buffer_printf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", name, labels, comma, i < scale->n ? scale->text[i] : "+Inf",
                             (unsigned long long)count);
    }
    if (r == 0)
        r = sp_buffer_printf(out, "%s_sum%s%s%s ", name, open, labels, close);
    if (r == 0 && scale->seconds)
        r = sp_buffer_printf(out, "%llu.%06llu", (unsigned long long)(sum->sum / 1000000), (unsigned long long)(sum->sum % 1000000));
    else if (r == 0)
        r = sp_buffer_append_u64(out, sum->sum);
    return r < 0 ? r : sp_buffer_printf(out, "\n%s_count%s%s%s %llu\n", name, open, labels, close, (unsigned long long)count);
}

static int expose_times(const struct sp_counters *counters, struct sp_buffer *out) {
    struct sp_histogram_sum total = {0}, first_byte = {0};
    for (unsigned slot = 0; slot < SP_WORKERS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        if (!block)
            continue;
        sp_histogram_sum(&block->total, &total);
        sp_histogram_sum(&block->first_byte, &first_byte);
    }
    int r = sp_expose_head(out, "sallyport_request_seconds", "histogram", "From a request's first byte to the end of its answer.");
    if (r == 0)
        r = sp_expose_histogram(out, "sallyport_request_seconds", "", &sp_scale_requests, &total);
    if (r == 0)
        r = sp_expose_head(out, "sallyport_first_byte_seconds", "histogram",
                           "From a request's first byte to the first byte of its answer.");
    return r < 0 ? r : sp_expose_histogram(out, "sallyport_first_byte_seconds", "", &sp_scale_requests, &first_byte);
}

/* ---- Requests: the workers' pairs added up ---- */

struct pair_sum {
    uint32_t route, pool;
    uint64_t by_code[SP_CODES_MAX];
};
struct pair_sums {
    struct pair_sum *item;
    size_t count, room;
    uint16_t at[SP_ROUTES_MAX + 1][SP_POOLS_MAX + 1]; /* 1 + index into item */
};
_Static_assert((SP_ROUTES_MAX + 1) * (SP_POOLS_MAX + 1) < UINT16_MAX, "an index fits");

static void pair_sums_free(struct pair_sums **sums) {
    if (*sums)
        free((*sums)->item);
    free(*sums);
}

static struct pair_sum *pair_sum_of(struct pair_sums *sums, uint32_t route, uint32_t pool) {
    if (sums->at[route][pool] > 0)
        return &sums->item[sums->at[route][pool] - 1];
    if (sums->count == sums->room) {
        size_t room = sp_max(64, sums->room * 2);
        struct pair_sum *grown = reallocarray(sums->item, room, sizeof *grown);
        if (!grown)
            return NULL;
        sums->item = grown;
        sums->room = room;
    }
    struct pair_sum *sum = &sums->item[sums->count++];
    *sum = (struct pair_sum){.route = route, .pool = pool};
    sums->at[route][pool] = (uint16_t)sums->count;
    return sum;
}

static int add_up_pairs(const struct sp_counters *counters, struct pair_sums *sums) {
    uint32_t route, pool;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        for (uint32_t i = 0; block && i < sp_block_pairs(block); i++) {
            if (!sp_block_pair(block, i, &route, &pool))
                continue;
            struct pair_sum *sum = pair_sum_of(sums, route, pool);
            if (!sum)
                return -ENOMEM;
            for (unsigned code = 0; code < sp_code_count(); code++)
                sum->by_code[code] += sp_word(&block->pair[i].by_code[code]);
        }
    }
    return 0;
}

/* Names by slot; NULL where the configuration has no such thing (any more): its series end. */
struct slot_names {
    const char *route[SP_ROUTES_MAX + 1], *pool[SP_POOLS_MAX + 1];
};

static void name_slots(const struct sp_config *config, struct slot_names *ret) {
    *ret = (struct slot_names){0};
    for (size_t i = 0; i < config->n_routes; i++)
        if (config->routes[i].slot < SP_ROUTES_MAX)
            ret->route[config->routes[i].slot] = config->routes[i].name;
    for (size_t i = 0; i < config->n_pools; i++)
        if (config->pools[i].slot < SP_POOLS_MAX)
            ret->pool[config->pools[i].slot] = config->pools[i].name;
    ret->route[SP_ROUTE_NONE] = "none";
    ret->pool[SP_POOL_NONE] = "none";
}

static int expose_pair(const struct pair_sum *sum, const char *route, const char *pool, struct sp_buffer *out) {
    for (unsigned code = 0; code < sp_code_count(); code++) {
        if (sum->by_code[code] == 0)
            continue;
        int r = sp_buffer_append_span(out, SP_SPAN("sallyport_requests_total{"));
        if (r == 0)
            r = sp_expose_label(out, "route", route);
        if (r == 0)
            r = sp_buffer_append(out, ",", 1);
        if (r == 0)
            r = sp_expose_label(out, "pool", pool);
        if (r == 0)
            r = sp_buffer_printf(out, ",code=\"%s\"} %llu\n", sp_code_label(code), (unsigned long long)sum->by_code[code]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int expose_requests(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) {
    _cleanup_(pair_sums_free) struct pair_sums *sums = calloc(1, sizeof *sums);
    if (!sums)
        return -ENOMEM;
    int r = add_up_pairs(counters, sums);
    if (r < 0)
        return r;
    struct slot_names names;
    name_slots(config, &names);
    r = sp_expose_head(out, "sallyport_requests_total", "counter", "Requests that ended, by route, pool and status.");
    for (size_t i = 0; r == 0 && i < sums->count; i++) {
        const char *route = names.route[sums->item[i].route], *pool = names.pool[sums->item[i].pool];
        if (route && pool)
            r = expose_pair(&sums->item[i], route, pool, out);
    }
    return r;
}

/* ---- Limits and backends ---- */

static int expose_limits(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) {
    int r = sp_expose_head(out, "sallyport_limit_decisions_total", "counter",
                           "Decisions of each limit; shadow_refused would have been refused.");
    for (size_t i = 0; r == 0 && i < config->n_limits * SP_OUTCOME_COUNT; i++) {
        const struct sp_limit_config *limit = &config->limits[i / SP_OUTCOME_COUNT];
        enum sp_limit_outcome outcome = (enum sp_limit_outcome)(i % SP_OUTCOME_COUNT);
        r = sp_buffer_append_span(out, SP_SPAN("sallyport_limit_decisions_total{"));
        if (r == 0)
            r = sp_expose_label(out, "limit", limit->name);
        if (r == 0)
            r = sp_buffer_printf(out, ",decision=\"%s\"} %llu\n", outcome_labels[outcome],
                                 (unsigned long long)sp_counters_limit(counters, limit->slot, outcome));
    }
    return r;
}

static int expose_backends(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) {
    int r = sp_expose_head(out, "sallyport_backend_up", "gauge",
                           "1 while a worker would send requests to the server, 0 when it is taken for down.");
    for (size_t i = 0; r == 0 && i < config->n_pools; i++) {
        const struct sp_pool_config *pool = &config->pools[i];
        for (size_t j = 0; r == 0 && j < pool->n_servers; j++) {
            r = sp_buffer_append_span(out, SP_SPAN("sallyport_backend_up{"));
            if (r == 0)
                r = sp_expose_label(out, "pool", pool->name);
            if (r == 0)
                r = sp_buffer_append(out, ",", 1);
            if (r == 0)
                r = sp_expose_label(out, "server", pool->servers[j].url.text);
            if (r == 0)
                r = sp_buffer_printf(out, "} %d\n", sp_counters_backend_up(counters, pool->servers[j].slot) ? 1 : 0);
        }
    }
    return r;
}

static int expose_queues(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) {
    int r = sp_expose_head(out, "sallyport_queue_length", "gauge", "Requests that wait for a server of the pool.");
    for (size_t i = 0; r == 0 && i < config->n_pools; i++) {
        r = sp_buffer_append_span(out, SP_SPAN("sallyport_queue_length{"));
        if (r == 0)
            r = sp_expose_label(out, "pool", config->pools[i].name);
        if (r == 0)
            r = sp_buffer_printf(out, "} %llu\n", (unsigned long long)sp_counters_queue(counters, config->pools[i].slot));
    }
    return r;
}

static int expose_redis(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) {
    if (!config->redis)
        return 0;
    int r = sp_expose_head(out, "sallyport_redis_up", "gauge", "1 while every worker reaches Redis.");
    return r < 0 ? r : sp_buffer_printf(out, "sallyport_redis_up %d\n", sp_counters_redis_up(counters) ? 1 : 0);
}

static int expose_build(const struct sp_config *config, struct sp_buffer *out) {
    int r = sp_expose_head(out, "sallyport_build_info", "gauge", "Always 1; the label says which version runs.");
    if (r == 0)
        r = sp_buffer_append_span(out, SP_SPAN("sallyport_build_info{version=\"" SP_VERSION "\"} 1\n"));
    if (r == 0)
        r = sp_expose_head(out, "sallyport_configuration_generation", "gauge", "Configurations since the start; the current one's number.");
    return r < 0 ? r : sp_buffer_printf(out, "sallyport_configuration_generation %llu\n", (unsigned long long)config->generation);
}

int sp_counters_expose(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) {
    int r = expose_build(config, out);
    if (r == 0)
        r = expose_requests(counters, config, out);
    if (r == 0)
        r = expose_times(counters, out);
    if (r == 0)
        r = expose_limits(counters, config, out);
    if (r == 0)
        r = expose_redis(counters, config, out);
    if (r == 0)
        r = expose_backends(counters, config, out);
    if (r == 0)
        r = expose_queues(counters, config, out);
    if (r == 0)
        r = sp_expose_usage(counters, config, out);
    return r < 0 ? r : expose_plain(counters, out);
}
