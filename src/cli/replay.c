/* The log, line by line, in the order in which requests began, through both configurations. */
#include "replay.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { CALLERS_TOLD = 20, READ_MAX = 256 * 1024 };

struct sp_replay {
    struct sp_world *now, *new;
    const struct sp_config *config;
    const struct sp_api_key_config **keys; /* in the order of their IDs */
    const char *const *roles;
    size_t n_roles;
    struct sp_logged **window; /* a heap, the earliest first */
    size_t n_window;
    uint64_t sequence, last_us;
    json_t *then; /* limit → how often the log says that it refused */
    uint64_t lines, skipped, requests, unordered, unknown_route, unknown_roles, guessed;
    uint64_t refused_then, refused_now, refused_new, newly, no_longer;
    uint64_t first_us, end_us;
    bool out_of_memory;
};

/* ---- Who is calling ---- */

static int by_id(const void *a, const void *b) {
    const struct sp_api_key_config *x = *(const struct sp_api_key_config *const *)a, *y = *(const struct sp_api_key_config *const *)b;
    return memcmp(x->id, y->id, sizeof x->id);
}

static const struct sp_api_key_config *key_of(const struct sp_replay *replay, const struct sp_logged *request) {
    struct sp_span id = request->text[SP_LOGGED_KEY];
    struct sp_api_key_config like;
    const struct sp_api_key_config *wanted = &like;
    if (id.len != sizeof like.id - 1 || replay->config->n_api_keys == 0)
        return NULL;
    memcpy(like.id, id.at, id.len);
    like.id[id.len] = '\0';
    const struct sp_api_key_config **found = bsearch(&wanted, replay->keys, replay->config->n_api_keys, sizeof *replay->keys, by_id);
    return found && sp_span_eq(sp_span_text((*found)->name), request->text[SP_LOGGED_SUBJECT]) ? *found : NULL;
}

static struct sp_caller caller_of(struct sp_replay *replay, const struct sp_logged *request) {
    const struct sp_api_key_config *key = key_of(replay, request);
    if (key)
        return (struct sp_caller){.roles = key->roles.item, .n_roles = key->roles.count, .api_key = true};
    if (request->text[SP_LOGGED_SUBJECT].len == 0)
        return (struct sp_caller){0};
    replay->unknown_roles += request->asked;
    return (struct sp_caller){.roles = replay->roles, .n_roles = replay->n_roles};
}

static bool has_route(const struct sp_config *config, struct sp_span name) {
    for (size_t i = 0; i < config->n_routes; i++)
        if (sp_span_eq(name, sp_span_text(config->routes[i].name)))
            return true;
    return false;
}

/* ---- One request ---- */

static void count_then(struct sp_replay *replay, const struct sp_logged *request) {
    struct sp_span limit = request->text[SP_LOGGED_LIMIT];
    char name[256];
    if (!request->refused || limit.len >= sizeof name)
        return;
    memcpy(name, limit.at, limit.len);
    name[limit.len] = '\0';
    replay->refused_then++;
    bool known = json_object_get(replay->then, name) || json_object_size(replay->then) < 2 * SP_LIMITS_MAX;
    if (known && json_object_set_new(replay->then, name, json_integer(json_integer_value(json_object_get(replay->then, name)) + 1)) < 0)
        replay->out_of_memory = true;
}

static void run(struct sp_replay *replay, const struct sp_logged *request) {
    struct sp_caller caller = caller_of(replay, request);
    replay->requests++;
    replay->guessed += request->refused;
    count_then(replay, request);
    struct sp_world_verdict now = sp_world_run(replay->now, request, &caller);
    caller.unknown_route = !request->login && !has_route(replay->config, request->text[SP_LOGGED_ROUTE]);
    replay->unknown_route += caller.unknown_route;
    struct sp_world_verdict new = sp_world_run(replay->new, request, &caller);
    replay->refused_now += now.refused;
    replay->refused_new += new.refused;
    if (new.refused && !now.refused) {
        replay->newly++;
        sp_cell_differs(new.cell);
    } else if (now.refused && !new.refused) {
        replay->no_longer++;
        sp_cell_differs(now.cell);
    }
}

/* ---- Order: lines come as requests end ---- */

static bool before(const struct sp_logged *a, const struct sp_logged *b) {
    return a->begin_us != b->begin_us ? a->begin_us < b->begin_us : a->sequence < b->sequence;
}

