/* Rows in the order of the file. Read table.h first. */
#include "table.h"

#define AT(type, member)       .at = offsetof(type, member), .size = sizeof(((type *)0)->member)
#define COUNT(type, member)    .count_at = offsetof(type, member)
#define CONTENTS(type, member) .contents = #member, .contents_at = offsetof(type, member)
#define UNPLACED               .at = SP_NOWHERE
#define RECORD(rows, type, ...)                                                                                                            \
    { .fields = rows, .n_fields = SP_COUNT(rows), .size = sizeof(type), __VA_ARGS__ }
#define NOW(text, number)                                                                                                                  \
    { .name = text, .value = number }
#define LATER(text, number)                                                                                                                \
    { .name = text, .value = number, .later = true } /* known, not yet supported */
#define END                                                                                                                                \
    { .name = NULL }

#define MINUTE_MS  INT64_C(60000)
#define DAY_MS     (1440 * MINUTE_MS)
#define MIB        (INT64_C(1) << 20)
#define TOKENS_MAX INT64_C(1000000000) /* of one answer */

/* ---- listeners ---- */

static const struct sp_field certificate_fields[] = {
    {"chain", SP_KIND_FILE, SP_REQUIRED | SP_PLACED, AT(struct sp_certificate_config, chain),
     CONTENTS(struct sp_certificate_config, chain_pem), .about = "PEM file: the certificate, then the intermediates"},
    {"key", SP_KIND_FILE, SP_PLACED | SP_SECRET, AT(struct sp_certificate_config, key), CONTENTS(struct sp_certificate_config, key_pem),
     .about = "PEM file: its private key, readable by its owner only; this or credential is required"},
    {"credential", SP_KIND_FILE, SP_PLACED | SP_SECRET | SP_CREDENTIAL, AT(struct sp_certificate_config, key),
     CONTENTS(struct sp_certificate_config, key_pem), .about = "instead of key: the name of a credential from systemd's LoadCredential="},
};
static const struct sp_record certificate = RECORD(certificate_fields, struct sp_certificate_config, .name = "certificate");

static const struct sp_choice client_certificates[] = {NOW("none", SP_CLIENT_CERT_NONE), NOW("optional", SP_CLIENT_CERT_OPTIONAL),
                                                       NOW("required", SP_CLIENT_CERT_REQUIRED), END};
static const struct sp_choice alpn_protocols[] = {LATER("h2", 1), NOW("http/1.1", 2), END};

static const struct sp_field listener_fields[] = {
    {"address", SP_KIND_TEXT, SP_REQUIRED | SP_PLACED, AT(struct sp_listener_config, address), .check = sp_check_listen_address,
     .about = "host:port, [v6]:port, or systemd:NAME for a socket handed over by systemd"},
    {"certificates", SP_KIND_LIST, SP_REQUIRED, AT(struct sp_listener_config, certificates),
     COUNT(struct sp_listener_config, n_certificates), .min = 1, .max = 64, .record = &certificate,
     .about = "several are chosen by server name (SNI); the first is the default"},
    {"client_certificate", SP_KIND_CHOICE, 0, "none", AT(struct sp_listener_config, client_certificate), .choices = client_certificates,
     .about = "whether clients are asked for a certificate; who gives one must give a good one"},
    {"client_ca", SP_KIND_FILE, SP_PLACED, AT(struct sp_listener_config, client_ca), CONTENTS(struct sp_listener_config, client_ca_pem),
     .about = "PEM file: who signs client certificates; needed for optional and required"},
    {"client_crl", SP_KIND_FILE, SP_PLACED, AT(struct sp_listener_config, client_crl), CONTENTS(struct sp_listener_config, client_crl_pem),
     .about = "PEM file: what they have revoked, one list (CRL) of each authority; when one has expired nobody it speaks of is let in"},
    {"protocols", SP_KIND_CHOICES, SP_TEXTUAL, "[http/1.1]", AT(struct sp_listener_config, protocols), .min = 1, .choices = alpn_protocols,
     .about = "offered by ALPN, in order"},
    {"max_connections", SP_KIND_NUMBER, 0, "20000", AT(struct sp_listener_config, max_connections), .min = 1, .max = 1000000,
     .about = "connections at one time"},
    {"max_connections_per_address", SP_KIND_NUMBER, 0, "256", AT(struct sp_listener_config, max_connections_per_address), .min = 1,
     .max = 1000000, .about = "connections at one time from one client address"},
    {"handshake_timeout", SP_KIND_DURATION, 0, "5s", AT(struct sp_listener_config, handshake_timeout_ms), .min = 10, .max = 5 * MINUTE_MS,
     .about = "to finish the TLS handshake"},
    {"header_timeout", SP_KIND_DURATION, 0, "10s", AT(struct sp_listener_config, header_timeout_ms), .min = 10, .max = 5 * MINUTE_MS,
     .about = "from the first byte of a request to the end of its head"},
    {"idle_timeout", SP_KIND_DURATION, 0, "75s", AT(struct sp_listener_config, idle_timeout_ms), .min = 10, .max = DAY_MS,
     .about = "how long a connection is kept between requests"},
    {"proxy_protocol", SP_KIND_BOOL, 0, "false", AT(struct sp_listener_config, proxy_protocol),
     .about = "every connection begins with a PROXY header (version 2) from a load balancer among trusted_proxies; all others are refused"},
    {"trusted_proxies", SP_KIND_CIDRS, 0, "[]", AT(struct sp_listener_config, trusted_proxies),
     .about = "address ranges whose PROXY header is believed"},
    {"allow", SP_KIND_CIDRS, 0, "[]", AT(struct sp_listener_config, allow), .about = "client address ranges; empty allows all"},
    {"deny", SP_KIND_CIDRS, 0, "[]", AT(struct sp_listener_config, deny), .about = "client address ranges; wins over allow"},
    {"slot", SP_KIND_NUMBER, SP_HIDDEN | SP_REQUIRED, AT(struct sp_listener_config, slot), .max = SP_LISTENERS_MAX - 1},
};
static const struct sp_record listener = RECORD(listener_fields, struct sp_listener_config, .name = "listener");

