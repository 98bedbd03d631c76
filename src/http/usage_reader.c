#include <sallyport/usage.h>

#include <sallyport/http.h>

#include <errno.h>

#include "sse.h"
#include "usage_scan.h"

/* What held an event is kept for the next one up to this size: events of a word or two are the rule. */
enum { HELD_KEPT = 4096 };

struct sp_usage_reader {
    struct sp_usage usage;
    struct sp_said said; /* so far, over all events */
    struct sp_sse sse;
    enum sp_usage_form form;
    bool withhold;
    bool settled;       /* JSON: what was said has been taken */
    bool holding;       /* the event under way may still be left out */
    bool drop_lf;       /* what was left out last ended in a CR: a LF that comes next is its */
    bool held_passed;   /* what is held has been handed out and may go */
    size_t owed;        /* bytes at the front of the input that have been read and are only to be passed */
    uint64_t event_len; /* of the event under way, in earlier inputs */
    struct sp_buffer held;
    struct sp_usage_scan scan; /* writes what it reads, but for text_bytes */
};

enum sp_usage_form sp_usage_form(struct sp_span content_type, struct sp_span content_encoding) {
    struct sp_span type = {0};
    if (content_encoding.len && !sp_span_eq_nocase(sp_span_trim(content_encoding), SP_SPAN("identity")))
        return SP_USAGE_NONE;
    if (sp_http_is_plain_json(content_type))
        return SP_USAGE_JSON;
    if (!sp_span_split(&content_type, ';', &type))
        return SP_USAGE_NONE;
    if (sp_span_eq_nocase(type, SP_SPAN("application/json")))
        return SP_USAGE_JSON;
    return sp_span_eq_nocase(type, SP_SPAN("text/event-stream")) ? SP_USAGE_EVENTS : SP_USAGE_NONE;
}

int sp_usage_reader_new(struct sp_usage_reader **ret) {
    struct sp_usage_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return -ENOMEM;
    sp_buffer_init(&reader->held, SP_SSE_EVENT_MAX);
    sp_usage_begin(reader, SP_USAGE_NONE, false);
    *ret = reader;
    return 0;
}

void sp_usage_reader_free(struct sp_usage_reader *reader) {
    if (!reader)
        return;
    sp_buffer_free(&reader->held);
    free(reader);
}

void sp_usage_begin(struct sp_usage_reader *reader, enum sp_usage_form form, bool withhold) {
    sp_buffer_free(&reader->held);
    memset(reader, 0, offsetof(struct sp_usage_reader, held));
    reader->form = form;
    reader->withhold = withhold && form == SP_USAGE_EVENTS;
    reader->scan.text_bytes = 0;
    sp_usage_scan_begin(&reader->scan);
}

bool sp_usage_withholds(const struct sp_usage_reader *reader) { return reader->withhold; }

/* ---- What was said ---- */

static bool has(const struct sp_said *said, enum sp_said_number which) { return said->has >> which & 1; }

/* A number that is not said again keeps its last value: Anthropic says input first and output at the end. */
static void merge(struct sp_said *into, const struct sp_said *from, unsigned which) {
    for (unsigned i = 0; i < SP_SAID_COUNT; i++)
        if (from->has & which & 1u << i)
            into->number[i] = from->number[i];
    into->has |= (uint8_t)(from->has & which);
}

static bool said_input(const struct sp_said *said, uint64_t *ret) {
    if (has(said, SP_SAID_PROMPT)) {
        *ret = said->number[SP_SAID_PROMPT];
        return true;
    }
    if (!has(said, SP_SAID_INPUT))
        return false;
    *ret = said->number[SP_SAID_INPUT];
    if (!has(said, SP_SAID_INPUT_DETAILS)) { /* Anthropic's do not hold what caches took and gave */
        *ret += has(said, SP_SAID_CACHE_WRITTEN) ? said->number[SP_SAID_CACHE_WRITTEN] : 0;
        *ret += has(said, SP_SAID_CACHE_READ) ? said->number[SP_SAID_CACHE_READ] : 0;
    }
    return true;
}

