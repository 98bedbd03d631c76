/* Who may do what on the admin socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <grp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sallyport/admin.h>

static struct sp_admin_gid known[] = {{.gid = 1001, .admin = false}, {.gid = 1002, .admin = true}};
static const struct sp_admin_gids gids = {known, 2};

static void groups_decide_and_the_best_of_them_counts(void **state) {
    const gid_t none[] = {5, 6}, viewer[] = {5, 1001}, admin[] = {1002, 5}, both[] = {1002, 1001};
    assert_int_equal(sp_admin_rights_decide(500, 400, none, 2, &gids), SP_RIGHTS_NONE);
    assert_int_equal(sp_admin_rights_decide(500, 400, none, 0, &gids), SP_RIGHTS_NONE);
    assert_int_equal(sp_admin_rights_decide(500, 400, viewer, 2, &gids), SP_RIGHTS_VIEWER);
    assert_int_equal(sp_admin_rights_decide(500, 400, admin, 2, &gids), SP_RIGHTS_ADMIN);
    assert_int_equal(sp_admin_rights_decide(500, 400, both, 2, &gids), SP_RIGHTS_ADMIN);
}

static void root_and_our_own_user_are_admin_without_any_group(void **state) {
    assert_int_equal(sp_admin_rights_decide(0, 400, NULL, 0, &gids), SP_RIGHTS_ADMIN);
    assert_int_equal(sp_admin_rights_decide(400, 400, NULL, 0, &gids), SP_RIGHTS_ADMIN);
    assert_int_equal(sp_admin_rights_decide(401, 400, NULL, 0, &gids), SP_RIGHTS_NONE);
}

static void without_configured_groups_nobody_else_is_let_in(void **state) {
    const struct sp_admin_gids empty = {0};
    const gid_t groups[] = {0, 1001, 1002};
    assert_int_equal(sp_admin_rights_decide(500, 400, groups, 3, &empty), SP_RIGHTS_NONE);
}

/* The rights of a process with this uid, gid and supplementary groups, as the kernel tells them. */
static enum sp_admin_rights rights_of_process(uid_t uid, gid_t gid, const gid_t *groups, size_t n_groups, uid_t *ret_uid) {
    int fds[2], listening = socket(AF_UNIX, SOCK_STREAM, 0);
    /* Credentials are those of the moment of connect(2): an abstract address of this process keeps the file system out of it. */
    struct sockaddr_un_ {
        sa_family_t family;
        char path[32];
    } address = {.family = AF_UNIX};
    int len = 1 + snprintf(address.path + 1, sizeof address.path - 1, "sp-who-test-%d", (int)getpid());
    socklen_t address_len = (socklen_t)(offsetof(struct sockaddr_un_, path) + (size_t)len);
    assert_int_equal(bind(listening, (struct sockaddr *)&address, address_len), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        bool ok = (n_groups == 0 && getuid() != 0) || (setgroups(n_groups, groups) == 0 && setgid(gid) == 0 && setuid(uid) == 0);
        ok = ok && connect(fd, (struct sockaddr *)&address, address_len) == 0;
        close(fds[1]);
        (void)!read(fds[0], &byte, 1); /* until the parent has looked */
        _exit(ok ? 0 : 1);
    }
    int fd = accept(listening, NULL, NULL);
    assert_true(fd >= 0);
    enum sp_admin_rights rights = sp_admin_rights_of(fd, &gids, ret_uid);
    close(fds[0]);
    close(fds[1]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(fd);
    close(listening);
    return rights;
}

static void the_kernel_says_who_is_connected(void **state) {
    uid_t uid = (uid_t)-1;
    if (getuid() != 0) { /* only root can be somebody else */
        assert_int_equal(rights_of_process(getuid(), getgid(), NULL, 0, &uid), SP_RIGHTS_ADMIN);
        assert_int_equal(uid, getuid());
        return;
    }
    const gid_t none[] = {5}, viewer[] = {5, 1001}, admin[] = {1002, 5};
    gid_t many[300];
    for (gid_t i = 0; i < 300; i++)
        many[i] = 5000 + i;
    many[299] = 1001;
    assert_int_equal(rights_of_process(4321, 4321, none, 1, &uid), SP_RIGHTS_NONE);
    assert_int_equal(uid, 4321);
    assert_int_equal(rights_of_process(4321, 4321, viewer, 2, &uid), SP_RIGHTS_VIEWER);
    assert_int_equal(rights_of_process(4321, 1001, none, 1, &uid), SP_RIGHTS_VIEWER); /* the primary group counts */
    assert_int_equal(rights_of_process(4321, 4321, admin, 2, &uid), SP_RIGHTS_ADMIN);
    assert_int_equal(rights_of_process(4321, 4321, many, 300, &uid), SP_RIGHTS_VIEWER);
    assert_int_equal(rights_of_process(0, 0, none, 0, &uid), SP_RIGHTS_ADMIN);
}

static void a_socket_that_has_no_peer_credentials_has_no_rights(void **state) {
    int fds[2];
    uid_t uid;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(sp_admin_rights_of(fds[0], &gids, &uid), SP_RIGHTS_NONE);
    assert_int_equal(sp_admin_rights_of(-1, &gids, &uid), SP_RIGHTS_NONE);
    close(fds[0]);
    close(fds[1]);
}

static void group_names_become_numbers_and_unknown_ones_are_left_out(void **state) {
    struct sp_admin_group groups[] = {{"no-such-group-here", true}, {"root", false}, {"daemon", true}};
    const struct sp_admin_config config = {.groups = groups, .n_groups = 3};
    struct sp_admin_gids found;
    sp_log_set_fd(-1);
    assert_int_equal(sp_admin_gids_resolve(&config, &found), 0);
    assert_int_equal(found.count, 2);
    assert_int_equal(found.item[0].gid, 0);
    assert_false(found.item[0].admin);
    assert_int_equal(found.item[1].gid, getgrnam("daemon")->gr_gid);
    assert_true(found.item[1].admin);
    sp_admin_gids_free(&found);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_decide_and_the_best_of_them_counts),
        cmocka_unit_test(root_and_our_own_user_are_admin_without_any_group),
        cmocka_unit_test(without_configured_groups_nobody_else_is_let_in),
        cmocka_unit_test(the_kernel_says_who_is_connected),
        cmocka_unit_test(a_socket_that_has_no_peer_credentials_has_no_rights),
        cmocka_unit_test(group_names_become_numbers_and_unknown_ones_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
