/* Leases in shared memory: what is given, to whom, until when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "judge.h"
#include "lease_now.h"
#include "lease_table.h"

#define START_US (UINT64_C(1) << 32)
#define T_US     (SP_LEASE_MS * UINT64_C(1000))
#define UNIT_US  LEASE_US_PER_UNIT

static const struct sp_rate thousand = {1000, SP_MICRO};
#define BURST 1000

struct world {
    struct sp_leases leases;
    uint64_t now;
    uint64_t still_us; /* passes at the next reading of the clock but one: the process is stopped in between */
    int readings;
};
static struct world *the_world;

static uint64_t world_clock(void) {
    if (the_world->readings++ == 1)
        the_world->now += the_world->still_us;
    return the_world->now;
}

static void *map(size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(at != MAP_FAILED);
    return at;
}

static int set_up(void **state) {
    struct world *world = calloc(1, sizeof *world);
    world->now = START_US;
    world->leases = (struct sp_leases){.segment = map(sp_lease_segment_size()), .clock_us = world_clock};
    the_world = world;
    *state = world;
    return 0;
}
static int tear_down(void **state) {
    struct world *world = *state;
    munmap(world->leases.segment, sp_lease_segment_size());
    free(world);
    return 0;
}

static struct sp_lease_name name_of(uint64_t subject) {
    static const struct sp_hash_key key = {1, 2};
    return sp_lease_name(3, SP_LIMIT_REQUESTS, sp_hash(&key, &subject, sizeof subject));
}

static struct sp_lease_answer take_of(struct world *world, struct sp_lease_name name, uint64_t cost) {
    struct sp_lease_answer answer;
    lease_take_now(&world->leases, name, &thousand, BURST, cost, &answer);
    return answer;
}
static struct sp_lease_answer take(struct world *world, uint64_t cost) { return take_of(world, name_of(1), cost); }
static void deposit(struct world *world, uint64_t tokens, uint64_t sent_us) {
    sp_lease_deposit(&world->leases, name_of(1), tokens, tokens, sent_us, 100);
}
static uint64_t alive(struct world *world, uint64_t subject) {
    uint64_t tokens, refused;
    sp_lease_peek(&world->leases, name_of(subject), &tokens, &refused);
    return tokens;
}

/* ---- What is exact ---- */

static void a_policy_is_leased_where_its_burst_is_twice_what_a_lease_earns(void **state) {
    assert_true(sp_lease_possible(&(struct sp_rate){1000, SP_MICRO}, 200));
    assert_false(sp_lease_possible(&(struct sp_rate){1000, SP_MICRO}, 199));
    assert_true(sp_lease_possible(&(struct sp_rate){10, SP_MICRO}, 2));
    assert_false(sp_lease_possible(&(struct sp_rate){9, SP_MICRO}, 1000)); /* not a token in that time */
    assert_true(sp_lease_possible(&(struct sp_rate){UINT64_MAX, UINT64_MAX}, UINT64_MAX));
    assert_false(sp_lease_possible(&(struct sp_rate){0, SP_MICRO}, 1000));
}

static void what_was_leased_is_given_once(void **state) {
    struct world *world = *state;
    assert_int_equal(take(world, 1).verdict, SP_LEASE_NONE);
    deposit(world, 5, world->now);
    for (int i = 0; i < 5; i++)
        assert_int_equal(take(world, 1).verdict, SP_LEASE_GIVEN);
    assert_int_equal(take(world, 1).verdict, SP_LEASE_NONE);
}

static void a_token_dies_t_after_the_request_for_it_was_sent(void **state) {
    struct world *world = *state;
    uint64_t sent = world->now + 13;
    world->now += 3000;
    deposit(world, 5, sent);
    world->now = sent + T_US - UNIT_US - 1;
    struct sp_lease_answer answer = take(world, 1);
    assert_int_equal(answer.verdict, SP_LEASE_GIVEN);
    assert_true(answer.expiry_us <= sent + T_US);
    world->now = answer.expiry_us;
    assert_int_equal(take(world, 1).verdict, SP_LEASE_NONE);
    assert_int_equal(alive(world, 1), 0);
}

static void what_is_granted_too_late_is_dropped(void **state) {
    struct world *world = *state;
    uint64_t sent = world->now;
    world->now += T_US;
    deposit(world, 5, sent);
    assert_int_equal(alive(world, 1), 0);
    assert_int_equal(take(world, 1).verdict, SP_LEASE_NONE);
}

