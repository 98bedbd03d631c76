/* The header of the PROXY protocol, version 2: twelve bytes that nobody else begins with, command, family, length, addresses, extensions.
 * Version 1, which is text, is not spoken: its end cannot be found without reading too far. */
#include <sallyport/net.h>

#define FIXED_LEN   16 /* up to and with the length of what follows */
#define CRC32C_TYPE 0x03
#define CRC32C_LEN  4

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

/* What stands at 12 and 13: version 2 with its command; family with its transport. */
enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21 };
enum { OVER_TCP4 = 0x11, OVER_TCP6 = 0x21 };

static unsigned number16(const uint8_t *at) { return (unsigned)at[0] << 8 | at[1]; }

/* ---- Extensions: type, length, value, over and over ---- */

/* Castagnoli's polynomial, reflected (RFC 3720 appendix B.4); headers are short and new connections rare enough to go bit by bit. */
static uint32_t crc32c(uint32_t sum, uint8_t byte) {
    sum ^= byte;
    for (int bit = 0; bit < 8; bit++)
        sum = sum >> 1 ^ (0x82f63b78u & -(sum & 1));
    return sum;
}

/* Over the whole header, in which the sum itself counts as zero. */
static bool sum_fits(const uint8_t *header, size_t len, size_t sum_at) {
    uint32_t sum = UINT32_MAX, stated = 0;
    for (size_t i = 0; i < len; i++) {
        bool own = i >= sum_at && i < sum_at + CRC32C_LEN;
        sum = crc32c(sum, own ? 0 : header[i]);
        stated = own ? stated << 8 | header[i] : stated;
    }
    return (sum ^ UINT32_MAX) == stated;
}

/* NULL, or what is wrong. */
static const char *check_extensions(const uint8_t *header, size_t begin, size_t len) {
    bool summed = false;
    size_t at = begin;
    while (at < len) {
        if (len - at < 3 || number16(header + at + 1) > len - at - 3)
            return "an extension of the PROXY header is longer than the header";
        size_t value = at + 3, value_len = number16(header + at + 1);
        if (header[at] == CRC32C_TYPE) {
            if (summed || value_len != CRC32C_LEN || !sum_fits(header, len, value))
                return "the checksum of the PROXY header is wrong";
            summed = true;
        }
        at = value + value_len;
    }
    return NULL;
}

/* ---- The header ---- */

static enum sp_proxy_verdict refuse(const char **ret_why, const char *why) {
    *ret_why = why;
    return SP_PROXY_REFUSED;
}

static enum sp_proxy_verdict read_client(const uint8_t *header, size_t len, struct sp_address *ret, const char **ret_why) {
    bool v4 = header[13] == OVER_TCP4;
    if (!v4 && header[13] != OVER_TCP6)
        return refuse(ret_why, "the PROXY header is not about a TCP connection over IPv4 or IPv6");
    size_t address_len = v4 ? 4 : 16, begin = FIXED_LEN + 2 * address_len + 4;
    if (len < begin)
        return refuse(ret_why, "the PROXY header is too short for its addresses");
    const char *problem = check_extensions(header, begin, len);
    if (problem)
        return refuse(ret_why, problem);
    struct sp_address client = {.port = (uint16_t)number16(header + FIXED_LEN + 2 * address_len)};
    if (v4)
        client.bytes[10] = client.bytes[11] = 0xff;
    memcpy(client.bytes + 16 - address_len, header + FIXED_LEN, address_len);
    *ret = client;
    return SP_PROXY_CLIENT;
}

enum sp_proxy_verdict sp_proxy_parse(struct sp_span bytes, size_t *ret_len, struct sp_address *ret_client, const char **ret_why) {
    const uint8_t *header = (const uint8_t *)bytes.at;
    size_t known = sp_min(bytes.len, sizeof signature);
    if (known > 0 && memcmp(header, signature, known) != 0)
        return refuse(ret_why, "the connection does not begin with a PROXY header of version 2");
    *ret_len = FIXED_LEN;
    if (bytes.len < FIXED_LEN)
        return SP_PROXY_MORE;
    if (header[12] != COMMAND_LOCAL && header[12] != COMMAND_PROXY)
        return refuse(ret_why, "the PROXY header has an unknown version or command");
    size_t len = FIXED_LEN + number16(header + 14);
    if (len > SP_PROXY_HEADER_MAX)
        return refuse(ret_why, "the PROXY header is longer than 536 bytes");
    *ret_len = len;
    if (bytes.len < len)
        return SP_PROXY_MORE;
    if (header[12] == COMMAND_LOCAL)
        return SP_PROXY_LOCAL; /* §2.2: whatever follows is to be discarded */
    return read_client(header, len, ret_client, ret_why);
}
