#include "slots_table.h"

#define TICKET_SHIFT  (2 * SLOTS_COUNT_BITS)
#define POLICY_STRICT (UINT64_C(1) << SLOTS_COUNT_BITS)
#define REVISION_BITS (64 - SLOTS_COUNT_BITS - 1)
#define REFUSED_BITS  44 /* milliseconds; above: the name's upper bits */

/* ---- Words ---- */

static bool is_claim(struct sp_cell cell) { return cell.key != 0 && (cell.word & SLOTS_CLAIM) == SLOTS_CLAIM; }

static struct sp_slots_word read_word(struct sp_cell cell) {
    uint64_t word = is_claim(cell) ? cell.word & ~((UINT64_C(1) << TICKET_SHIFT) - 1) : cell.word;
    return (struct sp_slots_word){.used = (uint32_t)(word & SLOTS_CLAIM),
                                  .had = (uint32_t)(word >> SLOTS_COUNT_BITS & SLOTS_CLAIM),
                                  .ticket = (uint32_t)(word >> TICKET_SHIFT)};
}

static uint64_t write_word(struct sp_slots_word word) {
    return word.used | (uint64_t)word.had << SLOTS_COUNT_BITS | (uint64_t)word.ticket << TICKET_SHIFT;
}

bool sp_slots_change(struct sp_slots_seen *seen, struct sp_slots_word word) {
    struct sp_cell to = {.key = seen->was.key, .word = write_word(word)};
    if (!sp_cell_swap(seen->cell, seen->was, to))
        return false;
    seen->was = to;
    seen->word = word;
    return true;
}

/* ---- The window ---- */

/* Key and word are read one after the other: where they are not of one moment, the swap that starts from them fails. */
static struct sp_cell look(const struct sp_cell *cell) { return (struct sp_cell){.key = sp_cell_key(cell), .word = sp_cell_word(cell)}; }

static struct sp_cell *window_cell(struct sp_slots_segment *segment, uint64_t name, uint64_t i) {
    return &segment->cells[((name & ~UINT64_C(3)) + i) & (SLOTS_CELLS - 1)];
}

static void see(struct sp_slots_segment *segment, struct sp_cell *cell, struct sp_cell was, struct sp_slots_seen *ret) {
    *ret = (struct sp_slots_seen){.segment = segment, .cell = cell, .was = was, .word = read_word(was)};
}

bool sp_slots_at(struct sp_slots_segment *segment, size_t i, struct sp_slots_seen *ret) {
    struct sp_cell was = look(&segment->cells[i]);
    if (was.key == 0 || is_claim(was) || was.word << (64 - TICKET_SHIFT) == 0)
        return false;
    see(segment, &segment->cells[i], was, ret);
    return true;
}

bool sp_slots_find(struct sp_slots_segment *segment, uint64_t name, struct sp_slots_seen *ret) {
    for (uint64_t i = 0; i < SLOTS_WINDOW; i++) {
        struct sp_cell *cell = window_cell(segment, name, i), was = look(cell);
        if (was.key == name && !is_claim(was)) {
            see(segment, cell, was, ret);
            return true;
        }
    }
    return false;
}

/* ---- Making room ---- */

static bool is_needed(struct sp_slots_segment *segment, const struct sp_cell *cell, struct sp_cell was, uint64_t now_us) {
    const struct sp_slots_note *note = &segment->notes[cell - segment->cells];
    struct sp_slots_word word = read_word(was);
    return word.used > 0 || (word.had > 0 && sp_slots_load(&note->until_us) > now_us) || sp_slots_load(&note->asking_us) > now_us;
}

/* A cell that is the name's, or that may be: empty, else one that nobody needs, else a claim of another name, which is either about to be
 * filled or was left by a process that was killed. */
static struct sp_cell *find_room(struct sp_slots_segment *segment, uint64_t name, uint64_t now_us, struct sp_cell *ret_was) {
    struct sp_cell *free_cell = NULL, *claimed = NULL;
    for (uint64_t i = 0; i < SLOTS_WINDOW; i++) {
        struct sp_cell *cell = window_cell(segment, name, i), was = look(cell);
        if (was.key == name) {
            *ret_was = was;
            return cell;
        }
        if (free_cell)
            continue;
        bool claim = is_claim(was);
        if (!claim && (was.key == 0 || !is_needed(segment, cell, was, now_us))) {
            free_cell = cell;
            *ret_was = was;
        } else if (claim && !claimed) {
            claimed = cell;
            *ret_was = was;
        }
    }
    return free_cell ? free_cell : claimed;
}

