#include "check.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>

#include "syntax.h"
#include "value.h"

/* How a key or value is shown in a message: what an administrator wrote, but not all of a long one. */
#define SHOWN_MAX 60

/* ---- Saying what is wrong ---- */

static const char *expected_of(const struct sp_field *field) {
    switch (field->kind) {
    case SP_KIND_NUMBER:
        return sp_field_has(field, SP_AUTO) ? "a whole number or auto" : "a whole number";
    case SP_KIND_FRACTION:
        return "a number from 0 to 1";
    case SP_KIND_BOOL:
        return "true or false";
    case SP_KIND_DURATION:
        return "a duration such as 20ms, 5s, 10m, 2h or 7d";
    case SP_KIND_SIZE:
        return "a size such as 64KiB or 8MiB";
    case SP_KIND_RATE:
        return "a rate such as 10/s, 600/min or 1000/h";
    case SP_KIND_TIME:
        return "a time such as 2027-01-31T00:00:00Z";
    case SP_KIND_HEX:
        return "hexadecimal digits (64 of them for a digest)";
    case SP_KIND_ID:
        return "8 letters and digits";
    case SP_KIND_PATH:
    case SP_KIND_FILE:
        return sp_field_has(field, SP_CREDENTIAL) ? "the name of a credential" : "a path";
    case SP_KIND_CIDRS:
        return "an address range such as 10.0.0.0/8 or 2001:db8::/32, with no bits set beyond its length";
    case SP_KIND_NODES:
        return "host:port, such as 10.0.0.1:6379";
    case SP_KIND_TEXT:
    case SP_KIND_TEXTS:
        return "text";
    default:
        return "a name";
    }
}

static void show(const json_t *value, char out[SHOWN_MAX + 32]) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        snprintf(out, SHOWN_MAX + 32, "keys with values");
        return;
    case JSON_ARRAY:
        snprintf(out, SHOWN_MAX + 32, "a list");
        return;
    case JSON_STRING:
        snprintf(out, SHOWN_MAX + 32, "'%.*s%s'", SHOWN_MAX, json_string_value(value), json_string_length(value) > SHOWN_MAX ? "..." : "");
        return;
    case JSON_INTEGER:
        snprintf(out, SHOWN_MAX + 32, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return;
    case JSON_REAL:
        snprintf(out, SHOWN_MAX + 32, "the number %g", json_real_value(value));
        return;
    case JSON_TRUE:
    case JSON_FALSE:
        snprintf(out, SHOWN_MAX + 32, "%s", json_is_true(value) ? "true" : "false");
        return;
    default:
        snprintf(out, SHOWN_MAX + 32, "nothing");
    }
}

static void refuse_form(struct sp_check *check, const struct sp_field *field, const char *expected, const json_t *value,
                        struct sp_place place) {
    char shown[SHOWN_MAX + 32];
    show(value, shown);
    bool unquoted = strcmp(expected, "text") == 0 && !json_is_object(value) && !json_is_array(value) && !json_is_null(value);
    sp_check_error(check, place, "`%s`: expected %s, not %s%s", field->name, expected, shown, unquoted ? "; put it in quotes" : "");
}

static void bound_text(const struct sp_field *field, int64_t bound, char out[SP_AMOUNT_TEXT]) {
    if (field->kind == SP_KIND_DURATION)
        sp_duration_text((uint64_t)bound, out);
    else if (field->kind == SP_KIND_SIZE)
        sp_size_text((uint64_t)bound, out);
    else
        snprintf(out, SP_AMOUNT_TEXT, "%" PRId64, bound);
}

static void refuse_range(struct sp_check *check, const struct sp_field *field, struct sp_place place) {
    char min[SP_AMOUNT_TEXT], max[SP_AMOUNT_TEXT];
    bound_text(field, field->min, min);
    bound_text(field, field->max ? field->max : INT64_MAX, max);
    if (field->min == field->max && field->max != 0)
        sp_check_error(check, place, "`%s` must be %s", field->name, max);
    else
        sp_check_error(check, place, "`%s` is out of range; it must be from %s to %s", field->name, min, max);
}

/* "none, jwt or api_key": the choices that can be made today. */
static void list_choices(const struct sp_field *field, struct sp_buffer *out) {
    const struct sp_choice *last = NULL;
    for (const struct sp_choice *choice = field->choices; choice->name; choice++)
        last = choice->later ? last : choice;
    bool first = true;
    for (const struct sp_choice *choice = field->choices; choice->name; choice++) {
        if (choice->later)
            continue;
        const char *separator = first ? "" : choice == last ? " or " : ", ";
        if (sp_buffer_printf(out, "%s%s", separator, choice->name) < 0)
            return;
        first = false;
    }
}

