/* The queue of one worker: who is next, who is refused, and when those who wait are asked. */
#include "queue.h"

#include <errno.h>
#include <stdio.h>

#define HIGH         SP_PRIORITY_HIGH
#define NORMAL       SP_PRIORITY_NORMAL
#define LOW          SP_PRIORITY_LOW
#define QUEUE(depth) "queue: {depth: " #depth ", timeout: 10s}"

/* One server that takes one request at a time, which `first` has. */
static void open_busy(struct scene *scene, const char *queue, struct waiter *first) {
    scene_open(scene);
    scene_configure(scene, AT_WITH(0, "max_in_flight: 1"), queue);
    queue_order_begin();
    assert_true(waiter_come(scene, first, '-', "first", HIGH));
}

/* ---- Order ---- */

static void a_higher_priority_goes_first_and_then_who_came_first(void **state) {
    struct scene scene;
    struct waiter w[8];
    open_busy(&scene, QUEUE(20), &w[0]);
    static const enum sp_priority priority[] = {LOW, NORMAL, HIGH, LOW, NORMAL, HIGH, NORMAL};
    for (unsigned i = 0; i < 7; i++)
        assert_false(waiter_come(&scene, &w[i + 1], (char)('a' + i), "t", priority[i]));
    waiters_end_all(&scene, w, SP_COUNT(w));
    assert_string_equal(queue_order, "-cfbegad");
    scene_close(&scene);
}

static void tenants_of_one_priority_take_turns(void **state) {
    struct scene scene;
    struct waiter w[11];
    open_busy(&scene, QUEUE(20), &w[0]);
    static const char tenants[] = "aaaaabbbcc";
    for (unsigned i = 0; i < 10; i++)
        assert_false(waiter_come(&scene, &w[i + 1], tenants[i], tenants[i] == 'a' ? "a" : tenants[i] == 'b' ? "b" : "c", NORMAL));
    waiters_end_all(&scene, w, SP_COUNT(w));
    assert_string_equal(queue_order, "-abcabcabaa");
    scene_close(&scene);
}

static void a_thousand_requests_of_one_tenant_delay_anothers_single_one_by_one_turn(void **state) {
    enum { N = 1000 };
    struct scene scene;
    struct waiter first;
    static struct waiter many[N], one;
    open_busy(&scene, QUEUE(2000), &first);
    for (unsigned i = 0; i < N; i++)
        assert_false(waiter_come(&scene, &many[i], 'm', "many", NORMAL));
    assert_false(waiter_come(&scene, &one, '1', "one", NORMAL));
    waiter_end(&scene, &first);
    waiter_end(&scene, &many[0]);
    assert_true(waiter_has(&one));
    assert_string_equal(queue_order, "-m1");
    waiter_end(&scene, &one);
    waiters_end_all(&scene, many, N);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(many[i].refused, 0);
    scene_close(&scene);
}

/* Whoever comes back for each of its turns must not find itself first again. */
static void a_tenant_that_had_its_turn_stands_behind_those_who_had_not(void **state) {
    struct scene scene;
    struct waiter w[6];
    open_busy(&scene, QUEUE(20), &w[0]);
    assert_false(waiter_come(&scene, &w[1], 'a', "a", NORMAL));
    assert_false(waiter_come(&scene, &w[2], 'a', "a", NORMAL));
    assert_false(waiter_come(&scene, &w[3], 'b', "b", NORMAL));
    waiter_end(&scene, &w[0]);
    scene_later(&scene, 50);
    assert_false(waiter_come(&scene, &w[4], 'c', "c", NORMAL)); /* after a's turn */
    scene_later(&scene, 50);
    waiters_end_all(&scene, w, 5);
    assert_string_equal(queue_order, "-abac");
    scene_close(&scene);
}

