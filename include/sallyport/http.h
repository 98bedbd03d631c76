/* http: pure parsers and writers for HTTP/1.1 messages (RFC 9110, RFC 9112), strict: none of the leniencies the RFC allows.
 * No sockets, no allocation, no global state; spans point into the bytes that were handed in.
 * It must not know routes, backends or configuration. */
#ifndef SALLYPORT_HTTP_H
#define SALLYPORT_HTTP_H

#include <sallyport/base.h>

#define SP_HTTP_FIELDS_MAX 96
#define SP_HTTP_HEAD_MAX (32 * 1024)  /* bytes of a whole head, request or response */
#define SP_HTTP_TARGET_MAX (8 * 1024) /* longer: 414 */
#define SP_HTTP_METHOD_MAX 32         /* longer: 501 */

enum sp_http_method {
    SP_HTTP_GET, SP_HTTP_HEAD, SP_HTTP_POST, SP_HTTP_PUT, SP_HTTP_DELETE, SP_HTTP_PATCH, SP_HTTP_OPTIONS,
    SP_HTTP_METHOD_OTHER /* a valid token that is none of these; TRACE too. CONNECT never comes out of the parser */
};

/* Fields somebody here asks for; found in constant time after parsing. At most 64, so that a set of them is one word. */
enum sp_http_field_id {
    SP_FIELD_OTHER, SP_FIELD_HOST, SP_FIELD_CONTENT_LENGTH, SP_FIELD_TRANSFER_ENCODING, SP_FIELD_CONNECTION, SP_FIELD_KEEP_ALIVE,
    SP_FIELD_EXPECT, SP_FIELD_UPGRADE, SP_FIELD_TE, SP_FIELD_TRAILER, SP_FIELD_PROXY_CONNECTION, SP_FIELD_PROXY_AUTHORIZATION,
    SP_FIELD_PROXY_AUTHENTICATE, SP_FIELD_AUTHORIZATION, SP_FIELD_X_API_KEY, SP_FIELD_API_KEY, SP_FIELD_COOKIE, SP_FIELD_FORWARDED,
    SP_FIELD_X_FORWARDED, /* any x-forwarded-* */ SP_FIELD_X_SALLYPORT, /* any x-sallyport-* */ SP_FIELD_X_REAL_IP,
    SP_FIELD_X_REQUEST_ID, SP_FIELD_TRACEPARENT, SP_FIELD_TRACESTATE, SP_FIELD_CONTENT_TYPE, SP_FIELD_CONTENT_ENCODING, SP_FIELD_ACCEPT,
    SP_FIELD_ACCEPT_ENCODING, SP_FIELD_ACCEPT_LANGUAGE, SP_FIELD_USER_AGENT, SP_FIELD_IDEMPOTENCY_KEY, SP_FIELD_DATE, SP_FIELD_SERVER,
    SP_FIELD_SET_COOKIE, SP_FIELD_RETRY_AFTER, SP_FIELD_RATE_LIMIT, /* any x-ratelimit-*, ratelimit, ratelimit-policy */
    SP_FIELD_STRICT_TRANSPORT_SECURITY, SP_FIELD_CACHE_CONTROL, SP_FIELD_ALLOW, SP_FIELD_CONTENT_DISPOSITION, SP_FIELD_CONTENT_LANGUAGE,
    SP_FIELD_CONTENT_RANGE, SP_FIELD_ETAG, SP_FIELD_LAST_MODIFIED, SP_FIELD_LOCATION, SP_FIELD_ORIGIN, SP_FIELD_RANGE, SP_FIELD_VARY,
    SP_FIELD_VIA, SP_FIELD_WWW_AUTHENTICATE, SP_FIELD_OPENAI, /* any openai-* */ SP_FIELD_ANTHROPIC, /* any anthropic-* */
    SP_FIELD_X_STAINLESS, /* any x-stainless-*: what the SDKs say about themselves */ SP_FIELD_COUNT
};

struct sp_http_field {
    struct sp_span name;  /* as it was sent; a token */
    struct sp_span value; /* trimmed; no CR, LF, NUL or other control byte but HTAB */
    uint16_t id;          /* enum sp_http_field_id */
    bool hop_by_hop;      /* by its name (RFC 9110 §7.6.1) or because Connection names it */
    bool plain;           /* what stands at `name` in the head is the line as it would be written: name, ": ", value, CR LF. Only parsers say so */
};

enum sp_http_framing { SP_FRAMING_NONE, SP_FRAMING_LENGTH, SP_FRAMING_CHUNKED, SP_FRAMING_CLOSE /* responses only: to the end */ };

