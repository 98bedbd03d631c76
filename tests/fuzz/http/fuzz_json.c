/* The scanner of JSON bodies against a second opinion: what it calls complete jansson reads too, and says the same about it; what it
 * refuses and jansson takes is past one of the bounds that json.h states. And nothing depends on how the bytes arrive. */
#include "invariants.h"

#include <ctype.h>
#include <jansson.h>

#include <sallyport/json.h>

struct told {
    enum sp_http_progress progress;
    struct sp_ask ask;
    const char *wrong;
    uint64_t wrong_at;
};

static struct told scan_in_steps(struct sp_span bytes, size_t step) {
    static const struct sp_hash_key key = {0x5a11, 0x9047};
    struct sp_json_scan *scan = malloc(sp_json_scan_size());
    struct told told = {.progress = SP_HTTP_INCOMPLETE};
    must(scan);
    memset(scan, 0xa5, sp_json_scan_size()); /* nothing may depend on what was there */
    sp_json_begin(scan, &key);
    for (size_t at = 0; at < bytes.len; at += step) {
        struct sp_span piece = sp_span(bytes.at + at, sp_min(step, bytes.len - at));
        char *copy = malloc(piece.len); /* its own, for a sanitizer to see what is read past its end */
        must(copy);
        memcpy(copy, piece.at, piece.len);
        enum sp_http_progress progress = sp_json_feed(scan, sp_span(copy, piece.len));
        must(progress != SP_HTTP_COMPLETE && (told.progress == SP_HTTP_INCOMPLETE || progress == SP_HTTP_REFUSED));
        told.progress = progress;
        free(copy);
        if (step > bytes.len - at)
            break;
    }
    enum sp_http_progress at_end = sp_json_end(scan);
    must(at_end == SP_HTTP_COMPLETE || at_end == SP_HTTP_REFUSED);
    must(told.progress != SP_HTTP_REFUSED || at_end == SP_HTTP_REFUSED);
    told.progress = at_end;
    told.ask = *sp_json_ask(scan);
    if (at_end == SP_HTTP_REFUSED) {
        told.wrong = sp_json_wrong(scan, &told.wrong_at);
        must(told.wrong && told.wrong_at <= bytes.len);
    }
    free(scan);
    return told;
}

static bool same_place(struct sp_json_place a, struct sp_json_place b) { return a.at == b.at && a.len == b.len; }

static void check_same(const struct told *a, const struct told *b) {
    must(a->progress == b->progress && a->wrong == b->wrong && a->wrong_at == b->wrong_at);
    if (a->progress != SP_HTTP_COMPLETE)
        return;
    const struct sp_ask *x = &a->ask, *y = &b->ask;
    must(sp_span_eq(sp_span(x->model, x->model_len), sp_span(y->model, y->model_len)) && same_place(x->model_at, y->model_at));
    must(x->stream == y->stream && x->include_usage == y->include_usage && same_place(x->stream_options_at, y->stream_options_at));
    must(x->n == y->n && x->max_tokens == y->max_tokens && x->messages == y->messages && x->images == y->images);
    must(x->prompts == y->prompts && x->text_bytes == y->text_bytes && same_place(x->insert_at, y->insert_at));
}

/* ---- The second opinion ---- */

static json_t *second_opinion(struct sp_span bytes, json_error_t *error) {
    if (bytes.len && memchr(bytes.at, 0, bytes.len))
        return NULL; /* jansson lets NUL pass here and there between tokens; RFC 8259 nowhere */
    /* Integers as reals, so that only what a double cannot hold is too large to it, as it is to us. */
    return json_loadb(bytes.at, bytes.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY, error);
}

struct shape {
    size_t depth, members; /* the deepest, and all */
};

static void measure(const json_t *value, size_t depth, struct shape *shape) {
    const char *name;
    json_t *child;
    size_t i;
    if (!json_is_object(value) && !json_is_array(value))
        return;
    shape->depth = sp_max(shape->depth, depth);
    if (json_is_object(value)) {
        shape->members += json_object_size(value);
        json_object_foreach((json_t *)(uintptr_t)value, name, child) measure(child, depth + 1, shape);
    } else {
        json_array_foreach(value, i, child) measure(child, depth + 1, shape);
    }
}

