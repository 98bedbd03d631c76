/* sallyport diff --replay: every request of an access log once more, through the limits of two configurations, by the log's own times.
 * Pure but for memory, which is bounded: what did not fit is left out and counted.
 *
 * What the log does not say is assumed, and said in the answer: a request takes from limits on tokens what it used, not what was reserved
 * for it; one that was refused then would have used, and lasted, what its caller's others did on average; roles of callers with API keys
 * are those that the file of keys gives them, roles of all others are given by the operator. All buckets begin full. */
#ifndef SALLYPORT_CLI_REPLAY_H
#define SALLYPORT_CLI_REPLAY_H

#include <jansson.h>

#include <sallyport/config.h>

/* ---- One line (replay_line.c) ---- */

enum sp_logged_text { SP_LOGGED_SUBJECT, SP_LOGGED_TENANT, SP_LOGGED_KEY, SP_LOGGED_MODEL, SP_LOGGED_ROUTE, SP_LOGGED_CLIENT,
                      SP_LOGGED_LIMIT, SP_LOGGED_TEXTS };
struct sp_logged {
    uint64_t begin_us, duration_us; /* Unix time */
    uint64_t sequence;              /* set by the replay */
    int64_t tokens;                 /* −1: not known */
    bool asked;                     /* it came as far as limits */
    bool login;                     /* a login that failed, or was refused by a limit on those */
    bool refused;                   /* by the limit it names */
    struct sp_span text[SP_LOGGED_TEXTS];
    char bytes[];
};
#define SP_LOGGED_LINE_MAX (64 * 1024)
/* 0; -EINVAL: no line of an access log; -ENOMEM. *ret is one block, to be freed with free(). */
int sp_logged_read(struct sp_span line, struct sp_logged **ret) SP_MUST_USE;
int sp_logged_time(struct sp_span text, uint64_t *ret_us) SP_MUST_USE; /* RFC 3339 in UTC with milliseconds; -EINVAL */

/* ---- One configuration's limits (replay_world.c) ---- */

struct sp_world;
/* From sp_limit_policies_json() or a gateway's answer; -EINVAL: it is not that. cells_max: buckets at one time. */
int sp_world_new(json_t *limits, size_t cells_max, struct sp_world **ret) SP_MUST_USE;
void sp_world_free(struct sp_world *world); /* takes NULL */

struct sp_caller { /* whose request it is */
    const char *const *roles;
    size_t n_roles;
    bool api_key;
    bool unknown_route; /* this configuration has none of that name: nothing is asked */
};
struct sp_cell; /* a bucket's owner under one limit */
struct sp_world_verdict {
    bool refused;
    size_t limit;         /* that refused */
    struct sp_cell *cell; /* of it */
};
/* Requests come in the order of begin_us. */
struct sp_world_verdict sp_world_run(struct sp_world *world, const struct sp_logged *request, const struct sp_caller *caller);
/* The other configuration decided otherwise about what this cell refused. */
void sp_cell_differs(struct sp_cell *cell);

size_t sp_world_limits(const struct sp_world *world);
const char *sp_world_name(const struct sp_world *world, size_t limit);
struct sp_world_counts {
    uint64_t asked, refused, shadow_refused, differs;
};
struct sp_world_counts sp_world_counts(const struct sp_world *world, size_t limit);
uint64_t sp_world_left_out(const struct sp_world *world); /* decisions that no bucket could be kept for */
/* [{"who", "requests", "refused"}] of those whom this limit refused and the other configuration did not: the most refused first. */
json_t *sp_world_callers(const struct sp_world *world, size_t limit, size_t most);

/* ---- The whole (replay.c) ---- */

struct sp_replay;
#define SP_REPLAY_CELLS_MAX  200000
#define SP_REPLAY_WINDOW_MAX 65536 /* the log is in the order of ends: so many are put in the order of begins */
/* now, new: limits as sp_world_new() takes them. config: the new one, for its keys and routes; roles: of callers without an API key. All
 * borrowed. -EINVAL, -ENOMEM. */
int sp_replay_new(json_t *now, json_t *new, const struct sp_config *config, const char *const *roles, size_t n_roles,
                  struct sp_replay **ret) SP_MUST_USE;
void sp_replay_free(struct sp_replay *replay);                             /* takes NULL */
void sp_replay_line(struct sp_replay *replay, struct sp_span line);        /* without its end */
void sp_replay_skip(struct sp_replay *replay);                             /* one that was too long to be read */
int sp_replay_file(struct sp_replay *replay, int fd) SP_MUST_USE;          /* all its lines; -errno of reading */
json_t *sp_replay_end(struct sp_replay *replay);                           /* NULL: out of memory */

void sp_replay_print(json_t *answer);

#endif
