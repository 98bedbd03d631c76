/* The form of the file, before any key means anything. */
#include <stdio.h>

#include "support.h"

static void a_right_file_has_no_errors(void **state) { assert_errors(BASE, (const char *const[]){NULL}); }

static void json_is_accepted(void **state) {
    const char *json = "{\"version\": 1,\n"
                       "\t\"listeners\": [{\"address\": \"127.0.0.1:8443\", \"certificates\": [{\"chain\": \"c\", \"key\": \"k\"}]}],\n"
                       " \"pools\": {\"p\": {\"servers\": [{\"url\": \"http://127.0.0.1:8000\"}]}},\n"
                       " \"routes\": [{\"name\": \"r\", \"path\": \"/\", \"authenticate\": [\"none\"], \"pool\": \"p\"}]}\n";
    assert_errors(json, (const char *const[]){NULL});
}

static void a_syntax_error_names_its_line_and_column(void **state) {
    ASSERT_ERRORS("version: 1\nlisteners: [\n", "t:3:1: not valid YAML: did not find expected node content while parsing a flow node; "
                                                "check indentation, quotes and brackets");
    ASSERT_ERRORS("version: 1\n\tuser: x\n",
                  "t:2:1: not valid YAML: found a tab character that violates indentation while scanning a plain "
                  "scalar; check indentation, quotes and brackets");
}

static void bytes_that_are_no_utf8_are_refused_at_their_place(void **state) {
    ASSERT_ERRORS("version: 1\nuser: \xff\n", "t:2:7: not valid YAML: invalid leading UTF-8 octet; save the file as UTF-8 without control "
                                              "characters");
}

static void an_empty_file_is_refused(void **state) {
    ASSERT_ERRORS("", "t:1:1: the file is empty; it needs at least `version: 1`");
    ASSERT_ERRORS("# nothing\n", "t:1:1: the file is empty; it needs at least `version: 1`");
}

static void the_root_must_be_keys_with_values(void **state) {
    ASSERT_ERRORS("- a\n- b\n", "t:1:1: expected keys with values, such as `version: 1`, not a list");
    ASSERT_ERRORS("hello\n", "t:1:1: expected keys with values, such as `version: 1`");
}

static void anchors_aliases_tags_and_merge_keys_are_refused(void **state) {
    ASSERT_ERRORS("version: &v 1\n", "t:1:10: anchors (&name) are not taken; write the value out where it is needed");
    ASSERT_ERRORS("version: *v\n", "t:1:10: aliases (*name) are not taken; write the value out");
    ASSERT_ERRORS("version: !!int 1\n", "t:1:10: tags (!name) are not taken; remove it");
    ASSERT_ERRORS("pools:\n  p:\n    <<: {a: 1}\n", "t:3:5: merge keys (<<) are not taken; write the keys out");
}

static void a_second_document_is_refused(void **state) {
    ASSERT_ERRORS("version: 1\n---\nversion: 1\n", "t:2:1: a second document begins here (---); keep one in the file");
}

static void duplicate_keys_are_refused_and_the_rest_is_checked(void **state) {
    ASSERT_ERRORS(BASE "user: a\nuser: b\nmemry: {}\n", "t:10:1: duplicate key `user`, given first in line 9; keep one of them",
                  "t:11:1: unknown key `memry` (did you mean `memory`?)");
    ASSERT_ERRORS(BASE "memory: {bodies: 8MiB}\nmemory: {bodies: [{a: 1}]}\n",
                  "t:10:1: duplicate key `memory`, given first in line 9; keep one of them");
}

static void control_characters_are_refused(void **state) {
    ASSERT_ERRORS(BASE "user: \"a\\nb\"\n",
                  "t:9:7: this text contains a line break or another control character; write it on one line without");
    ASSERT_ERRORS(BASE "user: |\n  a\n  b\n",
                  "t:9:7: this text contains a line break or another control character; write it on one line without");
    ASSERT_ERRORS(BASE "user: \"a\\0b\"\n",
                  "t:9:7: this text contains a line break or another control character; write it on one line without");
}

