/* The worker: all client, backend and Redis traffic on one event loop. It opens no file, runs no program and reads no configuration from
 * disk; what it needs it is handed by the supervisor (sockets, snapshots, keys) and by control (addresses, health). */
#include <sallyport/process.h>

#include <errno.h>
#include <sys/mman.h>

#include <sallyport/account.h>
#include <sallyport/exchange.h>

#include "levels.h"

enum { TOKENS_REMEMBERED_MAX = 16384, GAUGES_EVERY_MS = 1000, KEY_SET_MAX = 256 * 1024, FAREWELL_MS = 500, FAREWELL_EACH_MS = 5 };

struct worker {
    struct sp_loop *loop;
    struct sp_child *child;
    unsigned slot;
    struct sp_tls_tickets *tickets;
    struct sp_token_cache *tokens;
    struct sp_revocations *revocations;
    struct sp_traffic *traffic;
    struct sp_counters *counters;
    struct sp_limiter *limiter;
    struct sp_levels *levels;
    struct sp_upstreams *upstreams;
    struct sp_access_log *access_log;
    int access_fd;
    struct sp_service *service;
    struct sp_acceptor *acceptors[SP_LISTENERS_MAX];
    struct sp_channel *control;
    struct sp_snapshot *offered, *current;
    struct sp_timer gauges, drain_limit, farewell;
    unsigned farewells; /* looks whether everything is settled, left */
    struct sp_limiter_state limiter_told; /* as counted and logged so far */
    uint64_t refused_told, opened_told, dropped_told;
    bool draining;
};

/* ---- What is counted by polling: once a second, off the path of requests ---- */

static void count_limiter(struct worker *worker) {
    struct sp_limiter_state now, *told = &worker->limiter_told;
    sp_limiter_state(worker->limiter, &now);
    sp_count(worker->counters, worker->slot, SP_COUNTER_REDIS_COMMANDS, now.commands - told->commands);
    sp_count(worker->counters, worker->slot, SP_COUNTER_REDIS_ERRORS, now.errors - told->errors);
    sp_count(worker->counters, worker->slot, SP_COUNTER_REDIS_TIMEOUTS, now.timeouts - told->timeouts);
    sp_count(worker->counters, worker->slot, SP_COUNTER_LIMITS_LEASED, now.leased - told->leased);
    sp_count(worker->counters, worker->slot, SP_COUNTER_LIMITS_STRICT, now.strict - told->strict);
    sp_count(worker->counters, worker->slot, SP_COUNTER_SETTLEMENTS, now.settlements - told->settlements);
    sp_count(worker->counters, worker->slot, SP_COUNTER_SETTLEMENTS_DROPPED, now.settlements_dropped - told->settlements_dropped);
    sp_count(worker->counters, worker->slot, SP_COUNTER_HOLDINGS_RECOVERED, now.recovered - told->recovered);
    sp_gauge(worker->counters, worker->slot, SP_GAUGE_REDIS_CONFIGURED, now.shared);
    sp_gauge(worker->counters, worker->slot, SP_GAUGE_REDIS_UP, now.up);
    if (now.shared && told->shared && now.up != told->up) {
        if (now.up)
            sp_info("Redis answers again: limits are shared");
        else
            sp_warn("Redis does not answer (%s): each limit does what its on_outage says", now.problem[0] ? now.problem : "no reason known");
    } else if (now.shared && now.problem[0] && strcmp(now.problem, told->problem) != 0) {
        sp_warn(now.up ? "Redis: %s" : "Redis is not used (%s): each limit does what its on_outage says", now.problem);
    }
    *told = now;
}

