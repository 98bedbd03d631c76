/* Decisions by a real Redis that is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>

#include "judge.h"
#include "redis_server.h"
#include "redis_store.h"

#define DEADLINE_MS 5000 /* not what these tests are about */
#define HOUR_US     (UINT64_C(3600) * SP_MICRO)

static struct redis_server redis;
static struct gateway one, two;

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
    gateway_open(&one, redis.port, DEADLINE_MS);
    gateway_open(&two, redis.port, DEADLINE_MS);
    return 0;
}
static int tear_down(void **state) {
    gateway_close(&one);
    gateway_close(&two);
    return 0;
}

static void each_decision_is_one_command_and_strict(void **state) {
    scene_limit(&one.scene, 0, "per-caller", 1, HOUR_US, 5);
    gateway_connect(&one);
    for (uint64_t left = 5; left-- > 0;) {
        struct sp_limit_decision decision = gateway_decides(&one, "alice", "0");
        assert_true(decision.admitted);
        assert_false(decision.degraded);
        assert_int_equal(decision.shown[0].burst, 5);
        assert_int_equal(decision.shown[0].remaining, left);
    }
    struct sp_limit_decision decision = gateway_decides(&one, "alice", "0");
    assert_false(decision.admitted);
    assert_ptr_equal(decision.refused_by, &one.scene.limit[0]);
    assert_in_range(decision.retry_after_ms, 3590 * 1000, 3600 * 1000);
    assert_true(gateway_decides(&one, "bob", "0").admitted);
    assert_int_equal(gateway_state(&one).commands, 7);
    assert_string_equal(gateway_state(&one).problem, "");
}

static void keys_are_named_as_documented_and_outlive_the_time_to_full(void **state) {
    scene_limit(&one.scene, 0, "per-caller", 1, SP_MICRO, 100);
    gateway_connect(&one);
    for (int i = 0; i < 10; i++)
        assert_true(gateway_decides(&one, "alice", "0").admitted);
    uint64_t ttl_ms = strtoull(redis_says(&redis, "PTTL test:per-caller:{s=alice}"), NULL, 10);
    assert_in_range(ttl_ms, 9 * 1000, 11 * 1000);
    assert_string_equal(redis_says(&redis, "DBSIZE"), "1");
}

static void what_one_turn_asks_leaves_in_one_write(void **state) {
    enum { ASKED = 50 };
    struct asked asked[ASKED];
    gateway_connect(&one);
    assert_true(gateway_decides(&one, "alice", "0").admitted);
    uint64_t reads = redis_counts(&redis, "total_reads_processed");
    for (size_t i = 0; i < ASKED; i++) {
        ask_for(&asked[i], &one.scene, "alice", "0");
        assert_int_equal(sp_limiter_admit(one.limiter, &asked[i].request), SP_LIMIT_PENDING);
    }
    UNTIL(&one, asked[ASKED - 1].told);
    for (size_t i = 0; i < ASKED; i++)
        assert_int_equal(asked[i].told, 1);
    assert_int_equal(redis_counts(&redis, "total_reads_processed") - reads, 1 + 1); /* and INFO's own */
}

static void several_limits_are_taken_together_or_not_at_all(void **state) {
    scene_limit(&one.scene, 1, "second", 1, HOUR_US, 2);
    one.scene.limit[2].shadow = true;
    one.scene.limit[2].request_burst = 1;
    gateway_connect(&one);
    struct sp_limit_decision decision = gateway_decides(&one, "alice", "012");
    assert_true(decision.admitted);
    assert_null(decision.shadow_refused);
    decision = gateway_decides(&one, "alice", "012");
    assert_true(decision.admitted);
    assert_ptr_equal(decision.shadow_refused, &one.scene.limit[2]);
    for (int i = 0; i < 3; i++) {
        decision = gateway_decides(&one, "alice", "012");
        assert_false(decision.admitted);
        assert_ptr_equal(decision.refused_by, &one.scene.limit[1]);
    }
    assert_int_equal(gateway_decides(&one, "alice", "0").shown[0].remaining, 997);
}

