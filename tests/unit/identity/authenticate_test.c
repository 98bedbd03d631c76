/* Which credential of a request counts, what a connection remembers, and what that must not outlive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "forge.h"

#define JWT_OR_KEY (SP_AUTHENTICATE_JWT | SP_AUTHENTICATE_API_KEY)

static struct sp_config *config;
static struct sp_identity *identity;
static struct sp_token_cache *cache;
static struct sp_auth_memory last;
static struct sp_api_key_text chat_key, expiring_key, revoked_key, stranger_key;
static struct sp_api_key_config api_keys[3];
static char *good;

static struct sp_api_key_config key_config(struct sp_api_key_text *key, const char *name) {
    struct sp_api_key_config made = {.name = name};
    assert_int_equal(sp_api_key_generate(key), 0);
    memcpy(made.id, key->id, sizeof made.id);
    memcpy(made.digest, key->digest, sizeof made.digest);
    return made;
}

static int begin_test(void **state) {
    static const char *roles[] = {"chat"};
    config = standard_config();
    api_keys[0] = key_config(&chat_key, "laptop");
    api_keys[0].roles = (struct sp_texts){roles, 1};
    api_keys[0].tenant = "acme";
    api_keys[1] = key_config(&expiring_key, "trial");
    api_keys[1].expires_at_s = NOW + 10;
    api_keys[2] = key_config(&revoked_key, "lost");
    api_keys[2].revoked_at_s = NOW - 10;
    api_keys[2].revoked = true;
    assert_int_equal(sp_api_key_generate(&stranger_key), 0);
    config->api_keys = api_keys;
    config->n_api_keys = SP_COUNT(api_keys);
    identity = identity_of(config);
    assert_int_equal(sp_token_cache_new(100, &cache), 0);
    last = (struct sp_auth_memory){0};
    good = token("ES256", keys()->p256, "{\"alg\":\"ES256\",\"kid\":\"p256\"}",
                 "{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\",\"roles\":[\"batch\"]," GOOD_TIMES "}");
    return 0;
}

static int end_test(void **state) {
    sp_auth_memory_clear(&last);
    sp_token_cache_free(cache);
    sp_identity_unref(identity);
    free_config(config);
    free(good);
    return 0;
}

static const char *reason;

static enum sp_auth_verdict ask_at(const struct sp_credentials *fields, uint32_t accepted, uint64_t now_s, struct sp_principal **ret) {
    *ret = NULL;
    reason = NULL;
    enum sp_auth_verdict verdict = sp_identity_authenticate(identity, cache, &last, fields, accepted, now_s, NULL, ret, &reason);
    assert_non_null(reason);
    assert_true((verdict == SP_AUTH_OK) == (*ret != NULL));
    return verdict;
}

/* Only the verdict. */
static enum sp_auth_verdict verdict_at(const struct sp_credentials *fields, uint32_t accepted, uint64_t now_s) {
    struct sp_principal *principal;
    enum sp_auth_verdict verdict = ask_at(fields, accepted, now_s, &principal);
    sp_principal_unref(principal);
    return verdict;
}

static enum sp_auth_verdict verdict_of(const char *authorization, const char *x_api_key, const char *api_key) {
    const struct sp_credentials fields = {
        .authorization = sp_span_text(authorization), .x_api_key = sp_span_text(x_api_key), .api_key = sp_span_text(api_key)};
    return verdict_at(&fields, JWT_OR_KEY, NOW);
}

static struct sp_credentials bearer(const char *credential) {
    static char value[9000];
    int n = snprintf(value, sizeof value, "Bearer %s", credential);
    return (struct sp_credentials){.authorization = sp_span(value, (size_t)n)};
}

static enum sp_auth_verdict bearer_verdict(const char *credential) {
    struct sp_credentials fields = bearer(credential);
    return verdict_at(&fields, JWT_OR_KEY, NOW);
}

/* ---- Fields ---- */

static void no_credential_is_none(void **state) {
    assert_int_equal(verdict_of(NULL, NULL, NULL), SP_AUTH_NONE);
    assert_int_equal(verdict_of("", "", ""), SP_AUTH_NONE);
}

