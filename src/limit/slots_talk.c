/* What is said to Redis about places, and what is heard. places.lua is the other side. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "script.h"
#include "slots_talk.h"

#define KEPT        64
#define TICK_US     1000
#define PATIENCE_US (UINT64_C(1000) * 1000) /* with a Redis that nobody waits for */

/* ---- Talks ---- */

static void replied(struct sp_redis_command *command, const struct sp_resp_reply *reply);

void sp_slots_talk_init(struct sp_slots *slots) {
    sp_map_init(&slots->talks);
    sp_pool_init(&slots->pool, sizeof(struct sp_slots_talk), KEPT);
    sp_list_init(&slots->waited_for);
    sp_list_init(&slots->looking);
    sp_list_init(&slots->under_way);
}

static struct sp_slots_talk *find(const struct sp_slots *slots, uint64_t name) {
    struct sp_map_node *node = sp_map_first(&slots->talks, name);
    return node ? SP_CONTAINER(node, struct sp_slots_talk, node) : NULL;
}

static bool find_key(const struct sp_slots *slots, uint64_t name, char out[SLOTS_KEY_MAX], size_t *ret_len) {
    struct sp_slots_seen seen;
    return sp_slots_find(slots->segment, name, &seen) && sp_slots_read_key(sp_slots_note(&seen), &slots->hash_key, name, out, ret_len);
}

struct sp_slots_talk *sp_slots_talk_about(struct sp_slots *slots, uint64_t name, const struct sp_span *key) {
    struct sp_slots_talk *talk = find(slots, name);
    if (talk)
        return talk;
    talk = sp_pool_get(&slots->pool);
    if (!talk)
        return NULL;
    memset(talk, 0, offsetof(struct sp_slots_talk, key));
    talk->slots = slots;
    talk->name = name;
    talk->command.replied = replied;
    sp_list_init(&talk->command.node);
    sp_list_init(&talk->waiting);
    sp_list_init(&talk->crowd);
    sp_list_init(&talk->looking);
    sp_list_init(&talk->going);
    if (key) {
        talk->key_len = key->len;
        memcpy(talk->key, key->at, key->len);
    }
    if ((!key && !find_key(slots, name, talk->key, &talk->key_len)) || sp_map_add(&slots->talks, &talk->node, name) < 0) {
        sp_pool_put(&slots->pool, talk);
        return NULL;
    }
    return talk;
}

static void forget(struct sp_slots_talk *talk) {
    sp_map_remove(&talk->slots->talks, &talk->node);
    sp_list_remove(&talk->crowd);
    sp_list_remove(&talk->looking);
    sp_list_remove(&talk->going);
    sp_pool_put(&talk->slots->pool, talk);
}

void sp_slots_talk_end(struct sp_slots_talk *talk) {
    if (sp_list_empty(&talk->waiting))
        sp_list_remove(&talk->crowd);
    if (sp_list_empty(&talk->waiting) && sp_list_empty(&talk->looking) && !talk->is_under_way && talk->busy == 0)
        forget(talk);
}

void sp_slots_talk_free_all(struct sp_slots *slots) {
    for (size_t i = 0; i < slots->talks.n_chains; i++)
        while (slots->talks.chains[i])
            forget(SP_CONTAINER(slots->talks.chains[i], struct sp_slots_talk, node));
    sp_map_free(&slots->talks);
    sp_pool_drain(&slots->pool);
}

/* ---- Saying ---- */

static uint32_t waiting_count(const struct sp_slots_talk *talk) {
    uint32_t n = 0;
    sp_list_each(node, &talk->waiting)
        n++;
    return n;
}

/* How many places this machine is to keep, whoever waits left aside. */
static uint32_t kept(const struct sp_slots_note *note, struct sp_slots_word word, bool gives, uint64_t now_us) {
    if (sp_slots_load(&note->until_us) <= now_us || word.had <= word.used)
        return word.used; /* what it had is over, or in use */
    uint32_t spare = word.had - word.used, unused = __atomic_load_n(&note->spare, __ATOMIC_RELAXED); /* others write it: read once */
    if (gives)
        spare -= sp_slots_read_policy(note).strict ? spare : sp_min(spare, unused);
    return word.used + spare;
}