static void accounts_without_a_tenant_take_turns_and_one_called_like_a_tenant_is_another(void **state) {
    struct scene scene;
    scene_open(&scene);
    uint64_t tenant = sp_queue_who(scene.upstreams, SP_SPAN("x"), SP_SPAN("y"));
    assert_int_equal(tenant, sp_queue_who(scene.upstreams, SP_SPAN("x"), SP_SPAN("z")));
    assert_int_not_equal(tenant, sp_queue_who(scene.upstreams, SP_SPAN(""), SP_SPAN("x")));
    assert_int_not_equal(sp_queue_who(scene.upstreams, SP_SPAN(""), SP_SPAN("y")),
                         sp_queue_who(scene.upstreams, SP_SPAN(""), SP_SPAN("x")));
    scene_close(&scene);
}

/* ---- Nobody passes ---- */

static void a_newcomer_does_not_pass_who_waits_when_a_server_has_just_become_free(void **state) {
    struct scene scene;
    struct waiter first, waits, late;
    open_busy(&scene, QUEUE(20), &first);
    assert_false(waiter_come(&scene, &waits, 'w', "t", NORMAL));
    request_close(&first.request); /* free, but who waits was not asked yet */
    assert_false(waiter_come(&scene, &late, 'l', "late", NORMAL));
    assert_true(waiter_waits(&late));
    check(sp_loop_turn(scene.loop, 0));
    assert_true(waiter_has(&waits));
    waiter_end(&scene, &waits);
    waiter_end(&scene, &late);
    assert_string_equal(queue_order, "-wl");
    scene_close(&scene);
}

static void a_newcomer_of_a_higher_priority_than_everybody_passes(void **state) {
    struct scene scene;
    struct waiter first, waits, high;
    open_busy(&scene, QUEUE(20), &first);
    assert_false(waiter_come(&scene, &waits, 'w', "t", NORMAL));
    request_close(&first.request);
    assert_true(waiter_come(&scene, &high, 'h', "late", HIGH));
    check(sp_loop_turn(scene.loop, 0));
    assert_false(waiter_has(&waits));
    waiter_end(&scene, &high);
    waiter_end(&scene, &waits);
    scene_close(&scene);
}

static void another_try_of_a_request_that_had_a_server_passes(void **state) {
    struct scene scene;
    struct waiter first, waits;
    open_busy(&scene, QUEUE(20), &first);
    assert_false(waiter_come(&scene, &waits, 'w', "t", HIGH));
    request_close(&first.request);
    assert_true(request_take_with(scene.upstreams, scene_pool(&scene), &first.ticket, &first.request));
    check(sp_loop_turn(scene.loop, 0));
    assert_false(waiter_has(&waits));
    waiter_end(&scene, &first);
    assert_true(waiter_has(&waits));
    waiter_end(&scene, &waits);
    scene_close(&scene);
}

static void another_try_that_finds_no_room_waits_ahead_of_its_tenants_others(void **state) {
    struct scene scene;
    struct waiter w[4];
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 2"), QUEUE(20));
    queue_order_begin();
    assert_true(waiter_come(&scene, &w[0], '-', "t", NORMAL));
    assert_true(waiter_come(&scene, &w[1], 'x', "t", NORMAL));
    assert_false(waiter_come(&scene, &w[2], 'a', "t", NORMAL));
    request_close(&w[1].request);
    sp_traffic_server_add(scene.other, scene_slot(&scene, 0), 1); /* another worker is faster */
    assert_false(request_take_with(scene.upstreams, scene_pool(&scene), &w[1].ticket, &w[1].request));
    check(sp_queue_enter(scene.upstreams, scene_pool(&scene), &w[1].ticket));
    sp_traffic_server_add(scene.other, scene_slot(&scene, 0), -1);
    check(sp_loop_turn(scene.loop, 0));
    assert_true(waiter_has(&w[1]) && waiter_waits(&w[2]));
    waiters_end_all(&scene, w, 3);
    scene_close(&scene);
}

static void who_does_not_take_what_it_is_asked_for_keeps_its_place(void **state) {
    struct scene scene;
    struct waiter w[3];
    open_busy(&scene, QUEUE(20), &w[0]);
    assert_false(waiter_come(&scene, &w[1], 'a', "t", NORMAL));
    assert_false(waiter_come(&scene, &w[2], 'b', "t", NORMAL));
    w[1].declines = true;
    waiter_end(&scene, &w[0]);
    assert_int_equal(w[1].asked, 1);
    assert_int_equal(w[2].asked, 0);
    w[1].declines = false;
    scene_later(&scene, 5);
    waiters_end_all(&scene, w, 3);
    assert_string_equal(queue_order, "-ab");
    scene_close(&scene);
}

