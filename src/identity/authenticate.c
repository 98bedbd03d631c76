/* One request's credential fields → who is calling. Cheapest first: the bytes this connection sent last, then the cache of verified
 * tokens, then the signature. */
#include "algorithm.h"
#include "principal.h"
#include "refused.h"
#include "token.h"
#include "token_cache.h"

#include <openssl/crypto.h>

#define KID_REFUSED_S 30 /* how long a kid that no fetch brought is not asked about again */

/* What one call knows. */
struct asking {
    struct sp_identity *identity;
    struct sp_token_cache *cache; /* NULL: none */
    uint64_t now_s;
    struct sp_auth_question *question; /* NULL: nothing can be asked */
};

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
           last->key_changes == sp_key_changes() && last->epoch == (cache ? sp_token_cache_epoch(cache) : 0) &&
           last->length == credential.len && (last->principal->expires_at_s == 0 || last->principal->expires_at_s > now_s) &&
           sp_secret_eq(last->bytes, credential.at, credential.len); /* as long as tokens are, by words */
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
    last->key_changes = sp_key_changes();
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

/* ---- Questions to issuers ---- */

static uint64_t bit_of(unsigned issuer) { return UINT64_C(1) << (issuer & 63); }

/* One question for all tokens of this issuer: are there newer keys? */
static bool name_keys_question(const struct sp_issuer_config *issuer, uint8_t ret[32]) {
    uint8_t digest[SP_DIGEST_MAX];
    if (!sp_digest(SP_SHA256, sp_span((const char *)&issuer->fingerprint, sizeof issuer->fingerprint), digest))
        return false;
    memcpy(ret, digest, 32);
    return true;
}

static bool name_token_question(const struct sp_issuer_config *issuer, const uint8_t token_digest[32], uint8_t ret[32]) {
    uint8_t digest[SP_DIGEST_MAX], both[sizeof issuer->fingerprint + 32];
    memcpy(both, &issuer->fingerprint, sizeof issuer->fingerprint);
    memcpy(both + sizeof issuer->fingerprint, token_digest, 32);
    if (!sp_digest(SP_SHA256, sp_span((const char *)both, sizeof both), digest))
        return false;
    memcpy(ret, digest, 32);
    return true;
}

/* The key that would verify this token is not here: ask for newer ones, unless that was done, for this request or lately for this kid. */
static enum sp_auth_verdict ask_for_keys(const struct asking *asking, const struct sp_issuer *issuer, const uint8_t missing[32],
                                         const char **ret_reason) {
    struct sp_auth_question *question = asking->question;
    struct sp_refused *refused = asking->cache ? sp_token_cache_refused(asking->cache) : NULL;
    unsigned index = (unsigned)(issuer - asking->identity->issuers);
    if (!question || !refused || question->silent & bit_of(index) || sp_refused_has(refused, missing, asking->now_s))
        return SP_AUTH_INVALID;
    if (question->answered & bit_of(index)) {
        sp_refused_add(refused, missing, asking->now_s + KID_REFUSED_S);
        return SP_AUTH_INVALID;
    }
    question->kind = SP_QUESTION_KEYS;
    question->issuer = index;
    return name_keys_question(issuer->config, question->key) ? say(ret_reason, SP_AUTH_WAIT, "waits for keys") : SP_AUTH_INVALID;
}

/* Each issuer that has introspection, in order; who did not answer may be the one that knows it. */
static enum sp_auth_verdict ask_about_token(const struct asking *asking, struct sp_span token, const uint8_t digest[32],
                                            const char **ret_reason) {
    const struct sp_config *config = asking->identity->config;
    struct sp_auth_question *question = asking->question;
    *ret_reason = "opaque token";
    if (!question || !asking->cache)
        return SP_AUTH_INVALID;
    for (unsigned i = 0; i < config->n_issuers; i++) {
        if (!config->issuers[i].introspection.url)
            continue;
        *ret_reason = question->reason ? question->reason : "token not active";
        if ((question->answered | question->silent) & bit_of(i) || !name_token_question(&config->issuers[i], digest, question->key) ||
            sp_refused_has(sp_token_cache_refused(asking->cache), question->key, asking->now_s))
            continue;
        question->kind = SP_QUESTION_TOKEN;
        question->issuer = i;
        question->token = token;
        return say(ret_reason, SP_AUTH_WAIT, "waits for introspection");
    }
    return question->silent ? say(ret_reason, SP_AUTH_UNAVAILABLE, "introspection unavailable") : SP_AUTH_INVALID;
}

