/* What requests hold, written down for who comes after a killed worker. */
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

#include "holding.h"
#include "judge.h"

#define NOW_MS 1000000

/* What was settled by recovery. */
struct left {
    size_t records, items;
    uint64_t reserved, used, names;
    char key[SP_HOLDING_KEY_MAX + 1];
};

struct world {
    struct sp_holdings_segment *segment;
    struct sp_holdings mine, sibling;
    struct left left;
};

static void note(void *owner, const struct sp_holding_item *items, size_t n, uint64_t reserved, uint64_t used) {
    struct left *left = owner;
    left->records++;
    left->items += n;
    left->reserved += reserved;
    left->used += used;
    for (size_t i = 0; i < n; i++) {
        left->names += items[i].name;
        if (items[i].what == SP_HELD_REDIS)
            (void)snprintf(left->key, sizeof left->key, "%.*s", items[i].key_len, items[i].key);
    }
}

static void *map(size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(at != MAP_FAILED);
    return at;
}

static void open_slot(struct world *world, unsigned slot, struct sp_holdings *ret) {
    sp_holdings_open(world->segment, slot, ret);
    sp_holdings_recover(ret, NOW_MS, note, &world->left);
}

/* It is alive, and was a second ago. */
static void sibling_recovers(struct world *world, uint64_t now_ms) {
    sp_holdings_recover(&world->sibling, now_ms - 1000, note, &world->left);
    sp_holdings_recover(&world->sibling, now_ms, note, &world->left);
}

static int set_up(void **state) {
    struct world *world = calloc(1, sizeof *world);
    world->segment = map(sp_holdings_segment_size());
    open_slot(world, 0, &world->mine);
    open_slot(world, 5, &world->sibling);
    *state = world;
    return 0;
}
static int tear_down(void **state) {
    struct world *world = *state;
    munmap(world->segment, sp_holdings_segment_size());
    free(world);
    return 0;
}

static struct sp_holding_item item(enum sp_holding_what what, uint64_t name, const char *key) {
    struct sp_holding_item item = {.what = (uint8_t)what, .name = name, .key_len = (uint8_t)strlen(key)};
    memcpy(item.key, key, item.key_len);
    return item;
}

static struct sp_holding *begin_with(struct sp_holdings *holdings, uint64_t tokens, const struct sp_holding_item *items, size_t n) {
    struct sp_holding *holding = sp_holding_begin(holdings);
    assert_true(!holding || (sp_holding_note(holding, items, n) && sp_holding_count(holding, n, tokens)));
    return holding;
}

static struct sp_holding *begin(struct sp_holdings *holdings, uint64_t tokens) {
    struct sp_holding_item items[] = {item(SP_HELD_PLACE, 7, ""), item(SP_HELD_REDIS, 0, "per-caller:{s=alice}:t")};
    return begin_with(holdings, tokens, items, 2);
}

static void what_has_ended_is_left_to_nobody(void **state) {
    struct world *world = *state;
    struct sp_holding *holding = begin(&world->mine, 100);
    assert_non_null(holding);
    assert_true(sp_holding_end(&world->mine, holding));
    sibling_recovers(world, NOW_MS + 10 * SP_HOLDER_SILENT_MS);
    assert_int_equal(world->left.records, 0);
}

static void a_successor_settles_what_its_predecessor_left(void **state) {
    struct world *world = *state;
    struct sp_holding *holding = begin(&world->mine, 100);
    sp_holding_progress(holding, 30);
    sp_holding_progress(holding, 60);
    struct sp_holdings successor;
    open_slot(world, 0, &successor);
    assert_int_equal(world->left.records, 1);
    assert_int_equal(world->left.items, 2);
    assert_int_equal(world->left.reserved, 100);
    assert_int_equal(world->left.used, 60);
    assert_int_equal(world->left.names, 7);
    assert_string_equal(world->left.key, "per-caller:{s=alice}:t");
    open_slot(world, 0, &successor);
    assert_int_equal(world->left.records, 1);
}

static void a_sibling_settles_for_a_worker_that_is_silent_and_for_no_other(void **state) {
    struct world *world = *state;
    struct sp_holding *holding = begin(&world->mine, 100);
    sibling_recovers(world, NOW_MS + SP_HOLDER_SILENT_MS - 1);
    assert_int_equal(world->left.records, 0);
    sp_holdings_recover(&world->mine, NOW_MS + SP_HOLDER_SILENT_MS - 1, note, &world->left);
    sibling_recovers(world, NOW_MS + SP_HOLDER_SILENT_MS + 1);
    assert_int_equal(world->left.records, 0);
    sibling_recovers(world, NOW_MS + 2 * SP_HOLDER_SILENT_MS);
    assert_int_equal(world->left.records, 1);
    sibling_recovers(world, NOW_MS + 3 * SP_HOLDER_SILENT_MS);
    assert_int_equal(world->left.records, 1);
    assert_false(sp_holding_end(&world->mine, holding));
}

