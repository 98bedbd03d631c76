/* relay: the answer, checked and passed on as it comes, held back when the client is slower than the server; and what is still to come
 * of the request. */
#include "private.h"

#include <errno.h>

/* A server and a client that are both fast must not keep the others waiting: about half a megabyte at a time. */
enum {
    ROUNDS_PER_TURN = 8,
    READS_PER_ROUND = 4, /* a client is full after two or three of them, unless what comes is withheld from it */
};

/* One 100 and a few 102 or 103 are all that anybody sends before the answer. */
enum { INTERIM_ANSWERS_MAX = 16 };

static enum sp_stage_answer bad_answer(struct sp_exchange *x, const char *reason) {
    x->answer_begun = true; /* whatever it was, it was an answer: no second try */
    return sp_forward_failed(x, 502, reason);
}

static void pass_head(struct sp_exchange *x, const struct sp_http_response *response) {
    struct sp_answer answer;
    sp_answer_begin(x, &answer, response->status);
    answer.has_length = response->has_content_length;
    answer.content_length = response->content_length;
    answer.has_body = response->framing != SP_FRAMING_NONE;
    if (!answer.has_body && x->request.method != SP_HTTP_HEAD && response->status != 204 && response->status != 304) {
        answer.has_length = true; /* an empty body says so */
        answer.content_length = 0;
    }
    for (unsigned i = 0; i < response->fields.count; i++) {
        const struct sp_http_field *field = &response->fields.item[i];
        if (sp_response_field_passes(x->route, field))
            sp_answer_pass(&answer, field);
    }
    if (!sp_http_field(&response->fields, SP_FIELD_DATE))
        sp_answer_add(&answer, SP_HTTP_NAME("date"), sp_service_date(x->service));
    const struct sp_headers_config *config = &x->route->response_headers;
    for (size_t i = 0; i < config->n_set; i++)
        sp_answer_add_other(&answer, sp_span_text(config->set[i].name), sp_span_text(config->set[i].value));
    if (x->usage && sp_usage_withholds(x->usage))
        answer.has_length = false; /* what is passed on is shorter */
    sp_answer_common(x, &answer);
    x->status = x->told_status = response->status;
    x->answered = true;
    x->front->head(x, &answer);
}

/* Takes a whole head off *input. NEXT: the body follows. WAIT: an interim answer was taken, or the head is not whole yet. */
static enum sp_stage_answer take_head(struct sp_exchange *x, struct sp_span *input) {
    size_t head_len = 0;
    unsigned unused;
    switch (sp_http_find_head(&x->scan, *input, &head_len, &unused)) {
    case SP_HTTP_INCOMPLETE:
        return SP_STAGE_WAIT;
    case SP_HTTP_REFUSED:
        return bad_answer(x, "backend sent a malformed head");
    case SP_HTTP_COMPLETE:
        break;
    }
    struct sp_http_response response SP_UNINITIALIZED;
    const char *why = "";
    if (sp_http_parse_response(sp_span(input->at, head_len), x->request.method, &response, &why))
        return bad_answer(x, "backend sent a malformed head");
    if (response.status == 101)
        return bad_answer(x, "backend switched protocols unasked");
    *input = sp_span_from(*input, head_len);
    x->scan = (struct sp_http_scan){0};
    if (response.status < 200) { /* RFC 9110 §15.2: interim answers are for us; the client got its 100 from us */
        if (++x->interim_answers > INTERIM_ANSWERS_MAX)
            return bad_answer(x, "backend sent too many interim answers");
        return SP_STAGE_WAIT;
    }
    sp_http_body_begin(&x->answer, response.framing, response.content_length);
    x->backend_keeps = response.keep_alive && response.framing != SP_FRAMING_CLOSE;
    x->answer_whole = response.framing == SP_FRAMING_NONE;
    if (x->answer_whole && input->len)
        x->backend_keeps = false; /* it says more than was asked */
    sp_tokens_answer_begins(x, &response);
    sp_backend_report(x->backend, response.status != 502 && response.status != 503 && response.status != 504);
    pass_head(x, &response);
    return SP_STAGE_NEXT;
}

/* To the client, read on the way where somebody wants to know what the answer took. */
static void pass_body(struct sp_exchange *x, struct sp_span payload) {
    if (!x->usage) {
        x->front->body(x, payload);
        return;
    }
    while (payload.len && !x->ended) {
        struct sp_span pass = sp_tokens_read(x, &payload);
        if (pass.len)
            x->front->body(x, pass);
    }
}

/* Body bytes off *input to the client. */
static enum sp_stage_answer take_body(struct sp_exchange *x, struct sp_span *input) {
    while (input->len && !x->answer_whole && !x->ended) {
        struct sp_span payload;
        enum sp_http_progress progress = sp_http_body_next(&x->answer, input, &payload);
        if (progress == SP_HTTP_REFUSED)
            return bad_answer(x, "backend sent a malformed chunk");
        x->answer_whole = progress == SP_HTTP_COMPLETE;
        if (x->answer_whole && input->len)
            x->backend_keeps = false; /* it says more than was asked; decided before the client's end can end all of this */
        if (payload.len)
            pass_body(x, payload);
    }
    return SP_STAGE_NEXT;
}

