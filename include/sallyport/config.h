/* config: YAML text → one JSON document, checked against one table of fields → an immutable, reference-counted snapshot.
 * Reads files only in sp_config_load() (supervisor and command line); sp_config_decode() reads bytes handed over by the supervisor.
 * It must not know sockets, OpenSSL or how anything here is used.
 *
 * Lists are pointer + count; text is NUL-terminated, UTF-8, never NULL unless said so; everything belongs to the snapshot. */
#ifndef SALLYPORT_CONFIG_H
#define SALLYPORT_CONFIG_H

#include <sallyport/base.h>

#define SP_ROLES_MAX 64
#define SP_LIMITS_MAX 64     /* limit slots, see `slot` below */
#define SP_ROUTES_MAX 256
#define SP_POOLS_MAX 128
#define SP_SERVERS_MAX 512   /* over all pools */
#define SP_LISTENERS_MAX 16
#define SP_WORKERS_MAX 64
#define SP_ADMIN_GROUPS_MAX 64
#define SP_API_KEYS_MAX 10000
#define SP_MODELS_MAX 256
#define SP_FALLBACKS_MAX 8   /* of one model */
#define SP_CONFIG_MODEL_MAX 128 /* bytes of a name */
#define SP_MODEL_ALIAS_MAX 256  /* bytes of sp_model_config.as */
#define SP_REDIS_NODES_MAX 32 /* named in the configuration: sentinels, or members of a cluster */
#define SP_REQUEST_LIMITS_MAX 16 /* limits that may apply to one request: the route's and its caller's roles' */

/* A `slot` is a small number that names a thing in shared memory. It is given by the supervisor and stays with the thing's name
 * across reloads, so that counters and bucket policies of two generations agree. */

/* Text with where it stood, for messages found later than checking: "file:line:column". */
struct sp_text {
    const char *text;
    const char *where;
};

struct sp_texts {
    const char **item;
    size_t count;
};

/* An address range; IPv4 is kept as IPv4-mapped IPv6. */
struct sp_cidr {
    uint8_t address[16];
    uint8_t prefix; /* 0 to 128 */
};
struct sp_cidrs {
    struct sp_cidr *item;
    size_t count;
};

struct sp_certificate_config {
    struct sp_text chain; /* path */
    struct sp_text key;   /* path */
    const char *chain_pem; /* contents; NULL in processes that do not get them */
    const char *key_pem;   /* contents; only the worker has it (the key holder, later) */
};

/* Us as a client of TLS: towards the servers of a pool, or Redis. */
struct sp_tls_client_config {
    struct sp_text ca;                /* path: who signs the server's certificate */
    const char *ca_pem;               /* contents */
    const char *server_name;          /* the name it must have; NULL: the host that is asked */
    struct sp_certificate_config own; /* our certificate; chain.text NULL: none */
};

enum sp_client_certificate { SP_CLIENT_CERT_NONE, SP_CLIENT_CERT_OPTIONAL, SP_CLIENT_CERT_REQUIRED };

struct sp_listener_config {
    struct sp_text address; /* host:port, [v6]:port, systemd:NAME */
    struct sp_certificate_config *certificates;
    size_t n_certificates;
    enum sp_client_certificate client_certificate;
    struct sp_text client_ca, client_crl;           /* who signs client certificates, and what they revoked; text NULL: none */
    const char *client_ca_pem, *client_crl_pem;     /* contents */
    struct sp_texts protocols;
    uint64_t max_connections, max_connections_per_address;
    uint64_t handshake_timeout_ms, header_timeout_ms, idle_timeout_ms;
    bool proxy_protocol;
    struct sp_cidrs trusted_proxies, allow, deny;
    unsigned slot;
};

struct sp_redis_node {
    const char *host; /* an address or localhost, without brackets */
    uint16_t port;
};
struct sp_redis_nodes {
    struct sp_redis_node *item;
    size_t count;
};
struct sp_redis_sentinel_config {
    const char *master;          /* the name that the sentinels know it by; NULL: no sentinels */
    struct sp_redis_nodes nodes; /* the sentinels */
};

