/* Hosts, ports, address ranges, URLs. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "syntax.h"

#define HOST_MAX 253 /* RFC 1035 §2.3.4, as text */

static bool parse_literal(int family, struct sp_span text, void *ret) {
    char copy[INET6_ADDRSTRLEN];
    if (text.len == 0 || text.len >= sizeof copy)
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    return strlen(copy) == text.len && inet_pton(family, copy, ret) == 1;
}

static bool is_ipv4(struct sp_span text) {
    uint8_t address[4];
    return parse_literal(AF_INET, text, address);
}

static bool is_label_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool sp_is_host(struct sp_span host, bool bracketed) {
    uint8_t address[16];
    if (bracketed)
        return parse_literal(AF_INET6, host, address);
    if (host.len == 0 || host.len > HOST_MAX)
        return false;
    bool has_letter = false;
    size_t label = 0;
    for (size_t i = 0; i < host.len; i++) {
        char c = host.at[i];
        if (c == '.' ? label == 0 : !is_label_char(c) || ++label > 63)
            return false;
        if (c == '.')
            label = 0;
        has_letter |= c != '.' && (c < '0' || c > '9');
    }
    /* Digits and dots alone can only be meant as an address: 10.0.0 or 10.0.0.256 is a slip, not a name. */
    return label > 0 && (has_letter || is_ipv4(host));
}

bool sp_is_literal_or_localhost(struct sp_span host) {
    uint8_t address[16];
    return is_ipv4(host) || parse_literal(AF_INET6, host, address) || sp_span_eq_nocase(host, SP_SPAN("localhost"));
}

bool sp_is_loopback(struct sp_span host) {
    uint8_t address[16];
    if (parse_literal(AF_INET, host, address))
        return address[0] == 127;
    if (parse_literal(AF_INET6, host, address))
        return memcmp(address, &in6addr_loopback, sizeof address) == 0;
    return sp_span_eq_nocase(host, SP_SPAN("localhost"));
}

static bool parse_port(struct sp_span digits, uint16_t *ret) {
    uint64_t port;
    if (digits.len > 5 || !sp_span_u64(digits, &port) || port == 0 || port > UINT16_MAX)
        return false;
    *ret = (uint16_t)port;
    return true;
}

/* "host", "host:port", "[v6]", "[v6]:port"; port 0: not said. */
static int split_authority(struct sp_span text, struct sp_span *ret_host, bool *ret_bracketed, uint16_t *ret_port) {
    bool bracketed = text.len > 0 && text.at[0] == '[';
    char last = bracketed ? ']' : ':';
    const char *end = text.len ? memchr(text.at, last, text.len) : NULL;
    if (bracketed && !end)
        return -EINVAL;
    size_t host_end = end ? (size_t)(end - text.at) : text.len;
    struct sp_span host = bracketed ? sp_span(text.at + 1, host_end - 1) : sp_span(text.at, host_end);
    struct sp_span rest = sp_span_from(text, host_end + bracketed);
    uint16_t port = 0;
    if (!sp_is_host(host, bracketed))
        return -EINVAL;
    if (rest.len > 0 && (rest.at[0] != ':' || !parse_port(sp_span_from(rest, 1), &port)))
        return -EINVAL;
    *ret_host = host;
    *ret_bracketed = bracketed;
    *ret_port = port;
    return 0;
}

int sp_split_host_port(struct sp_span text, struct sp_span *ret_host, bool *ret_bracketed, uint16_t *ret_port) {
    struct sp_span host;
    bool bracketed;
    uint16_t port;
    if (split_authority(text, &host, &bracketed, &port) < 0 || port == 0)
        return -EINVAL;
    *ret_host = host;
    *ret_bracketed = bracketed;
    *ret_port = port;
    return 0;
}

int sp_parse_host_port(struct sp_span text, char **ret_host, uint16_t *ret_port) {
    struct sp_span host;
    bool bracketed;
    uint16_t port;
    int failed = sp_split_host_port(text, &host, &bracketed, &port);
    if (failed)
        return failed;
    char *copy = sp_span_dup(host);
    if (!copy)
        return -ENOMEM;
    *ret_host = copy;
    *ret_port = port;
    return 0;
}

