#include "key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "decode.h"

#define FILE_MAX   ((size_t)4 << 20)
#define VALUES_MAX ((size_t)400000)
#define MODE_MAX   0640u /* its owner changes it, its group reads it, nobody else does anything */

struct sp_key_file {
    struct sp_api_key_config *keys;
    size_t count, capacity;
    struct sp_vault vault;
};

static const struct sp_field file_fields[] = {
    {"keys", SP_KIND_LIST, SP_FILLED, .at = offsetof(struct sp_key_file, keys), .size = sizeof(void *),
     .count_at = offsetof(struct sp_key_file, count), .max = SP_API_KEYS_MAX, .record = &sp_key_record, .about = "the keys"},
};
static const struct sp_record file_record = {
    .name = "file", .fields = file_fields, .n_fields = SP_COUNT(file_fields), .size = sizeof(struct sp_key_file)};

/* ---- Reading ---- */

static int check_ids(struct sp_source *source) {
    const json_t *keys = json_object_get(source->root, "keys");
    json_t *seen = json_object();
    int failed = seen ? 0 : -ENOMEM;
    for (size_t i = 0; !failed && i < json_array_size(keys); i++) {
        const json_t *key = json_array_get(keys, i);
        const char *id = json_string_value(json_object_get(key, "id"));
        if (id && json_object_get(seen, id))
            sp_source_error(source, sp_source_value(source, key, "id"), "`id`: %s is given twice; remove one of the two keys", id);
        else if (id && json_object_set_new(seen, id, json_true()) < 0)
            failed = -ENOMEM;
    }
    json_decref(seen);
    return failed;
}

int sp_keys_read(struct sp_source *source) {
    static const struct sp_place top = {1, 1};
    char *text;
    size_t len;
    unsigned mode;
    int failed = sp_read_file(source->name, FILE_MAX, &mode, &text, &len);
    if (failed == -ENOMEM)
        return failed;
    if (failed) {
        const char *why = failed == -EINVAL ? "it is not a regular file" : strerror(-failed);
        sp_source_error(source, top, "cannot read it: %s; make it with `sallyport key new`", why);
        return failed;
    }
    if (mode & (S_IWGRP | S_IWOTH))
        sp_source_error(source, top, "others may change this file (mode %04o); run `chmod 600 %s`", mode, source->name);
    source->may_be_empty = true;
    failed = sp_source_read(source, sp_span(text, len), FILE_MAX, VALUES_MAX);
    sp_free_secret(text);
    if (failed == -ENOMEM || !source->whole)
        return failed;
    struct sp_check check = {.source = source, .directory = ""};
    sp_check_record(&check, &file_record, source->root);
    int ids = check_ids(source);
    return check.out_of_memory ? -ENOMEM : ids ? ids : failed;
}

static int decode_keys(const json_t *root, struct sp_key_file **ret) {
    struct sp_key_file *file;
    int failed = sp_key_file_new(&file);
    if (failed)
        return failed;
    struct sp_key_file decoded = {0};
    struct sp_decoding decoding = {.vault = &file->vault, .root = root};
    failed = sp_record_decode(&decoding, &file_record, root, &decoded);
    for (size_t i = 0; !failed && i < decoded.count; i++)
        failed = sp_key_file_add(file, &decoded.keys[i]);
    if (failed) {
        sp_key_file_free(file);
        return failed;
    }
    *ret = file;
    return 0;
}

int sp_key_file_load(const char *path, struct sp_config_errors *errors, struct sp_key_file **ret) {
    struct sp_findings findings = {0};
    struct sp_source source;
    sp_source_init(&source, path, 0, &findings);
    int failed = sp_keys_read(&source);
    int reported = sp_findings_report(&findings, errors);
    if (!failed)
        failed = reported;
    if (!failed)
        failed = decode_keys(source.root, ret);
    sp_source_free(&source);
    sp_findings_free(&findings);
    return failed;
}

/* ---- In memory ---- */

int sp_key_file_new(struct sp_key_file **ret) {
    struct sp_key_file *file = calloc(1, sizeof *file);
    if (!file)
        return -ENOMEM;
    *ret = file;
    return 0;
}

void sp_key_file_free(struct sp_key_file *file) {
    if (!file)
        return;
    sp_vault_free(&file->vault);
    free(file->keys);
    free(file);
}

