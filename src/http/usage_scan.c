#include "usage_scan.h"

#include <sallyport/usage.h>

#include "chars.h"
#include "usage_find.h"

enum state {
    BEGIN, /* the outermost object */
    VALUE,
    FIRST_ELEMENT, /* or the list's end */
    FIRST_NAME,    /* or the object's end */
    NEXT_NAME,
    NAME,
    COLON,
    AFTER_VALUE,
    STRING,
    NUMBER,      /* in a usage object */
    SCALAR,      /* another number, true, false, null */
    SKIP,        /* inside a list or object that has no place */
    SKIP_STRING, /* a string in there */
    WHOLE,
    FOLLOWED, /* by something else: the rest is not looked at */
    BROKEN    /* not an object, or no JSON: the rest is not looked at */
};

static const char *past_space(const char *at, const char *end) {
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

static void enter(struct sp_usage_scan *scan, uint8_t place, bool list) {
    if (scan->depth == SP_PLACE_DEPTH_MAX) {
        scan->state = BROKEN;
        return;
    }
    scan->place[scan->depth] = place;
    scan->lists = (uint8_t)(scan->lists << 1 | list);
    scan->depth++;
    scan->state = list ? FIRST_ELEMENT : FIRST_NAME;
}

static void leave(struct sp_usage_scan *scan, char bracket) {
    if ((bracket == ']') != in_list(scan)) {
        scan->state = BROKEN;
        return;
    }
    scan->depth--;
    scan->lists >>= 1;
    scan->state = scan->depth ? AFTER_VALUE : WHOLE;
}

static void say(struct sp_said *said, unsigned which, bool has) {
    said->has = (uint8_t)((said->has & ~(1u << which)) | (unsigned)has << which);
}

/* A member's value begins with `first`. A name that comes twice has its last value, so what the earlier one said is taken back. */
static void member_begins(struct sp_usage_scan *scan, char first) {
    struct sp_said *said = &scan->said[scan->saying];
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
        if (scan->value_place >= SP_PLACE_NUMBER)
            say(said, scan->value_place - SP_PLACE_NUMBER, false);
    }
}

static void name_begins(struct sp_usage_scan *scan) {
    scan->state = NAME;
    scan->name_len = 0;
    scan->escaped = false;
}

