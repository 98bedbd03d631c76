#include "json_scan.h"

#include <errno.h>

#include "bytes16.h"
#include "chars.h"

/* A name longer than the room is hashed piece by piece, each with the digest of those before it, so that its length does not matter; and it
 * is like no other name, for who sends it does not know the key. */
static void fold_name(struct sp_json_scan *scan) {
    uint64_t digest = sp_hash(&scan->members.key, scan->text, scan->text_len);
    memcpy(scan->text, &digest, sizeof digest);
    scan->text_len = sizeof digest;
}

/* Adds to what is captured. Of a value only the first bytes are kept, and one more, which says that there are more. */
static void keep(struct sp_json_scan *scan, const char *bytes, size_t len) {
    while (len > 0 && scan->capture != SP_JSON_SKIP) {
        size_t n = sp_min(len, sizeof scan->text - scan->text_len);
        if (n == 0 && scan->capture == SP_JSON_KEEP_VALUE)
            return;
        memcpy(scan->text + scan->text_len, bytes, n);
        scan->text_len = (uint16_t)(scan->text_len + n);
        bytes += n;
        len -= n;
        if (scan->text_len == sizeof scan->text && scan->capture == SP_JSON_KEEP_NAME)
            fold_name(scan);
    }
}

static void keep_byte(struct sp_json_scan *scan, char byte) { keep(scan, &byte, 1); }

static const char *name_ends(struct sp_json_scan *scan, struct sp_span name, const char *after) {
    const struct sp_json_level *level = &scan->levels[scan->depth - 1];
    int error = sp_json_members_add(&scan->members, level->first_member, name);
    if (error == -EEXIST)
        return sp_json_refuse_at(scan, after, scan->token_at, NOT_JSON("a duplicate member; name each member of an object once."));
    if (error)
        return sp_json_refuse_at(scan, after, scan->token_at, "The body has too many members; send objects of at most 4096 in all.");
    scan->role = (uint8_t)sp_json_ask_member(scan, level->role, name, sp_json_offset(scan, after));
    if (level->role == SP_JSON_OUTERMOST && scan->role == SP_JSON_ANYTHING && sp_json_resembles(name) != SP_JSON_ANYTHING)
        return sp_json_refuse_at(scan, after, scan->token_at,
                                 "A member's name differs from a known one only in case; send it in lower case.");
    scan->state = SP_JSON_COLON;
    return after;
}

static inline const char *string_ends(struct sp_json_scan *scan, enum sp_json_capture capture, struct sp_span text, const char *after) {
    if (capture == SP_JSON_KEEP_NAME)
        return name_ends(scan, text, after);
    scan->state = SP_JSON_COMMA_OR_END;
    const char *wrong = sp_json_ask_string(scan, text, sp_json_offset(scan, after));
    return wrong ? sp_json_refuse_at(scan, after, scan->token_at, wrong) : after;
}

static const char *begin_character(struct sp_json_scan *scan, const char *at) {
    scan->utf8_left = (uint8_t)sp_json_utf8_lead((uint8_t)*at, &scan->utf8_low, &scan->utf8_high);
    if (scan->utf8_left == 0)
        return sp_json_refuse(scan, at, NOT_JSON("text is not UTF-8; send it as such."));
    keep_byte(scan, *at);
    scan->state = SP_JSON_UTF8;
    return at + 1;
}

static const char *continue_character(struct sp_json_scan *scan, const char *at) {
    if ((uint8_t)*at < scan->utf8_low || (uint8_t)*at > scan->utf8_high)
        return sp_json_refuse(scan, at, NOT_JSON("text is not UTF-8; send it as such."));
    keep_byte(scan, *at);
    scan->utf8_low = 0x80;
    scan->utf8_high = 0xbf;
    if (--scan->utf8_left == 0)
        scan->state = SP_JSON_TEXT;
    return at + 1;
}

/* A character by its number, as UTF-8, and how many bytes of escapes stood for it. */
static void keep_character(struct sp_json_scan *scan, uint32_t character, size_t escaped_len) {
    char out[4];
    size_t len = character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len; i-- > 1; character >>= 6)
        out[i] = (char)(0x80 | (character & 0x3f));
    out[0] = (char)(lead[len] | character);
    keep(scan, out, len);
    scan->shrunk += escaped_len - len;
    scan->state = SP_JSON_TEXT;
}

