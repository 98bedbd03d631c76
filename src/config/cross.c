/* What no row of the table can say alone: how keys fit each other. */
#include <stdio.h>
#include <unistd.h>

#include "check.h"
#include "syntax.h"
#include "value.h"

static struct sp_place at(const struct sp_check *check, const json_t *object, const char *key) {
    return sp_source_value(check->source, object, key);
}

static const char *text_of(const json_t *object, const char *key) { return json_string_value(json_object_get(object, key)); }

static bool gives(const struct sp_check *check, const json_t *object, const char *key) {
    return sp_source_gives(check->source, object, key);
}

static bool lists(const json_t *list, const char *word) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *item = json_string_value(json_array_get(list, i));
        if (item && strcmp(item, word) == 0)
            return true;
    }
    return false;
}

/* Items of a list whose member `key` must differ. */
static void check_unique(struct sp_check *check, const json_t *list, const char *key, const char *what) {
    for (size_t i = 1; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *text = text_of(item, key);
        for (size_t j = 0; text && j < i; j++) {
            const char *earlier = text_of(json_array_get(list, j), key);
            if (!earlier || strcmp(earlier, text) != 0)
                continue;
            sp_check_error(check, at(check, item, key), "`%s`: %s '%s' is given twice, first in line %u; keep one", key, what, text,
                           at(check, json_array_get(list, j), key).line);
            break;
        }
    }
}

/* ---- Sections ---- */

/* A secret comes from a file or from systemd. */
static void check_one_of(struct sp_check *check, const json_t *object, const char *file) {
    if (gives(check, object, file) && gives(check, object, "credential"))
        sp_check_error(check, at(check, object, "credential"), "`credential` stands instead of `%s`; keep one of them", file);
}

static void check_certificate(struct sp_check *check, const json_t *certificate) {
    check_one_of(check, certificate, "key");
    if (json_object_size(certificate) == 0 && !gives(check, certificate, "chain"))
        return; /* nothing at all has been said about already */
    if (!gives(check, certificate, "key") && !gives(check, certificate, "credential"))
        sp_check_error(
            check, sp_source_container(check->source, certificate),
            "`key` is missing in this certificate: PEM file: its private key, readable by its owner only; or name a `credential`");
}

static void check_certificates(struct sp_check *check, const json_t *root) {
    const json_t *listeners = json_object_get(root, "listeners");
    for (size_t i = 0; i < json_array_size(listeners); i++) {
        const json_t *certificates = json_object_get(json_array_get(listeners, i), "certificates");
        for (size_t j = 0; j < json_array_size(certificates); j++)
            check_certificate(check, json_array_get(certificates, j));
    }
}

static void check_listener(struct sp_check *check, const json_t *listener) {
    const char *asks = text_of(listener, "client_certificate");
    if (asks && strcmp(asks, "none") != 0 && !gives(check, listener, "client_ca"))
        sp_check_error(check, at(check, listener, "client_certificate"),
                       "`client_certificate: %s` needs `client_ca`, the file that says who "
                       "signs them",
                       asks);
    if (json_object_get(listener, "client_crl") && !gives(check, listener, "client_ca"))
        sp_check_error(check, at(check, listener, "client_crl"), "`client_crl` needs `client_ca`, whose revocations it lists");
    bool proxied = json_is_true(json_object_get(listener, "proxy_protocol"));
    bool trusting = json_array_size(json_object_get(listener, "trusted_proxies")) > 0;
    if (proxied && !trusting && !gives(check, listener, "trusted_proxies"))
        sp_check_error(check, at(check, listener, "proxy_protocol"), "`proxy_protocol` needs `trusted_proxies`, whose word is believed");
    if (proxied && !trusting && gives(check, listener, "trusted_proxies"))
        sp_check_error(check, at(check, listener, "trusted_proxies"),
                       "`trusted_proxies` is empty, so nobody could connect; name the proxies");
    if (!proxied && trusting)
        sp_check_error(check, at(check, listener, "trusted_proxies"),
                       "`trusted_proxies` is for `proxy_protocol: true`; set that or remove it");
}

