#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <sallyport/base.h>

static void base64url_follows_the_vectors_of_rfc_4648_without_padding(void **state) {
    const char *pairs[][2] = {{"", ""}, {"f", "Zg"}, {"fo", "Zm8"}, {"foo", "Zm9v"}, {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < SP_COUNT(pairs); i++) {
        char out[16];
        size_t n = sp_base64url(pairs[i][0], strlen(pairs[i][0]), out);
        assert_int_equal(n, SP_BASE64URL_LEN(strlen(pairs[i][0])));
        assert_true(sp_span_eq(sp_span(out, n), sp_span_text(pairs[i][1])));
        ssize_t back = sp_base64url_decode(sp_span(out, n), out, sizeof out);
        assert_true(sp_span_eq(sp_span(out, (size_t)back), sp_span_text(pairs[i][0])));
    }
}

static void base64url_refuses_what_has_a_second_spelling(void **state) {
    char out[16];
    const char *bad[] = {"Z", "Zg==", "Zh", "Zm9", "Z m8", "Zm8\n", "Zm+v", "Zm/v", "Zm9vY", "\xff\xff"};
    for (size_t i = 0; i < SP_COUNT(bad); i++)
        assert_int_equal(sp_base64url_decode(sp_span_text(bad[i]), out, sizeof out), -EINVAL);
    assert_int_equal(sp_base64url_decode(SP_SPAN("Zm9vYmFy"), out, 5), -ENOSPC);
}

static void base64url_knows_its_64_digits_wherever_they_stand(void **state) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (int c = 0; c < 256; c++)
        for (size_t at = 0; at < 6; at++) {
            char text[] = "AAAAAA", out[4];
            const char *found = c ? strchr(digits, c) : NULL;
            text[at] = (char)c;
            bool good = found && (at < 5 || (found - digits) % 16 == 0);
            assert_int_equal(sp_base64url_digits(sp_span(text, 6)), found != NULL);
            assert_int_equal(sp_base64url_decode(sp_span(text, 6), out, sizeof out), good ? 4 : -EINVAL);
        }
    assert_true(sp_base64url_digits(SP_SPAN("")));
}

static void hexadecimal_goes_there_and_back(void **state) {
    uint8_t bytes[256], back[256];
    char text[512];
    for (unsigned i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(sp_hex(bytes, sizeof bytes, text), 512);
    assert_true(sp_unhex(sp_span(text, 512), back, sizeof back));
    assert_memory_equal(bytes, back, sizeof bytes);
    assert_false(sp_unhex(sp_span(text, 511), back, sizeof back));
    assert_false(sp_unhex(SP_SPAN("0g"), back, 1));
}

static void siphash_depends_on_every_byte_and_on_the_key(void **state) {
    struct sp_hash_key key = {1, 2}, other = {1, 3};
    char bytes[33] = {0};
    for (size_t len = 0; len <= sizeof bytes; len++) {
        uint64_t hash = sp_hash(&key, bytes, len);
        assert_true(hash != sp_hash(&other, bytes, len));
        for (size_t i = 0; i < len; i++) {
            bytes[i] ^= 1;
            assert_true(hash != sp_hash(&key, bytes, len));
            bytes[i] ^= 1;
        }
    }
}

static void timestamps_are_rfc_3339_in_utc(void **state) {
    char text[SP_TIMESTAMP_LEN + 1];
    sp_timestamp(UINT64_C(1795390433123), text);
    assert_string_equal(text, "2026-11-22T23:33:53.123Z");
    sp_timestamp(UINT64_C(1795390433007), text);
    assert_string_equal(text, "2026-11-22T23:33:53.007Z");
    sp_timestamp(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    sp_timestamp(UINT64_C(951782400999), text);
    assert_string_equal(text, "2000-02-29T00:00:00.999Z");
}

static void a_log_line_is_one_json_object_whatever_the_message_holds(void **state) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    char name[] = "test";
    sp_log_open(ends[1], name, SP_LOG_INFO);
    memset(name, 'x', sizeof name); /* the name was the caller's */
    sp_warn("bad \"bytes\" %s", "\x01\n\xff");
    sp_debug("not this one");
    sp_log_open(STDERR_FILENO, "test", SP_LOG_INFO);
    close(ends[1]);
    char line[1024];
    ssize_t n = read(ends[0], line, sizeof line - 1);
    close(ends[0]);
    assert_true(n > 0);
    line[n] = 0;
    assert_ptr_equal(strchr(line, '\n'), line + n - 1);
    assert_non_null(strstr(line, "\"level\":\"warn\",\"process\":\"test\""));
    assert_non_null(strstr(line, "\"message\":\"bad \\\"bytes\\\" \\u0001\\u000a\xef\xbf\xbd\"}"));
}

static void random_bytes_differ(void **state) {
    uint64_t a[4], b[4];
    sp_random(a, sizeof a);
    sp_random(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_true(sp_random_u64_fast() != sp_random_u64_fast());
}

static void decimal_digits_are_those_of_the_c_library(void **state) {
    (void)state;
    char text[SP_DECIMAL_MAX], expected[SP_DECIMAL_MAX + 1];
    for (uint64_t power = 1, times = 0; times < 20; power *= 10, times++)
        for (int64_t off = -110; off <= 110; off++) {
            uint64_t number = power + (uint64_t)off; /* around every place where a digit is added, and past both ends */
            int len = snprintf(expected, sizeof expected, "%llu", (unsigned long long)number);
            assert_int_equal(sp_decimal(number, text), len);
            assert_memory_equal(text, expected, (size_t)len);
        }
}

static void secrets_are_equal_only_when_every_byte_is(void **state) {
    (void)state;
    char a[40], b[40];
    for (size_t len = 0; len <= sizeof a; len++) {
        memset(a, 's', sizeof a);
        memset(b, 's', sizeof b);
        assert_true(sp_secret_eq(a, b, len));
        for (size_t at = 0; at < sizeof a; at++) {
            b[at] ^= (char)(1 << at % 8);
            assert_int_equal(sp_secret_eq(a, b, len), at >= len);
            b[at] = 's';
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64url_follows_the_vectors_of_rfc_4648_without_padding),
        cmocka_unit_test(base64url_refuses_what_has_a_second_spelling),
        cmocka_unit_test(base64url_knows_its_64_digits_wherever_they_stand),
        cmocka_unit_test(hexadecimal_goes_there_and_back),
        cmocka_unit_test(decimal_digits_are_those_of_the_c_library),
        cmocka_unit_test(siphash_depends_on_every_byte_and_on_the_key),
        cmocka_unit_test(timestamps_are_rfc_3339_in_utc),
        cmocka_unit_test(a_log_line_is_one_json_object_whatever_the_message_holds),
        cmocka_unit_test(random_bytes_differ),
        cmocka_unit_test(secrets_are_equal_only_when_every_byte_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
