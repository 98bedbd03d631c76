/* The table with several processes at it at once, some of them killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "local_world.h"

#define WORKERS   4
#define SUBJECTS  64
#define TAKES     200000u
#define PERIOD_US 100
#define BURST     3

/* What the workers have in common. Each keeps a log of its own, which outlives it. */
struct yard {
    uint64_t clock_us; /* one clock for all, moved on by everybody */
    int go;
    struct log {
        size_t n;
        struct entry {
            uint64_t at_us, subject;
        } entry[TAKES];
    } log[WORKERS];
};
static struct yard *yard;
static uint64_t yard_clock(void) { return __atomic_load_n(&yard->clock_us, __ATOMIC_SEQ_CST); }

/* Two windows that overlap, and more keys than cells: inserting, evicting, charging and overflowing meet all the time. */
static struct sp_local_bucket contended(uint64_t subject) { return crowded(0, 40 + subject % 2, subject); }

/* Everybody wants the subject of the hour, and now and then another. */
static void hammer(void *segment, unsigned me) {
    struct sp_local_store store;
    sp_local_open(segment, yard_clock, &store);
    uint64_t seed = 100 + me;
    struct log *log = &yard->log[me];
    while (!__atomic_load_n(&yard->go, __ATOMIC_SEQ_CST))
        sched_yield();
    while (log->n < TAKES) {
        uint64_t now = __atomic_add_fetch(&yard->clock_us, 1, __ATOMIC_SEQ_CST);
        uint64_t subject = dice_below(&seed, 8) ? now / 64 % SUBJECTS : dice_below(&seed, SUBJECTS);
        struct sp_limit_answer answer;
        struct sp_local_taken taken;
        if (sp_local_take(&store, contended(subject), now, 1, &answer, &taken) < 0)
            _exit(1);
        if (answer.bucket.admitted && dice_below(&seed, 7) == 0)
            sp_local_give_back(&store, &taken);
        else if (answer.bucket.admitted)
            log->entry[__atomic_fetch_add(&log->n, 1, __ATOMIC_SEQ_CST)] = (struct entry){now, subject};
        if (now > START_US + UINT64_C(4) * TAKES)
            break;
    }
    _exit(0);
}

static pid_t start_hammer(void *segment, unsigned me) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        hammer(segment, me);
    return pid;
}

