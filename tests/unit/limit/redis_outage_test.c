/* Decisions while a real Redis is stopped, gone, back, or not a Redis at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "judge.h"
#include "redis_server.h"

#define HOUR_US     (UINT64_C(3600) * SP_MICRO)
#define DEADLINE_MS 50 /* room for a slow machine; what matters here is what happens after it */

static struct redis_server redis;
static struct gateway gateway;

static int set_up(void **state) {
    redis_start(&redis);
    gateway_open(&gateway, redis.port, DEADLINE_MS);
    return 0;
}
static int tear_down(void **state) {
    if (redis.pid)
        kill(redis.pid, SIGCONT);
    gateway_close(&gateway);
    redis_kill(&redis);
    return 0;
}

static struct sp_limit_decision decide(const char *limits) { return gateway_decides(&gateway, "alice", limits); }

/* The next decisions wait and fail until the breaker opens. */
static void open_the_breaker(void) {
    for (int i = 0; i < 3 && !gateway_state(&gateway).breaker_open; i++)
        assert_true(decide("3").degraded);
    UNTIL(&gateway, gateway_state(&gateway).breaker_open);
}

static void a_stopped_redis_is_waited_for_until_the_deadline_and_after_three_times_no_more(void **state) {
    struct asked asked;
    gateway_connect(&gateway);
    assert_false(decide("0").degraded);
    kill(redis.pid, SIGSTOP);
    for (unsigned i = 1; i <= 3; i++) {
        ask_for(&asked, &gateway.scene, "alice", "0");
        assert_int_equal(sp_limiter_admit(gateway.limiter, &asked.request), SP_LIMIT_PENDING);
        UNTIL(&gateway, asked.told);
        assert_true(asked.request.decision.admitted); /* by this gateway's share */
        assert_true(asked.request.decision.degraded);
        assert_int_equal(gateway_state(&gateway).timeouts, i);
        assert_int_equal(gateway_state(&gateway).breaker_open, i == 3);
    }
    assert_false(gateway_state(&gateway).up);
    assert_non_null(strstr(gateway_state(&gateway).problem, "deadline"));
    for (int i = 0; i < 100; i++) {
        ask_for(&asked, &gateway.scene, "alice", "0");
        assert_int_equal(sp_limiter_admit(gateway.limiter, &asked.request), SP_LIMIT_DECIDED);
        assert_true(asked.request.decision.degraded);
        (void)sp_loop_turn(gateway.loop, 1); /* probes go on meanwhile and change nothing */
    }
    kill(redis.pid, SIGCONT);
    UNTIL(&gateway, gateway_state(&gateway).up);
    assert_false(decide("0").degraded);
    assert_string_equal(gateway_state(&gateway).problem, "");
}

static void all_that_wait_when_the_breaker_opens_are_told_once(void **state) {
    enum { ASKED = 20 };
    struct asked asked[ASKED];
    gateway_connect(&gateway);
    kill(redis.pid, SIGSTOP);
    for (size_t i = 0; i < ASKED; i++) {
        ask_for(&asked[i], &gateway.scene, "alice", "0");
        assert_int_equal(sp_limiter_admit(gateway.limiter, &asked[i].request), SP_LIMIT_PENDING);
    }
    UNTIL(&gateway, gateway_state(&gateway).breaker_open);
    kill(redis.pid, SIGCONT);
    UNTIL(&gateway, gateway_state(&gateway).up);
    for (size_t i = 0; i < ASKED; i++)
        assert_int_equal(asked[i].told, 1);
}

static void what_a_late_reply_took_goes_back_and_the_next_answer_is_ones_own(void **state) {
    gateway_connect(&gateway);
    assert_int_equal(decide("0").shown[0].remaining, 999);
    kill(redis.pid, SIGSTOP);
    assert_true(decide("0").degraded);
    kill(redis.pid, SIGCONT);
    struct sp_limit_decision decision;
    do { /* the same connection: what Redis decided late comes first */
        decision = decide("1");
    } while (decision.degraded && gateway_state(&gateway).reconnects == 0);
    assert_ptr_equal(decision.shown[0].limit, &gateway.scene.limit[1]);
    decision = decide("0");
    assert_false(decision.degraded);
    assert_int_equal(decision.shown[0].remaining, 998); /* what was taken late was given back, along with this one's question at the latest */
}

static void a_cancelled_request_is_never_told(void **state) {
    struct asked kept, cancelled;
    gateway_connect(&gateway);
    ask_for(&cancelled, &gateway.scene, "alice", "0");
    ask_for(&kept, &gateway.scene, "alice", "0");
    assert_int_equal(sp_limiter_admit(gateway.limiter, &cancelled.request), SP_LIMIT_PENDING);
    assert_int_equal(sp_limiter_admit(gateway.limiter, &kept.request), SP_LIMIT_PENDING);
    sp_limiter_finish(gateway.limiter, &cancelled.request, 0);
    sp_limiter_finish(gateway.limiter, &cancelled.request, 0);
    memset(&cancelled.request, 0xff, sizeof cancelled.request); /* its memory is somebody else's now */
    UNTIL(&gateway, kept.told);
    assert_int_equal(cancelled.told, 0);
}

