/* The way to keys in a master that real sentinels watch: failover, a master that was demoted, sentinels that are gone or know nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "redis_nodes.h"

#define SENTINELS 3

static struct server master, replica, sentinel[SENTINELS];
static struct way way;

static void start_sentinel(size_t i, const char *more) {
    char lines[512];
    (void)snprintf(lines, sizeof lines,
                   "%s\nsentinel monitor limits 127.0.0.1 %u 2\nsentinel down-after-milliseconds limits 300\n"
                   "sentinel failover-timeout limits 3000\n",
                   more, master.port);
    server_start(&sentinel[i], lines, true);
}

/* Each sentinel knows the replica and the other sentinels: before, there is no failover. */
static bool all_is_known(void) {
    for (size_t i = 0; i < SENTINELS; i++) {
        const char *info = says(&sentinel[i], "INFO sentinel");
        if (!strstr(info, "status=ok") || !strstr(info, "slaves=1,sentinels=3"))
            return false;
    }
    return strstr(says(&replica, "INFO replication"), "master_link_status:up") != NULL;
}

/* Sentinels that answer, but may not have met yet. */
static int set_up(void **state) {
    char lines[128];
    server_start(&master, "repl-diskless-sync-delay 0\n", false);
    (void)snprintf(lines, sizeof lines, "repl-diskless-sync-delay 0\nreplicaof 127.0.0.1 %u\n", master.port);
    server_start(&replica, lines, false);
    for (size_t i = 0; i < SENTINELS; i++)
        start_sentinel(i, "");
    way_open(&way);
    for (size_t i = 0; i < SENTINELS; i++)
        way.node[i] = (struct sp_redis_node){"127.0.0.1", sentinel[i].port};
    way.config.sentinel = (struct sp_redis_sentinel_config){.master = "limits", .nodes = {way.node, SENTINELS}};
    return 0;
}

static int set_up_for_failover(void **state) {
    set_up(state);
    for (uint64_t until = sp_clock_us() + PATIENCE_US; !all_is_known(); poll(NULL, 0, 5))
        assert_true(sp_clock_us() < until);
    return 0;
}

static int tear_down(void **state) {
    way_close(&way);
    for (size_t i = 0; i < SENTINELS; i++)
        server_end(&sentinel[i]);
    server_end(&replica);
    server_end(&master);
    return 0;
}

static void connect_way(void) {
    assert_int_equal(sp_redis_route_configure(way.route, &way.config, NULL), 0);
    UNTIL(&way, way_state(&way).up);
}

/* Whether this one does what it is asked, now. */
static bool serves(void) {
    struct asked asked;
    if (asked_send(&asked, &way, "count", NULL) < 0)
        return false;
    UNTIL(&way, asked.told);
    redisFreeCommand(asked.bytes);
    return asked.verdict == SP_REDIS_ANSWER;
}

static void when_the_master_is_killed_its_successor_is_found(void **state) {
    connect_way();
    assert_int_equal(ask(&way, "count", NULL).integer, 1);
    server_kill(&master);
    UNTIL(&way, !way_state(&way).up);
    UNTIL(&way, serves());
    assert_non_null(strstr(says(&replica, "INFO replication"), "role:master"));
    assert_string_equal(way_state(&way).problem, "");
}

static void a_master_that_was_demoted_and_lives_is_left(void **state) {
    connect_way();
    assert_string_equal(says(&sentinel[0], "SENTINEL FAILOVER limits"), "OK");
    UNTIL(&way, strstr(says(&master, "INFO replication"), "role:slave"));
    UNTIL(&way, serves() && way_state(&way).up);
    uint64_t before = strtoull(says(&replica, "GET count"), NULL, 10);
    assert_true(serves());
    assert_int_equal(strtoull(says(&replica, "GET count"), NULL, 10), before + 1);
}

static void readonly_is_no_answer_and_the_way_is_asked_for_again(void **state) {
    connect_way();
    for (size_t i = 0; i < SENTINELS; i++)
        assert_string_equal(says(&sentinel[i], "SENTINEL REMOVE limits"), "OK"); /* nobody fails over now: what they say is ours to say */
    assert_string_equal(says(&replica, "REPLICAOF NO ONE"), "OK");
    assert_string_equal(says(&master, "REPLICAOF 127.0.0.1 %u", replica.port), "OK");
    struct asked asked = ask(&way, "count", NULL);
    assert_int_equal(asked.verdict, SP_REDIS_FAILED);
    UNTIL(&way, strstr(way_state(&way).problem, "does not know the master"));
    assert_false(serves()); /* ROLE: it is not let in again */
    assert_string_equal(says(&sentinel[1], "SENTINEL MONITOR limits 127.0.0.1 %u 2", replica.port), "OK");
    UNTIL(&way, serves());
    assert_string_equal(says(&replica, "GET count"), "1");
}

