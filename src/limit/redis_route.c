#include "redis_route.h"

#include <errno.h>

#include "redis_cluster.h"
#include "redis_sentinel.h"

enum kind { KIND_NONE, KIND_SINGLE, KIND_SENTINEL, KIND_CLUSTER };

struct sp_redis_route {
    const struct sp_redis_config *config;
    struct sp_tls_client *tls;
    enum kind kind;
    struct sp_redis *redis; /* the one, or the master */
    struct sp_address master;
    bool has_master; /* sentinels have named one */
    struct sp_redis_sentinel *sentinel;
    struct sp_redis_cluster *cluster;
    char problem[SP_LIMITER_PROBLEM_MAX]; /* with the configuration */
};

/* ---- The way ---- */

static struct sp_redis *owner_of(const struct sp_redis_route *route, unsigned slot) {
    return route->kind == KIND_CLUSTER ? sp_redis_cluster_owner(route->cluster, slot) : route->redis;
}

bool sp_redis_route_usable(const struct sp_redis_route *route, unsigned slot) {
    const struct sp_redis *redis = owner_of(route, slot);
    return redis && sp_redis_usable(redis);
}

bool sp_redis_route_connected(const struct sp_redis_route *route, unsigned slot, uint64_t *ret_connection) {
    const struct sp_redis *redis = owner_of(route, slot);
    if (!redis || !sp_redis_connected(redis))
        return false;
    *ret_connection = sp_redis_opened_us(redis);
    return true;
}

int sp_redis_route_send(struct sp_redis_route *route, unsigned slot, struct sp_redis_command *command, const char *bytes, size_t len) {
    struct sp_redis *redis = owner_of(route, slot);
    command->slot = slot;
    command->again = 0;
    return redis ? sp_redis_send(redis, command, bytes, len) : -ENOTCONN;
}

/* A sentinel said so. Another place than before: connected to at once. */
static void master_found(void *owner, const struct sp_address *master) {
    struct sp_redis_route *route = owner;
    const struct sp_redis_place place = {.kind = SP_REDIS_MASTER, .address = *master};
    route->master = *master;
    route->has_master = true;
    sp_redis_configure_found(route->redis, route->config, &place, route->tls);
}

static void forget_master(struct sp_redis_route *route) {
    route->has_master = false;
    sp_redis_configure(route->redis, NULL, NULL, NULL);
}

static void changed(void *owner, struct sp_redis *redis) {
    struct sp_redis_route *route = owner;
    if (sp_redis_was_demoted(redis))
        sp_redis_sentinel_was_wrong(route->sentinel);
    sp_redis_sentinel_master_up(route->sentinel, sp_redis_connected(redis));
}

/* ---- What errors mean for the way ---- */

enum trouble { MOVED, ASK, TRY_AGAIN, NO_SCRIPT, NO_MASTER, NOT_NOW, CLUSTER_DOWN, THEIRS };

static enum trouble trouble_of(struct sp_span error) {
    static const struct {
        const char *word;
        enum trouble trouble;
    } words[] = {
        {"MOVED ", MOVED},        {"ASK ", ASK},
        {"TRYAGAIN ", TRY_AGAIN}, {"NOSCRIPT ", NO_SCRIPT},
        {"READONLY ", NO_MASTER}, {"MASTERDOWN ", NO_MASTER},
        {"LOADING ", NOT_NOW},    {"CLUSTERDOWN ", CLUSTER_DOWN},
    };
    for (size_t i = 0; i < SP_COUNT(words); i++)
        if (sp_span_starts(error, sp_span_text(words[i].word)))
            return words[i].trouble;
    /* Before Redis 7 what went wrong in a script is told inside another error. */
    static const char inside[] = "-READONLY ";
    bool wrapped = sp_span_starts(error, SP_SPAN("ERR Error running script")) && memmem(error.at, error.len, inside, sizeof inside - 1);
    return wrapped ? NO_MASTER : THEIRS;
}

/* A command that a node did not execute, on its way to where it belongs. */
struct errand {
    struct sp_redis_command *command;
    const char *bytes; /* NULL: not wanted any more */
    size_t len;
};

static enum sp_redis_verdict send_again(const struct errand *errand, struct sp_redis *redis, bool asking) {
    struct sp_redis_command *command = errand->command;
    if (!errand->bytes || !redis || command->again++ >= SP_REDIS_AGAIN_MAX)
        return SP_REDIS_FAILED;
    int r = asking ? sp_redis_send_asking(redis, command, errand->bytes, errand->len)
                   : sp_redis_send(redis, command, errand->bytes, errand->len);
    return r == 0 ? SP_REDIS_AGAIN : SP_REDIS_FAILED;
}

static enum sp_redis_verdict redirected(struct sp_redis_route *route, const struct errand *errand, struct sp_span error) {
    struct sp_redis *said_by = errand->command->redis;
    struct sp_redis_redirect redirect;
    if (route->kind != KIND_CLUSTER) {
        sp_redis_failed(said_by, "Redis is one of a cluster: it is to be configured as `cluster`", sp_span(NULL, 0));
        return SP_REDIS_FAILED;
    }
    if (sp_redis_redirect_parse(error, sp_redis_address(said_by), &redirect) < 0) {
        sp_redis_cluster_refresh(route->cluster);
        return SP_REDIS_FAILED;
    }
    return send_again(errand, sp_redis_cluster_follow(route->cluster, &redirect), redirect.ask);
}

static enum sp_redis_verdict reload(const struct errand *errand) {
    struct sp_redis *redis = errand->command->redis;
    if (!errand->bytes || sp_redis_load_scripts(redis) < 0)
        return SP_REDIS_FAILED;
    return send_again(errand, redis, errand->command->asking);
}