/* ---- memory, redis ---- */

static const struct sp_field memory_fields[] = {
    {"bodies", SP_KIND_SIZE, 0, "256MiB", AT(struct sp_config, memory_bodies), .min = MIB, .max = MIB << 20,
     .about = "all buffered request bodies together"},
};
static const struct sp_record memory = RECORD(memory_fields, struct sp_config, .name = "memory");

static const struct sp_field sentinel_fields[] = {
    {"master", SP_KIND_TEXT, SP_REQUIRED, AT(struct sp_redis_sentinel_config, master), .check = sp_check_plain_name,
     .about = "the name the sentinels know the master by"},
    {"nodes", SP_KIND_NODES, SP_REQUIRED, AT(struct sp_redis_sentinel_config, nodes), .min = 1, .max = SP_REDIS_NODES_MAX,
     .check = sp_check_redis_node, .about = "host:port of the sentinels; the host is an address or localhost"},
};
static const struct sp_record sentinel = RECORD(sentinel_fields, struct sp_redis_sentinel_config, .name = "sentinel");

static const struct sp_field redis_fields[] = {
    {"url", SP_KIND_TEXT, SP_PLACED, AT(struct sp_redis_config, url), .check = sp_check_redis_url,
     .about = "redis://host:port/database, rediss://host:port/database over TLS, or unix:///path; the host is an address or localhost. "
              "One of url, sentinel and cluster is required"},
    {"sentinel", SP_KIND_RECORD, 0, AT(struct sp_redis_config, sentinel), .record = &sentinel,
     .about = "instead of url: the master is asked of sentinels, again after each failover; database 0, over TLS where ca, server_name or "
              "certificate is given"},
    {"cluster", SP_KIND_NODES, 0, AT(struct sp_redis_config, cluster), .min = 1, .max = SP_REDIS_NODES_MAX, .check = sp_check_redis_node,
     .about = "instead of url: host:port of some members of a Redis Cluster, who name the others; the host is an address or localhost; "
              "over TLS where ca, server_name or certificate is given"},
    {"username", SP_KIND_TEXT, 0, AT(struct sp_redis_config, username), .check = sp_check_not_empty,
     .about = "ACL user; needs password_file or credential"},
    {"password_file", SP_KIND_FILE, SP_SECRET | SP_ONE_LINE, AT(struct sp_redis_config, password_file),
     CONTENTS(struct sp_redis_config, password), .about = "file with the password, readable by its owner only"},
    {"credential", SP_KIND_FILE, SP_SECRET | SP_ONE_LINE | SP_CREDENTIAL, AT(struct sp_redis_config, password_file),
     CONTENTS(struct sp_redis_config, password),
     .about = "instead of password_file: the name of a credential from systemd's LoadCredential="},
    {"ca", SP_KIND_FILE, SP_PLACED, AT(struct sp_redis_config, tls_client.ca), .contents = "ca_pem",
     .contents_at = offsetof(struct sp_redis_config, tls_client.ca_pem),
     .about = "PEM file for TLS: who signs its certificate; left out: the authorities this machine knows"},
    {"server_name", SP_KIND_TEXT, 0, AT(struct sp_redis_config, tls_client.server_name), .check = sp_check_server_name,
     .about = "the name its certificate must have; left out: the host that is connected to"},
    {"certificate", SP_KIND_FILE, SP_PLACED, AT(struct sp_redis_config, tls_client.own.chain), .contents = "certificate_pem",
     .contents_at = offsetof(struct sp_redis_config, tls_client.own.chain_pem), .about = "PEM file: our certificate for mutual TLS"},
    {"key", SP_KIND_FILE, SP_PLACED | SP_SECRET, AT(struct sp_redis_config, tls_client.own.key), .contents = "key_pem",
     .contents_at = offsetof(struct sp_redis_config, tls_client.own.key_pem),
     .about = "PEM file: its private key, readable by its owner only"},
    {"deadline", SP_KIND_DURATION, 0, "5ms", AT(struct sp_redis_config, deadline_ms), .min = 1, .max = 1000,
     .about = "no decision waits longer; then on_outage decides"},
    {"prefix", SP_KIND_TEXT, 0, "sallyport:", AT(struct sp_redis_config, prefix), .check = sp_check_redis_prefix,
     .about = "begins every key; equal for gateways that share limits; holds no braces, which say where a cluster keeps a key"},
    {"gateways", SP_KIND_NUMBER, 0, "1", AT(struct sp_redis_config, gateways), .min = 1, .max = 1000,
     .about = "how many gateways share this Redis; used by on_outage: share"},
    {"allow_eviction", SP_KIND_BOOL, 0, "false", AT(struct sp_redis_config, allow_eviction),
     .about = "accept a Redis whose maxmemory-policy may evict keys, which refills their limits"},
};
static const struct sp_record redis = RECORD(redis_fields, struct sp_redis_config, .name = "redis", .finish = sp_finish_redis);

/* ---- issuers, API keys ---- */

static const struct sp_choice algorithms[] = {
    NOW("RS256", 1u << SP_ALG_RS256), NOW("RS384", 1u << SP_ALG_RS384), NOW("RS512", 1u << SP_ALG_RS512), NOW("PS256", 1u << SP_ALG_PS256),
    NOW("PS384", 1u << SP_ALG_PS384), NOW("PS512", 1u << SP_ALG_PS512), NOW("ES256", 1u << SP_ALG_ES256), NOW("ES384", 1u << SP_ALG_ES384),
    NOW("ES512", 1u << SP_ALG_ES512), NOW("EdDSA", 1u << SP_ALG_EDDSA), NOW("HS256", 1u << SP_ALG_HS256), END};

static const struct sp_field claims_fields[] = {
    {"subject", SP_KIND_TEXT, 0, "sub", AT(struct sp_claims_config, subject), .check = sp_check_claim_path, .about = "who is calling"},
    {"tenant", SP_KIND_TEXT, 0, "org_id", AT(struct sp_claims_config, tenant), .check = sp_check_claim_path, .about = "on whose behalf"},
    {"roles", SP_KIND_TEXT, 0, "roles", AT(struct sp_claims_config, roles), .check = sp_check_claim_path,
     .about = "a list of roles, or one"},
    {"scopes", SP_KIND_TEXT, 0, "scope", AT(struct sp_claims_config, scopes), .check = sp_check_claim_path,
     .about = "scopes: a list, or text parted by spaces"},
};
static const struct sp_record claims = RECORD(claims_fields, struct sp_claims_config, .name = "claims");

