/* Asks of buckets in a real Redis: takes, leases, and both together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "judge.h"
#include "lease.h"
#include "peer.h"

#define DEADLINE_MS 5000 /* not what these tests are about */
#define LEASE_US    (SP_LEASE_MS * UINT64_C(1000))

static struct redis_server redis;
static struct peer one, two;

static int start(void **state) {
    redis_start(&redis);
    return 0;
}
static int stop(void **state) {
    redis_kill(&redis);
    return 0;
}
static int set_up(void **state) {
    (void)redis_says(&redis, "FLUSHALL");
    peer_open(&one, redis.port, DEADLINE_MS);
    peer_open(&two, redis.port, DEADLINE_MS);
    return 0;
}
static int tear_down(void **state) {
    kill(redis.pid, SIGCONT);
    peer_close(&one);
    peer_close(&two);
    return 0;
}

/* Asks for the request bucket of limit 0; the answer. */
static struct question ask_first(struct peer *peer, uint64_t cost, uint64_t lease) {
    struct question question = {0};
    question_add(&question, peer, 0, SP_LIMIT_REQUESTS, cost, lease);
    question_ask(&question, peer, "alice");
    return question;
}
static uint64_t leased_of(const struct question *question) { return question->ask.part[0].leased; }

/* ---- Leases ---- */

static void a_lease_is_what_is_there_after_all_costs(void **state) {
    scene_limit(&one.scene, 0, "first", 1, HOUR_US, 100);
    peer_connect(&one);
    struct question question = ask_first(&one, 30, 50);
    assert_true(question_admitted(&question));
    assert_int_equal(leased_of(&question), 50);
    assert_int_equal(question.ask.part[0].answer.bucket.remaining, 20);
    question = ask_first(&one, 1, 50);
    assert_int_equal(leased_of(&question), 19);
    question = ask_first(&one, 0, 50); /* nothing is there, and nothing was asked for that must be */
    assert_true(question_admitted(&question));
    assert_int_equal(leased_of(&question), 0);
}

static void who_is_refused_leases_nothing_anywhere(void **state) {
    struct question question = {0};
    scene_limit(&one.scene, 1, "second", 1, HOUR_US, 10);
    peer_connect(&one);
    question_add(&question, &one, 0, SP_LIMIT_REQUESTS, 1, 50);
    question_add(&question, &one, 1, SP_LIMIT_REQUESTS, 11, 0);
    question_ask(&question, &one, "alice");
    assert_false(question_admitted(&question));
    assert_true(question.ask.part[1].answer.bucket.never);
    assert_int_equal(leased_of(&question), 0);
    assert_string_equal(redis_says(&redis, "DBSIZE"), "0");
}

static void a_look_leases_nothing(void **state) {
    struct question question = {.ask.peek = true};
    peer_connect(&one);
    question_add(&question, &one, 0, SP_LIMIT_REQUESTS, 1, 50);
    question_ask(&question, &one, "alice");
    assert_true(question_admitted(&question));
    assert_int_equal(leased_of(&question), 0);
    assert_string_equal(redis_says(&redis, "DBSIZE"), "0");
}

static void a_burst_of_less_than_two_lease_times_is_not_leased(void **state) {
    scene_limit(&one.scene, 0, "first", 1000, SP_MICRO, 199); /* 100 in a lease time */
    peer_connect(&one);
    struct question question = ask_first(&one, 1, 50);
    assert_true(question_admitted(&question));
    assert_int_equal(leased_of(&question), 0);
}

static void a_lease_keeps_back_what_accrues_while_it_lives(void **state) {
    scene_limit(&one.scene, 0, "first", 1000, SP_MICRO, 1000);
    peer_connect(&one);
    struct question question = ask_first(&one, 0, 5000);
    assert_int_equal(leased_of(&question), 900);
}

static void the_whole_burst_is_there_for_who_does_not_lease(void **state) {
    scene_limit(&one.scene, 0, "first", 10, SP_MICRO, 100);
    peer_connect(&one);
    struct question question = ask_first(&one, 99, 50); /* one token is in a lease time; the cost comes first */
    assert_true(question_admitted(&question));
    assert_in_range(leased_of(&question), 1, 2);
}

static void a_shadow_limit_is_leased_like_any_other_and_refuses_nobody(void **state) {
    scene_limit(&one.scene, 0, "first", 1, HOUR_US, 100);
    one.scene.limit[0].shadow = true;
    peer_connect(&one);
    struct question question = ask_first(&one, 60, 10);
    assert_true(question.ask.part[0].answer.bucket.admitted);
    assert_int_equal(leased_of(&question), 10);
    question = ask_first(&one, 60, 10);
    assert_false(question.ask.part[0].answer.bucket.admitted); /* and 30 are left */
    assert_int_equal(leased_of(&question), 10);
    assert_int_equal(question.ask.part[0].answer.bucket.remaining, 20);
}

static void requests_and_tokens_of_all_limits_are_one_command(void **state) {
    struct question question = {0};
    peer_connect(&one);
    for (size_t i = 0; i < 4; i++) {
        question_add(&question, &one, i, SP_LIMIT_REQUESTS, 1, 5);
        question_add(&question, &one, i, SP_LIMIT_TOKENS, 1000, 0);
    }
    question_ask(&question, &one, "alice");
    assert_true(question_admitted(&question));
    assert_int_equal(peer_state(&one).commands, 1);
    assert_string_equal(redis_says(&redis, "DBSIZE"), "8");
    assert_int_equal(stored_tokens(&redis, "test:third:{s=alice}:t", 0), 999000);
    assert_int_equal(stored_tokens(&redis, "test:third:{s=alice}", 0), 994);
}

