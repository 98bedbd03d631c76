#include "line.h"

/* The most bytes each text may take, escapes included. Together with keys and numbers they stay below SP_LINE_MAX. */
enum {
    REQUEST_ID_MAX = 64,
    CLIENT_MAX = 64,
    PROTOCOL_MAX = 16,
    TLS_MAX = 48,
    METHOD_MAX = 32,
    HOST_MAX = 256,
    PATH_MAX_BYTES = 1024,
    NAME_MAX_BYTES = 128,
    MODEL_MAX = 256,
    SUBJECT_MAX = 256,
    TENANT_MAX = 128,
    KEY_ID_MAX = 32,
    REASON_MAX = 128,
    KIND_MAX = 16,
    SERVER_MAX = 256,
    TEXTS_MAX = REQUEST_ID_MAX + CLIENT_MAX + PROTOCOL_MAX + 3 * TLS_MAX + METHOD_MAX + HOST_MAX + PATH_MAX_BYTES +
                4 * NAME_MAX_BYTES /* route, limit, shadow limit, pool */ + MODEL_MAX + SUBJECT_MAX + TENANT_MAX + KEY_ID_MAX + REASON_MAX +
                KIND_MAX + SERVER_MAX,
    N_TEXTS = 21,
    QUOTES_AND_ELLIPSIS = 5,
    KEYS_MAX = 440, /* with the time and what stands between */
    NUMBER_MAX = 24,
    N_NUMBERS = 8,
};
_Static_assert(TEXTS_MAX + N_TEXTS * QUOTES_AND_ELLIPSIS + KEYS_MAX + N_NUMBERS * NUMBER_MAX <= SP_LINE_MAX,
               "a line fits whatever it says");

/* Appends a literal; its length is known at compile time. */
#define PUT(at, literal) ((char *)memcpy((at), literal, sizeof(literal) - 1) + sizeof(literal) - 1)

static char *put_null(char *at) { return PUT(at, "null"); }

static char *put_u64(char *at, uint64_t number) { return at + sp_decimal(number, at); }

static char *put_i64(char *at, int64_t number) { return number < 0 ? put_null(at) : put_u64(at, (uint64_t)number); }

/* Microseconds as milliseconds with three decimals. */
static char *put_ms(char *at, uint64_t us) {
    at = put_u64(at, us / 1000);
    unsigned rest = (unsigned)(us % 1000);
    at[0] = '.';
    at[1] = (char)('0' + rest / 100);
    at[2] = (char)('0' + rest / 10 % 10);
    at[3] = (char)('0' + rest % 10);
    return at + 4;
}

/* ---- Text ---- */

typedef int8_t bytes16 __attribute__((vector_size(16)));

/* Whether one of sixteen bytes is a control, a quote, a backslash, DEL or beyond ASCII. With the bit of value 2 flipped the quote comes
 * just after the controls, and as signed numbers the bytes beyond ASCII come before them: one comparison tells the three. */
static bool has_odd(bytes16 bytes) {
    bytes16 flipped = bytes ^ 2;
    bytes16 odd = (bytes16)((flipped < 0x21) | (flipped == ('\\' ^ 2)) | (flipped == (0x7f ^ 2)));
    uint64_t half[2];
    memcpy(half, &odd, sizeof half);
    return half[0] | half[1];
}

/* Copies up to fifteen bytes, in pieces that overlap, and looks at them on the way. */
static bool copy_short(char *at, struct sp_span text) {
    uint64_t half[2];
    uint32_t quarter[2];
    bytes16 bytes;
    if (text.len >= 8) {
        memcpy(&half[0], text.at, 8);
        memcpy(&half[1], text.at + text.len - 8, 8);
        memcpy(at, &half[0], 8);
        memcpy(at + text.len - 8, &half[1], 8);
    } else if (text.len >= 4) {
        memcpy(&quarter[0], text.at, 4);
        memcpy(&quarter[1], text.at + text.len - 4, 4);
        memcpy(at, &quarter[0], 4);
        memcpy(at + text.len - 4, &quarter[1], 4);
        half[0] = half[1] = quarter[0] | (uint64_t)quarter[1] << 32;
    } else {
        at[0] = text.at[0];
        at[text.len / 2] = text.at[text.len / 2];
        at[text.len - 1] = text.at[text.len - 1];
        const uint64_t plain = UINT64_C(0x6161616161000000);
        half[0] = half[1] = plain | (uint8_t)at[0] | (uint32_t)(uint8_t)at[text.len / 2] << 8 | (uint32_t)(uint8_t)at[text.len - 1] << 16;
    }
    memcpy(&bytes, half, sizeof bytes);
    return !has_odd(bytes);
}