static const struct sp_field introspection_fields[] = {
    {"url", SP_KIND_TEXT, SP_REQUIRED, AT(struct sp_introspection_config, url), .check = sp_check_fetched_url,
     .about = "the issuer's introspection endpoint: https://, or http:// to this machine"},
    {"client_id", SP_KIND_TEXT, SP_REQUIRED, AT(struct sp_introspection_config, client_id), .check = sp_check_plain_name,
     .about = "who we are there"},
    {"client_secret_file", SP_KIND_FILE, SP_REQUIRED | SP_SECRET | SP_FOR_CONTROL | SP_ONE_LINE,
     AT(struct sp_introspection_config, client_secret_file), CONTENTS(struct sp_introspection_config, client_secret),
     .about = "file with our secret there, readable by its owner only"},
    {"cache", SP_KIND_DURATION, SP_SECONDS, "30s", AT(struct sp_introspection_config, cache_s), .min = 1000, .max = 60 * MINUTE_MS,
     .about = "how long an answer is remembered, never beyond the token's exp; a token withdrawn meanwhile is good until then"},
};
static const struct sp_record introspection = RECORD(introspection_fields, struct sp_introspection_config, .name = "introspection");

static const struct sp_field issuer_fields[] = {
    {"issuer", SP_KIND_TEXT, SP_REQUIRED | SP_PLACED, AT(struct sp_issuer_config, issuer), .check = sp_check_issuer_name,
     .about = "must equal the token's iss, and what discovery finds, to the letter"},
    {"audience", SP_KIND_TEXTS, SP_REQUIRED, AT(struct sp_issuer_config, audience), .min = 1, .check = sp_check_not_empty,
     .about = "one of these must be in the token's aud"},
    {"jwks", SP_KIND_FILE, SP_PLACED | SP_OR_URL, AT(struct sp_issuer_config, jwks), CONTENTS(struct sp_issuer_config, jwks_json),
     .check = sp_check_jwks, .check_contents = sp_check_key_set,
     .about = "the issuer's JSON Web Key Set: a file, or a URL (https://, or http:// to this machine); left out: found by discovery "
              "(OpenID Connect Discovery, RFC 8414). What is fetched is refreshed as its Cache-Control says, every 5 minutes to 24 hours, "
              "and serves for 24 hours while the issuer cannot be reached"},
    {"ca", SP_KIND_FILE, 0, AT(struct sp_issuer_config, ca), CONTENTS(struct sp_issuer_config, ca_pem),
     .about = "PEM file: whom to trust when fetching; left out: the system's"},
    {"algorithms", SP_KIND_CHOICES, 0, "[RS256, PS256, ES256, EdDSA]", AT(struct sp_issuer_config, algorithms), .min = 1,
     .choices = algorithms, .about = "which signatures are accepted; HS256 only with secret_file"},
    {"secret_file", SP_KIND_FILE, SP_SECRET | SP_ONE_LINE, AT(struct sp_issuer_config, secret_file),
     CONTENTS(struct sp_issuer_config, secret), .check_contents = sp_check_shared_secret,
     .about = "file with the shared secret for HS256, at least 32 bytes, readable by its owner only"},
    {"claims", SP_KIND_RECORD, SP_FILLED, AT(struct sp_issuer_config, claims), .record = &claims,
     .about = "where the token says what; dotted paths reach into objects"},
    {"leeway", SP_KIND_DURATION, SP_SECONDS, "60s", AT(struct sp_issuer_config, leeway_s), .max = 10 * MINUTE_MS,
     .about = "how far the issuer's clock may be off"},
    {"max_token_age", SP_KIND_DURATION, SP_SECONDS, "24h", AT(struct sp_issuer_config, max_token_age_s), .min = 1000, .max = 365 * DAY_MS,
     .about = "since iat"},
    {"types", SP_KIND_TEXTS, 0, "[at+jwt, JWT]", AT(struct sp_issuer_config, types), .min = 1, .check = sp_check_not_empty,
     .about = "accepted typ; JWT also stands for an absent one"},
    {"introspection", SP_KIND_RECORD, 0, AT(struct sp_issuer_config, introspection), .record = &introspection,
     .about = "for opaque tokens (RFC 7662), on routes that take jwt; of several issuers the first that knows the token decides"},
    {"fingerprint", SP_KIND_HEX, SP_HIDDEN | SP_REQUIRED, AT(struct sp_issuer_config, fingerprint)},
};
static const struct sp_record issuer = RECORD(issuer_fields, struct sp_issuer_config, .name = "issuer", .finish = sp_finish_issuer);

static const struct sp_field key_fields[] = {
    {"id", SP_KIND_ID, SP_REQUIRED, AT(struct sp_api_key_config, id), .about = "the public part of the key"},
    {"name", SP_KIND_TEXT, SP_REQUIRED, AT(struct sp_api_key_config, name), .check = sp_check_label, .about = "whose it is"},
    {"digest", SP_KIND_HEX, SP_REQUIRED, AT(struct sp_api_key_config, digest), .about = "SHA-256 of the secret"},
    {"roles", SP_KIND_TEXTS, 0, "[]", AT(struct sp_api_key_config, roles), .max = SP_ROLES_MAX, .check = sp_check_role_name,
     .about = "its roles"},
    {"tenant", SP_KIND_TEXT, 0, AT(struct sp_api_key_config, tenant), .check = sp_check_label, .about = "on whose behalf"},
    {"expires", SP_KIND_TIME, 0, AT(struct sp_api_key_config, expires_at_s), .about = "not accepted from then on"},
    {"revoked", SP_KIND_TIME, 0, AT(struct sp_api_key_config, revoked_at_s), .about = "when it was revoked"},
};
const struct sp_record sp_key_record = RECORD(key_fields, struct sp_api_key_config, .name = "key", .finish = sp_finish_key);

