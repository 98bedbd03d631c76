/* What a new snapshot changes for servers and their connections, and names that control resolves. */
#include "scene.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

/* ---- Servers kept and removed ---- */

static void a_reload_keeps_the_connections_of_servers_it_keeps_and_closes_those_of_removed_ones(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), "balance: round_robin");
    struct request stays = {0}, goes = {0};
    int stays_peer = request_begin(&scene, &stays, 0), goes_peer = request_begin(&scene, &goes, 1);
    request_keep(&stays);
    request_keep(&goes);
    unsigned removed = scene_slot(&scene, 1);
    scene_configure(&scene, AT(2) ", " AT_WITH(0, "weight: 7"), "balance: round_robin, connections: 9");
    assert_int_equal(scene_ended(&scene, goes_peer), 0);
    assert_false(sp_upstreams_server_up(scene.upstreams, removed));
    request_take(&scene, &stays);
    assert_int_equal(request_server(&scene, &stays), 0);
    assert_true(sp_backend_reused(stays.backend));
    assert_true(scene_is_alive(stays_peer));
    request_close(&stays);
    scene_close(&scene);
}

static void a_reload_keeps_what_is_known_of_a_server(void **state) {
    struct scene scene;
    scene_open(&scene);
    static const char *const keys = "health: {path: /h}, outlier: {consecutive_failures: 3, eject_for: 10s}";
    scene_configure(&scene, AT(0) ", " AT(1) ", " AT(2), keys);
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 0), false);
    scene_reports(&scene, 1, 3, false);
    scene_configure(&scene, AT(2) ", " AT(1) ", " AT(0), keys);
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    assert_false(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 1)));
    assert_false(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 2)));
    for (int i = 0; i < 10; i++)
        assert_int_equal(scene_request(&scene), 2);
    scene_close(&scene);
}

static void a_server_that_was_down_is_up_when_a_reload_takes_the_probes_away(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "health: {path: /h}");
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 0), false);
    scene_configure(&scene, AT(0), "");
    assert_int_equal(scene_request(&scene), 0);
    scene_close(&scene);
}

/* ---- Requests of an older snapshot ---- */

static void a_request_of_an_older_snapshot_reaches_its_server_long_after_a_reload_removed_it(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct sp_config *older = sp_config_ref(scene.config);
    scene_configure(&scene, AT(1), "");
    for (int i = 0; i < 3; i++) {
        struct request request = {0};
        assert_true(request_take_from(scene.upstreams, &older->pools[0], &request));
        assert_ptr_equal(sp_backend_server(request.backend), &older->pools[0].servers[0]);
        turn_until(&scene, request.seen & SP_READY_OPEN);
        int peer = scene_accept(&scene, 0);
        request_keep(&request); /* nobody will come for it */
        assert_int_equal(scene_ended(&scene, peer), 0);
        scene_later(&scene, 60000); /* its body may take this long to arrive */
    }
    assert_int_equal(scene_request(&scene), 1);
    sp_config_unref(older);
    scene_close(&scene);
}

static void a_connection_lent_before_its_server_was_removed_is_closed_when_it_is_given_back(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct sp_config *older = sp_config_ref(scene.config);
    struct request request = {0};
    int peer = request_begin(&scene, &request, 0);
    scene_configure(&scene, AT(1), "");
    check(sp_loop_turn(scene.loop, 0));
    assert_true(scene_is_alive(peer));
    sp_backend_report(request.backend, true);
    request_keep(&request);
    assert_int_equal(scene_ended(&scene, peer), 0);
    sp_config_unref(older);
    scene_close(&scene);
}

static void a_servers_bounds_are_those_of_the_newest_snapshot_for_older_requests_too(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 1"), "");
    struct sp_config *older = sp_config_ref(scene.config);
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 2"), "");
    struct request first = {0}, second = {0}, third = {0};
    assert_true(request_take_from(scene.upstreams, &older->pools[0], &first));
    assert_true(request_take_from(scene.upstreams, &older->pools[0], &second));
    assert_false(request_take_from(scene.upstreams, &older->pools[0], &third));
    assert_int_equal(third.error, -EBUSY);
    scene_configure(&scene, AT_WITH(0, "max_in_flight: 1"), "");
    request_close(&first);
    assert_false(request_take_from(scene.upstreams, &older->pools[0], &third));
    scene_configure(&scene, AT(1), ""); /* no longer named: what its own snapshot said holds */
    request_close(&second);
    assert_true(request_take_from(scene.upstreams, &older->pools[0], &third));
    assert_false(request_take_from(scene.upstreams, &older->pools[0], &first));
    request_close(&third);
    sp_config_unref(older);
    scene_close(&scene);
}

