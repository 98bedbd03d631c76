/* Which tokens are accepted, what their claims make of the caller, and which claims are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "expect.h"

/* ---- Accepted ---- */

static void every_algorithm_of_the_contract_is_accepted(void **state) {
    const struct {
        const char *algorithm, *kid;
        EVP_PKEY *key;
    } good[] = {
        {"RS256", "rsa", keys()->rsa},   {"RS384", "rsa", keys()->rsa},    {"RS512", "rsa", keys()->rsa},   {"PS256", "rsa", keys()->rsa},
        {"PS384", "rsa", keys()->rsa},   {"PS512", "rsa", keys()->rsa},    {"ES256", "p256", keys()->p256}, {"ES384", "p384", keys()->p384},
        {"ES512", "p521", keys()->p521}, {"EdDSA", "ed", keys()->ed25519},
    };
    /* Several rounds: contexts are used again, and ECDSA's r and s have leading zeros now and then. */
    for (size_t round = 0; round < 20; round++)
        for (size_t i = 0; i < SP_COUNT(good); i++) {
            char *header = text("{\"alg\":\"%s\",\"kid\":\"%s\",\"typ\":\"JWT\"}", good[i].algorithm, good[i].kid);
            struct sp_principal *principal = accepted(token(good[i].algorithm, good[i].key, header, GOOD_CLAIMS));
            assert_int_equal(principal->kind, SP_CREDENTIAL_JWT);
            assert_span(principal->key_id, good[i].kid);
            sp_principal_unref(principal);
            free(header);
        }
}

static void a_short_r_or_s_still_verifies(void **state) {
    /* ECDSA numbers with a leading zero byte come once in 128 signatures: enough of them to meet several. */
    for (int i = 0; i < 600; i++)
        sp_principal_unref(accepted(es256(GOOD_CLAIMS)));
}

static void an_access_token_of_rfc_9068_is_accepted(void **state) {
    const char *types[] = {"at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt", "jwt", "application/jwt"};
    for (size_t i = 0; i < SP_COUNT(types); i++) {
        char *header = text("{\"alg\":\"ES256\",\"kid\":\"p256\",\"typ\":\"%s\"}", types[i]);
        sp_principal_unref(accepted(es256_header(header)));
        free(header);
    }
}

static void hs256_is_accepted_with_the_issuers_secret_again_and_again(void **state) {
    for (int i = 0; i < 3; i++)
        sp_principal_unref(accepted(secret_token(SECRET, "{\"alg\":\"HS256\"}",
                                                 "{\"iss\":\"" SECRET_ISSUER "\",\"aud\":\"inference\",\"sub\":\"bob\"," GOOD_TIMES "}")));
}

static void without_kid_the_only_key_that_fits_is_taken(void **state) {
    struct sp_principal *principal = accepted(es256_header("{\"alg\":\"ES256\"}"));
    assert_span(principal->key_id, "");
    sp_principal_unref(principal);
}

static void keys_named_in_the_header_are_not_followed(void **state) {
    char *jwk = public_jwk(keys()->stranger, "\"alg\":\"ES256\",");
    char *embedded = text("{\"alg\":\"ES256\",\"jwk\":%s,\"jku\":\"http://127.0.0.1/\",\"x5u\":\"http://127.0.0.1/\"}", jwk);
    sp_principal_unref(accepted(es256_header(embedded)));                          /* ignored: the known key decides */
    refused(token("ES256", keys()->stranger, embedded, GOOD_CLAIMS), "signature"); /* and not the embedded one */
    free(embedded);
    free(jwk);
}

static void one_of_several_audiences_is_enough(void **state) {
    sp_principal_unref(accepted(es256("{\"iss\":\"" ISSUER "\",\"aud\":[\"x\",\"second\"],\"sub\":\"alice\"," GOOD_TIMES "}")));
}

