/* Asks: one command each, or in a cluster one for each hash slot that their buckets live in. */
#include <errno.h>

#include "redis_command.h"

#define TICK_US 1000 /* of a timer */

/* ---- Deadlines ---- */

/* Timers are up to a tick late, decisions never: the timer is set a tick early and takes what is due within one. One that fires too early
 * is set anew, so that it is not touched for each ask of many. */
static void watch_first(struct sp_redis_store *store, uint64_t now_us) {
    if (sp_list_empty(&store->waiting))
        return;
    const struct sp_redis_ask *first = sp_list_entry(store->waiting.next, struct sp_redis_ask, node);
    uint64_t due_us = ((const struct sp_redis_pending *)first->pending)->due_us;
    if (store->due.active && store->watched_us <= due_us)
        return;
    uint64_t ticks = due_us > now_us ? (due_us - now_us) / TICK_US : 0;
    store->watched_us = due_us;
    sp_timer_start(store->loop, &store->due, ticks > 0 ? ticks - 1 : 0);
}

/* Most asks are due in the order they come in. */
static void wait_for(struct sp_redis_store *store, struct sp_redis_ask *ask, uint64_t due_us) {
    struct sp_list *after = store->waiting.prev;
    while (after != &store->waiting) {
        const struct sp_redis_pending *pending = sp_list_entry(after, struct sp_redis_ask, node)->pending;
        if (pending->due_us <= due_us)
            break;
        after = after->prev;
    }
    sp_list_insert_(&ask->node, after, after->next);
    if (after == &store->waiting)
        watch_first(store, ask->sent_us);
}

/* The next command of the same ask, after which this one is alone; NULL: it was. */
static struct sp_redis_pending *part_with(struct sp_redis_pending *pending) {
    bool alone = sp_list_empty(&pending->ring);
    struct sp_redis_pending *next = sp_list_entry(pending->ring.next, struct sp_redis_pending, ring);
    sp_list_remove(&pending->ring);
    return alone ? NULL : next;
}

/* From here on nobody waits: what is under way gives back what it will have taken, what has been answered does so now. Whoever is still
 * under way goes on alone, or in `late`, until it has its reply. */
static void forget(struct sp_redis_ask *ask, struct sp_list *late) {
    struct sp_redis_pending *next = sp_take(ask->pending);
    sp_list_remove(&ask->node);
    while (next) {
        struct sp_redis_pending *pending = next;
        next = part_with(pending);
        pending->ask = NULL;
        if (pending->answered) {
            sp_redis_command_give_back(pending);
            sp_redis_command_free(pending);
        } else if (late) {
            sp_list_append(late, &pending->ring);
        }
    }
}

void sp_redis_asks_due(struct sp_timer *timer) {
    struct sp_redis_store *store = SP_CONTAINER(timer, struct sp_redis_store, due);
    while (!sp_list_empty(&store->waiting)) {
        struct sp_redis_ask *ask = sp_list_entry(store->waiting.next, struct sp_redis_ask, node);
        uint64_t now_us = sp_clock_us();
        if (((struct sp_redis_pending *)ask->pending)->due_us > now_us + TICK_US) {
            watch_first(store, now_us);
            return;
        }
        forget(ask, &store->late);
        ask->answered(ask, false);
        while (!sp_list_empty(&store->late)) { /* each may take others with it */
            struct sp_redis_pending *late = sp_list_entry(store->late.next, struct sp_redis_pending, ring);
            sp_list_remove(&late->ring);
            sp_redis_route_timed_out(&late->command);
        }
    }
}

void sp_redis_store_cancel(struct sp_redis_store *store, struct sp_redis_ask *ask) {
    (void)store;
    if (ask->pending)
        forget(ask, NULL);
}

/* ---- Asking ---- */

/* What an earlier part has in common with it is not written a second time. */
static ssize_t draft_key(struct sp_redis_draft *draft, const char *prefix, const struct sp_redis_ask *ask, size_t i) {
    const struct sp_redis_part *part = &ask->part[i];
    for (size_t before = 0; before < i; before++) {
        if (ask->part[before].limit != part->limit)
            continue;
        struct sp_span key = draft->asked[before].key;
        memcpy(draft->key[i], key.at, key.len);
        return (ssize_t)sp_subject_other_kind(draft->key[i], key.len, ask->part[before].kind, part->kind);
    }
    return sp_subject_redis_key(prefix, part->limit, part->kind, ask->facts, draft->key[i]);
}

static int draft_part(struct sp_redis_store *store, const struct sp_redis_ask *ask, size_t i) {
    struct sp_redis_draft *draft = &store->draft;
    const struct sp_redis_part *part = &ask->part[i];
    ssize_t len = draft_key(draft, store->config->redis->prefix, ask, i);
    if (len < 0)
        return (int)len;
    const struct sp_redis_prepared *prepared = sp_redis_prepared_of(store, part->limit, part->kind);
    draft->asked[i] = (struct sp_redis_asked){.key = sp_span(draft->key[i], (size_t)len),
                                              .policy = prepared ? prepared->policy : sp_redis_policy_of(store, part->limit, part->kind),
                                              .in_writing = prepared ? sp_span(prepared->text, prepared->len) : sp_span(NULL, 0),
                                              .cost = sp_min(part->cost, SP_REDIS_BURST_MAX + 1), /* more never fits, and stays exact */
                                              .lease = sp_min(part->lease, SP_REDIS_BURST_MAX),
                                              .shadow = part->limit->shadow};
    draft->held[i] = (struct sp_redis_held){
        .kind = part->kind, .may_lease = part->limit->mode == SP_LIMIT_LEASED, .part = (uint8_t)i};
    return 0;
}