/* ---- roles, limits ---- */

static const struct sp_choice priorities[] = {NOW("low", SP_PRIORITY_LOW), NOW("normal", SP_PRIORITY_NORMAL), NOW("high", SP_PRIORITY_HIGH),
                                              END};

static const struct sp_field role_fields[] = {
    {"models", SP_KIND_TEXTS, 0, "[*]", AT(struct sp_role_config, models), .min = 1, .max = SP_MODELS_MAX, .check = sp_check_model_pattern,
     .about = "which models it may use on routes with models: body; in a name * stands for any number of any characters"},
    {"limits", SP_KIND_LIMITS, 0, "[]", AT(struct sp_role_config, limits), COUNT(struct sp_role_config, n_limits),
     .max = SP_REQUEST_LIMITS_MAX, .about = "what its callers are held to"},
    {"priority", SP_KIND_CHOICE, 0, "normal", AT(struct sp_role_config, priority), .choices = priorities,
     .about = "whose requests go first where they have to wait; of a caller's roles the highest counts"},
};
static const struct sp_record role = RECORD(role_fields, struct sp_role_config, .name = "role");

static const struct sp_choice dimensions[] = {
    NOW("subject", SP_BY_SUBJECT), NOW("tenant", SP_BY_TENANT), NOW("key", SP_BY_KEY),       NOW("address", SP_BY_ADDRESS),
    NOW("model", SP_BY_MODEL),     NOW("route", SP_BY_ROUTE),   NOW("global", SP_BY_GLOBAL), END};
static const struct sp_choice limit_modes[] = {NOW("leased", SP_LIMIT_LEASED), NOW("strict", SP_LIMIT_STRICT), END};
static const struct sp_choice outages[] = {NOW("share", SP_OUTAGE_SHARE), NOW("open", SP_OUTAGE_OPEN), NOW("closed", SP_OUTAGE_CLOSED),
                                           END};
static const struct sp_choice counts[] = {NOW("all", SP_COUNT_ALL), NOW("unauthorized", SP_COUNT_UNAUTHORIZED), END};

static const struct sp_field limit_fields[] = {
    {"by", SP_KIND_CHOICES, SP_REQUIRED, AT(struct sp_limit_config, by), .min = 1, .choices = dimensions,
     .about = "whose bucket it is; a list makes one bucket per combination"},
    {"requests", SP_KIND_RATE, 0, AT(struct sp_limit_config, requests), .min = 1, .max = (int64_t)SP_AMOUNT_MAX,
     .about = "how many requests; at least one of requests, tokens and concurrency is required"},
    {"request_burst", SP_KIND_NUMBER, 0, AT(struct sp_limit_config, request_burst), .min = 1, .max = (int64_t)SP_AMOUNT_MAX,
     .about = "how many at once; left out: one second's worth, at least 1"},
    {"tokens", SP_KIND_RATE, 0, AT(struct sp_limit_config, tokens), .min = 1, .max = (int64_t)SP_AMOUNT_MAX,
     .about =
         "how many tokens of language models, of prompts and answers together: reserved before a request is forwarded, settled by what "
         "its answer says it used"},
    {"token_burst", SP_KIND_NUMBER, 0, AT(struct sp_limit_config, token_burst), .min = 1, .max = (int64_t)SP_AMOUNT_MAX,
     .about = "how many at once; a request that may need more is refused for good; left out: one minute's worth, at least 1"},
    {"concurrency", SP_KIND_NUMBER, 0, AT(struct sp_limit_config, concurrency), .min = 1, .max = 1000000, .about = "requests at one time"},
    {"mode", SP_KIND_CHOICE, 0, "leased", AT(struct sp_limit_config, mode), .choices = limit_modes,
     .about = "how gateways share one Redis. strict: it is asked about every request. leased: what 100 ms need is taken from it ahead, and "
              "requests are decided on this machine; no more is admitted than with strict, a little less where many gateways share; where "
              "the burst is less than what 200 ms of the rate bring, it is strict. Without redis both are the same: shared memory decides "
              "about every request, exactly"},
    {"on_outage", SP_KIND_CHOICE, 0, "share", AT(struct sp_limit_config, on_outage), .choices = outages,
     .about = "while Redis is away: keep to this gateway's share, admit all, or refuse all"},
    {"shadow", SP_KIND_BOOL, 0, "false", AT(struct sp_limit_config, shadow),
     .about = "count and log what would be refused, refuse nothing"},
    {"count", SP_KIND_CHOICE, 0, "all", AT(struct sp_limit_config, count), .choices = counts,
     .about =
         "which requests count. unauthorized: answers with 401 alone, on every route, whether the route lists the limit or not; where its "
         "bucket is empty nobody new is let in, whatever credential they bring"},
    {"slot", SP_KIND_NUMBER, SP_HIDDEN | SP_REQUIRED, AT(struct sp_limit_config, slot), .max = SP_LIMITS_MAX - 1},
};
static const struct sp_record limit = RECORD(limit_fields, struct sp_limit_config, .name = "limit", .finish = sp_finish_limit);

/* ---- pools, models ---- */

static const struct sp_field server_fields[] = {
    {"url", SP_KIND_TEXT, SP_REQUIRED | SP_PLACED, AT(struct sp_server_config, url), .check = sp_check_server_url,
     .about = "http://host:port or https://host:port, with a path that requests are put below"},
    {"weight", SP_KIND_NUMBER, 0, "1", AT(struct sp_server_config, weight), .min = 1, .max = 1000, .about = "its share of requests"},
    {"max_in_flight", SP_KIND_NUMBER, 0, AT(struct sp_server_config, max_in_flight), .min = 1, .max = 1000000,
     .about = "requests at one time; left out: no bound"},
    {"slot", SP_KIND_NUMBER, SP_HIDDEN | SP_REQUIRED, AT(struct sp_server_config, slot), .max = SP_SERVERS_MAX - 1},
};
static const struct sp_record server = RECORD(server_fields, struct sp_server_config, .name = "server", .finish = sp_finish_server);