static bool is_named(const char *name, size_t len, const char *expected) { return sp_span_eq(sp_span(name, len), sp_span_text(expected)); }

static bool is_one_of(const json_t *value, const char *const *texts, size_t count) {
    for (size_t i = 0; i < count && json_is_string(value); i++)
        if (is_named(json_string_value(value), json_string_length(value), texts[i]))
            return true;
    return false;
}

/* Text and images of a value, counted as json.h says. `is_tool`: names count, nothing is a payload, as in what a tool is called with. */
static void count_text(json_t *value, bool is_tool, struct sp_ask *ask) {
    static const char *const images[] = {"image_url", "image", "input_image"}, *const text[] = {"text"};
    const char *name;
    json_t *child;
    size_t i, len;
    if (json_is_string(value))
        ask->text_bytes += json_string_length(value);
    if (json_is_number(value))
        ask->text_bytes += 4;
    json_array_foreach(value, i, child) count_text(child, is_tool, ask);
    const json_t *type = json_object_get(value, "type");
    ask->images += !is_tool && is_one_of(type, images, SP_COUNT(images));
    json_object_keylen_foreach(value, name, len, child) {
        bool is_payload = is_named(name, len, "url") || is_named(name, len, "image_url") || is_named(name, len, "file_data") ||
                          (is_named(name, len, "data") && !is_one_of(type, text, 1));
        ask->text_bytes += is_tool ? len : 0;
        if (is_tool || !is_payload || !json_is_string(child))
            count_text(child, is_tool || is_named(name, len, "input") || is_named(name, len, "arguments"), ask);
    }
}

static uint32_t count_elements(const json_t *list) {
    json_t *element;
    size_t i;
    uint32_t count = 0;
    json_array_foreach(list, i, element) count += !json_is_number(element);
    return count;
}

static const char *const answer_counts[] = {"n", "best_of"};
static const char *const token_counts[] = {"max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"};

static double largest(const json_t *root, const char *const *names, size_t count, double least) {
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(root, names[i]);
        must(!value || json_is_number(value) || json_is_null(value));
        if (json_is_number(value))
            least = sp_max(least, json_number_value(value));
    }
    return least;
}

static bool is_bad_kind(const json_t *root, const char *name, bool (*is_good)(const json_t *)) {
    const json_t *value = json_object_get(root, name);
    return value && !json_is_null(value) && !is_good(value);
}
static bool is_string(const json_t *value) { return json_is_string(value); }
static bool is_boolean(const json_t *value) { return json_is_boolean(value); }
static bool is_object(const json_t *value) { return json_is_object(value); }
/* As plain digits; whether they were plain the tree does not say. */
static bool is_plain_count(const json_t *value) { return false; }

static bool is_bad_model(const json_t *root) {
    const json_t *model = json_object_get(root, "model");
    size_t len = json_string_length(model);
    return json_is_string(model) && (len == 0 || len > SP_MODEL_NAME_MAX || memchr(json_string_value(model), '\0', len));
}

static bool has_long_number(struct sp_span bytes) {
    size_t run = 0, longest = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        run = strchr("+-.0123456789eE", bytes.at[i]) && bytes.at[i] ? run + 1 : 0;
        longest = sp_max(longest, run);
    }
    return longest > SP_JSON_NUMBER_MAX;
}

/* Members of the outermost object that are known in lower case alone: of ASCII, and of the four others that are equal to letters of it. */
static const char *const known[] = {
    "model",
    "stream",
    "stream_options",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n_predict",
    "messages",
    "input",
    "prompt",
    "system",
    "instructions",
    "query",
    "documents",
    "text_1",
    "text_2",
    "suffix",
    "tools",
    "functions",
    "response_format",
};

static bool has_odd_name(json_t *root) {
    static const char *const others[] = {"\u017fs", "\u212ak", "\u0130i", "\u0131i"};
    const char *name;
    size_t len;
    json_t *child;
    json_object_keylen_foreach(root, name, len, child) {
        char lower[64];
        size_t n = 0;
        for (size_t i = 0; i < len && n < sizeof lower - 1; n++) {
            lower[n] = (char)((uint8_t)name[i] < 0x80 ? tolower(name[i]) : name[i]);
            size_t taken = 1;
            for (size_t k = 0; k < SP_COUNT(others); k++) {
                size_t bytes = strlen(others[k]) - 1;
                if (len - i >= bytes && memcmp(name + i, others[k], bytes) == 0) {
                    lower[n] = others[k][bytes];
                    taken = bytes;
                }
            }
            i += taken;
        }
        for (size_t k = 0; k < SP_COUNT(known); k++)
            if (is_named(lower, n, known[k]) && !is_named(name, len, known[k]))
                return true;
    }
    return false;
}

