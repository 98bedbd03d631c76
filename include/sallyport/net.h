/* net: sockets, addresses, accepting with caps, and transports: plain TCP, Unix and TLS 1.3 behind one interface, both sides.
 * Transports are edge-triggered and remember readiness: a read that could only find EAGAIN is never made.
 * It must not know HTTP, Redis or what bytes mean. */
#ifndef SALLYPORT_NET_H
#define SALLYPORT_NET_H

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <sallyport/base.h>
#include <sallyport/config.h>
#include <sallyport/loop.h>

/* ---- Addresses: 16 bytes, IPv4 as IPv4-mapped IPv6 (RFC 4291 §2.5.5.2) ---- */
#define SP_ADDRESS_TEXT_MAX 46
struct sp_address {
    uint8_t bytes[16];
    uint16_t port;
};
void sp_address_from_sockaddr(const struct sockaddr *sockaddr, struct sp_address *ret);
socklen_t sp_address_to_sockaddr(const struct sp_address *address, struct sockaddr_storage *ret);
size_t sp_address_text(const uint8_t bytes[16], char out[SP_ADDRESS_TEXT_MAX]); /* "192.0.2.1", "2001:db8::1"; NUL-terminated */
bool sp_address_parse(struct sp_span text, uint8_t ret[16]); /* a literal, without brackets; never asks a resolver */
bool sp_address_parse_host(struct sp_span host, uint8_t ret[16]); /* the same, or "localhost", which is 127.0.0.1 */

/* Bound, listening, non-blocking, close-on-exec; SO_REUSEADDR; accepted sockets inherit TCP_NODELAY, TCP_NOTSENT_LOWAT and keepalive.
 * `host` is a literal ("0.0.0.0", "::"; an IPv6 one takes no IPv4): -EINVAL for a name; else -errno of the call that failed.
 * This and the two below need no OpenSSL: link `net_listen`. */
int sp_listen(const char *host, uint16_t port, int backlog, int *ret_fd) SP_MUST_USE;
/* The same options for a listening socket that somebody else opened (systemd). -EINVAL when it does not listen. */
int sp_listen_adopt(int fd) SP_MUST_USE;

/* ---- Transports ---- */
struct sp_transport;

#define SP_IO_AGAIN (-EAGAIN) /* nothing now; `ready` will be called */

/* What `ready` says; several may be set. Called once per event of the socket, from the loop, never from inside another call. */
enum sp_ready {
    SP_READY_OPEN = 1,  /* connected, TLS handshake done: once, and with the others that are true by then */
    SP_READY_READ = 2,  /* reading may give something (also the end) */
    SP_READY_WRITE = 4, /* writing may take something again after SP_IO_AGAIN or a partial write */
    SP_READY_GONE = 8,  /* once: the peer sent its end or a reset while nobody may have been reading; it has left (RFC 9112 §9.8 for TLS) */
    SP_READY_FAILED = 16, /* never opened: sp_transport_problem() says why; nothing more will come. Alone, and once.
                           * What breaks later is said by read and write; SP_READY_READ comes with it. */
};
typedef void sp_transport_ready(void *owner, unsigned ready);

/* Server side of an accepted socket (taken on success; closed with the transport). tls NULL: plain. Opens with the first event, never
 * from inside this call. A TLS handshake yields to all else (sp_defer_yielding). There is no timer for it: that is the owner's. */
struct sp_tls_server;
int sp_transport_accept(struct sp_loop *loop, int fd, struct sp_tls_server *tls, sp_transport_ready *ready, void *owner,
                        struct sp_transport **ret) SP_MUST_USE;
/* Client side: connects (TCP or, with unix_path, a Unix socket); tls NULL: plain. -errno when it fails at once. The time to connect and
 * for the handshake is the owner's to limit. */
struct sp_tls_client;
int sp_transport_connect(struct sp_loop *loop, const struct sp_address *to, const char *unix_path, struct sp_tls_client *tls,
                         sp_transport_ready *ready, void *owner, struct sp_transport **ret) SP_MUST_USE;
/* Hands a transport to another owner: a kept backend connection goes to the next exchange. */
void sp_transport_own(struct sp_transport *transport, sp_transport_ready *ready, void *owner);

bool sp_transport_is_open(const struct sp_transport *transport);
/* How long its handshake has waited for its turn so far: our time, not the peer's. */
uint64_t sp_transport_waited_ms(const struct sp_transport *transport);
/* len is at least 1. > 0 bytes; SP_IO_AGAIN (also before it is open); 0 the orderly end (TLS: close_notify); -ECONNRESET, -EPROTO, …:
 * broken. A TLS peer that closes the socket without close_notify is -ECONNRESET (truncation, RFC 8446 §6.1). */
