/* What goes to the script and what comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "redis_wire.h"
#include "script.h"

#define CALLER SP_SPAN("sallyport:per-caller:{s=alice@example.com}")

static const struct sp_redis_policy ten_per_us = {.ratio = {10, 1}, .burst = 5, .revision = 1763865238123};

/* ---- Out ---- */

static void a_strict_take_is_written_as_the_script_reads_it(void **state) {
    struct sp_redis_asked asked = {.key = CALLER, .policy = ten_per_us, .cost = 1};
    char bytes[1024], expected[1024];
    (void)snprintf(expected, sizeof expected,
                   "*5\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n$1\r\n1\r\n$42\r\nsallyport:per-caller:{s=alice@example.com}\r\n"
                   "$22\r\n10 1 5 1763865238123 1\r\n",
                   sp_token_bucket_sha1);
    assert_true(sp_redis_wire_size(&asked, 1) <= sizeof bytes);
    size_t n = sp_redis_wire_format(&asked, 1, false, 7, bytes);
    bytes[n] = 0;
    assert_string_equal(bytes, expected);
    assert_in_range(n, 1, 160);
    assert_true(asked.key.at > bytes && sp_span_eq(asked.key, CALLER));
}

static void everything_that_can_be_asked_has_its_word(void **state) {
    struct sp_redis_asked asked[2] = {
        {.key = SP_SPAN("a"), .policy = ten_per_us, .cost = 3, .lease = 70, .shadow = true},
        {.key = SP_SPAN("b"),
         .policy = {.ratio = {0, 1}},
         .pays = true,
         .payment = {.delta = -12, .sequence = 9, .at_us = 1763865238123456, .again = true}},
    };
    char bytes[2048];
    size_t n = sp_redis_wire_format(asked, 2, true, 0x00c0ffee, bytes);
    bytes[n] = 0;
    assert_non_null(strstr(bytes, "*8\r\n"));
    assert_non_null(strstr(bytes, "$1\r\n2\r\n$1\r\na\r\n$1\r\nb\r\n"));
    assert_non_null(strstr(bytes, "\r\n10 1 5 1763865238123 3 s l70:100000\r\n"));
    assert_non_null(strstr(bytes, "\r\n0 1 0 0 0 p-12:00c0ffee:9:1763865238123456:1\r\n$1\r\n1\r\n"));
}

static void a_policy_in_writing_is_written_as_it_would_be(void **state) {
    char policy[SP_REDIS_POLICY_MAX], one[1024], other[1024];
    struct sp_redis_asked asked = {.key = SP_SPAN("a"), .policy = ten_per_us, .cost = 3}, again = asked;
    again.in_writing = sp_span(policy, sp_redis_wire_policy(&ten_per_us, policy));
    size_t n = sp_redis_wire_format(&asked, 1, false, 7, one);
    assert_int_equal(sp_redis_wire_format(&again, 1, false, 7, other), n);
    assert_memory_equal(one, other, n);
    const struct sp_redis_policy largest = {{UINT64_MAX, UINT64_MAX}, UINT64_MAX, UINT64_MAX};
    assert_in_range(sp_redis_wire_policy(&largest, policy), 1, sizeof policy);
}

/* The largest of everything, for as many buckets as there may be: what is said to be enough is enough. */
static void the_largest_command_fits_where_it_is_said_to(void **state) {
    static struct sp_redis_asked asked[SP_REDIS_PARTS_MAX];
    static char key[1024];
    memset(key, 'k', sizeof key);
    for (size_t i = 0; i < SP_REDIS_PARTS_MAX; i++)
        asked[i] = (struct sp_redis_asked){.key = sp_span(key, sizeof key),
                                           .policy = {{UINT64_MAX, UINT64_MAX}, UINT64_MAX, UINT64_MAX},
                                           .cost = UINT64_MAX,
                                           .lease = UINT64_MAX,
                                           .shadow = true,
                                           .pays = true,
                                           .payment = {INT64_MIN, UINT64_MAX, UINT64_MAX, true}};
    size_t size = sp_redis_wire_size(asked, SP_REDIS_PARTS_MAX);
    char *bytes = malloc(size);
    assert_non_null(bytes);
    assert_true(sp_redis_wire_format(asked, SP_REDIS_PARTS_MAX, true, UINT32_MAX, bytes) <= size);
    free(bytes);
}

