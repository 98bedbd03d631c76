#include "arrival.h"

#include <errno.h>
#include <time.h>

static struct sp_buffer out;

static int set_up(void **state) {
    sp_buffer_init(&out, 4096);
    return 0;
}

static int tear_down(void **state) {
    sp_buffer_free(&out);
    return 0;
}

static void a_written_request_is_read_back(void **state) {
    assert_int_equal(sp_http_write_request_line(&out, SP_SPAN("POST"), SP_SPAN("/base"), SP_SPAN("/v1/x"), SP_SPAN("a=b")), 0);
    assert_int_equal(sp_http_write_host(&out, SP_SPAN("[::1]"), 8000), 0);
    assert_int_equal(sp_http_write_field(&out, SP_SPAN("x-a"), SP_SPAN("b c")), 0);
    assert_int_equal(sp_http_write_framing(&out, SP_FRAMING_LENGTH, 1234567890123), 0);
    assert_int_equal(sp_http_write_end(&out), 0);
    assert_span(sp_buffer_span(&out),
                "POST /base/v1/x?a=b HTTP/1.1\r\nhost: [::1]:8000\r\nx-a: b c\r\ncontent-length: 1234567890123\r\n\r\n");
    static struct sp_http_request request;
    const char *reason;
    assert_int_equal(sp_http_parse_request(sp_buffer_span(&out), &request, &reason), 0);
    assert_int_equal(request.port, 8000);
    assert_true(request.content_length == 1234567890123);
}

static void a_written_answer_is_read_back(void **state) {
    assert_int_equal(sp_http_write_status_line(&out, 429), 0);
    assert_int_equal(sp_http_write_number(&out, SP_HTTP_NAME("retry-after"), 0), 0);
    assert_int_equal(sp_http_write_framing(&out, SP_FRAMING_CHUNKED, 0), 0);
    assert_int_equal(sp_http_write_end(&out), 0);
    assert_span(sp_buffer_span(&out), "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\ntransfer-encoding: chunked\r\n\r\n");
    static struct sp_http_response response;
    const char *reason;
    assert_int_equal(sp_http_parse_response(sp_buffer_span(&out), SP_HTTP_GET, &response, &reason), 0);
    assert_int_equal(response.framing, SP_FRAMING_CHUNKED);
}

static void numbers_are_written_with_all_their_digits(void **state) {
    assert_int_equal(sp_http_write_number(&out, SP_HTTP_NAME("a"), UINT64_MAX), 0);
    assert_int_equal(sp_http_write_number(&out, SP_HTTP_NAME("b"), 10), 0);
    assert_int_equal(sp_http_write_named(&out, SP_HTTP_NAME("c"), SP_SPAN("")), 0);
    assert_span(sp_buffer_span(&out), "a: 18446744073709551615\r\nb: 10\r\nc: \r\n");
}

static void an_unknown_status_has_an_empty_reason_and_keeps_its_space(void **state) {
    assert_int_equal(sp_http_write_status_line(&out, 299), 0);
    assert_span(sp_buffer_span(&out), "HTTP/1.1 299 \r\n");
    assert_int_equal(sp_http_write_status_line(&out, 99), -EINVAL);
    assert_int_equal(sp_http_write_status_line(&out, 1000), -EINVAL);
}

static void nothing_that_breaks_its_line_is_ever_written(void **state) {
    struct sp_span ok = SP_SPAN("a"), path = SP_SPAN("/"), none = SP_SPAN("");
    assert_int_equal(sp_http_write_field(&out, ok, SP_SPAN("b\r\nevil: c")), -EINVAL);
    assert_int_equal(sp_http_write_field(&out, ok, SP_SPAN("b\0")), -EINVAL);
    assert_int_equal(sp_http_write_field(&out, SP_SPAN("a: b\r\nc"), ok), -EINVAL);
    assert_int_equal(sp_http_write_field(&out, SP_SPAN("a:"), ok), -EINVAL);
    assert_int_equal(sp_http_write_field(&out, none, ok), -EINVAL);
    assert_int_equal(sp_http_write_named(&out, SP_HTTP_NAME("a"), SP_SPAN("b\r\nevil: c")), -EINVAL);
    struct sp_http_field made = {.name = ok, .value = SP_SPAN("b\r\nevil: c")}; /* not by a parser, which alone says that a line is plain */
    assert_int_equal(sp_http_write_parsed(&out, &made), -EINVAL);
    assert_int_equal(sp_http_write_host(&out, none, 0), -EINVAL);
    assert_int_equal(sp_http_write_host(&out, SP_SPAN("a\nb"), 0), -EINVAL);
    assert_int_equal(sp_http_write_request_line(&out, SP_SPAN("GE T"), none, path, none), -EINVAL);
    assert_int_equal(sp_http_write_request_line(&out, SP_SPAN("GET"), none, SP_SPAN("/a b"), none), -EINVAL);
    assert_int_equal(sp_http_write_request_line(&out, SP_SPAN("GET"), none, SP_SPAN("/a\r\n"), none), -EINVAL);
    assert_int_equal(sp_http_write_request_line(&out, SP_SPAN("GET"), none, SP_SPAN("a"), none), -EINVAL);
    assert_int_equal(sp_http_write_request_line(&out, SP_SPAN("GET"), none, none, none), -EINVAL);
    assert_int_equal(sp_http_write_request_line(&out, SP_SPAN("GET"), none, path, SP_SPAN("a b")), -EINVAL);
    assert_int_equal(sp_http_write_request_line(&out, SP_SPAN("GET"), SP_SPAN("/a?"), path, none), -EINVAL);
    assert_int_equal(sp_buffer_len(&out), 0);
}

