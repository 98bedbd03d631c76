#include <errno.h>
#include <yaml.h>

#include "source.h"

#define WHOLE_CONTAINER SIZE_MAX
#define KEY_MAX         256

struct placed {
    struct sp_map_node node;
    const json_t *parent;
    const char *key; /* NULL: the item `index`, or the container itself */
    size_t index;
    struct sp_place key_at, value_at;
};

struct frame {
    json_t *container; /* borrowed */
    const char *key;   /* of the value that comes next; NULL in a mapping: a key comes next */
    struct sp_place key_at;
    bool dropped; /* the key is a duplicate or unusable, and so its value is read but not kept */
};

struct reading {
    struct sp_source *source;
    yaml_parser_t parser;
    struct frame frames[SP_YAML_DEPTH_MAX];
    size_t depth, values, max_values;
    json_t *dropped; /* owns what duplicate keys hold */
    bool broken;     /* there is a finding */
    bool has_document;
};

/* ---- Places ---- */

static uint64_t place_hash(const struct sp_source *source, const json_t *parent, const char *key, size_t index) {
    uint64_t parent_hash = sp_hash(&source->hash_key, &parent, sizeof parent);
    return parent_hash ^ (key ? sp_hash(&source->hash_key, key, strlen(key)) : (uint64_t)index * UINT64_C(0x9E3779B97F4A7C15));
}

static const struct placed *find_place(const struct sp_source *source, const json_t *parent, const char *key, size_t index) {
    uint64_t hash = place_hash(source, parent, key, index);
    for (struct sp_map_node *node = sp_map_first(&source->places, hash); node; node = sp_map_next(node)) {
        const struct placed *placed = SP_CONTAINER(node, struct placed, node);
        bool same_key = key ? placed->key && strcmp(placed->key, key) == 0 : !placed->key && placed->index == index;
        if (placed->parent == parent && same_key)
            return placed;
    }
    return NULL;
}

static int note_place(struct sp_source *source, const json_t *parent, const char *key, size_t index, struct sp_place key_at,
                      struct sp_place value_at) {
    struct placed *placed = sp_vault_alloc(&source->memory, sizeof *placed);
    if (!placed)
        return -ENOMEM;
    *placed = (struct placed){.parent = parent, .key = key, .index = index, .key_at = key_at, .value_at = value_at};
    return sp_map_add(&source->places, &placed->node, place_hash(source, parent, key, index));
}

struct sp_place sp_source_container(const struct sp_source *source, const json_t *container) {
    const struct placed *placed = find_place(source, container, NULL, WHOLE_CONTAINER);
    return placed ? placed->value_at : (struct sp_place){1, 1};
}

bool sp_source_gives(const struct sp_source *source, const json_t *object, const char *key) {
    return find_place(source, object, key, 0) != NULL;
}

struct sp_place sp_source_key(const struct sp_source *source, const json_t *object, const char *key) {
    const struct placed *placed = find_place(source, object, key, 0);
    return placed ? placed->key_at : sp_source_container(source, object);
}

struct sp_place sp_source_value(const struct sp_source *source, const json_t *object, const char *key) {
    const struct placed *placed = find_place(source, object, key, 0);
    return placed ? placed->value_at : sp_source_container(source, object);
}

struct sp_place sp_source_item(const struct sp_source *source, const json_t *array, size_t index) {
    const struct placed *placed = find_place(source, array, NULL, index);
    return placed ? placed->value_at : sp_source_container(source, array);
}

/* ---- Scalars ---- */

static bool is_one_of(struct sp_span text, const char *const *words) {
    for (; *words; words++)
        if (sp_span_eq(text, sp_span_text(*words)))
            return true;
    return false;
}

/* The numbers of JSON, which are those of YAML's core schema without its octal, hexadecimal and infinite ones. NULL: not a number. */
static json_t *number_of(struct sp_span text) {
    if (text.len == 0 || text.len > 64 || strspn(text.at, "0123456789+-.eE") != text.len)
        return NULL;
    return json_loadb(text.at, text.len, JSON_DECODE_ANY, NULL);
}

/* YAML 1.2's core schema (§10.3): only a plain scalar can be null, a boolean or a number. NULL: out of memory. `text` is NUL-terminated. */
static json_t *value_of(struct sp_span text, bool plain) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const truths[] = {"true", "True", "TRUE", NULL};
    static const char *const untruths[] = {"false", "False", "FALSE", NULL};
    if (plain && is_one_of(text, nulls))
        return json_null();
    if (plain && is_one_of(text, truths))
        return json_true();
    if (plain && is_one_of(text, untruths))
        return json_false();
    json_t *number = plain ? number_of(text) : NULL;
    return number ? number : json_stringn(text.at, text.len);
}

