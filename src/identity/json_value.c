#include "json_value.h"

#define FEW 16 /* members whose names are compared each with each */

struct reader {
    char *at; /* the text ends with a NUL, which is nowhere allowed in it */
    struct sp_json_value *values, *next;
    struct sp_json_value *open[SP_JSON_DEPTH_MAX];
    size_t depth;
};

static void skip_space(struct reader *reader) {
    while (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\r' || *reader->at == '\t')
        reader->at++;
}

static bool take_word(struct reader *reader, struct sp_span word) {
    if (strncmp(reader->at, word.at, word.len) != 0)
        return false;
    reader->at += word.len;
    return true;
}

/* ---- Strings ---- */

static bool is_plain(char c) { return (uint8_t)c >= 0x20 && c != '"' && c != '\\'; }

static bool take_hex(const char *digits, uint32_t *ret) {
    uint8_t bytes[2];
    if (strnlen(digits, 4) < 4 || !sp_unhex(sp_span(digits, 4), bytes, sizeof bytes))
        return false;
    *ret = (uint32_t)bytes[0] << 8 | bytes[1];
    return true;
}

static char *write_utf8(uint32_t code, char *out) {
    if (code < 0x80) {
        *out++ = (char)code;
        return out;
    }
    if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *out++ = (char)(0xe0 | code >> 12);
        } else {
            *out++ = (char)(0xf0 | code >> 18);
            *out++ = (char)(0x80 | (code >> 12 & 0x3f));
        }
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
    }
    *out++ = (char)(0x80 | (code & 0x3f));
    return out;
}

/* \uXXXX, or two of them for what is beyond the first plane (RFC 8259 §7). *at is behind the "u". */
static bool take_code(char **at, char **out) {
    uint32_t code, low;
    if (!take_hex(*at, &code) || code == 0)
        return false;
    *at += 4;
    if (code >= 0xd800 && code <= 0xdfff) {
        if (code >= 0xdc00 || (*at)[0] != '\\' || (*at)[1] != 'u' || !take_hex(*at + 2, &low) || low < 0xdc00 || low > 0xdfff)
            return false;
        *at += 6;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    *out = write_utf8(code, *out);
    return true;
}

static bool take_escape(char **at, char **out) {
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    char c = *(*at)++;
    if (c == 'u')
        return take_code(at, out);
    const char *found = c ? strchr(escapes, c) : NULL;
    if (!found)
        return false;
    *(*out)++ = meanings[found - escapes];
    return true;
}

/* What a string decodes to is never longer than its text. */
static bool take_string(struct reader *reader, struct sp_span *ret) {
    if (*reader->at != '"')
        return false;
    char *begin = reader->at + 1, *at = begin;
    while (is_plain(*at))
        at++;
    char *out = at;
    while (*at != '"') {
        if (is_plain(*at))
            *out++ = *at++;
        else if (*at++ != '\\' || !take_escape(&at, &out))
            return false;
    }
    *ret = sp_span(begin, (size_t)(out - begin));
    reader->at = at + 1;
    return true;
}

/* ---- Numbers ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool skip_digits(char **at) {
    char *begin = *at;
    while (is_digit(**at))
        (*at)++;
    return *at > begin;
}

/* Of its text only the digits and a sign are left. */
static bool read_integer(const char *at, const char *end, int64_t *ret) {
    bool negative = *at == '-';
    int64_t number = 0;
    for (at += negative; at < end; at++) {
        int digit = *at - '0';
        if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, negative ? -digit : digit, &number))
            return false;
    }
    *ret = number;
    return true;
}

static bool take_number(struct reader *reader, struct sp_json_value *value) {
    char *begin = reader->at, *at = begin + (*begin == '-'), *digits = at;
    if (!skip_digits(&at) || (*digits == '0' && at > digits + 1))
        return false;
    char *whole = at;
    if (*at == '.' && (at++, !skip_digits(&at)))
        return false;
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-';
        if (!skip_digits(&at))
            return false;
    }
    reader->at = at;
    if (at == whole) {
        value->kind = SP_JSON_INTEGER;
        return read_integer(begin, at, &value->integer);
    }
    value->kind = SP_JSON_REAL;
    value->real = strtod(begin, NULL);
    return __builtin_isfinite(value->real);
}

/* ---- Names ---- */

static int compare_names(const void *a, const void *b) {
    const struct sp_span *x = *(const struct sp_span *const *)a, *y = *(const struct sp_span *const *)b;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return x->len ? memcmp(x->at, y->at, x->len) : 0;
}