/* Something jansson takes was refused: for the bound that was named, and it is passed indeed. */
static void check_bound(const char *wrong, json_t *root, struct sp_span bytes) {
    struct sp_span said = sp_span_text(wrong);
    must(!sp_span_starts(said, SP_SPAN("The body is not valid JSON")));
    if (sp_span_starts(said, SP_SPAN("The body is not a JSON object"))) {
        must(!json_is_object(root));
        return;
    }
    must(json_is_object(root));
    struct shape shape = {0};
    measure(root, 1, &shape);
    if (sp_span_starts(said, SP_SPAN("The body is nested too deeply")))
        must(shape.depth > SP_JSON_DEPTH_MAX);
    else if (sp_span_starts(said, SP_SPAN("The body has too many members")))
        must(shape.members > SP_JSON_MEMBERS_MAX);
    else if (sp_span_starts(said, SP_SPAN("A member's name differs")))
        must(has_odd_name(root));
    else if (sp_span_starts(said, SP_SPAN("A number is too long")))
        must(has_long_number(bytes));
    else if (sp_span_starts(said, SP_SPAN("The model's name")))
        must(is_bad_model(root));
    else if (sp_span_starts(said, SP_SPAN("The member \"model\"")))
        must(is_bad_kind(root, "model", is_string));
    else if (sp_span_starts(said, SP_SPAN("The member \"stream\"")))
        must(is_bad_kind(root, "stream", is_boolean));
    else if (sp_span_starts(said, SP_SPAN("The member \"stream_options\"")))
        must(is_bad_kind(root, "stream_options", is_object));
    else if (sp_span_starts(said, SP_SPAN("The member \"stream_options.include_usage\"")))
        must(is_bad_kind(json_object_get(root, "stream_options"), "include_usage", is_boolean));
    else {
        bool is_count = false;
        for (size_t i = 0; i < SP_COUNT(answer_counts) + SP_COUNT(token_counts); i++) {
            const char *name = i < 2 ? answer_counts[i] : token_counts[i - 2];
            is_count |= strstr(wrong, name) && is_bad_kind(root, name, is_plain_count);
        }
        must(is_count);
    }
}

static json_t *at_place(struct sp_span bytes, struct sp_json_place place) {
    must(place.len <= bytes.len && place.at <= bytes.len - place.len);
    json_error_t error;
    return place.len ? second_opinion(sp_span(bytes.at + place.at, place.len), &error) : NULL;
}

static void check_places(const struct sp_ask *ask, const json_t *root, struct sp_span bytes) {
    json_t *model = at_place(bytes, ask->model_at), *options = at_place(bytes, ask->stream_options_at);
    const json_t *root_model = json_object_get(root, "model"), *root_options = json_object_get(root, "stream_options");
    must(model ? json_equal(model, root_model) : !root_model);
    must(options ? json_equal(options, root_options) : !root_options);
    must(json_is_true(json_object_get(options, "include_usage")) == ask->include_usage);
    json_decref(model);
    json_decref(options);
}

