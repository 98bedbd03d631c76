#include "document.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "check.h"
#include "key_file.h"
#include "slots.h"
#include "value.h"

/* ---- Making one ---- */

/* Names of roles that keys carry must exist, or a caller would silently have fewer rights than its key says. */
static void check_key_roles(struct sp_source *source, const json_t *root) {
    const json_t *keys = json_object_get(source->root, "keys"), *known = json_object_get(root, "roles");
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const json_t *key = json_array_get(keys, i), *roles = json_object_get(key, "roles");
        for (size_t j = 0; !json_object_get(key, "revoked") && j < json_array_size(roles); j++) {
            const char *role = json_string_value(json_array_get(roles, j));
            if (role && !json_object_get(known, role))
                sp_source_error(source, sp_source_item(source, roles, j),
                                "`roles`: there is no '%s' in `roles` of the configuration; add it there, "
                                "or revoke this key",
                                role);
        }
    }
}

static int take_keys(const char *path, json_t *root, struct sp_findings *findings, struct sp_source *source) {
    sp_source_init(source, path, 1, findings);
    int failed = sp_keys_read(source);
    if (failed == -ENOMEM)
        return failed;
    if (!source->whole)
        return 0;
    check_key_roles(source, root);
    return json_object_set(root, "api_key_list", json_object_get(source->root, "keys")) < 0 ? -ENOMEM : 0;
}

