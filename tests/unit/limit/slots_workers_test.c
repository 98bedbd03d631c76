/* Several gateways of several workers on one Redis, all of it at once: what runs of a subject never exceeds the bound, not for an instant,
 * though workers are killed and stopped in the middle of everything, and nothing is left over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "judge.h"
#include "redis_server.h"

#define GATEWAYS  2
#define WORKERS   2 /* each */
#define BOUND     5
#define HELD      8 /* requests of one worker at one time */
#define RUN_MS    6000
#define MISHAP_MS 700

static struct redis_server redis;

struct tally {
    int32_t running;                  /* over all gateways */
    int32_t mine[GATEWAYS * WORKERS]; /* of that, each worker's */
    uint64_t admitted, refused, degraded, violations, full;
    uint64_t stop;
};
static struct tally *tally;
static void *segment[GATEWAYS];

struct worker {
    struct gateway gateway;
    struct asked asked[HELD];
    bool runs[HELD], waits[HELD];
    unsigned number;
    uint64_t random;
};

static void add(int32_t *number, int32_t n) { __atomic_fetch_add(number, n, __ATOMIC_SEQ_CST); }
static uint64_t count(uint64_t *number) { return __atomic_add_fetch(number, 1, __ATOMIC_RELAXED); }

/* Its own part is written first: of a worker killed between the two, one too few is counted. */
static void begins(struct worker *worker, size_t i) {
    add(&tally->mine[worker->number], 1);
    int32_t now = __atomic_add_fetch(&tally->running, 1, __ATOMIC_SEQ_CST);
    worker->runs[i] = true;
    (void)count(&tally->admitted);
    if (now > BOUND)
        (void)count(&tally->violations);
    if (now == BOUND)
        (void)count(&tally->full);
}
static void ends(struct worker *worker, size_t i) {
    worker->runs[i] = false;
    add(&tally->running, -1);
    add(&tally->mine[worker->number], -1);
    sp_limiter_finish(worker->gateway.limiter, &worker->asked[i].request, 0);
}

static void decided(struct worker *worker, size_t i) {
    const struct sp_limit_decision *decision = &worker->asked[i].request.decision;
    worker->waits[i] = false;
    if (decision->degraded)
        (void)count(&tally->degraded);
    if (decision->admitted && !decision->degraded) {
        begins(worker, i);
        return;
    }
    (void)count(&tally->refused);
    sp_limiter_finish(worker->gateway.limiter, &worker->asked[i].request, 0);
}

static void act(struct worker *worker, size_t i) {
    if (worker->waits[i] && worker->asked[i].told) {
        decided(worker, i);
    } else if (worker->waits[i] && dice_below(&worker->random, 10) == 0) { /* the client leaves */
        worker->waits[i] = false;
        sp_limiter_finish(worker->gateway.limiter, &worker->asked[i].request, 0);
    } else if (worker->runs[i]) {
        ends(worker, i);
    } else if (!worker->waits[i]) {
        ask_for(&worker->asked[i], &worker->gateway.scene, "alice", "0");
        worker->asked[i].request.stays = true;
        worker->waits[i] = true;
        if (sp_limiter_admit(worker->gateway.limiter, &worker->asked[i].request) == SP_LIMIT_DECIDED)
            decided(worker, i);
    }
}

static void open_worker(struct worker *worker, unsigned number, enum sp_limit_mode mode) {
    const struct sp_hash_key key = {1 + number / WORKERS, 8};
    struct gateway *gateway = &worker->gateway;
    *worker = (struct worker){.number = number, .random = number};
    gateway->segment = segment[number / WORKERS];
    scene_config(&gateway->scene, 1);
    scene_redis(&gateway->scene, redis.port, 2000);
    gateway->scene.limit[0].requests.amount = 0;
    gateway->scene.limit[0].concurrency = BOUND;
    gateway->scene.limit[0].mode = mode;
    if (sp_loop_new(&gateway->loop) < 0 || sp_limiter_new(gateway->loop, gateway->segment, &key, number % WORKERS, &gateway->limiter) < 0)
        abort();
    gateway_connect(gateway);
}

static void work(unsigned number, enum sp_limit_mode mode) {
    static struct worker worker;
    open_worker(&worker, number, mode);
    while (!__atomic_load_n(&tally->stop, __ATOMIC_SEQ_CST)) {
        for (int n = 0; n < 4; n++)
            act(&worker, dice_below(&worker.random, HELD));
        (void)sp_loop_turn(worker.gateway.loop, (int)dice_below(&worker.random, 3));
    }
    for (size_t i = 0; i < HELD; i++) {
        if (worker.runs[i])
            ends(&worker, i);
        else if (worker.waits[i])
            sp_limiter_finish(worker.gateway.limiter, &worker.asked[i].request, 0);
    }
    for (int n = 0; n < 100 && !sp_limiter_settled(worker.gateway.limiter); n++)
        (void)sp_loop_turn(worker.gateway.loop, 10);
    sp_limiter_free(worker.gateway.limiter);
    _exit(0);
}

