/* A table of buckets with a clock of the test's own, and the few questions that every test of it asks. After cmocka.h. */
#ifndef TEST_LOCAL_WORLD_H
#define TEST_LOCAL_WORLD_H

#include <errno.h>

#include "judge.h"
#include "local_store.h"
#include "local_table.h"
#include "segment.h"

#define START_US (UINT64_C(1) << 32)
#define HOUR_US  (UINT64_C(3600) * SP_MICRO)

struct world {
    void *segment;
    struct sp_local_store store;
    uint64_t now, generation;
};

static struct world *the_world;
static inline uint64_t world_clock(void) { return the_world->now; }

static inline int set_up(void **state) {
    struct world *world = calloc(1, sizeof *world);
    world->segment = segment_new();
    world->now = START_US;
    sp_local_open(world->segment, world_clock, &world->store);
    the_world = world;
    *state = world;
    return 0;
}
static inline int tear_down(void **state) {
    struct world *world = *state;
    segment_free(world->segment);
    free(world);
    return 0;
}

/* The bucket's cell; NULL: none. */
static inline struct sp_cell *cell_of(struct sp_local_segment *segment, struct sp_local_bucket bucket) {
    uint64_t first = (bucket.key >> ROW_BITS) & (TABLE_CELLS - 1) & ~UINT64_C(3);
    for (size_t i = 0; i < WINDOW; i++)
        if (segment->cells[(first + i) & (TABLE_CELLS - 1)].key == bucket.key)
            return &segment->cells[(first + i) & (TABLE_CELLS - 1)];
    return NULL;
}

static inline void publish(struct world *world, unsigned slot, uint64_t amount, uint64_t period_us, uint64_t burst) {
    sp_local_publish(&world->store, SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, slot, ++world->generation, &(struct sp_rate){amount, period_us},
                     burst, world->now);
}

static inline struct sp_local_bucket bucket_named(unsigned slot, uint64_t subject) {
    static const struct sp_hash_key key = {1, 2};
    return sp_local_name(SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, slot, sp_hash(&key, &subject, sizeof subject));
}

static inline struct sp_limit_answer take(struct world *world, struct sp_local_bucket bucket, uint64_t cost) {
    struct sp_limit_answer answer;
    struct sp_local_taken taken;
    assert_int_equal(sp_local_take(&world->store, bucket, world->now, cost, &answer, &taken), 0);
    return answer;
}
static inline bool admits(struct world *world, struct sp_local_bucket bucket, uint64_t cost) {
    return take(world, bucket, cost).bucket.admitted;
}

static inline uint64_t remaining(struct world *world, struct sp_local_bucket bucket) {
    struct sp_limit_answer answer;
    assert_int_equal(sp_local_peek(&world->store, bucket, world->now, 1, &answer, NULL), 0);
    return answer.bucket.remaining;
}
static inline int64_t level(struct world *world, struct sp_local_bucket bucket) {
    int64_t tokens;
    assert_int_equal(sp_local_level(&world->store, bucket, world->now, &tokens), 0);
    return tokens;
}

static inline void settle(struct world *world, struct sp_local_bucket bucket, int64_t delta) {
    sp_local_settle(&world->store, bucket, world->now, delta);
}
/* Subjects whose cells lie in one window. */
static inline struct sp_local_bucket crowded(unsigned slot, uint64_t window, uint64_t subject) {
    uint64_t spread = sp_local_spread(sp_local_row(SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, slot));
    return sp_local_name(SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, slot, ((subject + 1) << 32 | window << (ROW_BITS + 2)) ^ spread);
}

#endif
