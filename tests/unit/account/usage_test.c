/* Tokens of language models: by model, key and tenant; names that change with the configuration; and that nothing a client says makes a
 * series. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <sallyport/account.h>

#include "../../../src/account/segment.h"

struct fixture {
    void *segment;
    struct sp_counters *counters;
    struct sp_model_config models[2];
    struct sp_pool_config pools[1];
    struct sp_api_key_config keys[4];
    struct sp_config config;
    char *text; /* the exposition */
};

static int set_up(void **state) {
    static struct fixture fixture;
    fixture = (struct fixture){
        .models = {{.name = "large", .slot = 5}, {.name = "small", .slot = 0}},
        .pools = {{.name = "llama", .slot = 2}},
        .keys = {{.id = "AAAAAAAA", .tenant = "acme"},
                 {.id = "BBBBBBBB", .tenant = "acme"},
                 {.id = "CCCCCCCC"},
                 {.id = "DDDDDDDD", .tenant = "umbrella"}},
    };
    fixture.config = (struct sp_config){.generation = 1,
                                        .workers = 2,
                                        .models = fixture.models,
                                        .n_models = 2,
                                        .pools = fixture.pools,
                                        .n_pools = 1,
                                        .api_keys = fixture.keys,
                                        .n_api_keys = 4};
    fixture.segment = mmap(NULL, sp_counters_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(fixture.segment, MAP_FAILED);
    assert_int_equal(sp_counters_open(fixture.segment, &fixture.counters), 0);
    for (unsigned worker = 0; worker < 2; worker++) {
        sp_counters_begin(fixture.counters, worker);
        sp_count_usage_for(fixture.counters, worker, &fixture.config);
    }
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    free(fixture->text);
    sp_counters_free(fixture->counters);
    munmap(fixture->segment, sp_counters_segment_size());
    return 0;
}

static void count(struct fixture *fixture, unsigned worker, unsigned model, const char *key, const char *tenant, int64_t in, int64_t out) {
    struct sp_usage_count usage = {.model_slot = model,
                                   .key_id = sp_span_text(key),
                                   .tenant = sp_span_text(tenant),
                                   .tokens_in = in,
                                   .tokens_out = out,
                                   .first_token_us = -1};
    sp_count_usage(fixture->counters, worker, &usage);
}

static void expose(struct fixture *fixture) {
    _cleanup_(sp_buffer_free) struct sp_buffer out;
    sp_buffer_init(&out, 32 * 1024 * 1024);
    assert_int_equal(sp_counters_expose(fixture->counters, &fixture->config, &out), 0);
    free(fixture->text);
    fixture->text = sp_span_dup(sp_buffer_span(&out));
    assert_non_null(fixture->text);
}

/* A whole line of the exposition is there, or not. */
static bool says(const struct fixture *fixture, const char *line) {
    char wanted[512];
    snprintf(wanted, sizeof wanted, "\n%s\n", line);
    return strstr(fixture->text, wanted) != NULL;
}

static unsigned series(const struct fixture *fixture, const char *begin) {
    char wanted[128];
    unsigned n = 0;
    snprintf(wanted, sizeof wanted, "\n%s", begin);
    for (const char *at = fixture->text; (at = strstr(at, wanted)); at++)
        n++;
    return n;
}

/* ---- Models ---- */

static void tokens_are_added_up_by_model_and_direction_over_all_workers(void **state) {
    struct fixture *fixture = *state;
    count(fixture, 0, 5, NULL, NULL, 100, 20);
    count(fixture, 1, 5, NULL, NULL, 1, 2);
    count(fixture, 0, 0, NULL, NULL, 7, -1); /* what is not known is not counted */
    struct sp_model_tokens large = sp_counters_tokens(fixture->counters, 5);
    assert_int_equal(large.input, 101);
    assert_int_equal(large.output, 22);
    expose(fixture);
    assert_true(says(fixture, "sallyport_tokens_total{model=\"large\",direction=\"input\"} 101"));
    assert_true(says(fixture, "sallyport_tokens_total{model=\"large\",direction=\"output\"} 22"));
    assert_true(says(fixture, "sallyport_tokens_total{model=\"small\",direction=\"input\"} 7"));
    assert_true(says(fixture, "sallyport_tokens_total{model=\"small\",direction=\"output\"} 0"));
    assert_int_equal(series(fixture, "sallyport_tokens_total{model=\"none\""), 0);
    count(fixture, 0, SP_SLOT_NONE, NULL, NULL, 3, 4);
    expose(fixture);
    assert_true(says(fixture, "sallyport_tokens_total{model=\"none\",direction=\"input\"} 3"));
}

static void a_model_called_none_does_not_make_a_series_twice(void **state) {
    struct fixture *fixture = *state;
    fixture->models[0].name = "none";
    count(fixture, 0, SP_SLOT_NONE, NULL, NULL, 3, 4);
    count(fixture, 0, 5, NULL, NULL, 3, 4);
    expose(fixture);
    assert_int_equal(series(fixture, "sallyport_tokens_total{model=\"none\",direction=\"input\"}"), 1);
    assert_int_equal(series(fixture, "gen_ai_client_token_usage_count{gen_ai_request_model=\"none\",gen_ai_token_type=\"input\"}"), 1);
}

static void what_was_estimated_is_told_apart_and_in_no_histogram_of_what_backends_report(void **state) {
    struct fixture *fixture = *state;
    struct sp_usage_count usage = {.model_slot = 5,
                                   .tokens_in = 10,
                                   .tokens_out = 30,
                                   .estimated = true,
                                   .streamed = true,
                                   .first_token_us = 20000,
                                   .generation_us = 100};
    sp_count_usage(fixture->counters, 0, &usage);
    count(fixture, 1, 5, NULL, NULL, 1, 1);
    expose(fixture);
    assert_true(says(fixture, "sallyport_tokens_total{model=\"large\",direction=\"output\"} 31"));
    assert_true(says(fixture, "sallyport_tokens_estimated_total{model=\"large\"} 40"));
    assert_true(says(fixture, "sallyport_tokens_estimated_total{model=\"small\"} 0"));
    assert_true(says(fixture, "gen_ai_client_token_usage_count{gen_ai_request_model=\"large\",gen_ai_token_type=\"output\"} 1"));
    assert_true(says(fixture, "gen_ai_server_time_to_first_token_seconds_count{gen_ai_request_model=\"large\"} 1"));
    assert_int_equal(series(fixture, "gen_ai_server_time_per_output_token_seconds_count"), 0);
}

static void the_histograms_have_the_buckets_of_opentelemetry(void **state) {
    struct fixture *fixture = *state;
    struct sp_usage_count usage = {.model_slot = 5,
                                   .tokens_in = 64,
                                   .tokens_out = 11,
                                   .streamed = true,
                                   .first_token_us = 1000,
                                   .generation_us = 250010}; /* 25.001 ms for each of ten */
    sp_count_usage(fixture->counters, 0, &usage);
    expose(fixture);
    assert_true(says(fixture, "gen_ai_client_token_usage_bucket{gen_ai_request_model=\"large\",gen_ai_token_type=\"input\",le=\"16\"} 0"));
    assert_true(says(fixture, "gen_ai_client_token_usage_bucket{gen_ai_request_model=\"large\",gen_ai_token_type=\"input\",le=\"64\"} 1"));
    assert_true(
        says(fixture, "gen_ai_client_token_usage_bucket{gen_ai_request_model=\"large\",gen_ai_token_type=\"input\",le=\"67108864\"} 1"));
    assert_true(says(fixture, "gen_ai_client_token_usage_sum{gen_ai_request_model=\"large\",gen_ai_token_type=\"input\"} 64"));
    assert_true(says(fixture, "gen_ai_client_token_usage_sum{gen_ai_request_model=\"large\",gen_ai_token_type=\"output\"} 11"));
    assert_true(says(fixture, "gen_ai_server_time_to_first_token_seconds_bucket{gen_ai_request_model=\"large\",le=\"0.001\"} 1"));
    assert_true(says(fixture, "gen_ai_server_time_to_first_token_seconds_sum{gen_ai_request_model=\"large\"} 0.001000"));
    assert_true(says(fixture, "gen_ai_server_time_per_output_token_seconds_bucket{gen_ai_request_model=\"large\",le=\"0.025\"} 0"));
    assert_true(says(fixture, "gen_ai_server_time_per_output_token_seconds_bucket{gen_ai_request_model=\"large\",le=\"0.05\"} 1"));
    assert_true(says(fixture, "gen_ai_server_time_per_output_token_seconds_sum{gen_ai_request_model=\"large\"} 0.025001"));
    assert_int_equal(series(fixture, "gen_ai_client_token_usage_bucket{gen_ai_request_model=\"large\",gen_ai_token_type=\"input\""), 15);
    assert_int_equal(series(fixture, "gen_ai_server_time_to_first_token_seconds_bucket"), 17);
    assert_int_equal(series(fixture, "gen_ai_server_time_per_output_token_seconds_bucket"), 14);
    assert_int_equal(series(fixture, "gen_ai_client_token_usage_bucket{gen_ai_request_model=\"small\""), 0);
}

static void an_answer_of_one_token_or_in_one_piece_has_no_time_per_token(void **state) {
    struct fixture *fixture = *state;
    struct sp_usage_count usage = {
        .model_slot = 5, .tokens_in = 64, .tokens_out = 1, .streamed = true, .first_token_us = 1, .generation_us = 5};
    sp_count_usage(fixture->counters, 0, &usage);
    usage.tokens_out = 0;
    sp_count_usage(fixture->counters, 0, &usage);
    usage.tokens_out = 100;
    usage.streamed = false;
    sp_count_usage(fixture->counters, 0, &usage);
    expose(fixture);
    assert_int_equal(series(fixture, "gen_ai_server_time_per_output_token_seconds_count"), 0);
    assert_true(says(fixture, "gen_ai_server_time_to_first_token_seconds_count{gen_ai_request_model=\"large\"} 2"));
}

static void every_scale_rises_and_says_its_bounds_as_they_are(void **state) {
    const struct sp_scale *const scales[] = {&sp_scale_requests, &sp_scale_tokens, &sp_scale_first_token, &sp_scale_per_token};
    for (size_t i = 0; i < SP_COUNT(scales); i++) {
        assert_true(scales[i]->n <= SP_BOUNDS_MAX);
        for (unsigned j = 0; j < scales[i]->n; j++) {
            double said = strtod(scales[i]->text[j], NULL) * (scales[i]->seconds ? 1e6 : 1);
            assert_true(said > (double)scales[i]->bound[j] - 0.5 && said < (double)scales[i]->bound[j] + 0.5);
            assert_true(j == 0 || scales[i]->bound[j] > scales[i]->bound[j - 1]);
        }
    }
}

/* ---- Keys and tenants ---- */

static void keys_and_tenants_are_told_by_the_names_that_the_configuration_has(void **state) {
    struct fixture *fixture = *state;
    count(fixture, 0, 5, "AAAAAAAA", "acme", 10, 1);
    count(fixture, 1, 5, "AAAAAAAA", "acme", 10, 1);
    count(fixture, 1, 5, "BBBBBBBB", "acme", 5, 5);
    count(fixture, 1, 5, "CCCCCCCC", NULL, 2, 2);
    expose(fixture);
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"AAAAAAAA\",tenant=\"acme\",direction=\"input\"} 20"));
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"AAAAAAAA\",tenant=\"acme\",direction=\"output\"} 2"));
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"BBBBBBBB\",tenant=\"acme\",direction=\"input\"} 5"));
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"CCCCCCCC\",tenant=\"\",direction=\"input\"} 2"));
    assert_true(says(fixture, "sallyport_tenant_tokens_total{tenant=\"acme\",direction=\"input\"} 25"));
    assert_true(says(fixture, "sallyport_tenant_tokens_total{tenant=\"acme\",direction=\"output\"} 7"));
    assert_int_equal(series(fixture, "sallyport_key_tokens_total"), 6);
    assert_int_equal(series(fixture, "sallyport_tenant_tokens_total"), 2);
}