/* ---- Leaving ---- */

static void who_leaves_is_gone_at_once_from_any_place(void **state) {
    struct scene scene;
    struct waiter w[7];
    open_busy(&scene, QUEUE(6), &w[0]);
    static const char *const tenant[] = {"a", "a", "a", "b", "c", "c"};
    for (unsigned i = 0; i < 6; i++)
        assert_false(waiter_come(&scene, &w[i + 1], (char)('1' + i), tenant[i], NORMAL));
    static const unsigned leave[] = {2, 4, 5}; /* from the middle, a tenant's only one, a tenant's first */
    for (unsigned i = 0; i < SP_COUNT(leave); i++) {
        assert_int_equal(sp_queue_length(scene.upstreams, scene_pool(&scene)->slot), 6 - i);
        sp_queue_leave(&w[leave[i]].ticket);
        sp_queue_leave(&w[leave[i]].ticket); /* harmless */
        assert_int_equal(sp_queue_length(scene.upstreams, scene_pool(&scene)->slot), 5 - i);
        assert_int_equal(sp_queue_length_own(scene.upstreams, scene_pool(&scene)->slot), 5 - i);
    }
    waiters_end_all(&scene, w, SP_COUNT(w));
    assert_string_equal(queue_order, "-163");
    scene_later(&scene, 20000); /* nothing of those who left fires any more */
    for (unsigned i = 0; i < SP_COUNT(w); i++)
        assert_int_equal(w[i].refused, 0);
    scene_close(&scene);
}

static void who_left_makes_room_for_another(void **state) {
    struct scene scene;
    struct waiter first, one, two;
    open_busy(&scene, QUEUE(1), &first);
    assert_false(waiter_come(&scene, &one, '1', "t", NORMAL));
    assert_false(waiter_come(&scene, &two, '2', "t", NORMAL));
    assert_int_equal(two.refused, -EAGAIN);
    sp_queue_leave(&one.ticket);
    assert_false(waiter_come(&scene, &two, '2', "t", NORMAL));
    assert_int_equal(two.refused, 0);
    waiter_end(&scene, &first);
    waiter_end(&scene, &two);
    scene_close(&scene);
}

static void entering_again_keeps_the_place(void **state) {
    struct scene scene;
    struct waiter w[3];
    open_busy(&scene, QUEUE(20), &w[0]);
    assert_false(waiter_come(&scene, &w[1], 'a', "t", NORMAL));
    assert_false(waiter_come(&scene, &w[2], 'b', "t", NORMAL));
    assert_false(request_take_with(scene.upstreams, scene_pool(&scene), &w[1].ticket, &w[1].request));
    assert_int_equal(w[1].request.error, -EBUSY);
    check(sp_queue_enter(scene.upstreams, scene_pool(&scene), &w[1].ticket));
    assert_int_equal(sp_queue_length(scene.upstreams, scene_pool(&scene)->slot), 2);
    waiters_end_all(&scene, w, 3);
    assert_string_equal(queue_order, "-ab");
    scene_close(&scene);
}

/* ---- Full ---- */

static void a_full_queue_refuses_and_a_pool_without_one_says_so(void **state) {
    struct scene scene;
    struct waiter first, waits, late;
    open_busy(&scene, QUEUE(1), &first);
    assert_false(waiter_come(&scene, &waits, 'w', "t", NORMAL));
    assert_false(waiter_come(&scene, &late, 'l', "other", NORMAL));
    assert_int_equal(late.refused, -EAGAIN);
    assert_false(waiter_come(&scene, &late, 'l', "other", LOW));
    assert_int_equal(late.refused, -EAGAIN);
    struct sp_pool_config without = *scene_pool(&scene);
    without.queue_depth = 0;
    assert_false(waiter_come_to(scene.upstreams, &without, &late, 'l', "other", HIGH));
    assert_int_equal(late.refused, -ENOTSUP);
    sp_queue_leave(&waits.ticket);
    waiter_end(&scene, &first);
    scene_close(&scene);
}