static void refuse_choice(struct sp_check *check, const struct sp_field *field, const json_t *value, bool later, struct sp_place place) {
    struct sp_buffer choices;
    sp_buffer_init(&choices, 1024);
    list_choices(field, &choices);
    struct sp_span known = sp_buffer_span(&choices);
    if (later) {
        sp_check_error(check, place, "`%s: %s` is not yet supported; remove it (possible now: " SP_SPAN_FMT ")", field->name,
                       json_string_value(value), SP_SPAN_ARG(known));
    } else {
        char shown[SHOWN_MAX + 32], hint[SP_HINT_MAX];
        struct sp_nearest nearest = {.asked = json_is_string(value) ? sp_json_span(value) : sp_span(NULL, 0)};
        for (const struct sp_choice *choice = field->choices; choice->name; choice++)
            sp_nearest_offer(&nearest, choice->name);
        show(value, shown);
        sp_check_error(check, place, "`%s`: expected " SP_SPAN_FMT ", not %s%s", field->name, SP_SPAN_ARG(known), shown,
                       sp_nearest_hint(&nearest, hint));
    }
    sp_buffer_free(&choices);
}

static void refuse_unknown_key(struct sp_check *check, const struct sp_record *record, const json_t *object, const char *key) {
    if (check->source->findings->count > SP_FINDINGS_MAX)
        return; /* would not be shown, and hints take their time */
    char hint[SP_HINT_MAX];
    struct sp_nearest nearest = {.asked = sp_span_text(key)};
    for (size_t i = 0; i < record->n_fields; i++)
        if (!sp_field_has(&record->fields[i], SP_HIDDEN))
            sp_nearest_offer(&nearest, record->fields[i].name);
    const char *remedy = nearest.best ? "" : "; remove it";
    sp_check_error(check, sp_source_key(check->source, object, key), "unknown key `%.*s`%s%s", SHOWN_MAX, key,
                   sp_nearest_hint(&nearest, hint), remedy);
}

static bool is_known_name(struct sp_check *check, const struct sp_field *field, const json_t *value, struct sp_place place) {
    const char *section = sp_kind_refers_to(field->kind);
    json_t *names = json_object_get(check->source->root, section);
    if (json_object_get(names, json_string_value(value)))
        return true;
    if (check->source->findings->count > SP_FINDINGS_MAX)
        return false;
    char hint[SP_HINT_MAX];
    struct sp_nearest nearest = {.asked = sp_json_span(value)};
    size_t offered = 0;
    for (void *at = json_object_iter(names); at && offered < SP_ROUTES_MAX; at = json_object_iter_next(names, at), offered++)
        sp_nearest_offer(&nearest, json_object_iter_key(at));
    sp_check_error(check, place, "`%s`: there is no '%.*s' in `%s`%s", field->name, SHOWN_MAX, json_string_value(value), section,
                   sp_nearest_hint(&nearest, hint));
    return false;
}

/* ---- Scalars ---- */

/* A scalar, or one item of a list of them. */
static bool check_scalar(struct sp_check *check, const struct sp_field *field, const json_t *value, struct sp_place place) {
    int failed = sp_scalar_read(NULL, field, value, NULL);
    const char *problem = NULL;
    if (failed == -EINVAL && json_is_string(value) && field->check)
        problem = field->check(sp_json_span(value));
    if (!failed)
        return sp_kind_refers_to(field->kind) ? is_known_name(check, field, value, place) : true;
    if (json_is_null(value))
        sp_check_error(check, place, "`%s` has no value; give it one or remove it", field->name);
    else if (problem)
        sp_check_error(check, place, "`%s`: %s", field->name, problem);
    else if (failed == -ERANGE)
        refuse_range(check, field, place);
    else if (failed == -ENOTSUP || field->kind == SP_KIND_CHOICE || field->kind == SP_KIND_CHOICES)
        refuse_choice(check, field, value, failed == -ENOTSUP, place);
    else
        refuse_form(check, field, expected_of(field), value, place);
    return false;
}