static void no_name_that_a_client_or_an_issuer_invents_becomes_a_series(void **state) {
    struct fixture *fixture = *state;
    char name[32];
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "Z%07u", i);
        count(fixture, 0, 5, name, name, 1, 0);
    }
    count(fixture, 0, 5, NULL, "acme", 100, 0); /* an issuer's token for a tenant that the file of keys names */
    count(fixture, 0, 5, "AAAAAAAAtail", "acmeacme", 1, 0);
    expose(fixture);
    assert_int_equal(series(fixture, "sallyport_key_tokens_total"), 2);
    assert_int_equal(series(fixture, "sallyport_tenant_tokens_total"), 4);
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"other\",tenant=\"\",direction=\"input\"} 5001"));
    assert_true(says(fixture, "sallyport_tenant_tokens_total{tenant=\"other\",direction=\"input\"} 5001"));
    assert_true(says(fixture, "sallyport_tenant_tokens_total{tenant=\"acme\",direction=\"input\"} 100"));
}

static void a_tenant_called_other_does_not_make_a_series_twice(void **state) {
    struct fixture *fixture = *state;
    fixture->keys[3].tenant = "other";
    sp_count_usage_for(fixture->counters, 0, &fixture->config);
    count(fixture, 0, 5, "DDDDDDDD", "other", 1, 0);
    count(fixture, 0, 5, NULL, "unheard of", 1, 0);
    expose(fixture);
    assert_true(says(fixture, "sallyport_tenant_tokens_total{tenant=\"other\",direction=\"input\"} 2"));
    assert_int_equal(series(fixture, "sallyport_tenant_tokens_total"), 2);
}

