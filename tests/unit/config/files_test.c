/* What a configuration names on disk: read, refused with one clear sentence, and handed only to who needs it. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

#define SECRET_KEY    "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
#define SHARED_SECRET "0123456789abcdef0123456789abcdef"
#define DIGEST        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

static const char everything[] =
    "version: 1\n"
    "listeners:\n"
    "  - {address: \"127.0.0.1:8443\", certificates: [{chain: c.pem, key: k.pem}]}\n"
    "redis: {url: \"redis://127.0.0.1:6379\", username: u, password_file: redis.password}\n"
    "issuers:\n"
    "  - {issuer: a, audience: [b], jwks: keys.json}\n"
    "  - {issuer: h, audience: [b], algorithms: [HS256], secret_file: hs.secret}\n"
    "api_keys: keys.yaml\n"
    "roles: {chat: {}}\n"
    "pools:\n"
    "  p: {servers: [{url: \"http://h\"}], credential: {header: Authorization, prefix: \"Bearer \", value_file: value}}\n"
    "routes:\n"
    "  - {name: r, path: /, authenticate: [jwt, api_key], pool: p}\n";

static const char keys[] = "keys:\n"
                           "  - {id: Ab3dE6gH, name: ci, digest: " DIGEST ", roles: [chat], tenant: acme, expires: 2027-01-31T00:00:00Z}\n"
                           "  - {id: Zz3dE6gH, name: old, digest: \"" DIGEST "\", roles: [gone], revoked: 2026-11-22T12:00:00Z}\n";

static int set_up(void **state) {
    struct folder *folder = calloc(1, sizeof *folder);
    assert_non_null(folder);
    folder_make(folder);
    folder_write(folder, "sallyport.yaml", everything, 0644);
    folder_write(folder, "c.pem", "-----BEGIN CERTIFICATE-----\n", 0644);
    folder_write(folder, "k.pem", SECRET_KEY, 0600);
    folder_write(folder, "redis.password", "hunter2\n", 0600);
    folder_write(folder, "keys.json", "{\"keys\": []}", 0644);
    folder_write(folder, "hs.secret", SHARED_SECRET "\n", 0400);
    folder_write(folder, "keys.yaml", keys, 0600);
    folder_write(folder, "value", "sk-backend\r\n", 0640);
    *state = folder;
    return 0;
}

static int tear_down(void **state) {
    folder_remove(*state);
    free(*state);
    return 0;
}

static struct sp_document *load(const struct folder *folder) {
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    int failed = sp_config_load(in_folder(folder, "sallyport.yaml"), NULL, 1, &errors, &document);
    for (size_t i = 0; i < errors.count; i++)
        print_error("said: %s\n", errors.line[i]);
    assert_int_equal(failed, 0);
    return document;
}

/* Exactly one error, at `sentence` of `file`; "@" in it stands for the folder. */
static void assert_one_error(const struct folder *folder, const char *file, const char *sentence) {
    char line[512], expected[512] = "";
    snprintf(line, sizeof line, "%s/%s:%s", folder->path, file, sentence);
    for (const char *c = line; *c; c++) {
        size_t len = strlen(expected);
        snprintf(expected + len, sizeof expected - len, *c == '@' ? "%s" : "%.1s", *c == '@' ? folder->path : c);
    }
    assert_load_errors(in_folder(folder, "sallyport.yaml"), (const char *const[]){expected, NULL});
}

