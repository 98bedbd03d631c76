/* What worker and control have in common: the channel to the supervisor, from START to the end. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sallyport/process.h>

/* Larger than any document: certificates, key sets and API keys are in it. */
#define DOCUMENT_MAX ((size_t)256 * 1024 * 1024)

struct sp_child {
    struct sp_loop *loop;
    struct sp_channel *channel;
    const struct sp_child_events *events;
    void *owner;
    enum sp_role_id self;
    struct sp_timer heartbeat;
    void *segments[SP_SEGMENT_COUNT];
    bool started, ready, ending;
    int log_fd; /* -1: still the one we were started with */
    struct sp_config *offered, *current;
    int exit_status;
};

/* The supervisor is the one we trust; if it breaks the contract, nothing it says can be relied on. */
static void broken(struct sp_child *child, const char *what) {
    sp_error("the supervisor broke the message contract: %s", what);
    sp_child_end(child, 1);
}

static int take_fd(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}

static void on_start(struct sp_child *child, struct sp_span payload, int *fds) {
    struct sp_msg_start start;
    memcpy(&start, payload.at, sizeof start);
    if (child->started || start.version != SP_IPC_VERSION || start.slot >= SP_WORKERS_MAX || start.log_level > SP_LOG_DEBUG)
        return broken(child, "start");
    child->started = true;
    sp_log_set_level((enum sp_log_level)start.log_level);
    for (int i = 0; i < SP_SEGMENT_COUNT; i++) {
        if (child->events->segment_size[i] == 0)
            continue;
        int r = sp_segment_map(fds[i], child->events->segment_size[i], child->events->segments_writable, &child->segments[i]);
        if (r < 0) {
            sp_error("cannot map shared segment %d: %s", i, strerror(-r));
            return sp_child_end(child, 1);
        }
    }
    int r = child->events->start ? child->events->start(child->owner, child, &start, child->segments) : 0;
    if (r < 0) {
        sp_error("cannot start: %s", strerror(-r));
        sp_child_end(child, 1);
    }
}

static void on_log_files(struct sp_child *child, struct sp_span payload, int *fds, size_t n_fds) {
    struct sp_msg_log_files files;
    memcpy(&files, payload.at, sizeof files);
    size_t expected = 1 + (files.has_access ? 1 : 0) + (files.has_audit ? 1 : 0);
    if (n_fds != expected)
        return broken(child, "log files");
    sp_log_set_fd(fds[0]);
    sp_close_fd(&child->log_fd);
    child->log_fd = take_fd(&fds[0]);
    if (!child->events->log_files)
        return;
    size_t at = 1;
    int access_fd = files.has_access ? take_fd(&fds[at++]) : -1;
    int audit_fd = files.has_audit ? take_fd(&fds[at]) : -1;
    child->events->log_files(child->owner, access_fd, audit_fd);
}

/* ---- Votes on configurations ---- */

static void send_verdict(struct sp_child *child, uint64_t generation, const char *error) {
    struct sp_msg_verdict verdict = {.generation = generation, .accepted = error ? 0 : 1};
    struct sp_span sentence = sp_span_text(error);
    sentence.len = sp_min(sentence.len, (size_t)SP_SENTENCE_MAX);
    int r = sp_channel_send(child->channel, SP_MSG_CONFIG_VERDICT, &verdict, sizeof verdict, sentence, NULL, 0);
    if (r < 0) {
        sp_error("cannot tell the supervisor a verdict: %s", strerror(-r));
        sp_child_end(child, 1);
    }
}

static int decode_offer(int fd, uint64_t generation, struct sp_config **ret) {
    struct sp_span bytes;
    int r = sp_sealed_map(fd, DOCUMENT_MAX, &bytes);
    if (r < 0)
        return r;
    struct sp_config *config = NULL;
    r = sp_config_decode(bytes, &config);
    munmap((void *)(uintptr_t)bytes.at, bytes.len);
    if (r < 0)
        return r;
    if (config->generation != generation) {
        sp_config_unref(config);
        return -EINVAL;
    }
    *ret = config;
    return 0;
}

static void on_offer(struct sp_child *child, uint64_t generation, int fd) {
    if (child->offered)
        return broken(child, "a second offer before the first was settled");
    struct sp_config *config = NULL;
    _cleanup_(sp_free_pointer) char *error = NULL;
    int r = decode_offer(fd, generation, &config);
    if (r >= 0 && child->events->offer)
        r = child->events->offer(child->owner, config, &error);
    if (r < 0) {
        sp_config_unref(config);
        send_verdict(child, generation, error ? error : strerror(-r));
        return;
    }
    child->offered = config;
    send_verdict(child, generation, NULL);
}