static void counts_outlive_reloads_and_workers_while_their_name_stays(void **state) {
    struct fixture *fixture = *state;
    count(fixture, 0, 5, "AAAAAAAA", "acme", 10, 0);
    count(fixture, 0, 5, "DDDDDDDD", "umbrella", 4, 0);
    sp_count_usage_for(fixture->counters, 0, &fixture->config);
    sp_counters_begin(fixture->counters, 0); /* its successor */
    sp_count_usage_for(fixture->counters, 0, &fixture->config);
    count(fixture, 0, 5, "AAAAAAAA", "acme", 1, 0);
    fixture->config.n_api_keys = 3; /* DDDDDDDD is gone, and its tenant with it */
    sp_count_usage_for(fixture->counters, 0, &fixture->config);
    count(fixture, 0, 5, "DDDDDDDD", "umbrella", 100, 0); /* under way since before */
    expose(fixture);
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"AAAAAAAA\",tenant=\"acme\",direction=\"input\"} 11"));
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"other\",tenant=\"\",direction=\"input\"} 100"));
    assert_true(says(fixture, "sallyport_tenant_tokens_total{tenant=\"other\",direction=\"input\"} 100"));
    assert_null(strstr(fixture->text, "umbrella"));
}

static void a_revoked_key_keeps_its_series_and_never_begins_one(void **state) {
    struct fixture *fixture = *state;
    count(fixture, 0, 5, "AAAAAAAA", "acme", 10, 0);
    fixture->keys[0].revoked = true;
    sp_count_usage_for(fixture->counters, 0, &fixture->config);
    sp_count_usage_for(fixture->counters, 1, &fixture->config);
    count(fixture, 0, 5, "AAAAAAAA", "acme", 1, 0); /* a stream that ends after its key was revoked */
    expose(fixture);
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"AAAAAAAA\",tenant=\"acme\",direction=\"input\"} 11"));
    struct sp_usage_name name;
    sp_counters_begin(fixture->counters, 5);
    sp_count_usage_for(fixture->counters, 5, &fixture->config);
    assert_true(sp_usage_name_make(SP_SPAN("AAAAAAAA"), SP_SPAN("acme"), &name));
    struct sp_usage_names *names = &fixture->counters->segment->worker[5].keys;
    assert_ptr_equal(sp_usage_entry_of(names, &fixture->counters->keys[5], &name), &names->entry[0]);
}

