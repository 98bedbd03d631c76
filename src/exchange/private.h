/* Shared by the files of exchange/ alone: the exchange, the stages, and how a protocol's connection looks from an exchange. */
#ifndef SALLYPORT_EXCHANGE_PRIVATE_H
#define SALLYPORT_EXCHANGE_PRIVATE_H

#include <sallyport/exchange.h>
#include <sallyport/http.h>
#include <sallyport/json.h>
#include <sallyport/usage.h>

enum {
    SP_SCRATCH_SIZE = 32 * 1024,        /* one read */
    SP_BODY_BLOCK_SIZE = 16 * 1024,     /* a TLS record's payload */
    SP_BODY_WINDOW = 64 * 1024,         /* unsent request body at which reading from the client pauses */
    SP_BODY_REPLAY_MAX = 256 * 1024,    /* a longer body is not kept for a second try */
    SP_CLIENT_OUT_HIGH = 64 * 1024,     /* unsent answer at which reading from the backend pauses */
    SP_CLIENT_OUT_MAX = SP_CLIENT_OUT_HIGH + 2 * SP_SCRATCH_SIZE + SP_HTTP_HEAD_MAX + SP_SSE_EVENT_MAX, /* one that was held comes at once */
    SP_DISCARD_MAX = 64 * 1024,         /* of a request body nobody wants, read to keep the connection */
    SP_UP_MAX = SP_HTTP_HEAD_MAX + 2 * SP_BODY_WINDOW,
    SP_EXCHANGE_ARENA_MAX = 256 * 1024,
    SP_EXCHANGE_FIELDS = 20,            /* that a request has, mostly; clients of OpenAI's API send 18 */
    SP_ANSWER_FIELDS_LEN = 2 * SP_HTTP_HEAD_MAX, /* what a server may say, and what we add */
};

struct sp_exchange;
struct sp_client;

/* Fields about limits as they were last written, for the next answer that shows the same ones. */
struct sp_limit_fields {
    uint64_t generation; /* of the configuration whose limits these are: another's may come to lie at the same address */
    const struct sp_limit_config *limit[2];
    uint64_t burst[2];
    struct sp_buffer lines;
};

struct sp_service {
    struct sp_service_parts parts;
    struct sp_snapshot *snapshot;
    struct sp_pool exchanges, small_exchanges, clients, blocks, scans; /* small: with SP_EXCHANGE_FIELDS */
    struct sp_http_request request; /* of the head that is being parsed */
    struct sp_usage_reader *readers[64]; /* spare ones */
    unsigned n_readers;
    struct sp_hash_key scan_key; /* for telling duplicate members */
    size_t clients_peak;           /* the most at once since memory was last given back */
    struct sp_deferred give_back;
    struct sp_list client_list;
    struct sp_list exchange_list;  /* those that have not ended */
    uint64_t body_bytes, body_bytes_max;
    struct sp_list body_waiters;   /* exchanges whose body waits for memory */
    struct sp_deferred wake_waiters;
    struct sp_buffer out;          /* the answer being assembled in this turn; empty between turns of one client */
    struct sp_buffer answer_fields; /* of the last answer: see struct sp_answer */
    struct sp_limit_fields limit_fields;
    struct sp_buffer spare_up;     /* memory of a past exchange's `up`, for the next one's; it holds nothing */
    char scratch[SP_SCRATCH_SIZE]; /* the read being looked at; empty between callbacks */
    bool draining;
    void (*idle)(void *owner);
    void *idle_owner;
    struct sp_deferred idle_call;
    struct sp_list questions; /* to issuers, and those answered a moment ago */
    struct sp_map questions_by_key;
    uint64_t last_question;
    uint64_t wall_turn_us, wall_ms; /* Unix time as it was looked up in the loop's turn that began then */
    uint64_t date_second;
    char date[SP_HTTP_DATE_LEN + 1]; /* Date field of date_second */
};
#define sp_loop_of(x) ((x)->service->parts.loop)
void sp_service_count(struct sp_service *service, enum sp_counter counter, uint64_t by);
/* A client or an exchange is gone: was it the last one a drain waited for? */
void sp_service_freed(struct sp_service *service);
uint64_t sp_service_wall_ms(struct sp_service *service); /* Unix time; of this turn of the loop, which is exact enough for one request */
struct sp_span sp_service_date(struct sp_service *service);

