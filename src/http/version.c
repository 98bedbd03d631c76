#include "chars.h"
#include "message.h"

static bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

unsigned sp_http_read_version(struct sp_http_reading *reading, struct sp_span text, uint8_t *ret_minor) {
    if (text.len != 8 || memcmp(text.at, "HTTP/", 5) != 0 || !is_digit(text.at[5]) || text.at[6] != '.' || !is_digit(text.at[7]))
        return sp_http_refuse(reading, 400, "The protocol version is malformed.");
    if (text.at[5] != '1' || text.at[7] > '1')
        return sp_http_refuse(reading, 505, "The protocol version is not supported: only HTTP/1.0 and HTTP/1.1 are.");
    *ret_minor = (uint8_t)(text.at[7] - '0');
    return 0;
}
