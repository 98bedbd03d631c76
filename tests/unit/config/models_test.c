/* Models: names that clients use, who serves them, who may use them. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "support.h"

#define HEAD    "version: 1\n" LISTENERS POOLS
#define BY_BODY "routes:\n  - {name: r, path: /, authenticate: [none], models: body}\n"
/* What is added to it begins in line 9. */
#define BY_MODEL                    HEAD BY_BODY
#define WITH_ROUTE(keys)            HEAD "routes:\n  - {name: r, path: /, authenticate: [none], " keys "}\n"
#define WITH_ROUTE_AND_MODELS(keys) WITH_ROUTE(keys) "models: {a: {pool: p}}\n"

static void a_model_is_found_by_its_name(void **state) {
    struct sp_config *config =
        config_of(HEAD "  q: {servers: [{url: \"http://h\"}]}\n" BY_BODY "models:\n"
                       "  meta-llama/Llama-3.1:8b@q4_0: {pool: q}\n"
                       "  zephyr: {pool: p, as: org/zephyr 7B (beta)*, fallback: [qwen, meta-llama/Llama-3.1:8b@q4_0]}\n"
                       "  qwen: {pool: p}\n");
    const struct sp_model_config *zephyr = sp_config_model(config, SP_SPAN("zephyr")),
                                 *llama = sp_config_model(config, SP_SPAN("meta-llama/Llama-3.1:8b@q4_0")),
                                 *qwen = sp_config_model(config, SP_SPAN("qwen"));
    assert_int_equal(config->n_models, 3);
    assert_string_equal(zephyr->name, "zephyr");
    assert_string_equal(zephyr->as, "org/zephyr 7B (beta)*");
    assert_ptr_equal(zephyr->pool, &config->pools[0]);
    assert_int_equal(zephyr->n_fallback, 2);
    assert_ptr_equal(&config->models[zephyr->fallback[0]], qwen);
    assert_ptr_equal(&config->models[zephyr->fallback[1]], llama);
    assert_string_equal(llama->as, "meta-llama/Llama-3.1:8b@q4_0");
    assert_ptr_equal(llama->pool, &config->pools[1]);
    assert_int_equal(qwen->n_fallback, 0);
    static const char *const unknown[] = {"", "a", "qwe", "qwen2", "QWEN", "zzz", "zephyr "};
    for (size_t i = 0; i < SP_COUNT(unknown); i++)
        assert_null(sp_config_model(config, sp_span_text(unknown[i])));
    assert_null(sp_config_model(config, sp_span("qwen\0x", 6)));
    assert_null(sp_config_model(config, sp_span("qwen\0", 5)));
    assert_null(sp_config_model(config, sp_span(NULL, 0)));
    sp_config_unref(config);
}

/* As many as there may be, each beside a name that begins with it. */
static void every_one_of_many_models_is_found(void **state) {
    struct sp_buffer yaml;
    char name[32];
    sp_buffer_init(&yaml, 64 * 1024);
    assert_int_equal(sp_buffer_printf(&yaml, "%smodels:\n", BY_MODEL), 0);
    for (unsigned i = 0; i < SP_MODELS_MAX; i++)
        assert_int_equal(sp_buffer_printf(&yaml, "  m%u: {pool: p}\n", i * 7 % SP_MODELS_MAX), 0);
    assert_int_equal(sp_buffer_append(&yaml, "", 1), 0);
    struct sp_config *config = config_of(sp_buffer_span(&yaml).at);
    for (unsigned i = 0; i < SP_MODELS_MAX; i++) {
        snprintf(name, sizeof name, "m%u", i);
        const struct sp_model_config *model = sp_config_model(config, sp_span_text(name));
        assert_non_null(model);
        assert_string_equal(model->name, name);
        snprintf(name, sizeof name, "m%u.", i);
        assert_null(sp_config_model(config, sp_span_text(name)));
    }
    sp_config_unref(config);
    sp_buffer_free(&yaml);
}

