#include "arrival.h"

static struct sp_http_body body;

static enum sp_http_progress feed(const char *text, size_t *ret_payload, size_t *ret_rest) {
    struct sp_span input = sp_span_text(text), payload;
    enum sp_http_progress progress = sp_http_body_next(&body, &input, &payload);
    *ret_payload = payload.len;
    *ret_rest = input.len;
    return progress;
}

static void no_body_is_complete_at_once_and_takes_nothing(void **state) {
    size_t payload, rest;
    sp_http_body_begin(&body, SP_FRAMING_NONE, 7);
    assert_int_equal(feed("GET /", &payload, &rest), SP_HTTP_COMPLETE);
    assert_int_equal(payload, 0);
    assert_int_equal(rest, 5);
}

static void a_length_takes_exactly_that_many_bytes(void **state) {
    size_t payload, rest;
    sp_http_body_begin(&body, SP_FRAMING_LENGTH, 7);
    assert_int_equal(feed("hello", &payload, &rest), SP_HTTP_INCOMPLETE);
    assert_int_equal(payload, 5);
    assert_int_equal(feed("", &payload, &rest), SP_HTTP_INCOMPLETE);
    assert_int_equal(feed("hello", &payload, &rest), SP_HTTP_COMPLETE);
    assert_int_equal(payload, 2);
    assert_int_equal(rest, 3);
    assert_int_equal(feed("lo", &payload, &rest), SP_HTTP_COMPLETE);
    assert_int_equal(payload, 0);
}

static void chunks_are_decoded(void **state) {
    size_t payload, rest;
    sp_http_body_begin(&body, SP_FRAMING_CHUNKED, 0);
    assert_int_equal(feed("5\r\nhel", &payload, &rest), SP_HTTP_INCOMPLETE);
    assert_int_equal(payload, 3);
    assert_int_equal(feed("lo\r\n0\r\n\r\nx", &payload, &rest), SP_HTTP_INCOMPLETE);
    assert_int_equal(payload, 2);
    assert_int_equal(feed("\r\n0\r\n\r\nx", &payload, &rest), SP_HTTP_COMPLETE);
    assert_int_equal(rest, 1);
}

static void a_body_that_ends_with_the_connection_never_says_that_it_is_complete(void **state) {
    size_t payload, rest;
    sp_http_body_begin(&body, SP_FRAMING_CLOSE, 0);
    assert_int_equal(feed("", &payload, &rest), SP_HTTP_INCOMPLETE);
    assert_int_equal(feed("hello", &payload, &rest), SP_HTTP_INCOMPLETE);
    assert_int_equal(payload, 5);
    assert_int_equal(rest, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_body_is_complete_at_once_and_takes_nothing),
        cmocka_unit_test(a_length_takes_exactly_that_many_bytes),
        cmocka_unit_test(chunks_are_decoded),
        cmocka_unit_test(a_body_that_ends_with_the_connection_never_says_that_it_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
