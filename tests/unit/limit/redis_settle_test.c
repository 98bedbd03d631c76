/* Settlements: once each, whatever becomes of commands and replies on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "judge.h"
#include "peer.h"

#define DEADLINE_MS 5000 /* not what these tests are about */
#define BURST       1000000
#define ALICE       "test:first:{s=alice}:t"

static struct redis_server redis;
static struct proxy proxy;
static struct peer peer;

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
    proxy_open(&proxy, redis.port);
    peer_open(&peer, proxy.port, DEADLINE_MS);
    peer_configure(&peer);
    PUMP_UNTIL(&peer, &proxy, peer_state(&peer).up);
    return 0;
}
static int tear_down(void **state) {
    kill(redis.pid, SIGCONT);
    peer_close(&peer);
    proxy_close(&proxy);
    return 0;
}

static int64_t alices(void) { return stored_tokens(&redis, ALICE, BURST); }

static void settle_all(void) { PUMP_UNTIL(&peer, &proxy, sp_redis_store_settled(peer.store)); }

/* ---- How often ---- */

static void what_is_owed_to_many_buckets_at_one_time_is_a_few_commands(void **state) {
    enum { CALLERS = 40 };
    char key[64];
    for (int i = 0; i < CALLERS * 25; i++) {
        (void)snprintf(key, sizeof key, "caller-%d", i % CALLERS);
        settle_tokens(&peer, 0, key, -(i % CALLERS));
    }
    PUMP_UNTIL(&peer, &proxy, peer_state(&peer).commands > 0);
    settle_all();
    assert_int_equal(peer_state(&peer).commands, 3); /* of 16 buckets at most */
    for (int i = 0; i < CALLERS; i++) {
        (void)snprintf(key, sizeof key, "test:first:{s=caller-%d}:t", i);
        assert_int_equal(stored_tokens(&redis, key, BURST), BURST - 25 * i);
    }
}

static void what_cancels_out_is_not_sent(void **state) {
    settle_tokens(&peer, 0, "alice", -25);
    settle_tokens(&peer, 0, "alice", 25);
    settle_all();
    assert_int_equal(peer_state(&peer).commands, 0);
    assert_string_equal(redis_says(&redis, "DBSIZE"), "0");
}

static void a_bucket_that_is_asked_about_is_settled_along(void **state) {
    struct question question = {0};
    settle_tokens(&peer, 0, "alice", -25);
    question_add(&question, &peer, 0, SP_LIMIT_TOKENS, 10, 0);
    assert_int_equal(question_send(&question, &peer, "alice"), 0);
    PUMP_UNTIL(&peer, &proxy, question.told);
    assert_int_equal(question.ask.part[0].answer.bucket.remaining, BURST - 35);
    assert_int_equal(peer_state(&peer).commands, 1);
    assert_true(sp_redis_store_settled(peer.store));
    assert_int_equal(peer_state(&peer).commands, 1);
}

static void at_the_end_of_a_process_everything_leaves_at_once(void **state) {
    settle_tokens(&peer, 0, "alice", -25);
    assert_false(sp_redis_store_settled(peer.store));
    assert_int_equal(peer_state(&peer).commands, 1);
    settle_all();
    assert_int_equal(alices(), BURST - 25);
}

/* ---- What is paid, and what not ---- */

static void an_overrun_becomes_debt_and_payment_back_ends_at_the_burst(void **state) {
    settle_tokens(&peer, 0, "alice", -(BURST + 500));
    settle_all();
    assert_int_equal(alices(), -500);
    struct question question = {0};
    question_add(&question, &peer, 0, SP_LIMIT_TOKENS, 1, 0);
    assert_int_equal(question_send(&question, &peer, "alice"), 0);
    PUMP_UNTIL(&peer, &proxy, question.told);
    assert_false(question_admitted(&question));
    assert_in_range(question.ask.part[0].answer.bucket.retry_us, 500 * HOUR_US, 501 * HOUR_US);
    settle_tokens(&peer, 0, "alice", 2 * BURST);
    settle_all();
    assert_int_equal(alices(), BURST);
}

