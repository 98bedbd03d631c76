/* Channels over real socketpairs: what arrives, what is refused, whose descriptors are closed, and how they end. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sallyport/ipc.h>

struct ear { /* one end and what it heard */
    struct sp_channel *channel;
    unsigned messages, closes;
    int reason;
    enum sp_message_type type;
    char payload[256];
    size_t len, n_fds;
    bool take_fd, free_in_callback;
    int taken;
};

static struct sp_loop *loop;
static struct ear supervisor, worker;

static void heard(void *owner, struct sp_channel *channel, enum sp_message_type type, struct sp_span payload, int *fds, size_t n_fds) {
    struct ear *ear = owner;
    ear->messages++;
    ear->type = type;
    ear->len = payload.len;
    memcpy(ear->payload, payload.at, sp_min(payload.len, sizeof ear->payload));
    ear->n_fds = n_fds;
    assert_int_equal((uintptr_t)payload.at % 8, 0);
    if (ear->take_fd) {
        ear->taken = fds[0];
        fds[0] = -1;
    }
    if (ear->free_in_callback)
        sp_channel_free(sp_take(ear->channel));
}

static void closed(void *owner, struct sp_channel *channel, int reason) {
    struct ear *ear = owner;
    ear->closes++;
    ear->reason = reason;
    if (ear->free_in_callback)
        sp_channel_free(sp_take(ear->channel));
}

static const struct sp_channel_events events = {.message = heard, .closed = closed};

static int set_up(void **state) {
    int fds[2];
    supervisor = worker = (struct ear){.taken = -1};
    assert_int_equal(sp_loop_new(&loop), 0);
    assert_int_equal(sp_channel_pair(fds), 0);
    assert_int_equal(sp_channel_new(loop, fds[0], SP_ROLE_SUPERVISOR, SP_ROLE_WORKER, &events, &supervisor, &supervisor.channel), 0);
    assert_int_equal(sp_channel_new(loop, fds[1], SP_ROLE_WORKER, SP_ROLE_SUPERVISOR, &events, &worker, &worker.channel), 0);
    return 0;
}

static int tear_down(void **state) {
    sp_channel_free(supervisor.channel);
    sp_channel_free(worker.channel);
    sp_close_fd(&worker.taken);
    sp_loop_free(loop);
    return 0;
}

static void turn(void) { assert_int_equal(sp_loop_turn(loop, 0), 0); }

static unsigned open_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    unsigned n = 0;
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static int send_drain(uint64_t timeout_ms) {
    struct sp_msg_drain drain = {.timeout_ms = timeout_ms};
    return sp_channel_send(supervisor.channel, SP_MSG_DRAIN, &drain, sizeof drain, SP_SPAN(""), NULL, 0);
}

static int send_listener(int fd) {
    struct sp_msg_listener listener = {.slot = 3};
    return sp_channel_send(supervisor.channel, SP_MSG_LISTENER, &listener, sizeof listener, SP_SPAN(""), &fd, 1);
}

static void a_message_arrives_whole(void **state) {
    assert_int_equal(send_drain(1234), 0);
    turn();
    assert_int_equal(worker.messages, 1);
    assert_int_equal(worker.type, SP_MSG_DRAIN);
    struct sp_msg_drain drain;
    memcpy(&drain, worker.payload, sizeof drain);
    assert_int_equal(drain.timeout_ms, 1234);
}

static void text_follows_the_payload(void **state) {
    struct sp_msg_verdict verdict = {.generation = 7};
    struct sp_span sentence = SP_SPAN("a.yaml:1:2: no");
    assert_int_equal(sp_channel_send(worker.channel, SP_MSG_CONFIG_VERDICT, &verdict, sizeof verdict, sentence, NULL, 0), 0);
    turn();
    assert_int_equal(supervisor.len, sizeof verdict + sentence.len);
    assert_memory_equal(supervisor.payload + sizeof verdict, sentence.at, sentence.len);
}

static void a_passed_descriptor_works_and_is_close_on_exec(void **state) {
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    worker.take_fd = true;
    assert_int_equal(send_listener(pipe_fds[1]), 0);
    close(pipe_fds[1]);
    turn();
    assert_int_equal(worker.n_fds, 1);
    assert_int_equal(fcntl(worker.taken, F_GETFD), FD_CLOEXEC);
    assert_int_equal(write(worker.taken, "!", 1), 1);
    char byte = 0;
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    assert_int_equal(byte, '!');
    close(pipe_fds[0]);
}

static void a_descriptor_nobody_takes_is_closed(void **state) {
    unsigned before = open_descriptors();
    assert_int_equal(send_listener(STDERR_FILENO), 0);
    turn();
    assert_int_equal(worker.messages, 1);
    assert_int_equal(open_descriptors(), before);
}

