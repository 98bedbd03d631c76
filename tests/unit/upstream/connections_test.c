/* Connections: kept, lent again, and given up when they are of no more use. */
#include "scene.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <unistd.h>

/* ---- Kept ---- */

static void a_kept_connection_is_used_again_last_used_first(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request first = {0}, second = {0}, again = {0};
    request_open(&scene, &first);
    request_open(&scene, &second);
    struct sp_backend *early = first.backend, *late = second.backend;
    assert_false(sp_backend_reused(late));
    request_keep(&first);
    request_keep(&second);
    request_open(&scene, &again);
    assert_ptr_equal(again.backend, late);
    assert_true(sp_backend_reused(late));
    assert_int_equal(again.calls, 0); /* open at once: there is nothing to wait for */
    request_open(&scene, &first);
    assert_ptr_equal(first.backend, early);
    assert_int_equal(sp_upstreams_opened(scene.upstreams), 2);
    request_close(&first);
    request_close(&again);
    scene_close(&scene);
}

static void a_connection_lent_again_carries_bytes_to_its_new_owner(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request first = {0}, second = {0};
    int peer = request_begin(&scene, &first, 0);
    request_keep(&first);
    request_open(&scene, &second);
    assert_int_equal(sp_buffer_len(sp_backend_in(second.backend)), 0);
    unsigned told = first.calls;
    assert_int_equal(send(peer, "answer", 6, MSG_NOSIGNAL), 6);
    turn_until(&scene, second.seen & SP_READY_READ);
    char got[16];
    assert_int_equal(sp_transport_read(sp_backend_transport(second.backend), got, sizeof got), 6);
    assert_memory_equal(got, "answer", 6);
    assert_int_equal(first.calls, told);
    request_close(&second);
    scene_close(&scene);
}

static void a_connection_that_the_server_closed_while_idle_is_not_lent(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "connections: 1");
    struct request request = {0};
    int peer = request_begin(&scene, &request, 0);
    request_keep(&request);
    check(shutdown(peer, SHUT_WR));
    assert_int_equal(scene_ended(&scene, peer), 0);
    request_open(&scene, &request);
    assert_false(sp_backend_reused(request.backend));
    assert_int_equal(sp_upstreams_opened(scene.upstreams), 2);
    request_close(&request);
    scene_close(&scene);
}

static void bytes_on_an_idle_connection_make_it_useless(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request request = {0};
    int peer = request_begin(&scene, &request, 0);
    request_keep(&request);
    assert_int_equal(send(peer, "HTTP/1.1 200 OK\r\n", 17, MSG_NOSIGNAL), 17);
    assert_int_equal(scene_ended(&scene, peer), -ECONNRESET); /* bytes that nobody read: TCP says so */
    request_open(&scene, &request);
    assert_false(sp_backend_reused(request.backend));
    request_close(&request);
    scene_close(&scene);
}

struct arrival {
    struct sp_watch watch; /* becomes ready before what the server says on the idle connection does */
    struct scene *scene;
    struct request request;
};

static void request_arrives(struct sp_watch *watch, uint32_t events) {
    struct arrival *arrival = SP_CONTAINER(watch, struct arrival, watch);
    sp_watch_stop(arrival->scene->loop, watch);
    assert_true(request_take(arrival->scene, &arrival->request));
}

static void what_this_turn_has_not_come_to_yet_counts_too(void **state) {
    struct scene scene;
    struct arrival arrival = {.watch.ready = request_arrives, .scene = &scene};
    int pipe_fds[2];
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request request = {0};
    int peer = request_begin(&scene, &request, 0);
    struct sp_backend *kept = request.backend;
    request_keep(&request);
    check(pipe(pipe_fds));
    check(sp_watch_start(scene.loop, &arrival.watch, pipe_fds[0], EPOLLIN));
    check(sp_loop_turn(scene.loop, 0)); /* it has rested */
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    assert_int_equal(send(peer, "HTTP/1.1 200 OK\r\n", 17, MSG_NOSIGNAL), 17);
    check(sp_loop_turn(scene.loop, 1000)); /* both in one turn, in this order */
    assert_ptr_not_equal(arrival.request.backend, kept);
    assert_int_equal(sp_upstreams_opened(scene.upstreams), 2);
    request_close(&arrival.request);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    scene_close(&scene);
}

