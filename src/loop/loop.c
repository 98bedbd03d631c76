#include <sallyport/loop.h>

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "wheel.h"

enum { EVENTS_PER_TURN = 256 };

struct sp_loop {
    int epoll;
    bool stopped;
    uint64_t now_us;
    struct sp_wheel wheel;
    uint64_t turns;
    struct sp_list turn_ends, deferred, next_turn, yielding;
    struct epoll_event events[EVENTS_PER_TURN];
    int n_events, at_event; /* of the turn under way, so that a stopped watch's later event can be taken out */
    bool crowded;           /* more may be ready than this turn was told of */
};

static void read_clock(struct sp_loop *loop) { loop->now_us = sp_clock_us(); }

int sp_loop_new(struct sp_loop **ret) {
    struct sp_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return -ENOMEM;
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0) {
        int error = -errno;
        free(loop);
        return error;
    }
    sp_list_init(&loop->turn_ends);
    sp_list_init(&loop->deferred);
    sp_list_init(&loop->next_turn);
    sp_list_init(&loop->yielding);
    read_clock(loop);
    sp_wheel_init(&loop->wheel, loop->now_us / 1000);
    *ret = loop;
    return 0;
}

/* Appends everything in `from` to `to`. */
static void move_all(struct sp_list *to, struct sp_list *from) {
    while (!sp_list_empty(from)) {
        struct sp_list *node = from->next;
        sp_list_remove(node);
        sp_list_append(to, node);
    }
}

static void run_first(struct sp_list *list) {
    struct sp_deferred *deferred = sp_list_entry(list->next, struct sp_deferred, node);
    sp_list_remove(&deferred->node);
    deferred->queued = false;
    deferred->run(deferred);
}

static void run_deferred(struct sp_loop *loop) {
    while (!sp_list_empty(&loop->deferred))
        run_first(&loop->deferred);
}

void sp_loop_free(struct sp_loop *loop) {
    if (!loop)
        return;
    sp_loop_settle(loop);
    close(loop->epoll);
    free(loop);
}

static void run_turn_ends(struct sp_loop *loop) {
    sp_list_each_safe(node, &loop->turn_ends) {
        struct sp_turn_end *hook = sp_list_entry(node, struct sp_turn_end, node);
        hook->run(hook);
    }
}

static void end_turn(struct sp_loop *loop) {
    run_turn_ends(loop);
    run_deferred(loop);
}

/* Those who were served in this turn have been sent their answers by now. */
static void run_yielding(struct sp_loop *loop) {
    uint64_t begun = sp_clock_us();
    uint64_t may_take = sp_max((begun - loop->now_us) / 4, (uint64_t)SP_YIELDING_US);
    do
        run_first(&loop->yielding);
    while (!sp_list_empty(&loop->yielding) && sp_clock_us() - begun < may_take);
    end_turn(loop);
}

int sp_loop_turn(struct sp_loop *loop, int max_wait_ms) {
    bool more = !sp_list_empty(&loop->next_turn) || !sp_list_empty(&loop->yielding);
    int wait = more ? 0 : sp_wheel_wait_ms(&loop->wheel, loop->now_us / 1000, max_wait_ms);
    int n = epoll_wait(loop->epoll, loop->events, EVENTS_PER_TURN, wait);
    if (n < 0 && errno != EINTR)
        return -errno;
    read_clock(loop);
    loop->turns++;
    loop->n_events = sp_max(n, 0);
    loop->crowded = n == EVENTS_PER_TURN;
    move_all(&loop->deferred, &loop->next_turn);
    for (loop->at_event = 0; loop->at_event < loop->n_events; loop->at_event++) {
        struct sp_watch *watch = loop->events[loop->at_event].data.ptr;
        if (watch)
            watch->ready(watch, loop->events[loop->at_event].events);
    }
    loop->n_events = 0;
    sp_wheel_advance(&loop->wheel, loop->now_us / 1000);
    end_turn(loop);
    if (!sp_list_empty(&loop->yielding))
        run_yielding(loop);
    return 0;
}

