/* Limits and what they leave, as the admin socket tells them. */
#include "site.h"

static struct {
    unsigned asked;
    struct sp_facts facts;
    char text[SP_FACT_TEXTS][64];
    uint64_t id;
    int result;
} worker;

static int ask_worker(void *owner, const struct sp_facts *facts, uint64_t *ret_id) {
    (void)owner;
    worker.asked++;
    worker.facts = *facts;
    for (size_t i = 0; i < SP_FACT_TEXTS; i++)
        snprintf(worker.text[i], sizeof worker.text[i], SP_SPAN_FMT, (int)facts->text[i].len, facts->text[i].len ? facts->text[i].at : "");
    *ret_id = worker.id = 900 + worker.asked;
    return worker.result;
}

static int begin_each(void **state) {
    int r = set_up(state);
    struct fixture *fixture = *state;
    memset(&worker, 0, sizeof worker);
    fixture->limits[0].by = SP_BY_SUBJECT;
    fixture->limits[0].requests = (struct sp_rate){600, 60000000};
    fixture->limits[0].request_burst = 60;
    fixture->limits[0].concurrency = 4;
    sp_endpoints_ask_levels(fixture->endpoints, ask_worker, NULL);
    return r;
}

/* What a worker sends; the texts as one piece. */
static void answer_with(struct fixture *fixture, const struct sp_msg_levels *message, const struct sp_msg_level *rows, size_t n,
                        struct sp_span texts) {
    struct sp_buffer bytes;
    sp_buffer_init(&bytes, 64 * 1024);
    assert_int_equal(sp_buffer_append(&bytes, message, sizeof *message), 0);
    assert_int_equal(n > 0 ? sp_buffer_append(&bytes, rows, n * sizeof *rows) : 0, 0);
    assert_int_equal(sp_buffer_append_span(&bytes, texts), 0);
    sp_endpoints_levels(fixture->endpoints, sp_buffer_span(&bytes));
    sp_buffer_free(&bytes);
}

static struct question begin_levels(struct fixture *fixture, const char *path) {
    struct question question = begin(fixture, SP_ENDPOINT_ADMIN, "GET", path, NULL, NULL, &answer);
    unsigned before = worker.asked;
    while (worker.asked == before)
        assert_true(turn(fixture, &question));
    return question;
}

static void finish(struct fixture *fixture, struct question *question) {
    while (turn(fixture, question))
        ;
    end(question);
}

static void the_limits_in_force_are_told_with_whom_they_hold(void **state) {
    struct fixture *fixture = *state;
    unsigned held[] = {0};
    fixture->routes[0].limits = held;
    fixture->routes[0].n_limits = 1;
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/api/v1/limits", NULL, &answer), 200);
    json_t *told = json_of(&answer), *limit = json_array_get(json_object_get(told, "limits"), 0);
    json_t *expected = json_loads(
        "{\"name\":\"per-caller\",\"by\":[\"subject\"],\"requests\":{\"rate\":\"600/min\",\"amount\":600,\"period_us\":60000000,"
        "\"burst\":60,\"mode\":\"here\"},\"tokens\":null,\"concurrency\":4,\"mode\":\"leased\",\"on_outage\":\"share\","
        "\"shadow\":false,\"count\":\"all\",\"roles\":[],\"routes\":[\"<chat>\"],\"admitted\":0,\"refused\":1,\"shadow_refused\":0}",
        0, NULL);
    assert_true(json_equal(limit, expected));
    json_decref(expected);
    json_decref(told);
}

static void a_lease_is_told_where_it_is_possible(void **state) {
    struct fixture *fixture = *state;
    struct sp_redis_config redis = {.prefix = ""};
    fixture->config.redis = &redis;
    static const struct {
        uint64_t amount, burst;
        const char *mode;
    } cases[] = {{1000, 1000, "leased"}, {1000, 199, "strict"}, {5, 1000, "strict"}};
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        fixture->limits[0].requests = (struct sp_rate){cases[i].amount, 1000000};
        fixture->limits[0].request_burst = cases[i].burst;
        json_t *policies = sp_limit_policies_json(&fixture->config);
        json_t *requests = json_object_get(json_array_get(policies, 0), "requests");
        assert_string_equal(json_string_value(json_object_get(requests, "mode")), cases[i].mode);
        json_decref(policies);
    }
    fixture->config.redis = NULL;
}

