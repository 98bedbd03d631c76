#include "arrival.h"

static char bytes[2 * SP_HTTP_HEAD_MAX];

static struct sp_span filled(const char *begin, char filler, size_t len, const char *end) {
    size_t begin_len = strlen(begin), end_len = strlen(end);
    memcpy(bytes, begin, begin_len);
    memset(bytes + begin_len, filler, len);
    memcpy(bytes + begin_len + len, end, end_len);
    return sp_span(bytes, begin_len + len + end_len);
}

static enum sp_http_progress find(struct sp_span text, size_t *ret_len, unsigned *ret_status) {
    struct sp_http_scan scan = {0};
    *ret_len = *ret_status = 0;
    return sp_http_find_head(&scan, text, ret_len, ret_status);
}

static void a_head_ends_with_its_empty_line(void **state) {
    size_t len;
    unsigned status;
    assert_int_equal(find(SP_SPAN("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /"), &len, &status), SP_HTTP_COMPLETE);
    assert_int_equal(len, 27);
    assert_int_equal(find(SP_SPAN("HTTP/1.1 200 OK\r\n\r\n"), &len, &status), SP_HTTP_COMPLETE);
    assert_int_equal(len, 19);
    assert_int_equal(find(SP_SPAN("GET / HTTP/1.1\r\nA:\tb\tc\r\n\r\n"), &len, &status), SP_HTTP_COMPLETE);
    assert_int_equal(len, 26);
}

static void what_is_not_all_there_is_incomplete(void **state) {
    struct sp_span whole = SP_SPAN("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    size_t len;
    unsigned status;
    for (size_t n = 0; n < whole.len; n++)
        assert_int_equal(find(sp_span(whole.at, n), &len, &status), SP_HTTP_INCOMPLETE);
}

/* Bytes that were looked at may be overwritten: a search that went back to them would notice. */
static void no_byte_is_looked_at_twice(void **state) {
    char text[] = "GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: b\tc\r\n\r\n";
    struct sp_http_scan scan = {0};
    size_t head_len = 0;
    unsigned status = 0;
    for (size_t n = 1; n < sizeof text - 1; n++) {
        assert_int_equal(sp_http_find_head(&scan, sp_span(text, n), &head_len, &status), SP_HTTP_INCOMPLETE);
        if (text[n - 1] != '\r')
            text[n - 1] = '\0';
    }
    assert_int_equal(sp_http_find_head(&scan, sp_span(text, sizeof text - 1), &head_len, &status), SP_HTTP_COMPLETE);
    assert_int_equal(head_len, sizeof text - 1);
}

static void every_control_byte_but_tab_is_refused_where_it_stands(void **state) {
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[] = "GET / HTTP/1.1\r\nA: some?thing";
        *strchr(text, '?') = (char)byte;
        size_t len;
        unsigned status;
        bool control = (byte < 0x20 && byte != '\t') || byte == 0x7f;
        assert_int_equal(find(sp_span(text, sizeof text - 1), &len, &status), control ? SP_HTTP_REFUSED : SP_HTTP_INCOMPLETE);
        assert_int_equal(status, control ? 400 : 0);
    }
}

static void a_bad_byte_is_refused_before_the_head_is_whole(void **state) {
    size_t len;
    unsigned status;
    assert_int_equal(find(SP_SPAN("GET / HTTP/1.1\n"), &len, &status), SP_HTTP_REFUSED);
    assert_int_equal(status, 400);
    assert_int_equal(find(SP_SPAN("\x16\x03\x01\x02"), &len, &status), SP_HTTP_REFUSED);
    assert_int_equal(find(SP_SPAN("GET / HTTP/1.1\r\nA: b\rc"), &len, &status), SP_HTTP_REFUSED);
    assert_int_equal(find(SP_SPAN("\r\n"), &len, &status), SP_HTTP_REFUSED);
    assert_int_equal(status, 400);
}

static void a_request_line_that_cannot_fit_is_refused_without_waiting_for_its_end(void **state) {
    size_t len;
    unsigned status;
    assert_int_equal(find(filled("GET /", 'a', SP_HTTP_TARGET_MAX - 100, ""), &len, &status), SP_HTTP_INCOMPLETE);
    assert_int_equal(find(filled("GET /", 'a', SP_HTTP_TARGET_MAX + 100, ""), &len, &status), SP_HTTP_REFUSED);
    assert_int_equal(status, 414);
}

static void the_longest_target_passes(void **state) {
    size_t len;
    unsigned status;
    assert_int_equal(find(filled("OPTIONS /", 'a', SP_HTTP_TARGET_MAX - 1, " HTTP/1.1\r\n\r\n"), &len, &status), SP_HTTP_COMPLETE);
}

static void a_head_may_be_as_long_as_the_maximum_and_no_longer(void **state) {
    const char *begin = "GET / HTTP/1.1\r\nA:", *end = "\r\n\r\n";
    size_t filler = SP_HTTP_HEAD_MAX - strlen(begin) - strlen(end), len;
    unsigned status;
    assert_int_equal(find(filled(begin, 'a', filler, end), &len, &status), SP_HTTP_COMPLETE);
    assert_int_equal(len, SP_HTTP_HEAD_MAX);
    assert_int_equal(find(filled(begin, 'a', filler + 1, end), &len, &status), SP_HTTP_REFUSED);
    assert_int_equal(status, 431);
    assert_int_equal(find(filled(begin, 'a', SP_HTTP_HEAD_MAX, ""), &len, &status), SP_HTTP_REFUSED);
    assert_int_equal(status, 431);
}

static void one_field_too_many_is_refused_at_its_line(void **state) {
    struct sp_http_scan scan = {0};
    size_t used = 0, len;
    unsigned status = 0;
    memcpy(bytes, "GET / HTTP/1.1\r\n", 16);
    used = 16;
    for (unsigned i = 0; i < SP_HTTP_FIELDS_MAX; i++, used += 6) {
        memcpy(bytes + used, "A: b\r\n", 6);
        assert_int_equal(sp_http_find_head(&scan, sp_span(bytes, used + 6), &len, &status), SP_HTTP_INCOMPLETE);
    }
    memcpy(bytes + used, "A: b\r\n", 6);
    assert_int_equal(sp_http_find_head(&scan, sp_span(bytes, used + 6), &len, &status), SP_HTTP_REFUSED);
    assert_int_equal(status, 431);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_ends_with_its_empty_line),
        cmocka_unit_test(what_is_not_all_there_is_incomplete),
        cmocka_unit_test(no_byte_is_looked_at_twice),
        cmocka_unit_test(every_control_byte_but_tab_is_refused_where_it_stands),
        cmocka_unit_test(a_bad_byte_is_refused_before_the_head_is_whole),
        cmocka_unit_test(a_request_line_that_cannot_fit_is_refused_without_waiting_for_its_end),
        cmocka_unit_test(the_longest_target_passes),
        cmocka_unit_test(a_head_may_be_as_long_as_the_maximum_and_no_longer),
        cmocka_unit_test(one_field_too_many_is_refused_at_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
