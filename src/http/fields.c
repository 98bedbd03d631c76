#include <sallyport/http.h>

#include "chars.h"
#include "message.h"

_Static_assert(SP_FIELD_COUNT <= 64, "sets of fields are 64-bit masks");
_Static_assert(SP_HTTP_FIELDS_MAX < 255, "an index and one fit in a byte");

/* Meant for one connection only, whether Connection says so or not (RFC 9110 §7.6.1, §11.7). */
#define HOP_BY_HOP                                                                                                                         \
    (SP_FIELD_BIT(SP_FIELD_CONNECTION) | SP_FIELD_BIT(SP_FIELD_KEEP_ALIVE) | SP_FIELD_BIT(SP_FIELD_UPGRADE) | SP_FIELD_BIT(SP_FIELD_TE) |  \
     SP_FIELD_BIT(SP_FIELD_TRAILER) | SP_FIELD_BIT(SP_FIELD_TRANSFER_ENCODING) | SP_FIELD_BIT(SP_FIELD_PROXY_CONNECTION) |                 \
     SP_FIELD_BIT(SP_FIELD_PROXY_AUTHORIZATION) | SP_FIELD_BIT(SP_FIELD_PROXY_AUTHENTICATE))

#define CONNECTION_OPTIONS_MAX 16
#define KNOWN_NAME_MAX         (sizeof("strict-transport-security") - 1)

/* ---- Names ---- */

static inline bool same_word(const char *name, const char *lower) { return sp_word_lower(sp_char_word(name)) == sp_char_word(lower); }

/* The last eight bytes may overlap the ones before. */
static inline bool same_name(const char *name, const char *lower, size_t len) {
    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8)
            if (!same_word(name + i, lower + i))
                return false;
        return same_word(name + len - 8, lower + len - 8);
    }
    for (size_t i = 0; i < len; i++)
        if (sp_char_lower(name[i]) != lower[i])
            return false;
    return true;
}

/* Length, first and last letter tell all known names apart; a name that broke this would be a duplicate case label. */
#define KEY(len, first, last) ((unsigned)(len) << 16 | (unsigned)(uint8_t)(first) << 8 | (uint8_t)(last))
#define KNOWN(text, first, last, id)                                                                                                       \
    case KEY(sizeof(text) - 1, first, last):                                                                                               \
        return same_name(name.at, text, sizeof(text) - 1) ? (id) : SP_FIELD_OTHER

static enum sp_http_field_id find_whole(struct sp_span name) {
    switch (KEY(name.len, sp_char_lower(name.at[0]), sp_char_lower(name.at[name.len - 1]))) {
        KNOWN("te", 't', 'e', SP_FIELD_TE);
        KNOWN("via", 'v', 'a', SP_FIELD_VIA);
        KNOWN("date", 'd', 'e', SP_FIELD_DATE);
        KNOWN("etag", 'e', 'g', SP_FIELD_ETAG);
        KNOWN("host", 'h', 't', SP_FIELD_HOST);
        KNOWN("vary", 'v', 'y', SP_FIELD_VARY);
        KNOWN("allow", 'a', 'w', SP_FIELD_ALLOW);
        KNOWN("range", 'r', 'e', SP_FIELD_RANGE);
        KNOWN("accept", 'a', 't', SP_FIELD_ACCEPT);
        KNOWN("cookie", 'c', 'e', SP_FIELD_COOKIE);
        KNOWN("expect", 'e', 't', SP_FIELD_EXPECT);
        KNOWN("origin", 'o', 'n', SP_FIELD_ORIGIN);
        KNOWN("server", 's', 'r', SP_FIELD_SERVER);
        KNOWN("api-key", 'a', 'y', SP_FIELD_API_KEY);
        KNOWN("trailer", 't', 'r', SP_FIELD_TRAILER);
        KNOWN("upgrade", 'u', 'e', SP_FIELD_UPGRADE);
        KNOWN("location", 'l', 'n', SP_FIELD_LOCATION);
        KNOWN("forwarded", 'f', 'd', SP_FIELD_FORWARDED);
        KNOWN("ratelimit", 'r', 't', SP_FIELD_RATE_LIMIT);
        KNOWN("x-api-key", 'x', 'y', SP_FIELD_X_API_KEY);
        KNOWN("x-real-ip", 'x', 'p', SP_FIELD_X_REAL_IP);
        KNOWN("connection", 'c', 'n', SP_FIELD_CONNECTION);
        KNOWN("keep-alive", 'k', 'e', SP_FIELD_KEEP_ALIVE);
        KNOWN("set-cookie", 's', 'e', SP_FIELD_SET_COOKIE);
        KNOWN("tracestate", 't', 'e', SP_FIELD_TRACESTATE);
        KNOWN("user-agent", 'u', 't', SP_FIELD_USER_AGENT);
        KNOWN("retry-after", 'r', 'r', SP_FIELD_RETRY_AFTER);
        KNOWN("traceparent", 't', 't', SP_FIELD_TRACEPARENT);
        KNOWN("content-type", 'c', 'e', SP_FIELD_CONTENT_TYPE);
        KNOWN("x-request-id", 'x', 'd', SP_FIELD_X_REQUEST_ID);
        KNOWN("authorization", 'a', 'n', SP_FIELD_AUTHORIZATION);
        KNOWN("cache-control", 'c', 'l', SP_FIELD_CACHE_CONTROL);
        KNOWN("content-range", 'c', 'e', SP_FIELD_CONTENT_RANGE);
        KNOWN("last-modified", 'l', 'd', SP_FIELD_LAST_MODIFIED);
        KNOWN("content-length", 'c', 'h', SP_FIELD_CONTENT_LENGTH);
        KNOWN("accept-encoding", 'a', 'g', SP_FIELD_ACCEPT_ENCODING);
        KNOWN("accept-language", 'a', 'e', SP_FIELD_ACCEPT_LANGUAGE);
        KNOWN("idempotency-key", 'i', 'y', SP_FIELD_IDEMPOTENCY_KEY);
        KNOWN("content-encoding", 'c', 'g', SP_FIELD_CONTENT_ENCODING);
        KNOWN("content-language", 'c', 'e', SP_FIELD_CONTENT_LANGUAGE);
        KNOWN("proxy-connection", 'p', 'n', SP_FIELD_PROXY_CONNECTION);
        KNOWN("ratelimit-policy", 'r', 'y', SP_FIELD_RATE_LIMIT);
        KNOWN("www-authenticate", 'w', 'e', SP_FIELD_WWW_AUTHENTICATE);
        KNOWN("transfer-encoding", 't', 'g', SP_FIELD_TRANSFER_ENCODING);
        KNOWN("proxy-authenticate", 'p', 'e', SP_FIELD_PROXY_AUTHENTICATE);
        KNOWN("content-disposition", 'c', 'n', SP_FIELD_CONTENT_DISPOSITION);
        KNOWN("proxy-authorization", 'p', 'n', SP_FIELD_PROXY_AUTHORIZATION);
        KNOWN("strict-transport-security", 's', 'y', SP_FIELD_STRICT_TRANSPORT_SECURITY);
    default:
        return SP_FIELD_OTHER;
    }
}

