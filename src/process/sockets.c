/* Listening sockets: opened here once, shared by all workers, kept over reloads as long as their address is configured. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <sallyport/net.h>

#include "supervisor.h"

#define BACKLOG 4096
#define FIRST_INHERITED 3 /* sd_listen_fds(3) */

static const struct sp_span systemd_prefix = {"systemd:", 8};

/* ---- Handed over by systemd ---- */

void sp_inherited_take(struct sp_inherited *inherited) {
    uint64_t pid = 0, count = 0;
    *inherited = (struct sp_inherited){0};
    if (!sp_span_u64(sp_span_text(getenv("LISTEN_PID")), &pid) || pid != (uint64_t)getpid() ||
        !sp_span_u64(sp_span_text(getenv("LISTEN_FDS")), &count))
        return;
    struct sp_span names = sp_span_text(getenv("LISTEN_FDNAMES"));
    for (uint64_t i = 0; i < count && inherited->count < SP_COUNT(inherited->item); i++) {
        int fd = FIRST_INHERITED + (int)i;
        struct sp_span name = SP_SPAN("unknown");
        (void)sp_span_split(&names, ':', &name);
        char *copy = sp_span_dup(name);
        if (!copy)
            return;
        inherited->item[inherited->count].fd = fd;
        inherited->item[inherited->count++].name = copy;
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

void sp_inherited_free(struct sp_inherited *inherited) {
    for (size_t i = 0; i < inherited->count; i++) {
        sp_close_fd(&inherited->item[i].fd);
        free(inherited->item[i].name);
    }
    inherited->count = 0;
}

static int from_systemd(const struct sp_inherited *inherited, const struct sp_text *address, char **ret_error, int *ret_fd) {
    const char *name = address->text + systemd_prefix.len;
    int found = -1;
    for (size_t i = 0; i < inherited->count; i++) {
        if (strcmp(inherited->item[i].name, name) != 0)
            continue;
        if (found >= 0)
            return sp_refuse(ret_error, "%s: systemd handed over more than one socket named \"%s\"; give each its own FileDescriptorName=",
                             address->where, name);
        found = inherited->item[i].fd;
    }
    if (found < 0)
        return sp_refuse(ret_error, "%s: systemd handed over no socket named \"%s\" (FileDescriptorName= of the .socket unit)",
                         address->where, name);
    if (sp_listen_adopt(found) < 0)
        return sp_refuse(ret_error, "%s: the socket that systemd handed over as \"%s\" is not listening for connections", address->where,
                         name);
    int fd = fcntl(found, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return sp_refuse(ret_error, "%s: %s", address->where, strerror(errno));
    *ret_fd = fd;
    return 0;
}

/* ---- TCP ---- */

static const uint8_t every_ipv4[16] = {[10] = 0xff, [11] = 0xff}, every_ipv6[16];

static int parse_tcp(const char *text, struct sp_address *ret) {
    _cleanup_(sp_free_pointer) char *host = NULL;
    int r = sp_parse_host_port(sp_span_text(text), &host, &ret->port);
    if (r < 0)
        return r;
    return sp_address_parse_host(sp_span_text(host), ret->bytes) ? 0 : -EINVAL;
}

static bool same_address(const char *a, const char *b) {
    struct sp_address x, y;
    if (strcmp(a, b) == 0)
        return true;
    return parse_tcp(a, &x) >= 0 && parse_tcp(b, &y) >= 0 && x.port == y.port && memcmp(x.bytes, y.bytes, sizeof x.bytes) == 0;
}

static bool covers(const uint8_t whole[16], const uint8_t part[16]) {
    bool is_ipv4 = memcmp(part, every_ipv4, 12) == 0;
    return memcmp(whole, part, 16) == 0 || memcmp(whole, is_ipv4 ? every_ipv4 : every_ipv6, 16) == 0;
}

/* One of them can be listened on, not both. What systemd listens on is not known, and NULL is nowhere. */
static bool overlap(const char *a, const char *b) {
    struct sp_address x, y;
    if (!a || !b || parse_tcp(a, &x) < 0 || parse_tcp(b, &y) < 0)
        return false;
    return x.port == y.port && (covers(x.bytes, y.bytes) || covers(y.bytes, x.bytes));
}

/* Two that are configured at once: no reload nor restart would help, and a socket must not be shared with both. */
static int check_apart(const struct sp_config *config, char **ret_error) {
    for (size_t i = 0; i < config->n_listeners; i++) {
        const struct sp_text *address = &config->listeners[i].address;
        for (size_t j = i + 1; j <= config->n_listeners; j++) {
            const struct sp_text *other = j < config->n_listeners ? &config->listeners[j].address : &config->admin.metrics;
            if (overlap(address->text, other->text))
                return sp_refuse(ret_error, "%s: cannot listen on %s: %s (%s) takes the same port", other->where, other->text,
                                 address->text, address->where);
        }
    }
    return 0;
}

static const char *advice(int error) {
    switch (error) {
    case EINVAL: return "; the host must be an IP address";
    case EACCES: return "; ports below 1024 need root, CAP_NET_BIND_SERVICE or a socket from systemd";
    case EADDRINUSE: return "; another program, or a socket from systemd, has this port";
    case EADDRNOTAVAIL: return "; no interface of this machine has this address";
    default: return "";
    }
}

/* The address of ours that is in the way of a new one. */
static const char *own_address(const struct sp_sockets *current, const char *wanted, const char **ret_what) {
    const struct sp_socket *metrics = &current->endpoint[SP_ENDPOINT_METRICS];
    *ret_what = "listener";
    for (size_t i = 0; i < SP_LISTENERS_MAX; i++)
        if (overlap(current->listener[i].address, wanted))
            return current->listener[i].address;
    *ret_what = "admin.metrics";
    return overlap(metrics->address, wanted) ? metrics->address : NULL;
}

static int open_tcp(const struct sp_text *address, const struct sp_sockets *current, char **ret_error, int *ret_fd) {
    char host[SP_ADDRESS_TEXT_MAX];
    struct sp_address parsed;
    int r = parse_tcp(address->text, &parsed);
    if (r >= 0) {
        (void)sp_address_text(parsed.bytes, host);
        r = sp_listen(host, parsed.port, BACKLOG, ret_fd);
    }
    const char *what, *ours = r == -EADDRINUSE && current ? own_address(current, address->text, &what) : NULL;
    if (ours)
        return sp_refuse(ret_error,
                         "%s: cannot listen on %s: this gateway's own %s on %s has this port until the reload is done; restart, or reload "
                         "with another port first",
                         address->where, address->text, what, ours);
    if (r < 0)
        return sp_refuse(ret_error, "%s: cannot listen on %s: %s%s", address->where, address->text, strerror(-r), advice(-r));
    return 0;
}

/* ---- The admin socket ---- */

/* An access control list as the kernel takes it (acl(5), linux/posix_acl_xattr.h): host order is little-endian wherever we run. */
struct acl_entry {
    uint16_t tag, permissions;
    uint32_t id;
};
enum { ACL_VERSION = 2, ACL_OWNER = 0x01, ACL_OWNING_GROUP = 0x04, ACL_GROUP = 0x08, ACL_MASK = 0x10, ACL_OTHERS = 0x20 };
enum { ACL_READ_WRITE = 6, ACL_NOBODY = UINT32_MAX };

static int by_number(const void *a, const void *b) {
    gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;
    return (x > y) - (x < y);
}

static size_t known_groups(const struct sp_config *config, gid_t out[SP_ADMIN_GROUPS_MAX]) {
    size_t n = 0;
    for (size_t i = 0; i < config->admin.n_groups && n < SP_ADMIN_GROUPS_MAX; i++) {
        const struct group *entry = getgrnam(config->admin.groups[i].group);
        if (entry)
            out[n++] = entry->gr_gid;
    }
    if (n > 1)
        qsort(out, n, sizeof out[0], by_number);
    return n;
}

/* On a file system without such lists one group can have the socket, by owning it. */
static int give_to_group(const char *path, gid_t group) {
    struct stat status;
    if (lstat(path, &status) == 0 && status.st_gid == group)
        return 0;
    return lchown(path, (uid_t)-1, group);
}

/* Every configured group may connect, and nobody else; what its members may do there, control decides. The owner stays who we are: when
 * we are root, the account that the workers run as cannot even open the socket, so a subverted worker commands nobody. */
static void admit_groups(const struct sp_socket *socket_, const struct sp_config *config) {
    const char *path = socket_->address;
    gid_t groups[SP_ADMIN_GROUPS_MAX];
    size_t n = known_groups(config, groups), at = 0;
    struct {
        uint32_t version;
        struct acl_entry entry[SP_ADMIN_GROUPS_MAX + 4];
    } list = {.version = ACL_VERSION};
    list.entry[at++] = (struct acl_entry){ACL_OWNER, ACL_READ_WRITE, ACL_NOBODY};
    list.entry[at++] = (struct acl_entry){ACL_OWNING_GROUP, ACL_READ_WRITE, ACL_NOBODY};
    for (size_t i = 0; i < n; i++)
        if (i == 0 || groups[i] != groups[i - 1])
            list.entry[at++] = (struct acl_entry){ACL_GROUP, ACL_READ_WRITE, groups[i]};
    if (n > 0)
        list.entry[at++] = (struct acl_entry){ACL_MASK, ACL_READ_WRITE, ACL_NOBODY};
    list.entry[at++] = (struct acl_entry){ACL_OTHERS, 0, ACL_NOBODY};
    size_t size = sizeof list.version + at * sizeof list.entry[0];
    if (lsetxattr(path, "system.posix_acl_access", &list, size, 0) < 0 && give_to_group(path, n > 0 ? groups[0] : socket_->group) < 0)
        sp_warn("%s: who may connect cannot be set as admin.groups says: %s", path, strerror(errno));
}

static bool somebody_listens(const struct sockaddr_un *address) {
    _cleanup_(sp_close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return true;
    return connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN || errno == EACCES;
}

static int bind_unix(int fd, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, len);
    struct stat status;
    if (lstat(path, &status) == 0) {
        if (!S_ISSOCK(status.st_mode))
            return -EEXIST;
        if (somebody_listens(&address))
            return -EADDRINUSE;
        if (unlink(path) < 0)
            return -errno;
    }
    mode_t before = umask(0117); /* 0660 from the first instant */
    int r = bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    umask(before);
    return r;
}

static int open_admin(const struct sp_text *socket_path, char **ret_error, struct sp_socket *to) {
    _cleanup_(sp_close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return sp_refuse(ret_error, "%s: admin.socket: %s", socket_path->where, strerror(errno));
    int r = bind_unix(fd, socket_path->text);
    if (r >= 0 && listen(fd, SOMAXCONN) < 0)
        r = -errno;
    if (r < 0)
        return sp_refuse(ret_error, "%s: admin.socket: cannot listen on %s: %s%s", socket_path->where, socket_path->text, strerror(-r),
                         r == -ENOENT       ? "; its folder must exist"
                         : r == -EADDRINUSE ? "; another running gateway has it"
                         : r == -EEXIST     ? "; what is there is not a socket"
                                            : "");
    struct stat status;
    to->group = lstat(socket_path->text, &status) == 0 ? status.st_gid : getegid();
    to->unlink = true;
    to->fd = fd;
    fd = -1;
    return 0;
}

/* ---- Sets ---- */

static const struct sp_socket *find_listener(const struct sp_sockets *sockets, const char *address) {
    for (size_t i = 0; sockets && i < SP_LISTENERS_MAX; i++)
        if (sockets->listener[i].fd >= 0 && same_address(sockets->listener[i].address, address))
            return &sockets->listener[i];
    return NULL;
}

static int share(const struct sp_socket *from, struct sp_socket *to) {
    to->fd = fcntl(from->fd, F_DUPFD_CLOEXEC, 0);
    if (to->fd < 0)
        return -errno;
    to->serial = from->serial;
    to->unlink = from->unlink;
    to->group = from->group;
    return 0;
}

static void fresh(struct sp_socket *socket_) {
    static uint64_t serials;
    socket_->serial = ++serials;
}

static int name_socket(struct sp_socket *to, const char *address) {
    to->address = strdup(address);
    return to->address ? 0 : -ENOMEM;
}

static int open_listener(const struct sp_listener_config *listener, const struct sp_sockets *current, const struct sp_inherited *inherited,
                         char **ret_error, struct sp_socket *to) {
    int r = name_socket(to, listener->address.text);
    if (r < 0)
        return r;
    const struct sp_socket *kept = find_listener(current, listener->address.text);
    if (kept)
        return share(kept, to);
    if (sp_span_starts(sp_span_text(listener->address.text), systemd_prefix))
        r = from_systemd(inherited, &listener->address, ret_error, &to->fd);
    else
        r = open_tcp(&listener->address, current, ret_error, &to->fd);
    if (r >= 0)
        fresh(to);
    return r;
}

static int open_endpoint(const struct sp_config *config, enum sp_endpoint_kind kind, const struct sp_sockets *current,
                         char **ret_error, struct sp_socket *to) {
    const struct sp_text *address = kind == SP_ENDPOINT_ADMIN ? &config->admin.socket : &config->admin.metrics;
    if (!address->text)
        return 0;
    int r = name_socket(to, address->text);
    if (r < 0)
        return r;
    const struct sp_socket *kept = current ? &current->endpoint[kind] : NULL;
    if (kept && kept->fd >= 0 && same_address(kept->address, address->text))
        return share(kept, to);
    if (kind == SP_ENDPOINT_ADMIN)
        r = open_admin(address, ret_error, to);
    else
        r = open_tcp(address, current, ret_error, &to->fd);
    if (r >= 0)
        fresh(to);
    return r;
}

int sp_sockets_open(const struct sp_config *config, const struct sp_sockets *current, const struct sp_inherited *inherited,
                    char **ret_error, struct sp_sockets **ret) {
    int r = check_apart(config, ret_error);
    if (r < 0)
        return r;
    struct sp_sockets *sockets = calloc(1, sizeof *sockets);
    if (!sockets)
        return -ENOMEM;
    for (size_t i = 0; i < SP_LISTENERS_MAX; i++)
        sockets->listener[i].fd = -1;
    for (size_t i = 0; i < SP_ENDPOINT_COUNT; i++)
        sockets->endpoint[i].fd = -1;
    for (size_t i = 0; i < config->n_listeners && r >= 0; i++)
        r = open_listener(&config->listeners[i], current, inherited, ret_error, &sockets->listener[config->listeners[i].slot]);
    for (int kind = 0; kind < SP_ENDPOINT_COUNT && r >= 0; kind++)
        r = open_endpoint(config, (enum sp_endpoint_kind)kind, current, ret_error, &sockets->endpoint[kind]);
    if (r < 0) {
        sp_sockets_free(sockets, current);
        return r;
    }
    *ret = sockets;
    return 0;
}

void sp_sockets_admit(const struct sp_sockets *sockets, const struct sp_config *config) {
    if (sockets->endpoint[SP_ENDPOINT_ADMIN].fd >= 0)
        admit_groups(&sockets->endpoint[SP_ENDPOINT_ADMIN], config);
}

static bool holds(const struct sp_sockets *sockets, const struct sp_socket *wanted) {
    for (size_t i = 0; sockets && i < SP_ENDPOINT_COUNT; i++)
        if (sockets->endpoint[i].serial == wanted->serial)
            return true;
    return false;
}

static void socket_free(struct sp_socket *socket_) {
    sp_close_fd(&socket_->fd);
    free(socket_->address);
}

void sp_sockets_close_listeners(struct sp_sockets *sockets) {
    for (size_t i = 0; i < SP_LISTENERS_MAX; i++)
        sp_close_fd(&sockets->listener[i].fd);
}

void sp_sockets_free(struct sp_sockets *sockets, const struct sp_sockets *kept) {
    if (!sockets)
        return;
    for (size_t i = 0; i < SP_LISTENERS_MAX; i++)
        socket_free(&sockets->listener[i]);
    for (size_t i = 0; i < SP_ENDPOINT_COUNT; i++) {
        if (sockets->endpoint[i].unlink && !holds(kept, &sockets->endpoint[i]))
            unlink(sockets->endpoint[i].address);
        socket_free(&sockets->endpoint[i]);
    }
    free(sockets);
}
