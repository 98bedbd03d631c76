/* Reading the PROXY header: exactly its bytes, so that what follows is still in the socket for TLS. Mostly it has come with the connection
 * and costs two recv(2); where it has not, the connection waits here. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxied.h"

#define WAITING_MAX 1024 /* a proxy sends its header at once: who waits is slow or lies */

struct header {
    char bytes[SP_PROXY_HEADER_MAX];
    size_t len;
};

struct waiting {
    struct sp_list node;
    struct sp_proxied *proxied;
    struct sp_watch watch;
    struct sp_timer timer;
    struct sp_deferred freeing;
    struct sp_address proxy;
    struct header header;
};

/* MORE: the rest has not come yet. Reads nothing that is not the header's. */
static enum sp_proxy_verdict read_header(int fd, struct header *header, struct sp_address *ret_client, const char **ret_why) {
    for (;;) {
        size_t wanted = 0;
        enum sp_proxy_verdict verdict = sp_proxy_parse(sp_span(header->bytes, header->len), &wanted, ret_client, ret_why);
        if (verdict != SP_PROXY_MORE)
            return verdict;
        ssize_t n = recv(fd, header->bytes + header->len, wanted - header->len, 0);
        if (n < 0 && errno == EAGAIN)
            return SP_PROXY_MORE;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            *ret_why = "the connection ended before its PROXY header";
            return SP_PROXY_REFUSED;
        }
        header->len += (size_t)n;
    }
}

static void decide(struct sp_proxied *proxied, int fd, const struct sp_address *proxy, enum sp_proxy_verdict verdict,
                   const struct sp_address *client, const char *why) {
    if (verdict == SP_PROXY_REFUSED) {
        close(fd);
        proxied->refused(proxied, proxy, why);
    } else {
        proxied->arrived(proxied, fd, verdict == SP_PROXY_LOCAL ? proxy : client);
    }
}

/* ---- Waiting ---- */

static void waiting_free(struct sp_deferred *deferred) { free(SP_CONTAINER(deferred, struct waiting, freeing)); }

static int stop_waiting(struct waiting *waiting) {
    int fd = waiting->watch.fd;
    sp_watch_stop(waiting->proxied->loop, &waiting->watch);
    sp_timer_stop(&waiting->timer);
    sp_list_remove(&waiting->node);
    waiting->proxied->n_waiting--;
    sp_defer(waiting->proxied->loop, &waiting->freeing);
    return fd;
}

static void more_came(struct sp_watch *watch, uint32_t events) {
    struct waiting *waiting = SP_CONTAINER(watch, struct waiting, watch);
    struct sp_address client;
    const char *why = NULL;
    enum sp_proxy_verdict verdict = read_header(watch->fd, &waiting->header, &client, &why);
    if (verdict == SP_PROXY_MORE)
        return;
    struct sp_proxied *proxied = waiting->proxied;
    decide(proxied, stop_waiting(waiting), &waiting->proxy, verdict, &client, why);
}

static void too_slow(struct sp_timer *timer) {
    struct waiting *waiting = SP_CONTAINER(timer, struct waiting, timer);
    struct sp_proxied *proxied = waiting->proxied;
    decide(proxied, stop_waiting(waiting), &waiting->proxy, SP_PROXY_REFUSED, NULL, "the PROXY header did not come in time");
}

static int wait_for_more(struct sp_proxied *proxied, int fd, const struct sp_address *proxy, const struct header *header,
                         uint64_t timeout_ms) {
    if (proxied->n_waiting >= WAITING_MAX)
        return -ENOBUFS;
    struct waiting *waiting = calloc(1, sizeof *waiting);
    if (!waiting)
        return -ENOMEM;
    waiting->proxied = proxied;
    waiting->proxy = *proxy;
    waiting->header = *header;
    waiting->watch.ready = more_came;
    waiting->timer.fire = too_slow;
    waiting->freeing.run = waiting_free;
    sp_list_init(&waiting->timer.node);
    sp_list_init(&waiting->freeing.node);
    int r = sp_watch_start(proxied->loop, &waiting->watch, fd, EPOLLIN);
    if (r < 0) {
        free(waiting);
        return r;
    }
    sp_timer_start(proxied->loop, &waiting->timer, timeout_ms);
    sp_list_append(&proxied->waiting, &waiting->node);
    proxied->n_waiting++;
    return 0;
}

/* ---- From outside ---- */

void sp_proxied_init(struct sp_proxied *proxied, struct sp_loop *loop) {
    proxied->loop = loop;
    proxied->n_waiting = 0;
    sp_list_init(&proxied->waiting);
}

void sp_proxied_add(struct sp_proxied *proxied, int fd, const struct sp_address *proxy, uint64_t timeout_ms) {
    struct header header = {.len = 0};
    struct sp_address client;
    const char *why = NULL;
    enum sp_proxy_verdict verdict = read_header(fd, &header, &client, &why);
    if (verdict == SP_PROXY_MORE) {
        if (wait_for_more(proxied, fd, proxy, &header, timeout_ms) == 0)
            return;
        verdict = SP_PROXY_REFUSED;
        why = "too many connections wait for their PROXY header";
    }
    decide(proxied, fd, proxy, verdict, &client, why);
}

void sp_proxied_close(struct sp_proxied *proxied) {
    sp_list_each_safe (node, &proxied->waiting) {
        struct waiting *waiting = sp_list_entry(node, struct waiting, node);
        close(stop_waiting(waiting));
    }
}
