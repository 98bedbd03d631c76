/* A vote: when a configuration is used by all, and when by none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vote.h"

static struct sp_vote vote;
enum { CONTROL, WORKER_0, WORKER_1 };

static int set_up(void **state) {
    sp_vote_open(&vote, 5);
    sp_vote_ask(&vote, CONTROL);
    sp_vote_ask(&vote, WORKER_0);
    sp_vote_ask(&vote, WORKER_1);
    return 0;
}

static void accepts(size_t participant) { assert_int_equal(sp_vote_cast(&vote, participant, 5, true, SP_SPAN("")), 0); }
static void refuses(size_t participant, const char *why) {
    assert_int_equal(sp_vote_cast(&vote, participant, 5, false, sp_span_text(why)), 0);
}

static void all_must_answer_before_there_is_a_result(void **state) {
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_PENDING);
    accepts(CONTROL);
    accepts(WORKER_1);
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_PENDING);
    accepts(WORKER_0);
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_ACCEPTED);
}

static void one_refusal_is_enough_but_only_when_all_have_spoken(void **state) {
    accepts(CONTROL);
    refuses(WORKER_0, "a.yaml:8:7: the key does not match");
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_PENDING);
    accepts(WORKER_1);
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_REFUSED);
    assert_string_equal(vote.sentence, "a.yaml:8:7: the key does not match");
}

static void the_first_sentence_is_kept(void **state) {
    refuses(WORKER_1, "first");
    refuses(WORKER_0, "second");
    refuses(CONTROL, "third");
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_REFUSED);
    assert_string_equal(vote.sentence, "first");
}

static void a_sentence_longer_than_allowed_is_cut(void **state) {
    static char huge[SP_SENTENCE_MAX + 100];
    memset(huge, 'x', sizeof huge);
    assert_int_equal(sp_vote_cast(&vote, WORKER_0, 5, false, sp_span(huge, sizeof huge)), 0);
    assert_int_equal(strlen(vote.sentence), SP_SENTENCE_MAX);
}

/* What the process said, and what is told of it. */
static void what_a_terminal_would_obey_is_not_told(void **state) {
    static const struct {
        const char *said, *told;
    } cases[] = {
        {"\033[2J\033]0;owned\007gone", "?[2J?]0;owned?gone"},
        {"\302\2332J", "?2J"},                      /* U+009B, CSI in one */
        {"\302\200\302\237\302\240", "??\302\240"}, /* U+00A0 is a blank */
        {"a.yaml:1:2: no\nb.yaml:3:4: neither\r\tx\177", "a.yaml:1:2: no\nb.yaml:3:4: neither??x?"},
        {"Gr\303\274\303\237e, \342\202\254", "Gr\303\274\303\237e, \342\202\254"},
        {"cut off \302", "cut off \302"},
    };
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        set_up(state);
        refuses(WORKER_0, cases[i].said);
        assert_string_equal(vote.sentence, cases[i].told);
    }
    set_up(state);
    assert_int_equal(sp_vote_cast(&vote, WORKER_0, 5, false, sp_span("a\0b", 3)), 0);
    assert_string_equal(vote.sentence, "a?b");
}

static void one_that_dies_does_not_hold_up_the_others(void **state) {
    accepts(CONTROL);
    accepts(WORKER_0);
    sp_vote_leave(&vote, WORKER_1);
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_ACCEPTED);
}

static void a_refusal_by_one_that_then_dies_counts_no_more(void **state) {
    refuses(WORKER_1, "no");
    sp_vote_leave(&vote, WORKER_1);
    accepts(CONTROL);
    accepts(WORKER_0);
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_ACCEPTED);
}

static void a_configuration_that_kills_every_worker_is_not_used(void **state) {
    accepts(CONTROL);
    sp_vote_leave(&vote, WORKER_0);
    sp_vote_leave(&vote, WORKER_1);
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_DESERTED);
}

static void a_successor_is_asked_again(void **state) {
    accepts(CONTROL);
    accepts(WORKER_0);
    accepts(WORKER_1);
    sp_vote_ask(&vote, WORKER_1);
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_PENDING);
    accepts(WORKER_1);
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_ACCEPTED);
}

static void nobody_votes_twice_uninvited_or_on_something_else(void **state) {
    accepts(WORKER_0);
    assert_int_equal(sp_vote_cast(&vote, WORKER_0, 5, true, SP_SPAN("")), -EBADMSG);
    assert_int_equal(sp_vote_cast(&vote, WORKER_1 + 1, 5, true, SP_SPAN("")), -EBADMSG);
    assert_int_equal(sp_vote_cast(&vote, SP_PROCESSES_MAX, 5, true, SP_SPAN("")), -EBADMSG);
    assert_int_equal(sp_vote_cast(&vote, WORKER_1, 4, true, SP_SPAN("")), -EBADMSG);
    sp_vote_close(&vote);
    assert_int_equal(sp_vote_cast(&vote, WORKER_1, 5, true, SP_SPAN("")), -EBADMSG);
}

static void a_new_vote_knows_nothing_of_the_last(void **state) {
    refuses(WORKER_0, "no");
    sp_vote_open(&vote, 6);
    assert_string_equal(vote.sentence, "");
    sp_vote_ask(&vote, WORKER_0);
    assert_int_equal(sp_vote_cast(&vote, WORKER_0, 6, true, SP_SPAN("")), 0);
    assert_int_equal(sp_vote_result(&vote), SP_VOTE_ACCEPTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(all_must_answer_before_there_is_a_result, set_up),
        cmocka_unit_test_setup(one_refusal_is_enough_but_only_when_all_have_spoken, set_up),
        cmocka_unit_test_setup(the_first_sentence_is_kept, set_up),
        cmocka_unit_test_setup(a_sentence_longer_than_allowed_is_cut, set_up),
        cmocka_unit_test_setup(what_a_terminal_would_obey_is_not_told, set_up),
        cmocka_unit_test_setup(one_that_dies_does_not_hold_up_the_others, set_up),
        cmocka_unit_test_setup(a_refusal_by_one_that_then_dies_counts_no_more, set_up),
        cmocka_unit_test_setup(a_configuration_that_kills_every_worker_is_not_used, set_up),
        cmocka_unit_test_setup(a_successor_is_asked_again, set_up),
        cmocka_unit_test_setup(nobody_votes_twice_uninvited_or_on_something_else, set_up),
        cmocka_unit_test_setup(a_new_vote_knows_nothing_of_the_last, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