struct sp_http_fields {
    unsigned count;
    uint8_t first[SP_FIELD_COUNT]; /* 1 + index of the first field with that id; 0: absent */
    uint64_t repeated;             /* bit 1 << id: there is more than one with that id */
    struct sp_http_field item[SP_HTTP_FIELDS_MAX]; /* last, so that a copy may end after `count` of them */
};
static inline void sp_http_fields_clear(struct sp_http_fields *fields) { /* the items are not read before they are written */
    fields->count = 0;
    memset(fields->first, 0, sizeof fields->first);
    fields->repeated = 0;
}
static inline const struct sp_http_field *sp_http_field(const struct sp_http_fields *fields, enum sp_http_field_id id) {
    return fields->first[id] ? &fields->item[fields->first[id] - 1] : NULL;
}

struct sp_http_request {
    enum sp_http_method method;
    struct sp_span method_name;
    struct sp_span target;    /* as sent */
    struct sp_span path;      /* origin-form path as sent (begins with "/"), or "*" for OPTIONS; a constant where an absolute-form target
                                 has none. Not decoded; no dot segments, no empty segments; no encoded slash, backslash, control byte,
                                 letter, digit or "-._~" (refused: 400), so that prefix matching cannot be fooled */
    struct sp_span query;     /* after "?", without it; empty when there is none */
    struct sp_span host;      /* from the absolute-form target or Host: name or address, without port, brackets kept.
                                 Empty only in HTTP/1.0 without Host */
    uint16_t port;            /* 0: not said */
    uint8_t minor;            /* HTTP/1.minor: 0 or 1 */
    enum sp_http_framing framing; /* NONE, LENGTH or CHUNKED */
    uint64_t content_length;  /* with LENGTH; never 0 then: a length of 0 is NONE */
    bool keep_alive;          /* HTTP/1.1 unless Connection says close; never HTTP/1.0 */
    bool expect_continue;     /* the client waits for 100 before it sends the body; only with a body, only in HTTP/1.1 */
    bool upgrade;             /* Connection: upgrade with an Upgrade field, HTTP/1.1 */
    struct sp_http_fields fields;
};

struct sp_http_response {
    unsigned status;          /* 100 to 599; 101 comes with NONE, what follows it is no HTTP */
    uint8_t minor;
    enum sp_http_framing framing; /* as decided with the request's method (RFC 9112 §6.3) */
    uint64_t content_length;
    bool has_content_length;  /* also where framing is NONE (HEAD, 304) */
    bool keep_alive;          /* never with CLOSE, never HTTP/1.0 */
    struct sp_http_fields fields;
};

/* Where the search for the end of a head stands, so that a head sent byte by byte costs each byte once. Zero to begin. */
struct sp_http_scan {
    size_t seen, line_start; /* private */
    unsigned lines;          /* that were found whole so far, without the empty one: a head has one field less */
};

enum sp_http_progress { SP_HTTP_INCOMPLETE, SP_HTTP_COMPLETE, SP_HTTP_REFUSED };

/* Looks for the empty line that ends a head in bytes[0..len), which begins with the message and grows from call to call. COMPLETE sets
 * *ret_head_len (empty line included). REFUSED as soon as it can be known, with *ret_status: 400 a bare CR or LF, another control byte
 * than HTAB, a leading empty line; 414 a request line longer than the target's maximum allows; 431 more than SP_HTTP_HEAD_MAX bytes or
 * SP_HTTP_FIELDS_MAX fields. What it says never depends on how the bytes were split. */
enum sp_http_progress sp_http_find_head(struct sp_http_scan *scan, struct sp_span bytes, size_t *ret_head_len, unsigned *ret_status);

/* A whole head → request. 0, or the HTTP status that answers it, with *ret_reason a constant English sentence for the error body and
 * the log: 400 malformed or ambiguous; 414, 431 too long, too many; 417 an Expect other than 100-continue; 501 CONNECT, a method longer
 * than SP_HTTP_METHOD_MAX, a transfer coding other than chunked; 505 another version. After any of them the connection must be closed.
 * Stricter than RFC 9112 where readers are known to differ: one Host, also equal to an absolute-form target's authority; at most one
 * Content-Length, Transfer-Encoding, Expect, Content-Type, Authorization, X-Api-Key, Api-Key, X-Request-Id, Traceparent and
 * Idempotency-Key; no Transfer-Encoding in HTTP/1.0; Connection may not name a field that is meant for the recipient; no name that
 * becomes a known one when its underscores are read as hyphens.
 * `request` is overwritten in any case; *ret_reason only when refused. */
unsigned sp_http_parse_request(struct sp_span head, struct sp_http_request *request, const char **ret_reason) SP_MUST_USE;

/* A whole head → response to a request of that method. 0, or -EBADMSG with *ret_reason. 1xx are returned like any other.
 * As strict as requests; besides, no body may be announced with 1xx and 204. */
int sp_http_parse_response(struct sp_span head, enum sp_http_method method, struct sp_http_response *response, const char **ret_reason)
    SP_MUST_USE;

