/* The table of messages: what it lists passes, and nothing else does. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sallyport/ipc.h>

static char frame[SP_MESSAGE_MAX + 64];

static struct sp_span make_frame(uint32_t type, uint32_t len) {
    struct sp_frame_header header = {.type = type, .len = len};
    memcpy(frame, &header, sizeof header);
    return sp_span(frame, sizeof header + len);
}

static int check(struct sp_span bytes, unsigned from, unsigned to, size_t n_fds) {
    enum sp_message_type type;
    struct sp_span payload;
    return sp_message_check(bytes, (enum sp_role_id)from, (enum sp_role_id)to, n_fds, &type, &payload);
}

static void every_message_stands_at_its_own_place(void **state) {
    for (unsigned i = 0; i < SP_MSG_COUNT; i++) {
        assert_int_equal(sp_message_rules[i].type, i);
        assert_non_null(sp_message_rules[i].name);
        assert_true(sp_message_rules[i].from != 0 && sp_message_rules[i].to != 0);
        assert_true(sp_message_rules[i].size_min <= sp_message_rules[i].size_max);
        assert_true(sp_message_rules[i].size_max <= SP_MESSAGE_MAX - sizeof(struct sp_frame_header));
        assert_true(sp_message_rules[i].fds_min <= sp_message_rules[i].fds_max && sp_message_rules[i].fds_max <= SP_MESSAGE_FDS_MAX);
    }
}

static void each_message_passes_only_in_its_direction(void **state) {
    for (unsigned i = 0; i < SP_MSG_COUNT; i++) {
        const struct sp_message_rule *rule = &sp_message_rules[i];
        struct sp_span bytes = make_frame(i, rule->size_min);
        for (unsigned from = 0; from < SP_ROLE_COUNT; from++)
            for (unsigned to = 0; to < SP_ROLE_COUNT; to++) {
                bool listed = rule->from & 1u << from && rule->to & 1u << to;
                assert_int_equal(check(bytes, from, to, rule->fds_min), listed ? 0 : -EBADMSG);
            }
    }
}

static void nobody_talks_to_their_own_kind(void **state) {
    for (unsigned i = 0; i < SP_MSG_COUNT; i++)
        assert_int_equal(sp_message_rules[i].from & sp_message_rules[i].to, 0);
}

static unsigned first_role(unsigned bits) { return (unsigned)__builtin_ctz(bits); }

static void sizes_outside_the_rule_are_refused(void **state) {
    for (unsigned i = 0; i < SP_MSG_COUNT; i++) {
        const struct sp_message_rule *rule = &sp_message_rules[i];
        unsigned from = first_role(rule->from), to = first_role(rule->to);
        assert_int_equal(check(make_frame(i, rule->size_max), from, to, rule->fds_min), 0);
        assert_int_equal(check(make_frame(i, rule->size_max + 1), from, to, rule->fds_min), -EBADMSG);
        if (rule->size_min > 0)
            assert_int_equal(check(make_frame(i, rule->size_min - 1u), from, to, rule->fds_min), -EBADMSG);
    }
}

static void too_many_or_too_few_descriptors_are_refused(void **state) {
    for (unsigned i = 0; i < SP_MSG_COUNT; i++) {
        const struct sp_message_rule *rule = &sp_message_rules[i];
        unsigned from = first_role(rule->from), to = first_role(rule->to);
        struct sp_span bytes = make_frame(i, rule->size_min);
        assert_int_equal(check(bytes, from, to, rule->fds_max), 0);
        assert_int_equal(check(bytes, from, to, rule->fds_max + 1u), -EBADMSG);
        if (rule->fds_min > 0)
            assert_int_equal(check(bytes, from, to, rule->fds_min - 1u), -EBADMSG);
    }
}

static void a_length_that_does_not_match_the_packet_is_refused(void **state) {
    struct sp_span bytes = make_frame(SP_MSG_DRAIN, sizeof(struct sp_msg_drain));
    bytes.len--;
    assert_int_equal(check(bytes, SP_ROLE_SUPERVISOR, SP_ROLE_WORKER, 0), -EBADMSG);
    bytes.len += 2;
    assert_int_equal(check(bytes, SP_ROLE_SUPERVISOR, SP_ROLE_WORKER, 0), -EBADMSG);
    for (size_t len = 0; len < sizeof(struct sp_frame_header); len++)
        assert_int_equal(check(sp_span(frame, len), SP_ROLE_SUPERVISOR, SP_ROLE_WORKER, 0), -EBADMSG);
}

static void an_unknown_type_is_refused(void **state) {
    assert_int_equal(check(make_frame(SP_MSG_COUNT, 0), SP_ROLE_SUPERVISOR, SP_ROLE_WORKER, 0), -EBADMSG);
    assert_int_equal(check(make_frame(UINT32_MAX, 0), SP_ROLE_WORKER, SP_ROLE_SUPERVISOR, 0), -EBADMSG);
}

static void the_payload_is_what_follows_the_header(void **state) {
    struct sp_span bytes = make_frame(SP_MSG_DRAIN, sizeof(struct sp_msg_drain)), payload;
    enum sp_message_type type;
    assert_int_equal(sp_message_check(bytes, SP_ROLE_SUPERVISOR, SP_ROLE_WORKER, 0, &type, &payload), 0);
    assert_int_equal(type, SP_MSG_DRAIN);
    assert_ptr_equal(payload.at, bytes.at + sizeof(struct sp_frame_header));
    assert_int_equal(payload.len, sizeof(struct sp_msg_drain));
}

static void every_role_has_a_name(void **state) {
    assert_string_equal(sp_role_name(SP_ROLE_SUPERVISOR), "supervisor");
    assert_string_equal(sp_role_name(SP_ROLE_WORKER), "worker");
    assert_string_equal(sp_role_name(SP_ROLE_CONTROL), "control");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_stands_at_its_own_place),
        cmocka_unit_test(each_message_passes_only_in_its_direction),
        cmocka_unit_test(nobody_talks_to_their_own_kind),
        cmocka_unit_test(sizes_outside_the_rule_are_refused),
        cmocka_unit_test(too_many_or_too_few_descriptors_are_refused),
        cmocka_unit_test(a_length_that_does_not_match_the_packet_is_refused),
        cmocka_unit_test(an_unknown_type_is_refused),
        cmocka_unit_test(the_payload_is_what_follows_the_header),
        cmocka_unit_test(every_role_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
