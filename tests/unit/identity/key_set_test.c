/* Which key sets are read, what their keys are bound to, and which are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include "forge.h"

#define ALL ((1u << SP_ALG_HS256) - 1)

static void holds(const char *jwks, uint32_t algorithms, size_t count) {
    struct sp_key_set *set = NULL;
    char *error = NULL;
    if (sp_key_set_parse(sp_span_text(jwks), algorithms, &error, &set) != 0)
        fail_msg("refused: %s", error);
    assert_int_equal(sp_key_set_count(set), count);
    sp_key_set_free(set);
}

static void is_refused(const char *jwks, const char *because) {
    struct sp_key_set *set = NULL;
    char *error = NULL;
    assert_int_equal(sp_key_set_parse(sp_span_text(jwks), ALL, &error, &set), -EINVAL);
    assert_null(set);
    if (!strstr(error, because))
        fail_msg("\"%s\" does not say \"%s\"", error, because);
    assert_int_equal(ERR_peek_error(), 0); /* nothing left for TLS to trip over */
    free(error);
}

/* Both free the JWK. */
static void key_holds(char *jwk, uint32_t algorithms, size_t count) {
    char *jwks = jwks_of((const char *const[]){jwk}, 1);
    holds(jwks, algorithms, count);
    free(jwks);
    free(jwk);
}

static void key_is_refused(char *jwk, const char *because) {
    char *jwks = jwks_of((const char *const[]){jwk}, 1);
    is_refused(jwks, because);
    free(jwks);
    free(jwk);
}

static void the_standard_set_is_read(void **state) {
    char *jwks = standard_jwks();
    holds(jwks, ALL, 6 + 1 + 1 + 1 + 1);
    free(jwks);
}

static void a_key_without_alg_is_bound_once_for_each_allowed_algorithm(void **state) {
    key_holds(public_jwk(keys()->rsa, ""), ALL, 6);
    key_holds(public_jwk(keys()->rsa, ""), 1u << SP_ALG_RS256 | 1u << SP_ALG_PS512 | 1u << SP_ALG_ES256, 2);
    key_holds(public_jwk(keys()->p256, ""), ALL, 1);
    key_holds(public_jwk(keys()->p256, ""), ALL & ~(1u << SP_ALG_ES256), 0);
}

static void a_key_with_alg_is_bound_to_that_one(void **state) {
    key_holds(public_jwk(keys()->rsa, "\"alg\":\"PS384\","), ALL, 1);
    key_holds(public_jwk(keys()->rsa, "\"alg\":\"PS384\","), 1u << SP_ALG_RS256, 0);
}

static void keys_for_other_things_are_passed_over(void **state) {
    key_holds(public_jwk(keys()->rsa, "\"use\":\"enc\","), ALL, 0);
    key_holds(public_jwk(keys()->rsa, "\"key_ops\":[\"encrypt\",\"wrapKey\"],"), ALL, 0);
    key_holds(public_jwk(keys()->rsa, "\"key_ops\":[],"), ALL, 0);
    key_holds(public_jwk(keys()->rsa, "\"alg\":\"RSA-OAEP\","), ALL, 0);
    key_holds(public_jwk(keys()->p256, "\"alg\":\"ECDH-ES\","), ALL, 0);
    key_holds(text("{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"AA\",\"y\":\"AA\"}"), ALL, 0);
    key_holds(text("{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"AA\"}"), ALL, 0);
    key_holds(text("{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":\"AA\"}"), ALL, 0);
    key_holds(text("{\"kty\":\"AKP\",\"alg\":\"ML-DSA-65\",\"pub\":\"AA\"}"), ALL, 0);
    key_holds(public_jwk(keys()->rsa, "\"use\":\"sig\",\"x5c\":[\"nonsense\"],\"x5u\":\"http://127.0.0.1/\",\"alg\":\"RS256\","), ALL, 1);
}

static void an_alg_that_contradicts_its_key_is_refused(void **state) {
    key_is_refused(public_jwk(keys()->p256, "\"alg\":\"RS256\","), "key 1: its alg does not go with");
    key_is_refused(public_jwk(keys()->p256, "\"alg\":\"ES384\","), "its alg does not go with");
    key_is_refused(public_jwk(keys()->rsa, "\"alg\":\"HS256\","), "its alg does not go with");
    key_is_refused(public_jwk(keys()->ed25519, "\"alg\":\"ES256\","), "its alg does not go with");
}

static void private_keys_and_secrets_refuse_the_whole_set(void **state) {
    const char *members[] = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"};
    for (size_t i = 0; i < SP_COUNT(members); i++) {
        char *more = text("\"%s\":\"AAAA\",", members[i]);
        key_is_refused(public_jwk(keys()->rsa, more), "a private key or a secret");
        free(more);
    }
    key_is_refused(public_jwk(keys()->rsa, "\"d\":\"AAAA\",\"use\":\"enc\","), "a private key or a secret");
    key_is_refused(text("{\"kty\":\"oct\",\"k\":\"AAAA\"}"), "a private key or a secret");
    key_is_refused(text("{\"kty\":\"oct\"}"), "a private key or a secret");
}

