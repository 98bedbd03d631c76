/* W3C Trace Context, §3.2: version "-" trace-id "-" parent-id "-" flags, lower-case hex. */
#include <sallyport/account.h>

#define TRACE_AT     3
#define TRACE_LEN    32
#define PARENT_AT    36
#define PARENT_LEN   16
#define FLAGS_AT     53
#define FLAG_SAMPLED 0x01

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Lower-case hex that is not all zeros; all zeros is what the specification calls an invalid id. */
static bool valid_id(const char *at, size_t len) {
    int seen = 0;
    for (size_t i = 0; i < len; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return false;
        seen |= digit;
    }
    return seen != 0;
}

static int hex_byte(const char *at) {
    int high = hex_digit(at[0]), low = hex_digit(at[1]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* A later version may say more after the flags, parted by "-"; what version 00 says of the first 55 bytes holds for it too (§3.2.4). */
static bool valid_parent(struct sp_span text, bool *ret_sampled) {
    if (text.len < SP_TRACEPARENT_LEN || text.at[2] != '-' || text.at[35] != '-' || text.at[52] != '-')
        return false;
    int version = hex_byte(text.at), flags = hex_byte(text.at + FLAGS_AT);
    if (version < 0 || version == 0xff || flags < 0)
        return false;
    if (text.len > SP_TRACEPARENT_LEN && (version == 0 || text.at[SP_TRACEPARENT_LEN] != '-'))
        return false;
    if (!valid_id(text.at + TRACE_AT, TRACE_LEN) || !valid_id(text.at + PARENT_AT, PARENT_LEN))
        return false;
    *ret_sampled = (flags & FLAG_SAMPLED) != 0;
    return true;
}

void sp_traceparent(struct sp_span incoming, char out[SP_TRACEPARENT_LEN + 1]) {
    bool sampled = false;                     /* a trace that begins here is not recorded here, and that is what the flag says */
    uint64_t span = sp_random_u64_fast() | 1; /* never zero */
    if (valid_parent(incoming, &sampled)) {
        memcpy(out + TRACE_AT, incoming.at + TRACE_AT, TRACE_LEN);
    } else {
        uint64_t trace[2] = {sp_random_u64_fast() | 1, sp_random_u64_fast()};
        sp_hex(trace, sizeof trace, out + TRACE_AT);
    }
    memcpy(out, "00-", 3);
    out[35] = '-';
    sp_hex(&span, sizeof span, out + PARENT_AT);
    memcpy(out + 52, sampled ? "-01" : "-00", 3);
    out[SP_TRACEPARENT_LEN] = '\0';
}
