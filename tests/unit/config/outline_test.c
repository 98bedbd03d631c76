/* The outline: what two configurations are compared by. */
#include "support.h"

#include <jansson.h>

static json_t *outline_of(const char *yaml) {
    struct sp_config *config = config_of(yaml);
    json_t *outline = json_loads(config->outline, 0, NULL);
    assert_non_null(outline);
    sp_config_unref(config);
    return outline;
}

static json_t *at(json_t *outline, const char *section, size_t i, const char *member) {
    return json_object_get(json_array_get(json_object_get(outline, section), i), member);
}

static void defaults_stand_in_it_and_what_the_supervisor_adds_does_not(void **state) {
    json_t *outline = outline_of(BASE);
    assert_int_equal(json_integer_value(at(outline, "listeners", 0, "max_connections")), 20000);
    assert_string_equal(json_string_value(at(outline, "routes", 0, "max_body")), "8MiB");
    static const char *const hidden[] = {"generation", "loaded", "path", "api_key_list", "slot", "address@"};
    for (size_t i = 0; i < SP_COUNT(hidden); i++) {
        assert_null(json_object_get(outline, hidden[i]));
        assert_null(at(outline, "listeners", 0, hidden[i]));
    }
    json_decref(outline);
}

static void saying_a_default_changes_nothing(void **state) {
    json_t *outline = outline_of(BASE), *said = outline_of(BASE "drain_timeout: 30s\nlimits: {}\n");
    assert_true(json_equal(outline, said));
    json_decref(outline);
    json_decref(said);
}

static void a_headers_value_is_a_digest(void **state) {
    static const char head[] =
        "version: 1\n" LISTENERS POOLS "routes:\n  - {name: r, path: /, authenticate: [none], pool: p, request_headers: {set: {x-a: ";
    char first[512], second[512];
    snprintf(first, sizeof first, "%shush-hush}}}\n", head);
    snprintf(second, sizeof second, "%sanother}}}\n", head);
    json_t *one = outline_of(first), *other = outline_of(second);
    char *text = json_dumps(one, 0);
    assert_null(strstr(text, "hush-hush"));
    assert_non_null(strstr(text, "x-a"));
    assert_false(json_equal(one, other));
    free(text);
    json_decref(one);
    json_decref(other);
}

static void of_files_paths_as_written_digests_of_what_is_public_and_nothing_of_secrets(void **state) {
    char *texts[2];
    struct folder folder;
    folder_make(&folder);
    for (size_t i = 0; i < SP_COUNT(texts); i++) {
        folder_write(&folder, "c.pem", i == 0 ? "first certificate\n" : "second certificate\n", 0600);
        folder_write(&folder, "k.pem", "PRIVATE-BYTES\n", 0600);
        folder_write(&folder, "f.yaml", BASE, 0600);
        struct sp_document *document = NULL;
        struct sp_config *config = NULL;
        struct sp_config_errors errors = {0};
        assert_int_equal(sp_config_load(in_folder(&folder, "f.yaml"), NULL, 1, &errors, &document), 0);
        assert_int_equal(sp_document_snapshot(document, SP_READER_WORKER, &config), 0);
        assert_null(strstr(config->outline, "PRIVATE-BYTES"));
        assert_null(strstr(config->outline, "certificate\\n"));
        assert_non_null(strstr(config->outline, "\"chain\":\"c.pem\""));
        assert_non_null(strstr(config->outline, "chain (contents)"));
        assert_null(strstr(config->outline, "key (contents)"));
        texts[i] = strdup(config->outline);
        struct sp_config *control = NULL;
        assert_int_equal(sp_document_snapshot(document, SP_READER_CONTROL, &control), 0);
        assert_string_equal(control->outline, config->outline); /* whoever reads it, it is the same */
        sp_config_unref(control);
        sp_config_unref(config);
        sp_document_free(document);
    }
    assert_string_not_equal(texts[0], texts[1]);
    free(texts[0]);
    free(texts[1]);
    folder_remove(&folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_stand_in_it_and_what_the_supervisor_adds_does_not),
        cmocka_unit_test(saying_a_default_changes_nothing),
        cmocka_unit_test(a_headers_value_is_a_digest),
        cmocka_unit_test(of_files_paths_as_written_digests_of_what_is_public_and_nothing_of_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
