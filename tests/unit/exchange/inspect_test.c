#include "scene.h"

#define CHUNKED_POST                                                                                                                       \
    "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

static struct sp_model_config models[] = {{.name = "m", .as = "m"}};

/* A request on a route that is decided by the model; it has come to inspect. */
static struct sp_exchange *asked(struct scene *scene) {
    models[0].pool = &scene->pool;
    scene->config.models = models;
    scene->config.n_models = SP_COUNT(models);
    scene->routes[0].models_in_body = true;
    struct sp_exchange *x = scene_request(scene, CHUNKED_POST);
    x->route = &scene->routes[0];
    x->path = x->request.path;
    return x;
}

static void add(struct sp_exchange *x, struct sp_span bytes) { assert_int_equal(sp_body_add(x, bytes), bytes.len); }

/* Whoever is called again in the next turn, and in each one after it, takes all the time there is. */
static void while_it_waits_for_memory_nobody_is_called_to_read(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene.service->body_bytes_max = sp_inspect_scan_size() + SP_BODY_BLOCK_SIZE;
    struct sp_exchange *x = asked(&scene);
    add(x, SP_SPAN("{\"model\":\"m\",\"pad\":\""));
    assert_int_equal(sp_stage_inspect(x), SP_STAGE_WAIT);
    assert_int_equal(scene.read_more, 1);
    static char pad[2 * SP_BODY_BLOCK_SIZE];
    memset(pad, 'x', sizeof pad);
    assert_true(sp_body_add(x, sp_span(pad, sizeof pad)) < sizeof pad);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sp_stage_inspect(x), SP_STAGE_WAIT);
    assert_int_equal(scene.read_more, 1);
    assert_true(x->body.waits_for_memory);
    scene_close(&scene);
}

static void a_scan_waits_for_memory_like_the_body_and_then_goes_on(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene.service->body_bytes_max = sp_inspect_scan_size() + SP_BODY_BLOCK_SIZE - 1;
    struct sp_exchange *x = asked(&scene);
    add(x, SP_SPAN("{\"model\":\"m\"}"));
    x->body.complete = true;
    assert_int_equal(sp_stage_inspect(x), SP_STAGE_WAIT);
    assert_true(x->body.waits_for_memory);
    assert_true(x->timer.active); /* not for ever */
    scene.service->body_bytes_max++;
    assert_int_equal(sp_stage_inspect(x), SP_STAGE_NEXT);
    assert_false(x->body.waits_for_memory);
    assert_ptr_equal(x->model, &models[0]);
    scene_close(&scene);
}

static void who_waits_too_long_for_a_scan_is_refused(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene.service->body_bytes_max = SP_BODY_BLOCK_SIZE;
    struct sp_exchange *x = asked(&scene);
    add(x, SP_SPAN("{\"model\":\"m\"}"));
    x->body.complete = true;
    assert_int_equal(sp_stage_inspect(x), SP_STAGE_WAIT);
    x->started_us = 0;
    x->progress_ms = 0;
    x->timer.fire(&x->timer);
    assert_true(scene_told(&scene, "503\n"));
    assert_true(x->ended);
    scene_close(&scene);
}

static void wake(struct scene *scene, uint64_t room) {
    scene->service->body_bytes_max = room;
    sp_defer(scene->loop, &scene->service->wake_waiters);
    sp_loop_settle(scene->loop);
}

static void of_those_that_wait_who_came_first_goes_on_first_and_no_more_than_there_is_room_for(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *scan = asked(&scene), *first = asked(&scene), *second = asked(&scene);
    sp_body_wait_for_memory(scan, sp_inspect_scan_size());
    sp_body_wait_for_memory(first, SP_BODY_BLOCK_SIZE);
    sp_body_wait_for_memory(second, SP_BODY_BLOCK_SIZE);
    wake(&scene, SP_BODY_BLOCK_SIZE - 1);
    assert_int_equal(scene.read_more, 0);
    scene.service->body_bytes_max = SP_BODY_BLOCK_SIZE;
    scene.service->wake_waiters.run(&scene.service->wake_waiters); /* once, without what follows in the next turn */
    assert_int_equal(scene.read_more, 1);
    assert_false(first->body.waits_for_memory);
    assert_true(second->body.waits_for_memory);
    assert_true(scan->body.waits_for_memory);
    wake(&scene, SP_BODY_BLOCK_SIZE); /* the first took nothing, so it is the second's turn */
    assert_false(second->body.waits_for_memory);
    assert_true(scan->body.waits_for_memory);
    wake(&scene, sp_inspect_scan_size());
    assert_int_equal(scene.read_more, 3);
    sp_exchange_end(scan, "test over");
    sp_exchange_end(first, "test over");
    scene_close(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_it_waits_for_memory_nobody_is_called_to_read),
        cmocka_unit_test(a_scan_waits_for_memory_like_the_body_and_then_goes_on),
        cmocka_unit_test(who_waits_too_long_for_a_scan_is_refused),
        cmocka_unit_test(of_those_that_wait_who_came_first_goes_on_first_and_no_more_than_there_is_room_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
