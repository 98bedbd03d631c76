/* sallyport ctl: HTTP to the admin socket of a running gateway. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include <curl/curl.h>
#include <jansson.h>

#include <sallyport/config.h>
#include <sallyport/revocations.h>

#include "commands.h"
#include "status.h"

#define SOCKET_DEFAULT "/run/sallyport/admin.sock"
#define ANSWER_MAX ((size_t)16 * 1024 * 1024)
#define CONFIG_MAX ((size_t)4 * 1024 * 1024)
#define TIMEOUT_S 90L /* control gives the supervisor 60 */

static const struct action {
    const char *name, *method, *path, *argument; /* argument NULL: none; method NULL: reserved, not there yet */
    void (*print)(json_t *answer); /* NULL: the outcome alone */
} actions[] = {
    {"status", "GET", "/api/v1/status", NULL, sp_print_status},
    {"backends", "GET", "/api/v1/backends", NULL, sp_print_backends},
    {"reload", "POST", "/api/v1/reload", NULL, NULL},
    {"drain", "POST", "/api/v1/drain", NULL, NULL},
    {"loglevel", "PUT", "/api/v1/loglevel", "LEVEL", NULL},
    {"revoke", "POST", "/api/v1/keys/%s/revoke", "ID", NULL},
    {"limits", NULL, NULL, NULL, NULL},
};

static void help(void) {
    puts("usage: sallyport ctl ACTION [--json] [--socket PATH | --config FILE]\n"
         "\n"
         "  status            processes, limits, backends and routes at a glance\n"
         "  backends          the model servers and whether they are up\n"
         "  reload            read the configuration again; all or nothing\n"
         "  drain             finish what is in flight and end, as on TERM\n"
         "  loglevel LEVEL    error, warn, info or debug, until the next reload\n"
         "  revoke ID         refuse this API key from now on, here and on every gateway that shares the Redis, until\n"
         "                    they are started again; `sallyport key revoke` also writes it down\n"
         "\n"
         "  --now             with revoke: what the key's callers have open ends too\n"
         "  --socket PATH     the gateway's admin socket (" SOCKET_DEFAULT ")\n"
         "  --config FILE     take the socket's path from this configuration\n"
         "  --json            the answer as the gateway gave it\n"
         "  --help            this text\n"
         "\n"
         "Who may do what is decided by the groups under admin.groups. Exit status: 0 done, 1 refused or not\n"
         "reached, 2 wrong usage.");
}

/* ---- Which socket ---- */

static int read_text(const char *path, struct sp_buffer *out) {
    _cleanup_(sp_close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (;;) {
        int r = sp_buffer_reserve(out, 4096);
        if (r < 0)
            return r;
        ssize_t n = read(fd, sp_buffer_tail(out), sp_buffer_room(out));
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        sp_buffer_added(out, (size_t)n);
    }
}

/* The directory that relative paths in `path` are taken from. */
static char *directory_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? sp_span_dup(sp_span(path, slash == path ? 1 : (size_t)(slash - path))) : strdup(".");
}

/* Without the files it names: whoever asks for the status need not be able to read the keys. */
static char *socket_of(const char *path) {
    _cleanup_(sp_buffer_free) struct sp_buffer text;
    sp_buffer_init(&text, CONFIG_MAX);
    _cleanup_(sp_free_pointer) char *directory = directory_of(path), *bytes = NULL;
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    struct sp_config *config = NULL;
    size_t len = 0;
    char *found = NULL;
    int r = directory ? read_text(path, &text) : -ENOMEM;
    if (r >= 0)
        r = sp_config_load_text(path, sp_buffer_span(&text), directory, false, NULL, 1, &errors, &document);
    if (r >= 0)
        r = sp_document_encode(document, SP_READER_SUPERVISOR, &bytes, &len);
    if (r >= 0)
        r = sp_config_decode(sp_span(bytes, len), &config);
    if (r >= 0 && config->admin.socket.text)
        found = strdup(config->admin.socket.text);
    for (size_t i = 0; i < errors.count; i++)
        fprintf(stderr, "%s\n", errors.line[i]);
    if (r < 0 && errors.count == 0)
        fprintf(stderr, "sallyport ctl: cannot read %s: %s\n", path, strerror(-r));
    else if (r >= 0 && !found)
        fprintf(stderr, "sallyport ctl: %s has no admin.socket\n", path);
    sp_config_errors_free(&errors);
    sp_config_unref(config);
    sp_document_free(document);
    return found;
}

/* ---- Asking ---- */

static size_t take_bytes(char *bytes, size_t size, size_t n, void *buffer) {
    return sp_buffer_append(buffer, bytes, size * n) < 0 ? 0 : size * n;
}

/* What is asked for: an action, with its argument in the path or the body. */
struct question {
    const struct action *action;
    const char *argument;
    bool now;
};

static struct curl_slist *prepare(CURL *curl, const char *socket_path, const struct question *question, const char *body,
                                  struct sp_buffer *answer) {
    const struct action *action = question->action;
    const char *path = action->path, *place = strstr(path, "%s");
    char url[128];
    snprintf(url, sizeof url, "http://localhost%.*s%s%s", (int)(place ? (size_t)(place - path) : strlen(path)), path,
             place ? question->argument : "", place ? place + 2 : "");
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* none, whatever the environment says */
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 5L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, action->method);
    if (strcmp(action->method, "GET") == 0)
        return NULL;
    curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, body);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    return headers;
}

