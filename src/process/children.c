/* The processes: starting, listening to, judging, ending and replacing them. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sallyport/account.h>
#include <sallyport/net.h>

#include "supervisor.h"

#define QUICK_DEATH_MS 1000  /* dying sooner after its start than this is failing, not an accident */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 5000
#define QUICK_DEATHS_AT_START 5
#define SILENT_IS_NOT_FINE 5 /* seconds; the service manager's watchdog is not fed from then on */
#define ABORT_GRACE_MS 2000  /* from SIGABRT, or a closed channel, to SIGKILL */

void sp_process_name(const struct sp_process *process, char out[32]) {
    if (process->role->id == SP_ROLE_WORKER)
        snprintf(out, 32, "%s %u", sp_role_name(process->role->id), process->slot);
    else
        snprintf(out, 32, "%s", sp_role_name(process->role->id));
}

static void set_state(struct sp_process *process, enum sp_process_state state) {
    static const char *const names[] = {"absent", "waiting", "starting", "serving", "draining", "killed"};
    char name[32];
    sp_process_name(process, name);
    sp_debug("%s: %s → %s", name, names[process->state], names[state]);
    process->state = state;
    sp_supervisor_changed(process->supervisor);
}

void sp_process_kill(struct sp_process *process, int signal_number, const char *why) {
    if (!sp_process_running(process))
        return;
    char name[32];
    sp_process_name(process, name);
    sp_error("%s (pid %d) gets SIG%s: %s", name, (int)process->pid, sigabbrev_np(signal_number), why);
    kill(process->pid, signal_number);
    process->supervisor->unclean |= process->supervisor->phase == SP_PHASE_DRAINING;
    set_state(process, SP_PROCESS_KILLED);
    sp_timer_start(process->supervisor->loop, &process->timer, ABORT_GRACE_MS);
}

/* ---- Telling ---- */

void sp_process_send(struct sp_process *process, enum sp_message_type type, const void *payload, size_t len, struct sp_span text,
                     const int *fds, size_t n_fds) {
    if (!process->channel || process->state == SP_PROCESS_KILLED)
        return;
    int r = sp_channel_send(process->channel, type, payload, len, text, fds, n_fds);
    if (r == -EPIPE)
        return; /* it is gone; its end is being reported */
    if (r < 0) {
        char why[96];
        snprintf(why, sizeof why, "it cannot be sent \"%s\": %s", sp_message_rules[type].name, strerror(-r));
        sp_process_kill(process, SIGKILL, why);
    }
}

static void send_start(struct sp_process *process) {
    const struct sp_supervisor *supervisor = process->supervisor;
    struct sp_msg_start start = {.version = SP_IPC_VERSION,
                                 .slot = process->slot,
                                 .workers_max = SP_WORKERS_MAX,
                                 .log_level = supervisor->log_level,
                                 .pid_of_supervisor = (uint32_t)getpid(),
                                 .started_wall_ms = process->started_wall_ms,
                                 .hash_k0 = supervisor->hash_key.k0,
                                 .hash_k1 = supervisor->hash_key.k1};
    sp_process_send(process, SP_MSG_START, &start, sizeof start, SP_SPAN(""), supervisor->segment_fd, SP_SEGMENT_COUNT);
}

static void send_logs(struct sp_process *process) {
    const struct sp_log_files *logs = &process->supervisor->logs;
    struct sp_msg_log_files message = {.has_access = logs->access_fd >= 0, .has_audit = logs->audit_fd >= 0};
    int fds[3] = {logs->error_fd};
    size_t n = 1;
    if (logs->access_fd >= 0)
        fds[n++] = logs->access_fd;
    if (logs->audit_fd >= 0)
        fds[n++] = logs->audit_fd;
    sp_process_send(process, SP_MSG_LOG_FILES, &message, sizeof message, SP_SPAN(""), fds, n);
}

static void send_log_level(struct sp_process *process) {
    struct sp_msg_log_level message = {.level = process->supervisor->log_level};
    sp_process_send(process, SP_MSG_LOG_LEVEL, &message, sizeof message, SP_SPAN(""), NULL, 0);
}

