/* The last refusals, as JSON. */
#include <errno.h>

#include "endpoints.h"

/* A JSON string of bytes that may not be UTF-8: a client chose some of them. Nothing is null. */
static json_t *text_json(struct sp_span text) { return text.len > 0 ? sp_string_json(text) : json_null(); }

static json_t *limit_json(const struct sp_refused *refused) {
    if (refused->limit.len == 0)
        return json_null();
    return json_pack("{s:o,s:o,s:I,s:I,s:I,s:I}", "name", text_json(refused->limit), "kind", text_json(refused->limit_kind), "asked",
                     (json_int_t)refused->asked, "most", (json_int_t)refused->most, "remaining", (json_int_t)refused->remaining,
                     "retry_after_ms", (json_int_t)refused->retry_after_ms);
}

static json_t *refusal_json(const struct sp_refusal_record *record) {
    struct sp_refused refused;
    sp_refusal_of(record, &refused);
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:b,s:b}", "time", sp_time_json(refused.wall_ms), "request_id",
                     text_json(refused.request_id), "status", refused.status > 0 ? json_integer(refused.status) : json_null(), "reason",
                     text_json(refused.reason), "route", text_json(refused.route), "model", text_json(refused.model), "subject",
                     text_json(refused.subject), "tenant", text_json(refused.tenant), "key_id", text_json(refused.key_id), "client",
                     text_json(refused.client), "path", text_json(refused.path), "limit", limit_json(&refused), "degraded",
                     refused.degraded ? 1 : 0, "shadow", refused.shadow ? 1 : 0);
}

uint64_t sp_refusals_complete_since(const struct sp_admin_view *view) {
    uint64_t since = sp_refusals_since(view->counters);
    return since > 0 ? since : view->started_wall_ms;
}

json_t *sp_refusals_json(const struct sp_admin_view *view, const struct sp_refusal_record *records, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, refusal_json(&records[i])) < 0) {
            json_decref(list);
            return NULL;
        }
    return json_pack("{s:o,s:o}", "refusals", list, "complete_since", sp_time_json(sp_refusals_complete_since(view)));
}
