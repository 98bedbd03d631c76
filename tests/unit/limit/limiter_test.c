/* The limiter with this machine's buckets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "judge.h"
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
    if (sp_loop_new(&stage->loop) < 0 || sp_limiter_new(stage->loop, stage->segment, &hash_key, 0, &stage->limiter) < 0 ||
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
    struct sp_limit_levels levels;
    sp_limiter_levels(stage->limiter, &stage->scene.limit[limit], &facts, &levels);
    return levels.bucket[SP_LIMIT_REQUESTS].present ? (uint64_t)levels.bucket[SP_LIMIT_REQUESTS].level : UINT64_MAX;
}

static void a_burst_is_admitted_and_then_refused(void **state) {
    struct stage *stage = *state;
    scene_limit(&stage->scene, 0, "first", 60, 60 * SP_MICRO, 3);
    reconfigure(stage);
    for (uint64_t left = 3; left-- > 0;) {
        struct sp_limit_decision decision = decide(stage, "alice", "0");
        assert_true(decision.admitted);
        assert_ptr_equal(decision.shown[SP_LIMIT_REQUESTS].limit, &stage->scene.limit[0]);
        assert_int_equal(decision.shown[SP_LIMIT_REQUESTS].burst, 3);
        assert_int_equal(decision.shown[SP_LIMIT_REQUESTS].remaining, left);
    }
    struct sp_limit_decision decision = decide(stage, "alice", "0");
    assert_false(decision.admitted);
    assert_ptr_equal(decision.refused_by, &stage->scene.limit[0]);
    assert_in_range(decision.retry_after_ms, 1, 1000);
    assert_in_range(decision.shown[SP_LIMIT_REQUESTS].reset_ms, 2000, 3000);
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
        assert_ptr_equal(decision.shown[SP_LIMIT_REQUESTS].limit, &stage->scene.limit[0]);
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
        assert_int_equal(asked.request.decision.shown[SP_LIMIT_REQUESTS].remaining, 1);
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
    assert_null(decision.shown[SP_LIMIT_REQUESTS].limit);
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
    assert_int_equal(asked.request.decision.shown[SP_LIMIT_REQUESTS].burst, 5);
    assert_int_equal(asked.request.decision.shown[SP_LIMIT_REQUESTS].remaining, 4);
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
    assert_int_equal(sp_limiter_new(stage->loop, stage->segment, &hash_key, 1, &other), 0);
    assert_int_equal(sp_limiter_configure(other, &stage->scene.config, NULL), 0);
    assert_true(decide(stage, "alice", "0").admitted);
    struct asked asked;
    ask_for(&asked, &stage->scene, "alice", "0");
    assert_int_equal(sp_limiter_admit(other, &asked.request), SP_LIMIT_DECIDED);
    assert_int_equal(asked.request.decision.shown[SP_LIMIT_REQUESTS].remaining, 998);
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

static void what_is_not_pending_may_be_finished_more_than_once(void **state) {
    struct stage *stage = *state;
    struct asked asked;
    ask_for(&asked, &stage->scene, "alice", "0");
    sp_limiter_finish(stage->limiter, &asked.request, 0);
    assert_int_equal(sp_limiter_admit(stage->limiter, &asked.request), SP_LIMIT_DECIDED);
    sp_limiter_finish(stage->limiter, &asked.request, 0);
}

/* ---- Tokens ---- */

static void limit_tokens(struct stage *stage, size_t i, uint64_t burst) {
    stage->scene.limit[i].tokens = (struct sp_rate){1, 1000 * SP_MICRO};
    stage->scene.limit[i].token_burst = burst;
}

static int64_t tokens_left(struct stage *stage, const char *subject, size_t limit) {
    struct sp_limit_facts facts = {.subject = sp_span_text(subject)};
    struct sp_limit_levels levels;
    sp_limiter_levels(stage->limiter, &stage->scene.limit[limit], &facts, &levels);
    return levels.bucket[SP_LIMIT_TOKENS].level;
}

