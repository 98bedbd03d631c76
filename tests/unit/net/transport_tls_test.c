#include "support.h"

#include <fcntl.h>
#include <malloc.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct fixture {
    struct sp_tls_server *server;
    struct test_side side;
    struct test_client client;
};

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    f->server = test_server_simple();
    test_side_init(&f->side);
    test_client_init(&f->client, test_side_accept(&f->side, f->server));
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    test_client_free(&f->client);
    test_side_free(&f->side);
    sp_tls_server_unref(f->server);
    free(f);
    return 0;
}

static void open_both(struct fixture *f) {
    assert_true(test_handshake(&f->client, &f->side));
    assert_true(f->side.seen & SP_READY_OPEN);
}

static void what_is_sent_comes_back(void **state) {
    struct fixture *f = *state;
    f->side.echo = true;
    open_both(f);
    char answer[5];
    test_client_write(&f->client, "hello", 5);
    assert_true(test_client_read(&f->client, &f->side, answer, 5));
    assert_memory_equal(answer, "hello", 5);
    struct sp_tls_facts facts;
    sp_transport_tls_facts(f->side.transport, &facts);
    assert_string_equal(facts.version, "TLSv1.3");
    assert_string_equal(facts.cipher, "TLS_AES_128_GCM_SHA256"); /* though OpenSSL's clients put AES-256 first */
    assert_true(strstr(facts.group, "25519") != NULL);
    assert_string_equal(facts.alpn, "http/1.1");
    assert_string_equal(facts.server_name, "");
    assert_false(facts.resumed);
}

static void a_megabyte_goes_both_ways(void **state) {
    struct fixture *f = *state;
    open_both(f);
    enum { SIZE = 1 << 20 };
    char *bytes = malloc(SIZE), *back = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 31 + i / 253);
    size_t sent = 0, echoed = 0, got = 0;
    f->side.read_all = false;
    while (got < SIZE) {
        size_t n = 0;
        if (sent < SIZE && SSL_write_ex(f->client.ssl, bytes + sent, SIZE - sent, &n) == 1)
            sent += n;
        check(sp_loop_turn(f->side.loop, 0));
        while (sp_transport_readable(f->side.transport)) {
            ssize_t r = sp_transport_read(f->side.transport, f->side.got, sizeof f->side.got);
            assert_true(r > 0 || r == SP_IO_AGAIN);
            if (r > 0)
                assert_memory_equal(f->side.got, bytes + f->side.got_len, (size_t)r);
            f->side.got_len += r > 0 ? (size_t)r : 0;
        }
        while (echoed < f->side.got_len) {
            ssize_t w = sp_transport_write(f->side.transport, bytes + echoed, f->side.got_len - echoed);
            if (w == SP_IO_AGAIN)
                break;
            assert_true(w > 0);
            echoed += (size_t)w;
        }
        if (SSL_read_ex(f->client.ssl, back + got, SIZE - got, &n) == 1)
            got += n;
        ERR_clear_error();
    }
    assert_memory_equal(back, bytes, SIZE);
    free(bytes);
    free(back);
}

static void a_request_and_its_answer_cost_one_recv_and_one_send(void **state) {
    struct fixture *f = *state;
    f->side.echo = true;
    open_both(f);
    for (int i = 0; i < 10; i++) {
        char answer[7];
        f->side.got_len = 0;
        test_calls_reset();
        test_client_write(&f->client, "request", 7);
        assert_true(test_client_read(&f->client, &f->side, answer, 7));
        assert_false(sp_transport_readable(f->side.transport));
        assert_int_equal(test_recv_calls, 1);
        assert_int_equal(test_send_calls, 1);
        assert_int_equal(test_recv_again + test_send_again, 0);
    }
}

static void a_burst_of_records_is_taken_with_one_recv(void **state) {
    struct fixture *f = *state;
    open_both(f);
    for (int i = 0; i < 20; i++)
        test_client_write(&f->client, "a pipelined request", 19);
    int waiting = 0;
    while (waiting < 20 * (5 + 19 + 1 + 16)) /* header, text, type, tag: all of it is there before the server looks */
        check(ioctl(sp_transport_fd(f->side.transport), FIONREAD, &waiting));
    test_calls_reset();
    turn_until(&f->side, f->side.got_len == 20 * 19);
    assert_int_equal(test_recv_calls, 1);
    assert_int_equal(test_recv_again, 0);
}

