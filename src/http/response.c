#include <sallyport/http.h>

#include <errno.h>

#include "chars.h"
#include "message.h"

#define SINGLE (SP_FIELD_BIT(SP_FIELD_CONTENT_LENGTH) | SP_FIELD_BIT(SP_FIELD_TRANSFER_ENCODING) | SP_FIELD_BIT(SP_FIELD_CONTENT_TYPE))

struct parsing {
    struct sp_http_reading reading;
    struct sp_http_response *response;
    enum sp_http_method method;
};

/* "HTTP/1.1 200 OK": the reason may be empty, the space before it may not be missing (RFC 9112 §4). */
static unsigned status_line(struct parsing *p) {
    struct sp_span line;
    unsigned refused = sp_http_take_line(&p->reading, &line);
    if (refused)
        return refused;
    if (line.len < sizeof("HTTP/1.1 200 ") - 1 || line.at[8] != ' ' || line.at[12] != ' ')
        return sp_http_refuse(&p->reading, 400, "The status line is malformed.");
    refused = sp_http_read_version(&p->reading, sp_span(line.at, 8), &p->response->minor);
    if (refused)
        return refused;
    uint64_t status;
    if (!sp_span_u64(sp_span(line.at + 9, 3), &status) || status < 100 || status > 599)
        return sp_http_refuse(&p->reading, 400, "The status is not a number from 100 to 599.");
    p->response->status = (unsigned)status;
    return 0;
}

static unsigned fields(struct parsing *p) { return sp_http_take_fields(&p->reading, &p->response->fields); }

static unsigned single_fields(struct parsing *p) {
    if (p->response->fields.repeated & SINGLE)
        return sp_http_refuse(&p->reading, 400, "A field that may stand only once is repeated.");
    return 0;
}

/* RFC 9112 §6.3, items 1 to 8. */
static unsigned framing(struct parsing *p) {
    struct sp_http_response *response = p->response;
    struct sp_http_length length;
    unsigned refused = sp_http_read_length(&p->reading, &response->fields, response->minor, &length);
    if (refused)
        return refused;
    response->has_content_length = length.has_length;
    response->content_length = length.length;

    bool never_has_body = response->status < 200 || response->status == 204;
    if (never_has_body && (length.chunked || length.length > 0))
        return sp_http_refuse(&p->reading, 400, "A body is announced where there can be none.");
    if (never_has_body || response->status == 304 || p->method == SP_HTTP_HEAD)
        response->framing = SP_FRAMING_NONE;
    else if (length.chunked)
        response->framing = SP_FRAMING_CHUNKED;
    else if (length.has_length)
        response->framing = length.length > 0 ? SP_FRAMING_LENGTH : SP_FRAMING_NONE;
    else
        response->framing = SP_FRAMING_CLOSE;
    return 0;
}

static unsigned connection(struct parsing *p) {
    struct sp_http_connection options;
    unsigned refused = sp_http_read_connection(&p->reading, &p->response->fields, &options);
    if (refused)
        return refused;
    p->response->keep_alive = p->response->minor == 1 && !options.close && p->response->framing != SP_FRAMING_CLOSE;
    return 0;
}

int sp_http_parse_response(struct sp_span head, enum sp_http_method method, struct sp_http_response *response, const char **ret_reason) {
    static unsigned (*const steps[])(struct parsing *) = {status_line, fields, single_fields, framing, connection};
    struct parsing p = {.reading = {.at = head.at, .end = head.at + head.len}, .response = response, .method = method};
    memset(response, 0, offsetof(struct sp_http_response, fields));
    sp_http_fields_clear(&response->fields);
    unsigned refused = 0;
    if (head.len > SP_HTTP_HEAD_MAX)
        refused = sp_http_refuse(&p.reading, 431, "The head is too large.");
    for (size_t i = 0; i < SP_COUNT(steps) && !refused; i++)
        refused = steps[i](&p);
    if (!refused)
        return 0;
    *ret_reason = p.reading.reason;
    return -EBADMSG;
}