/* A token verified under an issuer's rules stays verified as long as these are the same, wherever they stand in the file. */
static int put_fingerprint(json_t *issuer) {
    static const struct sp_hash_key fixed = {UINT64_C(0x73616c6c79706f72), UINT64_C(0x742d697373756572)};
    json_t *rules = json_copy(issuer);
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(rules, next, key, value) if (key[strlen(key) - 1] == '@') json_object_del(rules, key);
    char *text = rules ? json_dumps(rules, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    json_decref(rules);
    if (!text)
        return -ENOMEM;
    uint64_t fingerprint = sp_hash(&fixed, text, strlen(text));
    sp_free_secret(text);
    char digits[sizeof fingerprint * 2 + 1] = "";
    sp_hex(&fingerprint, sizeof fingerprint, digits);
    return json_object_set_new(issuer, "fingerprint", json_string(digits)) < 0 ? -ENOMEM : 0;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Puts the members of a section in the order of their names, in which they are looked up. */
static int sort_section(json_t *root, const char *section) {
    json_t *named = json_object_get(root, section), *sorted = json_object();
    size_t count = json_object_size(named), n = 0;
    _cleanup_(sp_free_pointer) const char **names = calloc(count + 1, sizeof *names);
    const char *name;
    json_t *value;
    int failed = sorted && names ? 0 : -ENOMEM;
    if (!failed) {
        json_object_foreach(named, name, value) names[n++] = name;
        qsort(names, n, sizeof *names, by_name);
    }
    for (size_t i = 0; !failed && i < n; i++)
        if (json_object_set(sorted, names[i], json_object_get(named, names[i])) < 0)
            failed = -ENOMEM;
    if (!failed && json_object_set(root, section, sorted) < 0)
        failed = -ENOMEM;
    json_decref(sorted);
    return failed;
}

/* Greater than the document's before, even where the clock was set back: a later policy wins. */
static json_t *loaded_at(const struct sp_document *previous) {
    json_int_t now = (json_int_t)sp_wall_ms(), before = json_integer_value(json_object_get(previous ? previous->root : NULL, "loaded"));
    return json_integer(sp_max(now, before + 1));
}

static int complete(json_t *root, const char *name, uint64_t generation, const struct sp_document *previous, json_t *taken) {
    if (json_object_set_new(root, "path", json_string(name)) < 0 ||
        json_object_set_new(root, "generation", json_integer((json_int_t)(generation & INT64_MAX))) < 0 ||
        json_object_set_new(root, "loaded", loaded_at(previous)) < 0 || sort_section(root, "models") < 0)
        return -ENOMEM;
    const json_t *issuers = json_object_get(root, "issuers");
    for (size_t i = 0; i < json_array_size(issuers); i++)
        if (put_fingerprint(json_array_get(issuers, i)) < 0)
            return -ENOMEM;
    return sp_slots_assign(root, previous ? previous->root : NULL, taken);
}

static int make_document(json_t *root, const char *name, uint64_t generation, const struct sp_document *previous,
                         struct sp_document **ret) {
    struct sp_document *document = calloc(1, sizeof *document);
    if (!document)
        return -ENOMEM;
    document->root = json_incref(root);
    document->slots_taken = previous ? json_copy(previous->slots_taken) : json_object();
    int failed = document->slots_taken ? complete(root, name, generation, previous, document->slots_taken) : -ENOMEM;
    if (failed) {
        sp_document_free(document);
        return failed;
    }
    *ret = document;
    return 0;
}

int sp_config_load_text(const char *name, struct sp_span yaml, const char *directory, bool read_files, const struct sp_document *previous,
                        uint64_t generation, struct sp_config_errors *errors, struct sp_document **ret) {
    struct sp_findings findings = {0};
    struct sp_source source, keys = {0};
    sp_source_init(&source, name, 0, &findings);
    struct sp_check check = {.source = &source, .directory = directory, .read_files = read_files};
    int failed = sp_source_read(&source, yaml, SP_CONFIG_BYTES_MAX, SP_CONFIG_VALUES_MAX);
    if (failed != -ENOMEM && source.whole) {
        sp_check_record(&check, &sp_config_record, source.root);
        sp_check_across(&check);
        const char *keys_path = json_string_value(json_object_get(source.root, "api_keys"));
        failed = keys_path && read_files ? take_keys(keys_path, source.root, &findings, &keys) : 0;
    }
    if (check.out_of_memory)
        failed = -ENOMEM;
    if (failed != -ENOMEM)
        failed = sp_findings_report(&findings, errors);
    if (!failed)
        failed = make_document(source.root, name, generation, previous, ret);
    sp_source_free(&keys);
    sp_source_free(&source);
    sp_findings_free(&findings);
    return failed;
}

static int list_error(struct sp_config_errors *errors, const char *file, struct sp_place place, const char *before, const char *detail,
                      const char *after) {
    struct sp_findings findings = {0};
    sp_findings_add(&findings, file, 0, place, "%s%s%s", before, detail, after);
    int failed = sp_findings_report(&findings, errors);
    sp_findings_free(&findings);
    return failed;
}

static const char *read_problem(int failed) {
    if (failed == -EINVAL)
        return "it is not a regular file";
    return failed == -EFBIG ? "it is larger than 1 MiB" : strerror(-failed);
}

int sp_config_load(const char *path, const struct sp_document *previous, uint64_t generation, struct sp_config_errors *errors,
                   struct sp_document **ret) {
    char *text;
    size_t len;
    unsigned mode;
    int failed = sp_read_file(path, SP_CONFIG_BYTES_MAX, &mode, &text, &len);
    if (failed == -ENOMEM)
        return failed;
    if (failed)
        return list_error(errors, path, (struct sp_place){1, 1}, "cannot read it: ", read_problem(failed), "");
    const char *slash = strrchr(path, '/');
    _cleanup_(sp_free_pointer) char *directory = strndup(path, slash ? (size_t)(slash - path) + (slash == path) : 0);
    failed = directory ? sp_config_load_text(path, sp_span(text, len), directory, true, previous, generation, errors, ret) : -ENOMEM;
    sp_free_secret(text);
    return failed;
}

void sp_document_free(struct sp_document *document) {
    if (!document)
        return;
    json_decref(document->root);
    json_decref(document->slots_taken);
    free(document);
}

/* ---- Handing it out ---- */

/* Takes the contents of secret files out that are not this reader's. Goes down the table. */
static void strip(const struct sp_record *record, bool control, json_t *object) {
    for (size_t i = 0; i < record->n_fields; i++) {
        const struct sp_field *field = &record->fields[i];
        json_t *value = json_object_get(object, field->name);
        bool others = sp_field_has(field, SP_FOR_CONTROL) != control && !sp_field_has(field, SP_FOR_BOTH);
        if (field->kind == SP_KIND_FILE && sp_field_has(field, SP_SECRET) && others && field->contents)
            json_object_del(object, field->contents);
        if (!value || field->kind < SP_KIND_RECORD || field->kind == SP_KIND_PAIRS)
            continue;
        if (field->kind == SP_KIND_RECORD || field->kind == SP_KIND_OPTIONAL)
            strip(field->record, control, value);
        for (size_t j = 0; field->kind == SP_KIND_LIST && j < json_array_size(value); j++)
            strip(field->record, control, json_array_get(value, j));
        for (void *at = field->kind == SP_KIND_MAP ? json_object_iter(value) : NULL; at; at = json_object_iter_next(value, at))
            strip(field->record, control, json_object_iter_value(at));
    }
}

int sp_document_encode(const struct sp_document *document, enum sp_config_reader reader, char **ret, size_t *ret_len) {
    json_t *root = reader == SP_READER_SUPERVISOR ? json_incref(document->root) : json_deep_copy(document->root);
    if (!root)
        return -ENOMEM;
    if (reader != SP_READER_SUPERVISOR)
        strip(&sp_config_record, reader == SP_READER_CONTROL, root);
    if (reader == SP_READER_CONTROL)
        json_object_del(root, "api_key_list");
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (!text)
        return -ENOMEM;
    *ret = text;
    *ret_len = strlen(text);
    return 0;
}

int sp_config_user_required(const struct sp_document *document, struct sp_config_errors *errors) {
    const char *path = json_string_value(json_object_get(document->root, "path"));
    const char *user = json_string_value(json_object_get(document->root, "user"));
    const char *where = json_string_value(json_object_get(document->root, "user@"));
    struct sp_place place = {1, 1};
    if (geteuid() != 0)
        return 0;
    if (!user)
        return list_error(errors, path, place, "`user` is missing: started as root, it must say who the processes become; ",
                          "add `user: sallyport`", "");
    const struct passwd *entry = getpwnam(user);
    if (entry && entry->pw_uid != 0)
        return 0;
    if (where)
        (void)sscanf(where + strlen(path), ":%u:%u", &place.line, &place.column);
    if (entry)
        return list_error(errors, path, place, "`user`: ", user, " has root's rights, which naming a user is to avoid; name another");
    return list_error(errors, path, place, "`user`: there is no user ", user,
                      " on this machine; make it with `useradd --system` or name another");
}

int sp_document_snapshot(const struct sp_document *document, enum sp_config_reader reader, struct sp_config **ret) {
    char *bytes = NULL;
    size_t len = 0;
    int r = sp_document_encode(document, reader, &bytes, &len);
    if (r < 0)
        return r;
    r = sp_config_decode(sp_span(bytes, len), ret);
    sp_free_secret(bytes);
    return r;
}
