#include "arrival.h"

#include <stdio.h>

static struct sp_http_request request;

static unsigned parse(const char *head) {
    const char *reason = NULL;
    return sp_http_parse_request(sp_span_text(head), &request, &reason);
}

/* What OpenAI's Python client sends. */
static const char chat[] = "POST /v1/chat/completions HTTP/1.1\r\n"
                           "Host: api.example.com\r\n"
                           "Accept-Encoding: gzip, deflate\r\n"
                           "Connection: keep-alive\r\n"
                           "Accept: application/json\r\n"
                           "Content-Type: application/json\r\n"
                           "User-Agent: OpenAI/Python 1.54.3\r\n"
                           "X-Stainless-Lang: python\r\n"
                           "Authorization: Bearer abc.def.ghi\r\n"
                           "Idempotency-Key: stainless-python-retry-1\r\n"
                           "Content-Length: 82\r\n"
                           "\r\n";

static void an_sdk_request_is_understood(void **state) {
    assert_int_equal(parse(chat), 0);
    assert_int_equal(request.method, SP_HTTP_POST);
    assert_span(request.path, "/v1/chat/completions");
    assert_span(request.query, "");
    assert_span(request.host, "api.example.com");
    assert_int_equal(request.port, 0);
    assert_int_equal(request.minor, 1);
    assert_int_equal(request.framing, SP_FRAMING_LENGTH);
    assert_int_equal(request.content_length, 82);
    assert_true(request.keep_alive);
    assert_false(request.expect_continue);
    assert_false(request.upgrade);
    assert_int_equal(request.fields.count, 10);
    assert_span(sp_http_field(&request.fields, SP_FIELD_AUTHORIZATION)->value, "Bearer abc.def.ghi");
    assert_null(sp_http_field(&request.fields, SP_FIELD_COOKIE));
    assert_true(sp_http_field(&request.fields, SP_FIELD_CONNECTION)->hop_by_hop);
    assert_false(sp_http_field(&request.fields, SP_FIELD_CONTENT_TYPE)->hop_by_hop);
}

static void nothing_of_an_earlier_request_is_left(void **state) {
    memset(&request, 0xa5, sizeof request);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    assert_int_equal(request.fields.count, 1);
    assert_int_equal(request.content_length, 0);
    assert_int_equal(request.framing, SP_FRAMING_NONE);
    for (unsigned id = 0; id < SP_FIELD_COUNT; id++)
        assert_true(id == SP_FIELD_HOST || !sp_http_field(&request.fields, (enum sp_http_field_id)id));
}

static void every_method_has_its_name(void **state) {
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
    for (unsigned i = 0; i < SP_COUNT(names); i++) {
        char head[64];
        assert_true(snprintf(head, sizeof head, "%s / HTTP/1.1\r\nHost: a\r\n\r\n", names[i]) < (int)sizeof head);
        assert_int_equal(parse(head), 0);
        assert_int_equal(request.method, i);
        assert_span(request.method_name, names[i]);
    }
}