static bool reserve(struct stage *stage, struct asked *asked, const char *limits, uint64_t tokens) {
    ask_for(asked, &stage->scene, "alice", limits);
    asked->request.tokens = tokens;
    assert_int_equal(sp_limiter_admit(stage->limiter, &asked->request), SP_LIMIT_DECIDED);
    return asked->request.decision.admitted;
}

static void what_was_reserved_and_not_used_is_paid_back_once(void **state) {
    struct stage *stage = *state;
    struct asked asked;
    limit_tokens(stage, 0, 1000);
    reconfigure(stage);
    assert_true(reserve(stage, &asked, "0", 600));
    assert_int_equal(asked.request.tokens_held, 600);
    assert_ptr_equal(asked.request.decision.shown[SP_LIMIT_TOKENS].limit, &stage->scene.limit[0]);
    assert_int_equal(asked.request.decision.shown[SP_LIMIT_TOKENS].remaining, 400);
    assert_int_equal(asked.request.decision.shown[SP_LIMIT_REQUESTS].remaining, 999);
    sp_limiter_finish(stage->limiter, &asked.request, 150);
    assert_int_equal(tokens_left(stage, "alice", 0), 850);
    sp_limiter_finish(stage->limiter, &asked.request, 0);
    assert_int_equal(tokens_left(stage, "alice", 0), 850);
    assert_int_equal(remaining(stage, "alice", 0), 999);
}

static void what_was_used_beyond_the_reservation_becomes_debt(void **state) {
    struct stage *stage = *state;
    struct asked asked;
    limit_tokens(stage, 0, 1000);
    reconfigure(stage);
    assert_true(reserve(stage, &asked, "0", 900));
    sp_limiter_finish(stage->limiter, &asked.request, 1500);
    assert_int_equal(tokens_left(stage, "alice", 0), -500);
    assert_false(reserve(stage, &asked, "0", 1));
    assert_int_equal(asked.request.decision.refused_kind, SP_LIMIT_TOKENS);
    assert_in_range(asked.request.decision.retry_after_ms, UINT64_C(500) * 1000 * 1000, UINT64_C(501) * 1000 * 1000);
    sp_limiter_finish(stage->limiter, &asked.request, 0); /* refused: nothing to settle */
    assert_int_equal(tokens_left(stage, "alice", 0), -500);
}

static void a_reservation_larger_than_the_burst_is_refused_with_both_numbers(void **state) {
    struct stage *stage = *state;
    struct asked asked;
    limit_tokens(stage, 0, 1000);
    reconfigure(stage);
    assert_false(reserve(stage, &asked, "0", 1001));
    assert_true(asked.request.decision.never);
    assert_int_equal(asked.request.decision.asked, 1001);
    assert_int_equal(asked.request.decision.most, 1000);
    assert_int_equal(remaining(stage, "alice", 0), UINT64_MAX); /* nothing was taken from requests */
}

static void requests_and_tokens_of_several_limits_are_taken_together_or_not_at_all(void **state) {
    struct stage *stage = *state;
    struct asked asked;
    limit_tokens(stage, 0, 5000);
    limit_tokens(stage, 1, 1000);
    stage->scene.limit[2].requests.amount = 0; /* a limit on tokens alone */
    limit_tokens(stage, 2, 5000);
    reconfigure(stage);
    assert_true(reserve(stage, &asked, "012", 800));
    for (int i = 0; i < 3; i++) {
        assert_false(reserve(stage, &asked, "012", 300));
        assert_ptr_equal(asked.request.decision.refused_by, &stage->scene.limit[1]);
    }
    assert_int_equal(remaining(stage, "alice", 0), 999);
    assert_int_equal(tokens_left(stage, "alice", 0), 4200);
    assert_int_equal(tokens_left(stage, "alice", 1), 200);
    assert_int_equal(tokens_left(stage, "alice", 2), 4200);
    /* Who is about no tokens is asked about none. */
    assert_true(reserve(stage, &asked, "012", 0));
    assert_int_equal(asked.request.tokens_held, 0);
    sp_limiter_finish(stage->limiter, &asked.request, 100);
    assert_int_equal(tokens_left(stage, "alice", 1), 200);
}

