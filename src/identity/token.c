#include "token.h"

#include "algorithm.h"
#include "claims.h"
#include "json.h"

struct sp_jwt_room {
    char header[SP_JWT_HEADER_MAX + 1], claims[SP_JWT_MAX + 1]; /* decoded */
    struct sp_json_value header_values[SP_JSON_VALUES_MAX(SP_JWT_HEADER_MAX)], claims_values[SP_JSON_VALUES_MAX(SP_JWT_MAX)];
};

struct jwt {
    struct sp_span signed_text; /* of the token: header and payload, as they were sent */
    const struct sp_json_value *header, *claims;
    enum sp_jwt_algorithm algorithm;
    struct sp_span kid, issuer; /* of the JSON */
    uint8_t signature[SP_SIGNATURE_MAX];
    size_t signature_len;
};

struct sp_jwt_room *sp_jwt_room_new(void) {
    return calloc(1, sizeof(struct sp_jwt_room));
}

void sp_jwt_room_free(struct sp_jwt_room *room) { free(room); }

/* Header, payload and signature: what stands between exactly two dots. */
static bool split(struct sp_span token, struct sp_span ret[3]) {
    for (size_t i = 0; i < 3; i++) {
        const char *dot = token.len ? memchr(token.at, '.', token.len) : NULL;
        if ((dot == NULL) != (i == 2))
            return false;
        ret[i] = sp_span(token.at, dot ? (size_t)(dot - token.at) : token.len);
        token = sp_span_from(token, ret[i].len + 1);
    }
    return true;
}

bool sp_jwt_looks_like_one(struct sp_span text) {
    struct sp_span parts[3];
    return split(text, parts) && sp_base64url_digits(parts[0]) && sp_base64url_digits(parts[1]) && sp_base64url_digits(parts[2]);
}

/* `buffer` holds a byte more than `size`. NULL: not an object. */
static const struct sp_json_value *decode_object(struct sp_span part, char *buffer, size_t size, struct sp_json_value *values) {
    ssize_t n = sp_base64url_decode(part, buffer, size);
    return n > 0 && sp_json_value_read(buffer, (size_t)n, values) ? values : NULL;
}

/* What is wrong with a token in which a part is. */
static const char *blame(struct sp_span token, const char *part) { return sp_jwt_looks_like_one(token) ? part : "malformed token"; }

/* The functions below return what is wrong, or NULL. */

static const char *take_apart(struct jwt *jwt, struct sp_jwt_room *room, struct sp_span token) {
    struct sp_span parts[3];
    if (token.len > SP_JWT_MAX)
        return "too long";
    if (!split(token, parts))
        return "malformed token";
    jwt->signed_text = sp_span(token.at, token.len - parts[2].len - 1);

    ssize_t n = sp_base64url_decode(parts[2], jwt->signature, sizeof jwt->signature);
    if (n <= 0)
        return blame(token, "malformed signature");
    jwt->signature_len = (size_t)n;
    if (!(jwt->header = decode_object(parts[0], room->header, SP_JWT_HEADER_MAX, room->header_values)))
        return blame(token, "malformed header");
    if (!(jwt->claims = decode_object(parts[1], room->claims, SP_JWT_MAX, room->claims_values)))
        return blame(token, "malformed claims");
    return NULL;
}

static const char *read_header(struct jwt *jwt) {
    struct sp_span name;
    /* RFC 7515 §4.1.11: what must be understood and is not, refuses the token. RFC 7797: b64 changes what is signed. */
    if (sp_json_value_member(jwt->header, SP_SPAN("crit")) || sp_json_value_member(jwt->header, SP_SPAN("b64")))
        return "critical header";
    if (!sp_json_value_text(sp_json_value_member(jwt->header, SP_SPAN("alg")), &name) || !sp_algorithm_find(name, &jwt->algorithm))
        return "unknown algorithm";
    const struct sp_json_value *kid = sp_json_value_member(jwt->header, SP_SPAN("kid"));
    if (kid && (!sp_json_value_text(kid, &jwt->kid) || !sp_plain_text(jwt->kid, SP_KID_MAX)))
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
    const struct sp_json_value *typ = sp_json_value_member(jwt->header, SP_SPAN("typ"));
    struct sp_span type = SP_SPAN("JWT");
    if (typ && !sp_json_value_text(typ, &type))
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
    struct jwt jwt;
    jwt.kid = sp_span(NULL, 0);

    const char *wrong = take_apart(&jwt, identity->room, token);
    if (!wrong)
        wrong = read_header(&jwt);
    if (!wrong && !sp_json_value_text(sp_json_value_member(jwt.claims, SP_SPAN("iss")), &jwt.issuer))
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
