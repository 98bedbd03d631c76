/* Places of several gateways on one real Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "places.h"
#include "script.h"

/* ---- Places ---- */

static void gateways_share_the_places_of_a_subject(void **state) {
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    for (int i = 0; i < 2; i++)
        assert_int_equal(take(&two, 0, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_REFUSED);
    assert_int_equal(take(&two, 0, "alice"), SP_PLACE_REFUSED);
    assert_int_equal(take(&two, 0, "bob"), SP_PLACE_TAKEN);
    assert_int_equal(take(&two, 1, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(told(&one), 3);
    assert_int_equal(told(&two), 2);
    give(&one, 0, "alice");
    UNTIL_BOTH(take(&two, 0, "alice") == SP_PLACE_TAKEN);
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_REFUSED);
}

static void a_key_lives_as_long_as_what_it_says_and_goes_when_nobody_has_a_place(void **state) {
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    long long ttl = strtoll(redis_says(&redis, "PTTL " KEY), NULL, 10);
    assert_in_range(ttl, SP_PLACES_TTL_MS / 2, SP_PLACES_TTL_MS);
    give(&one, 0, "alice");
    UNTIL_BOTH(is_gone());
    assert_int_equal(had(&one, 0, "alice"), 0);
}

static void a_busy_subject_costs_no_command_per_request(void **state) {
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
        if (i % 100 == 0)
            turn_both();
        give(&one, 0, "alice");
    }
    assert_in_range(commands(), 1, 200);
}

static void strict_places_are_given_back_at_once(void **state) {
    assert_int_equal(take(&one, 1, "alice"), SP_PLACE_TAKEN);
    for (int i = 0; i < 4; i++)
        assert_int_equal(take(&two, 1, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take(&two, 1, "alice"), SP_PLACE_REFUSED);
    uint64_t before = commands();
    give(&one, 1, "alice");
    UNTIL_BOTH(commands() == before + 1);
    assert_int_equal(had(&one, 1, "alice"), 0);
}

static void those_who_wait_share_a_command(void **state) {
    struct place place[50];
    unsigned taken = 0, answers = 0;
    for (size_t i = 0; i < SP_COUNT(place); i++)
        assert_int_equal(begin(&one, 0, "alice", DEADLINE_MS, &place[i]), SP_PLACE_PENDING);
    UNTIL_BOTH(place[49].answers);
    for (size_t i = 0; i < SP_COUNT(place); i++) {
        assert_true(place[i].told);
        answers += (unsigned)place[i].answers;
        taken += place[i].taken;
        assert_true(place[i].taken == (i < 5)); /* first come, first served */
    }
    assert_int_equal(answers, 50);
    assert_int_equal(taken, 5);
    assert_in_range(commands(), 1, 3);
}

static void who_hammers_costs_no_command_per_attempt(void **state) {
    for (int i = 0; i < 5; i++)
        assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    uint64_t before = commands();
    for (int i = 0; i < 5000; i++)
        assert_int_equal(take(&two, 0, "alice"), SP_PLACE_REFUSED);
    assert_in_range(commands() - before, 1, 20);
    /* A place of its own is taken at once all the same. */
    give(&one, 0, "alice");
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
}

static void who_leaves_while_waiting_takes_no_place(void **state) {
    struct place place;
    assert_int_equal(begin(&one, 0, "alice", DEADLINE_MS, &place), SP_PLACE_PENDING);
    sp_slots_cancel(one.slots, &place.ask);
    UNTIL_BOTH(commands() > 0);
    UNTIL_BOTH(is_gone());
    assert_int_equal(place.answers, 0);
    assert_int_equal(used(&one, 0, "alice"), 0);
}

static bool is_refused(const struct worker *worker) {
    return sp_slots_refused(note_of(worker, 0, "alice"), name_of(worker, 0, "alice"), sp_clock_us());
}
/* Three ask with one command, as they do while a sibling's is under way. Returns how many of them have a place then. */
static unsigned take_three(struct worker *worker) {
    static struct place place[3];
    unsigned taken = 0;
    note_of(worker, 0, "alice")->asking_us = sp_clock_us() + 5000;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(begin(worker, 0, "alice", DEADLINE_MS, &place[i]), SP_PLACE_PENDING);
    for (size_t i = 0; i < 3; i++) {
        UNTIL(worker, place[i].answers);
        taken += place[i].taken;
    }
    return taken;
}

/* One gateway is busy all the time, so that it never gives a place back of its own accord. */
static void a_busy_gateway_leaves_others_a_fair_part(void **state) {
    const struct { uint64_t bound, part; } cases[] = {{5, 2}, {6, 3}, {1, 1}};
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        one.scene.limit[0].concurrency = two.scene.limit[0].concurrency = cases[i].bound;
        (void)redis_says(&redis, "DEL " KEY);
        uint64_t running = 0, theirs = 0, until = sp_clock_us() + PATIENCE_MS * 1000;
        while (take(&one, 0, "busy") == SP_PLACE_TAKEN)
            running++;
        assert_int_equal(running, cases[i].bound);
        while (theirs < cases[i].part) {
            assert_true(sp_clock_us() < until);
            theirs += take(&two, 0, "busy") == SP_PLACE_TAKEN;
            if (running > 0) {
                give(&one, 0, "busy");
                running--;
            }
            while (running < cases[i].bound && take(&one, 0, "busy") == SP_PLACE_TAKEN)
                running++;
            assert_true(running + theirs <= cases[i].bound);
            turn_both();
        }
        for (; running > 0; running--)
            give(&one, 0, "busy");
        for (; theirs > 0; theirs--)
            give(&two, 0, "busy");
        UNTIL_BOTH(strcmp(redis_says(&redis, "EXISTS test:first:{s=busy}:c"), "0") == 0);
        one.scene.config.loaded_wall_ms++;
        two.scene.config.loaded_wall_ms++;
    }
}

static void who_wants_little_leaves_others_the_rest(void **state) {
    for (int i = 0; i < 5; i++)
        assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take(&two, 0, "alice"), SP_PLACE_REFUSED);
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_REFUSED);
    give(&one, 0, "alice");
    UNTIL_BOTH(take(&two, 0, "alice") == SP_PLACE_TAKEN);
    assert_int_equal(used(&one, 0, "alice"), 4);
    assert_int_equal(told(&one), 4);
}

