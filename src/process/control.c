/* control: the role that talks to operators and watches backends. It carries no client traffic and holds no TLS key. What it finds out
 * about servers it tells every worker, and everything again to a worker that is new. */
#include <errno.h>

#include <sallyport/admin.h>
#include <sallyport/process.h>

#include "questions.h"

enum { PUSH_RETRY_MS = 50, AGAIN_MIN_MS = 20, AGAIN_MAX_MS = 30000 };

/* One worker's channel, and how far it has been told: servers with slots below `told` are up to date there. */
struct peer {
    struct sp_channel *channel;
    unsigned told;
};

struct control {
    struct sp_loop *loop;
    struct sp_child *child;
    struct sp_counters *counters;
    struct sp_admin_view view;
    struct sp_endpoints *endpoints;
    struct sp_health *health;
    struct sp_resolver *resolver;
    struct sp_questions *questions;
    bool serves[SP_SERVERS_MAX]; /* slots that the configuration names */
    struct peer workers[SP_WORKERS_MAX];
    struct sp_timer push_timer, again_timer;
    uint64_t again_ms;
    uint64_t last_request;
    unsigned asked_last; /* worker whom an operator's question went to */
};

/* ---- Telling workers about servers ---- */

static int tell_addresses(struct control *control, struct sp_channel *channel, unsigned slot) {
    struct sp_msg_addresses message = {.server_slot = slot};
    _Static_assert(sizeof message.address == SP_ADDRESSES_MAX * 16, "a message takes every address a name can have");
    size_t count;
    if (!sp_resolver_addresses(control->resolver, slot, message.address, &count))
        return 0;
    message.count = (uint32_t)count;
    return sp_channel_send(channel, SP_MSG_ADDRESSES, &message, sizeof message, SP_SPAN(""), NULL, 0);
}

/* Nothing while nothing is known: what our predecessor told is better than a guess. */
static int tell_health(struct control *control, struct sp_channel *channel, unsigned slot) {
    enum sp_probe_state state = sp_health_state(control->health, slot);
    if (state == SP_PROBE_WAITING)
        return 0;
    struct sp_msg_health message = {.server_slot = slot, .up = state != SP_PROBE_DOWN};
    return sp_channel_send(channel, SP_MSG_HEALTH, &message, sizeof message, SP_SPAN(""), NULL, 0);
}

/* Goes on from where this worker was left; a full queue is tried again later, a channel that is gone reports itself. */
static void push(struct control *control, struct peer *worker) {
    for (; worker->channel && worker->told < SP_SERVERS_MAX; worker->told++) {
        if (!control->serves[worker->told])
            continue;
        int r = tell_addresses(control, worker->channel, worker->told);
        if (r == 0)
            r = tell_health(control, worker->channel, worker->told);
        if (r < 0) {
            sp_timer_start(control->loop, &control->push_timer, PUSH_RETRY_MS);
            return;
        }
    }
}

static void push_all(struct control *control, unsigned from_slot) {
    for (unsigned i = 0; i < SP_WORKERS_MAX; i++) {
        control->workers[i].told = sp_min(control->workers[i].told, from_slot);
        push(control, &control->workers[i]);
    }
}

static void on_push_timer(struct sp_timer *timer) { push_all(SP_CONTAINER(timer, struct control, push_timer), SP_SERVERS_MAX); }

/* Workers pass over a set they have. What does not get through comes with the next round, or when a worker asks. */
static void push_keys(struct control *control) {
    for (unsigned i = 0; i < SP_WORKERS_MAX && control->view.config; i++)
        if (control->workers[i].channel)
            (void)!sp_questions_tell_keys(control->questions, control->workers[i].channel, control->view.config);
}

/* Everything once more, soon and then ever less often: what reaches a worker before the configuration it belongs to is ignored there. */
static void on_again_timer(struct sp_timer *timer) {
    struct control *control = SP_CONTAINER(timer, struct control, again_timer);
    push_all(control, 0);
    push_keys(control);
    control->again_ms = sp_min(control->again_ms * 4, (uint64_t)AGAIN_MAX_MS);
    sp_timer_start(control->loop, timer, control->again_ms);
}

static void push_and_again(struct control *control) {
    push_all(control, 0);
    push_keys(control);
    control->again_ms = AGAIN_MIN_MS;
    sp_timer_start(control->loop, &control->again_timer, control->again_ms);
}

