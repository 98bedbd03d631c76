/* ipc: framed, typed messages with passed descriptors over sequenced-packet socketpairs; sealed memory files; the one table of messages.
 * A receiver refuses what the table does not list for its peer: a violated contract ends the receiver or, in the supervisor, the peer.
 * It must not know what a message makes anybody do. */
#ifndef SALLYPORT_IPC_H
#define SALLYPORT_IPC_H

#include <sallyport/base.h>
#include <sallyport/loop.h>

enum sp_role_id { SP_ROLE_SUPERVISOR, SP_ROLE_WORKER, SP_ROLE_CONTROL, SP_ROLE_COUNT };
const char *sp_role_name(enum sp_role_id role); /* "worker" */

enum sp_message_type {
    SP_MSG_START,            /* supervisor → all: who you are, segments, log descriptor (see struct sp_msg_start) */
    SP_MSG_LISTENER,         /* supervisor → worker: one listening socket, by listener slot */
    SP_MSG_METRICS_LISTENER, /* supervisor → control: the metrics address's listening socket, or the admin socket */
    SP_MSG_LOG_FILES,        /* supervisor → all: access and error log descriptors, at start and after USR1 */
    SP_MSG_TICKET_KEYS,      /* supervisor → worker: TLS session-ticket keys, newest first */
    SP_MSG_PEER,             /* supervisor → control and worker: one end of the channel between them */
    SP_MSG_CONFIG_OFFER,     /* supervisor → worker, control: sealed memfd; build a snapshot, do not use it yet */
    SP_MSG_CONFIG_VERDICT,   /* worker, control → supervisor: accepted, or refused with a sentence */
    SP_MSG_CONFIG_COMMIT,    /* supervisor → worker, control: use generation N from now on */
    SP_MSG_CONFIG_DROP,      /* supervisor → worker, control: forget generation N */
    SP_MSG_READY,            /* worker, control → supervisor: serving */
    SP_MSG_DRAIN,            /* supervisor → all: stop accepting, finish what is in flight, then exit 0 */
    SP_MSG_HEARTBEAT,        /* all → supervisor: alive, every second */
    SP_MSG_ADDRESSES,        /* control → worker: a server's name resolved */
    SP_MSG_HEALTH,           /* control → worker: a server is up or down */
    SP_MSG_ADMIN_REQUEST,    /* control → supervisor: reload, drain, log level, revoke a key */
    SP_MSG_ADMIN_ANSWER,     /* supervisor → control: how that ended */
    SP_MSG_STATUS,           /* supervisor → control: processes, generation, restarts; at every change */
    SP_MSG_LOG_LEVEL,        /* supervisor → all: until the next configuration is committed */
    SP_MSG_REVOKED,          /* supervisor → worker: API keys that are refused from now on */
    SP_MSG_REVOKED_ELSEWHERE, /* worker → supervisor: the same, learned from Redis */
    SP_MSG_KEY_SET,          /* control → worker: an issuer's key set, as a sealed memfd; without one: it has none any more */
    SP_MSG_KEY_WANTED,       /* worker → control: a token names a key that is not in it */
    SP_MSG_KEY_ANSWER,       /* control → worker: what there is has been sent; whether the issuer was asked, and when asking again has use */
    SP_MSG_INTROSPECT,       /* worker → control: what does this issuer say about this token? */
    SP_MSG_INTROSPECTION,    /* control → worker: that, or that it could not be asked */
    SP_MSG_LEVELS_WANTED,    /* control → worker: what do the limits say of this subject? */
    SP_MSG_LEVELS,           /* worker → control: that; nothing was taken */
    SP_MSG_COUNT
};

#define SP_MESSAGE_MAX (64 * 1024) /* of one frame: header, payload and text */
#define SP_MESSAGE_FDS_MAX 8
#define SP_SENTENCE_MAX 4096       /* text after a verdict or an answer is cut to what its rule allows */

/* How a frame begins; the payload follows at once and fills the rest of the packet. */
struct sp_frame_header {
    uint32_t type;
    uint32_t len; /* of the payload with its text */
};

struct sp_message_rule {
    enum sp_message_type type;
    const char *name;
    uint8_t from, to;   /* bits 1u << enum sp_role_id */
    uint16_t size_min;  /* of the payload: its struct */
    uint32_t size_max;  /* with the text or the array that follows */
    uint8_t fds_min, fds_max;
};
extern const struct sp_message_rule sp_message_rules[SP_MSG_COUNT];