static const char *problem_of_text(struct sp_span text) {
    if (text.len > SP_YAML_SCALAR_MAX)
        return "this text is longer than 8192 bytes; shorten it";
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.at[i] < 0x20 || text.at[i] == 0x7f)
            return "this text contains a line break or another control character; write it on one line without";
    return sp_utf8_valid(text) ? NULL : "this text is not valid UTF-8; save the file as UTF-8";
}

/* For text that has been refused: close enough to it not to be refused again for another reason. */
static json_t *stand_in(struct sp_span text) {
    _cleanup_(sp_free_pointer) char *copy = sp_span_dup(text);
    for (size_t i = 0; copy && i < text.len; i++)
        if ((unsigned char)copy[i] < 0x20 || copy[i] == 0x7f)
            copy[i] = '_';
    return copy && sp_utf8_valid(text) ? json_stringn(copy, text.len) : json_string("_");
}

/* ---- Events ---- */

static struct sp_place place_of(yaml_mark_t mark) { return (struct sp_place){(unsigned)mark.line + 1, (unsigned)mark.column + 1}; }

/* A finding after which nothing more can be known about the file. */
static int refuse(struct reading *reading, struct sp_place place, const char *problem) {
    reading->broken = true;
    sp_source_error(reading->source, place, "%s", problem);
    return -EINVAL;
}

/* Puts a value (taken) where the file has it. */
static int attach(struct reading *reading, json_t *value, struct sp_place place) {
    struct sp_source *source = reading->source;
    if (!value)
        return -ENOMEM;
    if (reading->depth == 0) {
        source->root = value;
        return 0;
    }
    struct frame *frame = &reading->frames[reading->depth - 1];
    if (frame->dropped) {
        frame->dropped = false;
        frame->key = NULL;
        return json_array_append_new(reading->dropped, value) < 0 ? -ENOMEM : 0;
    }
    int failed, noted;
    if (json_is_object(frame->container)) {
        failed = json_object_set_new(frame->container, frame->key, value);
        noted = failed ? 0 : note_place(source, frame->container, frame->key, 0, frame->key_at, place);
        frame->key = NULL;
    } else {
        size_t index = json_array_size(frame->container);
        failed = json_array_append_new(frame->container, value);
        noted = failed ? 0 : note_place(source, frame->container, NULL, index, place, place);
    }
    return failed ? -ENOMEM : noted;
}

static bool awaits_key(const struct reading *reading) {
    const struct frame *frame = reading->depth ? &reading->frames[reading->depth - 1] : NULL;
    return frame && json_is_object(frame->container) && !frame->key;
}

static int take_key(struct reading *reading, struct sp_span text, bool plain, struct sp_place place) {
    struct sp_source *source = reading->source;
    struct frame *frame = &reading->frames[reading->depth - 1];
    if (plain && sp_span_eq(text, SP_SPAN("<<")))
        return refuse(reading, place, "merge keys (<<) are not taken; write the keys out");
    const char *problem = text.len > KEY_MAX ? "this key is longer than 256 bytes; shorten it" : problem_of_text(text);
    if (text.len == 0)
        problem = "a key is empty; give it a name or remove it";
    frame->key = problem ? "" : sp_vault_text(&source->memory, text);
    frame->key_at = place;
    if (!frame->key)
        return -ENOMEM;
    bool duplicate = !problem && json_object_get(frame->container, frame->key);
    frame->dropped = problem || duplicate;
    if (problem)
        sp_source_error(source, place, "%s", problem);
    if (duplicate)
        sp_source_error(source, place, "duplicate key `%s`, given first in line %u; keep one of them", frame->key,
                        sp_source_key(source, frame->container, frame->key).line);
    reading->broken |= frame->dropped;
    return 0;
}

static int take_scalar(struct reading *reading, const yaml_event_t *event) {
    struct sp_span text = sp_span((const char *)event->data.scalar.value, event->data.scalar.length);
    struct sp_place place = place_of(event->start_mark);
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (awaits_key(reading))
        return take_key(reading, text, plain, place);
    if (reading->depth == 0)
        return refuse(reading, place, "expected keys with values, such as `version: 1`");
    const char *problem = problem_of_text(text);
    if (problem) {
        reading->broken = true;
        sp_source_error(reading->source, place, "%s", problem);
        return attach(reading, stand_in(text), place);
    }
    return attach(reading, value_of(text, plain), place);
}

static int open_container(struct reading *reading, json_t *container, struct sp_place place) {
    const char *problem = NULL;
    if (awaits_key(reading))
        problem = "a key must be plain text";
    else if (reading->depth == SP_YAML_DEPTH_MAX)
        problem = "this is nested deeper than any key is; check the indentation and the brackets";
    else if (reading->depth == 0 && json_is_array(container))
        problem = "expected keys with values, such as `version: 1`, not a list";
    if (problem) {
        json_decref(container);
        return refuse(reading, place, problem);
    }
    int failed = attach(reading, container, place);
    if (failed)
        return failed;
    reading->frames[reading->depth++] = (struct frame){.container = container};
    return note_place(reading->source, container, NULL, WHOLE_CONTAINER, place, place);
}

