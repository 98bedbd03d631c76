/* When to stop asking a Redis that does not answer, and how long to wait between tries. Pure: no clock, no dice. */
#ifndef SP_LIMIT_BREAKER_H
#define SP_LIMIT_BREAKER_H

#include <sallyport/base.h>

#define SP_BREAKER_FAILURES    3 /* in a row open it */
#define SP_BREAKER_WAIT_MIN_MS 50
#define SP_BREAKER_WAIT_MAX_MS 1000

struct sp_breaker {
    bool open;         /* nothing is asked; a connection that greets in time is the probe that closes it */
    unsigned failures; /* since the last success */
    unsigned tries;    /* connections begun since the last success */
};

void sp_breaker_failed(struct sp_breaker *breaker);
void sp_breaker_succeeded(struct sp_breaker *breaker);
/* Before the next connection: doubles with each try up to the maximum, and is then drawn from its upper half by `dice`, any number, so that
 * many gateways that lost the same Redis do not come back at one instant. */
uint64_t sp_breaker_wait_ms(struct sp_breaker *breaker, uint64_t dice);

#endif
