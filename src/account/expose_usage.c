/* Tokens of language models, as Prometheus text. Keys and tenants are read from shared memory, which says only names of the configuration;
 * what is no text there is left out. */
#include <errno.h>

#include "expose.h"

static const char *const directions[SP_DIRECTIONS] = {"input", "output"};

/* ---- By model ---- */

/* The configuration's models, and after the last one "none", for answers of no model, unless a model is called that. */
static size_t n_models(const struct sp_config *config) { return config->n_models + (sp_config_model(config, SP_SPAN("none")) ? 0 : 1); }
static unsigned model_slot(const struct sp_config *config, size_t i) {
    return i < config->n_models ? config->models[i].slot : SP_SLOT_NONE;
}
static const char *model_name(const struct sp_config *config, size_t i) { return i < config->n_models ? config->models[i].name : "none"; }

static int expose_count(struct sp_buffer *out, const char *name, const char *model, const char *direction, uint64_t tokens) {
    int r = sp_buffer_printf(out, "%s{", name);
    if (r == 0)
        r = sp_expose_label(out, "model", model);
    if (r == 0 && direction)
        r = sp_buffer_printf(out, ",direction=\"%s\"", direction);
    return r < 0 ? r : sp_buffer_printf(out, "} %llu\n", (unsigned long long)tokens);
}

static int expose_tokens(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) {
    int r = sp_expose_head(out, "sallyport_tokens_total", "counter",
                           "Tokens of language models that requests (input) and answers (output) took.");
    for (size_t i = 0; r == 0 && i < n_models(config); i++) {
        struct sp_model_tokens tokens = sp_counters_tokens(counters, model_slot(config, i));
        if (i == config->n_models && tokens.input == 0 && tokens.output == 0)
            break;
        r = expose_count(out, "sallyport_tokens_total", model_name(config, i), directions[SP_TOKENS_IN], tokens.input);
        if (r == 0)
            r = expose_count(out, "sallyport_tokens_total", model_name(config, i), directions[SP_TOKENS_OUT], tokens.output);
    }
    if (r == 0)
        r = sp_expose_head(out, "sallyport_tokens_estimated_total", "counter",
                           "Tokens, of those in sallyport_tokens_total, that were estimated because the backend did not report them.");
    for (size_t i = 0; r == 0 && i < n_models(config); i++) {
        uint64_t estimated = sp_counters_tokens(counters, model_slot(config, i)).estimated;
        if (i < config->n_models || estimated > 0)
            r = expose_count(out, "sallyport_tokens_estimated_total", model_name(config, i), NULL, estimated);
    }
    return r;
}

/* What is measured per model under OpenTelemetry's names. */
static const struct measure {
    const char *name, *help;
    size_t offset; /* of the histogram in struct sp_model_usage */
    const struct sp_scale *scale;
    const char *token_type; /* NULL: none */
    bool continues;         /* the metric before */
} measures[] = {
    {"gen_ai_client_token_usage", "Tokens of one request or answer, as the backend reported them.",
     offsetof(struct sp_model_usage, per_answer[SP_TOKENS_IN]), &sp_scale_tokens, "input", false},
    {"gen_ai_client_token_usage", "", offsetof(struct sp_model_usage, per_answer[SP_TOKENS_OUT]), &sp_scale_tokens, "output", true},
    {"gen_ai_server_time_to_first_token_seconds", "From a request's first byte to the first byte of its streamed answer.",
     offsetof(struct sp_model_usage, first_token), &sp_scale_first_token, NULL, false},
    {"gen_ai_server_time_per_output_token_seconds",
     "Of streamed answers: the time from the first byte to the last, for each token after the first.",
     offsetof(struct sp_model_usage, per_token), &sp_scale_per_token, NULL, false},
};

static bool sum_up(const struct sp_counters *counters, const struct measure *measure, unsigned slot_of_model,
                   struct sp_histogram_sum *ret) {
    uint64_t any = 0;
    *ret = (struct sp_histogram_sum){0};
    for (unsigned slot = 0; slot < SP_WORKERS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        if (!block)
            continue;
        const struct sp_model_usage *model = &block->model[slot_of_model < SP_MODELS_MAX ? 1 + slot_of_model : 0];
        sp_histogram_sum((const void *)((const char *)model + measure->offset), ret);
    }
    for (unsigned i = 0; i <= SP_BOUNDS_MAX; i++)
        any |= ret->bucket[i];
    return any > 0;
}

