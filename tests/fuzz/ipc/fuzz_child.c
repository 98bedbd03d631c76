/* What a child makes of a supervisor that says anything in any order. The input is a list of messages: type, number of descriptors, kind of
 * descriptor, length (2 bytes, little-endian), payload. Whatever comes, the role is only told what the contract in process.h promises. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sallyport/process.h>

#include "../require.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

enum { KIND_NULL, KIND_SEGMENT, KIND_DOCUMENT, KIND_GARBAGE, KIND_COUNT };

static struct sp_child *child;
static struct { /* what the role was told */
    bool started;
    uint64_t offered; /* 0: none is open */
} told;
static int fds_of_kind[KIND_COUNT];

static void require_descriptor(int fd) {
    REQUIRE(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    close(fd);
}

static int on_start(void *owner, struct sp_child *self, const struct sp_msg_start *start, void *segments[SP_SEGMENT_COUNT]) {
    REQUIRE(!told.started);
    REQUIRE(start->slot < SP_WORKERS_MAX);
    for (int i = 0; i < SP_SEGMENT_COUNT; i++)
        *(volatile char *)segments[i] = 1;
    told.started = true;
    return 0;
}
static int on_offer(void *owner, struct sp_config *config, char **ret_error) {
    REQUIRE(told.started && told.offered == 0 && config->generation != 0);
    told.offered = config->generation;
    return 0;
}
static void on_commit(void *owner, uint64_t generation) {
    REQUIRE(told.offered != 0 && told.offered == generation && sp_child_config(child)->generation == generation);
    told.offered = 0;
}
static void on_drop(void *owner, uint64_t generation) {
    REQUIRE(told.offered != 0 && told.offered == generation);
    told.offered = 0;
}
static void on_listener(void *owner, unsigned slot, int fd) {
    REQUIRE(told.started && slot < SP_LISTENERS_MAX);
    require_descriptor(fd);
}
static void on_log_files(void *owner, int access_fd, int audit_fd) {
    REQUIRE(told.started);
    if (access_fd >= 0)
        require_descriptor(access_fd);
    if (audit_fd >= 0)
        require_descriptor(audit_fd);
}
static void on_ticket_keys(void *owner, const struct sp_msg_ticket_keys *keys) {
    REQUIRE(told.started && keys->count > 0 && keys->count <= SP_COUNT(keys->key));
}
static void on_peer(void *owner, enum sp_role_id role, unsigned slot, int fd) {
    REQUIRE(told.started && (role == SP_ROLE_WORKER || role == SP_ROLE_CONTROL) && slot < SP_WORKERS_MAX);
    require_descriptor(fd);
}
static void on_endpoint(void *owner, enum sp_endpoint_kind kind, int fd) {
    REQUIRE(told.started && (unsigned)kind < SP_ENDPOINT_COUNT);
    require_descriptor(fd);
}
static void on_drain(void *owner, uint64_t timeout_ms) { REQUIRE(told.started); }
static void on_admin_answer(void *owner, uint64_t id, bool ok, struct sp_span text) { REQUIRE(told.started); }
static void on_status(void *owner, const struct sp_msg_status *status, const struct sp_msg_process *processes) {
    REQUIRE(told.started && status->n <= SP_PROCESSES_MAX);
    volatile uint32_t sum = 0;
    for (uint32_t i = 0; i < status->n; i++)
        sum += processes[i].pid;
    (void)sum;
}

static void on_revoked(void *owner, const struct sp_msg_revoked_key *keys, size_t n) {
    REQUIRE(told.started && n > 0 && n <= SP_REVOKED_MAX);
    volatile uint32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += keys[i].now;
    (void)sum;
}

static const struct sp_child_events role = {
    .segment_size = {4096, 4096, 4096},
    .segments_writable = true,
    .start = on_start,
    .offer = on_offer,
    .commit = on_commit,
    .drop = on_drop,
    .listener = on_listener,
    .endpoint = on_endpoint,
    .log_files = on_log_files,
    .ticket_keys = on_ticket_keys,
    .peer = on_peer,
    .drain = on_drain,
    .admin_answer = on_admin_answer,
    .status = on_status,
    .revoked = on_revoked,
};

/* Generation 1 of the smallest configuration there is. */
static int document_fd(void) {
    static const char yaml[] = "version: 1\n"
                               "listeners: [{address: 127.0.0.1:1, certificates: [{chain: a.pem, key: a.key}]}]\n"
                               "pools: {p: {servers: [{url: http://127.0.0.1:2}]}}\n"
                               "routes: [{name: r, path: /, authenticate: [none], pool: p}]\n";
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    char *bytes = NULL;
    size_t len = 0;
    int fd = -1;
    REQUIRE(sp_config_load_text("a.yaml", sp_span_text(yaml), ".", false, NULL, 1, &errors, &document) == 0);
    REQUIRE(sp_document_encode(document, SP_READER_WORKER, &bytes, &len) == 0);
    REQUIRE(sp_sealed_bytes("document", sp_span(bytes, len), &fd) == 0);
    sp_free_secret(bytes);
    sp_document_free(document);
    return fd;
}

static void prepare_once(void) {
    static bool prepared;
    if (prepared)
        return;
    prepared = true;
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    REQUIRE(null_fd == SP_CHANNEL_FD || dup2(null_fd, SP_CHANNEL_FD) == SP_CHANNEL_FD);
    fds_of_kind[KIND_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
    REQUIRE(sp_segment_create("segment", 4096, &fds_of_kind[KIND_SEGMENT]) == 0);
    REQUIRE(sp_sealed_bytes("garbage", SP_SPAN("{\"version\":"), &fds_of_kind[KIND_GARBAGE]) == 0);
    fds_of_kind[KIND_DOCUMENT] = document_fd();
}

static void send_packet(int fd, uint8_t type, const uint8_t *payload, size_t len, size_t n_fds, int passed) {
    union {
        char bytes[CMSG_SPACE(SP_MESSAGE_FDS_MAX * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    memset(&control, 0, sizeof control);
    struct sp_frame_header header = {.type = type, .len = (uint32_t)len};
    struct iovec pieces[2] = {{.iov_base = &header, .iov_len = sizeof header}, {.iov_base = (void *)(uintptr_t)payload, .iov_len = len}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    if (n_fds > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        int fds[SP_MESSAGE_FDS_MAX];
        for (size_t i = 0; i < n_fds; i++)
            fds[i] = passed;
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    (void)!sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_loop *loop = NULL;
    int fds[2];
    if (len < 1)
        return 0;
    prepare_once();
    memset(&told, 0, sizeof told);
    REQUIRE(sp_loop_new(&loop) == 0);
    REQUIRE(sp_channel_pair(fds) == 0);
    REQUIRE(dup2(fds[1], SP_CHANNEL_FD) == SP_CHANNEL_FD);
    close(fds[1]);
    REQUIRE(sp_child_new(bytes[0] & 1 ? SP_ROLE_CONTROL : SP_ROLE_WORKER, &role, NULL, loop, &child) == 0);
    sp_log_set_fd(fds_of_kind[KIND_NULL]); /* what it complains about is not the point */
    bytes++, len--;
    while (len >= 5) {
        size_t payload_len = sp_min((size_t)(bytes[3] | bytes[4] << 8), len - 5);
        send_packet(fds[0], bytes[0], bytes + 5, payload_len, bytes[1] % (SP_MESSAGE_FDS_MAX + 1), fds_of_kind[bytes[2] % KIND_COUNT]);
        REQUIRE(sp_loop_turn(loop, 0) == 0);
        bytes += 5 + payload_len;
        len -= 5 + payload_len;
    }
    sp_child_free(child);
    sp_loop_free(loop);
    close(fds[0]);
    /* The number stays taken, so that nothing else comes to lie on it. */
    REQUIRE(dup2(fds_of_kind[KIND_NULL], SP_CHANNEL_FD) == SP_CHANNEL_FD);
    return 0;
}
