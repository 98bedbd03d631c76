/* The limiter with this machine's buckets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scene.h"

static const struct sp_hash_key hash_key = {5, 6};

struct stage {
    struct sp_loop *loop;
    void *segment;
    struct sp_limiter *limiter;
    struct scene_config scene;
};

static int set_up(void **state) {
    struct stage *stage = calloc(1, sizeof *stage);
    stage->segment = segment_new();
    scene_config(&stage->scene, 1);
    if (sp_loop_new(&stage->loop) < 0 || sp_limiter_new(stage->loop, stage->segment, &hash_key, &stage->limiter) < 0 ||
        sp_limiter_configure(stage->limiter, &stage->scene.config, NULL) < 0)
        return -1;
    *state = stage;
    return 0;
}
static int tear_down(void **state) {
    struct stage *stage = *state;
    sp_limiter_free(stage->limiter);
    sp_loop_free(stage->loop);
    segment_free(stage->segment);
    int leaked = stage->scene.config.refs != 1;
    free(stage);
    return leaked;
}

static struct sp_limit_decision decide(struct stage *stage, const char *subject, const char *limits) {
    struct asked asked;
    ask_for(&asked, &stage->scene, subject, limits);
    assert_int_equal(sp_limiter_admit(stage->limiter, &asked.request), SP_LIMIT_DECIDED);
    assert_int_equal(asked.told, 0);
    assert_false(asked.request.decision.degraded);
    return asked.request.decision;
}

static void reconfigure(struct stage *stage) {
    stage->scene.config.generation++;
    assert_int_equal(sp_limiter_configure(stage->limiter, &stage->scene.config, NULL), 0);
}

static uint64_t remaining(struct stage *stage, const char *subject, size_t limit) {
    struct sp_limit_facts facts = {.subject = sp_span_text(subject)};
    struct sp_bucket_answer answer;
    if (!sp_limiter_peek_local(stage->limiter, &stage->scene.limit[limit], &facts, &answer))
        return UINT64_MAX;
    return answer.remaining;
}

static void a_burst_is_admitted_and_then_refused(void **state) {
    struct stage *stage = *state;
    scene_limit(&stage->scene, 0, "first", 60, 60 * SP_MICRO, 3);
    reconfigure(stage);
    for (uint64_t left = 3; left-- > 0;) {
        struct sp_limit_decision decision = decide(stage, "alice", "0");
        assert_true(decision.admitted);
        assert_ptr_equal(decision.shown, &stage->scene.limit[0]);
        assert_int_equal(decision.limit, 3);
        assert_int_equal(decision.remaining, left);
    }
    struct sp_limit_decision decision = decide(stage, "alice", "0");
    assert_false(decision.admitted);
    assert_ptr_equal(decision.refused_by, &stage->scene.limit[0]);
    assert_in_range(decision.retry_after_ms, 1, 1000);
    assert_in_range(decision.reset_ms, 2000, 3000);
    assert_true(decide(stage, "bob", "0").admitted);
}

static void several_limits_are_taken_together_or_not_at_all(void **state) {
    struct stage *stage = *state;
    scene_limit(&stage->scene, 1, "second", 1, 3600 * SP_MICRO, 2);
    reconfigure(stage);
    assert_true(decide(stage, "alice", "012").admitted);
    assert_true(decide(stage, "alice", "012").admitted);
    for (int i = 0; i < 5; i++) {
        struct sp_limit_decision decision = decide(stage, "alice", "012");
        assert_false(decision.admitted);
        assert_ptr_equal(decision.refused_by, &stage->scene.limit[1]);
    }
    assert_int_equal(remaining(stage, "alice", 0), 998);
    assert_int_equal(remaining(stage, "alice", 1), 0);
    assert_int_equal(remaining(stage, "alice", 2), 998);
}

static void a_shadow_limit_counts_and_refuses_nobody(void **state) {
    struct stage *stage = *state;
    scene_limit(&stage->scene, 1, "second", 1, 3600 * SP_MICRO, 2);
    stage->scene.limit[1].shadow = true;
    reconfigure(stage);
    for (int i = 0; i < 4; i++) {
        struct sp_limit_decision decision = decide(stage, "alice", "01");
        assert_true(decision.admitted);
        assert_ptr_equal(decision.shadow_refused, i < 2 ? NULL : &stage->scene.limit[1]);
        assert_ptr_equal(decision.shown, &stage->scene.limit[0]);
    }
    assert_int_equal(remaining(stage, "alice", 0), 996);
    assert_true(decide(stage, "alice", "1").admitted); /* alone too */
}

static void a_refused_request_charges_no_shadow_limit_either(void **state) {
    struct stage *stage = *state;
    scene_limit(&stage->scene, 1, "second", 1, 3600 * SP_MICRO, 1);
    stage->scene.limit[0].shadow = true;
    reconfigure(stage);
    assert_true(decide(stage, "alice", "01").admitted);
    assert_false(decide(stage, "alice", "01").admitted);
    assert_int_equal(remaining(stage, "alice", 0), 999);
}

static void a_cost_larger_than_the_burst_can_never_be_admitted(void **state) {
    struct stage *stage = *state;
    struct asked asked;
    ask_for(&asked, &stage->scene, "alice", "0");
    asked.request.cost = 1001;
    assert_int_equal(sp_limiter_admit(stage->limiter, &asked.request), SP_LIMIT_DECIDED);
    assert_true(asked.request.decision.never);
    assert_false(asked.request.decision.admitted);
}

