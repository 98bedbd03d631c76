#include "claims.h"

#include "json.h"
#include "principal.h"
#include "token.h"

/* ---- Finding ---- */

/* A member that bears the whole path as its name wins: namespaced claims ("https://example.com/roles") have dots of their own. */
static const struct sp_json_value *find(const struct sp_json_value *claims, const char *path) {
    struct sp_span rest = sp_span_text(path), name;
    const struct sp_json_value *at = sp_json_value_member(claims, rest);
    if (at)
        return at;
    for (at = claims; at && rest.len; at = sp_json_value_member(at, name)) {
        const char *dot = memchr(rest.at, '.', rest.len);
        name = sp_span(rest.at, dot ? (size_t)(dot - rest.at) : rest.len);
        rest = sp_span_from(rest, dot ? name.len + 1 : name.len);
    }
    return at;
}

/* ---- Times (NumericDate, RFC 7519 §2: may have a fraction) ---- */

#define TIME_MAX (INT64_C(1) << 53)

enum time_state { TIME_ABSENT, TIME_GIVEN, TIME_WRONG };

static enum time_state read_time(const struct sp_json_value *claims, struct sp_span name, uint64_t *ret) {
    const struct sp_json_value *value = sp_json_value_member(claims, name);
    if (!value)
        return TIME_ABSENT;
    if (value->kind == SP_JSON_INTEGER) {
        if (value->integer < 0 || value->integer > TIME_MAX)
            return TIME_WRONG;
        *ret = (uint64_t)value->integer;
        return TIME_GIVEN;
    }
    if (value->kind != SP_JSON_REAL || !(value->real >= 0 && value->real <= (double)TIME_MAX))
        return TIME_WRONG;
    *ret = (uint64_t)value->real;
    return TIME_GIVEN;
}

static enum sp_auth_verdict refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return SP_AUTH_INVALID;
}

/* How long a token may serve by its age: from iat; without one its age cannot be known, and only what is left of it is bounded. */
static enum sp_auth_verdict check_age(const struct sp_issuer_config *issuer, bool has_iat, uint64_t iat, uint64_t exp, uint64_t now_s,
                                      uint64_t *expires_at_s, const char **ret_reason) {
    uint64_t max = sp_min(issuer->max_token_age_s, (uint64_t)TIME_MAX), leeway = sp_min(issuer->leeway_s, (uint64_t)TIME_MAX);
    if (max == 0)
        return SP_AUTH_OK;
    if (!has_iat) {
        if (exp > now_s && exp - now_s > max)
            return refuse(ret_reason, "no iat, and valid for longer than max_token_age");
        return SP_AUTH_OK;
    }
    *expires_at_s = sp_min(*expires_at_s, iat + max + leeway);
    return SP_AUTH_OK;
}

static enum sp_auth_verdict check_times(const struct sp_issuer_config *issuer, const struct sp_json_value *claims, bool exp_required,
                                        uint64_t now_s, uint64_t *ret_expires_at_s, const char **ret_reason) {
    uint64_t exp = 0, nbf = 0, iat = 0, leeway = sp_min(issuer->leeway_s, (uint64_t)TIME_MAX);
    enum time_state has_exp = read_time(claims, SP_SPAN("exp"), &exp), has_nbf = read_time(claims, SP_SPAN("nbf"), &nbf);
    enum time_state has_iat = read_time(claims, SP_SPAN("iat"), &iat);
    if (has_exp == TIME_ABSENT && exp_required)
        return refuse(ret_reason, "no exp");
    if (has_exp == TIME_WRONG || has_nbf == TIME_WRONG || has_iat == TIME_WRONG)
        return refuse(ret_reason, "malformed time");
    if (has_nbf == TIME_GIVEN && nbf > now_s + leeway)
        return refuse(ret_reason, "not yet valid");
    if (has_iat == TIME_GIVEN && iat > now_s + leeway)
        return refuse(ret_reason, "issued in the future");

    uint64_t expires_at_s = has_exp == TIME_GIVEN ? exp + leeway : UINT64_MAX;
    /* The age of a token that is asked about again and again is its issuer's concern, unless it says when it began. */
    enum sp_auth_verdict verdict = !exp_required && has_iat == TIME_ABSENT
                                       ? SP_AUTH_OK
                                       : check_age(issuer, has_iat == TIME_GIVEN, iat, exp, now_s, &expires_at_s, ret_reason);
    if (verdict != SP_AUTH_OK)
        return verdict;
    if (now_s >= expires_at_s) {
        *ret_reason = has_exp == TIME_GIVEN && now_s >= exp + leeway ? "expired" : "older than max_token_age";
        return SP_AUTH_EXPIRED;
    }
    *ret_expires_at_s = expires_at_s;
    return SP_AUTH_OK;
}

/* ---- Audience: a string, or a list of them ---- */

static bool is_for(const struct sp_issuer_config *issuer, const struct sp_json_value *name) {
    struct sp_span text;
    if (!sp_json_value_text(name, &text))
        return false;
    for (size_t i = 0; i < issuer->audience.count; i++)
        if (sp_span_eq(text, sp_span_text(issuer->audience.item[i])))
            return true;
    return false;
}

static bool is_for_us(const struct sp_issuer_config *issuer, const struct sp_json_value *aud) {
    if (!sp_json_value_is(aud, SP_JSON_ARRAY))
        return is_for(issuer, aud);
    bool found = false;
    sp_json_value_each(item, aud) {
        if (item->kind != SP_JSON_STRING)
            return false;
        found = found || is_for(issuer, item);
    }
    return found;
}

