/* What is owed to buckets in Redis, or by them: summed up per bucket, numbered when it is sent, kept until it is answered. Pure but for
 * memory: no clock of its own, no Redis.
 *
 * Each bucket is in one of four states: collecting (it waits for the next tick), due (that tick has come), under way (in a command), or
 * absent. What a command carries keeps its number until it is known to have arrived; what is owed meanwhile waits for the next. */
#ifndef SP_LIMIT_REDIS_LEDGER_H
#define SP_LIMIT_REDIS_LEDGER_H

#include "redis_wire.h"

struct sp_owed {
    struct sp_map_node map_node;
    struct sp_list node; /* collecting or due; unlinked: under way */
    struct sp_redis_policy policy;
    int64_t unsent;            /* whole tokens */
    uint64_t unsent_at_us;     /* the earliest instant of what is given back and bound to one; 0: none is */
    struct sp_redis_payment sent; /* delta 0: none */
    uint64_t first_sent_us;
    bool under_way;
    size_t key_len;
    char key[]; /* without prefix */
};

struct sp_ledger {
    struct sp_hash_key hash_key;
    struct sp_map map;
    struct sp_list collecting, due;
    uint64_t sequence;
    uint64_t lost; /* settlements that were given up */
};

void sp_ledger_init(struct sp_ledger *ledger);
void sp_ledger_free(struct sp_ledger *ledger); /* what it holds, not the struct */
void sp_ledger_lose(struct sp_ledger *ledger); /* the same, counted as lost */
/* delta as sp_redis_store_settle(); at_us as sp_redis_payment. The newest policy that is known is kept. Where there is no room it is lost. */
void sp_ledger_owe(struct sp_ledger *ledger, struct sp_span key, const struct sp_redis_policy *policy, int64_t delta, uint64_t at_us);
/* NULL: nothing is owed, or it is under way. */
struct sp_owed *sp_ledger_find(const struct sp_ledger *ledger, struct sp_span key);
bool sp_ledger_is_empty(const struct sp_ledger *ledger);
static inline bool sp_ledger_waits(const struct sp_ledger *ledger) {
    return !sp_list_empty(&ledger->collecting) || !sp_list_empty(&ledger->due);
}

void sp_ledger_tick(struct sp_ledger *ledger); /* what is collecting is due */
/* From collecting or due to under way, and what the command is to say. false: there was nothing left to send, and `owed` is gone. */
bool sp_ledger_begin(struct sp_ledger *ledger, struct sp_owed *owed, uint64_t now_us, struct sp_redis_payment *ret);
void sp_ledger_paid(struct sp_ledger *ledger, struct sp_owed *owed);   /* it arrived; may be gone afterwards */
void sp_ledger_unsure(struct sp_ledger *ledger, struct sp_owed *owed); /* perhaps: to be repeated after the next tick */
void sp_ledger_put_off(struct sp_ledger *ledger, struct sp_owed *owed); /* it did not leave: collecting again */

#endif
