/* A request's whole life: the table of stages, and what runs it. */
#include "private.h"

enum {
    MEMORY_WAIT_MS = 10000, /* for the budget of bodies, while holding some of it */
    BODY_BYTES_PER_MS = 8,  /* 64 kbit/s: who sends a large body slower than that is too slow */
};

static const struct sp_stage {
    const char *name;
    enum sp_stage_answer (*run)(struct sp_exchange *x);
} stages[] = {
    {"route", sp_stage_route},               /* which route is this? */
    {"authenticate", sp_stage_authenticate}, /* who is calling? */
    {"authorize", sp_stage_authorize},       /* may they do this at all? */
    {"inspect", sp_stage_inspect},           /* what is asked: is it of a size and kind we take? */
    {"admit", sp_stage_admit},               /* is there budget? */
    {"forward", sp_stage_forward},           /* to which server; our request, not the client's */
    {"relay", sp_stage_relay},               /* the answer, byte by byte as it comes */
};
/* Whatever way an exchange ends, these two follow, once. */
static void (*const last_stages[])(struct sp_exchange *x) = {
    sp_stage_settle, /* give back what was held, pay back or charge the difference */
    sp_stage_log,    /* tell it */
};

static void free_exchange(struct sp_deferred *deferred) {
    struct sp_exchange *x = SP_CONTAINER(deferred, struct sp_exchange, free);
    sp_arena_reset(&x->arena);
    struct sp_service *service = x->service;
    sp_pool_put(x->memory, x);
    sp_service_freed(service);
}

static void run_more(struct sp_deferred *deferred) { sp_exchange_run(SP_CONTAINER(deferred, struct sp_exchange, more)); }

static void time_out(struct sp_timer *timer);

struct sp_exchange *sp_exchange_new(struct sp_service *service, const struct sp_front *front, struct sp_client *client,
                                    const struct sp_client_facts *from, unsigned fields) {
    struct sp_pool *memory = fields <= SP_EXCHANGE_FIELDS ? &service->small_exchanges : &service->exchanges;
    struct sp_exchange *x = sp_pool_get(memory);
    if (!x)
        return NULL;
    memset(&x->node, 0, offsetof(struct sp_exchange, request.fields.item) - offsetof(struct sp_exchange, node));
    x->memory = memory;
    x->service = service;
    x->snapshot = sp_snapshot_ref(service->snapshot);
    x->front = front;
    x->client = client;
    x->from = from;
    sp_list_append(&service->exchange_list, &x->node);
    x->free.run = free_exchange;
    x->more.run = run_more;
    x->timer.fire = time_out;
    x->reason = "ok";
    x->tokens_in = x->tokens_out = -1;
    x->started_us = sp_loop_now_us(service->parts.loop);
    x->started_wall_ms = sp_service_wall_ms(service);
    x->progress_ms = sp_loop_now_ms(service->parts.loop);
    sp_body_init(&x->body);
    sp_buffer_init(&x->up, SP_UP_MAX);
    sp_arena_init(&x->arena, x->first, sizeof x->first, SP_EXCHANGE_ARENA_MAX);
    sp_request_id_make(x->started_wall_ms, x->request_id_made);
    x->request_id = sp_span(x->request_id_made, SP_REQUEST_ID_LEN);
    return x;
}

bool sp_exchange_take_request(struct sp_exchange *x, const struct sp_http_request *request) {
    if (x->memory->size < SP_EXCHANGE_SIZE(request->fields.count))
        return false;
    memcpy(&x->request, request, offsetof(struct sp_http_request, fields.item));
    memcpy(x->request.fields.item, request->fields.item, request->fields.count * sizeof request->fields.item[0]);
    return true;
}

static void finish(struct sp_exchange *x) {
    const struct sp_front *front = x->front;
    front->end(x);
    if (!x->ended)
        front->flush(x);
    if (!x->ended)
        sp_exchange_end(x, NULL);
}

/* One stage after the other, up to the first that is not NEXT. */
static enum sp_stage_answer run_stages(struct sp_exchange *x) {
    while (!x->ended) {
        x->again = false;
        enum sp_stage_answer answer = stages[x->stage].run(x);
        if (answer != SP_STAGE_NEXT || ++x->stage == SP_COUNT(stages))
            return answer;
    }
    return SP_STAGE_WAIT;
}

