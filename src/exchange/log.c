/* log: the exchange, told: one line in the access log, and the counters. */
#include "private.h"

static unsigned slot_of_route(const struct sp_exchange *x) { return x->route ? x->route->slot : SP_SLOT_NONE; }

static void count(const struct sp_exchange *x, uint64_t total_us, int64_t first_byte_us) {
    const struct sp_service_parts *parts = &x->service->parts;
    if (!parts->counters)
        return;
    unsigned pool = x->pool ? x->pool->slot : SP_SLOT_NONE;
    sp_count_request(parts->counters, parts->worker_slot, slot_of_route(x), pool, x->status, total_us, first_byte_us);
    sp_count(parts->counters, parts->worker_slot, SP_COUNTER_BYTES_IN, x->bytes_in);
    sp_count(parts->counters, parts->worker_slot, SP_COUNTER_BYTES_OUT, x->bytes_out);
}

static const char *const kinds[SP_LIMIT_KINDS] = {"requests", "tokens", "concurrency"};

static struct sp_span model_of(const struct sp_exchange *x) {
    return x->model ? sp_span_text(x->model->name) : x->inspection.model;
}

static void count_usage(const struct sp_exchange *x, uint64_t total_us, int64_t first_byte_us) {
    const struct sp_service_parts *parts = &x->service->parts;
    if (!parts->counters || (x->tokens_in < 0 && x->tokens_out < 0))
        return;
    const struct sp_usage_count usage = {
        .model_slot = x->model ? x->model->slot : SP_SLOT_NONE,
        .key_id = x->principal->kind == SP_CREDENTIAL_API_KEY ? x->principal->key_id : SP_SPAN(""),
        .tenant = x->principal->tenant,
        .tokens_in = x->tokens_in,
        .tokens_out = x->tokens_out,
        .estimated = x->tokens_estimated,
        .first_token_us = first_byte_us,
        .generation_us = first_byte_us < 0 ? 0 : total_us - (uint64_t)first_byte_us,
        .streamed = x->inspection.stream,
    };
    sp_count_usage(parts->counters, parts->worker_slot, &usage);
}

/* For `sallyport why`: what was refused by us, and what a shadow limit would have refused. */
static void keep_refusal(const struct sp_exchange *x) {
    const struct sp_service_parts *parts = &x->service->parts;
    const struct sp_limit_decision *decision = &x->limit.decision;
    const struct sp_limit_config *limit = x->limited ? decision->refused_by : NULL;
    bool shadow = x->limited && !limit && decision->shadow_refused;
    bool ours = x->status >= 400 && !x->first_byte_us;
    if (!parts->counters || !(ours || shadow))
        return;
    struct sp_refused refused = {
        .wall_ms = sp_wall_ms(),
        .request_id = x->request_id,
        .reason = sp_span_text(x->reason),
        .route = sp_span_text(x->route ? x->route->name : NULL),
        .model = model_of(x),
        .client = sp_span_text(x->from->address_text),
        .path = x->request.path,
        .limit = sp_span_text(limit ? limit->name : shadow ? decision->shadow_refused->name : NULL),
        .limit_kind = sp_span_text(limit ? kinds[decision->refused_kind] : NULL),
        .status = x->status,
        .degraded = x->limited && decision->degraded,
        .shadow = shadow,
    };
    if (limit) {
        const struct sp_limit_view *view = decision->refused_kind < SP_LIMIT_CONCURRENCY ? &decision->shown[decision->refused_kind] : NULL;
        refused.asked = decision->asked;
        refused.most = decision->most;
        refused.remaining = view ? view->remaining : 0;
        refused.retry_after_ms = decision->retry_after_ms;
    }
    if (x->principal) {
        refused.subject = x->principal->subject;
        refused.tenant = x->principal->tenant;
        refused.key_id = x->principal->key_id;
    }
    sp_refusals_add(parts->counters, parts->worker_slot, &refused);
}

void sp_stage_log(struct sp_exchange *x) {
    uint64_t total_us = sp_loop_now_us(sp_loop_of(x)) - x->started_us;
    int64_t first_byte_us = x->first_byte_us ? (int64_t)(x->first_byte_us - x->started_us) : -1;
    count(x, total_us, first_byte_us);
    count_usage(x, total_us, first_byte_us);
    keep_refusal(x);
    if (!x->service->parts.access_log)
        return;
    const struct sp_limit_decision *decision = x->limited ? &x->limit.decision : NULL;
    const struct sp_principal *principal = x->principal;
    const struct sp_access_record record = {
        .wall_ms = x->started_wall_ms,
        .request_id = x->request_id,
        .client = sp_span_text(x->from->address_text),
        .protocol = x->from->protocol,
        .method = x->request.method_name,
        .path = x->request.path,
        .host = x->request.host,
        .tls_version = sp_span_text(x->from->tls.version),
        .tls_group = sp_span_text(x->from->tls.group),
        .tls_cipher = sp_span_text(x->from->tls.cipher),
        .route = sp_span_text(x->route ? x->route->name : NULL),
        .model = model_of(x),
        .subject = principal ? principal->subject : SP_SPAN(""),
        .tenant = principal ? principal->tenant : SP_SPAN(""),
        .key_id = principal ? principal->key_id : SP_SPAN(""),
        .pool = sp_span_text(x->pool ? x->pool->name : NULL),
        .server = sp_span_text(x->server),
        .reason = sp_span_text(x->reason),
        .limit = sp_span_text(decision && decision->refused_by ? decision->refused_by->name : NULL),
        .limit_kind = sp_span_text(decision && decision->refused_by ? kinds[decision->refused_kind] : NULL),
        .shadow_limit = sp_span_text(decision && decision->shadow_refused ? decision->shadow_refused->name : NULL),
        .status = x->status,
        .bytes_in = x->bytes_in,
        .bytes_out = x->bytes_out,
        .tokens_in = x->tokens_in,
        .tokens_out = x->tokens_out,
        .tokens_estimated = x->tokens_estimated,
        .first_byte_us = first_byte_us,
        .total_us = total_us,
        .retries = x->tries,
        .degraded = decision && decision->degraded,
    };
    sp_access_log_write(x->service->parts.access_log, &record);
}
