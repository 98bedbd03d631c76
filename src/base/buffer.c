#include <sallyport/base.h>

#include <errno.h>
#include <stdio.h>

enum { FIRST_CAPACITY = 1024 };

void sp_buffer_init(struct sp_buffer *buffer, size_t max) { *buffer = (struct sp_buffer){.max = max}; }

void sp_buffer_free(struct sp_buffer *buffer) {
    free(buffer->bytes);
    *buffer = (struct sp_buffer){.max = buffer->max};
}

int sp_buffer_grow(struct sp_buffer *buffer, size_t want) {
    size_t held = sp_buffer_len(buffer), needed;
    if (__builtin_add_overflow(held, want, &needed) || needed > buffer->max)
        return -ENOSPC;
    if (needed <= buffer->capacity) {
        memmove(buffer->bytes, buffer->bytes + buffer->begin, held);
    } else {
        size_t capacity = sp_max(buffer->capacity, (size_t)FIRST_CAPACITY);
        while (capacity < needed)
            capacity = capacity > buffer->max / 2 ? buffer->max : capacity * 2;
        capacity = sp_min(capacity, buffer->max);
        char *bytes = malloc(capacity);
        if (!bytes)
            return -ENOMEM;
        if (held)
            memcpy(bytes, buffer->bytes + buffer->begin, held);
        free(buffer->bytes);
        buffer->bytes = bytes;
        buffer->capacity = capacity;
    }
    buffer->begin = 0;
    buffer->end = held;
    return 0;
}

int sp_buffer_printf(struct sp_buffer *buffer, const char *format, ...) {
    for (size_t want = 256;;) {
        int error = sp_buffer_reserve(buffer, want);
        if (error)
            return error;
        va_list arguments;
        va_start(arguments, format);
        int n = vsnprintf(buffer->bytes + buffer->end, sp_buffer_room(buffer), format, arguments);
        va_end(arguments);
        if (n < 0)
            return -EINVAL;
        if ((size_t)n < sp_buffer_room(buffer)) {
            buffer->end += (size_t)n;
            return 0;
        }
        want = (size_t)n + 1;
    }
}

int sp_buffer_append_u64(struct sp_buffer *buffer, uint64_t number) {
    char digits[SP_DECIMAL_MAX];
    return sp_buffer_append(buffer, digits, sp_decimal(number, digits));
}

/* Length of the well-formed UTF-8 sequence at the front (RFC 3629), 0 when there is none. */
static size_t utf8_sequence(struct sp_span text) {
    const unsigned char *s = (const unsigned char *)text.at;
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
    if (n == 0 || n > text.len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static bool is_ascii_word(const char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return (word & UINT64_C(0x8080808080808080)) == 0;
}

bool sp_utf8_valid(struct sp_span text) {
    while (text.len) {
        size_t n = text.len >= 8 && is_ascii_word(text.at) ? 8 : utf8_sequence(text);
        if (n == 0)
            return false;
        text = sp_span_from(text, n);
    }
    return true;
}

int sp_buffer_append_json(struct sp_buffer *buffer, struct sp_span text) {
    static const char hex[] = "0123456789abcdef";
    /* The longest form of one input byte is six bytes: reserve once, then write without asking. */
    size_t most;
    if (__builtin_mul_overflow(text.len, (size_t)6, &most) || __builtin_add_overflow(most, (size_t)2, &most))
        return -ENOSPC;
    int error = sp_buffer_reserve(buffer, most);
    if (error)
        return error;
    char *out = sp_buffer_tail(buffer), *start = out;
    *out++ = '"';
    for (size_t n; text.len; text = sp_span_from(text, n)) {
        unsigned char c = (unsigned char)text.at[0];
        n = 1;
        if (c == '"' || c == '\\') {
            *out++ = '\\';
            *out++ = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            memcpy(out, "\\u00", 4);
            out[4] = hex[c >> 4];
            out[5] = hex[c & 15];
            out += 6;
        } else if (c < 0x80) {
            *out++ = (char)c;
        } else if ((n = utf8_sequence(text))) {
            memcpy(out, text.at, n);
            out += n;
        } else {
            n = 1;
            memcpy(out, "\xef\xbf\xbd", 3);
            out += 3;
        }
    }
    *out++ = '"';
    sp_buffer_added(buffer, (size_t)(out - start));
    return 0;
}
