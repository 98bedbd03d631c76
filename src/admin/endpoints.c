#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "endpoints.h"

enum { CONNECTIONS_MAX = 64, IDLE_TIMEOUT_S = 10, REQUEST_MEMORY = 16 * 1024 };

/* ---- One site on our loop ---- */

static void site_free(struct sp_site *site) {
    sp_requests_give_up(site->owner, site);
    sp_watch_stop(site->owner->loop, &site->watch);
    sp_timer_stop(&site->timer);
    sp_list_remove(&site->node);
    if (site->daemon)
        MHD_stop_daemon(site->daemon); /* closes its socket and connections */
    free(site);
}

static void end_site(struct sp_deferred *deferred) { site_free(SP_CONTAINER(deferred, struct sp_site, end)); }

static void drive(struct sp_site *site) {
    MHD_UNSIGNED_LONG_LONG wait_ms;
    MHD_run(site->daemon);
    if (MHD_get_timeout(site->daemon, &wait_ms) == MHD_YES)
        sp_timer_start(site->owner->loop, &site->timer, wait_ms);
    else
        sp_timer_stop(&site->timer);
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(site->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    if (site->retired && info && info->num_connections == 0)
        sp_defer(site->owner->loop, &site->end);
}

static void on_ready(struct sp_watch *watch, uint32_t events) { drive(SP_CONTAINER(watch, struct sp_site, watch)); }
static void on_timer(struct sp_timer *timer) { drive(SP_CONTAINER(timer, struct sp_site, timer)); }

void sp_site_wake(struct sp_site *site) { sp_timer_start(site->owner->loop, &site->timer, 0); }

static void retire(struct sp_site *site) {
    if (site->retired)
        return;
    site->retired = true;
    int fd = MHD_quiesce_daemon(site->daemon);
    if (fd >= 0)
        close(fd);
    sp_site_wake(site);
}

static struct sp_site *site_of(struct sp_endpoints *endpoints, enum sp_endpoint_kind kind) {
    sp_list_each (node, &endpoints->sites) {
        struct sp_site *site = sp_list_entry(node, struct sp_site, node);
        if (site->kind == kind && !site->retired)
            return site;
    }
    return NULL;
}

/* No resource of ours needs an escape: what has one is not found. */
static size_t leave_escapes(void *owner, struct MHD_Connection *connection, char *text) { return strlen(text); }

int sp_endpoints_open(struct sp_endpoints *endpoints, enum sp_endpoint_kind kind, int fd) {
    struct sp_site *site = calloc(1, sizeof *site);
    if (!site) {
        close(fd);
        return -ENOMEM;
    }
    *site = (struct sp_site){.owner = endpoints, .kind = kind, .watch.ready = on_ready, .timer.fire = on_timer, .end.run = end_site};
    sp_list_init(&site->end.node);
    sp_list_init(&site->node);
    site->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, sp_request_handle, site,
                                    MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                                    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                    (size_t)REQUEST_MEMORY, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes,
                                    NULL, MHD_OPTION_NOTIFY_COMPLETED, sp_request_completed, site, MHD_OPTION_END);
    if (!site->daemon) {
        close(fd);
        free(site);
        return -EIO;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(site->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    int r = info ? sp_watch_start(endpoints->loop, &site->watch, info->epoll_fd, EPOLLIN) : -EIO;
    if (r < 0) {
        site_free(site);
        return r;
    }
    struct sp_site *before = site_of(endpoints, kind);
    sp_list_append(&endpoints->sites, &site->node);
    if (before)
        retire(before);
    return 0;
}

/* ---- All of them ---- */

int sp_endpoints_new(struct sp_loop *loop, const struct sp_admin_view *view, sp_admin_act *act, void *owner, struct sp_endpoints **ret) {
    struct sp_endpoints *endpoints = calloc(1, sizeof *endpoints);
    if (!endpoints)
        return -ENOMEM;
    *endpoints = (struct sp_endpoints){.loop = loop, .view = view, .act = act, .act_owner = owner};
    sp_list_init(&endpoints->sites);
    sp_list_init(&endpoints->waiting);
    *ret = endpoints;
    return 0;
}

void sp_endpoints_ask_levels(struct sp_endpoints *endpoints, sp_admin_ask_levels *ask, void *owner) {
    endpoints->ask_levels = ask;
    endpoints->levels_owner = owner;
}

void sp_endpoints_free(struct sp_endpoints *endpoints) {
    if (!endpoints)
        return;
    sp_requests_give_up(endpoints, NULL);
    sp_list_each_safe (node, &endpoints->sites) {
        struct sp_site *site = sp_list_entry(node, struct sp_site, node);
        MHD_run(site->daemon); /* those who waited get their answer */
        if (site->end.queued)
            sp_list_remove(&site->end.node);
        site_free(site);
    }
    sp_admin_gids_free(&endpoints->gids);
    free(endpoints);
}

int sp_endpoints_configure(struct sp_endpoints *endpoints) {
    const struct sp_admin_config *admin = &endpoints->view->config->admin;
    struct sp_admin_gids gids;
    int r = sp_admin_gids_resolve(admin, &gids);
    if (r < 0)
        return r;
    sp_admin_gids_free(&endpoints->gids);
    endpoints->gids = gids;
    struct sp_site *metrics = site_of(endpoints, SP_ENDPOINT_METRICS), *socket = site_of(endpoints, SP_ENDPOINT_ADMIN);
    if (metrics && !admin->metrics.text)
        retire(metrics);
    if (socket && !admin->socket.text)
        retire(socket);
    return 0;
}
