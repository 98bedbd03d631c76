#include "chars.h"
#include "message.h"

/* "%" and two hex digits at text.at[at]: the byte, or -1. */
static int encoded_byte(struct sp_span text, size_t at) {
    if (text.len - at < 3 || !sp_char_is(text.at[at + 1], SP_CHAR_HEX) || !sp_char_is(text.at[at + 2], SP_CHAR_HEX))
        return -1;
    return (int)(sp_char_hex(text.at[at + 1]) << 4 | sp_char_hex(text.at[at + 2]));
}

static unsigned refuse_byte(struct sp_http_reading *reading, char byte) {
    if (byte == '#')
        return sp_http_refuse(reading, 400, "The request target has a fragment.");
    return sp_http_refuse(reading, 400, "The request target contains a byte that must be percent-encoded.");
}

/* Behind percent-encoding may only stand what has no meaning of its own: else the route that was matched here and the path that the
 * backend sees after decoding could be two different ones. Unreserved bytes never need it (RFC 3986 §6.2.2.2). */
static unsigned check_encoded(struct sp_http_reading *reading, int byte) {
    if (byte < 0)
        return sp_http_refuse(reading, 400, "The request target contains an invalid percent-encoding.");
    if (byte < 0x20 || byte == 0x7f)
        return sp_http_refuse(reading, 400, "The path contains an encoded control byte.");
    if (byte == '/' || byte == '\\')
        return sp_http_refuse(reading, 400, "The path contains an encoded slash or backslash.");
    if (sp_char_is((char)byte, SP_CHAR_UNRESERVED))
        return sp_http_refuse(reading, 400, "The path encodes a byte that needs no encoding.");
    return 0;
}

/* What follows a slash: no second slash, no "." or ".." (also not with parameters, which some servers cut off before resolving). */
static unsigned check_segment(struct sp_http_reading *reading, struct sp_span rest) {
    if (rest.len > 0 && rest.at[0] == '/')
        return sp_http_refuse(reading, 400, "The path contains an empty segment.");
    size_t dots = 0;
    while (dots < rest.len && rest.at[dots] == '.')
        dots++;
    if ((dots == 1 || dots == 2) && (dots == rest.len || rest.at[dots] == '/' || rest.at[dots] == ';'))
        return sp_http_refuse(reading, 400, "The path contains a dot segment.");
    return 0;
}

static unsigned check_path(struct sp_http_reading *reading, struct sp_span path) {
    for (size_t i = 0; i < path.len; i++) {
        if (sp_char_is(path.at[i], SP_CHAR_PATH))
            continue;
        unsigned status;
        if (path.at[i] == '/') {
            status = check_segment(reading, sp_span_from(path, i + 1));
        } else if (path.at[i] == '%') {
            status = check_encoded(reading, encoded_byte(path, i));
            i += 2;
        } else {
            status = refuse_byte(reading, path.at[i]);
        }
        if (status)
            return status;
    }
    return 0;
}

static unsigned check_query(struct sp_http_reading *reading, struct sp_span query) {
    for (size_t i = 0; i < query.len; i++) {
        if (sp_char_is(query.at[i], SP_CHAR_QUERY))
            continue;
        if (query.at[i] != '%')
            return refuse_byte(reading, query.at[i]);
        if (encoded_byte(query, i) < 0)
            return sp_http_refuse(reading, 400, "The request target contains an invalid percent-encoding.");
        i += 2;
    }
    return 0;
}

static unsigned read_origin(struct sp_http_reading *reading, struct sp_span text, struct sp_http_target *ret) {
    const char *mark = memchr(text.at, '?', text.len);
    ret->path = mark ? sp_span(text.at, (size_t)(mark - text.at)) : text;
    ret->query = mark ? sp_span_from(text, ret->path.len + 1) : sp_span(text.at + text.len, 0);
    unsigned status = check_path(reading, ret->path);
    return status ? status : check_query(reading, ret->query);
}

static bool take_scheme(struct sp_span *text, struct sp_http_target *ret) {
    static const struct {
        struct sp_span text;
        uint16_t port;
    } schemes[] = {{SP_SPAN("http://"), 80}, {SP_SPAN("https://"), 443}};
    for (size_t i = 0; i < SP_COUNT(schemes); i++) {
        size_t len = schemes[i].text.len;
        if (text->len < len || !sp_span_eq_nocase(sp_span(text->at, len), schemes[i].text))
            continue;
        ret->scheme_port = schemes[i].port;
        *text = sp_span_from(*text, len);
        return true;
    }
    return false;
}

static unsigned read_absolute(struct sp_http_reading *reading, struct sp_span text, bool options, struct sp_http_target *ret) {
    if (!take_scheme(&text, ret))
        return sp_http_refuse(reading, 400, "The request target is neither a path nor an http or https URL.");
    size_t len = 0;
    while (len < text.len && text.at[len] != '/' && text.at[len] != '?')
        len++;
    if (!sp_http_parse_authority(sp_span(text.at, len), &ret->host, &ret->port))
        return sp_http_refuse(reading, 400, "The request target's authority is malformed.");
    text = sp_span_from(text, len);
    if (text.len > 0 && text.at[0] == '/')
        return read_origin(reading, text, ret);
    /* An empty path is "/", or "*" where OPTIONS asks about the server as a whole (RFC 9112 §3.2.4). */
    ret->path = options && text.len == 0 ? SP_SPAN("*") : SP_SPAN("/");
    ret->query = sp_span_from(text, 1);
    return check_query(reading, ret->query);
}

unsigned sp_http_read_target(struct sp_http_reading *reading, struct sp_span target, struct sp_span method, struct sp_http_target *ret) {
    *ret = (struct sp_http_target){.query = sp_span(target.at + target.len, 0)};
    bool options = sp_span_eq(method, SP_SPAN("OPTIONS"));
    if (target.len == 0)
        return sp_http_refuse(reading, 400, "The request line has no target, or more than single spaces.");
    if (target.len > SP_HTTP_TARGET_MAX)
        return sp_http_refuse(reading, 414, "The request target is too long.");
    if (sp_span_eq(method, SP_SPAN("CONNECT"))) {
        struct sp_span host;
        uint16_t port;
        if (!sp_http_parse_authority(target, &host, &port) || port == 0)
            return sp_http_refuse(reading, 400, "The target of CONNECT is not host:port.");
        return sp_http_refuse(reading, 501, "CONNECT is not supported.");
    }
    if (target.at[0] == '/')
        return read_origin(reading, target, ret);
    if (sp_span_eq(target, SP_SPAN("*"))) {
        ret->path = target;
        return options ? 0 : sp_http_refuse(reading, 400, "Only OPTIONS may have the target \"*\".");
    }
    return read_absolute(reading, target, options, ret);
}
