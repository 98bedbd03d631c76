/* exchange: one request and its response, whatever protocol carried it, through the table of stages in exchange.c; and the service that
 * a worker offers: what all its exchanges share. It must not know processes, files or how configuration is read. */
#ifndef SALLYPORT_EXCHANGE_H
#define SALLYPORT_EXCHANGE_H

#include <sallyport/account.h>
#include <sallyport/base.h>
#include <sallyport/config.h>
#include <sallyport/identity.h>
#include <sallyport/limit.h>
#include <sallyport/loop.h>
#include <sallyport/net.h>
#include <sallyport/revocations.h>
#include <sallyport/upstream.h>

/* What a request is decided by: one generation of the configuration and what was made of it. Immutable, reference-counted:
 * an exchange keeps the one it began with. */
struct sp_snapshot {
    unsigned refs;
    struct sp_config *config;
    struct sp_identity *identity;
    struct sp_tls_server *tls[SP_LISTENERS_MAX]; /* by listener slot; NULL: no such listener */
    struct sp_upstream_tls *upstream_tls;
    struct sp_tls_client *redis_tls; /* NULL: not rediss:// */
    const struct sp_listener_config *listener[SP_LISTENERS_MAX];
    uint64_t login_limits; /* of `count: unauthorized`: bits by index in config->limits */
};
/* Keeps a reference to config. -EINVAL with *ret_error (malloc'ed, one sentence with file:line:column); -ENOMEM. */
int sp_snapshot_new(struct sp_config *config, const struct sp_tls_signer *signer, struct sp_tls_tickets *tickets, char **ret_error,
                    struct sp_snapshot **ret) SP_MUST_USE;
struct sp_snapshot *sp_snapshot_ref(struct sp_snapshot *snapshot);
void sp_snapshot_unref(struct sp_snapshot *snapshot); /* takes NULL */

/* What a worker lends to its exchanges; everything is borrowed and outlives the service. */
struct sp_service_parts {
    struct sp_loop *loop;
    unsigned worker_slot;
    struct sp_limiter *limiter;
    struct sp_upstreams *upstreams;
    struct sp_token_cache *tokens;
    const struct sp_revocations *revocations; /* API keys that are refused, whatever the snapshot or a connection says; NULL: none */
    struct sp_traffic *traffic;
    struct sp_counters *counters;
    struct sp_access_log *access_log; /* NULL: off */
    /* Has control ask this issuer; the answer comes with this id, or never. Negative: it cannot be asked now. NULL: never. */
    int (*ask)(void *owner, uint64_t id, const struct sp_issuer_config *issuer, const struct sp_auth_question *question);
    void *ask_owner;
};
struct sp_service;
int sp_service_new(const struct sp_service_parts *parts, struct sp_service **ret) SP_MUST_USE;
void sp_service_free(struct sp_service *service); /* after sp_service_idle() */

/* From now on new requests use this snapshot (a reference is kept). Connections and exchanges live on. */
void sp_service_use(struct sp_service *service, struct sp_snapshot *snapshot);
void sp_service_set_access_log(struct sp_service *service, struct sp_access_log *access_log);
/* An accepted socket, already counted in traffic; given back there when the connection ends. Takes fd. */
void sp_service_accept(struct sp_service *service, unsigned listener_slot, int fd, const struct sp_address *peer);

/* Answers to `ask`; one to a question that was given up is ignored. wait_ms: asking again has no use before. */
void sp_service_keys_answered(struct sp_service *service, uint64_t id, bool answered, uint32_t wait_ms);
void sp_service_introspected(struct sp_service *service, uint64_t id, bool answered, struct sp_span answer);
void sp_service_unanswered(struct sp_service *service); /* control is gone: nothing that is open will be answered */

/* Ends idle connections and tells the others that theirs end with the next answer. `idle` is called once nothing is left. */
void sp_service_drain(struct sp_service *service, void (*idle)(void *owner), void *owner);
/* Ends every connection now: what was under way breaks off. */
void sp_service_abort(struct sp_service *service);
/* Ends what callers with this API key have open: with 401 where nothing was answered yet, else broken off. */
void sp_service_cut_key(struct sp_service *service, struct sp_span key_id);
bool sp_service_idle(const struct sp_service *service);

struct sp_service_state {
    uint64_t connections, exchanges, body_bytes;
};
void sp_service_state(const struct sp_service *service, struct sp_service_state *ret);

#endif