static void requests_are_given_back_less_by_what_has_accrued(void **state) {
    struct sp_limit_facts alice = facts_of("alice");
    struct question question = {0};
    scene_limit(&peer.scene, 0, "first", 10, SP_MICRO, 1000);
    peer_configure(&peer);
    question_add(&question, &peer, 0, SP_LIMIT_REQUESTS, 500, 0);
    assert_int_equal(question_send(&question, &peer, "alice"), 0);
    PUMP_UNTIL(&peer, &proxy, question.told);
    /* As if it had been taken 20 s ago, which are 200 tokens. */
    sp_redis_store_give_back(peer.store, &peer.scene.limit[0], SP_LIMIT_REQUESTS, &alice, 500, question.ask.part[0].taken_us - 20 * SP_MICRO);
    settle_all();
    assert_in_range(stored_tokens(&redis, "test:first:{s=alice}", 1000), 799, 850);
    /* Without its instant nothing is given back: it could be too much. */
    sp_redis_store_settle(peer.store, &peer.scene.limit[0], SP_LIMIT_REQUESTS, &alice, 100);
    assert_true(sp_redis_store_settled(peer.store));
}

static void a_bucket_known_by_its_key_is_settled_under_its_limit_or_where_it_is(void **state) {
    sp_redis_store_settle_key(peer.store, SP_SPAN("first:{s=alice}:t"), -7);
    sp_redis_store_settle_key(peer.store, SP_SPAN("no-more:{s=alice}:t"), -7);
    settle_all();
    assert_int_equal(alices(), BURST - 7);
    assert_string_equal(redis_says(&redis, "DBSIZE"), "1");
    sp_redis_store_settle_key(peer.store, SP_SPAN("first:{s=alice}:t"), 7);
    settle_all();
    assert_int_equal(alices(), BURST);
}

/* ---- Lost, late, repeated ---- */

static void a_settlement_whose_reply_is_lost_counts_once(void **state) {
    proxy.swallows_replies = true;
    settle_tokens(&peer, 0, "alice", -25);
    PUMP_UNTIL(&peer, &proxy, alices() == BURST - 25);
    settle_tokens(&peer, 0, "alice", -100); /* waits for the first */
    proxy_cut(&proxy);
    settle_all();
    assert_int_equal(alices(), BURST - 125);
    assert_true(peer_state(&peer).commands >= 3);
}

static void a_settlement_that_never_arrived_is_repeated(void **state) {
    proxy.holds_requests = true;
    settle_tokens(&peer, 0, "alice", -25);
    PUMP_UNTIL(&peer, &proxy, proxy.n_requests > 0);
    proxy_cut(&proxy);
    settle_all();
    assert_int_equal(alices(), BURST - 25);
}

static void a_settlement_that_arrives_after_its_repetition_counts_once(void **state) {
    static char late[65536];
    proxy.holds_requests = true;
    settle_tokens(&peer, 0, "alice", -25);
    PUMP_UNTIL(&peer, &proxy, proxy.n_requests > 0);
    size_t n = proxy.n_requests;
    memcpy(late, proxy.requests, n);
    proxy_cut(&proxy);
    settle_all();
    int other = proxy_dial(&proxy);
    assert_int_equal(fcntl(other, F_SETFL, 0), 0);
    proxy_write(other, late, n);
    assert_true(recv(other, late, sizeof late, 0) > 0 && late[0] == '*'); /* it was executed */
    close(other);
    assert_int_equal(alices(), BURST - 25);
    settle_tokens(&peer, 0, "alice", -1); /* and the next one is another */
    settle_all();
    assert_int_equal(alices(), BURST - 26);
}

