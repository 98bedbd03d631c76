/* Counters in the shared segment: they outlive workers, readers add up, and the Prometheus text says exactly what was counted. */
#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <sallyport/account.h>

#include "../../../src/account/segment.h"

static void *new_segment(void) {
    void *segment = mmap(NULL, sp_counters_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(segment, MAP_FAILED);
    return segment;
}

static struct sp_counters *open_segment(void *segment) {
    struct sp_counters *counters = NULL;
    assert_int_equal(sp_counters_open(segment, &counters), 0);
    return counters;
}

static void close_segment(struct sp_counters *counters, void *segment) {
    sp_counters_free(counters);
    munmap(segment, sp_counters_segment_size());
}

static void counters_go_on_where_a_killed_worker_left_them_and_gauges_begin_anew(void **state) {
    void *segment = new_segment();
    struct sp_counters *counters = open_segment(segment);
    sp_counters_begin(counters, 3);
    sp_count(counters, 3, SP_COUNTER_RETRIES, 5);
    sp_gauge(counters, 3, SP_GAUGE_CONNECTIONS, 7);
    sp_count_request(counters, 3, 1, 2, 200, 1000, 500);
    sp_count_limit(counters, 3, 4, SP_OUTCOME_REFUSED);
    sp_set_backend_up(counters, 3, 9, false);
    assert_false(sp_counters_backend_up(counters, 9));
    sp_counters_free(counters);

    counters = open_segment(segment); /* its successor */
    sp_counters_begin(counters, 3);
    assert_int_equal(sp_gauge_sum(counters, SP_GAUGE_CONNECTIONS), 0);
    assert_true(sp_counters_backend_up(counters, 9));
    sp_count(counters, 3, SP_COUNTER_RETRIES, 1);
    sp_count_request(counters, 3, 1, 2, 503, 1000, 500);
    assert_int_equal(sp_counter_sum(counters, SP_COUNTER_RETRIES), 6);
    assert_int_equal(sp_counter_sum(counters, SP_COUNTER_REQUESTS), 2);
    assert_int_equal(sp_counters_requests(counters, 1, 0), 2);
    assert_int_equal(sp_counters_requests(counters, 1, 2), 1);
    assert_int_equal(sp_counters_requests(counters, 1, 5), 1);
    assert_int_equal(sp_counters_requests(counters, 2, 0), 0);
    assert_int_equal(sp_counters_limit(counters, 4, SP_OUTCOME_REFUSED), 1);
    close_segment(counters, segment);
}

static void a_worker_killed_while_taking_a_pair_leaves_nothing_to_repair(void **state) {
    void *segment = new_segment();
    struct sp_counters *counters = open_segment(segment);
    sp_counters_begin(counters, 0);
    sp_count_request(counters, 0, 5, 6, 200, 1, -1);
    counters->segment->worker[0].pair_at[5][6] = 0; /* as if killed before it was noted */
    sp_counters_begin(counters, 0);
    sp_count_request(counters, 0, 5, 6, 200, 1, -1);
    assert_int_equal(sp_block_pairs(&counters->segment->worker[0]), 2);
    assert_int_equal(sp_counters_requests(counters, 5, 2), 2);
    close_segment(counters, segment);
}

static void more_pairs_than_there_is_room_for_are_counted_as_none(void **state) {
    void *segment = new_segment();
    struct sp_counters *counters = open_segment(segment);
    sp_counters_begin(counters, 0);
    uint64_t sum = 0, requests = 0;
    for (unsigned route = 0; route < SP_ROUTES_MAX; route++)
        for (unsigned pool = 0; pool < 8; pool++, requests++)
            sp_count_request(counters, 0, route, pool, 200, 1, -1);
    for (unsigned route = 0; route < SP_ROUTES_MAX; route++)
        sum += sp_counters_requests(counters, route, 0);
    assert_int_equal(sum, SP_PAIRS_MAX - 1);
    assert_int_equal(sum + sp_counters_requests(counters, SP_SLOT_NONE, 0), requests);
    close_segment(counters, segment);
}

static void garbage_in_the_segment_is_never_followed(void **state) {
    void *segment = new_segment();
    memset(segment, 0xff, sizeof(struct sp_counters_segment) / SP_WORKERS_MAX * 2);
    struct sp_counters *counters = open_segment(segment);
    struct sp_config config = {.generation = 1};
    struct sp_buffer out;
    sp_buffer_init(&out, 1024 * 1024);
    assert_int_equal(sp_counters_expose(counters, &config, &out), 0);
    sp_counters_requests(counters, 0, 0);
    sp_counters_begin(counters, 0);
    sp_count_request(counters, 0, 0, 0, 200, 1, 1);
    sp_count_request(counters, 0, SP_SLOT_NONE, SP_SLOT_NONE, 200, 1, 1);
    sp_count_limit(counters, 0, SP_LIMITS_MAX, SP_OUTCOME_ADMITTED);
    sp_set_backend_up(counters, 0, SP_SERVERS_MAX, true);
    sp_count_request(counters, SP_WORKERS_MAX, 0, 0, 200, 1, 1);
    sp_count(counters, SP_WORKERS_MAX, SP_COUNTER_RETRIES, 1);
    sp_gauge(counters, SP_WORKERS_MAX, SP_GAUGE_CONNECTIONS, 1);
    sp_counters_begin(counters, SP_WORKERS_MAX);
    sp_buffer_free(&out);
    close_segment(counters, segment);
}

static void every_status_has_a_code_and_the_table_is_in_order(void **state) {
    for (unsigned status = 0; status < 1200; status++) {
        unsigned code = sp_code_slot(status);
        assert_true(code < sp_code_count());
        char text[8];
        snprintf(text, sizeof text, "%u", status);
        if (isdigit((unsigned char)sp_code_label(code)[1]))
            assert_string_equal(sp_code_label(code), text);
        else
            assert_int_equal(sp_code_class(code), status < 600 ? status / 100 : 0);
    }
    static const unsigned common[] = {200, 201, 400, 401, 403, 404, 405, 408, 413, 414, 415, 422, 429, 431, 500, 502, 503, 504};
    for (size_t i = 0; i < SP_COUNT(common); i++)
        assert_true(isdigit((unsigned char)sp_code_label(sp_code_slot(common[i]))[2]));
    assert_string_equal(sp_code_label(sp_code_slot(0)), "none");
    assert_string_equal(sp_code_label(sp_code_slot(299)), "2xx");
}

/* ---- The exposition, read by a parser that knows nothing of how it was written ---- */

struct sample {
    char name[64], labels[256]; /* labels as written, between the braces */
    double value;
};
struct exposition {
    struct sample sample[512];
    size_t count;
};

static size_t word(const char *at, const char *more, char *out, size_t size) {
    size_t n = 0;
    while (isalnum((unsigned char)at[n]) || (at[n] && strchr(more, at[n])))
        n++;
    assert_true(n > 0 && n < size);
    memcpy(out, at, n);
    out[n] = '\0';
    return n;
}

/* name="value",… with the format's three escapes; returns what follows the brace. */
static const char *parse_labels(const char *at, struct sample *sample) {
    const char *begin = at;
    char name[64];
    while (*at != '}') {
        at += word(at, "_", name, sizeof name);
        assert_true(at[0] == '=' && at[1] == '"');
        for (at += 2; *at != '"'; at++) {
            assert_true(*at != '\n' && *at != '\0');
            if (*at == '\\') {
                at++;
                assert_non_null(strchr("\\\"n", *at));
            }
        }
        at++;
        if (*at == ',')
            at++;
    }
    assert_true((size_t)(at - begin) < sizeof sample->labels);
    memcpy(sample->labels, begin, (size_t)(at - begin));
    return at + 1;
}

static const char *parse_sample(const char *at, struct exposition *all, const char *family, const char *type) {
    struct sample *sample = &all->sample[all->count];
    assert_true(all->count++ < SP_COUNT(all->sample));
    at += word(at, "_:", sample->name, sizeof sample->name);
    assert_memory_equal(sample->name, family, strlen(family)); /* directly under its TYPE */
    const char *suffix = sample->name + strlen(family);
    assert_true(*suffix == '\0' || strcmp(type, "histogram") == 0);
    if (*at == '{')
        at = parse_labels(at + 1, sample);
    assert_int_equal(*at, ' ');
    char *end;
    sample->value = strtod(at + 1, &end);
    assert_true(end > at + 1 && *end == '\n');
    for (size_t i = 0; i + 1 < all->count; i++)
        assert_false(strcmp(all->sample[i].name, sample->name) == 0 && strcmp(all->sample[i].labels, sample->labels) == 0);
    return end + 1;
}

static void parse(struct sp_span text, struct exposition *all) {
    _cleanup_(sp_free_pointer) char *copy = sp_span_dup(text);
    char family[64] = "", type[16] = "", helped[64] = "";
    all->count = 0;
    for (const char *at = copy; *at;) {
        if (strncmp(at, "# HELP ", 7) == 0) {
            word(at + 7, "_:", helped, sizeof helped);
            at = strchr(at, '\n') + 1;
        } else if (strncmp(at, "# TYPE ", 7) == 0) {
            at += 7;
            at += word(at, "_:", family, sizeof family);
            assert_string_equal(family, helped);
            at++;
            at += word(at, "", type, sizeof type);
            assert_int_equal(*at++, '\n');
        } else {
            at = parse_sample(at, all, family, type);
        }
    }
}

static double value_of(const struct exposition *all, const char *name, const char *labels) {
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->sample[i].name, name) == 0 && strcmp(all->sample[i].labels, labels) == 0)
            return all->sample[i].value;
    return -1;
}

