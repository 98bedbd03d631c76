#include "decode.h"

#include <errno.h>

#include "outline.h"

#define DOCUMENT_BYTES_MAX ((size_t)256 << 20)

struct snapshot {
    struct sp_config config;
    struct sp_vault vault;
};

static void *member(void *object, uint32_t at) { return (char *)object + at; }

/* The pointer and the count of a list of structs. */
static int decode_items(const struct sp_decoding *decoding, const struct sp_field *field, const json_t *value, void *object) {
    bool is_list = field->kind == SP_KIND_LIST;
    size_t count = is_list ? json_array_size(value) : json_object_size(value);
    if (!(is_list ? json_is_array(value) : json_is_object(value)) || count < (size_t)field->min || count > (size_t)field->max)
        return -EINVAL;
    char *items = sp_vault_array(decoding->vault, count, field->record->size);
    if (!items)
        return -ENOMEM;
    *(void **)member(object, field->at) = items;
    *(size_t *)member(object, field->count_at) = count;
    void *at = is_list ? NULL : json_object_iter((json_t *)value);
    for (size_t i = 0; i < count; i++) {
        char *into = items + i * field->record->size;
        int failed = 0;
        if (is_list) {
            failed = sp_record_decode(decoding, field->record, json_array_get(value, i), into);
        } else {
            struct sp_span name = sp_span_text(json_object_iter_key(at));
            if (field->check && field->check(name))
                return -EINVAL;
            *(const char **)(void *)into = sp_vault_text(decoding->vault, name);
            if (!*(const char **)(void *)into)
                return -ENOMEM;
            json_t *item = json_object_iter_value(at);
            const struct sp_field *scalar = &field->record->fields[0];
            failed = field->kind == SP_KIND_PAIRS ? sp_value_read(decoding, scalar, value, item, member(into, scalar->at))
                                                  : sp_record_decode(decoding, field->record, item, into);
            at = json_object_iter_next((json_t *)value, at);
        }
        if (failed)
            return failed;
    }
    return 0;
}

static int decode_container(const struct sp_decoding *decoding, const struct sp_field *field, const json_t *value, void *object) {
    if (field->kind == SP_KIND_RECORD)
        return sp_record_decode(decoding, field->record, value, member(object, field->at));
    if (field->kind != SP_KIND_OPTIONAL)
        return decode_items(decoding, field, value, object);
    void *into = sp_vault_alloc(decoding->vault, field->record->size);
    if (!into)
        return -ENOMEM;
    *(void **)member(object, field->at) = into;
    return sp_record_decode(decoding, field->record, value, into);
}

/* Contents are absent where the reader must not have them. */
static int decode_contents(const struct sp_decoding *decoding, const struct sp_field *field, const json_t *object, void *into) {
    const json_t *contents = json_object_get(object, field->contents);
    if (!contents)
        return 0;
    char *copy = json_is_string(contents) ? sp_vault_text(decoding->vault, sp_json_span(contents)) : NULL;
    if (!copy)
        return json_is_string(contents) ? -ENOMEM : -EINVAL;
    *(const char **)member(into, field->contents_at) = copy;
    return 0;
}

static int decode_field(const struct sp_decoding *decoding, const struct sp_field *field, const json_t *object, void *into) {
    const json_t *value = json_object_get(object, field->name);
    if (!value)
        return field->fallback || sp_field_has(field, SP_REQUIRED | SP_FILLED) ? -EINVAL : 0;
    if (field->kind >= SP_KIND_RECORD)
        return decode_container(decoding, field, value, into);
    int failed = sp_value_read(decoding, field, object, value, field->at == SP_NOWHERE ? NULL : member(into, field->at));
    return !failed && field->contents ? decode_contents(decoding, field, object, into) : failed;
}

/* Goes down the table, whose depth is fixed, whatever the JSON nests. */
int sp_record_decode(const struct sp_decoding *decoding, const struct sp_record *record, const json_t *object, void *into) {
    if (!json_is_object(object))
        return -EINVAL;
    for (size_t i = 0; i < record->n_fields; i++) {
        if (sp_field_has(&record->fields[i], SP_LATER))
            continue;
        int failed = decode_field(decoding, &record->fields[i], object, into);
        if (failed)
            return failed == -ENOMEM ? failed : -EINVAL;
    }
    return record->finish ? record->finish(decoding->vault, into) : 0;
}

static int decode_root(const json_t *root, struct sp_config **ret) {
    struct snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        return -ENOMEM;
    snapshot->config.refs = 1;
    struct sp_decoding decoding = {.vault = &snapshot->vault, .root = root, .config = &snapshot->config};
    int failed = sp_record_decode(&decoding, &sp_config_record, root, &snapshot->config);
    if (!failed)
        failed = sp_outline(root, &snapshot->vault, &snapshot->config.outline);
    if (failed) {
        sp_config_unref(&snapshot->config);
        return failed;
    }
    *ret = &snapshot->config;
    return 0;
}

int sp_config_decode(struct sp_span bytes, struct sp_config **ret) {
    if (bytes.len > DOCUMENT_BYTES_MAX)
        return -EINVAL;
    json_error_t error;
    json_t *root = json_loadb(bytes.at ? bytes.at : "", bytes.len, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EINVAL;
    int failed = decode_root(root, ret);
    json_decref(root);
    return failed;
}

struct sp_config *sp_config_ref(struct sp_config *config) {
    config->refs++;
    return config;
}

void sp_config_unref(struct sp_config *config) {
    if (!config || --config->refs > 0)
        return;
    struct snapshot *snapshot = SP_CONTAINER(config, struct snapshot, config);
    sp_vault_free(&snapshot->vault);
    free(snapshot);
}

bool sp_glob_match(const char *pattern, struct sp_span text) { return sp_span_glob(sp_span_text(pattern), text); }

/* As strcmp() has it: a name that ends first comes first. */
static int compare_name(struct sp_span name, const char *with) {
    int order = name.len ? strncmp(name.at, with, name.len) : 0;
    return order ? order : -(with[name.len] != '\0');
}

const struct sp_model_config *sp_config_model(const struct sp_config *config, struct sp_span name) {
    if (name.len > SP_CONFIG_MODEL_MAX || (name.len && memchr(name.at, '\0', name.len)))
        return NULL;
    size_t first = 0, end = config->n_models;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        int order = compare_name(name, config->models[middle].name);
        if (order == 0)
            return &config->models[middle];
        if (order < 0)
            end = middle;
        else
            first = middle + 1;
    }
    return NULL;
}

const struct sp_limit_config *sp_config_limit(const struct sp_config *config, struct sp_span name) {
    for (size_t i = 0; i < config->n_limits; i++)
        if (sp_span_eq(name, sp_span_text(config->limits[i].name)))
            return &config->limits[i];
    return NULL;
}
