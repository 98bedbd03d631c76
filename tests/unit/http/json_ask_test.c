#include "scanning.h"

static void a_chat_says_what_it_wants(void **state) {
    static const char body[] = "{\"model\": \"gpt-4o\", \"stream\": true, \"stream_options\": {\"include_usage\": true}, \"n\": 2,"
                               "\"max_tokens\": 100, \"max_completion_tokens\": 250, \"temperature\": 0.7, \"messages\": ["
                               "{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \"Hello\"}]}";
    struct sp_ask ask = asked(body);
    assert_model(&ask, "gpt-4o");
    assert_place(ask.model_at, body, "\"gpt-4o\"");
    assert_true(ask.stream);
    assert_true(ask.include_usage);
    assert_place(ask.stream_options_at, body, "{\"include_usage\": true}");
    assert_int_equal(ask.n, 2);
    assert_int_equal(ask.max_tokens, 250);
    assert_int_equal(ask.messages, 2);
    assert_int_equal(ask.images, 0);
    assert_int_equal(ask.text_bytes, strlen("systemBe brief.userHello"));
    assert_int_equal(sp_ask_prompt_estimate(&ask), 6 + 16);
}

static void what_is_not_asked_for_is_nothing(void **state) {
    struct sp_ask ask = asked("{}");
    assert_int_equal(ask.model_len, 0);
    assert_int_equal(ask.model_at.len, 0);
    assert_int_equal(ask.stream_options_at.len, 0);
    assert_false(ask.stream);
    assert_false(ask.include_usage);
    assert_int_equal(ask.n, 1);
    assert_int_equal(ask.max_tokens, 0);
    assert_int_equal(sp_ask_prompt_estimate(&ask), 0);
}

static void null_is_nothing_and_says_where_it_stands(void **state) {
    static const char body[] = "{\"model\":null,\"stream\":null,\"stream_options\": null ,\"n\":null,\"best_of\":null,\"max_tokens\":null,"
                               "\"messages\":null,\"input\":null,\"tools\":null}";
    struct sp_ask ask = asked(body);
    assert_int_equal(ask.model_len, 0);
    assert_place(ask.model_at, body, "null");
    assert_place(ask.stream_options_at, body, "null");
    assert_false(ask.stream);
    assert_int_equal(ask.n, 1);
    assert_int_equal(ask.max_tokens, 0);
    assert_int_equal(sp_ask_prompt_estimate(&ask), 0);
    assert_false(asked("{\"stream_options\":{\"include_usage\":null}}").include_usage);
    assert_false(asked("{\"stream_options\":{}}").include_usage);
}

static void only_members_of_the_outermost_object_are_meant(void **state) {
    struct sp_ask ask =
        asked("{\"messages\":[{\"model\":\"inner\",\"stream\":true,\"n\":7,\"max_tokens\":9,\"stream_options\":{\"include_usage\":true}}],"
              "\"metadata\":{\"model\":1,\"stream\":\"yes\",\"n\":0,\"messages\":[1,2]},\"x\":[\"model\",\"stream\"]}");
    assert_int_equal(ask.model_len, 0);
    assert_false(ask.stream);
    assert_false(ask.include_usage);
    assert_int_equal(ask.n, 1);
    assert_int_equal(ask.max_tokens, 0);
    assert_int_equal(ask.messages, 1);
}

static void names_may_be_escaped(void **state) {
    static const char body[] = "{\"\\u006dodel\":\"\\u006d\",\"str\\u0065am\":true}";
    struct sp_ask ask = asked(body);
    assert_model(&ask, "m");
    assert_place(ask.model_at, body, "\"\\u006d\"");
    assert_true(ask.stream);
}

/* Go's encoding/json takes "Model" for "model", and the last of the two; .NET and Java may. */
static void a_name_that_is_known_but_for_its_case_is_refused(void **state) {
    assert_refused_at("{\"model\":\"m\",\"Model\":\"other\"}", 13, "case");
    assert_refused_at("{\"MODEL\":\"m\"}", 1, "case");
    assert_refused_at("{\"m\\u004fdel\":\"m\"}", 1, "case");
    assert_refused_at("{\"N\":3}", 1, "case");
    assert_refused_at("{\"Max_Completion_Tokens\":3}", 1, "case");
    assert_refused_at("{\"N_Predict\":3}", 1, "case");
    assert_refused_at("{\"max_to\u212aens\":3}", 1, "case");
    assert_refused_at("{\"max_to\\u212aens\":3}", 1, "case");
    assert_refused_at("{\"\u017fystem\":\"x\"}", 1, "case");
    assert_refused_at("{\"\u0130nput\":\"x\"}", 1, "case");
    assert_refused_at("{\"\u0131nstruct\u0131on\u017f\":\"x\"}", 1, "case");
    asked("{\"Models\":1,\"mode\":1,\"\":1,\"Max_Completion_Tokens_\":1,\"metadata\":{\"Model\":1},\"messages\":[{\"Model\":1}]}");
}

