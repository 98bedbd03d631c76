#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sallyport/base.h>

static void numbers_are_digits_only_and_never_overflow(void **state) {
    uint64_t n = 7;
    assert_true(sp_span_u64(SP_SPAN("18446744073709551615"), &n));
    assert_true(n == UINT64_MAX);
    const char *bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616", "99999999999999999999999"};
    for (size_t i = 0; i < SP_COUNT(bad); i++) {
        n = 7;
        assert_false(sp_span_u64(sp_span_text(bad[i]), &n));
        assert_true(n == 7);
    }
}

static void splitting_gives_every_item_trimmed_and_empty_ones_too(void **state) {
    struct sp_span rest = SP_SPAN(" a,b ,,c"), item;
    const char *expected[] = {"a", "b", "", "c"};
    for (size_t i = 0; i < SP_COUNT(expected); i++) {
        assert_true(sp_span_split(&rest, ',', &item));
        assert_true(sp_span_eq(item, sp_span_text(expected[i])));
    }
    assert_false(sp_span_split(&rest, ',', &item));
}

static void comparing_without_case_folds_ascii_letters_only(void **state) {
    assert_true(sp_span_eq_nocase(SP_SPAN("Content-Length"), SP_SPAN("cONTENT-lENGTH")));
    assert_false(sp_span_eq_nocase(SP_SPAN("a["), SP_SPAN("a{")));
    assert_false(sp_span_eq_nocase(SP_SPAN("a@"), SP_SPAN("a`")));
    assert_false(sp_span_eq_nocase(SP_SPAN("a"), SP_SPAN("ab")));
}

static void globs_match_runs_of_any_length(void **state) {
    struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"*", "", true},          {"*", "anything", true},     {"llama-3*", "llama-3.1-8b", true}, {"llama-3*", "llama-2", false},
        {"a*b*c", "aXXbYYc", true}, {"a*b*c", "aXXcYYb", false}, {"", "", true},                     {"", "a", false},
        {"*b", "aab", true},      {"**", "x", true},           {"a", "ab", false},                 {"*ab*ab*", "abxab", true},
    };
    for (size_t i = 0; i < SP_COUNT(cases); i++)
        assert_int_equal(sp_span_glob(sp_span_text(cases[i].pattern), sp_span_text(cases[i].text)), cases[i].matches);
}

static void a_hostile_glob_ends_quickly(void **state) {
    char pattern[200], text[20000];
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = i % 2 ? 'a' : '*';
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 'b';
    /* Pattern ends in "a", the text in "b": a backtracking matcher would not return. */
    assert_false(sp_span_glob(sp_span(pattern, sizeof pattern), sp_span(text, sizeof text)));
}

static void a_rest_past_the_end_is_empty(void **state) {
    assert_int_equal(sp_span_from(SP_SPAN("abc"), 9).len, 0);
    assert_true(sp_span_eq(sp_span_from(SP_SPAN("abc"), 1), SP_SPAN("bc")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_digits_only_and_never_overflow),
        cmocka_unit_test(splitting_gives_every_item_trimmed_and_empty_ones_too),
        cmocka_unit_test(comparing_without_case_folds_ascii_letters_only),
        cmocka_unit_test(globs_match_runs_of_any_length),
        cmocka_unit_test(a_hostile_glob_ends_quickly),
        cmocka_unit_test(a_rest_past_the_end_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
