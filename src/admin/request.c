/* One request on the metrics address or the admin socket: which resource, may they, and the answer, at once or when the supervisor
 * has spoken. */
#include <errno.h>
#include <stdio.h>

#include <sallyport/revocations.h>

#include "endpoints.h"

#define PARAMETER_MAX SP_REQUEST_ID_MAX
enum { REFUSALS_DEFAULT = 20, REFUSALS_MAX = 100 };
enum { BODY_MAX = 1024, METRICS_MAX = 16 * 1024 * 1024, PAGE_MAX = 1024 * 1024 };

struct request {
    struct sp_list node; /* in endpoints->waiting */
    struct sp_site *site;
    struct MHD_Connection *connection;
    const struct resource *resource;
    uid_t uid;
    char parameter[PARAMETER_MAX + 1]; /* what stands in the path for the resource's {…} */
    char body[BODY_MAX];
    size_t body_len; /* above BODY_MAX: too large */
    enum { REQUEST_READING, REQUEST_WAITING, REQUEST_ANSWERED } state;
    uint64_t id;
    struct sp_timer timer;
    unsigned status;
    json_t *answer; /* to send once resumed */
};

/* ---- Sending ---- */

static const char *const type_json = "application/json";
static const char *const type_text = "text/plain; charset=utf-8";

