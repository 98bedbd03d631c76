/* The supervisor's own state, shared by its files: supervisor.c (start, signals, end), children.c (processes), reload.c (votes),
 * generation.c (configurations), sockets.c, logfiles.c, tickets.c, user.c. Private to them. */
#ifndef SALLYPORT_PROCESS_SUPERVISOR_H
#define SALLYPORT_PROCESS_SUPERVISOR_H

#include <signal.h>

#include <sallyport/process.h>
#include <sallyport/revocations.h>

#include "vote.h"

/* A malloc'ed sentence for the operator in *ret. Always -EINVAL, or -ENOMEM: what a refusal returns. */
int sp_refuse(char **ret, const char *format, ...) SP_PRINTF(2, 3);

/* ---- One configuration, ready to be handed over ---- */
struct sp_generation {
    uint64_t number;
    struct sp_document *document;
    struct sp_config *config;
    int offer_fd[SP_ROLE_COUNT]; /* sealed memory files; the supervisor's own is -1 */
};
/* -EINVAL with every line in *ret_errors (malloc'ed, parted by \n). */
int sp_generation_load(const char *path, const struct sp_generation *previous, uint64_t number, char **ret_errors,
                       struct sp_generation **ret) SP_MUST_USE;
void sp_generation_free(struct sp_generation *generation); /* takes NULL */

/* ---- Listening sockets ---- */
struct sp_socket {
    int fd;          /* -1: none */
    uint64_t serial; /* tells a new socket from the one that was in the same slot before; 0: none */
    char *address;   /* as configured */
    bool unlink;     /* a Unix socket that we made */
    gid_t group;     /* whose it was when we made it */
};
struct sp_sockets {
    struct sp_socket listener[SP_LISTENERS_MAX];
    struct sp_socket endpoint[SP_ENDPOINT_COUNT];
};
/* Sockets handed over by systemd, by name. */
struct sp_inherited {
    struct {
        int fd;
        char *name;
    } item[64];
    size_t count;
};
void sp_inherited_take(struct sp_inherited *inherited); /* $LISTEN_FDS; call before the loop makes descriptors */
void sp_inherited_free(struct sp_inherited *inherited);
/* Opens what `config` names; sockets that `current` (or NULL) has under the same address are shared with it. -EINVAL with a sentence. */
int sp_sockets_open(const struct sp_config *config, const struct sp_sockets *current, const struct sp_inherited *inherited,
                    char **ret_error, struct sp_sockets **ret) SP_MUST_USE;
/* Lets the groups of `config`, which is in force, connect to the admin socket, and nobody else. */
void sp_sockets_admit(const struct sp_sockets *sockets, const struct sp_config *config);
/* Closes; Unix sockets that `kept` (or NULL) does not have are removed from the file system. Takes NULL. */
void sp_sockets_free(struct sp_sockets *sockets, const struct sp_sockets *kept);

void sp_sockets_close_listeners(struct sp_sockets *sockets); /* for draining: no more clients; the endpoints stay */

/* ---- Log files ---- */
struct sp_log_files {
    int error_fd, access_fd, audit_fd; /* access and audit: -1 off */
};
int sp_log_files_open(const struct sp_config *config, char **ret_error, struct sp_log_files *ret) SP_MUST_USE;
void sp_log_files_close(struct sp_log_files *files);
bool sp_log_files_same(const struct sp_config *a, const struct sp_config *b); /* the same paths */

/* ---- Session-ticket keys ---- */
#define SP_TICKET_ROTATION_MS (UINT64_C(8) * 3600 * 1000)
void sp_ticket_keys_make(struct sp_msg_ticket_keys *keys);
void sp_ticket_keys_rotate(struct sp_msg_ticket_keys *keys); /* a new one first, the oldest is forgotten */

/* ---- Who the children become ---- */
int sp_user_resolve(const struct sp_config *config, char **ret_error, struct sp_account *ret) SP_MUST_USE;

/* ---- Processes ---- */
enum sp_process_state {
    SP_PROCESS_ABSENT,   /* none, and none is wanted */
    SP_PROCESS_WAITING,  /* none; started when its timer fires */
    SP_PROCESS_STARTING, /* running, not yet ready */
    SP_PROCESS_SERVING,
    SP_PROCESS_DRAINING, /* told to finish; not replaced */
    SP_PROCESS_KILLED,   /* sent a deadly signal; replaced when it is gone */
};
struct sp_role_entry {
    enum sp_role_id id;
    const char *program;
};
struct sp_process {
    struct sp_supervisor *supervisor;
    const struct sp_role_entry *role;
    unsigned slot;
    enum sp_process_state state;
    pid_t pid; /* 0: none */
    struct sp_channel *channel;
    struct sp_timer timer;            /* WAITING: start; DRAINING, KILLED: SIGKILL */
    uint64_t started_ms, started_wall_ms;
    unsigned restarts, quick_deaths;  /* quick: one after another within a second of their start */
    unsigned silent;                  /* seconds without a heartbeat */
    uint64_t offered, committed;      /* generations; offered: a verdict is owed */
    uint64_t accepted;                /* said yes to, not yet committed */
    uint64_t listener_serial[SP_LISTENERS_MAX], endpoint_serial[SP_ENDPOINT_COUNT]; /* what it holds */
};

