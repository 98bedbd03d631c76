#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "redis_sentinel.h"
#include "redis_slot.h"

static unsigned slot_of(const char *key) { return sp_redis_key_slot(sp_span_text(key)); }

static struct sp_address address(const char *host, uint16_t port) {
    struct sp_address ret;
    assert_int_equal(sp_redis_find_address(host, port, &ret), 0);
    return ret;
}

static void assert_address(const struct sp_address *is, const char *host, uint16_t port) {
    char text[SP_ADDRESS_TEXT_MAX];
    (void)sp_address_text(is->bytes, text);
    assert_string_equal(text, host);
    assert_int_equal(is->port, port);
}

/* ---- Slots of keys: what redis-server 7.0.15 answers to CLUSTER KEYSLOT ---- */

static void the_slot_of_a_key_is_what_redis_says(void **state) {
    assert_int_equal(slot_of("123456789"), 0x31c3); /* the check value of CRC-16/XMODEM */
    assert_int_equal(slot_of(""), 0);
    assert_int_equal(slot_of("foo"), 12182);
    assert_int_equal(slot_of("bar"), 5061);
    assert_int_equal(slot_of("sallyport:per-caller:s=alice"), 1622);
    assert_int_equal(sp_redis_key_slot(sp_span("\xff\x00\x80", 3)), 7915);
}

static void only_the_first_tag_counts_if_it_is_not_empty(void **state) {
    assert_int_equal(slot_of("{user1000}.following"), slot_of("user1000"));
    assert_int_equal(slot_of("{user1000}.followers"), slot_of("user1000"));
    assert_int_equal(slot_of("foo{bar}{zap}"), slot_of("bar"));
    assert_int_equal(slot_of("foo{{bar}}zap"), slot_of("{bar"));
    assert_int_equal(slot_of("foo{}{bar}"), 8363);
    assert_int_not_equal(slot_of("foo{}{bar}"), slot_of("bar"));
    assert_int_not_equal(slot_of("foo{bar"), slot_of("bar"));
    assert_int_not_equal(slot_of("foo}bar{"), slot_of("bar"));
}

/* ---- CLUSTER SLOTS ---- */

struct told {
    struct sp_redis_slot_map map;
    struct sp_redis_slot_reader reader;
};

static void visit(void *owner, const struct sp_resp_value *value, const struct sp_resp_place *place) {
    sp_redis_slot_reader_visit(&((struct told *)owner)->reader, value, place);
}

/* Reads the reply in pieces of every size; each time the outcome is the same. */
static int read_slots(const char *text, struct told *told) {
    const struct sp_address asked = address("192.0.2.9", 7009);
    int first = 0;
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        const struct sp_resp_reply *reply;
        struct sp_resp *resp;
        int r = sp_resp_new(&resp);
        sp_redis_slot_reader_begin(&told->reader, &told->map, &asked);
        sp_resp_visit_with(resp, visit, told);
        for (size_t at = 0; at < strlen(text) && r == 0; at += piece) {
            r = sp_resp_feed(resp, text + at, sp_min(piece, strlen(text) - at));
            if (r == 0)
                r = sp_resp_next(resp, &reply);
        }
        if (r == 1)
            r = sp_redis_slot_reader_end(&told->reader, reply);
        sp_resp_free(resp);
        if (piece == 1)
            first = r;
        assert_int_equal(r, first);
    }
    return first;
}

static const struct sp_address *owner(const struct told *told, unsigned slot) {
    uint8_t node = told->map.owner[slot];
    return node == SP_REDIS_SLOT_NONE ? NULL : &told->map.node[node];
}

#define RANGE(first, last, host, port) "*3\r\n:" #first "\r\n:" #last "\r\n*4\r\n" host ":" #port "\r\n$4\r\nabcd\r\n*0\r\n"
#define ONE                            "$9\r\n192.0.2.1\r\n"
#define TWO                            "$11\r\n2001:db8::2\r\n"

static void each_slot_is_the_masters_of_its_range(void **state) {
    struct told told;
    assert_int_equal(read_slots("*3\r\n" RANGE(0, 99, ONE, 7001) RANGE(100, 16382, TWO, 7002) RANGE(16383, 16383, ONE, 7001), &told), 0);
    assert_int_equal(told.map.n_nodes, 2);
    assert_address(owner(&told, 0), "192.0.2.1", 7001);
    assert_address(owner(&told, 99), "192.0.2.1", 7001);
    assert_address(owner(&told, 100), "2001:db8::2", 7002);
    assert_address(owner(&told, 16382), "2001:db8::2", 7002);
    assert_address(owner(&told, 16383), "192.0.2.1", 7001);
}

