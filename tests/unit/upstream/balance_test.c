/* Which server is next. */
#include "scene.h"

#include <errno.h>
#include <stdio.h>

/* ---- By load ---- */

static void the_less_loaded_of_two_servers_is_always_chosen(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), "");
    for (int i = 0; i < 100; i++) {
        unsigned busy = (unsigned)i % 2;
        int load = 1 + i / 10;
        sp_traffic_server_add(scene.other, scene_slot(&scene, busy), load);
        sp_traffic_server_add(scene.other, scene_slot(&scene, !busy), load - 1);
        assert_int_equal(scene_request(&scene), !busy);
        sp_traffic_server_add(scene.other, scene_slot(&scene, busy), -load);
        sp_traffic_server_add(scene.other, scene_slot(&scene, !busy), 1 - load);
    }
    scene_close(&scene);
}

static void requests_that_stay_spread_evenly(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), "");
    struct request request[40] = {0};
    unsigned at[SCENE_SERVERS] = {0};
    for (unsigned i = 0; i < SP_COUNT(request); i++) {
        assert_true(request_take(&scene, &request[i]));
        at[request_server(&scene, &request[i])]++;
        if (i % 2)
            assert_int_equal(at[0], at[1]);
    }
    for (unsigned i = 0; i < SP_COUNT(request); i++)
        request_close(&request[i]);
    scene_close(&scene);
}

static void load_is_requests_in_flight_per_weight(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "weight: 3") ", " AT(1), "");
    struct request request[40] = {0};
    unsigned at[SCENE_SERVERS] = {0};
    for (unsigned i = 0; i < SP_COUNT(request); i++) {
        assert_true(request_take(&scene, &request[i]));
        at[request_server(&scene, &request[i])]++;
    }
    assert_in_range(at[0], 29, 31);
    for (unsigned i = 0; i < SP_COUNT(request); i++)
        request_close(&request[i]);
    scene_close(&scene);
}

static void what_other_workers_have_in_flight_counts_too(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), "");
    struct sp_upstreams *neighbour = NULL;
    check(sp_upstreams_new(scene.loop, scene.other, &neighbour));
    check(sp_upstreams_configure(neighbour, scene.config, NULL));
    for (unsigned busy = 0; busy < 2; busy++) {
        struct request theirs = {.tried.servers = UINT64_C(1) << !busy};
        assert_true(request_take_from(neighbour, scene_pool(&scene), &theirs));
        assert_int_equal(request_server(&scene, &theirs), busy);
        for (int i = 0; i < 20; i++)
            assert_int_equal(scene_request(&scene), !busy);
        request_close(&theirs);
    }
    sp_upstreams_free(neighbour);
    scene_close(&scene);
}

/* ---- In turn ---- */

static void round_robin_gives_each_server_its_weight_smoothly(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "weight: 5") ", " AT(1) ", " AT(2), "balance: round_robin");
    char order[22] = "";
    for (int i = 0; i < 21; i++)
        order[i] = (char)('a' + scene_request(&scene));
    assert_string_equal(order, "aabacaa"
                               "aabacaa"
                               "aabacaa");
    scene_close(&scene);
}

static void round_robin_passes_over_a_server_that_is_down_without_favour_to_the_next(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1) ", " AT(2), "balance: round_robin, health: {path: /h}");
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 0), false);
    unsigned at[SCENE_SERVERS] = {0};
    for (int i = 0; i < 20; i++)
        at[scene_request(&scene)]++;
    assert_int_equal(at[0], 0);
    assert_int_equal(at[1], 10);
    assert_int_equal(at[2], 10);
    scene_close(&scene);
}