/* What is owed to the bucket goes along. */
static void settle_along(struct sp_redis_store *store, uint64_t now_us, struct sp_redis_asked *asked, struct sp_redis_held *held) {
    struct sp_owed *owed = sp_ledger_find(&store->ledger, sp_span_from(asked->key, strlen(store->config->redis->prefix)));
    asked->pays = owed && sp_ledger_begin(&store->ledger, owed, now_us, &asked->payment);
    held->owed = asked->pays ? owed : NULL;
}

/* Sends those of the draft's buckets that live in the slot. */
static int send_slot(struct sp_redis_store *store, struct sp_redis_ask *ask, const unsigned *slots, unsigned slot, uint64_t due_us) {
    struct sp_redis_asked asked[SP_REDIS_PARTS_MAX] SP_UNINITIALIZED; /* n of each are set, and read */
    struct sp_redis_held held[SP_REDIS_PARTS_MAX] SP_UNINITIALIZED;
    struct sp_redis_pending *pending, *first = ask->pending;
    size_t n = 0;
    for (size_t i = 0; i < ask->n; i++) {
        if (slots[i] != slot)
            continue;
        asked[n] = store->draft.asked[i];
        held[n] = store->draft.held[i];
        settle_along(store, ask->sent_us, &asked[n], &held[n]);
        n++;
    }
    int r = sp_redis_command_send(store, slot, asked, held, n, ask->peek, ask->sent_us, &pending);
    if (r < 0)
        return r;
    pending->ask = ask;
    pending->due_us = due_us;
    if (first)
        sp_list_append(&first->ring, &pending->ring);
    else
        ask->pending = pending;
    return 0;
}

static int draft_ask(struct sp_redis_store *store, const struct sp_redis_ask *ask, unsigned slots[SP_REDIS_PARTS_MAX]) {
    for (size_t i = 0; i < ask->n; i++) {
        int r = draft_part(store, ask, i);
        if (r < 0)
            return r;
        slots[i] = sp_redis_slot_of(store, store->draft.asked[i].key);
        if (!sp_redis_route_usable(store->route, slots[i]))
            return -ENOTCONN;
    }
    return 0;
}

int sp_redis_store_ask(struct sp_redis_store *store, struct sp_redis_ask *ask) {
    unsigned slots[SP_REDIS_PARTS_MAX] = {0};
    ask->pending = NULL;
    sp_list_init(&ask->node);
    if (!store->config || !store->config->redis)
        return -ENOTCONN;
    if (ask->n == 0 || ask->n > SP_REDIS_PARTS_MAX)
        return -EINVAL;
    ask->sent_us = ask->now_us ? ask->now_us : sp_clock_us();
    uint64_t due_us = ask->due_us ? ask->due_us : ask->sent_us + store->config->redis->deadline_ms * 1000;
    int r = draft_ask(store, ask, slots);
    for (size_t i = 0; i < ask->n && r == 0; i++) {
        bool sent = false;
        for (size_t before = 0; before < i; before++)
            sent = sent || slots[before] == slots[i];
        if (!sent)
            r = send_slot(store, ask, slots, slots[i], due_us);
    }
    if (r < 0)
        sp_redis_store_cancel(store, ask);
    else
        wait_for(store, ask, due_us);
    return r;
}

/* ---- Answers ---- */

void sp_redis_ask_failed(struct sp_redis_pending *pending) {
    struct sp_redis_ask *ask = pending->ask;
    forget(ask, NULL);
    ask->answered(ask, false);
}

/* A refused ask has taken nothing, whatever one of its slots decided. */
static void take_nothing(struct sp_redis_ask *ask, struct sp_redis_pending *pending) {
    for (size_t i = 0; i < pending->n; i++) {
        struct sp_redis_part *part = &ask->part[pending->held[i].part];
        struct sp_bucket_answer *bucket = &part->answer.bucket;
        bucket->remaining = sp_min(bucket->remaining + pending->held[i].took + part->leased, part->answer.burst);
        part->leased = 0;
    }
    sp_redis_command_give_back(pending);
}

void sp_redis_ask_answered(struct sp_redis_pending *pending, const struct sp_redis_told *told) {
    struct sp_redis_ask *ask = pending->ask;
    for (size_t i = 0; i < pending->n; i++) {
        struct sp_redis_part *part = &ask->part[pending->held[i].part];
        part->answer = told[i].answer;
        part->leased = told[i].leased;
        part->taken_us = told[i].taken_us;
    }
    bool complete = true, admitted = true;
    const struct sp_redis_pending *one = pending;
    do {
        complete = complete && one->answered;
        admitted = admitted && one->admitted;
        one = sp_list_entry(one->ring.next, struct sp_redis_pending, ring);
    } while (one != pending);
    if (!complete)
        return;
    sp_list_remove(&ask->node);
    ask->pending = NULL;
    while (pending) {
        struct sp_redis_pending *next = part_with(pending);
        if (!admitted)
            take_nothing(ask, pending);
        sp_redis_command_free(pending);
        pending = next;
    }
    ask->answered(ask, true);
}