static char *rsa_jwk_of(const BIGNUM *n, const char *e) {
    uint8_t bytes[2048];
    int len = BN_bn2bin(n, bytes);
    char *encoded = encode(bytes, (size_t)len), *jwk = text("{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"}", encoded, e);
    free(encoded);
    return jwk;
}

static void weak_or_malformed_rsa_keys_are_refused(void **state) {
    EVP_PKEY *small = EVP_RSA_gen(1024);
    BIGNUM *n = NULL, *huge = BN_new();
    assert_int_equal(EVP_PKEY_get_bn_param(keys()->rsa, OSSL_PKEY_PARAM_RSA_N, &n), 1);
    assert_int_equal(BN_set_bit(huge, 8192), 1);
    assert_int_equal(BN_set_bit(huge, 0), 1);
    key_is_refused(public_jwk(small, ""), "2048 to 8192 bits");
    key_is_refused(rsa_jwk_of(huge, "AQAB"), "2048 to 8192 bits");
    key_is_refused(rsa_jwk_of(n, "AQ"), "odd exponent of at least 3");   /* 1: every signature would be its own text */
    key_is_refused(rsa_jwk_of(n, "AA"), "odd exponent of at least 3");   /* 0 */
    key_is_refused(rsa_jwk_of(n, "AQAA"), "odd exponent of at least 3"); /* even */
    key_is_refused(rsa_jwk_of(n, "AQAAAAAAAAAB"), "n and e");            /* 9 bytes */
    key_is_refused(rsa_jwk_of(n, ""), "n and e");
    key_is_refused(rsa_jwk_of(n, "AQAB="), "n and e");
    BN_clear_bit(n, 0);
    key_is_refused(rsa_jwk_of(n, "AQAB"), "odd modulus");
    key_is_refused(text("{\"kty\":\"RSA\",\"n\":7,\"e\":\"AQAB\"}"), "n and e");
    key_is_refused(text("{\"kty\":\"RSA\",\"e\":\"AQAB\"}"), "n and e");
    key_holds(text("{\"kty\":\"RSA\",\"use\":\"enc\"}"), ALL, 0); /* not looked at */
    BN_free(n);
    BN_free(huge);
    EVP_PKEY_free(small);
}