/* The authorities this machine knows, where its administrators keep them: the workers cannot read files. */
static const char *system_authorities(void) {
    static const char *const bundles[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                          "/etc/ssl/ca-bundle.pem"};
    for (size_t i = 0; i < SP_COUNT(bundles); i++)
        if (access(bundles[i], R_OK) == 0)
            return bundles[i];
    return bundles[0]; /* said to be unreadable, which is what is to be mended */
}

/* Where no `ca` is given: as if the system's had been, at the place of what needs it. */
static void trust_system(struct sp_check *check, const struct sp_record *record, json_t *object, struct sp_place place) {
    sp_check_note_place(check, "ca", object, place);
    sp_check_file(check, sp_record_field(record, "ca"), object, system_authorities(), place);
}

static void check_own_certificate(struct sp_check *check, const json_t *object) {
    if (json_object_get(object, "certificate") && !gives(check, object, "key"))
        sp_check_error(check, at(check, object, "certificate"), "`certificate` needs `key`, its private key");
    if (json_object_get(object, "key") && !gives(check, object, "certificate"))
        sp_check_error(check, at(check, object, "key"), "`key` needs `certificate`, the certificate it belongs to");
}

static void check_redis_tls(struct sp_check *check, json_t *redis) {
    static const char *const keys[] = {"ca", "server_name", "certificate", "key"};
    const char *url = text_of(redis, "url");
    bool found = gives(check, redis, "sentinel") || gives(check, redis, "cluster"); /* has no scheme: giving one of the keys asks for TLS */
    bool secured = url && strncmp(url, "rediss://", 9) == 0;
    check_own_certificate(check, redis);
    for (size_t i = 0; i < SP_COUNT(keys); i++) {
        if (json_object_get(redis, keys[i]) && url && !secured && !found)
            sp_check_error(check, at(check, redis, keys[i]), "`%s` is for rediss:// URLs; use one, or remove it", keys[i]);
        secured |= found && json_object_get(redis, keys[i]);
    }
    const char *where = url ? "url" : json_object_get(redis, "sentinel") ? "sentinel" : "cluster";
    if (secured && !gives(check, redis, "ca"))
        trust_system(check, sp_record_field(&sp_config_record, "redis")->record, redis, at(check, redis, where));
}

/* Where it is, in one of three ways. */
static void check_redis_place(struct sp_check *check, const json_t *redis) {
    static const char *const ways[] = {"url", "sentinel", "cluster"};
    const char *first = NULL;
    for (size_t i = 0; i < SP_COUNT(ways); i++) {
        if (!gives(check, redis, ways[i]))
            continue;
        if (first)
            sp_check_error(check, sp_source_key(check->source, redis, ways[i]),
                           "`%s` stands instead of `%s`: one of `url`, `sentinel` and `cluster` says where Redis is; keep one of them",
                           ways[i], first);
        else
            first = ways[i];
    }
    if (!first)
        sp_check_error(check, sp_source_container(check->source, redis),
                       "nothing says where Redis is; give one of `url`, `sentinel` and `cluster`");
}

static void check_redis(struct sp_check *check, const json_t *root) {
    json_t *redis = json_object_get(root, "redis");
    if (redis) {
        check_redis_place(check, redis);
        check_redis_tls(check, redis);
    }
    check_one_of(check, redis, "password_file");
    if (json_object_get(redis, "username") && !gives(check, redis, "password_file") && !gives(check, redis, "credential"))
        sp_check_error(check, at(check, redis, "username"), "`username` needs `password_file` or `credential`");
}

