/* What the tests of the queue share: requests that wait, and a record of what becomes of each. */
#ifndef SALLYPORT_TEST_UPSTREAM_QUEUE_H
#define SALLYPORT_TEST_UPSTREAM_QUEUE_H

#include "scene.h"

struct waiter {
    struct sp_queue_ticket ticket;
    struct request request;
    struct sp_upstreams *upstreams;
    const struct sp_pool_config *pool;
    char name;
    int refused; /* why; 0: was not */
    unsigned asked;
    bool declines; /* takes nothing when it is its turn */
};

/* Who got a server, in order, since scene_order_begin(). */
extern char queue_order[4096];
void queue_order_begin(void);

/* Wants a server of the scene's pool, as the tenant says. True: has it; false: waits, or is refused (waiter->refused). */
bool waiter_come_to(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct waiter *waiter, char name, const char *tenant,
                    enum sp_priority priority);
bool waiter_come(struct scene *scene, struct waiter *waiter, char name, const char *tenant, enum sp_priority priority);
bool waiter_has(const struct waiter *waiter);
bool waiter_waits(const struct waiter *waiter);
/* Gives the server back, and lets who is next have it. */
void waiter_end(struct scene *scene, struct waiter *waiter);
/* Whoever of these has a server gives it back, one after the other, until nobody has one. */
void waiters_end_all(struct scene *scene, struct waiter *waiters, size_t n);

#endif