/* The HTTP status, or -1 after saying on stderr why there is none. */
static long ask(const char *socket_path, const struct question *question, const char *body, struct sp_buffer *answer) {
    CURL *curl = curl_easy_init();
    if (!curl) {
        fputs("sallyport ctl: libcurl cannot start\n", stderr);
        return -1;
    }
    struct curl_slist *headers = prepare(curl, socket_path, question, body, answer);
    long status = -1, problem = 0;
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    } else {
        curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &problem);
        fprintf(stderr, "sallyport ctl: cannot ask the gateway at %s: %s%s\n", socket_path,
                problem ? strerror((int)problem) : curl_easy_strerror(code),
                problem == EACCES                              ? "; your groups do not permit it (admin.groups)"
                : problem == ENOENT || problem == ECONNREFUSED ? "; is it running, and is this its socket?"
                                                               : "");
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return status;
}

static void print_outcome(json_t *answer, bool ok) {
    json_t *line;
    size_t i;
    const char *message = json_string_value(json_object_get(answer, "message"));
    json_t *errors = json_object_get(answer, "errors");
    json_array_foreach(errors, i, line) fprintf(stderr, "%s\n", json_string_value(line) ? json_string_value(line) : "?");
    if (json_array_size(errors) == 0 && message)
        fprintf(ok ? stdout : stderr, "%s\n", message);
}

static int show(const struct action *action, long status, struct sp_span bytes, bool raw) {
    bool ok = status >= 200 && status < 300;
    if (raw)
        printf(SP_SPAN_FMT "\n", SP_SPAN_ARG(bytes));
    json_t *answer = json_loadb(bytes.at, bytes.len, 0, NULL);
    if (!answer) {
        fprintf(stderr, "sallyport ctl: the gateway answered %ld with something that is not JSON\n", status);
        return SP_EXIT_FAILED;
    }
    if (!raw && ok && action->print)
        action->print(answer);
    else if (!raw)
        print_outcome(answer, ok);
    json_decref(answer);
    return ok ? SP_EXIT_OK : SP_EXIT_FAILED;
}

static int write_body(const struct question *question, struct sp_buffer *body) {
    if (question->now)
        return sp_buffer_append_span(body, SP_SPAN("{\"now\":true}"));
    if (!question->argument || strstr(question->action->path, "%s"))
        return sp_buffer_append_span(body, SP_SPAN("{}"));
    int r = sp_buffer_append_span(body, SP_SPAN("{\"level\":"));
    if (r >= 0)
        r = sp_buffer_append_json(body, sp_span_text(question->argument));
    return r < 0 ? r : sp_buffer_append_span(body, SP_SPAN("}"));
}

static int perform(const char *socket_path, const struct question *question, bool raw) {
    _cleanup_(sp_buffer_free) struct sp_buffer body;
    sp_buffer_init(&body, 16 * 1024);
    int r = write_body(question, &body);
    if (r >= 0)
        r = sp_buffer_append(&body, "", 1); /* its NUL */
    if (r < 0)
        return sp_wrong_usage("ctl", "this is no %s", question->action->argument);
    _cleanup_(sp_buffer_free) struct sp_buffer answer;
    sp_buffer_init(&answer, ANSWER_MAX);
    long status = ask(socket_path, question, sp_buffer_span(&body).at, &answer);
    return status < 0 ? SP_EXIT_FAILED : show(question->action, status, sp_buffer_span(&answer), raw);
}

static const struct action *find(const char *name) {
    for (size_t i = 0; i < SP_COUNT(actions); i++)
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    return NULL;
}

/* With the socket that was named, or the one of a configuration, or the usual one. */
static int perform_at(const char *socket_path, const char *config, const struct question *question, bool raw) {
    _cleanup_(sp_free_pointer) char *configured = config ? socket_of(config) : NULL;
    if (config && !configured)
        return SP_EXIT_FAILED;
    if (!socket_path)
        socket_path = configured ? configured : SOCKET_DEFAULT;
    return perform(socket_path, question, raw);
}

int sp_ctl_revoke(const char *socket_path, const char *config, const char *key_id, bool now) {
    const struct question question = {.action = find("revoke"), .argument = key_id, .now = now};
    return perform_at(socket_path, config, &question, false);
}

int sp_command_ctl(int argc, char **argv) {
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},
                                            {"config", required_argument, NULL, 'c'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"now", no_argument, NULL, 'n'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *socket_path = NULL, *config = NULL;
    bool json = false, now = false;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (option) {
        case 's': socket_path = optarg; break;
        case 'c': config = optarg; break;
        case 'j': json = true; break;
        case 'n': now = true; break;
        case 'h': help(); return SP_EXIT_OK;
        default: return sp_wrong_option("ctl", option, argv);
        }
    }
    if (optind >= argc)
        return sp_wrong_usage("ctl", "an action is missing: status, backends, reload, drain, loglevel or revoke");
    const struct action *action = find(argv[optind]);
    if (!action)
        return sp_wrong_usage("ctl", "there is no action %s", argv[optind]);
    if (!action->method)
        return sp_not_yet("ctl", action->name);
    int n_arguments = argc - optind - 1, n_wanted = action->argument ? 1 : 0;
    if (n_arguments != n_wanted)
        return sp_wrong_usage("ctl", "%s takes %s", action->name, action->argument ? action->argument : "no argument");
    const struct question question = {.action = action, .argument = n_wanted ? argv[optind + 1] : NULL, .now = now};
    bool revokes = strcmp(action->name, "revoke") == 0;
    if (now && !revokes)
        return sp_wrong_usage("ctl", "--now goes with revoke");
    if (revokes && !sp_key_id_valid(sp_span_text(question.argument)))
        return sp_wrong_usage("ctl", "%s is no key's ID: 8 letters and digits (sallyport key list)", question.argument);
    if (socket_path && config)
        return sp_wrong_usage("ctl", "--socket and --config together: give one");
    return perform_at(socket_path, config, &question, json);
}