static void a_newcomer_takes_the_place_of_the_newest_of_the_lowest_priority_below_its_own(void **state) {
    struct scene scene;
    struct waiter w[5], high, normal;
    open_busy(&scene, QUEUE(4), &w[0]);
    static const enum sp_priority priority[] = {LOW, NORMAL, LOW, NORMAL};
    for (unsigned i = 0; i < 4; i++)
        assert_false(waiter_come(&scene, &w[i + 1], (char)('a' + i), "t", priority[i]));
    assert_false(waiter_come(&scene, &high, 'h', "t", HIGH));
    assert_int_equal(w[3].refused, 0); /* never from inside */
    assert_false(waiter_waits(&w[3]));
    check(sp_loop_turn(scene.loop, 0));
    assert_int_equal(w[3].refused, -EAGAIN);
    assert_false(waiter_come(&scene, &normal, 'n', "t", NORMAL));
    check(sp_loop_turn(scene.loop, 0));
    assert_int_equal(w[1].refused, -EAGAIN);
    assert_int_equal(sp_queue_length(scene.upstreams, scene_pool(&scene)->slot), 4);
    waiter_end(&scene, &w[0]);
    waiter_end(&scene, &high);
    waiters_end_all(&scene, w, SP_COUNT(w));
    waiter_end(&scene, &normal);
    assert_string_equal(queue_order, "-hbdn");
    scene_close(&scene);
}

static void the_tenant_with_most_in_a_full_queue_gives_way_to_others(void **state) {
    struct scene scene;
    struct waiter first, many[4], few[3];
    open_busy(&scene, QUEUE(4), &first);
    for (unsigned i = 0; i < 4; i++)
        assert_false(waiter_come(&scene, &many[i], (char)('a' + i), "many", NORMAL));
    assert_false(waiter_come(&scene, &few[0], 'm', "many", NORMAL)); /* not to itself */
    assert_int_equal(few[0].refused, -EAGAIN);
    for (unsigned i = 0; i < 3; i++)
        assert_false(waiter_come(&scene, &few[i], (char)('x' + i), "few", NORMAL));
    check(sp_loop_turn(scene.loop, 0));
    assert_int_equal(many[3].refused, -EAGAIN);
    assert_int_equal(many[2].refused, -EAGAIN);
    assert_int_equal(few[2].refused, -EAGAIN); /* they have two each by now */
    waiter_end(&scene, &first);
    struct waiter *both[] = {&many[0], &few[0], &many[1], &few[1]};
    for (unsigned i = 0; i < 4; i++)
        waiter_end(&scene, both[i]);
    assert_string_equal(queue_order, "-axby");
    scene_close(&scene);
}

static void who_is_about_to_hear_of_its_refusal_may_leave_or_ask_again(void **state) {
    struct scene scene;
    struct waiter first, low[2], high[2];
    open_busy(&scene, QUEUE(2), &first);
    for (unsigned i = 0; i < 2; i++)
        assert_false(waiter_come(&scene, &low[i], 'l', "t", LOW));
    for (unsigned i = 0; i < 2; i++)
        assert_false(waiter_come(&scene, &high[i], 'h', "t", HIGH));
    sp_queue_leave(&low[0].ticket);
    assert_int_equal(sp_queue_enter(scene.upstreams, scene_pool(&scene), &low[1].ticket), -EAGAIN);
    check(sp_loop_turn(scene.loop, 0));
    assert_int_equal(low[0].refused, 0);
    assert_int_equal(low[1].refused, 0);
    for (unsigned i = 0; i < 2; i++)
        sp_queue_leave(&high[i].ticket);
    assert_int_equal(sp_queue_length(scene.upstreams, scene_pool(&scene)->slot), 0);
    waiter_end(&scene, &first);
    scene_close(&scene);
}

/* ---- Waiting ends ---- */

