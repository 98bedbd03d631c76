/* sallyport why: one recent refusal in whole sentences: when, who, what, by what, and what can be done. */
#include <getopt.h>
#include <stdio.h>

#include <sallyport/account.h>

#include "commands.h"
#include "gateway.h"

static void help(void) {
    puts("usage: sallyport why REQUEST-ID [--json] [--socket PATH | --config FILE]\n"
         "\n"
         "Why the gateway refused a request: when, who asked for what, which limit or rule said no, and what can be\n"
         "done. REQUEST-ID stands in the answer's x-request-id and in the access log. The gateway keeps the last\n"
         "2,048 refusals of each worker.\n"
         "\n"
         "  --socket PATH     the gateway's admin socket (" SP_ADMIN_SOCKET_DEFAULT ")\n"
         "  --config FILE     take the socket's path from this configuration\n"
         "  --json            the answer as the gateway gave it\n"
         "  --help            this text\n"
         "\n"
         "Exit status: 0 told, 1 nothing is known of it or the gateway was not reached, 2 wrong usage.");
}

/* What the operator or the caller can do, by the reason as the access log has it. A reason that ends in a blank stands for all that begin
 * with it. */
static const struct advice {
    const char *reason, *text;
} advices[] = {
    {"login limit", "Wait: too many logins of this address failed. See the limits that count only unauthorized requests."},
    {"role", "Give the caller a role that the route asks for (`roles` of the route)."},
    {"scope", "Have the issuer grant a scope that the route asks for (`scopes` of the route)."},
    {"model", "Permit the model in one of the caller's roles (`models` of the role)."},
    {"unknown model", "Is the name spelt right? `models` of the configuration lists what there is."},
    {"no model", "The body must name a model: the route has no pool of its own."},
    {"two models", "Name the model in the body alone, not in the query too."},
    {"max_tokens too large", "Ask for fewer tokens, or raise `max_tokens.cap` of the route."},
    {"no route", "No route has this host and path; see `routes` of the configuration."},
    {"method", "The route does not take this method; see its `methods`."},
    {"no credential", "Send Authorization: Bearer, x-api-key or api-key with a credential."},
    {"two credentials", "Send one credential: two different ones were there."},
    {"this kind of credential is not taken here", "See `authenticate` of the route, or send another kind."},
    {"unknown api key", "The file of API keys has no key with this ID (sallyport key list): it was removed, or is another gateway's."},
    {"malformed api key", "The key was cut off or mistyped: its checksum is wrong."},
    {"wrong api key", "The secret does not fit the key's ID: it was rotated, or is another gateway's."},
    {"revoked api key", "The key was revoked; make another one (sallyport key new)."},
    {"key revoked", "The key was revoked while the request ran; make another one (sallyport key new)."},
    {"expired api key", "The key has expired; make another one (sallyport key rotate)."},
    {"unknown issuer", "No issuer in `issuers` signs as what the token's iss says."},
    {"audience", "The token is meant for somebody else: compare its aud with `audience` of the issuer."},
    {"issued in the future", "Compare the clocks of the issuer and of this machine; see `leeway` of the issuer."},
    {"not yet valid", "Compare the clocks of the issuer and of this machine; see `leeway` of the issuer."},
    {"expired", "The token has expired: the caller needs a new one."},
    {"body too large", "Raise `max_body` of the route, or send less."},
    {"memory budget spent", "Too many bodies were under way at once: raise `memory.bodies`, or lower `max_body`."},
    {"queue full", "All servers were busy and the queue full: add servers, or raise `max_in_flight` or the pool's `queue`."},
    {"queue timed out", "All servers were busy for longer than the pool's queue lets wait: add servers, or raise `max_in_flight`."},
    {"backends busy", "All servers were busy: add servers, raise `max_in_flight`, or give the pool a `queue`."},
    {"no healthy backend", "No server of the pool is up: see sallyport ctl backends."},
    {"backend too slow", "The server took too long: see the route's timeouts, and the server's own log."},
    {"connect timed out", "The server did not answer: see sallyport ctl backends."},
    {"backend certificate not accepted", "Compare the server's certificate with `tls` of the pool; the log says more."},
    {"backend ", "The server or the network to it failed: see sallyport ctl backends, and the server's own log."},
    {"request too slow", "The client or its network was too slow: see the timeouts of the listener and the route."},
    {"request head too slow", "The client or its network was too slow: see the timeouts of the listener and the route."},
    {"headers too large", "The request's headers are larger than any are taken."},
    {"too many limits", "Fewer limits: more apply to this caller than can be decided at once."},
};

