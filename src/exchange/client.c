/* A client connection's life: handshake, then one request after another, each handed to an exchange; one closing function. */
#include "client.h"

enum { PIPELINED_MAX = 4096 }; /* bytes of the next requests that are read while an answer is under way */

enum {
    REQUESTS_PER_TURN = 16,    /* of one connection, answered without waiting: then others have their turn */
    SILENT_IN_DRAIN_MS = 1000, /* what who has just come, or was just answered, may take to say what he wants */
};

static const struct sp_listener_config *listener_of(const struct sp_client *client) {
    return client->service->snapshot->listener[client->listener_slot];
}

/* ---- Time: one timer per connection, moved only when it fires too early ---- */

void sp_client_deadline(struct sp_client *client, uint64_t after_ms) {
    uint64_t now = sp_loop_now_ms(client->service->parts.loop);
    client->deadline_ms = after_ms == UINT64_MAX ? UINT64_MAX : now + after_ms;
    if (after_ms != UINT64_MAX && (!client->timer.active || client->timer.due_ms > client->deadline_ms + 1))
        sp_timer_start(client->service->parts.loop, &client->timer, after_ms);
}

static uint64_t idle_ms(const struct sp_client *client) {
    const struct sp_listener_config *listener = listener_of(client);
    return listener ? listener->idle_timeout_ms : 1000; /* its listener is no longer configured */
}

static uint64_t header_ms(const struct sp_client *client) {
    const struct sp_listener_config *listener = listener_of(client);
    return listener ? listener->header_timeout_ms : 1000;
}

/* While draining, a connection on which nothing is under way is not waited for as long as it may be idle. */
static void wait_for_next(struct sp_client *client) {
    sp_client_deadline(client, client->service->draining ? sp_min(idle_ms(client), (uint64_t)SILENT_IN_DRAIN_MS) : idle_ms(client));
}

static void refuse_head(struct sp_client *client, unsigned status, const char *reason);

/* What a handshake waited for its turn is not its client's fault: he is given that time again, at most as much as he has anyway. */
static bool owed_time(struct sp_client *client) {
    const struct sp_listener_config *listener = listener_of(client);
    uint64_t owed = sp_min(sp_transport_waited_ms(client->transport), listener ? listener->handshake_timeout_ms : 0);
    if (owed <= client->repaid_ms)
        return false;
    sp_client_deadline(client, owed - client->repaid_ms);
    client->repaid_ms = owed;
    return true;
}

static void time_out(struct sp_timer *timer) {
    struct sp_client *client = SP_CONTAINER(timer, struct sp_client, timer);
    uint64_t now = sp_loop_now_ms(client->service->parts.loop);
    if (client->deadline_ms > now) {
        if (client->deadline_ms != UINT64_MAX)
            sp_timer_start(client->service->parts.loop, timer, client->deadline_ms - now);
        return;
    }
    switch (client->state) {
    case SP_CLIENT_HEAD:
        refuse_head(client, 408, "request head too slow");
        break;
    case SP_CLIENT_FLUSH:
        if (client->wrote) {
            client->wrote = false;
            sp_client_deadline(client, idle_ms(client));
            break;
        }
        sp_client_close(client, true);
        break;
    case SP_CLIENT_HANDSHAKE:
        if (owed_time(client))
            break;
        sp_service_count(client->service, SP_COUNTER_HANDSHAKES_FAILED, 1);
        sp_client_close(client, true);
        break;
    case SP_CLIENT_DISCARD:
        sp_client_close(client, true);
        break;
    case SP_CLIENT_IDLE:
        sp_client_close(client, false);
        break;
    case SP_CLIENT_EXCHANGE:
    case SP_CLIENT_CLOSED:
        break;
    }
}

/* ---- The end ---- */

static void free_client(struct sp_deferred *deferred) {
    struct sp_client *client = SP_CONTAINER(deferred, struct sp_client, free);
    struct sp_service *service = client->service;
    sp_traffic_leave(service->parts.traffic, client->listener_slot, client->facts.address.bytes);
    sp_buffer_free(&client->in);
    sp_buffer_free(&client->out);
    sp_auth_memory_clear(&client->auth);
    sp_principal_unref(client->known);
    sp_pool_put(&service->clients, client);
    sp_service_freed(service);
}

