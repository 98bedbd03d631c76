/* A lease for who wants one alone: taken by the clock, and again as long as what is given dies on the way. */
#ifndef SALLYPORT_TEST_LIMIT_LEASE_NOW_H
#define SALLYPORT_TEST_LIMIT_LEASE_NOW_H

#include "lease.h"

static inline void lease_take_now(struct sp_leases *leases, struct sp_lease_name name, const struct sp_rate *rate, uint64_t burst, uint64_t cost,
                                  struct sp_lease_answer *ret) {
    for (uint64_t wish = 0;; wish = ret->wish) {
        sp_lease_take(leases, name, rate, burst, cost, leases->clock_us(), ret);
        ret->wish = sp_max(ret->wish, wish);
        if (ret->verdict != SP_LEASE_GIVEN || leases->clock_us() < ret->expiry_us)
            return;
    }
}

#endif
