#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include <sallyport/admin.h>

#include "literal.h"
#include "transfer.h"

#define BODY_MAX (64 * 1024)

struct probe {
    struct sp_health *health;
    const struct sp_server_config *server;
    const struct sp_tls_client_config *tls; /* NULL: plain */
    const struct sp_health_config *how;
    char *url;
    bool literal; /* the url names an address: nothing to resolve */
    uint8_t addresses[SP_ADDRESSES_MAX][16];
    size_t n_addresses, next_address;
    struct sp_timer timer; /* until the next probe */
    struct sp_transfer transfer;
    struct curl_slist *connect_to, *fields;
    char problem[CURL_ERROR_SIZE];
    size_t body;
    bool decided, down; /* not decided: nothing is known yet, and whoever watched before us may have known it down */
    unsigned streak;    /* of results that speak against `down` */
};

struct sp_health {
    struct sp_loop *loop;
    sp_health_changed *changed;
    void *owner;
    struct sp_config *config;
    struct sp_transfers *transfers;
    struct probe *probes;
    size_t n_probes;
};

/* ---- Results ---- */

static void probe_later(struct probe *probe) {
    uint64_t interval = sp_max(probe->how->interval_ms, UINT64_C(10));
    uint64_t jitter = interval / 5; /* from 10 % before to 10 % after: gateways that started together do not probe together */
    sp_timer_start(probe->health->loop, &probe->timer, interval - jitter / 2 + sp_random_u64_fast() % (jitter + 1));
}

static void probe_stop(struct probe *probe) {
    sp_transfer_stop(probe->health->transfers, &probe->transfer);
    curl_slist_free_all(sp_take(probe->connect_to));
    curl_slist_free_all(sp_take(probe->fields));
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

static void finish(struct sp_transfer *transfer, CURLcode result) {
    struct probe *probe = SP_CONTAINER(transfer, struct probe, transfer);
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    /* A body that is too long was cut by us, which says nothing against the server. */
    bool answered = result == CURLE_OK || (result == CURLE_WRITE_ERROR && probe->body > BODY_MAX);
    char why[96 + CURL_ERROR_SIZE];
    if (answered)
        snprintf(why, sizeof why, "it answered %ld", status);
    else
        snprintf(why, sizeof why, "%s", probe->problem[0] ? probe->problem : curl_easy_strerror(result));
    if (!answered)
        probe->next_address++;
    probe_stop(probe);
    probe_later(probe);
    probe_result(probe, answered && status >= 200 && status < 300, why);
}

/* ---- Asking ---- */

static size_t discard(char *bytes, size_t size, size_t n, void *owner) {
    struct probe *probe = owner;
    probe->body += size * n;
    return probe->body > BODY_MAX ? 0 : size * n;
}

static const char *server_name(const struct probe *probe) { return probe->tls ? probe->tls->server_name : NULL; }

/* An address, or nothing to ask for another name: curl goes where the url says. */
static bool goes_by_url(const struct probe *probe) { return probe->literal && !server_name(probe); }

static const char *bracketed(const char *host, char into[256]) {
    snprintf(into, 256, strchr(host, ':') ? "[%s]" : "%s", host);
    return into;
}

/* host:port:address:port, so that curl resolves nothing, and verifies the name that the certificate should have. */
static struct curl_slist *connect_to(const struct probe *probe) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char text[INET6_ADDRSTRLEN], host[256], at[256], entry[640];
    const char *to = probe->server->host;
    if (!probe->literal) {
        const uint8_t *address = probe->addresses[probe->next_address % probe->n_addresses];
        bool v4 = memcmp(address, mapped, sizeof mapped) == 0;
        to = inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, text, sizeof text);
        if (!to)
            return NULL;
    }
    snprintf(entry, sizeof entry, "%s:%u:%s:%u", bracketed(server_name(probe) ? server_name(probe) : probe->server->host, host),
             probe->server->port, bracketed(to, at), probe->server->port);
    return curl_slist_append(NULL, entry);
}