static const struct sp_choice balances[] = {NOW("least_loaded", SP_BALANCE_LEAST_LOADED), NOW("round_robin", SP_BALANCE_ROUND_ROBIN),
                                            LATER("session", SP_BALANCE_SESSION), END};
static const struct sp_choice backend_protocols[] = {NOW("auto", 0), NOW("http/1.1", 1), LATER("h2", 2), END};

static const struct sp_field pool_tls_fields[] = {
    {"ca", SP_KIND_FILE, SP_PLACED, AT(struct sp_tls_client_config, ca), CONTENTS(struct sp_tls_client_config, ca_pem),
     .about = "PEM file: who signs the servers' certificates; left out: the authorities this machine knows"},
    {"server_name", SP_KIND_TEXT, 0, AT(struct sp_tls_client_config, server_name), .check = sp_check_server_name,
     .about = "the name their certificates must have; left out: the host of each url"},
    {"certificate", SP_KIND_FILE, SP_PLACED, AT(struct sp_tls_client_config, own.chain), .contents = "certificate_pem",
     .contents_at = offsetof(struct sp_tls_client_config, own.chain_pem),
     .about = "PEM file: our certificate, for servers that ask for one, then the intermediates; probes show it too"},
    {"key", SP_KIND_FILE, SP_PLACED | SP_SECRET | SP_FOR_BOTH, AT(struct sp_tls_client_config, own.key), .contents = "key_pem",
     .contents_at = offsetof(struct sp_tls_client_config, own.key_pem), .about = "PEM file: its private key, readable by its owner only"},
};
static const struct sp_record pool_tls = RECORD(pool_tls_fields, struct sp_tls_client_config, .name = "tls");

static const struct sp_field credential_fields[] = {
    {"header", SP_KIND_TEXT, SP_REQUIRED, AT(struct sp_credential_config, header), .check = sp_check_credential_header,
     .about = "which header carries it"},
    {"prefix", SP_KIND_TEXT, 0, "", AT(struct sp_credential_config, prefix), .check = sp_check_header_value,
     .about = "what stands before it"},
    {"value_file", SP_KIND_FILE, SP_REQUIRED | SP_SECRET | SP_ONE_LINE, AT(struct sp_credential_config, value_file),
     CONTENTS(struct sp_credential_config, value), .check_contents = sp_check_header_value,
     .about = "file with the credential, readable by its owner only"},
};
static const struct sp_record credential = RECORD(credential_fields, struct sp_credential_config, .name = "credential");

static const struct sp_field health_fields[] = {
    {"path", SP_KIND_TEXT, SP_REQUIRED, AT(struct sp_health_config, path), .check = sp_check_probe_path, .about = "what to GET"},
    {"interval", SP_KIND_DURATION, 0, "5s", AT(struct sp_health_config, interval_ms), .min = 100, .max = DAY_MS, .about = "how often"},
    {"timeout", SP_KIND_DURATION, 0, "2s", AT(struct sp_health_config, timeout_ms), .min = 10, .max = 10 * MINUTE_MS,
     .about = "to be answered"},
    {"healthy_after", SP_KIND_NUMBER, 0, "2", AT(struct sp_health_config, healthy_after), .min = 1, .max = 100,
     .about = "good answers in a row"},
    {"unhealthy_after", SP_KIND_NUMBER, 0, "3", AT(struct sp_health_config, unhealthy_after), .min = 1, .max = 100,
     .about = "bad ones in a row"},
};
static const struct sp_record health = RECORD(health_fields, struct sp_health_config, .name = "health");

static const struct sp_field outlier_fields[] = {
    {"consecutive_failures", SP_KIND_NUMBER, 0, "5", AT(struct sp_pool_config, outlier_failures), .min = 1, .max = 10000,
     .about = "failed requests in a row"},
    {"eject_for", SP_KIND_DURATION, 0, "30s", AT(struct sp_pool_config, outlier_eject_ms), .min = 100, .max = DAY_MS,
     .about = "how long the server then gets none"},
};
static const struct sp_record outlier = RECORD(outlier_fields, struct sp_pool_config, .name = "outlier");

static const struct sp_field queue_fields[] = {
    {"depth", SP_KIND_NUMBER, 0, "256", AT(struct sp_pool_config, queue_depth), .min = 1, .max = 100000,
     .about = "requests that may wait, over all workers"},
    {"timeout", SP_KIND_DURATION, 0, "10s", AT(struct sp_pool_config, queue_timeout_ms), .min = 10, .max = 60 * MINUTE_MS,
     .about = "how long one waits"},
};
static const struct sp_record queue = RECORD(queue_fields, struct sp_pool_config, .name = "queue");

static const struct sp_field pool_fields[] = {
    {"servers", SP_KIND_LIST, SP_REQUIRED, AT(struct sp_pool_config, servers), COUNT(struct sp_pool_config, n_servers), .min = 1,
     .max = SP_SERVERS_MAX, .record = &server, .about = "at least one"},
    {"balance", SP_KIND_CHOICE, 0, "least_loaded", AT(struct sp_pool_config, balance), .choices = balances,
     .about = "least_loaded takes the less busy of two"},
    {"protocol", SP_KIND_CHOICE, 0, "auto", UNPLACED, .choices = backend_protocols, .about = "what the servers are spoken to in"},
    {"tls", SP_KIND_RECORD, 0, AT(struct sp_pool_config, tls), .record = &pool_tls,
     .about = "for https:// servers, whose certificates are always verified"},
    {"credential", SP_KIND_RECORD, 0, AT(struct sp_pool_config, credential), .record = &credential,
     .about = "put in for the servers; the client's own never gets through"},
    {"identity", SP_KIND_BOOL, SP_DEFAULT_ONLY, "false", UNPLACED,
     .about = "send x-sallyport-identity, a short-lived signed JWT of who is calling"},
    {"health", SP_KIND_RECORD, 0, AT(struct sp_pool_config, health), .record = &health, .about = "probes; left out: none"},
    {"outlier", SP_KIND_RECORD, 0, .at = 0, .record = &outlier, .about = "eject a server that keeps failing; left out: never"},
    {"retries", SP_KIND_NUMBER, 0, "1", AT(struct sp_pool_config, retries), .max = 10,
     .about = "only where nothing has been answered yet and the request may be repeated"},
    {"queue", SP_KIND_RECORD, 0, .at = 0, .record = &queue,
     .about = "where requests wait while every server has as many as it may have (max_in_flight, connections); left out: none waits"},
    {"connect_timeout", SP_KIND_DURATION, 0, "2s", AT(struct sp_pool_config, connect_timeout_ms), .min = 10, .max = 5 * MINUTE_MS,
     .about = "to a server"},
    {"connections", SP_KIND_NUMBER, 0, "256", AT(struct sp_pool_config, connections), .min = 1, .max = 100000,
     .about = "at most, per server and worker"},
    {"slot", SP_KIND_NUMBER, SP_HIDDEN | SP_REQUIRED, AT(struct sp_pool_config, slot), .max = SP_POOLS_MAX - 1},
};
static const struct sp_record pool = RECORD(pool_fields, struct sp_pool_config, .name = "pool");

