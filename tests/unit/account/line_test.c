/* The access log's lines: exact bytes, escaping, and that no input makes one longer than a pipe takes in one piece. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../../src/account/line.h"

static struct sp_access_record full_record(void) {
    return (struct sp_access_record){
        .wall_ms = UINT64_C(1795383233123),
        .request_id = SP_SPAN("01KAPZ6S0ZJ4W8X3QH2N5R7T9V"),
        .client = SP_SPAN("192.0.2.7"),
        .protocol = SP_SPAN("HTTP/1.1"),
        .method = SP_SPAN("POST"),
        .path = SP_SPAN("/v1/chat/completions"),
        .host = SP_SPAN("api.example.com"),
        .tls_version = SP_SPAN("TLSv1.3"),
        .tls_group = SP_SPAN("X25519"),
        .tls_cipher = SP_SPAN("TLS_AES_256_GCM_SHA384"),
        .route = SP_SPAN("chat"),
        .model = SP_SPAN("llama-3"),
        .subject = SP_SPAN("alice"),
        .tenant = SP_SPAN("acme"),
        .key_id = SP_SPAN("k1234567"),
        .pool = SP_SPAN("llama"),
        .server = SP_SPAN("10.0.0.11:8000"),
        .reason = SP_SPAN("ok"),
        .status = 200,
        .bytes_in = 512,
        .bytes_out = 18446744073709551615u,
        .tokens_in = 12,
        .tokens_out = 0,
        .first_byte_us = 12345,
        .total_us = 1000007,
        .retries = 1,
    };
}

static void a_full_record_is_one_line_of_exactly_these_bytes(void **state) {
    char line[SP_LINE_MAX];
    struct sp_access_record record = full_record();
    size_t len = sp_access_line(&record, line);
    const char *expected =
        "{\"time\":\"2026-11-22T21:33:53.123Z\",\"request_id\":\"01KAPZ6S0ZJ4W8X3QH2N5R7T9V\",\"client\":\"192.0.2.7\",\"protocol\":\"HTTP/"
        "1.1\","
        "\"tls\":{\"version\":\"TLSv1.3\",\"group\":\"X25519\",\"cipher\":\"TLS_AES_256_GCM_SHA384\"},\"method\":\"POST\","
        "\"host\":\"api.example.com\",\"path\":\"/v1/chat/completions\",\"route\":\"chat\",\"model\":\"llama-3\",\"subject\":\"alice\","
        "\"tenant\":\"acme\",\"key_id\":\"k1234567\",\"status\":200,\"reason\":\"ok\",\"limit\":null,\"limit_kind\":null,\"pool\":"
        "\"llama\","
        "\"server\":\"10.0.0.11:8000\",\"bytes_in\":512,\"bytes_out\":18446744073709551615,\"tokens_in\":12,\"tokens_out\":0,\"usage\":"
        "\"reported\","
        "\"first_byte_ms\":12.345,\"total_ms\":1000.007,\"retries\":1,\"degraded\":false}\n";
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(line, expected, len);
}

static void what_is_not_known_is_null_and_every_key_stays(void **state) {
    char line[SP_LINE_MAX];
    struct sp_access_record record = {.tokens_in = -1, .tokens_out = -1, .first_byte_us = -1, .degraded = true};
    size_t len = sp_access_line(&record, line);
    const char *expected =
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"request_id\":null,\"client\":null,\"protocol\":null,\"tls\":null,\"method\":null,"
        "\"host\":null,"
        "\"path\":null,\"route\":null,\"model\":null,\"subject\":null,\"tenant\":null,\"key_id\":null,\"status\":null,\"reason\":null,"
        "\"limit\":null,\"limit_kind\":null,\"pool\":null,\"server\":null,\"bytes_in\":0,\"bytes_out\":0,\"tokens_in\":null,\"tokens_out\":"
        "null,\"usage\":null,"
        "\"first_byte_ms\":null,\"total_ms\":0.000,\"retries\":0,\"degraded\":true}\n";
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(line, expected, len);
}

static void a_shadow_limit_is_told_only_when_there_is_one(void **state) {
    char line[SP_LINE_MAX];
    struct sp_access_record record = full_record();
    record.limit = SP_SPAN("per-caller");
    record.limit_kind = SP_SPAN("tokens");
    record.shadow_limit = SP_SPAN("tighter");
    size_t len = sp_access_line(&record, line);
    assert_non_null(memmem(line, len, ",\"limit\":\"per-caller\",\"limit_kind\":\"tokens\",\"shadow_limit\":\"tighter\",\"pool\":", 76));
}

static void tokens_of_an_estimate_are_marked(void **state) {
    char line[SP_LINE_MAX];
    struct sp_access_record record = full_record();
    record.tokens_estimated = true;
    record.tokens_in = -1;
    size_t len = sp_access_line(&record, line);
    assert_non_null(memmem(line, len, ",\"tokens_in\":null,\"tokens_out\":0,\"usage\":\"estimated\",", 53));
    record.tokens_out = -1; /* nothing is known: nothing was estimated either */
    len = sp_access_line(&record, line);
    assert_non_null(memmem(line, len, ",\"usage\":null,", 14));
}