enum sp_redis_verdict sp_redis_route_consider(struct sp_redis_route *route, struct sp_redis_command *command,
                                              const struct sp_resp_reply *reply, const char *bytes, size_t len) {
    const struct errand errand = {.command = command, .bytes = bytes, .len = len};
    if (!reply)
        return SP_REDIS_FAILED;
    if (reply->value.type != SP_RESP_ERROR)
        return SP_REDIS_ANSWER;
    struct sp_span error = reply->value.text;
    switch (trouble_of(error)) {
    case MOVED:
    case ASK:
        return redirected(route, &errand, error);
    case TRY_AGAIN:
        return send_again(&errand, owner_of(route, command->slot), false);
    case NO_SCRIPT:
        return reload(&errand);
    case NO_MASTER:
        sp_redis_demoted(command->redis, error);
        return SP_REDIS_FAILED;
    case NOT_NOW:
        sp_redis_drop(command->redis, "Redis cannot answer now", error);
        return SP_REDIS_FAILED;
    case CLUSTER_DOWN: /* no fault of the node's: others of its slots may be served */
        sp_redis_cluster_refresh(route->cluster);
        return SP_REDIS_FAILED;
    case THEIRS:
        break;
    }
    return SP_REDIS_ERROR;
}

void sp_redis_route_succeeded(struct sp_redis_command *command) { sp_redis_succeeded(command->redis); }

void sp_redis_route_timed_out(struct sp_redis_command *command) { sp_redis_timed_out(command->redis); }

void sp_redis_route_failed(struct sp_redis_command *command, const char *what, struct sp_span detail) {
    sp_redis_failed(command->redis, what, detail);
}

/* ---- Life ---- */

int sp_redis_route_new(struct sp_loop *loop, struct sp_redis_route **ret) {
    struct sp_redis_route *route = calloc(1, sizeof *route);
    if (!route)
        return -ENOMEM;
    int r = sp_redis_new(loop, changed, route, &route->redis);
    if (r == 0)
        r = sp_redis_sentinel_new(loop, master_found, route, &route->sentinel);
    if (r == 0)
        r = sp_redis_cluster_new(loop, &route->cluster);
    if (r < 0) {
        sp_redis_route_free(route);
        return r;
    }
    *ret = route;
    return 0;
}

void sp_redis_route_free(struct sp_redis_route *route) {
    if (!route)
        return;
    sp_redis_free(route->redis);
    sp_redis_sentinel_free(route->sentinel);
    sp_redis_cluster_free(route->cluster);
    sp_tls_client_unref(route->tls);
    free(route);
}

static enum kind kind_of(const struct sp_redis_config *config) {
    if (!config)
        return KIND_NONE;
    if (config->cluster.count > 0)
        return KIND_CLUSTER;
    return config->sentinel.master ? KIND_SENTINEL : KIND_SINGLE;
}

static int configure_single(struct sp_redis_route *route) {
    const struct sp_redis_config *config = route->config;
    struct sp_redis_place place = {.kind = SP_REDIS_STORE, .unix_path = config->unix_path};
    int r = config->unix_path ? 0 : sp_redis_find_address(config->host, config->port, &place.address);
    sp_redis_configure(route->redis, config, r == 0 ? &place : NULL, route->tls);
    return r;
}

/* The master stays who it is until sentinels say otherwise; of another name nothing is known yet. */
static int configure_sentinel(struct sp_redis_route *route, const struct sp_redis_config *before) {
    bool same =
        route->has_master && before && before->sentinel.master && strcmp(before->sentinel.master, route->config->sentinel.master) == 0;
    const struct sp_address master = route->master;
    if (same)
        master_found(route, &master);
    else
        forget_master(route);
    return sp_redis_sentinel_configure(route->sentinel, route->config, route->tls);
}

int sp_redis_route_configure(struct sp_redis_route *route, const struct sp_redis_config *config, struct sp_tls_client *tls) {
    const struct sp_redis_config *before = route->config;
    bool secured = !config || config->tls == (tls != NULL);
    route->kind = secured ? kind_of(config) : KIND_NONE;
    route->config = config;
    route->problem[0] = 0;
    sp_tls_client_unref(route->tls);
    route->tls = tls ? sp_tls_client_ref(tls) : NULL;
    if (route->kind != KIND_SENTINEL) {
        route->has_master = false;
        (void)!sp_redis_sentinel_configure(route->sentinel, NULL, NULL);
    }
    int r = sp_redis_cluster_configure(route->cluster, route->kind == KIND_CLUSTER ? config : NULL, tls);
    if (route->kind == KIND_SINGLE)
        r = configure_single(route);
    else if (route->kind == KIND_SENTINEL)
        r = configure_sentinel(route, before);
    else
        forget_master(route);
    if (!secured) {
        sp_redis_note(route->problem, "there is no TLS for Redis", sp_span(NULL, 0));
        return -EINVAL;
    }
    if (r < 0)
        sp_redis_note(route->problem, "the Redis host is neither an address nor localhost", sp_span(NULL, 0));
    return r;
}

void sp_redis_route_state(const struct sp_redis_route *route, struct sp_limiter_state *ret) {
    const char *problem = route->problem;
    if (route->kind == KIND_CLUSTER)
        sp_redis_cluster_state(route->cluster, ret);
    else
        sp_redis_state(route->redis, ret);
    if (!problem[0] && route->kind == KIND_SENTINEL && !ret->up)
        problem = sp_redis_sentinel_problem(route->sentinel);
    ret->shared = route->config != NULL;
    if (problem[0])
        memcpy(ret->problem, problem, SP_LIMITER_PROBLEM_MAX);
}
