/* The only file here that opens what a configuration names. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "value.h"

#define FILE_BYTES_MAX ((size_t)1 << 20)

static int read_all(int fd, char *into, size_t size, size_t *ret_len) {
    size_t len = 0;
    while (len < size) {
        ssize_t n = read(fd, into + len, size - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *ret_len = len;
    return 0;
}

int sp_read_file(const char *path, size_t max, unsigned *ret_mode, char **ret, size_t *ret_len) {
    /* Without O_NONBLOCK a fifo put in the file's place would hold the supervisor up. */
    _cleanup_(sp_close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
    if (status.st_size < 0 || (uint64_t)status.st_size > max)
        return -EFBIG;
    char *bytes = calloc(1, max + 2); /* the size that was stated may have grown since */
    size_t len = 0;
    if (!bytes)
        return -ENOMEM;
    int failed = read_all(fd, bytes, max + 1, &len);
    if (!failed && len > max)
        failed = -EFBIG;
    if (failed) {
        sp_wipe(bytes, max + 1);
        free(bytes);
        return failed;
    }
    char *exact = calloc(1, len + 1);
    if (exact)
        memcpy(exact, bytes, len);
    sp_wipe(bytes, len);
    free(bytes);
    if (!exact)
        return -ENOMEM;
    *ret_mode = status.st_mode & 07777;
    *ret = exact;
    *ret_len = len;
    return 0;
}

char *sp_path_from(const char *directory, const char *path) {
    char *joined;
    if (path[0] == '/' || directory[0] == '\0')
        return strdup(path);
    const char *slash = directory[strlen(directory) - 1] == '/' ? "" : "/";
    return asprintf(&joined, "%s%s%s", directory, slash, path) < 0 ? NULL : joined;
}

static const char *sentence_of(int failed) {
    if (failed == -EINVAL)
        return "it is not a regular file";
    return failed == -EFBIG ? "it is larger than 1 MiB" : strerror(-failed);
}

/* What stands between these bytes and being text of one line. */
static const char *problem_of_line(const struct sp_field *field, struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.at[i] < 0x20 || text.at[i] == 0x7f)
            return "it holds more than one line, or control characters; write the secret alone on one line";
    if (text.len == 0)
        return "it is empty; write the secret into it";
    return field->check_contents ? field->check_contents(text) : NULL;
}

static const char *problem_of_contents(const struct sp_field *field, struct sp_span text) {
    if (!sp_utf8_valid(text) || (text.len && memchr(text.at, '\0', text.len)))
        return "it holds bytes that are not text";
    if (sp_field_has(field, SP_ONE_LINE))
        return problem_of_line(field, text);
    if (text.len == 0)
        return "it is empty";
    return field->check_contents ? field->check_contents(text) : NULL;
}

static struct sp_span without_final_newline(struct sp_span text) {
    if (text.len > 0 && text.at[text.len - 1] == '\n')
        text.len--;
    if (text.len > 0 && text.at[text.len - 1] == '\r')
        text.len--;
    return text;
}

/* Where a file is: a path from the configuration's folder, or a credential's from the folder that systemd made for this process. NULL, and
 * the problem noted: there is none. */
static char *resolve(struct sp_check *check, const struct sp_field *field, const char *name, struct sp_place place) {
    char *resolved;
    if (!sp_field_has(field, SP_CREDENTIAL)) {
        resolved = sp_path_from(check->directory, name);
        check->out_of_memory |= !resolved;
        return resolved;
    }
    const char *credentials = getenv("CREDENTIALS_DIRECTORY"), *problem = sp_check_credential_name(sp_span_text(name));
    if (problem) {
        sp_check_error(check, place, "`%s`: %s", field->name, problem);
        return NULL;
    }
    if (!credentials && check->read_files) {
        sp_check_error(check, place, "`%s`: %s is only there in a unit with LoadCredential=%s:PATH ($CREDENTIALS_DIRECTORY is not set)",
                       field->name, name, name);
        return NULL;
    }
    resolved = sp_path_from(credentials ? credentials : "", name);
    check->out_of_memory |= !resolved;
    return resolved;
}

void sp_check_file(struct sp_check *check, const struct sp_field *field, json_t *object, const char *path, struct sp_place place) {
    _cleanup_(sp_free_pointer) char *resolved = resolve(check, field, path, place);
    if (!resolved)
        return;
    if (json_object_set_new(object, field->name, json_string(resolved)) < 0) {
        check->out_of_memory = true;
        return;
    }
    if (!check->read_files)
        return;
    char *bytes = NULL;
    size_t len = 0;
    unsigned mode = 0;
    int failed = sp_read_file(resolved, FILE_BYTES_MAX, &mode, &bytes, &len);
    if (failed) {
        sp_check_error(check, place, "`%s`: cannot read %s: %s", field->name, resolved, sentence_of(failed));
        return;
    }
    struct sp_span text = sp_span(bytes, len);
    if (sp_field_has(field, SP_ONE_LINE))
        text = without_final_newline(text);
    const char *problem = problem_of_contents(field, text);
    if (sp_field_has(field, SP_SECRET) && (mode & (S_IWGRP | S_IRWXO)))
        sp_check_error(check, place, "`%s`: %s is open to others (mode %04o); run `chmod 600 %s`", field->name, resolved, mode, resolved);
    if (problem)
        sp_check_error(check, place, "`%s`: %s: %s", field->name, resolved, problem);
    else if (json_object_set_new(object, field->contents, json_stringn(text.at, text.len)) < 0)
        check->out_of_memory = true;
    sp_free_secret(bytes);
}