ssize_t sp_transport_read(struct sp_transport *transport, void *into, size_t len) SP_MUST_USE;
/* > 0 bytes taken (maybe fewer than asked); SP_IO_AGAIN; -errno. After SP_IO_AGAIN offer the same bytes again, at any address; more may
 * follow them, none may be missing. TLS: each call with up to 16 KiB makes one record and one send(2). */
ssize_t sp_transport_write(struct sp_transport *transport, const void *from, size_t len) SP_MUST_USE;
/* Plain: one sendmsg(2). TLS: gathers up to 16 KiB into one record. */
ssize_t sp_transport_writev(struct sp_transport *transport, const struct iovec *pieces, int n) SP_MUST_USE;
/* True while a read may give something without waiting for the loop: ask before returning to it. */
bool sp_transport_readable(const struct sp_transport *transport);
bool sp_transport_writable(const struct sp_transport *transport);
/* Sends close_notify if it can without waiting, closes the socket now, frees at the end of the turn. No more `ready`. Takes NULL.
 * May be called from inside `ready`.
 * With abort: RST instead of FIN, so that a broken transfer cannot be mistaken for a complete one. */
void sp_transport_close(struct sp_transport *transport, bool abort);
/* After the last byte of an answer that ends the connection while the peer may still be sending: close_notify, FIN, then discards
 * what comes until the peer's end, 256 KiB or 2 s, so that no reset overtakes the answer (RFC 9112 §9.6). Takes ownership; `over` (NULL:
 * none) is deferred when the socket is closed, for who counts sockets. */
void sp_transport_linger(struct sp_transport *transport, struct sp_deferred *over);
/* For a kept connection before it is used again: whether the peer has said nothing and is still there, by what epoll told when this turn of
 * the loop began (at no cost); and by what the kernel says now. */
bool sp_transport_quiet(const struct sp_transport *transport);
bool sp_transport_silent(struct sp_transport *transport);
const char *sp_transport_problem(const struct sp_transport *transport); /* a sentence for the log; "" none */
/* It failed because the peer's certificate is missing or not to be believed; the problem says which, whose and why. */
bool sp_transport_refused_certificate(const struct sp_transport *transport);
int sp_transport_fd(const struct sp_transport *transport);

struct sp_tls_facts { /* for the access log; constants or text that lives as long as the transport; "" where plain */
    const char *version, *cipher, *group, *alpn, *server_name;
    bool resumed;
};
void sp_transport_tls_facts(const struct sp_transport *transport, struct sp_tls_facts *ret);

/* The certificate with which the client proved who it is: verified, its chain and revocation too, when the connection was made. Everything
 * lives as long as the transport. */
enum sp_alternative_name { SP_NAME_NONE, SP_NAME_DNS, SP_NAME_URI, SP_NAME_EMAIL };
struct sp_peer_certificate {
    const char *subject;           /* the distinguished name as RFC 2253 writes it, at most SP_PEER_NAME_MAX bytes; "" when it has none */
    enum sp_alternative_name kind; /* of the first subjectAltName that is a DNS name, a URI or an e-mail address */
    const char *name;              /* that name, visible ASCII, at most SP_PEER_NAME_MAX bytes; "" when there is none */
    const char *serial;            /* hex digits */
    uint8_t thumbprint[32];        /* SHA-256 of the certificate (RFC 8705 §3.1: x5t#S256) */
    uint64_t not_after_s;          /* Unix time: not valid after it */
};
#define SP_PEER_NAME_MAX 1024
/* NULL: plain, not open yet, or the client gave none. */
const struct sp_peer_certificate *sp_transport_peer_certificate(const struct sp_transport *transport);

/* ---- TLS, server side: TLS 1.3 only, ALPN, SNI, tickets with shared keys, no early data ----
 * Client certificates, where the listener asks for them: full chain to client_ca, for the purpose of a TLS client, at most 8 authorities,
 * security level 2, and with client_crl none of the chain revoked. Who fails gets a TLS alert; sp_transport_problem() says which
 * certificate and why. A client that gave a certificate gets no session ticket: what was verified then would not be verified again. */
/* Where private keys live: the one place that changes when signing moves to another process. */
struct sp_tls_signer {
    /* The private-key object for a certificate chain: the worker's own until a key holder signs. Returns EVP_PKEY (void here so that
     * readers need no OpenSSL), owned by the caller; NULL with *ret_error. */
    void *(*key_for)(const struct sp_tls_signer *signer, const struct sp_certificate_config *certificate, char **ret_error);
};
extern const struct sp_tls_signer sp_tls_signer_local;

