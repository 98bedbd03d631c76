/* The last refusals of each worker, in a ring. The writer waits for nobody; a reader copies a record and looks whether it stayed the same
 * meanwhile. What is in it is checked like anything another process wrote. */
#include <stddef.h>

#include "segment.h"

/* The texts of a record, in the order in which they are kept, and how many bytes each may always have. What one leaves over, those after
 * it may use. */
static const struct {
    size_t offset; /* of the span in struct sp_refused */
    uint8_t room;
} texts[] = {
    {offsetof(struct sp_refused, request_id), SP_REQUEST_ID_MAX},
    {offsetof(struct sp_refused, limit_kind), 12},
    {offsetof(struct sp_refused, key_id), 12},
    {offsetof(struct sp_refused, reason), 40},
    {offsetof(struct sp_refused, limit), 40},
    {offsetof(struct sp_refused, route), 30},
    {offsetof(struct sp_refused, client), 46},
    {offsetof(struct sp_refused, model), 30},
    {offsetof(struct sp_refused, tenant), 16},
    {offsetof(struct sp_refused, subject), 20},
    {offsetof(struct sp_refused, path), 12},
};
#define N_TEXTS  SP_COUNT(texts)
#define TEXT_MAX 322

enum { FLAG_DEGRADED = 1, FLAG_SHADOW = 2 };

/* A record, as the words hold it. */
struct image {
    uint64_t wall_ms, asked, most, remaining, retry_after_ms;
    uint16_t status;
    uint8_t flags, len[N_TEXTS];
    char text[TEXT_MAX];
};
_Static_assert(sizeof(struct image) == sizeof(struct sp_refusal_record), "a record is full");

static const char mark[] = "\xe2\x80\xa6"; /* "…" */
#define MARK_LEN (sizeof mark - 1)

/* ---- The writer ---- */

/* As much of the text as has room, at a character's end, with the mark where something is missing. */
static size_t put_clipped(char *at, struct sp_span text, size_t room) {
    if (text.len <= room) {
        if (text.len > 0)
            memcpy(at, text.at, text.len);
        return text.len;
    }
    size_t len = room - MARK_LEN;
    while (len > 0 && ((unsigned char)text.at[len] & 0xc0) == 0x80)
        len--;
    memcpy(at, text.at, len);
    memcpy(at + len, mark, MARK_LEN);
    return len + MARK_LEN;
}

static void make_image(const struct sp_refused *refused, struct image *ret) {
    *ret = (struct image){
        .wall_ms = refused->wall_ms,
        .asked = refused->asked,
        .most = refused->most,
        .remaining = refused->remaining,
        .retry_after_ms = refused->retry_after_ms,
        .status = (uint16_t)sp_min(refused->status, 999u),
        .flags = (uint8_t)((refused->degraded ? FLAG_DEGRADED : 0) | (refused->shadow ? FLAG_SHADOW : 0)),
    };
    size_t used = 0, promised = 0;
    for (size_t i = 0; i < N_TEXTS; i++) {
        struct sp_span text = *(const struct sp_span *)(const void *)((const char *)refused + texts[i].offset);
        promised += texts[i].room;
        size_t len = put_clipped(ret->text + used, text, sp_min(promised - used, (size_t)UINT8_MAX));
        ret->len[i] = (uint8_t)len;
        used += len;
    }
}

