/* upstream: server pools as one worker sees them: which server is next, kept connections, health as told and as seen by traffic.
 * State belongs to servers, by slot, and survives reloads. It must not know HTTP: it hands out connections and takes them back. */
#ifndef SALLYPORT_UPSTREAM_H
#define SALLYPORT_UPSTREAM_H

#include <sallyport/base.h>
#include <sallyport/config.h>
#include <sallyport/loop.h>
#include <sallyport/net.h>

struct sp_upstreams; /* one per worker */

int sp_upstreams_new(struct sp_loop *loop, struct sp_traffic *traffic, struct sp_upstreams **ret) SP_MUST_USE;
void sp_upstreams_free(struct sp_upstreams *upstreams); /* after every connection has been given back */

/* TLS towards the https:// servers of one configuration: made where a configuration is judged, used once it is committed.
 * -EINVAL with *ret_error (malloc'ed, one sentence that begins with file:line:column); -ENOMEM. */
struct sp_upstream_tls;
int sp_upstream_tls_new(const struct sp_config *config, const struct sp_tls_signer *signer, char **ret_error,
                        struct sp_upstream_tls **ret) SP_MUST_USE;
void sp_upstream_tls_free(struct sp_upstream_tls *tls); /* takes NULL */

/* A new snapshot: servers known by slot keep connections and health; those no longer named lose their idle connections. A server whose
 * authorities, name or certificate of ours changed loses its idle connections too, and those in use are not kept; TLS that is made of the
 * same bytes as before stays with its session. Keeps a reference to config, none to `tls`; NULL: no server is https://.
 * -ENOMEM changes nothing. */
int sp_upstreams_configure(struct sp_upstreams *upstreams, struct sp_config *config, const struct sp_upstream_tls *tls) SP_MUST_USE;
/* From control: what a server's name resolves to (n 0: nothing), and whether its probes succeed. Unknown slots are ignored. */
void sp_upstreams_addresses(struct sp_upstreams *upstreams, unsigned server_slot, const uint8_t (*addresses)[16], size_t n);
void sp_upstreams_health(struct sp_upstreams *upstreams, unsigned server_slot, bool up);
bool sp_upstreams_server_up(const struct sp_upstreams *upstreams, unsigned server_slot);
/* Opened so far, by all pools: for metrics. */
uint64_t sp_upstreams_opened(const struct sp_upstreams *upstreams);

/* One connection to one server, lent to one exchange at a time. */
struct sp_backend;

/* Which servers an exchange has tried already: bit = index in the pool (servers past 64 are never excluded). */
struct sp_upstream_tried {
    uint64_t servers;
    bool fresh_only; /* kept connections have failed this exchange: open a new one */
};

/* ---- The queue in front of a pool ----
 * Requests that found every server full wait here, at most pool->queue_depth of them over all workers of the gateway.
 * Who is next: higher priority first, strictly (who waits too long behind others is refused, and may try again); within one priority
 * tenants take turns, whoever has gone without for longest; within one tenant first come, first served. So a tenant with a thousand requests
 * in the queue delays another's single one by one turn. Workers keep to one order: one that has room leaves it to another worker whose next
 * request is due before its own by more than 5 ms, but never leaves it unused for more than 50 ms.
 * Nobody takes a server ahead of who waits, but who is of a higher priority than everybody who waits, or had a server once already (another
 * try of the same request).
 * Full: the newcomer takes the place of the newest request of the tenant with the most in the queue: of the lowest priority below its own,
 * else of its own priority when that tenant has at least two more than its own. Only requests of this worker give way so.
 * A new snapshot: those who wait stay, with the pool as they knew it; but max_in_flight and connections of a server are always the newest
 * snapshot's, for they protect the server. Those of a pool that is gone are refused.
 * While somebody waits, this worker looks every 2 ms what other workers have given back; while nobody does, the queue costs nothing. */
