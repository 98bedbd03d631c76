#include "scene.h"

static const struct sp_limit_config per_caller = {.name = "per-caller", .requests = {600, 60000000}, .request_burst = 60};

static void errors_have_openais_shape(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(sp_reply(x, 404, "not_found", "No \"such\" thing.", "test"), SP_STAGE_REPLY);
    assert_true(scene_told(&scene, "404\ncontent-type: application/json\n"));
    assert_true(scene_told(&scene, "{\"error\":{\"message\":\"No \\\"such\\\" thing.\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"not_found\"}}"));
    assert_true(scene_told(&scene, "\nx-request-id: "));
    assert_true(scene_told(&scene, "\nstrict-transport-security: max-age="));
    scene_close(&scene);
}

static void under_messages_errors_have_anthropics_shape(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, "POST /v1/messages HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(sp_reply(x, 401, "invalid_api_key", "No.", "test"), SP_STAGE_REPLY);
    assert_true(scene_told(&scene, "{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"No.\"},\"request_id\":\""));
    scene_close(&scene);
}

static void a_head_request_gets_the_length_and_no_body(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, "HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(sp_reply(x, 404, "not_found", "No.", "test"), SP_STAGE_REPLY);
    assert_false(scene_told(&scene, "{"));
    scene_close(&scene);
}

static void a_refusal_says_when_to_come_back_in_every_dialect(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n");
    x->limited = true;
    x->limit.decision = (struct sp_limit_decision){
        .refused_by = &per_caller, .shown[SP_LIMIT_REQUESTS] = {&per_caller, .burst = 60, .remaining = 0, .reset_ms = 6001}, .retry_after_ms = 101, .degraded = true};
    assert_int_equal(sp_reply(x, 429, "rate_limit_exceeded", "Later.", "limit"), SP_STAGE_REPLY);
    const char *fields[] = {"\nretry-after: 1\n", "\nretry-after-ms: 101\n", "\nx-ratelimit-limit-requests: 60\n", "\nx-ratelimit-remaining-requests: 0\n",
                            "\nx-ratelimit-reset-requests: 6.001s\n", "\nratelimit: \"per-caller\";r=0;t=7\n", "\nratelimit-policy: \"per-caller\";q=600;w=60\n",
                            "\nx-sallyport-degraded: limits\n"};
    for (size_t i = 0; i < SP_COUNT(fields); i++)
        assert_true(scene_told(&scene, fields[i]));
    scene_close(&scene);
}

static void a_refused_exchange_ends_exactly_once(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    sp_exchange_refuse(x, 408, "request too slow");
    sp_exchange_refuse(x, 400, "again");
    sp_exchange_client_left(x);
    assert_int_equal(scene.ends, 1);
    assert_int_equal(scene.dones, 1);
    assert_int_equal(scene.broken, 0);
    assert_int_equal(x->status, 408);
    assert_string_equal(x->reason, "request too slow");
    scene_close(&scene);
}

static void after_the_answer_has_begun_a_refusal_breaks_it_off(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    x->answered = true;
    sp_exchange_refuse(x, 400, "malformed chunk");
    assert_int_equal(scene.broken, 1);
    assert_int_equal(scene.ends, 0);
    assert_int_equal(scene.dones, 1);
    scene_close(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_have_openais_shape),
        cmocka_unit_test(under_messages_errors_have_anthropics_shape),
        cmocka_unit_test(a_head_request_gets_the_length_and_no_body),
        cmocka_unit_test(a_refusal_says_when_to_come_back_in_every_dialect),
        cmocka_unit_test(a_refused_exchange_ends_exactly_once),
        cmocka_unit_test(after_the_answer_has_begun_a_refusal_breaks_it_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
