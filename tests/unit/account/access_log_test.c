/* The access log's way to its reader: whole lines only, never waiting, what is dropped is counted. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <sallyport/account.h>

#define TEXT_MAX (1024 * 1024)

struct reader {
    char *text;
    size_t len;
};

static void read_all(int fd, struct reader *reader) {
    ssize_t n;
    while ((n = read(fd, reader->text + reader->len, TEXT_MAX - reader->len)) > 0)
        reader->len += (size_t)n;
}

static void non_blocking(int fd) { assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0); }

static void write_line(struct sp_access_log *log, const char *route, unsigned number) {
    char id[32];
    snprintf(id, sizeof id, "%s-%08u", route, number);
    struct sp_access_record record = {.request_id = sp_span_text(id), .route = sp_span_text(route), .status = 200, .first_byte_us = -1};
    sp_access_log_write(log, &record);
}

/* Every line begins and ends as a line does; the numbers of `route` rise. Returns how many lines there are of it. */
static unsigned check_lines(const struct reader *reader, const char *route) {
    struct sp_span rest = sp_span(reader->text, reader->len), line;
    unsigned count = 0;
    uint64_t last = 0;
    assert_true(reader->len == 0 || reader->text[reader->len - 1] == '\n');
    while (sp_span_split(&rest, '\n', &line)) {
        if (line.len == 0)
            continue;
        assert_true(sp_span_starts(line, SP_SPAN("{\"time\":\"")));
        assert_memory_equal(line.at + line.len - 17, "\"degraded\":false}", 17);
        assert_null(memmem(line.at + 1, line.len - 1, "{\"time\"", 7));
        char wanted[48];
        int len = snprintf(wanted, sizeof wanted, "\"request_id\":\"%s-", route);
        const char *id = memmem(line.at, line.len, wanted, (size_t)len);
        if (!id)
            continue;
        uint64_t number;
        assert_true(sp_span_u64(sp_span(id + len, 8), &number));
        assert_true(count == 0 || number > last);
        last = number;
        count++;
    }
    return count;
}

static void lines_wait_for_company_but_not_long(void **state) {
    struct reader reader = {.text = malloc(TEXT_MAX)};
    int fds[2];
    struct sp_loop *loop;
    struct sp_access_log *log;
    assert_int_equal(pipe(fds), 0);
    non_blocking(fds[0]);
    assert_int_equal(sp_loop_new(&loop), 0);
    assert_int_equal(sp_access_log_new(loop, fds[1], &log), 0);
    write_line(log, "chat", 1);
    assert_int_equal(sp_loop_turn(loop, 0), 0);
    read_all(fds[0], &reader);
    assert_int_equal(reader.len, 0);
    while (reader.len == 0) { /* its time comes by the timer alone */
        assert_int_equal(sp_loop_turn(loop, -1), 0);
        read_all(fds[0], &reader);
    }
    assert_int_equal(check_lines(&reader, "chat"), 1);
    for (unsigned i = 2; i < 30; i++) /* more than 4 KiB: it leaves with this turn */
        write_line(log, "chat", i);
    assert_int_equal(sp_loop_turn(loop, 0), 0);
    size_t before = reader.len;
    read_all(fds[0], &reader);
    assert_true(reader.len > before);
    check_lines(&reader, "chat");
    sp_access_log_free(log);
    read_all(fds[0], &reader);
    assert_int_equal(check_lines(&reader, "chat"), 29);
    sp_loop_free(loop);
    close(fds[0]);
    close(fds[1]);
    free(reader.text);
}

