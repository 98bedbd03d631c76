#include "scanning.h"

/* A body whose model is `inside` of a string. */
static struct scanned scan_model(struct sp_span inside) {
    char body[1024];
    int len = snprintf(body, sizeof body, "{\"model\":\"" SP_SPAN_FMT "\"}", SP_SPAN_ARG(inside));
    assert_true(len > 0 && (size_t)len < sizeof body);
    return scan_span(sp_span(body, (size_t)len));
}

static void assert_decodes(const char *inside, const char *expected) {
    struct scanned scanned = scan_model(sp_span_text(inside));
    if (scanned.progress != SP_HTTP_COMPLETE)
        fail_msg("refused (%s): %s", scanned.wrong, inside);
    assert_model(&scanned.ask, expected);
}

/* `inside` after text of every length up to three wide steps, in a skipped string and in one that is kept. */
static void assert_refused_anywhere(struct sp_span inside, size_t wrong_at, const char *words) {
    for (size_t before = 0; before < 100; before++) {
        char body[512];
        const char *const names[] = {"prompt", "model"};
        for (size_t i = 0; i < SP_COUNT(names); i++) {
            int begin =
                snprintf(body, sizeof body, "{\"%s\":\"%.*s", names[i], (int)before,
                         "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen 17 18 19 20");
            memcpy(body + begin, inside.at, inside.len);
            size_t len = (size_t)begin + inside.len;
            len += (size_t)snprintf(body + len, sizeof body - len, "%s", " and all that follows, enough of it for one more wide step\"}");
            assert_refused_span(sp_span(body, len), (size_t)begin + wrong_at, words);
        }
    }
}

