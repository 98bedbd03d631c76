#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "subject.h"

static const struct sp_hash_key hash_key = {3, 4};
#define ADDRESS_V4                                                                                                                         \
    { [10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 1 }

static char key[SP_REDIS_KEY_MAX + 1];
static const char *key_of(uint32_t by, struct sp_limit_facts facts) {
    struct sp_limit_config limit = {.name = "per-caller", .by = by};
    ssize_t len = sp_subject_redis_key("sallyport:", &limit, SP_LIMIT_REQUESTS, &facts, key);
    assert_in_range(len, 1, SP_REDIS_KEY_MAX);
    key[len] = 0;
    return key;
}

static void keys_are_as_documented(void **state) {
    struct sp_limit_facts facts = {.subject = SP_SPAN("alice@example.com"),
                                   .tenant = SP_SPAN("acme"),
                                   .key_id = SP_SPAN("Ab12Cd34"),
                                   .model = SP_SPAN("llama-3"),
                                   .route = SP_SPAN("chat"),
                                   .address = ADDRESS_V4};
    assert_string_equal(key_of(SP_BY_SUBJECT, facts), "sallyport:per-caller:{s=alice@example.com}");
    assert_string_equal(key_of(SP_BY_GLOBAL, facts), "sallyport:per-caller:{g}");
    assert_string_equal(key_of(SP_BY_ADDRESS, facts), "sallyport:per-caller:{a=192.0.2.1}");
    assert_string_equal(key_of(127, facts), "sallyport:per-caller:{s=alice@example.com,t=acme,k=Ab12Cd34,m=llama-3,r=chat,a=192.0.2.1,g}");
    assert_string_equal(key_of(SP_BY_TENANT, (struct sp_limit_facts){0}), "sallyport:per-caller:{t=}");
}

static void what_a_limit_says_of_one_subject_lives_together(void **state) {
    static const char *const keys[SP_LIMIT_KINDS] = {"per-caller:{s=alice}", "per-caller:{s=alice}:t", "per-caller:{s=alice}:c"};
    struct sp_limit_facts alice = {.subject = SP_SPAN("alice")};
    struct sp_limit_config limit = {.name = "per-caller", .by = SP_BY_SUBJECT}, other = {.name = "per-calle", .by = SP_BY_SUBJECT};
    for (unsigned kind = 0; kind < SP_LIMIT_KINDS; kind++) {
        enum sp_limit_kind found = SP_LIMIT_KINDS;
        ssize_t len = sp_subject_redis_key("", &limit, (enum sp_limit_kind)kind, &alice, key);
        assert_int_equal(len, strlen(keys[kind]));
        assert_memory_equal(key, keys[kind], (size_t)len);
        assert_int_equal(sp_subject_key_kind(sp_span(key, (size_t)len), &limit, &found), 0);
        assert_int_equal(found, kind);
        assert_int_equal(sp_subject_key_kind(sp_span(key, (size_t)len), &other, &found), -ENOENT);
        assert_int_equal(sp_subject_key_kind(sp_span(key, (size_t)len - 1), &limit, &found), -ENOENT);
        for (unsigned to = 0; to < SP_LIMIT_KINDS; to++) {
            memcpy(key, keys[kind], (size_t)len);
            size_t other_len = sp_subject_other_kind(key, (size_t)len, (enum sp_limit_kind)kind, (enum sp_limit_kind)to);
            assert_int_equal(other_len, strlen(keys[to]));
            assert_memory_equal(key, keys[to], other_len);
        }
    }
    /* A subject cannot close the braces. */
    struct sp_limit_facts sly = {.subject = SP_SPAN("a}:t{")};
    assert_string_equal(key_of(SP_BY_SUBJECT, sly), "sallyport:per-caller:{s=a%7D%3At%7B}");
}

static void addresses_of_one_v6_subscriber_count_as_one(void **state) {
    struct sp_limit_facts here = {.address = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9}}, there = here, elsewhere = here;
    there.address[15] = 7;
    elsewhere.address[7] = 2;
    assert_string_equal(key_of(SP_BY_ADDRESS, here), "sallyport:per-caller:{a=2001:db8:0:1::/64}");
    assert_string_equal(key_of(SP_BY_ADDRESS, there), "sallyport:per-caller:{a=2001:db8:0:1::/64}");
    assert_int_equal(sp_subject_hash(&hash_key, SP_BY_ADDRESS, &here), sp_subject_hash(&hash_key, SP_BY_ADDRESS, &there));
    assert_int_not_equal(sp_subject_hash(&hash_key, SP_BY_ADDRESS, &here), sp_subject_hash(&hash_key, SP_BY_ADDRESS, &elsewhere));
    struct sp_limit_facts v4 = {.address = ADDRESS_V4}, next = v4;
    next.address[15] = 2;
    assert_int_not_equal(sp_subject_hash(&hash_key, SP_BY_ADDRESS, &v4), sp_subject_hash(&hash_key, SP_BY_ADDRESS, &next));
}

