/* The reader of usage over answers as the five APIs give them (folder answers/, given as the program's argument) and over those that nobody
 * should give. Each is read in one piece and in many small ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <sallyport/usage.h>

static const char *answers; /* folder */
static struct sp_usage_reader *reader;

static int make_reader(void **state) { return sp_usage_reader_new(&reader); }

static int free_reader(void **state) {
    sp_usage_reader_free(reader);
    sp_usage_reader_free(NULL);
    return 0;
}

/* What the client got of an answer that came `step` bytes at a time; freed by the next call. */
static struct sp_span read_in_steps(struct sp_span bytes, enum sp_usage_form form, bool withhold, size_t step) {
    static char *got;
    free(got);
    got = malloc(bytes.len + 1);
    assert_non_null(got);
    size_t n = 0;
    struct sp_span pass;
    sp_usage_begin(reader, form, withhold);
    for (size_t at = 0; at < bytes.len; at += step) {
        /* A copy of its own, so that a sanitizer sees whoever looks at earlier pieces. */
        _cleanup_(sp_free_pointer) char *copy = NULL;
        struct sp_span piece = sp_span(bytes.at + at, sp_min(step, bytes.len - at));
        copy = sp_span_dup(piece);
        for (struct sp_span input = sp_span(copy, piece.len); input.len;) {
            sp_usage_read(reader, &input, &pass);
            assert_true(n + pass.len <= bytes.len);
            if (pass.len)
                memcpy(got + n, pass.at, pass.len);
            n += pass.len;
        }
    }
    sp_usage_end(reader, &pass);
    assert_true(n + pass.len <= bytes.len);
    if (pass.len)
        memcpy(got + n, pass.at, pass.len);
    return sp_span(got, n + pass.len);
}

static void assert_same_bytes(struct sp_span actual, struct sp_span expected) {
    assert_int_equal(actual.len, expected.len);
    assert_memory_equal(actual.at, expected.at, expected.len);
}

static const size_t steps[] = {SIZE_MAX / 2, 1, 2, 3, 7, 64, 500};

/* `without`: what is left out when the reader withholds; empty: nothing. */
static void assert_reads(struct sp_span bytes, enum sp_usage_form form, struct sp_span without, struct sp_usage expected) {
    _cleanup_(sp_free_pointer) char *remaining = sp_span_dup(bytes);
    size_t remaining_len = bytes.len;
    if (without.len) {
        char *at = memmem(remaining, bytes.len, without.at, without.len);
        assert_non_null(at);
        memmove(at, at + without.len, bytes.len - without.len - (size_t)(at - remaining));
        remaining_len -= without.len;
    }
    for (size_t i = 0; i < 2 * SP_COUNT(steps); i++) {
        bool withhold = i & 1;
        struct sp_span got = read_in_steps(bytes, form, withhold, steps[i / 2]);
        assert_same_bytes(got, withhold ? sp_span(remaining, remaining_len) : bytes);
        const struct sp_usage *usage = sp_usage_of(reader);
        assert_int_equal(usage->known, expected.known);
        assert_int_equal(usage->input_known, expected.known || expected.input_known);
        assert_int_equal(usage->input, expected.input);
        assert_int_equal(usage->output, expected.output);
        assert_int_equal(usage->text_bytes, expected.text_bytes);
    }
}

#define SAYS(in, out, text)                        ((struct sp_usage){.known = true, .input = (in), .output = (out), .text_bytes = (text)})
#define SAYS_NOTHING(text)                         ((struct sp_usage){.text_bytes = (text)})
#define assert_json(json, ...)                     assert_reads(SP_SPAN(json), SP_USAGE_JSON, sp_span(NULL, 0), __VA_ARGS__)
#define assert_stream(stream, ...)                 assert_reads(SP_SPAN(stream), SP_USAGE_EVENTS, sp_span(NULL, 0), __VA_ARGS__)
#define assert_left_out(before, event, after, ...) assert_reads(SP_SPAN(before event after), SP_USAGE_EVENTS, SP_SPAN(event), __VA_ARGS__)

/* ---- Answers as they are ---- */

static struct sp_span answer(const char *name) {
    static char bytes[16384];
    char path[4096];
    assert_in_range(snprintf(path, sizeof path, "%s/%s", answers, name), 1, sizeof path - 1);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be read", path);
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_in_range(n, 1, sizeof bytes - 1);
    return sp_span(bytes, n);
}