/* A model without a single answer has no histogram yet: 256 of them would be a long text of zeros. */
static int expose_measure(const struct sp_counters *counters, const struct sp_config *config, const struct measure *measure,
                          struct sp_buffer *out) {
    _cleanup_(sp_buffer_free) struct sp_buffer labels;
    sp_buffer_init(&labels, 4096);
    struct sp_histogram_sum sum;
    int r = measure->continues ? 0 : sp_expose_head(out, measure->name, "histogram", measure->help);
    for (size_t i = 0; r == 0 && i < n_models(config); i++) {
        if (!sum_up(counters, measure, model_slot(config, i), &sum))
            continue;
        sp_buffer_consume(&labels, sp_buffer_len(&labels));
        r = sp_expose_label(&labels, "gen_ai_request_model", model_name(config, i));
        if (r == 0 && measure->token_type)
            r = sp_buffer_printf(&labels, ",gen_ai_token_type=\"%s\"", measure->token_type);
        if (r == 0)
            r = sp_buffer_append(&labels, "", 1); /* its NUL */
        if (r == 0)
            r = sp_expose_histogram(out, measure->name, sp_buffer_span(&labels).at, measure->scale, &sum);
    }
    return r;
}

/* ---- By key and tenant ---- */

static int expose_named(struct sp_buffer *out, const char *metric, const char *key, const char *tenant, const struct sp_usage_sum *sum) {
    for (unsigned i = 0; i < SP_DIRECTIONS; i++) {
        int r = sp_buffer_printf(out, "%s{", metric);
        if (r == 0 && key)
            r = sp_expose_label(out, "key", key);
        if (r == 0 && key)
            r = sp_buffer_append(out, ",", 1);
        if (r == 0)
            r = sp_expose_label(out, "tenant", tenant);
        if (r == 0)
            r = sp_buffer_printf(out, ",direction=\"%s\"} %llu\n", directions[i], (unsigned long long)sum->tokens[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool is_text(const char *text) {
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20)
            return false;
    return sp_utf8_valid(sp_span_text(text));
}

static int expose_sum(struct sp_buffer *out, bool tenants, const char *metric, const struct sp_usage_sum *sum) {
    char key[sizeof(uint64_t) + 1] = {0}, tenant[SP_TENANT_LEN + 1] = {0};
    memcpy(key, &sum->name.key, sizeof(uint64_t));
    memcpy(tenant, sum->name.tenant, SP_TENANT_LEN);
    if ((sum->tokens[SP_TOKENS_IN] == 0 && sum->tokens[SP_TOKENS_OUT] == 0) || !is_text(key) || !is_text(tenant))
        return 0;
    return expose_named(out, metric, tenants ? NULL : key, tenant, sum);
}

static int expose_names(const struct sp_counters *counters, bool tenants, const char *metric, const char *help, struct sp_buffer *out) {
    _cleanup_(sp_free_pointer) struct sp_usage_sum *sums = NULL;
    size_t n = 0;
    int r = sp_usage_sums(counters, tenants, &sums, &n);
    if (r == 0)
        r = sp_expose_head(out, metric, "counter", help);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = expose_sum(out, tenants, metric, &sums[i]);
    return r;
}

int sp_expose_usage(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) {
    int r = expose_tokens(counters, config, out);
    for (size_t i = 0; r == 0 && i < SP_COUNT(measures); i++)
        r = expose_measure(counters, config, &measures[i], out);
    if (r == 0)
        r = expose_names(counters, false, "sallyport_key_tokens_total",
                         "Tokens that the callers of each API key took; \"other\": of keys that there is no room to name.", out);
    return r < 0 ? r
                 : expose_names(counters, true, "sallyport_tenant_tokens_total",
                                "Tokens that each tenant in the file of API keys took; \"other\": tenants named only by tokens.", out);
}
