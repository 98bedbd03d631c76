/* process: the roles. The supervisor starts the others by fork and exec, each with one channel to it on descriptor 3 and nothing else;
 * what every child does alike (start, votes on configurations, heartbeat, log files, the end) is struct sp_child.
 * A role must not know another role's insides: they meet in the table of messages (ipc.h). */
#ifndef SALLYPORT_PROCESS_H
#define SALLYPORT_PROCESS_H

#include <sallyport/base.h>
#include <sallyport/config.h>
#include <sallyport/ipc.h>
#include <sallyport/loop.h>

#define SP_CHANNEL_FD 3 /* the child's end of its channel to the supervisor */
#define SP_HEARTBEAT_MS 1000
#define SP_HEARTBEATS_MISSED_MAX 10 /* then SIGABRT, and SIGKILL after two more */

/* Entry points; each returns the exit status. */
int sp_supervisor_main(int argc, char **argv);
int sp_worker_main(int argc, char **argv);
int sp_control_main(int argc, char **argv);

/* ---- Children: worker and control ---- */
struct sp_child;

/* All are called on the loop, in this order: start; log_files, endpoint or listener, ticket_keys, peer as they come; offer; listener or
 * endpoint; commit; then any. Those left NULL are not wanted. Descriptors handed in are the callee's: it closes them. */
struct sp_child_events {
    /* The size each shared segment must have; 0: not mapped. */
    size_t segment_size[SP_SEGMENT_COUNT];
    bool segments_writable;

    /* Once, first. The mappings live as long as the process; NULL where segment_size is 0. -errno ends the process with status 1. */
    int (*start)(void *owner, struct sp_child *child, const struct sp_msg_start *start, void *segments[SP_SEGMENT_COUNT]);
    /* Build everything of this generation beside the current one; keep a reference to `config` (sp_config_ref) where it is needed longer.
     * 0; or -EINVAL with *ret_error a malloc'ed sentence that begins with file:line:column where there is one; -ENOMEM.
     * Exactly one commit or drop follows every offer that returned 0, before the next offer. */
    int (*offer)(void *owner, struct sp_config *config, char **ret_error);
    /* Use it from now on; listeners whose slot it no longer names are closed here. READY goes to the supervisor after this returns. */
    void (*commit)(void *owner, uint64_t generation);
    void (*drop)(void *owner, uint64_t generation); /* another process refused: forget it */
    /* The listening socket of a slot, before the commit of the generation that names it. A slot that had one gets a new one only when its
     * address changed: the old one closes. */
    void (*listener)(void *owner, unsigned slot, int fd);
    void (*endpoint)(void *owner, enum sp_endpoint_kind kind, int fd); /* the same for control's sockets */
    void (*log_files)(void *owner, int access_fd, int audit_fd);       /* -1: off. At start, on a changed path, after USR1 */
    void (*ticket_keys)(void *owner, const struct sp_msg_ticket_keys *keys);
    /* A new channel to a peer; one the role already has to the same peer is dead: free it. */
    void (*peer)(void *owner, enum sp_role_id role, unsigned slot, int fd);
    /* Accept nothing more, finish what is in flight, close what is left after timeout_ms, then sp_child_end(child, 0). Control is drained
     * last, when no worker is left; until then its STATUS says `draining`. NULL: the process ends at once. */
    void (*drain)(void *owner, uint64_t timeout_ms);
    void (*admin_answer)(void *owner, uint64_t id, bool ok, struct sp_span text); /* text: lines parted by \n */
    void (*status)(void *owner, const struct sp_msg_status *status, const struct sp_msg_process *processes); /* status->n of them */
    /* API keys that are refused from now on: all that are known, before the first offer; then news. */
    void (*revoked)(void *owner, const struct sp_msg_revoked_key *keys, size_t n);
};

/* Takes descriptor 3, enters the sandbox (sandbox.c), opens the log on descriptor 2. `self` is SP_ROLE_WORKER or SP_ROLE_CONTROL; events
 * are borrowed. -ENOTSOCK: not started by the supervisor. */
int sp_child_new(enum sp_role_id self, const struct sp_child_events *events, void *owner, struct sp_loop *loop,
                 struct sp_child **ret) SP_MUST_USE;
/* Runs the loop until sp_child_end(), or the supervisor is gone or breaks the contract (status 1). Returns the exit status. */
int sp_child_run(struct sp_child *child) SP_MUST_USE;
/* Stops the loop: sp_child_run() returns `exit_status` at the end of this turn. */
void sp_child_end(struct sp_child *child, int exit_status);
void sp_child_free(struct sp_child *child); /* takes NULL */
/* To the supervisor (control: SP_MSG_ADMIN_REQUEST); errors as sp_channel_send(). */
int sp_child_send(struct sp_child *child, enum sp_message_type type, const void *payload, size_t len) SP_MUST_USE;
/* The committed snapshot; borrowed; NULL before the first commit. */
struct sp_config *sp_child_config(const struct sp_child *child);

/* ---- Starting programs (supervisor and `sallyport run`) ---- */
/* The path of one of our programs: beside the running one, else in ../libexec/sallyport from there. -ENOENT. */
int sp_program_path(const char *name, char *out, size_t size) SP_MUST_USE;

/* Who children become when the supervisor is root. */
struct sp_account {
    bool change;
    uid_t uid;
    gid_t gid;
};
/* fork and exec with the channel on descriptor 3, /dev/null as input and output, our stderr, an environment of a few named variables, and
 * default signals except those a terminal or a process manager sends to the whole group. Every other descriptor must be close-on-exec.
 * -errno of the step that failed, which *ret_step names. */
int sp_spawn(const char *path, const char *process_name, int channel_fd, const struct sp_account *account, pid_t *ret_pid,
             const char **ret_step) SP_MUST_USE;

/* ---- Sandbox: what every process gives up for good ---- */
/* No new privileges, not dumpable, no core files, as many descriptors as the hard limit allows. */
int sp_sandbox_enter(enum sp_role_id self) SP_MUST_USE;

/* ---- sd_notify(3)'s protocol: newline-separated assignments as one datagram to $NOTIFY_SOCKET ---- */
/* 0 also where nobody asked (NOTIFY_SOCKET unset). -EAGAIN: the manager does not listen; it is not waited for longer than 0.1 s. */
int sp_notify(const char *format, ...) SP_PRINTF(1, 2);
uint64_t sp_notify_watchdog_us(void); /* $WATCHDOG_USEC when meant for this process; 0: no watchdog */

#endif