static void check_issuer(struct sp_check *check, const json_t *issuer) {
    const json_t *algorithms = json_object_get(issuer, "algorithms");
    if (!json_is_array(algorithms))
        return;
    bool shared = lists(algorithms, "HS256"), with_keys = json_array_size(algorithms) > shared;
    if (shared && !gives(check, issuer, "secret_file"))
        sp_check_error(check, at(check, issuer, "algorithms"), "HS256 needs `secret_file`; add it or take HS256 out");
    if (!shared && json_object_get(issuer, "secret_file"))
        sp_check_error(check, at(check, issuer, "secret_file"), "`secret_file` is for HS256 only; add HS256 to `algorithms` or remove it");
    const char *name = text_of(issuer, "issuer"), *jwks = text_of(issuer, "jwks");
    const char *problem = with_keys && name && !gives(check, issuer, "jwks") ? sp_check_fetched_url(sp_span_text(name)) : NULL;
    if (problem || (name && with_keys && !gives(check, issuer, "jwks") && strchr(name, '?')))
        sp_check_error(
            check, at(check, issuer, "issuer"),
            "`issuer`: without `jwks` the keys are found by discovery, which needs an https:// URL without a query; say where they are "
            "with `jwks`");
    bool fetches = gives(check, issuer, "introspection") || (with_keys && (!jwks || sp_is_http_url(sp_span_text(jwks))));
    if (!fetches && json_object_get(issuer, "ca"))
        sp_check_error(check, at(check, issuer, "ca"), "`ca` is not used: nothing is fetched from this issuer; remove it");
    if (!with_keys && json_object_get(issuer, "jwks"))
        sp_check_error(check, at(check, issuer, "jwks"), "`jwks` is not used with HS256 alone; remove it or add an algorithm");
}

static bool counts_logins(const json_t *limit) {
    const char *count = text_of(limit, "count");
    return count && strcmp(count, "unauthorized") == 0;
}

/* Who calls is what a refused login leaves open. */
static void check_login_limit(struct sp_check *check, const json_t *limit) {
    static const char *const known[] = {"address", "route", "global"};
    const json_t *by = json_object_get(limit, "by");
    size_t told = 0;
    for (size_t i = 0; i < SP_COUNT(known); i++)
        told += lists(by, known[i]);
    if (counts_logins(limit) && told < json_array_size(by))
        sp_check_error(check, at(check, limit, "by"), "`by`: of a caller whose login failed only address, route and global are known");
}

/* They hold everywhere: a list would say that they hold only there. */
static void check_no_login_limits(struct sp_check *check, const json_t *root, const json_t *names) {
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name && counts_logins(json_object_get(json_object_get(root, "limits"), name)))
            sp_check_error(check, sp_source_item(check->source, names, i),
                           "`limits`: '%s' counts refused logins on every route and needs no list; take it out of this one", name);
    }
}

static void check_login_limits(struct sp_check *check, const json_t *root) {
    size_t count = 0;
    const char *name;
    json_t *item;
    json_object_foreach(json_object_get(root, "limits"), name, item) count += counts_logins(item);
    if (count > SP_REQUEST_LIMITS_MAX)
        sp_check_error(check, at(check, root, "limits"), "`limits`: %zu of them say `count: unauthorized`; at most %d are possible", count,
                       SP_REQUEST_LIMITS_MAX);
    json_object_foreach(json_object_get(root, "roles"), name, item) check_no_login_limits(check, root, json_object_get(item, "limits"));
    const json_t *routes = json_object_get(root, "routes");
    for (size_t i = 0; i < json_array_size(routes); i++)
        check_no_login_limits(check, root, json_object_get(json_array_get(routes, i), "limits"));
}

/* What is counted: something, and only what the limit is for. */
static void check_limit_amounts(struct sp_check *check, const json_t *limit) {
    static const char *const bursts[][2] = {{"request_burst", "requests"}, {"token_burst", "tokens"}};
    static const char *const spent[] = {"tokens", "concurrency"};
    if (json_is_object(limit) && !gives(check, limit, "requests") && !gives(check, limit, "tokens") && !gives(check, limit, "concurrency"))
        sp_check_error(check, sp_source_container(check->source, limit),
                       "this limit bounds nothing; give at least one of `requests`, `tokens` and `concurrency`");
    for (size_t i = 0; i < SP_COUNT(bursts); i++)
        if (json_object_get(limit, bursts[i][0]) && !gives(check, limit, bursts[i][1]))
            sp_check_error(check, at(check, limit, bursts[i][0]), "`%s` needs `%s`, whose burst it is", bursts[i][0], bursts[i][1]);
    for (size_t i = 0; i < SP_COUNT(spent); i++)
        if (counts_logins(limit) && json_object_get(limit, spent[i]))
            sp_check_error(check, at(check, limit, spent[i]),
                           "`%s`: a refused login takes no tokens and no time; `count: unauthorized` goes with `requests` only", spent[i]);
}

