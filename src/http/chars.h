/* Bytes, as HTTP/1.1 sorts them: one table for every grammar rule that is a set of bytes, and a fast way to the next control byte. */
#ifndef SALLYPORT_HTTP_CHARS_H
#define SALLYPORT_HTTP_CHARS_H

#include <endian.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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
    SP_CHAR_PATHS = 128,     /* of whole paths: SP_CHAR_PATH, "/" and "%" */
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

/* White space between the tokens of JSON (RFC 8259 §2); most bytes are settled by the first comparison. */
static inline bool sp_json_is_space(char byte) {
    return (uint8_t)byte <= ' ' && (byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t');
}

/* Of a byte that is SP_CHAR_HEX. */
static inline unsigned sp_char_hex(char digit) { return ((unsigned)digit & 15) + (digit > '9' ? 9 : 0); }

/* The control bytes (below 0x20, and DEL) among eight, as the top bit of each: no sum of seven bits and a constant reaches the next byte,
 * so its top bit says exactly: 0x20 or more, DEL. */
static inline uint64_t sp_char_word_controls(uint64_t word) {
    uint64_t low = word & SP_CHAR_EACH(0x7f);
    uint64_t text = low + SP_CHAR_EACH(0x80 - 0x20), del = low + SP_CHAR_EACH(0x80 - 0x7f);
    return (~text | del) & ~word & SP_CHAR_EACH(0x80);
}

#ifdef __SSE2__ /* every x86-64 has it */
/* The same among sixteen bytes at any address, one bit for each, the first one's lowest. */
static inline unsigned sp_char_block_controls(__m128i block) {
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(low, _mm_cmpeq_epi8(block, _mm_set1_epi8(0x7f))));
}
/* Letters, digits and hyphens among them. */
static inline unsigned sp_char_block_common(__m128i block) {
    __m128i letter = _mm_sub_epi8(_mm_or_si128(block, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    __m128i digit = _mm_sub_epi8(block, _mm_set1_epi8('0'));
    letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter);
    digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
    __m128i hyphen = _mm_cmpeq_epi8(block, _mm_set1_epi8('-'));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letter, digit), hyphen));
}
static inline __m128i sp_char_block(const char *at) { return _mm_loadu_si128((const __m128i *)(const void *)at); }
#endif

/* The first control byte of [at, end), or end. */
static inline const char *sp_next_control(const char *at, const char *end) {
#ifdef __SSE2__
    for (; end - at >= 32; at += 32) {
        unsigned found = sp_char_block_controls(sp_char_block(at)) | sp_char_block_controls(sp_char_block(at + 16)) << 16;
        if (found)
            return at + __builtin_ctz(found);
    }
#endif
    for (; end - at >= 8; at += 8) {
        uint64_t found = sp_char_word_controls(sp_char_word(at));
        if (found)
            return at + (__builtin_ctzll(found) >> 3);
    }
    while (at < end && (uint8_t)*at >= 0x20 && *at != 0x7f)
        at++;
    return at;
}

#endif