/* A quote is escaped where an odd number of backslashes precedes it. Kept out of the way of the short strings, which most are. */
__attribute__((noinline)) static const char *long_string_end(struct sp_usage_scan *scan, const char *at, const char *end) {
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

/* The quote that ends the string, or NULL: it goes on past the piece. */
static inline const char *string_end(struct sp_usage_scan *scan, const char *at, const char *end) {
    if (end - at >= 16 && !scan->escaped) {
        sp_bytes16 bytes = sp_bytes16_at(at);
        size_t first = sp_bytes16_first((sp_bytes16)((bytes == '"') | (bytes == '\\')));
        if (first < 16 && at[first] == '"')
            return at + first;
    }
    return long_string_end(scan, at, end);
}

/* A value has ended before `at`. The next name follows most of the time. */
static const char *value_ends(struct sp_usage_scan *scan, const char *at, const char *end) {
    scan->state = AFTER_VALUE;
    if (at == end || *at != ',' || in_list(scan))
        return at;
    scan->state = NEXT_NAME;
    at = past_space(at + 1, end);
    if (at == end || *at != '"')
        return at;
    name_begins(scan);
    return at + 1;
}

static const char *in_string(struct sp_usage_scan *scan, const char *at, const char *end) {
    const char *quote = string_end(scan, at, end), *stop = quote ? quote : end;
    bool skipping = scan->state == SKIP_STRING;
    if (scan->counted)
        scan->text_bytes += (size_t)(stop - at) + (skipping && quote);
    if (!quote)
        return end;
    if (!skipping)
        return value_ends(scan, quote + 1, end);
    scan->state = SKIP;
    return quote + 1;
}

static const char *in_number(struct sp_usage_scan *scan, const char *at, const char *end) {
    uint64_t number = scan->number;
    bool doubtful = scan->doubtful;
    for (unsigned digit; at < end && (digit = (unsigned)(*at - '0')) <= 9; at++) {
        number = number * 10 + digit;
        doubtful |= number > (uint64_t)SP_USAGE_TOKENS_MAX; /* and stays, so it may wrap */
    }
    for (; at < end && !ends_scalar(*at); at++)
        doubtful = true;
    scan->number = number;
    scan->doubtful = doubtful;
    if (at == end)
        return end;
    if (!scan->doubtful) {
        struct sp_said *said = &scan->said[scan->saying];
        unsigned which = scan->value_place - SP_PLACE_NUMBER;
        said->number[which] = (uint32_t)scan->number;
        say(said, which, true);
    }
    return value_ends(scan, at, end);
}

static const char *in_scalar(struct sp_usage_scan *scan, const char *at, const char *end) {
    while (at < end && !ends_scalar(*at))
        at++;
    return at < end ? value_ends(scan, at, end) : end;
}

static const char *skip(struct sp_usage_scan *scan, const char *from, const char *end) {
    const char *at = from;
    while (scan->state == SKIP && (at = sp_find_structure(at, end)) < end) {
        if (*at == '"') {
            scan->state = SKIP_STRING;
            scan->escaped = false;
        } else if (*at == '{' || *at == '[') {
            scan->skipped++;
        } else if (--scan->skipped == 0) {
            scan->state = AFTER_VALUE;
        }
        at++;
    }
    if (scan->counted)
        scan->text_bytes += (size_t)(at - from);
    return at;
}

/* A list's elements are objects with the members of its place, or mean nothing. */
static const char *container_begins(struct sp_usage_scan *scan, const char *at, const char *end) {
    bool element = in_list(scan), list = *at == '[';
    uint8_t takes = sp_place_takes[scan->value_place];
    if (element ? !list : takes & (list ? SP_PLACE_LIST : SP_PLACE_OBJECT)) {
        enter(scan, scan->value_place, list);
        return at + 1;
    }
    scan->state = SKIP;
    scan->skipped = 0;
    scan->counted = !element && takes & SP_PLACE_COUNTED;
    return skip(scan, at, end);
}

/* A value, as far as it has come: of an object or list that has a place the bracket alone. */
static const char *value_begins(struct sp_usage_scan *scan, const char *at, const char *end) {
    bool element = in_list(scan);
    if (!element && scan->value_place > SP_PLACE_TEXT)
        member_begins(scan, *at);
    if (*at == '"') {
        scan->state = STRING;
        scan->escaped = false;
        scan->counted = !element && sp_place_takes[scan->value_place] & SP_PLACE_COUNTED;
        return in_string(scan, at + 1, end);
    }
    if (*at == '{' || *at == '[')
        return container_begins(scan, at, end);
    if (scan->value_place < SP_PLACE_NUMBER) {
        scan->state = SCALAR;
        return in_scalar(scan, at, end);
    }
    scan->state = NUMBER;
    scan->number = 0;
    scan->doubtful = ends_scalar(*at);
    return in_number(scan, at, end);
}

/* A name has ended before `at`. Its value follows most of the time. */
static const char *name_ends(struct sp_usage_scan *scan, const char *at, const char *end) {
    scan->state = COLON;
    if (at == end || *at != ':')
        return at;
    scan->state = VALUE;
    at = past_space(at + 1, end);
    return at < end ? value_begins(scan, at, end) : at;
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
    scan->value_place = (uint8_t)sp_place_of_member((enum sp_place)scan->place[scan->depth - 1], name);
    return name_ends(scan, quote + 1, end);
}

/* What stands between the values of containers that have a place. Takes one byte, or a value. */
static const char *punctuation(struct sp_usage_scan *scan, const char *at, const char *end) {
    enum state state = (enum state)scan->state;
    if ((at = past_space(at, end)) == end)
        return at;
    scan->state = BROKEN;
    switch (state) {
    case BEGIN:
        if (*at == '{')
            enter(scan, SP_PLACE_ROOT, false);
        break;
    case FIRST_ELEMENT:
        if (*at == ']') {
            scan->choices_are_empty |= scan->place[scan->depth - 1] == SP_PLACE_CHOICES;
            leave(scan, ']');
            return at + 1;
        }
        return value_begins(scan, at, end);
    case VALUE:
        return value_begins(scan, at, end);
    case FIRST_NAME:
    case NEXT_NAME:
        if (*at == '}' && state == FIRST_NAME)
            leave(scan, '}');
        else if (*at == '"')
            name_begins(scan);
        break;
    case COLON:
        if (*at == ':')
            scan->state = VALUE;
        break;
    case AFTER_VALUE:
        if (*at == '}' || *at == ']') {
            leave(scan, *at);
        } else if (*at == ',') {
            scan->state = in_list(scan) ? VALUE : NEXT_NAME;
            scan->value_place = scan->place[scan->depth - 1]; /* of a list's next element; a member's name says its own */
        }
        break;
    default:
        break;
    }
    return at + 1;
}

static const char *white_space(struct sp_usage_scan *scan, const char *at, const char *end) {
    at = past_space(at, end);
    if (at < end)
        scan->state = FOLLOWED;
    return at;
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

void sp_usage_scan_feed(struct sp_usage_scan *scan, struct sp_span piece) {
    const char *at = piece.at, *end = at + piece.len;
    while (at < end) {
        switch ((enum state)scan->state) {
        case NAME:
            at = in_name(scan, at, end);
            break;
        case STRING:
        case SKIP_STRING:
            at = in_string(scan, at, end);
            break;
        case NUMBER:
            at = in_number(scan, at, end);
            break;
        case SCALAR:
            at = in_scalar(scan, at, end);
            break;
        case SKIP:
            at = skip(scan, at, end);
            break;
        case WHOLE:
            at = white_space(scan, at, end);
            break;
        case FOLLOWED:
        case BROKEN:
            return;
        default: /* between values */
            at = punctuation(scan, at, end);
        }
    }
}

bool sp_usage_scan_has_object(const struct sp_usage_scan *scan) { return scan->state == WHOLE || scan->state == FOLLOWED; }
bool sp_usage_scan_is_object(const struct sp_usage_scan *scan) { return scan->state == WHOLE; }