/* ---- A slot given to another server: once all have been used, freed ones come again ---- */

/* Uses up every slot that was never given, so that the next new server gets the one freed here. */
static void use_up_slots(struct scene *scene) {
    static char servers[SP_SERVERS_MAX * 48];
    size_t len = 0;
    for (int i = 1; i < SP_SERVERS_MAX; i++)
        len += (size_t)snprintf(servers + len, sizeof servers - len, "%s{url: \"http://127.0.0.1:$3/%d\"}", i > 1 ? ", " : "", i);
    scene_configure(scene, servers, "health: {path: /h}");
}

static void a_slots_new_server_gets_no_connection_of_its_former_one(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct sp_config *older = sp_config_ref(scene.config);
    struct request request = {0};
    int peer = request_begin(&scene, &request, 0);
    unsigned slot = scene_slot(&scene, 0);
    use_up_slots(&scene);
    scene_configure(&scene, AT(1), "outlier: {consecutive_failures: 1}");
    assert_int_equal(scene_slot(&scene, 0), slot);
    sp_backend_report(request.backend, false); /* says nothing about the new one */
    assert_true(sp_upstreams_server_up(scene.upstreams, slot));
    request_keep(&request);
    assert_int_equal(scene_ended(&scene, peer), 0);
    request_open(&scene, &request);
    assert_false(sp_backend_reused(request.backend));
    (void)scene_accept(&scene, 1);
    request_close(&request);

    assert_false(request_take_from(scene.upstreams, &older->pools[0], &request)); /* nor is it taken for the former one */
    assert_int_equal(request.error, -EHOSTDOWN);
    assert_true(scene_nobody_came(&scene, 0) && scene_nobody_came(&scene, 1));
    sp_config_unref(older);
    scene_close(&scene);
}

static void nothing_known_of_a_slots_former_server_holds_for_its_new_one(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "health: {path: /h}, outlier: {consecutive_failures: 3, eject_for: 1h}");
    unsigned slot = scene_slot(&scene, 0);
    scene_reports(&scene, 0, 3, false);
    sp_upstreams_health(scene.upstreams, slot, false);
    use_up_slots(&scene);
    scene_configure(&scene, "{url: \"http://backend.test:$1\"}", "health: {path: /h}");
    assert_int_equal(scene_slot(&scene, 0), slot);
    struct request request = {0};
    assert_false(request_take(&scene, &request)); /* its name is not yet resolved, and the former one's address is not its own */
    assert_int_equal(request.error, -EHOSTDOWN);
    uint8_t address[1][16];
    assert_true(sp_address_parse(SP_SPAN("127.0.0.1"), address[0]));
    sp_upstreams_addresses(scene.upstreams, slot, (const uint8_t(*)[16])address, 1);
    assert_true(sp_upstreams_server_up(scene.upstreams, slot));
    assert_int_equal(scene_request(&scene), 1);
    scene_close(&scene);
}

/* ---- Names ---- */

#define NAMED(n) "{url: \"http://backend.test:$" #n "\"}"

/* Which of this machine's addresses the connection went to: the last byte of 127.0.0.x. */
static int went_to(const struct request *request) {
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    check(getpeername(sp_transport_fd(sp_backend_transport(request->backend)), (struct sockaddr *)&name, &size));
    return (int)(ntohl(name.sin_addr.s_addr) & 0xff);
}

/* A server's port on 127.0.0.2, too: another port for it, if that one is taken there. */
static int listen_on_both(struct scene *scene, unsigned server) {
    for (int i = 0; i < 50; i++) {
        int second = -1;
        if (sp_listen("127.0.0.2", scene->port[server], 64, &second) == 0)
            return second;
        sp_close_fd(&scene->listener[server]);
        check(sp_listen("127.0.0.1", 0, 64, &scene->listener[server]));
        struct sockaddr_in name;
        socklen_t size = sizeof name;
        check(getsockname(scene->listener[server], (struct sockaddr *)&name, &size));
        scene->port[server] = ntohs(name.sin_port);
    }
    fail_msg("no port is free on both addresses");
    return -1;
}