static void open_yard(struct world *world) {
    yard = mmap(NULL, sizeof *yard, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(yard != MAP_FAILED);
    yard->clock_us = START_US;
    publish(world, 0, 1, PERIOD_US, BURST);
}

static int by_time(const void *a, const void *b) {
    const struct admission *x = a, *y = b;
    return (x->at_us > y->at_us) - (x->at_us < y->at_us);
}

/* The largest amount by which any interval of any subject exceeds rate · time, in tokens · period: what is over at each admission is what
 * was over before, less what time has allowed since, and the admission itself. */
static uint64_t worst_excess(size_t *ret_admitted) {
    uint64_t worst = 0;
    *ret_admitted = 0;
    for (uint64_t subject = 0; subject < SUBJECTS; subject++) {
        struct judge judge = {0};
        for (size_t worker = 0; worker < WORKERS; worker++)
            for (size_t i = 0; i < yard->log[worker].n; i++)
                if (yard->log[worker].entry[i].at_us && yard->log[worker].entry[i].subject == subject)
                    judge_note(&judge, yard->log[worker].entry[i].at_us, 1);
        qsort(judge.admission, judge.n, sizeof *judge.admission, by_time);
        uint64_t excess = 0;
        for (size_t i = 0; i < judge.n; i++) {
            uint64_t passed = i ? judge.admission[i].at_us - judge.admission[i - 1].at_us : 0;
            excess = excess - sp_min(excess, passed) + PERIOD_US;
            worst = sp_max(worst, excess);
        }
        *ret_admitted += judge.n;
        judge_free(&judge);
    }
    return worst;
}

static void reap(pid_t pid) {
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void four_processes_together_admit_no_more_than_one(void **state) {
    struct world *world = *state;
    size_t admitted;
    open_yard(world);
    pid_t pid[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++)
        pid[i] = start_hammer(world->segment, i);
    __atomic_store_n(&yard->go, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < WORKERS; i++)
        reap(pid[i]);
    assert_in_range(worst_excess(&admitted), PERIOD_US, BURST * PERIOD_US);
    assert_true(admitted > 10000);
    assert_true(sp_local_overflowed(&world->store) > 1000);
    munmap(yard, sizeof *yard);
}

/* Killed anywhere, again and again; the others go on, and nothing is forgotten or stuck. */
static void a_killed_process_leaves_nothing_to_repair(void **state) {
    struct world *world = *state;
    size_t admitted;
    open_yard(world);
    yard->go = 1;
    pid_t steady[2] = {start_hammer(world->segment, 0), start_hammer(world->segment, 1)};
    for (unsigned i = 0; i < 60; i++) {
        uint64_t before = yard_clock();
        pid_t victim = start_hammer(world->segment, 2 + i % 2);
        while (yard_clock() < before + 2000 && yard_clock() < START_US + UINT64_C(4) * TAKES)
            sched_yield();
        assert_int_equal(kill(victim, SIGKILL), 0);
        assert_int_equal(waitpid(victim, NULL, 0), victim);
    }
    reap(steady[0]);
    reap(steady[1]);
    assert_in_range(worst_excess(&admitted), PERIOD_US, BURST * PERIOD_US);
    assert_true(admitted > 10000);
    world->now = yard_clock();
    for (uint64_t subject = 0; subject < SUBJECTS; subject++) {
        world->now += HOUR_US; /* all full again */
        assert_true(admits(world, contended(subject), BURST));
        assert_false(admits(world, contended(subject), 1));
    }
    munmap(yard, sizeof *yard);
}

/* Reservations of all processes, settled while others take: nothing is lost between them. */
static void four_processes_settle_to_what_was_used(void **state) {
    struct world *world = *state;
    uint64_t *used = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sp_local_bucket bucket = bucket_named(0, 1);
    pid_t pid[WORKERS];
    assert_true(used != MAP_FAILED);
    publish(world, 0, 1, 1000 * SP_MICRO, 400000);
    for (unsigned i = 0; i < WORKERS; i++) {
        pid[i] = fork();
        assert_true(pid[i] >= 0);
        if (pid[i] > 0)
            continue;
        uint64_t seed = i;
        for (int n = 0; n < 20000; n++) {
            struct sp_limit_answer answer;
            struct sp_local_taken taken;
            uint64_t cost = 1 + dice_below(&seed, 500), cost_at_last = n % 100 == 0 ? dice_below(&seed, 8) : 0;
            if (sp_local_take(&world->store, bucket, world->now, cost, &answer, &taken) < 0 || !answer.bucket.admitted)
                _exit(1);
            sp_local_settle(&world->store, bucket, world->now, (int64_t)cost - (int64_t)cost_at_last);
            __atomic_add_fetch(used, cost_at_last, __ATOMIC_SEQ_CST);
        }
        _exit(0);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        reap(pid[i]);
    assert_int_equal(level(world, bucket), 400000 - (int64_t)*used);
    munmap(used, 4096);
}

/* Workers are told to commit at slightly different times; one of them two generations in a row. */
static void workers_that_configure_at_once_agree(void **state) {
    struct world *world = *state;
    for (uint64_t round = 0; round < 50; round++) {
        uint64_t first = 1 + round * 2;
        pid_t pid[WORKERS];
        for (unsigned i = 0; i < WORKERS; i++) {
            pid[i] = fork();
            assert_true(pid[i] >= 0);
            if (pid[i] == 0) {
                for (uint64_t g = first + i % 2; g < first + 2; g++)
                    sp_local_publish(&world->store, SP_SPACE_LOCAL, SP_LIMIT_REQUESTS, 0, g, &(struct sp_rate){g, SP_MICRO}, g, world->now);
                _exit(0);
            }
        }
        for (unsigned i = 0; i < WORKERS; i++)
            assert_int_equal(waitpid(pid[i], NULL, 0), pid[i]);
        assert_int_equal(take(world, bucket_named(0, round), 1).burst, first + 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(four_processes_together_admit_no_more_than_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_killed_process_leaves_nothing_to_repair, set_up, tear_down),
        cmocka_unit_test_setup_teardown(four_processes_settle_to_what_was_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(workers_that_configure_at_once_agree, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