static void a_worker_gets_all_it_needs(void **state) {
    struct sp_document *document = load(*state);
    struct sp_config *config = decode(document, SP_READER_WORKER);
    assert_string_equal(config->listeners[0].certificates[0].key_pem, SECRET_KEY);
    assert_string_equal(config->redis->password, "hunter2");
    assert_string_equal(config->issuers[0].jwks_json, "{\"keys\": []}");
    assert_string_equal(config->issuers[1].secret, SHARED_SECRET);
    assert_null(config->issuers[1].jwks.text);
    assert_string_equal(config->pools[0].credential.value, "sk-backend");
    assert_int_equal(config->n_api_keys, 2);
    assert_string_equal(config->api_keys[0].id, "Ab3dE6gH");
    assert_string_equal(config->api_keys[0].name, "ci");
    assert_string_equal(config->api_keys[0].tenant, "acme");
    assert_string_equal(config->api_keys[0].roles.item[0], "chat");
    assert_int_equal(config->api_keys[0].expires_at_s, 1801353600);
    assert_int_equal(config->api_keys[0].digest[0], 0x9f);
    assert_int_equal(config->api_keys[0].digest[31], 0x08);
    assert_false(config->api_keys[0].revoked);
    assert_true(config->api_keys[1].revoked);
    assert_null(config->api_keys[1].tenant);
    sp_config_unref(config);
    sp_document_free(document);
}

static void no_secret_reaches_control(void **state) {
    static const char *const secrets[] = {"PRIVATE KEY", "hunter2", SHARED_SECRET, "sk-backend", "9f86d081", "Ab3dE6gH"};
    struct sp_document *document = load(*state);
    char *text;
    size_t len;
    assert_int_equal(sp_document_encode(document, SP_READER_CONTROL, &text, &len), 0);
    assert_int_equal(strlen(text), len);
    for (size_t i = 0; i < SP_COUNT(secrets); i++)
        assert_null(strstr(text, secrets[i]));
    sp_free_secret(text);
    assert_int_equal(sp_document_encode(document, SP_READER_WORKER, &text, &len), 0);
    for (size_t i = 0; i < SP_COUNT(secrets); i++)
        assert_non_null(strstr(text, secrets[i])); /* the test would see them */
    sp_free_secret(text);
    struct sp_config *config = decode(document, SP_READER_CONTROL);
    assert_null(config->listeners[0].certificates[0].key_pem);
    assert_non_null(config->listeners[0].certificates[0].chain_pem);
    assert_null(config->redis->password);
    assert_null(config->issuers[1].secret);
    assert_null(config->pools[0].credential.value);
    assert_int_equal(config->n_api_keys, 0);
    sp_config_unref(config);
    sp_document_free(document);
}

static void a_client_secret_reaches_control_and_no_worker(void **state) {
    const char *text = "version: 1\n" LISTENERS POOLS ROUTES "issuers:\n"
                       "  - issuer: https://a\n"
                       "    audience: [b]\n"
                       "    introspection: {url: \"https://a/i\", client_id: gateway, client_secret_file: idp.secret}\n";
    folder_write(*state, "sallyport.yaml", text, 0644);
    folder_write(*state, "idp.secret", "open sesame\n", 0600);
    struct sp_document *document = load(*state);
    struct sp_config *control = decode(document, SP_READER_CONTROL), *worker = decode(document, SP_READER_WORKER);
    assert_string_equal(control->issuers[0].introspection.client_secret, "open sesame");
    assert_string_equal(control->issuers[0].introspection.client_id, "gateway");
    assert_int_equal(control->issuers[0].introspection.cache_s, 30);
    assert_null(worker->issuers[0].introspection.client_secret);
    assert_string_equal(worker->issuers[0].introspection.url, "https://a/i");
    assert_true(worker->issuers[0].fetches_keys);
    assert_int_equal(control->issuers[0].fingerprint, worker->issuers[0].fingerprint);
    sp_config_unref(control);
    sp_config_unref(worker);
    sp_document_free(document);
}