/* The first to go on finds all others silent, as it was itself. */
static void after_a_stop_of_all_nobody_settles_for_who_goes_on_too(void **state) {
    struct world *world = *state;
    uint64_t goes_on = NOW_MS + SP_HOLDER_SILENT_MS + 1;
    struct sp_holding *holding = begin(&world->mine, 100);
    for (uint64_t ms = goes_on; ms < goes_on + 5000; ms += 1000) {
        sp_holdings_recover(&world->sibling, ms, note, &world->left);
        sp_holdings_recover(&world->mine, ms + 10, note, &world->left);
    }
    assert_int_equal(world->left.records, 0);
    assert_true(sp_holding_end(&world->mine, holding));
}

static void after_a_stop_of_all_who_stays_silent_is_settled_for_a_round_later(void **state) {
    struct world *world = *state;
    uint64_t goes_on = NOW_MS + SP_HOLDER_SILENT_MS + 1;
    struct sp_holding *holding = begin(&world->mine, 100);
    sp_holdings_recover(&world->sibling, goes_on, note, &world->left);
    assert_int_equal(world->left.records, 0);
    for (int round = 1; round <= 3; round++) {
        sp_holdings_recover(&world->sibling, goes_on + (uint64_t)round * 1000, note, &world->left);
        assert_int_equal(world->left.records, 1);
    }
    assert_false(sp_holding_end(&world->mine, holding));
}

/* Its predecessor was killed long ago: that says nothing of the others. */
static void a_successor_settles_what_is_its_own_at_once_and_for_others_a_round_later(void **state) {
    struct world *world = *state;
    uint64_t late = NOW_MS + 2 * SP_HOLDER_SILENT_MS;
    struct sp_holdings successor;
    assert_non_null(begin(&world->mine, 100));
    assert_non_null(begin(&world->sibling, 7));
    sp_holdings_open(world->segment, 0, &successor);
    sp_holdings_recover(&successor, late, note, &world->left);
    assert_int_equal(world->left.reserved, 100);
    sp_holdings_recover(&successor, late + 1000, note, &world->left);
    assert_int_equal(world->left.reserved, 107);
}

/* It stood still, was taken for dead, and comes back: what is new is its own, what was taken over stays so. */
static void a_worker_that_comes_back_finds_that_it_holds_nothing(void **state) {
    struct world *world = *state;
    struct sp_holding *old = begin(&world->mine, 100);
    sibling_recovers(world, NOW_MS + SP_HOLDER_SILENT_MS);
    struct sp_holding *new = begin(&world->mine, 50);
    assert_ptr_not_equal(new, old);
    assert_false(sp_holding_end(&world->mine, old));
    assert_true(sp_holding_end(&world->mine, new));
    struct sp_holding *again = begin(&world->mine, 70);
    assert_ptr_equal(again, old);
    assert_true(sp_holding_end(&world->mine, again));
    assert_int_equal(world->left.records, 1);
    assert_int_equal(world->left.reserved, 100);
}

static void more_that_a_request_holds_is_left_together_with_the_rest(void **state) {
    struct world *world = *state;
    struct sp_holding_item place = item(SP_HELD_PLACE, 7, ""), bucket = item(SP_HELD_LOCAL, 11, "");
    struct sp_holding *holding = begin_with(&world->mine, 0, &place, 1);
    assert_true(sp_holding_note(holding, &bucket, 1));
    assert_true(sp_holding_count(holding, 1, 400));
    assert_true(sp_holding_note(holding, &place, 1)); /* not taken: it does not count */
    sibling_recovers(world, NOW_MS + SP_HOLDER_SILENT_MS);
    assert_int_equal(world->left.records, 1);
    assert_int_equal(world->left.items, 2);
    assert_int_equal(world->left.names, 18);
    assert_int_equal(world->left.reserved, 400);
}

