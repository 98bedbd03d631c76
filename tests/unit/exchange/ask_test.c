/* Waiting for what an issuer says: equal questions are one, everybody who waits goes on, and nobody waits for ever. */
#include "scene.h"

#include <ctype.h>
#include <stdio.h>

#define OPAQUE(token) "GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " token "\r\n\r\n"
#define ACTIVE        "{\"active\":true,\"aud\":\"inference\",\"sub\":\"alice\"}"

static struct scene scene;
static struct sp_issuer_config issuer;
static struct {
    unsigned count;
    uint64_t id;
    enum sp_question_kind kind;
    int result;
} asked;

static int ask(void *owner, uint64_t id, const struct sp_issuer_config *config, const struct sp_auth_question *question) {
    assert_ptr_equal(config, &issuer);
    asked.count++;
    asked.id = id;
    asked.kind = question->kind;
    return asked.result;
}

static int open_scene(void **state) {
    static const char *audience[] = {"inference"}, *types[] = {"JWT"};
    char *error = NULL;
    scene_open(&scene);
    asked.count = 0;
    asked.result = 0;
    issuer = (struct sp_issuer_config){.issuer.text = "https://issuer.test",
                                       .audience = {audience, 1},
                                       .types = {types, 1},
                                       .algorithms = 1u << SP_ALG_ES256,
                                       .fetches_keys = true,
                                       .claims = {"sub", "org_id", "roles", "scope"},
                                       .introspection = {.url = "https://issuer.test/introspect", .cache_s = 30},
                                       .fingerprint = 7};
    scene.config.issuers = &issuer;
    scene.config.n_issuers = 1;
    scene.routes[0].authenticate = SP_AUTHENTICATE_JWT;
    scene.routes[0].roles = 1; /* which nobody has: a good token is told by 403 */
    assert_int_equal(sp_identity_new(&scene.config, &error, &scene.service->snapshot->identity), 0);
    scene.service->parts.ask = ask;
    return sp_token_cache_new(100, &scene.service->parts.tokens);
}

static int close_scene(void **state) {
    struct sp_identity *identity = scene.service->snapshot->identity;
    struct sp_token_cache *tokens = scene.service->parts.tokens;
    if (scene.x && !scene.x->ended)
        sp_exchange_end(scene.x, "test over");
    sp_questions_free(scene.service);
    scene_close(&scene);
    sp_identity_unref(identity);
    sp_token_cache_free(tokens);
    return 0;
}

static struct sp_exchange *request(const char *head) {
    struct sp_exchange *x = scene_request(&scene, head);
    sp_exchange_run(x);
    return x;
}

/* A token of this issuer whose key nobody has. */
static struct sp_exchange *request_with_kid(unsigned number) {
    static const char claims[] = "{\"iss\":\"https://issuer.test\"}";
    char header[64], head[512], h[128], c[64];
    int n = snprintf(header, sizeof header, "{\"alg\":\"ES256\",\"kid\":\"%u\"}", number);
    size_t h_len = sp_base64url(header, (size_t)n, h), c_len = sp_base64url(claims, sizeof claims - 1, c);
    snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %.*s.%.*s.AAAA\r\n\r\n", (int)h_len, h, (int)c_len, c);
    return request(head);
}

/* How often this status was told. A request's id may end in the same digits. */
static unsigned times(const char *status) {
    unsigned count = 0;
    struct sp_span told = sp_buffer_span(&scene.told), rest = told;
    for (const char *at; (at = memmem(rest.at, rest.len, status, strlen(status)));) {
        count += at == told.at || !isalnum((unsigned char)at[-1]);
        rest = sp_span_from(rest, (size_t)(at - rest.at) + 1);
    }
    return count;
}

static void equal_questions_are_asked_once_and_all_go_on(void **state) {
    struct sp_exchange *first = request(OPAQUE("one")), *second = request(OPAQUE("one"));
    assert_int_equal(asked.count, 1);
    assert_int_equal(asked.kind, SP_QUESTION_TOKEN);
    assert_non_null(first->asking);
    assert_ptr_equal(first->asking, second->asking);
    sp_service_introspected(scene.service, asked.id, true, SP_SPAN(ACTIVE));
    assert_true(first->ended && second->ended);
    assert_int_equal(times("403\n"), 2);
    request(OPAQUE("one"));
    assert_int_equal(asked.count, 1); /* remembered */
    assert_int_equal(times("403\n"), 3);
}

static void different_tokens_are_different_questions(void **state) {
    struct sp_exchange *first = request(OPAQUE("one"));
    uint64_t id = asked.id;
    struct sp_exchange *second = request(OPAQUE("two"));
    assert_int_equal(asked.count, 2);
    sp_service_introspected(scene.service, id, true, SP_SPAN("{\"active\":false}"));
    assert_true(first->ended);
    assert_false(second->ended);
    assert_int_equal(times("401\n"), 1);
}

