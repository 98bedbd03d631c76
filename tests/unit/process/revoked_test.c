/* What the supervisor takes down of keys that a worker says are revoked elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor.h"

static struct sp_supervisor supervisor;
static struct sp_process *const worker = &supervisor.process[1];
static int log_fd;

static int set_up(void **state) {
    static struct sp_api_key_config keys[] = {{.id = "AAAAAAAA"}, {.id = "BBBBBBBB"}};
    static struct sp_redis_config redis;
    static struct sp_config config = {.redis = &redis, .api_keys = keys, .n_api_keys = SP_COUNT(keys)};
    static struct sp_generation generation = {.config = &config};
    supervisor = (struct sp_supervisor){.current = &generation};
    for (size_t i = 0; i < SP_PROCESSES_MAX; i++)
        supervisor.process[i] = (struct sp_process){.supervisor = &supervisor, .role = &sp_roles[i ? SP_ROLE_WORKER : SP_ROLE_CONTROL]};
    log_fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(log_fd >= 0);
    sp_log_set_fd(log_fd);
    return sp_revocations_new(&supervisor.revocations);
}

static int tear_down(void **state) {
    sp_revocations_free(supervisor.revocations);
    close(log_fd);
    return 0;
}

static void learn(const char ids[][SP_KEY_ID_LEN + 1], size_t n, bool now) {
    struct {
        struct sp_msg_revoked head;
        struct sp_msg_revoked_key key[SP_REVOKED_MAX];
    } message = {.head.count = (uint32_t)n};
    assert_true(n <= SP_REVOKED_MAX);
    for (size_t i = 0; i < n; i++) {
        memcpy(message.key[i].id, ids[i], SP_KEY_ID_LEN);
        message.key[i].now = now;
    }
    sp_revoked_learn(worker, sp_span((const char *)&message, sizeof message.head + n * sizeof message.key[0]));
}

static off_t logged(void) { return lseek(log_fd, 0, SEEK_END); }

static void ids_of_no_key_are_neither_kept_nor_logged(void **state) {
    char ids[SP_REVOKED_MAX][SP_KEY_ID_LEN + 1];
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned i = 0; i < SP_REVOKED_MAX; i++)
            snprintf(ids[i], sizeof ids[i], "%08u", round * SP_REVOKED_MAX + i);
        learn(ids, SP_REVOKED_MAX, true);
    }
    assert_int_equal(sp_revocations_count(supervisor.revocations), 0);
    assert_int_equal(logged(), 0);
}

static void keys_of_the_configuration_are_kept_whatever_stands_around_them(void **state) {
    learn((const char[][SP_KEY_ID_LEN + 1]){"nobodys0", "BBBBBBBB", "nobodys1"}, 3, false);
    assert_int_equal(sp_revocations_count(supervisor.revocations), 1);
    assert_false(sp_revocations_find(supervisor.revocations, SP_SPAN("BBBBBBBB"))->now);
    assert_true(logged() > 0);
    learn((const char[][SP_KEY_ID_LEN + 1]){"AAAAAAAA", "BBBBBBBB", "BBBBBBBB"}, 3, true);
    assert_int_equal(sp_revocations_count(supervisor.revocations), 2);
    assert_true(sp_revocations_find(supervisor.revocations, SP_SPAN("BBBBBBBB"))->now);
    off_t before = logged();
    learn((const char[][SP_KEY_ID_LEN + 1]){"AAAAAAAA", "BBBBBBBB"}, 2, true); /* no news */
    assert_int_equal(logged(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ids_of_no_key_are_neither_kept_nor_logged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_of_the_configuration_are_kept_whatever_stands_around_them, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("process: revoked", tests, NULL, NULL);
}
