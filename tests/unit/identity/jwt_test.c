/* Which tokens are accepted, what they make of the caller, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/x509.h>

#include "forge.h"

static struct sp_config *config;
static struct sp_identity *identity;

static int begin(void **state) {
    config = standard_config();
    identity = identity_of(config);
    return 0;
}

static int end(void **state) {
    sp_identity_unref(identity);
    free_config(config);
    return 0;
}

static enum sp_auth_verdict verify_at(struct sp_identity *by, const char *token_text, uint64_t now_s, struct sp_principal **ret,
                                      const char **ret_reason) {
    *ret = NULL;
    *ret_reason = NULL;
    return sp_jwt_verify(by, sp_span_text(token_text), now_s, ret, ret_reason);
}

/* Frees the token. */
static struct sp_principal *accepted(char *token_text) {
    struct sp_principal *principal;
    const char *reason;
    if (verify_at(identity, token_text, NOW, &principal, &reason) != SP_AUTH_OK)
        fail_msg("refused: %s", reason);
    free(token_text);
    return principal;
}

static void refused_at(char *token_text, uint64_t now_s, enum sp_auth_verdict verdict, const char *expected) {
    struct sp_principal *principal;
    const char *reason;
    assert_int_equal(verify_at(identity, token_text, now_s, &principal, &reason), verdict);
    assert_null(principal);
    assert_string_equal(reason, expected);
    free(token_text);
}

static void refused(char *token_text, const char *reason) { refused_at(token_text, NOW, SP_AUTH_INVALID, reason); }

static char *es256(const char *claims) { return token("ES256", keys()->p256, "{\"alg\":\"ES256\",\"kid\":\"p256\"}", claims); }

/* Claims with the usual ones and `more`, which begins with a comma. */
static char *es256_with(const char *more) {
    char *claims = text("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\"," GOOD_TIMES "%s}", more);
    char *made = es256(claims);
    free(claims);
    return made;
}

static char *es256_times(const char *times) {
    char *claims = text("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\"%s}", times);
    char *made = es256(claims);
    free(claims);
    return made;
}

static char *es256_header(const char *header) { return token("ES256", keys()->p256, header, GOOD_CLAIMS); }

static void assert_span(struct sp_span span, const char *expected) {
    if (!sp_span_eq(span, sp_span_text(expected)))
        fail_msg("\"" SP_SPAN_FMT "\" is not \"%s\"", SP_SPAN_ARG(span), expected);
}

/* ---- Accepted ---- */