static CURLcode set_blob(CURL *easy, CURLoption option, const char *pem) {
    struct curl_blob blob = {.data = (void *)pem, .len = strlen(pem), .flags = CURL_BLOB_NOCOPY}; /* the configuration outlives us */
    return curl_easy_setopt(easy, option, &blob);
}

/* As a worker would connect: its authorities and no others, its certificate. */
static CURLcode secure(const struct probe *probe) {
    CURL *easy = probe->transfer.easy;
    CURLcode r = curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (r == CURLE_OK)
        r = curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    if (r == CURLE_OK)
        r = set_blob(easy, CURLOPT_CAINFO_BLOB, probe->tls->ca_pem ? probe->tls->ca_pem : "");
    if (r == CURLE_OK && probe->tls->own.chain_pem)
        r = set_blob(easy, CURLOPT_SSLCERT_BLOB, probe->tls->own.chain_pem);
    if (r == CURLE_OK && probe->tls->own.key_pem)
        r = set_blob(easy, CURLOPT_SSLKEY_BLOB, probe->tls->own.key_pem);
    return r;
}

static CURLcode set_up(struct probe *probe) {
    CURL *easy = probe->transfer.easy;
    CURLcode r = CURLE_OK;
#define SET(option, value) r = r == CURLE_OK ? curl_easy_setopt(easy, option, value) : r
    SET(CURLOPT_URL, probe->url);
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
    SET(CURLOPT_ERRORBUFFER, probe->problem);
    if (probe->connect_to)
        SET(CURLOPT_CONNECT_TO, probe->connect_to);
    if (probe->fields)
        SET(CURLOPT_HTTPHEADER, probe->fields);
#undef SET
    return r == CURLE_OK && probe->tls ? secure(probe) : r;
}

/* The url then names what the certificate should: the server is still asked for the host that requests ask for. */
static bool set_host(struct probe *probe) {
    char field[300];
    if (!server_name(probe))
        return true;
    snprintf(field, sizeof field, "Host: %s", probe->server->authority);
    probe->fields = curl_slist_append(NULL, field);
    return probe->fields != NULL;
}

static void probe_start(struct sp_timer *timer) {
    struct probe *probe = SP_CONTAINER(timer, struct probe, timer);
    if (!probe->literal && probe->n_addresses == 0)
        return; /* sp_health_addresses() will start it */
    probe->body = 0;
    probe->problem[0] = '\0';
    probe->connect_to = goes_by_url(probe) ? NULL : connect_to(probe);
    probe->transfer.easy = curl_easy_init();
    bool ready = probe->transfer.easy && (goes_by_url(probe) || probe->connect_to) && set_host(probe) && set_up(probe) == CURLE_OK;
    if (ready && sp_transfer_start(probe->health->transfers, &probe->transfer) == 0)
        return;
    probe_stop(probe);
    probe_later(probe); /* out of memory here says nothing about the server */
}

/* ---- Life ---- */

int sp_health_new(struct sp_loop *loop, sp_health_changed *changed, void *owner, struct sp_health **ret) {
    struct sp_health *health = calloc(1, sizeof *health);
    if (!health)
        return -ENOMEM;
    *health = (struct sp_health){.loop = loop, .changed = changed, .owner = owner};
    int r = sp_transfers_new(loop, &health->transfers);
    if (r < 0) {
        free(health);
        return r;
    }
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
    *ret = (struct probe){.health = health, .server = server, .how = &pool->health, .timer.fire = probe_start, .transfer.done = finish};
    ret->literal = sp_host_is_literal(server->host);
    ret->tls = server->tls ? &pool->tls : NULL;
    char host[256], authority[300];
    if (server_name(ret))
        snprintf(authority, sizeof authority, "%s:%u", bracketed(server_name(ret), host), server->port);
    if (asprintf(&ret->url, "%s://%s%s%s", server->tls ? "https" : "http", server_name(ret) ? authority : server->authority,
                 server->base_path, pool->health.path) < 0) {
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
    if (probe->n_addresses > 0 && !probe->transfer.easy && !probe->timer.active)
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
    sp_transfers_free(health->transfers);
    sp_config_unref(health->config);
    free(health);
}
