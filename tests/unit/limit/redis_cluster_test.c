/* The way to keys in a real cluster of three: redirects, a slot on the move, a node that is gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "redis_nodes.h"
#include "script.h"

#define NODES 3

static struct server node[NODES];
static char id[NODES][48];
static struct way way;

static unsigned first_slot(size_t i) { return (unsigned)i * 5461; }
static unsigned last_slot(size_t i) { return i == NODES - 1 ? SP_REDIS_SLOTS - 1 : first_slot(i + 1) - 1; }

static bool all_nodes_agree(void) {
    for (size_t i = 0; i < NODES; i++) {
        const char *info = says(&node[i], "CLUSTER INFO");
        if (!strstr(info, "cluster_state:ok") || !strstr(info, "cluster_known_nodes:3") || !strstr(info, "cluster_slots_ok:16384"))
            return false;
    }
    return true;
}

static int start_cluster(void **state) {
    for (size_t i = 0; i < NODES; i++) {
        char lines[256];
        (void)snprintf(lines, sizeof lines,
                       "cluster-enabled yes\ncluster-port %u\ncluster-node-timeout 2000\ncluster-require-full-coverage no\n", free_port());
        server_start(&node[i], lines, false);
        (void)snprintf(id[i], sizeof id[i], "%s", says(&node[i], "CLUSTER MYID"));
        assert_string_equal(says(&node[i], "CLUSTER ADDSLOTSRANGE %u %u", first_slot(i), last_slot(i)), "OK");
        assert_string_equal(says(&node[i], "CONFIG SET maxmemory-policy noeviction"), "OK");
    }
    for (size_t i = 1; i < NODES; i++) {
        const char *bus = strstr(says(&node[i], "CLUSTER NODES"), "@"); /* id host:port@bus,… */
        assert_non_null(bus);
        unsigned long port = strtoul(bus + 1, NULL, 10);
        assert_string_equal(says(&node[0], "CLUSTER MEET 127.0.0.1 %u %lu", node[i].port, port), "OK");
    }
    for (uint64_t until = sp_clock_us() + PATIENCE_US; !all_nodes_agree(); poll(NULL, 0, 5))
        assert_true(sp_clock_us() < until);
    return 0;
}

static int stop_cluster(void **state) {
    for (size_t i = 0; i < NODES; i++)
        server_end(&node[i]);
    return 0;
}

static int set_up(void **state) {
    way_open(&way);
    for (size_t i = 0; i < NODES; i++)
        (void)says(&node[i], "FLUSHALL");
    way.node[0] = (struct sp_redis_node){"127.0.0.1", node[1].port};
    way.config.cluster = (struct sp_redis_nodes){way.node, 1};
    assert_int_equal(sp_redis_route_configure(way.route, &way.config, NULL), 0);
    UNTIL(&way, way_state(&way).up);
    return 0;
}

static int tear_down(void **state) {
    way_close(&way);
    return 0;
}

static size_t owner_of(const char *key) {
    unsigned slot = sp_redis_key_slot(sp_span_text(key));
    for (size_t i = 0; i < NODES; i++)
        if (slot >= first_slot(i) && slot <= last_slot(i))
            return i;
    abort();
}

/* A slot changes hands as redis-cli does it. */
static void begin_move(unsigned slot, size_t from, size_t to) {
    assert_string_equal(says(&node[to], "CLUSTER SETSLOT %u IMPORTING %s", slot, id[from]), "OK");
    assert_string_equal(says(&node[from], "CLUSTER SETSLOT %u MIGRATING %s", slot, id[to]), "OK");
}
static void move_key(const char *key, size_t from, size_t to) {
    assert_string_equal(says(&node[from], "MIGRATE 127.0.0.1 %u %s 0 1000", node[to].port, key), "OK");
}
static void end_move(unsigned slot, size_t from, size_t to) {
    assert_string_equal(says(&node[to], "CLUSTER SETSLOT %u NODE %s", slot, id[to]), "OK");
    assert_string_equal(says(&node[from], "CLUSTER SETSLOT %u NODE %s", slot, id[to]), "OK");
    for (size_t i = 0; i < NODES; i++)
        (void)says(&node[i], "CLUSTER SETSLOT %u NODE %s", slot, id[to]);
}

static void each_key_is_asked_of_the_node_that_owns_it(void **state) {
    for (int i = 0; i < 100; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "key-%d", i);
        struct asked asked = ask(&way, key, NULL);
        assert_int_equal(asked.verdict, SP_REDIS_ANSWER);
        assert_int_equal(asked.integer, 1);
        assert_int_equal(asked.again, 0);
        assert_string_equal(says(&node[owner_of(key)], "GET %s", key), "1");
    }
    assert_string_equal(way_state(&way).problem, "");
}