static void expose(const struct sp_counters *counters, const struct sp_config *config, struct exposition *ret) {
    _cleanup_(sp_buffer_free) struct sp_buffer out;
    sp_buffer_init(&out, 1024 * 1024);
    assert_int_equal(sp_counters_expose(counters, config, &out), 0);
    parse(sp_buffer_span(&out), ret);
}

static void the_exposition_says_what_was_counted_by_all_workers(void **state) {
    static struct exposition all;
    struct sp_server_config servers[] = {{.url.text = "http://10.0.0.1:8000", .slot = 0}, {.url.text = "http://10.0.0.2:8000", .slot = 7}};
    struct sp_pool_config pools[] = {{.name = "llama", .slot = 3, .servers = servers, .n_servers = 2}};
    struct sp_route_config routes[] = {{.name = "chat", .slot = 11}, {.name = "odd \"name\"\\\n", .slot = 12}};
    struct sp_limit_config limits[] = {{.name = "per-caller", .slot = 2}};
    struct sp_redis_config redis = {0};
    struct sp_config config = {.generation = 42,
                               .workers = 2,
                               .pools = pools,
                               .n_pools = 1,
                               .routes = routes,
                               .n_routes = 2,
                               .limits = limits,
                               .n_limits = 1,
                               .redis = &redis};
    void *segment = new_segment();
    struct sp_counters *counters = open_segment(segment);
    for (unsigned worker = 0; worker < 2; worker++) {
        sp_counters_begin(counters, worker);
        sp_gauge(counters, worker, SP_GAUGE_REDIS_CONFIGURED, 1);
        sp_gauge(counters, worker, SP_GAUGE_REDIS_UP, 1);
        sp_gauge(counters, worker, SP_GAUGE_CONNECTIONS, 10);
        sp_count(counters, worker, SP_COUNTER_CONNECTIONS, 100);
        sp_count_request(counters, worker, 11, 3, 200, 1000, 900); /* exactly on a bound: within it */
        sp_count_request(counters, worker, 11, 3, 200, 1001, -1);
        sp_count_request(counters, worker, 11, 3, 418, 700000000, -1); /* beyond the last bound */
        sp_count_request(counters, worker, SP_SLOT_NONE, SP_SLOT_NONE, 404, 10, 10);
        sp_count_request(counters, worker, 12, SP_SLOT_NONE, 401, 10, 10);
        sp_count_request(counters, worker, 99, 3, 200, 10, 10); /* a route that a reload took away */
        sp_count_limit(counters, worker, 2, SP_OUTCOME_ADMITTED);
        sp_count_limit(counters, worker, 2, SP_OUTCOME_SHADOW_REFUSED);
        sp_set_backend_up(counters, worker, 0, true);
        sp_set_backend_up(counters, worker, 7, worker == 0);
    }
    expose(counters, &config, &all);
    assert_true(value_of(&all, "sallyport_requests_total", "route=\"chat\",pool=\"llama\",code=\"200\"") == 4);
    assert_true(value_of(&all, "sallyport_requests_total", "route=\"chat\",pool=\"llama\",code=\"4xx\"") == 2);
    assert_true(value_of(&all, "sallyport_requests_total", "route=\"none\",pool=\"none\",code=\"404\"") == 2);
    assert_true(value_of(&all, "sallyport_requests_total", "route=\"odd \\\"name\\\"\\\\\\n\",pool=\"none\",code=\"401\"") == 2);
    assert_true(value_of(&all, "sallyport_request_seconds_bucket", "le=\"0.001\"") == 8);
    assert_true(value_of(&all, "sallyport_request_seconds_bucket", "le=\"0.0025\"") == 10);
    assert_true(value_of(&all, "sallyport_request_seconds_bucket", "le=\"600\"") == 10);
    assert_true(value_of(&all, "sallyport_request_seconds_bucket", "le=\"+Inf\"") == 12);
    assert_true(value_of(&all, "sallyport_request_seconds_count", "") == 12);
    assert_true(value_of(&all, "sallyport_first_byte_seconds_count", "") == 8);
    double sum = value_of(&all, "sallyport_request_seconds_sum", "");
    assert_true(sum > 1400.004061 && sum < 1400.004063);
    assert_true(value_of(&all, "sallyport_limit_decisions_total", "limit=\"per-caller\",decision=\"admitted\"") == 2);
    assert_true(value_of(&all, "sallyport_limit_decisions_total", "limit=\"per-caller\",decision=\"refused\"") == 0);
    assert_true(value_of(&all, "sallyport_limit_decisions_total", "limit=\"per-caller\",decision=\"shadow_refused\"") == 2);
    assert_true(value_of(&all, "sallyport_backend_up", "pool=\"llama\",server=\"http://10.0.0.1:8000\"") == 1);
    assert_true(value_of(&all, "sallyport_backend_up", "pool=\"llama\",server=\"http://10.0.0.2:8000\"") == 1);
    assert_true(value_of(&all, "sallyport_redis_up", "") == 1);
    assert_true(value_of(&all, "sallyport_connections", "") == 20);
    assert_true(value_of(&all, "sallyport_connections_total", "") == 200);
    assert_true(value_of(&all, "sallyport_configuration_generation", "") == 42);

    sp_gauge(counters, 1, SP_GAUGE_REDIS_UP, 0);
    sp_set_backend_up(counters, 0, 7, false);
    expose(counters, &config, &all);
    assert_true(value_of(&all, "sallyport_redis_up", "") == 0);
    assert_true(value_of(&all, "sallyport_backend_up", "pool=\"llama\",server=\"http://10.0.0.2:8000\"") == 0);
    config.redis = NULL;
    expose(counters, &config, &all);
    assert_true(value_of(&all, "sallyport_redis_up", "") == -1);
    close_segment(counters, segment);
}