static void replicas_own_nothing(void **state) {
    struct told told;
    assert_int_equal(read_slots("*1\r\n*4\r\n:0\r\n:5\r\n*3\r\n" ONE ":7001\r\n$1\r\na\r\n*3\r\n" TWO ":7002\r\n$1\r\nb\r\n", &told), 0);
    assert_int_equal(told.map.n_nodes, 1);
    assert_address(owner(&told, 5), "192.0.2.1", 7001);
    assert_null(owner(&told, 6));
}

static void a_host_that_is_not_told_is_the_asked_nodes(void **state) {
    struct told told;
    assert_int_equal(read_slots("*2\r\n" RANGE(0, 0, "$0\r\n\r\n", 7001) RANGE(1, 1, "$-1\r\n", 7002), &told), 0);
    assert_address(owner(&told, 0), "192.0.2.9", 7001);
    assert_address(owner(&told, 1), "192.0.2.9", 7002);
}

static void a_name_is_looked_up_in_what_the_node_says_of_itself(void **state) {
    struct told told;
    assert_int_equal(read_slots("*2\r\n"
                                "*3\r\n:0\r\n:0\r\n*4\r\n$6\r\nredis1\r\n:7001\r\n$1\r\na\r\n*4\r\n$1\r\nx\r\n$1\r\ny\r\n$2\r\nip\r\n" ONE
                                "*3\r\n:1\r\n:1\r\n*4\r\n$6\r\nredis2\r\n:7002\r\n$1\r\nb\r\n*2\r\n$2\r\nip\r\n$4\r\nnone\r\n",
                                &told),
                     0);
    assert_address(owner(&told, 0), "192.0.2.1", 7001);
    assert_null(owner(&told, 1));
}

static void a_cluster_without_slots_is_owned_by_nobody(void **state) {
    struct told told;
    assert_int_equal(read_slots("*0\r\n", &told), 0);
    assert_int_equal(told.map.n_nodes, 0);
    assert_null(owner(&told, 0));
}

static void what_is_no_map_is_refused(void **state) {
    static const char *const bad[] = {
        "+OK\r\n",
        "-ERR This instance has cluster support disabled\r\n",
        "*1\r\n:0\r\n",
        "*1\r\n*3\r\n:5\r\n:4\r\n*2\r\n" ONE ":1\r\n",
        "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n" ONE ":1\r\n",
        "*1\r\n*3\r\n:-1\r\n:4\r\n*2\r\n" ONE ":1\r\n",
        "*1\r\n*3\r\n$1\r\n0\r\n:4\r\n*2\r\n" ONE ":1\r\n",
        "*1\r\n*3\r\n:0\r\n:4\r\n" ONE,
        "*1\r\n*3\r\n:0\r\n:4\r\n*4\r\n" ONE ":1\r\n$1\r\na\r\n*1\r\n*1\r\n:0\r\n",
    };
    struct told told;
    for (size_t i = 0; i < SP_COUNT(bad); i++)
        assert_int_equal(read_slots(bad[i], &told), -EPROTO);
}

static void of_a_node_without_a_usable_address_nothing_is_believed(void **state) {
    struct told told;
    assert_int_equal(
        read_slots("*4\r\n" RANGE(0, 0, "$1\r\n?\r\n", 7001) RANGE(1, 1, ONE, 0) RANGE(2, 2, ONE, 65536) RANGE(3, 3, ":4\r\n", 1), &told),
        0);
    for (unsigned i = 0; i < 4; i++)
        assert_null(owner(&told, i));
}

static void more_nodes_than_can_be_kept_own_nothing(void **state) {
    struct sp_redis_slot_map map;
    sp_redis_slot_map_init(&map);
    for (unsigned i = 0; i < SP_REDIS_NODES; i++) {
        const struct sp_address node = address("192.0.2.1", (uint16_t)(i + 1));
        assert_int_equal(sp_redis_slot_map_node(&map, &node), i);
        assert_int_equal(sp_redis_slot_map_node(&map, &node), i);
    }
    const struct sp_address node = address("192.0.2.2", 1);
    assert_int_equal(sp_redis_slot_map_node(&map, &node), -ENOSPC);
}

/* ---- MOVED and ASK ---- */

