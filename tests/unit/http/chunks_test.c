#include "arrival.h"

#include <stdlib.h>

/* Everything of `text` through the decoder, `step` bytes at a time; the payload into `out`. */
static enum sp_http_progress decode(struct sp_span text, size_t step, char *out, size_t *ret_len, size_t *ret_rest) {
    struct sp_http_chunks chunks = {0};
    enum sp_http_progress progress = SP_HTTP_INCOMPLETE;
    *ret_len = 0;
    while (progress == SP_HTTP_INCOMPLETE && text.len > 0) {
        struct sp_span input = sp_span(text.at, sp_min(step, text.len)), payload;
        size_t had = input.len;
        progress = sp_http_chunks_next(&chunks, &input, &payload);
        if (payload.len)
            memcpy(out + *ret_len, payload.at, payload.len);
        *ret_len += payload.len;
        text = sp_span_from(text, had - input.len);
    }
    *ret_rest = text.len;
    return progress;
}

static void assert_decodes(const char *text, const char *payload, size_t rest_expected) {
    char out[256];
    for (size_t step = 1; step <= strlen(text); step++) {
        size_t len, rest;
        assert_int_equal(decode(sp_span_text(text), step, out, &len, &rest), SP_HTTP_COMPLETE);
        assert_span(sp_span(out, len), payload);
        assert_int_equal(rest, rest_expected);
    }
}

static void assert_refused(const char *text) {
    char out[256];
    for (size_t step = 1; step <= strlen(text); step++) {
        size_t len, rest;
        if (decode(sp_span_text(text), step, out, &len, &rest) != SP_HTTP_REFUSED)
            fail_msg("not refused in steps of %zu: %s", step, text);
    }
}

static void a_body_is_the_sum_of_its_chunks(void **state) {
    assert_decodes("5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n", "hello world", 0);
    assert_decodes("0\r\n\r\n", "", 0);
    assert_decodes("000\r\n\r\n", "", 0);
    assert_decodes("00000000000000a\r\n0123456789\r\n0\r\n\r\n", "0123456789", 0);
    assert_decodes("A\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n", 0);
}

static void what_follows_is_left_for_the_next_message(void **state) { assert_decodes("2\r\nab\r\n0\r\n\r\nGET / HTTP", "ab", 10); }

static void extensions_are_checked_and_dropped(void **state) {
    assert_decodes("1;a\r\nx\r\n0;b=c;d=\"e \\\" ; \xff\t\";f\r\n\r\n", "x", 0);
    static const char *const refused[] = {
        "1;\r\nx",         "1; a\r\nx",         "1 ;a\r\nx",         "1;a =b\r\nx",  "1;a= b\r\nx",     "1;a=\r\nx",
        "1;=b\r\nx",       "1;a=b=c\r\nx",      "1;a;\r\nx",         "1;a=\"b\r\nx", "1;a=\"b\"c\r\nx", "1;a\nx",
        "1;a=\"\n\"\r\nx", "1;a=\"\\\n\"\r\nx", "1;a=\"\x01\"\r\nx", "1;a(b\r\nx",
    };
    for (size_t i = 0; i < SP_COUNT(refused); i++)
        assert_refused(refused[i]);
}

static void sizes_are_hex_digits_and_nothing_else(void **state) {
    static const char *const refused[] = {"\r\n",
                                          " 1\r\nx",
                                          "1 \r\nx",
                                          "\t1\r\nx",
                                          "0x1\r\nx",
                                          "-1\r\nx",
                                          "+1\r\nx",
                                          "g\r\nx",
                                          "1,1\r\nx",
                                          "1h\r\nx",
                                          "1.0\r\nx",
                                          "1\nx",
                                          "1\rx",
                                          "\n1\r\nx",
                                          "\r\n1\r\nx",
                                          "8000000000000000\r\nx",
                                          "ffffffffffffffff\r\nx",
                                          "00000000000000001\r\nx"};
    for (size_t i = 0; i < SP_COUNT(refused); i++)
        assert_refused(refused[i]);
    struct sp_http_chunks chunks = {0};
    struct sp_span input = SP_SPAN("7fffffffffffffff\r\n"), payload;
    assert_int_equal(sp_http_chunks_next(&chunks, &input, &payload), SP_HTTP_INCOMPLETE);
    assert_int_equal(input.len, 0);
}

static void payload_ends_with_cr_lf_exactly(void **state) {
    assert_refused("1\r\nxy\r\n0\r\n\r\n");
    assert_refused("2\r\nxy0\r\n\r\n");
    assert_refused("2\r\nxy\n0\r\n\r\n");
    assert_refused("2\r\nxy\r0\r\n\r\n");
    assert_refused("2\r\nxy\r\r\n0\r\n\r\n");
}

static void trailers_are_checked_and_dropped(void **state) {
    assert_decodes("1\r\nx\r\n0\r\nA: b\r\nX-Checksum:\tc \r\nEmpty:\r\na-very-long-name-that-is-not-known-here-at-all: d\r\n\r\n", "x", 0);
    static const char *const refused[] = {
        "0\r\nContent-Length: 1\r\n\r\n",
        "0\r\ntransfer-encoding: chunked\r\n\r\n",
        "0\r\nHOST: a\r\n\r\n",
        "0\r\nA: b\r\nContent-length:\r\n\r\n",
        "0\r\nAuthorization: a\r\n\r\n",
        "0\r\nx-api-key: a\r\n\r\n",
        "0\r\nConnection: a\r\n\r\n",
        "0\r\nTrailer: a\r\n\r\n",
        "0\r\nA : b\r\n\r\n",
        "0\r\n A: b\r\n\r\n",
        "0\r\n: b\r\n\r\n",
        "0\r\nA\r\n\r\n",
        "0\r\nA: b\nC: d\r\n\r\n",
        "0\r\nA: \x01\r\n\r\n",
        "0\r\nA: b\r\n c\r\n\r\n",
        "0\r\nA: b\r\n\n",
        "0\r\n\n",
        "0\r\n\r\r",
        "0\r\nA: b\rC: d\r\n\r\n",
    };
    for (size_t i = 0; i < SP_COUNT(refused); i++)
        assert_refused(refused[i]);
}

