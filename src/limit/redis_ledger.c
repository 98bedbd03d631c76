#include "redis_ledger.h"

#define DELTA_MAX ((int64_t)SP_REDIS_BURST_MAX)

void sp_ledger_init(struct sp_ledger *ledger) {
    *ledger = (struct sp_ledger){0};
    sp_random(&ledger->hash_key, sizeof ledger->hash_key);
    sp_map_init(&ledger->map);
    sp_list_init(&ledger->collecting);
    sp_list_init(&ledger->due);
}

static void drop(struct sp_ledger *ledger, struct sp_owed *owed) {
    sp_list_remove(&owed->node);
    sp_map_remove(&ledger->map, &owed->map_node);
    free(owed);
}

void sp_ledger_free(struct sp_ledger *ledger) {
    for (size_t i = 0; i < ledger->map.n_chains; i++)
        while (ledger->map.chains[i])
            drop(ledger, SP_CONTAINER(ledger->map.chains[i], struct sp_owed, map_node));
    sp_map_free(&ledger->map);
}

void sp_ledger_lose(struct sp_ledger *ledger) {
    ledger->lost += ledger->map.count;
    sp_ledger_free(ledger);
}

static struct sp_owed *find(const struct sp_ledger *ledger, uint64_t hash, struct sp_span key) {
    for (struct sp_map_node *node = sp_map_first(&ledger->map, hash); node; node = sp_map_next(node)) {
        struct sp_owed *owed = SP_CONTAINER(node, struct sp_owed, map_node);
        if (sp_span_eq(sp_span(owed->key, owed->key_len), key))
            return owed;
    }
    return NULL;
}

struct sp_owed *sp_ledger_find(const struct sp_ledger *ledger, struct sp_span key) {
    if (ledger->map.count == 0)
        return NULL;
    struct sp_owed *owed = find(ledger, sp_hash_span(&ledger->hash_key, key), key);
    return owed && !owed->under_way ? owed : NULL;
}

bool sp_ledger_is_empty(const struct sp_ledger *ledger) { return ledger->map.count == 0; }

static struct sp_owed *open_account(struct sp_ledger *ledger, uint64_t hash, struct sp_span key) {
    struct sp_owed *owed = ledger->map.count < SP_SETTLEMENTS_MAX ? calloc(1, sizeof *owed + key.len) : NULL;
    if (!owed)
        return NULL;
    if (sp_map_add(&ledger->map, &owed->map_node, hash) < 0) {
        free(owed);
        return NULL;
    }
    owed->key_len = key.len;
    memcpy(owed->key, key.at, key.len);
    sp_list_init(&owed->node);
    sp_list_append(&ledger->collecting, &owed->node);
    return owed;
}

void sp_ledger_owe(struct sp_ledger *ledger, struct sp_span key, const struct sp_redis_policy *policy, int64_t delta, uint64_t at_us) {
    if (delta == 0)
        return;
    uint64_t hash = sp_hash_span(&ledger->hash_key, key);
    struct sp_owed *owed = find(ledger, hash, key);
    if (!owed)
        owed = open_account(ledger, hash, key);
    if (!owed) {
        ledger->lost++;
        return;
    }
    if (owed->policy.ratio.num == 0 || (policy->ratio.num > 0 && policy->revision >= owed->policy.revision))
        owed->policy = *policy;
    if (__builtin_add_overflow(owed->unsent, delta, &owed->unsent))
        owed->unsent = delta < 0 ? INT64_MIN : INT64_MAX;
    if (at_us)
        owed->unsent_at_us = owed->unsent_at_us ? sp_min(owed->unsent_at_us, at_us) : at_us;
}

void sp_ledger_tick(struct sp_ledger *ledger) {
    while (!sp_list_empty(&ledger->collecting)) {
        struct sp_list *node = ledger->collecting.next;
        sp_list_remove(node);
        sp_list_append(&ledger->due, node);
    }
}

/* What was owed becomes what is sent. */
static void number(struct sp_ledger *ledger, struct sp_owed *owed, uint64_t now_us) {
    int64_t delta = sp_max(sp_min(owed->unsent, DELTA_MAX), -DELTA_MAX);
    owed->unsent -= delta;
    owed->sent = (struct sp_redis_payment){.delta = delta, .sequence = ++ledger->sequence, .at_us = owed->unsent_at_us};
    if (owed->unsent == 0)
        owed->unsent_at_us = 0;
    owed->first_sent_us = now_us;
}

bool sp_ledger_begin(struct sp_ledger *ledger, struct sp_owed *owed, uint64_t now_us, struct sp_redis_payment *ret) {
    bool too_old = owed->sent.delta != 0 && now_us - owed->first_sent_us > SP_SETTLE_REPEAT_MS * UINT64_C(1000);
    if (too_old) { /* Redis may have forgotten by now whether it has counted this one */
        owed->sent.delta = 0;
        ledger->lost++;
    }
    if (owed->sent.delta == 0 && owed->unsent == 0) {
        drop(ledger, owed);
        return false;
    }
    if (owed->sent.delta == 0)
        number(ledger, owed, now_us);
    *ret = owed->sent;
    owed->under_way = true;
    sp_list_remove(&owed->node);
    return true;
}

void sp_ledger_put_off(struct sp_ledger *ledger, struct sp_owed *owed) {
    owed->under_way = false;
    sp_list_remove(&owed->node);
    sp_list_append(&ledger->collecting, &owed->node);
}

void sp_ledger_paid(struct sp_ledger *ledger, struct sp_owed *owed) {
    owed->sent.delta = 0;
    if (owed->unsent == 0)
        drop(ledger, owed);
    else
        sp_ledger_put_off(ledger, owed);
}

void sp_ledger_unsure(struct sp_ledger *ledger, struct sp_owed *owed) {
    owed->sent.again = true;
    sp_ledger_put_off(ledger, owed);
}
