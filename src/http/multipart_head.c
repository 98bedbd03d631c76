#include "multipart_head.h"

#include <sallyport/http.h>
#include <sallyport/json.h>

#include "chars.h"

#define MALFORMED(what) "The body is not valid multipart/form-data: " what

/* Takes a run of token bytes off the front; empty when there is none. */
static struct sp_span take_token(struct sp_span *rest) {
    size_t n = 0;
    while (n < rest->len && sp_char_is(rest->at[n], SP_CHAR_TOKEN))
        n++;
    struct sp_span token = sp_span(rest->at, n);
    *rest = sp_span_from(*rest, n);
    return token;
}

static bool take_byte(struct sp_span *rest, char byte) {
    if (rest->len == 0 || rest->at[0] != byte)
        return false;
    *rest = sp_span_from(*rest, 1);
    return true;
}

/* The inside of a quoted string. Some readers take a backslash before a quote for an escape, others for the end of a Windows path: refused.
 */
static bool take_quoted(struct sp_span *rest, struct sp_span *ret_text) {
    if (!take_byte(rest, '"'))
        return false;
    const char *quote = memchr(rest->at, '"', rest->len);
    if (!quote || (quote > rest->at && quote[-1] == '\\'))
        return false;
    *ret_text = sp_span(rest->at, (size_t)(quote - rest->at));
    *rest = sp_span_from(*rest, ret_text->len + 1);
    return true;
}

enum parameter { NONE, FOUND, MALFORMED_PARAMETER };

/* *( OWS ";" OWS token "=" ( token / quoted-string ) ), RFC 9110 §5.6.6 without its empty parameters. */
static enum parameter next_parameter(struct sp_span *rest, struct sp_span *ret_name, struct sp_span *ret_value) {
    *rest = sp_span_trim(*rest);
    if (rest->len == 0)
        return NONE;
    if (!take_byte(rest, ';'))
        return MALFORMED_PARAMETER;
    *rest = sp_span_trim(*rest);
    *ret_name = take_token(rest);
    if (ret_name->len == 0 || !take_byte(rest, '='))
        return MALFORMED_PARAMETER;
    if (rest->len > 0 && rest->at[0] == '"')
        return take_quoted(rest, ret_value) ? FOUND : MALFORMED_PARAMETER;
    *ret_value = take_token(rest);
    return ret_value->len > 0 ? FOUND : MALFORMED_PARAMETER;
}

static bool is_boundary(struct sp_span text) {
    if (text.len == 0 || text.len > SP_MULTIPART_BOUNDARY_MAX || text.at[text.len - 1] == ' ')
        return false;
    static const struct sp_span others = SP_SPAN("'()+_,-./:=? ");
    for (size_t i = 0; i < text.len; i++) {
        bool is_alphanumeric = (uint8_t)(text.at[i] - '0') < 10 || (uint8_t)((text.at[i] | 0x20) - 'a') < 26;
        if (!is_alphanumeric && !memchr(others.at, text.at[i], others.len))
            return false;
    }
    return true;
}

bool sp_multipart_boundary(struct sp_span content_type, struct sp_span *ret_boundary) {
    static const struct sp_span type = SP_SPAN("multipart/form-data");
    struct sp_span rest = sp_span_trim(content_type), name, value, boundary = {0};
    if (rest.len < type.len || !sp_span_eq_nocase(sp_span(rest.at, type.len), type))
        return false;
    rest = sp_span_from(rest, type.len);
    enum parameter found;
    while ((found = next_parameter(&rest, &name, &value)) == FOUND)
        if (sp_span_eq_nocase(name, SP_SPAN("boundary"))) {
            if (boundary.at)
                return false;
            boundary = value;
        }
    if (found != NONE || !boundary.at || !is_boundary(boundary))
        return false;
    *ret_boundary = boundary;
    return true;
}

/* Encoded, or a part of a longer one: name*, name*0 (RFC 2231). */
static bool is_extended(struct sp_span name, struct sp_span plain) {
    return name.len > plain.len && name.at[plain.len] == '*' && sp_span_eq_nocase(sp_span(name.at, plain.len), plain);
}