static void every_field_takes_every_kind(void **state) {
    char *as_bearer = text("Bearer %s", chat_key.text), *jwt_as_bearer = text("bearer   %s", good);
    assert_int_equal(verdict_of(as_bearer, NULL, NULL), SP_AUTH_OK);
    assert_int_equal(verdict_of(jwt_as_bearer, NULL, NULL), SP_AUTH_OK);
    assert_int_equal(verdict_of(NULL, chat_key.text, NULL), SP_AUTH_OK);
    assert_int_equal(verdict_of(NULL, NULL, chat_key.text), SP_AUTH_OK);
    assert_int_equal(verdict_of(NULL, good, NULL), SP_AUTH_OK);
    assert_int_equal(verdict_of(NULL, NULL, good), SP_AUTH_OK);
    free(as_bearer);
    free(jwt_as_bearer);
}

static void other_schemes_and_empty_bearers_are_invalid(void **state) {
    const char *values[] = {
        "Basic YWxpY2U6c2VjcmV0", "Bearer", "Bearer ", "Bearer    ", "Digest x", "sp_", chat_key.text, "Bearer,x", "Bearer\tx"};
    for (size_t i = 0; i < SP_COUNT(values); i++)
        assert_int_equal(verdict_of(values[i], NULL, NULL), SP_AUTH_INVALID);
}

static void the_same_credential_twice_is_one(void **state) {
    char *as_bearer = text("Bearer %s", chat_key.text);
    assert_int_equal(verdict_of(as_bearer, chat_key.text, NULL), SP_AUTH_OK);
    assert_int_equal(verdict_of(as_bearer, chat_key.text, chat_key.text), SP_AUTH_OK);
    free(as_bearer);
}

static void two_different_credentials_are_ambiguous_even_when_both_are_good(void **state) {
    char *as_bearer = text("Bearer %s", good);
    assert_int_equal(verdict_of(as_bearer, chat_key.text, NULL), SP_AUTH_AMBIGUOUS);
    assert_int_equal(verdict_of(NULL, chat_key.text, good), SP_AUTH_AMBIGUOUS);
    assert_int_equal(verdict_of(as_bearer, good, chat_key.text), SP_AUTH_AMBIGUOUS);
    assert_int_equal(verdict_of("Basic x", chat_key.text, NULL), SP_AUTH_AMBIGUOUS);
    assert_int_equal(verdict_of("Bearer", chat_key.text, NULL), SP_AUTH_AMBIGUOUS);
    free(as_bearer);
}

static void a_scheme_is_no_part_of_a_key_in_a_field_of_its_own(void **state) {
    char *as_bearer = text("Bearer %s", chat_key.text);
    assert_int_equal(verdict_of(as_bearer, NULL, NULL), SP_AUTH_OK);
    assert_int_equal(verdict_of(NULL, as_bearer, NULL), SP_AUTH_INVALID);
    free(as_bearer);
}

static void what_is_neither_key_nor_jwt_is_an_opaque_token(void **state) {
    assert_int_equal(bearer_verdict("0123456789abcdef"), SP_AUTH_INVALID);
    assert_string_equal(reason, "opaque token");
    assert_int_equal(bearer_verdict("a.b.c.d.e"), SP_AUTH_INVALID);
    assert_string_equal(reason, "opaque token");
}

static void an_overlong_credential_is_not_looked_at(void **state) {
    char *text_of_8193 = calloc(1, 8194);
    memset(text_of_8193, 'a', 8193);
    text_of_8193[10] = text_of_8193[20] = '.';
    assert_int_equal(bearer_verdict(text_of_8193), SP_AUTH_INVALID);
    assert_string_equal(reason, "too long");
    free(text_of_8193);
}

/* ---- What a route accepts ---- */

static void a_route_without_authentication_asks_nobody(void **state) {
    struct sp_credentials fields = bearer("nonsense");
    struct sp_principal *principal;
    assert_int_equal(ask_at(&fields, SP_AUTHENTICATE_NONE, NOW, &principal), SP_AUTH_OK);
    assert_int_equal(principal->kind, SP_CREDENTIAL_NONE);
    assert_int_equal(principal->subject.len, 0);
    assert_int_equal(principal->roles, 0);
    sp_principal_unref(principal);
}

