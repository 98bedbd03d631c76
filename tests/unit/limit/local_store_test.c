#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "local_world.h"

/* ---- One process: the same arithmetic ---- */

/* The bucket at the rate that the cost in units stands for, which is the configured one where the division is whole. */
static void it_decides_exactly_as_the_pure_bucket(void **state) {
    struct world *world = *state;
    static const struct sp_rate rates[] = {{600, 60000000}, {7, 1000000}, {1000, 1000000}, {11, 60000000}, {100, 3600000000}, {3, 100}};
    uint64_t seed = 11;
    for (unsigned slot = 0; slot < SP_COUNT(rates); slot++) {
        uint64_t burst = 1 + dice_below(&seed, 40), units = rates[slot].period_us * 64;
        uint64_t cost_units = units / rates[slot].amount + (units % rates[slot].amount != 0);
        struct sp_bucket_policy policy = {.rate = {64, cost_units}, .burst = burst};
        struct judge judge = {0};
        publish(world, slot, rates[slot].amount, rates[slot].period_us, burst);
        struct sp_local_bucket name = bucket_named(slot, 1);
        struct sp_bucket bucket;
        sp_bucket_fill(&policy, world->now, &bucket);
        for (int i = 0; i < 1000; i++) {
            world->now += dice_below(&seed, 3 * rates[slot].period_us / rates[slot].amount + 2);
            uint64_t cost = dice_below(&seed, burst + 2);
            struct sp_bucket_answer pure = sp_bucket_take(&policy, world->now, cost, &bucket);
            struct sp_bucket_answer here = take(world, name, cost).bucket;
            assert_int_equal(here.admitted, pure.admitted);
            assert_int_equal(here.never, pure.never);
            assert_int_equal(here.remaining, pure.remaining);
            assert_in_range(here.reset_us, pure.reset_us ? pure.reset_us - 1 : 0, pure.reset_us + 1);
            if (!pure.never)
                assert_in_range(here.retry_us, pure.retry_us ? pure.retry_us - 1 : 0, pure.retry_us + 1);
            if (here.admitted)
                judge_note(&judge, world->now, cost);
        }
        assert_true(judge.n > 50);
        assert_int_equal(judge_violations(&judge, rates[slot], burst), 0);
        judge_free(&judge);
    }
}

static void what_is_said_to_fit_is_what_would_be_admitted(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(0, 1);
    struct sp_local_attempt seen;
    assert_false(sp_local_fits(&world->store, bucket, world->now, 1, &seen)); /* no policy yet: a look says so */
    publish(world, 0, 10, SP_MICRO, 5);
    uint64_t seed = 11;
    for (int i = 0; i < 1000; i++, world->now += dice_below(&seed, SP_MICRO / 4)) {
        uint64_t cost = 1 + dice_below(&seed, 6);
        bool fits = sp_local_fits(&world->store, bucket, world->now, cost, &seen);
        assert_int_equal(admits(world, bucket, cost), fits);
    }
    assert_true(admits(world, bucket_named(0, 2), 1));
    publish(world, 0, 20, SP_MICRO, 5); /* the bucket is yet to be brought under it, which is the look's to do */
    assert_false(sp_local_fits(&world->store, bucket_named(0, 2), world->now, 1, &seen));
}

static void a_take_of_what_was_seen_is_a_take(void **state) {
    struct world *world = *state;
    publish(world, 0, 10, SP_MICRO, 20);
    struct sp_local_bucket bucket = bucket_named(0, 1), like = bucket_named(0, 2);
    struct sp_local_attempt seen;
    struct sp_local_taken taken, taken_like;
    struct sp_limit_answer answer, answer_like;
    memset(&taken, 0, sizeof taken);
    memset(&taken_like, 0, sizeof taken_like);
    assert_true(admits(world, bucket, 3));
    assert_true(admits(world, like, 3));
    uint64_t seed = 12;
    for (int i = 0; i < 1000; i++, world->now += dice_below(&seed, SP_MICRO / 4)) {
        uint64_t cost = 1 + dice_below(&seed, 3);
        if (!sp_local_fits(&world->store, bucket, world->now, cost, &seen))
            continue;
        assert_true(sp_local_take_seen(&seen, cost, &answer, &taken));
        assert_int_equal(sp_local_take(&world->store, like, world->now, cost, &answer_like, &taken_like), 0);
        assert_int_equal(answer.bucket.admitted, answer_like.bucket.admitted);
        assert_int_equal(answer.bucket.remaining, answer_like.bucket.remaining);
        assert_int_equal(answer.bucket.reset_us, answer_like.bucket.reset_us);
        assert_int_equal(answer.burst, answer_like.burst);
        assert_int_equal(taken.until, taken_like.until);
        assert_int_equal(cell_of(world->segment, bucket)->word, cell_of(world->segment, like)->word);
    }
    sp_local_give_back(&world->store, &taken);
    sp_local_give_back(&world->store, &taken_like);
    assert_int_equal(cell_of(world->segment, bucket)->word, cell_of(world->segment, like)->word);
}

