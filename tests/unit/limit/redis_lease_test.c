/* Leased decisions with a real Redis: what is admitted, what is used, and what it costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "judge.h"
#include "limiter.h"
#include "redis_server.h"

#define DEADLINE_MS 5000 /* not what these tests are about */
#define GATEWAYS    3

static struct redis_server redis;
static struct gateway gateways[GATEWAYS];

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
    for (size_t i = 0; i < GATEWAYS; i++)
        gateway_open(&gateways[i], redis.port, DEADLINE_MS);
    return 0;
}
static int tear_down(void **state) {
    for (size_t i = 0; i < GATEWAYS; i++)
        gateway_close(&gateways[i]);
    return 0;
}

static void lease_all(uint64_t amount, uint64_t burst) {
    for (size_t i = 0; i < GATEWAYS; i++) {
        scene_limit(&gateways[i].scene, 0, "first", amount, SP_MICRO, burst);
        gateways[i].scene.limit[0].mode = SP_LIMIT_LEASED;
        gateway_connect(&gateways[i]);
    }
}

/* ---- Every interval ---- */

/* Who is asked, and when that was: an admission happened somewhere between. */
struct caller {
    struct asked asked;
    uint64_t begun_us;
    bool under_way;
};
struct tally {
    struct judge judge;
    uint64_t admitted, decided, longest_us;
};

static void note(struct caller *caller, struct tally *tally) {
    uint64_t now = sp_clock_us();
    caller->under_way = false;
    tally->decided++;
    assert_false(caller->asked.request.decision.degraded);
    if (!caller->asked.request.decision.admitted)
        return;
    tally->admitted++;
    tally->longest_us = sp_max(tally->longest_us, now - caller->begun_us);
    judge_note(&tally->judge, now, 1);
}

static void call(struct gateway *gateway, struct caller *caller, struct tally *tally) {
    if (!caller->under_way) {
        ask_for(&caller->asked, &gateway->scene, "alice", "0");
        caller->begun_us = sp_clock_us();
        caller->under_way = sp_limiter_admit(gateway->limiter, &caller->asked.request) == SP_LIMIT_PENDING;
        if (!caller->under_way)
            note(caller, tally);
    } else if (caller->asked.told) {
        note(caller, tally);
    }
}

/* Steady demand of all gateways, beyond what is allowed, with pauses in which the bucket fills and leases die. Admissions are noted when they
 * are known: at most as long after they were made as the longest decision took, which is the judge's only slack. */
static void several_gateways_stay_within_burst_and_rate_in_every_interval_and_use_it(void **state) {
    enum { RATE = 2000, BURST = 600, SPAN_MS = 3000 };
    struct caller callers[GATEWAYS][2] = {0};
    struct tally tally = {0};
    uint64_t seed = 5;
    lease_all(RATE, BURST);
    uint64_t begin = sp_clock_us(), until = begin + SPAN_MS * 1000, pause = begin + SPAN_MS * 500;
    bool paused = false;
    while (sp_clock_us() < until) {
        size_t i = dice_below(&seed, GATEWAYS);
        call(&gateways[i], &callers[i][dice_below(&seed, 2)], &tally);
        (void)sp_loop_turn(gateways[i].loop, 0);
        if (!paused && sp_clock_us() > pause) {
            poll(NULL, 0, 150);
            paused = true;
        }
    }
    uint64_t span = sp_clock_us() - begin;
    for (size_t i = 0; i < GATEWAYS; i++)
        for (size_t n = 0; n < 2; n++)
            if (callers[i][n].under_way)
                sp_limiter_finish(gateways[i].limiter, &callers[i][n].asked.request, 0);
    uint64_t commands = 0;
    for (size_t i = 0; i < GATEWAYS; i++)
        commands += gateway_state(&gateways[i]).commands;
    print_message("%lu decisions, %lu admitted of %lu, %lu commands, longest decision %lu us\n", tally.decided, tally.admitted,
                  BURST + RATE * span / SP_MICRO, commands, tally.longest_us);
    judge_sort(&tally.judge);
    assert_int_equal(
        judge_violations(&tally.judge, gateways[0].scene.limit[0].requests, BURST + RATE * tally.longest_us / SP_MICRO + 1), 0);
    assert_true(tally.admitted * 100 >= (BURST + RATE * (span - 150000) / SP_MICRO) * 85);
    judge_free(&tally.judge);
}

/* ---- What it costs ---- */

static void a_busy_caller_costs_at_most_one_command_for_fifty_requests(void **state) {
    enum { REQUESTS = 2000, EACH_US = 1000 };
    struct caller caller = {0};
    struct tally tally = {0};
    lease_all(5000, 2000);
    uint64_t begin = sp_clock_us(), last = begin;
    for (uint64_t n = 0; n < REQUESTS; n++, last = sp_clock_us()) {
        uint64_t decided = tally.decided;
        while (sp_clock_us() < last + EACH_US)
            (void)sp_loop_turn(gateways[0].loop, 0);
        while (tally.decided == decided) {
            call(&gateways[0], &caller, &tally);
            (void)sp_loop_turn(gateways[0].loop, 0);
        }
    }
    uint64_t commands = gateway_state(&gateways[0]).commands;
    print_message("%d requests, %lu commands\n", REQUESTS, commands);
    assert_int_equal(tally.admitted, REQUESTS);
    uint64_t took_ms = (sp_clock_us() - begin) / 1000; /* a machine that was slow has had more lease times to pay for */
    assert_in_range(commands, 1, sp_max(REQUESTS, took_ms) / 50);
    judge_free(&tally.judge);
}

