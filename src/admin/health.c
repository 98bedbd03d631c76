#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>

#include <sallyport/admin.h>

#include "literal.h"

#define BODY_MAX (64 * 1024)

struct probe {
    struct sp_health *health;
    const struct sp_server_config *server;
    const struct sp_health_config *how;
    char *url;
    bool literal; /* the url names an address: nothing to resolve */
    uint8_t addresses[SP_ADDRESSES_MAX][16];
    size_t n_addresses, next_address;
    struct sp_timer timer; /* until the next probe */
    CURL *easy;            /* NULL between probes */
    struct curl_slist *connect_to;
    size_t body;
    bool decided, down; /* not decided: nothing is known yet, and whoever watched before us may have known it down */
    unsigned streak;    /* of results that speak against `down` */
};

struct sp_health {
    struct sp_loop *loop;
    sp_health_changed *changed;
    void *owner;
    struct sp_config *config;
    CURLM *multi;
    struct sp_timer timer; /* curl's */
    struct probe *probes;
    size_t n_probes;
};

/* A socket of curl's, watched. */
struct curl_watch {
    struct sp_watch watch;
    struct sp_health *health;
};

/* ---- Results ---- */

static void probe_later(struct probe *probe) {
    uint64_t interval = sp_max(probe->how->interval_ms, UINT64_C(10));
    uint64_t jitter = interval / 5; /* from 10 % before to 10 % after: gateways that started together do not probe together */
    sp_timer_start(probe->health->loop, &probe->timer, interval - jitter / 2 + sp_random_u64_fast() % (jitter + 1));
}

static void probe_stop(struct probe *probe) {
    if (probe->easy) {
        curl_multi_remove_handle(probe->health->multi, probe->easy);
        curl_easy_cleanup(probe->easy);
        probe->easy = NULL;
    }
    curl_slist_free_all(sp_take(probe->connect_to));
}

static void probe_result(struct probe *probe, bool good, const char *why) {
    bool first = good && !probe->decided;
    probe->streak = good == probe->down ? probe->streak + 1 : 0;
    unsigned needed = probe->down ? probe->how->healthy_after : probe->how->unhealthy_after;
    bool turned = probe->streak > 0 && probe->streak >= needed;
    if (!first && !turned)
        return;
    probe->decided = true;
    if (turned) {
        probe->down = !probe->down;
        probe->streak = 0;
    }
    if (probe->down)
        sp_warn("backend %s is down: %s", probe->server->url.text, why);
    else
        sp_info("backend %s is up", probe->server->url.text);
    probe->health->changed(probe->health->owner, probe->server->slot, !probe->down);
}

static void finish(struct probe *probe, CURLcode result) {
    long status = 0;
    curl_easy_getinfo(probe->easy, CURLINFO_RESPONSE_CODE, &status);
    /* A body that is too long was cut by us, which says nothing against the server. */
    bool answered = result == CURLE_OK || (result == CURLE_WRITE_ERROR && probe->body > BODY_MAX);
    char why[96];
    if (answered)
        snprintf(why, sizeof why, "it answered %ld", status);
    else
        snprintf(why, sizeof why, "%s", curl_easy_strerror(result));
    if (!answered)
        probe->next_address++;
    probe_stop(probe);
    probe_later(probe);
    probe_result(probe, answered && status >= 200 && status < 300, why);
}

/* One at a time: what `changed` does may end other transfers. */
static void collect(struct sp_health *health) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(health->multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        char *owner = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
        finish((struct probe *)(void *)owner, message->data.result);
    }
}

/* ---- Asking ---- */

static size_t discard(char *bytes, size_t size, size_t n, void *owner) {
    struct probe *probe = owner;
    probe->body += size * n;
    return probe->body > BODY_MAX ? 0 : size * n;
}

/* host:port:address:port, so that curl resolves nothing; an IPv6 address in brackets. */
static struct curl_slist *connect_to(const struct probe *probe) {
    const uint8_t *address = probe->addresses[probe->next_address % probe->n_addresses];
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char text[INET6_ADDRSTRLEN], entry[512];
    bool v4 = memcmp(address, mapped, sizeof mapped) == 0;
    if (!inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, text, sizeof text))
        return NULL;
    snprintf(entry, sizeof entry, v4 ? "%s:%u:%s:%u" : "%s:%u:[%s]:%u", probe->server->host, probe->server->port, text,
             probe->server->port);
    return curl_slist_append(NULL, entry);
}