static void points_that_are_not_on_the_curve_are_refused(void **state) {
    uint8_t raw[33] = {0};
    raw[31] = 1;
    char *one = encode(raw, 32), *zero = encode((const uint8_t[32]){0}, 32), *longer = encode(raw, 33), *shorter = encode(raw, 31);
    const char *format = "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    key_is_refused(text(format, one, one), "no point on");
    key_is_refused(text(format, zero, zero), "no point on");
    key_is_refused(text(format, longer, one), "full length");
    key_is_refused(text(format, one, shorter), "full length");
    key_is_refused(text(format, one, ""), "full length");
#pragma GCC diagnostic pop
    key_is_refused(text("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\"}", one), "full length");
    key_is_refused(text("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"}", shorter), "32 bytes");
    key_is_refused(text("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"}", longer), "32 bytes");
    free(one);
    free(zero);
    free(longer);
    free(shorter);
}

static void two_keys_with_one_kid_are_refused(void **state) {
    char *first = public_jwk(keys()->p256, "\"kid\":\"a\","), *second = public_jwk(keys()->stranger, "\"kid\":\"a\",");
    char *other_type = public_jwk(keys()->rsa, "\"kid\":\"a\","),
         *other_use = public_jwk(keys()->stranger, "\"kid\":\"a\",\"use\":\"enc\",");
    char *jwks = jwks_of((const char *const[]){first, second}, 2);
    is_refused(jwks, "key 2: another key for ES256 has the same kid");
    free(jwks);
    jwks = jwks_of((const char *const[]){first, other_type, other_use}, 3); /* RFC 7517 §4.5: told apart by type */
    holds(jwks, ALL, 7);
    free(jwks);
    free(first);
    free(second);
    free(other_type);
    free(other_use);
}

static void malformed_members_are_refused(void **state) {
    key_is_refused(public_jwk(keys()->p256, "\"kid\":7,"), "its kid");
    key_is_refused(public_jwk(keys()->p256, "\"kid\":\"\","), "its kid");
    key_is_refused(public_jwk(keys()->p256, "\"kid\":\"a\\nb\","), "its kid");
    key_is_refused(public_jwk(keys()->p256, "\"use\":7,"), "its use");
    key_is_refused(public_jwk(keys()->p256, "\"alg\":7,"), "its alg");
    key_is_refused(public_jwk(keys()->p256, "\"key_ops\":\"verify\","), "its key_ops");
    is_refused("{\"keys\":[7]}", "key 1: it is not an object with a kty");
    is_refused("{\"keys\":[{}]}", "kty");
    is_refused("{\"keys\":[{\"kty\":7}]}", "kty");
}

static void what_is_no_key_set_is_refused(void **state) {
    is_refused("", "not a JSON object");
    is_refused("[]", "not a JSON object");
    is_refused("{\"keys\":[]", "not a JSON object");
    is_refused("{\"keys\":[],\"keys\":[]}", "duplicate members");
    is_refused("{\"keys\":{}}", "list of keys");
    is_refused("{}", "list of keys");
    is_refused("-----BEGIN PUBLIC KEY-----", "not a JSON object");
    holds("{\"keys\":[]}", ALL, 0);
}

static void a_set_is_bounded(void **state) {
    const char *many[65];
    for (size_t i = 0; i < SP_COUNT(many); i++)
        many[i] = "{\"kty\":\"AKP\"}";
    char *jwks = jwks_of(many, 64);
    holds(jwks, ALL, 0);
    free(jwks);
    jwks = jwks_of(many, 65);
    is_refused(jwks, "at most 64 keys");
    free(jwks);
    jwks = calloc(1, 256 * 1024 + 2);
    memset(jwks, ' ', 256 * 1024 + 1);
    is_refused(jwks, "256 KiB");
    free(jwks);
}

/* ---- Building an identity: what is wrong is said with the place to look at. ---- */

static void identity_is_refused(struct sp_config *config, const char *expected) {
    struct sp_identity *identity = NULL;
    char *error = NULL;
    assert_int_equal(sp_identity_new(config, &error, &identity), -EINVAL);
    assert_null(identity);
    assert_string_equal(error, expected);
    free(error);
}

static void a_broken_key_set_is_named_with_its_line(void **state) {
    struct sp_config *config = standard_config();
    free((char *)config->issuers[0].jwks_json);
    config->issuers[0].jwks_json = text("{\"keys\":[{\"kty\":\"oct\"}]}");
    identity_is_refused(config,
                        "test.yaml:3:11: jwks.json: key 1: it holds a private key or a secret; a key set must hold public keys only");
    free_config(config);
}

static void a_key_set_without_a_usable_key_is_refused(void **state) {
    struct sp_config *config = standard_config();
    config->issuers[1].algorithms = 1u << SP_ALG_ES256;
    identity_is_refused(config, "test.yaml:3:11: jwks.json: no key in it fits the issuer's algorithms");
    free_config(config);
}

static void a_short_secret_is_refused(void **state) {
    struct sp_config *config = standard_config();
    config->issuers[2].secret = "31 bytes are not enough for it.";
    config->issuers[2].secret_file = "issuer.secret";
    identity_is_refused(config, "test.yaml:2:13: issuer.secret: a secret for HS256 must have at least 32 bytes");
    free_config(config);
}

static void one_issuer_twice_is_refused(void **state) {
    struct sp_config *config = standard_config();
    config->issuers[1].issuer.text = ISSUER;
    identity_is_refused(config, "test.yaml:2:13: issuer " ISSUER " is there twice");
    free_config(config);
}

static void api_keys_must_have_known_roles_and_ids_of_their_own(void **state) {
    struct sp_config *config = standard_config();
    const char *roles[] = {"chat", "nobody"};
    struct sp_api_key_config api_keys[2] = {{.id = "AAAAAAAA", .name = "a", .roles = {roles, 2}}, {.id = "AAAAAAAA", .name = "b"}};
    config->api_keys_file = (struct sp_text){"keys.yaml", "test.yaml:9:11"};
    config->api_keys = api_keys;
    config->n_api_keys = 2;
    identity_is_refused(config, "test.yaml:9:11: API key AAAAAAAA: there is no role nobody");
    api_keys[0].roles.count = 1;
    identity_is_refused(config, "test.yaml:9:11: API key id AAAAAAAA is there twice");
    free_config(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standard_set_is_read),
        cmocka_unit_test(a_key_without_alg_is_bound_once_for_each_allowed_algorithm),
        cmocka_unit_test(a_key_with_alg_is_bound_to_that_one),
        cmocka_unit_test(keys_for_other_things_are_passed_over),
        cmocka_unit_test(an_alg_that_contradicts_its_key_is_refused),
        cmocka_unit_test(private_keys_and_secrets_refuse_the_whole_set),
        cmocka_unit_test(weak_or_malformed_rsa_keys_are_refused),
        cmocka_unit_test(points_that_are_not_on_the_curve_are_refused),
        cmocka_unit_test(two_keys_with_one_kid_are_refused),
        cmocka_unit_test(malformed_members_are_refused),
        cmocka_unit_test(what_is_no_key_set_is_refused),
        cmocka_unit_test(a_set_is_bounded),
        cmocka_unit_test(a_broken_key_set_is_named_with_its_line),
        cmocka_unit_test(a_key_set_without_a_usable_key_is_refused),
        cmocka_unit_test(a_short_secret_is_refused),
        cmocka_unit_test(one_issuer_twice_is_refused),
        cmocka_unit_test(api_keys_must_have_known_roles_and_ids_of_their_own),
    };
    return cmocka_run_group_tests_name("identity: key sets", tests, NULL, NULL);
}
