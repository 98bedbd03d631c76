#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "judge.h"

#define HOUR_US  (UINT64_C(3600) * SP_MICRO)
#define START_US (UINT64_C(1) << 40)

static const uint64_t periods[] = {SP_MICRO, 60 * SP_MICRO, 3600 * SP_MICRO, 1234567};

static struct sp_bucket_policy random_policy(uint64_t *seed) {
    return (struct sp_bucket_policy){
        .rate = {.amount = 1 + dice_below(seed, 2000), .period_us = periods[dice_below(seed, SP_COUNT(periods))]},
        .burst = 1 + dice_below(seed, 50)};
}

/* Long enough steps that the rate matters, short enough that the burst does. */
static uint64_t random_step(const struct sp_bucket_policy *policy, uint64_t *seed) {
    return dice_below(seed, 3 * policy->rate.period_us / policy->rate.amount + 2);
}

static void no_interval_admits_more_than_burst_and_rate(void **state) {
    uint64_t seed = 1;
    for (int round = 0; round < 60; round++) {
        struct sp_bucket_policy policy = random_policy(&seed);
        struct sp_bucket bucket;
        struct judge judge = {0};
        uint64_t now = START_US;
        sp_bucket_fill(&policy, now, &bucket);
        for (int i = 0; i < 600; i++) {
            uint64_t cost = 1 + dice_below(&seed, 3);
            now += random_step(&policy, &seed);
            if (sp_bucket_take(&policy, now, cost, &bucket).admitted)
                judge_note(&judge, now, cost);
        }
        assert_true(judge.n > 10);
        assert_int_equal(judge_violations(&judge, policy.rate, policy.burst), 0);
        judge_free(&judge);
    }
}

/* Judged by the furthest instant the clock has shown: that is the only time a bucket may believe in. */
static void a_clock_that_steps_an_hour_either_way_gives_nothing(void **state) {
    uint64_t seed = 2;
    for (int round = 0; round < 60; round++) {
        struct sp_bucket_policy policy = random_policy(&seed);
        struct sp_bucket bucket;
        struct judge judge = {0};
        uint64_t now = START_US, furthest = now;
        sp_bucket_fill(&policy, now, &bucket);
        for (int i = 0; i < 600; i++) {
            now += random_step(&policy, &seed);
            if (dice_below(&seed, 50) == 0)
                now = dice_below(&seed, 2) ? now + HOUR_US : now - HOUR_US;
            furthest = sp_max(furthest, now);
            if (sp_bucket_take(&policy, now, 1, &bucket).admitted)
                judge_note(&judge, furthest, 1);
            assert_true(bucket.time_us <= furthest);
        }
        assert_int_equal(judge_violations(&judge, policy.rate, policy.burst), 0);
        judge_free(&judge);
    }
}

static void many_small_steps_add_up_to_one_large_one(void **state) {
    uint64_t seed = 3;
    for (int round = 0; round < 200; round++) {
        struct sp_bucket_policy policy = random_policy(&seed);
        policy.burst = 1000000;
        struct sp_bucket stepped, leapt;
        sp_bucket_fill(&policy, START_US, &stepped);
        sp_bucket_settle(&policy, START_US, -(int64_t)(policy.burst * SP_MICRO), &stepped);
        leapt = stepped;
        uint64_t now = START_US;
        for (int i = 0; i < 1000; i++) {
            now += dice_below(&seed, 1000);
            sp_bucket_advance(&policy, now, &stepped);
        }
        sp_bucket_advance(&policy, now, &leapt);
        assert_memory_equal(&stepped, &leapt, sizeof leapt);
    }
}

static void steady_demand_is_admitted_at_exactly_the_rate(void **state) {
    struct sp_bucket_policy policy = {.rate = {7, 60 * SP_MICRO}, .burst = 3};
    struct sp_bucket bucket;
    sp_bucket_fill(&policy, START_US, &bucket);
    uint64_t admitted = 0;
    for (uint64_t now = START_US; now <= START_US + 600 * SP_MICRO; now += 1000)
        admitted += sp_bucket_take(&policy, now, 1, &bucket).admitted;
    assert_int_equal(admitted, 3 + 70);
}

