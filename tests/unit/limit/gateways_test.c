/* Several gateways lease from one bucket. The bucket is the pure one, granting by the rule of token_bucket.lua; everything else is what
 * really runs. The judge sees every admission and every interval between two of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bucket.h"
#include "judge.h"
#include "lease_now.h"

#define GATEWAYS   4
#define EVENTS_MAX 4096
#define START_US   (UINT64_C(1) << 32)
#define T_US       (SP_LEASE_MS * UINT64_C(1000))
#define NEVER      UINT64_MAX

/* ---- The bucket in Redis ---- */

struct redis {
    struct sp_bucket_policy policy;
    struct sp_bucket bucket;
    bool careless; /* leases without a reserve: what the judge must find */
};

struct grant {
    bool admitted;
    uint64_t leased, remaining, retry_us;
};

static int64_t earned_at_most(const struct sp_bucket_policy *policy, uint64_t us) {
    __extension__ typedef unsigned __int128 wide;
    wide earned = (wide)us * policy->rate.amount * SP_MICRO;
    return (int64_t)(earned / policy->rate.period_us + (earned % policy->rate.period_us != 0));
}

static uint64_t lease_ahead(struct redis *redis, uint64_t wish) {
    struct sp_bucket *bucket = &redis->bucket;
    int64_t full = (int64_t)(redis->policy.burst * SP_MICRO), reserve = redis->careless ? 0 : earned_at_most(&redis->policy, T_US);
    int64_t there = sp_min(bucket->level_micro, full - reserve);
    uint64_t granted = sp_min(wish, there > 0 ? (uint64_t)there / SP_MICRO : 0);
    if (full < 2 * reserve || granted == 0)
        return 0;
    if (bucket->level_micro >= full - reserve) {
        bucket->level_micro = full - reserve;
        bucket->remainder = 0;
    }
    bucket->level_micro -= (int64_t)(granted * SP_MICRO);
    return granted;
}

static struct grant decide(struct redis *redis, uint64_t now_us, uint64_t cost, uint64_t wish) {
    struct sp_bucket_answer answer = sp_bucket_take(&redis->policy, now_us, cost, &redis->bucket);
    struct grant grant = {.admitted = answer.admitted, .retry_us = answer.retry_us};
    if (grant.admitted)
        grant.leased = lease_ahead(redis, wish);
    grant.remaining = redis->bucket.level_micro > 0 ? (uint64_t)redis->bucket.level_micro / SP_MICRO : 0;
    return grant;
}

/* ---- A world with one clock ---- */

/* A question on its way to Redis, or the reply on its way back. */
struct event {
    uint64_t at_us, replied_us; /* NEVER: the reply is lost */
    bool reply;
    unsigned gateway;
    uint64_t cost, wish, sent_us;
    struct grant grant;
};

struct world {
    uint64_t now_us, seed;
    struct redis redis;
    unsigned n_gateways;
    struct sp_leases gateway[GATEWAYS];
    uint64_t next_us[GATEWAYS]; /* request */
    uint64_t gap_us;            /* between two requests of one gateway, on average */
    bool poisson, faults;
    uint64_t cost_max;
    bool nested; /* somebody stands still, and the others go on */
    struct event event[EVENTS_MAX];
    size_t n_events;
    struct judge judge;
    uint64_t asked, admitted, questions;
};
static struct world *world;

static struct sp_lease_name the_subject(void) { return sp_lease_name(0, SP_LIMIT_REQUESTS, 4711); }

static void run_until(uint64_t until_us);

/* Anybody may be stopped wherever the clock is read, for up to two and a half leases, while the others go on. */
static uint64_t world_clock(void) {
    if (world->faults && !world->nested && dice_below(&world->seed, 500) == 0) {
        world->nested = true;
        run_until(world->now_us + dice_below(&world->seed, 5 * T_US / 2));
        world->nested = false;
    }
    return world->now_us;
}

static void add_event(struct event event) {
    assert_true(world->n_events < EVENTS_MAX);
    world->event[world->n_events++] = event;
}

