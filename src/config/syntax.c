/* What text of each kind may look like; the answers are parts of messages. */
#include <errno.h>

#include "syntax.h"
#include "table.h"

#define NAME_MAX_LEN 64

static bool is_letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

static bool is_visible(char c) { return c > 0x20 && c < 0x7f; }

/* RFC 9110 §5.6.2 */
static bool is_token(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if (!is_letter_or_digit(text.at[i]) && !(text.at[i] && strchr("!#$%&'*+-.^_`|~", text.at[i])))
            return false;
    return text.len > 0;
}

/* ---- Names ---- */

const char *sp_check_name(struct sp_span text) {
    bool fits = text.len > 0 && text.len <= NAME_MAX_LEN;
    for (size_t i = 0; fits && i < text.len; i++)
        fits = is_letter_or_digit(text.at[i]) || memchr("-_.", text.at[i], 3);
    return fits ? NULL : "a name is 1 to 64 letters, digits, - _ and .";
}

/* What a client may say in a JSON body without an escape, and what can be quoted in a message. */
static bool is_model_text(struct sp_span text, size_t max) {
    bool fits = text.len > 0 && text.len <= max && text.at[0] != ' ' && text.at[text.len - 1] != ' ';
    for (size_t i = 0; fits && i < text.len; i++)
        fits = (is_visible(text.at[i]) || text.at[i] == ' ') && !memchr("\"'\\", text.at[i], 3);
    return fits;
}

const char *sp_check_model_name(struct sp_span text) {
    if (!is_model_text(text, SP_CONFIG_MODEL_MAX))
        return "a model is 1 to 128 printable ASCII characters without quotes and backslash";
    return memchr(text.at, '*', text.len) ? "a model's name holds no *, which stands for any characters in `roles`" : NULL;
}

const char *sp_check_model_alias(struct sp_span text) {
    return is_model_text(text, SP_MODEL_ALIAS_MAX) ? NULL : "expected 1 to 256 printable ASCII characters without quotes and backslash";
}

const char *sp_check_model_pattern(struct sp_span text) {
    return is_model_text(text, SP_CONFIG_MODEL_MAX) ? NULL
                                                    : "expected a model or a pattern such as llama-3*, 1 to 128 printable ASCII characters "
                                                      "without quotes and backslash";
}

/* Issuers choose these, and some choose URNs. */
const char *sp_check_role_name(struct sp_span text) {
    bool fits = text.len > 0 && text.len <= 128;
    for (size_t i = 0; fits && i < text.len; i++)
        fits = is_visible(text.at[i]);
    return fits ? NULL : "a role is 1 to 128 visible ASCII characters without blanks";
}

const char *sp_check_plain_name(struct sp_span text) {
    if (text.len == 0 || text.len > 128)
        return "expected 1 to 128 characters";
    return memchr(text.at, ' ', text.len) ? "it must not contain a blank" : NULL;
}

/* What systemd takes as a credential's name (systemd.exec(5)): a file name, of which nothing can lead out of the folder. */
const char *sp_check_credential_name(struct sp_span text) {
    if (text.len == 0 || text.len > 255 || text.at[0] == '.')
        return "expected the name in LoadCredential=NAME:PATH, which does not begin with a dot";
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] <= ' ' || text.at[i] > '~' || text.at[i] == '/' || text.at[i] == ':')
            return "expected the name in LoadCredential=NAME:PATH, without blank, slash or colon";
    return NULL;
}

/* What people call a thing or a customer. */
const char *sp_check_label(struct sp_span text) {
    if (text.len == 0 || text.len > 128)
        return "expected 1 to 128 characters";
    return text.at[0] == ' ' || text.at[text.len - 1] == ' ' ? "it must not begin or end with a blank" : NULL;
}

const char *sp_check_not_empty(struct sp_span text) { return text.len > 0 ? NULL : "it is empty; say something or leave it out"; }

const char *sp_check_claim_path(struct sp_span text) {
    for (struct sp_span rest = text, part; sp_span_split(&rest, '.', &part);)
        if (part.len == 0)
            return "expected the name of a claim, with dots to reach into objects, such as realm_access.roles";
    return text.len > 0 ? NULL : "expected the name of a claim";
}

/* ---- Addresses ---- */

const char *sp_check_listen_address(struct sp_span text) {
    static const char expected[] = "expected host:port, [v6]:port (an address or localhost) or systemd:NAME";
    struct sp_span host;
    bool bracketed;
    uint16_t port;
    if (sp_span_starts(text, SP_SPAN("systemd:")))
        return sp_check_name(sp_span_from(text, sizeof "systemd:" - 1)) ? expected : NULL;
    if (sp_split_host_port(text, &host, &bracketed, &port) < 0 || !sp_is_literal_or_localhost(host))
        return expected;
    return NULL;
}

const char *sp_check_metrics_address(struct sp_span text) {
    struct sp_span host;
    bool bracketed;
    uint16_t port;
    if (sp_split_host_port(text, &host, &bracketed, &port) < 0)
        return "expected host:port, such as 127.0.0.1:9464";
    return sp_is_loopback(host) ? NULL : "metrics are plain HTTP and stay on this machine; use a loopback address such as 127.0.0.1:9464";
}