/* ---- Rates ---- */

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
        assert_true((wide)ratio.den * (ratio.num + 1) < (wide)1 << 53);
        if (ratio.num > 1) /* never faster than asked for */
            assert_true((wide)ratio.num * extreme[i].period_us <= (wide)extreme[i].amount * SP_MICRO * ratio.den);
    }
}

/* ---- In ---- */

static bool admitted;
static struct sp_redis_told told[SP_REDIS_PARTS_MAX];

/* A reply: a number, a number, and text for each bucket. */
static int decode_as(int64_t verdict, int64_t now, const char *const *texts, size_t n_texts, const struct sp_redis_asked *asked, size_t n,
                     bool peek) {
    struct sp_resp_reply reply = {.value.type = SP_RESP_ARRAY, .n = 2 + n_texts};
    reply.item[0] = (struct sp_resp_value){.type = SP_RESP_INTEGER, .integer = verdict};
    reply.item[1] = (struct sp_resp_value){.type = SP_RESP_INTEGER, .integer = now};
    for (size_t i = 0; i < n_texts; i++)
        reply.item[2 + i] = (struct sp_resp_value){.type = SP_RESP_STRING, .text = sp_span_text(texts[i])};
    return sp_redis_wire_decode(&reply, asked, n, peek, &admitted, told);
}
static int decode(int64_t verdict, const char *text, const struct sp_redis_asked *asked) {
    return decode_as(verdict, 1000, &text, 1, asked, 1, false);
}

static void an_answer_of_the_script_says_what_the_bucket_says(void **state) {
    const struct sp_redis_asked asked = {.policy = ten_per_us, .cost = 1};
    const struct sp_bucket_answer *bucket = &told[0].answer.bucket;
    /* refused: 0.25 of a token there, 10 micro-tokens per µs, burst 5, the clock 100 µs behind */
    assert_int_equal(decode(0, "1 250000 0 100 0", &asked), 0);
    assert_false(admitted);
    assert_false(bucket->admitted);
    assert_int_equal(told[0].answer.burst, 5);
    assert_int_equal(told[0].taken_us, 1100);
    assert_int_equal(bucket->remaining, 0);
    assert_int_equal(bucket->retry_us, 75000 + 100);
    assert_int_equal(bucket->reset_us, 475000 + 100);
    /* the same under another policy than ours: 20 per µs, burst 3 */
    assert_int_equal(decode(0, "1 250000 0 100 0 20 1 3", &asked), 0);
    assert_int_equal(told[0].answer.burst, 3);
    assert_int_equal(bucket->retry_us, 37500 + 100);
}

static void a_debt_is_waited_out(void **state) {
    const struct sp_redis_asked asked = {.policy = ten_per_us, .cost = 1}, lease_only = {.policy = ten_per_us, .lease = 7};
    assert_int_equal(decode(0, "1 -2000000 0 0 0", &asked), 0);
    assert_int_equal(told[0].answer.bucket.remaining, 0);
    assert_int_equal(told[0].answer.bucket.retry_us, 300000);
    assert_int_equal(decode(1, "0 -2000000 0 0 0", &lease_only), 0); /* which asks for nothing that must be there */
    assert_true(admitted);
}

static void a_lease_is_part_of_the_answer(void **state) {
    const struct sp_redis_asked asked = {.policy = ten_per_us, .cost = 1, .lease = 3};
    assert_int_equal(decode(1, "0 1000000 0 0 3", &asked), 0);
    assert_int_equal(told[0].leased, 3);
    assert_int_equal(told[0].answer.bucket.remaining, 1);
}

