/* The buckets in Redis: one EVALSHA per request, over all its limits; never waited for longer than the deadline. It must not know what is
 * done with an answer, or without one. */
#ifndef SP_LIMIT_REDIS_STORE_H
#define SP_LIMIT_REDIS_STORE_H

#include "decision.h"
#include "redis_client.h"

#define SP_REDIS_BURST_MAX (((UINT64_C(1) << 53) - 1) / SP_MICRO) /* tokens; a larger burst is kept as this */

/* A rate as the script computes with it: micro-tokens per microsecond in lowest terms, den · (num + 1) < 2^53. Exact for every rate whose
 * amount times period in seconds stays below that; otherwise rounded down. */
struct sp_redis_ratio {
    uint64_t num, den;
};
struct sp_redis_ratio sp_redis_ratio_of(const struct sp_rate *rate);

struct sp_redis_store;
/* answers[i] belongs to request->limits[i]; NULL: Redis did not say in time. Never called from inside sp_redis_store_ask(). */
typedef void sp_redis_answered(void *owner, struct sp_limit_request *request, const struct sp_limit_answer *answers);

int sp_redis_store_new(struct sp_loop *loop, sp_redis_answered *answered, void *owner, struct sp_redis_store **ret) SP_MUST_USE;
/* Requests under way are forgotten without a call. */
void sp_redis_store_free(struct sp_redis_store *store); /* takes NULL */
/* Borrowed until the next call. As sp_redis_configure(). */
int sp_redis_store_configure(struct sp_redis_store *store, const struct sp_config *config, struct sp_tls_client *tls) SP_MUST_USE;
/* 0: `answered` will be called once, unless cancelled. -errno: Redis is not to be asked now. */
int sp_redis_store_ask(struct sp_redis_store *store, struct sp_limit_request *request) SP_MUST_USE;
void sp_redis_store_cancel(struct sp_redis_store *store, struct sp_limit_request *request);
struct sp_redis *sp_redis_store_client(struct sp_redis_store *store); /* the store's */
void sp_redis_store_state(const struct sp_redis_store *store, struct sp_limiter_state *ret);

/* The pure part, for tests: a reply to the script → answers for `n` buckets. -EPROTO: not what the script says. */
int sp_redis_decode(const struct sp_resp_reply *reply, uint64_t cost, size_t n, struct sp_limit_answer *ret) SP_MUST_USE;

#endif
