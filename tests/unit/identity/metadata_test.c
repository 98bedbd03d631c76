/* An authorization server's metadata: where it is, and what is believed of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "forge.h"

#define ABOUT(issuer, uri) "{\"issuer\":\"" issuer "\",\"jwks_uri\":\"" uri "\"}"

static void finds(const char *document, const char *expected) {
    char *error = NULL, *uri = NULL;
    int r = sp_metadata_jwks_uri(sp_span_text(document), SP_SPAN(ISSUER), &error, &uri);
    if (r < 0)
        fail_msg("%s", error);
    assert_string_equal(uri, expected);
    free(uri);
}

static void refuses(const char *document, const char *words) {
    char *error = NULL, *uri = NULL;
    assert_int_equal(sp_metadata_jwks_uri(sp_span_text(document), SP_SPAN(ISSUER), &error, &uri), -EINVAL);
    assert_null(uri);
    if (!strstr(error, words))
        fail_msg("%s: %s", document, error);
    free(error);
}

static void where_the_keys_are_is_taken_from_it(void **state) {
    finds(ABOUT(ISSUER, "https://keys.test/k"), "https://keys.test/k");
    finds(ABOUT(ISSUER, "https://keys.test/k?policy=b2c_1"), "https://keys.test/k?policy=b2c_1");
    finds("{\"x\":[1,{}],\"jwks_uri\":\"http://127.0.0.1:8080/k\",\"issuer\":\"" ISSUER "\"}", "http://127.0.0.1:8080/k");
}

static void another_issuers_metadata_is_refused_to_the_letter(void **state) {
    refuses(ABOUT(ISSUER "/", "https://keys.test/k"), "another issuer's");
    refuses(ABOUT("https://ISSUER.test", "https://keys.test/k"), "another issuer's");
    refuses(ABOUT("", "https://keys.test/k"), "names no issuer");
    refuses("{\"jwks_uri\":\"https://keys.test/k\"}", "names no issuer");
    refuses("{\"issuer\":\"" ISSUER "\",\"issuer\":\"" ISSUER "\",\"jwks_uri\":\"https://keys.test/k\"}", "duplicate");
}

static void keys_come_only_from_where_nobody_can_meddle(void **state) {
    refuses(ABOUT(ISSUER, "http://keys.test/k"), "may not be asked");
    refuses(ABOUT(ISSUER, "http://127.0.0.1.keys.test/k"), "may not be asked");
    refuses(ABOUT(ISSUER, "file:///etc/passwd"), "may not be asked");
    refuses(ABOUT(ISSUER, "https://user:word@keys.test/k"), "may not be asked");
    refuses(ABOUT(ISSUER, "https://keys.test/k#x"), "may not be asked");
    refuses(ABOUT(ISSUER, "https://keys.test/\\u000d\\u000aHost: x"), "no jwks_uri");
    refuses(ABOUT(ISSUER, "/k"), "may not be asked");
    refuses("{\"issuer\":\"" ISSUER "\"}", "no jwks_uri");
    refuses("{\"issuer\":\"" ISSUER "\",\"jwks_uri\":[\"https://keys.test/k\"]}", "no jwks_uri");
}

static void what_is_no_metadata_is_refused(void **state) {
    refuses("", "not a JSON object");
    refuses("[]", "not a JSON object");
    refuses("<html>", "not a JSON object");
    char *long_one = text("{\"issuer\":\"" ISSUER "\",\"jwks_uri\":\"https://keys.test/k\"%*s}", SP_METADATA_MAX, "");
    refuses(long_one, "longer than 64 KiB");
    free(long_one);
}

static void metadata_is_looked_for_where_the_standards_put_it(void **state) {
    static const struct {
        const char *issuer, *openid, *oauth;
    } cases[] = {
        {"https://a.test", "https://a.test/.well-known/openid-configuration", "https://a.test/.well-known/oauth-authorization-server"},
        {"https://a.test/", "https://a.test/.well-known/openid-configuration", "https://a.test/.well-known/oauth-authorization-server"},
        {"https://a.test:8443/x/y", "https://a.test:8443/x/y/.well-known/openid-configuration",
         "https://a.test:8443/.well-known/oauth-authorization-server/x/y"},
        {"https://a.test/x/", "https://a.test/x/.well-known/openid-configuration",
         "https://a.test/.well-known/oauth-authorization-server/x"},
        {"http://[::1]:1", "http://[::1]:1/.well-known/openid-configuration", "http://[::1]:1/.well-known/oauth-authorization-server"},
    };
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        char *openid = sp_metadata_url(sp_span_text(cases[i].issuer), SP_METADATA_OPENID);
        char *oauth = sp_metadata_url(sp_span_text(cases[i].issuer), SP_METADATA_OAUTH);
        assert_string_equal(openid, cases[i].openid);
        assert_string_equal(oauth, cases[i].oauth);
        free(openid);
        free(oauth);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_the_keys_are_is_taken_from_it),
        cmocka_unit_test(another_issuers_metadata_is_refused_to_the_letter),
        cmocka_unit_test(keys_come_only_from_where_nobody_can_meddle),
        cmocka_unit_test(what_is_no_metadata_is_refused),
        cmocka_unit_test(metadata_is_looked_for_where_the_standards_put_it),
    };
    return cmocka_run_group_tests_name("identity: metadata", tests, NULL, NULL);
}
