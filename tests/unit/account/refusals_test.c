/* The ring of refusals: what went in comes out, newest first; a reader never sees half of a record, whoever writes or dies meanwhile. */
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
    struct sp_refusal_record records[8];
};

static int set_up(void **state) {
    static struct fixture fixture;
    fixture = (struct fixture){0};
    fixture.segment = mmap(NULL, sp_counters_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(fixture.segment, MAP_FAILED);
    assert_int_equal(sp_counters_open(fixture.segment, &fixture.counters), 0);
    for (unsigned worker = 0; worker < 2; worker++)
        sp_counters_begin(fixture.counters, worker);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    sp_counters_free(fixture->counters);
    munmap(fixture->segment, sp_counters_segment_size());
    return 0;
}

static struct sp_refused full_refusal(void) {
    return (struct sp_refused){
        .wall_ms = UINT64_C(1795383233123),
        .request_id = SP_SPAN("01KAPZ6S0ZJ4W8X3QH2N5R7T9V"),
        .reason = SP_SPAN("limit"),
        .route = SP_SPAN("chat"),
        .model = SP_SPAN("llama-3"),
        .subject = SP_SPAN("alice"),
        .tenant = SP_SPAN("acme"),
        .key_id = SP_SPAN("k1234567"),
        .client = SP_SPAN("192.0.2.7"),
        .path = SP_SPAN("/v1/chat/completions"),
        .limit = SP_SPAN("per-caller"),
        .limit_kind = SP_SPAN("concurrency"),
        .status = 429,
        .asked = UINT64_MAX,
        .most = 1000,
        .remaining = 3,
        .retry_after_ms = 1500,
        .degraded = true,
    };
}

static void add(struct fixture *fixture, unsigned worker, uint64_t wall_ms, const char *id, const char *subject) {
    struct sp_refused refused = {.wall_ms = wall_ms, .request_id = sp_span_text(id), .subject = sp_span_text(subject), .status = 429};
    sp_refusals_add(fixture->counters, worker, &refused);
}

static size_t find(struct fixture *fixture, const char *id) {
    return sp_refusals_find(fixture->counters, sp_span_text(id), fixture->records, SP_COUNT(fixture->records));
}

static uint64_t wall_of(const struct sp_refusal_record *record) {
    struct sp_refused refused;
    sp_refusal_of(record, &refused);
    return refused.wall_ms;
}

static void assert_span(struct sp_span span, const char *text) {
    assert_int_equal(span.len, strlen(text));
    if (span.len > 0)
        assert_memory_equal(span.at, text, span.len);
}

static void what_was_refused_is_found_as_it_was_told(void **state) {
    struct fixture *fixture = *state;
    struct sp_refused refused = full_refusal(), found;
    sp_refusals_add(fixture->counters, 1, &refused);
    assert_int_equal(find(fixture, "01KAPZ6S0ZJ4W8X3QH2N5R7T9V"), 1);
    sp_refusal_of(&fixture->records[0], &found);
    assert_int_equal(found.wall_ms, refused.wall_ms);
    assert_int_equal(found.status, 429);
    assert_true(found.asked == UINT64_MAX);
    assert_int_equal(found.most, 1000);
    assert_int_equal(found.remaining, 3);
    assert_int_equal(found.retry_after_ms, 1500);
    assert_true(found.degraded);
    assert_false(found.shadow);
    assert_span(found.request_id, "01KAPZ6S0ZJ4W8X3QH2N5R7T9V");
    assert_span(found.reason, "limit");
    assert_span(found.route, "chat");
    assert_span(found.model, "llama-3");
    assert_span(found.subject, "alice");
    assert_span(found.tenant, "acme");
    assert_span(found.key_id, "k1234567");
    assert_span(found.client, "192.0.2.7");
    assert_span(found.path, "/v1/chat/completions");
    assert_span(found.limit, "per-caller");
    assert_span(found.limit_kind, "concurrency");
    assert_int_equal(find(fixture, "01KAPZ6S0ZJ4W8X3QH2N5R7T9"), 0);
    assert_int_equal(find(fixture, ""), 0);
}

static void an_id_that_was_used_twice_is_found_twice_newest_first(void **state) {
    struct fixture *fixture = *state;
    add(fixture, 0, 100, "same", "alice");
    add(fixture, 1, 300, "same", "bob");
    add(fixture, 0, 200, "other", "bob");
    add(fixture, 0, 250, "same", "carol");
    assert_int_equal(find(fixture, "same"), 3);
    assert_int_equal(wall_of(&fixture->records[0]), 300);
    assert_int_equal(wall_of(&fixture->records[1]), 250);
    assert_int_equal(wall_of(&fixture->records[2]), 100);
    assert_int_equal(sp_refusals_find(fixture->counters, SP_SPAN("same"), fixture->records, 2), 2);
    assert_int_equal(wall_of(&fixture->records[1]), 250);
    assert_int_equal(sp_refusals_find(fixture->counters, SP_SPAN("same"), fixture->records, 0), 0);
}

static void the_latest_are_those_of_all_workers_or_of_one_subject(void **state) {
    struct fixture *fixture = *state;
    for (unsigned i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%u", i);
        add(fixture, i % 2, 1000 + i, id, i % 10 == 0 ? "alice" : "bob");
    }
    assert_int_equal(sp_refusals_latest(fixture->counters, SP_SPAN(""), fixture->records, 3), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(wall_of(&fixture->records[i]), 1099 - i);
    assert_int_equal(sp_refusals_latest(fixture->counters, SP_SPAN("alice"), fixture->records, 8), 8);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(wall_of(&fixture->records[i]), 1090 - 10 * i);
    assert_int_equal(sp_refusals_latest(fixture->counters, SP_SPAN("ali"), fixture->records, 8), 0);
}

static void the_newest_takes_the_place_of_the_oldest_and_the_ring_says_how_far_it_goes_back(void **state) {
    struct fixture *fixture = *state;
    char id[24];
    assert_int_equal(sp_refusals_since(fixture->counters), 0);
    for (unsigned i = 0; i < SP_REFUSALS_MAX; i++) {
        snprintf(id, sizeof id, "id-%u", i);
        add(fixture, 0, 1000 + i, id, "alice");
    }
    add(fixture, 1, 1, "before", "bob");
    assert_int_equal(sp_refusals_since(fixture->counters), 0);
    assert_int_equal(find(fixture, "id-0"), 1);
    add(fixture, 0, 5000, "one more", "alice");
    assert_int_equal(find(fixture, "id-0"), 0);
    assert_int_equal(find(fixture, "id-1"), 1);
    assert_int_equal(find(fixture, "one more"), 1);
    assert_int_equal(find(fixture, "before"), 1);
    assert_int_equal(sp_refusals_since(fixture->counters), 1001);
}

static void refusals_outlive_their_worker_and_its_successor_goes_on(void **state) {
    struct fixture *fixture = *state;
    add(fixture, 0, 1, "first", "alice");
    sp_counters_begin(fixture->counters, 0);
    add(fixture, 0, 2, "second", "alice");
    assert_int_equal(find(fixture, "first"), 1);
    assert_int_equal(find(fixture, "second"), 1);
}

static void a_record_whose_writer_was_killed_is_not_read_and_written_over(void **state) {
    struct fixture *fixture = *state;
    struct sp_worker_block *block = &fixture->counters->segment->worker[0];
    add(fixture, 0, 1, "whole", "alice");
    add(fixture, 0, 2, "half", "alice");
    atomic_store(&block->refusal[1].version, 3);
    assert_int_equal(find(fixture, "half"), 0);
    assert_int_equal(find(fixture, "whole"), 1);
    atomic_store(&block->n_refusals, 1); /* it had not said yet that it is there */
    sp_counters_begin(fixture->counters, 0);
    add(fixture, 0, 3, "next", "alice");
    assert_int_equal(find(fixture, "next"), 1);
    assert_int_equal(find(fixture, "whole"), 1);
}

static void long_texts_are_clipped_with_a_mark_and_the_id_never(void **state) {
    struct fixture *fixture = *state;
    static char hostile[4096];
    memset(hostile, 'x', sizeof hostile);
    struct sp_span all = sp_span(hostile, sizeof hostile);
    struct sp_refused refused = {.request_id = sp_span(hostile, SP_REQUEST_ID_MAX),
                                 .reason = all,
                                 .route = all,
                                 .model = all,
                                 .subject = all,
                                 .tenant = all,
                                 .key_id = all,
                                 .client = all,
                                 .path = all,
                                 .limit = all,
                                 .limit_kind = all,
                                 .status = UINT32_MAX},
                      found;
    sp_refusals_add(fixture->counters, 0, &refused);
    assert_int_equal(sp_refusals_find(fixture->counters, refused.request_id, fixture->records, 8), 1);
    sp_refusal_of(&fixture->records[0], &found);
    const struct sp_span clipped[] = {found.reason, found.route,  found.model, found.subject, found.tenant,
                                      found.key_id, found.client, found.path,  found.limit,   found.limit_kind};
    for (size_t i = 0; i < SP_COUNT(clipped); i++) {
        assert_true(clipped[i].len >= 8);
        assert_memory_equal(clipped[i].at + clipped[i].len - 3, "\xe2\x80\xa6", 3);
        assert_int_equal(clipped[i].at[clipped[i].len - 4], 'x');
    }
    assert_int_equal(found.status, 999);
    /* Its subject is found by the whole of it. */
    assert_int_equal(sp_refusals_latest(fixture->counters, all, fixture->records, 8), 1);
    assert_int_equal(sp_refusals_latest(fixture->counters, SP_SPAN("xx"), fixture->records, 8), 0);
    assert_int_equal(sp_refusals_latest(fixture->counters, SP_SPAN("bob"), fixture->records, 8), 0);
}

static void a_text_is_clipped_at_a_characters_end(void **state) {
    struct fixture *fixture = *state;
    static char euros[300];
    for (unsigned i = 0; i < 100; i++)
        memcpy(euros + (size_t)3 * i, "\xe2\x82\xac", 3);
    for (size_t from = 1; from <= 12; from++) {
        char id[8];
        struct sp_refused found;
        snprintf(id, sizeof id, "id%zu", from);
        /* Another length of what comes first each time moves the place of the cut. */
        struct sp_refused refused = {.request_id = sp_span_text(id),
                                     .reason = sp_span(euros, 3),
                                     .route = sp_span("xxxxxxxxxxxx", from),
                                     .path = sp_span(euros, 300)};
        sp_refusals_add(fixture->counters, 0, &refused);
        assert_int_equal(find(fixture, id), 1);
        sp_refusal_of(&fixture->records[0], &found);
        assert_true(sp_utf8_valid(found.path));
        assert_true(found.path.len > 200);
    }
}

static void a_text_without_a_single_character_s_begin_is_no_trap(void **state) {
    struct fixture *fixture = *state;
    static char tails[600];
    memset(tails, 0x80, sizeof tails);
    struct sp_refused refused = {.request_id = SP_SPAN("id"), .subject = sp_span(tails, sizeof tails)}, found;
    sp_refusals_add(fixture->counters, 0, &refused);
    assert_int_equal(find(fixture, "id"), 1);
    sp_refusal_of(&fixture->records[0], &found);
    assert_span(found.subject, "\xe2\x80\xa6");
}

static void what_has_no_sane_id_or_worker_is_not_kept(void **state) {
    struct fixture *fixture = *state;
    char id[SP_REQUEST_ID_MAX + 2] = {0};
    memset(id, 'x', SP_REQUEST_ID_MAX + 1);
    add(fixture, 0, 1, id, "alice");
    add(fixture, 0, 1, "", "alice");
    add(fixture, SP_WORKERS_MAX, 1, "id", "alice");
    assert_int_equal(sp_refusals_latest(fixture->counters, SP_SPAN(""), fixture->records, 8), 0);
}

static void garbage_in_the_ring_is_never_followed(void **state) {
    struct fixture *fixture = *state;
    struct sp_worker_block *block = &fixture->counters->segment->worker[0];
    struct sp_refused found;
    memset(block->refusal, 0xff, sizeof block->refusal);
    const uint64_t numbers[] = {0, 1, SP_REFUSALS_MAX, SP_REFUSALS_MAX + 1, UINT64_MAX, UINT64_MAX / 2, UINT64_MAX / 2 + 1};
    for (size_t i = 0; i < SP_COUNT(numbers); i++) {
        atomic_store(&block->n_refusals, numbers[i]);
        for (unsigned j = 0; j < SP_REFUSALS_MAX; j++)
            atomic_store(&block->refusal[j].version, 2 * (numbers[i] - 1) + 2);
        size_t n = sp_refusals_latest(fixture->counters, SP_SPAN(""), fixture->records, 8);
        for (size_t j = 0; j < n; j++) {
            sp_refusal_of(&fixture->records[j], &found);
            const char *begin = (const char *)&fixture->records[j], *end = begin + sizeof fixture->records[j];
            assert_true(found.path.at >= begin && found.path.at + found.path.len <= end);
            assert_true(found.request_id.at >= begin && found.request_id.at + found.request_id.len <= end);
        }
        sp_refusals_since(fixture->counters);
        add(fixture, 0, 1, "id", "alice");
    }
}

/* ---- A writer that runs while others read ---- */

/* Every part of the n-th refusal says n: parts of two do not fit together. */
static void write_for_ever(struct sp_counters *counters) {
    for (uint64_t n = 0;; n++) {
        char text[24];
        int len = snprintf(text, sizeof text, "%020llu", (unsigned long long)n);
        struct sp_span span = sp_span(text, (size_t)len);
        struct sp_refused refused = {
            .wall_ms = n, .request_id = span, .subject = span, .path = span, .asked = n, .most = n, .remaining = n, .retry_after_ms = n};
        sp_refusals_add(counters, 0, &refused);
    }
}

static void assert_whole(const struct sp_refusal_record *record) {
    struct sp_refused found;
    char text[24];
    sp_refusal_of(record, &found);
    snprintf(text, sizeof text, "%020llu", (unsigned long long)found.wall_ms);
    assert_span(found.request_id, text);
    assert_span(found.subject, text);
    assert_span(found.path, text);
    assert_true(found.asked == found.wall_ms && found.most == found.wall_ms && found.remaining == found.wall_ms &&
                found.retry_after_ms == found.wall_ms);
}

static void a_reader_never_sees_a_torn_record_while_another_process_writes(void **state) {
    struct fixture *fixture = *state;
    static struct sp_refusal_record all[SP_REFUSALS_MAX];
    const uint64_t rounds = 40 * SP_REFUSALS_MAX;
    pid_t writer = fork();
    assert_true(writer >= 0);
    if (writer == 0)
        write_for_ever(fixture->counters);
    uint64_t seen = 0, last = 0;
    while (last < rounds) {
        size_t n = sp_refusals_latest(fixture->counters, SP_SPAN(""), all, SP_REFUSALS_MAX);
        for (size_t i = 0; i < n; i++) {
            assert_whole(&all[i]);
            assert_true(i == 0 || wall_of(&all[i]) < wall_of(&all[i - 1])); /* each once, newest first */
        }
        seen += n;
        last = n > 0 ? sp_max(last, wall_of(&all[0])) : last;
    }
    kill(writer, SIGKILL); /* wherever it is */
    assert_int_equal(waitpid(writer, NULL, 0), writer);
    assert_true(seen > 0);
    sp_counters_begin(fixture->counters, 0);
    add(fixture, 0, UINT64_MAX, "after it", "alice");
    assert_int_equal(find(fixture, "after it"), 1);
    size_t n = sp_refusals_latest(fixture->counters, SP_SPAN(""), all, SP_REFUSALS_MAX);
    assert_true(n >= SP_REFUSALS_MAX - 1);
    for (size_t i = 1; i < n; i++)
        assert_whole(&all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_refused_is_found_as_it_was_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_id_that_was_used_twice_is_found_twice_newest_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_latest_are_those_of_all_workers_or_of_one_subject, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_newest_takes_the_place_of_the_oldest_and_the_ring_says_how_far_it_goes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refusals_outlive_their_worker_and_its_successor_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_whose_writer_was_killed_is_not_read_and_written_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_texts_are_clipped_with_a_mark_and_the_id_never, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_text_is_clipped_at_a_characters_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_text_without_a_single_character_s_begin_is_no_trap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_has_no_sane_id_or_worker_is_not_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(garbage_in_the_ring_is_never_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_never_sees_a_torn_record_while_another_process_writes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