static int redirect(const char *error, struct sp_redis_redirect *ret) {
    const struct sp_address said_by = address("192.0.2.9", 7009);
    return sp_redis_redirect_parse(sp_span_text(error), &said_by, ret);
}

static void redirects_say_which_slot_is_where(void **state) {
    struct sp_redis_redirect to;
    assert_int_equal(redirect("MOVED 3999 127.0.0.1:6381", &to), 0);
    assert_false(to.ask);
    assert_int_equal(to.slot, 3999);
    assert_address(&to.to, "127.0.0.1", 6381);
    assert_int_equal(redirect("ASK 0 2001:db8::2:6381", &to), 0);
    assert_true(to.ask);
    assert_address(&to.to, "2001:db8::2", 6381);
    assert_int_equal(redirect("MOVED 16383 :6381", &to), 0);
    assert_address(&to.to, "192.0.2.9", 6381);
}

static void what_is_no_redirect_is_refused(void **state) {
    static const char *const bad[] = {
        "",
        "MOVED",
        "MOVED 1",
        "MOVED 1 ",
        "MOVED 1 127.0.0.1",
        "MOVED 16384 127.0.0.1:1",
        "MOVED -1 127.0.0.1:1",
        "MOVED x 127.0.0.1:1",
        "MOVED 1 127.0.0.1:0",
        "MOVED 1 127.0.0.1:65536",
        "MOVED 1 127.0.0.1:",
        "MOVED 1 redis.example.com:1",
        "MOVED 1 127.0.0.256:1",
        "MOVED 99999999999999999999 127.0.0.1:1",
        "GONE 1 127.0.0.1:1",
    };
    struct sp_redis_redirect to;
    for (size_t i = 0; i < SP_COUNT(bad); i++)
        assert_int_equal(redirect(bad[i], &to), -EINVAL);
}

/* ---- Sentinels ---- */

static int master(const char *text, struct sp_address *ret) {
    const struct sp_resp_reply *reply;
    struct sp_resp *resp;
    assert_int_equal(sp_resp_new(&resp), 0);
    assert_int_equal(sp_resp_feed(resp, text, strlen(text)), 0);
    assert_int_equal(sp_resp_next(resp, &reply), 1);
    int r = sp_redis_master_parse(reply, ret);
    sp_resp_free(resp);
    return r;
}

static void a_sentinel_names_an_address_or_nobody(void **state) {
    struct sp_address found;
    assert_int_equal(master("*2\r\n" ONE "$4\r\n6379\r\n", &found), 0);
    assert_address(&found, "192.0.2.1", 6379);
    assert_int_equal(master("*-1\r\n", &found), -ENOENT);
    static const char *const bad[] = {
        "*0\r\n",
        "*1\r\n" ONE,
        "*2\r\n" ONE ":6379\r\n",
        "*2\r\n" ONE "$1\r\n0\r\n",
        "*2\r\n" ONE "$5\r\n65536\r\n",
        "*2\r\n" ONE "$0\r\n\r\n",
        "*2\r\n$5\r\nredis\r\n$4\r\n6379\r\n",
        "+OK\r\n",
        "-ERR no\r\n",
        "*3\r\n" ONE "$4\r\n6379\r\n:1\r\n",
    };
    for (size_t i = 0; i < SP_COUNT(bad); i++)
        assert_int_equal(master(bad[i], &found), -EPROTO);
    assert_address(&found, "192.0.2.1", 6379); /* untouched */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_slot_of_a_key_is_what_redis_says),
        cmocka_unit_test(only_the_first_tag_counts_if_it_is_not_empty),
        cmocka_unit_test(each_slot_is_the_masters_of_its_range),
        cmocka_unit_test(replicas_own_nothing),
        cmocka_unit_test(a_host_that_is_not_told_is_the_asked_nodes),
        cmocka_unit_test(a_name_is_looked_up_in_what_the_node_says_of_itself),
        cmocka_unit_test(a_cluster_without_slots_is_owned_by_nobody),
        cmocka_unit_test(what_is_no_map_is_refused),
        cmocka_unit_test(of_a_node_without_a_usable_address_nothing_is_believed),
        cmocka_unit_test(more_nodes_than_can_be_kept_own_nothing),
        cmocka_unit_test(redirects_say_which_slot_is_where),
        cmocka_unit_test(what_is_no_redirect_is_refused),
        cmocka_unit_test(a_sentinel_names_an_address_or_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
