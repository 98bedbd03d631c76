/* recv, send and sendmsg of the code under test, counted: linked with --wrap. */
#include "support.h"

unsigned test_recv_calls, test_recv_again, test_send_calls, test_send_again;

void test_calls_reset(void) { test_recv_calls = test_recv_again = test_send_calls = test_send_again = 0; }

ssize_t __real_recv(int fd, void *into, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *into, size_t len, int flags);
ssize_t __real_send(int fd, const void *from, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *from, size_t len, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

ssize_t __wrap_recv(int fd, void *into, size_t len, int flags) {
    ssize_t n = __real_recv(fd, into, len, flags);
    test_recv_calls++;
    test_recv_again += n < 0 && errno == EAGAIN;
    return n;
}

ssize_t __wrap_send(int fd, const void *from, size_t len, int flags) {
    ssize_t n = __real_send(fd, from, len, flags);
    test_send_calls++;
    test_send_again += n < 0 && errno == EAGAIN;
    return n;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
    ssize_t n = __real_sendmsg(fd, message, flags);
    test_send_calls++;
    test_send_again += n < 0 && errno == EAGAIN;
    return n;
}