/* The value of "path" as it stands in the line. */
static void check_path(struct sp_span path, const char *expected) {
    char line[SP_LINE_MAX];
    struct sp_access_record record = full_record();
    record.path = path;
    size_t len = sp_access_line(&record, line);
    const char *begin = memmem(line, len, "\"path\":", 7);
    assert_non_null(begin);
    begin += 7;
    const char *end = memmem(begin, len - (size_t)(begin - line), ",\"route\":\"chat\"", 15);
    assert_non_null(end);
    assert_int_equal(end - begin, strlen(expected));
    assert_memory_equal(begin, expected, strlen(expected));
}

static void hostile_bytes_become_valid_json_and_utf8(void **state) {
    check_path(SP_SPAN("/\"}\n{\"status\":200"), "\"/\\\"}\\u000a{\\\"status\\\":200\"");
    check_path(SP_SPAN("/a\\b"), "\"/a\\\\b\"");
    check_path(SP_SPAN("/\x01\x1f\x7f \x1b[31m"), "\"/\\u0001\\u001f\\u007f \\u001b[31m\"");
    check_path(SP_SPAN("/caf\xc3\xa9"), "\"/caf\xc3\xa9\"");
    check_path(SP_SPAN("/\xe2\x82\xac\xf0\x9f\x98\x80"), "\"/\xe2\x82\xac\xf0\x9f\x98\x80\"");
    check_path(SP_SPAN("/\xc2\x9b\x31m"), "\"/\\u009b1m\"");                           /* C1: terminals obey it */
    check_path(SP_SPAN("/\xff\xfe"), "\"/\xef\xbf\xbd\xef\xbf\xbd\"");                 /* never UTF-8 */
    check_path(SP_SPAN("/\xc0\xaf"), "\"/\xef\xbf\xbd\xef\xbf\xbd\"");                 /* overlong */
    check_path(SP_SPAN("/\xed\xa0\x80"), "\"/\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""); /* surrogate */
    check_path(SP_SPAN("/\xe2\x82"), "\"/\xef\xbf\xbd\xef\xbf\xbd\"");                 /* cut off */
    check_path(sp_span("/\0x", 3), "\"/\\u0000x\"");
}

static void an_odd_byte_is_seen_at_every_place(void **state) {
    static const struct {
        char byte;
        const char *escaped;
    } odd[] = {
        {0x00, "\\u0000"},           {0x1f, "\\u001f"}, {'"', "\\\""}, {'\\', "\\\\"}, {0x7f, "\\u007f"}, {(char)0x80, "\xef\xbf\xbd"},
        {(char)0xff, "\xef\xbf\xbd"}};
    for (size_t len = 1; len <= 33; len++) {
        for (size_t at = 0; at < len; at++) {
            for (size_t i = 0; i < SP_COUNT(odd); i++) {
                char path[33], expected[64];
                memset(path, 'a', sizeof path);
                int n = snprintf(expected, sizeof expected, "\"%.*s%s%.*s\"", (int)at, path, odd[i].escaped, (int)(len - at - 1), path);
                assert_true(n > 0);
                path[at] = odd[i].byte;
                check_path(sp_span(path, len), expected);
            }
        }
    }
}

static void plain_text_of_every_length_is_copied_as_it_is(void **state) {
    char path[40], expected[43];
    for (size_t len = 1; len <= 40; len++) {
        for (size_t i = 0; i < len; i++)
            path[i] = (char)('!' + (i * 7) % 80 == '"' || '!' + (i * 7) % 80 == '\\' ? '~' : '!' + (i * 7) % 80);
        snprintf(expected, sizeof expected, "\"%.*s\"", (int)len, path);
        check_path(sp_span(path, len), expected);
    }
}

static void long_values_are_clipped_at_a_character_and_marked(void **state) {
    char path[4096], expected[1100];
    memset(path, 'a', sizeof path);
    memset(expected, 'a', sizeof expected);
    memcpy(expected + 1024, "\xe2\x80\xa6\"", 5);
    memmove(expected + 1, expected, 1029);
    expected[0] = '"';
    check_path(sp_span(path, sizeof path), expected);
    /* 1,023 bytes and a character of two: it does not fit, and is not halved. */
    memcpy(path + 1023, "\xc3\xa9", 2);
    memset(expected, 'a', sizeof expected);
    expected[0] = '"';
    memcpy(expected + 1024, "\xe2\x80\xa6\"", 5);
    check_path(sp_span(path, 1025), expected);
}

static void no_record_makes_a_line_longer_than_a_pipe_takes_whole(void **state) {
    static char hostile[8192], line[SP_LINE_MAX + 64];
    memset(hostile, 0x01, sizeof hostile);
    struct sp_span all = sp_span(hostile, sizeof hostile);
    struct sp_access_record record = {
        .wall_ms = UINT64_MAX / 2,
        .request_id = all,
        .client = all,
        .protocol = all,
        .method = all,
        .path = all,
        .host = all,
        .tls_version = all,
        .tls_group = all,
        .tls_cipher = all,
        .route = all,
        .model = all,
        .subject = all,
        .tenant = all,
        .key_id = all,
        .pool = all,
        .server = all,
        .reason = all,
        .limit = all,
        .limit_kind = all,
        .tokens_estimated = true,
        .shadow_limit = all,
        .status = UINT32_MAX,
        .bytes_in = UINT64_MAX,
        .bytes_out = UINT64_MAX,
        .tokens_in = INT64_MAX,
        .tokens_out = INT64_MAX,
        .first_byte_us = INT64_MAX,
        .total_us = UINT64_MAX,
        .retries = UINT32_MAX,
    };
    memset(line + SP_LINE_MAX, 0x5a, 64);
    size_t len = sp_access_line(&record, line);
    assert_true(len <= SP_LINE_MAX);
    assert_int_equal(line[len - 1], '\n');
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(line[SP_LINE_MAX + i], 0x5a);
    memset(hostile, 'x', sizeof hostile);
    assert_true(sp_access_line(&record, line) <= SP_LINE_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_record_is_one_line_of_exactly_these_bytes),
        cmocka_unit_test(what_is_not_known_is_null_and_every_key_stays),
        cmocka_unit_test(a_shadow_limit_is_told_only_when_there_is_one),
        cmocka_unit_test(tokens_of_an_estimate_are_marked),
        cmocka_unit_test(hostile_bytes_become_valid_json_and_utf8),
        cmocka_unit_test(an_odd_byte_is_seen_at_every_place),
        cmocka_unit_test(plain_text_of_every_length_is_copied_as_it_is),
        cmocka_unit_test(long_values_are_clipped_at_a_character_and_marked),
        cmocka_unit_test(no_record_makes_a_line_longer_than_a_pipe_takes_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
