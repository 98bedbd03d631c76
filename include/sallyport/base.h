/* base: the words every other module is written in: spans, bounded buffers, arenas, lists, maps, clock, log, hashing, wiping.
 * It does no network or file I/O (log lines apart, which go to one descriptor) and keeps no state but the log's level.
 * It must not know any protocol, configuration or process. */
#ifndef SALLYPORT_BASE_H
#define SALLYPORT_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define SP_MUST_USE __attribute__((warn_unused_result))
#define SP_PRINTF(format_at, first) __attribute__((format(printf, format_at, first)))
#define SP_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SP_CONTAINER(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
/* For a large variable that is written before it is read: not zeroed, which every other local is (-ftrivial-auto-var-init). */
#define SP_UNINITIALIZED __attribute__((uninitialized))
#define sp_min(a, b) ((a) < (b) ? (a) : (b))
#define sp_max(a, b) ((a) > (b) ? (a) : (b))
#define sp_divide_up(a, b) ((a) / (b) + ((a) % (b) != 0))

/* `_cleanup_(f)` calls f(&variable) when the variable leaves its scope; sp_take() hands ownership on and disarms it. */
#define _cleanup_(f) __attribute__((cleanup(f)))
#define sp_take(pointer) \
    ({ __typeof__(pointer) taken_ = (pointer); (pointer) = NULL; taken_; })
void sp_free_pointer(void *pointer_to_pointer); /* _cleanup_(sp_free_pointer) char *text */
void sp_close_fd(int *fd);                      /* _cleanup_(sp_close_fd) int fd = -1 */

/* ---- Spans: borrowed bytes. Never owned, never NUL-terminated by promise. ---- */
struct sp_span {
    const char *at;
    size_t len;
};
#define SP_SPAN(literal) ((struct sp_span){"" literal, sizeof(literal) - 1})
#define SP_SPAN_FMT "%.*s"
#define SP_SPAN_ARG(span) (int)(span).len, (span).at

static inline struct sp_span sp_span(const char *at, size_t len) { return (struct sp_span){at, len}; }
struct sp_span sp_span_text(const char *nul_terminated_or_null); /* NULL gives the empty span */
static inline bool sp_span_eq(struct sp_span a, struct sp_span b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}
bool sp_span_eq_nocase(struct sp_span a, struct sp_span b); /* ASCII only, as in RFC 9110 §5.1 */
/* ASCII letters among eight bytes in lower case: in sums of seven bits and a constant, the top bit says whether a byte is past a bound. */
static inline uint64_t sp_word_lower(uint64_t word) {
    const uint64_t each = UINT64_C(0x0101010101010101);
    uint64_t low = word & each * 0x7f, from_a = low + each * (0x80 - 'A'), past_z = low + each * (0x7f - 'Z');
    return word | (((from_a ^ past_z) & ~word & each * 0x80) >> 2);
}
bool sp_span_starts(struct sp_span text, struct sp_span prefix);
struct sp_span sp_span_trim(struct sp_span text);           /* without SP and HTAB at both ends */
struct sp_span sp_span_from(struct sp_span text, size_t offset); /* the rest; empty when offset is past the end */
/* Takes the next item of a list parted by `separator`, trimmed; false at the end. Empty items are returned as such. */
bool sp_span_split(struct sp_span *rest, char separator, struct sp_span *ret_item);
/* Decimal digits only, no sign, no overflow. false and *ret untouched otherwise. */
bool sp_span_u64(struct sp_span digits, uint64_t *ret);
char *sp_span_dup(struct sp_span text); /* NUL-terminated, malloc; NULL: out of memory */
/* Glob with `*` (any run of bytes) only, linear in text × stars, no recursion. */
bool sp_span_glob(struct sp_span pattern, struct sp_span text);

