/* What every child does alike, seen from the supervisor's end of its channel: the test is the supervisor. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <sallyport/process.h>

static const char yaml[] = "version: 1\n"
                           "listeners: [{address: 127.0.0.1:1, certificates: [{chain: a.pem, key: a.key}]}]\n"
                           "pools: {p: {servers: [{url: http://127.0.0.1:2}]}}\n"
                           "routes: [{name: r, path: /, authenticate: [none], pool: p}]\n";

static struct sp_loop *loop;
static struct sp_child *child;
static struct sp_channel *channel; /* the supervisor's end */

static struct { /* what the supervisor heard */
    unsigned verdicts, readies, heartbeats;
    struct sp_msg_verdict verdict;
    char sentence[64];
    bool gone;
} heard;

static struct { /* what the role was told */
    unsigned starts, offers, commits, drops, drains, listeners, log_files, ticket_keys, statuses;
    uint64_t generation;
    int fd, access_fd, audit_fd;
    bool refuse;
} told;

/* ---- The role ---- */

static int on_start(void *owner, struct sp_child *self, const struct sp_msg_start *start, void *segments[SP_SEGMENT_COUNT]) {
    told.starts++;
    assert_int_equal(start->slot, 3);
    assert_non_null(segments[SP_SEGMENT_COUNTERS]);
    assert_null(segments[SP_SEGMENT_TRAFFIC]);
    return 0;
}
static int on_offer(void *owner, struct sp_config *config, char **ret_error) {
    told.offers++;
    told.generation = config->generation;
    if (!told.refuse)
        return 0;
    *ret_error = strdup("a.yaml:2:9: I do not like it");
    return -EINVAL;
}
static void on_commit(void *owner, uint64_t generation) {
    told.commits++;
    assert_int_equal(sp_child_config(child)->generation, generation);
}
static void on_drop(void *owner, uint64_t generation) { told.drops++; }
static void on_drain(void *owner, uint64_t timeout_ms) {
    told.drains++;
    sp_child_end(child, 0);
}
static void on_listener(void *owner, unsigned slot, int fd) {
    told.listeners++;
    told.fd = fd;
}
static void on_log_files(void *owner, int access_fd, int audit_fd) {
    told.log_files++;
    told.access_fd = access_fd;
    told.audit_fd = audit_fd;
}
static void on_ticket_keys(void *owner, const struct sp_msg_ticket_keys *keys) { told.ticket_keys++; }

static const struct sp_child_events role = {
    .segment_size = {[SP_SEGMENT_COUNTERS] = 4096},
    .start = on_start,
    .offer = on_offer,
    .commit = on_commit,
    .drop = on_drop,
    .drain = on_drain,
    .listener = on_listener,
    .log_files = on_log_files,
    .ticket_keys = on_ticket_keys,
};

/* ---- The supervisor ---- */

static void on_message(void *owner, struct sp_channel *from, enum sp_message_type type, struct sp_span payload, int *fds, size_t n_fds) {
    heard.readies += type == SP_MSG_READY;
    heard.heartbeats += type == SP_MSG_HEARTBEAT;
    if (type != SP_MSG_CONFIG_VERDICT)
        return;
    heard.verdicts++;
    memcpy(&heard.verdict, payload.at, sizeof heard.verdict);
    struct sp_span sentence = sp_span_from(payload, sizeof heard.verdict);
    memcpy(heard.sentence, sentence.at, sp_min(sentence.len, sizeof heard.sentence - 1));
}
static void on_closed(void *owner, struct sp_channel *from, int reason) { heard.gone = true; }
static const struct sp_channel_events supervisor = {.message = on_message, .closed = on_closed};

static void turn(void) {
    for (int i = 0; i < 4; i++)
        assert_int_equal(sp_loop_turn(loop, 0), 0);
}

static int set_up(void **state) {
    int fds[2];
    memset(&heard, 0, sizeof heard);
    memset(&told, 0, sizeof told);
    told.fd = told.access_fd = told.audit_fd = -1;
    int reserved = open("/dev/null", O_RDWR | O_CLOEXEC); /* nothing of the test's own may come to lie on the channel's number */
    dup2(reserved, SP_CHANNEL_FD);
    assert_int_equal(sp_loop_new(&loop), 0);
    assert_int_equal(sp_channel_pair(fds), 0);
    int ours = fcntl(fds[0], F_DUPFD_CLOEXEC, 10), theirs = fcntl(fds[1], F_DUPFD_CLOEXEC, 10);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(dup2(theirs, SP_CHANNEL_FD), SP_CHANNEL_FD);
    close(theirs);
    if (reserved != SP_CHANNEL_FD)
        close(reserved);
    assert_int_equal(sp_channel_new(loop, ours, SP_ROLE_SUPERVISOR, SP_ROLE_WORKER, &supervisor, NULL, &channel), 0);
    assert_int_equal(sp_child_new(SP_ROLE_WORKER, &role, NULL, loop, &child), 0);
    return 0;
}

