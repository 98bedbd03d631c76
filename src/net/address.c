/* Addresses: one form for both families, so that counting, matching and printing have one case. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include <sallyport/net.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_mapped(const uint8_t bytes[16]) { return memcmp(bytes, mapped_prefix, sizeof mapped_prefix) == 0; }

void sp_address_from_sockaddr(const struct sockaddr *sockaddr, struct sp_address *ret) {
    *ret = (struct sp_address){0};
    if (sockaddr->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)sockaddr;
        memcpy(ret->bytes, mapped_prefix, sizeof mapped_prefix);
        memcpy(ret->bytes + sizeof mapped_prefix, &v4->sin_addr, 4);
        ret->port = ntohs(v4->sin_port);
    } else if (sockaddr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)sockaddr;
        memcpy(ret->bytes, &v6->sin6_addr, 16);
        ret->port = ntohs(v6->sin6_port);
    }
}

socklen_t sp_address_to_sockaddr(const struct sp_address *address, struct sockaddr_storage *ret) {
    *ret = (struct sockaddr_storage){0};
    if (is_mapped(address->bytes)) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(address->port);
        memcpy(&v4->sin_addr, address->bytes + sizeof mapped_prefix, 4);
        return sizeof *v4;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(address->port);
    memcpy(&v6->sin6_addr, address->bytes, 16);
    return sizeof *v6;
}

size_t sp_address_text(const uint8_t bytes[16], char out[SP_ADDRESS_TEXT_MAX]) {
    const char *text = is_mapped(bytes) ? inet_ntop(AF_INET, bytes + sizeof mapped_prefix, out, SP_ADDRESS_TEXT_MAX)
                                        : inet_ntop(AF_INET6, bytes, out, SP_ADDRESS_TEXT_MAX);
    if (!text)
        out[0] = '\0'; /* cannot happen: the buffer holds the longest form */
    return strlen(out);
}

bool sp_address_parse(struct sp_span text, uint8_t ret[16]) {
    char literal[SP_ADDRESS_TEXT_MAX];
    if (text.len == 0 || text.len >= sizeof literal || memchr(text.at, '\0', text.len))
        return false;
    memcpy(literal, text.at, text.len);
    literal[text.len] = '\0';
    uint8_t bytes[16];
    memcpy(bytes, mapped_prefix, sizeof mapped_prefix);
    if (inet_pton(AF_INET, literal, bytes + sizeof mapped_prefix) != 1 && inet_pton(AF_INET6, literal, bytes) != 1)
        return false;
    memcpy(ret, bytes, sizeof bytes);
    return true;
}

bool sp_address_parse_host(struct sp_span host, uint8_t ret[16]) {
    return sp_address_parse(sp_span_eq_nocase(host, SP_SPAN("localhost")) ? SP_SPAN("127.0.0.1") : host, ret);
}
