/* Key sets of issuers: where they are, fetched, kept fresh, and for a day kept when they cannot be had. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <sallyport/admin.h>
#include <sallyport/identity.h>

#include "fetch.h"

#define MINUTE_MS UINT64_C(60000)
#define HOUR_MS   (60 * MINUTE_MS)

enum { FETCH_TIMEOUT_MS = 5000, KEY_SET_MAX = 256 * 1024, BACKOFF_MIN_MS = 1000, BACKOFF_MAX_MS = 60000, ON_DEMAND_EVERY_MS = 10000 };
#define REFRESH_MIN_MS     (5 * MINUTE_MS)
#define REFRESH_DEFAULT_MS HOUR_MS
#define REFRESH_MAX_MS     (24 * HOUR_MS)
#define KEPT_MAX_MS        (24 * HOUR_MS)
#define PROBLEM_SIZE       (CURL_ERROR_SIZE + 256)

enum step { STEP_IDLE, STEP_METADATA, STEP_KEYS };

struct source {
    struct sp_issuers *issuers;
    uint64_t ticket;
    const struct sp_issuer_config *config;
    struct sp_fetch fetch;
    enum step step;
    enum sp_metadata_form form;
    char *jwks_uri;        /* found by discovery; NULL: not yet, or no more since it failed */
    struct sp_timer timer; /* until the next fetch */
    uint64_t backoff_ms;   /* 0: the last fetch succeeded */
    int fd;                /* the last good set, sealed; -1: none */
    char *set;
    size_t set_len;
    uint64_t good_ms;        /* when it was fetched; 0: never */
    uint64_t began_ms;       /* when we began to ask: workers may have what our predecessor fetched until then */
    bool given_up;           /* there is no set, and workers are to have none */
    bool wanted, was_wanted; /* somebody waits for the fetch under way; and somebody did before, at wanted_ms */
    bool joined;             /* whoever waits came when it had begun already: it may bring what was published before */
    uint64_t wanted_ms;
    char openid_problem[PROBLEM_SIZE]; /* why the first form of discovery failed */
    char problem[2 * PROBLEM_SIZE];    /* as logged */
};

struct sp_issuers {
    struct sp_loop *loop;
    const struct sp_issuer_events *events;
    void *owner;
    struct sp_config *config;
    struct sp_transfers *transfers;
    struct source **sources;
    size_t n_sources;
    uint64_t last_ticket;
};

/* ---- What a fetch came to ---- */

static uint64_t now_ms(void) { return sp_clock_ns() / 1000000; }

static uint64_t jittered(uint64_t ms) { return ms - sp_random_u64_fast() % (ms / 10 + 1); }

uint64_t sp_refresh_after_ms(const char *cache_control) {
    struct sp_span rest = sp_span_text(cache_control), item, prefix = SP_SPAN("max-age=");
    while (sp_span_split(&rest, ',', &item)) {
        uint64_t seconds;
        if (sp_span_eq_nocase(item, SP_SPAN("no-store")) || sp_span_eq_nocase(item, SP_SPAN("no-cache")))
            return REFRESH_MIN_MS;
        if (item.len > prefix.len && sp_span_eq_nocase(sp_span(item.at, prefix.len), prefix) &&
            sp_span_u64(sp_span_from(item, prefix.len), &seconds))
            return sp_min(sp_max(sp_min(seconds, REFRESH_MAX_MS / 1000) * 1000, REFRESH_MIN_MS), REFRESH_MAX_MS);
    }
    return REFRESH_DEFAULT_MS;
}

static void answer(struct source *source, bool answered) {
    if (!source->wanted)
        return;
    source->wanted = false;
    uint64_t past = now_ms() - source->wanted_ms;
    uint64_t wait_ms = source->was_wanted && past < ON_DEMAND_EVERY_MS ? ON_DEMAND_EVERY_MS - past : 0;
    source->issuers->events->answered(source->issuers->owner, source->ticket, answered, (uint32_t)wait_ms);
}

