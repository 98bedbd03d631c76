#include "arrival.h"

#include <stdio.h>

static struct sp_http_request request;

static unsigned get(const char *target) {
    static char head[512]; /* the request points into it */
    const char *reason;
    assert_true(snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target) < (int)sizeof head);
    return sp_http_parse_request(sp_span_text(head), &request, &reason);
}

static void usual_targets_pass(void **state) {
    static const char *const targets[] = {
        "/",
        "/?",
        "/v1/models",
        "/v1/models/",
        "/v1/models/llama3:8b",
        "/v1/models/llama3%3A8b",
        "/a.b/..c/...",
        "/.well-known/x",
        "/a;b=c",
        "/v1/models/m%C3%B6del",
        "/a%20b",
        "/a%25",
        "/v1/x?include[]=a&b={c}|d^e`f",
        "/x?a=/../b//c?d",
        "/x?%2e%2f%5c%00",
        "/~a/(b)'c'!$&*+,=@",
        "http://a/",
        "HTTP://a/x?y",
    };
    for (size_t i = 0; i < SP_COUNT(targets); i++) {
        if (get(targets[i]) != 0)
            fail_msg("%s was refused", targets[i]);
    }
}

static void the_query_begins_after_the_first_question_mark(void **state) {
    assert_int_equal(get("/a?b?c=/d"), 0);
    assert_span(request.path, "/a");
    assert_span(request.query, "b?c=/d");
    assert_int_equal(get("/a?"), 0);
    assert_span(request.path, "/a");
    assert_span(request.query, "");
}

static void paths_that_could_fool_a_prefix_are_refused(void **state) {
    static const char *const targets[] = {
        "/.",   "/..",    "/./",    "/../",   "/a/.",    "/a/..",    "/a/./b", "/a/../b", "/.;a",        "/..;/b", "//",   "/a//b",
        "/%2e", "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b",   "/%61",     "/%41",   "/%39",    "/%7e",        "/%5F",   "/%2D", "/%00",
        "/%1f", "/%7F",   "/%",     "/%4",    "/%4g",    "/%g4",     "/a?%",   "/a?b%4",  "/a#",         "/a?b#c", "/a\"", "/<a>",
        "/a|b", "/{a}",   "/a^b",   "/a`b",   "/a?b\\c", "/a?\"b\"", "/a?<",   "/\xff",   "/a?\xc3\xa4",
    };
    for (size_t i = 0; i < SP_COUNT(targets); i++) {
        if (get(targets[i]) != 400)
            fail_msg("%s was not refused", targets[i]);
    }
}

static void only_http_urls_with_a_plain_authority_pass(void **state) {
    static const char *const targets[] = {"http:/a",        "http:a",       "//a/b",        "a",
                                          "ws://a/",        "http://",      "http://@a/",   "http://a:/",
                                          "http://a:0/",    "http://a/../", "http://b/",    "http://a:81/",
                                          "https://a%2eb/", "http://a#b",   "http://a\\b/", "http://[a]/"};
    for (size_t i = 0; i < SP_COUNT(targets); i++)
        if (get(targets[i]) != 400)
            fail_msg("%s was not refused", targets[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual_targets_pass),
        cmocka_unit_test(the_query_begins_after_the_first_question_mark),
        cmocka_unit_test(paths_that_could_fool_a_prefix_are_refused),
        cmocka_unit_test(only_http_urls_with_a_plain_authority_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
