/* What requests hold: written down when they are admitted, settled once when they are over, by us or by who finds that we were killed. */
#include <errno.h>

#include "limiter.h"
#include "subject.h"

/* ---- What was taken goes back ---- */

/* false: somebody has settled for us. */
static bool end_holding(struct sp_limiter *limiter, struct sp_limit_request *request) {
    struct sp_holding *holding = sp_take(request->holding);
    return !holding || sp_holding_end(&limiter->holdings, holding);
}

/* The record first: what is ours no more is not given back. Whoever is killed in between leaves places taken, so as little as possible is
 * in between. */
static bool give_places(struct sp_limiter *limiter, struct sp_limit_request *request) {
    uint64_t names[SP_REQUEST_LIMITS_MAX] SP_UNINITIALIZED;
    size_t n = 0;
    for (uint32_t rest = request->places; rest; rest &= rest - 1)
        names[n++] = sp_place_name(limiter, request, (size_t)__builtin_ctz(rest));
    request->places = 0;
    if (!end_holding(limiter, request))
        return false;
    while (n > 0)
        sp_slots_give(limiter->slots, names[--n]);
    return true;
}

static void undo_bucket(struct sp_deciding *deciding, unsigned kind, size_t i) {
    struct sp_limiter *limiter = deciding->limiter;
    const struct sp_limit_request *request = deciding->request;
    const struct sp_limit_config *limit = request->limits[i];
    uint64_t cost = sp_cost_of(request, kind);
    if (deciding->taken[kind] >> i & 1)
        sp_local_give_back(&limiter->local, &deciding->here[kind][i]);
    if (deciding->leased[kind] >> i & 1)
        sp_lease_give_back(&limiter->leases, sp_lease_name(limit->slot, kind, request->whose[i]), cost, deciding->expiry_us[kind][i]);
    if (deciding->asked[kind] >> i & 1)
        sp_redis_store_give_back(limiter->redis, limit, kind, &request->facts, cost, deciding->asked_us[kind][i]);
}

static void undo_buckets(struct sp_deciding *deciding) {
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (size_t i = 0; i < deciding->request->n_limits; i++)
            undo_bucket(deciding, kind, i);
}

void sp_deciding_undo(struct sp_deciding *deciding) {
    (void)give_places(deciding->limiter, deciding->request);
    undo_buckets(deciding);
}

/* ---- What is kept is written down ---- */

void sp_deciding_note_place(struct sp_deciding *deciding) {
    struct sp_limiter *limiter = deciding->limiter;
    struct sp_limit_request *request = deciding->request;
    struct sp_holding_item item SP_UNINITIALIZED;
    item.what = SP_HELD_PLACE;
    item.key_len = 0;
    item.name = deciding->place.name;
    if (!request->holding)
        request->holding = sp_holding_begin(&limiter->holdings);
    deciding->place_noted = request->holding && sp_holding_note(request->holding, &item, 1);
}

/* We were taken for dead: what counted in the record is another's to settle by now. What we took last is in none. */
static void lose_holding(struct sp_deciding *deciding) {
    (void)end_holding(deciding->limiter, deciding->request);
    deciding->request->places = 0;
}

void sp_deciding_count_place(struct sp_deciding *deciding) {
    if (deciding->place_noted && !sp_holding_count(deciding->request->holding, 1, 0))
        lose_holding(deciding);
    deciding->request->places |= 1u << deciding->next_place;
}

static bool describe_tokens(const struct sp_limit_request *request, size_t i, struct sp_holding_item *item) {
    const struct sp_limit_config *limit = request->limits[i];
    enum sp_limit_from from = request->from[SP_LIMIT_TOKENS][i];
    item->key_len = 0;
    if (from == SP_FROM_REDIS) {
        char key[SP_REDIS_KEY_MAX] SP_UNINITIALIZED;
        ssize_t len = sp_subject_redis_key("", limit, SP_LIMIT_TOKENS, &request->facts, key);
        if (len < 0 || len > SP_HOLDING_KEY_MAX)
            return false;
        item->what = SP_HELD_REDIS;
        item->key_len = (uint8_t)len;
        memcpy(item->key, key, (size_t)len);
        return true;
    }
    item->what = from == SP_FROM_SHARE ? SP_HELD_SHARE : SP_HELD_LOCAL;
    item->name = sp_local_name(from == SP_FROM_SHARE ? SP_SPACE_SHARE : SP_SPACE_LOCAL, SP_LIMIT_TOKENS, limit->slot, request->whose[i]).key;
    return true;
}

/* As many as there is room for: of the others what was reserved stays spent. */
static void write_tokens(struct sp_deciding *deciding) {
    struct sp_limit_request *request = deciding->request;
    struct sp_holding_item item[SP_HOLDING_ITEMS_MAX] SP_UNINITIALIZED;
    if (!request->holding)
        request->holding = sp_holding_begin(&deciding->limiter->holdings);
    if (!request->holding)
        return;
    size_t n = 0, counted = sp_holding_counted(request->holding);
    for (size_t i = 0; i < request->n_limits && n + counted < SP_HOLDING_ITEMS_MAX; i++)
        if (request->from[SP_LIMIT_TOKENS][i] != SP_FROM_NOWHERE && describe_tokens(request, i, &item[n]))
            request->noted[i] = (uint8_t)(counted + ++n);
    (void)sp_holding_note(request->holding, item, n); /* they fit */
    if (!sp_holding_count(request->holding, n, request->tokens))
        lose_holding(deciding);
}