static void count_backends(struct worker *worker) {
    const struct sp_config *config = worker->current->config;
    for (size_t p = 0; p < config->n_pools; p++) {
        unsigned slot = config->pools[p].slot;
        sp_gauge_queue(worker->counters, worker->slot, slot, (uint32_t)sp_queue_length_own(worker->upstreams, slot));
    }
    for (size_t p = 0; p < config->n_pools; p++)
        for (size_t s = 0; s < config->pools[p].n_servers; s++) {
            unsigned slot = config->pools[p].servers[s].slot;
            sp_set_backend_up(worker->counters, worker->slot, slot, sp_upstreams_server_up(worker->upstreams, slot));
        }
}

static void count_by(struct worker *worker, enum sp_counter counter, uint64_t now, uint64_t *told) {
    sp_count(worker->counters, worker->slot, counter, now - *told);
    *told = now;
}

static void tell_gauges(struct sp_timer *timer) {
    struct worker *worker = SP_CONTAINER(timer, struct worker, gauges);
    if (worker->service && worker->current) {
        struct sp_service_state state;
        sp_service_state(worker->service, &state);
        sp_gauge(worker->counters, worker->slot, SP_GAUGE_CONNECTIONS, state.connections);
        sp_gauge(worker->counters, worker->slot, SP_GAUGE_EXCHANGES, state.exchanges);
        sp_gauge(worker->counters, worker->slot, SP_GAUGE_BODY_BYTES, state.body_bytes);
        sp_gauge(worker->counters, worker->slot, SP_GAUGE_TOKEN_CACHE, sp_token_cache_count(worker->tokens));
        count_limiter(worker);
        count_backends(worker);
        uint64_t refused = 0;
        for (unsigned i = 0; i < SP_LISTENERS_MAX; i++)
            refused += worker->acceptors[i] ? sp_acceptor_refused(worker->acceptors[i]) : 0;
        count_by(worker, SP_COUNTER_CONNECTIONS_REFUSED, sp_max(refused, worker->refused_told), &worker->refused_told);
        count_by(worker, SP_COUNTER_BACKEND_CONNECTIONS, sp_upstreams_opened(worker->upstreams), &worker->opened_told);
        if (worker->access_log)
            count_by(worker, SP_COUNTER_LOG_LINES_DROPPED, sp_access_log_dropped(worker->access_log), &worker->dropped_told);
    }
    sp_timer_start(worker->loop, timer, GAUGES_EVERY_MS);
}

/* ---- API keys that are revoked while we run ---- */

/* true: this was news, and is in force. Keys that the configuration has always find room. */
static bool take_revocation(struct worker *worker, const struct sp_revocation *revocation) {
    int r = sp_revocations_add(worker->revocations, revocation);
    if (r == -ENOSPC && worker->current && sp_revocations_keep_known(worker->revocations, worker->current->config) == 0)
        r = sp_revocations_add(worker->revocations, revocation);
    if (r == 1 && revocation->now)
        sp_service_cut_key(worker->service, sp_span(revocation->id, SP_KEY_ID_LEN));
    if (r < 0)
        sp_error("API key %.8s cannot be revoked: %s", revocation->id, strerror(-r));
    return r == 1;
}

static void on_revoked(void *owner, const struct sp_msg_revoked_key *keys, size_t n) {
    struct worker *worker = owner;
    bool news = false;
    for (size_t i = 0; i < n; i++) {
        struct sp_revocation revocation = {.now = keys[i].now != 0};
        memcpy(revocation.id, keys[i].id, sizeof revocation.id);
        news |= take_revocation(worker, &revocation);
    }
    if (news)
        sp_limiter_tell_revocations(worker->limiter);
}

