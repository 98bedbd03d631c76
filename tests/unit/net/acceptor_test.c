#include "support.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define SLOT 2

static const struct sp_hash_key key = {1, 2};

struct fixture {
    struct sp_loop *loop;
    void *segment;
    struct sp_traffic *traffic;
    struct sp_acceptor *acceptor;
    struct sp_config config;
    struct sp_listener_config listener;
    struct sp_cidr allow, deny, trusted;
    uint16_t port;
    int in[256]; /* accepted */
    unsigned n_in;
    const char *expected; /* who comes in */
    bool stop_inside, free_inside, slow;
};

static void accepted(void *owner, unsigned listener_slot, int fd, const struct sp_address *peer) {
    struct fixture *f = owner;
    char text[SP_ADDRESS_TEXT_MAX];
    assert_int_equal(listener_slot, SLOT);
    sp_address_text(peer->bytes, text);
    assert_string_equal(text, f->expected);
    assert_true(peer->port > 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    f->in[f->n_in++] = fd;
    if (f->slow)
        test_use_up_turn(f->loop);
    if (f->stop_inside)
        sp_acceptor_stop(f->acceptor);
    if (f->free_inside)
        sp_acceptor_free(sp_take(f->acceptor));
}

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    f->expected = "127.0.0.1";
    f->segment = mmap(NULL, sp_traffic_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(f->segment, MAP_FAILED);
    check(sp_loop_new(&f->loop));
    check(sp_traffic_open(f->segment, 0, &key, &f->traffic));
    int fd = test_side_listen(&f->port);
    check(sp_acceptor_new(f->loop, fd, SLOT, f->traffic, accepted, f, &f->acceptor));
    f->config.refs = 1000; /* of this frame: never freed by who lets go */
    f->listener = (struct sp_listener_config){.max_connections = 200, .max_connections_per_address = 200};
    sp_acceptor_configure(f->acceptor, &f->config, &f->listener);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    for (unsigned i = 0; i < f->n_in; i++)
        close(f->in[i]);
    sp_acceptor_free(f->acceptor);
    sp_loop_free(f->loop);
    assert_int_equal(f->config.refs, 1000);
    sp_traffic_free(f->traffic);
    munmap(f->segment, sp_traffic_segment_size());
    free(f);
    return 0;
}

static int connect_to(const struct fixture *f) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    const struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(f->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    check(connect(fd, (const struct sockaddr *)&to, sizeof to));
    return fd;
}

static void assert_closed_by_peer(int client) {
    char byte;
    assert_true(read(client, &byte, 1) <= 0);
    close(client);
}

static void set_range(struct sp_cidrs *ranges, struct sp_cidr *range, const char *literal, uint8_t prefix) {
    assert_true(sp_address_parse(sp_span_text(literal), range->address));
    range->prefix = prefix;
    *ranges = (struct sp_cidrs){.item = range, .count = 1};
}

static void who_is_within_the_caps_comes_in_and_is_counted(void **state) {
    struct fixture *f = *state;
    int client = connect_to(f);
    turn_until(f, f->n_in == 1);
    assert_int_equal(sp_traffic_connections(f->traffic, SLOT), 1);
    assert_int_equal(sp_acceptor_refused(f->acceptor), 0);
    close(client);
}

static void a_crowd_is_let_in_over_several_turns(void **state) {
    struct fixture *f = *state;
    enum { N = 60 };
    int clients[N];
    for (int i = 0; i < N; i++)
        clients[i] = connect_to(f);
    f->slow = true;
    for (unsigned before = 0; before < N; before = f->n_in) {
        check(sp_loop_turn(f->loop, 1000));
        assert_int_equal(f->n_in, before + 1);
    }
    for (int i = 0; i < N; i++)
        close(clients[i]);
}

struct other_work {
    struct sp_deferred deferred;
    const struct sp_loop *loop;
};

static void other_work(struct sp_deferred *deferred) { test_use_up_turn(SP_CONTAINER(deferred, struct other_work, deferred)->loop); }

static void newcomers_wait_behind_the_work_that_is_there(void **state) {
    struct fixture *f = *state;
    struct other_work work[3];
    int client = connect_to(f);
    for (size_t i = 0; i < SP_COUNT(work); i++) {
        work[i] = (struct other_work){.deferred.run = other_work, .loop = f->loop};
        sp_defer_yielding(f->loop, &work[i].deferred);
    }
    for (size_t i = 0; i < SP_COUNT(work); i++) {
        check(sp_loop_turn(f->loop, 1000));
        assert_int_equal(f->n_in, 0);
    }
    check(sp_loop_turn(f->loop, 1000));
    assert_int_equal(f->n_in, 1);
    close(client);
}

static void stopping_leaves_those_in_the_queue_who_were_about_to_be_let_in(void **state) {
    struct fixture *f = *state;
    struct other_work work = {.deferred.run = other_work, .loop = f->loop};
    int client = connect_to(f);
    sp_defer_yielding(f->loop, &work.deferred);
    check(sp_loop_turn(f->loop, 1000));
    sp_acceptor_stop(f->acceptor);
    check(sp_loop_turn(f->loop, 0));
    assert_int_equal(f->n_in, 0);
    close(client);
}

static void who_is_too_many_is_closed_at_once(void **state) {
    struct fixture *f = *state;
    f->listener.max_connections = 2;
    int clients[3];
    for (int i = 0; i < 3; i++)
        clients[i] = connect_to(f);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_int_equal(f->n_in, 2);
    assert_closed_by_peer(clients[2]);
    close(clients[0]);
    close(clients[1]);
}

static void one_address_cannot_take_all_places(void **state) {
    struct fixture *f = *state;
    f->listener.max_connections_per_address = 1;
    int first = connect_to(f), second = connect_to(f);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_int_equal(f->n_in, 1);
    assert_closed_by_peer(second);
    uint8_t local[16];
    assert_true(sp_address_parse(SP_SPAN("127.0.0.1"), local));
    sp_traffic_leave(f->traffic, SLOT, local);
    int third = connect_to(f);
    turn_until(f, f->n_in == 2);
    close(first);
    close(third);
}

static void a_denied_address_stays_out(void **state) {
    struct fixture *f = *state;
    set_range(&f->listener.deny, &f->deny, "127.0.0.0", 104);
    int client = connect_to(f);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_closed_by_peer(client);
    assert_int_equal(sp_traffic_connections(f->traffic, SLOT), 0);
}

static void deny_wins_over_allow(void **state) {
    struct fixture *f = *state;
    set_range(&f->listener.allow, &f->allow, "127.0.0.1", 128);
    int client = connect_to(f);
    turn_until(f, f->n_in == 1);
    close(client);
    set_range(&f->listener.deny, &f->deny, "127.0.0.1", 128);
    client = connect_to(f);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_closed_by_peer(client);
}

static void who_is_not_among_the_allowed_stays_out(void **state) {
    struct fixture *f = *state;
    set_range(&f->listener.allow, &f->allow, "10.0.0.0", 104);
    int client = connect_to(f);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_closed_by_peer(client);
}

static void a_new_configuration_holds_from_the_next_connection_on(void **state) {
    struct fixture *f = *state;
    struct sp_config next = {.refs = 10};
    struct sp_listener_config closed = f->listener;
    closed.max_connections = 0;
    sp_acceptor_configure(f->acceptor, &next, &closed);
    assert_int_equal(f->config.refs, 1000); /* the old one was let go */
    assert_int_equal(next.refs, 11);
    int client = connect_to(f);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_closed_by_peer(client);
    sp_acceptor_configure(f->acceptor, &f->config, &f->listener);
    assert_int_equal(next.refs, 10);
}

static void without_a_configuration_nobody_comes_in(void **state) {
    struct fixture *f = *state;
    sp_acceptor_configure(f->acceptor, NULL, NULL);
    int client = connect_to(f);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_closed_by_peer(client);
}

static void who_comes_before_there_is_a_configuration_waits_for_it(void **state) {
    struct fixture *f = *state;
    sp_acceptor_free(f->acceptor);
    check(sp_acceptor_new(f->loop, test_side_listen(&f->port), SLOT, f->traffic, accepted, f, &f->acceptor));
    int client = connect_to(f);
    for (int i = 0; i < 3; i++)
        check(sp_loop_turn(f->loop, 0));
    assert_int_equal(f->n_in, 0);
    assert_int_equal(sp_acceptor_refused(f->acceptor), 0);
    sp_acceptor_configure(f->acceptor, &f->config, &f->listener);
    turn_until(f, f->n_in == 1);
    close(client);
}

static void stopping_from_inside_leaves_the_others_in_the_queue(void **state) {
    struct fixture *f = *state;
    f->stop_inside = true;
    int first = connect_to(f);
    turn_until(f, f->n_in == 1);
    check(sp_loop_turn(f->loop, 0));
    close(first);
}

static void freeing_from_inside_is_safe(void **state) {
    struct fixture *f = *state;
    f->free_inside = true;
    int first = connect_to(f);
    turn_until(f, f->n_in == 1);
    assert_null(f->acceptor);
    close(first);
}

/* ---- Through a load balancer ---- */

#define FROM_192_0_2_7                                                                                                                     \
    "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\x00\x0c"                                                                     \
    "\xc0\x00\x02\x07\x7f\x00\x00\x01\xd4\x31\x01\xbb"
#define LOCAL "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x20\x00\x00\x00"

static void behind_proxies(struct fixture *f, const char *trusted) {
    f->listener.proxy_protocol = true;
    f->listener.handshake_timeout_ms = 60000;
    f->expected = "192.0.2.7";
    set_range(&f->listener.trusted_proxies, &f->trusted, trusted, 128);
}

static void say(int client, const char *bytes, size_t len) { assert_int_equal(write(client, bytes, len), len); }

static void the_client_behind_a_trusted_proxy_is_who_comes_in(void **state) {
    struct fixture *f = *state;
    behind_proxies(f, "127.0.0.1");
    int client = connect_to(f);
    say(client, FROM_192_0_2_7 "TLS", sizeof FROM_192_0_2_7 + 2);
    turn_until(f, f->n_in == 1);
    char rest[8];
    assert_int_equal(read(f->in[0], rest, sizeof rest), 3); /* what follows the header is untouched */
    assert_memory_equal(rest, "TLS", 3);
    close(client);
}

static void a_header_may_come_byte_by_byte(void **state) {
    struct fixture *f = *state;
    behind_proxies(f, "127.0.0.1");
    int client = connect_to(f);
    for (size_t i = 0; i < sizeof FROM_192_0_2_7 - 1; i++) {
        assert_int_equal(f->n_in, 0);
        say(client, &FROM_192_0_2_7[i], 1);
        check(sp_loop_turn(f->loop, 0));
        check(sp_loop_turn(f->loop, 0));
    }
    turn_until(f, f->n_in == 1);
    close(client);
}

static void a_proxy_that_speaks_for_itself_comes_in_as_itself(void **state) {
    struct fixture *f = *state;
    behind_proxies(f, "127.0.0.1");
    f->expected = "127.0.0.1";
    int client = connect_to(f);
    say(client, LOCAL, sizeof LOCAL - 1);
    turn_until(f, f->n_in == 1);
    close(client);
}

static void who_is_no_trusted_proxy_stays_out_whatever_it_says(void **state) {
    struct fixture *f = *state;
    behind_proxies(f, "127.0.0.2");
    int client = connect_to(f);
    say(client, FROM_192_0_2_7, sizeof FROM_192_0_2_7 - 1);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_closed_by_peer(client);
}

static void a_trusted_proxy_without_a_header_stays_out(void **state) {
    struct fixture *f = *state;
    behind_proxies(f, "127.0.0.1");
    int client = connect_to(f);
    say(client, "\x16\x03\x01", 3);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_closed_by_peer(client);
    client = connect_to(f);
    say(client, FROM_192_0_2_7, 10);
    shutdown(client, SHUT_WR);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 2);
    assert_closed_by_peer(client);
}

