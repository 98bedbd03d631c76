/* The table in which leases live. Cells of 16 bytes, each of its own: whose it is and of which sort, until when it holds, and a number. A
 * cell whose time is over is as good as an empty one and may be taken by anybody; so may a spent grant where there is no other. All cells
 * of one name lie in one window, each sort at most once but grants; where two processes made the same cell at the same moment, the first in
 * the window counts (a second grant is simply another).
 *
 *     key   hash 46 | until, upper 8 bits | sort 3 | row 7        the other 11 bits of the hash are where the window begins
 *     word  until, lower 36 bits | amount 28
 *
 * until: 64 µs of CLOCK_MONOTONIC in 44 bits, 35 years of uptime: never ambiguous. */
#ifndef SP_LIMIT_LEASE_TABLE_H
#define SP_LIMIT_LEASE_TABLE_H

#include "cell.h"
#include "lease.h"

#define LEASE_CELLS      (UINT64_C(1) << 18)
#define LEASE_WINDOW     16
#define LEASE_LINE       4   /* cells in a cache line: windows are whole ones */
#define LEASE_GRANTS_MAX 4   /* of one name that are looked at: those in use and the next few */
#define LEASE_ROWS       128 /* by kind and limit */
#define LEASE_ROW_BITS   7

#define LEASE_SORT_SHIFT  7
#define LEASE_HIGH_SHIFT  10
#define LEASE_LOW_BITS    36
#define LEASE_AMOUNT_BITS 28
#define LEASE_AMOUNT_MAX  ((UINT64_C(1) << LEASE_AMOUNT_BITS) - 1)
#define LEASE_NAME_MASK   (~(UINT64_C(0x7ff) << LEASE_SORT_SHIFT))
#define LEASE_US_PER_UNIT 64

enum lease_sort {
    LEASE_GRANT = 1, /* amount: tokens; until: they die */
    LEASE_REFUSAL,   /* amount: the least cost that was refused */
    LEASE_DEMAND,    /* amount: of the current window, see lease.c */
    LEASE_BEFORE,    /* the same of the window before */
    LEASE_ASK,       /* somebody is asking, or nobody is to ask yet */
    LEASE_VIEW,      /* amount: what Redis had left when it last told */
    LEASE_SORTS
};

struct sp_lease_segment {
    _Alignas(64) uint64_t epoch[LEASE_ROWS]; /* part of a name: what was kept under an earlier one is nobody's */
    _Alignas(4096) struct sp_cell cells[LEASE_CELLS];
};

struct lease_seen {
    struct sp_cell *cell; /* NULL: none */
    struct sp_cell was;
};

/* One name's cells as they were seen. */
struct lease_window {
    struct sp_lease_segment *segment;
    uint64_t name; /* as cells say it */
    uint64_t first;
    uint64_t now; /* units */
    unsigned n_grants;
    struct lease_seen grant[LEASE_GRANTS_MAX]; /* alive, the one that dies first at the front */
    struct lease_seen one[LEASE_SORTS];        /* alive or not */
};

static inline uint64_t lease_units(uint64_t us) { return us / LEASE_US_PER_UNIT; }
static inline uint64_t lease_until(struct sp_cell cell) {
    return (cell.key >> LEASE_HIGH_SHIFT & 0xff) << LEASE_LOW_BITS | cell.word >> LEASE_AMOUNT_BITS;
}
static inline uint64_t lease_amount(struct sp_cell cell) { return cell.word & LEASE_AMOUNT_MAX; }
static inline bool lease_alive(const struct lease_seen *seen, uint64_t now) { return seen->cell && lease_until(seen->was) > now; }

void lease_look(const struct sp_leases *leases, struct sp_lease_name name, uint64_t now_us, struct lease_window *ret);
/* In place of what was seen, or of a cell nobody needs. false: others were quicker, or there is no room. */
bool lease_put(struct lease_window *window, enum lease_sort sort, uint64_t until, uint64_t amount);
bool lease_add_grant(struct lease_window *window, uint64_t until, uint64_t amount);
bool lease_change_grant(struct lease_seen *grant, uint64_t amount);

#endif
