/* What was asked about in vain, for a while: a table of fixed size in which the newest pushes out what stands in its place. Forgetting
 * costs one more question, never an answer: whoever floods it gains nothing. */
#ifndef SALLYPORT_IDENTITY_REFUSED_H
#define SALLYPORT_IDENTITY_REFUSED_H

#include <sallyport/base.h>

struct sp_refused;
struct sp_refused *sp_refused_new(void) SP_MUST_USE; /* free() it; NULL: out of memory */
bool sp_refused_has(const struct sp_refused *refused, const uint8_t key[32], uint64_t now_s);
void sp_refused_add(struct sp_refused *refused, const uint8_t key[32], uint64_t until_s);

#endif
