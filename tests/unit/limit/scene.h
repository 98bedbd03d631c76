/* A configuration as small as a limiter needs, and one decision from beginning to end. */
#ifndef TEST_SCENE_H
#define TEST_SCENE_H

#include <sallyport/limit.h>

#include "segment.h"

/* A snapshot that belongs to the test: its reference count never reaches zero. */
struct scene_config {
    struct sp_config config;
    struct sp_limit_config limit[4];
    struct sp_redis_config redis;
};

static inline void scene_limit(struct scene_config *scene, size_t i, const char *name, uint64_t amount, uint64_t period_us,
                               uint64_t burst) {
    scene->limit[i] = (struct sp_limit_config){.name = name,
                                               .slot = (unsigned)i,
                                               .by = SP_BY_SUBJECT,
                                               .mode = SP_LIMIT_STRICT,
                                               .requests = {amount, period_us},
                                               .request_burst = burst};
}

static inline void scene_config(struct scene_config *scene, uint64_t generation) {
    *scene = (struct scene_config){0};
    scene->config =
        (struct sp_config){.refs = 1, .generation = generation, .loaded_wall_ms = sp_wall_ms(), .limits = scene->limit, .n_limits = 4};
    for (size_t i = 0; i < 4; i++)
        scene_limit(scene, i, (const char *[]){"first", "second", "third", "fourth"}[i], 1, 3600 * SP_MICRO, 1000);
}

static inline void scene_redis(struct scene_config *scene, uint16_t port, uint64_t deadline_ms) {
    scene->redis =
        (struct sp_redis_config){.host = "127.0.0.1", .port = port, .deadline_ms = deadline_ms, .prefix = "test:", .gateways = 1};
    scene->config.redis = &scene->redis;
}

/* A request and whether it was told. */
struct asked {
    struct sp_limit_request request;
    int told;
};
static inline void asked_done(struct sp_limit_request *request) { SP_CONTAINER(request, struct asked, request)->told++; }

static inline void ask_for(struct asked *asked, const struct scene_config *scene, const char *subject, const char *limits) {
    *asked = (struct asked){.request = {.cost = 1, .done = asked_done, .facts = {.subject = sp_span_text(subject)}}};
    for (const char *digit = limits; *digit; digit++)
        asked->request.limits[asked->request.n_limits++] = &scene->limit[*digit - '0'];
}

#endif
