#include <sallyport/json.h>

#include <errno.h>

#include "chars.h"
#include "json_scan.h"
#include "multipart_head.h"

/* multipart/form-data (RFC 7578) within the grammar of RFC 2046 §5.1.1, without what readers are known to differ about: a preamble, an
 * epilogue, white space after a boundary, a boundary that goes on, line ends other than CR LF. */

#define PART_HEAD_MAX   8192
#define MALFORMED(what) "The body is not valid multipart/form-data: " what

enum state {
    FIRST_BOUNDARY,
    BOUNDARY_ENDS, /* CR LF, or "--" after the last part */
    BOUNDARY_LF,
    LAST_DASH,
    HEAD,
    CONTENT,
    CLOSED, /* may end here; or CR LF follows */
    CLOSED_LF,
    ENDED,
    BROKEN,
};

struct sp_multipart_scan {
    const char *piece; /* the bytes at hand, and how many came before them */
    uint64_t before;
    uint8_t state;
    uint8_t role; /* enum sp_json_role, of the part at hand */
    bool any_part;
    uint32_t seen; /* bit 1 << role */
    uint8_t delimiter_len, matched;
    char delimiter[4 + SP_MULTIPART_BOUNDARY_MAX]; /* CR LF "--" and the boundary */
    uint16_t head_len, value_len;
    uint64_t part_at; /* its head; then its content */
    const char *wrong;
    uint64_t wrong_at;
    struct sp_ask ask;
    char value[SP_MODEL_NAME_MAX + 1]; /* one byte more says that it is too long */
    char head[PART_HEAD_MAX];
};

size_t sp_multipart_scan_size(void) { return sizeof(struct sp_multipart_scan); }

int sp_multipart_begin(struct sp_multipart_scan *scan, struct sp_span content_type) {
    struct sp_span boundary;
    if (!sp_multipart_boundary(content_type, &boundary))
        return -EINVAL;
    memset(scan, 0, offsetof(struct sp_multipart_scan, value));
    memcpy(scan->delimiter, "\r\n--", 4);
    memcpy(scan->delimiter + 4, boundary.at, boundary.len);
    scan->delimiter_len = (uint8_t)(4 + boundary.len);
    scan->state = FIRST_BOUNDARY;
    scan->matched = 2; /* the first one begins the body, not a line */
    scan->ask.n = 1;
    return 0;
}

static uint64_t offset(const struct sp_multipart_scan *scan, const char *at) { return scan->before + (uint64_t)(at - scan->piece); }

static const char *refuse_at(struct sp_multipart_scan *scan, const char *at, uint64_t wrong_at, const char *wrong) {
    scan->state = BROKEN;
    scan->wrong = wrong;
    scan->wrong_at = wrong_at;
    return at;
}

static const char *refuse(struct sp_multipart_scan *scan, const char *at, const char *wrong) {
    return refuse_at(scan, at, offset(scan, at), wrong);
}

static const char *first_boundary(struct sp_multipart_scan *scan, const char *at) {
    if (*at != scan->delimiter[scan->matched])
        return refuse(scan, at, MALFORMED("it must begin with the boundary that Content-Type names."));
    if (++scan->matched == scan->delimiter_len)
        scan->state = BOUNDARY_ENDS;
    return at + 1;
}

/* The bytes that follow a boundary, and those that follow the last. */
static const char *after_boundary(struct sp_multipart_scan *scan, const char *at) {
    static const char expected[] = {[BOUNDARY_LF] = '\n', [LAST_DASH] = '-', [CLOSED] = '\r', [CLOSED_LF] = '\n', [ENDED] = '\0'};
    static const uint8_t then[] = {[BOUNDARY_LF] = HEAD, [LAST_DASH] = CLOSED, [CLOSED] = CLOSED_LF, [CLOSED_LF] = ENDED};
    if (scan->state == BOUNDARY_ENDS && *at == '\r') {
        scan->state = BOUNDARY_LF;
    } else if (scan->state == BOUNDARY_ENDS && *at == '-' && scan->any_part) {
        scan->state = LAST_DASH;
    } else if (scan->state != BOUNDARY_ENDS && scan->state != ENDED && *at == expected[scan->state]) {
        scan->state = then[scan->state];
    } else {
        return refuse(scan, at,
                      scan->state >= CLOSED ? MALFORMED("something follows the last boundary.")
                                            : MALFORMED("a boundary must be followed by a line end, the last one by two hyphens."));
    }
    scan->head_len = 0;
    scan->part_at = offset(scan, at + 1);
    return at + 1;
}

static bool is_asked_for(enum sp_json_role role) { return role == SP_JSON_MODEL || role == SP_JSON_STREAM || sp_ask_is_count(role); }

/* What the part is for, once its head is whole. */
static const char *begin_part(struct sp_multipart_scan *scan, const char *after) {
    struct sp_multipart_head head;
    const char *wrong = sp_multipart_parse_head(sp_span(scan->head, scan->head_len), &head);
    if (wrong)
        return refuse_at(scan, after, scan->part_at, wrong);
    scan->role = (uint8_t)sp_json_known(head.name);
    if (!is_asked_for(scan->role))
        scan->role = SP_JSON_ANYTHING;
    if (is_asked_for(sp_json_resembles(head.name)))
        return refuse_at(scan, after, scan->part_at, "A part's name differs from a known one only in case; send it in lower case.");
    if (scan->role != SP_JSON_ANYTHING) {
        if (head.is_file || !head.is_utf8)
            return refuse_at(scan, after, scan->part_at,
                             "A part named model, stream, n or max_tokens is not plain text; send its value as text.");
        if (scan->seen & UINT32_C(1) << scan->role)
            return refuse_at(scan, after, scan->part_at, "Two parts have one name; send model, stream, n and max_tokens once each.");
        scan->seen |= UINT32_C(1) << scan->role;
    }
    scan->any_part = true;
    scan->state = CONTENT;
    scan->matched = 0;
    scan->value_len = 0;
    scan->part_at = offset(scan, after);
    return after;
}

