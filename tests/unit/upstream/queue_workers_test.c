/* The queues of several workers in front of one pool: one bound, one order, nothing left over. */
#include "queue.h"

#include <errno.h>

#define HIGH   SP_PRIORITY_HIGH
#define NORMAL SP_PRIORITY_NORMAL
#define LOW    SP_PRIORITY_LOW
#define QUEUE  "queue: {depth: 30, timeout: 10m}"

static struct sp_upstreams *neighbour;

static void open_two(struct scene *scene, const char *server, const char *queue) {
    scene_open(scene);
    scene_configure(scene, server, queue);
    check(sp_upstreams_new(scene->loop, scene->other, &neighbour));
    check(sp_upstreams_configure(neighbour, scene->config, NULL));
    queue_order_begin();
}

static unsigned slot_of(const struct scene *scene) { return scene_pool(scene)->slot; }

static void close_two(struct scene *scene) {
    assert_int_equal(sp_traffic_waiting(scene->traffic, slot_of(scene)), 0);
    assert_int_equal(sp_traffic_next_of(scene->traffic, 1, slot_of(scene)), 0);
    assert_int_equal(sp_traffic_next_of(scene->other, 0, slot_of(scene)), 0);
    sp_upstreams_free(neighbour);
    scene_close(scene);
}

static bool come_next_door(struct scene *scene, struct waiter *waiter, char name, const char *tenant, enum sp_priority priority) {
    return waiter_come_to(neighbour, scene_pool(scene), waiter, name, tenant, priority);
}

static const struct waiter *who_has(const struct waiter *w, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (waiter_has(&w[i]))
            return &w[i];
    return NULL;
}

/* Each of these has the one server for a while and gives it back. */
static void let_all_have_it(struct scene *scene, struct waiter *w, size_t n) {
    size_t left = n;
    while (left--) {
        turn_until(scene, who_has(w, n));
        scene_later(scene, 20);
        waiter_end(scene, &w[who_has(w, n) - w]);
    }
    check(sp_loop_turn(scene->loop, 0));
    assert_null(who_has(w, n));
}

#define ONE_AT_A_TIME AT_WITH(0, "max_in_flight: 1")

/* ---- What others give back ---- */

static void what_another_worker_gives_back_is_noticed_while_somebody_waits(void **state) {
    struct scene scene;
    struct waiter first, waits;
    open_two(&scene, ONE_AT_A_TIME, QUEUE);
    assert_true(come_next_door(&scene, &first, '-', "t", NORMAL));
    assert_false(waiter_come(&scene, &waits, 'w', "t", NORMAL));
    scene_later(&scene, 50);
    assert_true(waiter_waits(&waits));
    request_close(&first.request); /* nobody waits next door, so nobody is told */
    scene_later(&scene, 3);
    assert_true(waiter_has(&waits));
    waiter_end(&scene, &waits);
    close_two(&scene);
}

/* ---- One order ---- */

static void tenants_take_turns_wherever_they_wait(void **state) {
    struct scene scene;
    struct waiter w[8];
    open_two(&scene, ONE_AT_A_TIME, QUEUE);
    assert_true(waiter_come(&scene, &w[0], '-', "first", NORMAL));
    for (unsigned i = 1; i < 6; i++)
        assert_false(waiter_come(&scene, &w[i], 'm', "many", NORMAL));
    scene_later(&scene, 20);
    assert_false(come_next_door(&scene, &w[6], '1', "one", NORMAL));
    scene_later(&scene, 20);
    assert_false(come_next_door(&scene, &w[7], '2', "two", NORMAL));
    let_all_have_it(&scene, w, SP_COUNT(w));
    assert_string_equal(queue_order, "-m12mmmm");
    close_two(&scene);
}

