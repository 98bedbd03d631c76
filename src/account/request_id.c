/* A request id is 26 characters of Crockford's base 32: 48 bits of Unix milliseconds, then 80 random bits. It sorts by time. */
#include <sallyport/account.h>

static const char digits[32] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void sp_request_id_make(uint64_t wall_ms, char out[SP_REQUEST_ID_LEN + 1]) {
    uint64_t high = sp_random_u64_fast(), low = sp_random_u64_fast();
    for (int i = 9; i >= 0; i--, wall_ms >>= 5)
        out[i] = digits[wall_ms & 31];
    for (int i = 17; i >= 10; i--, high >>= 5)
        out[i] = digits[high & 31];
    for (int i = 25; i >= 18; i--, low >>= 5)
        out[i] = digits[low & 31];
    out[SP_REQUEST_ID_LEN] = '\0';
}

static bool sane(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == ':';
}

bool sp_request_id_sane(struct sp_span text) {
    if (text.len == 0 || text.len > SP_REQUEST_ID_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (!sane((unsigned char)text.at[i]))
            return false;
    return true;
}