/* The last event that holds this text, with its empty line. */
static struct sp_span last_event_with(struct sp_span stream, const char *text) {
    const char *at = NULL;
    for (const char *next = stream.at; (next = memmem(next, stream.len - (size_t)(next - stream.at), text, strlen(text))); next++)
        at = next;
    assert_non_null(at);
    const char *from = at;
    while (from > stream.at && from[-1] != '\n')
        from--;
    const char *to = memmem(at, stream.len - (size_t)(at - stream.at), "\n\n", 2);
    assert_non_null(to);
    return sp_span(from, (size_t)(to + 2 - from));
}

static void whole_answers_say_what_they_took(void **state) {
    static const struct {
        const char *name;
        uint64_t input, output, text_bytes;
    } known[] = {
        {"openai-chat.json", 19, 14, 58},
        {"openai-chat-tools.json", 82, 23, 62},
        {"openai-completion.json", 5, 11, 28},
        {"openai-embeddings.json", 8, 0, 0},
        {"openai-embeddings-base64.json", 3, 0, 0},
        {"openai-responses.json", 36, 87, 44},
        {"anthropic-message.json", 2095 + 180 + 1000, 503, 54},
        {"llama-cpp-chat.json", 26, 6, 18},
        {"ollama-chat.json", 33, 7, 18},
        {"vllm-score.json", 41, 0, 0},
        {"vllm-rerank.json", 56, 0, 0},
    };
    for (size_t i = 0; i < SP_COUNT(known); i++)
        assert_reads(answer(known[i].name), SP_USAGE_JSON, sp_span(NULL, 0), SAYS(known[i].input, known[i].output, known[i].text_bytes));
}

static void streams_say_what_they_took_and_only_the_extra_event_is_kept_from_the_client(void **state) {
    static const struct {
        const char *name;
        bool extra;
        uint64_t input, output, text_bytes;
    } known[] = {
        {"openai-chat-usage.sse", true, 19, 6, 26},
        {"openai-chat-tools-usage.sse", true, 19, 6, 30},
        {"openai-completion-usage.sse", true, 5, 6, 19},
        {"openai-responses.sse", false, 36, 87, 19},
        {"openai-responses-incomplete.sse", false, 36, 16, 13},
        {"anthropic-message.sse", false, 472, 89, 47},
        {"anthropic-cached.sse", false, 4 + 248 + 1800, 89, 47},
        {"azure-chat-usage.sse", true, 19, 6, 26},
        {"vllm-continuous.sse", true, 31, 7, 26},
        {"vllm-continuous-cut.sse", false, 31, 3, 17},
        {"vllm-reasoning-usage.sse", true, 19, 6, 14},
        {"llama-cpp-chat-usage.sse", true, 26, 6, 26},
        {"ollama-chat-usage.sse", true, 33, 7, 26},
        {"openrouter-chat-usage.sse", true, 33, 7, 26},
    };
    for (size_t i = 0; i < SP_COUNT(known); i++) {
        struct sp_span stream = answer(known[i].name);
        assert_reads(stream, SP_USAGE_EVENTS, known[i].extra ? last_event_with(stream, "\"choices\":[],") : sp_span(NULL, 0),
                     SAYS(known[i].input, known[i].output, known[i].text_bytes));
    }
}

static void a_stream_without_usage_still_tells_how_much_text_there_was(void **state) {
    assert_reads(answer("openai-chat.sse"), SP_USAGE_EVENTS, sp_span(NULL, 0), SAYS_NOTHING(26));
}

static void a_cut_anthropic_stream_says_its_input_and_not_the_output_it_began_with(void **state) {
    assert_reads(answer("anthropic-cut.sse"), SP_USAGE_EVENTS, sp_span(NULL, 0),
                 (struct sp_usage){.input_known = true, .input = 472, .text_bytes = 14});
}

/* ---- Where usage counts ---- */

#define USAGE "{\"prompt_tokens\":7,\"completion_tokens\":5,\"total_tokens\":12}"

