#include "json_scan.h"

/* RFC 8259, token by token. A piece of the body is read until it is used up; what may come next is in scan->state. */

size_t sp_json_scan_size(void) { return sizeof(struct sp_json_scan); }

void sp_json_begin(struct sp_json_scan *scan, const struct sp_hash_key *hash_key) {
    /* What is written before it is read is left as it is; zeroing it for each request would cost more than most bodies. */
    const size_t from = offsetof(struct sp_json_scan, ask.model_len);
    memset((char *)scan + from, 0, offsetof(struct sp_json_scan, text) - from);
    sp_json_members_begin(&scan->members, hash_key);
    scan->state = SP_JSON_BEGIN;
    scan->role = SP_JSON_OUTERMOST;
    scan->ask.n = 1;
}

const char *sp_json_refuse_at(struct sp_json_scan *scan, const char *at, uint64_t wrong_at, const char *wrong) {
    scan->state = SP_JSON_REFUSED;
    scan->wrong = wrong;
    scan->wrong_at = wrong_at;
    return at;
}

const char *sp_json_refuse(struct sp_json_scan *scan, const char *at, const char *wrong) {
    return sp_json_refuse_at(scan, at, sp_json_offset(scan, at), wrong);
}

static const char *skip_more_space(const char *at, const char *end) {
    for (; end - at >= 8 && memcmp(at, "        ", 8) == 0; at += 8) /* indented */
        ;
    while (at < end && sp_json_is_space(*at))
        at++;
    return at;
}

static inline const char *skip_space(const char *at, const char *end) {
    if (at < end && *at == ' ') /* one, mostly, or none */
        at++;
    return at == end || !sp_json_is_space(*at) ? at : skip_more_space(at + 1, end);
}

static const char *open_container(struct sp_json_scan *scan, const char *at, bool is_object) {
    if (scan->depth == SP_JSON_DEPTH_MAX)
        return sp_json_refuse(scan, at, "The body is nested too deeply; send at most 64 levels of objects and arrays.");
    scan->levels[scan->depth++] = (struct sp_json_level){
        .is_object = is_object, .role = scan->role, .begins_at = scan->token_at, .first_member = scan->members.count};
    scan->state = SP_JSON_NAME_OR_END;
    if (!is_object) {
        scan->state = SP_JSON_VALUE_OR_END;
        scan->role = (uint8_t)sp_json_ask_element(scan->role);
        scan->levels[scan->depth - 1].element_role = scan->role;
    }
    return at + 1;
}

static const char *close_container(struct sp_json_scan *scan, const char *at) {
    const struct sp_json_level *level = &scan->levels[--scan->depth];
    if (level->role <= SP_JSON_OUTERMOST || level->is_text)
        sp_json_ask_closed(scan, level, sp_json_offset(scan, at + 1));
    if (level->is_object)
        sp_json_members_close(&scan->members, level->first_member);
    scan->state = scan->depth == 0 ? SP_JSON_DONE : SP_JSON_COMMA_OR_END;
    return at + 1;
}

/* By its first byte. */
static enum sp_json_kind kind_of(char first) {
    static const uint8_t kinds[256] = {
        ['{'] = SP_JSON_IS_OBJECT,         ['['] = SP_JSON_IS_ARRAY,   ['"'] = SP_JSON_IS_STRING,  ['-'] = SP_JSON_IS_NUMBER,
        ['0' ... '9'] = SP_JSON_IS_NUMBER, ['t'] = SP_JSON_IS_BOOLEAN, ['f'] = SP_JSON_IS_BOOLEAN, ['n'] = SP_JSON_IS_NULL,
    };
    return kinds[(uint8_t)first];
}

static const char *begin_value(struct sp_json_scan *scan, const char *at, const char *end) {
    enum sp_json_kind kind = kind_of(*at);
    scan->token_at = sp_json_offset(scan, at);
    if (scan->role <= SP_JSON_ONE_PROMPT && kind != SP_JSON_IS_NONE) {
        const char *wrong = sp_json_ask_value(scan, kind);
        if (wrong)
            return sp_json_refuse(scan, at, wrong);
    }
    switch (kind) {
    case SP_JSON_IS_OBJECT:
    case SP_JSON_IS_ARRAY:
        return open_container(scan, at, kind == SP_JSON_IS_OBJECT);
    case SP_JSON_IS_STRING:
        return sp_json_begin_text(scan, at, end,
                                  scan->role == SP_JSON_MODEL || scan->role == SP_JSON_PART_TYPE ? SP_JSON_KEEP_VALUE : SP_JSON_SKIP);
    case SP_JSON_IS_NUMBER:
        return sp_json_begin_number(scan, at);
    case SP_JSON_IS_NONE:
        return sp_json_refuse(scan, at, NOT_JSON("a value must stand here."));
    default:
        return sp_json_begin_literal(scan, at);
    }
}

