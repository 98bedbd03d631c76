/* Tokens of language models: what answers took, by model, by API key and by tenant. */
#include "segment.h"

static struct sp_model_usage *model_usage(struct sp_worker_block *block, unsigned model_slot) {
    return &block->model[model_slot < SP_MODELS_MAX ? 1 + model_slot : 0];
}

static void count_model(struct sp_model_usage *model, const struct sp_usage_count *usage) {
    const int64_t tokens[SP_DIRECTIONS] = {usage->tokens_in, usage->tokens_out};
    for (unsigned i = 0; i < SP_DIRECTIONS; i++) {
        if (tokens[i] < 0)
            continue;
        sp_word_add(&model->tokens[i], (uint64_t)tokens[i]);
        if (usage->estimated)
            sp_word_add(&model->estimated, (uint64_t)tokens[i]);
        else
            sp_histogram_add(&model->per_answer[i], &sp_scale_tokens, (uint64_t)tokens[i]);
    }
    if (!usage->streamed || usage->first_token_us < 0)
        return;
    sp_histogram_add(&model->first_token, &sp_scale_first_token, (uint64_t)usage->first_token_us);
    if (!usage->estimated && usage->tokens_out >= 2)
        sp_histogram_add(&model->per_token, &sp_scale_per_token, usage->generation_us / (uint64_t)(usage->tokens_out - 1));
}

static void count_name(struct sp_usage_names *names, const struct sp_usage_order *order, struct sp_span key, struct sp_span tenant,
                       const struct sp_usage_count *usage) {
    struct sp_usage_name name;
    struct sp_usage_entry *entry = sp_usage_name_make(key, tenant, &name) ? sp_usage_entry_of(names, order, &name) : &names->entry[0];
    sp_word_add(&entry->tokens[SP_TOKENS_IN], (uint64_t)sp_max(usage->tokens_in, 0));
    sp_word_add(&entry->tokens[SP_TOKENS_OUT], (uint64_t)sp_max(usage->tokens_out, 0));
}

void sp_count_usage(struct sp_counters *counters, unsigned worker_slot, const struct sp_usage_count *usage) {
    struct sp_worker_block *block = sp_counters_own(counters, worker_slot);
    if (!block)
        return;
    count_model(model_usage(block, usage->model_slot), usage);
    if (usage->key_id.len > 0)
        count_name(&block->keys, &counters->keys[worker_slot], usage->key_id, usage->tenant, usage);
    if (usage->tenant.len > 0)
        count_name(&block->tenants, &counters->tenants[worker_slot], SP_SPAN(""), usage->tenant, usage);
}

struct sp_model_tokens sp_counters_tokens(const struct sp_counters *counters, unsigned model_slot) {
    struct sp_model_tokens sum = {0};
    for (unsigned slot = 0; slot < SP_WORKERS_MAX; slot++) {
        const struct sp_worker_block *block = sp_counters_block(counters, slot);
        if (!block)
            continue;
        const struct sp_model_usage *model = &block->model[model_slot < SP_MODELS_MAX ? 1 + model_slot : 0];
        sum.input += sp_word(&model->tokens[SP_TOKENS_IN]);
        sum.output += sp_word(&model->tokens[SP_TOKENS_OUT]);
        sum.estimated += sp_word(&model->estimated);
    }
    return sum;
}
