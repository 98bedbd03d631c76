/* What follows from other members, once they are decoded. */
#include <errno.h>
#include <stdio.h>

#include "syntax.h"
#include "table.h"

/* Servers that are found through others: these have no scheme to say that TLS is spoken. */
static int finish_found_redis(struct sp_redis_config *redis) {
    const struct sp_tls_client_config *tls = &redis->tls_client;
    redis->tls = tls->ca.text || tls->server_name || tls->own.chain.text;
    return (redis->sentinel.master != NULL) != (redis->cluster.count > 0) ? 0 : -EINVAL;
}

int sp_finish_redis(struct sp_vault *vault, void *object) {
    struct sp_redis_config *redis = object;
    if (!redis->url.text)
        return finish_found_redis(redis);
    if (redis->sentinel.master || redis->cluster.count > 0)
        return -EINVAL;
    struct sp_span text = sp_span_text(redis->url.text);
    struct sp_url url;
    if (sp_check_redis_url(text))
        return -EINVAL;
    if (sp_span_starts(text, SP_SPAN("unix://"))) {
        redis->unix_path = redis->url.text + sizeof "unix://" - 1;
        return 0;
    }
    if (sp_url_parse(text, &url))
        return -EINVAL;
    uint64_t database = 0;
    if (url.path.len > 1 && !sp_span_u64(sp_span_from(url.path, 1), &database))
        return -EINVAL;
    redis->tls = sp_span_eq(url.scheme, SP_SPAN("rediss"));
    redis->host = sp_vault_text(vault, url.host);
    redis->port = url.port;
    redis->database = (unsigned)database;
    return redis->host ? 0 : -ENOMEM;
}

/* What a rate brings in some seconds, at least 1 and at most what could be written: without overflow, as amounts are ≤ 10¹². */
static uint64_t worth_of(const struct sp_rate *rate, uint64_t seconds) {
    uint64_t worth = rate->amount * seconds / (rate->period_us / 1000000);
    return sp_min(sp_max(worth, UINT64_C(1)), SP_AMOUNT_MAX);
}

int sp_finish_limit(struct sp_vault *vault, void *object) {
    struct sp_limit_config *limit = object;
    bool counts_requests = limit->requests.amount > 0, counts_tokens = limit->tokens.amount > 0;
    if ((!counts_requests && limit->request_burst > 0) || (!counts_tokens && limit->token_burst > 0))
        return -EINVAL;
    if (counts_requests && limit->request_burst == 0)
        limit->request_burst = worth_of(&limit->requests, 1);
    if (counts_tokens && limit->token_burst == 0)
        limit->token_burst = worth_of(&limit->tokens, 60);
    return counts_requests || counts_tokens || limit->concurrency > 0 ? 0 : -EINVAL;
}

int sp_finish_server(struct sp_vault *vault, void *object) {
    struct sp_server_config *server = object;
    struct sp_url url;
    if (sp_url_parse(sp_span_text(server->url.text), &url))
        return -EINVAL;
    server->tls = sp_span_eq(url.scheme, SP_SPAN("https"));
    uint16_t standard = server->tls ? 443 : 80;
    server->port = url.port ? url.port : standard;
    server->host = sp_vault_text(vault, url.host);
    char port[sizeof ":65535"] = "";
    if (server->port != standard)
        snprintf(port, sizeof port, ":%u", server->port);
    size_t size = url.host.len + sizeof port + 2;
    char *authority = sp_vault_alloc(vault, size);
    while (url.path.len > 0 && url.path.at[url.path.len - 1] == '/')
        url.path.len--;
    server->base_path = sp_vault_text(vault, url.path);
    if (!server->host || !authority || !server->base_path)
        return -ENOMEM;
    snprintf(authority, size, "%s" SP_SPAN_FMT "%s%s", url.bracketed ? "[" : "", SP_SPAN_ARG(url.host), url.bracketed ? "]" : "", port);
    server->authority = authority;
    return 0;
}

int sp_finish_model(struct sp_vault *vault, void *object) {
    struct sp_model_config *model = object;
    if (!model->as)
        model->as = model->name;
    return 0;
}

int sp_finish_route(struct sp_vault *vault, void *object) {
    struct sp_route_config *route = object;
    if (!route->pool && !route->models_in_body)
        return -EINVAL;
    if (route->max_tokens_cap > 0 && route->max_tokens_default > route->max_tokens_cap)
        return -EINVAL;
    route->exact = route->path[0] == '=';
    route->path += route->exact;
    return 0;
}

/* HS256 alone needs no keys; keys without a file are fetched. */
int sp_finish_issuer(struct sp_vault *vault, void *object) {
    struct sp_issuer_config *issuer = object;
    bool with_keys = (issuer->algorithms & ~(1u << SP_ALG_HS256)) != 0;
    issuer->fetches_keys = with_keys && (!issuer->jwks.text || sp_is_http_url(sp_span_text(issuer->jwks.text)));
    return 0;
}

int sp_finish_key(struct sp_vault *vault, void *object) {
    struct sp_api_key_config *key = object;
    key->revoked = key->revoked_at_s != 0;
    return 0;
}

/* Models are looked up by halves. */
int sp_finish_config(struct sp_vault *vault, void *object) {
    const struct sp_config *config = object;
    for (size_t i = 0; i < config->n_models; i++) {
        const struct sp_model_config *model = &config->models[i];
        if (i > 0 && strcmp(config->models[i - 1].name, model->name) >= 0)
            return -EINVAL;
        for (size_t j = 0; j < model->n_fallback; j++)
            if (model->fallback[j] == i)
                return -EINVAL;
    }
    for (size_t i = 0; i < config->n_routes; i++)
        if (config->routes[i].models_in_body && config->n_models == 0)
            return -EINVAL;
    return 0;
}
