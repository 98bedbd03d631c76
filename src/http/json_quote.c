#include "json_scan.h"

/* Bytes of the valid character that text begins with; 0: none. */
static size_t character(struct sp_span text) {
    uint8_t low, high;
    size_t more = sp_json_utf8_lead((uint8_t)text.at[0], &low, &high);
    if (more == 0 || more >= text.len || (uint8_t)text.at[1] < low || (uint8_t)text.at[1] > high)
        return 0;
    for (size_t i = 2; i <= more; i++)
        if (((uint8_t)text.at[i] & 0xc0) != 0x80)
            return 0;
    return more + 1;
}

static char *copy(char *out, const char *bytes, size_t len) {
    memcpy(out, bytes, len);
    return out + len;
}

size_t sp_json_quote(struct sp_span text, char *out) {
    char *begin = out;
    *out++ = '"';
    for (size_t n; text.len > 0; text = sp_span_from(text, n)) {
        uint8_t byte = (uint8_t)text.at[0];
        n = byte < 0x80 ? 1 : character(text);
        if (byte < 0x20 || byte == 0x7f) {
            out = copy(out, "\\u00", 4);
            out += sp_hex(&byte, 1, out);
        } else if (n == 0) {
            n = 1;
            out = copy(out, "\xef\xbf\xbd", 3); /* U+FFFD */
        } else {
            if (byte == '"' || byte == '\\')
                *out++ = '\\';
            out = copy(out, text.at, n);
        }
    }
    *out++ = '"';
    return (size_t)(out - begin);
}
