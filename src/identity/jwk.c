/* One JSON Web Key → OpenSSL's key object, after every check that can be made on it alone. */
#include "algorithm.h"
#include "json.h"
#include "key_set.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#define COORDINATE_MAX 66
#define EXPONENT_MAX   8 /* bytes; beyond that is no exponent anybody uses, only work for whoever verifies */

static const uint32_t rsa_algorithms =
    1u << SP_ALG_RS256 | 1u << SP_ALG_RS384 | 1u << SP_ALG_RS512 | 1u << SP_ALG_PS256 | 1u << SP_ALG_PS384 | 1u << SP_ALG_PS512;

static void free_context(EVP_PKEY_CTX **context) { EVP_PKEY_CTX_free(*context); }
static void free_builder(OSSL_PARAM_BLD **builder) { OSSL_PARAM_BLD_free(*builder); }
static void free_params(OSSL_PARAM **params) { OSSL_PARAM_free(*params); }
static void free_key(EVP_PKEY **key) { EVP_PKEY_free(*key); }
static void free_number(BIGNUM **number) { BN_free(*number); }

static bool read_bytes(const json_t *jwk, const char *name, void *into, size_t size, size_t *ret_len) {
    struct sp_span text;
    if (!sp_json_text(json_object_get(jwk, name), &text))
        return false;
    ssize_t n = sp_base64url_decode(text, into, size);
    if (n <= 0)
        return false;
    *ret_len = (size_t)n;
    return true;
}

static int key_from_params(const char *type, OSSL_PARAM *params, EVP_PKEY **ret) {
    _cleanup_(free_context) EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (!context || EVP_PKEY_fromdata_init(context) != 1)
        return -ENOMEM;
    return EVP_PKEY_fromdata(context, ret, EVP_PKEY_PUBLIC_KEY, params) == 1 ? 0 : -EINVAL;
}

static int rsa_key(const json_t *jwk, const char **ret_wrong, EVP_PKEY **ret) {
    uint8_t modulus[SP_RSA_BITS_MAX / 8 + 1], exponent[EXPONENT_MAX];
    size_t modulus_len, exponent_len;
    *ret_wrong = "an RSA key needs n and e in base64url, of at most 8192 and 64 bits";
    if (!read_bytes(jwk, "n", modulus, sizeof modulus, &modulus_len) || !read_bytes(jwk, "e", exponent, sizeof exponent, &exponent_len))
        return -EINVAL;

    _cleanup_(free_number) BIGNUM *n = BN_bin2bn(modulus, (int)modulus_len, NULL);
    _cleanup_(free_number) BIGNUM *e = BN_bin2bn(exponent, (int)exponent_len, NULL);
    _cleanup_(free_builder) OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    if (!n || !e || !builder)
        return -ENOMEM;
    if (BN_num_bits(n) < SP_RSA_BITS_MIN || BN_num_bits(n) > SP_RSA_BITS_MAX) {
        *ret_wrong = "an RSA key must have 2048 to 8192 bits";
        return -EINVAL;
    }
    if (!BN_is_odd(n) || !BN_is_odd(e) || BN_is_one(e)) {
        *ret_wrong = "an RSA key needs an odd modulus and an odd exponent of at least 3";
        return -EINVAL;
    }
    if (OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) != 1 || OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) != 1)
        return -ENOMEM;
    _cleanup_(free_params) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    return params ? key_from_params("RSA", params, ret) : -ENOMEM;
}

static int ec_key(const json_t *jwk, const struct sp_algorithm *of, const char **ret_wrong, EVP_PKEY **ret) {
    uint8_t point[1 + 2 * COORDINATE_MAX] = {POINT_CONVERSION_UNCOMPRESSED};
    size_t x_len, y_len;
    *ret_wrong = "an EC key needs x and y in base64url, each of its curve's full length (RFC 7518 §6.2.1.2)";
    if (!read_bytes(jwk, "x", point + 1, of->coordinate, &x_len) || x_len != of->coordinate ||
        !read_bytes(jwk, "y", point + 1 + of->coordinate, of->coordinate, &y_len) || y_len != of->coordinate)
        return -EINVAL;

    *ret_wrong = "x and y are no point on the key's curve";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)of->group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * of->coordinate),
        OSSL_PARAM_construct_end(),
    };
    _cleanup_(free_key) EVP_PKEY *key = NULL;
    int r = key_from_params("EC", params, &key);
    if (r < 0)
        return r;
    /* These curves have no cofactor, so being on the curve is all there is to check (SP 800-56A §5.6.2.3.4). */
    _cleanup_(free_context) EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    if (!context)
        return -ENOMEM;
    if (EVP_PKEY_public_check_quick(context) != 1)
        return -EINVAL;
    *ret = sp_take(key);
    return 0;
}

static int okp_key(const json_t *jwk, const struct sp_algorithm *of, const char **ret_wrong, EVP_PKEY **ret) {
    uint8_t x[32];
    size_t len;
    *ret_wrong = "an Ed25519 key needs x, 32 bytes in base64url";
    if (!read_bytes(jwk, "x", x, sizeof x, &len) || len != sizeof x)
        return -EINVAL;
    *ret = EVP_PKEY_new_raw_public_key_ex(NULL, of->group, NULL, x, sizeof x);
    return *ret ? 0 : -ENOMEM;
}

