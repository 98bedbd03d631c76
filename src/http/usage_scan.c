#include "usage_scan.h"

#include <sallyport/usage.h>

#include "bytes16.h"
#include "chars.h"

enum state {
    /* Where white space may stand. */
    BEGIN, /* the outermost object */
    VALUE,
    FIRST_ELEMENT, /* or the list's end */
    FIRST_NAME,    /* or the object's end */
    NEXT_NAME,
    COLON,
    AFTER_VALUE,
    WHOLE,
    /* Where it is a part of something. */
    NAME,
    STRING,
    NUMBER,      /* in a usage object */
    SCALAR,      /* another number, true, false, null */
    SKIP,        /* inside a list or object that has no place */
    SKIP_STRING, /* a string in there */
    FOLLOWED,    /* by something else: the rest is not looked at */
    BROKEN       /* not an object, or no JSON: the rest is not looked at */
};

static inline const char *past_space(const char *at, const char *end) {
    if (at < end && *at == ' ') /* one, mostly */
        at++;
    while (at < end && sp_json_is_space(*at))
        at++;
    return at;
}

static bool ends_scalar(char c) {
    static const bool ends[256] = {[','] = true, ['}'] = true, [']'] = true, [' '] = true, ['\n'] = true, ['\r'] = true, ['\t'] = true};
    return ends[(uint8_t)c];
}

static bool in_list(const struct sp_usage_scan *scan) { return scan->lists & 1; }

static enum sp_place innermost(const struct sp_usage_scan *scan) { return (enum sp_place)scan->place[scan->depth]; }

static inline const char *enter(struct sp_usage_scan *scan, const char *at, uint8_t place, bool list) {
    if (scan->depth == SP_PLACE_DEPTH_MAX) {
        scan->state = BROKEN;
        return at;
    }
    scan->depth++;
    scan->place[scan->depth] = place;
    scan->lists = (uint8_t)(scan->lists << 1 | list);
    scan->state = list ? FIRST_ELEMENT : FIRST_NAME;
    return at + 1;
}

static void say(struct sp_said *said, unsigned which, bool has) {
    said->has = (uint8_t)((said->has & ~(1u << which)) | (unsigned)has << which);
}

/* A member's value begins with `first`. A name that comes twice has its last value, so what the earlier one said is taken back. */
static inline void take_back(struct sp_usage_scan *scan, char first) {
    struct sp_said *said = &scan->said[scan->saying];
    if (scan->value_place >= SP_PLACE_NUMBER) {
        say(said, scan->value_place - SP_PLACE_NUMBER, false);
        return;
    }
    switch (scan->value_place) {
    case SP_PLACE_USAGE:
    case SP_PLACE_MESSAGE_USAGE:
    case SP_PLACE_RESPONSE_USAGE:
        scan->saying = (uint8_t)(scan->value_place - SP_PLACE_USAGE);
        scan->usage_is_object = scan->saying == SP_SAID_AT_ROOT ? first == '{' : scan->usage_is_object;
        scan->said[scan->saying].has = 0;
        scan->value_place = SP_PLACE_USAGE;
        break;
    case SP_PLACE_MESSAGE:
        scan->said[SP_SAID_IN_MESSAGE].has = 0;
        break;
    case SP_PLACE_RESPONSE:
        scan->said[SP_SAID_IN_RESPONSE].has = 0;
        break;
    case SP_PLACE_CHOICES:
        scan->choices_are_empty = false;
        break;
    case SP_PLACE_INPUT_DETAILS:
        say(said, SP_SAID_INPUT_DETAILS, first == '{');
        break;
    default:
        break;
    }
}

/* The same, and what the place takes. */
static inline uint8_t member_begins(struct sp_usage_scan *scan, char first) {
    if (scan->value_place > SP_PLACE_TEXT)
        take_back(scan, first);
    return sp_place_takes[scan->value_place];
}

/* What may be looked at past a quote that is near without asking for the end. */
enum { PAST_NEAR = 3 };

/* The quote that ends the string whose first quote is before `at`, if it is among the next 32 bytes and no backslash precedes it. */
static inline const char *near_quote(const char *at, const char *end) {
    for (unsigned i = 0; i < 2 && end - at >= 16 + PAST_NEAR; i++, at += 16) {
        size_t first;
        if (sp_bytes16_find((sp_bytes16)(sp_bytes16_at(at) == '"'), &first))
            return at[(ptrdiff_t)first - 1] != '\\' ? at + first : NULL;
    }
    return NULL;
}

/* The quote that ends the string, or NULL: it goes on past the piece. A quote is escaped where an odd number of backslashes precedes it. */
static const char *string_end(struct sp_usage_scan *scan, const char *at, const char *end) {
    for (;;) {
        const char *quote = memchr(at, '"', (size_t)(end - at)), *stop = quote ? quote : end, *backslashes = stop;
        while (backslashes > at && backslashes[-1] == '\\')
            backslashes--;
        bool odd = ((size_t)(stop - backslashes) + (backslashes == at && scan->escaped)) & 1;
        scan->escaped = odd && !quote;
        if (!quote || !odd)
            return quote;
        at = quote + 1;
        if (at == end)
            return NULL;
    }
}

