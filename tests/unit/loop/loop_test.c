#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <sallyport/loop.h>

#include "../../../src/loop/wheel.h"

/* ---- The wheel, against the plain truth ---- */

struct timed {
    struct sp_timer timer;
    uint64_t fired_at;
    struct sp_wheel *wheel;
};

static void note(struct sp_timer *timer) {
    struct timed *timed = SP_CONTAINER(timer, struct timed, timer);
    timed->fired_at = timed->wheel->now_ms;
}

static void every_timer_fires_at_its_time_however_far_away(void **state) {
    enum { N = 2000 };
    static struct timed timed[N];
    static struct sp_wheel wheel;
    uint64_t start = 123456789;
    sp_wheel_init(&wheel, start);
    for (int i = 0; i < N; i++) {
        uint64_t after = sp_random_u64_fast() % (UINT64_C(1) << (1 + i % 30));
        timed[i] = (struct timed){.wheel = &wheel, .timer = {.due_ms = start + 1 + after, .active = true, .fire = note}};
        sp_wheel_add(&wheel, &timed[i].timer);
    }
    uint64_t now = start;
    for (;;) {
        int wait = sp_wheel_wait_ms(&wheel, now, -1);
        if (wait < 0)
            break;
        now += (uint64_t)wait;
        sp_wheel_advance(&wheel, now);
    }
    for (int i = 0; i < N; i++) {
        assert_false(timed[i].timer.active);
        assert_true(timed[i].fired_at == timed[i].timer.due_ms);
    }
}

static void a_clock_that_leaps_fires_everything_that_is_due(void **state) {
    static struct timed timed[3];
    static struct sp_wheel wheel;
    uint64_t due[3] = {10, 70000, 5000000};
    sp_wheel_init(&wheel, 0);
    for (int i = 0; i < 3; i++) {
        timed[i] = (struct timed){.wheel = &wheel, .timer = {.due_ms = due[i], .active = true, .fire = note}};
        sp_wheel_add(&wheel, &timed[i].timer);
    }
    sp_wheel_advance(&wheel, 4999999);
    assert_false(timed[0].timer.active);
    assert_false(timed[1].timer.active);
    assert_true(timed[2].timer.active);
    sp_wheel_advance(&wheel, 50000000);
    assert_false(timed[2].timer.active);
}

/* ---- The loop ---- */

struct scene {
    struct sp_loop *loop;
    struct sp_timer timer;
    struct sp_watch a, b;
    struct sp_deferred deferred, later;
    struct sp_turn_end hook;
    int pipes[2][2];
    char order[32];
    uint64_t fired_us;
};

static void add(struct scene *scene, char what) {
    size_t n = strlen(scene->order);
    assert_true(n + 1 < sizeof scene->order);
    scene->order[n] = what;
}

static void timer_fired(struct sp_timer *timer) {
    struct scene *scene = SP_CONTAINER(timer, struct scene, timer);
    scene->fired_us = sp_clock_us();
    add(scene, 't');
    sp_loop_stop(scene->loop);
}

static void a_timer_is_never_early(void **state) {
    struct scene scene = {.timer.fire = timer_fired};
    assert_int_equal(sp_loop_new(&scene.loop), 0);
    for (uint64_t after = 0; after < 12; after++) {
        uint64_t begun = sp_clock_us();
        sp_timer_start(scene.loop, &scene.timer, after);
        assert_int_equal(sp_loop_run(scene.loop), 0);
        assert_true(scene.fired_us - begun >= after * 1000);
        scene.order[0] = 0;
    }
    sp_loop_free(scene.loop);
}

static void a_ready(struct sp_watch *watch, uint32_t events) {
    struct scene *scene = SP_CONTAINER(watch, struct scene, a);
    add(scene, 'a');
    if (scene->b.active)
        sp_watch_stop(scene->loop, &scene->b);
    sp_defer(scene->loop, &scene->deferred);
    sp_defer(scene->loop, &scene->deferred);
    sp_defer_to_next_turn(scene->loop, &scene->later);
    sp_watch_stop(scene->loop, &scene->a);
}

static void b_ready(struct sp_watch *watch, uint32_t events) {
    struct scene *scene = SP_CONTAINER(watch, struct scene, b);
    add(scene, 'b');
    sp_watch_stop(scene->loop, &scene->a);
    sp_watch_stop(scene->loop, &scene->b);
    sp_defer(scene->loop, &scene->deferred);
    sp_defer_to_next_turn(scene->loop, &scene->later);
}

