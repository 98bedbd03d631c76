#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <curl/curl.h>

#include <sallyport/config.h>

#include "commands.h"
#include "gateway.h"
#include "status.h"

#define CONFIG_MAX ((size_t)4 * 1024 * 1024)
#define TIMEOUT_S  90L /* control gives the supervisor 60 */

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
static char *socket_of(const char *command, const char *path) {
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
        fprintf(stderr, "sallyport %s: cannot read %s: %s\n", command, path, strerror(-r));
    else if (r >= 0 && !found)
        fprintf(stderr, "sallyport %s: %s has no admin.socket\n", command, path);
    sp_config_errors_free(&errors);
    sp_config_unref(config);
    sp_document_free(document);
    return found;
}

/* ---- Asking ---- */

static size_t take_bytes(char *bytes, size_t size, size_t n, void *buffer) {
    return sp_buffer_append(buffer, bytes, size * n) < 0 ? 0 : size * n;
}

static struct curl_slist *prepare(CURL *curl, const char *socket_path, const char *method, const char *path, const char *body,
                                  struct sp_buffer *answer) {
    char url[4096];
    snprintf(url, sizeof url, "http://localhost%s", path);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* none, whatever the environment says */
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 5L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    if (!body)
        return NULL;
    curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, body);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    return headers;
}

static void say_why_not(const char *command, const char *socket_path, CURL *curl, CURLcode code) {
    long problem = 0;
    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &problem);
    fprintf(stderr, "sallyport %s: cannot ask the gateway at %s: %s%s\n", command, socket_path,
            problem ? strerror((int)problem) : curl_easy_strerror(code),
            problem == EACCES                              ? "; your groups do not permit it (admin.groups)"
            : problem == ENOENT || problem == ECONNREFUSED ? "; is it running, and is this its socket?"
                                                           : "");
}

long sp_gateway_ask(const struct sp_gateway *gateway, const char *method, const char *path, const char *body, struct sp_buffer *answer) {
    _cleanup_(sp_free_pointer) char *configured = gateway->config ? socket_of(gateway->command, gateway->config) : NULL;
    if (gateway->config && !configured)
        return -1;
    const char *socket_path = gateway->socket_path ? gateway->socket_path : configured ? configured : SP_ADMIN_SOCKET_DEFAULT;
    CURL *curl = curl_easy_init();
    if (!curl) {
        fprintf(stderr, "sallyport %s: libcurl cannot start\n", gateway->command);
        return -1;
    }
    struct curl_slist *headers = prepare(curl, socket_path, method, path, body, answer);
    long status = -1;
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    else
        say_why_not(gateway->command, socket_path, curl, code);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return status;
}

/* ---- Telling ---- */

/* Workers and clients chose some of it. */
static void print_line(FILE *stream, const char *text) {
    json_t *printable = sp_printable(text);
    fprintf(stream, "%s\n", printable ? json_string_value(printable) : "?");
    json_decref(printable);
}

static void print_outcome(json_t *answer, bool ok) {
    json_t *line;
    size_t i;
    const char *message = json_string_value(json_object_get(answer, "message"));
    json_t *errors = json_object_get(answer, "errors");
    json_array_foreach(errors, i, line) print_line(stderr, json_string_value(line));
    if (json_array_size(errors) == 0 && message)
        print_line(ok ? stdout : stderr, message);
}

int sp_gateway_show(const struct sp_gateway *gateway, long status, struct sp_span bytes, bool raw, sp_print_answer *print) {
    bool ok = status >= 200 && status < 300;
    if (raw)
        printf(SP_SPAN_FMT "\n", SP_SPAN_ARG(bytes));
    json_t *answer = json_loadb(bytes.at, bytes.len, 0, NULL);
    if (!answer) {
        fprintf(stderr, "sallyport %s: the gateway answered %ld with something that is not JSON\n", gateway->command, status);
        return SP_EXIT_FAILED;
    }
    if (!raw && ok && print)
        print(answer);
    else if (!raw)
        print_outcome(answer, ok);
    json_decref(answer);
    return ok ? SP_EXIT_OK : SP_EXIT_FAILED;
}
