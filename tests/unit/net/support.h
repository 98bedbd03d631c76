/* What the tests of net/ share: certificates made in memory, sockets on loopback, a server side that notes what it is told, and a TLS
 * client (OpenSSL's own socket BIO, so that its system calls are not counted as ours). */
#ifndef SALLYPORT_TEST_NET_SUPPORT_H
#define SALLYPORT_TEST_NET_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include <sallyport/net.h>

#define check(call) assert_int_equal((call), 0)

/* ---- Certificates ---- */
struct test_certificate {
    char *chain_pem, *key_pem;
    struct sp_certificate_config config;
};
/* kind "RSA:2048", "RSA:1024", "EC"; names parted by blanks go into the SAN. */
void test_certificate_make(struct test_certificate *certificate, const char *kind, const char *names);
void test_certificate_free(struct test_certificate *certificate);

/* A listener's TLS with these certificates and protocols ("h2 http/1.1"), or a failed assertion. */
struct sp_tls_server *test_server(const struct test_certificate *certificates, size_t n, const char *protocols,
                                  struct sp_tls_tickets *tickets);
struct sp_tls_server *test_server_simple(void); /* one EC certificate for "localhost", http/1.1, no tickets */

/* ---- The server side ---- */
struct test_side {
    struct sp_loop *loop;
    struct sp_transport *transport;
    unsigned seen;     /* every bit that `ready` ever said */
    unsigned calls;    /* of `ready` */
    unsigned last;     /* what the last call said */
    bool read_all;     /* read what comes into `got` */
    bool echo;         /* and write it back */
    bool close_inside; /* close at the first SP_READY_READ, from inside `ready` */
    char got[1 << 16];
    size_t got_len;
    ssize_t ended; /* what the last read that was neither bytes nor SP_IO_AGAIN said; 1: none */
};
void test_side_init(struct test_side *side);
void test_side_free(struct test_side *side);
void test_side_ready(void *owner, unsigned ready);
int test_side_listen(uint16_t *ret_port); /* a listening socket on 127.0.0.1 */
/* Connects a client socket (blocking; returned) and gives the accepted end to a transport. */
int test_side_accept(struct test_side *side, struct sp_tls_server *tls);
int test_connected(int *ret_accepted); /* the two ends of a TCP connection: the client's end is returned */
void test_write_all(struct test_side *side, const char *bytes, size_t len); /* must be taken at once */

/* Turns of the loop until `condition`, at most 2,000. */
#define turn_until(side, condition)                                                                                                        \
    do {                                                                                                                                   \
        for (int turns_ = 0; turns_ < 2000 && !(condition); turns_++)                                                                      \
            check(sp_loop_turn((side)->loop, 1));                                                                                          \
        assert_true(condition);                                                                                                            \
    } while (0)

/* As work that yields: takes all the time that a turn has for such work, however long the turn has been. */
void test_use_up_turn(const struct sp_loop *loop);

/* ---- The client side of TLS ---- */
struct test_client {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};
void test_client_init(struct test_client *client, int fd); /* takes fd, makes it non-blocking; nothing is sent yet */
void test_client_free(struct test_client *client);
bool test_handshake(struct test_client *client, struct test_side *side); /* both sides; false when the client failed */
int test_client_error(const struct test_client *client); /* of the last failed handshake or read: an SSL_R_ number; 0: none */
void test_client_write(struct test_client *client, const char *bytes, size_t len);
/* Reads until `len` bytes have come (true), or the end or an error (false), turning the loop meanwhile. */
bool test_client_read(struct test_client *client, struct test_side *side, char *into, size_t len);
/* Reads on to the end: 0 close_notify, else an SSL_ERROR_ number. */
int test_client_end(struct test_client *client, struct test_side *side);

/* ---- Counted system calls: a test that links with --wrap for recv, send and sendmsg ---- */
extern unsigned test_recv_calls, test_recv_again, test_send_calls, test_send_again;
void test_calls_reset(void);

#endif
