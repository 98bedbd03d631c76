#include "forge.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <stdio.h>

static void need(bool condition, const char *what) {
    if (condition)
        return;
    fprintf(stderr, "cannot prepare the test: %s\n", what);
    exit(1);
}

const struct keys *keys(void) {
    static struct keys made;
    if (!made.rsa) {
        made = (struct keys){EVP_RSA_gen(2048),   EVP_RSA_gen(2048),   EVP_EC_gen("P-256"),
                             EVP_EC_gen("P-384"), EVP_EC_gen("P-521"), EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"),
                             EVP_EC_gen("P-256")};
        need(made.rsa && made.other_rsa && made.p256 && made.p384 && made.p521 && made.ed25519 && made.stranger, "keys");
    }
    return &made;
}

char *text(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *made = NULL;
    int n = vasprintf(&made, format, arguments);
    va_end(arguments);
    need(n >= 0, "memory");
    return made;
}

char *encode(const void *bytes, size_t len) {
    char *out = calloc(1, SP_BASE64URL_LEN(len) + 1);
    need(out, "memory");
    sp_base64url(bytes, len, out);
    return out;
}

static char *encode_number(EVP_PKEY *key, const char *parameter, int len) {
    BIGNUM *number = NULL;
    uint8_t bytes[1024];
    need(EVP_PKEY_get_bn_param(key, parameter, &number) == 1, parameter);
    if (len == 0)
        len = BN_num_bytes(number);
    need(BN_bn2binpad(number, bytes, len) == len, parameter);
    BN_free(number);
    return encode(bytes, (size_t)len);
}

static char *ec_jwk(EVP_PKEY *key, const char *more) {
    int bits = EVP_PKEY_get_bits(key), len = (bits + 7) / 8;
    char *x = encode_number(key, OSSL_PKEY_PARAM_EC_PUB_X, len), *y = encode_number(key, OSSL_PKEY_PARAM_EC_PUB_Y, len);
    char *jwk = text("{%s\"kty\":\"EC\",\"crv\":\"P-%d\",\"x\":\"%s\",\"y\":\"%s\"}", more, bits, x, y);
    free(x);
    free(y);
    return jwk;
}

char *public_jwk(EVP_PKEY *key, const char *more) {
    if (EVP_PKEY_is_a(key, "RSA")) {
        char *n = encode_number(key, OSSL_PKEY_PARAM_RSA_N, 0), *e = encode_number(key, OSSL_PKEY_PARAM_RSA_E, 0);
        char *jwk = text("{%s\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"}", more, n, e);
        free(n);
        free(e);
        return jwk;
    }
    if (EVP_PKEY_is_a(key, "EC"))
        return ec_jwk(key, more);
    uint8_t raw[32];
    size_t len = sizeof raw;
    need(EVP_PKEY_get_raw_public_key(key, raw, &len) == 1, "raw key");
    char *x = encode(raw, len), *jwk = text("{%s\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"}", more, x);
    free(x);
    return jwk;
}

char *jwks_of(const char *const *jwks, size_t n) {
    char *list = text("{\"keys\":[");
    for (size_t i = 0; i < n; i++) {
        char *longer = text("%s%s%s", list, i ? "," : "", jwks[i]);
        free(list);
        list = longer;
    }
    char *whole = text("%s]}", list);
    free(list);
    return whole;
}

char *standard_jwks(void) {
    char *jwks[] = {public_jwk(keys()->rsa, "\"kid\":\"rsa\","),
                    public_jwk(keys()->p256, "\"kid\":\"p256\",\"alg\":\"ES256\",\"use\":\"sig\","),
                    public_jwk(keys()->p384, "\"kid\":\"p384\",\"key_ops\":[\"verify\"],"), public_jwk(keys()->p521, "\"kid\":\"p521\","),
                    public_jwk(keys()->ed25519, "\"kid\":\"ed\",\"alg\":\"EdDSA\",")};
    char *whole = jwks_of((const char *const *)jwks, SP_COUNT(jwks));
    for (size_t i = 0; i < SP_COUNT(jwks); i++)
        free(jwks[i]);
    return whole;
}

/* ---- Signing ---- */

static const char *digest_of(const char *algorithm) {
    return strstr(algorithm, "256") ? "SHA256" : strstr(algorithm, "384") ? "SHA384" : strstr(algorithm, "512") ? "SHA512" : NULL;
}

static size_t sign(const char *algorithm, EVP_PKEY *key, const char *input, uint8_t *out, size_t size) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *parameters = NULL;
    need(context && EVP_DigestSignInit_ex(context, &parameters, digest_of(algorithm), NULL, NULL, key, NULL) == 1, algorithm);
    if (algorithm[0] == 'P') { /* "PS256/10": with a salt of 10 bytes */
        const char *slash = strchr(algorithm, '/');
        need(EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING) == 1, "padding");
        int salt = slash ? (int)strtol(slash + 1, NULL, 10) : RSA_PSS_SALTLEN_DIGEST;
        need(EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, salt) == 1, "salt");
    }
    need(EVP_DigestSign(context, out, &size, (const uint8_t *)input, strlen(input)) == 1, algorithm);
    EVP_MD_CTX_free(context);
    return size;
}

