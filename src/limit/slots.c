/* Taking and giving places. */
#include "slots.h"

#include <errno.h>

#include "slots_talk.h"

size_t sp_slots_segment_size(void) { return sizeof(struct sp_slots_segment); }

/* ---- Names ---- */

static uint64_t hash_of_limit(const struct sp_slots *slots, const struct sp_limit_config *limit) {
    return sp_hash_span(&slots->hash_key, sp_span_text(limit->name));
}

/* Two keyed hashes, of what can never be the same bytes: as hard to foresee together as each by itself. */
uint64_t sp_slots_name_of(const struct sp_slots *slots, const struct sp_limit_config *limit, uint64_t subject_hash) {
    uint64_t of_limit = sp_config_has_limit(slots->config, limit) ? slots->limit_hash[limit - slots->config->limits] : hash_of_limit(slots, limit);
    uint64_t name = subject_hash ^ of_limit;
    return name ? name : 1;
}

uint64_t sp_slots_name(const struct sp_slots *slots, const struct sp_limit_config *limit, const struct sp_limit_facts *facts) {
    return sp_slots_name_of(slots, limit, sp_subject_hash(&slots->hash_key, limit->by, facts));
}

/* A request that began under an older snapshot brings an older policy: it gives way to whatever is known. */
static struct sp_slots_policy policy_of(const struct sp_slots *slots, const struct sp_limit_config *limit) {
    return (struct sp_slots_policy){.bound = limit->concurrency,
                                    .revision = sp_config_has_limit(slots->config, limit) ? slots->config->loaded_wall_ms : 0,
                                    .strict = limit->mode == SP_LIMIT_STRICT};
}

/* -ENAMETOOLONG: such a key is not used. */
static int key_of(const struct sp_slots *slots, const struct sp_limit_config *limit, const struct sp_limit_facts *facts,
                  char out[SP_REDIS_KEY_MAX], struct sp_span *ret) {
    ssize_t len = sp_subject_redis_key("", limit, SP_LIMIT_CONCURRENCY, facts, out);
    if (len < 0)
        return (int)len;
    if (len > SLOTS_KEY_MAX || strlen(slots->config->redis->prefix) + (size_t)len > SP_REDIS_KEY_MAX)
        return -ENAMETOOLONG;
    *ret = sp_span(out, (size_t)len);
    return 0;
}

/* ---- Taking ---- */

static void count_spare(struct sp_slots_note *note, struct sp_slots_word word) {
    uint32_t spare = word.had - word.used;
    if (__atomic_load_n(&note->spare, __ATOMIC_RELAXED) > spare)
        __atomic_store_n(&note->spare, spare, __ATOMIC_RELAXED);
}

/* The clock is read after the place was taken: a process that stood still in between finds that it is not this machine's any more. */
bool sp_slots_take_had(struct sp_slots *slots, uint64_t name, uint64_t most) {
    struct sp_slots_seen seen;
    do {
        if (!sp_slots_find(slots->segment, name, &seen))
            return false;
        if (seen.word.used >= sp_min((uint64_t)seen.word.had, most) || sp_slots_load(&sp_slots_note(&seen)->until_us) <= sp_clock_us())
            return false;
    } while (!sp_slots_change(&seen, (struct sp_slots_word){seen.word.used + 1, seen.word.had, seen.word.ticket}));
    if (sp_slots_load(&sp_slots_note(&seen)->until_us) <= sp_clock_us()) {
        sp_slots_give(slots, name);
        return false;
    }
    count_spare(sp_slots_note(&seen), seen.word);
    return true;
}

/* What runs here without Redis' knowledge is told to it when it is back. */
static void note_key(struct sp_slots *slots, const struct sp_place_ask *ask, const struct sp_slots_seen *seen) {
    char bytes[SP_REDIS_KEY_MAX] SP_UNINITIALIZED;
    struct sp_span key;
    if (!sp_slots_with_redis(slots) || key_of(slots, ask->limit, ask->facts, bytes, &key) < 0)
        return;
    struct sp_slots_policy policy = policy_of(slots, ask->limit);
    sp_slots_write_key(sp_slots_note(seen), &slots->hash_key, ask->name, key);
    sp_slots_write_policy(sp_slots_note(seen), &policy);
    sp_slots_wake(slots);
}

static enum sp_place_verdict take_here(struct sp_slots *slots, const struct sp_place_ask *ask, uint64_t most) {
    struct sp_slots_seen seen;
    do {
        bool found = sp_slots_find(slots->segment, ask->name, &seen) ||
                     sp_slots_seize(slots->segment, ask->name, sp_clock_us(), &slots->claims, &seen);
        if (!found || seen.word.used >= most)
            return SP_PLACE_REFUSED;
    } while (!sp_slots_change(&seen, (struct sp_slots_word){seen.word.used + 1, seen.word.had, seen.word.ticket}));
    note_key(slots, ask, &seen);
    return SP_PLACE_TAKEN;
}

static bool is_refused(const struct sp_slots *slots, uint64_t name) {
    struct sp_slots_seen seen;
    return sp_slots_find(slots->segment, name, &seen) && sp_slots_refused(sp_slots_note(&seen), name, sp_clock_us());
}

