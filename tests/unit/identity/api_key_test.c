/* What an API key looks like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/sha.h>
#include <sallyport/identity.h>

static bool parses(const char *text) {
    char id[9];
    uint8_t digest[32];
    return sp_api_key_parse(sp_span_text(text), id, digest);
}

static void a_generated_key_parses_to_its_id_and_digest(void **state) {
    for (int i = 0; i < 200; i++) {
        struct sp_api_key_text key;
        char id[9];
        uint8_t digest[32], expected[32];
        assert_int_equal(sp_api_key_generate(&key), 0);
        assert_int_equal(strlen(key.text), SP_API_KEY_LEN);
        assert_true(sp_api_key_parse(sp_span_text(key.text), id, digest));
        assert_string_equal(id, key.id);
        assert_memory_equal(digest, key.digest, 32);
        SHA256((const uint8_t *)key.text + 12, 43, expected);
        assert_memory_equal(digest, expected, 32);
    }
}

static void two_keys_are_never_the_same(void **state) {
    struct sp_api_key_text one, two;
    assert_int_equal(sp_api_key_generate(&one), 0);
    assert_int_equal(sp_api_key_generate(&two), 0);
    assert_string_not_equal(one.id, two.id);
    assert_memory_not_equal(one.digest, two.digest, 32);
}

static void the_checksum_is_crc32_in_base62(void **state) {
    /* Reckoned independently: python3 -c 'import zlib; zlib.crc32(b"sp_…")', then six digits to the base 62. */
    assert_true(parses("sp_AbCd0129_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh82IRMoB"));
}

static void any_changed_character_is_noticed(void **state) {
    struct sp_api_key_text key;
    assert_int_equal(sp_api_key_generate(&key), 0);
    for (size_t i = 0; i < SP_API_KEY_LEN; i++) {
        char before = key.text[i];
        for (int c = 1; c < 256; c++) {
            key.text[i] = (char)c;
            if ((char)c != before)
                assert_false(parses(key.text));
        }
        key.text[i] = before;
    }
    assert_true(parses(key.text));
}

static void another_length_is_no_key(void **state) {
    struct sp_api_key_text key;
    char id[9], longer[SP_API_KEY_LEN + 2] = {0};
    uint8_t digest[32];
    assert_int_equal(sp_api_key_generate(&key), 0);
    for (size_t len = 0; len < SP_API_KEY_LEN; len++)
        assert_false(sp_api_key_parse(sp_span(key.text, len), id, digest));
    memcpy(longer, key.text, SP_API_KEY_LEN);
    longer[SP_API_KEY_LEN] = '0';
    assert_false(parses(longer));
    assert_false(parses(""));
}

static void a_secret_has_one_spelling(void **state) {
    /* The 43rd digit carries 4 bits; this one has an unused bit set, and a checksum that fits it. */
    assert_false(parses("sp_AbCd0129_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh90Brcxd"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_generated_key_parses_to_its_id_and_digest),
        cmocka_unit_test(two_keys_are_never_the_same),
        cmocka_unit_test(the_checksum_is_crc32_in_base62),
        cmocka_unit_test(any_changed_character_is_noticed),
        cmocka_unit_test(another_length_is_no_key),
        cmocka_unit_test(a_secret_has_one_spelling),
    };
    return cmocka_run_group_tests_name("identity: API keys", tests, NULL, NULL);
}
