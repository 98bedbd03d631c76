/* A channel: one end of a sequenced-packet socketpair in the loop. A packet is a frame, so there is nothing to reassemble. */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sallyport/ipc.h>

/* Messages read before others in the loop get their turn. */
#define MESSAGES_PER_TURN 64

struct sp_channel {
    struct sp_watch watch;
    struct sp_loop *loop;
    int fd;
    enum sp_role_id self, peer;
    const struct sp_channel_events *events; /* NULL once freed or closed: no more callbacks */
    void *owner;
    struct sp_list queue; /* of struct queued */
    size_t n_queued;
    bool peer_gone;
    struct sp_deferred last; /* the free */
    _Alignas(8) char frame[SP_MESSAGE_MAX];
};

struct queued {
    struct sp_list node;
    int fds[SP_MESSAGE_FDS_MAX];
    size_t n_fds;
    size_t len;
    char frame[];
};

int sp_channel_pair(int ret_fds[2]) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

static void close_fds(int *fds, size_t n) {
    for (size_t i = 0; i < n; i++)
        sp_close_fd(&fds[i]);
}

static void queued_free(struct queued *queued) {
    close_fds(queued->fds, queued->n_fds);
    /* Ticket keys pass through here. */
    sp_wipe(queued->frame, queued->len);
    free(queued);
}

static void empty_queue(struct sp_channel *channel) {
    sp_list_each_safe(it, &channel->queue) {
        sp_list_remove(it);
        queued_free(sp_list_entry(it, struct queued, node));
    }
    channel->n_queued = 0;
}

/* The socket goes; the memory stays until the owner frees it. */
static void shut(struct sp_channel *channel) {
    sp_watch_stop(channel->loop, &channel->watch);
    sp_close_fd(&channel->fd);
    empty_queue(channel);
    channel->peer_gone = true;
    channel->events = NULL;
}

static void end_channel(struct sp_channel *channel, int reason) {
    const struct sp_channel_events *events = channel->events;
    shut(channel);
    if (events)
        events->closed(channel->owner, channel, reason);
}

/* ---- Receiving ---- */

/* > 0 the frame's length; 0 the peer is gone; -EAGAIN; -EBADMSG; -errno. Descriptors that came are the caller's in every case. */
static ssize_t receive(struct sp_channel *channel, int fds[SP_MESSAGE_FDS_MAX], size_t *ret_n_fds) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * SP_MESSAGE_FDS_MAX)];
        struct cmsghdr aligned;
    } control;
    struct iovec piece = {.iov_base = channel->frame, .iov_len = sizeof channel->frame};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};

    *ret_n_fds = 0;
    ssize_t n;
    /* ECONNRESET says once that the peer went away with something unread; what it sent before is still there. */
    do
        n = recvmsg(channel->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0)
        return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count && *ret_n_fds < SP_MESSAGE_FDS_MAX; i++)
            memcpy(&fds[(*ret_n_fds)++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
    }
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return -EBADMSG;
    return n;
}

/* One message to the owner. False: the channel has ended, or nothing is there. */
static bool deliver(struct sp_channel *channel) {
    int fds[SP_MESSAGE_FDS_MAX];
    size_t n_fds = 0;
    ssize_t n = receive(channel, fds, &n_fds);
    if (n == -EAGAIN)
        return false;
    enum sp_message_type type;
    struct sp_span payload;
    int r = n <= 0 ? (int)n : sp_message_check(sp_span(channel->frame, (size_t)n), channel->peer, channel->self, n_fds, &type, &payload);
    if (n <= 0 || r < 0) {
        close_fds(fds, n_fds);
        end_channel(channel, r);
        return false;
    }
    channel->events->message(channel->owner, channel, type, payload, fds, n_fds);
    close_fds(fds, n_fds);
    /* Keys and configuration pass through this buffer: do not leave them lying in it. */
    sp_wipe(channel->frame, (size_t)n);
    return channel->events != NULL;
}

/* ---- Sending ---- */