/* ---- Bounded buffer: a contiguous queue of bytes that never holds more than `max`. ---- */
struct sp_buffer {
    char *bytes;
    size_t begin, end; /* what is held: [begin, end) */
    size_t capacity;   /* allocated */
    size_t max;        /* never more than this is allocated */
};
void sp_buffer_init(struct sp_buffer *buffer, size_t max); /* allocates nothing yet */
void sp_buffer_free(struct sp_buffer *buffer);             /* gives memory back; the buffer stays usable */
static inline size_t sp_buffer_len(const struct sp_buffer *b) { return b->end - b->begin; }
static inline struct sp_span sp_buffer_span(const struct sp_buffer *b) { return sp_span(b->bytes ? b->bytes + b->begin : NULL, b->end - b->begin); }
int sp_buffer_grow(struct sp_buffer *buffer, size_t want) SP_MUST_USE; /* the rare part of sp_buffer_reserve(), and only called by it */
/* Room for `want` more bytes at the end: moves or grows (doubling) as needed. -ENOSPC past max, -ENOMEM. */
SP_MUST_USE static inline int sp_buffer_reserve(struct sp_buffer *b, size_t want) {
    return want <= b->capacity - b->end ? 0 : sp_buffer_grow(b, want);
}
static inline char *sp_buffer_tail(struct sp_buffer *b) { return b->bytes + b->end; }
static inline size_t sp_buffer_room(const struct sp_buffer *b) { return b->capacity - b->end; } /* without moving or growing */
static inline void sp_buffer_added(struct sp_buffer *b, size_t n) { b->end += n; }
static inline void sp_buffer_consume(struct sp_buffer *b, size_t n) {
    b->begin += n;
    if (b->begin == b->end)
        b->begin = b->end = 0;
}
SP_MUST_USE static inline int sp_buffer_append(struct sp_buffer *b, const void *bytes, size_t n) {
    int error = sp_buffer_reserve(b, n);
    if (error)
        return error;
    if (n)
        memcpy(b->bytes + b->end, bytes, n);
    b->end += n;
    return 0;
}
SP_MUST_USE static inline int sp_buffer_append_span(struct sp_buffer *b, struct sp_span span) { return sp_buffer_append(b, span.at, span.len); }
int sp_buffer_printf(struct sp_buffer *buffer, const char *format, ...) SP_MUST_USE SP_PRINTF(2, 3);
int sp_buffer_append_u64(struct sp_buffer *buffer, uint64_t number) SP_MUST_USE; /* decimal, no printf */
/* A JSON string with its quotes; control bytes and invalid UTF-8 escaped (invalid bytes become U+FFFD). */
int sp_buffer_append_json(struct sp_buffer *buffer, struct sp_span text) SP_MUST_USE;

/* ---- Arena: many small allocations freed together; the memory of one exchange. Bounded by `max`. ---- */
struct sp_arena_chunk;
struct sp_arena {
    struct sp_arena_chunk *chunks; /* beyond the first piece */
    char *first;                   /* borrowed: memory embedded in the owner */
    size_t first_size, used, total, max;
};
void sp_arena_init(struct sp_arena *arena, void *first, size_t first_size, size_t max);
void *sp_arena_alloc(struct sp_arena *arena, size_t size) SP_MUST_USE; /* 16-byte aligned, not zeroed; NULL: max or memory */
bool sp_arena_copy(struct sp_arena *arena, struct sp_span from, struct sp_span *ret) SP_MUST_USE;
void sp_arena_reset(struct sp_arena *arena);

/* ---- Pool: equal objects, kept on a free list up to `keep`. One thread. ---- */
struct sp_pool {
    void *free_list;
    size_t size, kept, keep, live;
};
void sp_pool_init(struct sp_pool *pool, size_t object_size, size_t keep);
void *sp_pool_get(struct sp_pool *pool) SP_MUST_USE; /* not zeroed; NULL: out of memory */
void sp_pool_put(struct sp_pool *pool, void *object); /* takes NULL */
void sp_pool_drain(struct sp_pool *pool);             /* frees what is kept */

/* ---- Intrusive doubly linked list. An empty head points to itself; an unlinked node too. ---- */
struct sp_list {
    struct sp_list *next, *prev;
};
static inline void sp_list_init(struct sp_list *l) { l->next = l->prev = l; }
static inline bool sp_list_empty(const struct sp_list *l) { return l->next == l; }
static inline void sp_list_insert_(struct sp_list *node, struct sp_list *prev, struct sp_list *next) {
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}
static inline void sp_list_append(struct sp_list *head, struct sp_list *node) { sp_list_insert_(node, head->prev, head); }
static inline void sp_list_prepend(struct sp_list *head, struct sp_list *node) { sp_list_insert_(node, head, head->next); }
static inline void sp_list_remove(struct sp_list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    sp_list_init(node);
}
#define sp_list_entry(node, type, member) SP_CONTAINER(node, type, member)
#define sp_list_each(it, head) for (struct sp_list *it = (head)->next; it != (head); it = it->next)
#define sp_list_each_safe(it, head) \
    for (struct sp_list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)

