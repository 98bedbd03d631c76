/* The models that clients name: which there are, who may use them, what the pool is asked for in their place, and what else would do. */
#include "private.h"

#include <jansson.h>

/* ---- Who may use which ---- */

/* A caller has the union of its roles. Where the route lets anybody in, or no roles are configured, there is nobody to tell apart. */
static bool permitted(const struct sp_exchange *x, const struct sp_model_config *model) {
    const struct sp_config *config = x->snapshot->config;
    if (config->n_roles == 0 || x->route->authenticate & SP_AUTHENTICATE_NONE)
        return true;
    struct sp_span name = sp_span_text(model->name);
    for (uint64_t roles = x->roles; roles; roles &= roles - 1) {
        const struct sp_role_config *role = &config->roles[__builtin_ctzll(roles)];
        for (size_t i = 0; i < role->models.count; i++)
            if (sp_span_glob(sp_span_text(role->models.item[i]), name))
                return true;
    }
    return false;
}

static enum sp_stage_answer unknown(struct sp_exchange *x, struct sp_span name) {
    return sp_reply(x, 404, "model_not_found", sp_sentence(x, "The model '" SP_SPAN_FMT "' does not exist here.", SP_SPAN_ARG(name)), "unknown model");
}

/* ---- In the target ---- */

