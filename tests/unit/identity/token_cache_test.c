/* The cache of verified tokens: bounded, and nothing in it past its time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "forge.h"
#include "principal.h"
#include "token_cache.h"

static struct sp_config *config;
static struct sp_identity *identity;
static const struct sp_issuer *issuer;
static struct sp_token_cache *cache;

static int begin_test(void **state) {
    config = standard_config();
    identity = identity_of(config);
    issuer = sp_identity_issuer(identity, SP_SPAN(ISSUER));
    return 0;
}

static int end_test(void **state) {
    sp_token_cache_free(cache);
    cache = NULL;
    sp_identity_unref(identity);
    free_config(config);
    return 0;
}

static void digest_of(unsigned number, uint8_t out[32]) {
    memset(out, 0, 32);
    memcpy(out, &number, sizeof number);
    memcpy(out + 16, &number, sizeof number);
}

static void add(unsigned number, uint64_t expires_at_s) {
    uint8_t digest[32];
    struct sp_principal *principal;
    digest_of(number, digest);
    assert_int_equal(
        sp_principal_new(&(struct sp_principal){.kind = SP_CREDENTIAL_JWT, .expires_at_s = expires_at_s}, sp_span(NULL, 0), &principal), 0);
    sp_token_cache_add(cache, identity, issuer, digest, principal);
    sp_principal_unref(principal);
}

static bool has(unsigned number, uint64_t now_s) {
    uint8_t digest[32];
    digest_of(number, digest);
    struct sp_principal *principal = sp_token_cache_find(cache, identity, digest, now_s);
    sp_principal_unref(principal);
    return principal != NULL;
}

static void it_never_holds_more_than_it_may(void **state) {
    assert_int_equal(sp_token_cache_new(8, &cache), 0);
    for (unsigned i = 0; i < 1000; i++) {
        add(i, NOW + 1000 + i * 7919 % 997);
        assert_true(sp_token_cache_count(cache) <= 8);
    }
    for (unsigned i = 992; i < 1000; i++)
        assert_true(has(i, NOW));
    assert_false(has(991, NOW));
}

static void the_least_recently_used_goes_first(void **state) {
    assert_int_equal(sp_token_cache_new(3, &cache), 0);
    add(1, NOW + 10);
    add(2, NOW + 20);
    add(3, NOW + 30);
    assert_true(has(1, NOW));
    add(4, NOW + 5);
    assert_false(has(2, NOW));
    assert_true(has(1, NOW));
    assert_true(has(3, NOW));
    assert_true(has(4, NOW));
}

static void expired_tokens_leave_whether_asked_for_or_not(void **state) {
    assert_int_equal(sp_token_cache_new(1000, &cache), 0);
    for (unsigned i = 0; i < 500; i++)
        add(i, NOW + 1 + i * 7919 % 500); /* each second once, in no order */
    for (uint64_t now_s = NOW; now_s <= NOW + 500; now_s++) {
        assert_false(has(100000, now_s));
        assert_int_equal(sp_token_cache_count(cache), 500 - (now_s - NOW));
    }
}

static void an_expired_token_is_not_found_though_many_expire_together(void **state) {
    assert_int_equal(sp_token_cache_new(1000, &cache), 0);
    for (unsigned i = 0; i < 500; i++)
        add(i, NOW + 1);
    for (unsigned i = 499; i > 0; i--)
        assert_false(has(i, NOW + 1));
    assert_int_equal(sp_token_cache_count(cache), 0);
}

static void one_token_twice_is_one_entry(void **state) {
    assert_int_equal(sp_token_cache_new(2, &cache), 0);
    add(1, NOW + 10);
    add(1, NOW + 10);
    add(2, NOW + 10);
    assert_int_equal(sp_token_cache_count(cache), 2);
    assert_true(has(1, NOW));
}

static void a_cache_without_room_still_holds_one(void **state) {
    assert_int_equal(sp_token_cache_new(0, &cache), 0);
    add(1, NOW + 10);
    assert_true(has(1, NOW));
    add(2, NOW + 10);
    assert_false(has(1, NOW));
    assert_int_equal(sp_token_cache_count(cache), 1);
}

/* Against a plain model: random additions, lookups and time, with entries removed from the middle of the heap. */
static void random_use_agrees_with_a_model(void **state) {
    uint64_t expires[64] = {0}, now_s = NOW;
    uint32_t seed = 12345;
    assert_int_equal(sp_token_cache_new(64, &cache), 0);
    for (int step = 0; step < 20000; step++) {
        seed = seed * 1664525 + 1013904223;
        unsigned number = seed >> 26, what = (seed >> 20) & 3;
        if (what == 0) {
            expires[number] = now_s + 1 + ((seed >> 10) & 63);
            add(number, expires[number]);
        } else if (what == 1 && ((seed >> 12) & 7) == 0) {
            now_s++;
        }
        assert_int_equal(has(number, now_s), expires[number] > now_s);
    }
}

int main(void) {
#define T(test) cmocka_unit_test_setup_teardown(test, begin_test, end_test)
    const struct CMUnitTest tests[] = {
        T(it_never_holds_more_than_it_may),
        T(the_least_recently_used_goes_first),
        T(expired_tokens_leave_whether_asked_for_or_not),
        T(an_expired_token_is_not_found_though_many_expire_together),
        T(one_token_twice_is_one_entry),
        T(a_cache_without_room_still_holds_one),
        T(random_use_agrees_with_a_model),
    };
    return cmocka_run_group_tests_name("identity: token cache", tests, NULL, NULL);
}