static void who_stands_still_while_taking_does_not_get_a_dead_token(void **state) {
    struct world *world = *state;
    deposit(world, 5, world->now);
    world->still_us = T_US;
    world->readings = 0;
    assert_int_equal(take(world, 1).verdict, SP_LEASE_NONE);
    assert_true(world->readings > 2);
    /* A stop that the token outlives costs nothing. */
    deposit(world, 5, world->now);
    world->still_us = T_US / 2;
    world->readings = 0;
    assert_int_equal(take(world, 1).verdict, SP_LEASE_GIVEN);
    assert_int_equal(alive(world, 1), 4);
}

static void who_takes_several_is_told_when_each_dies(void **state) {
    struct world *world = *state;
    struct sp_lease_answer answer;
    deposit(world, 5, world->now);
    sp_lease_take(&world->leases, name_of(1), &thousand, BURST, 1, world->now, &answer);
    assert_in_range(answer.expiry_us, world->now + T_US - 64, world->now + T_US);
}

static void the_grant_that_dies_first_is_used_first(void **state) {
    struct world *world = *state;
    uint64_t first = world->now;
    deposit(world, 2, first + 20000);
    deposit(world, 2, first);
    uint64_t expiry = take(world, 1).expiry_us;
    assert_in_range(expiry, first + T_US - UNIT_US, first + T_US);
    assert_int_equal(take(world, 1).expiry_us, expiry);
    assert_in_range(take(world, 1).expiry_us, first + 20000 + T_US - UNIT_US, first + 20000 + T_US);
}

static void a_cost_comes_out_of_one_grant(void **state) {
    struct world *world = *state;
    deposit(world, 300, world->now);
    deposit(world, 800, world->now + 1000);
    assert_int_equal(take(world, 801).verdict, SP_LEASE_NONE);
    assert_int_equal(take(world, 700).verdict, SP_LEASE_GIVEN);
    assert_int_equal(take(world, 300).verdict, SP_LEASE_GIVEN);
    assert_int_equal(alive(world, 1), 100);
}

static void what_is_given_back_returns_to_its_grant_or_to_none(void **state) {
    struct world *world = *state;
    deposit(world, 2, world->now);
    struct sp_lease_answer early = take(world, 2);
    world->now += 50000;
    deposit(world, 3, world->now);
    sp_lease_give_back(&world->leases, name_of(1), 2, early.expiry_us);
    assert_int_equal(alive(world, 1), 5);
    assert_int_equal(take(world, 1).expiry_us, early.expiry_us);
    assert_int_equal(take(world, 1).expiry_us, early.expiry_us);
    world->now = early.expiry_us;
    sp_lease_give_back(&world->leases, name_of(1), 2, early.expiry_us);
    assert_int_equal(alive(world, 1), 3);
}

static void grants_that_are_spent_make_way_for_others(void **state) {
    struct world *world = *state;
    for (uint64_t i = 0; i < 3 * 16; i++) { /* more than there are cells */
        world->now += 1000;
        deposit(world, 3, world->now);
        assert_int_equal(take(world, 3).verdict, SP_LEASE_GIVEN);
    }
    deposit(world, 4, world->now);
    assert_int_equal(alive(world, 1), 4);
}

static void what_is_left_of_grants_hides_none_that_has_enough(void **state) {
    struct world *world = *state;
    for (uint64_t i = 0; i < 3 * LEASE_WINDOW; i++) {
        world->now += 500;
        deposit(world, 1003, world->now);
        assert_int_equal(take(world, 1000).verdict, SP_LEASE_GIVEN);
    }
}

static void subjects_limits_and_kinds_have_leases_of_their_own(void **state) {
    struct world *world = *state;
    deposit(world, 2, world->now);
    assert_int_equal(take_of(world, name_of(2), 1).verdict, SP_LEASE_NONE);
    assert_int_equal(take_of(world, sp_lease_name(4, SP_LIMIT_REQUESTS, name_of(1).key >> 7), 1).verdict, SP_LEASE_NONE);
    assert_int_equal(take_of(world, sp_lease_name(3, SP_LIMIT_TOKENS, name_of(1).key >> 7), 1).verdict, SP_LEASE_NONE);
    assert_int_equal(take(world, 1).verdict, SP_LEASE_GIVEN);
}

