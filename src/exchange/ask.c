/* Questions to issuers, which control asks on our behalf: equal ones are asked once, and the exchanges that wait for one wait a bounded
 * time. */
#include "private.h"

enum {
    QUESTIONS_MAX = 1024, /* at one time; whoever comes after that is not waited for */
    KEYS_WAIT_MS = 5500, /* longer than control takes to say that a provider is silent */
    TOKEN_WAIT_MS = 3000,
    WAIT_IN_ALL_MS = 6000, /* of one exchange, however many issuers there are */
};

struct sp_question {
    struct sp_list node; /* in service->questions */
    struct sp_map_node by_key;
    struct sp_service *service;
    uint64_t id;
    uint8_t key[32];
    enum sp_question_kind kind;
    struct sp_identity *identity; /* the answer is for its issuer */
    unsigned issuer;
    struct sp_list waiting; /* exchanges, by asking_node */
    struct sp_timer timer;  /* until it is given up; at rest: until asking again has use */
    bool at_rest;           /* answered a moment ago */
    size_t token_len;
    char token[];
};

/* Keys of questions are hashes already. */
static uint64_t hash_of(const uint8_t key[32]) {
    uint64_t hash;
    memcpy(&hash, key, sizeof hash);
    return hash;
}

static struct sp_question *find(const struct sp_service *service, const uint8_t key[32]) {
    for (struct sp_map_node *node = sp_map_first(&service->questions_by_key, hash_of(key)); node; node = sp_map_next(node)) {
        struct sp_question *question = SP_CONTAINER(node, struct sp_question, by_key);
        if (memcmp(question->key, key, sizeof question->key) == 0)
            return question;
    }
    return NULL;
}

static void question_free(struct sp_question *question) {
    struct sp_service *service = question->service;
    sp_timer_stop(&question->timer);
    sp_list_remove(&question->node);
    sp_map_remove(&service->questions_by_key, &question->by_key);
    sp_identity_unref(question->identity);
    sp_wipe(question->token, question->token_len);
    free(question);
}

/* ---- Ending ---- */

/* Everybody who waits goes on. The question itself ends, or rests for a while. */
static void finish(struct sp_question *question, bool answered, const char *reason, uint64_t rest_ms) {
    struct sp_list waiting;
    uint64_t issuer = UINT64_C(1) << question->issuer;
    sp_list_init(&waiting);
    while (!sp_list_empty(&question->waiting)) {
        struct sp_list *node = question->waiting.next;
        sp_list_remove(node);
        sp_list_append(&waiting, node);
    }
    if (rest_ms) {
        question->at_rest = true;
        sp_timer_start(question->service->parts.loop, &question->timer, rest_ms);
    } else {
        question_free(question);
    }
    while (!sp_list_empty(&waiting)) { /* who goes on may end, and take others along */
        struct sp_exchange *x = sp_list_entry(waiting.next, struct sp_exchange, asking_node);
        sp_list_remove(&x->asking_node);
        x->asking = NULL;
        if (answered)
            x->asked.answered |= issuer;
        else
            x->asked.silent |= issuer;
        x->asked.reason = reason;
        sp_exchange_run(x);
    }
}

static void on_timer(struct sp_timer *timer) {
    struct sp_question *question = SP_CONTAINER(timer, struct sp_question, timer);
    finish(question, false, NULL, 0);
}

static struct sp_question *open_question(struct sp_service *service, uint64_t id, enum sp_question_kind kind) {
    sp_list_each (node, &service->questions) {
        struct sp_question *question = sp_list_entry(node, struct sp_question, node);
        if (question->id == id && question->kind == kind && !question->at_rest)
            return question;
    }
    return NULL;
}

void sp_service_keys_answered(struct sp_service *service, uint64_t id, bool answered, uint32_t wait_ms) {
    struct sp_question *question = open_question(service, id, SP_QUESTION_KEYS);
    if (question) /* else it was given up */
        finish(question, answered, NULL, wait_ms);
}

void sp_service_introspected(struct sp_service *service, uint64_t id, bool answered, struct sp_span answer) {
    struct sp_question *question = open_question(service, id, SP_QUESTION_TOKEN);
    if (!question)
        return;
    const char *reason = NULL;
    if (answered)
        reason = sp_identity_introspected(question->identity, service->parts.tokens, question->issuer,
                                          sp_span(question->token, question->token_len), question->key, answer, sp_wall_s());
    finish(question, answered, reason, 0);
}

void sp_service_unanswered(struct sp_service *service) {
    /* Whoever goes on may ask again, and is then told at once that nobody is there: the list ends. */
    sp_list_each_safe (node, &service->questions) {
        struct sp_question *question = sp_list_entry(node, struct sp_question, node);
        if (!question->at_rest)
            sp_timer_start(service->parts.loop, &question->timer, 0);
    }
}

void sp_questions_free(struct sp_service *service) {
    while (!sp_list_empty(&service->questions))
        question_free(sp_list_entry(service->questions.next, struct sp_question, node));
    sp_map_free(&service->questions_by_key);
}

/* ---- Asking ---- */

static struct sp_question *question_new(struct sp_exchange *x) {
    struct sp_service *service = x->service;
    const struct sp_auth_question *asked = &x->asked;
    size_t token_len = asked->kind == SP_QUESTION_TOKEN ? asked->token.len : 0;
    if (service->questions_by_key.count >= QUESTIONS_MAX)
        return NULL;
    struct sp_question *question = calloc(1, sizeof *question + token_len);
    if (!question)
        return NULL;
    if (sp_map_add(&service->questions_by_key, &question->by_key, hash_of(asked->key)) < 0) {
        free(question);
        return NULL;
    }
    question->service = service;
    question->id = ++service->last_question;
    memcpy(question->key, asked->key, sizeof question->key);
    question->kind = asked->kind;
    question->identity = sp_identity_ref(x->snapshot->identity);
    question->issuer = asked->issuer;
    question->timer.fire = on_timer;
    question->token_len = token_len;
    if (token_len)
        memcpy(question->token, asked->token.at, token_len);
    sp_list_init(&question->waiting);
    sp_list_append(&service->questions, &question->node);
    return question;
}

static struct sp_question *put(struct sp_exchange *x) {
    const struct sp_service_parts *parts = &x->service->parts;
    struct sp_question *question = parts->ask ? question_new(x) : NULL;
    if (!question)
        return NULL;
    if (parts->ask(parts->ask_owner, question->id, &x->snapshot->config->issuers[x->asked.issuer], &x->asked) < 0) {
        question_free(question);
        return NULL;
    }
    sp_timer_start(parts->loop, &question->timer, question->kind == SP_QUESTION_KEYS ? KEYS_WAIT_MS : TOKEN_WAIT_MS);
    return question;
}

bool sp_question_ask(struct sp_exchange *x) {
    struct sp_question *question = find(x->service, x->asked.key);
    bool late = sp_loop_now_us(sp_loop_of(x)) - x->started_us > WAIT_IN_ALL_MS * UINT64_C(1000);
    if (late || (question && question->at_rest))
        question = NULL; /* at rest: nobody would know more than a moment ago */
    else if (!question)
        question = put(x);
    if (!question) {
        x->asked.silent |= UINT64_C(1) << x->asked.issuer;
        return false;
    }
    x->asking = question;
    sp_list_append(&question->waiting, &x->asking_node);
    return true;
}

void sp_question_leave(struct sp_exchange *x) {
    if (x->asking)
        sp_list_remove(&x->asking_node);
    x->asking = NULL;
}
