/* Listening sockets. What every connection wants is set on the listener: Linux hands it on to what is accepted, which saves four system
 * calls per connection. Linked by the supervisor: no OpenSSL here. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <sallyport/net.h>

#define NOTSENT_LOWAT     (128 * 1024) /* unsent bytes in the kernel beyond which a socket is not writable: backpressure is felt early */
#define KEEPALIVE_IDLE_S  60           /* a peer that vanished without a word is found after 60 + 4 · 15 s */
#define KEEPALIVE_EVERY_S 15
#define KEEPALIVE_PROBES  4

static int set_option(int fd, int level, int option, int number) {
    return setsockopt(fd, level, option, &number, sizeof number) < 0 ? -errno : 0;
}

static int set_inherited(int fd) {
    static const struct {
        int level, option, number;
    } inherited[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_LOWAT},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_EVERY_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
    };
    for (size_t i = 0; i < SP_COUNT(inherited); i++) {
        int r = set_option(fd, inherited[i].level, inherited[i].option, inherited[i].number);
        if (r < 0)
            return r;
    }
    return 0;
}

int sp_listen(const char *host, uint16_t port, int backlog, int *ret_fd) {
    struct sp_address address = {.port = port};
    if (!sp_address_parse(sp_span_text(host), address.bytes))
        return -EINVAL;
    struct sockaddr_storage name;
    socklen_t size = sp_address_to_sockaddr(&address, &name);
    _cleanup_(sp_close_fd) int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int r = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (r == 0 && name.ss_family == AF_INET6)
        r = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (r == 0)
        r = set_inherited(fd);
    if (r < 0)
        return r;
    if (bind(fd, (const struct sockaddr *)&name, size) < 0 || listen(fd, backlog) < 0)
        return -errno;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int sp_listen_adopt(int fd) {
    int listening = 0, family = 0;
    socklen_t size = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0)
        return -errno;
    size = sizeof family;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) < 0)
        return -errno;
    if (!listening)
        return -EINVAL;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return family == AF_INET || family == AF_INET6 ? set_inherited(fd) : 0;
}
