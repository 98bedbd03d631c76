/* Handshakes of newcomers beside a connection that is already served, all on one loop. */
#include "support.h"

#include <poll.h>
#include <unistd.h>

enum { N = 16 };

struct fixture {
    struct sp_tls_server *server;
    struct test_side here, side[N]; /* one that is served; the newcomers */
    struct test_client known, client[N];
    struct sp_deferred busy;
};

/* Work that came before. */
static void be_busy(struct sp_deferred *deferred) { test_use_up_turn(SP_CONTAINER(deferred, struct fixture, busy)->here.loop); }

static void wait_for_bytes(int fd) { assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 2000), 1); }

static bool has_bytes(int fd) { return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1; }

/* Every newcomer has said his ClientHello, in order, and the known client asks for something. */
static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    f->server = test_server_simple();
    f->busy.run = be_busy;
    sp_list_init(&f->busy.node);
    test_side_init(&f->here);
    f->here.echo = true;
    test_client_init(&f->known, test_side_accept(&f->here, f->server));
    assert_true(test_handshake(&f->known, &f->here));
    for (int i = 0; i < N; i++) {
        f->side[i] = (struct test_side){.loop = f->here.loop, .read_all = true, .ended = 1};
        test_client_init(&f->client[i], test_side_accept(&f->side[i], f->server));
    }
    for (int i = 0; i < N; i++) /* what epoll says at once: that there is room */
        check(sp_loop_turn(f->here.loop, 0));
    for (int i = 0; i < N; i++) {
        assert_int_not_equal(SSL_do_handshake(f->client[i].ssl), 1);
        wait_for_bytes(sp_transport_fd(f->side[i].transport));
    }
    test_client_write(&f->known, "request", 7);
    wait_for_bytes(sp_transport_fd(f->here.transport));
    test_calls_reset();
    sp_defer_yielding(f->here.loop, &f->busy);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < N; i++) {
        test_client_free(&f->client[i]);
        sp_transport_close(f->side[i].transport, false);
    }
    test_client_free(&f->known);
    test_side_free(&f->here);
    sp_tls_server_unref(f->server);
    free(f);
    return 0;
}

static void turn(struct fixture *f) { check(sp_loop_turn(f->here.loop, 1000)); }

static void who_is_served_is_answered_while_all_newcomers_wait(void **state) {
    struct fixture *f = *state;
    turn(f);
    assert_int_equal(f->here.got_len, 7);
    assert_int_equal(test_send_calls, 1); /* the answer */
    assert_int_equal(test_recv_calls, 1);
    for (int i = 0; i < N; i++)
        assert_false(has_bytes(f->client[i].fd));
}

static void a_turn_takes_a_few_of_them_the_oldest_first(void **state) {
    struct fixture *f = *state;
    turn(f);
    int begun = 0;
    while (begun < N) {
        test_calls_reset();
        turn(f); /* does not wait, though nothing more comes */
        assert_true(test_send_calls >= 1);
        begun += (int)test_send_calls;
        assert_true(begun <= N);
        for (int i = 0; i < begun; i++)
            wait_for_bytes(f->client[i].fd);
        for (int i = begun; i < N; i++)
            assert_false(has_bytes(f->client[i].fd));
    }
}

static void none_is_lost(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < N; i++) {
        assert_true(test_handshake(&f->client[i], &f->side[i]));
        assert_true(f->side[i].seen & SP_READY_OPEN);
    }
}

static void who_is_closed_while_he_waits_is_left_out(void **state) {
    struct fixture *f = *state;
    turn(f);
    sp_transport_close(sp_take(f->side[0].transport), true);
    sp_transport_close(sp_take(f->side[N - 1].transport), false);
    sp_transport_linger(sp_take(f->side[5].transport), NULL);
    for (int i = 0; i < N; i++)
        if (f->side[i].transport)
            assert_true(test_handshake(&f->client[i], &f->side[i]));
    assert_int_equal(f->side[0].calls + f->side[5].calls + f->side[N - 1].calls, 0);
}

static void who_leaves_while_he_waits_fails_when_it_is_his_turn(void **state) {
    struct fixture *f = *state;
    turn(f);
    check(setsockopt(f->client[3].fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger)));
    close(f->client[3].fd); /* a reset */
    f->client[3].fd = -1;
    turn_until(&f->here, f->side[3].seen & SP_READY_FAILED);
    assert_int_equal(f->side[3].calls, 1);
    for (int i = 4; i < N; i++)
        assert_true(test_handshake(&f->client[i], &f->side[i]));
}

static void what_they_waited_is_told(void **state) {
    struct fixture *f = *state;
    turn(f);
    uint64_t first = sp_transport_waited_ms(f->side[0].transport), last = sp_transport_waited_ms(f->side[N - 1].transport);
    usleep(5000);
    turn(f);
    assert_true(sp_transport_waited_ms(f->side[N - 1].transport) >= last + 5); /* whether it still does or not */
    assert_true(sp_transport_waited_ms(f->side[0].transport) >= first + 5);    /* it did */
    uint64_t waited = sp_transport_waited_ms(f->side[0].transport);
    usleep(5000);
    turn(f);
    assert_int_equal(sp_transport_waited_ms(f->side[0].transport), waited); /* now it is the client's turn */
}

#define in_a_crowd(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        in_a_crowd(who_is_served_is_answered_while_all_newcomers_wait),
        in_a_crowd(a_turn_takes_a_few_of_them_the_oldest_first),
        in_a_crowd(none_is_lost),
        in_a_crowd(who_is_closed_while_he_waits_is_left_out),
        in_a_crowd(who_leaves_while_he_waits_fails_when_it_is_his_turn),
        in_a_crowd(what_they_waited_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
