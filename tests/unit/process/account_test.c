/* The name that an operator types → the account that limits count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "levels.h"

static struct sp_api_key_config keys[] = {
    {.id = "AAAAAAAA", .name = "alice", .tenant = "acme"},   {.id = "BBBBBBBB", .name = "rotated", .tenant = "acme", .revoked = true},
    {.id = "CCCCCCCC", .name = "rotated", .tenant = "acme"}, {.id = "DDDDDDDD", .name = "twice", .tenant = "acme"},
    {.id = "EEEEEEEE", .name = "twice", .tenant = "other"},  {.id = "FFFFFFFF", .name = "alone"},
};
static struct sp_issuer_config issuers[] = {{.issuer.text = "https://one.example"}, {.issuer.text = "https://two.example"}};
static struct sp_listener_config listeners[] = {{.client_certificate = SP_CLIENT_CERT_OPTIONAL}};

static const struct sp_config one_issuer = {.api_keys = keys, .n_api_keys = SP_COUNT(keys), .issuers = issuers, .n_issuers = 1};
static const struct sp_config two_issuers = {.api_keys = keys, .n_api_keys = SP_COUNT(keys), .issuers = issuers, .n_issuers = 2};
static const struct sp_config certificates = {.listeners = listeners, .n_listeners = 1};

static char account[SP_ACCOUNT_MAX + 1];

static struct sp_facts about(const char *subject, const char *key) {
    struct sp_facts facts = {.given = (subject ? SP_BY_SUBJECT : 0) | (key ? SP_BY_KEY : 0)};
    facts.text[SP_FACT_SUBJECT] = sp_span_text(subject);
    facts.text[SP_FACT_KEY] = sp_span_text(key);
    return facts;
}

static void assert_text(const struct sp_facts *facts, unsigned text, const char *expected) {
    assert_int_equal(facts->text[text].len, strlen(expected));
    if (*expected)
        assert_memory_equal(facts->text[text].at, expected, strlen(expected));
}

static void an_api_keys_name_brings_its_id_and_tenant(void **state) {
    struct sp_facts facts = about("alice", NULL);
    assert_true(sp_levels_complete(&one_issuer, &facts, account));
    assert_int_equal(facts.given, SP_BY_SUBJECT | SP_BY_KEY | SP_BY_TENANT);
    assert_text(&facts, SP_FACT_SUBJECT, "key:alice");
    assert_text(&facts, SP_FACT_KEY, "AAAAAAAA");
    assert_text(&facts, SP_FACT_TENANT, "acme");
    facts = about("alone", NULL);
    assert_true(sp_levels_complete(&one_issuer, &facts, account));
    assert_true(facts.given & SP_BY_TENANT);
    assert_text(&facts, SP_FACT_TENANT, "");
}

static void an_id_alone_is_enough(void **state) {
    struct sp_facts facts = about(NULL, "CCCCCCCC");
    assert_true(sp_levels_complete(&one_issuer, &facts, account));
    assert_text(&facts, SP_FACT_SUBJECT, "key:rotated");
    assert_text(&facts, SP_FACT_TENANT, "acme");
    facts = about(NULL, "unknown");
    assert_true(sp_levels_complete(&one_issuer, &facts, account));
    assert_int_equal(facts.given, SP_BY_KEY);
}

static void of_keys_with_one_name_only_what_they_agree_on_is_known(void **state) {
    struct sp_facts facts = about("rotated", NULL);
    assert_true(sp_levels_complete(&one_issuer, &facts, account));
    assert_text(&facts, SP_FACT_KEY, "CCCCCCCC"); /* the one in use */
    facts = about("twice", NULL);
    assert_true(sp_levels_complete(&one_issuer, &facts, account));
    assert_int_equal(facts.given, SP_BY_SUBJECT);
    facts = about("twice", "EEEEEEEE");
    assert_true(sp_levels_complete(&one_issuer, &facts, account));
    assert_text(&facts, SP_FACT_TENANT, "other");
}

static void what_was_said_is_not_overruled(void **state) {
    struct sp_facts facts = about("alice", NULL);
    facts.given |= SP_BY_TENANT;
    facts.text[SP_FACT_TENANT] = SP_SPAN("said");
    assert_true(sp_levels_complete(&one_issuer, &facts, account));
    assert_text(&facts, SP_FACT_TENANT, "said");
}

static void another_name_is_a_tokens_where_only_one_issuer_could_have_given_it(void **state) {
    struct sp_facts facts = about("bob smith", NULL);
    assert_true(sp_levels_complete(&one_issuer, &facts, account));
    assert_text(&facts, SP_FACT_SUBJECT, "jwt:https://one.example bob smith");
    facts = about("bob smith", NULL);
    assert_false(sp_levels_complete(&two_issuers, &facts, account));
    facts = about("CN=bob", NULL);
    assert_true(sp_levels_complete(&certificates, &facts, account));
    assert_text(&facts, SP_FACT_SUBJECT, "cert:CN=bob");
    facts = about("bob", NULL);
    assert_false(sp_levels_complete(&(struct sp_config){0}, &facts, account));
}

static void an_account_is_taken_as_it_is(void **state) {
    static const char *const accounts[] = {"jwt:https://two.example bob", "cert:CN=bob", "key:alice", "key:nobody"};
    for (size_t i = 0; i < SP_COUNT(accounts); i++) {
        struct sp_facts facts = about(accounts[i], NULL);
        assert_true(sp_levels_complete(&two_issuers, &facts, account));
        assert_text(&facts, SP_FACT_SUBJECT, accounts[i]);
    }
}

static void a_name_that_makes_no_account_is_refused(void **state) {
    char name[SP_FACT_MAX + 1];
    memset(name, 'x', SP_FACT_MAX);
    name[SP_FACT_MAX] = '\0';
    struct sp_facts facts = about(name, NULL);
    assert_false(sp_levels_complete(&one_issuer, &facts, account));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_api_keys_name_brings_its_id_and_tenant),
        cmocka_unit_test(an_id_alone_is_enough),
        cmocka_unit_test(of_keys_with_one_name_only_what_they_agree_on_is_known),
        cmocka_unit_test(what_was_said_is_not_overruled),
        cmocka_unit_test(another_name_is_a_tokens_where_only_one_issuer_could_have_given_it),
        cmocka_unit_test(an_account_is_taken_as_it_is),
        cmocka_unit_test(a_name_that_makes_no_account_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
