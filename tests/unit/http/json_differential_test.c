/* Thousands of bodies, each a real one with a few bytes changed, through the fuzz target's invariants: jansson is the second opinion. */
#include "scanning.h"

#include "changing.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len); /* aborts where the two disagree */

static const char *const seeds[] = {
    "{\"model\":\"gpt-4o\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"n\":2,\"max_tokens\":100,\"messages\":[{\"role\":"
    "\"user\",\"content\":[{\"type\":\"text\",\"text\":\"What is \\u00e9 "
    "\\ud83d\\ude00?\\n\"},{\"type\":\"image_url\",\"image_url\":{\"url\":"
    "\"data:image/png;base64,AAAA\"}}]}]}",
    "{\"model\":\"m\",\"input\":[\"a\",[1,2,3],{\"type\":\"input_image\",\"data\":\"xyz\"}],\"best_of\":3,\"max_output_tokens\":7}",
    ("{\"prompt\":"
     "\"\xe4\xbb\x8a\xe5\xa4\xa9\xe5\xa4\xa9\xe6\xb0\x94\xe5\xbe\x88\xe5\xa5\xbd\xef\xbc\x8c\xe6\x88\x91\xe4\xbb\xac\xe5\x8e\xbb "
     "\xf0\x9f\x98\x80 \xc3\xbc\xc3\xa4\xc3\xb6 and plain text of some length after it\",\"n\":1}"),
    "{ \"a\" : [ 1.5e300 , -0 , true , false , null , { } , [ ] ] , \"tools\" : [ { \"url\" : \"x\" , \"type\" : \"function\" } ] }",
    "{\"messages\":[{\"source\":{\"type\":\"text\",\"data\":\"all of it\"}},{\"a\":1,\"b\":2,\"c\":{\"a\":1,\"b\":2}}],\"system\":\"x\"}",
    "{\"model\":\"r\",\"query\":\"q\",\"documents\":[\"a\",{\"text\":\"b\"}],\"text_1\":\"c\",\"text_2\":[\"d\"],\"suffix\":\"e\","
    "\"functions\":[{\"name\":\"f\"}],\"response_format\":{\"type\":\"text\"},\"n_predict\":5}",
    "{\"messages\":[{\"content\":[{\"type\":\"tool_use\",\"input\":{\"url\":\"x\",\"data\":[\"y\",{\"type\":\"image\"}]}}],\"tool_calls\":"
    "[{\"function\":{\"arguments\":{\"file_data\":\"z\"}}}]}],\"input\":{\"input\":[{\"data\":1}]}}",
};

/* Pieces that matter to the grammar: blind bytes would seldom make them. */
static const char *const pieces[] = {
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u",
    "\\u0061",
    "\\ud83d",
    "\\ude00",
    "\\n",
    "\\x",
    "\n",
    "\x01",
    "\x7f",
    "\x80",
    "\xc3",
    "\xc3\xa9",
    "\xe4\xb8\xad",
    "\xed\xa0\x80",
    "\xf4\x90\x80\x80",
    "\xff",
    "0",
    "-",
    ".",
    "e",
    "1e309",
    "1e9999",
    "1.0",
    "null",
    "true",
    "\"a\":1,",
    ",\"a\":1",
    "\"model\":\"x\",",
    "\"stream\":false,",
    "\"n\":3,",
    "[[[[[[[[",
    "]]]]]]]]",
    "{\"a\":{\"a\":{\"a\":",
    " ",
    "\t",
    "\r\n",
    "//",
    "type",
    "data",
};

static size_t mutate(char *body, size_t size) {
    const char *seed = seeds[random_below(SP_COUNT(seeds))];
    size_t len = strlen(seed);
    memcpy(body, seed, len);
    return change(body, len, size, pieces, SP_COUNT(pieces));
}

static void a_changed_body_is_judged_as_jansson_does(void **state) {
    enum { ROUNDS = 10000 };
    unsigned complete = 0;
    random_state = 0x5a11;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char body[1024];
        size_t len = mutate(body, sizeof body);
        LLVMFuzzerTestOneInput((const uint8_t *)body, len);
        complete += scan_in_steps(sp_span(body, len), SIZE_MAX).progress == SP_HTTP_COMPLETE;
    }
    /* Both happened often, or this showed nothing. */
    assert_in_range(complete, ROUNDS / 5, ROUNDS - ROUNDS / 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_changed_body_is_judged_as_jansson_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