static void more_keys_than_there_is_room_for_are_other_and_years_of_rotation_use_nothing_up(void **state) {
    struct fixture *fixture = *state;
    enum { MANY = SP_USAGE_NAMES_MAX + 100 };
    static struct sp_api_key_config many[MANY];
    fixture->config.api_keys = many;
    fixture->config.n_api_keys = MANY;
    for (unsigned year = 0; year < 3; year++) {
        for (unsigned i = 0; i < MANY; i++) {
            many[i] = (struct sp_api_key_config){.tenant = "acme"};
            snprintf(many[i].id, sizeof many[i].id, "%u%07u", year, i);
        }
        sp_count_usage_for(fixture->counters, 0, &fixture->config);
        for (unsigned i = 0; i < MANY; i++)
            count(fixture, 0, 5, many[i].id, "acme", 1, 0);
    }
    expose(fixture);
    assert_int_equal(series(fixture, "sallyport_key_tokens_total{key=\"2"), 2 * SP_USAGE_NAMES_MAX);
    assert_int_equal(series(fixture, "sallyport_key_tokens_total"), 2 * (SP_USAGE_NAMES_MAX + 1));
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"other\",tenant=\"\",direction=\"input\"} 300"));
    assert_true(says(fixture, "sallyport_tenant_tokens_total{tenant=\"acme\",direction=\"input\"} 3372"));
}