static void check_limit(struct sp_check *check, const json_t *limit) {
    const json_t *by = json_object_get(limit, "by");
    check_limit_amounts(check, limit);
    check_login_limit(check, limit);
    if (lists(by, "global") && json_array_size(by) > 1)
        sp_check_error(check, at(check, limit, "by"), "`by`: global stands alone; one bucket for all cannot also be one for each");
}

static void check_pool_tls(struct sp_check *check, json_t *pool) {
    json_t *servers = json_object_get(pool, "servers"), *tls = json_object_get(pool, "tls"), *secured = NULL;
    for (size_t i = json_array_size(servers); i-- > 0;) {
        const char *url = text_of(json_array_get(servers, i), "url");
        if (url && strncmp(url, "https://", 8) == 0)
            secured = json_array_get(servers, i);
    }
    check_own_certificate(check, tls);
    if (tls && !secured)
        sp_check_error(check, at(check, pool, "tls"), "`tls` is for https:// servers, and this pool has none; remove it");
    if (!secured || gives(check, tls, "ca"))
        return;
    if (!tls)
        check->out_of_memory |= json_object_set_new(pool, "tls", tls = json_object()) < 0;
    const struct sp_record *record = sp_record_field(sp_record_field(&sp_config_record, "pools")->record, "tls")->record;
    trust_system(check, record, tls, at(check, secured, "url"));
}

static size_t check_pool(struct sp_check *check, json_t *pool) {
    const json_t *servers = json_object_get(pool, "servers");
    check_unique(check, servers, "url", "server");
    check_pool_tls(check, pool);
    return json_array_size(servers);
}

static void check_admin(struct sp_check *check, const json_t *root) {
    const json_t *admin = json_object_get(root, "admin");
    if (json_object_size(json_object_get(admin, "groups")) > 0 && !gives(check, admin, "socket"))
        sp_check_error(check, at(check, admin, "groups"), "`groups` needs `socket`, which is what their members may use");
    const char *path = text_of(admin, "socket");
    if (path && strlen(path) > SP_SOCKET_PATH_MAX)
        sp_check_error(check, at(check, admin, "socket"),
                       "`socket`: %s is longer than the %d bytes a Unix socket's path may have; shorten it", path, SP_SOCKET_PATH_MAX);
}

/* ---- Models ---- */

static bool looks_for_model(const json_t *route) {
    const char *source = text_of(route, "models");
    return source && strcmp(source, "body") == 0;
}

static void check_fallbacks(struct sp_check *check, const char *name, const json_t *model) {
    const json_t *names = json_object_get(model, "fallback");
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *other = json_string_value(json_array_get(names, i));
        if (other && strcmp(other, name) == 0)
            sp_check_error(check, sp_source_item(check->source, names, i), "`fallback`: '%s' cannot stand in for itself; take it out",
                           name);
    }
}

/* What roles say of models holds where a route looks for one. */
static void check_permissions(struct sp_check *check, const json_t *root) {
    const json_t *routes = json_object_get(root, "routes"), *models;
    for (size_t i = 0; i < json_array_size(routes); i++)
        if (looks_for_model(json_array_get(routes, i)))
            return;
    const char *name;
    json_t *role;
    json_object_foreach(json_object_get(root, "roles"), name, role) {
        models = json_object_get(role, "models");
        if (models && !lists(models, "*"))
            sp_check_error(check, at(check, role, "models"),
                           "`models` binds on routes with `models: body` alone, and there is none; add one, or remove it");
    }
}

static void check_models(struct sp_check *check, const json_t *root) {
    const char *name;
    json_t *model;
    json_object_foreach(json_object_get(root, "models"), name, model) check_fallbacks(check, name, model);
    check_permissions(check, root);
}

/* ---- Routes ---- */