static void servers_past_the_64th_get_their_turn(void **state) {
    enum { N = 100 };
    struct scene scene;
    scene_open(&scene);
    char servers[N * 48] = "";
    size_t len = 0;
    for (int i = 0; i < N; i++)
        len += (size_t)snprintf(servers + len, sizeof servers - len, "%s{url: \"http://127.0.0.1:$0/%d\"}", i ? ", " : "", i);
    static const char *const balances[] = {"balance: round_robin", "balance: least_loaded"};
    for (unsigned b = 0; b < SP_COUNT(balances); b++) {
        scene_configure(&scene, servers, balances[b]);
        const struct sp_pool_config *pool = scene_pool(&scene);
        unsigned at[N] = {0}, late = 0;
        for (int i = 0; i < 3 * N; i++) {
            struct request request = {0};
            assert_true(request_take(&scene, &request));
            at[sp_backend_server(request.backend) - pool->servers]++;
            request_close(&request);
            check(sp_loop_turn(scene.loop, 0));
        }
        for (int i = 0; i < N; i++) {
            late += i >= 64 ? at[i] : 0;
            if (pool->balance == SP_BALANCE_ROUND_ROBIN)
                assert_int_equal(at[i], 3);
        }
        assert_true(late > 0);
    }
    scene_close(&scene);
}

/* ---- Probes ---- */

static void a_server_whose_probes_fail_gets_nothing_until_they_succeed(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), "health: {path: /h}");
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 0), false);
    assert_false(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 1)));
    for (int i = 0; i < 20; i++)
        assert_int_equal(scene_request(&scene), 1);
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 0), true);
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    sp_traffic_server_add(scene.other, scene_slot(&scene, 1), 1);
    assert_int_equal(scene_request(&scene), 0);
    sp_traffic_server_add(scene.other, scene_slot(&scene, 1), -1);
    scene_close(&scene);
}

static void where_no_server_is_up_the_host_is_down(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), "health: {path: /h}");
    for (unsigned i = 0; i < 2; i++)
        sp_upstreams_health(scene.upstreams, scene_slot(&scene, i), false);
    struct request request = {0};
    assert_false(request_take(&scene, &request));
    assert_int_equal(request.error, -EHOSTDOWN);
    assert_int_equal(request.tried.servers, 0);
    assert_true(scene_nobody_came(&scene, 0) && scene_nobody_came(&scene, 1));
    scene_close(&scene);
}

static void a_pool_without_probes_believes_none(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 0), false);
    assert_int_equal(scene_request(&scene), 0);
    sp_upstreams_health(scene.upstreams, SP_SERVERS_MAX - 1, false); /* slots that nobody has, and no slots at all */
    sp_upstreams_health(scene.upstreams, 1000000, false);
    assert_false(sp_upstreams_server_up(scene.upstreams, 1000000));
    scene_close(&scene);
}

/* ---- Failures that traffic saw ---- */

#define OUTLIER "health: {path: /h}, outlier: {consecutive_failures: 3, eject_for: 10s}"

static void a_server_that_fails_in_a_row_is_asked_only_when_no_other_can_be(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), OUTLIER);
    scene_reports(&scene, 0, 2, false);
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    scene_reports(&scene, 0, 1, false);
    assert_false(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    sp_traffic_server_add(scene.other, scene_slot(&scene, 1), 50); /* however busy the other is */
    for (int i = 0; i < 20; i++)
        assert_int_equal(scene_request(&scene), 1);
    sp_traffic_server_add(scene.other, scene_slot(&scene, 1), -50);
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 1), false);
    assert_int_equal(scene_request(&scene), 0);
    scene_close(&scene);
}

static void an_ejected_server_comes_back_after_its_time(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), OUTLIER);
    sp_traffic_server_add(scene.other, scene_slot(&scene, 1), 1);
    scene_reports(&scene, 0, 3, false);
    scene_later(&scene, 9000);
    assert_int_equal(scene_request(&scene), 1);
    scene_later(&scene, 1001);
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    assert_int_equal(scene_request(&scene), 0);
    sp_traffic_server_add(scene.other, scene_slot(&scene, 1), -1);
    scene_close(&scene);
}

static void a_success_begins_the_count_anew(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), OUTLIER);
    scene_reports(&scene, 0, 2, false);
    scene_reports(&scene, 0, 1, true);
    scene_reports(&scene, 0, 2, false);
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    scene_reports(&scene, 0, 1, false);
    assert_false(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    scene_close(&scene);
}

