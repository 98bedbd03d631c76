/* An access log once more through limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "replay.h"

#define LINE(time, more)                                                                                                                   \
    "{\"time\":\"2026-11-22T21:00:" time "Z\",\"request_id\":\"r\",\"client\":\"192.0.2.1\",\"route\":\"api\",\"model\":null,"             \
    "\"tenant\":null,\"key_id\":null,\"reason\":\"ok\",\"limit\":null,\"pool\":\"p\",\"tokens_in\":null,\"tokens_out\":null," more "}"
#define OF(subject, time) LINE(time, "\"subject\":\"" subject "\",\"status\":200,\"total_ms\":1")

static struct sp_logged *logged(const char *line) {
    struct sp_logged *request = NULL;
    assert_int_equal(sp_logged_read(sp_span_text(line), &request), 0);
    return request;
}

static json_t *limits(const char *by, unsigned burst, const char *more) {
    char text[512];
    snprintf(text, sizeof text,
             "[{\"name\":\"l\",\"by\":[\"%s\"],\"requests\":{\"amount\":1,\"period_us\":3600000000,\"burst\":%u},\"tokens\":null,"
             "\"concurrency\":null,\"shadow\":false,\"count\":\"all\",\"roles\":[\"r\"],\"routes\":[\"api\"]%s}]",
             by, burst, more);
    json_t *list = json_loads(text, 0, NULL);
    assert_non_null(list);
    return list;
}

static void a_line_is_read_with_what_limits_ask_for(void **state) {
    struct sp_logged *request = logged(LINE("01.250", "\"subject\":\"al\",\"status\":200,\"total_ms\":12.5"));
    assert_int_equal(request->begin_us % 3600000000, 1250000);
    assert_int_equal(request->duration_us, 12500);
    assert_true(request->asked && !request->login && !request->refused);
    assert_int_equal(request->tokens, -1);
    assert_true(sp_span_eq(request->text[SP_LOGGED_SUBJECT], SP_SPAN("al")));
    assert_int_equal(request->text[SP_LOGGED_TENANT].len, 0);
    free(request);
}

static void times_are_as_the_log_writes_them_or_none(void **state) {
    uint64_t us = 0;
    assert_int_equal(sp_logged_time(SP_SPAN("1970-01-02T00:00:01.002Z"), &us), 0);
    assert_int_equal(us, UINT64_C(86401002000));
    char text[SP_TIMESTAMP_LEN + 1];
    sp_timestamp(UINT64_C(1795383233123), text);
    assert_int_equal(sp_logged_time(sp_span_text(text), &us), 0);
    assert_int_equal(us, UINT64_C(1795383233123000));
    static const char *const none[] = {"",
                                       "1969-12-31T23:59:59.999Z",
                                       "2026-11-22T24:00:00.000Z",
                                       "2026-00-22T21:00:00.000Z",
                                       "2026-11-22 21:00:00.000Z",
                                       "2026-11-22T21:00:00.000+",
                                       "2026-11-22T21:00:00.0000Z"};
    for (size_t i = 0; i < SP_COUNT(none); i++)
        assert_int_equal(sp_logged_time(sp_span_text(none[i]), &us), -EINVAL);
}

static void buckets_are_filled_by_the_logs_own_time(void **state) {
    json_t *list = limits("subject", 2, "");
    struct sp_world *world = NULL;
    struct sp_caller caller = {0};
    assert_int_equal(sp_world_new(list, 100, &world), 0);
    struct sp_logged *request = logged(OF("al", "00.000"));
    static const bool refused[] = {false, false, true, true, false, true};
    static const uint64_t hours[] = {0, 0, 0, 0, 1, 1};
    uint64_t begin_us = request->begin_us;
    for (size_t i = 0; i < SP_COUNT(refused); i++) {
        request->begin_us = begin_us + hours[i] * UINT64_C(3600000000);
        assert_int_equal(sp_world_run(world, request, &caller).refused, refused[i]);
    }
    assert_int_equal(sp_world_counts(world, 0).asked, 6);
    assert_int_equal(sp_world_counts(world, 0).refused, 3);
    free(request);
    sp_world_free(world);
    json_decref(list);
}

static void full_buckets_make_room_and_what_finds_none_is_counted(void **state) {
    json_t *list = limits("subject", 1, "");
    struct sp_world *world = NULL;
    struct sp_caller caller = {0};
    char line[1024], name[32];
    assert_int_equal(sp_world_new(list, 10, &world), 0);
    for (unsigned i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "%02u.000", i);
        snprintf(line, sizeof line, LINE("%s", "\"subject\":\"s%u\",\"status\":200,\"total_ms\":1"), name, i);
        struct sp_logged *request = logged(line);
        request->begin_us += i >= 20 ? UINT64_C(7200000000) : 0; /* by then all are full again */
        assert_false(sp_world_run(world, request, &caller).refused);
        free(request);
    }
    assert_true(sp_world_left_out(world) >= 10 && sp_world_left_out(world) <= 20);
    sp_world_free(world);
    json_decref(list);
}

