/* The service manager's protocol, against a real datagram socket. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <sallyport/process.h>

static int listen_as_manager(const char *name, size_t len) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, name, len);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)), 0);
    return fd;
}

static void expect(int fd, const char *text) {
    char heard[512] = "";
    ssize_t n = recv(fd, heard, sizeof heard - 1, MSG_DONTWAIT);
    assert_int_equal(n, strlen(text));
    assert_string_equal(heard, text);
}

static void assignments_reach_the_manager_as_one_datagram(void **state) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/sallyport-notify-%d", (int)getpid());
    unlink(path);
    _cleanup_(sp_close_fd) int fd = listen_as_manager(path, strlen(path));
    setenv("NOTIFY_SOCKET", path, 1);
    assert_int_equal(sp_notify("READY=1\nSTATUS=Serving with %u workers", 4u), 0);
    expect(fd, "READY=1\nSTATUS=Serving with 4 workers");
    unlink(path);
    assert_true(sp_notify("READY=1") < 0);
}

static void an_abstract_socket_is_reached_too(void **state) {
    char name[64];
    int len = snprintf(name, sizeof name, "@sallyport-notify-%d", (int)getpid());
    setenv("NOTIFY_SOCKET", name, 1);
    name[0] = '\0';
    _cleanup_(sp_close_fd) int fd = listen_as_manager(name, (size_t)len);
    assert_int_equal(sp_notify("WATCHDOG=1"), 0);
    expect(fd, "WATCHDOG=1");
}

static void a_manager_that_does_not_listen_is_not_waited_for(void **state) {
    char name[64];
    int len = snprintf(name, sizeof name, "@sallyport-notify-deaf-%d", (int)getpid());
    setenv("NOTIFY_SOCKET", name, 1);
    name[0] = '\0';
    _cleanup_(sp_close_fd) int fd = listen_as_manager(name, (size_t)len);
    int r = 0;
    for (int sent = 0; r == 0 && sent < 100000; sent++) /* as many as its queue takes */
        r = sp_notify("WATCHDOG=1");
    assert_int_equal(r, -EAGAIN);
    expect(fd, "WATCHDOG=1");
    assert_int_equal(sp_notify("STOPPING=1"), 0);
}

static void without_a_manager_nothing_happens(void **state) {
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(sp_notify("READY=1"), 0);
}

static void a_socket_name_that_is_none_is_refused(void **state) {
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_int_equal(sp_notify("READY=1"), -EINVAL);
    char huge[300];
    memset(huge, '/', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    setenv("NOTIFY_SOCKET", huge, 1);
    assert_int_equal(sp_notify("READY=1"), -EINVAL);
}

static void a_watchdog_meant_for_another_process_is_not_ours(void **state) {
    char pid[16];
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    assert_int_equal(sp_notify_watchdog_us(), 0);
    setenv("WATCHDOG_USEC", "30000000", 1);
    assert_int_equal(sp_notify_watchdog_us(), 30000000);
    setenv("WATCHDOG_PID", "1", 1);
    assert_int_equal(sp_notify_watchdog_us(), 0);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(sp_notify_watchdog_us(), 30000000);
    setenv("WATCHDOG_USEC", "soon", 1);
    assert_int_equal(sp_notify_watchdog_us(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assignments_reach_the_manager_as_one_datagram),
        cmocka_unit_test(an_abstract_socket_is_reached_too),
        cmocka_unit_test(without_a_manager_nothing_happens),
        cmocka_unit_test(a_socket_name_that_is_none_is_refused),
        cmocka_unit_test(a_manager_that_does_not_listen_is_not_waited_for),
        cmocka_unit_test(a_watchdog_meant_for_another_process_is_not_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