/* Ticket keys outlive configurations; one object per worker, newest key first, at most three are kept. Without keys no tickets are sent.
 * Must outlive every server made with it. */
struct sp_tls_tickets;
struct sp_tls_tickets *sp_tls_tickets_new(void);
void sp_tls_tickets_set(struct sp_tls_tickets *tickets, const uint8_t (*keys)[80], size_t n);
void sp_tls_tickets_free(struct sp_tls_tickets *tickets);

/* One listener's TLS of one generation; ref-counted: connections keep theirs; nothing of `listener` is kept. -EINVAL with *ret_error: one
 * sentence (malloc'ed) that begins with file:line:column, e.g. that the key does not match the certificate. -ENOMEM without one. */
int sp_tls_server_new(const struct sp_listener_config *listener, const struct sp_tls_signer *signer, struct sp_tls_tickets *tickets,
                      char **ret_error, struct sp_tls_server **ret) SP_MUST_USE;
/* Whether who is at the other end of this connection, made before a reload, would still be let in: his certificate is looked at again where
 * what it is verified by has changed, one without it is refused where it is required now. Costs a signature or two when it has changed. */
bool sp_tls_server_accepts(const struct sp_tls_server *tls, const struct sp_transport *transport);
struct sp_tls_server *sp_tls_server_ref(struct sp_tls_server *tls);
void sp_tls_server_unref(struct sp_tls_server *tls); /* takes NULL */

/* ---- TLS, client side: TLS 1.3, or 1.2 with a server that has no more. The server's certificate is verified, always: chain, purpose,
 * at most 8 authorities, security level 2, and the name, which must be among its alternative names (RFC 9525 §6.3) ---- */
/* Towards one name, a host's or an address; ref-counted: transports keep theirs. The name is sent as SNI where it is a host's. The last
 * session is resumed, up to an hour after the certificate was last looked at. `alpn` NULL: none; nothing of `config` is kept.
 * -EINVAL with *ret_error: one sentence (malloc'ed) that begins with file:line:column; -ENOMEM without one. */
int sp_tls_client_new(const struct sp_tls_client_config *config, const char *name, const char *alpn, const struct sp_tls_signer *signer,
                      char **ret_error, struct sp_tls_client **ret) SP_MUST_USE;
/* Towards another name by the same authorities and with the same certificate, which are shared, not loaded again. -ENOMEM. */
int sp_tls_client_for(const struct sp_tls_client *client, const char *name, struct sp_tls_client **ret) SP_MUST_USE;
/* Made of the same bytes for the same name: what was connected with one is as good as what the other would connect. Takes NULL (plain). */
bool sp_tls_client_same(const struct sp_tls_client *a, const struct sp_tls_client *b);
struct sp_tls_client *sp_tls_client_ref(struct sp_tls_client *tls);
void sp_tls_client_unref(struct sp_tls_client *tls); /* takes NULL */

/* ---- Accepting ---- */
/* Connections in all and per address, over all workers of this gateway, in segment SP_SEGMENT_TRAFFIC: each worker writes only its own
 * part and readers add up, so a killed worker's share disappears when the supervisor says it is gone. IPv6 counts per /64.
 * A cap is never exceeded; of two workers that let somebody in at the same instant at the last free place, both may refuse. A worker
 * counts 65,536 distinct addresses at a time; who would be one more is refused as SP_TRAFFIC_ADDRESS_FULL, never let in uncounted. */
size_t sp_traffic_segment_size(void); /* in `net_listen` */
struct sp_traffic; /* a mapped segment seen from one worker slot */
/* Clears its own part. The key must be the same in every worker. */
int sp_traffic_open(void *segment, unsigned worker_slot, const struct sp_hash_key *key, struct sp_traffic **ret) SP_MUST_USE;
void sp_traffic_free(struct sp_traffic *traffic);
/* For the supervisor, once it has seen the end of a worker, however that came: nothing it counted counts any more. In `net_listen`. */
void sp_traffic_worker_gone(int segment_fd, unsigned worker_slot);
enum sp_traffic_verdict { SP_TRAFFIC_OK, SP_TRAFFIC_FULL, SP_TRAFFIC_ADDRESS_FULL };
enum sp_traffic_verdict sp_traffic_enter(struct sp_traffic *traffic, unsigned listener_slot, const uint8_t address[16], uint64_t max,
                                         uint64_t max_per_address);
