#include <sallyport/http.h>

#include <errno.h>
#include <stdio.h>

#include "chars.h"

/* ---- Names ---- */

static const struct sp_span methods[] = {
    [SP_HTTP_GET] = SP_SPAN("GET"),         [SP_HTTP_HEAD] = SP_SPAN("HEAD"),     [SP_HTTP_POST] = SP_SPAN("POST"),
    [SP_HTTP_PUT] = SP_SPAN("PUT"),         [SP_HTTP_DELETE] = SP_SPAN("DELETE"), [SP_HTTP_PATCH] = SP_SPAN("PATCH"),
    [SP_HTTP_OPTIONS] = SP_SPAN("OPTIONS"),
};

struct sp_span sp_http_method_name(enum sp_http_method method) {
    return (size_t)method < SP_COUNT(methods) ? methods[method] : sp_span(NULL, 0);
}

enum sp_http_method sp_http_method_find(struct sp_span name) {
    for (size_t i = 0; i < SP_COUNT(methods); i++)
        if (sp_span_eq(name, methods[i]))
            return (enum sp_http_method)i;
    return SP_HTTP_METHOD_OTHER;
}

const char *sp_http_reason(unsigned status) {
    /* clang-format off */
    static const char *const reasons[] = {
        [100] = "Continue", "Switching Protocols", "Processing", "Early Hints",
        [200] = "OK", "Created", "Accepted", "Non-Authoritative Information", "No Content", "Reset Content", "Partial Content",
        [300] = "Multiple Choices", "Moved Permanently", "Found", "See Other", "Not Modified",
        [307] = "Temporary Redirect", "Permanent Redirect",
        [400] = "Bad Request", "Unauthorized", "Payment Required", "Forbidden", "Not Found", "Method Not Allowed", "Not Acceptable",
        [407] = "Proxy Authentication Required", "Request Timeout", "Conflict", "Gone", "Length Required", "Precondition Failed",
        [413] = "Content Too Large", "URI Too Long", "Unsupported Media Type", "Range Not Satisfiable", "Expectation Failed",
        [421] = "Misdirected Request", "Unprocessable Content", "Locked", "Failed Dependency", "Too Early", "Upgrade Required",
        [428] = "Precondition Required", "Too Many Requests",
        [431] = "Request Header Fields Too Large",
        [451] = "Unavailable For Legal Reasons",
        [500] = "Internal Server Error", "Not Implemented", "Bad Gateway", "Service Unavailable", "Gateway Timeout",
        [505] = "HTTP Version Not Supported",
        [507] = "Insufficient Storage",
        [529] = "Overloaded", /* Anthropic's */
    };
    /* clang-format on */
    return status < SP_COUNT(reasons) && reasons[status] ? reasons[status] : "";
}

/* ---- Lines. Nothing that could end a line early is ever written, whoever asks: that is checked here, not hoped for. ---- */

static char *put(char *at, struct sp_span text) {
    if (text.len)
        memcpy(at, text.at, text.len);
    return at + text.len;
}

#define PUT_LITERAL(at, literal) put((at), SP_SPAN(literal))

static bool is_path(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if (!sp_char_is(text.at[i], SP_CHAR_PATHS))
            return false;
    return true;
}

static bool is_query(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if (!sp_char_is(text.at[i], SP_CHAR_QUERY) && text.at[i] != '%')
            return false;
    return true;
}

static bool is_whole_path(struct sp_span base, struct sp_span path) {
    if (base.len == 0 && sp_span_eq(path, SP_SPAN("*")))
        return true;
    struct sp_span front = base.len ? base : path;
    return front.len > 0 && front.at[0] == '/' && is_path(base) && is_path(path);
}