enum sp_phase { SP_PHASE_STARTING, SP_PHASE_SERVING, SP_PHASE_DRAINING, SP_PHASE_ENDING };

#define SP_ASKERS_MAX 8
struct sp_askers { /* admin requests that wait for a reload to end */
    uint64_t id[SP_ASKERS_MAX];
    size_t count;
};

struct sp_supervisor {
    struct sp_loop *loop;
    const char *config_path;
    enum sp_phase phase;
    int exit_status;
    bool unclean; /* something had to be killed, or failed, while draining */

    struct sp_account account;
    struct sp_inherited inherited;
    struct sp_generation *current;
    struct sp_sockets *sockets;
    uint64_t last_number;
    struct sp_log_files logs;
    enum sp_log_level log_level; /* the configuration's, or what an operator has set since */
    struct sp_msg_ticket_keys ticket_keys;
    int segment_fd[SP_SEGMENT_COUNT];
    struct sp_hash_key hash_key;
    struct sp_revocations *revocations;          /* see revoked.c */
    struct sp_process process[SP_PROCESSES_MAX]; /* 0: control, then workers by slot */

    /* The reload under way; see reload.c. */
    struct sp_vote vote;
    struct sp_generation *next;
    struct sp_sockets *next_sockets;
    struct sp_log_files next_logs;
    bool next_has_logs;
    struct sp_askers askers, next_askers;
    bool wanted; /* one more, when this one has ended and a worker can vote */
    struct sp_timer vote_timer, no_voter_timer;

    struct sp_watch signals;
    int signal_fd;
    struct sp_timer beat, rotation, watchdog, drain;
    uint64_t watchdog_ms;
    struct sp_deferred changed, reload_next;
};

/* children.c */
void sp_processes_init(struct sp_supervisor *supervisor);
void sp_processes_match(struct sp_supervisor *supervisor); /* starts what is missing, drains workers that are too many */
void sp_processes_reap(struct sp_supervisor *supervisor);
void sp_processes_beat(struct sp_supervisor *supervisor);
bool sp_processes_fine(const struct sp_supervisor *supervisor); /* nobody has been silent for long */
void sp_processes_drain(struct sp_supervisor *supervisor, uint64_t timeout_ms);
void sp_processes_kill(struct sp_supervisor *supervisor);
void sp_processes_free(struct sp_supervisor *supervisor);
size_t sp_processes_running(const struct sp_supervisor *supervisor);
void sp_processes_send_logs(struct sp_supervisor *supervisor);
void sp_processes_send_ticket_keys(struct sp_supervisor *supervisor);
void sp_processes_send_status(struct sp_supervisor *supervisor);
void sp_processes_send_log_level(struct sp_supervisor *supervisor);
static inline bool sp_process_running(const struct sp_process *process) { return process->pid > 0; }
static inline size_t sp_process_index(const struct sp_process *process) {
    return (size_t)(process - process->supervisor->process);
}
void sp_process_offer(struct sp_process *process, const struct sp_generation *generation);
void sp_process_commit(struct sp_process *process, uint64_t generation);
void sp_process_drop(struct sp_process *process, uint64_t generation);
void sp_process_send(struct sp_process *process, enum sp_message_type type, const void *payload, size_t len, struct sp_span text,
                     const int *fds, size_t n_fds); /* a process that cannot be told is killed */
void sp_process_kill(struct sp_process *process, int signal_number, const char *why);
void sp_process_name(const struct sp_process *process, char out[32]); /* "worker 2" */

/* reload.c */
void sp_reload_init(struct sp_supervisor *supervisor);
void sp_reload_start(struct sp_supervisor *supervisor);                  /* the first vote, over the configuration we start with */
void sp_reload_request(struct sp_supervisor *supervisor, uint64_t admin_id); /* 0: a signal asked */
void sp_reload_cancel(struct sp_supervisor *supervisor, const char *why);
void sp_reload_go_on(struct sp_supervisor *supervisor); /* the one that is wanted begins, if it can by now */
void sp_reload_verdict(struct sp_process *process, const struct sp_msg_verdict *verdict, struct sp_span sentence);
void sp_reload_process_gone(struct sp_process *process);
void sp_reload_forget_askers(struct sp_supervisor *supervisor);          /* control was replaced: nobody waits */
void sp_admin_answer(struct sp_supervisor *supervisor, uint64_t id, bool ok, const char *text);

/* revoked.c */
void sp_revoked_tell(struct sp_process *process);                             /* a new worker: everything */
void sp_revoked_learn(struct sp_process *from, struct sp_span payload);       /* a worker has heard of it through Redis */
void sp_revoked_request(struct sp_supervisor *supervisor, const struct sp_msg_admin_request *request);

/* supervisor.c */
extern const struct sp_role_entry sp_roles[SP_ROLE_COUNT];
void sp_supervisor_process_ready(struct sp_supervisor *supervisor);
void sp_supervisor_process_gone(struct sp_supervisor *supervisor);
void sp_supervisor_admin(struct sp_supervisor *supervisor, const struct sp_msg_admin_request *request);
/* Start cannot succeed: says why on stderr and ends everything with status 1. */
void sp_supervisor_give_up(struct sp_supervisor *supervisor, const char *why);
void sp_supervisor_changed(struct sp_supervisor *supervisor); /* tells control and the service manager at the end of the turn */

#endif
