#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "resp.h"

static struct sp_resp *resp;
static int set_up(void **state) { return sp_resp_new(&resp); }
static int tear_down(void **state) {
    sp_resp_free(resp);
    return 0;
}
static int feed(const char *text, const struct sp_resp_reply **ret) {
    int r = sp_resp_feed(resp, text, strlen(text));
    return r < 0 ? r : sp_resp_next(resp, ret);
}

static void each_kind_of_reply_is_understood(void **state) {
    const struct sp_resp_reply *reply;
    assert_int_equal(feed("+PONG\r\n", &reply), 1);
    assert_int_equal(reply->value.type, SP_RESP_STATUS);
    assert_true(sp_span_eq(reply->value.text, SP_SPAN("PONG")));
    assert_int_equal(feed("-NOSCRIPT no\r\n", &reply), 1);
    assert_int_equal(reply->value.type, SP_RESP_ERROR);
    assert_int_equal(feed(":-9007199254740992\r\n", &reply), 1);
    assert_int_equal(reply->value.integer, -9007199254740992);
    assert_int_equal(feed("$-1\r\n", &reply), 1);
    assert_int_equal(reply->value.type, SP_RESP_NIL);
    assert_int_equal(feed("*3\r\n:1\r\n$2\r\nhi\r\n$-1\r\n", &reply), 1);
    assert_int_equal(reply->value.type, SP_RESP_ARRAY);
    assert_int_equal(reply->n, 3);
    assert_int_equal(reply->item[0].integer, 1);
    assert_true(sp_span_eq(reply->item[1].text, SP_SPAN("hi")));
    assert_int_equal(sp_resp_next(resp, &reply), 0);
}

static void replies_arrive_in_any_pieces(void **state) {
    static const char text[] = "*2\r\n:12\r\n$5\r\nhello\r\n+OK\r\n";
    const struct sp_resp_reply *reply;
    int replies = 0;
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        assert_int_equal(sp_resp_feed(resp, text + i, 1), 0);
        replies += sp_resp_next(resp, &reply);
    }
    assert_int_equal(replies, 2);
}

struct seen {
    size_t n, depth, items;
    char text[64];
};
static void see(void *owner, const struct sp_resp_value *value, const struct sp_resp_place *place) {
    struct seen *seen = owner;
    seen->n++;
    seen->depth = sp_max(seen->depth, place->depth);
    seen->items = sp_max(seen->items, place->index + 1);
    if (value->type == SP_RESP_STRING)
        (void)snprintf(seen->text, sizeof seen->text, SP_SPAN_FMT, SP_SPAN_ARG(value->text));
}

static void who_visits_sees_what_is_deeper_and_longer(void **state) {
    const struct sp_resp_reply *reply;
    struct seen seen = {0};
    sp_resp_visit_with(resp, see, &seen);
    assert_int_equal(feed("*2\r\n*1\r\n$2\r\nhi\r\n*300\r\n", &reply), 0);
    for (int i = 0; i < 299; i++)
        assert_int_equal(feed(":1\r\n", &reply), 0);
    assert_int_equal(feed(":1\r\n", &reply), 1);
    assert_int_equal(reply->value.type, SP_RESP_ARRAY);
    assert_int_equal(reply->value.integer, 2);
    assert_int_equal(reply->n, 0);
    assert_int_equal(seen.n, 303);
    assert_int_equal(seen.depth, 2);
    assert_int_equal(seen.items, 300);
    assert_string_equal(seen.text, "hi");
    assert_int_equal(feed("-ERR no\r\n", &reply), 1); /* no array: as for everybody */
    assert_true(sp_span_eq(reply->value.text, SP_SPAN("ERR no")));
    sp_resp_visit_with(resp, NULL, NULL);
    assert_int_equal(feed("*1\r\n:7\r\n", &reply), 1);
    assert_int_equal(reply->item[0].integer, 7);
    assert_int_equal(seen.n, 303);
}

static void a_visited_reply_has_an_end_too(void **state) {
    const struct sp_resp_reply *reply;
    struct seen seen = {0};
    sp_resp_visit_with(resp, see, &seen);
    assert_int_equal(feed("*2147483647\r\n", &reply), -EPROTO);
    tear_down(NULL);
    set_up(NULL);
    sp_resp_visit_with(resp, see, &seen);
    int r = feed("*100000\r\n", &reply);
    for (size_t i = 0; i < 100000 && r == 0; i++)
        r = feed("*8\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n", &reply);
    assert_int_equal(r, -EPROTO);
    assert_int_equal(seen.n, SP_RESP_VISIT_MAX);
}

static void deeper_or_longer_arrays_are_refused(void **state) {
    const struct sp_resp_reply *reply;
    assert_int_equal(feed("*1\r\n*1\r\n:1\r\n", &reply), -EPROTO);
    tear_down(NULL);
    set_up(NULL);
    assert_int_equal(feed("*161\r\n", &reply), -EPROTO);
    tear_down(NULL);
    set_up(NULL);
    assert_int_equal(feed("*2147483647\r\n", &reply), -EPROTO);
}

static void a_reply_larger_than_any_of_ours_is_refused_before_it_is_held(void **state) {
    static char kilobyte[1024];
    const struct sp_resp_reply *reply;
    memset(kilobyte, 'x', sizeof kilobyte);
    int r = feed("$1000000000\r\n", &reply);
    size_t fed = 0;
    for (; r == 0 && fed < 1 << 20; fed += sizeof kilobyte) {
        assert_int_equal(sp_resp_feed(resp, kilobyte, sizeof kilobyte), 0);
        r = sp_resp_next(resp, &reply);
    }
    assert_int_equal(r, -EPROTO);
    assert_true(fed <= SP_RESP_BYTES_MAX + sizeof kilobyte);
}

static void garbage_is_an_error_for_good(void **state) {
    const struct sp_resp_reply *reply;
    assert_int_equal(feed("HTTP/1.1 400 Bad Request\r\n", &reply), -EPROTO);
    assert_int_equal(sp_resp_feed(resp, "+OK\r\n", 5), -EPROTO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_kind_of_reply_is_understood, set_up, tear_down),
        cmocka_unit_test_setup_teardown(replies_arrive_in_any_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_visits_sees_what_is_deeper_and_longer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_visited_reply_has_an_end_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deeper_or_longer_arrays_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reply_larger_than_any_of_ours_is_refused_before_it_is_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(garbage_is_an_error_for_good, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
