/* Any bytes as an introspection answer (RFC 7662): what is accepted must have said so, and is never remembered for longer than it may be.
 */
#include <jansson.h>

#include "known.h"

static void need(bool condition) {
    if (!condition)
        abort();
}

static bool is_plain(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if ((uint8_t)text.at[i] < 0x20 || text.at[i] == 0x7f)
            return false;
    return true;
}

static bool names_us(const json_t *aud) {
    bool found = json_is_string(aud) && strcmp(json_string_value(aud), "inference") == 0;
    size_t i;
    json_t *item;
    json_array_foreach(aud, i, item) { found = found || (json_is_string(item) && strcmp(json_string_value(item), "inference") == 0); }
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_span answer = sp_span((const char *)bytes, len);
    struct sp_principal *principal = NULL;
    const char *reason = NULL;
    enum sp_auth_verdict verdict = sp_introspection_read(known_identity(), 1, answer, KNOWN_NOW, &principal, &reason);
    need((verdict == SP_AUTH_OK) == (principal != NULL) && (principal || reason));
    if (!principal)
        return 0;
    json_t *said = json_loadb(answer.at, answer.len, JSON_REJECT_DUPLICATES, NULL);
    const char *sub = json_string_value(json_object_get(said, "sub"));
    if (!sub)
        sub = json_string_value(json_object_get(said, "client_id"));
    need(json_is_true(json_object_get(said, "active")) && names_us(json_object_get(said, "aud")));
    need(sub && sp_span_eq(principal->subject, sp_span_text(sub)) && principal->subject.len > 0);
    need(is_plain(principal->subject) && is_plain(principal->tenant) && is_plain(principal->scopes) && is_plain(principal->account));
    need(principal->kind == SP_CREDENTIAL_OPAQUE && (principal->roles & ~UINT64_C(3)) == 0);
    need(principal->expires_at_s > KNOWN_NOW && principal->expires_at_s <= KNOWN_NOW + KNOWN_CACHE_S);
    need(!json_object_get(said, "cnf") || principal->bound);
    json_decref(said);
    sp_principal_unref(principal);
    return 0;
}
