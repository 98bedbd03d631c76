/* The socket under a transport: one system call where it can move bytes, none where it cannot. */
#include "transport.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define TOGETHER_MAX 4096 /* bytes */

ssize_t sp_transport_recv(struct sp_transport *transport, void *into, size_t len) {
    if (transport->recv_error)
        return -transport->recv_error;
    if (transport->ended)
        return 0;
    if (!transport->readable)
        return SP_IO_AGAIN;
    ssize_t n;
    do
        n = recv(transport->watch.fd, into, len, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        /* The queue was emptied, unless the end or an error is still to be fetched. */
        if ((size_t)n < len && !transport->gone)
            transport->readable = false;
        return n;
    }
    transport->readable = false;
    if (n == 0) {
        transport->ended = true;
        return 0;
    }
    if (errno == EAGAIN)
        return SP_IO_AGAIN;
    transport->recv_error = errno;
    sp_transport_set_problem(transport, "read: %s", strerrordesc_np(errno));
    return -transport->recv_error;
}

static size_t pieces_len(const struct iovec *pieces, int n) {
    size_t len = 0;
    for (int i = 0; i < n; i++)
        len += pieces[i].iov_len;
    return len;
}

/* Few bytes are copied sooner than the kernel reads a message header and its pieces. */
static ssize_t send_small(int fd, const struct iovec *pieces, int n) {
    static char together[TOGETHER_MAX];
    size_t len = 0;
    for (int i = 0; i < n; len += pieces[i++].iov_len)
        memcpy(together + len, pieces[i].iov_base, pieces[i].iov_len);
    return send(fd, together, len, MSG_NOSIGNAL);
}

static ssize_t send_pieces(int fd, const struct iovec *pieces, int n, size_t len) {
    if (n == 1)
        return send(fd, pieces->iov_base, len, MSG_NOSIGNAL);
    if (len <= TOGETHER_MAX)
        return send_small(fd, pieces, n);
    /* writev(2) cannot be told MSG_NOSIGNAL. */
    const struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)n};
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

ssize_t sp_transport_send(struct sp_transport *transport, const struct iovec *pieces, int n) {
    if (transport->send_error)
        return -transport->send_error;
    if (!transport->writable)
        return SP_IO_AGAIN;
    size_t len = pieces_len(pieces, n);
    ssize_t sent;
    do
        sent = send_pieces(transport->watch.fd, pieces, n, len);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        if ((size_t)sent < len)
            transport->writable = false; /* the kernel has noted that we want an edge when there is room */
        return sent;
    }
    transport->writable = false;
    if (errno == EAGAIN)
        return SP_IO_AGAIN;
    transport->send_error = errno;
    sp_transport_set_problem(transport, "write: %s", strerrordesc_np(errno));
    return -transport->send_error;
}
