/* Connections that came through a load balancer and have not said yet on whose behalf. Private to net/. */
#ifndef SALLYPORT_NET_PROXIED_H
#define SALLYPORT_NET_PROXIED_H

#include <sallyport/net.h>

/* Those of one acceptor. */
struct sp_proxied {
    struct sp_loop *loop;
    /* Whose connection it is; fd is the callee's then. May free what this is embedded in, from sp_deferred on. */
    void (*arrived)(struct sp_proxied *proxied, int fd, const struct sp_address *client);
    void (*refused)(struct sp_proxied *proxied, const struct sp_address *proxy, const char *why); /* the socket is closed */
    struct sp_list waiting;
    unsigned n_waiting;
};
void sp_proxied_init(struct sp_proxied *proxied, struct sp_loop *loop);
/* Takes fd, from a proxy that is trusted. One of the two callbacks comes, now or later, at the latest after timeout_ms. */
void sp_proxied_add(struct sp_proxied *proxied, int fd, const struct sp_address *proxy, uint64_t timeout_ms);
void sp_proxied_close(struct sp_proxied *proxied); /* all that wait, without a callback */

#endif