static json_t *replayed(unsigned now_burst, unsigned new_burst, const char *const *lines, size_t n) {
    static struct sp_route_config routes[] = {{.name = "api"}};
    const struct sp_config config = {.routes = routes, .n_routes = 1};
    json_t *now = limits("subject", now_burst, ""), *new = limits("subject", new_burst, "");
    struct sp_replay *replay = NULL;
    assert_int_equal(sp_replay_new(now, new, &config, NULL, 0, &replay), 0);
    for (size_t i = 0; i < n; i++)
        sp_replay_line(replay, sp_span_text(lines[i]));
    json_t *answer = sp_replay_end(replay);
    assert_non_null(answer);
    sp_replay_free(replay);
    json_decref(now);
    json_decref(new);
    return answer;
}

static json_int_t number(json_t *answer, const char *member) { return json_integer_value(json_object_get(answer, member)); }

static void who_would_newly_be_refused_is_named_the_most_first(void **state) {
    static const char *const lines[] = {OF("b", "00.000"), OF("a", "00.001"), OF("a", "00.002"),
                                        OF("a", "00.003"), OF("b", "00.004"), OF("c", "00.005")};
    json_t *answer = replayed(3, 1, lines, SP_COUNT(lines));
    assert_int_equal(number(answer, "newly_refused"), 3);
    assert_int_equal(number(answer, "no_longer_refused"), 0);
    json_t *callers = json_object_get(json_array_get(json_object_get(answer, "limits"), 0), "newly_refused");
    assert_int_equal(json_array_size(callers), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(callers, 0), "who")), "subject a");
    assert_int_equal(number(json_array_get(callers, 0), "refused"), 2);
    assert_int_equal(number(json_array_get(callers, 0), "requests"), 3);
    json_decref(answer);
    answer = replayed(1, 3, lines, SP_COUNT(lines));
    assert_int_equal(number(answer, "newly_refused"), 0);
    assert_int_equal(number(answer, "no_longer_refused"), 3);
    json_decref(answer);
}

static void a_file_is_read_to_its_end_whatever_its_lines(void **state) {
    static struct sp_route_config routes[] = {{.name = "api"}};
    const struct sp_config config = {.routes = routes, .n_routes = 1};
    json_t *list = limits("subject", 3, "");
    struct sp_replay *replay = NULL;
    FILE *file = tmpfile();
    assert_non_null(file);
    fprintf(file, "%s\n\n", OF("a", "00.000"));
    for (int i = 0; i < 300000; i++)
        fputc('x', file);
    fprintf(file, "\n%s\ntorn\n%s", OF("a", "00.001"), OF("a", "00.002"));
    fflush(file);
    assert_int_equal(lseek(fileno(file), 0, SEEK_SET), 0);
    assert_int_equal(sp_replay_new(list, list, &config, NULL, 0, &replay), 0);
    assert_int_equal(sp_replay_file(replay, fileno(file)), 0);
    json_t *answer = sp_replay_end(replay);
    assert_int_equal(number(answer, "lines"), 5);
    assert_int_equal(number(answer, "skipped"), 2);
    assert_int_equal(number(answer, "requests"), 3);
    json_decref(answer);
    sp_replay_free(replay);
    json_decref(list);
    fclose(file);
}

static void limits_that_are_none_are_refused(void **state) {
    static const char *const none[] = {"{}",
                                       "[1]",
                                       "[{\"name\":\"l\"}]",
                                       "[{\"name\":\"l\",\"by\":[\"moon\"]}]",
                                       "[{\"name\":\"l\",\"by\":[\"subject\"],\"requests\":{\"amount\":0,\"period_us\":1,\"burst\":1}}]",
                                       "[{\"name\":\"l\",\"by\":[\"subject\"],\"concurrency\":-1}]"};
    for (size_t i = 0; i < SP_COUNT(none); i++) {
        struct sp_world *world = NULL;
        json_t *list = json_loads(none[i], 0, NULL);
        assert_int_equal(sp_world_new(list, 10, &world), -EINVAL);
        assert_null(world);
        json_decref(list);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_read_with_what_limits_ask_for),
        cmocka_unit_test(times_are_as_the_log_writes_them_or_none),
        cmocka_unit_test(buckets_are_filled_by_the_logs_own_time),
        cmocka_unit_test(full_buckets_make_room_and_what_finds_none_is_counted),
        cmocka_unit_test(who_would_newly_be_refused_is_named_the_most_first),
        cmocka_unit_test(a_file_is_read_to_its_end_whatever_its_lines),
        cmocka_unit_test(limits_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