static void check_agreement(const struct sp_ask *ask, json_t *root, struct sp_span bytes) {
    struct shape shape = {0};
    must(json_is_object(root));
    measure(root, 1, &shape);
    must(shape.depth <= SP_JSON_DEPTH_MAX);
    const json_t *model = json_object_get(root, "model");
    must(!has_odd_name(root));
    must(!is_bad_model(root) && !is_bad_kind(root, "model", is_string) && !is_bad_kind(root, "stream", is_boolean));
    must(sp_span_eq(sp_span(ask->model, ask->model_len), sp_span(json_string_value(model), json_string_length(model))));
    must(json_is_true(json_object_get(root, "stream")) == ask->stream);
    must((double)ask->n == largest(root, answer_counts, SP_COUNT(answer_counts), 1));
    must((double)ask->max_tokens == largest(root, token_counts, SP_COUNT(token_counts), 0));
    static const char *const prompts[] = {"messages", "input",     "prompt", "system", "instructions",
                                          "query",    "documents", "text_1", "text_2", "suffix"};
    static const char *const schemas[] = {"tools", "functions", "response_format"};
    struct sp_ask counted = {0};
    for (size_t i = 0; i < SP_COUNT(prompts); i++)
        count_text(json_object_get(root, prompts[i]), false, &counted);
    for (size_t i = 0; i < SP_COUNT(schemas); i++)
        count_text(json_object_get(root, schemas[i]), true, &counted);
    counted.messages = count_elements(json_object_get(root, "messages")) + count_elements(json_object_get(root, "input"));
    must(ask->prompts == count_elements(json_object_get(root, "prompt")));
    must(counted.text_bytes == ask->text_bytes && counted.images == ask->images && counted.messages == ask->messages);
    check_places(ask, root, bytes);
}

/* ---- What is done with the places ---- */

/* `text` in the place of bytes[at, at + len). */
static struct sp_span spliced(struct sp_span bytes, uint64_t at, uint64_t len, struct sp_span text, struct sp_buffer *out) {
    sp_buffer_init(out, bytes.len + text.len + 1);
    must(sp_buffer_append(out, bytes.at, at) == 0 && sp_buffer_append_span(out, text) == 0);
    must(sp_buffer_append_span(out, sp_span_from(bytes, at + len)) == 0);
    return sp_buffer_span(out);
}

static void check_rewriting(const struct told *told, size_t members, struct sp_span bytes) {
    struct sp_buffer out;
    if (told->ask.model_at.len) {
        struct told renamed = scan_in_steps(
            spliced(bytes, told->ask.model_at.at, told->ask.model_at.len, SP_SPAN("\"another \\\"one\\\"\""), &out), SIZE_MAX);
        must(renamed.progress == SP_HTTP_COMPLETE);
        must(sp_span_eq(sp_span(renamed.ask.model, renamed.ask.model_len), SP_SPAN("another \"one\"")));
        sp_buffer_free(&out);
    } else if (members < SP_JSON_MEMBERS_MAX) {
        bool is_empty = told->ask.insert_at.len == 1;
        struct told named = scan_in_steps(
            spliced(bytes, told->ask.insert_at.at, 0, is_empty ? SP_SPAN("\"model\":\"m\"") : SP_SPAN("\"model\":\"m\","), &out), SIZE_MAX);
        must(named.progress == SP_HTTP_COMPLETE && named.ask.model_len == 1 && named.ask.model_at.at == told->ask.insert_at.at + 8);
        must(named.ask.text_bytes == told->ask.text_bytes && named.ask.n == told->ask.n);
        sp_buffer_free(&out);
    }
}

static void check_quoting(struct sp_span text) {
    char *quoted = malloc(6 * text.len + 2);
    must(quoted);
    size_t len = sp_json_quote(text, quoted);
    must(len >= 2 && len <= 6 * text.len + 2);
    json_error_t error;
    json_t *read = second_opinion(sp_span(quoted, len), &error);
    must(json_is_string(read));
    must(!sp_utf8_valid(text) || sp_span_eq(text, sp_span(json_string_value(read), json_string_length(read))));
    json_decref(read);
    free(quoted);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_span body = sp_span(len ? (const char *)bytes : "", len);
    struct told told = scan_in_steps(body, SIZE_MAX);
    static const size_t steps[] = {1, 2, 5, 33, 300};
    for (size_t i = 0; i < SP_COUNT(steps); i++) {
        struct told stepwise = scan_in_steps(body, steps[i]);
        check_same(&told, &stepwise);
    }
    json_error_t error = {0};
    json_t *root = second_opinion(body, &error);
    if (told.progress == SP_HTTP_COMPLETE && root) {
        struct shape shape = {0};
        measure(root, 1, &shape);
        check_agreement(&told.ask, root, body);
        check_rewriting(&told, shape.members, body);
    } else if (told.progress == SP_HTTP_COMPLETE) {
        must(json_error_code(&error) == json_error_null_byte_in_key); /* jansson cannot hold it */
    } else if (root) {
        check_bound(told.wrong, root, body);
    }
    json_decref(root);
    check_quoting(body);
    return 0;
}