static struct sp_logged *take_first(struct sp_replay *replay) {
    struct sp_logged **heap = replay->window, *first = heap[0], *last = heap[--replay->n_window];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < replay->n_window; at = child) {
        if (child + 1 < replay->n_window && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], last))
            break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return first;
}

static void run_first(struct sp_replay *replay) {
    struct sp_logged *request = take_first(replay);
    if (request->begin_us < replay->last_us) {
        replay->unordered++;
        request->begin_us = replay->last_us;
    }
    replay->last_us = request->begin_us;
    run(replay, request);
    free(request);
}

static void enqueue(struct sp_replay *replay, struct sp_logged *request) {
    if (replay->n_window == SP_REPLAY_WINDOW_MAX)
        run_first(replay);
    request->sequence = replay->sequence++;
    size_t at = replay->n_window++;
    for (; at > 0 && before(request, replay->window[(at - 1) / 2]); at = (at - 1) / 2)
        replay->window[at] = replay->window[(at - 1) / 2];
    replay->window[at] = request;
}

void sp_replay_skip(struct sp_replay *replay) {
    replay->lines++;
    replay->skipped++;
}

void sp_replay_line(struct sp_replay *replay, struct sp_span line) {
    struct sp_logged *request = NULL;
    int r = sp_logged_read(line, &request);
    if (r < 0) {
        replay->out_of_memory = replay->out_of_memory || r == -ENOMEM;
        sp_replay_skip(replay);
        return;
    }
    replay->lines++;
    if (!request->asked && !request->login) {
        free(request);
        return;
    }
    replay->first_us = replay->first_us ? sp_min(replay->first_us, request->begin_us) : request->begin_us;
    replay->end_us = sp_max(replay->end_us, request->begin_us);
    enqueue(replay, request);
}