static int tear_down(void **state) {
    sp_child_free(child);
    sp_channel_free(channel);
    channel = NULL;
    sp_close_fd(&told.fd);
    sp_close_fd(&told.access_fd);
    sp_close_fd(&told.audit_fd);
    sp_loop_free(loop);
    return 0;
}

static void tell(enum sp_message_type type, const void *payload, size_t len, const int *fds, size_t n_fds) {
    assert_int_equal(sp_channel_send(channel, type, payload, len, SP_SPAN(""), fds, n_fds), 0);
    turn();
}

static void tell_start(void) {
    struct sp_msg_start start = {.version = SP_IPC_VERSION, .slot = 3, .log_level = SP_LOG_ERROR};
    int fds[SP_SEGMENT_COUNT];
    for (int i = 0; i < SP_SEGMENT_COUNT; i++)
        assert_int_equal(sp_segment_create("test", 4096, &fds[i]), 0);
    tell(SP_MSG_START, &start, sizeof start, fds, SP_SEGMENT_COUNT);
    for (int i = 0; i < SP_SEGMENT_COUNT; i++)
        close(fds[i]);
}

static void tell_generation(enum sp_message_type type, uint64_t generation) {
    struct sp_msg_generation message = {.generation = generation};
    tell(type, &message, sizeof message, NULL, 0);
}

static void offer_bytes(uint64_t generation, struct sp_span bytes) {
    struct sp_msg_generation message = {.generation = generation};
    _cleanup_(sp_close_fd) int fd = -1;
    assert_int_equal(sp_sealed_bytes("test", bytes, &fd), 0);
    tell(SP_MSG_CONFIG_OFFER, &message, sizeof message, &fd, 1);
}

static void offer(uint64_t generation) {
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    char *bytes = NULL;
    size_t len = 0;
    int r = sp_config_load_text("a.yaml", sp_span_text(yaml), ".", false, NULL, generation, &errors, &document);
    if (r < 0 && errors.count > 0)
        fail_msg("%s", errors.line[0]);
    assert_int_equal(r, 0);
    assert_int_equal(sp_document_encode(document, SP_READER_WORKER, &bytes, &len), 0);
    offer_bytes(generation, sp_span(bytes, len));
    sp_free_secret(bytes);
    sp_document_free(document);
}

/* What the role's main would return; one that has not ended runs into the test's time limit. */
static int exit_status(void) { return sp_child_run(child); }

/* ---- Promises ---- */

static void a_child_starts_votes_and_is_ready_once(void **state) {
    tell_start();
    assert_int_equal(told.starts, 1);
    offer(1);
    assert_int_equal(heard.verdicts, 1);
    assert_int_equal(heard.verdict.accepted, 1);
    assert_int_equal(heard.readies, 0);
    tell_generation(SP_MSG_CONFIG_COMMIT, 1);
    assert_int_equal(told.commits, 1);
    assert_int_equal(heard.readies, 1);
    offer(2);
    tell_generation(SP_MSG_CONFIG_COMMIT, 2);
    assert_int_equal(told.commits, 2);
    assert_int_equal(heard.readies, 1);
    assert_int_equal(sp_child_config(child)->generation, 2);
}

static void a_refusal_carries_its_sentence_and_keeps_the_current_one(void **state) {
    tell_start();
    offer(1);
    tell_generation(SP_MSG_CONFIG_COMMIT, 1);
    told.refuse = true;
    offer(2);
    assert_int_equal(heard.verdict.accepted, 0);
    assert_int_equal(heard.verdict.generation, 2);
    assert_string_equal(heard.sentence, "a.yaml:2:9: I do not like it");
    assert_int_equal(sp_child_config(child)->generation, 1);
    told.refuse = false;
    offer(3);
    tell_generation(SP_MSG_CONFIG_COMMIT, 3);
    assert_int_equal(sp_child_config(child)->generation, 3);
}

static void what_is_dropped_is_forgotten(void **state) {
    tell_start();
    offer(1);
    tell_generation(SP_MSG_CONFIG_DROP, 1);
    assert_int_equal(told.drops, 1);
    assert_null(sp_child_config(child));
    offer(2);
    assert_int_equal(heard.verdict.accepted, 1);
}

static void bytes_that_are_no_document_are_refused(void **state) {
    tell_start();
    offer_bytes(1, SP_SPAN("not JSON"));
    assert_int_equal(heard.verdicts, 1);
    assert_int_equal(heard.verdict.accepted, 0);
    assert_int_equal(told.offers, 0);
}

static void a_document_of_another_generation_is_refused(void **state) {
    tell_start();
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    char *bytes = NULL;
    size_t len = 0;
    assert_int_equal(sp_config_load_text("a.yaml", sp_span_text(yaml), ".", false, NULL, 7, &errors, &document), 0);
    assert_int_equal(sp_document_encode(document, SP_READER_WORKER, &bytes, &len), 0);
    offer_bytes(8, sp_span(bytes, len));
    sp_free_secret(bytes);
    sp_document_free(document);
    assert_int_equal(heard.verdict.accepted, 0);
    assert_int_equal(told.offers, 0);
}