static void what_does_not_fit_is_not_written_down(void **state) {
    struct world *world = *state;
    struct sp_holding_item items[SP_HOLDING_ITEMS_MAX + 1] = {0};
    struct sp_holding *holding = sp_holding_begin(&world->mine);
    assert_false(sp_holding_note(holding, items, SP_HOLDING_ITEMS_MAX + 1));
    assert_true(sp_holding_note(holding, items, SP_HOLDING_ITEMS_MAX));
    assert_true(sp_holding_count(holding, SP_HOLDING_ITEMS_MAX, UINT64_MAX));
    assert_false(sp_holding_note(holding, items, 1));
    sibling_recovers(world, NOW_MS + SP_HOLDER_SILENT_MS);
    assert_int_equal(world->left.items, SP_HOLDING_ITEMS_MAX);
    assert_true(world->left.reserved == UINT64_MAX);
}

static void what_is_noted_and_not_counted_is_not_held(void **state) {
    struct world *world = *state;
    struct sp_holding_item place = item(SP_HELD_PLACE, 7, "");
    struct sp_holding *holding = sp_holding_begin(&world->mine);
    assert_true(sp_holding_note(holding, &place, 1));
    sibling_recovers(world, NOW_MS + SP_HOLDER_SILENT_MS);
    assert_int_equal(world->left.records, 0);
    assert_false(sp_holding_count(holding, 1, 0)); /* and its owner is told */
    assert_false(sp_holding_end(&world->mine, holding));
}

static void as_many_as_there_is_room_for_are_written_down_and_room_is_used_again(void **state) {
    struct world *world = *state;
    static struct sp_holding *all[SP_HOLDINGS_PER_WORKER];
    uint64_t seed = 3;
    for (size_t i = 0; i < SP_HOLDINGS_PER_WORKER; i++)
        assert_non_null(all[i] = begin(&world->mine, 1));
    assert_null(begin(&world->mine, 1));
    for (int round = 0; round < 1000; round++) {
        size_t i = dice_below(&seed, SP_HOLDINGS_PER_WORKER);
        assert_true(sp_holding_end(&world->mine, all[i]));
        all[i] = begin(&world->mine, 1);
        assert_non_null(all[i]);
        assert_null(begin(&world->mine, 1));
    }
    /* Taken over while the worker stood still, and then finished by it: there is room again. */
    sibling_recovers(world, NOW_MS + SP_HOLDER_SILENT_MS);
    assert_int_equal(world->left.records, SP_HOLDINGS_PER_WORKER);
    for (size_t i = 0; i < SP_HOLDINGS_PER_WORKER; i++)
        assert_false(sp_holding_end(&world->mine, all[i]));
    for (size_t i = 0; i < SP_HOLDINGS_PER_WORKER; i++)
        assert_non_null(begin(&world->mine, 1));
}

/* ---- Races ---- */

#define SIBLINGS 3
#define RECORDS  2000

struct yard {
    int go;
    uint64_t ours, left[SIBLINGS];
};

static void count(void *owner, const struct sp_holding_item *items, size_t n, uint64_t reserved, uint64_t used) {
    uint64_t *sum = owner;
    *sum += reserved;
    assert_int_equal(items[0].name, reserved); /* of one use, not of two */
}

/* All siblings, and the owner that comes back in the middle of it. */
static void each_record_is_let_go_of_once(void **state) {
    struct world *world = *state;
    struct yard *yard = map(sizeof *yard);
    static struct sp_holding *all[RECORDS];
    uint64_t sum = 0;
    for (uint64_t round = 0; round < 40; round++) {
        memset(yard, 0, sizeof *yard);
        sum = 0;
        for (uint64_t i = 0; i < RECORDS; i++) {
            struct sp_holding_item one = item(SP_HELD_LOCAL, i + 1, "");
            all[i] = begin_with(&world->mine, i + 1, &one, 1);
            sum += i + 1;
        }
        pid_t pid[SIBLINGS];
        for (unsigned s = 0; s < SIBLINGS; s++) {
            pid[s] = fork();
            assert_true(pid[s] >= 0);
            if (pid[s] == 0) {
                struct sp_holdings sibling;
                sp_holdings_open(world->segment, 10 + s, &sibling);
                sp_holdings_recover(&sibling, NOW_MS + SP_HOLDER_SILENT_MS - 1, count, &yard->left[s]);
                while (!__atomic_load_n(&yard->go, __ATOMIC_SEQ_CST))
                    sched_yield();
                sp_holdings_recover(&sibling, NOW_MS + SP_HOLDER_SILENT_MS, count, &yard->left[s]);
                _exit(0);
            }
        }
        __atomic_store_n(&yard->go, 1, __ATOMIC_SEQ_CST);
        for (uint64_t i = 0; i < RECORDS; i++) {
            struct sp_holding_item one = item(SP_HELD_LOCAL, 1, "");
            if (sp_holding_end(&world->mine, all[i]))
                yard->ours += i + 1;
            struct sp_holding *next = sp_holding_begin(&world->mine); /* in its place, to confuse them */
            assert_true(sp_holding_note(next, &one, 1));
            bool counts = sp_holding_count(next, 1, 1), ended = sp_holding_end(&world->mine, next);
            assert_true(counts || !ended); /* nobody ends what was taken over before it counted */
            sum += counts;
            yard->ours += ended;
        }
        for (unsigned s = 0; s < SIBLINGS; s++) {
            int status = 1;
            assert_int_equal(waitpid(pid[s], &status, 0), pid[s]);
            assert_int_equal(status, 0);
            yard->ours += yard->left[s];
        }
        assert_int_equal(yard->ours, sum);
    }
    munmap(yard, sizeof *yard);
}

