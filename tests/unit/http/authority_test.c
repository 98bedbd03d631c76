#include "arrival.h"

#include <string.h>

static void hosts_and_ports_are_told_apart(void **state) {
    static const struct {
        const char *text, *host;
        uint16_t port;
    } accepted[] = {
        {"a", "a", 0},
        {"api.example.com", "api.example.com", 0},
        {"api.example.com:443", "api.example.com", 443},
        {"API_1-x.test:1", "API_1-x.test", 1},
        {"127.0.0.1:65535", "127.0.0.1", 65535},
        {"[::1]", "[::1]", 0},
        {"[2001:db8::7]:8443", "[2001:db8::7]", 8443},
        {"[::ffff:192.0.2.1]:80", "[::ffff:192.0.2.1]", 80},
        {"a:00080", "a", 80},
    };
    for (size_t i = 0; i < SP_COUNT(accepted); i++) {
        struct sp_span host;
        uint16_t port;
        assert_true(sp_http_parse_authority(sp_span_text(accepted[i].text), &host, &port));
        assert_span(host, accepted[i].host);
        assert_int_equal(port, accepted[i].port);
    }
}

static void everything_else_is_refused_and_changes_nothing(void **state) {
    static const char *const refused[] = {
        "",        ":",      ":80",     "a:",       "a:0",        "a:65536", "a:99999",     "a:000080", "a:-1",   "a:+1",        "a: 80",
        "a:80 ",   "a:8x",   "a:80:80", " a",       "a ",         "a b",     "a,b",         "a;b",      "user@a", "user:pass@a", "a/b",
        "a?b",     "a#b",    "a\\b",    "a%41",     "a%",         "a\"b",    "a'b",         "a*",       "*",      ".",           "..",
        ".a",      "a.",     "a..b",    "\xc3\xa4", "[",          "]",       "[]",          "[]:80",    "[::1",   "::1",         "[::1]x",
        "[::1]80", "[::1]:", "[::g]",   "[1:2:3]",  "[::1%eth0]", "[v1.a]",  "[127.0.0.1]", "[::1]]",   "a[::1]",
    };
    for (size_t i = 0; i < SP_COUNT(refused); i++) {
        struct sp_span host = SP_SPAN("before");
        uint16_t port = 77;
        if (sp_http_parse_authority(sp_span_text(refused[i]), &host, &port))
            fail_msg("%s was accepted", refused[i]);
        assert_span(host, "before");
        assert_int_equal(port, 77);
    }
}

static void bytes_that_text_cannot_have_are_refused(void **state) {
    struct sp_span host;
    uint16_t port;
    assert_false(sp_http_parse_authority(SP_SPAN("a\0b"), &host, &port));
    assert_false(sp_http_parse_authority(SP_SPAN("[::1\0]"), &host, &port));
    assert_false(sp_http_parse_authority(SP_SPAN("a:8\0"), &host, &port));
    assert_false(sp_http_parse_authority(SP_SPAN("a\n"), &host, &port));
}

static void labels_and_names_have_a_length_that_dns_can_carry(void **state) {
    char text[512];
    struct sp_span host;
    uint16_t port;
    memset(text, 'a', sizeof text);
    assert_true(sp_http_parse_authority(sp_span(text, 63), &host, &port));
    assert_false(sp_http_parse_authority(sp_span(text, 64), &host, &port));
    for (size_t i = 1; i < sizeof text; i += 2)
        text[i] = '.';
    assert_true(sp_http_parse_authority(sp_span(text, 255), &host, &port));
    assert_false(sp_http_parse_authority(sp_span(text, 257), &host, &port));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_and_ports_are_told_apart),
        cmocka_unit_test(everything_else_is_refused_and_changes_nothing),
        cmocka_unit_test(bytes_that_text_cannot_have_are_refused),
        cmocka_unit_test(labels_and_names_have_a_length_that_dns_can_carry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