static void a_limiter_freed_with_requests_under_way_tells_nobody(void **state) {
    struct asked asked;
    gateway_connect(&gateway);
    ask_for(&asked, &gateway.scene, "alice", "0");
    assert_int_equal(sp_limiter_admit(gateway.limiter, &asked.request), SP_LIMIT_PENDING);
    sp_limiter_free(sp_take(gateway.limiter));
    (void)sp_loop_turn(gateway.loop, 0);
    assert_int_equal(asked.told, 0);
}

static void on_outage_each_limit_does_as_configured(void **state) {
    gateway.scene.limit[1].on_outage = SP_OUTAGE_OPEN;
    gateway.scene.limit[1].request_burst = 1;
    gateway.scene.limit[2].on_outage = SP_OUTAGE_CLOSED;
    gateway_connect(&gateway);
    redis_kill(&redis);
    UNTIL(&gateway, !gateway_state(&gateway).up);
    for (int i = 0; i < 5; i++) {
        struct sp_limit_decision decision = decide("1");
        assert_true(decision.admitted && decision.degraded);
        decision = decide("2");
        assert_true(!decision.admitted && decision.degraded);
        assert_ptr_equal(decision.refused_by, &gateway.scene.limit[2]);
        assert_int_equal(decision.retry_after_ms, 1000);
        decision = decide("0");
        assert_true(decision.admitted && decision.degraded);
        assert_int_equal(decision.shown[0].remaining, 999 - (uint64_t)i); /* what a closed limit refuses is not taken elsewhere */
        assert_false(decide("02").admitted);
    }
    gateway.scene.limit[2].shadow = true;
    struct sp_limit_decision decision = decide("2");
    assert_true(decision.admitted);
    assert_ptr_equal(decision.shadow_refused, &gateway.scene.limit[2]);
}

static void the_share_begins_at_the_last_known_level(void **state) {
    gateway.scene.redis.gateways = 2;
    scene_limit(&gateway.scene, 0, "first", 1, HOUR_US, 10);
    gateway_connect(&gateway);
    for (uint64_t left = 10; left-- > 6;)
        assert_int_equal(decide("0").shown[0].remaining, left);
    redis_kill(&redis);
    UNTIL(&gateway, !gateway_state(&gateway).up);
    for (uint64_t left = 3; left-- > 0;) { /* half of six */
        struct sp_limit_decision decision = decide("0");
        assert_true(decision.admitted && decision.degraded);
        assert_int_equal(decision.shown[0].burst, 5);
        assert_int_equal(decision.shown[0].remaining, left);
    }
    struct sp_limit_decision decision = decide("0");
    assert_false(decision.admitted);
    assert_in_range(decision.retry_after_ms, 2 * 3590 * 1000, 2 * 3600 * 1000); /* half the rate */
}

static void the_share_of_a_burst_smaller_than_the_gateways_is_still_one(void **state) {
    gateway.scene.redis.gateways = 5;
    scene_limit(&gateway.scene, 0, "first", 1, HOUR_US, 2);
    redis_kill(&redis);
    gateway_configure(&gateway);
    open_the_breaker();
    assert_true(decide("0").admitted);
    assert_false(decide("0").admitted);
}

static void a_redis_that_restarts_empty_is_found_again_and_begins_full(void **state) {
    scene_limit(&gateway.scene, 0, "first", 1, HOUR_US, 10);
    gateway_connect(&gateway);
    for (int i = 0; i < 10; i++)
        assert_true(decide("0").admitted);
    redis_kill(&redis);
    open_the_breaker();
    redis_spawn(&redis);
    UNTIL(&gateway, gateway_state(&gateway).up);
    struct sp_limit_decision decision = decide("0");
    assert_false(decision.degraded);
    assert_int_equal(decision.shown[0].remaining, 9);
    assert_true(gateway_state(&gateway).reconnects >= 1);
}

static void at_start_without_redis_service_goes_on(void **state) {
    redis_kill(&redis);
    gateway_configure(&gateway);
    for (int i = 0; i < 20; i++)
        assert_true(decide("0").degraded);
    UNTIL(&gateway, gateway_state(&gateway).breaker_open);
    assert_non_null(strstr(gateway_state(&gateway).problem, "cannot be reached"));
    redis_spawn(&redis);
    UNTIL(&gateway, gateway_state(&gateway).up);
    assert_false(decide("0").degraded);
}

static void a_redis_that_refuses_to_write_is_a_failing_redis(void **state) {
    gateway_connect(&gateway);
    (void)redis_says(&redis, "CONFIG SET maxmemory 1");
    assert_true(decide("0").degraded);
    assert_non_null(strstr(gateway_state(&gateway).problem, "OOM"));
    open_the_breaker();
    (void)redis_says(&redis, "CONFIG SET maxmemory 0");
    UNTIL(&gateway, gateway_state(&gateway).up);
    assert_false(decide("0").degraded);
}

