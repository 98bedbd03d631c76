/* Memory files: segments that processes write together, and sealed bytes that nobody can change once they are handed over. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sallyport/ipc.h>

static int memory_file(const char *name, int *ret_fd) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

int sp_segment_create(const char *name, size_t size, int *ret_fd) {
    _cleanup_(sp_close_fd) int fd = -1;
    int r = memory_file(name, &fd);
    if (r < 0)
        return r;
    if (size == 0 || size > INT64_MAX)
        return -EINVAL;
    if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int sp_segment_map(int fd, size_t size, bool writable, void **ret) {
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    /* A file that could shrink would turn a read into SIGBUS. */
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || size == 0 || status.st_size < 0 || (uint64_t)status.st_size != size)
        return -EINVAL;
    void *at = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return -errno;
    *ret = at;
    return 0;
}

static int write_all(int fd, struct sp_span bytes) {
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.at, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        bytes = sp_span_from(bytes, (size_t)n);
    }
    return 0;
}

int sp_sealed_bytes(const char *name, struct sp_span bytes, int *ret_fd) {
    _cleanup_(sp_close_fd) int fd = -1;
    if (bytes.len == 0)
        return -EINVAL;
    int r = memory_file(name, &fd);
    if (r < 0)
        return r;
    r = write_all(fd, bytes);
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int sp_sealed_map(int fd, size_t max, struct sp_span *ret) {
    const int wanted = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & wanted) != wanted)
        return -EPERM;
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (status.st_size <= 0)
        return -EINVAL;
    if ((uint64_t)status.st_size > max)
        return -EFBIG;
    void *at = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED)
        return -errno;
    *ret = sp_span(at, (size_t)status.st_size);
    return 0;
}
