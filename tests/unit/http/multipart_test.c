#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <sallyport/json.h>

#define TYPE              "multipart/form-data; boundary=xyz"
#define PART(name, value) "--xyz\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define END               "--xyz--\r\n"

struct scanned {
    enum sp_http_progress progress;
    struct sp_ask ask;
    const char *wrong;
    uint64_t wrong_at;
};

static struct scanned scan_in_steps(const char *type, struct sp_span body, size_t step) {
    struct sp_multipart_scan *scan = malloc(sp_multipart_scan_size());
    assert_non_null(scan);
    memset(scan, 0xff, sp_multipart_scan_size());
    assert_int_equal(sp_multipart_begin(scan, sp_span_text(type)), 0);
    while (body.len > 0) {
        sp_multipart_feed(scan, sp_span(body.at, sp_min(step, body.len)));
        body = sp_span_from(body, sp_min(step, body.len));
    }
    struct scanned scanned = {.progress = sp_multipart_end(scan), .ask = *sp_multipart_ask(scan)};
    if (scanned.progress == SP_HTTP_REFUSED)
        scanned.wrong = sp_multipart_wrong(scan, &scanned.wrong_at);
    free(scan);
    return scanned;
}

static struct scanned scan_span(const char *type, struct sp_span body) {
    struct scanned at_once = scan_in_steps(type, body, SIZE_MAX);
    for (size_t step = 1; step < 90; step += step < 10 ? 1 : 13) {
        struct scanned again = scan_in_steps(type, body, step);
        assert_int_equal(again.progress, at_once.progress);
        assert_ptr_equal(again.wrong, at_once.wrong);
        assert_int_equal(again.wrong_at, at_once.wrong_at);
        assert_int_equal(again.ask.model_at.at, at_once.ask.model_at.at);
    }
    return at_once;
}

static struct sp_ask asked_as(const char *type, struct sp_span body) {
    struct scanned scanned = scan_span(type, body);
    if (scanned.progress != SP_HTTP_COMPLETE)
        fail_msg("refused at %llu (%s): " SP_SPAN_FMT, (unsigned long long)scanned.wrong_at, scanned.wrong, SP_SPAN_ARG(body));
    return scanned.ask;
}
static struct sp_ask asked(const char *body) { return asked_as(TYPE, sp_span_text(body)); }

static void assert_model(const struct sp_ask *ask, const char *expected) {
    assert_int_equal(ask->model_len, strlen(expected));
    assert_memory_equal(ask->model, expected, ask->model_len);
}

static void assert_refused_span(struct sp_span body, const char *words) {
    struct scanned scanned = scan_span(TYPE, body);
    if (scanned.progress != SP_HTTP_REFUSED || !strstr(scanned.wrong, words))
        fail_msg("%s: " SP_SPAN_FMT, scanned.wrong ? scanned.wrong : "not refused", SP_SPAN_ARG(body));
    assert_true(scanned.wrong_at <= body.len);
}
static void assert_refused(const char *body, const char *words) { assert_refused_span(sp_span_text(body), words); }

static void an_upload_names_its_model_in_a_part(void **state) {
    static const char body[] =
        "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"speech.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n"
        "ID3\r\n--xy\r\n\r--xyz\n--xyz\r\r\n-\r\n" PART("model", "whisper-1") PART("stream", "true") PART("n", "3") PART("language", "de")
            END;
    struct sp_ask ask = asked(body);
    assert_model(&ask, "whisper-1");
    assert_int_equal(ask.model_at.len, 9);
    assert_memory_equal(body + ask.model_at.at, "whisper-1", 9);
    assert_true(ask.stream);
    assert_int_equal(ask.n, 3);
    assert_int_equal(ask.max_tokens, 0);
    assert_int_equal(sp_ask_prompt_estimate(&ask), 0);
}

static void what_is_not_asked_for_is_nothing(void **state) {
    struct sp_ask ask = asked(PART("prompt", "a cat") PART("empty", "") END);
    assert_int_equal(ask.model_len, 0);
    assert_int_equal(ask.model_at.len, 0);
    assert_false(ask.stream);
    assert_int_equal(ask.n, 1);
    assert_false(asked(PART("stream", "false") END).stream);
}

