/* Asks and settlements over several hash slots: a cluster of one node, where every command still is of one slot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redis_nodes.h"
#include "redis_store.h"

#define HOUR_US (UINT64_C(3600) * SP_MICRO)

static struct server node;
static struct peer {
    struct sp_loop *loop;
    struct sp_redis_store *store;
    struct sp_redis_node at;
    struct sp_redis_config redis;
    struct sp_limit_config limit[3];
    struct sp_config config;
} peer;

static int start(void **state) {
    char lines[128];
    (void)snprintf(lines, sizeof lines, "cluster-enabled yes\ncluster-port %u\n", free_port());
    server_start(&node, lines, false);
    assert_string_equal(says(&node, "CLUSTER ADDSLOTSRANGE 0 16383"), "OK");
    for (uint64_t until = sp_clock_us() + PATIENCE_US; !strstr(says(&node, "CLUSTER INFO"), "cluster_state:ok"); poll(NULL, 0, 5))
        assert_true(sp_clock_us() < until);
    return 0;
}
static int stop(void **state) {
    server_end(&node);
    return 0;
}

static struct sp_limiter_state state_now(void) {
    struct sp_limiter_state state = {0};
    sp_redis_store_state(peer.store, &state);
    return state;
}

/* By subject, by tenant, for all: their keys are in slots of their own. */
static int set_up(void **state) {
    static const uint32_t by[] = {SP_BY_SUBJECT, SP_BY_TENANT, SP_BY_GLOBAL};
    static const char *const name[] = {"per-caller", "per-tenant", "overall"};
    (void)says(&node, "FLUSHALL");
    peer = (struct peer){.at = {.host = "127.0.0.1", .port = node.port}};
    peer.redis = (struct sp_redis_config){.cluster = {&peer.at, 1}, .deadline_ms = 5000, .prefix = "test:", .gateways = 1};
    for (size_t i = 0; i < 3; i++)
        peer.limit[i] = (struct sp_limit_config){.name = name[i],
                                                 .slot = (unsigned)i,
                                                 .by = by[i],
                                                 .mode = SP_LIMIT_STRICT,
                                                 .requests = {1, HOUR_US},
                                                 .request_burst = 10,
                                                 .tokens = {1, HOUR_US},
                                                 .token_burst = 1000};
    peer.config = (struct sp_config){
        .refs = 1, .generation = 1, .loaded_wall_ms = sp_wall_ms(), .redis = &peer.redis, .limits = peer.limit, .n_limits = 3};
    assert_int_equal(sp_loop_new(&peer.loop), 0);
    assert_int_equal(sp_redis_store_new(peer.loop, sp_random_u64_fast(), &peer.store), 0);
    assert_int_equal(sp_redis_store_configure(peer.store, &peer.config, NULL), 0);
    UNTIL(&peer, state_now().up);
    return 0;
}
static int tear_down(void **state) {
    kill(node.pid, SIGCONT);
    sp_redis_store_free(peer.store);
    sp_loop_free(peer.loop);
    return 0;
}

static const struct sp_limit_facts facts = {.subject = SP_SPAN("alice"), .tenant = SP_SPAN("acme")};

struct question {
    struct sp_redis_ask ask;
    int told;
    bool in_time;
};
static void answered(struct sp_redis_ask *ask, bool told) {
    struct question *question = SP_CONTAINER(ask, struct question, ask);
    question->told++;
    question->in_time = told;
}
static void question_send(struct question *question, uint64_t cost, uint64_t lease) {
    *question = (struct question){.ask = {.n = 6, .facts = &facts, .answered = answered}};
    for (size_t i = 0; i < 3; i++)
        for (unsigned kind = 0; kind < 2; kind++)
            question->ask.part[2 * i + kind] = (struct sp_redis_part){
                .limit = &peer.limit[i], .kind = (enum sp_limit_kind)kind, .cost = kind == SP_LIMIT_TOKENS ? 100 : cost, .lease = lease};
    assert_int_equal(sp_redis_store_ask(peer.store, &question->ask), 0);
}

static int64_t stored(const char *key) { return strtoll(says(&node, "GET test:%s", key), NULL, 10); }

static void what_lives_in_one_slot_is_one_command(void **state) {
    struct question question;
    question_send(&question, 1, 0);
    UNTIL(&peer, question.told);
    assert_true(question.in_time);
    assert_int_equal(state_now().commands, 3); /* of six buckets */
    assert_int_equal(state_now().errors, 0);   /* CROSSSLOT, for one */
    for (size_t i = 0; i < 6; i++) {
        assert_true(question.ask.part[i].answer.bucket.admitted);
        assert_int_equal(question.ask.part[i].answer.bucket.remaining, i % 2 ? 900 : 9);
    }
    assert_string_equal(says(&node, "DBSIZE"), "6");
}