static void forget(struct sp_client *client) {
    struct sp_service *service = client->service;
    client->state = SP_CLIENT_CLOSED;
    sp_buffer_consume(&service->out, sp_buffer_len(&service->out)); /* what was being assembled is its own: nobody else has a turn */
    sp_deferred_cancel(&client->resume);
    sp_timer_stop(&client->timer);
    sp_list_remove(&client->node);
    if (client->exchange)
        sp_exchange_client_left(client->exchange);
}

void sp_client_close(struct sp_client *client, bool abort) {
    if (client->state == SP_CLIENT_CLOSED)
        return;
    /* Closed before the exchange hears of it, so that whatever it still says goes nowhere. */
    sp_transport_close(sp_take(client->transport), abort);
    forget(client);
    sp_defer(client->service->parts.loop, &client->free);
}

/* After a last answer while the client may still be sending: the answer must arrive before any reset. Until the socket is closed it counts
 * against the caps. */
static void close_after_answer(struct sp_client *client) {
    sp_transport_linger(sp_take(client->transport), &client->free);
    forget(client);
}

/* ---- Between requests ---- */

void sp_client_resume_later(struct sp_client *client) {
    if (client->state != SP_CLIENT_CLOSED)
        sp_defer_to_next_turn(client->service->parts.loop, &client->resume);
}

/* The answer is written: what next? */
static void answer_written(struct sp_client *client) {
    if (client->close_after) {
        close_after_answer(client);
        return;
    }
    bool more = sp_buffer_len(&client->in) || sp_transport_readable(client->transport);
    client->state = client->body_done ? SP_CLIENT_IDLE : SP_CLIENT_DISCARD;
    if (client->service->draining && client->state == SP_CLIENT_IDLE && !more) {
        sp_client_close(client, false);
        return;
    }
    wait_for_next(client);
    if (more)
        sp_client_resume_later(client);
}

void sp_client_exchange_done(struct sp_client *client) {
    client->exchange = NULL;
    if (client->state == SP_CLIENT_CLOSED)
        return;
    if (sp_buffer_len(&client->out)) {
        client->state = SP_CLIENT_FLUSH;
        client->wrote = false;
        sp_client_deadline(client, idle_ms(client));
    } else {
        answer_written(client);
    }
}

/* ---- Heads ---- */

static struct sp_exchange *begin_exchange(struct sp_client *client) {
    struct sp_exchange *x = sp_exchange_new(client->service, &sp_http1_front, client, &client->facts, client->scan.lines);
    if (!x) {
        sp_client_close(client, true);
        return NULL;
    }
    client->exchange = x;
    client->state = SP_CLIENT_EXCHANGE;
    client->deadline_ms = UINT64_MAX;
    client->close_after = client->chunked = client->no_body = client->out_of_step = client->continue_wanted = false;
    client->body_done = true;
    client->scan = (struct sp_http_scan){0};
    client->looked_at = 0;
    return x;
}

/* A head that is no request: answered, and the connection closed, for nobody knows where the next message begins. */
static void refuse_head(struct sp_client *client, unsigned status, const char *reason) {
    struct sp_exchange *x = begin_exchange(client);
    if (!x)
        return;
    sp_service_count(client->service, SP_COUNTER_REQUESTS_MALFORMED, 1);
    client->out_of_step = true;
    sp_exchange_refuse(x, status, reason);
}

static void take_request_id(struct sp_exchange *x) {
    const struct sp_http_field *id = sp_http_field(&x->request.fields, SP_FIELD_X_REQUEST_ID);
    if (id && sp_request_id_sane(id->value))
        x->request_id = id->value;
}

