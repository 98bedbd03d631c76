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

/* Chooses a server by the pool's balance and lends a connection: a kept one (open at once) or a new one (SP_READY_OPEN or
 * SP_READY_FAILED will come through `ready`, FAILED also when connect_timeout passes). NULL with *ret_error:
 *   -EHOSTDOWN no server is up; -EBUSY every server that is up is at max_in_flight or out of connections; -errno from connecting. */
struct sp_backend *sp_upstream_take(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct sp_upstream_tried *tried,
                                    sp_transport_ready *ready, void *owner, int *ret_error) SP_MUST_USE;

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