static bool parse_disposition(struct sp_span value, struct sp_multipart_head *head) {
    struct sp_span rest = value, name, text;
    if (!sp_span_eq_nocase(take_token(&rest), SP_SPAN("form-data")))
        return false;
    enum parameter found;
    while ((found = next_parameter(&rest, &name, &text)) == FOUND) {
        if (sp_span_eq_nocase(name, SP_SPAN("name"))) {
            if (head->name.at || memchr(text.at, '\\', text.len))
                return false;
            head->name = text;
        } else if (is_extended(name, SP_SPAN("name"))) { /* RFC 7578 §4.2: must not be; readers differ about which one counts */
            return false;
        } else if (sp_span_eq_nocase(name, SP_SPAN("filename")) || sp_span_eq_nocase(name, SP_SPAN("filename*"))) {
            head->is_file = true;
        }
    }
    return found == NONE && head->name.at && head->name.len > 0;
}

/* "utf8" is no registered name, but many send it and nobody takes it for anything else. */
static bool is_part_of_utf8(struct sp_span charset) {
    return sp_span_eq_nocase(charset, SP_SPAN("utf-8")) || sp_span_eq_nocase(charset, SP_SPAN("utf8")) ||
           sp_span_eq_nocase(charset, SP_SPAN("us-ascii"));
}

/* type "/" subtype and parameters, of which only the character set matters here. */
static bool parse_type(struct sp_span value, struct sp_multipart_head *head) {
    struct sp_span rest = value, name, text;
    if (take_token(&rest).len == 0 || !take_byte(&rest, '/') || take_token(&rest).len == 0)
        return false;
    enum parameter found;
    while ((found = next_parameter(&rest, &name, &text)) == FOUND)
        if (sp_span_eq_nocase(name, SP_SPAN("charset")))
            head->is_utf8 &= is_part_of_utf8(text);
        else if (is_extended(name, SP_SPAN("charset")))
            head->is_utf8 = false;
    return found == NONE;
}

bool sp_content_is_utf8(struct sp_span content_type) {
    if (sp_http_is_plain_json(content_type))
        return true;
    while (content_type.len > 0 && memchr("; \t", content_type.at[content_type.len - 1], 3))
        content_type.len--; /* empty parameters are allowed, RFC 9110 §5.6.6 */
    struct sp_multipart_head head = {.is_utf8 = true};
    return parse_type(content_type, &head) && head.is_utf8;
}

/* RFC 7578 §4.7 wants none; a coding that changes bytes would make a value read differently by who knows it. */
static bool is_plain_coding(struct sp_span value) {
    return sp_span_eq_nocase(value, SP_SPAN("binary")) || sp_span_eq_nocase(value, SP_SPAN("8bit")) ||
           sp_span_eq_nocase(value, SP_SPAN("7bit"));
}

static const char *parse_field(struct sp_span line, struct sp_multipart_head *head, unsigned *seen) {
    enum { DISPOSITION = 1, TYPE = 2, CODING = 4 };
    struct sp_span rest = line, name = take_token(&rest);
    if (name.len == 0 || !take_byte(&rest, ':') || !sp_http_is_field_value(rest))
        return MALFORMED("a part's head has a malformed line.");
    rest = sp_span_trim(rest);
    unsigned field = sp_span_eq_nocase(name, SP_SPAN("content-disposition"))         ? DISPOSITION
                     : sp_span_eq_nocase(name, SP_SPAN("content-type"))              ? TYPE
                     : sp_span_eq_nocase(name, SP_SPAN("content-transfer-encoding")) ? CODING
                                                                                     : 0;
    if (*seen & field)
        return MALFORMED("a part's head says one thing twice.");
    *seen |= field;
    if (field == DISPOSITION && !parse_disposition(rest, head))
        return MALFORMED("a part's Content-Disposition must be form-data with one name, without backslashes.");
    if (field == TYPE && !parse_type(rest, head))
        return MALFORMED("a part's Content-Type is malformed.");
    if (field == CODING && !is_plain_coding(rest))
        return "A part has a Content-Transfer-Encoding; send parts as they are.";
    return NULL;
}

const char *sp_multipart_parse_head(struct sp_span text, struct sp_multipart_head *ret_head) {
    struct sp_multipart_head head = {.is_utf8 = true};
    unsigned seen = 0;
    while (text.len > 2) {
        const char *cr = memchr(text.at, '\r', text.len);
        size_t n = cr ? (size_t)(cr - text.at) : text.len;
        if (text.len < n + 2 || text.at[n + 1] != '\n')
            return MALFORMED("a line of a part's head does not end in CR LF.");
        const char *wrong = parse_field(sp_span(text.at, n), &head, &seen);
        if (wrong)
            return wrong;
        text = sp_span_from(text, n + 2);
    }
    if (!head.name.at)
        return MALFORMED("a part has no Content-Disposition.");
    *ret_head = head;
    return NULL;
}