static void who_waits_longer_than_the_timeout_is_refused(void **state) {
    struct scene scene;
    struct waiter first, early, late;
    open_busy(&scene, QUEUE(20), &first);
    assert_false(waiter_come(&scene, &early, 'e', "t", NORMAL));
    scene_later(&scene, 5000);
    assert_false(waiter_come(&scene, &late, 'l', "t", NORMAL));
    scene_later(&scene, 4900);
    assert_true(waiter_waits(&early));
    scene_later(&scene, 200);
    assert_int_equal(early.refused, -ETIMEDOUT);
    assert_true(waiter_waits(&late));
    assert_int_equal(sp_queue_length(scene.upstreams, scene_pool(&scene)->slot), 1);
    waiter_end(&scene, &first);
    assert_true(waiter_has(&late));
    waiter_end(&scene, &late);
    scene_later(&scene, 20000);
    assert_int_equal(late.refused, 0);
    scene_close(&scene);
}

static void a_connection_given_back_serves_the_next_who_waits(void **state) {
    struct scene scene;
    struct waiter first, next;
    open_busy(&scene, QUEUE(20), &first);
    turn_until(&scene, first.request.seen & SP_READY_OPEN);
    assert_false(waiter_come(&scene, &next, 'n', "t", NORMAL));
    request_keep(&first.request);
    check(sp_loop_turn(scene.loop, 0));
    assert_true(waiter_has(&next));
    assert_true(sp_backend_reused(next.request.backend));
    waiter_end(&scene, &next);
    scene_close(&scene);
}

static void a_connection_closed_serves_who_waits_for_want_of_connections(void **state) {
    struct scene scene;
    struct waiter first, next;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "connections: 1, " QUEUE(4));
    queue_order_begin();
    assert_true(waiter_come(&scene, &first, '-', "t", NORMAL));
    assert_false(waiter_come(&scene, &next, 'n', "t", NORMAL));
    assert_true(waiter_waits(&next));
    waiter_end(&scene, &first);
    assert_true(waiter_has(&next));
    waiter_end(&scene, &next);
    scene_close(&scene);
}

static void a_server_that_comes_up_serves_who_waits(void **state) {
    struct scene scene;
    struct waiter first, next;
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 1") ", " AT(1), "health: {path: /h}, " QUEUE(4));
    queue_order_begin();
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 1), false);
    assert_true(waiter_come(&scene, &first, '-', "t", NORMAL));
    assert_false(waiter_come(&scene, &next, 'n', "t", NORMAL));
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 1), true);
    check(sp_loop_turn(scene.loop, 0));
    assert_int_equal(request_server(&scene, &next.request), 1);
    waiter_end(&scene, &first);
    waiter_end(&scene, &next);
    scene_close(&scene);
}

static void when_no_server_is_up_any_more_all_hear_of_it_at_once(void **state) {
    enum { N = 200 };
    struct scene scene;
    static struct waiter w[N];
    struct waiter first;
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 1"), "health: {path: /h}, " QUEUE(1000));
    queue_order_begin();
    assert_true(waiter_come(&scene, &first, '-', "t", NORMAL));
    for (unsigned i = 0; i < N; i++)
        assert_false(waiter_come(&scene, &w[i], 'w', "t", NORMAL));
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 0), false);
    turn_until(&scene, !sp_queue_length(scene.upstreams, scene_pool(&scene)->slot));
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(w[i].refused, -EHOSTDOWN);
    waiter_end(&scene, &first);
    scene_close(&scene);
}

static void an_ejected_server_serves_who_waits_when_no_other_can(void **state) {
    struct scene scene;
    struct waiter first, next;
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 1"), "outlier: {consecutive_failures: 1, eject_for: 1s}, " QUEUE(4));
    queue_order_begin();
    assert_true(waiter_come(&scene, &first, '-', "t", NORMAL));
    sp_backend_report(first.request.backend, false);
    assert_false(waiter_come(&scene, &next, 'n', "t", NORMAL));
    waiter_end(&scene, &first);
    assert_true(waiter_has(&next)); /* ejected, but nobody else can be asked */
    waiter_end(&scene, &next);
    scene_close(&scene);
}

/* ---- Reload ---- */

