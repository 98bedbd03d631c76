/* One question to an issuer over verified TLS: bounded in size and time, no redirects, no proxy of the environment. */
#ifndef SP_ADMIN_FETCH_H
#define SP_ADMIN_FETCH_H

#include "transfer.h"

struct sp_fetch {
    struct sp_transfer transfer;
    struct sp_buffer body; /* of the answer */
    bool too_long;
    char error[CURL_ERROR_SIZE];
    char problem[CURL_ERROR_SIZE + 64];
    struct curl_slist *fields;
    struct sp_transfers *transfers;
    /* The answer came with 200: problem is NULL, `body` has it. Else a sentence, which lives as long as the fetch. The owner then ends it.
     */
    void (*done)(struct sp_fetch *fetch, const char *problem);
};

struct sp_fetch_request {
    const char *url;    /* as sp_check_fetched_url() allows */
    const char *ca_pem; /* NULL: the system's authorities */
    size_t max;         /* bytes of the answer */
    long timeout_ms;
    struct sp_span form;         /* application/x-www-form-urlencoded, to be POSTed; empty: GET. Copied */
    const char *user, *password; /* HTTP Basic (RFC 6749 §2.3.1 encodes both first); NULL: none */
};
/* -ENOMEM: nothing was started. `fetch` is zero, or was ended; `done` is set and never called from inside. */
int sp_fetch_start(struct sp_transfers *transfers, struct sp_fetch *fetch, const struct sp_fetch_request *request) SP_MUST_USE;
void sp_fetch_end(struct sp_fetch *fetch); /* frees what it holds; harmless when nothing was started */
/* The value of a field of the answer, while it is there; NULL: none. */
const char *sp_fetch_field(const struct sp_fetch *fetch, const char *name);

#endif
