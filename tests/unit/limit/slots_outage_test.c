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

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(who_cannot_be_answered_in_time_is_told_so_and_what_comes_late_goes_back),
        TEST(what_runs_is_told_to_a_redis_that_comes_back_empty),
        TEST(places_that_are_had_are_used_while_redis_is_away),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
