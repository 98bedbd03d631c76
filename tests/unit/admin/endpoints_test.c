/* The metrics address and the admin socket, asked by libcurl. */
#include "site.h"

/* ---- What is promised ---- */

static void the_metrics_address_shows_metrics_and_health_and_nothing_else(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/healthz", NULL, &answer), 200);
    assert_string_equal(answer.body, "ok\n");
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/metrics", NULL, &answer), 200);
    assert_non_null(strstr(answer.body, "sallyport_requests_total{route=\"<chat>\",pool=\"llama\",code=\"200\"} 1\n"));
    assert_non_null(strcasestr(answer.headers, "content-type: text/plain; version=0.0.4"));
    static const char *const hidden[] = {"/",
                                         "/api/v1/status",
                                         "/api/v1/backends",
                                         "/api/v1/configuration",
                                         "/api/v1/levels?subject=x",
                                         "/api/v1/limits",
                                         "/api/v1/refusals",
                                         "/api/v1/refusals/AbCd1234",
                                         "/api/v1/reload",
                                         "/api/v1/openapi.json",
                                         "/metrics/",
                                         "/x",
                                         "/metrics/../api/v1/status",
                                         "//metrics",
                                         "/%6detrics",
                                         "/metrics%00"};
    for (size_t i = 0; i < SP_COUNT(hidden); i++)
        assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", hidden[i], NULL, &answer), 404);
    static const char *const methods[] = {"POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"};
    for (size_t i = 0; i < SP_COUNT(methods); i++) {
        assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, methods[i], "/metrics", NULL, &answer), 405);
        assert_non_null(strcasestr(answer.headers, "\nallow: GET\r\n"));
    }
    assert_int_equal(fixture->acts, 0);
}

static void ready_means_configured_with_a_worker_and_not_draining(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/readyz", NULL, &answer), 200);
    fixture->view.status.draining = 1;
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/readyz", NULL, &answer), 503);
    assert_string_equal(answer.body, "draining\n");
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/healthz", NULL, &answer), 200);
    fixture->view.status.draining = 0;
    fixture->view.processes[0].pid = 0;
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/readyz", NULL, &answer), 503);
    fixture->view.processes[0].pid = 77;
    fixture->view.processes[0].role = SP_ROLE_CONTROL;
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/readyz", NULL, &answer), 503);
    fixture->view.processes[0].role = SP_ROLE_WORKER;
    sp_counters_begin(fixture->counters, 0); /* started, but serves nothing yet */
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/readyz", NULL, &answer), 503);
    sp_gauge(fixture->counters, 0, SP_GAUGE_GENERATION, 3);
    fixture->view.config = NULL;
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/readyz", NULL, &answer), 503);
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/metrics", NULL, &answer), 503);
    fixture->view.config = &fixture->config;
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/readyz", NULL, &answer), 200);
}

static void the_status_is_json_with_what_is_configured_and_counted(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/api/v1/status", NULL, &answer), 200);
    json_t *status = json_of(&answer);
    assert_string_equal(json_string_value(json_object_get(status, "version")), SP_VERSION);
    assert_int_equal(json_integer_value(json_object_get(status, "generation")), 3);
    assert_true(json_integer_value(json_object_get(status, "uptime_s")) >= 5);
    assert_true(json_is_true(json_object_get(status, "ready")));
    json_t *route = json_array_get(json_object_get(status, "routes"), 0), *limit = json_array_get(json_object_get(status, "limits"), 0);
    assert_string_equal(json_string_value(json_object_get(route, "name")), "<chat>");
    assert_int_equal(json_integer_value(json_object_get(route, "requests")), 1);
    assert_int_equal(json_integer_value(json_object_get(limit, "refused")), 1);
    json_t *process = json_array_get(json_object_get(status, "processes"), 0);
    assert_int_equal(json_integer_value(json_object_get(process, "pid")), 77);
    assert_string_equal(json_string_value(json_object_get(process, "role")), "worker");
    assert_true(json_is_false(json_object_get(json_object_get(status, "redis"), "configured")));
    json_decref(status);
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/api/v1/backends", NULL, &answer), 200);
    json_t *backends = json_of(&answer), *backend = json_array_get(json_object_get(backends, "backends"), 0);
    assert_string_equal(json_string_value(json_object_get(backend, "server")), "http://10.0.0.1:8000");
    assert_true(json_is_true(json_object_get(backend, "up")));
    json_decref(backends);
}

