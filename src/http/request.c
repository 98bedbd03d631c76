#include <sallyport/http.h>

#include "chars.h"
#include "message.h"

/* Fields of which one request has at most one: framing, routing, who is calling, and what is passed on under our name. */
#define SINGLE                                                                                                                             \
    (SP_FIELD_BIT(SP_FIELD_HOST) | SP_FIELD_BIT(SP_FIELD_CONTENT_LENGTH) | SP_FIELD_BIT(SP_FIELD_TRANSFER_ENCODING) |                      \
     SP_FIELD_BIT(SP_FIELD_EXPECT) | SP_FIELD_BIT(SP_FIELD_AUTHORIZATION) | SP_FIELD_BIT(SP_FIELD_X_API_KEY) |                             \
     SP_FIELD_BIT(SP_FIELD_API_KEY) | SP_FIELD_BIT(SP_FIELD_CONTENT_TYPE) | SP_FIELD_BIT(SP_FIELD_X_REQUEST_ID) |                          \
     SP_FIELD_BIT(SP_FIELD_TRACEPARENT) | SP_FIELD_BIT(SP_FIELD_IDEMPOTENCY_KEY))

struct parsing {
    struct sp_http_reading reading;
    struct sp_http_request *request;
    struct sp_http_target target;
};

static unsigned request_line(struct parsing *p) {
    struct sp_span line;
    unsigned status = sp_http_take_line(&p->reading, &line);
    if (status)
        return status;
    if (sp_span_eq(line, SP_SPAN("PRI * HTTP/2.0")))
        return sp_http_refuse(&p->reading, 400, "An HTTP/2 preface on a connection that speaks HTTP/1.1.");

    size_t method_len = 0;
    while (method_len < line.len && sp_char_is(line.at[method_len], SP_CHAR_TOKEN))
        method_len++;
    if (method_len == 0 || method_len == line.len || line.at[method_len] != ' ')
        return sp_http_refuse(&p->reading, 400, "The request line does not begin with a method and a space.");
    p->request->method_name = sp_span(line.at, method_len);

    struct sp_span rest = sp_span_from(line, method_len + 1);
    const char *space = rest.len ? memchr(rest.at, ' ', rest.len) : NULL;
    if (!space)
        return sp_http_refuse(&p->reading, 400, "The request line has no protocol version.");
    p->request->target = sp_span(rest.at, (size_t)(space - rest.at));
    status = sp_http_read_version(&p->reading, sp_span_from(rest, p->request->target.len + 1), &p->request->minor);
    if (status)
        return status;
    if (method_len > SP_HTTP_METHOD_MAX)
        return sp_http_refuse(&p->reading, 501, "The method is not supported.");
    p->request->method = sp_http_method_find(p->request->method_name);
    return 0;
}

static unsigned target(struct parsing *p) {
    unsigned status = sp_http_read_target(&p->reading, p->request->target, p->request->method_name, &p->target);
    p->request->path = p->target.path;
    p->request->query = p->target.query;
    return status;
}

static unsigned fields(struct parsing *p) { return sp_http_take_fields(&p->reading, &p->request->fields); }

static unsigned single_fields(struct parsing *p) {
    if (p->request->fields.repeated & SINGLE)
        return sp_http_refuse(&p->reading, 400, "A field that may stand only once is repeated.");
    return 0;
}

static bool imitates(struct sp_span name) {
    char hyphens[32]; /* longer than every known name; of a longer one the front is enough, which may be a family's */
    size_t len = sp_min(name.len, sizeof hyphens);
    for (size_t i = 0; i < len; i++)
        hyphens[i] = name.at[i] == '_' ? '-' : name.at[i];
    return sp_http_field_find(sp_span(hyphens, len)) != SP_FIELD_OTHER;
}

/* "X_Forwarded_For" and "Content_Length": many backends read an underscore in a name as a hyphen (CGI, RFC 3875 §4.1.18), so such a name
 * would bring past us a field that we give a meaning to. Other names may have underscores. */