static void sixteen_kib_are_one_record_and_one_send(void **state) {
    struct fixture *f = *state;
    open_both(f);
    static char body[20 * 1024], got[16 * 1024];
    memset(body, 'b', sizeof body);
    test_calls_reset();
    assert_int_equal(sp_transport_write(f->side.transport, body, sizeof body), 16 * 1024);
    assert_int_equal(test_send_calls, 1);
    const struct iovec pieces[3] = {{(char[]){"head"}, 4}, {body, 16 * 1024}, {(char[]){"tail"}, 4}};
    assert_int_equal(sp_transport_writev(f->side.transport, pieces, 3), 16 * 1024);
    assert_int_equal(test_send_calls, 2);
    assert_true(test_client_read(&f->client, &f->side, got, sizeof got));
    assert_true(test_client_read(&f->client, &f->side, got, sizeof got));
    assert_memory_equal(got, "headbbbb", 8);
}

static void the_handshake_costs_two_recvs_and_one_send(void **state) {
    struct fixture *f = *state;
    test_calls_reset();
    open_both(f);
    assert_int_equal(test_recv_calls, 2); /* ClientHello; Finished */
    assert_int_equal(test_send_calls, 1);
    assert_int_equal(test_recv_again + test_send_again, 0);
}

static void a_request_that_comes_with_the_handshakes_end_is_told_at_once(void **state) {
    struct fixture *f = *state;
    f->side.read_all = false;
    /* The client's Finished and its request are on the way before the server sees either. */
    for (int i = 0; i < 2000; i++) {
        if (SSL_do_handshake(f->client.ssl) == 1)
            break;
        check(sp_loop_turn(f->side.loop, 1));
    }
    test_client_write(&f->client, "request", 7);
    turn_until(&f->side, f->side.seen & SP_READY_OPEN);
    assert_true(f->side.last & SP_READY_READ);
    assert_true(sp_transport_readable(f->side.transport));
    char got[16];
    assert_int_equal(sp_transport_read(f->side.transport, got, sizeof got), 7);
}

/* A connection whose listener gives tickets; the client has said its Finished, and `request` right behind it when not NULL. */
static void handshake_with_ticket(struct fixture *f, struct sp_tls_tickets *tickets, const char *request) {
    uint8_t keys[1][80];
    sp_random(keys, sizeof keys);
    sp_tls_tickets_set(tickets, (const uint8_t(*)[80])keys, 1);
    struct test_certificate certificate;
    test_certificate_make(&certificate, "EC", "localhost");
    struct sp_tls_server *server = test_server(&certificate, 1, "http/1.1", tickets);
    test_certificate_free(&certificate);
    test_client_free(&f->client);
    sp_transport_close(f->side.transport, false);
    test_client_init(&f->client, test_side_accept(&f->side, server));
    sp_tls_server_unref(server);
    test_calls_reset();
    for (int i = 0; i < 2000; i++) {
        if (SSL_do_handshake(f->client.ssl) == 1)
            break;
        check(sp_loop_turn(f->side.loop, 1));
    }
    ERR_clear_error();
    if (request)
        test_client_write(&f->client, request, strlen(request));
    turn_until(&f->side, f->side.seen & SP_READY_OPEN);
}

static void a_ticket_travels_with_the_first_answer(void **state) {
    struct fixture *f = *state;
    struct sp_tls_tickets *tickets = sp_tls_tickets_new();
    f->side.echo = true;
    handshake_with_ticket(f, tickets, "ping");
    char answer[4];
    assert_true(test_client_read(&f->client, &f->side, answer, 4));
    assert_true(SSL_SESSION_has_ticket(SSL_get0_session(f->client.ssl)));
    assert_int_equal(test_send_calls, 2); /* the handshake's flight; ticket and answer */
    sp_transport_close(sp_take(f->side.transport), true);
    sp_tls_tickets_free(tickets);
}