static bool count_fits(struct sp_check *check, const struct sp_field *field, size_t count, struct sp_place place) {
    if (count < (size_t)field->min)
        sp_check_error(check, place, "`%s` is empty; give at least one", field->name);
    if (field->max && count > (size_t)field->max)
        sp_check_error(check, place, "`%s` has %zu entries; at most %" PRId64 " are possible", field->name, count, field->max);
    return count >= (size_t)field->min && (!field->max || count <= (size_t)field->max);
}

/* Whether an item that is equal stands earlier in the list. */
static bool is_repeated(const json_t *list, size_t index) {
    for (size_t i = 0; i < index; i++)
        if (json_equal(json_array_get(list, i), json_array_get(list, index)))
            return true;
    return false;
}

static bool check_list(struct sp_check *check, const struct sp_field *field, const json_t *list, struct sp_place place) {
    if (!json_is_array(list)) {
        refuse_form(check, field, "a list, such as [a, b]", list, place);
        return false;
    }
    bool fits = count_fits(check, field, json_array_size(list), place);
    if (json_array_size(list) > 1024)
        return false; /* longer than any list may be: comparing all with all would take long */
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct sp_place item_at = sp_source_item(check->source, list, i);
        bool right = check_scalar(check, field, json_array_get(list, i), item_at);
        if (right && is_repeated(list, i)) {
            sp_check_error(check, item_at, "`%s` says '%s' twice; remove one", field->name, json_string_value(json_array_get(list, i)));
            right = false;
        }
        fits &= right;
    }
    return fits;
}

/* `auto` becomes the number of CPUs this process may run on. */
static bool resolve_auto(struct sp_check *check, const struct sp_field *field, json_t *object) {
    cpu_set_t cpus;
    int count = sched_getaffinity(0, sizeof cpus, &cpus) < 0 ? 1 : CPU_COUNT(&cpus);
    json_int_t number = sp_min(sp_max((int64_t)count, field->min), field->max);
    check->out_of_memory |= json_object_set_new(object, field->name, json_integer(number)) < 0;
    return true;
}

static void resolve_path(struct sp_check *check, const struct sp_field *field, json_t *object, const json_t *value) {
    if (sp_field_choice(field, sp_json_span(value)))
        return;
    _cleanup_(sp_free_pointer) char *resolved = sp_path_from(check->directory, json_string_value(value));
    check->out_of_memory |= !resolved || json_object_set_new(object, field->name, json_string(resolved)) < 0;
}

static bool check_supported(struct sp_check *check, const struct sp_field *field, const json_t *value, struct sp_place place) {
    if (!sp_field_has(field, SP_DEFAULT_ONLY))
        return true;
    json_t *standard = sp_field_default(field);
    bool same = json_equal(value, standard);
    check->out_of_memory |= !standard;
    json_decref(standard);
    if (!same)
        sp_check_error(check, place, "`%s` other than %s is not yet supported; remove it", field->name, field->fallback);
    return same;
}

/* ---- What is made of fields ---- */

static bool check_container(struct sp_check *check, const struct sp_field *field, json_t *value, struct sp_place place);

void sp_check_note_place(struct sp_check *check, const char *name, json_t *object, struct sp_place place) {
    _cleanup_(sp_free_pointer) char *key = NULL, *where = NULL;
    if (asprintf(&key, "%s@", name) < 0)
        key = NULL;
    if (asprintf(&where, "%s:%u:%u", check->source->name, place.line, place.column) < 0)
        where = NULL;
    check->out_of_memory |= !key || !where || json_object_set_new(object, key, json_string(where)) < 0;
}

/* True when the value may stay in the document. */
static bool check_value(struct sp_check *check, const struct sp_field *field, json_t *object, json_t *value) {
    struct sp_place place = sp_source_value(check->source, object, field->name);
    if (field->kind >= SP_KIND_RECORD)
        return check_container(check, field, value, place);
    if (sp_field_has(field, SP_AUTO) && json_is_string(value) && strcmp(json_string_value(value), "auto") == 0)
        return resolve_auto(check, field, object);
    bool fits = sp_kind_is_list(field->kind) ? check_list(check, field, value, place) : check_scalar(check, field, value, place);
    if (!fits || !check_supported(check, field, value, place))
        return false;
    if (sp_field_has(field, SP_PLACED))
        sp_check_note_place(check, field->name, object, place);
    if (field->kind == SP_KIND_PATH)
        resolve_path(check, field, object, value);
    bool elsewhere = sp_field_has(field, SP_OR_URL) && sp_is_http_url(sp_json_span(value));
    if (field->kind == SP_KIND_FILE && !elsewhere) {
        _cleanup_(sp_free_pointer) char *path = strdup(json_string_value(value));
        if (path)
            sp_check_file(check, field, object, path, place);
        check->out_of_memory |= !path;
    }
    return true;
}