static enum sp_stage_answer take(struct sp_exchange *x, struct sp_span *input) {
    if (!x->first_byte_us)
        x->first_byte_us = sp_loop_now_us(sp_loop_of(x));
    if (!x->answer_begun) {
        x->answer_begun = true;
        sp_body_let_go(x);
    }
    while (input->len && !x->answered) {
        size_t before = input->len;
        enum sp_stage_answer head = take_head(x, input);
        if (x->ended || (head != SP_STAGE_NEXT && head != SP_STAGE_WAIT))
            return head;
        if (head == SP_STAGE_WAIT && input->len == before)
            return SP_STAGE_WAIT; /* more of the head must come */
    }
    return x->answered ? take_body(x, input) : SP_STAGE_NEXT;
}

/* The server's end of the connection, orderly (0) or not. */
static enum sp_stage_answer take_end(struct sp_exchange *x, ssize_t end) {
    if (x->answered && x->answer.framing == SP_FRAMING_CLOSE && end == 0) {
        x->answer_whole = true;
        return SP_STAGE_NEXT;
    }
    return sp_forward_failed(x, 502, end == 0 ? "backend closed before its answer was whole" : "backend broke off");
}

/* One read. WAIT: nothing more now. NEXT: go on. */
static enum sp_stage_answer read_once(struct sp_exchange *x) {
    struct sp_transport *transport = sp_backend_transport(x->backend);
    struct sp_buffer *kept = sp_backend_in(x->backend);
    struct sp_service *service = x->service;
    ssize_t n;
    if (sp_buffer_len(kept) == 0) {
        n = sp_transport_read(transport, service->scratch, sizeof service->scratch);
        if (n > 0) {
            struct sp_span input = sp_span(service->scratch, (size_t)n);
            enum sp_stage_answer answer = take(x, &input);
            if (x->ended || !x->backend || answer == SP_STAGE_REPLY || answer == SP_STAGE_CLOSE)
                return answer;
            if (answer == SP_STAGE_WAIT && sp_buffer_append_span(kept, input))
                return bad_answer(x, "backend sent too large a head");
            return SP_STAGE_NEXT;
        }
    } else {
        if (sp_buffer_reserve(kept, 4096))
            return bad_answer(x, "backend sent too large a head");
        n = sp_transport_read(transport, sp_buffer_tail(kept), sp_buffer_room(kept));
        if (n > 0) {
            sp_buffer_added(kept, (size_t)n);
            struct sp_span input = sp_buffer_span(kept);
            enum sp_stage_answer answer = take(x, &input);
            if (x->ended || !x->backend || answer == SP_STAGE_REPLY || answer == SP_STAGE_CLOSE)
                return answer;
            sp_buffer_consume(kept, sp_buffer_len(kept) - input.len);
            return SP_STAGE_NEXT;
        }
    }
    return n == SP_IO_AGAIN ? SP_STAGE_WAIT : take_end(x, n);
}

static bool may_read(const struct sp_exchange *x) {
    return !x->answer_whole && !x->front->full(x) &&
           (x->backend_ready & SP_READY_READ || sp_transport_readable(sp_backend_transport(x->backend)));
}

static enum sp_stage_answer pump_answer(struct sp_exchange *x) {
    unsigned reads = 0;
    do {
        x->backend_ready &= ~(unsigned)SP_READY_READ;
        enum sp_stage_answer answer = read_once(x);
        if (x->ended || !x->backend)
            return answer;
        if (answer == SP_STAGE_WAIT)
            break;
        if (answer != SP_STAGE_NEXT)
            return answer;
        if (x->answered) /* before, first_byte runs: a head that comes drop by drop is no answer */
            sp_exchange_progress(x);
    } while (++reads < READS_PER_ROUND && may_read(x));
    return SP_STAGE_WAIT;
}

/* Another try has begun inside this stage: back to forward, without a new row in the table. */
static enum sp_stage_answer again(struct sp_exchange *x) {
    x->stage--;
    x->again = true;
    return SP_STAGE_WAIT;
}

enum sp_stage_answer sp_stage_relay(struct sp_exchange *x) {
    if (!x->request_sent) {
        enum sp_stage_answer sent = sp_forward_pump(x);
        if (x->ended)
            return SP_STAGE_WAIT;
        if (!x->backend)
            return sent == SP_STAGE_NEXT ? again(x) : sent;
    }
    for (int round = 0; may_read(x); round++) {
        if (round == ROUNDS_PER_TURN) {
            sp_defer_to_next_turn(sp_loop_of(x), &x->more);
            break;
        }
        enum sp_stage_answer answer = pump_answer(x);
        if (x->ended)
            return SP_STAGE_WAIT;
        if (!x->backend)
            return answer == SP_STAGE_NEXT ? again(x) : answer;
        if (answer != SP_STAGE_WAIT)
            return answer;
        if (x->answer_whole) {
            struct sp_span held = sp_tokens_answer_ends(x);
            if (held.len)
                x->front->body(x, held);
            return x->ended ? SP_STAGE_WAIT : SP_STAGE_NEXT;
        }
        x->front->flush(x);
        if (x->ended)
            return SP_STAGE_WAIT;
    }
    sp_exchange_watch(x);
    return SP_STAGE_WAIT;
}
