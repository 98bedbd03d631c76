/* A real redis-server of the test's own on a free loopback port, a limiter connected to it, and a blocking connection on the side. */
#ifndef TEST_REDIS_SERVER_H
#define TEST_REDIS_SERVER_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scene.h"

#define PATIENCE_MS 20000 /* for things that must happen; a test that waits this long has failed */

struct redis_server {
    pid_t pid;
    uint16_t port;
    redisContext *side;
    char unix_path[64];
};

/* Below where the kernel takes the ports of outgoing connections from: one that waits to be listened on is taken by none of those. */
static inline uint16_t free_port(void) {
    enum { FIRST = 10000, N = 22000, FAR = 89 };
    static uint32_t at;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < N; i++) {
        at = at ? at + 1 : (uint32_t)getpid() * FAR;
        address.sin_port = htons((uint16_t)(FIRST + at % N));
        int fd = socket(AF_INET, SOCK_STREAM, 0), r = bind(fd, (struct sockaddr *)&address, sizeof address);
        close(fd);
        if (r == 0)
            return ntohs(address.sin_port);
    }
    abort();
}

static inline void redis_spawn(struct redis_server *server) {
    char port[8];
    (void)snprintf(port, sizeof port, "%u", server->port);
    (void)snprintf(server->unix_path, sizeof server->unix_path, "/tmp/limit-redis-%u.sock", server->port);
    server->pid = fork();
    if (server->pid == 0) {
        int null = open("/dev/null", O_RDWR);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 1);
        dup2(null, 2);
        execlp("redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1", "--unixsocket", server->unix_path, "--save", "",
               "--appendonly", "no", "--dir", "/tmp", NULL);
        _exit(127);
    }
    uint64_t until = sp_clock_us() + PATIENCE_MS * 1000;
    for (server->side = NULL; !server->side || server->side->err;) {
        if (sp_clock_us() > until || waitpid(server->pid, NULL, WNOHANG) != 0)
            abort();
        if (server->side)
            redisFree(server->side);
        poll(NULL, 0, 1);
        server->side = redisConnect("127.0.0.1", server->port);
    }
}

static inline void redis_start(struct redis_server *server) {
    server->port = free_port();
    redis_spawn(server);
}

static inline void redis_kill(struct redis_server *server) {
    if (!server->pid)
        return;
    redisFree(server->side);
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    unlink(server->unix_path);
    server->pid = 0;
}

/* One command without arguments that need quoting; its reply as text, "" for nil, integers in decimal. */
static inline const char *redis_says(struct redis_server *server, const char *command) {
    static char text[8192];
    redisReply *reply = redisCommand(server->side, command);
    if (!reply)
        abort();
    if (reply->type == REDIS_REPLY_INTEGER)
        (void)snprintf(text, sizeof text, "%lld", reply->integer);
    else
        (void)snprintf(text, sizeof text, "%s", reply->str ? reply->str : "");
    freeReplyObject(reply);
    return text;
}

static inline uint64_t redis_counts(struct redis_server *server, const char *stat) {
    const char *info = redis_says(server, "INFO everything"), *at = strstr(info, stat);
    return at ? strtoull(at + strlen(stat) + 1, NULL, 10) : 0;
}

/* One gateway: its own memory, its own connection. */
struct gateway {
    struct sp_loop *loop;
    void *segment;
    struct sp_limiter *limiter;
    struct scene_config scene;
};

static inline void gateway_configure(struct gateway *gateway) {
    gateway->scene.config.generation++;
    if (sp_limiter_configure(gateway->limiter, &gateway->scene.config, NULL) < 0)
        abort();
}

static inline void gateway_open(struct gateway *gateway, uint16_t port, uint64_t deadline_ms) {
    static const struct sp_hash_key key = {7, 8};
    gateway->segment = segment_new();
    scene_config(&gateway->scene, 0);
    scene_redis(&gateway->scene, port, deadline_ms);
    if (sp_loop_new(&gateway->loop) < 0 || sp_limiter_new(gateway->loop, gateway->segment, &key, 0, &gateway->limiter) < 0)
        abort();
}

static inline void gateway_close(struct gateway *gateway) {
    sp_limiter_free(gateway->limiter);
    sp_loop_free(gateway->loop);
    segment_free(gateway->segment);
    if (gateway->scene.config.refs != 1)
        abort();
}

static inline struct sp_limiter_state gateway_state(struct gateway *gateway) {
    struct sp_limiter_state state;
    sp_limiter_state(gateway->limiter, &state);
    return state;
}

/* Turns the loop until the condition holds. */
#define UNTIL(gateway, condition)                                                                                                          \
    do {                                                                                                                                   \
        for (uint64_t until_ = sp_clock_us() + PATIENCE_MS * 1000; !(condition);) {                                                        \
            assert_true(sp_clock_us() < until_);                                                                                           \
            (void)sp_loop_turn((gateway)->loop, 10);                                                                                       \
        }                                                                                                                                  \
    } while (0)

static inline void gateway_connect(struct gateway *gateway) {
    gateway_configure(gateway);
    UNTIL(gateway, gateway_state(gateway).up);
}

static inline struct sp_limit_decision gateway_decides(struct gateway *gateway, const char *subject, const char *limits) {
    struct asked asked;
    ask_for(&asked, &gateway->scene, subject, limits);
    if (sp_limiter_admit(gateway->limiter, &asked.request) == SP_LIMIT_PENDING) {
        assert_int_equal(asked.told, 0);
        (void)sp_loop_turn(gateway->loop, 0); /* at whose end the command leaves */
        UNTIL(gateway, asked.told);
        assert_int_equal(asked.told, 1);
    }
    sp_limiter_finish(gateway->limiter, &asked.request, 0);
    return asked.request.decision;
}

#endif