int sp_loop_run(struct sp_loop *loop) {
    int error = 0;
    for (loop->stopped = false; !loop->stopped && !error;)
        error = sp_loop_turn(loop, -1);
    return error;
}

void sp_loop_stop(struct sp_loop *loop) { loop->stopped = true; }

uint64_t sp_loop_now_ms(const struct sp_loop *loop) { return loop->now_us / 1000; }

uint64_t sp_loop_now_us(const struct sp_loop *loop) { return loop->now_us; }

uint64_t sp_loop_turns(const struct sp_loop *loop) { return loop->turns; }

static int control(struct sp_loop *loop, int operation, struct sp_watch *watch, uint32_t epoll_events) {
    struct epoll_event event = {.events = epoll_events, .data.ptr = watch};
    return epoll_ctl(loop->epoll, operation, watch->fd, &event) ? -errno : 0;
}

int sp_watch_start(struct sp_loop *loop, struct sp_watch *watch, int fd, uint32_t epoll_events) {
    watch->fd = fd;
    int error = control(loop, EPOLL_CTL_ADD, watch, epoll_events);
    watch->active = !error;
    return error;
}

int sp_watch_change(struct sp_loop *loop, struct sp_watch *watch, uint32_t epoll_events) {
    return control(loop, EPOLL_CTL_MOD, watch, epoll_events);
}

void sp_watch_stop(struct sp_loop *loop, struct sp_watch *watch) {
    if (!watch->active)
        return;
    (void)control(loop, EPOLL_CTL_DEL, watch, 0);
    watch->active = false;
    for (int i = loop->at_event + 1; i < loop->n_events; i++)
        if (loop->events[i].data.ptr == watch)
            loop->events[i].data.ptr = NULL;
}

bool sp_watch_pending(const struct sp_loop *loop, const struct sp_watch *watch) {
    for (int i = loop->at_event + 1; i < loop->n_events; i++)
        if (loop->events[i].data.ptr == watch)
            return true;
    return loop->crowded;
}

void sp_timer_start(struct sp_loop *loop, struct sp_timer *timer, uint64_t after_ms) {
    sp_timer_stop(timer);
    timer->due_ms = loop->now_us / 1000 + after_ms;
    /* The turn's clock is cut to milliseconds here: one more tick, so that no timer is early by it. */
    timer->due_ms += 1;
    timer->active = true;
    sp_wheel_add(&loop->wheel, timer);
}

void sp_timer_stop(struct sp_timer *timer) {
    if (!timer->active)
        return;
    sp_list_remove(&timer->node);
    timer->active = false;
}

void sp_turn_end_add(struct sp_loop *loop, struct sp_turn_end *hook) { sp_list_append(&loop->turn_ends, &hook->node); }

void sp_turn_end_remove(struct sp_turn_end *hook) { sp_list_remove(&hook->node); }

static void append(struct sp_list *list, struct sp_deferred *deferred) {
    if (deferred->queued)
        return;
    deferred->queued = true;
    sp_list_append(list, &deferred->node);
}

void sp_defer(struct sp_loop *loop, struct sp_deferred *deferred) { append(&loop->deferred, deferred); }

void sp_defer_to_next_turn(struct sp_loop *loop, struct sp_deferred *deferred) { append(&loop->next_turn, deferred); }

void sp_defer_yielding(struct sp_loop *loop, struct sp_deferred *deferred) { append(&loop->yielding, deferred); }

void sp_deferred_cancel(struct sp_deferred *deferred) {
    if (!deferred->queued)
        return;
    deferred->queued = false;
    sp_list_remove(&deferred->node);
}

void sp_loop_settle(struct sp_loop *loop) {
    move_all(&loop->deferred, &loop->next_turn);
    run_deferred(loop);
}