/* A value has ended before `at`. The next name follows most of the time. */
static inline const char *value_ends(struct sp_usage_scan *scan, const char *at, const char *end) {
    scan->state = AFTER_VALUE;
    if (at == end || *at != ',' || in_list(scan))
        return at;
    scan->state = NEXT_NAME;
    return past_space(at + 1, end);
}

static const char *in_string(struct sp_usage_scan *scan, const char *at, const char *end) {
    const char *quote = string_end(scan, at, end);
    if (scan->counted)
        scan->text_bytes += (size_t)((quote ? quote : end) - at);
    return quote ? value_ends(scan, quote + 1, end) : end;
}

/* No number that counts, however many digits follow. */
#define TOO_MANY ((uint64_t)SP_USAGE_TOKENS_MAX + 1)

static inline const char *in_number(struct sp_usage_scan *scan, const char *at, const char *end, uint64_t number, bool doubtful) {
    for (uint8_t digit; at < end && (digit = (uint8_t)(*at - '0')) <= 9; at++)
        number = sp_min(number * 10 + digit, TOO_MANY);
    for (; at < end && !ends_scalar(*at); at++)
        doubtful = true;
    if (at == end) {
        scan->state = NUMBER;
        scan->number = number;
        scan->doubtful = doubtful;
        return end;
    }
    if (!doubtful && number < TOO_MANY) {
        struct sp_said *said = &scan->said[scan->saying];
        unsigned which = scan->value_place - SP_PLACE_NUMBER;
        said->number[which] = (uint32_t)number;
        say(said, which, true);
    }
    return value_ends(scan, at, end);
}

static inline const char *in_scalar(struct sp_usage_scan *scan, const char *at, const char *end) {
    while (at < end && !ends_scalar(*at))
        at++;
    return at < end ? value_ends(scan, at, end) : end;
}

/* At a quote, bracket or brace. */
static const char *skip_structure(struct sp_usage_scan *scan, const char *at) {
    if (*at == '"') {
        scan->state = SKIP_STRING;
        scan->escaped = false;
    } else if (*at == '{' || *at == '[') {
        scan->skipped++;
    } else if (--scan->skipped == 0) {
        scan->state = AFTER_VALUE;
    }
    return at + 1;
}

static const char *skip(struct sp_usage_scan *scan, const char *from, const char *end) {
    const char *at = from;
    while (at < end && scan->state != AFTER_VALUE) {
        if (scan->state == SKIP) {
            at = sp_find_structure(at, end);
            at = at < end ? skip_structure(scan, at) : end;
        } else {
            const char *quote = string_end(scan, at, end);
            scan->state = quote ? SKIP : SKIP_STRING;
            at = quote ? quote + 1 : end;
        }
    }
    if (scan->counted)
        scan->text_bytes += (size_t)(at - from);
    return at;
}

static inline const char *string_begins(struct sp_usage_scan *scan, const char *at, const char *end, bool counted) {
    const char *quote = near_quote(at, end);
    if (quote) {
        if (counted)
            scan->text_bytes += (size_t)(quote - at);
        return value_ends(scan, quote + 1, end);
    }
    scan->state = STRING;
    scan->counted = counted;
    scan->escaped = false;
    return at;
}

static inline const char *container_begins(struct sp_usage_scan *scan, const char *at, uint8_t takes) {
    bool list = *at == '[';
    if (takes & (list ? SP_PLACE_LIST : SP_PLACE_OBJECT))
        return enter(scan, at, scan->value_place, list);
    scan->state = SKIP;
    scan->skipped = 0;
    scan->counted = takes & SP_PLACE_COUNTED;
    return at;
}

/* A value that is no white space, where the place says what it takes. */
__attribute__((always_inline)) static inline const char *value_begins(struct sp_usage_scan *scan, const char *at, const char *end,
                                                                      uint8_t takes) {
    if (*at == '"')
        return string_begins(scan, at + 1, end, takes & SP_PLACE_COUNTED);
    if (*at == '{' || *at == '[')
        return container_begins(scan, at, takes);
    if (scan->value_place < SP_PLACE_NUMBER) {
        scan->state = SCALAR;
        return in_scalar(scan, at, end);
    }
    return in_number(scan, at, end, 0, ends_scalar(*at));
}

/* A list's elements are objects with the members of its place, or mean nothing. */
static const char *value(struct sp_usage_scan *scan, const char *at, const char *end) {
    if (sp_json_is_space(*at))
        return past_space(at, end);
    return value_begins(scan, at, end, in_list(scan) ? SP_PLACE_OBJECT : member_begins(scan, *at));
}

static inline void name_is(struct sp_usage_scan *scan, struct sp_span name) {
    scan->value_place = (uint8_t)sp_place_of_member(innermost(scan), name);
}

