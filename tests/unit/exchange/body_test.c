#include "scene.h"

#include <sys/uio.h>

#define LONG_POST "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n"

static void fill(struct sp_exchange *x, size_t n, unsigned *next) {
    char bytes[1000];
    for (size_t done = 0; done < n;) {
        size_t here = sp_min(sizeof bytes, n - done);
        for (size_t i = 0; i < here; i++)
            bytes[i] = (char)((*next)++ * 7);
        assert_int_equal(sp_body_add(x, sp_span(bytes, here)), here);
        done += here;
    }
}

/* Takes up to n bytes off the front, in pieces, and checks that they go on where the last ones ended. */
static void drain(struct sp_exchange *x, size_t n, unsigned *next) {
    while (n) {
        struct iovec pieces[3];
        int count = sp_body_unsent(x, pieces, 3);
        assert_true(count > 0);
        size_t here = sp_min(n, pieces[0].iov_len);
        for (size_t i = 0; i < here; i++)
            assert_int_equal(((char *)pieces[0].iov_base)[i], (char)((*next)++ * 7));
        sp_body_sent(x, here);
        n -= here;
    }
}

static void bytes_leave_in_the_order_they_came_and_can_be_sent_again(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, LONG_POST);
    unsigned in = 0, out = 0;
    fill(x, 50000, &in);
    drain(x, 33333, &out);
    assert_true(x->body.kept);
    sp_body_rewind(x);
    out = 0;
    drain(x, 50000, &out);
    assert_int_equal(sp_body_waiting(&x->body), 0);
    scene_close(&scene);
}

static void memory_of_what_was_sent_is_freed_once_no_second_try_is_possible(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, LONG_POST);
    unsigned in = 0, out = 0;
    fill(x, 100000, &in);
    drain(x, 100000, &out);
    uint64_t held = scene.service->body_bytes;
    sp_body_let_go(x);
    assert_true(scene.service->body_bytes < held);
    assert_true(scene.service->body_bytes <= SP_BODY_BLOCK_SIZE);
    scene_close(&scene);
}

static void a_long_body_is_not_kept_for_a_second_try(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, LONG_POST);
    unsigned in = 0, out = 0;
    for (int i = 0; i < 20; i++) {
        fill(x, 40000, &in);
        drain(x, 40000, &out);
    }
    assert_false(x->body.kept);
    assert_true(scene.service->body_bytes <= 4 * SP_BODY_BLOCK_SIZE);
    scene_close(&scene);
}

static void the_window_closes_before_memory_is_spent_and_the_budget_is_never_exceeded(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene.service->body_bytes_max = 3 * SP_BODY_BLOCK_SIZE;
    struct sp_exchange *x = scene_request(&scene, LONG_POST);
    char bytes[SP_BODY_WINDOW * 2] = {0};
    size_t taken = sp_body_add(x, sp_span(bytes, sizeof bytes));
    assert_true(taken < sizeof bytes);
    assert_true(scene.service->body_bytes <= scene.service->body_bytes_max);
    assert_true(x->body.waits_for_memory);
    assert_false(sp_body_wants(x));
    scene_close(&scene);
}

static void one_that_waits_for_memory_goes_on_when_another_frees_some(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene.service->body_bytes_max = 2 * SP_BODY_BLOCK_SIZE;
    struct sp_exchange *first = scene_request(&scene, LONG_POST);
    char bytes[2 * SP_BODY_BLOCK_SIZE] = {0};
    (void)sp_body_add(first, sp_span(bytes, 30000));
    struct sp_exchange *second = scene_request(&scene, LONG_POST);
    assert_int_equal(sp_body_add(second, sp_span(bytes, 10)), 0);
    assert_true(second->body.waits_for_memory);
    sp_exchange_end(first, "test");
    sp_loop_settle(scene.loop);
    assert_false(second->body.waits_for_memory);
    assert_int_equal(scene.read_more, 1);
    scene_close(&scene);
}

static void one_that_waits_for_memory_goes_on_when_a_reload_gives_more(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene.service->body_bytes_max = SP_BODY_BLOCK_SIZE;
    struct sp_exchange *x = scene_request(&scene, LONG_POST);
    char bytes[2 * SP_BODY_BLOCK_SIZE] = {0};
    assert_true(sp_body_add(x, sp_span(bytes, sizeof bytes)) < sizeof bytes);
    assert_true(x->body.waits_for_memory);
    sp_service_use(scene.service, scene.service->snapshot); /* its configuration says 1 MiB */
    sp_loop_settle(scene.loop);
    assert_false(x->body.waits_for_memory);
    assert_int_equal(scene.read_more, 1);
    scene_close(&scene);
}

static void who_waits_for_memory_goes_on_in_its_own_once_that_is_sent(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene.service->body_bytes_max = SP_BODY_BLOCK_SIZE;
    struct sp_exchange *x = scene_request(&scene, LONG_POST);
    char bytes[2 * SP_BODY_BLOCK_SIZE];
    unsigned in = 0, out = 0;
    for (; in < sizeof bytes; in++)
        bytes[in] = (char)(in * 7);
    for (size_t done = 0; done < sizeof bytes;) {
        done += sp_body_add(x, sp_span(bytes + done, sizeof bytes - done));
        drain(x, sp_body_waiting(&x->body), &out);
        assert_false(x->body.waits_for_memory);
        assert_true(scene.service->body_bytes <= SP_BODY_BLOCK_SIZE);
    }
    assert_int_equal(out, sizeof bytes);
    scene_close(&scene);
}

static void a_small_body_costs_no_block(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n");
    unsigned in = 0, out = 0;
    fill(x, 500, &in);
    assert_int_equal(scene.service->body_bytes, 0);
    drain(x, 500, &out);
    scene_close(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_leave_in_the_order_they_came_and_can_be_sent_again),
        cmocka_unit_test(memory_of_what_was_sent_is_freed_once_no_second_try_is_possible),
        cmocka_unit_test(a_long_body_is_not_kept_for_a_second_try),
        cmocka_unit_test(the_window_closes_before_memory_is_spent_and_the_budget_is_never_exceeded),
        cmocka_unit_test(one_that_waits_for_memory_goes_on_when_another_frees_some),
        cmocka_unit_test(one_that_waits_for_memory_goes_on_when_a_reload_gives_more),
        cmocka_unit_test(who_waits_for_memory_goes_on_in_its_own_once_that_is_sent),
        cmocka_unit_test(a_small_body_costs_no_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