static pid_t spawn(unsigned number, enum sp_limit_mode mode) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        work(number, mode);
    }
    return pid;
}

static void sleep_ms(uint64_t ms) { (void)poll(NULL, 0, (int)ms); }

/* What its requests were is over with it: their connections are closed. */
static void kill_and_replace(pid_t *pid, unsigned number, enum sp_limit_mode mode) {
    kill(*pid, SIGKILL);
    assert_int_equal(waitpid(*pid, NULL, 0), *pid);
    add(&tally->running, -__atomic_exchange_n(&tally->mine[number], 0, __ATOMIC_SEQ_CST));
    *pid = spawn(number, mode);
}

static void stop_for_a_while(pid_t pid) {
    kill(pid, SIGSTOP);
    sleep_ms(MISHAP_MS / 2);
    kill(pid, SIGCONT);
}

static const char *left_in_redis(void) { return redis_says(&redis, "GET test:first:{s=alice}:c"); }

static void run(enum sp_limit_mode mode) {
    pid_t pids[GATEWAYS * WORKERS];
    uint64_t random = 42, until = sp_clock_us() + RUN_MS * 1000;
    (void)redis_says(&redis, "FLUSHALL");
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(tally != MAP_FAILED);
    for (size_t i = 0; i < GATEWAYS; i++)
        segment[i] = segment_new();
    for (unsigned i = 0; i < SP_COUNT(pids); i++)
        pids[i] = spawn(i, mode);
    while (sp_clock_us() < until) {
        unsigned who = (unsigned)dice_below(&random, SP_COUNT(pids));
        sleep_ms(MISHAP_MS / 2);
        if (dice_below(&random, 2))
            kill_and_replace(&pids[who], who, mode);
        else
            stop_for_a_while(pids[who]);
    }
    __atomic_store_n(&tally->stop, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < SP_COUNT(pids); i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    print_message("           %u admitted, %u refused, %u degraded; all places in use %u times\n", (unsigned)tally->admitted,
                  (unsigned)tally->refused, (unsigned)tally->degraded, (unsigned)tally->full);
    assert_int_equal(tally->violations, 0);
    assert_int_equal(tally->running, 0);
    assert_true(tally->admitted > 100);
    assert_true(tally->refused > 100);
    assert_true(tally->full > 10);
}

/* All of the places are free again, for whoever comes. */
static void nothing_is_left(void) {
    static struct worker worker;
    open_worker(&worker, 0, SP_LIMIT_LEASED);
    struct gateway *gateway = &worker.gateway;
    for (int n = 0; n < BOUND;) {
        struct asked *asked = &worker.asked[n];
        ask_for(asked, &gateway->scene, "alice", "0");
        asked->request.stays = true;
        if (sp_limiter_admit(gateway->limiter, &asked->request) == SP_LIMIT_PENDING)
            UNTIL(gateway, asked->told);
        if (asked->request.decision.admitted && !asked->request.decision.degraded)
            n++;
        else
            for (; n > 0; n--) { /* not yet: nobody is to be in the way of what is given back */
                sp_limiter_finish(gateway->limiter, &worker.asked[n - 1].request, 0);
                (void)sp_loop_turn(gateway->loop, 10);
            }
    }
    for (int n = 0; n < BOUND; n++)
        sp_limiter_finish(gateway->limiter, &worker.asked[n].request, 0);
    UNTIL(gateway, left_in_redis()[0] == 0);
    sp_limiter_free(gateway->limiter);
    sp_loop_free(gateway->loop);
}

static void clean_up(void) {
    for (size_t i = 0; i < GATEWAYS; i++)
        segment_free(segment[i]);
    munmap(tally, sizeof *tally);
}

static void leased_places_are_never_more_than_the_bound(void **state) {
    run(SP_LIMIT_LEASED);
    nothing_is_left();
    clean_up();
}
static void strict_places_are_never_more_than_the_bound(void **state) {
    run(SP_LIMIT_STRICT);
    nothing_is_left();
    clean_up();
}

static int start(void **state) {
    redis_start(&redis);
    return 0;
}
static int stop(void **state) {
    redis_kill(&redis);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leased_places_are_never_more_than_the_bound),
        cmocka_unit_test(strict_places_are_never_more_than_the_bound),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
