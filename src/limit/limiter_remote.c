/* Decisions with Redis: what leases answer here, and one question for the rest. */
#include "limiter.h"

#define REFILLS_KEPT 16

/* Leases asked for ahead of demand: nobody waits for the answer. */
struct refill {
    struct sp_redis_ask ask;
    struct sp_limiter *limiter;
    struct sp_config *config; /* keeps the limits of the parts */
    uint64_t hash[SP_REDIS_PARTS_MAX];
    struct sp_list node;
};

static struct sp_lease_name lease_of(const struct sp_limit_config *limit, unsigned kind, uint64_t hash) {
    return sp_lease_name(limit->slot, kind, hash);
}

/* A limit of an older snapshot brings an older policy: Redis says which is in force. */
static bool may_be_leased(const struct sp_limiter *limiter, const struct sp_limit_config *limit, unsigned kind) {
    return sp_config_has_limit(limiter->config, limit) && limit->mode == SP_LIMIT_LEASED &&
           sp_lease_possible(sp_limit_rate(limit, kind), sp_limit_burst(limit, kind));
}

/* ---- What Redis told of one bucket ---- */

/* Where another bucket of the question refused, none was granted, and that does not mean that there was none. What was asked for before a
 * reload is lost: it is not for the policy that is in force now. */
static void told_lease(struct sp_limiter *limiter, const struct sp_redis_part *part, uint64_t hash, uint64_t sent_us, bool admitted) {
    if (part->lease > 0 && may_be_leased(limiter, part->limit, part->kind))
        sp_lease_deposit(&limiter->leases, lease_of(part->limit, part->kind, hash), part->leased, admitted ? part->lease : 0, sent_us,
                         part->answer.bucket.remaining);
}

/* ---- Asking ahead ---- */

static void refill_free(struct refill *refill) {
    sp_list_remove(&refill->node);
    sp_config_unref(refill->config);
    sp_pool_put(&refill->limiter->refills, refill);
}

static void refill_answered(struct sp_redis_ask *ask, bool told) {
    struct refill *refill = SP_CONTAINER(ask, struct refill, ask);
    uint64_t now_us = sp_clock_us();
    for (size_t i = 0; i < ask->n && told; i++) {
        sp_limiter_remember(refill->limiter, ask->part[i].limit, ask->part[i].kind, refill->hash[i], now_us, &ask->part[i].answer.bucket);
        told_lease(refill->limiter, &ask->part[i], refill->hash[i], ask->sent_us, true);
    }
    refill_free(refill);
}

/* All wishes that are left, in one question. Where that cannot be asked now, the wish comes again by itself. */
static void send_wishes(struct sp_deciding *deciding) {
    struct sp_limiter *limiter = deciding->limiter;
    struct refill *refill = sp_pool_get(&limiter->refills);
    if (!refill)
        return;
    refill->limiter = limiter;
    refill->config = sp_config_ref(limiter->config);
    sp_list_init(&refill->node);
    sp_list_append(&limiter->refilling, &refill->node);
    refill->ask.n = 0;
    refill->ask.facts = &deciding->request->facts;
    refill->ask.peek = false;
    refill->ask.now_us = deciding->now_us;
    refill->ask.due_us = 0;
    refill->ask.answered = refill_answered;
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (size_t i = 0; i < deciding->request->n_limits; i++) {
            if (deciding->wish[kind][i] == 0)
                continue;
            refill->hash[refill->ask.n] = deciding->request->whose[i];
            refill->ask.part[refill->ask.n++] =
                (struct sp_redis_part){.limit = deciding->request->limits[i], .kind = kind, .lease = deciding->wish[kind][i]};
        }
    if (sp_redis_store_ask(limiter->redis, &refill->ask) < 0)
        refill_free(refill);
}

void sp_limiter_init_refills(struct sp_limiter *limiter) {
    sp_list_init(&limiter->refilling);
    sp_pool_init(&limiter->refills, sizeof(struct refill), REFILLS_KEPT);
}

void sp_limiter_drop_refills(struct sp_limiter *limiter) {
    while (!sp_list_empty(&limiter->refilling))
        refill_free(sp_list_entry(limiter->refilling.next, struct refill, node));
    sp_pool_drain(&limiter->refills);
}

/* ---- Leases ---- */

void sp_deciding_expect_leases(const struct sp_deciding *deciding) {
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (uint32_t rest = deciding->open[kind]; rest; rest &= rest - 1) {
            size_t i = (size_t)__builtin_ctz(rest);
            const struct sp_limit_config *limit = deciding->request->limits[i];
            if (may_be_leased(deciding->limiter, limit, kind))
                sp_lease_expect(&deciding->limiter->leases, lease_of(limit, kind, deciding->request->whose[i]));
        }
}