static void no_answer_is_503_and_an_issuer_nobody_can_ask_too(void **state) {
    request(OPAQUE("one"));
    sp_service_introspected(scene.service, asked.id, false, sp_span(NULL, 0));
    assert_int_equal(times("503\n"), 1);
    assert_true(scene_told(&scene, "\nretry-after: "));
    asked.result = -1;
    request(OPAQUE("two"));
    assert_int_equal(times("503\n"), 2);
}

static void when_control_is_gone_nobody_waits_on(void **state) {
    struct sp_exchange *opaque = request(OPAQUE("one")), *keys = request_with_kid(1);
    sp_service_unanswered(scene.service);
    while (!opaque->ended || !keys->ended)
        assert_int_equal(sp_loop_turn(scene.loop, 100), 0);
    assert_int_equal(times("503\n"), 1);
    assert_int_equal(times("401\n"), 1);
}

static void a_question_is_given_up(void **state) {
    struct sp_exchange *x = request_with_kid(1);
    assert_int_equal(asked.kind, SP_QUESTION_KEYS);
    uint64_t began = sp_clock_ns();
    while (!scene_told(&scene, "401\n"))
        assert_int_equal(sp_loop_turn(scene.loop, 100), 0);
    assert_true(sp_clock_ns() - began >= 1900000000);
    (void)x;
    sp_service_keys_answered(scene.service, asked.id, true, 0); /* too late: ignored */
    assert_int_equal(times("401\n"), 1);
}

static void who_left_is_not_called_again(void **state) {
    struct sp_exchange *x = request(OPAQUE("one"));
    sp_exchange_client_left(x);
    sp_loop_settle(scene.loop);
    sp_service_introspected(scene.service, asked.id, true, SP_SPAN(ACTIVE));
    assert_int_equal(times("403\n"), 0);
    request(OPAQUE("one"));
    assert_int_equal(asked.count, 1); /* the answer was not in vain */
    assert_int_equal(times("403\n"), 1);
}

static void a_flood_of_unknown_keys_is_one_question(void **state) {
    for (unsigned i = 0; i < 50; i++)
        request_with_kid(i);
    assert_int_equal(asked.count, 1);
    sp_service_keys_answered(scene.service, asked.id, true, 10000);
    assert_int_equal(times("401\n"), 50);
    for (unsigned i = 50; i < 100; i++)
        request_with_kid(i);
    assert_int_equal(asked.count, 1); /* it was asked a moment ago */
    assert_int_equal(times("401\n"), 100);
}

static void after_its_rest_a_question_is_asked_again(void **state) {
    request_with_kid(1);
    sp_service_keys_answered(scene.service, asked.id, true, 20);
    while (!sp_list_empty(&scene.service->questions))
        assert_int_equal(sp_loop_turn(scene.loop, 100), 0);
    request_with_kid(2);
    assert_int_equal(asked.count, 2);
}

static void whoever_has_waited_long_waits_no_more(void **state) {
    struct sp_exchange *x = scene_request(&scene, OPAQUE("one"));
    x->started_us -= 6100000;
    sp_exchange_run(x);
    assert_int_equal(asked.count, 0);
    assert_int_equal(times("503\n"), 1);
}

static void questions_are_bounded(void **state) {
    char head[256];
    for (unsigned i = 0; i < 1100; i++) {
        snprintf(head, sizeof head, OPAQUE("token-%u"), i);
        struct sp_exchange *x = request(head);
        if (i < 1024)
            assert_non_null(x->asking);
        else
            assert_true(x->ended);
    }
    assert_int_equal(asked.count, 1024);
    assert_int_equal(times("503\n"), 1100 - 1024);
    sp_service_unanswered(scene.service);
    while (!sp_list_empty(&scene.service->questions))
        assert_int_equal(sp_loop_turn(scene.loop, 100), 0);
}

int main(void) {
#define T(test) cmocka_unit_test_setup_teardown(test, open_scene, close_scene)
    const struct CMUnitTest tests[] = {
        T(equal_questions_are_asked_once_and_all_go_on),
        T(different_tokens_are_different_questions),
        T(no_answer_is_503_and_an_issuer_nobody_can_ask_too),
        T(when_control_is_gone_nobody_waits_on),
        T(a_question_is_given_up),
        T(who_left_is_not_called_again),
        T(a_flood_of_unknown_keys_is_one_question),
        T(after_its_rest_a_question_is_asked_again),
        T(whoever_has_waited_long_waits_no_more),
        T(questions_are_bounded),
    };
    return cmocka_run_group_tests_name("exchange: questions to issuers", tests, NULL, NULL);
}
