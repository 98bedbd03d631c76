/* Request ids and trace context. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sallyport/account.h>

static void made_ids_are_sane_different_and_rise_with_time(void **state) {
    char first[SP_REQUEST_ID_LEN + 1], second[SP_REQUEST_ID_LEN + 1];
    sp_request_id_make(sp_wall_ms(), first);
    sp_request_id_make(sp_wall_ms() + 1, second);
    assert_int_equal(strlen(first), SP_REQUEST_ID_LEN);
    assert_true(sp_request_id_sane(sp_span_text(first)));
    assert_true(strcmp(first, second) < 0);
    for (int i = 0; i < 1000; i++) {
        memcpy(first, second, sizeof first);
        sp_request_id_make(1792756800000, second);
        assert_string_not_equal(first, second);
        assert_string_not_equal(first + 10, second + 10);
    }
}

static void only_short_tokens_are_taken_from_clients(void **state) {
    char long_id[SP_REQUEST_ID_MAX + 1];
    memset(long_id, 'a', sizeof long_id);
    assert_true(sp_request_id_sane(SP_SPAN("req_01-A.b:c")));
    assert_true(sp_request_id_sane(sp_span(long_id, SP_REQUEST_ID_MAX)));
    assert_false(sp_request_id_sane(sp_span(long_id, SP_REQUEST_ID_MAX + 1)));
    assert_false(sp_request_id_sane(SP_SPAN("")));
    for (int c = 0; c < 256; c++) {
        char text[3] = {'a', (char)c, 'b'};
        bool sane = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c && strchr("-_.:", c));
        assert_int_equal(sp_request_id_sane(sp_span(text, 3)), sane);
    }
}

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

/* What was made of `incoming` is itself valid version 00. */
static void continue_trace(struct sp_span incoming, char out[SP_TRACEPARENT_LEN + 1]) {
    memset(out, 0x5a, SP_TRACEPARENT_LEN + 1);
    sp_traceparent(incoming, out);
    assert_int_equal(strlen(out), SP_TRACEPARENT_LEN);
    assert_memory_equal(out, "00-", 3);
    assert_true(out[35] == '-' && out[52] == '-' && out[53] == '0');
    for (int i = 3; i < SP_TRACEPARENT_LEN; i++)
        assert_non_null(strchr("0123456789abcdef-", out[i]));
    assert_memory_not_equal(out + 3, "00000000000000000000000000000000", 32);
    assert_memory_not_equal(out + 36, "0000000000000000", 16);
}

static void a_valid_parent_is_continued_with_a_span_of_our_own(void **state) {
    static const char *const valid[] = {
        "00-" TRACE "-" PARENT "-01",  "00-" TRACE "-" PARENT "-ff",
        "cc-" TRACE "-" PARENT "-01",  "cc-" TRACE "-" PARENT "-01-what-comes-later",
        "fe-" TRACE "-" PARENT "-03-",
    };
    char out[SP_TRACEPARENT_LEN + 1];
    for (size_t i = 0; i < SP_COUNT(valid); i++) {
        continue_trace(sp_span_text(valid[i]), out);
        assert_memory_equal(out + 3, TRACE, 32);
        assert_memory_not_equal(out + 36, PARENT, 16);
        assert_string_equal(out + 52, "-01");
    }
    continue_trace(SP_SPAN("00-" TRACE "-" PARENT "-00"), out);
    assert_memory_equal(out + 3, TRACE, 32);
    assert_string_equal(out + 52, "-00");
    continue_trace(SP_SPAN("00-" TRACE "-" PARENT "-fe"), out);
    assert_string_equal(out + 52, "-00");
}

static void anything_else_begins_a_trace_that_is_not_sampled(void **state) {
    static const char *const invalid[] = {
        "",
        "00",
        "00-" TRACE "-" PARENT "-0",
        "00-" TRACE "-" PARENT "-01-",
        "00-" TRACE "-" PARENT "-01-more",
        "00-" TRACE "-" PARENT "-011",
        "ff-" TRACE "-" PARENT "-01",
        "0g-" TRACE "-" PARENT "-01",
        "00-" TRACE "-" PARENT "-0g",
        "cc-" TRACE "-" PARENT "-01.more",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00_" TRACE "-" PARENT "-01",
        "00-" TRACE "_" PARENT "-01",
        "00-" TRACE "-" PARENT "_01",
        "00-4bf92f3577b34da6a3ce929d0e0e473x-" PARENT "-01",
        "00-" TRACE "-00f067aa0ba902b -01",
        " 00-" TRACE "-" PARENT "-01",
    };
    char out[SP_TRACEPARENT_LEN + 1], again[SP_TRACEPARENT_LEN + 1];
    for (size_t i = 0; i < SP_COUNT(invalid); i++) {
        continue_trace(sp_span_text(invalid[i]), out);
        assert_memory_not_equal(out + 3, TRACE, 32);
        assert_string_equal(out + 52, "-00");
        continue_trace(sp_span_text(invalid[i]), again);
        assert_memory_not_equal(out + 3, again + 3, 32);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_ids_are_sane_different_and_rise_with_time),
        cmocka_unit_test(only_short_tokens_are_taken_from_clients),
        cmocka_unit_test(a_valid_parent_is_continued_with_a_span_of_our_own),
        cmocka_unit_test(anything_else_begins_a_trace_that_is_not_sampled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
