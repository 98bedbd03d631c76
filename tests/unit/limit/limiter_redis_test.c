/* The limiter with a real Redis: what comes from leases, what from Redis, what from this machine while Redis is away, and how it all goes
 * back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "judge.h"
#include "limiter.h"
#include "redis_server.h"

#define DEADLINE_MS 5000 /* not what these tests are about */

static struct redis_server redis;
static struct gateway gateway, other;

static int start(void **state) {
    redis_start(&redis);
    return 0;
}
static int stop(void **state) {
    redis_kill(&redis);
    return 0;
}

static void limit_tokens(struct gateway *at, size_t i, uint64_t burst) {
    at->scene.limit[i].tokens = (struct sp_rate){1, 1000 * SP_MICRO};
    at->scene.limit[i].token_burst = burst;
}

/* limits: 0 leased requests; 1 strict requests, slow; 2 strict tokens; 3 places. */
static void open_gateway(struct gateway *at) {
    gateway_open(at, redis.port, DEADLINE_MS);
    scene_limit(&at->scene, 0, "first", 10000, SP_MICRO, 20000);
    at->scene.limit[0].mode = SP_LIMIT_LEASED;
    scene_limit(&at->scene, 1, "second", 1, 3600 * SP_MICRO, 1000);
    at->scene.limit[2].requests.amount = at->scene.limit[3].requests.amount = 0;
    limit_tokens(at, 2, 1000);
    at->scene.limit[3].concurrency = 5;
    gateway_connect(at);
}

static int set_up(void **state) {
    (void)redis_says(&redis, "FLUSHALL");
    open_gateway(&gateway);
    open_gateway(&other);
    return 0;
}
static int tear_down(void **state) {
    gateway_close(&gateway);
    gateway_close(&other);
    return 0;
}

static void begin(struct gateway *at, struct asked *asked, const char *limits, uint64_t tokens) {
    ask_for(asked, &at->scene, "alice", limits);
    asked->request.tokens = tokens;
    asked->request.stays = true;
    if (sp_limiter_admit(at->limiter, &asked->request) == SP_LIMIT_DECIDED)
        asked->told = 1;
}

static bool admitted(struct gateway *at, struct asked *asked, const char *limits, uint64_t tokens) {
    begin(at, asked, limits, tokens);
    UNTIL(at, asked->told);
    return asked->request.decision.admitted;
}

static int64_t level_in_redis(const char *key) {
    char command[128];
    (void)snprintf(command, sizeof command, "GET %s", key);
    return strtoll(redis_says(&redis, command), NULL, 10) / (int64_t)SP_MICRO;
}
#define TOKENS_KEY "test:third:{s=alice}:t"

static struct sp_limit_levels levels(struct gateway *at, size_t limit) {
    struct sp_limit_facts facts = {.subject = SP_SPAN("alice")};
    struct sp_limit_levels levels;
    sp_limiter_levels(at->limiter, &at->scene.limit[limit], &facts, &levels);
    return levels;
}
static uint64_t leased(struct gateway *at) { return levels(at, 0).bucket[SP_LIMIT_REQUESTS].leased; }

/* Asks often until there is a lease of some size. */
static void get_a_lease(struct gateway *at, uint64_t tokens) {
    struct asked asked;
    uint64_t until = sp_clock_us() + PATIENCE_MS * 1000;
    while (leased(at) < tokens) {
        assert_true(sp_clock_us() < until);
        assert_true(admitted(at, &asked, "0", 0));
        (void)sp_loop_turn(at->loop, 0);
    }
}

/* ---- Tokens ---- */

static void what_is_reserved_in_redis_is_settled_there(void **state) {
    struct asked asked;
    assert_true(admitted(&gateway, &asked, "2", 600));
    assert_int_equal(asked.request.tokens_held, 600);
    assert_int_equal(asked.request.decision.shown[SP_LIMIT_TOKENS].remaining, 400);
    assert_int_equal(level_in_redis(TOKENS_KEY), 400);
    sp_limiter_finish(gateway.limiter, &asked.request, 150);
    sp_limiter_finish(gateway.limiter, &asked.request, 150);
    UNTIL(&gateway, level_in_redis(TOKENS_KEY) == 850);
    assert_true(admitted(&other, &asked, "2", 850));
    sp_limiter_finish(other.limiter, &asked.request, 1000);
    UNTIL(&other, level_in_redis(TOKENS_KEY) <= -149); /* a little has accrued */
    assert_false(admitted(&gateway, &asked, "2", 1));
    assert_int_equal(asked.request.decision.refused_kind, SP_LIMIT_TOKENS);
    assert_int_equal(gateway_state(&gateway).settlements, 1);
    assert_int_equal(gateway_state(&gateway).settlements_dropped, 0);
}