/* ---- Answers ---- */
struct sp_answer {
    unsigned status;
    bool has_length;     /* content_length is known: else the front frames the body as its protocol does */
    bool has_body;       /* false for HEAD, 204, 304: nothing follows the head, whatever content_length says */
    uint64_t content_length;
    struct sp_buffer *fields; /* the service's: whole lines, each ended by CR LF. Only what sp_http_write_*() wrote, and constants */
    int error;           /* -errno: a field could not be written, and the answer must not be either */
};
void sp_answer_begin(struct sp_exchange *x, struct sp_answer *answer, unsigned status);
void sp_answer_add(struct sp_answer *answer, struct sp_http_name name, struct sp_span value);
void sp_answer_add_number(struct sp_answer *answer, struct sp_http_name name, uint64_t number);
void sp_answer_add_other(struct sp_answer *answer, struct sp_span name, struct sp_span value); /* of any name */
void sp_answer_pass(struct sp_answer *answer, const struct sp_http_field *field);              /* what the server said, parsed */

/* How a protocol's connection looks from an exchange. Every call may end the exchange (the client is gone): look at x->ended after. */
struct sp_front {
    void (*head)(struct sp_exchange *x, const struct sp_answer *answer);
    void (*body)(struct sp_exchange *x, struct sp_span bytes);
    void (*end)(struct sp_exchange *x);     /* the answer is whole */
    void (*broken)(struct sp_exchange *x);  /* it never will be: the client must be able to tell */
    void (*flush)(struct sp_exchange *x);
    bool (*full)(const struct sp_exchange *x); /* no more until sp_exchange_run() */
    void (*read_more)(struct sp_exchange *x);  /* there is room for request body again */
    void (*go_on)(struct sp_exchange *x);      /* 100 Continue, if the client waits for it */
    void (*done)(struct sp_exchange *x);       /* the exchange has ended */
};

/* What the connection knows about its client; lives as long as the connection. */
struct sp_client_facts {
    struct sp_address address;
    char address_text[SP_ADDRESS_TEXT_MAX];
    struct sp_tls_facts tls;
    struct sp_span protocol;       /* "HTTP/1.1" */
    struct sp_auth_memory *auth;
    const struct sp_certificate_credential *certificate; /* NULL: none */
    struct sp_principal **known;   /* whom a login was granted last, with a reference; NULL: not kept */
};

/* ---- Request bodies: bytes between client and backend, within the service's budget ---- */
struct sp_body_block {
    struct sp_body_block *next;
    uint32_t used, size;
    bool pooled;                   /* else in the exchange's arena */
    char bytes[];
};
struct sp_body {
    struct sp_body_block *first, *last;
    struct sp_body_block *at;      /* the next byte to send: at->bytes[at_offset]; NULL: before the first block */
    uint32_t at_offset;
    uint64_t received, sent;
    bool complete;
    bool gathered;                 /* all of it is wanted before any is sent: it is inspected */
    bool kept;                     /* what is sent stays here, to be sent again */
    bool waits_for_memory;
    size_t wanted;                 /* how much of it */
    struct sp_list waiter;
};
void sp_body_init(struct sp_body *body);
/* Until the budget has room again: then comes front->read_more, and where the body is gathered sp_exchange_run(). */
void sp_body_wait_for_memory(struct sp_exchange *x, size_t wanted);
void sp_body_wait_no_more(struct sp_exchange *x);
/* Room to read into: at most `want` bytes; NULL: no memory within the budget now, and it waits for some. */
char *sp_body_room(struct sp_exchange *x, size_t want, size_t *ret_len);
void sp_body_added(struct sp_exchange *x, size_t n);
size_t sp_body_add(struct sp_exchange *x, struct sp_span bytes); /* how much was taken */
bool sp_body_wants(const struct sp_exchange *x);                  /* is there room in the window? */
struct iovec;
int sp_body_unsent(const struct sp_exchange *x, struct iovec *pieces, int max);
static inline uint64_t sp_body_waiting(const struct sp_body *body) { return body->received - body->sent; }
void sp_body_sent(struct sp_exchange *x, size_t n);
/* Is everything that came still here, so that it can be sent from its beginning? */
static inline bool sp_body_is_whole(const struct sp_body *body) { return body->kept || body->sent == 0; }
void sp_body_rewind(struct sp_exchange *x);  /* only while whole */
void sp_body_let_go(struct sp_exchange *x);  /* no second try any more: what was sent is freed */
void sp_body_free(struct sp_exchange *x);
/* Reading what has come, piece by piece, each once; and changing a whole body of which nothing was sent yet. */
struct sp_body_mark {
    const struct sp_body_block *block;
    uint32_t offset;
};
struct sp_span sp_body_unread(const struct sp_exchange *x, struct sp_body_mark *mark); /* empty: nothing more has come */
bool sp_body_copy(const struct sp_exchange *x, uint64_t at, size_t len, char *out);    /* false: it has not so much */
/* Puts `text` in the place of len bytes. false: no memory, or not so many bytes; the body is then not to be sent. */
bool sp_body_splice(struct sp_exchange *x, uint64_t at, uint64_t len, struct sp_span text);

