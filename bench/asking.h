/* What the load asks: one head and body for all requests, and a credential that may differ from one to the next. */
#ifndef BENCH_ASKING_H
#define BENCH_ASKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct asking {
    const char *path;
    char headers[8192]; /* lines, each with its end */
    const char *body;
    size_t body_len;
    bool stamped; /* x-sent: when it was sent, on this machine's monotonic clock, in nanoseconds */

    /* One of these at most: tokens from a file, each used once, or HS256 tokens made as they are needed, of which no two are equal. */
    char *tokens;
    const char *secret, *claims; /* claims: how each token's JSON begins, up to and with a comma */
    size_t secret_len;
    uint64_t callers, made;
};

/* The whole file, zero-terminated; ends the program when it cannot be read. */
char *asking_file(const char *path, size_t *ret_len);

/* One request, in `space` of asking_space() bytes. 0 when there is no token left. */
size_t asking_compose(struct asking *asking, char *space);
size_t asking_space(const struct asking *asking);

#endif