static void a_request_that_ends_after_redis_was_configured_away_leaves_nothing_to_settle(void **state) {
    struct asked asked;
    assert_true(admitted(&gateway, &asked, "2", 600));
    gateway.scene.config.redis = NULL;
    gateway_configure(&gateway);
    sp_limiter_finish(gateway.limiter, &asked.request, 150);
    assert_true(sp_limiter_settled(gateway.limiter));
    assert_int_equal(gateway_state(&gateway).settlements_dropped, 1);
    assert_int_equal(level_in_redis(TOKENS_KEY), 400);
}

static void tokens_are_leased_too_and_settled_in_redis(void **state) {
    struct asked asked;
    scene_limit(&gateway.scene, 2, "third", 0, 0, 0);
    gateway.scene.limit[2].tokens = (struct sp_rate){100000, SP_MICRO};
    gateway.scene.limit[2].token_burst = 1000000;
    gateway.scene.limit[2].mode = SP_LIMIT_LEASED;
    gateway_configure(&gateway);
    uint64_t strict = 0;
    for (uint64_t i = 0; i < 2000 && gateway_state(&gateway).leased < 50; i++) {
        assert_true(admitted(&gateway, &asked, "2", 50));
        assert_int_equal(asked.request.tokens_held, 50);
        sp_limiter_finish(gateway.limiter, &asked.request, 50);
        (void)sp_loop_turn(gateway.loop, 0);
        strict = gateway_state(&gateway).strict;
    }
    assert_true(gateway_state(&gateway).leased >= 50);
    assert_true(strict > 0);
    /* One that ends in debt, and one that is told nothing is left of it: both in Redis, wherever the tokens came from. */
    assert_true(admitted(&gateway, &asked, "2", 50));
    sp_limiter_finish(gateway.limiter, &asked.request, 3000000);
    UNTIL(&gateway, level_in_redis(TOKENS_KEY) < -1000000);
}

static void a_reservation_larger_than_the_burst_can_never_be_had(void **state) {
    struct asked asked;
    assert_false(admitted(&gateway, &asked, "12", 1001));
    assert_true(asked.request.decision.never);
    assert_int_equal(asked.request.decision.asked, 1001);
    assert_int_equal(asked.request.decision.most, 1000);
    assert_string_equal(redis_says(&redis, "GET test:second:{s=alice}"), "");
}

/* ---- All or nothing ---- */

static void what_a_lease_gave_goes_back_where_redis_refuses_another(void **state) {
    struct asked asked;
    assert_true(admitted(&gateway, &asked, "2", 1000));
    get_a_lease(&gateway, 20);
    uint64_t before = leased(&gateway);
    begin(&gateway, &asked, "02", 500);
    assert_int_equal(asked.told, 0);
    assert_int_equal(leased(&gateway), before - 1);
    UNTIL(&gateway, asked.told);
    assert_false(asked.request.decision.admitted);
    assert_ptr_equal(asked.request.decision.refused_by, &gateway.scene.limit[2]);
    if (leased(&gateway) > 0) /* unless it died meanwhile */
        assert_true(leased(&gateway) >= before);
}

static void who_leaves_while_redis_is_asked_holds_nothing(void **state) {
    struct asked asked[20];
    assert_true(admitted(&gateway, &asked[0], "2", 100));
    sp_limiter_finish(gateway.limiter, &asked[0].request, 100);
    for (size_t i = 0; i < SP_COUNT(asked); i++) {
        begin(&gateway, &asked[i], "123", 40);
        (void)sp_loop_turn(gateway.loop, 0);
        if (i % 2)
            (void)sp_loop_turn(gateway.loop, 0);
        sp_limiter_finish(gateway.limiter, &asked[i].request, 0);
        assert_true(asked[i].told == 0 || asked[i].request.decision.admitted);
    }
    UNTIL(&gateway, level_in_redis(TOKENS_KEY) == 900);
    assert_int_equal(levels(&gateway, 3).places_used, 0);
}

