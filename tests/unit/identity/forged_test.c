/* Tokens that nobody entitled signed, or that are no tokens: all refused, each for its own reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/x509.h>

#include "expect.h"

/* ---- Refused: what the token is signed with ---- */

static void an_algorithm_that_is_none_unknown_or_misspelt_is_refused(void **state) {
    const char *algorithms[] = {"none", "None", "NONE", "nOnE", "", "es256", "HS384", "HS512", "ES256K", "Ed25519", "RSA-OAEP", "RS256 "};
    for (size_t i = 0; i < SP_COUNT(algorithms); i++) {
        char *header = text("{\"alg\":\"%s\",\"kid\":\"p256\"}", algorithms[i]);
        refused(es256_header(header), "unknown algorithm");
        free(header);
    }
    refused(es256_header("{\"kid\":\"p256\"}"), "unknown algorithm");
    refused(es256_header("{\"alg\":null}"), "unknown algorithm");
    refused(es256_header("{\"alg\":[\"ES256\"]}"), "unknown algorithm");
}

static void a_public_key_is_never_a_secret(void **state) {
    config->issuers[0].algorithms |= 1u << SP_ALG_HS256; /* even where HS256 was allowed by mistake */
    char *jwk = public_jwk(keys()->rsa, "");
    uint8_t der[2048], *at = der;
    int len = i2d_PUBKEY(keys()->rsa, &at);
    char *h = encode("{\"alg\":\"HS256\",\"kid\":\"rsa\"}", 27), *c = encode(GOOD_CLAIMS, strlen(GOOD_CLAIMS));
    refused(sign_parts("HS256", NULL, sp_span((const char *)der, (size_t)len), h, c), "unknown key");
    refused(secret_token(jwk, "{\"alg\":\"HS256\",\"kid\":\"rsa\"}", GOOD_CLAIMS), "unknown key");
    free(h);
    free(c);
    free(jwk);
}

static void a_key_is_used_with_its_own_algorithm_only(void **state) {
    refused(token("RS256", keys()->rsa, "{\"alg\":\"PS256\",\"kid\":\"rsa\"}", GOOD_CLAIMS), "signature");
    refused(token("PS256", keys()->rsa, "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", GOOD_CLAIMS), "signature");
    refused(token("RS384", keys()->rsa, "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", GOOD_CLAIMS), "signature");
    refused(token("ES256", keys()->p256, "{\"alg\":\"ES384\",\"kid\":\"p256\"}", GOOD_CLAIMS), "unknown key");
    refused(token("ES256", keys()->p256, "{\"alg\":\"RS256\",\"kid\":\"p256\"}", GOOD_CLAIMS), "unknown key");
    refused(token("ES256", keys()->p256, "{\"alg\":\"EdDSA\",\"kid\":\"p256\"}", GOOD_CLAIMS), "unknown key");
    refused(token("ES384", keys()->p256, "{\"alg\":\"ES256\",\"kid\":\"p256\"}", GOOD_CLAIMS), "signature");
}

static void an_algorithm_the_issuer_does_not_allow_is_refused(void **state) {
    config->issuers[0].algorithms = 1u << SP_ALG_RS256;
    refused(es256(GOOD_CLAIMS), "algorithm not allowed");
}

static void pss_salt_must_be_as_long_as_the_digest(void **state) {
    refused(token("PS256/10", keys()->rsa, "{\"alg\":\"PS256\",\"kid\":\"rsa\"}", GOOD_CLAIMS), "signature");
    refused(token("PS256/0", keys()->rsa, "{\"alg\":\"PS256\",\"kid\":\"rsa\"}", GOOD_CLAIMS), "signature");
}

static void another_key_is_refused(void **state) {
    refused(token("ES256", keys()->stranger, "{\"alg\":\"ES256\",\"kid\":\"p256\"}", GOOD_CLAIMS), "signature");
    refused(token("RS256", keys()->other_rsa, "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", GOOD_CLAIMS), "signature");
    refused(token("ES256", keys()->p256, "{\"alg\":\"ES256\",\"kid\":\"nobody's\"}", GOOD_CLAIMS), "unknown key");
    refused(token("ES256", keys()->p256, "{\"alg\":\"ES256\",\"kid\":\"P256\"}", GOOD_CLAIMS), "unknown key");
}

