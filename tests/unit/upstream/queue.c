#include "queue.h"

#include <errno.h>

char queue_order[4096];

void queue_order_begin(void) { queue_order[0] = 0; }

static void note(char name) {
    size_t len = strlen(queue_order);
    assert_true(len + 1 < sizeof queue_order);
    queue_order[len] = name;
    queue_order[len + 1] = 0;
}

static bool take(struct waiter *waiter) {
    if (!request_take_with(waiter->upstreams, waiter->pool, &waiter->ticket, &waiter->request))
        return false;
    note(waiter->name);
    return true;
}

static void is_ready(struct sp_queue_ticket *ticket) {
    struct waiter *waiter = SP_CONTAINER(ticket, struct waiter, ticket);
    waiter->asked++;
    if (waiter->declines || take(waiter))
        return;
    if (waiter->request.error == -EBUSY)
        check(sp_queue_enter(waiter->upstreams, waiter->pool, ticket));
    else
        waiter->refused = waiter->request.error;
}

static void is_refused(struct sp_queue_ticket *ticket, int why) {
    struct waiter *waiter = SP_CONTAINER(ticket, struct waiter, ticket);
    assert_null(ticket->tenant);
    assert_int_equal(waiter->refused, 0);
    waiter->refused = why;
}

bool waiter_come_to(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct waiter *waiter, char name, const char *tenant,
                    enum sp_priority priority) {
    *waiter = (struct waiter){.upstreams = upstreams, .pool = pool, .name = name};
    waiter->ticket.priority = priority;
    waiter->ticket.who = sp_queue_who(upstreams, sp_span_text(tenant), SP_SPAN("somebody"));
    waiter->ticket.ready = is_ready;
    waiter->ticket.refused = is_refused;
    if (take(waiter))
        return true;
    waiter->refused = waiter->request.error == -EBUSY ? sp_queue_enter(upstreams, pool, &waiter->ticket) : waiter->request.error;
    return false;
}

bool waiter_come(struct scene *scene, struct waiter *waiter, char name, const char *tenant, enum sp_priority priority) {
    return waiter_come_to(scene->upstreams, scene_pool(scene), waiter, name, tenant, priority);
}

bool waiter_has(const struct waiter *waiter) { return waiter->request.backend != NULL; }

bool waiter_waits(const struct waiter *waiter) { return waiter->ticket.tenant != NULL; }

void waiter_end(struct scene *scene, struct waiter *waiter) {
    request_close(&waiter->request);
    check(sp_loop_turn(scene->loop, 0));
}

void waiters_end_all(struct scene *scene, struct waiter *waiters, size_t n) {
    for (size_t i = 0; i < n;) {
        if (!waiter_has(&waiters[i])) {
            i++;
            continue;
        }
        waiter_end(scene, &waiters[i]);
        i = 0;
    }
}