static const char *check_socket_url(struct sp_span path) {
    for (size_t i = 0; i < path.len; i++)
        if (path.at[i] < 0x20 || path.at[i] == 0x7f)
            return "the path of a socket holds no control characters";
    if (path.len < 2 || path.at[0] != '/')
        return "expected unix:///path, such as unix:///run/redis/redis.sock";
    return path.len <= SP_SOCKET_PATH_MAX ? NULL : "the path of a Unix socket has at most 107 bytes";
}

static const char needs_resolver[] = "a host name is not yet supported here; use an address or localhost";

const char *sp_check_redis_url(struct sp_span text) {
    if (sp_span_starts(text, SP_SPAN("unix://")))
        return check_socket_url(sp_span_from(text, sizeof "unix://" - 1));
    struct sp_url url;
    const char *problem = sp_url_parse(text, &url);
    if (problem)
        return memmem(text.at, text.len, "@", 1) ? "names and passwords do not belong in the URL; use username and password_file" : problem;
    if ((!sp_span_eq(url.scheme, SP_SPAN("redis")) && !sp_span_eq(url.scheme, SP_SPAN("rediss"))) || url.port == 0)
        return "expected redis://host:port, rediss://host:port, either with /database, or unix:///path";
    if (!sp_is_literal_or_localhost(url.host))
        return needs_resolver;
    uint64_t database;
    struct sp_span number = sp_span_from(url.path, 1);
    if (number.len > 0 && (number.len > 5 || !sp_span_u64(number, &database) || database > UINT16_MAX))
        return "the database after the slash must be a number from 0 to 65535";
    return NULL;
}

const char *sp_check_redis_node(struct sp_span text) {
    struct sp_span host;
    bool bracketed;
    uint16_t port;
    if (sp_split_host_port(text, &host, &bracketed, &port) < 0)
        return "expected host:port or [v6]:port, such as 10.0.0.1:6379";
    return sp_is_literal_or_localhost(host) ? NULL : needs_resolver;
}

const char *sp_check_redis_prefix(struct sp_span text) {
    bool braced = text.len > 0 && (memchr(text.at, '{', text.len) || memchr(text.at, '}', text.len));
    return braced ? "it must not contain { or }, which say where a cluster keeps a key" : NULL;
}

const char *sp_check_server_url(struct sp_span text) {
    if (sp_span_starts(text, SP_SPAN("h2c://")))
        return "`h2c://` is not yet supported; use http:// or https://";
    struct sp_url url;
    const char *problem = sp_url_parse(text, &url);
    if (problem)
        return problem;
    bool fits = sp_span_eq(url.scheme, SP_SPAN("http")) || sp_span_eq(url.scheme, SP_SPAN("https"));
    return fits ? NULL : "expected a URL that begins with http:// or https://";
}

const char *sp_check_server_name(struct sp_span text) {
    bool address = text.len > 0 && memchr(text.at, ':', text.len); /* an IPv6 one stands without brackets here */
    return sp_is_host(text, address) ? NULL : "expected a host name or an address without a port, such as gpu.internal";
}

bool sp_is_http_url(struct sp_span text) { return sp_span_starts(text, SP_SPAN("https://")) || sp_span_starts(text, SP_SPAN("http://")); }

/* Keys and answers that came over an open network would be anybody's to choose. */
const char *sp_check_fetched_url(struct sp_span text) {
    const char *query = text.len ? memchr(text.at, '?', text.len) : NULL;
    struct sp_url url;
    if (text.len && memchr(text.at, '#', text.len))
        return "take the fragment (#) off the URL";
    for (size_t i = 0; i < text.len; i++)
        if (!is_visible(text.at[i]))
            return "a URL holds no blanks and no non-ASCII characters";
    const char *problem = sp_url_parse(query ? sp_span(text.at, (size_t)(query - text.at)) : text, &url);
    if (problem)
        return problem;
    if (sp_span_eq(url.scheme, SP_SPAN("https")) || (sp_span_eq(url.scheme, SP_SPAN("http")) && sp_is_loopback(url.host)))
        return NULL;
    return "expected https://; http:// only to this machine (127.0.0.1, [::1] or localhost)";
}

const char *sp_check_jwks(struct sp_span text) { return sp_is_http_url(text) ? sp_check_fetched_url(text) : NULL; }

/* Without blanks, so that an issuer and a subject side by side can only be read in one way. */
const char *sp_check_issuer_name(struct sp_span text) {
    bool fits = text.len > 0 && text.len <= 512;
    for (size_t i = 0; fits && i < text.len; i++)
        fits = is_visible(text.at[i]);
    return fits ? NULL : "an issuer is a URL, or other visible ASCII text without blanks";
}

/* ---- HTTP ---- */