static enum sp_auth_verdict check_claims(const struct sp_issuer_config *issuer, const struct sp_json_value *claims, bool exp_required,
                                         uint64_t now_s, uint64_t *ret_expires_at_s, const char **ret_reason) {
    if (!is_for_us(issuer, sp_json_value_member(claims, SP_SPAN("aud"))))
        return refuse(ret_reason, "audience");
    return check_times(issuer, claims, exp_required, now_s, ret_expires_at_s, ret_reason);
}

enum sp_auth_verdict sp_claims_check(const struct sp_issuer_config *issuer, const struct sp_json_value *claims, uint64_t now_s,
                                     uint64_t *ret_expires_at_s, const char **ret_reason) {
    return check_claims(issuer, claims, true, now_s, ret_expires_at_s, ret_reason);
}

enum sp_auth_verdict sp_claims_check_answer(const struct sp_issuer_config *issuer, const struct sp_json_value *claims, uint64_t now_s,
                                            uint64_t *ret_expires_at_s, const char **ret_reason) {
    return check_claims(issuer, claims, false, now_s, ret_expires_at_s, ret_reason);
}

/* ---- Confirmation ---- */

/* The one method that is known is a certificate's thumbprint; beside it nothing may stand that somebody else might have to check. */
static bool read_confirmation(const struct sp_json_value *cnf, struct sp_principal *like) {
    const struct sp_json_value *thumbprint = sp_json_value_member(cnf, SP_SPAN("x5t#S256"));
    struct sp_span text;
    if (!cnf)
        return true;
    if (!sp_json_value_text(thumbprint, &text) || cnf->size != 1 + thumbprint->size)
        return false;
    like->bound = sp_base64url_decode(text, like->thumbprint, sizeof like->thumbprint) == (ssize_t)sizeof like->thumbprint;
    return like->bound;
}

/* ---- Names: decoding never makes JSON text longer, so what came in one token fits. ---- */

struct names {
    char text[SP_JWT_MAX];
    size_t len;
};

static bool add_name(struct names *names, struct sp_span name, char separator) {
    if (!sp_plain_text(name, sizeof names->text) || name.len + 1 > sizeof names->text - names->len)
        return false;
    memcpy(names->text + names->len, name.at, name.len);
    names->len += name.len;
    names->text[names->len++] = separator;
    return true;
}

static bool is_absent(const struct sp_json_value *value) { return !value || value->kind == SP_JSON_NULL; }

/* A list of role names, or one. Each is followed by a newline, which no name can hold. */
static bool read_roles(const struct sp_json_value *value, struct names *roles) {
    struct sp_span name;
    if (is_absent(value))
        return true;
    if (sp_json_value_text(value, &name))
        return add_name(roles, name, '\n');
    if (value->kind != SP_JSON_ARRAY)
        return false;
    sp_json_value_each(item, value) {
        if (!sp_json_value_text(item, &name) || !add_name(roles, name, '\n'))
            return false;
    }
    return true;
}

/* `scope` as RFC 8693 §4.2 has it, parted by spaces, or a list with one scope in each string. */
static bool read_scopes(const struct sp_json_value *value, struct names *scopes) {
    struct sp_span text, item;
    if (is_absent(value))
        return true;
    if (sp_json_value_text(value, &text)) {
        while (sp_span_split(&text, ' ', &item))
            if (item.len && !add_name(scopes, item, ' '))
                return false;
        return true;
    }
    if (value->kind != SP_JSON_ARRAY)
        return false;
    sp_json_value_each(element, value) {
        if (!sp_json_value_text(element, &item) || memchr(item.at, ' ', item.len) || !add_name(scopes, item, ' '))
            return false;
    }
    return true;
}

enum sp_auth_verdict sp_claims_principal(const struct sp_config *config, const struct sp_issuer_config *issuer,
                                         const struct sp_json_value *claims, struct sp_principal like, struct sp_principal **ret,
                                         const char **ret_reason) {
    static _Thread_local struct names roles, scopes; /* not on the stack, which would be zeroed for each token */
    roles.len = scopes.len = 0;
    if (!sp_json_value_text(find(claims, issuer->claims.subject), &like.subject) || !sp_plain_text(like.subject, SP_CLAIM_TEXT_MAX))
        return refuse(ret_reason, "subject");
    const struct sp_json_value *tenant = find(claims, issuer->claims.tenant);
    if (!is_absent(tenant) && (!sp_json_value_text(tenant, &like.tenant) || !sp_plain_text(like.tenant, SP_CLAIM_TEXT_MAX)))
        return refuse(ret_reason, "tenant");
    if (!read_confirmation(sp_json_value_member(claims, SP_SPAN("cnf")), &like))
        return refuse(ret_reason, "confirmation");
    if (!read_roles(find(claims, issuer->claims.roles), &roles))
        return refuse(ret_reason, "roles");
    if (!read_scopes(find(claims, issuer->claims.scopes), &scopes))
        return refuse(ret_reason, "scopes");

    struct sp_span role_names = sp_span(roles.text, roles.len);
    like.scopes = sp_span(scopes.text, scopes.len ? scopes.len - 1 : 0);
    like.roles = sp_roles_mask(config, role_names);
    if (sp_principal_new(&like, role_names, ret) < 0)
        return refuse(ret_reason, "out of memory");
    return SP_AUTH_OK;
}
