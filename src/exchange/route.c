/* route: which route is this? By host, path and method; the first match wins. */
#include "private.h"

static bool host_matches(const struct sp_texts *hosts, struct sp_span host) {
    if (hosts->count == 0)
        return true;
    for (size_t i = 0; i < hosts->count; i++) {
        struct sp_span pattern = sp_span_text(hosts->item[i]);
        if (pattern.len > 1 && pattern.at[0] == '*') {
            struct sp_span suffix = sp_span_from(pattern, 1); /* ".example.com" */
            if (host.len > suffix.len && sp_span_eq_nocase(sp_span_from(host, host.len - suffix.len), suffix))
                return true;
        } else if (sp_span_eq_nocase(pattern, host)) {
            return true;
        }
    }
    return false;
}

/* A prefix ends where a segment ends: "/v1" takes "/v1" and "/v1/models", not "/v10". */
static bool path_matches(const struct sp_route_config *route, struct sp_span path) {
    struct sp_span wanted = sp_span_text(route->path);
    if (route->exact)
        return sp_span_eq(path, wanted);
    if (!sp_span_starts(path, wanted))
        return false;
    return path.len == wanted.len || wanted.at[wanted.len - 1] == '/' || path.at[wanted.len] == '/';
}

static bool method_matches(const struct sp_texts *methods, struct sp_span method) {
    if (methods->count == 0)
        return true;
    for (size_t i = 0; i < methods->count; i++)
        if (sp_span_eq(sp_span_text(methods->item[i]), method))
            return true;
    return false;
}

static enum sp_stage_answer not_allowed(struct sp_exchange *x, const struct sp_route_config *route) {
    struct sp_buffer allow;
    sp_buffer_init(&allow, 1024);
    int error = 0;
    for (size_t i = 0; i < route->methods.count && !error; i++) {
        if (i)
            error = sp_buffer_append(&allow, ", ", 2);
        if (!error)
            error = sp_buffer_append_span(&allow, sp_span_text(route->methods.item[i]));
    }
    struct sp_span value = {0};
    if (error || !sp_arena_copy(&x->arena, sp_buffer_span(&allow), &value))
        value = SP_SPAN("");
    sp_buffer_free(&allow);
    return sp_reply_with(x, 405, "method_not_allowed", "This path does not take that method.", "method", SP_SPAN("allow"), value);
}

enum sp_stage_answer sp_stage_route(struct sp_exchange *x) {
    const struct sp_config *config = x->snapshot->config;
    const struct sp_route_config *other_method = NULL;
    for (size_t i = 0; i < config->n_routes; i++) {
        const struct sp_route_config *route = &config->routes[i];
        if (!path_matches(route, x->request.path) || !host_matches(&route->host, x->request.host))
            continue;
        if (!method_matches(&route->methods, x->request.method_name)) {
            if (!other_method)
                other_method = route;
            continue;
        }
        x->route = route;
        x->path = x->request.path;
        struct sp_span strip = sp_span_text(route->strip_prefix);
        if (strip.len && sp_span_starts(x->path, strip)) {
            x->path = sp_span_from(x->path, strip.len);
            /* What is left must be a path again: the character before it is the prefix's own slash, or none is missing. */
            if (x->path.len == 0)
                x->path = SP_SPAN("/");
            else if (x->path.at[0] != '/')
                x->path = strip.at[strip.len - 1] == '/' ? sp_span(x->path.at - 1, x->path.len + 1) : x->request.path;
        }
        return SP_STAGE_NEXT;
    }
    if (other_method)
        return not_allowed(x, other_method);
    return sp_reply(x, 404, "not_found", "There is nothing at this path.", "no route");
}
