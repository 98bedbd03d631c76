#include "redis_cluster.h"

#include <errno.h>
#include <stdio.h>

#define CALM_MS     10000 /* between refreshes */
#define MISSING_MS  500   /* the same while a slot has no owner that is up */
#define APART_US    100000
#define PATIENCE_MS 500 /* for CLUSTER SLOTS */
#define MEMBERS_MAX (SP_REDIS_NODES + SP_REDIS_NODES_MAX)

/* A connection to a node: an owner of slots, one that was named in the configuration, or one that a redirect led to. */
struct member {
    struct sp_redis *redis;
    bool idle; /* was no owner at the last sweep */
};

struct sp_redis_cluster {
    struct sp_loop *loop;
    const struct sp_redis_config *config;
    struct sp_tls_client *tls;
    uint64_t seeds; /* what the configuration names */
    struct member member[MEMBERS_MAX];
    size_t n_members, next; /* next: to be asked */
    struct sp_redis_slot_map map, coming;
    struct sp_redis *owner[SP_REDIS_NODES]; /* by the map's node; NULL: not connected to */
    bool known;                             /* the map was read */
    struct sp_redis_slot_reader reader;
    struct sp_redis_command command;
    bool asking, stale; /* stale: what is being told may be so already */
    uint64_t asked_us;
    struct sp_timer timer;
    uint64_t timeouts, errors, reconnects; /* of members that are gone */
    char problem[SP_LIMITER_PROBLEM_MAX];
};

/* ---- Members ---- */

static void member_changed(void *owner, struct sp_redis *redis) {
    struct sp_redis_cluster *cluster = owner;
    if (!sp_redis_connected(redis) || !cluster->known)
        sp_redis_cluster_refresh(cluster);
}

static bool is_at(const struct sp_redis *redis, const struct sp_address *address) {
    return memcmp(sp_redis_address(redis), address, sizeof *address) == 0;
}

static void connect_to(struct sp_redis_cluster *cluster, struct sp_redis *redis, const struct sp_address *address) {
    const struct sp_redis_place place = {.kind = SP_REDIS_STORE, .address = *address};
    sp_redis_configure_found(redis, cluster->config, &place, cluster->tls);
}

/* The connection to this address, made if there is none. NULL: there are too many, or no memory. */
static struct sp_redis *reach(struct sp_redis_cluster *cluster, const struct sp_address *address) {
    for (size_t i = 0; i < cluster->n_members; i++)
        if (is_at(cluster->member[i].redis, address))
            return cluster->member[i].redis;
    struct sp_redis *redis;
    if (cluster->n_members == MEMBERS_MAX || sp_redis_new(cluster->loop, member_changed, cluster, &redis) < 0)
        return NULL;
    cluster->member[cluster->n_members++] = (struct member){.redis = redis};
    connect_to(cluster, redis, address);
    return redis;
}

static void add_state(const struct sp_redis *redis, struct sp_limiter_state *sum) {
    struct sp_limiter_state state = {0};
    sp_redis_state(redis, &state);
    sum->timeouts += state.timeouts;
    sum->errors += state.errors;
    sum->reconnects += state.reconnects;
    sum->breaker_open |= state.breaker_open;
    if (!sum->problem[0] && state.problem[0]) {
        char at[SP_ADDRESS_TEXT_MAX];
        (void)sp_address_text(sp_redis_address(redis)->bytes, at);
        (void)snprintf(sum->problem, sizeof sum->problem, "%s port %u: %.300s", at, sp_redis_address(redis)->port, state.problem);
    }
}

static void forget(struct sp_redis_cluster *cluster, size_t i) {
    struct sp_limiter_state state = {.timeouts = cluster->timeouts, .errors = cluster->errors, .reconnects = cluster->reconnects};
    struct sp_redis *redis = cluster->member[i].redis;
    add_state(redis, &state);
    cluster->timeouts = state.timeouts;
    cluster->errors = state.errors;
    cluster->reconnects = state.reconnects;
    cluster->member[i] = cluster->member[--cluster->n_members];
    sp_redis_free(redis);
}

static void forget_all(struct sp_redis_cluster *cluster) {
    cluster->known = false;
    cluster->problem[0] = 0;
    sp_redis_slot_map_init(&cluster->map);
    while (cluster->n_members > 0)
        forget(cluster, cluster->n_members - 1);
}

static bool is_owner(const struct sp_redis_cluster *cluster, const struct sp_redis *redis) {
    for (unsigned i = 0; i < cluster->map.n_nodes; i++)
        if (cluster->owner[i] == redis)
            return true;
    return false;
}

