/* Bytes, as HTTP/1.1 sorts them: one table for every grammar rule that is a set of bytes, and a fast way to the next control byte. */
#ifndef SALLYPORT_HTTP_CHARS_H
#define SALLYPORT_HTTP_CHARS_H

#include <endian.h>

#include <sallyport/base.h>

/* Bits. */
enum sp_char_class {
    SP_CHAR_TOKEN = 1,       /* tchar, RFC 9110 §5.6.2 */
    SP_CHAR_PATH = 2,        /* pchar without "%", RFC 3986 §3.3 */
    SP_CHAR_QUERY = 4,       /* RFC 3986 §3.4 without "%", and what browsers and fetch() leave bare there: [ ] { } | ^ ` */
    SP_CHAR_HOST = 8,        /* letters, digits, "-", "." and "_" */
    SP_CHAR_HEX = 16,        /* HEXDIG, either case */
    SP_CHAR_UNRESERVED = 32, /* RFC 3986 §2.3 */
    SP_CHAR_QUOTED = 64,     /* qdtext, RFC 9110 §5.6.4 */
};
extern const uint8_t sp_char_class[256];

static inline bool sp_char_is(char byte, unsigned classes) { return sp_char_class[(uint8_t)byte] & classes; }

static inline char sp_char_lower(char byte) { return (uint8_t)(byte - 'A') < 26 ? (char)(byte | 0x20) : byte; }

/* Eight bytes at any address, the first one lowest. */
static inline uint64_t sp_char_word(const char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return le64toh(word);
}

#define SP_CHAR_EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* sp_char_lower() of eight bytes: in sums of seven bits and a constant, the top bit says whether a byte is past a bound. */
static inline uint64_t sp_char_word_lower(uint64_t word) {
    uint64_t low = word & SP_CHAR_EACH(0x7f);
    uint64_t from_a = low + SP_CHAR_EACH(0x80 - 'A'), past_z = low + SP_CHAR_EACH(0x7f - 'Z');
    return word | (((from_a ^ past_z) & ~word & SP_CHAR_EACH(0x80)) >> 2);
}

/* Of a byte that is SP_CHAR_HEX. */
static inline unsigned sp_char_hex(char digit) { return ((unsigned)digit & 15) + (digit > '9' ? 9 : 0); }

/* The first control byte (below 0x20, or DEL) of [at, end), or end. Eight bytes per step; no sum of seven bits and a constant reaches the
 * next byte, so its top bit says exactly: 0x20 or more, DEL. */
static inline const char *sp_next_control(const char *at, const char *end) {
    for (; end - at >= 8; at += 8) {
        uint64_t word = sp_char_word(at), low = word & SP_CHAR_EACH(0x7f);
        uint64_t text = low + SP_CHAR_EACH(0x80 - 0x20), del = low + SP_CHAR_EACH(0x80 - 0x7f);
        uint64_t found = (~text | del) & ~word & SP_CHAR_EACH(0x80);
        if (found)
            return at + (__builtin_ctzll(found) >> 3);
    }
    while (at < end && (uint8_t)*at >= 0x20 && *at != 0x7f)
        at++;
    return at;
}

#endif
