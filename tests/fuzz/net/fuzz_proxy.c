/* The PROXY header, as one piece and byte by byte: both must come to the same end, and read no byte past the header's. */
#include <sallyport/net.h>

static void expect(bool promise) {
    if (!promise)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_span all = sp_span((const char *)bytes, len);
    struct sp_address client = {.port = 1}, untouched = client;
    const char *why = NULL;
    size_t needed = 0;
    enum sp_proxy_verdict whole = sp_proxy_parse(all, &needed, &client, &why);
    expect((whole == SP_PROXY_REFUSED) == (why != NULL));
    if (whole != SP_PROXY_REFUSED)
        expect(needed >= 16 && needed <= SP_PROXY_HEADER_MAX);
    if (whole == SP_PROXY_MORE)
        expect(needed > len);
    if (whole == SP_PROXY_CLIENT || whole == SP_PROXY_LOCAL)
        expect(needed <= len);
    if (whole != SP_PROXY_CLIENT)
        expect(memcmp(&client, &untouched, sizeof client) == 0);

    /* As it would arrive: never asked for more than what is there when the whole was enough. */
    struct sp_address slowly = {.port = 1};
    enum sp_proxy_verdict verdict = SP_PROXY_MORE;
    size_t have = 0, wanted = 0;
    while (verdict == SP_PROXY_MORE && have <= len) {
        const char *reason = NULL;
        verdict = sp_proxy_parse(sp_span(all.at, have), &wanted, &slowly, &reason);
        if (verdict == SP_PROXY_MORE) {
            expect(wanted > have && wanted <= SP_PROXY_HEADER_MAX);
            have++;
        }
    }
    if (whole != SP_PROXY_MORE) {
        expect(verdict == whole && memcmp(&slowly, &client, sizeof client) == 0);
        if (whole != SP_PROXY_REFUSED)
            expect(wanted == needed && have == needed); /* what follows belongs to TLS */
    }
    return 0;
}
