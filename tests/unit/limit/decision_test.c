#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "breaker.h"
#include "decision.h"

static const struct sp_limit_config a = {.name = "a"}, b = {.name = "b"}, shadow = {.name = "shadow", .shadow = true},
                                    places = {.name = "places", .concurrency = 7};

struct asked {
    struct sp_limit_request request;
    struct sp_limit_answer answers[SP_LIMIT_BUCKETS][SP_REQUEST_LIMITS_MAX];
};

static struct sp_limit_answer admits(uint64_t remaining, uint64_t burst) {
    return (struct sp_limit_answer){.asked = true, .burst = burst, .bucket = {.admitted = true, .remaining = remaining, .reset_us = 1}};
}
static struct sp_limit_answer refuses(uint64_t retry_us) {
    return (struct sp_limit_answer){.asked = true, .burst = 10, .bucket = {.retry_us = retry_us, .reset_us = retry_us}};
}

static void answer(struct asked *asked, const struct sp_limit_config *limit, struct sp_limit_answer requests,
                   struct sp_limit_answer tokens) {
    size_t i = asked->request.n_limits++;
    asked->request.limits[i] = limit;
    asked->answers[SP_LIMIT_REQUESTS][i] = requests;
    asked->answers[SP_LIMIT_TOKENS][i] = tokens;
}
static const struct sp_limit_answer nothing;

static struct sp_limit_decision combine(const struct asked *asked) {
    struct sp_limit_decision decision;
    sp_decision_combine(&asked->request, asked->answers, &decision);
    return decision;
}

static void without_a_say_the_request_is_admitted_and_nothing_is_shown(void **state) {
    struct asked asked = {0};
    answer(&asked, &a, nothing, nothing);
    struct sp_limit_decision decision = combine(&asked);
    assert_true(decision.admitted);
    assert_null(decision.shown[SP_LIMIT_REQUESTS].limit);
    assert_null(decision.shown[SP_LIMIT_TOKENS].limit);
    assert_null(decision.refused_by);
}

static void the_tightest_limit_of_each_kind_is_shown(void **state) {
    struct asked asked = {0};
    answer(&asked, &a, admits(30, 100), admits(7000, 8000));
    answer(&asked, &b, admits(4, 10), admits(500, 1000));
    struct sp_limit_decision decision = combine(&asked);
    assert_true(decision.admitted);
    assert_ptr_equal(decision.shown[SP_LIMIT_REQUESTS].limit, &a);
    assert_int_equal(decision.shown[SP_LIMIT_REQUESTS].burst, 100);
    assert_int_equal(decision.shown[SP_LIMIT_REQUESTS].remaining, 30);
    assert_int_equal(decision.shown[SP_LIMIT_REQUESTS].reset_ms, 1);
    assert_ptr_equal(decision.shown[SP_LIMIT_TOKENS].limit, &b);
    assert_int_equal(decision.shown[SP_LIMIT_TOKENS].burst, 1000);
    assert_int_equal(decision.shown[SP_LIMIT_TOKENS].remaining, 500);
}

static void of_two_that_refuse_the_longer_is_named(void **state) {
    struct asked asked = {0};
    answer(&asked, &a, refuses(1001), nothing);
    answer(&asked, &b, refuses(2001), nothing);
    struct sp_limit_decision decision = combine(&asked);
    assert_false(decision.admitted);
    assert_ptr_equal(decision.refused_by, &b);
    assert_int_equal(decision.refused_kind, SP_LIMIT_REQUESTS);
    assert_ptr_equal(decision.shown[SP_LIMIT_REQUESTS].limit, &b);
    assert_int_equal(decision.retry_after_ms, 3); /* rounded up */
}

static void of_requests_and_tokens_that_both_refuse_the_longer_is_named_and_both_are_shown(void **state) {
    struct asked asked = {.request = {.cost = 1, .tokens = 900}};
    answer(&asked, &a, refuses(1000), refuses(5000));
    answer(&asked, &b, admits(9, 10), refuses(4000));
    struct sp_limit_decision decision = combine(&asked);
    assert_false(decision.admitted);
    assert_ptr_equal(decision.refused_by, &a);
    assert_int_equal(decision.refused_kind, SP_LIMIT_TOKENS);
    assert_int_equal(decision.asked, 900);
    assert_int_equal(decision.most, 10);
    assert_int_equal(decision.retry_after_ms, 5);
    assert_ptr_equal(decision.shown[SP_LIMIT_REQUESTS].limit, &a);
    assert_ptr_equal(decision.shown[SP_LIMIT_TOKENS].limit, &a);
}

static void what_can_never_fit_is_said_to_be_so(void **state) {
    struct asked asked = {.request = {.cost = 1, .tokens = 11}};
    answer(&asked, &a, refuses(1001), nothing);
    answer(&asked, &b, nothing, refuses(UINT64_MAX));
    asked.answers[SP_LIMIT_TOKENS][1].bucket.never = true;
    struct sp_limit_decision decision = combine(&asked);
    assert_true(decision.never);
    assert_ptr_equal(decision.refused_by, &b);
    assert_int_equal(decision.asked, 11);
    assert_int_equal(decision.most, 10);
    assert_int_equal(decision.retry_after_ms, 0);
}

static void a_shadow_limit_refuses_nobody_and_is_not_shown(void **state) {
    struct asked asked = {0};
    answer(&asked, &shadow, nothing, refuses(1000));
    answer(&asked, &a, admits(9, 10), nothing);
    struct sp_limit_decision decision = combine(&asked);
    assert_true(decision.admitted);
    assert_ptr_equal(decision.shadow_refused, &shadow);
    assert_ptr_equal(decision.shown[SP_LIMIT_REQUESTS].limit, &a);
    assert_null(decision.shown[SP_LIMIT_TOKENS].limit);
}

static void a_refused_place_is_named_with_its_bound(void **state) {
    struct asked asked = {0};
    answer(&asked, &places, nothing, nothing);
    struct sp_limit_decision decision = combine(&asked);
    sp_decision_refuse_place(&places, 1000, &decision);
    assert_false(decision.admitted);
    assert_false(decision.never);
    assert_ptr_equal(decision.refused_by, &places);
    assert_int_equal(decision.refused_kind, SP_LIMIT_CONCURRENCY);
    assert_int_equal(decision.asked, 1);
    assert_int_equal(decision.most, 7);
    assert_int_equal(decision.retry_after_ms, 1000);
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
        cmocka_unit_test(the_tightest_limit_of_each_kind_is_shown),
        cmocka_unit_test(of_two_that_refuse_the_longer_is_named),
        cmocka_unit_test(of_requests_and_tokens_that_both_refuse_the_longer_is_named_and_both_are_shown),
        cmocka_unit_test(what_can_never_fit_is_said_to_be_so),
        cmocka_unit_test(a_shadow_limit_refuses_nobody_and_is_not_shown),
        cmocka_unit_test(a_refused_place_is_named_with_its_bound),
        cmocka_unit_test(three_failures_in_a_row_open_the_breaker_and_a_success_closes_it),
        cmocka_unit_test(waits_grow_to_a_maximum_and_differ_by_the_dice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