static void keys_are_fetched_unless_a_file_or_a_secret_is_all_there_is(void **state) {
    static const struct {
        const char *issuer;
        bool fetched;
    } cases[] = {{"jwks: keys.json", false},
                 {"jwks: \"https://a/keys?tenant=1\"", true},
                 {"jwks: \"http://[::1]:8080/keys\"", true},
                 {"leeway: 1s", true},
                 {"algorithms: [HS256], secret_file: hs.secret", false},
                 {"algorithms: [HS256, RS256], secret_file: hs.secret", true}};
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        char text[1024];
        snprintf(text, sizeof text, "version: 1\n" LISTENERS POOLS ROUTES "issuers:\n  - {issuer: \"https://a\", audience: [b], %s}\n",
                 cases[i].issuer);
        folder_write(*state, "sallyport.yaml", text, 0644);
        struct sp_document *document = load(*state);
        struct sp_config *config = decode(document, SP_READER_WORKER);
        assert_int_equal(config->issuers[0].fetches_keys, cases[i].fetched);
        sp_config_unref(config);
        sp_document_free(document);
    }
}

static void the_fingerprint_follows_the_key_set(void **state) {
    struct sp_document *before = load(*state);
    folder_write(*state, "keys.json", "{\"keys\": [{}]}", 0644);
    struct sp_document *after = load(*state);
    struct sp_config *old = decode(before, SP_READER_WORKER), *new = decode(after, SP_READER_WORKER);
    assert_true(old->issuers[0].fingerprint != new->issuers[0].fingerprint);
    assert_true(old->issuers[1].fingerprint == new->issuers[1].fingerprint);
    sp_config_unref(old);
    sp_config_unref(new);
    sp_document_free(before);
    sp_document_free(after);
}

static void a_missing_configuration_is_one_sentence(void **state) {
    unlink(in_folder(*state, "sallyport.yaml"));
    assert_one_error(*state, "sallyport.yaml", "1:1: cannot read it: No such file or directory");
    mkdir(in_folder(*state, "sallyport.yaml"), 0700);
    assert_one_error(*state, "sallyport.yaml", "1:1: cannot read it: Is a directory");
}

static void a_missing_file_is_named_where_it_is_named(void **state) {
    unlink(in_folder(*state, "c.pem"));
    assert_one_error(*state, "sallyport.yaml", "3:56: `chain`: cannot read @/c.pem: No such file or directory");
}

static void what_is_not_a_file_is_refused(void **state) {
    unlink(in_folder(*state, "c.pem"));
    assert_int_equal(mkfifo(in_folder(*state, "c.pem"), 0600), 0);
    assert_one_error(*state, "sallyport.yaml", "3:56: `chain`: cannot read @/c.pem: it is not a regular file");
}

static void a_private_key_open_to_others_is_refused(void **state) {
    folder_write(*state, "k.pem", SECRET_KEY, 0644);
    assert_one_error(*state, "sallyport.yaml", "3:68: `key`: @/k.pem is open to others (mode 0644); run `chmod 600 @/k.pem`");
    folder_write(*state, "k.pem", SECRET_KEY, 0620);
    assert_one_error(*state, "sallyport.yaml", "3:68: `key`: @/k.pem is open to others (mode 0620); run `chmod 600 @/k.pem`");
}

static void a_secret_open_to_others_is_refused(void **state) {
    folder_write(*state, "redis.password", "hunter2\n", 0604);
    assert_one_error(*state, "sallyport.yaml",
                     "4:68: `password_file`: @/redis.password is open to others (mode 0604); run `chmod 600 @/redis.password`");
}

static void a_secret_is_one_line(void **state) {
    folder_write(*state, "redis.password", "a\nb\n", 0600);
    assert_one_error(*state, "sallyport.yaml",
                     "4:68: `password_file`: @/redis.password: it holds more than one line, or control characters; write the secret alone "
                     "on one line");
    folder_write(*state, "redis.password", "\n", 0600);
    assert_one_error(*state, "sallyport.yaml", "4:68: `password_file`: @/redis.password: it is empty; write the secret into it");
}