static void where_a_credential_is_optional_a_bad_one_is_still_refused(void **state) {
    struct sp_credentials none = {0}, bad = bearer("nonsense");
    assert_int_equal(verdict_at(&none, SP_AUTHENTICATE_NONE | SP_AUTHENTICATE_JWT, NOW), SP_AUTH_OK);
    assert_int_equal(verdict_at(&bad, SP_AUTHENTICATE_NONE | SP_AUTHENTICATE_JWT, NOW), SP_AUTH_INVALID);
}

static void a_good_credential_of_another_kind_is_not_for_here(void **state) {
    struct sp_credentials fields = bearer(chat_key.text);
    assert_int_equal(verdict_at(&fields, SP_AUTHENTICATE_JWT, NOW), SP_AUTH_NOT_HERE);
    fields = bearer(good);
    assert_int_equal(verdict_at(&fields, SP_AUTHENTICATE_API_KEY, NOW), SP_AUTH_NOT_HERE);
    fields = bearer(stranger_key.text);
    assert_int_equal(verdict_at(&fields, SP_AUTHENTICATE_JWT, NOW), SP_AUTH_INVALID); /* and a bad one is just bad */
}

static void what_one_route_took_another_may_still_refuse(void **state) {
    struct sp_credentials fields = bearer(chat_key.text);
    assert_int_equal(verdict_at(&fields, JWT_OR_KEY, NOW), SP_AUTH_OK);
    assert_int_equal(verdict_at(&fields, SP_AUTHENTICATE_JWT, NOW), SP_AUTH_NOT_HERE);
    assert_int_equal(verdict_at(&fields, JWT_OR_KEY, NOW), SP_AUTH_OK);
}

/* ---- API keys ---- */

static void an_api_key_becomes_its_principal(void **state) {
    struct sp_credentials fields = bearer(chat_key.text);
    struct sp_principal *principal;
    assert_int_equal(ask_at(&fields, JWT_OR_KEY, NOW, &principal), SP_AUTH_OK);
    assert_int_equal(principal->kind, SP_CREDENTIAL_API_KEY);
    assert_true(sp_span_eq(principal->subject, SP_SPAN("laptop")));
    assert_true(sp_span_eq(principal->tenant, SP_SPAN("acme")));
    assert_true(sp_span_eq(principal->key_id, sp_span_text(chat_key.id)));
    assert_int_equal(principal->roles, 1);
    sp_principal_unref(principal);
}

static void unknown_wrong_revoked_and_malformed_keys_are_invalid(void **state) {
    assert_int_equal(bearer_verdict(stranger_key.text), SP_AUTH_INVALID);
    assert_string_equal(reason, "unknown api key");
    assert_int_equal(bearer_verdict(revoked_key.text), SP_AUTH_INVALID);
    assert_string_equal(reason, "revoked api key");
    assert_int_equal(bearer_verdict("sp_"), SP_AUTH_INVALID);
    assert_string_equal(reason, "malformed api key");
    chat_key.text[20] = chat_key.text[20] == 'A' ? 'B' : 'A';
    assert_int_equal(bearer_verdict(chat_key.text), SP_AUTH_INVALID);
    assert_string_equal(reason, "malformed api key");
}

static void a_known_id_with_another_secret_is_invalid(void **state) {
    api_keys[0].digest[31] ^= 1;
    assert_int_equal(bearer_verdict(chat_key.text), SP_AUTH_INVALID);
    assert_string_equal(reason, "wrong api key");
}

static void a_key_expires_even_where_it_is_remembered(void **state) {
    struct sp_credentials fields = bearer(expiring_key.text);
    assert_int_equal(verdict_at(&fields, JWT_OR_KEY, NOW + 9), SP_AUTH_OK);
    assert_int_equal(verdict_at(&fields, JWT_OR_KEY, NOW + 10), SP_AUTH_EXPIRED);
}

