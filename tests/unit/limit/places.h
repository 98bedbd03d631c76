/* Gateways that have places from one real Redis: two, of one worker each. */
#ifndef TEST_PLACES_H
#define TEST_PLACES_H

#include <inttypes.h>

#include "redis_server.h"
#include "slots_talk.h"

#define DEADLINE_MS 5000 /* not what most of these tests are about */
#define KEY         "test:first:{s=alice}:c"

static struct redis_server redis;

/* One worker of one gateway. */
struct worker {
    struct sp_loop *loop;
    struct sp_redis_route *route;
    struct sp_slots *slots;
    struct sp_slots_segment *segment;
    struct scene_config scene;
};
static struct worker one, two;

struct place {
    struct sp_place_ask ask;
    struct sp_limit_facts facts;
    int answers;
    bool told, taken;
};

static inline void configure(struct worker *worker) {
    sp_slots_configure(worker->slots, &worker->scene.config);
    assert_int_equal(sp_redis_route_configure(worker->route, worker->scene.config.redis, NULL), 0);
}

static inline void worker_open(struct worker *worker, struct sp_slots_segment *segment, uint64_t gateway) {
    const struct sp_hash_key key = {gateway, 8};
    worker->segment = segment;
    scene_config(&worker->scene, 1);
    scene_redis(&worker->scene, redis.port, DEADLINE_MS);
    worker->scene.config.loaded_wall_ms = 1000;
    for (size_t i = 0; i < 4; i++)
        worker->scene.limit[i].concurrency = 5;
    worker->scene.limit[0].mode = SP_LIMIT_LEASED;
    assert_int_equal(sp_loop_new(&worker->loop), 0);
    assert_int_equal(sp_redis_route_new(worker->loop, &worker->route), 0);
    assert_int_equal(sp_slots_new(worker->loop, segment, &key, worker->route, &worker->slots), 0);
    configure(worker);
}
static inline void worker_close(struct worker *worker) {
    sp_redis_route_free(worker->route);
    sp_slots_free(worker->slots);
    sp_loop_free(worker->loop);
}
static inline bool connected(const struct worker *worker) {
    uint64_t connection;
    return sp_redis_route_connected(worker->route, 0, &connection);
}
static inline struct sp_slots_segment *segment_of_slots(void) {
    void *memory = mmap(NULL, sp_slots_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

static inline int start(void **state) {
    redis_start(&redis);
    return 0;
}
static inline int stop(void **state) {
    redis_kill(&redis);
    return 0;
}
static inline int set_up(void **state) {
    (void)redis_says(&redis, "FLUSHALL");
    (void)redis_says(&redis, "CONFIG RESETSTAT");
    worker_open(&one, segment_of_slots(), 1);
    worker_open(&two, segment_of_slots(), 2);
    UNTIL(&one, connected(&one));
    UNTIL(&two, connected(&two));
    return 0;
}
static inline int tear_down(void **state) {
    kill(redis.pid, SIGCONT);
    worker_close(&one);
    worker_close(&two);
    munmap(one.segment, sp_slots_segment_size());
    munmap(two.segment, sp_slots_segment_size());
    return 0;
}

static inline void turn_both(void) {
    (void)sp_loop_turn(one.loop, 1);
    (void)sp_loop_turn(two.loop, 1);
}
#define UNTIL_BOTH(condition)                                                                                                              \
    for (uint64_t until_ = sp_clock_us() + PATIENCE_MS * 1000; !(condition);) {                                                            \
        assert_true(sp_clock_us() < until_);                                                                                               \
        turn_both();                                                                                                                       \
    }

static inline void answered(struct sp_place_ask *ask, bool told, bool taken) {
    struct place *place = SP_CONTAINER(ask, struct place, ask);
    place->answers++;
    place->told = told;
    place->taken = taken;
}

static inline enum sp_place_verdict begin(struct worker *worker, size_t limit, const char *subject, uint64_t within_ms,
                                          struct place *place) {
    *place = (struct place){.facts = {.subject = sp_span_text(subject)}};
    place->ask = (struct sp_place_ask){
        .limit = &worker->scene.limit[limit], .facts = &place->facts, .due_us = sp_clock_us() + within_ms * 1000, .answered = answered};
    return sp_slots_take(worker->slots, &place->ask, false, 1);
}

/* Waits for the answer where there is one to come; AWAY: Redis did not say. */
static inline enum sp_place_verdict take(struct worker *worker, size_t limit, const char *subject) {
    struct place place;
    enum sp_place_verdict verdict = begin(worker, limit, subject, DEADLINE_MS, &place);
    if (verdict != SP_PLACE_PENDING)
        return verdict;
    assert_int_equal(place.answers, 0);
    UNTIL_BOTH(place.answers > 0);
    assert_int_equal(place.answers, 1);
    return !place.told ? SP_PLACE_AWAY : place.taken ? SP_PLACE_TAKEN : SP_PLACE_REFUSED;
}

static inline uint64_t name_of(const struct worker *worker, size_t limit, const char *subject) {
    const struct sp_limit_facts facts = {.subject = sp_span_text(subject)};
    return sp_slots_name(worker->slots, &worker->scene.limit[limit], &facts);
}
static inline void give(struct worker *worker, size_t limit, const char *subject) {
    sp_slots_give(worker->slots, name_of(worker, limit, subject));
}
static inline uint64_t used(const struct worker *worker, size_t limit, const char *subject) {
    uint64_t n, had;
    sp_slots_peek(worker->slots, name_of(worker, limit, subject), &n, &had);
    return n;
}
static inline uint64_t had(const struct worker *worker, size_t limit, const char *subject) {
    uint64_t n, places;
    sp_slots_peek(worker->slots, name_of(worker, limit, subject), &n, &places);
    return places;
}
static inline bool at_rest(const struct worker *worker) { return worker->slots->talks.count == 0; }

/* The cell of a name that has one, and what is noted beside it. */
static inline size_t cell_of(const struct worker *worker, size_t limit, const char *subject) {
    struct sp_slots_seen seen;
    assert_true(sp_slots_find(worker->segment, name_of(worker, limit, subject), &seen));
    return (size_t)(seen.cell - worker->segment->cells);
}
static inline struct sp_slots_note *note_of(const struct worker *worker, size_t limit, const char *subject) {
    return &worker->segment->notes[cell_of(worker, limit, subject)];
}

static inline uint64_t commands(void) {
    const char *calls = strstr(redis_says(&redis, "INFO commandstats"), "cmdstat_evalsha:calls=");
    return calls ? strtoull(calls + strlen("cmdstat_evalsha:calls="), NULL, 10) : 0;
}

/* What Redis has written down for a gateway. */
static inline bool field(const char *value, const struct worker *worker, uint64_t *ret_places, uint64_t *ret_expiry) {
    char gateway[20];
    (void)snprintf(gateway, sizeof gateway, " %.16s:", worker->slots->gateway);
    const char *at = strstr(value, gateway);
    return at && sscanf(at + strlen(gateway), "%" SCNu64 ":%" SCNu64, ret_places, ret_expiry) == 2;
}
static inline uint64_t told(const struct worker *worker) {
    uint64_t places = 0, expiry;
    (void)field(redis_says(&redis, "GET " KEY), worker, &places, &expiry);
    return places;
}
static inline uint64_t expiry(const struct worker *worker) {
    uint64_t places, at = 0;
    (void)field(redis_says(&redis, "GET " KEY), worker, &places, &at);
    return at;
}
static inline uint64_t redis_now_ms(void) {
    redisReply *reply = redisCommand(redis.side, "TIME");
    uint64_t ms = strtoull(reply->element[0]->str, NULL, 10) * 1000 + strtoull(reply->element[1]->str, NULL, 10) / 1000;
    freeReplyObject(reply);
    return ms;
}
static inline bool is_gone(void) { return strcmp(redis_says(&redis, "EXISTS " KEY), "0") == 0; }

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
