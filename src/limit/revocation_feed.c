#include "revocation_feed.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>

#include "script.h"
#include "subject.h"

#define WHOLE_EVERY         150                                     /* ticks: once a minute */
#define WHOLE_AFTER_FAILURE 5                                       /* ticks */
#define PAGES_MAX           (2 * SP_REVOKED_KEPT / SP_REVOKED_PAGE) /* of one reading */
#define SCORE_MAX           (UINT64_C(1) << 53)
#define MEMBER_MAX          (SP_KEY_ID_LEN + 1)

_Static_assert(2 * SP_REVOKED_PAGE <= SP_RESP_ITEMS_MAX, "a page fits into a reply");

struct sp_revocation_feed {
    struct sp_loop *loop;
    struct sp_redis_route *route;
    const struct sp_config *config;
    const struct sp_revocations *known; /* NULL: nobody wants to know */
    struct sp_revocations *listed;      /* what Redis is known to have */
    sp_revoked_elsewhere *learned;
    void *owner;
    struct sp_timer timer;
    unsigned slot;       /* the set's */
    uint64_t connection; /* the one that was read whole, or is */
    bool connected;      /* there was one */
    bool whole;          /* everything is being read */
    unsigned to_whole;   /* ticks until everything is read again */
    unsigned pages;
    uint64_t last; /* score read up to */
    struct sp_redis_command reading, telling;
    bool reads, tells; /* under way */
    uint64_t asked_us; /* when the page under way was asked for */
    struct sp_revocation told[SP_REVOKED_PAGE];
    size_t n_told;
    char problem[160];
};

/* ---- A page ---- */

static bool read_member(const struct sp_resp_value *value, struct sp_revocation *ret) {
    struct sp_span text = value->text;
    if (value->type != SP_RESP_STRING || text.len < SP_KEY_ID_LEN || text.len > MEMBER_MAX)
        return false;
    bool now = text.len == MEMBER_MAX;
    if ((now && text.at[SP_KEY_ID_LEN] != '!') || !sp_key_id_valid(sp_span(text.at, SP_KEY_ID_LEN)))
        return false;
    memcpy(ret->id, text.at, SP_KEY_ID_LEN);
    ret->now = now;
    return true;
}

int sp_revoked_page(const struct sp_resp_reply *reply, uint64_t last, struct sp_revocation ret[SP_REVOKED_PAGE], size_t *ret_n,
                    uint64_t *ret_last) {
    if (reply->value.type != SP_RESP_ARRAY || reply->n % 2 != 0 || reply->n > 2 * SP_REVOKED_PAGE)
        return -EPROTO;
    size_t n = 0;
    for (size_t i = 0; i < reply->n; i += 2) {
        uint64_t score;
        if (reply->item[i + 1].type == SP_RESP_STRING && sp_span_u64(reply->item[i + 1].text, &score) && score < SCORE_MAX && score > last)
            last = score;
        n += read_member(&reply->item[i], &ret[n]);
    }
    *ret_n = n;
    *ret_last = last;
    return (int)(reply->n / 2);
}

/* ---- Sending ---- */

static void complain(struct sp_revocation_feed *feed, const char *what, const struct sp_resp_reply *reply) {
    struct sp_span said = reply && reply->value.type == SP_RESP_ERROR ? reply->value.text : SP_SPAN("");
    int n = snprintf(feed->problem, sizeof feed->problem, "%s%s", what, said.len ? ": " : "");
    size_t at = (size_t)sp_max(n, 0);
    for (size_t i = 0; i < said.len && at < sizeof feed->problem - 1; i++)
        feed->problem[at++] = said.at[i] >= ' ' && said.at[i] <= '~' ? said.at[i] : '?';
    feed->problem[sp_min(at, sizeof feed->problem - 1)] = 0;
    feed->to_whole = sp_min(feed->to_whole, (unsigned)WHOLE_AFTER_FAILURE);
}

static int send_words(struct sp_revocation_feed *feed, struct sp_redis_command *command, const char **words, const size_t *lengths,
                      size_t n) {
    char *bytes = NULL;
    int len = redisFormatCommandArgv(&bytes, (int)n, words, lengths);
    if (len < 0)
        return -ENOMEM;
    int r = sp_redis_route_send(feed->route, feed->slot, command, bytes, (size_t)len);
    redisFreeCommand(bytes);
    return r;
}

