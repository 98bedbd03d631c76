#include "levels.h"

#include <errno.h>

enum { QUESTIONS_MAX = 16 }; /* at one time */

__extension__ typedef unsigned __int128 wide;

/* One limit that is looked at, as a copy of what the configuration says: a strict one, so that Redis is asked and not what is held ahead,
 * and not a shadow, so that it is told of. */
struct look {
    struct question *question;
    struct sp_limit_config limit;
    struct sp_limit_request request;
};

struct question {
    struct sp_list node;
    struct sp_levels *levels;
    struct sp_channel *channel;
    uint64_t id;
    struct sp_config *config; /* keeps the limits' names */
    struct sp_facts facts;
    size_t n, pending;
    char account[SP_ACCOUNT_MAX + 1];
    char texts[SP_FACT_TEXTS * SP_FACT_MAX];
    struct look looks[];
};

struct sp_levels {
    struct sp_limiter *limiter;
    struct sp_list questions;
    size_t n;
};

/* ---- What was seen ---- */

/* Whole tokens, below zero in debt: that much is missing until it is full. */
static int64_t level_of_view(const struct sp_limit_view *view, const struct sp_rate *rate) {
    if (view->remaining > 0)
        return (int64_t)view->remaining;
    wide missing = sp_divide_up((wide)view->reset_ms * 1000 * rate->amount, rate->period_us);
    int64_t level = (int64_t)view->burst - (int64_t)sp_min(missing, (wide)INT64_MAX / 2);
    return sp_min(level, (int64_t)0);
}

static void tell_bucket(const struct look *look, unsigned kind, const struct sp_limit_level *here, struct sp_msg_level_bucket *ret) {
    const struct sp_rate *rate = kind == SP_LIMIT_TOKENS ? &look->limit.tokens : &look->limit.requests;
    const struct sp_limit_decision *decision = &look->request.decision;
    const struct sp_limit_view *view = &decision->shown[kind];
    bool shared = look->question->config->redis != NULL;
    if (rate->amount == 0 || !view->limit || (shared && decision->degraded && look->limit.on_outage != SP_OUTAGE_SHARE))
        return;
    ret->burst = view->burst;
    ret->full_after_ms = view->reset_ms;
    ret->leased = here->leased;
    ret->refused_ms = sp_divide_up(here->refused_us, 1000);
    if (shared && !decision->degraded)
        ret->level = level_of_view(view, rate);
    else
        ret->level = here->present ? here->level : (int64_t)view->burst;
}

static void tell_look(struct look *look, const struct sp_limit_facts *facts, struct sp_msg_level *ret) {
    struct sp_limit_levels here;
    sp_limiter_levels(look->question->levels->limiter, &look->limit, facts, &here);
    *ret = (struct sp_msg_level){.limit_slot = look->limit.slot, .places_used = here.places_used, .places_had = here.places_had};
    if (look->question->config->redis)
        ret->flags = SP_LEVEL_SHARED | (look->request.decision.degraded ? SP_LEVEL_DEGRADED : 0);
    for (unsigned kind = 0; kind < SP_COUNT(ret->bucket); kind++)
        tell_bucket(look, kind, &here.bucket[kind], &ret->bucket[kind]);
}

/* ---- Answering ---- */

static void send_answer(struct sp_channel *channel, uint64_t id, enum sp_levels_verdict verdict, const struct sp_facts *facts,
                        const struct sp_msg_level *rows, size_t n) {
    struct sp_msg_levels message = {.id = id, .verdict = verdict, .count = (uint32_t)n};
    _cleanup_(sp_buffer_free) struct sp_buffer rest;
    sp_buffer_init(&rest, SP_MESSAGE_MAX);
    int r = n > 0 ? sp_buffer_append(&rest, rows, n * sizeof *rows) : 0;
    if (r == 0)
        r = sp_facts_write(facts, &message.facts, &rest);
    if (r == 0)
        r = sp_channel_send(channel, SP_MSG_LEVELS, &message, sizeof message, sp_buffer_span(&rest), NULL, 0);
    if (r < 0)
        sp_warn("cannot tell control what limits leave: %s", strerror(-r));
}

static void question_free(struct question *question) {
    for (size_t i = 0; i < question->n; i++)
        sp_limiter_finish(question->levels->limiter, &question->looks[i].request, 0);
    sp_list_remove(&question->node);
    question->levels->n--;
    sp_config_unref(question->config);
    free(question);
}

