/* Keys that are fetched: what is a question, what is remembered, and that a removed key is gone at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "forge.h"

static struct sp_config *config;
static struct sp_identity *identity;
static struct sp_token_cache *cache;
static struct sp_auth_memory last;
static struct sp_auth_question question;
static char *set, *good;
static const char *reason;

static int begin_test(void **state) {
    config = standard_config();
    set = (char *)config->issuers[0].jwks_json;
    config->issuers[0].jwks_json = NULL;
    config->issuers[0].fetches_keys = true;
    identity = identity_of(config);
    assert_int_equal(sp_token_cache_new(100, &cache), 0);
    last = (struct sp_auth_memory){0};
    question = (struct sp_auth_question){0};
    good = token("ES256", keys()->p256, "{\"alg\":\"ES256\",\"kid\":\"p256\"}", GOOD_CLAIMS);
    return 0;
}

static int end_test(void **state) {
    sp_auth_memory_clear(&last);
    sp_token_cache_free(cache);
    sp_identity_unref(identity);
    free_config(config);
    free(set);
    free(good);
    return 0;
}

static enum sp_auth_verdict ask(struct sp_identity *by, const char *jwt, uint32_t accepted, uint64_t now_s) {
    struct sp_credentials fields = {.x_api_key = sp_span_text(jwt)};
    struct sp_principal *principal = NULL;
    enum sp_auth_verdict verdict = sp_identity_authenticate(by, cache, &last, &fields, accepted, now_s, &question, &principal, &reason);
    assert_true((verdict == SP_AUTH_OK) == (principal != NULL));
    sp_principal_unref(principal);
    return verdict;
}

static enum sp_auth_verdict verdict_of(const char *jwt) { return ask(identity, jwt, SP_AUTHENTICATE_JWT, NOW); }

static void give(struct sp_identity *to, const char *jwks) {
    char *error = NULL;
    int r = sp_identity_set_keys(to, 1, sp_span_text(jwks), &error);
    if (r < 0)
        fail_msg("%s", error ? error : strerror(-r));
}

static void a_key_that_is_not_here_yet_is_a_question(void **state) {
    assert_int_equal(verdict_of(good), SP_AUTH_WAIT);
    assert_int_equal(question.kind, SP_QUESTION_KEYS);
    assert_int_equal(question.issuer, 0);
    give(identity, set);
    assert_int_equal(verdict_of(good), SP_AUTH_OK);
}

static void all_unknown_keys_of_an_issuer_are_one_question(void **state) {
    struct sp_auth_question first;
    char *other = token("ES256", keys()->stranger, "{\"alg\":\"ES256\",\"kid\":\"new\"}", GOOD_CLAIMS);
    assert_int_equal(verdict_of(good), SP_AUTH_WAIT);
    first = question;
    assert_int_equal(verdict_of(other), SP_AUTH_WAIT);
    assert_memory_equal(first.key, question.key, sizeof first.key);
    free(other);
}

static void what_no_fetch_brought_is_not_asked_about_again_for_a_while(void **state) {
    char *other = token("ES256", keys()->stranger, "{\"alg\":\"ES256\",\"kid\":\"new\"}", GOOD_CLAIMS);
    give(identity, set);
    assert_int_equal(verdict_of(other), SP_AUTH_WAIT);
    question.answered = 1;
    assert_int_equal(verdict_of(other), SP_AUTH_INVALID);
    assert_string_equal(reason, "unknown key");
    question = (struct sp_auth_question){0};
    assert_int_equal(verdict_of(other), SP_AUTH_INVALID);
    assert_int_equal(ask(identity, other, SP_AUTHENTICATE_JWT, NOW + 29), SP_AUTH_INVALID);
    assert_int_equal(ask(identity, other, SP_AUTHENTICATE_JWT, NOW + 31), SP_AUTH_WAIT);
    assert_int_equal(verdict_of(good), SP_AUTH_OK);
    free(other);
}

static void silence_is_not_remembered(void **state) {
    question.silent = 1;
    assert_int_equal(verdict_of(good), SP_AUTH_INVALID);
    question = (struct sp_auth_question){0};
    assert_int_equal(verdict_of(good), SP_AUTH_WAIT);
}

static void nothing_is_asked_that_could_not_help(void **state) {
    char *from_file = token("RS256", keys()->rsa, "{\"alg\":\"RS256\",\"kid\":\"new\"}",
                            "{\"iss\":\"" OTHER_ISSUER "\",\"aud\":\"inference\",\"sub\":\"a\"," GOOD_TIMES "}");
    char *stranger = token("ES256", keys()->p256, "{\"alg\":\"ES256\",\"kid\":\"p256\"}", "{\"iss\":\"https://nobody.test\"}");
    assert_int_equal(verdict_of(from_file), SP_AUTH_INVALID);
    assert_int_equal(verdict_of(stranger), SP_AUTH_INVALID);
    assert_int_equal(verdict_of("opaque"), SP_AUTH_INVALID);
    assert_int_equal(ask(identity, good, SP_AUTHENTICATE_API_KEY, NOW), SP_AUTH_INVALID); /* tokens are not taken there */
    free(from_file);
    free(stranger);
}

static void a_removed_key_is_gone_at_once_remembered_or_not(void **state) {
    give(identity, set);
    assert_int_equal(verdict_of(good), SP_AUTH_OK); /* now in the cache and in the connection's memory */
    char *left = public_jwk(keys()->rsa, "\"kid\":\"rsa\","), *smaller = jwks_of((const char *const[]){left}, 1);
    give(identity, smaller);
    question.silent = 1;
    assert_int_equal(verdict_of(good), SP_AUTH_INVALID);
    sp_auth_memory_clear(&last);
    assert_int_equal(verdict_of(good), SP_AUTH_INVALID);
    give(identity, set);
    assert_int_equal(verdict_of(good), SP_AUTH_OK);
    give(identity, "");
    assert_int_equal(verdict_of(good), SP_AUTH_INVALID);
    free(left);
    free(smaller);
}