static void what_a_model_generates_is_no_usage(void **state) {
    assert_json("{\"choices\":[{\"message\":{\"content\":\"\\\"usage\\\":" /* a string that looks like it */
                "{\\\"prompt_tokens\\\":1,\\\"completion_tokens\\\":1}}\"}}],\"usage\":" USAGE "}",
                SAYS(7, 5, 56));
    assert_json("{\"usage\":" USAGE ",\"choices\":[{\"text\":\"\\\\\\\"},\\\"usage\\\":{\"}]}", SAYS(7, 5, 17));
    assert_json("{\"choices\":[{\"text\":\"}],\\\\\"}],\"usage\":" USAGE "}", SAYS(7, 5, 5));
    assert_stream("data: {\"choices\":[{\"delta\":{\"content\":\"\\n\\ndata: {\\\"usage\\\":{\\\"prompt_tokens\\\":1}}\\n\\n\"}}]}\n\n",
                  SAYS_NOTHING(47));
}

static void usage_deeper_inside_does_not_count(void **state) {
    assert_json("{\"choices\":[{\"usage\":" USAGE ",\"message\":{\"usage\":" USAGE "}}],\"x\":{\"usage\":" USAGE "}}", SAYS_NOTHING(0));
    assert_json("[{\"usage\":" USAGE "}]", SAYS_NOTHING(0));
    assert_json("{\"usage\":[" USAGE "]}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"usage\":" USAGE "}}", SAYS_NOTHING(0));
    assert_json("{\"message\":{\"usage\":" USAGE "},\"response\":{\"usage\":" USAGE "}}", SAYS_NOTHING(0)); /* of events only */
    assert_stream("data: {\"response\":{\"response\":{\"usage\":" USAGE "}},\"item\":{\"usage\":" USAGE "}}\n\n", SAYS_NOTHING(0));
    assert_stream("data: {\"response\":[{\"usage\":" USAGE "}],\"delta\":{\"usage\":" USAGE "}}\n\n", SAYS_NOTHING(0));
}

static void only_whole_and_plain_numbers_are_believed(void **state) {
    assert_json("{\"usage\":{\"prompt_tokens\":1000000000,\"completion_tokens\":0}}", SAYS(1000000000, 0, 0));
    assert_json("{\"usage\":{\"prompt_tokens\":1000000001,\"completion_tokens\":0}}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"prompt_tokens\":18446744073709551617,\"completion_tokens\":0}}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":0}}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"prompt_tokens\":1.5,\"completion_tokens\":0}}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"prompt_tokens\":1e3,\"completion_tokens\":0}}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"prompt_tokens\":\"1\",\"completion_tokens\":0}}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"prompt_tokens\":[1],\"completion_tokens\":0}}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"prompt_tokens\":null,\"completion_tokens\":0}}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"input_tokens\":900000000,\"cache_read_input_tokens\":900000000,\"output_tokens\":0}}", SAYS_NOTHING(0));
}

static void one_number_alone_is_not_enough(void **state) {
    assert_json("{\"usage\":{\"prompt_tokens\":7}}", (struct sp_usage){.input_known = true, .input = 7});
    assert_json("{\"usage\":{\"completion_tokens\":7}}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"prompt_tokens\":7,\"total_tokens\":6}}", (struct sp_usage){.input_known = true, .input = 7});
}

static void what_is_missing_follows_from_the_total(void **state) {
    assert_json("{\"usage\":{\"prompt_tokens\":7,\"total_tokens\":12}}", SAYS(7, 5, 0));
    assert_json("{\"usage\":{\"completion_tokens\":7,\"total_tokens\":12}}", SAYS(5, 7, 0));
    assert_json("{\"usage\":{\"total_tokens\":12}}", SAYS(12, 0, 0));
    assert_json("{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5,\"total_tokens\":99}}", SAYS(7, 5, 0));
}

static void cached_input_is_counted_once(void **state) {
    assert_json("{\"usage\":{\"input_tokens\":100,\"cache_read_input_tokens\":20,\"output_tokens\":1}}", SAYS(120, 1, 0));
    assert_json(
        "{\"usage\":{\"input_tokens\":100,\"cache_creation_input_tokens\":null,\"cache_read_input_tokens\":20,\"output_tokens\":1}}",
        SAYS(120, 1, 0));
    assert_json("{\"usage\":{\"input_tokens\":100,\"input_tokens_details\":{\"cached_tokens\":20},\"output_tokens\":1}}", SAYS(100, 1, 0));
    assert_json("{\"usage\":{\"prompt_tokens\":100,\"cache_read_input_tokens\":20,\"completion_tokens\":1}}", SAYS(100, 1, 0));
}

static void the_last_of_doubled_members_counts(void **state) {
    assert_json("{\"usage\":" USAGE ",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}", SAYS(1, 2, 0));
    assert_json("{\"usage\":" USAGE ",\"usage\":null}", SAYS_NOTHING(0));
    assert_json("{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"prompt_tokens\":3}}", SAYS(3, 2, 0));
}