static void conclude(struct question *question) {
    struct sp_msg_level rows[SP_LEVELS_MAX];
    for (size_t i = 0; i < question->n; i++)
        tell_look(&question->looks[i], &question->looks[i].request.facts, &rows[i]);
    send_answer(question->channel, question->id, SP_LEVELS_TOLD, &question->facts, rows, question->n);
    question_free(question);
}

static void looked(struct sp_limit_request *request) {
    struct question *question = SP_CONTAINER(request, struct look, request)->question;
    if (--question->pending == 0)
        conclude(question);
}

/* ---- Asking ---- */

static bool countable(const struct sp_limit_config *limit, const struct sp_facts *facts) {
    return (limit->by & ~(facts->given | SP_BY_GLOBAL)) == 0;
}

static void look_at(struct question *question, const struct sp_limit_config *limit) {
    const struct sp_facts *facts = &question->facts;
    struct look *look = &question->looks[question->n++];
    *look = (struct look){.question = question, .limit = *limit};
    look->limit.mode = SP_LIMIT_STRICT;
    look->limit.shadow = false;
    look->request = (struct sp_limit_request){
        .limits = {&look->limit},
        .n_limits = 1,
        .facts = {.subject = facts->text[SP_FACT_SUBJECT],
                  .tenant = facts->text[SP_FACT_TENANT],
                  .key_id = facts->text[SP_FACT_KEY],
                  .model = facts->text[SP_FACT_MODEL],
                  .route = facts->text[SP_FACT_ROUTE]},
        .cost = 1,
        .tokens = 1,
        .peek = true,
        .done = looked,
    };
    memcpy(look->request.facts.address, facts->address, sizeof facts->address);
}

/* One more is pending than there are looks, so that none of their answers concludes the question before all were asked. */
static void ask(struct question *question) {
    for (size_t i = 0; i < question->config->n_limits && question->n < SP_LEVELS_MAX; i++)
        if (countable(&question->config->limits[i], &question->facts))
            look_at(question, &question->config->limits[i]);
    question->pending = 1;
    for (size_t i = 0; i < question->n; i++)
        if (sp_limiter_admit(question->levels->limiter, &question->looks[i].request) == SP_LIMIT_PENDING)
            question->pending++;
    if (--question->pending == 0)
        conclude(question);
}

static struct question *question_new(struct sp_levels *levels, struct sp_config *config) {
    size_t most = sp_min(config->n_limits, (size_t)SP_LEVELS_MAX);
    struct question *question = levels->n < QUESTIONS_MAX ? calloc(1, sizeof *question + most * sizeof question->looks[0]) : NULL;
    if (!question)
        return NULL;
    question->levels = levels;
    question->config = sp_config_ref(config);
    sp_list_init(&question->node);
    sp_list_append(&levels->questions, &question->node);
    levels->n++;
    return question;
}

void sp_levels_question(struct sp_levels *levels, struct sp_channel *channel, struct sp_config *config, struct sp_span payload) {
    static const struct sp_facts nobody;
    struct sp_msg_levels_wanted message;
    memcpy(&message, payload.at, sizeof message);
    struct sp_span texts = sp_span_from(payload, sizeof message);
    struct question *question = question_new(levels, config);
    if (!question) {
        send_answer(channel, message.id, SP_LEVELS_BUSY, &nobody, NULL, 0);
        return;
    }
    question->channel = channel;
    question->id = message.id;
    if (texts.len)
        memcpy(question->texts, texts.at, sp_min(texts.len, sizeof question->texts));
    if (texts.len > sizeof question->texts || sp_facts_read(&message.facts, sp_span(question->texts, texts.len), &question->facts) < 0) {
        sp_error("control asked for levels in a way that nobody understands");
        question_free(question);
    } else if (!sp_levels_complete(config, &question->facts, question->account)) {
        send_answer(channel, message.id, SP_LEVELS_AMBIGUOUS, &nobody, NULL, 0);
        question_free(question);
    } else {
        ask(question);
    }
}

/* ---- Life ---- */

void sp_levels_forget(struct sp_levels *levels) {
    while (levels && !sp_list_empty(&levels->questions))
        question_free(sp_list_entry(levels->questions.next, struct question, node));
}

int sp_levels_new(struct sp_limiter *limiter, struct sp_levels **ret) {
    struct sp_levels *levels = calloc(1, sizeof *levels);
    if (!levels)
        return -ENOMEM;
    levels->limiter = limiter;
    sp_list_init(&levels->questions);
    *ret = levels;
    return 0;
}

void sp_levels_free(struct sp_levels *levels) {
    sp_levels_forget(levels);
    free(levels);
}
