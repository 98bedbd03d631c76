#include "json_scan.h"

#include "chars.h"

/* Text of strings, many bytes a step. Most of a body is text, so this file is where a prompt's cost is decided: with AVX2 32 bytes a step
 * and 256 where nothing special comes, with SSE2 16, elsewhere 8. Here nothing is refused: where a step finds anything odd it stops before
 * it, and the state machine looks at it byte by byte and says what is wrong. */

/* To a byte that is not plain; may pass short escapes too. */
typedef const char *(*skip_plain)(const char *at, const char *end, uint64_t *shrunk);
/* Past characters of several bytes, and what else comes on the way. */
typedef const char *(*skip_longer)(const char *at, const char *end);

/* Plain: ASCII without control characters, quote and backslash. With the bit of value 2 flipped the quote comes just after the control
 * characters (0x22 ^ 2 is 0x20), and as signed numbers the bytes of longer characters come before them: one comparison tells the three. */
static inline bool is_plain(char byte) { return (int8_t)(byte ^ 2) >= 0x21 && byte != '\\'; }

/* Eight bytes a step; see sp_char_word_controls() for the sums of seven bits. */
static inline const char *plain_portable(const char *at, const char *end, uint64_t *shrunk) {
    for (; end - at >= 8; at += 8) {
        uint64_t word = sp_char_word(at), low = word & SP_CHAR_EACH(0x7f);
        uint64_t text = (low ^ SP_CHAR_EACH(2)) + SP_CHAR_EACH(0x80 - 0x21), slash = (low ^ SP_CHAR_EACH('\\')) + SP_CHAR_EACH(0x7f);
        uint64_t odd = (~(text & slash) | word) & SP_CHAR_EACH(0x80);
        if (odd)
            return at + (__builtin_ctzll(odd) >> 3);
    }
    while (at < end && is_plain(*at))
        at++;
    return at;
}

/* Valid characters of several bytes, of which four bytes are at hand. */
static inline const char *long_characters(const char *at, const char *end) {
    while (end - at >= 4 && (uint8_t)*at >= 0x80) {
        uint8_t low, high, second = (uint8_t)at[1];
        unsigned more = sp_json_utf8_lead((uint8_t)*at, &low, &high);
        if (more == 0 || second < low || second > high)
            return at;
        if ((more > 1 && ((uint8_t)at[2] & 0xc0) != 0x80) || (more > 2 && ((uint8_t)at[3] & 0xc0) != 0x80))
            return at;
        at += more + 1;
    }
    return at;
}

/* The letters of escapes that take two bytes. */
static const bool is_short[256] = {
    ['"'] = true, ['\\'] = true, ['/'] = true, ['b'] = true, ['f'] = true, ['n'] = true, ['r'] = true, ['t'] = true};

/* Valid escapes; surrogates are left to the state machine. */
static inline const char *escapes(const char *at, const char *end, uint64_t *shrunk) {
    while (end - at >= 6 && *at == '\\') {
        if (is_short[(uint8_t)at[1]]) {
            *shrunk += 1;
            at += 2;
            continue;
        }
        unsigned classes =
            sp_char_class[(uint8_t)at[2]] & sp_char_class[(uint8_t)at[3]] & sp_char_class[(uint8_t)at[4]] & sp_char_class[(uint8_t)at[5]];
        if (at[1] != 'u' || !(classes & SP_CHAR_HEX) || ((at[2] | 0x20) == 'd' && at[3] >= '8'))
            return at;
        *shrunk += at[2] != '0' || at[3] >= '8' ? 3 : at[3] != '0' || at[4] >= '8' ? 4 : 5; /* six bytes for three, for two, for one */
        at += 6;
    }
    return at;
}

/* The loop of sp_json_run() over the steps of one width. */
__attribute__((always_inline)) static inline const char *run(const char *at, const char *end, uint64_t *shrunk, skip_plain plain,
                                                             skip_longer longer) {
    for (;;) {
        at = plain(at, end, shrunk);
        if (at == end)
            return at;
        const char *next = *at == '\\' ? escapes(at, end, shrunk) : (uint8_t)*at >= 0x80 ? longer(at, end) : at;
        if (next == at)
            return at;
        at = next;
    }
}

#ifdef __SSE2__
#include <immintrin.h>

