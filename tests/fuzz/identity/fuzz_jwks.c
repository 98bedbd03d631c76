/* Any bytes as a key set. What is read for all algorithms is read for fewer too, and never gives more keys. */
#include <openssl/err.h>
#include <sallyport/identity.h>

#define ALL      ((1u << SP_ALG_HS256) - 1)
#define KEYS_MAX (64 * 6)

/* How many keys; −1: refused. */
static int count(struct sp_span jwks, uint32_t algorithms) {
    struct sp_key_set *set = NULL;
    char *error = NULL;
    int r = sp_key_set_parse(jwks, algorithms, &error, &set), n = -1;
    if (r == 0)
        n = (int)sp_key_set_count(set);
    if ((r == 0) != (set != NULL) || (r < 0 && (!error || !*error)) || n > KEYS_MAX || ERR_peek_error() != 0)
        abort();
    sp_key_set_free(set);
    free(error);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    static const uint32_t some[] = {1u << SP_ALG_ES256, 1u << SP_ALG_RS256 | 1u << SP_ALG_PS256, 1u << SP_ALG_EDDSA, 0};
    struct sp_span jwks = sp_span((const char *)bytes, len);
    int all = count(jwks, ALL);
    for (size_t i = 0; i < SP_COUNT(some) && all >= 0; i++) {
        int fewer = count(jwks, some[i]);
        if (fewer < 0 || fewer > all)
            abort();
    }
    return 0;
}
