#include "scanning.h"

static void one_object_with_white_space_anywhere_is_complete(void **state) {
    static const char *const bodies[] = {
        "{}",
        " \t\r\n{ \t\r\n} \t\r\n",
        "{ \"a\" : [ 1 , { } , [ ] , \"\" , true , false , null ] , \"b\" : { \"c\" : -0.5e+1 } }",
        "{\n                    \"a\": [\n                        1\n                    ]\n}\n",
        "{\"\":1}",
    };
    assert_all_complete(bodies, SP_COUNT(bodies));
}

static void anything_but_an_object_is_refused(void **state) {
    assert_refused_at("", 0, "empty");
    assert_refused_at("  ", 2, "empty");
    assert_refused_at("[]", 0, "not a JSON object");
    assert_refused_at("  \"a\"", 2, "not a JSON object");
    assert_refused_at("1", 0, "not a JSON object");
    assert_refused_at("null", 0, "not a JSON object");
    assert_refused_at("\xef\xbb\xbf{}", 0, "byte order mark");
    assert_refused_at("model=x", 0, "an object must stand here");
}

static void only_white_space_may_follow_the_object(void **state) {
    assert_refused_at("{}{}", 2, "follows");
    assert_refused_at("{} ,", 3, "follows");
    assert_refused_span(SP_SPAN("{}\0"), 2, "follows");
}

static void a_body_that_ends_early_is_refused_at_its_end(void **state) {
    static const char body[] = "{\"a\":[1.5,\"b\\u00e9\\n\xc3\xa9\",true,{\"c\":null}]}";
    for (size_t len = 1; len < sizeof body - 1; len++)
        assert_refused_span(sp_span(body, len), len, "ends too early");
}

static void commas_colons_and_brackets_stand_where_they_must(void **state) {
    static const struct {
        const char *body;
        uint64_t at;
    } wrong[] = {
        {"{,}", 1},          {"{\"a\"}", 4},           {"{\"a\",1}", 4},     {"{\"a\":}", 5},
        {"{\"a\":1,}", 7},   {"{\"a\":1 \"b\":2}", 7}, {"{\"a\":1]", 6},     {"{\"a\":[1}", 7},
        {"{\"a\":[1,]}", 8}, {"{\"a\":[,1]}", 6},      {"{\"a\":[1 2]}", 8}, {"{\"a\"::1}", 5},
        {"{a:1}", 1},        {"{'a':1}", 1},           {"{1:1}", 1},         {"{\"a\":1,,\"b\":1}", 7},
        {"{\"a\":'b'}", 5},  {"{\"a\":/**/1}", 5},     {"{\"a\":[]]}", 7},   {"{\"a\":{}}}", 8},
        {"{\"a\":\f1}", 5},  {"{\"a\":\v1}", 5},
    };
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        assert_refused_at(wrong[i].body, wrong[i].at, "");
}

/* `levels` objects and arrays in each other, in turn. */
static size_t nest(char *out, unsigned levels) {
    char *at = out;
    for (unsigned i = 0; i < levels; i++) {
        memcpy(at, i % 2 ? "[" : "{\"a\":", i % 2 ? 1 : 5);
        at += i % 2 ? 1 : 5;
    }
    *at++ = '1';
    for (unsigned i = levels; i-- > 0;)
        *at++ = i % 2 ? ']' : '}';
    return (size_t)(at - out);
}

static void sixty_four_levels_are_read_and_one_more_is_refused(void **state) {
    char body[1024];
    assert_int_equal(scan_span(sp_span(body, nest(body, SP_JSON_DEPTH_MAX))).progress, SP_HTTP_COMPLETE);
    size_t len = nest(body, SP_JSON_DEPTH_MAX + 1);
    assert_refused_span(sp_span(body, len), SP_JSON_DEPTH_MAX / 2 * 6, "nested too deeply");
}

static void numbers_are_written_as_the_rfc_says(void **state) {
    static const char *const good[] = {"0",     "-0",   "1",      "10",          "-10",           "0.0",
                                       "1.50",  "-0.5", "1e1",    "1E1",         "1e+1",          "1e-1",
                                       "1.5e9", "0e0",  "1e0005", "1e-99999999", "0e99999999999", "123456789012345678901234567890"};
    static const char *const bad[] = {"-",    "+1",    "01",  "-01", "00",  ".5", "1.",  "1.e1",     "1e",        "1e+", "1e-",
                                      "1ee1", "1.5.1", "0x1", "1f",  "--1", "1-", "NaN", "Infinity", "-Infinity", "1_0"};
    char body[128];
    for (size_t i = 0; i < SP_COUNT(good); i++) {
        snprintf(body, sizeof body, "{\"a\":%s}", good[i]);
        asked(body);
        snprintf(body, sizeof body, "{\"a\":[%s,%s ,%s]}", good[i], good[i], good[i]);
        asked(body);
    }
    for (size_t i = 0; i < SP_COUNT(bad); i++) {
        snprintf(body, sizeof body, "{\"a\":%s}", bad[i]);
        assert_int_equal(scan_text(body).progress, SP_HTTP_REFUSED);
    }
}

