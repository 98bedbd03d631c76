/* load: the client for what wrk cannot do. A fixed rate, whose latencies count from when a request was due, not from when there was a connection
 * for it; a new connection for each request, resumed or not; tokens that nobody has seen before; connections that stay open; event streams whose
 * delay is measured. One thread, one epoll; TLS 1.3, X25519 and one cipher.
 *
 * load [options] PORT: prints "ready" when all connections stand. Each line on its standard input begins a run (of --streams: ends one), and
 * each run prints one line of JSON. It ends when its standard input does.
 *
 *   --connections N   (32)
 *   --at-once N       of which so many are opened at the same time (32)
 *   --addresses N     from so many loopback addresses of its own; 0: from 127.0.0.1
 *   --seconds N       how long a run lasts (2); --requests N: or until so many were sent
 *   --rate N          requests a second over all connections; 0: on each the next when the last was answered
 *   --plain           without TLS: what there is without a gateway
 *   --new, --resume   a new connection for each request; continuing the session of the last one
 *   --silent          nothing is asked: connections only stand
 *   --streams         one request each, whose answer never ends: events that carry "@" and 20 digits, when they were sent (bench/source.c)
 *   --path P, --header LINE (several), --body FILE, --stamp: see asking.h
 *   --tokens FILE; or --hs256 SECRET_FILE --claims BEGINNING --callers N */
#include "asking.h"
#include "histogram.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 512, HEAD_MAX = 4096, PIECE = 16 * 1024, DIGITS = 20 };
#define GRACE_NS 5000000000U /* for what is still under way when a run is over */

enum phase { CLOSED, CONNECTING, HANDSHAKE, STANDING, WRITING, READING };

struct connection {
    enum phase phase;
    int fd;
    SSL *tls;
    SSL_SESSION *session;
    uint32_t watched;
    bool stood; /* at least once */
    uint64_t due;
    char *out;
    size_t out_at, out_len;
    char *head;
    size_t head_len;
    uint64_t body_left;
    bool in_body;
    unsigned digits; /* of a time stamp, counted from 1 at its "@" */
    uint64_t stamp;
};

static struct options {
    uint16_t port;
    unsigned connections, at_once, addresses, rate, seconds;
    uint64_t requests;
    bool fresh, resume, silent, streams, plain;
} option = {.connections = 32, .at_once = 32, .seconds = 2};

static struct asking asking = {.path = "/v1/chat/completions", .body = "", .callers = 1};
static struct connection *all, **standing; /* standing: a ring of those that wait for something to do */
static unsigned standing_at, standing_count, begun, stood; /* begun, stood: of all, how many */
static SSL_CTX *context;
static int loop;

static struct run {
    bool running;
    uint64_t begun, over, next_due;
    uint64_t sent, under_way, answered, refused, broken, unconnected, resumed, events;
    struct histogram delays;
} run;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(struct connection *connection, uint32_t events, int how) {
    if (how == EPOLL_CTL_MOD && connection->watched == events)
        return;
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(loop, how, connection->fd, &event))
        fail("epoll_ctl");
    connection->watched = events;
}

static void stand(struct connection *connection) {
    connection->phase = STANDING;
    standing[(standing_at + standing_count++) % option.connections] = connection;
    stood += !connection->stood;
    connection->stood = true;
}

static void begin_tls(struct connection *connection) {
    connection->tls = SSL_new(context);
    if (!connection->tls || !SSL_set_fd(connection->tls, connection->fd))
        fail("SSL_new");
    SSL_set_app_data(connection->tls, connection);
    SSL_set_connect_state(connection->tls);
    if (option.resume && connection->session)
        SSL_set_session(connection->tls, connection->session);
}

