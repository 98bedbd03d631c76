/* Lines wait in a ring of blocks; a block holds whole lines only and is at most PIPE_BUF bytes, so that one write of it reaches a pipe
 * or a socket whole or not at all. Full blocks leave at the end of a turn, to a file many together (each write costs a file as much as its
 * pages do); and all of them when the oldest line has waited for DELAY_MS. What the reader does not take waits for the next try; when the
 * ring is full, new lines are dropped and counted. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "line.h"

enum {
    BLOCKS = 64,
    BLOCK_SIZE = SP_LINE_MAX,
    FILE_BLOCKS = 16,
    DELAY_MS = 50,
    RETRY_MS = 5,           /* a reader that is slow */
    BROKEN_RETRY_MS = 1000, /* a reader that is gone, a disk that is full */
};

enum sink { SINK_FILE, SINK_PIPE, SINK_SOCKET, SINK_TERMINAL };

struct block {
    size_t len, sent;
    char bytes[BLOCK_SIZE];
};

struct sp_access_log {
    struct sp_loop *loop;
    int fd;
    enum sink sink;
    struct sp_turn_end turn_end;
    struct sp_timer timer; /* runs while a line waits */
    bool blocked;          /* the last write was not taken whole: not again before the timer */
    uint64_t dropped;
    unsigned first, filled; /* blocks [first, first + filled) are full; the one after them takes lines */
    struct block block[BLOCKS];
    char line[SP_LINE_MAX];
};

static struct block *block_at(struct sp_access_log *log, unsigned offset) { return &log->block[(log->first + offset) % BLOCKS]; }

static bool waiting(struct sp_access_log *log) { return log->filled > 0 || block_at(log, 0)->len > 0; }