/* false: something needs escaping, start again. */
static bool copy_plain(char *at, struct sp_span text) {
    bytes16 bytes;
    if (text.len < sizeof bytes)
        return copy_short(at, text);
    bool odd = false;
    for (size_t i = 0; i + sizeof bytes < text.len; i += sizeof bytes) {
        memcpy(&bytes, text.at + i, sizeof bytes);
        memcpy(at + i, &bytes, sizeof bytes);
        odd |= has_odd(bytes);
    }
    memcpy(&bytes, text.at + text.len - sizeof bytes, sizeof bytes);
    memcpy(at + text.len - sizeof bytes, &bytes, sizeof bytes);
    return !(odd | has_odd(bytes));
}

/* Length of the well-formed UTF-8 sequence (RFC 3629) that begins text, 0 when there is none. */
static size_t utf8_sequence(struct sp_span text) {
    size_t len = (unsigned char)text.at[0] >= 0xf0 ? 4 : (unsigned char)text.at[0] >= 0xe0 ? 3 : 2;
    return text.len >= len && sp_utf8_valid(sp_span(text.at, len)) ? len : 0;
}

/* One character of text as JSON says it, into piece; *ret_used is how many bytes of text it was. C1 controls are escaped
 * besides what RFC 8259 asks for, because terminals obey them. */
static size_t escape(struct sp_span text, char piece[6], size_t *ret_used) {
    static const char hex[] = "0123456789abcdef";
    unsigned char c = (unsigned char)text.at[0];
    *ret_used = 1;
    if (c == '"' || c == '\\') {
        piece[0] = '\\';
        piece[1] = (char)c;
        return 2;
    }
    if (c >= 0x20 && c < 0x7f) {
        piece[0] = (char)c;
        return 1;
    }
    if (c >= 0x80) {
        size_t len = utf8_sequence(text);
        if (len == 0) {
            memcpy(piece, "\xef\xbf\xbd", 3); /* U+FFFD */
            return 3;
        }
        *ret_used = len;
        if (c != 0xc2 || (unsigned char)text.at[1] >= 0xa0) {
            memcpy(piece, text.at, len);
            return len;
        }
        c = (unsigned char)text.at[1];
    }
    memcpy(piece, "\\u00", 4);
    piece[4] = hex[c >> 4];
    piece[5] = hex[c & 15];
    return 6;
}

/* Of text that is not plain, which is rare: what this needs on the stack put_text() does without. */
__attribute__((noinline)) static char *put_odd(char *at, struct sp_span text, size_t max) {
    char piece[6];
    size_t used, room = max;
    for (size_t i = 0; i < text.len; i += used) {
        size_t len = escape(sp_span_from(text, i), piece, &used);
        if (len > room)
            return PUT(at, "\xe2\x80\xa6"); /* "…": clipped */
        memcpy(at, piece, len);
        at += len;
        room -= len;
    }
    return at;
}

static char *put_text(char *at, struct sp_span text, size_t max) {
    if (text.len == 0)
        return put_null(at);
    *at++ = '"';
    if (text.len <= max && copy_plain(at, text))
        at += text.len;
    else
        at = put_odd(at, text, max);
    *at++ = '"';
    return at;
}

