/* Places counted in this machine's memory, without Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "judge.h"
#include "scene.h"
#include "slots_talk.h"

static struct sp_loop *loop;
static struct sp_slots *slots;
static struct sp_slots_segment *segment;
static struct scene_config scene;

static void *shared(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

static void open_slots(void) {
    assert_int_equal(sp_loop_new(&loop), 0);
    assert_int_equal(sp_slots_new(loop, segment, &(struct sp_hash_key){7, 8}, NULL, &slots), 0);
    sp_slots_configure(slots, &scene.config);
}
static void close_slots(void) {
    sp_slots_free(slots);
    sp_loop_free(loop);
}

static int set_up(void **state) {
    scene_config(&scene, 1);
    scene.limit[0].concurrency = 3;
    scene.limit[1].concurrency = 1;
    segment = shared(sp_slots_segment_size());
    open_slots();
    return 0;
}
static int tear_down(void **state) {
    close_slots();
    munmap(segment, sp_slots_segment_size());
    return 0;
}

static struct sp_limit_facts facts_of(const char *subject) { return (struct sp_limit_facts){.subject = sp_span_text(subject)}; }

static uint64_t name_of(size_t limit, const char *subject) {
    struct sp_limit_facts facts = facts_of(subject);
    return sp_slots_name(slots, &scene.limit[limit], &facts);
}

static enum sp_place_verdict take_share(size_t limit, const char *subject, unsigned gateways) {
    struct sp_limit_facts facts = facts_of(subject);
    struct sp_place_ask ask = {.limit = &scene.limit[limit], .facts = &facts};
    return sp_slots_take(slots, &ask, true, gateways);
}
static enum sp_place_verdict take(size_t limit, const char *subject) { return take_share(limit, subject, 1); }

static uint64_t used(size_t limit, const char *subject) {
    uint64_t n, had;
    sp_slots_peek(slots, name_of(limit, subject), &n, &had);
    assert_int_equal(had, 0);
    return n;
}

static void a_name_is_of_limit_and_subject_however_it_is_found(void **state) {
    static const struct sp_hash_key other_key = {9, 9};
    struct sp_limit_facts alice = facts_of("alice"), bob = facts_of("bob");
    uint64_t hash = sp_subject_hash(&slots->hash_key, SP_BY_SUBJECT, &alice);
    struct sp_limit_config limit = scene.limit[0]; /* of an older snapshot: the same, but elsewhere */
    limit.by = scene.limit[0].by = scene.limit[1].by = SP_BY_SUBJECT;
    assert_int_equal(sp_slots_name(slots, &limit, &alice), name_of(0, "alice"));
    assert_int_equal(sp_slots_name_of(slots, &limit, hash), name_of(0, "alice"));
    assert_int_not_equal(name_of(0, "alice"), name_of(1, "alice"));
    assert_int_not_equal(name_of(0, "alice"), sp_slots_name(slots, &limit, &bob));
    assert_int_not_equal(name_of(0, "alice"), sp_slots_name_of(slots, &limit, sp_subject_hash(&other_key, SP_BY_SUBJECT, &alice)));
}

