/* The table in which this machine's places are counted. A cell of 16 bytes for each name (limit and subject) that has, or had lately,
 * requests running: whose it is, and one word:
 *
 *     used 20   requests that run here, of all workers
 *     had  20   places that Redis lets this machine use (0 without Redis)
 *     ticket 24 of the latest command sent about the name: only the reply to that one may raise `had`
 *
 * used all ones: a claim, the rest is its number. Zeroed memory is an empty table; everything a decision rests on changes by one swap of a
 * cell, so a process killed between any two instructions leaves nothing to repair. How a name comes to have one cell and no more, though
 * anybody may be inserting it at the same moment, is told in local_store.c; here it is the same.
 *
 * A count is never lost: a cell gives way to another name only while nothing runs under its own, Redis has been told so, and nobody asks.
 * Where all cells in which a name may live are needed by others there is no room for it: nothing can be counted, so nothing is admitted.
 * That takes about a hundred thousand names with requests running at the same time.
 *
 * Beside each cell there is a note: what the next command is to say, and estimates. What is in a note may be another name's, or half
 * written: the key is checked by its hash, the rest is of no consequence to what is exact but for until_us, see sp_slots_note. */
#ifndef SP_LIMIT_SLOTS_TABLE_H
#define SP_LIMIT_SLOTS_TABLE_H

#include <sallyport/base.h>

#include "cell.h"

#define SLOTS_CELLS   (UINT64_C(1) << 17)
#define SLOTS_WINDOW  64 /* cells in which a name may live; a multiple of the 4 that share a cache line */
#define SLOTS_KEY_MAX 252

#define SLOTS_COUNT_BITS 20
#define SLOTS_COUNT_MAX  ((UINT64_C(1) << SLOTS_COUNT_BITS) - 2)
#define SLOTS_CLAIM      (SLOTS_COUNT_MAX + 1)
#define SLOTS_TICKET_MAX 0xffffff

struct sp_slots_note {
    /* sp_clock_us() until which `had` holds: TTL after a command was sent whose reply was heeded. It is raised after `had` was written, so
     * that `had` is never believed for longer than Redis was told; what Redis has written down is never less than `had` until then. */
    uint64_t until_us;
    uint64_t asking_us; /* somebody asks, until then at the latest */
    uint64_t look_us;   /* somebody looks then whether there are places to give back; 0: nobody */
    uint64_t refused;   /* Redis has no more, see sp_slots_refused() */
    uint64_t policy;    /* revision 43 | strict 1 | bound 20 */
    uint64_t key_check;
    uint32_t spare; /* the least that `had` was more than `used` since somebody began to look */
    uint32_t told;  /* what Redis wrote down last, or more */
    uint32_t key_len;
    char key[SLOTS_KEY_MAX]; /* in Redis, without prefix */
};

struct sp_slots_segment {
    _Alignas(64) uint64_t beat; /* when which part of the table is gone through next, see slots_beat.c */
    uint64_t busy_us;           /* when something was found there last, or nobody had looked */
    uint64_t crowded;           /* names that found no room */
    _Alignas(4096) struct sp_cell cells[SLOTS_CELLS];
    struct sp_slots_note notes[SLOTS_CELLS];
};

struct sp_slots_word {
    uint32_t used, had, ticket;
};
/* A name's cell as it was seen. */
struct sp_slots_seen {
    struct sp_slots_segment *segment;
    struct sp_cell *cell;
    struct sp_cell was;
    struct sp_slots_word word; /* what it says; of a claim: nothing used, nothing had */
};

static inline uint64_t sp_slots_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
/* clang-tidy does not see that these write. NOLINTBEGIN(readability-non-const-parameter) */
static inline void sp_slots_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }
static inline bool sp_slots_exchange(uint64_t *word, uint64_t from, uint64_t to) {
    return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
/* NOLINTEND(readability-non-const-parameter) */

/* The name's cell. false: it has none, that is nothing used and nothing had. */
bool sp_slots_find(struct sp_slots_segment *segment, uint64_t name, struct sp_slots_seen *ret);
/* The same, made if there is none. false: there is no room. claims: a number of this process's, different in all; is counted up. */
bool sp_slots_seize(struct sp_slots_segment *segment, uint64_t name, uint64_t now_us, uint64_t *claims, struct sp_slots_seen *ret);
/* false: it has changed meanwhile. */
bool sp_slots_change(struct sp_slots_seen *seen, struct sp_slots_word word);

static inline struct sp_slots_note *sp_slots_note(const struct sp_slots_seen *seen) {
    return &seen->segment->notes[seen->cell - seen->segment->cells];
}
/* What is in a cell of the table, for those who go through it. false: nothing that counts. */
bool sp_slots_at(struct sp_slots_segment *segment, size_t i, struct sp_slots_seen *ret);

/* ---- Notes ---- */

void sp_slots_write_key(struct sp_slots_note *note, const struct sp_hash_key *hash_key, uint64_t name, struct sp_span key);
/* false: it is not known here. */
bool sp_slots_read_key(const struct sp_slots_note *note, const struct sp_hash_key *hash_key, uint64_t name, char out[SLOTS_KEY_MAX],
                       size_t *ret_len);

struct sp_slots_policy {
    uint64_t bound, revision;
    bool strict;
};
void sp_slots_write_policy(struct sp_slots_note *note, const struct sp_slots_policy *policy); /* unless a newer one is there */
struct sp_slots_policy sp_slots_read_policy(const struct sp_slots_note *note);

void sp_slots_refuse(struct sp_slots_note *note, uint64_t name, uint64_t until_us);
bool sp_slots_refused(const struct sp_slots_note *note, uint64_t name, uint64_t now_us);

#endif
