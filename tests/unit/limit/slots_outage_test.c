/* Places while a real Redis is stopped, gone, or back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "places.h"

static void who_cannot_be_answered_in_time_is_told_so_and_what_comes_late_goes_back(void **state) {
    struct place place;
    kill(redis.pid, SIGSTOP);
    assert_int_equal(begin(&one, 0, "alice", 20, &place), SP_PLACE_PENDING);
    UNTIL_BOTH(place.answers);
    kill(redis.pid, SIGCONT);
    assert_false(place.told);
    UNTIL_BOTH(commands() > 0);
    UNTIL_BOTH(is_gone());
    UNTIL_BOTH(take(&one, 0, "alice") == SP_PLACE_TAKEN);
}

static void restart_redis(void) {
    redisFree(redis.side);
    kill(redis.pid, SIGKILL);
    waitpid(redis.pid, NULL, 0);
}

static void what_runs_is_told_to_a_redis_that_comes_back_empty(void **state) {
    for (int i = 0; i < 4; i++)
        assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    restart_redis();
    UNTIL_BOTH(!connected(&one) && !connected(&two));
    struct place share;
    assert_int_equal(begin(&one, 0, "bob", DEADLINE_MS, &share), SP_PLACE_AWAY);
    assert_int_equal(sp_slots_take(one.slots, &share.ask, true, 2), SP_PLACE_TAKEN);
    redis_spawn(&redis);
    UNTIL_BOTH(told(&one) == 4);
    UNTIL_BOTH(strstr(redis_says(&redis, "GET test:first:{s=bob}:c"), ":1:"));
    UNTIL_BOTH(connected(&two));
    assert_int_equal(take(&two, 0, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take(&two, 0, "alice"), SP_PLACE_REFUSED);
}

static void places_that_are_had_are_used_while_redis_is_away(void **state) {
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    give(&one, 0, "alice");
    restart_redis();
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    UNTIL_BOTH(!connected(&one));
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_AWAY);
    give(&one, 0, "alice");
    UNTIL_BOTH(had(&one, 0, "alice") == 0); /* but not kept for longer than they linger */
    redis_spawn(&redis);
}

/* ---- Giving up ---- */

static bool usable(const struct worker *worker) { return sp_redis_route_usable(worker->route, 0); }

/* All of them wait for the reply to one and the same command. */
static void a_redis_that_hangs_is_given_up_though_one_name_is_all_that_is_asked_about(void **state) {
    struct place place;
    kill(redis.pid, SIGSTOP);
    for (int i = 0; i < 6; i++)
        if (begin(&one, 0, "alice", 20, &place) == SP_PLACE_PENDING)
            UNTIL(&one, place.answers);
    assert_false(usable(&one));
    assert_int_equal(begin(&one, 0, "alice", 20, &place), SP_PLACE_AWAY);
    kill(redis.pid, SIGCONT);
    UNTIL_BOTH(take(&one, 0, "alice") == SP_PLACE_TAKEN);
}

static void a_redis_that_hangs_is_given_up_though_nobody_waits(void **state) {
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    UNTIL(&one, at_rest(&one));
    kill(redis.pid, SIGSTOP);
    note_of(&one, 0, "alice")->until_us = sp_clock_us() + SP_PLACES_TTL_MS * 1000 / 2; /* it is to be told again */
    UNTIL(&one, !usable(&one));
    kill(redis.pid, SIGCONT);
    UNTIL(&one, connected(&one) && told(&one) == 1);
}

/* ---- What is left to look after ---- */

static void what_redis_has_forgotten_by_itself_is_not_looked_after_while_it_is_away(void **state) {
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    give(&one, 0, "alice");
    restart_redis();
    UNTIL_BOTH(!connected(&one));
    note_of(&one, 0, "alice")->until_us = sp_clock_us() - 1;
    UNTIL_BOTH(at_rest(&one));
    redis_spawn(&redis);
}

static void what_redis_has_forgotten_by_itself_is_not_looked_after_when_it_is_configured_no_more(void **state) {
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    give(&one, 0, "alice");
    one.scene.config.redis = NULL;
    configure(&one);
    note_of(&one, 0, "alice")->until_us = sp_clock_us() - 1;
    UNTIL_BOTH(at_rest(&one));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(who_cannot_be_answered_in_time_is_told_so_and_what_comes_late_goes_back),
        TEST(what_runs_is_told_to_a_redis_that_comes_back_empty),
        TEST(places_that_are_had_are_used_while_redis_is_away),
        TEST(a_redis_that_hangs_is_given_up_though_one_name_is_all_that_is_asked_about),
        TEST(a_redis_that_hangs_is_given_up_though_nobody_waits),
        TEST(what_redis_has_forgotten_by_itself_is_not_looked_after_while_it_is_away),
        TEST(what_redis_has_forgotten_by_itself_is_not_looked_after_when_it_is_configured_no_more),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
