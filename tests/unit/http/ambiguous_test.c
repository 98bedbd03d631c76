#include "arrival.h"

#include <errno.h>
#include <stdio.h>

#include "ambiguous.h"

enum { BYTES_MAX = 64 * 1024 };

static struct sp_span write_out(const struct ambiguous *a, char out[BYTES_MAX]) {
    size_t len = 0;
    assert_true(a->bytes.len + a->filler.len * a->times + a->tail.len <= BYTES_MAX);
    memcpy(out, a->bytes.at, a->bytes.len);
    len += a->bytes.len;
    for (unsigned i = 0; i < a->times; i++, len += a->filler.len)
        memcpy(out + len, a->filler.at, a->filler.len);
    if (a->tail.len)
        memcpy(out + len, a->tail.at, a->tail.len);
    return sp_span(out, len + a->tail.len);
}

static void every_ambiguous_request_is_refused_with_its_status(void **state) {
    static char bytes[BYTES_MAX];
    struct sp_http_request request;
    unsigned wrong = 0;
    for (size_t i = 0; i < SP_COUNT(ambiguous); i++) {
        const struct ambiguous *a = &ambiguous[i];
        struct outcome outcome = arrive_request(write_out(a, bytes), BYTES_MAX, &request);
        if (outcome.what == (a->in == IN_HEAD ? REFUSED_HEAD : REFUSED_BODY) && outcome.status == a->status)
            continue;
        print_error("%s: %u expected, %u given (outcome %d)\n", a->name, a->status, outcome.status, outcome.what);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void byte_by_byte_they_are_refused_alike(void **state) {
    static char bytes[BYTES_MAX];
    struct sp_http_request request;
    for (size_t i = 0; i < SP_COUNT(ambiguous); i++) {
        struct sp_span whole = write_out(&ambiguous[i], bytes);
        struct outcome at_once = arrive_request(whole, BYTES_MAX, &request), slowly = arrive_request(whole, 1, &request);
        assert_same_outcome(&at_once, &slowly);
    }
}

static void every_name_stands_once(void **state) {
    for (size_t i = 0; i < SP_COUNT(ambiguous); i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ambiguous[i].name, ambiguous[j].name);
}

/* ---- The files for the black-box tests ---- */

static const char *folder;

static void write_index(FILE *out) {
    fprintf(out, "[\n");
    for (size_t i = 0; i < SP_COUNT(ambiguous); i++)
        fprintf(out, "  {\"name\": \"%s\", \"expected_status\": %u, \"in\": \"%s\"}%s\n", ambiguous[i].name, ambiguous[i].status,
                ambiguous[i].in == IN_HEAD ? "head" : "body", i + 1 < SP_COUNT(ambiguous) ? "," : "");
    fprintf(out, "]\n");
}

static FILE *open_file(const char *name, const char *suffix, const char *mode) {
    char path[4096];
    assert_true(snprintf(path, sizeof path, "%s/%s%s", folder, name, suffix) < (int)sizeof path);
    FILE *file = fopen(path, mode);
    if (!file)
        fail_msg("%s: %s", path, strerror(errno));
    return file;
}

static void assert_file_is(const char *name, const char *suffix, struct sp_span expected) {
    static char bytes[BYTES_MAX];
    FILE *file = open_file(name, suffix, "rb");
    size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    if (len != expected.len || memcmp(bytes, expected.at, len) != 0)
        fail_msg("%s%s differs from the table: run this test with `export FOLDER`", name, suffix);
}

static void the_files_for_the_black_box_tests_are_this_table(void **state) {
    static char bytes[BYTES_MAX];
    for (size_t i = 0; i < SP_COUNT(ambiguous); i++)
        assert_file_is(ambiguous[i].name, ".http", write_out(&ambiguous[i], bytes));
    char *index;
    size_t len;
    FILE *out = open_memstream(&index, &len);
    assert_non_null(out);
    write_index(out);
    fclose(out);
    assert_file_is("index", ".json", sp_span(index, len));
    free(index);
}

static void export_files(void) {
    static char bytes[BYTES_MAX];
    for (size_t i = 0; i < SP_COUNT(ambiguous); i++) {
        struct sp_span whole = write_out(&ambiguous[i], bytes);
        FILE *file = open_file(ambiguous[i].name, ".http", "wb");
        fwrite(whole.at, 1, whole.len, file);
        fclose(file);
    }
    FILE *index = open_file("index", ".json", "wb");
    write_index(index);
    fclose(index);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "export") == 0) {
        folder = argv[2];
        export_files();
        return 0;
    }
    if (argc != 2) {
        fprintf(stderr, "usage: %s [export] FOLDER\n", argv[0]);
        return 2;
    }
    folder = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_ambiguous_request_is_refused_with_its_status),
        cmocka_unit_test(byte_by_byte_they_are_refused_alike),
        cmocka_unit_test(every_name_stands_once),
        cmocka_unit_test(the_files_for_the_black_box_tests_are_this_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