static void send_ticket_keys(struct sp_process *process) {
    if (process->role->id == SP_ROLE_WORKER)
        sp_process_send(process, SP_MSG_TICKET_KEYS, &process->supervisor->ticket_keys, sizeof(struct sp_msg_ticket_keys), SP_SPAN(""),
                        NULL, 0);
}

/* The sockets it does not hold yet. */
static void send_sockets(struct sp_process *process) {
    const struct sp_sockets *sockets = process->supervisor->sockets;
    for (unsigned i = 0; process->role->id == SP_ROLE_WORKER && i < SP_LISTENERS_MAX; i++) {
        const struct sp_socket *listener = &sockets->listener[i];
        struct sp_msg_listener message = {.slot = i};
        if (listener->fd >= 0 && process->listener_serial[i] != listener->serial)
            sp_process_send(process, SP_MSG_LISTENER, &message, sizeof message, SP_SPAN(""), &listener->fd, 1);
        process->listener_serial[i] = listener->serial;
    }
    for (unsigned i = 0; process->role->id == SP_ROLE_CONTROL && i < SP_ENDPOINT_COUNT; i++) {
        const struct sp_socket *endpoint = &sockets->endpoint[i];
        struct sp_msg_endpoint message = {.kind = i};
        if (endpoint->fd >= 0 && process->endpoint_serial[i] != endpoint->serial)
            sp_process_send(process, SP_MSG_METRICS_LISTENER, &message, sizeof message, SP_SPAN(""), &endpoint->fd, 1);
        process->endpoint_serial[i] = endpoint->serial;
    }
}

/* A new channel between control and one worker; both must be running. */
static void join(struct sp_process *control, struct sp_process *worker) {
    if (!control->channel || !worker->channel)
        return;
    int fds[2];
    int r = sp_channel_pair(fds);
    if (r < 0) {
        sp_error("cannot make a channel between control and worker %u: %s", worker->slot, strerror(-r));
        return;
    }
    _cleanup_(sp_close_fd) int to_control = fds[0];
    _cleanup_(sp_close_fd) int to_worker = fds[1];
    struct sp_msg_peer for_control = {.role = SP_ROLE_WORKER, .slot = worker->slot};
    struct sp_msg_peer for_worker = {.role = SP_ROLE_CONTROL, .slot = 0};
    sp_process_send(control, SP_MSG_PEER, &for_control, sizeof for_control, SP_SPAN(""), &to_control, 1);
    sp_process_send(worker, SP_MSG_PEER, &for_worker, sizeof for_worker, SP_SPAN(""), &to_worker, 1);
}

static void send_peers(struct sp_process *process) {
    struct sp_supervisor *supervisor = process->supervisor;
    struct sp_process *control = &supervisor->process[0];
    if (process != control)
        return join(control, process);
    for (size_t i = 1; i < SP_PROCESSES_MAX; i++)
        join(control, &supervisor->process[i]);
}

void sp_process_offer(struct sp_process *process, const struct sp_generation *generation) {
    struct sp_msg_generation message = {.generation = generation->number};
    process->offered = generation->number;
    sp_process_send(process, SP_MSG_CONFIG_OFFER, &message, sizeof message, SP_SPAN(""), &generation->offer_fd[process->role->id], 1);
}

void sp_process_commit(struct sp_process *process, uint64_t generation) {
    struct sp_msg_generation message = {.generation = generation};
    /* Sockets belong to the newest configuration; a process that is still at an older one gets them when it has caught up. */
    if (generation == process->supervisor->current->number)
        send_sockets(process);
    process->accepted = 0;
    process->committed = generation;
    sp_process_send(process, SP_MSG_CONFIG_COMMIT, &message, sizeof message, SP_SPAN(""), NULL, 0);
    send_log_level(process); /* a commit sets the configuration's own */
}

void sp_process_drop(struct sp_process *process, uint64_t generation) {
    struct sp_msg_generation message = {.generation = generation};
    process->accepted = 0;
    sp_process_send(process, SP_MSG_CONFIG_DROP, &message, sizeof message, SP_SPAN(""), NULL, 0);
}