/* What this reader leaves out of YAML on purpose: all that makes one text mean what stands elsewhere. */
static const char *refused_feature(const yaml_event_t *event) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_ALIAS_EVENT)
        return "aliases (*name) are not taken; write the value out";
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor)
        return "anchors (&name) are not taken; write the value out where it is needed";
    return tag ? "tags (!name) are not taken; remove it" : NULL;
}

static int take_event(struct reading *reading, const yaml_event_t *event) {
    struct sp_place place = place_of(event->start_mark);
    const char *refused = refused_feature(event);
    if (refused)
        return refuse(reading, place, refused);
    bool is_value = event->type == YAML_SCALAR_EVENT || event->type == YAML_SEQUENCE_START_EVENT || event->type == YAML_MAPPING_START_EVENT;
    if (is_value && ++reading->values > reading->max_values)
        return refuse(reading, place, "the file holds more values than any configuration needs; shorten it");
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (reading->has_document)
            return refuse(reading, place, "a second document begins here (---); keep one in the file");
        reading->has_document = true;
        return 0;
    case YAML_SCALAR_EVENT:
        return take_scalar(reading, event);
    case YAML_SEQUENCE_START_EVENT:
        return open_container(reading, json_array(), place);
    case YAML_MAPPING_START_EVENT:
        return open_container(reading, json_object(), place);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        reading->depth--;
        return 0;
    default:
        return 0;
    }
}

/* libyaml names a byte, not a line, where the encoding is broken. */
static struct sp_place place_of_offset(struct sp_span yaml, size_t offset) {
    struct sp_place place = {1, 1};
    for (size_t i = 0; i < sp_min(offset, yaml.len); i++) {
        place.column++;
        if (yaml.at[i] == '\n')
            place = (struct sp_place){place.line + 1, 1};
    }
    return place;
}

static int refuse_syntax(struct reading *reading, struct sp_span yaml) {
    const yaml_parser_t *parser = &reading->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return -ENOMEM;
    reading->broken = true;
    const char *problem = parser->problem ? parser->problem : "it cannot be read";
    if (parser->error == YAML_READER_ERROR)
        sp_source_error(reading->source, place_of_offset(yaml, parser->problem_offset),
                        "not valid YAML: %s; save the file as UTF-8 without control characters", problem);
    else
        sp_source_error(reading->source, place_of(parser->problem_mark), "not valid YAML: %s%s%s; check indentation, quotes and brackets",
                        problem, parser->context ? " " : "", parser->context ? parser->context : "");
    return -EINVAL;
}

static int take_events(struct reading *reading, struct sp_span yaml) {
    for (bool done = false; !done;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&reading->parser, &event))
            return refuse_syntax(reading, yaml);
        done = event.type == YAML_STREAM_END_EVENT;
        int failed = take_event(reading, &event);
        yaml_event_delete(&event);
        if (failed)
            return failed;
    }
    if (!reading->source->root && reading->source->may_be_empty)
        reading->source->root = json_object();
    else if (!reading->source->root)
        return refuse(reading, (struct sp_place){1, 1}, "the file is empty; it needs at least `version: 1`");
    reading->source->whole = reading->source->root != NULL;
    if (!reading->source->whole)
        return -ENOMEM;
    return reading->broken ? -EINVAL : 0;
}

/* ---- The whole ---- */

void sp_source_init(struct sp_source *source, const char *name, unsigned order, struct sp_findings *findings) {
    *source = (struct sp_source){.name = name, .order = order, .findings = findings};
    sp_map_init(&source->places);
    sp_random(&source->hash_key, sizeof source->hash_key);
}

void sp_source_free(struct sp_source *source) {
    json_decref(source->root);
    source->root = NULL;
    sp_map_free(&source->places);
    sp_vault_free(&source->memory);
}

int sp_source_read(struct sp_source *source, struct sp_span yaml, size_t max_bytes, size_t max_values) {
    struct reading reading = {.source = source, .max_values = max_values};
    if (yaml.len > max_bytes) {
        sp_source_error(source, ((struct sp_place){1, 1}), "the file is larger than %zu KiB; shorten it", max_bytes / 1024);
        return -EINVAL;
    }
    reading.dropped = json_array();
    if (!reading.dropped)
        return -ENOMEM;
    int failed = -ENOMEM;
    if (yaml_parser_initialize(&reading.parser)) {
        yaml_parser_set_encoding(&reading.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&reading.parser, (const unsigned char *)yaml.at, yaml.len);
        failed = take_events(&reading, yaml);
        yaml_parser_delete(&reading.parser);
    }
    json_decref(reading.dropped);
    return failed;
}
