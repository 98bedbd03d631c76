#include "decision.h"

__extension__ typedef unsigned __int128 wide;

static uint64_t to_ms(uint64_t us) { return sp_divide_up(us, 1000); }

/* Less of its burst is left. */
static bool tighter(const struct sp_limit_answer *a, const struct sp_limit_answer *b) {
    return (wide)a->bucket.remaining * b->burst < (wide)b->bucket.remaining * a->burst;
}

/* Of two that refuse, the one that refuses for longer: never counts as longest. */
static bool refuses_longer(const struct sp_limit_answer *a, const struct sp_limit_answer *b) {
    return a->bucket.retry_us > b->bucket.retry_us;
}

static void show(const struct sp_limit_config *limit, const struct sp_limit_answer *answer, struct sp_limit_view *ret) {
    *ret = (struct sp_limit_view){
        .limit = limit, .burst = answer->burst, .remaining = answer->bucket.remaining, .reset_ms = to_ms(answer->bucket.reset_us)};
}

/* One kind of bucket: what is shown of it. The answer that refuses longest, NULL: none refuses. */
static const struct sp_limit_answer *combine_kind(const struct sp_limit_request *request, const struct sp_limit_answer *answers,
                                                  struct sp_limit_view *ret_shown, struct sp_limit_decision *ret) {
    const struct sp_limit_answer *refusing = NULL, *tightest = NULL;
    for (size_t i = 0; i < request->n_limits; i++) {
        const struct sp_limit_answer *answer = &answers[i];
        if (!answer->asked)
            continue;
        if (request->limits[i]->shadow) {
            if (!answer->bucket.admitted && !ret->shadow_refused)
                ret->shadow_refused = request->limits[i];
            continue;
        }
        if (!answer->bucket.admitted && (!refusing || refuses_longer(answer, refusing)))
            refusing = answer;
        if (!tightest || tighter(answer, tightest))
            tightest = answer;
    }
    const struct sp_limit_answer *shown = refusing ? refusing : tightest;
    if (shown)
        show(request->limits[shown - answers], shown, ret_shown);
    return refusing;
}

static void refuse(const struct sp_limit_request *request, enum sp_limit_kind kind, size_t i, const struct sp_limit_answer *answer,
                   struct sp_limit_decision *ret) {
    ret->admitted = false;
    ret->refused_by = request->limits[i];
    ret->refused_kind = kind;
    ret->asked = kind == SP_LIMIT_TOKENS ? request->tokens : request->cost;
    ret->most = answer->burst;
    ret->never = answer->bucket.never;
    ret->retry_after_ms = ret->never ? 0 : to_ms(answer->bucket.retry_us);
}

void sp_decision_combine(const struct sp_limit_request *request,
                         const struct sp_limit_answer answers[SP_LIMIT_BUCKETS][SP_REQUEST_LIMITS_MAX], struct sp_limit_decision *ret) {
    const struct sp_limit_answer *longest = NULL;
    *ret = (struct sp_limit_decision){.admitted = true};
    for (size_t kind = 0; kind < SP_LIMIT_BUCKETS; kind++) {
        const struct sp_limit_answer *refusing = combine_kind(request, answers[kind], &ret->shown[kind], ret);
        if (!refusing || (longest && !refuses_longer(refusing, longest)))
            continue;
        longest = refusing;
        refuse(request, (enum sp_limit_kind)kind, (size_t)(refusing - answers[kind]), refusing, ret);
    }
}

void sp_decision_refuse_place(const struct sp_limit_config *limit, uint64_t retry_ms, struct sp_limit_decision *ret) {
    ret->admitted = false;
    ret->never = false;
    ret->refused_by = limit;
    ret->refused_kind = SP_LIMIT_CONCURRENCY;
    ret->asked = 1;
    ret->most = limit->concurrency;
    ret->retry_after_ms = retry_ms;
}