static void drop_set(struct source *source) {
    sp_close_fd(&source->fd);
    free(sp_take(source->set));
    source->set_len = 0;
}

static void give_up(struct source *source) {
    sp_error("issuer %s: its keys could not be fetched for a day: they are given up, and its tokens refused", source->config->issuer.text);
    drop_set(source);
    source->given_up = true;
    source->issuers->events->keys(source->issuers->owner, source->config->fingerprint, -1);
}

/* What it had goes on serving, for a day. */
static void failed(struct source *source, const char *why) {
    struct sp_issuers *issuers = source->issuers;
    source->step = STEP_IDLE;
    source->joined = false;
    free(sp_take(source->jwks_uri)); /* it may have moved */
    source->backoff_ms = sp_min(sp_max(source->backoff_ms * 2, (uint64_t)BACKOFF_MIN_MS), (uint64_t)BACKOFF_MAX_MS);
    sp_timer_start(issuers->loop, &source->timer, jittered(source->backoff_ms));
    if (strcmp(why, source->problem) != 0)
        sp_warn("issuer %s: cannot fetch its keys: %s; %s", source->config->issuer.text, why,
                source->fd >= 0 ? "those it had stay in use" : "its tokens are refused");
    snprintf(source->problem, sizeof source->problem, "%s", why);
    if (!source->given_up && now_ms() - sp_max(source->good_ms, source->began_ms) >= KEPT_MAX_MS)
        give_up(source);
    answer(source, false);
}

/* 1: it is another than before; 0: it is the same. */
static int adopt(struct source *source, struct sp_span set) {
    if (source->fd >= 0 && sp_span_eq(set, sp_span(source->set, source->set_len)))
        return 0;
    int fd = -1;
    char *copy = sp_span_dup(set);
    int r = copy ? sp_sealed_bytes("key set", set, &fd) : -ENOMEM;
    if (r < 0) {
        free(copy);
        return r;
    }
    drop_set(source);
    source->fd = fd;
    source->set = copy;
    source->set_len = set.len;
    source->given_up = false;
    source->issuers->events->keys(source->issuers->owner, source->config->fingerprint, fd);
    return 1;
}

static void fetch_now(struct source *source) {
    source->was_wanted = true;
    source->wanted_ms = now_ms();
    sp_timer_start(source->issuers->loop, &source->timer, 0); /* not from in here, so that the answer never is */
}

static void got_keys(struct source *source, struct sp_span set, uint64_t refresh_ms) {
    _cleanup_(sp_free_pointer) char *wrong = NULL;
    struct sp_key_set *keys = NULL;
    int r = sp_key_set_parse(set, source->config->algorithms, &wrong, &keys);
    size_t count = r == 0 ? sp_key_set_count(keys) : 0;
    sp_key_set_free(keys);
    if (r == 0)
        r = adopt(source, set);
    if (r < 0)
        return failed(source, wrong ? wrong : strerror(-r));
    bool first = source->good_ms == 0;
    if (source->problem[0] || first)
        sp_info("issuer %s: its keys are here; %zu can be used", source->config->issuer.text, count);
    source->problem[0] = '\0';
    source->step = STEP_IDLE;
    source->backoff_ms = 0;
    source->good_ms = now_ms();
    sp_timer_start(source->issuers->loop, &source->timer, jittered(refresh_ms));
    /* Who joined a fetch under way may know of a key that came after it began. The first keys of all are an answer to everybody, and leave
     * the fetch on demand to who still misses one. */
    bool again = source->wanted && source->joined && !first;
    source->joined = false;
    if (again)
        fetch_now(source);
    else
        answer(source, true);
}

/* ---- Fetching ---- */

static void on_fetched(struct sp_fetch *fetch, const char *problem);

static int get(struct source *source, const char *url, size_t max) {
    const struct sp_fetch_request request = {.url = url, .ca_pem = source->config->ca_pem, .max = max, .timeout_ms = FETCH_TIMEOUT_MS};
    source->fetch.done = on_fetched;
    return sp_fetch_start(source->issuers->transfers, &source->fetch, &request);
}

