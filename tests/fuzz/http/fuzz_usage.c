/* Answers, read for what they say about tokens: every byte is passed, or whole extra events are left out; the same however it arrives; and
 * where jansson finds JSON, what was said is what jansson finds. Each input is read as JSON and as a stream. */
#include "invariants.h"

#include <jansson.h>

#include <sallyport/usage.h>

struct outcome {
    struct sp_usage usage;
    char *passed; /* freed by the caller */
    size_t len;
};

static struct sp_usage_reader *reader;

static struct outcome read_in_steps(struct sp_span bytes, enum sp_usage_form form, bool withhold, size_t step) {
    struct outcome outcome = {.passed = malloc(bytes.len + 1)};
    struct sp_span pass;
    char *room = malloc(bytes.len);
    must(outcome.passed && room);
    sp_usage_begin(reader, form, withhold);
    for (size_t at = 0, n; at < bytes.len; at += n) {
        n = step ? sp_min(step, bytes.len - at) : sp_min((size_t)(uint8_t)bytes.at[at] % 50, bytes.len - at); /* 0: a mixture */
        n += n == 0;
        char *copy =
            room + bytes.len - n; /* over the pieces before it and at the room's very end, so that nobody looks past either unseen */
        memcpy(copy, bytes.at + at, n);
        for (struct sp_span input = sp_span(copy, n); input.len;) {
            size_t before = input.len;
            sp_usage_read(reader, &input, &pass);
            must(input.len < before || pass.len > 0); /* it never stands still */
            must(input.at + input.len == copy + n);
            must(outcome.len + pass.len <= bytes.len);
            must(withhold || (pass.at == copy && pass.len == n && input.len == 0));
            if (pass.len)
                memcpy(outcome.passed + outcome.len, pass.at, pass.len);
            outcome.len += pass.len;
        }
    }
    free(room);
    sp_usage_end(reader, &pass);
    must(outcome.len + pass.len <= bytes.len);
    if (pass.len)
        memcpy(outcome.passed + outcome.len, pass.at, pass.len);
    outcome.len += pass.len;
    outcome.usage = *sp_usage_of(reader);
    return outcome;
}

static void check_usage(const struct sp_usage *usage, size_t len) {
    must(usage->text_bytes <= len);
    must(!usage->known || usage->input_known);
    must(usage->input <= (uint64_t)SP_USAGE_TOKENS_MAX && usage->output <= (uint64_t)SP_USAGE_TOKENS_MAX);
    must((usage->input_known || usage->input == 0) && (usage->known || usage->output == 0));
}

static bool same_usage(const struct sp_usage *a, const struct sp_usage *b) {
    return a->known == b->known && a->input_known == b->input_known && a->input == b->input && a->output == b->output;
}

/* Freed by the caller. */
static struct outcome read_every_way(struct sp_span bytes, enum sp_usage_form form, bool withhold) {
    struct outcome at_once = read_in_steps(bytes, form, withhold, SIZE_MAX);
    check_usage(&at_once.usage, bytes.len);
    static const size_t steps[] = {1, 0};
    for (size_t i = 0; i < SP_COUNT(steps); i++) {
        struct outcome again = read_in_steps(bytes, form, withhold, steps[i]);
        must(again.len == at_once.len && memcmp(again.passed, at_once.passed, again.len) == 0);
        must(same_usage(&again.usage, &at_once.usage) && again.usage.text_bytes == at_once.usage.text_bytes);
        free(again.passed);
    }
    return at_once;
}

/* ---- Second opinion: jansson's, where it has one ---- */

struct opinion {
    bool given; /* false: some of it jansson does not read as JSON, or reads otherwise by rights */
    struct {
        bool has;
        uint64_t number;
    } prompt, completion, total, input, output, written, cached;
    bool details;
};

/* Escaped names are compared as they are written; -0 is an integer for jansson, and it lets NUL pass here and there. */
static bool is_read_alike(struct sp_span document) {
    return !memmem(document.at, document.len, "\\u00", 4) && !memmem(document.at, document.len, "-0", 2) &&
           !memchr(document.at, 0, document.len);
}

