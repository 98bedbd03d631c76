/* Answers of our own: errors in the shape that the path's clients know how to read. */
#include "private.h"

#include <stdio.h>

static const char *openai_type(unsigned status) {
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

static const char *anthropic_type(unsigned status) {
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 408:
    case 504:
        return "timeout_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    default:
        return status >= 500 ? "api_error" : "invalid_request_error";
    }
}

static const char *default_code(unsigned status) {
    switch (status) {
    case 400:
        return "bad_request";
    case 408:
        return "request_timeout";
    case 413:
        return "request_too_large";
    case 414:
        return "uri_too_long";
    case 417:
        return "expectation_failed";
    case 431:
        return "headers_too_large";
    case 501:
        return "not_implemented";
    case 502:
        return "bad_gateway";
    case 503:
        return "service_unavailable";
    case 504:
        return "gateway_timeout";
    case 505:
        return "http_version_not_supported";
    default:
        return "error";
    }
}

static int error_body(const struct sp_exchange *x, unsigned status, const char *code, const char *message, struct sp_buffer *out) {
    int error;
    if (sp_span_starts(x->request.path, SP_SPAN("/v1/messages"))) {
        error = sp_buffer_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", anthropic_type(status));
        if (!error)
            error = sp_buffer_append_json(out, sp_span_text(message));
        if (!error)
            error = sp_buffer_append_span(out, SP_SPAN("},\"request_id\":"));
        if (!error)
            error = sp_buffer_append_json(out, x->request_id);
        return error ? error : sp_buffer_append(out, "}", 1);
    }
    error = sp_buffer_append_span(out, SP_SPAN("{\"error\":{\"message\":"));
    if (!error)
        error = sp_buffer_append_json(out, sp_span_text(message));
    if (!error)
        error = sp_buffer_printf(out, ",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}", openai_type(status), code);
    return error;
}

const char *sp_sentence(struct sp_exchange *x, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int n = vsnprintf(NULL, 0, format, list);
    va_end(list);
    char *text = n < 0 ? NULL : sp_arena_alloc(&x->arena, (size_t)n + 1);
    if (!text)
        return format;
    va_start(list, format);
    (void)vsnprintf(text, (size_t)n + 1, format, list);
    va_end(list);
    return text;
}

enum sp_stage_answer sp_reply_json(struct sp_exchange *x, unsigned status, struct sp_span body) {
    struct sp_answer answer;
    sp_answer_begin(x, &answer, status);
    answer.has_length = true;
    answer.has_body = x->request.method != SP_HTTP_HEAD;
    answer.content_length = body.len;
    x->status = status;
    sp_answer_add(&answer, SP_HTTP_NAME("content-type"), SP_SPAN("application/json"));
    sp_answer_add(&answer, SP_HTTP_NAME("date"), sp_service_date(x->service));
    sp_answer_common(x, &answer);
    x->answered = true;
    x->front->head(x, &answer);
    if (!x->ended && answer.has_body)
        x->front->body(x, body);
    return SP_STAGE_REPLY;
}

enum sp_stage_answer sp_reply_with(struct sp_exchange *x, unsigned status, const char *code, const char *message, const char *reason,
                                   struct sp_span name, struct sp_span value) {
    struct sp_buffer body;
    sp_buffer_init(&body, 16 * 1024);
    struct sp_answer answer;
    sp_answer_begin(x, &answer, status);
    answer.has_length = true;
    answer.has_body = x->request.method != SP_HTTP_HEAD;
    if (error_body(x, status, code ? code : default_code(status), message, &body))
        sp_buffer_free(&body);
    answer.content_length = sp_buffer_len(&body);
    x->status = status;
    x->reason = reason;
    sp_answer_add(&answer, SP_HTTP_NAME("content-type"), SP_SPAN("application/json"));
    sp_answer_add(&answer, SP_HTTP_NAME("date"), sp_service_date(x->service));
    if (name.len)
        sp_answer_add_other(&answer, name, value);
    if (status == 503)
        sp_answer_add_number(&answer, SP_HTTP_NAME("retry-after"), sp_max(x->retry_after_s, UINT64_C(1)));
    sp_answer_common(x, &answer);
    x->answered = true;
    x->front->head(x, &answer);
    if (!x->ended && answer.has_body && sp_buffer_len(&body))
        x->front->body(x, sp_buffer_span(&body));
    sp_buffer_free(&body);
    return SP_STAGE_REPLY;
}

enum sp_stage_answer sp_reply(struct sp_exchange *x, unsigned status, const char *code, const char *message, const char *reason) {
    return sp_reply_with(x, status, code, message, reason, SP_SPAN(""), SP_SPAN(""));
}
