/* loop: one epoll loop for one thread: watched descriptors, timers in a wheel, work at the end of a turn, deferred frees.
 * A turn is: wait, dispatch ready descriptors, fire due timers, run turn-end hooks, run deferred calls; then work that yields, and hooks
 * and calls once more for what that has done.
 * It must not know what the descriptors carry. */
#ifndef SALLYPORT_LOOP_H
#define SALLYPORT_LOOP_H

#include <sallyport/base.h>

struct sp_loop;

/* A watched descriptor, embedded in its owner. The owner keeps the descriptor and closes it after sp_watch_stop(). */
struct sp_watch {
    int fd;
    bool active;
    void (*ready)(struct sp_watch *watch, uint32_t epoll_events);
};

/* A timer, embedded in its owner; resolution 1 ms, never early by the clock of the turn it is started in, which a long turn
 * leaves behind the true one. Zero is a stopped timer. Not kept across sp_timer_stop(). */
struct sp_timer {
    struct sp_list node;
    uint64_t due_ms;   /* loop clock */
    bool active;
    void (*fire)(struct sp_timer *timer);
};

/* Called at the end of each turn, in order of addition: batches (Redis commands, log lines) leave here. */
struct sp_turn_end {
    struct sp_list node;
    void (*run)(struct sp_turn_end *hook);
};

/* One call, later; with sp_defer() at the very end of the current turn, after every callback of it has returned: where frees happen. */
struct sp_deferred {
    struct sp_list node; /* sp_list_init() before first use */
    bool queued;
    void (*run)(struct sp_deferred *deferred);
};

int sp_loop_new(struct sp_loop **ret) SP_MUST_USE;
void sp_loop_free(struct sp_loop *loop); /* takes NULL; runs pending deferred calls first */

/* Runs turns until sp_loop_stop(). 0, or -errno when epoll itself fails. */
int sp_loop_run(struct sp_loop *loop);
/* One turn; waits at most max_wait_ms (-1: until something happens). For tests. */
int sp_loop_turn(struct sp_loop *loop, int max_wait_ms);
void sp_loop_stop(struct sp_loop *loop);

/* The loop's clock: monotonic, read once per turn. */
uint64_t sp_loop_now_ms(const struct sp_loop *loop);
uint64_t sp_loop_now_us(const struct sp_loop *loop);
uint64_t sp_loop_turns(const struct sp_loop *loop); /* begun so far: of two in a row the numbers are too */

/* epoll_events as for epoll_ctl(2): the caller says EPOLLET, EPOLLEXCLUSIVE. A watch stopped in a turn is not called again in it. */
int sp_watch_start(struct sp_loop *loop, struct sp_watch *watch, int fd, uint32_t epoll_events) SP_MUST_USE;
int sp_watch_change(struct sp_loop *loop, struct sp_watch *watch, uint32_t epoll_events) SP_MUST_USE;
void sp_watch_stop(struct sp_loop *loop, struct sp_watch *watch); /* harmless when not active */
/* Something has happened on it that this turn has not come to yet, or may have: where very many are ready a turn is not told of all. */
bool sp_watch_pending(const struct sp_loop *loop, const struct sp_watch *watch);

void sp_timer_start(struct sp_loop *loop, struct sp_timer *timer, uint64_t after_ms); /* restarts when active */
void sp_timer_stop(struct sp_timer *timer);                                           /* harmless when not active */

void sp_turn_end_add(struct sp_loop *loop, struct sp_turn_end *hook);
void sp_turn_end_remove(struct sp_turn_end *hook);
void sp_defer(struct sp_loop *loop, struct sp_deferred *deferred); /* once per turn; a second call before it ran is ignored */
/* The same in the next turn, which then begins without waiting: for work that would hold up others if it went on now. */
void sp_defer_to_next_turn(struct sp_loop *loop, struct sp_deferred *deferred);
/* Work that yields: for what is costly and nobody's request yet, so that those already served do not wait for it. Such calls wait in one
 * queue, oldest first, until all else in the turn is done. A turn begins another as long as they have taken less than SP_YIELDING_US, or a
 * quarter of what came before them where that is more (a busy loop must not starve them); always one. With some left over the next turn
 * begins without waiting. */
#define SP_YIELDING_US 100
void sp_defer_yielding(struct sp_loop *loop, struct sp_deferred *deferred);
/* Runs what is deferred now, outside a turn: for taking things apart in order at the end. Work that yields is left where it is. */
void sp_loop_settle(struct sp_loop *loop);
void sp_deferred_cancel(struct sp_deferred *deferred); /* harmless when not queued */

#endif
