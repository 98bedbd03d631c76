/* What inspect and models.c make of a body: scanned as it comes, its places spliced, for fallbacks once more. To a second opinion (jansson)
 * the result is the client's body with another model, and usage asked for where it must be, and nothing else; multipart stays the same to
 * the byte around the name.
 *
 * An input is a line and a body. The line: which path (c chat completions, e embeddings, u upload), how many bytes come at a time, how many
 * spaces come before a JSON body, so that places meet the borders of blocks, and how many fallbacks are asked, e.g. "c 1000 16370 2". */
#include "../http/invariants.h"

#include <stdio.h>
#include <sys/uio.h>

#include <jansson.h>

#include "../../../src/exchange/private.h"

enum { BODY_MAX = 256 * 1024, SPACES_MAX = 64 * 1024, TIGHT = 5 * SP_BODY_BLOCK_SIZE };

/* ---- A service without a network ---- */

static unsigned told_status;

static void told_head(struct sp_exchange *x, const struct sp_answer *answer) {
    must(told_status == 0); /* one answer */
    told_status = answer->status;
}
static void told_body(struct sp_exchange *x, struct sp_span bytes) {}
static void nothing(struct sp_exchange *x) {}
static bool never_full(const struct sp_exchange *x) { return false; }
static const struct sp_front front = {told_head, told_body, nothing, nothing, nothing, never_full, nothing, nothing, nothing};

#define SIXTEEN "0123456789abcde/"
static unsigned fallback[] = {0, 4, 1};
static struct sp_pool_config pool;
static struct sp_model_config models[] = {
    {.name = "a", .pool = &pool, .as = "x"},
    {.name = "b", .pool = &pool, .as = SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN},
    {.name = "llama-3", .pool = &pool, .as = "meta-llama/Llama-3.1-8B-Instruct", .fallback = fallback, .n_fallback = 3},
    {.name = "m", .pool = &pool, .as = "m", .fallback = fallback, .n_fallback = 3},
    {.name = "z", .pool = &pool, .as = "llama-3"}, /* what a client may have said itself */
};
static struct sp_route_config route = {
    .name = "fuzz", .path = "/", .models_in_body = true, .max_body = BODY_MAX + SPACES_MAX, .max_tokens_default = 500};
static struct sp_config config = {
    .refs = 1, .routes = &route, .n_routes = 1, .models = models, .n_models = SP_COUNT(models), .memory_bodies = 1 << 20, .workers = 1};
static struct sp_snapshot snapshot = {.refs = 1, .config = &config};
static const struct sp_client_facts facts = {.protocol = SP_SPAN("HTTP/1.1"), .address_text = "192.0.2.7"};
static struct sp_loop *loop;
static struct sp_service *service;

static void open_service(void) {
    must(sp_loop_new(&loop) == 0);
    must(sp_service_new(&(struct sp_service_parts){.loop = loop}, &service) == 0);
    service->snapshot = &snapshot;
}

/* ---- An input ---- */

struct trial {
    char path;
    size_t step, spaces;
    unsigned fallbacks;
    char *sent; /* the client's body */
    size_t len;
};

static bool read_trial(struct sp_span input, struct trial *trial) {
    const char *newline = memchr(input.at, '\n', sp_min(input.len, (size_t)40));
    struct sp_span line = sp_span(input.at, newline ? (size_t)(newline - input.at) : 0), field[4];
    for (size_t i = 0; i < SP_COUNT(field); i++)
        if (!sp_span_split(&line, ' ', &field[i]))
            return false;
    uint64_t step, spaces, fallbacks;
    if (!newline || field[0].len != 1)
        return false;
    if (!sp_span_u64(field[1], &step) || !sp_span_u64(field[2], &spaces) || !sp_span_u64(field[3], &fallbacks))
        return false;
    struct sp_span body = sp_span_from(input, (size_t)(newline + 1 - input.at));
    *trial = (struct trial){.path = field[0].at[0], .fallbacks = (unsigned)(fallbacks % 4)};
    trial->step = (size_t)sp_max(step % 100000, UINT64_C(1));
    trial->spaces = trial->path == 'u' ? 0 : (size_t)(spaces % SPACES_MAX);
    if (body.len > BODY_MAX)
        return false;
    trial->len = trial->spaces + body.len;
    trial->sent = malloc(trial->len + 1);
    must(trial->sent);
    memset(trial->sent, ' ', trial->spaces);
    memcpy(trial->sent + trial->spaces, body.at, body.len);
    return true;
}

