#include "value.h"

#include <errno.h>

#include "syntax.h"

#define PLACE_SUFFIX "@"

/* ---- Scalars ---- */

static int read_text(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    if (!json_is_string(value))
        return -EINVAL;
    struct sp_span text = sp_json_span(value);
    bool is_choice = field->kind == SP_KIND_PATH && sp_field_choice(field, text);
    if (!is_choice && field->check && field->check(text))
        return -EINVAL;
    if (!is_choice && (field->kind == SP_KIND_PATH || field->kind == SP_KIND_FILE) && text.len == 0)
        return -EINVAL;
    if (!into)
        return 0;
    char *copy = sp_vault_text(vault, text);
    if (!copy)
        return -ENOMEM;
    for (char *c = copy; sp_field_has(field, SP_LOWER) && *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    *(const char **)into = copy; /* struct sp_text begins with it */
    return 0;
}

/* A number where the row says how many bytes it has. */
static int store(const struct sp_field *field, uint64_t number, void *into) {
    if (!into)
        return 0;
    if (field->size == sizeof(bool))
        *(bool *)into = number != 0;
    else if (field->size == sizeof(uint32_t))
        *(uint32_t *)into = (uint32_t)number;
    else
        *(uint64_t *)into = number;
    return 0;
}

static int check_range(const struct sp_field *field, uint64_t number) {
    if (field->min == 0 && field->max == 0)
        return 0;
    bool too_large = field->max != 0 && number > (uint64_t)field->max;
    return number < (uint64_t)field->min || too_large ? -ERANGE : 0;
}

static int read_number(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    if (!json_is_integer(value))
        return -EINVAL;
    json_int_t number = json_integer_value(value);
    if (number < 0 || check_range(field, (uint64_t)number) < 0)
        return -ERANGE;
    return store(field, (uint64_t)number, into);
}

static int read_fraction(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    if (!json_is_number(value))
        return -EINVAL;
    double number = json_number_value(value);
    if (!(number >= 0 && number <= 1))
        return -ERANGE;
    if (into)
        *(double *)into = number;
    return 0;
}

static int read_bool(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    return json_is_boolean(value) ? store(field, json_is_true(value), into) : -EINVAL;
}

static int read_amount(const struct sp_field *field, const json_t *value, int parse(struct sp_span, uint64_t *), void *into) {
    uint64_t amount;
    if (!json_is_string(value))
        return -EINVAL;
    int failed = parse(sp_json_span(value), &amount);
    if (!failed)
        failed = check_range(field, amount);
    if (failed)
        return failed;
    return store(field, sp_field_has(field, SP_SECONDS) ? amount / 1000 : amount, into);
}

static int read_duration(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    return read_amount(field, value, sp_parse_duration, into);
}

static int read_size(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    return read_amount(field, value, sp_parse_size, into);
}

static int read_time(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    return read_amount(field, value, sp_parse_time, into);
}

static int read_rate(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    struct sp_rate rate;
    if (!json_is_string(value))
        return -EINVAL;
    int failed = sp_parse_rate(sp_json_span(value), &rate);
    if (!failed)
        failed = check_range(field, rate.amount);
    if (!failed && into)
        *(struct sp_rate *)into = rate;
    return failed;
}

static int read_hex(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    char scratch[SP_SCALAR_MAX];
    if (!json_is_string(value) || !sp_unhex(sp_json_span(value), into ? into : scratch, field->size))
        return -EINVAL;
    return 0;
}

static int read_id(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    struct sp_span text = json_is_string(value) ? sp_json_span(value) : sp_span(NULL, 0);
    if (text.len != field->size - 1)
        return -EINVAL;
    for (size_t i = 0; i < text.len; i++)
        if (sp_check_name(sp_span(text.at + i, 1)) || strchr("-_.", text.at[i]))
            return -EINVAL;
    if (into)
        memcpy(into, text.at, text.len);
    return 0;
}

static int read_choice(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    const struct sp_choice *choice = json_is_string(value) ? sp_field_choice(field, sp_json_span(value)) : NULL;
    if (!choice)
        return -EINVAL;
    return choice->later ? -ENOTSUP : store(field, choice->value, into);
}

static int read_cidr(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    struct sp_cidr range;
    if (!json_is_string(value) || sp_parse_cidr(sp_json_span(value), &range) < 0)
        return -EINVAL;
    if (into)
        *(struct sp_cidr *)into = range;
    return 0;
}

static int read_node(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    struct sp_span host;
    bool bracketed;
    struct sp_redis_node node;
    if (!json_is_string(value) || field->check(sp_json_span(value)))
        return -EINVAL;
    int failed = sp_split_host_port(sp_json_span(value), &host, &bracketed, &node.port);
    if (failed || !into)
        return failed;
    node.host = sp_vault_text(vault, host);
    if (!node.host)
        return -ENOMEM;
    *(struct sp_redis_node *)into = node;
    return 0;
}

int sp_scalar_read(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    typedef int read_scalar(struct sp_vault *, const struct sp_field *, const json_t *, void *);
    static read_scalar *const read[] = {
        [SP_KIND_TEXT] = read_text,         [SP_KIND_PATH] = read_text,         [SP_KIND_FILE] = read_text,
        [SP_KIND_NUMBER] = read_number,     [SP_KIND_FRACTION] = read_fraction, [SP_KIND_BOOL] = read_bool,
        [SP_KIND_DURATION] = read_duration, [SP_KIND_SIZE] = read_size,         [SP_KIND_RATE] = read_rate,
        [SP_KIND_TIME] = read_time,         [SP_KIND_HEX] = read_hex,           [SP_KIND_ID] = read_id,
        [SP_KIND_CHOICE] = read_choice,     [SP_KIND_POOL] = read_text,         [SP_KIND_TEXTS] = read_text,
        [SP_KIND_CIDRS] = read_cidr,        [SP_KIND_CHOICES] = read_choice,    [SP_KIND_LIMITS] = read_text,
        [SP_KIND_ROLES] = read_text,        [SP_KIND_NODES] = read_node,        [SP_KIND_MODELS] = read_text,
    };
    return field->kind < SP_COUNT(read) ? read[field->kind](vault, field, value, into) : -EINVAL;
}

/* ---- References ---- */

const char *sp_kind_refers_to(enum sp_kind kind) {
    switch (kind) {
    case SP_KIND_LIMITS:
        return "limits";
    case SP_KIND_MODELS:
        return "models";
    case SP_KIND_ROLES:
        return "roles";
    case SP_KIND_POOL:
        return "pools";
    default:
        return NULL;
    }
}

bool sp_name_index(const json_t *root, const char *section, const char *name, size_t *ret) {
    json_t *names = json_object_get(root, section);
    size_t index = 0;
    if (!name || !json_object_get(names, name))
        return false;
    for (void *at = json_object_iter(names); at; at = json_object_iter_next(names, at), index++)
        if (strcmp(json_object_iter_key(at), name) == 0) {
            *ret = index;
            return true;
        }
    return false;
}

static int read_pool(const struct sp_decoding *decoding, const json_t *value, void *into) {
    size_t index;
    if (!sp_name_index(decoding->root, "pools", json_string_value(value), &index) || index >= decoding->config->n_pools)
        return -EINVAL;
    *(const struct sp_pool_config **)into = &decoding->config->pools[index];
    return 0;
}

/* The places of limits or models among all of them. */
static int read_indices(const struct sp_decoding *decoding, const struct sp_field *field, const json_t *value, void *into) {
    size_t count = json_array_size(value);
    unsigned *indices = sp_vault_array(decoding->vault, count, sizeof *indices);
    if (!indices)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        size_t index;
        if (!sp_name_index(decoding->root, sp_kind_refers_to(field->kind), json_string_value(json_array_get(value, i)), &index))
            return -EINVAL;
        indices[i] = (unsigned)index;
    }
    *(unsigned **)into = indices;
    *(size_t *)(void *)((char *)into - field->at + field->count_at) = count;
    return 0;
}