int sp_http_write_request_line(struct sp_buffer *out, struct sp_span method, struct sp_span base_path, struct sp_span path,
                               struct sp_span query) {
    if (!sp_http_is_token(method) || !is_whole_path(base_path, path) || !is_query(query))
        return -EINVAL;
    int error = sp_buffer_reserve(out, method.len + base_path.len + path.len + query.len + sizeof(" ? HTTP/1.1\r\n"));
    if (error)
        return error;
    char *at = sp_buffer_tail(out), *begin = at;
    at = PUT_LITERAL(put(at, method), " ");
    at = put(put(at, base_path), path);
    if (query.len)
        at = put(PUT_LITERAL(at, "?"), query);
    at = PUT_LITERAL(at, " HTTP/1.1\r\n");
    sp_buffer_added(out, (size_t)(at - begin));
    return 0;
}

int sp_http_write_status_line(struct sp_buffer *out, unsigned status) {
    if (status < 100 || status > 599)
        return -EINVAL;
    struct sp_span reason = sp_span_text(sp_http_reason(status));
    int error = sp_buffer_reserve(out, sizeof("HTTP/1.1 200 \r\n") + reason.len);
    if (error)
        return error;
    char digits[4] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10), (char)('0' + status % 10), ' '};
    char *at = sp_buffer_tail(out), *begin = at;
    at = put(PUT_LITERAL(at, "HTTP/1.1 "), sp_span(digits, sizeof digits));
    at = PUT_LITERAL(put(at, reason), "\r\n");
    sp_buffer_added(out, (size_t)(at - begin));
    return 0;
}

/* Eight bytes at a time; the last eight overlap, and what is shorter is padded: names and values are mostly short. */
static inline bool any_word(struct sp_span text, uint64_t (*breaks)(uint64_t word)) {
    uint64_t word = SP_CHAR_EACH('a'), found = 0;
    if (text.len < sizeof word) {
        for (size_t i = 0; i < text.len; i++)
            word = word << 8 | (uint8_t)text.at[i];
        return breaks(word) != 0;
    }
    for (size_t i = 0; i + sizeof word < text.len; i += sizeof word)
        found |= breaks(sp_char_word(text.at + i));
    return (found | breaks(sp_char_word(text.at + text.len - sizeof word))) != 0;
}

/* Sums of seven bits and a constant: the top bit says whether a byte is past a bound, and no sum reaches the next byte. */
static inline uint64_t past(uint64_t low, unsigned bound) { return low + SP_CHAR_EACH(0x7f - bound); }

/* Controls but HTAB. */
static inline uint64_t breaks_value(uint64_t word) {
    uint64_t tab = ~past((word ^ SP_CHAR_EACH('\t')) & SP_CHAR_EACH(0x7f), 0);
    return sp_char_word_controls(word) & ~tab;
}

/* Controls, space, colon, and what is beyond ASCII. Names are checked to be tokens where they come from: the parser, the configuration. */
static inline uint64_t breaks_name(uint64_t word) {
    uint64_t low = word & SP_CHAR_EACH(0x7f);
    return (~past(low, 0x20) | past(low, 0x7e) | ~past(low ^ SP_CHAR_EACH(':'), 0) | word) & SP_CHAR_EACH(0x80);
}

#ifdef __SSE2__
static inline unsigned block_breaks_value(const char *at) {
    __m128i block = sp_char_block(at);
    return sp_char_block_controls(block) & ~(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(block, _mm_set1_epi8('\t')));
}
#endif

static inline bool value_breaks(struct sp_span value) {
    if (value.len == 0)
        return false;
#ifdef __SSE2__
    if (value.len >= 16) {
        unsigned found = 0;
        for (size_t i = 0; i + 16 < value.len; i += 16)
            found |= block_breaks_value(value.at + i);
        return (found | block_breaks_value(value.at + value.len - 16)) != 0;
    }
#endif
    return any_word(value, breaks_value);
}

int sp_http_write_field(struct sp_buffer *out, struct sp_span name, struct sp_span value) {
    if (name.len == 0 || any_word(name, breaks_name) || value_breaks(value))
        return -EINVAL;
    int error = sp_buffer_reserve(out, name.len + value.len + sizeof(": \r\n"));
    if (error)
        return error;
    char *at = sp_buffer_tail(out), *begin = at;
    at = put(PUT_LITERAL(put(at, name), ": "), value);
    at = PUT_LITERAL(at, "\r\n");
    sp_buffer_added(out, (size_t)(at - begin));
    return 0;
}