static void a_redis_that_nobody_asks_is_found_out_to_be_frozen_and_paid_later(void **state) {
    kill(redis.pid, SIGSTOP);
    settle_tokens(&peer, 0, "alice", -25);
    PUMP_UNTIL(&peer, &proxy, peer_state(&peer).breaker_open);
    for (int i = 0; i < 50; i++)
        settle_tokens(&peer, 0, "alice", -1);
    kill(redis.pid, SIGCONT);
    settle_all();
    assert_int_equal(alices(), BURST - 75);
    assert_int_equal(peer_state(&peer).settlements_dropped, 0);
}

static void more_buckets_than_can_be_kept_are_counted(void **state) {
    char subject[32];
    kill(redis.pid, SIGSTOP);
    for (unsigned i = 0; i < SP_SETTLEMENTS_MAX + 10; i++) {
        (void)snprintf(subject, sizeof subject, "caller-%u", i);
        settle_tokens(&peer, 0, subject, -1);
    }
    assert_int_equal(peer_state(&peer).settlements_dropped, 10);
    kill(redis.pid, SIGCONT);
    settle_all();
    char expected[16];
    (void)snprintf(expected, sizeof expected, "%d", SP_SETTLEMENTS_MAX);
    assert_string_equal(redis_says(&redis, "DBSIZE"), expected);
}

/* Whatever the way does, what is stored in the end is the sum of what was settled. */
static void debits_less_refunds_are_what_was_settled(void **state) {
    enum { SUBJECTS = 6, STEPS = 400 };
    static const char *const subjects[SUBJECTS] = {"a", "b", "c", "d", "e", "f"};
    int64_t sum[SUBJECTS];
    uint64_t seed = 7;
    unsigned cuts = 0;
    for (size_t i = 0; i < SUBJECTS; i++) {
        sum[i] = BURST / 2;
        settle_tokens(&peer, 0, subjects[i], -(BURST / 2)); /* neither the burst nor zero is in the way */
    }
    for (int step = 0; step < STEPS; step++) {
        size_t subject = dice_below(&seed, SUBJECTS);
        int64_t delta = (int64_t)dice_below(&seed, 200) - 100;
        settle_tokens(&peer, 0, subjects[subject], delta);
        sum[subject] += delta;
        switch (dice_below(&seed, 40)) {
        case 0:
            proxy.swallows_replies = true;
            break;
        case 1:
            proxy.holds_requests = true;
            break;
        case 2:
            proxy.holds_replies = true;
            break;
        case 3:
            proxy.holds_replies = proxy.holds_requests = false; /* late, but there */
            break;
        case 4:
            proxy_cut(&proxy);
            cuts++;
            break;
        default:
            break;
        }
        for (uint64_t turns = dice_below(&seed, 12); turns-- > 0;) {
            proxy_pump(&proxy);
            (void)sp_loop_turn(peer.loop, 2);
        }
    }
    proxy_cut(&proxy);
    settle_all();
    for (size_t i = 0; i < SUBJECTS; i++) {
        char key[64];
        (void)snprintf(key, sizeof key, "test:first:{s=%s}:t", subjects[i]);
        assert_int_equal(stored_tokens(&redis, key, BURST), sum[i]);
    }
    assert_int_equal(peer_state(&peer).settlements_dropped, 0);
    assert_true(cuts > 3 && peer_state(&peer).reconnects > 3);
}

static void configure_redis(struct sp_redis_config *redis_or_none) {
    peer.scene.config.redis = redis_or_none;
    peer_configure(&peer);
}

