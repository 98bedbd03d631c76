#include "support.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

static void write_fd(int fd, const char *bytes, size_t len) { assert_int_equal(write(fd, bytes, len), (ssize_t)len); }

static void read_fd(int fd, char *into, size_t len) {
    while (len > 0) {
        ssize_t n = read(fd, into, len);
        assert_true(n > 0);
        into += n;
        len -= (size_t)n;
    }
}

static void what_is_sent_comes_back(void **state) {
    struct test_side side;
    test_side_init(&side);
    side.echo = true;
    int client = test_side_accept(&side, NULL);
    write_fd(client, "hello", 5);
    turn_until(&side, side.got_len == 5);
    char answer[5];
    read_fd(client, answer, 5);
    assert_memory_equal(answer, "hello", 5);
    struct sp_tls_facts facts;
    sp_transport_tls_facts(side.transport, &facts);
    assert_string_equal(facts.version, "");
    assert_string_equal(facts.alpn, "");
    close(client);
    test_side_free(&side);
}

static void opening_is_told_once_and_never_from_inside_the_call(void **state) {
    struct test_side side;
    test_side_init(&side);
    int client = test_side_accept(&side, NULL);
    assert_int_equal(side.calls, 0);
    turn_until(&side, side.seen & SP_READY_OPEN);
    assert_true(sp_transport_is_open(side.transport) && sp_transport_writable(side.transport));
    side.seen = 0;
    write_fd(client, "x", 1);
    turn_until(&side, side.seen & SP_READY_READ);
    assert_false(side.seen & SP_READY_OPEN);
    close(client);
    test_side_free(&side);
}

static void a_request_and_its_answer_cost_one_recv_and_one_send(void **state) {
    struct test_side side;
    test_side_init(&side);
    side.echo = true;
    int client = test_side_accept(&side, NULL);
    turn_until(&side, side.seen & SP_READY_OPEN);
    for (int i = 0; i < 10; i++) {
        side.got_len = 0;
        test_calls_reset();
        write_fd(client, "request", 7);
        turn_until(&side, side.got_len == 7);
        assert_false(sp_transport_readable(side.transport));
        assert_int_equal(test_recv_calls, 1);
        assert_int_equal(test_send_calls, 1);
        assert_int_equal(test_recv_again + test_send_again, 0);
    }
    close(client);
    test_side_free(&side);
}

static void a_slow_reader_stops_the_writer_and_starts_it_again(void **state) {
    struct test_side side;
    test_side_init(&side);
    int client = test_side_accept(&side, NULL);
    turn_until(&side, side.seen & SP_READY_OPEN);
    static char block[64 * 1024];
    size_t sent = 0;
    ssize_t n = 0;
    while (sp_transport_writable(side.transport) && (n = sp_transport_write(side.transport, block, sizeof block)) > 0)
        sent += (size_t)n;
    assert_false(sp_transport_writable(side.transport));
    test_calls_reset();
    assert_int_equal(sp_transport_write(side.transport, block, sizeof block), SP_IO_AGAIN);
    assert_int_equal(test_send_calls, 0); /* known without asking */
    side.seen = 0;
    for (size_t rest = sent; rest > 0;) {
        ssize_t got = read(client, block, sp_min(rest, sizeof block));
        assert_true(got > 0);
        rest -= (size_t)got;
    }
    turn_until(&side, side.seen & SP_READY_WRITE);
    assert_true(sp_transport_write(side.transport, block, sizeof block) > 0);
    close(client);
    test_side_free(&side);
}

static void gathered_pieces_leave_in_one_call(void **state) {
    struct test_side side;
    test_side_init(&side);
    int client = test_side_accept(&side, NULL);
    turn_until(&side, side.seen & SP_READY_OPEN);
    const struct iovec pieces[3] = {{(char[]){"one "}, 4}, {(char[]){"two "}, 4}, {(char[]){"three"}, 5}};
    test_calls_reset();
    assert_int_equal(sp_transport_writev(side.transport, pieces, 3), 13);
    assert_int_equal(test_send_calls, 1);
    char got[13];
    read_fd(client, got, sizeof got);
    assert_memory_equal(got, "one two three", 13);
    close(client);
    test_side_free(&side);
}

