/* What goes to token_bucket.lua and what comes back, as bytes. Pure: it must not know who asks, or where Redis is. */
#ifndef SP_LIMIT_REDIS_WIRE_H
#define SP_LIMIT_REDIS_WIRE_H

#include "redis_store.h"

/* A settlement on its way. */
struct sp_redis_payment {
    int64_t delta;     /* whole tokens, at most SP_REDIS_BURST_MAX either way */
    uint64_t sequence; /* of this process's settlements; rises */
    uint64_t at_us;    /* not 0: what is given back was taken at this instant of Redis' */
    bool again;        /* it was sent before, and nobody knows what became of it */
};

struct sp_redis_policy {
    struct sp_redis_ratio ratio; /* num 0: unknown, what is stored is in force */
    uint64_t burst, revision;
};
#define SP_REDIS_POLICY_MAX 84 /* of a policy in writing: four numbers */
size_t sp_redis_wire_policy(const struct sp_redis_policy *policy, char out[SP_REDIS_POLICY_MAX]); /* its length */

/* What is asked of one bucket. */
struct sp_redis_asked {
    struct sp_span key; /* with its prefix */
    struct sp_redis_policy policy;
    struct sp_span in_writing; /* the policy, if that is at hand; read when the command is written only */
    uint64_t cost, lease;
    bool shadow, pays;
    struct sp_redis_payment payment; /* where it pays */
};

/* What became of it. */
struct sp_redis_told {
    struct sp_limit_answer answer;
    uint64_t leased, taken_us;
};

/* Bytes that are surely enough for the command. */
size_t sp_redis_wire_size(const struct sp_redis_asked *asked, size_t n);
/* Writes the command; its length. The keys then are those in `out`. */
size_t sp_redis_wire_format(struct sp_redis_asked *asked, size_t n, bool peek, uint32_t source, char *out);
/* 0, or -EPROTO: not what the script says to this, or not what its parts amount to. */
int sp_redis_wire_decode(const struct sp_resp_reply *reply, const struct sp_redis_asked *asked, size_t n, bool peek, bool *ret_admitted,
                         struct sp_redis_told ret[SP_REDIS_PARTS_MAX]) SP_MUST_USE;

#endif