/* From Redis. What concerns this gateway the supervisor keeps, for workers to come. */
static void on_revoked_elsewhere(void *owner, const struct sp_revocation *listed, size_t n) {
    struct worker *worker = owner;
    struct {
        struct sp_msg_revoked head;
        struct sp_msg_revoked_key key[SP_REVOKED_MAX];
    } message = {0};
    for (size_t i = 0; i < n && message.head.count < SP_REVOKED_MAX; i++) {
        if (!take_revocation(worker, &listed[i]) || !sp_key_id_known(worker->current->config, listed[i].id))
            continue;
        struct sp_msg_revoked_key *key = &message.key[message.head.count++];
        memcpy(key->id, listed[i].id, sizeof key->id);
        key->now = listed[i].now;
    }
    if (message.head.count == 0)
        return;
    int r = sp_child_send(worker->child, SP_MSG_REVOKED_ELSEWHERE, &message, sizeof message.head + message.head.count * sizeof message.key[0]);
    if (r < 0)
        sp_error("cannot tell the supervisor which API keys are revoked: %s", strerror(-r));
}

/* ---- From the supervisor ---- */

static int ask_control(void *owner, uint64_t id, const struct sp_issuer_config *issuer, const struct sp_auth_question *question);

static int on_start(void *owner, struct sp_child *child, const struct sp_msg_start *start, void *segments[SP_SEGMENT_COUNT]) {
    struct worker *worker = owner;
    struct sp_hash_key key = {start->hash_k0, start->hash_k1};
    worker->child = child;
    worker->slot = start->slot;
    int error = sp_counters_open(segments[SP_SEGMENT_COUNTERS], &worker->counters);
    if (!error)
        error = sp_traffic_open(segments[SP_SEGMENT_TRAFFIC], start->slot, &key, &worker->traffic);
    if (!error)
        error = sp_limiter_new(worker->loop, segments[SP_SEGMENT_BUCKETS], &key, start->slot, &worker->limiter);
    if (!error)
        error = sp_levels_new(worker->limiter, &worker->levels);
    if (!error)
        error = sp_upstreams_new(worker->loop, worker->traffic, &worker->upstreams);
    if (!error)
        error = sp_token_cache_new(TOKENS_REMEMBERED_MAX, &worker->tokens);
    if (!error)
        error = sp_revocations_new(&worker->revocations);
    if (error)
        return error;
    sp_limiter_share_revocations(worker->limiter, worker->revocations, on_revoked_elsewhere, worker);
    sp_counters_begin(worker->counters, worker->slot);
    const struct sp_service_parts parts = {
        .loop = worker->loop,
        .worker_slot = worker->slot,
        .limiter = worker->limiter,
        .upstreams = worker->upstreams,
        .tokens = worker->tokens,
        .revocations = worker->revocations,
        .traffic = worker->traffic,
        .counters = worker->counters,
        .access_log = worker->access_log,
        .ask = ask_control,
        .ask_owner = worker,
    };
    error = sp_service_new(&parts, &worker->service);
    if (!error)
        tell_gauges(&worker->gauges);
    return error;
}

static void on_log_files(void *owner, int access_fd, int audit_fd) {
    struct worker *worker = owner;
    sp_close_fd(&audit_fd); /* what is audited is not decided here */
    if (worker->access_log && access_fd >= 0) {
        sp_access_log_set_fd(worker->access_log, access_fd);
    } else if (access_fd >= 0) {
        if (sp_access_log_new(worker->loop, access_fd, &worker->access_log))
            sp_error("no memory for the access log");
    } else {
        sp_access_log_free(worker->access_log);
        worker->access_log = NULL;
        worker->dropped_told = 0;
    }
    sp_close_fd(&worker->access_fd);
    worker->access_fd = access_fd;
    if (worker->service)
        sp_service_set_access_log(worker->service, worker->access_log);
}

static void on_ticket_keys(void *owner, const struct sp_msg_ticket_keys *keys) {
    struct worker *worker = owner;
    sp_tls_tickets_set(worker->tickets, keys->key, keys->count);
}

static void on_accepted(void *owner, unsigned listener_slot, int fd, const struct sp_address *peer) {
    struct worker *worker = owner;
    sp_service_accept(worker->service, listener_slot, fd, peer);
}