static const char *escape(struct sp_json_scan *scan, const char *at) {
    /* No escape of one letter stands for NUL. */
    static const char stands_for[256] = {
        ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'};
    if (*at == 'u') {
        scan->hex = 0;
        scan->hex_left = 4;
        scan->high_surrogate = 0;
        scan->state = SP_JSON_HEX;
        return at + 1;
    }
    char byte = stands_for[(uint8_t)*at];
    if (!byte)
        return sp_json_refuse(scan, at, NOT_JSON("there is no such escape."));
    keep_byte(scan, byte);
    scan->shrunk++;
    scan->state = SP_JSON_TEXT;
    return at + 1;
}

static const char *hex_ends(struct sp_json_scan *scan, const char *after) {
    bool is_high = scan->hex >= 0xd800 && scan->hex < 0xdc00, is_low = scan->hex >= 0xdc00 && scan->hex < 0xe000;
    if (is_low != (scan->high_surrogate != 0))
        return sp_json_refuse(scan, after - 1, NOT_JSON("half of a surrogate pair is escaped alone."));
    if (is_high) {
        scan->high_surrogate = scan->hex;
        scan->state = SP_JSON_LOW_BACKSLASH;
    } else if (is_low) {
        keep_character(scan, 0x10000 + ((scan->high_surrogate & 0x3ffu) << 10 | (scan->hex & 0x3ffu)), 12);
    } else {
        keep_character(scan, scan->hex, 6);
    }
    return after;
}

static const char *hex(struct sp_json_scan *scan, const char *at) {
    if (!sp_char_is(*at, SP_CHAR_HEX))
        return sp_json_refuse(scan, at, NOT_JSON("four hexadecimal digits follow \\u."));
    scan->hex = (uint16_t)(scan->hex << 4 | sp_char_hex(*at));
    return --scan->hex_left == 0 ? hex_ends(scan, at + 1) : at + 1;
}

const char *sp_json_text_byte(struct sp_json_scan *scan, const char *at) {
    switch ((enum sp_json_state)scan->state) {
    case SP_JSON_UTF8:
        return continue_character(scan, at);
    case SP_JSON_ESCAPE:
        return escape(scan, at);
    case SP_JSON_HEX:
        return hex(scan, at);
    default: /* the second escape of a pair */
        if (*at != (scan->state == SP_JSON_LOW_BACKSLASH ? '\\' : 'u'))
            return sp_json_refuse(scan, at, NOT_JSON("half of a surrogate pair is escaped alone."));
        scan->hex = 0;
        scan->hex_left = 4;
        scan->state = scan->state == SP_JSON_LOW_BACKSLASH ? SP_JSON_LOW_U : SP_JSON_HEX;
        return at + 1;
    }
}

/* The quote that ends the string, if it is among the next 16 bytes and all before it is plain; else NULL. */
static inline const char *near_quote(const char *at, const char *end) {
    if (end - at < 16)
        return NULL;
    size_t odd;
    return sp_bytes16_find(sp_json_odd(sp_bytes16_at(at)), &odd) && at[odd] == '"' ? at + odd : NULL;
}

const char *sp_json_take_text(struct sp_json_scan *scan, const char *at, const char *end) {
    const char *from = at;
    if (scan->capture == SP_JSON_SKIP) {
        at = sp_json_run(at, end, &scan->shrunk);
    } else {
        at = sp_json_plain(at, end);
        bool is_whole = scan->capture == SP_JSON_KEEP_NAME && scan->text_len == 0 && at < end && *at == '"';
        if (is_whole && at - from <= SP_MODEL_NAME_MAX) /* as nearly all names: nothing to copy */
            return name_ends(scan, sp_span(from, (size_t)(at - from)), at + 1);
        keep(scan, from, (size_t)(at - from));
    }
    if (at == end)
        return at;
    if (*at == '"')
        return string_ends(scan, scan->capture, sp_span(scan->text, scan->text_len), at + 1);
    if (*at == '\\') {
        scan->state = SP_JSON_ESCAPE;
        return at + 1;
    }
    if ((uint8_t)*at >= 0x80)
        return begin_character(scan, at);
    return sp_json_refuse(scan, at, NOT_JSON("a control character in text; escape it."));
}

const char *sp_json_begin_text(struct sp_json_scan *scan, const char *at, const char *end, enum sp_json_capture capture) {
    scan->shrunk = 0;
    at++;
    const char *quote = near_quote(at, end);
    if (quote) /* as most strings: nothing to copy */
        return string_ends(scan, capture, sp_span(at, (size_t)(quote - at)), quote + 1);
    scan->state = SP_JSON_TEXT;
    scan->capture = (uint8_t)capture;
    scan->text_len = 0;
    return sp_json_take_text(scan, at, end);
}
