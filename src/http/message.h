/* What requests and responses have in common, private to src/http/: a place in a head, field lines, Connection, body framing. */
#ifndef SALLYPORT_HTTP_MESSAGE_H
#define SALLYPORT_HTTP_MESSAGE_H

#include <sallyport/http.h>

/* Where the reading of a head stands, and why it was refused. Every reading function returns 0 or the status of sp_http_refuse(). */
struct sp_http_reading {
    const char *at, *end;
    const char *reason; /* a constant; NULL: not refused */
};

static inline unsigned sp_http_refuse(struct sp_http_reading *reading, unsigned status, const char *reason) {
    reading->reason = reason;
    return status;
}

/* The start line, without its CRLF. It may contain HTAB and obs-text, no other control byte. */
unsigned sp_http_take_line(struct sp_http_reading *reading, struct sp_span *ret_line) SP_MUST_USE;
/* Every field line and the empty line, which must be the last bytes of the head. */
unsigned sp_http_take_fields(struct sp_http_reading *reading, struct sp_http_fields *ret_fields) SP_MUST_USE;

/* "HTTP/1.0" or "HTTP/1.1"; 505 for other versions of the form HTTP/DIGIT.DIGIT, else 400. */
unsigned sp_http_read_version(struct sp_http_reading *reading, struct sp_span text, uint8_t *ret_minor) SP_MUST_USE;

struct sp_http_connection {
    bool close, upgrade;
};
/* Reads every Connection field and marks the fields they name hop-by-hop. */
unsigned sp_http_read_connection(struct sp_http_reading *reading, struct sp_http_fields *fields,
                                 struct sp_http_connection *ret) SP_MUST_USE;

struct sp_http_length {
    bool chunked, has_length;
    uint64_t length;
};
/* Content-Length and Transfer-Encoding (RFC 9112 §6). Repeated ones have been refused before. */
unsigned sp_http_read_length(struct sp_http_reading *reading, const struct sp_http_fields *fields, uint8_t minor,
                             struct sp_http_length *ret) SP_MUST_USE;

struct sp_http_target {
    struct sp_span path, query;
    struct sp_span host;  /* absolute-form only; else empty */
    uint16_t port;        /* as said; 0: not */
    uint16_t scheme_port; /* 80 or 443 with absolute-form */
};
/* The request-target in the form its method asks for (RFC 9112 §3.2). */
unsigned sp_http_read_target(struct sp_http_reading *reading, struct sp_span target, struct sp_span method,
                             struct sp_http_target *ret) SP_MUST_USE;

#define SP_FIELD_BIT(id) (UINT64_C(1) << (id))

#endif