static void a_new_key_beside_the_old_one_takes_nothing_away(void **state) {
    give(identity, set);
    assert_int_equal(verdict_of(good), SP_AUTH_OK);
    size_t without_end = strlen(set) - 2;
    char *more = public_jwk(keys()->stranger, "\"kid\":\"new\","), *larger = text("%.*s,%s]}", (int)without_end, set, more);
    char *fresh = token("ES256", keys()->stranger, "{\"alg\":\"ES256\",\"kid\":\"new\"}", GOOD_CLAIMS);
    give(identity, larger);
    assert_int_equal(verdict_of(fresh), SP_AUTH_OK);
    assert_int_equal(verdict_of(good), SP_AUTH_OK);
    free(more);
    free(larger);
    free(fresh);
}

static void a_set_that_is_none_changes_nothing(void **state) {
    char *error = NULL;
    give(identity, set);
    assert_int_equal(sp_identity_set_keys(identity, 1, SP_SPAN("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}"), &error), -EINVAL);
    assert_non_null(error);
    free(error);
    assert_int_equal(verdict_of(good), SP_AUTH_OK);
}

static void only_fetched_keys_can_be_set(void **state) {
    char *error = NULL;
    assert_int_equal(sp_identity_set_keys(identity, 2, sp_span_text(set), &error), -ENOENT);
    assert_int_equal(sp_identity_set_keys(identity, 77, sp_span_text(set), &error), -ENOENT);
    assert_null(error);
}

static void the_next_generation_begins_with_the_keys_and_shares_them(void **state) {
    give(identity, set);
    struct sp_identity *next = identity_of(config);
    assert_int_equal(ask(next, good, SP_AUTHENTICATE_JWT, NOW), SP_AUTH_WAIT);
    sp_identity_inherit(next, identity);
    assert_int_equal(ask(next, good, SP_AUTHENTICATE_JWT, NOW), SP_AUTH_OK);
    give(next, "");
    question.silent = 1;
    assert_int_equal(verdict_of(good), SP_AUTH_INVALID); /* requests under way see it too */
    sp_identity_unref(next);
    give(identity, set);
    assert_int_equal(verdict_of(good), SP_AUTH_OK);
}

/* Any certificate. */
static const char *authority(void) {
    static char pem[2048];
    X509 *certificate = X509_new();
    BIO *out = BIO_new(BIO_s_mem());
    assert_true(certificate && out && X509_set_pubkey(certificate, keys()->p256) == 1);
    assert_true(X509_gmtime_adj(X509_getm_notBefore(certificate), 0) && X509_gmtime_adj(X509_getm_notAfter(certificate), 60));
    assert_true(X509_sign(certificate, keys()->p256, EVP_sha256()) > 0 && PEM_write_bio_X509(out, certificate) == 1);
    int n = BIO_read(out, pem, sizeof pem - 1);
    assert_true(n > 0);
    pem[n] = '\0';
    BIO_free(out);
    X509_free(certificate);
    return pem;
}

static void keys_are_not_inherited_from_another_place(void **state) {
    give(identity, set);
    struct sp_issuer_config before = config->issuers[0];
    for (int i = 0; i < 3; i++) {
        struct sp_config *changed = standard_config();
        free((char *)changed->issuers[0].jwks_json);
        changed->issuers[0] = before;
        if (i == 0)
            changed->issuers[0].jwks.text = "https://elsewhere.test/keys";
        else if (i == 1)
            changed->issuers[0].algorithms = 1u << SP_ALG_RS256;
        else
            changed->issuers[0].ca_pem = authority();
        struct sp_identity *next = identity_of(changed);
        sp_identity_inherit(next, identity);
        assert_int_not_equal(ask(next, good, SP_AUTHENTICATE_JWT, NOW), SP_AUTH_OK);
        sp_identity_unref(next);
        free_config(changed);
    }
}

static void authorities_that_are_none_refuse_the_configuration(void **state) {
    static const char *const wrong[] = {"hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""};
    for (size_t i = 0; i < SP_COUNT(wrong); i++) {
        struct sp_identity *next = NULL;
        char *error = NULL;
        config->issuers[0].ca_pem = wrong[i];
        config->issuers[0].ca = "ca.pem";
        assert_int_equal(sp_identity_new(config, &error, &next), -EINVAL);
        assert_string_equal(error, "test.yaml:2:13: ca.pem is not a file of certificates in PEM form");
        free(error);
    }
    config->issuers[0].ca_pem = NULL;
}

int main(void) {
#define T(test) cmocka_unit_test_setup_teardown(test, begin_test, end_test)
    const struct CMUnitTest tests[] = {
        T(a_key_that_is_not_here_yet_is_a_question),
        T(all_unknown_keys_of_an_issuer_are_one_question),
        T(what_no_fetch_brought_is_not_asked_about_again_for_a_while),
        T(silence_is_not_remembered),
        T(nothing_is_asked_that_could_not_help),
        T(a_removed_key_is_gone_at_once_remembered_or_not),
        T(a_new_key_beside_the_old_one_takes_nothing_away),
        T(a_set_that_is_none_changes_nothing),
        T(only_fetched_keys_can_be_set),
        T(the_next_generation_begins_with_the_keys_and_shares_them),
        T(keys_are_not_inherited_from_another_place),
        T(authorities_that_are_none_refuse_the_configuration),
    };
    return cmocka_run_group_tests_name("identity: fetched keys", tests, NULL, NULL);
}