static void a_full_pipe_never_blocks_and_dropped_lines_are_counted(void **state) {
    enum { LINES = 3000 };
    struct reader reader = {.text = malloc(TEXT_MAX)};
    int fds[2];
    struct sp_loop *loop;
    struct sp_access_log *log;
    assert_int_equal(pipe(fds), 0);
    non_blocking(fds[0]);
    assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0); /* the log sees to that itself */
    assert_int_equal(sp_loop_new(&loop), 0);
    assert_int_equal(sp_access_log_new(loop, fds[1], &log), 0);
    for (unsigned i = 1; i <= LINES; i++) {
        write_line(log, "chat", i);
        if (i % 20 == 0)
            assert_int_equal(sp_loop_turn(loop, 0), 0);
    }
    assert_true(sp_access_log_dropped(log) > 0);
    size_t before;
    do { /* the reader is back: everything that was kept arrives */
        before = reader.len;
        read_all(fds[0], &reader);
        sp_access_log_flush(log);
        read_all(fds[0], &reader);
    } while (reader.len > before);
    assert_int_equal(check_lines(&reader, "chat") + sp_access_log_dropped(log), LINES);
    assert_true(reader.len > 256 * 1024); /* the ring's worth, and what the pipe held */
    write_line(log, "chat", LINES + 1);
    sp_access_log_free(log);
    read_all(fds[0], &reader);
    check_lines(&reader, "chat");
    sp_loop_free(loop);
    close(fds[0]);
    close(fds[1]);
    free(reader.text);
}

static void a_reader_that_comes_back_is_noticed_by_the_timer(void **state) {
    struct reader reader = {.text = malloc(TEXT_MAX)};
    int fds[2];
    struct sp_loop *loop;
    struct sp_access_log *log;
    assert_int_equal(pipe(fds), 0);
    non_blocking(fds[0]);
    assert_int_equal(sp_loop_new(&loop), 0);
    assert_int_equal(sp_access_log_new(loop, fds[1], &log), 0);
    for (unsigned i = 1; i <= 400; i++) /* more than the pipe holds, less than the ring */
        write_line(log, "chat", i);
    assert_int_equal(sp_loop_turn(loop, 0), 0);
    while (check_lines(&reader, "chat") < 400) { /* a timer runs as long as a line waits: no turn waits for ever */
        assert_int_equal(sp_loop_turn(loop, -1), 0);
        read_all(fds[0], &reader);
    }
    assert_int_equal(sp_access_log_dropped(log), 0);
    sp_access_log_free(log);
    sp_loop_free(loop);
    close(fds[0]);
    close(fds[1]);
    free(reader.text);
}

static int write_as_a_process(int fd, const char *route, unsigned lines) {
    struct sp_loop *loop;
    struct sp_access_log *log;
    if (sp_loop_new(&loop) < 0 || sp_access_log_new(loop, fd, &log) < 0)
        return 1;
    for (unsigned i = 1; i <= lines; i++) {
        write_line(log, route, i);
        if (i % 7 == 0 && sp_loop_turn(loop, 1) < 0)
            return 1;
    }
    for (unsigned i = 0; i < 1000; i++) { /* each time at least one batch leaves, unless the other one was quicker */
        struct pollfd room = {.fd = fd, .events = POLLOUT};
        poll(&room, 1, -1);
        sp_access_log_flush(log);
    }
    sp_access_log_free(log);
    sp_loop_free(loop);
    return 0;
}

static void check_two_writers(int reading, int writing) {
    enum { LINES = 300 };
    struct reader reader = {.text = malloc(TEXT_MAX)};
    pid_t pids[2];
    for (unsigned i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(write_as_a_process(writing, i ? "beta" : "alpha", LINES));
    }
    close(writing);
    read_all(reading, &reader);
    for (unsigned i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(check_lines(&reader, "alpha"), LINES);
    assert_int_equal(check_lines(&reader, "beta"), LINES);
    close(reading);
    free(reader.text);
}

static void lines_of_two_workers_never_mix_in_a_pipe(void **state) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    check_two_writers(fds[0], fds[1]);
}

static void lines_of_two_workers_never_mix_in_a_socket(void **state) {
    int fds[2]; /* what systemd gives as standard output */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    check_two_writers(fds[0], fds[1]);
}

static void a_reader_that_is_gone_costs_only_lines(void **state) {
    int fds[2];
    struct sp_loop *loop;
    struct sp_access_log *log;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    assert_int_equal(sp_loop_new(&loop), 0);
    assert_int_equal(sp_access_log_new(loop, fds[1], &log), 0);
    for (unsigned i = 1; i <= 3000; i++) {
        write_line(log, "chat", i);
        assert_int_equal(sp_loop_turn(loop, 0), 0);
    }
    assert_true(sp_access_log_dropped(log) > 0);
    sp_access_log_free(log);
    sp_loop_free(loop);
    close(fds[1]);
}