static void what_was_seen_and_has_changed_is_not_taken(void **state) {
    struct world *world = *state;
    publish(world, 0, 1, HOUR_US, 5);
    struct sp_local_bucket bucket = bucket_named(0, 1);
    struct sp_local_attempt seen;
    struct sp_local_taken taken;
    struct sp_limit_answer answer;
    assert_true(sp_local_fits(&world->store, bucket, world->now, 2, &seen));
    assert_false(sp_local_take_seen(&seen, 2, &answer, &taken)); /* it had no cell */
    assert_int_equal(remaining(world, bucket), 5);
    assert_true(admits(world, bucket, 1));
    assert_true(sp_local_fits(&world->store, bucket, world->now, 4, &seen));
    assert_true(admits(world, bucket, 1)); /* by another, in between */
    assert_false(sp_local_take_seen(&seen, 4, &answer, &taken));
    assert_int_equal(remaining(world, bucket), 3);
}

static void it_admits_at_most_the_configured_rate_and_less_by_one_unit_per_token_at_most(void **state) {
    struct world *world = *state;
    publish(world, 0, 999983, SP_MICRO, 1000); /* 64.0011 units per token: kept as 65 */
    struct sp_local_bucket bucket = bucket_named(0, 1);
    struct judge judge = {0};
    for (uint64_t i = 0; i < 200; i++, world->now += 10)
        for (int n = 0; n < 30 && admits(world, bucket, 1); n++)
            judge_note(&judge, world->now, 1);
    assert_int_equal(judge_violations(&judge, (struct sp_rate){999983, SP_MICRO}, 1000), 0);
    assert_true(judge.n >= 1000 + 1990 * 64 / 65 - 1);
    judge_free(&judge);
}

static void a_client_that_waits_as_told_succeeds_and_not_before(void **state) {
    struct world *world = *state;
    uint64_t seed = 12;
    for (unsigned slot = 0; slot < 50; slot++) {
        publish(world, slot, 1 + dice_below(&seed, 1000), 60 * SP_MICRO, 1 + dice_below(&seed, 5));
        struct sp_local_bucket bucket = bucket_named(slot, 1);
        while (admits(world, bucket, 1))
            world->now += dice_below(&seed, 5);
        uint64_t retry = take(world, bucket, 1).bucket.retry_us;
        assert_true(retry > 0);
        world->now += retry - 1;
        assert_false(admits(world, bucket, 1));
        world->now += 1;
        assert_true(admits(world, bucket, 1));
    }
}

static void an_unpublished_limit_is_said_to_be_unknown(void **state) {
    struct world *world = *state;
    struct sp_limit_answer answer;
    struct sp_local_taken taken;
    assert_int_equal(sp_local_take(&world->store, bucket_named(9, 1), world->now, 1, &answer, &taken), -ENOENT);
    assert_int_equal(sp_local_peek(&world->store, bucket_named(9, 1), world->now, 1, &answer, NULL), -ENOENT);
}

static void a_stale_clock_of_another_worker_gives_nothing(void **state) {
    struct world *world = *state;
    publish(world, 0, 10, SP_MICRO, 5);
    struct sp_local_bucket bucket = bucket_named(0, 1);
    assert_true(admits(world, bucket, 5));
    world->now -= HOUR_US;
    assert_false(admits(world, bucket, 1));
    world->now += HOUR_US;
    assert_false(admits(world, bucket, 1));
    world->now += SP_MICRO / 10;
    assert_true(admits(world, bucket, 1));
}