static void a_slot_that_moved_is_followed_and_remembered(void **state) {
    const char *key = "wanderer";
    unsigned slot = sp_redis_key_slot(sp_span_text(key));
    size_t from = owner_of(key), to = (from + 1) % NODES;
    begin_move(slot, from, to);
    end_move(slot, from, to);
    struct asked asked = ask(&way, key, NULL);
    assert_int_equal(asked.verdict, SP_REDIS_ANSWER);
    assert_int_equal(asked.again, 1);
    assert_int_equal(ask(&way, key, NULL).again, 0);
    assert_string_equal(says(&node[to], "GET %s", key), "2");
    (void)says(&node[to], "DEL %s", key);
    begin_move(slot, to, from);
    end_move(slot, to, from);
}

static void a_slot_on_the_move_is_asked_where_its_key_is(void **state) {
    const char *key = "{mover}:one", *other = "{mover}:two";
    unsigned slot = sp_redis_key_slot(sp_span_text(key));
    size_t from = owner_of(key), to = (from + 1) % NODES;
    int64_t count = 0;
    assert_int_equal(ask(&way, key, NULL).integer, ++count);
    begin_move(slot, from, to);
    struct asked asked = ask(&way, key, NULL);
    assert_int_equal(asked.again, 0); /* still there */
    assert_int_equal(asked.integer, ++count);
    asked = ask(&way, other, NULL);
    assert_int_equal(asked.again, 1); /* a key that is nowhere yet begins where the slot goes */
    assert_int_equal(asked.integer, 1);
    move_key(key, from, to);
    asked = ask(&way, key, NULL);
    assert_int_equal(asked.again, 1);
    assert_int_equal(asked.integer, ++count);
    asked = ask(&way, key, NULL);
    assert_int_equal(asked.again, 1); /* ASK is not remembered */
    assert_int_equal(asked.integer, ++count);
    end_move(slot, from, to);
    assert_int_equal(ask(&way, key, NULL).integer, ++count);
    assert_int_equal(ask(&way, key, NULL).again, 0);
    (void)says(&node[to], "DEL %s %s", key, other);
    begin_move(slot, to, from);
    end_move(slot, to, from);
}

static void what_is_torn_between_two_nodes_is_tried_again_and_then_given_up(void **state) {
    const char *key = "{torn}:one";
    unsigned slot = sp_redis_key_slot(sp_span_text(key));
    size_t from = owner_of(key), to = (from + 1) % NODES;
    assert_int_equal(ask(&way, key, NULL).integer, 1);
    begin_move(slot, from, to);
    struct asked asked = ask(&way, key, "MSET %s 1 {torn}:two 2");
    assert_int_equal(asked.verdict, SP_REDIS_FAILED);
    assert_int_equal(asked.again, SP_REDIS_AGAIN_MAX);
    assert_false(way_state(&way).breaker_open); /* nobody's fault */
    end_move(slot, from, from);
    (void)says(&node[to], "CLUSTER SETSLOT %u STABLE", slot);
    assert_int_equal(ask(&way, key, NULL).verdict, SP_REDIS_ANSWER);
}

static void a_script_that_a_node_forgot_is_brought_again_also_to_where_a_slot_goes(void **state) {
    const char *key = "script";
    char call[128];
    unsigned slot = sp_redis_key_slot(sp_span_text(key));
    size_t from = owner_of(key), to = (from + 1) % NODES;
    (void)snprintf(call, sizeof call, "EVALSHA %s 0 %%s", sp_redis_scripts[0].sha1);
    assert_string_equal(says(&node[from], "SCRIPT FLUSH"), "OK");
    struct asked asked = ask(&way, key, call);
    assert_int_equal(asked.again, 1);
    assert_int_not_equal(asked.verdict, SP_REDIS_FAILED);
    (void)snprintf(call, sizeof call, "EVALSHA %s 1 %%s 1 1 1 1 1 0", sp_redis_scripts[0].sha1);
    assert_string_equal(says(&node[to], "SCRIPT FLUSH"), "OK");
    begin_move(slot, from, to);
    asked = ask(&way, key, call);
    assert_int_equal(asked.again, 2); /* ASK, then NOSCRIPT there */
    assert_int_not_equal(asked.verdict, SP_REDIS_FAILED);
    (void)says(&node[to], "CLUSTER SETSLOT %u STABLE", slot);
    (void)says(&node[from], "CLUSTER SETSLOT %u STABLE", slot);
}

