#include "token.h"

#include "algorithm.h"
#include "claims.h"
#include "json.h"

struct jwt {
    struct sp_span signed_text; /* of the token: header and payload, as they were sent */
    json_t *header, *claims;
    enum sp_jwt_algorithm algorithm;
    struct sp_span kid, issuer; /* of the JSON */
    uint8_t signature[SP_SIGNATURE_MAX];
    size_t signature_len;
};

static void release(struct jwt *jwt) {
    json_decref(jwt->header);
    json_decref(jwt->claims);
}

bool sp_jwt_looks_like_one(struct sp_span text) {
    size_t dots = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool base64url = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        if (c == '.')
            dots++;
        else if (!base64url)
            return false;
    }
    return dots == 2;
}

static json_t *decode_object(struct sp_span part, char *buffer, size_t size) {
    ssize_t n = sp_base64url_decode(part, buffer, size);
    return n > 0 ? sp_json_object(sp_span(buffer, (size_t)n)) : NULL;
}

/* The functions below return what is wrong, or NULL. */

static const char *take_apart(struct jwt *jwt, struct sp_span token) {
    char decoded[SP_JWT_MAX];
    if (token.len > SP_JWT_MAX)
        return "too long";
    if (!sp_jwt_looks_like_one(token))
        return "malformed token";
    const char *first = memchr(token.at, '.', token.len);
    const char *second = memchr(first + 1, '.', token.len - (size_t)(first + 1 - token.at));
    struct sp_span header = sp_span(token.at, (size_t)(first - token.at));
    struct sp_span payload = sp_span(first + 1, (size_t)(second - first - 1));
    struct sp_span signature = sp_span_from(token, (size_t)(second + 1 - token.at));
    jwt->signed_text = sp_span(token.at, (size_t)(second - token.at));

    ssize_t n = sp_base64url_decode(signature, jwt->signature, sizeof jwt->signature);
    if (n <= 0)
        return "malformed signature";
    jwt->signature_len = (size_t)n;
    if (!(jwt->header = decode_object(header, decoded, SP_JWT_HEADER_MAX)))
        return "malformed header";
    if (!(jwt->claims = decode_object(payload, decoded, sizeof decoded)))
        return "malformed claims";
    return NULL;
}

static const char *read_header(struct jwt *jwt) {
    struct sp_span name;
    /* RFC 7515 §4.1.11: what must be understood and is not, refuses the token. RFC 7797: b64 changes what is signed. */
    if (json_object_get(jwt->header, "crit") || json_object_get(jwt->header, "b64"))
        return "critical header";
    if (!sp_json_text(json_object_get(jwt->header, "alg"), &name) || !sp_algorithm_find(name, &jwt->algorithm))
        return "unknown algorithm";
    const json_t *kid = json_object_get(jwt->header, "kid");
    if (kid && (!sp_json_text(kid, &jwt->kid) || !sp_plain_text(jwt->kid, SP_KID_MAX)))
        return "malformed kid";
    return NULL;
}

/* RFC 7515 §4.1.9: compared without case; "application/" may be left out. */
static struct sp_span media_subtype(struct sp_span type) {
    struct sp_span prefix = SP_SPAN("application/");
    if (type.len > prefix.len && sp_span_eq_nocase(sp_span(type.at, prefix.len), prefix))
        return sp_span_from(type, prefix.len);
    return type;
}

static const char *check_type(const struct jwt *jwt, const struct sp_issuer_config *issuer) {
    const json_t *typ = json_object_get(jwt->header, "typ");
    struct sp_span type = SP_SPAN("JWT");
    if (typ && !sp_json_text(typ, &type))
        return "type";
    for (size_t i = 0; i < issuer->types.count; i++)
        if (sp_span_eq_nocase(media_subtype(type), media_subtype(sp_span_text(issuer->types.item[i]))))
            return NULL;
    return "type";
}