static size_t side_by_side(EVP_PKEY *key, uint8_t *signature, size_t len) {
    const uint8_t *at = signature;
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)len);
    need(pair, "ECDSA signature");
    int half = (EVP_PKEY_get_bits(key) + 7) / 8;
    BN_bn2binpad(ECDSA_SIG_get0_r(pair), signature, half);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair), signature + half, half);
    ECDSA_SIG_free(pair);
    return 2 * (size_t)half;
}

char *sign_parts(const char *algorithm, EVP_PKEY *key, struct sp_span secret, const char *header_b64, const char *payload_b64) {
    char *input = text("%s.%s", header_b64, payload_b64);
    uint8_t signature[1024];
    size_t len;
    if (algorithm[0] == 'H') {
        unsigned n = 0;
        need(HMAC(EVP_sha256(), secret.at, (int)secret.len, (const uint8_t *)input, strlen(input), signature, &n), "HMAC");
        len = n;
    } else {
        len = sign(algorithm, key, input, signature, sizeof signature);
        if (EVP_PKEY_is_a(key, "EC") && !strstr(algorithm, "DER"))
            len = side_by_side(key, signature, len);
    }
    char *encoded = encode(signature, len), *whole = text("%s.%s", input, encoded);
    free(encoded);
    free(input);
    return whole;
}

static char *sign_text(const char *algorithm, EVP_PKEY *key, struct sp_span secret, const char *header, const char *claims) {
    char *h = encode(header, strlen(header)), *c = encode(claims, strlen(claims));
    char *whole = sign_parts(algorithm, key, secret, h, c);
    free(h);
    free(c);
    return whole;
}

char *token(const char *algorithm, EVP_PKEY *key, const char *header, const char *claims) {
    return sign_text(algorithm, key, sp_span(NULL, 0), header, claims);
}

char *secret_token(const char *secret, const char *header, const char *claims) {
    return sign_text("HS256", NULL, sp_span_text(secret), header, claims);
}

/* ---- Configurations ---- */

static struct sp_text at_line(const char *value, const char *where) { return (struct sp_text){.text = value, .where = where}; }

static struct sp_issuer_config issuer_config(const char *name, char *jwks) {
    static const char *audience[] = {"inference", "second"}, *types[] = {"at+jwt", "JWT"};
    return (struct sp_issuer_config){
        .issuer = at_line(name, "test.yaml:2:13"),
        .audience = {audience, SP_COUNT(audience)},
        .jwks = at_line("jwks.json", "test.yaml:3:11"),
        .jwks_json = jwks,
        .algorithms = (1u << SP_ALG_HS256) - 1,
        .claims = {.subject = "sub", .tenant = "org_id", .roles = "roles", .scopes = "scope"},
        .leeway_s = 60,
        .max_token_age_s = 24 * 3600,
        .types = {types, SP_COUNT(types)},
        .fingerprint = 1,
    };
}

struct sp_config *standard_config(void) {
    static struct sp_role_config roles[] = {{.name = "chat"}, {.name = "batch"}};
    struct sp_config *config = calloc(1, sizeof *config);
    struct sp_issuer_config *issuers = calloc(3, sizeof *issuers);
    need(config && issuers, "memory");
    char *other_jwk = public_jwk(keys()->other_rsa, "\"kid\":\"other\",\"alg\":\"RS256\",");
    issuers[0] = issuer_config(ISSUER, standard_jwks());
    issuers[1] = issuer_config(OTHER_ISSUER, jwks_of((const char *const[]){other_jwk}, 1));
    issuers[2] = issuer_config(SECRET_ISSUER, NULL);
    issuers[1].fingerprint = 2;
    issuers[2].fingerprint = 3;
    issuers[2].algorithms = 1u << SP_ALG_HS256;
    issuers[2].secret = SECRET;
    free(other_jwk);
    /* Two references: the identities' come and go, and the last stays the test's, for nothing here was made by config. */
    *config = (struct sp_config){.refs = 2, .issuers = issuers, .n_issuers = 3, .roles = roles, .n_roles = SP_COUNT(roles)};
    return config;
}

void free_config(struct sp_config *config) {
    for (size_t i = 0; i < config->n_issuers; i++)
        free((char *)config->issuers[i].jwks_json);
    free(config->issuers);
    free(config);
}

struct sp_identity *identity_of(struct sp_config *config) {
    struct sp_identity *identity = NULL;
    char *error = NULL;
    int r = sp_identity_new(config, &error, &identity);
    need(r == 0, error ? error : "identity");
    return identity;
}
