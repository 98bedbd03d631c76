/* Client certificates as identity, tokens bound to them (RFC 8705), and whose buckets a caller is charged to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "expect.h"

#define BY_CERTIFICATE SP_AUTHENTICATE_CERTIFICATE
#define EITHER         (SP_AUTHENTICATE_JWT | SP_AUTHENTICATE_CERTIFICATE)

static const uint8_t thumbprint[SP_THUMBPRINT_LEN] = {1, 2, 3}, other_thumbprint[SP_THUMBPRINT_LEN] = {1, 2, 4};
static struct sp_certificate_credential certificate, other_certificate;
static struct sp_auth_memory last;
static const char *reason;

static int begin(void **state) {
    certificate = (struct sp_certificate_credential){
        .name = SP_SPAN("spiffe://test/alice"), .subject = SP_SPAN("CN=alice,O=Acme"), .thumbprint = thumbprint, .not_after_s = NOW + 100};
    other_certificate = certificate;
    other_certificate.thumbprint = other_thumbprint;
    return begin_test(state);
}

static int end(void **state) {
    sp_auth_memory_clear(&last);
    return end_test(state);
}

static enum sp_auth_verdict ask(const char *credential, const struct sp_certificate_credential *with, uint32_t accepted,
                                struct sp_principal **ret) {
    const struct sp_credentials fields = {.x_api_key = sp_span_text(credential), .certificate = with};
    *ret = NULL;
    return sp_identity_authenticate(identity, NULL, NULL, &fields, accepted, NOW, NULL, ret, &reason);
}

static enum sp_auth_verdict verdict_of(const char *credential, const struct sp_certificate_credential *with, uint32_t accepted) {
    struct sp_principal *principal;
    enum sp_auth_verdict verdict = ask(credential, with, accepted, &principal);
    sp_principal_unref(principal);
    return verdict;
}

static char *bound_token(const uint8_t to[SP_THUMBPRINT_LEN]) {
    char *print = encode(to, SP_THUMBPRINT_LEN), *more = text(",\"cnf\":{\"x5t#S256\":\"%s\"}", print);
    char *made = es256_with(more);
    free(print);
    free(more);
    return made;
}

static void a_certificate_becomes_its_principal(void **state) {
    struct sp_principal *principal;
    char *print = encode(thumbprint, sizeof thumbprint);
    assert_int_equal(ask(NULL, &certificate, BY_CERTIFICATE, &principal), SP_AUTH_OK);
    assert_int_equal(principal->kind, SP_CREDENTIAL_CERTIFICATE);
    assert_span(principal->subject, "spiffe://test/alice");
    assert_span(principal->account, "cert:spiffe://test/alice");
    assert_span(principal->key_id, print);
    assert_int_equal(principal->roles, 0);
    sp_principal_unref(principal);
    certificate.name = sp_span(NULL, 0);
    assert_int_equal(ask(NULL, &certificate, BY_CERTIFICATE, &principal), SP_AUTH_OK);
    assert_span(principal->subject, "CN=alice,O=Acme");
    sp_principal_unref(principal);
    free(print);
}

static void a_certificate_that_has_ended_or_names_nobody_is_none(void **state) {
    certificate.not_after_s = NOW - 1;
    assert_int_equal(verdict_of(NULL, &certificate, BY_CERTIFICATE), SP_AUTH_EXPIRED);
    certificate.not_after_s = NOW;
    assert_int_equal(verdict_of(NULL, &certificate, BY_CERTIFICATE), SP_AUTH_OK);
    certificate.name = certificate.subject = sp_span(NULL, 0);
    assert_int_equal(verdict_of(NULL, &certificate, BY_CERTIFICATE), SP_AUTH_INVALID);
}

static void a_token_that_was_sent_decides(void **state) {
    char *good = es256_with("");
    struct sp_principal *principal;
    assert_int_equal(ask(good, &certificate, EITHER, &principal), SP_AUTH_OK);
    assert_span(principal->subject, "alice");
    sp_principal_unref(principal);
    assert_int_equal(verdict_of("x.y.z", &certificate, EITHER), SP_AUTH_INVALID);
    assert_int_equal(verdict_of(NULL, &certificate, EITHER), SP_AUTH_OK);
    assert_int_equal(verdict_of(NULL, NULL, EITHER), SP_AUTH_NONE);
    free(good);
}

static void where_only_certificates_are_taken_nothing_else_is_looked_at(void **state) {
    assert_int_equal(verdict_of("what an SDK must send", &certificate, BY_CERTIFICATE), SP_AUTH_OK);
    assert_int_equal(verdict_of("x.y.z", NULL, BY_CERTIFICATE), SP_AUTH_NONE);
}

static void where_none_are_taken_a_certificate_is_nothing(void **state) {
    assert_int_equal(verdict_of(NULL, &certificate, SP_AUTHENTICATE_JWT), SP_AUTH_NONE);
}

static void a_connection_remembers_its_certificate_until_it_ends(void **state) {
    const struct sp_credentials fields = {.certificate = &certificate};
    struct sp_principal *first, *again;
    assert_int_equal(sp_identity_authenticate(identity, NULL, &last, &fields, BY_CERTIFICATE, NOW, NULL, &first, &reason), SP_AUTH_OK);
    assert_int_equal(sp_identity_authenticate(identity, NULL, &last, &fields, BY_CERTIFICATE, NOW + 99, NULL, &again, &reason), SP_AUTH_OK);
    assert_ptr_equal(first, again);
    sp_principal_unref(first);
    sp_principal_unref(again);
    assert_int_equal(sp_identity_authenticate(identity, NULL, &last, &fields, BY_CERTIFICATE, NOW + 101, NULL, &again, &reason),
                     SP_AUTH_EXPIRED);
}

static void a_bound_token_is_good_only_beside_its_certificate(void **state) {
    char *bound = bound_token(thumbprint);
    assert_int_equal(verdict_of(bound, &certificate, SP_AUTHENTICATE_JWT), SP_AUTH_OK);
    assert_int_equal(verdict_of(bound, &other_certificate, SP_AUTHENTICATE_JWT), SP_AUTH_INVALID);
    assert_string_equal(reason, "bound to another certificate");
    assert_int_equal(verdict_of(bound, NULL, SP_AUTHENTICATE_JWT), SP_AUTH_INVALID);
    free(bound);
}

static void a_bound_token_stays_bound_when_it_is_remembered(void **state) {
    struct sp_token_cache *cache;
    char *bound = bound_token(thumbprint);
    struct sp_credentials fields = {.x_api_key = sp_span_text(bound), .certificate = &certificate};
    struct sp_principal *principal;
    assert_int_equal(sp_token_cache_new(10, &cache), 0);
    assert_int_equal(sp_identity_authenticate(identity, cache, NULL, &fields, SP_AUTHENTICATE_JWT, NOW, NULL, &principal, &reason),
                     SP_AUTH_OK);
    sp_principal_unref(principal);
    fields.certificate = &other_certificate;
    assert_int_equal(sp_identity_authenticate(identity, cache, NULL, &fields, SP_AUTHENTICATE_JWT, NOW, NULL, &principal, &reason),
                     SP_AUTH_INVALID);
    sp_token_cache_free(cache);
    free(bound);
}

static void confirmations_nobody_can_check_are_refused(void **state) {
    static const char *const wrong[] = {
        ",\"cnf\":{\"jkt\":\"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I\"}",
        ",\"cnf\":{\"x5t#S256\":\"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"jkt\":\"x\"}",
        ",\"cnf\":{\"x5t#S256\":\"AQID\"}",
        ",\"cnf\":{\"x5t#S256\":\"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
        ",\"cnf\":{\"x5t#S256\":1}",
        ",\"cnf\":{}",
        ",\"cnf\":\"x5t#S256\"",
        ",\"cnf\":null",
    };
    for (size_t i = 0; i < SP_COUNT(wrong); i++) {
        char *made = es256_with(wrong[i]);
        assert_int_equal(verdict_of(made, &certificate, SP_AUTHENTICATE_JWT), SP_AUTH_INVALID);
        assert_string_equal(reason, "confirmation");
        free(made);
    }
}

static void equal_subjects_of_different_origin_have_different_accounts(void **state) {
    struct sp_principal *token_here = accepted(es256_with(""));
    struct sp_principal *token_there =
        accepted(token("RS256", keys()->other_rsa, "{\"alg\":\"RS256\",\"kid\":\"other\"}",
                       "{\"iss\":\"" OTHER_ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\"," GOOD_TIMES "}"));
    struct sp_principal *by_certificate;
    certificate.name = SP_SPAN("alice");
    assert_int_equal(ask(NULL, &certificate, BY_CERTIFICATE, &by_certificate), SP_AUTH_OK);
    assert_span(token_here->subject, "alice");
    assert_span(token_there->subject, "alice");
    assert_span(by_certificate->subject, "alice");
    assert_span(token_here->account, "jwt:" ISSUER " alice");
    assert_span(token_there->account, "jwt:" OTHER_ISSUER " alice");
    assert_span(by_certificate->account, "cert:alice");
    sp_principal_unref(token_here);
    sp_principal_unref(token_there);
    sp_principal_unref(by_certificate);
}

int main(void) {
#define T(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        T(a_certificate_becomes_its_principal),
        T(a_certificate_that_has_ended_or_names_nobody_is_none),
        T(a_token_that_was_sent_decides),
        T(where_only_certificates_are_taken_nothing_else_is_looked_at),
        T(where_none_are_taken_a_certificate_is_nothing),
        T(a_connection_remembers_its_certificate_until_it_ends),
        T(a_bound_token_is_good_only_beside_its_certificate),
        T(a_bound_token_stays_bound_when_it_is_remembered),
        T(confirmations_nobody_can_check_are_refused),
        T(equal_subjects_of_different_origin_have_different_accounts),
    };
    return cmocka_run_group_tests_name("identity: certificates", tests, NULL, NULL);
}