static void a_tenant_that_waits_in_two_workers_has_one_turn_all_the_same(void **state) {
    struct scene scene;
    struct waiter w[10];
    open_two(&scene, ONE_AT_A_TIME, QUEUE);
    assert_true(waiter_come(&scene, &w[0], '-', "first", NORMAL));
    for (unsigned i = 1; i < 4; i++) {
        assert_false(waiter_come(&scene, &w[i], 'm', "many", NORMAL));
        assert_false(come_next_door(&scene, &w[i + 3], 'm', "many", NORMAL));
    }
    scene_later(&scene, 20);
    for (unsigned i = 7; i < 10; i++)
        assert_false(waiter_come(&scene, &w[i], 'f', "few", NORMAL));
    let_all_have_it(&scene, w, SP_COUNT(w));
    assert_string_equal(queue_order, "-mfmfmfmmm");
    close_two(&scene);
}

static void a_higher_priority_goes_first_wherever_it_waits(void **state) {
    struct scene scene;
    struct waiter w[6];
    open_two(&scene, ONE_AT_A_TIME, QUEUE);
    assert_true(come_next_door(&scene, &w[0], '-', "t", NORMAL));
    assert_false(come_next_door(&scene, &w[1], 'n', "t", NORMAL));
    assert_false(come_next_door(&scene, &w[2], 'n', "u", NORMAL));
    assert_false(waiter_come(&scene, &w[3], 'l', "t", LOW));
    assert_false(waiter_come(&scene, &w[4], 'h', "t", HIGH));
    assert_false(waiter_come(&scene, &w[5], 'h', "t", HIGH));
    let_all_have_it(&scene, w, SP_COUNT(w));
    assert_string_equal(queue_order, "-hhnnl");
    close_two(&scene);
}

static void a_newcomer_does_not_pass_who_waits_in_another_worker(void **state) {
    struct scene scene;
    struct waiter first, waits, late, high;
    open_two(&scene, ONE_AT_A_TIME, QUEUE);
    assert_true(waiter_come(&scene, &first, '-', "t", NORMAL));
    assert_false(waiter_come(&scene, &waits, 'w', "t", NORMAL));
    scene_later(&scene, 20);
    request_close(&first.request);
    assert_false(come_next_door(&scene, &late, 'l', "late", NORMAL));
    assert_true(waiter_waits(&late));
    assert_true(come_next_door(&scene, &high, 'h', "high", HIGH)); /* but a higher priority does */
    check(sp_loop_turn(scene.loop, 0));
    waiter_end(&scene, &high);
    turn_until(&scene, waiter_has(&waits));
    waiter_end(&scene, &waits);
    turn_until(&scene, waiter_has(&late));
    waiter_end(&scene, &late);
    close_two(&scene);
}

/* ---- Workers that do not take what is left to them ---- */

static void a_server_is_not_left_unused_for_a_worker_that_does_not_take_it(void **state) {
    struct scene scene;
    struct waiter w[4];
    open_two(&scene, ONE_AT_A_TIME, QUEUE);
    sp_traffic_tell_next(scene.other, slot_of(&scene), UINT64_MAX / 2); /* killed, say, with somebody at the head of its queue */
    assert_false(waiter_come(&scene, &w[0], 'a', "t", HIGH));
    assert_false(waiter_come(&scene, &w[1], 'b', "t", HIGH));
    for (int ms = 0; ms < 48; ms += 3) {
        assert_true(waiter_waits(&w[0]));
        scene_later(&scene, 3);
    }
    scene_later(&scene, 7);
    assert_true(waiter_has(&w[0]));
    waiter_end(&scene, &w[0]);
    assert_true(waiter_has(&w[1])); /* it had its chance */
    waiter_end(&scene, &w[1]);
    assert_true(waiter_come(&scene, &w[2], 'c', "t", HIGH)); /* for newcomers too */
    waiter_end(&scene, &w[2]);
    sp_traffic_tell_next(scene.other, slot_of(&scene), UINT64_MAX / 2 - 1); /* it lives: somebody else is its next */
    assert_false(waiter_come(&scene, &w[3], 'd', "t", HIGH));
    assert_true(waiter_waits(&w[3]));
    sp_traffic_tell_next(scene.other, slot_of(&scene), 0);
    scene_later(&scene, 3);
    assert_true(waiter_has(&w[3]));
    waiter_end(&scene, &w[3]);
    close_two(&scene);
}

