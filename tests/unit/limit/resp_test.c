#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "redis_store.h"
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

static int decode(const char *text, uint64_t cost, size_t n, struct sp_limit_answer *answers) {
    const struct sp_resp_reply *reply;
    assert_int_equal(feed(text, &reply), 1);
    return sp_redis_decode(reply, cost, n, answers);
}

static void an_answer_of_the_script_says_what_the_bucket_says(void **state) {
    struct sp_limit_answer answer;
    /* refused: 0.25 of a token there, 10 micro-tokens per µs, burst 5, the clock 100 µs behind */
    assert_int_equal(decode("*8\r\n:0\r\n:1\r\n:250000\r\n:0\r\n:10\r\n:1\r\n:5\r\n:100\r\n", 1, 1, &answer), 0);
    assert_false(answer.bucket.admitted);
    assert_int_equal(answer.burst, 5);
    assert_int_equal(answer.bucket.remaining, 0);
    assert_int_equal(answer.bucket.retry_us, 75000 + 100);
    assert_int_equal(answer.bucket.reset_us, 475000 + 100);
}

static void answers_that_contradict_themselves_are_refused(void **state) {
    static const char *const wrong[] = {
        "+OK\r\n",
        "*1\r\n:1\r\n",
        "*8\r\n:2\r\n:0\r\n:0\r\n:0\r\n:10\r\n:1\r\n:5\r\n:0\r\n",       /* neither admitted nor refused */
        "*8\r\n:1\r\n:0\r\n:0\r\n:0\r\n:0\r\n:1\r\n:5\r\n:0\r\n",        /* no rate */
        "*8\r\n:1\r\n:0\r\n:0\r\n:0\r\n:10\r\n:0\r\n:5\r\n:0\r\n",       /* no period */
        "*8\r\n:1\r\n:0\r\n:0\r\n:0\r\n:10\r\n:1\r\n:0\r\n:0\r\n",       /* no burst */
        "*8\r\n:1\r\n:0\r\n:-1\r\n:0\r\n:10\r\n:1\r\n:5\r\n:0\r\n",      /* taken from what was not there */
        "*8\r\n:0\r\n:1\r\n:1000000\r\n:0\r\n:10\r\n:1\r\n:5\r\n:0\r\n", /* refused though there */
        "*8\r\n:0\r\n:2\r\n:0\r\n:0\r\n:10\r\n:1\r\n:5\r\n:0\r\n",       /* never, though it would fit */
        "*8\r\n:1\r\n:0\r\n:0\r\n:0\r\n:10\r\n:1\r\n:5\r\n:-1\r\n",      /* a clock before the clock */
        "*8\r\n:1\r\n:0\r\n$1\r\n0\r\n:0\r\n:10\r\n:1\r\n:5\r\n:0\r\n",  /* text */
    };
    struct sp_limit_answer answer;
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        assert_int_equal(decode(wrong[i], 1, 1, &answer), -EPROTO);
    assert_int_equal(decode("*8\r\n:1\r\n:0\r\n:0\r\n:0\r\n:10\r\n:1\r\n:5\r\n:0\r\n", 1, 1, &answer), 0);
}

static void rates_are_in_lowest_terms_and_within_exact_numbers(void **state) {
    static const struct {
        struct sp_rate rate;
        uint64_t num, den;
    } cases[] = {
        {{600, 60000000}, 10, 1}, {{1000, 3600000000}, 5, 18}, {{7, 60000000}, 7, 60}, {{1, 1000000}, 1, 1}, {{200000, 60000000}, 10000, 3},
    };
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        struct sp_redis_ratio ratio = sp_redis_ratio_of(&cases[i].rate);
        assert_int_equal(ratio.num, cases[i].num);
        assert_int_equal(ratio.den, cases[i].den);
    }
    static const struct sp_rate extreme[] = {{UINT64_MAX, 1}, {UINT64_MAX, UINT64_MAX}, {1, UINT64_MAX}, {999999999999989, 86399999999}};
    for (size_t i = 0; i < SP_COUNT(extreme); i++) {
        struct sp_redis_ratio ratio = sp_redis_ratio_of(&extreme[i]);
        __extension__ typedef unsigned __int128 wide;
        assert_true(ratio.num >= 1 && ratio.den >= 1);
        assert_true((wide)ratio.den * (ratio.num + 1) <= (wide)1 << 53);
        if (ratio.num > 1) /* never faster than asked for */
            assert_true((wide)ratio.num * extreme[i].period_us <= (wide)extreme[i].amount * SP_MICRO * ratio.den);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_kind_of_reply_is_understood, set_up, tear_down),
        cmocka_unit_test_setup_teardown(replies_arrive_in_any_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deeper_or_longer_arrays_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reply_larger_than_any_of_ours_is_refused_before_it_is_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(garbage_is_an_error_for_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_of_the_script_says_what_the_bucket_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_that_contradict_themselves_are_refused, set_up, tear_down),
        cmocka_unit_test(rates_are_in_lowest_terms_and_within_exact_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