static void tell_all(struct control *control, unsigned slot, int (*tell)(struct control *, struct sp_channel *, unsigned)) {
    for (unsigned i = 0; i < SP_WORKERS_MAX; i++) {
        struct peer *worker = &control->workers[i];
        if (!worker->channel || worker->told <= slot)
            continue; /* gone, or its turn comes */
        if (tell(control, worker->channel, slot) < 0) {
            worker->told = slot;
            sp_timer_start(control->loop, &control->push_timer, PUSH_RETRY_MS);
        }
    }
}

static void on_keys(void *owner, uint64_t issuer, int sealed_fd) {
    struct control *control = owner;
    struct sp_msg_key_set message = {.issuer = issuer};
    for (unsigned i = 0; i < SP_WORKERS_MAX; i++) {
        struct sp_channel *channel = control->workers[i].channel;
        int r = channel ? sp_channel_send(channel, SP_MSG_KEY_SET, &message, sizeof message, SP_SPAN(""), &sealed_fd, sealed_fd >= 0) : 0;
        if (r < 0)
            sp_warn("worker %u does not hear of an issuer's new keys yet: %s", i, strerror(-r));
    }
}

static void on_health_changed(void *owner, unsigned server_slot, bool up) { tell_all(owner, server_slot, tell_health); }

static void on_resolved(void *owner, unsigned server_slot, const uint8_t (*addresses)[16], size_t count) {
    struct control *control = owner;
    sp_health_addresses(control->health, server_slot, addresses, count);
    tell_all(control, server_slot, tell_addresses);
}

/* ---- What the supervisor says ---- */

static int on_start(void *owner, struct sp_child *child, const struct sp_msg_start *start, void *segments[SP_SEGMENT_COUNT]) {
    struct control *control = owner;
    control->view.started_wall_ms = start->started_wall_ms;
    int r = sp_counters_open(segments[SP_SEGMENT_COUNTERS], &control->counters);
    control->view.counters = control->counters;
    return r;
}

static void on_commit(void *owner, uint64_t generation) {
    struct control *control = owner;
    struct sp_config *config = sp_child_config(control->child);
    sp_config_unref(control->view.config);
    control->view.config = sp_config_ref(config);
    memset(control->serves, 0, sizeof control->serves);
    for (size_t i = 0; i < config->n_pools; i++)
        for (size_t j = 0; j < config->pools[i].n_servers; j++)
            if (config->pools[i].servers[j].slot < SP_SERVERS_MAX)
                control->serves[config->pools[i].servers[j].slot] = true;
    int r = sp_endpoints_configure(control->endpoints);
    if (r == 0)
        r = sp_health_configure(control->health, config);
    if (r == 0)
        r = sp_resolver_configure(control->resolver, config);
    if (r == 0)
        r = sp_questions_configure(control->questions, config);
    if (r < 0) {
        sp_error("cannot take generation %llu into use: %s", (unsigned long long)generation, strerror(-r));
        sp_child_end(control->child, 1); /* the next one begins with it */
        return;
    }
    push_and_again(control);
}

static void on_endpoint(void *owner, enum sp_endpoint_kind kind, int fd) {
    struct control *control = owner;
    int r = sp_endpoints_open(control->endpoints, kind, fd);
    if (r < 0)
        sp_error("cannot serve the %s: %s", kind == SP_ENDPOINT_ADMIN ? "admin socket" : "metrics address", strerror(-r));
}

static void on_status(void *owner, const struct sp_msg_status *status, const struct sp_msg_process *processes) {
    struct sp_admin_view *view = &((struct control *)owner)->view;
    view->status = *status;
    memcpy(view->processes, processes, status->n * sizeof *processes);
}

static void on_admin_answer(void *owner, uint64_t id, bool ok, struct sp_span text) {
    sp_endpoints_answer(((struct control *)owner)->endpoints, id, ok, text);
}

static int on_act(void *owner, enum sp_admin_action action, uint32_t argument, struct sp_span key_id, uint64_t *ret_id) {
    struct control *control = owner;
    struct sp_msg_admin_request request = {.id = ++control->last_request, .action = action, .argument = argument};
    memcpy(request.key_id, key_id.at, sp_min(key_id.len, sizeof request.key_id));
    *ret_id = request.id;
    return sp_child_send(control->child, SP_MSG_ADMIN_REQUEST, &request, sizeof request);
}

