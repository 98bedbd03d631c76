/* Reload: a new configuration is offered to every serving process; it is used by all of them, or by none.
 *
 *   request → load → open what is new → OFFER → every VERDICT → COMMIT, or DROP
 *
 * Whatever goes wrong before COMMIT leaves everything as it was. One at a time; what is asked meanwhile becomes one more afterwards, and
 * what is asked while no worker could vote waits for one.
 * Processes that start while a vote is under way begin with the current configuration and catch up. The first vote, at start, is the
 * same with nothing to fall back to. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "supervisor.h"

#define VOTE_TIMEOUT_MS 10000

/* ---- Who asked ---- */

void sp_admin_answer(struct sp_supervisor *supervisor, uint64_t id, bool ok, const char *text) {
    struct sp_msg_admin_answer answer = {.id = id, .ok = ok};
    struct sp_span lines = sp_span_text(text);
    lines.len = sp_min(lines.len, sp_message_rules[SP_MSG_ADMIN_ANSWER].size_max - sizeof answer);
    sp_process_send(&supervisor->process[0], SP_MSG_ADMIN_ANSWER, &answer, sizeof answer, lines, NULL, 0);
}

static void answer_all(struct sp_supervisor *supervisor, bool ok, const char *text) {
    for (size_t i = 0; i < supervisor->askers.count; i++)
        sp_admin_answer(supervisor, supervisor->askers.id[i], ok, text);
    supervisor->askers.count = 0;
}

/* The next reload becomes the one under way. */
static void take_wanted(struct sp_supervisor *supervisor) {
    sp_timer_stop(&supervisor->no_voter_timer);
    supervisor->wanted = false;
    supervisor->askers = supervisor->next_askers;
    supervisor->next_askers.count = 0;
}

void sp_reload_forget_askers(struct sp_supervisor *supervisor) { supervisor->askers.count = supervisor->next_askers.count = 0; }

static bool remember(struct sp_askers *askers, uint64_t id) {
    if (id == 0)
        return true;
    if (askers->count >= SP_ASKERS_MAX)
        return false;
    askers->id[askers->count++] = id;
    return true;
}

static void log_lines(const char *text) {
    struct sp_span rest = sp_span_text(text), line;
    while (sp_span_split(&rest, '\n', &line))
        sp_error(SP_SPAN_FMT, SP_SPAN_ARG(line));
}

/* ---- The end of a reload ---- */

static void forget_next(struct sp_supervisor *supervisor) {
    sp_timer_stop(&supervisor->vote_timer);
    sp_vote_close(&supervisor->vote);
    sp_generation_free(sp_take(supervisor->next));
    sp_sockets_free(sp_take(supervisor->next_sockets), supervisor->sockets);
    if (supervisor->next_has_logs)
        sp_log_files_close(&supervisor->next_logs);
    supervisor->next_has_logs = false;
}

static void ended(struct sp_supervisor *supervisor, bool ok, const char *text) {
    answer_all(supervisor, ok, text);
    sp_notify("READY=1\nSTATUS=%s", ok ? "Serving" : "Serving; the last reload was refused");
    sp_supervisor_changed(supervisor);
    sp_reload_go_on(supervisor);
}

static void refused(struct sp_supervisor *supervisor, const char *lines) {
    log_lines(lines);
    sp_error("reload refused: nothing has changed, generation %llu stays in force", (unsigned long long)supervisor->current->number);
    forget_next(supervisor);
    ended(supervisor, false, lines);
}

static void drop_all(struct sp_supervisor *supervisor) {
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++)
        if (supervisor->vote.ballot[i] == SP_BALLOT_ACCEPTED || supervisor->vote.ballot[i] == SP_BALLOT_ASKED)
            sp_process_drop(&supervisor->process[i], supervisor->vote.generation);
}

void sp_reload_cancel(struct sp_supervisor *supervisor, const char *why) {
    if (supervisor->vote.open && supervisor->next) {
        drop_all(supervisor);
        forget_next(supervisor);
    }
    answer_all(supervisor, false, why);
    take_wanted(supervisor);
    answer_all(supervisor, false, why);
}

/* Those that were not asked because they began meanwhile. Who still owes a verdict is offered it after that; see catch_up(). */
static void offer_to_late(struct sp_supervisor *supervisor) {
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++) {
        struct sp_process *process = &supervisor->process[i];
        bool lives = process->state == SP_PROCESS_STARTING || process->state == SP_PROCESS_SERVING;
        if (lives && process->offered == 0 && process->committed != 0 && process->committed != supervisor->current->number)
            sp_process_offer(process, supervisor->current);
    }
}