static void send_what_is_kept(struct worker *worker) {
    assert_int_equal(sp_slots_talk_say(sp_slots_talk_about(worker->slots, name_of(worker, 0, "alice"), NULL), false), 0);
}

static void one_has_five_and_two_is_refused_three(void) {
    assert_int_equal(take(&two, 0, "alice"), SP_PLACE_TAKEN);
    give(&two, 0, "alice");
    UNTIL_BOTH(is_gone() && at_rest(&two));
    for (int i = 0; i < 5; i++)
        assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take_three(&two), 0);
}

/* `one` has sent what costs it its places, and Redis has done it, but the reply is not read yet. */
static void places_that_are_taken_away_are_nobody_elses_until_their_gateway_knows(void **state) {
    one_has_five_and_two_is_refused_three();
    for (int i = 0; i < 3; i++)
        give(&one, 0, "alice");
    uint64_t before = commands();
    send_what_is_kept(&one);
    (void)sp_loop_turn(one.loop, 0);
    UNTIL(&two, commands() > before && !is_refused(&two));
    (void)take_three(&two);
    for (int i = 0; i < 3; i++) {
        static struct place place[3];
        (void)begin(&one, 0, "alice", DEADLINE_MS, &place[i]);
    }
    assert_int_equal(used(&one, 0, "alice") + used(&two, 0, "alice"), 5);
    for (int i = 0; i < 3; i++)
        give(&one, 0, "alice");
    for (uint64_t i = used(&two, 0, "alice"); i < 3; i++)
        UNTIL_BOTH(take(&two, 0, "alice") == SP_PLACE_TAKEN);
    assert_int_equal(used(&one, 0, "alice"), 2);
}