/* Two gateways, of which each leases and takes what it likes, uses leases at once, at the last moment or in between, on Redis' own clock. */
static void every_interval_admits_burst_and_rate_at_most(void **state) {
    enum { RATE = 5000, BURST_SIZE = 1500, ASKED = 3000 };
    struct judge judge = {0};
    uint64_t seed = 11;
    scene_limit(&one.scene, 0, "first", RATE, SP_MICRO, BURST_SIZE);
    two.scene.limit[0] = one.scene.limit[0];
    peer_connect(&one);
    peer_connect(&two);
    size_t leases = 0;
    for (int i = 0; i < ASKED; i++) {
        uint64_t cost = dice_below(&seed, 20) ? dice_below(&seed, 3) : dice_below(&seed, BURST_SIZE), wish = dice_below(&seed, 3) * 250;
        struct question question = ask_first(dice_below(&seed, 2) ? &one : &two, cost, wish);
        uint64_t at_us = question.ask.part[0].taken_us;
        if (question_admitted(&question) && cost)
            judge_note(&judge, at_us, cost);
        if (leased_of(&question) > 0) {
            static const uint64_t when[] = {0, LEASE_US, LEASE_US, LEASE_US / 2};
            judge_note(&judge, at_us + when[dice_below(&seed, SP_COUNT(when))], leased_of(&question));
            leases++;
        }
        if (dice_below(&seed, 300) == 0)
            poll(NULL, 0, (int)dice_below(&seed, SP_LEASE_MS)); /* demand pauses: the bucket fills */
    }
    assert_true(leases > 30);
    judge_sort(&judge);
    assert_int_equal(judge_violations(&judge, one.scene.limit[0].requests, BURST_SIZE), 0);
    judge_free(&judge);
}

/* ---- Reload ---- */

static void a_reload_with_leases_outstanding_makes_no_level_jump(void **state) {
    scene_limit(&one.scene, 0, "first", 1, HOUR_US, 1000);
    one.scene.config.loaded_wall_ms = sp_wall_ms() - 1000;
    peer_connect(&one);
    assert_int_equal(ask_first(&one, 0, 600).ask.part[0].answer.bucket.remaining, 399); /* what accrues in a lease time was kept back */
    scene_limit(&one.scene, 0, "first", 1, HOUR_US, 2000);
    one.scene.config.loaded_wall_ms++;
    peer_configure(&one);
    struct question question = ask_first(&one, 0, 100);
    assert_int_equal(question.ask.part[0].answer.burst, 2000);
    assert_int_equal(question.ask.part[0].answer.bucket.remaining, 299);
    scene_limit(&one.scene, 0, "first", 1, HOUR_US, 200);
    one.scene.config.loaded_wall_ms++;
    peer_configure(&one);
    question = ask_first(&one, 1, 0);
    assert_int_equal(question.ask.part[0].answer.bucket.remaining, 199);
}

/* ---- Deadlines ---- */

static void an_ask_is_told_at_its_own_due_time(void **state) {
    struct question patient = {0}, hasty = {0};
    peer_connect(&one);
    kill(redis.pid, SIGSTOP);
    question_add(&patient, &one, 0, SP_LIMIT_REQUESTS, 1, 0);
    question_add(&hasty, &one, 0, SP_LIMIT_REQUESTS, 1, 0);
    patient.ask.due_us = sp_clock_us() + 60 * SP_MICRO;
    hasty.ask.due_us = sp_clock_us() + 20 * 1000;
    assert_int_equal(question_send(&patient, &one, "alice"), 0);
    assert_int_equal(question_send(&hasty, &one, "alice"), 0);
    UNTIL(&one, hasty.told);
    assert_false(hasty.in_time);
    assert_int_equal(patient.told, 0);
    assert_int_equal(peer_state(&one).timeouts, 1);
    kill(redis.pid, SIGCONT);
    UNTIL(&one, patient.told && peer_state(&one).commands == 3);
    assert_true(patient.in_time);
    UNTIL(&one, sp_redis_store_settled(one.store));
    /* The hasty one's token is back, but for what accrued since. */
    assert_in_range(strtoull(redis_says(&redis, "GET test:first:{s=alice}"), NULL, 10), 998900000, 999000000);
}

static void nothing_is_asked_of_a_redis_that_is_not_there(void **state) {
    struct question question = {0};
    question_add(&question, &one, 0, SP_LIMIT_REQUESTS, 1, 0);
    assert_true(question_send(&question, &one, "alice") < 0); /* not configured */
    one.scene.config.redis = NULL;
    peer_configure(&one);
    assert_true(question_send(&question, &one, "alice") < 0);
    settle_tokens(&one, 0, "alice", -5);
    assert_int_equal(question.told, 0);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_lease_is_what_is_there_after_all_costs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_refused_leases_nothing_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_look_leases_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_burst_of_less_than_two_lease_times_is_not_leased, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lease_keeps_back_what_accrues_while_it_lives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_whole_burst_is_there_for_who_does_not_lease, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_shadow_limit_is_leased_like_any_other_and_refuses_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_and_tokens_of_all_limits_are_one_command, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_interval_admits_burst_and_rate_at_most, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reload_with_leases_outstanding_makes_no_level_jump, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_ask_is_told_at_its_own_due_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_asked_of_a_redis_that_is_not_there, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