static void what_a_model_names_must_be_there(void **state) {
    ASSERT_ERRORS(BY_MODEL "models:\n  llama: {pool: q, fallback: [lama, llama]}\n  other: {}\n",
                  "t:10:17: `pool`: there is no 'q' in `pools`",
                  "t:10:31: `fallback`: there is no 'lama' in `models` (did you mean `llama`?)",
                  "t:11:10: `pool` is missing in this model: who serves it");
    ASSERT_ERRORS(BY_MODEL "models:\n  a: {pool: p, fallback: [a]}\n", "t:10:27: `fallback`: 'a' cannot stand in for itself; take it out");
    ASSERT_ERRORS(BY_MODEL "models:\n  a: {pool: p, fallback: [b, b]}\n  b: {pool: p, fallback: [a]}\n",
                  "t:10:30: `fallback` says 'b' twice; remove one");
    ASSERT_ERRORS(BY_MODEL "models: {a: {pool: p, fallback: [b,b,b,b,b,b,b,b,b]}, b: {pool: p, fallback: b}}\n",
                  "t:9:33: `fallback` has 9 entries; at most 8 are possible", "t:9:36: `fallback` says 'b' twice; remove one",
                  "t:9:38: `fallback` says 'b' twice; remove one", "t:9:40: `fallback` says 'b' twice; remove one",
                  "t:9:42: `fallback` says 'b' twice; remove one", "t:9:44: `fallback` says 'b' twice; remove one",
                  "t:9:46: `fallback` says 'b' twice; remove one", "t:9:48: `fallback` says 'b' twice; remove one",
                  "t:9:50: `fallback` says 'b' twice; remove one", "t:9:78: `fallback`: expected a list, such as [a, b], not 'b'");
    ASSERT_ERRORS(BY_MODEL "models: {a: {pool: p}, b: 5}\n", "t:9:27: `models`: expected keys with values after each name, not 5");
}

static void names_of_models_have_a_form(void **state) {
    static const char form[] = ": a model is 1 to 128 printable ASCII characters without quotes and backslash";
    static const struct {
        const char *written, *shown;
    } wrong[] = {{"\"a\\\"b\"", "a\"b"}, {"\"a'b\"", "a'b"}, {"\"a\\\\b\"", "a\\b"},
                 {"\" a\"", " a"},       {"\"a \"", "a "},   {"\"\\u00e9\"", "\u00e9"}};
    for (size_t i = 0; i < SP_COUNT(wrong); i++) {
        char yaml[1024], line[256];
        snprintf(yaml, sizeof yaml, "%smodels: {%s: {pool: p}}\n", BY_MODEL, wrong[i].written);
        snprintf(line, sizeof line, "t:9:10: `models`: '%s'%s", wrong[i].shown, form);
        ASSERT_ERRORS(yaml, line);
    }
    ASSERT_ERRORS(BY_MODEL "models: {\"llama-*\": {pool: p}}\n",
                  "t:9:10: `models`: 'llama-*': a model's name holds no *, which stands for any characters in `roles`");
    ASSERT_ERRORS(BY_MODEL "models: {a: {pool: p, as: \"a\\\"b\"}}\n",
                  "t:9:27: `as`: expected 1 to 256 printable ASCII characters without quotes and backslash");
    ASSERT_ERRORS(BY_MODEL "models: {a: {pool: p, as: 7}}\n", "t:9:27: `as`: expected text, not 7; put it in quotes");
}

/* The longest that is taken, and one byte more. */
static void names_of_models_have_a_length(void **state) {
    for (unsigned more = 0; more <= 1; more++) {
        char yaml[2048], name[512], line[256];
        (void)snprintf(name, sizeof name, "%0*d", SP_CONFIG_MODEL_MAX + (int)more, 7);
        snprintf(yaml, sizeof yaml, "%smodels: {\"%s\": {pool: p}}\n", BY_MODEL, name);
        snprintf(line, sizeof line,
                 "t:9:10: `models`: '%.60s': a model is 1 to 128 printable ASCII characters without quotes and backslash", name);
        assert_errors(yaml, (const char *const[]){more ? line : NULL, NULL});
        int n = snprintf(name, sizeof name, "%0*d", SP_MODEL_ALIAS_MAX + (int)more, 7);
        assert_int_equal(n, SP_MODEL_ALIAS_MAX + (int)more);
        snprintf(yaml, sizeof yaml, "%smodels: {a: {pool: p, as: \"%s\"}}\n", BY_MODEL, name);
        assert_errors(yaml,
                      (const char *const[]){
                          more ? "t:9:27: `as`: expected 1 to 256 printable ASCII characters without quotes and backslash" : NULL, NULL});
    }
}

static void a_route_by_model_needs_no_pool_but_models(void **state) {
    struct sp_config *config = config_of(WITH_ROUTE_AND_MODELS("models: body"));
    assert_true(config->routes[0].models_in_body);
    assert_null(config->routes[0].pool);
    sp_config_unref(config);
    config = config_of(WITH_ROUTE_AND_MODELS("models: body, pool: p"));
    assert_true(config->routes[0].models_in_body);
    assert_ptr_equal(config->routes[0].pool, &config->pools[0]);
    sp_config_unref(config);
    ASSERT_ERRORS(WITH_ROUTE_AND_MODELS("models: none"),
                  "t:8:5: `pool` is missing in this route: who answers where no model decides; or say `models: body`");
    ASSERT_ERRORS(WITH_ROUTE_AND_MODELS("models: bdy"), "t:8:54: `models`: expected none or body, not 'bdy' (did you mean `body`?)");
    ASSERT_ERRORS(WITH_ROUTE("models: body"),
                  "t:8:54: `models: body` needs `models`, which says who serves which; name at least one there");
    ASSERT_ERRORS(WITH_ROUTE("models: body, pool: p") "models: {}\n",
                  "t:8:54: `models: body` needs `models`, which says who serves which; name at least one there");
    ASSERT_ERRORS(WITH_ROUTE("models: body") "models: 5\n", "t:9:9: `models`: expected keys with values, not 5");
}

