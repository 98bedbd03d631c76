#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sse.h"

/* A stream as its reader sees it: "[" where an event begins, its data, "]" where it ends. Everything else is not told. */
static struct sp_span told(struct sp_span stream, size_t step) {
    static char text[4096];
    size_t n = 0;
    struct sp_sse sse = {0};
    for (size_t at = 0; at < stream.len; at += step) {
        struct sp_span input = sp_span(stream.at + at, sp_min(step, stream.len - at)), data;
        for (enum sp_sse_step what; (what = sp_sse_next(&sse, &input, &data)) != SP_SSE_MORE;) {
            if (what == SP_SSE_BEGIN)
                data = SP_SPAN("[");
            if (what == SP_SSE_EVENT)
                data = SP_SPAN("]");
            assert_true(n + data.len <= sizeof text);
            memcpy(text + n, data.at, data.len);
            n += data.len;
        }
        assert_int_equal(input.len, 0);
    }
    return sp_span(text, n);
}

#define assert_told(stream, expected) assert_told_every_way(SP_SPAN(stream), SP_SPAN(expected))
static void assert_told_every_way(struct sp_span stream, struct sp_span expected) {
    static const size_t steps[] = {1, 2, 3, 5, 4096};
    for (size_t i = 0; i < SP_COUNT(steps); i++) {
        struct sp_span actual = told(stream, steps[i]);
        assert_int_equal(actual.len, expected.len);
        assert_memory_equal(actual.at, expected.at, expected.len);
    }
}

static void lines_end_with_lf_crlf_or_cr(void **state) {
    assert_told("data: a\n\ndata: b\n\n", "[a][b]");
    assert_told("data: a\r\n\r\ndata: b\r\n\r\n", "[a][b]");
    assert_told("data: a\r\rdata: b\r\r", "[a][b]");
    assert_told("data: a\r\n\rdata: b\n\r\n", "[a][b]");
    assert_told("data: a\n\rdata: b\r\n\n", "[a][b]");
}

static void lines_of_data_are_joined(void **state) {
    assert_told("data: a\ndata: b\n\n", "[a\nb]");
    assert_told("data: a\ndata\ndata:\ndata: b\n\n", "[a\n\n\nb]");
    assert_told("data\ndata: b\n\n", "[\nb]");
    assert_told("data: a\nevent: x\ndata: b\n\n", "[a\nb]");
    assert_told("data: a\n\ndata: b\n\n", "[a][b]");
}

static void one_space_after_the_colon_is_no_data(void **state) {
    assert_told("data:a\n\n", "[a]");
    assert_told("data:  a \n\n", "[ a ]");
    assert_told("data:\ta\n\n", "[\ta]");
    assert_told("data: : a: b\n\n", "[: a: b]");
}

static void other_fields_are_no_data(void **state) {
    assert_told("event: data\nid: 7\nretry: 10\ndata: a\n\n", "[a]");
    assert_told("dat: a\ndatas: b\ndata : c\n data: d\nData: e\nd: f\nx\n\n", "[]");
    assert_told("event: end\n\n", "[]");
}

static void comments_and_empty_lines_begin_no_event(void **state) {
    assert_told(": ping\n\n", "");
    assert_told(":\n\n\r\n\r: data: a\r\n", "");
    assert_told(": ping\ndata: a\n: ping\ndata: b\n\n\n", "[a\nb]");
}

static void a_byte_order_mark_may_begin_the_stream(void **state) {
    assert_told("\xef\xbb\xbf"
                "data: a\n\n",
                "[][a]");
    assert_told("\xef\xbb\xbf: ping\n\n", "[]");
    assert_told("\xef\xbb\xbf\xef\xbb\xbf"
                "data: a\n\n",
                "[][]"); /* once only */
    assert_told("data: a\n\n\xef\xbb\xbf"
                "data: b\n\n",
                "[a][]");
    assert_told("\xef\xbb"
                "data: a\n\n",
                "[]");
    assert_told("\xef\xbb\ndata: a\n\n", "[a]");
}

static void an_event_without_its_empty_line_does_not_end(void **state) {
    assert_told("data: a\n\ndata: b\n", "[a][b");
    assert_told("data: a", "[a");
    assert_told("dat", "[");
    assert_told("", "");
}

static void a_late_lf_can_be_told_from_a_line_of_its_own(void **state) {
    struct sp_sse sse = {0};
    struct sp_span data, input = SP_SPAN("id\r\r"), lf = SP_SPAN("\n"), x = SP_SPAN("x"), nothing = {0};
    assert_int_equal(sp_sse_next(&sse, &input, &data), SP_SSE_BEGIN);
    assert_int_equal(sp_sse_next(&sse, &input, &data), SP_SSE_EVENT);
    assert_false(sp_sse_take_lf(&sse, &nothing));
    struct sp_sse other = sse;
    assert_true(sp_sse_take_lf(&sse, &lf));
    assert_int_equal(lf.len, 0);
    assert_false(sp_sse_take_lf(&other, &x));
    assert_int_equal(x.len, 1);
    lf = SP_SPAN("\n");
    assert_false(sp_sse_take_lf(&sse, &lf)); /* one only */
    assert_false(sp_sse_take_lf(&other, &lf));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_with_lf_crlf_or_cr),
        cmocka_unit_test(lines_of_data_are_joined),
        cmocka_unit_test(one_space_after_the_colon_is_no_data),
        cmocka_unit_test(other_fields_are_no_data),
        cmocka_unit_test(comments_and_empty_lines_begin_no_event),
        cmocka_unit_test(a_byte_order_mark_may_begin_the_stream),
        cmocka_unit_test(an_event_without_its_empty_line_does_not_end),
        cmocka_unit_test(a_late_lf_can_be_told_from_a_line_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
