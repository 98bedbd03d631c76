/* forward: to which server; the request written anew from what was understood, with our fields, not the client's; sent as it comes. */
#include "private.h"

#include <errno.h>

enum { PIECES_MAX = 16 };

/* ---- The head ---- */

/* Of the bytes of a body (RFC 9530, RFC 3230). */
static bool is_digest(struct sp_span name) {
    return sp_span_eq_nocase(name, SP_SPAN("content-digest")) || sp_span_eq_nocase(name, SP_SPAN("digest"));
}

static int write_fields(struct sp_exchange *x, struct sp_buffer *out) {
    const struct sp_http_fields *fields = &x->request.fields;
    for (unsigned i = 0; i < fields->count; i++) {
        const struct sp_http_field *field = &fields->item[i];
        if (!sp_request_field_passes(x->route, x->target, field))
            continue;
        if (field->id == SP_FIELD_ACCEPT_ENCODING && sp_tokens_wanted(x))
            continue; /* its usage could not be read */
        if (x->inspection.changed && is_digest(field->name))
            continue;
        int error = sp_http_write_parsed(out, field);
        if (error)
            return error;
    }
    const struct sp_headers_config *config = &x->route->request_headers;
    for (size_t i = 0; i < config->n_set; i++) {
        int error = sp_http_write_field(out, sp_span_text(config->set[i].name), sp_span_text(config->set[i].value));
        if (error)
            return error;
    }
    return 0;
}

static int write_our_fields(struct sp_exchange *x, struct sp_buffer *out) {
    const struct sp_http_field *parent = sp_http_field(&x->request.fields, SP_FIELD_TRACEPARENT);
    const struct sp_http_field *host = sp_http_field(&x->request.fields, SP_FIELD_HOST);
    char traceparent[SP_TRACEPARENT_LEN + 1] SP_UNINITIALIZED;
    sp_traceparent(parent ? parent->value : sp_span(NULL, 0), traceparent);
    int error = sp_http_write_named(out, SP_HTTP_NAME("x-request-id"), x->request_id);
    if (!error)
        error = sp_http_write_named(out, SP_HTTP_NAME("traceparent"), sp_span(traceparent, SP_TRACEPARENT_LEN));
    if (!error)
        error = sp_http_write_named(out, SP_HTTP_NAME("x-forwarded-for"), sp_span_text(x->from->address_text));
    if (!error)
        error = sp_buffer_append_span(out, SP_SPAN("x-forwarded-proto: https\r\n"));
    if (!error && host)
        error = sp_http_write_named(out, SP_HTTP_NAME("x-forwarded-host"), host->value);
    const struct sp_credential_config *credential = &x->target->credential;
    if (!error && credential->header && credential->value) {
        error = sp_buffer_append_span(out, sp_span_text(credential->header));
        if (!error)
            error = sp_buffer_append(out, ": ", 2);
        if (!error)
            error = sp_buffer_append_span(out, sp_span_text(credential->prefix));
        if (!error)
            error = sp_buffer_append_span(out, sp_span_text(credential->value));
        if (!error)
            error = sp_buffer_append(out, "\r\n", 2);
    }
    return error;
}

/* A body that is whole already is sent with its length, whatever framing the client used: one thing less to disagree about. */
static int write_framing(struct sp_exchange *x, struct sp_buffer *out) {
    x->chunked_up = x->request.framing == SP_FRAMING_CHUNKED && !x->body.complete;
    if (x->chunked_up)
        return sp_http_write_framing(out, SP_FRAMING_CHUNKED, 0);
    if (x->request.framing != SP_FRAMING_NONE && x->body.complete) /* what was inspected may have been changed */
        return sp_http_write_framing(out, SP_FRAMING_LENGTH, x->body.received);
    bool expects_one = x->request.method == SP_HTTP_POST || x->request.method == SP_HTTP_PUT || x->request.method == SP_HTTP_PATCH;
    if (x->request.framing == SP_FRAMING_NONE && expects_one)
        return sp_http_write_framing(out, SP_FRAMING_LENGTH, 0); /* RFC 9110 §8.6 */
    return sp_http_write_framing(out, x->request.framing, x->request.content_length);
}