static void once_ended_it_stays_ended_and_once_refused_it_stays_refused(void **state) {
    struct sp_http_chunks chunks = {0};
    struct sp_span input = SP_SPAN("0\r\n\r\nabc"), payload;
    assert_int_equal(sp_http_chunks_next(&chunks, &input, &payload), SP_HTTP_COMPLETE);
    assert_int_equal(sp_http_chunks_next(&chunks, &input, &payload), SP_HTTP_COMPLETE);
    assert_int_equal(input.len, 3);
    assert_int_equal(payload.len, 0);
    chunks = (struct sp_http_chunks){0};
    input = SP_SPAN("x");
    assert_int_equal(sp_http_chunks_next(&chunks, &input, &payload), SP_HTTP_REFUSED);
    input = SP_SPAN("0\r\n\r\n");
    assert_int_equal(sp_http_chunks_next(&chunks, &input, &payload), SP_HTTP_REFUSED);
}

/* Feeds `unit` over and over: the decoder must have enough after SP_HTTP_CHUNK_OVERHEAD_MAX bytes of it. */
static void assert_bounded(const char *begin, const char *unit) {
    struct sp_http_chunks chunks = {0};
    struct sp_span payload, input = sp_span_text(begin);
    size_t fed = 0;
    assert_int_equal(sp_http_chunks_next(&chunks, &input, &payload), SP_HTTP_INCOMPLETE);
    for (enum sp_http_progress progress = SP_HTTP_INCOMPLETE; progress == SP_HTTP_INCOMPLETE; fed += strlen(unit)) {
        assert_true(fed <= 2 * SP_HTTP_CHUNK_OVERHEAD_MAX);
        for (input = sp_span_text(unit); input.len > 0 && progress == SP_HTTP_INCOMPLETE;)
            progress = sp_http_chunks_next(&chunks, &input, &payload);
    }
    assert_true(fed >= SP_HTTP_CHUNK_OVERHEAD_MAX);
}

static void extensions_and_trailers_are_bounded_in_all(void **state) {
    assert_bounded("1;a", "aaaaaaaa");
    assert_bounded("1;a=\"", "aaaaaaaa");
    assert_bounded("0\r\n", "A: b\r\n");
    assert_bounded("0\r\nA: ", "bbbbbbbb");
    assert_bounded("0\r\nA", "bbbbbbbb");
}

/* Ten thousand one-byte chunks in one read: a call per chunk, each from where the last one stopped. */
static void ten_thousand_tiny_chunks_take_one_call_each(void **state) {
    enum { CHUNKS = 10000, EACH = 6 };
    char *text = malloc(CHUNKS * EACH + 5);
    assert_non_null(text);
    for (size_t i = 0; i < CHUNKS; i++)
        memcpy(text + i * EACH, "1\r\nx\r\n", EACH);
    memcpy(text + CHUNKS * EACH, "0\r\n\r\n", 5);

    struct sp_http_chunks chunks = {0};
    struct sp_span input = sp_span(text, CHUNKS * EACH + 5), payload;
    size_t calls = 0, bytes = 0;
    while (sp_http_chunks_next(&chunks, &input, &payload) == SP_HTTP_INCOMPLETE) {
        bytes += payload.len;
        calls++;
    }
    assert_int_equal(bytes, CHUNKS);
    assert_int_equal(calls, CHUNKS);
    assert_int_equal(input.len, 0);
    free(text);
}

static void a_written_chunk_head_is_read_back(void **state) {
    for (unsigned bit = 0; bit < 63; bit++)
        for (int delta = -1; delta <= 1; delta++) {
            uint64_t size = (UINT64_C(1) << bit) + (uint64_t)delta;
            if (size == 0)
                continue;
            char head[SP_HTTP_CHUNK_HEAD_MAX];
            struct sp_span input = sp_span(head, sp_http_chunk_head(size, head)), payload;
            struct sp_http_chunks chunks = {0};
            assert_int_equal(sp_http_chunks_next(&chunks, &input, &payload), SP_HTTP_INCOMPLETE);
            assert_true(chunks.left == size);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_is_the_sum_of_its_chunks),
        cmocka_unit_test(what_follows_is_left_for_the_next_message),
        cmocka_unit_test(extensions_are_checked_and_dropped),
        cmocka_unit_test(sizes_are_hex_digits_and_nothing_else),
        cmocka_unit_test(payload_ends_with_cr_lf_exactly),
        cmocka_unit_test(trailers_are_checked_and_dropped),
        cmocka_unit_test(once_ended_it_stays_ended_and_once_refused_it_stays_refused),
        cmocka_unit_test(extensions_and_trailers_are_bounded_in_all),
        cmocka_unit_test(ten_thousand_tiny_chunks_take_one_call_each),
        cmocka_unit_test(a_written_chunk_head_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
