#include "scene.h"

static bool request_passes(struct scene *scene, const char *name) {
    struct sp_span span = sp_span_text(name);
    struct sp_http_field field = {.name = span, .value = SP_SPAN("x"), .id = (uint16_t)sp_http_field_find(span)};
    return sp_request_field_passes(&scene->routes[0], &scene->pool, &field);
}

static bool response_passes(struct scene *scene, const char *name) {
    struct sp_span span = sp_span_text(name);
    struct sp_http_field field = {.name = span, .value = SP_SPAN("x"), .id = (uint16_t)sp_http_field_find(span)};
    return sp_response_field_passes(&scene->routes[0], &field);
}

static void credentials_and_what_speaks_for_the_gateway_never_pass_even_when_allowed(void **state) {
    struct scene scene;
    scene_open(&scene);
    const char *names[] = {"authorization", "x-api-key",  "api-key",         "proxy-authorization", "forwarded",  "x-forwarded-for", "x-forwarded-anything",
                           "x-sallyport-identity", "host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "keep-alive", "expect",
                           "trailer", "x-request-id", "traceparent", "Authorization", "X-FORWARDED-HOST"};
    scene.routes[0].request_headers.allow = (struct sp_texts){names, SP_COUNT(names)};
    scene.routes[0].response_headers.allow = (struct sp_texts){names, SP_COUNT(names)};
    for (size_t i = 0; i < SP_COUNT(names); i++) {
        assert_false(request_passes(&scene, names[i]));
        assert_false(response_passes(&scene, names[i]));
    }
    scene_close(&scene);
}

static void what_the_sdks_send_passes(void **state) {
    struct scene scene;
    scene_open(&scene);
    const char *names[] = {"Content-Type", "accept", "user-agent", "OpenAI-Organization", "openai-beta", "anthropic-version", "X-Stainless-Lang",
                           "idempotency-key", "Inference-Header-Content-Length"};
    for (size_t i = 0; i < SP_COUNT(names); i++)
        assert_true(request_passes(&scene, names[i]));
    scene_close(&scene);
}

static void what_nobody_named_stays_here_until_the_route_allows_it(void **state) {
    struct scene scene;
    scene_open(&scene);
    assert_false(request_passes(&scene, "x-custom"));
    assert_false(request_passes(&scene, "cookie"));
    assert_false(response_passes(&scene, "set-cookie"));
    assert_false(response_passes(&scene, "server"));
    assert_false(response_passes(&scene, "x-provider-key"));
    const char *allow[] = {"x-custom", "cookie"};
    scene.routes[0].request_headers.allow = (struct sp_texts){allow, 2};
    assert_true(request_passes(&scene, "X-Custom"));
    assert_true(request_passes(&scene, "Cookie"));
    scene_close(&scene);
}

static void hop_by_hop_fields_do_not_pass(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_http_field field = {.name = SP_SPAN("accept"), .value = SP_SPAN("x"), .id = SP_FIELD_ACCEPT, .hop_by_hop = true};
    assert_false(sp_request_field_passes(&scene.routes[0], &scene.pool, &field));
    assert_false(sp_response_field_passes(&scene.routes[0], &field));
    scene_close(&scene);
}

static void a_field_that_is_set_takes_the_place_of_the_senders(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_header_set set[] = {{"User-Agent", "gateway"}};
    scene.routes[0].request_headers.set = set;
    scene.routes[0].request_headers.n_set = 1;
    assert_false(request_passes(&scene, "user-agent"));
    scene.pool.credential.header = "Openai-Organization";
    assert_false(request_passes(&scene, "openai-organization"));
    scene_close(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(credentials_and_what_speaks_for_the_gateway_never_pass_even_when_allowed),
        cmocka_unit_test(what_the_sdks_send_passes),
        cmocka_unit_test(what_nobody_named_stays_here_until_the_route_allows_it),
        cmocka_unit_test(hop_by_hop_fields_do_not_pass),
        cmocka_unit_test(a_field_that_is_set_takes_the_place_of_the_senders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