static void limits_subjects_and_spaces_have_buckets_of_their_own(void **state) {
    struct world *world = *state;
    publish(world, 0, 1, HOUR_US, 1);
    publish(world, 1, 1, HOUR_US, 1);
    sp_local_publish(&world->store, SP_SPACE_SHARE, SP_LIMIT_REQUESTS, 0, 1, &(struct sp_rate){1, HOUR_US}, 1, world->now);
    assert_true(admits(world, bucket_named(0, 1), 1));
    assert_false(admits(world, bucket_named(0, 1), 1));
    assert_true(admits(world, bucket_named(0, 2), 1));
    assert_true(admits(world, bucket_named(1, 1), 1));
    assert_true(admits(world, sp_local_name(SP_SPACE_SHARE, SP_LIMIT_REQUESTS, 0, bucket_named(0, 1).key), 1));
}

/* ---- Giving back ---- */

static void what_is_given_back_is_exactly_what_was_taken(void **state) {
    struct world *world = *state;
    publish(world, 0, 7, SP_MICRO, 10);
    struct sp_local_bucket bucket = bucket_named(0, 1);
    assert_true(admits(world, bucket, 6));
    struct sp_cell before = *cell_of(world->segment, bucket);
    struct sp_limit_answer answer;
    struct sp_local_taken taken;
    assert_int_equal(sp_local_take(&world->store, bucket, world->now, 4, &answer, &taken), 0);
    assert_false(admits(world, bucket, 1));
    sp_local_give_back(&world->store, &taken);
    assert_memory_equal(cell_of(world->segment, bucket), &before, sizeof before);
}

static void what_the_bucket_has_forgotten_is_not_given_back(void **state) {
    struct world *world = *state;
    publish(world, 0, 10, SP_MICRO, 10);
    struct sp_local_bucket bucket = bucket_named(0, 1);
    struct sp_limit_answer answer;
    struct sp_local_taken taken;
    assert_int_equal(sp_local_take(&world->store, bucket, world->now, 5, &answer, &taken), 0);
    world->now += SP_MICRO; /* full again */
    assert_true(admits(world, bucket, 10));
    sp_local_give_back(&world->store, &taken);
    assert_false(admits(world, bucket, 1));
}

static void what_would_not_have_accrued_is_not_given_back(void **state) {
    struct world *world = *state;
    publish(world, 0, 1, 100, 3);
    struct sp_local_bucket bucket = bucket_named(0, 1);
    struct sp_limit_answer answer;
    struct sp_local_taken taken;
    assert_int_equal(sp_local_take(&world->store, bucket, world->now, 1, &answer, &taken), 0);
    world->now += 60;
    assert_true(admits(world, bucket, 1)); /* of a bucket that would have been full */
    sp_local_give_back(&world->store, &taken);
    assert_int_equal(take(world, bucket, 3).bucket.retry_us, 100);
}

static void what_others_gave_back_first_is_not_given_twice(void **state) {
    struct world *world = *state;
    publish(world, 0, 1, SP_MICRO, 10);
    struct sp_local_bucket bucket = bucket_named(0, 1);
    struct sp_limit_answer answer;
    struct sp_local_taken theirs, ours;
    assert_int_equal(sp_local_take(&world->store, bucket, world->now, 1, &answer, &theirs), 0);
    assert_int_equal(sp_local_take(&world->store, bucket, world->now, 1, &answer, &ours), 0);
    sp_local_give_back(&world->store, &theirs);
    world->now += 3 * SP_MICRO / 2; /* full since a while, though not at the instant that our take left behind */
    assert_true(admits(world, bucket, 10));
    sp_local_give_back(&world->store, &ours);
    assert_false(admits(world, bucket, 1));
}

/* ---- Settling ---- */
static void what_was_reserved_and_not_used_is_there_again_at_once(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(0, 1);
    publish(world, 0, 10000, 60 * SP_MICRO, 10000);
    assert_true(admits(world, bucket, 8000));
    world->now += 6 * SP_MICRO; /* a thousand more meanwhile: a settlement is whole, whatever has accrued */
    settle(world, bucket, 7500);
    assert_int_equal(level(world, bucket), 10000);
    assert_true(admits(world, bucket, 10000));
    settle(world, bucket, 4000);
    assert_int_equal(level(world, bucket), 4000);
}

static void a_refund_never_lifts_the_level_above_the_burst(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(0, 1);
    publish(world, 0, 1, HOUR_US, 10);
    settle(world, bucket, 5);
    assert_null(cell_of(world->segment, bucket));
    assert_true(admits(world, bucket, 3));
    settle(world, bucket, INT64_MAX);
    assert_int_equal(level(world, bucket), 10);
    assert_true(admits(world, bucket, 10));
    assert_false(admits(world, bucket, 1));
}

