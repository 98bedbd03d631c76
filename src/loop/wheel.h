/* A hierarchical timing wheel (Varghese, Lauck 1987): starting and stopping a timer is O(1) whatever their number.
 * Five levels of 64 slots, 1 ms to 12 days; later timers wait in the last level and are placed again. */
#ifndef SALLYPORT_LOOP_WHEEL_H
#define SALLYPORT_LOOP_WHEEL_H

#include <sallyport/loop.h>

#define SP_WHEEL_LEVELS 5
#define SP_WHEEL_SLOTS 64

struct sp_wheel {
    uint64_t now_ms;
    uint64_t occupied[SP_WHEEL_LEVELS]; /* a bit per slot that may hold timers; cleared lazily */
    struct sp_list slot[SP_WHEEL_LEVELS][SP_WHEEL_SLOTS];
};

void sp_wheel_init(struct sp_wheel *wheel, uint64_t now_ms);
void sp_wheel_add(struct sp_wheel *wheel, struct sp_timer *timer); /* by timer->due_ms */
void sp_wheel_advance(struct sp_wheel *wheel, uint64_t now_ms);    /* fires what is due, in slot order */
/* How long epoll may wait: until the next slot that may hold something, at most max_ms (-1: no maximum). -1: for ever. */
int sp_wheel_wait_ms(const struct sp_wheel *wheel, uint64_t now_ms, int max_ms);

#endif