static json_t *load(struct sp_span document) { return document.len ? json_loadb(document.at, document.len, 0, NULL) : NULL; }

#define TAKE(usage, into, name)                                                                                                            \
    do {                                                                                                                                   \
        json_t *value = json_object_get(usage, name);                                                                                      \
        if (json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= SP_USAGE_TOKENS_MAX) {                \
            (into).has = true;                                                                                                             \
            (into).number = (uint64_t)json_integer_value(value);                                                                           \
        }                                                                                                                                  \
    } while (0)

static void take_input(struct opinion *opinion, json_t *usage) {
    TAKE(usage, opinion->input, "input_tokens");
    TAKE(usage, opinion->written, "cache_creation_input_tokens");
    TAKE(usage, opinion->cached, "cache_read_input_tokens");
}

static void take_all(struct opinion *opinion, json_t *usage) {
    TAKE(usage, opinion->prompt, "prompt_tokens");
    TAKE(usage, opinion->completion, "completion_tokens");
    TAKE(usage, opinion->total, "total_tokens");
    TAKE(usage, opinion->output, "output_tokens");
    take_input(opinion, usage);
    opinion->details |= json_is_object(json_object_get(usage, "input_tokens_details"));
}

static struct sp_usage concluded(const struct opinion *o) {
    bool in = true, out = true;
    uint64_t input = 0, output = 0;
    if (o->prompt.has)
        input = o->prompt.number;
    else if (o->input.has)
        input = o->input.number + (o->details ? 0 : (o->written.has ? o->written.number : 0) + (o->cached.has ? o->cached.number : 0));
    else
        in = false;
    if (o->completion.has)
        output = o->completion.number;
    else if (o->output.has)
        output = o->output.number;
    else
        out = false;
    if (o->total.has && !in && o->total.number >= output) {
        input = o->total.number - output;
        in = out = true;
    } else if (o->total.has && in && !out && o->total.number >= input) {
        output = o->total.number - input;
        out = true;
    }
    in &= input <= (uint64_t)SP_USAGE_TOKENS_MAX;
    return (struct sp_usage){.known = in && out, .input_known = in, .input = in ? input : 0, .output = in && out ? output : 0};
}

static void check_json(struct sp_span bytes) {
    struct outcome outcome = read_every_way(bytes, SP_USAGE_JSON, false);
    free(outcome.passed);
    json_t *document = is_read_alike(bytes) ? load(bytes) : NULL;
    if (!document)
        return;
    struct opinion opinion = {0};
    take_all(&opinion, json_object_get(document, "usage"));
    struct sp_usage expected = concluded(&opinion);
    must(same_usage(&outcome.usage, &expected));
    json_decref(document);
}

/* ---- A plain splitter of whole streams, against ours ---- */

struct splitter {
    struct sp_span rest;
    char *joined; /* the data of the event, as large as the stream */
    size_t joined_len;
    bool has_data;
};

/* The next line without its end; *ret_full with it. */
static bool next_line(struct sp_span *rest, struct sp_span *ret_line, struct sp_span *ret_full) {
    size_t n = 0;
    while (n < rest->len && rest->at[n] != '\n' && rest->at[n] != '\r')
        n++;
    if (n == rest->len)
        return false;
    *ret_line = sp_span(rest->at, n);
    n += rest->at[n] == '\r' && n + 1 < rest->len && rest->at[n + 1] == '\n' ? 2 : 1;
    *ret_full = sp_span(rest->at, n);
    *rest = sp_span_from(*rest, n);
    return true;
}

static void take_field(struct splitter *s, struct sp_span line) {
    const char *colon = memchr(line.at, ':', line.len);
    struct sp_span name = colon ? sp_span(line.at, (size_t)(colon - line.at)) : line, value = sp_span_from(line, name.len + 1);
    if (!sp_span_eq(name, SP_SPAN("data")))
        return;
    if (value.len && value.at[0] == ' ')
        value = sp_span_from(value, 1);
    if (s->has_data)
        s->joined[s->joined_len++] = '\n';
    s->has_data = true;
    if (value.len)
        memcpy(s->joined + s->joined_len, value.at, value.len);
    s->joined_len += value.len;
}