static CURLcode set_up(struct probe *probe) {
    CURL *easy = probe->easy;
    CURLcode r = CURLE_OK;
#define SET(option, value) r = r == CURLE_OK ? curl_easy_setopt(easy, option, value) : r
    SET(CURLOPT_URL, probe->url);
    SET(CURLOPT_PRIVATE, (void *)probe);
    SET(CURLOPT_WRITEFUNCTION, discard);
    SET(CURLOPT_WRITEDATA, (void *)probe);
    SET(CURLOPT_TIMEOUT_MS, (long)probe->how->timeout_ms);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_FRESH_CONNECT, 1L); /* a kept connection would not notice a server that accepts no new ones */
    SET(CURLOPT_FORBID_REUSE, 1L);
    SET(CURLOPT_USERAGENT, "sallyport-health");
    if (probe->connect_to)
        SET(CURLOPT_CONNECT_TO, probe->connect_to);
#undef SET
    return r;
}

static void probe_start(struct sp_timer *timer) {
    struct probe *probe = SP_CONTAINER(timer, struct probe, timer);
    if (!probe->literal && probe->n_addresses == 0)
        return; /* sp_health_addresses() will start it */
    probe->body = 0;
    probe->connect_to = probe->literal ? NULL : connect_to(probe);
    probe->easy = curl_easy_init();
    bool ready = probe->easy && (probe->literal || probe->connect_to) && set_up(probe) == CURLE_OK;
    if (ready && curl_multi_add_handle(probe->health->multi, probe->easy) == CURLM_OK)
        return;
    curl_easy_cleanup(sp_take(probe->easy));
    probe_stop(probe);
    probe_later(probe); /* out of memory here says nothing about the server */
}

/* ---- curl on our loop ---- */

static void on_socket_ready(struct sp_watch *watch, uint32_t events) {
    struct sp_health *health = SP_CONTAINER(watch, struct curl_watch, watch)->health;
    int what = (events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (events & EPOLLERR ? CURL_CSELECT_ERR : 0);
    int running;
    curl_multi_socket_action(health->multi, watch->fd, what, &running); /* may free the watch */
    collect(health);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *owner, void *socket_owner) {
    struct sp_health *health = owner;
    struct curl_watch *watch = socket_owner;
    if (what == CURL_POLL_REMOVE) {
        if (watch)
            sp_watch_stop(health->loop, &watch->watch);
        free(watch);
        return 0;
    }
    uint32_t events = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) | (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);
    if (watch)
        return sp_watch_change(health->loop, &watch->watch, events);
    watch = calloc(1, sizeof *watch);
    if (!watch)
        return -1;
    watch->health = health;
    watch->watch.ready = on_socket_ready;
    if (sp_watch_start(health->loop, &watch->watch, fd, events) < 0) {
        free(watch);
        return -1;
    }
    curl_multi_assign(health->multi, fd, watch);
    return 0;
}

static void on_curl_timer(struct sp_timer *timer) {
    struct sp_health *health = SP_CONTAINER(timer, struct sp_health, timer);
    int running;
    curl_multi_socket_action(health->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(health);
}

static int set_curl_timer(CURLM *multi, long timeout_ms, void *owner) {
    struct sp_health *health = owner;
    if (timeout_ms < 0)
        sp_timer_stop(&health->timer);
    else
        sp_timer_start(health->loop, &health->timer, (uint64_t)timeout_ms);
    return 0;
}

int sp_health_new(struct sp_loop *loop, sp_health_changed *changed, void *owner, struct sp_health **ret) {
    struct sp_health *health = calloc(1, sizeof *health);
    if (!health)
        return -ENOMEM;
    *health = (struct sp_health){.loop = loop, .changed = changed, .owner = owner, .timer.fire = on_curl_timer};
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(health->multi = curl_multi_init())) {
        free(health);
        return -ENOMEM;
    }
    curl_multi_setopt(health->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(health->multi, CURLMOPT_SOCKETDATA, health);
    curl_multi_setopt(health->multi, CURLMOPT_TIMERFUNCTION, set_curl_timer);
    curl_multi_setopt(health->multi, CURLMOPT_TIMERDATA, health);
    *ret = health;
    return 0;
}

/* ---- Configurations ---- */

static void probes_free(struct probe *probes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        sp_timer_stop(&probes[i].timer);
        probe_stop(&probes[i]);
        free(probes[i].url);
    }
    free(probes);
}