static size_t set_name(const struct sp_revocation_feed *feed, char out[SP_REDIS_KEY_MAX]) {
    int n = snprintf(out, SP_REDIS_KEY_MAX, "%srevoked", feed->config->redis->prefix);
    return n > 0 && n < SP_REDIS_KEY_MAX ? (size_t)n : 0;
}

/* ZRANGEBYSCORE set (last +inf WITHSCORES LIMIT 0 page */
static void read_page(struct sp_revocation_feed *feed) {
    char set[SP_REDIS_KEY_MAX], from[24], page[12];
    size_t set_len = set_name(feed, set);
    (void)snprintf(from, sizeof from, "(%" PRIu64, feed->last);
    (void)snprintf(page, sizeof page, "%d", SP_REVOKED_PAGE);
    const char *words[] = {"ZRANGEBYSCORE", set, from, "+inf", "WITHSCORES", "LIMIT", "0", page};
    size_t lengths[SP_COUNT(words)];
    for (size_t i = 0; i < SP_COUNT(words); i++)
        lengths[i] = i == 1 ? set_len : strlen(words[i]);
    feed->asked_us = sp_clock_us();
    feed->reads = set_len > 0 && send_words(feed, &feed->reading, words, lengths, SP_COUNT(words)) == 0;
}

/* What we know and Redis does not. */
static size_t gather_untold(struct sp_revocation_feed *feed) {
    size_t n = 0;
    for (size_t i = 0; i < sp_revocations_count(feed->known) && n < SP_REVOKED_PAGE; i++) {
        const struct sp_revocation *mine = sp_revocations_at(feed->known, i);
        const struct sp_revocation *theirs = sp_revocations_find(feed->listed, sp_span(mine->id, SP_KEY_ID_LEN));
        if (!theirs || (mine->now && !theirs->now))
            feed->told[n++] = *mine;
    }
    return n;
}

/* EVAL script 1 set kept member… */
static void tell(struct sp_revocation_feed *feed) {
    if (feed->tells || (feed->n_told = gather_untold(feed)) == 0)
        return;
    char set[SP_REDIS_KEY_MAX], kept[12], members[SP_REVOKED_PAGE][MEMBER_MAX];
    size_t set_len = set_name(feed, set);
    (void)snprintf(kept, sizeof kept, "%d", SP_REVOKED_KEPT);
    const char *words[5 + SP_REVOKED_PAGE] = {"EVAL", sp_revoke_script, "1", set, kept};
    size_t lengths[SP_COUNT(words)] = {4, sp_revoke_script_len, 1, set_len, strlen(kept)};
    for (size_t i = 0; i < feed->n_told; i++) {
        memcpy(members[i], feed->told[i].id, SP_KEY_ID_LEN);
        members[i][SP_KEY_ID_LEN] = '!';
        words[5 + i] = members[i];
        lengths[5 + i] = SP_KEY_ID_LEN + (feed->told[i].now ? 1 : 0);
    }
    feed->tells = set_len > 0 && send_words(feed, &feed->telling, words, lengths, 5 + feed->n_told) == 0;
}

/* ---- Replies ---- */

static void page_read(struct sp_redis_command *command, const struct sp_resp_reply *reply) {
    struct sp_revocation_feed *feed = SP_CONTAINER(command, struct sp_revocation_feed, reading);
    struct sp_revocation listed[SP_REVOKED_PAGE];
    size_t n = 0;
    uint64_t before = feed->last;
    feed->reads = false;
    if (sp_redis_route_consider(feed->route, command, reply, NULL, 0) == SP_REDIS_FAILED)
        return; /* the next tick asks who it is by then */
    int members = sp_revoked_page(reply, before, listed, &n, &feed->last);
    if (members < 0)
        return complain(feed, "Redis does not tell which API keys are revoked", reply);
    for (size_t i = 0; i < n; i++)
        if (sp_revocations_add(feed->listed, &listed[i]) == -ENOSPC && sp_revocations_keep_known(feed->listed, feed->config) == 0)
            (void)!sp_revocations_add(feed->listed, &listed[i]);
    if (n > 0)
        feed->learned(feed->owner, listed, n);
    if (members == SP_REVOKED_PAGE && feed->last > before && ++feed->pages < PAGES_MAX)
        return read_page(feed);
    feed->pages = 0;
    feed->problem[0] = 0;
    if (!feed->whole)
        return;
    feed->whole = false;
    tell(feed);
}