/* What the key may be used for, by its type and curve; 0: nothing here. */
static uint32_t algorithms_of(const json_t *jwk, struct sp_span type) {
    if (sp_span_eq(type, SP_SPAN("RSA")))
        return rsa_algorithms;
    struct sp_span curve;
    if (!sp_json_text(json_object_get(jwk, "crv"), &curve))
        return 0;
    enum sp_key_kind kind = SP_KEY_EC;
    if (sp_span_eq(type, SP_SPAN("OKP")))
        kind = SP_KEY_OKP;
    else if (!sp_span_eq(type, SP_SPAN("EC")))
        return 0;
    for (unsigned i = 0; i < SP_ALG_COUNT; i++) {
        const struct sp_algorithm *algorithm = sp_algorithm((enum sp_jwt_algorithm)i);
        if (algorithm->kind == kind && sp_span_eq(curve, sp_span_text(algorithm->curve)))
            return 1u << i;
    }
    return 0;
}

/* RFC 7517 §4.2, §4.3: a key may say that it is not for checking signatures. */
static bool is_for_verifying(const json_t *jwk) {
    struct sp_span use;
    if (sp_json_text(json_object_get(jwk, "use"), &use) && !sp_span_eq(use, SP_SPAN("sig")))
        return false;
    const json_t *operations = json_object_get(jwk, "key_ops");
    if (!operations)
        return true;
    size_t i;
    json_t *item;
    struct sp_span operation;
    json_array_foreach(operations, i, item) {
        if (sp_json_text(item, &operation) && sp_span_eq(operation, SP_SPAN("verify")))
            return true;
    }
    return false;
}

/* Secrets are recognised in every key, used or not: what is published must not hold them. */
static bool holds_a_secret(const json_t *jwk, struct sp_span type) {
    static const char *const members[] = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"};
    if (sp_span_eq(type, SP_SPAN("oct")))
        return true;
    for (size_t i = 0; i < SP_COUNT(members); i++)
        if (json_object_get(jwk, members[i]))
            return true;
    return false;
}

/* Members that are not used must still be what they are said to be. */
static const char *check_members(const json_t *jwk) {
    const json_t *kid = json_object_get(jwk, "kid"), *use = json_object_get(jwk, "use");
    const json_t *alg = json_object_get(jwk, "alg"), *operations = json_object_get(jwk, "key_ops");
    struct sp_span text;
    if (kid && (!sp_json_text(kid, &text) || !sp_plain_text(text, SP_KID_MAX)))
        return "its kid must be a string of 1 to 255 bytes without control characters";
    if (use && !json_is_string(use))
        return "its use must be a string";
    if (alg && !json_is_string(alg))
        return "its alg must be a string";
    if (operations && !json_is_array(operations))
        return "its key_ops must be a list";
    return NULL;
}

/* `alg` narrows what type and curve allow; one that contradicts them is a mistake worth stopping for. */
static const char *narrow(const json_t *jwk, uint32_t *algorithms) {
    struct sp_span name;
    enum sp_jwt_algorithm named;
    if (!sp_json_text(json_object_get(jwk, "alg"), &name))
        return NULL;
    if (!sp_algorithm_find(name, &named)) {
        *algorithms = 0; /* RSA-OAEP and the like */
        return NULL;
    }
    *algorithms &= 1u << named;
    return *algorithms ? NULL : "its alg does not go with its type or curve";
}

int sp_jwk_read(const json_t *jwk, const char **ret_wrong, struct sp_jwk *ret) {
    struct sp_span type;
    *ret_wrong = "it is not an object with a kty";
    if (!json_is_object(jwk) || !sp_json_text(json_object_get(jwk, "kty"), &type))
        return -EINVAL;
    *ret_wrong = "it holds a private key or a secret; a key set must hold public keys only";
    if (holds_a_secret(jwk, type))
        return -EINVAL;
    if ((*ret_wrong = check_members(jwk)))
        return -EINVAL;

    struct sp_jwk read = {.algorithms = algorithms_of(jwk, type)};
    if (!is_for_verifying(jwk))
        read.algorithms = 0;
    if (read.algorithms && (*ret_wrong = narrow(jwk, &read.algorithms)))
        return -EINVAL;
    if (!read.algorithms) {
        *ret = read;
        return 0;
    }
    if (json_object_get(jwk, "kid") && !sp_json_text(json_object_get(jwk, "kid"), &read.kid))
        return -EINVAL;

    const struct sp_algorithm *of = sp_algorithm((enum sp_jwt_algorithm)__builtin_ctz(read.algorithms));
    int r = of->kind == SP_KEY_RSA  ? rsa_key(jwk, ret_wrong, &read.key)
            : of->kind == SP_KEY_EC ? ec_key(jwk, of, ret_wrong, &read.key)
                                    : okp_key(jwk, of, ret_wrong, &read.key);
    ERR_clear_error();
    if (r == 0)
        *ret = read;
    return r;
}