static const char *advice_of(const char *reason, json_int_t status) {
    for (size_t i = 0; i < SP_COUNT(advices); i++) {
        size_t len = strlen(advices[i].reason);
        bool begins = advices[i].reason[len - 1] == ' ';
        if (begins ? strncmp(reason, advices[i].reason, len) == 0 : strcmp(reason, advices[i].reason) == 0)
            return advices[i].text;
    }
    return status == 401   ? "The credential was not accepted; `issuers`, `api_keys` and `client_ca` say whose are."
           : status >= 500 ? "See the gateway's log of that time."
                           : "The request has to be changed.";
}

/* What a limit's refusal calls for, by its kind. */
static const struct kind {
    const char *name, *never, *advice;
} kinds[] = {
    {"tokens", "It can never fit: ask for fewer tokens (max_tokens), or raise `token_burst` of the limit.",
     "Wait, ask for fewer tokens (max_tokens), or raise `tokens` or `token_burst` of the limit and reload."},
    {"requests", "It can never fit: raise `request_burst` of the limit.",
     "Wait, or raise `requests` or `request_burst` of the limit and reload."},
    {"concurrency", "It can never fit: raise `concurrency` of the limit.",
     "Wait until others have ended, or raise `concurrency` of the limit and reload."},
};

/* ---- Telling ---- */

/* Some of it was chosen by clients: what a terminal would obey is left out. */
static void put(const char *text) {
    for (const char *at = text; *at; at++) {
        unsigned char c = (unsigned char)*at, next = (unsigned char)at[1];
        bool c1 = c == 0xc2 && next >= 0x80 && next < 0xa0;
        putchar(c < 0x20 || c == 0x7f || c1 ? '?' : c);
        at += c1;
    }
}

static const char *text_of(json_t *object, const char *member) { return json_string_value(json_object_get(object, member)); }

static json_int_t number_of(json_t *object, const char *member) { return json_integer_value(json_object_get(object, member)); }

/* "before TEXT after", or nothing when it is not known. *begun: something was said in this line. */
static void put_part(json_t *refusal, const char *member, const char *before, bool *begun) {
    const char *text = text_of(refusal, member);
    if (!text)
        return;
    fputs(*begun ? ", " : "", stdout);
    fputs(before, stdout);
    put(text);
    *begun = true;
}

static void tell_who(json_t *refusal) {
    bool begun = false;
    fputs("  Who:   ", stdout);
    put_part(refusal, "subject", "", &begun);
    put_part(refusal, "tenant", "tenant ", &begun);
    put_part(refusal, "key_id", "key ", &begun);
    if (!begun)
        fputs("nobody known", stdout);
    begun = true;
    put_part(refusal, "client", "from ", &begun);
    putchar('\n');
}

static void tell_what(json_t *refusal) {
    bool begun = false;
    fputs("  What:  ", stdout);
    put_part(refusal, "path", "", &begun);
    put_part(refusal, "route", "route ", &begun);
    put_part(refusal, "model", "model ", &begun);
    puts(begun ? "" : "nothing was understood of it");
}

/* Rounded up: whoever waits so long does not wait in vain. */
static void put_duration(json_int_t ms) {
    long long tenths = ((long long)ms + 99) / 100, seconds = (tenths + 9) / 10, minutes = (seconds + 59) / 60;
    if (tenths < 600)
        printf("%lld.%lld s", tenths / 10, tenths % 10);
    else if (seconds < 3600)
        printf("%lld min %lld s", seconds / 60, seconds % 60);
    else
        printf("%lld h %lld min", minutes / 60, minutes % 60);
}

