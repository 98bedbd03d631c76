/* Which Redis is the master, as sentinels tell (redis.io: "Guidelines for Redis clients with support for Redis Sentinel"). One sentinel is
 * asked at a time, on a connection that is kept: every second, or while the master is not connected one after the other, every 100 ms; one
 * that does not answer within half a second, or knows nothing, is left for the next. It must not know what the master is used for. */
#ifndef SP_LIMIT_REDIS_SENTINEL_H
#define SP_LIMIT_REDIS_SENTINEL_H

#include "redis_client.h"

struct sp_redis_sentinel;
/* A sentinel named this one: said at every answer, also when it is the same as before. */
typedef void sp_redis_master_found(void *owner, const struct sp_address *master);
int sp_redis_sentinel_new(struct sp_loop *loop, sp_redis_master_found *found, void *owner, struct sp_redis_sentinel **ret) SP_MUST_USE;
void sp_redis_sentinel_free(struct sp_redis_sentinel *sentinel); /* takes NULL */
/* Borrowed until the next call; NULL, or one without sentinels: nobody is asked. -EINVAL: none of them can be reached as configured. */
int sp_redis_sentinel_configure(struct sp_redis_sentinel *sentinel, const struct sp_redis_config *config,
                                struct sp_tls_client *tls) SP_MUST_USE;
/* The master is connected, or is not: how often sentinels are asked. Lost: they are asked now. */
void sp_redis_sentinel_master_up(struct sp_redis_sentinel *sentinel, bool up);
/* What was named is not a master: who said so is not asked again before the others. */
void sp_redis_sentinel_was_wrong(struct sp_redis_sentinel *sentinel);
const char *sp_redis_sentinel_problem(const struct sp_redis_sentinel *sentinel); /* a sentence; "" none */

/* The pure part: the reply to SENTINEL GET-MASTER-ADDR-BY-NAME. -ENOENT: the sentinel does not know the name; -EPROTO: anything else, a
 * host that is a name included. */
int sp_redis_master_parse(const struct sp_resp_reply *reply, struct sp_address *ret) SP_MUST_USE;

#endif
