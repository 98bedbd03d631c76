#include "private.h"

#include <errno.h>

enum fitness { UNFIT, FULL, NO_CONNECTION /* of this worker */, LAST_RESORT, FIT };

/* Pool and server are those of the asking request's snapshot, which may be older than what the server's state was last told. */
static enum fitness fitness(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool, unsigned index) {
    const struct sp_server_config *config = &pool->servers[index];
    const struct sp_server *server = upstreams->servers[config->slot];
    if (!server || server->down || server->n_addresses == 0 || !sp_server_is(server, config))
        return UNFIT;
    uint64_t in_flight = sp_traffic_server_in_flight(upstreams->traffic, config->slot);
    uint64_t max_in_flight = sp_server_max_in_flight(server, config);
    if (max_in_flight && in_flight >= max_in_flight)
        return FULL;
    if (server->connections >= sp_server_max_connections(server, pool) && sp_list_empty(&server->idle))
        return NO_CONNECTION;
    /* An ejected server is asked only when nobody else can be: what traffic saw must not close a whole pool. */
    return server->ejected_until_ms > sp_loop_now_ms(upstreams->loop) ? LAST_RESORT : FIT;
}

/* The fittest of a pool, by their place in it. */
struct candidates {
    const struct sp_pool_config *pool;
    uint16_t index[SP_SERVERS_MAX];
    unsigned n;
    enum fitness best;
};

static const struct sp_server_config *config_of(const struct candidates *from, unsigned i) { return &from->pool->servers[from->index[i]]; }

static void collect(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool, uint64_t tried, struct candidates *found) {
    found->pool = pool;
    found->n = 0;
    found->best = UNFIT;
    for (unsigned i = 0; i < pool->n_servers; i++) {
        if (i < 64 && tried >> i & 1)
            continue;
        enum fitness fit = fitness(upstreams, pool, i);
        if (fit > found->best) {
            found->best = fit;
            found->n = 0;
        }
        if (fit == found->best && found->n < SP_COUNT(found->index))
            found->index[found->n++] = (uint16_t)i;
    }
}

/* In flight per weight, compared without division. */
static bool less_loaded(const struct sp_upstreams *upstreams, const struct sp_server_config *a, const struct sp_server_config *b) {
    uint64_t load_a = sp_traffic_server_in_flight(upstreams->traffic, a->slot);
    uint64_t load_b = sp_traffic_server_in_flight(upstreams->traffic, b->slot);
    return (load_a + 1) * b->weight < (load_b + 1) * a->weight;
}

/* The power of two choices (Mitzenmacher 2001): two at random, the less loaded of them. */
static unsigned two_choices(const struct sp_upstreams *upstreams, const struct candidates *from) {
    uint64_t random = sp_random_u64_fast();
    unsigned a = (unsigned)((random & 0xffffffff) % from->n), b = (unsigned)((random >> 32) % (from->n - 1));
    b += b >= a;
    return less_loaded(upstreams, config_of(from, b), config_of(from, a)) ? b : a;
}

/* Smooth weighted round robin: each gains its weight, the furthest ahead is chosen and pays the sum. */
static unsigned in_turn(const struct sp_upstreams *upstreams, const struct candidates *from) {
    int64_t sum = 0;
    unsigned chosen = 0;
    struct sp_server *ahead = upstreams->servers[config_of(from, 0)->slot]; /* there is one at least */
    for (unsigned i = 0; i < from->n; i++) {
        const struct sp_server_config *config = config_of(from, i);
        struct sp_server *server = upstreams->servers[config->slot];
        server->turn += config->weight;
        sum += config->weight;
        if (server->turn > ahead->turn) {
            ahead = server;
            chosen = i;
        }
    }
    ahead->turn -= sum;
    return chosen;
}

struct sp_server *sp_balance_choose(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, uint64_t tried, unsigned *ret_index,
                                    int *ret_error) {
    struct candidates found SP_UNINITIALIZED;
    collect(upstreams, pool, tried, &found);
    if (found.best < LAST_RESORT && tried) {
        /* Everything else is out: a server already tried is better than none. */
        collect(upstreams, pool, 0, &found);
    }
    if (found.best < LAST_RESORT) {
        *ret_error = found.best == UNFIT ? -EHOSTDOWN : -EBUSY;
        return NULL;
    }
    unsigned chosen = 0;
    if (found.n > 1)
        chosen = pool->balance == SP_BALANCE_ROUND_ROBIN ? in_turn(upstreams, &found) : two_choices(upstreams, &found);
    *ret_index = found.index[chosen];
    return upstreams->servers[pool->servers[*ret_index].slot];
}

int sp_balance_room(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool) {
    struct candidates found SP_UNINITIALIZED;
    collect(upstreams, pool, 0, &found);
    switch (found.best) {
    case UNFIT:
        return -EHOSTDOWN;
    case FULL:
        return -EBUSY;
    case NO_CONNECTION:
        return -ENOBUFS;
    default:
        return 0;
    }
}