static void more_than_was_reserved_becomes_debt_and_is_made_up_for_first(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(0, 1);
    publish(world, 0, 1, SP_MICRO, 10);
    assert_true(admits(world, bucket, 10));
    settle(world, bucket, -5);
    assert_int_equal(level(world, bucket), -5);
    assert_int_equal(remaining(world, bucket), 0);
    assert_int_equal(take(world, bucket, 2).bucket.retry_us, 7 * SP_MICRO);
    world->now += 7 * SP_MICRO - 1;
    assert_false(admits(world, bucket, 2));
    world->now += 1;
    assert_true(admits(world, bucket, 2));
    settle(world, bucket_named(0, 2), -3); /* of a bucket that nobody has looked at since it was full */
    assert_int_equal(level(world, bucket_named(0, 2)), 7);
}

static void a_debt_is_bounded_and_passes(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(0, 1);
    publish(world, 0, 1, SP_MICRO, 10);
    for (int i = 0; i < 5; i++)
        settle(world, bucket, INT64_MIN);
    assert_false(admits(world, bucket, 1));
    world->now += SPAN_MAX / 4 / UNITS_PER_US + 11 * SP_MICRO;
    assert_int_equal(level(world, bucket), 10);
}

static void a_debt_outlives_a_reload(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(0, 1);
    publish(world, 0, 1, SP_MICRO, 10);
    assert_true(admits(world, bucket, 10));
    settle(world, bucket, -20);
    publish(world, 0, 2, SP_MICRO, 15);
    assert_int_equal(level(world, bucket), -20);
    assert_int_equal(remaining(world, bucket), 0); /* it follows the new policy from the first look on */
    world->now += 10 * SP_MICRO;
    assert_int_equal(level(world, bucket), 0);
}

static void an_unpublished_limit_settles_nothing(void **state) {
    struct world *world = *state;
    settle(world, bucket_named(9, 1), -5);
    settle(world, bucket_named(9, 1), 5);
    int64_t tokens;
    assert_int_equal(sp_local_level(&world->store, bucket_named(9, 1), world->now, &tokens), -ENOENT);
}

/* The pure bucket is the judge: reservations of thousands, settled in any order. */
static void it_settles_exactly_as_the_pure_bucket(void **state) {
    struct world *world = *state;
    uint64_t seed = 21;
    struct sp_local_bucket name = bucket_named(0, 1);
    struct sp_bucket_policy policy = {.rate = {64, 6400}, .burst = 50000}; /* a token in 100 µs */
    struct sp_bucket pure;
    publish(world, 0, 600000, 60 * SP_MICRO, 50000);
    sp_bucket_fill(&policy, world->now, &pure);
    for (int i = 0; i < 5000; i++) {
        world->now += dice_below(&seed, 200000);
        uint64_t cost = 1 + dice_below(&seed, 8000);
        bool admitted = sp_bucket_take(&policy, world->now, cost, &pure).admitted;
        assert_int_equal(admits(world, name, cost), admitted);
        if (!admitted)
            continue;
        world->now += dice_below(&seed, 100000);
        int64_t delta = (int64_t)cost - (int64_t)dice_below(&seed, cost * 2);
        settle(world, name, delta);
        sp_bucket_settle(&policy, world->now, delta * (int64_t)SP_MICRO, &pure);
        int64_t there = pure.level_micro >= 0 ? pure.level_micro / (int64_t)SP_MICRO
                                              : -((-pure.level_micro + (int64_t)SP_MICRO - 1) / (int64_t)SP_MICRO);
        assert_in_range(level(world, name) + 1000000, there + 999999, there + 1000001);
    }
}

static void tokens_and_requests_of_one_limit_have_buckets_of_their_own(void **state) {
    struct world *world = *state;
    publish(world, 0, 1, HOUR_US, 1);
    sp_local_publish(&world->store, SP_SPACE_LOCAL, SP_LIMIT_TOKENS, 0, 1, &(struct sp_rate){1, HOUR_US}, 1000, world->now);
    struct sp_local_bucket tokens = sp_local_name(SP_SPACE_LOCAL, SP_LIMIT_TOKENS, 0, bucket_named(0, 1).key);
    assert_true(admits(world, bucket_named(0, 1), 1));
    assert_true(admits(world, tokens, 1000));
    assert_false(admits(world, bucket_named(0, 1), 1));
    struct sp_local_bucket again = sp_local_bucket_of_key(tokens.key);
    assert_int_equal(again.row, tokens.row);
    assert_true(again.key == tokens.key);
}