static void one_issuers_key_does_not_speak_for_another(void **state) {
    char *claims = text("{\"iss\":\"" OTHER_ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\"," GOOD_TIMES "}");
    refused(es256(claims), "unknown key");
    refused(token("RS256", keys()->rsa, "{\"alg\":\"RS256\",\"kid\":\"other\"}", claims), "signature");
    refused(token("RS256", keys()->other_rsa, "{\"alg\":\"RS256\",\"kid\":\"other\"}", GOOD_CLAIMS), "unknown key");
    refused(secret_token("0123456789abcdef0123456789abcdeX", "{\"alg\":\"HS256\"}",
                         "{\"iss\":\"" SECRET_ISSUER "\",\"aud\":\"inference\",\"sub\":\"bob\"," GOOD_TIMES "}"),
            "signature");
    free(claims);
}

static void without_kid_several_fitting_keys_are_refused(void **state) {
    char *first = public_jwk(keys()->p256, "\"kid\":\"a\","), *second = public_jwk(keys()->stranger, "\"kid\":\"b\",");
    free((char *)config->issuers[0].jwks_json);
    config->issuers[0].jwks_json = jwks_of((const char *const[]){first, second}, 2);
    free(first);
    free(second);
    struct sp_identity *with_two = identity_of(config);
    struct sp_principal *principal;
    const char *reason;
    char *made = es256_header("{\"alg\":\"ES256\"}");
    assert_int_equal(verify_at(with_two, made, NOW, &principal, &reason), SP_AUTH_INVALID);
    assert_string_equal(reason, "no kid, and several keys fit");
    free(made);
    sp_identity_unref(with_two);
}

/* ---- Refused: the signature itself ---- */

static void replace_signature_and_refuse(const uint8_t *signature, size_t len, const char *reason) {
    char *made = es256(GOOD_CLAIMS), *encoded = encode(signature, len);
    char *forged = text("%.*s.%s", (int)(strrchr(made, '.') - made), made, encoded);
    refused(forged, reason);
    free(made);
    free(encoded);
}

static void a_signature_of_another_form_is_refused(void **state) {
    uint8_t zeros[132] = {0}, ones[64];
    memset(ones, 0xff, sizeof ones);
    replace_signature_and_refuse(zeros, 64, "signature"); /* r = s = 0 */
    replace_signature_and_refuse(ones, 64, "signature");  /* beyond the group's order */
    replace_signature_and_refuse(zeros, 1, "signature");
    replace_signature_and_refuse(zeros, 63, "signature");
    replace_signature_and_refuse(zeros, 65, "signature");
    replace_signature_and_refuse(zeros, 132, "signature");
    refused(token("ES256/DER", keys()->p256, "{\"alg\":\"ES256\",\"kid\":\"p256\"}", GOOD_CLAIMS), "signature");
}

static void every_flipped_bit_is_noticed(void **state) {
    char *made = es256(GOOD_CLAIMS);
    size_t len = strlen(made);
    struct sp_principal *principal;
    const char *reason;
    for (size_t i = 0; i < len; i += 3) {
        char before = made[i];
        made[i] = before == 'A' ? 'B' : 'A';
        assert_int_equal(verify_at(identity, made, NOW, &principal, &reason), SP_AUTH_INVALID);
        made[i] = before;
    }
    free(made);
}

static void an_eddsa_signature_over_other_claims_is_refused(void **state) {
    char *one = token("EdDSA", keys()->ed25519, "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", GOOD_CLAIMS);
    char *two = token("EdDSA", keys()->ed25519, "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}",
                      "{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"mallory\"," GOOD_TIMES "}");
    char *mixed = text("%.*s%s", (int)(strrchr(two, '.') - two), two, strrchr(one, '.'));
    refused(mixed, "signature");
    free(one);
    free(two);
}

/* ---- Refused: form ---- */