/* From here on no earlier command is heeded, and until its own reply is, no more is used than the `had` that it tells. */
static bool begin(struct sp_slots_talk *talk, bool gives, struct sp_slots_seen *seen) {
    struct sp_slots *slots = talk->slots;
    uint32_t waiting = waiting_count(talk);
    for (;;) {
        uint64_t now_us = sp_clock_us();
        if (!sp_slots_seize(slots->segment, talk->name, now_us, &slots->claims, seen))
            return false;
        struct sp_slots_word word = seen->word;
        uint64_t want = sp_max(kept(sp_slots_note(seen), word, gives, now_us), (uint64_t)word.used + waiting);
        talk->want = (uint32_t)sp_min(want, SLOTS_COUNT_MAX);
        talk->used = word.used;
        talk->ticket = (word.ticket + 1) & SLOTS_TICKET_MAX;
        word.had = talk->had = sp_min(word.had, talk->want);
        word.ticket = talk->ticket;
        talk->sent_us = sp_clock_us();
        if (sp_slots_change(seen, word))
            return true;
    }
}

static bool lock(struct sp_slots_talk *talk, struct sp_slots_note *note) {
    uint64_t now_us = sp_clock_us(), held = sp_slots_load(&note->asking_us);
    talk->lock = now_us + talk->slots->config->redis->deadline_ms * 1000;
    return held <= now_us && sp_slots_exchange(&note->asking_us, held, talk->lock);
}

static void unlock(const struct sp_slots_talk *talk) {
    struct sp_slots_seen seen;
    if (sp_slots_find(talk->slots->segment, talk->name, &seen))
        (void)sp_slots_exchange(&sp_slots_note(&seen)->asking_us, talk->lock, 0);
}

/* EVALSHA script 1 key gateway sequence used had want waits bound revision ttl */
static size_t format(struct sp_slots_talk *talk, struct sp_slots_policy policy) {
    const struct sp_slots *slots = talk->slots;
    const char *prefix = slots->config->redis->prefix;
    uint64_t waits = !sp_list_empty(&talk->waiting);
    uint64_t numbers[] = {talk->sent_us, talk->used, talk->had, talk->want, waits, policy.bound, policy.revision, SP_PLACES_TTL_MS};
    int n = snprintf(talk->bytes, sizeof talk->bytes, "*13\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n$1\r\n1\r\n$%zu\r\n%s%.*s\r\n$16\r\n%.16s\r\n",
                     sp_places_sha1, strlen(prefix) + talk->key_len, prefix, (int)talk->key_len, talk->key, slots->gateway);
    for (size_t i = 0; i < SP_COUNT(numbers) && n > 0 && (size_t)n < sizeof talk->bytes; i++) {
        char digits[21];
        int len = snprintf(digits, sizeof digits, "%" PRIu64, numbers[i]);
        n += snprintf(talk->bytes + n, sizeof talk->bytes - (size_t)n, "$%d\r\n%s\r\n", len, digits);
    }
    return n > 0 && (size_t)n < sizeof talk->bytes ? (size_t)n : 0;
}

static unsigned slot_of(const struct sp_slots_talk *talk) {
    const struct sp_redis_config *redis = talk->slots->config->redis;
    char key[SP_REDIS_KEY_MAX];
    size_t prefix_len = strlen(redis->prefix);
    if (redis->cluster.count == 0 || prefix_len + talk->key_len > sizeof key)
        return 0;
    memcpy(key, redis->prefix, prefix_len);
    memcpy(key + prefix_len, talk->key, talk->key_len);
    return sp_redis_key_slot(sp_span(key, prefix_len + talk->key_len));
}

static int send_command(struct sp_slots_talk *talk, const struct sp_slots_seen *seen, unsigned slot) {
    struct sp_slots *slots = talk->slots;
    struct sp_slots_note *note = sp_slots_note(seen);
    sp_slots_write_key(note, &slots->hash_key, talk->name, sp_span(talk->key, talk->key_len));
    struct sp_slots_policy policy = sp_slots_read_policy(note);
    if (policy.bound == 0 && talk->want > 0)
        return -EBUSY; /* somebody is about to write it */
    talk->len = format(talk, policy);
    int r = talk->len ? sp_redis_route_send(slots->route, slot, &talk->command, talk->bytes, talk->len) : -ENAMETOOLONG;
    if (r < 0)
        return r;
    talk->is_under_way = true;
    talk->is_late = false;
    sp_list_append(&slots->under_way, &talk->going);
    return 0;
}