static void a_look_answers_as_a_take_would_and_takes_nothing(void **state) {
    struct stage *stage = *state;
    struct asked asked;
    scene_limit(&stage->scene, 0, "first", 1, 3600 * SP_MICRO, 1);
    reconfigure(stage);
    for (int i = 0; i < 3; i++) {
        ask_for(&asked, &stage->scene, "alice", "01");
        asked.request.peek = true;
        assert_int_equal(sp_limiter_admit(stage->limiter, &asked.request), SP_LIMIT_DECIDED);
        assert_true(asked.request.decision.admitted);
        assert_int_equal(asked.request.decision.remaining, 1);
    }
    assert_true(decide(stage, "alice", "0").admitted);
    ask_for(&asked, &stage->scene, "alice", "0");
    asked.request.peek = true;
    assert_int_equal(sp_limiter_admit(stage->limiter, &asked.request), SP_LIMIT_DECIDED);
    assert_false(asked.request.decision.admitted);
    assert_true(asked.request.decision.retry_after_ms > 0);
}

static void without_request_limits_everything_is_admitted(void **state) {
    struct stage *stage = *state;
    assert_true(decide(stage, "alice", "").admitted);
    stage->scene.limit[0].requests = (struct sp_rate){0, 0}; /* counts something else */
    struct sp_limit_decision decision = decide(stage, "alice", "0");
    assert_true(decision.admitted);
    assert_null(decision.shown);
}

static void a_reload_keeps_levels_and_a_request_of_the_older_snapshot_follows_the_newer_policy(void **state) {
    struct stage *stage = *state;
    struct scene_config older = stage->scene;
    for (int i = 0; i < 10; i++)
        assert_true(decide(stage, "alice", "0").admitted);
    stage->scene.limit[0].request_burst = 2000;
    reconfigure(stage);
    assert_int_equal(remaining(stage, "alice", 0), 990);
    stage->scene.limit[0].request_burst = 5;
    reconfigure(stage);
    struct asked asked;
    ask_for(&asked, &older, "alice", "0");
    assert_int_equal(sp_limiter_admit(stage->limiter, &asked.request), SP_LIMIT_DECIDED);
    assert_int_equal(asked.request.decision.limit, 5);
    assert_int_equal(asked.request.decision.remaining, 4);
}

static void a_limit_from_a_snapshot_never_seen_is_enforced_all_the_same(void **state) {
    struct stage *stage = *state;
    struct scene_config other = stage->scene;
    other.limit[0].slot = 40;
    other.limit[0].request_burst = 1;
    for (int i = 0; i < 2; i++) {
        struct asked asked;
        ask_for(&asked, &other, "alice", "01");
        assert_int_equal(sp_limiter_admit(stage->limiter, &asked.request), SP_LIMIT_DECIDED);
        assert_int_equal(asked.request.decision.admitted, i == 0);
    }
}

static void a_second_worker_sees_the_same_buckets(void **state) {
    struct stage *stage = *state;
    struct sp_limiter *other;
    assert_int_equal(sp_limiter_new(stage->loop, stage->segment, &hash_key, &other), 0);
    assert_int_equal(sp_limiter_configure(other, &stage->scene.config, NULL), 0);
    assert_true(decide(stage, "alice", "0").admitted);
    struct asked asked;
    ask_for(&asked, &stage->scene, "alice", "0");
    assert_int_equal(sp_limiter_admit(other, &asked.request), SP_LIMIT_DECIDED);
    assert_int_equal(asked.request.decision.remaining, 998);
    sp_limiter_free(other);
}

static void a_client_that_obeys_retry_after_succeeds_at_its_next_try(void **state) {
    struct stage *stage = *state;
    scene_limit(&stage->scene, 0, "first", 300, SP_MICRO, 1);
    scene_limit(&stage->scene, 1, "second", 200, SP_MICRO, 1);
    reconfigure(stage);
    int refused = 0;
    for (int i = 0; i < 40; i++) {
        struct sp_limit_decision decision = decide(stage, "alice", "01");
        if (decision.admitted)
            continue;
        refused++;
        uint64_t until = sp_clock_us() + decision.retry_after_ms * 1000;
        while (sp_clock_us() < until)
            ;
        assert_true(decide(stage, "alice", "01").admitted);
    }
    assert_true(refused > 10);
}

static void what_is_not_pending_may_be_cancelled(void **state) {
    struct stage *stage = *state;
    struct asked asked;
    ask_for(&asked, &stage->scene, "alice", "0");
    sp_limiter_cancel(stage->limiter, &asked.request);
    assert_int_equal(sp_limiter_admit(stage->limiter, &asked.request), SP_LIMIT_DECIDED);
    sp_limiter_cancel(stage->limiter, &asked.request);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_burst_is_admitted_and_then_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_limits_are_taken_together_or_not_at_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_shadow_limit_counts_and_refuses_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refused_request_charges_no_shadow_limit_either, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cost_larger_than_the_burst_can_never_be_admitted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_look_answers_as_a_take_would_and_takes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_request_limits_everything_is_admitted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reload_keeps_levels_and_a_request_of_the_older_snapshot_follows_the_newer_policy, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_limit_from_a_snapshot_never_seen_is_enforced_all_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_second_worker_sees_the_same_buckets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_obeys_retry_after_succeeds_at_its_next_try, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_pending_may_be_cancelled, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
