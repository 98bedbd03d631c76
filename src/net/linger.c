/* Ending a connection whose peer may still be sending: close_notify, FIN, then read and forget until the peer's own end. Closing with
 * bytes unread would send a reset, and a reset makes the peer throw away the answer it has not read yet (RFC 9112 §9.6). */
#include "transport.h"

#include <sys/socket.h>

#define LINGER_MS  2000
#define LINGER_MAX (256u * 1024)

static void linger_over(struct sp_timer *timer) { sp_transport_drop(SP_CONTAINER(timer, struct sp_transport, linger)); }

void sp_transport_lingering(struct sp_transport *transport) {
    int r = transport->kind->farewell(transport);
    if (r == SP_IO_AGAIN)
        return; /* the answer's last bytes stand in the way; the timer bounds that too */
    if (!transport->fin_sent) {
        (void)shutdown(transport->watch.fd, SHUT_WR); /* fails only where the peer is gone, which reading shows */
        transport->fin_sent = true;
    }
    static char nowhere[16 * 1024];
    for (;;) {
        ssize_t n = sp_transport_recv(transport, nowhere, sizeof nowhere);
        if (n == SP_IO_AGAIN)
            return;
        if (n > 0)
            transport->discarded += (size_t)n;
        if (n <= 0 || transport->discarded > LINGER_MAX) {
            sp_transport_drop(transport);
            return;
        }
    }
}

void sp_transport_linger(struct sp_transport *transport, struct sp_deferred *over) {
    transport->over = over;
    if (transport->state != SP_TRANSPORT_OPEN) {
        sp_transport_drop(transport);
        return;
    }
    transport->state = SP_TRANSPORT_LINGERING;
    transport->owner = NULL;
    transport->ready = NULL;
    transport->linger.fire = linger_over;
    sp_timer_start(transport->loop, &transport->linger, LINGER_MS);
    sp_transport_lingering(transport);
}
