/* The table of messages, which is the whole of what the processes can say to each other, and the check against it. */
#include <errno.h>

#include <sallyport/ipc.h>

#define S (1u << SP_ROLE_SUPERVISOR)
#define W (1u << SP_ROLE_WORKER)
#define C (1u << SP_ROLE_CONTROL)
#define ONLY(type) sizeof(type), sizeof(type)
#define TEXT(type) sizeof(type), sizeof(type) + SP_SENTENCE_MAX
#define REVOKED_KEYS \
    sizeof(struct sp_msg_revoked) + sizeof(struct sp_msg_revoked_key), \
        sizeof(struct sp_msg_revoked) + SP_REVOKED_MAX * sizeof(struct sp_msg_revoked_key)
#define FACTS_MAX SP_FACT_TEXTS *SP_FACT_MAX
#define NOTHING   0, 0

const struct sp_message_rule sp_message_rules[SP_MSG_COUNT] = {
    {SP_MSG_START, "start", S, W | C, ONLY(struct sp_msg_start), SP_SEGMENT_COUNT, SP_SEGMENT_COUNT},
    {SP_MSG_LISTENER, "listener", S, W, ONLY(struct sp_msg_listener), 1, 1},
    {SP_MSG_METRICS_LISTENER, "metrics listener", S, C, ONLY(struct sp_msg_endpoint), 1, 1},
    {SP_MSG_LOG_FILES, "log files", S, W | C, ONLY(struct sp_msg_log_files), 1, 3},
    {SP_MSG_TICKET_KEYS, "ticket keys", S, W, ONLY(struct sp_msg_ticket_keys), 0, 0},
    {SP_MSG_PEER, "peer", S, W | C, ONLY(struct sp_msg_peer), 1, 1},
    {SP_MSG_CONFIG_OFFER, "configuration offer", S, W | C, ONLY(struct sp_msg_generation), 1, 1},
    {SP_MSG_CONFIG_VERDICT, "configuration verdict", W | C, S, TEXT(struct sp_msg_verdict), 0, 0},
    {SP_MSG_CONFIG_COMMIT, "configuration commit", S, W | C, ONLY(struct sp_msg_generation), 0, 0},
    {SP_MSG_CONFIG_DROP, "configuration drop", S, W | C, ONLY(struct sp_msg_generation), 0, 0},
    {SP_MSG_READY, "ready", W | C, S, NOTHING, 0, 0},
    {SP_MSG_DRAIN, "drain", S, W | C, ONLY(struct sp_msg_drain), 0, 0},
    {SP_MSG_HEARTBEAT, "heartbeat", W | C, S, NOTHING, 0, 0},
    {SP_MSG_ADDRESSES, "addresses", C, W, ONLY(struct sp_msg_addresses), 0, 0},
    {SP_MSG_HEALTH, "health", C, W, ONLY(struct sp_msg_health), 0, 0},
    {SP_MSG_ADMIN_REQUEST, "admin request", C, S, ONLY(struct sp_msg_admin_request), 0, 0},
    {SP_MSG_ADMIN_ANSWER, "admin answer", S, C, sizeof(struct sp_msg_admin_answer), SP_MESSAGE_MAX - sizeof(struct sp_frame_header), 0, 0},
    {SP_MSG_STATUS, "status", S, C, sizeof(struct sp_msg_status),
     sizeof(struct sp_msg_status) + SP_PROCESSES_MAX * sizeof(struct sp_msg_process), 0, 0},
    {SP_MSG_LOG_LEVEL, "log level", S, W | C, ONLY(struct sp_msg_log_level), 0, 0},
    {SP_MSG_REVOKED, "revoked keys", S, W, REVOKED_KEYS, 0, 0},
    {SP_MSG_REVOKED_ELSEWHERE, "keys revoked elsewhere", W, S, REVOKED_KEYS, 0, 0},
    {SP_MSG_KEY_SET, "key set", C, W, ONLY(struct sp_msg_key_set), 0, 1},
    {SP_MSG_KEY_WANTED, "key wanted", W, C, ONLY(struct sp_msg_key_wanted), 0, 0},
    {SP_MSG_KEY_ANSWER, "key answer", C, W, ONLY(struct sp_msg_key_answer), 0, 0},
    {SP_MSG_INTROSPECT, "introspect", W, C, sizeof(struct sp_msg_introspect), sizeof(struct sp_msg_introspect) + SP_INTROSPECT_TOKEN_MAX, 0, 0},
    {SP_MSG_INTROSPECTION, "introspection", C, W, sizeof(struct sp_msg_introspection), SP_MESSAGE_MAX - sizeof(struct sp_frame_header), 0, 0},
    {SP_MSG_LEVELS_WANTED, "levels wanted", C, W, sizeof(struct sp_msg_levels_wanted), sizeof(struct sp_msg_levels_wanted) + FACTS_MAX, 0, 0},
    {SP_MSG_LEVELS, "levels", W, C, sizeof(struct sp_msg_levels),
     sizeof(struct sp_msg_levels) + SP_LEVELS_MAX * sizeof(struct sp_msg_level) + FACTS_MAX, 0, 0},
};

