/* Any bytes as a document from the supervisor: refused, or a snapshot whose numbers and pointers can be used without a further look. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include <sallyport/config.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void require(bool holds) {
    if (!holds)
        abort();
}

static void touch(const char *text) { require(text && strlen(text) < SIZE_MAX); }

static void check_limits(const struct sp_config *config) {
    require(config->n_limits <= SP_LIMITS_MAX);
    for (size_t i = 0; i < config->n_limits; i++) {
        touch(config->limits[i].name);
        require(config->limits[i].slot < SP_LIMITS_MAX && config->limits[i].by != 0 && config->limits[i].request_burst > 0);
        require(config->limits[i].requests.amount > 0 && config->limits[i].requests.period_us > 0);
    }
    require(config->n_roles <= SP_ROLES_MAX);
    for (size_t i = 0; i < config->n_roles; i++)
        for (size_t j = 0; j < config->roles[i].n_limits; j++)
            require(config->roles[i].limits[j] < config->n_limits);
}

static void check_pools(const struct sp_config *config) {
    require(config->n_pools > 0 && config->n_pools <= SP_POOLS_MAX);
    for (size_t i = 0; i < config->n_pools; i++) {
        const struct sp_pool_config *pool = &config->pools[i];
        require(pool->slot < SP_POOLS_MAX && pool->n_servers > 0);
        for (size_t j = 0; j < pool->n_servers; j++) {
            require(pool->servers[j].slot < SP_SERVERS_MAX && pool->servers[j].weight > 0 && pool->servers[j].port > 0);
            touch(pool->servers[j].host);
            touch(pool->servers[j].authority);
            touch(pool->servers[j].base_path);
        }
    }
}

static void check_routes(const struct sp_config *config) {
    require(config->n_routes > 0 && config->n_routes <= SP_ROUTES_MAX);
    for (size_t i = 0; i < config->n_routes; i++) {
        const struct sp_route_config *route = &config->routes[i];
        touch(route->name);
        require(route->path[0] == '/' && route->slot < SP_ROUTES_MAX && route->authenticate != 0);
        require(route->pool >= config->pools && route->pool < config->pools + config->n_pools);
        require(route->n_limits <= SP_REQUEST_LIMITS_MAX);
        for (size_t j = 0; j < route->n_limits; j++)
            require(route->limits[j] < config->n_limits);
        for (size_t j = 0; j < route->request_headers.n_set; j++) {
            touch(route->request_headers.set[j].name);
            touch(route->request_headers.set[j].value);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_config *config = NULL;
    int failed = sp_config_decode(sp_span((const char *)bytes, len), &config);
    require(failed == 0 || (failed == -EINVAL && !config));
    if (failed)
        return 0;
    require(config->n_listeners > 0 && config->n_listeners <= SP_LISTENERS_MAX);
    for (size_t i = 0; i < config->n_listeners; i++)
        require(config->listeners[i].slot < SP_LISTENERS_MAX && config->listeners[i].n_certificates > 0);
    require(config->workers > 0 && config->workers <= SP_WORKERS_MAX);
    check_limits(config);
    check_pools(config);
    check_routes(config);
    for (size_t i = 0; i < config->n_api_keys; i++)
        require(config->api_keys[i].id[8] == '\0');
    sp_config_unref(config);
    return 0;
}
