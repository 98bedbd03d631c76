/* From what each bucket answered to what the request is told. Pure. */
#ifndef SP_LIMIT_DECISION_H
#define SP_LIMIT_DECISION_H

#include <sallyport/limit.h>

struct sp_limit_answer {
    bool asked; /* false: this limit has no say here */
    struct sp_bucket_answer bucket;
    uint64_t burst; /* of the policy that answered */
};

/* Whether this answer stands in the request's way. A shadow limit's never does. */
bool sp_answer_refuses(const struct sp_limit_config *limit, const struct sp_limit_answer *answer);

/* answers[i] belongs to limits[i]. Refused: the limit that takes longest is the one that is named, so that a client that waits for it finds
 * the others ready too. */
void sp_decision_combine(const struct sp_limit_config *const *limits, const struct sp_limit_answer *answers, size_t n,
                         struct sp_limit_decision *ret);

#endif
