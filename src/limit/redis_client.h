/* One connection to one Redis or sentinel: connecting, greeting (AUTH, SELECT, SCRIPT LOAD, ROLE, PING), commands out in one write per loop
 * turn, replies back to who asked, reconnecting, and the breaker. It must not know buckets, nor where keys live. */
#ifndef SP_LIMIT_REDIS_CLIENT_H
#define SP_LIMIT_REDIS_CLIENT_H

#include <sallyport/config.h>
#include <sallyport/limit.h>
#include <sallyport/loop.h>
#include <sallyport/net.h>

#include "resp.h"

struct sp_redis;

/* A command whose reply is awaited, embedded in its owner, who keeps it until `replied` is called: exactly once, with NULL when the
 * connection broke first. The reply is valid during the call, or until the connection is closed from inside it. */
struct sp_redis_command {
    struct sp_list node;
    void (*replied)(struct sp_redis_command *command, const struct sp_resp_reply *reply);
    sp_resp_visit *visit; /* NULL: none. Its owner is the command */
    /* private: */
    struct sp_redis *redis; /* sent to it last */
    unsigned slot;          /* redis_route.c's: what it is about, and how often it was sent again */
    unsigned again;
    bool asking; /* sent after ASKING, whose reply comes before its own */
    bool asked;  /* that reply has come */
};

/* Whom to connect to. */
enum sp_redis_kind {
    SP_REDIS_STORE,   /* keeps keys */
    SP_REDIS_MASTER,  /* the same; what is not a master is not wanted */
    SP_REDIS_SENTINEL /* has no scripts and no databases, and its own passwords: is told ours when it asks for one */
};
struct sp_redis_place {
    enum sp_redis_kind kind;
    const char *unix_path; /* NULL: address */
    struct sp_address address;
};

/* It has greeted us, or the connection is lost: sp_redis_connected() says which. Not called from inside sp_redis_configure() for what that
 * itself closes. Must not free or configure this redis. */
typedef void sp_redis_changed(void *owner, struct sp_redis *redis);
int sp_redis_new(struct sp_loop *loop, sp_redis_changed *changed, void *owner, struct sp_redis **ret) SP_MUST_USE;
/* Commands under way are told that the connection broke. Not from inside `replied` of its own commands. */
void sp_redis_free(struct sp_redis *redis); /* takes NULL */
/* Config, and the path in place, are borrowed until the next call; tls (NULL: plain) is referred to. place NULL: nowhere. Reconnects only
 * if where, which database or what TLS is made of changed; to another user or password it changes on the connection that is there, and
 * stays who it was when Redis refuses them. */
void sp_redis_configure(struct sp_redis *redis, const struct sp_redis_config *config, const struct sp_redis_place *place,
                        struct sp_tls_client *tls);

/* Whether asking makes sense: connected or about to be, and the breaker closed. */
bool sp_redis_usable(const struct sp_redis *redis);
bool sp_redis_connected(const struct sp_redis *redis);     /* and greeted, and the breaker closed */
uint64_t sp_redis_opened_us(const struct sp_redis *redis); /* sp_clock_us() when this connection was opened: tells it from others */
const struct sp_address *sp_redis_address(const struct sp_redis *redis);
/* Queues the bytes of one command (copied); they leave at the end of the turn. -ENOTCONN when not usable, -ENOBUFS, -ENOMEM: nothing
 * queued. asking: ASKING before it, so that a node of a cluster answers for a slot it is only about to own. */
int sp_redis_send(struct sp_redis *redis, struct sp_redis_command *command, const char *bytes, size_t len) SP_MUST_USE;
int sp_redis_send_asking(struct sp_redis *redis, struct sp_redis_command *command, const char *bytes, size_t len) SP_MUST_USE;
/* Sends the scripts again; for NOSCRIPT. What is sent after it finds them there. */
int sp_redis_load_scripts(struct sp_redis *redis) SP_MUST_USE;

/* What the asker thought of the answer. Failures in a row open the breaker, which closes the connection. */
void sp_redis_succeeded(struct sp_redis *redis);
void sp_redis_timed_out(struct sp_redis *redis);
void sp_redis_failed(struct sp_redis *redis, const char *what, struct sp_span detail);
/* A failure after which this connection is of no use: closed, and tried again later. */
void sp_redis_drop(struct sp_redis *redis, const char *what, struct sp_span detail);
/* The same: it said that it is no master. */
void sp_redis_demoted(struct sp_redis *redis, struct sp_span detail);
bool sp_redis_was_demoted(const struct sp_redis *redis); /* it, or ROLE, said so on the last connection */

/* All but `commands` and `overflowed`. */
void sp_redis_state(const struct sp_redis *redis, struct sp_limiter_state *ret);

/* ---- For all who say where to connect to (redis_place.c) ---- */
/* One sentence; what a peer said in it is cut short and made printable. */
void sp_redis_note(char problem[SP_LIMITER_PROBLEM_MAX], const char *what, struct sp_span detail);
/* A literal, or "localhost". -EINVAL: a name, which nobody here can look up. */
int sp_redis_find_address(const char *host, uint16_t port, struct sp_address *ret) SP_MUST_USE;
/* As sp_redis_configure(), where others told us the place: its certificate must be for the configured name, else for the address itself.
 * Without memory for that it is unconnected. */
void sp_redis_configure_found(struct sp_redis *redis, const struct sp_redis_config *config, const struct sp_redis_place *place,
                              struct sp_tls_client *tls);

#endif