static const struct sp_field model_fields[] = {
    {"pool", SP_KIND_POOL, SP_REQUIRED, AT(struct sp_model_config, pool), .about = "who serves it"},
    {"as", SP_KIND_TEXT, 0, AT(struct sp_model_config, as), .check = sp_check_model_alias,
     .about = "what the pool calls it; left out: the name itself"},
    {"fallback", SP_KIND_MODELS, 0, "[]", AT(struct sp_model_config, fallback), COUNT(struct sp_model_config, n_fallback),
     .max = SP_FALLBACKS_MAX, .about = "models to ask instead, in this order, where its pool cannot take the request"},
    {"slot", SP_KIND_NUMBER, SP_HIDDEN | SP_REQUIRED, AT(struct sp_model_config, slot), .max = SP_MODELS_MAX - 1},
};
static const struct sp_record model = RECORD(model_fields, struct sp_model_config, .name = "model", .finish = sp_finish_model);

/* ---- routes ---- */

static const struct sp_choice authentications[] = {NOW("none", SP_AUTHENTICATE_NONE), NOW("jwt", SP_AUTHENTICATE_JWT),
                                                   NOW("api_key", SP_AUTHENTICATE_API_KEY),
                                                   NOW("client_certificate", SP_AUTHENTICATE_CERTIFICATE), END};
static const struct sp_choice model_sources[] = {NOW("none", 0), NOW("body", 1), END};

static const struct sp_field timeouts_fields[] = {
    {"first_byte", SP_KIND_DURATION, 0, "60s", AT(struct sp_route_config, first_byte_timeout_ms), .min = 10, .max = DAY_MS,
     .about = "until the server begins to answer"},
    {"idle", SP_KIND_DURATION, 0, "60s", AT(struct sp_route_config, idle_timeout_ms), .min = 10, .max = DAY_MS, .about = "between bytes"},
    {"total", SP_KIND_DURATION, 0, "1h", AT(struct sp_route_config, total_timeout_ms), .min = 10, .max = 7 * DAY_MS, .about = "in all"},
};
static const struct sp_record timeouts = RECORD(timeouts_fields, struct sp_route_config, .name = "timeouts");

static const struct sp_field max_tokens_fields[] = {
    {"default", SP_KIND_NUMBER, 0, "1024", AT(struct sp_route_config, max_tokens_default), .min = 1, .max = TOKENS_MAX,
     .about = "reserved when the client names none, and always where models is none"},
    {"cap", SP_KIND_NUMBER, 0, AT(struct sp_route_config, max_tokens_cap), .min = 1, .max = TOKENS_MAX,
     .about = "with models: body: a request for more is refused; left out: none is"},
};
static const struct sp_record max_tokens = RECORD(max_tokens_fields, struct sp_route_config, .name = "max_tokens");

static const struct sp_field header_value_fields[] = {
    {"value", SP_KIND_TEXT, SP_REQUIRED, AT(struct sp_header_set, value), .check = sp_check_header_value, .about = "its value"},
};
static const struct sp_record header_value = RECORD(header_value_fields, struct sp_header_set, .name = "header");

static const struct sp_field request_headers_fields[] = {
    {"allow", SP_KIND_TEXTS, SP_LOWER, "[]", AT(struct sp_headers_config, allow), .max = 64, .check = sp_check_request_allow,
     .about = "names that are passed on besides the safe built-in ones"},
    {"set", SP_KIND_PAIRS, SP_FILLED, AT(struct sp_headers_config, set), COUNT(struct sp_headers_config, n_set), .max = 64,
     .record = &header_value, .check = sp_check_request_set, .about = "name: value, sent to the server"},
};
static const struct sp_record request_headers = RECORD(request_headers_fields, struct sp_headers_config, .name = "request_headers");

static const struct sp_field response_headers_fields[] = {
    {"allow", SP_KIND_TEXTS, SP_LOWER, "[]", AT(struct sp_headers_config, allow), .max = 64, .check = sp_check_response_allow,
     .about = "names that are passed on besides the safe built-in ones"},
    {"set", SP_KIND_PAIRS, SP_FILLED, AT(struct sp_headers_config, set), COUNT(struct sp_headers_config, n_set), .max = 64,
     .record = &header_value, .check = sp_check_response_set, .about = "name: value, sent to the client"},
};
static const struct sp_record response_headers = RECORD(response_headers_fields, struct sp_headers_config, .name = "response_headers");

