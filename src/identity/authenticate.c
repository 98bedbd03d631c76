/* One request's credential fields → who is calling. Cheapest first: the bytes this connection sent last, then the cache of verified
 * tokens, then the signature. */
#include "algorithm.h"
#include "token.h"
#include "token_cache.h"

#include <openssl/crypto.h>

static enum sp_auth_verdict say(const char **ret_reason, enum sp_auth_verdict verdict, const char *reason) {
    *ret_reason = reason;
    return verdict;
}

/* ---- Which credential ---- */

/* RFC 6750 §2.1; the scheme is compared without case (RFC 9110 §11.1). */
static bool bearer(struct sp_span value, struct sp_span *ret) {
    struct sp_span scheme = SP_SPAN("Bearer ");
    if (value.len <= scheme.len || !sp_span_eq_nocase(sp_span(value.at, scheme.len), scheme))
        return false;
    *ret = sp_span_trim(sp_span_from(value, scheme.len));
    return ret->len > 0;
}

/* The one credential that all present fields agree on. */
static enum sp_auth_verdict choose(const struct sp_credentials *fields, struct sp_span *ret, const char **ret_reason) {
    struct sp_span found[3];
    size_t n = 0;
    bool other_scheme = false;
    if (fields->authorization.len) {
        if (bearer(fields->authorization, &found[n]))
            n++;
        else
            other_scheme = true;
    }
    if (fields->x_api_key.len)
        found[n++] = fields->x_api_key;
    if (fields->api_key.len)
        found[n++] = fields->api_key;

    if (n > 0 && other_scheme)
        return say(ret_reason, SP_AUTH_AMBIGUOUS, "two credentials");
    if (other_scheme)
        return say(ret_reason, SP_AUTH_INVALID, "not a bearer credential");
    for (size_t i = 1; i < n; i++)
        if (!sp_span_eq(found[0], found[i]))
            return say(ret_reason, SP_AUTH_AMBIGUOUS, "two credentials");
    if (n == 0)
        return say(ret_reason, SP_AUTH_NONE, "no credential");
    *ret = found[0];
    return SP_AUTH_OK;
}

/* ---- The memory of one connection ---- */

void sp_auth_memory_clear(struct sp_auth_memory *memory) {
    sp_principal_unref(memory->principal);
    if (memory->bytes)
        sp_wipe(memory->bytes, memory->capacity);
    free(memory->bytes);
    *memory = (struct sp_auth_memory){0};
}

static bool is_remembered(const struct sp_auth_memory *last, const struct sp_identity *identity, const struct sp_token_cache *cache,
                          struct sp_span credential, uint32_t accepted, uint64_t now_s) {
    return last->principal && last->identity == identity && last->generation == identity->serial && last->accepted == accepted &&
           last->epoch == (cache ? sp_token_cache_epoch(cache) : 0) && last->length == credential.len &&
           (last->principal->expires_at_s == 0 || last->principal->expires_at_s > now_s) &&
           CRYPTO_memcmp(last->bytes, credential.at, credential.len) == 0;
}

static void forget(struct sp_auth_memory *last) {
    sp_principal_unref(last->principal);
    last->principal = NULL;
    if (last->bytes)
        sp_wipe(last->bytes, last->length);
    last->length = 0;
}

static void remember(struct sp_auth_memory *last, const struct sp_identity *identity, const struct sp_token_cache *cache,
                     struct sp_span credential, uint32_t accepted, struct sp_principal *principal) {
    forget(last);
    if (last->capacity < credential.len) {
        sp_auth_memory_clear(last);
        last->bytes = malloc(credential.len);
        if (!last->bytes)
            return;
        last->capacity = (uint32_t)credential.len;
    }
    memcpy(last->bytes, credential.at, credential.len);
    last->length = (uint32_t)credential.len;
    last->identity = identity;
    last->generation = identity->serial;
    last->epoch = cache ? sp_token_cache_epoch(cache) : 0;
    last->accepted = accepted;
    last->principal = sp_principal_ref(principal);
}

/* ---- The kinds of credential ---- */