static void the_status_says_tokens_by_model_and_how_many_wait(void **state) {
    struct fixture *fixture = *state;
    struct sp_usage_count usage = {.model_slot = 4, .tokens_in = 12, .tokens_out = 30, .estimated = true, .first_token_us = -1};
    sp_count_usage(fixture->counters, 0, &usage);
    sp_gauge_queue(fixture->counters, 0, 0, 9);
    sp_count(fixture->counters, 0, SP_COUNTER_SETTLEMENTS_DROPPED, 77);
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/api/v1/status", NULL, &answer), 200);
    json_t *status = json_of(&answer);
    json_t *model = json_array_get(json_object_get(status, "models"), 0), *queue = json_array_get(json_object_get(status, "queues"), 0);
    assert_string_equal(json_string_value(json_object_get(model, "name")), "<large>");
    assert_string_equal(json_string_value(json_object_get(model, "pool")), "llama");
    assert_int_equal(json_integer_value(json_object_get(model, "tokens_in")), 12);
    assert_int_equal(json_integer_value(json_object_get(model, "tokens_out")), 30);
    assert_int_equal(json_integer_value(json_object_get(model, "tokens_estimated")), 42);
    assert_string_equal(json_string_value(json_object_get(queue, "pool")), "llama");
    assert_int_equal(json_integer_value(json_object_get(queue, "waiting")), 9);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "workers"), "settlements_dropped_total")), 77);
    json_decref(status);
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/", NULL, &answer), 200);
    assert_non_null(strstr(answer.body, "&lt;large&gt;"));
    assert_non_null(strstr(answer.body, "<td class=\"n\">42</td>"));
    assert_non_null(strstr(answer.body, "<td class=\"n\">9</td>"));
}

static void every_resource_is_in_the_openapi_document_and_every_path_of_it_exists(void **state) {
    struct fixture *fixture = *state;
    static struct answer asked;
    add_refusal(fixture, 1000, "AbCd1234", "alice");
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/api/v1/openapi.json", NULL, &answer), 200);
    json_t *document = json_of(&answer), *operations;
    assert_string_equal(json_string_value(json_object_get(document, "openapi")), "3.1.0");
    const char *path;
    size_t paths = 0;
    json_object_foreach(json_object_get(document, "paths"), path, operations) {
        paths++;
        bool reads = json_object_get(operations, "get") != NULL;
        const char *placeholder = strchr(path, '{');
        char real[128];
        snprintf(real, sizeof real, "%.*s%s%s", placeholder ? (int)(placeholder - path) : (int)strlen(path), path,
                 placeholder ? "AbCd1234" : "", placeholder ? strchr(path, '}') + 1 : "");
        bool incomplete = strcmp(path, "/api/v1/levels") == 0; /* without saying whose */
        assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, reads ? "GET" : "TRACE", real, NULL, &asked), incomplete ? 400 : reads ? 200 : 405);
        const char *other = json_object_get(operations, "post") ? "\nallow: POST\r\n" : "\nallow: PUT\r\n";
        assert_true(reads || strcasestr(asked.headers, other));
    }
    assert_int_equal(paths, 15); /* all but the page */
    json_decref(document);
}

static void the_page_shows_everything_escaped_under_a_strict_policy(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/", NULL, &answer), 200);
    assert_non_null(strcasestr(answer.headers, "content-security-policy: default-src 'none'; style-src 'nonce-"));
    assert_non_null(strcasestr(answer.headers, "content-type: text/html"));
    assert_non_null(strstr(answer.body, "&lt;chat&gt;"));
    assert_null(strstr(answer.body, "<chat>"));
    assert_null(strstr(answer.body, "<script"));
    assert_null(strstr(answer.body, "src="));
    assert_null(strstr(answer.body, "href="));
    assert_non_null(strstr(answer.body, SP_VERSION));
    assert_non_null(strstr(answer.body, "http://10.0.0.1:8000"));
    assert_non_null(strstr(answer.body, "per-caller"));
    const char *nonce = strstr(answer.headers, "'nonce-") + 7;
    assert_memory_equal(strstr(answer.body, "nonce=\"") + 7, nonce, 22);
    char first[22];
    memcpy(first, nonce, 22);
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/", NULL, &answer), 200);
    assert_memory_not_equal(first, strstr(answer.headers, "'nonce-") + 7, 22);
}

static void an_action_waits_for_the_supervisors_answer(void **state) {
    struct fixture *fixture = *state;
    struct question question = begin(fixture, SP_ENDPOINT_ADMIN, "POST", "/api/v1/reload", "", NULL, &answer);
    while (fixture->acts == 0)
        assert_true(turn(fixture, &question));
    assert_int_equal(fixture->action, SP_ADMIN_RELOAD);
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/healthz", NULL, &(struct answer){0}), 200); /* nobody else waits */
    for (int i = 0; i < 20; i++)
        assert_true(turn(fixture, &question));
    sp_endpoints_answer(fixture->endpoints, fixture->id + 1, true, SP_SPAN("somebody else's"));
    assert_true(turn(fixture, &question));
    sp_endpoints_answer(fixture->endpoints, fixture->id, true, SP_SPAN("generation 4 is in force\n"));
    while (turn(fixture, &question))
        ;
    end(&question);
    assert_int_equal(answer.status, 200);
    assert_outcome(&answer, true, "generation 4 is in force", 0);
    sp_endpoints_answer(fixture->endpoints, fixture->id, true, SP_SPAN("once more")); /* harmless */
}