static void a_ticket_does_not_wait_for_a_request_that_has_not_come(void **state) {
    struct fixture *f = *state;
    struct sp_tls_tickets *tickets = sp_tls_tickets_new();
    handshake_with_ticket(f, tickets, NULL);
    assert_int_equal(test_send_calls, 2);
    char nothing;
    size_t n = 0;
    assert_int_equal(SSL_read_ex(f->client.ssl, &nothing, 1, &n), 0); /* takes the ticket in */
    assert_true(SSL_SESSION_has_ticket(SSL_get0_session(f->client.ssl)));
    sp_transport_close(sp_take(f->side.transport), true);
    sp_tls_tickets_free(tickets);
}

static void a_ticket_still_waiting_leaves_with_close_notify(void **state) {
    struct fixture *f = *state;
    struct sp_tls_tickets *tickets = sp_tls_tickets_new();
    handshake_with_ticket(f, tickets, "ping"); /* which is not answered */
    assert_int_equal(test_send_calls, 1);
    sp_transport_close(sp_take(f->side.transport), false);
    assert_int_equal(test_send_calls, 2);
    assert_int_equal(test_client_end(&f->client, &f->side), 0);
    assert_true(SSL_SESSION_has_ticket(SSL_get0_session(f->client.ssl)));
    sp_tls_tickets_free(tickets);
}

static void records_that_come_byte_by_byte_are_put_together(void **state) {
    struct fixture *f = *state;
    /* A client that writes into memory; each byte then goes over the socket by itself. */
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL_set_bio(f->client.ssl, in, out);
    bool written = false;
    for (int i = 0; i < 2000 && f->side.got_len < 3; i++) {
        if (SSL_do_handshake(f->client.ssl) == 1 && !written) {
            test_client_write(&f->client, "abc", 3);
            written = true;
        }
        char byte, answer[4096];
        while (BIO_read(out, &byte, 1) == 1) {
            assert_int_equal(write(f->client.fd, &byte, 1), 1);
            check(sp_loop_turn(f->side.loop, 0));
        }
        check(sp_loop_turn(f->side.loop, 1));
        ssize_t n = read(f->client.fd, answer, sizeof answer);
        if (n > 0)
            assert_int_equal(BIO_write(in, answer, (int)n), n);
    }
    assert_int_equal(f->side.got_len, 3);
    assert_memory_equal(f->side.got, "abc", 3);
}

static void half_a_record_does_not_make_the_owner_spin(void **state) {
    struct fixture *f = *state;
    open_both(f);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL_set_bio(f->client.ssl, in, out);
    test_client_write(&f->client, "a record", 8);
    char record[256];
    int len = BIO_read(out, record, sizeof record);
    assert_true(len > 10);
    assert_int_equal(write(f->client.fd, record, (size_t)len / 2), len / 2);
    unsigned calls = f->side.calls;
    turn_until(&f->side, f->side.calls > calls);
    assert_false(sp_transport_readable(f->side.transport));
    char byte;
    test_calls_reset();
    assert_int_equal(sp_transport_read(f->side.transport, &byte, 1), SP_IO_AGAIN);
    assert_int_equal(test_recv_calls, 0);
    assert_int_equal(write(f->client.fd, record + len / 2, (size_t)(len - len / 2)), len - len / 2);
    turn_until(&f->side, f->side.got_len == 8);
}

static void a_record_larger_than_the_owners_buffer_stays_readable(void **state) {
    struct fixture *f = *state;
    f->side.read_all = false;
    open_both(f);
    test_client_write(&f->client, "0123456789", 10);
    turn_until(&f->side, f->side.seen & SP_READY_READ);
    char got[10];
    test_calls_reset();
    for (int i = 0; i < 5; i++) {
        assert_true(sp_transport_readable(f->side.transport));
        assert_int_equal(sp_transport_read(f->side.transport, got + 2 * i, 2), 2);
    }
    assert_false(sp_transport_readable(f->side.transport));
    assert_memory_equal(got, "0123456789", 10);
    assert_int_equal(test_recv_calls, 1);
}