static const char *check_signature(const struct jwt *jwt, const struct sp_issuer *issuer) {
    struct sp_bound_key *key = NULL;
    const char *wrong = sp_key_unknown;
    if (!(issuer->config->algorithms & 1u << jwt->algorithm))
        return "algorithm not allowed";
    if (sp_algorithm(jwt->algorithm)->kind == SP_KEY_SECRET)
        key = issuer->secret;
    else if (issuer->keys->set)
        key = sp_key_set_pick(issuer->keys->set, jwt->algorithm, jwt->kid, &wrong);
    if (!key)
        return wrong;
    return sp_bound_key_verify(key, jwt->signed_text, sp_span((const char *)jwt->signature, jwt->signature_len)) ? NULL : "signature";
}

/* Which key is missing: a hash of the issuer and the kid, each after its length. */
static bool name_missing(const struct sp_issuer *issuer, struct sp_span kid, uint8_t ret[32]) {
    uint8_t digest[SP_DIGEST_MAX];
    char text[16 + SP_KID_MAX + SP_JWT_MAX];
    uint64_t lengths[2] = {issuer->name.len, kid.len};
    if (issuer->name.len > SP_JWT_MAX)
        return false;
    memcpy(text, lengths, sizeof lengths);
    memcpy(text + sizeof lengths, issuer->name.at, issuer->name.len);
    if (kid.len)
        memcpy(text + sizeof lengths + issuer->name.len, kid.at, kid.len);
    if (!sp_digest(SP_SHA256, sp_span(text, sizeof lengths + issuer->name.len + kid.len), digest))
        return false;
    memcpy(ret, digest, 32);
    return true;
}

enum sp_auth_verdict sp_jwt_check(struct sp_identity *identity, struct sp_span token, uint64_t now_s, struct sp_principal **ret,
                                  const struct sp_issuer **ret_issuer, uint8_t ret_missing[32], const char **ret_reason) {
    _cleanup_(release) struct jwt jwt;
    jwt.header = jwt.claims = NULL;
    jwt.kid = sp_span(NULL, 0);

    const char *wrong = take_apart(&jwt, token);
    if (!wrong)
        wrong = read_header(&jwt);
    if (!wrong && !sp_json_text(json_object_get(jwt.claims, "iss"), &jwt.issuer))
        wrong = "no issuer";
    const struct sp_issuer *issuer = wrong ? NULL : sp_identity_issuer(identity, jwt.issuer);
    if (!wrong && !issuer)
        wrong = "unknown issuer";
    if (!wrong)
        wrong = check_type(&jwt, issuer->config);
    if (!wrong)
        wrong = check_signature(&jwt, issuer);
    if (wrong) {
        *ret_reason = wrong;
        bool fetchable = wrong == sp_key_unknown && issuer->config->fetches_keys && name_missing(issuer, jwt.kid, ret_missing);
        *ret_issuer = issuer;
        return fetchable ? SP_AUTH_WAIT : SP_AUTH_INVALID;
    }

    struct sp_principal like = {.kind = SP_CREDENTIAL_JWT, .key_id = jwt.kid, .issuer = issuer->name};
    enum sp_auth_verdict verdict = sp_claims_check(issuer->config, jwt.claims, now_s, &like.expires_at_s, ret_reason);
    if (verdict != SP_AUTH_OK)
        return verdict;
    verdict = sp_claims_principal(identity->config, issuer->config, jwt.claims, like, ret, ret_reason);
    if (verdict == SP_AUTH_OK)
        *ret_issuer = issuer;
    return verdict;
}

enum sp_auth_verdict sp_jwt_verify(struct sp_identity *identity, struct sp_span token, uint64_t now_s, struct sp_principal **ret,
                                   const char **ret_reason) {
    const struct sp_issuer *issuer;
    uint8_t missing[32];
    enum sp_auth_verdict verdict = sp_jwt_check(identity, token, now_s, ret, &issuer, missing, ret_reason);
    return verdict == SP_AUTH_WAIT ? SP_AUTH_INVALID : verdict;
}
