/* Any bytes as an API key; and again with the checksum set right, so that what lies behind it is reached. The form is checked here a
 * second time, by plainer means. */
#include <ctype.h>
#include <sallyport/identity.h>

#define CHECKSUM_AT (SP_API_KEY_LEN - 6)

static void write_checksum(char *text) {
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint32_t crc = ~UINT32_C(0);
    for (size_t i = 0; i < CHECKSUM_AT; i++) {
        crc ^= (uint8_t)text[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ UINT32_C(0xedb88320) : crc >> 1;
    }
    crc = ~crc;
    for (size_t i = SP_API_KEY_LEN; i-- > CHECKSUM_AT; crc /= 62)
        text[i] = digits[crc % 62];
}

static bool is_alnum(char c) { return isascii(c) && isalnum(c); }

static bool well_formed(const char *text) {
    if (memcmp(text, "sp_", 3) != 0 || text[11] != '_')
        return false;
    for (size_t i = 3; i < CHECKSUM_AT; i++)
        if (i != 11 && !is_alnum(text[i]) && (i < 11 || (text[i] != '-' && text[i] != '_')))
            return false;
    /* The last digit stands for four bits of the secret: its two lowest are zero. */
    return text[CHECKSUM_AT - 1] && strchr("AEIMQUYcgkosw048", text[CHECKSUM_AT - 1]) != NULL;
}

static bool parses(const char *text, size_t len) {
    char id[9] = {0};
    uint8_t digest[32];
    if (!sp_api_key_parse(sp_span(text, len), id, digest))
        return false;
    if (len != SP_API_KEY_LEN || memcmp(id, text + 3, 8) != 0 || id[8] != '\0')
        abort();
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    char mended[SP_API_KEY_LEN];
    bool good = parses((const char *)bytes, len);
    if (len < CHECKSUM_AT) {
        if (good)
            abort();
        return 0;
    }
    memcpy(mended, bytes, CHECKSUM_AT);
    write_checksum(mended);
    if (parses(mended, sizeof mended) != well_formed(mended))
        abort();
    if (good && memcmp(mended, bytes, sizeof mended) != 0) /* only one checksum is right */
        abort();
    return 0;
}