static void tls_1_2_is_refused_and_the_reason_is_said(void **state) {
    struct fixture *f = *state;
    SSL_set_max_proto_version(f->client.ssl, TLS1_2_VERSION);
    assert_false(test_handshake(&f->client, &f->side));
    assert_int_equal(test_client_error(&f->client), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
    turn_until(&f->side, f->side.seen & SP_READY_FAILED);
    assert_string_equal(sp_transport_problem(f->side.transport), "tls: unsupported protocol (client offered no TLS 1.3)");
    assert_false(f->side.seen & SP_READY_OPEN);
}

static void plain_http_on_a_tls_port_fails_and_says_so(void **state) {
    struct fixture *f = *state;
    assert_int_equal(write(f->client.fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
    turn_until(&f->side, f->side.seen & SP_READY_FAILED);
    assert_string_equal(sp_transport_problem(f->side.transport), "tls: plain HTTP where TLS is spoken");
}

static void a_client_that_leaves_during_the_handshake_fails_it(void **state) {
    struct fixture *f = *state;
    ERR_clear_error();
    assert_int_equal(SSL_do_handshake(f->client.ssl), -1); /* its ClientHello is out */
    close(f->client.fd);
    f->client.fd = -1;
    turn_until(&f->side, f->side.seen & SP_READY_FAILED);
    assert_string_equal(sp_transport_problem(f->side.transport), "tls: peer closed during the handshake");
}

static void close_notify_is_the_end(void **state) {
    struct fixture *f = *state;
    open_both(f);
    test_client_write(&f->client, "bye", 3);
    assert_int_equal(SSL_shutdown(f->client.ssl), 0);
    close(f->client.fd);
    f->client.fd = -1;
    turn_until(&f->side, f->side.ended != 1);
    assert_int_equal(f->side.ended, 0);
    assert_int_equal(f->side.got_len, 3);
    assert_true(f->side.seen & SP_READY_GONE);
    assert_false(sp_transport_readable(f->side.transport));
}

static void an_end_without_close_notify_is_a_truncation(void **state) {
    struct fixture *f = *state;
    open_both(f);
    test_client_write(&f->client, "half a requ", 11);
    close(f->client.fd);
    f->client.fd = -1;
    turn_until(&f->side, f->side.ended != 1);
    assert_int_equal(f->side.got_len, 11);
    assert_int_equal(f->side.ended, -ECONNRESET);
    char byte;
    assert_int_equal(sp_transport_read(f->side.transport, &byte, 1), -ECONNRESET); /* and stays so */
    assert_string_equal(sp_transport_problem(f->side.transport), "tls: peer closed without close_notify");
}

static void a_record_that_was_tampered_with_breaks_the_connection(void **state) {
    struct fixture *f = *state;
    open_both(f);
    static const unsigned char forged[] = {23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
    assert_int_equal(write(f->client.fd, forged, sizeof forged), sizeof forged);
    turn_until(&f->side, f->side.ended != 1);
    assert_int_equal(f->side.ended, -EPROTO);
    char byte;
    assert_true(sp_transport_read(f->side.transport, &byte, 1) < 0);
    assert_true(sp_transport_write(f->side.transport, "x", 1) < 0);
    assert_int_equal(ERR_peek_error(), 0); /* nothing is left behind for others */
}

static void what_others_left_in_openssls_error_queue_does_no_harm(void **state) {
    struct fixture *f = *state;
    open_both(f);
    ERR_raise(ERR_LIB_RSA, ERR_R_INTERNAL_ERROR); /* as a failed check of a token would */
    char byte;
    assert_int_equal(sp_transport_read(f->side.transport, &byte, 1), SP_IO_AGAIN);
    ERR_raise(ERR_LIB_RSA, ERR_R_INTERNAL_ERROR);
    assert_int_equal(SSL_shutdown(f->client.ssl), 0);
    turn_until(&f->side, f->side.ended != 1);
    assert_int_equal(f->side.ended, 0);
    ERR_clear_error();
}

static void an_abort_reaches_the_client_as_a_broken_transfer(void **state) {
    struct fixture *f = *state;
    open_both(f);
    test_write_all(&f->side, "half an answer", 14);
    sp_transport_close(sp_take(f->side.transport), true);
    assert_int_not_equal(test_client_end(&f->client, &f->side), 0);
}

static void an_orderly_close_sends_close_notify(void **state) {
    struct fixture *f = *state;
    open_both(f);
    test_write_all(&f->side, "answer", 6);
    sp_transport_close(sp_take(f->side.transport), false);
    char answer[6];
    assert_true(test_client_read(&f->client, &f->side, answer, 6));
    assert_int_equal(test_client_end(&f->client, &f->side), 0);
}

static void closing_from_inside_ready_is_safe(void **state) {
    struct fixture *f = *state;
    f->side.close_inside = true;
    assert_true(test_handshake(&f->client, &f->side));
    test_client_write(&f->client, "x", 1);
    turn_until(&f->side, !f->side.transport);
    assert_int_equal(test_client_end(&f->client, &f->side), 0);
}

static void lingering_lets_the_answer_arrive_while_the_client_still_sends(void **state) {
    struct fixture *f = *state;
    f->side.read_all = false;
    open_both(f);
    static char body[16 * 1024];
    for (int i = 0; i < 4; i++)
        test_client_write(&f->client, body, sizeof body);
    test_write_all(&f->side, "413", 3);
    int fd = sp_transport_fd(f->side.transport);
    sp_transport_linger(sp_take(f->side.transport), NULL);
    for (int i = 0; i < 4; i++) {
        test_client_write(&f->client, body, sizeof body);
        check(sp_loop_turn(f->side.loop, 1));
    }
    char answer[3];
    assert_true(test_client_read(&f->client, &f->side, answer, 3));
    assert_int_equal(test_client_end(&f->client, &f->side), 0);
    close(f->client.fd);
    f->client.fd = -1;
    turn_until(&f->side, fcntl(fd, F_GETFD) < 0);
}

static void a_slow_reader_stops_the_writer_and_nothing_is_lost_or_doubled(void **state) {
    struct fixture *f = *state;
    open_both(f);
    static char bytes[16 * 1024], got[16 * 1024];
    uint64_t sent = 0, received = 0;
    for (unsigned round = 0; round < 3; round++) {
        for (;;) { /* until the socket is full */
            for (size_t i = 0; i < sizeof bytes; i++)
                bytes[i] = (char)((sent + i) % 251);
            ssize_t n = sp_transport_write(f->side.transport, bytes, sizeof bytes);
            if (n == SP_IO_AGAIN)
                break;
            assert_true(n > 0);
            sent += (uint64_t)n;
        }
        f->side.seen = 0;
        while (received < sent) {
            size_t n = 0;
            ERR_clear_error();
            if (SSL_read_ex(f->client.ssl, got, sp_min(sizeof got, sent - received), &n) != 1)
                check(sp_loop_turn(f->side.loop, 1));
            for (size_t i = 0; i < n; i++)
                if (got[i] != (char)((received + i) % 251))
                    fail_msg("byte %llu is wrong", (unsigned long long)(received + i));
            received += n;
        }
        turn_until(&f->side, f->side.seen & SP_READY_WRITE);
    }
    assert_true(sent > 100000);
}

static void fewer_bytes_than_a_sealed_record_holds_are_refused(void **state) {
    struct fixture *f = *state;
    open_both(f);
    static char bytes[16 * 1024];
    while (sp_transport_write(f->side.transport, bytes, sizeof bytes) > 0)
        ;
    f->side.seen = 0;
    char drain[4096];
    while (!(f->side.seen & SP_READY_WRITE)) {
        size_t n = 0;
        (void)SSL_read_ex(f->client.ssl, drain, sizeof drain, &n);
        ERR_clear_error();
        check(sp_loop_turn(f->side.loop, 0));
    }
    assert_int_equal(sp_transport_write(f->side.transport, bytes, 1), -EINVAL);
    assert_true(sp_transport_write(f->side.transport, bytes, sizeof bytes) > 0);
}

static void the_owner_of_a_connection_in_handshake_may_give_it_up(void **state) {
    struct fixture *f = *state;
    ERR_clear_error();
    assert_int_equal(SSL_do_handshake(f->client.ssl), -1);
    check(sp_loop_turn(f->side.loop, 1));
    sp_transport_close(sp_take(f->side.transport), false);
    check(sp_loop_turn(f->side.loop, 0));
}

static void a_connection_keeps_its_server_alive_past_a_reload(void **state) {
    struct fixture *f = *state;
    f->side.echo = true;
    open_both(f);
    sp_tls_server_unref(f->server); /* the listener has gone on to the next generation */
    f->server = NULL;
    char answer[5];
    test_client_write(&f->client, "still", 5);
    assert_true(test_client_read(&f->client, &f->side, answer, 5));
}

static void a_key_update_is_followed(void **state) {
    struct fixture *f = *state;
    f->side.echo = true;
    open_both(f);
    assert_int_equal(SSL_key_update(f->client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    for (int i = 0; i < 3; i++) {
        char answer[5];
        test_client_write(&f->client, "after", 5);
        assert_true(test_client_read(&f->client, &f->side, answer, 5));
        assert_memory_equal(answer, "after", 5);
    }
}

static void an_idle_connection_holds_no_record_buffers(void **state) {
    if (SANITIZED)
        skip(); /* their allocator keeps no such account */
    enum { N = 100 };
    struct fixture *f = *state;
    static struct test_side sides[N];
    static struct test_client clients[N];
    for (int i = 0; i < N; i++) {
        sides[i] = (struct test_side){.loop = f->side.loop, .read_all = true, .echo = true, .ended = 1};
        test_client_init(&clients[i], test_side_accept(&sides[i], f->server));
    }
    for (int i = 0; i < N; i++) {
        char answer[4];
        assert_true(test_handshake(&clients[i], &sides[i]));
        test_client_write(&clients[i], "ping", 4);
        assert_true(test_client_read(&clients[i], &sides[i], answer, 4));
    }
    /* What the server side of each gives back when it goes. */
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < N; i++)
        sp_transport_close(sides[i].transport, true);
    check(sp_loop_turn(f->side.loop, 0));
    size_t each = (before - mallinfo2().uordblks) / N;
    print_message("          %zu bytes per idle connection\n", each);
    assert_true(each < 16 * 1024); /* one read buffer alone would be 32 KiB */
    for (int i = 0; i < N; i++)
        test_client_free(&clients[i]);
}

#define on_a_connection(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        on_a_connection(what_is_sent_comes_back),
        on_a_connection(a_megabyte_goes_both_ways),
        on_a_connection(a_request_and_its_answer_cost_one_recv_and_one_send),
        on_a_connection(a_burst_of_records_is_taken_with_one_recv),
        on_a_connection(sixteen_kib_are_one_record_and_one_send),
        on_a_connection(the_handshake_costs_two_recvs_and_one_send),
        on_a_connection(a_request_that_comes_with_the_handshakes_end_is_told_at_once),
        on_a_connection(a_ticket_travels_with_the_first_answer),
        on_a_connection(a_ticket_does_not_wait_for_a_request_that_has_not_come),
        on_a_connection(a_ticket_still_waiting_leaves_with_close_notify),
        on_a_connection(records_that_come_byte_by_byte_are_put_together),
        on_a_connection(half_a_record_does_not_make_the_owner_spin),
        on_a_connection(a_record_larger_than_the_owners_buffer_stays_readable),
        on_a_connection(tls_1_2_is_refused_and_the_reason_is_said),
        on_a_connection(plain_http_on_a_tls_port_fails_and_says_so),
        on_a_connection(a_client_that_leaves_during_the_handshake_fails_it),
        on_a_connection(close_notify_is_the_end),
        on_a_connection(an_end_without_close_notify_is_a_truncation),
        on_a_connection(a_record_that_was_tampered_with_breaks_the_connection),
        on_a_connection(what_others_left_in_openssls_error_queue_does_no_harm),
        on_a_connection(an_abort_reaches_the_client_as_a_broken_transfer),
        on_a_connection(an_orderly_close_sends_close_notify),
        on_a_connection(closing_from_inside_ready_is_safe),
        on_a_connection(lingering_lets_the_answer_arrive_while_the_client_still_sends),
        on_a_connection(a_slow_reader_stops_the_writer_and_nothing_is_lost_or_doubled),
        on_a_connection(fewer_bytes_than_a_sealed_record_holds_are_refused),
        on_a_connection(the_owner_of_a_connection_in_handshake_may_give_it_up),
        on_a_connection(a_connection_keeps_its_server_alive_past_a_reload),
        on_a_connection(a_key_update_is_followed),
        on_a_connection(an_idle_connection_holds_no_record_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
