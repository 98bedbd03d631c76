/* What an issuer says about an opaque token (RFC 7662 §2.2). The answer is judged like the claims of a token of the same issuer. */
#include "algorithm.h"
#include "claims.h"
#include "json.h"
#include "refused.h"
#include "token_cache.h"

#include <errno.h>

#define NEGATIVE_S_MAX 10 /* a token that is not active yet may be in a moment */

static enum sp_auth_verdict refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return SP_AUTH_INVALID;
}

/* Some servers answer about refresh tokens too; those are not for us. */
static bool is_access_token(const json_t *answer) {
    struct sp_span type, use;
    const json_t *token_type = json_object_get(answer, "token_type"), *token_use = json_object_get(answer, "token_use");
    if (token_type && !json_is_null(token_type) &&
        (!sp_json_text(token_type, &type) || (!sp_span_eq_nocase(type, SP_SPAN("Bearer")) && !sp_span_eq(type, SP_SPAN("access_token")))))
        return false;
    return !token_use || (sp_json_text(token_use, &use) && sp_span_eq(use, SP_SPAN("access_token")));
}

enum sp_auth_verdict sp_introspection_read(const struct sp_identity *identity, unsigned issuer_index, struct sp_span answer, uint64_t now_s,
                                           struct sp_principal **ret, const char **ret_reason) {
    const struct sp_issuer *issuer = &identity->issuers[issuer_index];
    struct sp_span name;
    if (answer.len > SP_INTROSPECTION_MAX)
        return refuse(ret_reason, "answer too long");
    _cleanup_(sp_json_release) json_t *claims = sp_json_object(answer);
    if (!claims || !json_is_boolean(json_object_get(claims, "active")))
        return refuse(ret_reason, "malformed answer");
    if (!json_is_true(json_object_get(claims, "active")))
        return refuse(ret_reason, "token not active");
    const json_t *iss = json_object_get(claims, "iss");
    if (iss && (!sp_json_text(iss, &name) || !sp_span_eq(name, issuer->name)))
        return refuse(ret_reason, "unknown issuer");
    if (!is_access_token(claims))
        return refuse(ret_reason, "type");

    /* Without a user the client speaks for itself, and a JWT would say so in sub (RFC 9068 §2.2). */
    if (!json_object_get(claims, "sub") && strcmp(issuer->config->claims.subject, "sub") == 0 &&
        json_object_set(claims, "sub", json_object_get(claims, "client_id")) < 0)
        return refuse(ret_reason, "subject");
    struct sp_principal like = {.kind = SP_CREDENTIAL_OPAQUE, .issuer = issuer->name};
    enum sp_auth_verdict verdict = sp_claims_check_answer(issuer->config, claims, now_s, &like.expires_at_s, ret_reason);
    if (verdict != SP_AUTH_OK)
        return verdict;
    like.expires_at_s = sp_min(like.expires_at_s, now_s + issuer->config->introspection.cache_s);
    return sp_claims_principal(identity->config, issuer->config, claims, like, ret, ret_reason);
}

const char *sp_identity_introspected(struct sp_identity *identity, struct sp_token_cache *cache, unsigned issuer, struct sp_span token,
                                     const uint8_t question_key[32], struct sp_span answer, uint64_t now_s) {
    struct sp_principal *principal = NULL;
    uint8_t digest[SP_DIGEST_MAX];
    const char *reason = "ok";
    enum sp_auth_verdict verdict = sp_introspection_read(identity, issuer, answer, now_s, &principal, &reason);
    if (verdict == SP_AUTH_OK && sp_digest(SP_SHA256, token, digest)) {
        sp_token_cache_add(cache, identity, &identity->issuers[issuer], digest, principal);
    } else {
        uint64_t remembered = sp_min(identity->config->issuers[issuer].introspection.cache_s, (uint64_t)NEGATIVE_S_MAX);
        sp_refused_add(sp_token_cache_refused(cache), question_key, now_s + remembered);
    }
    sp_principal_unref(principal);
    return reason;
}