static void send_drain(struct sp_process *process, uint64_t timeout_ms) {
    struct sp_msg_drain message = {.timeout_ms = timeout_ms};
    sp_process_send(process, SP_MSG_DRAIN, &message, sizeof message, SP_SPAN(""), NULL, 0);
    if (process->state != SP_PROCESS_KILLED)
        set_state(process, SP_PROCESS_DRAINING);
}

/* ---- Listening ---- */

static void on_ready(struct sp_process *process) {
    if (process->state == SP_PROCESS_DRAINING)
        return;
    if (process->state != SP_PROCESS_STARTING || process->committed == 0)
        return sp_process_kill(process, SIGKILL, "it broke the message contract: ready");
    set_state(process, SP_PROCESS_SERVING);
    sp_supervisor_process_ready(process->supervisor);
}

static void on_verdict(struct sp_process *process, struct sp_span payload) {
    struct sp_msg_verdict verdict;
    memcpy(&verdict, payload.at, sizeof verdict);
    if (process->offered == 0 || verdict.generation != process->offered)
        return sp_process_kill(process, SIGKILL, "it broke the message contract: verdict");
    process->offered = 0;
    if (verdict.accepted)
        process->accepted = verdict.generation;
    sp_reload_verdict(process, &verdict, sp_span_from(payload, sizeof verdict));
}

static void process_message(void *owner, struct sp_channel *channel, enum sp_message_type type, struct sp_span payload, int *fds,
                            size_t n_fds) {
    struct sp_process *process = owner;
    if (process->state == SP_PROCESS_KILLED)
        return;
    struct sp_msg_admin_request request;
    switch (type) {
    case SP_MSG_HEARTBEAT: process->silent = 0; break;
    case SP_MSG_READY: on_ready(process); break;
    case SP_MSG_CONFIG_VERDICT: on_verdict(process, payload); break;
    case SP_MSG_ADMIN_REQUEST:
        memcpy(&request, payload.at, sizeof request);
        sp_supervisor_admin(process->supervisor, &request);
        break;
    case SP_MSG_REVOKED_ELSEWHERE: sp_revoked_learn(process, payload); break;
    default: sp_process_kill(process, SIGKILL, "it broke the message contract"); break;
    }
}

/* Mostly the first sign of its death. If it lives on without a channel, nobody can tell it anything: it ends. */
static void process_closed(void *owner, struct sp_channel *channel, int reason) {
    struct sp_process *process = owner;
    sp_channel_free(sp_take(process->channel));
    if (reason < 0)
        return sp_process_kill(process, SIGKILL, "it broke the message contract");
    if (process->state == SP_PROCESS_DRAINING)
        return; /* its timer runs already */
    set_state(process, SP_PROCESS_KILLED);
    sp_timer_start(process->supervisor->loop, &process->timer, ABORT_GRACE_MS);
}

static const struct sp_channel_events channel_events = {.message = process_message, .closed = process_closed};

/* ---- Starting ---- */

static int start_program(struct sp_process *process, const char **ret_step) {
    struct sp_supervisor *supervisor = process->supervisor;
    char path[PATH_MAX];
    *ret_step = "find its program";
    int r = sp_program_path(process->role->program, path, sizeof path);
    if (r < 0)
        return r;
    int fds[2];
    *ret_step = "make its channel";
    r = sp_channel_pair(fds);
    if (r < 0)
        return r;
    _cleanup_(sp_close_fd) int theirs = fds[1];
    r = sp_spawn(path, process->role->program, theirs, &supervisor->account, &process->pid, ret_step);
    if (r < 0) {
        close(fds[0]);
        return r;
    }
    *ret_step = "watch its channel";
    r = sp_channel_new(supervisor->loop, fds[0], SP_ROLE_SUPERVISOR, process->role->id, &channel_events, process, &process->channel);
    if (r < 0)
        kill(process->pid, SIGKILL); /* reaped as any other */
    return r;
}

