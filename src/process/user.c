/* `user:`, looked up once at start. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "supervisor.h"

int sp_refuse(char **ret, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vasprintf(ret, format, arguments);
    va_end(arguments);
    if (n >= 0)
        return -EINVAL;
    *ret = NULL;
    return -ENOMEM;
}

int sp_user_resolve(const struct sp_config *config, char **ret_error, struct sp_account *ret) {
    *ret = (struct sp_account){.change = false, .uid = getuid(), .gid = getgid()};
    if (geteuid() != 0)
        return 0;
    if (!config->user)
        return sp_refuse(ret_error, "%s: started as root, so `user:` must name the account that everything but the supervisor runs as",
                         config->path);
    errno = 0;
    const struct passwd *entry = getpwnam(config->user);
    if (!entry)
        return sp_refuse(ret_error, "user: there is no account named \"%s\"; create it with `useradd --system`, or name another",
                         config->user);
    if (entry->pw_uid == 0)
        return sp_refuse(ret_error, "user: \"%s\" is root, which is what `user:` is there to give up; name another account", config->user);
    *ret = (struct sp_account){.change = true, .uid = entry->pw_uid, .gid = entry->pw_gid};
    return 0;
}