static void a_worker_out_of_connections_holds_up_no_other(void **state) {
    struct scene scene;
    struct waiter here[2], there[2];
    open_two(&scene, AT(0), "connections: 1, " QUEUE);
    assert_true(waiter_come(&scene, &here[0], 'h', "t", HIGH));
    assert_false(waiter_come(&scene, &here[1], 'H', "t", HIGH));
    scene_later(&scene, 20);
    assert_true(come_next_door(&scene, &there[0], 't', "t", LOW)); /* it has one */
    assert_false(come_next_door(&scene, &there[1], 'T', "t", LOW));
    waiter_end(&scene, &there[0]);
    assert_true(waiter_has(&there[1]));
    assert_true(waiter_waits(&here[1]));
    waiter_end(&scene, &here[0]);
    assert_true(waiter_has(&here[1]));
    waiter_end(&scene, &here[1]);
    waiter_end(&scene, &there[1]);
    close_two(&scene);
}

/* ---- One bound ---- */

static void the_depth_is_that_of_all_workers_together(void **state) {
    struct scene scene;
    struct waiter first, here[3], there[3];
    open_two(&scene, ONE_AT_A_TIME, "queue: {depth: 4}");
    assert_true(waiter_come(&scene, &first, '-', "t", NORMAL));
    for (unsigned i = 0; i < 2; i++) {
        assert_false(waiter_come(&scene, &here[i], 'h', "t", NORMAL));
        assert_false(come_next_door(&scene, &there[i], 't', "t", NORMAL));
    }
    assert_false(waiter_come(&scene, &here[2], 'h', "t", NORMAL));
    assert_int_equal(here[2].refused, -EAGAIN);
    assert_int_equal(sp_queue_length(scene.upstreams, slot_of(&scene)), 4);
    assert_int_equal(sp_queue_length(neighbour, slot_of(&scene)), 4);
    assert_int_equal(sp_queue_length_own(neighbour, slot_of(&scene)), 2);
    sp_queue_leave(&there[0].ticket);
    assert_false(waiter_come(&scene, &here[2], 'h', "t", NORMAL));
    assert_int_equal(here[2].refused, 0);
    assert_false(come_next_door(&scene, &there[2], 't', "t", HIGH)); /* takes the place of one of its own worker's */
    assert_int_equal(there[2].refused, 0);
    assert_int_equal(sp_queue_length(neighbour, slot_of(&scene)), 4);
    check(sp_loop_turn(scene.loop, 0));
    assert_int_equal(there[1].refused, -EAGAIN);
    for (unsigned i = 0; i < 3; i++)
        sp_queue_leave(&here[i].ticket);
    sp_queue_leave(&there[2].ticket);
    waiter_end(&scene, &first);
    close_two(&scene);
}

static void places_of_a_killed_worker_are_free_when_its_slot_begins_anew(void **state) {
    static const struct sp_hash_key key = {1, 2};
    struct scene scene;
    struct waiter first, waits;
    open_two(&scene, ONE_AT_A_TIME, "queue: {depth: 1}");
    assert_true(waiter_come(&scene, &first, '-', "t", NORMAL));
    assert_true(sp_traffic_wait(scene.other, slot_of(&scene), 1));
    sp_traffic_tell_next(scene.other, slot_of(&scene), UINT64_MAX / 2);
    assert_false(waiter_come(&scene, &waits, 'w', "t", NORMAL));
    assert_int_equal(waits.refused, -EAGAIN);
    sp_upstreams_free(neighbour);
    sp_traffic_free(scene.other);
    check(sp_traffic_open(scene.segment, 1, &key, &scene.other));
    check(sp_upstreams_new(scene.loop, scene.other, &neighbour));
    assert_false(waiter_come(&scene, &waits, 'w', "t", NORMAL));
    assert_int_equal(waits.refused, 0);
    waiter_end(&scene, &first);
    assert_true(waiter_has(&waits));
    waiter_end(&scene, &waits);
    close_two(&scene);
}

