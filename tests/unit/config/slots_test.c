/* Slots: numbers that stay with names. */
#include <stdio.h>

#include "support.h"

#define HEAD "version: 1\n" LISTENERS ROUTES

static struct sp_document *next(struct sp_document *previous, const char *yaml) {
    struct sp_document *document = load_right(yaml, previous);
    sp_document_free(previous);
    return document;
}

static void every_thing_gets_a_slot_of_its_own(void **state) {
    struct sp_config *config = config_of(HEAD "pools:\n"
                                              "  p: {servers: [{url: \"http://a\"}, {url: \"http://b\"}]}\n"
                                              "  q: {servers: [{url: \"http://a\"}]}\n"
                                              "limits: {x: {by: [address], requests: 1/s}, y: {by: [address], requests: 1/s}}\n");
    assert_int_equal(config->pools[0].slot, 0);
    assert_int_equal(config->pools[1].slot, 1);
    assert_int_equal(config->pools[0].servers[0].slot, 0);
    assert_int_equal(config->pools[0].servers[1].slot, 1);
    assert_int_equal(config->pools[1].servers[0].slot, 2);
    assert_int_equal(config->limits[0].slot, 0);
    assert_int_equal(config->limits[1].slot, 1);
    assert_int_equal(config->routes[0].slot, 0);
    assert_int_equal(config->listeners[0].slot, 0);
    sp_config_unref(config);
}

static void slots_stay_with_names_when_order_changes(void **state) {
    struct sp_document *document =
        load_right(BASE "limits: {x: {by: [address], requests: 1/s}, y: {by: [address], requests: 1/s}}\n", NULL);
    document = next(document, BASE
                    "limits: {z: {by: [address], requests: 1/s}, y: {by: [address], requests: 2/s}, x: {by: [address], requests: 3/s}}\n");
    struct sp_config *config = decode(document, SP_READER_WORKER);
    assert_int_equal(config->limits[0].slot, 2);
    assert_int_equal(config->limits[1].slot, 1);
    assert_int_equal(config->limits[2].slot, 0);
    sp_config_unref(config);
    sp_document_free(document);
}

static void a_freed_slot_is_not_taken_while_others_were_never_used(void **state) {
    struct sp_document *document = load_right(BASE "limits: {x: {by: [address], requests: 1/s}}\n", NULL);
    document = next(document, BASE);
    document = next(document, BASE "limits: {y: {by: [address], requests: 1/s}}\n");
    struct sp_config *config = decode(document, SP_READER_WORKER);
    assert_int_equal(config->limits[0].slot, 1);
    sp_config_unref(config);
    sp_document_free(document);
}

/* One limit with a new name each time, more often than there are slots; one that stays. */
static void freed_slots_are_taken_when_all_have_been_used(void **state) {
    struct sp_document *document = NULL;
    unsigned last = 0;
    for (unsigned i = 0; i < 3 * SP_LIMITS_MAX; i++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml, "%slimits: {stays: {by: [address], requests: 1/s}, l%u: {by: [address], requests: 1/s}}\n", BASE, i);
        document = next(document, yaml);
        struct sp_config *config = decode(document, SP_READER_WORKER);
        assert_int_equal(config->limits[0].slot, 0);
        assert_true(config->limits[1].slot != 0);
        assert_true(config->limits[1].slot < SP_LIMITS_MAX);
        assert_true(i == 0 || config->limits[1].slot != last); /* the generation before may still count under that one */
        last = config->limits[1].slot;
        sp_config_unref(config);
    }
    sp_document_free(document);
}

static void all_slots_of_a_kind_can_be_exchanged_at_once(void **state) {
    struct sp_document *document = NULL;
    for (unsigned round = 0; round < 2; round++) {
        char yaml[16384];
        size_t len = (size_t)snprintf(yaml, sizeof yaml, "%slimits:\n", BASE);
        for (unsigned i = 0; i < SP_LIMITS_MAX; i++)
            len += (size_t)snprintf(yaml + len, sizeof yaml - len, "  l%u-%u: {by: [address], requests: 1/s}\n", round, i);
        document = next(document, yaml);
        struct sp_config *config = decode(document, SP_READER_WORKER);
        uint64_t seen = 0;
        for (unsigned i = 0; i < SP_LIMITS_MAX; i++)
            seen |= UINT64_C(1) << config->limits[i].slot;
        assert_true(seen == UINT64_MAX);
        sp_config_unref(config);
    }
    sp_document_free(document);
}

static void a_server_is_its_pool_and_its_url(void **state) {
    struct sp_document *document =
        load_right(HEAD "pools: {p: {servers: [{url: \"http://a\"}]}, q: {servers: [{url: \"http://a\"}]}}\n", NULL);
    document =
        next(document, HEAD "pools: {q: {servers: [{url: \"http://b\"}, {url: \"http://a\"}]}, p: {servers: [{url: \"http://b\"}]}}\n");
    struct sp_config *config = decode(document, SP_READER_WORKER);
    assert_int_equal(config->pools[0].slot, 1);
    assert_int_equal(config->pools[0].servers[0].slot, 2);
    assert_int_equal(config->pools[0].servers[1].slot, 1);
    assert_int_equal(config->pools[1].slot, 0);
    assert_int_equal(config->pools[1].servers[0].slot, 3);
    sp_config_unref(config);
    sp_document_free(document);
}

static void models_keep_their_slots(void **state) {
#define BY_MODEL "version: 1\n" LISTENERS POOLS "routes: [{name: r, path: /, authenticate: [none], models: body}]\n"
    struct sp_document *document = load_right(BY_MODEL "models: {b: {pool: p}, c: {pool: p}}\n", NULL);
    document = next(document, BY_MODEL "models: {c: {pool: p}, a: {pool: p}, b: {pool: p}}\n");
    struct sp_config *config = decode(document, SP_READER_WORKER);
    assert_int_equal(sp_config_model(config, SP_SPAN("a"))->slot, 2);
    assert_int_equal(sp_config_model(config, SP_SPAN("b"))->slot, 0);
    assert_int_equal(sp_config_model(config, SP_SPAN("c"))->slot, 1);
    sp_config_unref(config);
    sp_document_free(document);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thing_gets_a_slot_of_its_own),
        cmocka_unit_test(slots_stay_with_names_when_order_changes),
        cmocka_unit_test(a_freed_slot_is_not_taken_while_others_were_never_used),
        cmocka_unit_test(freed_slots_are_taken_when_all_have_been_used),
        cmocka_unit_test(all_slots_of_a_kind_can_be_exchanged_at_once),
        cmocka_unit_test(a_server_is_its_pool_and_its_url),
        cmocka_unit_test(models_keep_their_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
