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
        const struct sp_limit_config *limit = &config->limits[i];
        require(limit->slot < SP_LIMITS_MAX && limit->by != 0);
        require(limit->requests.amount > 0 || limit->tokens.amount > 0 || limit->concurrency > 0);
        require((limit->requests.amount > 0) == (limit->request_burst > 0) && (limit->tokens.amount > 0) == (limit->token_burst > 0));
        require((limit->requests.amount > 0) <= (limit->requests.period_us > 0) &&
                (limit->tokens.amount > 0) <= (limit->tokens.period_us > 0));
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

static void check_models(const struct sp_config *config) {
    require(config->n_models <= SP_MODELS_MAX);
    for (size_t i = 0; i < config->n_models; i++) {
        const struct sp_model_config *model = &config->models[i];
        touch(model->as);
        require(sp_config_model(config, sp_span_text(model->name)) == model && model->slot < SP_MODELS_MAX);
        require(model->pool >= config->pools && model->pool < config->pools + config->n_pools && model->n_fallback <= SP_FALLBACKS_MAX);
        for (size_t j = 0; j < model->n_fallback; j++)
            require(model->fallback[j] < config->n_models && model->fallback[j] != i);
    }
}

static void check_nodes(const struct sp_redis_nodes *nodes) {
    require(nodes->count <= SP_REDIS_NODES_MAX);
    for (size_t i = 0; i < nodes->count; i++) {
        touch(nodes->item[i].host);
        require(nodes->item[i].port > 0);
    }
}

static void check_redis(const struct sp_redis_config *redis) {
    require((redis->url.text != NULL) + (redis->sentinel.master != NULL) + (redis->cluster.count > 0) == 1);
    require(!redis->sentinel.master || redis->sentinel.nodes.count > 0);
    require((redis->host || redis->unix_path) == (redis->url.text != NULL));
    check_nodes(&redis->sentinel.nodes);
    check_nodes(&redis->cluster);
}

static void check_routes(const struct sp_config *config) {
    require(config->n_routes > 0 && config->n_routes <= SP_ROUTES_MAX);
    for (size_t i = 0; i < config->n_routes; i++) {
        const struct sp_route_config *route = &config->routes[i];
        touch(route->name);
        require(route->path[0] == '/' && route->slot < SP_ROUTES_MAX && route->authenticate != 0);
        require(route->pool ? route->pool >= config->pools && route->pool < config->pools + config->n_pools : route->models_in_body);
        require(!route->models_in_body || config->n_models > 0);
        require(route->max_tokens_default > 0 && (!route->max_tokens_cap || route->max_tokens_default <= route->max_tokens_cap));
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
    check_models(config);
    check_routes(config);
    if (config->redis)
        check_redis(config->redis);
    for (size_t i = 0; i < config->n_api_keys; i++)
        require(config->api_keys[i].id[8] == '\0');
    sp_config_unref(config);
    return 0;
}