size_t sp_key_file_count(const struct sp_key_file *file) { return file->count; }

struct sp_api_key_config *sp_key_file_at(struct sp_key_file *file, size_t i) {
    return &file->keys[i];
}

struct sp_api_key_config *sp_key_file_find(struct sp_key_file *file, struct sp_span id_or_name) {
    for (size_t i = 0; i < file->count; i++)
        if (sp_span_eq(id_or_name, sp_span_text(file->keys[i].id)))
            return &file->keys[i];
    for (size_t i = 0; i < file->count; i++)
        if (sp_span_eq(id_or_name, sp_span_text(file->keys[i].name)))
            return &file->keys[i];
    return NULL;
}

static bool is_writable_text(const char *text, sp_check_text *check) {
    if (!text || check(sp_span_text(text)) || !sp_utf8_valid(sp_span_text(text)))
        return false;
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

static bool is_writable(const struct sp_api_key_config *key) {
    if (memchr(key->id, '\0', sizeof key->id) != key->id + sizeof key->id - 1 || strspn(key->id, "abcdefghijklmnopqrstuvwxyz"
                                                                                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                                                                 "0123456789") != sizeof key->id - 1)
        return false;
    if (!is_writable_text(key->name, sp_check_label) || (key->tenant && !is_writable_text(key->tenant, sp_check_label)))
        return false;
    for (size_t i = 0; i < key->roles.count; i++)
        if (!is_writable_text(key->roles.item[i], sp_check_role_name))
            return false;
    return key->roles.count <= SP_ROLES_MAX;
}

static int copy_key(struct sp_vault *vault, const struct sp_api_key_config *from, struct sp_api_key_config *to) {
    *to = *from;
    to->name = sp_vault_text(vault, sp_span_text(from->name));
    to->tenant = from->tenant ? sp_vault_text(vault, sp_span_text(from->tenant)) : NULL;
    to->roles.item = sp_vault_array(vault, from->roles.count, sizeof *to->roles.item);
    if (!to->name || (from->tenant && !to->tenant) || !to->roles.item)
        return -ENOMEM;
    for (size_t i = 0; i < from->roles.count; i++) {
        to->roles.item[i] = sp_vault_text(vault, sp_span_text(from->roles.item[i]));
        if (!to->roles.item[i])
            return -ENOMEM;
    }
    return 0;
}

int sp_key_file_add(struct sp_key_file *file, const struct sp_api_key_config *key) {
    if (!is_writable(key))
        return -EINVAL;
    if (file->count >= SP_API_KEYS_MAX)
        return -E2BIG;
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->keys[i].id, key->id) == 0)
            return -EEXIST;
    if (file->count == file->capacity) {
        size_t capacity = file->capacity ? file->capacity * 2 : 16;
        struct sp_api_key_config *keys = reallocarray(file->keys, capacity, sizeof *keys);
        if (!keys)
            return -ENOMEM;
        file->keys = keys;
        file->capacity = capacity;
    }
    int failed = copy_key(&file->vault, key, &file->keys[file->count]);
    file->count += !failed;
    return failed;
}

/* ---- Writing ---- */

static int write_time(struct sp_buffer *out, const char *key, uint64_t unix_s) {
    char stamp[SP_TIMESTAMP_LEN + 1];
    if (unix_s == 0)
        return 0;
    sp_timestamp(unix_s * 1000, stamp);
    return sp_buffer_printf(out, "    %s: %.19sZ\n", key, stamp); /* without the milliseconds */
}

/* Text always in quotes, which JSON's are in YAML too: an id of digits must not become a number. */
static int write_text(struct sp_buffer *out, const char *before, const char *text, const char *after) {
    int failed = sp_buffer_append_span(out, sp_span_text(before));
    if (!failed)
        failed = sp_buffer_append_json(out, sp_span_text(text));
    return failed ? failed : sp_buffer_append_span(out, sp_span_text(after));
}