static void refused_in_one_slot_takes_nothing_from_any(void **state) {
    struct question question;
    peer.limit[2].request_burst = 3;
    assert_int_equal(sp_redis_store_configure(peer.store, &peer.config, NULL), 0);
    question_send(&question, 4, 2);
    UNTIL(&peer, question.told);
    assert_true(question.in_time);
    assert_true(question.ask.part[4].answer.bucket.never);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(question.ask.part[i].leased, 0);
    assert_int_equal(question.ask.part[0].answer.bucket.remaining, 10); /* as if nothing had been */
    UNTIL(&peer, sp_redis_store_settled(peer.store));
    assert_in_range(stored("per-caller:{s=alice}"), 9990000, 10000000);
    assert_in_range(stored("per-tenant:{t=acme}"), 9990000, 10000000);
    assert_int_equal(stored("per-caller:{s=alice}:t"), 1000000000);
    assert_int_equal(stored("per-tenant:{t=acme}:t"), 1000000000);
    assert_string_equal(says(&node, "EXISTS test:overall:{g} test:overall:{g}:t"), "0");
}

#define ALL_TOKENS 1000000000 /* in micro-tokens */

static void an_error_in_one_slot_makes_the_others_go_back(void **state) {
    struct question question;
    assert_string_equal(says(&node, "ACL SETUSER default resetkeys ~test:per*"), "OK");
    question_send(&question, 1, 0);
    UNTIL(&peer, question.told);
    assert_false(question.in_time);
    assert_int_equal(question.told, 1);
    UNTIL(&peer, stored("per-caller:{s=alice}:t") == ALL_TOKENS && stored("per-tenant:{t=acme}:t") == ALL_TOKENS);
    UNTIL(&peer, sp_redis_store_settled(peer.store));
    assert_string_equal(says(&node, "ACL SETUSER default allkeys"), "OK");
    assert_string_equal(says(&node, "DBSIZE"), "4");
}

static void who_leaves_while_several_slots_are_asked_takes_nothing_from_any(void **state) {
    struct question question;
    kill(node.pid, SIGSTOP);
    question_send(&question, 1, 0);
    assert_int_equal(state_now().commands, 3);
    (void)sp_loop_turn(peer.loop, 0);
    sp_redis_store_cancel(peer.store, &question.ask);
    memset(&question, 0xff, sizeof question);
    kill(node.pid, SIGCONT);
    UNTIL(&peer, stored("per-caller:{s=alice}:t") == ALL_TOKENS && stored("per-tenant:{t=acme}:t") == ALL_TOKENS &&
                     stored("overall:{g}:t") == ALL_TOKENS);
}

static void settlements_of_many_slots_all_arrive(void **state) {
    enum { CALLERS = 200 };
    char subject[32], key[64];
    for (unsigned i = 0; i < CALLERS; i++) {
        (void)snprintf(subject, sizeof subject, "caller-%u", i);
        struct sp_limit_facts caller = {.subject = sp_span_text(subject), .tenant = SP_SPAN("acme")};
        sp_redis_store_settle(peer.store, &peer.limit[0], SP_LIMIT_TOKENS, &caller, -(int64_t)i - 1);
        sp_redis_store_settle(peer.store, &peer.limit[1], SP_LIMIT_TOKENS, &caller, -1);
    }
    UNTIL(&peer, sp_redis_store_settled(peer.store));
    assert_int_equal(state_now().errors, 0);
    for (unsigned i = 0; i < CALLERS; i++) {
        (void)snprintf(key, sizeof key, "per-caller:{s=caller-%u}:t", i);
        assert_int_equal(stored(key), (1000 - (int64_t)i - 1) * (int64_t)SP_MICRO);
    }
    assert_int_equal(stored("per-tenant:{t=acme}:t"), (1000 - CALLERS) * (int64_t)SP_MICRO);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_lives_in_one_slot_is_one_command, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_in_one_slot_takes_nothing_from_any, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_error_in_one_slot_makes_the_others_go_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_leaves_while_several_slots_are_asked_takes_nothing_from_any, set_up, tear_down),
        cmocka_unit_test_setup_teardown(settlements_of_many_slots_all_arrive, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
