/* What a request may cost in tokens of language models, and what it did cost: reserved before, read from the answer as it passes, and
 * where the answer does not say, estimated as is stated here. */
#include "private.h"

/* What a path ends in whose answers have no generated text: they cost their input alone. */
static const struct sp_span without_output[] = {
    SP_SPAN("embeddings"), SP_SPAN("rerank"),   SP_SPAN("score"),   SP_SPAN("moderations"),
    SP_SPAN("classify"),   SP_SPAN("tokenize"), SP_SPAN("pooling"),
};

static bool generates(const struct sp_exchange *x) {
    const char *slash = memrchr(x->path.at, '/', x->path.len);
    if (!slash)
        return true;
    struct sp_span last = sp_span_from(x->path, (size_t)(slash + 1 - x->path.at));
    for (size_t i = 0; i < SP_COUNT(without_output); i++)
        if (sp_span_eq(last, without_output[i]))
            return false;
    return true;
}

/* A body that nobody looked at: a token for four bytes, as for text. Of one in chunks as many as came. */
static uint64_t unseen_prompt(const struct sp_exchange *x) {
    uint64_t bytes = x->request.framing == SP_FRAMING_LENGTH ? x->request.content_length : x->body.received;
    return sp_divide_up(bytes, 4);
}

enum sp_stage_answer sp_tokens_reserve(struct sp_exchange *x, const struct sp_ask *ask) {
    const struct sp_route_config *route = x->route;
    struct sp_inspection *inspection = &x->inspection;
    inspection->seen = ask != NULL;
    inspection->prompt = ask ? sp_ask_prompt_estimate(ask) : unseen_prompt(x);
    uint64_t answers = ask ? ask->n * sp_max(ask->prompts, 1u) : 1, each = ask && ask->max_tokens ? ask->max_tokens : route->max_tokens_default;
    if (route->max_tokens_cap && ask && ask->max_tokens > route->max_tokens_cap)
        return sp_reply(x, 400, "max_tokens_too_large",
                        sp_sentence(x, "You ask for %llu tokens at most; here %llu are the most that can be asked for.",
                                    (unsigned long long)ask->max_tokens, (unsigned long long)route->max_tokens_cap),
                        "max_tokens too large");
    uint64_t output = 0;
    if (generates(x) && (x->request.framing != SP_FRAMING_NONE || x->model) && __builtin_mul_overflow(answers, each, &output))
        output = UINT64_MAX / 2;
    if (__builtin_add_overflow(inspection->prompt, output, &inspection->reserve))
        inspection->reserve = UINT64_MAX / 2;
    if (x->request.framing != SP_FRAMING_NONE) /* what reserves nothing is never settled, and the answer may tell of many tokens */
        inspection->reserve = sp_max(inspection->reserve, UINT64_C(1));
    return SP_STAGE_NEXT;
}

/* ---- The answer ---- */

static struct sp_usage_reader *take_reader(struct sp_service *service) {
    struct sp_usage_reader *reader = NULL;
    if (service->n_readers)
        return service->readers[--service->n_readers];
    return sp_usage_reader_new(&reader) == 0 ? reader : NULL;
}

static void give_reader(struct sp_service *service, struct sp_usage_reader *reader) {
    sp_usage_begin(reader, SP_USAGE_NONE, false); /* what it held back is freed */
    if (service->n_readers < SP_COUNT(service->readers))
        service->readers[service->n_readers++] = reader;
    else
        sp_usage_reader_free(reader);
}

/* Read where somebody wants to know: limits on tokens, and routes by model, whose usage is counted. */
bool sp_tokens_wanted(const struct sp_exchange *x) { return x->limit.tokens_held || x->model; }

void sp_tokens_answer_begins(struct sp_exchange *x, const struct sp_http_response *response) {
    if (!sp_tokens_wanted(x) || response->framing == SP_FRAMING_NONE)
        return;
    const struct sp_http_field *type = sp_http_field(&response->fields, SP_FIELD_CONTENT_TYPE);
    const struct sp_http_field *encoding = sp_http_field(&response->fields, SP_FIELD_CONTENT_ENCODING);
    enum sp_usage_form form = sp_usage_form(type ? type->value : SP_SPAN(""), encoding ? encoding->value : SP_SPAN(""));
    if (form == SP_USAGE_NONE || !(x->usage = take_reader(x->service)))
        return;
    sp_usage_begin(x->usage, form, x->inspection.withhold);
}

/* Of a body in chunks that nobody looked at more may have come since it was reserved for. */
static uint64_t prompt_of(const struct sp_exchange *x) { return x->inspection.seen ? x->inspection.prompt : unseen_prompt(x); }

static uint64_t so_far(const struct sp_exchange *x, const struct sp_usage *usage) {
    uint64_t input = usage->input_known ? usage->input : prompt_of(x);
    return usage->known ? usage->input + usage->output : input + sp_divide_up(usage->text_bytes, 4);
}

struct sp_span sp_tokens_read(struct sp_exchange *x, struct sp_span *input) {
    struct sp_span pass;
    sp_usage_read(x->usage, input, &pass);
    if (x->limit.tokens_held && input->len == 0)
        sp_limiter_progress(x->service->parts.limiter, &x->limit, so_far(x, sp_usage_of(x->usage)));
    return pass;
}

struct sp_span sp_tokens_answer_ends(struct sp_exchange *x) {
    struct sp_span pass = SP_SPAN("");
    if (x->usage)
        sp_usage_end(x->usage, &pass);
    return pass;
}

/* ---- Settlement ---- */

static uint64_t estimate(struct sp_exchange *x, const struct sp_usage *usage) {
    uint64_t input = usage && usage->input_known ? usage->input : prompt_of(x), output = 0;
    if (x->told_status && !usage) /* an answer that cannot be read: what was reserved is what it cost */
        output = x->inspection.reserve - x->inspection.prompt;
    else if (x->told_status) /* else the server was at work on it, and nobody knows how far it came */
        output = sp_divide_up(usage->text_bytes, 4);
    x->tokens_estimated = true;
    x->tokens_in = (int64_t)input;
    x->tokens_out = (int64_t)output;
    return input + output;
}

/* Nothing that was never sent on costs anything, nor what the server refused or sent elsewhere; everything else does, also where no usage
 * was told. */
uint64_t sp_tokens_used(struct sp_exchange *x) {
    const struct sp_usage *usage = x->usage ? sp_usage_of(x->usage) : NULL;
    uint64_t used = 0;
    x->tokens_in = x->tokens_out = -1;
    if (sp_tokens_wanted(x) && x->server_saw) {
        if (usage && usage->known) {
            x->tokens_in = (int64_t)usage->input;
            x->tokens_out = (int64_t)usage->output;
            used = usage->input + usage->output;
        } else if (x->told_status < 300) {
            used = estimate(x, usage);
        }
    }
    if (x->usage)
        give_reader(x->service, sp_take(x->usage));
    return used;
}