static int get_metadata(struct source *source, enum sp_metadata_form form) {
    _cleanup_(sp_free_pointer) char *url = sp_metadata_url(sp_span_text(source->config->issuer.text), form);
    source->step = STEP_METADATA;
    source->form = form;
    return url ? get(source, url, SP_METADATA_MAX) : -ENOMEM;
}

static int get_keys(struct source *source) {
    source->step = STEP_KEYS;
    return get(source, source->config->jwks.text ? source->config->jwks.text : source->jwks_uri, KEY_SET_MAX);
}

/* A refresh looks anew where the keys are; who waits for one is not kept waiting for that. */
static void begin(struct source *source) {
    sp_timer_stop(&source->timer);
    if (!source->wanted)
        free(sp_take(source->jwks_uri));
    int r = source->config->jwks.text || source->jwks_uri ? get_keys(source) : get_metadata(source, SP_METADATA_OPENID);
    if (r < 0)
        failed(source, strerror(-r));
}

static void on_timer(struct sp_timer *timer) { begin(SP_CONTAINER(timer, struct source, timer)); }

static void got_metadata(struct source *source, struct sp_span metadata, const char *problem) {
    _cleanup_(sp_free_pointer) char *wrong = NULL, *uri = NULL;
    char why[2 * PROBLEM_SIZE];
    int r = problem ? 0 : sp_metadata_jwks_uri(metadata, sp_span_text(source->config->issuer.text), &wrong, &uri);
    if (uri) {
        sp_fetch_end(&source->fetch);
        source->jwks_uri = sp_take(uri);
        r = get_keys(source);
        return r < 0 ? failed(source, strerror(-r)) : (void)0;
    }
    bool first = source->form == SP_METADATA_OPENID;
    snprintf(why, sizeof why, "%s%s: %s", first ? "" : source->openid_problem, first ? "OpenID discovery" : "; OAuth discovery",
             problem ? problem
             : wrong ? wrong
                     : strerror(-r));
    snprintf(source->openid_problem, sizeof source->openid_problem, "%.*s", PROBLEM_SIZE - 1, why);
    sp_fetch_end(&source->fetch);
    /* Where a server is that says something, but the wrong thing, the other form is not tried: it would only hide that. */
    if (first && problem && get_metadata(source, SP_METADATA_OAUTH) == 0)
        return;
    failed(source, why);
}

static void on_fetched(struct sp_fetch *fetch, const char *problem) {
    struct source *source = SP_CONTAINER(fetch, struct source, fetch);
    struct sp_span body = sp_buffer_span(&fetch->body);
    if (source->step == STEP_METADATA)
        return got_metadata(source, body, problem);
    if (!problem) {
        got_keys(source, body, sp_refresh_after_ms(sp_fetch_field(fetch, "cache-control")));
    } else {
        char why[PROBLEM_SIZE];
        snprintf(why, sizeof why, "%.200s: %s", source->config->jwks.text ? source->config->jwks.text : source->jwks_uri, problem);
        failed(source, why);
    }
    if (source->step == STEP_IDLE)
        sp_fetch_end(fetch);
}

/* ---- Asked by others ---- */

static struct source *source_of(const struct sp_issuers *issuers, uint64_t issuer_fingerprint) {
    for (size_t i = 0; i < issuers->n_sources; i++)
        if (issuers->sources[i]->config->fingerprint == issuer_fingerprint)
            return issuers->sources[i];
    return NULL;
}

int sp_issuers_key_fd(const struct sp_issuers *issuers, uint64_t issuer) {
    const struct source *source = source_of(issuers, issuer);
    return source ? source->fd : -1;
}

bool sp_issuers_given_up(const struct sp_issuers *issuers, uint64_t issuer) {
    const struct source *source = source_of(issuers, issuer);
    return source && source->given_up;
}

