/* The table as JSON Schema (draft 2020-12), for editors. */
#include <errno.h>

#include "table.h"

static json_t *schema_of_record(const struct sp_record *record);

static json_t *schema_of_choices(const struct sp_field *field) {
    json_t *names = json_array();
    for (const struct sp_choice *choice = field->choices; choice->name; choice++)
        if (!choice->later)
            json_array_append_new(names, json_string(choice->name));
    return json_pack("{s:o}", "enum", names);
}

static json_t *schema_of_number(const struct sp_field *field) {
    json_t *number = json_pack("{s:s, s:I}", "type", "integer", "minimum", (json_int_t)field->min);
    if (field->max)
        json_object_set_new(number, "maximum", json_integer((json_int_t)field->max));
    return sp_field_has(field, SP_AUTO) ? json_pack("{s:[{s:s}, o]}", "anyOf", "const", "auto", number) : number;
}

static json_t *schema_of_pattern(const char *pattern) { return json_pack("{s:s, s:s}", "type", "string", "pattern", pattern); }

static json_t *schema_of_scalar(const struct sp_field *field) {
    switch (field->kind) {
    case SP_KIND_NUMBER:
        return schema_of_number(field);
    case SP_KIND_FRACTION:
        return json_pack("{s:s, s:i, s:i}", "type", "number", "minimum", 0, "maximum", 1);
    case SP_KIND_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case SP_KIND_DURATION:
        return schema_of_pattern("^[0-9]+(ms|s|m|h|d)$");
    case SP_KIND_SIZE:
        return schema_of_pattern("^[0-9]+(B|KiB|MiB|GiB|TiB)$");
    case SP_KIND_RATE:
        return schema_of_pattern("^[0-9]+/(s|min|h)$");
    case SP_KIND_CHOICE:
    case SP_KIND_CHOICES:
        return schema_of_choices(field);
    default:
        return json_pack("{s:s}", "type", "string");
    }
}

static json_t *schema_of_list(const struct sp_field *field, json_t *items) {
    json_t *list = json_pack("{s:s, s:o, s:I}", "type", "array", "items", items, "minItems", (json_int_t)field->min);
    if (field->max)
        json_object_set_new(list, "maxItems", json_integer((json_int_t)field->max));
    return list;
}

static json_t *schema_of_map(const struct sp_field *field, json_t *values) {
    return json_pack("{s:s, s:o, s:I, s:I}", "type", "object", "additionalProperties", values, "minProperties", (json_int_t)field->min,
                     "maxProperties", (json_int_t)field->max);
}

static json_t *schema_of_value(const struct sp_field *field) {
    switch (field->kind) {
    case SP_KIND_RECORD:
    case SP_KIND_OPTIONAL:
        return schema_of_record(field->record);
    case SP_KIND_LIST:
        return schema_of_list(field, schema_of_record(field->record));
    case SP_KIND_MAP:
        return schema_of_map(field, schema_of_record(field->record));
    case SP_KIND_PAIRS:
        return schema_of_map(field, schema_of_scalar(&field->record->fields[0]));
    default:
        break;
    }
    if (!sp_kind_is_list(field->kind))
        return schema_of_scalar(field);
    json_t *list = schema_of_list(field, schema_of_scalar(field));
    json_object_set_new(list, "uniqueItems", json_true());
    return list;
}

static json_t *schema_of_field(const struct sp_field *field) {
    if (sp_field_has(field, SP_LATER))
        return json_pack("{s:{}, s:s+}", "not", "description", "Not yet supported: ", field->about);
    json_t *schema = schema_of_value(field);
    json_object_set_new(schema, "description", json_string(field->about));
    if (field->fallback) {
        json_object_set_new(schema, "default", sp_field_default(field));
        if (sp_field_has(field, SP_DEFAULT_ONLY))
            json_object_set_new(schema, "const", sp_field_default(field));
    }
    return schema;
}

/* Goes down the table. What cannot be allocated is missing at its place, and then the dump or the caller's comparison says so. */
static json_t *schema_of_record(const struct sp_record *record) {
    json_t *properties = json_object(), *required = json_array();
    for (size_t i = 0; i < record->n_fields; i++) {
        const struct sp_field *field = &record->fields[i];
        if (sp_field_has(field, SP_HIDDEN))
            continue;
        json_object_set_new(properties, field->name, schema_of_field(field));
        if (sp_field_has(field, SP_REQUIRED) && !sp_field_has(field, SP_LATER))
            json_array_append_new(required, json_string(field->name));
    }
    return json_pack("{s:s, s:b, s:o, s:o}", "type", "object", "additionalProperties", 0, "required", required, "properties", properties);
}

int sp_config_schema(struct sp_buffer *out) {
    json_t *body = schema_of_record(&sp_config_record);
    json_t *schema = json_pack("{s:s, s:s}", "$schema", "https://json-schema.org/draft/2020-12/schema", "title", "sallyport.yaml");
    char *text = body && schema && json_object_update(schema, body) == 0 ? json_dumps(schema, JSON_INDENT(2)) : NULL;
    int failed = text ? sp_buffer_printf(out, "%s\n", text) : -ENOMEM;
    json_decref(body);
    json_decref(schema);
    sp_free_secret(text);
    return failed;
}