static void a_success_ends_an_ejection(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), OUTLIER);
    scene_reports(&scene, 0, 3, false);
    assert_false(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    scene_reports(&scene, 0, 1, true);
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    scene_close(&scene);
}

static void a_request_reports_once_whatever_it_says_later(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), OUTLIER);
    struct request request = {0};
    assert_true(request_take(&scene, &request));
    for (int i = 0; i < 10; i++)
        sp_backend_report(request.backend, false);
    request_close(&request);
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    scene_close(&scene);
}

static void without_outlier_no_number_of_failures_ejects(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), "");
    scene_reports(&scene, 0, 100, false);
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    scene_close(&scene);
}

/* ---- Bounds ---- */

static void max_in_flight_over_all_workers_leads_on_to_the_next_server_and_then_to_busy(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "weight: 1000, max_in_flight: 3") ", " AT_WITH(1, "max_in_flight: 1"), "");
    sp_traffic_server_add(scene.other, scene_slot(&scene, 0), 2);
    struct request first = {0}, second = {0}, third = {0};
    assert_true(request_take(&scene, &first));
    assert_int_equal(request_server(&scene, &first), 0);
    assert_true(request_take(&scene, &second));
    assert_int_equal(request_server(&scene, &second), 1);
    assert_false(request_take(&scene, &third));
    assert_int_equal(third.error, -EBUSY);
    sp_traffic_server_add(scene.other, scene_slot(&scene, 0), -1); /* another worker's request has ended */
    assert_true(request_take(&scene, &third));
    assert_int_equal(request_server(&scene, &third), 0);
    sp_traffic_server_add(scene.other, scene_slot(&scene, 0), -1);
    request_close(&first);
    request_close(&second);
    request_close(&third);
    scene_close(&scene);
}

static void a_kept_connection_is_no_request_in_flight(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 1"), "");
    struct request request = {0};
    request_open(&scene, &request);
    assert_int_equal(sp_traffic_server_in_flight(scene.other, scene_slot(&scene, 0)), 1);
    request_keep(&request);
    assert_int_equal(sp_traffic_server_in_flight(scene.other, scene_slot(&scene, 0)), 0);
    request_open(&scene, &request);
    assert_int_equal(sp_traffic_server_in_flight(scene.other, scene_slot(&scene, 0)), 1);
    request_close(&request);
    scene_close(&scene);
}

static void a_worker_that_chooses_at_the_same_instant_as_another_does_not_exceed_max_in_flight(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 1") ", " AT_WITH(1, "max_in_flight: 1"), "");
    for (int i = 0; i < 20; i++) {
        struct request request = {0}, late = {0};
        scene_rival_arrives(&scene);
        assert_true(request_take(&scene, &request));
        for (unsigned server = 0; server < 2; server++) /* one each: the rival's and this one's */
            assert_int_equal(sp_traffic_server_in_flight(scene.traffic, scene_slot(&scene, server)), 1);
        assert_false(request_take(&scene, &late));
        assert_int_equal(late.error, -EBUSY);
        sp_traffic_server_add(scene.other, scene_slot(&scene, !request_server(&scene, &request)), -1);
        request_close(&request);
    }
    scene_close(&scene);
}

static void who_comes_too_late_for_the_last_place_is_told_busy_and_is_not_counted(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 2"), "");
    struct request first = {0}, late = {0};
    assert_true(request_take(&scene, &first));
    scene_rival_arrives(&scene);
    assert_false(request_take(&scene, &late));
    assert_int_equal(late.error, -EBUSY);
    assert_int_equal(sp_traffic_server_in_flight(scene.traffic, scene_slot(&scene, 0)), 2);
    sp_traffic_server_add(scene.other, scene_slot(&scene, 0), -1);
    assert_true(request_take(&scene, &late));
    request_close(&first);
    request_close(&late);
    scene_close(&scene);
}