static void caps_and_lists_are_about_the_client_not_the_proxy(void **state) {
    struct fixture *f = *state;
    behind_proxies(f, "127.0.0.1");
    f->listener.max_connections_per_address = 1;
    set_range(&f->listener.deny, &f->deny, "127.0.0.1", 128);
    int first = connect_to(f), second = connect_to(f);
    say(first, FROM_192_0_2_7, sizeof FROM_192_0_2_7 - 1);
    turn_until(f, f->n_in == 1);
    say(second, FROM_192_0_2_7, sizeof FROM_192_0_2_7 - 1);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_closed_by_peer(second);
    set_range(&f->listener.deny, &f->deny, "192.0.2.0", 120);
    uint8_t address[16];
    assert_true(sp_address_parse(SP_SPAN("192.0.2.7"), address));
    sp_traffic_leave(f->traffic, SLOT, address);
    int third = connect_to(f);
    say(third, FROM_192_0_2_7, sizeof FROM_192_0_2_7 - 1);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 2);
    assert_closed_by_peer(third);
    close(first);
}

static void a_header_that_does_not_come_is_not_waited_for_longer_than_the_handshake_may_take(void **state) {
    struct fixture *f = *state;
    behind_proxies(f, "127.0.0.1");
    f->listener.handshake_timeout_ms = 20;
    int client = connect_to(f);
    say(client, FROM_192_0_2_7, 20);
    turn_until(f, sp_acceptor_refused(f->acceptor) == 1);
    assert_closed_by_peer(client);
    assert_int_equal(sp_traffic_connections(f->traffic, SLOT), 0);
}