static void a_worker_killed_while_an_entry_changes_hands_leaves_nothing_to_repair(void **state) {
    struct fixture *fixture = *state;
    struct sp_usage_names *names = &fixture->counters->segment->worker[0].keys;
    count(fixture, 0, 5, "AAAAAAAA", "acme", 10, 0);
    count(fixture, 0, 5, "BBBBBBBB", "acme", 10, 0);
    atomic_store(&names->entry[1].version, 3); /* as if killed before it was given its name */
    expose(fixture);
    assert_int_equal(series(fixture, "sallyport_key_tokens_total"), 2);
    sp_counters_free(fixture->counters); /* its successor is another process */
    assert_int_equal(sp_counters_open(fixture->segment, &fixture->counters), 0);
    sp_counters_begin(fixture->counters, 0);
    count(fixture, 0, 5, "BBBBBBBB", "acme", 1, 0); /* before it has a configuration: nobody is known */
    sp_count_usage_for(fixture->counters, 0, &fixture->config);
    count(fixture, 0, 5, "AAAAAAAA", "acme", 1, 0);
    expose(fixture);
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"AAAAAAAA\",tenant=\"acme\",direction=\"input\"} 1"));
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"BBBBBBBB\",tenant=\"acme\",direction=\"input\"} 10"));
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"other\",tenant=\"\",direction=\"input\"} 1"));
}

static void what_is_no_text_in_the_segment_is_not_told(void **state) {
    struct fixture *fixture = *state;
    struct sp_usage_names *names = &fixture->counters->segment->worker[0].tenants;
    count(fixture, 0, 5, "AAAAAAAA", "acme", 10, 0);
    for (uint32_t i = 1; i <= names->n; i++)
        atomic_store(&names->entry[i].name[1], UINT64_C(0xfffe0a22ffff2241));
    expose(fixture);
    assert_int_equal(series(fixture, "sallyport_tenant_tokens_total"), 0);
    atomic_store(&names->n, UINT32_MAX);
    expose(fixture);
}

/* ---- A segment that others write, too ---- */

static void who_has_which_entry_the_writer_does_not_ask_the_segment(void **state) {
    struct fixture *fixture = *state;
    static struct sp_usage_names keys, tenants;
    struct sp_worker_block *block = &fixture->counters->segment->worker[0];
    count(fixture, 0, 5, "AAAAAAAA", "acme", 10, 0);
    keys.n = block->keys.n;
    tenants.n = block->tenants.n;
    memcpy(keys.entry, block->keys.entry, sizeof keys.entry);
    memcpy(tenants.entry, block->tenants.entry, sizeof tenants.entry);
    memset(block, 0xff, sizeof *block);
    block->keys.n = keys.n; /* what it told readers, and nothing else */
    block->tenants.n = tenants.n;
    memcpy(block->keys.entry, keys.entry, sizeof keys.entry);
    memcpy(block->tenants.entry, tenants.entry, sizeof tenants.entry);
    count(fixture, 0, 5, "AAAAAAAA", "acme", 1, 0);
    expose(fixture);
    assert_true(says(fixture, "sallyport_key_tokens_total{key=\"AAAAAAAA\",tenant=\"acme\",direction=\"input\"} 11"));
    assert_true(says(fixture, "sallyport_tenant_tokens_total{tenant=\"acme\",direction=\"input\"} 11"));
}

static void scribble_for_ever(struct sp_worker_block *block) {
    static const uint8_t bytes[] = {0x00, 0x02, 0xff, 0x01};
    alarm(60); /* should the test end before it ends us */
    for (size_t i = 0;; i++)
        memset(&block->keys, bytes[i % SP_COUNT(bytes)], sizeof block->keys);
}

static void assert_in_order(const struct sp_usage_order *order) {
    assert_true(order->n <= SP_USAGE_NAMES_MAX);
    for (uint32_t i = 0; i < order->n; i++)
        assert_true(order->sorted[i] >= 1 && order->sorted[i] <= SP_USAGE_NAMES_MAX);
}

