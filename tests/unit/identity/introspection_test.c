/* Opaque tokens: whom to ask in which order, and what an answer is worth (RFC 7662). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "expect.h"

#define ACTIVE(more) "{\"active\":true,\"aud\":\"inference\",\"sub\":\"alice\"" more "}"

static struct sp_token_cache *cache;
static struct sp_auth_question question;
static const char *reason;

static int begin(void **state) {
    config = standard_config();
    for (int i = 0; i < 2; i++)
        config->issuers[i].introspection = (struct sp_introspection_config){.url = "https://issuer.test/introspect", .cache_s = 30};
    identity = identity_of(config);
    question = (struct sp_auth_question){0};
    return sp_token_cache_new(100, &cache);
}

static int end(void **state) {
    sp_token_cache_free(cache);
    return end_test(state);
}

static enum sp_auth_verdict ask_at(uint64_t now_s, struct sp_principal **ret) {
    const struct sp_credentials fields = {.authorization = SP_SPAN("Bearer opaque-token")};
    *ret = NULL;
    return sp_identity_authenticate(identity, cache, NULL, &fields, SP_AUTHENTICATE_JWT, now_s, &question, ret, &reason);
}

static enum sp_auth_verdict verdict_at(uint64_t now_s) {
    struct sp_principal *principal;
    enum sp_auth_verdict verdict = ask_at(now_s, &principal);
    sp_principal_unref(principal);
    return verdict;
}

/* Answers the open question, as the service does. */
static void answer(const char *json) {
    question.reason = sp_identity_introspected(identity, cache, question.issuer, question.token, question.key, sp_span_text(json), NOW);
    question.answered |= UINT64_C(1) << question.issuer;
}

static struct sp_principal *read_answer(const char *json) {
    struct sp_principal *principal = NULL;
    enum sp_auth_verdict verdict = sp_introspection_read(identity, 0, sp_span_text(json), NOW, &principal, &reason);
    if (verdict != SP_AUTH_OK)
        fail_msg("%s: %s", json, reason);
    return principal;
}

static void refuses(const char *json, const char *expected) {
    struct sp_principal *principal = NULL;
    assert_int_not_equal(sp_introspection_read(identity, 0, sp_span_text(json), NOW, &principal, &reason), SP_AUTH_OK);
    assert_null(principal);
    assert_string_equal(reason, expected);
}

/* ---- Asking ---- */

static void issuers_are_asked_in_order_and_the_first_that_knows_decides(void **state) {
    struct sp_principal *principal;
    assert_int_equal(ask_at(NOW, &principal), SP_AUTH_WAIT);
    assert_int_equal(question.kind, SP_QUESTION_TOKEN);
    assert_int_equal(question.issuer, 0);
    assert_span(question.token, "opaque-token");
    answer("{\"active\":false}");
    assert_int_equal(ask_at(NOW, &principal), SP_AUTH_WAIT);
    assert_int_equal(question.issuer, 1);
    answer(ACTIVE(""));
    assert_int_equal(ask_at(NOW, &principal), SP_AUTH_OK);
    assert_int_equal(principal->kind, SP_CREDENTIAL_OPAQUE);
    assert_span(principal->subject, "alice");
    assert_span(principal->issuer, OTHER_ISSUER);
    assert_span(principal->account, "jwt:" OTHER_ISSUER " alice");
    sp_principal_unref(principal);
}

static void an_answer_serves_as_long_as_the_cache_says(void **state) {
    assert_int_equal(verdict_at(NOW), SP_AUTH_WAIT);
    answer(ACTIVE(",\"exp\":1900000000"));
    question = (struct sp_auth_question){0};
    assert_int_equal(verdict_at(NOW + 29), SP_AUTH_OK);
    assert_int_equal(verdict_at(NOW + 30), SP_AUTH_WAIT);
}

static void never_beyond_the_tokens_own_end(void **state) {
    config->issuers[0].leeway_s = 0;
    assert_int_equal(verdict_at(NOW), SP_AUTH_WAIT);
    answer(ACTIVE(",\"exp\":1800000005"));
    question = (struct sp_auth_question){0};
    assert_int_equal(verdict_at(NOW + 4), SP_AUTH_OK);
    assert_int_equal(verdict_at(NOW + 5), SP_AUTH_WAIT);
}

static void what_nobody_knows_is_remembered_for_ten_seconds(void **state) {
    for (int i = 0; i < 2; i++) {
        assert_int_equal(verdict_at(NOW), SP_AUTH_WAIT);
        answer("{\"active\":false}");
    }
    assert_int_equal(verdict_at(NOW), SP_AUTH_INVALID);
    assert_string_equal(reason, "token not active");
    question = (struct sp_auth_question){0};
    assert_int_equal(verdict_at(NOW + 9), SP_AUTH_INVALID);
    assert_int_equal(verdict_at(NOW + 10), SP_AUTH_WAIT);
}

