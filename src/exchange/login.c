/* Limits on logins (`count: unauthorized`): only 401s count, per address mostly, and where such a bucket is empty nobody logs in.
 *
 * Exact without reserving anything: the credential is judged first, but what came of it is told to nobody before one atomic step at the
 * bucket: a refused login takes a token, a good one looks whether there is one. Whoever finds none gets 429, whichever it was. So of any
 * number of guesses sent at once as many are told apart as there are tokens, and good logins neither cost any nor stand in each other's
 * way. A credential to which this connection was granted a login before is no guess: it is not asked about again. */
#include "private.h"

static void gather(struct sp_exchange *x, bool peek) {
    const struct sp_config *config = x->snapshot->config;
    x->limit = (struct sp_limit_request){.cost = 1, .peek = peek, .facts.route = sp_span_text(x->route->name)};
    memcpy(x->limit.facts.address, x->from->address.bytes, sizeof x->limit.facts.address);
    for (uint64_t rest = x->snapshot->login_limits; rest && x->limit.n_limits < SP_REQUEST_LIMITS_MAX; rest &= rest - 1)
        x->limit.limits[x->limit.n_limits++] = &config->limits[__builtin_ctzll(rest)];
}

static void decided_later(struct sp_limit_request *request) {
    struct sp_exchange *x = SP_CONTAINER(request, struct sp_exchange, limit);
    x->limit_pending = false;
    x->login = SP_LOGIN_DECIDED;
    sp_exchange_run(x);
}

static enum sp_stage_answer tell(struct sp_exchange *x) {
    struct sp_limit_decision *decision = &x->limit.decision;
    sp_count_decision(x);
    if (!decision->admitted) {
        x->limited = true;
        return sp_reply(x, 429, "rate_limit_exceeded",
                        sp_limit_sentence(x, "Too many failed logins: '%s'. Try again after the time in Retry-After."), "login limit");
    }
    if (x->refusal.reason) {
        /* For the log; the client learns nothing of a limit that did not refuse it. */
        x->limited = decision->shadow_refused != NULL;
        memset(decision->shown, 0, sizeof decision->shown);
        return sp_reply_unauthorized(x, &x->refusal);
    }
    if (x->from->known) {
        sp_principal_unref(*x->from->known);
        *x->from->known = sp_principal_ref(x->principal);
    }
    x->limit = (struct sp_limit_request){0}; /* from here on it is admit's */
    return SP_STAGE_NEXT;
}

static enum sp_stage_answer ask(struct sp_exchange *x, bool peek) {
    gather(x, peek);
    x->limit.done = decided_later;
    if (sp_limiter_admit(x->service->parts.limiter, &x->limit) == SP_LIMIT_PENDING) {
        x->limit_pending = true;
        x->login = SP_LOGIN_PENDING;
        return SP_STAGE_WAIT;
    }
    x->login = SP_LOGIN_DECIDED;
    return tell(x);
}

enum sp_stage_answer sp_login_refused(struct sp_exchange *x, const struct sp_refusal *refusal) {
    x->refusal = *refusal;
    return x->snapshot->login_limits ? ask(x, false) : sp_reply_unauthorized(x, refusal);
}

enum sp_stage_answer sp_login_good(struct sp_exchange *x) {
    bool known = x->from->known && *x->from->known == x->principal;
    return x->snapshot->login_limits && !known ? ask(x, true) : SP_STAGE_NEXT;
}

enum sp_stage_answer sp_login_resumed(struct sp_exchange *x) { return x->login == SP_LOGIN_PENDING ? SP_STAGE_WAIT : tell(x); }
