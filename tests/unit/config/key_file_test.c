/* The file of API keys: what is saved is what is loaded, and nothing is ever half written. */
#include <errno.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

#define DIGEST "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

static int set_up(void **state) {
    struct folder *folder = calloc(1, sizeof *folder);
    assert_non_null(folder);
    folder_make(folder);
    *state = folder;
    return 0;
}

static int tear_down(void **state) {
    folder_remove(*state);
    free(*state);
    return 0;
}

static const char *path_in(void **state) { return in_folder(*state, "keys.yaml"); }

static struct sp_key_file *load(const char *path) {
    struct sp_config_errors errors = {0};
    struct sp_key_file *file = NULL;
    int failed = sp_key_file_load(path, &errors, &file);
    for (size_t i = 0; i < errors.count; i++)
        print_error("said: %s\n", errors.line[i]);
    assert_int_equal(failed, 0);
    return file;
}

static void add(struct sp_key_file *file, const char *id, const char *name) {
    const char *roles[] = {"chat", "urn:x:\"quoted\""};
    struct sp_api_key_config key = {.name = name, .tenant = "acme", .expires_at_s = 1801353600, .roles = {.item = roles, .count = 2}};
    snprintf(key.id, sizeof key.id, "%s", id);
    memset(key.digest, 0xa5, sizeof key.digest);
    assert_int_equal(sp_key_file_add(file, &key), 0);
}

static void what_is_saved_is_loaded(void **state) {
    struct sp_key_file *file;
    assert_int_equal(sp_key_file_new(&file), 0);
    add(file, "12345678", "a name: with # signs");
    add(file, "Ab3dE6gH", "J\xc3\xbcrgen");
    sp_key_file_at(file, 1)->revoked_at_s = 1795348800;
    sp_key_file_at(file, 1)->expires_at_s = 0;
    assert_int_equal(sp_key_file_save(path_in(state), file), 0);
    sp_key_file_free(file);
    file = load(path_in(state));
    assert_int_equal(sp_key_file_count(file), 2);
    const struct sp_api_key_config *first = sp_key_file_at(file, 0), *second = sp_key_file_at(file, 1);
    assert_string_equal(first->id, "12345678");
    assert_string_equal(first->name, "a name: with # signs");
    assert_string_equal(first->roles.item[1], "urn:x:\"quoted\"");
    assert_string_equal(first->tenant, "acme");
    assert_int_equal(first->expires_at_s, 1801353600);
    assert_int_equal(first->digest[31], 0xa5);
    assert_false(first->revoked);
    assert_string_equal(second->name, "J\xc3\xbcrgen");
    assert_int_equal(second->revoked_at_s, 1795348800);
    assert_true(second->revoked);
    assert_int_equal(second->expires_at_s, 0);
    sp_key_file_free(file);
}