/* ---- The exchange ---- */
enum sp_stage_answer {
    SP_STAGE_NEXT,
    SP_STAGE_WAIT,  /* sp_exchange_run() will be called */
    SP_STAGE_REPLY, /* sp_reply() has written an answer of ours */
    SP_STAGE_CLOSE, /* nothing whole can be answered any more */
};

/* A refused login: what the client is told, and the log; constants. */
struct sp_refusal {
    const char *message, *challenge, *reason;
};
enum sp_login { SP_LOGIN_UNDECIDED, SP_LOGIN_PENDING, SP_LOGIN_DECIDED };

/* What inspect found. Spans are the arena's. */
enum sp_inspecting { SP_INSPECT_NOT_BEGUN, SP_INSPECT_JSON, SP_INSPECT_MULTIPART, SP_INSPECT_DONE };
struct sp_inspection {
    enum sp_inspecting state;
    void *scan;                    /* while a body is scanned */
    struct sp_body_mark mark;
    struct sp_span model;          /* as the client named it; empty: it named none */
    struct sp_json_place model_at, insert_at, stream_options_at; /* in the body as it is now */
    bool is_json, stream, include_usage;
    bool listing;                  /* it asks which models there are; list_of: about this one alone */
    struct sp_span list_of;
    bool changed;                  /* the body is not the client's to the byte */
    bool withhold;                 /* the usage event that comes was not the client's wish */
    bool seen;                     /* prompt is an estimate of what the body says, else of its length so far */
    uint64_t prompt;               /* estimate, tokens */
    uint64_t reserve;              /* prompt and answer together */
};

struct sp_exchange {
    _Alignas(16) char first[2048]; /* of the arena; not zeroed */
    struct sp_list node;           /* in service->exchange_list; from here on zeroed, as far as the request's fields */
    struct sp_service *service;
    struct sp_snapshot *snapshot;
    const struct sp_front *front;
    struct sp_client *client;             /* the front's; opaque here */
    const struct sp_client_facts *from;
    struct sp_deferred free;
    struct sp_deferred more;              /* in the next turn: relay has had its share of this one, or there is memory again */
    struct sp_timer timer;
    unsigned stage;
    bool running, again, ended;

    const struct sp_route_config *route;  /* route */
    struct sp_span path;                  /* what is asked of the backend: without strip_prefix */
    struct sp_principal *principal;       /* authenticate */
    struct sp_auth_question asked;
    struct sp_question *asking;           /* waits for an issuer's answer; NULL: does not */
    struct sp_list asking_node;
    uint64_t roles;
    enum sp_login login;                  /* whether limits of logins have spoken; until then `limit` is theirs */
    struct sp_refusal refusal;            /* of the login; reason NULL: it was good */
    struct sp_inspection inspection;      /* inspect */
    const struct sp_model_config *model;  /* asked for now: the client's, or one it falls back to; NULL: no model decides */
    const struct sp_pool_config *target;  /* whose servers are asked: the model's pool, else the route's */
    unsigned fallbacks;                   /* how many were tried */
    unsigned tries_before;                /* of `tries`, with models before this one */
    bool server_saw;                      /* a server took bytes of the request, in whichever try */

