#include "private.h"

#include <errno.h>

enum { KEEP_IDLE_MS = 60000, SWEEP_MS = 5000, TELL_EVERY_MS = 1000, IN_MAX = 64 * 1024, CHOICES_MAX = 8, LOOKS_MAX = 16 };

struct sp_backend {
    struct sp_list node; /* in its server's idle list, or alone */
    struct sp_server *server;
    const struct sp_server_config *config; /* of the borrower's snapshot; NULL while idle */
    struct sp_transport *transport;
    struct sp_tls_client *tls; /* it was made with; NULL: plain */
    struct sp_buffer in;
    struct sp_timer connect_timer;
    struct sp_deferred free;
    sp_transport_ready *ready; /* the borrower's, while connecting */
    void *owner;
    uint64_t idle_since_ms, idle_since_turn;
    unsigned pool_slot; /* while lent */
    bool reused, timed_out, reported;
};

/* ---- Servers ---- */

static void close_idle(struct sp_server *server) {
    while (!sp_list_empty(&server->idle))
        sp_backend_close(sp_list_entry(server->idle.prev, struct sp_backend, node), false);
}

static void sweep(struct sp_timer *timer) {
    struct sp_upstreams *upstreams = SP_CONTAINER(timer, struct sp_upstreams, sweep);
    uint64_t now = sp_loop_now_ms(upstreams->loop);
    for (unsigned slot = 0; slot < SP_SERVERS_MAX; slot++) {
        struct sp_server *server = upstreams->servers[slot];
        if (!server)
            continue;
        sp_list_each_safe (node, &server->idle) {
            struct sp_backend *backend = sp_list_entry(node, struct sp_backend, node);
            if (now - backend->idle_since_ms > KEEP_IDLE_MS)
                sp_backend_close(backend, false);
        }
    }
    sp_timer_start(upstreams->loop, timer, SWEEP_MS);
}

int sp_upstreams_new(struct sp_loop *loop, struct sp_traffic *traffic, struct sp_upstreams **ret) {
    struct sp_upstreams *upstreams = calloc(1, sizeof *upstreams);
    if (!upstreams)
        return -ENOMEM;
    upstreams->loop = loop;
    upstreams->traffic = traffic;
    upstreams->sweep.fire = sweep;
    sp_queues_init(upstreams);
    sp_timer_start(loop, &upstreams->sweep, SWEEP_MS);
    *ret = upstreams;
    return 0;
}

void sp_upstreams_free(struct sp_upstreams *upstreams) {
    if (!upstreams)
        return;
    sp_timer_stop(&upstreams->sweep);
    sp_queues_free(upstreams);
    for (unsigned slot = 0; slot < SP_SERVERS_MAX; slot++)
        if (upstreams->servers[slot]) {
            close_idle(upstreams->servers[slot]);
            sp_tls_client_unref(upstreams->servers[slot]->tls);
            free(upstreams->servers[slot]);
        }
    sp_config_unref(upstreams->config);
    free(upstreams);
}

static struct sp_server *server_new(struct sp_upstreams *upstreams) {
    struct sp_server *server = calloc(1, sizeof *server);
    if (server) {
        server->upstreams = upstreams;
        sp_list_init(&server->idle);
    }
    return server;
}

/* The configuration is the operator's, so a hash without a secret names a server well enough. */
static uint64_t server_identity(const struct sp_server_config *config) {
    struct sp_hash_key key = {config->port, config->tls};
    return sp_hash_span(&key, sp_span_text(config->host));
}

bool sp_server_is(const struct sp_server *server, const struct sp_server_config *config) {
    return server->config == config || server->host == server_identity(config);
}

uint64_t sp_server_max_in_flight(const struct sp_server *server, const struct sp_server_config *config) {
    return server->config && sp_server_is(server, config) ? server->config->max_in_flight : config->max_in_flight;
}

unsigned sp_server_max_connections(const struct sp_server *server, const struct sp_pool_config *pool) {
    return server->pool ? server->pool->connections : pool->connections;
}

/* What was connected in another way may not stand in for what would be connected now. */
static void server_secure(struct sp_server *server, struct sp_tls_client *tls) {
    if (sp_tls_client_same(server->tls, tls))
        return;
    close_idle(server);
    sp_tls_client_unref(server->tls);
    server->tls = tls ? sp_tls_client_ref(tls) : NULL;
}