int sp_slots_talk_say(struct sp_slots_talk *talk, bool gives) {
    struct sp_slots *slots = talk->slots;
    struct sp_slots_seen seen;
    if (talk->is_under_way)
        return 0;
    if (!sp_slots_with_redis(slots))
        return -ENOTCONN;
    unsigned slot = slot_of(talk);
    if (!sp_redis_route_usable(slots->route, slot))
        return -ENOTCONN;
    if (!sp_slots_seize(slots->segment, talk->name, sp_clock_us(), &slots->claims, &seen))
        return -ENOSPC;
    if (!lock(talk, sp_slots_note(&seen)))
        return -EBUSY;
    int r = begin(talk, gives, &seen) ? send_command(talk, &seen, slot) : -ENOSPC;
    if (r < 0)
        unlock(talk);
    sp_slots_wake(slots);
    return r;
}

/* ---- Hearing ---- */

/* What Redis says holds, unless something was said after it. */
static bool heed(struct sp_slots_talk *talk, uint32_t granted, struct sp_slots_seen *seen) {
    do {
        if (!sp_slots_find(talk->slots->segment, talk->name, seen) || seen->word.ticket != talk->ticket)
            return false;
    } while (!sp_slots_change(seen, (struct sp_slots_word){.used = seen->word.used, .had = granted, .ticket = seen->word.ticket}));
    struct sp_slots_note *note = sp_slots_note(seen);
    uint64_t until_us = talk->sent_us + SP_PLACES_TTL_MS * UINT64_C(1000), held = sp_slots_load(&note->until_us);
    while (held < until_us && !__atomic_compare_exchange_n(&note->until_us, &held, until_us, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    __atomic_store_n(&note->told, sp_max(granted, sp_max(talk->used, talk->had)), __ATOMIC_SEQ_CST);
    if (granted < talk->want)
        sp_slots_refuse(note, talk->name, sp_clock_us() + SLOTS_REFUSED_MS * 1000);
    return true;
}

/* Those who can have a place get it, first come first served. What is left over, if Redis has no more, is refused. */
static void serve(struct sp_slots_talk *talk, bool refused) {
    while (!sp_list_empty(&talk->waiting)) {
        struct sp_place_ask *ask = sp_list_entry(talk->waiting.next, struct sp_place_ask, node);
        bool taken = sp_slots_take_had(talk->slots, talk->name, ask->limit->concurrency);
        if (!taken && !refused)
            return;
        sp_list_remove(&ask->node);
        ask->pending = NULL;
        ask->answered(ask, true, taken);
    }
}

static void nobody_said(struct sp_slots_talk *talk) {
    while (!sp_list_empty(&talk->waiting)) {
        struct sp_place_ask *ask = sp_list_entry(talk->waiting.next, struct sp_place_ask, node);
        sp_list_remove(&ask->node);
        ask->pending = NULL;
        ask->answered(ask, false, false);
    }
}

/* Whoever still waits asks again. A command that nobody knows the end of is followed by another one as soon as that is possible. */
static void go_on(struct sp_slots_talk *talk) {
    struct sp_slots *slots = talk->slots;
    struct sp_slots_seen seen;
    if (!sp_list_empty(&talk->waiting)) {
        int r = sp_slots_talk_say(talk, false);
        if (r < 0 && r != -EBUSY)
            nobody_said(talk);
    } else if (sp_slots_find(slots->segment, talk->name, &seen)) {
        sp_slots_consider(slots, &seen);
    }
    talk->busy--;
    sp_slots_talk_end(talk);
}

/* It is to be told again, as long as Redis may remember. Returns now. */
static uint64_t insist(struct sp_slots_talk *talk) {
    uint64_t now_us = sp_clock_us();
    talk->insist_us = now_us + SP_PLACES_TTL_MS * UINT64_C(1000);
    return now_us;
}

static void failed(struct sp_slots_talk *talk) {
    nobody_said(talk);
    sp_slots_look_at(talk, insist(talk) + SP_PLACES_LINGER_MS * UINT64_C(1000));
    go_on(talk);
}

static void refused(struct sp_slots_talk *talk, const char *what, struct sp_span said) {
    char copy[96];
    size_t len = sp_min(said.len, sizeof copy);
    if (len)
        memcpy(copy, said.at, len);
    sp_redis_route_failed(&talk->command, what, sp_span(copy, len));
    failed(talk);
}

static void answered(struct sp_slots_talk *talk, const struct sp_resp_reply *reply) {
    int64_t granted = reply->value.integer;
    struct sp_slots_seen seen = {0};
    if (reply->value.type != SP_RESP_INTEGER || granted < -1 || granted > (int64_t)talk->want) {
        refused(talk, "Redis gave places in an unknown form", sp_span(NULL, 0));
        return;
    }
    if (!talk->is_late)
        sp_redis_route_succeeded(&talk->command);
    bool heeded = granted >= 0 && heed(talk, (uint32_t)granted, &seen);
    if (heeded)
        talk->insist_us = 0;
    if (heeded && seen.word.used > sp_max((uint32_t)granted, talk->used)) /* more than Redis has written down */
        sp_slots_look_at(talk, insist(talk));
    serve(talk, heeded && granted < (int64_t)talk->want);
    go_on(talk);
}

static void replied(struct sp_redis_command *command, const struct sp_resp_reply *reply) {
    struct sp_slots_talk *talk = SP_CONTAINER(command, struct sp_slots_talk, command);
    enum sp_redis_verdict verdict = sp_redis_route_consider(talk->slots->route, command, reply, talk->bytes, talk->len);
    if (verdict == SP_REDIS_AGAIN)
        return;
    talk->busy++;
    talk->is_under_way = false;
    sp_list_remove(&talk->going);
    unlock(talk);
    if (verdict == SP_REDIS_ANSWER)
        answered(talk, reply);
    else if (verdict == SP_REDIS_ERROR)
        refused(talk, "Redis refused to give places", reply->value.text);
    else
        failed(talk);
}

/* ---- Waiting ---- */

/* Decisions are never late: who is due within a tick is due now. true: somebody was. */
static bool answer_due(struct sp_slots_talk *talk) {
    uint64_t now_us = sp_clock_us();
    struct sp_list due;
    sp_list_init(&due);
    sp_list_each_safe(node, &talk->waiting) {
        if (sp_list_entry(node, struct sp_place_ask, node)->due_us <= now_us + TICK_US) {
            sp_list_remove(node);
            sp_list_append(&due, node);
        }
    }
    bool any = !sp_list_empty(&due);
    while (!sp_list_empty(&due)) {
        struct sp_place_ask *ask = sp_list_entry(due.next, struct sp_place_ask, node);
        sp_list_remove(&ask->node);
        ask->pending = NULL;
        ask->answered(ask, false, false);
    }
    return any;
}

/* Redis does not keep the deadline: that may be the end of the connection, and then of the command. It is blamed each time, though one
 * command is late: of one name there is never another. */
static void blame(struct sp_slots_talk *talk) {
    if (talk->is_under_way) {
        talk->is_late = true;
        sp_redis_route_timed_out(&talk->command);
    }
}

/* What becomes of a sibling's command is in the table. */
static void watch_sibling(struct sp_slots_talk *talk) {
    struct sp_slots_seen seen;
    bool found = sp_slots_find(talk->slots->segment, talk->name, &seen);
    serve(talk, found && sp_slots_refused(sp_slots_note(&seen), talk->name, sp_clock_us()));
}

static void poll(struct sp_slots_talk *talk) {
    talk->busy++;
    if (answer_due(talk))
        blame(talk);
    if (!talk->is_under_way)
        watch_sibling(talk);
    go_on(talk);
}

void sp_slots_poll(struct sp_timer *timer) {
    struct sp_slots *slots = SP_CONTAINER(timer, struct sp_slots, poll);
    struct sp_list now;
    sp_list_init(&now);
    while (!sp_list_empty(&slots->waited_for)) {
        struct sp_list *node = slots->waited_for.next;
        sp_list_remove(node);
        sp_list_append(&now, node);
    }
    while (!sp_list_empty(&now)) { /* each may take others with it */
        struct sp_list *node = now.next;
        sp_list_remove(node);
        sp_list_append(&slots->waited_for, node);
        poll(sp_list_entry(node, struct sp_slots_talk, crowd));
    }
    if (!sp_list_empty(&slots->waited_for))
        sp_timer_start(slots->loop, timer, 1);
}

void sp_slots_patience(struct sp_slots *slots) {
    if (sp_list_empty(&slots->under_way))
        return;
    struct sp_slots_talk *oldest = sp_list_entry(slots->under_way.next, struct sp_slots_talk, going);
    if (sp_clock_us() - oldest->sent_us > PATIENCE_US)
        blame(oldest); /* may be gone, and others with it */
}
