/* Every width of step, whatever this machine would choose: they must all stop in the same place. */
#include "json_wide.c"

#include "scanning.h"

static const char *plain_by_byte(const char *at, const char *end) {
    while (at < end && (uint8_t)*at >= 0x20 && (uint8_t)*at < 0x80 && *at != '"' && *at != '\\')
        at++;
    return at;
}

static const struct {
    skip_plain plain;
    skip_longer longer;
    bool needs_avx2;
} ways[] = {
    {plain_portable, long_characters, false},
#ifdef __SSE2__
    {plain_sse2, long_characters, false},
    {plain_avx2, longer_avx2, true},
#endif
};

static bool can(size_t way) {
#ifdef __SSE2__
    return !ways[way].needs_avx2 || __builtin_cpu_supports("avx2");
#else
    return true;
#endif
}

static void the_first_byte_that_is_not_plain_is_found(void **state) {
    enum { SIZE = 700 };
    for (int byte = 0; byte < 256; byte++)
        for (size_t len = 1; len <= SIZE; len = len < 70 ? len + 1 : len + 57) {
            char *text = malloc(len); /* exactly, for a sanitizer to see what is read past it */
            assert_non_null(text);
            for (size_t at = 0; at < len; at = at < 40 ? at + 1 : at + 31) {
                memset(text, 'x', len);
                text[at] = (char)byte;
                for (size_t way = 0; way < SP_COUNT(ways); way++) {
                    uint64_t shrunk = 0;
                    if (can(way) && ways[way].plain(text, text + len, &shrunk) != plain_by_byte(text, text + len))
                        fail_msg("way %zu: byte %d at %zu of %zu", way, byte, at, len);
                    assert_int_equal(shrunk, 0);
                }
            }
            free(text);
        }
}

/* Text of a string without escapes. */
static bool is_text(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if ((uint8_t)text.at[i] < 0x20 || text.at[i] == '"')
            return false;
    return sp_utf8_valid(text);
}

static void escapes_are_passed_and_counted_alike(void **state) {
    static const struct {
        const char *text;
        unsigned shrunk;
    } units[] = {
        {"\\n", 1},
        {"\\\"", 1},
        {"\\\\", 1},
        {"x", 0},
        {"plain text that fills a step, and more of it than one step takes", 0}, /* one way takes these at once */
        {"\\u0041", 5},
        {"\\u00e9", 4},
        {"\\u07FF", 4},
        {"\\u0800", 3},
        {"\\uD7ff", 3},
        {"\\uffff", 3},
        {"\xe4\xb8\xad", 0},
    };
    uint64_t random = 9;
    for (unsigned round = 0; round < 20000; round++) {
        char text[512];
        size_t len = 0;
        uint64_t shrunk = 0;
        while (len < 100 + round % 300) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
            size_t i = (random >> 33) % (round % 2 ? 5 : SP_COUNT(units));
            memcpy(text + len, units[i].text, strlen(units[i].text));
            len += strlen(units[i].text);
            shrunk += units[i].shrunk;
        }
        memcpy(text + len, "\"-----", 6); /* an escape that could be cut off is left to the state machine */
        for (size_t way = 0; way < SP_COUNT(ways); way++) {
            uint64_t counted = 0;
            if (!can(way))
                continue;
            assert_ptr_equal(run(text, text + len + 6, &counted, ways[way].plain, ways[way].longer), text + len);
            assert_int_equal(counted, shrunk);
        }
    }
}

static void a_run_never_passes_what_is_not_utf8(void **state) {
    static const char *const units[] = {"\xc3\xbc",     "\xe4\xb8\xad",     "\xf0\x9f\x98\x80", "\xe0\xa0\x80",
                                        "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf", "plain text"};
    uint64_t random = 7;
    for (unsigned round = 0; round < 30000; round++) {
        char text[160];
        size_t len = 0;
        while (len < sizeof text - 16) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
            const char *unit = units[(random >> 33) % SP_COUNT(units)];
            memcpy(text + len, unit, strlen(unit));
            len += strlen(unit);
        }
        if (round % 4) /* one byte changed */
            text[(random >> 40) % len] ^= (char)(1 << (random >> 60 & 7));
        for (size_t way = 0; way < SP_COUNT(ways); way++) {
            if (!can(way))
                continue;
            uint64_t shrunk = 0;
            const char *stop = run(text, text + len, &shrunk, ways[way].plain, ways[way].longer);
            assert_true(stop >= text && stop <= text + len);
            if (shrunk == 0 && !is_text(sp_span(text, (size_t)(stop - text))))
                fail_msg("way %zu went %td bytes far in round %u", way, stop - text, round);
            if (round % 4 == 0) /* all valid: only a character that could be cut off is left to the state machine */
                assert_true(text + len - stop < 4);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_byte_that_is_not_plain_is_found),
        cmocka_unit_test(escapes_are_passed_and_counted_alike),
        cmocka_unit_test(a_run_never_passes_what_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