static void a_full_buffer_is_an_error_and_holds_no_half_line(void **state) {
    out.max = 16;
    assert_int_equal(sp_http_write_field(&out, SP_SPAN("name"), SP_SPAN("a long value")), -ENOSPC);
    assert_int_equal(sp_http_write_named(&out, SP_HTTP_NAME("name"), SP_SPAN("a long value")), -ENOSPC);
    assert_int_equal(sp_http_write_number(&out, SP_HTTP_NAME("a-long-name"), UINT64_MAX), -ENOSPC);
    assert_int_equal(sp_http_write_status_line(&out, 200), -ENOSPC);
    assert_int_equal(sp_http_write_request_line(&out, SP_SPAN("GET"), SP_SPAN(""), SP_SPAN("/"), SP_SPAN("")), -ENOSPC);
    assert_int_equal(sp_buffer_len(&out), 0);
}

static void the_server_as_a_whole_can_be_asked(void **state) {
    assert_int_equal(sp_http_write_request_line(&out, SP_SPAN("OPTIONS"), SP_SPAN(""), SP_SPAN("*"), SP_SPAN("")), 0);
    assert_span(sp_buffer_span(&out), "OPTIONS * HTTP/1.1\r\n");
}

static void methods_and_names_go_both_ways(void **state) {
    for (enum sp_http_method method = SP_HTTP_GET; method < SP_HTTP_METHOD_OTHER; method++)
        assert_int_equal(sp_http_method_find(sp_http_method_name(method)), method);
    assert_int_equal(sp_http_method_find(SP_SPAN("")), SP_HTTP_METHOD_OTHER);
    assert_int_equal(sp_http_method_find(SP_SPAN("CONNECT")), SP_HTTP_METHOD_OTHER);
    assert_int_equal(sp_http_method_name(SP_HTTP_METHOD_OTHER).len, 0);
}

static void chunk_heads_are_the_shortest_hex(void **state) {
    static const struct {
        uint64_t size;
        const char *text;
    } expected[] = {{1, "1\r\n"},
                    {15, "f\r\n"},
                    {16, "10\r\n"},
                    {255, "ff\r\n"},
                    {256, "100\r\n"},
                    {16384, "4000\r\n"},
                    {UINT64_MAX, "ffffffffffffffff\r\n"}};
    for (size_t i = 0; i < SP_COUNT(expected); i++) {
        char text[SP_HTTP_CHUNK_HEAD_MAX];
        assert_span(sp_span(text, sp_http_chunk_head(expected[i].size, text)), expected[i].text);
    }
}

static void dates_are_those_of_the_c_library(void **state) {
    static const uint64_t special[] = {0, 784111777, 951782399, 951782400, 951868800, 4107542399, 4107542400, 253402300799};
    char text[SP_HTTP_DATE_LEN + 1], expected[64];
    for (uint64_t i = 0; i < 5000; i++) {
        time_t when = (time_t)(i < SP_COUNT(special) ? special[i] : i * 7 * 86399 + i);
        struct tm tm;
        assert_non_null(gmtime_r(&when, &tm));
        assert_int_equal(strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &tm), SP_HTTP_DATE_LEN);
        sp_http_date((uint64_t)when, text);
        assert_string_equal(text, expected);
    }
}

/* Every byte at every place of names and values that are shorter and longer than a word. */
static void a_field_is_written_exactly_when_no_byte_of_it_breaks_the_line(void **state) {
    (void)state;
    char text[40];
    for (size_t len = 1; len < sizeof text; len++)
        for (size_t at = 0; at < len; at++)
            for (unsigned byte = 0; byte < 256; byte++) {
                memset(text, 'x', sizeof text);
                text[at] = (char)byte;
                struct sp_span span = sp_span(text, len);
                bool name_breaks = byte <= ' ' || byte == ':' || byte >= 0x7f, value_breaks = (byte < ' ' && byte != '\t') || byte == 0x7f;
                assert_int_equal(sp_http_write_field(&out, span, SP_SPAN("v")), name_breaks ? -EINVAL : 0);
                assert_int_equal(sp_http_write_field(&out, SP_SPAN("n"), span), value_breaks ? -EINVAL : 0);
                assert_int_equal(sp_http_write_named(&out, SP_HTTP_NAME("n"), span), value_breaks ? -EINVAL : 0);
                assert_int_equal(sp_buffer_len(&out), (name_breaks ? 0 : len + 5) + (value_breaks ? 0 : 2 * (len + 5)));
                sp_buffer_consume(&out, sp_buffer_len(&out));
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_written_request_is_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_written_answer_is_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers_are_written_with_all_their_digits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unknown_status_has_an_empty_reason_and_keeps_its_space, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_that_breaks_its_line_is_ever_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_buffer_is_an_error_and_holds_no_half_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_server_as_a_whole_can_be_asked, set_up, tear_down),
        cmocka_unit_test(methods_and_names_go_both_ways),
        cmocka_unit_test(chunk_heads_are_the_shortest_hex),
        cmocka_unit_test(dates_are_those_of_the_c_library),
        cmocka_unit_test_setup_teardown(a_field_is_written_exactly_when_no_byte_of_it_breaks_the_line, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