static void a_host_that_is_no_address_is_refused(void **state) {
    gateway.scene.redis.host = "redis.example.com";
    assert_int_not_equal(sp_limiter_configure(gateway.limiter, &gateway.scene.config, NULL), 0);
    assert_non_null(strstr(gateway_state(&gateway).problem, "neither an address nor localhost"));
    assert_true(decide("0").degraded);
    gateway.scene.redis.host = "localhost";
    gateway_connect(&gateway);
    assert_false(decide("0").degraded);
}

/* ---- Strictness ---- */

/* Limits closed on outage: whatever is admitted, Redis admitted. An admission is seen at most a deadline after it was made, which is the
 * judge's only slack. */
static void two_gateways_never_exceed_burst_and_rate_however_redis_stops_and_goes_on(void **state) {
    enum { RATE = 100, BURST = 20, EPISODES = 12 };
    struct gateway other;
    struct judge judge = {0};
    uint64_t seed = 31;
    size_t degraded = 0;
    gateway_open(&other, redis.port, DEADLINE_MS);
    scene_limit(&gateway.scene, 0, "first", RATE, SP_MICRO, BURST);
    gateway.scene.limit[0].on_outage = SP_OUTAGE_CLOSED;
    other.scene.limit[0] = gateway.scene.limit[0];
    gateway_connect(&gateway);
    gateway_connect(&other);
    for (int episode = 0; episode < EPISODES; episode++) {
        for (unsigned i = 0; i < 80; i++) {
            struct sp_limit_decision decision = gateway_decides(dice_below(&seed, 2) ? &gateway : &other, "alice", "0");
            degraded += decision.degraded;
            if (decision.admitted)
                judge_note(&judge, sp_clock_us(), 1);
            assert_false(decision.admitted && decision.degraded);
            if (i % 40 == 30 + dice_below(&seed, 10))
                kill(redis.pid, i < 40 ? SIGSTOP : SIGCONT);
        }
        kill(redis.pid, SIGCONT);
        UNTIL(&gateway, gateway_state(&gateway).up);
        UNTIL(&other, gateway_state(&other).up);
    }
    assert_true(judge.n > BURST + EPISODES);
    assert_true(degraded > EPISODES);
    assert_int_equal(judge_violations(&judge, gateway.scene.limit[0].requests, BURST + RATE * DEADLINE_MS / 1000), 0);
    judge_free(&judge);
    gateway_close(&other);
}

/* ---- Not a Redis ---- */

/* A peer that takes connections and says `text` over and over. */
static pid_t start_impostor(const char *text, uint16_t *ret_port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *ret_port = ntohs(address.sin_port);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        for (;;) {
            int client = accept(fd, NULL, NULL);
            while (write(client, text, strlen(text)) > 0)
                ;
            close(client);
        }
    }
    close(fd);
    return pid;
}

static void a_peer_that_is_no_redis_does_no_more_than_an_absent_one(void **state) {
    static const char *const says[] = {"HTTP/1.1 400 Bad Request\r\n\r\n",
                                       "$1000000000\r\nxxxxxxxxxxxx",
                                       "*1\r\n*1\r\n",
                                       "+OK\r\n",
                                       "-ERR go away\r\n",
                                       "*2147483647\r\n",
                                       "endless line "};
    for (size_t i = 0; i < SP_COUNT(says); i++) {
        uint16_t port;
        pid_t impostor = start_impostor(says[i], &port);
        gateway.scene.redis.port = port;
        gateway_configure(&gateway);
        uint64_t errors = gateway_state(&gateway).errors;
        for (int n = 0; n < 5; n++)
            assert_true(decide("0").degraded);
        UNTIL(&gateway, gateway_state(&gateway).breaker_open);
        assert_true(gateway_state(&gateway).errors + gateway_state(&gateway).timeouts > errors);
        assert_false(gateway_state(&gateway).up);
        kill(impostor, SIGKILL);
        waitpid(impostor, NULL, 0);
    }
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stopped_redis_is_waited_for_until_the_deadline_and_after_three_times_no_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(all_that_wait_when_the_breaker_opens_are_told_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_late_reply_took_goes_back_and_the_next_answer_is_ones_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cancelled_request_is_never_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_limiter_freed_with_requests_under_way_tells_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(on_outage_each_limit_does_as_configured, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_share_begins_at_the_last_known_level, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_share_of_a_burst_smaller_than_the_gateways_is_still_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_redis_that_restarts_empty_is_found_again_and_begins_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(at_start_without_redis_service_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_redis_that_refuses_to_write_is_a_failing_redis, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_host_that_is_no_address_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_gateways_never_exceed_burst_and_rate_however_redis_stops_and_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_peer_that_is_no_redis_does_no_more_than_an_absent_one, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
