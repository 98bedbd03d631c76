#include "redis_command.h"

#include <errno.h>

#include "lease.h"

/* ---- What is asked ---- */

static struct sp_redis_policy policy_of(const struct sp_limit_config *limit, enum sp_limit_kind kind, uint64_t revision) {
    return (struct sp_redis_policy){.ratio = sp_redis_ratio_of(sp_limit_rate(limit, kind)),
                                    .burst = sp_min(sp_limit_burst(limit, kind), SP_REDIS_BURST_MAX),
                                    .revision = revision};
}

void sp_redis_policies_prepare(struct sp_redis_store *store) {
    const struct sp_config *config = store->config;
    uint64_t revision = sp_min(config->loaded_wall_ms, (UINT64_C(1) << 53) - 1);
    for (size_t i = 0; i < config->n_limits; i++)
        for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++) {
            struct sp_redis_prepared *prepared = &store->prepared[i][kind];
            prepared->policy = policy_of(&config->limits[i], kind, revision);
            prepared->len = sp_redis_wire_policy(&prepared->policy, prepared->text);
        }
}

const struct sp_redis_prepared *sp_redis_prepared_of(const struct sp_redis_store *store, const struct sp_limit_config *limit,
                                                     enum sp_limit_kind kind) {
    return sp_config_has_limit(store->config, limit) ? &store->prepared[limit - store->config->limits][kind] : NULL;
}

/* A request that began under an older snapshot brings older policies: they give way to whatever is stored. */
struct sp_redis_policy sp_redis_policy_of(const struct sp_redis_store *store, const struct sp_limit_config *limit, enum sp_limit_kind kind) {
    const struct sp_redis_prepared *prepared = sp_redis_prepared_of(store, limit, kind);
    return prepared ? prepared->policy : policy_of(limit, kind, 0);
}

unsigned sp_redis_slot_of(const struct sp_redis_store *store, struct sp_span key) {
    return store->config->redis->cluster.count ? sp_redis_key_slot(key) : 0;
}

/* ---- Life ---- */

static struct sp_redis_pending *pending_new(struct sp_redis_store *store, size_t n, size_t bytes) {
    struct sp_redis_pending *pending = sp_pool_get(&store->pool);
    if (!pending)
        return NULL;
    memset(pending, 0, offsetof(struct sp_redis_pending, few_asked));
    sp_list_init(&pending->command.node);
    sp_list_init(&pending->ring);
    pending->store = store;
    pending->n = n;
    pending->asked = pending->few_asked;
    pending->held = pending->few_held;
    pending->bytes = pending->few_bytes;
    if (n <= SP_REDIS_FEW && bytes <= SP_REDIS_FEW_BYTES)
        return pending;
    size_t asked_size = n * sizeof *pending->asked, held_size = n * sizeof *pending->held;
    char *many = malloc(asked_size + held_size + bytes);
    if (!many) {
        sp_pool_put(&store->pool, pending);
        return NULL;
    }
    pending->many = many;
    pending->asked = (struct sp_redis_asked *)(void *)many;
    pending->held = (struct sp_redis_held *)(void *)(many + asked_size);
    pending->bytes = many + asked_size + held_size;
    return pending;
}

void sp_redis_command_free(struct sp_redis_pending *pending) {
    struct sp_redis_store *store = pending->store;
    sp_list_remove(&pending->ring);
    free(pending->many);
    sp_pool_put(&store->pool, pending);
}

static void put_off(struct sp_redis_store *store, const struct sp_redis_held *held, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (held[i].owed)
            sp_ledger_put_off(&store->ledger, held[i].owed);
}

static void replied(struct sp_redis_command *command, const struct sp_resp_reply *reply);

int sp_redis_command_send(struct sp_redis_store *store, unsigned slot, struct sp_redis_asked *asked, struct sp_redis_held *held, size_t n,
                          bool peek, uint64_t now_us, struct sp_redis_pending **ret) {
    struct sp_redis_pending *pending = pending_new(store, n, sp_redis_wire_size(asked, n));
    int r = -ENOMEM;
    if (pending) {
        memcpy(pending->asked, asked, n * sizeof *asked);
        memcpy(pending->held, held, n * sizeof *held);
        pending->command.replied = replied;
        pending->peek = peek;
        pending->prefix_len = strlen(store->config->redis->prefix);
        pending->sent_us = now_us;
        pending->len = sp_redis_wire_format(pending->asked, n, peek, store->source, pending->bytes);
        r = sp_redis_route_send(store->route, slot, &pending->command, pending->bytes, pending->len);
    }
    if (r < 0) {
        put_off(store, held, n);
        if (pending)
            sp_redis_command_free(pending);
        return r;
    }
    store->commands++;
    *ret = pending;
    return 0;
}

