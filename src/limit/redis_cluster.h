/* The nodes of a Redis cluster, one connection each, and which of them owns which slots: asked of any of them with CLUSTER SLOTS at the
 * beginning, when a connection is lost, after MOVED (at most every 100 ms), every half second while something is missing, else every 10 s.
 * It must not know what commands are about. */
#ifndef SP_LIMIT_REDIS_CLUSTER_H
#define SP_LIMIT_REDIS_CLUSTER_H

#include "redis_client.h"
#include "redis_slot.h"

struct sp_redis_cluster;
int sp_redis_cluster_new(struct sp_loop *loop, struct sp_redis_cluster **ret) SP_MUST_USE;
void sp_redis_cluster_free(struct sp_redis_cluster *cluster); /* takes NULL */
/* Borrowed until the next call; NULL, or one without a cluster: no nodes. What is known of the slots is kept where the same members are
 * named. -EINVAL: none of them can be reached as configured. Not from inside `replied`. */
int sp_redis_cluster_configure(struct sp_redis_cluster *cluster, const struct sp_redis_config *config,
                               struct sp_tls_client *tls) SP_MUST_USE;

struct sp_redis *sp_redis_cluster_owner(const struct sp_redis_cluster *cluster, unsigned slot); /* NULL: not known */
/* Where a redirect leads, connected to now if it was not; MOVED is remembered, and the slots are asked for. NULL: no more nodes can be had.
 */
struct sp_redis *sp_redis_cluster_follow(struct sp_redis_cluster *cluster, const struct sp_redis_redirect *redirect);
void sp_redis_cluster_refresh(struct sp_redis_cluster *cluster); /* soon */
void sp_redis_cluster_state(const struct sp_redis_cluster *cluster, struct sp_limiter_state *ret);

#endif