static void answers_that_contradict_themselves_are_refused(void **state) {
    static const struct {
        int64_t verdict;
        const char *text;
    } wrong[] = {
        {2, "0 0 0 0 0"},            /* neither admitted nor refused */
        {0, "0 1000000 0 0 0"},      /* refused, and nobody did */
        {1, "1 0 0 0 0"},            /* admitted, and somebody refused */
        {1, "0 -1 0 0 0"},           /* taken from what was not there */
        {0, "1 1000000 0 0 0"},      /* refused though there */
        {0, "2 0 0 0 0"},            /* never, though it would fit */
        {1, "0 0 0 -1 0"},           /* a clock before the clock */
        {1, "0 0 0 0 4"},            /* more leased than wished for */
        {1, "0 0 0 0 -1"},           /* a lease of less than nothing */
        {0, "1 0 0 0 1"},            /* a lease with a refusal */
        {1, "0 5000001 0 0 0"},      /* more than the burst */
        {1, "0 0 1 0 0"},            /* a remainder of nothing */
        {1, "0 0 0 0 0 0 1 5"},      /* no rate */
        {1, "0 0 0 0 0 10 0 5"},     /* no period */
        {1, "0 0 0 0 0 10 1 0"},     /* no burst */
        {1, "0 0 0 0 0 10 1"},       /* half a policy */
        {1, "0 0 0 0"},              /* too short */
        {1, "0 0 0 0 0 10 1 5 1"},   /* too long */
        {1, "0 0  0 0 0"},
        {1, ""},
        {1, "0 x 0 0 0"},
        {1, "0 0 0 99999999999999999999 0"},
        {1, "0 0 0 0 0 10 1 9007199254740991"},
    };
    const struct sp_redis_asked asked = {.policy = ten_per_us, .cost = 1, .lease = 3};
    for (size_t i = 0; i < SP_COUNT(wrong); i++)
        if (decode(wrong[i].verdict, wrong[i].text, &asked) != -EPROTO)
            fail_msg("believed: %s", wrong[i].text);
    assert_int_equal(decode(1, "0 0 0 0 0", &asked), 0);
}

static void an_answer_to_something_else_is_refused(void **state) {
    const struct sp_redis_asked asked[2] = {{.policy = ten_per_us, .cost = 1}, {.policy = ten_per_us, .cost = 1}};
    const char *const texts[] = {"0 0 0 0 0", "0 0 0 0 0"};
    struct sp_resp_reply reply = {.value = {.type = SP_RESP_STATUS, .text = SP_SPAN("OK")}};
    assert_int_equal(sp_redis_wire_decode(&reply, asked, 2, false, &admitted, told), -EPROTO);
    assert_int_equal(decode_as(1, 1000, texts, 1, asked, 2, false), -EPROTO);
    assert_int_equal(decode_as(1, 1000, texts, 2, asked, 1, false), -EPROTO);
    assert_int_equal(decode_as(1, 0, texts, 2, asked, 2, false), -EPROTO);
    assert_int_equal(decode_as(1, 1000, texts, 2, asked, 2, true), -EPROTO); /* a look finds what would be taken still there */
    assert_int_equal(decode_as(1, 1000, texts, 2, asked, 2, false), 0);
}

static void a_shadow_limit_refuses_nobody(void **state) {
    const struct sp_redis_asked asked[2] = {{.policy = ten_per_us, .cost = 1}, {.policy = ten_per_us, .cost = 1, .shadow = true}};
    const char *const texts[] = {"0 0 0 0 0", "1 0 0 0 0"};
    assert_int_equal(decode_as(1, 1000, texts, 2, asked, 2, false), 0);
    assert_true(admitted && told[0].answer.bucket.admitted && !told[1].answer.bucket.admitted);
    assert_int_equal(decode_as(0, 1000, texts, 2, asked, 2, false), -EPROTO);
}

static void a_settlement_without_a_policy_is_told_nothing(void **state) {
    const struct sp_redis_asked asked = {.policy = {.ratio = {0, 1}}, .pays = true};
    assert_int_equal(decode(1, "0 0 0 0 0", &asked), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_strict_take_is_written_as_the_script_reads_it),
        cmocka_unit_test(everything_that_can_be_asked_has_its_word),
        cmocka_unit_test(the_largest_command_fits_where_it_is_said_to),
        cmocka_unit_test(rates_are_in_lowest_terms_and_within_exact_numbers),
        cmocka_unit_test(an_answer_of_the_script_says_what_the_bucket_says),
        cmocka_unit_test(a_debt_is_waited_out),
        cmocka_unit_test(a_lease_is_part_of_the_answer),
        cmocka_unit_test(answers_that_contradict_themselves_are_refused),
        cmocka_unit_test(an_answer_to_something_else_is_refused),
        cmocka_unit_test(a_shadow_limit_refuses_nobody),
        cmocka_unit_test(a_settlement_without_a_policy_is_told_nothing),
        cmocka_unit_test(a_policy_in_writing_is_written_as_it_would_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
