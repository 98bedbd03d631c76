/* Transports: from a socket and what epoll says about it to what an owner is told. The plain kind is here; TLS is in transport_tls.c. */
#include "transport.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

void sp_transport_set_problem(struct sp_transport *transport, const char *format, ...) {
    if (transport->problem)
        return;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&transport->problem, format, arguments) < 0)
        transport->problem = NULL;
    va_end(arguments);
}

/* ---- Opening ---- */

static void fail(struct sp_transport *transport, int error) {
    sp_transport_set_problem(transport, "%s", strerrordesc_np(error));
    transport->state = SP_TRANSPORT_FAILED;
    transport->readable = transport->writable = false;
    sp_watch_stop(transport->loop, &transport->watch);
    transport->ready(transport->owner, SP_READY_FAILED);
}

/* What connect(2) came to. Asked of the kernel only when epoll reports trouble: EPOLLOUT alone means connected. */
static int connect_result(const struct sp_transport *transport, uint32_t events) {
    if (!(events & (EPOLLERR | EPOLLHUP)))
        return events & EPOLLOUT ? 0 : -EINPROGRESS;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(transport->watch.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    return -error; /* 0: connected, and the peer has already left; reading will say how */
}

/* One step towards being open: what to tell the owner, 0 while there is nothing to tell. May have ended in a failure. */
static unsigned open_step(struct sp_transport *transport, uint32_t events) {
    if (transport->state == SP_TRANSPORT_CONNECTING) {
        int r = connect_result(transport, events);
        if (r == -EINPROGRESS)
            return 0;
        if (r < 0) {
            sp_transport_set_problem(transport, "connect: %s", strerrordesc_np(-r));
            fail(transport, -r);
            return 0;
        }
        transport->state = SP_TRANSPORT_OPENING;
    }
    int r = transport->kind->open(transport);
    if (r == -EAGAIN)
        return 0;
    if (r < 0) {
        fail(transport, -r);
        return 0;
    }
    transport->state = SP_TRANSPORT_OPEN;
    unsigned ready = SP_READY_OPEN;
    if (transport->kind->readable(transport))
        ready |= SP_READY_READ;
    if (transport->writable)
        ready |= SP_READY_WRITE;
    if (transport->gone)
        ready |= SP_READY_GONE;
    return ready;
}

/* ---- Readiness ---- */

/* The owner may close the transport from inside: nothing is touched after this. */
static void tell(struct sp_transport *transport, unsigned ready) {
    if (ready)
        transport->ready(transport->owner, ready);
}

static void step_when_others_are_served(struct sp_transport *transport) {
    if (transport->step.queued)
        return;
    transport->step_due_us = sp_loop_now_us(transport->loop);
    sp_defer_yielding(transport->loop, &transport->step);
}

static void step_at_last(struct sp_deferred *step) {
    struct sp_transport *transport = SP_CONTAINER(step, struct sp_transport, step);
    transport->waited_us += sp_loop_now_us(transport->loop) - transport->step_due_us;
    tell(transport, open_step(transport, 0));
}

uint64_t sp_transport_waited_ms(const struct sp_transport *transport) {
    uint64_t now_us = sp_loop_now_us(transport->loop);
    return (transport->waited_us + (transport->step.queued ? now_us - transport->step_due_us : 0)) / 1000;
}

static void transport_event(struct sp_watch *watch, uint32_t events) {
    struct sp_transport *transport = SP_CONTAINER(watch, struct sp_transport, watch);
    bool was_writable = transport->writable, was_gone = transport->gone;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        transport->readable = !transport->ended && !transport->recv_error;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        transport->writable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        transport->gone = true;

    unsigned ready = 0;
    switch (transport->state) {
    case SP_TRANSPORT_CONNECTING:
    case SP_TRANSPORT_OPENING:
        if (transport->opens_yielding)
            step_when_others_are_served(transport);
        else
            ready = open_step(transport, events);
        break;
    case SP_TRANSPORT_OPEN:
        if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            ready |= SP_READY_READ;
        if (transport->writable && !was_writable)
            ready |= SP_READY_WRITE;
        if (transport->gone && !was_gone)
            ready |= SP_READY_GONE;
        break;
    case SP_TRANSPORT_LINGERING:
        sp_transport_lingering(transport);
        break;
    case SP_TRANSPORT_FAILED:
    case SP_TRANSPORT_CLOSED:
        break;
    }
    tell(transport, ready);
}

static void transport_free(struct sp_deferred *deferred) {
    struct sp_transport *transport = SP_CONTAINER(deferred, struct sp_transport, freeing);
    free(transport->problem);
    transport->kind->free(transport);
}

int sp_transport_start(struct sp_transport *transport, const struct sp_transport_kind *kind, struct sp_loop *loop, int fd,
                       enum sp_transport_state state, sp_transport_ready *ready, void *owner) {
    transport->kind = kind;
    transport->loop = loop;
    transport->state = state;
    transport->ready = ready;
    transport->owner = owner;
    transport->watch.ready = transport_event;
    transport->freeing.run = transport_free;
    transport->step.run = step_at_last;
    sp_list_init(&transport->freeing.node);
    sp_list_init(&transport->step.node);
    sp_list_init(&transport->linger.node);
    /* A connected socket has room; whether there is something to read epoll says at once. */
    transport->writable = state == SP_TRANSPORT_OPENING;
    return sp_watch_start(loop, &transport->watch, fd, SP_TRANSPORT_EVENTS);
}

static int start_plain(struct sp_loop *loop, int fd, enum sp_transport_state state, sp_transport_ready *ready, void *owner,
                       struct sp_transport **ret) {
    _cleanup_(sp_free_pointer) struct sp_transport *transport = calloc(1, sizeof *transport);
    if (!transport)
        return -ENOMEM;
    int r = sp_transport_start(transport, &sp_transport_plain, loop, fd, state, ready, owner);
    if (r < 0)
        return r;
    *ret = sp_take(transport);
    return 0;
}

int sp_transport_accept(struct sp_loop *loop, int fd, struct sp_tls_server *tls, sp_transport_ready *ready, void *owner,
                        struct sp_transport **ret) {
    if (tls)
        return sp_tls_transport_accept(loop, fd, tls, ready, owner, ret);
    return start_plain(loop, fd, SP_TRANSPORT_OPENING, ready, owner, ret);
}

static int connect_socket(const struct sp_address *to, const char *unix_path, int *ret_fd) {
    struct sockaddr_storage name = {0};
    socklen_t size;
    if (unix_path) {
        struct sockaddr_un *local = (struct sockaddr_un *)&name;
        size_t len = strlen(unix_path);
        if (len >= sizeof local->sun_path)
            return -ENAMETOOLONG;
        local->sun_family = AF_UNIX;
        memcpy(local->sun_path, unix_path, len + 1);
        size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    } else {
        size = sp_address_to_sockaddr(to, &name);
    }
    _cleanup_(sp_close_fd) int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (!unix_path && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&name, size) < 0 && errno != EINPROGRESS)
        return -errno;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int sp_transport_connect(struct sp_loop *loop, const struct sp_address *to, const char *unix_path, struct sp_tls_client *tls,
                         sp_transport_ready *ready, void *owner, struct sp_transport **ret) {
    _cleanup_(sp_close_fd) int fd = -1;
    int r = connect_socket(to, unix_path, &fd);
    if (r < 0)
        return r;
    r = tls ? sp_tls_transport_connect(loop, fd, tls, ready, owner, ret)
            : start_plain(loop, fd, SP_TRANSPORT_CONNECTING, ready, owner, ret);
    if (r < 0)
        return r;
    fd = -1;
    return 0;
}

void sp_transport_own(struct sp_transport *transport, sp_transport_ready *ready, void *owner) {
    transport->ready = ready;
    transport->owner = owner;
}

/* ---- Moving bytes ---- */

bool sp_transport_is_open(const struct sp_transport *transport) { return transport->state == SP_TRANSPORT_OPEN; }

static ssize_t not_open(const struct sp_transport *transport) { return transport->state < SP_TRANSPORT_OPEN ? SP_IO_AGAIN : -ENOTCONN; }

ssize_t sp_transport_read(struct sp_transport *transport, void *into, size_t len) {
    if (transport->state != SP_TRANSPORT_OPEN)
        return not_open(transport);
    if (len == 0)
        return -EINVAL; /* 0 would read as the end */
    return transport->kind->read(transport, into, len);
}

ssize_t sp_transport_writev(struct sp_transport *transport, const struct iovec *pieces, int n) {
    if (transport->state != SP_TRANSPORT_OPEN)
        return not_open(transport);
    return transport->kind->writev(transport, pieces, n);
}

ssize_t sp_transport_write(struct sp_transport *transport, const void *from, size_t len) {
    return sp_transport_writev(transport, &(struct iovec){(void *)from, len}, 1);
}

bool sp_transport_readable(const struct sp_transport *transport) {
    return transport->state == SP_TRANSPORT_OPEN && transport->kind->readable(transport);
}

bool sp_transport_quiet(const struct sp_transport *transport) {
    return transport->state == SP_TRANSPORT_OPEN && !transport->gone && !transport->kind->readable(transport) &&
           !sp_watch_pending(transport->loop, &transport->watch);
}

bool sp_transport_silent(struct sp_transport *transport) {
    char byte;
    if (transport->state != SP_TRANSPORT_OPEN)
        return false;
    transport->readable = !transport->ended && !transport->recv_error; /* what epoll has not told yet counts */
    return transport->kind->read(transport, &byte, 1) == SP_IO_AGAIN;
}

bool sp_transport_writable(const struct sp_transport *transport) { return transport->state == SP_TRANSPORT_OPEN && transport->writable; }

const char *sp_transport_problem(const struct sp_transport *transport) { return transport->problem ? transport->problem : ""; }

int sp_transport_fd(const struct sp_transport *transport) { return transport->watch.fd; }

void sp_transport_tls_facts(const struct sp_transport *transport, struct sp_tls_facts *ret) { transport->kind->facts(transport, ret); }

const struct sp_peer_certificate *sp_transport_peer_certificate(const struct sp_transport *transport) {
    return transport->kind->peer(transport);
}

bool sp_transport_refused_certificate(const struct sp_transport *transport) { return transport->certificate_refused; }

/* ---- Ending ---- */

void sp_transport_drop(struct sp_transport *transport) {
    sp_watch_stop(transport->loop, &transport->watch);
    sp_timer_stop(&transport->linger);
    sp_deferred_cancel(&transport->step);
    close(transport->watch.fd);
    transport->watch.fd = -1;
    transport->state = SP_TRANSPORT_CLOSED;
    if (transport->over)
        sp_defer(transport->loop, sp_take(transport->over));
    sp_defer(transport->loop, &transport->freeing);
}

void sp_transport_close(struct sp_transport *transport, bool abort) {
    if (!transport)
        return;
    if (abort) {
        /* A socket that takes no option is one that is already reset. */
        const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(transport->watch.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    } else if (transport->state == SP_TRANSPORT_OPEN) {
        (void)transport->kind->farewell(transport); /* what cannot be sent without waiting is not sent */
    }
    sp_transport_drop(transport);
}

/* ---- The plain kind: the socket as it is ---- */

static int plain_open(struct sp_transport *transport) { return 0; }
static ssize_t plain_read(struct sp_transport *transport, void *into, size_t len) { return sp_transport_recv(transport, into, len); }
static ssize_t plain_writev(struct sp_transport *transport, const struct iovec *pieces, int n) {
    return sp_transport_send(transport, pieces, n);
}
static bool plain_readable(const struct sp_transport *transport) { return transport->readable; }
static int plain_farewell(struct sp_transport *transport) { return 0; }
static void plain_facts(const struct sp_transport *transport, struct sp_tls_facts *ret) {
    *ret = (struct sp_tls_facts){.version = "", .cipher = "", .group = "", .alpn = "", .server_name = ""};
}
static const struct sp_peer_certificate *plain_peer(const struct sp_transport *transport) { return NULL; }
static void plain_free(struct sp_transport *transport) { free(transport); }

const struct sp_transport_kind sp_transport_plain = {
    .open = plain_open,
    .read = plain_read,
    .writev = plain_writev,
    .readable = plain_readable,
    .farewell = plain_farewell,
    .facts = plain_facts,
    .peer = plain_peer,
    .free = plain_free,
};