static void server_configure(struct sp_server *server, const struct sp_pool_config *pool, const struct sp_server_config *config) {
    if (!sp_server_is(server, config)) {
        /* The slot was given to another server: nothing known of the old one holds. */
        close_idle(server);
        server->turn = 0;
        server->n_addresses = 0;
        server->down = false;
        server->failures = 0;
        server->ejected_until_ms = 0;
    }
    server->config = config;
    server->pool = pool;
    server->host = server_identity(config);
    server->named = !sp_address_parse(sp_span_text(config->host), server->addresses[0]);
    if (!server->named)
        server->n_addresses = 1;
    if (!pool->health.path)
        server->down = false;
}

int sp_upstreams_configure(struct sp_upstreams *upstreams, struct sp_config *config, const struct sp_upstream_tls *tls) {
    for (size_t p = 0; p < config->n_pools; p++)
        for (size_t s = 0; s < config->pools[p].n_servers; s++) {
            struct sp_server **at = &upstreams->servers[config->pools[p].servers[s].slot];
            if (!*at && !(*at = server_new(upstreams)))
                return -ENOMEM; /* what was made is unnamed, and stays for the next time */
        }
    bool still_named[SP_SERVERS_MAX] = {false};
    for (size_t p = 0; p < config->n_pools; p++)
        for (size_t s = 0; s < config->pools[p].n_servers; s++) {
            const struct sp_server_config *server = &config->pools[p].servers[s];
            server_configure(upstreams->servers[server->slot], &config->pools[p], server);
            server_secure(upstreams->servers[server->slot], sp_upstream_tls_of(tls, server->slot));
            still_named[server->slot] = true;
        }
    for (unsigned slot = 0; slot < SP_SERVERS_MAX; slot++)
        if (upstreams->servers[slot] && !still_named[slot]) {
            upstreams->servers[slot]->config = NULL;
            upstreams->servers[slot]->pool = NULL;
            close_idle(upstreams->servers[slot]);
        }
    sp_config_unref(upstreams->config);
    upstreams->config = sp_config_ref(config);
    sp_queues_configured(upstreams);
    return 0;
}

static struct sp_server *server_at(const struct sp_upstreams *upstreams, unsigned slot) {
    return slot < SP_SERVERS_MAX ? upstreams->servers[slot] : NULL;
}

void sp_upstreams_addresses(struct sp_upstreams *upstreams, unsigned server_slot, const uint8_t (*addresses)[16], size_t n) {
    struct sp_server *server = server_at(upstreams, server_slot);
    if (!server || !server->named)
        return;
    server->n_addresses = (unsigned)sp_min(n, (size_t)SP_SERVER_ADDRESSES_MAX);
    if (server->n_addresses > 0)
        memcpy(server->addresses, addresses, server->n_addresses * sizeof *addresses);
    sp_queue_wake(upstreams);
}

void sp_upstreams_health(struct sp_upstreams *upstreams, unsigned server_slot, bool up) {
    struct sp_server *server = server_at(upstreams, server_slot);
    if (!server || !server->pool || !server->pool->health.path)
        return;
    server->down = !up;
    if (!up)
        close_idle(server);
    sp_queue_wake(upstreams);
}

bool sp_upstreams_server_up(const struct sp_upstreams *upstreams, unsigned server_slot) {
    const struct sp_server *server = server_at(upstreams, server_slot);
    return server && server->config && !server->down && server->n_addresses && server->ejected_until_ms <= sp_loop_now_ms(upstreams->loop);
}

uint64_t sp_upstreams_opened(const struct sp_upstreams *upstreams) { return upstreams->opened; }

/* ---- Connections ---- */

static void free_backend(struct sp_deferred *deferred) {
    struct sp_backend *backend = SP_CONTAINER(deferred, struct sp_backend, free);
    sp_buffer_free(&backend->in);
    sp_tls_client_unref(backend->tls);
    free(backend);
}

/* The request is counted already: see claim(). */
static void lend(struct sp_backend *backend, const struct sp_pool_config *pool, const struct sp_server_config *config) {
    backend->config = config;
    backend->pool_slot = pool->slot;
    backend->reported = false;
}

static void unlend(struct sp_backend *backend) {
    struct sp_upstreams *upstreams = backend->server->upstreams;
    if (backend->config) {
        sp_traffic_server_add(upstreams->traffic, backend->config->slot, -1);
        sp_queue_departed(upstreams, backend->pool_slot);
    }
    backend->config = NULL;
    sp_queue_wake(upstreams);
}

void sp_backend_close(struct sp_backend *backend, bool abort) {
    if (!backend)
        return;
    struct sp_upstreams *upstreams = backend->server->upstreams;
    unlend(backend);
    sp_timer_stop(&backend->connect_timer);
    sp_list_remove(&backend->node);
    sp_transport_close(sp_take(backend->transport), abort);
    backend->server->connections--;
    sp_defer(upstreams->loop, &backend->free);
}

