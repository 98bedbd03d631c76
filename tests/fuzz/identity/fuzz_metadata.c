/* Any bytes as an authorization server's metadata: what is found must be what it says, of this issuer, and a place that may be asked. */
#include <jansson.h>
#include <sallyport/identity.h>

#define ISSUER "https://issuer.test"

static void need(bool condition) {
    if (!condition)
        abort();
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
        need(strncmp(uri, "https://", 8) == 0 || strncmp(uri, "http://127.", 11) == 0 || strncmp(uri, "http://[::1]", 12) == 0 ||
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
