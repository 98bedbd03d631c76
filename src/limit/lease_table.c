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

/* Which cells may be the name's, and what they say then. */
static void open_window(const struct sp_leases *leases, struct sp_lease_name name, struct lease_window *ret) {
    uint64_t row = name.key & (LEASE_ROWS - 1);
    uint64_t epoch = __atomic_load_n(&leases->segment->epoch[row], __ATOMIC_SEQ_CST);
    uint64_t mixed = name.key ^ (epoch * UINT64_C(0x9e3779b97f4a7c15)) << LEASE_ROW_BITS;
    ret->segment = leases->segment;
    ret->name = mixed & LEASE_NAME_MASK;
    ret->first = (mixed >> LEASE_ROW_BITS & (LEASE_CELLS / LEASE_LINE - 1)) * LEASE_LINE;
}

void sp_lease_expect(const struct sp_leases *leases, struct sp_lease_name name) {
    struct lease_window window SP_UNINITIALIZED; /* set as far as its cells are found by */
    open_window(leases, name, &window);
    for (uint64_t i = 0; i < LEASE_WINDOW; i += LEASE_LINE)
        __builtin_prefetch(cell_at(&window, i), 1);
}

/* The smallest gives way to what is larger: what is left of grants, too little for any cost, must not hide those that have enough. */
static bool make_way(struct lease_window *window, uint64_t amount) {
    unsigned least = 0;
    for (unsigned i = 1; i < window->n_grants; i++)
        if (lease_amount(window->grant[i].was) < lease_amount(window->grant[least].was))
            least = i;
    if (lease_amount(window->grant[least].was) >= amount)
        return false;
    window->n_grants--;
    for (unsigned i = least; i < window->n_grants; i++)
        window->grant[i] = window->grant[i + 1];
    return true;
}

static void add_in_order(struct lease_window *window, struct sp_cell *cell, struct sp_cell was) {
    if (lease_until(was) <= window->now)
        return;
    if (window->n_grants == LEASE_GRANTS_MAX && !make_way(window, lease_amount(was)))
        return;
    unsigned at = window->n_grants;
    for (; at > 0 && lease_until(window->grant[at - 1].was) > lease_until(was); at--)
        window->grant[at] = window->grant[at - 1];
    window->grant[at] = (struct lease_seen){.cell = cell, .was = was};
    window->n_grants++;
}

/* Key and word are read one after the other: where they are not of one moment, the swap that starts from them fails. */
void lease_look(const struct sp_leases *leases, struct sp_lease_name name, uint64_t now_us, struct lease_window *ret) {
    open_window(leases, name, ret);
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

static bool is_free(const struct lease_window *window, struct sp_cell was) { return was.key == 0 || lease_until(was) <= window->now; }
static bool is_spent(struct sp_cell was) { return (was.key >> LEASE_SORT_SHIFT & 7) == LEASE_GRANT && lease_amount(was) == 0; }

/* Into a cell that is empty or whose time is over; else into one that has nothing left to give. */
static struct sp_cell *put_anywhere(struct lease_window *window, struct sp_cell mine) {
    for (uint64_t i = 0; i < 2 * LEASE_WINDOW; i++) {
        struct sp_cell *cell = cell_at(window, i % LEASE_WINDOW);
        struct sp_cell was = {.key = sp_cell_key(cell), .word = sp_cell_word(cell)};
        bool fits = is_free(window, was) || (i >= LEASE_WINDOW && is_spent(was));
        if (fits && sp_cell_swap(cell, was, mine))
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

/* Where there is no room, what is left of an older grant is lost, if that is less. */
bool lease_add_grant(struct lease_window *window, uint64_t until, uint64_t amount) {
    struct sp_cell mine = compose(window, LEASE_GRANT, until, amount), least = mine, *cell = NULL;
    if (put_anywhere(window, mine))
        return true;
    for (uint64_t i = 0; i < LEASE_WINDOW; i++) {
        struct sp_cell *at = cell_at(window, i);
        struct sp_cell was = {.key = sp_cell_key(at), .word = sp_cell_word(at)};
        bool ours = (was.key & LEASE_NAME_MASK) == window->name && (was.key >> LEASE_SORT_SHIFT & 7) == LEASE_GRANT;
        if (ours && lease_amount(was) < lease_amount(least)) {
            least = was;
            cell = at;
        }
    }
    return cell && sp_cell_swap(cell, least, mine);
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
