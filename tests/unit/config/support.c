#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int load_text(const char *yaml, const struct sp_document *previous, struct sp_config_errors *errors, struct sp_document **ret) {
    return sp_config_load_text("t", sp_span_text(yaml), "", false, previous, 1, errors, ret);
}

static void print_errors(const struct sp_config_errors *errors) {
    for (size_t i = 0; i < errors->count; i++)
        print_error("said: %s\n", errors->line[i]);
}

struct sp_document *load_right(const char *yaml, const struct sp_document *previous) {
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    int failed = load_text(yaml, previous, &errors, &document);
    print_errors(&errors);
    assert_int_equal(failed, 0);
    assert_int_equal(errors.count, 0);
    sp_config_errors_free(&errors);
    return document;
}

struct sp_config *decode(const struct sp_document *document, enum sp_config_reader reader) {
    char *text = NULL;
    size_t len;
    struct sp_config *config = NULL;
    assert_int_equal(sp_document_encode(document, reader, &text, &len), 0);
    assert_int_equal(sp_config_decode(sp_span(text, len), &config), 0);
    sp_free_secret(text);
    return config;
}

struct sp_config *config_of(const char *yaml) {
    struct sp_document *document = load_right(yaml, NULL);
    struct sp_config *config = decode(document, SP_READER_WORKER);
    sp_document_free(document);
    return config;
}

static void assert_lines(const struct sp_config_errors *errors, const char *const *lines) {
    size_t expected = 0;
    while (lines[expected])
        expected++;
    bool same = errors->count == expected;
    for (size_t i = 0; same && i < expected; i++)
        same = strcmp(errors->line[i], lines[i]) == 0;
    if (same)
        return;
    for (size_t i = 0; i < expected; i++)
        print_error("expected: %s\n", lines[i]);
    print_errors(errors);
    fail_msg("the errors are not those expected");
}

void assert_errors(const char *yaml, const char *const *lines) {
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    int failed = load_text(yaml, NULL, &errors, &document);
    assert_lines(&errors, lines);
    assert_int_equal(failed, lines[0] ? -EINVAL : 0);
    assert_true(lines[0] ? document == NULL : document != NULL);
    sp_document_free(document);
    sp_config_errors_free(&errors);
}

void assert_load_errors(const char *path, const char *const *lines) {
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    int failed = sp_config_load(path, NULL, 1, &errors, &document);
    assert_lines(&errors, lines);
    assert_int_equal(failed, lines[0] ? -EINVAL : 0);
    sp_document_free(document);
    sp_config_errors_free(&errors);
}

void folder_make(struct folder *folder) {
    snprintf(folder->path, sizeof folder->path, "/tmp/sallyport-config-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk) { return remove(path); }

void folder_remove(struct folder *folder) { nftw(folder->path, remove_one, 8, FTW_DEPTH | FTW_PHYS); }

const char *in_folder(const struct folder *folder, const char *name) {
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % SP_COUNT(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", folder->path, name);
    return path;
}

void folder_write(const struct folder *folder, const char *name, const char *text, unsigned mode) {
    const char *path = in_folder(folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

char *file_text(const char *path) {
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    size_t len = fread(text, 1, (1 << 20) - 1, file);
    assert_true(len > 0);
    fclose(file);
    return text;
}
