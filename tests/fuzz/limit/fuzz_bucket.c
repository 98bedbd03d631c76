/* A sequence of operations on three buckets at once: the pure one, a model in whole fractions that knows no remainder, and one in the table
 * in shared memory. The pure bucket is the model; the table's never admits what the model would not. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "local_store.h"

__extension__ typedef __int128 wide;

#define MUST(condition)                                                                                                                    \
    do {                                                                                                                                   \
        if (!(condition))                                                                                                                  \
            abort();                                                                                                                       \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* level in parts: one micro-token is `period` parts */
struct model {
    wide parts, amount, period, full;
    uint64_t time;
};

static void model_policy(struct model *model, const struct sp_bucket_policy *policy) {
    if (model->period) {
        wide rest = (model->parts % model->period + model->period) % model->period; /* also of a debt */
        model->parts =
            (model->parts - rest) / model->period * (wide)policy->rate.period_us + rest * (wide)policy->rate.period_us / model->period;
    }
    model->amount = (wide)policy->rate.amount * (wide)SP_MICRO;
    model->period = (wide)policy->rate.period_us;
    model->full = (wide)policy->burst * (wide)SP_MICRO * model->period;
    model->parts = sp_min(model->parts, model->full);
}

static void model_advance(struct model *model, uint64_t now) {
    if (now > model->time) {
        model->parts += (wide)(now - model->time) * model->amount;
        model->time = now;
    }
    model->parts = sp_min(model->parts, model->full);
}

static bool model_take(struct model *model, uint64_t now, uint64_t cost) {
    model_advance(model, now);
    wide parts = (wide)cost * (wide)SP_MICRO * model->period;
    bool admitted = model->parts >= parts && parts <= model->full;
    model->parts -= admitted ? parts : 0;
    return admitted;
}

static uint64_t clock_us;
static uint64_t read_clock(void) { return clock_us; }

struct input {
    const uint8_t *at, *end;
};
static uint64_t number(struct input *input, size_t width) {
    uint64_t value = 0;
    for (size_t i = 0; i < width && input->at < input->end; i++)
        value = value << 8 | *input->at++;
    return value;
}

/* Whole microseconds per token, so that the table can be exact. */
static struct sp_bucket_policy read_policy(struct input *input) {
    uint64_t period = 1 + number(input, 3), burst = 1 + number(input, 1);
    return (struct sp_bucket_policy){.rate = {1, period}, .burst = burst};
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    static struct sp_local_store store;
    if (!store.segment) {
        void *segment = mmap(NULL, sp_local_segment_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        MUST(segment != MAP_FAILED);
        sp_local_open(segment, read_clock, &store);
    }
    MUST(madvise(store.segment, sp_local_segment_size(), MADV_DONTNEED) == 0); /* zeroed again */
    uint64_t generation = 0;
    struct input input = {bytes, bytes + len};
    struct sp_bucket_policy policy = read_policy(&input);
    struct sp_bucket pure;
    clock_us = UINT64_C(1) << 32;
    struct model model = {.time = clock_us};
    model_policy(&model, &policy);
    model.parts = model.full;
    sp_bucket_fill(&policy, clock_us, &pure);
    sp_local_publish(&store, SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, 0, ++generation, &policy.rate, policy.burst, clock_us);
    struct sp_local_bucket name = sp_local_name(SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, 0, 1 << 20);
    struct sp_limit_answer first;
    struct sp_local_taken taken;
    MUST(sp_local_take(&store, name, clock_us, 1, &first, &taken) == 0 && first.bucket.admitted);
    MUST(model_take(&model, clock_us, 1) && sp_bucket_take(&policy, clock_us, 1, &pure).admitted);
    int changes = 0;
    bool apart = false; /* the table's bucket no longer went through what the others did: only they are compared */
    for (int steps = 0; input.at < input.end && steps < 512; steps++) {
        uint64_t operation = number(&input, 1);
        switch (operation % 4) {
        case 0:
            clock_us += number(&input, 3);
            break;
        case 1: { /* the clock of one who is behind, or not: what was refused meanwhile moved the pure bucket's clock on, not the table's */
            uint64_t cost = number(&input, 1), now = clock_us - (operation >> 4) * 1000;
            apart = apart || now < clock_us;
            bool expected = model_take(&model, now, cost);
            struct sp_bucket_answer answer = sp_bucket_take(&policy, now, cost, &pure);
            MUST(answer.admitted == expected);
            struct sp_limit_answer here;
            MUST(sp_local_take(&store, name, now, cost, &here, &taken) == 0);
            /* A change of policy rounds the pure bucket down too, by less than a micro-token; the table may happen to divide evenly. */
            wide missing = (wide)cost * (wide)SP_MICRO - pure.level_micro;
            MUST(!here.bucket.admitted || expected || apart || missing <= changes);
            apart = apart || here.bucket.admitted != expected; /* it kept what the others took */
            if (here.bucket.admitted && expected && operation & 4) {
                sp_local_give_back(&store, &taken);
                sp_bucket_settle(&policy, now, (int64_t)(cost * SP_MICRO), &pure);
                model.parts = sp_min(model.parts + (wide)(cost * SP_MICRO) * model.period, model.full);
            }
            break;
        }
        case 2: { /* the table settles whole tokens */
            bool whole = operation & 4;
            int64_t delta = whole ? (int64_t)number(&input, 2) - (1 << 15) : (int64_t)number(&input, 4) - (INT64_C(1) << 31);
            if (whole) {
                sp_local_settle(&store, name, clock_us, delta);
                delta *= (int64_t)SP_MICRO;
            }
            apart = apart || !whole;
            sp_bucket_settle(&policy, clock_us, delta, &pure);
            model_advance(&model, clock_us);
            model.parts = sp_min(model.parts + (wide)delta * model.period, model.full);
            break;
        }
        case 3: {
            struct sp_bucket_policy next = read_policy(&input);
            model_advance(&model, clock_us);
            sp_bucket_change(&policy, &next, clock_us, &pure);
            model_policy(&model, &next);
            sp_local_publish(&store, SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, 0, ++generation, &next.rate, next.burst, clock_us);
            /* A bucket follows a policy from the first look after it was published: the table's is looked at now, as the others are. */
            MUST(sp_local_peek(&store, name, clock_us, 1, &first, NULL) == 0);
            policy = next;
            changes++;
            break;
        }
        }
        int64_t level;
        MUST(sp_local_level(&store, name, clock_us, &level) == 0);
        /* A debt beyond what the table keeps is the one thing it forgets; a change rounds by less than a token. */
        struct sp_bucket looked_at = pure;
        sp_bucket_advance(&policy, clock_us, &looked_at);
        bool deep = looked_at.level_micro < -INT64_C(1000000) * (int64_t)SP_MICRO;
        MUST(apart || deep || (wide)level * (wide)SP_MICRO <= (wide)looked_at.level_micro + changes);
        MUST((wide)pure.level_micro * model.period + (wide)pure.remainder == model.parts);
        MUST(pure.time_us == model.time);
    }
    return 0;
}
