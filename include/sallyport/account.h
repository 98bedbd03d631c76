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
    struct sp_span limit_kind; /* what of it: "requests", "tokens", "concurrency" */
    struct sp_span shadow_limit; /* would have refused */
    unsigned status;           /* 0: none was sent */
    uint64_t bytes_in, bytes_out;
    int64_t tokens_in, tokens_out; /* −1: not known */
    bool tokens_estimated;     /* known by our estimate, not by what the backend said; means something where one of them is known */
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
    SP_COUNTER_REDIS_ERRORS, SP_COUNTER_REDIS_TIMEOUTS, SP_COUNTER_LIMITS_DEGRADED, SP_COUNTER_LIMITS_LEASED, SP_COUNTER_LIMITS_STRICT,
    SP_COUNTER_SETTLEMENTS, SP_COUNTER_SETTLEMENTS_DROPPED, SP_COUNTER_HOLDINGS_RECOVERED, SP_COUNTER_RELOADS, SP_COUNTER_COUNT
};
enum sp_gauge { SP_GAUGE_CONNECTIONS, SP_GAUGE_EXCHANGES, SP_GAUGE_REDIS_UP, SP_GAUGE_REDIS_CONFIGURED, SP_GAUGE_GENERATION, SP_GAUGE_BODY_BYTES,
                SP_GAUGE_TOKEN_CACHE, SP_GAUGE_COUNT };
enum sp_limit_outcome { SP_OUTCOME_ADMITTED, SP_OUTCOME_REFUSED, SP_OUTCOME_SHADOW_REFUSED, SP_OUTCOME_COUNT };

/* Writers name their own worker slot. Counters of a slot are kept for good; gauges, queues and backend states of it
 * are cleared by sp_counters_begin(), which a worker calls first, and by sp_counters_worker_gone(). */
void sp_counters_begin(struct sp_counters *counters, unsigned worker_slot);
/* For the supervisor, once it has seen the end of a worker, however that came: what it said of the present is true no more. */
void sp_counters_worker_gone(int segment_fd, unsigned worker_slot);
void sp_count(struct sp_counters *counters, unsigned worker_slot, enum sp_counter counter, uint64_t by);
void sp_gauge(struct sp_counters *counters, unsigned worker_slot, enum sp_gauge gauge, uint64_t value);
/* route_slot or pool_slot beyond the maximum: counted as "none". Histogram buckets from 1 ms to 10 min. first_byte_us −1: none. */
void sp_count_request(struct sp_counters *counters, unsigned worker_slot, unsigned route_slot, unsigned pool_slot, unsigned status,
                      uint64_t total_us, int64_t first_byte_us);
void sp_count_limit(struct sp_counters *counters, unsigned worker_slot, unsigned limit_slot, enum sp_limit_outcome outcome);
void sp_set_backend_up(struct sp_counters *counters, unsigned worker_slot, unsigned server_slot, bool up);
/* How many of this worker's requests wait for a server of the pool. Cleared with the gauges. */
void sp_gauge_queue(struct sp_counters *counters, unsigned worker_slot, unsigned pool_slot, uint32_t length);
#define SP_SLOT_NONE UINT32_MAX

/* ---- Tokens of language models ---- */
/* What one answer took. Nothing is counted of a direction that is not known. */
struct sp_usage_count {
    unsigned model_slot;           /* SP_SLOT_NONE: none */
    struct sp_span key_id;         /* of the API key that called; empty: another credential */
    struct sp_span tenant;         /* of the caller; empty: none */
    int64_t tokens_in, tokens_out; /* −1: not known */
    bool estimated;
    int64_t first_token_us;        /* from the request's begin to the answer's first byte; −1: none */
    uint64_t generation_us;        /* from that first byte to the end of the answer */
    bool streamed;
};
/* Counted by model, by API key and by tenant. A key or tenant that sp_count_usage_for() has not named is counted as "other", an empty one not
 * at all. The histograms under OpenTelemetry's names get only what the backend reported: nothing of an estimate; those of the time to the
 * first token and of the time per token get streamed answers (of two tokens and more). */
void sp_count_usage(struct sp_counters *counters, unsigned worker_slot, const struct sp_usage_count *usage);
/* Whose usage is told by name from now on: the API keys of this configuration and their tenants, as many as there is room for. What was
 * counted for names that stay, stays; a name that is gone makes room. A tenant that only an issuer's tokens name is not among them: nobody
 * bounds those. Called by a worker with each configuration it takes into use. */