static int write_head(struct sp_exchange *x, struct sp_buffer *out) {
    const struct sp_server_config *server = sp_backend_server(x->backend);
    struct sp_span base = x->path.at[0] == '/' ? sp_span_text(server->base_path) : SP_SPAN("");
    int error = sp_http_write_request_line(out, x->request.method_name, base, x->path, x->request.query);
    if (!error)
        error = sp_http_write_named(out, SP_HTTP_NAME("host"), sp_span_text(server->authority));
    if (!error)
        error = write_fields(x, out);
    if (!error)
        error = write_framing(x, out);
    if (!error)
        error = write_our_fields(x, out);
    return error ? error : sp_http_write_end(out);
}

/* ---- Sending ---- */

/* The memory of x->up goes from request to request: it is wanted for no longer than a request takes to be sent. */
static void borrow_up(struct sp_exchange *x) {
    if (x->up.bytes || !x->service->spare_up.bytes)
        return;
    x->up = x->service->spare_up;
    sp_buffer_init(&x->service->spare_up, SP_UP_MAX);
}

static void lend_up(struct sp_exchange *x) {
    if (x->service->spare_up.bytes) {
        sp_buffer_free(&x->up);
        return;
    }
    x->service->spare_up = x->up;
    sp_buffer_init(&x->up, SP_UP_MAX);
}

/* Chunk framing is written into x->up together with the payload: rare, and simpler than framing kept apart over partial writes. */
static int frame_chunks(struct sp_exchange *x) {
    struct iovec piece;
    while (sp_buffer_len(&x->up) < SP_BODY_WINDOW && sp_body_unsent(x, &piece, 1)) {
        char head[SP_HTTP_CHUNK_HEAD_MAX];
        int error = sp_buffer_append(&x->up, head, sp_http_chunk_head(piece.iov_len, head));
        if (!error)
            error = sp_buffer_append(&x->up, piece.iov_base, piece.iov_len);
        if (!error)
            error = sp_buffer_append(&x->up, "\r\n", 2);
        if (error)
            return error;
        sp_body_sent(x, piece.iov_len);
    }
    if (x->body.complete && sp_body_waiting(&x->body) == 0 && !x->chunk_end_sent) {
        x->chunk_end_sent = true;
        return sp_buffer_append_span(&x->up, SP_HTTP_CHUNK_END);
    }
    return 0;
}

/* One writev of what is there. > 0, 0 nothing to send, SP_IO_AGAIN, -errno. */
static ssize_t send_pieces(struct sp_exchange *x) {
    struct iovec pieces[PIECES_MAX] SP_UNINITIALIZED;
    int n = 0;
    size_t head = sp_buffer_len(&x->up);
    if (head)
        pieces[n++] = (struct iovec){x->up.bytes + x->up.begin, head};
    if (!x->chunked_up)
        n += sp_body_unsent(x, pieces + n, PIECES_MAX - n);
    if (n == 0)
        return 0;
    ssize_t sent = sp_transport_writev(sp_backend_transport(x->backend), pieces, n);
    if (sent <= 0)
        return sent;
    size_t of_head = sp_min((size_t)sent, head);
    sp_buffer_consume(&x->up, of_head);
    if ((size_t)sent > of_head)
        sp_body_sent(x, (size_t)sent - of_head);
    x->up_written += (size_t)sent;
    x->server_saw = true;
    sp_exchange_progress(x);
    return sent;
}

enum sp_stage_answer sp_forward_pump(struct sp_exchange *x) {
    for (;;) {
        if (x->chunked_up && frame_chunks(x))
            return sp_forward_failed(x, 503, "out of memory");
        if (!sp_transport_writable(sp_backend_transport(x->backend)))
            break;
        ssize_t sent = send_pieces(x);
        if (sent == SP_IO_AGAIN || sent == 0)
            break;
        if (sent < 0) {
            /* It no longer listens; but it may have answered before (RFC 9112 §9.5): whoever reads will find out. */
            x->backend_ready |= SP_READY_READ;
            break;
        }
    }
    if (sp_body_wants(x))
        x->front->read_more(x);
    if (x->body.complete && sp_body_waiting(&x->body) == 0 && sp_buffer_len(&x->up) == 0) {
        x->request_sent = true;
        lend_up(x);
    }
    return SP_STAGE_NEXT;
}

/* ---- Tries ---- */

static void backend_ready(void *owner, unsigned ready) {
    struct sp_exchange *x = owner;
    x->backend_ready |= ready;
    sp_exchange_run(x);
}

static bool is_idempotent(enum sp_http_method method) {
    return method == SP_HTTP_GET || method == SP_HTTP_HEAD || method == SP_HTTP_PUT || method == SP_HTTP_DELETE ||
           method == SP_HTTP_OPTIONS;
}

