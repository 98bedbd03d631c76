#include "decision.h"

__extension__ typedef unsigned __int128 wide;

bool sp_answer_refuses(const struct sp_limit_config *limit, const struct sp_limit_answer *answer) {
    return answer->asked && !answer->bucket.admitted && !limit->shadow;
}

static uint64_t to_ms(uint64_t us) { return us / 1000 + (us % 1000 != 0); }

/* Less of its burst is left. */
static bool tighter(const struct sp_limit_answer *a, const struct sp_limit_answer *b) {
    return (wide)a->bucket.remaining * b->burst < (wide)b->bucket.remaining * a->burst;
}

/* Of two that refuse, the one that refuses for longer: never counts as longest. */
static bool refuses_longer(const struct sp_limit_answer *a, const struct sp_limit_answer *b) {
    return a->bucket.retry_us > b->bucket.retry_us;
}

void sp_decision_combine(const struct sp_limit_config *const *limits, const struct sp_limit_answer *answers, size_t n,
                         struct sp_limit_decision *ret) {
    size_t refusing = n, tightest = n;
    *ret = (struct sp_limit_decision){.admitted = true};
    for (size_t i = 0; i < n; i++) {
        if (!answers[i].asked)
            continue;
        if (limits[i]->shadow) {
            if (!answers[i].bucket.admitted && !ret->shadow_refused)
                ret->shadow_refused = limits[i];
            continue;
        }
        if (!answers[i].bucket.admitted && (refusing == n || refuses_longer(&answers[i], &answers[refusing])))
            refusing = i;
        if (tightest == n || tighter(&answers[i], &answers[tightest]))
            tightest = i;
    }
    size_t shown = refusing < n ? refusing : tightest;
    if (shown == n)
        return;
    ret->shown = limits[shown];
    ret->limit = answers[shown].burst;
    ret->remaining = answers[shown].bucket.remaining;
    ret->reset_ms = to_ms(answers[shown].bucket.reset_us);
    if (refusing < n) {
        ret->admitted = false;
        ret->refused_by = limits[refusing];
        ret->never = answers[refusing].bucket.never;
        ret->retry_after_ms = ret->never ? 0 : to_ms(answers[refusing].bucket.retry_us);
    }
}