/* Lines that are too long are passed over, wherever they end. */
int sp_replay_file(struct sp_replay *replay, int fd) {
    _cleanup_(sp_buffer_free) struct sp_buffer bytes;
    bool within_long = false;
    sp_buffer_init(&bytes, READ_MAX);
    for (;;) {
        int r = sp_buffer_reserve(&bytes, SP_LOGGED_LINE_MAX);
        if (r < 0)
            return r;
        ssize_t n = read(fd, sp_buffer_tail(&bytes), sp_buffer_room(&bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        sp_buffer_added(&bytes, (size_t)n);
        struct sp_span rest = sp_buffer_span(&bytes);
        for (const char *end; rest.at && (end = memchr(rest.at, '\n', rest.len)); rest = sp_span_from(rest, (size_t)(end - rest.at) + 1)) {
            if (within_long)
                sp_replay_skip(replay);
            else if (end > rest.at)
                sp_replay_line(replay, sp_span(rest.at, (size_t)(end - rest.at)));
            within_long = false;
        }
        within_long = within_long || rest.len > SP_LOGGED_LINE_MAX;
        sp_buffer_consume(&bytes, within_long ? sp_buffer_len(&bytes) : sp_buffer_len(&bytes) - rest.len);
    }
    if (within_long)
        sp_replay_skip(replay);
    else if (sp_buffer_len(&bytes) > 0) /* torn, unless it is whole */
        sp_replay_line(replay, sp_buffer_span(&bytes));
    return 0;
}

/* ---- The answer ---- */

static json_t *limit_json(const struct sp_replay *replay, const char *name) {
    json_t *row =
        json_pack("{s:s,s:I}", "name", name, "refused_in_log", (json_int_t)json_integer_value(json_object_get(replay->then, name)));
    const struct {
        const struct sp_world *world;
        const char *counts, *callers, *differs;
    } sides[] = {{replay->now, "now", "no_longer_refused", "no_longer"}, {replay->new, "new", "newly_refused", "newly"}};
    for (size_t side = 0; side < SP_COUNT(sides); side++)
        for (size_t i = 0; i < sp_world_limits(sides[side].world); i++) {
            if (strcmp(sp_world_name(sides[side].world, i), name) != 0)
                continue;
            struct sp_world_counts counts = sp_world_counts(sides[side].world, i);
            json_object_set_new(row, sides[side].counts,
                                json_pack("{s:I,s:I,s:I}", "requests", (json_int_t)counts.asked, "refused", (json_int_t)counts.refused,
                                          "shadow_refused", (json_int_t)counts.shadow_refused));
            json_object_set_new(row, sides[side].differs, json_integer((json_int_t)counts.differs));
            json_object_set_new(row, sides[side].callers, sp_world_callers(sides[side].world, i, CALLERS_TOLD));
        }
    return row;
}

static bool has_limit(const struct sp_world *world, const char *name) {
    for (size_t i = 0; i < sp_world_limits(world); i++)
        if (strcmp(sp_world_name(world, i), name) == 0)
            return true;
    return false;
}

static json_t *limits_json(const struct sp_replay *replay) {
    json_t *list = json_array();
    for (size_t i = 0; i < sp_world_limits(replay->new); i++)
        json_array_append_new(list, limit_json(replay, sp_world_name(replay->new, i)));
    for (size_t i = 0; i < sp_world_limits(replay->now); i++)
        if (!has_limit(replay->new, sp_world_name(replay->now, i)))
            json_array_append_new(list, limit_json(replay, sp_world_name(replay->now, i)));
    return list;
}

static json_t *time_json(uint64_t us) {
    char text[SP_TIMESTAMP_LEN + 1];
    if (us == 0)
        return json_null();
    sp_timestamp(us / 1000, text);
    return json_string(text);
}

json_t *sp_replay_end(struct sp_replay *replay) {
    while (replay->n_window > 0)
        run_first(replay);
    if (replay->out_of_memory)
        return NULL;
    uint64_t left_out = sp_world_left_out(replay->now) + sp_world_left_out(replay->new);
    json_t *unsure = json_pack("{s:I,s:I,s:I,s:I,s:I}", "refused_in_log", (json_int_t)replay->guessed, "roles_unknown",
                               (json_int_t)replay->unknown_roles, "route_unknown", (json_int_t)replay->unknown_route, "out_of_order",
                               (json_int_t)replay->unordered, "no_room", (json_int_t)left_out);
    return json_pack("{s:I,s:I,s:I,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "lines", (json_int_t)replay->lines, "skipped",
                     (json_int_t)replay->skipped, "requests", (json_int_t)replay->requests, "from", time_json(replay->first_us), "to",
                     time_json(replay->end_us), "refused_in_log", (json_int_t)replay->refused_then, "refused_now",
                     (json_int_t)replay->refused_now, "refused_new", (json_int_t)replay->refused_new, "newly_refused",
                     (json_int_t)replay->newly, "no_longer_refused", (json_int_t)replay->no_longer, "unsure", unsure, "limits",
                     limits_json(replay));
}

/* ---- Life ---- */

static int prepare(struct sp_replay *replay, json_t *now, json_t *new) {
    size_t n_keys = replay->config->n_api_keys;
    replay->window = calloc(SP_REPLAY_WINDOW_MAX, sizeof *replay->window);
    replay->keys = calloc(n_keys + 1, sizeof *replay->keys);
    replay->then = json_object();
    if (!replay->window || !replay->keys || !replay->then)
        return -ENOMEM;
    for (size_t i = 0; i < n_keys; i++)
        replay->keys[i] = &replay->config->api_keys[i];
    qsort(replay->keys, n_keys, sizeof *replay->keys, by_id);
    int r = sp_world_new(now, SP_REPLAY_CELLS_MAX, &replay->now);
    return r < 0 ? r : sp_world_new(new, SP_REPLAY_CELLS_MAX, &replay->new);
}

int sp_replay_new(json_t *now, json_t *new, const struct sp_config *config, const char *const *roles, size_t n_roles,
                  struct sp_replay **ret) {
    struct sp_replay *replay = calloc(1, sizeof *replay);
    if (!replay)
        return -ENOMEM;
    *replay = (struct sp_replay){.config = config, .roles = roles, .n_roles = n_roles};
    int r = prepare(replay, now, new);
    if (r < 0) {
        sp_replay_free(replay);
        return r;
    }
    *ret = replay;
    return 0;
}

void sp_replay_free(struct sp_replay *replay) {
    if (!replay)
        return;
    for (size_t i = 0; i < replay->n_window; i++)
        free(replay->window[i]);
    free(replay->window);
    free(replay->keys);
    json_decref(replay->then);
    sp_world_free(replay->now);
    sp_world_free(replay->new);
    free(replay);
}
