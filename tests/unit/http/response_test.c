#include "arrival.h"

#include <errno.h>

static struct sp_http_response response;

static int parse_span(struct sp_span head, enum sp_http_method method) {
    const char *reason = NULL;
    int error = sp_http_parse_response(head, method, &response, &reason);
    assert_true(error ? reason != NULL : reason == NULL);
    return error;
}

static int parse(const char *head) { return parse_span(sp_span_text(head), SP_HTTP_POST); }

static void a_plain_answer_is_understood(void **state) {
    assert_int_equal(parse("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n"), 0);
    assert_int_equal(response.status, 200);
    assert_int_equal(response.minor, 1);
    assert_int_equal(response.framing, SP_FRAMING_LENGTH);
    assert_int_equal(response.content_length, 12);
    assert_true(response.keep_alive);
    assert_span(sp_http_field(&response.fields, SP_FIELD_CONTENT_TYPE)->value, "application/json");
}

static void a_stream_is_framed_by_chunks_or_by_the_end_of_the_connection(void **state) {
    assert_int_equal(parse("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"), 0);
    assert_int_equal(response.framing, SP_FRAMING_CHUNKED);
    assert_true(response.keep_alive);
    assert_int_equal(parse("HTTP/1.1 200 OK\r\n\r\n"), 0);
    assert_int_equal(response.framing, SP_FRAMING_CLOSE);
    assert_false(response.keep_alive);
}

static void an_empty_answer_needs_no_close(void **state) {
    assert_int_equal(parse("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 0);
    assert_int_equal(response.framing, SP_FRAMING_NONE);
    assert_true(response.has_content_length);
    assert_true(response.keep_alive);
}

static void some_answers_never_have_a_body(void **state) {
    static const char *const heads[] = {"HTTP/1.1 100 Continue\r\n\r\n",
                                        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                                        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
                                        "HTTP/1.1 204 No Content\r\n\r\n",
                                        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
                                        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"};
    for (size_t i = 0; i < SP_COUNT(heads); i++) {
        assert_int_equal(parse(heads[i]), 0);
        assert_int_equal(response.framing, SP_FRAMING_NONE);
        assert_true(response.keep_alive);
    }
}

static void an_answer_to_head_has_a_length_but_no_body(void **state) {
    assert_int_equal(parse_span(SP_SPAN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), SP_HTTP_HEAD), 0);
    assert_int_equal(response.framing, SP_FRAMING_NONE);
    assert_true(response.has_content_length);
    assert_int_equal(response.content_length, 5);
    assert_int_equal(parse_span(SP_SPAN("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), SP_HTTP_HEAD), 0);
    assert_int_equal(response.framing, SP_FRAMING_NONE);
    assert_int_equal(parse_span(SP_SPAN("HTTP/1.1 200 OK\r\n\r\n"), SP_HTTP_HEAD), 0);
    assert_true(response.keep_alive);
}

static void http_1_0_and_close_end_the_connection(void **state) {
    assert_int_equal(parse("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"), 0);
    assert_false(response.keep_alive);
    assert_int_equal(parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"), 0);
    assert_false(response.keep_alive);
}

static void reasons_are_free_text(void **state) {
    assert_int_equal(parse("HTTP/1.1 500 Kein Gl\xc3\xbc"
                           "ck,\tnicht heute\r\nContent-Length: 0\r\n\r\n"),
                     0);
    assert_int_equal(parse("HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n"), 0);
    assert_int_equal(response.status, 599);
}

static void malformed_answers_are_refused(void **state) {
    static const struct sp_span heads[] = {
        SP_SPAN(""),
        SP_SPAN("\r\n"),
        SP_SPAN("HTTP/1.1 200\r\n\r\n"),
        SP_SPAN("HTTP/1.1 20 OK\r\n\r\n"),
        SP_SPAN("HTTP/1.1 2000 OK\r\n\r\n"),
        SP_SPAN("HTTP/1.1 099 OK\r\n\r\n"),
        SP_SPAN("HTTP/1.1 600 OK\r\n\r\n"),
        SP_SPAN("HTTP/1.1 +20 OK\r\n\r\n"),
        SP_SPAN("HTTP/1.1 2x0 OK\r\n\r\n"),
        SP_SPAN("HTTP/1.1  200 OK\r\n\r\n"),
        SP_SPAN("HTTP/1.1\t200 OK\r\n\r\n"),
        SP_SPAN(" HTTP/1.1 200 OK\r\n\r\n"),
        SP_SPAN("HTTP/2.0 200 OK\r\n\r\n"),
        SP_SPAN("HTTP/1.2 200 OK\r\n\r\n"),
        SP_SPAN("HTTP/1.10 200 OK\r\n\r\n"),
        SP_SPAN("http/1.1 200 OK\r\n\r\n"),
        SP_SPAN("HTTP/1 200 OK\r\n\r\n"),
        SP_SPAN("ICY 200 OK\r\n\r\n"),
        SP_SPAN("<html>hello</html>\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 O\0K\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 O\rK\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\n\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nA: b\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nA : b\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nnocolon\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\n: b\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nA: \x01\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nA: b\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        SP_SPAN("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        SP_SPAN("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        SP_SPAN("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        SP_SPAN("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\n"),
        SP_SPAN("HTTP/1.1 200 OK\r\nConnection: a b\r\n\r\n"),
    };
    for (size_t i = 0; i < SP_COUNT(heads); i++) {
        if (parse_span(heads[i], SP_HTTP_GET) != -EBADMSG)
            fail_msg("number %zu was accepted: %.*s", i, (int)heads[i].len, heads[i].at);
        struct outcome at_once, slowly;
        assert_int_equal(arrive_head(&at_once, heads[i], SIZE_MAX), arrive_head(&slowly, heads[i], 1));
        assert_same_outcome(&at_once, &slowly);
    }
}

static void fields_with_underscores_pass_in_answers(void **state) {
    assert_int_equal(parse("HTTP/1.1 200 OK\r\nx_request_id: a\r\nContent-Length: 0\r\n\r\n"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_answer_is_understood),
        cmocka_unit_test(a_stream_is_framed_by_chunks_or_by_the_end_of_the_connection),
        cmocka_unit_test(an_empty_answer_needs_no_close),
        cmocka_unit_test(some_answers_never_have_a_body),
        cmocka_unit_test(an_answer_to_head_has_a_length_but_no_body),
        cmocka_unit_test(http_1_0_and_close_end_the_connection),
        cmocka_unit_test(reasons_are_free_text),
        cmocka_unit_test(malformed_answers_are_refused),
        cmocka_unit_test(fields_with_underscores_pass_in_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