static void only_strict_compact_form_is_a_token(void **state) {
    char *good = es256(GOOD_CLAIMS);
    const char *dot = strrchr(good, '.');
    int signed_len = (int)(dot - good);
    refused(text("%.*s", signed_len, good), "malformed token");
    refused(text("%.*s.", signed_len, good), "malformed signature");
    refused(text("%s.", good), "malformed token");
    refused(text("%s.AAAA", good), "malformed token");
    refused(text(".%s", good), "malformed token");
    refused(text("%s=", good), "malformed token");
    refused(text("%s==", good), "malformed token");
    refused(text("%s\n", good), "malformed token");
    refused(text(" %s", good), "malformed token");
    refused(text("%.*s+%s", 10, good, good + 11), "malformed token");
    refused(text("%.*s %s", 10, good, good + 10), "malformed token");
    refused(text(".%s", strchr(good, '.')), "malformed token");
    refused(text("%.*s..%s", (int)(strchr(good, '.') - good), good, dot + 1), "malformed claims");
    refused(text("%s", strchr(good, '.')), "malformed header");
    refused(text(".."), "malformed signature");
    refused(text("%s", ""), "malformed token");
    refused(text("{\"payload\":\"x\",\"signature\":\"y\"}"), "malformed token");
    free(good);
}

static void base64url_has_one_spelling(void **state) {
    /* 64 bytes are 86 digits, whose last holds four unused bits: set, they would be the same bytes in another spelling. */
    char *good = es256(GOOD_CLAIMS);
    size_t last = strlen(good) - 1;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    good[last] = digits[(strchr(digits, good[last]) - digits) | 1];
    refused(good, "malformed signature");
}

static void a_header_or_claims_that_are_no_plain_object_are_refused(void **state) {
    const char *headers[] = {"[]",
                             "\"ES256\"",
                             "null",
                             "{",
                             "{} x",
                             "{\"alg\":\"ES256\",\"alg\":\"ES256\"}",
                             "{\"alg\":\"ES256\",\"al\\u0067\":\"none\"}",
                             "{'alg':'ES256'}",
                             "\xef\xbb\xbf{\"alg\":\"ES256\"}",
                             "{\"alg\":\"ES256\",}",
                             "{\"alg\":\"ES256\",\"x\":\"\xff\"}",
                             "{\"alg\":\"ES256\",\"x\":\"\\u0000\"}"};
    for (size_t i = 0; i < SP_COUNT(headers); i++)
        refused(es256_header(headers[i]), "malformed header");
    const char *claims[] = {"[]",
                            "3",
                            "\"x\"",
                            "{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\",\"sub\":\"root\"," GOOD_TIMES "}",
                            "{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\",\"exp\":1,\"exp\":1800000600}",
                            GOOD_CLAIMS GOOD_CLAIMS,
                            "{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\",\"x\":NaN," GOOD_TIMES "}"};
    for (size_t i = 0; i < SP_COUNT(claims); i++)
        refused(es256(claims[i]), "malformed claims");
}

static char *nested(size_t depth) {
    char *claims = text("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\"," GOOD_TIMES ",\"deep\":");
    size_t len = strlen(claims);
    char *whole = calloc(1, len + 2 * depth + 2);
    memcpy(whole, claims, len);
    memset(whole + len, '[', depth);
    memset(whole + len + depth, ']', depth);
    whole[len + 2 * depth] = '}';
    free(claims);
    char *made = es256(whole);
    free(whole);
    return made;
}

static void depth_is_bounded_before_anything_descends(void **state) {
    sp_principal_unref(accepted(nested(15)));
    refused(nested(16), "malformed claims");
    refused(nested(2500), "malformed claims");
    sp_principal_unref(accepted(es256_with(",\"note\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[[\"")));
}

static void size_is_bounded(void **state) {
    char *long_name = calloc(1, 8001);
    memset(long_name, 'x', 8000);
    char *more = text(",\"x\":\"%s\"", long_name),
         *long_header = text("{\"alg\":\"ES256\",\"kid\":\"p256\",\"x\":\"%.*s\"}", 1100, long_name);
    refused(es256_with(more), "too long");
    refused(es256_header(long_header), "malformed header");
    free(more);
    free(long_header);
    free(long_name);
}