static inline const char *plain_sse2(const char *at, const char *end, uint64_t *shrunk) {
    for (; end - at >= 16; at += 16) {
        __m128i flipped = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)at), _mm_set1_epi8(2));
        __m128i low = _mm_cmplt_epi8(flipped, _mm_set1_epi8(0x21)), slash = _mm_cmpeq_epi8(flipped, _mm_set1_epi8('\\' ^ 2));
        int odd = _mm_movemask_epi8(_mm_or_si128(low, slash));
        if (odd)
            return at + __builtin_ctz((unsigned)odd);
    }
    return plain_portable(at, end, shrunk);
}

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i load(const char *at) { return _mm256_loadu_si256((const __m256i *)(const void *)at); }
AVX2 static inline __m256i all(int byte) { return _mm256_set1_epi8((char)byte); }

/* Top bits: what is not plain. */
AVX2 static inline __m256i odd_ones(__m256i bytes) {
    __m256i flipped = _mm256_xor_si256(bytes, all(2));
    return _mm256_or_si256(_mm256_cmpgt_epi8(all(0x21), flipped), _mm256_cmpeq_epi8(flipped, all('\\' ^ 2)));
}

/* What odd_ones() looks at, of many bytes at once: the least, and whether any is a backslash. */
struct gist {
    __m256i least, slash;
};

AVX2 static inline struct gist gist_of(const char *at) {
    __m256i flipped = _mm256_xor_si256(load(at), all(2));
    return (struct gist){flipped, _mm256_cmpeq_epi8(flipped, all('\\' ^ 2))};
}

AVX2 static inline struct gist gist_of_both(struct gist a, struct gist b) {
    return (struct gist){_mm256_min_epi8(a.least, b.least), _mm256_or_si256(a.slash, b.slash)};
}

AVX2 static inline struct gist gist_of_128(const char *at) {
    return gist_of_both(gist_of_both(gist_of(at), gist_of(at + 32)), gist_of_both(gist_of(at + 64), gist_of(at + 96)));
}

/* As many steps of 256 bytes as are plain throughout. */
AVX2 static inline const char *plain_far(const char *at, const char *end) {
    for (; end - at >= 256; at += 256) {
        struct gist gist = gist_of_both(gist_of_128(at), gist_of_128(at + 128));
        if (_mm256_movemask_epi8(_mm256_or_si256(_mm256_cmpgt_epi8(all(0x21), gist.least), gist.slash)))
            break;
    }
    return at;
}

/* Plain text and short escapes: one every line is usual in prompts. */
AVX2 static inline const char *plain_avx2(const char *at, const char *end, uint64_t *shrunk) {
    for (unsigned quiet = 0; end - at >= 34; at += 32) {
        unsigned odd = (unsigned)_mm256_movemask_epi8(odd_ones(load(at)));
        if (!odd && ++quiet % 4 == 0) { /* then the far steps are worth trying */
            at = plain_far(at + 32, end) - 32;
            continue;
        }
        while (odd) {
            unsigned i = (unsigned)__builtin_ctz(odd);
            if (at[i] != '\\' || !is_short[(uint8_t)at[i + 1]])
                return at + i;
            *shrunk += 1;
            odd &= ~(3u << i); /* nor is the byte after a backslash looked at */
            at += i == 31;     /* where it is the next step's */
            quiet = 0;
        }
    }
    return plain_sse2(at, end, shrunk);
}

/* What is wrong with two bytes that follow each other, one bit each; a pair is wrong where three tables agree on a bit. The method and its
 * tables are those of J. Keiser, D. Lemire, "Validating UTF-8 in less than one instruction per byte", Software: Practice and Experience
 * 51(5), 2021, §6. */
enum { SHORT = 1, LONG = 2, OVERLONG3 = 4, LARGE = 8, SURROGATE = 16, OVERLONG2 = 32, LARGE1000 = 64, OVERLONG4 = 64, TWO = 128 };
#define CARRY (SHORT | LONG | TWO)

AVX2 static inline __m256i look_up(__m256i nibbles, const uint8_t table[16]) {
    __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    return _mm256_shuffle_epi8(both, nibbles);
}
AVX2 static inline __m256i high_nibbles(__m256i bytes) { return _mm256_and_si256(_mm256_srli_epi16(bytes, 4), all(15)); }