struct crowd {
    struct arrival arrival; /* the first of them */
    struct sp_watch other[255];
    int fds[256][2];
};

static void nothing_happens(struct sp_watch *watch, uint32_t events) { (void)!watch, (void)!events; }

/* Of more than 256 that are ready a turn is told of 256. */
static void what_a_turn_was_not_told_of_counts_too(void **state) {
    struct scene scene;
    static struct crowd crowd;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request request = {0};
    int peer = request_begin(&scene, &request, 0);
    struct sp_backend *kept = request.backend;
    request_keep(&request);
    crowd = (struct crowd){.arrival = {.watch.ready = request_arrives, .scene = &scene}};
    for (size_t i = 0; i < SP_COUNT(crowd.fds); i++) {
        struct sp_watch *watch = i ? &crowd.other[i - 1] : &crowd.arrival.watch;
        if (i)
            watch->ready = nothing_happens;
        check(pipe(crowd.fds[i]));
        check(sp_watch_start(scene.loop, watch, crowd.fds[i][0], EPOLLIN | EPOLLET));
    }
    check(sp_loop_turn(scene.loop, 0)); /* it has rested */
    for (size_t i = 0; i < SP_COUNT(crowd.fds); i++)
        assert_int_equal(write(crowd.fds[i][1], "x", 1), 1);
    assert_int_equal(send(peer, "HTTP/1.1 200 OK\r\n", 17, MSG_NOSIGNAL), 17);
    check(sp_loop_turn(scene.loop, 1000));
    assert_non_null(crowd.arrival.request.backend);
    assert_ptr_not_equal(crowd.arrival.request.backend, kept);
    request_close(&crowd.arrival.request);
    for (size_t i = 0; i < SP_COUNT(crowd.fds); i++) {
        if (i)
            sp_watch_stop(scene.loop, &crowd.other[i - 1]);
        close(crowd.fds[i][0]);
        close(crowd.fds[i][1]);
    }
    scene_close(&scene);
}

static void of_kept_connections_those_that_have_rested_come_first(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request first = {0}, second = {0}, again = {0};
    request_open(&scene, &first);
    request_open(&scene, &second);
    struct sp_backend *rested = first.backend, *fresh = second.backend;
    request_keep(&first);
    check(sp_loop_turn(scene.loop, 0));
    request_keep(&second);
    assert_true(request_take(&scene, &again));
    assert_ptr_equal(again.backend, rested);
    assert_true(request_take(&scene, &first));
    assert_ptr_equal(first.backend, fresh); /* the kernel was asked about it */
    request_close(&first);
    request_close(&again);
    scene_close(&scene);
}

static void a_connection_with_bytes_left_over_is_not_kept(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request request = {0};
    int peer = request_begin(&scene, &request, 0);
    check(sp_buffer_append(sp_backend_in(request.backend), "more", 4)); /* read, but not part of the answer */
    request_keep(&request);
    assert_int_equal(scene_ended(&scene, peer), 0);

    peer = request_begin(&scene, &request, 0);
    assert_int_equal(send(peer, "more", 4, MSG_NOSIGNAL), 4); /* not even read */
    turn_until(&scene, request.seen & SP_READY_READ);
    request_keep(&request);
    assert_int_equal(scene_ended(&scene, peer), -ECONNRESET);

    request_open(&scene, &request);
    assert_false(sp_backend_reused(request.backend));
    request_close(&request);
    scene_close(&scene);
}

static void a_connection_that_never_opened_is_not_kept(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request request = {0};
    assert_true(request_take(&scene, &request)); /* the loop has not turned: it is still connecting */
    request_keep(&request);
    assert_true(request_take(&scene, &request));
    assert_false(sp_backend_reused(request.backend));
    request_close(&request);
    assert_int_equal(scene_ended(&scene, scene_accept(&scene, 0)), 0);
    scene_close(&scene);
}