static void deferred_ran(struct sp_deferred *deferred) { add(SP_CONTAINER(deferred, struct scene, deferred), 'd'); }
static void later_ran(struct sp_deferred *deferred) { add(SP_CONTAINER(deferred, struct scene, later), 'l'); }
static void turn_ended(struct sp_turn_end *hook) { add(SP_CONTAINER(hook, struct scene, hook), 'e'); }

static void a_watch_stopped_in_a_turn_is_not_called_in_it_and_frees_come_last(void **state) {
    struct scene scene = {.a.ready = a_ready, .b.ready = b_ready, .deferred.run = deferred_ran, .later.run = later_ran, .hook.run = turn_ended};
    assert_int_equal(sp_loop_new(&scene.loop), 0);
    sp_turn_end_add(scene.loop, &scene.hook);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(scene.pipes[i]), 0);
        assert_int_equal(write(scene.pipes[i][1], "x", 1), 1);
    }
    assert_int_equal(sp_watch_start(scene.loop, &scene.a, scene.pipes[0][0], EPOLLIN), 0);
    assert_int_equal(sp_watch_start(scene.loop, &scene.b, scene.pipes[1][0], EPOLLIN), 0);
    assert_int_equal(sp_loop_turn(scene.loop, 1000), 0);
    assert_true(strcmp(scene.order, "aed") == 0 || strcmp(scene.order, "bed") == 0);
    assert_int_equal(sp_loop_turn(scene.loop, -1), 0); /* does not wait: there is work for this turn */
    assert_string_equal(scene.order + 3, "el");
    for (int i = 0; i < 2; i++) {
        close(scene.pipes[i][0]);
        close(scene.pipes[i][1]);
    }
    sp_loop_free(scene.loop);
}

static void a_cancelled_call_does_not_come(void **state) {
    struct scene scene = {.deferred.run = deferred_ran, .later.run = later_ran};
    assert_int_equal(sp_loop_new(&scene.loop), 0);
    sp_defer(scene.loop, &scene.deferred);
    sp_defer_to_next_turn(scene.loop, &scene.later);
    sp_deferred_cancel(&scene.deferred);
    sp_deferred_cancel(&scene.later);
    assert_int_equal(sp_loop_turn(scene.loop, 0), 0);
    assert_string_equal(scene.order, "");
    sp_defer(scene.loop, &scene.deferred);
    sp_loop_settle(scene.loop);
    assert_string_equal(scene.order, "d");
    sp_loop_free(scene.loop);
}

static void a_stopped_timer_does_not_fire_and_a_restarted_one_fires_once(void **state) {
    struct scene scene = {.timer.fire = timer_fired};
    assert_int_equal(sp_loop_new(&scene.loop), 0);
    sp_timer_start(scene.loop, &scene.timer, 1);
    sp_timer_stop(&scene.timer);
    assert_int_equal(sp_loop_turn(scene.loop, 5), 0);
    assert_string_equal(scene.order, "");
    sp_timer_start(scene.loop, &scene.timer, 500000);
    sp_timer_start(scene.loop, &scene.timer, 2);
    assert_int_equal(sp_loop_run(scene.loop), 0);
    assert_string_equal(scene.order, "t");
    sp_loop_free(scene.loop);
}

/* ---- Work that yields ---- */

struct job {
    struct sp_deferred deferred;
    struct scene *scene;
    char name;
    uint64_t takes_us;
};

static void spend(uint64_t us) {
    uint64_t until = sp_clock_us() + us;
    while (sp_clock_us() < until)
        ;
}

static void job_done(struct sp_deferred *deferred) {
    struct job *job = SP_CONTAINER(deferred, struct job, deferred);
    spend(job->takes_us);
    add(job->scene, job->name);
}

/* However long the turn has been. */
static void all_time_used_up(struct sp_deferred *deferred) {
    struct job *job = SP_CONTAINER(deferred, struct job, deferred);
    spend(SP_YIELDING_US + (sp_clock_us() - sp_loop_now_us(job->scene->loop)));
    add(job->scene, job->name);
}

#define ALL_TIME UINT64_MAX
static void queue_jobs(struct scene *scene, struct job *jobs, size_t n, uint64_t takes_us) {
    for (size_t i = 0; i < n; i++) {
        jobs[i] = (struct job){.deferred.run = takes_us == ALL_TIME ? all_time_used_up : job_done,
                               .scene = scene, .name = (char)('1' + i), .takes_us = takes_us};
        sp_defer_yielding(scene->loop, &jobs[i].deferred);
        sp_defer_yielding(scene->loop, &jobs[i].deferred); /* it is queued already */
    }
}

static void always_ready(struct sp_watch *watch, uint32_t events) { add(SP_CONTAINER(watch, struct scene, a), 'a'); }

