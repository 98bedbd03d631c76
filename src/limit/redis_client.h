/* One connection to Redis: connecting, greeting (AUTH, SELECT, SCRIPT LOAD, PING), commands out in one write per loop turn, replies back to
 * who asked, reconnecting, and the breaker. It must not know buckets. */
#ifndef SP_LIMIT_REDIS_CLIENT_H
#define SP_LIMIT_REDIS_CLIENT_H

#include <sallyport/config.h>
#include <sallyport/limit.h>
#include <sallyport/loop.h>
#include <sallyport/net.h>

#include "resp.h"

struct sp_redis;

/* A command whose reply is awaited, embedded in its owner, who keeps it until `replied` is called: exactly once, with NULL when the
 * connection broke first. The reply is valid during the call. */
struct sp_redis_command {
    struct sp_list node;
    void (*replied)(struct sp_redis_command *command, const struct sp_resp_reply *reply);
};

int sp_redis_new(struct sp_loop *loop, struct sp_redis **ret) SP_MUST_USE;
/* Commands under way are told that the connection broke. */
void sp_redis_free(struct sp_redis *redis); /* takes NULL */
/* Config is borrowed until the next call, tls (for rediss://, else NULL) is referred to. config NULL: no Redis. Reconnects only if where,
 * which database or what TLS is made of changed; to another user or password it changes on the connection that is there, and stays who it
 * was when Redis refuses them. -EINVAL: the host is neither an address nor "localhost", or there is no TLS for rediss://: unconnected, with
 * a problem to show. */
int sp_redis_configure(struct sp_redis *redis, const struct sp_redis_config *config, struct sp_tls_client *tls) SP_MUST_USE;

/* Whether asking makes sense: connected or about to be, and the breaker closed. */
bool sp_redis_usable(const struct sp_redis *redis);
/* Queues the bytes of one command (copied); they leave at the end of the turn. -ENOTCONN when not usable, -ENOBUFS, -ENOMEM: nothing
 * queued. */
int sp_redis_send(struct sp_redis *redis, struct sp_redis_command *command, const char *bytes, size_t len) SP_MUST_USE;
/* Sends the script again; for NOSCRIPT. What is sent after it finds it there. */
int sp_redis_load_script(struct sp_redis *redis) SP_MUST_USE;

/* What the asker thought of the answer. Failures in a row open the breaker, which closes the connection. */
void sp_redis_succeeded(struct sp_redis *redis);
void sp_redis_timed_out(struct sp_redis *redis);
void sp_redis_failed(struct sp_redis *redis, const char *what, struct sp_span detail);

void sp_redis_state(const struct sp_redis *redis, struct sp_limiter_state *ret); /* all but `commands` and `overflowed` */

#endif
