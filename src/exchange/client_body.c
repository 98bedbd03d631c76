/* A request's body, from its client's connection into the exchange: no more of it than there is memory for. */
#include "client.h"

enum { READS_PER_TURN = 32 }; /* of a body that is gathered: half a megabyte, then others have their turn */

/* One run of body bytes off *rest: no more of it is decoded than there is memory for, for a decoder cannot be given anything back.
 * false: the request was refused. */
static bool feed_run(struct sp_client *client, struct sp_span *rest) {
    struct sp_exchange *x = client->exchange;
    size_t room;
    char *to = sp_body_room(x, rest->len, &room);
    if (!to)
        return true; /* it waits where it is */
    struct sp_span input = sp_span(rest->at, room), payload;
    enum sp_http_progress progress = sp_http_body_next(&client->incoming, &input, &payload);
    *rest = sp_span_from(*rest, room - input.len);
    if (progress == SP_HTTP_REFUSED) {
        client->out_of_step = true;
        sp_exchange_refuse(x, 400, "malformed chunk");
        return false;
    }
    memcpy(to, payload.at, payload.len);
    sp_body_added(x, payload.len);
    x->bytes_in += payload.len;
    client->body_done = progress == SP_HTTP_COMPLETE;
    return true;
}

void sp_client_feed_body(struct sp_client *client, struct sp_span *rest) {
    struct sp_exchange *x = client->exchange;
    while (rest->len && !client->body_done && !x->body.waits_for_memory)
        if (!feed_run(client, rest))
            return;
    x->body.complete = client->body_done;
    if (x->route && x->body.received > x->route->max_body) {
        client->out_of_step = !client->body_done;
        sp_exchange_refuse(x, 413, "body too large");
    }
}

/* A body with a length is read straight into the exchange's blocks. false: nothing more can be read now. */
static bool read_length_body(struct sp_client *client) {
    struct sp_exchange *x = client->exchange;
    size_t room;
    char *to = sp_body_room(x, (size_t)sp_min(client->incoming.left, (uint64_t)SP_BODY_BLOCK_SIZE), &room);
    if (!to)
        return false;
    ssize_t n = sp_transport_read(client->transport, to, room);
    if (n == SP_IO_AGAIN)
        return false;
    if (n <= 0) {
        sp_client_close(client, true);
        return false;
    }
    sp_body_added(x, (size_t)n);
    client->incoming.left -= (uint64_t)n;
    x->bytes_in += (uint64_t)n;
    x->body.complete = client->body_done = client->incoming.left == 0;
    return true;
}

static bool read_chunked_body(struct sp_client *client) {
    struct sp_service *service = client->service;
    if (sp_buffer_len(&client->in) == 0) {
        ssize_t n = sp_transport_read(client->transport, service->scratch, sizeof service->scratch);
        if (n == SP_IO_AGAIN)
            return false;
        if (n <= 0) {
            sp_client_close(client, true);
            return false;
        }
        struct sp_span rest = sp_span(service->scratch, (size_t)n);
        sp_client_feed_body(client, &rest);
        if (client->state != SP_CLIENT_CLOSED && sp_buffer_append_span(&client->in, rest))
            sp_client_close(client, true);
        return client->state == SP_CLIENT_EXCHANGE;
    }
    struct sp_span rest = sp_buffer_span(&client->in);
    size_t before = rest.len;
    sp_client_feed_body(client, &rest);
    if (client->state == SP_CLIENT_CLOSED)
        return false;
    sp_buffer_consume(&client->in, before - rest.len);
    return client->state == SP_CLIENT_EXCHANGE && rest.len < before;
}

void sp_client_read_body(struct sp_client *client) {
    struct sp_exchange *x = client->exchange;
    bool moved = false;
    for (int reads = 0; client->exchange == x && !client->body_done && sp_body_wants(x); reads++) {
        if (reads == READS_PER_TURN) {
            sp_client_resume_later(client);
            break;
        }
        bool buffered = sp_buffer_len(&client->in);
        if (!buffered && !sp_transport_readable(client->transport))
            break;
        if (client->incoming.framing == SP_FRAMING_LENGTH && !buffered) {
            if (!read_length_body(client))
                break;
        } else if (!read_chunked_body(client)) {
            break;
        }
        moved = true;
    }
    if (client->exchange != x)
        return;
    if (moved)
        sp_exchange_progress(x);
    if (moved || x->body.waits_for_memory) /* no memory for more: what is here must go on, so that it gives its own back */
        sp_exchange_run(x);
}
