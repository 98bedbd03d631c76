/* Who waits for a server of a pool, and who is next. Tenants stand in line by since when they have gone without a turn, a time that every
 * worker reads from the same clock: so the lines of all workers make one order, although each worker only tells who is the first of its
 * own. */
#include "private.h"

#include <errno.h>

enum {
    LOOK_MS = 2,          /* how often others' releases are looked for */
    AHEAD_US = 5000,      /* another worker's next must be due before ours by more than this to go first */
    LEFT_MAX_US = 50000,  /* how long a free server is left to another worker: longer than a busy one takes for its turn */
    SERVED_MAX = 64,      /* in one go, before others have their turn of the loop */
    TENANTS_KEPT = 256,   /* on the free list */
    LOOKED_AT_MAX = 1024, /* tenants, for the one with the most in the queue */
    PACE_MEMORY = 32,     /* departures over which the pace is averaged */
    PACE_MIN_MS = 1000,
    PACE_MAX_MS = 60000,
    PRIORITIES = SP_PRIORITY_HIGH + 1,
};

/* With something in the queue, of one priority. */
struct sp_queue_tenant {
    struct sp_map_node by_who;
    struct sp_list node; /* in its line */
    struct sp_queue *queue;
    enum sp_priority priority;
    uint64_t who, since_us;
    struct sp_list tickets; /* first come first */
    unsigned n;
};

struct line {
    struct sp_list tenants; /* who has gone without for longest first */
    unsigned n_tenants, n;
};

struct sp_queue {
    struct sp_upstreams *upstreams;
    unsigned slot;
    struct line line[PRIORITIES];
    struct sp_map tenants;
    struct sp_list arrivals; /* every ticket, by when it came */
    unsigned length;
    const struct sp_pool_config *newest;  /* whose pool who came last knows */
    bool mixed;                           /* others know another */
    struct sp_queue_ticket *turn;         /* is being asked whether it takes a server */
    bool out_of_connections;              /* of this worker: who is next could not be served here, whatever others leave it */
    uint64_t left_since_us;               /* a server has been free for another worker's next; 0: none is */
    uint64_t passed_over[SP_WORKERS_MAX]; /* that worker's next, which did not take what was left to it */
    uint64_t departed_us;                 /* the last departure while somebody waited, or when the first one came */
    uint64_t interval_us;                 /* the mean between two departures; 0: none was seen yet */
    unsigned departures;
};

/* ---- Order ---- */

/* Larger is sooner, 0 nobody: the priority, then since when. 2^56 µs are 2,000 years. */
static uint64_t rank(enum sp_priority priority, uint64_t since_us) {
    return ((uint64_t)priority + 1) << 56 | (((UINT64_C(1) << 56) - 1) - since_us);
}

/* Of one tenant in one line of one pool, in the table of turns that all workers share. */
static uint64_t turn_key(const struct sp_queue_tenant *tenant) {
    return tenant->who ^ UINT64_C(0x9e3779b97f4a7c15) * (tenant->queue->slot * PRIORITIES + (unsigned)tenant->priority + 1);
}

static struct sp_queue_tenant *first_tenant(const struct line *line) {
    return sp_list_empty(&line->tenants) ? NULL : sp_list_entry(line->tenants.next, struct sp_queue_tenant, node);
}

static struct sp_queue_ticket *first_ticket(const struct sp_queue_tenant *tenant) {
    return sp_list_entry(tenant->tickets.next, struct sp_queue_ticket, node);
}

/* From the back, for it mostly belongs there. */
static void stand_in_line(struct line *line, struct sp_queue_tenant *tenant) {
    struct sp_list *at = line->tenants.prev;
    while (at != &line->tenants && sp_list_entry(at, struct sp_queue_tenant, node)->since_us > tenant->since_us)
        at = at->prev;
    sp_list_prepend(at, &tenant->node);
}