static enum MHD_Result send_bytes(struct MHD_Connection *connection, unsigned status, const char *type, const char *policy,
                                  const char *bytes, size_t len) {
    struct MHD_Response *response = MHD_create_response_from_buffer(len, (void *)(uintptr_t)bytes, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (policy)
        MHD_add_response_header(response, "Content-Security-Policy", policy);
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result send_text(struct MHD_Connection *connection, unsigned status, const char *text) {
    return send_bytes(connection, status, type_text, NULL, text, strlen(text));
}

/* Takes the object; NULL stands for one that memory did not suffice for. */
static enum MHD_Result send_json(struct MHD_Connection *connection, unsigned status, json_t *object) {
    _cleanup_(sp_free_pointer) char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!text)
        return send_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
    return send_bytes(connection, status, type_json, NULL, text, strlen(text));
}

/* {"ok":…,"message":…,"errors":[…]}: what every action answers. */
static json_t *outcome(bool ok, const char *message, json_t *errors) {
    return json_pack("{s:b,s:s,s:o}", "ok", ok ? 1 : 0, "message", message, "errors", errors ? errors : json_array());
}

static enum MHD_Result send_refusal(struct MHD_Connection *connection, unsigned status, const char *message) {
    return send_json(connection, status, outcome(false, message, NULL));
}

/* ---- What may be read ---- */

static enum MHD_Result show_health(struct request *request) { return send_text(request->connection, MHD_HTTP_OK, "ok\n"); }

static enum MHD_Result show_ready(struct request *request) {
    const struct sp_admin_view *view = request->site->owner->view;
    if (sp_admin_ready(view))
        return send_text(request->connection, MHD_HTTP_OK, "ready\n");
    return send_text(request->connection, MHD_HTTP_SERVICE_UNAVAILABLE, view->status.draining ? "draining\n" : "not ready\n");
}

static enum MHD_Result show_metrics(struct request *request) {
    const struct sp_admin_view *view = request->site->owner->view;
    if (!view->config)
        return send_text(request->connection, MHD_HTTP_SERVICE_UNAVAILABLE, "not ready\n");
    _cleanup_(sp_buffer_free) struct sp_buffer out;
    sp_buffer_init(&out, METRICS_MAX);
    if (sp_counters_expose(view->counters, view->config, &out) < 0)
        return send_text(request->connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
    return send_bytes(request->connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", NULL, sp_buffer_span(&out).at,
                      sp_buffer_len(&out));
}

static enum MHD_Result show_status(struct request *request) {
    return send_json(request->connection, MHD_HTTP_OK, sp_status_json(request->site->owner->view));
}

static enum MHD_Result show_backends(struct request *request) {
    return send_json(request->connection, MHD_HTTP_OK, sp_backends_json(request->site->owner->view));
}

static enum MHD_Result show_limits(struct request *request) {
    return send_json(request->connection, MHD_HTTP_OK, sp_limits_json(request->site->owner->view));
}

static enum MHD_Result show_configuration(struct request *request) {
    const struct sp_admin_view *view = request->site->owner->view;
    return send_json(request->connection, MHD_HTTP_OK, sp_configuration_json(view));
}

static enum MHD_Result show_refusal(struct request *request) {
    const struct sp_admin_view *view = request->site->owner->view;
    struct sp_refusal_record found[REFUSALS_MAX];
    size_t n = sp_refusals_find(view->counters, sp_span_text(request->parameter), found, REFUSALS_MAX);
    if (n > 0)
        return send_json(request->connection, MHD_HTTP_OK, sp_refusals_json(view, found, n));
    char since[SP_TIMESTAMP_LEN + 1], message[256];
    sp_timestamp(sp_refusals_complete_since(view), since);
    snprintf(message, sizeof message, "no refusal of request %s is kept here; every refusal since %s is", request->parameter, since);
    return send_refusal(request->connection, MHD_HTTP_NOT_FOUND, message);
}

/* An argument of the query: 1 when it is there, 0 when not, -EINVAL when it is empty or too long. libmicrohttpd was told to leave escapes
 * alone (see endpoints.c): they are undone here. */
static int argument(struct request *request, const char *name, char *out, size_t size) {
    const char *value = NULL;
    size_t len = 0;
    if (MHD_lookup_connection_value_n(request->connection, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value, &len) != MHD_YES)
        return 0;
    if (!value || len == 0 || len >= size)
        return -EINVAL;
    memcpy(out, value, len);
    out[len] = '\0';
    len = MHD_http_unescape(out);
    return len > 0 && strlen(out) == len ? 1 : -EINVAL;
}

static enum MHD_Result show_refusals(struct request *request) {
    const struct sp_admin_view *view = request->site->owner->view;
    struct sp_refusal_record found[REFUSALS_MAX];
    char subject[3 * 1024 + 1] = "", limit[8] = "";
    uint64_t most = REFUSALS_DEFAULT;
    if (argument(request, "subject", subject, sizeof subject) < 0)
        return send_refusal(request->connection, MHD_HTTP_BAD_REQUEST, "subject: empty or too long");
    int limited = argument(request, "limit", limit, sizeof limit);
    if (limited < 0 || (limited > 0 && !sp_span_u64(sp_span_text(limit), &most)) || most == 0 || most > REFUSALS_MAX)
        return send_refusal(request->connection, MHD_HTTP_BAD_REQUEST, "limit: expected 1 to 100");
    size_t n = sp_refusals_latest(view->counters, sp_span_text(subject), found, most);
    return send_json(request->connection, MHD_HTTP_OK, sp_refusals_json(view, found, n));
}

static enum MHD_Result show_openapi(struct request *request) {
    return send_bytes(request->connection, MHD_HTTP_OK, type_json, NULL, sp_openapi_json, strlen(sp_openapi_json));
}

static enum MHD_Result show_page(struct request *request) {
    uint8_t random[16];
    char nonce[SP_BASE64URL_LEN(sizeof random) + 1] = "", policy[160];
    sp_random(random, sizeof random);
    sp_base64url(random, sizeof random, nonce);
    snprintf(policy, sizeof policy, "default-src 'none'; style-src 'nonce-%s'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
             nonce);
    _cleanup_(sp_buffer_free) struct sp_buffer out;
    sp_buffer_init(&out, PAGE_MAX);
    if (sp_status_page(request->site->owner->view, nonce, &out) < 0)
        return send_text(request->connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
    return send_bytes(request->connection, MHD_HTTP_OK, "text/html; charset=utf-8", policy, sp_buffer_span(&out).at, sp_buffer_len(&out));
}

/* ---- What may be done: the connection sleeps until the supervisor has answered ---- */

static void wake_up(struct request *request, unsigned status, json_t *answer) {
    request->state = REQUEST_ANSWERED;
    request->status = status;
    request->answer = answer;
    sp_timer_stop(&request->timer);
    sp_list_remove(&request->node);
    MHD_resume_connection(request->connection);
    sp_site_wake(request->site);
}

static void on_no_supervisor(struct sp_timer *timer) {
    struct request *request = SP_CONTAINER(timer, struct request, timer);
    wake_up(request, MHD_HTTP_GATEWAY_TIMEOUT, outcome(false, "the supervisor has not answered yet; see the log", NULL));
}

static void on_no_worker(struct sp_timer *timer) {
    struct request *request = SP_CONTAINER(timer, struct request, timer);
    wake_up(request, MHD_HTTP_GATEWAY_TIMEOUT, outcome(false, "a worker that was asked has not answered; see the log, and ask again", NULL));
}

static enum MHD_Result sleep_on(struct request *request, uint64_t timeout_ms, void (*no_answer)(struct sp_timer *timer)) {
    struct sp_endpoints *endpoints = request->site->owner;
    request->state = REQUEST_WAITING;
    request->timer.fire = no_answer;
    sp_timer_start(endpoints->loop, &request->timer, timeout_ms);
    sp_list_append(&endpoints->waiting, &request->node);
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

static enum MHD_Result act_on(struct request *request, enum sp_admin_action action, uint32_t argument, struct sp_span key_id) {
    struct sp_endpoints *endpoints = request->site->owner;
    int r = endpoints->act(endpoints->act_owner, action, argument, key_id, &request->id);
    if (r < 0)
        return send_refusal(request->connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the supervisor cannot be asked now");
    return sleep_on(request, SP_ADMIN_ANSWER_TIMEOUT_MS, on_no_supervisor);
}

static enum MHD_Result act(struct request *request, enum sp_admin_action action, uint32_t argument) {
    return act_on(request, action, argument, SP_SPAN(""));
}

static enum MHD_Result do_reload(struct request *request) {
    sp_info("reload asked for by uid %u", request->uid);
    return act(request, SP_ADMIN_RELOAD, 0);
}

static enum MHD_Result do_drain(struct request *request) {
    sp_info("drain asked for by uid %u", request->uid);
    return act(request, SP_ADMIN_DRAIN, 0);
}

static enum MHD_Result do_loglevel(struct request *request) {
    json_t *body = json_loadb(request->body, request->body_len, JSON_REJECT_DUPLICATES, NULL);
    enum sp_log_level level;
    bool known = sp_log_level_parse(sp_span_text(json_string_value(json_object_get(body, "level"))), &level);
    json_decref(body);
    if (!known)
        return send_refusal(request->connection, MHD_HTTP_BAD_REQUEST, "send {\"level\":\"error\"}, \"warn\", \"info\" or \"debug\"");
    sp_info("log level %u asked for by uid %u", (unsigned)level, request->uid);
    return act(request, SP_ADMIN_LOGLEVEL, (uint32_t)level);
}

/* No body is the same as {}. */
static enum MHD_Result do_revoke(struct request *request) {
    json_t *body = request->body_len ? json_loadb(request->body, request->body_len, JSON_REJECT_DUPLICATES, NULL) : json_object();
    const json_t *now = json_object_get(body, "now");
    bool understood = json_is_object(body) && json_object_size(body) == (now ? 1 : 0) && (!now || json_is_boolean(now));
    bool at_once = json_is_true(now);
    json_decref(body);
    if (!understood)
        return send_refusal(request->connection, MHD_HTTP_BAD_REQUEST, "send {\"now\":true} or {\"now\":false}");
    sp_info("revoking API key %s%s asked for by uid %u", request->parameter, at_once ? " at once" : "", request->uid);
    return act_on(request, SP_ADMIN_REVOKE, at_once, sp_span_text(request->parameter));
}

/* Only looks, but a worker has to. */
static enum MHD_Result show_levels(struct request *request) {
    struct sp_endpoints *endpoints = request->site->owner;
    char store[SP_FACT_TEXTS][3 * SP_FACT_MAX + 1];
    struct sp_facts facts;
    const char *wrong = NULL;
    int r = sp_levels_facts(request->connection, store, &facts, &wrong);
    if (r < 0)
        return send_refusal(request->connection, MHD_HTTP_BAD_REQUEST, r == -ENOENT ? "say whose: subject, tenant, key, address, …" : wrong);
    r = endpoints->ask_levels ? endpoints->ask_levels(endpoints->levels_owner, &facts, &request->id) : -EPIPE;
    if (r < 0)
        return send_refusal(request->connection, MHD_HTTP_SERVICE_UNAVAILABLE, "no worker can be asked now");
    return sleep_on(request, SP_LEVELS_TIMEOUT_MS, on_no_worker);
}

/* Lines of the operator's text as a list of strings. */
static json_t *lines_of(struct sp_span text) {
    json_t *lines = json_array();
    struct sp_span line;
    while (lines && sp_span_split(&text, '\n', &line))
        if (line.len > 0)
            json_array_append_new(lines, sp_string_json(line));
    return lines;
}

static struct request *who_waits_for(struct sp_endpoints *endpoints, uint64_t id) {
    sp_list_each (node, &endpoints->waiting) {
        struct request *request = sp_list_entry(node, struct request, node);
        if (request->id == id)
            return request;
    }
    return NULL;
}

void sp_endpoints_levels(struct sp_endpoints *endpoints, struct sp_span answer) {
    uint64_t id = 0;
    unsigned status = 0;
    const char *why = NULL;
    json_t *levels = NULL;
    if (sp_levels_json(endpoints->view, answer, &id, &status, &why, &levels) < 0) {
        sp_error("a worker told levels in a way that nobody understands");
        return;
    }
    struct request *request = who_waits_for(endpoints, id);
    if (request)
        wake_up(request, why ? status : MHD_HTTP_OK, why ? outcome(false, why, NULL) : json_incref(levels));
    json_decref(levels);
}

void sp_endpoints_answer(struct sp_endpoints *endpoints, uint64_t id, bool ok, struct sp_span text) {
    struct request *request = who_waits_for(endpoints, id);
    if (!request)
        return;
    json_t *lines = lines_of(text);
    const char *first = json_string_value(json_array_get(lines, 0));
    json_t *answer = ok ? outcome(true, first ? first : "done", NULL) : outcome(false, first ? first : "refused", json_incref(lines));
    wake_up(request, ok ? MHD_HTTP_OK : MHD_HTTP_UNPROCESSABLE_CONTENT, answer);
    json_decref(lines);
}

void sp_requests_give_up(struct sp_endpoints *endpoints, const struct sp_site *site) {
    sp_list_each_safe (node, &endpoints->waiting) {
        struct request *request = sp_list_entry(node, struct request, node);
        if (!site || request->site == site)
            wake_up(request, MHD_HTTP_SERVICE_UNAVAILABLE, outcome(false, "control is ending", NULL));
    }
}

/* ---- Which resource, and may they ---- */

static const struct resource {
    const char *method, *path;
    bool on_metrics; /* also on the metrics address, where nobody is asked who they are */
    enum sp_admin_rights needs;
    enum MHD_Result (*answer)(struct request *request);
    bool (*parameter)(struct sp_span text); /* what may stand for the path's {…}; NULL: it has none */
} resources[] = {
    {"GET", "/healthz", true, SP_RIGHTS_VIEWER, show_health, NULL},
    {"GET", "/readyz", true, SP_RIGHTS_VIEWER, show_ready, NULL},
    {"GET", "/metrics", true, SP_RIGHTS_VIEWER, show_metrics, NULL},
    {"GET", "/", false, SP_RIGHTS_VIEWER, show_page, NULL},
    {"GET", "/api/v1/status", false, SP_RIGHTS_VIEWER, show_status, NULL},
    {"GET", "/api/v1/backends", false, SP_RIGHTS_VIEWER, show_backends, NULL},
    {"GET", "/api/v1/configuration", false, SP_RIGHTS_VIEWER, show_configuration, NULL},
    {"GET", "/api/v1/limits", false, SP_RIGHTS_VIEWER, show_limits, NULL},
    {"GET", "/api/v1/levels", false, SP_RIGHTS_VIEWER, show_levels, NULL},
    {"GET", "/api/v1/refusals", false, SP_RIGHTS_VIEWER, show_refusals, NULL},
    {"GET", "/api/v1/refusals/{request_id}", false, SP_RIGHTS_VIEWER, show_refusal, sp_request_id_sane},
    {"GET", "/api/v1/openapi.json", false, SP_RIGHTS_VIEWER, show_openapi, NULL},
    {"POST", "/api/v1/reload", false, SP_RIGHTS_ADMIN, do_reload, NULL},
    {"POST", "/api/v1/drain", false, SP_RIGHTS_ADMIN, do_drain, NULL},
    {"PUT", "/api/v1/loglevel", false, SP_RIGHTS_ADMIN, do_loglevel, NULL},
    {"POST", "/api/v1/keys/{id}/revoke", false, SP_RIGHTS_ADMIN, do_revoke, sp_key_id_valid},
};

/* What stands for {…} goes to ret_parameter. */
static bool matches(const struct resource *resource, const char *path, char ret_parameter[PARAMETER_MAX + 1]) {
    if (!resource->parameter)
        return strcmp(resource->path, path) == 0;
    size_t before = strcspn(resource->path, "{"), len = strlen(path);
    const char *after = strchr(resource->path, '}') + 1;
    size_t around = before + strlen(after);
    if (len <= around || len - around > PARAMETER_MAX || memcmp(path, resource->path, before) != 0 ||
        strcmp(path + len - strlen(after), after) != 0 || !resource->parameter(sp_span(path + before, len - around)))
        return false;
    memcpy(ret_parameter, path + before, len - around);
    ret_parameter[len - around] = '\0';
    return true;
}

static const struct resource *find(enum sp_endpoint_kind kind, const char *path, char ret_parameter[PARAMETER_MAX + 1]) {
    for (size_t i = 0; i < SP_COUNT(resources); i++)
        if ((kind == SP_ENDPOINT_ADMIN || resources[i].on_metrics) && matches(&resources[i], path, ret_parameter))
            return &resources[i];
    return NULL;
}

static enum MHD_Result refuse_method(struct MHD_Connection *connection, const char *allowed) {
    json_t *object = outcome(false, "method not allowed", NULL);
    _cleanup_(sp_free_pointer) char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    struct MHD_Response *response = text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY) : NULL;
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Allow", allowed);
    MHD_add_response_header(response, "Content-Type", type_json);
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_METHOD_NOT_ALLOWED, response);
    MHD_destroy_response(response);
    return result;
}

/* true: they may. Otherwise *ret_result is what refusing them came to. */
static bool permitted(struct sp_site *site, struct MHD_Connection *connection, const struct resource *resource, uid_t *ret_uid,
                      enum MHD_Result *ret_result) {
    if (site->kind == SP_ENDPOINT_METRICS)
        return true;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    enum sp_admin_rights rights = info ? sp_admin_rights_of(info->connect_fd, &site->owner->gids, ret_uid) : SP_RIGHTS_NONE;
    if (rights < resource->needs) {
        sp_warn("admin socket: uid %u may not %s %s", *ret_uid, resource->method, resource->path);
        *ret_result = send_refusal(connection, MHD_HTTP_FORBIDDEN, "your groups do not permit this; see admin.groups");
        return false;
    }
    /* Whoever forwards the socket to a port (ssh -L) opens it to their browser: a page from elsewhere must not act through it. */
    if (resource->needs == SP_RIGHTS_ADMIN && MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Origin")) {
        *ret_result = send_refusal(connection, MHD_HTTP_FORBIDDEN, "not from a browser");
        return false;
    }
    return true;
}

static enum MHD_Result begin(struct sp_site *site, struct MHD_Connection *connection, const char *url, const char *method, void **state) {
    char parameter[PARAMETER_MAX + 1] = "";
    const struct resource *resource = find(site->kind, url, parameter);
    if (!resource)
        return send_refusal(connection, MHD_HTTP_NOT_FOUND, "no such resource");
    if (strcmp(resource->method, method) != 0)
        return refuse_method(connection, resource->method);
    uid_t uid = (uid_t)-1;
    enum MHD_Result refused;
    if (!permitted(site, connection, resource, &uid, &refused))
        return refused;
    struct request *request = calloc(1, sizeof *request);
    if (!request)
        return MHD_NO;
    *request = (struct request){.site = site, .connection = connection, .resource = resource, .uid = uid};
    memcpy(request->parameter, parameter, sizeof parameter);
    sp_list_init(&request->node);
    *state = request;
    return MHD_YES;
}

enum MHD_Result sp_request_handle(void *owner, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                  const char *upload, size_t *upload_len, void **state) {
    struct request *request = *state;
    if (!request)
        return begin(owner, connection, url, method, state);
    if (*upload_len > 0) {
        if (request->body_len + *upload_len <= BODY_MAX)
            memcpy(request->body + request->body_len, upload, *upload_len);
        request->body_len = sp_min(request->body_len + *upload_len, (size_t)BODY_MAX + 1);
        *upload_len = 0;
        return MHD_YES;
    }
    if (request->state == REQUEST_ANSWERED)
        return send_json(connection, request->status, sp_take(request->answer));
    if (request->state == REQUEST_WAITING)
        return MHD_YES;
    if (request->body_len > BODY_MAX)
        return send_refusal(connection, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
    return request->resource->answer(request);
}

void sp_request_completed(void *owner, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how) {
    struct request *request = *state;
    if (!request)
        return;
    sp_timer_stop(&request->timer);
    sp_list_remove(&request->node);
    json_decref(request->answer);
    free(request);
    *state = NULL;
}