static void commit(struct sp_supervisor *supervisor) {
    struct sp_vote vote = supervisor->vote;
    struct sp_generation *old = supervisor->current;
    struct sp_sockets *old_sockets = supervisor->sockets;
    supervisor->current = sp_take(supervisor->next);
    supervisor->sockets = sp_take(supervisor->next_sockets);
    sp_sockets_admit(supervisor->sockets, supervisor->current->config);
    if (supervisor->next_has_logs) {
        sp_log_files_close(&supervisor->logs);
        supervisor->logs = supervisor->next_logs;
        supervisor->next_has_logs = false;
        sp_log_set_fd(supervisor->logs.error_fd);
        sp_processes_send_logs(supervisor);
    }
    forget_next(supervisor);
    supervisor->log_level = supervisor->current->config->logs.level;
    sp_log_set_level(supervisor->log_level);
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++)
        if (vote.ballot[i] == SP_BALLOT_ACCEPTED)
            sp_process_commit(&supervisor->process[i], vote.generation);
    offer_to_late(supervisor);
    sp_sockets_free(old_sockets, supervisor->sockets);
    sp_generation_free(old);
    sp_info("reloaded: generation %llu is in force", (unsigned long long)vote.generation);
    sp_processes_match(supervisor);
    char text[64];
    snprintf(text, sizeof text, "generation %llu is in force", (unsigned long long)vote.generation);
    ended(supervisor, true, text);
}

/* ---- The first configuration: all accept, or there is no start ---- */

void sp_reload_start(struct sp_supervisor *supervisor) {
    sp_vote_open(&supervisor->vote, supervisor->current->number);
    for (size_t i = 0; i <= supervisor->current->config->workers; i++)
        sp_vote_ask(&supervisor->vote, i);
}

static void first_result(struct sp_supervisor *supervisor) {
    enum sp_vote_result result = sp_vote_result(&supervisor->vote);
    if (result == SP_VOTE_REFUSED)
        return sp_supervisor_give_up(supervisor, supervisor->vote.sentence);
    if (result != SP_VOTE_ACCEPTED)
        return;
    sp_vote_close(&supervisor->vote);
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++)
        if (supervisor->process[i].accepted == supervisor->current->number)
            sp_process_commit(&supervisor->process[i], supervisor->current->number);
}

/* ---- The vote ---- */

static void result_of_vote(struct sp_supervisor *supervisor) {
    if (!supervisor->next)
        return first_result(supervisor);
    char lines[SP_SENTENCE_MAX + 1];
    switch (sp_vote_result(&supervisor->vote)) {
    case SP_VOTE_PENDING: return;
    case SP_VOTE_ACCEPTED: return commit(supervisor);
    case SP_VOTE_REFUSED:
        memcpy(lines, supervisor->vote.sentence, sizeof lines);
        drop_all(supervisor);
        return refused(supervisor, lines);
    case SP_VOTE_DESERTED:
        drop_all(supervisor);
        return refused(supervisor, "every worker ended while it checked the new configuration");
    }
}

/* One that started while a vote was under way, or before it ended: bring it to where the others are. */
static void catch_up(struct sp_process *process, const struct sp_msg_verdict *verdict, struct sp_span sentence) {
    struct sp_supervisor *supervisor = process->supervisor;
    char name[32];
    sp_process_name(process, name);
    if (verdict->accepted) {
        sp_process_commit(process, verdict->generation);
        if (verdict->generation != supervisor->current->number)
            sp_process_offer(process, supervisor->current);
        return sp_reload_go_on(supervisor);
    }
    if (supervisor->phase == SP_PHASE_STARTING) {
        char why[SP_SENTENCE_MAX + 1];
        sp_vote_sentence(sentence, why);
        return sp_supervisor_give_up(supervisor, why);
    }
    /* The others accepted it, so it is this process: a new one may fare better. */
    sp_error("%s refuses the configuration in force: " SP_SPAN_FMT, name, SP_SPAN_ARG(sentence));
    sp_process_kill(process, SIGKILL, "it cannot use the configuration in force");
}

void sp_reload_verdict(struct sp_process *process, const struct sp_msg_verdict *verdict, struct sp_span sentence) {
    struct sp_supervisor *supervisor = process->supervisor;
    if (process->state == SP_PROCESS_DRAINING || supervisor->phase >= SP_PHASE_DRAINING)
        return;
    size_t index = sp_process_index(process);
    if (!supervisor->vote.open || supervisor->vote.generation != verdict->generation ||
        supervisor->vote.ballot[index] == SP_BALLOT_NONE)
        return catch_up(process, verdict, sentence);
    if (sp_vote_cast(&supervisor->vote, index, verdict->generation, verdict->accepted, sentence) < 0)
        return sp_process_kill(process, SIGKILL, "it broke the message contract: it voted twice");
    result_of_vote(supervisor);
}

void sp_reload_process_gone(struct sp_process *process) {
    struct sp_supervisor *supervisor = process->supervisor;
    if (!supervisor->vote.open || supervisor->vote.ballot[sp_process_index(process)] == SP_BALLOT_NONE)
        return;
    if (supervisor->phase == SP_PHASE_STARTING)
        return sp_vote_ask(&supervisor->vote, sp_process_index(process)); /* its successor is offered the same */
    sp_vote_leave(&supervisor->vote, sp_process_index(process));
    result_of_vote(supervisor);
}