static void a_refused_reload_says_every_error(void **state) {
    struct fixture *fixture = *state;
    struct question question = begin(fixture, SP_ENDPOINT_ADMIN, "POST", "/api/v1/reload", "", NULL, &answer);
    while (fixture->acts == 0)
        assert_true(turn(fixture, &question));
    sp_endpoints_answer(fixture->endpoints, fixture->id, false, SP_SPAN("a.yaml:1:2: unknown key\na.yaml:3:4: \"bad\" \xff type\n"));
    while (turn(fixture, &question))
        ;
    end(&question);
    assert_int_equal(answer.status, 422);
    assert_outcome(&answer, false, "a.yaml:1:2: unknown key", 2);
    assert_non_null(strstr(answer.body, "a.yaml:3:4: \\\"bad\\\" \xef\xbf\xbd type"));
}

static void the_log_level_is_taken_from_the_body(void **state) {
    struct fixture *fixture = *state;
    static const char *const wrong[] = {
        "", "{}", "{\"level\":\"loud\"}", "{\"level\":3}", "[]", "{\"level\":\"info\",\"level\":\"debug\"}", "level=info"};
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "PUT", "/api/v1/loglevel", wrong[i], &answer), 400);
    assert_int_equal(fixture->acts, 0);
    struct question question = begin(fixture, SP_ENDPOINT_ADMIN, "PUT", "/api/v1/loglevel", "{\"level\":\"debug\"}", NULL, &answer);
    while (fixture->acts == 0)
        assert_true(turn(fixture, &question));
    assert_int_equal(fixture->action, SP_ADMIN_LOGLEVEL);
    assert_int_equal(fixture->argument, SP_LOG_DEBUG);
    sp_endpoints_answer(fixture->endpoints, fixture->id, true, SP_SPAN(""));
    while (turn(fixture, &question))
        ;
    end(&question);
    assert_outcome(&answer, true, "done", 0);
}

static void revoke_key(struct fixture *fixture, const char *body, uint32_t now) {
    unsigned before = fixture->acts;
    struct question question = begin(fixture, SP_ENDPOINT_ADMIN, "POST", "/api/v1/keys/AbCd1234/revoke", body, NULL, &answer);
    while (fixture->acts == before)
        assert_true(turn(fixture, &question));
    assert_int_equal(fixture->action, SP_ADMIN_REVOKE);
    assert_int_equal(fixture->argument, now);
    assert_string_equal(fixture->key_id, "AbCd1234");
    sp_endpoints_answer(fixture->endpoints, fixture->id, true, SP_SPAN("refused from now on"));
    while (turn(fixture, &question))
        ;
    end(&question);
    assert_outcome(&answer, true, "refused from now on", 0);
}

static void a_key_is_revoked_by_the_id_in_the_path_now_or_with_what_it_has_open_left_alone(void **state) {
    struct fixture *fixture = *state;
    revoke_key(fixture, "", 0);
    revoke_key(fixture, "{}", 0);
    revoke_key(fixture, "{\"now\":false}", 0);
    revoke_key(fixture, "{\"now\":true}", 1);
}

static void a_key_is_not_revoked_by_anything_else(void **state) {
    struct fixture *fixture = *state;
    static const char *const wrong_paths[] = {
        "/api/v1/keys/AbCd123/revoke",    "/api/v1/keys/AbCd12345/revoke", "/api/v1/keys/AbCd_234/revoke",
        "/api/v1/keys/{id}/revoke",       "/api/v1/keys/AbCd1234/revok",   "/api/v1/keys/AbCd1234/revoke/",
        "/api/v1/keys/AbC%641234/revoke", "/api/v1/keys//revoke",          "/api/v1/keys/../keys/revoke"};
    for (size_t i = 0; i < SP_COUNT(wrong_paths); i++)
        assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "POST", wrong_paths[i], "{}", &answer), 404);
    static const char *const wrong_bodies[] = {
        "{\"now\":1}", "{\"now\":\"true\"}", "{\"nwo\":true}", "{\"now\":true,\"x\":1}", "[]", "true", "now", "{"};
    for (size_t i = 0; i < SP_COUNT(wrong_bodies); i++)
        assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "POST", "/api/v1/keys/AbCd1234/revoke", wrong_bodies[i], &answer), 400);
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "POST", "/api/v1/keys/AbCd1234/revoke", "{}", &answer), 404);
    assert_int_equal(fixture->acts, 0);
}

