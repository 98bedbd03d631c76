/* admin: what control shows and does for operators: the metrics address, the admin socket, probes of backends, their names resolved,
 * issuers asked for keys and about tokens.
 * Everything runs on control's loop and never waits. It must not know workers or the supervisor: it reads a view that control keeps and
 * hands actions and changes to callbacks. */
#ifndef SALLYPORT_ADMIN_H
#define SALLYPORT_ADMIN_H

#include <sallyport/account.h>
#include <sallyport/base.h>
#include <sallyport/config.h>
#include <sallyport/ipc.h>
#include <sallyport/loop.h>

/* ---- Health: GET url + health.path of every probed server, with libcurl ---- */
/* A server is up until unhealthy_after probes in a row failed, and down until healthy_after in a row succeeded (2xx within the timeout).
 * `changed` is told at every turn and at the first success: a control that was restarted lifts what its predecessor had said. No redirect is followed, no proxy of the environment used, nothing of the body kept. */
struct sp_health;
typedef void sp_health_changed(void *owner, unsigned server_slot, bool up);
int sp_health_new(struct sp_loop *loop, sp_health_changed *changed, void *owner, struct sp_health **ret) SP_MUST_USE;
void sp_health_free(struct sp_health *health); /* takes NULL */
/* Keeps a reference. A server with the slot and url it had keeps its state; one that was down and is not probed any more is up again,
 * which `changed` is told. -ENOMEM changes nothing. */
int sp_health_configure(struct sp_health *health, struct sp_config *config) SP_MUST_USE;
/* What a server's name resolved to: a server that is named by a name is not probed before. */
void sp_health_addresses(struct sp_health *health, unsigned server_slot, const uint8_t (*addresses)[16], size_t count);
enum sp_probe_state { SP_PROBE_NONE, SP_PROBE_WAITING /* nothing known yet */, SP_PROBE_UP, SP_PROBE_DOWN };
enum sp_probe_state sp_health_state(const struct sp_health *health, unsigned server_slot);

/* ---- Names of servers, resolved by one thread that the loop never waits for ---- */
/* At once, then every 30 s; after a failure from 1 s, doubling. A name that fails keeps the addresses it had. Literals are never asked. */
struct sp_resolver;
#define SP_ADDRESSES_MAX 16
/* count 0: it has none. Told at the first answer and when the set of addresses changed. */
typedef void sp_resolved(void *owner, unsigned server_slot, const uint8_t (*addresses)[16], size_t count);
int sp_resolver_new(struct sp_loop *loop, sp_resolved *resolved, void *owner, struct sp_resolver **ret) SP_MUST_USE;
void sp_resolver_free(struct sp_resolver *resolver); /* takes NULL; a lookup under way ends by itself */
/* Keeps a reference. A name that is known already is told again, for the slots it has now, before this returns. -ENOMEM changes nothing. */
int sp_resolver_configure(struct sp_resolver *resolver, struct sp_config *config) SP_MUST_USE;
/* false: not a name, or not answered yet. */
bool sp_resolver_addresses(const struct sp_resolver *resolver, unsigned server_slot, uint8_t ret[SP_ADDRESSES_MAX][16], size_t *ret_count);

/* ---- Issuers: their key sets, fetched and kept fresh ---- */
/* From `jwks`, or from where discovery says (OpenID Connect Discovery, then RFC 8414), over verified TLS (sp_check_fetched_url() says where
 * plain HTTP may be), without redirects; at most 64 KiB and 256 KiB, 5 s each. Refreshed as Cache-Control says, between 5 minutes and 24 hours,
 * else hourly; after a failure from 1 s, doubling to 60 s. What was fetched last stays for 24 hours; so does what others may have from before we
 * began, since nobody here knows when that was fetched. */
struct sp_issuers;
struct sp_issuer_events {
    /* The key set of the issuer with this fingerprint has changed: a sealed file that stays ours; -1: it is given up, once. */
    void (*keys)(void *owner, uint64_t issuer, int sealed_fd);
    /* To sp_issuers_want(): whether it was fetched; asking again has no use for wait_ms. After `keys`, if they changed. Never from inside. */
    void (*answered)(void *owner, uint64_t ticket, bool answered, uint32_t wait_ms);
};
int sp_issuers_new(struct sp_loop *loop, const struct sp_issuer_events *events, void *owner, struct sp_issuers **ret) SP_MUST_USE;
void sp_issuers_free(struct sp_issuers *issuers); /* takes NULL */
/* Keeps a reference. Issuers whose keys are still to be found in the same place keep what is known, and are asked again at once. Who waits for
 * one that is no longer there is told now. -ENOMEM: good for nothing but sp_issuers_free(). */
int sp_issuers_configure(struct sp_issuers *issuers, struct sp_config *config) SP_MUST_USE;
int sp_issuers_key_fd(const struct sp_issuers *issuers, uint64_t issuer); /* the last good set, sealed; -1: none */
bool sp_issuers_given_up(const struct sp_issuers *issuers, uint64_t issuer); /* there is none, and nobody is to go on with an older one */
/* Somebody met a key that is not in it: fetches, unless that is under way already. 0: `answered` will be told with *ret_ticket (one per
 * issuer). -EAGAIN: asked less than 10 s ago; *ret_wait_ms says how long asking again has no use. -ENOENT. */
