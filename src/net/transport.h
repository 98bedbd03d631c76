/* What a transport is made of. Private to net/.
 *
 * Readiness is remembered, not asked for: an edge from epoll raises `readable` and `writable`, a short transfer lowers them, so no
 * recv(2) or send(2) is made that could only find EAGAIN (epoll(7), "when a short read means drained"). */
#ifndef SALLYPORT_NET_TRANSPORT_H
#define SALLYPORT_NET_TRANSPORT_H

#include <sallyport/net.h>

#define SP_TRANSPORT_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

enum sp_transport_state {
    SP_TRANSPORT_CONNECTING, /* connect(2) has not ended */
    SP_TRANSPORT_OPENING,    /* the kind's handshake has not ended; plain ones pass through */
    SP_TRANSPORT_OPEN,
    SP_TRANSPORT_LINGERING, /* without an owner: the answer is out, the peer may still be sending */
    SP_TRANSPORT_FAILED,    /* never opened; the owner was told and closes it */
    SP_TRANSPORT_CLOSED     /* no socket any more, freed at the end of the turn */
};

/* What plain and TLS do differently. All but `readable` may set the transport's problem. */
struct sp_transport_kind {
    int (*open)(struct sp_transport *transport); /* one step of the handshake: 0 done, -EAGAIN, -errno */
    ssize_t (*read)(struct sp_transport *transport, void *into, size_t len);
    ssize_t (*writev)(struct sp_transport *transport, const struct iovec *pieces, int n);
    bool (*readable)(const struct sp_transport *transport);
    int (*farewell)(struct sp_transport *transport); /* close_notify where there is such a thing: 0 sent, -EAGAIN, -errno */
    void (*facts)(const struct sp_transport *transport, struct sp_tls_facts *ret);
    const struct sp_peer_certificate *(*peer)(const struct sp_transport *transport);
    void (*free)(struct sp_transport *transport); /* the whole object */
};

struct sp_transport {
    struct sp_watch watch;
    const struct sp_transport_kind *kind;
    sp_transport_ready *ready;
    void *owner;
    enum sp_transport_state state;
    bool readable, writable;    /* what the socket would do now, as far as is known */
    bool gone;                  /* epoll saw the peer's FIN or an error: a short read no longer means drained */
    bool ended;                 /* recv(2) has returned the end */
    bool certificate_refused;   /* why it failed; the problem says more */
    int recv_error, send_error; /* errno that stays; apart, since an answer can be read after sending has failed */
    struct sp_loop *loop;
    char *problem; /* NULL: none */
    struct sp_deferred freeing;
    struct sp_timer linger;
    size_t discarded;         /* bytes while lingering */
    struct sp_deferred *over; /* of whoever let it linger; NULL: none */
    bool fin_sent;
    bool opens_yielding;     /* its handshake is costly and nobody's request yet: each step waits for its turn (sp_defer_yielding) */
    struct sp_deferred step; /* of the handshake, the next */
    uint64_t step_due_us;    /* since when it waits */
    uint64_t waited_us;      /* those before it, in all */
};

extern const struct sp_transport_kind sp_transport_plain;

/* Embeds a transport in a new object: takes fd on success only and begins to watch it. */
int sp_transport_start(struct sp_transport *transport, const struct sp_transport_kind *kind, struct sp_loop *loop, int fd,
                       enum sp_transport_state state, sp_transport_ready *ready, void *owner) SP_MUST_USE;
int sp_tls_transport_connect(struct sp_loop *loop, int fd, struct sp_tls_client *tls, sp_transport_ready *ready, void *owner,
                             struct sp_transport **ret) SP_MUST_USE;
int sp_tls_transport_accept(struct sp_loop *loop, int fd, struct sp_tls_server *tls, sp_transport_ready *ready, void *owner,
                            struct sp_transport **ret) SP_MUST_USE;

/* The socket under the transport. As recv(2) and send(2), but -errno, and without a call where the answer is known.
 * 0 from receiving is the end; len is never 0. */
ssize_t sp_transport_recv(struct sp_transport *transport, void *into, size_t len) SP_MUST_USE;
ssize_t sp_transport_send(struct sp_transport *transport, const struct iovec *pieces, int n) SP_MUST_USE;

void sp_transport_drop(struct sp_transport *transport);      /* closes the socket now, frees at the end of the turn */
void sp_transport_lingering(struct sp_transport *transport); /* linger.c: readiness changed while lingering */
/* The first problem is kept: what follows is mostly its consequence. */
void sp_transport_set_problem(struct sp_transport *transport, const char *format, ...) SP_PRINTF(2, 3);

#endif
