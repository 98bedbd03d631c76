/* Starting a program: what it gets from us and what it does not. The program started is this test itself, under another name; it tells
 * over its channel what it found. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sallyport/process.h>

static const char spawned_name[] = "sallyport-spawned";

struct found {
    unsigned descriptors; /* bit per open number below 32 */
    unsigned variables, strangers; /* in the environment; those that are not on the list */
    bool term_ignored, usr2_default, mask_empty;
    uid_t uid[3];
    gid_t gid[3];
    int groups;
};

static int spawned(void) {
    struct found found = {0};
    for (int fd = 0; fd < 32; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            found.descriptors |= 1u << fd;
    for (char **it = environ; *it; it++) {
        found.variables++;
        found.strangers += strncmp(*it, "PATH=", 5) != 0 && strstr(*it, "SAN_OPTIONS=") == NULL && strncmp(*it, "LANG=", 5) != 0 &&
                           strncmp(*it, "LC_ALL=", 7) != 0 && strncmp(*it, "TZ=", 3) != 0 && strncmp(*it, "SSL_CERT_", 9) != 0;
    }
    struct sigaction action;
    sigaction(SIGTERM, NULL, &action);
    found.term_ignored = action.sa_handler == SIG_IGN;
    sigaction(SIGUSR2, NULL, &action);
    found.usr2_default = action.sa_handler == SIG_DFL;
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    found.mask_empty = !sigismember(&mask, SIGTERM) && !sigismember(&mask, SIGCHLD);
    getresuid(&found.uid[0], &found.uid[1], &found.uid[2]);
    getresgid(&found.gid[0], &found.gid[1], &found.gid[2]);
    found.groups = getgroups(0, NULL);
    return send(SP_CHANNEL_FD, &found, sizeof found, 0) == sizeof found ? 7 : 1;
}

static void self_path(char out[PATH_MAX]) {
    ssize_t len = readlink("/proc/self/exe", out, PATH_MAX - 1);
    assert_true(len > 0);
    out[len] = '\0';
}

static const struct sp_account same = {.change = false};

static int spawn_and_wait(const char *path, const struct sp_account *account, struct found *ret, const char **ret_step) {
    int fds[2], status = 0;
    pid_t pid = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    int r = sp_spawn(path, spawned_name, fds[1], account, &pid, ret_step);
    close(fds[1]);
    if (r >= 0) {
        assert_int_equal(recv(fds[0], ret, sizeof *ret, 0), sizeof *ret);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 7);
    }
    close(fds[0]);
    return r;
}

static void a_program_gets_its_channel_and_nothing_else(void **state) {
    char path[PATH_MAX];
    const char *step;
    struct found found;
    self_path(path);
    setenv("SECRET_OF_THE_PARENT", "x", 1);
    int secret = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    assert_int_equal(spawn_and_wait(path, &same, &found, &step), 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(secret);
    assert_int_equal(found.descriptors, 1u << STDIN_FILENO | 1u << STDOUT_FILENO | 1u << STDERR_FILENO | 1u << SP_CHANNEL_FD);
    assert_int_equal(found.strangers, 0);
    assert_true(found.term_ignored);
    assert_true(found.usr2_default);
    assert_true(found.mask_empty);
}

static void a_channel_on_any_number_arrives_on_three(void **state) {
    char path[PATH_MAX];
    const char *step;
    struct found found;
    self_path(path);
    /* Fill the low numbers, so that the channel is a high one. */
    int fillers[20];
    for (size_t i = 0; i < SP_COUNT(fillers); i++)
        fillers[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(spawn_and_wait(path, &same, &found, &step), 0);
    for (size_t i = 0; i < SP_COUNT(fillers); i++)
        close(fillers[i]);
    assert_int_equal(found.descriptors, 0xf);
}

static void a_program_that_cannot_be_executed_is_an_error_that_says_so(void **state) {
    struct found found;
    const char *step = NULL;
    assert_int_equal(spawn_and_wait("/nonexistent/sallyport-worker", &same, &found, &step), -ENOENT);
    assert_string_equal(step, "execute it");
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left to be waited for */
    assert_int_equal(errno, ECHILD);
}

/* Two sides of one promise: only one of them can be seen in one run. */
static void a_program_becomes_its_account_for_good_or_is_not_started(void **state) {
    const struct sp_account other = {.change = true, .uid = 65534, .gid = 65534};
    char path[PATH_MAX];
    struct found found;
    const char *step = NULL;
    self_path(path);
    int r = spawn_and_wait(path, &other, &found, &step);
    if (geteuid() != 0) {
        assert_int_equal(r, -EPERM);
        assert_string_equal(step, "change to its user");
        return;
    }
    assert_int_equal(r, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(found.uid[i], other.uid);
        assert_int_equal(found.gid[i], other.gid);
    }
    assert_int_equal(found.groups, 0);
}

static void a_program_nobody_installed_is_not_found(void **state) {
    char path[PATH_MAX];
    assert_int_equal(sp_program_path("sallyport-no-such-program", path, sizeof path), -ENOENT);
}

static void the_programs_own_folder_is_searched(void **state) {
    char self[PATH_MAX], path[PATH_MAX];
    self_path(self);
    assert_int_equal(sp_program_path(strrchr(self, '/') + 1, path, sizeof path), 0);
    assert_string_equal(path, self);
}

int main(int argc, char **argv) {
    if (strcmp(argv[0], spawned_name) == 0)
        return spawned();
    close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC); /* what the test's own parent left open, as the supervisor does */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_gets_its_channel_and_nothing_else),
        cmocka_unit_test(a_channel_on_any_number_arrives_on_three),
        cmocka_unit_test(a_program_that_cannot_be_executed_is_an_error_that_says_so),
        cmocka_unit_test(a_program_becomes_its_account_for_good_or_is_not_started),
        cmocka_unit_test(a_program_nobody_installed_is_not_found),
        cmocka_unit_test(the_programs_own_folder_is_searched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