static void nothing_is_heard_before_start(void **state) {
    tell_generation(SP_MSG_CONFIG_DROP, 1);
    assert_int_equal(told.starts + told.drops, 0);
    assert_int_equal(exit_status(), 1);
}

static void a_second_start_ends_the_child(void **state) {
    tell_start();
    tell_start();
    assert_int_equal(told.starts, 1);
    assert_int_equal(exit_status(), 1);
}

static void a_commit_of_what_was_not_offered_ends_the_child(void **state) {
    tell_start();
    offer(1);
    tell_generation(SP_MSG_CONFIG_COMMIT, 2);
    assert_int_equal(told.commits, 0);
    assert_int_equal(exit_status(), 1);
}

static void a_second_offer_before_the_first_is_settled_ends_the_child(void **state) {
    tell_start();
    offer(1);
    offer(2);
    assert_int_equal(told.offers, 1);
    assert_int_equal(exit_status(), 1);
}

static void log_files_come_as_they_are_said(void **state) {
    tell_start();
    int fds[3] = {STDERR_FILENO, STDERR_FILENO, STDERR_FILENO};
    struct sp_msg_log_files audit_only = {.has_audit = 1};
    tell(SP_MSG_LOG_FILES, &audit_only, sizeof audit_only, fds, 2);
    assert_int_equal(told.log_files, 1);
    assert_int_equal(told.access_fd, -1);
    assert_true(told.audit_fd >= 0);
    struct sp_msg_log_files both = {.has_access = 1, .has_audit = 1};
    tell(SP_MSG_LOG_FILES, &both, sizeof both, fds, 2); /* one is missing */
    assert_int_equal(told.log_files, 1);
    assert_int_equal(exit_status(), 1);
}

static void a_listener_of_an_impossible_slot_ends_the_child(void **state) {
    tell_start();
    struct sp_msg_listener listener = {.slot = 1};
    int fd = STDERR_FILENO;
    tell(SP_MSG_LISTENER, &listener, sizeof listener, &fd, 1);
    assert_int_equal(told.listeners, 1);
    listener.slot = SP_LISTENERS_MAX;
    tell(SP_MSG_LISTENER, &listener, sizeof listener, &fd, 1);
    assert_int_equal(told.listeners, 1);
    assert_int_equal(exit_status(), 1);
}

static void no_ticket_keys_at_all_end_the_child(void **state) {
    tell_start();
    struct sp_msg_ticket_keys keys = {.count = 3};
    tell(SP_MSG_TICKET_KEYS, &keys, sizeof keys, NULL, 0);
    assert_int_equal(told.ticket_keys, 1);
    keys.count = 0;
    tell(SP_MSG_TICKET_KEYS, &keys, sizeof keys, NULL, 0);
    assert_int_equal(told.ticket_keys, 1);
    assert_int_equal(exit_status(), 1);
}

static void a_drained_child_ends_with_0(void **state) {
    tell_start();
    struct sp_msg_drain drain = {.timeout_ms = 1};
    assert_int_equal(sp_channel_send(channel, SP_MSG_DRAIN, &drain, sizeof drain, SP_SPAN(""), NULL, 0), 0);
    assert_int_equal(sp_child_run(child), 0);
    assert_int_equal(told.drains, 1);
}

static void a_child_whose_supervisor_is_gone_ends_with_1(void **state) {
    tell_start();
    sp_channel_free(sp_take(channel));
    assert_int_equal(sp_child_run(child), 1);
}

static void a_child_shows_that_it_lives(void **state) {
    turn();
    assert_true(heard.heartbeats >= 1);
}

static void only_the_supervisor_starts_a_child(void **state) {
    struct sp_loop *other;
    struct sp_child *orphan = NULL;
    assert_int_equal(sp_loop_new(&other), 0);
    int kept = fcntl(SP_CHANNEL_FD, F_DUPFD_CLOEXEC, 10), null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(dup2(null_fd, SP_CHANNEL_FD), SP_CHANNEL_FD);
    assert_int_equal(sp_child_new(SP_ROLE_WORKER, &role, NULL, other, &orphan), -ENOTSOCK);
    assert_null(orphan);
    dup2(kept, SP_CHANNEL_FD);
    close(kept);
    close(null_fd);
    sp_loop_free(other);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_child_starts_votes_and_is_ready_once),
        CASE(a_refusal_carries_its_sentence_and_keeps_the_current_one),
        CASE(what_is_dropped_is_forgotten),
        CASE(bytes_that_are_no_document_are_refused),
        CASE(a_document_of_another_generation_is_refused),
        CASE(nothing_is_heard_before_start),
        CASE(a_second_start_ends_the_child),
        CASE(a_commit_of_what_was_not_offered_ends_the_child),
        CASE(a_second_offer_before_the_first_is_settled_ends_the_child),
        CASE(log_files_come_as_they_are_said),
        CASE(a_listener_of_an_impossible_slot_ends_the_child),
        CASE(no_ticket_keys_at_all_end_the_child),
        CASE(a_drained_child_ends_with_0),
        CASE(a_child_whose_supervisor_is_gone_ends_with_1),
        CASE(a_child_shows_that_it_lives),
        CASE(only_the_supervisor_starts_a_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
