/* The status page: one HTML document without script or anything from elsewhere, drawn again every few seconds by the browser itself. */
#include <errno.h>

#include "endpoints.h"

#define REFRESH_S 5

static const char style[] =
    "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1b1f24;background:#fff}"
    "h1{font-size:1.3rem}h2{font-size:1rem;margin-top:2rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d5dae0}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
    ".up{color:#116329}.down{color:#b3261e;font-weight:600}"
    "@media(prefers-color-scheme:dark){body{color:#d9dee5;background:#14171b}th,td{border-color:#333a43}"
    ".up{color:#5fd07f}.down{color:#ff8a80}}";

/* Everything that is not ours to write as HTML goes through here. */
static int text(struct sp_buffer *out, const char *value) {
    int r = 0;
    for (const char *at = value; r == 0 && *at; at++) {
        switch (*at) {
        case '<':
            r = sp_buffer_append_span(out, SP_SPAN("&lt;"));
            break;
        case '>':
            r = sp_buffer_append_span(out, SP_SPAN("&gt;"));
            break;
        case '&':
            r = sp_buffer_append_span(out, SP_SPAN("&amp;"));
            break;
        case '"':
            r = sp_buffer_append_span(out, SP_SPAN("&quot;"));
            break;
        default:
            r = sp_buffer_append(out, at, 1);
        }
    }
    return r;
}

struct column {
    const char *title, *member; /* of the JSON objects that are the rows */
};

static int cell(struct sp_buffer *out, const json_t *value) {
    if (json_is_integer(value))
        return sp_buffer_printf(out, "<td class=\"n\">%lld</td>", (long long)json_integer_value(value));
    if (json_is_boolean(value))
        return sp_buffer_printf(out, json_is_true(value) ? "<td class=\"up\">yes</td>" : "<td class=\"down\">no</td>");
    int r = sp_buffer_append_span(out, SP_SPAN("<td>"));
    if (r == 0)
        r = text(out, json_is_string(value) ? json_string_value(value) : "–");
    return r < 0 ? r : sp_buffer_append_span(out, SP_SPAN("</td>"));
}

static int table(struct sp_buffer *out, const char *title, const json_t *rows, const struct column *columns, size_t n_columns) {
    int r = sp_buffer_printf(out, "<h2>%s</h2><table><thead><tr>", title);
    for (size_t i = 0; r == 0 && i < n_columns; i++) {
        bool number = json_is_integer(json_object_get(json_array_get(rows, 0), columns[i].member));
        r = sp_buffer_printf(out, number ? "<th class=\"n\">%s</th>" : "<th>%s</th>", columns[i].title);
    }
    if (r == 0)
        r = sp_buffer_append_span(out, SP_SPAN("</tr></thead><tbody>"));
    for (size_t row = 0; r == 0 && row < json_array_size(rows); row++) {
        r = sp_buffer_append_span(out, SP_SPAN("<tr>"));
        for (size_t i = 0; r == 0 && i < n_columns; i++)
            r = cell(out, json_object_get(json_array_get(rows, row), columns[i].member));
        if (r == 0)
            r = sp_buffer_append_span(out, SP_SPAN("</tr>"));
    }
    return r < 0 ? r : sp_buffer_append_span(out, SP_SPAN("</tbody></table>\n"));
}

static int head(struct sp_buffer *out, const char *nonce) {
    return sp_buffer_printf(out,
                            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sallyport</title>"
                            "<meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"%d\">"
                            "<style nonce=\"%s\">%s</style></head><body>\n",
                            REFRESH_S, nonce, style);
}

static long long number(const json_t *object, const char *member) { return (long long)json_integer_value(json_object_get(object, member)); }

static int summary(struct sp_buffer *out, const json_t *status) {
    const json_t *workers = json_object_get(status, "workers"), *redis = json_object_get(status, "redis");
    const char *state = json_is_true(json_object_get(status, "draining")) ? "draining"
                        : json_is_true(json_object_get(status, "ready"))  ? "ready"
                                                                          : "not ready";
    int r = sp_buffer_printf(out, "<h1>Sallyport %s <span class=\"%s\">%s</span></h1><p>Configuration <b>%lld</b>, ",
                             json_string_value(json_object_get(status, "version")), strcmp(state, "ready") == 0 ? "up" : "down", state,
                             number(status, "generation"));
    const char *path = json_string_value(json_object_get(status, "configuration"));
    if (r == 0)
        r = text(out, path ? path : "none yet");
    if (r == 0)
        r = sp_buffer_printf(out, ". Up for %lld s. %lld connections open, %lld requests in flight, %lld requests so far. Limits: ",
                             number(status, "uptime_s"), number(workers, "connections"), number(workers, "exchanges"),
                             number(workers, "requests_total"));
    if (r < 0)
        return r;
    if (!json_is_true(json_object_get(redis, "configured")))
        return sp_buffer_append_span(out, SP_SPAN("this machine only.</p>\n"));
    return sp_buffer_printf(out, json_is_true(json_object_get(redis, "up")) ? "shared through Redis.</p>\n"
                                                                            : "<span class=\"down\">Redis is away.</span></p>\n");
}

int sp_status_page(const struct sp_admin_view *view, const char *style_nonce, struct sp_buffer *out) {
    static const struct column backends[] = {{"Pool", "pool"}, {"Server", "server"}, {"Up", "up"}, {"Probe", "probe"}};
    static const struct column routes[] = {{"Route", "name"}, {"Requests", "requests"}, {"2xx", "2xx"}, {"4xx", "4xx"}, {"5xx", "5xx"}};
    static const struct column models[] = {{"Model", "name"},
                                           {"Pool", "pool"},
                                           {"Tokens in", "tokens_in"},
                                           {"Tokens out", "tokens_out"},
                                           {"Of these estimated", "tokens_estimated"}};
    static const struct column queues[] = {{"Pool", "pool"}, {"Requests that wait", "waiting"}};
    static const struct column limits[] = {
        {"Limit", "name"}, {"Admitted", "admitted"}, {"Refused", "refused"}, {"Would be refused", "shadow_refused"}};
    static const struct column processes[] = {
        {"Process", "role"}, {"Slot", "slot"}, {"PID", "pid"}, {"Restarts", "restarts"}, {"Started", "started"}};
    json_t *status = sp_status_json(view);
    if (!status)
        return -ENOMEM;
    int r = head(out, style_nonce);
    if (r == 0)
        r = summary(out, status);
    if (r == 0)
        r = table(out, "Backends", json_object_get(status, "backends"), backends, SP_COUNT(backends));
    if (r == 0)
        r = table(out, "Routes", json_object_get(status, "routes"), routes, SP_COUNT(routes));
    if (r == 0 && json_array_size(json_object_get(status, "models")) > 0)
        r = table(out, "Models", json_object_get(status, "models"), models, SP_COUNT(models));
    if (r == 0)
        r = table(out, "Queues", json_object_get(status, "queues"), queues, SP_COUNT(queues));
    if (r == 0)
        r = table(out, "Limits", json_object_get(status, "limits"), limits, SP_COUNT(limits));
    if (r == 0)
        r = table(out, "Processes", json_object_get(status, "processes"), processes, SP_COUNT(processes));
    json_decref(status);
    return r < 0 ? r : sp_buffer_append_span(out, SP_SPAN("</body></html>\n"));
}
