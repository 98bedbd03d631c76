/* One generation of the configuration and what was made of it. */
#include "private.h"

#include <errno.h>

static int redis_tls(const struct sp_redis_config *redis, const struct sp_tls_signer *signer, char **ret_error,
                     struct sp_tls_client **ret) {
    const char *name = redis->tls_client.server_name ? redis->tls_client.server_name : redis->host;
    if (!name)
        name = ""; /* sentinels and clusters: each address has its own */
    return sp_tls_client_new(&redis->tls_client, name, NULL, signer, ret_error, ret);
}

int sp_snapshot_new(struct sp_config *config, const struct sp_tls_signer *signer, struct sp_tls_tickets *tickets, char **ret_error,
                    struct sp_snapshot **ret) {
    struct sp_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        return -ENOMEM;
    snapshot->refs = 1;
    snapshot->config = sp_config_ref(config);
    int error = sp_identity_new(config, ret_error, &snapshot->identity);
    for (size_t i = 0; i < config->n_limits; i++)
        if (config->limits[i].count == SP_COUNT_UNAUTHORIZED)
            snapshot->login_limits |= UINT64_C(1) << i;
    for (size_t i = 0; i < config->n_listeners && !error; i++) {
        const struct sp_listener_config *listener = &config->listeners[i];
        snapshot->listener[listener->slot] = listener;
        error = sp_tls_server_new(listener, signer, tickets, ret_error, &snapshot->tls[listener->slot]);
    }
    if (!error)
        error = sp_upstream_tls_new(config, signer, ret_error, &snapshot->upstream_tls);
    if (!error && config->redis && config->redis->tls)
        error = redis_tls(config->redis, signer, ret_error, &snapshot->redis_tls);
    if (error) {
        sp_snapshot_unref(snapshot);
        return error;
    }
    *ret = snapshot;
    return 0;
}

struct sp_snapshot *sp_snapshot_ref(struct sp_snapshot *snapshot) {
    snapshot->refs++;
    return snapshot;
}

void sp_snapshot_unref(struct sp_snapshot *snapshot) {
    if (!snapshot || --snapshot->refs)
        return;
    for (unsigned i = 0; i < SP_LISTENERS_MAX; i++)
        sp_tls_server_unref(snapshot->tls[i]);
    sp_upstream_tls_free(snapshot->upstream_tls);
    sp_tls_client_unref(snapshot->redis_tls);
    sp_identity_unref(snapshot->identity);
    sp_config_unref(snapshot->config);
    free(snapshot);
}