static void the_boundary_is_what_content_type_says(void **state) {
    static const char *const good[] = {
        "multipart/form-data; boundary=xyz",
        "Multipart/Form-Data;boundary=\"xyz\"",
        "multipart/form-data ; charset=utf-8 ; Boundary=xyz ",
        "multipart/form-data; a=\"b;c\"; boundary=xyz",
    };
    for (size_t i = 0; i < SP_COUNT(good); i++) {
        struct sp_ask ask = asked_as(good[i], SP_SPAN(PART("model", "m") END));
        assert_model(&ask, "m");
    }
    static const char body[] = "--a b:c/d\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--a b:c/d--";
    struct sp_ask ask = asked_as("multipart/form-data; boundary=\"a b:c/d\"", sp_span_text(body));
    assert_model(&ask, "m");
}

static void other_types_and_unusable_boundaries_are_none_of_ours(void **state) {
    static const char *const bad[] = {
        "",
        "multipart/form-data",
        "multipart/form-data;",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/mixed; boundary=xyz",
        "multipart/form-datax; boundary=xyz",
        "multipart/form-data; boundary=xyz; boundary=xyz",
        "multipart/form-data; boundary=x y",
        "multipart/form-data; boundary=\"xyz ",
        "multipart/form-data; boundary=\"xyz \"",
        "multipart/form-data; boundary=\"x\\yz\"",
        "multipart/form-data; boundary=\"x{z\"",
        "multipart/form-data; boundary=x\xc3\xa9",
        "multipart/form-data; boundary =xyz",
        "multipart/form-data, boundary=xyz",
        "application/json",
        "multipart/form-data; boundary=12345678901234567890123456789012345678901234567890123456789012345678901",
    };
    struct sp_multipart_scan *scan = malloc(sp_multipart_scan_size());
    assert_non_null(scan);
    for (size_t i = 0; i < SP_COUNT(bad); i++)
        if (sp_multipart_begin(scan, sp_span_text(bad[i])) != -EINVAL)
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(sp_multipart_begin(scan, SP_SPAN("multipart/form-data; boundary=\"x\0y\"")), -EINVAL);
    assert_int_equal(
        sp_multipart_begin(scan,
                           SP_SPAN("multipart/form-data; boundary=1234567890123456789012345678901234567890123456789012345678901234567890")),
        0);
    free(scan);
}

static void nothing_stands_before_between_or_after_the_parts(void **state) {
    assert_refused("", "ends before");
    assert_refused("preamble\r\n" PART("a", "b") END, "must begin");
    assert_refused("\r\n" PART("a", "b") END, "must begin");
    assert_refused(END, "boundary");
    assert_refused("--xyz \r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n" END, "boundary");
    assert_refused("--xyz\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n" END, "boundary");
    assert_refused(PART("a", "b") "--xyzz--\r\n", "boundary");
    assert_refused(PART("a", "b") "--xyz-x\r\n", "boundary");
    assert_refused(PART("a", "b") END "epilogue", "follows");
    assert_refused(PART("a", "b") "--xyz--x", "follows");
    assert_refused(PART("a", "b") "--xyz--\r\n\r\n", "follows");
    asked(PART("a", "b") "--xyz--");
}

static void a_name_that_other_readers_may_take_for_a_known_one_is_refused(void **state) {
    assert_refused(PART("model", "m") PART("Model", "other") END, "case");
    assert_refused(PART("MAX_TOKENS", "7") END, "case");
    assert_refused("--xyz\r\nContent-Disposition: form-data; name=x; name*0=mo; name*1=del\r\n\r\nb\r\n" END, "one name");
}

/* Starlette decodes names of parts as the charset of the whole says: "+AG0-odel" is "model" in UTF-7. */
static void only_utf8_leaves_no_doubt_about_the_text(void **state) {
    static const char *const good[] = {"application/json", "application/json; charset=utf-8", "application/json;charset=\"UTF-8\"",
                                       "multipart/form-data; boundary=x; charset=us-ascii", "application/json; charset=UTF8", "application/json;", "application/json; "};
    static const char *const bad[] = {"application/json; charset=utf-7", "multipart/form-data; charset=utf-16; boundary=x", "application/json; charset",
                                      "application/json; charset=utf-8; charset=utf-7", "application/json; x=\"; charset=utf-8", "application/json charset=utf-7",
                                      "application/json;; charset=utf-7", "application/json; charset*=utf-8''utf-7"};
    for (size_t i = 0; i < SP_COUNT(good); i++)
        assert_true(sp_content_is_utf8(sp_span_text(good[i])));
    for (size_t i = 0; i < SP_COUNT(bad); i++)
        assert_false(sp_content_is_utf8(sp_span_text(bad[i])));
}