static void of_usage_said_again_the_last_counts_and_null_says_nothing(void **state) {
    assert_stream("data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n"
                  "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9}}\n\n"
                  "data: {\"usage\":null}\n\ndata: [DONE]\n\n",
                  SAYS(3, 9, 0));
}

static void a_json_answer_that_is_cut_or_broken_says_nothing(void **state) {
    assert_json("{\"usage\":" USAGE, SAYS_NOTHING(0));
    assert_json("{\"usage\":" USAGE "]", SAYS_NOTHING(0));
    assert_json("{\"usage\" " USAGE "}", SAYS_NOTHING(0));
    assert_json("{usage:" USAGE "}", SAYS_NOTHING(0));
    assert_json("<html>{\"usage\":" USAGE "}</html>", SAYS_NOTHING(0));
    assert_json("", SAYS_NOTHING(0));
}

static void white_space_anywhere_changes_nothing(void **state) {
    assert_json(" \t\r\n{ \"x\" : [ ] , \"choices\" : [ { } , { \"text\" : \"ab\" } ] , \"usage\" : { \"prompt_tokens\" : 7 , "
                "\"completion_tokens\"\n:\n5\n} }\n",
                SAYS(7, 5, 2));
    assert_stream("data: {\"usage\":\ndata: {\"prompt_tokens\":7,\ndata:\ndata: \"completion_tokens\":5\ndata: }}\n\n", SAYS(7, 5, 0));
}

static void long_names_and_deep_answers_are_passed_over(void **state) {
    char deep[4096] = "{\"x\":";
    size_t n = strlen(deep);
    memset(deep + n, '[', 1500);
    memset(deep + n + 1500, ']', 1500);
    n += 3000;
    n += (size_t)snprintf(deep + n, sizeof deep - n, ",\"%0300d\":1,\"cache_creation_input_tokens_of_no_use\":1,\"usage\":" USAGE "}", 7);
    assert_reads(sp_span(deep, n), SP_USAGE_JSON, sp_span(NULL, 0), SAYS(7, 5, 0));
}

static void text_is_counted_where_models_put_it_and_nowhere_else(void **state) {
    assert_json(
        "{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"a\"}],\"role\":\"assistant\"},\"logprobs\":\"xx\"}]}",
        SAYS_NOTHING(28)); /* a list counts as it stands */
    assert_json("{\"choices\":[{\"message\":{\"content\":\"\\u00e9\",\"reasoning\":\"ab\",\"refusal\":\"c\","
                "\"function_call\":{\"name\":\"f\",\"arguments\":\"{}\"}}}]}",
                SAYS_NOTHING(12));
    assert_json("{\"id\":\"xxxx\",\"text\":\"xxxx\",\"choices\":[\"xxxx\"]}", SAYS_NOTHING(0));
}

/* ---- What is held back ---- */

#define EXTRA "data: {\"choices\":[],\"usage\":" USAGE "}\n\n"

static void other_events_without_choices_or_with_usage_pass(void **state) {
    assert_stream("data: {\"choices\":[],\"usage\":null}\n\n", SAYS_NOTHING(0));
    assert_stream("data: {\"choices\":[]}\n\n", SAYS_NOTHING(0));
    assert_stream("data: {\"usage\":" USAGE "}\n\n", SAYS(7, 5, 0));
    assert_stream("data: {\"choices\":null,\"usage\":" USAGE "}\n\n", SAYS(7, 5, 0));
    assert_stream("data: {\"choices\":[{}],\"usage\":" USAGE "}\n\n", SAYS(7, 5, 0));
    assert_stream("data: {\"choices\":[],\"choices\":[{}],\"usage\":" USAGE "}\n\n", SAYS(7, 5, 0));
    assert_stream("data: {\"x\":{\"choices\":[]},\"usage\":" USAGE "}\n\n", SAYS(7, 5, 0));
    assert_stream("data: {\"choices\":[],\"response\":{\"usage\":" USAGE "}}\n\n", SAYS(7, 5, 0));
    assert_stream("data: {\"choices\":[],\"usage\":" USAGE "}\ndata: {\"choices\":[{\"text\":\"a\"}]}\n\n", SAYS_NOTHING(0));
}