/* That Redis may write down less is not put off for as long as places linger. What is left of them does linger. */
static void places_that_are_taken_away_are_to_be_had_as_soon_as_their_gateway_knows(void **state) {
    one_has_five_and_two_is_refused_three();
    for (int i = 0; i < 4; i++)
        give(&one, 0, "alice");
    struct sp_slots_talk *talk = sp_slots_talk_about(one.slots, name_of(&one, 0, "alice"), NULL);
    sp_list_remove(&talk->looking);
    note_of(&one, 0, "alice")->look_us = 0;
    uint64_t before = commands();
    send_what_is_kept(&one);
    UNTIL(&one, commands() == before + 1);
    UNTIL(&one, had(&one, 0, "alice") < 5);
    assert_int_equal(had(&one, 0, "alice"), 2);
    uint64_t until = sp_clock_us() + SP_PLACES_LINGER_MS * 1000 / 2;
    while (told(&one) != 2) {
        assert_true(sp_clock_us() < until);
        (void)sp_loop_turn(one.loop, 1);
    }
    assert_int_equal(had(&one, 0, "alice"), 2);
}

/* ---- Time ---- */

__attribute__((format(printf, 1, 2))) static void put(const char *format, ...) {
    char value[256];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(value, sizeof value, format, list);
    va_end(list);
    redisReply *reply = redisCommand(redis.side, "SET %s %s", KEY, value);
    assert_string_equal(reply->str, "OK");
    freeReplyObject(reply);
}

static void a_gateway_that_is_not_heard_of_loses_its_places(void **state) {
    put("5 1000 dead:5:%" PRIu64 ":1", redis_now_ms() + 300);
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_REFUSED);
    uint64_t until = sp_clock_us() + SP_PLACES_TTL_MS * 1000 / 2;
    while (take(&one, 0, "alice") != SP_PLACE_TAKEN) {
        assert_true(sp_clock_us() < until);
        turn_both();
    }
    assert_null(strstr(redis_says(&redis, "GET " KEY), "dead"));
}

static void places_that_are_used_are_told_again_before_they_expire(void **state) {
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    uint64_t before = expiry(&one);
    assert_true(before > 0);
    UNTIL_BOTH(expiry(&one) > before);
    assert_true(redis_now_ms() + SP_PLACES_TTL_MS / 2 < before + SP_PLACES_TTL_MS);
    assert_int_equal(told(&one), 1);
}

/* The first beat after it comes to a part of the table in which there is nothing. */
static void places_are_told_again_after_all_processes_stood_still(void **state) {
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    UNTIL_BOTH(at_rest(&one));
    uint64_t before = expiry(&one), then_us = sp_clock_us() - 4 * SP_MICRO;
    size_t other_part = cell_of(&one, 0, "alice") / (SLOTS_CELLS / 16) + 1;
    one.segment->beat = then_us / 1000 << 8 | other_part % 16; /* as in slots_beat.c */
    one.segment->busy_us = one.slots->used_us = then_us;
    note_of(&one, 0, "alice")->until_us = sp_clock_us() + SP_PLACES_TTL_MS * 1000 / 2;
    sp_timer_stop(&one.slots->beat); /* it is due */
    sp_slots_beats(&one.slots->beat);
    assert_true(one.slots->beat.active);
    UNTIL_BOTH(expiry(&one) > before);
}

static void who_was_silent_for_too_long_uses_no_place_that_others_have_now(void **state) {
    for (int i = 0; i < 4; i++)
        assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    put("5 1000 beef:5:%" PRIu64 ":1", redis_now_ms() + SP_PLACES_TTL_MS);
    give(&one, 0, "alice");
    UNTIL_BOTH(told(&one) == 3 && had(&one, 0, "alice") == 0);
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_REFUSED);
    /* Nor do the others take more until it is done. */
    assert_int_equal(take(&two, 0, "alice"), SP_PLACE_REFUSED);
    for (int i = 0; i < 3; i++)
        give(&one, 0, "alice");
    UNTIL_BOTH(told(&one) == 0);
}

static void an_expiry_from_before_the_clock_was_set_back_is_brought_nearer(void **state) {
    put("5 1000 dead:4:%" PRIu64 ":1", redis_now_ms() + 3600 * 1000);
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    const char *dead = strstr(redis_says(&redis, "GET " KEY), "dead:4:");
    assert_non_null(dead);
    assert_true(strtoull(dead + strlen("dead:4:"), NULL, 10) <= redis_now_ms() + SP_PLACES_TTL_MS);
}

