#include "scene.h"

static struct scene *scene_of(const struct sp_exchange *x) { return (struct scene *)(void *)x->client; }

static void note(struct scene *scene, struct sp_span text) { assert_int_equal(sp_buffer_append_span(&scene->told, text), 0); }

static void head(struct sp_exchange *x, const struct sp_answer *answer) {
    struct scene *scene = scene_of(x);
    assert_int_equal(sp_buffer_printf(&scene->told, "%u\n", answer->status), 0);
    if (answer->error) {
        note(scene, SP_SPAN("no head\n"));
        return;
    }
    struct sp_span lines = sp_buffer_span(answer->fields);
    for (size_t i = 0; i < lines.len; i++)
        if (lines.at[i] != '\r')
            note(scene, sp_span(lines.at + i, 1));
    note(scene, SP_SPAN("\n"));
}
static void body(struct sp_exchange *x, struct sp_span bytes) { note(scene_of(x), bytes); }
static void end(struct sp_exchange *x) { scene_of(x)->ends++; }
static void broken(struct sp_exchange *x) { scene_of(x)->broken++; }
static void flush(struct sp_exchange *x) { (void)x; }
static bool full(const struct sp_exchange *x) { return x->ended; }
static void read_more(struct sp_exchange *x) { scene_of(x)->read_more++; }
static void go_on(struct sp_exchange *x) { (void)x; }
static void done(struct sp_exchange *x) { scene_of(x)->dones++; }

static const struct sp_front front = {head, body, end, broken, flush, full, read_more, go_on, done};

void scene_open(struct scene *scene) {
    *scene = (struct scene){.facts = {.protocol = SP_SPAN("HTTP/1.1"), .address_text = "192.0.2.7"}};
    sp_buffer_init(&scene->told, 1 << 20);
    assert_int_equal(sp_loop_new(&scene->loop), 0);
    const struct sp_service_parts parts = {.loop = scene->loop};
    assert_int_equal(sp_service_new(&parts, &scene->service), 0);
    for (size_t i = 0; i < SP_COUNT(scene->routes); i++)
        scene->routes[i] = (struct sp_route_config){
            .name = "test", .path = "/", .pool = &scene->pool, .strip_prefix = "", .max_body = 1 << 20,
            .first_byte_timeout_ms = 1000, .idle_timeout_ms = 1000, .total_timeout_ms = 10000};
    scene->config = (struct sp_config){.refs = 1, .routes = scene->routes, .n_routes = 1, .memory_bodies = 1 << 20, .workers = 1};
    scene->service->snapshot = calloc(1, sizeof(struct sp_snapshot));
    assert_non_null(scene->service->snapshot);
    scene->service->snapshot->refs = 1;
    scene->service->snapshot->config = &scene->config;
    scene->service->body_bytes_max = 1 << 20;
}

struct sp_exchange *scene_request(struct scene *scene, const char *head_text) {
    scene->x = sp_exchange_new(scene->service, &front, (struct sp_client *)(void *)scene, &scene->facts, SP_HTTP_FIELDS_MAX);
    assert_non_null(scene->x);
    struct sp_span copy;
    const char *why = "";
    assert_true(sp_arena_copy(&scene->x->arena, sp_span_text(head_text), &copy));
    assert_int_equal(sp_http_parse_request(copy, &scene->x->request, &why), 0);
    scene->x->body.complete = scene->x->request.framing == SP_FRAMING_NONE;
    return scene->x;
}

void scene_close(struct scene *scene) {
    if (scene->x && !scene->x->ended)
        sp_exchange_end(scene->x, "test over");
    sp_loop_settle(scene->loop);
    assert_int_equal(scene->service->body_bytes, 0); /* whatever happened, no memory is left over */
    assert_int_equal(scene->service->exchanges.live, 0);
    free(sp_take(scene->service->snapshot)); /* made by hand: its configuration is not on the heap */
    sp_service_free(scene->service);
    sp_loop_free(scene->loop);
    sp_buffer_free(&scene->told);
}

bool scene_told(const struct scene *scene, const char *text) {
    return memmem(scene->told.bytes + scene->told.begin, sp_buffer_len(&scene->told), text, strlen(text)) != NULL;
}
