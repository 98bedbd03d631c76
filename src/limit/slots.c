/* Places on this machine, counted by all workers in one array of shared memory. Subjects whose names meet in one count share it: then they
 * have fewer places together, never more. */
#include "slots.h"

#include <errno.h>

#include "subject.h"

#define COUNTS (UINT64_C(1) << 20)

struct sp_slots_segment {
    uint32_t count[COUNTS];
};

struct sp_slots {
    struct sp_slots_segment *segment;
    struct sp_hash_key hash_key;
};

size_t sp_slots_segment_size(void) { return sizeof(struct sp_slots_segment); }

int sp_slots_new(struct sp_loop *loop, struct sp_slots_segment *segment, const struct sp_hash_key *hash_key, struct sp_redis_route *route,
                 struct sp_slots **ret) {
    struct sp_slots *slots = calloc(1, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    *slots = (struct sp_slots){.segment = segment, .hash_key = *hash_key};
    *ret = slots;
    return 0;
}

void sp_slots_free(struct sp_slots *slots) { free(slots); }
void sp_slots_configure(struct sp_slots *slots, const struct sp_config *config) {}
void sp_slots_cancel(struct sp_slots *slots, struct sp_place_ask *ask) {}

static uint32_t *count_of(const struct sp_slots *slots, uint64_t name) { return &slots->segment->count[(name * UINT64_C(0x9e3779b97f4a7c15)) >> 44]; }

uint64_t sp_slots_name(const struct sp_slots *slots, const struct sp_limit_config *limit, const struct sp_limit_facts *facts) {
    return sp_subject_hash(&slots->hash_key, limit->by, facts) << 6 | limit->slot;
}

enum sp_place_verdict sp_slots_take(struct sp_slots *slots, struct sp_place_ask *ask, bool without_redis, unsigned gateways) {
    if (!without_redis)
        return SP_PLACE_AWAY;
    uint32_t *count = count_of(slots, sp_slots_name(slots, ask->limit, ask->facts)), used = __atomic_load_n(count, __ATOMIC_SEQ_CST);
    uint64_t most = sp_max(ask->limit->concurrency / sp_max(gateways, 1u), (uint64_t)1);
    while (used < most)
        if (__atomic_compare_exchange_n(count, &used, used + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return SP_PLACE_TAKEN;
    return SP_PLACE_REFUSED;
}

void sp_slots_give(struct sp_slots *slots, uint64_t name) {
    uint32_t *count = count_of(slots, name), used = __atomic_load_n(count, __ATOMIC_SEQ_CST);
    while (used > 0 && !__atomic_compare_exchange_n(count, &used, used - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
}

void sp_slots_peek(const struct sp_slots *slots, uint64_t name, uint64_t *ret_used, uint64_t *ret_had) {
    *ret_used = __atomic_load_n(count_of(slots, name), __ATOMIC_SEQ_CST);
    *ret_had = 0;
}
