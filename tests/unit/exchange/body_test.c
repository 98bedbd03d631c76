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

/* What the body is now, as one text. */
static size_t whole(struct sp_exchange *x, char *out, size_t size) {
    size_t n = (size_t)x->body.received;
    assert_true(n <= size);
    assert_true(sp_body_copy(x, 0, n, out));
    assert_false(sp_body_copy(x, 0, n + 1, out));
    return n;
}

static void a_splice_is_what_a_splice_of_one_text_would_be(void **state) {
    enum { MOST = 200000 };
    static char model[MOST], now[MOST];
    uint64_t dice = 12345;
    for (int round = 0; round < 300; round++) {
        struct scene scene;
        scene_open(&scene);
        struct sp_exchange *x = scene_request(&scene, LONG_POST);
        unsigned next = 0;
        size_t len = (size_t)(dice % 60000);
        fill(x, len, &next);
        for (size_t i = 0; i < len; i++)
            model[i] = (char)(i * 7);
        for (int i = 0; i < 4; i++) {
            dice = dice * 6364136223846793005u + 1442695040888963407u;
            size_t at = len ? (size_t)(dice >> 33) % (len + 1) : 0, gone = (size_t)((dice >> 20) % 40), put = (size_t)((dice >> 10) % 300);
            if (i == 3)
                gone = (size_t)((dice >> 20) % 40000);
            gone = sp_min(gone, len - at);
            char text[300];
            memset(text, 'a' + i, sizeof text);
            if (len == 0)
                continue; /* nothing came: there is nothing to splice */
            assert_true(sp_body_splice(x, at, gone, sp_span(text, put)));
            memmove(model + at + put, model + at + gone, len - at - gone);
            memcpy(model + at, text, put);
            len = len - gone + put;
            assert_int_equal(whole(x, now, sizeof now), len);
            assert_memory_equal(now, model, len);
        }
        struct iovec pieces[3];
        for (size_t sent = 0; sent < len;) {
            assert_true(sp_body_unsent(x, pieces, 3) > 0);
            assert_memory_equal(pieces[0].iov_base, model + sent, pieces[0].iov_len);
            sent += pieces[0].iov_len;
            sp_body_sent(x, pieces[0].iov_len);
        }
        assert_int_equal(sp_body_waiting(&x->body), 0);
        scene_close(&scene);
    }
}

/* What an exchange has of its own is not of the budget: a full block's other bytes stay where they are. */
static void a_splice_near_either_end_of_a_block_costs_little_memory(void **state) {
    for (size_t at = 1; at <= 16001; at += 16000) {
        struct scene scene;
        scene_open(&scene);
        struct sp_exchange *x = scene_request(&scene, LONG_POST);
        unsigned next = 0;
        fill(x, 50000, &next);
        size_t before = x->arena.total;
        assert_true(sp_body_splice(x, at, 10, SP_SPAN("twenty bytes of text")));
        assert_true(x->arena.total - before < 600);
        scene_close(&scene);
    }
}

static void nothing_is_spliced_into_a_body_that_is_being_sent_or_beyond_its_end(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, LONG_POST);
    unsigned next = 0;
    fill(x, 1000, &next);
    assert_false(sp_body_splice(x, 1001, 0, SP_SPAN("a")));
    assert_false(sp_body_splice(x, 999, 2, SP_SPAN("a")));
    sp_body_sent(x, 10);
    assert_false(sp_body_splice(x, 500, 1, SP_SPAN("a")));
    scene_close(&scene);
}

static void what_has_come_is_read_once_and_in_order(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *x = scene_request(&scene, LONG_POST);
    struct sp_body_mark mark = {0};
    unsigned in = 0, out = 0;
    assert_int_equal(sp_body_unread(x, &mark).len, 0);
    for (size_t n = 1; n < 40000; n *= 3) {
        fill(x, n, &in);
        size_t read = 0;
        for (struct sp_span bytes; (bytes = sp_body_unread(x, &mark)).len > 0; read += bytes.len)
            for (size_t i = 0; i < bytes.len; i++)
                assert_int_equal(bytes.at[i], (char)(out++ * 7));
        assert_int_equal(read, n);
    }
    scene_close(&scene);
}

static void an_exchange_takes_as_many_fields_as_it_was_made_for(void **state) {
    struct scene scene;
    scene_open(&scene);
    struct sp_exchange *other = scene_request(&scene, LONG_POST);
    struct sp_http_request many = other->request;
    static const struct sp_http_field field = {.name = SP_SPAN("x-last"), .value = SP_SPAN("here")};
    const unsigned made_for[] = {0, SP_EXCHANGE_FIELDS, SP_EXCHANGE_FIELDS + 1, SP_HTTP_FIELDS_MAX};
    for (size_t i = 0; i < SP_COUNT(made_for); i++) {
        struct sp_exchange *x = sp_exchange_new(scene.service, other->front, other->client, other->from, made_for[i]);
        assert_non_null(x);
        many.fields.count = made_for[i] <= SP_EXCHANGE_FIELDS ? SP_EXCHANGE_FIELDS : SP_HTTP_FIELDS_MAX;
        many.fields.item[many.fields.count - 1] = field;
        assert_true(sp_exchange_take_request(x, &many));
        assert_true(sp_span_eq(x->request.fields.item[many.fields.count - 1].value, field.value));
        assert_true(sp_span_eq(x->request.path, other->request.path));
        many.fields.count = SP_EXCHANGE_FIELDS + 1;
        assert_int_equal(sp_exchange_take_request(x, &many), made_for[i] > SP_EXCHANGE_FIELDS);
        x->request.fields.count = 0;
        sp_exchange_end(x, "next");
    }
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
        cmocka_unit_test(a_splice_is_what_a_splice_of_one_text_would_be),
        cmocka_unit_test(a_splice_near_either_end_of_a_block_costs_little_memory),
        cmocka_unit_test(nothing_is_spliced_into_a_body_that_is_being_sent_or_beyond_its_end),
        cmocka_unit_test(what_has_come_is_read_once_and_in_order),
        cmocka_unit_test(an_exchange_takes_as_many_fields_as_it_was_made_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
