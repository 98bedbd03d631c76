/* Limits: what they bound, and what they have where nothing is said. */
#include "support.h"

static void a_limit_bounds_requests_tokens_or_both_or_concurrency(void **state) {
    struct sp_config *config =
        config_of(BASE "limits:\n"
                       "  r: {by: [address], requests: 90/min}\n"
                       "  t: {by: [address], tokens: 7200/h, mode: strict}\n"
                       "  c: {by: [global], concurrency: 3}\n"
                       "  all: {by: [address], requests: 5/s, request_burst: 9, tokens: 10/s, token_burst: 8, concurrency: 2}\n");
    const struct sp_limit_config *requests = &config->limits[0], *tokens = &config->limits[1], *slots = &config->limits[2],
                                 *all = &config->limits[3];
    assert_int_equal(requests->request_burst, 1); /* one second's worth, at least 1 */
    assert_int_equal(requests->tokens.amount, 0);
    assert_int_equal(requests->token_burst, 0);
    assert_int_equal(requests->mode, SP_LIMIT_LEASED);
    assert_int_equal(tokens->requests.amount, 0);
    assert_int_equal(tokens->request_burst, 0);
    assert_int_equal(tokens->tokens.amount, 7200);
    assert_true(tokens->tokens.period_us == UINT64_C(3600000000));
    assert_int_equal(tokens->token_burst, 120); /* one minute's worth */
    assert_int_equal(tokens->concurrency, 0);
    assert_int_equal(tokens->mode, SP_LIMIT_STRICT);
    assert_int_equal(slots->requests.amount + slots->tokens.amount + slots->request_burst + slots->token_burst, 0);
    assert_int_equal(slots->concurrency, 3);
    assert_int_equal(all->request_burst, 9);
    assert_int_equal(all->token_burst, 8);
    assert_int_equal(all->concurrency, 2);
    sp_config_unref(config);
}

/* The largest rate that can be written overflows nothing; the smallest still admits one. */
static void a_burst_that_is_left_out_is_always_one_that_could_be_written(void **state) {
    struct sp_config *config = config_of(BASE "limits:\n"
                                              "  most: {by: [address], requests: 1000000000000/s, tokens: 1000000000000/s}\n"
                                              "  least: {by: [address], requests: 1/h, tokens: 1/h}\n");
    assert_true(config->limits[0].request_burst == UINT64_C(1000000000000));
    assert_true(config->limits[0].token_burst == UINT64_C(1000000000000));
    assert_int_equal(config->limits[1].request_burst, 1);
    assert_int_equal(config->limits[1].token_burst, 1);
    sp_config_unref(config);
}

static void a_limit_that_bounds_nothing_is_refused(void **state) {
    ASSERT_ERRORS(BASE "limits:\n  a: {by: [address]}\n",
                  "t:10:6: this limit bounds nothing; give at least one of `requests`, `tokens` and `concurrency`");
    ASSERT_ERRORS(BASE "limits:\n  a: {by: [address], concurrency: 0}\n",
                  "t:10:35: `concurrency` is out of range; it must be from 1 to 1000000");
    ASSERT_ERRORS(BASE "limits: {a: 5}\n", "t:9:13: `limits`: expected keys with values after each name, not 5");
}

static void a_burst_needs_its_rate(void **state) {
    ASSERT_ERRORS(
        BASE "limits:\n  a: {by: [address], tokens: 1/s, request_burst: 5}\n  b: {by: [address], concurrency: 1, token_burst: 5}\n",
        "t:10:50: `request_burst` needs `requests`, whose burst it is", "t:11:51: `token_burst` needs `tokens`, whose burst it is");
    ASSERT_ERRORS(BASE "limits:\n  a: {by: [address], requests: fast, request_burst: 5}\n",
                  "t:10:32: `requests`: expected a rate such as 10/s, 600/min or 1000/h, not 'fast'");
}

static void refused_logins_are_counted_as_requests_only(void **state) {
    ASSERT_ERRORS(BASE "limits:\n  a: {by: [address], requests: 1/s, tokens: 1/s, concurrency: 2, count: unauthorized}\n",
                  "t:10:45: `tokens`: a refused login takes no tokens and no time; `count: unauthorized` goes with `requests` only",
                  "t:10:63: `concurrency`: a refused login takes no tokens and no time; `count: unauthorized` goes with `requests` only");
}

static void both_modes_are_taken_with_and_without_redis(void **state) {
#define MODES "limits: {a: {by: [address], requests: 1/s, mode: leased}, b: {by: [address, model], tokens: 1/s, mode: strict}}\n"
    ASSERT_ERRORS(BASE MODES, NULL);
    ASSERT_ERRORS(BASE MODES "redis: {url: \"redis://127.0.0.1:6379\"}\n", NULL);
    ASSERT_ERRORS(BASE "limits: {a: {by: [address], requests: 1/s, mode: lease}}\n",
                  "t:9:50: `mode`: expected leased or strict, not 'lease' (did you mean `leased`?)");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limit_bounds_requests_tokens_or_both_or_concurrency),
        cmocka_unit_test(a_burst_that_is_left_out_is_always_one_that_could_be_written),
        cmocka_unit_test(a_limit_that_bounds_nothing_is_refused),
        cmocka_unit_test(a_burst_needs_its_rate),
        cmocka_unit_test(refused_logins_are_counted_as_requests_only),
        cmocka_unit_test(both_modes_are_taken_with_and_without_redis),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
