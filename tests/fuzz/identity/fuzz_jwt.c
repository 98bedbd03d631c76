/* Any bytes as a token. Accepted is only what one of the known tokens signed: the private keys are gone. */
#include <openssl/err.h>

#include "known.h"

static bool was_signed(struct sp_span token) {
    const char *end = memrchr(token.at, '.', token.len);
    for (size_t i = 0; end && i < SP_COUNT(known_tokens); i++) {
        const char *known_end = strrchr(known_tokens[i], '.');
        if (sp_span_eq(sp_span(token.at, (size_t)(end - token.at)), sp_span(known_tokens[i], (size_t)(known_end - known_tokens[i]))))
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_identity *identity = known_identity();
    struct sp_span token = sp_span((const char *)bytes, len);
    struct sp_principal *principal = NULL, *again = NULL;
    const char *reason = NULL, *reason_again = NULL;

    enum sp_auth_verdict verdict = sp_jwt_verify(identity, token, KNOWN_NOW, &principal, &reason);
    if (verdict == SP_AUTH_OK && (!was_signed(token) || principal->subject.len == 0 || principal->kind != SP_CREDENTIAL_JWT))
        abort();
    if (verdict != SP_AUTH_OK && (principal || !reason))
        abort();
    if (ERR_peek_error() != 0)
        abort();

    /* As a credential of a request it fares the same. */
    struct sp_credentials fields = {.x_api_key = token};
    struct sp_auth_memory last = {0};
    for (int i = 0; i < 2; i++) {
        enum sp_auth_verdict second =
            sp_identity_authenticate(identity, NULL, &last, &fields, SP_AUTHENTICATE_JWT, KNOWN_NOW, NULL, &again, &reason_again);
        if ((second == SP_AUTH_OK) != (verdict == SP_AUTH_OK))
            abort();
        if (second == SP_AUTH_OK)
            sp_principal_unref(again);
    }
    sp_auth_memory_clear(&last);
    sp_principal_unref(principal);
    return 0;
}