/* Who had a turn in another worker meanwhile goes back in line here too. */
static void heed_turns_elsewhere(struct sp_queue *queue, struct line *line) {
    struct sp_queue_tenant *tenant;
    for (unsigned i = 0; i < line->n_tenants && (tenant = first_tenant(line)); i++) {
        uint64_t turn_us = sp_traffic_last_turn(queue->upstreams->traffic, turn_key(tenant));
        if (turn_us <= tenant->since_us)
            return;
        tenant->since_us = turn_us;
        sp_list_remove(&tenant->node);
        stand_in_line(line, tenant);
    }
}

static void tell_next(const struct sp_queue *queue) {
    uint64_t next = 0;
    for (int p = PRIORITIES - 1; p >= 0 && !next && !queue->out_of_connections; p--) {
        const struct sp_queue_tenant *tenant = first_tenant(&queue->line[p]);
        if (tenant)
            next = rank(tenant->priority, tenant->since_us);
    }
    sp_traffic_tell_next(queue->upstreams->traffic, queue->slot, next);
}

/* What a worker would serve next, if that is due before who has our rank; 0: it is not. queue NULL: nobody has waited here yet. */
static uint64_t ahead(const struct sp_upstreams *upstreams, const struct sp_queue *queue, unsigned worker, unsigned slot, uint64_t ours) {
    uint64_t theirs = sp_traffic_next_of(upstreams->traffic, worker, slot);
    bool passed_over = queue && queue->passed_over[worker] == theirs;
    return theirs > ours + AHEAD_US && !passed_over ? theirs : 0;
}

static bool others_first(const struct sp_upstreams *upstreams, const struct sp_queue *queue, unsigned slot, uint64_t ours) {
    unsigned n = sp_traffic_workers(upstreams->traffic);
    for (unsigned worker = 0; worker < n; worker++)
        if (ahead(upstreams, queue, worker, slot, ours))
            return true;
    return false;
}

/* Leaves what is free to another worker whose next is due, but not for long: that one may be stopped, or know only servers that are full.
 */
static bool leave_to_others(struct sp_queue *queue, uint64_t ours) {
    struct sp_upstreams *upstreams = queue->upstreams;
    uint64_t now = sp_loop_now_us(upstreams->loop);
    if (!others_first(upstreams, queue, queue->slot, ours)) {
        queue->left_since_us = 0;
        return false;
    }
    if (!queue->left_since_us)
        queue->left_since_us = now;
    if (now - queue->left_since_us < LEFT_MAX_US)
        return true;
    queue->left_since_us = 0;
    unsigned n = sp_traffic_workers(upstreams->traffic);
    for (unsigned worker = 0; worker < n; worker++) {
        uint64_t theirs = ahead(upstreams, queue, worker, queue->slot, ours);
        if (theirs)
            queue->passed_over[worker] = theirs;
    }
    return false;
}

/* ---- Coming and leaving ---- */

static struct sp_queue *queue_of(struct sp_upstreams *upstreams, unsigned slot) {
    struct sp_queue **at = &upstreams->queues.item[slot];
    if (*at || !(*at = calloc(1, sizeof **at)))
        return *at;
    (*at)->upstreams = upstreams;
    (*at)->slot = slot;
    for (int p = 0; p < PRIORITIES; p++)
        sp_list_init(&(*at)->line[p].tenants);
    sp_map_init(&(*at)->tenants);
    sp_list_init(&(*at)->arrivals);
    return *at;
}

static uint64_t tenant_hash(enum sp_priority priority, uint64_t who) { return who + (uint64_t)priority; }

static struct sp_queue_tenant *find_tenant(const struct sp_queue *queue, enum sp_priority priority, uint64_t who) {
    for (struct sp_map_node *node = sp_map_first(&queue->tenants, tenant_hash(priority, who)); node; node = sp_map_next(node)) {
        struct sp_queue_tenant *tenant = SP_CONTAINER(node, struct sp_queue_tenant, by_who);
        if (tenant->who == who && tenant->priority == priority)
            return tenant;
    }
    return NULL;
}