static void no_more_run_at_one_time_than_the_bound(void **state) {
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(0, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take(0, "alice"), SP_PLACE_REFUSED);
    assert_int_equal(used(0, "alice"), 3);
    sp_slots_give(slots, name_of(0, "alice"));
    assert_int_equal(take(0, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take(0, "alice"), SP_PLACE_REFUSED);
}

static void subjects_and_limits_have_places_of_their_own(void **state) {
    assert_int_equal(take(1, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take(1, "alice"), SP_PLACE_REFUSED);
    assert_int_equal(take(1, "bob"), SP_PLACE_TAKEN);
    assert_int_equal(take(0, "alice"), SP_PLACE_TAKEN);
    scene.limit[2] = scene.limit[1];
    scene.limit[2].name = "another";
    assert_int_equal(take(2, "alice"), SP_PLACE_TAKEN);
}

static void a_place_given_back_twice_is_given_back_once(void **state) {
    assert_int_equal(take(0, "alice"), SP_PLACE_TAKEN);
    for (int i = 0; i < 3; i++)
        sp_slots_give(slots, name_of(0, "alice"));
    sp_slots_give(slots, name_of(0, "nobody"));
    assert_int_equal(used(0, "alice"), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(0, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take(0, "alice"), SP_PLACE_REFUSED);
}

static void a_share_is_this_gateways_part_and_at_least_one(void **state) {
    scene.limit[0].concurrency = 8;
    for (int i = 0; i < 4; i++)
        assert_int_equal(take_share(0, "alice", 2), SP_PLACE_TAKEN);
    assert_int_equal(take_share(0, "alice", 2), SP_PLACE_REFUSED);
    assert_int_equal(take_share(1, "alice", 5), SP_PLACE_TAKEN);
    assert_int_equal(take_share(1, "alice", 5), SP_PLACE_REFUSED);
}

static void a_lower_bound_admits_nobody_until_enough_are_gone(void **state) {
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(0, "alice"), SP_PLACE_TAKEN);
    scene.limit[0].concurrency = 2;
    sp_slots_give(slots, name_of(0, "alice"));
    assert_int_equal(take(0, "alice"), SP_PLACE_REFUSED);
    sp_slots_give(slots, name_of(0, "alice"));
    assert_int_equal(take(0, "alice"), SP_PLACE_TAKEN);
}

static void no_count_is_lost_to_others(void **state) {
    char subject[24];
    for (int i = 0; i < 40000; i++) {
        (void)snprintf(subject, sizeof subject, "subject-%d", i);
        assert_int_equal(take(1, subject), SP_PLACE_TAKEN);
    }
    for (int i = 0; i < 40000; i++) {
        (void)snprintf(subject, sizeof subject, "subject-%d", i);
        assert_int_equal(take(1, subject), SP_PLACE_REFUSED);
        sp_slots_give(slots, name_of(1, subject));
        assert_int_equal(used(1, subject), 0);
    }
    assert_int_equal(segment->crowded, 0);
}

static void subjects_that_are_gone_make_room_for_others(void **state) {
    char subject[24];
    for (int i = 0; i < 400000; i++) {
        (void)snprintf(subject, sizeof subject, "subject-%d", i);
        assert_int_equal(take(1, subject), SP_PLACE_TAKEN);
        sp_slots_give(slots, name_of(1, subject));
    }
    assert_int_equal(segment->crowded, 0);
}

static void without_room_nothing_is_admitted(void **state) {
    char subject[24];
    for (size_t i = 0; i < SLOTS_CELLS; i++)
        segment->cells[i] = (struct sp_cell){.key = i + 1, .word = 1};
    (void)snprintf(subject, sizeof subject, "newcomer");
    assert_int_equal(take(0, subject), SP_PLACE_REFUSED);
    assert_true(segment->crowded > 0);
}

/* Claims that a killed process left behind: of the same name, of others, in every cell. */
static void claims_of_the_dead_are_taken_over(void **state) {
    for (size_t i = 0; i < SLOTS_CELLS; i++)
        segment->cells[i] = (struct sp_cell){.key = i % 3 ? i + 1 : name_of(0, "alice"), .word = i << 20 | SLOTS_CLAIM};
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(0, "alice"), SP_PLACE_TAKEN);
    assert_int_equal(take(0, "alice"), SP_PLACE_REFUSED);
    assert_int_equal(take(1, "bob"), SP_PLACE_TAKEN);
    assert_int_equal(used(0, "alice"), 3);
}

/* ---- Several processes ---- */

#define WORKERS  4
#define ROUNDS   30000
#define SUBJECTS 300 /* in few cells, so that names come and go */

struct tally {
    uint32_t running[SUBJECTS];
    uint64_t admitted, refused, violations;
};

static void let_go(struct tally *tally, uint64_t *held) {
    char subject[24];
    (void)snprintf(subject, sizeof subject, "s%u", (unsigned)(*held - 1));
    __atomic_fetch_sub(&tally->running[*held - 1], 1, __ATOMIC_SEQ_CST);
    sp_slots_give(slots, name_of(0, subject));
    *held = 0;
}

static void run_and_count(struct tally *tally, unsigned worker) {
    uint64_t random = worker, holds[8] = {0};
    char subject[24];
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t *held = &holds[dice_below(&random, SP_COUNT(holds))];
        if (*held) {
            let_go(tally, held);
            continue;
        }
        unsigned who = (unsigned)(dice_below(&random, 2) ? dice_below(&random, 4) : dice_below(&random, SUBJECTS));
        (void)snprintf(subject, sizeof subject, "s%u", who);
        if (take(0, subject) != SP_PLACE_TAKEN) {
            __atomic_fetch_add(&tally->refused, 1, __ATOMIC_RELAXED);
            continue;
        }
        __atomic_fetch_add(&tally->admitted, 1, __ATOMIC_RELAXED);
        if (__atomic_add_fetch(&tally->running[who], 1, __ATOMIC_SEQ_CST) > 3)
            __atomic_fetch_add(&tally->violations, 1, __ATOMIC_RELAXED);
        *held = who + 1;
    }
    for (size_t i = 0; i < SP_COUNT(holds); i++)
        if (holds[i])
            let_go(tally, &holds[i]);
}