/* ---- Chunked bodies (RFC 9112 §7.1): extensions are checked and dropped, trailers checked and dropped. Zero to begin. ---- */
struct sp_http_chunks {
    uint8_t state; /* all private */
    uint8_t digits, name_len;
    char name[25];     /* of a trailer: as long as the longest that is refused there */
    uint64_t left;     /* of the current chunk's payload */
    uint32_t overhead; /* bytes of extensions and trailers so far, over the whole body */
};
#define SP_HTTP_CHUNK_OVERHEAD_MAX (16 * 1024) /* more of them: refused */
/* Reads from the front of *input, which it shortens by what it consumed; *ret_payload is the next run of body bytes (possibly empty).
 * Call again while INCOMPLETE and input is not empty. COMPLETE: the body has ended; what is left in *input is the next message.
 * REFUSED (and for ever after): malformed, or a trailer that belongs into a head. */
enum sp_http_progress sp_http_chunks_next(struct sp_http_chunks *chunks, struct sp_span *input, struct sp_span *ret_payload);

/* ---- Bodies, whatever frames them ---- */
struct sp_http_body {
    enum sp_http_framing framing;
    uint64_t left; /* with LENGTH */
    struct sp_http_chunks chunks;
};
void sp_http_body_begin(struct sp_http_body *body, enum sp_http_framing framing, uint64_t content_length);
/* As sp_http_chunks_next(). NONE is COMPLETE at once; CLOSE never: the end of the connection is its end, and only its. */
enum sp_http_progress sp_http_body_next(struct sp_http_body *body, struct sp_span *input, struct sp_span *ret_payload);

/* ---- Writing: 0; -ENOSPC or -ENOMEM from the buffer; -EINVAL where a byte would break the line it is written into. ---- */
struct sp_span sp_http_method_name(enum sp_http_method method);
enum sp_http_method sp_http_method_find(struct sp_span name);
enum sp_http_field_id sp_http_field_find(struct sp_span name); /* case-insensitive */
const char *sp_http_reason(unsigned status);                    /* "OK"; "" for unknown */
/* A Content-Type of JSON as nearly everybody writes it. Other spellings mean it too; this one needs no closer look. */
static inline bool sp_http_is_plain_json(struct sp_span content_type) { return sp_span_eq(content_type, SP_SPAN("application/json")); }
bool sp_http_is_token(struct sp_span text);                     /* RFC 9110 §5.6.2, not empty */
bool sp_http_is_field_value(struct sp_span text);               /* VCHAR, obs-text, SP, HTAB; may be empty, need not be trimmed */
/* "METHOD base_path+path?query HTTP/1.1": base_path may be empty; together they begin with "/", or path is "*" alone. */
int sp_http_write_request_line(struct sp_buffer *out, struct sp_span method, struct sp_span base_path, struct sp_span path,
                               struct sp_span query) SP_MUST_USE;
int sp_http_write_status_line(struct sp_buffer *out, unsigned status) SP_MUST_USE;
int sp_http_write_field(struct sp_buffer *out, struct sp_span name, struct sp_span value) SP_MUST_USE;
/* The same of a field that a parser found, whose bytes it has checked. */
int sp_http_write_parsed(struct sp_buffer *out, const struct sp_http_field *field) SP_MUST_USE;
/* Fields whose names are known where the program is written: SP_HTTP_NAME("retry-after") begins their lines. */
struct sp_http_name {
    struct sp_span line_start;
};
#define SP_HTTP_NAME(literal) ((struct sp_http_name){{"" literal ": ", sizeof(literal ": ") - 1}})
int sp_http_write_named(struct sp_buffer *out, struct sp_http_name name, struct sp_span value) SP_MUST_USE;
int sp_http_write_number(struct sp_buffer *out, struct sp_http_name name, uint64_t number) SP_MUST_USE;
int sp_http_write_host(struct sp_buffer *out, struct sp_span host, uint16_t port) SP_MUST_USE;     /* port 0: none */
/* Content-Length or Transfer-Encoding; nothing for NONE and CLOSE. */
int sp_http_write_framing(struct sp_buffer *out, enum sp_http_framing framing, uint64_t content_length) SP_MUST_USE;
int sp_http_write_end(struct sp_buffer *out) SP_MUST_USE; /* the empty line */
#define SP_HTTP_CHUNK_HEAD_MAX 18 /* 16 hex digits and CRLF */
size_t sp_http_chunk_head(uint64_t payload, char out[SP_HTTP_CHUNK_HEAD_MAX]); /* payload > 0 */
#define SP_HTTP_CHUNK_END SP_SPAN("0\r\n\r\n")

#define SP_HTTP_DATE_LEN 29
void sp_http_date(uint64_t unix_s, char out[SP_HTTP_DATE_LEN + 1]); /* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 §5.6.7) */

/* host[:port] as in a Host field (RFC 9110 §7.2, RFC 3986 §3.2.2). Host: labels of letters, digits, "-" and "_" parted by single dots, or
 * IPv6 in brackets without a zone; port 1 to 65535. No user info, no percent-encoding, no final dot. */
bool sp_http_parse_authority(struct sp_span text, struct sp_span *ret_host, uint16_t *ret_port);

#endif
