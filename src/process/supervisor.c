/* The supervisor: starts the others, replaces them, and says what happens next. It reads not one byte from the network.
 *
 * The table of roles below is the threat model: what runs with which program. Each is told apart by its channel, and what it may say
 * and hear stands in the table of messages (src/ipc/message.c). */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <sallyport/account.h>
#include <sallyport/limit.h>
#include <sallyport/net.h>

#include "supervisor.h"

#define KILL_AFTER_DRAIN_MS 500 /* a worker closes what is left at the timeout itself; this is for one that does not */
#define END_TIMEOUT_MS 1000     /* from SIGKILL to giving up on a process that the kernel does not let go */
#define CONTROL_DRAIN_MS 1000

const struct sp_role_entry sp_roles[SP_ROLE_COUNT] = {
    /* reads the configuration and keys, opens sockets and logs; stays root when started as root */
    {SP_ROLE_SUPERVISOR, "sallyport-supervisor"},
    /* talks to clients, model servers and Redis; opens no file */
    {SP_ROLE_WORKER, "sallyport-worker"},
    /* talks to operators and metrics scrapers; sees no client traffic and no TLS key */
    {SP_ROLE_CONTROL, "sallyport-control"},
};

/* ---- What children report ---- */

static unsigned serving_workers(const struct sp_supervisor *supervisor) {
    unsigned n = 0;
    for (size_t i = 1; i < SP_PROCESSES_MAX; i++)
        n += supervisor->process[i].state == SP_PROCESS_SERVING;
    return n;
}

void sp_supervisor_process_ready(struct sp_supervisor *supervisor) {
    unsigned workers = serving_workers(supervisor);
    if (supervisor->phase == SP_PHASE_SERVING)
        return sp_reload_go_on(supervisor);
    if (supervisor->phase != SP_PHASE_STARTING || workers < supervisor->current->config->workers ||
        supervisor->process[0].state != SP_PROCESS_SERVING)
        return;
    supervisor->phase = SP_PHASE_SERVING;
    /* Not before: a start that fails says why, in one sentence, and nothing else. */
    sp_log_set_level(supervisor->log_level);
    sp_info("serving: generation %llu, %u workers", (unsigned long long)supervisor->current->number, workers);
    sp_notify("READY=1\nSTATUS=Serving with %u workers", workers);
    sp_reload_go_on(supervisor);
}

void sp_supervisor_process_gone(struct sp_supervisor *supervisor) {
    if (supervisor->phase < SP_PHASE_DRAINING)
        return;
    if (sp_processes_running(supervisor) == 0) {
        if (supervisor->phase == SP_PHASE_DRAINING)
            supervisor->exit_status = supervisor->unclean ? 1 : 0;
        sp_loop_stop(supervisor->loop);
    } else if (supervisor->phase == SP_PHASE_DRAINING) {
        sp_processes_drain(supervisor, CONTROL_DRAIN_MS);
    }
}

static void send_changed(struct sp_deferred *deferred) {
    struct sp_supervisor *supervisor = SP_CONTAINER(deferred, struct sp_supervisor, changed);
    sp_processes_send_status(supervisor);
}

void sp_supervisor_changed(struct sp_supervisor *supervisor) { sp_defer(supervisor->loop, &supervisor->changed); }

/* ---- The end ---- */

static void end_now(struct sp_supervisor *supervisor) {
    supervisor->phase = SP_PHASE_ENDING;
    supervisor->exit_status = 1;
    sp_processes_kill(supervisor);
    sp_timer_start(supervisor->loop, &supervisor->drain, END_TIMEOUT_MS);
    if (sp_processes_running(supervisor) == 0)
        sp_loop_stop(supervisor->loop);
}

void sp_supervisor_give_up(struct sp_supervisor *supervisor, const char *why) {
    if (supervisor->phase == SP_PHASE_ENDING)
        return;
    dprintf(supervisor->logs.error_fd, "%s\n", why); /* where children may have written already: after that, not over it */
    end_now(supervisor);
}