int sp_issuers_want(struct sp_issuers *issuers, uint64_t issuer, uint64_t *ret_ticket, uint32_t *ret_wait_ms) {
    struct source *source = source_of(issuers, issuer);
    uint64_t now = now_ms();
    if (!source)
        return -ENOENT;
    *ret_ticket = source->ticket;
    bool under_way = source->step != STEP_IDLE || source->wanted;
    if (!under_way && source->was_wanted && now - source->wanted_ms < ON_DEMAND_EVERY_MS) {
        *ret_wait_ms = (uint32_t)(ON_DEMAND_EVERY_MS - (now - source->wanted_ms));
        return -EAGAIN;
    }
    source->joined = source->joined || (source->step != STEP_IDLE && !source->wanted);
    source->wanted = true;
    if (!under_way)
        fetch_now(source);
    return 0;
}

/* ---- Configurations ---- */

static void source_free(struct source *source) {
    if (!source)
        return;
    answer(source, false);
    sp_timer_stop(&source->timer);
    sp_fetch_end(&source->fetch);
    drop_set(source);
    free(source->jwks_uri);
    free(source);
}

static bool same_text(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

static struct source *carry_over(struct sp_issuers *issuers, const struct sp_issuer_config *config) {
    for (size_t i = 0; i < issuers->n_sources; i++) {
        struct source *source = issuers->sources[i];
        if (!source || strcmp(source->config->issuer.text, config->issuer.text) != 0 ||
            !same_text(source->config->jwks.text, config->jwks.text) || !same_text(source->config->ca_pem, config->ca_pem))
            continue;
        issuers->sources[i] = NULL;
        return source;
    }
    return NULL;
}

static struct source *source_new(struct sp_issuers *issuers) {
    struct source *source = calloc(1, sizeof *source);
    if (source)
        *source =
            (struct source){.issuers = issuers, .ticket = ++issuers->last_ticket, .fd = -1, .began_ms = now_ms(), .timer.fire = on_timer};
    return source;
}

int sp_issuers_configure(struct sp_issuers *issuers, struct sp_config *config) {
    struct source **sources = calloc(config->n_issuers + 1, sizeof *sources);
    size_t count = 0;
    bool whole = sources != NULL;
    for (size_t i = 0; i < config->n_issuers && whole; i++) {
        if (!config->issuers[i].fetches_keys)
            continue;
        struct source *source = carry_over(issuers, &config->issuers[i]);
        if (!source)
            source = source_new(issuers);
        whole = source != NULL;
        if (!source)
            break;
        sources[count++] = source;
        source->config = &config->issuers[i];
        if (source->step == STEP_IDLE) /* a reload is also how an operator asks for fresh keys */
            sp_timer_start(issuers->loop, &source->timer, 0);
    }
    for (size_t i = 0; i < issuers->n_sources; i++)
        source_free(issuers->sources[i]);
    free(issuers->sources);
    issuers->sources = sources;
    issuers->n_sources = count;
    sp_config_unref(issuers->config);
    issuers->config = sp_config_ref(config);
    return whole ? 0 : -ENOMEM;
}

/* ---- Life ---- */

int sp_issuers_new(struct sp_loop *loop, const struct sp_issuer_events *events, void *owner, struct sp_issuers **ret) {
    struct sp_issuers *issuers = calloc(1, sizeof *issuers);
    if (!issuers)
        return -ENOMEM;
    *issuers = (struct sp_issuers){.loop = loop, .events = events, .owner = owner};
    int r = sp_transfers_new(loop, &issuers->transfers);
    if (r < 0) {
        free(issuers);
        return r;
    }
    *ret = issuers;
    return 0;
}

void sp_issuers_free(struct sp_issuers *issuers) {
    if (!issuers)
        return;
    for (size_t i = 0; i < issuers->n_sources; i++) {
        issuers->sources[i]->wanted = false; /* whoever waits goes too */
        source_free(issuers->sources[i]);
    }
    free(issuers->sources);
    sp_transfers_free(issuers->transfers);
    sp_config_unref(issuers->config);
    free(issuers);
}