static void sentinels_that_are_gone_or_know_nothing_are_passed_over(void **state) {
    server_kill(&sentinel[0]);
    assert_string_equal(says(&sentinel[1], "SENTINEL REMOVE limits"), "OK");
    connect_way();
    assert_true(serves());
    server_kill(&sentinel[1]);
    server_kill(&sentinel[2]);
    for (int i = 0; i < 20; i++)
        assert_true(serves()); /* the master is known, and is not asked of anybody */
}

static void a_sentinel_that_hangs_is_left_for_another(void **state) {
    kill(sentinel[0].pid, SIGSTOP);
    kill(sentinel[1].pid, SIGSTOP);
    connect_way();
    assert_true(serves());
    kill(sentinel[0].pid, SIGCONT);
    kill(sentinel[1].pid, SIGCONT);
}

static void a_sentinel_is_told_the_password_only_when_it_asks(void **state) {
    way.config.password = "secret";
    assert_string_equal(says(&master, "CONFIG SET requirepass secret"), "OK");
    server_kill(&sentinel[2]);
    start_sentinel(2, "requirepass secret");
    way.config.sentinel.nodes = (struct sp_redis_nodes){way.node + 2, 1};
    connect_way();
    assert_true(serves());
    way.config.sentinel.nodes = (struct sp_redis_nodes){way.node, 1};
    assert_int_equal(sp_redis_route_configure(way.route, &way.config, NULL), 0);
    UNTIL(&way, way_state(&way).up);
    assert_true(serves());
    assert_null(strstr(says(&sentinel[0], "INFO commandstats"), "cmdstat_auth"));
}

static void another_masters_name_is_another_redis(void **state) {
    struct server other = {0};
    server_start(&other, "", false);
    for (size_t i = 0; i < SENTINELS; i++)
        assert_string_equal(says(&sentinel[i], "SENTINEL MONITOR others 127.0.0.1 %u 2", other.port), "OK");
    connect_way();
    assert_true(serves());
    uint64_t before, after;
    assert_true(sp_redis_route_connected(way.route, 0, &before));
    struct sp_redis_config again = way.config;
    assert_int_equal(sp_redis_route_configure(way.route, &again, NULL), 0);
    assert_true(sp_redis_route_connected(way.route, 0, &after) && before == after);
    struct sp_redis_config others = way.config;
    others.sentinel.master = "others";
    assert_int_equal(sp_redis_route_configure(way.route, &others, NULL), 0);
    assert_false(serves());
    UNTIL(&way, serves());
    assert_string_equal(says(&other, "GET count"), "1");
    assert_int_equal(sp_redis_route_configure(way.route, NULL, NULL), 0);
    assert_false(serves());
    assert_false(way_state(&way).shared);
    server_end(&other);
}

static void names_are_not_looked_up(void **state) {
    way.node[0] = (struct sp_redis_node){"sentinel.example.com", 26379};
    way.config.sentinel.nodes.count = 1;
    assert_int_equal(sp_redis_route_configure(way.route, &way.config, NULL), -EINVAL);
    assert_true(way_state(&way).problem[0] != 0);
    way.config.sentinel.master = NULL;
    way.config.cluster = (struct sp_redis_nodes){way.node, 1};
    assert_int_equal(sp_redis_route_configure(way.route, &way.config, NULL), -EINVAL);
    assert_true(way_state(&way).problem[0] != 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(when_the_master_is_killed_its_successor_is_found, set_up_for_failover, tear_down),
        cmocka_unit_test_setup_teardown(a_master_that_was_demoted_and_lives_is_left, set_up_for_failover, tear_down),
        cmocka_unit_test_setup_teardown(readonly_is_no_answer_and_the_way_is_asked_for_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sentinels_that_are_gone_or_know_nothing_are_passed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sentinel_that_hangs_is_left_for_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sentinel_is_told_the_password_only_when_it_asks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_masters_name_is_another_redis, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_are_not_looked_up, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