static void takes_long(struct sp_watch *watch, uint32_t events) { spend(8 * SP_YIELDING_US); }

/* A scene in which something is always ready to be read. */
static void begin_busy_scene(struct scene *scene) {
    assert_int_equal(sp_loop_new(&scene->loop), 0);
    assert_int_equal(pipe(scene->pipes[0]), 0);
    assert_int_equal(write(scene->pipes[0][1], "x", 1), 1);
    assert_int_equal(sp_watch_start(scene->loop, &scene->a, scene->pipes[0][0], EPOLLIN), 0);
}

static void end_scene(struct scene *scene) {
    sp_watch_stop(scene->loop, &scene->a);
    close(scene->pipes[0][0]);
    close(scene->pipes[0][1]);
    sp_loop_free(scene->loop);
}

static void costly_work_takes_turns_with_everything_else_the_oldest_first(void **state) {
    struct scene scene = {.a.ready = always_ready, .deferred.run = deferred_ran, .hook.run = turn_ended};
    struct job jobs[3];
    begin_busy_scene(&scene);
    sp_turn_end_add(scene.loop, &scene.hook);
    sp_defer(scene.loop, &scene.deferred);
    queue_jobs(&scene, jobs, SP_COUNT(jobs), ALL_TIME);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sp_loop_turn(scene.loop, -1), 0);
    assert_string_equal(scene.order, "aed1e" "ae2e" "ae3e");
    assert_int_equal(sp_loop_turns(scene.loop), 3);
    end_scene(&scene);
}

static void what_costs_little_is_done_in_one_turn(void **state) {
    struct scene scene = {0};
    struct job jobs[5];
    assert_int_equal(sp_loop_new(&scene.loop), 0);
    for (int tries = 0; tries < 100 && strcmp(scene.order, "12345") != 0; tries++) { /* this process may lose the processor in between */
        memset(scene.order, 0, sizeof scene.order);
        queue_jobs(&scene, jobs, SP_COUNT(jobs), 0);
        assert_int_equal(sp_loop_turn(scene.loop, -1), 0);
        while (strlen(scene.order) < SP_COUNT(jobs)) {
            memset(scene.order, 'x', 1); /* not in one turn */
            assert_int_equal(sp_loop_turn(scene.loop, -1), 0);
        }
    }
    assert_string_equal(scene.order, "12345");
    sp_loop_free(scene.loop);
}

static void a_busy_loop_gives_more_time_to_what_yields(void **state) {
    struct scene scene = {.a.ready = takes_long};
    struct job jobs[2];
    bool both = false;
    begin_busy_scene(&scene);
    for (int tries = 0; tries < 100 && !both; tries++) {
        memset(scene.order, 0, sizeof scene.order);
        queue_jobs(&scene, jobs, SP_COUNT(jobs), SP_YIELDING_US);
        assert_int_equal(sp_loop_turn(scene.loop, -1), 0);
        both = strcmp(scene.order, "12") == 0;
        while (strlen(scene.order) < SP_COUNT(jobs))
            assert_int_equal(sp_loop_turn(scene.loop, -1), 0);
    }
    assert_true(both);
    end_scene(&scene);
}

static void work_that_is_cancelled_is_not_done_and_the_rest_is(void **state) {
    struct scene scene = {0};
    struct job jobs[3];
    assert_int_equal(sp_loop_new(&scene.loop), 0);
    queue_jobs(&scene, jobs, SP_COUNT(jobs), ALL_TIME);
    sp_deferred_cancel(&jobs[1].deferred);
    assert_int_equal(sp_loop_turn(scene.loop, 1000), 0);
    assert_int_equal(sp_loop_turn(scene.loop, 1000), 0);
    assert_int_equal(sp_loop_turn(scene.loop, 0), 0);
    assert_string_equal(scene.order, "13");
    sp_loop_free(scene.loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_timer_fires_at_its_time_however_far_away),
        cmocka_unit_test(a_clock_that_leaps_fires_everything_that_is_due),
        cmocka_unit_test(a_timer_is_never_early),
        cmocka_unit_test(a_watch_stopped_in_a_turn_is_not_called_in_it_and_frees_come_last),
        cmocka_unit_test(a_cancelled_call_does_not_come),
        cmocka_unit_test(costly_work_takes_turns_with_everything_else_the_oldest_first),
        cmocka_unit_test(what_costs_little_is_done_in_one_turn),
        cmocka_unit_test(a_busy_loop_gives_more_time_to_what_yields),
        cmocka_unit_test(work_that_is_cancelled_is_not_done_and_the_rest_is),
        cmocka_unit_test(a_stopped_timer_does_not_fire_and_a_restarted_one_fires_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