static int digit_of(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes one byte off percent-encoded text. */
static char take_byte(struct sp_span *encoded) {
    struct sp_span from = *encoded;
    bool is_encoded = from.at[0] == '%' && from.len > 2 && digit_of(from.at[1]) >= 0 && digit_of(from.at[2]) >= 0;
    *encoded = sp_span_from(from, is_encoded ? 3 : 1);
    return is_encoded ? (char)(digit_of(from.at[1]) << 4 | digit_of(from.at[2])) : from.at[0];
}

/* Is this percent-encoded text the same as `plain`? In a query a plus is a space, too (WHATWG URL §5.1). */
static bool encoded_equals(struct sp_span encoded, struct sp_span plain, bool in_query) {
    size_t at = 0;
    while (encoded.len > 0 && at < plain.len) {
        bool is_space = in_query && encoded.at[0] == '+';
        char byte = take_byte(&encoded);
        if ((is_space ? ' ' : byte) != plain.at[at++])
            return false;
    }
    return encoded.len == 0 && at == plain.len;
}

/* In any case: there are readers that make no difference. */
static bool names_model(struct sp_span encoded) {
    static const struct sp_span model = SP_SPAN("model");
    size_t at = 0;
    while (encoded.len > 0 && at < model.len)
        if ((take_byte(&encoded) | 0x20) != model.at[at++])
            return false;
    return encoded.len == 0 && at == model.len;
}

/* A query that names another model than the body would let two readers disagree about which was asked for. */
static bool query_disagrees(const struct sp_exchange *x) {
    struct sp_span rest = x->request.query, pair;
    while (rest.len && sp_span_split(&rest, '&', &pair)) {
        const char *equals = memchr(pair.at, '=', pair.len);
        struct sp_span name = sp_span(pair.at, equals ? (size_t)(equals - pair.at) : pair.len);
        if (names_model(name) && !encoded_equals(sp_span_from(pair, name.len + 1), x->inspection.model, true))
            return true;
    }
    return false;
}

/* ---- In the body ---- */

/* Puts `text` where `place` is, and moves the places that follow. */
static bool change(struct sp_exchange *x, struct sp_json_place *place, struct sp_span text) {
    struct sp_inspection *inspection = &x->inspection;
    uint64_t at = place->at, len = place->len;
    if (!sp_body_splice(x, at, len, text))
        return false;
    struct sp_json_place *const places[] = {&inspection->model_at, &inspection->insert_at, &inspection->stream_options_at};
    for (size_t i = 0; i < SP_COUNT(places); i++)
        if (places[i] != place && places[i]->at > at)
            places[i]->at = places[i]->at - len + text.len;
    place->len = text.len;
    inspection->changed = true;
    return true;
}

static bool write_model(struct sp_exchange *x) {
    struct sp_span as = sp_span_text(x->model->as);
    if (sp_span_eq(as, x->inspection.model) && x->fallbacks == 0)
        return true;
    char *quoted = sp_arena_alloc(&x->arena, 6 * as.len + 2);
    if (!quoted)
        return false;
    if (!x->inspection.is_json)
        return change(x, &x->inspection.model_at, as);
    return change(x, &x->inspection.model_at, sp_span(quoted, sp_json_quote(as, quoted)));
}

enum { STREAM_OPTIONS_MAX = 1024 };

/* The client's own stream_options, with include_usage. false: too odd to be changed. */
static bool extend_stream_options(struct sp_exchange *x) {
    struct sp_json_place *place = &x->inspection.stream_options_at;
    char was[STREAM_OPTIONS_MAX];
    if (place->len > sizeof was || !sp_body_copy(x, place->at, (size_t)place->len, was))
        return false;
    json_t *options = json_loadb(was, (size_t)place->len, JSON_DECODE_ANY, NULL);
    if (json_is_null(options)) {
        json_decref(options);
        options = json_object();
    }
    char *text = NULL;
    if (json_is_object(options) && json_object_set_new(options, "include_usage", json_true()) == 0)
        text = json_dumps(options, JSON_COMPACT);
    json_decref(options);
    bool changed = text && change(x, place, sp_span_text(text));
    free(text);
    return changed;
}

static bool ends_with(struct sp_span text, struct sp_span end) {
    return text.len >= end.len && sp_span_eq(sp_span_from(text, text.len - end.len), end);
}

/* OpenAI's chat completions and completions tell the usage of a stream only if asked to. */
static bool ask_for_usage(struct sp_exchange *x) {
    struct sp_inspection *inspection = &x->inspection;
    bool tells_unasked = !ends_with(x->path, SP_SPAN("/completions"));
    if (!inspection->is_json || !inspection->stream || inspection->include_usage || tells_unasked)
        return true;
    if (inspection->stream_options_at.len) {
        inspection->withhold = extend_stream_options(x);
        return true;
    }
    struct sp_json_place place = {.at = inspection->insert_at.at}; /* the model follows, at the least */
    inspection->withhold = true;
    return change(x, &place, SP_SPAN("\"stream_options\":{\"include_usage\":true},"));
}

/* ---- Choosing ---- */

static enum sp_stage_answer no_model(struct sp_exchange *x) {
    if (x->target)
        return SP_STAGE_NEXT;
    if (x->request.framing == SP_FRAMING_NONE && x->request.method != SP_HTTP_POST)
        return sp_reply(x, 404, "not_found", "There is nothing at this path without a body that names a model.", "no model");
    return sp_reply(x, 400, "model_required", "Say in the body which model you want: \"model\" is missing.", "no model");
}

enum sp_stage_answer sp_models_choose(struct sp_exchange *x) {
    struct sp_span name = x->inspection.model;
    if (query_disagrees(x))
        return sp_reply(x, 400, "ambiguous_model", "The query names another model than the body. Name it in the body alone.", "two models");
    if (name.len == 0)
        return no_model(x);
    const struct sp_model_config *model = sp_config_model(x->snapshot->config, name);
    if (!model)
        return unknown(x, name);
    if (!permitted(x, model))
        return sp_reply(x, 403, "model_not_permitted", sp_sentence(x, "You may not use the model '" SP_SPAN_FMT "'.", SP_SPAN_ARG(name)), "model");
    x->model = model;
    x->target = model->pool;
    if (!write_model(x) || !ask_for_usage(x))
        return sp_reply(x, 503, NULL, "The request cannot be taken now. Try again.", "out of memory");
    return SP_STAGE_NEXT;
}

bool sp_models_fall_back(struct sp_exchange *x) {
    const struct sp_config *config = x->snapshot->config;
    const struct sp_model_config *first = x->model ? sp_config_model(config, x->inspection.model) : NULL;
    if (!first || x->answered || x->answer_begun || !sp_body_is_whole(&x->body))
        return false;
    while (x->fallbacks < first->n_fallback) {
        const struct sp_model_config *next = &config->models[first->fallback[x->fallbacks++]];
        if (!permitted(x, next))
            continue;
        sp_body_rewind(x);
        x->model = next;
        x->target = next->pool;
        x->tried = (struct sp_upstream_tried){0};
        x->retried_kept = false;
        x->tries_before = x->tries;
        return write_model(x);
    }
    return false;
}

/* ---- The list ---- */

/* GET …/models and GET …/models/NAME, below whatever the route's path is. */
bool sp_models_listing(struct sp_exchange *x) {
    if (x->request.method != SP_HTTP_GET && x->request.method != SP_HTTP_HEAD)
        return false;
    struct sp_span path = x->path;
    if (ends_with(path, SP_SPAN("/v1/models")) || sp_span_eq(path, SP_SPAN("/models"))) {
        x->inspection.listing = true;
        return true;
    }
    const char *at = memmem(path.at, path.len, "/models/", 8);
    if (!at)
        return false;
    struct sp_span before = sp_span(path.at, (size_t)(at - path.at));
    if (before.len && !ends_with(before, SP_SPAN("/v1")))
        return false;
    x->inspection.list_of = sp_span_from(path, before.len + 8);
    x->inspection.listing = true;
    return true;
}

/* Anthropic's clients say so, and read another shape. */
static bool asks_as_anthropic(const struct sp_exchange *x) {
    for (unsigned i = 0; i < x->request.fields.count; i++)
        if (sp_span_eq_nocase(x->request.fields.item[i].name, SP_SPAN("anthropic-version")))
            return true;
    return false;
}

static int write_one(const struct sp_exchange *x, const struct sp_model_config *model, bool anthropic, struct sp_buffer *out) {
    uint64_t loaded_s = x->snapshot->config->loaded_wall_ms / 1000;
    char when[SP_TIMESTAMP_LEN + 1];
    sp_timestamp(loaded_s * 1000, when);
    int error = sp_buffer_append_span(out, anthropic ? SP_SPAN("{\"type\":\"model\",\"id\":") : SP_SPAN("{\"id\":"));
    if (!error)
        error = sp_buffer_append_json(out, sp_span_text(model->name));
    if (!error && !anthropic)
        return sp_buffer_printf(out, ",\"object\":\"model\",\"created\":%llu,\"owned_by\":\"sallyport\"}", (unsigned long long)loaded_s);
    if (!error)
        error = sp_buffer_append_span(out, SP_SPAN(",\"display_name\":"));
    if (!error)
        error = sp_buffer_append_json(out, sp_span_text(model->name));
    return error ? error : sp_buffer_printf(out, ",\"created_at\":\"%s\"}", when);
}

static int write_all(const struct sp_exchange *x, bool anthropic, struct sp_buffer *out) {
    const struct sp_config *config = x->snapshot->config;
    const char *first = NULL, *last = NULL;
    int error = sp_buffer_append_span(out, anthropic ? SP_SPAN("{\"data\":[") : SP_SPAN("{\"object\":\"list\",\"data\":["));
    for (size_t i = 0; i < config->n_models && !error; i++) {
        if (!permitted(x, &config->models[i]))
            continue;
        if (last)
            error = sp_buffer_append(out, ",", 1);
        if (!error)
            error = write_one(x, &config->models[i], anthropic, out);
        last = config->models[i].name;
        if (!first)
            first = last;
    }
    if (error || !anthropic)
        return error ? error : sp_buffer_append(out, "]}", 2);
    error = sp_buffer_append_span(out, SP_SPAN("],\"has_more\":false,\"first_id\":"));
    if (!error)
        error = first ? sp_buffer_append_json(out, sp_span_text(first)) : sp_buffer_append_span(out, SP_SPAN("null"));
    if (!error)
        error = sp_buffer_append_span(out, SP_SPAN(",\"last_id\":"));
    if (!error)
        error = last ? sp_buffer_append_json(out, sp_span_text(last)) : sp_buffer_append_span(out, SP_SPAN("null"));
    return error ? error : sp_buffer_append(out, "}", 1);
}

static const struct sp_model_config *find_in_path(const struct sp_exchange *x) {
    const struct sp_config *config = x->snapshot->config;
    for (size_t i = 0; i < config->n_models; i++)
        if (encoded_equals(x->inspection.list_of, sp_span_text(config->models[i].name), false))
            return permitted(x, &config->models[i]) ? &config->models[i] : NULL;
    return NULL;
}

enum sp_stage_answer sp_models_list(struct sp_exchange *x) {
    struct sp_buffer body;
    sp_buffer_init(&body, 256 * 1024);
    bool anthropic = asks_as_anthropic(x);
    int error = 0;
    if (x->inspection.list_of.len) {
        const struct sp_model_config *model = find_in_path(x);
        if (!model)
            return unknown(x, x->inspection.list_of);
        error = write_one(x, model, anthropic, &body);
    } else {
        error = write_all(x, anthropic, &body);
    }
    enum sp_stage_answer answer = error ? sp_reply(x, 503, NULL, "The list cannot be made now. Try again.", "out of memory")
                                        : sp_reply_json(x, 200, sp_buffer_span(&body));
    sp_buffer_free(&body);
    return answer;
}
