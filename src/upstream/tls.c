/* TLS towards the servers of a configuration: one set of authorities and one certificate of ours for each pool, one name and session for
 * each server. */
#include <errno.h>

#include "private.h"

struct sp_upstream_tls {
    struct sp_tls_client *servers[SP_SERVERS_MAX]; /* by slot; NULL: plain, or no such server */
};

/* The first server of a pool loads the files; the others share what was loaded. */
static int add_server(struct sp_upstream_tls *tls, const struct sp_pool_config *pool, const struct sp_server_config *server,
                      const struct sp_tls_signer *signer, const struct sp_tls_client **loaded, char **ret_error) {
    const char *name = pool->tls.server_name ? pool->tls.server_name : server->host;
    struct sp_tls_client **at = &tls->servers[server->slot];
    int r = *loaded ? sp_tls_client_for(*loaded, name, at) : sp_tls_client_new(&pool->tls, name, "http/1.1", signer, ret_error, at);
    if (r == 0)
        *loaded = *at;
    return r;
}

int sp_upstream_tls_new(const struct sp_config *config, const struct sp_tls_signer *signer, char **ret_error,
                        struct sp_upstream_tls **ret) {
    struct sp_upstream_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return -ENOMEM;
    int r = 0;
    for (size_t p = 0; p < config->n_pools && r == 0; p++) {
        const struct sp_pool_config *pool = &config->pools[p];
        const struct sp_tls_client *loaded = NULL;
        for (size_t s = 0; s < pool->n_servers && r == 0; s++)
            if (pool->servers[s].tls)
                r = add_server(tls, pool, &pool->servers[s], signer, &loaded, ret_error);
    }
    if (r < 0) {
        sp_upstream_tls_free(tls);
        return r;
    }
    *ret = tls;
    return 0;
}

void sp_upstream_tls_free(struct sp_upstream_tls *tls) {
    if (!tls)
        return;
    for (unsigned slot = 0; slot < SP_SERVERS_MAX; slot++)
        sp_tls_client_unref(tls->servers[slot]);
    free(tls);
}

struct sp_tls_client *sp_upstream_tls_of(const struct sp_upstream_tls *tls, unsigned server_slot) {
    return tls ? tls->servers[server_slot] : NULL;
}
