/* The next byte that means something, sixteen at a time: line ends in event streams, quotes and brackets in JSON. Private to src/http/. */
#ifndef SALLYPORT_HTTP_BYTES16_H
#define SALLYPORT_HTTP_BYTES16_H

#include <endian.h>

#include <sallyport/base.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

typedef uint8_t sp_bytes16 __attribute__((vector_size(16)));
typedef int8_t sp_signed16 __attribute__((vector_size(16)));

static inline sp_bytes16 sp_bytes16_at(const char *at) {
    sp_bytes16 bytes;
    memcpy(&bytes, at, sizeof bytes);
    return bytes;
}

/* Whether a byte of a comparison's result is set, and the index of the first that is. */
static inline bool sp_bytes16_find(sp_bytes16 found, size_t *ret_first) {
#ifdef __SSE2__
    unsigned bits = (unsigned)_mm_movemask_epi8((__m128i)found);
    if (!bits)
        return false;
    *ret_first = (unsigned)__builtin_ctz(bits);
    return true;
#else
    uint64_t half[2];
    memcpy(half, &found, sizeof half);
    if (half[0])
        *ret_first = (size_t)__builtin_ctzll(le64toh(half[0])) >> 3;
    else if (half[1])
        *ret_first = 8 + ((size_t)__builtin_ctzll(le64toh(half[1])) >> 3);
    return half[0] | half[1];
#endif
}

static inline sp_bytes16 sp_line_ends(sp_bytes16 bytes) { return (sp_bytes16)((bytes == '\n') | (bytes == '\r')); }

/* The first LF or CR of [at, end), or end. Lines are seldom short: 64 bytes per step. */
static inline const char *sp_find_line_end(const char *at, const char *end) {
    size_t first;
    for (; end - at >= 64; at += 64) {
        sp_bytes16 found = sp_line_ends(sp_bytes16_at(at)) | sp_line_ends(sp_bytes16_at(at + 16)) | sp_line_ends(sp_bytes16_at(at + 32)) |
                           sp_line_ends(sp_bytes16_at(at + 48));
        if (sp_bytes16_find(found, &first))
            break;
    }
    for (; end - at >= 16; at += 16) {
        if (sp_bytes16_find(sp_line_ends(sp_bytes16_at(at)), &first))
            return at + first;
    }
    while (at < end && *at != '\n' && *at != '\r')
        at++;
    return at;
}

/* In JSON's text what is not plain: quotes, backslashes, control characters and the bytes of longer characters. See is_plain() in
 * json_wide.c. */
static inline sp_bytes16 sp_json_odd(sp_bytes16 bytes) {
    sp_bytes16 flipped = bytes ^ 2;
    return (sp_bytes16)(((sp_signed16)flipped < 0x21) | (sp_signed16)(flipped == ('\\' ^ 2)));
}

/* Brackets and braces are 0x20 apart: [ and {, ] and }. */
static inline sp_bytes16 sp_structure(sp_bytes16 bytes) {
    sp_bytes16 folded = bytes | 0x20;
    return (sp_bytes16)((folded == '{') | (folded == '}') | (bytes == '"'));
}

/* The first quote, bracket or brace of [at, end), or end. Lists of numbers are megabytes long: 64 bytes per step. */
static inline const char *sp_find_structure(const char *at, const char *end) {
    size_t first;
    for (; end - at >= 64; at += 64) {
        sp_bytes16 found = sp_structure(sp_bytes16_at(at)) | sp_structure(sp_bytes16_at(at + 16)) | sp_structure(sp_bytes16_at(at + 32)) |
                           sp_structure(sp_bytes16_at(at + 48));
        if (sp_bytes16_find(found, &first))
            break;
    }
    for (; end - at >= 16; at += 16) {
        if (sp_bytes16_find(sp_structure(sp_bytes16_at(at)), &first))
            return at + first;
    }
    while (at < end && *at != '"' && (*at | 0x20) != '{' && (*at | 0x20) != '}')
        at++;
    return at;
}

#endif