/* A whole head, and what follows it in *rest. The exchange owns a copy of the head: the bytes it was read into serve the next read. */
static void take_request(struct sp_client *client, struct sp_span head, struct sp_span *rest) {
    struct sp_exchange *x = begin_exchange(client);
    if (!x)
        return;
    struct sp_span copy;
    const char *why = "";
    unsigned status = 503;
    if (sp_arena_copy(&x->arena, head, &copy)) {
        status = sp_http_parse_request(copy, &x->service->request, &why);
        if (!sp_exchange_take_request(x, &x->service->request)) /* not after this many lines */
            status = 431;
    }
    x->bytes_in = head.len;
    if (status) {
        sp_service_count(client->service, SP_COUNTER_REQUESTS_MALFORMED, 1);
        client->out_of_step = true;
        sp_exchange_refuse(x, status, why);
        return;
    }
    take_request_id(x);
    sp_http_body_begin(&client->incoming, x->request.framing, x->request.content_length);
    client->body_done = x->body.complete = x->request.framing == SP_FRAMING_NONE;
    client->continue_wanted = x->request.expect_continue && !client->body_done;
    sp_client_feed_body(client, rest);
}

static void keep(struct sp_client *client, struct sp_span rest) {
    if (rest.len && sp_buffer_append_span(&client->in, rest))
        sp_client_close(client, true);
}

/* Looks at what has been read of a head. `fresh`: it stands in the service's scratch, not in client->in. */
static void look_at(struct sp_client *client, struct sp_span bytes, bool fresh) {
    size_t head_len = 0;
    unsigned status = 400;
    enum sp_http_progress progress = sp_http_find_head(&client->scan, bytes, &head_len, &status);
    client->looked_at = bytes.len;
    if (progress == SP_HTTP_REFUSED) {
        refuse_head(client, status, status == 400 ? "malformed head" : status == 414 ? "target too long" : "headers too large");
        return;
    }
    if (progress == SP_HTTP_INCOMPLETE) {
        if (client->state == SP_CLIENT_IDLE) {
            client->state = SP_CLIENT_HEAD;
            sp_client_deadline(client, header_ms(client));
        }
        if (fresh)
            keep(client, bytes);
        return;
    }
    struct sp_span rest = sp_span_from(bytes, head_len);
    take_request(client, sp_span(bytes.at, head_len), &rest);
    if (client->state == SP_CLIENT_CLOSED)
        return;
    if (fresh)
        keep(client, rest);
    else
        sp_buffer_consume(&client->in, bytes.len - rest.len);
    if (client->exchange)
        sp_exchange_run(client->exchange);
}

/* Whom a reload no longer trusts is not served again: closed before its next request is read, it may connect anew and be told why not. */
static bool still_welcome(struct sp_client *client) {
    const struct sp_snapshot *snapshot = client->service->snapshot;
    const struct sp_tls_server *tls = snapshot->tls[client->listener_slot];
    if (client->welcomed == snapshot->config->generation)
        return true;
    client->welcomed = snapshot->config->generation;
    return !tls || sp_tls_server_accepts(tls, client->transport);
}

/* false: nothing more can be read now. */
static bool read_head(struct sp_client *client) {
    struct sp_service *service = client->service;
    if (client->state == SP_CLIENT_IDLE && !still_welcome(client)) {
        sp_info("a connection of %s is closed: its certificate is missing or no longer accepted", client->facts.address_text);
        sp_client_close(client, false);
        return false;
    }
    size_t held = sp_buffer_len(&client->in);
    if (client->looked_at < held) {
        look_at(client, sp_buffer_span(&client->in), false);
        return client->state != SP_CLIENT_CLOSED;
    }
    if (!sp_transport_readable(client->transport))
        return false;
    char *into = service->scratch;
    size_t room = sizeof service->scratch;
    if (held) {
        if (sp_buffer_reserve(&client->in, 1024)) {
            refuse_head(client, 431, "headers too large");
            return false;
        }
        into = sp_buffer_tail(&client->in);
        room = sp_buffer_room(&client->in);
    }
    ssize_t n = sp_transport_read(client->transport, into, room);
    if (n == SP_IO_AGAIN)
        return false;
    if (n <= 0) {
        sp_client_close(client, false);
        return false;
    }
    if (held)
        sp_buffer_added(&client->in, (size_t)n);
    look_at(client, held ? sp_buffer_span(&client->in) : sp_span(into, (size_t)n), !held);
    return client->state != SP_CLIENT_CLOSED;
}

