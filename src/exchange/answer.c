/* The head of an answer, whoever gives it: fields gathered as lines, and those that every answer carries. */
#include "private.h"

#include <errno.h>

void sp_answer_begin(struct sp_exchange *x, struct sp_answer *answer, unsigned status) {
    *answer = (struct sp_answer){.status = status, .fields = &x->service->answer_fields};
    sp_buffer_consume(answer->fields, sp_buffer_len(answer->fields));
}

/* The first error stays. */
static void note(struct sp_answer *answer, int error) {
    if (error && !answer->error)
        answer->error = error;
}

void sp_answer_add(struct sp_answer *answer, struct sp_http_name name, struct sp_span value) {
    note(answer, sp_http_write_named(answer->fields, name, value));
}

void sp_answer_add_number(struct sp_answer *answer, struct sp_http_name name, uint64_t number) {
    note(answer, sp_http_write_number(answer->fields, name, number));
}

void sp_answer_add_other(struct sp_answer *answer, struct sp_span name, struct sp_span value) {
    note(answer, sp_http_write_field(answer->fields, name, value));
}

void sp_answer_pass(struct sp_answer *answer, const struct sp_http_field *field) {
    note(answer, sp_http_write_parsed(answer->fields, field));
}

#define ADD_CONSTANT(answer, line) note(answer, sp_buffer_append_span((answer)->fields, SP_SPAN(line "\r\n")))

/* ---- Limits, as OpenAI's clients read them and as the IETF draft (draft-ietf-httpapi-ratelimit-headers) says ---- */

static char *put(char *at, struct sp_span text) {
    memcpy(at, text.at, text.len);
    return at + text.len;
}

static char *put_number(char *at, uint64_t number) { return at + sp_decimal(number, at); }

enum { GO_DURATION_MAX = 32 };

/* "6m0s", "1.5s", "20ms": the form of Go's durations, which OpenAI's service uses. */
static size_t go_duration(uint64_t ms, char out[GO_DURATION_MAX]) {
    char *at = out;
    if (ms < 1000) {
        at = put(put_number(at, ms), SP_SPAN("ms"));
        return (size_t)(at - out);
    }
    uint64_t s = ms / 1000;
    unsigned part = (unsigned)(ms % 1000);
    if (s >= 3600) {
        at = put_number(at, s / 3600);
        *at++ = 'h';
    }
    if (s >= 60) {
        at = put_number(at, s / 60 % 60);
        *at++ = 'm';
    }
    at = put_number(at, s % 60);
    if (s < 60 && part) {
        const char digits[] = {'.', (char)('0' + part / 100), (char)('0' + part / 10 % 10), (char)('0' + part % 10)};
        at = put(at, sp_span(digits, sizeof digits));
    }
    *at++ = 's';
    return (size_t)(at - out);
}

/* What an item takes besides the limit's name: punctuation and two numbers. */
enum { ITEM_MAX = sizeof(", \"-tokens\";r=;t=") + 2 * SP_DECIMAL_MAX };

/* An item of a list: "name" or "name-tokens", and two parameters. */
static char *put_item(char *at, struct sp_span name, enum sp_limit_kind kind, const char letters[2], uint64_t one, uint64_t other) {
    *at++ = '"';
    at = put(at, name);
    at = kind == SP_LIMIT_TOKENS ? put(at, SP_SPAN("-tokens\";")) : put(at, SP_SPAN("\";"));
    *at++ = letters[0];
    *at++ = '=';
    at = put_number(at, one);
    *at++ = ';';
    *at++ = letters[1];
    *at++ = '=';
    return put_number(at, other);
}

static struct sp_span name_of(const struct sp_limit_view *view) { return sp_span_text(view->limit ? view->limit->name : NULL); }

/* Room for the items of one list; NULL: out of memory. */
static char *room_for_items(struct sp_exchange *x, struct sp_span requests, struct sp_span tokens) {
    return sp_arena_alloc(&x->arena, requests.len + tokens.len + 2 * ITEM_MAX);
}