static void after_a_reload_what_was_leased_is_nobodys(void **state) {
    struct world *world = *state;
    deposit(world, 2, world->now);
    sp_lease_forget(&world->leases, 4, SP_LIMIT_REQUESTS);
    sp_lease_forget(&world->leases, 3, SP_LIMIT_TOKENS);
    assert_int_equal(alive(world, 1), 2);
    sp_lease_forget(&world->leases, 3, SP_LIMIT_REQUESTS);
    assert_int_equal(alive(world, 1), 0);
    deposit(world, 3, world->now);
    assert_int_equal(take(world, 3).verdict, SP_LEASE_GIVEN);
}

/* Where fewer bits would do for a few days, the lower ones come round again. */
static void a_grant_from_long_ago_is_never_taken_for_a_new_one(void **state) {
    struct world *world = *state;
    deposit(world, 2, world->now);
    uint64_t before = world->now;
    for (unsigned bits = 20; bits <= 49; bits++) {
        world->now = before + (UINT64_C(1) << bits);
        assert_int_equal(alive(world, 1), 0);
    }
    world->now = before + (UINT64_C(1) << 49);
    deposit(world, 7, world->now);
    assert_int_equal(alive(world, 1), 7);
}

static void without_room_a_lease_is_lost_and_nothing_else(void **state) {
    struct world *world = *state;
    uint64_t given = 0, n = 3 * LEASE_WINDOW;
    for (uint64_t i = 0; i < n; i++) /* one window: all bits but those of the window differ */
        sp_lease_deposit(&world->leases, sp_lease_name(3, SP_LIMIT_REQUESTS, (i + 1) << 32 | 77), 10, 10, world->now, 0);
    for (uint64_t i = 0; i < n; i++)
        while (take_of(world, sp_lease_name(3, SP_LIMIT_REQUESTS, (i + 1) << 32 | 77), 1).verdict == SP_LEASE_GIVEN)
            given++;
    assert_in_range(given, 10, 10 * LEASE_WINDOW);
    world->now += 40 * T_US; /* everything is over: there is room */
    sp_lease_deposit(&world->leases, sp_lease_name(3, SP_LIMIT_REQUESTS, 99 << 20 | 77), 10, 10, world->now, 0);
    assert_int_equal(take_of(world, sp_lease_name(3, SP_LIMIT_REQUESTS, 99 << 20 | 77), 10).verdict, SP_LEASE_GIVEN);
}

/* What was used up is in nobody's way, however many leases there were. */
static void many_small_leases_one_after_the_other_are_all_used(void **state) {
    struct world *world = *state;
    for (int i = 0; i < 1000; i++, world->now += 100) {
        deposit(world, 3, world->now);
        assert_int_equal(take(world, 1).verdict, SP_LEASE_GIVEN);
        assert_int_equal(take(world, 2).verdict, SP_LEASE_GIVEN);
        assert_int_equal(alive(world, 1), 0);
    }
}

/* ---- Refusals ---- */

static void a_refused_subject_is_refused_until_the_instant_redis_named(void **state) {
    struct world *world = *state;
    assert_int_equal(sp_lease_refuse(&world->leases, name_of(1), 1, 7777), 7777);
    uint64_t until = world->now + 7777;
    for (; world->now + 1000 < until; world->now += 1000) {
        struct sp_lease_answer answer = take(world, 1);
        assert_int_equal(answer.verdict, SP_LEASE_REFUSED);
        assert_false(answer.bucket.admitted);
        assert_in_range(answer.bucket.retry_us, until - world->now, until - world->now + 2 * UNIT_US);
    }
    assert_int_equal(take_of(world, name_of(2), 1).verdict, SP_LEASE_NONE);
    world->now = until;
    assert_int_equal(take(world, 1).verdict, SP_LEASE_NONE);
}

static void who_waits_as_long_as_told_is_not_refused_here_again(void **state) {
    struct world *world = *state;
    uint64_t seed = 5;
    for (int i = 0; i < 2000; i++) {
        uint64_t told = sp_lease_refuse(&world->leases, name_of(1), 1, 1 + dice_below(&seed, 20000));
        if (dice_below(&seed, 2)) {
            world->now += dice_below(&seed, told);
            struct sp_lease_answer answer = take(world, 1);
            told = answer.verdict == SP_LEASE_REFUSED ? answer.bucket.retry_us : 0;
        }
        world->now += told;
        assert_int_equal(take(world, 1).verdict, SP_LEASE_NONE);
        world->now += 3 * T_US;
    }
}

static void a_smaller_cost_than_was_refused_is_asked_for(void **state) {
    struct world *world = *state;
    (void)!sp_lease_refuse(&world->leases, name_of(1), 500, 10000);
    assert_int_equal(take(world, 499).verdict, SP_LEASE_NONE);
    assert_int_equal(take(world, 500).verdict, SP_LEASE_REFUSED);
}