static void a_client_that_waits_as_told_succeeds_and_not_before(void **state) {
    uint64_t seed = 4;
    int refused = 0;
    for (int round = 0; round < 2000; round++) {
        struct sp_bucket_policy policy = random_policy(&seed);
        struct sp_bucket bucket;
        uint64_t now = START_US, cost = 1 + dice_below(&seed, policy.burst);
        sp_bucket_fill(&policy, now, &bucket);
        while (sp_bucket_take(&policy, now, cost, &bucket).admitted)
            now += random_step(&policy, &seed) / 8;
        if (dice_below(&seed, 4) == 0)
            now -= dice_below(&seed, HOUR_US); /* the clock went back: waiting is longer by that much */
        struct sp_bucket early = bucket, late = bucket;
        struct sp_bucket_answer answer = sp_bucket_take(&policy, now, cost, &bucket);
        refused += !answer.admitted;
        assert_false(answer.never);
        assert_true(answer.retry_us > 0);
        assert_false(sp_bucket_take(&policy, now + answer.retry_us - 1, cost, &early).admitted);
        assert_true(sp_bucket_take(&policy, now + answer.retry_us, cost, &late).admitted);
    }
    assert_int_equal(refused, 2000);
}

static void a_bucket_is_full_exactly_when_it_says_it_will_be(void **state) {
    uint64_t seed = 5;
    for (int round = 0; round < 500; round++) {
        struct sp_bucket_policy policy = random_policy(&seed);
        struct sp_bucket bucket;
        sp_bucket_fill(&policy, START_US, &bucket);
        struct sp_bucket_answer answer = sp_bucket_take(&policy, START_US, policy.burst, &bucket);
        struct sp_bucket early = bucket;
        sp_bucket_advance(&policy, START_US + answer.reset_us - 1, &early);
        sp_bucket_advance(&policy, START_US + answer.reset_us, &bucket);
        assert_true(early.level_micro < (int64_t)(policy.burst * SP_MICRO));
        assert_int_equal(bucket.level_micro, policy.burst * SP_MICRO);
    }
}

static void a_refusal_takes_nothing(void **state) {
    struct sp_bucket_policy policy = {.rate = {1, HOUR_US}, .burst = 5};
    struct sp_bucket bucket;
    sp_bucket_fill(&policy, START_US, &bucket);
    assert_true(sp_bucket_take(&policy, START_US, 3, &bucket).admitted);
    struct sp_bucket before = bucket;
    for (int i = 0; i < 100; i++)
        assert_false(sp_bucket_take(&policy, START_US, 3, &bucket).admitted);
    assert_memory_equal(&before, &bucket, sizeof bucket);
    assert_true(sp_bucket_take(&policy, START_US, 2, &bucket).admitted);
}

static void a_cost_above_the_burst_is_never_admitted(void **state) {
    struct sp_bucket_policy policy = {.rate = {10, SP_MICRO}, .burst = 5};
    struct sp_bucket bucket;
    sp_bucket_fill(&policy, START_US, &bucket);
    struct sp_bucket_answer answer = sp_bucket_take(&policy, START_US, 6, &bucket);
    assert_true(answer.never);
    assert_false(answer.admitted);
    assert_int_equal(answer.remaining, 5);
    assert_true(sp_bucket_take(&policy, START_US, UINT64_MAX, &bucket).never);
}

static void debits_less_refunds_are_what_was_used(void **state) {
    struct sp_bucket_policy policy = {.rate = {1, HOUR_US}, .burst = 1000000};
    struct sp_bucket bucket;
    uint64_t seed = 6;
    int64_t used = 0;
    sp_bucket_fill(&policy, START_US, &bucket);
    for (int i = 0; i < 200; i++) {
        uint64_t reserved = 1 + dice_below(&seed, 3000);
        int64_t usage = (int64_t)dice_below(&seed, 6000 * SP_MICRO);
        assert_true(sp_bucket_take(&policy, START_US, reserved, &bucket).admitted);
        sp_bucket_settle(&policy, START_US, (int64_t)(reserved * SP_MICRO) - usage, &bucket);
        used += usage;
    }
    assert_int_equal(bucket.level_micro, (int64_t)(policy.burst * SP_MICRO) - used);
}

static void settlement_may_become_debt_and_debt_is_paid_before_anything_is_admitted(void **state) {
    struct sp_bucket_policy policy = {.rate = {1, SP_MICRO}, .burst = 2};
    struct sp_bucket bucket;
    sp_bucket_fill(&policy, START_US, &bucket);
    sp_bucket_settle(&policy, START_US, -5 * (int64_t)SP_MICRO, &bucket);
    struct sp_bucket_answer answer = sp_bucket_take(&policy, START_US, 1, &bucket);
    assert_false(answer.admitted);
    assert_int_equal(answer.remaining, 0);
    assert_int_equal(answer.retry_us, 4 * SP_MICRO);
    assert_int_equal(answer.reset_us, 5 * SP_MICRO);
}