static void on_commit(struct sp_child *child, uint64_t generation) {
    if (!child->offered || child->offered->generation != generation)
        return broken(child, "commit of what was not offered");
    sp_config_unref(child->current);
    child->current = sp_take(child->offered);
    sp_log_set_level(child->current->logs.level);
    if (child->events->commit)
        child->events->commit(child->owner, generation);
    if (child->ready)
        return;
    child->ready = true;
    int r = sp_channel_send(child->channel, SP_MSG_READY, NULL, 0, SP_SPAN(""), NULL, 0);
    if (r < 0) {
        sp_error("cannot tell the supervisor that we are ready: %s", strerror(-r));
        sp_child_end(child, 1);
    }
}

static void on_drop(struct sp_child *child, uint64_t generation) {
    /* Who refused has forgotten already. */
    if (!child->offered || child->offered->generation != generation)
        return;
    if (child->events->drop)
        child->events->drop(child->owner, generation);
    sp_config_unref(sp_take(child->offered));
}

/* ---- What a role may want ---- */

static void on_drain(struct sp_child *child, struct sp_span payload) {
    struct sp_msg_drain drain;
    memcpy(&drain, payload.at, sizeof drain);
    if (child->events->drain)
        child->events->drain(child->owner, drain.timeout_ms);
    else
        sp_child_end(child, 0);
}

static void on_listener(struct sp_child *child, struct sp_span payload, int *fds) {
    struct sp_msg_listener listener;
    memcpy(&listener, payload.at, sizeof listener);
    if (listener.slot >= SP_LISTENERS_MAX)
        return broken(child, "listener slot");
    if (child->events->listener)
        child->events->listener(child->owner, listener.slot, take_fd(&fds[0]));
}

static void on_endpoint(struct sp_child *child, struct sp_span payload, int *fds) {
    struct sp_msg_endpoint endpoint;
    memcpy(&endpoint, payload.at, sizeof endpoint);
    if (endpoint.kind >= SP_ENDPOINT_COUNT)
        return broken(child, "endpoint kind");
    if (child->events->endpoint)
        child->events->endpoint(child->owner, (enum sp_endpoint_kind)endpoint.kind, take_fd(&fds[0]));
}

static void on_ticket_keys(struct sp_child *child, struct sp_span payload) {
    struct sp_msg_ticket_keys keys;
    memcpy(&keys, payload.at, sizeof keys);
    if (keys.count == 0 || keys.count > SP_COUNT(keys.key))
        broken(child, "ticket keys");
    else if (child->events->ticket_keys)
        child->events->ticket_keys(child->owner, &keys);
    sp_wipe(&keys, sizeof keys);
}

static void on_peer(struct sp_child *child, struct sp_span payload, int *fds) {
    struct sp_msg_peer peer;
    memcpy(&peer, payload.at, sizeof peer);
    if (peer.role >= SP_ROLE_COUNT || peer.role == SP_ROLE_SUPERVISOR || peer.slot >= SP_WORKERS_MAX)
        return broken(child, "peer");
    if (child->events->peer)
        child->events->peer(child->owner, (enum sp_role_id)peer.role, peer.slot, take_fd(&fds[0]));
}

static void on_admin_answer(struct sp_child *child, struct sp_span payload) {
    struct sp_msg_admin_answer answer;
    memcpy(&answer, payload.at, sizeof answer);
    if (child->events->admin_answer)
        child->events->admin_answer(child->owner, answer.id, answer.ok != 0, sp_span_from(payload, sizeof answer));
}

static void on_status(struct sp_child *child, struct sp_span payload) {
    struct sp_msg_status status;
    struct sp_msg_process processes[SP_PROCESSES_MAX];
    memcpy(&status, payload.at, sizeof status);
    struct sp_span rest = sp_span_from(payload, sizeof status);
    if (status.n > SP_PROCESSES_MAX || rest.len != status.n * sizeof processes[0])
        return broken(child, "status");
    memcpy(processes, rest.at, rest.len);
    if (child->events->status)
        child->events->status(child->owner, &status, processes);
}

static void on_log_level(struct sp_child *child, struct sp_span payload) {
    struct sp_msg_log_level message;
    memcpy(&message, payload.at, sizeof message);
    if (message.level > SP_LOG_DEBUG)
        return broken(child, "log level");
    sp_log_set_level((enum sp_log_level)message.level);
}

static void on_revoked(struct sp_child *child, struct sp_span payload) {
    struct sp_msg_revoked message;
    struct sp_msg_revoked_key keys[SP_REVOKED_MAX];
    memcpy(&message, payload.at, sizeof message);
    struct sp_span rest = sp_span_from(payload, sizeof message);
    if (message.count > SP_REVOKED_MAX || rest.len != message.count * sizeof keys[0])
        return broken(child, "revoked keys");
    memcpy(keys, rest.at, rest.len);
    if (child->events->revoked)
        child->events->revoked(child->owner, keys, message.count);
}

static uint64_t generation_of(struct sp_span payload) {
    struct sp_msg_generation message;
    memcpy(&message, payload.at, sizeof message);
    return message.generation;
}