/* An idle connection must stay silent: whatever happens on it, it is of no more use. */
static void idle_ready(void *owner, unsigned ready) {
    (void)ready;
    sp_backend_close(owner, false);
}

void sp_backend_keep(struct sp_backend *backend) {
    struct sp_server *server = backend->server;
    /* A server no longer named has no use for it, and one that was given the slot since, or is trusted for other reasons, must never get
     * it. */
    bool wanted = server->config && !server->down && sp_server_is(server, backend->config) && backend->tls == server->tls;
    bool usable =
        sp_buffer_len(&backend->in) == 0 && sp_transport_is_open(backend->transport) && !sp_transport_readable(backend->transport);
    if (!wanted || !usable) {
        sp_backend_close(backend, false);
        return;
    }
    unlend(backend);
    sp_buffer_free(&backend->in);
    backend->idle_since_ms = sp_loop_now_ms(server->upstreams->loop);
    backend->idle_since_turn = sp_loop_turns(server->upstreams->loop);
    sp_transport_own(backend->transport, idle_ready, backend);
    sp_list_prepend(&server->idle, &backend->node);
}

static void connecting_ready(void *owner, unsigned ready) {
    struct sp_backend *backend = owner;
    if (backend->timed_out)
        return; /* the borrower was told, and nothing more comes after that */
    sp_timer_stop(&backend->connect_timer);
    sp_transport_own(backend->transport, backend->ready, backend->owner);
    backend->ready(backend->owner, ready);
}

static void connect_timed_out(struct sp_timer *timer) {
    struct sp_backend *backend = SP_CONTAINER(timer, struct sp_backend, connect_timer);
    backend->timed_out = true;
    backend->ready(backend->owner, SP_READY_FAILED);
}

static struct sp_backend *open_backend(struct sp_server *server, const struct sp_pool_config *pool, const struct sp_server_config *config,
                                       sp_transport_ready *ready, void *owner, int *ret_error) {
    struct sp_upstreams *upstreams = server->upstreams;
    if (config->tls != (server->tls != NULL)) {
        *ret_error = -EPROTO; /* never plain where TLS is wanted */
        return NULL;
    }
    struct sp_backend *backend = calloc(1, sizeof *backend);
    if (!backend) {
        *ret_error = -ENOMEM;
        return NULL;
    }
    backend->server = server;
    backend->ready = ready;
    backend->owner = owner;
    backend->free.run = free_backend;
    backend->connect_timer.fire = connect_timed_out;
    sp_list_init(&backend->node);
    sp_list_init(&backend->free.node);
    sp_buffer_init(&backend->in, IN_MAX);
    struct sp_address address = {.port = config->port};
    memcpy(address.bytes, server->addresses[server->next_address++ % server->n_addresses], sizeof address.bytes);
    *ret_error = sp_transport_connect(upstreams->loop, &address, NULL, server->tls, connecting_ready, backend, &backend->transport);
    if (*ret_error) {
        free(backend);
        return NULL;
    }
    backend->tls = server->tls ? sp_tls_client_ref(server->tls) : NULL;
    upstreams->opened++;
    server->connections++;
    sp_timer_start(upstreams->loop, &backend->connect_timer, pool->connect_timeout_ms);
    lend(backend, pool, config);
    return backend;
}

static bool claim(const struct sp_upstreams *upstreams, const struct sp_server *server, const struct sp_server_config *config) {
    uint64_t max = sp_server_max_in_flight(server, config);
    sp_traffic_server_add(upstreams->traffic, config->slot, 1);
    if (!max || sp_traffic_server_in_flight(upstreams->traffic, config->slot) <= max)
        return true;
    sp_traffic_server_add(upstreams->traffic, config->slot, -1);
    return false;
}

/* The connection used last of those that have rested: epoll was asked since they came back, and had nothing to tell of them. */
static struct sp_backend *take_rested(struct sp_server *server) {
    uint64_t turn = sp_loop_turns(server->upstreams->loop);
    unsigned looked_at = 0;
    sp_list_each_safe(node, &server->idle) {
        struct sp_backend *backend = sp_list_entry(node, struct sp_backend, node);
        if (backend->idle_since_turn != turn && sp_transport_quiet(backend->transport))
            return backend;
        if (++looked_at == LOOKS_MAX)
            break;
    }
    return NULL;
}

/* A kept connection that is still as it was left: one that the server has closed, or on which it said something unasked, must not get the
 * next request, whose answer that would become. NULL: there is none. */