/* While an answer is under way: whoever sends close_notify has left, even where the socket stays open (asyncio's clients wait for ours
 * first). A little of what is pipelined may come in instead, and then nothing more is read before its turn. */
static void listen_for_the_end(struct sp_client *client) {
    struct sp_service *service = client->service;
    if (sp_buffer_len(&client->in) || !sp_transport_readable(client->transport))
        return;
    ssize_t n = sp_transport_read(client->transport, service->scratch, PIPELINED_MAX);
    if (n == SP_IO_AGAIN)
        return;
    if (n <= 0)
        sp_client_close(client, true);
    else
        keep(client, sp_span(service->scratch, (size_t)n));
}

/* The rest of a body that was answered without being wanted. */
static bool discard(struct sp_client *client) {
    struct sp_service *service = client->service;
    size_t held = sp_buffer_len(&client->in);
    size_t n = (size_t)sp_min((uint64_t)held, client->incoming.left);
    if (held) {
        sp_buffer_consume(&client->in, n);
    } else {
        if (!sp_transport_readable(client->transport))
            return false;
        ssize_t got = sp_transport_read(client->transport, service->scratch, (size_t)sp_min(client->incoming.left, (uint64_t)sizeof service->scratch));
        if (got == SP_IO_AGAIN)
            return false;
        if (got <= 0) {
            sp_client_close(client, false);
            return false;
        }
        n = (size_t)got;
    }
    client->incoming.left -= n;
    if (client->incoming.left == 0) {
        client->body_done = true;
        client->state = SP_CLIENT_IDLE;
        wait_for_next(client);
    }
    return true;
}

static void read_on(struct sp_client *client) {
    unsigned requests = 0;
    for (bool more = true; more;) {
        switch (client->state) {
        case SP_CLIENT_IDLE:
            if (requests++ == REQUESTS_PER_TURN) {
                sp_client_resume_later(client);
                return;
            }
            more = read_head(client);
            break;
        case SP_CLIENT_HEAD:
            more = read_head(client);
            break;
        case SP_CLIENT_DISCARD:
            more = discard(client);
            break;
        case SP_CLIENT_EXCHANGE:
            if (!client->body_done)
                sp_client_read_body(client);
            if (client->state == SP_CLIENT_EXCHANGE && client->body_done) /* its end may have come with the body's */
                listen_for_the_end(client);
            /* The next request waits for this one's answer. */
            more = client->state != SP_CLIENT_EXCHANGE && client->state != SP_CLIENT_CLOSED;
            break;
        case SP_CLIENT_HANDSHAKE:
        case SP_CLIENT_FLUSH:
        case SP_CLIENT_CLOSED:
            more = false;
            break;
        }
    }
    if (client->state == SP_CLIENT_IDLE && sp_buffer_len(&client->in) == 0)
        sp_buffer_free(&client->in);
    /* Gone while its request is under way: nobody is left to answer (a half-closed TLS connection counts as gone). It may have left while
     * an earlier one of its requests was. */
    if (client->gone && client->state == SP_CLIENT_EXCHANGE)
        sp_client_close(client, true);
}

/* ---- Events ---- */

static void resume(struct sp_deferred *deferred) {
    struct sp_client *client = SP_CONTAINER(deferred, struct sp_client, resume);
    if (client->state != SP_CLIENT_CLOSED)
        read_on(client);
}

static void take_certificate(struct sp_client *client) {
    const struct sp_peer_certificate *peer = sp_transport_peer_certificate(client->transport);
    if (!peer)
        return;
    client->certificate = (struct sp_certificate_credential){.name = sp_span_text(peer->name),
                                                             .subject = sp_span_text(peer->subject),
                                                             .thumbprint = peer->thumbprint,
                                                             .not_after_s = peer->not_after_s};
    client->facts.certificate = &client->certificate;
}