static const struct sp_field route_fields[] = {
    {"name", SP_KIND_TEXT, SP_REQUIRED, AT(struct sp_route_config, name), .check = sp_check_name, .about = "for logs and metrics"},
    {"host", SP_KIND_TEXTS, SP_LOWER, "[]", AT(struct sp_route_config, host), .max = 64, .check = sp_check_host_pattern,
     .about = "names without a port; *.example.com stands for all below; empty: any"},
    {"path", SP_KIND_TEXT, SP_REQUIRED, AT(struct sp_route_config, path), .check = sp_check_route_path,
     .about = "what the path begins with; exactly the path with a leading ="},
    {"methods", SP_KIND_TEXTS, 0, "[]", AT(struct sp_route_config, methods), .max = 32, .check = sp_check_method, .about = "empty: any"},
    {"authenticate", SP_KIND_CHOICES, SP_REQUIRED, AT(struct sp_route_config, authenticate), .min = 1, .choices = authentications,
     .about = "which credentials are taken; none must be said, and alone; a token or API key that is sent decides, a client_certificate "
              "where none is sent or nothing else is taken"},
    {"roles", SP_KIND_ROLES, 0, "[]", AT(struct sp_route_config, roles), .max = SP_ROLES_MAX,
     .about = "the caller must have one of these; empty: any authenticated caller"},
    {"scopes", SP_KIND_TEXTS, 0, "[]", AT(struct sp_route_config, scopes), .max = 64, .check = sp_check_plain_name,
     .about = "the caller must have all of these"},
    {"limits", SP_KIND_LIMITS, 0, "[]", AT(struct sp_route_config, limits), COUNT(struct sp_route_config, n_limits),
     .max = SP_REQUEST_LIMITS_MAX, .about = "besides those of the caller's roles"},
    {"models", SP_KIND_CHOICE, 0, "none", AT(struct sp_route_config, models_in_body), .choices = model_sources,
     .about =
         "body: the body's model says which of `models` is asked, if the caller's roles permit it; none: it is not looked at, and what "
         "roles say of models does not bind here"},
    {"pool", SP_KIND_POOL, 0, AT(struct sp_route_config, pool),
     .about = "who answers where no model decides; required unless models: body is said"},
    {"max_body", SP_KIND_SIZE, 0, "8MiB", AT(struct sp_route_config, max_body), .max = MIB << 12, .about = "of a request"},
    {"strip_prefix", SP_KIND_TEXT, 0, "", AT(struct sp_route_config, strip_prefix), .check = sp_check_strip_prefix,
     .about = "taken off the path before forwarding"},
    {"websocket", SP_KIND_BOOL, SP_DEFAULT_ONLY, "false", UNPLACED, .about = "let connections be upgraded"},
    {"timeouts", SP_KIND_RECORD, SP_FILLED, .at = 0, .record = &timeouts, .about = "how long an answer may take"},
    {"max_tokens", SP_KIND_RECORD, SP_FILLED, .at = 0, .record = &max_tokens,
     .about = "how long an answer may be, in tokens of language models"},
    {"request_headers", SP_KIND_RECORD, SP_FILLED, AT(struct sp_route_config, request_headers), .record = &request_headers,
     .about = "what the server gets"},
    {"response_headers", SP_KIND_RECORD, SP_FILLED, AT(struct sp_route_config, response_headers), .record = &response_headers,
     .about = "what the client gets"},
    {"slot", SP_KIND_NUMBER, SP_HIDDEN | SP_REQUIRED, AT(struct sp_route_config, slot), .max = SP_ROUTES_MAX - 1},
};
static const struct sp_record route = RECORD(route_fields, struct sp_route_config, .name = "route", .finish = sp_finish_route);

/* ---- admin, logs, tracing ---- */

static const struct sp_choice group_rights[] = {NOW("viewer", false), NOW("admin", true), END};
static const struct sp_field group_fields[] = {
    {"value", SP_KIND_CHOICE, SP_REQUIRED, AT(struct sp_admin_group, admin), .choices = group_rights, .about = "what its members may do"},
};
static const struct sp_record group = RECORD(group_fields, struct sp_admin_group, .name = "group");

static const struct sp_field admin_fields[] = {
    {"socket", SP_KIND_PATH, SP_PLACED, AT(struct sp_admin_config, socket), .about = "Unix socket for `sallyport ctl`; left out: none"},
    {"groups", SP_KIND_PAIRS, SP_FILLED, AT(struct sp_admin_config, groups), COUNT(struct sp_admin_config, n_groups),
     .max = SP_ADMIN_GROUPS_MAX, .record = &group, .check = sp_check_plain_name, .about = "Unix group: viewer or admin; root is admin"},
    {"metrics", SP_KIND_TEXT, SP_PLACED, AT(struct sp_admin_config, metrics), .check = sp_check_metrics_address,
     .about = "loopback address for metrics and health, plain HTTP; left out: only on the socket"},
};
static const struct sp_record admin = RECORD(admin_fields, struct sp_admin_config, .name = "admin");

static const struct sp_choice access_logs[] = {NOW("stdout", 0), NOW("off", 1), END};
static const struct sp_choice log_levels[] = {NOW("error", SP_LOG_ERROR), NOW("warn", SP_LOG_WARN), NOW("info", SP_LOG_INFO),
                                              NOW("debug", SP_LOG_DEBUG), END};
static const struct sp_field logs_fields[] = {
    {"access", SP_KIND_PATH, SP_PLACED, "stdout", AT(struct sp_logs_config, access), .choices = access_logs,
     .about = "stdout, off, or a file; one JSON object per line"},
    {"audit", SP_KIND_PATH, SP_LATER | SP_PLACED, AT(struct sp_logs_config, audit),
     .about = "a file: logins refused, admin actions, reloads, key changes"},
    {"level", SP_KIND_CHOICE, 0, "info", AT(struct sp_logs_config, level), .choices = log_levels, .about = "of the daemon's own messages"},
};
static const struct sp_record logs = RECORD(logs_fields, struct sp_logs_config, .name = "logs");

static const struct sp_field tracing_fields[] = {
    {"otlp", SP_KIND_TEXT, SP_REQUIRED, UNPLACED, .about = "where spans are sent"},
    {"sample", SP_KIND_FRACTION, 0, "0.01", UNPLACED, .about = "share of requests"},
};
static const struct sp_record tracing = RECORD(tracing_fields, struct sp_config, .name = "tracing");

/* ---- The file. What is referred to stands before what refers to it, so that decoding goes through once ---- */

