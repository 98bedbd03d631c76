/* What all exchanges of a worker share: pools, the body budget, the date, the list of clients. */
#include "client.h"

#include <errno.h>
#include <malloc.h>

enum { FLOOD_MIN = 256 }; /* clients at once from which on it is worth giving their memory back */

/* First come, first served, as far as what there is would do for each: were all of them woken for every block that is freed, they would
 * take all the time there is. Who is woken may not need it just now, for its client is slow: those behind it are looked at in the next
 * turn. */
static void wake_waiters(struct sp_deferred *deferred) {
    struct sp_service *service = SP_CONTAINER(deferred, struct sp_service, wake_waiters);
    uint64_t room = service->body_bytes_max - sp_min(service->body_bytes, service->body_bytes_max);
    bool woke = false;
    sp_list_each_safe(node, &service->body_waiters) {
        struct sp_exchange *x = sp_list_entry(node, struct sp_exchange, body.waiter);
        if (x->body.wanted > room)
            continue;
        room -= x->body.wanted;
        woke = true;
        sp_body_wait_no_more(x);
        x->front->read_more(x);
        if (x->body.gathered) /* it may have waited for its scan, with nothing more to come */
            sp_defer_to_next_turn(service->parts.loop, &x->more);
    }
    if (woke && !sp_list_empty(&service->body_waiters))
        sp_defer_to_next_turn(service->parts.loop, &service->wake_waiters);
}

/* A flood is over: what it needed goes back to the system. Left to itself, malloc keeps it for ever below whatever lies on top. */
static void give_back(struct sp_deferred *deferred) {
    struct sp_service *service = SP_CONTAINER(deferred, struct sp_service, give_back);
    sp_pool_drain(&service->exchanges);
    sp_pool_drain(&service->small_exchanges);
    sp_pool_drain(&service->clients);
    sp_pool_drain(&service->blocks);
    sp_pool_drain(&service->scans);
    (void)malloc_trim(0);
}

static void tell_idle(struct sp_deferred *deferred) {
    struct sp_service *service = SP_CONTAINER(deferred, struct sp_service, idle_call);
    if (service->idle && sp_service_idle(service))
        service->idle(service->idle_owner);
}

int sp_service_new(const struct sp_service_parts *parts, struct sp_service **ret) {
    struct sp_service *service = calloc(1, sizeof *service);
    if (!service)
        return -ENOMEM;
    service->parts = *parts;
    service->wake_waiters.run = wake_waiters;
    service->idle_call.run = tell_idle;
    service->give_back.run = give_back;
    service->date_second = service->wall_turn_us = UINT64_MAX;
    sp_list_init(&service->client_list);
    sp_list_init(&service->exchange_list);
    sp_list_init(&service->body_waiters);
    sp_list_init(&service->questions);
    sp_map_init(&service->questions_by_key);
    sp_pool_init(&service->exchanges, SP_EXCHANGE_SIZE(SP_HTTP_FIELDS_MAX), 256);
    sp_pool_init(&service->small_exchanges, SP_EXCHANGE_SIZE(SP_EXCHANGE_FIELDS), 256);
    sp_pool_init(&service->clients, sizeof(struct sp_client), 1024);
    sp_pool_init(&service->blocks, SP_BODY_BLOCK_SIZE, 256);
    sp_pool_init(&service->scans, sp_inspect_scan_size(), 16);
    sp_random(&service->scan_key, sizeof service->scan_key);
    sp_buffer_init(&service->out, SP_CLIENT_OUT_MAX);
    sp_buffer_init(&service->answer_fields, SP_ANSWER_FIELDS_LEN);
    sp_buffer_init(&service->limit_fields.lines, SP_HTTP_HEAD_MAX);
    sp_buffer_init(&service->spare_up, SP_UP_MAX);
    *ret = service;
    return 0;
}

void sp_service_free(struct sp_service *service) {
    if (!service)
        return;
    sp_deferred_cancel(&service->give_back);
    sp_deferred_cancel(&service->wake_waiters);
    sp_deferred_cancel(&service->idle_call);
    sp_questions_free(service);
    sp_snapshot_unref(service->snapshot);
    sp_pool_drain(&service->exchanges);
    sp_pool_drain(&service->small_exchanges);
    sp_pool_drain(&service->clients);
    sp_pool_drain(&service->blocks);
    sp_pool_drain(&service->scans);
    while (service->n_readers)
        sp_usage_reader_free(service->readers[--service->n_readers]);
    sp_buffer_free(&service->out);
    sp_buffer_free(&service->answer_fields);
    sp_buffer_free(&service->limit_fields.lines);
    sp_buffer_free(&service->spare_up);
    free(service);
}