/* Payloads are packed structs in host order, followed by text where they say so. Reserved bytes are zero. */
#define SP_IPC_VERSION 1                                                            /* builds that differ in this do not mix */
struct sp_msg_start { uint32_t version, slot; uint32_t workers_max; uint32_t log_level; uint32_t pid_of_supervisor; uint32_t reserved;
                      uint64_t started_wall_ms; uint64_t hash_k0, hash_k1; };
                      /* fds, in order of enum sp_segment: one memfd each */
struct sp_msg_listener { uint32_t slot; uint32_t reserved; };                       /* fd: listening socket */
enum sp_endpoint_kind { SP_ENDPOINT_METRICS, SP_ENDPOINT_ADMIN, SP_ENDPOINT_COUNT };
struct sp_msg_endpoint { uint32_t kind; uint32_t reserved; };                       /* fd: listening socket */
struct sp_msg_log_files { uint32_t has_access, has_audit; };                        /* fds: error log, then access, then audit where said */
#define SP_TICKET_KEY_LEN 80                                                        /* 16 name, 32 AES-256, 32 HMAC-SHA-256 */
struct sp_msg_ticket_keys { uint32_t count; uint32_t reserved; uint8_t key[3][SP_TICKET_KEY_LEN]; };
struct sp_msg_peer { uint32_t role, slot; };                                        /* fd: channel */
struct sp_msg_generation { uint64_t generation; };                                  /* OFFER has one fd, COMMIT and DROP none */
struct sp_msg_verdict { uint64_t generation; uint32_t accepted, reserved; };        /* then the sentence, UTF-8 */
struct sp_msg_drain { uint64_t timeout_ms; };
struct sp_msg_addresses { uint32_t server_slot; uint32_t count; uint8_t address[16][16]; }; /* IPv4 as mapped IPv6; count 0: it has none */
struct sp_msg_health { uint32_t server_slot; uint32_t up; };
#define SP_REVOKED_MAX 256                                                          /* in one message */
struct sp_msg_revoked { uint32_t count, reserved; };                                /* then count of: */
struct sp_msg_revoked_key { char id[8]; uint32_t now, reserved; };                  /* now: what its callers have open ends too */
enum sp_admin_action { SP_ADMIN_RELOAD, SP_ADMIN_DRAIN, SP_ADMIN_LOGLEVEL, SP_ADMIN_REVOKE };
struct sp_msg_admin_request { uint64_t id; uint32_t action; uint32_t argument;      /* log level; revoke: 1 now */
                              char key_id[8]; };                                    /* revoke; else zero */
struct sp_msg_admin_answer { uint64_t id; uint32_t ok; uint32_t reserved; };        /* then text: lines for the operator */
struct sp_msg_status { uint64_t generation; uint32_t draining, n; };                /* then n of: */
struct sp_msg_process { uint32_t role, slot, pid, restarts; uint64_t started_wall_ms; }; /* pid 0: about to be started again */
#define SP_PROCESSES_MAX 65
struct sp_msg_log_level { uint32_t level; uint32_t reserved; };                     /* enum sp_log_level */
/* Issuers are named by sp_issuer_config.fingerprint, which is the same in every process and generation. */
struct sp_msg_key_set { uint64_t issuer; };
struct sp_msg_key_wanted { uint64_t id, issuer; };
struct sp_msg_key_answer { uint64_t id; uint32_t answered; uint32_t wait_ms; };
struct sp_msg_introspect { uint64_t id, issuer; };                                  /* then the token */
#define SP_INTROSPECT_TOKEN_MAX 8192
struct sp_msg_introspection { uint64_t id; uint32_t answered; uint32_t reserved; }; /* then, where answered, JSON (RFC 7662 §2.2) */

/* Whom limits count: bits of enum sp_limit_by say what is given. Then, at the end of the message, the texts, each as long as len says:
 * subject, tenant, key, model, route. */
enum { SP_FACT_SUBJECT, SP_FACT_TENANT, SP_FACT_KEY, SP_FACT_MODEL, SP_FACT_ROUTE, SP_FACT_TEXTS };
#define SP_FACT_MAX  1024 /* bytes of one text */
#define SP_FACT_BITS 6
struct sp_msg_facts { uint32_t given, reserved; uint8_t address[16]; uint16_t len[8]; }; /* the first SP_FACT_TEXTS of len; else zero */
/* subject: an account as limits know it ("key:NAME", "jwt:ISSUER SUBJECT", "cert:SUBJECT"), or a name as the access log has it. */
struct sp_msg_levels_wanted { uint64_t id; struct sp_msg_facts facts; };
enum sp_levels_verdict { SP_LEVELS_TOLD, SP_LEVELS_AMBIGUOUS, SP_LEVELS_BUSY, SP_LEVELS_VERDICTS };
/* facts: as the worker completed them, the subject as an account. Then count of: */
struct sp_msg_levels { uint64_t id; uint32_t count, verdict; struct sp_msg_facts facts; };
struct sp_msg_level_bucket { int64_t level; uint64_t burst, full_after_ms, leased, refused_ms; }; /* burst 0: nothing is known of it */
enum { SP_LEVEL_SHARED = 1, SP_LEVEL_DEGRADED = 2 }; /* Redis was asked; it did not say, and this is what this machine knows */
struct sp_msg_level { uint32_t limit_slot, flags; struct sp_msg_level_bucket bucket[2]; uint64_t places_used, places_had; };
#define SP_LEVELS_MAX 64

