#include "scene.h"

#include <errno.h>
#include <stdio.h>

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

static void fields_that_stay_the_same_are_those_of_the_limits_that_are_shown(void **state) {
    static const struct sp_limit_config daily = {.name = "daily", .requests = {1000, 86400000000}, .request_burst = 1000, .tokens = {5, 1000000}, .token_burst = 50};
    const struct sp_limit_view a = {&per_caller, .burst = 60, .remaining = 1, .reset_ms = 999}, b = {&daily, .burst = 1000, .remaining = 2, .reset_ms = 1000};
    const struct sp_limit_view c = {&daily, .burst = 50, .remaining = 3, .reset_ms = 60000}, half = {&per_caller, .burst = 30, .remaining = 4, .reset_ms = 3600000};
    const struct {
        struct sp_limit_view shown[2];
        uint64_t generation;
        const char *fields;
    } answers[] = {
        {{a}, 1, "x-ratelimit-limit-requests: 60\nratelimit-policy: \"per-caller\";q=600;w=60\nx-ratelimit-remaining-requests: 1\n"
                 "x-ratelimit-reset-requests: 999ms\nratelimit: \"per-caller\";r=1;t=1\n\n"},
        {{a, c}, 1, "x-ratelimit-limit-requests: 60\nx-ratelimit-limit-tokens: 50\nratelimit-policy: \"per-caller\";q=600;w=60, \"daily-tokens\";q=5;w=1\n"
                    "x-ratelimit-remaining-requests: 1\nx-ratelimit-reset-requests: 999ms\nx-ratelimit-remaining-tokens: 3\n"
                    "x-ratelimit-reset-tokens: 1m0s\nratelimit: \"per-caller\";r=1;t=1, \"daily-tokens\";r=3;t=60\n\n"},
        {{b}, 1, "x-ratelimit-limit-requests: 1000\nratelimit-policy: \"daily\";q=1000;w=86400\nx-ratelimit-remaining-requests: 2\n"
                 "x-ratelimit-reset-requests: 1s\nratelimit: \"daily\";r=2;t=1\n\n"},
        {{half}, 1, "x-ratelimit-limit-requests: 30\nratelimit-policy: \"per-caller\";q=600;w=60\nx-ratelimit-remaining-requests: 4\n"
                    "x-ratelimit-reset-requests: 1h0m0s\nratelimit: \"per-caller\";r=4;t=3600\n\n"},
        {{half}, 1, "x-ratelimit-limit-requests: 30\nratelimit-policy: \"per-caller\";q=600;w=60\n"},
        {{half}, 2, "x-ratelimit-limit-requests: 30\nratelimit-policy: \"other\";q=600;w=60\n"}, /* after a reload: another limit at the same place */
    };
    struct scene scene;
    scene_open(&scene);
    struct sp_limit_config moving = per_caller;
    for (size_t i = 0; i < SP_COUNT(answers); i++) {
        if (scene.x && !scene.x->ended)
            sp_exchange_end(scene.x, "next");
        struct sp_exchange *x = scene_request(&scene, "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n");
        scene.config.generation = answers[i].generation;
        moving.name = answers[i].generation == 2 ? "other" : "per-caller";
        x->limited = true;
        x->limit.decision.admitted = true;
        memcpy(x->limit.decision.shown, answers[i].shown, sizeof answers[i].shown);
        if (x->limit.decision.shown[0].limit == &per_caller)
            x->limit.decision.shown[0].limit = &moving;
        sp_buffer_consume(&scene.told, sp_buffer_len(&scene.told));
        assert_int_equal(sp_reply(x, 404, "not_found", "No.", "test"), SP_STAGE_REPLY);
        assert_true(scene_told(&scene, answers[i].fields));
    }
    scene_close(&scene);
}

static void durations_have_the_form_of_gos(void **state) {
    static const struct {
        uint64_t ms;
        const char *text;
    } durations[] = {{0, "0ms"},         {999, "999ms"},        {1000, "1s"},          {1001, "1.001s"},        {59999, "59.999s"},
                     {60000, "1m0s"},    {60999, "1m0s"},       {3599999, "59m59s"},   {3600000, "1h0m0s"},     {90061000, "25h1m1s"},
                     {UINT64_MAX, "5124095576030h25m51s"}};
    struct scene scene;
    scene_open(&scene);
    for (size_t i = 0; i < SP_COUNT(durations); i++) {
        if (scene.x && !scene.x->ended)
            sp_exchange_end(scene.x, "next");
        struct sp_exchange *x = scene_request(&scene, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        x->limited = x->limit.decision.admitted = true;
        x->limit.decision.shown[0] = (struct sp_limit_view){&per_caller, .burst = 60, .reset_ms = durations[i].ms};
        sp_buffer_consume(&scene.told, sp_buffer_len(&scene.told));
        assert_int_equal(sp_reply(x, 404, "not_found", "No.", "test"), SP_STAGE_REPLY);
        char field[64];
        (void)snprintf(field, sizeof field, "\nx-ratelimit-reset-requests: %s\n", durations[i].text);
        assert_true(scene_told(&scene, field));
    }
    scene_close(&scene);
}

static void no_field_can_end_its_line_early(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    struct sp_limit_config evil = per_caller;
    evil.name = "a\"\r\nset-cookie: b";
    x->limited = x->limit.decision.admitted = true;
    x->limit.decision.shown[0] = (struct sp_limit_view){&evil, .burst = 60};
    assert_int_equal(sp_reply(x, 404, "not_found", "No.", "test"), SP_STAGE_REPLY);
    assert_true(scene_told(&scene, "no head\n"));
    assert_false(scene_told(&scene, "set-cookie"));

    struct sp_answer answer;
    sp_answer_begin(x, &answer, 200);
    sp_answer_add_other(&answer, SP_SPAN("a"), SP_SPAN("b"));
    sp_answer_add_other(&answer, SP_SPAN("a: b\r\nc"), SP_SPAN("d"));
    sp_answer_add_number(&answer, SP_HTTP_NAME("e"), 5);
    assert_int_equal(answer.error, -EINVAL); /* and it stays */
    assert_true(sp_span_eq(sp_buffer_span(answer.fields), SP_SPAN("a: b\r\ne: 5\r\n")));
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
        cmocka_unit_test(fields_that_stay_the_same_are_those_of_the_limits_that_are_shown),
        cmocka_unit_test(durations_have_the_form_of_gos),
        cmocka_unit_test(no_field_can_end_its_line_early),
        cmocka_unit_test(a_refused_exchange_ends_exactly_once),
        cmocka_unit_test(after_the_answer_has_begun_a_refusal_breaks_it_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
