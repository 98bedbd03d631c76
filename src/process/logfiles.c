/* Log files: opened by the supervisor, who may, and handed to those who write, who may not open anything. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor.h"

/* Our stdout or stderr once more, without blocking: a reader that does not read must never hold up a worker. A pipe, a terminal or a file
 * gets an open description of its own, so that whoever shares the original keeps it as it was. A socket (the journal's) cannot be
 * opened again. */
static int open_standard(int standard_fd, int *ret_fd) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", standard_fd);
    int fd = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0) {
        *ret_fd = fd;
        return 0;
    }
    fd = fcntl(standard_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0)
        return -errno;
    struct stat status;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode))
        (void)!fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    *ret_fd = fd;
    return 0;
}

static int open_file(const char *path, int *ret_fd) {
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

static int open_named(const char *what, const struct sp_text *target, char **ret_error, int *ret_fd) {
    int r;
    if (!target->text || strcmp(target->text, "off") == 0)
        return 0;
    if (strcmp(target->text, "stdout") == 0)
        r = open_standard(STDOUT_FILENO, ret_fd);
    else
        r = open_file(target->text, ret_fd);
    if (r < 0)
        return sp_refuse(ret_error, "%s: logs.%s: cannot open %s for writing: %s", target->where, what, target->text, strerror(-r));
    return 0;
}

int sp_log_files_open(const struct sp_config *config, char **ret_error, struct sp_log_files *ret) {
    struct sp_log_files files = {-1, -1, -1};
    int r = open_standard(STDERR_FILENO, &files.error_fd);
    if (r >= 0)
        r = open_named("access", &config->logs.access, ret_error, &files.access_fd);
    if (r >= 0)
        r = open_named("audit", &config->logs.audit, ret_error, &files.audit_fd);
    if (r < 0) {
        sp_log_files_close(&files);
        return r;
    }
    *ret = files;
    return 0;
}

void sp_log_files_close(struct sp_log_files *files) {
    sp_close_fd(&files->error_fd);
    sp_close_fd(&files->access_fd);
    sp_close_fd(&files->audit_fd);
}

bool sp_log_files_same(const struct sp_config *a, const struct sp_config *b) {
    return sp_span_eq(sp_span_text(a->logs.access.text), sp_span_text(b->logs.access.text)) &&
           sp_span_eq(sp_span_text(a->logs.audit.text), sp_span_text(b->logs.audit.text));
}