    struct sp_usage_reader *usage;        /* relay: NULL: the answer's usage is not read */
    bool tokens_estimated;                /* settle: what it cost was not said by the answer */
    int64_t tokens_in, tokens_out;        /* -1: not known */

    bool limited;                         /* admit: limit.decision holds */
    bool limit_pending;
    struct sp_limit_request limit;
    struct sp_body body;

    struct sp_backend *backend;           /* forward */
    struct sp_upstream_tried tried;
    struct sp_queue_ticket ticket;        /* its place in the queue, where it has to wait for a server */
    uint64_t retry_after_s;               /* with 503; 0: a second */
    int queue_refused;                    /* -errno: it waits no longer; 0: nothing of the kind */
    struct sp_buffer up;                  /* bytes for the backend besides the body: head, chunk framing */
    unsigned tries;                       /* servers asked after the first */
    bool connected, request_sent, chunk_end_sent, chunked_up;
    bool retried_kept;
    unsigned backend_ready;               /* bits of enum sp_ready not looked at yet */
    uint64_t up_written;                  /* bytes the backend's socket took in this try */

    struct sp_http_scan scan;             /* relay */
    struct sp_http_body answer;
    unsigned interim_answers;             /* 1xx */
    bool answer_begun;                    /* a byte came from the backend in this try */
    bool answered;                        /* a head went to the client */
    unsigned told_status;                 /* by the server; 0: none */
    bool answer_whole;
    bool backend_keeps;

    uint64_t started_us, started_wall_ms, progress_ms, forwarded_us, first_byte_us;
    uint64_t bytes_in, bytes_out;
    unsigned status;
    const char *reason;                   /* constant; why it ended as it did */
    const struct sp_pool_config *pool;    /* for the log: whose server was asked last, and which; of the snapshot */
    const char *server;
    struct sp_span request_id;
    char request_id_made[SP_REQUEST_ID_LEN + 1];

    struct sp_arena arena;
    struct sp_pool *memory;         /* that it is of */
    struct sp_http_request request; /* last, for most are given memory for few of its fields */
};
#define SP_EXCHANGE_SIZE(n) (offsetof(struct sp_exchange, request.fields.item) + (n) * sizeof(struct sp_http_field))

/* A new exchange of this client, with its snapshot and room for so many fields at least; NULL: out of memory. The front then says what was
 * parsed and calls sp_exchange_run(), or sp_exchange_refuse(). */
struct sp_exchange *sp_exchange_new(struct sp_service *service, const struct sp_front *front, struct sp_client *client,
                                    const struct sp_client_facts *from, unsigned fields);
/* What was parsed of its head, even if it is to be refused: copied. What the spans point to must live as long as x. false: it has no room
 * for so many fields. */
bool sp_exchange_take_request(struct sp_exchange *x, const struct sp_http_request *request) SP_MUST_USE;
void sp_exchange_run(struct sp_exchange *x);
/* The client's message is not acceptable: answers with status if nothing has been answered yet, else breaks off. */
void sp_exchange_refuse(struct sp_exchange *x, unsigned status, const char *reason);
void sp_exchange_client_left(struct sp_exchange *x);
/* The one end of every exchange: settle and log run here, once. */
void sp_exchange_end(struct sp_exchange *x, const char *reason);
/* Something moved: the idle timeout begins anew. */
void sp_exchange_progress(struct sp_exchange *x);
void sp_exchange_watch(struct sp_exchange *x); /* starts or moves the timer to the next time-out that applies */

/* Stages, one file each. */
enum sp_stage_answer sp_stage_route(struct sp_exchange *x);
enum sp_stage_answer sp_stage_authenticate(struct sp_exchange *x);
enum sp_stage_answer sp_stage_authorize(struct sp_exchange *x);
enum sp_stage_answer sp_stage_inspect(struct sp_exchange *x);
size_t sp_inspect_scan_size(void);
void sp_inspect_free(struct sp_exchange *x); /* the scan, should one be under way */
enum sp_stage_answer sp_stage_admit(struct sp_exchange *x);
enum sp_stage_answer sp_stage_forward(struct sp_exchange *x);
enum sp_stage_answer sp_stage_relay(struct sp_exchange *x);
void sp_stage_settle(struct sp_exchange *x);
void sp_stage_log(struct sp_exchange *x);