/* RFC 3986 §3.1 */
static bool is_scheme(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i], lower = (char)(c | 0x20);
        bool letter = lower >= 'a' && lower <= 'z', other = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if (!letter && (i == 0 || !other))
            return false;
    }
    return text.len > 0;
}

const char *sp_url_parse(struct sp_span text, struct sp_url *ret) {
    static const char separator[] = "://";
    const char *found = text.len ? memmem(text.at, text.len, separator, sizeof separator - 1) : NULL;
    if (!found || !is_scheme(sp_span(text.at, (size_t)(found - text.at))))
        return "expected a URL such as http://10.0.0.11:8000";
    struct sp_url url = {.scheme = sp_span(text.at, (size_t)(found - text.at))};
    struct sp_span rest = sp_span_from(text, url.scheme.len + sizeof separator - 1);
    for (size_t i = 0; i < rest.len; i++)
        if (rest.at[i] <= ' ' || rest.at[i] >= 0x7f || strchr("\"<>\\^`{|}", rest.at[i]))
            return "a URL holds no blanks, quotes, braces or non-ASCII characters";
    const char *slash = rest.len ? memchr(rest.at, '/', rest.len) : NULL;
    struct sp_span authority = slash ? sp_span(rest.at, (size_t)(slash - rest.at)) : rest;
    url.path = sp_span_from(rest, authority.len);
    if (authority.len && memchr(authority.at, '@', authority.len))
        return "names and passwords do not belong in the URL; take them out";
    if (rest.len && (memchr(rest.at, '?', rest.len) || memchr(rest.at, '#', rest.len)))
        return "take the query (?) or fragment (#) off the URL";
    if (split_authority(authority, &url.host, &url.bracketed, &url.port) < 0)
        return "expected a host name or an address after ://, and maybe a port from 1 to 65535; IPv6 addresses stand in brackets";
    *ret = url;
    return NULL;
}

/* ---- Address ranges ---- */

static void map_ipv4(const uint8_t v4[4], uint8_t ret[16]) {
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff}; /* RFC 4291 §2.5.5.2 */
    memcpy(ret, prefix, sizeof prefix);
    memcpy(ret + sizeof prefix, v4, 4);
}

static bool has_bits_beyond(const uint8_t address[16], unsigned prefix) {
    for (unsigned bit = prefix; bit < 128; bit++)
        if (address[bit / 8] & (0x80u >> bit % 8))
            return true;
    return false;
}

int sp_parse_cidr(struct sp_span text, struct sp_cidr *ret) {
    const char *slash = text.len ? memchr(text.at, '/', text.len) : NULL;
    struct sp_span literal = slash ? sp_span(text.at, (size_t)(slash - text.at)) : text;
    struct sp_cidr range = {0};
    uint8_t v4[4];
    unsigned offset = 0;
    if (parse_literal(AF_INET, literal, v4)) {
        map_ipv4(v4, range.address);
        offset = 96;
    } else if (!parse_literal(AF_INET6, literal, range.address)) {
        return -EINVAL;
    }
    uint64_t prefix = 128 - offset;
    if (slash && (!sp_span_u64(sp_span_from(text, literal.len + 1), &prefix) || prefix > 128 - offset))
        return -EINVAL;
    range.prefix = (uint8_t)(prefix + offset);
    if (has_bits_beyond(range.address, range.prefix))
        return -EINVAL;
    *ret = range;
    return 0;
}

bool sp_cidr_contains(const struct sp_cidr *range, const uint8_t address[16]) {
    unsigned whole = range->prefix / 8, rest = range->prefix % 8;
    if (memcmp(range->address, address, whole) != 0)
        return false;
    return rest == 0 || ((range->address[whole] ^ address[whole]) & (0xff00u >> rest) & 0xff) == 0;
}

bool sp_cidrs_contain(const struct sp_cidrs *ranges, const uint8_t address[16]) {
    for (size_t i = 0; i < ranges->count; i++)
        if (sp_cidr_contains(&ranges->item[i], address))
            return true;
    return false;
}