/* The next whole event and what stands before it. False: there is none, and everything left is before. */
static bool next_event(struct splitter *s, struct sp_span *ret_before, struct sp_span *ret_event) {
    struct sp_span line, full;
    const char *from = s->rest.at, *begin = NULL;
    s->joined_len = 0;
    s->has_data = false;
    for (struct sp_span rest = s->rest; next_line(&rest, &line, &full);) {
        if (line.len == 0 && begin) {
            *ret_before = sp_span(from, (size_t)(begin - from));
            *ret_event = sp_span(begin, (size_t)(rest.at - begin));
            s->rest = rest;
            return true;
        }
        if (line.len == 0 || line.at[0] == ':')
            continue;
        begin = begin ? begin : full.at;
        take_field(s, line);
    }
    return false;
}

/* Whether jansson, or our reader alone with this event where jansson has no opinion, would leave it out; and what it says. */
static bool judge_event(struct opinion *opinion, struct sp_span data, struct sp_span event) {
    json_t *document = is_read_alike(data) ? load(data) : NULL;
    if (!document) {
        char *line_and_event = malloc(event.len + 1); /* so that nothing in it stands at a stream's beginning */
        must(line_and_event);
        line_and_event[0] = '\n';
        memcpy(line_and_event + 1, event.at, event.len);
        struct outcome alone = read_in_steps(sp_span(line_and_event, event.len + 1), SP_USAGE_EVENTS, true, SIZE_MAX);
        free(alone.passed);
        free(line_and_event);
        must(alone.len == event.len + 1 || alone.len == 1);
        opinion->given &= data.len == 0;
        return alone.len == 1;
    }
    json_t *usage = json_object_get(document, "usage"), *choices = json_object_get(document, "choices");
    bool extra = json_is_object(usage) && json_is_array(choices) && json_array_size(choices) == 0;
    take_input(opinion, json_object_get(json_object_get(document, "message"), "usage"));
    take_all(opinion, json_object_get(json_object_get(document, "response"), "usage"));
    take_all(opinion, usage);
    json_decref(document);
    return extra;
}

static void check_events(struct sp_span bytes) {
    struct outcome passive = read_every_way(bytes, SP_USAGE_EVENTS, false);
    struct outcome withheld = read_every_way(bytes, SP_USAGE_EVENTS, true);
    must(passive.len == bytes.len && memcmp(passive.passed, bytes.at, bytes.len) == 0);
    must(same_usage(&passive.usage, &withheld.usage) && passive.usage.text_bytes == withheld.usage.text_bytes);

    struct splitter splitter = {.rest = bytes, .joined = malloc(bytes.len + 1)};
    must(splitter.joined);
    if (sp_span_starts(bytes, SP_SPAN("\xef\xbb\xbf")))
        splitter.rest = sp_span_from(bytes, 3);
    struct opinion opinion = {.given = true};
    size_t at = bytes.len - splitter.rest.len;
    for (struct sp_span before, event; next_event(&splitter, &before, &event);) {
        must(at + before.len <= withheld.len && memcmp(withheld.passed + at, before.at, before.len) == 0);
        at += before.len;
        if (judge_event(&opinion, sp_span(splitter.joined, splitter.joined_len), event))
            continue;
        must(at + event.len <= withheld.len && memcmp(withheld.passed + at, event.at, event.len) == 0);
        at += event.len;
    }
    must(withheld.len - at == splitter.rest.len && memcmp(withheld.passed + at, splitter.rest.at, splitter.rest.len) == 0);
    if (opinion.given && splitter.rest.len == 0) { /* an event without its end may speak too, and jansson is not asked about that */
        struct sp_usage expected = concluded(&opinion);
        must(same_usage(&passive.usage, &expected));
    }
    free(splitter.joined);
    free(passive.passed);
    free(withheld.passed);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    if (!reader)
        must(sp_usage_reader_new(&reader) == 0);
    if (len == 0 || len > SP_SSE_EVENT_MAX)
        return 0;
    struct sp_span input = sp_span((const char *)bytes, len);
    check_json(input);
    check_events(input);
    sp_usage_begin(reader, SP_USAGE_NONE, false);
    return 0;
}
