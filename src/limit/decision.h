/* From what each bucket and each count of places answered to what the request is told. Pure. */
#ifndef SP_LIMIT_DECISION_H
#define SP_LIMIT_DECISION_H

#include <sallyport/limit.h>

#define SP_LIMIT_BUCKETS 2 /* kinds that are buckets: SP_LIMIT_REQUESTS and SP_LIMIT_TOKENS */

struct sp_limit_answer {
    bool asked; /* false: this limit has no say here */
    struct sp_bucket_answer bucket;
    uint64_t burst; /* of the policy that answered */
};

/* What a limit says of one kind of bucket; amount 0: nothing. */
static inline const struct sp_rate *sp_limit_rate(const struct sp_limit_config *limit, enum sp_limit_kind kind) {
    return kind == SP_LIMIT_TOKENS ? &limit->tokens : &limit->requests;
}
static inline uint64_t sp_limit_burst(const struct sp_limit_config *limit, enum sp_limit_kind kind) {
    return kind == SP_LIMIT_TOKENS ? limit->token_burst : limit->request_burst;
}

/* Whether this answer stands in the request's way. A shadow limit's never does. */
static inline bool sp_answer_refuses(const struct sp_limit_config *limit, const struct sp_limit_answer *answer) {
    return answer->asked && !answer->bucket.admitted && !limit->shadow;
}

/* answers[kind][i] is of limits[i]. Refused: the bucket that takes longest is the one that is named, so that a client that waits for it
 * finds the others ready too. */
void sp_decision_combine(const struct sp_limit_request *request,
                         const struct sp_limit_answer answers[SP_LIMIT_BUCKETS][SP_REQUEST_LIMITS_MAX], struct sp_limit_decision *ret);
/* No place was free. `ret` says of buckets what it said before. */
void sp_decision_refuse_place(const struct sp_limit_config *limit, uint64_t retry_ms, struct sp_limit_decision *ret);

#endif