static int read_roles(const struct sp_decoding *decoding, const json_t *value, void *into) {
    uint64_t mask = 0;
    for (size_t i = 0; i < json_array_size(value); i++) {
        size_t index;
        if (!sp_name_index(decoding->root, "roles", json_string_value(json_array_get(value, i)), &index) || index >= SP_ROLES_MAX)
            return -EINVAL;
        mask |= UINT64_C(1) << index;
    }
    *(uint64_t *)into = mask;
    return 0;
}

/* ---- Lists of scalars ---- */

static int read_texts(struct sp_vault *vault, const struct sp_field *field, const json_t *value, struct sp_texts *into) {
    struct sp_texts texts = {.count = json_array_size(value)};
    texts.item = sp_vault_array(vault, texts.count, sizeof *texts.item);
    if (!texts.item)
        return -ENOMEM;
    for (size_t i = 0; i < texts.count; i++) {
        int failed = read_text(vault, field, json_array_get(value, i), &texts.item[i]);
        if (failed)
            return failed;
    }
    *into = texts;
    return 0;
}

static int read_cidrs(struct sp_vault *vault, const struct sp_field *field, const json_t *value, struct sp_cidrs *into) {
    struct sp_cidrs ranges = {.count = json_array_size(value)};
    ranges.item = sp_vault_array(vault, ranges.count, sizeof *ranges.item);
    if (!ranges.item)
        return -ENOMEM;
    for (size_t i = 0; i < ranges.count; i++) {
        int failed = read_cidr(vault, field, json_array_get(value, i), &ranges.item[i]);
        if (failed)
            return failed;
    }
    *into = ranges;
    return 0;
}

