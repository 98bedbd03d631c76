/* The configuration as an operator would write it, with every default, for comparing two of them. Goes down the table, so that no key can
 * be forgotten; what is secret is left out, and of files that are not the contents become a digest. */
#include "outline.h"

#include <errno.h>
#include <stdio.h>

#include "table.h"

struct outline {
    struct sp_span directory; /* of the file, with its slash: paths are told as they stand in it */
    bool out_of_memory;
};

static json_t *outline_record(struct outline *outline, const struct sp_record *record, const json_t *object);

static json_t *digest_json(const json_t *text) {
    static const struct sp_hash_key fixed = {UINT64_C(0x73616c6c79706f72), UINT64_C(0x6f75746c696e6521)};
    uint64_t digest = sp_hash(&fixed, json_string_value(text), json_string_length(text));
    char digits[sizeof digest * 2];
    return json_stringn(digits, sp_hex(&digest, sizeof digest, digits));
}

static json_t *path_json(const struct outline *outline, const json_t *value) {
    struct sp_span path = sp_span(json_string_value(value), json_string_length(value));
    if (outline->directory.len > 0 && sp_span_starts(path, outline->directory))
        path = sp_span_from(path, outline->directory.len);
    return json_stringn(path.at, path.len);
}

static json_t *outline_list(struct outline *outline, const struct sp_record *record, const json_t *list) {
    json_t *items = json_array();
    for (size_t i = 0; items && i < json_array_size(list); i++)
        if (json_array_append_new(items, outline_record(outline, record, json_array_get(list, i))) < 0)
            outline->out_of_memory = true;
    return items;
}

/* A header's value may be a credential. */
static json_t *outline_pair(const struct sp_field *scalar, json_t *value) {
    return scalar->kind == SP_KIND_TEXT && json_is_string(value) ? digest_json(value) : json_deep_copy(value);
}

static json_t *outline_map(struct outline *outline, const struct sp_field *field, const json_t *map) {
    json_t *items = json_object();
    for (void *at = json_object_iter((json_t *)map); items && at; at = json_object_iter_next((json_t *)map, at)) {
        json_t *value = json_object_iter_value(at);
        json_t *item =
            field->kind == SP_KIND_PAIRS ? outline_pair(&field->record->fields[0], value) : outline_record(outline, field->record, value);
        if (json_object_set_new(items, json_object_iter_key(at), item) < 0)
            outline->out_of_memory = true;
    }
    return items;
}

static json_t *outline_value(struct outline *outline, const struct sp_field *field, const json_t *value) {
    switch (field->kind) {
    case SP_KIND_RECORD:
    case SP_KIND_OPTIONAL:
        return outline_record(outline, field->record, value);
    case SP_KIND_LIST:
        return outline_list(outline, field->record, value);
    case SP_KIND_MAP:
    case SP_KIND_PAIRS:
        return outline_map(outline, field, value);
    case SP_KIND_PATH:
    case SP_KIND_FILE:
        return json_is_string(value) ? path_json(outline, value) : json_deep_copy(value);
    default:
        return json_deep_copy(value);
    }
}

static int put_contents(const struct sp_field *field, const json_t *object, json_t *into) {
    const json_t *contents = field->contents && !sp_field_has(field, SP_SECRET) ? json_object_get(object, field->contents) : NULL;
    char name[64];
    if (!json_is_string(contents))
        return 0;
    snprintf(name, sizeof name, "%s (contents)", field->name);
    return json_object_set_new(into, name, digest_json(contents));
}

static json_t *outline_record(struct outline *outline, const struct sp_record *record, const json_t *object) {
    json_t *into = json_object();
    for (size_t i = 0; into && i < record->n_fields; i++) {
        const struct sp_field *field = &record->fields[i];
        const json_t *value = json_object_get(object, field->name);
        if (!value || sp_field_has(field, SP_HIDDEN | SP_LATER))
            continue;
        if (json_object_set_new(into, field->name, outline_value(outline, field, value)) < 0 || put_contents(field, object, into) < 0)
            outline->out_of_memory = true;
    }
    return into;
}

int sp_outline(const json_t *root, struct sp_vault *vault, const char **ret) {
    const char *path = json_string_value(json_object_get(root, "path")), *slash = path ? strrchr(path, '/') : NULL;
    struct outline outline = {.directory = sp_span(path, slash ? (size_t)(slash - path) + 1 : 0)};
    json_t *object = outline_record(&outline, &sp_config_record, root);
    char *text = object && !outline.out_of_memory ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!text)
        return -ENOMEM;
    *ret = sp_vault_text(vault, sp_span_text(text));
    sp_free_secret(text);
    return *ret ? 0 : -ENOMEM;
}
