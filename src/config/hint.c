#include <stdio.h>

#include "check.h"

#define WORD_MAX 40

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

/* Optimal string alignment (Damerau 1964): insertions, deletions, substitutions, swaps of neighbours. Words of at most WORD_MAX bytes. */
static size_t distance(struct sp_span a, struct sp_span b) {
    size_t rows[3][WORD_MAX + 1];
    size_t *before = rows[0], *previous = rows[1], *current = rows[2];
    for (size_t j = 0; j <= b.len; j++)
        previous[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        current[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t substituted = previous[j - 1] + (lower(a.at[i - 1]) != lower(b.at[j - 1]));
            current[j] = sp_min(sp_min(previous[j], current[j - 1]) + 1, substituted);
            if (i > 1 && j > 1 && lower(a.at[i - 1]) == lower(b.at[j - 2]) && lower(a.at[i - 2]) == lower(b.at[j - 1]))
                current[j] = sp_min(current[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = previous;
        previous = current;
        current = oldest;
    }
    return previous[b.len];
}

/* A third of the word may be wrong, but never more than three letters. */
static size_t tolerance(size_t len) { return len < 3 ? 1 : sp_min(sp_divide_up(len, 3), (size_t)3); }

void sp_nearest_offer(struct sp_nearest *nearest, const char *candidate) {
    struct sp_span word = sp_span_text(candidate);
    if (word.len > WORD_MAX || nearest->asked.len > WORD_MAX || nearest->asked.len == 0)
        return;
    size_t apart = word.len > nearest->asked.len ? word.len - nearest->asked.len : nearest->asked.len - word.len;
    if (apart > tolerance(nearest->asked.len))
        return;
    size_t far = distance(nearest->asked, word);
    if (far <= tolerance(nearest->asked.len) && far < word.len && (!nearest->best || far < nearest->distance)) {
        nearest->best = candidate;
        nearest->distance = far;
    }
}

const char *sp_nearest_hint(const struct sp_nearest *nearest, char out[SP_HINT_MAX]) {
    out[0] = '\0';
    if (nearest->best)
        snprintf(out, SP_HINT_MAX, " (did you mean `%s`?)", nearest->best);
    return out;
}