static void workers_that_take_and_give_at_one_time_never_exceed_the_bound(void **state) {
    struct tally *tally = shared(sizeof *tally);
    pid_t pids[WORKERS];
    close_slots();
    /* All but some of the cells are in use, so that names are inserted and make room all the time. */
    for (size_t i = 0; i < SLOTS_CELLS; i++)
        if (i % 16)
            segment->cells[i] = (struct sp_cell){.key = UINT64_MAX - i, .word = 1};
    for (unsigned i = 0; i < WORKERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            open_slots();
            run_and_count(tally, i);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    open_slots();
    assert_int_equal(tally->violations, 0);
    assert_true(tally->admitted > WORKERS * ROUNDS / 8);
    assert_true(tally->refused > 0);
    for (unsigned i = 0; i < SUBJECTS; i++) {
        char subject[24];
        (void)snprintf(subject, sizeof subject, "s%u", i);
        assert_int_equal(used(0, subject), 0);
    }
    munmap(tally, sizeof *tally);
}

/* Not asserted: for who wants to know what a place costs. */
static void print_the_cost_of_a_place(void **state) {
    struct sp_limit_facts facts = facts_of("alice");
    struct sp_place_ask ask = {.limit = &scene.limit[0], .facts = &facts};
    uint64_t begin = sp_clock_ns(), n = 200000;
    for (uint64_t i = 0; i < n; i++) {
        (void)sp_slots_take(slots, &ask, true, 1);
        sp_slots_give(slots, ask.name);
    }
    print_message("           a place taken and given: %u ns\n", (unsigned)((sp_clock_ns() - begin) / n));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(no_more_run_at_one_time_than_the_bound),
        TEST(subjects_and_limits_have_places_of_their_own),
        TEST(a_place_given_back_twice_is_given_back_once),
        TEST(a_share_is_this_gateways_part_and_at_least_one),
        TEST(a_lower_bound_admits_nobody_until_enough_are_gone),
        TEST(no_count_is_lost_to_others),
        TEST(subjects_that_are_gone_make_room_for_others),
        TEST(without_room_nothing_is_admitted),
        TEST(claims_of_the_dead_are_taken_over),
        TEST(workers_that_take_and_give_at_one_time_never_exceed_the_bound),
        TEST(print_the_cost_of_a_place),
        TEST(a_name_is_of_limit_and_subject_however_it_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