static void other_methods_are_left_to_the_route(void **state) {
    assert_int_equal(parse("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    assert_int_equal(request.method, SP_HTTP_METHOD_OTHER);
    assert_int_equal(parse("get / HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    assert_int_equal(request.method, SP_HTTP_METHOD_OTHER);
    assert_span(request.method_name, "get");
}

static void a_chunked_body_is_framed_by_its_chunks(void **state) {
    assert_int_equal(parse("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tCHUNKED \r\n\r\n"), 0);
    assert_int_equal(request.framing, SP_FRAMING_CHUNKED);
    assert_int_equal(request.content_length, 0);
}

static void a_get_may_have_a_body(void **state) {
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"), 0);
    assert_int_equal(request.framing, SP_FRAMING_LENGTH);
}

static void a_length_of_zero_is_no_body(void **state) {
    assert_int_equal(parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n"), 0);
    assert_int_equal(request.framing, SP_FRAMING_NONE);
    assert_false(request.expect_continue);
}

static void the_largest_length_passes(void **state) {
    assert_int_equal(parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n"), 0);
    assert_true(request.content_length == INT64_MAX);
}

static void a_client_that_waits_for_100_is_known(void **state) {
    assert_int_equal(parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n"), 0);
    assert_true(request.expect_continue);
    assert_int_equal(parse("POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"), 0);
    assert_false(request.expect_continue);
}

static void http_1_0_needs_no_host_and_is_never_kept_alive(void **state) {
    assert_int_equal(parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 0);
    assert_int_equal(request.minor, 0);
    assert_span(request.host, "");
    assert_false(request.keep_alive);
    assert_int_equal(parse("GET / HTTP/1.0\r\nHost: a:81\r\n\r\n"), 0);
    assert_span(request.host, "a");
    assert_int_equal(request.port, 81);
}

static void close_wins_over_keep_alive(void **state) {
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: Close\r\n\r\n"), 0);
    assert_false(request.keep_alive);
}

static void an_upgrade_needs_both_fields(void **state) {
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), 0);
    assert_true(request.upgrade);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"), 0);
    assert_false(request.upgrade);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n"), 0);
    assert_false(request.upgrade);
    assert_int_equal(parse("GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), 0);
    assert_false(request.upgrade);
}

static void an_absolute_target_says_the_host(void **state) {
    assert_int_equal(parse("GET https://API.example.com:443/v1/models?a=b HTTP/1.1\r\nHost: api.example.com\r\n\r\n"), 0);
    assert_span(request.host, "API.example.com");
    assert_int_equal(request.port, 443);
    assert_span(request.path, "/v1/models");
    assert_span(request.query, "a=b");
    assert_int_equal(parse("GET http://a HTTP/1.1\r\nHost: a:80\r\n\r\n"), 0);
    assert_span(request.path, "/");
    assert_int_equal(parse("GET http://a?b HTTP/1.0\r\n\r\n"), 0);
    assert_span(request.path, "/");
    assert_span(request.query, "b");
    assert_int_equal(parse("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    assert_span(request.path, "*");
    assert_int_equal(parse("GET http://a/ HTTP/1.1\r\nHost: a:443\r\n\r\n"), 400);
}

static void options_may_ask_about_the_server(void **state) {
    assert_int_equal(parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    assert_span(request.path, "*");
}

static void bytes_after_the_head_are_not_a_head(void **state) {
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\n\r\nG"), 400);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\n"), 400);
    assert_int_equal(parse("GET / HTTP/1.1\r\n"), 400);
    assert_int_equal(parse(""), 400);
}

static void underscores_are_fine_in_names_that_mean_nothing_here(void **state) {
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nmy_own_field: b\r\n\r\n"), 0);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nx_api_key: b\r\n\r\n"), 400);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nX-Sallyport_identity: b\r\n\r\n"), 400);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nx_forwarded_by_a_proxy_with_a_rather_long_name: b\r\n\r\n"), 400);
}

static void as_many_fields_as_allowed_pass_and_one_more_does_not(void **state) {
    char head[2048] = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (unsigned i = 1; i < SP_HTTP_FIELDS_MAX; i++)
        strncat(head, "A: b\r\n", sizeof head - strlen(head) - 1);
    size_t len = strlen(head);
    memcpy(head + len, "\r\n", 3);
    assert_int_equal(parse(head), 0);
    assert_int_equal(request.fields.count, SP_HTTP_FIELDS_MAX);
    memcpy(head + len, "A: b\r\n\r\n", 9);
    assert_int_equal(parse(head), 431);
}

static void what_is_accepted_at_once_is_accepted_byte_by_byte(void **state) {
    static const char *const messages[] = {
        chat,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\\\"c\";d\r\nhello\r\n0A\r\n, world!!!\r\n000\r\nA: "
        "b\r\n\r\nGET",
        "GET / HTTP/1.1\r\nHost: a\r\nEmpty:\r\nTabs:\ta\tb\t\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    };
    for (size_t i = 0; i < SP_COUNT(messages); i++)
        for (size_t step = 1; step < 12; step++) {
            struct outcome at_once = arrive_request(sp_span_text(messages[i]), SIZE_MAX, &request);
            struct outcome in_steps = arrive_request(sp_span_text(messages[i]), step, &request);
            assert_int_equal(at_once.status, 0);
            assert_same_outcome(&at_once, &in_steps);
        }
}

static void a_pipelined_request_begins_where_the_first_one_ends(void **state) {
    struct sp_span both = SP_SPAN("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    struct outcome first = arrive_request(both, SIZE_MAX, &request);
    assert_int_equal(first.what, WHOLE);
    assert_int_equal(first.payload_len, 5);
    struct outcome second = arrive_request(sp_span_from(both, first.used), SIZE_MAX, &request);
    assert_int_equal(second.what, WHOLE);
    assert_span(request.path, "/b");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_sdk_request_is_understood),
        cmocka_unit_test(nothing_of_an_earlier_request_is_left),
        cmocka_unit_test(every_method_has_its_name),
        cmocka_unit_test(other_methods_are_left_to_the_route),
        cmocka_unit_test(a_chunked_body_is_framed_by_its_chunks),
        cmocka_unit_test(a_get_may_have_a_body),
        cmocka_unit_test(a_length_of_zero_is_no_body),
        cmocka_unit_test(the_largest_length_passes),
        cmocka_unit_test(a_client_that_waits_for_100_is_known),
        cmocka_unit_test(http_1_0_needs_no_host_and_is_never_kept_alive),
        cmocka_unit_test(close_wins_over_keep_alive),
        cmocka_unit_test(an_upgrade_needs_both_fields),
        cmocka_unit_test(an_absolute_target_says_the_host),
        cmocka_unit_test(options_may_ask_about_the_server),
        cmocka_unit_test(bytes_after_the_head_are_not_a_head),
        cmocka_unit_test(underscores_are_fine_in_names_that_mean_nothing_here),
        cmocka_unit_test(as_many_fields_as_allowed_pass_and_one_more_does_not),
        cmocka_unit_test(what_is_accepted_at_once_is_accepted_byte_by_byte),
        cmocka_unit_test(a_pipelined_request_begins_where_the_first_one_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