static void wait_to_start(struct sp_process *process, uint64_t delay_ms) {
    set_state(process, SP_PROCESS_WAITING);
    sp_timer_start(process->supervisor->loop, &process->timer, delay_ms);
}

static uint64_t backoff(const struct sp_process *process) {
    unsigned doublings = sp_min(process->quick_deaths, 10u);
    return doublings == 0 ? 0 : sp_min((uint64_t)BACKOFF_FIRST_MS << (doublings - 1), (uint64_t)BACKOFF_MAX_MS);
}

static void launch(struct sp_process *process) {
    struct sp_supervisor *supervisor = process->supervisor;
    char name[32];
    sp_process_name(process, name);
    process->offered = process->accepted = process->committed = 0;
    process->silent = 0;
    memset(process->listener_serial, 0, sizeof process->listener_serial);
    memset(process->endpoint_serial, 0, sizeof process->endpoint_serial);
    process->started_ms = sp_loop_now_ms(supervisor->loop);
    process->started_wall_ms = sp_wall_ms();
    const char *step = "";
    int r = start_program(process, &step);
    if (r < 0 && !sp_process_running(process)) {
        char why[192];
        snprintf(why, sizeof why, "cannot start %s (%s): cannot %s: %s", name, process->role->program, step, strerror(-r));
        if (supervisor->phase == SP_PHASE_STARTING)
            return sp_supervisor_give_up(supervisor, why);
        process->quick_deaths++;
        sp_error("%s; tried again in %llu ms", why, (unsigned long long)backoff(process));
        return wait_to_start(process, backoff(process));
    }
    /* At start the one line that says "serving" tells enough. */
    sp_log(supervisor->phase == SP_PHASE_STARTING ? SP_LOG_DEBUG : SP_LOG_INFO, "%s started, pid %d", name, (int)process->pid);
    set_state(process, SP_PROCESS_STARTING);
    send_start(process);
    send_logs(process);
    send_ticket_keys(process);
    send_sockets(process);
    send_peers(process);
    sp_revoked_tell(process);
    sp_process_offer(process, supervisor->current);
}

static void process_timer(struct sp_timer *timer) {
    struct sp_process *process = SP_CONTAINER(timer, struct sp_process, timer);
    if (process->state == SP_PROCESS_WAITING)
        launch(process);
    else if (process->state == SP_PROCESS_DRAINING)
        sp_process_kill(process, SIGKILL, "it did not finish draining in time");
    else if (process->state == SP_PROCESS_KILLED && sp_process_running(process))
        kill(process->pid, SIGKILL);
}

/* ---- Ending ---- */

static void describe_end(int status, char *out, size_t size) {
    if (WIFSIGNALED(status)) {
        const char *signal_name = sigabbrev_np(WTERMSIG(status));
        snprintf(out, size, "was killed by SIG%s%s", signal_name ? signal_name : "?", WCOREDUMP(status) ? " (core dumped)" : "");
    } else {
        snprintf(out, size, "ended with status %d", WEXITSTATUS(status));
    }
}

static bool is_wanted(const struct sp_process *process) {
    const struct sp_supervisor *supervisor = process->supervisor;
    if (supervisor->phase >= SP_PHASE_DRAINING)
        return false;
    if (process->role->id != SP_ROLE_WORKER)
        return true;
    unsigned others = 0;
    for (size_t i = 1; i < SP_PROCESSES_MAX; i++) {
        const struct sp_process *other = &supervisor->process[i];
        others += other != process && other->state != SP_PROCESS_ABSENT && other->state != SP_PROCESS_DRAINING;
    }
    return others < supervisor->current->config->workers;
}

