/* Any text as what a configuration names on a network: a URL, host:port, an address range; and as an amount. What is taken is written out
 * again and must be understood the same: nobody reads two things into one line. */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "syntax.h"

#define TEXT_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void require(bool holds) {
    if (!holds)
        abort();
}

static bool is_within(struct sp_span part, struct sp_span whole) {
    return part.len == 0 || (part.at >= whole.at && part.at + part.len <= whole.at + whole.len);
}

static void require_host(struct sp_span host, bool bracketed) {
    require(sp_is_host(host, bracketed));
    for (size_t i = 0; i < host.len; i++)
        require(host.at[i] > ' ' && host.at[i] < 0x7f && !strchr("/@?#[]%\\", host.at[i]) && (bracketed || host.at[i] != ':'));
}

static int write_authority(char out[TEXT_MAX], const char *before, struct sp_span host, bool bracketed, uint16_t port) {
    char digits[sizeof ":65535"] = "";
    if (port)
        snprintf(digits, sizeof digits, ":%u", port);
    return snprintf(out, TEXT_MAX, "%s%s" SP_SPAN_FMT "%s%s", before, bracketed ? "[" : "", SP_SPAN_ARG(host), bracketed ? "]" : "",
                    digits);
}

static void check_url(struct sp_span text) {
    struct sp_url url, again;
    if (sp_url_parse(text, &url))
        return;
    require(is_within(url.scheme, text) && is_within(url.host, text) && is_within(url.path, text) && url.scheme.len > 0);
    require_host(url.host, url.bracketed);
    require(url.path.len == 0 || url.path.at[0] == '/');
    for (size_t i = 0; i < url.path.len; i++)
        require(url.path.at[i] > ' ' && url.path.at[i] < 0x7f && !strchr("?#\\\"<>", url.path.at[i]));
    char before[TEXT_MAX], out[TEXT_MAX];
    if (text.len > TEXT_MAX / 2)
        return;
    snprintf(before, sizeof before, SP_SPAN_FMT "://", SP_SPAN_ARG(url.scheme));
    int n = write_authority(out, before, url.host, url.bracketed, url.port);
    require(n > 0 && (size_t)n + url.path.len < sizeof out);
    memcpy(out + n, url.path.at ? url.path.at : "", url.path.len);
    require(!sp_url_parse(sp_span(out, (size_t)n + url.path.len), &again));
    require(sp_span_eq(again.scheme, url.scheme) && sp_span_eq(again.host, url.host) && sp_span_eq(again.path, url.path));
    require(again.port == url.port && again.bracketed == url.bracketed);
}

static void check_host_port(struct sp_span text) {
    struct sp_span host, host_again;
    bool bracketed, bracketed_again;
    uint16_t port, port_again, parsed_port = 0;
    char *copy = NULL, out[TEXT_MAX];
    int failed = sp_split_host_port(text, &host, &bracketed, &port);
    require(sp_parse_host_port(text, &copy, &parsed_port) == failed);
    if (failed)
        return;
    require(is_within(host, text) && port > 0 && parsed_port == port && sp_span_eq(sp_span_text(copy), host));
    free(copy);
    require_host(host, bracketed);
    require(!sp_is_loopback(host) || sp_is_literal_or_localhost(host));
    require(!bracketed || sp_is_literal_or_localhost(host));
    int n = write_authority(out, "", host, bracketed, port);
    require(sp_split_host_port(sp_span(out, (size_t)n), &host_again, &bracketed_again, &port_again) == 0);
    require(sp_span_eq(host_again, host) && bracketed_again == bracketed && port_again == port);
}

static void check_range(struct sp_span text) {
    struct sp_cidr range, again;
    char literal[INET6_ADDRSTRLEN], out[INET6_ADDRSTRLEN + 8];
    if (sp_parse_cidr(text, &range) < 0)
        return;
    require(range.prefix <= 128 && sp_cidr_contains(&range, range.address));
    require(inet_ntop(AF_INET6, range.address, literal, sizeof literal) != NULL);
    int n = snprintf(out, sizeof out, "%s/%u", literal, range.prefix);
    require(sp_parse_cidr(sp_span(out, (size_t)n), &again) == 0);
    require(again.prefix == range.prefix && memcmp(again.address, range.address, sizeof range.address) == 0);
    for (unsigned bit = 0; bit < 128; bit++) { /* one bit more or less: outside within the prefix, inside beyond it */
        uint8_t other[16];
        memcpy(other, range.address, sizeof other);
        other[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
        require(sp_cidr_contains(&range, other) == (bit >= range.prefix));
    }
}

static void check_amounts(struct sp_span text) {
    uint64_t amount, again;
    char out[SP_AMOUNT_TEXT];
    struct sp_rate rate;
    if (sp_parse_duration(text, &amount) == 0) {
        sp_duration_text(amount, out);
        require(sp_parse_duration(sp_span_text(out), &again) == 0 && again == amount);
    }
    if (sp_parse_size(text, &amount) == 0) {
        sp_size_text(amount, out);
        require(sp_parse_size(sp_span_text(out), &again) == 0 && again == amount);
    }
    if (sp_parse_rate(text, &rate) == 0)
        require(rate.period_us == 1000000 || rate.period_us == 60000000 || rate.period_us == UINT64_C(3600000000));
    (void)!sp_parse_time(text, &amount);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_span text = sp_span((const char *)bytes, len);
    check_url(text);
    check_host_port(text);
    check_range(text);
    check_amounts(text);
    return 0;
}