static void nothing_a_client_sends_can_mean_another_key(void **state) {
    struct sp_limit_facts sly = {.subject = SP_SPAN("alice,t=acme:%\n\0#")};
    assert_string_equal(key_of(SP_BY_SUBJECT, sly), "sallyport:per-caller:{s=alice%2Ct%3Dacme%3A%25%0A%00%23}");
    struct sp_limit_facts one = {.subject = SP_SPAN("ab"), .tenant = SP_SPAN("c")},
                          other = {.subject = SP_SPAN("a"), .tenant = SP_SPAN("bc")};
    uint32_t both = SP_BY_SUBJECT | SP_BY_TENANT;
    assert_int_not_equal(sp_subject_hash(&hash_key, both, &one), sp_subject_hash(&hash_key, both, &other));
    struct sp_limit_facts tenant = {.tenant = SP_SPAN("ab")}, subject = {.subject = SP_SPAN("ab")};
    assert_int_not_equal(sp_subject_hash(&hash_key, SP_BY_TENANT, &tenant), sp_subject_hash(&hash_key, SP_BY_SUBJECT, &subject));
}

static void a_long_subject_becomes_its_digest(void **state) {
    static char text[100000];
    memset(text, 'x', sizeof text);
    struct sp_limit_facts facts = {.subject = sp_span(text, SP_SUBJECT_TEXT_MAX - 2)};
    assert_int_equal(strlen(key_of(SP_BY_SUBJECT, facts)), strlen("sallyport:per-caller:{}") + SP_SUBJECT_TEXT_MAX);
    facts.subject.len++;
    /* printf 's=%s' xxx… | sha256sum, with 127 times x */
    assert_string_equal(key_of(SP_BY_SUBJECT, facts),
                        "sallyport:per-caller:{#9de73427afb0974dcc94bdb9cd6084c4fc6493a48f5fb49c220a773acd0ce458}");
    char first[SP_REDIS_KEY_MAX + 1];
    facts.subject.len = sizeof text;
    (void)key_of(SP_BY_SUBJECT, facts);
    memcpy(first, key, sizeof first);
    text[sizeof text - 1] = 'y';
    assert_string_not_equal(key_of(SP_BY_SUBJECT, facts), first);
}

static void every_byte_of_every_fact_matters_to_the_hash_however_long(void **state) {
    static char text[4096];
    uint32_t both = SP_BY_SUBJECT | SP_BY_MODEL;
    for (size_t len = 1; len < sizeof text; len += 61) {
        struct sp_limit_facts facts = {.subject = sp_span(text, len), .model = sp_span(text, len / 2)};
        uint64_t before = sp_subject_hash(&hash_key, both, &facts);
        text[len - 1] ^= 1;
        assert_int_not_equal(sp_subject_hash(&hash_key, both, &facts), before);
        text[len - 1] ^= 1;
        assert_int_equal(sp_subject_hash(&hash_key, both, &facts), before);
        facts.subject.len--;
        assert_int_not_equal(sp_subject_hash(&hash_key, both, &facts), before);
    }
}

static void a_prefix_too_long_is_refused(void **state) {
    static char prefix[2000];
    memset(prefix, 'p', sizeof prefix - 1);
    struct sp_limit_config limit = {.name = "l", .by = SP_BY_GLOBAL};
    struct sp_limit_facts facts = {0};
    assert_int_equal(sp_subject_redis_key(prefix, &limit, SP_LIMIT_TOKENS, &facts, key), -ENAMETOOLONG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_as_documented),
        cmocka_unit_test(what_a_limit_says_of_one_subject_lives_together),
        cmocka_unit_test(addresses_of_one_v6_subscriber_count_as_one),
        cmocka_unit_test(nothing_a_client_sends_can_mean_another_key),
        cmocka_unit_test(a_long_subject_becomes_its_digest),
        cmocka_unit_test(every_byte_of_every_fact_matters_to_the_hash_however_long),
        cmocka_unit_test(a_prefix_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