static void data_and_end_that_come_together_are_both_seen(void **state) {
    struct test_side side;
    test_side_init(&side);
    int client = test_side_accept(&side, NULL);
    write_fd(client, "last words", 10);
    check(shutdown(client, SHUT_WR));
    turn_until(&side, side.ended == 0);
    assert_int_equal(side.got_len, 10);
    assert_true(side.seen & SP_READY_GONE);
    assert_true(side.calls <= 2);
    assert_false(sp_transport_readable(side.transport));
    char byte;
    assert_int_equal(sp_transport_read(side.transport, &byte, 1), 0); /* and it stays the end */
    close(client);
    test_side_free(&side);
}

static void a_peer_that_leaves_is_noticed_by_an_owner_that_does_not_read(void **state) {
    struct test_side side;
    test_side_init(&side);
    side.read_all = false;
    int client = test_side_accept(&side, NULL);
    write_fd(client, "unread", 6);
    turn_until(&side, side.seen & SP_READY_READ);
    assert_false(side.seen & SP_READY_GONE);
    close(client);
    turn_until(&side, side.seen & SP_READY_GONE);
    char got[16];
    assert_int_equal(sp_transport_read(side.transport, got, sizeof got), 6);
    assert_int_equal(sp_transport_read(side.transport, got, sizeof got), 0);
    test_side_free(&side);
}

static void a_reset_is_not_an_end(void **state) {
    struct test_side side;
    test_side_init(&side);
    int client = test_side_accept(&side, NULL);
    turn_until(&side, side.seen & SP_READY_OPEN);
    check(setsockopt(client, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)));
    close(client);
    turn_until(&side, side.ended != 1);
    assert_int_equal(side.ended, -ECONNRESET);
    assert_true(side.seen & SP_READY_GONE);
    assert_non_null(strstr(sp_transport_problem(side.transport), "reset"));
    test_side_free(&side);
}

static void an_abort_reaches_the_peer_as_a_reset(void **state) {
    struct test_side side;
    test_side_init(&side);
    int client = test_side_accept(&side, NULL);
    turn_until(&side, side.seen & SP_READY_OPEN);
    test_write_all(&side, "half an ans", 11);
    sp_transport_close(sp_take(side.transport), true);
    char got[64];
    ssize_t n;
    while ((n = read(client, got, sizeof got)) > 0)
        ;
    assert_int_equal(n, -1);
    assert_int_equal(errno, ECONNRESET);
    close(client);
    test_side_free(&side);
}

static void an_orderly_close_reaches_the_peer_as_the_end(void **state) {
    struct test_side side;
    test_side_init(&side);
    int client = test_side_accept(&side, NULL);
    turn_until(&side, side.seen & SP_READY_OPEN);
    test_write_all(&side, "all", 3);
    sp_transport_close(sp_take(side.transport), false);
    char got[4];
    read_fd(client, got, 3);
    assert_int_equal(read(client, got, sizeof got), 0);
    close(client);
    test_side_free(&side);
}

static void closing_from_inside_ready_is_safe(void **state) {
    struct test_side side;
    test_side_init(&side);
    side.close_inside = true;
    int client = test_side_accept(&side, NULL);
    write_fd(client, "x", 1);
    turn_until(&side, !side.transport);
    check(sp_loop_turn(side.loop, 0));
    close(client);
    test_side_free(&side);
}

