/* Endpoints with something to show, and libcurl to ask them; shared by the tests of what they answer. */
#ifndef SP_TESTS_ADMIN_SITE_H
#define SP_TESTS_ADMIN_SITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <sys/mman.h>
#include <sys/un.h>

#include <sallyport/admin.h>

#include "peer.h"

struct fixture {
    struct sp_loop *loop;
    struct sp_endpoints *endpoints;
    struct sp_admin_view view;
    struct sp_config config;
    struct sp_counters *counters;
    struct sp_server_config servers[1];
    struct sp_pool_config pools[1];
    struct sp_route_config routes[1];
    struct sp_limit_config limits[1];
    struct sp_model_config models[1];
    void *segment;
    char socket_path[64];
    uint16_t metrics_port;
    /* what act() was asked, and what it says */
    enum sp_admin_action action;
    uint32_t argument;
    char key_id[9];
    uint64_t id;
    unsigned acts;
    int act_result;
};

static inline int act(void *owner, enum sp_admin_action action, uint32_t argument, struct sp_span key_id, uint64_t *ret_id) {
    struct fixture *fixture = owner;
    fixture->acts++;
    fixture->action = action;
    fixture->argument = argument;
    snprintf(fixture->key_id, sizeof fixture->key_id, SP_SPAN_FMT, SP_SPAN_ARG(key_id));
    *ret_id = ++fixture->id;
    return fixture->act_result;
}