static void a_body_that_ends_early_is_refused(void **state) {
    static const char body[] = PART("model", "m") PART("file", "x\r\n--xy") "--xyz--";
    for (size_t len = 0; len < sizeof body - 1; len++)
        assert_refused_span(sp_span(body, len), "ends before");
    assert_refused(PART("a", "b") "--xyz--\r", "ends before");
}

#define HEAD(lines) "--xyz\r\n" lines "\r\n\r\nvalue\r\n" END

static void heads_of_parts_are_read_strictly(void **state) {
    static const char *const bad[] = {
        "--xyz\r\n\r\nvalue\r\n" END,
        HEAD("Content-Type: text/plain"),
        HEAD("Content-Disposition: attachment; name=model"),
        HEAD("Content-Disposition: form-data"),
        HEAD("Content-Disposition: form-data; name=\"\""),
        HEAD("Content-Disposition: form-data; name="),
        HEAD("Content-Disposition: form-data; name=a; name=b"),
        HEAD("Content-Disposition: form-data; name=a; name*=utf-8''b"),
        HEAD("Content-Disposition: form-data; name=\"mod\\el\""),
        HEAD("Content-Disposition: form-data; name=\"a\\\"; x=\"b\""),
        HEAD("Content-Disposition: form-data; name=\"a"),
        HEAD("Content-Disposition: form-data; filename=\"a\\\"; name=\"b\""),
        HEAD("Content-Disposition: form-data; name=\"a\"b"),
        HEAD("Content-Disposition: form-data name=a"),
        HEAD("Content-Disposition: form-data; name=a;"),
        HEAD("Content-Disposition: form-data; name=a b"),
        HEAD("Content-Disposition : form-data; name=a"),
        HEAD("Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b"),
        HEAD("Content-Disposition: form-data;\r\n name=a"),
        HEAD("Content-Disposition: form-data; name=a\nX: y"),
        HEAD("Content-Disposition: form-data; name=a\rX: y"),
        HEAD("Content-Disposition: form-data; name=a\x01"),
        HEAD("no colon\r\nContent-Disposition: form-data; name=a"),
        HEAD(": x\r\nContent-Disposition: form-data; name=a"),
        HEAD("Content-Disposition: form-data; name=a\r\nContent-Type: text"),
        HEAD("Content-Disposition: form-data; name=a\r\nContent-Type: a/b\r\nContent-Type: a/b"),
    };
    for (size_t i = 0; i < SP_COUNT(bad); i++)
        assert_refused(bad[i], "not valid multipart/form-data");
    assert_refused(HEAD("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64"), "Content-Transfer-Encoding");
    static const char *const good[] = {
        HEAD("content-disposition:form-data;name=\"a\""),
        HEAD("X-Other: 1\r\nContent-Disposition: FORM-DATA; NAME=a; other=\"x\""),
        HEAD("Content-Disposition: form-data; name=\"a\"; filename=\"C:\\x\\y;z.txt\"; filename*=utf-8''%C3%A4"),
        HEAD("Content-Disposition: form-data; name=\"a[]\"; filename=\"\xc3\xa4.txt\"\r\nContent-Type: text/plain; charset=koi8-r"),
        HEAD("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: 8BIT"),
    };
    for (size_t i = 0; i < SP_COUNT(good); i++)
        asked(good[i]);
}

static void heads_are_bounded(void **state) {
    for (int more = 0; more < 2; more++) {
        static const char before[] = "--xyz\r\nContent-Disposition: form-data; name=a\r\nX: ", after[] = "\r\n\r\nv\r\n" END;
        int filler = 8192 + more - (int)(sizeof before - 1 - 7) - 4;
        char body[10000];
        int len = snprintf(body, sizeof body, "%s%0*d%s", before, filler, 0, after);
        if (more)
            assert_refused_span(sp_span(body, (size_t)len), "too long");
        else
            asked_as(TYPE, sp_span(body, (size_t)len));
    }
}

static void a_name_stands_once(void **state) {
    assert_refused(PART("model", "a") PART("model", "b") END, "Two parts");
    assert_refused(PART("stream", "true") PART("stream", "true") END, "Two parts");
    assert_refused(PART("n", "1") PART("n", "1") END, "Two parts");
    asked(PART("tag[]", "a") PART("tag[]", "b") PART("Models", "c") END);
}