static void every_element_of_a_list_of_prompts_is_one(void **state) {
    assert_int_equal(asked("{\"prompt\":\"a\"}").prompts, 0);
    assert_int_equal(asked("{\"prompt\":[1,2,3]}").prompts, 0);
    assert_int_equal(asked("{\"prompt\":[\"a\",\"b\",[1,2],[\"c\",\"d\"]]}").prompts, 4);
    assert_int_equal(asked("{\"prompt\":[\"abcd\",[1,2]]}").text_bytes, 12);
    assert_int_equal(asked("{\"input\":[\"a\",\"b\"],\"x\":{\"prompt\":[\"a\"]}}").prompts, 0);
}

static void the_largest_count_is_taken(void **state) {
    assert_int_equal(asked("{\"n\":2,\"best_of\":5}").n, 5);
    assert_int_equal(asked("{\"best_of\":2,\"n\":5}").n, 5);
    assert_int_equal(asked("{\"max_output_tokens\":3,\"max_tokens\":1,\"max_completion_tokens\":2}").max_tokens, 3);
    assert_int_equal(asked("{\"n_predict\":3,\"max_tokens\":1}").max_tokens, 3);
    assert_int_equal(asked("{\"max_tokens\":1000000000}").max_tokens, 1000000000);
    assert_int_equal(asked("{\"max_tokens\":0}").max_tokens, 0);
}

static void another_kind_is_refused_by_its_members_name(void **state) {
    assert_refused_at("{\"model\":1}", 9, "\"model\"");
    assert_refused_at("{\"model\":[\"m\"]}", 9, "\"model\"");
    assert_refused_at("{\"stream\":\"yes\"}", 10, "\"stream\"");
    assert_refused_at("{\"stream\":1}", 10, "\"stream\"");
    assert_refused_at("{\"stream_options\":true}", 18, "\"stream_options\"");
    assert_refused_at("{\"stream_options\":{\"include_usage\":\"true\"}}", 35, "\"stream_options.include_usage\"");
    static const char *const counts[] = {"n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"};
    static const char *const wrong[] = {"\"1\"", "true", "[1]", "{}", "1.0", "1e2", "-1", "-0", "1000000001", "99999999999999999999999999"};
    for (size_t i = 0; i < SP_COUNT(counts); i++)
        for (size_t j = 0; j < SP_COUNT(wrong); j++) {
            char body[128], words[64];
            snprintf(body, sizeof body, "{\"%s\":%s}", counts[i], wrong[j]);
            snprintf(words, sizeof words, "\"%s\"", counts[i]);
            assert_refused_at(body, strlen(counts[i]) + 4, words);
        }
    assert_refused_at("{\"n\":0}", 5, "\"n\"");
    assert_refused_at("{\"best_of\":0}", 11, "\"best_of\"");
}

static void images_count_and_what_they_carry_does_not(void **state) {
    struct sp_ask ask =
        asked("{\"messages\":[{\"content\":[{\"type\":\"text\",\"text\":\"What?\"},"
              "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,AAAAAAAA\",\"detail\":\"low\"}},"
              "{\"image_url\":\"data:AAAA\",\"type\":\"input_image\"},"
              "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"data\":\"AAAAAAAA\"}},"
              "{\"type\":\"file\",\"file\":{\"file_data\":\"AAAA\"}},{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AAAA\"}}]}]}");
    assert_int_equal(ask.images, 3);
    assert_int_equal(ask.messages, 1);
    assert_int_equal(ask.text_bytes, strlen("textWhat?image_urllowinput_imageimagebase64fileinput_audio"));
    assert_int_equal(sp_ask_prompt_estimate(&ask), 15 + 8 + 3000);
}