static void child_message(void *owner, struct sp_channel *channel, enum sp_message_type type, struct sp_span payload, int *fds,
                          size_t n_fds) {
    struct sp_child *child = owner;
    if (child->ending)
        return;
    if (!child->started && type != SP_MSG_START)
        return broken(child, "something came before start");
    switch (type) {
    case SP_MSG_START: return on_start(child, payload, fds);
    case SP_MSG_LOG_FILES: return on_log_files(child, payload, fds, n_fds);
    case SP_MSG_CONFIG_OFFER: return on_offer(child, generation_of(payload), fds[0]);
    case SP_MSG_CONFIG_COMMIT: return on_commit(child, generation_of(payload));
    case SP_MSG_CONFIG_DROP: return on_drop(child, generation_of(payload));
    case SP_MSG_DRAIN: return on_drain(child, payload);
    case SP_MSG_LISTENER: return on_listener(child, payload, fds);
    case SP_MSG_METRICS_LISTENER: return on_endpoint(child, payload, fds);
    case SP_MSG_TICKET_KEYS: return on_ticket_keys(child, payload);
    case SP_MSG_PEER: return on_peer(child, payload, fds);
    case SP_MSG_ADMIN_ANSWER: return on_admin_answer(child, payload);
    case SP_MSG_STATUS: return on_status(child, payload);
    case SP_MSG_LOG_LEVEL: return on_log_level(child, payload);
    case SP_MSG_REVOKED: return on_revoked(child, payload);
    default: return broken(child, sp_message_rules[type].name);
    }
}

static void child_closed(void *owner, struct sp_channel *channel, int reason) {
    struct sp_child *child = owner;
    if (reason < 0)
        sp_error("the channel to the supervisor broke: %s", strerror(-reason));
    else
        sp_error("the supervisor is gone");
    sp_child_end(child, 1);
}

static const struct sp_channel_events channel_events = {.message = child_message, .closed = child_closed};

/* ---- Life ---- */

static void beat(struct sp_timer *timer) {
    struct sp_child *child = SP_CONTAINER(timer, struct sp_child, heartbeat);
    /* A full queue means that the supervisor does not listen; it will find us silent. */
    (void)!sp_channel_send(child->channel, SP_MSG_HEARTBEAT, NULL, 0, SP_SPAN(""), NULL, 0);
    sp_timer_start(child->loop, timer, SP_HEARTBEAT_MS);
}

int sp_child_new(enum sp_role_id self, const struct sp_child_events *events, void *owner, struct sp_loop *loop, struct sp_child **ret) {
    static const int group_signals[] = {SIGPIPE, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    int type = 0;
    socklen_t type_len = sizeof type;
    if (getsockopt(SP_CHANNEL_FD, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 || type != SOCK_SEQPACKET)
        return -ENOTSOCK;
    /* A terminal's Ctrl-C or a manager's TERM reaches the whole group; what it means is the supervisor's to say. */
    for (size_t i = 0; i < SP_COUNT(group_signals); i++)
        signal(group_signals[i], SIG_IGN);
    sp_log_open(STDERR_FILENO, self == SP_ROLE_WORKER ? "sallyport-worker" : "sallyport-control", SP_LOG_INFO);
    int r = sp_sandbox_enter(self);
    if (r < 0)
        return r;

    struct sp_child *child = calloc(1, sizeof *child);
    if (!child)
        return -ENOMEM;
    *child = (struct sp_child){.loop = loop, .events = events, .owner = owner, .self = self, .log_fd = -1, .exit_status = 1};
    child->heartbeat.fire = beat;
    r = sp_channel_new(loop, SP_CHANNEL_FD, self, SP_ROLE_SUPERVISOR, &channel_events, child, &child->channel);
    if (r < 0) {
        free(child);
        return r;
    }
    beat(&child->heartbeat);
    *ret = child;
    return 0;
}

int sp_child_run(struct sp_child *child) {
    int r = child->ending ? 0 : sp_loop_run(child->loop);
    if (r < 0) {
        sp_error("the event loop failed: %s", strerror(-r));
        return 1;
    }
    return child->exit_status;
}

void sp_child_end(struct sp_child *child, int exit_status) {
    child->ending = true;
    child->exit_status = exit_status;
    sp_loop_stop(child->loop);
}

void sp_child_free(struct sp_child *child) {
    if (!child)
        return;
    sp_timer_stop(&child->heartbeat);
    sp_channel_free(child->channel);
    sp_config_unref(child->offered);
    sp_config_unref(child->current);
    for (int i = 0; i < SP_SEGMENT_COUNT; i++)
        if (child->segments[i])
            munmap(child->segments[i], child->events->segment_size[i]);
    if (child->log_fd >= 0)
        sp_log_set_fd(STDERR_FILENO);
    sp_close_fd(&child->log_fd);
    free(child);
}

int sp_child_send(struct sp_child *child, enum sp_message_type type, const void *payload, size_t len) {
    return sp_channel_send(child->channel, type, payload, len, SP_SPAN(""), NULL, 0);
}

struct sp_config *sp_child_config(const struct sp_child *child) { return child->current; }