static void what_a_worker_said_of_the_present_ends_with_it_and_what_it_counted_stays(void **state) {
    struct sp_redis_config redis = {0};
    static struct exposition all;
    struct sp_config config = {.workers = 1, .redis = &redis};
    int fd = memfd_create("counters", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)sp_counters_segment_size()), 0);
    void *segment = mmap(NULL, sp_counters_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    assert_ptr_not_equal(segment, MAP_FAILED);
    struct sp_counters *counters = open_segment(segment);
    const unsigned lives = SP_WORKERS_MAX - 2, dies = SP_WORKERS_MAX - 1;
    for (unsigned worker = lives; worker <= dies; worker++) {
        sp_counters_begin(counters, worker);
        for (enum sp_gauge gauge = 0; gauge < SP_GAUGE_COUNT; gauge++)
            sp_gauge(counters, worker, gauge, 1);
        sp_count(counters, worker, SP_COUNTER_RETRIES, 5);
        sp_count_request(counters, worker, 1, 2, 200, 1000, 500);
        sp_count_limit(counters, worker, 0, SP_OUTCOME_REFUSED);
        for (unsigned pool = 0; pool < SP_POOLS_MAX; pool++)
            sp_gauge_queue(counters, worker, pool, 3);
        for (unsigned server = 0; server < SP_SERVERS_MAX; server++)
            sp_set_backend_up(counters, worker, server, worker == dies);
    }
    sp_gauge(counters, dies, SP_GAUGE_REDIS_UP, 0);
    expose(counters, &config, &all);
    assert_true(value_of(&all, "sallyport_redis_up", "") == 0); /* beyond the first slots, too */
    assert_true(sp_counters_backend_up(counters, SP_SERVERS_MAX - 1));

    sp_counters_worker_gone(fd, dies);
    sp_counters_worker_gone(fd, SP_WORKERS_MAX); /* no slot at all */
    for (enum sp_gauge gauge = 0; gauge < SP_GAUGE_COUNT; gauge++)
        assert_int_equal(sp_gauge_sum(counters, gauge), 1);
    for (unsigned pool = 0; pool < SP_POOLS_MAX; pool++)
        assert_int_equal(sp_counters_queue(counters, pool), 3);
    for (unsigned server = 0; server < SP_SERVERS_MAX; server++)
        assert_false(sp_counters_backend_up(counters, server));
    expose(counters, &config, &all);
    assert_true(value_of(&all, "sallyport_redis_up", "") == 1);
    assert_int_equal(sp_counter_sum(counters, SP_COUNTER_RETRIES), 10);
    assert_int_equal(sp_counters_requests(counters, 1, 0), 2);
    assert_int_equal(sp_counters_limit(counters, 0, SP_OUTCOME_REFUSED), 2);
    sp_counters_worker_gone(fd, lives);
    assert_int_equal(sp_gauge_sum(counters, SP_GAUGE_GENERATION), 0); /* nobody is ready */
    close_segment(counters, segment);
    close(fd);
}

static void an_exposition_that_does_not_fit_is_an_error(void **state) {
    struct sp_config config = {.generation = 1};
    void *segment = new_segment();
    struct sp_counters *counters = open_segment(segment);
    struct sp_buffer out;
    sp_buffer_init(&out, 512);
    assert_int_equal(sp_counters_expose(counters, &config, &out), -ENOSPC);
    sp_buffer_free(&out);
    close_segment(counters, segment);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_go_on_where_a_killed_worker_left_them_and_gauges_begin_anew),
        cmocka_unit_test(a_worker_killed_while_taking_a_pair_leaves_nothing_to_repair),
        cmocka_unit_test(more_pairs_than_there_is_room_for_are_counted_as_none),
        cmocka_unit_test(garbage_in_the_segment_is_never_followed),
        cmocka_unit_test(every_status_has_a_code_and_the_table_is_in_order),
        cmocka_unit_test(the_exposition_says_what_was_counted_by_all_workers),
        cmocka_unit_test(what_a_worker_said_of_the_present_ends_with_it_and_what_it_counted_stays),
        cmocka_unit_test(an_exposition_that_does_not_fit_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