static void fill_in(struct sp_check *check, const struct sp_record *record, const struct sp_field *field, json_t *object) {
    if (sp_field_has(field, SP_HIDDEN))
        return;
    if (sp_field_has(field, SP_REQUIRED)) {
        sp_check_error(check, sp_source_container(check->source, object), "`%s` is missing in this %s: %s", field->name, record->name,
                       field->about);
        return;
    }
    if (!field->fallback && !sp_field_has(field, SP_FILLED))
        return;
    json_t *standard = sp_field_default(field);
    if (json_object_set_new(object, field->name, standard) < 0)
        check->out_of_memory = true;
    else
        check_value(check, field, object, standard);
}

/* Keys that are not in the table, or not yet: named, then taken out, so that nobody later meets them. */
static void refuse_keys(struct sp_check *check, const struct sp_record *record, json_t *object) {
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(object, next, key, value) {
        const struct sp_field *field = sp_record_field(record, key);
        if (field && !sp_field_has(field, SP_HIDDEN | SP_LATER))
            continue;
        if (field && sp_field_has(field, SP_LATER))
            sp_check_error(check, sp_source_key(check->source, object, key), "`%s` is not yet supported; remove it", key);
        else
            refuse_unknown_key(check, record, object, key);
        json_object_del(object, key);
    }
}

/* Goes down the table, whose depth is fixed; what the file nests deeper than the table has been refused above it. */
void sp_check_record(struct sp_check *check, const struct sp_record *record, json_t *object) {
    refuse_keys(check, record, object);
    for (size_t i = 0; i < record->n_fields; i++) {
        const struct sp_field *field = &record->fields[i];
        json_t *value = json_object_get(object, field->name);
        if (sp_field_has(field, SP_LATER))
            continue;
        if (!value)
            fill_in(check, record, field, object);
        else if (!check_value(check, field, object, value))
            json_object_del(object, field->name);
    }
}

static bool check_records(struct sp_check *check, const struct sp_field *field, json_t *list, struct sp_place place) {
    if (!json_is_array(list)) {
        refuse_form(check, field, "a list (entries that begin with -)", list, place);
        return false;
    }
    bool fits = count_fits(check, field, json_array_size(list), place);
    for (size_t i = 0; fits && i < json_array_size(list); i++) {
        json_t *item = json_array_get(list, i);
        if (json_is_object(item)) {
            sp_check_record(check, field->record, item);
            continue;
        }
        refuse_form(check, field, "keys with values in each entry", item, sp_source_item(check->source, list, i));
        check->out_of_memory |= json_array_set_new(list, i, json_object()) < 0;
    }
    return fits;
}

static void check_named(struct sp_check *check, const struct sp_field *field, json_t *map) {
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        const char *problem = field->check ? field->check(sp_span_text(name)) : NULL;
        if (problem)
            sp_check_error(check, sp_source_key(check->source, map, name), "`%s`: '%.*s': %s", field->name, SHOWN_MAX, name, problem);
        struct sp_place place = sp_source_value(check->source, map, name);
        struct sp_field scalar = field->record->fields[0];
        scalar.name = name; /* which is what messages should say */
        if (field->kind == SP_KIND_PAIRS)
            check_scalar(check, &scalar, value, place);
        else if (json_is_object(value))
            sp_check_record(check, field->record, value);
        else
            refuse_form(check, field, "keys with values after each name", value, place);
    }
}

static bool check_container(struct sp_check *check, const struct sp_field *field, json_t *value, struct sp_place place) {
    if (json_is_null(value)) {
        sp_check_error(check, place, "`%s` has no value; give it one or remove it", field->name);
        return false;
    }
    if (field->kind == SP_KIND_LIST)
        return check_records(check, field, value, place);
    if (!json_is_object(value)) {
        refuse_form(check, field, "keys with values", value, place);
        return false;
    }
    if (field->kind == SP_KIND_RECORD || field->kind == SP_KIND_OPTIONAL) {
        sp_check_record(check, field->record, value);
        return true;
    }
    bool fits = count_fits(check, field, json_object_size(value), place);
    if (fits)
        check_named(check, field, value);
    return fits;
}
