/* Control's side of what workers ask about issuers: who waits for which answer. */
#include <errno.h>

#include "questions.h"

struct asker {
    struct sp_list node;
    struct sp_channel *channel; /* of the worker */
    uint64_t id;                /* the worker's */
    enum sp_message_type answer;
    uint64_t ticket; /* keys: the issuer's; introspection: its own */
};

struct sp_questions {
    struct sp_issuers *issuers;
    struct sp_introspections *introspections;
    struct sp_list askers;
    size_t n_askers;
    uint64_t last_ticket;
    void (*keys)(void *owner, uint64_t issuer, int sealed_fd);
    void *owner;
};

enum { ASKERS_MAX = 65536 };

/* ---- Answers ---- */

static void tell_keys(const struct asker *asker, bool answered, uint32_t wait_ms) {
    struct sp_msg_key_answer message = {.id = asker->id, .answered = answered, .wait_ms = wait_ms};
    /* A queue that is full: the worker gives the question up by itself. */
    (void)!sp_channel_send(asker->channel, SP_MSG_KEY_ANSWER, &message, sizeof message, SP_SPAN(""), NULL, 0);
}

static void tell_introspection(const struct asker *asker, bool answered, struct sp_span answer) {
    struct sp_msg_introspection message = {.id = asker->id, .answered = answered};
    (void)!sp_channel_send(asker->channel, SP_MSG_INTROSPECTION, &message, sizeof message, answer, NULL, 0);
}

static void leave(struct sp_questions *questions, struct asker *asker) {
    sp_list_remove(&asker->node);
    questions->n_askers--;
    free(asker);
}

static void on_keys(void *owner, uint64_t issuer, int sealed_fd) {
    struct sp_questions *questions = owner;
    questions->keys(questions->owner, issuer, sealed_fd);
}

static void on_answered(void *owner, uint64_t ticket, bool answered, uint32_t wait_ms) {
    struct sp_questions *questions = owner;
    sp_list_each_safe (node, &questions->askers) {
        struct asker *asker = sp_list_entry(node, struct asker, node);
        if (asker->answer != SP_MSG_KEY_ANSWER || asker->ticket != ticket)
            continue;
        tell_keys(asker, answered, wait_ms);
        leave(questions, asker);
    }
}

static void on_introspected(void *owner, uint64_t ticket, bool answered, struct sp_span answer) {
    struct sp_questions *questions = owner;
    sp_list_each_safe (node, &questions->askers) {
        struct asker *asker = sp_list_entry(node, struct asker, node);
        if (asker->answer != SP_MSG_INTROSPECTION || asker->ticket != ticket)
            continue;
        tell_introspection(asker, answered, answer);
        leave(questions, asker);
    }
}

/* ---- Questions ---- */

static struct asker *enter(struct sp_questions *questions, struct sp_channel *channel, uint64_t id, enum sp_message_type answer) {
    struct asker *asker = questions->n_askers < ASKERS_MAX ? calloc(1, sizeof *asker) : NULL;
    if (!asker)
        return NULL;
    *asker = (struct asker){.channel = channel, .id = id, .answer = answer};
    sp_list_append(&questions->askers, &asker->node);
    questions->n_askers++;
    return asker;
}

/* Nothing while nothing is known: what our predecessor told is better than none, for as long as the issuer's keys are not given up. */
static int tell_key_set(const struct sp_questions *questions, struct sp_channel *channel, uint64_t issuer) {
    struct sp_msg_key_set message = {.issuer = issuer};
    int fd = sp_issuers_key_fd(questions->issuers, issuer);
    if (fd < 0 && !sp_issuers_given_up(questions->issuers, issuer))
        return 0;
    return sp_channel_send(channel, SP_MSG_KEY_SET, &message, sizeof message, SP_SPAN(""), &fd, fd >= 0);
}

/* First what is known here, since a worker that is new may not have it yet. */
static void on_key_wanted(struct sp_questions *questions, struct sp_channel *channel, struct sp_span payload) {
    struct sp_msg_key_wanted message;
    memcpy(&message, payload.at, sizeof message);
    (void)!tell_key_set(questions, channel, message.issuer);
    struct asker *asker = enter(questions, channel, message.id, SP_MSG_KEY_ANSWER);
    uint32_t wait_ms = 0;
    int r = asker ? sp_issuers_want(questions->issuers, message.issuer, &asker->ticket, &wait_ms) : -ENOMEM;
    if (r == 0)
        return;
    const struct asker now = {.channel = channel, .id = message.id};
    tell_keys(&now, false, wait_ms);
    if (asker)
        leave(questions, asker);
}

static void on_introspect(struct sp_questions *questions, struct sp_channel *channel, struct sp_config *config, struct sp_span payload) {
    struct sp_msg_introspect message;
    memcpy(&message, payload.at, sizeof message);
    struct sp_span token = sp_span_from(payload, sizeof message);
    struct asker *asker = enter(questions, channel, message.id, SP_MSG_INTROSPECTION);
    int r = asker && config ? 0 : -ENOMEM;
    if (r == 0) {
        asker->ticket = ++questions->last_ticket;
        r = sp_introspect(questions->introspections, config, message.issuer, token, asker->ticket);
    }
    if (r == 0)
        return;
    const struct asker now = {.channel = channel, .id = message.id};
    tell_introspection(&now, false, sp_span(NULL, 0));
    if (asker)
        leave(questions, asker);
}

void sp_questions_message(struct sp_questions *questions, struct sp_channel *channel, struct sp_config *config, enum sp_message_type type,
                          struct sp_span payload) {
    if (type == SP_MSG_KEY_WANTED)
        on_key_wanted(questions, channel, payload);
    else if (type == SP_MSG_INTROSPECT)
        on_introspect(questions, channel, config, payload);
}

void sp_questions_forget(struct sp_questions *questions, const struct sp_channel *channel) {
    sp_list_each_safe (node, &questions->askers) {
        struct asker *asker = sp_list_entry(node, struct asker, node);
        if (asker->channel == channel)
            leave(questions, asker);
    }
}

int sp_questions_tell_keys(const struct sp_questions *questions, struct sp_channel *channel, const struct sp_config *config) {
    for (size_t i = 0; i < config->n_issuers; i++) {
        int r = tell_key_set(questions, channel, config->issuers[i].fingerprint);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- Life ---- */

int sp_questions_configure(struct sp_questions *questions, struct sp_config *config) {
    return sp_issuers_configure(questions->issuers, config);
}

int sp_questions_new(struct sp_loop *loop, void (*keys)(void *owner, uint64_t issuer, int sealed_fd), void *owner,
                     struct sp_questions **ret) {
    static const struct sp_issuer_events events = {.keys = on_keys, .answered = on_answered};
    struct sp_questions *questions = calloc(1, sizeof *questions);
    if (!questions)
        return -ENOMEM;
    questions->keys = keys;
    questions->owner = owner;
    sp_list_init(&questions->askers);
    int r = sp_issuers_new(loop, &events, questions, &questions->issuers);
    if (r == 0)
        r = sp_introspections_new(loop, on_introspected, questions, &questions->introspections);
    if (r < 0) {
        sp_questions_free(questions);
        return r;
    }
    *ret = questions;
    return 0;
}

void sp_questions_free(struct sp_questions *questions) {
    if (!questions)
        return;
    sp_issuers_free(questions->issuers);
    sp_introspections_free(questions->introspections);
    while (!sp_list_empty(&questions->askers))
        leave(questions, sp_list_entry(questions->askers.next, struct asker, node));
    free(questions);
}
