#include "support.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LISTENER 3
#define MANY     1000000

static const struct sp_hash_key key = {0x0123456789abcdef, 0xfedcba9876543210};

struct fixture {
    void *segment;
    struct sp_traffic *a, *b; /* two workers */
};

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    f->segment = mmap(NULL, sp_traffic_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(f->segment, MAP_FAILED);
    check(sp_traffic_open(f->segment, 0, &key, &f->a));
    check(sp_traffic_open(f->segment, 5, &key, &f->b));
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    sp_traffic_free(f->a);
    sp_traffic_free(f->b);
    munmap(f->segment, sp_traffic_segment_size());
    free(f);
    return 0;
}

static const uint8_t *address(const char *literal) {
    static uint8_t bytes[16];
    assert_true(sp_address_parse(sp_span_text(literal), bytes));
    return bytes;
}

static const uint8_t *numbered(unsigned n) {
    char text[32];
    (void)snprintf(text, sizeof text, "10.%u.%u.%u", n >> 16 & 255, n >> 8 & 255, n & 255);
    return address(text);
}

static void the_cap_of_a_listener_holds_over_workers(void **state) {
    struct fixture *f = *state;
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(1), 3, MANY), SP_TRAFFIC_OK);
    assert_int_equal(sp_traffic_enter(f->b, LISTENER, numbered(2), 3, MANY), SP_TRAFFIC_OK);
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(3), 3, MANY), SP_TRAFFIC_OK);
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(4), 3, MANY), SP_TRAFFIC_FULL);
    assert_int_equal(sp_traffic_enter(f->b, LISTENER, numbered(4), 3, MANY), SP_TRAFFIC_FULL);
    assert_int_equal(sp_traffic_enter(f->b, LISTENER + 1, numbered(4), 3, MANY), SP_TRAFFIC_OK); /* another listener */
    assert_int_equal(sp_traffic_connections(f->a, LISTENER), 3);                                 /* who was refused is not counted */
    sp_traffic_leave(f->b, LISTENER, numbered(2));
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(4), 3, MANY), SP_TRAFFIC_OK);
}

static void the_cap_of_an_address_holds_over_workers(void **state) {
    struct fixture *f = *state;
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(1), MANY, 2), SP_TRAFFIC_OK);
    assert_int_equal(sp_traffic_enter(f->b, LISTENER, numbered(1), MANY, 2), SP_TRAFFIC_OK);
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(1), MANY, 2), SP_TRAFFIC_ADDRESS_FULL);
    assert_int_equal(sp_traffic_enter(f->b, LISTENER, numbered(1), MANY, 2), SP_TRAFFIC_ADDRESS_FULL);
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(2), MANY, 2), SP_TRAFFIC_OK);
    sp_traffic_leave(f->b, LISTENER, numbered(1));
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(1), MANY, 2), SP_TRAFFIC_OK);
}

static void an_ipv6_subscriber_is_its_64(void **state) {
    struct fixture *f = *state;
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, address("2001:db8:1:2::1"), MANY, 1), SP_TRAFFIC_OK);
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, address("2001:db8:1:2:ffff::9"), MANY, 1), SP_TRAFFIC_ADDRESS_FULL);
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, address("2001:db8:1:3::1"), MANY, 1), SP_TRAFFIC_OK);
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, address("192.0.2.1"), MANY, 1), SP_TRAFFIC_OK);
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, address("192.0.2.2"), MANY, 1), SP_TRAFFIC_OK); /* not one /64 of mapped ones */
}

static void a_killed_workers_share_disappears_when_its_slot_begins_anew(void **state) {
    struct fixture *f = *state;
    assert_int_equal(sp_traffic_enter(f->b, LISTENER, numbered(1), 1, 1), SP_TRAFFIC_OK);
    sp_traffic_server_add(f->b, 7, 1);
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(1), 1, 1), SP_TRAFFIC_FULL);
    sp_traffic_free(f->b); /* as if killed: nothing is given back */
    check(sp_traffic_open(f->segment, 5, &key, &f->b));
    assert_int_equal(sp_traffic_connections(f->a, LISTENER), 0);
    assert_int_equal(sp_traffic_server_in_flight(f->a, 7), 0);
    assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(1), 1, 1), SP_TRAFFIC_OK);
}