static struct sp_exchange *begin(const struct trial *trial) {
    static const char *const heads[] = {
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /v1/uploads HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n"};
    struct sp_exchange *x = sp_exchange_new(service, &front, NULL, &facts, SP_HTTP_FIELDS_MAX);
    struct sp_span head = {0};
    const char *why;
    must(x);
    must(sp_arena_copy(&x->arena, sp_span_text(heads[trial->path == 'u' ? 2 : trial->path == 'e']), &head));
    must(sp_http_parse_request(head, &x->request, &why) == 0);
    x->route = &route;
    x->path = x->request.path;
    told_status = 0;
    service->body_bytes_max = TIGHT; /* so that it also waits for memory */
    return x;
}

/* Feeds the body as a connection would. */
static enum sp_stage_answer inspect(struct sp_exchange *x, const struct trial *trial) {
    enum sp_stage_answer answer = SP_STAGE_WAIT;
    for (size_t at = 0; answer == SP_STAGE_WAIT && !x->body.complete;) {
        size_t taken = sp_body_add(x, sp_span(trial->sent + at, sp_min(trial->step, trial->len - at)));
        at += taken;
        x->body.complete = at == trial->len;
        answer = sp_stage_inspect(x);
        must(service->body_bytes <= service->body_bytes_max);
        if (x->body.waits_for_memory) {
            must(!sp_body_wants(x));
            service->body_bytes_max += SP_BODY_BLOCK_SIZE;
            sp_body_wait_no_more(x);
            if (x->body.complete && answer == SP_STAGE_WAIT)
                x->body.complete = false; /* once more, for its scan */
        }
    }
    must(answer == SP_STAGE_NEXT || answer == SP_STAGE_REPLY);
    return answer;
}

/* ---- What became of it ---- */

static json_t *second_opinion(struct sp_span bytes) {
    return json_loadb(bytes.at, bytes.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
}

/* What is to be sent, as one text. */
static struct sp_span whole(struct sp_exchange *x, char **ret) {
    size_t len = (size_t)x->body.received, sum = 0;
    *ret = malloc(len + 1);
    must(*ret && sp_body_copy(x, 0, len, *ret) && !sp_body_copy(x, len, 1, *ret + len));
    struct iovec pieces[16];
    while (sp_body_waiting(&x->body) > 0) {
        must(sp_body_unsent(x, pieces, SP_COUNT(pieces)) > 0 && sum + pieces[0].iov_len <= len);
        must(memcmp(pieces[0].iov_base, *ret + sum, pieces[0].iov_len) == 0);
        sum += pieces[0].iov_len;
        if (!x->body.kept)
            break; /* it could not be sent again */
        sp_body_sent(x, pieces[0].iov_len);
    }
    must(!x->body.kept || (sum == len && sp_body_unsent(x, pieces, 1) == 0));
    if (x->body.kept)
        sp_body_rewind(x);
    return sp_span(*ret, len);
}

static bool ends_in_completions(const struct sp_exchange *x) { return x->path.len == strlen("/v1/chat/completions"); }

/* The client's tree with what should have been changed. */
static json_t *expected(const struct sp_exchange *x, struct sp_span sent) {
    json_t *root = second_opinion(sent);
    must(json_is_object(root));
    must(json_object_set_new(root, "model", json_string(x->model->as)) == 0);
    json_t *options = json_object_get(root, "stream_options");
    bool asked = json_is_true(json_object_get(options, "include_usage")), streams = json_is_true(json_object_get(root, "stream"));
    if (!ends_in_completions(x) || !streams || asked) {
        must(!x->inspection.withhold);
        return root;
    }
    must(x->inspection.withhold || options); /* only what the client sent may be too odd to be extended */
    if (!x->inspection.withhold)
        return root;
    if (!json_is_object(options)) {
        must(!options || json_is_null(options));
        must(json_object_set_new(root, "stream_options", json_object()) == 0);
        options = json_object_get(root, "stream_options");
    }
    must(json_object_set_new(options, "include_usage", json_true()) == 0);
    return root;
}

static void check_json(const struct sp_exchange *x, struct sp_span sent, struct sp_span now) {
    json_t *is = second_opinion(now);
    if (!is) { /* jansson cannot hold names with NUL, the only thing that passes and is not to its taste */
        must(!second_opinion(sent));
        return;
    }
    json_t *should_be = expected(x, sent);
    must(json_equal(is, should_be));
    json_decref(is);
    json_decref(should_be);
}

/* The same to the byte but for the name. */
static void check_around(const struct sp_exchange *x, struct sp_span sent, struct sp_span now, size_t was) {
    size_t at = (size_t)x->inspection.model_at.at, is = (size_t)x->inspection.model_at.len;
    must(now.len - is == sent.len - was && memcmp(sent.at, now.at, at) == 0);
    must(sp_span_eq(sp_span_from(sent, at + was), sp_span_from(now, at + is)));
}

static void check(struct sp_exchange *x, const struct trial *trial) {
    char *text;
    struct sp_span sent = sp_span(trial->sent, trial->len), now = whole(x, &text);
    if (!x->inspection.changed)
        must(sp_span_eq(sent, now));
    if (x->model && x->inspection.is_json)
        check_json(x, sent, now);
    if (x->model && !x->inspection.is_json) {
        check_around(x, sent, now, x->inspection.model.len);
        must(sp_span_eq(sp_span(now.at + x->inspection.model_at.at, (size_t)x->inspection.model_at.len), sp_span_text(x->model->as)));
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct trial trial;
    if (!loop)
        open_service();
    if (!read_trial(sp_span((const char *)bytes, len), &trial))
        return 0;
    struct sp_exchange *x = begin(&trial);
    if (inspect(x, &trial) == SP_STAGE_NEXT) {
        must(told_status == 0 && x->inspection.reserve >= x->inspection.prompt);
        check(x, &trial);
        for (unsigned i = 0; i < trial.fallbacks && sp_models_fall_back(x); i++)
            check(x, &trial);
    } else {
        must(told_status == 400 || told_status == 404);
    }
    sp_exchange_end(x, "tried");
    sp_loop_settle(loop);
    must(service->body_bytes == 0 && service->exchanges.live == 0 && sp_list_empty(&service->body_waiters));
    free(trial.sent);
    return 0;
}
