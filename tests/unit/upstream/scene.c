#include "scene.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- The clock: linked with --wrap, so that the loop reads this one ---- */

static uint64_t moved_us;

uint64_t __real_sp_clock_us(void);
uint64_t __wrap_sp_clock_us(void);
uint64_t __wrap_sp_clock_us(void) { return __real_sp_clock_us() + moved_us; }

void scene_later(struct scene *scene, uint64_t ms) {
    moved_us += ms * 1000;
    check(sp_loop_turn(scene->loop, 0));
}

/* ---- Another worker in the same instant: linked with --wrap, too ---- */

static struct sp_traffic *rival;

void __real_sp_traffic_server_add(struct sp_traffic *traffic, unsigned server_slot, int delta);
void __wrap_sp_traffic_server_add(struct sp_traffic *traffic, unsigned server_slot, int delta);
void __wrap_sp_traffic_server_add(struct sp_traffic *traffic, unsigned server_slot, int delta) {
    if (rival && delta > 0)
        __real_sp_traffic_server_add(sp_take(rival), server_slot, delta);
    __real_sp_traffic_server_add(traffic, server_slot, delta);
}

void scene_rival_arrives(struct scene *scene) { rival = scene->other; }

/* ---- The scene ---- */

static int lowest_free_fd(void) {
    int fd = dup(STDERR_FILENO);
    assert_true(fd >= 0);
    close(fd);
    return fd;
}

static int listen_somewhere(uint16_t *ret_port) {
    int fd = -1;
    check(sp_listen("127.0.0.1", 0, 512, &fd));
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    check(getsockname(fd, (struct sockaddr *)&name, &size));
    *ret_port = ntohs(name.sin_port);
    return fd;
}