static void a_look_answers_as_a_take_would_and_takes_nothing(void **state) {
    struct asked asked;
    scene_limit(&one.scene, 0, "per-caller", 1, HOUR_US, 1);
    gateway_connect(&one);
    for (int i = 0; i < 4; i++) {
        ask_for(&asked, &one.scene, "alice", "01");
        asked.request.peek = true;
        assert_int_equal(sp_limiter_admit(one.limiter, &asked.request), SP_LIMIT_PENDING);
        UNTIL(&one, asked.told);
        assert_int_equal(asked.request.decision.admitted, i < 3);
        assert_false(asked.request.decision.degraded);
        assert_string_equal(redis_says(&redis, "DBSIZE"), i < 3 ? "0" : "1");
        if (i == 2)
            assert_true(gateway_decides(&one, "alice", "0").admitted);
    }
}

static void two_gateways_admit_together_what_one_would(void **state) {
    enum { ASKED = 40 };
    scene_limit(&one.scene, 0, "per-caller", 1, HOUR_US, 25);
    two.scene.limit[0] = one.scene.limit[0];
    gateway_connect(&one);
    gateway_connect(&two);
    struct asked asked[2][ASKED];
    for (size_t i = 0; i < ASKED; i++) {
        ask_for(&asked[0][i], &one.scene, "alice", "0");
        ask_for(&asked[1][i], &two.scene, "alice", "0");
        assert_int_equal(sp_limiter_admit(one.limiter, &asked[0][i].request), SP_LIMIT_PENDING);
        assert_int_equal(sp_limiter_admit(two.limiter, &asked[1][i].request), SP_LIMIT_PENDING);
    }
    UNTIL(&one, asked[0][ASKED - 1].told);
    UNTIL(&two, asked[1][ASKED - 1].told);
    int admitted = 0;
    for (size_t i = 0; i < ASKED; i++)
        admitted += asked[0][i].request.decision.admitted + asked[1][i].request.decision.admitted;
    assert_int_equal(admitted, 25);
}

/* Every value the script stores is the one the pure bucket comes to at the instant the script stored. */
static void the_script_computes_exactly_what_the_pure_bucket_computes(void **state) {
    uint64_t seed = 21;
    size_t changes = 0;
    gateway_connect(&one);
    for (int round = 0; round < 40; round++) {
        scene_limit(&one.scene, 0, "exact", 1 + dice_below(&seed, 500000), (uint64_t[]){SP_MICRO, 60 * SP_MICRO, 1234567}[round % 3],
                    1 + dice_below(&seed, 30));
        (void)redis_says(&redis, "DEL test:exact:{s=alice}");
        gateway_configure(&one);
        const struct sp_limit_config *limit = &one.scene.limit[0];
        struct sp_redis_ratio ratio = sp_redis_ratio_of(&limit->requests);
        struct sp_bucket_policy policy = {.rate = {ratio.num, ratio.den * SP_MICRO}, .burst = limit->request_burst};
        struct sp_bucket pure = {0};
        for (int i = 0; i < 20; i++) {
            struct sp_bucket_answer answer = {0};
            struct sp_limit_decision decision = gateway_decides(&one, "alice", "0");
            int64_t level;
            uint64_t time, remainder;
            assert_int_equal(
                sscanf(redis_says(&redis, "GET test:exact:{s=alice}"), "%" SCNd64 " %" SCNu64 " %" SCNu64, &level, &time, &remainder), 3);
            if (i == 0)
                sp_bucket_fill(&policy, time, &pure);
            if (!decision.admitted) {
                assert_int_equal(time, pure.time_us); /* a refusal stores nothing */
                continue;
            }
            answer = sp_bucket_take(&policy, time, 1, &pure);
            assert_true(answer.admitted);
            assert_int_equal(pure.level_micro, level);
            assert_int_equal(pure.remainder, remainder * SP_MICRO);
            assert_int_equal(decision.shown[0].remaining, answer.remaining);
            assert_int_equal(decision.shown[0].reset_ms, (answer.reset_us + 999) / 1000);
            changes++;
        }
    }
    assert_true(changes > 200);
}

static void a_client_that_obeys_retry_after_succeeds_at_its_next_try(void **state) {
    scene_limit(&one.scene, 0, "per-caller", 200, SP_MICRO, 1);
    gateway_connect(&one);
    int refused = 0;
    for (int i = 0; i < 20; i++) {
        struct sp_limit_decision decision = gateway_decides(&one, "alice", "0");
        if (decision.admitted)
            continue;
        refused++;
        uint64_t until = sp_clock_us() + decision.retry_after_ms * 1000;
        while (sp_clock_us() < until)
            ;
        assert_true(gateway_decides(&one, "alice", "0").admitted);
    }
    assert_true(refused > 3);
}