static void stopping_ends_those_that_wait_for_their_header(void **state) {
    struct fixture *f = *state;
    behind_proxies(f, "127.0.0.1");
    int client = connect_to(f);
    say(client, FROM_192_0_2_7, 20);
    for (int i = 0; i < 5; i++)
        check(sp_loop_turn(f->loop, 1));
    sp_acceptor_stop(f->acceptor);
    assert_closed_by_peer(client);
}

static void freeing_from_inside_is_safe_behind_a_proxy_too(void **state) {
    struct fixture *f = *state;
    behind_proxies(f, "127.0.0.1");
    f->free_inside = true;
    int waits = connect_to(f), first = connect_to(f);
    say(waits, FROM_192_0_2_7, 20);
    say(first, FROM_192_0_2_7, 20);
    for (int i = 0; i < 5; i++)
        check(sp_loop_turn(f->loop, 1));
    say(first, &FROM_192_0_2_7[20], sizeof FROM_192_0_2_7 - 1 - 20);
    turn_until(f, f->n_in == 1);
    assert_null(f->acceptor);
    assert_closed_by_peer(waits);
    close(first);
}

static void out_of_descriptors_it_pauses_and_comes_back(void **state) {
    struct fixture *f = *state;
    struct rlimit before;
    check(getrlimit(RLIMIT_NOFILE, &before));
    int client = connect_to(f), lowest = dup(client);
    close(lowest);
    check(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)lowest, before.rlim_max}));
    check(sp_loop_turn(f->loop, -1)); /* the listener's event */
    assert_int_equal(f->n_in, 0);
    check(setrlimit(RLIMIT_NOFILE, &before));
    while (f->n_in == 0) /* only the timer brings it back */
        check(sp_loop_turn(f->loop, -1));
    close(client);
}