void sp_traffic_leave(struct sp_traffic *traffic, unsigned listener_slot, const uint8_t address[16]);
uint64_t sp_traffic_connections(const struct sp_traffic *traffic, unsigned listener_slot); /* over all workers */
/* Requests in flight per backend server, over all workers: for least_loaded and max_in_flight. To keep a maximum exactly, add first,
 * then look, and take back what is too many. */
void sp_traffic_server_add(struct sp_traffic *traffic, unsigned server_slot, int delta);
uint64_t sp_traffic_server_in_flight(const struct sp_traffic *traffic, unsigned server_slot);

/* Requests that wait for a server of a pool, over all workers. false: `max` wait already; never exceeded, as for connections. */
bool sp_traffic_wait(struct sp_traffic *traffic, unsigned pool_slot, uint64_t max);
void sp_traffic_waits_no_more(struct sp_traffic *traffic, unsigned pool_slot);
uint64_t sp_traffic_waiting(const struct sp_traffic *traffic, unsigned pool_slot);
/* Whom each worker would serve next, by a rank of which larger is sooner; 0: nobody waits there, or it is our own part that is asked for. */
void sp_traffic_tell_next(struct sp_traffic *traffic, unsigned pool_slot, uint64_t rank);
uint64_t sp_traffic_next_of(const struct sp_traffic *traffic, unsigned worker_slot, unsigned pool_slot);
unsigned sp_traffic_workers(const struct sp_traffic *traffic); /* slots from here on were never used */
/* When `who`, a hash, last had a turn in any worker, by the loop's clock; 0: never, or another one's turn took the place since. */
void sp_traffic_turn(struct sp_traffic *traffic, uint64_t who, uint64_t now_us);
uint64_t sp_traffic_last_turn(const struct sp_traffic *traffic, uint64_t who);
/* Keyed, and the same in every worker. */
uint64_t sp_traffic_hash(const struct sp_traffic *traffic, struct sp_span span);

/* PROXY protocol version 2 (HAProxy's proxy-protocol.txt §2.2): what a load balancer says before the first byte of its client. Pure; no more
 * of a connection is ever read than the header has. Looks at the bytes that have come so far:
 *   MORE     *ret_len bytes in all are needed before more can be said;
 *   CLIENT   *ret_client is who connected to the proxy; the header has *ret_len bytes;
 *   LOCAL    the proxy speaks for itself (health checks); the header has *ret_len bytes;
 *   REFUSED  *ret_why, a constant. Also what is not TCP over IPv4 or IPv6, and a wrong checksum. Other extensions are passed over. */
#define SP_PROXY_HEADER_MAX 536
enum sp_proxy_verdict { SP_PROXY_MORE, SP_PROXY_CLIENT, SP_PROXY_LOCAL, SP_PROXY_REFUSED };
enum sp_proxy_verdict sp_proxy_parse(struct sp_span bytes, size_t *ret_len, struct sp_address *ret_client, const char **ret_why);

struct sp_acceptor;
/* One accepted socket (non-blocking, close-on-exec), already counted: the callee calls sp_traffic_leave() when it is done with it. */
typedef void sp_accepted(void *owner, unsigned listener_slot, int fd, const struct sp_address *peer);
/* Where the listener speaks the PROXY protocol, only trusted proxies are let in, and only with a header, within handshake_timeout; `peer` is
 * then the client, to whom allow, deny and the caps apply. At most 1,024 connections wait for their header.
 * Takes fd on success, a listening socket shared with the other workers (EPOLLEXCLUSIVE). Accepting yields, in one queue with the TLS
 * handshakes (sp_defer_yielding), so that no more come in than can be worked on: the rest waits in the kernel. Out of
 * descriptors: pauses 100 ms and says so once. Allow/deny and caps come from sp_acceptor_configure(), before which nobody is accepted: the queue keeps them. */
int sp_acceptor_new(struct sp_loop *loop, int fd, unsigned listener_slot, struct sp_traffic *traffic, sp_accepted *accepted, void *owner,
                    struct sp_acceptor **ret) SP_MUST_USE;
/* Keeps a reference to config; `listener` is one of its listeners. */
void sp_acceptor_configure(struct sp_acceptor *acceptor, struct sp_config *config, const struct sp_listener_config *listener);
uint64_t sp_acceptor_refused(const struct sp_acceptor *acceptor); /* by allow/deny, a cap or for a PROXY header, since it began */
void sp_acceptor_stop(struct sp_acceptor *acceptor); /* for draining: no more, the socket stays the supervisor's */
void sp_acceptor_free(struct sp_acceptor *acceptor); /* takes NULL; may be called from inside `accepted` */

#endif