static const struct sp_field config_fields[] = {
    {"version", SP_KIND_NUMBER, SP_REQUIRED, UNPLACED, .min = 1, .max = 1, .about = "of this format: 1"},
    {"user", SP_KIND_TEXT, SP_PLACED, AT(struct sp_config, user), .check = sp_check_plain_name,
     .about = "who everything but the supervisor becomes when started as root; must be named then"},
    {"listeners", SP_KIND_LIST, SP_REQUIRED, AT(struct sp_config, listeners), COUNT(struct sp_config, n_listeners), .min = 1,
     .max = SP_LISTENERS_MAX, .record = &listener, .about = "where clients connect: TLS 1.3 only"},
    {"workers", SP_KIND_NUMBER, SP_AUTO, "auto", AT(struct sp_config, workers), .min = 1, .max = SP_WORKERS_MAX,
     .about = "processes that carry traffic; auto: one per CPU"},
    {"drain_timeout", SP_KIND_DURATION, 0, "30s", AT(struct sp_config, drain_timeout_ms), .max = DAY_MS,
     .about = "how long SIGTERM waits for requests in flight"},
    {"memory", SP_KIND_RECORD, SP_FILLED, .at = 0, .record = &memory, .about = "bounds"},
    {"redis", SP_KIND_OPTIONAL, 0, AT(struct sp_config, redis), .record = &redis,
     .about = "shares limits between gateways; left out: limits are kept in this machine's shared memory"},
    {"issuers", SP_KIND_LIST, SP_FILLED, AT(struct sp_config, issuers), COUNT(struct sp_config, n_issuers), .max = 64, .record = &issuer,
     .about = "who signs tokens: OAuth2, OpenID Connect"},
    {"api_keys", SP_KIND_PATH, SP_PLACED, AT(struct sp_config, api_keys_file),
     .about = "file made and changed with `sallyport key`; holds digests only"},
    {"limits", SP_KIND_MAP, SP_FILLED, AT(struct sp_config, limits), COUNT(struct sp_config, n_limits), .max = SP_LIMITS_MAX,
     .record = &limit, .check = sp_check_name, .about = "token buckets: name, then how much for whom"},
    {"roles", SP_KIND_MAP, SP_FILLED, AT(struct sp_config, roles), COUNT(struct sp_config, n_roles), .max = SP_ROLES_MAX, .record = &role,
     .check = sp_check_role_name, .about = "what callers may use; a caller has the union of its roles"},
    {"pools", SP_KIND_MAP, SP_REQUIRED, AT(struct sp_config, pools), COUNT(struct sp_config, n_pools), .min = 1, .max = SP_POOLS_MAX,
     .record = &pool, .check = sp_check_name, .about = "model servers"},
    {"models", SP_KIND_MAP, SP_FILLED, AT(struct sp_config, models), COUNT(struct sp_config, n_models), .max = SP_MODELS_MAX,
     .record = &model, .check = sp_check_model_name,
     .about = "names that clients use, and who is asked for what then; for routes with models: body"},
    {"routes", SP_KIND_LIST, SP_REQUIRED, AT(struct sp_config, routes), COUNT(struct sp_config, n_routes), .min = 1, .max = SP_ROUTES_MAX,
     .record = &route, .about = "which requests go where; the first that matches wins"},
    {"admin", SP_KIND_RECORD, SP_FILLED, AT(struct sp_config, admin), .record = &admin, .about = "for operators"},
    {"logs", SP_KIND_RECORD, SP_FILLED, AT(struct sp_config, logs), .record = &logs, .about = "what is written where"},
    {"tracing", SP_KIND_RECORD, SP_LATER, UNPLACED, .record = &tracing, .about = "OpenTelemetry"},
    {"generation", SP_KIND_NUMBER, SP_HIDDEN | SP_REQUIRED, AT(struct sp_config, generation), .max = INT64_MAX},
    {"loaded", SP_KIND_NUMBER, SP_HIDDEN | SP_REQUIRED, AT(struct sp_config, loaded_wall_ms), .max = INT64_MAX},
    {"path", SP_KIND_TEXT, SP_HIDDEN | SP_REQUIRED, AT(struct sp_config, path)},
    {"api_key_list", SP_KIND_LIST, SP_HIDDEN, AT(struct sp_config, api_keys), COUNT(struct sp_config, n_api_keys), .max = SP_API_KEYS_MAX,
     .record = &sp_key_record},
};
const struct sp_record sp_config_record = RECORD(config_fields, struct sp_config, .name = "configuration", .finish = sp_finish_config);

/* ---- Asking the table ---- */

const struct sp_field *sp_record_field(const struct sp_record *record, const char *name) {
    for (size_t i = 0; i < record->n_fields; i++)
        if (strcmp(record->fields[i].name, name) == 0)
            return &record->fields[i];
    return NULL;
}

const struct sp_choice *sp_field_choice(const struct sp_field *field, struct sp_span name) {
    for (const struct sp_choice *choice = field->choices; choice && choice->name; choice++)
        if (sp_span_eq(name, sp_span_text(choice->name)))
            return choice;
    return NULL;
}

const char *sp_jwt_algorithm_name(enum sp_jwt_algorithm algorithm) {
    for (const struct sp_choice *choice = algorithms; choice->name; choice++)
        if (choice->value == 1u << algorithm)
            return choice->name;
    return "";
}

bool sp_kind_is_list(enum sp_kind kind) { return kind >= SP_KIND_TEXTS && kind <= SP_KIND_ROLES; }

static json_t *default_list(struct sp_span text) {
    json_t *list = json_array();
    struct sp_span rest = sp_span(text.at + 1, text.len - 2), item; /* without the brackets */
    while (list && rest.len > 0 && sp_span_split(&rest, ',', &item))
        if (json_array_append_new(list, json_stringn(item.at, item.len)) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

json_t *sp_field_default(const struct sp_field *field) {
    struct sp_span text = sp_span_text(field->fallback);
    uint64_t number;
    switch (field->kind) {
    case SP_KIND_LIST:
        return json_array();
    case SP_KIND_RECORD:
    case SP_KIND_MAP:
    case SP_KIND_PAIRS:
        return json_object();
    case SP_KIND_BOOL:
        return json_boolean(sp_span_eq(text, SP_SPAN("true")));
    case SP_KIND_NUMBER:
        if (sp_span_u64(text, &number))
            return json_integer((json_int_t)number);
        return json_string(field->fallback); /* auto */
    default:
        return sp_kind_is_list(field->kind) ? default_list(text) : json_string(field->fallback);
    }
}
