#include <sallyport/http.h>

#include "chars.h"
#include "message.h"

/* chunked-body = *chunk last-chunk trailer-section CRLF (RFC 9112 §7.1), each state named after what may come next.
 * White space around extensions is "bad" there and refused here. */
enum state {
    SIZE,          /* hex digits; ";" or CR once there is one */
    EXT_NAME,      /* token, at least one byte of it */
    EXT_NAME_MORE, /* token, "=", ";" or CR */
    EXT_VALUE,     /* token or a double quote */
    EXT_TOKEN,     /* token, ";" or CR */
    EXT_QUOTED,    /* qdtext, backslash, or the closing quote */
    EXT_ESCAPED,   /* what follows a backslash */
    EXT_END,       /* ";" or CR */
    SIZE_LF,
    PAYLOAD,
    PAYLOAD_CR,
    PAYLOAD_LF,
    TRAILER,       /* a field name, or the CR of the last line */
    TRAILER_NAME,  /* token or ":" */
    TRAILER_VALUE, /* field value or CR */
    TRAILER_LF,
    LAST_LF,
    ENDED,
    BROKEN,
};

/* Where a field here could change what was decided from the head (RFC 9110 §6.5.1). */
#define NOT_IN_TRAILERS                                                                                                                    \
    (SP_FIELD_BIT(SP_FIELD_CONTENT_LENGTH) | SP_FIELD_BIT(SP_FIELD_TRANSFER_ENCODING) | SP_FIELD_BIT(SP_FIELD_HOST) |                      \
     SP_FIELD_BIT(SP_FIELD_CONNECTION) | SP_FIELD_BIT(SP_FIELD_TRAILER) | SP_FIELD_BIT(SP_FIELD_TE) | SP_FIELD_BIT(SP_FIELD_UPGRADE) |     \
     SP_FIELD_BIT(SP_FIELD_EXPECT) | SP_FIELD_BIT(SP_FIELD_AUTHORIZATION) | SP_FIELD_BIT(SP_FIELD_X_API_KEY) |                             \
     SP_FIELD_BIT(SP_FIELD_API_KEY) | SP_FIELD_BIT(SP_FIELD_CONTENT_TYPE) | SP_FIELD_BIT(SP_FIELD_CONTENT_ENCODING))

static enum state size_digit(struct sp_http_chunks *c, char byte) {
    /* 16 digits fit into 64 bits; more than INT64_MAX is no size of anything. */
    if (++c->digits > 16 || c->left > INT64_MAX >> 4)
        return BROKEN;
    c->left = c->left << 4 | sp_char_hex(byte);
    return SIZE;
}

static enum state after_size(char byte) { return byte == '\r' ? SIZE_LF : byte == ';' ? EXT_NAME : BROKEN; }

static enum state next_in_size_line(struct sp_http_chunks *c, char byte) {
    switch ((enum state)c->state) {
    case SIZE:
        if (sp_char_is(byte, SP_CHAR_HEX))
            return size_digit(c, byte);
        return c->digits > 0 ? after_size(byte) : BROKEN;
    case EXT_NAME:
        return sp_char_is(byte, SP_CHAR_TOKEN) ? EXT_NAME_MORE : BROKEN;
    case EXT_NAME_MORE:
        if (sp_char_is(byte, SP_CHAR_TOKEN))
            return EXT_NAME_MORE;
        return byte == '=' ? EXT_VALUE : after_size(byte);
    case EXT_VALUE:
        return byte == '"' ? EXT_QUOTED : sp_char_is(byte, SP_CHAR_TOKEN) ? EXT_TOKEN : BROKEN;
    case EXT_TOKEN:
        return sp_char_is(byte, SP_CHAR_TOKEN) ? EXT_TOKEN : after_size(byte);
    case EXT_QUOTED:
        if (byte == '"')
            return EXT_END;
        return byte == '\\' ? EXT_ESCAPED : sp_char_is(byte, SP_CHAR_QUOTED) ? EXT_QUOTED : BROKEN;
    case EXT_ESCAPED: /* HTAB, SP, VCHAR, obs-text: qdtext and the two bytes that need escaping */
        return byte == '"' || byte == '\\' || sp_char_is(byte, SP_CHAR_QUOTED) ? EXT_QUOTED : BROKEN;
    case EXT_END:
        return after_size(byte);
    case SIZE_LF:
        if (byte != '\n')
            return BROKEN;
        c->digits = 0;
        return c->left > 0 ? PAYLOAD : TRAILER;
    default:
        return BROKEN;
    }
}

static enum state trailer_name(struct sp_http_chunks *c, char byte) {
    if (byte == ':')
        return SP_FIELD_BIT(sp_http_field_find(sp_span(c->name, sp_min(c->name_len, sizeof c->name)))) & NOT_IN_TRAILERS ? BROKEN
                                                                                                                         : TRAILER_VALUE;
    if (!sp_char_is(byte, SP_CHAR_TOKEN))
        return BROKEN;
    if (c->name_len < sizeof c->name)
        c->name[c->name_len++] = byte;
    return TRAILER_NAME;
}

static enum state next_in_trailers(struct sp_http_chunks *c, char byte) {
    switch ((enum state)c->state) {
    case TRAILER:
        c->name_len = 0;
        return byte == '\r' ? LAST_LF : byte == ':' ? BROKEN : trailer_name(c, byte);
    case TRAILER_NAME:
        return trailer_name(c, byte);
    case TRAILER_VALUE:
        if (byte == '\r')
            return TRAILER_LF;
        return byte == '\t' || ((uint8_t)byte >= 0x20 && byte != 0x7f) ? TRAILER_VALUE : BROKEN;
    case TRAILER_LF:
        return byte == '\n' ? TRAILER : BROKEN;
    case LAST_LF:
        return byte == '\n' ? ENDED : BROKEN;
    default:
        return BROKEN;
    }
}

static enum state next(struct sp_http_chunks *c, char byte) {
    if (c->state < PAYLOAD) {
        if (c->state > SIZE && c->state < SIZE_LF && ++c->overhead > SP_HTTP_CHUNK_OVERHEAD_MAX)
            return BROKEN;
        return next_in_size_line(c, byte);
    }
    if (c->state == PAYLOAD_CR)
        return byte == '\r' ? PAYLOAD_LF : BROKEN;
    if (c->state == PAYLOAD_LF)
        return byte == '\n' ? SIZE : BROKEN;
    return ++c->overhead > SP_HTTP_CHUNK_OVERHEAD_MAX ? BROKEN : next_in_trailers(c, byte);
}

enum sp_http_progress sp_http_chunks_next(struct sp_http_chunks *chunks, struct sp_span *input, struct sp_span *ret_payload) {
    const char *at = input->at, *end = at + input->len;
    while (at < end && chunks->state != PAYLOAD && chunks->state < ENDED) {
        chunks->state = (uint8_t)next(chunks, *at);
        at += chunks->state != BROKEN;
    }
    size_t n = 0;
    if (chunks->state == PAYLOAD) {
        n = (size_t)sp_min(chunks->left, (uint64_t)(end - at));
        chunks->left -= n;
        if (chunks->left == 0)
            chunks->state = PAYLOAD_CR;
    }
    *ret_payload = sp_span(at, n);
    *input = sp_span(at + n, (size_t)(end - at) - n);
    if (chunks->state == BROKEN)
        return SP_HTTP_REFUSED;
    return chunks->state == ENDED ? SP_HTTP_COMPLETE : SP_HTTP_INCOMPLETE;
}