/* A look: what is held ahead would be given; else Redis is asked. */
static void look_at_lease(struct sp_deciding *deciding, unsigned kind, size_t i) {
    const struct sp_limit_config *limit = deciding->request->limits[i];
    uint64_t tokens, refused_us, burst = sp_limit_burst(limit, kind);
    sp_lease_peek(&deciding->limiter->leases, lease_of(limit, kind, deciding->request->whose[i]), &tokens, &refused_us);
    if (tokens < sp_cost_of(deciding->request, kind))
        return;
    deciding->answers[kind][i] =
        (struct sp_limit_answer){.asked = true, .burst = burst, .bucket = {.admitted = true, .remaining = sp_min(tokens, burst)}};
    deciding->open[kind] &= ~(1u << i);
}

/* true: there is a wish to be sent for what is answered here. What is given is given out once lost_leases() has seen it alive. */
static bool use_lease(struct sp_deciding *deciding, unsigned kind, size_t i) {
    const struct sp_limit_config *limit = deciding->request->limits[i];
    struct sp_lease_answer answer;
    sp_lease_take(&deciding->limiter->leases, lease_of(limit, kind, deciding->request->whose[i]), sp_limit_rate(limit, kind),
                  sp_limit_burst(limit, kind), sp_cost_of(deciding->request, kind), deciding->now_us, &answer);
    deciding->wish[kind][i] = answer.wish;
    if (answer.verdict == SP_LEASE_NONE)
        return false;
    deciding->open[kind] &= ~(1u << i);
    deciding->answers[kind][i] = (struct sp_limit_answer){.asked = true, .burst = answer.burst, .bucket = answer.bucket};
    if (answer.verdict == SP_LEASE_GIVEN) {
        deciding->leased[kind] |= 1u << i;
        deciding->expiry_us[kind][i] = answer.expiry_us;
    }
    return answer.wish > 0;
}

/* Wishes of buckets that Redis is asked about anyway go with the question, if there is one. */
static void use_leases(struct sp_deciding *deciding) {
    bool wishes = false, none = false;
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (uint32_t rest = deciding->open[kind]; rest; rest &= rest - 1) {
            size_t i = (size_t)__builtin_ctz(rest);
            deciding->wish[kind][i] = 0;
            if (!may_be_leased(deciding->limiter, deciding->request->limits[i], kind))
                continue;
            if (deciding->request->peek)
                look_at_lease(deciding, kind, i);
            else if (use_lease(deciding, kind, i))
                wishes = true;
            else
                none = none || deciding->wish[kind][i] > 0;
        }
    if (none && sp_deciding_refused(deciding))
        wishes = true;
    if (wishes)
        send_wishes(deciding);
}

/* What was leased may have died by now (deciding->now_us, read after it was taken), the more so where Redis was asked about the rest.
 * true: something did, which nobody gets, and is open again. */
static bool lost_leases(struct sp_deciding *deciding) {
    bool lost = false;
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (uint32_t rest = deciding->leased[kind]; rest; rest &= rest - 1) {
            unsigned i = (unsigned)__builtin_ctz(rest);
            if (deciding->now_us < deciding->expiry_us[kind][i])
                continue;
            deciding->leased[kind] &= ~(1u << i);
            deciding->open[kind] |= 1u << i;
            deciding->answers[kind][i] = (struct sp_limit_answer){0};
            lost = true;
        }
    return lost;
}

/* ---- The question ---- */

static void hear_part(struct sp_deciding *deciding, const struct sp_redis_part *part, size_t i, bool admitted) {
    struct sp_limiter *limiter = deciding->limiter;
    struct sp_limit_answer *answer = &deciding->answers[part->kind][i];
    *answer = part->answer;
    answer->asked = true;
    sp_limiter_remember(limiter, part->limit, part->kind, deciding->request->whose[i], deciding->now_us, &answer->bucket);
    if (deciding->request->peek)
        return;
    if (admitted && answer->bucket.admitted) {
        deciding->asked[part->kind] |= 1u << i;
        deciding->asked_us[part->kind][i] = part->taken_us;
    }
    if (admitted || answer->bucket.admitted) {
        told_lease(limiter, part, deciding->request->whose[i], deciding->ask.sent_us, admitted);
    } else if (!answer->bucket.admitted && !answer->bucket.never && may_be_leased(limiter, part->limit, part->kind)) {
        answer->bucket.retry_us =
            sp_lease_refuse(&limiter->leases, lease_of(part->limit, part->kind, deciding->request->whose[i]), part->cost, answer->bucket.retry_us);
        answer->bucket.reset_us = sp_max(answer->bucket.reset_us, answer->bucket.retry_us);
    }
}

