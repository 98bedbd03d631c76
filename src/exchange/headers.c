/* Which header fields pass, in either direction: those known to be harmless, and those the route allows besides. Whatever else comes,
 * credentials and hop-by-hop fields above all, stays here. */
#include "private.h"

/* By what the parser knows. Not in the list: OTHER, which is looked up by name below, and everything that must not pass. */
static const bool request_passes[SP_FIELD_COUNT] = {
    [SP_FIELD_ACCEPT] = true,           [SP_FIELD_ACCEPT_ENCODING] = true, [SP_FIELD_ACCEPT_LANGUAGE] = true,
    [SP_FIELD_ANTHROPIC] = true,        [SP_FIELD_CACHE_CONTROL] = true,   [SP_FIELD_CONTENT_ENCODING] = true,
    [SP_FIELD_CONTENT_LANGUAGE] = true, [SP_FIELD_CONTENT_TYPE] = true,    [SP_FIELD_IDEMPOTENCY_KEY] = true,
    [SP_FIELD_OPENAI] = true,           [SP_FIELD_RANGE] = true,           [SP_FIELD_TRACESTATE] = true,
    [SP_FIELD_USER_AGENT] = true,       [SP_FIELD_X_STAINLESS] = true,
};
static const bool response_passes[SP_FIELD_COUNT] = {
    [SP_FIELD_ALLOW] = true,
    [SP_FIELD_ANTHROPIC] = true,
    [SP_FIELD_CACHE_CONTROL] = true,
    [SP_FIELD_CONTENT_DISPOSITION] = true,
    [SP_FIELD_CONTENT_ENCODING] = true,
    [SP_FIELD_CONTENT_LANGUAGE] = true,
    [SP_FIELD_CONTENT_RANGE] = true,
    [SP_FIELD_CONTENT_TYPE] = true,
    [SP_FIELD_DATE] = true,
    [SP_FIELD_ETAG] = true,
    [SP_FIELD_LAST_MODIFIED] = true,
    [SP_FIELD_OPENAI] = true,
    [SP_FIELD_RETRY_AFTER] = true,
    [SP_FIELD_VARY] = true,
};
/* What an allow list may not bring back: framing and connection are ours, and these names would speak for the gateway. */
static const bool never[SP_FIELD_COUNT] = {
    [SP_FIELD_HOST] = true,
    [SP_FIELD_CONTENT_LENGTH] = true,
    [SP_FIELD_TRANSFER_ENCODING] = true,
    [SP_FIELD_CONNECTION] = true,
    [SP_FIELD_KEEP_ALIVE] = true,
    [SP_FIELD_EXPECT] = true,
    [SP_FIELD_UPGRADE] = true,
    [SP_FIELD_TE] = true,
    [SP_FIELD_TRAILER] = true,
    [SP_FIELD_PROXY_CONNECTION] = true,
    [SP_FIELD_PROXY_AUTHORIZATION] = true,
    [SP_FIELD_PROXY_AUTHENTICATE] = true,
    [SP_FIELD_AUTHORIZATION] = true,
    [SP_FIELD_X_API_KEY] = true,
    [SP_FIELD_API_KEY] = true,
    [SP_FIELD_FORWARDED] = true,
    [SP_FIELD_X_FORWARDED] = true,
    [SP_FIELD_X_SALLYPORT] = true,
    [SP_FIELD_X_REQUEST_ID] = true,
    [SP_FIELD_TRACEPARENT] = true,
    [SP_FIELD_RATE_LIMIT] = true,
    [SP_FIELD_STRICT_TRANSPORT_SECURITY] = true,
};

/* A trailing "-" makes it a prefix. */
static const char *const request_names[] = {
    "accept-charset",
    "content-digest",
    "digest",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "inference-header-content-length" /* Triton's binary tensors */,
    "pragma",
    "priority",
    "x-client-request-id",
    "x-correlation-id",
};
static const char *const response_names[] = {
    "accept-ranges",  "age", "content-digest", "digest", "expires", "inference-header-content-length", "pragma", "retry-after-ms",
    "x-should-retry",
};

static bool among(const char *const *names, size_t n, struct sp_span name) {
    for (size_t i = 0; i < n; i++) {
        struct sp_span known = sp_span_text(names[i]);
        bool prefix = known.at[known.len - 1] == '-';
        if (prefix ? name.len > known.len && sp_span_eq_nocase(sp_span(name.at, known.len), known) : sp_span_eq_nocase(name, known))
            return true;
    }
    return false;
}

static bool allowed(const struct sp_headers_config *config, struct sp_span name) {
    return config->allow.count && among(config->allow.item, config->allow.count, name);
}

/* A field that we set ourselves takes the place of what was sent. */
static bool replaced(const struct sp_headers_config *config, struct sp_span name) {
    for (size_t i = 0; i < config->n_set; i++)
        if (sp_span_eq_nocase(sp_span_text(config->set[i].name), name))
            return true;
    return false;
}

bool sp_request_field_passes(const struct sp_route_config *route, const struct sp_pool_config *pool, const struct sp_http_field *field) {
    if (field->hop_by_hop || never[field->id])
        return false;
    if (replaced(&route->request_headers, field->name))
        return false;
    const char *credential = pool->credential.header;
    if (credential && sp_span_eq_nocase(sp_span_text(credential), field->name))
        return false;
    return request_passes[field->id] || (field->id == SP_FIELD_OTHER && among(request_names, SP_COUNT(request_names), field->name)) ||
           allowed(&route->request_headers, field->name);
}

bool sp_response_field_passes(const struct sp_route_config *route, const struct sp_http_field *field) {
    if (field->hop_by_hop || never[field->id] || replaced(&route->response_headers, field->name))
        return false;
    return response_passes[field->id] || (field->id == SP_FIELD_OTHER && among(response_names, SP_COUNT(response_names), field->name)) ||
           allowed(&route->response_headers, field->name);
}