static void a_connection_that_nobody_needs_is_closed_after_a_minute(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request first = {0}, second = {0};
    int one = request_begin(&scene, &first, 0), other = request_begin(&scene, &second, 0);
    request_keep(&first);
    scene_later(&scene, 30000);
    request_keep(&second);
    scene_later(&scene, 36000);
    assert_int_equal(scene_ended(&scene, one), 0);
    assert_true(scene_is_alive(other));
    scene_later(&scene, 60000);
    assert_int_equal(scene_ended(&scene, other), 0);
    scene_close(&scene);
}

static void idle_connections_close_when_the_probes_of_their_server_fail(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "health: {path: /h}");
    struct request idle = {0}, lent = {0};
    int idle_peer = request_begin(&scene, &idle, 0), lent_peer = request_begin(&scene, &lent, 0);
    request_keep(&idle);
    sp_upstreams_health(scene.upstreams, scene_slot(&scene, 0), false);
    assert_int_equal(scene_ended(&scene, idle_peer), 0);
    assert_true(scene_is_alive(lent_peer)); /* a request under way may still end well */
    request_keep(&lent);
    assert_int_equal(scene_ended(&scene, lent_peer), 0);
    scene_close(&scene);
}

/* ---- Opened ---- */

static void fresh_only_opens_a_new_connection(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request kept = {0}, fresh = {.tried.fresh_only = true};
    int peer = request_begin(&scene, &kept, 0);
    request_keep(&kept);
    request_open(&scene, &fresh);
    assert_false(sp_backend_reused(fresh.backend));
    assert_true(scene_is_alive(peer));
    assert_int_equal(sp_upstreams_opened(scene.upstreams), 2);
    request_close(&fresh);
    scene_close(&scene);
}

static void fresh_only_takes_the_place_of_the_connection_idle_longest_where_there_is_no_other(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "connections: 2");
    struct request first = {0}, second = {0}, fresh = {.tried.fresh_only = true};
    int early = request_begin(&scene, &first, 0), late = request_begin(&scene, &second, 0);
    request_keep(&first);
    request_keep(&second);
    request_open(&scene, &fresh);
    assert_false(sp_backend_reused(fresh.backend));
    assert_int_equal(scene_ended(&scene, early), 0);
    assert_true(scene_is_alive(late));
    request_close(&fresh);
    scene_close(&scene);
}

static void a_refused_connection_reports_failed(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    sp_close_fd(&scene.listener[0]);
    struct request request = {0};
    assert_true(request_take(&scene, &request));
    assert_int_equal(request.calls, 0); /* never from inside the call */
    turn_until(&scene, request.seen);
    assert_int_equal(request.seen, SP_READY_FAILED);
    assert_false(sp_backend_timed_out(request.backend));
    assert_string_not_equal(sp_transport_problem(sp_backend_transport(request.backend)), "");
    scene_later(&scene, 60000); /* long past connect_timeout: it was said once */
    assert_int_equal(request.calls, 1);
    request_close(&request);
    scene_close(&scene);
}

/* A server that answers no SYN: its queue is full, and it accepts nobody. */
static void make_deaf(struct scene *scene, unsigned server, int *fds, unsigned n_fds) {
    check(listen(scene->listener[server], 0));
    const struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(scene->port[server]), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (unsigned i = 0; i < n_fds; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(fds[i] >= 0);
        (void)connect(fds[i], (const struct sockaddr *)&to, sizeof to);
    }
}

static void a_connection_that_does_not_open_in_time_reports_failed_and_that_it_was_time(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "connect_timeout: 2s");
    int queued[8];
    make_deaf(&scene, 0, queued, SP_COUNT(queued));
    struct request request = {0};
    assert_true(request_take(&scene, &request));
    scene_later(&scene, 1900);
    assert_int_equal(request.calls, 0);
    scene_later(&scene, 200);
    assert_int_equal(request.seen, SP_READY_FAILED);
    assert_true(sp_backend_timed_out(request.backend));
    /* What becomes of the socket later is nobody's news. */
    (void)shutdown(sp_transport_fd(sp_backend_transport(request.backend)), SHUT_RDWR);
    for (int i = 0; i < 5; i++)
        check(sp_loop_turn(scene.loop, 1));
    assert_int_equal(request.calls, 1);
    request_close(&request);
    for (unsigned i = 0; i < SP_COUNT(queued); i++)
        close(queued[i]);
    scene_close(&scene);
}