static void the_claims_become_the_principal(void **state) {
    struct sp_principal *principal =
        accepted(es256_with(",\"org_id\":\"acme\",\"roles\":[\"batch\",\"no such role\"],\"scope\":\"read  write\""));
    assert_span(principal->subject, "alice");
    assert_span(principal->tenant, "acme");
    assert_span(principal->issuer, ISSUER);
    assert_span(principal->scopes, "read write");
    assert_int_equal(principal->roles, 1u << 1);
    assert_int_equal(principal->expires_at_s, NOW + 600 + 60);
    assert_true(sp_principal_has_scope(principal, SP_SPAN("read")));
    assert_true(sp_principal_has_scope(principal, SP_SPAN("write")));
    assert_false(sp_principal_has_scope(principal, SP_SPAN("rea")));
    assert_false(sp_principal_has_scope(principal, SP_SPAN("read write")));
    assert_false(sp_principal_has_scope(principal, SP_SPAN("")));
    sp_principal_unref(principal);
}

static void a_role_is_compared_as_it_is_with_its_blanks(void **state) {
    static const struct {
        const char *claim;
        uint64_t roles;
    } cases[] = {
        {",\"roles\":\"chat\"", 1},
        {",\"roles\":\"chat \"", 0},
        {",\"roles\":\" chat\"", 0},
        {",\"roles\":[\"chat \"]", 0},
        {",\"roles\":[\" chat\"]", 0},
        {",\"roles\":[\"x\",\"chat \"]", 0},
        {",\"roles\":[\"chat\",\" batch\"]", 1},
        {",\"roles\":[\" \",\"batch\"]", 2},
        {",\"roles\":[\"batch\",\"chat\"]", 3},
        {",\"roles\":[]", 0},
    };
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        struct sp_principal *principal = accepted(es256_with(cases[i].claim));
        assert_int_equal(principal->roles, cases[i].roles);
        sp_principal_unref(principal);
    }
}

static void a_single_role_and_a_list_of_scopes_are_understood(void **state) {
    struct sp_principal *principal = accepted(es256_with(",\"roles\":\"chat\",\"scope\":[\"a\",\"b\"]"));
    assert_int_equal(principal->roles, 1u << 0);
    assert_span(principal->scopes, "a b");
    sp_principal_unref(principal);
    principal = accepted(es256_with(",\"roles\":\"chat batch\"")); /* one name with a space in it, which nobody has */
    assert_int_equal(principal->roles, 0);
    sp_principal_unref(principal);
    principal = accepted(es256_with(",\"roles\":null,\"org_id\":null,\"scope\":null"));
    assert_int_equal(principal->roles, 0);
    sp_principal_unref(principal);
}

static void dotted_paths_reach_into_objects_unless_a_member_bears_the_whole_name(void **state) {
    config->issuers[0].claims = (struct sp_claims_config){"user.id", "https://acme.example/org", "realm.access.roles", "scp"};
    struct sp_principal *principal =
        accepted(es256("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\"," GOOD_TIMES ",\"user\":{\"id\":\"carol\"},"
                       "\"https://acme.example/org\":\"acme\",\"realm\":{\"access\":{\"roles\":[\"chat\"]}}}"));
    assert_span(principal->subject, "carol");
    assert_span(principal->tenant, "acme");
    assert_int_equal(principal->roles, 1u << 0);
    sp_principal_unref(principal);
    refused(es256("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\"," GOOD_TIMES ",\"user\":\"carol\"}"), "subject");
}

static void a_principal_outlives_its_identity(void **state) {
    struct sp_identity *short_lived = identity_of(config);
    struct sp_principal *principal;
    const char *reason;
    char *made = es256(GOOD_CLAIMS);
    assert_int_equal(verify_at(short_lived, made, NOW, &principal, &reason), SP_AUTH_OK);
    free(made);
    sp_identity_unref(short_lived);
    assert_span(principal->subject, "alice");
    sp_principal_unref(principal);
}

/* ---- Times ---- */

static void a_token_expires_at_exp_plus_leeway(void **state) {
    struct sp_principal *principal;
    const char *reason;
    char *made = es256(GOOD_CLAIMS);
    assert_int_equal(verify_at(identity, made, NOW + 600 + 59, &principal, &reason), SP_AUTH_OK);
    sp_principal_unref(principal);
    refused_at(made, NOW + 600 + 60, SP_AUTH_EXPIRED, "expired");
}

