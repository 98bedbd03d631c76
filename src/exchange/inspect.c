/* inspect: what is asked? Its size; and on routes that are decided by the model (`models: body`), the body itself: scanned as it comes,
 * gathered until it is whole, and only then sent on, with what has to be changed in it changed. */
#include "private.h"

enum media { MEDIA_JSON, MEDIA_MULTIPART, MEDIA_OTHER };

static enum media media_of(struct sp_span content_type) {
    if (sp_http_is_plain_json(content_type))
        return MEDIA_JSON;
    struct sp_span rest = content_type, type;
    if (!sp_span_split(&rest, ';', &type))
        return MEDIA_OTHER;
    if (sp_span_eq_nocase(type, SP_SPAN("application/json")))
        return MEDIA_JSON;
    if (type.len > 17 && sp_span_eq_nocase(sp_span(type.at, 12), SP_SPAN("application/")) &&
        sp_span_eq_nocase(sp_span_from(type, type.len - 5), SP_SPAN("+json"))) /* RFC 6839 */
        return MEDIA_JSON;
    return sp_span_eq_nocase(type, SP_SPAN("multipart/form-data")) ? MEDIA_MULTIPART : MEDIA_OTHER;
}

static enum sp_stage_answer too_large(struct sp_exchange *x) {
    return sp_reply(x, 413, "request_too_large", "The request body is larger than this path takes.", "body too large");
}

/* ---- The scan ---- */

size_t sp_inspect_scan_size(void) { return sp_max(sp_json_scan_size(), sp_multipart_scan_size()); }

/* A scan's memory counts against the budget of bodies, for it waits as long as they do. */
static bool take_scan(struct sp_exchange *x) {
    struct sp_service *service = x->service;
    if (service->body_bytes + sp_inspect_scan_size() > service->body_bytes_max || !(x->inspection.scan = sp_pool_get(&service->scans)))
        return false;
    service->body_bytes += sp_inspect_scan_size();
    return true;
}

void sp_inspect_free(struct sp_exchange *x) {
    struct sp_service *service = x->service;
    if (!x->inspection.scan)
        return;
    sp_pool_put(&service->scans, sp_take(x->inspection.scan));
    service->body_bytes -= sp_inspect_scan_size();
    if (!sp_list_empty(&service->body_waiters))
        sp_defer(service->parts.loop, &service->wake_waiters);
}

static enum sp_stage_answer begin(struct sp_exchange *x) {
    struct sp_inspection *inspection = &x->inspection;
    const struct sp_http_field *field = sp_http_field(&x->request.fields, SP_FIELD_CONTENT_TYPE);
    struct sp_span content_type = field ? field->value : SP_SPAN("");
    enum media media = media_of(content_type);
    inspection->is_json = media == MEDIA_JSON;
    if (media == MEDIA_OTHER)
        return sp_reply(x, 415, "unsupported_media_type", "The model is read from the body, so it must be application/json or multipart/form-data.",
                        "not JSON");
    if (!sp_content_is_utf8(content_type))
        return sp_reply(x, 415, "unsupported_charset",
                        "The model is read from the body, so it must be UTF-8; name no other charset in Content-Type.", "charset");
    if (sp_http_field(&x->request.fields, SP_FIELD_CONTENT_ENCODING))
        return sp_reply(x, 415, "unsupported_content_encoding", "The model is read from the body, so it must not be compressed.", "compressed body");
    x->body.gathered = true;
    if (!take_scan(x)) {
        sp_body_wait_for_memory(x, sp_inspect_scan_size());
        sp_exchange_watch(x);
        return SP_STAGE_WAIT;
    }
    sp_body_wait_no_more(x);
    if (inspection->is_json)
        sp_json_begin(inspection->scan, &x->service->scan_key);
    else if (sp_multipart_begin(inspection->scan, content_type))
        return sp_reply(x, 400, "bad_multipart", "The Content-Type of a multipart body must name its boundary.", "malformed multipart");
    inspection->state = inspection->is_json ? SP_INSPECT_JSON : SP_INSPECT_MULTIPART;
    return SP_STAGE_NEXT;
}