static void a_connection_that_opened_is_not_ended_by_connect_timeout(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "connect_timeout: 2s");
    struct request request = {0};
    int peer = request_begin(&scene, &request, 0);
    scene_later(&scene, 10000);
    assert_false(request.seen & SP_READY_FAILED);
    assert_false(sp_backend_timed_out(request.backend));
    assert_true(scene_is_alive(peer));
    request_close(&request);
    scene_close(&scene);
}

/* ---- Closed ---- */

static void a_backend_is_closed_in_order_or_with_a_reset_as_asked(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "");
    struct request request = {0};
    int peer = request_begin(&scene, &request, 0);
    sp_backend_close(sp_take(request.backend), false);
    assert_int_equal(scene_ended(&scene, peer), 0);
    peer = request_begin(&scene, &request, 0);
    sp_backend_close(sp_take(request.backend), true);
    assert_int_equal(scene_ended(&scene, peer), -ECONNRESET);
    sp_backend_close(NULL, true);
    scene_close(&scene);
}

static void a_closed_connection_makes_room_for_another(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0), "connections: 1");
    struct request first = {0}, second = {0};
    for (int i = 0; i < 5; i++) {
        request_open(&scene, &first);
        assert_false(request_take(&scene, &second));
        assert_int_equal(second.error, -EBUSY);
        request_close(&first);
    }
    scene_close(&scene);
}

static void freeing_the_upstreams_closes_what_is_idle_and_leaves_nothing(void **state) {
    struct scene scene;
    scene_open(&scene);
    scene_configure(&scene, AT(0) ", " AT(1), "balance: round_robin");
    struct request request[6] = {0};
    int peer[6];
    for (unsigned i = 0; i < 6; i++)
        peer[i] = request_begin(&scene, &request[i], i % 2);
    for (unsigned i = 0; i < 6; i++)
        request_keep(&request[i]);
    sp_upstreams_free(sp_take(scene.upstreams));
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(scene_ended(&scene, peer[i]), 0);
    sp_upstreams_free(NULL);
    scene_close(&scene);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kept_connection_is_used_again_last_used_first),
        cmocka_unit_test(a_connection_lent_again_carries_bytes_to_its_new_owner),
        cmocka_unit_test(a_connection_that_the_server_closed_while_idle_is_not_lent),
        cmocka_unit_test(bytes_on_an_idle_connection_make_it_useless),
        cmocka_unit_test(what_this_turn_has_not_come_to_yet_counts_too),
        cmocka_unit_test(what_a_turn_was_not_told_of_counts_too),
        cmocka_unit_test(of_kept_connections_those_that_have_rested_come_first),
        cmocka_unit_test(a_connection_with_bytes_left_over_is_not_kept),
        cmocka_unit_test(a_connection_that_never_opened_is_not_kept),
        cmocka_unit_test(a_connection_that_nobody_needs_is_closed_after_a_minute),
        cmocka_unit_test(idle_connections_close_when_the_probes_of_their_server_fail),
        cmocka_unit_test(fresh_only_opens_a_new_connection),
        cmocka_unit_test(fresh_only_takes_the_place_of_the_connection_idle_longest_where_there_is_no_other),
        cmocka_unit_test(a_refused_connection_reports_failed),
        cmocka_unit_test(a_connection_that_does_not_open_in_time_reports_failed_and_that_it_was_time),
        cmocka_unit_test(a_connection_that_opened_is_not_ended_by_connect_timeout),
        cmocka_unit_test(a_backend_is_closed_in_order_or_with_a_reset_as_asked),
        cmocka_unit_test(a_closed_connection_makes_room_for_another),
        cmocka_unit_test(freeing_the_upstreams_closes_what_is_idle_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