/* ---- Refused: header parameters ---- */

static void what_must_be_understood_and_is_not_refuses_the_token(void **state) {
    refused(es256_header("{\"alg\":\"ES256\",\"kid\":\"p256\",\"crit\":[\"exp\"],\"exp\":1}"), "critical header");
    refused(es256_header("{\"alg\":\"ES256\",\"kid\":\"p256\",\"crit\":[]}"), "critical header");
    refused(es256_header("{\"alg\":\"ES256\",\"kid\":\"p256\",\"crit\":[\"b64\"],\"b64\":false}"), "critical header");
    refused(es256_header("{\"alg\":\"ES256\",\"kid\":\"p256\",\"b64\":true}"), "critical header");
}

static void another_type_is_refused(void **state) {
    const char *types[] = {"\"JWE\"",  "\"dpop+jwt\"",  "\"secevent+jwt\"", "\"\"",         "null",
                           "1",        "[\"JWT\"]",     "\"application/\"", "\"text/JWT\"", "\"application/application/JWT\"",
                           "\"JWT \"", "\"logout+jwt\""};
    for (size_t i = 0; i < SP_COUNT(types); i++) {
        char *header = text("{\"alg\":\"ES256\",\"kid\":\"p256\",\"typ\":%s}", types[i]);
        refused(es256_header(header), "type");
        free(header);
    }
}

static void where_only_access_tokens_are_taken_an_absent_type_is_refused(void **state) {
    static const char *only[] = {"at+jwt"};
    config->issuers[0].types = (struct sp_texts){only, 1};
    refused(es256(GOOD_CLAIMS), "type");
    refused(es256_header("{\"alg\":\"ES256\",\"kid\":\"p256\",\"typ\":\"JWT\"}"), "type");
    sp_principal_unref(accepted(es256_header("{\"alg\":\"ES256\",\"kid\":\"p256\",\"typ\":\"at+JWT\"}")));
}

static void a_malformed_kid_is_refused(void **state) {
    const char *kids[] = {"1", "null", "[\"p256\"]", "\"\"", "\"p256\\n\"", "\"\\u007f\"", "\"\\u0085\""};
    for (size_t i = 0; i < SP_COUNT(kids); i++) {
        char *header = text("{\"alg\":\"ES256\",\"kid\":%s}", kids[i]);
        refused(es256_header(header), "malformed kid");
        free(header);
    }
    refused(es256_header("{\"alg\":\"ES256\",\"kid\":\"../../../../dev/null\"}"), "unknown key");
    refused(es256_header("{\"alg\":\"ES256\",\"kid\":\"p256' OR '1'='1\"}"), "unknown key");
}

int main(void) {
#define T(test) cmocka_unit_test_setup_teardown(test, begin_test, end_test)
    const struct CMUnitTest tests[] = {
        T(an_algorithm_that_is_none_unknown_or_misspelt_is_refused),
        T(a_public_key_is_never_a_secret),
        T(a_key_is_used_with_its_own_algorithm_only),
        T(an_algorithm_the_issuer_does_not_allow_is_refused),
        T(pss_salt_must_be_as_long_as_the_digest),
        T(another_key_is_refused),
        T(one_issuers_key_does_not_speak_for_another),
        T(without_kid_several_fitting_keys_are_refused),
        T(a_signature_of_another_form_is_refused),
        T(every_flipped_bit_is_noticed),
        T(an_eddsa_signature_over_other_claims_is_refused),
        T(only_strict_compact_form_is_a_token),
        T(base64url_has_one_spelling),
        T(a_header_or_claims_that_are_no_plain_object_are_refused),
        T(depth_is_bounded_before_anything_descends),
        T(size_is_bounded),
        T(what_must_be_understood_and_is_not_refuses_the_token),
        T(another_type_is_refused),
        T(where_only_access_tokens_are_taken_an_absent_type_is_refused),
        T(a_malformed_kid_is_refused),
    };
    return cmocka_run_group_tests_name("identity: %s", tests, NULL, NULL);
}