/* Connections that no slot needs are closed at the second sweep that finds them so: what was sent there before has had its reply. Only from
 * the timer, where no connection is in the middle of anything. */
static void sweep(struct sp_redis_cluster *cluster) {
    for (size_t i = cluster->n_members; cluster->known && i-- > 0;) {
        struct member *member = &cluster->member[i];
        bool owner = is_owner(cluster, member->redis);
        if (!owner && member->idle)
            forget(cluster, i);
        else
            member->idle = !owner;
    }
}

/* Those that the configuration names are asked as long as nobody else can be. */
static size_t reach_seeds(struct sp_redis_cluster *cluster) {
    size_t n = 0;
    for (size_t i = 0; i < cluster->config->cluster.count; i++) {
        const struct sp_redis_node *node = &cluster->config->cluster.item[i];
        struct sp_address address;
        if (sp_redis_find_address(node->host, node->port, &address) == 0)
            n += reach(cluster, &address) != NULL;
    }
    return n;
}

/* ---- Who owns what ---- */

struct sp_redis *sp_redis_cluster_owner(const struct sp_redis_cluster *cluster, unsigned slot) {
    uint8_t node = cluster->map.owner[slot % SP_REDIS_SLOTS];
    return node < cluster->map.n_nodes ? cluster->owner[node] : NULL;
}

struct sp_redis *sp_redis_cluster_follow(struct sp_redis_cluster *cluster, const struct sp_redis_redirect *redirect) {
    struct sp_redis *redis = reach(cluster, &redirect->to);
    if (redirect->ask)
        return redis;
    sp_redis_cluster_refresh(cluster);
    int node = redis ? sp_redis_slot_map_node(&cluster->map, &redirect->to) : -ENOSPC;
    if (node >= 0) {
        cluster->map.owner[redirect->slot] = (uint8_t)node;
        cluster->owner[node] = redis;
    }
    return redis;
}

static void adopt(struct sp_redis_cluster *cluster) {
    cluster->map = cluster->coming;
    cluster->known = true;
    for (unsigned i = 0; i < cluster->map.n_nodes; i++)
        cluster->owner[i] = reach(cluster, &cluster->map.node[i]);
    cluster->problem[0] = 0;
    if (memchr(cluster->map.owner, SP_REDIS_SLOT_NONE, sizeof cluster->map.owner))
        sp_redis_note(cluster->problem, "the Redis cluster has slots that no node we can reach owns", sp_span(NULL, 0));
}

static bool all_up(const struct sp_redis_cluster *cluster) {
    if (!cluster->known || memchr(cluster->map.owner, SP_REDIS_SLOT_NONE, sizeof cluster->map.owner))
        return false;
    for (unsigned i = 0; i < cluster->map.n_nodes; i++)
        if (!cluster->owner[i] || !sp_redis_connected(cluster->owner[i]))
            return false;
    return true;
}

static void visit(void *command, const struct sp_resp_value *value, const struct sp_resp_place *place) {
    sp_redis_slot_reader_visit(&SP_CONTAINER(command, struct sp_redis_cluster, command)->reader, value, place);
}

static void slots_told(struct sp_redis_command *command, const struct sp_resp_reply *reply) {
    struct sp_redis_cluster *cluster = SP_CONTAINER(command, struct sp_redis_cluster, command);
    cluster->asking = false;
    if (!reply)
        return;
    if (sp_redis_slot_reader_end(&cluster->reader, reply) == 0)
        adopt(cluster);
    else if (reply->value.type == SP_RESP_ERROR)
        sp_redis_note(cluster->problem, "Redis does not say who owns which slots", reply->value.text);
    else
        sp_redis_note(cluster->problem, "Redis says in an unknown form who owns which slots", sp_span(NULL, 0));
    sp_timer_start(cluster->loop, &cluster->timer, all_up(cluster) ? CALM_MS : MISSING_MS);
    if (cluster->stale)
        sp_redis_cluster_refresh(cluster);
}

/* ---- Asking ---- */

/* One after the other, so that none rules alone; owners first: what owns nothing may have left the cluster and not know. */
static struct sp_redis *someone_connected(struct sp_redis_cluster *cluster) {
    struct sp_redis *other = NULL;
    for (size_t i = 0; i < cluster->n_members; i++) {
        struct sp_redis *redis = cluster->member[cluster->next++ % cluster->n_members].redis;
        if (!sp_redis_connected(redis))
            continue;
        if (is_owner(cluster, redis))
            return redis;
        other = redis;
    }
    return other;
}