struct sp_queue_ticket {
    /* Set by the owner, embedded in the exchange; zero besides. */
    enum sp_priority priority;
    uint64_t who; /* of sp_queue_who() */
    /* It may be the ticket's turn: call sp_upstream_take() with it, from inside. It stays in its place when that says -EBUSY once more. */
    void (*ready)(struct sp_queue_ticket *ticket);
    /* It is out of the queue: -ETIMEDOUT after queue_timeout, -EAGAIN it gave way to another, -ENOENT its pool is gone. Like `ready` never
     * from inside a call of this header; both may free the ticket once it has left. */
    void (*refused)(struct sp_queue_ticket *ticket, int why);
    /* private: */
    struct sp_queue_tenant *tenant;      /* it waits among its tickets; NULL: it does not wait */
    const struct sp_pool_config *pool;   /* it waits for */
    struct sp_list node;                 /* among its tenant's, or those to be told that they are refused */
    struct sp_list arrival;              /* among all of the queue */
    struct sp_timer timeout;
    int why;                             /* it is about to be told */
    const struct sp_pool_config *had;    /* it had a server of this pool: this is another try */
};

/* Who a request counts as, between whom turns are taken: the tenant, where there is none the account; the same in every worker. */
uint64_t sp_queue_who(const struct sp_upstreams *upstreams, struct sp_span tenant, struct sp_span account);
/* After sp_upstream_take() said -EBUSY. 0: it waits (as it did, when it waited before), and either callback will come unless it leaves;
 * -EAGAIN the queue is full, -ENOTSUP the pool has none, -ENOENT a reload took the pool away, -ENOMEM. The ticket belongs to the queue until it leaves. */
int sp_queue_enter(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct sp_queue_ticket *ticket) SP_MUST_USE;
/* At once, O(1). Harmless when it does not wait. */
void sp_queue_leave(struct sp_queue_ticket *ticket);
/* When a newcomer of this priority could expect its turn, 1 s to 60 s: from how fast requests of the pool have come to an end in this worker
 * while others waited, and how many wait here before it. For Retry-After. */
uint64_t sp_queue_pace_ms(const struct sp_upstreams *upstreams, const struct sp_pool_config *pool, enum sp_priority priority);
uint64_t sp_queue_length(const struct sp_upstreams *upstreams, unsigned pool_slot);     /* over all workers: what `depth` bounds */
uint64_t sp_queue_length_own(const struct sp_upstreams *upstreams, unsigned pool_slot); /* of this worker alone: for a gauge that is summed */

/* Chooses a server by the pool's balance and lends a connection: a kept one (open at once) or a new one (SP_READY_OPEN or
 * SP_READY_FAILED will come through `ready`, FAILED also when connect_timeout passes). NULL with *ret_error:
 *   -EHOSTDOWN no server is up; -EBUSY every server that is up is at max_in_flight or out of connections, or others wait for it;
 *   -errno from connecting.
 * The ticket (NULL: asks without regard for who waits) leaves the queue, whatever the answer, but for -EBUSY. */
struct sp_backend *sp_upstream_take(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct sp_upstream_tried *tried,
                                    struct sp_queue_ticket *ticket, sp_transport_ready *ready, void *owner, int *ret_error) SP_MUST_USE;

struct sp_transport *sp_backend_transport(const struct sp_backend *backend);
const struct sp_server_config *sp_backend_server(const struct sp_backend *backend); /* of the snapshot it was taken with */
bool sp_backend_reused(const struct sp_backend *backend);
bool sp_backend_timed_out(const struct sp_backend *backend); /* FAILED came from connect_timeout */
/* Whether its transport's problem should be logged: at most once a second for each server. */
bool sp_backend_may_tell(struct sp_backend *backend);
/* Bytes read and not used yet; empty when taken. */
struct sp_buffer *sp_backend_in(struct sp_backend *backend);

/* Back to the kept ones, ready for the next request; closed instead when that is not possible. */
void sp_backend_keep(struct sp_backend *backend);
/* Closes it now; with abort by RST, so that the server notices at once that nobody listens. Takes NULL. */
void sp_backend_close(struct sp_backend *backend, bool abort);
/* How the server did, as seen by traffic: outlier_failures failures in a row eject it for outlier_eject. */
void sp_backend_report(struct sp_backend *backend, bool good);

#endif