static void opened(struct sp_client *client) {
    struct sp_service *service = client->service;
    sp_transport_tls_facts(client->transport, &client->facts.tls);
    take_certificate(client);
    sp_service_count(service, SP_COUNTER_HANDSHAKES, 1);
    if (client->facts.tls.resumed)
        sp_service_count(service, SP_COUNTER_HANDSHAKES_RESUMED, 1);
    client->state = SP_CLIENT_IDLE;
    wait_for_next(client);
}

static void writable(struct sp_client *client) {
    if (sp_buffer_len(&client->out) == 0 || !sp_client_flush(client))
        return;
    if (client->exchange)
        sp_exchange_progress(client->exchange); /* it reads, if slowly */
    if (client->state == SP_CLIENT_FLUSH && sp_buffer_len(&client->out) == 0)
        answer_written(client);
    else if (client->exchange && !sp_http1_front.full(client->exchange))
        sp_exchange_run(client->exchange);
}

static void client_ready(void *owner, unsigned ready) {
    struct sp_client *client = owner;
    if (ready & SP_READY_FAILED) {
        if (client->state == SP_CLIENT_HANDSHAKE) {
            sp_service_count(client->service, SP_COUNTER_HANDSHAKES_FAILED, 1);
            /* Who is refused for a certificate asks the operator why; everything else on the internet fails at TLS every second. */
            enum sp_log_level level = sp_transport_refused_certificate(client->transport) ? SP_LOG_INFO : SP_LOG_DEBUG;
            sp_log(level, "handshake with %s failed: %s", client->facts.address_text, sp_transport_problem(client->transport));
        }
        sp_client_close(client, false); /* no reset, which could overtake the alert */
        return;
    }
    if (ready & SP_READY_OPEN)
        opened(client);
    if (ready & SP_READY_WRITE)
        writable(client);
    client->gone |= (ready & SP_READY_GONE) != 0;
    if (ready & (SP_READY_READ | SP_READY_GONE) && client->state != SP_CLIENT_CLOSED)
        read_on(client);
}

void sp_service_accept(struct sp_service *service, unsigned listener_slot, int fd, const struct sp_address *peer) {
    struct sp_snapshot *snapshot = service->snapshot;
    struct sp_client *client = snapshot && snapshot->tls[listener_slot] ? sp_pool_get(&service->clients) : NULL;
    if (!client) {
        sp_traffic_leave(service->parts.traffic, listener_slot, peer->bytes);
        sp_close_fd(&fd);
        return;
    }
    *client = (struct sp_client){
        .service = service,
        .listener_slot = listener_slot,
        .state = SP_CLIENT_HANDSHAKE,
        .timer.fire = time_out,
        .resume.run = resume,
        .free.run = free_client,
        .facts = {.address = *peer, .protocol = SP_SPAN("HTTP/1.1"), .auth = &client->auth, .known = &client->known},
        .body_done = true,
        .welcomed = snapshot->config->generation,
    };
    sp_address_text(peer->bytes, client->facts.address_text);
    sp_buffer_init(&client->in, SP_HTTP_HEAD_MAX + 2 * SP_SCRATCH_SIZE);
    sp_buffer_init(&client->out, SP_CLIENT_OUT_MAX);
    sp_list_append(&service->client_list, &client->node);
    service->clients_peak = sp_max(service->clients_peak, service->clients.live);
    sp_service_count(service, SP_COUNTER_CONNECTIONS, 1);
    sp_client_deadline(client, snapshot->listener[listener_slot]->handshake_timeout_ms);
    if (sp_transport_accept(service->parts.loop, fd, snapshot->tls[listener_slot], client_ready, client, &client->transport)) {
        sp_close_fd(&fd);
        sp_client_close(client, true);
    }
}

struct sp_client *sp_client_of(struct sp_list *node) { return sp_list_entry(node, struct sp_client, node); }

void sp_client_drain(struct sp_client *client) {
    if (client->state == SP_CLIENT_IDLE && sp_buffer_len(&client->in) == 0 && !sp_transport_readable(client->transport))
        sp_client_close(client, false);
    else if (client->state == SP_CLIENT_IDLE || client->state == SP_CLIENT_DISCARD)
        wait_for_next(client);
}
