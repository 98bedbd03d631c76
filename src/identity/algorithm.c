#include "algorithm.h"

#include <errno.h>

static const struct sp_algorithm algorithms[SP_ALG_COUNT] = {
    [SP_ALG_RS256] = {.name = "RS256", .kind = SP_KEY_RSA, .digest = SP_SHA256},
    [SP_ALG_RS384] = {.name = "RS384", .kind = SP_KEY_RSA, .digest = SP_SHA384},
    [SP_ALG_RS512] = {.name = "RS512", .kind = SP_KEY_RSA, .digest = SP_SHA512},
    [SP_ALG_PS256] = {.name = "PS256", .kind = SP_KEY_RSA, .digest = SP_SHA256, .pss = true},
    [SP_ALG_PS384] = {.name = "PS384", .kind = SP_KEY_RSA, .digest = SP_SHA384, .pss = true},
    [SP_ALG_PS512] = {.name = "PS512", .kind = SP_KEY_RSA, .digest = SP_SHA512, .pss = true},
    [SP_ALG_ES256] = {.name = "ES256", .kind = SP_KEY_EC, .digest = SP_SHA256, .curve = "P-256", .group = "P-256", .coordinate = 32},
    [SP_ALG_ES384] = {.name = "ES384", .kind = SP_KEY_EC, .digest = SP_SHA384, .curve = "P-384", .group = "P-384", .coordinate = 48},
    [SP_ALG_ES512] = {.name = "ES512", .kind = SP_KEY_EC, .digest = SP_SHA512, .curve = "P-521", .group = "P-521", .coordinate = 66},
    [SP_ALG_EDDSA] =
        {.name = "EdDSA", .kind = SP_KEY_OKP, .digest = SP_DIGEST_NONE, .curve = "Ed25519", .group = "ED25519", .coordinate = 32},
    [SP_ALG_HS256] = {.name = "HS256", .kind = SP_KEY_SECRET, .digest = SP_SHA256},
};

const struct sp_algorithm *sp_algorithm(enum sp_jwt_algorithm algorithm) { return &algorithms[algorithm]; }

bool sp_algorithm_find(struct sp_span name, enum sp_jwt_algorithm *ret) {
    for (unsigned i = 0; i < SP_ALG_COUNT; i++) {
        if (!sp_span_eq(name, sp_span_text(algorithms[i].name)))
            continue;
        *ret = (enum sp_jwt_algorithm)i;
        return true;
    }
    return false;
}

static const struct {
    const char *name;
    size_t len;
} digest_names[SP_DIGEST_COUNT] = {[SP_SHA256] = {"SHA2-256", 32}, [SP_SHA384] = {"SHA2-384", 48}, [SP_SHA512] = {"SHA2-512", 64}};

/* Kept until the thread's end on purpose: they are as long-lived as the program. */
static _Thread_local struct {
    EVP_MD *md;
    EVP_MD_CTX *context;
} digests[SP_DIGEST_COUNT];

int sp_digests_prepare(void) {
    for (unsigned i = 0; i < SP_DIGEST_COUNT; i++) {
        if (!digests[i].md)
            digests[i].md = EVP_MD_fetch(NULL, digest_names[i].name, NULL);
        if (!digests[i].context)
            digests[i].context = EVP_MD_CTX_new();
        if (!digests[i].md || !digests[i].context)
            return -ENOMEM;
    }
    return 0;
}

const EVP_MD *sp_digest_md(enum sp_digest_kind kind) { return digests[kind].md; }
size_t sp_digest_len(enum sp_digest_kind kind) { return digest_names[kind].len; }

bool sp_digest(enum sp_digest_kind kind, struct sp_span text, uint8_t out[SP_DIGEST_MAX]) {
    if (!digests[kind].context && sp_digests_prepare() < 0)
        return false;
    EVP_MD_CTX *context = digests[kind].context;
    return EVP_DigestInit_ex2(context, digests[kind].md, NULL) == 1 && EVP_DigestUpdate(context, text.at, text.len) == 1 &&
           EVP_DigestFinal_ex(context, out, NULL) == 1;
}