static void lingering_lets_the_answer_arrive_while_the_peer_still_sends(void **state) {
    struct test_side side;
    test_side_init(&side);
    side.read_all = false;
    int client = test_side_accept(&side, NULL);
    turn_until(&side, side.seen & SP_READY_OPEN);
    static char body[100 * 1024];
    write_fd(client, body, sizeof body); /* never read by the owner */
    test_write_all(&side, "413", 3);
    int fd = sp_transport_fd(side.transport);
    sp_transport_linger(sp_take(side.transport), NULL);
    for (int i = 0; i < 10; i++) {
        write_fd(client, body, 1000);
        check(sp_loop_turn(side.loop, 1));
    }
    char got[8];
    read_fd(client, got, 3);
    assert_memory_equal(got, "413", 3);
    assert_int_equal(read(client, got, sizeof got), 0); /* FIN, no reset */
    close(client);
    turn_until(&side, fcntl(fd, F_GETFD) < 0); /* the peer's end is ours */
    test_side_free(&side);
}

static void lingering_is_bounded_in_bytes(void **state) {
    struct test_side side;
    test_side_init(&side);
    side.read_all = false;
    int client = test_side_accept(&side, NULL);
    turn_until(&side, side.seen & SP_READY_OPEN);
    int fd = sp_transport_fd(side.transport);
    sp_transport_linger(sp_take(side.transport), NULL);
    check(fcntl(client, F_SETFL, O_NONBLOCK));
    static char body[64 * 1024];
    size_t sent = 0;
    while (fcntl(fd, F_GETFD) >= 0 && sent < 64u << 20) {
        ssize_t n = send(client, body, sizeof body, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        check(sp_loop_turn(side.loop, 1));
    }
    assert_true(fcntl(fd, F_GETFD) < 0);
    close(client);
    test_side_free(&side);
}

static void lingering_is_bounded_in_time(void **state) {
    struct test_side side;
    test_side_init(&side);
    int client = test_side_accept(&side, NULL);
    turn_until(&side, side.seen & SP_READY_OPEN);
    int fd = sp_transport_fd(side.transport);
    sp_transport_linger(sp_take(side.transport), NULL);
    while (fcntl(fd, F_GETFD) >= 0) /* the peer says nothing: only the timer ends it */
        check(sp_loop_turn(side.loop, -1));
    close(client);
    test_side_free(&side);
}

/* ---- Connecting ---- */

static void a_connection_opens_and_carries(void **state) {
    struct test_side side;
    test_side_init(&side);
    uint16_t port = 0;
    int listener = test_side_listen(&port);
    struct sp_address to = {.port = port};
    assert_true(sp_address_parse(SP_SPAN("127.0.0.1"), to.bytes));
    check(sp_transport_connect(side.loop, &to, NULL, NULL, test_side_ready, &side, &side.transport));
    char byte;
    assert_int_equal(sp_transport_write(side.transport, "early", 5), SP_IO_AGAIN);
    assert_int_equal(sp_transport_read(side.transport, &byte, 1), SP_IO_AGAIN);
    turn_until(&side, side.seen & SP_READY_OPEN);
    assert_true(side.seen & SP_READY_WRITE);
    test_write_all(&side, "ping", 4);
    int peer = accept4(listener, NULL, NULL, 0);
    char got[4];
    read_fd(peer, got, 4);
    write_fd(peer, "pong", 4);
    turn_until(&side, side.got_len == 4);
    close(peer);
    close(listener);
    test_side_free(&side);
}

static void a_refused_connection_is_told_with_its_reason(void **state) {
    struct test_side side;
    test_side_init(&side);
    uint16_t port = 0;
    close(test_side_listen(&port));
    struct sp_address to = {.port = port};
    assert_true(sp_address_parse(SP_SPAN("127.0.0.1"), to.bytes));
    int r = sp_transport_connect(side.loop, &to, NULL, NULL, test_side_ready, &side, &side.transport);
    if (r == 0) {
        turn_until(&side, side.calls > 0);
        assert_int_equal(side.seen, SP_READY_FAILED);
        assert_non_null(strstr(sp_transport_problem(side.transport), "refused"));
        char byte;
        assert_int_equal(sp_transport_read(side.transport, &byte, 1), -ENOTCONN);
        assert_int_equal(sp_transport_write(side.transport, "x", 1), -ENOTCONN);
        assert_false(sp_transport_readable(side.transport) || sp_transport_writable(side.transport));
    } else {
        assert_int_equal(r, -ECONNREFUSED);
    }
    test_side_free(&side);
}

static void unix_sockets_serve_as_well(void **state) {
    struct test_side side;
    test_side_init(&side);
    side.echo = true;
    char folder[] = "/tmp/sallyport-net-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/socket", folder);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    memcpy(name.sun_path, path, strlen(path) + 1);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(bind(listener, (const struct sockaddr *)&name, sizeof name));
    check(listen(listener, 8));
    check(sp_transport_connect(side.loop, NULL, path, NULL, test_side_ready, &side, &side.transport));
    turn_until(&side, side.seen & SP_READY_OPEN);
    int peer = accept4(listener, NULL, NULL, 0);
    write_fd(peer, "ping", 4);
    turn_until(&side, side.got_len == 4);
    char got[4];
    read_fd(peer, got, 4);
    close(peer);
    turn_until(&side, side.ended == 0);
    close(listener);
    check(unlink(path));
    check(rmdir(folder));
    test_side_free(&side);
}