static enum sp_http_progress scan_on(struct sp_exchange *x) {
    struct sp_inspection *inspection = &x->inspection;
    bool json = inspection->state == SP_INSPECT_JSON;
    enum sp_http_progress progress = SP_HTTP_INCOMPLETE;
    for (struct sp_span bytes; progress == SP_HTTP_INCOMPLETE && (bytes = sp_body_unread(x, &inspection->mark)).len > 0;)
        progress = json ? sp_json_feed(inspection->scan, bytes) : sp_multipart_feed(inspection->scan, bytes);
    if (progress == SP_HTTP_INCOMPLETE && x->body.complete)
        progress = json ? sp_json_end(inspection->scan) : sp_multipart_end(inspection->scan);
    return progress;
}

static enum sp_stage_answer malformed(struct sp_exchange *x) {
    uint64_t at = 0;
    bool json = x->inspection.state == SP_INSPECT_JSON;
    const char *wrong = json ? sp_json_wrong(x->inspection.scan, &at) : sp_multipart_wrong(x->inspection.scan, &at);
    return sp_reply(x, 400, json ? "invalid_json" : "invalid_multipart", sp_sentence(x, "%s (at byte %llu)", wrong, (unsigned long long)at),
                    json ? "malformed JSON" : "malformed multipart");
}

/* The body is whole and well-formed: what does it ask for? */
static enum sp_stage_answer understand(struct sp_exchange *x) {
    struct sp_inspection *inspection = &x->inspection;
    const struct sp_ask *ask =
        inspection->state == SP_INSPECT_JSON ? sp_json_ask(inspection->scan) : sp_multipart_ask(inspection->scan);
    if (!sp_arena_copy(&x->arena, sp_span(ask->model, ask->model_len), &inspection->model))
        return SP_STAGE_CLOSE;
    inspection->model_at = ask->model_at;
    inspection->insert_at = ask->insert_at;
    inspection->stream_options_at = ask->stream_options_at;
    inspection->stream = ask->stream;
    inspection->include_usage = ask->include_usage;
    enum sp_stage_answer answer = sp_models_choose(x);
    if (answer == SP_STAGE_NEXT)
        answer = sp_tokens_reserve(x, ask);
    inspection->state = SP_INSPECT_DONE;
    sp_inspect_free(x);
    return answer;
}

static enum sp_stage_answer look(struct sp_exchange *x) {
    if (x->inspection.state == SP_INSPECT_NOT_BEGUN) {
        enum sp_stage_answer begun = begin(x);
        if (begun != SP_STAGE_NEXT)
            return begun;
    }
    switch (scan_on(x)) {
    case SP_HTTP_REFUSED:
        return malformed(x);
    case SP_HTTP_COMPLETE:
        return understand(x);
    case SP_HTTP_INCOMPLETE:
        break;
    }
    if (x->body.received > x->route->max_body)
        return too_large(x);
    x->front->go_on(x);
    if (x->ended)
        return SP_STAGE_WAIT;
    if (sp_body_wants(x)) /* else it waits for memory, and is told when there is some */
        x->front->read_more(x);
    sp_exchange_watch(x);
    return SP_STAGE_WAIT;
}

enum sp_stage_answer sp_stage_inspect(struct sp_exchange *x) {
    if (x->inspection.state == SP_INSPECT_NOT_BEGUN) {
        bool is_too_large = x->body.received > x->route->max_body;
        if (x->request.framing == SP_FRAMING_LENGTH)
            is_too_large = x->request.content_length > x->route->max_body;
        if (is_too_large)
            return too_large(x);
        /* An Upgrade field is not looked at and does not pass: the request is then an ordinary one (RFC 9110 §7.8). */
        x->target = x->route->pool;
        if (x->route->models_in_body && sp_models_listing(x))
            return SP_STAGE_NEXT;
        if (!x->route->models_in_body)
            return sp_tokens_reserve(x, NULL);
        if (x->request.framing == SP_FRAMING_NONE) {
            enum sp_stage_answer chosen = sp_models_choose(x);
            return chosen == SP_STAGE_NEXT ? sp_tokens_reserve(x, NULL) : chosen;
        }
    }
    return look(x);
}