static void on_listener(void *owner, unsigned slot, int fd) {
    struct worker *worker = owner;
    if (worker->draining) {
        sp_close_fd(&fd);
        return;
    }
    sp_acceptor_free(worker->acceptors[slot]);
    worker->acceptors[slot] = NULL;
    int error = sp_acceptor_new(worker->loop, fd, slot, worker->traffic, on_accepted, worker, &worker->acceptors[slot]);
    if (error) {
        sp_close_fd(&fd);
        sp_error("cannot watch a listening socket: %s", strerror(-error));
    }
}

static int on_offer(void *owner, struct sp_config *config, char **ret_error) {
    struct worker *worker = owner;
    int error = sp_snapshot_new(config, &sp_tls_signer_local, worker->tickets, ret_error, &worker->offered);
    if (!error && worker->current)
        sp_identity_inherit(worker->offered->identity, worker->current->identity);
    return error;
}

static void on_drop(void *owner, uint64_t generation) {
    struct worker *worker = owner;
    (void)generation;
    sp_snapshot_unref(sp_take(worker->offered));
}

static void configure_acceptors(struct worker *worker, struct sp_snapshot *snapshot) {
    for (unsigned slot = 0; slot < SP_LISTENERS_MAX; slot++) {
        if (!worker->acceptors[slot])
            continue;
        if (snapshot->listener[slot]) {
            sp_acceptor_configure(worker->acceptors[slot], snapshot->config, snapshot->listener[slot]);
        } else {
            sp_acceptor_free(worker->acceptors[slot]);
            worker->acceptors[slot] = NULL;
        }
    }
}

static void on_commit(void *owner, uint64_t generation) {
    struct worker *worker = owner;
    struct sp_snapshot *snapshot = sp_take(worker->offered);
    int error = sp_upstreams_configure(worker->upstreams, snapshot->config, snapshot->upstream_tls);
    if (!error)
        error = sp_limiter_configure(worker->limiter, snapshot->config, snapshot->redis_tls);
    if (error) {
        /* All have agreed; one that cannot follow must not go on by other rules: it begins anew. */
        sp_error("cannot take configuration %llu into use: %s", (unsigned long long)generation, strerror(-error));
        sp_snapshot_unref(snapshot);
        sp_child_end(worker->child, 1);
        return;
    }
    sp_service_use(worker->service, snapshot);
    sp_count_usage_for(worker->counters, worker->slot, snapshot->config);
    configure_acceptors(worker, snapshot);
    if (worker->current)
        sp_count(worker->counters, worker->slot, SP_COUNTER_RELOADS, 1);
    sp_gauge(worker->counters, worker->slot, SP_GAUGE_GENERATION, generation);
    sp_snapshot_unref(worker->current);
    worker->current = snapshot;
}

/* ---- From control ---- */

/* An issuer's keys, for every snapshot that knows it; the sealed file keeps them as they were checked. */
static void on_key_set(struct worker *worker, struct sp_span payload, int *fds, size_t n_fds) {
    struct sp_snapshot *const snapshots[] = {worker->current, worker->offered};
    struct sp_msg_key_set message;
    struct sp_span jwks = sp_span(NULL, 0);
    memcpy(&message, payload.at, sizeof message);
    int r = n_fds ? sp_sealed_map(fds[0], KEY_SET_MAX, &jwks) : 0;
    for (size_t i = 0; i < SP_COUNT(snapshots) && r == 0; i++) {
        _cleanup_(sp_free_pointer) char *wrong = NULL;
        int set = snapshots[i] ? sp_identity_set_keys(snapshots[i]->identity, message.issuer, jwks, &wrong) : -ENOENT;
        if (set < 0 && set != -ENOENT)
            sp_error("cannot use a key set that control sent: %s", wrong ? wrong : strerror(-set));
    }
    if (r < 0)
        sp_error("cannot read a key set that control sent: %s", strerror(-r));
    else if (jwks.len)
        munmap((void *)(uintptr_t)jwks.at, jwks.len);
}