/* The structs travel as they lie in memory: padding would carry bytes nobody wrote. */
_Static_assert(sizeof(struct sp_frame_header) == 8, "frame header has no padding");
_Static_assert(sizeof(struct sp_msg_start) == 6 * 4 + 3 * 8, "start has no padding");
_Static_assert(sizeof(struct sp_msg_ticket_keys) == 8 + 3 * SP_TICKET_KEY_LEN, "ticket keys have no padding");
_Static_assert(sizeof(struct sp_msg_verdict) == 16, "verdict has no padding");
_Static_assert(sizeof(struct sp_msg_addresses) == 8 + 256, "addresses have no padding");
_Static_assert(sizeof(struct sp_msg_revoked) == 8 && sizeof(struct sp_msg_revoked_key) == 16, "revoked keys have no padding");
_Static_assert(sizeof(struct sp_msg_admin_request) == 24, "admin request has no padding");
_Static_assert(sizeof(struct sp_msg_admin_answer) == 16, "admin answer has no padding");
_Static_assert(sizeof(struct sp_msg_key_answer) == 16, "key answer has no padding");
_Static_assert(sizeof(struct sp_msg_introspection) == 16, "introspection has no padding");
_Static_assert(sizeof(struct sp_msg_facts) == 40 && sizeof(struct sp_msg_levels_wanted) == 48, "facts have no padding");
_Static_assert(sizeof(struct sp_msg_levels) == 56 && sizeof(struct sp_msg_level) == 104, "levels have no padding");
_Static_assert(sizeof(struct sp_msg_status) == 16, "status has no padding");
_Static_assert(sizeof(struct sp_msg_process) == 24, "process has no padding");

const char *sp_role_name(enum sp_role_id role) {
    static const char *const names[SP_ROLE_COUNT] = {"supervisor", "worker", "control"};
    return (unsigned)role < SP_ROLE_COUNT ? names[role] : "nobody";
}

int sp_message_check(struct sp_span frame, enum sp_role_id from, enum sp_role_id to, size_t n_fds, enum sp_message_type *ret_type,
                     struct sp_span *ret_payload) {
    struct sp_frame_header header;
    if (frame.len < sizeof header || frame.len > SP_MESSAGE_MAX)
        return -EBADMSG;
    memcpy(&header, frame.at, sizeof header);
    if (header.type >= SP_MSG_COUNT || header.len != frame.len - sizeof header)
        return -EBADMSG;
    const struct sp_message_rule *rule = &sp_message_rules[header.type];
    if (!(rule->from & 1u << from) || !(rule->to & 1u << to))
        return -EBADMSG;
    if (header.len < rule->size_min || header.len > rule->size_max)
        return -EBADMSG;
    if (n_fds < rule->fds_min || n_fds > rule->fds_max)
        return -EBADMSG;
    *ret_type = rule->type;
    *ret_payload = sp_span_from(frame, sizeof header);
    return 0;
}
