/* Accepting: from a listening socket that all workers share to sockets that are allowed, counted and within the caps. Who is refused
 * costs an accept(2) and a close(2), and no TLS. */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "proxied.h"

#define BATCH_MAX 64  /* without asking the kernel again whether there are more */
#define PAUSE_MS  100 /* out of descriptors or memory: let some connections end */

#define TELL_EVERY_MS 1000 /* what one proxy does wrong it does to every connection */

struct sp_acceptor {
    struct sp_watch watch;
    struct sp_loop *loop;
    struct sp_traffic *traffic; /* borrowed */
    sp_accepted *accepted;
    void *owner;
    unsigned listener_slot;
    struct sp_deferred turn;
    unsigned batch, taken; /* how many to try before epoll is asked: grows in a crowd, so that a lone newcomer costs no second accept(2) */
    uint64_t filled;       /* the loop's turn in which the last batch was full */
    uint64_t refused;
    bool told; /* that descriptors have run out */
    struct sp_proxied proxied;
    uint64_t told_proxy_ms; /* when a proxy's mistake was last logged */
    struct sp_config *config;
    const struct sp_listener_config *listener; /* of `config`; NULL: nobody is let in yet */
    struct sp_timer pause;
    struct sp_deferred freeing;
};

static bool allowed(const struct sp_listener_config *listener, const struct sp_address *peer) {
    if (sp_cidrs_contain(&listener->deny, peer->bytes))
        return false;
    return listener->allow.count == 0 || sp_cidrs_contain(&listener->allow, peer->bytes);
}

static void refuse(struct sp_acceptor *acceptor, int fd) {
    acceptor->refused++;
    close(fd);
}

/* `client` is who the caps, allow and deny are about. */
static void take_in(struct sp_acceptor *acceptor, int fd, const struct sp_address *client) {
    const struct sp_listener_config *listener = acceptor->listener;
    if (!listener || !allowed(listener, client) ||
        sp_traffic_enter(acceptor->traffic, acceptor->listener_slot, client->bytes, listener->max_connections,
                         listener->max_connections_per_address) != SP_TRAFFIC_OK) {
        refuse(acceptor, fd);
        return;
    }
    acceptor->accepted(acceptor->owner, acceptor->listener_slot, fd, client);
}

/* ---- Through a load balancer ---- */

static void proxied_arrived(struct sp_proxied *proxied, int fd, const struct sp_address *client) {
    take_in(SP_CONTAINER(proxied, struct sp_acceptor, proxied), fd, client);
}

static void proxied_refused(struct sp_proxied *proxied, const struct sp_address *proxy, const char *why) {
    struct sp_acceptor *acceptor = SP_CONTAINER(proxied, struct sp_acceptor, proxied);
    uint64_t now = sp_loop_now_ms(acceptor->loop);
    acceptor->refused++;
    if (acceptor->told_proxy_ms && now - acceptor->told_proxy_ms < TELL_EVERY_MS)
        return;
    acceptor->told_proxy_ms = now;
    char text[SP_ADDRESS_TEXT_MAX];
    sp_address_text(proxy->bytes, text);
    sp_info("a connection from the trusted proxy %s is refused: %s", text, why);
}

/* Who stands at the door: a client, or a proxy that speaks for one. */
static void look_at(struct sp_acceptor *acceptor, int fd, const struct sp_address *peer) {
    const struct sp_listener_config *listener = acceptor->listener;
    if (!listener || !listener->proxy_protocol)
        take_in(acceptor, fd, peer);
    else if (sp_cidrs_contain(&listener->trusted_proxies, peer->bytes))
        sp_proxied_add(&acceptor->proxied, fd, peer, listener->handshake_timeout_ms);
    else
        refuse(acceptor, fd);
}

static void pause_accepting(struct sp_acceptor *acceptor, int error) {
    if (!acceptor->told)
        sp_warn("accepting connections is paused: %s", strerrordesc_np(error));
    acceptor->told = true;
    sp_watch_stop(acceptor->loop, &acceptor->watch);
    sp_timer_start(acceptor->loop, &acceptor->pause, PAUSE_MS);
}

/* 1: one was taken off the queue, 0: there is none or we pause. */
static int accept_one(struct sp_acceptor *acceptor) {
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    int fd = accept4(acceptor->watch.fd, (struct sockaddr *)&name, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        switch (errno) {
        case EAGAIN:
            return 0;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            pause_accepting(acceptor, errno);
            return 0;
        default: /* this one had an error of its own, accept(2) "Error handling"; the next may not */
            return 1;
        }
    }
    acceptor->told = false;
    struct sp_address peer;
    sp_address_from_sockaddr((const struct sockaddr *)&name, &peer);
    look_at(acceptor, fd, &peer);
    return 1;
}