static void connections_to_one_server_are_bounded(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), "connections: 2");
    struct request request[5] = {0};
    unsigned at[SCENE_SERVERS] = {0};
    for (unsigned i = 0; i < 4; i++) {
        request_open(&scene, &request[i]);
        at[request_server(&scene, &request[i])]++;
    }
    assert_int_equal(at[0], 2);
    assert_int_equal(at[1], 2);
    assert_false(request_take(&scene, &request[4]));
    assert_int_equal(request[4].error, -EBUSY);
    request_keep(&request[0]); /* a kept one is within the bound, and may be lent */
    assert_true(request_take(&scene, &request[4]));
    assert_true(sp_backend_reused(request[4].backend));
    for (unsigned i = 1; i < SP_COUNT(request); i++)
        request_close(&request[i]);
    scene_close(&scene);
}

/* ---- Trying again ---- */

static void a_server_is_not_tried_again_while_another_can_be(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1) ", " AT(2), "");
    sp_traffic_server_add(scene.other, scene_slot(&scene, 2), 50); /* by load it would never be its turn */
    struct request request = {0};
    unsigned servers = 0;
    for (int i = 0; i < 3; i++) {
        assert_true(request_take(&scene, &request));
        servers |= 1u << request_server(&scene, &request);
        request_close(&request);
    }
    assert_int_equal(servers, 7);
    sp_traffic_server_add(scene.other, scene_slot(&scene, 2), -50);
    scene_close(&scene);
}

static void an_ejected_server_is_tried_before_one_that_has_just_failed(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), OUTLIER);
    scene_reports(&scene, 0, 3, false);
    struct request request = {0};
    for (unsigned i = 0; i < 2; i++) {
        assert_true(request_take(&scene, &request));
        assert_int_equal(request_server(&scene, &request), !i);
        request_close(&request);
    }
    scene_close(&scene);
}

static void a_lone_server_is_tried_again(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), "health: {path: /h}");
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 1), false);
    struct request request = {0};
    for (int i = 0; i < 3; i++) {
        assert_true(request_take(&scene, &request));
        assert_int_equal(request_server(&scene, &request), 0);
        request_close(&request);
    }
    scene_close(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_less_loaded_of_two_servers_is_always_chosen),
        cmocka_unit_test(requests_that_stay_spread_evenly),
        cmocka_unit_test(load_is_requests_in_flight_per_weight),
        cmocka_unit_test(what_other_workers_have_in_flight_counts_too),
        cmocka_unit_test(round_robin_gives_each_server_its_weight_smoothly),
        cmocka_unit_test(round_robin_passes_over_a_server_that_is_down_without_favour_to_the_next),
        cmocka_unit_test(servers_past_the_64th_get_their_turn),
        cmocka_unit_test(a_server_whose_probes_fail_gets_nothing_until_they_succeed),
        cmocka_unit_test(where_no_server_is_up_the_host_is_down),
        cmocka_unit_test(a_pool_without_probes_believes_none),
        cmocka_unit_test(a_server_that_fails_in_a_row_is_asked_only_when_no_other_can_be),
        cmocka_unit_test(an_ejected_server_comes_back_after_its_time),
        cmocka_unit_test(a_success_begins_the_count_anew),
        cmocka_unit_test(a_success_ends_an_ejection),
        cmocka_unit_test(a_request_reports_once_whatever_it_says_later),
        cmocka_unit_test(without_outlier_no_number_of_failures_ejects),
        cmocka_unit_test(max_in_flight_over_all_workers_leads_on_to_the_next_server_and_then_to_busy),
        cmocka_unit_test(a_kept_connection_is_no_request_in_flight),
        cmocka_unit_test(a_worker_that_chooses_at_the_same_instant_as_another_does_not_exceed_max_in_flight),
        cmocka_unit_test(who_comes_too_late_for_the_last_place_is_told_busy_and_is_not_counted),
        cmocka_unit_test(connections_to_one_server_are_bounded),
        cmocka_unit_test(a_server_is_not_tried_again_while_another_can_be),
        cmocka_unit_test(an_ejected_server_is_tried_before_one_that_has_just_failed),
        cmocka_unit_test(a_lone_server_is_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