/* ---- The script is lost, the value is not ours, the clock steps ---- */

static void a_flushed_script_is_loaded_again_without_anybody_noticing(void **state) {
    gateway_connect(&one);
    assert_true(gateway_decides(&one, "alice", "0").admitted);
    (void)redis_says(&redis, "SCRIPT FLUSH");
    struct asked asked[3];
    for (size_t i = 0; i < 3; i++) {
        ask_for(&asked[i], &one.scene, "alice", "0");
        assert_int_equal(sp_limiter_admit(one.limiter, &asked[i].request), SP_LIMIT_PENDING);
    }
    UNTIL(&one, asked[0].told && asked[1].told && asked[2].told);
    for (size_t i = 0; i < 3; i++) {
        assert_true(asked[i].request.decision.admitted);
        assert_false(asked[i].request.decision.degraded);
    }
    assert_int_equal(gateway_decides(&one, "alice", "0").shown[0].remaining, 995);
    assert_int_equal(gateway_state(&one).errors, 0);
}

/* Puts the bucket's time `by_us` from now and its level to `tokens`, as if the clock had stepped since. */
static void shift(int64_t by_us, int tokens) {
    char value[128];
    (void)snprintf(value, sizeof value, "%d000000 %" PRId64 " 0 1 1 10 5", tokens, (int64_t)sp_wall_ms() * 1000 + by_us);
    redisReply *reply = redisCommand(redis.side, "SET test:first:{s=alice} %s", value);
    assert_non_null(reply);
    freeReplyObject(reply);
}

static void a_clock_that_went_back_gives_nothing_and_says_how_long(void **state) {
    scene_limit(&one.scene, 0, "first", 1, SP_MICRO, 10);
    gateway_connect(&one);
    shift((int64_t)HOUR_US, 1);
    assert_true(gateway_decides(&one, "alice", "0").admitted);
    struct sp_limit_decision decision = gateway_decides(&one, "alice", "0");
    assert_false(decision.admitted);
    assert_in_range(decision.retry_after_ms, 3600 * 1000 - 5000, 3600 * 1000 + 5000);
    shift(-(int64_t)HOUR_US, 1);
    assert_int_equal(gateway_decides(&one, "alice", "0").shown[0].remaining, 9); /* full, not more */
}

static void a_clock_that_was_days_ahead_does_not_stop_a_bucket_for_days(void **state) {
    scene_limit(&one.scene, 0, "first", 1, SP_MICRO, 10);
    gateway_connect(&one);
    shift((int64_t)HOUR_US * 24 * 365, 0);
    struct sp_limit_decision decision = gateway_decides(&one, "alice", "0");
    assert_false(decision.admitted); /* no gift */
    shift((int64_t)HOUR_US * 24 * 365, 1);
    assert_true(gateway_decides(&one, "alice", "0").admitted);
    assert_in_range(gateway_decides(&one, "alice", "0").retry_after_ms, 1, 1000);
}

static void a_value_that_is_not_ours_is_as_good_as_none(void **state) {
    scene_limit(&one.scene, 0, "first", 1, HOUR_US, 10);
    gateway_connect(&one);
    (void)redis_says(&redis, "SET test:first:{s=alice} nonsense");
    assert_int_equal(gateway_decides(&one, "alice", "0").shown[0].remaining, 9);
    (void)redis_says(&redis, "DEL test:first:{s=alice}");
    (void)redis_says(&redis, "LPUSH test:first:{s=alice} nonsense");
    assert_int_equal(gateway_decides(&one, "alice", "0").shown[0].remaining, 9);
    assert_int_equal(gateway_decides(&one, "alice", "0").shown[0].remaining, 8);
}

/* ---- Reload ---- */