static void one_that_scribbles_over_the_names_meanwhile_brings_nobody_out_of_bounds(void **state) {
    struct fixture *fixture = *state;
    enum { MANY = SP_USAGE_NAMES_MAX + 100, ROUNDS = 100 };
    static struct sp_api_key_config many[MANY];
    struct sp_worker_block *block = &fixture->counters->segment->worker[0];
    for (unsigned i = 0; i < MANY; i++)
        snprintf(many[i].id, sizeof many[i].id, "%08u", i);
    fixture->config.api_keys = many;
    fixture->config.n_api_keys = MANY;
    pid_t other = fork();
    assert_true(other >= 0);
    if (other == 0)
        scribble_for_ever(block);
    for (unsigned i = 0; i < ROUNDS; i++) {
        sp_count_usage_for(fixture->counters, 0, &fixture->config);
        assert_in_order(&fixture->counters->keys[0]);
        for (unsigned j = 0; j < MANY; j++)
            count(fixture, 0, 5, many[j].id, NULL, 1, 0);
        struct sp_usage_sum *sums = NULL;
        size_t n = 0;
        assert_int_equal(sp_usage_sums(fixture->counters, false, &sums, &n), 0);
        assert_true(n <= 2 * SP_USAGE_NAMES_MAX + 1);
        free(sums);
    }
    kill(other, SIGKILL);
    assert_int_equal(waitpid(other, NULL, 0), other);
    assert_int_equal(fixture->counters->keys[1].n, 4); /* what lies behind it */
}

static void a_longer_text_than_a_tenant_has_is_nobodys(void **state) {
    struct fixture *fixture = *state;
    char tenant[SP_TENANT_LEN + 1] = {0}, longer[SP_TENANT_LEN + 2] = {0};
    memset(tenant, 'x', SP_TENANT_LEN);
    memset(longer, 'x', SP_TENANT_LEN + 1);
    fixture->keys[3].tenant = tenant;
    sp_count_usage_for(fixture->counters, 0, &fixture->config);
    count(fixture, 0, 5, NULL, longer, 1, 0);
    expose(fixture);
    assert_true(says(fixture, "sallyport_tenant_tokens_total{tenant=\"other\",direction=\"input\"} 1"));
    assert_int_equal(series(fixture, "sallyport_tenant_tokens_total"), 2);
}

/* ---- Queues ---- */

static void queue_lengths_are_added_up_and_forgotten_with_their_worker(void **state) {
    struct fixture *fixture = *state;
    sp_gauge_queue(fixture->counters, 0, 2, 3);
    sp_gauge_queue(fixture->counters, 1, 2, 4);
    sp_gauge_queue(fixture->counters, 1, SP_POOLS_MAX, 9);
    sp_gauge_queue(fixture->counters, SP_WORKERS_MAX, 2, 9);
    expose(fixture);
    assert_true(says(fixture, "sallyport_queue_length{pool=\"llama\"} 7"));
    sp_counters_begin(fixture->counters, 1);
    assert_int_equal(sp_counters_queue(fixture->counters, 2), 3);
    assert_int_equal(sp_counters_queue(fixture->counters, SP_POOLS_MAX), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tokens_are_added_up_by_model_and_direction_over_all_workers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_model_called_none_does_not_make_a_series_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_estimated_is_told_apart_and_in_no_histogram_of_what_backends_report, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_histograms_have_the_buckets_of_opentelemetry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_of_one_token_or_in_one_piece_has_no_time_per_token, set_up, tear_down),
        cmocka_unit_test(every_scale_rises_and_says_its_bounds_as_they_are),
        cmocka_unit_test_setup_teardown(keys_and_tenants_are_told_by_the_names_that_the_configuration_has, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_name_that_a_client_or_an_issuer_invents_becomes_a_series, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_tenant_called_other_does_not_make_a_series_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(counts_outlive_reloads_and_workers_while_their_name_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_revoked_key_keeps_its_series_and_never_begins_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_keys_than_there_is_room_for_are_other_and_years_of_rotation_use_nothing_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_worker_killed_while_an_entry_changes_hands_leaves_nothing_to_repair, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_text_in_the_segment_is_not_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_has_which_entry_the_writer_does_not_ask_the_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_scribbles_over_the_names_meanwhile_brings_nobody_out_of_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_longer_text_than_a_tenant_has_is_nobodys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(queue_lengths_are_added_up_and_forgotten_with_their_worker, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
