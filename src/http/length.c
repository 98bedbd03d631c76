#include "message.h"

static unsigned read_content_length(struct sp_http_reading *reading, struct sp_span value, uint64_t *ret) {
    uint64_t length;
    /* Digits and nothing else: no sign, no list, no white space between. INT64_MAX leaves room for every sum and every signed offset. */
    if (value.len > 19 || !sp_span_u64(value, &length) || length > INT64_MAX)
        return sp_http_refuse(reading, 400, "Content-Length is not a number that a body can have.");
    *ret = length;
    return 0;
}

/* What is wrong with a list of codings that is not just "chunked": 400 where framing would be ambiguous, 501 where it is clear but a
 * coding is not known here (RFC 9112 §6.1). */
static unsigned refuse_codings(struct sp_http_reading *reading, struct sp_span value) {
    struct sp_span rest = value, coding;
    bool chunked = false;
    while (sp_span_split(&rest, ',', &coding)) {
        if (chunked)
            return sp_http_refuse(reading, 400, "Transfer-Encoding says chunked before its last coding.");
        if (!sp_http_is_token(coding))
            return sp_http_refuse(reading, 400, "Transfer-Encoding is malformed.");
        chunked = sp_span_eq_nocase(coding, SP_SPAN("chunked"));
    }
    return sp_http_refuse(reading, 501, "Transfer-Encoding names a coding that is not supported: only chunked is.");
}

unsigned sp_http_read_length(struct sp_http_reading *reading, const struct sp_http_fields *fields, uint8_t minor,
                             struct sp_http_length *ret) {
    *ret = (struct sp_http_length){0};
    const struct sp_http_field *encoding = sp_http_field(fields, SP_FIELD_TRANSFER_ENCODING);
    const struct sp_http_field *length = sp_http_field(fields, SP_FIELD_CONTENT_LENGTH);
    if (encoding && length)
        return sp_http_refuse(reading, 400, "Content-Length and Transfer-Encoding contradict each other.");
    if (encoding && minor == 0)
        return sp_http_refuse(reading, 400, "HTTP/1.0 has no Transfer-Encoding.");
    if (encoding && !sp_span_eq_nocase(encoding->value, SP_SPAN("chunked")))
        return refuse_codings(reading, encoding->value);
    ret->chunked = encoding;
    ret->has_length = length;
    return length ? read_content_length(reading, length->value, &ret->length) : 0;
}