static void what_is_leased_is_given_to_a_refused_subject_too(void **state) {
    struct world *world = *state;
    deposit(world, 5, world->now);
    (void)!sp_lease_refuse(&world->leases, name_of(1), 1, 10000);
    assert_int_equal(take(world, 3).verdict, SP_LEASE_GIVEN);
    assert_int_equal(take(world, 3).verdict, SP_LEASE_REFUSED);
}

static void a_refusal_for_ever_ends_with_the_clock(void **state) {
    struct world *world = *state;
    (void)!sp_lease_refuse(&world->leases, name_of(1), 1, UINT64_MAX);
    world->now += 3600 * SP_MICRO;
    assert_int_equal(take(world, 1).verdict, SP_LEASE_REFUSED);
}

/* ---- Wishes ---- */

static void who_asks_seldom_gets_no_wish(void **state) {
    struct world *world = *state;
    for (int i = 0; i < 100; i++, world->now += T_US / 3 + 1)
        assert_int_equal(take(world, 1).wish, 0);
}

static void who_asks_often_gets_one_wish_at_a_time(void **state) {
    struct world *world = *state;
    int wishes = 0;
    for (int i = 0; i < 90; i++, world->now += 1000)
        wishes += take(world, 1).wish > 0;
    assert_int_equal(wishes, 1);
    deposit(world, 0, world->now); /* answered: the next may ask */
    assert_true(take(world, 1).wish > 0);
    assert_int_equal(take(world, 1).wish, 0);
}

static void a_wish_that_is_never_answered_comes_again(void **state) {
    struct world *world = *state;
    int wishes = 0;
    for (int i = 0; i < 1000; i++, world->now += 1000)
        wishes += take(world, 1).wish > 0;
    assert_in_range(wishes, 9, 11);
}

static void a_wish_is_what_t_of_the_demand_need_and_at_most_what_t_earns(void **state) {
    struct world *world = *state;
    uint64_t wish = 0;
    for (int i = 0; i < 250; i++, world->now += 2000) { /* 50 in T */
        struct sp_lease_answer answer = take(world, 1);
        wish = answer.wish ? answer.wish : wish;
    }
    assert_in_range(wish, 45, 52);
    for (int i = 0; i < 5000; i++, world->now += 100) { /* 1000 in T; the limit earns 100 */
        struct sp_lease_answer answer = take(world, 1);
        wish = answer.wish ? answer.wish : wish;
    }
    assert_int_equal(wish, 100);
    world->now += 4 * T_US;
    for (int i = 0; i < 5000; i++, world->now += 100)
        assert_int_equal(take(world, 101).wish, 0); /* more than T earns: what is left of such leases would be most of the burst */
}

static void what_is_alive_is_refilled_before_it_is_gone(void **state) {
    struct world *world = *state;
    int none = 0;
    for (int i = 0; i < 3000; i++, world->now += 1000) {
        struct sp_lease_answer answer = take(world, 1);
        none += i > 200 && answer.verdict != SP_LEASE_GIVEN;
        if (answer.wish)
            deposit(world, answer.wish, world->now);
    }
    assert_int_equal(none, 0);
}

/* Redis has nothing: asked again after longer and longer, 75 ms at last, and what comes meanwhile is refused here. */
static void overload_does_not_ask_more_often_than_ordinary_demand(void **state) {
    struct world *world = *state;
    uint64_t asked = 0, level = 0, admitted = 0, told = 0;
    for (uint64_t i = 0; i < 20000; i++, world->now += 200) { /* 5000/s, of a limit that earns 1000/s */
        level = sp_min(level + i % 5 / 4, UINT64_C(900));
        struct sp_lease_answer answer = take(world, 1);
        admitted += answer.verdict == SP_LEASE_GIVEN;
        if (answer.verdict == SP_LEASE_REFUSED)
            told = sp_max(told, answer.bucket.retry_us);
        if (answer.verdict != SP_LEASE_NONE)
            continue;
        asked++;
        if (level == 0) {
            (void)!sp_lease_refuse(&world->leases, name_of(1), 1, 1000);
            continue;
        }
        admitted++;
        level--;
        uint64_t granted = sp_min(level, answer.wish);
        level -= granted;
        if (answer.wish)
            sp_lease_deposit(&world->leases, name_of(1), granted, answer.wish, world->now, level);
    }
    assert_in_range(asked, 50, 70); /* of 4 s */
    assert_true(admitted >= 3800);
    assert_true(told <= 80000);
}