/* Who answers. */
static void check_destination(struct sp_check *check, const json_t *root, const json_t *route) {
    const json_t *models = json_object_get(root, "models");
    if (looks_for_model(route) && models && json_object_size(models) == 0)
        sp_check_error(check, at(check, route, "models"),
                       "`models: body` needs `models`, which says who serves which; name at least one there");
    if (text_of(route, "models") && !looks_for_model(route) && !gives(check, route, "pool"))
        sp_check_error(check, sp_source_container(check->source, route),
                       "`pool` is missing in this route: who answers where no model decides; or say `models: body`");
}

/* Where no model is looked for there is one bucket for all of them, under a name that promises otherwise. */
static void check_limits_by_model(struct sp_check *check, const json_t *root, const json_t *route) {
    const json_t *names = json_object_get(route, "limits");
    for (size_t i = 0; i < json_array_size(names) && !looks_for_model(route); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name && lists(json_object_get(json_object_get(json_object_get(root, "limits"), name), "by"), "model"))
            sp_check_error(check, sp_source_item(check->source, names, i),
                           "`limits`: '%s' is by model, but this route does not look for one; say `models: body`, or use another limit",
                           name);
    }
}

/* A request that names no bound would be refused for a bound that it never named. */
static void check_max_tokens(struct sp_check *check, const json_t *route) {
    const json_t *bounds = json_object_get(route, "max_tokens"), *cap = json_object_get(bounds, "cap");
    json_int_t standard = json_integer_value(json_object_get(bounds, "default"));
    if (cap && standard > json_integer_value(cap))
        sp_check_error(check, at(check, bounds, gives(check, bounds, "default") ? "default" : "cap"),
                       "`default`%s is %" JSON_INTEGER_FORMAT ", more than `cap`; a request that names no bound would always be refused; "
                       "make it at most %" JSON_INTEGER_FORMAT,
                       gives(check, bounds, "default") ? "" : ", left out here,", standard, json_integer_value(cap));
    if (cap && !looks_for_model(route))
        sp_check_error(check, at(check, bounds, "cap"),
                       "`cap` is for routes with `models: body`, where bodies are looked into; say that, or remove it");
}

/* An anonymous caller has no subject, tenant or key: everyone would share one bucket under a name that promises otherwise. */
static void check_anonymous(struct sp_check *check, const json_t *root, const json_t *route) {
    static const char *const callers[] = {"subject", "tenant", "key"};
    static const char *const rights[] = {"roles", "scopes"};
    const json_t *names = json_object_get(route, "limits");
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        const json_t *by = json_object_get(json_object_get(json_object_get(root, "limits"), name ? name : ""), "by");
        for (size_t j = 0; j < SP_COUNT(callers); j++)
            if (lists(by, callers[j])) {
                sp_check_error(
                    check, sp_source_item(check->source, names, i),
                    "`limits`: '%s' is by %s, but this route takes no credential and could never tell callers apart; use a limit by "
                    "address, route or global",
                    name, callers[j]);
                break;
            }
    }
    for (size_t i = 0; i < SP_COUNT(rights); i++)
        if (json_array_size(json_object_get(route, rights[i])) > 0)
            sp_check_error(check, at(check, route, rights[i]), "`%s` can never match where `authenticate` is [none]; remove one of them",
                           rights[i]);
}

static bool asks_for_certificates(const json_t *root) {
    const json_t *listeners = json_object_get(root, "listeners");
    for (size_t i = 0; i < json_array_size(listeners); i++) {
        const char *asked = text_of(json_array_get(listeners, i), "client_certificate");
        if (asked && strcmp(asked, "none") != 0)
            return true;
    }
    return false;
}

static void check_authentication(struct sp_check *check, const json_t *root, const json_t *route) {
    const json_t *ways = json_object_get(route, "authenticate");
    struct sp_place place = at(check, route, "authenticate");
    if (lists(ways, "none") && json_array_size(ways) > 1)
        sp_check_error(check, place, "`authenticate`: none stands alone; remove it, or all others");
    else if (lists(ways, "none"))
        check_anonymous(check, root, route);
    if (lists(ways, "jwt") && json_array_size(json_object_get(root, "issuers")) == 0 && !gives(check, root, "issuers"))
        sp_check_error(check, place, "`authenticate` takes jwt, but there is no issuer; add one to `issuers`");
    if (lists(ways, "client_certificate") && !asks_for_certificates(root))
        sp_check_error(check, place,
                       "`authenticate` takes client_certificate, but no listener asks for one; set its `client_certificate` to "
                       "optional or required");
    if (lists(ways, "api_key") && !gives(check, root, "api_keys"))
        sp_check_error(check, place, "`authenticate` takes api_key, but `api_keys` names no file; make one with `sallyport key new`");
}