#define SP_USAGE_NAMES_MAX 1024 /* of keys, and as many of tenants */
void sp_count_usage_for(struct sp_counters *counters, unsigned worker_slot, const struct sp_config *config);

uint64_t sp_counter_sum(const struct sp_counters *counters, enum sp_counter counter); /* over all workers */
uint64_t sp_gauge_sum(const struct sp_counters *counters, enum sp_gauge gauge);
bool sp_counters_redis_up(const struct sp_counters *counters); /* every worker that has one configured reaches it, and there is one */
bool sp_counters_backend_up(const struct sp_counters *counters, unsigned server_slot); /* false: every worker that knows says it is down */

/* The whole exposition (Prometheus text format 0.0.4) with names from `config`; appended to `out`. */
int sp_counters_expose(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) SP_MUST_USE;
/* requests per route and code, limit decisions, backends: for the status answer; a jansson object is made by admin/ from these. */
uint64_t sp_counters_requests(const struct sp_counters *counters, unsigned route_slot, unsigned status_class /* 1..5, 0 all */);
uint64_t sp_counters_limit(const struct sp_counters *counters, unsigned limit_slot, enum sp_limit_outcome outcome);
uint64_t sp_counters_queue(const struct sp_counters *counters, unsigned pool_slot); /* requests that wait, over all workers */
struct sp_model_tokens {
    uint64_t input, output;
    uint64_t estimated; /* of both */
};
struct sp_model_tokens sp_counters_tokens(const struct sp_counters *counters, unsigned model_slot); /* beyond the maximum: "none" */

/* ---- Refusals: the last of them, kept in the same segment for `sallyport why` ----
 * Per worker a ring, written by that worker alone; the newest takes the place of the oldest, and nothing a client sends makes it grow.
 * Texts that are long are clipped (the mark is "…"), the request's id never. */
struct sp_refused {
    uint64_t wall_ms;           /* when it was refused */
    struct sp_span request_id;  /* a sane one: at most SP_REQUEST_ID_MAX bytes, else the refusal is not kept */
    struct sp_span reason;      /* as in the access log */
    struct sp_span route, model, subject, tenant, key_id;
    struct sp_span client;      /* address */
    struct sp_span path;        /* without query */
    struct sp_span limit;       /* the one that refused, or would have: empty: it was no limit */
    struct sp_span limit_kind;  /* "requests", "tokens", "concurrency" */
    unsigned status;            /* that was answered; of a shadow refusal what the request came to, maybe 0 */
    uint64_t asked, most;       /* of a limit: what the request cost, and what it could cost at most */
    uint64_t remaining;         /* what was left */
    uint64_t retry_after_ms;    /* when it would have fit */
    bool degraded;              /* decided without the shared limits */
    bool shadow;                /* a shadow limit's: the request was not refused by it */
};
void sp_refusals_add(struct sp_counters *counters, unsigned worker_slot, const struct sp_refused *refused);

#define SP_REFUSAL_RECORD_WORDS 47
/* One refusal as it was kept; a copy of its own, to be looked into with sp_refusal_of(). */
struct sp_refusal_record {
    uint64_t word[SP_REFUSAL_RECORD_WORDS];
};
/* The spans point into the record. */
void sp_refusal_of(const struct sp_refusal_record *record, struct sp_refused *ret);
/* Newest first, at most `max`; returns how many. An id that a client chose twice was refused twice. */
size_t sp_refusals_find(const struct sp_counters *counters, struct sp_span request_id, struct sp_refusal_record *ret, size_t max);
/* Of this subject (empty: of anybody), newest first. */
size_t sp_refusals_latest(const struct sp_counters *counters, struct sp_span subject, struct sp_refusal_record *ret, size_t max);
/* Every refusal since then is kept (Unix time in ms); 0: every one since the start. */
uint64_t sp_refusals_since(const struct sp_counters *counters);

/* ---- Trace context (W3C Trace Context) and request ids ---- */
#define SP_REQUEST_ID_MAX 64
#define SP_REQUEST_ID_LEN 26
void sp_request_id_make(uint64_t wall_ms, char out[SP_REQUEST_ID_LEN + 1]); /* unguessable enough not to collide over gateways; sortable by time */
bool sp_request_id_sane(struct sp_span text);             /* 1 to 64 of A-Z a-z 0-9 - _ . : */
#define SP_TRACEPARENT_LEN 55
/* Continues a valid parent with a new span id, or begins a trace. Writes 55 bytes and NUL. */
void sp_traceparent(struct sp_span incoming, char out[SP_TRACEPARENT_LEN + 1]);

#endif
