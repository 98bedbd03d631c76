#include "lease_table.h"

_Static_assert(LEASE_ROWS == SP_LIMIT_BUCKETS * SP_LIMITS_MAX && LEASE_ROWS == 1 << LEASE_ROW_BITS, "a key's low bits name its row");
_Static_assert(sizeof(((struct sp_lease_segment *)NULL)->cells) == LEASE_CELLS * 16, "cells are of 16 bytes");

size_t sp_lease_segment_size(void) { return sizeof(struct sp_lease_segment); }

struct sp_lease_name sp_lease_name(unsigned limit_slot, enum sp_limit_kind kind, uint64_t subject_hash) {
    uint64_t row = (uint64_t)kind * SP_LIMITS_MAX + limit_slot;
    uint64_t spread = row * UINT64_C(0x9e3779b97f4a7c15); /* a subject's leases of several limits do not live in one window */
    return (struct sp_lease_name){.key = (subject_hash ^ spread) << LEASE_ROW_BITS | row};
}

static struct sp_cell *cell_at(const struct lease_window *window, uint64_t i) {
    return &window->segment->cells[(window->first + i) & (LEASE_CELLS - 1)];
}

static void add_in_order(struct lease_window *window, struct sp_cell *cell, struct sp_cell was) {
    unsigned at = window->n_grants;
    if (lease_until(was) <= window->now || at == LEASE_GRANTS_MAX)
        return;
    for (; at > 0 && lease_until(window->grant[at - 1].was) > lease_until(was); at--)
        window->grant[at] = window->grant[at - 1];
    window->grant[at] = (struct lease_seen){.cell = cell, .was = was};
    window->n_grants++;
}

/* Key and word are read one after the other: where they are not of one moment, the swap that starts from them fails. */
void lease_look(const struct sp_leases *leases, struct sp_lease_name name, uint64_t now_us, struct lease_window *ret) {
    uint64_t row = name.key & (LEASE_ROWS - 1);
    uint64_t epoch = __atomic_load_n(&leases->segment->epoch[row], __ATOMIC_SEQ_CST);
    uint64_t mixed = name.key ^ (epoch * UINT64_C(0x9e3779b97f4a7c15)) << LEASE_ROW_BITS;
    ret->segment = leases->segment;
    ret->name = mixed & LEASE_NAME_MASK;
    ret->first = (mixed >> LEASE_ROW_BITS & (LEASE_CELLS / 4 - 1)) * 4; /* whole cache lines */
    ret->now = lease_units(now_us);
    ret->n_grants = 0;
    for (size_t sort = 0; sort < LEASE_SORTS; sort++)
        ret->one[sort].cell = NULL;
    for (uint64_t i = 0; i < LEASE_WINDOW; i++) {
        struct sp_cell *cell = cell_at(ret, i);
        uint64_t key = sp_cell_key(cell);
        if ((key & LEASE_NAME_MASK) != ret->name)
            continue;
        struct sp_cell was = {.key = key, .word = sp_cell_word(cell)};
        unsigned sort = (unsigned)(key >> LEASE_SORT_SHIFT) & 7;
        if (sort == LEASE_GRANT)
            add_in_order(ret, cell, was);
        else if (sort > LEASE_GRANT && sort < LEASE_SORTS && !ret->one[sort].cell)
            ret->one[sort] = (struct lease_seen){.cell = cell, .was = was};
    }
}

static struct sp_cell compose(const struct lease_window *window, enum lease_sort sort, uint64_t until, uint64_t amount) {
    uint64_t high = until >> LEASE_LOW_BITS & 0xff, low = until & ((UINT64_C(1) << LEASE_LOW_BITS) - 1);
    return (struct sp_cell){.key = window->name | high << LEASE_HIGH_SHIFT | (uint64_t)sort << LEASE_SORT_SHIFT,
                            .word = low << LEASE_AMOUNT_BITS | sp_min(amount, LEASE_AMOUNT_MAX)};
}

/* Into a cell that is empty or whose time is over. */
static struct sp_cell *put_anywhere(struct lease_window *window, struct sp_cell mine) {
    for (uint64_t i = 0; i < LEASE_WINDOW; i++) {
        struct sp_cell *cell = cell_at(window, i);
        struct sp_cell was = {.key = sp_cell_key(cell), .word = sp_cell_word(cell)};
        if ((was.key == 0 || lease_until(was) <= window->now) && sp_cell_swap(cell, was, mine))
            return cell;
    }
    return NULL;
}

bool lease_put(struct lease_window *window, enum lease_sort sort, uint64_t until, uint64_t amount) {
    struct lease_seen *seen = &window->one[sort];
    struct sp_cell mine = compose(window, sort, until, amount);
    bool alive = lease_alive(seen, window->now);
    if (!seen->cell || !sp_cell_swap(seen->cell, seen->was, mine)) {
        if (alive)
            return false;
        seen->cell = put_anywhere(window, mine); /* one whose time is over may have become another's meanwhile, also by ourselves */
    }
    seen->was = mine;
    return seen->cell != NULL;
}

bool lease_add_grant(struct lease_window *window, uint64_t until, uint64_t amount) {
    return put_anywhere(window, compose(window, LEASE_GRANT, until, amount)) != NULL;
}

bool lease_change_grant(struct lease_seen *grant, uint64_t amount) {
    struct sp_cell mine = {.key = grant->was.key, .word = (grant->was.word & ~LEASE_AMOUNT_MAX) | amount};
    if (!sp_cell_swap(grant->cell, grant->was, mine))
        return false;
    grant->was = mine;
    return true;
}

/* Every process that reloads says so: what is lost is at most what was leased a moment ago under the policy that is new already. */
void sp_lease_forget(struct sp_leases *leases, unsigned limit_slot, enum sp_limit_kind kind) {
    __atomic_add_fetch(&leases->segment->epoch[(size_t)kind * SP_LIMITS_MAX + limit_slot], 1, __ATOMIC_SEQ_CST);
}