static void a_model_is_plain_text_of_at_most_256_bytes(void **state) {
    assert_refused(PART("model", "") END, "empty");
    assert_refused(PART("model", "\xff") END, "UTF-8");
    assert_refused_span(SP_SPAN(PART("model", "a\0b") END), "NUL");
    assert_refused("--xyz\r\nContent-Disposition: form-data; name=model; filename=x\r\n\r\nm\r\n" END, "plain text");
    assert_refused("--xyz\r\nContent-Disposition: form-data; name=model\r\nContent-Type: text/plain; charset=utf-16\r\n\r\nm\r\n" END,
                   "plain text");
    struct sp_ask ask =
        asked("--xyz\r\nContent-Disposition: form-data; name=model\r\nContent-Type: text/plain; charset=\"UTF-8\"\r\n\r\n\xc3\xa4\r\n" END);
    assert_model(&ask, "\xc3\xa4");
    char body[1024];
    for (int len = 255; len < 259; len++) {
        int n = snprintf(body, sizeof body, "%s%0*d%s", "--xyz\r\nContent-Disposition: form-data; name=model\r\n\r\n", len, 0, "\r\n" END);
        if (len > SP_MODEL_NAME_MAX)
            assert_refused_span(sp_span(body, (size_t)n), "too long");
        else
            assert_int_equal(asked_as(TYPE, sp_span(body, (size_t)n)).model_len, len);
    }
}

static void what_looks_like_a_boundary_belongs_to_the_value(void **state) {
    struct sp_ask ask = asked(PART("model", "a\r\n--xy\r\r\n--x\r\n-") END);
    assert_model(&ask, "a\r\n--xy\r\r\n--x\r\n-");
}

static void counts_and_booleans_are_read_strictly(void **state) {
    struct sp_ask ask = asked(PART("max_tokens", "7") PART("max_output_tokens", "9") PART("best_of", "2") END);
    assert_int_equal(ask.max_tokens, 9);
    assert_int_equal(ask.n, 2);
    assert_refused(PART("stream", "yes") END, "\"stream\"");
    assert_refused(PART("stream", "") END, "\"stream\"");
    assert_refused(PART("n", "0") END, "\"n\"");
    assert_refused(PART("n", "1.0") END, "\"n\"");
    assert_refused(PART("n", "") END, "\"n\"");
    assert_refused(PART("n", " 1") END, "\"n\"");
    assert_refused(PART("max_tokens", "-1") END, "\"max_tokens\"");
    assert_refused(PART("max_tokens", "1000000001") END, "\"max_tokens\"");
    assert_refused(PART("n_predict", "-1") END, "\"n_predict\"");
}

static void once_refused_it_stays_refused(void **state) {
    struct sp_multipart_scan *scan = malloc(sp_multipart_scan_size());
    assert_non_null(scan);
    assert_int_equal(sp_multipart_begin(scan, SP_SPAN(TYPE)), 0);
    assert_int_equal(sp_multipart_feed(scan, SP_SPAN("--xyz")), SP_HTTP_INCOMPLETE);
    assert_int_equal(sp_multipart_feed(scan, SP_SPAN("!")), SP_HTTP_REFUSED);
    assert_int_equal(sp_multipart_feed(scan, SP_SPAN(PART("a", "b") END)), SP_HTTP_REFUSED);
    assert_int_equal(sp_multipart_end(scan), SP_HTTP_REFUSED);
    uint64_t at;
    assert_non_null(sp_multipart_wrong(scan, &at));
    assert_int_equal(at, 5);
    free(scan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upload_names_its_model_in_a_part),
        cmocka_unit_test(what_is_not_asked_for_is_nothing),
        cmocka_unit_test(the_boundary_is_what_content_type_says),
        cmocka_unit_test(other_types_and_unusable_boundaries_are_none_of_ours),
        cmocka_unit_test(nothing_stands_before_between_or_after_the_parts),
        cmocka_unit_test(a_body_that_ends_early_is_refused),
        cmocka_unit_test(heads_of_parts_are_read_strictly),
        cmocka_unit_test(heads_are_bounded),
        cmocka_unit_test(a_name_stands_once),
        cmocka_unit_test(a_model_is_plain_text_of_at_most_256_bytes),
        cmocka_unit_test(a_name_that_other_readers_may_take_for_a_known_one_is_refused),
        cmocka_unit_test(only_utf8_leaves_no_doubt_about_the_text),
        cmocka_unit_test(what_looks_like_a_boundary_belongs_to_the_value),
        cmocka_unit_test(counts_and_booleans_are_read_strictly),
        cmocka_unit_test(once_refused_it_stays_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