static char *put_tls(char *at, const struct sp_access_record *record) {
    if (record->tls_version.len == 0)
        return put_null(at);
    at = put_text(PUT(at, "{\"version\":"), record->tls_version, TLS_MAX);
    at = put_text(PUT(at, ",\"group\":"), record->tls_group, TLS_MAX);
    at = put_text(PUT(at, ",\"cipher\":"), record->tls_cipher, TLS_MAX);
    return PUT(at, "}");
}

/* Who says how many tokens it took. */
static char *put_usage(char *at, const struct sp_access_record *record) {
    if (record->tokens_in < 0 && record->tokens_out < 0)
        return put_null(at);
    return record->tokens_estimated ? PUT(at, "\"estimated\"") : PUT(at, "\"reported\"");
}

static char *put_who(char *at, const struct sp_access_record *record) {
    at = PUT(at, "{\"time\":\"");
    sp_timestamp(record->wall_ms, at);
    at = put_text(PUT(at + SP_TIMESTAMP_LEN, "\",\"request_id\":"), record->request_id, REQUEST_ID_MAX);
    at = put_text(PUT(at, ",\"client\":"), record->client, CLIENT_MAX);
    at = put_text(PUT(at, ",\"protocol\":"), record->protocol, PROTOCOL_MAX);
    at = put_tls(PUT(at, ",\"tls\":"), record);
    at = put_text(PUT(at, ",\"method\":"), record->method, METHOD_MAX);
    at = put_text(PUT(at, ",\"host\":"), record->host, HOST_MAX);
    at = put_text(PUT(at, ",\"path\":"), record->path, PATH_MAX_BYTES);
    at = put_text(PUT(at, ",\"route\":"), record->route, NAME_MAX_BYTES);
    at = put_text(PUT(at, ",\"model\":"), record->model, MODEL_MAX);
    at = put_text(PUT(at, ",\"subject\":"), record->subject, SUBJECT_MAX);
    at = put_text(PUT(at, ",\"tenant\":"), record->tenant, TENANT_MAX);
    return put_text(PUT(at, ",\"key_id\":"), record->key_id, KEY_ID_MAX);
}

static char *put_outcome(char *at, const struct sp_access_record *record) {
    at = PUT(at, ",\"status\":");
    at = record->status > 0 ? put_u64(at, record->status) : put_null(at);
    at = put_text(PUT(at, ",\"reason\":"), record->reason, REASON_MAX);
    at = put_text(PUT(at, ",\"limit\":"), record->limit, NAME_MAX_BYTES);
    at = put_text(PUT(at, ",\"limit_kind\":"), record->limit_kind, KIND_MAX);
    if (record->shadow_limit.len > 0)
        at = put_text(PUT(at, ",\"shadow_limit\":"), record->shadow_limit, NAME_MAX_BYTES);
    at = put_text(PUT(at, ",\"pool\":"), record->pool, NAME_MAX_BYTES);
    at = put_text(PUT(at, ",\"server\":"), record->server, SERVER_MAX);
    at = put_u64(PUT(at, ",\"bytes_in\":"), record->bytes_in);
    at = put_u64(PUT(at, ",\"bytes_out\":"), record->bytes_out);
    at = put_i64(PUT(at, ",\"tokens_in\":"), record->tokens_in);
    at = put_i64(PUT(at, ",\"tokens_out\":"), record->tokens_out);
    at = put_usage(PUT(at, ",\"usage\":"), record);
    at = PUT(at, ",\"first_byte_ms\":");
    at = record->first_byte_us < 0 ? put_null(at) : put_ms(at, (uint64_t)record->first_byte_us);
    at = put_ms(PUT(at, ",\"total_ms\":"), record->total_us);
    at = put_u64(PUT(at, ",\"retries\":"), record->retries);
    at = PUT(at, ",\"degraded\":");
    return record->degraded ? PUT(at, "true}\n") : PUT(at, "false}\n");
}

size_t sp_access_line(const struct sp_access_record *record, char out[SP_LINE_MAX]) {
    return (size_t)(put_outcome(put_who(out, record), record) - out);
}