static void a_short_shared_secret_is_refused(void **state) {
    folder_write(*state, "hs.secret", "0123456789abcdef0123456789abcde\n", 0600);
    assert_one_error(*state, "sallyport.yaml",
                     "7:66: `secret_file`: @/hs.secret: the secret is shorter than the 32 bytes HS256 needs; make a new one with "
                     "`openssl rand -hex 32`");
}

static void a_key_set_that_is_none_is_refused(void **state) {
    folder_write(*state, "keys.json", "{\"kty\": \"RSA\"}", 0644);
    assert_one_error(*state, "sallyport.yaml",
                     "6:38: `jwks`: @/keys.json: it is not a JSON Web Key Set: expected a JSON object with `keys`, a list");
}

static void a_missing_file_of_api_keys_is_named(void **state) {
    unlink(in_folder(*state, "keys.yaml"));
    assert_one_error(*state, "keys.yaml", "1:1: cannot read it: No such file or directory; make it with `sallyport key new`");
}

static void an_empty_file_of_api_keys_is_fine(void **state) {
    static const char *const texts[] = {"", "# nothing yet\n", "keys: []\n"};
    for (size_t i = 0; i < SP_COUNT(texts); i++) {
        folder_write(*state, "keys.yaml", texts[i], 0600);
        struct sp_document *document = load(*state);
        struct sp_config *config = decode(document, SP_READER_WORKER);
        assert_int_equal(config->n_api_keys, 0);
        sp_config_unref(config);
        sp_document_free(document);
    }
}

static void a_key_with_a_role_that_does_not_exist_is_refused(void **state) {
    folder_write(*state, "keys.yaml", "keys:\n  - {id: Ab3dE6gH, name: ci, digest: " DIGEST ", roles: [chta]}\n", 0600);
    assert_one_error(*state, "keys.yaml",
                     "2:112: `roles`: there is no 'chta' in `roles` of the configuration; add it there, or revoke this key");
}

static void errors_of_both_files_come_together(void **state) {
    struct folder *folder = *state;
    char first[256], second[256];
    folder_write(folder, "keys.yaml", "keys:\n  - {id: short, name: ci, digest: " DIGEST "}\n", 0600);
    folder_write(folder, "redis.password", "", 0600);
    snprintf(first, sizeof first, "%s/sallyport.yaml:4:68: `password_file`: %s/redis.password: it is empty; write the secret into it",
             folder->path, folder->path);
    snprintf(second, sizeof second, "%s/keys.yaml:2:10: `id`: expected 8 letters and digits, not 'short'", folder->path);
    assert_load_errors(in_folder(folder, "sallyport.yaml"), (const char *const[]){first, second, NULL});
}

static const char with_credentials[] = "version: 1\n"
                                       "listeners:\n"
                                       "  - {address: \"127.0.0.1:8443\", certificates: [{chain: c.pem, credential: tls-key}]}\n"
                                       "redis: {url: \"redis://127.0.0.1:6379\", username: u, credential: redis}\n"
                                       "pools:\n"
                                       "  p: {servers: [{url: \"http://h\"}]}\n"
                                       "routes:\n"
                                       "  - {name: r, path: /, authenticate: [none], pool: p}\n";

static int set_up_credentials(void **state) {
    int failed = set_up(state);
    folder_write(*state, "sallyport.yaml", with_credentials, 0644);
    mkdir(in_folder(*state, "credentials"), 0700);
    folder_write(*state, "credentials/tls-key", SECRET_KEY, 0400);
    folder_write(*state, "credentials/redis", "hunter2\n", 0400);
    setenv("CREDENTIALS_DIRECTORY", in_folder(*state, "credentials"), 1);
    return failed;
}

static int tear_down_credentials(void **state) {
    unsetenv("CREDENTIALS_DIRECTORY");
    return tear_down(state);
}