struct sp_channel;
struct sp_channel_events {
    /* One checked message; payload is 8-byte aligned and lives until this returns. Descriptors the callee wants it takes by setting
     * fds[i] = -1; the rest are closed after the call. The channel may be freed from here. */
    void (*message)(void *owner, struct sp_channel *channel, enum sp_message_type type, struct sp_span payload, int *fds, size_t n_fds);
    /* The peer is gone (reason 0) or broke the contract (-EBADMSG) or the socket failed (-errno). Called once, after everything the
     * peer had sent before was delivered; never from inside a send. The channel is still the owner's to free, here or later. */
    void (*closed)(void *owner, struct sp_channel *channel, int reason);
};

/* A socketpair, SOCK_SEQPACKET, non-blocking, close-on-exec. */
int sp_channel_pair(int ret_fds[2]) SP_MUST_USE;
/* Takes fd, also when it fails (it is closed then). self and peer decide which messages may come and go. */
int sp_channel_new(struct sp_loop *loop, int fd, enum sp_role_id self, enum sp_role_id peer, const struct sp_channel_events *events,
                   void *owner, struct sp_channel **ret) SP_MUST_USE;
void sp_channel_free(struct sp_channel *channel); /* takes NULL; frees at the end of the turn; no more callbacks */
#define SP_CHANNEL_QUEUE_MAX 256
/* Sends now, or queues (at most SP_CHANNEL_QUEUE_MAX messages; descriptors are duplicated and stay the caller's). -EPROTO: not listed for
 * this direction or of a wrong size; -ENOBUFS: queue full; -EPIPE: peer gone; -ENOMEM, -EMFILE. text may be the empty span; it follows
 * the payload. */
int sp_channel_send(struct sp_channel *channel, enum sp_message_type type, const void *payload, size_t len, struct sp_span text,
                    const int *fds, size_t n_fds) SP_MUST_USE;

/* The pure part, for the fuzzer: is this frame allowed from `from` to `to` with that many descriptors? 0 or -EBADMSG. */
int sp_message_check(struct sp_span frame, enum sp_role_id from, enum sp_role_id to, size_t n_fds, enum sp_message_type *ret_type,
                     struct sp_span *ret_payload) SP_MUST_USE;

/* Whom limits count. The texts are borrowed. */
struct sp_facts {
    uint32_t given; /* bits of enum sp_limit_by */
    uint8_t address[16];
    struct sp_span text[SP_FACT_TEXTS];
};
/* As it travels: the fixed part, and the texts, which are appended to `texts`. -EMSGSIZE: one is too long; -ENOSPC, -ENOMEM. */
int sp_facts_write(const struct sp_facts *facts, struct sp_msg_facts *ret, struct sp_buffer *texts) SP_MUST_USE;
/* Back; the spans point into `texts`, which they fill to the end. -EBADMSG. */
int sp_facts_read(const struct sp_msg_facts *message, struct sp_span texts, struct sp_facts *ret) SP_MUST_USE;

/* ---- Shared memory: memory files created by the supervisor; zeroed memory is a valid beginning for every segment. ---- */
enum sp_segment { SP_SEGMENT_BUCKETS, SP_SEGMENT_COUNTERS, SP_SEGMENT_TRAFFIC, SP_SEGMENT_COUNT };
int sp_segment_create(const char *name, size_t size, int *ret_fd) SP_MUST_USE; /* sealed against shrinking and growing */
int sp_segment_map(int fd, size_t size, bool writable, void **ret) SP_MUST_USE; /* -EINVAL when its size is not `size` */
/* A sealed, read-only memory file with these bytes (at least one); and back (the mapping is private; unmap with munmap). */
int sp_sealed_bytes(const char *name, struct sp_span bytes, int *ret_fd) SP_MUST_USE;
int sp_sealed_map(int fd, size_t max, struct sp_span *ret) SP_MUST_USE; /* -EPERM when not sealed, -EFBIG, -EINVAL when empty */

#endif