static void a_message_of_the_wrong_direction_is_not_sent(void **state) {
    struct sp_msg_drain drain = {0};
    assert_int_equal(sp_channel_send(worker.channel, SP_MSG_DRAIN, &drain, sizeof drain, SP_SPAN(""), NULL, 0), -EPROTO);
    assert_int_equal(sp_channel_send(supervisor.channel, SP_MSG_HEARTBEAT, NULL, 0, SP_SPAN(""), NULL, 0), -EPROTO);
    assert_int_equal(sp_channel_send(supervisor.channel, SP_MSG_DRAIN, &drain, sizeof drain - 1, SP_SPAN(""), NULL, 0), -EPROTO);
    assert_int_equal(sp_channel_send(supervisor.channel, SP_MSG_DRAIN, &drain, sizeof drain, SP_SPAN("x"), NULL, 0), -EPROTO);
    int fd = STDERR_FILENO;
    assert_int_equal(sp_channel_send(supervisor.channel, SP_MSG_DRAIN, &drain, sizeof drain, SP_SPAN(""), &fd, 1), -EPROTO);
    assert_int_equal(sp_channel_send(supervisor.channel, SP_MSG_COUNT, &drain, sizeof drain, SP_SPAN(""), NULL, 0), -EPROTO);
    turn();
    assert_int_equal(worker.messages + supervisor.messages + worker.closes + supervisor.closes, 0);
}

/* Writes to the worker's channel past our own checks, as a subverted peer would. */
static int raw_end(void) {
    int fds[2];
    sp_channel_free(sp_take(worker.channel));
    turn(); /* the other end notices, and closes */
    assert_int_equal(sp_channel_pair(fds), 0);
    assert_int_equal(sp_channel_new(loop, fds[1], SP_ROLE_WORKER, SP_ROLE_SUPERVISOR, &events, &worker, &worker.channel), 0);
    return fds[0];
}

static void a_peer_that_says_what_it_may_not_ends_the_channel(void **state) {
    _cleanup_(sp_close_fd) int raw = raw_end();
    struct sp_frame_header heartbeat = {.type = SP_MSG_HEARTBEAT};
    assert_int_equal(send(raw, &heartbeat, sizeof heartbeat, 0), sizeof heartbeat);
    turn();
    assert_int_equal(worker.messages, 0);
    assert_int_equal(worker.closes, 1);
    assert_int_equal(worker.reason, -EBADMSG);
    assert_int_equal(sp_channel_send(worker.channel, SP_MSG_HEARTBEAT, NULL, 0, SP_SPAN(""), NULL, 0), -EPIPE);
    turn();
    assert_int_equal(worker.closes, 1);
}

static void descriptors_of_a_refused_message_are_closed(void **state) {
    _cleanup_(sp_close_fd) int raw = raw_end();
    unsigned before = open_descriptors();
    struct sp_frame_header header = {.type = SP_MSG_HEARTBEAT};
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr aligned;
    } control = {0};
    struct iovec piece = {.iov_base = &header, .iov_len = sizeof header};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(c), (int[]){STDOUT_FILENO, STDERR_FILENO}, 2 * sizeof(int));
    assert_int_equal(sendmsg(raw, &message, 0), sizeof header);
    turn();
    assert_int_equal(worker.reason, -EBADMSG);
    assert_int_equal(open_descriptors(), before - 1); /* the channel's own is closed, too */
}

static void a_frame_longer_than_any_ends_the_channel(void **state) {
    _cleanup_(sp_close_fd) int raw = raw_end();
    static char huge[SP_MESSAGE_MAX + 1];
    assert_int_equal(send(raw, huge, sizeof huge, 0), sizeof huge);
    turn();
    assert_int_equal(worker.reason, -EBADMSG);
}

static void what_the_peer_said_before_it_left_is_heard(void **state) {
    assert_int_equal(send_drain(1), 0);
    assert_int_equal(send_drain(2), 0);
    /* Something unread on the other side turns the end into a reset, which must not overtake what was said. */
    assert_int_equal(sp_channel_send(worker.channel, SP_MSG_HEARTBEAT, NULL, 0, SP_SPAN(""), NULL, 0), 0);
    sp_channel_free(sp_take(supervisor.channel));
    turn();
    turn();
    assert_int_equal(worker.messages, 2);
    assert_int_equal(worker.closes, 1);
    assert_int_equal(worker.reason, 0);
}

static void messages_wait_in_order_for_a_slow_peer(void **state) {
    /* Large ones, so that the kernel's buffer fills. */
    _cleanup_(sp_close_fd) int raw = -1;
    int fds[2];
    struct ear control = {.taken = -1};
    assert_int_equal(sp_channel_pair(fds), 0);
    raw = fds[1];
    assert_int_equal(sp_channel_new(loop, fds[0], SP_ROLE_SUPERVISOR, SP_ROLE_CONTROL, &events, &control, &control.channel), 0);
    static char text[60000];
    memset(text, 'x', sizeof text);
    enum { SENT = 40 };
    for (uint64_t id = 1; id <= SENT; id++) {
        struct sp_msg_admin_answer answer = {.id = id};
        struct sp_span lines = sp_span(text, sizeof text);
        assert_int_equal(sp_channel_send(control.channel, SP_MSG_ADMIN_ANSWER, &answer, sizeof answer, lines, NULL, 0), 0);
    }
    static _Alignas(8) char packet[SP_MESSAGE_MAX];
    uint64_t expected = 1;
    for (int turns = 0; turns < 200 && expected <= SENT; turns++) {
        while (recv(raw, packet, sizeof packet, MSG_DONTWAIT) > 0) {
            struct sp_msg_admin_answer answer;
            memcpy(&answer, packet + sizeof(struct sp_frame_header), sizeof answer);
            assert_int_equal(answer.id, expected++);
        }
        turn();
    }
    assert_int_equal(expected, SENT + 1);
    sp_channel_free(control.channel);
}