#define IS_FAMILY(name, prefix) ((name).len > sizeof(prefix) - 1 && same_name((name).at, prefix, sizeof(prefix) - 1))

static enum sp_http_field_id find_family(struct sp_span name) {
    switch (sp_char_lower(name.at[0])) {
    case 'x':
        return IS_FAMILY(name, "x-stainless-")   ? SP_FIELD_X_STAINLESS
               : IS_FAMILY(name, "x-forwarded-") ? SP_FIELD_X_FORWARDED
               : IS_FAMILY(name, "x-ratelimit-") ? SP_FIELD_RATE_LIMIT
               : IS_FAMILY(name, "x-sallyport-") ? SP_FIELD_X_SALLYPORT
                                                 : SP_FIELD_OTHER;
    case 'o':
        return IS_FAMILY(name, "openai-") ? SP_FIELD_OPENAI : SP_FIELD_OTHER;
    case 'a':
        return IS_FAMILY(name, "anthropic-") ? SP_FIELD_ANTHROPIC : SP_FIELD_OTHER;
    default:
        return SP_FIELD_OTHER;
    }
}

enum sp_http_field_id sp_http_field_find(struct sp_span name) {
    if (name.len == 0)
        return SP_FIELD_OTHER;
    enum sp_http_field_id id = name.len <= KNOWN_NAME_MAX ? find_whole(name) : SP_FIELD_OTHER;
    return id != SP_FIELD_OTHER ? id : find_family(name);
}

bool sp_http_is_token(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if (!sp_char_is(text.at[i], SP_CHAR_TOKEN))
            return false;
    return text.len > 0;
}

bool sp_http_is_field_value(struct sp_span text) {
    const char *at = text.at, *end = text.at + text.len;
    while ((at = sp_next_control(at, end)) < end)
        if (*at++ != '\t')
            return false;
    return true;
}

/* ---- Lines ---- */

static bool is_blank(char byte) { return byte == ' ' || byte == '\t'; }

/* From reading->at to the CRLF that ends the line, which is taken too. */
static inline unsigned take_text(struct sp_http_reading *reading, struct sp_span *ret) {
    const char *at = reading->at;
    while ((at = sp_next_control(at, reading->end)) < reading->end && *at == '\t')
        at++;
    if (reading->end - at < 2 || at[0] != '\r' || at[1] != '\n')
        return sp_http_refuse(reading, 400, "A line contains a control byte, or does not end with CR LF.");
    *ret = sp_span(reading->at, (size_t)(at - reading->at));
    reading->at = at + 2;
    return 0;
}

unsigned sp_http_take_line(struct sp_http_reading *reading, struct sp_span *ret_line) { return take_text(reading, ret_line); }