static void a_name_is_not_usable_before_its_addresses_come_and_then_they_take_turns(void **state) {
    struct scene scene;
    scene_open(&scene);
    int second = listen_on_both(&scene, 0);
    scene_configure(&scene, NAMED(0), "");
    unsigned slot = scene_slot(&scene, 0);
    struct request request = {0};
    assert_false(sp_upstreams_server_up(scene.upstreams, slot));
    assert_false(request_take(&scene, &request));
    assert_int_equal(request.error, -EHOSTDOWN);

    uint8_t addresses[2][16];
    assert_true(sp_address_parse(SP_SPAN("127.0.0.1"), addresses[0]) && sp_address_parse(SP_SPAN("127.0.0.2"), addresses[1]));
    sp_upstreams_addresses(scene.upstreams, slot, (const uint8_t(*)[16])addresses, 2);
    assert_true(sp_upstreams_server_up(scene.upstreams, slot));
    for (int i = 0; i < 6; i++) {
        request_open(&scene, &request);
        assert_int_equal(went_to(&request), 1 + i % 2);
        request_close(&request);
    }
    sp_close_fd(&second);
    scene_close(&scene);
}

static void a_name_without_addresses_is_down(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, NAMED(0) ", " AT(1), "");
    unsigned slot = scene_slot(&scene, 0);
    uint8_t addresses[1][16];
    assert_true(sp_address_parse(SP_SPAN("127.0.0.1"), addresses[0]));
    sp_upstreams_addresses(scene.upstreams, slot, (const uint8_t(*)[16])addresses, 1);
    assert_true(sp_upstreams_server_up(scene.upstreams, slot));
    sp_upstreams_addresses(scene.upstreams, slot, NULL, 0);
    assert_false(sp_upstreams_server_up(scene.upstreams, slot));
    for (int i = 0; i < 10; i++)
        assert_int_equal(scene_request(&scene), 1);
    scene_close(&scene);
}

static void more_addresses_than_a_server_can_have_are_left_out(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, NAMED(0), "");
    uint8_t addresses[40][16];
    for (unsigned i = 0; i < SP_COUNT(addresses); i++)
        assert_true(sp_address_parse(i < 16 ? SP_SPAN("127.0.0.1") : SP_SPAN("127.0.0.2"), addresses[i]));
    sp_upstreams_addresses(scene.upstreams, scene_slot(&scene, 0), (const uint8_t(*)[16])addresses, SP_COUNT(addresses));
    for (unsigned i = 0; i < SP_COUNT(addresses); i++) {
        struct request request = {0};
        request_open(&scene, &request);
        assert_int_equal(went_to(&request), 1);
        request_close(&request);
    }
    scene_close(&scene);
}

static void a_reload_keeps_the_addresses_of_a_name_and_control_cannot_change_a_literal(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, NAMED(0), "");
    uint8_t addresses[1][16];
    assert_true(sp_address_parse(SP_SPAN("127.0.0.1"), addresses[0]));
    sp_upstreams_addresses(scene.upstreams, scene_slot(&scene, 0), (const uint8_t(*)[16])addresses, 1);
    scene_configure(&scene, AT(1) ", " NAMED(0), "");
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 1)));
    sp_upstreams_addresses(scene.upstreams, scene_slot(&scene, 0), NULL, 0);
    assert_true(sp_upstreams_server_up(scene.upstreams, scene_slot(&scene, 0)));
    sp_upstreams_addresses(scene.upstreams, 1000000, (const uint8_t(*)[16])addresses, 1); /* no such slot: ignored */
    scene_close(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reload_keeps_the_connections_of_servers_it_keeps_and_closes_those_of_removed_ones),
        cmocka_unit_test(a_reload_keeps_what_is_known_of_a_server),
        cmocka_unit_test(a_server_that_was_down_is_up_when_a_reload_takes_the_probes_away),
        cmocka_unit_test(a_request_of_an_older_snapshot_reaches_its_server_long_after_a_reload_removed_it),
        cmocka_unit_test(a_connection_lent_before_its_server_was_removed_is_closed_when_it_is_given_back),
        cmocka_unit_test(a_servers_bounds_are_those_of_the_newest_snapshot_for_older_requests_too),
        cmocka_unit_test(a_slots_new_server_gets_no_connection_of_its_former_one),
        cmocka_unit_test(nothing_known_of_a_slots_former_server_holds_for_its_new_one),
        cmocka_unit_test(a_name_is_not_usable_before_its_addresses_come_and_then_they_take_turns),
        cmocka_unit_test(a_name_without_addresses_is_down),
        cmocka_unit_test(more_addresses_than_a_server_can_have_are_left_out),
        cmocka_unit_test(a_reload_keeps_the_addresses_of_a_name_and_control_cannot_change_a_literal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
