#include <sallyport/base.h>

#include <errno.h>

size_t sp_hex(const void *bytes, size_t len, char *out) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *in = bytes;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    return 2 * len;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool sp_unhex(struct sp_span digits, void *out, size_t len) {
    unsigned char *to = out;
    if (digits.len != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(digits.at[2 * i]), low = hex_digit(digits.at[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        to[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

size_t sp_base64url(const void *bytes, size_t len, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *in = bytes;
    char *start = out;
    for (; len >= 3; len -= 3, in += 3) {
        *out++ = digits[in[0] >> 2];
        *out++ = digits[(in[0] & 3) << 4 | in[1] >> 4];
        *out++ = digits[(in[1] & 15) << 2 | in[2] >> 6];
        *out++ = digits[in[2] & 63];
    }
    if (len) {
        unsigned second = len == 2 ? in[1] : 0;
        *out++ = digits[in[0] >> 2];
        *out++ = digits[(in[0] & 3) << 4 | second >> 4];
        if (len == 2)
            *out++ = digits[(second & 15) << 2];
    }
    return (size_t)(out - start);
}

static int base64url_digit(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

ssize_t sp_base64url_decode(struct sp_span text, void *out, size_t size) {
    unsigned char *to = out;
    size_t used = 0;
    uint32_t bits = 0;
    unsigned held = 0;
    if (text.len % 4 == 1)
        return -EINVAL;
    if (text.len / 4 * 3 + (text.len % 4 ? text.len % 4 - 1 : 0) > size)
        return -ENOSPC;
    for (size_t i = 0; i < text.len; i++) {
        int digit = base64url_digit(text.at[i]);
        if (digit < 0)
            return -EINVAL;
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            to[used++] = (unsigned char)(bits >> held);
        }
    }
    if (bits & ((1u << held) - 1))
        return -EINVAL;
    return (ssize_t)used;
}
