/* A client connection when the worker has other things to do: real sockets, TLS, one loop. */
#include "scene.h"

#include <sys/mman.h>
#include <unistd.h>

#include "../net/support.h"

enum { TIMEOUT_MS = 100 };

struct fixture {
    struct scene scene;
    struct sp_listener_config listener;
    struct sp_tls_server *tls;
    struct sp_traffic *traffic;
    void *segment;
    struct test_client client;
    struct sp_deferred busy;
    unsigned busy_ms; /* at least */
};

static const struct sp_hash_key key = {1, 2};

/* Work that came before. */
static void be_busy(struct sp_deferred *deferred) {
    struct fixture *f = SP_CONTAINER(deferred, struct fixture, busy);
    usleep(f->busy_ms * 1000);
    test_use_up_turn(f->scene.loop);
}

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    scene_open(&f->scene);
    f->segment = mmap(NULL, sp_traffic_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(f->segment, MAP_FAILED);
    check(sp_traffic_open(f->segment, 0, &key, &f->traffic));
    f->tls = test_server_simple();
    f->listener = (struct sp_listener_config){.handshake_timeout_ms = TIMEOUT_MS, .idle_timeout_ms = 60000, .header_timeout_ms = 60000};
    f->scene.service->parts.traffic = f->traffic;
    f->scene.service->snapshot->tls[0] = f->tls;
    f->scene.service->snapshot->listener[0] = &f->listener;
    f->busy.run = be_busy;
    sp_list_init(&f->busy.node);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    test_client_free(&f->client);
    sp_service_abort(f->scene.service);
    scene_close(&f->scene);
    sp_tls_server_unref(f->tls);
    sp_traffic_free(f->traffic);
    munmap(f->segment, sp_traffic_segment_size());
    free(f);
    return 0;
}

static void turn(struct fixture *f, int wait_ms) { check(sp_loop_turn(f->scene.loop, wait_ms)); }

static uint64_t connections(const struct fixture *f) {
    struct sp_service_state now;
    sp_service_state(f->scene.service, &now);
    return now.connections;
}

/* A client that is about to be let in. */
static int connect_client(struct fixture *f) {
    int accepted = -1, fd = test_connected(&accepted);
    test_client_init(&f->client, fd);
    return accepted;
}

static void let_in(struct fixture *f, int accepted) {
    struct sp_address from;
    assert_true(sp_address_parse(SP_SPAN("127.0.0.1"), from.bytes));
    turn(f, 0); /* the loop's clock is read */
    sp_service_accept(f->scene.service, 0, accepted, &from);
}

static void be_busy_for(struct fixture *f, unsigned ms) {
    f->busy_ms = ms;
    sp_defer_yielding(f->scene.loop, &f->busy);
}

static void a_handshake_that_had_to_wait_is_not_timed_out_for_it(void **state) {
    struct fixture *f = *state;
    int accepted = connect_client(f);
    assert_int_not_equal(SSL_do_handshake(f->client.ssl), 1);
    let_in(f, accepted);
    be_busy_for(f, 3 * TIMEOUT_MS);
    turn(f, 1000);
    turn(f, 1000); /* past its time */
    assert_int_equal(connections(f), 1);
    char byte;
    assert_int_equal(recv(f->client.fd, &byte, 1, MSG_PEEK), 1); /* it is answered */
}

static void what_it_waited_is_given_back_once(void **state) {
    struct fixture *f = *state;
    let_in(f, connect_client(f));
    assert_int_equal(write(f->client.fd, "\x16\x03\x01", 3), 3); /* and no more */
    be_busy_for(f, 3 * TIMEOUT_MS);
    turn(f, 1000);
    uint64_t begun = sp_clock_us();
    turn(f, 1000);
    assert_int_equal(connections(f), 1); /* past its time */
    while (connections(f) > 0)
        turn(f, 1000);
    assert_true(sp_clock_us() - begun >= TIMEOUT_MS * 1000);
}

static void a_handshake_that_waits_for_its_client_is_timed_out(void **state) {
    struct fixture *f = *state;
    let_in(f, connect_client(f));
    assert_int_equal(write(f->client.fd, "\x16\x03\x01", 3), 3);
    while (connections(f) > 0) /* only the timer ends it: else this does not */
        turn(f, 1000);
}

/* Once memory is to be given back after a flood, and the process ends before: tear_down() ends the service and then the loop. */
static void an_end_while_memory_is_to_be_given_back_is_an_end(void **state) {
    struct fixture *f = *state;
    let_in(f, connect_client(f));
    f->scene.service->clients_peak = 1000;
}

#define with_a_client(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_a_client(a_handshake_that_had_to_wait_is_not_timed_out_for_it),
        with_a_client(what_it_waited_is_given_back_once),
        with_a_client(a_handshake_that_waits_for_its_client_is_timed_out),
        with_a_client(an_end_while_memory_is_to_be_given_back_is_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