static const struct kind *kind_of(const char *name) {
    for (size_t i = 0; name && i < SP_COUNT(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

/* A shadow limit says only which it is. */
static void tell_limit(json_t *limit, bool shadow) {
    const char *name = text_of(limit, "name"), *kind = text_of(limit, "kind");
    json_int_t asked = number_of(limit, "asked"), most = number_of(limit, "most"), wait_ms = number_of(limit, "retry_after_ms");
    printf("  Limit: '");
    put(name ? name : "?");
    fputs("'", stdout);
    if (kind) {
        fputs(" on ", stdout);
        put(kind);
    }
    if (kind && strcmp(kind, "concurrency") == 0)
        printf(": all %lld places were taken", (long long)most);
    else if (kind && !shadow)
        printf(": %lld asked for, %lld left, %lld at most", (long long)asked, (long long)number_of(limit, "remaining"), (long long)most);
    if (!shadow && asked <= most && wait_ms > 0) {
        fputs("; it would have fit after ", stdout);
        put_duration(wait_ms);
    }
    puts(".");
}

static void tell_advice(json_t *refusal, json_t *limit, bool shadow) {
    const char *reason = text_of(refusal, "reason");
    const struct kind *kind = kind_of(text_of(limit, "kind"));
    if (json_is_true(json_object_get(refusal, "degraded")))
        puts("  Note:  Redis was away: this was decided without the shared limits, as `on_outage` of the limit says.");
    fputs("  Do:    ", stdout);
    if (shadow)
        puts("Nothing: it was let through. Without `shadow: true` the limit would have refused it.");
    else if (kind)
        puts(number_of(limit, "asked") > number_of(limit, "most") ? kind->never : kind->advice);
    else
        puts(advice_of(reason ? reason : "", number_of(refusal, "status")));
}

static void tell(json_t *refusal) {
    bool shadow = json_is_true(json_object_get(refusal, "shadow"));
    const char *id = text_of(refusal, "request_id"), *time = text_of(refusal, "time"), *reason = text_of(refusal, "reason");
    json_t *limit = json_object_get(refusal, "limit"), *status = json_object_get(refusal, "status");
    fputs("Request ", stdout);
    put(id ? id : "?");
    printf(shadow ? " would have been refused at " : " was refused at ");
    put(time ? time : "?");
    if (json_is_integer(status))
        printf(shadow ? " and came to status %lld: " : " with status %lld: ", (long long)json_integer_value(status));
    else
        fputs(", without an answer: ", stdout);
    put(reason ? reason : "no reason is known");
    puts(".");
    tell_who(refusal);
    tell_what(refusal);
    if (json_is_object(limit))
        tell_limit(limit, shadow);
    tell_advice(refusal, limit, shadow);
}

static void print(json_t *answer) {
    json_t *refusals = json_object_get(answer, "refusals"), *refusal;
    size_t i;
    if (json_array_size(refusals) > 1)
        printf("%zu refusals have this ID: it was chosen more than once. The newest first.\n\n", json_array_size(refusals));
    json_array_foreach(refusals, i, refusal) {
        fputs(i > 0 ? "\n" : "", stdout);
        tell(refusal);
    }
}

int sp_command_why(int argc, char **argv) {
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},
                                            {"config", required_argument, NULL, 'c'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct sp_gateway gateway = {.command = "why"};
    bool json = false;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (option) {
        case 's': gateway.socket_path = optarg; break;
        case 'c': gateway.config = optarg; break;
        case 'j': json = true; break;
        case 'h': help(); return SP_EXIT_OK;
        default: return sp_wrong_option("why", option, argv);
        }
    }
    if (argc - optind != 1)
        return sp_wrong_usage("why", argc == optind ? "which request? Its ID is missing" : "one request at a time");
    const char *id = argv[optind];
    if (!sp_request_id_sane(sp_span_text(id)))
        return sp_wrong_usage("why", "this is no request's ID: 1 to 64 letters, digits, - _ . and :");
    if (gateway.socket_path && gateway.config)
        return sp_wrong_usage("why", "--socket and --config together: give one");
    char path[128];
    snprintf(path, sizeof path, "/api/v1/refusals/%s", id);
    _cleanup_(sp_buffer_free) struct sp_buffer answer;
    sp_buffer_init(&answer, SP_ANSWER_MAX);
    long status = sp_gateway_ask(&gateway, "GET", path, NULL, &answer);
    return status < 0 ? SP_EXIT_FAILED : sp_gateway_show(&gateway, status, sp_buffer_span(&answer), json, print);
}