static void drain_timeout(struct sp_timer *timer) {
    struct sp_supervisor *supervisor = SP_CONTAINER(timer, struct sp_supervisor, drain);
    if (supervisor->phase == SP_PHASE_ENDING)
        return sp_loop_stop(supervisor->loop);
    sp_error("draining took too long: %zu processes are killed", sp_processes_running(supervisor));
    end_now(supervisor);
}

static void begin_drain(struct sp_supervisor *supervisor) {
    uint64_t timeout_ms = supervisor->current->config->drain_timeout_ms;
    supervisor->phase = SP_PHASE_DRAINING;
    sp_info("draining: at most %llu ms", (unsigned long long)timeout_ms);
    sp_notify("STOPPING=1\nSTATUS=Draining");
    sp_reload_cancel(supervisor, "the gateway is draining");
    sp_sockets_close_listeners(supervisor->sockets);
    sp_inherited_free(&supervisor->inherited);
    sp_timer_start(supervisor->loop, &supervisor->drain, timeout_ms + KILL_AFTER_DRAIN_MS);
    sp_processes_drain(supervisor, timeout_ms);
    sp_supervisor_changed(supervisor);
    if (sp_processes_running(supervisor) == 0)
        sp_loop_stop(supervisor->loop);
}

static void stop_asked(struct sp_supervisor *supervisor) {
    if (supervisor->phase < SP_PHASE_DRAINING)
        return begin_drain(supervisor);
    sp_warn("asked to stop a second time: ending at once");
    end_now(supervisor);
}

/* ---- What operators ask ---- */

static void set_log_level(struct sp_supervisor *supervisor, const struct sp_msg_admin_request *request) {
    if (request->argument > SP_LOG_DEBUG)
        return sp_admin_answer(supervisor, request->id, false, "there is no such log level");
    supervisor->log_level = (enum sp_log_level)request->argument;
    sp_log_set_level(supervisor->log_level);
    sp_processes_send_log_level(supervisor);
    sp_admin_answer(supervisor, request->id, true, "the log level holds until the next reload");
}

void sp_supervisor_admin(struct sp_supervisor *supervisor, const struct sp_msg_admin_request *request) {
    switch (request->action) {
    case SP_ADMIN_RELOAD: return sp_reload_request(supervisor, request->id);
    case SP_ADMIN_LOGLEVEL: return set_log_level(supervisor, request);
    case SP_ADMIN_REVOKE: return sp_revoked_request(supervisor, request);
    case SP_ADMIN_DRAIN:
        sp_admin_answer(supervisor, request->id, true, "draining");
        if (supervisor->phase < SP_PHASE_DRAINING)
            begin_drain(supervisor);
        return;
    default: return sp_admin_answer(supervisor, request->id, false, "there is no such action");
    }
}

static void reopen_logs(struct sp_supervisor *supervisor) {
    _cleanup_(sp_free_pointer) char *error = NULL;
    struct sp_log_files files;
    int r = sp_log_files_open(supervisor->current->config, &error, &files);
    if (r < 0)
        return sp_error("logs are not reopened, the old files stay in use: %s", error ? error : strerror(-r));
    sp_log_files_close(&supervisor->logs);
    supervisor->logs = files;
    sp_log_set_fd(files.error_fd);
    sp_processes_send_logs(supervisor);
    sp_info("logs reopened");
}

static void signals_ready(struct sp_watch *watch, uint32_t epoll_events) {
    struct sp_supervisor *supervisor = SP_CONTAINER(watch, struct sp_supervisor, signals);
    struct signalfd_siginfo info;
    while (read(supervisor->signal_fd, &info, sizeof info) == sizeof info) {
        switch (info.ssi_signo) {
        case SIGCHLD: sp_processes_reap(supervisor); break;
        case SIGHUP: sp_reload_request(supervisor, 0); break;
        case SIGUSR1: reopen_logs(supervisor); break;
        case SIGTERM:
        case SIGINT: stop_asked(supervisor); break;
        default: break;
        }
    }
}

/* ---- Clockwork ---- */