static struct sp_queue_tenant *tenant_new(struct sp_queue *queue, enum sp_priority priority, uint64_t who) {
    struct sp_pool *memory = &queue->upstreams->queues.tenants;
    struct sp_queue_tenant *tenant = sp_pool_get(memory);
    if (!tenant)
        return NULL;
    *tenant =
        (struct sp_queue_tenant){.queue = queue, .priority = priority, .who = who, .since_us = sp_loop_now_us(queue->upstreams->loop)};
    if (sp_map_add(&queue->tenants, &tenant->by_who, tenant_hash(priority, who))) {
        sp_pool_put(memory, tenant);
        return NULL;
    }
    sp_list_init(&tenant->tickets);
    stand_in_line(&queue->line[priority], tenant);
    queue->line[priority].n_tenants++;
    return tenant;
}

static void tenant_free(struct sp_queue_tenant *tenant) {
    struct sp_queue *queue = tenant->queue;
    sp_list_remove(&tenant->node);
    queue->line[tenant->priority].n_tenants--;
    sp_map_remove(&queue->tenants, &tenant->by_who);
    sp_pool_put(&queue->upstreams->queues.tenants, tenant);
}

/* Out of the queue; whose place among `depth` this was is the caller's to say. */
static void take_out(struct sp_queue_ticket *ticket) {
    struct sp_queue_tenant *tenant = sp_take(ticket->tenant);
    struct sp_queue *queue = tenant->queue;
    struct sp_queues *queues = &queue->upstreams->queues;
    sp_timer_stop(&ticket->timeout);
    sp_list_remove(&ticket->node);
    sp_list_remove(&ticket->arrival);
    if (queue->turn == ticket)
        queue->turn = NULL;
    queue->line[tenant->priority].n--;
    if (--tenant->n == 0)
        tenant_free(tenant);
    if (--queue->length == 0) {
        queue->mixed = queue->out_of_connections = false;
        queue->left_since_us = 0;
    }
    if (--queues->length == 0)
        sp_timer_stop(&queues->look);
    tell_next(queue);
}

void sp_queue_leave(struct sp_queue_ticket *ticket) {
    if (ticket->why) {
        ticket->why = 0;
        sp_list_remove(&ticket->node);
    }
    if (!ticket->tenant)
        return;
    const struct sp_queue *queue = ticket->tenant->queue;
    take_out(ticket);
    sp_traffic_waits_no_more(queue->upstreams->traffic, queue->slot);
}

/* ---- Refusals ---- */

static void tell_refused(struct sp_deferred *deferred) {
    struct sp_queues *queues = SP_CONTAINER(deferred, struct sp_queues, tell);
    while (!sp_list_empty(&queues->refused)) {
        struct sp_queue_ticket *ticket = sp_list_entry(queues->refused.next, struct sp_queue_ticket, node);
        int why = ticket->why;
        sp_queue_leave(ticket);
        ticket->refused(ticket, why);
    }
}

/* For a ticket that is out already. */
static void refuse_later(struct sp_upstreams *upstreams, struct sp_queue_ticket *ticket, int why) {
    ticket->why = why;
    sp_list_append(&upstreams->queues.refused, &ticket->node);
    sp_defer(upstreams->loop, &upstreams->queues.tell);
}

static void timed_out(struct sp_timer *timer) {
    struct sp_queue_ticket *ticket = SP_CONTAINER(timer, struct sp_queue_ticket, timeout);
    sp_queue_leave(ticket);
    ticket->refused(ticket, -ETIMEDOUT);
}

static struct sp_queue_tenant *tenant_with_most(const struct line *line) {
    struct sp_queue_tenant *most = first_tenant(line);
    if (line->n == line->n_tenants) /* each has one */
        return most;
    unsigned looked_at = 0;
    sp_list_each (node, &line->tenants) {
        struct sp_queue_tenant *tenant = sp_list_entry(node, struct sp_queue_tenant, node);
        if (tenant->n > most->n)
            most = tenant;
        if (++looked_at == LOOKED_AT_MAX)
            break;
    }
    return most;
}

