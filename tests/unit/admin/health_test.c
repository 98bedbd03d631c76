/* Probes of backends against a real socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sallyport/admin.h>

#include "peer.h"

#define GOOD "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
#define BAD  "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

struct fixture {
    struct sp_loop *loop;
    struct sp_health *health;
    struct tiny_server server;
    struct sp_server_config servers[1];
    struct sp_pool_config pools[1];
    struct sp_config config;
    char url[64], authority[32];
    unsigned changes;
    unsigned slot;
    bool up;
};

static void changed(void *owner, unsigned server_slot, bool up) {
    struct fixture *fixture = owner;
    fixture->changes++;
    fixture->slot = server_slot;
    fixture->up = up;
}

static void name_server(struct fixture *fixture, const char *host) {
    snprintf(fixture->url, sizeof fixture->url, "http://%s:%u/base", host, fixture->server.port);
    snprintf(fixture->authority, sizeof fixture->authority, "%s:%u", host, fixture->server.port);
    fixture->servers[0] = (struct sp_server_config){.url.text = fixture->url,
                                                    .host = host,
                                                    .port = fixture->server.port,
                                                    .authority = fixture->authority,
                                                    .base_path = "/base",
                                                    .slot = 5};
}

static int set_up(void **state) {
    static struct fixture fixture;
    fixture = (struct fixture){0};
    sp_log_set_fd(-1);
    assert_int_equal(sp_loop_new(&fixture.loop), 0);
    tiny_start(&fixture.server, fixture.loop, GOOD);
    name_server(&fixture, "127.0.0.1");
    fixture.pools[0] = (struct sp_pool_config){
        .name = "llama",
        .servers = fixture.servers,
        .n_servers = 1,
        .health = {.path = "/health", .interval_ms = 10, .timeout_ms = 2000, .healthy_after = 2, .unhealthy_after = 3}};
    fixture.config = (struct sp_config){.refs = 1000, .pools = fixture.pools, .n_pools = 1};
    assert_int_equal(sp_health_new(fixture.loop, changed, &fixture, &fixture.health), 0);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    sp_health_free(fixture->health);
    tiny_stop(&fixture->server);
    sp_loop_free(fixture->loop);
    return 0;
}

static void a_server_is_up_until_enough_probes_failed_and_down_until_enough_succeeded(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(sp_health_state(fixture->health, 5), SP_PROBE_NONE);
    assert_int_equal(sp_health_configure(fixture->health, &fixture->config), 0);
    assert_int_equal(sp_health_state(fixture->health, 5), SP_PROBE_WAITING);
    turn_until(fixture->loop, sp_health_state(fixture->health, 5) == SP_PROBE_UP);
    assert_int_equal(fixture->changes, 1); /* the first success is told: a control before this one may have said otherwise */
    assert_true(fixture->up);
    unsigned before = fixture->server.requests;
    fixture->server.answer = BAD;
    turn_until(fixture->loop, fixture->changes == 2);
    assert_true(fixture->server.requests - before >= 3);
    assert_false(fixture->up);
    assert_int_equal(fixture->slot, 5);
    assert_int_equal(sp_health_state(fixture->health, 5), SP_PROBE_DOWN);
    before = fixture->server.requests;
    fixture->server.answer = GOOD;
    turn_until(fixture->loop, fixture->changes == 3);
    assert_true(fixture->server.requests - before >= 2);
    assert_true(fixture->up);
}

static void failures_short_of_the_threshold_decide_nothing(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer = BAD;
    fixture->pools[0].health.unhealthy_after = 1000;
    assert_int_equal(sp_health_configure(fixture->health, &fixture->config), 0);
    turn_until(fixture->loop, fixture->server.requests >= 3);
    assert_int_equal(sp_health_state(fixture->health, 5), SP_PROBE_WAITING);
    assert_int_equal(fixture->changes, 0);
}

static void a_probe_is_a_plain_get_of_the_pools_path(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(sp_health_configure(fixture->health, &fixture->config), 0);
    turn_until(fixture->loop, fixture->server.requests >= 1);
    assert_memory_equal(fixture->server.last, "GET /base/health HTTP/1.1\r\n", 27);
    assert_non_null(strstr(fixture->server.last, fixture->authority));
    assert_null(strcasestr(fixture->server.last, "authorization"));
}