void sp_exchange_run(struct sp_exchange *x) {
    if (x->running) { /* called from inside a stage: the stage is simply run once more */
        x->again = true;
        return;
    }
    x->running = true;
    do {
        switch (run_stages(x)) {
        case SP_STAGE_NEXT:
            finish(x);
            break;
        case SP_STAGE_REPLY:
            if (!x->ended)
                finish(x);
            break;
        case SP_STAGE_CLOSE:
            if (!x->ended) {
                x->front->broken(x);
                sp_exchange_end(x, NULL);
            }
            break;
        case SP_STAGE_WAIT:
            break;
        }
    } while (x->again && !x->ended);
    x->running = false;
}

void sp_exchange_refuse(struct sp_exchange *x, unsigned status, const char *reason) {
    if (x->ended)
        return;
    if (x->answered) {
        x->reason = reason;
        x->front->broken(x);
    } else {
        (void)sp_reply(x, status, NULL, reason, reason);
        if (!x->ended)
            x->front->end(x);
        if (!x->ended)
            x->front->flush(x);
    }
    sp_exchange_end(x, NULL);
}

void sp_exchange_client_left(struct sp_exchange *x) {
    if (!x->ended)
        sp_service_count(x->service, SP_COUNTER_CLIENTS_LEFT, 1);
    sp_exchange_end(x, "client left");
}

void sp_exchange_end(struct sp_exchange *x, const char *reason) {
    if (x->ended)
        return;
    x->ended = true;
    sp_list_remove(&x->node);
    if (reason)
        x->reason = reason;
    sp_timer_stop(&x->timer);
    sp_deferred_cancel(&x->more);
    for (size_t i = 0; i < SP_COUNT(last_stages); i++)
        last_stages[i](x);
    sp_inspect_free(x);
    sp_body_free(x);
    sp_buffer_free(&x->up);
    sp_principal_unref(sp_take(x->principal));
    x->front->done(x);
    sp_snapshot_unref(sp_take(x->snapshot));
    sp_defer(sp_loop_of(x), &x->free);
}

/* ---- Time-outs: one timer, moved only when it fires too early ---- */

void sp_exchange_progress(struct sp_exchange *x) { x->progress_ms = sp_loop_now_ms(sp_loop_of(x)); }

static uint64_t next_time_out(const struct sp_exchange *x) {
    if (!x->route)
        return x->progress_ms + 60000;
    uint64_t total = x->started_us / 1000 + x->route->total_timeout_ms;
    if (x->ticket.tenant) /* it waits in a queue, which has a time-out of its own */
        return total;
    if (x->body.waits_for_memory && x->body.gathered) /* others wait for what this one has already */
        return sp_min(total, x->progress_ms + MEMORY_WAIT_MS);
    if (!x->forwarded_us && !x->backend && !x->body.complete) /* a body that comes drop by drop is no progress; a large one has its time */
        return sp_min(total, x->started_us / 1000 + x->route->idle_timeout_ms + x->body.received / BODY_BYTES_PER_MS);
    bool waits_for_answer = x->forwarded_us && !x->answered && x->body.complete;
    uint64_t quiet = waits_for_answer ? sp_max(x->forwarded_us / 1000, x->progress_ms) + x->route->first_byte_timeout_ms
                                      : x->progress_ms + x->route->idle_timeout_ms;
    return sp_min(total, quiet);
}

void sp_exchange_watch(struct sp_exchange *x) {
    uint64_t now = sp_loop_now_ms(sp_loop_of(x)), at = next_time_out(x);
    at = sp_max(at, now);
    if (x->timer.active && x->timer.due_ms <= at + 1) /* with a timer's tick; were it set anew in each turn, it might never be due */
        return;
    sp_timer_start(sp_loop_of(x), &x->timer, at - now);
}

static void time_out(struct sp_timer *timer) {
    struct sp_exchange *x = SP_CONTAINER(timer, struct sp_exchange, timer);
    if (next_time_out(x) > sp_loop_now_ms(sp_loop_of(x))) {
        sp_exchange_watch(x);
        return;
    }
    if (x->answered) {
        x->reason = x->front->full(x) ? "client too slow" : "backend too slow";
        x->front->broken(x);
        sp_exchange_end(x, NULL);
    } else if (x->ticket.tenant) {
        sp_exchange_refuse(x, 503, "queue timed out"); /* before the queue's own time-out came the route's `total` */
    } else if (x->body.waits_for_memory) {
        sp_exchange_refuse(x, 503, "memory budget spent");
    } else if (!x->body.complete && (!x->backend || sp_body_wants(x))) { /* else the server does not take what the client would send */
        sp_exchange_refuse(x, 408, "request too slow");
    } else {
        if (x->backend)
            sp_backend_report(x->backend, false);
        sp_exchange_refuse(x, 504, "backend too slow");
    }
}