static int send_frame(int socket_fd, const struct iovec *pieces, size_t n_pieces, const int *fds, size_t n_fds) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * SP_MESSAGE_FDS_MAX)];
        struct cmsghdr aligned;
    } control;
    struct msghdr message = {.msg_iov = (struct iovec *)(void *)pieces, .msg_iovlen = n_pieces};
    if (n_fds > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    ssize_t n;
    do
        n = sendmsg(socket_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 0;
    return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
}

static int enqueue(struct sp_channel *channel, const struct iovec *pieces, size_t n_pieces, const int *fds, size_t n_fds) {
    if (channel->n_queued >= SP_CHANNEL_QUEUE_MAX)
        return -ENOBUFS;
    size_t len = 0;
    for (size_t i = 0; i < n_pieces; i++)
        len += pieces[i].iov_len;
    struct queued *queued = calloc(1, sizeof *queued + len);
    if (!queued)
        return -ENOMEM;
    for (size_t i = 0; i < n_pieces; i++) {
        if (pieces[i].iov_len > 0)
            memcpy(queued->frame + queued->len, pieces[i].iov_base, pieces[i].iov_len);
        queued->len += pieces[i].iov_len;
    }
    for (size_t i = 0; i < n_fds; i++) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (copy < 0) {
            int r = -errno;
            queued_free(queued);
            return r;
        }
        queued->fds[queued->n_fds++] = copy;
    }
    sp_list_append(&channel->queue, &queued->node);
    channel->n_queued++;
    return channel->n_queued == 1 ? sp_watch_change(channel->loop, &channel->watch, EPOLLIN | EPOLLOUT) : 0;
}

static void flush_queue(struct sp_channel *channel) {
    while (!sp_list_empty(&channel->queue)) {
        struct queued *queued = sp_list_entry(channel->queue.next, struct queued, node);
        struct iovec piece = {.iov_base = queued->frame, .iov_len = queued->len};
        int r = send_frame(channel->fd, &piece, 1, queued->fds, queued->n_fds);
        if (r == -EAGAIN)
            return;
        if (r < 0) {
            /* The reading side reports the end, after what the peer still had to say. */
            channel->peer_gone = true;
            empty_queue(channel);
            break;
        }
        sp_list_remove(&queued->node);
        channel->n_queued--;
        queued_free(queued);
    }
    int r = sp_watch_change(channel->loop, &channel->watch, EPOLLIN);
    if (r < 0)
        end_channel(channel, r);
}

int sp_channel_send(struct sp_channel *channel, enum sp_message_type type, const void *payload, size_t len, struct sp_span text,
                    const int *fds, size_t n_fds) {
    if ((unsigned)type >= SP_MSG_COUNT)
        return -EPROTO;
    const struct sp_message_rule *rule = &sp_message_rules[type];
    if (!(rule->from & 1u << channel->self) || !(rule->to & 1u << channel->peer) || len < rule->size_min || len > rule->size_max ||
        text.len > rule->size_max - len || n_fds < rule->fds_min || n_fds > rule->fds_max)
        return -EPROTO;
    if (channel->peer_gone)
        return -EPIPE;

    struct sp_frame_header header = {.type = type, .len = (uint32_t)(len + text.len)};
    struct iovec pieces[3] = {{.iov_base = &header, .iov_len = sizeof header}};
    size_t n_pieces = 1;
    if (len > 0)
        pieces[n_pieces++] = (struct iovec){.iov_base = (void *)(uintptr_t)payload, .iov_len = len};
    if (text.len > 0)
        pieces[n_pieces++] = (struct iovec){.iov_base = (void *)(uintptr_t)text.at, .iov_len = text.len};
    if (!sp_list_empty(&channel->queue))
        return enqueue(channel, pieces, n_pieces, fds, n_fds);
    int r = send_frame(channel->fd, pieces, n_pieces, fds, n_fds);
    return r == -EAGAIN ? enqueue(channel, pieces, n_pieces, fds, n_fds) : r;
}

/* ---- Life ---- */

static void channel_ready(struct sp_watch *watch, uint32_t epoll_events) {
    struct sp_channel *channel = SP_CONTAINER(watch, struct sp_channel, watch);
    if (epoll_events & EPOLLOUT && !sp_list_empty(&channel->queue))
        flush_queue(channel);
    for (int i = 0; i < MESSAGES_PER_TURN && channel->events; i++)
        if (!deliver(channel))
            break;
}

static void channel_last(struct sp_deferred *deferred) { free(SP_CONTAINER(deferred, struct sp_channel, last)); }

int sp_channel_new(struct sp_loop *loop, int fd, enum sp_role_id self, enum sp_role_id peer, const struct sp_channel_events *events,
                   void *owner, struct sp_channel **ret) {
    struct sp_channel *channel = calloc(1, sizeof *channel);
    if (!channel) {
        close(fd);
        return -ENOMEM;
    }
    channel->loop = loop;
    channel->fd = fd;
    channel->self = self;
    channel->peer = peer;
    channel->events = events;
    channel->owner = owner;
    channel->watch.ready = channel_ready;
    channel->last.run = channel_last;
    sp_list_init(&channel->queue);
    sp_list_init(&channel->last.node);
    int r = sp_watch_start(loop, &channel->watch, fd, EPOLLIN);
    if (r < 0) {
        close(fd);
        free(channel);
        return r;
    }
    *ret = channel;
    return 0;
}

void sp_channel_free(struct sp_channel *channel) {
    if (!channel)
        return;
    shut(channel);
    sp_defer(channel->loop, &channel->last);
}
