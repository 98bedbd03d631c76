#include "redis_sentinel.h"

#include <errno.h>
#include <hiredis/hiredis.h>

#define ASK_MS      1000 /* while the master is connected */
#define HURRY_MS    100  /* while it is not */
#define PATIENCE_US 500000

struct sp_redis_sentinel {
    struct sp_loop *loop;
    const struct sp_redis_config *config;
    struct sp_tls_client *tls;
    sp_redis_master_found *found;
    void *owner;
    struct sp_redis *redis; /* the sentinel being asked */
    struct sp_address address[SP_REDIS_NODES_MAX];
    size_t n, at;
    struct sp_address told; /* the last answer */
    struct sp_redis_command command;
    bool asking, master_up, leave; /* leave: for the next sentinel, at the next tick */
    uint64_t asked_us;
    struct sp_timer timer;
    char problem[SP_LIMITER_PROBLEM_MAX];
};

/* ---- The answer ---- */

int sp_redis_master_parse(const struct sp_resp_reply *reply, struct sp_address *ret) {
    struct sp_address master;
    uint64_t port;
    if (reply->value.type == SP_RESP_NIL)
        return -ENOENT;
    if (reply->value.type != SP_RESP_ARRAY || reply->n != 2 || reply->item[0].type != SP_RESP_STRING ||
        reply->item[1].type != SP_RESP_STRING || !sp_address_parse(reply->item[0].text, master.bytes) ||
        !sp_span_u64(reply->item[1].text, &port) || port == 0 || port > UINT16_MAX)
        return -EPROTO;
    master.port = (uint16_t)port;
    *ret = master;
    return 0;
}

static void replied(struct sp_redis_command *command, const struct sp_resp_reply *reply) {
    struct sp_redis_sentinel *sentinel = SP_CONTAINER(command, struct sp_redis_sentinel, command);
    struct sp_address master;
    sentinel->asking = false;
    if (!reply)
        return;
    int r = sp_redis_master_parse(reply, &master);
    if (r == 0) {
        sentinel->problem[0] = 0;
        /* Still the one that is away: the sentinel that leads the failover knows before the others do. */
        sentinel->leave = !sentinel->master_up && sentinel->n > 1 && memcmp(&master, &sentinel->told, sizeof master) == 0;
        sentinel->told = master;
        sentinel->found(sentinel->owner, &master);
        return;
    }
    if (r == -ENOENT)
        sp_redis_note(sentinel->problem, "a sentinel does not know the master", sp_span_text(sentinel->config->sentinel.master));
    else if (reply->value.type == SP_RESP_ERROR)
        sp_redis_note(sentinel->problem, "a sentinel does not say who the master is", reply->value.text);
    else
        sp_redis_note(sentinel->problem, "a sentinel names the master by something else than its address", sp_span(NULL, 0));
    sentinel->leave = true;
}

/* ---- The question ---- */

static void ask(struct sp_redis_sentinel *sentinel) {
    const char *words[] = {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinel->config->sentinel.master};
    char *bytes = NULL;
    if (sentinel->asking)
        return;
    int len = redisFormatCommandArgv(&bytes, SP_COUNT(words), words, NULL);
    if (len < 0)
        return;
    sentinel->asked_us = sp_clock_us();
    sentinel->asking = sp_redis_send(sentinel->redis, &sentinel->command, bytes, (size_t)len) == 0;
    redisFreeCommand(bytes);
}

static void turn_to(struct sp_redis_sentinel *sentinel, size_t at) {
    const struct sp_redis_place place = {.kind = SP_REDIS_SENTINEL, .address = sentinel->address[at]};
    sentinel->at = at;
    sentinel->leave = false;
    sp_redis_configure_found(sentinel->redis, sentinel->config, &place, sentinel->tls);
}

static void tick(struct sp_timer *timer) {
    struct sp_redis_sentinel *sentinel = SP_CONTAINER(timer, struct sp_redis_sentinel, timer);
    sp_timer_start(sentinel->loop, timer, sentinel->master_up ? ASK_MS : HURRY_MS);
    if (sentinel->asking && sp_clock_us() - sentinel->asked_us > PATIENCE_US)
        sp_redis_drop(sentinel->redis, "a sentinel does not answer", sp_span(NULL, 0));
    if (sentinel->leave)
        turn_to(sentinel, (sentinel->at + 1) % sentinel->n);
    else if (sp_redis_connected(sentinel->redis))
        ask(sentinel);
}

