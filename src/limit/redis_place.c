#include <errno.h>
#include <stdio.h>

#include "redis_client.h"

void sp_redis_note(char problem[SP_LIMITER_PROBLEM_MAX], const char *what, struct sp_span detail) {
    int n = snprintf(problem, SP_LIMITER_PROBLEM_MAX, "%s%s", what, detail.len ? ": " : "");
    size_t at = sp_min((size_t)sp_max(n, 0), (size_t)SP_LIMITER_PROBLEM_MAX - 1);
    for (size_t i = 0; i < detail.len && at < SP_LIMITER_PROBLEM_MAX - 1; i++)
        problem[at++] = detail.at[i] >= ' ' && detail.at[i] <= '~' ? detail.at[i] : '?';
    problem[at] = 0;
}

int sp_redis_find_address(const char *host, uint16_t port, struct sp_address *ret) {
    ret->port = port;
    return sp_address_parse_host(sp_span_text(host), ret->bytes) ? 0 : -EINVAL;
}

void sp_redis_configure_found(struct sp_redis *redis, const struct sp_redis_config *config, const struct sp_redis_place *place,
                              struct sp_tls_client *tls) {
    char name[SP_ADDRESS_TEXT_MAX];
    if (!tls || config->tls_client.server_name) {
        sp_redis_configure(redis, config, place, tls);
        return;
    }
    struct sp_tls_client *own;
    (void)sp_address_text(place->address.bytes, name);
    if (sp_tls_client_for(tls, name, &own) < 0) {
        sp_redis_configure(redis, NULL, NULL, NULL);
        return;
    }
    sp_redis_configure(redis, config, place, own);
    sp_tls_client_unref(own);
}