static void what_is_shown_is_what_redis_told_and_what_is_alive(void **state) {
    struct world *world = *state;
    sp_lease_deposit(&world->leases, name_of(1), 50, 50, world->now, 600);
    struct sp_lease_answer answer = take(world, 1);
    assert_true(answer.bucket.admitted);
    assert_int_equal(answer.burst, BURST);
    assert_int_equal(answer.bucket.remaining, 649);
    assert_int_equal(answer.bucket.reset_us, 351000);
    world->now += 64000; /* and what has accrued since */
    assert_in_range(take(world, 1).bucket.remaining, 711, 713);
}

/* ---- Several processes ---- */

#define WORKERS 4
struct yard {
    int go, stop;
    uint64_t clock_us;
    struct tally {
        uint64_t given, late, rounds;
    } tally[WORKERS];
    uint64_t deposited;
};
static struct yard *yard;
static uint64_t yard_clock(void) { return __atomic_load_n(&yard->clock_us, __ATOMIC_SEQ_CST); }

static void work(struct sp_leases *leases, unsigned me, uint64_t rounds) {
    uint64_t seed = me + 1;
    while (!__atomic_load_n(&yard->go, __ATOMIC_SEQ_CST))
        sched_yield();
    for (uint64_t i = 0; i < rounds && !__atomic_load_n(&yard->stop, __ATOMIC_SEQ_CST); i++) {
        struct sp_lease_answer answer;
        uint64_t now = __atomic_add_fetch(&yard->clock_us, dice_below(&seed, 40), __ATOMIC_SEQ_CST);
        uint64_t subject = dice_below(&seed, 3), dice = dice_below(&seed, 16);
        if (dice == 0) {
            __atomic_add_fetch(&yard->deposited, 20, __ATOMIC_SEQ_CST);
            sp_lease_deposit(leases, name_of(subject), 20, 20, now, 0);
            continue;
        }
        lease_take_now(leases, name_of(subject), &thousand, BURST, 1, &answer);
        if (answer.verdict != SP_LEASE_GIVEN)
            continue;
        if (dice == 1)
            sp_lease_give_back(leases, name_of(subject), 1, answer.expiry_us);
        else
            __atomic_add_fetch(&yard->tally[me].given, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&yard->tally[me].rounds, 1, __ATOMIC_SEQ_CST);
    }
    _exit(0);
}

static void open_yard(struct world *world) {
    yard = map(sizeof *yard);
    yard->clock_us = START_US;
    world->leases.clock_us = yard_clock;
}

static pid_t start(struct world *world, unsigned me, uint64_t rounds) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        work(&world->leases, me, rounds);
    return pid;
}

static uint64_t given_by_all(void) {
    uint64_t given = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        given += yard->tally[i].given;
    return given;
}

