/* A store by itself, as one of the processes that share a Redis, and a way to that Redis that loses, holds up and repeats. */
#ifndef TEST_PEER_H
#define TEST_PEER_H

#include <errno.h>

#include "redis_server.h"
#include "redis_store.h"

#define HOUR_US (UINT64_C(3600) * SP_MICRO)

struct peer {
    struct sp_loop *loop;
    struct sp_redis_store *store;
    struct scene_config scene;
};

static inline void peer_open(struct peer *peer, uint16_t port, uint64_t deadline_ms) {
    uint64_t identity;
    sp_random(&identity, sizeof identity);
    scene_config(&peer->scene, 1);
    scene_redis(&peer->scene, port, deadline_ms);
    for (size_t i = 0; i < 4; i++) {
        peer->scene.limit[i].tokens = (struct sp_rate){1, HOUR_US};
        peer->scene.limit[i].token_burst = 1000000;
    }
    if (sp_loop_new(&peer->loop) < 0 || sp_redis_store_new(peer->loop, identity, &peer->store) < 0)
        abort();
}
static inline void peer_close(struct peer *peer) {
    sp_redis_store_free(peer->store);
    sp_loop_free(peer->loop);
}
static inline struct sp_limiter_state peer_state(struct peer *peer) {
    struct sp_limiter_state state = {0};
    sp_redis_store_state(peer->store, &state);
    return state;
}
static inline void peer_configure(struct peer *peer) {
    if (sp_redis_store_configure(peer->store, &peer->scene.config, NULL) < 0)
        abort();
}
static inline void peer_connect(struct peer *peer) {
    peer_configure(peer);
    UNTIL(peer, peer_state(peer).up);
}
static inline struct sp_limit_facts facts_of(const char *subject) { return (struct sp_limit_facts){.subject = sp_span_text(subject)}; }

/* One ask of up to four buckets. */
struct question {
    struct sp_redis_ask ask;
    int told;
    bool in_time;
};
static inline void question_answered(struct sp_redis_ask *ask, bool told) {
    struct question *question = SP_CONTAINER(ask, struct question, ask);
    question->told++;
    question->in_time = told;
}
static inline struct sp_redis_part *question_add(struct question *question, struct peer *peer, size_t limit, enum sp_limit_kind kind,
                                                 uint64_t cost, uint64_t lease) {
    struct sp_redis_part *part = &question->ask.part[question->ask.n++];
    *part = (struct sp_redis_part){.limit = &peer->scene.limit[limit], .kind = kind, .cost = cost, .lease = lease};
    question->ask.answered = question_answered;
    return part;
}
static inline int question_send(struct question *question, struct peer *peer, const char *subject) {
    struct sp_limit_facts facts = facts_of(subject);
    question->ask.facts = &facts;
    int r = sp_redis_store_ask(peer->store, &question->ask);
    question->ask.facts = NULL; /* read inside only */
    return r;
}
/* From beginning to end. */
static inline void question_ask(struct question *question, struct peer *peer, const char *subject) {
    assert_int_equal(question_send(question, peer, subject), 0);
    assert_int_equal(question->told, 0);
    UNTIL(peer, question->told);
    assert_int_equal(question->told, 1);
    assert_true(question->in_time);
}
static inline bool question_admitted(const struct question *question) {
    for (size_t i = 0; i < question->ask.n; i++)
        if (!question->ask.part[i].answer.bucket.admitted && !question->ask.part[i].limit->shadow)
            return false;
    return true;
}

static inline void settle_tokens(struct peer *peer, size_t limit, const char *subject, int64_t delta) {
    struct sp_limit_facts facts = facts_of(subject);
    sp_redis_store_settle(peer->store, &peer->scene.limit[limit], SP_LIMIT_TOKENS, &facts, delta);
}

/* Whole tokens that are stored; `absent` where nothing is. */
static inline int64_t stored_tokens(struct redis_server *server, const char *key, int64_t absent) {
    char command[256];
    (void)snprintf(command, sizeof command, "GET %s", key);
    const char *value = redis_says(server, command);
    return value[0] ? strtoll(value, NULL, 10) / (int64_t)SP_MICRO : absent;
}

/* ---- Between a peer and its Redis ---- */

struct proxy {
    uint16_t port, to;
    int listener, client, server;
    bool holds_requests;   /* they come no further, until released or dropped */
    bool swallows_replies; /* for good */
    bool holds_replies;    /* until released */
    char requests[1 << 20], replies[1 << 20];
    size_t n_requests, n_replies;
};

static inline void proxy_open(struct proxy *proxy, uint16_t to) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *proxy = (struct proxy){.to = to, .client = -1, .server = -1};
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(proxy->listener, (struct sockaddr *)&address, size) < 0 || listen(proxy->listener, 16) < 0 ||
        getsockname(proxy->listener, (struct sockaddr *)&address, &size) < 0)
        abort();
    proxy->port = ntohs(address.sin_port);
}
static inline int proxy_dial(const struct proxy *proxy) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(proxy->to)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        abort();
    return fd;
}
/* Both ends are gone; requests that were held are kept, to arrive late or never. */
static inline void proxy_cut(struct proxy *proxy) {
    if (proxy->client >= 0)
        close(proxy->client);
    if (proxy->server >= 0)
        close(proxy->server);
    proxy->client = proxy->server = -1;
    proxy->n_replies = 0;
    proxy->holds_requests = proxy->holds_replies = proxy->swallows_replies = false;
}
static inline void proxy_close(struct proxy *proxy) {
    proxy_cut(proxy);
    close(proxy->listener);
}
static inline void proxy_write(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 100);
            continue;
        }
        if (n <= 0)
            return;
        bytes += n;
        len -= (size_t)n;
    }
}
/* false: that end is gone. */
static inline bool proxy_carry(int from, int to, bool holds, bool swallows, char *held, size_t *n_held, size_t room) {
    for (;;) {
        ssize_t n = recv(from, held + *n_held, room - *n_held, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0)
            return false;
        *n_held += swallows ? 0 : (size_t)n;
    }
    if (!holds && *n_held > 0) {
        proxy_write(to, held, *n_held);
        *n_held = 0;
    }
    return true;
}
static inline void proxy_pump(struct proxy *proxy) {
    int fd = accept4(proxy->listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd >= 0) {
        proxy_cut(proxy);
        proxy->client = fd;
        proxy->server = proxy_dial(proxy);
        proxy->n_requests = 0;
    }
    if (proxy->client < 0)
        return;
    if (!proxy_carry(proxy->client, proxy->server, proxy->holds_requests, false, proxy->requests, &proxy->n_requests,
                     sizeof proxy->requests) ||
        !proxy_carry(proxy->server, proxy->client, proxy->holds_replies, proxy->swallows_replies, proxy->replies, &proxy->n_replies,
                     sizeof proxy->replies))
        proxy_cut(proxy);
}

/* Turns the loop, and carries what is between, until the condition holds. */
#define PUMP_UNTIL(peer, proxy, condition)                                                                                                 \
    do {                                                                                                                                   \
        for (uint64_t until_ = sp_clock_us() + PATIENCE_MS * 1000; !(condition);) {                                                        \
            assert_true(sp_clock_us() < until_);                                                                                           \
            proxy_pump(proxy);                                                                                                             \
            (void)sp_loop_turn((peer)->loop, 1);                                                                                           \
        }                                                                                                                                  \
    } while (0)

#endif