/* x-ratelimit-limit-{requests,tokens} and ratelimit-policy: the same from answer to answer while the same limits are shown. */
static int write_steady(struct sp_exchange *x, const struct sp_limit_view shown[2], struct sp_buffer *out) {
    static const struct sp_http_name limit_of[2] = {SP_HTTP_NAME("x-ratelimit-limit-requests"), SP_HTTP_NAME("x-ratelimit-limit-tokens")};
    char *policy = room_for_items(x, name_of(&shown[0]), name_of(&shown[1])), *at = policy;
    if (!policy)
        return -ENOMEM;
    for (unsigned kind = 0; kind < 2; kind++) {
        const struct sp_limit_config *limit = shown[kind].limit;
        if (!limit)
            continue;
        int error = sp_http_write_number(out, limit_of[kind], shown[kind].burst);
        if (error)
            return error;
        const struct sp_rate *rate = kind == SP_LIMIT_TOKENS ? &limit->tokens : &limit->requests;
        at = at > policy ? put(at, SP_SPAN(", ")) : at;
        at = put_item(at, name_of(&shown[kind]), kind, "qw", rate->amount, sp_max(rate->period_us / 1000000, UINT64_C(1)));
    }
    return sp_http_write_named(out, SP_HTTP_NAME("ratelimit-policy"), sp_span(policy, (size_t)(at - policy)));
}

static bool is_of(const struct sp_limit_fields *last, uint64_t generation, const struct sp_limit_view shown[2]) {
    return last->generation == generation && last->limit[0] == shown[0].limit && last->limit[1] == shown[1].limit &&
           last->burst[0] == shown[0].burst && last->burst[1] == shown[1].burst;
}

static void add_steady(struct sp_exchange *x, struct sp_answer *answer, const struct sp_limit_view shown[2]) {
    struct sp_limit_fields *last = &x->service->limit_fields;
    uint64_t generation = x->snapshot->config->generation;
    if (!is_of(last, generation, shown)) {
        sp_buffer_consume(&last->lines, sp_buffer_len(&last->lines));
        *last = (struct sp_limit_fields){.lines = last->lines};
        int error = write_steady(x, shown, &last->lines);
        if (error) {
            if (error != -ENOMEM) /* an answer without them is better than none */
                note(answer, error);
            return;
        }
        last->generation = generation;
        for (unsigned kind = 0; kind < 2; kind++) {
            last->limit[kind] = shown[kind].limit;
            last->burst[kind] = shown[kind].burst;
        }
    }
    note(answer, sp_buffer_append_span(answer->fields, sp_buffer_span(&last->lines)));
}

/* x-ratelimit-{remaining,reset}-{requests,tokens} and ratelimit */
static void add_changing(struct sp_exchange *x, struct sp_answer *answer, const struct sp_limit_view shown[2]) {
    static const struct sp_http_name names[2][2] = {
        {SP_HTTP_NAME("x-ratelimit-remaining-requests"), SP_HTTP_NAME("x-ratelimit-reset-requests")},
        {SP_HTTP_NAME("x-ratelimit-remaining-tokens"), SP_HTTP_NAME("x-ratelimit-reset-tokens")},
    };
    struct sp_span name[2] = {name_of(&shown[0]), name_of(&shown[1])};
    char *items = room_for_items(x, name[0], name[1]), *at = items;
    for (unsigned kind = 0; kind < 2; kind++) {
        const struct sp_limit_view *view = &shown[kind];
        if (!view->limit)
            continue;
        char reset[GO_DURATION_MAX] SP_UNINITIALIZED;
        sp_answer_add_number(answer, names[kind][0], view->remaining);
        sp_answer_add(answer, names[kind][1], sp_span(reset, go_duration(view->reset_ms, reset)));
        if (!items)
            continue;
        at = at > items ? put(at, SP_SPAN(", ")) : at;
        at = put_item(at, name[kind], kind, "rt", view->remaining, sp_divide_up(view->reset_ms, 1000));
    }
    if (items)
        sp_answer_add(answer, SP_HTTP_NAME("ratelimit"), sp_span(items, (size_t)(at - items)));
}

static void add_limits(struct sp_exchange *x, struct sp_answer *answer) {
    const struct sp_limit_decision *decision = &x->limit.decision;
    const struct sp_limit_view *shown = decision->shown;
    if (!x->limited)
        return;
    if (shown[0].limit || shown[1].limit) {
        add_steady(x, answer, shown);
        add_changing(x, answer, shown);
    }
    if (!decision->admitted && !decision->never) {
        uint64_t after_ms = sp_max(decision->retry_after_ms, UINT64_C(1));
        sp_answer_add_number(answer, SP_HTTP_NAME("retry-after"), sp_divide_up(after_ms, 1000));
        sp_answer_add_number(answer, SP_HTTP_NAME("retry-after-ms"), after_ms);
    }
}

void sp_answer_common(struct sp_exchange *x, struct sp_answer *answer) {
    sp_answer_add(answer, SP_HTTP_NAME("x-request-id"), x->request_id);
    ADD_CONSTANT(answer, "strict-transport-security: max-age=31536000");
    add_limits(x, answer);
    if (x->limited && x->limit.decision.degraded)
        ADD_CONSTANT(answer, "x-sallyport-degraded: limits");
}