static void a_limit_by_model_stands_where_models_are_looked_for(void **state) {
#define LIMITS "limits: {m: {by: [address, model], tokens: 1/s}}\n"
    ASSERT_ERRORS(WITH_ROUTE_AND_MODELS("models: body, limits: [m]") LIMITS, NULL);
    ASSERT_ERRORS(WITH_ROUTE_AND_MODELS("pool: p, limits: [m]") LIMITS,
                  "t:8:64: `limits`: 'm' is by model, but this route does not look for one; say `models: body`, or use another limit");
}

static void what_roles_say_of_models_binds_somewhere(void **state) {
    struct sp_config *config =
        config_of(BY_MODEL "models: {a: {pool: p}}\nroles: {x: {models: [\"llama-3*\", \"*/q*4\", plain]}, y: {}}\n");
    assert_int_equal(config->roles[0].models.count, 3);
    assert_string_equal(config->roles[0].models.item[1], "*/q*4");
    assert_string_equal(config->roles[1].models.item[0], "*");
    sp_config_unref(config);
    ASSERT_ERRORS(BASE "roles: {x: {models: [a]}, y: {models: [\"*\"]}}\n",
                  "t:9:21: `models` binds on routes with `models: body` alone, and there is none; add one, or remove it");
    ASSERT_ERRORS(
        BY_MODEL "models: {a: {pool: p}}\nroles: {x: {models: [\"a\\\\b\", \"\"]}, y: {models: []}}\n",
        "t:10:22: `models`: expected a model or a pattern such as llama-3*, 1 to 128 printable ASCII characters without quotes and "
        "backslash",
        "t:10:30: `models`: expected a model or a pattern such as llama-3*, 1 to 128 printable ASCII characters without quotes and "
        "backslash",
        "t:10:48: `models` is empty; give at least one");
}

static void a_pattern_stands_for_what_its_stars_leave_open(void **state) {
    assert_true(sp_glob_match("*", SP_SPAN("")));
    assert_true(sp_glob_match("llama-3*", SP_SPAN("llama-3.1-8b")));
    assert_true(sp_glob_match("*/q*4", SP_SPAN("org/qwen/q4")));
    assert_false(sp_glob_match("llama-3*", SP_SPAN("my-llama-3")));
    assert_false(sp_glob_match("plain", SP_SPAN("plainer")));
    assert_false(sp_glob_match("a.b", SP_SPAN("axb")));
    assert_false(sp_glob_match("*a", SP_SPAN("ab")));
}

static void priorities_and_queues_are_read(void **state) {
    struct sp_config *config = config_of("version: 1\n" LISTENERS ROUTES "pools:\n  p: {servers: [{url: \"http://h\"}], queue: {}}\n"
                                         "  q: {servers: [{url: \"http://h\"}], queue: {depth: 7, timeout: 20ms}}\nroles: {a: {priority: "
                                         "low}, b: {}, c: {priority: high}}\n");
    assert_int_equal(config->pools[0].queue_depth, 256);
    assert_int_equal(config->pools[0].queue_timeout_ms, 10000);
    assert_int_equal(config->pools[1].queue_depth, 7);
    assert_int_equal(config->pools[1].queue_timeout_ms, 20);
    assert_int_equal(config->roles[0].priority, SP_PRIORITY_LOW);
    assert_int_equal(config->roles[1].priority, SP_PRIORITY_NORMAL);
    assert_int_equal(config->roles[2].priority, SP_PRIORITY_HIGH);
    sp_config_unref(config);
    ASSERT_ERRORS("version: 1\n" LISTENERS ROUTES "pools:\n  p: {servers: [{url: \"http://h\"}], queue: {depth: 0, timeout: 2h}}\n",
                  "t:8:52: `depth` is out of range; it must be from 1 to 100000",
                  "t:8:64: `timeout` is out of range; it must be from 10ms to 1h");
    ASSERT_ERRORS(BASE "roles: {a: {priority: urgent}}\n", "t:9:23: `priority`: expected low, normal or high, not 'urgent'");
}