static bool said_output(const struct sp_said *said, uint64_t *ret) {
    enum sp_said_number which = has(said, SP_SAID_COMPLETION) ? SP_SAID_COMPLETION : SP_SAID_OUTPUT;
    if (!has(said, which))
        return false;
    *ret = said->number[which];
    return true;
}

/* The one that is missing follows from the total, if that was said: embeddings and rankings have no output. */
static void conclude(struct sp_usage *usage, const struct sp_said *said) {
    uint64_t input = 0, output = 0, total = said->number[SP_SAID_TOTAL];
    bool knows_input = said_input(said, &input), knows_output = said_output(said, &output);
    if (has(said, SP_SAID_TOTAL) && knows_input + knows_output < 2 && total >= input + output) {
        if (!knows_input)
            input = total - output;
        else
            output = total - input;
        knows_input = knows_output = true;
    }
    usage->input_known = knows_input && input <= (uint64_t)SP_USAGE_TOKENS_MAX;
    usage->known = usage->input_known && knows_output;
    usage->input = usage->input_known ? input : 0;
    usage->output = usage->known ? output : 0;
}

/* A whole document. Anthropic's message_start says how many tokens of output there are so far: one, mostly. */
static void take_document(struct sp_usage_reader *reader) {
    const unsigned all = ~0u, input = 1u << SP_SAID_INPUT | 1u << SP_SAID_CACHE_WRITTEN | 1u << SP_SAID_CACHE_READ;
    const struct sp_said *said = reader->scan.said;
    bool events = reader->form == SP_USAGE_EVENTS;
    if (!(said[SP_SAID_AT_ROOT].has | (events ? said[SP_SAID_IN_MESSAGE].has | said[SP_SAID_IN_RESPONSE].has : 0)))
        return;
    if (events) {
        merge(&reader->said, &said[SP_SAID_IN_MESSAGE], input);
        merge(&reader->said, &said[SP_SAID_IN_RESPONSE], all);
    }
    merge(&reader->said, &said[SP_SAID_AT_ROOT], all);
    conclude(&reader->usage, &reader->said);
}

/* ---- JSON ---- */

static void read_json(struct sp_usage_reader *reader, struct sp_span input) {
    if (reader->settled)
        return;
    sp_usage_scan_feed(&reader->scan, input);
    reader->settled = sp_usage_scan_has_object(&reader->scan);
    if (reader->settled)
        take_document(reader);
}

/* ---- Events ---- */

/* What `include_usage` brings, last of all. Other events without choices (Azure's first, about the prompt's safety) have no usage. */
static bool is_extra(const struct sp_usage_reader *reader) {
    return sp_usage_scan_is_object(&reader->scan) && reader->scan.choices_are_empty && reader->scan.usage_is_object;
}

static void take_event(struct sp_usage_reader *reader) {
    if (sp_usage_scan_is_object(&reader->scan))
        take_document(reader);
}

static void read_events(struct sp_usage_reader *reader, struct sp_span input) {
    struct sp_span piece;
    for (enum sp_sse_step step; (step = sp_sse_next(&reader->sse, &input, &piece)) != SP_SSE_MORE;) {
        if (step == SP_SSE_BEGIN)
            sp_usage_scan_begin(&reader->scan);
        else if (step == SP_SSE_DATA)
            sp_usage_scan_feed(&reader->scan, piece);
        else
            take_event(reader);
    }
}

/* One call of sp_usage_read that may hold events back: [pass, rest.at) may go to the client, of which [event, rest.at) is the event under
 * way. */
struct withholding {
    const char *pass, *event;
    struct sp_span rest;
};

static void held_has_gone(struct sp_usage_reader *reader) {
    if (!reader->held_passed)
        return;
    reader->held_passed = false;
    sp_buffer_consume(&reader->held, sp_buffer_len(&reader->held));
    if (reader->held.capacity > HELD_KEPT)
        sp_buffer_free(&reader->held);
}