static void debits_less_refunds_are_what_was_used_in_whatever_order(void **state) {
    struct stage *stage = *state;
    static struct asked asked[100];
    uint64_t seed = 8;
    int64_t used = 0;
    limit_tokens(stage, 0, 500000);
    limit_tokens(stage, 1, 500000);
    reconfigure(stage);
    for (int i = 0; i < 3000; i++) {
        struct asked *one = &asked[dice_below(&seed, SP_COUNT(asked))];
        if (one->request.tokens_held) {
            uint64_t tokens = dice_below(&seed, one->request.tokens_held * 3 / 2);
            if (dice_below(&seed, 3) == 0)
                tokens = 0; /* left before anything came */
            sp_limiter_finish(stage->limiter, &one->request, tokens);
            used += (int64_t)tokens;
        } else {
            stage->scene.limit[0].requests.amount = stage->scene.limit[1].requests.amount = 0;
            assert_true(reserve(stage, one, "01", 1 + dice_below(&seed, 400)));
        }
    }
    for (size_t i = 0; i < SP_COUNT(asked); i++) {
        used += asked[i].request.tokens_held ? 7 : 0;
        sp_limiter_finish(stage->limiter, &asked[i].request, 7);
    }
    assert_true(used > 100000);
    assert_int_equal(tokens_left(stage, "alice", 0), 500000 - used);
    assert_int_equal(tokens_left(stage, "alice", 1), 500000 - used);
}

/* ---- Places ---- */

static bool enter(struct stage *stage, struct sp_limiter *limiter, struct asked *asked, const char *limits) {
    ask_for(asked, &stage->scene, "alice", limits);
    asked->request.stays = true;
    assert_int_equal(sp_limiter_admit(limiter, &asked->request), SP_LIMIT_DECIDED);
    return asked->request.decision.admitted;
}

static uint64_t places_used(struct stage *stage, size_t limit) {
    struct sp_limit_facts facts = {.subject = SP_SPAN("alice")};
    struct sp_limit_levels levels;
    sp_limiter_levels(stage->limiter, &stage->scene.limit[limit], &facts, &levels);
    return levels.places_used;
}

static void as_many_are_let_in_at_one_time_as_there_are_places(void **state) {
    struct stage *stage = *state;
    struct asked asked[3];
    stage->scene.limit[0].requests.amount = 0;
    stage->scene.limit[0].concurrency = 2;
    reconfigure(stage);
    assert_true(enter(stage, stage->limiter, &asked[0], "0"));
    assert_true(enter(stage, stage->limiter, &asked[1], "0"));
    assert_false(enter(stage, stage->limiter, &asked[2], "0"));
    assert_int_equal(asked[2].request.decision.refused_kind, SP_LIMIT_CONCURRENCY);
    assert_ptr_equal(asked[2].request.decision.refused_by, &stage->scene.limit[0]);
    assert_int_equal(asked[2].request.decision.most, 2);
    assert_int_equal(asked[2].request.decision.retry_after_ms, 1000);
    sp_limiter_finish(stage->limiter, &asked[2].request, 0);
    sp_limiter_finish(stage->limiter, &asked[0].request, 0);
    sp_limiter_finish(stage->limiter, &asked[0].request, 0); /* once */
    assert_int_equal(places_used(stage, 0), 1);
    assert_true(enter(stage, stage->limiter, &asked[2], "0"));
    sp_limiter_finish(stage->limiter, &asked[1].request, 0);
    sp_limiter_finish(stage->limiter, &asked[2].request, 0);
    assert_int_equal(places_used(stage, 0), 0);
}

static void who_does_not_stay_needs_no_place(void **state) {
    struct stage *stage = *state;
    stage->scene.limit[0].concurrency = 1;
    reconfigure(stage);
    for (int i = 0; i < 5; i++)
        assert_true(decide(stage, "alice", "0").admitted);
    assert_int_equal(places_used(stage, 0), 0);
}