static unsigned no_imitations(struct parsing *p) {
    for (unsigned i = 0; i < p->request->fields.count; i++) {
        const struct sp_http_field *field = &p->request->fields.item[i];
        if (field->id == SP_FIELD_OTHER && memchr(field->name.at, '_', field->name.len) && imitates(field->name))
            return sp_http_refuse(&p->reading, 400, "A field name imitates another with underscores.");
    }
    return 0;
}

/* RFC 9112 §3.2, §3.2.2: always there in HTTP/1.1, and never another one than the target's. */
static unsigned host(struct parsing *p) {
    struct sp_http_request *request = p->request;
    const struct sp_http_field *field = sp_http_field(&request->fields, SP_FIELD_HOST);
    request->host = p->target.host;
    request->port = p->target.port;
    if (!field)
        return request->minor == 0 ? 0 : sp_http_refuse(&p->reading, 400, "HTTP/1.1 needs a Host field.");

    struct sp_span name;
    uint16_t port;
    if (!sp_http_parse_authority(field->value, &name, &port))
        return sp_http_refuse(&p->reading, 400, "The Host field is malformed.");
    if (p->target.scheme_port == 0) {
        request->host = name;
        request->port = port;
        return 0;
    }
    uint16_t said = port ? port : p->target.scheme_port;
    uint16_t asked = p->target.port ? p->target.port : p->target.scheme_port;
    if (said != asked || !sp_span_eq_nocase(name, p->target.host))
        return sp_http_refuse(&p->reading, 400, "The Host field differs from the request target's authority.");
    return 0;
}

static unsigned framing(struct parsing *p) {
    struct sp_http_length length;
    unsigned status = sp_http_read_length(&p->reading, &p->request->fields, p->request->minor, &length);
    if (status)
        return status;
    p->request->framing = length.chunked ? SP_FRAMING_CHUNKED : length.length > 0 ? SP_FRAMING_LENGTH : SP_FRAMING_NONE;
    p->request->content_length = length.length;
    return 0;
}

static unsigned connection(struct parsing *p) {
    struct sp_http_request *request = p->request;
    struct sp_http_connection options;
    unsigned status = sp_http_read_connection(&p->reading, &request->fields, &options);
    if (status)
        return status;
    /* HTTP/1.0's own keep-alive is not honoured: an intermediary cannot know who meant it (RFC 9112 §9.3, appendix C.2.2). */
    request->keep_alive = request->minor == 1 && !options.close;
    request->upgrade = request->minor == 1 && options.upgrade && sp_http_field(&request->fields, SP_FIELD_UPGRADE);
    return 0;
}

static unsigned expectation(struct parsing *p) {
    const struct sp_http_field *expect = sp_http_field(&p->request->fields, SP_FIELD_EXPECT);
    if (!expect)
        return 0;
    if (!sp_span_eq_nocase(expect->value, SP_SPAN("100-continue")))
        return sp_http_refuse(&p->reading, 417, "Expect asks for something else than 100-continue.");
    /* HTTP/1.0 clients do not know 100, and without a body there is nothing to continue with (RFC 9110 §10.1.1). */
    p->request->expect_continue = p->request->minor == 1 && p->request->framing != SP_FRAMING_NONE;
    return 0;
}

/* Everything but the field items, of which only `count` are ever read. */
static void begin(struct sp_http_request *request) {
    memset(request, 0, offsetof(struct sp_http_request, fields));
    sp_http_fields_clear(&request->fields);
}

unsigned sp_http_parse_request(struct sp_span head, struct sp_http_request *request, const char **ret_reason) {
    static unsigned (*const steps[])(struct parsing *) = {
        request_line, target, fields, single_fields, no_imitations, host, framing, connection, expectation,
    };
    struct parsing p = {.reading = {.at = head.at, .end = head.at + head.len}, .request = request};
    begin(request);
    unsigned status = 0;
    if (head.len > SP_HTTP_HEAD_MAX)
        status = sp_http_refuse(&p.reading, 431, "The head is too large.");
    for (size_t i = 0; i < SP_COUNT(steps) && !status; i++)
        status = steps[i](&p);
    if (status)
        *ret_reason = p.reading.reason;
    return status;
}