static void the_data_of_a_text_document_is_text(void **state) {
    assert_int_equal(asked("{\"messages\":[{\"source\":{\"type\":\"text\",\"data\":\"12345\"}}]}").text_bytes, 4 + 5);
    assert_int_equal(asked("{\"messages\":[{\"source\":{\"data\":\"12345\",\"type\":\"text\"}}]}").text_bytes, 4 + 5);
    assert_int_equal(asked("{\"messages\":[{\"source\":{\"data\":\"12345\",\"type\":\"base64\"}}]}").text_bytes, 6);
    assert_int_equal(asked("{\"messages\":{\"data\":\"12345\"}}").text_bytes, 0);
    assert_int_equal(asked("{\"messages\":[{\"source\":{\"data\":{\"x\":\"12345\"}}}]}").text_bytes, 5);
}

static void every_member_that_holds_text_counts(void **state) {
    assert_int_equal(asked("{\"prompt\":\"12345\",\"user\":\"not me\"}").text_bytes, 5);
    assert_int_equal(asked("{\"prompt\":[\"12\",\"345\"]}").text_bytes, 5);
    assert_int_equal(asked("{\"system\":[{\"type\":\"t\",\"text\":\"12345\"}],\"messages\":[]}").text_bytes, 6);
    assert_int_equal(asked("{\"instructions\":\"12345\",\"input\":\"678\"}").text_bytes, 8);
    assert_int_equal(asked("{\"messages\":{\"a\":{\"b\":[[{\"c\":\"12345\"}]]}}}").text_bytes, 5);
}

/* vLLM's and Cohere's: of /v1/rerank and /v1/score nothing else is prompt. */
static void what_is_ranked_or_scored_counts_and_is_no_message(void **state) {
    struct sp_ask ask = asked("{\"query\":\"12345\",\"documents\":[\"678\",{\"text\":\"90\"},{\"content\":[{\"type\":\"image_url\","
                              "\"image_url\":{\"url\":\"data:AAAA\"}}]}]}");
    assert_int_equal(ask.text_bytes, 5 + 3 + 2 + strlen("image_url"));
    assert_int_equal(ask.images, 1);
    assert_int_equal(ask.messages, 0);
    assert_int_equal(ask.prompts, 0);
    assert_int_equal(sp_ask_prompt_estimate(&ask), 5 + 1000);
    ask = asked("{\"text_1\":\"12345\",\"text_2\":[\"67\",\"8\"],\"query\":[\"a\",\"b\"]}");
    assert_int_equal(ask.text_bytes, 5 + 3 + 2);
    assert_int_equal(ask.messages, 0);
    assert_int_equal(asked("{\"text_1\":{\"content\":[{\"type\":\"text\",\"text\":\"12345\"}]},\"text_2\":[1,2]}").text_bytes, 4 + 5 + 8);
}

static void what_follows_a_completion_counts(void **state) {
    assert_int_equal(asked("{\"prompt\":\"123\",\"suffix\":\"45678\"}").text_bytes, 8);
    assert_int_equal(asked("{\"suffix\":null}").text_bytes, 0);
    assert_refused_at("{\"Suffix\":\"x\"}", 1, "case");
}

static void functions_and_the_form_of_the_answer_count_as_tools_do(void **state) {
    assert_int_equal(asked("{\"functions\":[{\"name\":\"f\",\"parameters\":{\"url\":\"12345\"}}]}").text_bytes,
                     strlen("namefparametersurl12345"));
    assert_int_equal(asked("{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"minimum\":1}}}}").text_bytes,
                     strlen("typejson_schemajson_schemaschemaminimum") + 4);
    assert_int_equal(asked("{\"functions\":[{\"type\":\"image\"}]}").images, 0);
}

/* Their schemas are shown to the model, names and all; "url" there is a name like any other. */
static void tools_count_with_their_names(void **state) {
    static const char body[] = "{\"tools\":[{\"type\":\"function\",\"parameters\":{\"url\":\"12345\",\"data\":{\"maxLength\":9}}}]}";
    assert_int_equal(asked(body).text_bytes, strlen("typefunctionparametersurl12345datamaxLength") + 4);
    assert_int_equal(asked("{\"tools\":[{\"type\":\"image\"}]}").images, 0);
}