static void answers_have_a_length(void **state) {
    struct sp_config *config = config_of(WITH_ROUTE_AND_MODELS("models: body, max_tokens: {default: 16, cap: 16}"));
    assert_int_equal(config->routes[0].max_tokens_default, 16);
    assert_int_equal(config->routes[0].max_tokens_cap, 16);
    sp_config_unref(config);
    config = config_of(WITH_ROUTE("pool: p, max_tokens: {default: 5000}"));
    assert_int_equal(config->routes[0].max_tokens_default, 5000);
    assert_int_equal(config->routes[0].max_tokens_cap, 0);
    sp_config_unref(config);
    ASSERT_ERRORS(WITH_ROUTE_AND_MODELS("models: body, max_tokens: {cap: 512, default: 513}"),
                  "t:8:92: `default` is 513, more than `cap`; a request that names no bound would always be refused; make it at most 512");
    ASSERT_ERRORS(
        WITH_ROUTE_AND_MODELS("models: body, max_tokens: {cap: 512}"),
        "t:8:78: `default`, left out here, is 1024, more than `cap`; a request that names no bound would always be refused; make it "
        "at most 512");
    ASSERT_ERRORS(WITH_ROUTE("pool: p, max_tokens: {default: 0, cap: 1000000001}"),
                  "t:8:77: `default` is out of range; it must be from 1 to 1000000000",
                  "t:8:85: `cap` is out of range; it must be from 1 to 1000000000");
    ASSERT_ERRORS(WITH_ROUTE("pool: p, max_tokens: {cap: 5000}"),
                  "t:8:73: `cap` is for routes with `models: body`, where bodies are looked into; say that, or remove it");
}

/* Both kinds of process get all of it; what does not fit is no document. */
static void the_document_carries_models(void **state) {
    struct sp_document *document =
        load_right(WITH_ROUTE("models: body") "models: {b: {pool: p, as: x, fallback: [a]}, a: {pool: p}}\n", NULL);
    for (enum sp_config_reader reader = SP_READER_WORKER; reader <= SP_READER_SUPERVISOR; reader++) {
        struct sp_config *config = decode(document, reader);
        assert_int_equal(config->n_models, 2);
        assert_string_equal(config->models[0].name, "a");
        assert_string_equal(config->models[1].as, "x");
        assert_int_equal(config->models[1].fallback[0], 0);
        assert_true(config->routes[0].models_in_body);
        sp_config_unref(config);
    }
    static const char *const wrong[] = {
        "{}",
        "{\"b\": {\"pool\": \"p\", \"fallback\": [], \"slot\": 0}, \"a\": {\"pool\": \"p\", \"fallback\": [], \"slot\": 1}}", /* order */
        "{\"a\": {\"pool\": \"p\", \"fallback\": [\"a\"], \"slot\": 0}}",
        "{\"a\": {\"pool\": \"p\", \"fallback\": [\"c\"], \"slot\": 0}}",
        "{\"a\": {\"pool\": \"p\", \"fallback\": [], \"slot\": 256}}",
        "{\"a\": {\"pool\": \"p\", \"fallback\": []}}",
        "{\"a\": {\"pool\": \"q\", \"fallback\": [], \"slot\": 0}}",
        "{\"a\\\"\": {\"pool\": \"p\", \"fallback\": [], \"slot\": 0}}",
    };
    char *text;
    size_t len;
    assert_int_equal(sp_document_encode(document, SP_READER_WORKER, &text, &len), 0);
    for (size_t i = 0; i < SP_COUNT(wrong); i++) {
        json_t *root = json_loadb(text, len, 0, NULL);
        json_object_set_new(root, "models", json_loads(wrong[i], 0, NULL));
        char *changed = json_dumps(root, 0);
        struct sp_config *config = NULL;
        assert_int_equal(sp_config_decode(sp_span_text(changed), &config), -EINVAL);
        free(changed);
        json_decref(root);
    }
    sp_free_secret(text);
    sp_document_free(document);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_found_by_its_name),
        cmocka_unit_test(every_one_of_many_models_is_found),
        cmocka_unit_test(what_a_model_names_must_be_there),
        cmocka_unit_test(names_of_models_have_a_form),
        cmocka_unit_test(names_of_models_have_a_length),
        cmocka_unit_test(a_route_by_model_needs_no_pool_but_models),
        cmocka_unit_test(a_limit_by_model_stands_where_models_are_looked_for),
        cmocka_unit_test(what_roles_say_of_models_binds_somewhere),
        cmocka_unit_test(a_pattern_stands_for_what_its_stars_leave_open),
        cmocka_unit_test(priorities_and_queues_are_read),
        cmocka_unit_test(answers_have_a_length),
        cmocka_unit_test(the_document_carries_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
