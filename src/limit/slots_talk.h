/* Inside the places: what one worker has to do with Redis about one name. One command about a name is under way per worker, and as a rule
 * per machine; who wants a place meanwhile waits for its reply. */
#ifndef SP_LIMIT_SLOTS_TALK_H
#define SP_LIMIT_SLOTS_TALK_H

#include "slots.h"
#include "slots_table.h"
#include "subject.h"

#define SLOTS_COMMAND_MAX (SP_REDIS_KEY_MAX + 352)
#define SLOTS_REFUSED_MS  75 /* so long nobody asks again where Redis had no more; a place that is given back here is taken all the same */

struct sp_slots {
    struct sp_loop *loop;
    struct sp_slots_segment *segment;
    struct sp_hash_key hash_key;
    struct sp_redis_route *route;
    const struct sp_config *config; /* NULL: not configured yet */
    uint64_t limit_hash[SP_LIMITS_MAX]; /* of the names of its limits, in their order */
    char gateway[16];               /* its name in Redis: hex */
    uint64_t claims;
    struct sp_map talks; /* by name */
    struct sp_pool pool;
    struct sp_list waited_for; /* talks that somebody waits for, by `crowd` */
    struct sp_list looking;    /* talks that look for places to give back, the next one first */
    struct sp_list under_way;  /* talks with a command on its way, the oldest first */
    struct sp_timer poll;      /* while anybody waits */
    struct sp_timer look;      /* of the first that looks */
    struct sp_timer beat;      /* while there is anything to tell Redis */
    uint64_t used_us;          /* when this worker had to do with Redis last */
};

/* What is to be said about a name, from the first who waits for it to the last reply. */
struct sp_slots_talk {
    struct sp_map_node node;
    struct sp_slots *slots;
    uint64_t name;
    struct sp_list waiting;               /* asks */
    struct sp_list crowd, looking, going; /* in the lists of `slots` */
    uint64_t look_us;
    uint64_t insist_us; /* Redis may have written down more than we have: it is told again, until then at the latest; 0: no */
    bool is_under_way, is_late;
    unsigned busy; /* somebody is at it, and ends it when done */
    struct sp_redis_command command;
    uint64_t sent_us, lock;
    uint32_t used, had, want, ticket; /* as sent */
    size_t key_len, len;
    char key[SLOTS_KEY_MAX]; /* without prefix */
    char bytes[SLOTS_COMMAND_MAX];
};

static inline bool sp_slots_with_redis(const struct sp_slots *slots) { return slots->config && slots->config->redis; }

/* slots.c: one of the places this machine has from Redis, if there is one. most: the bound as the asker knows it. */
bool sp_slots_take_had(struct sp_slots *slots, uint64_t name, uint64_t most);

/* ---- slots_talk.c ---- */

void sp_slots_talk_init(struct sp_slots *slots);
void sp_slots_talk_free_all(struct sp_slots *slots);
/* The talk about this name, begun if there is none. key NULL: where there is none it is in the note. NULL: no memory, or no key. */
struct sp_slots_talk *sp_slots_talk_about(struct sp_slots *slots, uint64_t name, const struct sp_span *key);
/* Over, if there is nothing left to say. */
void sp_slots_talk_end(struct sp_slots_talk *talk);
/* 0: a command is under way. gives: places that were not needed lately are given back with it. -EBUSY: a sibling's is under way; another
 * -errno: Redis is not to be asked now. */
int sp_slots_talk_say(struct sp_slots_talk *talk, bool gives) SP_MUST_USE;
void sp_slots_poll(struct sp_timer *timer);
void sp_slots_patience(struct sp_slots *slots); /* with commands whose reply is late, though nobody waits for it */

/* ---- slots_beat.c ---- */

/* A place was given back, or Redis has told: are there places to give back, or may less be used than Redis has written down? */
void sp_slots_consider(struct sp_slots *slots, struct sp_slots_seen *seen);
void sp_slots_look_at(struct sp_slots_talk *talk, uint64_t at_us);
void sp_slots_looks(struct sp_timer *timer);
void sp_slots_wake(struct sp_slots *slots); /* there is something to tell */
void sp_slots_beats(struct sp_timer *timer);

#endif