static void gone(struct sp_process *process, int status) {
    struct sp_supervisor *supervisor = process->supervisor;
    char name[32], how[64];
    sp_process_name(process, name);
    describe_end(status, how, sizeof how);
    pid_t pid = process->pid;
    bool was_draining = process->state == SP_PROCESS_DRAINING;
    uint64_t lived_ms = sp_loop_now_ms(supervisor->loop) - process->started_ms;

    process->pid = 0;
    process->offered = process->accepted = process->committed = 0;
    sp_channel_free(sp_take(process->channel));
    sp_timer_stop(&process->timer);
    if (process->role->id == SP_ROLE_CONTROL) {
        sp_reload_forget_askers(supervisor);
    } else {
        sp_traffic_worker_gone(supervisor->segment_fd[SP_SEGMENT_TRAFFIC], process->slot);
        sp_counters_worker_gone(supervisor->segment_fd[SP_SEGMENT_COUNTERS], process->slot);
    }
    if (was_draining || !is_wanted(process)) {
        supervisor->unclean |= was_draining && status != 0;
        sp_log(supervisor->phase == SP_PHASE_ENDING ? SP_LOG_DEBUG : SP_LOG_INFO, "%s (pid %d) %s", name, (int)pid, how);
        set_state(process, SP_PROCESS_ABSENT);
    } else {
        process->quick_deaths = lived_ms < QUICK_DEATH_MS ? process->quick_deaths + 1 : 0;
        process->restarts++;
        uint64_t delay_ms = backoff(process);
        sp_error("%s (pid %d) %s after %llu ms; a new one is started in %llu ms", name, (int)pid, how, (unsigned long long)lived_ms,
                 (unsigned long long)delay_ms);
        wait_to_start(process, delay_ms);
    }
    sp_reload_process_gone(process);
    if (was_draining && supervisor->phase == SP_PHASE_SERVING)
        sp_processes_match(supervisor); /* its place may have been the one that was missing */
    if (supervisor->phase == SP_PHASE_STARTING && process->quick_deaths >= QUICK_DEATHS_AT_START) {
        char why[192];
        snprintf(why, sizeof why, "%s %s at once, %u times one after another", name, how, process->quick_deaths);
        sp_supervisor_give_up(supervisor, why);
    }
    sp_supervisor_process_gone(supervisor);
}

void sp_processes_reap(struct sp_supervisor *supervisor) {
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++) {
        struct sp_process *process = &supervisor->process[i];
        int status = 0;
        if (sp_process_running(process) && waitpid(process->pid, &status, WNOHANG) == process->pid)
            gone(process, status);
    }
}

/* ---- All of them ---- */

void sp_processes_init(struct sp_supervisor *supervisor) {
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++) {
        struct sp_process *process = &supervisor->process[i];
        process->supervisor = supervisor;
        process->role = &sp_roles[i == 0 ? SP_ROLE_CONTROL : SP_ROLE_WORKER];
        process->slot = i == 0 ? 0 : (unsigned)i - 1;
        process->timer.fire = process_timer;
    }
}

static void stop_worker(struct sp_process *worker) {
    uint64_t timeout_ms = worker->supervisor->current->config->drain_timeout_ms;
    if (!sp_process_running(worker)) {
        sp_timer_stop(&worker->timer);
        return set_state(worker, SP_PROCESS_ABSENT);
    }
    send_drain(worker, timeout_ms);
    sp_timer_start(worker->supervisor->loop, &worker->timer, timeout_ms + ABORT_GRACE_MS);
}

void sp_processes_match(struct sp_supervisor *supervisor) {
    if (supervisor->process[0].state == SP_PROCESS_ABSENT)
        launch(&supervisor->process[0]);
    unsigned have = 0, want = supervisor->current->config->workers;
    for (size_t i = 1; i < SP_PROCESSES_MAX; i++)
        have += supervisor->process[i].state != SP_PROCESS_ABSENT && supervisor->process[i].state != SP_PROCESS_DRAINING;
    for (size_t i = SP_PROCESSES_MAX - 1; i > 0 && have > want; i--) {
        struct sp_process *worker = &supervisor->process[i];
        if (worker->state == SP_PROCESS_ABSENT || worker->state == SP_PROCESS_DRAINING || worker->state == SP_PROCESS_KILLED)
            continue;
        stop_worker(worker);
        have--;
    }
    for (size_t i = 1; i < SP_PROCESSES_MAX && have < want && supervisor->phase < SP_PHASE_DRAINING; i++) {
        if (supervisor->process[i].state != SP_PROCESS_ABSENT)
            continue;
        launch(&supervisor->process[i]);
        have++;
    }
}