static void only_the_event_is_left_out_whatever_ends_its_lines(void **state) {
    assert_left_out("data: 1\n\n", EXTRA, "data: [DONE]\n\n", SAYS(7, 5, 0));
    assert_left_out("data: 1\r\n\r\n", "id: 1\r\ndata: {\"choices\":[],\r\ndata: \"usage\":{\"total_tokens\":3}}\r\n\r\n",
                    "\r\n\n:\r\ndata: 2\r\n\r\n", SAYS(3, 0, 0));
    assert_left_out("data: 1\r\r", "data: {\"choices\":[],\"usage\":{}}\r\r", ": \r\n\r: x\r\n", SAYS_NOTHING(0));
    assert_left_out("data: 1\r\r", "data: {\"choices\":[],\"usage\":{}}\r\n\r\n", "\ndata: 2\r\r", SAYS_NOTHING(0));
    assert_left_out(": ping\n\n: ping\n", EXTRA, "", SAYS(7, 5, 0));
    assert_left_out("\xef\xbb\xbf", EXTRA, "\n\n", SAYS(7, 5, 0));
    assert_left_out("", EXTRA EXTRA EXTRA, "data: x", SAYS(7, 5, 0));
}

static void an_event_without_its_empty_line_is_passed_on_and_counts(void **state) {
    assert_stream("data: 1\n\ndata: {\"choices\":[],\"usage\":" USAGE "}\n", SAYS(7, 5, 0));
    assert_stream("data: {\"choices\":[],\"usage\":" USAGE "}", SAYS(7, 5, 0));
    assert_stream("data: {\"choices\":[],\"usage\":{\"prompt_tok", SAYS_NOTHING(0));
    assert_stream("\xef\xbb", SAYS_NOTHING(0));
}

static void assert_passes(const char *bytes, const char *expected) {
    struct sp_span input = sp_span_text(bytes), pass;
    char got[256];
    size_t n = 0;
    while (input.len) {
        sp_usage_read(reader, &input, &pass);
        assert_true(n + pass.len <= sizeof got);
        if (pass.len)
            memcpy(got + n, pass.at, pass.len);
        n += pass.len;
    }
    assert_same_bytes(sp_span(got, n), sp_span_text(expected));
}

static void an_event_is_held_until_it_is_whole_and_comments_are_not(void **state) {
    sp_usage_begin(reader, SP_USAGE_EVENTS, true);
    assert_passes("data: 1\n\ndata: {\"a", "data: 1\n\n");
    assert_passes("\":2}\n", "");
    assert_passes(": in between\n", "");
    assert_passes("\n: pi", "data: {\"a\":2}\n: in between\n\n: pi");
    assert_passes("ng", "ng");
    assert_passes("\n\n\n", "\n\n\n");
    assert_passes("d", "");
    struct sp_span pass;
    sp_usage_end(reader, &pass);
    assert_same_bytes(pass, SP_SPAN("d"));
}

static void without_withholding_every_byte_passes_at_once_and_uncopied(void **state) {
    static const char *const pieces[] = {"data: {\"choi", "ces\":[],", "\"usage\":{}}\n", "\n", "data"};
    for (int form = SP_USAGE_NONE; form <= SP_USAGE_EVENTS; form++) {
        sp_usage_begin(reader, (enum sp_usage_form)form, false);
        for (size_t i = 0; i < SP_COUNT(pieces); i++) {
            struct sp_span input = sp_span_text(pieces[i]), pass;
            sp_usage_read(reader, &input, &pass);
            assert_ptr_equal(pass.at, pieces[i]);
            assert_int_equal(pass.len, strlen(pieces[i]));
            assert_int_equal(input.len, 0);
        }
    }
}

/* An extra event, filled up to `len` bytes by a field before it. */
static struct sp_span long_extra(char *bytes, size_t len) {
    memset(bytes, 'x', len);
    memcpy(bytes + len - strlen("\n" EXTRA), "\n" EXTRA, strlen("\n" EXTRA));
    return sp_span(bytes, len);
}

static void an_event_longer_than_is_held_is_passed_on_and_read(void **state) {
    static char bytes[SP_SSE_EVENT_MAX + 1];
    static const size_t pieces[] = {SIZE_MAX / 2, 16384, 5, 1};
    for (size_t i = 0; i < SP_COUNT(pieces); i++) {
        struct sp_span longest = long_extra(bytes, SP_SSE_EVENT_MAX);
        assert_int_equal(read_in_steps(longest, SP_USAGE_EVENTS, true, pieces[i]).len, 0);
        assert_int_equal(sp_usage_of(reader)->output, 5);
        struct sp_span longer = long_extra(bytes, SP_SSE_EVENT_MAX + 1);
        assert_same_bytes(read_in_steps(longer, SP_USAGE_EVENTS, true, pieces[i]), longer);
        assert_int_equal(sp_usage_of(reader)->output, 5);
    }
}

