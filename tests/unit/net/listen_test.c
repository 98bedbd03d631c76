#include "support.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

static int option(int fd, int level, int name) {
    int number = -1;
    socklen_t size = sizeof number;
    check(getsockopt(fd, level, name, &number, &size));
    return number;
}

static void assert_connection_options(int fd) {
    assert_int_not_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 128 * 1024);
    assert_int_not_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 15);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 4);
}

static void accepted_sockets_inherit_what_the_listener_was_given(void **state) {
    int accepted = -1, client = test_connected(&accepted);
    assert_connection_options(accepted);
    close(accepted);
    close(client);
}

static void a_listener_neither_blocks_nor_survives_exec(void **state) {
    uint16_t port = 0;
    int fd = test_side_listen(&port);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(accept4(fd, NULL, NULL, 0), -1);
    close(fd);
}

static void a_port_in_use_is_said(void **state) {
    uint16_t port = 0;
    int first = test_side_listen(&port), second = -1;
    assert_int_equal(sp_listen("127.0.0.1", port, 64, &second), -EADDRINUSE);
    assert_int_equal(second, -1);
    close(first);
}

static void a_name_is_not_looked_up(void **state) {
    int fd = -1;
    assert_int_equal(sp_listen("localhost", 0, 64, &fd), -EINVAL);
    assert_int_equal(sp_listen("", 0, 64, &fd), -EINVAL);
    assert_int_equal(sp_listen(NULL, 0, 64, &fd), -EINVAL);
}

static void an_ipv6_listener_leaves_ipv4_alone(void **state) {
    int fd = -1;
    int r = sp_listen("::1", 0, 64, &fd);
    if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)
        skip(); /* a machine without IPv6 */
    check(r);
    assert_int_equal(option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    close(fd);
}

static void a_socket_from_elsewhere_gets_the_same_options(void **state) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(sp_listen_adopt(fd), -EINVAL); /* it does not listen yet */
    check(listen(fd, 8));
    check(sp_listen_adopt(fd));
    assert_connection_options(fd);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    assert_int_equal(sp_listen_adopt(-1), -EBADF);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_sockets_inherit_what_the_listener_was_given),
        cmocka_unit_test(a_listener_neither_blocks_nor_survives_exec),
        cmocka_unit_test(a_port_in_use_is_said),
        cmocka_unit_test(a_name_is_not_looked_up),
        cmocka_unit_test(an_ipv6_listener_leaves_ipv4_alone),
        cmocka_unit_test(a_socket_from_elsewhere_gets_the_same_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