static void escapes_stand_for_their_characters(void **state) {
    assert_decodes("a\\\"b\\\\c\\/d\\be\\ff\\ng\\rh\\ti", "a\"b\\c/d\be\ff\ng\rh\ti");
    assert_decodes("\\u0041\\u00e9\\u00E9\\u4e2d\\u4E2D\\uffff", "A\xc3\xa9\xc3\xa9\xe4\xb8\xad\xe4\xb8\xad\xef\xbf\xbf");
    assert_decodes("\\ud83d\\ude00\\uD800\\uDC00\\udbff\\udfff", "\xf0\x9f\x98\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
    assert_decodes("\\u0001\\u007f\\u0080\\u07ff\\u0800", "\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80");
}

static void other_escapes_are_refused(void **state) {
    assert_refused_anywhere(SP_SPAN("\\x41"), 1, "escape");
    assert_refused_anywhere(SP_SPAN("\\'"), 1, "escape");
    assert_refused_anywhere(SP_SPAN("\\N"), 1, "escape");
    assert_refused_anywhere(SP_SPAN("\\\n"), 1, "escape");
    assert_refused_anywhere(SP_SPAN("\\\0"), 1, "escape");
    assert_refused_anywhere(SP_SPAN("\\U0041"), 1, "escape");
    assert_refused_anywhere(SP_SPAN("\\u004g"), 5, "hexadecimal");
    assert_refused_anywhere(SP_SPAN("\\u\"1234"), 2, "hexadecimal");
}

static void half_a_surrogate_pair_is_refused(void **state) {
    assert_refused_anywhere(SP_SPAN("\\ud83d"), 6, "surrogate");
    assert_refused_anywhere(SP_SPAN("\\udbff\\n"), 7, "surrogate");
    assert_refused_anywhere(SP_SPAN("\\ud83d\\u0041"), 11, "surrogate");
    assert_refused_anywhere(SP_SPAN("\\ud83d\\ud83d"), 11, "surrogate");
    assert_refused_anywhere(SP_SPAN("\\ude00"), 5, "surrogate");
    assert_refused_anywhere(SP_SPAN("\\uDE00"), 5, "surrogate");
    assert_refused_anywhere(SP_SPAN("\\uD83D"), 6, "surrogate");
    assert_refused_anywhere(SP_SPAN("\\udfff\\ud800"), 5, "surrogate");
}

static void control_characters_must_be_escaped(void **state) {
    for (int byte = 0; byte < 0x20; byte++)
        assert_refused_anywhere(sp_span((char[]){'a', (char)byte}, 2), 1, "control character");
    assert_decodes("\x7f", "\x7f"); /* DEL is none of them in RFC 8259 */
}

static void text_is_utf8_to_the_letter(void **state) {
    assert_decodes("\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
                   "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
    static const struct {
        const char *bytes;
        size_t wrong_at;
    } wrong[] = {
        {"\x80", 0},
        {"\xbf", 0},
        {"\xc3\xa9\x80", 2},
        {"\xc0\xaf", 0},
        {"\xc1\xbf", 0},
        {"\xc3\xc3\xa9", 1},
        {"\xc3", 1},
        {"\xe0\x9f\xbf", 1},
        {"\xe0\x80\xaf", 1},
        {"\xe4\xb8", 2},
        {"\xe4\xb8\xc3", 2},
        {"\xe4", 1},
        {"\xed\xa0\x80", 1},
        {"\xed\xbf\xbf", 1},
        {"\xf0\x8f\xbf\xbf", 1},
        {"\xf0\x80\x80\xaf", 1},
        {"\xf0\x9f\x98", 3},
        {"\xf0\x9f", 2},
        {"\xf0\x9f\x98\xff", 3},
        {"\xf4\x90\x80\x80", 1},
        {"\xf5\x80\x80\x80", 0},
        {"\xf8\x88\x80\x80\x80", 0},
        {"\xfe", 0},
        {"\xff", 0},
        {"\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8"
         "\xad\xe4\xb8",
         35},
    };
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        assert_refused_anywhere(sp_span_text(wrong[i].bytes), wrong[i].wrong_at, "UTF-8");
}

/* Every character there is, each once, in one string. */
static void every_character_counts_as_its_utf8(void **state) {
    static const struct sp_span begin = SP_SPAN("{\"prompt\":\""), end = SP_SPAN("\"}");
    char *body = malloc(begin.len + 4 * 0x110000 + end.len), *at = body;
    assert_non_null(body);
    memcpy(at, begin.at, begin.len);
    at += begin.len;
    uint64_t bytes = 0;
    for (uint32_t c = 0x20; c < 0x110000; c++) {
        if (c == '"' || c == '\\' || (c >= 0xd800 && c < 0xe000))
            continue;
        unsigned len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        for (unsigned i = len; i-- > 1;)
            at[i] = (char)(0x80 | (c >> 6 * (len - 1 - i) & 0x3f));
        at[0] = (char)(len == 1 ? c : (0xf00u >> len & 0xff) | c >> 6 * (len - 1));
        at += len;
        bytes += len;
    }
    memcpy(at, end.at, end.len);
    at += end.len;
    static const size_t steps[] = {SIZE_MAX, 16384, 1000, 31};
    for (size_t i = 0; i < SP_COUNT(steps); i++) {
        struct scanned scanned = scan_in_steps(sp_span(body, (size_t)(at - body)), steps[i]);
        assert_int_equal(scanned.progress, SP_HTTP_COMPLETE);
        assert_int_equal(scanned.ask.text_bytes, bytes);
    }
    free(body);
}

static void escaped_text_counts_as_what_it_stands_for(void **state) {
    assert_int_equal(asked("{\"prompt\":\"\\n\\\"\\\\\"}").text_bytes, 3);
    assert_int_equal(asked("{\"prompt\":\"\\u0041\\u00e9\\u4e2d\\ud83d\\ude00\"}").text_bytes, 1 + 2 + 3 + 4);
    assert_int_equal(asked("{\"prompt\":\"A\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\"}").text_bytes, 1 + 2 + 3 + 4);
    assert_int_equal(asked("{\"prompt\":\"\\u0000\"}").text_bytes, 1);
}

static void a_model_has_at_most_256_bytes_and_no_nul(void **state) {
    char name[SP_MODEL_NAME_MAX + 2];
    memset(name, 'm', sizeof name);
    struct scanned scanned = scan_model(sp_span(name, SP_MODEL_NAME_MAX));
    assert_int_equal(scanned.progress, SP_HTTP_COMPLETE);
    assert_int_equal(scanned.ask.model_len, SP_MODEL_NAME_MAX);
    for (size_t len = SP_MODEL_NAME_MAX + 1; len <= sizeof name; len++) {
        scanned = scan_model(sp_span(name, len));
        assert_int_equal(scanned.progress, SP_HTTP_REFUSED);
        assert_non_null(strstr(scanned.wrong, "too long"));
    }
    assert_refused_at("{\"model\":\"\"}", 9, "empty");
    assert_refused_at("{\"model\":\"a\\u0000\"}", 9, "NUL");
    asked("{\"user\":\"a\\u0000\"}");
}

static void quoted_text_reads_back_as_it_was(void **state) {
    char quoted[6 * 64 + 2], expected[] = "\"a\\\"\\\\\\u0000\\u001f\\u007f\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\"";
    struct sp_span text = SP_SPAN("a\"\\\0\x1f\x7f\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80");
    size_t len = sp_json_quote(text, quoted);
    assert_int_equal(len, sizeof expected - 1);
    assert_memory_equal(quoted, expected, len);
    assert_int_equal(sp_json_quote(sp_span(NULL, 0), quoted), 2);

    struct sp_span wrong = SP_SPAN("\xff\xc3\xed\xa0\x80\xe4\xb8");
    len = sp_json_quote(wrong, quoted);
    assert_int_equal(len, 2 + 3 * wrong.len); /* U+FFFD for each byte */
    assert_true(len <= 6 * wrong.len + 2);
    assert_int_equal(sp_json_quote(sp_span("\xe4\xb8\xad", 2), quoted), 2 + 3 * 2); /* what follows the span is not looked at */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_stand_for_their_characters),
        cmocka_unit_test(other_escapes_are_refused),
        cmocka_unit_test(half_a_surrogate_pair_is_refused),
        cmocka_unit_test(control_characters_must_be_escaped),
        cmocka_unit_test(text_is_utf8_to_the_letter),
        cmocka_unit_test(every_character_counts_as_its_utf8),
        cmocka_unit_test(escaped_text_counts_as_what_it_stands_for),
        cmocka_unit_test(a_model_has_at_most_256_bytes_and_no_nul),
        cmocka_unit_test(quoted_text_reads_back_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