/* May the request be sent once more? Never after a byte of an answer. Always while the server took none of ours. On a kept connection
 * once, for it was most likely closed as we wrote (RFC 9112 §9.3.1); else only what may be repeated (RFC 9110 §9.2.2). */
static bool may_try_again(struct sp_exchange *x, bool *ret_free) {
    bool reused = x->backend && sp_backend_reused(x->backend);
    *ret_free = reused && !x->retried_kept;
    if (x->answered || x->answer_begun || !sp_body_is_whole(&x->body))
        return false;
    if (*ret_free)
        return true;
    if (x->tries - x->tries_before - x->retried_kept >= x->target->retries)
        return false;
    return x->up_written == 0 || is_idempotent(x->request.method) || sp_http_field(&x->request.fields, SP_FIELD_IDEMPOTENCY_KEY);
}

/* What the socket or TLS had to say: which certificate, and why not. */
static void tell_problem(struct sp_exchange *x) {
    const struct sp_transport *transport = sp_backend_transport(x->backend);
    const char *problem = sp_transport_problem(transport);
    if (*problem && sp_backend_may_tell(x->backend))
        sp_log(sp_transport_refused_certificate(transport) ? SP_LOG_WARN : SP_LOG_INFO, "backend %s: %s",
               sp_backend_server(x->backend)->url.text, problem);
}

enum sp_stage_answer sp_forward_failed(struct sp_exchange *x, unsigned status, const char *reason) {
    bool is_free;
    bool again = may_try_again(x, &is_free);
    if (x->backend) {
        if (!(again && is_free)) {
            tell_problem(x);
            sp_backend_report(x->backend, false);
            sp_service_count(x->service, SP_COUNTER_BACKEND_FAILURES, 1);
        }
        sp_backend_close(sp_take(x->backend), true);
    }
    if (!again && x->answered) {
        x->reason = reason;
        return SP_STAGE_CLOSE;
    }
    if (!again && !sp_models_fall_back(x)) {
        return sp_reply(x, status, NULL,
                        status == 504   ? "The model server did not answer in time."
                        : status == 503 ? "No model server is available. Try again."
                                        : "The model server could not be reached or did not answer as it should.",
                        reason);
    }
    sp_service_count(x->service, SP_COUNTER_RETRIES, 1);
    x->tries++;
    if (!again)
        x->tries_before = x->tries; /* the other model's pool has all of its own */
    if (again && is_free) {
        x->retried_kept = true;
        x->tried = (struct sp_upstream_tried){.fresh_only = true};
    }
    x->connected = x->request_sent = x->chunk_end_sent = false;
    x->backend_ready = 0;
    x->up_written = 0;
    x->scan = (struct sp_http_scan){0};
    sp_buffer_consume(&x->up, sp_buffer_len(&x->up));
    sp_body_rewind(x);
    return SP_STAGE_NEXT;
}

/* ---- The queue, where every server is busy ---- */

static void turn_has_come(struct sp_queue_ticket *ticket) { sp_exchange_run(SP_CONTAINER(ticket, struct sp_exchange, ticket)); }

static void turn_never_comes(struct sp_queue_ticket *ticket, int why) {
    struct sp_exchange *x = SP_CONTAINER(ticket, struct sp_exchange, ticket);
    x->queue_refused = why;
    sp_exchange_run(x);
}

/* The highest of the caller's roles. */
static enum sp_priority priority_of(const struct sp_exchange *x) {
    const struct sp_config *config = x->snapshot->config;
    enum sp_priority priority = x->roles ? SP_PRIORITY_LOW : SP_PRIORITY_NORMAL;
    for (uint64_t roles = x->roles; roles; roles &= roles - 1)
        priority = sp_max(priority, config->roles[__builtin_ctzll(roles)].priority);
    return priority;
}

static void make_ticket(struct sp_exchange *x) {
    x->ticket.priority = priority_of(x);
    x->ticket.ready = turn_has_come;
    x->ticket.refused = turn_never_comes;
}

static enum sp_stage_answer busy(struct sp_exchange *x, int why) {
    uint64_t pace_ms = why == -ENOTSUP ? 1000 : sp_queue_pace_ms(x->service->parts.upstreams, x->target, x->ticket.priority);
    x->retry_after_s = sp_divide_up(pace_ms, 1000);
    if (why == -ETIMEDOUT)
        return sp_reply(x, 503, "queue_timeout", "All model servers were busy for too long. Try again.", "queue timed out");
    if (why == -EAGAIN)
        return sp_reply(x, 503, "queue_full", "All model servers are busy, and too many requests wait for them. Try again.", "queue full");
    return sp_reply(x, 503, "backend_busy", "All model servers are busy. Try again.", "backends busy");
}