int sp_issuers_want(struct sp_issuers *issuers, uint64_t issuer, uint64_t *ret_ticket, uint32_t *ret_wait_ms) SP_MUST_USE;
/* What Cache-Control (NULL: absent) says about when to fetch again. */
uint64_t sp_refresh_after_ms(const char *cache_control);

/* ---- Introspection (RFC 7662) ---- */
struct sp_introspections;
/* What the issuer answered with 200; or that it did not. */
typedef void sp_introspected(void *owner, uint64_t ticket, bool answered, struct sp_span answer);
int sp_introspections_new(struct sp_loop *loop, sp_introspected *introspected, void *owner, struct sp_introspections **ret) SP_MUST_USE;
void sp_introspections_free(struct sp_introspections *introspections); /* takes NULL; whoever waits is not told */
/* Asks the issuer with this fingerprint, for at most 2.5 s. Keeps a reference to config meanwhile. `introspected` is told once, never from
 * inside. -ENOENT: no such issuer, or it has no introspection; -EBUSY: 128 are under way; -ENOMEM. */
int sp_introspect(struct sp_introspections *introspections, struct sp_config *config, uint64_t issuer, struct sp_span token,
                  uint64_t ticket) SP_MUST_USE;

/* ---- What control knows; kept by the role, read by the endpoints ---- */
struct sp_admin_view {
    struct sp_config *config;            /* NULL before the first commit */
    const struct sp_counters *counters;
    const struct sp_health *health;      /* NULL: no probes */
    uint64_t started_wall_ms;            /* the supervisor's start */
    struct sp_msg_status status;
    struct sp_msg_process processes[SP_PROCESSES_MAX]; /* status.n of them */
};
bool sp_admin_ready(const struct sp_admin_view *view); /* may get traffic: configured, a worker serves, not draining */

/* ---- Who is asking on the admin socket ---- */
/* root and the user Sallyport runs as are admin; others by the groups their process has (SO_PEERGROUPS), as admin.groups says. */
enum sp_admin_rights { SP_RIGHTS_NONE, SP_RIGHTS_VIEWER, SP_RIGHTS_ADMIN };
struct sp_admin_gids {
    struct sp_admin_gid {
        gid_t gid;
        bool admin;
    } *item;
    size_t count;
};
/* Names to numbers; a group this machine does not have is left out and logged. -ENOMEM. */
int sp_admin_gids_resolve(const struct sp_admin_config *config, struct sp_admin_gids *ret) SP_MUST_USE;
void sp_admin_gids_free(struct sp_admin_gids *gids); /* frees what it holds */
enum sp_admin_rights sp_admin_rights_of(int connection_fd, const struct sp_admin_gids *gids, uid_t *ret_uid);
/* The decision alone. */
enum sp_admin_rights sp_admin_rights_decide(uid_t uid, uid_t own_uid, const gid_t *groups, size_t n_groups, const struct sp_admin_gids *gids);

/* ---- The endpoints: libmicrohttpd on sockets handed over ---- */
struct sp_endpoints;
/* Asks the supervisor; -errno when that cannot even be sent. *ret_id names the answer to come through sp_endpoints_answer(). argument and
 * key_id: what the action is about, as struct sp_msg_admin_request says; else 0 and empty. */
typedef int sp_admin_act(void *owner, enum sp_admin_action action, uint32_t argument, struct sp_span key_id, uint64_t *ret_id);
#define SP_ADMIN_ANSWER_TIMEOUT_MS 60000 /* then 504 */
int sp_endpoints_new(struct sp_loop *loop, const struct sp_admin_view *view, sp_admin_act *act, void *owner, struct sp_endpoints **ret) SP_MUST_USE;
void sp_endpoints_free(struct sp_endpoints *endpoints); /* takes NULL; whoever still waits for an answer gets 503 */
/* Takes the listening socket; the one of that kind before it finishes what it is doing and closes. */
int sp_endpoints_open(struct sp_endpoints *endpoints, enum sp_endpoint_kind kind, int fd) SP_MUST_USE;
/* The view has a new configuration: groups change, endpoints it no longer names close. -ENOMEM keeps the groups before. */
int sp_endpoints_configure(struct sp_endpoints *endpoints) SP_MUST_USE;
void sp_endpoints_answer(struct sp_endpoints *endpoints, uint64_t id, bool ok, struct sp_span text);

/* Has a worker look what the limits leave this subject; -errno when none can be asked. *ret_id names the answer to come, and is never one
 * of sp_admin_act's. */
typedef int sp_admin_ask_levels(void *owner, const struct sp_facts *facts, uint64_t *ret_id);
#define SP_LEVELS_TIMEOUT_MS 2000 /* then 504 */
void sp_endpoints_ask_levels(struct sp_endpoints *endpoints, sp_admin_ask_levels *ask, void *owner); /* without it: 503 */
void sp_endpoints_levels(struct sp_endpoints *endpoints, struct sp_span answer); /* a worker's SP_MSG_LEVELS */

/* ---- Limits as they are told, for comparing two configurations; the command line uses it too ---- */
/* A list (jansson's json_t), in the order of the file, of objects with the members of "Limit" in openapi.json that a configuration decides.
 * NULL: out of memory. */
struct json_t;
struct json_t *sp_limit_policies_json(const struct sp_config *config) SP_MUST_USE;

#endif
