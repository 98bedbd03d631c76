/* Keys, key sets and tokens for the tests, good and bad, made with OpenSSL alone: nothing here comes from the code under test. */
#ifndef TESTS_IDENTITY_FORGE_H
#define TESTS_IDENTITY_FORGE_H

#include <openssl/evp.h>
#include <sallyport/identity.h>

#define NOW           UINT64_C(1800000000)
#define ISSUER        "https://issuer.test"
#define OTHER_ISSUER  "https://other.test"
#define SECRET_ISSUER "https://secret.test"
#define SECRET        "0123456789abcdef0123456789abcdef"
#define GOOD_TIMES    "\"exp\":1800000600,\"iat\":1800000000"
#define GOOD_CLAIMS   "{\"iss\":\"" ISSUER "\",\"aud\":\"inference\",\"sub\":\"alice\"," GOOD_TIMES "}"

struct keys {
    EVP_PKEY *rsa, *other_rsa, *p256, *p384, *p521, *ed25519, *stranger; /* stranger: P-256, in no key set */
};
const struct keys *keys(void); /* made at the first call */

/* All text returned here is malloc'ed and never NULL: a test that cannot make it ends. */
char *text(const char *format, ...) SP_PRINTF(1, 2);
char *encode(const void *bytes, size_t len); /* base64url */
/* A public JWK; `more` is further members, each followed by a comma, or "". */
char *public_jwk(EVP_PKEY *key, const char *more);
char *jwks_of(const char *const *jwks, size_t n);
char *standard_jwks(void); /* kids: rsa (no alg), p256, p384, p521, ed */

/* How to sign: an algorithm's name, independent of what the header says. HS256 takes `secret`. */
char *sign_parts(const char *algorithm, EVP_PKEY *key, struct sp_span secret, const char *header_b64, const char *payload_b64);
char *token(const char *algorithm, EVP_PKEY *key, const char *header, const char *claims);
char *secret_token(const char *secret, const char *header, const char *claims);

/* A configuration with three issuers (ISSUER with the standard key set, OTHER_ISSUER with other_rsa only, SECRET_ISSUER with HS256) and
 * roles chat (bit 0) and batch (bit 1). Belongs to the caller, who may change it before building an identity. */
struct sp_config *standard_config(void);
void free_config(struct sp_config *config);
struct sp_identity *identity_of(struct sp_config *config);

#endif