static void a_full_queue_refuses_and_leaks_nothing(void **state) {
    unsigned before = open_descriptors();
    int r = 0;
    unsigned sent = 0;
    for (; sent < 4096 && (r = send_listener(STDERR_FILENO)) == 0; sent++)
        ;
    assert_int_equal(r, -ENOBUFS);
    assert_true(sent >= SP_CHANNEL_QUEUE_MAX);
    for (unsigned turns = 0; turns < 4096 && worker.messages < sent; turns++)
        turn();
    assert_int_equal(worker.messages, sent);
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(send_drain(1), 0);
}

static void queued_descriptors_are_closed_with_the_channel(void **state) {
    unsigned before = open_descriptors();
    for (unsigned i = 0; i < 4096 && send_listener(STDERR_FILENO) == 0; i++)
        ;
    sp_channel_free(sp_take(supervisor.channel));
    sp_channel_free(sp_take(worker.channel));
    turn();
    assert_int_equal(open_descriptors(), before - 2);
}

static void sending_to_a_peer_that_left_says_so(void **state) {
    sp_channel_free(sp_take(worker.channel));
    assert_int_equal(send_drain(1), -EPIPE);
    assert_int_equal(supervisor.closes, 0); /* never from inside a send */
    turn();
    assert_int_equal(supervisor.closes, 1);
    assert_int_equal(supervisor.reason, 0);
}

static void what_waits_for_a_peer_that_left_is_dropped_and_closed(void **state) {
    unsigned before = open_descriptors();
    for (unsigned i = 0; i < 4096 && send_listener(STDERR_FILENO) == 0; i++)
        ;
    sp_channel_free(sp_take(worker.channel));
    for (unsigned turns = 0; turns < 16 && supervisor.closes == 0; turns++)
        turn();
    assert_int_equal(supervisor.closes, 1);
    assert_int_equal(supervisor.reason, 0);
    sp_channel_free(sp_take(supervisor.channel));
    turn();
    assert_int_equal(open_descriptors(), before - 2);
}

static void a_descriptor_that_is_none_is_not_queued(void **state) {
    while (send_listener(STDERR_FILENO) == 0)
        ; /* from here on messages wait */
    for (unsigned turns = 0; turns < 4096 && send_drain(1) < 0; turns++)
        turn();
    unsigned before = open_descriptors();
    int closed_fd = dup(STDERR_FILENO);
    close(closed_fd);
    assert_int_equal(send_listener(closed_fd), -EBADF);
    assert_int_equal(open_descriptors(), before);
}

static void a_channel_on_what_cannot_be_waited_for_is_not_made(void **state) {
    unsigned before = open_descriptors();
    struct sp_channel *none = NULL;
    int fd = memfd_create("no channel", MFD_CLOEXEC);
    assert_int_equal(sp_channel_new(loop, fd, SP_ROLE_SUPERVISOR, SP_ROLE_WORKER, &events, &supervisor, &none), -EPERM);
    assert_null(none);
    assert_int_equal(open_descriptors(), before); /* it took the descriptor, and closed it */
}

static void a_channel_may_be_freed_by_what_it_calls(void **state) {
    worker.free_in_callback = true;
    assert_int_equal(send_drain(1), 0);
    assert_int_equal(send_drain(2), 0);
    turn();
    assert_int_equal(worker.messages, 1);
    assert_null(worker.channel);
    supervisor.free_in_callback = true;
    turn();
    assert_int_equal(supervisor.closes, 1);
    assert_null(supervisor.channel);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_message_arrives_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(text_follows_the_payload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_passed_descriptor_works_and_is_close_on_exec, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_descriptor_nobody_takes_is_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_message_of_the_wrong_direction_is_not_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_peer_that_says_what_it_may_not_ends_the_channel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(descriptors_of_a_refused_message_are_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_frame_longer_than_any_ends_the_channel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_peer_said_before_it_left_is_heard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_wait_in_order_for_a_slow_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_queue_refuses_and_leaks_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(queued_descriptors_are_closed_with_the_channel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sending_to_a_peer_that_left_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_for_a_peer_that_left_is_dropped_and_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_descriptor_that_is_none_is_not_queued, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_channel_on_what_cannot_be_waited_for_is_not_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_channel_may_be_freed_by_what_it_calls, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