#define with_acceptor(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    sp_log_open(nowhere, "test", SP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        with_acceptor(who_is_within_the_caps_comes_in_and_is_counted),
        with_acceptor(a_crowd_is_let_in_over_several_turns),
        with_acceptor(newcomers_wait_behind_the_work_that_is_there),
        with_acceptor(stopping_leaves_those_in_the_queue_who_were_about_to_be_let_in),
        with_acceptor(who_is_too_many_is_closed_at_once),
        with_acceptor(one_address_cannot_take_all_places),
        with_acceptor(a_denied_address_stays_out),
        with_acceptor(deny_wins_over_allow),
        with_acceptor(who_is_not_among_the_allowed_stays_out),
        with_acceptor(a_new_configuration_holds_from_the_next_connection_on),
        with_acceptor(without_a_configuration_nobody_comes_in),
        with_acceptor(who_comes_before_there_is_a_configuration_waits_for_it),
        with_acceptor(stopping_from_inside_leaves_the_others_in_the_queue),
        with_acceptor(freeing_from_inside_is_safe),
        with_acceptor(the_client_behind_a_trusted_proxy_is_who_comes_in),
        with_acceptor(a_header_may_come_byte_by_byte),
        with_acceptor(a_proxy_that_speaks_for_itself_comes_in_as_itself),
        with_acceptor(who_is_no_trusted_proxy_stays_out_whatever_it_says),
        with_acceptor(a_trusted_proxy_without_a_header_stays_out),
        with_acceptor(caps_and_lists_are_about_the_client_not_the_proxy),
        with_acceptor(a_header_that_does_not_come_is_not_waited_for_longer_than_the_handshake_may_take),
        with_acceptor(stopping_ends_those_that_wait_for_their_header),
        with_acceptor(freeing_from_inside_is_safe_behind_a_proxy_too),
        with_acceptor(out_of_descriptors_it_pauses_and_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