/* ---- Memory and cache ---- */

static void a_repeated_credential_gives_the_same_principal(void **state) {
    struct sp_credentials fields = bearer(good);
    struct sp_principal *first, *second, *third;
    assert_int_equal(ask_at(&fields, JWT_OR_KEY, NOW, &first), SP_AUTH_OK);
    assert_int_equal(ask_at(&fields, JWT_OR_KEY, NOW, &second), SP_AUTH_OK);
    assert_ptr_equal(first, second);
    sp_auth_memory_clear(&last);
    assert_int_equal(ask_at(&fields, JWT_OR_KEY, NOW, &third), SP_AUTH_OK); /* from the cache */
    assert_ptr_equal(first, third);
    assert_int_equal(sp_token_cache_count(cache), 1);
    sp_principal_unref(first);
    sp_principal_unref(second);
    sp_principal_unref(third);
}

static void a_remembered_token_expires(void **state) {
    struct sp_credentials fields = bearer(good);
    assert_int_equal(verdict_at(&fields, JWT_OR_KEY, NOW), SP_AUTH_OK);
    assert_int_equal(verdict_at(&fields, JWT_OR_KEY, NOW + 659), SP_AUTH_OK);
    assert_int_equal(verdict_at(&fields, JWT_OR_KEY, NOW + 660), SP_AUTH_EXPIRED);
    assert_int_equal(sp_token_cache_count(cache), 0);
}

static void a_token_like_the_remembered_one_is_not_it(void **state) {
    assert_int_equal(bearer_verdict(good), SP_AUTH_OK);
    size_t at = strlen(good) - 10;
    good[at] = good[at] == 'A' ? 'B' : 'A';
    assert_int_equal(bearer_verdict(good), SP_AUTH_INVALID);
    good[strlen(good) - 1] = '\0';
    assert_int_equal(bearer_verdict(good), SP_AUTH_INVALID);
}

static void refused_tokens_are_not_remembered(void **state) {
    char *forged = token("ES256", keys()->stranger, "{\"alg\":\"ES256\",\"kid\":\"p256\"}", GOOD_CLAIMS);
    assert_int_equal(bearer_verdict(forged), SP_AUTH_INVALID);
    assert_int_equal(sp_token_cache_count(cache), 0);
    assert_null(last.principal);
    free(forged);
}

static void replace_identity(void) {
    sp_identity_unref(identity);
    identity = identity_of(config);
}

static void a_new_generation_maps_roles_anew_without_another_signature(void **state) {
    struct sp_credentials fields = bearer(good);
    struct sp_principal *before, *after;
    assert_int_equal(ask_at(&fields, JWT_OR_KEY, NOW, &before), SP_AUTH_OK);
    struct sp_role_config turned[] = {{.name = "batch"}, {.name = "chat"}};
    config->roles = turned;
    replace_identity();
    assert_int_equal(ask_at(&fields, JWT_OR_KEY, NOW, &after), SP_AUTH_OK);
    assert_int_equal(before->roles, 1u << 1); /* a request in flight keeps what it had */
    assert_int_equal(after->roles, 1u << 0);
    assert_int_equal(sp_token_cache_count(cache), 1);
    sp_principal_unref(before);
    sp_principal_unref(after);
}

static void a_removed_key_is_felt_at_once(void **state) {
    assert_int_equal(bearer_verdict(good), SP_AUTH_OK);
    char *other = public_jwk(keys()->stranger, "\"kid\":\"p256\",");
    free((char *)config->issuers[0].jwks_json);
    config->issuers[0].jwks_json = jwks_of((const char *const[]){other}, 1); /* even where only the key set is another */
    free(other);
    replace_identity();
    assert_int_equal(bearer_verdict(good), SP_AUTH_INVALID);
    assert_string_equal(reason, "signature");
    assert_int_equal(sp_token_cache_count(cache), 0);
}