static void beat(struct sp_timer *timer) {
    struct sp_supervisor *supervisor = SP_CONTAINER(timer, struct sp_supervisor, beat);
    sp_processes_beat(supervisor);
    sp_timer_start(supervisor->loop, timer, SP_HEARTBEAT_MS);
}

static void rotate(struct sp_timer *timer) {
    struct sp_supervisor *supervisor = SP_CONTAINER(timer, struct sp_supervisor, rotation);
    sp_ticket_keys_rotate(&supervisor->ticket_keys);
    sp_processes_send_ticket_keys(supervisor);
    sp_timer_start(supervisor->loop, timer, SP_TICKET_ROTATION_MS);
}

static void feed_watchdog(struct sp_timer *timer) {
    struct sp_supervisor *supervisor = SP_CONTAINER(timer, struct sp_supervisor, watchdog);
    if (sp_processes_fine(supervisor))
        sp_notify("WATCHDOG=1");
    sp_timer_start(supervisor->loop, timer, supervisor->watchdog_ms);
}

static void start_clockwork(struct sp_supervisor *supervisor) {
    supervisor->beat.fire = beat;
    supervisor->rotation.fire = rotate;
    supervisor->watchdog.fire = feed_watchdog;
    supervisor->drain.fire = drain_timeout;
    supervisor->changed.run = send_changed;
    sp_list_init(&supervisor->changed.node);
    sp_timer_start(supervisor->loop, &supervisor->beat, SP_HEARTBEAT_MS);
    sp_timer_start(supervisor->loop, &supervisor->rotation, SP_TICKET_ROTATION_MS);
    supervisor->watchdog_ms = sp_notify_watchdog_us() / 1000 / 2;
    if (supervisor->watchdog_ms > 0)
        sp_timer_start(supervisor->loop, &supervisor->watchdog, supervisor->watchdog_ms);
}

/* ---- The beginning ---- */