/* `name` is compared as a whole, or as a beginning where the list's entry ends with "-". */
static bool is_listed(struct sp_span name, const char *const *list) {
    for (; *list; list++) {
        struct sp_span entry = sp_span_text(*list);
        bool prefix = entry.at[entry.len - 1] == '-';
        if (name.len >= entry.len && sp_span_eq_nocase(sp_span(name.at, prefix ? entry.len : name.len), entry))
            return true;
    }
    return false;
}

/* What decides where a message ends and to whom it goes is never an administrator's choice: a slip there is request smuggling. */
static const char *const framing[] = {
    "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "proxy-", "host", "expect", ":", NULL};
static const char *const credentials[] = {"authorization", "x-api-key", "api-key", NULL};
static const char *const gateways[] = {"x-forwarded-", "forwarded", "x-sallyport-", "x-request-id", "traceparent", NULL};

static const char *check_header_name(struct sp_span name) {
    if (!is_token(name) || name.len > NAME_MAX_LEN)
        return "expected the name of a header, 1 to 64 letters, digits and -";
    return is_listed(name, framing) ? "this header frames or routes messages; the gateway writes it itself" : NULL;
}

const char *sp_check_request_set(struct sp_span name) {
    const char *problem = check_header_name(name);
    if (!problem && is_listed(name, credentials))
        problem = "credentials for the servers belong in the pool's `credential`";
    return !problem && is_listed(name, gateways) ? "the gateway writes this header itself" : problem;
}

const char *sp_check_request_allow(struct sp_span name) {
    const char *problem = check_header_name(name);
    if (!problem && is_listed(name, credentials))
        problem = "the client's credentials never get through; what the servers need belongs in the pool's `credential`";
    return !problem && is_listed(name, gateways) ? "the gateway writes this header itself" : problem;
}

const char *sp_check_credential_header(struct sp_span name) {
    const char *problem = check_header_name(name);
    return !problem && is_listed(name, gateways) ? "the gateway writes this header itself" : problem;
}

const char *sp_check_response_allow(struct sp_span name) { return check_header_name(name); }

const char *sp_check_response_set(struct sp_span name) { return check_header_name(name); }

const char *sp_check_header_value(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if (!is_visible(text.at[i]) && text.at[i] != ' ')
            return "a header's value is ASCII without line breaks";
    return text.len <= 4096 ? NULL : "a header's value is at most 4096 bytes";
}

const char *sp_check_host_pattern(struct sp_span text) {
    struct sp_span name = text;
    if (sp_span_starts(text, SP_SPAN("*.")))
        name = sp_span_from(text, 2);
    bool bracketed = name.len > 2 && name.at[0] == '[' && name.at[name.len - 1] == ']';
    if (bracketed)
        name = sp_span(name.at + 1, name.len - 2);
    return sp_is_host(name, bracketed) ? NULL : "expected a host name without a port, such as api.example.com or *.example.com";
}

static bool is_path(struct sp_span text) {
    bool fits = text.len > 0 && text.at[0] == '/';
    for (size_t i = 0; fits && i < text.len; i++)
        fits = is_visible(text.at[i]) && text.at[i] != '?' && text.at[i] != '#';
    return fits;
}

const char *sp_check_route_path(struct sp_span text) {
    bool exact = text.len > 0 && text.at[0] == '=';
    return is_path(sp_span_from(text, exact)) ? NULL : "a path begins with / (or =/ for exactly that path) and holds no blank, ? or #";
}

const char *sp_check_strip_prefix(struct sp_span text) {
    if (text.len == 0)
        return NULL;
    bool fits = is_path(text) && text.at[text.len - 1] != '/';
    return fits ? NULL : "expected a path that begins with / and ends without, such as /llama";
}

const char *sp_check_probe_path(struct sp_span text) {
    bool fits = text.len > 0 && text.at[0] == '/';
    for (size_t i = 0; fits && i < text.len; i++)
        fits = is_visible(text.at[i]) && text.at[i] != '#';
    return fits ? NULL : "a path begins with / and holds no blank or #";
}

const char *sp_check_method(struct sp_span text) {
    if (sp_span_eq(text, SP_SPAN("CONNECT")) || sp_span_eq(text, SP_SPAN("TRACE")))
        return "CONNECT and TRACE are never forwarded; remove it";
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] >= 'a' && text.at[i] <= 'z')
            return "methods are written in capitals, such as GET";
    return is_token(text) && text.len <= 24 ? NULL : "expected a method, such as GET";
}

/* ---- Contents of files ---- */

const char *sp_check_key_set(struct sp_span text) {
    json_t *set = json_loadb(text.at, text.len, JSON_REJECT_DUPLICATES, NULL);
    bool is_set = json_is_array(json_object_get(set, "keys"));
    json_decref(set);
    return is_set ? NULL : "it is not a JSON Web Key Set: expected a JSON object with `keys`, a list";
}

const char *sp_check_shared_secret(struct sp_span text) {
    return text.len >= 32 ? NULL : "the secret is shorter than the 32 bytes HS256 needs; make a new one with `openssl rand -hex 32`";
}
