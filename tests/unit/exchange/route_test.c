#include "scene.h"

#include <stdio.h>

static enum sp_stage_answer ask(struct scene *scene, const char *request_line, const char *host) {
    char head[1024];
    assert_true(snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: %s\r\n\r\n", request_line, host) < (int)sizeof head);
    if (scene->x && !scene->x->ended)
        sp_exchange_end(scene->x, "next");
    return sp_stage_route(scene_request(scene, head));
}

static void a_prefix_ends_where_a_segment_ends(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene.routes[0].path = "/v1";
    assert_int_equal(ask(&scene, "GET /v1", "a"), SP_STAGE_NEXT);
    assert_int_equal(ask(&scene, "GET /v1/models", "a"), SP_STAGE_NEXT);
    assert_int_equal(ask(&scene, "GET /v1?x=1", "a"), SP_STAGE_NEXT);
    assert_int_equal(ask(&scene, "GET /v10", "a"), SP_STAGE_REPLY);
    assert_int_equal(ask(&scene, "GET /", "a"), SP_STAGE_REPLY);
    assert_int_equal(scene.x->status, 404);
    scene_close(&scene);
}

static void an_exact_path_takes_nothing_below_it(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene.routes[0].path = "/v1/models";
    scene.routes[0].exact = true;
    assert_int_equal(ask(&scene, "GET /v1/models", "a"), SP_STAGE_NEXT);
    assert_int_equal(ask(&scene, "GET /v1/models/", "a"), SP_STAGE_REPLY);
    assert_int_equal(ask(&scene, "GET /v1/models/x", "a"), SP_STAGE_REPLY);
    scene_close(&scene);
}

static void hosts_match_without_case_and_wildcards_need_a_label(void **state) {
    struct scene scene;
    scene_open(&scene);
    const char *hosts[] = {"api.example.com", "*.models.test"};
    scene.routes[0].host = (struct sp_texts){hosts, 2};
    assert_int_equal(ask(&scene, "GET /", "API.Example.com"), SP_STAGE_NEXT);
    assert_int_equal(ask(&scene, "GET /", "api.example.com:8443"), SP_STAGE_NEXT);
    assert_int_equal(ask(&scene, "GET /", "a.b.models.test"), SP_STAGE_NEXT);
    assert_int_equal(ask(&scene, "GET /", "models.test"), SP_STAGE_REPLY);
    assert_int_equal(ask(&scene, "GET /", "evilmodels.test"), SP_STAGE_REPLY);
    scene_close(&scene);
}

static void the_first_route_that_takes_the_method_wins_and_405_says_what_is_allowed(void **state) {
    struct scene scene;
    scene_open(&scene);
    const char *get[] = {"GET", "HEAD"}, *post[] = {"POST"};
    scene.routes[0].methods = (struct sp_texts){get, 2};
    scene.routes[1].methods = (struct sp_texts){post, 1};
    scene.config.n_routes = 2;
    assert_int_equal(ask(&scene, "POST /v1", "a"), SP_STAGE_NEXT);
    assert_ptr_equal(scene.x->route, &scene.routes[1]);
    assert_int_equal(ask(&scene, "DELETE /v1", "a"), SP_STAGE_REPLY);
    assert_int_equal(scene.x->status, 405);
    assert_true(scene_told(&scene, "\nallow: GET, HEAD\n"));
    scene_close(&scene);
}

static void a_stripped_prefix_leaves_a_path(void **state) {
    struct {
        const char *strip, *asked, *forwarded;
    } cases[] = {
        {"/openai", "GET /openai/v1/chat", "/v1/chat"}, {"/openai", "GET /openai", "/"},        {"/openai/", "GET /openai/v1", "/v1"},
        {"/open", "GET /openai/v1", "/openai/v1"},      {"", "GET /openai/v1", "/openai/v1"}, {"/x", "GET /openai", "/openai"},
    };
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        struct scene scene;
        scene_open(&scene);
        scene.routes[0].strip_prefix = cases[i].strip;
        assert_int_equal(ask(&scene, cases[i].asked, "a"), SP_STAGE_NEXT);
        assert_true(sp_span_eq(scene.x->path, sp_span_text(cases[i].forwarded)));
        scene_close(&scene);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_ends_where_a_segment_ends),
        cmocka_unit_test(an_exact_path_takes_nothing_below_it),
        cmocka_unit_test(hosts_match_without_case_and_wildcards_need_a_label),
        cmocka_unit_test(the_first_route_that_takes_the_method_wins_and_405_says_what_is_allowed),
        cmocka_unit_test(a_stripped_prefix_leaves_a_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