static void a_credential_is_read_where_systemd_put_it(void **state) {
    struct sp_document *document = load(*state);
    struct sp_config *config = decode(document, SP_READER_WORKER);
    const struct sp_certificate_config *certificate = &config->listeners[0].certificates[0];
    assert_string_equal(certificate->key_pem, SECRET_KEY);
    assert_string_equal(certificate->key.text, in_folder(*state, "credentials/tls-key"));
    assert_non_null(strstr(certificate->key.where, "sallyport.yaml:3:"));
    assert_string_equal(config->redis->password, "hunter2");
    sp_config_unref(config);
    config = decode(document, SP_READER_CONTROL);
    assert_null(config->listeners[0].certificates[0].key_pem);
    assert_null(config->redis->password);
    sp_config_unref(config);
    sp_document_free(document);
}

static void a_credential_without_systemd_is_told_so(void **state) {
    unsetenv("CREDENTIALS_DIRECTORY");
    folder_write(*state, "credentials/redis", "", 0400);
    char key[256], password[256];
    snprintf(key, sizeof key,
             "%s:3:75: `credential`: tls-key is only there in a unit with LoadCredential=tls-key:PATH ($CREDENTIALS_DIRECTORY is not set)",
             in_folder(*state, "sallyport.yaml"));
    snprintf(password, sizeof password,
             "%s:4:65: `credential`: redis is only there in a unit with LoadCredential=redis:PATH ($CREDENTIALS_DIRECTORY is not set)",
             in_folder(*state, "sallyport.yaml"));
    assert_load_errors(in_folder(*state, "sallyport.yaml"), (const char *const[]){key, password, NULL});
}

static void a_credential_that_was_not_handed_over_is_named(void **state) {
    unlink(in_folder(*state, "credentials/tls-key"));
    assert_one_error(*state, "sallyport.yaml", "3:75: `credential`: cannot read @/credentials/tls-key: No such file or directory");
}

static void no_name_of_a_credential_leads_out_of_its_folder(void **state) {
    static const char *const names[] = {"../k.pem", "a/b", "..", ".hidden", "two words", "", "a:b"};
    for (size_t i = 0; i < SP_COUNT(names); i++) {
        char text[1024];
        snprintf(text, sizeof text, "%.*s\"%s\"}]}\n%s", (int)(strstr(with_credentials, "tls-key") - with_credentials), with_credentials,
                 names[i], strstr(with_credentials, "redis:"));
        folder_write(*state, "sallyport.yaml", text, 0644);
        struct sp_config_errors errors = {0};
        struct sp_document *document = NULL;
        assert_int_equal(sp_config_load(in_folder(*state, "sallyport.yaml"), NULL, 1, &errors, &document), -EINVAL);
        assert_int_equal(errors.count, 1);
        assert_non_null(strstr(errors.line[0], ":3:75: `credential`: expected the name "));
        sp_config_errors_free(&errors);
    }
}

int main(void) {
    sp_config_wipe_json();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_worker_gets_all_it_needs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_secret_reaches_control, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_secret_reaches_control_and_no_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_are_fetched_unless_a_file_or_a_secret_is_all_there_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_fingerprint_follows_the_key_set, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_missing_configuration_is_one_sentence, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_missing_file_is_named_where_it_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_a_file_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_private_key_open_to_others_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_secret_open_to_others_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_secret_is_one_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_short_shared_secret_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_set_that_is_none_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_missing_file_of_api_keys_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_file_of_api_keys_is_fine, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_with_a_role_that_does_not_exist_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(errors_of_both_files_come_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_credential_is_read_where_systemd_put_it, set_up_credentials, tear_down_credentials),
        cmocka_unit_test_setup_teardown(a_credential_without_systemd_is_told_so, set_up_credentials, tear_down_credentials),
        cmocka_unit_test_setup_teardown(a_credential_that_was_not_handed_over_is_named, set_up_credentials, tear_down_credentials),
        cmocka_unit_test_setup_teardown(no_name_of_a_credential_leads_out_of_its_folder, set_up_credentials, tear_down_credentials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
