#include "lease.h"

bool sp_limit_leasable(const struct sp_limit_config *limit, enum sp_limit_kind kind) {
    return limit->mode == SP_LIMIT_LEASED && sp_lease_possible(sp_limit_rate(limit, kind), sp_limit_burst(limit, kind));
}