/* ---- Intrusive hash map: chains over a power-of-two array that grows. The caller hashes and compares. ---- */
struct sp_map_node {
    struct sp_map_node *next;
    uint64_t hash;
};
struct sp_map {
    struct sp_map_node **chains;
    size_t n_chains, count;
};
void sp_map_init(struct sp_map *map);
void sp_map_free(struct sp_map *map); /* the nodes stay the caller's */
int sp_map_add(struct sp_map *map, struct sp_map_node *node, uint64_t hash) SP_MUST_USE; /* -ENOMEM only while empty */
void sp_map_remove(struct sp_map *map, struct sp_map_node *node);
/* First node with this hash, then the next one with it: compare keys yourself. */
struct sp_map_node *sp_map_first(const struct sp_map *map, uint64_t hash);
struct sp_map_node *sp_map_next(const struct sp_map_node *node);

/* ---- Clock ---- */
uint64_t sp_clock_ns(void);   /* CLOCK_MONOTONIC, nanoseconds */
uint64_t sp_clock_us(void);   /* the same, microseconds */
uint64_t sp_wall_ms(void);    /* Unix time, milliseconds */
uint64_t sp_wall_s(void);     /* Unix time, seconds */
#define SP_TIMESTAMP_LEN 24   /* 2026-11-22T21:33:53.123Z */
void sp_timestamp(uint64_t wall_ms, char out[SP_TIMESTAMP_LEN + 1]); /* RFC 3339, UTC */

/* ---- Log: one JSON object per line to one descriptor (stderr until told otherwise). Roles log; libraries return. ---- */
enum sp_log_level { SP_LOG_ERROR, SP_LOG_WARN, SP_LOG_INFO, SP_LOG_DEBUG };
void sp_log_open(int fd, const char *process_name, enum sp_log_level level);
void sp_log_set_level(enum sp_log_level level);
void sp_log_set_fd(int fd); /* after logs are reopened */
bool sp_log_level_parse(struct sp_span name, enum sp_log_level *ret); /* error warn info debug */
void sp_log(enum sp_log_level level, const char *format, ...) SP_PRINTF(2, 3);
#define sp_error(...) sp_log(SP_LOG_ERROR, __VA_ARGS__)
#define sp_warn(...) sp_log(SP_LOG_WARN, __VA_ARGS__)
#define sp_info(...) sp_log(SP_LOG_INFO, __VA_ARGS__)
#define sp_debug(...) sp_log(SP_LOG_DEBUG, __VA_ARGS__)
/* At start, and on a violated message contract: logs and exits with status 1. */
void sp_fatal(const char *format, ...) SP_PRINTF(1, 2) __attribute__((noreturn));

/* Why something was refused, for the caller to pass on: *ret_error is malloc'ed. Returns -EINVAL, or -ENOMEM with *ret_error untouched. */
int sp_explain(char **ret_error, const char *format, ...) SP_PRINTF(2, 3);

/* ---- Hashing, randomness, secrets ---- */
struct sp_hash_key {
    uint64_t k0, k1;
};
uint64_t sp_hash(const struct sp_hash_key *key, const void *bytes, size_t len); /* SipHash-1-3 (Aumasson, Bernstein 2012) */
uint64_t sp_hash_span(const struct sp_hash_key *key, struct sp_span span);
void sp_random(void *out, size_t len); /* getrandom(2); ends the process if the kernel has none */
uint64_t sp_random_u64_fast(void);     /* xoshiro256**, seeded by sp_random: for balancing and jitter, never for secrets */
void sp_wipe(void *secret, size_t len);
bool sp_secret_eq(const void *a, const void *b, size_t len); /* takes as long whatever they are: only len shows */
/* Text that may be a secret: wiped and freed. Takes NULL. */
void sp_free_secret(char *text);

/* ---- Encodings ---- */
#define SP_DECIMAL_MAX 20
size_t sp_decimal(uint64_t number, char out[SP_DECIMAL_MAX]); /* the shortest digits, no NUL; returns how many */
size_t sp_hex(const void *bytes, size_t len, char *out);      /* writes 2·len lower-case digits, no NUL; returns 2·len */
bool sp_unhex(struct sp_span digits, void *out, size_t len);  /* exactly 2·len digits, either case */
#define SP_BASE64URL_LEN(n) (((n)*4 + 2) / 3)
size_t sp_base64url(const void *bytes, size_t len, char *out); /* RFC 4648 §5, no padding, no NUL */
/* Strict: no padding, no white space, unused bits zero. Returns decoded length, or -EINVAL, or -ENOSPC when out is too small. */
ssize_t sp_base64url_decode(struct sp_span text, void *out, size_t size);
bool sp_base64url_digits(struct sp_span text); /* nothing else in it */
bool sp_utf8_valid(struct sp_span text); /* RFC 3629: no surrogates, no overlong forms */

#endif