/* ---- Reload ---- */

static void growth_gives_no_gift_and_shrinking_takes_only_what_does_not_fit(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(0, 1);
    publish(world, 0, 10, SP_MICRO, 10);
    assert_true(admits(world, bucket, 8));
    world->now += SP_MICRO / 10; /* one more at the old rate */
    publish(world, 0, 100, SP_MICRO, 100);
    assert_int_equal(remaining(world, bucket), 3);
    world->now += SP_MICRO / 2;
    assert_int_equal(remaining(world, bucket), 53);
    publish(world, 0, 10, SP_MICRO, 10);
    assert_int_equal(remaining(world, bucket), 10);
    assert_true(admits(world, bucket, 4));
    publish(world, 0, 100, SP_MICRO, 100);
    assert_int_equal(remaining(world, bucket), 6);
    publish(world, 0, 10, SP_MICRO, 10);
    assert_int_equal(remaining(world, bucket), 6);
}

static void a_refused_client_accrues_at_the_new_rate_from_the_reload_on(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(0, 1);
    publish(world, 0, 1, HOUR_US, 1);
    assert_true(admits(world, bucket, 1));
    publish(world, 0, 10, SP_MICRO, 1);
    uint64_t retry = take(world, bucket, 1).bucket.retry_us;
    assert_in_range(retry, 1, SP_MICRO / 10);
    world->now += retry;
    assert_true(admits(world, bucket, 1));
}

static void an_older_generation_follows_the_policy_in_force(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(0, 1);
    sp_local_publish(&world->store, SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, 0, 8, &(struct sp_rate){1, HOUR_US}, 3, world->now);
    sp_local_publish(&world->store, SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, 0, 7, &(struct sp_rate){1, HOUR_US}, 100, world->now);
    assert_int_equal(take(world, bucket, 1).burst, 3);
    sp_local_publish(&world->store, SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, 0, 8, &(struct sp_rate){1, HOUR_US}, 100, world->now);
    assert_int_equal(take(world, bucket, 1).burst, 3);
}

/* The pure bucket goes through the same thousand changes: many times round the ring of policies. */
static void a_thousand_reloads_never_make_a_level_jump(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(3, 1), untouched = bucket_named(3, 2);
    struct sp_bucket_policy policy = {.rate = {64, 6400}, .burst = 50};
    struct sp_bucket pure;
    uint64_t seed = 13;
    publish(world, 3, 10000, SP_MICRO, 50);
    sp_bucket_fill(&policy, world->now, &pure);
    assert_true(admits(world, bucket, 20));
    assert_true(admits(world, untouched, 1)); /* full in 100 µs; nobody looks at it until the end */
    assert_true(sp_bucket_take(&policy, world->now, 20, &pure).admitted);
    for (int i = 0; i < 1000; i++) {
        uint64_t cost_us = 100 + dice_below(&seed, 100), burst = 20 + dice_below(&seed, 60);
        struct sp_bucket_policy next = {.rate = {64, cost_us * 64}, .burst = burst};
        world->now += dice_below(&seed, 200);
        publish(world, 3, 1, cost_us, burst);
        sp_bucket_change(&policy, &next, world->now, &pure);
        policy = next;
        struct sp_limit_answer here = take(world, bucket, 1);
        struct sp_bucket_answer there = sp_bucket_take(&policy, world->now, 1, &pure);
        /* Each change rounds what is missing up by less than a unit. */
        assert_in_range(here.bucket.remaining, there.remaining ? there.remaining - 1 : 0, there.remaining);
        if (here.bucket.admitted != there.admitted)
            sp_bucket_settle(&policy, world->now, SP_MICRO, &pure);
        assert_true(there.admitted || !here.bucket.admitted);
    }
    assert_true(remaining(world, untouched) <= policy.burst);
    assert_true(remaining(world, untouched) >= 20);
}

/* All the way round the ring: its tag would name another policy by now, had nobody brought it along. */
static void a_bucket_nobody_looked_at_is_brought_along_by_reloads(void **state) {
    struct world *world = *state;
    struct sp_local_bucket bucket = bucket_named(0, 1);
    publish(world, 0, 1, HOUR_US, 1);
    assert_true(admits(world, bucket, 1));
    for (uint64_t i = 0; i < TAGS - 1; i++)
        publish(world, 0, 1, 1000 + i % 2, 1);
    uint64_t retry = take(world, bucket, 1).bucket.retry_us;
    assert_in_range(retry, 990, 1010);
}