static int wait_for(struct sp_slots *slots, struct sp_place_ask *ask, const struct sp_span *key) {
    struct sp_slots_talk *talk = sp_slots_talk_about(slots, ask->name, key);
    struct sp_slots_seen seen;
    if (!talk)
        return -ENOMEM;
    if (!sp_slots_seize(slots->segment, ask->name, sp_clock_us(), &slots->claims, &seen)) {
        sp_slots_talk_end(talk);
        return -ENOSPC;
    }
    struct sp_slots_policy policy = policy_of(slots, ask->limit);
    sp_slots_write_key(sp_slots_note(&seen), &slots->hash_key, ask->name, *key);
    sp_slots_write_policy(sp_slots_note(&seen), &policy);
    sp_list_append(&talk->waiting, &ask->node);
    ask->pending = talk;
    int r = sp_slots_talk_say(talk, false);
    if (r < 0 && r != -EBUSY) {
        sp_slots_cancel(slots, ask);
        return r;
    }
    if (sp_list_empty(&talk->crowd))
        sp_list_append(&slots->waited_for, &talk->crowd);
    if (!slots->poll.active)
        sp_timer_start(slots->loop, &slots->poll, 1);
    return 0;
}

static enum sp_place_verdict take_with_redis(struct sp_slots *slots, struct sp_place_ask *ask) {
    char bytes[SP_REDIS_KEY_MAX] SP_UNINITIALIZED;
    struct sp_span key;
    if (!sp_slots_with_redis(slots))
        return SP_PLACE_AWAY;
    if (sp_slots_take_had(slots, ask->name, ask->limit->concurrency))
        return SP_PLACE_TAKEN;
    if (is_refused(slots, ask->name))
        return SP_PLACE_REFUSED;
    if (ask->due_us <= sp_clock_us() || key_of(slots, ask->limit, ask->facts, bytes, &key) < 0)
        return SP_PLACE_AWAY;
    int r = wait_for(slots, ask, &key);
    if (r == -ENOSPC)
        return SP_PLACE_REFUSED;
    return r < 0 ? SP_PLACE_AWAY : SP_PLACE_PENDING;
}

enum sp_place_verdict sp_slots_take(struct sp_slots *slots, struct sp_place_ask *ask, bool without_redis, unsigned gateways) {
    if (!ask->name)
        ask->name = sp_slots_name(slots, ask->limit, ask->facts);
    ask->pending = NULL;
    sp_list_init(&ask->node);
    if (!without_redis)
        return take_with_redis(slots, ask);
    return take_here(slots, ask, sp_max(ask->limit->concurrency / sp_max(gateways, 1u), (uint64_t)1));
}

void sp_slots_cancel(struct sp_slots *slots, struct sp_place_ask *ask) {
    struct sp_slots_talk *talk = sp_take(ask->pending);
    (void)slots;
    sp_list_remove(&ask->node);
    if (talk)
        sp_slots_talk_end(talk);
}

/* ---- Giving ---- */

void sp_slots_give(struct sp_slots *slots, uint64_t name) {
    struct sp_slots_seen seen;
    do {
        if (!sp_slots_find(slots->segment, name, &seen) || seen.word.used == 0)
            return;
    } while (!sp_slots_change(&seen, (struct sp_slots_word){seen.word.used - 1, seen.word.had, seen.word.ticket}));
    if (!sp_slots_with_redis(slots))
        return;
    struct sp_slots_note *note = sp_slots_note(&seen);
    if (sp_slots_load(&note->refused))
        sp_slots_store(&note->refused, 0); /* there is one more than when Redis refused */
    sp_slots_wake(slots);
    sp_slots_consider(slots, &seen);
}

void sp_slots_peek(const struct sp_slots *slots, uint64_t name, uint64_t *ret_used, uint64_t *ret_had) {
    struct sp_slots_seen seen;
    bool found = sp_slots_find(slots->segment, name, &seen);
    *ret_used = found ? seen.word.used : 0;
    *ret_had = found && sp_slots_with_redis(slots) && sp_slots_load(&sp_slots_note(&seen)->until_us) > sp_clock_us() ? seen.word.had : 0;
}

uint64_t sp_slots_crowded(const struct sp_slots *slots) { return __atomic_load_n(&slots->segment->crowded, __ATOMIC_RELAXED); }

/* ---- Life ---- */

int sp_slots_new(struct sp_loop *loop, struct sp_slots_segment *segment, const struct sp_hash_key *hash_key, struct sp_redis_route *route,
                 struct sp_slots **ret) {
    struct sp_slots *slots = calloc(1, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    *slots = (struct sp_slots){.loop = loop, .segment = segment, .hash_key = *hash_key, .route = route};
    uint64_t gateway = sp_hash_span(hash_key, SP_SPAN("gateway"));
    (void)sp_hex(&gateway, sizeof gateway, slots->gateway);
    sp_random(&slots->claims, sizeof slots->claims);
    slots->poll.fire = sp_slots_poll;
    slots->look.fire = sp_slots_looks;
    slots->beat.fire = sp_slots_beats;
    sp_slots_talk_init(slots);
    *ret = slots;
    return 0;
}

void sp_slots_free(struct sp_slots *slots) {
    if (!slots)
        return;
    sp_timer_stop(&slots->poll);
    sp_timer_stop(&slots->look);
    sp_timer_stop(&slots->beat);
    sp_slots_talk_free_all(slots);
    free(slots);
}

void sp_slots_configure(struct sp_slots *slots, const struct sp_config *config) {
    slots->config = config;
    for (size_t i = 0; i < config->n_limits; i++)
        slots->limit_hash[i] = hash_of_limit(slots, &config->limits[i]);
    if (config->redis)
        sp_slots_wake(slots);
}