static void adopt_fd(struct sp_access_log *log, int fd) {
    struct stat info;
    log->fd = fd;
    log->blocked = false;
    log->sink = SINK_FILE;
    if (fd < 0 || fstat(fd, &info) < 0)
        return;
    if (S_ISFIFO(info.st_mode)) {
        log->sink = SINK_PIPE;
        int flags = fcntl(fd, F_GETFL);
        if (flags >= 0 && !(flags & O_NONBLOCK))
            (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    } else if (S_ISSOCK(info.st_mode)) {
        log->sink = SINK_SOCKET;
    } else if (S_ISCHR(info.st_mode)) {
        log->sink = SINK_TERMINAL;
    }
}

/* ---- Leaving ---- */

static size_t unsent(const struct block *block) { return block->len - block->sent; }

static ssize_t write_file(struct sp_access_log *log, unsigned blocks, size_t *ret_asked) {
    struct iovec pieces[BLOCKS];
    *ret_asked = 0;
    for (unsigned i = 0; i < blocks; i++) {
        struct block *block = block_at(log, i);
        pieces[i] = (struct iovec){block->bytes + block->sent, unsent(block)};
        *ret_asked += unsent(block);
    }
    return writev(log->fd, pieces, (int)blocks);
}

static ssize_t write_block(struct sp_access_log *log, size_t *ret_asked) {
    const struct block *block = block_at(log, 0);
    const char *from = block->bytes + block->sent;
    *ret_asked = unsent(block);
    if (log->sink == SINK_SOCKET)
        return send(log->fd, from, unsent(block), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (log->sink == SINK_TERMINAL) {
        struct pollfd terminal = {.fd = log->fd, .events = POLLOUT};
        if (poll(&terminal, 1, 0) != 1) {
            errno = EAGAIN; /* stopped with ^S */
            return -1;
        }
    }
    return write(log->fd, from, unsent(block));
}

static void sent(struct sp_access_log *log, size_t n) {
    while (n > 0) {
        struct block *block = block_at(log, 0);
        size_t part = sp_min(n, unsent(block));
        block->sent += part;
        n -= part;
        if (unsent(block) > 0)
            return;
        block->len = block->sent = 0;
        if (log->filled > 0) {
            log->first = (log->first + 1) % BLOCKS;
            log->filled--;
        }
    }
}

/* Writes the first `blocks` blocks, as many as are taken without waiting. */
static void leave(struct sp_access_log *log, unsigned blocks) {
    while (blocks > 0) {
        size_t asked;
        ssize_t n = log->sink == SINK_FILE ? write_file(log, blocks, &asked) : write_block(log, &asked);
        if (n < 0 && errno == EINTR)
            continue;
        bool broken = n < 0 && errno != EAGAIN;
        sent(log, (size_t)sp_max(n, 0));
        if (n < (ssize_t)asked) {
            log->blocked = true;
            sp_timer_start(log->loop, &log->timer, broken ? BROKEN_RETRY_MS : RETRY_MS);
            return;
        }
        blocks -= log->sink == SINK_FILE ? blocks : 1;
    }
}

static void leave_all(struct sp_access_log *log) {
    if (waiting(log))
        leave(log, log->filled + (block_at(log, log->filled)->len > 0 ? 1 : 0));
}

static void on_turn_end(struct sp_turn_end *hook) {
    struct sp_access_log *log = SP_CONTAINER(hook, struct sp_access_log, turn_end);
    if (log->filled >= (log->sink == SINK_FILE ? FILE_BLOCKS : 1) && !log->blocked)
        leave(log, log->filled);
}

static void on_timer(struct sp_timer *timer) {
    struct sp_access_log *log = SP_CONTAINER(timer, struct sp_access_log, timer);
    log->blocked = false;
    leave_all(log);
}

/* ---- Arriving ---- */

static struct block *room_for(struct sp_access_log *log, size_t len) {
    struct block *block = block_at(log, log->filled);
    if (block->len + len <= BLOCK_SIZE)
        return block;
    if (log->filled + 1 == BLOCKS)
        return NULL;
    log->filled++;
    return block_at(log, log->filled);
}

void sp_access_log_write(struct sp_access_log *log, const struct sp_access_record *record) {
    if (log->fd < 0)
        return;
    size_t len = sp_access_line(record, log->line);
    struct block *block = room_for(log, len);
    if (!block) {
        log->dropped++;
        return;
    }
    memcpy(block->bytes + block->len, log->line, len);
    block->len += len;
    if (!log->timer.active)
        sp_timer_start(log->loop, &log->timer, DELAY_MS);
}

void sp_access_log_flush(struct sp_access_log *log) {
    if (log->fd >= 0)
        leave_all(log);
}

static uint64_t count_lines(const char *at, size_t len) {
    uint64_t lines = 0;
    for (size_t i = 0; i < len; i++)
        lines += at[i] == '\n';
    return lines;
}

/* The old file has the beginning of a line: its end would be garbage in the new one. */
static void drop_cut_line(struct sp_access_log *log) {
    struct block *block = block_at(log, 0);
    if (block->sent == 0 || block->bytes[block->sent - 1] == '\n')
        return;
    const char *end = memchr(block->bytes + block->sent, '\n', unsent(block));
    log->dropped++;
    sent(log, end ? (size_t)(end + 1 - block->bytes) - block->sent : unsent(block));
}

static void drop_all(struct sp_access_log *log) {
    while (waiting(log)) {
        struct block *block = block_at(log, 0);
        log->dropped += count_lines(block->bytes + block->sent, unsent(block));
        sent(log, unsent(block));
    }
    sp_timer_stop(&log->timer);
}

void sp_access_log_set_fd(struct sp_access_log *log, int fd) {
    sp_access_log_flush(log);
    drop_cut_line(log);
    adopt_fd(log, fd);
    if (fd >= 0)
        leave_all(log); /* what the old one did not take */
    else
        drop_all(log);
}

uint64_t sp_access_log_dropped(const struct sp_access_log *log) { return log->dropped; }

int sp_access_log_new(struct sp_loop *loop, int fd, struct sp_access_log **ret) {
    struct sp_access_log *log = calloc(1, sizeof *log);
    if (!log)
        return -ENOMEM;
    log->loop = loop;
    log->timer.fire = on_timer;
    log->turn_end.run = on_turn_end;
    sp_turn_end_add(loop, &log->turn_end);
    adopt_fd(log, fd);
    *ret = log;
    return 0;
}

void sp_access_log_free(struct sp_access_log *log) {
    if (!log)
        return;
    sp_access_log_flush(log);
    sp_timer_stop(&log->timer);
    sp_turn_end_remove(&log->turn_end);
    free(log);
}
