/* account: what happened, told to operators: the access log, counters and histograms in shared memory, their Prometheus text.
 * Counters: one writer per worker slot, many readers. It must not know how an exchange works, and no label takes a value a client can invent. */
#ifndef SALLYPORT_ACCOUNT_H
#define SALLYPORT_ACCOUNT_H

#include <sallyport/base.h>
#include <sallyport/config.h>
#include <sallyport/loop.h>

/* ---- Access log: lines formatted into a ring, written in batches of whole lines at the end of a turn, never waiting ---- */
struct sp_access_log;
/* fd is borrowed; -1: off. A pipe is made non-blocking here (that reaches every holder of the same open file); a socket is sent to
 * without waiting. Batches are at most PIPE_BUF of whole lines where the reader is a pipe or socket, so that lines of several workers
 * never mix. What cannot be written waits, 256 KiB at most; further lines are dropped and counted. The caller ignores SIGPIPE. */
int sp_access_log_new(struct sp_loop *loop, int fd, struct sp_access_log **ret) SP_MUST_USE;
void sp_access_log_set_fd(struct sp_access_log *log, int fd); /* after reopening: flushes to the old one first */
void sp_access_log_flush(struct sp_access_log *log);
void sp_access_log_free(struct sp_access_log *log); /* flushes what it can */
uint64_t sp_access_log_dropped(const struct sp_access_log *log); /* lines */

/* One exchange, told. Empty spans and negative numbers become null, so that every line has the same keys; only shadow_limit is left
 * out when empty. Long values are clipped (the mark is "…") so that a line never exceeds PIPE_BUF. Milliseconds have three decimals. */
struct sp_access_record {
    uint64_t wall_ms;          /* when the request began */
    struct sp_span request_id, client, protocol, method, path /* without query */, host;
    struct sp_span tls_version, tls_group, tls_cipher;
    struct sp_span route, model, subject, tenant, key_id, pool, server;
    struct sp_span reason;     /* why it ended as it did: "ok", "limit", "no credential", "client left", "backend reset", … */
    struct sp_span limit;      /* the one that refused */
    struct sp_span shadow_limit; /* would have refused */
    unsigned status;           /* 0: none was sent */
    uint64_t bytes_in, bytes_out;
    int64_t tokens_in, tokens_out; /* −1: not known */
    int64_t first_byte_us;     /* −1: none */
    uint64_t total_us;
    unsigned retries;
    bool degraded;
};
void sp_access_log_write(struct sp_access_log *log, const struct sp_access_record *record);

/* ---- Counters (segment SP_SEGMENT_COUNTERS) ---- */
size_t sp_counters_segment_size(void);
struct sp_counters; /* a mapped segment */
int sp_counters_open(void *segment, struct sp_counters **ret) SP_MUST_USE;
void sp_counters_free(struct sp_counters *counters);

enum sp_counter { /* per worker, without labels */
    SP_COUNTER_CONNECTIONS, SP_COUNTER_CONNECTIONS_REFUSED, SP_COUNTER_HANDSHAKES, SP_COUNTER_HANDSHAKES_FAILED, SP_COUNTER_HANDSHAKES_RESUMED,
    SP_COUNTER_REQUESTS /* counted by sp_count_request() */, SP_COUNTER_REQUESTS_MALFORMED, SP_COUNTER_CLIENTS_LEFT, SP_COUNTER_RETRIES, SP_COUNTER_BACKEND_CONNECTIONS,
    SP_COUNTER_BACKEND_FAILURES, SP_COUNTER_BYTES_IN, SP_COUNTER_BYTES_OUT, SP_COUNTER_LOG_LINES_DROPPED, SP_COUNTER_REDIS_COMMANDS,
    SP_COUNTER_REDIS_ERRORS, SP_COUNTER_REDIS_TIMEOUTS, SP_COUNTER_LIMITS_DEGRADED, SP_COUNTER_RELOADS, SP_COUNTER_COUNT
};
enum sp_gauge { SP_GAUGE_CONNECTIONS, SP_GAUGE_EXCHANGES, SP_GAUGE_REDIS_UP, SP_GAUGE_REDIS_CONFIGURED, SP_GAUGE_GENERATION, SP_GAUGE_BODY_BYTES,
                SP_GAUGE_TOKEN_CACHE, SP_GAUGE_COUNT };
enum sp_limit_outcome { SP_OUTCOME_ADMITTED, SP_OUTCOME_REFUSED, SP_OUTCOME_SHADOW_REFUSED, SP_OUTCOME_COUNT };

/* Writers name their own worker slot. Counters of a slot are kept when its worker is replaced; gauges and backend states
 * of it are cleared by sp_counters_begin(), which a worker calls first (and once more as its last, when its slot will stay empty). */
void sp_counters_begin(struct sp_counters *counters, unsigned worker_slot);
void sp_count(struct sp_counters *counters, unsigned worker_slot, enum sp_counter counter, uint64_t by);
void sp_gauge(struct sp_counters *counters, unsigned worker_slot, enum sp_gauge gauge, uint64_t value);
/* route_slot or pool_slot beyond the maximum: counted as "none". Histogram buckets from 1 ms to 10 min. first_byte_us −1: none. */
void sp_count_request(struct sp_counters *counters, unsigned worker_slot, unsigned route_slot, unsigned pool_slot, unsigned status,
                      uint64_t total_us, int64_t first_byte_us);
void sp_count_limit(struct sp_counters *counters, unsigned worker_slot, unsigned limit_slot, enum sp_limit_outcome outcome);
void sp_set_backend_up(struct sp_counters *counters, unsigned worker_slot, unsigned server_slot, bool up);
#define SP_SLOT_NONE UINT32_MAX

uint64_t sp_counter_sum(const struct sp_counters *counters, enum sp_counter counter); /* over all workers */
uint64_t sp_gauge_sum(const struct sp_counters *counters, enum sp_gauge gauge);
bool sp_counters_redis_up(const struct sp_counters *counters, unsigned workers); /* every one of the first `workers` slots that has one configured */
bool sp_counters_backend_up(const struct sp_counters *counters, unsigned server_slot); /* false: every worker that knows says it is down */

/* The whole exposition (Prometheus text format 0.0.4) with names from `config`; appended to `out`. */
int sp_counters_expose(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) SP_MUST_USE;
/* requests per route and code, limit decisions, backends: for the status answer; a jansson object is made by admin/ from these. */
uint64_t sp_counters_requests(const struct sp_counters *counters, unsigned route_slot, unsigned status_class /* 1..5, 0 all */);
uint64_t sp_counters_limit(const struct sp_counters *counters, unsigned limit_slot, enum sp_limit_outcome outcome);

/* ---- Trace context (W3C Trace Context) and request ids ---- */
#define SP_REQUEST_ID_MAX 64
#define SP_REQUEST_ID_LEN 26
void sp_request_id_make(char out[SP_REQUEST_ID_LEN + 1]); /* unguessable enough not to collide over gateways; sortable by time */
bool sp_request_id_sane(struct sp_span text);             /* 1 to 64 of A-Z a-z 0-9 - _ . : */
#define SP_TRACEPARENT_LEN 55
/* Continues a valid parent with a new span id, or begins a trace. Writes 55 bytes and NUL. */
void sp_traceparent(struct sp_span incoming, char out[SP_TRACEPARENT_LEN + 1]);

#endif