static void gateways_on_different_generations_agree_on_the_newer_policy(void **state) {
    scene_limit(&one.scene, 0, "per-caller", 1, HOUR_US, 10);
    scene_limit(&two.scene, 0, "per-caller", 1, HOUR_US, 20);
    one.scene.config.loaded_wall_ms = sp_wall_ms() - 2000;
    two.scene.config.loaded_wall_ms = sp_wall_ms() - 1000;
    gateway_connect(&one);
    gateway_connect(&two);
    assert_int_equal(gateway_decides(&one, "alice", "0").shown[0].burst, 10);
    struct sp_limit_decision decision = gateway_decides(&two, "alice", "0");
    assert_int_equal(decision.shown[0].burst, 20);
    assert_int_equal(decision.shown[0].remaining, 8); /* growth gives no gift */
    decision = gateway_decides(&one, "alice", "0");
    assert_int_equal(decision.shown[0].burst, 20);
    assert_int_equal(decision.shown[0].remaining, 7);
    /* The first reloads with less: shrinking takes what no longer fits, for both. */
    one.scene.limit[0].request_burst = 3;
    one.scene.config.loaded_wall_ms = sp_wall_ms() - 500;
    gateway_configure(&one);
    assert_int_equal(gateway_decides(&one, "alice", "0").shown[0].remaining, 2);
    decision = gateway_decides(&two, "alice", "0");
    assert_int_equal(decision.shown[0].burst, 3);
    assert_int_equal(decision.shown[0].remaining, 1);
}

static void a_gateway_whose_clock_is_ahead_does_not_rule_for_ever(void **state) {
    scene_limit(&one.scene, 0, "per-caller", 1, HOUR_US, 10);
    scene_limit(&two.scene, 0, "per-caller", 1, HOUR_US, 5);
    one.scene.config.loaded_wall_ms = sp_wall_ms() + 3600 * 1000;
    gateway_connect(&one);
    assert_int_equal(gateway_decides(&one, "alice", "0").shown[0].burst, 10);
    uint64_t then = sp_wall_ms();
    while (sp_wall_ms() <= then + 1)
        ;
    two.scene.config.loaded_wall_ms = sp_wall_ms();
    gateway_connect(&two);
    assert_int_equal(gateway_decides(&two, "alice", "0").shown[0].burst, 5);
}

static void a_refused_client_accrues_at_the_new_rate_from_the_reload_on(void **state) {
    scene_limit(&one.scene, 0, "per-caller", 1, HOUR_US, 1);
    one.scene.config.loaded_wall_ms = 1;
    gateway_connect(&one);
    assert_true(gateway_decides(&one, "alice", "0").admitted);
    scene_limit(&one.scene, 0, "per-caller", 500, SP_MICRO, 1);
    one.scene.config.loaded_wall_ms = 2;
    gateway_configure(&one);
    struct sp_limit_decision decision = gateway_decides(&one, "alice", "0");
    assert_false(decision.admitted);
    uint64_t until = sp_clock_us() + decision.retry_after_ms * 1000;
    while (sp_clock_us() < until)
        ;
    assert_true(gateway_decides(&one, "alice", "0").admitted);
}

static void a_request_that_began_before_the_reload_does_not_bring_the_old_policy_back(void **state) {
    scene_limit(&one.scene, 0, "per-caller", 1, HOUR_US, 10);
    gateway_connect(&one);
    struct scene_config older = one.scene;
    one.scene.limit[0].request_burst = 20;
    one.scene.config.loaded_wall_ms = sp_wall_ms() - 1;
    gateway_configure(&one);
    assert_int_equal(gateway_decides(&one, "alice", "0").shown[0].burst, 20);
    struct asked asked;
    ask_for(&asked, &older, "alice", "0");
    assert_int_equal(sp_limiter_admit(one.limiter, &asked.request), SP_LIMIT_PENDING);
    UNTIL(&one, asked.told);
    assert_int_equal(asked.request.decision.shown[0].burst, 20);
    assert_int_equal(asked.request.decision.shown[0].remaining, 18);
}

static void a_reload_that_changes_nothing_about_redis_keeps_the_connection(void **state) {
    gateway_connect(&one);
    uint64_t connections = redis_counts(&redis, "total_connections_received");
    struct asked asked;
    ask_for(&asked, &one.scene, "alice", "0");
    assert_int_equal(sp_limiter_admit(one.limiter, &asked.request), SP_LIMIT_PENDING);
    for (int i = 0; i < 5; i++)
        gateway_configure(&one);
    UNTIL(&one, asked.told);
    assert_false(asked.request.decision.degraded);
    assert_int_equal(redis_counts(&redis, "total_connections_received"), connections);
    one.scene.redis.database = 3;
    gateway_connect(&one);
    assert_true(gateway_decides(&one, "alice", "0").admitted);
    assert_int_equal(redis_counts(&redis, "total_connections_received"), connections + 1);
    assert_non_null(strstr(redis_says(&redis, "INFO keyspace"), "db3:keys=1"));
}