/* Buckets, leases and places are the machine's: any worker can say. Each in turn, so that one that hangs does not hide them. */
static int on_levels_wanted(void *owner, const struct sp_facts *facts, uint64_t *ret_id) {
    struct control *control = owner;
    struct sp_msg_levels_wanted message = {.id = ++control->last_request};
    _cleanup_(sp_buffer_free) struct sp_buffer texts;
    sp_buffer_init(&texts, SP_FACT_TEXTS * SP_FACT_MAX);
    int r = sp_facts_write(facts, &message.facts, &texts);
    if (r < 0)
        return r;
    r = -EPIPE;
    for (unsigned tries = 0; tries < SP_WORKERS_MAX && r < 0; tries++) {
        control->asked_last = (control->asked_last + 1) % SP_WORKERS_MAX;
        struct sp_channel *channel = control->workers[control->asked_last].channel;
        if (channel)
            r = sp_channel_send(channel, SP_MSG_LEVELS_WANTED, &message, sizeof message, sp_buffer_span(&texts), NULL, 0);
    }
    *ret_id = message.id;
    return r;
}

/* ---- Workers ---- */

static void on_peer_closed(void *owner, struct sp_channel *channel, int reason) {
    struct control *control = owner;
    for (unsigned i = 0; i < SP_WORKERS_MAX; i++) {
        if (control->workers[i].channel != channel)
            continue;
        if (reason < 0)
            sp_error("the channel to worker %u broke: %s", i, strerror(-reason));
        sp_questions_forget(control->questions, channel);
        sp_channel_free(sp_take(control->workers[i].channel));
    }
}

static void on_worker_message(void *owner, struct sp_channel *channel, enum sp_message_type type, struct sp_span payload, int *fds,
                              size_t n_fds) {
    struct control *control = owner;
    if (type == SP_MSG_LEVELS)
        sp_endpoints_levels(control->endpoints, payload);
    else
        sp_questions_message(control->questions, channel, control->view.config, type, payload);
}

static const struct sp_channel_events worker_events = {.message = on_worker_message, .closed = on_peer_closed};

static void on_peer(void *owner, enum sp_role_id role, unsigned slot, int fd) {
    struct control *control = owner;
    struct peer *worker = &control->workers[slot];
    sp_questions_forget(control->questions, worker->channel);
    sp_channel_free(sp_take(worker->channel)); /* of its predecessor */
    worker->told = 0;
    int r = sp_channel_new(control->loop, fd, SP_ROLE_CONTROL, role, &worker_events, control, &worker->channel);
    if (r < 0) {
        sp_error("cannot talk to worker %u: %s", slot, strerror(-r));
        return;
    }
    push_and_again(control);
}

/* ---- Life ---- */

static const struct sp_child_events child_events = {
    .start = on_start,
    .commit = on_commit,
    .endpoint = on_endpoint,
    .peer = on_peer,
    .admin_answer = on_admin_answer,
    .status = on_status,
};

static void close_control(struct control *control) {
    for (unsigned i = 0; i < SP_WORKERS_MAX; i++)
        sp_channel_free(control->workers[i].channel);
    sp_questions_free(control->questions);
    sp_endpoints_free(control->endpoints);
    sp_resolver_free(control->resolver);
    sp_health_free(control->health);
    sp_timer_stop(&control->push_timer);
    sp_timer_stop(&control->again_timer);
    sp_config_unref(control->view.config);
    sp_counters_free(control->counters);
    sp_child_free(control->child);
    sp_loop_free(control->loop);
}

static int run(struct control *control) {
    struct sp_child_events events = child_events;
    events.segment_size[SP_SEGMENT_COUNTERS] = sp_counters_segment_size();
    control->push_timer.fire = on_push_timer;
    control->again_timer.fire = on_again_timer;
    int r = sp_loop_new(&control->loop);
    if (r == 0)
        r = sp_child_new(SP_ROLE_CONTROL, &events, control, control->loop, &control->child);
    if (r == 0)
        r = sp_health_new(control->loop, on_health_changed, control, &control->health);
    if (r == 0)
        r = sp_resolver_new(control->loop, on_resolved, control, &control->resolver);
    if (r == 0)
        r = sp_questions_new(control->loop, on_keys, control, &control->questions);
    if (r == 0)
        r = sp_endpoints_new(control->loop, &control->view, on_act, control, &control->endpoints);
    if (r == 0)
        sp_endpoints_ask_levels(control->endpoints, on_levels_wanted, control);
    control->view.health = control->health;
    if (r == -ENOTSOCK)
        sp_error("sallyport-control is started by sallyport-supervisor");
    else if (r < 0)
        sp_error("cannot start: %s", strerror(-r));
    int status = r == 0 ? sp_child_run(control->child) : 1;
    close_control(control);
    return status;
}

int sp_control_main(int argc, char **argv) {
    static struct control control;
    sp_config_wipe_json();
    return run(&control);
}