/* A member, as far as it has come: mostly its value follows its name. */
static inline const char *member(struct sp_usage_scan *scan, const char *at, const char *end) {
    const char *quote = near_quote(at, end);
    if (!quote) {
        scan->state = NAME;
        scan->name_len = 0;
        scan->escaped = false;
        return at;
    }
    name_is(scan, sp_span(at, (size_t)(quote - at)));
    at = quote + 2;
    at += *at == ' ';
    if (quote[1] == ':' && !sp_json_is_space(*at))
        return value_begins(scan, at, end, member_begins(scan, *at));
    scan->state = COLON;
    return quote + 1;
}

static const char *in_name(struct sp_usage_scan *scan, const char *at, const char *end) {
    const char *quote = string_end(scan, at, end);
    struct sp_span name = sp_span(at, (size_t)((quote ? quote : end) - at));
    if (!quote || scan->name_len) {
        size_t n = sp_min(name.len, sizeof scan->name - scan->name_len);
        memcpy(scan->name + scan->name_len, name.at, n);
        scan->name_len = (uint8_t)(scan->name_len + n); /* one that fills the room is longer than any that is asked for */
        name = sp_span(scan->name, scan->name_len);
    }
    if (!quote)
        return end;
    name_is(scan, name);
    scan->state = COLON;
    return quote + 1;
}

/* ---- Between values ---- */

/* Nothing that may stand here, unless it is white space. */
static const char *other(struct sp_usage_scan *scan, const char *at, const char *end) {
    if (!sp_json_is_space(*at))
        scan->state = scan->state == WHOLE ? FOLLOWED : BROKEN;
    return past_space(at, end);
}

static const char *container_ends(struct sp_usage_scan *scan, const char *at, const char *end) {
    if ((*at == ']') != in_list(scan))
        return other(scan, at, end);
    scan->depth--;
    scan->lists >>= 1;
    scan->state = WHOLE;
    return scan->depth ? value_ends(scan, at + 1, end) : at + 1;
}

static const char *first_element(struct sp_usage_scan *scan, const char *at, const char *end) {
    if (sp_json_is_space(*at))
        return past_space(at, end);
    scan->state = *at == ']' ? AFTER_VALUE : VALUE;
    scan->choices_are_empty |= *at == ']' && innermost(scan) == SP_PLACE_CHOICES;
    return at;
}

static const char *after_value(struct sp_usage_scan *scan, const char *at, const char *end) {
    if (*at == '}' || *at == ']')
        return container_ends(scan, at, end);
    if (*at != ',')
        return other(scan, at, end);
    scan->state = in_list(scan) ? VALUE : NEXT_NAME;
    scan->value_place = (uint8_t)innermost(scan); /* of a list's next element; a member's name says its own */
    return at + 1;
}

static const char *colon(struct sp_usage_scan *scan, const char *at, const char *end) {
    if (*at != ':')
        return other(scan, at, end);
    scan->state = VALUE;
    return at + 1;
}

void sp_usage_scan_begin(struct sp_usage_scan *scan) {
    for (size_t i = 0; i < SP_SAID_PLACES; i++)
        scan->said[i].has = 0;
    scan->usage_is_object = scan->choices_are_empty = false;
    scan->state = BEGIN;
    scan->depth = 0;
    scan->lists = 0;
    scan->saying = SP_SAID_AT_ROOT;
}

/* Each state takes what it can, at least a byte or a change of state, until the piece is used up. */
void sp_usage_scan_feed(struct sp_usage_scan *scan, struct sp_span piece) {
    const char *at = piece.at, *end = at + piece.len;
    while (at < end) {
        if (*at == '"' && (scan->state == FIRST_NAME || scan->state == NEXT_NAME)) {
            at = member(scan, at + 1, end);
            continue;
        }
        switch ((enum state)scan->state) {
        case BEGIN:
            at = *at == '{' ? enter(scan, at, SP_PLACE_ROOT, false) : other(scan, at, end);
            break;
        case VALUE:
            at = value(scan, at, end);
            break;
        case FIRST_ELEMENT:
            at = first_element(scan, at, end);
            break;
        case FIRST_NAME:
            at = *at == '}' ? container_ends(scan, at, end) : other(scan, at, end);
            break;
        case NEXT_NAME:
            at = other(scan, at, end);
            break;
        case COLON:
            at = colon(scan, at, end);
            break;
        case AFTER_VALUE:
            at = after_value(scan, at, end);
            break;
        case WHOLE:
            at = other(scan, at, end);
            break;
        case NAME:
            at = in_name(scan, at, end);
            break;
        case STRING:
            at = in_string(scan, at, end);
            break;
        case NUMBER:
            at = in_number(scan, at, end, scan->number, scan->doubtful);
            break;
        case SCALAR:
            at = in_scalar(scan, at, end);
            break;
        case SKIP:
        case SKIP_STRING:
            at = skip(scan, at, end);
            break;
        case FOLLOWED:
        case BROKEN:
            return;
        }
    }
}

bool sp_usage_scan_has_object(const struct sp_usage_scan *scan) { return scan->state == WHOLE || scan->state == FOLLOWED; }
bool sp_usage_scan_is_object(const struct sp_usage_scan *scan) { return scan->state == WHOLE; }
