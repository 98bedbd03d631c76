/* sallyport ctl limits. */
#ifndef SALLYPORT_CLI_LIMITS_H
#define SALLYPORT_CLI_LIMITS_H

#include "gateway.h"

/* Whose levels; what is NULL was not given. */
struct sp_limits_question {
    const char *subject, *tenant, *key, *address, *model, *route;
};
bool sp_limits_asks_of_somebody(const struct sp_limits_question *question);
/* The exit status. */
int sp_ctl_limits(const struct sp_gateway *gateway, const struct sp_limits_question *question, bool json);

#endif