/* One of url, sentinel and cluster says where it is. */
struct sp_redis_config {
    struct sp_text url;    /* text NULL: sentinel or cluster */
    struct sp_redis_sentinel_config sentinel;
    struct sp_redis_nodes cluster; /* some of its members; count 0: not a cluster */
    /* What the url says: */
    const char *host;      /* NULL for unix://, sentinels and clusters */
    uint16_t port;
    const char *unix_path; /* NULL unless unix:// */
    unsigned database;
    bool tls;              /* rediss://; with sentinel or cluster: ca, certificate or server_name is given */
    const char *username;  /* NULL: none */
    const char *password_file, *password; /* NULL: none; contents without the final newline */
    struct sp_tls_client_config tls_client; /* for rediss:// */
    uint64_t deadline_ms;
    const char *prefix;
    unsigned gateways;
    bool allow_eviction;
};

enum sp_jwt_algorithm {
    SP_ALG_RS256, SP_ALG_RS384, SP_ALG_RS512, SP_ALG_PS256, SP_ALG_PS384, SP_ALG_PS512,
    SP_ALG_ES256, SP_ALG_ES384, SP_ALG_ES512, SP_ALG_EDDSA, SP_ALG_HS256, SP_ALG_COUNT
};

struct sp_claims_config {
    const char *subject, *tenant, *roles, *scopes; /* dotted paths */
};

/* RFC 7662. */
struct sp_introspection_config {
    const char *url;          /* NULL: none */
    const char *client_id;
    const char *client_secret_file, *client_secret; /* contents; only control has them */
    uint64_t cache_s;
};

struct sp_issuer_config {
    struct sp_text issuer;
    struct sp_texts audience;
    struct sp_text jwks;      /* path or URL; text NULL: discovery, or no keys at all (HS256 alone) */
    const char *jwks_json;    /* contents, when a file */
    bool fetches_keys;        /* control fetches the key set, from `jwks` or where discovery finds it */
    struct sp_introspection_config introspection;
    const char *ca, *ca_pem;
    uint32_t algorithms;      /* bit 1u << enum sp_jwt_algorithm */
    const char *secret_file, *secret; /* HS256; NULL: none */
    struct sp_claims_config claims;
    uint64_t leeway_s, max_token_age_s;
    struct sp_texts types;    /* accepted typ; JWT also stands for an absent one */
    uint64_t fingerprint;     /* of everything above: equal means a verified token stays verified */
};

struct sp_api_key_config {
    char id[8 + 1];
    const char *name;
    uint8_t digest[32];       /* SHA-256 of the 43-character secret */
    struct sp_texts roles;
    const char *tenant;       /* NULL: none */
    uint64_t expires_at_s;    /* Unix time; 0: never */
    uint64_t revoked_at_s;    /* Unix time; 0: not revoked */
    bool revoked;             /* revoked_at_s is set: refused, whenever that was */
};

enum sp_priority { SP_PRIORITY_LOW, SP_PRIORITY_NORMAL, SP_PRIORITY_HIGH };

struct sp_role_config {
    const char *name;          /* its bit in role masks is its index in sp_config.roles */
    struct sp_texts models;    /* globs */
    unsigned *limits;          /* indices into sp_config.limits */
    size_t n_limits;
    enum sp_priority priority;
};

enum sp_limit_by { /* bits */
    SP_BY_SUBJECT = 1, SP_BY_TENANT = 2, SP_BY_KEY = 4, SP_BY_ADDRESS = 8, SP_BY_MODEL = 16, SP_BY_ROUTE = 32, SP_BY_GLOBAL = 64
};
enum sp_limit_mode { SP_LIMIT_LEASED, SP_LIMIT_STRICT };
enum sp_on_outage { SP_OUTAGE_SHARE, SP_OUTAGE_OPEN, SP_OUTAGE_CLOSED };
enum sp_limit_count { SP_COUNT_ALL, SP_COUNT_UNAUTHORIZED };

/* A rate is `amount` per `period_us`, kept as written: 600/min is {600, 60 000 000}. amount 0: not set. */
struct sp_rate {
    uint64_t amount;
    uint64_t period_us;
};