static void a_reload_that_raises_max_in_flight_serves_who_waits_and_one_that_lowers_it_is_heeded(void **state) {
    struct scene scene;
    struct waiter w[5];
    open_busy(&scene, QUEUE(20), &w[0]);
    struct sp_config *older = sp_config_ref(scene.config);
    for (unsigned i = 1; i < 4; i++)
        assert_false(waiter_come(&scene, &w[i], (char)('a' + i), "t", NORMAL));
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 3"), QUEUE(20));
    check(sp_loop_turn(scene.loop, 0));
    assert_true(waiter_has(&w[1]) && waiter_has(&w[2]) && waiter_waits(&w[3]));
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 1"), QUEUE(20));
    assert_false(waiter_come(&scene, &w[4], 'n', "t", NORMAL));
    waiter_end(&scene, &w[0]);
    waiter_end(&scene, &w[1]);
    assert_true(waiter_waits(&w[3]));
    waiter_end(&scene, &w[2]);
    assert_true(waiter_has(&w[3]));
    waiters_end_all(&scene, w, 5);
    assert_string_equal(queue_order, "-bcdn");
    sp_config_unref(older);
    scene_close(&scene);
}

static void who_waits_for_a_removed_server_does_not_hold_up_who_knows_the_new_one(void **state) {
    struct scene scene;
    struct waiter w[4];
    open_busy(&scene, QUEUE(20), &w[0]);
    assert_false(waiter_come(&scene, &w[1], 'a', "old", NORMAL));
    struct sp_config *older = sp_config_ref(scene.config);
    scene_configure(&scene, AT_WITH(1, "max_in_flight: 1"), QUEUE(20));
    assert_false(waiter_come(&scene, &w[2], 'n', "new", NORMAL)); /* behind, for the order is one */
    turn_until(&scene, waiter_has(&w[2]));
    assert_int_equal(request_server(&scene, &w[2].request), 1);
    assert_true(waiter_waits(&w[1]));
    waiter_end(&scene, &w[0]);
    assert_int_equal(request_server(&scene, &w[1].request), 0);
    waiters_end_all(&scene, w, 3);
    sp_config_unref(older);
    scene_close(&scene);
}

static void those_who_wait_for_a_pool_that_is_gone_are_refused(void **state) {
    struct scene scene;
    struct waiter first, waits, late;
    open_busy(&scene, QUEUE(20), &first);
    assert_false(waiter_come(&scene, &waits, 'w', "t", NORMAL));
    struct sp_config *older = sp_config_ref(scene.config);
    scene.pool = 'q';
    scene_configure(&scene, AT(1), QUEUE(20));
    assert_int_equal(waits.refused, 0);
    check(sp_loop_turn(scene.loop, 0));
    assert_int_equal(waits.refused, -ENOENT);
    assert_false(waiter_come_to(scene.upstreams, &older->pools[0], &late, 'l', "t", NORMAL));
    assert_int_equal(late.refused, -ENOENT);
    waiter_end(&scene, &first);
    sp_config_unref(older);
    scene_close(&scene);
}

/* ---- Pace ---- */

static void before_anything_is_known_a_full_queue_is_expected_to_take_its_timeout(void **state) {
    struct scene scene;
    struct waiter first;
    static struct waiter w[20];
    open_busy(&scene, QUEUE(20), &first);
    assert_int_equal(sp_queue_pace_ms(scene.upstreams, scene_pool(&scene), NORMAL), 1000);
    for (unsigned i = 0; i < 20; i++)
        assert_false(waiter_come(&scene, &w[i], 'w', "t", NORMAL));
    assert_int_equal(sp_queue_pace_ms(scene.upstreams, scene_pool(&scene), NORMAL), 10500); /* 21 of 10 s / 20 */
    assert_int_equal(sp_queue_pace_ms(scene.upstreams, scene_pool(&scene), LOW), 10500);
    assert_int_equal(sp_queue_pace_ms(scene.upstreams, scene_pool(&scene), HIGH), 1000); /* nobody is before it */
    for (unsigned i = 0; i < 20; i++)
        sp_queue_leave(&w[i].ticket);
    waiter_end(&scene, &first);
    scene_close(&scene);
}