static void an_unchanged_policy_costs_no_place_on_the_ring(void **state) {
    struct world *world = *state;
    for (int i = 0; i < 1000; i++)
        publish(world, 0, 10, SP_MICRO, 10);
    struct sp_local_policy policy;
    assert_true(sp_local_current(&((struct sp_local_segment *)world->segment)->rows[0], &policy));
    assert_int_equal(policy.version, 1);
}

/* ---- Crowding ---- */

static void only_full_buckets_give_way(void **state) {
    struct world *world = *state;
    publish(world, 0, 1, HOUR_US, 2);
    publish(world, 1, 10, SP_MICRO, 2);
    for (uint64_t i = 0; i < WINDOW; i++)
        assert_true(admits(world, crowded(i == 5, 77, i), 1)); /* the sixth is full again soon */
    world->now += SP_MICRO;
    assert_true(admits(world, crowded(0, 77, 100), 2));
    assert_false(admits(world, crowded(0, 77, 100), 1));
    for (uint64_t i = 0; i < WINDOW; i++)
        if (i != 5)
            assert_int_equal(remaining(world, crowded(0, 77, i)), 1);
    assert_int_equal(remaining(world, crowded(1, 77, 5)), 2);
    assert_int_equal(sp_local_overflowed(&world->store), 0);
}

static void a_worker_with_a_stale_clock_does_not_begin_a_bucket_before_it_was_full(void **state) {
    struct world *world = *state;
    publish(world, 0, 1, SP_MICRO, 1);
    publish(world, 1, 1, HOUR_US, 1);
    for (uint64_t i = 0; i < WINDOW; i++)
        assert_true(admits(world, crowded(i == 5 ? 0 : 1, 77, i), 1));
    world->now += SP_MICRO;
    assert_true(admits(world, crowded(0, 77, 100), 1)); /* in place of the sixth */
    world->now += SP_MICRO;
    assert_true(admits(world, crowded(1, 77, 101), 1)); /* in place of that */
    struct sp_local_segment *segment = world->segment;
    *cell_of(segment, crowded(1, 77, 0)) = (struct sp_cell){0};
    uint64_t now = world->now;
    world->now -= SP_MICRO; /* a worker that read its clock before all this */
    assert_false(admits(world, crowded(0, 77, 5), 1));
    world->now = now + SP_MICRO;
    assert_true(admits(world, crowded(0, 77, 5), 1));
}

static void without_room_all_share_one_bucket_that_never_gives_more(void **state) {
    struct world *world = *state;
    publish(world, 0, 1, SP_MICRO, 4);
    publish(world, 1, 1, HOUR_US, 1);
    for (uint64_t i = 0; i < WINDOW; i++)
        assert_true(admits(world, crowded(1, 77, i), 1));
    assert_true(admits(world, crowded(0, 77, 100), 2));
    assert_true(admits(world, crowded(0, 77, 101), 2));
    assert_false(admits(world, crowded(0, 77, 100), 1));
    assert_false(admits(world, crowded(0, 77, 102), 1));
    assert_int_equal(remaining(world, crowded(0, 77, 103)), 0);
    assert_int_equal(sp_local_overflowed(&world->store), 2);
    /* A bucket that gets a cell now begins where the shared one is: what its subject took there is not forgotten. */
    assert_false(admits(world, crowded(0, 5000, 200), 1));
    world->now += SP_MICRO;
    assert_true(admits(world, crowded(0, 5000, 201), 1));
    assert_false(admits(world, crowded(0, 5000, 201), 1));
}

/* What a bucket without a cell is charged goes to the one that all such share; what it would get back, nobody gets. */
static void without_room_debts_are_charged_and_refunds_are_not_given(void **state) {
    struct world *world = *state;
    publish(world, 0, 1, SP_MICRO, 4);
    publish(world, 1, 1, HOUR_US, 1);
    for (uint64_t i = 0; i < WINDOW; i++)
        assert_true(admits(world, crowded(1, 77, i), 1));
    assert_true(admits(world, crowded(0, 77, 100), 4));
    settle(world, crowded(0, 77, 100), 4);
    assert_false(admits(world, crowded(0, 77, 101), 1));
    settle(world, crowded(0, 77, 100), -2);
    assert_int_equal(take(world, crowded(0, 77, 101), 1).bucket.retry_us, 3 * SP_MICRO);
}

