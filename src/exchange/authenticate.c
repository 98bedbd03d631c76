/* authenticate: who is calling? */
#include "private.h"

static struct sp_span value_of(const struct sp_exchange *x, enum sp_http_field_id id) {
    const struct sp_http_field *field = sp_http_field(&x->request.fields, id);
    return field ? field->value : sp_span(NULL, 0);
}

enum sp_stage_answer sp_reply_unauthorized(struct sp_exchange *x, const struct sp_refusal *refusal) {
    return sp_reply_with(x, 401, "invalid_api_key", refusal->message, refusal->reason, SP_SPAN("www-authenticate"),
                         sp_span_text(refusal->challenge));
}

static enum sp_stage_answer unauthorized(struct sp_exchange *x, const char *message, const char *challenge, const char *reason) {
    return sp_login_refused(x, &(struct sp_refusal){.message = message, .challenge = challenge, .reason = reason});
}

/* RFC 6750 §3: no error code when no credential was sent. */
#define CHALLENGE "Bearer realm=\"sallyport\""
#define NOT_VALID "The credential is not valid.", CHALLENGE ", error=\"invalid_token\", error_description=\"The credential is not valid\""

/* Asked anew for every request: neither what a connection remembers nor an older snapshot outlives a revocation. */
static bool is_revoked(const struct sp_exchange *x) {
    const struct sp_revocations *revocations = x->service->parts.revocations;
    return revocations && x->principal->kind == SP_CREDENTIAL_API_KEY && sp_revocations_find(revocations, x->principal->key_id);
}

static enum sp_stage_answer take_up(struct sp_exchange *x) {
    if (is_revoked(x))
        return unauthorized(x, NOT_VALID, "revoked api key");
    x->roles = x->principal->roles;
    return x->principal->kind == SP_CREDENTIAL_NONE ? SP_STAGE_NEXT : sp_login_good(x);
}

void sp_exchange_cut(struct sp_exchange *x) {
    static const struct sp_refusal refusal = {NOT_VALID, "key revoked"};
    if (x->answered) {
        x->reason = refusal.reason;
        x->front->broken(x);
    } else {
        (void)sp_reply_unauthorized(x, &refusal);
        if (!x->ended)
            x->front->end(x);
        if (!x->ended)
            x->front->flush(x);
    }
    sp_exchange_end(x, NULL);
}

/* An unknown key or an opaque token may have to wait for what its issuer says; whoever did not answer is not asked twice. */
static enum sp_auth_verdict judge(struct sp_exchange *x, const char **ret_why) {
    const struct sp_credentials credentials = {
        .authorization = value_of(x, SP_FIELD_AUTHORIZATION),
        .x_api_key = value_of(x, SP_FIELD_X_API_KEY),
        .api_key = value_of(x, SP_FIELD_API_KEY),
        .certificate = x->from->certificate,
    };
    enum sp_auth_verdict verdict;
    do
        verdict = sp_identity_authenticate(x->snapshot->identity, x->service->parts.tokens, x->from->auth, &credentials,
                                           x->route->authenticate, sp_service_wall_ms(x->service) / 1000, &x->asked, &x->principal, ret_why);
    while (verdict == SP_AUTH_WAIT && !sp_question_ask(x));
    return verdict;
}

enum sp_stage_answer sp_stage_authenticate(struct sp_exchange *x) {
    if (x->login != SP_LOGIN_UNDECIDED)
        return sp_login_resumed(x);
    const char *why = "";
    switch (x->asking ? SP_AUTH_WAIT : judge(x, &why)) {
    case SP_AUTH_WAIT:
        return SP_STAGE_WAIT;
    case SP_AUTH_UNAVAILABLE:
        return sp_reply(x, 503, "issuer_unavailable", "The issuer of the token cannot be asked about it now. Try again.", why);
    case SP_AUTH_OK:
        return take_up(x);
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
    return unauthorized(x, NOT_VALID, why);
}