static void ask(unsigned gateway, uint64_t cost, uint64_t wish, uint64_t sent_us) {
    uint64_t there = 50 + dice_below(&world->seed, 300), back = 50 + dice_below(&world->seed, 300);
    bool lost = false;
    world->questions++;
    if (world->faults && dice_below(&world->seed, 10) == 0)
        there += dice_below(&world->seed, 3 * T_US / 2);
    if (world->faults && dice_below(&world->seed, 10) == 0)
        back += dice_below(&world->seed, 3 * T_US / 2);
    if (world->faults && dice_below(&world->seed, 20) == 0)
        lost = true;
    add_event((struct event){.at_us = world->now_us + there,
                             .replied_us = lost ? NEVER : world->now_us + there + back,
                             .gateway = gateway,
                             .cost = cost,
                             .wish = wish,
                             .sent_us = sent_us});
}

static void admit(uint64_t cost) {
    judge_note(&world->judge, world->now_us, cost);
    world->admitted += cost;
}

static void request(unsigned gateway) {
    struct sp_lease_answer answer;
    uint64_t cost = 1 + dice_below(&world->seed, world->cost_max);
    world->asked += cost;
    lease_take_now(&world->gateway[gateway], the_subject(), &world->redis.policy.rate, world->redis.policy.burst, cost, &answer);
    if (answer.verdict == SP_LEASE_GIVEN) {
        uint64_t fate = world->faults ? dice_below(&world->seed, 50) : 2;
        if (fate == 0) /* another limit refused */
            sp_lease_give_back(&world->gateway[gateway], the_subject(), cost, answer.expiry_us);
        else if (fate > 1) /* 1: killed before it could use it */
            admit(cost);
    }
    if (answer.verdict == SP_LEASE_NONE || answer.wish)
        ask(gateway, answer.verdict == SP_LEASE_NONE ? cost : 0, answer.wish, world->now_us);
}

/* What is asked for itself counts as admitted when it was taken: that is the instant of the decision. */
static void handle(struct event event) {
    struct sp_leases *leases = &world->gateway[event.gateway];
    if (!event.reply) {
        event.grant = decide(&world->redis, world->now_us, event.cost, event.wish);
        if (event.grant.admitted && event.cost > 0)
            admit(event.cost);
        event.reply = true;
        event.at_us = sp_max(event.replied_us, world->now_us);
        if (event.replied_us != NEVER)
            add_event(event);
    } else if (!event.grant.admitted) {
        (void)!sp_lease_refuse(leases, the_subject(), event.cost, event.grant.retry_us);
    } else if (event.wish > 0) {
        sp_lease_deposit(leases, the_subject(), event.grant.leased, event.wish, event.sent_us, event.grant.remaining);
    }
}

static uint64_t gap(void) {
    uint64_t gap = world->gap_us;
    if (world->poisson) /* bursts and pauses */
        gap = dice_below(&world->seed, 20) ? dice_below(&world->seed, gap + 1) : dice_below(&world->seed, 20 * gap + 1);
    return sp_max(gap, UINT64_C(1));
}

static void run_until(uint64_t until_us) {
    for (;;) {
        uint64_t at_us = until_us;
        size_t event = SIZE_MAX;
        unsigned gateway = GATEWAYS;
        for (size_t i = 0; i < world->n_events; i++)
            if (world->event[i].at_us <= at_us) {
                at_us = world->event[i].at_us;
                event = i;
            }
        for (unsigned i = 0; i < world->n_gateways; i++)
            if (world->next_us[i] < at_us) {
                at_us = world->next_us[i];
                gateway = i;
            }
        world->now_us = sp_max(world->now_us, at_us);
        if (gateway < GATEWAYS) {
            world->next_us[gateway] = sp_max(world->next_us[gateway], world->now_us) + gap();
            request(gateway);
        } else if (event != SIZE_MAX) {
            struct event due = world->event[event];
            world->event[event] = world->event[--world->n_events];
            handle(due);
        } else {
            return;
        }
    }
}