static void without_redis_in_the_configuration_decisions_are_made_here(void **state) {
    gateway_connect(&one);
    one.scene.config.redis = NULL;
    gateway_configure(&one);
    struct asked asked;
    ask_for(&asked, &one.scene, "alice", "0");
    assert_int_equal(sp_limiter_admit(one.limiter, &asked.request), SP_LIMIT_DECIDED);
    assert_false(asked.request.decision.degraded);
    assert_false(gateway_state(&one).shared);
}

/* ---- Who we are, and what Redis may do ---- */

static void a_user_of_our_own_needs_only_the_documented_permissions(void **state) {
    (void)redis_says(&redis,
                     "ACL SETUSER sallyport on >s3cret resetkeys ~test:* -@all +evalsha +script|load +ping +select +get +set +time");
    one.scene.redis.username = "sallyport";
    one.scene.redis.password = "s3cret";
    gateway_connect(&one);
    struct sp_limit_decision decision = gateway_decides(&one, "alice", "0");
    assert_true(decision.admitted);
    assert_false(decision.degraded);
    UNTIL(&one, strstr(gateway_state(&one).problem, "does not let us see its maxmemory-policy"));
    (void)redis_says(&redis, "ACL SETUSER sallyport +info");
    (void)redis_says(&redis, "CLIENT KILL TYPE normal SKIPME yes");
    UNTIL(&one, !gateway_state(&one).up);
    UNTIL(&one, gateway_state(&one).up && gateway_state(&one).problem[0] == 0);
}

static void a_unix_socket_will_do(void **state) {
    one.scene.redis.host = NULL;
    one.scene.redis.port = 0;
    one.scene.redis.unix_path = redis.unix_path;
    gateway_connect(&one);
    assert_false(gateway_decides(&one, "alice", "0").degraded);
}

static void a_wrong_password_is_said_without_the_password(void **state) {
    (void)redis_says(&redis, "ACL SETUSER guarded on >right ~* +@all");
    one.scene.redis.username = "guarded";
    one.scene.redis.password = "hunter2";
    gateway_configure(&one);
    UNTIL(&one, gateway_state(&one).problem[0]);
    assert_non_null(strstr(gateway_state(&one).problem, "user or password"));
    assert_null(strstr(gateway_state(&one).problem, "hunter2"));
    assert_true(gateway_decides(&one, "alice", "0").degraded);
    one.scene.redis.password = "right";
    gateway_connect(&one);
    assert_false(gateway_decides(&one, "alice", "0").degraded);
}

static void a_redis_that_may_evict_is_said_so_unless_acknowledged(void **state) {
    (void)redis_says(&redis, "CONFIG SET maxmemory-policy allkeys-lru");
    gateway_connect(&one);
    UNTIL(&one, strstr(gateway_state(&one).problem, "noeviction; it is: allkeys-lru"));
    one.scene.redis.allow_eviction = true;
    gateway_configure(&one);
    assert_string_equal(gateway_state(&one).problem, "");
    (void)redis_says(&redis, "CONFIG SET maxmemory-policy noeviction");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_decision_is_one_command_and_strict, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_are_named_as_documented_and_outlive_the_time_to_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_one_turn_asks_leaves_in_one_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_limits_are_taken_together_or_not_at_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_look_answers_as_a_take_would_and_takes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_gateways_admit_together_what_one_would, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_script_computes_exactly_what_the_pure_bucket_computes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_obeys_retry_after_succeeds_at_its_next_try, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flushed_script_is_loaded_again_without_anybody_noticing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_clock_that_went_back_gives_nothing_and_says_how_long, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_clock_that_was_days_ahead_does_not_stop_a_bucket_for_days, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_value_that_is_not_ours_is_as_good_as_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gateways_on_different_generations_agree_on_the_newer_policy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_gateway_whose_clock_is_ahead_does_not_rule_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refused_client_accrues_at_the_new_rate_from_the_reload_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_that_began_before_the_reload_does_not_bring_the_old_policy_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reload_that_changes_nothing_about_redis_keeps_the_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_redis_in_the_configuration_decisions_are_made_here, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_user_of_our_own_needs_only_the_documented_permissions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_unix_socket_will_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_password_is_said_without_the_password, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_redis_that_may_evict_is_said_so_unless_acknowledged, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
