/* Settlements: many buckets in one command, a few commands at one time, so that what an outage has left over does not stand in the way of
 * decisions. */
#include <errno.h>

#include "lease.h"
#include "redis_command.h"

#define BUCKETS_MAX   16   /* in one command */
#define COMMANDS_MAX  4    /* under way */
#define LOOK_AHEAD    64   /* for buckets of the same slot */
#define PATIENCE_US   (UINT64_C(1000) * 1000) /* with a Redis that only settlements are sent to */

_Static_assert(BUCKETS_MAX <= SP_REDIS_PARTS_MAX, "a command of settlements is a command");

/* ---- Owing ---- */

void sp_redis_settle_wake(struct sp_redis_store *store) {
    if (!store->tick.active && !sp_ledger_is_empty(&store->ledger))
        sp_timer_start(store->loop, &store->tick, SP_SETTLE_MS);
}

/* With no Redis configured what is owed is lost: nobody would ever be paid, and much later it would be wrong. */
static void owe(struct sp_redis_store *store, struct sp_span key, const struct sp_redis_policy *policy, int64_t delta, uint64_t at_us) {
    if (!store->config || !store->config->redis) {
        store->ledger.lost += delta != 0;
        return;
    }
    sp_ledger_owe(&store->ledger, key, policy, delta, at_us);
    sp_redis_settle_wake(store);
}

static void owe_limit(struct sp_redis_store *store, const struct sp_limit_config *limit, enum sp_limit_kind kind,
                      const struct sp_limit_facts *facts, int64_t delta, uint64_t at_us) {
    char key[SP_REDIS_KEY_MAX] SP_UNINITIALIZED;
    ssize_t len = sp_subject_redis_key("", limit, kind, facts, key);
    if (len < 0) {
        store->ledger.lost++;
        return;
    }
    struct sp_redis_policy policy = sp_redis_policy_of(store, limit, kind);
    owe(store, sp_span(key, (size_t)len), &policy, delta, at_us);
}

void sp_redis_store_settle(struct sp_redis_store *store, const struct sp_limit_config *limit, enum sp_limit_kind kind,
                           const struct sp_limit_facts *facts, int64_t delta) {
    if (kind == SP_LIMIT_TOKENS || delta < 0)
        owe_limit(store, limit, kind, facts, delta, 0);
}

void sp_redis_store_settle_known(struct sp_redis_store *store, const struct sp_limit_config *limit, enum sp_limit_kind kind,
                                 struct sp_span key, int64_t delta) {
    struct sp_redis_policy policy = sp_redis_policy_of(store, limit, kind);
    if (kind == SP_LIMIT_TOKENS || delta < 0)
        owe(store, key, &policy, delta, 0);
}

void sp_redis_store_give_back(struct sp_redis_store *store, const struct sp_limit_config *limit, enum sp_limit_kind kind,
                              const struct sp_limit_facts *facts, uint64_t cost, uint64_t taken_us) {
    uint64_t slack_us = limit->mode == SP_LIMIT_LEASED ? SP_LEASE_MS * 1000 : 0;
    uint64_t at_us = kind == SP_LIMIT_REQUESTS ? sp_max(taken_us, slack_us + 1) - slack_us : 0;
    owe_limit(store, limit, kind, facts, (int64_t)sp_min(cost, SP_REDIS_BURST_MAX), at_us);
}

void sp_redis_store_settle_key(struct sp_redis_store *store, struct sp_span key, int64_t delta) {
    struct sp_redis_policy policy = {.ratio = {.den = 1}};
    if (key.len == 0 || key.len > SP_REDIS_KEY_MAX || !store->config)
        return;
    for (size_t i = 0; i < store->config->n_limits; i++) {
        const struct sp_limit_config *limit = &store->config->limits[i];
        enum sp_limit_kind kind;
        if (sp_subject_key_kind(key, limit, &kind) == 0 && kind != SP_LIMIT_CONCURRENCY)
            policy = sp_redis_policy_of(store, limit, kind);
    }
    owe(store, key, &policy, delta, 0);
}

/* ---- Sending ---- */

static bool draft_one(struct sp_redis_store *store, struct sp_owed *owed, unsigned *ret_slot) {
    struct sp_redis_draft *draft = &store->draft;
    const char *prefix = store->config->redis->prefix;
    size_t prefix_len = strlen(prefix), i = draft->n;
    if (prefix_len + owed->key_len > SP_REDIS_KEY_MAX)
        return false;
    memcpy(draft->key[i], prefix, prefix_len);
    memcpy(draft->key[i] + prefix_len, owed->key, owed->key_len);
    draft->asked[i] = (struct sp_redis_asked){
        .key = sp_span(draft->key[i], prefix_len + owed->key_len), .policy = owed->policy, .pays = true};
    draft->held[i] = (struct sp_redis_held){.owed = owed};
    *ret_slot = sp_redis_slot_of(store, draft->asked[i].key);
    return true;
}

/* The first bucket that is due, and others of its slot near it. false: there is none. */
static bool draft_some(struct sp_redis_store *store, unsigned *ret_slot) {
    struct sp_redis_draft *draft = &store->draft;
    struct sp_ledger *ledger = &store->ledger;
    unsigned looked = 0;
    draft->n = 0;
    sp_list_each_safe(node, &ledger->due) {
        struct sp_owed *owed = sp_list_entry(node, struct sp_owed, node);
        unsigned slot;
        if (draft->n == BUCKETS_MAX || looked++ == LOOK_AHEAD)
            break;
        bool possible = draft_one(store, owed, &slot);
        if (possible && draft->n > 0 && slot != *ret_slot)
            continue;
        if (!possible || !sp_redis_route_usable(store->route, slot)) {
            sp_ledger_put_off(ledger, owed);
            looked--;
            continue;
        }
        *ret_slot = slot;
        draft->n += sp_ledger_begin(ledger, owed, sp_clock_us(), &draft->asked[draft->n].payment);
    }
    return draft->n > 0;
}

void sp_redis_settle_send(struct sp_redis_store *store) {
    struct sp_redis_draft *draft = &store->draft;
    unsigned slot = 0;
    if (!store->config || !store->config->redis)
        return;
    while (store->n_paying < COMMANDS_MAX && draft_some(store, &slot)) {
        struct sp_redis_pending *pending;
        if (sp_redis_command_send(store, slot, draft->asked, draft->held, draft->n, false, sp_clock_us(), &pending) < 0)
            return; /* all of it was put off */
        pending->settles_only = true;
        sp_list_append(&store->paying, &pending->ring);
        store->n_paying++;
    }
}

void sp_redis_settle_tick(struct sp_timer *timer) {
    struct sp_redis_store *store = SP_CONTAINER(timer, struct sp_redis_store, tick);
    if (!sp_list_empty(&store->paying)) {
        struct sp_redis_pending *oldest = sp_list_entry(store->paying.next, struct sp_redis_pending, ring);
        if (sp_clock_us() - oldest->sent_us > PATIENCE_US)
            sp_redis_route_timed_out(&oldest->command); /* may be gone, and others with it */
    }
    sp_ledger_tick(&store->ledger);
    sp_redis_settle_send(store);
    sp_redis_settle_wake(store);
}

bool sp_redis_store_settled(struct sp_redis_store *store) {
    sp_ledger_tick(&store->ledger);
    sp_redis_settle_send(store);
    return sp_ledger_is_empty(&store->ledger);
}
