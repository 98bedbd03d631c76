/* Which keys are revoked while a gateway runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sallyport/revocations.h>
#include <stdio.h>

static struct sp_revocations *set;
static int set_up(void **state) { return sp_revocations_new(&set); }
static int tear_down(void **state) {
    sp_revocations_free(set);
    return 0;
}

static struct sp_revocation like(const char *id, bool now) {
    struct sp_revocation revocation = {.now = now};
    memcpy(revocation.id, id, SP_KEY_ID_LEN);
    return revocation;
}
static int add(const char *id, bool now) {
    struct sp_revocation revocation = like(id, now);
    return sp_revocations_add(set, &revocation);
}
static bool has(const char *id) { return sp_revocations_find(set, sp_span_text(id)) != NULL; }

/* The number-th of ids that come in no order. */
static const char *numbered(unsigned number) {
    static char id[24];
    snprintf(id, sizeof id, "%08u", number * 7919u % 1000003u);
    return id;
}

static void an_id_is_eight_letters_and_digits(void **state) {
    assert_true(sp_key_id_valid(SP_SPAN("AZaz0912")));
    static const char *const wrong[] = {"", "AZaz091", "AZaz09123", "AZaz091_", "AZaz091-", "AZaz 912", "AZaz091\n", "AZaz091\xc3"};
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        assert_false(sp_key_id_valid(sp_span_text(wrong[i])));
    assert_false(sp_key_id_valid(sp_span("AZaz\0"
                                         "912",
                                         8)));
}

static void what_was_added_is_found_and_nothing_else(void **state) {
    assert_false(has("AAAAAAAA"));
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(add(numbered(i), false), 1);
    assert_int_equal(sp_revocations_count(set), 1000);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(has(numbered(i)));
    for (unsigned i = 1000; i < 2000; i++)
        assert_false(has(numbered(i)));
    assert_false(has("0000000"));
    assert_false(has(""));
    for (size_t i = 1; i < 1000; i++)
        assert_true(memcmp(sp_revocations_at(set, i - 1)->id, sp_revocations_at(set, i)->id, SP_KEY_ID_LEN) < 0);
}

static void only_news_is_news(void **state) {
    assert_int_equal(add("AbCd1234", false), 1);
    assert_int_equal(add("AbCd1234", false), 0);
    assert_int_equal(add("AbCd1234", true), 1);
    assert_int_equal(add("AbCd1234", true), 0);
    assert_int_equal(add("AbCd1234", false), 0);
    assert_true(sp_revocations_find(set, SP_SPAN("AbCd1234"))->now); /* it does not go back either */
    assert_int_equal(sp_revocations_count(set), 1);
}

static void what_is_no_id_is_refused(void **state) {
    assert_int_equal(add("AbCd123_", false), -EINVAL);
    assert_int_equal(sp_revocations_count(set), 0);
}

static void a_full_set_makes_room_for_keys_there_are(void **state) {
    struct sp_api_key_config keys[2] = {{.id = "Known001"}, {.id = "Known002"}};
    struct sp_config config = {.api_keys = keys, .n_api_keys = SP_COUNT(keys)};
    assert_true(sp_key_id_known(&config, "Known001"));
    assert_false(sp_key_id_known(&config, "Known003"));
    assert_int_equal(add("Known001", true), 1);
    for (unsigned i = 1; i < SP_REVOCATIONS_MAX; i++)
        assert_int_equal(add(numbered(i), false), 1);
    assert_int_equal(add("Known002", false), -ENOSPC);
    assert_int_equal(add("Known001", false), 0);
    assert_int_equal(sp_revocations_keep_known(set, &config), 0);
    assert_int_equal(sp_revocations_count(set), 1);
    assert_true(sp_revocations_find(set, SP_SPAN("Known001"))->now);
    assert_int_equal(add("Known002", false), 1);
    _Static_assert(SP_REVOCATIONS_MAX > SP_API_KEYS_MAX, "all keys of a configuration fit, and one more");
}

static void a_cleared_set_is_empty(void **state) {
    assert_int_equal(add("AbCd1234", false), 1);
    sp_revocations_clear(set);
    assert_int_equal(sp_revocations_count(set), 0);
    assert_false(has("AbCd1234"));
    assert_int_equal(add("AbCd1234", false), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_id_is_eight_letters_and_digits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_added_is_found_and_nothing_else, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_news_is_news, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_id_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_set_makes_room_for_keys_there_are, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cleared_set_is_empty, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
