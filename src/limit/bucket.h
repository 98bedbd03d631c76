/* The part of the bucket that the Redis store shares: what a bucket whose level is known means for a caller. */
#ifndef SP_LIMIT_BUCKET_H
#define SP_LIMIT_BUCKET_H

#include <sallyport/limit.h>

/* The answer for a bucket as it is, after taking (admitted) or not. Nothing is advanced; where the bucket's time is ahead of now_us,
 * because the clock went back, the waits are longer by that much: until then nothing accrues. */
struct sp_bucket_answer sp_bucket_describe(const struct sp_bucket_policy *policy, uint64_t now_us, uint64_t cost, bool admitted,
                                           const struct sp_bucket *bucket);

#endif