/* The queue is full: whose place a newcomer takes, whose tenant has `own` in the queue. NULL: nobody's. */
static struct sp_queue_ticket *who_gives_way(const struct sp_queue *queue, enum sp_priority priority, unsigned own) {
    for (enum sp_priority p = SP_PRIORITY_LOW; p <= priority; p++) {
        const struct sp_queue_tenant *most = tenant_with_most(&queue->line[p]);
        if (most && (p < priority || most->n > own + 1))
            return sp_list_entry(most->tickets.prev, struct sp_queue_ticket, node);
    }
    return NULL;
}

/* ---- Entering ---- */

static bool is_named(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool) {
    const struct sp_config *config = upstreams->config;
    for (size_t i = 0; config && i < config->n_pools; i++)
        if (config->pools[i].slot == pool->slot)
            return &config->pools[i] == pool || strcmp(config->pools[i].name, pool->name) == 0;
    return false;
}

static void put_in(struct sp_queue *queue, struct sp_queue_tenant *tenant, const struct sp_pool_config *pool,
                   struct sp_queue_ticket *ticket) {
    struct sp_upstreams *upstreams = queue->upstreams;
    ticket->tenant = tenant;
    ticket->pool = pool;
    if (ticket->had == pool) /* it was ahead of these once */
        sp_list_prepend(&tenant->tickets, &ticket->node);
    else
        sp_list_append(&tenant->tickets, &ticket->node);
    sp_list_append(&queue->arrivals, &ticket->arrival);
    tenant->n++;
    queue->line[tenant->priority].n++;
    if (queue->length++ == 0)
        queue->departed_us = sp_loop_now_us(upstreams->loop);
    else if (queue->newest != pool)
        queue->mixed = true;
    queue->newest = pool;
    ticket->timeout.fire = timed_out;
    sp_timer_start(upstreams->loop, &ticket->timeout, pool->queue_timeout_ms);
    if (upstreams->queues.length++ == 0)
        sp_timer_start(upstreams->loop, &upstreams->queues.look, LOOK_MS);
    tell_next(queue);
}

int sp_queue_enter(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct sp_queue_ticket *ticket) {
    if (ticket->tenant && ticket->pool == pool)
        return 0;
    if (ticket->tenant)
        sp_queue_leave(ticket); /* it waited for another pool */
    if (ticket->why) {          /* it was about to be told */
        int why = ticket->why;
        sp_queue_leave(ticket);
        return why;
    }
    if (pool->queue_depth == 0)
        return -ENOTSUP;
    if (!is_named(upstreams, pool))
        return -ENOENT;
    struct sp_queue *queue = queue_of(upstreams, pool->slot);
    if (!queue)
        return -ENOMEM;
    struct sp_queue_tenant *tenant = find_tenant(queue, ticket->priority, ticket->who);
    struct sp_queue_ticket *gives_way = NULL;
    if (!sp_traffic_wait(upstreams->traffic, pool->slot, pool->queue_depth)) {
        gives_way = who_gives_way(queue, ticket->priority, tenant ? tenant->n : 0);
        if (!gives_way)
            return -EAGAIN;
    }
    if (!tenant && !(tenant = tenant_new(queue, ticket->priority, ticket->who))) {
        if (!gives_way)
            sp_traffic_waits_no_more(upstreams->traffic, pool->slot);
        return -ENOMEM;
    }
    put_in(queue, tenant, pool, ticket);
    if (gives_way) {
        take_out(gives_way);
        refuse_later(upstreams, gives_way, -EAGAIN);
    }
    return 0;
}

/* ---- Serving ---- */