static void keys_must_be_text(void **state) {
    ASSERT_ERRORS("version: 1\n? [a]\n: 1\n", "t:2:3: a key must be plain text");
    ASSERT_ERRORS(BASE "\"\": 1\n", "t:9:1: a key is empty; give it a name or remove it");
}

static void depth_is_bounded(void **state) {
    char text[256] = "version: ";
    memset(text + strlen(text), '[', 100);
    ASSERT_ERRORS(text, "t:1:25: this is nested deeper than any key is; check the indentation and the brackets");
}

static void a_file_over_one_mebibyte_is_refused(void **state) {
    size_t len = (1 << 20) + 1;
    char *text = malloc(len + 1);
    assert_non_null(text);
    memset(text, ' ', len);
    text[len] = '\0';
    ASSERT_ERRORS(text, "t:1:1: the file is larger than 1024 KiB; shorten it");
    free(text);
}

/* Fills one mebibyte with copies of `unit`, loads it, and expects errors. What takes long here makes the test run into its time-out. */
static void load_mebibyte(const char *head, const char *unit) {
    size_t max = 1 << 20, len = strlen(head), unit_len = strlen(unit);
    char *text = malloc(max + 1);
    assert_non_null(text);
    memcpy(text, head, len);
    for (; len + unit_len <= max; len += unit_len)
        memcpy(text + len, unit, unit_len);
    text[len] = '\0';
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    assert_true(load_text(text, NULL, &errors, &document) < 0);
    assert_null(document);
    assert_true(errors.count > 0);
    sp_config_errors_free(&errors);
    free(text);
}

static void hostile_mebibytes_end_with_an_error(void **state) {
    load_mebibyte("", "[");
    load_mebibyte("", "{a: ");
    load_mebibyte("", "- ");
    load_mebibyte("a: [", "1,");
    load_mebibyte("a: \"", "x");
    load_mebibyte("", "? ");
    load_mebibyte("", "&a ");
    load_mebibyte("", "key: 1\n");
    load_mebibyte("a: [", "{},");
    load_mebibyte("a: [", "[[]],");
    load_mebibyte("a: &a [x]\nb: [", "*a,");
    load_mebibyte("%TAG ! tag:", "a");
    load_mebibyte("", "---\n");
}

/* As many findings as the file can hold, each with a hint to look for. */
static void many_mistakes_end_with_a_bounded_list(void **state) {
    size_t size = 1 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    size_t len = 0;
    for (unsigned i = 0; len < size - 200000; i++)
        len += (size_t)snprintf(text + len, size - len, "listenerz_with_a_long_name_%u: 1\n", i);
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    assert_true(load_text(text, NULL, &errors, &document) < 0);
    assert_int_equal(errors.count, 501);
    assert_non_null(strstr(errors.line[500], "too many errors"));
    sp_config_errors_free(&errors);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_file_has_no_errors),
        cmocka_unit_test(json_is_accepted),
        cmocka_unit_test(a_syntax_error_names_its_line_and_column),
        cmocka_unit_test(bytes_that_are_no_utf8_are_refused_at_their_place),
        cmocka_unit_test(an_empty_file_is_refused),
        cmocka_unit_test(the_root_must_be_keys_with_values),
        cmocka_unit_test(anchors_aliases_tags_and_merge_keys_are_refused),
        cmocka_unit_test(a_second_document_is_refused),
        cmocka_unit_test(duplicate_keys_are_refused_and_the_rest_is_checked),
        cmocka_unit_test(control_characters_are_refused),
        cmocka_unit_test(keys_must_be_text),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(a_file_over_one_mebibyte_is_refused),
        cmocka_unit_test(hostile_mebibytes_end_with_an_error),
        cmocka_unit_test(many_mistakes_end_with_a_bounded_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