/* At least one of requests, tokens and concurrency is set. */
struct sp_limit_config {
    const char *name;
    unsigned slot;
    uint32_t by;             /* bits of enum sp_limit_by, never 0 */
    struct sp_rate requests;
    uint64_t request_burst;  /* default already applied: one second's worth, at least 1; 0 where requests is not set */
    struct sp_rate tokens;   /* tokens of language models */
    uint64_t token_burst;    /* default already applied: one minute's worth, at least 1; 0 where tokens is not set */
    uint64_t concurrency;    /* requests at one time; 0: no bound */
    enum sp_limit_mode mode;
    enum sp_on_outage on_outage;
    bool shadow;
    enum sp_limit_count count;
};

struct sp_server_config {
    struct sp_text url;
    bool tls;                /* https:// */
    const char *host;        /* a name or an address, without brackets */
    uint16_t port;
    const char *authority;   /* as the Host header says it */
    const char *base_path;   /* path of the url without a final slash; "" mostly */
    unsigned weight;         /* 1 to 1000 */
    uint64_t max_in_flight;  /* 0: no bound */
    unsigned slot;
};

enum sp_balance { SP_BALANCE_LEAST_LOADED, SP_BALANCE_ROUND_ROBIN, SP_BALANCE_SESSION };

struct sp_credential_config {
    const char *header, *prefix; /* header NULL: none */
    const char *value_file, *value;
};

struct sp_health_config {
    const char *path;        /* NULL: no probes */
    uint64_t interval_ms, timeout_ms;
    unsigned healthy_after, unhealthy_after;
};

struct sp_pool_config {
    const char *name;
    unsigned slot;
    struct sp_server_config *servers;
    size_t n_servers;
    struct sp_tls_client_config tls; /* for https:// servers; ca.text NULL: there is none */
    enum sp_balance balance;
    struct sp_credential_config credential;
    struct sp_health_config health;
    unsigned outlier_failures;     /* 0: off */
    uint64_t outlier_eject_ms;
    unsigned retries;
    unsigned queue_depth;          /* requests that may wait for a server, over all workers; 0: none waits */
    uint64_t queue_timeout_ms;
    uint64_t connect_timeout_ms;
    unsigned connections;          /* at most, per server and worker */
};

/* A name that clients use. */
struct sp_model_config {
    const char *name;
    unsigned slot;                 /* of metrics; stays with the name across reloads */
    const struct sp_pool_config *pool;
    const char *as;                /* what the pool is asked for; the name itself where the file says nothing */
    unsigned *fallback;            /* indices into sp_config.models: asked in this order where the pool cannot take the request */
    size_t n_fallback;
};

enum sp_authenticate { SP_AUTHENTICATE_NONE = 1, SP_AUTHENTICATE_JWT = 2, SP_AUTHENTICATE_API_KEY = 4, SP_AUTHENTICATE_CERTIFICATE = 8 };

struct sp_header_set {
    const char *name, *value;
};
struct sp_headers_config {
    struct sp_texts allow;         /* lower case */
    struct sp_header_set *set;
    size_t n_set;
};

struct sp_route_config {
    const char *name;
    unsigned slot;
    struct sp_texts host;          /* lower case, without port; empty: any. "*.example.com" matches one or more labels */
    const char *path;              /* without the leading "=" */
    bool exact;
    struct sp_texts methods;       /* empty: any */
    uint32_t authenticate;         /* bits of enum sp_authenticate, never 0 */
    uint64_t roles;                /* mask; 0: any authenticated caller */
    struct sp_texts scopes;
    unsigned *limits;              /* indices into sp_config.limits */
    size_t n_limits;
    bool models_in_body;           /* routed by the model that the body names */
    const struct sp_pool_config *pool; /* where no model decides; NULL only with models_in_body */
    uint64_t max_body;             /* bytes */
    uint64_t max_tokens_default;   /* reserved for an answer whose length the client does not bound */
    uint64_t max_tokens_cap;       /* a request that asks for more is refused; 0: no cap */
    const char *strip_prefix;
    uint64_t first_byte_timeout_ms, idle_timeout_ms, total_timeout_ms;
    struct sp_headers_config request_headers, response_headers;
};

struct sp_admin_group {
    const char *group;
    bool admin; /* else viewer */
};
struct sp_admin_config {
    struct sp_text socket;         /* text NULL: none */
    struct sp_admin_group *groups;
    size_t n_groups;
    struct sp_text metrics;        /* host:port; text NULL: only on the socket */
};