/* One, then whoever waited longer for his handshake. */
static void accept_in_turn(struct sp_deferred *turn) {
    struct sp_acceptor *acceptor = SP_CONTAINER(turn, struct sp_acceptor, turn);
    if (!accept_one(acceptor) || acceptor->watch.fd < 0)
        return;
    if (++acceptor->taken < acceptor->batch)
        sp_defer_yielding(acceptor->loop, turn);
    else
        acceptor->filled = sp_loop_turns(acceptor->loop);
}

static void acceptor_ready(struct sp_watch *watch, uint32_t events) {
    struct sp_acceptor *acceptor = SP_CONTAINER(watch, struct sp_acceptor, watch);
    if (acceptor->turn.queued)
        return;
    bool crowd = acceptor->filled + 1 == sp_loop_turns(acceptor->loop);
    acceptor->batch = crowd ? sp_min(acceptor->batch * 2, (unsigned)BATCH_MAX) : 1;
    acceptor->taken = 0;
    sp_defer_yielding(acceptor->loop, &acceptor->turn);
}

static int start(struct sp_acceptor *acceptor) {
    return sp_watch_start(acceptor->loop, &acceptor->watch, acceptor->watch.fd, EPOLLIN | EPOLLEXCLUSIVE);
}

static void resume(struct sp_timer *timer) {
    struct sp_acceptor *acceptor = SP_CONTAINER(timer, struct sp_acceptor, pause);
    if (acceptor->watch.fd >= 0 && start(acceptor) < 0)
        sp_timer_start(acceptor->loop, &acceptor->pause, PAUSE_MS);
}

static void acceptor_release(struct sp_deferred *deferred) { free(SP_CONTAINER(deferred, struct sp_acceptor, freeing)); }

int sp_acceptor_new(struct sp_loop *loop, int fd, unsigned listener_slot, struct sp_traffic *traffic, sp_accepted *accepted, void *owner,
                    struct sp_acceptor **ret) {
    _cleanup_(sp_free_pointer) struct sp_acceptor *acceptor = calloc(1, sizeof *acceptor);
    if (!acceptor)
        return -ENOMEM;
    acceptor->loop = loop;
    acceptor->traffic = traffic;
    acceptor->accepted = accepted;
    acceptor->owner = owner;
    acceptor->listener_slot = listener_slot;
    acceptor->batch = 1;
    acceptor->watch.fd = fd;
    acceptor->watch.ready = acceptor_ready;
    acceptor->pause.fire = resume;
    acceptor->turn.run = accept_in_turn;
    acceptor->freeing.run = acceptor_release;
    acceptor->proxied.arrived = proxied_arrived;
    acceptor->proxied.refused = proxied_refused;
    sp_proxied_init(&acceptor->proxied, loop);
    sp_list_init(&acceptor->pause.node);
    sp_list_init(&acceptor->turn.node);
    sp_list_init(&acceptor->freeing.node);
    *ret = sp_take(acceptor);
    return 0;
}

void sp_acceptor_configure(struct sp_acceptor *acceptor, struct sp_config *config, const struct sp_listener_config *listener) {
    struct sp_config *old = acceptor->config;
    acceptor->config = config ? sp_config_ref(config) : NULL;
    acceptor->listener = listener;
    sp_config_unref(old);
    /* Whoever comes before there is a configuration waits in the queue: another process may be accepting, and soon we are. */
    if (listener && acceptor->watch.fd >= 0 && !acceptor->watch.active && !acceptor->pause.active && start(acceptor) < 0)
        sp_timer_start(acceptor->loop, &acceptor->pause, PAUSE_MS);
}

uint64_t sp_acceptor_refused(const struct sp_acceptor *acceptor) { return acceptor->refused; }

void sp_acceptor_stop(struct sp_acceptor *acceptor) {
    sp_timer_stop(&acceptor->pause);
    sp_deferred_cancel(&acceptor->turn);
    sp_watch_stop(acceptor->loop, &acceptor->watch);
    sp_proxied_close(&acceptor->proxied);
    if (acceptor->watch.fd >= 0)
        close(acceptor->watch.fd);
    acceptor->watch.fd = -1;
}

void sp_acceptor_free(struct sp_acceptor *acceptor) {
    if (!acceptor)
        return;
    sp_acceptor_stop(acceptor);
    sp_config_unref(acceptor->config);
    acceptor->config = NULL;
    acceptor->listener = NULL;
    sp_defer(acceptor->loop, &acceptor->freeing);
}