void sp_processes_beat(struct sp_supervisor *supervisor) {
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++) {
        struct sp_process *process = &supervisor->process[i];
        if (!sp_process_running(process) || process->state == SP_PROCESS_KILLED)
            continue;
        /* Counted in ticks of ours, not by the clock: if it was we who stood still, nobody is to blame. */
        if (++process->silent > SP_HEARTBEATS_MISSED_MAX)
            sp_process_kill(process, SIGABRT, "no sign of life for 10 s");
    }
}

bool sp_processes_fine(const struct sp_supervisor *supervisor) {
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++)
        if (sp_process_running(&supervisor->process[i]) && supervisor->process[i].silent > SILENT_IS_NOT_FINE)
            return false;
    return true;
}

size_t sp_processes_running(const struct sp_supervisor *supervisor) {
    size_t n = 0;
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++)
        n += sp_process_running(&supervisor->process[i]);
    return n;
}

/* Workers first; control, which answers /readyz and `ctl status`, when none of them is left. */
void sp_processes_drain(struct sp_supervisor *supervisor, uint64_t timeout_ms) {
    bool workers_left = false;
    for (size_t i = SP_PROCESSES_MAX; i-- > 0;) {
        struct sp_process *process = &supervisor->process[i];
        if (process->state == SP_PROCESS_WAITING) {
            sp_timer_stop(&process->timer);
            set_state(process, SP_PROCESS_ABSENT);
        }
        if (process->state != SP_PROCESS_ABSENT && i > 0)
            workers_left = true;
        if (i == 0 && workers_left)
            return;
        if (process->state == SP_PROCESS_SERVING) {
            send_drain(process, timeout_ms);
        } else if (process->state == SP_PROCESS_STARTING) { /* has nothing in flight yet */
            kill(process->pid, SIGKILL);
            set_state(process, SP_PROCESS_KILLED);
        }
    }
}

void sp_processes_kill(struct sp_supervisor *supervisor) {
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++) {
        struct sp_process *process = &supervisor->process[i];
        sp_timer_stop(&process->timer);
        if (sp_process_running(process))
            kill(process->pid, SIGKILL);
        set_state(process, sp_process_running(process) ? SP_PROCESS_KILLED : SP_PROCESS_ABSENT);
    }
}

void sp_processes_free(struct sp_supervisor *supervisor) {
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++) {
        sp_timer_stop(&supervisor->process[i].timer);
        sp_channel_free(sp_take(supervisor->process[i].channel));
    }
}

void sp_processes_send_logs(struct sp_supervisor *supervisor) {
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++)
        send_logs(&supervisor->process[i]);
}

void sp_processes_send_ticket_keys(struct sp_supervisor *supervisor) {
    for (size_t i = 1; i < SP_PROCESSES_MAX; i++)
        send_ticket_keys(&supervisor->process[i]);
}

void sp_processes_send_log_level(struct sp_supervisor *supervisor) {
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++)
        send_log_level(&supervisor->process[i]);
}

void sp_processes_send_status(struct sp_supervisor *supervisor) {
    struct {
        struct sp_msg_status status;
        struct sp_msg_process process[SP_PROCESSES_MAX];
    } message = {.status = {.generation = supervisor->current->number, .draining = supervisor->phase >= SP_PHASE_DRAINING}};
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++) {
        const struct sp_process *process = &supervisor->process[i];
        if (process->state != SP_PROCESS_ABSENT)
            message.process[message.status.n++] = (struct sp_msg_process){.role = process->role->id,
                                                                          .slot = process->slot,
                                                                          .pid = (uint32_t)process->pid,
                                                                          .restarts = process->restarts,
                                                                          .started_wall_ms = process->started_wall_ms};
    }
    size_t len = sizeof message.status + message.status.n * sizeof message.process[0];
    sp_process_send(&supervisor->process[0], SP_MSG_STATUS, &message, len, SP_SPAN(""), NULL, 0);
}