/* By the first byte's high and low half, and by the second's high half. */
static const uint8_t first_high[16] = {
    [0x0 ... 0x7] = LONG,
    [0x8 ... 0xb] = TWO,
    [0xc] = SHORT | OVERLONG2,
    [0xd] = SHORT,
    [0xe] = SHORT | OVERLONG3 | SURROGATE,
    [0xf] = SHORT | LARGE | LARGE1000 | OVERLONG4,
};
static const uint8_t first_low[16] = {
    [0x0] = CARRY | OVERLONG2 | OVERLONG3 | OVERLONG4,
    [0x1] = CARRY | OVERLONG2,
    [0x2 ... 0x3] = CARRY,
    [0x4] = CARRY | LARGE,
    [0x5 ... 0xc] = CARRY | LARGE | LARGE1000,
    [0xd] = CARRY | LARGE | LARGE1000 | SURROGATE,
    [0xe ... 0xf] = CARRY | LARGE | LARGE1000,
};
static const uint8_t second_high[16] = {
    [0x0 ... 0x7] = SHORT,
    [0x8] = LONG | OVERLONG2 | TWO | OVERLONG3 | LARGE1000 | OVERLONG4,
    [0x9] = LONG | OVERLONG2 | TWO | OVERLONG3 | LARGE,
    [0xa ... 0xb] = LONG | OVERLONG2 | TWO | SURROGATE | LARGE,
    [0xc ... 0xf] = SHORT,
};

/* Whether `bytes` go on where `before` ended and are UTF-8 so far; the last character may be cut off. */
AVX2 static inline bool is_utf8(__m256i before, __m256i bytes) {
    __m256i across = _mm256_permute2x128_si256(before, bytes, 0x21);
    __m256i back1 = _mm256_alignr_epi8(bytes, across, 15), back2 = _mm256_alignr_epi8(bytes, across, 14);
    __m256i back3 = _mm256_alignr_epi8(bytes, across, 13);
    __m256i pairs = _mm256_and_si256(look_up(high_nibbles(back1), first_high), look_up(_mm256_and_si256(back1, all(15)), first_low));
    pairs = _mm256_and_si256(pairs, look_up(high_nibbles(bytes), second_high));
    /* A third or fourth byte must follow where one was begun two or three bytes ago; there, and only there, TWO is right. */
    __m256i third = _mm256_subs_epu8(back2, all(0xe0 - 0x80)), fourth = _mm256_subs_epu8(back3, all(0xf0 - 0x80));
    __m256i must_follow = _mm256_and_si256(_mm256_or_si256(third, fourth), all(0x80));
    __m256i wrong = _mm256_xor_si256(must_follow, pairs);
    return _mm256_testz_si256(wrong, wrong);
}

/* From the beginning of a character: steps of 32 bytes that hold neither quotes, backslashes nor control characters; ends where a character
 * begins. */
AVX2 static inline const char *longer_avx2(const char *at, const char *end) {
    const char *from = at;
    for (__m256i before = all(0); end - at >= 32; at += 32) {
        __m256i bytes = load(at);
        if (_mm256_movemask_epi8(_mm256_andnot_si256(bytes, odd_ones(bytes))) || !is_utf8(before, bytes))
            break;
        before = bytes;
    }
    /* The last step may have ended within a character, which then is not known to be whole. */
    for (int back = 1; back <= 3 && at - back >= from; back++)
        if ((uint8_t)at[-back] >= 0xc0) {
            at -= back;
            break;
        }
    return long_characters(at, end);
}

AVX2 static const char *run_avx2(const char *at, const char *end, uint64_t *shrunk) {
    return run(at, end, shrunk, plain_avx2, longer_avx2);
}

const char *sp_json_plain(const char *at, const char *end) { return plain_sse2(at, end, NULL); }

const char *sp_json_run(const char *at, const char *end, uint64_t *shrunk) {
    return __builtin_cpu_supports("avx2") ? run_avx2(at, end, shrunk) : run(at, end, shrunk, plain_sse2, long_characters);
}

#else

const char *sp_json_plain(const char *at, const char *end) { return plain_portable(at, end, NULL); }

const char *sp_json_run(const char *at, const char *end, uint64_t *shrunk) { return run(at, end, shrunk, plain_portable, long_characters); }

#endif