/* What is held goes first, so the input up to `rest` waits for the next call. */
static struct sp_span let_held_go(struct sp_usage_reader *reader, struct withholding *call) {
    reader->held_passed = true;
    reader->owed = (size_t)(call->rest.at - call->pass);
    call->rest = sp_span(call->pass, call->rest.len + reader->owed);
    return sp_buffer_span(&reader->held);
}

/* An event has ended. True when there is something to pass before anything else is read. */
static bool event_ends(struct sp_usage_reader *reader, struct withholding *call, struct sp_span *ret_pass) {
    uint64_t len = reader->event_len + (size_t)(call->rest.at - call->event);
    take_event(reader);
    sp_sse_take_lf(&reader->sse, &call->rest);
    if (!reader->holding || len > SP_SSE_EVENT_MAX || !is_extra(reader)) {
        if (sp_buffer_len(&reader->held) == 0)
            return false;
        *ret_pass = let_held_go(reader, call);
        return true;
    }
    reader->drop_lf = reader->sse.after_cr;
    reader->held_passed = true; /* to nobody */
    held_has_gone(reader);
    *ret_pass = sp_span(call->pass, (size_t)(call->event - call->pass));
    call->pass = call->event = call->rest.at;
    return ret_pass->len > 0;
}

/* The input is used up, in the middle of an event or not. */
static struct sp_span input_ends(struct sp_usage_reader *reader, struct withholding *call) {
    const char *end = call->rest.at;
    if (reader->sse.begun && reader->holding) {
        struct sp_span part = sp_span(call->event, (size_t)(end - call->event));
        reader->event_len += part.len;
        if (reader->event_len <= SP_SSE_EVENT_MAX && sp_buffer_append_span(&reader->held, part) == 0)
            return sp_span(call->pass, (size_t)(call->event - call->pass));
        reader->holding = false; /* too long, or no memory: it passes as it comes */
        if (sp_buffer_len(&reader->held))
            return let_held_go(reader, call);
    }
    return sp_span(call->pass, (size_t)(end - call->pass));
}

static struct sp_span read_withholding(struct sp_usage_reader *reader, struct sp_span *input) {
    struct withholding call = {input->at, input->at, sp_span_from(*input, reader->owed)};
    struct sp_span piece, pass;
    held_has_gone(reader);
    reader->owed = 0;
    if (reader->drop_lf && call.rest.len) {
        sp_sse_take_lf(&reader->sse, &call.rest);
        reader->drop_lf = false;
        call.pass = call.event = call.rest.at;
    }
    for (;;) {
        switch (sp_sse_next(&reader->sse, &call.rest, &piece)) {
        case SP_SSE_BEGIN:
            call.event = call.rest.at;
            reader->event_len = 0;
            reader->holding = true;
            sp_usage_scan_begin(&reader->scan);
            break;
        case SP_SSE_DATA:
            sp_usage_scan_feed(&reader->scan, piece);
            break;
        case SP_SSE_EVENT:
            if (event_ends(reader, &call, &pass)) {
                *input = call.rest;
                return pass;
            }
            break;
        case SP_SSE_MORE:
            pass = input_ends(reader, &call);
            *input = call.rest;
            return pass;
        }
    }
}

void sp_usage_read(struct sp_usage_reader *reader, struct sp_span *input, struct sp_span *ret_pass) {
    if (reader->withhold) {
        *ret_pass = read_withholding(reader, input);
    } else {
        if (reader->form == SP_USAGE_EVENTS)
            read_events(reader, *input);
        else if (reader->form == SP_USAGE_JSON)
            read_json(reader, *input);
        *ret_pass = *input;
        *input = sp_span_from(*input, input->len);
    }
    reader->usage.text_bytes = reader->scan.text_bytes;
}

void sp_usage_end(struct sp_usage_reader *reader, struct sp_span *ret_pass) {
    held_has_gone(reader);
    if (reader->form == SP_USAGE_EVENTS && reader->sse.begun)
        take_event(reader); /* some leave out the last empty line */
    reader->sse.begun = false;
    reader->held_passed = true;
    *ret_pass = sp_buffer_span(&reader->held);
}

const struct sp_usage *sp_usage_of(const struct sp_usage_reader *reader) { return &reader->usage; }