static void was_told(struct sp_redis_command *command, const struct sp_resp_reply *reply) {
    struct sp_revocation_feed *feed = SP_CONTAINER(command, struct sp_revocation_feed, telling);
    feed->tells = false;
    if (sp_redis_route_consider(feed->route, command, reply, NULL, 0) == SP_REDIS_FAILED) {
        feed->to_whole = sp_min(feed->to_whole, (unsigned)WHOLE_AFTER_FAILURE); /* and then told again */
        return;
    }
    if (reply->value.type != SP_RESP_INTEGER)
        return complain(feed, "Redis does not take down which API keys are revoked", reply);
    for (size_t i = 0; i < feed->n_told; i++)
        if (sp_revocations_add(feed->listed, &feed->told[i]) < 0)
            return; /* more than can be kept count of */
    tell(feed);
}

/* ---- Clockwork ---- */

static bool is_up(const struct sp_revocation_feed *feed, uint64_t *ret_connection) {
    return sp_redis_route_connected(feed->route, feed->slot, ret_connection);
}

static void begin_whole(struct sp_revocation_feed *feed, uint64_t connection) {
    feed->connected = feed->whole = true;
    feed->connection = connection;
    feed->to_whole = WHOLE_EVERY;
    feed->pages = 0;
    feed->last = 0;
    sp_revocations_clear(feed->listed);
}

static void tick(struct sp_timer *timer) {
    struct sp_revocation_feed *feed = SP_CONTAINER(timer, struct sp_revocation_feed, timer);
    sp_timer_start(feed->loop, timer, SP_REVOCATION_FEED_MS);
    uint64_t connection;
    if (!is_up(feed, &connection))
        return;
    if (feed->reads) {
        if (sp_clock_us() - feed->asked_us > SP_REVOCATION_FEED_MS * UINT64_C(1000)) /* many deadlines ago */
            sp_redis_route_timed_out(&feed->reading);
        return;
    }
    if (!feed->connected || connection != feed->connection || feed->to_whole-- == 0)
        begin_whole(feed, connection);
    read_page(feed);
}

void sp_revocation_feed_tell(struct sp_revocation_feed *feed) {
    uint64_t connection;
    /* Before everything is read, nobody knows what is missing there; then it is told. */
    if (feed->known && feed->config && feed->config->redis && feed->connected && !feed->whole && is_up(feed, &connection) &&
        connection == feed->connection)
        tell(feed);
}

/* ---- Life ---- */

int sp_revocation_feed_new(struct sp_loop *loop, struct sp_redis_route *route, struct sp_revocation_feed **ret) {
    struct sp_revocation_feed *feed = calloc(1, sizeof *feed);
    if (!feed)
        return -ENOMEM;
    feed->loop = loop;
    feed->route = route;
    feed->timer.fire = tick;
    feed->reading.replied = page_read;
    feed->telling.replied = was_told;
    sp_list_init(&feed->reading.node);
    sp_list_init(&feed->telling.node);
    int r = sp_revocations_new(&feed->listed);
    if (r < 0) {
        free(feed);
        return r;
    }
    *ret = feed;
    return 0;
}

void sp_revocation_feed_free(struct sp_revocation_feed *feed) {
    if (!feed)
        return;
    sp_timer_stop(&feed->timer);
    sp_revocations_free(feed->listed);
    free(feed);
}

/* Now, and then again and again; nobody is asked about keys where there are none. */
static void start(struct sp_revocation_feed *feed) {
    bool wanted = feed->known && feed->config && feed->config->redis && feed->config->n_api_keys > 0;
    feed->connected = false;
    if (wanted)
        sp_timer_start(feed->loop, &feed->timer, 1);
    else
        sp_timer_stop(&feed->timer);
}

void sp_revocation_feed_share(struct sp_revocation_feed *feed, const struct sp_revocations *known, sp_revoked_elsewhere *learned,
                              void *owner) {
    feed->known = known;
    feed->learned = learned;
    feed->owner = owner;
    start(feed);
}

void sp_revocation_feed_configure(struct sp_revocation_feed *feed, const struct sp_config *config) {
    char set[SP_REDIS_KEY_MAX];
    feed->config = config;
    if (config->redis)
        feed->slot = sp_redis_key_slot(sp_span(set, set_name(feed, set)));
    start(feed);
}

const char *sp_revocation_feed_problem(const struct sp_revocation_feed *feed) { return feed->problem; }
