/* A body that is scanned as it arrives, in pieces of every size. Shared by the tests of the JSON scanner. */
#ifndef SALLYPORT_TEST_SCANNING_H
#define SALLYPORT_TEST_SCANNING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <sallyport/json.h>

struct scanned {
    enum sp_http_progress progress;
    struct sp_ask ask;
    const char *wrong;
    uint64_t wrong_at;
};

static inline struct scanned scan_in_steps(struct sp_span body, size_t step) {
    static const struct sp_hash_key key = {0x0123, 0x4567};
    struct sp_json_scan *scan = malloc(sp_json_scan_size());
    assert_non_null(scan);
    memset(scan, 0xff, sp_json_scan_size());
    sp_json_begin(scan, &key);
    while (body.len > 0) {
        sp_json_feed(scan, sp_span(body.at, sp_min(step, body.len)));
        body = sp_span_from(body, sp_min(step, body.len));
    }
    struct scanned scanned = {.progress = sp_json_end(scan), .ask = *sp_json_ask(scan)};
    if (scanned.progress == SP_HTTP_REFUSED)
        scanned.wrong = sp_json_wrong(scan, &scanned.wrong_at);
    free(scan);
    return scanned;
}

/* The same whatever the steps. */
static inline struct scanned scan_span(struct sp_span body) {
    struct scanned at_once = scan_in_steps(body, SIZE_MAX);
    static const size_t steps[] = {1, 2, 3, 17, 64};
    for (size_t i = 0; i < SP_COUNT(steps); i++) {
        struct scanned again = scan_in_steps(body, steps[i]);
        assert_int_equal(again.progress, at_once.progress);
        assert_ptr_equal(again.wrong, at_once.wrong);
        assert_int_equal(again.wrong_at, at_once.wrong_at);
        assert_int_equal(again.ask.text_bytes, at_once.ask.text_bytes);
    }
    return at_once;
}

static inline struct scanned scan_text(const char *body) { return scan_span(sp_span_text(body)); }

static inline struct sp_ask asked(const char *body) {
    struct scanned scanned = scan_text(body);
    if (scanned.progress != SP_HTTP_COMPLETE)
        fail_msg("refused at %llu (%s): %s", (unsigned long long)scanned.wrong_at, scanned.wrong, body);
    return scanned.ask;
}

/* Refused there, with a sentence in which these words are. */
static inline void assert_refused_span(struct sp_span body, uint64_t at, const char *words) {
    struct scanned scanned = scan_span(body);
    if (scanned.progress != SP_HTTP_REFUSED)
        fail_msg("not refused: " SP_SPAN_FMT, SP_SPAN_ARG(body));
    if (scanned.wrong_at != at || !strstr(scanned.wrong, words))
        fail_msg("refused at %llu (%s): " SP_SPAN_FMT, (unsigned long long)scanned.wrong_at, scanned.wrong, SP_SPAN_ARG(body));
}

static inline void assert_refused_at(const char *body, uint64_t at, const char *words) {
    assert_refused_span(sp_span_text(body), at, words);
}

static inline void assert_all_complete(const char *const *bodies, size_t count) {
    for (size_t i = 0; i < count; i++)
        asked(bodies[i]);
}

static inline void assert_model(const struct sp_ask *ask, const char *expected) {
    assert_int_equal(ask->model_len, strlen(expected));
    assert_memory_equal(ask->model, expected, ask->model_len);
}

static inline void assert_place(struct sp_json_place place, const char *body, const char *expected) {
    assert_int_equal(place.len, strlen(expected));
    assert_memory_equal(body + place.at, expected, place.len);
}

#endif