static void a_unix_path_that_is_too_long_or_absent_is_refused(void **state) {
    struct test_side side;
    test_side_init(&side);
    char path[200];
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(sp_transport_connect(side.loop, NULL, path, NULL, test_side_ready, &side, &side.transport), -ENAMETOOLONG);
    assert_int_equal(sp_transport_connect(side.loop, NULL, "/nowhere/at/all", NULL, test_side_ready, &side, &side.transport), -ENOENT);
    assert_null(side.transport);
    test_side_free(&side);
}

static void a_transport_goes_to_its_next_owner(void **state) {
    struct test_side side;
    test_side_init(&side);
    int client = test_side_accept(&side, NULL);
    turn_until(&side, side.seen & SP_READY_OPEN);
    struct test_side next = {.read_all = true, .ended = 1, .loop = side.loop, .transport = side.transport};
    sp_transport_own(side.transport, test_side_ready, &next);
    unsigned calls = side.calls;
    write_fd(client, "to the next", 11);
    turn_until(&next, next.got_len == 11);
    assert_int_equal(side.calls, calls);
    close(client);
    test_side_free(&side);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sent_comes_back),
        cmocka_unit_test(opening_is_told_once_and_never_from_inside_the_call),
        cmocka_unit_test(a_request_and_its_answer_cost_one_recv_and_one_send),
        cmocka_unit_test(a_slow_reader_stops_the_writer_and_starts_it_again),
        cmocka_unit_test(gathered_pieces_leave_in_one_call),
        cmocka_unit_test(data_and_end_that_come_together_are_both_seen),
        cmocka_unit_test(a_peer_that_leaves_is_noticed_by_an_owner_that_does_not_read),
        cmocka_unit_test(a_reset_is_not_an_end),
        cmocka_unit_test(an_abort_reaches_the_peer_as_a_reset),
        cmocka_unit_test(an_orderly_close_reaches_the_peer_as_the_end),
        cmocka_unit_test(closing_from_inside_ready_is_safe),
        cmocka_unit_test(lingering_lets_the_answer_arrive_while_the_peer_still_sends),
        cmocka_unit_test(lingering_is_bounded_in_bytes),
        cmocka_unit_test(lingering_is_bounded_in_time),
        cmocka_unit_test(a_connection_opens_and_carries),
        cmocka_unit_test(a_refused_connection_is_told_with_its_reason),
        cmocka_unit_test(unix_sockets_serve_as_well),
        cmocka_unit_test(a_unix_path_that_is_too_long_or_absent_is_refused),
        cmocka_unit_test(a_transport_goes_to_its_next_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