/* Killed anywhere: what it had begun and not ended is settled by its successor, with the same numbers. */
static void after_a_kill_what_was_taken_is_what_was_ended_or_left(void **state) {
    struct world *world = *state;
    struct yard {
        uint64_t begun, ended;
    } *yard = map(sizeof *yard);
    for (int round = 0; round < 60; round++) {
        memset(yard, 0, sizeof *yard);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct sp_holding *ring[32] = {0};
            for (uint64_t i = 0;; i++) {
                struct sp_holding **at = &ring[i % 32];
                if (*at && sp_holding_end(&world->mine, *at))
                    __atomic_add_fetch(&yard->ended, 1, __ATOMIC_SEQ_CST);
                *at = begin(&world->mine, 1);
                __atomic_add_fetch(&yard->begun, 1, __ATOMIC_SEQ_CST);
            }
        }
        while (__atomic_load_n(&yard->begun, __ATOMIC_SEQ_CST) < 100 + 37 * (uint64_t)round)
            sched_yield();
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        memset(&world->left, 0, sizeof world->left);
        struct sp_holdings successor;
        open_slot(world, 0, &successor);
        /* Killed between an end, or a beginning, and its being counted: one more or less. */
        assert_in_range(yard->ended + world->left.records + 1, yard->begun, yard->begun + 2);
        assert_int_equal(world->left.reserved, world->left.records);
    }
    munmap(yard, sizeof *yard);
}

static void the_key_of_an_item_is_known_until_the_record_is_used_again(void **state) {
    struct world *world = *state;
    struct sp_holding *holding = sp_holding_begin(&world->mine);
    struct sp_holding_item place = item(SP_HELD_PLACE, 7, ""), tokens = item(SP_HELD_REDIS, 0, "first:{s=alice}:t");
    assert_true(sp_holding_note(holding, &place, 1));
    assert_true(sp_holding_count(holding, 1, 0));
    assert_int_equal(sp_holding_counted(holding), 1);
    assert_true(sp_holding_note(holding, &tokens, 1));
    assert_int_equal(sp_holding_counted(holding), 1);
    assert_true(sp_holding_count(holding, 1, 5));
    assert_int_equal(sp_holding_counted(holding), 2);
    assert_true(sp_holding_end(&world->mine, holding));
    assert_true(sp_span_eq(sp_holding_key(holding, 1), SP_SPAN("first:{s=alice}:t")));
    assert_int_equal(sp_holding_key(holding, 0).len, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_has_ended_is_left_to_nobody),
        TEST(a_successor_settles_what_its_predecessor_left),
        TEST(a_sibling_settles_for_a_worker_that_is_silent_and_for_no_other),
        TEST(after_a_stop_of_all_nobody_settles_for_who_goes_on_too),
        TEST(after_a_stop_of_all_who_stays_silent_is_settled_for_a_round_later),
        TEST(a_successor_settles_what_is_its_own_at_once_and_for_others_a_round_later),
        TEST(a_worker_that_comes_back_finds_that_it_holds_nothing),
        TEST(more_that_a_request_holds_is_left_together_with_the_rest),
        TEST(what_does_not_fit_is_not_written_down),
        TEST(what_is_noted_and_not_counted_is_not_held),
        TEST(as_many_as_there_is_room_for_are_written_down_and_room_is_used_again),
        TEST(each_record_is_let_go_of_once),
        TEST(after_a_kill_what_was_taken_is_what_was_ended_or_left),
        TEST(the_key_of_an_item_is_known_until_the_record_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