static void a_value_that_is_not_ours_is_as_good_as_none(void **state) {
    put("nonsense");
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    (void)redis_says(&redis, "DEL " KEY);
    (void)redis_says(&redis, "LPUSH test:first:{s=bob}:c x");
    assert_int_equal(take(&one, 0, "bob"), SP_PLACE_TAKEN);
}

static void a_call_that_comes_after_a_later_one_changes_nothing(void **state) {
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    char call[256];
    (void)snprintf(call, sizeof call, "EVALSHA %s 1 " KEY " %.16s 1 0 0 5 0 5 1000 15000", sp_places_sha1, one.slots->gateway);
    assert_string_equal(redis_says(&redis, call), "-1");
    assert_int_equal(told(&one), 1);
}

/* ---- Policies ---- */

static void the_newest_bound_is_in_force_for_all_gateways(void **state) {
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    two.scene.limit[0].concurrency = 4;
    two.scene.config.loaded_wall_ms = 2000;
    assert_int_equal(take(&two, 0, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take(&two, 0, "alice"), SP_PLACE_REFUSED);
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_REFUSED); /* its own bound is 5 */
    one.scene.limit[0].concurrency = 7;
    one.scene.config.loaded_wall_ms = 3000;
    sp_slots_configure(one.slots, &one.scene.config);
    UNTIL_BOTH(take(&one, 0, "alice") == SP_PLACE_TAKEN);
}

static void a_lowered_bound_admits_nobody_until_enough_are_gone(void **state) {
    for (int i = 0; i < 5; i++)
        assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    one.scene.limit[0].concurrency = 2;
    one.scene.config.loaded_wall_ms = 2000;
    give(&one, 0, "alice");
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_REFUSED);
    UNTIL_BOTH(told(&one) == 4);
    for (int i = 0; i < 3; i++)
        give(&one, 0, "alice");
    UNTIL_BOTH(take(&one, 0, "alice") == SP_PLACE_TAKEN);
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_REFUSED);
}

/* ---- The end of a process ---- */

static void a_process_that_ends_gives_back_what_it_does_not_use(void **state) {
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    give(&one, 0, "alice");
    give(&one, 0, "alice");
    assert_false(sp_slots_settled(one.slots));
    UNTIL_BOTH(sp_slots_settled(one.slots));
    assert_int_equal(told(&one), 1);
}

/* Both are looked at in the same microsecond, and the timer is early, as it is after a long turn: it is set again. */
static void places_whose_time_comes_at_one_moment_are_all_given_back(void **state) {
    static const char *subjects[] = {"alice", "bob"};
    uint64_t at_us = sp_clock_us() + SP_PLACES_LINGER_MS * 1000;
    for (size_t i = 0; i < SP_COUNT(subjects); i++) {
        struct sp_limit_facts facts = {.subject = sp_span_text(subjects[i])};
        assert_int_equal(take(&one, 0, subjects[i]), SP_PLACE_TAKEN);
        give(&one, 0, subjects[i]);
        sp_slots_look_at(sp_slots_talk_about(one.slots, sp_slots_name(one.slots, &one.scene.limit[0], &facts), NULL), at_us);
    }
    sp_timer_stop(&one.slots->look);
    sp_slots_looks(&one.slots->look);
    UNTIL_BOTH(had(&one, 0, "alice") == 0 && had(&one, 0, "bob") == 0);
}

/* ---- Workers of one machine ---- */

