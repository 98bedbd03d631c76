/* An authorization server's metadata: where it is, and where it says the keys are. */
#include "json.h"

#include <errno.h>
#include <sallyport/identity.h>
#include <stdio.h>

#define SHOWN_MAX 200 /* of what a stranger wrote */

int sp_metadata_jwks_uri(struct sp_span metadata, struct sp_span issuer, char **ret_error, char **ret_jwks_uri) {
    struct sp_span name, uri;
    if (metadata.len > SP_METADATA_MAX)
        return sp_explain(ret_error, "its metadata is longer than 64 KiB");
    _cleanup_(sp_json_release) json_t *document = sp_json_object(metadata);
    if (!document)
        return sp_explain(ret_error, "its metadata is not a JSON object without duplicate members");
    if (!sp_json_text(json_object_get(document, "issuer"), &name) || !sp_plain_text(name, SP_METADATA_MAX))
        return sp_explain(ret_error, "its metadata names no issuer");
    /* RFC 8414 §3.3: compared as they are. Else one server could vouch for another's tokens. */
    if (!sp_span_eq(name, issuer))
        return sp_explain(ret_error, "its metadata is another issuer's: %.*s", (int)sp_min(name.len, (size_t)SHOWN_MAX), name.at);
    if (!sp_json_text(json_object_get(document, "jwks_uri"), &uri) || !sp_plain_text(uri, 2048))
        return sp_explain(ret_error, "its metadata has no jwks_uri");
    const char *problem = sp_check_fetched_url(uri);
    if (problem)
        return sp_explain(ret_error, "its jwks_uri %.*s may not be asked: %s", (int)sp_min(uri.len, (size_t)SHOWN_MAX), uri.at, problem);
    char *copy = sp_span_dup(uri);
    if (!copy)
        return -ENOMEM;
    *ret_jwks_uri = copy;
    return 0;
}

/* OpenID Connect Discovery §4.1 appends; RFC 8414 §3.1 puts its part between host and path. */
char *sp_metadata_url(struct sp_span issuer, enum sp_metadata_form form) {
    const char *scheme = memmem(issuer.at, issuer.len, "://", 3);
    size_t authority_at = scheme ? (size_t)(scheme - issuer.at) + 3 : 0;
    struct sp_span rest = sp_span_from(issuer, authority_at);
    const char *slash = rest.len ? memchr(rest.at, '/', rest.len) : NULL;
    size_t host_end = slash ? (size_t)(slash - issuer.at) : issuer.len;
    struct sp_span path = sp_span_from(issuer, host_end);
    if (path.len && path.at[path.len - 1] == '/')
        path.len--;
    char *url = NULL;
    int n = form == SP_METADATA_OPENID
                ? asprintf(&url, SP_SPAN_FMT SP_SPAN_FMT "/.well-known/openid-configuration", (int)host_end, issuer.at, SP_SPAN_ARG(path))
                : asprintf(&url, SP_SPAN_FMT "/.well-known/oauth-authorization-server" SP_SPAN_FMT, (int)host_end, issuer.at,
                           SP_SPAN_ARG(path));
    return n < 0 ? NULL : url;
}
