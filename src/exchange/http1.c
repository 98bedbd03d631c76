/* How an exchange answers over HTTP/1.1 (RFC 9112): the head and the first of the body leave in one write, later bytes as they come. */
#include "client.h"

/* Where the answer is assembled: in the service's buffer while everything so far could be written, so that idle connections own none. */
static struct sp_buffer *assembly(struct sp_client *client) {
    return sp_buffer_len(&client->out) ? &client->out : &client->service->out;
}

static void append(struct sp_exchange *x, struct sp_span bytes) {
    if (x->client->state != SP_CLIENT_CLOSED && sp_buffer_append_span(assembly(x->client), bytes))
        sp_client_close(x->client, true); /* bounded by full(): only memory can be short */
}

/* What could not be written moves to the connection. */
static bool keep_rest(struct sp_client *client) {
    struct sp_buffer *shared = &client->service->out;
    if (sp_buffer_len(shared) && sp_buffer_append_span(&client->out, sp_buffer_span(shared))) {
        sp_client_close(client, true);
        return false;
    }
    sp_buffer_consume(shared, sp_buffer_len(shared));
    return true;
}

bool sp_client_flush(struct sp_client *client) {
    if (client->state == SP_CLIENT_CLOSED)
        return false;
    struct sp_buffer *out = assembly(client);
    while (sp_buffer_len(out) && sp_transport_writable(client->transport)) {
        ssize_t written = sp_transport_write(client->transport, out->bytes + out->begin, sp_buffer_len(out));
        if (written == SP_IO_AGAIN)
            break;
        if (written < 0) {
            sp_client_close(client, true);
            return false;
        }
        sp_buffer_consume(out, (size_t)written);
        client->wrote = true;
    }
    if (out == &client->service->out)
        return keep_rest(client);
    if (sp_buffer_len(out) == 0)
        sp_buffer_free(out);
    return true;
}

/* Is so little of the request's body still to come that reading it is cheaper than a new connection? */
static bool rest_is_small(const struct sp_client *client) {
    if (client->body_done)
        return true;
    return !client->continue_wanted && client->incoming.framing == SP_FRAMING_LENGTH && client->incoming.left <= SP_DISCARD_MAX;
}

static void http1_head(struct sp_exchange *x, const struct sp_answer *answer) {
    struct sp_client *client = x->client;
    struct sp_buffer *out = assembly(client);
    size_t before = sp_buffer_len(out);
    bool old = x->request.minor == 0;
    client->no_body = !answer->has_body;
    client->length_told = answer->has_length;
    client->chunked = answer->has_body && !answer->has_length && !old;
    bool slow = answer->status == 408; /* RFC 9110 §15.5.9: nobody waits for the rest */
    if (!x->request.keep_alive || client->out_of_step || x->service->draining || slow || !rest_is_small(client) ||
        (answer->has_body && !answer->has_length && old))
        client->close_after = true;
    int error = answer->error;
    if (!error)
        error = sp_http_write_status_line(out, answer->status);
    if (!error)
        error = sp_buffer_append_span(out, sp_buffer_span(answer->fields));
    if (!error && answer->has_length && answer->status != 204 && answer->status != 304) {
        error = sp_http_write_framing(out, SP_FRAMING_LENGTH, answer->content_length);
    } else if (!error && client->chunked) {
        error = sp_http_write_framing(out, SP_FRAMING_CHUNKED, 0);
    }
    if (!error && client->close_after)
        error = sp_buffer_append_span(out, SP_SPAN("connection: close\r\n"));
    if (!error)
        error = sp_http_write_end(out);
    if (error)
        sp_client_close(client, true);
    else
        x->bytes_out += sp_buffer_len(out) - before;
}

static void http1_body(struct sp_exchange *x, struct sp_span bytes) {
    struct sp_client *client = x->client;
    if (client->no_body)
        return;
    x->bytes_out += bytes.len;
    if (client->chunked) {
        char head[SP_HTTP_CHUNK_HEAD_MAX];
        append(x, sp_span(head, sp_http_chunk_head(bytes.len, head)));
    }
    append(x, bytes);
    if (client->chunked)
        append(x, SP_SPAN("\r\n"));
}

static void http1_end(struct sp_exchange *x) {
    if (x->client->chunked)
        append(x, SP_HTTP_CHUNK_END);
    x->client->chunked = false;
}

static void http1_broken(struct sp_exchange *x) {
    struct sp_client *client = x->client;
    /* What came is passed on. The missing rest of a framed body then tells the client; where only the close marks the end, a reset must. */
    if (x->answered && !sp_client_flush(client))
        return;
    client->exchange = NULL; /* which ends for a reason of its own, not because the client left */
    sp_client_close(client, !x->answered || (!client->chunked && !client->length_told));
}

static void http1_flush(struct sp_exchange *x) { (void)sp_client_flush(x->client); }

static bool http1_full(const struct sp_exchange *x) {
    const struct sp_client *client = x->client;
    return sp_buffer_len(&client->out) + sp_buffer_len(&client->service->out) >= SP_CLIENT_OUT_HIGH;
}

static void http1_read_more(struct sp_exchange *x) {
    if (sp_buffer_len(&x->client->in) || sp_transport_readable(x->client->transport))
        sp_client_resume_later(x->client);
}

static void http1_go_on(struct sp_exchange *x) {
    struct sp_client *client = x->client;
    if (!client->continue_wanted || client->body_done)
        return;
    client->continue_wanted = false;
    append(x, SP_SPAN("HTTP/1.1 100 Continue\r\n\r\n"));
    (void)sp_client_flush(client);
}

static void http1_done(struct sp_exchange *x) { sp_client_exchange_done(x->client); }

const struct sp_front sp_http1_front = {
    .head = http1_head,
    .body = http1_body,
    .end = http1_end,
    .broken = http1_broken,
    .flush = http1_flush,
    .full = http1_full,
    .read_more = http1_read_more,
    .go_on = http1_go_on,
    .done = http1_done,
};