/* Whose turn it is, if a server has room. -EHOSTDOWN counts as room: who asks will hear of it. */
static struct sp_queue_ticket *next_ticket(struct sp_queue *queue) {
    const struct sp_pool_config *full = NULL;
    queue->out_of_connections = false;
    for (int p = PRIORITIES - 1; p >= 0; p--) {
        heed_turns_elsewhere(queue, &queue->line[p]);
        sp_list_each (node, &queue->line[p].tenants) {
            const struct sp_queue_tenant *tenant = sp_list_entry(node, struct sp_queue_tenant, node);
            struct sp_queue_ticket *ticket = first_ticket(tenant);
            if (ticket->pool == full)
                continue;
            int room = sp_balance_room(queue->upstreams, ticket->pool);
            if (room != -EBUSY && room != -ENOBUFS)
                return leave_to_others(queue, rank(tenant->priority, tenant->since_us)) ? NULL : ticket;
            queue->out_of_connections |= room == -ENOBUFS;
            queue->left_since_us = 0;
            if (!queue->mixed)
                return NULL;
            full = ticket->pool; /* others know other servers, from before or after a reload */
        }
    }
    return NULL;
}

static void serve(struct sp_queue *queue) {
    for (int served = 0; queue->length; served++) {
        if (served == SERVED_MAX) {
            sp_queue_wake(queue->upstreams);
            return;
        }
        struct sp_queue_ticket *ticket = next_ticket(queue);
        tell_next(queue);
        if (!ticket)
            return;
        queue->turn = ticket;
        ticket->ready(ticket);
        if (queue->turn) { /* another worker was faster */
            queue->turn = NULL;
            return;
        }
    }
}

static void serve_all(struct sp_upstreams *upstreams) {
    for (unsigned slot = 0; slot < SP_POOLS_MAX && upstreams->queues.length; slot++)
        if (upstreams->queues.item[slot])
            serve(upstreams->queues.item[slot]);
}

static void wake(struct sp_deferred *deferred) { serve_all(SP_CONTAINER(deferred, struct sp_upstreams, queues.wake)); }

static void look(struct sp_timer *timer) {
    struct sp_upstreams *upstreams = SP_CONTAINER(timer, struct sp_upstreams, queues.look);
    serve_all(upstreams);
    if (upstreams->queues.length)
        sp_timer_start(upstreams->loop, timer, LOOK_MS);
}

/* In the next turn: what is given back in answer to that would keep this one going on. */
void sp_queue_wake(struct sp_upstreams *upstreams) {
    if (upstreams->queues.length)
        sp_defer_to_next_turn(upstreams->loop, &upstreams->queues.wake);
}

bool sp_queue_lets(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool, const struct sp_queue_ticket *ticket) {
    if (!ticket || ticket->had == pool || pool->queue_depth == 0)
        return true;
    const struct sp_queue *queue = upstreams->queues.item[pool->slot];
    if (ticket->tenant && ticket->pool == pool)
        return queue->turn == ticket;
    for (int p = PRIORITIES - 1; queue && p >= (int)ticket->priority; p--)
        if (queue->line[p].n)
            return false;
    return !others_first(upstreams, queue, pool->slot, rank(ticket->priority, sp_loop_now_us(upstreams->loop)));
}

void sp_queue_served(const struct sp_pool_config *pool, struct sp_queue_ticket *ticket) {
    if (!ticket)
        return;
    struct sp_queue_tenant *tenant = ticket->pool == pool ? ticket->tenant : NULL;
    if (tenant) {
        struct sp_upstreams *upstreams = tenant->queue->upstreams;
        tenant->since_us = sp_loop_now_us(upstreams->loop);
        sp_traffic_turn(upstreams->traffic, turn_key(tenant), tenant->since_us);
        sp_list_remove(&tenant->node);
        stand_in_line(&tenant->queue->line[tenant->priority], tenant);
    }
    sp_queue_leave(ticket);
    ticket->had = pool;
}

/* ---- Pace ---- */