/* Anthropic's tool_use and Ollama's calls have free JSON there, which the model sees. */
static void what_a_tool_was_called_with_counts_with_its_names(void **state) {
    assert_int_equal(
        asked("{\"messages\":[{\"content\":[{\"type\":\"tool_use\",\"name\":\"f\",\"input\":{\"url\":\"12345\",\"data\":\"678\","
              "\"a\":[{\"image_url\":\"9\",\"file_data\":7}]}}]}]}")
            .text_bytes,
        strlen("tool_usef") + strlen("url12345data678aimage_url9file_data") + 4);
    assert_int_equal(
        asked("{\"messages\":[{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"url\":\"12345\"}}}]}]}").text_bytes,
        strlen("furl12345"));
    assert_int_equal(asked("{\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"a\\\":1}\"}}]}]}").text_bytes,
                     strlen("{\"a\":1}"));
    assert_int_equal(asked("{\"input\":[{\"type\":\"custom_tool_call\",\"input\":\"12345\"}]}").text_bytes,
                     strlen("custom_tool_call12345"));
    assert_int_equal(asked("{\"messages\":[{\"input\":{\"type\":\"image\"}}]}").images, 0);
}

/* The outermost input is a prompt, and what lies beside a tool's input is a part as before. */
static void only_the_input_within_a_part_is_what_a_tool_was_called_with(void **state) {
    struct sp_ask ask = asked("{\"input\":[{\"content\":[{\"type\":\"input_image\",\"image_url\":\"data:AAAA\"},{\"data\":\"AAAA\"}]}]}");
    assert_int_equal(ask.text_bytes, strlen("input_image"));
    assert_int_equal(ask.images, 1);
    ask =
        asked("{\"messages\":[{\"content\":[{\"input\":{\"a\":{}},\"type\":\"image\",\"source\":{\"data\":\"AAAA\",\"url\":\"BBBB\"}}]}]}");
    assert_int_equal(ask.text_bytes, strlen("aimage"));
    assert_int_equal(ask.images, 1);
}

static void lists_of_token_ids_count_four_bytes_each(void **state) {
    struct sp_ask ask = asked("{\"input\":[1,22,333]}");
    assert_int_equal(ask.text_bytes, 12);
    assert_int_equal(ask.messages, 0);
    assert_int_equal(sp_ask_prompt_estimate(&ask), 3);
    ask = asked("{\"input\":[[1,22],[333]]}");
    assert_int_equal(ask.text_bytes, 12);
    assert_int_equal(ask.messages, 2);
    assert_int_equal(asked("{\"input\":[\"a\",\"b\",\"c\"]}").messages, 3);
    assert_int_equal(asked("{\"prompt\":[1,2]}").text_bytes, 8);
}

static void a_member_can_be_put_in_first(void **state) {
    struct sp_ask ask = asked(" {\"a\":1}");
    assert_int_equal(ask.insert_at.at, 2);
    assert_int_equal(ask.insert_at.len, 0);
    ask = asked("\n{ }");
    assert_int_equal(ask.insert_at.at, 2);
    assert_int_equal(ask.insert_at.len, 1);
    assert_int_equal(asked("{\"a\":{}}").insert_at.len, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chat_says_what_it_wants),
        cmocka_unit_test(what_is_not_asked_for_is_nothing),
        cmocka_unit_test(null_is_nothing_and_says_where_it_stands),
        cmocka_unit_test(only_members_of_the_outermost_object_are_meant),
        cmocka_unit_test(names_may_be_escaped),
        cmocka_unit_test(a_name_that_is_known_but_for_its_case_is_refused),
        cmocka_unit_test(every_element_of_a_list_of_prompts_is_one),
        cmocka_unit_test(the_largest_count_is_taken),
        cmocka_unit_test(another_kind_is_refused_by_its_members_name),
        cmocka_unit_test(images_count_and_what_they_carry_does_not),
        cmocka_unit_test(the_data_of_a_text_document_is_text),
        cmocka_unit_test(every_member_that_holds_text_counts),
        cmocka_unit_test(what_is_ranked_or_scored_counts_and_is_no_message),
        cmocka_unit_test(what_follows_a_completion_counts),
        cmocka_unit_test(functions_and_the_form_of_the_answer_count_as_tools_do),
        cmocka_unit_test(tools_count_with_their_names),
        cmocka_unit_test(what_a_tool_was_called_with_counts_with_its_names),
        cmocka_unit_test(only_the_input_within_a_part_is_what_a_tool_was_called_with),
        cmocka_unit_test(lists_of_token_ids_count_four_bytes_each),
        cmocka_unit_test(a_member_can_be_put_in_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
