#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "expect.h"

struct sp_config *config;
struct sp_identity *identity;

int begin_test(void **state) {
    config = standard_config();
    identity = identity_of(config);
    return 0;
}

int end_test(void **state) {
    sp_identity_unref(identity);
    free_config(config);
    return 0;
}

enum sp_auth_verdict verify_at(struct sp_identity *by, const char *token_text, uint64_t now_s, struct sp_principal **ret,
                               const char **ret_reason) {
    *ret = NULL;
    *ret_reason = NULL;
    return sp_jwt_verify(by, sp_span_text(token_text), now_s, ret, ret_reason);
}

/* Frees the token. */
struct sp_principal *accepted(char *token_text) {
    struct sp_principal *principal;
    const char *reason;
    if (verify_at(identity, token_text, NOW, &principal, &reason) != SP_AUTH_OK)
        fail_msg("refused: %s", reason);
    free(token_text);
    return principal;
}

void refused_at(char *token_text, uint64_t now_s, enum sp_auth_verdict verdict, const char *expected) {
    struct sp_principal *principal;
    const char *reason;
    assert_int_equal(verify_at(identity, token_text, now_s, &principal, &reason), verdict);
    assert_null(principal);
    assert_string_equal(reason, expected);
    free(token_text);
}

void refused(char *token_text, const char *reason) { refused_at(token_text, NOW, SP_AUTH_INVALID, reason); }

char *es256(const char *claims) { return token("ES256", keys()->p256, "{\"alg\":\"ES256\",\"kid\":\"p256\"}", claims); }

/* Claims with the usual ones and `more`, which begins with a comma. */
char *es256_with(const char *more) {
    char *claims = text("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\"," GOOD_TIMES "%s}", more);
    char *made = es256(claims);
    free(claims);
    return made;
}

char *es256_times(const char *times) {
    char *claims = text("{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\"%s}", times);
    char *made = es256(claims);
    free(claims);
    return made;
}

char *es256_header(const char *header) { return token("ES256", keys()->p256, header, GOOD_CLAIMS); }

void assert_span(struct sp_span span, const char *expected) {
    if (!sp_span_eq(span, sp_span_text(expected)))
        fail_msg("\"" SP_SPAN_FMT "\" is not \"%s\"", SP_SPAN_ARG(span), expected);
}