static int ask_control(void *owner, uint64_t id, const struct sp_issuer_config *issuer, const struct sp_auth_question *question) {
    struct worker *worker = owner;
    if (!worker->control)
        return -EPIPE;
    if (question->kind == SP_QUESTION_KEYS) {
        struct sp_msg_key_wanted wanted = {.id = id, .issuer = issuer->fingerprint};
        return sp_channel_send(worker->control, SP_MSG_KEY_WANTED, &wanted, sizeof wanted, SP_SPAN(""), NULL, 0);
    }
    struct sp_msg_introspect introspect = {.id = id, .issuer = issuer->fingerprint};
    return sp_channel_send(worker->control, SP_MSG_INTROSPECT, &introspect, sizeof introspect, question->token, NULL, 0);
}

static void on_key_answer(struct worker *worker, struct sp_span payload) {
    struct sp_msg_key_answer message;
    memcpy(&message, payload.at, sizeof message);
    sp_service_keys_answered(worker->service, message.id, message.answered != 0, message.wait_ms);
}

static void on_introspection(struct worker *worker, struct sp_span payload) {
    struct sp_msg_introspection message;
    memcpy(&message, payload.at, sizeof message);
    sp_service_introspected(worker->service, message.id, message.answered != 0, sp_span_from(payload, sizeof message));
}

static void from_control(void *owner, struct sp_channel *channel, enum sp_message_type type, struct sp_span payload, int *fds, size_t n_fds) {
    struct worker *worker = owner;
    if (type == SP_MSG_ADDRESSES) {
        struct sp_msg_addresses message;
        memcpy(&message, payload.at, sizeof message);
        sp_upstreams_addresses(worker->upstreams, message.server_slot, message.address, sp_min(message.count, SP_COUNT(message.address)));
    } else if (type == SP_MSG_HEALTH) {
        struct sp_msg_health message;
        memcpy(&message, payload.at, sizeof message);
        sp_upstreams_health(worker->upstreams, message.server_slot, message.up != 0);
    } else if (type == SP_MSG_KEY_SET) {
        on_key_set(worker, payload, fds, n_fds);
    } else if (type == SP_MSG_KEY_ANSWER) {
        on_key_answer(worker, payload);
    } else if (type == SP_MSG_INTROSPECTION) {
        on_introspection(worker, payload);
    } else if (type == SP_MSG_LEVELS_WANTED && worker->current) { /* before that there is nothing to say: control gives up by itself */
        sp_levels_question(worker->levels, channel, worker->current->config, payload);
    }
}

static void control_gone(void *owner, struct sp_channel *channel, int reason) {
    struct worker *worker = owner;
    (void)reason;
    /* What it told last still holds; the supervisor sends a new channel when control is back. */
    sp_levels_forget(worker->levels);
    sp_channel_free(channel);
    worker->control = NULL;
    sp_service_unanswered(worker->service);
}

static const struct sp_channel_events control_events = {.message = from_control, .closed = control_gone};

static void on_peer(void *owner, enum sp_role_id role, unsigned slot, int fd) {
    struct worker *worker = owner;
    (void)slot;
    sp_levels_forget(worker->levels);
    sp_channel_free(worker->control);
    worker->control = NULL;
    sp_service_unanswered(worker->service);
    int error = sp_channel_new(worker->loop, fd, SP_ROLE_WORKER, role, &control_events, worker, &worker->control);
    if (error) {
        sp_error("no channel to control: %s", strerror(-error));
    }
}

/* ---- The end ---- */

/* The last requests have left settlements behind, which are on their way to Redis. */
static void say_farewell(struct sp_timer *timer) {
    struct worker *worker = SP_CONTAINER(timer, struct worker, farewell);
    if (sp_limiter_settled(worker->limiter) || worker->farewells-- == 0)
        sp_child_end(worker->child, 0);
    else
        sp_timer_start(worker->loop, timer, FAREWELL_EACH_MS);
}

