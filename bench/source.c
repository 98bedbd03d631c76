/* source: the backend for what nginx cannot play. To every POST it answers a fixed JSON text; with EVENTS > 0 a stream of so many events a second
 * instead, each with "@" and 20 digits, when it was sent. Where a request carries x-sent (bench/asking.h) it notes how long its first
 * byte was under way, and GET /report tells of these times and forgets them. One thread, one epoll, level-triggered.
 *
 * source PORT ANSWER_FILE [EVENTS] */
#include "histogram.h"
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { PIECE = 64 * 1024, HEAD_MAX = 8192, BATCH = 256, TICK_NS = 1000000, TICKS = 1000, DIGITS = 20 };

struct connection {
    int fd;
    char head[HEAD_MAX];
    size_t head_len;
    uint64_t body_left, first_byte;
    bool in_body, report, streaming;
    unsigned slot; /* of the ticks that its events come at */
    struct connection *next, *next_dead;
    bool dead;
};

static int loop;
static char answer[16 * 1024];
static size_t answer_len;
static unsigned events_per_second, period; /* ticks between two events of one stream */
static struct connection *slots[TICKS], *dead;
static struct histogram under_way;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void forget(struct connection *connection) {
    if (connection->dead)
        return;
    connection->dead = true;
    connection->next_dead = dead;
    dead = connection;
}

static void free_dead(void) {
    while (dead) {
        struct connection *connection = dead;
        dead = connection->next_dead;
        if (connection->streaming) {
            struct connection **at = &slots[connection->slot];
            while (*at != connection)
                at = &(*at)->next;
            *at = connection->next;
        }
        close(connection->fd);
        free(connection);
    }
}

/* Readers that fall behind by a whole socket buffer are not worth waiting for here: they void what is measured. */
static void give(struct connection *connection, const char *bytes, size_t len) {
    if (send(connection->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len)
        forget(connection);
}

static void begin_stream(struct connection *connection) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    static unsigned number;
    connection->streaming = true;
    connection->slot = number++ % period;
    connection->next = slots[connection->slot];
    slots[connection->slot] = connection;
    give(connection, head, sizeof head - 1);
}

/* All but the time is the same in each. */
static void give_event(struct connection *connection) {
    static char chunk[600];
    static size_t len, time_at;
    if (len == 0) {
        char event[512];
        int n = snprintf(event, sizeof event, "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"demo\",\"choices\":"
                                              "[{\"index\":0,\"delta\":{\"content\":\"@%020d\"},\"finish_reason\":null}]}\n\n", 0);
        len = (size_t)snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", (unsigned)n, event);
        time_at = (size_t)(strchr(chunk, '@') + 1 - chunk);
    }
    uint64_t now = now_ns();
    for (size_t i = DIGITS; i-- > 0; now /= 10)
        chunk[time_at + i] = (char)('0' + now % 10);
    if (!connection->dead)
        give(connection, chunk, len);
}

static void answer_request(struct connection *connection) {
    char text[sizeof answer + 256];
    int len;
    if (connection->report) {
        char told[200];
        int told_len = snprintf(told, sizeof told, "{\"count\": %" PRIu64 ", \"p50_us\": %.1f, \"p99_us\": %.1f}", under_way.count, histogram_us(&under_way, 0.5),
                                histogram_us(&under_way, 0.99));
        len = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", told_len, told);
        histogram_reset(&under_way);
    } else if (events_per_second > 0) {
        begin_stream(connection);
        return;
    } else {
        len = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", answer_len, answer);
    }
    give(connection, text, (size_t)len);
}

static uint64_t field(const char *head, const char *name) {
    const char *found = strcasestr(head, name);
    return found ? strtoull(found + strlen(name), NULL, 10) : 0;
}

/* What of these bytes belongs to the head. */
static size_t read_head(struct connection *connection, const char *bytes, size_t len) {
    size_t before = connection->head_len, take = len < HEAD_MAX - 1 - before ? len : HEAD_MAX - 1 - before;
    if (before == 0)
        connection->first_byte = now_ns();
    memcpy(connection->head + before, bytes, take);
    connection->head[connection->head_len = before + take] = '\0';
    char *end = strstr(connection->head, "\r\n\r\n");
    if (!end) {
        if (connection->head_len == HEAD_MAX - 1)
            forget(connection);
        return len;
    }
    end[2] = '\0';
    connection->in_body = true;
    connection->report = !strncmp(connection->head, "GET /report ", 12);
    connection->body_left = field(connection->head, "\r\ncontent-length:");
    uint64_t sent = field(connection->head, "\r\nx-sent:");
    if (sent > 0 && sent < connection->first_byte)
        histogram_add(&under_way, connection->first_byte - sent);
    return (size_t)(end + 4 - connection->head) - before;
}

static void readable(struct connection *connection) {
    static char bytes[PIECE];
    ssize_t n = recv(connection->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            forget(connection);
        return;
    }
    size_t len = (size_t)n, at = 0;
    while (at < len && !connection->dead && !connection->streaming) {
        if (!connection->in_body) {
            at += read_head(connection, bytes + at, len - at);
            if (!connection->in_body)
                continue;
        }
        size_t part = len - at < connection->body_left ? len - at : connection->body_left;
        connection->body_left -= part;
        at += part;
        if (connection->body_left > 0)
            continue;
        answer_request(connection);
        connection->in_body = false;
        connection->head_len = 0;
    }
}

/* The streams' events of the ticks that have passed. */
static void tick(void) {
    static uint64_t last;
    uint64_t now = now_ns() / TICK_NS;
    if (last == 0 || now - last > TICKS)
        last = now;
    for (; last < now; last++)
        for (struct connection *stream = slots[last % period]; stream; stream = stream->next)
            give_event(stream);
}

static void accept_one(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), one = 1;
    struct connection *connection = fd < 0 ? NULL : calloc(1, sizeof *connection);
    if (!connection)
        return;
    connection->fd = fd;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
}

static int listen_on(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096) ||
        epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event))
        fail("listen");
    return fd;
}

int main(int argc, char **argv) {
    FILE *file = argc > 2 ? fopen(argv[2], "rb") : NULL;
    if (!file) {
        fprintf(stderr, "usage: source PORT ANSWER_FILE [EVENTS]\n");
        return 2;
    }
    answer_len = fread(answer, 1, sizeof answer - 1, file);
    fclose(file);
    events_per_second = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    period = events_per_second > 0 && events_per_second <= TICKS ? TICKS / events_per_second : TICKS;
    signal(SIGPIPE, SIG_IGN);
    loop = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on((uint16_t)strtoul(argv[1], NULL, 10));
    for (;;) {
        struct epoll_event events[BATCH];
        int n = epoll_wait(loop, events, BATCH, events_per_second > 0 ? 1 : -1);
        for (int i = 0; i < n; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!connection)
                accept_one(listener);
            else if (!connection->dead)
                readable(connection);
        }
        if (events_per_second > 0)
            tick();
        free_dead();
    }
}