/* ---- Tokens ---- */

static enum sp_auth_verdict check_token(const struct asking *asking, struct sp_span token, bool is_jwt, struct sp_principal **ret,
                                        const char **ret_reason) {
    uint8_t digest[SP_DIGEST_MAX], missing[32];
    const struct sp_issuer *issuer;
    if (!sp_digest(SP_SHA256, token, digest))
        return say(ret_reason, SP_AUTH_INVALID, "out of memory");
    struct sp_principal *known = asking->cache ? sp_token_cache_find(asking->cache, asking->identity, digest, asking->now_s) : NULL;
    if (known) {
        *ret = known;
        return SP_AUTH_OK;
    }
    if (!is_jwt)
        return ask_about_token(asking, token, digest, ret_reason);
    enum sp_auth_verdict verdict = sp_jwt_check(asking->identity, token, asking->now_s, ret, &issuer, missing, ret_reason);
    if (verdict == SP_AUTH_OK && asking->cache)
        sp_token_cache_add(asking->cache, asking->identity, issuer, digest, *ret);
    return verdict == SP_AUTH_WAIT ? ask_for_keys(asking, issuer, missing, ret_reason) : verdict;
}

static enum sp_auth_verdict check(const struct asking *asking, struct sp_span credential, uint32_t accepted, uint32_t *ret_kind,
                                  struct sp_principal **ret, const char **ret_reason) {
    if (credential.len > SP_JWT_MAX)
        return say(ret_reason, SP_AUTH_INVALID, "too long");
    if (sp_span_starts(credential, SP_SPAN("sp_"))) {
        *ret_kind = SP_AUTHENTICATE_API_KEY;
        return check_api_key(asking->identity, credential, asking->now_s, ret, ret_reason);
    }
    *ret_kind = SP_AUTHENTICATE_JWT;
    struct asking unasked = *asking;
    if (!(accepted & SP_AUTHENTICATE_JWT))
        unasked.question = NULL; /* whatever came of it, it would not be taken here */
    return check_token(&unasked, credential, sp_jwt_looks_like_one(credential), ret, ret_reason);
}

/* ---- Certificates ---- */

static enum sp_auth_verdict check_certificate(const struct sp_certificate_credential *certificate, uint64_t now_s,
                                              struct sp_principal **ret, const char **ret_reason) {
    char key_id[SP_BASE64URL_LEN(SP_THUMBPRINT_LEN)];
    if (certificate->not_after_s < now_s)
        return say(ret_reason, SP_AUTH_EXPIRED, "expired certificate");
    struct sp_principal like = {.kind = SP_CREDENTIAL_CERTIFICATE,
                                .subject = certificate->name.len ? certificate->name : certificate->subject,
                                .expires_at_s = certificate->not_after_s + 1};
    if (like.subject.len == 0 || like.subject.len > SP_CERTIFICATE_NAME_MAX)
        return say(ret_reason, SP_AUTH_INVALID, "a certificate without a name");
    like.key_id = sp_span(key_id, sp_base64url(certificate->thumbprint, SP_THUMBPRINT_LEN, key_id));
    if (sp_principal_new(&like, sp_span(NULL, 0), ret) < 0)
        return say(ret_reason, SP_AUTH_INVALID, "out of memory");
    return SP_AUTH_OK;
}

/* RFC 8705 §3: a token bound to a certificate is nobody else's. */
static bool may_use(const struct sp_principal *principal, const struct sp_certificate_credential *certificate) {
    return !principal->bound || (certificate && CRYPTO_memcmp(principal->thumbprint, certificate->thumbprint, SP_THUMBPRINT_LEN) == 0);
}