static const char *head(struct sp_multipart_scan *scan, const char *at, const char *end) {
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    size_t n = (size_t)((newline ? newline + 1 : end) - at), room = sizeof scan->head - scan->head_len;
    if (n > room)
        return refuse_at(scan, at, scan->part_at, "A part's head is too long; send at most 8192 bytes.");
    memcpy(scan->head + scan->head_len, at, n);
    scan->head_len = (uint16_t)(scan->head_len + n);
    struct sp_span text = sp_span(scan->head, scan->head_len);
    if (newline && (text.len < 2 || text.at[text.len - 2] != '\r'))
        return refuse(scan, newline, MALFORMED("a line of a part's head does not end in CR LF."));
    bool is_whole = sp_span_eq(text, SP_SPAN("\r\n")) || (text.len >= 4 && memcmp(text.at + text.len - 4, "\r\n\r\n", 4) == 0);
    return is_whole ? begin_part(scan, at + n) : at + n;
}

static const char *part_ends(struct sp_multipart_scan *scan, const char *after) {
    struct sp_span value = sp_span(scan->value, scan->value_len);
    const char *wrong = NULL;
    scan->state = BOUNDARY_ENDS;
    if (scan->role == SP_JSON_MODEL) {
        scan->ask.model_at = (struct sp_json_place){scan->part_at, value.len};
        wrong = sp_utf8_valid(value) ? sp_ask_model(&scan->ask, value) : "The model's name is not UTF-8; send it as such.";
    } else if (scan->role == SP_JSON_STREAM) {
        scan->ask.stream = sp_span_eq(value, SP_SPAN("true"));
        wrong = scan->ask.stream || sp_span_eq(value, SP_SPAN("false")) ? NULL : "The part \"stream\" is no boolean; send true or false.";
    } else if (sp_ask_is_count(scan->role)) {
        wrong = sp_ask_count(&scan->ask, scan->role, value);
    }
    return wrong ? refuse_at(scan, after, scan->part_at, wrong) : after;
}

/* Keeps the values that are asked for. False: too long for any. */
static bool keep(struct sp_multipart_scan *scan, const char *bytes, size_t len) {
    if (scan->role == SP_JSON_ANYTHING)
        return true;
    size_t n = sp_min(len, sizeof scan->value - scan->value_len);
    memcpy(scan->value + scan->value_len, bytes, n);
    scan->value_len = (uint16_t)(scan->value_len + n);
    return scan->value_len <= SP_MODEL_NAME_MAX;
}

/* To the delimiter. A boundary has no CR, so where a match fails only the byte at hand can begin another. */
static const char *content(struct sp_multipart_scan *scan, const char *at, const char *end) {
    bool fits = true;
    while (at < end && fits) {
        if (*at == scan->delimiter[scan->matched]) {
            at++;
            if (++scan->matched == scan->delimiter_len)
                return part_ends(scan, at);
        } else if (scan->matched > 0) {
            fits = keep(scan, scan->delimiter, scan->matched);
            scan->matched = 0;
        } else {
            const char *cr = memchr(at, '\r', (size_t)(end - at));
            const char *to = cr ? cr : end;
            fits = keep(scan, at, (size_t)(to - at));
            at = to;
        }
    }
    return fits ? at
                : refuse_at(scan, at, scan->part_at, "A part named model, stream, n or max_tokens is too long; send at most 256 bytes.");
}

static const char *step(struct sp_multipart_scan *scan, const char *at, const char *end) {
    switch ((enum state)scan->state) {
    case FIRST_BOUNDARY:
        return first_boundary(scan, at);
    case HEAD:
        return head(scan, at, end);
    case CONTENT:
        return content(scan, at, end);
    default:
        return after_boundary(scan, at);
    }
}

enum sp_http_progress sp_multipart_feed(struct sp_multipart_scan *scan, struct sp_span bytes) {
    const char *at = bytes.len ? bytes.at : "", *end = at + bytes.len;
    scan->piece = at;
    while (at < end && scan->state != BROKEN)
        at = step(scan, at, end);
    scan->before += bytes.len;
    return scan->state == BROKEN ? SP_HTTP_REFUSED : SP_HTTP_INCOMPLETE;
}

enum sp_http_progress sp_multipart_end(struct sp_multipart_scan *scan) {
    if (scan->state == CLOSED || scan->state == ENDED)
        return SP_HTTP_COMPLETE;
    if (scan->state != BROKEN)
        refuse_at(scan, NULL, scan->before, MALFORMED("it ends before the last boundary."));
    return SP_HTTP_REFUSED;
}

const struct sp_ask *sp_multipart_ask(const struct sp_multipart_scan *scan) { return &scan->ask; }

const char *sp_multipart_wrong(const struct sp_multipart_scan *scan, uint64_t *ret_at) {
    *ret_at = scan->wrong_at;
    return scan->wrong;
}
