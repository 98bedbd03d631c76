/* The script of places by itself, called as gateways call it, on a real Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>

#include "redis_server.h"
#include "script.h"

#define KEY     "test:first:{s=alice}:c"
#define HOUR_MS (UINT64_C(3600) * 1000)

static struct redis_server redis;

static int start(void **state) {
    redis_start(&redis);
    redisReply *reply = redisCommand(redis.side, "SCRIPT LOAD %b", sp_places_script, sp_places_script_len);
    assert_string_equal(reply->str, sp_places_sha1);
    freeReplyObject(reply);
    return 0;
}
static int stop(void **state) {
    redis_kill(&redis);
    return 0;
}
static int set_up(void **state) {
    (void)redis_says(&redis, "FLUSHALL");
    return 0;
}

static uint64_t now_ms(void) {
    redisReply *reply = redisCommand(redis.side, "TIME");
    uint64_t ms = strtoull(reply->element[0]->str, NULL, 10) * 1000 + strtoull(reply->element[1]->str, NULL, 10) / 1000;
    freeReplyObject(reply);
    return ms;
}

/* An instant after all that was asked so far. */
static uint64_t later_ms(void) {
    uint64_t before = now_ms(), now = before;
    while (now == before)
        now = now_ms();
    return now;
}

/* A gateway's first call: places it may use. */
static uint64_t granted(const char *gateway, unsigned used, unsigned want, unsigned bound, uint64_t revision) {
    char call[256];
    (void)snprintf(call, sizeof call, "EVALSHA %s 1 " KEY " %s 1 %u %u %u 1 %u %" PRIu64 " 15000", sp_places_sha1, gateway, used, used, want,
                   bound, revision);
    return strtoull(redis_says(&redis, call), NULL, 10);
}

static void a_bound_of_a_gateway_whose_clock_is_ahead_gives_way_to_a_later_one(void **state) {
    assert_int_equal(granted("aa", 1, 1, 10, now_ms() + HOUR_MS), 1);
    assert_int_equal(granted("bb", 0, 20, 50, later_ms()), 20);
}

static void a_bound_that_was_stored_as_of_the_future_gives_way_to_one_after_its_next_use(void **state) {
    char value[64];
    (void)snprintf(value, sizeof value, "10 %" PRIu64, now_ms() + HOUR_MS);
    freeReplyObject(redisCommand(redis.side, "SET " KEY " %s", value));
    assert_int_equal(granted("aa", 1, 40, 50, now_ms()), 10); /* until then it is the latest there is */
    assert_int_equal(granted("bb", 0, 20, 50, later_ms()), 20);
}

static void an_older_bound_does_not_displace_a_newer_one(void **state) {
    uint64_t now = now_ms();
    assert_int_equal(granted("aa", 1, 1, 10, now), 1);
    assert_int_equal(granted("bb", 0, 20, 50, now - 1), 9);
    assert_int_equal(granted("cc", 0, 20, 50, now - HOUR_MS), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
        TEST(a_bound_of_a_gateway_whose_clock_is_ahead_gives_way_to_a_later_one),
        TEST(a_bound_that_was_stored_as_of_the_future_gives_way_to_one_after_its_next_use),
        TEST(an_older_bound_does_not_displace_a_newer_one),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
