/* The floor: what passing bytes through TLS costs when nobody looks at them. One thread, one epoll, level-triggered; each client has one
 * backend connection of its own; one read and one write per event, and none after a whole request that only finds EAGAIN. No parsing, no
 * policy, no log, no limits: never to be put before anything. What a proxy spends beyond this it spends on being one.
 *
 * floor PORT CHAIN KEY BACKEND_PORT [CIPHERSUITES] */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { PIECE = 64 * 1024, EVENTS = 256 };

struct pair;
struct end {
    struct pair *pair;
    int fd;
    uint32_t watched;
    bool added;
    char *left; /* what the other side gave and this one did not take yet */
    size_t left_at, left_len;
};
struct pair {
    struct end client, backend;
    SSL *tls;
    bool open, dead;
    struct pair *next_dead;
};

static int loop;
static uint16_t backend_port;
static SSL_CTX *context;
static struct pair *dead;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint16_t port_of(const char *text) {
    char *end;
    long port = strtol(text, &end, 10);
    if (*end || port < 1 || port > 65535)
        fail("port");
    return (uint16_t)port;
}

static void watch(struct end *end, uint32_t events) {
    if (end->added && end->watched == events)
        return;
    struct epoll_event event = {.events = events, .data.ptr = end};
    if (epoll_ctl(loop, end->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, end->fd, &event))
        fail("epoll_ctl");
    end->added = true;
    end->watched = events;
}

/* A side is read while the other has taken all of what it was given. */
static void watch_both(struct pair *pair) {
    watch(&pair->client, (pair->backend.left_len ? 0U : EPOLLIN) | (pair->client.left_len ? EPOLLOUT : 0U));
    watch(&pair->backend, (pair->client.left_len ? 0U : EPOLLIN) | (pair->backend.left_len ? EPOLLOUT : 0U));
}

/* Freed at the end of the turn: other events of it may still name this pair. */
static void close_pair(struct pair *pair) {
    if (pair->dead)
        return;
    pair->dead = true;
    pair->next_dead = dead;
    dead = pair;
}

static void free_dead(void) {
    while (dead) {
        struct pair *pair = dead;
        dead = pair->next_dead;
        SSL_free(pair->tls);
        close(pair->client.fd);
        close(pair->backend.fd);
        free(pair->client.left);
        free(pair->backend.left);
        free(pair);
    }
}

static int connect_backend(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(backend_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) /* loopback: at once */
        return -1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void accept_one(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
    struct pair *pair = fd < 0 ? NULL : calloc(1, sizeof *pair);
    if (!pair)
        return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    pair->client = (struct end){.pair = pair, .fd = fd};
    pair->backend = (struct end){.pair = pair, .fd = connect_backend()};
    pair->tls = SSL_new(context);
    if (pair->backend.fd < 0 || !pair->tls || !SSL_set_fd(pair->tls, fd))
        fail("a new connection");
    SSL_set_accept_state(pair->tls);
    watch_both(pair);
}

/* What the client's side does not take now waits, and nothing is read for it meanwhile. */
static void to_client(struct pair *pair, char *bytes, size_t len) {
    size_t written = 0;
    if (len && SSL_write_ex(pair->tls, bytes, len, &written))
        return;
    if (len && SSL_get_error(pair->tls, 0) != SSL_ERROR_WANT_WRITE) {
        close_pair(pair);
        return;
    }
    if (!pair->client.left && !(pair->client.left = malloc(PIECE)))
        fail("malloc");
    memcpy(pair->client.left, bytes, len);
    pair->client.left_len = len;
    watch_both(pair);
}

static void to_backend(struct pair *pair, const char *bytes, size_t len) {
    ssize_t n = send(pair->backend.fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) {
        close_pair(pair);
        return;
    }
    size_t written = n < 0 ? 0 : (size_t)n;
    if (written == len)
        return;
    struct end *end = &pair->backend;
    if (!end->left && !(end->left = malloc(PIECE)))
        fail("malloc");
    memcpy(end->left, bytes + written, len - written);
    end->left_at = 0;
    end->left_len = len - written;
    watch_both(pair);
}

/* All records that are there go on by one write: with one write for each, large bodies cost a fifth more. */
static void from_client(struct pair *pair) {
    static char bytes[PIECE];
    size_t len = 0, piece;
    do {
        if (!SSL_read_ex(pair->tls, bytes + len, sizeof bytes - len, &piece)) {
            if (SSL_get_error(pair->tls, 0) != SSL_ERROR_WANT_READ)
                close_pair(pair);
            break;
        }
        len += piece;
    } while (len < sizeof bytes && SSL_has_pending(pair->tls));
    if (len > 0 && !pair->dead)
        to_backend(pair, bytes, len);
}

static void client_ready(struct pair *pair, uint32_t events) {
    if (!pair->open) {
        int r = SSL_do_handshake(pair->tls), error = r == 1 ? SSL_ERROR_NONE : SSL_get_error(pair->tls, r);
        pair->open = r == 1;
        if (r != 1 && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
            close_pair(pair);
        if (!pair->open || !SSL_has_pending(pair->tls))
            return;
    }
    if (events & EPOLLOUT && pair->client.left_len) {
        size_t len = pair->client.left_len, written;
        if (SSL_write_ex(pair->tls, pair->client.left, len, &written)) {
            pair->client.left_len = 0;
            watch_both(pair);
        } else if (SSL_get_error(pair->tls, 0) != SSL_ERROR_WANT_WRITE) {
            close_pair(pair);
            return;
        }
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !pair->backend.left_len)
        from_client(pair);
}

static void backend_ready(struct pair *pair, uint32_t events) {
    static char bytes[PIECE];
    struct end *end = &pair->backend;
    if (events & EPOLLOUT && end->left_len) {
        ssize_t n = send(end->fd, end->left + end->left_at, end->left_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            end->left_at += (size_t)n;
            end->left_len -= (size_t)n;
        }
        if (end->left_len == 0) {
            watch_both(pair);
            if (SSL_has_pending(pair->tls))
                from_client(pair);
        }
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || pair->dead || pair->client.left_len)
        return;
    ssize_t n = recv(end->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n > 0)
        to_client(pair, bytes, (size_t)n);
    else if (n == 0 || errno != EAGAIN)
        close_pair(pair);
}

static int listen_on(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) || bind(fd, (struct sockaddr *)&address, sizeof address) ||
        listen(fd, 4096))
        fail("listen");
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: floor PORT CHAIN KEY BACKEND_PORT [CIPHERSUITES]\n");
        return 2;
    }
    backend_port = port_of(argv[4]);
    context = SSL_CTX_new(TLS_server_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) || SSL_CTX_use_certificate_chain_file(context, argv[2]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, argv[3], SSL_FILETYPE_PEM) != 1 || (argc > 5 && SSL_CTX_set_ciphersuites(context, argv[5]) != 1)) {
        fprintf(stderr, "floor: the certificate, its key or the ciphers cannot be used\n");
        return 1;
    }
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1); /* a record by one read, not its head by one and its body by another */
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on(port_of(argv[1]));
    struct end accepting = {.fd = listener};
    loop = epoll_create1(EPOLL_CLOEXEC);
    watch(&accepting, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(loop, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct end *end = events[i].data.ptr;
            if (!end->pair)
                accept_one(listener);
            else if (end->pair->dead)
                continue;
            else if (end == &end->pair->client)
                client_ready(end->pair, events[i].events);
            else
                backend_ready(end->pair, events[i].events);
        }
        free_dead();
    }
}