/* Stopped for longer than a lease lives: the token that was taken first is not used, another is asked for. */
static void what_was_leased_and_died_while_redis_was_asked_is_not_used(void **state) {
    struct asked asked;
    get_a_lease(&gateway, 20);
    assert_int_equal(kill(redis.pid, SIGSTOP), 0);
    begin(&gateway, &asked, "01", 0);
    assert_int_equal(asked.told, 0);
    uint64_t commands = gateway_state(&gateway).commands;
    UNTIL(&gateway, leased(&gateway) == 0);
    assert_int_equal(kill(redis.pid, SIGCONT), 0);
    UNTIL(&gateway, asked.told);
    assert_true(asked.request.decision.admitted);
    assert_true(gateway_state(&gateway).commands > commands);
    assert_false(asked.request.decision.degraded);
}

static void a_shadow_limit_that_redis_refuses_is_only_named(void **state) {
    struct asked asked;
    gateway.scene.limit[2].shadow = true;
    gateway_configure(&gateway);
    assert_true(admitted(&gateway, &asked, "12", 900));
    assert_null(asked.request.decision.shadow_refused);
    struct asked more;
    assert_true(admitted(&gateway, &more, "12", 900));
    assert_ptr_equal(more.request.decision.shadow_refused, &gateway.scene.limit[2]);
    sp_limiter_finish(gateway.limiter, &more.request, 900); /* it took none: nothing to settle */
    sp_limiter_finish(gateway.limiter, &asked.request, 0);
    UNTIL(&gateway, level_in_redis(TOKENS_KEY) == 1000 || strlen(redis_says(&redis, "GET " TOKENS_KEY)) == 0);
}

/* ---- Places ---- */

static void places_and_tokens_are_free_again_whatever_became_of_their_requests(void **state) {
    enum { REQUESTS = 3000, AT_ONE_TIME = 12 };
    struct gateway *both[] = {&gateway, &other};
    static struct asked asked[2][AT_ONE_TIME];
    uint64_t seed = 17, used = 0;
    memset(asked, 0, sizeof asked);
    for (size_t g = 0; g < 2; g++) {
        scene_limit(&both[g]->scene, 2, "third", 0, 0, 0);
        limit_tokens(both[g], 2, 1000000);
        gateway_configure(both[g]);
    }
    for (int i = 0; i < REQUESTS; i++) {
        size_t g = dice_below(&seed, 2);
        struct asked *one = &asked[g][dice_below(&seed, AT_ONE_TIME)];
        uint64_t tokens = dice_below(&seed, 3) ? dice_below(&seed, 60) : 0; /* each third client leaves */
        if (one->request.tokens_held)
            used += tokens;
        sp_limiter_finish(both[g]->limiter, &one->request, tokens);
        begin(both[g], one, "23", 50);
        if (dice_below(&seed, 2))
            (void)sp_loop_turn(both[g]->loop, 1); /* some are answered, some are not */
    }
    for (size_t g = 0; g < 2; g++)
        for (size_t i = 0; i < AT_ONE_TIME; i++)
            sp_limiter_finish(both[g]->limiter, &asked[g][i].request, 0);
    assert_true(used > 1000);
    for (size_t g = 0; g < 2; g++)
        assert_int_equal(levels(both[g], 3).places_used, 0);
    uint64_t until = sp_clock_us() + PATIENCE_MS * 1000;
    while (level_in_redis(TOKENS_KEY) != 1000000 - (int64_t)used && sp_clock_us() < until) {
        (void)sp_loop_turn(gateway.loop, 1);
        (void)sp_loop_turn(other.loop, 1);
    }
    assert_int_equal(level_in_redis(TOKENS_KEY), 1000000 - (int64_t)used);
}

/* ---- Killed ---- */

static void what_a_killed_worker_reserved_in_redis_is_settled_by_its_successor(void **state) {
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    static const struct sp_hash_key key = {7, 8};
    struct sp_limiter *successor;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct gateway worker = gateway;
        struct asked asked;
        if (sp_loop_new(&worker.loop) < 0 || sp_limiter_new(worker.loop, worker.segment, &key, 9, &worker.limiter) < 0)
            _exit(1);
        gateway_connect(&worker);
        if (!admitted(&worker, &asked, "2", 700))
            _exit(1);
        sp_limiter_progress(worker.limiter, &asked.request, 123);
        if (write(ready[1], "!", 1) != 1)
            _exit(1);
        pause();
        _exit(1);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(level_in_redis(TOKENS_KEY), 300);
    assert_int_equal(sp_limiter_new(gateway.loop, gateway.segment, &key, 9, &successor), 0);
    assert_int_equal(sp_limiter_configure(successor, &gateway.scene.config, NULL), 0);
    UNTIL(&gateway, level_in_redis(TOKENS_KEY) == 1000 - 123);
    sp_limiter_free(successor);
    close(ready[0]);
    close(ready[1]);
}