void sp_queue_departed(struct sp_upstreams *upstreams, unsigned pool_slot) {
    struct sp_queue *queue = upstreams->queues.item[pool_slot];
    if (!queue || queue->length == 0)
        return; /* nobody waited: that tells when somebody came, not how fast they could be served */
    uint64_t now = sp_loop_now_us(upstreams->loop);
    int64_t interval = (int64_t)(now - queue->departed_us);
    queue->departed_us = now;
    queue->departures = sp_min(queue->departures + 1, (unsigned)PACE_MEMORY);
    queue->interval_us = (uint64_t)((int64_t)queue->interval_us + (interval - (int64_t)queue->interval_us) / (int64_t)queue->departures);
}

/* Until a departure was seen, the operator is believed: a full queue is worked off in its timeout. */
static uint64_t interval_us(const struct sp_queue *queue, const struct sp_pool_config *pool, uint64_t now) {
    uint64_t said = pool->queue_depth ? pool->queue_timeout_ms * 1000 / pool->queue_depth : 0;
    if (!queue)
        return said;
    uint64_t known = queue->departures ? queue->interval_us : said;
    return queue->length ? sp_max(known, now - queue->departed_us) : known;
}

uint64_t sp_queue_pace_ms(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool, enum sp_priority priority) {
    const struct sp_queue *queue = upstreams->queues.item[pool->slot];
    uint64_t before = 0, ms;
    for (int p = PRIORITIES - 1; queue && p >= (int)priority; p--)
        before += queue->line[p].n;
    if (__builtin_mul_overflow(before + 1, interval_us(queue, pool, sp_loop_now_us(upstreams->loop)) / 1000, &ms))
        return PACE_MAX_MS;
    return sp_min(sp_max(ms, (uint64_t)PACE_MIN_MS), (uint64_t)PACE_MAX_MS);
}

uint64_t sp_queue_who(const struct sp_upstreams *upstreams, struct sp_span tenant, struct sp_span account) {
    uint64_t hash = sp_traffic_hash(upstreams->traffic, tenant.len ? tenant : account);
    return tenant.len ? hash : ~hash; /* an account that is called like a tenant is another */
}

uint64_t sp_queue_length(const struct sp_upstreams *upstreams, unsigned pool_slot) {
    return sp_traffic_waiting(upstreams->traffic, pool_slot);
}

uint64_t sp_queue_length_own(const struct sp_upstreams *upstreams, unsigned pool_slot) {
    const struct sp_queue *queue = pool_slot < SP_POOLS_MAX ? upstreams->queues.item[pool_slot] : NULL;
    return queue ? queue->length : 0;
}

/* ---- All of a worker's ---- */

void sp_queues_init(struct sp_upstreams *upstreams) {
    struct sp_queues *queues = &upstreams->queues;
    sp_pool_init(&queues->tenants, sizeof(struct sp_queue_tenant), TENANTS_KEPT);
    sp_list_init(&queues->refused);
    sp_list_init(&queues->tell.node);
    sp_list_init(&queues->wake.node);
    queues->tell.run = tell_refused;
    queues->wake.run = wake;
    queues->look.fire = look;
}

void sp_queues_free(struct sp_upstreams *upstreams) {
    struct sp_queues *queues = &upstreams->queues;
    sp_timer_stop(&queues->look);
    sp_deferred_cancel(&queues->tell);
    sp_deferred_cancel(&queues->wake);
    for (unsigned slot = 0; slot < SP_POOLS_MAX; slot++)
        if (queues->item[slot]) {
            sp_map_free(&queues->item[slot]->tenants);
            free(queues->item[slot]);
        }
    sp_pool_drain(&queues->tenants);
}

void sp_queues_configured(struct sp_upstreams *upstreams) {
    for (unsigned slot = 0; slot < SP_POOLS_MAX; slot++) {
        struct sp_queue *queue = upstreams->queues.item[slot];
        if (!queue)
            continue;
        sp_list_each_safe (node, &queue->arrivals) {
            struct sp_queue_ticket *ticket = sp_list_entry(node, struct sp_queue_ticket, arrival);
            if (is_named(upstreams, ticket->pool))
                continue;
            sp_queue_leave(ticket);
            refuse_later(upstreams, ticket, -ENOENT);
        }
    }
    sp_queue_wake(upstreams);
}