static void the_pace_is_that_of_requests_that_end_while_others_wait(void **state) {
    enum { N = 64 };
    struct scene scene;
    static struct waiter w[N + 1];
    open_busy(&scene, "queue: {depth: 1000, timeout: 5m}", &w[0]);
    for (unsigned i = 1; i <= N; i++)
        assert_false(waiter_come(&scene, &w[i], 'w', "t", NORMAL));
    for (unsigned i = 0; i < 40; i++) { /* two a second */
        scene_later(&scene, 500);
        waiter_end(&scene, &w[i]);
        assert_true(waiter_has(&w[i + 1]));
    }
    assert_in_range(sp_queue_pace_ms(scene.upstreams, scene_pool(&scene), NORMAL), 12000, 13500); /* 24 wait */
    for (unsigned i = 40; i < 60; i++) {                                                          /* it becomes slower */
        scene_later(&scene, 4000);
        waiter_end(&scene, &w[i]);
    }
    assert_in_range(sp_queue_pace_ms(scene.upstreams, scene_pool(&scene), NORMAL), 8000, 20000);
    assert_in_range(sp_queue_pace_ms(scene.upstreams, scene_pool(&scene), HIGH), 1500, 4100);
    scene_later(&scene, 30000); /* nothing moves: slower still, and no more than a minute is ever said */
    assert_int_equal(sp_queue_pace_ms(scene.upstreams, scene_pool(&scene), NORMAL), 60000);
    waiters_end_all(&scene, w, N + 1);
    scene_later(&scene, 3600000); /* an hour in which nobody waits says nothing about the pace */
    assert_in_range(sp_queue_pace_ms(scene.upstreams, scene_pool(&scene), NORMAL), 1000, 4100);
    scene_close(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_higher_priority_goes_first_and_then_who_came_first),
        cmocka_unit_test(tenants_of_one_priority_take_turns),
        cmocka_unit_test(a_thousand_requests_of_one_tenant_delay_anothers_single_one_by_one_turn),
        cmocka_unit_test(a_tenant_that_had_its_turn_stands_behind_those_who_had_not),
        cmocka_unit_test(accounts_without_a_tenant_take_turns_and_one_called_like_a_tenant_is_another),
        cmocka_unit_test(a_newcomer_does_not_pass_who_waits_when_a_server_has_just_become_free),
        cmocka_unit_test(a_newcomer_of_a_higher_priority_than_everybody_passes),
        cmocka_unit_test(another_try_of_a_request_that_had_a_server_passes),
        cmocka_unit_test(another_try_that_finds_no_room_waits_ahead_of_its_tenants_others),
        cmocka_unit_test(who_does_not_take_what_it_is_asked_for_keeps_its_place),
        cmocka_unit_test(who_leaves_is_gone_at_once_from_any_place),
        cmocka_unit_test(who_left_makes_room_for_another),
        cmocka_unit_test(entering_again_keeps_the_place),
        cmocka_unit_test(a_full_queue_refuses_and_a_pool_without_one_says_so),
        cmocka_unit_test(a_newcomer_takes_the_place_of_the_newest_of_the_lowest_priority_below_its_own),
        cmocka_unit_test(the_tenant_with_most_in_a_full_queue_gives_way_to_others),
        cmocka_unit_test(who_is_about_to_hear_of_its_refusal_may_leave_or_ask_again),
        cmocka_unit_test(who_waits_longer_than_the_timeout_is_refused),
        cmocka_unit_test(a_connection_given_back_serves_the_next_who_waits),
        cmocka_unit_test(a_connection_closed_serves_who_waits_for_want_of_connections),
        cmocka_unit_test(a_server_that_comes_up_serves_who_waits),
        cmocka_unit_test(when_no_server_is_up_any_more_all_hear_of_it_at_once),
        cmocka_unit_test(an_ejected_server_serves_who_waits_when_no_other_can),
        cmocka_unit_test(a_reload_that_raises_max_in_flight_serves_who_waits_and_one_that_lowers_it_is_heeded),
        cmocka_unit_test(who_waits_for_a_removed_server_does_not_hold_up_who_knows_the_new_one),
        cmocka_unit_test(those_who_wait_for_a_pool_that_is_gone_are_refused),
        cmocka_unit_test(before_anything_is_known_a_full_queue_is_expected_to_take_its_timeout),
        cmocka_unit_test(the_pace_is_that_of_requests_that_end_while_others_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