static void a_request_that_is_refused_keeps_no_place_and_one_without_a_place_takes_no_token(void **state) {
    struct stage *stage = *state;
    struct asked asked[2];
    stage->scene.limit[0].concurrency = 1;
    scene_limit(&stage->scene, 1, "second", 1, 3600 * SP_MICRO, 1);
    reconfigure(stage);
    assert_true(enter(stage, stage->limiter, &asked[0], "1"));
    assert_false(enter(stage, stage->limiter, &asked[1], "01"));
    assert_int_equal(asked[1].request.decision.refused_kind, SP_LIMIT_REQUESTS);
    assert_int_equal(places_used(stage, 0), 0);
    assert_true(enter(stage, stage->limiter, &asked[0], "02"));
    assert_false(enter(stage, stage->limiter, &asked[1], "02"));
    assert_int_equal(remaining(stage, "alice", 2), 999);
    sp_limiter_finish(stage->limiter, &asked[0].request, 0);
}

static void a_shadow_limit_on_places_refuses_nobody(void **state) {
    struct stage *stage = *state;
    struct asked asked[2];
    stage->scene.limit[0].concurrency = 1;
    stage->scene.limit[0].shadow = true;
    reconfigure(stage);
    assert_true(enter(stage, stage->limiter, &asked[0], "01"));
    assert_null(asked[0].request.decision.shadow_refused);
    assert_true(enter(stage, stage->limiter, &asked[1], "01"));
    assert_ptr_equal(asked[1].request.decision.shadow_refused, &stage->scene.limit[0]);
    sp_limiter_finish(stage->limiter, &asked[1].request, 0);
    assert_int_equal(places_used(stage, 0), 1);
    sp_limiter_finish(stage->limiter, &asked[0].request, 0);
    assert_int_equal(places_used(stage, 0), 0);
}

/* ---- Killed ---- */

static void what_a_killed_worker_held_is_settled_by_its_successor(void **state) {
    struct stage *stage = *state;
    limit_tokens(stage, 0, 10000);
    stage->scene.limit[0].concurrency = 5;
    reconfigure(stage);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct sp_limiter *worker;
        struct asked asked[3];
        bool ok = sp_limiter_new(stage->loop, stage->segment, &hash_key, 3, &worker) == 0 &&
                  sp_limiter_configure(worker, &stage->scene.config, NULL) == 0;
        for (size_t i = 0; ok && i < 3; i++) {
            ask_for(&asked[i], &stage->scene, "alice", "0");
            asked[i].request.stays = true;
            asked[i].request.tokens = 1000;
            ok = sp_limiter_admit(worker, &asked[i].request) == SP_LIMIT_DECIDED && asked[i].request.decision.admitted;
        }
        sp_limiter_progress(worker, &asked[0].request, 400);
        sp_limiter_progress(worker, &asked[1].request, 1300);
        sp_limiter_finish(worker, &asked[2].request, 50);
        if (!ok || write(ready[1], "!", 1) != 1)
            _exit(1);
        pause();
        _exit(1);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(tokens_left(stage, "alice", 0), 10000 - 2000 - 50);
    assert_int_equal(places_used(stage, 0), 2);
    struct sp_limiter *successor;
    assert_int_equal(sp_limiter_new(stage->loop, stage->segment, &hash_key, 3, &successor), 0);
    assert_int_equal(sp_limiter_configure(successor, &stage->scene.config, NULL), 0);
    assert_int_equal(tokens_left(stage, "alice", 0), 10000 - 400 - 1300 - 50);
    assert_int_equal(places_used(stage, 0), 0);
    struct sp_limiter_state told;
    sp_limiter_state(successor, &told);
    assert_int_equal(told.recovered, 2);
    sp_limiter_free(successor);
    close(ready[0]);
    close(ready[1]);
}

