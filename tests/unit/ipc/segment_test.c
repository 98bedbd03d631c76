/* Memory files: who holds one cannot pull it away under another, and sealed bytes stay as they are. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <sallyport/ipc.h>

static void a_segment_begins_zeroed_and_is_shared(void **state) {
    _cleanup_(sp_close_fd) int fd = -1;
    char *writer, *reader;
    assert_int_equal(sp_segment_create("test", 8192, &fd), 0);
    assert_int_equal(sp_segment_map(fd, 8192, true, (void **)&writer), 0);
    assert_int_equal(sp_segment_map(fd, 8192, false, (void **)&reader), 0);
    for (size_t i = 0; i < 8192; i++)
        assert_int_equal(reader[i], 0);
    writer[4097] = 'x';
    assert_int_equal(reader[4097], 'x');
    munmap(writer, 8192);
    munmap(reader, 8192);
}

static void a_segment_can_neither_shrink_nor_grow(void **state) {
    _cleanup_(sp_close_fd) int fd = -1;
    assert_int_equal(sp_segment_create("test", 4096, &fd), 0);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 8192), -1);
}

static void a_segment_of_another_size_is_not_mapped(void **state) {
    _cleanup_(sp_close_fd) int fd = -1;
    void *at = NULL;
    assert_int_equal(sp_segment_create("test", 4096, &fd), 0);
    assert_int_equal(sp_segment_map(fd, 8192, true, &at), -EINVAL);
    assert_int_equal(sp_segment_map(fd, 0, true, &at), -EINVAL);
    assert_null(at);
}

static void a_file_that_could_shrink_is_no_segment(void **state) {
    _cleanup_(sp_close_fd) int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *at = NULL;
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(sp_segment_map(fd, 4096, true, &at), -EINVAL);
    assert_null(at);
}

static void sealed_bytes_come_back_as_they_were(void **state) {
    _cleanup_(sp_close_fd) int fd = -1;
    struct sp_span back;
    assert_int_equal(sp_sealed_bytes("test", SP_SPAN("{\"a\":1}"), &fd), 0);
    assert_int_equal(sp_sealed_map(fd, 1024, &back), 0);
    assert_true(sp_span_eq(back, SP_SPAN("{\"a\":1}")));
    munmap((void *)(uintptr_t)back.at, back.len);
}

static void sealed_bytes_cannot_be_written_again(void **state) {
    _cleanup_(sp_close_fd) int fd = -1;
    assert_int_equal(sp_sealed_bytes("test", SP_SPAN("abc"), &fd), 0);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, 1), -1);
    assert_ptr_equal(mmap(NULL, 3, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
}

static void bytes_that_are_not_sealed_are_not_believed(void **state) {
    _cleanup_(sp_close_fd) int segment = -1;
    struct sp_span back = SP_SPAN("untouched");
    assert_int_equal(sp_segment_create("test", 4096, &segment), 0);
    assert_int_equal(sp_sealed_map(segment, 1 << 20, &back), -EPERM);
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(sp_sealed_map(pipe_fds[0], 1 << 20, &back), -EPERM);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    assert_true(sp_span_eq(back, SP_SPAN("untouched")));
}

static void bytes_past_the_maximum_are_refused(void **state) {
    _cleanup_(sp_close_fd) int fd = -1;
    struct sp_span back;
    assert_int_equal(sp_sealed_bytes("test", SP_SPAN("0123456789"), &fd), 0);
    assert_int_equal(sp_sealed_map(fd, 9, &back), -EFBIG);
    assert_int_equal(sp_sealed_map(fd, 10, &back), 0);
    munmap((void *)(uintptr_t)back.at, back.len);
}

static void nothing_cannot_be_sealed(void **state) {
    int fd = -1;
    assert_int_equal(sp_sealed_bytes("test", SP_SPAN(""), &fd), -EINVAL);
    assert_int_equal(fd, -1);
}

static void an_empty_file_is_not_believed_either(void **state) {
    _cleanup_(sp_close_fd) int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct sp_span back;
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
    assert_int_equal(sp_sealed_map(fd, 1024, &back), -EINVAL);
}

static void a_size_that_no_file_can_have_makes_no_segment(void **state) {
    int fd = -1;
    assert_int_equal(sp_segment_create("test", 0, &fd), -EINVAL);
    assert_int_equal(sp_segment_create("test", SIZE_MAX, &fd), -EINVAL);
    assert_int_equal(fd, -1);
}

static void a_descriptor_that_is_none_is_not_mapped(void **state) {
    void *at = NULL;
    struct sp_span back;
    assert_int_equal(sp_segment_map(-1, 4096, true, &at), -EBADF);
    assert_int_equal(sp_sealed_map(-1, 4096, &back), -EPERM);
    assert_null(at);
}

static void without_descriptors_nothing_is_made(void **state) {
    struct rlimit before, none;
    int fd = -1, pair[2] = {-1, -1};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int segment = sp_segment_create("test", 4096, &fd), sealed = sp_sealed_bytes("test", SP_SPAN("abc"), &fd),
        channel = sp_channel_pair(pair);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(segment, -EMFILE);
    assert_int_equal(sealed, -EMFILE);
    assert_int_equal(channel, -EMFILE);
    assert_int_equal(fd, -1);
    assert_int_equal(pair[0], -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_begins_zeroed_and_is_shared),
        cmocka_unit_test(a_segment_can_neither_shrink_nor_grow),
        cmocka_unit_test(a_segment_of_another_size_is_not_mapped),
        cmocka_unit_test(a_file_that_could_shrink_is_no_segment),
        cmocka_unit_test(sealed_bytes_come_back_as_they_were),
        cmocka_unit_test(sealed_bytes_cannot_be_written_again),
        cmocka_unit_test(bytes_that_are_not_sealed_are_not_believed),
        cmocka_unit_test(bytes_past_the_maximum_are_refused),
        cmocka_unit_test(nothing_cannot_be_sealed),
        cmocka_unit_test(an_empty_file_is_not_believed_either),
        cmocka_unit_test(a_size_that_no_file_can_have_makes_no_segment),
        cmocka_unit_test(a_descriptor_that_is_none_is_not_mapped),
        cmocka_unit_test(without_descriptors_nothing_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
