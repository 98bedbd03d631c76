#include "fetch.h"

#include <errno.h>
#include <stdio.h>

static size_t keep(char *bytes, size_t size, size_t n, void *owner) {
    struct sp_fetch *fetch = owner;
    if (sp_buffer_append(&fetch->body, bytes, size * n) == 0)
        return size * n;
    fetch->too_long = true;
    return 0;
}

static const char *problem_of(struct sp_fetch *fetch, CURLcode result) {
    long status = 0;
    curl_easy_getinfo(fetch->transfer.easy, CURLINFO_RESPONSE_CODE, &status);
    if (fetch->too_long || result == CURLE_FILESIZE_EXCEEDED)
        return "the answer is too long";
    if (result == CURLE_OK && status == 200)
        return NULL;
    if (result == CURLE_OK)
        snprintf(fetch->problem, sizeof fetch->problem, "it answered %ld%s", status,
                 status / 100 == 3 ? ", and redirects are not followed" : "");
    else
        snprintf(fetch->problem, sizeof fetch->problem, "%s", fetch->error[0] ? fetch->error : curl_easy_strerror(result));
    return fetch->problem;
}

static void on_done(struct sp_transfer *transfer, CURLcode result) {
    struct sp_fetch *fetch = SP_CONTAINER(transfer, struct sp_fetch, transfer);
    fetch->done(fetch, problem_of(fetch, result));
}

static CURLcode trust(CURL *easy, const char *ca_pem) {
    if (!ca_pem)
        return CURLE_OK;
    struct curl_blob authorities = {.data = (void *)(uintptr_t)ca_pem, .len = strlen(ca_pem), .flags = CURL_BLOB_COPY};
    CURLcode r = curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &authorities);
    return r == CURLE_OK ? curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) : r; /* these, and not the system's besides */
}

/* RFC 6749 §2.3.1: both are form-encoded before they are put together. */
static CURLcode sign_in(CURL *easy, const char *user, const char *password) {
    if (!user)
        return CURLE_OK;
    char *name = curl_easy_escape(easy, user, 0), *secret = curl_easy_escape(easy, password, 0);
    CURLcode r = name && secret ? curl_easy_setopt(easy, CURLOPT_USERNAME, name) : CURLE_OUT_OF_MEMORY;
    if (r == CURLE_OK)
        r = curl_easy_setopt(easy, CURLOPT_PASSWORD, secret);
    if (secret)
        sp_wipe(secret, strlen(secret));
    curl_free(name);
    curl_free(secret);
    return r == CURLE_OK ? curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC) : r;
}

static CURLcode set_up(struct sp_fetch *fetch, const struct sp_fetch_request *request) {
    CURL *easy = fetch->transfer.easy;
    CURLcode r = CURLE_OK;
#define SET(option, value) r = r == CURLE_OK ? curl_easy_setopt(easy, option, value) : r
    SET(CURLOPT_URL, request->url);
    SET(CURLOPT_ERRORBUFFER, fetch->error);
    SET(CURLOPT_WRITEFUNCTION, keep);
    SET(CURLOPT_WRITEDATA, (void *)fetch);
    SET(CURLOPT_MAXFILESIZE, (long)request->max);
    SET(CURLOPT_TIMEOUT_MS, request->timeout_ms);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_PROTOCOLS_STR, strncmp(request->url, "https:", 6) == 0 ? "https" : "http");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_USERAGENT, "sallyport");
    SET(CURLOPT_HTTPHEADER, fetch->fields);
    if (request->form.len) {
        SET(CURLOPT_POSTFIELDSIZE, (long)request->form.len);
        SET(CURLOPT_COPYPOSTFIELDS, request->form.at);
    }
#undef SET
    if (r == CURLE_OK)
        r = trust(easy, request->ca_pem);
    return r == CURLE_OK ? sign_in(easy, request->user, request->password) : r;
}

int sp_fetch_start(struct sp_transfers *transfers, struct sp_fetch *fetch, const struct sp_fetch_request *request) {
    *fetch = (struct sp_fetch){.done = fetch->done, .transfers = transfers, .transfer.done = on_done};
    sp_buffer_init(&fetch->body, request->max);
    fetch->fields = curl_slist_append(NULL, "Accept: application/json, application/jwk-set+json");
    fetch->transfer.easy = curl_easy_init();
    bool ready = fetch->fields && fetch->transfer.easy && set_up(fetch, request) == CURLE_OK;
    if (ready && sp_transfer_start(transfers, &fetch->transfer) == 0)
        return 0;
    sp_fetch_end(fetch);
    return -ENOMEM;
}

void sp_fetch_end(struct sp_fetch *fetch) {
    if (fetch->transfers)
        sp_transfer_stop(fetch->transfers, &fetch->transfer);
    curl_slist_free_all(sp_take(fetch->fields));
    sp_buffer_free(&fetch->body);
}

const char *sp_fetch_field(const struct sp_fetch *fetch, const char *name) {
    struct curl_header *field;
    return curl_easy_header(fetch->transfer.easy, name, 0, CURLH_HEADER, -1, &field) == CURLHE_OK ? field->value : NULL;
}
