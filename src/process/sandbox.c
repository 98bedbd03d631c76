/* What a process gives up for good when it starts. */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <sallyport/process.h>

/* LeakSanitizer attaches to the process at its end, which a process that cannot be dumped refuses. */
#if defined(__SANITIZE_ADDRESS__)
#define WATCHED_BY_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED_BY_SANITIZER 1
#endif
#endif
#ifndef WATCHED_BY_SANITIZER
#define WATCHED_BY_SANITIZER 0
#endif

static int all_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

int sp_sandbox_enter(enum sp_role_id self) {
    const struct rlimit none = {0, 0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        return -errno;
    if (!WATCHED_BY_SANITIZER && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    /* A child that hangs does not notice that its channel closed; it would keep the listening sockets from the next supervisor. */
    if (self != SP_ROLE_SUPERVISOR && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return -errno;
    return all_descriptors();
}