static void what_is_owed_after_redis_was_configured_away_is_lost_and_counted(void **state) {
    struct sp_limit_facts alice = facts_of("alice");
    configure_redis(NULL);
    settle_tokens(&peer, 0, "alice", -25);
    settle_tokens(&peer, 0, "alice", 0);
    sp_redis_store_settle_key(peer.store, SP_SPAN("first:{s=alice}:t"), -7);
    sp_redis_store_give_back(peer.store, &peer.scene.limit[0], SP_LIMIT_TOKENS, &alice, 10, 1);
    assert_true(sp_redis_store_settled(peer.store));
    assert_int_equal(peer_state(&peer).settlements_dropped, 3);
    configure_redis(&peer.scene.redis);
    settle_tokens(&peer, 0, "alice", -1); /* and it is not paid when there is a Redis again */
    settle_all();
    assert_int_equal(alices(), BURST - 1);
}

static void what_is_owed_when_redis_is_configured_away_is_lost_and_counted(void **state) {
    settle_tokens(&peer, 0, "alice", -25);
    settle_tokens(&peer, 1, "alice", -25);
    configure_redis(NULL);
    assert_true(sp_redis_store_settled(peer.store));
    assert_int_equal(peer_state(&peer).settlements_dropped, 2);
}

/* ---- Asks whose answers nobody waits for ---- */

/* Takes 100 tokens and leases 50, and then does not wait. */
static void leave(bool by_cancelling) {
    struct question question = {0};
    proxy.holds_replies = true;
    question_add(&question, &peer, 0, SP_LIMIT_TOKENS, 100, 50);
    question.ask.due_us = by_cancelling ? 0 : sp_clock_us() + 1;
    assert_int_equal(question_send(&question, &peer, "alice"), 0);
    PUMP_UNTIL(&peer, &proxy, alices() == BURST - 150);
    if (by_cancelling)
        sp_redis_store_cancel(peer.store, &question.ask);
    else
        PUMP_UNTIL(&peer, &proxy, question.told);
    assert_int_equal(question.told, !by_cancelling);
    assert_false(question.in_time);
    memset(&question, 0xff, sizeof question); /* its memory is somebody else's now */
    proxy.holds_replies = false;
    PUMP_UNTIL(&peer, &proxy, alices() == BURST);
    settle_all();
    assert_int_equal(alices(), BURST);
}
static void what_a_late_answer_took_goes_back(void **state) { leave(false); }
static void what_a_cancelled_ask_took_goes_back(void **state) { leave(true); }

static void a_store_freed_with_all_under_way_leaves_nothing_behind(void **state) {
    struct question question = {0};
    proxy.holds_replies = true;
    settle_tokens(&peer, 0, "alice", -25);
    settle_tokens(&peer, 1, "alice", -25);
    question_add(&question, &peer, 0, SP_LIMIT_TOKENS, 100, 50);
    assert_int_equal(question_send(&question, &peer, "alice"), 0);
    assert_false(sp_redis_store_settled(peer.store));
    settle_tokens(&peer, 0, "alice", -1);
    sp_redis_store_free(sp_take(peer.store));
    (void)sp_loop_turn(peer.loop, 0);
    assert_int_equal(question.told, 0);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_owed_to_many_buckets_at_one_time_is_a_few_commands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cancels_out_is_not_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bucket_that_is_asked_about_is_settled_along, set_up, tear_down),
        cmocka_unit_test_setup_teardown(at_the_end_of_a_process_everything_leaves_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_overrun_becomes_debt_and_payment_back_ends_at_the_burst, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_are_given_back_less_by_what_has_accrued, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bucket_known_by_its_key_is_settled_under_its_limit_or_where_it_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_settlement_whose_reply_is_lost_counts_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_settlement_that_never_arrived_is_repeated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_settlement_that_arrives_after_its_repetition_counts_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_redis_that_nobody_asks_is_found_out_to_be_frozen_and_paid_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_buckets_than_can_be_kept_are_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(debits_less_refunds_are_what_was_settled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_owed_after_redis_was_configured_away_is_lost_and_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_owed_when_redis_is_configured_away_is_lost_and_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_late_answer_took_goes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_cancelled_ask_took_goes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_store_freed_with_all_under_way_leaves_nothing_behind, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