void sp_refusals_add(struct sp_counters *counters, unsigned worker_slot, const struct sp_refused *refused) {
    struct sp_worker_block *block = sp_counters_own(counters, worker_slot);
    if (!block || refused->request_id.len == 0 || refused->request_id.len > SP_REQUEST_ID_MAX)
        return;
    struct image image;
    struct sp_refusal_record record;
    make_image(refused, &image);
    memcpy(&record, &image, sizeof record);
    uint64_t n = sp_word(&block->n_refusals);
    struct sp_refusal_slot *slot = &block->refusal[n % SP_REFUSALS_MAX];
    atomic_store_explicit(&slot->version, 2 * n + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (unsigned i = 0; i < SP_REFUSAL_RECORD_WORDS; i++)
        atomic_store_explicit(&slot->word[i], record.word[i], memory_order_relaxed);
    atomic_store_explicit(&slot->version, 2 * n + 2, memory_order_release);
    atomic_store_explicit(&block->n_refusals, n + 1, memory_order_release);
}

/* ---- Readers ---- */

/* How many records of a worker there are to look at, the last being number *ret_n - 1. */
static uint64_t kept(const struct sp_worker_block *block, uint64_t *ret_n) {
    *ret_n = atomic_load_explicit(&block->n_refusals, memory_order_acquire);
    return sp_min(*ret_n, (uint64_t)SP_REFUSALS_MAX);
}

/* false: it was overwritten, before or meanwhile. */
static bool read_record(const struct sp_worker_block *block, uint64_t number, struct sp_refusal_record *ret) {
    const struct sp_refusal_slot *slot = &block->refusal[number % SP_REFUSALS_MAX];
    if (atomic_load_explicit(&slot->version, memory_order_acquire) != 2 * number + 2)
        return false;
    for (unsigned i = 0; i < SP_REFUSAL_RECORD_WORDS; i++)
        ret->word[i] = sp_word(&slot->word[i]);
    atomic_thread_fence(memory_order_acquire);
    return sp_word(&slot->version) == 2 * number + 2;
}

void sp_refusal_of(const struct sp_refusal_record *record, struct sp_refused *ret) {
    struct image image;
    memcpy(&image, record, sizeof image);
    *ret = (struct sp_refused){
        .wall_ms = image.wall_ms,
        .status = image.status,
        .asked = image.asked,
        .most = image.most,
        .remaining = image.remaining,
        .retry_after_ms = image.retry_after_ms,
        .degraded = (image.flags & FLAG_DEGRADED) != 0,
        .shadow = (image.flags & FLAG_SHADOW) != 0,
    };
    const char *at = (const char *)record + offsetof(struct image, text);
    size_t room = TEXT_MAX;
    for (size_t i = 0; i < N_TEXTS; i++) {
        size_t len = sp_min((size_t)image.len[i], room);
        *(struct sp_span *)(void *)((char *)ret + texts[i].offset) = sp_span(at, len);
        at += len;
        room -= len;
    }
}

/* What is looked for: an empty span is anything. */
struct question {
    struct sp_span request_id, subject;
};

/* The whole text, or the beginning that was kept of it. */
static bool same_text(struct sp_span kept_text, struct sp_span text) {
    if (sp_span_eq(kept_text, text))
        return true;
    if (kept_text.len < MARK_LEN || memcmp(kept_text.at + kept_text.len - MARK_LEN, mark, MARK_LEN) != 0)
        return false;
    return kept_text.len - MARK_LEN < text.len && sp_span_starts(text, sp_span(kept_text.at, kept_text.len - MARK_LEN));
}

static bool answers(const struct question *question, const struct sp_refused *refused) {
    return (question->request_id.len == 0 || sp_span_eq(refused->request_id, question->request_id)) &&
           (question->subject.len == 0 || same_text(refused->subject, question->subject));
}

/* ret[0..count) is in order, newest first; what does not fit at the end falls off. */
static size_t insert(struct sp_refusal_record *ret, size_t count, size_t max, const struct sp_refusal_record *record) {
    struct sp_refused new, other;
    sp_refusal_of(record, &new);
    size_t at = count;
    for (; at > 0; at--) {
        sp_refusal_of(&ret[at - 1], &other);
        if (other.wall_ms >= new.wall_ms)
            break;
    }
    if (at == max)
        return count;
    count = sp_min(count + 1, max);
    memmove(&ret[at + 1], &ret[at], (count - at - 1) * sizeof ret[0]);
    ret[at] = *record;
    return count;
}

static size_t look(const struct sp_counters *counters, const struct question *question, struct sp_refusal_record *ret, size_t max) {
    struct sp_refusal_record record;
    struct sp_refused refused;
    size_t count = 0;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX && max > 0; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        uint64_t n = 0, left = block ? kept(block, &n) : 0;
        for (; left > 0; left--) {
            if (!read_record(block, --n, &record))
                continue;
            sp_refusal_of(&record, &refused);
            if (answers(question, &refused))
                count = insert(ret, count, max, &record);
        }
    }
    return count;
}

size_t sp_refusals_find(const struct sp_counters *counters, struct sp_span request_id, struct sp_refusal_record *ret, size_t max) {
    return request_id.len > 0 ? look(counters, &(struct question){.request_id = request_id}, ret, max) : 0;
}

size_t sp_refusals_latest(const struct sp_counters *counters, struct sp_span subject, struct sp_refusal_record *ret, size_t max) {
    return look(counters, &(struct question){.subject = subject}, ret, max);
}

uint64_t sp_refusals_since(const struct sp_counters *counters) {
    struct sp_refusal_record record;
    struct sp_refused oldest;
    uint64_t since = 0;
    for (unsigned slot = 0; slot < SP_WORKERS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        uint64_t n = 0, left = block ? kept(block, &n) : 0;
        if (n <= left) /* nothing was overwritten */
            continue;
        for (; left > 0; left--) {
            if (!read_record(block, n - left, &record)) /* the writer may just have been there */
                continue;
            sp_refusal_of(&record, &oldest);
            since = sp_max(since, oldest.wall_ms);
            break;
        }
    }
    return since;
}
