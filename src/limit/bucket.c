/* The token bucket as pure functions. Between two instants a bucket accrues elapsed · amount · 10⁶ / period micro-tokens; the remainder
 * of that division is kept, so that a thousand small steps add up to exactly one large one. Products are 128 bits wide and saturate. */
#include "bucket.h"

__extension__ typedef unsigned __int128 wide;

#define LARGEST_BURST ((uint64_t)INT64_MAX / SP_MICRO)

static uint64_t burst_of(const struct sp_bucket_policy *policy) { return sp_min(policy->burst, LARGEST_BURST); }
static int64_t full_level(const struct sp_bucket_policy *policy) { return (int64_t)(burst_of(policy) * SP_MICRO); }

static wide missing(int64_t level, int64_t target) { return target > level ? (wide)((uint64_t)target - (uint64_t)level) : 0; }

void sp_bucket_fill(const struct sp_bucket_policy *policy, uint64_t now_us, struct sp_bucket *bucket) {
    *bucket = (struct sp_bucket){.level_micro = full_level(policy), .time_us = now_us};
}

void sp_bucket_advance(const struct sp_bucket_policy *policy, uint64_t now_us, struct sp_bucket *bucket) {
    int64_t full = full_level(policy);
    uint64_t elapsed = now_us > bucket->time_us ? now_us - bucket->time_us : 0;
    bucket->time_us += elapsed;
    if (bucket->level_micro < full) {
        if (elapsed == 0 || policy->rate.amount == 0 || policy->rate.period_us == 0)
            return;
        wide grown;
        bool beyond = __builtin_mul_overflow((wide)policy->rate.amount * SP_MICRO, (wide)elapsed, &grown) ||
                      __builtin_add_overflow(grown, (wide)bucket->remainder, &grown);
        if (!beyond && grown / policy->rate.period_us < missing(bucket->level_micro, full)) {
            bucket->level_micro += (int64_t)(grown / policy->rate.period_us);
            bucket->remainder = (uint64_t)(grown % policy->rate.period_us);
            return;
        }
    }
    bucket->level_micro = full;
    bucket->remainder = 0;
}

/* Microseconds from now_us until the level is `target`, rounded up; UINT64_MAX when that is never or further than the clock reaches. */
static uint64_t wait_for(const struct sp_bucket_policy *policy, uint64_t now_us, int64_t target, const struct sp_bucket *bucket) {
    if (bucket->level_micro >= target)
        return 0;
    if (policy->rate.amount == 0)
        return UINT64_MAX;
    wide needed = missing(bucket->level_micro, target) * policy->rate.period_us;
    needed -= sp_min(needed, (wide)bucket->remainder);
    wide per_us = (wide)policy->rate.amount * SP_MICRO;
    wide wait = sp_divide_up(needed, per_us);
    if (bucket->time_us > now_us)
        wait += bucket->time_us - now_us;
    return wait > UINT64_MAX ? UINT64_MAX : (uint64_t)wait;
}

struct sp_bucket_answer sp_bucket_describe(const struct sp_bucket_policy *policy, uint64_t now_us, uint64_t cost, bool admitted,
                                           const struct sp_bucket *bucket) {
    struct sp_bucket_answer answer = {.admitted = admitted, .never = cost > burst_of(policy)};
    answer.remaining = bucket->level_micro > 0 ? (uint64_t)bucket->level_micro / SP_MICRO : 0;
    answer.reset_us = wait_for(policy, now_us, full_level(policy), bucket);
    if (answer.never)
        answer.retry_us = UINT64_MAX;
    else if (!admitted)
        answer.retry_us = wait_for(policy, now_us, (int64_t)(cost * SP_MICRO), bucket);
    return answer;
}

struct sp_bucket_answer sp_bucket_take(const struct sp_bucket_policy *policy, uint64_t now_us, uint64_t cost, struct sp_bucket *bucket) {
    sp_bucket_advance(policy, now_us, bucket);
    bool fits = cost <= burst_of(policy) && bucket->level_micro >= (int64_t)(cost * SP_MICRO);
    if (fits)
        bucket->level_micro -= (int64_t)(cost * SP_MICRO);
    return sp_bucket_describe(policy, now_us, cost, fits, bucket);
}

void sp_bucket_settle(const struct sp_bucket_policy *policy, uint64_t now_us, int64_t delta_micro, struct sp_bucket *bucket) {
    sp_bucket_advance(policy, now_us, bucket);
    if (__builtin_add_overflow(bucket->level_micro, delta_micro, &bucket->level_micro))
        bucket->level_micro = delta_micro < 0 ? INT64_MIN : INT64_MAX;
    if (bucket->level_micro >= full_level(policy)) {
        bucket->level_micro = full_level(policy);
        bucket->remainder = 0;
    }
}

void sp_bucket_change(const struct sp_bucket_policy *old_policy, const struct sp_bucket_policy *new_policy, uint64_t now_us,
                      struct sp_bucket *bucket) {
    sp_bucket_advance(old_policy, now_us, bucket);
    if (bucket->level_micro >= full_level(new_policy)) {
        bucket->level_micro = full_level(new_policy);
        bucket->remainder = 0;
    } else if (old_policy->rate.period_us) {
        /* The same fraction of a micro-token in the new period's parts, rounded down. */
        bucket->remainder = (uint64_t)((wide)bucket->remainder * new_policy->rate.period_us / old_policy->rate.period_us);
    }
}