/* Reads the whole window after `mine` was claimed in `cell`. true: nobody else has the name, the claim may be filled. */
static bool alone(struct sp_slots_segment *segment, struct sp_cell *cell, struct sp_cell mine) {
    for (uint64_t i = 0; i < SLOTS_WINDOW; i++) {
        struct sp_cell *other = window_cell(segment, mine.key, i), was = look(other);
        if (other == cell || was.key != mine.key)
            continue;
        if (is_claim(was) && sp_cell_swap(other, was, (struct sp_cell){0}))
            continue;
        (void)sp_cell_swap(cell, mine, (struct sp_cell){0});
        return false;
    }
    return true;
}

/* The upper bits of a claim's number are the first ticket: what was asked about an earlier cell of the name is not heeded. */
static struct sp_cell claim_of(uint64_t name, uint64_t *claims) {
    *claims += UINT64_C(0x9e3779b97f4a7c15);
    return (struct sp_cell){.key = name, .word = *claims | SLOTS_CLAIM};
}

bool sp_slots_seize(struct sp_slots_segment *segment, uint64_t name, uint64_t now_us, uint64_t *claims, struct sp_slots_seen *ret) {
    for (;;) {
        struct sp_cell was, *cell = find_room(segment, name, now_us, &was);
        if (!cell) {
            __atomic_fetch_add(&segment->crowded, 1, __ATOMIC_RELAXED);
            return false;
        }
        if (was.key != name) {
            struct sp_cell mine = claim_of(name, claims);
            if (!sp_cell_swap(cell, was, mine))
                continue;
            was = mine;
        }
        if (is_claim(was) && !alone(segment, cell, was))
            continue;
        see(segment, cell, was, ret);
        return true;
    }
}

/* ---- Notes ---- */

static uint64_t check_of(const struct sp_hash_key *hash_key, uint64_t name, const char *key, size_t len) {
    return sp_hash(&(struct sp_hash_key){hash_key->k0 ^ name, hash_key->k1}, key, len);
}

bool sp_slots_read_key(const struct sp_slots_note *note, const struct sp_hash_key *hash_key, uint64_t name, char out[SLOTS_KEY_MAX],
                       size_t *ret_len) {
    size_t len = __atomic_load_n(&note->key_len, __ATOMIC_SEQ_CST);
    if (len == 0 || len > SLOTS_KEY_MAX)
        return false;
    memcpy(out, note->key, len);
    if (sp_slots_load(&note->key_check) != check_of(hash_key, name, out, len))
        return false;
    *ret_len = len;
    return true;
}

/* Another name's policy goes with its key. */
void sp_slots_write_key(struct sp_slots_note *note, const struct sp_hash_key *hash_key, uint64_t name, struct sp_span key) {
    uint64_t check = check_of(hash_key, name, key.at, key.len);
    if (sp_slots_load(&note->key_check) == check && note->key_len == key.len && memcmp(note->key, key.at, key.len) == 0)
        return;
    sp_slots_store(&note->policy, 0);
    memcpy(note->key, key.at, key.len);
    __atomic_store_n(&note->key_len, (uint32_t)key.len, __ATOMIC_SEQ_CST);
    sp_slots_store(&note->key_check, check);
}

void sp_slots_write_policy(struct sp_slots_note *note, const struct sp_slots_policy *policy) {
    uint64_t revision = sp_min(policy->revision, (UINT64_C(1) << REVISION_BITS) - 1);
    uint64_t word = revision << (SLOTS_COUNT_BITS + 1) | (policy->strict ? POLICY_STRICT : 0) | sp_min(policy->bound, SLOTS_COUNT_MAX);
    uint64_t seen = sp_slots_load(&note->policy);
    while (seen < word && seen >> (SLOTS_COUNT_BITS + 1) < sp_max(revision, 1u) &&
           !__atomic_compare_exchange_n(&note->policy, &seen, word, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
}

struct sp_slots_policy sp_slots_read_policy(const struct sp_slots_note *note) {
    uint64_t word = sp_slots_load(&note->policy);
    return (struct sp_slots_policy){
        .bound = word & SLOTS_CLAIM, .revision = word >> (SLOTS_COUNT_BITS + 1), .strict = (word & POLICY_STRICT) != 0};
}

static uint64_t refusal_of(uint64_t name) { return name >> REFUSED_BITS << REFUSED_BITS; }

void sp_slots_refuse(struct sp_slots_note *note, uint64_t name, uint64_t until_us) {
    sp_slots_store(&note->refused, refusal_of(name) | (until_us / 1000 & ((UINT64_C(1) << REFUSED_BITS) - 1)));
}

bool sp_slots_refused(const struct sp_slots_note *note, uint64_t name, uint64_t now_us) {
    uint64_t word = sp_slots_load(&note->refused);
    return refusal_of(word) == refusal_of(name) && (word & ((UINT64_C(1) << REFUSED_BITS) - 1)) > now_us / 1000;
}
