#include <errno.h>
#include <grp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sallyport/admin.h>

/* 0 and the number; -ENOENT when there is no such group; -ENOMEM. */
static int gid_of(const char *name, gid_t *ret) {
    size_t size = 1024;
    for (;;) {
        _cleanup_(sp_free_pointer) char *room = malloc(size);
        if (!room)
            return -ENOMEM;
        struct group entry, *found = NULL;
        int error = getgrnam_r(name, &entry, room, size, &found);
        if (error == 0 && found)
            *ret = entry.gr_gid;
        if (error != ERANGE || size >= 1024 * 1024)
            return error == 0 && found ? 0 : -ENOENT;
        size *= 4;
    }
}

int sp_admin_gids_resolve(const struct sp_admin_config *config, struct sp_admin_gids *ret) {
    struct sp_admin_gid *item = calloc(config->n_groups + 1, sizeof *item);
    if (!item)
        return -ENOMEM;
    size_t count = 0;
    for (size_t i = 0; i < config->n_groups; i++) {
        int r = gid_of(config->groups[i].group, &item[count].gid);
        if (r == 0)
            item[count++].admin = config->groups[i].admin;
        else
            sp_warn("admin.groups: no group \"%s\" on this machine", config->groups[i].group);
    }
    *ret = (struct sp_admin_gids){item, count};
    return 0;
}

void sp_admin_gids_free(struct sp_admin_gids *gids) {
    free(gids->item);
    *gids = (struct sp_admin_gids){0};
}

enum sp_admin_rights sp_admin_rights_decide(uid_t uid, uid_t own_uid, const gid_t *groups, size_t n_groups,
                                            const struct sp_admin_gids *gids) {
    if (uid == 0 || uid == own_uid)
        return SP_RIGHTS_ADMIN;
    enum sp_admin_rights rights = SP_RIGHTS_NONE;
    for (size_t i = 0; i < n_groups; i++)
        for (size_t j = 0; j < gids->count; j++)
            if (groups[i] == gids->item[j].gid)
                rights = sp_max(rights, gids->item[j].admin ? SP_RIGHTS_ADMIN : SP_RIGHTS_VIEWER);
    return rights;
}

/* The groups the peer's process had when it connected; what /etc/group says meanwhile does not matter. */
static gid_t *peer_groups(int fd, size_t *ret_count) {
    gid_t *groups = NULL;
    socklen_t len = 64 * sizeof *groups;
    for (int attempt = 0; attempt < 2; attempt++) {
        groups = malloc(len);
        if (!groups)
            return NULL;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) == 0) {
            *ret_count = len / sizeof *groups;
            return groups;
        }
        free(groups);
        if (errno != ERANGE) /* with ERANGE, len says what is needed */
            break;
    }
    return NULL;
}

enum sp_admin_rights sp_admin_rights_of(int connection_fd, const struct sp_admin_gids *gids, uid_t *ret_uid) {
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(connection_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return SP_RIGHTS_NONE;
    *ret_uid = peer.uid;
    enum sp_admin_rights rights = sp_admin_rights_decide(peer.uid, geteuid(), &peer.gid, 1, gids);
    size_t n_groups = 0;
    _cleanup_(sp_free_pointer) gid_t *groups = peer_groups(connection_fd, &n_groups);
    if (!groups)
        return rights;
    return sp_max(rights, sp_admin_rights_decide(peer.uid, geteuid(), groups, n_groups, gids));
}