static int write_key(struct sp_buffer *out, const struct sp_api_key_config *key) {
    char digest[sizeof key->digest * 2 + 1] = "";
    sp_hex(key->digest, sizeof key->digest, digest);
    int failed = write_text(out, "  - id: ", key->id, "\n");
    if (!failed)
        failed = write_text(out, "    name: ", key->name, "\n");
    if (!failed)
        failed = write_text(out, "    digest: ", digest, "\n    roles: [");
    for (size_t i = 0; !failed && i < key->roles.count; i++)
        failed = write_text(out, i ? ", " : "", key->roles.item[i], "");
    if (!failed)
        failed = sp_buffer_append_span(out, SP_SPAN("]\n"));
    if (!failed && key->tenant)
        failed = write_text(out, "    tenant: ", key->tenant, "\n");
    if (!failed)
        failed = write_time(out, "expires", key->expires_at_s);
    return failed ? failed : write_time(out, "revoked", key->revoked_at_s);
}

static int write_keys(struct sp_buffer *out, const struct sp_key_file *file) {
    int failed = sp_buffer_printf(out, "# made by sallyport key; holds digests only\nkeys:%s\n", file->count ? "" : " []");
    for (size_t i = 0; !failed && i < file->count; i++)
        failed = is_writable(&file->keys[i]) ? write_key(out, &file->keys[i]) : -EINVAL;
    return failed == -ENOSPC ? -EFBIG : failed;
}

static int write_all(int fd, struct sp_span text) {
    while (text.len > 0) {
        ssize_t n = write(fd, text.at, text.len);
        if (n < 0 && errno != EINTR)
            return -errno;
        text = sp_span_from(text, n > 0 ? (size_t)n : 0);
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* Whoever may read the old file may read the new one; what is new is its maker's alone, as mkostemp() makes it. */
static int keep_owner_and_mode(int fd, const char *path) {
    struct stat old;
    if (stat(path, &old) < 0)
        return 0;
    if ((old.st_uid != geteuid() || old.st_gid != getegid()) && fchown(fd, old.st_uid, old.st_gid) < 0)
        return -errno;
    return fchmod(fd, old.st_mode & MODE_MAX) < 0 ? -errno : 0;
}

/* The new file, complete and on disk, under a name of its own beside `path`. */
static int write_beside(const char *path, struct sp_span text, char **ret_name) {
    _cleanup_(sp_free_pointer) char *name = NULL;
    if (asprintf(&name, "%s.new-XXXXXX", path) < 0) {
        name = NULL;
        return -ENOMEM;
    }
    _cleanup_(sp_close_fd) int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int failed = keep_owner_and_mode(fd, path);
    if (!failed)
        failed = write_all(fd, text);
    if (failed) {
        unlink(name);
        return failed;
    }
    *ret_name = sp_take(name);
    return 0;
}

/* The old file stays under PATH.previous, the same inode, so that what it says is never copied. */
static int keep_previous(const char *path) {
    _cleanup_(sp_free_pointer) char *previous = NULL;
    if (asprintf(&previous, "%s.previous", path) < 0) {
        previous = NULL;
        return -ENOMEM;
    }
    if (unlink(previous) < 0 && errno != ENOENT)
        return -errno;
    return link(path, previous) < 0 && errno != ENOENT ? -errno : 0;
}

static int sync_directory_of(const char *path) {
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    _cleanup_(sp_free_pointer) char *directory = !slash ? strdup(".") : len ? strndup(path, len) : strdup("/");
    if (!directory)
        return -ENOMEM;
    _cleanup_(sp_close_fd) int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int sp_key_file_save(const char *path, const struct sp_key_file *file) {
    struct sp_buffer text;
    _cleanup_(sp_free_pointer) char *name = NULL;
    sp_buffer_init(&text, FILE_MAX);
    int failed = write_keys(&text, file);
    if (!failed)
        failed = write_beside(path, sp_buffer_span(&text), &name);
    sp_buffer_free(&text);
    if (failed)
        return failed;
    failed = keep_previous(path);
    if (!failed && rename(name, path) < 0)
        failed = -errno;
    if (failed) {
        unlink(name);
        return failed;
    }
    return sync_directory_of(path);
}

int sp_key_file_lock(const char *path, int *ret_fd) {
    _cleanup_(sp_free_pointer) char *name = NULL;
    if (asprintf(&name, "%s.lock", path) < 0) {
        name = NULL;
        return -ENOMEM;
    }
    _cleanup_(sp_close_fd) int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return -errno;
    *ret_fd = fd;
    fd = -1;
    return 0;
}
