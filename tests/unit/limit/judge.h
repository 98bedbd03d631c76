/* The judge of every property test: admissions in every interval [s, t] are at most burst + rate · (t − s). Knows nothing of how buckets
 * work; compares every pair of instants in whole numbers. */
#ifndef TEST_JUDGE_H
#define TEST_JUDGE_H

#include <sallyport/limit.h>

struct admission {
    uint64_t at_us, cost;
};
struct judge {
    struct admission *admission;
    size_t n, capacity;
};

static inline void judge_note(struct judge *judge, uint64_t at_us, uint64_t cost) {
    if (judge->n == judge->capacity) {
        judge->capacity = judge->capacity ? judge->capacity * 2 : 256;
        judge->admission = realloc(judge->admission, judge->capacity * sizeof *judge->admission);
        if (!judge->admission)
            abort();
    }
    judge->admission[judge->n++] = (struct admission){at_us, cost};
}

static inline int judge_by_instant(const void *a, const void *b) {
    const struct admission *x = a, *y = b;
    return (x->at_us > y->at_us) - (x->at_us < y->at_us);
}
static inline void judge_sort(struct judge *judge) { qsort(judge->admission, judge->n, sizeof *judge->admission, judge_by_instant); }

/* Admissions in the order of their instants. The number of intervals in which too much was admitted. */
static inline size_t judge_violations(const struct judge *judge, struct sp_rate rate, uint64_t burst) {
    __extension__ typedef unsigned __int128 wide;
    size_t violations = 0;
    for (size_t i = 0; i < judge->n; i++) {
        wide sum = 0;
        for (size_t j = i; j < judge->n; j++) {
            sum += judge->admission[j].cost;
            uint64_t elapsed = judge->admission[j].at_us - judge->admission[i].at_us;
            violations += sum * rate.period_us > (wide)burst * rate.period_us + (wide)rate.amount * elapsed;
        }
    }
    return violations;
}

/* The same for very many: by how much the worst interval exceeds rate · time, in tokens times the period. What is over at an admission is
 * what was over before, less what time has allowed since, and the admission itself. Never more than burst · period. */
static inline uint64_t judge_worst(const struct judge *judge, struct sp_rate rate) {
    __extension__ typedef unsigned __int128 wide;
    wide over = 0, worst = 0;
    for (size_t i = 0; i < judge->n; i++) {
        wide allowed = i ? (wide)(judge->admission[i].at_us - judge->admission[i - 1].at_us) * rate.amount : 0;
        over = over - sp_min(over, allowed) + (wide)judge->admission[i].cost * rate.period_us;
        worst = sp_max(worst, over);
    }
    return (uint64_t)worst;
}

static inline void judge_free(struct judge *judge) { free(judge->admission); }

/* Random numbers that are the same in every run. */
static inline uint64_t dice(uint64_t *state) {
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static inline uint64_t dice_below(uint64_t *state, uint64_t n) { return dice(state) % n; }

#endif