static void a_rare_caller_is_decided_strictly(void **state) {
    lease_all(1000, 1000);
    for (unsigned i = 1; i <= 3; i++) {
        assert_true(gateway_decides(&gateways[0], "alice", "0").admitted);
        assert_int_equal(gateway_state(&gateways[0]).commands, i);
        poll(NULL, 0, 2 * SP_LEASE_MS);
    }
}

/* ---- Refusals ---- */

static void a_client_that_obeys_retry_after_succeeds_at_its_next_try_and_others_are_refused_here(void **state) {
    lease_all(100, 50);
    int refused = 0;
    for (int i = 0; i < 400 && refused < 5; i++) {
        struct sp_limit_decision decision = gateway_decides(&gateways[0], "alice", "0");
        if (decision.admitted)
            continue;
        refused++;
        uint64_t commands = gateway_state(&gateways[0]).commands, until = sp_clock_us() + decision.retry_after_ms * 1000;
        uint64_t again = sp_clock_us();
        if (!gateway_decides(&gateways[0], "alice", "0").admitted && sp_clock_us() - again < 1000)
            assert_int_equal(gateway_state(&gateways[0]).commands, commands); /* Redis was not asked what it has said already */
        while (sp_clock_us() < until)
            (void)sp_loop_turn(gateways[0].loop, 1);
        assert_true(gateway_decides(&gateways[0], "alice", "0").admitted);
    }
    assert_int_equal(refused, 5);
}

/* ---- Reload ---- */

static uint64_t leased_to_alice(const struct gateway *gateway) {
    struct sp_limit_facts alice = {.subject = SP_SPAN("alice")};
    struct sp_limit_levels levels;
    sp_limiter_levels(gateway->limiter, gateway->limiter->config->limits, &alice, &levels);
    return levels.bucket[SP_LIMIT_REQUESTS].leased;
}

/* A snapshot of its own, with 10/s in place of what was there. */
static void reload_with_little(struct gateway *gateway, struct scene_config *later) {
    scene_config(later, gateway->scene.config.generation + 1);
    scene_redis(later, redis.port, DEADLINE_MS);
    scene_limit(later, 0, "first", 10, SP_MICRO, 10);
    later->limit[0].mode = SP_LIMIT_LEASED;
    assert_int_equal(sp_limiter_configure(gateway->limiter, &later->config, NULL), 0);
}

static void what_was_asked_for_ahead_before_a_reload_is_not_given_out_after_it(void **state) {
    static struct scene_config later;
    struct gateway *gateway = &gateways[0];
    const struct sp_list *refilling = &gateway->limiter->refilling;
    uint64_t until = sp_clock_us() + PATIENCE_MS * 1000;
    lease_all(10000, 10000);
    while (sp_list_empty(refilling)) {
        assert_true(sp_clock_us() < until);
        (void)gateway_decides(gateway, "alice", "0");
    }
    (void)sp_loop_turn(gateway->loop, 0); /* at whose end it leaves */
    assert_false(sp_list_empty(refilling));
    reload_with_little(gateway, &later);
    UNTIL(gateway, sp_list_empty(refilling));
    assert_int_equal(leased_to_alice(gateway), 0);
}

static void what_was_asked_for_along_with_a_request_before_a_reload_is_not_given_out_after_it(void **state) {
    enum { ASKED_MAX = 100 };
    static struct scene_config later;
    static struct asked asked[ASKED_MAX];
    struct gateway *gateway = &gateways[0];
    uint64_t wish = 0;
    size_t n = 0;
    lease_all(10000, 10000);
    while (wish == 0 && n < ASKED_MAX) {
        ask_for(&asked[n], &gateway->scene, "alice", "0");
        asked[n].request.cost = 100;
        assert_int_equal(sp_limiter_admit(gateway->limiter, &asked[n].request), SP_LIMIT_PENDING);
        wish = ((const struct sp_deciding *)asked[n++].request.pending)->ask.part[0].lease;
    }
    assert_true(wish > 0);
    (void)sp_loop_turn(gateway->loop, 0);
    assert_int_equal(asked[n - 1].told, 0);
    reload_with_little(gateway, &later);
    UNTIL(gateway, asked[n - 1].told);
    assert_true(asked[n - 1].request.decision.admitted); /* as it was asked for */
    assert_int_equal(leased_to_alice(gateway), 0);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(several_gateways_stay_within_burst_and_rate_in_every_interval_and_use_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_busy_caller_costs_at_most_one_command_for_fifty_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rare_caller_is_decided_strictly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_asked_for_ahead_before_a_reload_is_not_given_out_after_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_asked_for_along_with_a_request_before_a_reload_is_not_given_out_after_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_obeys_retry_after_succeeds_at_its_next_try_and_others_are_refused_here, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