int sp_http_write_parsed(struct sp_buffer *out, const struct sp_http_field *field) {
    if (!field->plain)
        return sp_http_write_field(out, field->name, field->value);
    return sp_buffer_append(out, field->name.at, field->name.len + field->value.len + sizeof(": \r\n") - 1);
}

int sp_http_write_named(struct sp_buffer *out, struct sp_http_name name, struct sp_span value) {
    if (value_breaks(value))
        return -EINVAL;
    int error = sp_buffer_reserve(out, name.line_start.len + value.len + sizeof("\r\n"));
    if (error)
        return error;
    char *at = sp_buffer_tail(out), *begin = at;
    at = PUT_LITERAL(put(put(at, name.line_start), value), "\r\n");
    sp_buffer_added(out, (size_t)(at - begin));
    return 0;
}

int sp_http_write_number(struct sp_buffer *out, struct sp_http_name name, uint64_t number) {
    int error = sp_buffer_reserve(out, name.line_start.len + SP_DECIMAL_MAX + sizeof("\r\n"));
    if (error)
        return error;
    char *at = sp_buffer_tail(out), *begin = at;
    at = put(at, name.line_start);
    at = PUT_LITERAL(at + sp_decimal(number, at), "\r\n");
    sp_buffer_added(out, (size_t)(at - begin));
    return 0;
}

int sp_http_write_host(struct sp_buffer *out, struct sp_span host, uint16_t port) {
    char text[255 + sizeof ":65535"];
    if (host.len == 0 || host.len > 255)
        return -EINVAL;
    memcpy(text, host.at, host.len);
    size_t len = host.len;
    if (port)
        len += (size_t)snprintf(text + len, sizeof text - len, ":%u", (unsigned)port);
    return sp_http_write_named(out, SP_HTTP_NAME("host"), sp_span(text, len));
}

int sp_http_write_framing(struct sp_buffer *out, enum sp_http_framing framing, uint64_t content_length) {
    if (framing == SP_FRAMING_LENGTH)
        return sp_http_write_number(out, SP_HTTP_NAME("content-length"), content_length);
    if (framing == SP_FRAMING_CHUNKED)
        return sp_buffer_append_span(out, SP_SPAN("transfer-encoding: chunked\r\n"));
    return 0;
}

int sp_http_write_end(struct sp_buffer *out) { return sp_buffer_append_span(out, SP_SPAN("\r\n")); }

size_t sp_http_chunk_head(uint64_t payload, char out[SP_HTTP_CHUNK_HEAD_MAX]) {
    static const char hex[] = "0123456789abcdef";
    size_t digits = payload ? (67 - (size_t)__builtin_clzll(payload)) / 4 : 1;
    for (size_t i = digits; i > 0; i--, payload >>= 4)
        out[i - 1] = hex[payload & 15];
    out[digits] = '\r';
    out[digits + 1] = '\n';
    return digits + 2;
}

/* ---- Dates ---- */

void sp_http_date(uint64_t unix_s, char out[SP_HTTP_DATE_LEN + 1]) {
    static const char days[] = "ThuFriSatSunMonTueWed", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    uint64_t day = unix_s / 86400 % 2932897; /* up to the end of year 9999 */
    unsigned second = (unsigned)(unix_s % 86400);
    /* Days → civil date, counted in eras of 400 years that begin in March (Richards, 2013, as days from 0000-03-01). */
    uint64_t shifted = day + 719468, era = shifted / 146097, of_era = shifted % 146097;
    uint64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = (unsigned)(of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100));
    unsigned march = (5 * of_year + 2) / 153, month = march < 10 ? march + 2 : march - 10;
    unsigned year = (unsigned)(year_of_era + era * 400 + (month < 2));
    snprintf(out, SP_HTTP_DATE_LEN + 1, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT", &days[day % 7 * 3],
             (of_year - (153 * march + 2) / 5 + 1) % 100, &months[month * 3], year % 10000, second / 3600 % 100, second / 60 % 60,
             second % 60);
}