static struct sp_backend *take_idle(struct sp_server *server) {
    struct sp_backend *backend = take_rested(server);
    while (!backend && !sp_list_empty(&server->idle)) {
        backend = sp_list_entry(server->idle.next, struct sp_backend, node);
        if (!sp_transport_silent(backend->transport)) {
            sp_backend_close(backend, false);
            backend = NULL;
        }
    }
    if (backend)
        sp_list_remove(&backend->node);
    return backend;
}

/* Chooses a server and counts the request there. Other workers choose at the same instant: who finds itself one too many takes that back
 * and chooses anew, so that max_in_flight is never exceeded. */
static struct sp_server *choose(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, uint64_t tried, unsigned *ret_index,
                                int *ret_error) {
    for (int times = 0; times < CHOICES_MAX; times++) {
        struct sp_server *server = sp_balance_choose(upstreams, pool, tried, ret_index, ret_error);
        if (!server || claim(upstreams, server, &pool->servers[*ret_index]))
            return server;
    }
    *ret_error = -EBUSY;
    return NULL;
}

/* To a server that was chosen, where the request is counted already. */
static struct sp_backend *connect_to(struct sp_server *server, const struct sp_pool_config *pool, unsigned index, bool fresh_only,
                                     sp_transport_ready *ready, void *owner, int *ret_error) {
    struct sp_upstreams *upstreams = server->upstreams;
    struct sp_backend *backend = fresh_only ? NULL : take_idle(server);
    if (backend) {
        backend->reused = true;
        sp_transport_own(backend->transport, ready, owner);
        lend(backend, pool, &pool->servers[index]);
        return backend;
    }
    if (server->connections >= sp_server_max_connections(server, pool) && !sp_list_empty(&server->idle))
        sp_backend_close(sp_list_entry(server->idle.prev, struct sp_backend, node), false);
    backend = open_backend(server, pool, &pool->servers[index], ready, owner, ret_error);
    if (backend)
        return backend;
    sp_traffic_server_add(upstreams->traffic, pool->servers[index].slot, -1);
    if (++server->failures >= pool->outlier_failures && pool->outlier_failures)
        server->ejected_until_ms = sp_loop_now_ms(upstreams->loop) + pool->outlier_eject_ms;
    return NULL;
}

struct sp_backend *sp_upstream_take(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct sp_upstream_tried *tried,
                                    struct sp_queue_ticket *ticket, sp_transport_ready *ready, void *owner, int *ret_error) {
    if (!sp_queue_lets(upstreams, pool, ticket)) {
        *ret_error = -EBUSY;
        return NULL;
    }
    unsigned index = 0;
    struct sp_server *server = choose(upstreams, pool, tried->servers, &index, ret_error);
    if (!server) {
        if (ticket && *ret_error != -EBUSY)
            sp_queue_leave(ticket);
        return NULL;
    }
    sp_queue_served(pool, ticket);
    if (index < 64)
        tried->servers |= UINT64_C(1) << index;
    return connect_to(server, pool, index, tried->fresh_only, ready, owner, ret_error);
}

void sp_backend_report(struct sp_backend *backend, bool good) {
    struct sp_server *server = backend->server;
    const struct sp_pool_config *pool = server->pool;
    if (backend->reported || !pool || !sp_server_is(server, backend->config))
        return;
    backend->reported = true;
    server->failures = good ? 0 : server->failures + 1;
    if (good)
        server->ejected_until_ms = 0; /* it was not full while it was ejected: nobody waits for this */
    else if (pool->outlier_failures && server->failures >= pool->outlier_failures)
        server->ejected_until_ms = sp_loop_now_ms(server->upstreams->loop) + pool->outlier_eject_ms;
}

struct sp_transport *sp_backend_transport(const struct sp_backend *backend) {
    return backend->transport;
}

const struct sp_server_config *sp_backend_server(const struct sp_backend *backend) { return backend->config; }

bool sp_backend_reused(const struct sp_backend *backend) { return backend->reused; }

bool sp_backend_timed_out(const struct sp_backend *backend) { return backend->timed_out; }

bool sp_backend_may_tell(struct sp_backend *backend) {
    struct sp_server *server = backend->server;
    uint64_t now = sp_loop_now_ms(server->upstreams->loop);
    if (server->told_ms && now - server->told_ms < TELL_EVERY_MS)
        return false;
    server->told_ms = now;
    return true;
}

struct sp_buffer *sp_backend_in(struct sp_backend *backend) {
    return &backend->in;
}
