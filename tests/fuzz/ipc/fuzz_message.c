/* Frames from a peer that may have been subverted: byte 0 is who speaks, byte 1 who listens, byte 2 how many descriptors come along, the
 * rest is the packet. First the pure check, then a real channel: what reaches its owner must be what the table allows. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sallyport/ipc.h>

#include "../require.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

struct listener {
    enum sp_role_id self, peer;
    unsigned messages, closes;
    int reason;
};

static void require_allowed(enum sp_message_type type, size_t payload_len, size_t n_fds, enum sp_role_id from, enum sp_role_id to) {
    REQUIRE((unsigned)type < SP_MSG_COUNT);
    const struct sp_message_rule *rule = &sp_message_rules[type];
    REQUIRE(rule->from & 1u << from);
    REQUIRE(rule->to & 1u << to);
    REQUIRE(payload_len >= rule->size_min && payload_len <= rule->size_max);
    REQUIRE(n_fds >= rule->fds_min && n_fds <= rule->fds_max);
}

static void heard(void *owner, struct sp_channel *channel, enum sp_message_type type, struct sp_span payload, int *fds, size_t n_fds) {
    struct listener *listener = owner;
    listener->messages++;
    require_allowed(type, payload.len, n_fds, listener->peer, listener->self);
    for (size_t i = 0; i < n_fds; i++)
        REQUIRE(fds[i] >= 0);
    /* Touch every byte, so that a sanitizer sees a payload that reaches past its frame. */
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < payload.len; i++)
        sum = (unsigned char)(sum + (unsigned char)payload.at[i]);
}

static void closed(void *owner, struct sp_channel *channel, int reason) {
    struct listener *listener = owner;
    listener->closes++;
    listener->reason = reason;
}

static void send_raw(int fd, const void *packet, size_t len, size_t n_fds) {
    union {
        char bytes[CMSG_SPACE(SP_MESSAGE_FDS_MAX * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    memset(&control, 0, sizeof control);
    struct iovec piece = {.iov_base = (void *)(uintptr_t)packet, .iov_len = len};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (n_fds > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        int fds[SP_MESSAGE_FDS_MAX];
        for (size_t i = 0; i < n_fds; i++)
            fds[i] = fd;
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    (void)!sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void through_a_channel(const struct listener *roles, const uint8_t *packet, size_t len, size_t n_fds, bool allowed) {
    static const struct sp_channel_events events = {.message = heard, .closed = closed};
    static struct sp_loop *loop;
    struct listener listener = *roles;
    struct sp_channel *channel = NULL;
    int fds[2];
    REQUIRE(loop || sp_loop_new(&loop) == 0);
    REQUIRE(sp_channel_pair(fds) == 0);
    REQUIRE(sp_channel_new(loop, fds[0], listener.self, listener.peer, &events, &listener, &channel) == 0);
    send_raw(fds[1], packet, len, n_fds);
    REQUIRE(sp_loop_turn(loop, 0) == 0);
    REQUIRE(listener.messages == (allowed ? 1u : 0u));
    REQUIRE(listener.closes == (allowed ? 0u : 1u));
    REQUIRE(allowed || listener.reason == (len == 0 ? 0 : -EBADMSG)); /* an empty packet is how the end looks, too */
    sp_channel_free(channel);
    close(fds[1]);
    REQUIRE(sp_loop_turn(loop, 0) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    if (len < 3)
        return 0;
    struct listener roles = {.peer = (enum sp_role_id)(bytes[0] % SP_ROLE_COUNT), .self = (enum sp_role_id)(bytes[1] % SP_ROLE_COUNT)};
    size_t n_fds = bytes[2] % (SP_MESSAGE_FDS_MAX + 1);
    const uint8_t *packet = bytes + 3;
    len -= 3;

    enum sp_message_type type = SP_MSG_COUNT;
    struct sp_span payload = {0};
    int r = sp_message_check(sp_span((const char *)packet, len), roles.peer, roles.self, n_fds, &type, &payload);
    REQUIRE(r == 0 || r == -EBADMSG);
    if (r == 0) {
        require_allowed(type, payload.len, n_fds, roles.peer, roles.self);
        REQUIRE(payload.at == (const char *)packet + sizeof(struct sp_frame_header));
        REQUIRE(payload.len + sizeof(struct sp_frame_header) == len);
    } else {
        REQUIRE(type == SP_MSG_COUNT && payload.at == NULL);
    }
    if (len <= SP_MESSAGE_MAX)
        through_a_channel(&roles, packet, len, n_fds, r == 0);
    return 0;
}
