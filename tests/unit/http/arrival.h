/* A message as a connection sees it: bytes that arrive in pieces, a head, a body. Shared by the tests of this folder. */
#ifndef SALLYPORT_TEST_ARRIVAL_H
#define SALLYPORT_TEST_ARRIVAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sallyport/http.h>

#define PAYLOAD_MAX 4096

struct outcome {
    enum { NEEDS_MORE, WHOLE, REFUSED_HEAD, REFUSED_BODY } what;
    unsigned status; /* that answers a refused one */
    size_t head_len;
    size_t used; /* head and body; what follows is the next message */
    char payload[PAYLOAD_MAX];
    size_t payload_len;
};

static inline void arrive_body(struct outcome *outcome, struct sp_http_body *body, struct sp_span bytes, size_t step) {
    size_t have = outcome->used;
    for (;;) {
        struct sp_span input = sp_span(bytes.at + outcome->used, have - outcome->used), payload;
        enum sp_http_progress progress;
        do {
            progress = sp_http_body_next(body, &input, &payload);
            if (payload.len) {
                assert_true(outcome->payload_len + payload.len <= PAYLOAD_MAX);
                memcpy(outcome->payload + outcome->payload_len, payload.at, payload.len);
            }
            outcome->payload_len += payload.len;
        } while (progress == SP_HTTP_INCOMPLETE && input.len > 0);
        outcome->used = have - input.len;
        if (progress != SP_HTTP_INCOMPLETE) {
            outcome->what = progress == SP_HTTP_COMPLETE ? WHOLE : REFUSED_BODY;
            outcome->status = progress == SP_HTTP_COMPLETE ? 0 : 400;
            return;
        }
        if (have == bytes.len)
            return;
        have += sp_min(step, bytes.len - have);
    }
}

/* The head of `bytes`, found while they arrive `step` at a time. False when it is refused or not all there. */
static inline bool arrive_head(struct outcome *outcome, struct sp_span bytes, size_t step) {
    struct sp_http_scan scan = {0};
    *outcome = (struct outcome){.what = NEEDS_MORE};
    for (size_t have = sp_min(step, bytes.len);; have += sp_min(step, bytes.len - have)) {
        enum sp_http_progress progress = sp_http_find_head(&scan, sp_span(bytes.at, have), &outcome->head_len, &outcome->status);
        if (progress == SP_HTTP_REFUSED)
            outcome->what = REFUSED_HEAD;
        if (progress != SP_HTTP_INCOMPLETE || have == bytes.len)
            return progress == SP_HTTP_COMPLETE;
    }
}

static inline struct outcome arrive_request(struct sp_span bytes, size_t step, struct sp_http_request *request) {
    struct outcome outcome;
    if (!arrive_head(&outcome, bytes, step))
        return outcome;
    const char *reason = NULL;
    outcome.status = sp_http_parse_request(sp_span(bytes.at, outcome.head_len), request, &reason);
    if (outcome.status) {
        assert_non_null(reason);
        outcome.what = REFUSED_HEAD;
        return outcome;
    }
    outcome.used = outcome.head_len;
    struct sp_http_body body;
    sp_http_body_begin(&body, request->framing, request->content_length);
    arrive_body(&outcome, &body, bytes, step);
    return outcome;
}

static inline void assert_same_outcome(const struct outcome *a, const struct outcome *b) {
    assert_int_equal(a->what, b->what);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->head_len, b->head_len);
    assert_int_equal(a->used, b->used);
    assert_int_equal(a->payload_len, b->payload_len);
    assert_memory_equal(a->payload, b->payload, a->payload_len);
}

static inline void assert_span(struct sp_span actual, const char *expected) {
    assert_int_equal(actual.len, strlen(expected));
    assert_memory_equal(actual.at, expected, actual.len);
}

#endif
