/* A page of the set of revoked keys, as Redis may send it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "revocation_feed.h"

static struct sp_resp_reply reply;
static struct sp_revocation found[SP_REVOKED_PAGE];
static size_t n_found;
static uint64_t last;

static void begin(void) { reply = (struct sp_resp_reply){.value.type = SP_RESP_ARRAY}; }
static void put(const char *member, const char *score) {
    reply.item[reply.n++] = (struct sp_resp_value){.type = SP_RESP_STRING, .text = sp_span_text(member)};
    reply.item[reply.n++] = (struct sp_resp_value){.type = SP_RESP_STRING, .text = sp_span_text(score)};
}
static int page(uint64_t from) { return sp_revoked_page(&reply, from, found, &n_found, &last); }

static void ids_and_the_highest_score_are_read(void **state) {
    begin();
    put("AbCd1234", "1700000000000001");
    put("ZyXw9876!", "1700000000000002");
    assert_int_equal(page(5), 2);
    assert_int_equal(n_found, 2);
    assert_memory_equal(found[0].id, "AbCd1234", 8);
    assert_false(found[0].now);
    assert_memory_equal(found[1].id, "ZyXw9876", 8);
    assert_true(found[1].now);
    assert_true(last == UINT64_C(1700000000000002));
}

static void nothing_new_changes_nothing(void **state) {
    begin();
    assert_int_equal(page(77), 0);
    assert_int_equal(n_found, 0);
    assert_int_equal(last, 77);
}

static void members_that_are_not_ours_are_passed_over(void **state) {
    static const char *const wrong[] = {"", "AbCd123", "AbCd12345", "AbCd123_", "AbCd1234!!", "AbCd1234 ", "AbCd123\n!", "!AbCd1234"};
    begin();
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        put(wrong[i], "10");
    put("AbCd1234", "11");
    reply.item[reply.n++] = (struct sp_resp_value){.type = SP_RESP_INTEGER, .integer = 1};
    reply.item[reply.n++] = (struct sp_resp_value){.type = SP_RESP_NIL};
    assert_int_equal(page(0), SP_COUNT(wrong) + 2);
    assert_int_equal(n_found, 1);
    assert_memory_equal(found[0].id, "AbCd1234", 8);
    assert_int_equal(last, 11);
}

static void a_score_that_is_no_number_of_ours_revokes_and_is_not_read_past(void **state) {
    static const char *const wrong[] = {"inf", "-inf", "-5", "1.5", "1e300", "nan", "", "9007199254740992", "99999999999999999999999"};
    begin();
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        put("AbCd1234", wrong[i]);
    assert_int_equal(page(3), SP_COUNT(wrong));
    assert_int_equal(n_found, SP_COUNT(wrong));
    assert_int_equal(last, 3);
}

static void scores_never_lead_back(void **state) {
    begin();
    put("AbCd1234", "4");
    assert_int_equal(page(100), 1);
    assert_int_equal(last, 100);
}

static void what_is_no_page_is_refused(void **state) {
    begin();
    reply.n = 3;
    assert_int_equal(page(0), -EPROTO);
    reply.n = 2 * SP_REVOKED_PAGE + 2;
    assert_int_equal(page(0), -EPROTO);
    static const enum sp_resp_type wrong[] = {SP_RESP_NIL, SP_RESP_INTEGER, SP_RESP_STRING, SP_RESP_STATUS, SP_RESP_ERROR};
    for (size_t i = 0; i < SP_COUNT(wrong); i++) {
        reply = (struct sp_resp_reply){.value.type = wrong[i]};
        assert_int_equal(page(0), -EPROTO);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_and_the_highest_score_are_read),
        cmocka_unit_test(nothing_new_changes_nothing),
        cmocka_unit_test(members_that_are_not_ours_are_passed_over),
        cmocka_unit_test(a_score_that_is_no_number_of_ours_revokes_and_is_not_read_past),
        cmocka_unit_test(scores_never_lead_back),
        cmocka_unit_test(what_is_no_page_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