/* ---- Whatever happens ---- */

#define SERVERS 2
#define AT_ONCE 2
#define DEPTH   12
#define WHO     40

struct crowd {
    struct scene scene;
    struct waiter w[WHO];
    bool came[WHO];
    unsigned turns_of_others[3][3][3]; /* [priority][who waits][who had turns]: since it had its last, or began to wait */
    bool one_worker;
};

static unsigned any(unsigned n) { return (unsigned)(sp_random_u64_fast() % n); }

static unsigned tenant_index(const struct waiter *waiter) { return (unsigned)(waiter->name - 'a') / 3; }

static bool waits_in_line(const struct crowd *crowd, unsigned priority, unsigned tenant) {
    for (unsigned i = 0; i < WHO; i++)
        if (crowd->came[i] && waiter_waits(&crowd->w[i]) && crowd->w[i].ticket.priority == priority && tenant_index(&crowd->w[i]) == tenant)
            return true;
    return false;
}

/* Reads from the order in which servers were given what must hold of it. */
static void judge_order(struct crowd *crowd) {
    for (const char *at = queue_order; *at; at++) {
        unsigned priority = (unsigned)(*at - 'a') % 3, tenant = (unsigned)(*at - 'a') / 3;
        for (unsigned other = 0; other < 3; other++) {
            if (other == tenant)
                memset(crowd->turns_of_others[priority][tenant], 0, sizeof crowd->turns_of_others[priority][tenant]);
            else if (waits_in_line(crowd, priority, other) && crowd->one_worker)
                assert_true(++crowd->turns_of_others[priority][other][tenant] <= 1);
        }
        for (unsigned higher = priority + 1; higher < 3 && crowd->one_worker; higher++)
            for (unsigned other = 0; other < 3; other++)
                assert_false(waits_in_line(crowd, higher, other));
    }
    for (unsigned priority = 0; priority < 3; priority++)
        for (unsigned tenant = 0; tenant < 3; tenant++)
            if (!waits_in_line(crowd, priority, tenant))
                memset(crowd->turns_of_others[priority][tenant], 0, sizeof crowd->turns_of_others[priority][tenant]);
    queue_order_begin();
}

static void judge(struct crowd *crowd) {
    const struct scene *scene = &crowd->scene;
    unsigned waiting = 0, in_flight = 0;
    for (unsigned i = 0; i < WHO; i++) {
        waiting += crowd->came[i] && waiter_waits(&crowd->w[i]);
        in_flight += crowd->came[i] && waiter_has(&crowd->w[i]);
    }
    assert_int_equal(sp_traffic_waiting(scene->traffic, slot_of(scene)), waiting);
    assert_true(waiting <= DEPTH);
    assert_true(in_flight <= SERVERS * AT_ONCE);
    for (unsigned i = 0; i < SERVERS; i++)
        assert_true(sp_traffic_server_in_flight(scene->traffic, scene_slot(scene, i)) <= AT_ONCE);
}

static void one_comes(struct crowd *crowd, unsigned i) {
    static const char *const tenants[] = {"x", "y", "z"};
    unsigned tenant = any(3), priority = any(3);
    crowd->came[i] = true;
    struct sp_upstreams *where = crowd->one_worker || any(2) ? crowd->scene.upstreams : neighbour;
    (void)waiter_come_to(where, scene_pool(&crowd->scene), &crowd->w[i], (char)('a' + tenant * 3 + priority), tenants[tenant],
                         (enum sp_priority)priority);
}

