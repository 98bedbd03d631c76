/* authenticate: who is calling? */
#include "private.h"

static struct sp_span value_of(const struct sp_exchange *x, enum sp_http_field_id id) {
    const struct sp_http_field *field = sp_http_field(&x->request.fields, id);
    return field ? field->value : sp_span(NULL, 0);
}

/* RFC 6750 §3: no error code when no credential was sent. */
static enum sp_stage_answer unauthorized(struct sp_exchange *x, const char *message, const char *challenge, const char *reason) {
    return sp_reply_with(x, 401, "invalid_api_key", message, reason, SP_SPAN("www-authenticate"), sp_span_text(challenge));
}

#define CHALLENGE "Bearer realm=\"sallyport\""

enum sp_stage_answer sp_stage_authenticate(struct sp_exchange *x) {
    const struct sp_credentials credentials = {
        .authorization = value_of(x, SP_FIELD_AUTHORIZATION),
        .x_api_key = value_of(x, SP_FIELD_X_API_KEY),
        .api_key = value_of(x, SP_FIELD_API_KEY),
    };
    const char *why = "";
    switch (sp_identity_authenticate(x->snapshot->identity, x->service->parts.tokens, x->from->auth, &credentials, x->route->authenticate,
                                     x->started_wall_ms / 1000, &x->principal, &why)) {
    case SP_AUTH_OK:
        x->roles = x->principal->roles;
        return SP_STAGE_NEXT;
    case SP_AUTH_NONE:
        return unauthorized(x, "You did not send a credential. Send `Authorization: Bearer` with an API key or a token.", CHALLENGE,
                            "no credential");
    case SP_AUTH_AMBIGUOUS:
        return sp_reply(x, 400, "ambiguous_credential", "The request carries two different credentials. Send one.", "two credentials");
    case SP_AUTH_EXPIRED:
        return unauthorized(x, "The credential has expired.",
                            CHALLENGE ", error=\"invalid_token\", error_description=\"The credential has expired\"", why);
    case SP_AUTH_NOT_HERE:
        return unauthorized(x, "This path does not take that kind of credential.",
                            CHALLENGE ", error=\"invalid_token\", error_description=\"Not the kind of credential taken here\"", why);
    case SP_AUTH_INVALID:
        break;
    }
    return unauthorized(x, "The credential is not valid.",
                        CHALLENGE ", error=\"invalid_token\", error_description=\"The credential is not valid\"", why);
}
