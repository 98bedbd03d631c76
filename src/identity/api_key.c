/* API keys as text: making them, and telling a well-formed one from anything else before any lookup. */
#include "algorithm.h"

#include <errno.h>
#include <sallyport/identity.h>

#define ID_LEN       8
#define SECRET_LEN   43 /* base64url of 256 bits */
#define CHECKSUM_LEN 6
#define ID_AT        3
#define SECRET_AT    (ID_AT + ID_LEN + 1)
#define CHECKSUM_AT  (SECRET_AT + SECRET_LEN)

_Static_assert(CHECKSUM_AT + CHECKSUM_LEN == SP_API_KEY_LEN, "the layout is the contract's");

static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* CRC-32 as in zlib and Ethernet (reflected 0xEDB88320), four bits at a time. */
static uint32_t crc32(struct sp_span text) {
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                       0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < text.len; i++) {
        crc ^= (uint8_t)text.at[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

static void write_checksum(struct sp_span over, char out[CHECKSUM_LEN]) {
    uint32_t crc = crc32(over);
    for (size_t i = CHECKSUM_LEN; i-- > 0; crc /= 62)
        out[i] = base62[crc % 62];
}

static bool is_base62(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

static void random_id(char out[ID_LEN]) {
    for (size_t i = 0; i < ID_LEN;) {
        uint8_t byte;
        sp_random(&byte, sizeof byte);
        if (byte < 62 * 4) /* the rest would favour the first digits */
            out[i++] = base62[byte % 62];
    }
}

int sp_api_key_generate(struct sp_api_key_text *ret) {
    struct sp_api_key_text made = {.text = "sp_"};
    uint8_t secret[32];

    random_id(made.id);
    memcpy(made.text + ID_AT, made.id, ID_LEN);
    made.text[SECRET_AT - 1] = '_';
    sp_random(secret, sizeof secret);
    sp_base64url(secret, sizeof secret, made.text + SECRET_AT);
    sp_wipe(secret, sizeof secret);
    write_checksum(sp_span(made.text, CHECKSUM_AT), made.text + CHECKSUM_AT);

    uint8_t digest[SP_DIGEST_MAX];
    bool hashed = sp_digest(SP_SHA256, sp_span(made.text + SECRET_AT, SECRET_LEN), digest);
    if (hashed) {
        memcpy(made.digest, digest, sizeof made.digest);
        *ret = made;
    }
    sp_wipe(&made, sizeof made);
    return hashed ? 0 : -ENOMEM;
}

bool sp_api_key_parse(struct sp_span text, char ret_id[8 + 1], uint8_t ret_digest[32]) {
    if (text.len != SP_API_KEY_LEN || !sp_span_starts(text, SP_SPAN("sp_")) || text.at[SECRET_AT - 1] != '_')
        return false;
    for (size_t i = ID_AT; i < ID_AT + ID_LEN; i++)
        if (!is_base62(text.at[i]))
            return false;

    char checksum[CHECKSUM_LEN];
    write_checksum(sp_span(text.at, CHECKSUM_AT), checksum);
    if (memcmp(checksum, text.at + CHECKSUM_AT, CHECKSUM_LEN) != 0)
        return false;

    struct sp_span secret = sp_span(text.at + SECRET_AT, SECRET_LEN);
    uint8_t bits[32], digest[SP_DIGEST_MAX];
    ssize_t n = sp_base64url_decode(secret, bits, sizeof bits);
    sp_wipe(bits, sizeof bits);
    if (n != (ssize_t)sizeof bits || !sp_digest(SP_SHA256, secret, digest))
        return false;

    memcpy(ret_id, text.at + ID_AT, ID_LEN);
    ret_id[ID_LEN] = '\0';
    memcpy(ret_digest, digest, SP_SHA256_LEN);
    return true;
}
