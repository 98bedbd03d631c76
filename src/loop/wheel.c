#include "wheel.h"

#include <limits.h>

enum { BITS = 6, MASK = SP_WHEEL_SLOTS - 1 };

void sp_wheel_init(struct sp_wheel *wheel, uint64_t now_ms) {
    wheel->now_ms = now_ms;
    for (int level = 0; level < SP_WHEEL_LEVELS; level++)
        for (int i = 0; i < SP_WHEEL_SLOTS; i++)
            sp_list_init(&wheel->slot[level][i]);
}

void sp_wheel_add(struct sp_wheel *wheel, struct sp_timer *timer) {
    uint64_t due = sp_max(timer->due_ms, wheel->now_ms + 1);
    /* The level is where due and now first differ: a timer moves down as the clock enters its slot. */
    uint64_t differ = due ^ wheel->now_ms;
    int level = (63 - __builtin_clzll(differ)) / BITS;
    uint64_t index = due >> (level * BITS);
    if (level >= SP_WHEEL_LEVELS) {
        /* Beyond the last level's turn: its own slot where that comes within a turn, else the furthest, to be placed again from there. */
        level = SP_WHEEL_LEVELS - 1;
        index = sp_min(due >> (level * BITS), (wheel->now_ms >> (level * BITS)) + MASK);
    }
    index &= MASK;
    sp_list_append(&wheel->slot[level][index], &timer->node);
    wheel->occupied[level] |= UINT64_C(1) << index;
}

static void take_slot(struct sp_wheel *wheel, int level, unsigned index, struct sp_list *out) {
    struct sp_list *slot = &wheel->slot[level][index];
    sp_list_init(out);
    wheel->occupied[level] &= ~(UINT64_C(1) << index);
    if (sp_list_empty(slot))
        return;
    *out = *slot;
    out->next->prev = out;
    out->prev->next = out;
    sp_list_init(slot);
}

static void run_slot(struct sp_wheel *wheel, int level, unsigned index) {
    struct sp_list due;
    take_slot(wheel, level, index, &due);
    while (!sp_list_empty(&due)) {
        struct sp_timer *timer = sp_list_entry(due.next, struct sp_timer, node);
        sp_list_remove(&timer->node);
        if (timer->due_ms > wheel->now_ms) {
            sp_wheel_add(wheel, timer);
            continue;
        }
        timer->active = false;
        timer->fire(timer);
    }
}

/* The next instant after now at which some slot must be looked at; UINT64_MAX when all are empty. */
static uint64_t next_instant(const struct sp_wheel *wheel) {
    uint64_t next = UINT64_MAX;
    for (int level = 0; level < SP_WHEEL_LEVELS; level++) {
        if (!wheel->occupied[level])
            continue;
        uint64_t at = wheel->now_ms >> (level * BITS);
        unsigned from = (unsigned)((at + 1) & MASK);
        uint64_t turned = from ? wheel->occupied[level] >> from | wheel->occupied[level] << (SP_WHEEL_SLOTS - from) : wheel->occupied[level];
        uint64_t instant = (at + 1 + (uint64_t)__builtin_ctzll(turned)) << (level * BITS);
        next = sp_min(next, instant);
    }
    return next;
}

void sp_wheel_advance(struct sp_wheel *wheel, uint64_t now_ms) {
    for (;;) {
        uint64_t next = next_instant(wheel);
        if (next > now_ms)
            break;
        wheel->now_ms = next;
        /* Higher levels first: what they hold may be due in this very millisecond. */
        for (int level = SP_WHEEL_LEVELS - 1; level >= 0; level--)
            if ((next & ((UINT64_C(1) << (level * BITS)) - 1)) == 0)
                run_slot(wheel, level, (unsigned)(next >> (level * BITS)) & MASK);
    }
    wheel->now_ms = sp_max(wheel->now_ms, now_ms);
}

int sp_wheel_wait_ms(const struct sp_wheel *wheel, uint64_t now_ms, int max_ms) {
    uint64_t next = next_instant(wheel);
    if (next == UINT64_MAX)
        return max_ms;
    uint64_t wait = next > now_ms ? next - now_ms : 0;
    wait = sp_min(wait, (uint64_t)INT_MAX);
    return max_ms >= 0 ? sp_min((int)wait, max_ms) : (int)wait;
}
