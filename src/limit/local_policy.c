/* Which policy a limit's buckets follow, agreed between processes without a lock, and how a bucket passes from one policy to the next. */
#include "local_table.h"

__extension__ typedef unsigned __int128 wide;

/* A policy in 64 bits: 6 bits for the width of the cost, then burst and cost side by side. cost · burst ≤ 2^55, so both fit. */
static uint64_t pack(uint64_t cost, uint64_t burst) {
    unsigned width = 64 - (unsigned)__builtin_clzll(cost);
    return (uint64_t)width << 58 | burst << width | cost;
}

static void unpack(uint64_t packed, struct sp_local_policy *ret) {
    unsigned width = (unsigned)(packed >> 58);
    ret->cost = packed & ((UINT64_C(1) << width) - 1);
    ret->burst = (packed & ((UINT64_C(1) << 58) - 1)) >> width;
}

static uint64_t pack_rate(const struct sp_rate *rate, uint64_t burst) {
    wide units = (wide)rate->period_us * UNITS_PER_US;
    wide cost = sp_divide_up(units, rate->amount);
    cost = sp_max(cost, (wide)1);
    cost = sp_min(cost, (wide)SPAN_MAX);
    return pack((uint64_t)cost, sp_min(burst, SPAN_MAX / (uint64_t)cost));
}

static uint32_t version_of(uint64_t stamp) { return (uint32_t)stamp; }
static uint32_t generation_of(uint64_t stamp) { return (uint32_t)(stamp >> 32); }
static unsigned tag_of_version(uint32_t version) { return version % (TAGS - 1) + 1; }

bool sp_local_current(const struct sp_local_row *row, struct sp_local_policy *ret) {
    struct sp_cell head = sp_cell_read(&row->head);
    if (head.key == 0)
        return false;
    unpack(head.word, ret);
    ret->version = version_of(head.key);
    ret->tag = tag_of_version(ret->version);
    return true;
}

/* The policy a tag names, seen from the current one. */
static bool former_policy(const struct sp_local_row *row, unsigned tag, const struct sp_local_policy *current,
                          struct sp_local_policy *ret) {
    uint32_t age = (current->tag + (TAGS - 1) - tag) % (TAGS - 1);
    struct sp_cell former = sp_cell_read(&row->former[tag]);
    if (age >= current->version || former.key != (uint64_t)(current->version - age) + 1)
        return false;
    unpack(former.word, ret);
    return ret->cost > 0;
}

uint64_t sp_local_full_at(const struct sp_local_row *row, uint64_t word, const struct sp_local_policy *policy, uint64_t now) {
    unsigned tag = tag_of(word);
    if (tag == policy->tag)
        return instant_of(word);
    struct sp_local_policy old;
    if (tag == 0 || !former_policy(row, tag, policy, &old))
        return now + policy->cost * policy->burst; /* nobody of ours wrote this: as if empty */

    uint64_t missing = instant_of(word) > now ? instant_of(word) - now : 0;
    wide scaled = (wide)missing * policy->cost;
    scaled = sp_divide_up(scaled, old.cost);
    if (policy->burst >= old.burst) {
        scaled += (wide)(policy->burst - old.burst) * policy->cost; /* growth gives no gift */
    } else {
        wide less = (wide)(old.burst - policy->burst) * policy->cost;
        scaled = scaled > less ? scaled - less : 0; /* shrinking takes only what no longer fits */
    }
    return now + (uint64_t)sp_min(scaled, (wide)SPAN_MAX);
}

/* ---- Publishing ---- */

/* Leaves the head's policy on the ring, for cells that name it. Everyone who sees this head writes the same; a late writer is refused. */
static void keep_former(struct sp_local_row *row, struct sp_cell head) {
    struct sp_cell *former = &row->former[tag_of_version(version_of(head.key))];
    struct sp_cell mine = {.key = (uint64_t)version_of(head.key) + 1, .word = head.word};
    for (struct sp_cell seen = sp_cell_read(former); seen.key < mine.key; seen = sp_cell_read(former))
        if (sp_cell_swap(former, seen, mine))
            return;
}

static void sweep_cell(const struct sp_local_row *row, struct sp_cell *cell, unsigned row_index, const struct sp_local_policy *policy,
                       uint64_t now) {
    for (;;) {
        struct sp_cell seen = {.key = sp_cell_key(cell), .word = sp_cell_word(cell)};
        if (seen.key == 0 || (seen.key & ((1u << ROW_BITS) - 1)) != row_index || tag_of(seen.word) == policy->tag)
            return;
        struct sp_cell mine = {0}; /* a claim is withdrawn: its owner begins again */
        if (tag_of(seen.word) != 0)
            mine = (struct sp_cell){.key = seen.key, .word = word_of(policy->tag, sp_local_full_at(row, seen.word, policy, now))};
        if (sp_cell_swap(cell, seen, mine))
            return;
    }
}

/* Brings every bucket of a limit to its current policy. Then a process that was stopped for very long, still meaning an old tag, finds that
 * the cell it looked at has changed. */
static void sweep(struct sp_local_segment *segment, unsigned row_index, uint64_t now) {
    struct sp_local_row *row = &segment->rows[row_index];
    struct sp_local_policy policy;
    if (!sp_local_current(row, &policy))
        return;
    sweep_cell(row, &row->overflow, row_index, &policy, now);
    for (size_t page = 0; page < TABLE_CELLS / PAGE_CELLS; page++) {
        if (!(__atomic_load_n(&segment->touched[page / 64], __ATOMIC_SEQ_CST) >> page % 64 & 1))
            continue;
        for (size_t i = 0; i < PAGE_CELLS; i++)
            sweep_cell(row, &segment->cells[page * PAGE_CELLS + i], row_index, &policy, now);
    }
}

void sp_local_publish(struct sp_local_store *store, enum sp_local_space space, enum sp_limit_kind kind, unsigned slot, uint64_t generation,
                      const struct sp_rate *rate, uint64_t burst, uint64_t now_us) {
    unsigned row_index = sp_local_row(space, kind, slot);
    struct sp_local_row *row = &store->segment->rows[row_index];
    uint64_t packed = pack_rate(rate, burst);
    for (;;) {
        struct sp_cell head = sp_cell_read(&row->head);
        if (head.key != 0 && generation_of(head.key) >= (uint32_t)generation)
            return;
        uint32_t version = version_of(head.key);
        if (head.key == 0) {
            version = 1;
        } else if (head.word != packed) {
            keep_former(row, head);
            version++;
            if (version % SWEEP_EVERY == 0)
                sweep(store->segment, row_index, units_of(now_us));
        }
        if (sp_cell_swap(&row->head, head, (struct sp_cell){.key = generation << 32 | version, .word = packed}))
            return;
    }
}