/* Parts were put in order of kind and limit, as the bits of what is open are. */
static void hear(struct sp_deciding *deciding) {
    const struct sp_redis_part *part = deciding->ask.part;
    bool admitted = true;
    sp_limiter_expect(deciding->limiter, deciding->request, deciding->open, SP_SPACE_SHARE);
    for (size_t n = 0; n < deciding->ask.n; n++)
        admitted = admitted && (part[n].answer.bucket.admitted || part[n].limit->shadow);
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++) {
        for (uint32_t rest = deciding->open[kind]; rest; rest &= rest - 1)
            hear_part(deciding, part++, (size_t)__builtin_ctz(rest), admitted);
        deciding->open[kind] = 0;
    }
}

static void answered(struct sp_redis_ask *ask, bool told) {
    struct sp_deciding *deciding = SP_CONTAINER(ask, struct sp_deciding, ask);
    ask->n = told ? ask->n : 0;
    deciding->now_us = sp_clock_us();
    if (told)
        hear(deciding);
    else
        sp_deciding_here(deciding, SP_SPACE_SHARE);
    if (!sp_deciding_refused(deciding))
        (void)lost_leases(deciding);
    sp_deciding_resume(deciding);
}

static bool send_question(struct sp_deciding *deciding) {
    struct sp_redis_ask *ask = &deciding->ask;
    ask->n = 0;
    ask->facts = &deciding->request->facts;
    ask->peek = deciding->request->peek;
    ask->now_us = deciding->now_us;
    ask->due_us = deciding->due_us;
    ask->answered = answered;
    for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
        for (uint32_t rest = deciding->open[kind]; rest; rest &= rest - 1) {
            size_t i = (size_t)__builtin_ctz(rest);
            ask->part[ask->n++] = (struct sp_redis_part){.limit = deciding->request->limits[i],
                                                         .kind = kind,
                                                         .cost = sp_cost_of(deciding->request, kind),
                                                         .lease = deciding->wish[kind][i]};
        }
    return sp_redis_store_ask(deciding->limiter->redis, ask) == 0;
}

static bool is_open(const struct sp_deciding *deciding) { return deciding->open[SP_LIMIT_REQUESTS] || deciding->open[SP_LIMIT_TOKENS]; }

/* false: leases do not answer everything. */
static bool by_leases(struct sp_deciding *deciding) {
    do {
        use_leases(deciding);
        if (sp_deciding_refused(deciding))
            return true;
        if (is_open(deciding))
            return false;
        deciding->now_us = sp_clock_us();
    } while (lost_leases(deciding));
    return true;
}

bool sp_deciding_with_redis(struct sp_deciding *deciding) {
    if (!is_open(deciding))
        return true; /* an answer came, and nothing was lost while it did */
    if (by_leases(deciding)) {
        deciding->limiter->leased++;
        return true;
    }
    if (deciding->now_us < deciding->due_us && send_question(deciding)) {
        deciding->limiter->strict++;
        return false;
    }
    sp_deciding_here(deciding, SP_SPACE_SHARE);
    return true;
}

/* ---- Reload ---- */

static bool same_bucket(const struct sp_limit_config *a, const struct sp_limit_config *b, unsigned kind) {
    const struct sp_rate *x = sp_limit_rate(a, kind), *y = sp_limit_rate(b, kind);
    return strcmp(a->name, b->name) == 0 && a->by == b->by && x->amount == y->amount && x->period_us == y->period_us &&
           sp_limit_burst(a, kind) == sp_limit_burst(b, kind);
}

void sp_limiter_forget_leases(struct sp_limiter *limiter, const struct sp_config *old, const struct sp_config *config) {
    for (size_t i = 0; i < config->n_limits && old; i++) {
        const struct sp_limit_config *was = NULL;
        for (size_t j = 0; j < old->n_limits; j++)
            if (old->limits[j].slot == config->limits[i].slot)
                was = &old->limits[j];
        for (unsigned kind = 0; kind < SP_LIMIT_BUCKETS; kind++)
            if (!was || !same_bucket(was, &config->limits[i], kind))
                sp_lease_forget(&limiter->leases, config->limits[i].slot, kind);
    }
}