static void the_file_is_its_owners_alone_and_the_one_before_is_kept(void **state) {
    struct stat status;
    struct sp_key_file *file;
    assert_int_equal(sp_key_file_new(&file), 0);
    assert_int_equal(sp_key_file_save(path_in(state), file), 0);
    add(file, "Ab3dE6gH", "ci");
    assert_int_equal(sp_key_file_save(path_in(state), file), 0);
    add(file, "Cc3dE6gH", "cd");
    assert_int_equal(sp_key_file_save(path_in(state), file), 0);
    sp_key_file_free(file);
    assert_int_equal(stat(path_in(state), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    file = load(in_folder(*state, "keys.yaml.previous"));
    assert_int_equal(sp_key_file_count(file), 1);
    sp_key_file_free(file);
    char *text = file_text(path_in(state));
    assert_ptr_equal(strstr(text, "# made by sallyport key; holds digests only\nkeys:\n  - id: \"Ab3dE6gH\"\n    name: \"ci\"\n"), text);
    free(text);
}

static void assert_mode_after_a_save(void **state, mode_t before, mode_t after) {
    struct stat status;
    struct sp_key_file *file = load(path_in(state));
    assert_int_equal(chmod(path_in(state), before), 0);
    assert_int_equal(sp_key_file_save(path_in(state), file), 0);
    assert_int_equal(stat(path_in(state), &status), 0);
    assert_int_equal(status.st_mode & 07777, after);
    sp_key_file_free(file);
}

static void who_could_read_the_file_still_can_and_nobody_else(void **state) {
    struct sp_key_file *file;
    assert_int_equal(sp_key_file_new(&file), 0);
    assert_int_equal(sp_key_file_save(path_in(state), file), 0);
    sp_key_file_free(file);
    assert_mode_after_a_save(state, 0600, 0600);
    assert_mode_after_a_save(state, 0640, 0640);
    assert_mode_after_a_save(state, 0644, 0640);
    assert_mode_after_a_save(state, 0600, 0600);
}

static void a_save_that_fails_leaves_the_file_as_it_was(void **state) {
    struct sp_key_file *file;
    assert_int_equal(sp_key_file_new(&file), 0);
    assert_int_equal(sp_key_file_save(path_in(state), file), 0);
    add(file, "Ab3dE6gH", "ci");
    sp_key_file_at(file, 0)->name = "two\nlines";
    assert_int_equal(sp_key_file_save(path_in(state), file), -EINVAL);
    sp_key_file_at(file, 0)->name = "ci";
    mkdir(in_folder(*state, "keys.yaml.previous"), 0700); /* cannot be replaced */
    assert_true(sp_key_file_save(path_in(state), file) < 0);
    sp_key_file_free(file);
    file = load(path_in(state));
    assert_int_equal(sp_key_file_count(file), 0);
    sp_key_file_free(file);
    assert_int_equal(sp_key_file_new(&file), 0);
    assert_int_equal(sp_key_file_save(in_folder(*state, "no/such/folder"), file), -ENOENT);
    sp_key_file_free(file);
}

static void keys_are_found_by_id_before_name(void **state) {
    struct sp_key_file *file;
    assert_int_equal(sp_key_file_new(&file), 0);
    add(file, "Ab3dE6gH", "Cc3dE6gH");
    add(file, "Cc3dE6gH", "cd");
    assert_ptr_equal(sp_key_file_find(file, SP_SPAN("Cc3dE6gH")), sp_key_file_at(file, 1));
    assert_ptr_equal(sp_key_file_find(file, SP_SPAN("cd")), sp_key_file_at(file, 1));
    assert_null(sp_key_file_find(file, SP_SPAN("nobody")));
    sp_key_file_free(file);
}

static void what_the_file_could_not_hold_is_not_added(void **state) {
    struct sp_key_file *file;
    assert_int_equal(sp_key_file_new(&file), 0);
    add(file, "Ab3dE6gH", "ci");
    const char *role[] = {"two words"};
    struct sp_api_key_config key = {.id = "Ab3dE6gH", .name = "x"};
    assert_int_equal(sp_key_file_add(file, &key), -EEXIST);
    memcpy(key.id, "Ab3d-6gH", 9);
    assert_int_equal(sp_key_file_add(file, &key), -EINVAL);
    memcpy(key.id, "Ab3d", 5);
    assert_int_equal(sp_key_file_add(file, &key), -EINVAL);
    memcpy(key.id, "Bb3dE6gH", 9);
    key.name = "";
    assert_int_equal(sp_key_file_add(file, &key), -EINVAL);
    key.name = "bad \xff";
    assert_int_equal(sp_key_file_add(file, &key), -EINVAL);
    key.name = "x";
    key.roles = (struct sp_texts){.item = role, .count = 1};
    assert_int_equal(sp_key_file_add(file, &key), -EINVAL);
    assert_int_equal(sp_key_file_count(file), 1);
    sp_key_file_free(file);
}

static void assert_refused(void **state, int code, const char *sentence) {
    struct sp_config_errors errors = {0};
    struct sp_key_file *file = NULL;
    char expected[512];
    snprintf(expected, sizeof expected, "%s:%s", path_in(state), sentence);
    assert_int_equal(sp_key_file_load(path_in(state), &errors, &file), code);
    assert_null(file);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.line[0], expected);
    sp_config_errors_free(&errors);
}

static void a_bad_file_is_refused_with_the_place(void **state) {
    struct folder *folder = *state;
    assert_refused(state, -ENOENT, "1:1: cannot read it: No such file or directory; make it with `sallyport key new`");
    folder_write(folder, "keys.yaml", "keys:\n  - {id: Ab3dE6gH, name: a, digest: abc}\n", 0600);
    assert_refused(state, -EINVAL, "2:37: `digest`: expected hexadecimal digits (64 of them for a digest), not 'abc'");
    folder_write(folder, "keys.yaml", "keys:\n  - {id: Ab3dE6gH, name: a, digest: " DIGEST ", expires: tomorrow}\n", 0600);
    assert_refused(state, -EINVAL, "2:112: `expires`: expected a time such as 2027-01-31T00:00:00Z, not 'tomorrow'");
    folder_write(folder, "keys.yaml", "keys:\n  - {id: Ab3dE6gH, name: a, digest: " DIGEST ", expires: 2027-02-29T00:00:00Z}\n", 0600);
    assert_refused(state, -EINVAL, "2:112: `expires`: expected a time such as 2027-01-31T00:00:00Z, not '2027-02-29T00:00:00Z'");
    folder_write(folder, "keys.yaml",
                 "keys:\n  - {id: Ab3dE6gH, name: a, digest: " DIGEST "}\n  - {id: Ab3dE6gH, name: b, digest: " DIGEST "}\n", 0600);
    assert_refused(state, -EINVAL, "3:10: `id`: Ab3dE6gH is given twice; remove one of the two keys");
    folder_write(folder, "keys.yaml", "keys: []\n", 0622);
    char sentence[256];
    snprintf(sentence, sizeof sentence, "1:1: others may change this file (mode 0622); run `chmod 600 %s`", path_in(state));
    assert_refused(state, -EINVAL, sentence);
}

static void only_one_may_hold_the_lock(void **state) {
    int lock = -1;
    assert_int_equal(sp_key_file_lock(path_in(state), &lock), 0);
    FILE *other = fopen(in_folder(*state, "keys.yaml.lock"), "re");
    assert_non_null(other);
    assert_int_equal(flock(fileno(other), LOCK_EX | LOCK_NB), -1);
    assert_int_equal(errno, EWOULDBLOCK);
    close(lock);
    assert_int_equal(flock(fileno(other), LOCK_EX | LOCK_NB), 0);
    fclose(other);
    assert_int_equal(sp_key_file_lock(in_folder(*state, "no/such/folder"), &lock), -ENOENT);
}

/* As many keys as there may be, saved and loaded again. */
static void ten_thousand_keys_fit(void **state) {
    struct sp_key_file *file;
    assert_int_equal(sp_key_file_new(&file), 0);
    struct sp_api_key_config key = {.name = "a name of a length that names often have"};
    for (unsigned i = 0; i < SP_API_KEYS_MAX; i++) {
        snprintf(key.id, sizeof key.id, "K%07u", i % 10000000u);
        assert_int_equal(sp_key_file_add(file, &key), 0);
    }
    memcpy(key.id, "ZZZZZZZZ", 9);
    assert_int_equal(sp_key_file_add(file, &key), -E2BIG);
    assert_int_equal(sp_key_file_save(path_in(state), file), 0);
    sp_key_file_free(file);
    file = load(path_in(state));
    assert_int_equal(sp_key_file_count(file), SP_API_KEYS_MAX);
    sp_key_file_free(file);
}

int main(void) {
    sp_config_wipe_json();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_saved_is_loaded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_file_is_its_owners_alone_and_the_one_before_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_could_read_the_file_still_can_and_nobody_else, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_save_that_fails_leaves_the_file_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_are_found_by_id_before_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_file_could_not_hold_is_not_added, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bad_file_is_refused_with_the_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_one_may_hold_the_lock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ten_thousand_keys_fit, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
