/* libjwt signs and checks too: where it is right, both must agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jwt.h>
#include <openssl/pem.h>

#include "forge.h"

static struct sp_config *config;
static struct sp_identity *identity;

static int begin_test(void **state) {
    config = standard_config();
    identity = identity_of(config);
    return 0;
}

static int end_test(void **state) {
    sp_identity_unref(identity);
    free_config(config);
    return 0;
}

static char *pem(EVP_PKEY *key, bool private_key) {
    BIO *memory = BIO_new(BIO_s_mem());
    assert_non_null(memory);
    assert_int_equal(private_key ? PEM_write_bio_PrivateKey(memory, key, NULL, NULL, 0, NULL, NULL) : PEM_write_bio_PUBKEY(memory, key), 1);
    char *bytes;
    long len = BIO_get_mem_data(memory, &bytes);
    char *copy = text("%.*s", (int)len, bytes);
    BIO_free(memory);
    return copy;
}

static bool we_accept(const char *token_text) {
    struct sp_principal *principal = NULL;
    const char *reason;
    bool good = sp_jwt_verify(identity, sp_span_text(token_text), NOW, &principal, &reason) == SP_AUTH_OK;
    sp_principal_unref(principal);
    return good;
}

static bool libjwt_accepts(const char *token_text, const char *public_pem) {
    jwt_t *jwt = NULL;
    int r = jwt_decode(&jwt, token_text, (const unsigned char *)public_pem, (int)strlen(public_pem));
    jwt_free(jwt);
    return r == 0;
}

static const struct {
    const char *algorithm, *kid;
    jwt_alg_t theirs;
    size_t key; /* offset in struct keys */
} common[] = {
    {"RS256", "rsa", JWT_ALG_RS256, offsetof(struct keys, rsa)},   {"RS384", "rsa", JWT_ALG_RS384, offsetof(struct keys, rsa)},
    {"RS512", "rsa", JWT_ALG_RS512, offsetof(struct keys, rsa)},   {"ES256", "p256", JWT_ALG_ES256, offsetof(struct keys, p256)},
    {"ES384", "p384", JWT_ALG_ES384, offsetof(struct keys, p384)}, {"ES512", "p521", JWT_ALG_ES512, offsetof(struct keys, p521)},
};

static EVP_PKEY *key_at(size_t i) { return *(EVP_PKEY *const *)(const void *)((const char *)keys() + common[i].key); }

static void what_libjwt_signs_we_accept(void **state) {
    for (size_t i = 0; i < SP_COUNT(common); i++) {
        char *private_pem = pem(key_at(i), true);
        jwt_t *jwt;
        assert_int_equal(jwt_new(&jwt), 0);
        assert_int_equal(jwt_add_grants_json(jwt, GOOD_CLAIMS), 0);
        assert_int_equal(jwt_add_header(jwt, "kid", common[i].kid), 0);
        assert_int_equal(jwt_set_alg(jwt, common[i].theirs, (const unsigned char *)private_pem, (int)strlen(private_pem)), 0);
        char *signed_text = jwt_encode_str(jwt);
        assert_non_null(signed_text);
        if (!we_accept(signed_text))
            fail_msg("%s", common[i].algorithm);
        free(signed_text);
        jwt_free(jwt);
        free(private_pem);
    }
}

static void on_good_and_damaged_signatures_libjwt_and_we_agree(void **state) {
    for (size_t i = 0; i < SP_COUNT(common); i++) {
        char *public_pem = pem(key_at(i), false);
        char *header = text("{\"alg\":\"%s\",\"kid\":\"%s\",\"typ\":\"JWT\"}", common[i].algorithm, common[i].kid);
        char *made = token(common[i].algorithm, key_at(i), header, GOOD_CLAIMS);
        assert_true(we_accept(made));
        assert_true(libjwt_accepts(made, public_pem));
        char *signature = strrchr(made, '.') + 1;
        for (size_t at = 0; at + 2 < strlen(signature); at += 7) {
            char before = signature[at];
            signature[at] = before == 'A' ? 'B' : 'A';
            assert_false(we_accept(made));
            assert_false(libjwt_accepts(made, public_pem));
            signature[at] = before;
        }
        free(made);
        free(header);
        free(public_pem);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_libjwt_signs_we_accept, begin_test, end_test),
        cmocka_unit_test_setup_teardown(on_good_and_damaged_signatures_libjwt_and_we_agree, begin_test, end_test),
    };
    return cmocka_run_group_tests_name("identity: a second opinion", tests, NULL, NULL);
}