static void a_body_that_is_too_large_is_refused(void **state) {
    struct fixture *fixture = *state;
    static char body[20000];
    memset(body, ' ', sizeof body - 1);
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "PUT", "/api/v1/loglevel", body, &answer), 413);
    assert_int_equal(fixture->acts, 0);
}

static void a_supervisor_that_cannot_be_asked_is_said_at_once(void **state) {
    struct fixture *fixture = *state;
    fixture->act_result = -ENOBUFS;
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "POST", "/api/v1/drain", "", &answer), 503);
    assert_int_equal(fixture->action, SP_ADMIN_DRAIN);
}

static void a_page_from_elsewhere_cannot_act_through_a_forwarded_socket(void **state) {
    struct fixture *fixture = *state;
    struct question question = begin(fixture, SP_ENDPOINT_ADMIN, "POST", "/api/v1/drain", "", "Origin: http://evil.example", &answer);
    while (turn(fixture, &question))
        ;
    end(&question);
    assert_int_equal(answer.status, 403);
    assert_int_equal(fixture->acts, 0);
}

static void whoever_waits_when_control_ends_is_told(void **state) {
    struct fixture *fixture = *state;
    struct question question = begin(fixture, SP_ENDPOINT_ADMIN, "POST", "/api/v1/drain", "", NULL, &answer);
    while (fixture->acts == 0)
        assert_true(turn(fixture, &question));
    sp_endpoints_free(fixture->endpoints);
    fixture->endpoints = NULL;
    while (turn(fixture, &question))
        ;
    end(&question);
    assert_int_equal(answer.status, 503);
}

static void a_client_that_leaves_while_waiting_costs_nothing(void **state) {
    struct fixture *fixture = *state;
    struct question question = begin(fixture, SP_ENDPOINT_ADMIN, "POST", "/api/v1/reload", "", NULL, &answer);
    while (fixture->acts == 0)
        assert_true(turn(fixture, &question));
    end(&question);
    sp_endpoints_answer(fixture->endpoints, fixture->id, true, SP_SPAN("done"));
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/healthz", NULL, &answer), 200);
}

static void a_socket_replaced_under_a_waiting_reload_still_answers_it(void **state) {
    struct fixture *fixture = *state;
    struct question question = begin(fixture, SP_ENDPOINT_ADMIN, "POST", "/api/v1/reload", "", NULL, &answer);
    while (fixture->acts == 0)
        assert_true(turn(fixture, &question));
    assert_int_equal(sp_endpoints_open(fixture->endpoints, SP_ENDPOINT_ADMIN, listen_on_path(fixture->socket_path)), 0);
    for (int i = 0; i < 5; i++)
        assert_true(turn(fixture, &question));
    static struct answer other;
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/healthz", NULL, &other), 200); /* by the new one */
    sp_endpoints_answer(fixture->endpoints, fixture->id, true, SP_SPAN("done"));
    while (turn(fixture, &question))
        ;
    end(&question);
    assert_int_equal(answer.status, 200);
}

static void an_address_the_configuration_no_longer_names_closes(void **state) {
    struct fixture *fixture = *state;
    fixture->config.admin.metrics.text = NULL;
    assert_int_equal(sp_endpoints_configure(fixture->endpoints), 0);
    assert_int_equal(ask(fixture, SP_ENDPOINT_METRICS, "GET", "/healthz", NULL, &answer), 0); /* nobody listens */
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/healthz", NULL, &answer), 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_metrics_address_shows_metrics_and_health_and_nothing_else, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ready_means_configured_with_a_worker_and_not_draining, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_status_is_json_with_what_is_configured_and_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_status_says_tokens_by_model_and_how_many_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_resource_is_in_the_openapi_document_and_every_path_of_it_exists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_page_shows_everything_escaped_under_a_strict_policy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_action_waits_for_the_supervisors_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refused_reload_says_every_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_log_level_is_taken_from_the_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_is_revoked_by_the_id_in_the_path_now_or_with_what_it_has_open_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_is_not_revoked_by_anything_else, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_body_that_is_too_large_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_supervisor_that_cannot_be_asked_is_said_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_page_from_elsewhere_cannot_act_through_a_forwarded_socket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(whoever_waits_when_control_ends_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_leaves_while_waiting_costs_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_socket_replaced_under_a_waiting_reload_still_answers_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_address_the_configuration_no_longer_names_closes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
