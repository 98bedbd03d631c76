#include "redis_store.h"

#include <errno.h>

#include "redis_command.h"

#define KEPT 256 /* commands whose memory is kept for the next ones */

int sp_redis_store_new(struct sp_loop *loop, uint64_t identity, struct sp_redis_store **ret) {
    struct sp_redis_store *store = calloc(1, sizeof *store);
    if (!store)
        return -ENOMEM;
    store->loop = loop;
    store->source = (uint32_t)(identity ^ identity >> 32);
    store->due.fire = sp_redis_asks_due;
    store->tick.fire = sp_redis_settle_tick;
    sp_list_init(&store->waiting);
    sp_list_init(&store->late);
    sp_list_init(&store->paying);
    sp_pool_init(&store->pool, sizeof(struct sp_redis_pending), KEPT);
    sp_ledger_init(&store->ledger);
    int r = sp_redis_route_new(loop, &store->route);
    if (r < 0) {
        free(store);
        return r;
    }
    *ret = store;
    return 0;
}

void sp_redis_store_free(struct sp_redis_store *store) {
    if (!store)
        return;
    while (!sp_list_empty(&store->waiting))
        sp_redis_store_cancel(store, sp_list_entry(store->waiting.next, struct sp_redis_ask, node));
    sp_redis_route_free(store->route); /* what is under way comes home */
    sp_timer_stop(&store->due);
    sp_timer_stop(&store->tick);
    sp_ledger_free(&store->ledger);
    sp_pool_drain(&store->pool);
    free(store);
}

int sp_redis_store_configure(struct sp_redis_store *store, const struct sp_config *config, struct sp_tls_client *tls) {
    store->config = config;
    sp_redis_policies_prepare(store);
    int r = sp_redis_route_configure(store->route, config->redis, tls);
    if (!config->redis) /* nobody is left to settle with; what is under way has just come home */
        sp_ledger_lose(&store->ledger);
    return r;
}

struct sp_redis_route *sp_redis_store_route(struct sp_redis_store *store) { return store->route; }

void sp_redis_store_state(const struct sp_redis_store *store, struct sp_limiter_state *ret) {
    sp_redis_route_state(store->route, ret);
    ret->commands = store->commands;
    ret->settlements_dropped = store->ledger.lost;
}
