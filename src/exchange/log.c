/* log: the exchange, told: one line in the access log, and the counters. */
#include "private.h"

static unsigned slot_of_route(const struct sp_exchange *x) { return x->route ? x->route->slot : SP_SLOT_NONE; }

static void count(const struct sp_exchange *x, uint64_t total_us, int64_t first_byte_us) {
    const struct sp_service_parts *parts = &x->service->parts;
    if (!parts->counters)
        return;
    unsigned pool = x->pool && x->route ? x->route->pool->slot : SP_SLOT_NONE;
    sp_count_request(parts->counters, parts->worker_slot, slot_of_route(x), pool, x->status, total_us, first_byte_us);
    sp_count(parts->counters, parts->worker_slot, SP_COUNTER_BYTES_IN, x->bytes_in);
    sp_count(parts->counters, parts->worker_slot, SP_COUNTER_BYTES_OUT, x->bytes_out);
}

void sp_stage_log(struct sp_exchange *x) {
    uint64_t total_us = sp_loop_now_us(sp_loop_of(x)) - x->started_us;
    int64_t first_byte_us = x->first_byte_us ? (int64_t)(x->first_byte_us - x->started_us) : -1;
    count(x, total_us, first_byte_us);
    if (!x->service->parts.access_log)
        return;
    const struct sp_limit_decision *decision = x->limited ? &x->limit.decision : NULL;
    struct sp_access_record record = {
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
        .pool = sp_span_text(x->pool),
        .server = sp_span_text(x->server),
        .reason = sp_span_text(x->reason),
        .limit = sp_span_text(decision && decision->refused_by ? decision->refused_by->name : NULL),
        .shadow_limit = sp_span_text(decision && decision->shadow_refused ? decision->shadow_refused->name : NULL),
        .status = x->status,
        .bytes_in = x->bytes_in,
        .bytes_out = x->bytes_out,
        .tokens_in = -1,
        .tokens_out = -1,
        .first_byte_us = first_byte_us,
        .total_us = total_us,
        .retries = x->tries,
        .degraded = decision && decision->degraded,
    };
    if (x->principal) {
        record.subject = x->principal->subject;
        record.tenant = x->principal->tenant;
        record.key_id = x->principal->key_id;
    }
    sp_access_log_write(x->service->parts.access_log, &record);
}
