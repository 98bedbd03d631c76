/* Answers of our own: errors in the shape that the path's clients know how to read, and the fields that every answer carries. */
#include "private.h"

#include <inttypes.h>
#include <stdio.h>

void sp_answer_add(struct sp_answer *answer, struct sp_span name, struct sp_span value) {
    if (answer->n_fields == SP_ANSWER_FIELDS_MAX)
        return;
    answer->field[answer->n_fields].name = name;
    answer->field[answer->n_fields++].value = value;
}

/* ---- Limits, as OpenAI's clients read them and as the IETF draft (draft-ietf-httpapi-ratelimit-headers) says ---- */

/* "6m0s", "1.5s", "20ms": the form of Go's durations, which OpenAI's service uses. */
static size_t go_duration(uint64_t ms, char *out, size_t size) {
    int n;
    if (ms < 1000)
        n = snprintf(out, size, "%" PRIu64 "ms", ms);
    else if (ms < 60000)
        n = ms % 1000 ? snprintf(out, size, "%" PRIu64 ".%03" PRIu64 "s", ms / 1000, ms % 1000) : snprintf(out, size, "%" PRIu64 "s", ms / 1000);
    else if (ms < 3600000)
        n = snprintf(out, size, "%" PRIu64 "m%" PRIu64 "s", ms / 60000, ms / 1000 % 60);
    else
        n = snprintf(out, size, "%" PRIu64 "h%" PRIu64 "m%" PRIu64 "s", ms / 3600000, ms / 60000 % 60, ms / 1000 % 60);
    return n > 0 ? sp_min((size_t)n, size - 1) : 0;
}

static struct sp_span number(char **at, uint64_t value) {
    char *start = *at, digits[20];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n)
        *(*at)++ = digits[--n];
    return sp_span(start, (size_t)(*at - start));
}

static void put(char **at, struct sp_span text) {
    memcpy(*at, text.at, text.len);
    *at += text.len;
}

static uint64_t seconds_up(uint64_t ms) { return ms / 1000 + (ms % 1000 != 0); }

/* x-ratelimit-{limit,remaining,reset}-{requests,tokens} */
static void add_openai_fields(struct sp_answer *answer, const struct sp_limit_view *view, enum sp_limit_kind kind, char **at) {
    static const struct sp_span names[2][3] = {
        {SP_SPAN("x-ratelimit-limit-requests"), SP_SPAN("x-ratelimit-remaining-requests"), SP_SPAN("x-ratelimit-reset-requests")},
        {SP_SPAN("x-ratelimit-limit-tokens"), SP_SPAN("x-ratelimit-remaining-tokens"), SP_SPAN("x-ratelimit-reset-tokens")},
    };
    sp_answer_add(answer, names[kind][0], number(at, view->burst));
    sp_answer_add(answer, names[kind][1], number(at, view->remaining));
    char *start = *at;
    *at += go_duration(view->reset_ms, *at, 64);
    sp_answer_add(answer, names[kind][2], sp_span(start, (size_t)(*at - start)));
}

/* An item of a list: "name" or "name-tokens", and two parameters. */
static void put_item(char **at, bool first, const struct sp_limit_view *view, enum sp_limit_kind kind, const char letters[2], uint64_t one,
                     uint64_t other) {
    put(at, first ? SP_SPAN("\"") : SP_SPAN(", \""));
    put(at, sp_span_text(view->limit->name));
    put(at, kind == SP_LIMIT_TOKENS ? SP_SPAN("-tokens\";") : SP_SPAN("\";"));
    put(at, sp_span(&letters[0], 1));
    put(at, SP_SPAN("="));
    (void)number(at, one);
    put(at, SP_SPAN(";"));
    put(at, sp_span(&letters[1], 1));
    put(at, SP_SPAN("="));
    (void)number(at, other);
}