static const char *begin_body(struct sp_json_scan *scan, const char *at, const char *end) {
    if (*at == '{')
        return begin_value(scan, at, end);
    if (*at == '\xef')
        return sp_json_refuse(scan, at, NOT_JSON("it begins with a byte order mark; send it without."));
    if (kind_of(*at) != SP_JSON_IS_NONE)
        return sp_json_refuse(scan, at, "The body is not a JSON object; send one.");
    return sp_json_refuse(scan, at, NOT_JSON("an object must stand here."));
}

/* The value follows most of the time. */
static const char *colon(struct sp_json_scan *scan, const char *at, const char *end) {
    if (*at != ':')
        return sp_json_refuse(scan, at, NOT_JSON("a colon must follow a member's name."));
    scan->state = SP_JSON_VALUE;
    at = skip_space(at + 1, end);
    return at < end ? begin_value(scan, at, end) : at;
}

static const char *begin_name(struct sp_json_scan *scan, const char *at, const char *end) {
    if (scan->state == SP_JSON_NAME_OR_END && *at == '}')
        return close_container(scan, at);
    if (*at != '"')
        return sp_json_refuse(scan, at, NOT_JSON("a member's name in double quotes must stand here."));
    scan->token_at = sp_json_offset(scan, at);
    at = sp_json_begin_text(scan, at, end, SP_JSON_KEEP_NAME);
    return scan->state == SP_JSON_COLON && at < end && *at == ':' ? colon(scan, at, end) : at;
}

/* The next name follows most of the time. */
static const char *after_value(struct sp_json_scan *scan, const char *at, const char *end) {
    const struct sp_json_level *level = &scan->levels[scan->depth - 1];
    if (*at == (level->is_object ? '}' : ']'))
        return close_container(scan, at);
    if (*at != ',')
        return sp_json_refuse(scan, at,
                              level->is_object ? NOT_JSON("a comma or a closing brace must stand here.")
                                               : NOT_JSON("a comma or a closing bracket must stand here."));
    if (!level->is_object) {
        scan->state = SP_JSON_VALUE;
        scan->role = level->element_role;
        return at + 1;
    }
    scan->state = SP_JSON_NAME;
    at = skip_space(at + 1, end);
    return at < end ? begin_name(scan, at, end) : at;
}

/* Between tokens: `at` is no white space. */
static const char *structure(struct sp_json_scan *scan, const char *at, const char *end) {
    switch ((enum sp_json_state)scan->state) {
    case SP_JSON_BEGIN:
        return begin_body(scan, at, end);
    case SP_JSON_VALUE_OR_END:
        return *at == ']' ? close_container(scan, at) : begin_value(scan, at, end);
    case SP_JSON_VALUE:
        return begin_value(scan, at, end);
    case SP_JSON_NAME_OR_END:
    case SP_JSON_NAME:
        return begin_name(scan, at, end);
    case SP_JSON_COLON:
        return colon(scan, at, end);
    case SP_JSON_COMMA_OR_END:
        return after_value(scan, at, end);
    default:
        return sp_json_refuse(scan, at, NOT_JSON("something follows the object."));
    }
}

static const char *token(struct sp_json_scan *scan, const char *at, const char *end) {
    switch ((enum sp_json_state)scan->state) {
    case SP_JSON_TEXT:
        return sp_json_take_text(scan, at, end);
    case SP_JSON_NUMBER:
        return sp_json_number(scan, at, end);
    case SP_JSON_LITERAL:
        return sp_json_literal(scan, at, end);
    default:
        return sp_json_text_byte(scan, at);
    }
}

enum sp_http_progress sp_json_feed(struct sp_json_scan *scan, struct sp_span bytes) {
    const char *at = bytes.len ? bytes.at : "", *end = at + bytes.len;
    scan->piece = at;
    while (at < end) {
        if (scan->state < SP_JSON_TEXT) {
            at = skip_space(at, end);
            at = at < end ? structure(scan, at, end) : end;
        } else if (scan->state != SP_JSON_REFUSED) {
            at = token(scan, at, end);
        } else {
            break;
        }
    }
    scan->before += bytes.len;
    scan->piece = NULL;
    return scan->state == SP_JSON_REFUSED ? SP_HTTP_REFUSED : SP_HTTP_INCOMPLETE;
}

enum sp_http_progress sp_json_end(struct sp_json_scan *scan) {
    if (scan->state == SP_JSON_DONE)
        return SP_HTTP_COMPLETE;
    if (scan->state != SP_JSON_REFUSED)
        sp_json_refuse_at(scan, NULL, scan->before,
                          scan->state == SP_JSON_BEGIN ? "The body is empty; send a JSON object." : NOT_JSON("it ends too early."));
    return SP_HTTP_REFUSED;
}

const struct sp_ask *sp_json_ask(const struct sp_json_scan *scan) { return &scan->ask; }

const char *sp_json_wrong(const struct sp_json_scan *scan, uint64_t *ret_at) {
    *ret_at = scan->wrong_at;
    return scan->wrong;
}