/* One look for a server, or for a place in the queue before it. 0: x->backend, or it waits (x->ticket.tenant). */
static int seek(struct sp_exchange *x) {
    struct sp_upstreams *upstreams = x->service->parts.upstreams;
    int error = x->queue_refused;
    x->queue_refused = 0;
    if (error)
        return error;
    x->backend = sp_upstream_take(upstreams, x->target, &x->tried, &x->ticket, backend_ready, x, &error);
    if (x->backend)
        return 0;
    if (error != -EBUSY)
        return error;
    x->ticket.who = sp_queue_who(upstreams, x->principal->tenant, x->principal->account);
    return sp_queue_enter(upstreams, x->target, &x->ticket);
}

/* Every server of the pool is down or busy, not one alone out of reach. */
static bool nobody_has_room(int error) {
    return error == -EHOSTDOWN || error == -EAGAIN || error == -ENOTSUP || error == -ETIMEDOUT || error == -ENOENT;
}

/* NEXT: there is a connection. WAIT: for a turn. CLOSE: this server could not be connected to. */
static enum sp_stage_answer take_backend(struct sp_exchange *x) {
    if (!x->ticket.ready)
        make_ticket(x);
    int error;
    do
        error = seek(x);
    while (nobody_has_room(error) && sp_models_fall_back(x));
    if (error == -EHOSTDOWN)
        return sp_reply(x, 503, "no_healthy_backend", "No model server is available. Try again.", "no healthy backend");
    if (nobody_has_room(error))
        return busy(x, error);
    if (error)
        return SP_STAGE_CLOSE; /* another server, if there is one: see below */
    if (!x->backend) {
        sp_exchange_watch(x);
        return SP_STAGE_WAIT;
    }
    x->progress_ms = sp_loop_now_ms(sp_loop_of(x));
    x->pool = x->target;
    x->server = sp_backend_server(x->backend)->url.text;
    x->connected = sp_backend_reused(x->backend);
    return SP_STAGE_NEXT;
}

/* No server's connection is held for a client that sends slowly: only a whole body, or a full window of it, is worth one. */
static bool worth_a_connection(struct sp_exchange *x) {
    if (x->forwarded_us || !sp_body_wants(x))
        return true;
    x->front->go_on(x);
    if (!x->ended)
        sp_exchange_watch(x);
    return false;
}

enum sp_stage_answer sp_stage_forward(struct sp_exchange *x) {
    if (x->inspection.listing)
        return sp_models_list(x);
    if (!worth_a_connection(x))
        return SP_STAGE_WAIT;
    for (;;) {
        if (!x->backend) {
            enum sp_stage_answer taken = take_backend(x);
            if (taken == SP_STAGE_REPLY || taken == SP_STAGE_WAIT)
                return taken;
            if (taken == SP_STAGE_CLOSE) {
                if (sp_forward_failed(x, 502, "backend unreachable") == SP_STAGE_NEXT)
                    continue;
                return SP_STAGE_REPLY;
            }
        }
        if (!x->connected) {
            if (x->backend_ready & SP_READY_FAILED) {
                bool slow = sp_backend_timed_out(x->backend);
                bool distrusted = sp_transport_refused_certificate(sp_backend_transport(x->backend));
                enum sp_stage_answer answer = sp_forward_failed(x, slow ? 504 : 502,
                                                                slow         ? "connect timed out"
                                                                : distrusted ? "backend certificate not accepted"
                                                                             : "backend unreachable");
                if (answer != SP_STAGE_NEXT)
                    return answer;
                continue;
            }
            if (!(x->backend_ready & SP_READY_OPEN)) {
                sp_exchange_watch(x);
                return SP_STAGE_WAIT;
            }
            x->connected = true;
        }
        break;
    }
    if (!x->body.complete)
        x->front->go_on(x);
    if (x->ended)
        return SP_STAGE_WAIT;
    borrow_up(x);
    if (write_head(x, &x->up))
        return sp_reply(x, 431, NULL, "The request's headers are too large.", "headers too large");
    x->forwarded_us = sp_loop_now_us(sp_loop_of(x));
    return SP_STAGE_NEXT;
}
