/* What an issuer says about an opaque token (RFC 7662 §2.2). The answer is judged like the claims of a token of the same issuer. */
#include "algorithm.h"
#include "claims.h"
#include "refused.h"
#include "token_cache.h"

#include <errno.h>

#define NEGATIVE_S_MAX 10 /* a token that is not active yet may be in a moment */

static enum sp_auth_verdict refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return SP_AUTH_INVALID;
}

/* Some servers answer about refresh tokens too; those are not for us. */
static bool is_access_token(const struct sp_json_value *answer) {
    struct sp_span type, use;
    const struct sp_json_value *token_type = sp_json_value_member(answer, SP_SPAN("token_type"));
    const struct sp_json_value *token_use = sp_json_value_member(answer, SP_SPAN("token_use"));
    if (token_type && token_type->kind != SP_JSON_NULL &&
        (!sp_json_value_text(token_type, &type) ||
         (!sp_span_eq_nocase(type, SP_SPAN("Bearer")) && !sp_span_eq(type, SP_SPAN("access_token")))))
        return false;
    return !token_use || (sp_json_value_text(token_use, &use) && sp_span_eq(use, SP_SPAN("access_token")));
}

/* Without a user the client speaks for itself, and a JWT would say so in sub (RFC 9068 §2.2). There is room for a value more. */
static bool let_client_speak(struct sp_json_value *claims) {
    const struct sp_json_value *client = sp_json_value_member(claims, SP_SPAN("client_id"));
    if (!client)
        return false;
    struct sp_json_value *subject = claims + claims->size++;
    *subject = *client;
    subject->name = SP_SPAN("sub");
    subject->size = 1;
    return true;
}

static enum sp_auth_verdict judge(const struct sp_identity *identity, const struct sp_issuer *issuer, struct sp_json_value *claims,
                                  uint64_t now_s, struct sp_principal **ret, const char **ret_reason) {
    const struct sp_json_value *active = sp_json_value_member(claims, SP_SPAN("active"));
    struct sp_span name;
    if (!sp_json_value_is(active, SP_JSON_TRUE))
        return refuse(ret_reason, sp_json_value_is(active, SP_JSON_FALSE) ? "token not active" : "malformed answer");
    const struct sp_json_value *iss = sp_json_value_member(claims, SP_SPAN("iss"));
    if (iss && (!sp_json_value_text(iss, &name) || !sp_span_eq(name, issuer->name)))
        return refuse(ret_reason, "unknown issuer");
    if (!is_access_token(claims))
        return refuse(ret_reason, "type");
    if (!sp_json_value_member(claims, SP_SPAN("sub")) && strcmp(issuer->config->claims.subject, "sub") == 0 && !let_client_speak(claims))
        return refuse(ret_reason, "subject");

    struct sp_principal like = {.kind = SP_CREDENTIAL_OPAQUE, .issuer = issuer->name};
    enum sp_auth_verdict verdict = sp_claims_check_answer(issuer->config, claims, now_s, &like.expires_at_s, ret_reason);
    if (verdict != SP_AUTH_OK)
        return verdict;
    like.expires_at_s = sp_min(like.expires_at_s, now_s + issuer->config->introspection.cache_s);
    return sp_claims_principal(identity->config, issuer->config, claims, like, ret, ret_reason);
}

enum sp_auth_verdict sp_introspection_read(const struct sp_identity *identity, unsigned issuer_index, struct sp_span answer, uint64_t now_s,
                                           struct sp_principal **ret, const char **ret_reason) {
    if (answer.len > SP_INTROSPECTION_MAX)
        return refuse(ret_reason, "answer too long");
    _cleanup_(sp_free_pointer) char *text = malloc(answer.len + 1);
    _cleanup_(sp_free_pointer) struct sp_json_value *claims = reallocarray(NULL, SP_JSON_VALUES_MAX(answer.len) + 1, sizeof *claims);
    if (!text || !claims)
        return refuse(ret_reason, "out of memory");
    if (answer.len)
        memcpy(text, answer.at, answer.len);
    if (!sp_json_value_read(text, answer.len, claims))
        return refuse(ret_reason, "malformed answer");
    return judge(identity, &identity->issuers[issuer_index], claims, now_s, ret, ret_reason);
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
