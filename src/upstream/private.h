/* Shared by the files of upstream/ alone: a server as this worker knows it, and choosing one. */
#ifndef SALLYPORT_UPSTREAM_PRIVATE_H
#define SALLYPORT_UPSTREAM_PRIVATE_H

#include <sallyport/upstream.h>

enum { SP_SERVER_ADDRESSES_MAX = 16 };

struct sp_server {
    struct sp_upstreams *upstreams;
    const struct sp_server_config *config; /* of the newest snapshot; NULL: no longer named */
    const struct sp_pool_config *pool;     /* likewise */
    uint64_t host;            /* identity of host and port, kept when no longer named: requests of an older snapshot still come */
    uint8_t addresses[SP_SERVER_ADDRESSES_MAX][16];
    unsigned n_addresses, next_address;
    struct sp_tls_client *tls; /* towards it from now on; NULL: plain */
    bool named;               /* the address is a name: control resolves it */
    bool down;                /* its probes fail */
    unsigned failures;        /* in a row, as traffic saw it */
    uint64_t ejected_until_ms;
    uint64_t told_ms;         /* when a problem of its was last logged */
    struct sp_list idle;      /* of struct sp_backend, last used first */
    unsigned connections;     /* open or opening, idle ones too */
    int64_t turn;             /* smooth weighted round robin */
};

struct sp_queue;
struct sp_queues {
    struct sp_queue *item[SP_POOLS_MAX]; /* by pool slot; NULL: nobody has waited there yet */
    size_t length;                       /* of all */
    struct sp_pool tenants;
    struct sp_list refused; /* tickets to be told */
    struct sp_deferred tell, wake;
    struct sp_timer look; /* runs while somebody waits */
};

struct sp_upstreams {
    struct sp_loop *loop;
    struct sp_traffic *traffic;
    struct sp_config *config;
    struct sp_server *servers[SP_SERVERS_MAX]; /* by slot */
    struct sp_timer sweep;
    uint64_t opened;
    struct sp_queues queues;
};

/* tls.c: NULL: plain. Borrowed. */
struct sp_tls_client *sp_upstream_tls_of(const struct sp_upstream_tls *tls, unsigned server_slot);

/* Is this slot's state of the server that `config` (of any snapshot) names? */
bool sp_server_is(const struct sp_server *server, const struct sp_server_config *config);
/* The next server of the pool, or NULL with -EHOSTDOWN or -EBUSY. *ret_index is its place in the pool. */
struct sp_server *sp_balance_choose(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, uint64_t tried, unsigned *ret_index,
                                    int *ret_error);
/* Would a server be chosen now? 0, -EHOSTDOWN, -EBUSY: all are full, -ENOBUFS: other workers may have room where this one has none. */
int sp_balance_room(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool);
/* What bounds a server now, whatever the asking request's snapshot says: the newest one's numbers, as long as that names it. */
uint64_t sp_server_max_in_flight(const struct sp_server *server, const struct sp_server_config *config);
unsigned sp_server_max_connections(const struct sp_server *server, const struct sp_pool_config *pool);

/* queue.c */
void sp_queues_init(struct sp_upstreams *upstreams);
void sp_queues_free(struct sp_upstreams *upstreams);
void sp_queues_configured(struct sp_upstreams *upstreams); /* refuses who waits for a pool that is gone */
/* May this one take a server now, or do others go first? Takes a ticket of NULL: it may. */
bool sp_queue_lets(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool, const struct sp_queue_ticket *ticket);
/* It got a server, so its tenant's next turn is last. Takes NULL. */
void sp_queue_served(const struct sp_pool_config *pool, struct sp_queue_ticket *ticket);
void sp_queue_departed(struct sp_upstreams *upstreams, unsigned pool_slot); /* a request of that pool came to its end */
/* A server may have room: who waits is asked in the next turn. Costs nothing when nobody does. */
void sp_queue_wake(struct sp_upstreams *upstreams);

#endif