/* A worker of its own each time, killed at any instant; what it had been told is settled is settled. */
static void after_kills_no_place_and_no_reserved_token_is_left_over(void **state) {
    struct stage *stage = *state;
    struct {
        uint64_t rounds;
    } *seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    stage->scene.limit[0].requests.amount = 0;
    limit_tokens(stage, 0, 400000);
    stage->scene.limit[0].concurrency = 1000000;
    reconfigure(stage);
    uint64_t kills = 40;
    for (uint64_t i = 0; i < kills; i++) {
        uint64_t before = __atomic_load_n(&seen->rounds, __ATOMIC_SEQ_CST);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct sp_limiter *worker;
            static struct asked asked[64];
            if (sp_limiter_new(stage->loop, stage->segment, &hash_key, 3, &worker) < 0 ||
                sp_limiter_configure(worker, &stage->scene.config, NULL) < 0)
                _exit(1);
            for (uint64_t at = 0;; at++) {
                struct asked *one = &asked[at % SP_COUNT(asked)];
                sp_limiter_finish(worker, &one->request, 0);
                ask_for(one, &stage->scene, "alice", "0");
                one->request.stays = true;
                one->request.tokens = 1000;
                if (sp_limiter_admit(worker, &one->request) != SP_LIMIT_DECIDED || !one->request.decision.admitted)
                    _exit(1);
                __atomic_add_fetch(&seen->rounds, 1, __ATOMIC_SEQ_CST);
            }
        }
        while (__atomic_load_n(&seen->rounds, __ATOMIC_SEQ_CST) < before + 200 + 13 * i)
            ;
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    }
    struct sp_limiter *successor;
    assert_int_equal(sp_limiter_new(stage->loop, stage->segment, &hash_key, 3, &successor), 0);
    assert_int_equal(sp_limiter_configure(successor, &stage->scene.config, NULL), 0);
    /* What a worker was taking, or giving back, at the very instant of its death is not in its records: it stays spent. */
    assert_in_range(400000 - tokens_left(stage, "alice", 0), 0, kills * 1000);
    assert_in_range(places_used(stage, 0), 0, kills);
    sp_limiter_free(successor);
    munmap(seen, 4096);
}

static void levels_say_what_is_there_and_take_nothing(void **state) {
    struct stage *stage = *state;
    struct sp_limit_facts facts = {.subject = SP_SPAN("alice")};
    struct sp_limit_levels levels;
    struct asked asked;
    limit_tokens(stage, 0, 1000);
    stage->scene.limit[0].concurrency = 3;
    reconfigure(stage);
    sp_limiter_levels(stage->limiter, &stage->scene.limit[0], &facts, &levels);
    assert_false(levels.bucket[SP_LIMIT_TOKENS].present);
    assert_int_equal(levels.bucket[SP_LIMIT_TOKENS].level, 1000);
    assert_int_equal(levels.bucket[SP_LIMIT_TOKENS].burst, 1000);
    assert_true(reserve(stage, &asked, "0", 10));
    sp_limiter_levels(stage->limiter, &stage->scene.limit[0], &facts, &levels);
    assert_true(levels.bucket[SP_LIMIT_TOKENS].present);
    assert_int_equal(levels.bucket[SP_LIMIT_TOKENS].level, 990);
    assert_int_equal(levels.bucket[SP_LIMIT_REQUESTS].level, 999);
    assert_int_equal(levels.places_used, 0);
    assert_int_equal(levels.places_had, 0);
    sp_limiter_finish(stage->limiter, &asked.request, 10);
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
        cmocka_unit_test_setup_teardown(what_is_not_pending_may_be_finished_more_than_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_reserved_and_not_used_is_paid_back_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_used_beyond_the_reservation_becomes_debt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reservation_larger_than_the_burst_is_refused_with_both_numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_and_tokens_of_several_limits_are_taken_together_or_not_at_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(debits_less_refunds_are_what_was_used_in_whatever_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(as_many_are_let_in_at_one_time_as_there_are_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_does_not_stay_needs_no_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_that_is_refused_keeps_no_place_and_one_without_a_place_takes_no_token, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_shadow_limit_on_places_refuses_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_killed_worker_held_is_settled_by_its_successor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_kills_no_place_and_no_reserved_token_is_left_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(levels_say_what_is_there_and_take_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