static void sentinel_changed(void *owner, struct sp_redis *redis) {
    struct sp_redis_sentinel *sentinel = owner;
    if (sp_redis_connected(redis)) {
        ask(sentinel);
        return;
    }
    struct sp_limiter_state state = {0};
    sp_redis_state(redis, &state);
    sp_redis_note(sentinel->problem, "a sentinel is lost", sp_span_text(state.problem));
    sentinel->leave = sentinel->n > 1; /* the only one is tried again by its connection */
    sp_timer_start(sentinel->loop, &sentinel->timer, HURRY_MS);
}

void sp_redis_sentinel_master_up(struct sp_redis_sentinel *sentinel, bool up) {
    if (!sentinel->config)
        return;
    sentinel->master_up = up;
    if (up)
        sentinel->leave = false;
    else
        sp_timer_start(sentinel->loop, &sentinel->timer, 1);
}

void sp_redis_sentinel_was_wrong(struct sp_redis_sentinel *sentinel) { sentinel->leave = sentinel->n > 1; }

const char *sp_redis_sentinel_problem(const struct sp_redis_sentinel *sentinel) { return sentinel->problem; }

/* ---- Life ---- */

int sp_redis_sentinel_new(struct sp_loop *loop, sp_redis_master_found *found, void *owner, struct sp_redis_sentinel **ret) {
    struct sp_redis_sentinel *sentinel = calloc(1, sizeof *sentinel);
    if (!sentinel)
        return -ENOMEM;
    sentinel->loop = loop;
    sentinel->found = found;
    sentinel->owner = owner;
    sentinel->timer.fire = tick;
    sentinel->command.replied = replied;
    sp_list_init(&sentinel->command.node);
    int r = sp_redis_new(loop, sentinel_changed, sentinel, &sentinel->redis);
    if (r < 0) {
        free(sentinel);
        return r;
    }
    *ret = sentinel;
    return 0;
}

void sp_redis_sentinel_free(struct sp_redis_sentinel *sentinel) {
    if (!sentinel)
        return;
    sp_redis_free(sentinel->redis);
    sp_timer_stop(&sentinel->timer);
    sp_tls_client_unref(sentinel->tls);
    free(sentinel);
}

/* Those that can be reached; whether they are the same as before. */
static bool take_addresses(struct sp_redis_sentinel *sentinel, const struct sp_redis_nodes *nodes) {
    struct sp_address address[SP_REDIS_NODES_MAX] = {0};
    size_t n = 0;
    for (size_t i = 0; i < nodes->count && n < SP_REDIS_NODES_MAX; i++)
        n += sp_redis_find_address(nodes->item[i].host, nodes->item[i].port, &address[n]) == 0;
    bool same = n == sentinel->n && memcmp(address, sentinel->address, sizeof address) == 0;
    memcpy(sentinel->address, address, sizeof address);
    sentinel->n = n;
    return same;
}

int sp_redis_sentinel_configure(struct sp_redis_sentinel *sentinel, const struct sp_redis_config *config, struct sp_tls_client *tls) {
    bool wanted = config && config->sentinel.master;
    bool renamed = wanted && sentinel->config && strcmp(config->sentinel.master, sentinel->config->sentinel.master) != 0;
    sp_tls_client_unref(sentinel->tls);
    sentinel->tls = tls ? sp_tls_client_ref(tls) : NULL;
    sentinel->config = wanted ? config : NULL;
    sentinel->problem[0] = 0;
    bool same = wanted && take_addresses(sentinel, &config->sentinel.nodes);
    if (renamed || sentinel->n == 0 || !wanted)
        sp_redis_configure(sentinel->redis, NULL, NULL, NULL); /* an answer under way would be about another master */
    if (!wanted || sentinel->n == 0) {
        sp_timer_stop(&sentinel->timer);
        sentinel->n = 0;
        return wanted ? -EINVAL : 0;
    }
    turn_to(sentinel, same ? sentinel->at : sp_random_u64_fast() % sentinel->n);
    sp_timer_start(sentinel->loop, &sentinel->timer, 1);
    return 0;
}
