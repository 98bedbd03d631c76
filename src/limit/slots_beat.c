/* Places that are not needed any more, and the heartbeat of those that are. */
#include <errno.h>

#include "slots_talk.h"

#define BEAT_MS   100
#define PARTS     16 /* of the table, one for each beat: it is gone through in 1.6 s, by whichever worker finds the beat due */
#define TELL_US   (SP_PLACES_TTL_MS * UINT64_C(1000) / 3)
#define LINGER_US (SP_PLACES_LINGER_MS * UINT64_C(1000))
#define AGAIN_US  2000                               /* a sibling's command is under way */
#define IDLE_US   (PARTS * BEAT_MS * UINT64_C(2000)) /* the table was gone through twice, and nothing was there */
#define PART_BITS 8

/* ---- Looking for what is not needed ---- */

static void wait_for_first(struct sp_slots *slots) {
    uint64_t at_us = sp_list_entry(slots->looking.next, struct sp_slots_talk, looking)->look_us, now_us = sp_clock_us();
    sp_timer_start(slots->loop, &slots->look, at_us > now_us ? sp_divide_up(at_us - now_us, 1000) : 0);
}

/* While anybody looks, the timer runs, for the first of them or earlier. */
void sp_slots_look_at(struct sp_slots_talk *talk, uint64_t at_us) {
    struct sp_slots *slots = talk->slots;
    sp_list_remove(&talk->looking);
    talk->look_us = at_us;
    struct sp_list *after = slots->looking.prev;
    while (after != &slots->looking && sp_list_entry(after, struct sp_slots_talk, looking)->look_us > at_us)
        after = after->prev;
    sp_list_insert_(&talk->looking, after, after->next);
    if (after == &slots->looking)
        wait_for_first(slots);
}

static uint32_t surplus(struct sp_slots_word word) { return word.had > word.used ? word.had - word.used : 0; }

/* Redis has more written down than is used or may be. */
static bool is_told_too_much(const struct sp_slots_note *note, struct sp_slots_word word) {
    return __atomic_load_n(&note->told, __ATOMIC_SEQ_CST) > sp_max(word.used, word.had);
}

/* What could be given back if it is not used until the look is over; where that is at once for another reason, nothing is known of it. */
static uint32_t spare_of(const struct sp_slots_note *note, struct sp_slots_word word, bool at_once) {
    return at_once && !sp_slots_read_policy(note).strict ? 0 : surplus(word);
}

/* One look at a time, of whichever worker: the one that was to be long ago is not coming. */
static bool begin_look(const struct sp_slots_seen *seen, uint64_t now_us, uint64_t at_us) {
    struct sp_slots_note *note = sp_slots_note(seen);
    uint64_t look_us = sp_slots_load(&note->look_us);
    if ((look_us != 0 && look_us + LINGER_US >= now_us) || !sp_slots_exchange(&note->look_us, look_us, at_us))
        return false;
    __atomic_store_n(&note->spare, spare_of(note, seen->word, at_us == now_us), __ATOMIC_RELAXED);
    return true;
}

/* Redis cannot be told now: what is not needed is not used any more either. */
static void let_go(struct sp_slots *slots, uint64_t name) {
    struct sp_slots_seen seen;
    struct sp_slots_word word;
    do {
        if (!sp_slots_find(slots->segment, name, &seen))
            return;
        word = seen.word;
        uint32_t unused = __atomic_load_n(&sp_slots_note(&seen)->spare, __ATOMIC_RELAXED); /* others write it: read once */
        word.had -= sp_min(surplus(word), unused);
    } while (word.had != seen.word.had && !sp_slots_change(&seen, word));
    __atomic_store_n(&sp_slots_note(&seen)->spare, surplus(word), __ATOMIC_RELAXED); /* for the next look */
}

static void look(struct sp_slots_talk *talk) {
    struct sp_slots *slots = talk->slots;
    struct sp_slots_seen seen;
    uint64_t now_us = sp_clock_us();
    sp_list_remove(&talk->looking);
    if (talk->insist_us <= now_us)
        talk->insist_us = 0;
    bool found = sp_slots_find(slots->segment, talk->name, &seen);
    if (found)
        sp_slots_store(&sp_slots_note(&seen)->look_us, 0);
    bool too_much = found && is_told_too_much(sp_slots_note(&seen), seen.word), anything = too_much || (found && surplus(seen.word) > 0);
    bool spare =
        found && (__atomic_load_n(&sp_slots_note(&seen)->spare, __ATOMIC_RELAXED) > 0 || sp_slots_read_policy(sp_slots_note(&seen)).strict);
    if (talk->insist_us || too_much || (anything && spare)) {
        int r = sp_slots_talk_say(talk, true);
        if (r == -EBUSY)
            sp_slots_look_at(talk, now_us + AGAIN_US);
        else if (r < 0) {
            let_go(slots, talk->name);
            if (anything)
                talk->insist_us = sp_max(talk->insist_us, sp_slots_load(&sp_slots_note(&seen)->until_us));
            if (talk->insist_us > now_us) /* later Redis has forgotten it by itself */
                sp_slots_look_at(talk, now_us + LINGER_US);
        }
    } else if (anything && begin_look(&seen, now_us, now_us + LINGER_US)) {
        sp_slots_look_at(talk, now_us + LINGER_US);
    }
    sp_slots_talk_end(talk);
}