static void begin_connection(struct connection *connection) {
    int one = 1;
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(option.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, here = there;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        fail("socket");
    if (option.addresses > 0) {
        here.sin_port = 0;
        here.sin_addr.s_addr = htonl(0x7f010001U + (uint32_t)((size_t)(connection - all) % option.addresses));
        (void)setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(connection->fd, (struct sockaddr *)&here, sizeof here))
            fail("bind");
    }
    (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!option.plain)
        begin_tls(connection);
    connection->phase = CONNECTING;
    connection->head_len = 0;
    connection->in_body = false;
    (void)connect(connection->fd, (struct sockaddr *)&there, sizeof there); /* how it ended, the handshake tells */
    watch(connection, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

static void end_connection(struct connection *connection) {
    if (connection->phase == CLOSED)
        return;
    if (connection->tls && (connection->phase == READING || connection->phase == STANDING))
        SSL_shutdown(connection->tls);
    ERR_clear_error();
    SSL_free(connection->tls);
    close(connection->fd);
    connection->tls = NULL;
    connection->phase = CLOSED;
}

static int keep_session(SSL *tls, SSL_SESSION *session) {
    struct connection *connection = SSL_get_app_data(tls);
    SSL_SESSION_free(connection->session);
    connection->session = session;
    return 1;
}

static void leave_ring(const struct connection *connection) {
    for (unsigned i = 0, kept = 0, count = standing_count; i < count; i++) {
        struct connection *one = standing[(standing_at + i) % option.connections];
        if (one == connection)
            standing_count--;
        else
            standing[(standing_at + kept++) % option.connections] = one;
    }
}

/* The peer ended it, or it never stood. */
static void broken(struct connection *connection) {
    enum phase phase = connection->phase;
    if (phase == STANDING)
        leave_ring(connection);
    bool asked = phase == WRITING || phase == READING || (option.fresh && run.running);
    run.under_way -= asked;
    run.broken += asked;
    run.unconnected += !asked && phase != STANDING;
    end_connection(connection);
    if (option.fresh)
        stand(connection);
    else if (!option.silent && !option.streams)
        begin_connection(connection);
    else if (!connection->stood) {
        connection->stood = true;
        stood++; /* as far as it will come */
    }
}

/* ---- Bytes ---- */

/* 1: done, 0: later, -1: broken. */
static int verdict(const struct connection *connection, int done, int later) {
    return done > 0 ? 1 : (connection->tls ? SSL_get_error(connection->tls, 0) == later : errno == EAGAIN) ? 0 : -1;
}

static int write_some(const struct connection *connection, const char *bytes, size_t len, size_t *written) {
    if (connection->tls)
        return verdict(connection, SSL_write_ex(connection->tls, bytes, len, written), SSL_ERROR_WANT_WRITE);
    ssize_t n = send(connection->fd, bytes, len, MSG_NOSIGNAL);
    *written = n > 0 ? (size_t)n : 0;
    return verdict(connection, n > 0, 0);
}

static int read_some(const struct connection *connection, char *bytes, size_t len, size_t *read) {
    if (connection->tls)
        return verdict(connection, SSL_read_ex(connection->tls, bytes, len, read), SSL_ERROR_WANT_READ);
    ssize_t n = recv(connection->fd, bytes, len, 0);
    *read = n > 0 ? (size_t)n : 0;
    errno = n == 0 ? ECONNRESET : errno;
    return verdict(connection, n > 0, 0);
}

/* ---- Asking ---- */

static void go_on_writing(struct connection *connection) {
    size_t written;
    int r = write_some(connection, connection->out + connection->out_at, connection->out_len - connection->out_at, &written);
    if (r <= 0) {
        if (r == 0)
            watch(connection, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
        else
            broken(connection);
        return;
    }
    connection->out_at += written;
    if (connection->out_at < connection->out_len) {
        watch(connection, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
        return;
    }
    connection->phase = READING;
    watch(connection, EPOLLIN, EPOLL_CTL_MOD);
}

static void write_request(struct connection *connection) {
    if (!connection->out && !(connection->out = malloc(asking_space(&asking))))
        fail("malloc");
    connection->out_at = 0;
    connection->out_len = asking_compose(&asking, connection->out);
    if (connection->out_len == 0) { /* no token is left */
        run.over = run.begun;
        run.under_way--;
        stand(connection);
        return;
    }
    connection->phase = WRITING;
    go_on_writing(connection);
}

static bool may_ask(void) {
    return run.running && now_ns() < run.over && (option.requests == 0 || run.sent < option.requests);
}

static void ask(uint64_t due) {
    struct connection *connection = standing[standing_at];
    standing_at = (standing_at + 1) % option.connections;
    standing_count--;
    connection->due = due;
    run.sent++;
    run.under_way++;
    if (option.fresh)
        begin_connection(connection);
    else
        write_request(connection);
}

static void ask_what_is_due(void) {
    while (standing_count > 0 && may_ask()) {
        uint64_t now = now_ns();
        if (option.rate > 0 && run.next_due > now)
            return;
        ask(option.rate > 0 ? run.next_due : now);
        if (option.rate > 0)
            run.next_due = run.begun + run.sent * 1000000000 / option.rate;
    }
}

/* ---- Answers ---- */

static void answered(struct connection *connection) {
    histogram_add(&run.delays, now_ns() - connection->due);
    run.answered++;
    run.under_way--;
    connection->head_len = 0;
    connection->in_body = false;
    if (option.fresh)
        end_connection(connection);
    stand(connection);
}

/* How much of a stream's bytes was an event's time stamp does not depend on how they were cut. */
static void read_stamps(struct connection *connection, const char *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '@') {
            connection->digits = 1;
            connection->stamp = 0;
        } else if (connection->digits > 0 && bytes[i] >= '0' && bytes[i] <= '9') {
            connection->stamp = connection->stamp * 10 + (uint64_t)(bytes[i] - '0');
            if (connection->digits++ < DIGITS)
                continue;
            connection->digits = 0;
            uint64_t now = now_ns();
            histogram_add(&run.delays, now > connection->stamp ? now - connection->stamp : 0);
            run.events++;
            stood += !connection->stood;
            connection->stood = true;
        } else {
            connection->digits = 0;
        }
    }
}

/* Content-Length is what our backends and all peers answer with. What was taken of the bytes; 0 when the head goes on. */
static size_t read_head(struct connection *connection, const char *bytes, size_t len) {
    size_t before = connection->head_len, take = len < HEAD_MAX - 1 - before ? len : HEAD_MAX - 1 - before;
    if (!connection->head && !(connection->head = malloc(HEAD_MAX)))
        fail("malloc");
    memcpy(connection->head + before, bytes, take);
    connection->head[connection->head_len = before + take] = '\0';
    const char *end = strstr(connection->head, "\r\n\r\n"), *length = strcasestr(connection->head, "\r\ncontent-length:");
    if (!end)
        return 0;
    connection->in_body = true;
    connection->body_left = length && length < end ? strtoull(length + 17, NULL, 10) : 0;
    run.refused += strncmp(connection->head, "HTTP/1.1 200", 12) != 0;
    return (size_t)(end + 4 - connection->head) - before;
}

static void take(struct connection *connection, const char *bytes, size_t len) {
    if (!connection->in_body) {
        size_t taken = read_head(connection, bytes, len);
        if (!connection->in_body)
            return;
        bytes += taken;
        len -= taken;
    }
    if (option.streams) {
        read_stamps(connection, bytes, len);
        return;
    }
    connection->body_left -= len < connection->body_left ? len : connection->body_left;
    if (connection->body_left == 0)
        answered(connection);
}

static void read_answer(struct connection *connection) {
    static char bytes[PIECE];
    do {
        size_t len = 0;
        int r = read_some(connection, bytes, sizeof bytes, &len);
        if (r < 0)
            broken(connection);
        if (r <= 0)
            return;
        if (connection->phase == READING)
            take(connection, bytes, len);
    } while (connection->tls && SSL_has_pending(connection->tls));
}

static void stood_up(struct connection *connection) {
    run.resumed += connection->tls && SSL_session_reused(connection->tls);
    watch(connection, EPOLLIN, EPOLL_CTL_MOD);
    if (option.fresh || option.streams)
        write_request(connection);
    else
        stand(connection);
}

static void shake_hands(struct connection *connection) {
    if (option.plain) {
        stood_up(connection);
        return;
    }
    connection->phase = HANDSHAKE;
    int r = SSL_do_handshake(connection->tls), error = r == 1 ? SSL_ERROR_NONE : SSL_get_error(connection->tls, r);
    if (r == 1)
        stood_up(connection);
    else if (error == SSL_ERROR_WANT_READ)
        watch(connection, EPOLLIN, EPOLL_CTL_MOD);
    else if (error != SSL_ERROR_WANT_WRITE)
        broken(connection);
}

static void happened(struct connection *connection, uint32_t events) {
    if (connection->phase == CONNECTING || connection->phase == HANDSHAKE)
        shake_hands(connection);
    else if (connection->phase == WRITING && events & EPOLLOUT)
        go_on_writing(connection);
    else if (connection->phase != CLOSED && events & ~(uint32_t)EPOLLOUT)
        read_answer(connection);
}

/* ---- Runs ---- */

static void open_some(void) {
    while (begun < option.connections && begun - stood < option.at_once) {
        struct connection *connection = &all[begun++];
        if (option.fresh)
            stand(connection);
        else
            begin_connection(connection);
    }
}

static void report(void) {
    printf("{\"seconds\": %.6f, \"sent\": %" PRIu64 ", \"answered\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"broken\": %" PRIu64 ", \"unanswered\": %" PRIu64
           ", \"unconnected\": %" PRIu64 ", \"resumed\": %" PRIu64 ", \"events\": %" PRIu64 ", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f}\n",
           (double)(now_ns() - run.begun) / 1e9, run.sent, run.answered, run.refused, run.broken, run.under_way, run.unconnected, run.resumed, run.events,
           histogram_us(&run.delays, 0.5), histogram_us(&run.delays, 0.99), histogram_us(&run.delays, 0.999));
    fflush(stdout);
}

static void begin_run(void) {
    uint64_t now = now_ns();
    memset(&run, 0, sizeof run);
    run.begun = run.next_due = now;
    run.over = now + option.seconds * 1000000000UL;
    run.running = !option.silent && !option.streams;
}

static void end_run_in_time(void) {
    if (!run.running)
        return;
    bool sending = may_ask();
    if (sending || (run.under_way > 0 && now_ns() < run.over + GRACE_NS))
        return;
    run.running = false;
    report();
}

/* False at the end of standard input. */
static bool read_order(void) {
    char line[64];
    if (read(STDIN_FILENO, line, sizeof line) <= 0)
        return false;
    if (option.streams || option.silent) {
        report();
        begin_run();
    } else if (!run.running) {
        begin_run();
    }
    return true;
}

static struct timespec patience(void) {
    uint64_t now = now_ns(), wait = 20000000;
    if (run.running && option.rate > 0 && standing_count > 0 && may_ask())
        wait = run.next_due > now ? run.next_due - now : 0;
    return (struct timespec){.tv_nsec = wait < 20000000 ? (long)wait : 20000000};
}

static void serve(void) {
    bool told = false;
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    if (epoll_ctl(loop, EPOLL_CTL_ADD, STDIN_FILENO, &input))
        fail("standard input");
    for (;;) {
        struct timespec wait = patience();
        int n = epoll_pwait2(loop, events, EVENTS, &wait, NULL);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                happened(events[i].data.ptr, events[i].events);
            else if (!read_order())
                return;
        }
        open_some();
        if (!told && stood == option.connections) {
            told = true;
            puts("ready");
            fflush(stdout);
        }
        ask_what_is_due();
        end_run_in_time();
    }
}

static unsigned number(const char *text) {
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end || value > 1000000000) {
        fprintf(stderr, "load: %s is no number\n", text);
        exit(2);
    }
    return (unsigned)value;
}