static void begin_forgets_everything(void **state) {
    struct sp_span half = SP_SPAN("data: {\"usage\":" USAGE "}\n\ndata: {\"choices\":[{\"text\":\"abc"), pass;
    sp_usage_begin(reader, SP_USAGE_EVENTS, true);
    while (half.len)
        sp_usage_read(reader, &half, &pass);
    assert_true(sp_usage_of(reader)->known);
    assert_int_equal(sp_usage_of(reader)->text_bytes, 3);
    sp_usage_begin(reader, SP_USAGE_EVENTS, true);
    assert_false(sp_usage_of(reader)->known);
    assert_int_equal(sp_usage_of(reader)->text_bytes, 0);
    sp_usage_end(reader, &pass);
    assert_int_equal(pass.len, 0);
}

/* ---- What is looked at ---- */

static void only_plain_json_and_event_streams_are_looked_at(void **state) {
    static const struct {
        const char *type, *encoding;
        enum sp_usage_form form;
    } cases[] = {
        {"application/json", "", SP_USAGE_JSON},
        {"Application/JSON ; charset=utf-8", "", SP_USAGE_JSON},
        {"text/event-stream", NULL, SP_USAGE_EVENTS},
        {"text/event-stream;charset=utf-8", " Identity ", SP_USAGE_EVENTS},
        {"text/event-stream", "gzip", SP_USAGE_NONE},
        {"application/json", "identity, br", SP_USAGE_NONE},
        {"application/jsonl", "", SP_USAGE_NONE},
        {"text/html", "", SP_USAGE_NONE},
        {"", "", SP_USAGE_NONE},
        {NULL, NULL, SP_USAGE_NONE},
    };
    for (size_t i = 0; i < SP_COUNT(cases); i++)
        assert_int_equal(sp_usage_form(sp_span_text(cases[i].type), sp_span_text(cases[i].encoding)), cases[i].form);
    assert_reads(SP_SPAN("{\"usage\":" USAGE "}"), SP_USAGE_NONE, sp_span(NULL, 0), SAYS_NOTHING(0));
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    answers = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_answers_say_what_they_took),
        cmocka_unit_test(streams_say_what_they_took_and_only_the_extra_event_is_kept_from_the_client),
        cmocka_unit_test(a_stream_without_usage_still_tells_how_much_text_there_was),
        cmocka_unit_test(a_cut_anthropic_stream_says_its_input_and_not_the_output_it_began_with),
        cmocka_unit_test(what_a_model_generates_is_no_usage),
        cmocka_unit_test(usage_deeper_inside_does_not_count),
        cmocka_unit_test(only_whole_and_plain_numbers_are_believed),
        cmocka_unit_test(one_number_alone_is_not_enough),
        cmocka_unit_test(what_is_missing_follows_from_the_total),
        cmocka_unit_test(cached_input_is_counted_once),
        cmocka_unit_test(the_last_of_doubled_members_counts),
        cmocka_unit_test(of_usage_said_again_the_last_counts_and_null_says_nothing),
        cmocka_unit_test(a_json_answer_that_is_cut_or_broken_says_nothing),
        cmocka_unit_test(white_space_anywhere_changes_nothing),
        cmocka_unit_test(long_names_and_deep_answers_are_passed_over),
        cmocka_unit_test(text_is_counted_where_models_put_it_and_nowhere_else),
        cmocka_unit_test(other_events_without_choices_or_with_usage_pass),
        cmocka_unit_test(only_the_event_is_left_out_whatever_ends_its_lines),
        cmocka_unit_test(an_event_without_its_empty_line_is_passed_on_and_counts),
        cmocka_unit_test(an_event_is_held_until_it_is_whole_and_comments_are_not),
        cmocka_unit_test(without_withholding_every_byte_passes_at_once_and_uncopied),
        cmocka_unit_test(an_event_longer_than_is_held_is_passed_on_and_read),
        cmocka_unit_test(begin_forgets_everything),
        cmocka_unit_test(only_plain_json_and_event_streams_are_looked_at),
    };
    return cmocka_run_group_tests(tests, make_reader, free_reader);
}