static void ask(struct sp_redis_cluster *cluster) {
    static const char slots[] = "*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n";
    struct sp_redis *redis = someone_connected(cluster);
    if (!redis) {
        (void)reach_seeds(cluster);
        return;
    }
    sp_redis_slot_reader_begin(&cluster->reader, &cluster->coming, sp_redis_address(redis));
    cluster->asked_us = sp_clock_us();
    cluster->asking = sp_redis_send(redis, &cluster->command, slots, sizeof slots - 1) == 0;
}

static void tick(struct sp_timer *timer) {
    struct sp_redis_cluster *cluster = SP_CONTAINER(timer, struct sp_redis_cluster, timer);
    if (cluster->asking)
        sp_redis_drop(cluster->command.redis, "Redis does not say in time who owns which slots", sp_span(NULL, 0));
    sweep(cluster);
    ask(cluster);
    sp_timer_start(cluster->loop, timer, PATIENCE_MS); /* the answer starts it anew */
}

void sp_redis_cluster_refresh(struct sp_redis_cluster *cluster) {
    uint64_t ago_us = sp_clock_us() - cluster->asked_us;
    cluster->stale = cluster->asking;
    if (cluster->config && !cluster->asking)
        sp_timer_start(cluster->loop, &cluster->timer, ago_us < APART_US ? (APART_US - ago_us) / 1000 + 1 : 1);
}

void sp_redis_cluster_state(const struct sp_redis_cluster *cluster, struct sp_limiter_state *ret) {
    ret->timeouts = cluster->timeouts;
    ret->errors = cluster->errors;
    ret->reconnects = cluster->reconnects;
    for (size_t i = 0; i < cluster->n_members; i++)
        add_state(cluster->member[i].redis, ret);
    ret->up = all_up(cluster);
    if (cluster->problem[0])
        (void)snprintf(ret->problem, sizeof ret->problem, "%s", cluster->problem);
}

/* ---- Life ---- */

int sp_redis_cluster_new(struct sp_loop *loop, struct sp_redis_cluster **ret) {
    struct sp_redis_cluster *cluster = calloc(1, sizeof *cluster);
    if (!cluster)
        return -ENOMEM;
    cluster->loop = loop;
    cluster->timer.fire = tick;
    cluster->command.replied = slots_told;
    cluster->command.visit = visit;
    sp_list_init(&cluster->command.node);
    sp_redis_slot_map_init(&cluster->map);
    *ret = cluster;
    return 0;
}

void sp_redis_cluster_free(struct sp_redis_cluster *cluster) {
    if (!cluster)
        return;
    cluster->config = NULL;
    forget_all(cluster);
    sp_timer_stop(&cluster->timer);
    sp_tls_client_unref(cluster->tls);
    free(cluster);
}

static uint64_t seeds_of(const struct sp_redis_nodes *nodes) {
    static const struct sp_hash_key no_secret = {0};
    uint64_t seeds = nodes->count;
    for (size_t i = 0; i < nodes->count; i++) {
        const uint64_t parts[] = {seeds, sp_hash_span(&no_secret, sp_span_text(nodes->item[i].host)), nodes->item[i].port};
        seeds = sp_hash(&no_secret, parts, sizeof parts);
    }
    return seeds;
}

int sp_redis_cluster_configure(struct sp_redis_cluster *cluster, const struct sp_redis_config *config, struct sp_tls_client *tls) {
    bool wanted = config && config->cluster.count > 0;
    uint64_t seeds = wanted ? seeds_of(&config->cluster) : 0;
    bool same = wanted && cluster->config && seeds == cluster->seeds;
    cluster->config = wanted ? config : NULL;
    cluster->seeds = seeds;
    sp_tls_client_unref(cluster->tls);
    cluster->tls = tls ? sp_tls_client_ref(tls) : NULL;
    if (!same)
        forget_all(cluster);
    if (!wanted) {
        sp_timer_stop(&cluster->timer);
        return 0;
    }
    for (size_t i = 0; i < cluster->n_members; i++) {
        const struct sp_address address = *sp_redis_address(cluster->member[i].redis);
        connect_to(cluster, cluster->member[i].redis, &address);
    }
    if (!cluster->known && reach_seeds(cluster) == 0)
        return -EINVAL;
    sp_redis_cluster_refresh(cluster);
    return 0;
}