static int read_nodes(struct sp_vault *vault, const struct sp_field *field, const json_t *value, struct sp_redis_nodes *into) {
    struct sp_redis_nodes nodes = {.count = json_array_size(value)};
    nodes.item = sp_vault_array(vault, nodes.count, sizeof *nodes.item);
    if (!nodes.item)
        return -ENOMEM;
    for (size_t i = 0; i < nodes.count; i++) {
        int failed = read_node(vault, field, json_array_get(value, i), &nodes.item[i]);
        if (failed)
            return failed;
    }
    *into = nodes;
    return 0;
}

static int read_choices(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) {
    uint32_t bits = 0;
    for (size_t i = 0; i < json_array_size(value); i++) {
        int failed = read_choice(vault, field, json_array_get(value, i), NULL);
        if (failed)
            return failed;
        bits |= sp_field_choice(field, sp_json_span(json_array_get(value, i)))->value;
    }
    if (sp_field_has(field, SP_TEXTUAL))
        return read_texts(vault, field, value, into);
    *(uint32_t *)into = bits;
    return 0;
}

static int read_list(const struct sp_decoding *decoding, const struct sp_field *field, const json_t *value, void *into) {
    size_t count = json_array_size(value);
    if (!json_is_array(value) || count < (size_t)field->min || (field->max && count > (size_t)field->max))
        return -EINVAL;
    switch (field->kind) {
    case SP_KIND_TEXTS:
        return read_texts(decoding->vault, field, value, into);
    case SP_KIND_CIDRS:
        return read_cidrs(decoding->vault, field, value, into);
    case SP_KIND_CHOICES:
        return read_choices(decoding->vault, field, value, into);
    case SP_KIND_NODES:
        return read_nodes(decoding->vault, field, value, into);
    case SP_KIND_LIMITS:
    case SP_KIND_MODELS:
        return read_indices(decoding, field, value, into);
    default:
        return read_roles(decoding, value, into);
    }
}

static int read_place(const struct sp_decoding *decoding, const struct sp_field *field, const json_t *object, struct sp_text *into) {
    char key[64];
    if (strlen(field->name) + sizeof PLACE_SUFFIX > sizeof key)
        return -EINVAL;
    memcpy(key, field->name, strlen(field->name));
    memcpy(key + strlen(field->name), PLACE_SUFFIX, sizeof PLACE_SUFFIX);
    into->where = sp_vault_text(decoding->vault, sp_json_span(json_object_get(object, key)));
    return into->where ? 0 : -ENOMEM;
}

int sp_value_read(const struct sp_decoding *decoding, const struct sp_field *field, const json_t *object, const json_t *value, void *into) {
    if (sp_kind_is_list(field->kind))
        return read_list(decoding, field, value, into);
    if (field->kind == SP_KIND_POOL)
        return read_pool(decoding, value, into);
    int failed = sp_scalar_read(decoding->vault, field, value, into);
    bool placed = sp_field_has(field, SP_PLACED) && field->size == sizeof(struct sp_text);
    return !failed && placed ? read_place(decoding, field, object, into) : failed;
}
