/* The files an administrator copies, and the pages made from the table. The only argument is the folder of the sources. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>

#include "support.h"

static const char *sources;

static char *source_text(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", sources, name);
    return file_text(path);
}

/* Beside a copy of the example, everything that any of them names. */
static void check_example(const char *name) {
    struct folder folder;
    char path[64];
    folder_make(&folder);
    assert_int_equal(mkdir(in_folder(&folder, "tls"), 0700), 0);
    folder_write(&folder, "tls/fullchain.pem", "-----BEGIN CERTIFICATE-----\n", 0644);
    folder_write(&folder, "tls/clients-ca.pem", "-----BEGIN CERTIFICATE-----\n", 0644);
    folder_write(&folder, "tls/idp-ca.pem", "-----BEGIN CERTIFICATE-----\n", 0644);
    folder_write(&folder, "tls/redis-ca.pem", "-----BEGIN CERTIFICATE-----\n", 0644);
    folder_write(&folder, "tls/backends-ca.pem", "-----BEGIN CERTIFICATE-----\n", 0644);
    folder_write(&folder, "tls/gw.pem", "-----BEGIN CERTIFICATE-----\n", 0644);
    folder_write(&folder, "tls/gw.key", "-----BEGIN PRIVATE KEY-----\n", 0600);
    folder_write(&folder, "tls/clients-crl.pem", "-----BEGIN X509 CRL-----\n", 0644);
    folder_write(&folder, "tls/privkey.pem", "-----BEGIN PRIVATE KEY-----\n", 0600);
    folder_write(&folder, "keys.yaml", "keys: []\n", 0600);
    folder_write(&folder, "redis.password", "x\n", 0600);
    folder_write(&folder, "backend.key", "x\n", 0600);
    folder_write(&folder, "batch.secret", "0123456789abcdef0123456789abcdef\n", 0600);
    folder_write(&folder, "idp.secret", "x\n", 0600);
    folder_write(&folder, "secret_privkey.pem", "-----BEGIN PRIVATE KEY-----\n", 0400);
    setenv("CREDENTIALS_DIRECTORY", folder.path, 1);
    folder_write(&folder, "login.example.com.jwks.json", "{\"keys\": []}", 0644);
    snprintf(path, sizeof path, "conf/%s", name);
    char *text = source_text(path);
    folder_write(&folder, "sallyport.yaml", text, 0644);
    free(text);
    assert_load_errors(in_folder(&folder, "sallyport.yaml"), (const char *const[]){NULL});
    folder_remove(&folder);
}

static void the_smallest_example_is_right(void **state) { check_example("minimal.yaml"); }

static void the_example_with_redis_is_right(void **state) { check_example("redis.yaml"); }

static void the_example_with_oauth2_is_right(void **state) { check_example("oauth2.yaml"); }

static void the_example_for_systemd_is_right(void **state) { check_example("systemd.yaml"); }

static void the_full_example_is_right(void **state) { check_example("full.yaml"); }

/* Every property that the schema allows is a key of the full example, but those that exclude others there. */
static void the_full_example_has_every_key(void **state) {
    char *text = source_text("conf/full.yaml");
    struct sp_buffer schema;
    sp_buffer_init(&schema, 1 << 20);
    assert_int_equal(sp_config_schema(&schema), 0);
    json_t *root = json_loadb(sp_buffer_span(&schema).at, sp_buffer_len(&schema), 0, NULL);
    const char *section, *key;
    json_t *section_schema, *property;
    json_object_foreach(json_object_get(root, "properties"), section, section_schema) {
        json_t *shape = section_schema;
        if (json_object_get(shape, "items"))
            shape = json_object_get(shape, "items");
        else if (json_is_object(json_object_get(shape, "additionalProperties")))
            shape = json_object_get(shape, "additionalProperties");
        json_object_foreach(json_object_get(shape, "properties"), key, property) {
            char mention[128];
            snprintf(mention, sizeof mention, "%s:", key);
            if (!json_object_get(property, "not") && !strstr(text, mention))
                fail_msg("`%s` of `%s` is not in conf/full.yaml", key, section);
        }
    }
    json_decref(root);
    sp_buffer_free(&schema);
    free(text);
}

static void the_schema_is_json_and_closed(void **state) {
    struct sp_buffer schema;
    sp_buffer_init(&schema, 1 << 20);
    assert_int_equal(sp_config_schema(&schema), 0);
    json_t *root = json_loadb(sp_buffer_span(&schema).at, sp_buffer_len(&schema), JSON_REJECT_DUPLICATES, NULL);
    assert_string_equal(json_string_value(json_object_get(root, "$schema")), "https://json-schema.org/draft/2020-12/schema");
    assert_true(json_is_false(json_object_get(root, "additionalProperties")));
    json_t *properties = json_object_get(root, "properties");
    assert_non_null(json_object_get(json_object_get(properties, "tracing"), "not")); /* not yet supported: nothing fits */
    assert_null(json_object_get(properties, "generation"));                          /* the document's, not the administrator's */
    assert_int_equal(json_array_size(json_object_get(root, "required")), 4);
    json_decref(root);
    sp_buffer_free(&schema);
}

static void the_manual_page_is_the_tables(void **state) {
    struct sp_buffer manual;
    sp_buffer_init(&manual, 1 << 20);
    assert_int_equal(sp_config_manual(&manual), 0);
    assert_int_equal(sp_buffer_append(&manual, "", 1), 0);
    char *page = source_text("doc/sallyport.yaml.5");
    assert_string_equal(page, sp_buffer_span(&manual).at); /* else: describe-config manual > doc/sallyport.yaml.5 */
    free(page);
    sp_buffer_free(&manual);
}

static void a_bounded_buffer_is_enough_or_said_not_to_be(void **state) {
    struct sp_buffer small;
    sp_buffer_init(&small, 100);
    assert_int_equal(sp_config_manual(&small), -ENOSPC);
    sp_buffer_free(&small);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    sources = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_smallest_example_is_right),
        cmocka_unit_test(the_example_with_redis_is_right),
        cmocka_unit_test(the_example_with_oauth2_is_right),
        cmocka_unit_test(the_example_for_systemd_is_right),
        cmocka_unit_test(the_full_example_is_right),
        cmocka_unit_test(the_full_example_has_every_key),
        cmocka_unit_test(the_schema_is_json_and_closed),
        cmocka_unit_test(the_manual_page_is_the_tables),
        cmocka_unit_test(a_bounded_buffer_is_enough_or_said_not_to_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