struct sp_logs_config {
    struct sp_text access;         /* stdout | off | path */
    struct sp_text audit;          /* path; text NULL: none */
    enum sp_log_level level;
};

struct sp_config {
    unsigned refs;
    uint64_t generation;           /* counted by the supervisor, from 1 */
    uint64_t loaded_wall_ms;       /* Unix time at which this document was loaded: orders the policies of several gateways */
    const char *path;              /* of the file, for messages */
    const char *outline;           /* the file as one JSON object with every default, for comparing; nothing secret is in it, of files that
                                      are not a digest of their contents, and of header values a digest */
    const char *user;              /* NULL: not named */
    struct sp_listener_config *listeners;
    size_t n_listeners;
    unsigned workers;              /* `auto` already resolved */
    uint64_t drain_timeout_ms;
    uint64_t memory_bodies;        /* bytes */
    struct sp_redis_config *redis; /* NULL: limits in shared memory */
    struct sp_issuer_config *issuers;
    size_t n_issuers;
    struct sp_text api_keys_file;  /* text NULL: none */
    struct sp_api_key_config *api_keys;
    size_t n_api_keys;
    struct sp_role_config *roles;
    size_t n_roles;
    struct sp_limit_config *limits;
    size_t n_limits;
    struct sp_pool_config *pools;
    size_t n_pools;
    struct sp_model_config *models; /* in the order of their names, as strcmp() has it */
    size_t n_models;
    struct sp_route_config *routes;
    size_t n_routes;
    struct sp_admin_config admin;
    struct sp_logs_config logs;
};

/* Every error of one check, in the order of the file; each is a whole line without newline: "file:line:column: message". */
struct sp_config_errors {
    char **line;
    size_t count;
};
void sp_config_errors_free(struct sp_config_errors *errors); /* frees what it holds, not the struct; zero is an empty list */

/* Once at process start, before anything uses jansson: its memory is wiped when freed (documents hold secrets), and its hash tables are
 * seeded without opening a file. */
void sp_config_wipe_json(void);

/* A checked document: JSON with every default applied and every named file's contents put in. Held by the supervisor. */
struct sp_document;
void sp_document_free(struct sp_document *document);

/* Reads and checks `path` and every file it names. `previous` (or NULL) is what slots are carried over from.
 * 0; or -EINVAL with at least one error listed; or -ENOMEM. *ret is untouched on failure. Opens no socket. */
int sp_config_load(const char *path, const struct sp_document *previous, uint64_t generation, struct sp_config_errors *errors,
                   struct sp_document **ret) SP_MUST_USE;
/* The same from memory: `name` stands for the file in messages, relative paths are taken from `directory`; for tests and fuzzing.
 * With read_files false no file is opened and contents stay empty. */
int sp_config_load_text(const char *name, struct sp_span yaml, const char *directory, bool read_files, const struct sp_document *previous,
                        uint64_t generation, struct sp_config_errors *errors, struct sp_document **ret) SP_MUST_USE;

enum sp_config_reader { SP_READER_WORKER, SP_READER_CONTROL, SP_READER_SUPERVISOR };
/* Started as root, everything but the supervisor becomes `user`: an error when it is not named, unknown here, or root itself.
 * 0 when not started as root. -EINVAL with the error listed (at file:1:1 when nothing is named), or -ENOMEM. */
int sp_config_user_required(const struct sp_document *document, struct sp_config_errors *errors) SP_MUST_USE;
/* The document as bytes for one kind of process, without the secrets that kind must not have (control: no TLS
 * private keys, passwords, shared secrets, credentials for pools, or API keys).
 * *ret is malloc'ed text; free with sp_free_secret(). */
int sp_document_encode(const struct sp_document *document, enum sp_config_reader reader, char **ret, size_t *ret_len) SP_MUST_USE;

/* Bytes from the supervisor → snapshot with one reference. -EINVAL when they are not such a document, -ENOMEM. */
int sp_config_decode(struct sp_span bytes, struct sp_config **ret) SP_MUST_USE;
/* The document as one kind of process would see it: encoded and decoded. */
int sp_document_snapshot(const struct sp_document *document, enum sp_config_reader reader, struct sp_config **ret) SP_MUST_USE;
struct sp_config *sp_config_ref(struct sp_config *config);
void sp_config_unref(struct sp_config *config); /* takes NULL; wipes secrets with the last reference */