static void reap(pid_t pid) {
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void four_processes_together_give_no_token_twice(void **state) {
    struct world *world = *state;
    open_yard(world);
    pid_t pid[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++)
        pid[i] = start(world, i, 300000);
    __atomic_store_n(&yard->go, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < WORKERS; i++)
        reap(pid[i]);
    assert_true(given_by_all() > 10000);
    assert_true(given_by_all() <= yard->deposited);
    munmap(yard, sizeof *yard);
}

static void a_killed_process_leaves_nothing_to_repair(void **state) {
    struct world *world = *state;
    open_yard(world);
    yard->go = 1;
    pid_t steady = start(world, 0, UINT64_MAX);
    for (int i = 0; i < 40; i++) {
        uint64_t before = __atomic_load_n(&yard->tally[1].rounds, __ATOMIC_SEQ_CST);
        pid_t victim = start(world, 1, UINT64_MAX);
        while (__atomic_load_n(&yard->tally[1].rounds, __ATOMIC_SEQ_CST) < before + 100)
            sched_yield();
        assert_int_equal(kill(victim, SIGKILL), 0);
        assert_int_equal(waitpid(victim, NULL, 0), victim);
    }
    __atomic_store_n(&yard->stop, 1, __ATOMIC_SEQ_CST);
    reap(steady);
    assert_true(given_by_all() <= yard->deposited);
    yard->clock_us += 100 * T_US;
    for (uint64_t subject = 0; subject < 3; subject++) {
        assert_int_equal(alive(world, subject), 0);
        sp_lease_deposit(&world->leases, name_of(subject), 9, 9, yard->clock_us, 0);
        assert_int_equal(take_of(world, name_of(subject), 9).verdict, SP_LEASE_GIVEN);
    }
    munmap(yard, sizeof *yard);
}

/* Stopped and continued by signals at any instant, on the true clock. Each token is used at once: what the clock says after the call, less
 * the few instructions in between, is the instant at which it was given. */
static void a_process_that_was_stopped_gives_nothing_that_died_meanwhile(void **state) {
    struct world *world = *state;
    open_yard(world);
    world->leases.clock_us = sp_clock_us;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct sp_leases leases = world->leases;
        struct sp_lease_answer answer;
        while (!__atomic_load_n(&yard->stop, __ATOMIC_SEQ_CST)) {
            uint64_t before = sp_clock_us();
            lease_take_now(&leases, name_of(1), &thousand, BURST, 1, &answer);
            if (answer.verdict != SP_LEASE_GIVEN)
                continue;
            yard->tally[0].given++;
            yard->tally[0].late += before >= answer.expiry_us;
        }
        _exit(0);
    }
    for (int i = 0; i < 40; i++) {
        uint64_t sent = sp_clock_us(), given = __atomic_load_n(&yard->tally[0].given, __ATOMIC_SEQ_CST);
        sp_lease_deposit(&world->leases, name_of(1), LEASE_AMOUNT_MAX, LEASE_AMOUNT_MAX, sent, 0);
        while (__atomic_load_n(&yard->tally[0].given, __ATOMIC_SEQ_CST) < given + 100)
            sched_yield();
        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
        while (sp_clock_us() < sent + T_US)
            sched_yield();
        given = __atomic_load_n(&yard->tally[0].given, __ATOMIC_SEQ_CST);
        assert_int_equal(kill(pid, SIGCONT), 0);
        uint64_t until = sp_clock_us() + 3000;
        while (sp_clock_us() < until)
            sched_yield();
        /* At most the one that was already given, and on its way to be counted, when the signal came. */
        assert_in_range(__atomic_load_n(&yard->tally[0].given, __ATOMIC_SEQ_CST), given, given + 1);
    }
    __atomic_store_n(&yard->stop, 1, __ATOMIC_SEQ_CST);
    reap(pid);
    assert_int_equal(yard->tally[0].late, 0);
    munmap(yard, sizeof *yard);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_policy_is_leased_where_its_burst_is_twice_what_a_lease_earns),
        TEST(what_was_leased_is_given_once),
        TEST(a_token_dies_t_after_the_request_for_it_was_sent),
        TEST(what_is_granted_too_late_is_dropped),
        TEST(who_stands_still_while_taking_does_not_get_a_dead_token),
        TEST(who_takes_several_is_told_when_each_dies),
        TEST(the_grant_that_dies_first_is_used_first),
        TEST(a_cost_comes_out_of_one_grant),
        TEST(what_is_given_back_returns_to_its_grant_or_to_none),
        TEST(grants_that_are_spent_make_way_for_others),
        TEST(what_is_left_of_grants_hides_none_that_has_enough),
        TEST(subjects_limits_and_kinds_have_leases_of_their_own),
        TEST(after_a_reload_what_was_leased_is_nobodys),
        TEST(a_grant_from_long_ago_is_never_taken_for_a_new_one),
        TEST(without_room_a_lease_is_lost_and_nothing_else),
        TEST(many_small_leases_one_after_the_other_are_all_used),
        TEST(a_refused_subject_is_refused_until_the_instant_redis_named),
        TEST(who_waits_as_long_as_told_is_not_refused_here_again),
        TEST(a_smaller_cost_than_was_refused_is_asked_for),
        TEST(what_is_leased_is_given_to_a_refused_subject_too),
        TEST(a_refusal_for_ever_ends_with_the_clock),
        TEST(who_asks_seldom_gets_no_wish),
        TEST(who_asks_often_gets_one_wish_at_a_time),
        TEST(a_wish_that_is_never_answered_comes_again),
        TEST(a_wish_is_what_t_of_the_demand_need_and_at_most_what_t_earns),
        TEST(what_is_alive_is_refilled_before_it_is_gone),
        TEST(overload_does_not_ask_more_often_than_ordinary_demand),
        TEST(what_is_shown_is_what_redis_told_and_what_is_alive),
        TEST(four_processes_together_give_no_token_twice),
        TEST(a_killed_process_leaves_nothing_to_repair),
        TEST(a_process_that_was_stopped_gives_nothing_that_died_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
