/* Amounts, addresses and ranges as text. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "support.h"

static void durations_have_a_unit(void **state) {
    static const struct {
        const char *text;
        uint64_t ms;
    } right[] = {{"20ms", 20}, {"5s", 5000}, {"10m", 600000}, {"2h", 7200000}, {"7d", 604800000}, {"0s", 0}};
    static const char *const wrong[] = {"", "5", "s", "5 s", "-5s", "1.5s", "5S", "5sec", "5s ", "0x5s"};
    uint64_t ms;
    for (size_t i = 0; i < SP_COUNT(right); i++) {
        assert_int_equal(sp_parse_duration(sp_span_text(right[i].text), &ms), 0);
        assert_int_equal(ms, right[i].ms);
    }
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        assert_int_equal(sp_parse_duration(sp_span_text(wrong[i]), &ms), -EINVAL);
    assert_int_equal(sp_parse_duration(SP_SPAN("99999999999999999999d"), &ms), -ERANGE);
    assert_int_equal(sp_parse_duration(SP_SPAN("9223372036854775807h"), &ms), -ERANGE);
}

static void sizes_have_a_unit(void **state) {
    uint64_t bytes;
    assert_int_equal(sp_parse_size(SP_SPAN("64KiB"), &bytes), 0);
    assert_int_equal(bytes, 65536);
    assert_int_equal(sp_parse_size(SP_SPAN("8MiB"), &bytes), 0);
    assert_int_equal(bytes, 8 << 20);
    assert_int_equal(sp_parse_size(SP_SPAN("0B"), &bytes), 0);
    assert_int_equal(bytes, 0);
    assert_int_equal(sp_parse_size(SP_SPAN("8MB"), &bytes), -EINVAL);
    assert_int_equal(sp_parse_size(SP_SPAN("8"), &bytes), -EINVAL);
    assert_int_equal(sp_parse_size(SP_SPAN("16777216TiB"), &bytes), -ERANGE);
}

static void rates_keep_their_period(void **state) {
    struct sp_rate rate;
    assert_int_equal(sp_parse_rate(SP_SPAN("600/min"), &rate), 0);
    assert_int_equal(rate.amount, 600);
    assert_int_equal(rate.period_us, 60000000);
    assert_int_equal(sp_parse_rate(SP_SPAN("10/s"), &rate), 0);
    assert_int_equal(rate.period_us, 1000000);
    assert_int_equal(sp_parse_rate(SP_SPAN("1000/h"), &rate), 0);
    assert_int_equal(rate.period_us, 3600000000);
    static const char *const wrong[] = {"", "10", "/s", "10/", "10/m", "10 /s", "-1/s", "1.5/s", "10/s/s"};
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        assert_int_equal(sp_parse_rate(sp_span_text(wrong[i]), &rate), -EINVAL);
    assert_int_equal(sp_parse_rate(SP_SPAN("99999999999999999999/s"), &rate), -ERANGE);
}

static void hosts_and_ports_are_parted(void **state) {
    char *host;
    uint16_t port;
    assert_int_equal(sp_parse_host_port(SP_SPAN("gpu-2.internal:8443"), &host, &port), 0);
    assert_string_equal(host, "gpu-2.internal");
    assert_int_equal(port, 8443);
    free(host);
    assert_int_equal(sp_parse_host_port(SP_SPAN("[2001:db8::1]:443"), &host, &port), 0);
    assert_string_equal(host, "2001:db8::1");
    free(host);
    static const char *const wrong[] = {"",       "host",   "host:",   ":80",      "host:0",  "host:65536", "host:080000",
                                        "a:b:80", "::1:80", "[::1]",   "[::1]80",  "[::1",    "[host]:80",  "10.0.0.256:80",
                                        "a..b:1", ".a:1",   "a.:1",    "host:80 ", "ho st:1", "host:+1",    "[::1%lo]:1",
                                        "1.2:80", "[]:80",  "host:80:"};
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        assert_int_equal(sp_parse_host_port(sp_span_text(wrong[i]), &host, &port), -EINVAL);
}

static void address(const char *text, uint8_t ret[16]) {
    struct in_addr v4;
    memset(ret, 0, 16);
    if (inet_pton(AF_INET, text, &v4) == 1) {
        ret[10] = ret[11] = 0xff;
        memcpy(ret + 12, &v4, 4);
        return;
    }
    assert_int_equal(inet_pton(AF_INET6, text, ret), 1);
}

static void ranges_contain_what_they_say(void **state) {
    struct sp_config *config =
        config_of("version: 1\n" LISTENERS "    allow: [10.0.0.0/8, 192.0.2.128/25, 203.0.113.9, \"2001:db8::/33\"]\n"
                  "    deny: [0.0.0.0/0]\n" POOLS ROUTES);
    static const char *const in[] = {"10.0.0.0",    "10.255.255.255", "192.0.2.128",    "192.0.2.255",
                                     "203.0.113.9", "2001:db8::1",    "2001:db8:7fff::"};
    static const char *const out[] = {"9.255.255.255", "11.0.0.0", "192.0.2.127", "203.0.113.8", "2001:db8:8000::", "2001:db7::", "::"};
    uint8_t bytes[16];
    for (size_t i = 0; i < SP_COUNT(in); i++) {
        address(in[i], bytes);
        assert_true(sp_cidrs_contain(&config->listeners[0].allow, bytes));
    }
    for (size_t i = 0; i < SP_COUNT(out); i++) {
        address(out[i], bytes);
        assert_false(sp_cidrs_contain(&config->listeners[0].allow, bytes));
    }
    address("192.0.2.1", bytes);
    assert_true(sp_cidrs_contain(&config->listeners[0].deny, bytes)); /* all of IPv4 */
    address("2001:db8::1", bytes);
    assert_false(sp_cidrs_contain(&config->listeners[0].deny, bytes));
    sp_config_unref(config);
}

static void algorithms_have_their_registered_names(void **state) {
    assert_string_equal(sp_jwt_algorithm_name(SP_ALG_RS256), "RS256");
    assert_string_equal(sp_jwt_algorithm_name(SP_ALG_EDDSA), "EdDSA");
    assert_string_equal(sp_jwt_algorithm_name(SP_ALG_HS256), "HS256");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_have_a_unit),        cmocka_unit_test(sizes_have_a_unit),
        cmocka_unit_test(rates_keep_their_period),      cmocka_unit_test(hosts_and_ports_are_parted),
        cmocka_unit_test(ranges_contain_what_they_say), cmocka_unit_test(algorithms_have_their_registered_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
