#include "sse.h"

#include "bytes16.h"

enum state {
    START, /* of the stream: here alone a byte order mark may stand */
    MARK,
    LINE,
    NAME,  /* as long as it is that of data */
    SPACE, /* after "data:": one is no part of the value */
    VALUE,
    OTHER /* a comment, or a field that nobody asks for */
};

static const char byte_order_mark[] = "\xef\xbb\xbf", data_name[] = "data";

static const char *line_ends(struct sp_sse *sse, const char *at) {
    sse->after_cr = *at == '\r';
    sse->state = LINE;
    return at + 1;
}

/* The first byte of a line: *at moves past what is taken. MORE: go on. */
static enum sp_sse_step line_begins(struct sp_sse *sse, const char **at) {
    bool marked = sse->state == START && **at == byte_order_mark[0];
    bool empty = **at == '\n' || **at == '\r';
    if (empty) {
        *at = line_ends(sse, *at);
        bool ended = sse->begun;
        sse->begun = sse->data = false;
        return ended ? SP_SSE_EVENT : SP_SSE_MORE;
    }
    sse->matched = 0;
    if (**at == ':') {
        sse->state = OTHER;
        return SP_SSE_MORE;
    }
    sse->state = marked ? MARK : NAME;
    if (sse->begun)
        return SP_SSE_MORE;
    sse->begun = true;
    return SP_SSE_BEGIN;
}

static enum sp_sse_step mark(struct sp_sse *sse, const char **at) {
    if (**at != byte_order_mark[sse->matched]) {
        sse->state = OTHER; /* a field's name that begins like one */
        return SP_SSE_MORE;
    }
    ++*at;
    if (++sse->matched < sizeof byte_order_mark - 1)
        return SP_SSE_MORE;
    sse->begun = false;
    sse->state = LINE;
    return SP_SSE_EVENT;
}

/* DATA: a line of data follows others of this event. */
static enum sp_sse_step data_begins(struct sp_sse *sse, enum state next) {
    bool joins = sse->data;
    sse->data = true;
    sse->state = (uint8_t)next;
    return joins ? SP_SSE_DATA : SP_SSE_MORE;
}

static enum sp_sse_step name(struct sp_sse *sse, const char **at, const char *end) {
    if (sse->matched == 0 && end - *at >= 6 && memcmp(*at, "data: ", 6) == 0) { /* mostly */
        *at += 6;
        return data_begins(sse, VALUE);
    }
    size_t n = sp_min(sizeof data_name - 1 - sse->matched, (size_t)(end - *at));
    if (memcmp(*at, data_name + sse->matched, n) != 0) {
        sse->state = OTHER;
        return SP_SSE_MORE;
    }
    *at += n;
    sse->matched = (uint8_t)(sse->matched + n);
    if (*at == end)
        return SP_SSE_MORE;
    if (**at == ':') {
        ++*at;
        return data_begins(sse, SPACE);
    }
    if (**at == '\n' || **at == '\r')
        return data_begins(sse, OTHER);
    sse->state = OTHER;
    return SP_SSE_MORE;
}

/* The rest of a line, with its end: the span is what stands before that. */
static struct sp_span rest_of_line(struct sp_sse *sse, const char **at, const char *end) {
    const char *line_end = sp_find_line_end(*at, end);
    struct sp_span rest = sp_span(*at, (size_t)(line_end - *at));
    *at = line_end < end ? line_ends(sse, line_end) : end;
    return rest;
}

bool sp_sse_take_lf(struct sp_sse *sse, struct sp_span *input) {
    if (!sse->after_cr || input->len == 0)
        return false;
    sse->after_cr = false;
    if (input->at[0] != '\n')
        return false;
    *input = sp_span_from(*input, 1);
    return true;
}

enum sp_sse_step sp_sse_next(struct sp_sse *sse, struct sp_span *input, struct sp_span *ret_data) {
    const char *at = input->at, *end = at + input->len;
    enum sp_sse_step step = SP_SSE_MORE;
    while (at < end && step == SP_SSE_MORE) {
        if (sse->after_cr) {
            sse->after_cr = false;
            if (*at == '\n') {
                at++;
                continue;
            }
        }
        switch ((enum state)sse->state) {
        case START:
        case LINE:
            step = line_begins(sse, &at);
            break;
        case MARK:
            step = mark(sse, &at);
            break;
        case NAME:
            step = name(sse, &at, end);
            *ret_data = SP_SPAN("\n");
            break;
        case SPACE:
            at += *at == ' ';
            sse->state = VALUE;
            break;
        case VALUE:
            *ret_data = rest_of_line(sse, &at, end);
            step = ret_data->len ? SP_SSE_DATA : SP_SSE_MORE;
            break;
        case OTHER:
            rest_of_line(sse, &at, end);
            break;
        }
    }
    *input = sp_span(at, (size_t)(end - at));
    return step;
}