/* Standard descriptors exist, and nothing that our parent left open reaches a child. */
static int tidy_descriptors(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    sp_close_fd(&fd);
    return close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

static int watch_signals(struct sp_supervisor *supervisor) {
    sigset_t set;
    sigemptyset(&set);
    static const int watched[] = {SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGCHLD};
    for (size_t i = 0; i < SP_COUNT(watched); i++) {
        signal(watched[i], SIG_DFL); /* an ignored signal never reaches a signalfd */
        sigaddset(&set, watched[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
        return -errno;
    supervisor->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (supervisor->signal_fd < 0)
        return -errno;
    supervisor->signals.ready = signals_ready;
    return sp_watch_start(supervisor->loop, &supervisor->signals, supervisor->signal_fd, EPOLLIN);
}

static int make_segments(struct sp_supervisor *supervisor) {
    const struct {
        const char *name;
        size_t size;
    } segments[SP_SEGMENT_COUNT] = {
        [SP_SEGMENT_BUCKETS] = {"sallyport-buckets", sp_limit_segment_size()},
        [SP_SEGMENT_COUNTERS] = {"sallyport-counters", sp_counters_segment_size()},
        [SP_SEGMENT_TRAFFIC] = {"sallyport-traffic", sp_traffic_segment_size()},
    };
    for (int i = 0; i < SP_SEGMENT_COUNT; i++) {
        int r = sp_segment_create(segments[i].name, segments[i].size, &supervisor->segment_fd[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

/* What the configuration alone decides; *ret_why gets the lines for the operator. */
static int take_configuration(struct sp_supervisor *supervisor, char **ret_why) {
    int r = sp_generation_load(supervisor->config_path, NULL, ++supervisor->last_number, ret_why, &supervisor->current);
    if (r >= 0)
        r = sp_user_resolve(supervisor->current->config, ret_why, &supervisor->account);
    if (r >= 0)
        r = sp_sockets_open(supervisor->current->config, NULL, &supervisor->inherited, ret_why, &supervisor->sockets);
    if (r >= 0)
        r = sp_log_files_open(supervisor->current->config, ret_why, &supervisor->logs);
    if (r < 0)
        return r;
    sp_log_set_fd(supervisor->logs.error_fd);
    sp_sockets_admit(supervisor->sockets, supervisor->current->config);
    supervisor->log_level = supervisor->current->config->logs.level;
    return 0;
}

static int begin(struct sp_supervisor *supervisor, char **ret_why) {
    sp_inherited_take(&supervisor->inherited);
    int r = tidy_descriptors();
    if (r >= 0)
        r = sp_sandbox_enter(SP_ROLE_SUPERVISOR);
    if (r >= 0)
        r = sp_loop_new(&supervisor->loop);
    if (r >= 0)
        r = watch_signals(supervisor);
    if (r >= 0)
        r = take_configuration(supervisor, ret_why);
    if (r >= 0)
        r = make_segments(supervisor);
    if (r >= 0)
        r = sp_revocations_new(&supervisor->revocations);
    if (r < 0)
        return r;
    sp_ticket_keys_make(&supervisor->ticket_keys);
    sp_random(&supervisor->hash_key, sizeof supervisor->hash_key);
    start_clockwork(supervisor);
    sp_processes_init(supervisor);
    sp_reload_init(supervisor);
    sp_reload_start(supervisor);
    sp_processes_match(supervisor);
    return 0;
}

static void supervisor_free(struct sp_supervisor *supervisor) {
    if (supervisor->loop) {
        sp_processes_free(supervisor);
        sp_watch_stop(supervisor->loop, &supervisor->signals);
        sp_loop_free(supervisor->loop); /* what is still deferred reads the rest */
    }
    sp_close_fd(&supervisor->signal_fd);
    sp_generation_free(supervisor->next);
    sp_sockets_free(supervisor->next_sockets, supervisor->sockets);
    sp_sockets_free(supervisor->sockets, NULL);
    sp_inherited_free(&supervisor->inherited);
    sp_generation_free(supervisor->current);
    sp_revocations_free(supervisor->revocations);
    for (int i = 0; i < SP_SEGMENT_COUNT; i++)
        sp_close_fd(&supervisor->segment_fd[i]);
    sp_log_set_fd(STDERR_FILENO);
    sp_log_files_close(&supervisor->logs);
    sp_wipe(supervisor, sizeof *supervisor);
    free(supervisor);
}

static struct sp_supervisor *supervisor_new(const char *config_path) {
    struct sp_supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (!supervisor)
        return NULL;
    supervisor->config_path = config_path;
    supervisor->exit_status = 1;
    supervisor->signal_fd = -1;
    supervisor->logs = supervisor->next_logs = (struct sp_log_files){-1, -1, -1};
    for (int i = 0; i < SP_SEGMENT_COUNT; i++)
        supervisor->segment_fd[i] = -1;
    return supervisor;
}

static const char *config_argument(int argc, char **argv) {
    static const struct option options[] = {{"config", required_argument, NULL, 'c'}, {0}};
    const char *path = NULL;
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option != 'c')
            return NULL;
        path = optarg;
    }
    return optind == argc ? path : NULL;
}

int sp_supervisor_main(int argc, char **argv) {
    const char *path = config_argument(argc, argv);
    if (!path) {
        fputs("usage: sallyport-supervisor --config FILE (mostly started by `sallyport run`)\n", stderr);
        return 2;
    }
    sp_log_open(STDERR_FILENO, sp_roles[SP_ROLE_SUPERVISOR].program, SP_LOG_INFO);
    sp_config_wipe_json();
    struct sp_supervisor *supervisor = supervisor_new(path);
    _cleanup_(sp_free_pointer) char *why = NULL;
    int r = supervisor ? begin(supervisor, &why) : -ENOMEM;
    int status = 1;
    if (r < 0)
        fprintf(stderr, "%s\n", why ? why : strerror(-r));
    else if (supervisor->phase == SP_PHASE_ENDING && sp_processes_running(supervisor) == 0)
        status = 1; /* gave up before the first turn */
    else if (sp_loop_run(supervisor->loop) >= 0)
        status = supervisor->exit_status;
    if (supervisor)
        supervisor_free(supervisor);
    return status;
}
