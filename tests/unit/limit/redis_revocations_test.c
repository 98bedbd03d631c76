/* Gateways that tell each other through a real Redis which keys are revoked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redis_server.h"
#include "revocation_feed.h"

#define DEADLINE_MS 5000 /* not what these tests are about */

/* A gateway's limiter with what a worker keeps beside it. */
struct side {
    struct gateway gateway;
    struct sp_revocations *known;
    struct sp_api_key_config keys[2];
    size_t learned; /* listings heard */
};

static struct redis_server redis;
static struct side here, there;

static void on_learned(void *owner, const struct sp_revocation *listed, size_t n) {
    struct side *side = owner;
    side->learned += n;
    for (size_t i = 0; i < n; i++)
        assert_true(sp_revocations_add(side->known, &listed[i]) >= 0);
}

static void open_side(struct side *side) {
    *side = (struct side){.keys = {{.id = "AbCd1234"}, {.id = "ZyXw9876"}}};
    gateway_open(&side->gateway, redis.port, DEADLINE_MS);
    side->gateway.scene.config.api_keys = side->keys;
    side->gateway.scene.config.n_api_keys = SP_COUNT(side->keys);
    assert_int_equal(sp_revocations_new(&side->known), 0);
    sp_limiter_share_revocations(side->gateway.limiter, side->known, on_learned, side);
    gateway_connect(&side->gateway);
}

static void close_side(struct side *side) {
    gateway_close(&side->gateway);
    sp_revocations_free(side->known);
}

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
    open_side(&here);
    open_side(&there);
    return 0;
}
static int tear_down(void **state) {
    close_side(&here);
    close_side(&there);
    return 0;
}

static void revoke_at(struct side *side, const char *id, bool now) {
    struct sp_revocation revocation = {.now = now};
    memcpy(revocation.id, id, SP_KEY_ID_LEN);
    assert_int_equal(sp_revocations_add(side->known, &revocation), 1);
    sp_limiter_tell_revocations(side->gateway.limiter);
}
static const struct sp_revocation *knows(struct side *side, const char *id) { return sp_revocations_find(side->known, sp_span_text(id)); }
static bool listed(const char *member) {
    char command[64];
    (void)snprintf(command, sizeof command, "ZSCORE test:revoked %s", member);
    return redis_says(&redis, command)[0] != 0;
}

static void what_one_revokes_the_other_learns(void **state) {
    revoke_at(&here, "AbCd1234", false);
    UNTIL(&here.gateway, listed("AbCd1234"));
    UNTIL(&there.gateway, knows(&there, "AbCd1234"));
    assert_false(knows(&there, "AbCd1234")->now);
    assert_null(knows(&there, "ZyXw9876"));
    revoke_at(&here, "AbCd1234", true);
    UNTIL(&here.gateway, listed("AbCd1234!"));
    UNTIL(&there.gateway, knows(&there, "AbCd1234")->now);
    assert_string_equal(gateway_state(&there.gateway).problem, "");
}

static void news_are_read_once(void **state) {
    revoke_at(&here, "AbCd1234", false);
    UNTIL(&there.gateway, (sp_loop_turn(here.gateway.loop, 0), knows(&there, "AbCd1234")));
    size_t learned = there.learned;
    revoke_at(&here, "ZyXw9876", false);
    UNTIL(&there.gateway, (sp_loop_turn(here.gateway.loop, 0), knows(&there, "ZyXw9876")));
    assert_int_equal(there.learned, learned + 1);
}

static void more_than_a_page_is_read_and_told_whole(void **state) {
    enum { MANY = 5 * SP_REVOKED_PAGE + 7 };
    for (int i = 0; i < MANY; i++) {
        char id[24];
        (void)snprintf(id, sizeof id, "%08d", i);
        revoke_at(&here, id, i % 2 == 0);
    }
    UNTIL(&here.gateway, strtoll(redis_says(&redis, "ZCARD test:revoked"), NULL, 10) == MANY);
    UNTIL(&there.gateway, sp_revocations_count(there.known) == MANY);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(sp_revocations_at(there.known, i)->now, i % 2 == 0);
}