static void a_token_is_too_old_at_iat_plus_max_token_age(void **state) {
    char *made = es256_times(",\"exp\":1900000000,\"iat\":1800000000");
    struct sp_principal *principal;
    const char *reason;
    assert_int_equal(verify_at(identity, made, NOW + 86400 + 59, &principal, &reason), SP_AUTH_OK);
    assert_int_equal(principal->expires_at_s, NOW + 86400 + 60);
    sp_principal_unref(principal);
    refused_at(made, NOW + 86400 + 60, SP_AUTH_EXPIRED, "older than max_token_age");
}

static void without_iat_what_is_left_must_be_at_most_max_token_age(void **state) {
    sp_principal_unref(accepted(es256_times(",\"exp\":1800086400")));
    refused(es256_times(",\"exp\":1800086401"), "no iat, and valid for longer than max_token_age");
}

static void nbf_and_iat_may_be_ahead_by_the_leeway(void **state) {
    sp_principal_unref(accepted(es256_times(",\"exp\":1800000600,\"nbf\":1800000060,\"iat\":1800000060")));
    refused(es256_times(",\"exp\":1800000600,\"nbf\":1800000061"), "not yet valid");
    refused(es256_times(",\"exp\":1800000600,\"iat\":1800000061"), "issued in the future");
}

static void times_may_have_fractions(void **state) { sp_principal_unref(accepted(es256_times(",\"exp\":1800000600.75,\"iat\":1.8e9"))); }

static void malformed_times_are_refused(void **state) {
    const char *wrong[] = {",\"exp\":\"1800000600\"",
                           ",\"exp\":-1",
                           ",\"exp\":null",
                           ",\"exp\":true",
                           ",\"exp\":[1800000600]",
                           ",\"exp\":1e30",
                           ",\"exp\":-0.5",
                           ",\"exp\":9007199254740993",
                           ",\"exp\":1800000600,\"nbf\":\"0\"",
                           ",\"exp\":1800000600,\"iat\":{}"};
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        refused(es256_times(wrong[i]), "malformed time");
    refused(es256_times(""), "no exp");
    refused(es256_times(",\"exp\":99999999999999999999"), "malformed claims");
    refused(es256_times(",\"exp\":1e999"), "malformed claims");
}

/* ---- Refused: claims ---- */

static void the_issuer_must_be_known_exactly(void **state) {
    const char *issuers[] = {
        "\"https://issuer.test/\"", "\"https://ISSUER.test\"", "\"https://issuer.tes\"", "\"https://issuer.test.evil\"", "\"\"",
        "\" https://issuer.test\"", "\"http://issuer.test\""};
    for (size_t i = 0; i < SP_COUNT(issuers); i++) {
        char *claims = text("{\"iss\":%s,\"aud\":\"inference\",\"sub\":\"alice\"," GOOD_TIMES "}", issuers[i]);
        refused(es256(claims), "unknown issuer");
        free(claims);
    }
    refused(es256("{\"aud\":\"inference\",\"sub\":\"alice\"," GOOD_TIMES "}"), "no issuer");
    refused(es256("{\"iss\":[\"" ISSUER "\"],\"aud\":\"inference\",\"sub\":\"alice\"," GOOD_TIMES "}"), "no issuer");
    refused(es256("{\"iss\":null,\"aud\":\"inference\",\"sub\":\"alice\"," GOOD_TIMES "}"), "no issuer");
}

static void the_audience_must_be_ours(void **state) {
    const char *audiences[] = {"\"other\"",   "\"Inference\"",     "\"inference \"",    "\"inference second\"", "\"\"", "[]",
                               "[\"other\"]", "[[\"inference\"]]", "[\"inference\",1]", "{\"inference\":true}", "null", "1",
                               "\"*\""};
    for (size_t i = 0; i < SP_COUNT(audiences); i++) {
        char *claims = text("{\"iss\":\"" ISSUER "\",\"aud\":%s,\"sub\":\"alice\"," GOOD_TIMES "}", audiences[i]);
        refused(es256(claims), "audience");
        free(claims);
    }
    refused(es256("{\"iss\":\"" ISSUER "\",\"sub\":\"alice\"," GOOD_TIMES "}"), "audience");
}

