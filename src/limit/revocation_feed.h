/* API keys revoked by any of the gateways that share a Redis: asked for every REVOCATION_FEED_MS, told when there are some.
 *
 * They stand in the sorted set <prefix>revoked, see revoke.lua. What is news is read by score; everything is read again on a new
 * connection, with a new configuration and once a minute, and what then is not there is told (again): an emptied Redis is filled by whoever
 * still knows. At most SP_REVOKED_KEPT members stay, the newest; none goes by its age, for a key that never expires must not come back.
 * What Redis says is checked, counted and bounded; it can revoke keys, and nothing else. */
#ifndef SP_LIMIT_REVOCATION_FEED_H
#define SP_LIMIT_REVOCATION_FEED_H

#include <sallyport/limit.h>

#include "redis_route.h"

#define SP_REVOCATION_FEED_MS 400
#define SP_REVOKED_KEPT       65536
#define SP_REVOKED_PAGE       64

struct sp_revocation_feed;
/* route is borrowed and must be freed before: its commands under way come home to the feed. */
int sp_revocation_feed_new(struct sp_loop *loop, struct sp_redis_route *route, struct sp_revocation_feed **ret) SP_MUST_USE;
void sp_revocation_feed_free(struct sp_revocation_feed *feed); /* takes NULL */
void sp_revocation_feed_share(struct sp_revocation_feed *feed, const struct sp_revocations *known, sp_revoked_elsewhere *learned,
                              void *owner);
/* Borrowed until the next call. */
void sp_revocation_feed_configure(struct sp_revocation_feed *feed, const struct sp_config *config);
void sp_revocation_feed_tell(struct sp_revocation_feed *feed);
const char *sp_revocation_feed_problem(const struct sp_revocation_feed *feed); /* a sentence; "" none */

/* The pure part: one page of the set → revocations. Members and scores that are not ours are passed over. *ret_last: the highest score of
 * the page, `last` when there is none. The number of members the page had, or -EPROTO: not a page. */
int sp_revoked_page(const struct sp_resp_reply *reply, uint64_t last, struct sp_revocation ret[SP_REVOKED_PAGE], size_t *ret_n,
                    uint64_t *ret_last) SP_MUST_USE;

#endif
