/* What the files behind sp_endpoints share: sites (endpoints.c), requests (request.c) and what they answer (status.c, refusals.c,
 * page.c). */
#ifndef SP_ADMIN_ENDPOINTS_H
#define SP_ADMIN_ENDPOINTS_H

#include <jansson.h>
#include <microhttpd.h>

#include <sallyport/admin.h>

/* One listening socket with its libmicrohttpd daemon, driven by our loop. */
struct sp_site {
    struct sp_list node;
    struct sp_endpoints *owner;
    enum sp_endpoint_kind kind;
    struct MHD_Daemon *daemon;
    struct sp_watch watch; /* of the daemon's own epoll */
    struct sp_timer timer;
    bool retired; /* accepts nothing more; ends with its last connection */
    struct sp_deferred end;
};

struct sp_endpoints {
    struct sp_loop *loop;
    const struct sp_admin_view *view;
    sp_admin_act *act;
    void *act_owner;
    sp_admin_ask_levels *ask_levels; /* NULL: nobody can be asked */
    void *levels_owner;
    struct sp_admin_gids gids;
    struct sp_list sites;
    struct sp_list waiting; /* requests that wait for the supervisor */
};

/* libmicrohttpd's callbacks; owner is the site. */
enum MHD_Result sp_request_handle(void *owner, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                  const char *upload, size_t *upload_len, void **state);
void sp_request_completed(void *owner, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how);
/* Ends the wait of every request of this site (NULL: of all) with 503. */
void sp_requests_give_up(struct sp_endpoints *endpoints, const struct sp_site *site);

void sp_site_wake(struct sp_site *site); /* a connection was resumed */

/* The answers. NULL: out of memory. */
json_t *sp_time_json(uint64_t wall_ms);      /* as RFC 3339 has it */
json_t *sp_string_json(struct sp_span text); /* bytes that may not be UTF-8 */
json_t *sp_status_json(const struct sp_admin_view *view);
json_t *sp_backends_json(const struct sp_admin_view *view);
json_t *sp_refusals_json(const struct sp_admin_view *view, const struct sp_refusal_record *records, size_t n);
json_t *sp_redis_json(const struct sp_admin_view *view);
json_t *sp_limits_json(const struct sp_admin_view *view);
json_t *sp_configuration_json(const struct sp_admin_view *view);
/* Whom the query is about. The texts point into `store`. 0; -ENOENT: about nobody; -EINVAL: *ret_wrong says what is wrong. */
int sp_levels_facts(struct MHD_Connection *connection, char store[SP_FACT_TEXTS][3 * SP_FACT_MAX + 1], struct sp_facts *ret,
                    const char **ret_wrong) SP_MUST_USE;
/* What a worker answered: 0 and the answer (NULL: out of memory), else the status and a sentence for the operator; -EBADMSG. */
int sp_levels_json(const struct sp_admin_view *view, struct sp_span answer, uint64_t *ret_id, unsigned *ret_status, const char **ret_why,
                   json_t **ret) SP_MUST_USE;
uint64_t sp_refusals_complete_since(const struct sp_admin_view *view); /* every refusal since then is kept */
int sp_status_page(const struct sp_admin_view *view, const char *style_nonce, struct sp_buffer *out) SP_MUST_USE;
extern const char sp_openapi_json[]; /* openapi.json, put in by the build */

#endif
