/* Uploads: a line with the Content-Type, then the body. Whatever the pieces it arrives in, the same is said about it; the model is exactly
 * what stands between the head of a part and the next boundary, and another one can be put in its place. */
#include "invariants.h"

#include <sallyport/json.h>

struct told {
    bool is_ours;
    enum sp_http_progress progress;
    struct sp_ask ask;
    const char *wrong;
    uint64_t wrong_at;
};

static struct told scan_in_steps(struct sp_span type, struct sp_span body, size_t step) {
    struct sp_multipart_scan *scan = malloc(sp_multipart_scan_size());
    must(scan);
    memset(scan, 0xa5, sp_multipart_scan_size());
    struct told told = {.is_ours = sp_multipart_begin(scan, type) == 0};
    for (; told.is_ours && body.len > 0; body = sp_span_from(body, step)) {
        size_t n = sp_min(step, body.len);
        char *copy = malloc(n); /* its own, for a sanitizer to see what is read past its end */
        must(copy);
        memcpy(copy, body.at, n);
        enum sp_http_progress progress = sp_multipart_feed(scan, sp_span(copy, n));
        must(progress != SP_HTTP_COMPLETE && (told.progress != SP_HTTP_REFUSED || progress == SP_HTTP_REFUSED));
        told.progress = progress;
        free(copy);
    }
    if (told.is_ours) {
        enum sp_http_progress at_end = sp_multipart_end(scan);
        must(at_end != SP_HTTP_INCOMPLETE && (told.progress != SP_HTTP_REFUSED || at_end == SP_HTTP_REFUSED));
        told.progress = at_end;
        told.ask = *sp_multipart_ask(scan);
        if (at_end == SP_HTTP_REFUSED)
            told.wrong = sp_multipart_wrong(scan, &told.wrong_at);
    }
    free(scan);
    return told;
}

static void check_same(const struct told *a, const struct told *b) {
    must(a->is_ours == b->is_ours && a->progress == b->progress && a->wrong == b->wrong && a->wrong_at == b->wrong_at);
    if (a->progress != SP_HTTP_COMPLETE)
        return;
    must(a->ask.model_len == b->ask.model_len && memcmp(a->ask.model, b->ask.model, a->ask.model_len) == 0);
    must(a->ask.model_at.at == b->ask.model_at.at && a->ask.model_at.len == b->ask.model_at.len);
    must(a->ask.stream == b->ask.stream && a->ask.n == b->ask.n && a->ask.max_tokens == b->ask.max_tokens);
}

/* The place lies between the empty line of a head and a line that begins with two hyphens, and holds the model. */
static void check_model(const struct sp_ask *ask, struct sp_span body) {
    struct sp_json_place place = ask->model_at;
    must(place.len == ask->model_len && place.len <= SP_MODEL_NAME_MAX);
    if (place.len == 0)
        return;
    must(place.at >= 4 && place.at <= body.len && place.len + 4 <= body.len - place.at);
    must(memcmp(body.at + place.at - 4, "\r\n\r\n", 4) == 0 && memcmp(body.at + place.at + place.len, "\r\n--", 4) == 0);
    must(memcmp(body.at + place.at, ask->model, place.len) == 0 && sp_utf8_valid(sp_span(ask->model, ask->model_len)));
}

static void check_rewriting(struct sp_span type, struct sp_span body, const struct sp_ask *ask) {
    static const struct sp_span another = SP_SPAN("another\r\n-");
    struct sp_buffer out;
    sp_buffer_init(&out, body.len + another.len + 1);
    must(sp_buffer_append(&out, body.at, ask->model_at.at) == 0 && sp_buffer_append_span(&out, another) == 0);
    must(sp_buffer_append_span(&out, sp_span_from(body, ask->model_at.at + ask->model_at.len)) == 0);
    struct told told = scan_in_steps(type, sp_buffer_span(&out), SIZE_MAX);
    must(told.progress == SP_HTTP_COMPLETE && sp_span_eq(sp_span(told.ask.model, told.ask.model_len), another));
    must(told.ask.stream == ask->stream && told.ask.n == ask->n && told.ask.max_tokens == ask->max_tokens);
    sp_buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_span body = sp_span(len ? (const char *)bytes : "", len);
    const char *newline = memchr(body.at, '\n', body.len);
    struct sp_span type = sp_span(body.at, newline ? (size_t)(newline - body.at) : body.len);
    body = sp_span_from(body, type.len + 1);
    struct told told = scan_in_steps(type, body, SIZE_MAX);
    static const size_t steps[] = {1, 2, 7, 61};
    for (size_t i = 0; i < SP_COUNT(steps); i++) {
        struct told stepwise = scan_in_steps(type, body, steps[i]);
        check_same(&told, &stepwise);
    }
    if (!told.is_ours)
        return 0;
    must(told.progress != SP_HTTP_REFUSED || (told.wrong && told.wrong_at <= body.len));
    if (told.progress == SP_HTTP_COMPLETE) {
        check_model(&told.ask, body);
        if (told.ask.model_len)
            check_rewriting(type, body, &told.ask);
    }
    return 0;
}