static enum sp_auth_verdict check_api_key(const struct sp_identity *identity, struct sp_span text, uint64_t now_s,
                                          struct sp_principal **ret, const char **ret_reason) {
    char id[8 + 1];
    uint8_t digest[SP_SHA256_LEN];
    if (!sp_api_key_parse(text, id, digest))
        return say(ret_reason, SP_AUTH_INVALID, "malformed api key");
    const struct sp_known_key *key = sp_identity_key(identity, id);
    /* An unknown id is compared too, with a digest nothing has: the time taken says nothing about which ids there are. */
    bool same = CRYPTO_memcmp(key ? key->config->digest : identity->no_digest, digest, sizeof digest) == 0;
    if (!key)
        return say(ret_reason, SP_AUTH_INVALID, "unknown api key");
    if (!same)
        return say(ret_reason, SP_AUTH_INVALID, "wrong api key");
    if (key->config->revoked)
        return say(ret_reason, SP_AUTH_INVALID, "revoked api key");
    if (key->config->expires_at_s && key->config->expires_at_s <= now_s)
        return say(ret_reason, SP_AUTH_EXPIRED, "expired api key");
    *ret = sp_principal_ref(key->principal);
    return SP_AUTH_OK;
}

static enum sp_auth_verdict check_jwt(struct sp_identity *identity, struct sp_token_cache *cache, struct sp_span token, uint64_t now_s,
                                      struct sp_principal **ret, const char **ret_reason) {
    uint8_t digest[SP_DIGEST_MAX];
    const struct sp_issuer *issuer;
    if (!cache || !sp_digest(SP_SHA256, token, digest))
        return sp_jwt_check(identity, token, now_s, ret, &issuer, ret_reason);
    struct sp_principal *known = sp_token_cache_find(cache, identity, digest, now_s);
    if (known) {
        *ret = known;
        return SP_AUTH_OK;
    }
    enum sp_auth_verdict verdict = sp_jwt_check(identity, token, now_s, ret, &issuer, ret_reason);
    if (verdict == SP_AUTH_OK)
        sp_token_cache_add(cache, identity, issuer, digest, *ret);
    return verdict;
}

static enum sp_auth_verdict check(struct sp_identity *identity, struct sp_token_cache *cache, struct sp_span credential, uint64_t now_s,
                                  uint32_t *ret_kind, struct sp_principal **ret, const char **ret_reason) {
    if (credential.len > SP_JWT_MAX)
        return say(ret_reason, SP_AUTH_INVALID, "too long");
    if (sp_span_starts(credential, SP_SPAN("sp_"))) {
        *ret_kind = SP_AUTHENTICATE_API_KEY;
        return check_api_key(identity, credential, now_s, ret, ret_reason);
    }
    if (sp_jwt_looks_like_one(credential)) {
        *ret_kind = SP_AUTHENTICATE_JWT;
        return check_jwt(identity, cache, credential, now_s, ret, ret_reason);
    }
    return say(ret_reason, SP_AUTH_INVALID, "opaque token");
}

static enum sp_auth_verdict accept_nobody(const struct sp_identity *identity, struct sp_principal **ret, const char **ret_reason) {
    *ret = sp_principal_ref(identity->nobody);
    return say(ret_reason, SP_AUTH_OK, "ok");
}

enum sp_auth_verdict sp_identity_authenticate(struct sp_identity *identity, struct sp_token_cache *cache, struct sp_auth_memory *last,
                                              const struct sp_credentials *credentials, uint32_t accepted, uint64_t now_s,
                                              struct sp_principal **ret, const char **ret_reason) {
    if (accepted == SP_AUTHENTICATE_NONE)
        return accept_nobody(identity, ret, ret_reason);

    struct sp_span credential;
    enum sp_auth_verdict verdict = choose(credentials, &credential, ret_reason);
    if (verdict == SP_AUTH_NONE && accepted & SP_AUTHENTICATE_NONE)
        return accept_nobody(identity, ret, ret_reason);
    if (verdict != SP_AUTH_OK)
        return verdict;

    if (last && is_remembered(last, identity, cache, credential, accepted, now_s)) {
        *ret = sp_principal_ref(last->principal);
        return say(ret_reason, SP_AUTH_OK, "ok");
    }

    uint32_t kind = 0;
    struct sp_principal *found = NULL;
    verdict = check(identity, cache, credential, now_s, &kind, &found, ret_reason);
    if (verdict != SP_AUTH_OK)
        return verdict;
    if (!(accepted & kind)) {
        sp_principal_unref(found);
        return say(ret_reason, SP_AUTH_NOT_HERE, "this kind of credential is not taken here");
    }
    if (last)
        remember(last, identity, cache, credential, accepted, found);
    *ret = found;
    return say(ret_reason, SP_AUTH_OK, "ok");
}