/* ---- Away ---- */

static void open_away(uint64_t gateways, enum sp_on_outage on_outage) {
    gateway.scene.redis.port = free_port();
    gateway.scene.redis.gateways = (unsigned)gateways;
    for (size_t i = 0; i < 4; i++)
        gateway.scene.limit[i].on_outage = on_outage;
    gateway_configure(&gateway);
}

static void without_redis_this_gateways_share_of_tokens_and_places_is_given(void **state) {
    struct asked asked[6], more;
    open_away(2, SP_OUTAGE_SHARE);
    assert_true(admitted(&gateway, &asked[0], "2", 300));
    assert_true(asked[0].request.decision.degraded);
    assert_false(admitted(&gateway, &more, "2", 300));
    sp_limiter_finish(gateway.limiter, &asked[0].request, 100);
    assert_int_equal(levels(&gateway, 2).bucket[SP_LIMIT_TOKENS].level, 400);
    assert_true(admitted(&gateway, &more, "2", 400));
    sp_limiter_finish(gateway.limiter, &more.request, 400);
    for (size_t i = 0; i < 2; i++)
        assert_true(admitted(&gateway, &asked[i], "3", 0));
    assert_false(admitted(&gateway, &more, "3", 0)); /* half of five */
    for (size_t i = 0; i < 2; i++)
        sp_limiter_finish(gateway.limiter, &asked[i].request, 0);
    assert_int_equal(levels(&gateway, 3).places_used, 0);
}

static void what_is_more_than_the_share_is_put_off_and_not_refused_for_ever(void **state) {
    struct asked asked;
    open_away(2, SP_OUTAGE_SHARE);
    assert_false(admitted(&gateway, &asked, "2", 900));
    assert_false(asked.request.decision.never);
    assert_int_equal(asked.request.decision.retry_after_ms, 1000);
    assert_false(admitted(&gateway, &asked, "2", 1001));
    assert_true(asked.request.decision.never);
}

static void without_redis_open_admits_and_closed_refuses(void **state) {
    struct asked asked;
    open_away(2, SP_OUTAGE_OPEN);
    for (int i = 0; i < 20; i++) {
        assert_true(admitted(&gateway, &asked, "0123", 900));
        assert_true(asked.request.decision.degraded);
        assert_int_equal(asked.request.tokens_held, 0);
        sp_limiter_finish(gateway.limiter, &asked.request, 900);
    }
    open_away(2, SP_OUTAGE_CLOSED);
    assert_false(admitted(&gateway, &asked, "2", 1));
    assert_int_equal(asked.request.decision.retry_after_ms, 1000);
    assert_false(admitted(&gateway, &asked, "3", 1));
    assert_int_equal(asked.request.decision.refused_kind, SP_LIMIT_CONCURRENCY);
}

/* ---- Life ---- */

static void a_limiter_may_be_freed_and_reconfigured_while_leases_are_asked_for(void **state) {
    for (int i = 0; i < 40; i++) {
        struct gateway brief;
        struct asked asked[8];
        open_gateway(&brief);
        for (size_t n = 0; n < SP_COUNT(asked); n++)
            begin(&brief, &asked[n], n % 2 ? "0" : "0123", 10);
        if (i % 2)
            (void)sp_loop_turn(brief.loop, 0);
        if (i % 3 == 0) {
            brief.scene.redis.port = free_port();
            gateway_configure(&brief);
        }
        gateway_close(&brief);
    }
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_reserved_in_redis_is_settled_there),
        TEST(a_request_that_ends_after_redis_was_configured_away_leaves_nothing_to_settle),
        TEST(tokens_are_leased_too_and_settled_in_redis),
        TEST(a_reservation_larger_than_the_burst_can_never_be_had),
        TEST(what_a_lease_gave_goes_back_where_redis_refuses_another),
        TEST(who_leaves_while_redis_is_asked_holds_nothing),
        TEST(what_was_leased_and_died_while_redis_was_asked_is_not_used),
        TEST(a_shadow_limit_that_redis_refuses_is_only_named),
        TEST(places_and_tokens_are_free_again_whatever_became_of_their_requests),
        TEST(what_a_killed_worker_reserved_in_redis_is_settled_by_its_successor),
        TEST(without_redis_this_gateways_share_of_tokens_and_places_is_given),
        TEST(what_is_more_than_the_share_is_put_off_and_not_refused_for_ever),
        TEST(without_redis_open_admits_and_closed_refuses),
        TEST(a_limiter_may_be_freed_and_reconfigured_while_leases_are_asked_for),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
