/* The service manager's notification protocol, sd_notify(3): one datagram of assignments to the socket in $NOTIFY_SOCKET. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <sallyport/process.h>

/* What a manager that does not read is waited for: the supervisor has processes to look after, and to end. */
#define PATIENCE_US 100000

static int address_of(const char *path, struct sockaddr_un *ret, socklen_t *ret_len) {
    size_t len = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof ret->sun_path)
        return -EINVAL;
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret->sun_path, path, len);
    if (path[0] == '@') /* abstract: a leading NUL, and the length counts */
        ret->sun_path[0] = '\0';
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return 0;
}

int sp_notify(const char *format, ...) {
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path)
        return 0;
    struct sockaddr_un address;
    socklen_t address_len;
    int r = address_of(path, &address, &address_len);
    if (r < 0)
        return r;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (len < 0)
        return -EINVAL;
    size_t size = sp_min((size_t)len, sizeof text - 1);
    _cleanup_(sp_close_fd) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const struct timeval patience = {.tv_usec = PATIENCE_US};
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0)
        return -errno;
    ssize_t n = sendto(fd, text, size, MSG_NOSIGNAL, (struct sockaddr *)&address, address_len);
    return n < 0 ? -errno : 0;
}

uint64_t sp_notify_watchdog_us(void) {
    const char *interval = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    uint64_t microseconds = 0, meant_for = 0;
    if (!sp_span_u64(sp_span_text(interval), &microseconds))
        return 0;
    if (pid && (!sp_span_u64(sp_span_text(pid), &meant_for) || meant_for != (uint64_t)getpid()))
        return 0;
    return microseconds;
}