/* One request may meet this route's limits and those of its caller's roles; each role must fit beside the route's. */
static void check_limit_count(struct sp_check *check, const json_t *root, const json_t *route) {
    const json_t *own = json_object_get(route, "limits");
    json_t *roles = json_object_get(root, "roles");
    for (void *role_at = json_object_iter(roles); role_at; role_at = json_object_iter_next(roles, role_at)) {
        const json_t *also = json_object_get(json_object_iter_value(role_at), "limits");
        size_t count = json_array_size(own);
        for (size_t i = 0; i < json_array_size(also); i++) {
            const char *name = json_string_value(json_array_get(also, i));
            count += name && !lists(own, name);
        }
        if (count > SP_REQUEST_LIMITS_MAX) {
            sp_check_error(check, at(check, route, "limits"),
                           "`limits`: with those of role '%s' these are %zu; at most %d may apply to one request",
                           json_object_iter_key(role_at), count, SP_REQUEST_LIMITS_MAX);
            return;
        }
    }
}

static void check_prefix(struct sp_check *check, const json_t *route) {
    const char *path = text_of(route, "path"), *strip = text_of(route, "strip_prefix");
    if (!path || !strip)
        return;
    path += path[0] == '=';
    if (strncmp(path, strip, sp_min(strlen(path), strlen(strip))) != 0)
        sp_check_error(check, at(check, route, "strip_prefix"),
                       "`strip_prefix` is not how `path` begins, and would never be found; make them agree");
}

static void check_body(struct sp_check *check, const json_t *root, const json_t *route) {
    uint64_t one, all;
    const json_t *max_body = json_object_get(route, "max_body"), *bodies = json_object_get(json_object_get(root, "memory"), "bodies");
    if (!max_body || !bodies || sp_parse_size(sp_json_span(max_body), &one) < 0 || sp_parse_size(sp_json_span(bodies), &all) < 0)
        return;
    if (one > all)
        sp_check_error(check, at(check, route, "max_body"),
                       "`max_body` is larger than `memory.bodies` (%s), so no such body could ever be taken", json_string_value(bodies));
}

void sp_check_across(struct sp_check *check) {
    json_t *root = check->source->root;
    const json_t *listeners = json_object_get(root, "listeners");
    check_unique(check, listeners, "address", "address");
    for (size_t i = 0; i < json_array_size(listeners); i++)
        check_listener(check, json_array_get(listeners, i));
    check_certificates(check, root);
    check_redis(check, root);
    const json_t *issuers = json_object_get(root, "issuers");
    check_unique(check, issuers, "issuer", "issuer");
    for (size_t i = 0; i < json_array_size(issuers); i++)
        check_issuer(check, json_array_get(issuers, i));
    const char *name;
    json_t *item;
    json_object_foreach(json_object_get(root, "limits"), name, item) check_limit(check, item);
    check_login_limits(check, root);
    size_t servers = 0;
    json_object_foreach(json_object_get(root, "pools"), name, item) servers += check_pool(check, item);
    if (servers > SP_SERVERS_MAX)
        sp_check_error(check, at(check, root, "pools"), "`pools` have %zu servers in all; at most %d are possible", servers,
                       SP_SERVERS_MAX);
    check_models(check, root);
    const json_t *routes = json_object_get(root, "routes");
    check_unique(check, routes, "name", "route");
    for (size_t i = 0; i < json_array_size(routes); i++) {
        const json_t *route = json_array_get(routes, i);
        check_authentication(check, root, route);
        check_limit_count(check, root, route);
        check_destination(check, root, route);
        check_limits_by_model(check, root, route);
        check_max_tokens(check, route);
        check_prefix(check, route);
        check_body(check, root, route);
    }
    check_admin(check, root);
}