static void vote_timeout(struct sp_timer *timer) {
    struct sp_supervisor *supervisor = SP_CONTAINER(timer, struct sp_supervisor, vote_timer);
    char lines[SP_SENTENCE_MAX + 1] = "";
    struct sp_vote vote = supervisor->vote;
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++) {
        if (vote.ballot[i] != SP_BALLOT_ASKED)
            continue;
        char name[32];
        sp_process_name(&supervisor->process[i], name);
        snprintf(lines, sizeof lines, "%s did not answer about the new configuration in %d s", name, VOTE_TIMEOUT_MS / 1000);
        sp_process_kill(&supervisor->process[i], SIGABRT, "no answer about the new configuration");
    }
    drop_all(supervisor);
    refused(supervisor, lines);
}

/* ---- The beginning of a reload ---- */

static int open_next(struct sp_supervisor *supervisor, char **ret_lines) {
    const struct sp_config *old = supervisor->current->config, *new = supervisor->next->config;
    if (supervisor->account.change && strcmp(old->user ? old->user : "", new->user ? new->user : "") != 0)
        return sp_refuse(ret_lines, "%s: user: changing it needs a restart, since running processes cannot become somebody else",
                         new->path);
    int r = sp_sockets_open(new, supervisor->sockets, &supervisor->inherited, ret_lines, &supervisor->next_sockets);
    if (r < 0)
        return r;
    if (sp_log_files_same(old, new))
        return 0;
    r = sp_log_files_open(new, ret_lines, &supervisor->next_logs);
    supervisor->next_has_logs = r >= 0;
    return r;
}

/* One that owes a verdict on an older generation, or still holds one, catches up afterwards. */
static bool can_vote(const struct sp_process *process) {
    return process->state == SP_PROCESS_SERVING && process->offered == 0 && process->committed == process->supervisor->current->number;
}

static bool a_worker_can_vote(const struct sp_supervisor *supervisor) {
    for (size_t i = 1; i < SP_PROCESSES_MAX; i++)
        if (can_vote(&supervisor->process[i]))
            return true;
    return false;
}

static void offer_all(struct sp_supervisor *supervisor) {
    sp_vote_open(&supervisor->vote, supervisor->next->number);
    sp_timer_start(supervisor->loop, &supervisor->vote_timer, VOTE_TIMEOUT_MS);
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++) {
        struct sp_process *process = &supervisor->process[i];
        if (!can_vote(process))
            continue;
        sp_vote_ask(&supervisor->vote, i);
        sp_process_offer(process, supervisor->next);
    }
    result_of_vote(supervisor);
}

static void tell_reloading(void) {
    sp_notify("RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Reloading", (unsigned long long)sp_clock_us());
}

static void begin(struct sp_supervisor *supervisor) {
    tell_reloading();
    _cleanup_(sp_free_pointer) char *lines = NULL;
    int r = sp_generation_load(supervisor->config_path, supervisor->current, supervisor->last_number + 1, &lines, &supervisor->next);
    if (r >= 0) {
        supervisor->last_number++;
        r = open_next(supervisor, &lines);
    }
    if (r < 0)
        return refused(supervisor, lines ? lines : strerror(-r));
    offer_all(supervisor);
}

void sp_reload_request(struct sp_supervisor *supervisor, uint64_t admin_id) {
    if (supervisor->phase >= SP_PHASE_DRAINING) {
        if (admin_id != 0)
            sp_admin_answer(supervisor, admin_id, false, "the gateway is draining");
        return;
    }
    if (!remember(&supervisor->next_askers, admin_id))
        return sp_admin_answer(supervisor, admin_id, false, "too many reloads are asked for at once; try again");
    supervisor->wanted = true;
    sp_reload_go_on(supervisor);
}

void sp_reload_go_on(struct sp_supervisor *supervisor) {
    if (supervisor->wanted)
        sp_defer(supervisor->loop, &supervisor->reload_next);
}

static void reload_next(struct sp_deferred *deferred) {
    struct sp_supervisor *supervisor = SP_CONTAINER(deferred, struct sp_supervisor, reload_next);
    if (!supervisor->wanted || supervisor->phase != SP_PHASE_SERVING || supervisor->vote.open)
        return;
    if (a_worker_can_vote(supervisor)) {
        take_wanted(supervisor);
        begin(supervisor);
    } else if (!supervisor->no_voter_timer.active) {
        sp_info("the reload waits until a worker is serving");
        sp_timer_start(supervisor->loop, &supervisor->no_voter_timer, VOTE_TIMEOUT_MS);
    }
}

static void no_voter(struct sp_timer *timer) {
    struct sp_supervisor *supervisor = SP_CONTAINER(timer, struct sp_supervisor, no_voter_timer);
    take_wanted(supervisor);
    tell_reloading(); /* the service manager waits for both words */
    refused(supervisor, "no worker is serving that could check the new configuration; try again");
}

void sp_reload_init(struct sp_supervisor *supervisor) {
    supervisor->vote_timer.fire = vote_timeout;
    supervisor->no_voter_timer.fire = no_voter;
    supervisor->reload_next.run = reload_next;
    sp_list_init(&supervisor->reload_next.node);
}