void sp_redis_command_give_back(struct sp_redis_pending *pending) {
    struct sp_redis_store *store = pending->store;
    for (size_t i = 0; i < pending->n; i++) {
        const struct sp_redis_held *held = &pending->held[i];
        uint64_t slack_us = held->may_lease ? SP_LEASE_MS * 1000 : 0, at_us = sp_max(held->taken_us, slack_us + 1) - slack_us;
        sp_ledger_owe(&store->ledger, sp_span_from(pending->asked[i].key, pending->prefix_len), &pending->asked[i].policy,
                      (int64_t)(held->took + held->leased), held->kind == SP_LIMIT_REQUESTS ? at_us : 0);
    }
    sp_redis_settle_wake(store);
}

/* ---- Replies ---- */

/* Who was to be paid along with it. */
static void settled(struct sp_redis_pending *pending, bool sure) {
    struct sp_redis_store *store = pending->store;
    for (size_t i = 0; i < pending->n; i++) {
        struct sp_owed *owed = sp_take(pending->held[i].owed);
        if (owed && sure)
            sp_ledger_paid(&store->ledger, owed);
        else if (owed)
            sp_ledger_unsure(&store->ledger, owed);
    }
    if (pending->settles_only)
        store->n_paying--;
    if (!sp_ledger_is_empty(&store->ledger))
        sp_redis_settle_wake(store);
}

/* Nobody knows what it did, or it did nothing. */
static void failed(struct sp_redis_pending *pending) {
    settled(pending, false);
    if (pending->ask)
        sp_redis_ask_failed(pending); /* which leaves us to ourselves */
}

/* What was said is used first: the reply may be gone once others were told of the failure. */
static void refused(struct sp_redis_pending *pending, const char *what, struct sp_span said) {
    char copy[96];
    size_t len = sp_min(said.len, sizeof copy);
    if (len)
        memcpy(copy, said.at, len);
    failed(pending);
    sp_redis_route_failed(&pending->command, what, sp_span(copy, len));
    sp_redis_command_free(pending);
}

static void answered(struct sp_redis_pending *pending, const struct sp_resp_reply *reply) {
    struct sp_redis_told told[SP_REDIS_PARTS_MAX] SP_UNINITIALIZED; /* as many as are decoded are read */
    if (sp_redis_wire_decode(reply, pending->asked, pending->n, pending->peek, &pending->admitted, told) < 0) {
        refused(pending, "Redis decided in an unknown form", sp_span(NULL, 0));
        return;
    }
    settled(pending, true);
    pending->answered = true;
    for (size_t i = 0; i < pending->n && !pending->settles_only; i++) {
        struct sp_redis_held *held = &pending->held[i];
        bool took = pending->admitted && !pending->peek && told[i].answer.bucket.admitted;
        held->took = took ? pending->asked[i].cost : 0;
        held->leased = told[i].leased;
        held->taken_us = told[i].taken_us;
    }
    if (pending->ask) {
        sp_redis_route_succeeded(&pending->command);
        sp_redis_ask_answered(pending, told);
        return;
    }
    /* A late answer proves that Redis lives, not that it keeps the deadline. */
    if (!pending->settles_only)
        sp_redis_command_give_back(pending);
    struct sp_redis_store *store = pending->store;
    sp_redis_command_free(pending);
    sp_redis_settle_send(store);
}

static void replied(struct sp_redis_command *command, const struct sp_resp_reply *reply) {
    struct sp_redis_pending *pending = SP_CONTAINER(command, struct sp_redis_pending, command);
    bool wanted = pending->ask || pending->settles_only;
    switch (sp_redis_route_consider(pending->store->route, command, reply, wanted ? pending->bytes : NULL, wanted ? pending->len : 0)) {
    case SP_REDIS_AGAIN:
        pending->store->commands++;
        return;
    case SP_REDIS_ANSWER:
        answered(pending, reply);
        return;
    case SP_REDIS_ERROR:
        refused(pending, "Redis refused a decision", reply->value.text);
        return;
    case SP_REDIS_FAILED:
        failed(pending);
        sp_redis_command_free(pending);
        return;
    }
}