static void who_did_not_answer_may_have_known(void **state) {
    assert_int_equal(verdict_at(NOW), SP_AUTH_WAIT);
    question.silent = 1;
    assert_int_equal(verdict_at(NOW), SP_AUTH_WAIT); /* the next one is asked all the same */
    assert_int_equal(question.issuer, 1);
    answer("{\"active\":false}");
    assert_int_equal(verdict_at(NOW), SP_AUTH_UNAVAILABLE);
}

static void the_log_says_why_an_answer_was_not_good_enough(void **state) {
    config->issuers[1].introspection.url = NULL;
    assert_int_equal(verdict_at(NOW), SP_AUTH_WAIT);
    answer("{\"active\":true,\"aud\":\"elsewhere\",\"sub\":\"alice\"}");
    assert_int_equal(verdict_at(NOW), SP_AUTH_INVALID);
    assert_string_equal(reason, "audience");
}

static void without_introspection_nothing_is_asked(void **state) {
    config->issuers[0].introspection.url = config->issuers[1].introspection.url = NULL;
    assert_int_equal(verdict_at(NOW), SP_AUTH_INVALID);
    assert_string_equal(reason, "opaque token");
}

static void a_change_of_the_configuration_asks_again(void **state) {
    assert_int_equal(verdict_at(NOW), SP_AUTH_WAIT);
    answer(ACTIVE(""));
    assert_int_equal(verdict_at(NOW), SP_AUTH_OK);
    config->issuers[0].fingerprint = 100;
    struct sp_identity *before = identity;
    identity = identity_of(config);
    question = (struct sp_auth_question){0};
    assert_int_equal(verdict_at(NOW), SP_AUTH_WAIT);
    sp_identity_unref(before);
}

/* ---- Answers ---- */

static void an_answer_says_as_much_as_a_token(void **state) {
    struct sp_principal *principal = read_answer(
        "{\"active\":true,\"iss\":\"" ISSUER "\",\"aud\":[\"x\",\"inference\"],\"sub\":\"alice\",\"org_id\":\"acme\",\"roles\":[\"batch\"],"
        "\"scope\":\"a b\",\"token_type\":\"bearer\",\"iat\":1799999000,\"nbf\":1799999000}");
    assert_span(principal->subject, "alice");
    assert_span(principal->tenant, "acme");
    assert_span(principal->scopes, "a b");
    assert_int_equal(principal->roles, 2);
    assert_int_equal(principal->expires_at_s, NOW + 30);
    sp_principal_unref(principal);
}

static void a_client_that_speaks_for_itself_is_its_own_subject(void **state) {
    struct sp_principal *principal = read_answer("{\"active\":true,\"aud\":\"inference\",\"client_id\":\"robot\"}");
    assert_span(principal->subject, "robot");
    sp_principal_unref(principal);
    refuses("{\"active\":true,\"aud\":\"inference\"}", "subject");
    config->issuers[0].claims.subject = "email";
    refuses("{\"active\":true,\"aud\":\"inference\",\"client_id\":\"robot\"}", "subject");
}

static void answers_that_are_not_good_enough_are_refused(void **state) {
    refuses("", "malformed answer");
    refuses("[]", "malformed answer");
    refuses("{}", "malformed answer");
    refuses("{\"active\":\"true\",\"aud\":\"inference\",\"sub\":\"a\"}", "malformed answer");
    refuses("{\"active\":false,\"active\":true}", "malformed answer");
    refuses("{\"active\":false,\"aud\":\"inference\",\"sub\":\"a\"}", "token not active");
    refuses("{\"active\":true,\"sub\":\"a\"}", "audience");
    refuses("{\"active\":true,\"aud\":\"elsewhere\",\"sub\":\"a\"}", "audience");
    refuses(ACTIVE(",\"iss\":\"" OTHER_ISSUER "\""), "unknown issuer");
    refuses(ACTIVE(",\"exp\":1799999000"), "expired");
    refuses(ACTIVE(",\"exp\":\"never\""), "malformed time");
    refuses(ACTIVE(",\"nbf\":1800000100"), "not yet valid");
    refuses(ACTIVE(",\"iat\":1700000000"), "older than max_token_age");
    refuses(ACTIVE(",\"token_type\":\"refresh_token\""), "type");
    refuses(ACTIVE(",\"token_use\":\"refresh_token\""), "type");
    refuses(ACTIVE(",\"cnf\":{\"jkt\":\"x\"}"), "confirmation");
}

int main(void) {
#define T(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        T(issuers_are_asked_in_order_and_the_first_that_knows_decides),
        T(an_answer_serves_as_long_as_the_cache_says),
        T(never_beyond_the_tokens_own_end),
        T(what_nobody_knows_is_remembered_for_ten_seconds),
        T(who_did_not_answer_may_have_known),
        T(the_log_says_why_an_answer_was_not_good_enough),
        T(without_introspection_nothing_is_asked),
        T(a_change_of_the_configuration_asks_again),
        T(an_answer_says_as_much_as_a_token),
        T(a_client_that_speaks_for_itself_is_its_own_subject),
        T(answers_that_are_not_good_enough_are_refused),
    };
    return cmocka_run_group_tests_name("identity: introspection", tests, NULL, NULL);
}