/* The name is no token, or no colon follows it: says what a person would call it. */
static unsigned refuse_name(struct sp_http_reading *reading, const char *at) {
    if (at == reading->at && at < reading->end && is_blank(*at))
        return sp_http_refuse(reading, 400, "A field line begins with white space (line folding is obsolete).");
    if (at == reading->at && at < reading->end && *at == ':')
        return sp_http_refuse(reading, 400, "A field has no name.");
    if (at < reading->end && is_blank(*at))
        return sp_http_refuse(reading, 400, "A field name is followed by white space.");
    if (at < reading->end && *at == '\r')
        return sp_http_refuse(reading, 400, "A field line has no colon.");
    return sp_http_refuse(reading, 400, "A field name contains a byte that names may not contain.");
}

/* Past letters, digits and hyphens, of which most names consist, sixteen at a time: all of them are SP_CHAR_TOKEN. */
static inline const char *skip_common(const char *at, const char *end) {
#ifdef __SSE2__
    for (; end - at >= 16; at += 16) {
        unsigned others = ~sp_char_block_common(sp_char_block(at)) & 0xffff;
        if (others)
            return at + __builtin_ctz(others);
    }
#endif
    return at;
}

/* Up to the colon, which is taken too. */
static inline unsigned take_name(struct sp_http_reading *reading, struct sp_http_field *ret) {
    const char *name = reading->at, *at = skip_common(name, reading->end);
    while (at < reading->end && sp_char_is(*at, SP_CHAR_TOKEN))
        at++;
    if (at == name || at == reading->end || *at != ':')
        return refuse_name(reading, at);
    ret->name = sp_span(name, (size_t)(at - name));
    enum sp_http_field_id id = sp_http_field_find(ret->name);
    ret->id = (uint16_t)id;
    ret->hop_by_hop = SP_FIELD_BIT(id) & HOP_BY_HOP;
    reading->at = at + 1;
    return 0;
}

static inline unsigned take_field(struct sp_http_reading *reading, struct sp_http_field *ret) {
    struct sp_span text;
    unsigned status = take_name(reading, ret);
    if (!status)
        status = take_text(reading, &text);
    if (status)
        return status;
    /* The only byte below a space that is left in it is a tab. */
    ret->plain = text.len > 1 && text.at[0] == ' ' && (uint8_t)text.at[1] > ' ' && (uint8_t)text.at[text.len - 1] > ' ';
    ret->value = ret->plain ? sp_span(text.at + 1, text.len - 1) : sp_span_trim(text);
    return 0;
}

unsigned sp_http_take_fields(struct sp_http_reading *reading, struct sp_http_fields *fields) {
    while (reading->at == reading->end || *reading->at != '\r') {
        if (fields->count == SP_HTTP_FIELDS_MAX)
            return sp_http_refuse(reading, 431, "There are too many fields.");
        struct sp_http_field *field = &fields->item[fields->count];
        unsigned status = take_field(reading, field);
        if (status)
            return status;
        fields->count++;
        if (fields->first[field->id])
            fields->repeated |= SP_FIELD_BIT(field->id);
        else
            fields->first[field->id] = (uint8_t)fields->count;
    }
    if (reading->end - reading->at != 2 || reading->at[1] != '\n')
        return sp_http_refuse(reading, 400, "The head does not end with one empty line.");
    reading->at = reading->end;
    return 0;
}

/* ---- Connection (RFC 9110 §7.6.1) ---- */

static unsigned read_option(struct sp_http_reading *reading, struct sp_http_fields *fields, struct sp_span option,
                            struct sp_http_connection *ret) {
    enum sp_http_field_id id = sp_http_field_find(option);
    if (id == SP_FIELD_UPGRADE)
        ret->upgrade = true;
    if (SP_FIELD_BIT(id) & HOP_BY_HOP) /* marked by its name already, and a token, for it is one of ours */
        return 0;
    if (!sp_http_is_token(option))
        return sp_http_refuse(reading, 400, "A Connection option is not a token.");
    if (sp_span_eq_nocase(option, SP_SPAN("close"))) {
        ret->close = true;
        return 0;
    }
    if (id != SP_FIELD_OTHER)
        return sp_http_refuse(reading, 400, "Connection names a field that is meant for the recipient.");
    for (unsigned i = 0; i < fields->count; i++)
        if (fields->item[i].id == SP_FIELD_OTHER && sp_span_eq_nocase(fields->item[i].name, option))
            fields->item[i].hop_by_hop = true;
    return 0;
}

unsigned sp_http_read_connection(struct sp_http_reading *reading, struct sp_http_fields *fields, struct sp_http_connection *ret) {
    *ret = (struct sp_http_connection){0};
    unsigned options = 0;
    for (unsigned i = fields->first[SP_FIELD_CONNECTION]; i > 0 && i <= fields->count; i++) {
        const struct sp_http_field *field = &fields->item[i - 1];
        if (field->id != SP_FIELD_CONNECTION)
            continue;
        if (field->value.len == 0)
            return sp_http_refuse(reading, 400, "A Connection field is empty.");
        struct sp_span rest = field->value, option;
        while (sp_span_split(&rest, ',', &option)) {
            /* Each may be compared with every field: a bound keeps that cheap. */
            if (++options > CONNECTION_OPTIONS_MAX)
                return sp_http_refuse(reading, 400, "There are too many Connection options.");
            unsigned status = read_option(reading, fields, option, ret);
            if (status)
                return status;
        }
    }
    return 0;
}
