/* Two configurations against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "diff.h"

static json_t *parse(const char *text) {
    json_t *value = json_loads(text, 0, NULL);
    assert_non_null(value);
    return value;
}

static const char *text_of(json_t *object, const char *member) { return json_string_value(json_object_get(object, member)); }

#define LIMIT(name, rate, amount, period, burst, more)                                                                                     \
    "{\"name\":\"" name "\",\"by\":[\"subject\"],\"requests\":{\"rate\":\"" rate "\",\"amount\":" amount ",\"period_us\":" period          \
    ",\"burst\":" burst ",\"mode\":\"leased\"},\"tokens\":null,\"concurrency\":null,\"mode\":\"leased\",\"on_outage\":\"share\","          \
    "\"shadow\":false,\"count\":\"all\",\"roles\":[\"a\"],\"routes\":[\"x\",\"y\"]" more "}"

static json_t *compared(const char *old_text, const char *new_text) {
    json_t *old = parse(old_text), *new = parse(new_text), *diff = sp_diff_limits(old, new);
    json_decref(old);
    json_decref(new);
    return diff;
}

static json_t *field(json_t *diff, size_t limit, const char *name) {
    json_t *fields = json_object_get(json_array_get(diff, limit), "fields"), *item;
    size_t i;
    json_array_foreach(fields, i, item) if (strcmp(text_of(item, "field"), name) == 0) return item;
    return NULL;
}

static void equal_limits_are_unchanged(void **state) {
    json_t *diff =
        compared("[" LIMIT("l", "600/min", "600", "60000000", "60", "") "]", "[" LIMIT("l", "600/min", "600", "60000000", "60", "") "]");
    assert_string_equal(text_of(json_array_get(diff, 0), "change"), "unchanged");
    assert_int_equal(json_array_size(json_object_get(json_array_get(diff, 0), "fields")), 0);
    assert_false(sp_diff_limits_differ(diff));
    json_decref(diff);
}

static void a_smaller_burst_takes_only_what_does_not_fit(void **state) {
    json_t *diff =
        compared("[" LIMIT("l", "600/min", "600", "60000000", "60", "") "]", "[" LIMIT("l", "10/s", "10", "1000000", "20", "") "]");
    json_t *burst = field(diff, 0, "request_burst"), *rate = field(diff, 0, "requests");
    assert_string_equal(text_of(burst, "old"), "60");
    assert_string_equal(text_of(burst, "new"), "20");
    assert_string_equal(text_of(burst, "effect"), "callers above 20 keep 20; nobody gets more");
    assert_string_equal(text_of(rate, "new"), "10/s");
    assert_true(sp_diff_limits_differ(diff));
    json_decref(diff);
}

static void limits_of_one_side_are_added_or_removed(void **state) {
    json_t *diff = compared("[" LIMIT("old", "1/s", "1", "1000000", "1", "") "]", "[" LIMIT("new", "1/s", "1", "1000000", "1", "") "]");
    assert_int_equal(json_array_size(diff), 2);
    assert_string_equal(text_of(json_array_get(diff, 0), "change"), "added");
    assert_string_equal(text_of(json_array_get(diff, 0), "is"), "by subject; requests 1/s, burst 1; of roles a; of routes x, y");
    assert_string_equal(text_of(json_array_get(diff, 1), "name"), "old");
    assert_string_equal(text_of(json_array_get(diff, 1), "change"), "removed");
    json_decref(diff);
}

static void who_is_held_is_told_by_what_comes_and_goes(void **state) {
    json_t *old = parse("[" LIMIT("l", "1/s", "1", "1000000", "1", "") "]"), *new = json_deep_copy(old);
    json_t *limit = json_array_get(new, 0);
    json_object_set_new(limit, "roles", parse("[\"b\"]"));
    json_object_set_new(limit, "routes", parse("[\"y\",\"x\"]")); /* in another order: the same */
    json_object_set_new(limit, "shadow", json_true());
    json_t *diff = sp_diff_limits(old, new);
    assert_string_equal(text_of(field(diff, 0, "roles"), "effect"), "+b -a: whose callers it holds from the reload on");
    assert_null(field(diff, 0, "routes"));
    assert_string_equal(text_of(field(diff, 0, "shadow"), "new"), "true");
    json_decref(diff);
    json_decref(old);
    json_decref(new);
}

