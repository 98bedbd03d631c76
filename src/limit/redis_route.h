/* The way to a key in Redis as it is run: one Redis, the master that sentinels name, or the nodes of a cluster. Users name a slot
 * (sp_redis_key_slot() of the key; keys with the same {hash tag} share one) and get to the node that owns it; with one Redis or a master
 * all slots are there. It must not know buckets.
 *
 * Sentinel: asked in turn which Redis is the master, at least every second and at once when the master is lost or says READONLY. Cluster:
 * CLUSTER SLOTS is asked at the beginning, after MOVED (at most every 100 ms), when a connection is lost and every 10 s. Each node has a
 * connection and a breaker of its own, so that a node that is away degrades its slots only. Where sentinels and nodes say to go, we go,
 * with our password: who rules one of them can have it, unless TLS says who is who. Names are not looked up; literal addresses only.
 *
 * A user of its own needs, besides what the scripts call:
 *     always      +ping +evalsha +script|load     (and +select for a database, +config|get or +info to see that nothing is evicted)
 *     sentinel    +role                           on master and replicas; a sentinel is told the password only when it asks for one
 *     cluster     +cluster|slots +asking */
#ifndef SP_LIMIT_REDIS_ROUTE_H
#define SP_LIMIT_REDIS_ROUTE_H

#include "redis_client.h"
#include "redis_slot.h"

struct sp_redis_route;

int sp_redis_route_new(struct sp_loop *loop, struct sp_redis_route **ret) SP_MUST_USE;
/* Commands under way are told that the connection broke. */
void sp_redis_route_free(struct sp_redis_route *route); /* takes NULL */
/* Config is borrowed until the next call, tls (where config->tls, else NULL) is referred to. config NULL: no Redis. Connections stay where
 * they are still right, see sp_redis_configure(). -EINVAL: there is no way to Redis as configured, and a problem to show. */
int sp_redis_route_configure(struct sp_redis_route *route, const struct sp_redis_config *config, struct sp_tls_client *tls) SP_MUST_USE;

/* Whether asking the slot's owner makes sense: it is known, connected or about to be, and its breaker is closed. */
bool sp_redis_route_usable(const struct sp_redis_route *route, unsigned slot);
/* To the owner of the slot. As sp_redis_send(): bytes are copied; `replied` is called exactly once after 0, never from inside. */
int sp_redis_route_send(struct sp_redis_route *route, unsigned slot, struct sp_redis_command *command, const char *bytes,
                        size_t len) SP_MUST_USE;

/* What a reply amounts to. To be asked first in every `replied`, of a command sent with sp_redis_route_send(). */
enum sp_redis_verdict {
    SP_REDIS_ANSWER, /* not an error */
    SP_REDIS_ERROR,  /* an error that is the command's own affair (NOPERM, OOM, a script's): reply->value.text says which */
    SP_REDIS_AGAIN,  /* not executed there: it is on its way again to where it belongs, and `replied` will be called again */
    SP_REDIS_FAILED, /* not executed, or nobody knows; what can be done about it is being done. The reply, if any, is gone */
};
/* reply as given to `replied`, also NULL. bytes: the command again, to be sent once more after MOVED, ASK, TRYAGAIN or NOSCRIPT (scripts
 * are loaded before it); at most SP_REDIS_AGAIN_MAX times, the deadline is the caller's to watch. NULL: it is not wanted any more. */
#define SP_REDIS_AGAIN_MAX 5
enum sp_redis_verdict sp_redis_route_consider(struct sp_redis_route *route, struct sp_redis_command *command,
                                              const struct sp_resp_reply *reply, const char *bytes, size_t len) SP_MUST_USE;

/* What the asker thought of the answer, for the breaker of the node that the command was sent to last. Only while the command is under way,
 * or from inside `replied` with a reply and a verdict of ANSWER or ERROR. The last two may close the connection, so that other commands are
 * told, and this one too where it is still under way: touch neither command nor reply afterwards. */
void sp_redis_route_succeeded(struct sp_redis_command *command);
void sp_redis_route_timed_out(struct sp_redis_command *command);
void sp_redis_route_failed(struct sp_redis_command *command, const char *what, struct sp_span detail);

/* Whether the owner of the slot is connected and has greeted us; *ret_connection is another number on another connection, or when another
 * node owns it. */
bool sp_redis_route_connected(const struct sp_redis_route *route, unsigned slot, uint64_t *ret_connection);
/* Over all nodes: up when every slot has an owner that is; all but `commands` and `overflowed`. */
void sp_redis_route_state(const struct sp_redis_route *route, struct sp_limiter_state *ret);

#endif