static void an_expired_token_for_someone_else_is_invalid_not_expired(void **state) {
    refused(es256("{\"iss\":\"" ISSUER "\",\"aud\":\"other\",\"sub\":\"alice\",\"exp\":1}"), "audience");
}

static void a_forged_token_is_never_called_expired(void **state) {
    refused(token("ES256", keys()->stranger, "{\"alg\":\"ES256\",\"kid\":\"p256\"}",
                  "{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\",\"exp\":1}"),
            "signature");
}

static void a_subject_must_be_plain_text(void **state) {
    const char *subjects[] = {"\"\"", "1", "null", "[\"alice\"]", "{}", "\"a\\nb\"", "\"a\\u0000b\"", "\"a\\u001bb\"", "\"a\\u009bb\""};
    for (size_t i = 0; i < SP_COUNT(subjects); i++) {
        char *claims = text("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":%s," GOOD_TIMES "}", subjects[i]);
        refused(es256(claims), strstr(subjects[i], "0000") ? "malformed claims" : "subject");
        free(claims);
    }
    refused(es256("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\"," GOOD_TIMES "}"), "subject");
    char *long_subject = text("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"%0256d\"," GOOD_TIMES "}", 1);
    refused(es256(long_subject), "subject");
    free(long_subject);
}

static void malformed_grants_are_refused_rather_than_guessed(void **state) {
    refused(es256_with(",\"roles\":{\"chat\":true}"), "roles");
    refused(es256_with(",\"roles\":[\"chat\",7]"), "roles");
    refused(es256_with(",\"roles\":[\"chat\\nbatch\"]"), "roles");
    refused(es256_with(",\"roles\":[\"\"]"), "roles");
    refused(es256_with(",\"scope\":7"), "scopes");
    refused(es256_with(",\"scope\":[\"a b\"]"), "scopes");
    refused(es256_with(",\"scope\":\"a\\tb\""), "scopes");
    refused(es256_with(",\"org_id\":7"), "tenant");
    refused(es256_with(",\"org_id\":\"\""), "tenant");
    refused(es256_with(",\"org_id\":\"a\\rb\""), "tenant");
}

int main(void) {
#define T(test) cmocka_unit_test_setup_teardown(test, begin_test, end_test)
    const struct CMUnitTest tests[] = {
        T(every_algorithm_of_the_contract_is_accepted),
        T(a_short_r_or_s_still_verifies),
        T(an_access_token_of_rfc_9068_is_accepted),
        T(hs256_is_accepted_with_the_issuers_secret_again_and_again),
        T(without_kid_the_only_key_that_fits_is_taken),
        T(keys_named_in_the_header_are_not_followed),
        T(one_of_several_audiences_is_enough),
        T(the_claims_become_the_principal),
        T(a_role_is_compared_as_it_is_with_its_blanks),
        T(a_single_role_and_a_list_of_scopes_are_understood),
        T(dotted_paths_reach_into_objects_unless_a_member_bears_the_whole_name),
        T(a_principal_outlives_its_identity),
        T(a_token_expires_at_exp_plus_leeway),
        T(a_token_is_too_old_at_iat_plus_max_token_age),
        T(without_iat_what_is_left_must_be_at_most_max_token_age),
        T(nbf_and_iat_may_be_ahead_by_the_leeway),
        T(times_may_have_fractions),
        T(malformed_times_are_refused),
        T(the_issuer_must_be_known_exactly),
        T(the_audience_must_be_ours),
        T(an_expired_token_for_someone_else_is_invalid_not_expired),
        T(a_forged_token_is_never_called_expired),
        T(a_subject_must_be_plain_text),
        T(malformed_grants_are_refused_rather_than_guessed),
    };
    return cmocka_run_group_tests_name("identity: %s", tests, NULL, NULL);
}
