/* Bytes changed at random, the same way in every run. Shared by the differential tests. */
#ifndef SALLYPORT_TEST_CHANGING_H
#define SALLYPORT_TEST_CHANGING_H

#include <sallyport/base.h>

static uint64_t random_state;
static inline size_t random_below(size_t bound) { /* xorshift64*, the same run every time */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (size_t)((random_state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % bound;
}

/* Replaces up to a few bytes by up to a few of another text. */
static inline size_t splice(char *body, size_t len, size_t size, struct sp_span text) {
    size_t at = random_below(len + 1), cut = random_below(4);
    cut = sp_min(cut, len - at);
    if (len - cut + text.len > size)
        return len;
    memmove(body + at + text.len, body + at + cut, len - at - cut);
    memcpy(body + at, text.at, text.len);
    return len - cut + text.len;
}

/* Up to three changes: a piece put in, bytes moved, a bit turned, bytes left out. */
static inline size_t change(char *body, size_t len, size_t size, const char *const *pieces, size_t piece_count) {
    for (size_t changes = random_below(4); changes > 0; changes--)
        switch (random_below(4)) {
        case 0:
            len = splice(body, len, size, sp_span_text(pieces[random_below(piece_count)]));
            break;
        case 1: { /* of the body itself */
            char copy[64];
            size_t n = sp_min(random_below(sizeof copy), len), at = random_below(len - n + 1);
            memcpy(copy, body + at, n);
            len = splice(body, len, size, sp_span(copy, n));
            break;
        }
        case 2:
            if (len > 0)
                body[random_below(len)] ^= (char)(1 << random_below(8));
            break;
        default:
            len = splice(body, len, size, SP_SPAN(""));
        }
    return len;
}

#endif