static void add_ietf_fields(struct sp_answer *answer, const struct sp_limit_view shown[2], char **at) {
    char *start = *at;
    for (unsigned kind = 0; kind < 2; kind++)
        if (shown[kind].limit)
            put_item(at, *at == start, &shown[kind], kind, "rt", shown[kind].remaining, seconds_up(shown[kind].reset_ms));
    sp_answer_add(answer, SP_SPAN("ratelimit"), sp_span(start, (size_t)(*at - start)));
    start = *at;
    for (unsigned kind = 0; kind < 2; kind++) {
        if (!shown[kind].limit)
            continue;
        const struct sp_rate *rate = kind == SP_LIMIT_TOKENS ? &shown[kind].limit->tokens : &shown[kind].limit->requests;
        put_item(at, *at == start, &shown[kind], kind, "qw", rate->amount, sp_max(rate->period_us / 1000000, UINT64_C(1)));
    }
    sp_answer_add(answer, SP_SPAN("ratelimit-policy"), sp_span(start, (size_t)(*at - start)));
}

void sp_answer_limits(struct sp_exchange *x, struct sp_answer *answer) {
    const struct sp_limit_decision *decision = &x->limit.decision;
    const struct sp_limit_view *shown = decision->shown;
    if (!x->limited || (!shown[0].limit && !shown[1].limit && decision->admitted))
        return;
    /* Sixteen numbers of at most 20 digits, each name twice, punctuation. */
    size_t names = 0;
    for (unsigned kind = 0; kind < 2; kind++)
        names += shown[kind].limit ? 2 * strlen(shown[kind].limit->name) : 0;
    char *at = sp_arena_alloc(&x->arena, 768 + names);
    if (!at)
        return;
    for (unsigned kind = 0; kind < 2; kind++)
        if (shown[kind].limit)
            add_openai_fields(answer, &shown[kind], kind, &at);
    if (shown[0].limit || shown[1].limit)
        add_ietf_fields(answer, shown, &at);
    if (!decision->admitted && !decision->never) {
        sp_answer_add(answer, SP_SPAN("retry-after"), number(&at, seconds_up(sp_max(decision->retry_after_ms, UINT64_C(1)))));
        sp_answer_add(answer, SP_SPAN("retry-after-ms"), number(&at, sp_max(decision->retry_after_ms, UINT64_C(1))));
    }
}

void sp_answer_common(struct sp_exchange *x, struct sp_answer *answer) {
    sp_answer_add(answer, SP_SPAN("x-request-id"), x->request_id);
    sp_answer_add(answer, SP_SPAN("strict-transport-security"), SP_SPAN("max-age=31536000"));
    sp_answer_limits(x, answer);
    if (x->limited && x->limit.decision.degraded)
        sp_answer_add(answer, SP_SPAN("x-sallyport-degraded"), SP_SPAN("limits"));
}

/* ---- Error bodies ---- */

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
    answer.n_fields = 0;
    answer.status = status;
    answer.has_length = true;
    answer.has_body = x->request.method != SP_HTTP_HEAD;
    answer.content_length = body.len;
    x->status = status;
    sp_answer_add(&answer, SP_SPAN("content-type"), SP_SPAN("application/json"));
    sp_answer_add(&answer, SP_SPAN("date"), sp_service_date(x->service));
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
    answer.n_fields = 0;
    answer.status = status;
    answer.has_length = true;
    answer.has_body = x->request.method != SP_HTTP_HEAD;
    if (error_body(x, status, code ? code : default_code(status), message, &body))
        sp_buffer_free(&body);
    answer.content_length = sp_buffer_len(&body);
    x->status = status;
    x->reason = reason;
    sp_answer_add(&answer, SP_SPAN("content-type"), SP_SPAN("application/json"));
    sp_answer_add(&answer, SP_SPAN("date"), sp_service_date(x->service));
    if (name.len)
        sp_answer_add(&answer, name, value);
    if (status == 503)
        sp_answer_add(&answer, SP_SPAN("retry-after"), sp_span_text(sp_sentence(x, "%llu", (unsigned long long)sp_max(x->retry_after_s, UINT64_C(1)))));
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