static void workers_of_a_machine_use_what_any_of_them_was_given(void **state) {
    struct worker sibling;
    worker_open(&sibling, one.segment, 1);
    UNTIL(&sibling, connected(&sibling));
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    give(&one, 0, "alice");
    uint64_t before = commands();
    assert_int_equal(take(&sibling, 0, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(commands(), before);
    give(&one, 0, "alice"); /* any of them gives it back */
    assert_int_equal(used(&sibling, 0, "alice"), 0);
    UNTIL_BOTH(is_gone());
    worker_close(&sibling);
}

/* The one whose place it was to look after is killed: others go through the table. */
static void what_a_killed_worker_had_is_given_back_by_its_siblings(void **state) {
    pid_t pid = fork();
    if (pid == 0) {
        struct worker sibling;
        worker_open(&sibling, one.segment, 1);
        UNTIL(&sibling, connected(&sibling));
        struct place place;
        (void)begin(&sibling, 0, "alice", DEADLINE_MS, &place);
        UNTIL(&sibling, place.taken);
        give(&sibling, 0, "alice");
        (void)raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(told(&one), 1);
    assert_int_equal(had(&one, 0, "alice"), 1);
    UNTIL_BOTH(is_gone());
    assert_int_equal(had(&one, 0, "alice"), 0);
}

/* Not asserted: for who wants to know. */
static void print_the_cost_of_a_place_that_is_had(void **state) {
    struct place place;
    uint64_t n = 100000, began;
    assert_int_equal(take(&one, 0, "alice"), SP_PLACE_TAKEN);
    give(&one, 0, "alice");
    assert_int_equal(begin(&one, 0, "alice", DEADLINE_MS, &place), SP_PLACE_TAKEN);
    sp_slots_give(one.slots, place.ask.name);
    began = sp_clock_ns();
    for (uint64_t i = 0; i < n; i++) {
        (void)sp_slots_take(one.slots, &place.ask, false, 1);
        sp_slots_give(one.slots, place.ask.name);
    }
    print_message("           a place taken and given: %u ns\n", (unsigned)((sp_clock_ns() - began) / n));
    uint64_t slowest = 0, sum = 0;
    for (int i = 0; i < 500; i++) {
        uint64_t asked = sp_clock_us();
        assert_int_equal(begin(&one, 1, "alice", DEADLINE_MS, &place), SP_PLACE_PENDING);
        (void)sp_loop_turn(one.loop, 0); /* at whose end the command leaves */
        UNTIL(&one, place.answers);
        assert_true(place.taken);
        uint64_t took = sp_clock_us() - asked;
        sum += took;
        slowest = sp_max(slowest, took);
        give(&one, 1, "alice");
        UNTIL(&one, had(&one, 1, "alice") == 0 && sp_list_empty(&one.slots->under_way));
    }
    print_message("           strict: %u us, the slowest of 500 %u us\n", (unsigned)(sum / 500), (unsigned)slowest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(gateways_share_the_places_of_a_subject),
        TEST(a_key_lives_as_long_as_what_it_says_and_goes_when_nobody_has_a_place),
        TEST(a_busy_subject_costs_no_command_per_request),
        TEST(strict_places_are_given_back_at_once),
        TEST(those_who_wait_share_a_command),
        TEST(who_hammers_costs_no_command_per_attempt),
        TEST(who_leaves_while_waiting_takes_no_place),
        TEST(a_busy_gateway_leaves_others_a_fair_part),
        TEST(who_wants_little_leaves_others_the_rest),
        TEST(places_that_are_taken_away_are_nobody_elses_until_their_gateway_knows),
        TEST(places_that_are_taken_away_are_to_be_had_as_soon_as_their_gateway_knows),
        TEST(a_gateway_that_is_not_heard_of_loses_its_places),
        TEST(places_that_are_used_are_told_again_before_they_expire),
        TEST(places_are_told_again_after_all_processes_stood_still),
        TEST(who_was_silent_for_too_long_uses_no_place_that_others_have_now),
        TEST(an_expiry_from_before_the_clock_was_set_back_is_brought_nearer),
        TEST(a_value_that_is_not_ours_is_as_good_as_none),
        TEST(a_call_that_comes_after_a_later_one_changes_nothing),
        TEST(the_newest_bound_is_in_force_for_all_gateways),
        TEST(a_lowered_bound_admits_nobody_until_enough_are_gone),
        TEST(a_process_that_ends_gives_back_what_it_does_not_use),
        TEST(places_whose_time_comes_at_one_moment_are_all_given_back),
        TEST(workers_of_a_machine_use_what_any_of_them_was_given),
        TEST(what_a_killed_worker_had_is_given_back_by_its_siblings),
        TEST(print_the_cost_of_a_place_that_is_had),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
