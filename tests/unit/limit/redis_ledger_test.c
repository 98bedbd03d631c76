/* What is owed to buckets in Redis, summed up and numbered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redis_ledger.h"

static struct sp_ledger ledger;
static const struct sp_redis_policy policy = {.ratio = {1, 1}, .burst = 10, .revision = 5};
#define ALICE SP_SPAN("per-caller:{s=alice}:t")

static int set_up(void **state) {
    sp_ledger_init(&ledger);
    return 0;
}
static int tear_down(void **state) {
    sp_ledger_free(&ledger);
    return 0;
}

static struct sp_redis_payment begin(struct sp_span key, uint64_t now_us) {
    struct sp_redis_payment payment;
    struct sp_owed *owed = sp_ledger_find(&ledger, key);
    assert_non_null(owed);
    assert_true(sp_ledger_begin(&ledger, owed, now_us, &payment));
    return payment;
}
static struct sp_owed *alice(void) {
    struct sp_map_node *node = sp_map_first(&ledger.map, sp_hash_span(&ledger.hash_key, ALICE));
    return node ? SP_CONTAINER(node, struct sp_owed, map_node) : NULL;
}

static void what_is_owed_while_one_is_under_way_is_another(void **state) {
    sp_ledger_owe(&ledger, ALICE, &policy, -5, 0);
    sp_ledger_owe(&ledger, ALICE, &policy, 2, 0);
    struct sp_redis_payment first = begin(ALICE, 1);
    assert_int_equal(first.delta, -3);
    assert_null(sp_ledger_find(&ledger, ALICE));
    sp_ledger_owe(&ledger, ALICE, &policy, -40, 0);
    sp_ledger_paid(&ledger, alice());
    struct sp_redis_payment second = begin(ALICE, 1);
    assert_int_equal(second.delta, -40);
    assert_true(second.sequence > first.sequence);
    sp_ledger_paid(&ledger, alice());
    assert_true(sp_ledger_is_empty(&ledger));
}

static void what_may_not_have_arrived_is_repeated_as_it_was(void **state) {
    sp_ledger_owe(&ledger, ALICE, &policy, -5, 0);
    struct sp_redis_payment first = begin(ALICE, 1);
    assert_false(first.again);
    sp_ledger_owe(&ledger, ALICE, &policy, -40, 0);
    sp_ledger_unsure(&ledger, alice());
    struct sp_redis_payment repeated = begin(ALICE, 2);
    assert_true(repeated.again);
    assert_int_equal(repeated.delta, first.delta);
    assert_int_equal(repeated.sequence, first.sequence);
    sp_ledger_paid(&ledger, alice());
    assert_int_equal(begin(ALICE, 3).delta, -40);
}

static void what_did_not_leave_keeps_its_number_and_is_no_repetition(void **state) {
    sp_ledger_owe(&ledger, ALICE, &policy, -5, 0);
    struct sp_redis_payment first = begin(ALICE, 1);
    sp_ledger_put_off(&ledger, alice());
    struct sp_redis_payment next = begin(ALICE, 2);
    assert_int_equal(next.sequence, first.sequence);
    assert_false(next.again);
}

static void after_five_minutes_nobody_repeats_what_may_have_arrived(void **state) {
    struct sp_redis_payment payment;
    sp_ledger_owe(&ledger, ALICE, &policy, -5, 0);
    (void)begin(ALICE, 1000);
    sp_ledger_unsure(&ledger, alice());
    (void)begin(ALICE, 1000 + SP_SETTLE_REPEAT_MS * UINT64_C(1000));
    sp_ledger_owe(&ledger, ALICE, &policy, -40, 0);
    sp_ledger_unsure(&ledger, alice());
    assert_int_equal(ledger.lost, 0);
    assert_int_equal(begin(ALICE, 1001 + SP_SETTLE_REPEAT_MS * UINT64_C(1000)).delta, -40); /* that was never sent */
    assert_int_equal(ledger.lost, 1);
    sp_ledger_unsure(&ledger, alice());
    assert_false(sp_ledger_begin(&ledger, alice(), 1002 + 2 * SP_SETTLE_REPEAT_MS * UINT64_C(1000), &payment));
    assert_int_equal(ledger.lost, 2);
    assert_true(sp_ledger_is_empty(&ledger));
}

static void the_earliest_instant_counts_for_all_that_is_given_back(void **state) {
    sp_ledger_owe(&ledger, ALICE, &policy, 5, 700);
    sp_ledger_owe(&ledger, ALICE, &policy, 5, 300);
    sp_ledger_owe(&ledger, ALICE, &policy, 5, 900);
    assert_int_equal(begin(ALICE, 1).at_us, 300);
    sp_ledger_owe(&ledger, ALICE, &policy, -5, 0);
    sp_ledger_paid(&ledger, alice());
    assert_int_equal(begin(ALICE, 1).at_us, 0);
}

static void more_than_one_settlement_can_say_is_said_in_several(void **state) {
    int64_t sum = 0;
    for (int i = 0; i < 3; i++)
        sp_ledger_owe(&ledger, ALICE, &policy, -(int64_t)SP_REDIS_BURST_MAX, 0);
    while (!sp_ledger_is_empty(&ledger)) {
        struct sp_redis_payment payment = begin(ALICE, 1);
        assert_true(payment.delta >= -(int64_t)SP_REDIS_BURST_MAX);
        sum += payment.delta;
        sp_ledger_paid(&ledger, alice());
    }
    assert_int_equal(sum, -3 * (int64_t)SP_REDIS_BURST_MAX);
    sp_ledger_owe(&ledger, ALICE, &policy, INT64_MIN, 0);
    sp_ledger_owe(&ledger, ALICE, &policy, INT64_MIN, 0); /* saturates */
    assert_int_equal(begin(ALICE, 1).delta, -(int64_t)SP_REDIS_BURST_MAX);
}

static void the_newest_policy_is_sent(void **state) {
    struct sp_redis_policy unknown = {.ratio = {0, 1}}, older = {{3, 1}, 3, 4}, newer = {{2, 1}, 2, 6};
    sp_ledger_owe(&ledger, ALICE, &unknown, 1, 0);
    sp_ledger_owe(&ledger, ALICE, &policy, 1, 0);
    sp_ledger_owe(&ledger, ALICE, &older, 1, 0);
    assert_int_equal(alice()->policy.burst, 10);
    sp_ledger_owe(&ledger, ALICE, &newer, 1, 0);
    sp_ledger_owe(&ledger, ALICE, &unknown, 1, 0);
    assert_int_equal(alice()->policy.burst, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_owed_while_one_is_under_way_is_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_may_not_have_arrived_is_repeated_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_did_not_leave_keeps_its_number_and_is_no_repetition, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_five_minutes_nobody_repeats_what_may_have_arrived, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_earliest_instant_counts_for_all_that_is_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_than_one_settlement_can_say_is_said_in_several, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_newest_policy_is_sent, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