static void set(const char *name, const char *value) {
    size_t ignored;
    if (!strcmp(name, "connections"))
        option.connections = number(value);
    else if (!strcmp(name, "at-once"))
        option.at_once = number(value);
    else if (!strcmp(name, "addresses"))
        option.addresses = number(value);
    else if (!strcmp(name, "seconds"))
        option.seconds = number(value);
    else if (!strcmp(name, "requests"))
        option.requests = number(value);
    else if (!strcmp(name, "rate"))
        option.rate = number(value);
    else if (!strcmp(name, "path"))
        asking.path = value;
    else if (!strcmp(name, "header")) {
        size_t used = strlen(asking.headers);
        snprintf(asking.headers + used, sizeof asking.headers - used, "%s\r\n", value);
    } else if (!strcmp(name, "body"))
        asking.body = asking_file(value, &asking.body_len);
    else if (!strcmp(name, "tokens"))
        asking.tokens = asking_file(value, &ignored);
    else if (!strcmp(name, "hs256"))
        asking.secret = asking_file(value, &asking.secret_len);
    else if (!strcmp(name, "claims"))
        asking.claims = value;
    else if (!strcmp(name, "callers"))
        asking.callers = number(value);
}

static void read_options(int argc, char **argv) {
    static int fresh, resume, silent, streams, stamp, plain;
    static const struct option known[] = {
        {"connections", 1, NULL, 0}, {"addresses", 1, NULL, 0}, {"seconds", 1, NULL, 0}, {"requests", 1, NULL, 0}, {"rate", 1, NULL, 0},
        {"path", 1, NULL, 0},        {"header", 1, NULL, 0},    {"body", 1, NULL, 0},    {"tokens", 1, NULL, 0},   {"hs256", 1, NULL, 0},
        {"at-once", 1, NULL, 0},     {"claims", 1, NULL, 0},    {"callers", 1, NULL, 0},   {"new", 0, &fresh, 1},   {"resume", 0, &resume, 1}, {"silent", 0, &silent, 1},
        {"streams", 0, &streams, 1}, {"stamp", 0, &stamp, 1},   {"plain", 0, &plain, 1}, {0},
    };
    int index, found;
    while ((found = getopt_long(argc, argv, "", known, &index)) == 0)
        if (!known[index].flag)
            set(known[index].name, optarg);
    if (found != -1 || optind != argc - 1 || option.connections == 0 || option.at_once == 0 || asking.callers == 0 || (asking.secret && !asking.claims)) {
        fprintf(stderr, "usage: load [options] PORT; see its first lines\n");
        exit(2);
    }
    option.port = (uint16_t)number(argv[optind]);
    option.fresh = fresh;
    option.resume = resume;
    option.silent = silent;
    option.streams = streams;
    option.plain = plain;
    asking.stamped = stamp;
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_client_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) || !SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") ||
        !SSL_CTX_set1_groups_list(context, "X25519"))
        fail("TLS");
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_read_ahead(context, 1);
    if (option.resume) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, keep_session);
    }
    loop = epoll_create1(EPOLL_CLOEXEC);
    all = calloc(option.connections, sizeof *all);
    standing = calloc(option.connections, sizeof *standing);
    if (loop < 0 || !all || !standing)
        fail("load");
    open_some();
    serve();
    return 0;
}
