#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "breaker.h"
#include "decision.h"

static const struct sp_limit_config a = {.name = "a"}, b = {.name = "b"}, shadow = {.name = "shadow", .shadow = true};

static struct sp_limit_answer admits(uint64_t remaining, uint64_t burst) {
    return (struct sp_limit_answer){.asked = true, .burst = burst, .bucket = {.admitted = true, .remaining = remaining, .reset_us = 1}};
}
static struct sp_limit_answer refuses(uint64_t retry_us) {
    return (struct sp_limit_answer){.asked = true, .burst = 10, .bucket = {.retry_us = retry_us, .reset_us = retry_us}};
}

static void without_a_say_the_request_is_admitted_and_nothing_is_shown(void **state) {
    const struct sp_limit_config *limits[] = {&a};
    struct sp_limit_answer answers[] = {{.asked = false}};
    struct sp_limit_decision decision;
    sp_decision_combine(limits, answers, 1, &decision);
    assert_true(decision.admitted);
    assert_null(decision.shown);
    assert_null(decision.refused_by);
}

static void the_tightest_limit_is_shown(void **state) {
    const struct sp_limit_config *limits[] = {&a, &b};
    struct sp_limit_answer answers[] = {admits(30, 100), admits(4, 10)};
    struct sp_limit_decision decision;
    sp_decision_combine(limits, answers, 2, &decision);
    assert_true(decision.admitted);
    assert_ptr_equal(decision.shown, &a);
    assert_int_equal(decision.limit, 100);
    assert_int_equal(decision.remaining, 30);
    assert_int_equal(decision.reset_ms, 1);
}

static void of_two_that_refuse_the_longer_is_named(void **state) {
    const struct sp_limit_config *limits[] = {&a, &b};
    struct sp_limit_answer answers[] = {refuses(1001), refuses(2001)};
    struct sp_limit_decision decision;
    sp_decision_combine(limits, answers, 2, &decision);
    assert_false(decision.admitted);
    assert_ptr_equal(decision.refused_by, &b);
    assert_ptr_equal(decision.shown, &b);
    assert_int_equal(decision.retry_after_ms, 3); /* rounded up */
}

static void what_can_never_fit_is_said_to_be_so(void **state) {
    const struct sp_limit_config *limits[] = {&a, &b};
    struct sp_limit_answer answers[] = {refuses(1001), refuses(UINT64_MAX)};
    answers[1].bucket.never = true;
    struct sp_limit_decision decision;
    sp_decision_combine(limits, answers, 2, &decision);
    assert_true(decision.never);
    assert_int_equal(decision.retry_after_ms, 0);
}

static void a_shadow_limit_refuses_nobody_and_is_not_shown(void **state) {
    const struct sp_limit_config *limits[] = {&shadow, &a};
    struct sp_limit_answer answers[] = {refuses(1000), admits(9, 10)};
    struct sp_limit_decision decision;
    sp_decision_combine(limits, answers, 2, &decision);
    assert_true(decision.admitted);
    assert_ptr_equal(decision.shadow_refused, &shadow);
    assert_ptr_equal(decision.shown, &a);
}

static void three_failures_in_a_row_open_the_breaker_and_a_success_closes_it(void **state) {
    struct sp_breaker breaker = {0};
    sp_breaker_failed(&breaker);
    sp_breaker_failed(&breaker);
    assert_false(breaker.open);
    sp_breaker_succeeded(&breaker);
    sp_breaker_failed(&breaker);
    sp_breaker_failed(&breaker);
    assert_false(breaker.open);
    sp_breaker_failed(&breaker);
    assert_true(breaker.open);
    sp_breaker_failed(&breaker);
    assert_true(breaker.open);
    sp_breaker_succeeded(&breaker);
    assert_false(breaker.open);
}

static void waits_grow_to_a_maximum_and_differ_by_the_dice(void **state) {
    struct sp_breaker breaker = {0};
    uint64_t longest = SP_BREAKER_WAIT_MIN_MS;
    for (int i = 0; i < 20; i++) {
        struct sp_breaker low = breaker, high = breaker;
        assert_int_equal(sp_breaker_wait_ms(&low, 0), longest / 2);
        assert_int_equal(sp_breaker_wait_ms(&high, longest - longest / 2), longest);
        uint64_t drawn = sp_breaker_wait_ms(&breaker, UINT64_MAX);
        assert_in_range(drawn, longest / 2, longest);
        longest = sp_min(longest * 2, (uint64_t)SP_BREAKER_WAIT_MAX_MS);
    }
    sp_breaker_succeeded(&breaker);
    assert_in_range(sp_breaker_wait_ms(&breaker, 7), 1, SP_BREAKER_WAIT_MIN_MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_say_the_request_is_admitted_and_nothing_is_shown),
        cmocka_unit_test(the_tightest_limit_is_shown),
        cmocka_unit_test(of_two_that_refuse_the_longer_is_named),
        cmocka_unit_test(what_can_never_fit_is_said_to_be_so),
        cmocka_unit_test(a_shadow_limit_refuses_nobody_and_is_not_shown),
        cmocka_unit_test(three_failures_in_a_row_open_the_breaker_and_a_success_closes_it),
        cmocka_unit_test(waits_grow_to_a_maximum_and_differ_by_the_dice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