void scene_open(struct scene *scene) {
    static const struct sp_hash_key key = {1, 2};
    *scene = (struct scene){.lowest_fd = lowest_free_fd(), .pool = 'p'};
    check(sp_loop_new(&scene->loop));
    scene->segment = mmap(NULL, sp_traffic_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(scene->segment, MAP_FAILED);
    check(sp_traffic_open(scene->segment, 0, &key, &scene->traffic));
    check(sp_traffic_open(scene->segment, 1, &key, &scene->other));
    check(sp_upstreams_new(scene->loop, scene->traffic, &scene->upstreams));
    for (unsigned i = 0; i < SCENE_SERVERS; i++)
        scene->listener[i] = listen_somewhere(&scene->port[i]);
}

void scene_close(struct scene *scene) {
    sp_upstreams_free(scene->upstreams);
    sp_loop_free(scene->loop);
    for (unsigned slot = 0; slot < SP_SERVERS_MAX; slot++)
        assert_int_equal(sp_traffic_server_in_flight(scene->traffic, slot), 0);
    sp_traffic_free(scene->traffic);
    sp_traffic_free(scene->other);
    check(munmap(scene->segment, sp_traffic_segment_size()));
    sp_config_unref(scene->config);
    sp_document_free(scene->document);
    for (unsigned i = 0; i < SCENE_SERVERS; i++)
        sp_close_fd(&scene->listener[i]);
    for (unsigned i = 0; i < scene->n_peers; i++)
        sp_close_fd(&scene->peer[i]);
    assert_int_equal(lowest_free_fd(), scene->lowest_fd);
}

/* ---- Configurations ---- */

static void append(struct sp_buffer *text, struct sp_span span) { check(sp_buffer_append_span(text, span)); }

static void append_with_ports(const struct scene *scene, struct sp_buffer *text, const char *servers) {
    for (const char *at = servers; *at; at++) {
        if (*at != '$') {
            append(text, sp_span(at, 1));
            continue;
        }
        unsigned n = (unsigned)(*++at - '0');
        assert_true(n < SCENE_SERVERS);
        check(sp_buffer_append_u64(text, scene->port[n]));
    }
}

void scene_configure(struct scene *scene, const char *servers, const char *pool_keys) {
    struct sp_buffer yaml;
    sp_buffer_init(&yaml, 1 << 20);
    append(&yaml, SP_SPAN("version: 1\n"
                          "listeners: [{address: \"127.0.0.1:8443\", certificates: [{chain: c.pem, key: k.pem}]}]\n"
                          "routes: [{name: r, path: /, authenticate: [none], pool: "));
    check(sp_buffer_printf(&yaml, "%c}]\npools:\n  %c: {servers: [", scene->pool, scene->pool));
    append_with_ports(scene, &yaml, servers);
    check(sp_buffer_printf(&yaml, "]%s%s}\n", *pool_keys ? ", " : "", pool_keys));
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    uint64_t generation = scene->config ? scene->config->generation + 1 : 1;
    int failed = sp_config_load_text("t", sp_buffer_span(&yaml), "", false, scene->document, generation, &errors, &document);
    for (size_t i = 0; i < errors.count; i++)
        print_error("said: %s\n", errors.line[i]);
    check(failed);
    sp_config_errors_free(&errors);
    sp_buffer_free(&yaml);

    char *text = NULL;
    size_t len = 0;
    check(sp_document_encode(document, SP_READER_WORKER, &text, &len));
    sp_document_free(scene->document);
    scene->document = document;
    struct sp_config *config = NULL;
    check(sp_config_decode(sp_span(text, len), &config));
    sp_free_secret(text);
    check(sp_upstreams_configure(scene->upstreams, config, NULL));
    sp_config_unref(scene->config);
    scene->config = config;
}

const struct sp_pool_config *scene_pool(const struct scene *scene) { return &scene->config->pools[0]; }

unsigned scene_slot(const struct scene *scene, size_t index) {
    assert_true(index < scene_pool(scene)->n_servers);
    return scene_pool(scene)->servers[index].slot;
}

/* ---- What the servers see ---- */

static bool becomes_readable(int fd, int within_ms) {
    struct pollfd asked = {.fd = fd, .events = POLLIN};
    return poll(&asked, 1, within_ms) == 1;
}

int scene_accept(struct scene *scene, unsigned server) {
    assert_true(becomes_readable(scene->listener[server], 5000));
    int fd = accept4(scene->listener[server], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(fd >= 0);
    assert_true(scene->n_peers < SCENE_PEERS_MAX);
    scene->peer[scene->n_peers++] = fd;
    return fd;
}

void scene_turn_away(struct scene *scene, unsigned server) { close(accept4(scene->listener[server], NULL, NULL, SOCK_CLOEXEC)); }

bool scene_nobody_came(const struct scene *scene, unsigned server) { return !becomes_readable(scene->listener[server], 0); }

static int end_of(int peer) {
    char byte;
    ssize_t n = recv(peer, &byte, 1, MSG_DONTWAIT);
    return n < 0 ? -errno : (int)n;
}

int scene_ended(struct scene *scene, int peer) {
    int end = end_of(peer); /* asked once: a reset is said only once */
    for (int turns = 0; turns < 2000 && end == -EAGAIN; turns++) {
        check(sp_loop_turn(scene->loop, 1));
        end = end_of(peer);
    }
    assert_true(end <= 0 && end != -EAGAIN);
    return end;
}

bool scene_is_alive(int peer) { return end_of(peer) == -EAGAIN; }

/* ---- Requests ---- */

static void request_ready(void *owner, unsigned ready) {
    struct request *request = owner;
    request->seen |= ready;
    request->calls++;
}

bool request_take_with(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct sp_queue_ticket *ticket,
                       struct request *request) {
    assert_null(request->backend);
    request->error = 0;
    request->seen = request->calls = 0;
    request->backend = sp_upstream_take(upstreams, pool, &request->tried, ticket, request_ready, request, &request->error);
    if (!request->backend)
        assert_true(request->error < 0);
    return request->backend != NULL;
}

bool request_take_from(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct request *request) {
    return request_take_with(upstreams, pool, NULL, request);
}

bool request_take(struct scene *scene, struct request *request) { return request_take_from(scene->upstreams, scene_pool(scene), request); }

unsigned request_server(const struct scene *scene, const struct request *request) {
    uint16_t port = sp_backend_server(request->backend)->port;
    for (unsigned i = 0; i < SCENE_SERVERS; i++)
        if (scene->port[i] == port)
            return i;
    fail_msg("port %u is none of this scene", port);
    return 0;
}

void request_open(struct scene *scene, struct request *request) {
    assert_true(request_take(scene, request));
    if (!sp_transport_is_open(sp_backend_transport(request->backend)))
        turn_until(scene, request->seen & SP_READY_OPEN);
}

int request_begin(struct scene *scene, struct request *request, unsigned server) {
    request_open(scene, request);
    assert_int_equal(request_server(scene, request), server);
    return scene_accept(scene, server);
}

void request_keep(struct request *request) { sp_backend_keep(sp_take(request->backend)); }

void request_close(struct request *request) { sp_backend_close(sp_take(request->backend), false); }

unsigned scene_request(struct scene *scene) {
    struct request request = {0};
    assert_true(request_take(scene, &request));
    unsigned server = request_server(scene, &request);
    request_close(&request);
    check(sp_loop_turn(scene->loop, 0));
    return server;
}

void scene_reports(struct scene *scene, unsigned index, unsigned times, bool good) {
    for (unsigned i = 0; i < times; i++) {
        struct request request = {.tried.servers = ~(UINT64_C(1) << index)};
        assert_true(request_take(scene, &request));
        assert_ptr_equal(sp_backend_server(request.backend), &scene_pool(scene)->servers[index]);
        sp_backend_report(request.backend, good);
        request_close(&request);
        check(sp_loop_turn(scene->loop, 0));
    }
}
