#include "private.h"

#include <errno.h>

enum fitness { UNFIT, FULL, LAST_RESORT, FIT };

/* Pool and server are those of the asking request's snapshot, which may be older than what the server's state was last told. */
static enum fitness fitness(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool, unsigned index) {
    const struct sp_server_config *config = &pool->servers[index];
    const struct sp_server *server = upstreams->servers[config->slot];
    if (!server || server->down || server->n_addresses == 0 || !sp_server_is(server, config))
        return UNFIT;
    uint64_t in_flight = sp_traffic_server_in_flight(upstreams->traffic, config->slot);
    if (config->max_in_flight && in_flight >= config->max_in_flight)
        return FULL;
    if (server->connections >= pool->connections && sp_list_empty(&server->idle))
        return FULL;
    /* An ejected server is asked only when nobody else can be: what traffic saw must not close a whole pool. */
    return server->ejected_until_ms > sp_loop_now_ms(upstreams->loop) ? LAST_RESORT : FIT;
}

struct candidates {
    struct sp_server *server[64];
    const struct sp_server_config *config[64];
    unsigned index[64];
    unsigned n;
    enum fitness best;
};

static void collect(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool, uint64_t tried, struct candidates *found) {
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
        if (fit == found->best && found->n < SP_COUNT(found->server)) {
            found->index[found->n] = i;
            found->config[found->n] = &pool->servers[i];
            found->server[found->n++] = upstreams->servers[pool->servers[i].slot];
        }
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
    return less_loaded(upstreams, from->config[b], from->config[a]) ? b : a;
}

/* Smooth weighted round robin: each gains its weight, the furthest ahead is chosen and pays the sum. */
static unsigned in_turn(const struct candidates *from) {
    int64_t sum = 0;
    unsigned chosen = 0;
    for (unsigned i = 0; i < from->n; i++) {
        from->server[i]->turn += from->config[i]->weight;
        sum += from->config[i]->weight;
        if (from->server[i]->turn > from->server[chosen]->turn)
            chosen = i;
    }
    from->server[chosen]->turn -= sum;
    return chosen;
}

struct sp_server *sp_balance_choose(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, uint64_t tried, unsigned *ret_index,
                                    int *ret_error) {
    struct candidates found;
    collect(upstreams, pool, tried, &found);
    if (found.best < LAST_RESORT && tried) {
        /* Everything else is out: a server already tried is better than none. */
        collect(upstreams, pool, 0, &found);
    }
    if (found.best < LAST_RESORT) {
        *ret_error = found.best == FULL ? -EBUSY : -EHOSTDOWN;
        return NULL;
    }
    unsigned chosen = 0;
    if (found.n > 1)
        chosen = pool->balance == SP_BALANCE_ROUND_ROBIN ? in_turn(&found) : two_choices(upstreams, &found);
    *ret_index = found.index[chosen];
    return found.server[chosen];
}
