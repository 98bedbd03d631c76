/* Any bytes as an authorization server's metadata: what is found must be what it says, of this issuer, and a place that may be asked. */
#include <arpa/inet.h>
#include <jansson.h>
#include <sallyport/identity.h>

#define ISSUER "https://issuer.test"

static void need(bool condition) {
    if (!condition)
        abort();
}

/* In any of its spellings: "http://[::1]", "http://[0:0::01]". */
static bool is_ipv6_loopback(const char *uri) {
    const char *begin = "http://[", *end = strchr(uri, ']');
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    size_t skip = strlen(begin);
    if (strncmp(uri, begin, skip) != 0 || !end || (size_t)(end - uri) - skip >= sizeof text)
        return false;
    size_t n = (size_t)(end - uri) - skip;
    memcpy(text, uri + skip, n);
    text[n] = 0;
    return inet_pton(AF_INET6, text, &address) == 1 && IN6_IS_ADDR_LOOPBACK(&address);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_span metadata = sp_span((const char *)bytes, len);
    char *error = NULL, *uri = NULL;
    int r = sp_metadata_jwks_uri(metadata, SP_SPAN(ISSUER), &error, &uri);
    need((r == 0) == (uri != NULL) && (r == 0) == (error == NULL));
    if (r == 0) {
        json_t *document = json_loadb(metadata.at, metadata.len, 0, NULL);
        const char *issuer = json_string_value(json_object_get(document, "issuer"));
        const char *said = json_string_value(json_object_get(document, "jwks_uri"));
        need(issuer && strcmp(issuer, ISSUER) == 0 && said && strcmp(said, uri) == 0);
        need(strncmp(uri, "https://", 8) == 0 || strncmp(uri, "http://127.", 11) == 0 || is_ipv6_loopback(uri) ||
             strncasecmp(uri, "http://localhost", 16) == 0);
        for (const char *c = uri; *c; c++)
            need(*c > ' ' && *c < 0x7f && *c != '#');
        json_decref(document);
    }
    /* And as the issuer itself: its two places are text of its own and ours, nothing else. */
    for (int form = 0; form < SP_METADATA_FORMS; form++) {
        char *url = sp_metadata_url(metadata, (enum sp_metadata_form)form);
        need(url && (memchr(bytes, '\0', len) || strstr(url, "/.well-known/") != NULL));
        free(url);
    }
    free(error);
    free(uri);
    return 0;
}