static inline int listen_on_path(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static inline int set_up(void **state) {
    static struct fixture fixture;
    fixture = (struct fixture){
        .servers = {{.url.text = "http://10.0.0.1:8000", .host = "10.0.0.1", .slot = 0}},
        .routes = {{.name = "<chat>", .slot = 0}},
        .limits = {{.name = "per-caller", .slot = 0}},
    };
    fixture.pools[0] = (struct sp_pool_config){.name = "llama", .servers = fixture.servers, .n_servers = 1};
    fixture.models[0] = (struct sp_model_config){.name = "<large>", .slot = 4, .pool = &fixture.pools[0]};
    fixture.config = (struct sp_config){.refs = 1000,
                                        .generation = 3,
                                        .path = "/etc/sallyport/sallyport.yaml",
                                        .workers = 1,
                                        .pools = fixture.pools,
                                        .n_pools = 1,
                                        .routes = fixture.routes,
                                        .n_routes = 1,
                                        .limits = fixture.limits,
                                        .n_limits = 1,
                                        .models = fixture.models,
                                        .n_models = 1,
                                        .admin = {.socket.text = "admin.sock", .metrics.text = "127.0.0.1:0"}};
    sp_log_set_fd(-1);
    fixture.segment = mmap(NULL, sp_counters_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(sp_counters_open(fixture.segment, &fixture.counters), 0);
    sp_counters_begin(fixture.counters, 0);
    sp_gauge(fixture.counters, 0, SP_GAUGE_GENERATION, 3);
    sp_count_request(fixture.counters, 0, 0, 0, 200, 1500, 1000);
    sp_count_limit(fixture.counters, 0, 0, SP_OUTCOME_REFUSED);
    fixture.view = (struct sp_admin_view){.config = &fixture.config,
                                          .counters = fixture.counters,
                                          .started_wall_ms = sp_wall_ms() - 5000,
                                          .status = {.generation = 3, .n = 1},
                                          .processes = {{.role = SP_ROLE_WORKER, .pid = 77}}};
    assert_int_equal(sp_loop_new(&fixture.loop), 0);
    assert_int_equal(sp_endpoints_new(fixture.loop, &fixture.view, act, &fixture, &fixture.endpoints), 0);
    assert_int_equal(sp_endpoints_configure(fixture.endpoints), 0);
    snprintf(fixture.socket_path, sizeof fixture.socket_path, "/tmp/sp-admin-test-%d.sock", (int)getpid());
    assert_int_equal(sp_endpoints_open(fixture.endpoints, SP_ENDPOINT_ADMIN, listen_on_path(fixture.socket_path)), 0);
    assert_int_equal(sp_endpoints_open(fixture.endpoints, SP_ENDPOINT_METRICS, listen_on_loopback(&fixture.metrics_port)), 0);
    *state = &fixture;
    return 0;
}

static inline int tear_down(void **state) {
    struct fixture *fixture = *state;
    sp_endpoints_free(fixture->endpoints);
    sp_counters_free(fixture->counters);
    munmap(fixture->segment, sp_counters_segment_size());
    sp_loop_free(fixture->loop);
    unlink(fixture->socket_path);
    return 0;
}

/* ---- Asking ---- */

struct answer {
    long status;
    char body[64 * 1024], headers[4096];
    size_t len, headers_len;
};

struct question {
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    struct answer *answer;
};

static inline size_t keep_body(char *bytes, size_t size, size_t n, void *owner) {
    struct answer *answer = owner;
    assert_true(answer->len + n < sizeof answer->body);
    memcpy(answer->body + answer->len, bytes, n);
    answer->body[answer->len += n] = '\0';
    return n;
}

static inline size_t keep_header(char *bytes, size_t size, size_t n, void *owner) {
    struct answer *answer = owner;
    assert_true(answer->headers_len + n < sizeof answer->headers);
    memcpy(answer->headers + answer->headers_len, bytes, n);
    answer->headers[answer->headers_len += n] = '\0';
    return n;
}

static inline struct question begin(struct fixture *fixture, enum sp_endpoint_kind kind, const char *method, const char *path,
                                    const char *body, const char *header, struct answer *answer) {
    char url[256];
    *answer = (struct answer){0};
    struct question question = {.multi = curl_multi_init(), .easy = curl_easy_init(), .answer = answer};
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", kind == SP_ENDPOINT_METRICS ? fixture->metrics_port : 80, path);
    curl_easy_setopt(question.easy, CURLOPT_URL, url);
    if (kind == SP_ENDPOINT_ADMIN)
        curl_easy_setopt(question.easy, CURLOPT_UNIX_SOCKET_PATH, fixture->socket_path);
    if (body)
        curl_easy_setopt(question.easy, CURLOPT_COPYPOSTFIELDS, body);
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(question.easy, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(question.easy, CURLOPT_CUSTOMREQUEST, method);
    if (header)
        question.headers = curl_slist_append(NULL, header);
    curl_easy_setopt(question.easy, CURLOPT_HTTPHEADER, question.headers);
    curl_easy_setopt(question.easy, CURLOPT_WRITEFUNCTION, keep_body);
    curl_easy_setopt(question.easy, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(question.easy, CURLOPT_HEADERFUNCTION, keep_header);
    curl_easy_setopt(question.easy, CURLOPT_HEADERDATA, answer);
    curl_easy_setopt(question.easy, CURLOPT_NOPROXY, "*");
    assert_int_equal(curl_multi_add_handle(question.multi, question.easy), CURLM_OK);
    return question;
}

/* A turn of both sides; false when the transfer has ended. */
static inline bool turn(struct fixture *fixture, struct question *question) {
    int running = 0;
    assert_int_equal(curl_multi_perform(question->multi, &running), CURLM_OK);
    assert_int_equal(sp_loop_turn(fixture->loop, 1), 0);
    return running > 0;
}

static inline void end(struct question *question) {
    curl_easy_getinfo(question->easy, CURLINFO_RESPONSE_CODE, &question->answer->status);
    curl_multi_remove_handle(question->multi, question->easy);
    curl_easy_cleanup(question->easy);
    curl_multi_cleanup(question->multi);
    curl_slist_free_all(question->headers);
}

static inline long ask(struct fixture *fixture, enum sp_endpoint_kind kind, const char *method, const char *path, const char *body,
                       struct answer *answer) {
    struct question question = begin(fixture, kind, method, path, body, NULL, answer);
    while (turn(fixture, &question))
        ;
    end(&question);
    return answer->status;
}

static struct answer answer;

static inline json_t *json_of(const struct answer *from) {
    json_t *object = json_loads(from->body, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(object);
    return object;
}

static inline void assert_outcome(const struct answer *from, bool ok, const char *message, size_t n_errors) {
    json_t *object = json_of(from);
    assert_int_equal(json_is_true(json_object_get(object, "ok")), ok);
    assert_string_equal(json_string_value(json_object_get(object, "message")), message);
    assert_true(json_is_array(json_object_get(object, "errors")));
    assert_int_equal(json_array_size(json_object_get(object, "errors")), n_errors);
    json_decref(object);
}

static inline void add_refusal(struct fixture *fixture, uint64_t wall_ms, const char *id, const char *subject) {
    struct sp_refused refused = {
        .wall_ms = wall_ms, .request_id = sp_span_text(id), .subject = sp_span_text(subject), .reason = SP_SPAN("role"), .status = 403};
    sp_refusals_add(fixture->counters, 0, &refused);
}

#endif
