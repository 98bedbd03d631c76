/* Refusals as the admin socket tells them. */
#include "site.h"

static const char *refusal_text(json_t *refusals, size_t i, const char *member) {
    return json_string_value(json_object_get(json_array_get(json_object_get(refusals, "refusals"), i), member));
}

static json_t *ask_json(struct fixture *fixture, const char *path, long status) {
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", path, NULL, &answer), status);
    return json_of(&answer);
}

static void a_refusal_is_told_with_everything_that_is_known_of_it(void **state) {
    struct fixture *fixture = *state;
    struct sp_refused refused = {.wall_ms = UINT64_C(1795383233123),
                                 .request_id = SP_SPAN("a.b:c-d_e"),
                                 .reason = SP_SPAN("limit"),
                                 .route = SP_SPAN("chat"),
                                 .model = SP_SPAN("m\xff\x1b[31m"), /* bytes that a client chose */
                                 .subject = SP_SPAN("alice"),
                                 .client = SP_SPAN("192.0.2.7"),
                                 .path = SP_SPAN("/v1/chat/completions"),
                                 .limit = SP_SPAN("per-caller"),
                                 .limit_kind = SP_SPAN("tokens"),
                                 .status = 429,
                                 .asked = 900,
                                 .most = 1000,
                                 .remaining = 120,
                                 .retry_after_ms = 4200,
                                 .degraded = true};
    sp_refusals_add(fixture->counters, 0, &refused);
    json_t *found = ask_json(fixture, "/api/v1/refusals/a.b:c-d_e", 200);
    assert_int_equal(json_array_size(json_object_get(found, "refusals")), 1);
    json_t *refusal = json_array_get(json_object_get(found, "refusals"), 0), *limit = json_object_get(refusal, "limit");
    assert_string_equal(refusal_text(found, 0, "time"), "2026-11-22T21:33:53.123Z");
    assert_string_equal(refusal_text(found, 0, "reason"), "limit");
    assert_string_equal(refusal_text(found, 0, "model"), "m\xef\xbf\xbd\x1b[31m");
    assert_string_equal(refusal_text(found, 0, "client"), "192.0.2.7");
    assert_true(json_is_null(json_object_get(refusal, "tenant")));
    assert_true(json_is_true(json_object_get(refusal, "degraded")));
    assert_true(json_is_false(json_object_get(refusal, "shadow")));
    assert_int_equal(json_integer_value(json_object_get(refusal, "status")), 429);
    assert_string_equal(json_string_value(json_object_get(limit, "name")), "per-caller");
    assert_string_equal(json_string_value(json_object_get(limit, "kind")), "tokens");
    assert_int_equal(json_integer_value(json_object_get(limit, "asked")), 900);
    assert_int_equal(json_integer_value(json_object_get(limit, "most")), 1000);
    assert_int_equal(json_integer_value(json_object_get(limit, "remaining")), 120);
    assert_int_equal(json_integer_value(json_object_get(limit, "retry_after_ms")), 4200);
    char started[SP_TIMESTAMP_LEN + 1];
    sp_timestamp(fixture->view.started_wall_ms, started);
    assert_string_equal(json_string_value(json_object_get(found, "complete_since")), started);
    json_decref(found);
}

static void all_refusals_of_one_id_are_told_newest_first_and_of_an_unknown_one_how_far_they_go_back(void **state) {
    struct fixture *fixture = *state;
    add_refusal(fixture, 1000, "same", "alice");
    add_refusal(fixture, 2000, "same", "bob");
    add_refusal(fixture, 3000, "other", "bob");
    json_t *found = ask_json(fixture, "/api/v1/refusals/same", 200);
    assert_int_equal(json_array_size(json_object_get(found, "refusals")), 2);
    assert_string_equal(refusal_text(found, 0, "subject"), "bob");
    assert_string_equal(refusal_text(found, 1, "subject"), "alice");
    assert_true(json_is_null(json_object_get(json_array_get(json_object_get(found, "refusals"), 0), "limit")));
    json_decref(found);
    json_t *missing = ask_json(fixture, "/api/v1/refusals/unknown", 404);
    char started[SP_TIMESTAMP_LEN + 1];
    sp_timestamp(fixture->view.started_wall_ms, started);
    assert_non_null(strstr(json_string_value(json_object_get(missing, "message")), started));
    json_decref(missing);
    for (unsigned i = 0; i < 3000; i++)
        add_refusal(fixture, 5000 + i, "flood", "mallory");
    missing = ask_json(fixture, "/api/v1/refusals/other", 404);
    assert_non_null(strstr(json_string_value(json_object_get(missing, "message")), "1970-01-01T00:00:05.952Z"));
    json_decref(missing);
    found = ask_json(fixture, "/api/v1/refusals/flood", 200);
    assert_int_equal(json_array_size(json_object_get(found, "refusals")), 100); /* no more than that at a time */
    json_decref(found);
}

static void the_latest_refusals_are_told_of_everybody_or_of_one_subject(void **state) {
    struct fixture *fixture = *state;
    for (unsigned i = 0; i < 30; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%u", i);
        add_refusal(fixture, 1000 + i, id, i % 3 == 0 ? "a b&c/d+e" : "bob");
    }
    json_t *found = ask_json(fixture, "/api/v1/refusals", 200);
    assert_int_equal(json_array_size(json_object_get(found, "refusals")), 20);
    assert_string_equal(refusal_text(found, 0, "request_id"), "id-29");
    json_decref(found);
    found = ask_json(fixture, "/api/v1/refusals?subject=a%20b%26c/d%2Be&limit=3", 200);
    assert_int_equal(json_array_size(json_object_get(found, "refusals")), 3);
    assert_string_equal(refusal_text(found, 0, "request_id"), "id-27");
    assert_string_equal(refusal_text(found, 0, "subject"), "a b&c/d+e");
    json_decref(found);
    found = ask_json(fixture, "/api/v1/refusals?subject=nobody", 200);
    assert_int_equal(json_array_size(json_object_get(found, "refusals")), 0);
    json_decref(found);
    static const char *const wrong[] = {
        "?limit=0",  "?limit=101", "?limit=-1",   "?limit=", "?limit", "?limit=1x", "?limit=18446744073709551616",
        "?subject=", "?subject",   "?subject=%00"};
    for (size_t i = 0; i < SP_COUNT(wrong); i++) {
        char path[64];
        snprintf(path, sizeof path, "/api/v1/refusals%s", wrong[i]);
        json_decref(ask_json(fixture, path, 400));
    }
}

static void what_is_no_request_id_is_no_resource(void **state) {
    struct fixture *fixture = *state;
    static const char *const paths[] = {"/api/v1/refusals/",
                                        "/api/v1/refusals/a%20b",
                                        "/api/v1/refusals/a/b",
                                        "/api/v1/refusals/a%2Fb",
                                        "/api/v1/refusalsx",
                                        "/api/v1/refusal/x",
                                        "/api/v1/refusals/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};
    add_refusal(fixture, 1000, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "alice");
    json_decref(ask_json(fixture, "/api/v1/refusals/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 200));
    for (size_t i = 0; i < SP_COUNT(paths); i++) {
        json_t *missing = ask_json(fixture, paths[i], 404);
        assert_string_equal(json_string_value(json_object_get(missing, "message")), "no such resource");
        json_decref(missing);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_refusal_is_told_with_everything_that_is_known_of_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(all_refusals_of_one_id_are_told_newest_first_and_of_an_unknown_one_how_far_they_go_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_latest_refusals_are_told_of_everybody_or_of_one_subject, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_request_id_is_no_resource, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