static void a_proxy_of_the_environment_is_not_used(void **state) {
    struct fixture *fixture = *state;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    assert_int_equal(sp_health_configure(fixture->health, &fixture->config), 0);
    turn_until(fixture->loop, sp_health_state(fixture->health, 5) != SP_PROBE_WAITING);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    assert_int_equal(fixture->server.requests, 1);
}

static void redirects_are_failures_and_are_not_followed(void **state) {
    struct fixture *fixture = *state;
    static char answer[256];
    struct tiny_server elsewhere;
    tiny_start(&elsewhere, fixture->loop, GOOD);
    snprintf(answer, sizeof answer,
             "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%u/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", elsewhere.port);
    fixture->server.answer = answer;
    assert_int_equal(sp_health_configure(fixture->health, &fixture->config), 0);
    turn_until(fixture->loop, fixture->changes == 1);
    assert_false(fixture->up);
    assert_int_equal(elsewhere.requests, 0);
    tiny_stop(&elsewhere);
}

static void a_server_that_never_answers_is_down_after_its_timeouts(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer = "";
    fixture->pools[0].health.timeout_ms = 20;
    assert_int_equal(sp_health_configure(fixture->health, &fixture->config), 0);
    turn_until(fixture->loop, fixture->changes == 1);
    assert_false(fixture->up);
}

static void a_server_nobody_listens_on_is_down(void **state) {
    struct fixture *fixture = *state;
    sp_watch_stop(fixture->loop, &fixture->server.watch);
    close(fixture->server.watch.fd);
    assert_int_equal(sp_health_configure(fixture->health, &fixture->config), 0);
    turn_until(fixture->loop, fixture->changes == 1);
    assert_false(fixture->up);
    fixture->server.watch.fd = -1;
}

static void a_long_body_is_cut_and_says_nothing_against_the_server(void **state) {
    struct fixture *fixture = *state;
    static char answer[200 * 1024];
    int head = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n");
    memset(answer + head, 'x', sizeof answer - 1 - (size_t)head);
    fixture->server.answer = answer;
    assert_int_equal(sp_health_configure(fixture->health, &fixture->config), 0);
    turn_until(fixture->loop, sp_health_state(fixture->health, 5) != SP_PROBE_WAITING);
    assert_int_equal(sp_health_state(fixture->health, 5), SP_PROBE_UP);
}

static void a_name_is_probed_only_at_the_addresses_it_resolved_to(void **state) {
    static const uint8_t loopback[1][16] = {{[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    struct fixture *fixture = *state;
    name_server(fixture, "no-such-host.invalid");
    assert_int_equal(sp_health_configure(fixture->health, &fixture->config), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(sp_loop_turn(fixture->loop, 5), 0);
    assert_int_equal(sp_health_state(fixture->health, 5), SP_PROBE_WAITING);
    sp_health_addresses(fixture->health, 5, loopback, 1);
    turn_until(fixture->loop, sp_health_state(fixture->health, 5) == SP_PROBE_UP);
    assert_non_null(strstr(fixture->server.last, "Host: no-such-host.invalid:"));
}

static void a_reload_keeps_what_is_known_and_forgetting_a_probe_lifts_its_verdict(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer = BAD;
    assert_int_equal(sp_health_configure(fixture->health, &fixture->config), 0);
    turn_until(fixture->loop, fixture->changes == 1);
    struct sp_config same = fixture->config;
    assert_int_equal(sp_health_configure(fixture->health, &same), 0);
    assert_int_equal(sp_health_state(fixture->health, 5), SP_PROBE_DOWN);
    assert_int_equal(fixture->changes, 1);
    struct sp_pool_config unprobed = fixture->pools[0];
    unprobed.health.path = NULL;
    struct sp_config without = {.refs = 1000, .pools = &unprobed, .n_pools = 1};
    assert_int_equal(sp_health_configure(fixture->health, &without), 0);
    assert_int_equal(sp_health_state(fixture->health, 5), SP_PROBE_NONE);
    assert_int_equal(fixture->changes, 2);
    assert_true(fixture->up);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_server_is_up_until_enough_probes_failed_and_down_until_enough_succeeded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_short_of_the_threshold_decide_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_probe_is_a_plain_get_of_the_pools_path, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_proxy_of_the_environment_is_not_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(redirects_are_failures_and_are_not_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_that_never_answers_is_down_after_its_timeouts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_nobody_listens_on_is_down, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_body_is_cut_and_says_nothing_against_the_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_is_probed_only_at_the_addresses_it_resolved_to, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reload_keeps_what_is_known_and_forgetting_a_probe_lifts_its_verdict, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
