#include <sallyport/http.h>

#include <arpa/inet.h>

#include "chars.h"

#define HOST_MAX  255
#define LABEL_MAX 63

/* Labels parted by single dots. Stricter than RFC 3986's reg-name, which also has room for commas, quotes and percent-encoding: none of
 * them is in any name that resolves, and each has been used to make two readers see two hosts. */
static bool is_name(struct sp_span text) {
    if (text.len == 0 || text.len > HOST_MAX)
        return false;
    size_t label = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (!sp_char_is(text.at[i], SP_CHAR_HOST))
            return false;
        if (text.at[i] != '.')
            label++;
        else if (label == 0)
            return false;
        else
            label = 0;
        if (label > LABEL_MAX)
            return false;
    }
    return label > 0;
}

/* Without brackets; no zone. */
static bool is_ipv6(struct sp_span text) {
    char literal[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (text.len == 0 || text.len >= sizeof literal || memchr(text.at, 0, text.len))
        return false;
    memcpy(literal, text.at, text.len);
    literal[text.len] = 0;
    return inet_pton(AF_INET6, literal, &address) == 1;
}

static bool read_port(struct sp_span digits, uint16_t *ret) {
    uint64_t port;
    if (digits.len > 5 || !sp_span_u64(digits, &port) || port == 0 || port > UINT16_MAX)
        return false;
    *ret = (uint16_t)port;
    return true;
}

bool sp_http_parse_authority(struct sp_span text, struct sp_span *ret_host, uint16_t *ret_port) {
    size_t host_len = 0;
    if (text.len > 0 && text.at[0] == '[') {
        const char *close = memchr(text.at, ']', text.len);
        if (!close || !is_ipv6(sp_span(text.at + 1, (size_t)(close - text.at) - 1)))
            return false;
        host_len = (size_t)(close - text.at) + 1;
    } else {
        const char *colon = text.len ? memchr(text.at, ':', text.len) : NULL;
        host_len = colon ? (size_t)(colon - text.at) : text.len;
        if (!is_name(sp_span(text.at, host_len)))
            return false;
    }
    uint16_t port = 0;
    if (host_len < text.len && (text.at[host_len] != ':' || !read_port(sp_span_from(text, host_len + 1), &port)))
        return false;
    *ret_host = sp_span(text.at, host_len);
    *ret_port = port;
    return true;
}
