/* Real redis-servers of the test's own: nodes of a cluster, a master with a replica and sentinels, each on free loopback ports; and one
 * command sent the way that is tested, from beginning to end. */
#ifndef TEST_REDIS_NODES_H
#define TEST_REDIS_NODES_H

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "redis_route.h"

#define PATIENCE_US (30 * SP_MICRO) /* for things that must happen; a test that waits this long has failed */

struct server {
    pid_t pid;
    uint16_t port;
    char directory[64];
    redisContext *side;
};

static inline uint16_t free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        abort();
    close(fd);
    return ntohs(address.sin_port);
}

/* One command, printf-like; its reply as text, "" for nil, integers in decimal. */
static inline const char *says(struct server *server, const char *format, ...) SP_PRINTF(2, 3);
static inline const char *says(struct server *server, const char *format, ...) {
    static char text[65536];
    redisReply *reply = NULL;
    for (int i = 0; i < 2 && !reply; i++) { /* sentinels close the connections of whom they give another role */
        va_list arguments;
        va_start(arguments, format);
        if (i == 0 || redisReconnect(server->side) == REDIS_OK)
            reply = redisvCommand(server->side, format, arguments);
        va_end(arguments);
    }
    if (!reply)
        abort();
    if (reply->type == REDIS_REPLY_INTEGER)
        (void)snprintf(text, sizeof text, "%lld", reply->integer);
    else
        (void)snprintf(text, sizeof text, "%s", reply->str ? reply->str : "");
    freeReplyObject(reply);
    return text;
}

/* Ends the process, and what it had on disk. */
static inline void server_kill(struct server *server) {
    if (!server->pid)
        return;
    redisFree(server->side);
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

/* Its configuration is a file of these lines, in a folder of its own. */
static inline void server_start(struct server *server, const char *lines, bool sentinel) {
    char path[128];
    if (!server->port) {
        server->port = free_port();
        (void)snprintf(server->directory, sizeof server->directory, "/tmp/limit-node-%u-XXXXXX", server->port);
        if (!mkdtemp(server->directory))
            abort();
    }
    (void)snprintf(path, sizeof path, "%s/redis.conf", server->directory);
    FILE *file = fopen(path, "w");
    if (!file ||
        fprintf(file, "port %u\nbind 127.0.0.1\ndir %s\n%s\n%s", server->port, server->directory, sentinel ? "" : "save \"\"", lines) < 0 ||
        fclose(file) != 0)
        abort();
    server->pid = fork();
    if (server->pid == 0) {
        int null = open("/dev/null", O_RDWR);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 1);
        dup2(null, 2);
        execlp("redis-server", "redis-server", path, sentinel ? "--sentinel" : NULL, NULL);
        _exit(127);
    }
    uint64_t until = sp_clock_us() + PATIENCE_US;
    for (server->side = NULL; !server->side || server->side->err;) {
        if (sp_clock_us() > until || waitpid(server->pid, NULL, WNOHANG) != 0)
            abort();
        if (server->side)
            redisFree(server->side);
        poll(NULL, 0, 1);
        server->side = redisConnect("127.0.0.1", server->port);
    }
}

static inline void server_end(struct server *server) {
    server_kill(server);
    if (!server->port)
        return;
    DIR *directory = opendir(server->directory);
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        (void)unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory)
        (void)closedir(directory);
    (void)rmdir(server->directory);
    *server = (struct server){0};
}

/* ---- The way that is tested ---- */

struct way {
    struct sp_loop *loop;
    struct sp_redis_route *route;
    struct sp_redis_config config;
    struct sp_redis_node node[4];
};

#define UNTIL(way, condition)                                                                                                              \
    do {                                                                                                                                   \
        for (uint64_t until_ = sp_clock_us() + PATIENCE_US; !(condition);) {                                                               \
            assert_true(sp_clock_us() < until_);                                                                                           \
            (void)sp_loop_turn((way)->loop, 5);                                                                                            \
        }                                                                                                                                  \
    } while (0)

static inline void way_open(struct way *way) {
    *way = (struct way){.config = {.deadline_ms = 2000, .prefix = "test:", .gateways = 1}};
    if (sp_loop_new(&way->loop) < 0 || sp_redis_route_new(way->loop, &way->route) < 0)
        abort();
}

static inline void way_close(struct way *way) {
    sp_redis_route_free(way->route);
    sp_loop_free(way->loop);
}

static inline struct sp_limiter_state way_state(struct way *way) {
    struct sp_limiter_state state = {0};
    sp_redis_route_state(way->route, &state);
    return state;
}

/* A command and what became of it. */
struct asked {
    struct sp_redis_command command;
    struct way *way;
    char *bytes;
    size_t len;
    int told, again;
    enum sp_redis_verdict verdict;
    int64_t integer;
    char error[160];
};

static inline void asked_replied(struct sp_redis_command *command, const struct sp_resp_reply *reply) {
    struct asked *asked = SP_CONTAINER(command, struct asked, command);
    asked->verdict = sp_redis_route_consider(asked->way->route, command, reply, asked->bytes, asked->len);
    if (asked->verdict == SP_REDIS_AGAIN) {
        asked->again++;
        return;
    }
    asked->told++;
    if (asked->verdict == SP_REDIS_ANSWER)
        asked->integer = reply->value.integer;
    if (asked->verdict == SP_REDIS_ERROR)
        (void)snprintf(asked->error, sizeof asked->error, SP_SPAN_FMT, SP_SPAN_ARG(reply->value.text));
}

/* INCR of this key, or what is given instead, is sent; -errno when it cannot be. */
static inline int asked_send(struct asked *asked, struct way *way, const char *key, const char *instead) {
    *asked = (struct asked){.way = way, .command.replied = asked_replied};
    sp_list_init(&asked->command.node);
    int len = instead ? redisFormatCommand(&asked->bytes, instead, key) : redisFormatCommand(&asked->bytes, "INCR %s", key);
    if (len < 0)
        abort();
    asked->len = (size_t)len;
    int r = sp_redis_route_send(way->route, sp_redis_key_slot(sp_span_text(key)), &asked->command, asked->bytes, asked->len);
    if (r < 0)
        redisFreeCommand(asked->bytes);
    return r;
}

static inline struct asked ask(struct way *way, const char *key, const char *instead) {
    struct asked asked;
    assert_int_equal(asked_send(&asked, way, key, instead), 0);
    UNTIL(way, asked.told);
    assert_int_equal(asked.told, 1);
    redisFreeCommand(asked.bytes);
    return asked;
}

#endif
