#include <sallyport/base.h>

#include <unistd.h>

void sp_free_pointer(void *pointer_to_pointer) {
    void **pointer = pointer_to_pointer;
    free(*pointer);
    *pointer = NULL;
}

void sp_close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

struct sp_span sp_span_text(const char *text) { return sp_span(text, text ? strlen(text) : 0); }

static inline unsigned char lower(unsigned char c) { return (unsigned char)(c - 'A') < 26 ? (unsigned char)(c | 0x20) : c; }

static inline uint64_t lower_word(const char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return sp_word_lower(word);
}

bool sp_span_eq_nocase(struct sp_span a, struct sp_span b) {
    if (a.len != b.len)
        return false;
    if (a.len >= 8) { /* the last eight may overlap the ones before */
        for (size_t i = 0; i + 8 < a.len; i += 8)
            if (lower_word(a.at + i) != lower_word(b.at + i))
                return false;
        return lower_word(a.at + a.len - 8) == lower_word(b.at + b.len - 8);
    }
    for (size_t i = 0; i < a.len; i++)
        if (lower((unsigned char)a.at[i]) != lower((unsigned char)b.at[i]))
            return false;
    return true;
}

bool sp_span_starts(struct sp_span text, struct sp_span prefix) {
    return text.len >= prefix.len && (prefix.len == 0 || memcmp(text.at, prefix.at, prefix.len) == 0);
}

static inline bool blank(char c) { return c == ' ' || c == '\t'; }

struct sp_span sp_span_trim(struct sp_span text) {
    while (text.len && blank(text.at[0])) {
        text.at++;
        text.len--;
    }
    while (text.len && blank(text.at[text.len - 1]))
        text.len--;
    return text;
}

struct sp_span sp_span_from(struct sp_span text, size_t offset) {
    size_t skip = sp_min(offset, text.len);
    return sp_span(text.at + skip, text.len - skip);
}

bool sp_span_split(struct sp_span *rest, char separator, struct sp_span *ret_item) {
    if (!rest->at)
        return false;
    const char *end = rest->len ? memchr(rest->at, separator, rest->len) : NULL;
    size_t len = end ? (size_t)(end - rest->at) : rest->len;
    *ret_item = sp_span_trim(sp_span(rest->at, len));
    *rest = end ? sp_span_from(*rest, len + 1) : sp_span(NULL, 0);
    return true;
}

bool sp_span_u64(struct sp_span digits, uint64_t *ret) {
    uint64_t value = 0;
    if (digits.len == 0)
        return false;
    for (size_t i = 0; i < digits.len; i++) {
        unsigned digit = (unsigned)(unsigned char)digits.at[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(value, UINT64_C(10), &value) || __builtin_add_overflow(value, (uint64_t)digit, &value))
            return false;
    }
    *ret = value;
    return true;
}

char *sp_span_dup(struct sp_span text) {
    char *copy = malloc(text.len + 1);
    if (!copy)
        return NULL;
    if (text.len)
        memcpy(copy, text.at, text.len);
    copy[text.len] = 0;
    return copy;
}

bool sp_span_glob(struct sp_span pattern, struct sp_span text) {
    /* Greedy with one point to come back to: a later star makes an earlier one's choice final. */
    size_t p = 0, t = 0, star = SIZE_MAX, retry = 0;
    while (t < text.len) {
        if (p < pattern.len && pattern.at[p] == '*') {
            star = p++;
            retry = t;
        } else if (p < pattern.len && pattern.at[p] == text.at[t]) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++retry;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.at[p] == '*')
        p++;
    return p == pattern.len;
}