static void a_changed_issuer_is_felt_at_once(void **state) {
    static const char *other[] = {"elsewhere"};
    assert_int_equal(bearer_verdict(good), SP_AUTH_OK);
    config->issuers[0].audience = (struct sp_texts){other, 1};
    config->issuers[0].fingerprint = 99;
    replace_identity();
    assert_int_equal(bearer_verdict(good), SP_AUTH_INVALID);
    assert_string_equal(reason, "audience");
}

static void a_revoked_key_is_felt_with_the_next_generation(void **state) {
    assert_int_equal(bearer_verdict(chat_key.text), SP_AUTH_OK);
    api_keys[0].revoked = true;
    replace_identity();
    assert_int_equal(bearer_verdict(chat_key.text), SP_AUTH_INVALID);
}

static void emptying_the_cache_makes_connections_forget(void **state) {
    struct sp_credentials fields = bearer(good);
    struct sp_principal *before, *after;
    assert_int_equal(ask_at(&fields, JWT_OR_KEY, NOW, &before), SP_AUTH_OK);
    sp_token_cache_empty(cache);
    assert_int_equal(sp_token_cache_count(cache), 0);
    assert_int_equal(ask_at(&fields, JWT_OR_KEY, NOW, &after), SP_AUTH_OK);
    assert_ptr_not_equal(before, after);
    sp_principal_unref(before);
    sp_principal_unref(after);
}

static void without_cache_and_memory_the_answer_is_the_same(void **state) {
    struct sp_credentials fields = bearer(good);
    struct sp_principal *principal = NULL;
    assert_int_equal(sp_identity_authenticate(identity, NULL, NULL, &fields, JWT_OR_KEY, NOW, NULL, &principal, &reason), SP_AUTH_OK);
    sp_principal_unref(principal);
}

static void a_cleared_memory_keeps_nothing(void **state) {
    assert_int_equal(bearer_verdict(chat_key.text), SP_AUTH_OK);
    assert_non_null(last.principal);
    sp_auth_memory_clear(&last);
    assert_null(last.principal);
    assert_null(last.bytes);
    assert_int_equal(last.capacity, 0);
    assert_int_equal(bearer_verdict(good), SP_AUTH_OK); /* longer than before */
    assert_int_equal(bearer_verdict(chat_key.text), SP_AUTH_OK);
    assert_int_equal(last.length, SP_API_KEY_LEN);
}

int main(void) {
#define T(test) cmocka_unit_test_setup_teardown(test, begin_test, end_test)
    const struct CMUnitTest tests[] = {
        T(no_credential_is_none),
        T(every_field_takes_every_kind),
        T(other_schemes_and_empty_bearers_are_invalid),
        T(the_same_credential_twice_is_one),
        T(two_different_credentials_are_ambiguous_even_when_both_are_good),
        T(a_scheme_is_no_part_of_a_key_in_a_field_of_its_own),
        T(what_is_neither_key_nor_jwt_is_an_opaque_token),
        T(an_overlong_credential_is_not_looked_at),
        T(a_route_without_authentication_asks_nobody),
        T(where_a_credential_is_optional_a_bad_one_is_still_refused),
        T(a_good_credential_of_another_kind_is_not_for_here),
        T(what_one_route_took_another_may_still_refuse),
        T(an_api_key_becomes_its_principal),
        T(unknown_wrong_revoked_and_malformed_keys_are_invalid),
        T(a_known_id_with_another_secret_is_invalid),
        T(a_key_expires_even_where_it_is_remembered),
        T(a_repeated_credential_gives_the_same_principal),
        T(a_remembered_token_expires),
        T(a_token_like_the_remembered_one_is_not_it),
        T(refused_tokens_are_not_remembered),
        T(a_new_generation_maps_roles_anew_without_another_signature),
        T(a_removed_key_is_felt_at_once),
        T(a_changed_issuer_is_felt_at_once),
        T(a_revoked_key_is_felt_with_the_next_generation),
        T(emptying_the_cache_makes_connections_forget),
        T(without_cache_and_memory_the_answer_is_the_same),
        T(a_cleared_memory_keeps_nothing),
    };
    return cmocka_run_group_tests_name("identity: authentication", tests, NULL, NULL);
}
