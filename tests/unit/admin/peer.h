/* What the tests of admin share: a loop that is turned until something holds, and a tiny HTTP server on it. */
#ifndef SP_TEST_ADMIN_PEER_H
#define SP_TEST_ADMIN_PEER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sallyport/loop.h>

/* Turns until `condition` holds; a test that hangs is ended by meson. */
#define turn_until(loop, condition)                                                                                                        \
    while (!(condition))                                                                                                                   \
    assert_int_equal(sp_loop_turn(loop, 100), 0)

/* Answers every connection with `answer` once a request's head has come, and closes. An empty answer: never answers. */
struct tiny_server {
    struct sp_loop *loop;
    struct sp_watch watch;
    uint16_t port;
    const char *answer;
    unsigned requests;
    char last[2048]; /* the last request's head */
    struct tiny_client {
        struct tiny_server *server;
        struct sp_watch watch;
        size_t len;
        char head[2048];
    } clients[16];
};

static void tiny_close(struct tiny_client *client) {
    sp_watch_stop(client->server->loop, &client->watch);
    close(client->watch.fd);
    client->watch.fd = -1;
}

static void tiny_read(struct sp_watch *watch, uint32_t events) {
    struct tiny_client *client = SP_CONTAINER(watch, struct tiny_client, watch);
    ssize_t n = recv(watch->fd, client->head + client->len, sizeof client->head - 1 - client->len, MSG_DONTWAIT);
    if (n <= 0) {
        tiny_close(client);
        return;
    }
    client->len += (size_t)n;
    client->head[client->len] = '\0';
    if (!strstr(client->head, "\r\n\r\n"))
        return;
    client->server->requests++;
    memcpy(client->server->last, client->head, client->len + 1);
    client->len = 0;
    if (*client->server->answer == '\0')
        return;
    (void)!send(watch->fd, client->server->answer, strlen(client->server->answer), MSG_NOSIGNAL);
    tiny_close(client);
}

static void tiny_accept(struct sp_watch *watch, uint32_t events) {
    struct tiny_server *server = SP_CONTAINER(watch, struct tiny_server, watch);
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    for (size_t i = 0; fd >= 0 && i < SP_COUNT(server->clients); i++) {
        struct tiny_client *client = &server->clients[i];
        if (client->watch.active)
            continue;
        *client = (struct tiny_client){.server = server, .watch = {.fd = -1, .ready = tiny_read}};
        assert_int_equal(sp_watch_start(server->loop, &client->watch, fd, EPOLLIN), 0);
        return;
    }
    close(fd);
}

static inline int listen_on_loopback(uint16_t *ret_port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static inline void tiny_start(struct tiny_server *server, struct sp_loop *loop, const char *answer) {
    *server = (struct tiny_server){.loop = loop, .answer = answer, .watch.ready = tiny_accept};
    int fd = listen_on_loopback(&server->port);
    assert_int_equal(sp_watch_start(loop, &server->watch, fd, EPOLLIN), 0);
}

static inline void tiny_stop(struct tiny_server *server) {
    for (size_t i = 0; i < SP_COUNT(server->clients); i++)
        if (server->clients[i].watch.active)
            tiny_close(&server->clients[i]);
    sp_watch_stop(server->loop, &server->watch);
    close(server->watch.fd);
}

#endif