/* forward.c, for relay: sends what is there of the request. NEXT: all that came so far is sent. */
enum sp_stage_answer sp_forward_pump(struct sp_exchange *x);
/* This try has failed: NEXT when another one has begun (stage forward again), else the answer of ours. */
enum sp_stage_answer sp_forward_failed(struct sp_exchange *x, unsigned status, const char *reason);

/* models.c */
enum sp_stage_answer sp_models_choose(struct sp_exchange *x); /* by inspection.model; NEXT: x->model and x->target are set, the body says `as` */
enum sp_stage_answer sp_models_list(struct sp_exchange *x);   /* answers GET /v1/models */
bool sp_models_listing(struct sp_exchange *x);                /* is it that? */
/* Another model in the place of one whose pool cannot take the request: true: x->model, x->target and the body are changed. */
bool sp_models_fall_back(struct sp_exchange *x);

/* tokens.c: what a request may cost and did cost in tokens of language models. */
enum sp_stage_answer sp_tokens_reserve(struct sp_exchange *x, const struct sp_ask *ask); /* ask NULL: the body was not looked at */
void sp_tokens_answer_begins(struct sp_exchange *x, const struct sp_http_response *response);
struct sp_span sp_tokens_read(struct sp_exchange *x, struct sp_span *input); /* what of it the client gets now; call while input is left */
struct sp_span sp_tokens_answer_ends(struct sp_exchange *x);                 /* what was held back until now */
bool sp_tokens_wanted(const struct sp_exchange *x);                          /* does anybody want to know what the answer takes? */
uint64_t sp_tokens_used(struct sp_exchange *x);                              /* for settlement; sets tokens_in, tokens_out, tokens_estimated */

/* login.c, for authenticate. Whether a login was good is told only once the limits that count refused ones have agreed. */
enum sp_stage_answer sp_login_refused(struct sp_exchange *x, const struct sp_refusal *refusal);
enum sp_stage_answer sp_login_good(struct sp_exchange *x);
enum sp_stage_answer sp_login_resumed(struct sp_exchange *x); /* from the second run of the stage on */
/* authenticate.c */
enum sp_stage_answer sp_reply_unauthorized(struct sp_exchange *x, const struct sp_refusal *refusal);
void sp_exchange_cut(struct sp_exchange *x); /* its API key was revoked, at once */
/* admit.c: a decision in the counters; and a sentence with the limit's name for its %s. */
void sp_count_decision(struct sp_exchange *x);
const char *sp_limit_sentence(struct sp_exchange *x, const char *format);

/* A sentence made for this exchange: in its arena; without memory the format itself. */
const char *sp_sentence(struct sp_exchange *x, const char *format, ...) SP_PRINTF(2, 3);
/* A whole answer of ours. */
enum sp_stage_answer sp_reply_json(struct sp_exchange *x, unsigned status, struct sp_span body);
/* An answer of ours in the shape the path's clients expect. code is for programs, message for people; both constant or in x's arena. */
enum sp_stage_answer sp_reply(struct sp_exchange *x, unsigned status, const char *code, const char *message, const char *reason);
/* The same with one more field, e.g. WWW-Authenticate. */
enum sp_stage_answer sp_reply_with(struct sp_exchange *x, unsigned status, const char *code, const char *message, const char *reason,
                                   struct sp_span name, struct sp_span value);
/* Fields that every answer carries: x-request-id, HSTS, limits. */
void sp_answer_common(struct sp_exchange *x, struct sp_answer *answer);

/* ask.c: puts x->asked to its issuer. True: x waits, and sp_exchange_run() will be called; false: it cannot be asked, which x->asked says now. */
bool sp_question_ask(struct sp_exchange *x);
void sp_question_leave(struct sp_exchange *x); /* harmless when it does not wait */
void sp_questions_free(struct sp_service *service);

/* headers.c: what passes. */
bool sp_request_field_passes(const struct sp_route_config *route, const struct sp_pool_config *pool, const struct sp_http_field *field);
bool sp_response_field_passes(const struct sp_route_config *route, const struct sp_http_field *field);

/* client.c */
extern const struct sp_front sp_http1_front;
void sp_client_close(struct sp_client *client, bool abort);
void sp_client_drain(struct sp_client *client);
struct sp_client *sp_client_of(struct sp_list *node);

#endif