static void open_world(uint64_t seed, unsigned n_gateways, struct sp_rate rate, uint64_t burst, uint64_t gap_us) {
    world = calloc(1, sizeof *world);
    *world = (struct world){.now_us = START_US, .seed = seed, .n_gateways = n_gateways, .gap_us = gap_us, .cost_max = 1};
    world->redis.policy = (struct sp_bucket_policy){.rate = rate, .burst = burst};
    sp_bucket_fill(&world->redis.policy, world->now_us, &world->redis.bucket);
    for (unsigned i = 0; i < n_gateways; i++) {
        world->gateway[i].clock_us = world_clock;
        world->gateway[i].segment = mmap(NULL, sp_lease_segment_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(world->gateway[i].segment != MAP_FAILED);
        world->next_us[i] = world->now_us + dice_below(&world->seed, gap_us + 1);
    }
}

static void close_world(void) {
    for (unsigned i = 0; i < world->n_gateways; i++)
        munmap(world->gateway[i].segment, sp_lease_segment_size());
    judge_free(&world->judge);
    free(world);
}

static bool too_much_was_admitted(void) {
    const struct sp_bucket_policy *policy = &world->redis.policy;
    return judge_worst(&world->judge, policy->rate) > policy->burst * policy->rate.period_us;
}

/* ---- Exactness ---- */

/* Two to four gateways, replies late and lost, processes stopped and killed anywhere, demand of every kind. */
static void no_interval_admits_more_than_burst_and_rate_whatever_happens(void **state) {
    uint64_t seed = 31, leased = 0;
    for (uint64_t round = 0; round < 120; round++) {
        uint64_t amount = 20 + dice_below(&seed, 3000);
        uint64_t burst = 2 + amount / 5 + dice_below(&seed, amount), demand = 1 + amount / 4 + dice_below(&seed, amount * 3);
        open_world(round, 2 + (unsigned)(round % 3), (struct sp_rate){amount, SP_MICRO}, burst, SP_MICRO / demand);
        assert_true(sp_lease_possible(&world->redis.policy.rate, burst));
        world->poisson = round % 2;
        world->faults = true;
        run_until(START_US + 3 * SP_MICRO);
        assert_int_equal(too_much_was_admitted(), 0);
        if (world->judge.n < 1500)
            assert_int_equal(judge_violations(&world->judge, world->redis.policy.rate, burst), 0);
        leased += world->judge.n > world->questions;
        close_world();
    }
    assert_true(leased > 30); /* or nothing was shown */
}

static void no_interval_admits_more_tokens_than_burst_and_rate_whatever_happens(void **state) {
    uint64_t seed = 32;
    for (uint64_t round = 0; round < 60; round++) {
        uint64_t amount = 100000 + dice_below(&seed, 1000000);
        open_world(round, 2 + (unsigned)(round % 3), (struct sp_rate){amount, SP_MICRO}, amount / 4 + dice_below(&seed, amount), 2000);
        world->cost_max = 3000;
        world->poisson = round % 2;
        world->faults = true;
        run_until(START_US + 2 * SP_MICRO);
        assert_int_equal(too_much_was_admitted(), 0);
        close_world();
    }
}

/* The worst that can be: a lease is saved up until just before it dies, and everything else is taken at that same instant. */
static uint64_t admitted_at_once(bool careless) {
    uint64_t admitted = 0;
    open_world(1, 1, (struct sp_rate){1000, SP_MICRO}, 250, SP_MICRO);
    world->redis.careless = careless;
    struct grant grant = decide(&world->redis, world->now_us, 0, 100);
    sp_lease_deposit(&world->gateway[0], the_subject(), grant.leased, 100, world->now_us, grant.remaining);
    world->now_us += T_US - 100;
    for (;;) {
        struct sp_lease_answer answer;
        lease_take_now(&world->gateway[0], the_subject(), &world->redis.policy.rate, 250, 1, &answer);
        if (answer.verdict != SP_LEASE_GIVEN && !decide(&world->redis, world->now_us, 1, 0).admitted)
            break;
        admit(1);
        admitted++;
    }
    assert_int_equal(too_much_was_admitted(), careless);
    close_world();
    return admitted;
}

/* Without the reserve that the script keeps the judge finds too much: what it did not find above was not there. With it all of the burst
 * can still be had. */
static void the_reserve_is_what_it_takes_and_no_more(void **state) {
    assert_in_range(admitted_at_once(true), 340, 350);
    assert_in_range(admitted_at_once(false), 245, 250);
}

/* ---- Use, and what it costs ---- */

struct yield {
    uint64_t asked, admitted, questions;
};

static struct yield measure(bool poisson, unsigned n_gateways, uint64_t amount, uint64_t demand, uint64_t seconds) {
    open_world(77, n_gateways, (struct sp_rate){amount, SP_MICRO}, amount, n_gateways * SP_MICRO / demand);
    world->poisson = poisson;
    run_until(START_US + 5 * SP_MICRO); /* the first burst is gone */
    struct yield before = {world->asked, world->admitted, world->questions};
    run_until(START_US + (5 + seconds) * SP_MICRO);
    struct yield yield = {world->asked - before.asked, world->admitted - before.admitted, world->questions - before.questions};
    assert_int_equal(too_much_was_admitted(), 0);
    close_world();
    return yield;
}

static void what_is_allowed_is_used_under_demand(void **state) {
    static const uint64_t percent[] = {30, 60, 80, 95, 100, 110, 150, 300, 1000};
    for (size_t i = 0; i < SP_COUNT(percent) * GATEWAYS * 2; i++) {
        unsigned n = 1 + (unsigned)(i / 2 / SP_COUNT(percent));
        uint64_t amount = 2000, demand = amount * percent[i / 2 % SP_COUNT(percent)] / 100, seconds = 10;
        struct yield yield = measure(i % 2, n, amount, demand, seconds);
        uint64_t possible = sp_min(yield.asked, amount * seconds);
        if (yield.admitted * 100 < possible * 85)
            fail_msg("%u gateways, demand %u/s: %u of %u", n, (unsigned)demand, (unsigned)yield.admitted, (unsigned)possible);
    }
}

static void a_thousand_requests_a_second_cost_redis_at_most_two_questions_in_a_hundred(void **state) {
    static const uint64_t percent[] = {50, 90, 100, 120, 300, 1000}; /* of what is allowed */
    for (size_t i = 0; i < SP_COUNT(percent) * 2; i++)
        for (uint64_t demand = 1000; demand <= 20000; demand *= 4) {
            uint64_t amount = demand * 100 / percent[i / 2];
            struct yield yield = measure(i % 2, 1, amount, demand, 10);
            if (yield.questions * 50 > yield.asked)
                fail_msg("%u/s of %u/s: %u questions for %u requests", (unsigned)demand, (unsigned)amount, (unsigned)yield.questions,
                         (unsigned)yield.asked);
        }
}

/* ---- Real processes on the real clock, stopped and killed by signals ---- */

#define WORKERS 4 /* two of each gateway */
#define LOG_MAX 400000
#define RUN_US  (UINT64_C(2500) * 1000)
#define KILLS   30

/* A question of one worker; it asks no other meanwhile. state: 0 nothing, 1 asked, 2 answered. */
struct mailbox {
    uint64_t state, cost, wish, sent_us;
    struct grant grant;
};
struct yard {
    int stop;
    struct mailbox box[WORKERS];
    struct {
        uint64_t n;
        uint64_t at_us[LOG_MAX];
    } log[WORKERS];
};
static struct yard *yard;
static const struct sp_rate real_rate = {20000, SP_MICRO};
#define REAL_BURST 5000

static void ask_for_more(unsigned me, const struct sp_lease_answer *answer) {
    struct mailbox *box = &yard->box[me];
    if (__atomic_load_n(&box->state, __ATOMIC_SEQ_CST) != 0)
        return;
    box->cost = answer->verdict == SP_LEASE_NONE;
    box->wish = answer->wish;
    box->sent_us = sp_clock_us();
    __atomic_store_n(&box->state, 1, __ATOMIC_SEQ_CST);
}

static void hear(struct sp_leases *leases, unsigned me) {
    struct mailbox *box = &yard->box[me];
    if (__atomic_load_n(&box->state, __ATOMIC_SEQ_CST) != 2)
        return;
    if (!box->grant.admitted)
        (void)!sp_lease_refuse(leases, the_subject(), box->cost, box->grant.retry_us);
    else if (box->wish > 0)
        sp_lease_deposit(leases, the_subject(), box->grant.leased, box->wish, box->sent_us, box->grant.remaining);
    __atomic_store_n(&box->state, 0, __ATOMIC_SEQ_CST);
}

/* The instant noted is after the token was given and, where the worker was stopped in between, still one at which the token was alive. */
static void work(struct sp_leases *leases, unsigned me) {
    while (!__atomic_load_n(&yard->stop, __ATOMIC_SEQ_CST)) {
        struct sp_lease_answer answer;
        hear(leases, me);
        lease_take_now(leases, the_subject(), &real_rate, REAL_BURST, 1, &answer);
        uint64_t n = yard->log[me].n;
        if (answer.verdict == SP_LEASE_GIVEN && n < LOG_MAX) {
            yard->log[me].at_us[n] = sp_min(sp_clock_us(), answer.expiry_us - 1);
            __atomic_store_n(&yard->log[me].n, n + 1, __ATOMIC_SEQ_CST);
        }
        if (answer.verdict == SP_LEASE_NONE || answer.wish)
            ask_for_more(me, &answer);
        sched_yield();
    }
    _exit(0);
}

static pid_t start(struct sp_leases *leases, unsigned me) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        work(leases, me);
    return pid;
}

