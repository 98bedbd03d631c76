/* A header and claims, parted by the first newline, signed with a secret the issuer shares: everything behind the signature. */
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "known.h"

static void need(bool condition) {
    if (!condition)
        abort();
}

static bool names_us(const json_t *aud) {
    if (json_is_string(aud))
        return strcmp(json_string_value(aud), "inference") == 0;
    size_t i;
    json_t *item;
    json_array_foreach(aud, i, item) {
        if (json_is_string(item) && strcmp(json_string_value(item), "inference") == 0)
            return true;
    }
    return false;
}

static bool has_control_bytes(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if ((uint8_t)text.at[i] < 0x20 || text.at[i] == 0x7f)
            return true;
    return false;
}

/* What an accepted token must have said, read again by simpler means. */
static void check_accepted(struct sp_span header_text, struct sp_span claims_text, const struct sp_principal *principal) {
    json_t *header = json_loadb(header_text.at, header_text.len, JSON_REJECT_DUPLICATES, NULL);
    json_t *claims = json_loadb(claims_text.at, claims_text.len, JSON_REJECT_DUPLICATES, NULL);
    need(header && claims);
    const char *alg = json_string_value(json_object_get(header, "alg")), *iss = json_string_value(json_object_get(claims, "iss"));
    const char *sub = json_string_value(json_object_get(claims, "sub"));
    need(alg && strcmp(alg, "HS256") == 0 && iss && strcmp(iss, KNOWN_SECRET_ISSUER) == 0);
    need(!json_object_get(header, "crit") && !json_object_get(header, "b64"));
    need(names_us(json_object_get(claims, "aud")));
    need(json_number_value(json_object_get(claims, "exp")) > (double)(KNOWN_NOW - 61));
    need(json_number_value(json_object_get(claims, "nbf")) < (double)(KNOWN_NOW + 61));
    need(json_number_value(json_object_get(claims, "iat")) < (double)(KNOWN_NOW + 61));
    need(sub && sp_span_eq(principal->subject, sp_span_text(sub)) && principal->subject.len > 0);
    need(!has_control_bytes(principal->subject) && !has_control_bytes(principal->tenant) && !has_control_bytes(principal->scopes));
    need((principal->roles & ~UINT64_C(3)) == 0);
    need(principal->expires_at_s > KNOWN_NOW && principal->expires_at_s <= KNOWN_NOW + 60 + 86400 + 60);
    json_decref(header);
    json_decref(claims);
}

/* out has room for it. Returns its length. */
static size_t sign(struct sp_span header, struct sp_span claims, char *out) {
    uint8_t mac[32];
    unsigned mac_len = sizeof mac;
    size_t len = sp_base64url(header.at, header.len, out);
    out[len++] = '.';
    len += sp_base64url(claims.at, claims.len, out + len);
    if (!HMAC(EVP_sha256(), KNOWN_SECRET, sizeof KNOWN_SECRET - 1, (const uint8_t *)out, len, mac, &mac_len))
        abort();
    out[len++] = '.';
    return len + sp_base64url(mac, mac_len, out + len);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    static char out[16384];
    const uint8_t *newline = len ? memchr(bytes, '\n', len) : NULL;
    if (!newline || len > 8192)
        return 0;
    struct sp_span header = sp_span((const char *)bytes, (size_t)(newline - bytes));
    struct sp_span claims = sp_span((const char *)newline + 1, len - header.len - 1);
    size_t token_len = sign(header, claims, out);
    char *exact = malloc(token_len);
    need(exact != NULL);
    memcpy(exact, out, token_len);

    struct sp_principal *principal = NULL;
    const char *reason = NULL;
    enum sp_auth_verdict verdict = sp_jwt_verify(known_identity(), sp_span(exact, token_len), KNOWN_NOW, &principal, &reason);
    if (verdict == SP_AUTH_OK)
        check_accepted(header, claims, principal);
    else
        need(!principal && reason);
    sp_principal_unref(principal);
    free(exact);
    return 0;
}