/* What control may ask: https://, or http:// to a loopback address or localhost (a sidecar, a test). With a query, without a fragment, user
 * or password. NULL, or what is wrong as the rest of a sentence. */
const char *sp_check_fetched_url(struct sp_span url) SP_MUST_USE;
const struct sp_limit_config *sp_config_limit(const struct sp_config *config, struct sp_span name);
/* The limit is this configuration's, not an older snapshot's. NULL has none. */
static inline bool sp_config_has_limit(const struct sp_config *config, const struct sp_limit_config *limit) {
    return config && limit >= config->limits && limit < config->limits + config->n_limits;
}
const struct sp_model_config *sp_config_model(const struct sp_config *config, struct sp_span name); /* NULL: unknown */
/* What a role's models say: * stands for any number of any characters, everything else for itself (sp_span_glob). */
bool sp_glob_match(const char *pattern, struct sp_span text);
const char *sp_jwt_algorithm_name(enum sp_jwt_algorithm algorithm); /* "RS256" … */
bool sp_cidr_contains(const struct sp_cidr *range, const uint8_t address[16]);
bool sp_cidrs_contain(const struct sp_cidrs *ranges, const uint8_t address[16]);
/* "90d" → ms, "64KiB" → bytes, "600/min" → rate. -EINVAL, -ERANGE. Also for command-line options. */
int sp_parse_duration(struct sp_span text, uint64_t *ret_ms) SP_MUST_USE;
int sp_parse_size(struct sp_span text, uint64_t *ret_bytes) SP_MUST_USE;
int sp_parse_rate(struct sp_span text, struct sp_rate *ret) SP_MUST_USE;
/* "host:port" or "[v6]:port" → host without brackets (malloc'ed) and port. -EINVAL. */
int sp_parse_host_port(struct sp_span text, char **ret_host, uint16_t *ret_port) SP_MUST_USE;

/* ---- The file of API keys (`api_keys`): read here, written by `sallyport key` ---- */
struct sp_key_file;
int sp_key_file_new(struct sp_key_file **ret) SP_MUST_USE; /* without keys */
/* -ENOENT (and every other -errno of opening it), -EINVAL, -EFBIG: with at least one error listed. *ret untouched on failure. */
int sp_key_file_load(const char *path, struct sp_config_errors *errors, struct sp_key_file **ret) SP_MUST_USE;
void sp_key_file_free(struct sp_key_file *file); /* takes NULL */
size_t sp_key_file_count(const struct sp_key_file *file);
/* The i-th key, in the order of the file; it belongs to the file and lives until that is freed. digest, expires_at_s and revoked_at_s may be
 * changed in place; text may be pointed elsewhere as long as that outlives the file. Not kept across sp_key_file_add(). */
struct sp_api_key_config *sp_key_file_at(struct sp_key_file *file, size_t i);
struct sp_api_key_config *sp_key_file_find(struct sp_key_file *file, struct sp_span id_or_name); /* an id before a name; NULL: none */
/* Adds a copy of `key` and all its text. -EEXIST: the id is taken; -EINVAL: text that the file could not hold; -E2BIG; -ENOMEM. */
int sp_key_file_add(struct sp_key_file *file, const struct sp_api_key_config *key) SP_MUST_USE;
/* One writer at a time: waits for the exclusive lock on PATH.lock (made, mode 0600, and left there). Hold it over load, change and save;
 * closing *ret_fd gives it up. -errno. */
int sp_key_file_lock(const char *path, int *ret_fd) SP_MUST_USE;
/* Atomic and durable: a new file takes the old one's place, which is kept as PATH.previous. A reader sees one or the other. Owner and mode
 * stay what they were, but nothing beyond 0640 is kept; where there was none it is 0600. A symbolic link would be replaced, too: PATH is
 * what it leads to. -errno, and then PATH is as before. */
int sp_key_file_save(const char *path, const struct sp_key_file *file) SP_MUST_USE;

/* The table of fields as JSON Schema (draft 2020-12) and as the body of sallyport.yaml(5); appended to `out`. */
int sp_config_schema(struct sp_buffer *out) SP_MUST_USE;
int sp_config_manual(struct sp_buffer *out) SP_MUST_USE;

#endif