static void an_emptied_redis_is_filled_again(void **state) {
    revoke_at(&here, "AbCd1234", true);
    UNTIL(&here.gateway, listed("AbCd1234!"));
    redis_kill(&redis);
    UNTIL(&here.gateway, !gateway_state(&here.gateway).up);
    revoke_at(&here, "ZyXw9876", false);
    redis_spawn(&redis);
    UNTIL(&here.gateway, listed("AbCd1234!") && listed("ZyXw9876"));
    UNTIL(&there.gateway, knows(&there, "AbCd1234") && knows(&there, "ZyXw9876"));
}

static void scores_grow_even_where_the_clock_went_back(void **state) {
    (void)redis_says(&redis, "ZADD test:revoked 4000000000000000 ZyXw9876");
    UNTIL(&there.gateway, knows(&there, "ZyXw9876"));
    UNTIL(&here.gateway, knows(&here, "ZyXw9876"));
    revoke_at(&here, "AbCd1234", false);
    UNTIL(&here.gateway, listed("AbCd1234"));
    assert_true(strtoull(redis_says(&redis, "ZSCORE test:revoked AbCd1234"), NULL, 10) > UINT64_C(4000000000000000));
    UNTIL(&there.gateway, knows(&there, "AbCd1234"));
}

static void a_new_configuration_reads_everything_again(void **state) {
    revoke_at(&here, "AbCd1234", false);
    UNTIL(&here.gateway, listed("AbCd1234"));
    UNTIL(&there.gateway, knows(&there, "AbCd1234"));
    sp_revocations_clear(there.known);
    gateway_configure(&there.gateway);
    UNTIL(&there.gateway, knows(&there, "AbCd1234"));
}

static void a_redis_that_refuses_is_said_so_and_limits_go_on(void **state) {
    (void)redis_says(&redis, "SET test:revoked nonsense");
    UNTIL(&here.gateway, strstr(gateway_state(&here.gateway).problem, "which API keys are revoked: WRONGTYPE"));
    assert_false(gateway_decides(&here.gateway, "alice", "0").degraded);
    (void)redis_says(&redis, "DEL test:revoked");
    UNTIL(&here.gateway, gateway_state(&here.gateway).problem[0] == 0);
}

static void a_user_of_our_own_needs_only_the_documented_permissions(void **state) {
    (void)redis_says(&redis,
                     "ACL SETUSER sallyport on >s3cret resetkeys ~test:* -@all +evalsha +script|load +ping +get +set +time +info +eval "
                     "+zrange +zrangebyscore +zscore +zadd +zremrangebyrank");
    here.gateway.scene.redis.username = "sallyport";
    here.gateway.scene.redis.password = "s3cret";
    gateway_connect(&here.gateway);
    revoke_at(&here, "AbCd1234", false);
    UNTIL(&here.gateway, listed("AbCd1234"));
    UNTIL(&there.gateway, knows(&there, "AbCd1234"));
    assert_string_equal(gateway_state(&here.gateway).problem, "");
}

static void without_keys_nobody_asks(void **state) {
    here.gateway.scene.config.n_api_keys = there.gateway.scene.config.n_api_keys = 0;
    gateway_configure(&here.gateway);
    gateway_configure(&there.gateway);
    (void)redis_says(&redis, "CONFIG RESETSTAT");
    for (uint64_t until = sp_clock_us() + 3 * SP_REVOCATION_FEED_MS * 1000; sp_clock_us() < until;)
        (void)sp_loop_turn(here.gateway.loop, 20);
    assert_null(strstr(redis_says(&redis, "INFO commandstats"), "cmdstat_zrangebyscore"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_one_revokes_the_other_learns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(news_are_read_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_than_a_page_is_read_and_told_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_emptied_redis_is_filled_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(scores_grow_even_where_the_clock_went_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_configuration_reads_everything_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_redis_that_refuses_is_said_so_and_limits_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_user_of_our_own_needs_only_the_documented_permissions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_keys_nobody_asks, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