static void every_algorithm_of_the_contract_is_accepted(void **state) {
    const struct {
        const char *algorithm, *kid;
        EVP_PKEY *key;
    } good[] = {
        {"RS256", "rsa", keys()->rsa},   {"RS384", "rsa", keys()->rsa},   {"RS512", "rsa", keys()->rsa},    {"PS256", "rsa", keys()->rsa},
        {"PS384", "rsa", keys()->rsa},   {"PS512", "rsa", keys()->rsa},   {"ES256", "p256", keys()->p256}, {"ES384", "p384", keys()->p384},
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
    sp_principal_unref(accepted(es256_header(embedded)));                              /* ignored: the known key decides */
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
    struct sp_principal *principal = accepted(es256("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\"," GOOD_TIMES ",\"user\":{\"id\":\"carol\"},"
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

static void times_may_have_fractions(void **state) {
    sp_principal_unref(accepted(es256_times(",\"exp\":1800000600.75,\"iat\":1.8e9")));
}

static void malformed_times_are_refused(void **state) {
    const char *wrong[] = {",\"exp\":\"1800000600\"", ",\"exp\":-1",   ",\"exp\":null", ",\"exp\":true",
                           ",\"exp\":[1800000600]",   ",\"exp\":1e30", ",\"exp\":-0.5", ",\"exp\":9007199254740993",
                           ",\"exp\":1800000600,\"nbf\":\"0\"", ",\"exp\":1800000600,\"iat\":{}"};
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        refused(es256_times(wrong[i]), "malformed time");
    refused(es256_times(""), "no exp");
    refused(es256_times(",\"exp\":99999999999999999999"), "malformed claims");
    refused(es256_times(",\"exp\":1e999"), "malformed claims");
}

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
    const char *headers[] = {"[]", "\"ES256\"", "null", "{", "{} x", "{\"alg\":\"ES256\",\"alg\":\"ES256\"}", "{\"alg\":\"ES256\",\"al\\u0067\":\"none\"}",
                             "{'alg':'ES256'}", "\xef\xbb\xbf{\"alg\":\"ES256\"}", "{\"alg\":\"ES256\",}", "{\"alg\":\"ES256\",\"x\":\"\xff\"}",
                             "{\"alg\":\"ES256\",\"x\":\"\\u0000\"}"};
    for (size_t i = 0; i < SP_COUNT(headers); i++)
        refused(es256_header(headers[i]), "malformed header");
    const char *claims[] = {"[]", "3", "\"x\"", "{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\",\"sub\":\"root\"," GOOD_TIMES "}",
                            "{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\",\"exp\":1,\"exp\":1800000600}", GOOD_CLAIMS GOOD_CLAIMS,
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
    char *more = text(",\"x\":\"%s\"", long_name), *long_header = text("{\"alg\":\"ES256\",\"kid\":\"p256\",\"x\":\"%.*s\"}", 1100, long_name);
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
    const char *types[] = {"\"JWE\"", "\"dpop+jwt\"", "\"secevent+jwt\"", "\"\"", "null", "1", "[\"JWT\"]", "\"application/\"", "\"text/JWT\"",
                           "\"application/application/JWT\"", "\"JWT \"", "\"logout+jwt\""};
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

/* ---- Refused: claims ---- */

static void the_issuer_must_be_known_exactly(void **state) {
    const char *issuers[] = {"\"https://issuer.test/\"", "\"https://ISSUER.test\"", "\"https://issuer.tes\"", "\"https://issuer.test.evil\"",
                             "\"\"", "\" https://issuer.test\"", "\"http://issuer.test\""};
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
    const char *audiences[] = {"\"other\"", "\"Inference\"", "\"inference \"", "\"inference second\"", "\"\"", "[]", "[\"other\"]",
                               "[[\"inference\"]]", "[\"inference\",1]", "{\"inference\":true}", "null", "1", "\"*\""};
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
#define T(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        T(every_algorithm_of_the_contract_is_accepted),
        T(a_short_r_or_s_still_verifies),
        T(an_access_token_of_rfc_9068_is_accepted),
        T(hs256_is_accepted_with_the_issuers_secret_again_and_again),
        T(without_kid_the_only_key_that_fits_is_taken),
        T(keys_named_in_the_header_are_not_followed),
        T(one_of_several_audiences_is_enough),
        T(the_claims_become_the_principal),
        T(a_single_role_and_a_list_of_scopes_are_understood),
        T(dotted_paths_reach_into_objects_unless_a_member_bears_the_whole_name),
        T(a_principal_outlives_its_identity),
        T(a_token_expires_at_exp_plus_leeway),
        T(a_token_is_too_old_at_iat_plus_max_token_age),
        T(without_iat_what_is_left_must_be_at_most_max_token_age),
        T(nbf_and_iat_may_be_ahead_by_the_leeway),
        T(times_may_have_fractions),
        T(malformed_times_are_refused),
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
        T(the_issuer_must_be_known_exactly),
        T(the_audience_must_be_ours),
        T(an_expired_token_for_someone_else_is_invalid_not_expired),
        T(a_forged_token_is_never_called_expired),
        T(a_subject_must_be_plain_text),
        T(malformed_grants_are_refused_rather_than_guessed),
    };
    return cmocka_run_group_tests_name("identity: tokens", tests, NULL, NULL);
}
