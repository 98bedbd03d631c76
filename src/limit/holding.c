#include "holding.h"

/* A record's state is one word: what it is, how many of its items count, and above that a number that rises with each use, so that a swap
 * which began in an earlier use, or before another item counted, fails. States lie side by side, apart from the records: who looks through
 * a region touches no record that was never used. */
enum state {
    FREE,
    HELD,
    TAKEN_OVER, /* settled by another; its owner, which may come back, has yet to notice */
};
#define STATE_BITS 2
#define COUNT_BITS 4
#define USE_SHIFT  (STATE_BITS + COUNT_BITS)

_Static_assert(SP_HOLDING_ITEMS_MAX < 1 << COUNT_BITS, "a count of all items fits");

struct sp_holding {
    uint32_t index;
    uint64_t reserved, used;
    struct sp_holding_item item[SP_HOLDING_ITEMS_MAX];
};

struct region {
    _Alignas(4096) uint64_t heard_ms; /* CLOCK_MONOTONIC; 0: nobody was ever here */
    uint64_t state[SP_HOLDINGS_PER_WORKER];
    _Alignas(4096) struct sp_holding record[SP_HOLDINGS_PER_WORKER];
};

struct sp_holdings_segment {
    struct region region[SP_WORKERS_MAX];
};

static enum state state_of(uint64_t word) { return (enum state)(word & ((1u << STATE_BITS) - 1)); }
static size_t count_of(uint64_t word) { return sp_min(word >> STATE_BITS & ((1u << COUNT_BITS) - 1), (uint64_t)SP_HOLDING_ITEMS_MAX); }
static uint64_t same_use(uint64_t word, enum state state) { return word >> USE_SHIFT << USE_SHIFT | state; }
static uint64_t next_use(uint64_t word, enum state state) { return ((word >> USE_SHIFT) + 1) << USE_SHIFT | state; }
static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
/* clang-tidy does not see that these write. NOLINTBEGIN(readability-non-const-parameter) */
static void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }
/* By the owner: in order with all else that he stores and swaps, which is what readers rely on; a locked instruction would cost more. */
static void set(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
static bool swap(uint64_t *word, uint64_t from, uint64_t to) {
    return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
/* NOLINTEND(readability-non-const-parameter) */

static uint64_t *state_word(const struct sp_holding *holding) {
    char *first = (char *)(uintptr_t)(holding - holding->index);
    return &((struct region *)(void *)(first - offsetof(struct region, record)))->state[holding->index];
}

size_t sp_holdings_segment_size(void) { return sizeof(struct sp_holdings_segment); }

void sp_holdings_open(struct sp_holdings_segment *segment, unsigned worker_slot, struct sp_holdings *ret) {
    *ret = (struct sp_holdings){.segment = segment, .slot = worker_slot};
}

/* ---- The owner ---- */

static uint32_t find_free(const struct region *region, uint32_t from) {
    while (from < SP_HOLDINGS_PER_WORKER && state_of(load(&region->state[from])) != FREE)
        from++;
    return from;
}

struct sp_holding *sp_holding_begin(struct sp_holdings *holdings) {
    struct region *region = &holdings->segment->region[holdings->slot];
    uint32_t i = holdings->settled ? find_free(region, holdings->next) : SP_HOLDINGS_PER_WORKER;
    if (i == SP_HOLDINGS_PER_WORKER)
        return NULL;
    holdings->next = i + 1;
    struct sp_holding *holding = &region->record[i];
    holding->index = i;
    set(&holding->used, 0);
    set(&holding->reserved, 0);
    set(&region->state[i], next_use(load(&region->state[i]), HELD));
    return holding;
}

size_t sp_holding_counted(const struct sp_holding *holding) { return count_of(load(state_word(holding))); }

bool sp_holding_note(struct sp_holding *holding, const struct sp_holding_item *items, size_t n) {
    size_t counted = sp_holding_counted(holding);
    if (n > SP_HOLDING_ITEMS_MAX - counted)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct sp_holding_item *to = &holding->item[counted + i];
        to->what = items[i].what;
        to->key_len = items[i].key_len;
        to->name = items[i].name;
        memcpy(to->key, items[i].key, items[i].key_len);
    }
    return true;
}

struct sp_span sp_holding_key(const struct sp_holding *holding, size_t item) {
    const struct sp_holding_item *noted = &holding->item[sp_min(item, (size_t)SP_HOLDING_ITEMS_MAX - 1)];
    return sp_span(noted->key, sp_min(noted->key_len, (uint8_t)SP_HOLDING_KEY_MAX));
}

bool sp_holding_count(struct sp_holding *holding, size_t n, uint64_t tokens) {
    uint64_t *word = state_word(holding), seen = load(word);
    if (state_of(seen) != HELD)
        return false;
    set(&holding->reserved, tokens);
    return swap(word, seen, seen + (sp_min(n, SP_HOLDING_ITEMS_MAX - count_of(seen)) << STATE_BITS));
}

void sp_holding_progress(struct sp_holding *holding, uint64_t tokens) { set(&holding->used, tokens); }

bool sp_holding_end(struct sp_holdings *holdings, struct sp_holding *holding) {
    uint64_t *word = state_word(holding), seen = load(word);
    bool ours = state_of(seen) == HELD && swap(word, seen, same_use(seen, FREE));
    if (!ours)
        store(word, same_use(seen, FREE));
    holdings->next = sp_min(holdings->next, holding->index);
    return ours;
}

/* ---- Who takes over ---- */

/* The record is read before the swap, which fails where it was another use's, or less than counts by now: what was read is then all. */
static void take_over(struct region *region, uint32_t i, sp_holding_left *settle, void *owner) {
    struct sp_holding_item items[SP_HOLDING_ITEMS_MAX];
    const struct sp_holding *holding = &region->record[i];
    for (;;) {
        uint64_t seen = load(&region->state[i]);
        if (state_of(seen) != HELD)
            return;
        uint64_t reserved = load(&holding->reserved), used = load(&holding->used);
        size_t n = count_of(seen);
        memcpy(items, holding->item, n * sizeof *items);
        if (!swap(&region->state[i], seen, same_use(seen, TAKEN_OVER)))
            continue;
        if (n > 0)
            settle(owner, items, n, reserved, used);
        return;
    }
}

static void recover_own(struct sp_holdings *holdings, sp_holding_left *settle, void *owner) {
    struct region *region = &holdings->segment->region[holdings->slot];
    if (load(&region->heard_ms) == 0)
        return;
    for (uint32_t i = 0; i < SP_HOLDINGS_PER_WORKER; i++) {
        take_over(region, i, settle, owner);
        uint64_t seen = load(&region->state[i]);
        if (state_of(seen) != FREE)
            store(&region->state[i], same_use(seen, FREE));
    }
}

static void recover_others(struct sp_holdings *holdings, uint64_t now_ms, sp_holding_left *settle, void *owner) {
    for (unsigned slot = 0; slot < SP_WORKERS_MAX; slot++) {
        struct region *region = &holdings->segment->region[slot];
        uint64_t heard = load(&region->heard_ms);
        if (slot == holdings->slot || heard == 0 || now_ms < heard + SP_HOLDER_SILENT_MS)
            continue;
        for (uint32_t i = 0; i < SP_HOLDINGS_PER_WORKER; i++)
            take_over(region, i, settle, owner);
    }
}

/* After a stop of all workers each finds all others silent: who was not heard of lately itself leaves them a round to be heard of. */
void sp_holdings_recover(struct sp_holdings *holdings, uint64_t now_ms, sp_holding_left *settle, void *owner) {
    uint64_t *heard_ms = &holdings->segment->region[holdings->slot].heard_ms, before_ms = load(heard_ms);
    if (!holdings->settled)
        recover_own(holdings, settle, owner);
    holdings->settled = true;
    store(heard_ms, sp_max(now_ms, 1u));
    if (now_ms < before_ms + SP_HOLDER_SILENT_MS / 3)
        recover_others(holdings, now_ms, settle, owner);
}
