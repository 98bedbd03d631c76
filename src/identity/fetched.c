/* Key sets that arrive while an identity is in use. */
#include "algorithm.h"
#include "issuer.h"

#include <errno.h>

static uint64_t changes; /* one thread */

uint64_t sp_key_changes(void) { return changes; }

struct sp_issuer_keys *sp_issuer_keys_new(void) {
    struct sp_issuer_keys *keys = calloc(1, sizeof *keys);
    if (keys)
        keys->refs = 1;
    return keys;
}

void sp_issuer_keys_unref(struct sp_issuer_keys *keys) {
    if (!keys || --keys->refs > 0)
        return;
    sp_key_set_free(keys->set);
    free(keys);
}

void sp_issuer_keys_put(struct sp_issuer_keys *keys, struct sp_key_set *set, uint64_t stamp) {
    sp_key_set_free(keys->set);
    keys->set = set;
    keys->stamp = stamp;
    changes++;
}

int sp_key_stamp(struct sp_span jwks, uint64_t *ret) {
    uint8_t digest[SP_DIGEST_MAX];
    if (!sp_digest(SP_SHA256, jwks, digest))
        return -ENOMEM;
    memcpy(ret, digest, sizeof *ret);
    *ret += *ret == 0; /* which stands for none */
    return 0;
}

bool sp_identity_vouches(const struct sp_identity *identity, uint64_t fingerprint, uint64_t key_stamp) {
    for (size_t i = 0; i < identity->n_issuers; i++) {
        const struct sp_issuer *issuer = &identity->issuers[i];
        if (issuer->config->fingerprint == fingerprint && (key_stamp == 0 || issuer->keys->stamp == key_stamp))
            return true;
    }
    return false;
}

static struct sp_issuer *fetching_issuer(struct sp_identity *identity, uint64_t fingerprint) {
    for (size_t i = 0; i < identity->n_issuers; i++)
        if (identity->issuers[i].config->fetches_keys && identity->issuers[i].config->fingerprint == fingerprint)
            return &identity->issuers[i];
    return NULL;
}

int sp_identity_set_keys(struct sp_identity *identity, uint64_t issuer_fingerprint, struct sp_span jwks, char **ret_error) {
    struct sp_issuer *issuer = fetching_issuer(identity, issuer_fingerprint);
    struct sp_key_set *set = NULL;
    uint64_t stamp = 0;
    if (!issuer)
        return -ENOENT;
    int r = jwks.len ? sp_key_stamp(jwks, &stamp) : 0;
    if (r < 0 || stamp == issuer->keys->stamp)
        return r;
    if (jwks.len)
        r = sp_key_set_parse(jwks, issuer->config->algorithms, ret_error, &set);
    if (r == 0)
        sp_issuer_keys_put(issuer->keys, set, stamp);
    return r;
}

/* Another list of algorithms binds keys otherwise; another place is another authority. */
static bool same_keys(const struct sp_issuer_config *a, const struct sp_issuer_config *b) {
    return a->fetches_keys && b->fetches_keys && a->algorithms == b->algorithms && strcmp(a->issuer.text, b->issuer.text) == 0 &&
           sp_span_eq(sp_span_text(a->jwks.text), sp_span_text(b->jwks.text)) &&
           sp_span_eq(sp_span_text(a->ca_pem), sp_span_text(b->ca_pem));
}

void sp_identity_inherit(struct sp_identity *identity, struct sp_identity *from) {
    for (size_t i = 0; i < identity->n_issuers; i++)
        for (size_t j = 0; j < from->n_issuers; j++) {
            struct sp_issuer *issuer = &identity->issuers[i], *before = &from->issuers[j];
            if (issuer->keys == before->keys || !same_keys(issuer->config, before->config))
                continue;
            sp_issuer_keys_unref(issuer->keys);
            issuer->keys = before->keys;
            issuer->keys->refs++;
        }
}
