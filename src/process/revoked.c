/* API keys that are revoked while we run. The list is kept here because the supervisor is the process that stays: a worker that is new
 * hears of all of them before it serves, and a reload does not bring a key back. */
#include <errno.h>
#include <stdio.h>

#include <sallyport/revocations.h>

#include "supervisor.h"

struct batch {
    struct sp_msg_revoked head;
    struct sp_msg_revoked_key key[SP_REVOKED_MAX];
};

static void put(struct batch *batch, const struct sp_revocation *revocation) {
    struct sp_msg_revoked_key *key = &batch->key[batch->head.count++];
    *key = (struct sp_msg_revoked_key){.now = revocation->now};
    memcpy(key->id, revocation->id, sizeof key->id);
}

static void send_batch(struct sp_process *process, const struct batch *batch) {
    if (batch->head.count > 0 && process->role->id == SP_ROLE_WORKER)
        sp_process_send(process, SP_MSG_REVOKED, batch, sizeof batch->head + batch->head.count * sizeof batch->key[0], SP_SPAN(""), NULL,
                        0);
}

void sp_revoked_tell(struct sp_process *process) {
    const struct sp_revocations *known = process->supervisor->revocations;
    struct batch batch = {0};
    for (size_t i = 0; i < sp_revocations_count(known); i++) {
        put(&batch, sp_revocations_at(known, i));
        if (batch.head.count == SP_REVOKED_MAX) {
            send_batch(process, &batch);
            batch.head.count = 0;
        }
    }
    send_batch(process, &batch);
}

/* As sp_revocations_add(); keys that the configuration has always find room. */
static int add(struct sp_supervisor *supervisor, const struct sp_revocation *revocation) {
    int r = sp_revocations_add(supervisor->revocations, revocation);
    if (r != -ENOSPC)
        return r;
    r = sp_revocations_keep_known(supervisor->revocations, supervisor->current->config);
    return r < 0 ? r : sp_revocations_add(supervisor->revocations, revocation);
}

/* Which of them the configuration has. */
static void find_known(const struct sp_config *config, const struct batch *heard, bool ret_known[SP_REVOKED_MAX]) {
    for (size_t i = 0; i < config->n_api_keys; i++)
        for (size_t j = 0; j < heard->head.count; j++)
            ret_known[j] |= memcmp(heard->key[j].id, config->api_keys[i].id, SP_KEY_ID_LEN) == 0;
}

/* Ids of no key are passed over: a worker that was taken over can invent no end of them. Of one that a later configuration brings, every
 * worker learns from Redis by itself, and none tells us of it before. */
void sp_revoked_learn(struct sp_process *from, struct sp_span payload) {
    struct sp_supervisor *supervisor = from->supervisor;
    struct batch heard, news = {0};
    bool known[SP_REVOKED_MAX] = {0};
    memcpy(&heard.head, payload.at, sizeof heard.head);
    struct sp_span rest = sp_span_from(payload, sizeof heard.head);
    if (heard.head.count > SP_REVOKED_MAX || rest.len != heard.head.count * sizeof heard.key[0])
        return sp_process_kill(from, SIGKILL, "it broke the message contract: revoked keys");
    if (!supervisor->current->config->redis)
        return; /* there is nowhere it could have learned that from */
    memcpy(heard.key, rest.at, rest.len);
    find_known(supervisor->current->config, &heard, known);
    for (size_t i = 0; i < heard.head.count; i++) {
        struct sp_revocation revocation = {.now = heard.key[i].now != 0};
        memcpy(revocation.id, heard.key[i].id, sizeof revocation.id);
        if (!sp_key_id_valid(sp_span(revocation.id, sizeof revocation.id)))
            return sp_process_kill(from, SIGKILL, "it broke the message contract: revoked keys");
        if (!known[i] || add(supervisor, &revocation) != 1)
            continue;
        sp_info("API key %.8s was revoked on another gateway%s", revocation.id, revocation.now ? ", at once" : "");
        put(&news, &revocation);
    }
    for (size_t i = 1; i < SP_PROCESSES_MAX; i++)
        if (&supervisor->process[i] != from)
            send_batch(&supervisor->process[i], &news);
}

static void answer(struct sp_supervisor *supervisor, uint64_t id, bool ok, const char *format, const char *key_id) {
    char text[256];
    snprintf(text, sizeof text, "key %.8s %s", key_id, format);
    sp_admin_answer(supervisor, id, ok, text);
}

static bool revoked_in_file(const struct sp_config *config, const char *id) {
    for (size_t i = 0; i < config->n_api_keys; i++)
        if (memcmp(config->api_keys[i].id, id, SP_KEY_ID_LEN) == 0)
            return config->api_keys[i].revoked;
    return false;
}

void sp_revoked_request(struct sp_supervisor *supervisor, const struct sp_msg_admin_request *request) {
    struct sp_revocation revocation = {.now = request->argument != 0};
    memcpy(revocation.id, request->key_id, sizeof revocation.id);
    /* A mistyped id must not look like a success. */
    if (!sp_key_id_valid(sp_span(revocation.id, sizeof revocation.id)) || !sp_key_id_known(supervisor->current->config, revocation.id))
        return answer(supervisor, request->id, false, "is not in the configuration in force: nobody can use it here", revocation.id);
    int r = add(supervisor, &revocation);
    if (r < 0)
        return answer(supervisor, request->id, false, strerror(-r), revocation.id);
    if (r == 0)
        return answer(supervisor, request->id, true, "was revoked before", revocation.id);
    struct batch batch = {0};
    put(&batch, &revocation);
    for (size_t i = 1; i < SP_PROCESSES_MAX; i++)
        send_batch(&supervisor->process[i], &batch);
    sp_info("API key %.8s is revoked%s", revocation.id, revocation.now ? ", and what it has open ends" : "");
    answer(supervisor, request->id, true,
           revoked_in_file(supervisor->current->config, revocation.id)
               ? "is refused from now on"
               : "is refused from now on; `sallyport key revoke` keeps it so when this gateway is started again",
           revocation.id);
}
