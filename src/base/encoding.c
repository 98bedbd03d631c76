#include <sallyport/base.h>

#include <endian.h>
#include <errno.h>

/* How many decimal digits: 1233 / 4096 is a little less than log10(2), so that the number of bits says it, or one too few. */
static size_t count_digits(uint64_t number) {
    /* clang-format off */
    static const uint64_t powers[SP_DECIMAL_MAX] = {
        0, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000, 100000000000, 1000000000000, 10000000000000,
        100000000000000, 1000000000000000, 10000000000000000, 100000000000000000, 1000000000000000000, 10000000000000000000u};
    /* clang-format on */
    unsigned bits = 64 - (unsigned)__builtin_clzll(number | 1), guess = bits * 1233 >> 12;
    return guess + (number >= powers[guess]);
}

size_t sp_decimal(uint64_t number, char out[SP_DECIMAL_MAX]) {
    static const char pairs[] = "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
                                "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    size_t len = count_digits(number);
    char *at = out + len;
    for (; number >= 100; number /= 100)
        memcpy(at -= 2, pairs + number % 100 * 2, 2);
    if (number >= 10)
        memcpy(at - 2, pairs + number * 2, 2);
    else
        at[-1] = (char)('0' + number);
    return len;
}

/* Four bytes, the first one lowest, to eight digits. */
static inline uint64_t hex_word(uint32_t bytes) {
    const uint64_t each = UINT64_C(0x0101010101010101);
    uint64_t word = bytes;
    word = (word | word << 16) & UINT64_C(0x0000ffff0000ffff);
    word = (word | word << 8) & UINT64_C(0x00ff00ff00ff00ff);
    word = (word >> 4 | word << 8) & each * 15; /* the high digit comes first */
    uint64_t is_letter = (word + each * 6) >> 4 & each;
    return word + each * '0' + is_letter * ('a' - '9' - 1);
}

size_t sp_hex(const void *bytes, size_t len, char *out) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *in = bytes;
    size_t whole = len & ~(size_t)3;
    for (size_t i = 0; i < whole; i += 4) {
        uint32_t four;
        memcpy(&four, in + i, sizeof four);
        uint64_t eight = htole64(hex_word(le32toh(four)));
        memcpy(out + 2 * i, &eight, sizeof eight);
    }
    for (size_t i = whole; i < len; i++) {
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

/* Each digit's value and 1; 0: no digit. */
static const uint8_t base64url_values[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,  ['I'] = 9,  ['J'] = 10, ['K'] = 11,
    ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16, ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22,
    ['W'] = 23, ['X'] = 24, ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32, ['g'] = 33,
    ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40, ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44,
    ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48, ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55,
    ['3'] = 56, ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['-'] = 63, ['_'] = 64};

bool sp_base64url_digits(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if (!base64url_values[(unsigned char)text.at[i]])
            return false;
    return true;
}

/* n digits, the first the most significant; of what is no digit, bits above them all. */
static uint32_t base64url_bits(const unsigned char *digits, size_t n) {
    uint32_t bits = 0, wrong = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t value = base64url_values[digits[i]] - 1u;
        wrong |= value;
        bits = bits << 6 | (value & 63);
    }
    return bits | (wrong & 0xff000000u);
}

ssize_t sp_base64url_decode(struct sp_span text, void *out, size_t size) {
    const unsigned char *from = (const unsigned char *)text.at, *end = from + text.len / 4 * 4;
    unsigned char *to = out;
    size_t rest = text.len % 4;
    uint32_t bits, wrong = 0;
    if (rest == 1)
        return -EINVAL;
    if (text.len / 4 * 3 + (rest ? rest - 1 : 0) > size)
        return -ENOSPC;
    for (; from < end; from += 4, to += 3) {
        wrong |= bits = base64url_bits(from, 4);
        to[0] = (unsigned char)(bits >> 16);
        to[1] = (unsigned char)(bits >> 8);
        to[2] = (unsigned char)bits;
    }
    if (rest) {
        unsigned unused = rest == 2 ? 4 : 2; /* of the last digit's bits, which must be zero */
        wrong |= bits = base64url_bits(from, rest);
        if (bits & ((1u << unused) - 1))
            return -EINVAL;
        for (bits >>= unused; rest > 1; rest--)
            *to++ = (unsigned char)(bits >> (rest - 2) * 8);
    }
    return wrong & 0xff000000u ? -EINVAL : to - (unsigned char *)out;
}