/* Sorted, so that many names of a stranger's choice take no more than their number's worth. */
static bool has_twins_sorted(const struct sp_json_value *object, size_t count) {
    _cleanup_(sp_free_pointer) const struct sp_span **names = reallocarray(NULL, count, sizeof *names);
    size_t n = 0;
    if (!names)
        return true; /* it cannot be told, and is refused */
    sp_json_value_each(member, object) names[n++] = &member->name;
    qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 1; i < n; i++)
        if (sp_span_eq(*names[i - 1], *names[i]))
            return true;
    return false;
}

static bool has_twins(const struct sp_json_value *object) {
    struct sp_span names[FEW];
    size_t n = 0, count = 0;
    sp_json_value_each(member, object) count++;
    if (count > FEW)
        return has_twins_sorted(object, count);
    sp_json_value_each(member, object) {
        for (size_t i = 0; i < n; i++)
            if (sp_span_eq(names[i], member->name))
                return true;
        names[n++] = member->name;
    }
    return false;
}

/* ---- Values ---- */

static bool take_name(struct reader *reader, struct sp_span *ret) {
    if (!take_string(reader, ret))
        return false;
    skip_space(reader);
    return *reader->at++ == ':';
}

static bool take_scalar(struct reader *reader, struct sp_json_value *value) {
    switch (*reader->at) {
    case '"':
        value->kind = SP_JSON_STRING;
        return take_string(reader, &value->text);
    case 't':
        value->kind = SP_JSON_TRUE;
        return take_word(reader, SP_SPAN("true"));
    case 'f':
        value->kind = SP_JSON_FALSE;
        return take_word(reader, SP_SPAN("false"));
    case 'n':
        value->kind = SP_JSON_NULL;
        return take_word(reader, SP_SPAN("null"));
    default:
        return take_number(reader, value);
    }
}

static bool close_container(struct reader *reader) {
    struct sp_json_value *container = reader->open[--reader->depth];
    container->size = (uint32_t)(reader->next - container);
    reader->at++;
    return container->kind != SP_JSON_OBJECT || !has_twins(container);
}

static char closing(const struct reader *reader) { return reader->open[reader->depth - 1]->kind == SP_JSON_OBJECT ? '}' : ']'; }

/* What a value begins with: all of it, or of a container the bracket. */
static bool begin_value(struct reader *reader) {
    struct sp_json_value *value = reader->next++;
    struct sp_span name = sp_span(NULL, 0);
    if (reader->depth && reader->open[reader->depth - 1]->kind == SP_JSON_OBJECT && !take_name(reader, &name))
        return false;
    skip_space(reader);
    value->name = name;
    value->size = 1;
    if (*reader->at != '{' && *reader->at != '[')
        return take_scalar(reader, value);
    if (reader->depth == SP_JSON_DEPTH_MAX)
        return false;
    value->kind = *reader->at++ == '{' ? SP_JSON_OBJECT : SP_JSON_ARRAY;
    reader->open[reader->depth++] = value;
    return true;
}

bool sp_json_value_read(char *text, size_t len, struct sp_json_value *values) {
    struct reader reader = {.at = text, .values = values, .next = values};
    if (!sp_utf8_valid(sp_span(text, len)))
        return false;
    text[len] = 0;
    skip_space(&reader);
    if (*reader.at != '{' || !begin_value(&reader))
        return false;
    bool first = true; /* of what the innermost container holds */
    while (reader.depth) {
        skip_space(&reader);
        if (*reader.at == closing(&reader)) {
            if (!close_container(&reader))
                return false;
            first = false;
            continue;
        }
        if (!first && *reader.at++ != ',')
            return false;
        size_t depth = reader.depth;
        skip_space(&reader);
        if (!begin_value(&reader))
            return false;
        first = reader.depth > depth;
    }
    skip_space(&reader);
    return reader.at == text + len;
}

const struct sp_json_value *sp_json_value_member(const struct sp_json_value *object, struct sp_span name) {
    if (!sp_json_value_is(object, SP_JSON_OBJECT))
        return NULL;
    sp_json_value_each(member, object) {
        if (sp_span_eq(member->name, name))
            return member;
    }
    return NULL;
}

bool sp_json_value_text(const struct sp_json_value *value, struct sp_span *ret) {
    if (!sp_json_value_is(value, SP_JSON_STRING))
        return false;
    *ret = value->text;
    return true;
}