/* Each worker its share, in which at least one of the largest bodies fits. */
static uint64_t budget_of(const struct sp_config *config) {
    uint64_t largest = 0;
    for (size_t i = 0; i < config->n_routes; i++)
        if (config->routes[i].models_in_body)
            largest = sp_max(largest, config->routes[i].max_body);
    uint64_t blocks = largest / (SP_BODY_BLOCK_SIZE - sizeof(struct sp_body_block)) + 2;
    uint64_t one = largest ? blocks * SP_BODY_BLOCK_SIZE + sp_inspect_scan_size() : 0;
    return sp_max(config->memory_bodies / sp_max(config->workers, 1u), one);
}

void sp_service_use(struct sp_service *service, struct sp_snapshot *snapshot) {
    struct sp_snapshot *old = service->snapshot;
    service->snapshot = sp_snapshot_ref(snapshot);
    sp_snapshot_unref(old);
    service->body_bytes_max = budget_of(snapshot->config);
    if (!sp_list_empty(&service->body_waiters)) /* there may be more room now */
        sp_defer(service->parts.loop, &service->wake_waiters);
}

void sp_service_set_access_log(struct sp_service *service, struct sp_access_log *access_log) { service->parts.access_log = access_log; }

void sp_service_drain(struct sp_service *service, void (*idle)(void *owner), void *owner) {
    service->draining = true;
    service->idle = idle;
    service->idle_owner = owner;
    sp_list_each_safe(node, &service->client_list)
        sp_client_drain(sp_client_of(node));
    sp_defer(service->parts.loop, &service->idle_call);
}

void sp_service_abort(struct sp_service *service) {
    while (!sp_list_empty(&service->client_list))
        sp_client_close(sp_client_of(service->client_list.next), true);
}

void sp_service_cut_key(struct sp_service *service, struct sp_span key_id) {
    struct sp_list doomed; /* gathered first: the end of one may be the end of others on its connection */
    sp_list_init(&doomed);
    sp_list_each_safe(node, &service->exchange_list) {
        struct sp_exchange *x = sp_list_entry(node, struct sp_exchange, node);
        if (!x->principal || x->principal->kind != SP_CREDENTIAL_API_KEY || !sp_span_eq(x->principal->key_id, key_id))
            continue;
        sp_list_remove(&x->node);
        sp_list_append(&doomed, &x->node);
    }
    while (!sp_list_empty(&doomed))
        sp_exchange_cut(sp_list_entry(doomed.next, struct sp_exchange, node));
}

static size_t live_exchanges(const struct sp_service *service) { return service->exchanges.live + service->small_exchanges.live; }

bool sp_service_idle(const struct sp_service *service) { return service->clients.live == 0 && live_exchanges(service) == 0; }

void sp_service_freed(struct sp_service *service) {
    if (service->clients_peak >= FLOOD_MIN && service->clients.live <= service->clients_peak / 4) {
        service->clients_peak = service->clients.live;
        sp_defer_to_next_turn(service->parts.loop, &service->give_back); /* when what was freed in this one is free */
    }
    if (service->draining && sp_service_idle(service))
        sp_defer(service->parts.loop, &service->idle_call);
}

void sp_service_state(const struct sp_service *service, struct sp_service_state *ret) {
    *ret = (struct sp_service_state){
        .connections = service->clients.live,
        .exchanges = live_exchanges(service),
        .body_bytes = service->body_bytes,
    };
}

void sp_service_count(struct sp_service *service, enum sp_counter counter, uint64_t by) {
    if (service->parts.counters)
        sp_count(service->parts.counters, service->parts.worker_slot, counter, by);
}

uint64_t sp_service_wall_ms(struct sp_service *service) {
    uint64_t turn = sp_loop_now_us(service->parts.loop);
    if (turn != service->wall_turn_us) {
        service->wall_turn_us = turn;
        service->wall_ms = sp_wall_ms();
    }
    return service->wall_ms;
}

struct sp_span sp_service_date(struct sp_service *service) {
    uint64_t now = sp_service_wall_ms(service) / 1000;
    if (now != service->date_second) {
        sp_http_date(now, service->date);
        service->date_second = now;
    }
    return sp_span(service->date, SP_HTTP_DATE_LEN);
}