static void a_question_goes_to_a_worker_with_its_escapes_undone(void **state) {
    struct fixture *fixture = *state;
    struct question question = begin_levels(fixture, "/api/v1/levels?subject=a%20b&tenant=&model=m%2Fx&address=192.0.2.7");
    assert_int_equal(worker.facts.given, SP_BY_SUBJECT | SP_BY_TENANT | SP_BY_MODEL | SP_BY_ADDRESS);
    assert_string_equal(worker.text[SP_FACT_SUBJECT], "a b");
    assert_string_equal(worker.text[SP_FACT_MODEL], "m/x");
    assert_int_equal(worker.facts.address[10], 0xff);
    assert_int_equal(worker.facts.address[15], 7);
    struct sp_msg_levels message = {.id = worker.id, .count = 1, .facts = {.given = SP_BY_SUBJECT, .len = {9}}};
    struct sp_msg_level row = {.limit_slot = 0,
                               .flags = SP_LEVEL_SHARED,
                               .bucket = {{.level = -3, .burst = 60, .full_after_ms = 6300}},
                               .places_used = 2,
                               .places_had = 3};
    add_refusal(fixture, 1000, "r1", "a b");
    add_refusal(fixture, 1001, "r2", "other");
    answer_with(fixture, &(struct sp_msg_levels){.id = 1, .facts = message.facts}, NULL, 0, SP_SPAN("key:other")); /* nobody's: ignored */
    answer_with(fixture, &message, &row, 1, SP_SPAN("jwt:i a b"));
    finish(fixture, &question);
    assert_int_equal(answer.status, 200);
    json_t *told = json_of(&answer), *limit = json_array_get(json_object_get(told, "limits"), 0),
           *bucket = json_object_get(limit, "requests");
    assert_string_equal(json_string_value(json_object_get(told, "account")), "jwt:i a b");
    assert_string_equal(json_string_value(json_object_get(told, "subject")), "a b");
    assert_int_equal(json_integer_value(json_object_get(bucket, "level")), -3);
    assert_int_equal(json_integer_value(json_object_get(bucket, "debt")), 3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(limit, "concurrency"), "most")), 4);
    assert_true(json_is_null(json_object_get(limit, "tokens")));
    assert_int_equal(json_array_size(json_object_get(told, "refusals")), 1);
    json_decref(told);
}

static void what_is_wrong_with_a_question_is_said_and_nobody_is_asked(void **state) {
    struct fixture *fixture = *state;
    static const char *const wrong[] = {"/api/v1/levels",
                                        "/api/v1/levels?subject=",
                                        "/api/v1/levels?route=",
                                        "/api/v1/levels?address=here",
                                        "/api/v1/levels?subject=a%00b",
                                        "/api/v1/levels?other=x"};
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", wrong[i], NULL, &answer), 400);
    assert_int_equal(worker.asked, 0);
    worker.result = -EPIPE;
    assert_int_equal(ask(fixture, SP_ENDPOINT_ADMIN, "GET", "/api/v1/levels?subject=x", NULL, &answer), 503);
}

static void a_worker_that_cannot_say_is_told_as_that(void **state) {
    struct fixture *fixture = *state;
    static const struct {
        enum sp_levels_verdict verdict;
        long status;
    } cases[] = {{SP_LEVELS_AMBIGUOUS, 422}, {SP_LEVELS_BUSY, 503}};
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        struct question question = begin_levels(fixture, "/api/v1/levels?subject=x");
        answer_with(fixture, &(struct sp_msg_levels){.id = worker.id, .verdict = cases[i].verdict}, NULL, 0, SP_SPAN(""));
        finish(fixture, &question);
        assert_int_equal(answer.status, cases[i].status);
    }
    struct question question = begin_levels(fixture, "/api/v1/levels?subject=x");
    finish(fixture, &question); /* nothing comes */
    assert_int_equal(answer.status, 504);
}

static void an_answer_that_is_none_is_ignored(void **state) {
    struct fixture *fixture = *state;
    struct question question = begin_levels(fixture, "/api/v1/levels?subject=x");
    struct sp_msg_levels message = {.id = worker.id};
    sp_endpoints_levels(fixture->endpoints, sp_span((const char *)&message, sizeof message - 1));
    answer_with(fixture, &(struct sp_msg_levels){.id = worker.id, .count = 65}, NULL, 0, SP_SPAN(""));
    answer_with(fixture, &(struct sp_msg_levels){.id = worker.id, .count = 1}, NULL, 0, SP_SPAN(""));
    answer_with(fixture, &(struct sp_msg_levels){.id = worker.id, .verdict = SP_LEVELS_VERDICTS}, NULL, 0, SP_SPAN(""));
    answer_with(fixture, &(struct sp_msg_levels){.id = worker.id}, NULL, 0, SP_SPAN("more"));
    answer_with(fixture, &message, NULL, 0, SP_SPAN(""));
    finish(fixture, &question);
    assert_int_equal(answer.status, 200);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, begin_each, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(the_limits_in_force_are_told_with_whom_they_hold),
        EACH(a_lease_is_told_where_it_is_possible),
        EACH(a_question_goes_to_a_worker_with_its_escapes_undone),
        EACH(what_is_wrong_with_a_question_is_said_and_nobody_is_asked),
        EACH(a_worker_that_cannot_say_is_told_as_that),
        EACH(an_answer_that_is_none_is_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