static int scratch_file(char name[32]) {
    snprintf(name, 32, "access-log-test-XXXXXX");
    int fd = mkostemp(name, O_APPEND);
    assert_true(fd >= 0);
    unlink(name);
    return fd;
}

static void after_reopening_lines_go_to_the_new_file_and_none_is_lost(void **state) {
    char name[32];
    struct reader old = {.text = malloc(TEXT_MAX)}, new = {.text = malloc(TEXT_MAX)};
    struct sp_loop *loop;
    struct sp_access_log *log;
    int old_fd = scratch_file(name), new_fd = scratch_file(name);
    assert_int_equal(sp_loop_new(&loop), 0);
    assert_int_equal(sp_access_log_new(loop, old_fd, &log), 0);
    for (unsigned i = 1; i <= 100; i++)
        write_line(log, "chat", i);
    sp_access_log_set_fd(log, new_fd);
    for (unsigned i = 101; i <= 150; i++)
        write_line(log, "chat", i);
    sp_access_log_free(log);
    lseek(old_fd, 0, SEEK_SET);
    lseek(new_fd, 0, SEEK_SET);
    read_all(old_fd, &old);
    read_all(new_fd, &new);
    assert_int_equal(check_lines(&old, "chat"), 100);
    assert_int_equal(check_lines(&new, "chat"), 50);
    sp_loop_free(loop);
    close(old_fd);
    close(new_fd);
    free(old.text);
    free(new.text);
}

static void what_a_full_pipe_kept_goes_to_the_new_file_in_whole_lines(void **state) {
    char name[32];
    int fds[2], new_fd = scratch_file(name);
    struct reader old = {.text = malloc(TEXT_MAX)}, new = {.text = malloc(TEXT_MAX)};
    struct sp_loop *loop;
    struct sp_access_log *log;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    int small = 2304; /* the least the kernel gives: a block does not fit at once */
    assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    non_blocking(fds[0]);
    assert_int_equal(sp_loop_new(&loop), 0);
    assert_int_equal(sp_access_log_new(loop, fds[1], &log), 0);
    for (unsigned i = 1; i <= 200; i++)
        write_line(log, "chat", i);
    sp_access_log_set_fd(log, new_fd);
    sp_access_log_set_fd(log, -1);
    write_line(log, "chat", 201); /* off: goes nowhere, is not missed */
    uint64_t dropped = sp_access_log_dropped(log);
    sp_access_log_free(log);
    read_all(fds[0], &old);
    lseek(new_fd, 0, SEEK_SET);
    read_all(new_fd, &new);
    while (old.len > 0 && old.text[old.len - 1] != '\n') /* the line that was cut, counted as dropped */
        old.len--;
    assert_true(check_lines(&old, "chat") > 0);
    assert_true(check_lines(&new, "chat") > 0);
    assert_int_equal(check_lines(&old, "chat") + check_lines(&new, "chat") + dropped, 200);
    assert_true(dropped <= 1);
    sp_loop_free(loop);
    close(fds[0]);
    close(fds[1]);
    close(new_fd);
    free(old.text);
    free(new.text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_wait_for_company_but_not_long),
        cmocka_unit_test(a_full_pipe_never_blocks_and_dropped_lines_are_counted),
        cmocka_unit_test(a_reader_that_comes_back_is_noticed_by_the_timer),
        cmocka_unit_test(lines_of_two_workers_never_mix_in_a_pipe),
        cmocka_unit_test(lines_of_two_workers_never_mix_in_a_socket),
        cmocka_unit_test(a_reader_that_is_gone_costs_only_lines),
        cmocka_unit_test(after_reopening_lines_go_to_the_new_file_and_none_is_lost),
        cmocka_unit_test(what_a_full_pipe_kept_goes_to_the_new_file_in_whole_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