static void an_error_that_is_the_commands_own_is_told(void **state) {
    struct asked asked = ask(&way, "list", "LPUSH %s x");
    assert_int_equal(asked.verdict, SP_REDIS_ANSWER);
    asked = ask(&way, "list", NULL);
    assert_int_equal(asked.verdict, SP_REDIS_ERROR);
    assert_non_null(strstr(asked.error, "WRONGTYPE"));
    assert_int_equal(asked.again, 0);
}

static void a_reload_that_names_the_same_members_keeps_every_connection(void **state) {
    uint64_t before[NODES], after;
    for (size_t i = 0; i < NODES; i++)
        assert_true(sp_redis_route_connected(way.route, first_slot(i), &before[i]));
    struct sp_redis_config again = way.config;
    assert_int_equal(sp_redis_route_configure(way.route, &again, NULL), 0);
    for (size_t i = 0; i < NODES; i++) {
        assert_true(sp_redis_route_connected(way.route, first_slot(i), &after));
        assert_true(before[i] == after);
    }
    way.node[1] = (struct sp_redis_node){"127.0.0.1", node[2].port};
    again.cluster = (struct sp_redis_nodes){way.node + 1, 1};
    assert_int_equal(sp_redis_route_configure(way.route, &again, NULL), 0);
    assert_false(sp_redis_route_usable(way.route, 0)); /* another cluster, for all we know */
    UNTIL(&way, way_state(&way).up);
}

static void one_redis_that_is_in_a_cluster_is_said_so(void **state) {
    size_t away = owner_of("elsewhere") == 0 ? 1 : 0;
    way.config.cluster.count = 0;
    way.config.host = "127.0.0.1";
    way.config.port = node[away].port;
    assert_int_equal(sp_redis_route_configure(way.route, &way.config, NULL), 0);
    UNTIL(&way, way_state(&way).up);
    assert_int_equal(ask(&way, "elsewhere", NULL).verdict, SP_REDIS_FAILED);
    assert_non_null(strstr(way_state(&way).problem, "`cluster`"));
}

static void one_redis_that_is_no_cluster_is_said_so(void **state) {
    struct server alone = {0};
    server_start(&alone, "", false);
    way.node[1] = (struct sp_redis_node){"127.0.0.1", alone.port};
    way.config.cluster = (struct sp_redis_nodes){way.node + 1, 1};
    assert_int_equal(sp_redis_route_configure(way.route, &way.config, NULL), 0);
    UNTIL(&way, strstr(way_state(&way).problem, "cluster support disabled"));
    assert_false(way_state(&way).up);
    assert_false(sp_redis_route_usable(way.route, 0));
    server_end(&alone);
}

/* The last test: a node is gone for good, then back. */
static void a_node_that_is_killed_degrades_its_slots_only(void **state) {
    struct asked asked;
    uint16_t port = node[2].port;
    server_kill(&node[2]);
    UNTIL(&way, !sp_redis_route_usable(way.route, last_slot(2)));
    assert_false(way_state(&way).up);
    for (int i = 0; i < 100; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "key-%d", i);
        if (owner_of(key) == 2) {
            int r = asked_send(&asked, &way, key, NULL);
            if (r == 0) { /* on a connection that is being tried: told soon that it is none */
                UNTIL(&way, asked.told);
                assert_int_equal(asked.verdict, SP_REDIS_FAILED);
                redisFreeCommand(asked.bytes);
            }
        } else {
            assert_int_equal(ask(&way, key, NULL).verdict, SP_REDIS_ANSWER);
        }
    }
    assert_non_null(strstr(way_state(&way).problem, "127.0.0.1 port"));
    char lines[256];
    (void)snprintf(lines, sizeof lines,
                   "cluster-enabled yes\ncluster-port %u\ncluster-node-timeout 2000\ncluster-require-full-coverage no\n", free_port());
    node[2].port = port;
    server_start(&node[2], lines, false);
    UNTIL(&way, sp_redis_route_usable(way.route, last_slot(2)) && way_state(&way).up);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_key_is_asked_of_the_node_that_owns_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slot_that_moved_is_followed_and_remembered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slot_on_the_move_is_asked_where_its_key_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_torn_between_two_nodes_is_tried_again_and_then_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_script_that_a_node_forgot_is_brought_again_also_to_where_a_slot_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_error_that_is_the_commands_own_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reload_that_names_the_same_members_keeps_every_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_redis_that_is_in_a_cluster_is_said_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_redis_that_is_no_cluster_is_said_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_node_that_is_killed_degrades_its_slots_only, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