static void remember_sources(struct sp_deciding *deciding) {
    struct sp_limit_request *request = deciding->request;
    uint32_t redis = deciding->leased[SP_LIMIT_TOKENS] | deciding->asked[SP_LIMIT_TOKENS], here = deciding->taken[SP_LIMIT_TOKENS];
    for (uint32_t rest = redis; rest; rest &= rest - 1)
        request->from[SP_LIMIT_TOKENS][__builtin_ctz(rest)] = SP_FROM_REDIS;
    for (uint32_t rest = here; rest; rest &= rest - 1)
        request->from[SP_LIMIT_TOKENS][__builtin_ctz(rest)] = deciding->space == SP_SPACE_SHARE ? SP_FROM_SHARE : SP_FROM_LOCAL;
    request->tokens_held = redis | here ? request->tokens : 0;
}

void sp_deciding_keep(struct sp_deciding *deciding) {
    struct sp_limit_request *request = deciding->request;
    remember_sources(deciding);
    if (request->tokens_held)
        write_tokens(deciding);
    else if (request->places == 0)
        (void)end_holding(deciding->limiter, request); /* it was for places, and no limit gave one */
}

/* ---- The end of a request ---- */

/* holding: the record as it was, NULL: none. Of what it names the key is known. */
static void settle_tokens(struct sp_limiter *limiter, struct sp_limit_request *request, const struct sp_holding *holding, int64_t delta) {
    bool in_redis = false;
    for (size_t i = 0; i < request->n_limits && delta != 0; i++) {
        const struct sp_limit_config *limit = request->limits[i];
        enum sp_limit_from from = request->from[SP_LIMIT_TOKENS][i];
        if (from == SP_FROM_REDIS) {
            in_redis = true;
            if (holding && request->noted[i])
                sp_redis_store_settle_known(limiter->redis, limit, SP_LIMIT_TOKENS, sp_holding_key(holding, request->noted[i] - 1u), delta);
            else
                sp_redis_store_settle(limiter->redis, limit, SP_LIMIT_TOKENS, &request->facts, delta);
        } else if (from != SP_FROM_NOWHERE) {
            enum sp_local_space space = from == SP_FROM_SHARE ? SP_SPACE_SHARE : SP_SPACE_LOCAL;
            sp_local_settle(&limiter->local, sp_local_name(space, SP_LIMIT_TOKENS, limit->slot, request->whose[i]), sp_clock_us(), delta);
        }
    }
    limiter->settlements += in_redis;
}

/* What was held less what was used: numbers beyond what a bucket could hold anyway are kept as that. */
static int64_t difference(uint64_t held, uint64_t used) {
    return (int64_t)sp_min(held, (uint64_t)INT64_MAX) - (int64_t)sp_min(used, (uint64_t)INT64_MAX);
}

static void cancel(struct sp_limiter *limiter, struct sp_limit_request *request) {
    struct sp_deciding *deciding = sp_take(request->pending);
    if (deciding->place_pending)
        sp_slots_cancel(limiter->slots, &deciding->place);
    else
        sp_redis_store_cancel(limiter->redis, &deciding->ask);
    sp_list_remove(&request->node);
    sp_deciding_undo(deciding);
    sp_pool_put(&limiter->decidings, deciding);
}

void sp_limiter_finish(struct sp_limiter *limiter, struct sp_limit_request *request, uint64_t tokens) {
    if (request->pending) {
        cancel(limiter, request);
        return;
    }
    if (request->tokens_held == 0 && request->places == 0)
        return;
    const struct sp_holding *holding = request->holding;
    if (give_places(limiter, request))
        settle_tokens(limiter, request, holding, difference(request->tokens_held, tokens));
    request->tokens_held = 0;
    memset(request->from, SP_FROM_NOWHERE, sizeof request->from);
}

void sp_limiter_progress(struct sp_limiter *limiter, struct sp_limit_request *request, uint64_t tokens) {
    if (request->holding)
        sp_holding_progress(request->holding, tokens);
}

bool sp_limiter_settled(struct sp_limiter *limiter) {
    bool places = sp_slots_settled(limiter->slots);
    return sp_redis_store_settled(limiter->redis) && places;
}

/* ---- What others left ---- */

static void settle_left(void *owner, const struct sp_holding_item *items, size_t n, uint64_t reserved, uint64_t used) {
    struct sp_limiter *limiter = owner;
    int64_t delta = difference(reserved, used);
    limiter->recovered++;
    for (size_t i = 0; i < n; i++) {
        switch ((enum sp_holding_what)items[i].what) {
        case SP_HELD_LOCAL:
        case SP_HELD_SHARE:
            sp_local_settle(&limiter->local, sp_local_bucket_of_key(items[i].name), sp_clock_us(), delta);
            break;
        case SP_HELD_REDIS:
            if (delta != 0)
                sp_redis_store_settle_key(limiter->redis, sp_span(items[i].key, items[i].key_len), delta);
            break;
        case SP_HELD_PLACE:
            sp_slots_give(limiter->slots, items[i].name);
            break;
        }
    }
}

void sp_limiter_recover(struct sp_limiter *limiter) { sp_holdings_recover(&limiter->holdings, sp_clock_us() / 1000, settle_left, limiter); }
