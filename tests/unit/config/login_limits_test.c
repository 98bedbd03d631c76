/* Limits that count refused logins: what they may say, and that nobody lists them. */
#include "support.h"

#define FAILED "  failed: {by: [address], requests: 30/min, count: unauthorized}\n"

static void they_are_taken_with_what_is_known_of_a_stranger(void **state) {
    struct sp_config *config =
        config_of(BASE "limits:\n" FAILED "  here: {by: [address, route], requests: 5/min, count: unauthorized}\n"
                       "  all: {by: [global], requests: 100/s, count: unauthorized}\n  plain: {by: [subject], requests: 1/s}\n");
    assert_int_equal(sp_config_limit(config, SP_SPAN("failed"))->count, SP_COUNT_UNAUTHORIZED);
    assert_int_equal(sp_config_limit(config, SP_SPAN("all"))->count, SP_COUNT_UNAUTHORIZED);
    assert_int_equal(sp_config_limit(config, SP_SPAN("plain"))->count, SP_COUNT_ALL);
    sp_config_unref(config);
}

static void who_calls_is_not_known_when_a_login_failed(void **state) {
    ASSERT_ERRORS(BASE "limits:\n  a: {by: [subject], requests: 1/s, count: unauthorized}\n  b: {by: [address, tenant], requests: 1/s, "
                       "count: unauthorized}\n",
                  "t:10:11: `by`: of a caller whose login failed only address, route and global are known",
                  "t:11:11: `by`: of a caller whose login failed only address, route and global are known");
}

static void neither_routes_nor_roles_list_them(void **state) {
    ASSERT_ERRORS("version: 1\n" LISTENERS POOLS "routes: [{name: r, path: /, authenticate: [none], pool: p, limits: [failed]}]\n"
                  "roles:\n  user: {limits: [failed]}\nlimits:\n" FAILED,
                  "t:7:69: `limits`: 'failed' counts refused logins on every route and needs no list; take it out of this one",
                  "t:9:19: `limits`: 'failed' counts refused logins on every route and needs no list; take it out of this one");
}

static void more_than_a_request_can_meet_are_refused(void **state) {
    struct sp_buffer text;
    sp_buffer_init(&text, 64 * 1024);
    assert_int_equal(sp_buffer_append_span(&text, sp_span_text(BASE "limits:\n")), 0);
    for (int i = 0; i <= SP_REQUEST_LIMITS_MAX; i++)
        assert_int_equal(sp_buffer_printf(&text, "  f%d: {by: [address], requests: 1/s, count: unauthorized}\n", i), 0);
    assert_int_equal(sp_buffer_append(&text, "", 1), 0);
    ASSERT_ERRORS(sp_buffer_span(&text).at, "t:10:3: `limits`: 17 of them say `count: unauthorized`; at most 16 are possible");
    sp_buffer_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_taken_with_what_is_known_of_a_stranger),
        cmocka_unit_test(who_calls_is_not_known_when_a_login_failed),
        cmocka_unit_test(neither_routes_nor_roles_list_them),
        cmocka_unit_test(more_than_a_request_can_meet_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
