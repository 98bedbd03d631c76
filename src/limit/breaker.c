#include "breaker.h"

void sp_breaker_failed(struct sp_breaker *breaker) {
    if (breaker->failures < SP_BREAKER_FAILURES)
        breaker->failures++;
    breaker->open = breaker->failures >= SP_BREAKER_FAILURES;
}

void sp_breaker_succeeded(struct sp_breaker *breaker) { *breaker = (struct sp_breaker){0}; }

uint64_t sp_breaker_wait_ms(struct sp_breaker *breaker, uint64_t dice) {
    uint64_t longest = SP_BREAKER_WAIT_MIN_MS;
    for (unsigned i = 0; i < breaker->tries && longest < SP_BREAKER_WAIT_MAX_MS; i++)
        longest *= 2;
    longest = sp_min(longest, (uint64_t)SP_BREAKER_WAIT_MAX_MS);
    if (longest < SP_BREAKER_WAIT_MAX_MS)
        breaker->tries++;
    return longest / 2 + dice % (longest - longest / 2 + 1);
}
