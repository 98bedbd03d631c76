/* Starting a program of ours: fork, become who it shall be, exec. What it inherits is listed here and nowhere else. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sallyport/process.h>

/* The only variables that reach a child. The sanitizers' are there for builds that have them; others ignore them. */
static const char *const kept_variables[] = {"PATH",         "LANG",          "LC_ALL",        "TZ",           "SSL_CERT_FILE",
                                             "SSL_CERT_DIR", "ASAN_OPTIONS",  "UBSAN_OPTIONS", "LSAN_OPTIONS"};

enum step { STEP_FORK, STEP_DESCRIPTORS, STEP_ACCOUNT, STEP_EXEC, STEP_COUNT };
static const char *const step_names[STEP_COUNT] = {"fork", "prepare its descriptors", "change to its user", "execute it"};

struct failure {
    int step;
    int error;
};

int sp_program_path(const char *name, char *out, size_t size) {
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len < 0)
        return -errno;
    self[len] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash)
        return -ENOENT;
    *slash = '\0';
    static const char *const places[] = {"", "/../libexec/sallyport", "/../process"}; /* the last: a build tree */
    for (size_t i = 0; i < SP_COUNT(places); i++) {
        int n = snprintf(out, size, "%s%s/%s", self, places[i], name);
        if (n > 0 && (size_t)n < size && access(out, X_OK) == 0)
            return 0;
    }
    return -ENOENT;
}

static void fill_environment(char *environment[SP_COUNT(kept_variables) + 1]) {
    size_t n = 0;
    for (char **it = environ; it && *it && n < SP_COUNT(kept_variables); it++)
        for (size_t i = 0; i < SP_COUNT(kept_variables); i++) {
            size_t len = strlen(kept_variables[i]);
            if (strncmp(*it, kept_variables[i], len) == 0 && (*it)[len] == '=')
                environment[n++] = *it;
        }
    environment[n] = NULL;
}

/* Channel to 3, /dev/null to 0 and 1; both are first moved out of the way, since either may lie on one of those numbers. */
static int place_descriptors(int channel_fd) {
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return -1;
    int high_null = fcntl(null_fd, F_DUPFD_CLOEXEC, SP_CHANNEL_FD + 1);
    int high_channel = fcntl(channel_fd, F_DUPFD_CLOEXEC, SP_CHANNEL_FD + 1);
    if (high_null < 0 || high_channel < 0)
        return -1;
    if (dup2(high_null, STDIN_FILENO) < 0 || dup2(high_null, STDOUT_FILENO) < 0 || dup2(high_channel, SP_CHANNEL_FD) < 0)
        return -1;
    return 0;
}

/* Groups first: once the user is another, they can no longer be changed. Then prove that there is no way back. */
static int become(const struct sp_account *account) {
    if (!account->change)
        return 0;
    if (setgroups(0, NULL) < 0 || setresgid(account->gid, account->gid, account->gid) < 0 ||
        setresuid(account->uid, account->uid, account->uid) < 0)
        return -1;
    if (account->uid != 0 && setuid(0) == 0) {
        errno = EPERM;
        return -1;
    }
    return 0;
}

/* Dispositions other than "ignored" end at exec; the mask does not. What a terminal or a manager sends to the whole group is ignored from
 * the first instruction on: the supervisor says what it means. */
static void reset_signals(void) {
    static const int ignored[] = {SIGPIPE, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    for (size_t i = 0; i < SP_COUNT(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static __attribute__((noreturn)) void run_child(const char *path, const char *process_name, int channel_fd, int failure_fd,
                                                const struct sp_account *account) {
    char *arguments[] = {(char *)(uintptr_t)process_name, NULL};
    char *environment[SP_COUNT(kept_variables) + 1];
    fill_environment(environment);
    reset_signals();
    struct failure failure = {.step = STEP_DESCRIPTORS};
    if (place_descriptors(channel_fd) >= 0) {
        failure.step = STEP_ACCOUNT;
        if (become(account) >= 0) {
            failure.step = STEP_EXEC;
            execve(path, arguments, environment);
        }
    }
    failure.error = errno;
    (void)!write(failure_fd, &failure, sizeof failure);
    _exit(127);
}

/* The pipe closes by itself when exec succeeds. */
static int wait_for_exec(int fd, pid_t pid, const char **ret_step) {
    struct failure failure;
    ssize_t n;
    do
        n = read(fd, &failure, sizeof failure);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return 0;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (n != sizeof failure || failure.step < 0 || failure.step >= STEP_COUNT) {
        *ret_step = step_names[STEP_EXEC];
        return -EIO;
    }
    *ret_step = step_names[failure.step];
    return -failure.error;
}

int sp_spawn(const char *path, const char *process_name, int channel_fd, const struct sp_account *account, pid_t *ret_pid,
             const char **ret_step) {
    int pipe_fds[2];
    *ret_step = step_names[STEP_FORK];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;
    _cleanup_(sp_close_fd) int read_fd = pipe_fds[0];
    _cleanup_(sp_close_fd) int write_fd = fcntl(pipe_fds[1], F_DUPFD_CLOEXEC, SP_CHANNEL_FD + 1);
    int duplicated = -errno;
    close(pipe_fds[1]);
    if (write_fd < 0)
        return duplicated;
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        run_child(path, process_name, channel_fd, write_fd, account);
    sp_close_fd(&write_fd);
    int r = wait_for_exec(read_fd, pid, ret_step);
    if (r < 0)
        return r;
    *ret_pid = pid;
    return 0;
}