static int probe_init(struct sp_health *health, const struct sp_pool_config *pool, const struct sp_server_config *server,
                      struct probe *ret) {
    *ret = (struct probe){.health = health, .server = server, .how = &pool->health, .timer.fire = probe_start};
    ret->literal = sp_host_is_literal(server->host);
    if (asprintf(&ret->url, "%s://%s%s%s", server->tls ? "https" : "http", server->authority, server->base_path, pool->health.path) < 0) {
        ret->url = NULL;
        return -ENOMEM;
    }
    return 0;
}

static int build_probes(struct sp_health *health, const struct sp_config *config, struct probe **ret, size_t *ret_count) {
    size_t room = 0, count = 0;
    for (size_t i = 0; i < config->n_pools; i++)
        room += config->pools[i].health.path ? config->pools[i].n_servers : 0;
    struct probe *probes = calloc(room + 1, sizeof *probes);
    if (!probes)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_pools; i++) {
        const struct sp_pool_config *pool = &config->pools[i];
        for (size_t j = 0; pool->health.path && j < pool->n_servers; j++) {
            if (probe_init(health, pool, &pool->servers[j], &probes[count]) < 0) {
                probes_free(probes, count);
                return -ENOMEM;
            }
            count++;
        }
    }
    *ret = probes;
    *ret_count = count;
    return 0;
}

static struct probe *probe_of(const struct sp_health *health, unsigned server_slot) {
    for (size_t i = 0; i < health->n_probes; i++)
        if (health->probes[i].server->slot == server_slot)
            return &health->probes[i];
    return NULL;
}

static bool carry_over(struct sp_health *health, const struct probe *old) {
    struct probe *probe = probe_of(health, old->server->slot);
    if (!probe || strcmp(probe->server->url.text, old->server->url.text) != 0)
        return false;
    memcpy(probe->addresses, old->addresses, sizeof probe->addresses);
    probe->n_addresses = old->n_addresses;
    probe->decided = old->decided;
    probe->down = old->down;
    probe->streak = old->streak;
    return true;
}

int sp_health_configure(struct sp_health *health, struct sp_config *config) {
    struct probe *old = health->probes;
    size_t n_old = health->n_probes;
    int r = build_probes(health, config, &health->probes, &health->n_probes);
    if (r < 0)
        return r;
    struct sp_config *old_config = health->config;
    health->config = sp_config_ref(config);
    for (size_t i = 0; i < n_old; i++)
        if (!carry_over(health, &old[i]) && old[i].down)
            health->changed(health->owner, old[i].server->slot, true);
    probes_free(old, n_old);
    sp_config_unref(old_config);
    for (size_t i = 0; i < health->n_probes; i++)
        sp_timer_start(health->loop, &health->probes[i].timer, sp_random_u64_fast() % 100);
    return 0;
}

void sp_health_addresses(struct sp_health *health, unsigned server_slot, const uint8_t (*addresses)[16], size_t count) {
    struct probe *probe = probe_of(health, server_slot);
    if (!probe || probe->literal)
        return;
    probe->n_addresses = sp_min(count, (size_t)SP_ADDRESSES_MAX);
    memcpy(probe->addresses, addresses, probe->n_addresses * 16);
    if (probe->n_addresses > 0 && !probe->easy && !probe->timer.active)
        sp_timer_start(health->loop, &probe->timer, 0);
}

enum sp_probe_state sp_health_state(const struct sp_health *health, unsigned server_slot) {
    const struct probe *probe = probe_of(health, server_slot);
    if (!probe)
        return SP_PROBE_NONE;
    if (!probe->decided)
        return SP_PROBE_WAITING;
    return probe->down ? SP_PROBE_DOWN : SP_PROBE_UP;
}

void sp_health_free(struct sp_health *health) {
    if (!health)
        return;
    probes_free(health->probes, health->n_probes);
    curl_multi_cleanup(health->multi);
    sp_timer_stop(&health->timer);
    sp_config_unref(health->config);
    free(health);
    curl_global_cleanup();
}