static enum sp_auth_verdict accept_nobody(const struct sp_identity *identity, struct sp_principal **ret, const char **ret_reason) {
    *ret = sp_principal_ref(identity->nobody);
    return say(ret_reason, SP_AUTH_OK, "ok");
}

/* What decides, by the route: a certificate where nothing else was sent, or nothing else is taken. *ret_certificate is NULL where it is a
 * header's credential. */
static enum sp_auth_verdict choose_for(uint32_t accepted, const struct sp_credentials *credentials, struct sp_span *ret,
                                       const struct sp_certificate_credential **ret_certificate, const char **ret_reason) {
    enum sp_auth_verdict verdict = say(ret_reason, SP_AUTH_NONE, "no certificate");
    if (accepted != SP_AUTHENTICATE_CERTIFICATE)
        verdict = choose(credentials, ret, ret_reason);
    *ret_certificate = NULL;
    if (verdict != SP_AUTH_NONE || !credentials->certificate || !(accepted & SP_AUTHENTICATE_CERTIFICATE))
        return verdict;
    *ret_certificate = credentials->certificate;
    *ret = sp_span((const char *)credentials->certificate->thumbprint, SP_THUMBPRINT_LEN);
    return SP_AUTH_OK;
}

/* Good, taken here, and this caller's. */
static enum sp_auth_verdict judge(const struct asking *asking, struct sp_span credential,
                                  const struct sp_certificate_credential *by_certificate,
                                  const struct sp_certificate_credential *certificate, uint32_t accepted, struct sp_principal **ret,
                                  const char **ret_reason) {
    uint32_t kind = SP_AUTHENTICATE_CERTIFICATE;
    struct sp_principal *found = NULL;
    enum sp_auth_verdict verdict = by_certificate ? check_certificate(by_certificate, asking->now_s, &found, ret_reason)
                                                  : check(asking, credential, accepted, &kind, &found, ret_reason);
    if (verdict != SP_AUTH_OK)
        return verdict;
    if (!may_use(found, certificate))
        verdict = say(ret_reason, SP_AUTH_INVALID, "bound to another certificate");
    else if (!(accepted & kind))
        verdict = say(ret_reason, SP_AUTH_NOT_HERE, "this kind of credential is not taken here");
    if (verdict == SP_AUTH_OK)
        *ret = found;
    else
        sp_principal_unref(found);
    return verdict;
}

enum sp_auth_verdict sp_identity_authenticate(struct sp_identity *identity, struct sp_token_cache *cache, struct sp_auth_memory *last,
                                              const struct sp_credentials *credentials, uint32_t accepted, uint64_t now_s,
                                              struct sp_auth_question *question, struct sp_principal **ret, const char **ret_reason) {
    const struct asking asking = {.identity = identity, .cache = cache, .now_s = now_s, .question = question};
    const struct sp_certificate_credential *by_certificate;
    struct sp_span credential;
    if (accepted == SP_AUTHENTICATE_NONE)
        return accept_nobody(identity, ret, ret_reason);

    enum sp_auth_verdict verdict = choose_for(accepted, credentials, &credential, &by_certificate, ret_reason);
    if (verdict == SP_AUTH_NONE && accepted & SP_AUTHENTICATE_NONE)
        return accept_nobody(identity, ret, ret_reason);
    if (verdict != SP_AUTH_OK)
        return verdict;

    if (last && is_remembered(last, identity, cache, credential, accepted, now_s)) {
        *ret = sp_principal_ref(last->principal);
        return say(ret_reason, SP_AUTH_OK, "ok");
    }
    verdict = judge(&asking, credential, by_certificate, credentials->certificate, accepted, ret, ret_reason);
    if (verdict != SP_AUTH_OK)
        return verdict;
    if (last)
        remember(last, identity, cache, credential, accepted, *ret);
    return say(ret_reason, SP_AUTH_OK, "ok");
}
