/* What follows from other members, once they are decoded. */
#include <errno.h>
#include <stdio.h>

#include "syntax.h"
#include "table.h"

int sp_finish_redis(struct sp_vault *vault, void *object) {
    struct sp_redis_config *redis = object;
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

int sp_finish_limit(struct sp_vault *vault, void *object) {
    struct sp_limit_config *limit = object;
    /* One second's worth: amount · 1 s / period, without overflow as amount ≤ 10¹². */
    if (limit->request_burst == 0)
        limit->request_burst = sp_max(limit->requests.amount * 1000000 / limit->requests.period_us, UINT64_C(1));
    return 0;
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

int sp_finish_route(struct sp_vault *vault, void *object) {
    struct sp_route_config *route = object;
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