static void something_happens(struct crowd *crowd) {
    unsigned i = any(WHO);
    struct waiter *waiter = &crowd->w[i];
    if (any(8) == 0)
        scene_later(&crowd->scene, any(30));
    else if (!crowd->came[i])
        one_comes(crowd, i);
    else if (waiter_has(waiter) && any(3) == 0)
        request_close(&waiter->request);
    else if (waiter_waits(waiter) && any(6) == 0)
        sp_queue_leave(&waiter->ticket);
    if (crowd->came[i] && !waiter_has(waiter) && !waiter_waits(waiter) && (waiter->refused || !waiter->ticket.why))
        crowd->came[i] = false;
}

static void run_crowd(bool one_worker) {
    static struct crowd crowd;
    crowd = (struct crowd){.one_worker = one_worker};
    open_two(&crowd.scene, AT_WITH(0, "max_in_flight: 2") ", " AT_WITH(1, "max_in_flight: 2"), "queue: {depth: 12, timeout: 200ms}");
    for (unsigned step = 0; step < 20000; step++) {
        something_happens(&crowd);
        judge_order(&crowd);
        judge(&crowd);
        check(sp_loop_turn(crowd.scene.loop, 0));
        judge_order(&crowd);
        judge(&crowd);
        for (unsigned server = 0; server < SERVERS && step % 100 == 0; server++)
            while (!scene_nobody_came(&crowd.scene, server))
                scene_turn_away(&crowd.scene, server);
    }
    for (unsigned i = 0; i < WHO; i++)
        if (crowd.came[i]) {
            sp_queue_leave(&crowd.w[i].ticket);
            request_close(&crowd.w[i].request);
        }
    check(sp_loop_turn(crowd.scene.loop, 0));
    close_two(&crowd.scene);
}

static void in_a_crowd_no_bound_is_exceeded_and_no_turn_is_skipped(void **state) { run_crowd(true); }

static void in_a_crowd_over_two_workers_no_bound_is_exceeded_and_nothing_is_left_over(void **state) { run_crowd(false); }

/* With a server free and somebody waiting, a few looks later nobody waits or no server is free. */
static void no_server_is_free_for_long_while_somebody_waits(void **state) {
    struct scene scene;
    static struct waiter w[20];
    open_two(&scene, ONE_AT_A_TIME, QUEUE);
    for (int times = 0; times < 100; times++) {
        for (unsigned i = 0; i < SP_COUNT(w); i++) {
            (void)(any(2) ? waiter_come : come_next_door)(&scene, &w[i], 'w', any(2) ? "x" : "y", (enum sp_priority)any(3));
            scene_later(&scene, any(10));
        }
        for (unsigned left = SP_COUNT(w); left; left--) {
            for (int looks = 0; looks < 35 && !who_has(w, SP_COUNT(w)); looks++)
                scene_later(&scene, 2);
            assert_non_null(who_has(w, SP_COUNT(w)));
            request_close(&w[who_has(w, SP_COUNT(w)) - w].request);
        }
        queue_order_begin();
        while (!scene_nobody_came(&scene, 0))
            scene_turn_away(&scene, 0);
    }
    close_two(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_another_worker_gives_back_is_noticed_while_somebody_waits),
        cmocka_unit_test(tenants_take_turns_wherever_they_wait),
        cmocka_unit_test(a_tenant_that_waits_in_two_workers_has_one_turn_all_the_same),
        cmocka_unit_test(a_higher_priority_goes_first_wherever_it_waits),
        cmocka_unit_test(a_newcomer_does_not_pass_who_waits_in_another_worker),
        cmocka_unit_test(a_server_is_not_left_unused_for_a_worker_that_does_not_take_it),
        cmocka_unit_test(a_worker_out_of_connections_holds_up_no_other),
        cmocka_unit_test(the_depth_is_that_of_all_workers_together),
        cmocka_unit_test(places_of_a_killed_worker_are_free_when_its_slot_begins_anew),
        cmocka_unit_test(in_a_crowd_no_bound_is_exceeded_and_no_turn_is_skipped),
        cmocka_unit_test(in_a_crowd_over_two_workers_no_bound_is_exceeded_and_nothing_is_left_over),
        cmocka_unit_test(no_server_is_free_for_long_while_somebody_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