static void a_bound_that_begins_or_ends_is_told(void **state) {
    json_t *old = parse("[" LIMIT("l", "1/s", "1", "1000000", "1", "") "]"), *new = json_deep_copy(old);
    json_object_set_new(json_array_get(new, 0), "requests", json_null());
    json_object_set_new(json_array_get(new, 0), "concurrency", json_integer(4));
    json_t *diff = sp_diff_limits(old, new);
    assert_string_equal(text_of(field(diff, 0, "requests"), "effect"), "not bounded any more");
    assert_string_equal(text_of(field(diff, 0, "requests"), "old"), "1/s, burst 1");
    assert_string_equal(text_of(field(diff, 0, "concurrency"), "new"), "4");
    json_decref(diff);
    json_decref(old);
    json_decref(new);
}

static void sections_are_told_item_by_item(void **state) {
    json_t *old = parse("{\"workers\":2,\"limits\":{},\"models\":{\"a\":{\"pool\":\"p\"},\"b\":{\"pool\":\"p\"}},"
                        "\"routes\":[{\"name\":\"x\",\"timeouts\":{\"total\":\"1h\"}},{\"name\":\"y\"}],\"redis\":{\"url\":\"u\"}}");
    json_t *new = parse("{\"workers\":4,\"limits\":{\"l\":{}},\"models\":{\"a\":{\"pool\":\"q\"},\"c\":{\"pool\":\"p\"}},"
                        "\"routes\":[{\"name\":\"y\"},{\"name\":\"x\",\"timeouts\":{\"total\":\"2h\"}}]}");
    json_t *sections = sp_diff_sections(old, new);
    json_t *expected = parse("{\"workers\":[\"workers 2 -> 4\"],\"models\":[\"a: pool \\\"p\\\" -> \\\"q\\\"\",\"+c\",\"-b\"],"
                             "\"routes\":[\"x: timeouts.total \\\"1h\\\" -> \\\"2h\\\"\",\"the order\"],\"redis\":[\"removed\"]}");
    assert_true(json_equal(sections, expected));
    assert_true(sp_diff_moves_store(old, new));
    assert_false(sp_diff_moves_store(old, old));
    json_decref(sections);
    json_decref(expected);
    json_decref(old);
    json_decref(new);
}

static void a_section_as_deep_as_no_configuration_is_not_followed(void **state) {
    char text[4096] = "{\"memory\":";
    size_t len = strlen(text);
    for (int i = 0; i < 200; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "{\"m\":");
    char other[sizeof text];
    memcpy(other, text, sizeof text);
    len += (size_t)snprintf(text + len, sizeof text - len, "1");
    (void)snprintf(other + len - 1, sizeof other - len, "2");
    memset(text + len, '}', 201);
    memset(other + len, '}', 201);
    text[len + 201] = other[len + 201] = '\0';
    json_t *old = parse(text), *new = parse(other), *sections = sp_diff_sections(old, new);
    assert_string_equal(json_string_value(json_array_get(json_object_get(sections, "memory"), 0)), "m.m.m.m.m.m.m.m.m.m.m.m.m.m.m.m changed");
    json_decref(sections);
    json_decref(old);
    json_decref(new);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_limits_are_unchanged),
        cmocka_unit_test(a_smaller_burst_takes_only_what_does_not_fit),
        cmocka_unit_test(limits_of_one_side_are_added_or_removed),
        cmocka_unit_test(who_is_held_is_told_by_what_comes_and_goes),
        cmocka_unit_test(a_bound_that_begins_or_ends_is_told),
        cmocka_unit_test(sections_are_told_item_by_item),
        cmocka_unit_test(a_section_as_deep_as_no_configuration_is_not_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