static void a_claim_left_by_a_killed_process_is_taken_over(void **state) {
    struct world *world = *state;
    publish(world, 0, 1, HOUR_US, 2);
    struct sp_local_segment *segment = world->segment;
    struct sp_local_bucket mine = crowded(0, 77, 100);
    uint64_t first = (mine.key >> ROW_BITS) & (TABLE_CELLS - 1) & ~UINT64_C(3);
    /* Its own key, claimed twice; and then a window full of others' claims. */
    segment->cells[first + 3] = (struct sp_cell){.key = mine.key, .word = 5};
    segment->cells[first + 7] = (struct sp_cell){.key = mine.key, .word = 6};
    assert_true(admits(world, mine, 2));
    assert_false(admits(world, mine, 1));
    for (uint64_t i = 0; i < WINDOW; i++)
        segment->cells[first + i] = (struct sp_cell){.key = crowded(0, 77, 200 + i).key, .word = 7};
    assert_true(admits(world, mine, 2));
    assert_false(admits(world, mine, 1));
    assert_int_equal(sp_local_overflowed(&world->store), 0);
}

static void remembering_sets_the_level_and_a_full_one_needs_no_cell(void **state) {
    struct world *world = *state;
    publish(world, 0, 10, SP_MICRO, 10);
    struct sp_local_bucket bucket = bucket_named(0, 1);
    sp_local_remember(&world->store, bucket, world->now, 0, true);
    assert_null(cell_of(world->segment, bucket));
    sp_local_remember(&world->store, bucket, world->now, 7 * SP_MICRO / 10, true);
    assert_int_equal(remaining(world, bucket), 3);
    sp_local_remember(&world->store, bucket, world->now, 0, true);
    assert_int_equal(remaining(world, bucket), 10);
}

static void what_was_given_is_not_forgotten_where_the_level_may_not_rise(void **state) {
    struct world *world = *state;
    publish(world, 0, 10, SP_MICRO, 10);
    struct sp_local_bucket bucket = bucket_named(0, 1);
    assert_true(admits(world, bucket, 6));
    sp_local_remember(&world->store, bucket, world->now, 0, false);
    assert_int_equal(remaining(world, bucket), 4);
    sp_local_remember(&world->store, bucket, world->now, 9 * SP_MICRO / 10, false);
    assert_int_equal(remaining(world, bucket), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_decides_exactly_as_the_pure_bucket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_admits_at_most_the_configured_rate_and_less_by_one_unit_per_token_at_most, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_waits_as_told_succeeds_and_not_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unpublished_limit_is_said_to_be_unknown, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stale_clock_of_another_worker_gives_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(limits_subjects_and_spaces_have_buckets_of_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_given_back_is_exactly_what_was_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_bucket_has_forgotten_is_not_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_would_not_have_accrued_is_not_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_others_gave_back_first_is_not_given_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_reserved_and_not_used_is_there_again_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refund_never_lifts_the_level_above_the_burst, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_than_was_reserved_becomes_debt_and_is_made_up_for_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_debt_is_bounded_and_passes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_debt_outlives_a_reload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unpublished_limit_settles_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_settles_exactly_as_the_pure_bucket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tokens_and_requests_of_one_limit_have_buckets_of_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(growth_gives_no_gift_and_shrinking_takes_only_what_does_not_fit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refused_client_accrues_at_the_new_rate_from_the_reload_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_older_generation_follows_the_policy_in_force, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_thousand_reloads_never_make_a_level_jump, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bucket_nobody_looked_at_is_brought_along_by_reloads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_worker_with_a_stale_clock_does_not_begin_a_bucket_before_it_was_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unchanged_policy_costs_no_place_on_the_ring, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_full_buckets_give_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_room_all_share_one_bucket_that_never_gives_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_room_debts_are_charged_and_refunds_are_not_given, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_claim_left_by_a_killed_process_is_taken_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(remembering_sets_the_level_and_a_full_one_needs_no_cell, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_said_to_fit_is_what_would_be_admitted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_take_of_what_was_seen_is_a_take, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_seen_and_has_changed_is_not_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_given_is_not_forgotten_where_the_level_may_not_rise, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