/* Redis: answers one mailbox, now and then late. */
static void serve(struct redis *redis, struct mailbox *box, uint64_t *seed, struct judge *judge) {
    if (__atomic_load_n(&box->state, __ATOMIC_SEQ_CST) != 1 || dice_below(seed, 50) == 0)
        return;
    uint64_t now_us = sp_clock_us();
    box->grant = decide(redis, now_us, box->cost, box->wish);
    if (box->grant.admitted && box->cost)
        judge_note(judge, now_us, box->cost);
    __atomic_store_n(&box->state, 2, __ATOMIC_SEQ_CST);
}

static int by_time(const void *a, const void *b) {
    const struct admission *x = a, *y = b;
    return (x->at_us > y->at_us) - (x->at_us < y->at_us);
}

static void disturb(struct sp_leases *leases, pid_t *pid, unsigned victim, uint64_t *seed) {
    if (dice_below(seed, 2)) {
        assert_int_equal(kill(pid[victim], SIGKILL), 0);
        assert_int_equal(waitpid(pid[victim], NULL, 0), pid[victim]);
        __atomic_store_n(&yard->box[victim].state, 0, __ATOMIC_SEQ_CST); /* what it asked for is lost */
        pid[victim] = start(leases, victim);
    } else {
        assert_int_equal(kill(pid[victim], SIGSTOP), 0);
        assert_int_equal(waitpid(pid[victim], NULL, WUNTRACED), pid[victim]);
    }
}