static void a_number_that_no_double_holds_is_refused(void **state) {
    asked("{\"a\":1.7976931348623157e308}");
    asked("{\"a\":1.7976931348623158e308}"); /* rounds down */
    asked("{\"a\":-17976931348623157e+292}");
    asked("{\"a\":0.000000000000000001e325}");
    asked("{\"a\":1e-400}"); /* zero, nearly */
    assert_refused_at("{\"a\":1.7976931348623159e308}", 5, "too large");
    assert_refused_at("{\"a\":[1,-1e309]}", 8, "too large");
    assert_refused_at("{\"a\":1e000000400 }", 5, "too large");
    assert_refused_at("{\"a\":1E+99999999999999999999}", 5, "too large");
}

static void a_number_has_at_most_sixty_four_characters(void **state) {
    char body[128];
    snprintf(body, sizeof body, "{\"a\":%064d}", 0);
    body[5] = '1';
    asked(body);
    snprintf(body, sizeof body, "{\"a\":%065d}", 0);
    body[5] = '1';
    assert_refused_at(body, 5, "too long");
}

static void literals_are_lower_case_and_whole(void **state) {
    assert_refused_at("{\"a\":True}", 5, "value");
    assert_refused_at("{\"a\":tRue}", 6, "true, false and null");
    assert_refused_at("{\"a\":nul}", 8, "true, false and null");
    assert_refused_at("{\"a\":falsee}", 10, "comma");
    assert_refused_at("{\"a\":undefined}", 5, "value");
}

static void once_refused_it_stays_refused_for_the_first_reason(void **state) {
    struct sp_json_scan *scan = malloc(sp_json_scan_size());
    assert_non_null(scan);
    static const struct sp_hash_key key = {1, 2};
    sp_json_begin(scan, &key);
    assert_int_equal(sp_json_feed(scan, SP_SPAN("{\"a\":")), SP_HTTP_INCOMPLETE);
    assert_int_equal(sp_json_feed(scan, SP_SPAN("1,}")), SP_HTTP_REFUSED);
    uint64_t at;
    const char *wrong = sp_json_wrong(scan, &at);
    assert_int_equal(at, 7);
    assert_int_equal(sp_json_feed(scan, SP_SPAN("{}]")), SP_HTTP_REFUSED);
    assert_int_equal(sp_json_end(scan), SP_HTTP_REFUSED);
    assert_ptr_equal(sp_json_wrong(scan, &at), wrong);
    assert_int_equal(at, 7);

    sp_json_begin(scan, &key); /* another request's */
    assert_int_equal(sp_json_feed(scan, SP_SPAN("{\"a\":1}")), SP_HTTP_INCOMPLETE);
    assert_int_equal(sp_json_feed(scan, sp_span(NULL, 0)), SP_HTTP_INCOMPLETE);
    assert_int_equal(sp_json_end(scan), SP_HTTP_COMPLETE);
    free(scan);
}

static void a_scan_takes_less_than_48_kib(void **state) {
    assert_true(sp_json_scan_size() <= 48 * 1024);
    assert_true(sp_multipart_scan_size() <= 48 * 1024);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_object_with_white_space_anywhere_is_complete),
        cmocka_unit_test(anything_but_an_object_is_refused),
        cmocka_unit_test(only_white_space_may_follow_the_object),
        cmocka_unit_test(a_body_that_ends_early_is_refused_at_its_end),
        cmocka_unit_test(commas_colons_and_brackets_stand_where_they_must),
        cmocka_unit_test(sixty_four_levels_are_read_and_one_more_is_refused),
        cmocka_unit_test(numbers_are_written_as_the_rfc_says),
        cmocka_unit_test(a_number_that_no_double_holds_is_refused),
        cmocka_unit_test(a_number_has_at_most_sixty_four_characters),
        cmocka_unit_test(literals_are_lower_case_and_whole),
        cmocka_unit_test(once_refused_it_stays_refused_for_the_first_reason),
        cmocka_unit_test(a_scan_takes_less_than_48_kib),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