static void drained(void *owner) {
    struct worker *worker = owner;
    sp_timer_stop(&worker->drain_limit);
    worker->farewells = FAREWELL_MS / FAREWELL_EACH_MS;
    say_farewell(&worker->farewell);
}

static void drain_over(struct sp_timer *timer) {
    struct worker *worker = SP_CONTAINER(timer, struct worker, drain_limit);
    struct sp_service_state state;
    sp_service_state(worker->service, &state);
    sp_warn("the drain time is over: %llu connections are cut", (unsigned long long)state.connections);
    sp_service_abort(worker->service);
}

static void on_drain(void *owner, uint64_t timeout_ms) {
    struct worker *worker = owner;
    if (worker->draining)
        return;
    worker->draining = true;
    for (unsigned slot = 0; slot < SP_LISTENERS_MAX; slot++) {
        sp_acceptor_free(worker->acceptors[slot]);
        worker->acceptors[slot] = NULL;
    }
    sp_timer_start(worker->loop, &worker->drain_limit, timeout_ms);
    sp_service_drain(worker->service, drained, worker);
}

static void worker_free(struct worker *worker) {
    for (unsigned slot = 0; slot < SP_LISTENERS_MAX; slot++)
        sp_acceptor_free(worker->acceptors[slot]);
    if (worker->service)
        sp_service_abort(worker->service);
    sp_channel_free(worker->control);
    sp_timer_stop(&worker->gauges);
    sp_timer_stop(&worker->drain_limit);
    sp_timer_stop(&worker->farewell);
    sp_access_log_free(worker->access_log);
    sp_loop_settle(worker->loop); /* what was closed above is freed before what it refers to */
    sp_service_free(worker->service);
    sp_upstreams_free(worker->upstreams);
    sp_levels_free(worker->levels);
    sp_limiter_free(worker->limiter);
    sp_loop_settle(worker->loop);
    sp_snapshot_unref(worker->offered);
    sp_snapshot_unref(worker->current);
    sp_token_cache_free(worker->tokens);
    sp_revocations_free(worker->revocations);
    sp_traffic_free(worker->traffic);
    sp_counters_free(worker->counters);
    sp_tls_tickets_free(worker->tickets);
    sp_close_fd(&worker->access_fd);
}

int sp_worker_main(int argc, char **argv) {
    (void)argc, (void)argv;
    static const struct sp_child_events form = {
        .segments_writable = true,
        .start = on_start,
        .offer = on_offer,
        .commit = on_commit,
        .drop = on_drop,
        .listener = on_listener,
        .log_files = on_log_files,
        .ticket_keys = on_ticket_keys,
        .peer = on_peer,
        .revoked = on_revoked,
        .drain = on_drain,
    };
    struct sp_child_events events = form;
    events.segment_size[SP_SEGMENT_BUCKETS] = sp_limit_segment_size();
    events.segment_size[SP_SEGMENT_COUNTERS] = sp_counters_segment_size();
    events.segment_size[SP_SEGMENT_TRAFFIC] = sp_traffic_segment_size();
    struct worker worker = {.access_fd = -1, .gauges.fire = tell_gauges, .drain_limit.fire = drain_over, .farewell.fire = say_farewell};
    sp_config_wipe_json();
    int error = sp_loop_new(&worker.loop);
    struct sp_child *child = NULL;
    if (!error)
        error = sp_child_new(SP_ROLE_WORKER, &events, &worker, worker.loop, &child);
    if (error) {
        sp_error("%s", error == -ENOTSOCK ? "a worker is started by sallyport-supervisor, not by hand; use `sallyport run`" : strerror(-error));
        sp_loop_free(worker.loop);
        return 1;
    }
    if (!(worker.tickets = sp_tls_tickets_new()))
        sp_fatal("out of memory");
    int status = sp_child_run(child);
    worker_free(&worker);
    sp_child_free(child);
    sp_loop_free(worker.loop);
    return status;
}
