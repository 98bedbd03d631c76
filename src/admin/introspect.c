/* Opaque tokens: what their issuer says about them (RFC 7662). Nothing is remembered here: that is the workers'. */
#include <errno.h>
#include <stdio.h>

#include <sallyport/admin.h>
#include <sallyport/identity.h>

#include "fetch.h"

enum { INTROSPECTION_TIMEOUT_MS = 2500, AT_ONE_TIME_MAX = 128, LOG_EVERY_MS = 10000 };

struct inspection {
    struct sp_list node;
    struct sp_introspections *introspections;
    uint64_t ticket;
    const char *issuer; /* of the configuration that is kept below */
    struct sp_config *config;
    struct sp_fetch fetch;
};

struct sp_introspections {
    struct sp_transfers *transfers;
    sp_introspected *introspected;
    void *owner;
    struct sp_list open;
    size_t n_open;
    uint64_t logged_ms; /* when a failure was logged last */
};

static void inspection_free(struct inspection *inspection) {
    sp_list_remove(&inspection->node);
    inspection->introspections->n_open--;
    sp_fetch_end(&inspection->fetch);
    sp_config_unref(inspection->config);
    free(inspection);
}

static void on_fetched(struct sp_fetch *fetch, const char *problem) {
    struct inspection *inspection = SP_CONTAINER(fetch, struct inspection, fetch);
    struct sp_introspections *introspections = inspection->introspections;
    uint64_t now = sp_clock_ns() / 1000000;
    if (problem && (introspections->logged_ms == 0 || now - introspections->logged_ms >= LOG_EVERY_MS)) {
        introspections->logged_ms = now;
        sp_warn("issuer %s: cannot introspect a token: %s", inspection->issuer, problem);
    }
    introspections->introspected(introspections->owner, inspection->ticket, !problem,
                                 problem ? sp_span(NULL, 0) : sp_buffer_span(&fetch->body));
    inspection_free(inspection);
}

/* RFC 7662 §2.1. What an opaque token is made of is nobody's to say: all of it is escaped. */
static int write_form(struct sp_span token, struct sp_buffer *form) {
    static const char digits[] = "0123456789ABCDEF";
    int r = sp_buffer_append_span(form, SP_SPAN("token_type_hint=access_token&token="));
    for (size_t i = 0; i < token.len && r == 0; i++) {
        unsigned char c = (unsigned char)token.at[i];
        r = sp_buffer_append(form, (char[]){'%', digits[c >> 4], digits[c & 15]}, 3);
    }
    return r;
}

static const struct sp_issuer_config *issuer_of(const struct sp_config *config, uint64_t fingerprint) {
    for (size_t i = 0; i < config->n_issuers; i++)
        if (config->issuers[i].fingerprint == fingerprint && config->issuers[i].introspection.url)
            return &config->issuers[i];
    return NULL;
}

static int start(struct inspection *inspection, const struct sp_issuer_config *issuer, struct sp_span token) {
    struct sp_buffer form;
    sp_buffer_init(&form, 64 + 3 * token.len);
    int r = write_form(token, &form);
    if (r == 0) {
        const struct sp_fetch_request request = {.url = issuer->introspection.url,
                                                 .ca_pem = issuer->ca_pem,
                                                 .max = SP_INTROSPECTION_MAX,
                                                 .timeout_ms = INTROSPECTION_TIMEOUT_MS,
                                                 .form = sp_buffer_span(&form),
                                                 .user = issuer->introspection.client_id,
                                                 .password = issuer->introspection.client_secret};
        inspection->fetch.done = on_fetched;
        r = sp_fetch_start(inspection->introspections->transfers, &inspection->fetch, &request);
    }
    if (form.bytes)
        sp_wipe(form.bytes, form.capacity);
    sp_buffer_free(&form);
    return r;
}

int sp_introspect(struct sp_introspections *introspections, struct sp_config *config, uint64_t issuer_fingerprint, struct sp_span token,
                  uint64_t ticket) {
    const struct sp_issuer_config *issuer = issuer_of(config, issuer_fingerprint);
    if (!issuer || !issuer->introspection.client_secret)
        return -ENOENT;
    if (introspections->n_open >= AT_ONE_TIME_MAX)
        return -EBUSY;
    struct inspection *inspection = calloc(1, sizeof *inspection);
    if (!inspection)
        return -ENOMEM;
    *inspection = (struct inspection){
        .introspections = introspections, .ticket = ticket, .issuer = issuer->issuer.text, .config = sp_config_ref(config)};
    sp_list_append(&introspections->open, &inspection->node);
    introspections->n_open++;
    int r = start(inspection, issuer, token);
    if (r < 0)
        inspection_free(inspection);
    return r;
}

int sp_introspections_new(struct sp_loop *loop, sp_introspected *introspected, void *owner, struct sp_introspections **ret) {
    struct sp_introspections *introspections = calloc(1, sizeof *introspections);
    if (!introspections)
        return -ENOMEM;
    *introspections = (struct sp_introspections){.introspected = introspected, .owner = owner};
    sp_list_init(&introspections->open);
    int r = sp_transfers_new(loop, &introspections->transfers);
    if (r < 0) {
        free(introspections);
        return r;
    }
    *ret = introspections;
    return 0;
}

void sp_introspections_free(struct sp_introspections *introspections) {
    if (!introspections)
        return;
    while (!sp_list_empty(&introspections->open))
        inspection_free(sp_list_entry(introspections->open.next, struct inspection, node));
    sp_transfers_free(introspections->transfers);
    free(introspections);
}