static void a_refund_never_lifts_the_level_above_the_burst(void **state) {
    struct sp_bucket_policy policy = {.rate = {1, SP_MICRO}, .burst = 2};
    struct sp_bucket bucket;
    sp_bucket_fill(&policy, START_US, &bucket);
    sp_bucket_settle(&policy, START_US, INT64_MAX, &bucket);
    assert_int_equal(bucket.level_micro, 2 * SP_MICRO);
    sp_bucket_settle(&policy, START_US, INT64_MIN, &bucket);
    sp_bucket_settle(&policy, START_US, INT64_MIN, &bucket);
    assert_int_equal(bucket.level_micro, INT64_MIN);
    assert_false(sp_bucket_take(&policy, START_US, 1, &bucket).admitted);
}

static void growth_gives_no_gift_and_shrinking_takes_only_what_does_not_fit(void **state) {
    struct sp_bucket_policy small = {.rate = {10, SP_MICRO}, .burst = 10}, large = {.rate = {100, SP_MICRO}, .burst = 100};
    struct sp_bucket bucket;
    sp_bucket_fill(&small, START_US, &bucket);
    assert_true(sp_bucket_take(&small, START_US, 8, &bucket).admitted);
    sp_bucket_change(&small, &large, START_US + SP_MICRO / 10, &bucket); /* one more at the old rate */
    assert_int_equal(bucket.level_micro, 3 * SP_MICRO);
    sp_bucket_advance(&large, START_US + SP_MICRO / 10 + SP_MICRO / 2, &bucket);
    assert_int_equal(bucket.level_micro, 53 * SP_MICRO);
    sp_bucket_change(&large, &small, bucket.time_us, &bucket);
    assert_int_equal(bucket.level_micro, 10 * SP_MICRO);
    assert_true(sp_bucket_take(&small, bucket.time_us, 4, &bucket).admitted);
    sp_bucket_change(&small, &large, bucket.time_us, &bucket);
    sp_bucket_change(&large, &small, bucket.time_us, &bucket);
    assert_int_equal(bucket.level_micro, 6 * SP_MICRO);
}

static void the_largest_numbers_saturate(void **state) {
    struct sp_bucket_policy policy = {.rate = {UINT64_MAX, 1}, .burst = UINT64_MAX};
    struct sp_bucket bucket;
    sp_bucket_fill(&policy, 0, &bucket);
    assert_true(sp_bucket_take(&policy, 0, 1, &bucket).admitted);
    struct sp_bucket_answer answer = sp_bucket_take(&policy, UINT64_MAX, 1, &bucket);
    assert_true(answer.admitted);
    assert_true(answer.reset_us <= 1);
    policy.rate = (struct sp_rate){1, UINT64_MAX};
    assert_true(sp_bucket_take(&policy, UINT64_MAX, answer.remaining, &bucket).admitted);
    answer = sp_bucket_take(&policy, UINT64_MAX, 1000, &bucket);
    assert_false(answer.admitted);
    assert_int_equal(answer.retry_us, UINT64_MAX);
    policy.rate.amount = 0;
    sp_bucket_advance(&policy, UINT64_MAX, &bucket);
    assert_false(sp_bucket_take(&policy, UINT64_MAX, 1000, &bucket).admitted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_interval_admits_more_than_burst_and_rate),
        cmocka_unit_test(a_clock_that_steps_an_hour_either_way_gives_nothing),
        cmocka_unit_test(many_small_steps_add_up_to_one_large_one),
        cmocka_unit_test(steady_demand_is_admitted_at_exactly_the_rate),
        cmocka_unit_test(a_client_that_waits_as_told_succeeds_and_not_before),
        cmocka_unit_test(a_bucket_is_full_exactly_when_it_says_it_will_be),
        cmocka_unit_test(a_refusal_takes_nothing),
        cmocka_unit_test(a_cost_above_the_burst_is_never_admitted),
        cmocka_unit_test(debits_less_refunds_are_what_was_used),
        cmocka_unit_test(settlement_may_become_debt_and_debt_is_paid_before_anything_is_admitted),
        cmocka_unit_test(a_refund_never_lifts_the_level_above_the_burst),
        cmocka_unit_test(growth_gives_no_gift_and_shrinking_takes_only_what_does_not_fit),
        cmocka_unit_test(the_largest_numbers_saturate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