void sp_slots_consider(struct sp_slots *slots, struct sp_slots_seen *seen) {
    struct sp_slots_note *note = sp_slots_note(seen);
    bool too_much = is_told_too_much(note, seen->word), at_once = too_much || sp_slots_read_policy(note).strict;
    if (surplus(seen->word) == 0 && !too_much)
        return;
    uint64_t now_us = sp_clock_us(), at_us = at_once ? now_us : now_us + LINGER_US;
    if (!begin_look(seen, now_us, at_us))
        return;
    struct sp_slots_talk *talk = sp_slots_talk_about(slots, seen->was.key, NULL);
    if (talk && at_once)
        look(talk);
    else if (talk)
        sp_slots_look_at(talk, at_us);
}

void sp_slots_looks(struct sp_timer *timer) {
    struct sp_slots *slots = SP_CONTAINER(timer, struct sp_slots, look);
    while (!sp_list_empty(&slots->looking)) {
        struct sp_slots_talk *talk = sp_list_entry(slots->looking.next, struct sp_slots_talk, looking);
        if (talk->look_us > sp_clock_us()) {
            wait_for_first(slots);
            return;
        }
        look(talk);
    }
}

/* What others look after is given back by them, or with the next beat. */
bool sp_slots_settled(struct sp_slots *slots) {
    struct sp_list now;
    sp_list_init(&now);
    while (!sp_list_empty(&slots->looking)) {
        struct sp_list *node = slots->looking.next;
        sp_list_remove(node);
        sp_list_append(&now, node);
    }
    while (!sp_list_empty(&now)) {
        struct sp_slots_talk *talk = sp_list_entry(now.next, struct sp_slots_talk, looking);
        struct sp_slots_seen seen;
        if (sp_slots_find(slots->segment, talk->name, &seen))
            __atomic_store_n(&sp_slots_note(&seen)->spare, surplus(seen.word), __ATOMIC_RELAXED);
        look(talk);
    }
    return sp_list_empty(&slots->under_way);
}

/* ---- The heartbeat ---- */

/* Told a third of the time to live ago, or before this connection was there: whoever it leads to may know nothing. */
static bool is_due(const struct sp_slots_note *note, uint64_t now_us, uint64_t connected_us) {
    uint64_t until_us = sp_slots_load(&note->until_us), ttl_us = SP_PLACES_TTL_MS * UINT64_C(1000);
    return until_us < now_us + ttl_us - TELL_US || until_us < connected_us + ttl_us;
}

static void beat_cell(struct sp_slots *slots, struct sp_slots_seen *seen, uint64_t now_us, uint64_t connected_us) {
    if (!is_due(sp_slots_note(seen), now_us, connected_us)) {
        sp_slots_consider(slots, seen); /* whoever was to look may be gone */
        return;
    }
    struct sp_slots_talk *talk = sp_slots_talk_about(slots, seen->was.key, NULL);
    if (!talk)
        return;
    (void)!sp_slots_talk_say(talk, false);
    sp_slots_talk_end(talk);
}

/* false: nothing is there. */
static bool beat_part(struct sp_slots *slots, size_t part, uint64_t now_us) {
    uint64_t connected_us = 0;
    bool any = false;
    if (slots->config->redis->cluster.count > 0 || !sp_redis_route_connected(slots->route, 0, &connected_us))
        connected_us = 0;
    for (size_t i = part * (SLOTS_CELLS / PARTS); i < (part + 1) * (SLOTS_CELLS / PARTS); i++) {
        struct sp_slots_seen seen;
        if (!sp_slots_at(slots->segment, i, &seen))
            continue;
        any = true;
        beat_cell(slots, &seen, now_us, connected_us);
    }
    return any;
}

void sp_slots_beats(struct sp_timer *timer) {
    struct sp_slots *slots = SP_CONTAINER(timer, struct sp_slots, beat);
    if (!sp_slots_with_redis(slots))
        return;
    sp_slots_patience(slots);
    struct sp_slots_segment *segment = slots->segment;
    uint64_t now_us = sp_clock_us(), now_ms = now_us / 1000, beat = sp_slots_load(&segment->beat), part = beat & ((1u << PART_BITS) - 1);
    uint64_t next = (now_ms + BEAT_MS) << PART_BITS | (part + 1) % PARTS;
    if ((beat >> PART_BITS) + BEAT_MS < now_ms) /* nobody looked: not the same as nothing there. Before siblings see the beat */
        sp_slots_store(&segment->busy_us, now_us);
    if (beat >> PART_BITS <= now_ms && sp_slots_exchange(&segment->beat, beat, next) && beat_part(slots, part % PARTS, now_us))
        sp_slots_store(&segment->busy_us, now_us);
    if (sp_max(slots->used_us, sp_slots_load(&segment->busy_us)) + IDLE_US > now_us || slots->talks.count > 0)
        sp_timer_start(slots->loop, timer, BEAT_MS);
}

void sp_slots_wake(struct sp_slots *slots) {
    slots->used_us = sp_loop_now_us(slots->loop);
    if (!slots->beat.active)
        sp_timer_start(slots->loop, &slots->beat, BEAT_MS);
}