static void what_a_dead_worker_held_is_free_before_its_slot_is_used_again(void **state) {
    int fd = memfd_create("traffic", MFD_CLOEXEC);
    assert_true(fd >= 0);
    check(ftruncate(fd, (off_t)sp_traffic_segment_size()));
    void *segment = mmap(NULL, sp_traffic_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    assert_ptr_not_equal(segment, MAP_FAILED);
    struct sp_traffic *lives = NULL, *dies = NULL;
    check(sp_traffic_open(segment, 0, &key, &lives));
    check(sp_traffic_open(segment, 63, &key, &dies));
    assert_int_equal(sp_traffic_enter(dies, LISTENER, numbered(1), 1, 1), SP_TRAFFIC_OK);
    sp_traffic_server_add(dies, 7, 1);
    sp_traffic_server_add(lives, 7, 1);
    assert_true(sp_traffic_wait(dies, 5, 1));
    sp_traffic_tell_next(dies, 5, 77);
    sp_traffic_free(dies);
    sp_traffic_worker_gone(fd, 63);
    sp_traffic_worker_gone(fd, SP_WORKERS_MAX); /* no slot at all */
    assert_int_equal(sp_traffic_connections(lives, LISTENER), 0);
    assert_int_equal(sp_traffic_server_in_flight(lives, 7), 1);
    assert_int_equal(sp_traffic_waiting(lives, 5), 0);
    assert_int_equal(sp_traffic_next_of(lives, 63, 5), 0);
    assert_int_equal(sp_traffic_enter(lives, LISTENER, numbered(1), 1, 1), SP_TRAFFIC_OK);
    sp_traffic_leave(lives, LISTENER, numbered(1));
    check(sp_traffic_open(segment, 63, &key, &dies)); /* and its successor begins with nothing */
    assert_int_equal(sp_traffic_server_in_flight(lives, 7), 1);
    assert_int_equal(sp_traffic_connections(lives, LISTENER), 0);
    sp_traffic_free(dies);
    sp_traffic_free(lives);
    munmap(segment, sp_traffic_segment_size());
    close(fd);
}

static void requests_in_flight_are_summed_over_workers(void **state) {
    struct fixture *f = *state;
    sp_traffic_server_add(f->a, 511, 1);
    sp_traffic_server_add(f->b, 511, 1);
    sp_traffic_server_add(f->b, 511, 1);
    assert_int_equal(sp_traffic_server_in_flight(f->a, 511), 3);
    sp_traffic_server_add(f->b, 511, -1);
    assert_int_equal(sp_traffic_server_in_flight(f->b, 511), 2);
    assert_int_equal(sp_traffic_server_in_flight(f->b, 510), 0);
}

/* ---- Requests that wait ---- */

#define POOL 127

static void places_to_wait_are_bounded_over_workers(void **state) {
    struct fixture *f = *state;
    assert_true(sp_traffic_wait(f->a, POOL, 2));
    assert_true(sp_traffic_wait(f->b, POOL, 2));
    assert_false(sp_traffic_wait(f->a, POOL, 2));
    assert_false(sp_traffic_wait(f->b, POOL, 2));
    assert_true(sp_traffic_wait(f->b, POOL - 1, 1)); /* another pool */
    assert_int_equal(sp_traffic_waiting(f->a, POOL), 2);
    sp_traffic_waits_no_more(f->b, POOL);
    assert_true(sp_traffic_wait(f->a, POOL, 2));
    assert_int_equal(sp_traffic_waiting(f->b, POOL), 2);
}

static void every_worker_is_told_whom_the_others_would_serve_next(void **state) {
    struct fixture *f = *state;
    sp_traffic_tell_next(f->a, POOL, 77);
    assert_int_equal(sp_traffic_workers(f->a), 6);
    assert_int_equal(sp_traffic_next_of(f->b, 0, POOL), 77);
    assert_int_equal(sp_traffic_next_of(f->b, 0, POOL - 1), 0);
    assert_int_equal(sp_traffic_next_of(f->a, 0, POOL), 0); /* its own is no other's */
    assert_int_equal(sp_traffic_next_of(f->a, 3, POOL), 0); /* no worker was ever there */
    sp_traffic_free(f->a);
    check(sp_traffic_open(f->segment, 0, &key, &f->a));
    assert_int_equal(sp_traffic_next_of(f->b, 0, POOL), 0);
}

static void a_turn_had_in_one_worker_is_known_in_all(void **state) {
    struct fixture *f = *state;
    uint64_t who = UINT64_C(0xabcd000000001234), alike = UINT64_C(0x1111000000001234); /* the same place */
    assert_int_equal(sp_traffic_last_turn(f->b, who), 0);
    sp_traffic_turn(f->a, who, 1000001);
    assert_int_equal(sp_traffic_last_turn(f->b, who), 1000001);
    assert_int_equal(sp_traffic_last_turn(f->b, alike), 0);
    sp_traffic_turn(f->b, alike, 1000002);
    assert_int_equal(sp_traffic_last_turn(f->a, who), 0); /* forgotten, never mistaken */
    assert_int_equal(sp_traffic_hash(f->a, SP_SPAN("x")), sp_traffic_hash(f->b, SP_SPAN("x")));
}

static void a_count_never_wraps_below_zero(void **state) {
    struct fixture *f = *state;
    sp_traffic_leave(f->a, LISTENER, numbered(1));
    sp_traffic_server_add(f->a, 0, -1);
    sp_traffic_waits_no_more(f->a, POOL);
    assert_int_equal(sp_traffic_waiting(f->a, POOL), 0);
    assert_int_equal(sp_traffic_connections(f->a, LISTENER), 0);
    assert_int_equal(sp_traffic_server_in_flight(f->a, 0), 0);
}

static void twenty_thousand_addresses_are_all_counted_and_all_forgotten(void **state) {
    struct fixture *f = *state;
    enum { N = 20000 };
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(sp_traffic_enter(f->a, LISTENER, numbered(i), MANY, 1), SP_TRAFFIC_OK);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(sp_traffic_enter(f->b, LISTENER, numbered(i), MANY, 1), SP_TRAFFIC_ADDRESS_FULL);
    for (unsigned i = 0; i < N; i++)
        sp_traffic_leave(f->a, LISTENER, numbered(i));
    assert_int_equal(sp_traffic_connections(f->b, LISTENER), 0);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(sp_traffic_enter(f->b, LISTENER, numbered(i), MANY, 1), SP_TRAFFIC_OK);
}

static void places_of_those_who_left_serve_others(void **state) {
    struct fixture *f = *state;
    /* Ten times as many as there are places, one after the other: nobody is refused for want of a place. */
    for (unsigned i = 0; i < 655360; i++) {
        if (sp_traffic_enter(f->a, LISTENER, numbered(i), MANY, 1) != SP_TRAFFIC_OK)
            fail_msg("number %u was refused", i);
        sp_traffic_leave(f->a, LISTENER, numbered(i));
    }
}

static void who_cannot_be_counted_is_not_let_in(void **state) {
    struct fixture *f = *state;
    unsigned in = 0;
    for (unsigned i = 0; i < 70000; i++)
        in += sp_traffic_enter(f->a, LISTENER, numbered(i), MANY, 1) == SP_TRAFFIC_OK;
    assert_true(in > 60000 && in <= 65536);
    assert_int_equal(sp_traffic_connections(f->a, LISTENER), in);
}

#define CAP 3

/* One worker that comes and goes 50,000 times. `inside` is how many really are at once, over all of them. */
static int come_and_go(void *segment, unsigned slot, _Atomic int *inside, _Atomic int *entered) {
    struct sp_traffic *traffic = NULL;
    if (sp_traffic_open(segment, slot, &key, &traffic) < 0)
        return 2;
    const uint8_t *who = numbered(1);
    int worst = 0;
    for (int i = 0; i < 50000; i++) {
        bool by_address = i % 2;
        if (sp_traffic_enter(traffic, LISTENER, who, by_address ? MANY : CAP, by_address ? CAP : MANY) != SP_TRAFFIC_OK)
            continue;
        int now = atomic_fetch_add(inside, 1) + 1;
        worst = sp_max(worst, now);
        atomic_fetch_add(entered, 1);
        if (i % 16 == 0)
            (void)usleep(0); /* lets others come while this one is in */
        atomic_fetch_sub(inside, 1);
        sp_traffic_leave(traffic, LISTENER, who);
    }
    sp_traffic_free(traffic);
    return worst > CAP;
}

static void workers_that_race_never_exceed_a_cap(void **state) {
    struct fixture *f = *state;
    enum { WORKERS = 6 };
    _Atomic int *shared = mmap(NULL, 2 * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    pid_t children[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0)
            _exit(come_and_go(f->segment, 10 + i, &shared[0], &shared[1]));
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        int status = -1;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    assert_true(atomic_load(&shared[1]) > 0);
    assert_int_equal(sp_traffic_connections(f->a, LISTENER), 0);
    munmap(shared, 2 * sizeof *shared);
}

static void a_slot_beyond_the_last_is_refused(void **state) {
    struct fixture *f = *state;
    struct sp_traffic *traffic = NULL;
    assert_int_equal(sp_traffic_open(f->segment, SP_WORKERS_MAX, &key, &traffic), -EINVAL);
    assert_null(traffic);
    check(sp_traffic_open(f->segment, SP_WORKERS_MAX - 1, &key, &traffic));
    sp_traffic_server_add(traffic, 1, 1);
    assert_int_equal(sp_traffic_server_in_flight(f->a, 1), 1);
    sp_traffic_free(traffic);
}

#define with_workers(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_workers(the_cap_of_a_listener_holds_over_workers),
        with_workers(the_cap_of_an_address_holds_over_workers),
        with_workers(an_ipv6_subscriber_is_its_64),
        with_workers(a_killed_workers_share_disappears_when_its_slot_begins_anew),
        cmocka_unit_test(what_a_dead_worker_held_is_free_before_its_slot_is_used_again),
        with_workers(requests_in_flight_are_summed_over_workers),
        with_workers(places_to_wait_are_bounded_over_workers),
        with_workers(every_worker_is_told_whom_the_others_would_serve_next),
        with_workers(a_turn_had_in_one_worker_is_known_in_all),
        with_workers(a_count_never_wraps_below_zero),
        with_workers(twenty_thousand_addresses_are_all_counted_and_all_forgotten),
        with_workers(places_of_those_who_left_serve_others),
        with_workers(who_cannot_be_counted_is_not_let_in),
        with_workers(workers_that_race_never_exceed_a_cap),
        with_workers(a_slot_beyond_the_last_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