static void workers_stopped_and_killed_by_signals_admit_no_more_than_is_allowed(void **state) {
    struct sp_leases gateway[2];
    struct redis redis = {.policy = {.rate = real_rate, .burst = REAL_BURST}};
    struct judge judge = {0};
    uint64_t seed = 9, began = sp_clock_us(), next = began, given = 0;
    pid_t pid[WORKERS];
    yard = mmap(NULL, sizeof *yard, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(yard != MAP_FAILED);
    sp_bucket_fill(&redis.policy, began, &redis.bucket);
    for (unsigned i = 0; i < 2; i++) {
        gateway[i].clock_us = sp_clock_us;
        gateway[i].segment = mmap(NULL, sp_lease_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(gateway[i].segment != MAP_FAILED);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        pid[i] = start(&gateway[i % 2], i);
    for (unsigned disturbed = 0; disturbed < KILLS;) {
        for (unsigned i = 0; i < WORKERS; i++)
            serve(&redis, &yard->box[i], &seed, &judge);
        if (sp_clock_us() < next) {
            sched_yield();
            continue;
        }
        for (unsigned i = 0; i < WORKERS; i++)
            assert_int_equal(kill(pid[i], SIGCONT), 0); /* whoever stood still since the last time */
        disturb(&gateway[disturbed % 2], pid, disturbed % WORKERS, &seed);
        next = sp_clock_us() + dice_below(&seed, 2 * RUN_US / KILLS);
        disturbed++;
    }
    __atomic_store_n(&yard->stop, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(kill(pid[i], SIGCONT), 0);
        assert_int_equal(waitpid(pid[i], NULL, 0), pid[i]);
        for (uint64_t n = 0; n < yard->log[i].n; n++)
            judge_note(&judge, yard->log[i].at_us[n], 1);
        given += yard->log[i].n;
    }
    qsort(judge.admission, judge.n, sizeof *judge.admission, by_time);
    assert_true(given > 5000);
    assert_true(judge_worst(&judge, real_rate) <= REAL_BURST * real_rate.period_us);
    judge_free(&judge);
    for (unsigned i = 0; i < 2; i++)
        munmap(gateway[i].segment, sp_lease_segment_size());
    munmap(yard, sizeof *yard);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_interval_admits_more_than_burst_and_rate_whatever_happens),
        cmocka_unit_test(no_interval_admits_more_tokens_than_burst_and_rate_whatever_happens),
        cmocka_unit_test(the_reserve_is_what_it_takes_and_no_more),
        cmocka_unit_test(what_is_allowed_is_used_under_demand),
        cmocka_unit_test(a_thousand_requests_a_second_cost_redis_at_most_two_questions_in_a_hundred),
        cmocka_unit_test(workers_stopped_and_killed_by_signals_admit_no_more_than_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
