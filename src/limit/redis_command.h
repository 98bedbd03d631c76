/* Inside the store: one EVALSHA under way, whether it asks, settles, or both. */
#ifndef SP_LIMIT_REDIS_COMMAND_H
#define SP_LIMIT_REDIS_COMMAND_H

#include "redis_ledger.h"
#include "subject.h"

/* What is remembered of one bucket of a command until its reply: the ask may be gone by then. */
struct sp_redis_held {
    struct sp_owed *owed;         /* what is settled along with it; NULL: nothing */
    enum sp_limit_kind kind;
    bool may_lease;               /* the limit's requests are leased */
    uint8_t part;                 /* of the ask */
    uint64_t took, leased, taken_us; /* as the reply says */
};

#define SP_REDIS_FEW       4 /* buckets that most commands are about at most */
#define SP_REDIS_FEW_BYTES 1024

/* It outlives its ask: the reply that comes too late finds it here. */
struct sp_redis_pending {
    struct sp_redis_command command;
    struct sp_redis_store *store;
    struct sp_redis_ask *ask; /* NULL: nobody waits for it any more, or nobody ever did */
    struct sp_list ring;      /* all commands of the ask, without a head; of those that settle only, in store->paying */
    uint64_t sent_us, due_us;
    bool settles_only, peek, answered, admitted;
    size_t n, prefix_len;
    struct sp_redis_asked *asked; /* n of each; in `few` or in `many` */
    struct sp_redis_held *held;
    char *bytes;
    size_t len;
    void *many; /* NULL: few will do */
    struct sp_redis_asked few_asked[SP_REDIS_FEW];
    struct sp_redis_held few_held[SP_REDIS_FEW];
    char few_bytes[SP_REDIS_FEW_BYTES];
};

/* A command being put together. */
struct sp_redis_draft {
    size_t n;
    struct sp_redis_asked asked[SP_REDIS_PARTS_MAX];
    struct sp_redis_held held[SP_REDIS_PARTS_MAX];
    char key[SP_REDIS_PARTS_MAX][SP_REDIS_KEY_MAX];
};

/* The policy of a limit's bucket, and in writing. */
struct sp_redis_prepared {
    struct sp_redis_policy policy;
    size_t len;
    char text[SP_REDIS_POLICY_MAX];
};

struct sp_redis_store {
    struct sp_loop *loop;
    struct sp_redis_route *route;
    const struct sp_config *config;
    struct sp_pool pool;
    struct sp_list waiting;  /* asks by their node, the one that is due first first */
    struct sp_timer due;     /* of the first, or earlier: */
    uint64_t watched_us;     /* of an ask that was due then */
    struct sp_list late;     /* commands of an ask that was just told so */
    struct sp_ledger ledger;
    struct sp_timer tick;    /* while anything is owed */
    struct sp_list paying;   /* commands that settle only, oldest first */
    unsigned n_paying;
    uint32_t source;         /* our name on settlements */
    uint64_t commands;
    struct sp_redis_prepared prepared[SP_LIMITS_MAX][SP_LIMIT_BUCKETS]; /* of the configuration's limits, in their order */
    struct sp_redis_draft draft;
};

/* ---- redis_command.c ---- */

void sp_redis_policies_prepare(struct sp_redis_store *store); /* of a new configuration */
/* NULL: the limit is not of the configuration. */
const struct sp_redis_prepared *sp_redis_prepared_of(const struct sp_redis_store *store, const struct sp_limit_config *limit,
                                                     enum sp_limit_kind kind);
struct sp_redis_policy sp_redis_policy_of(const struct sp_redis_store *store, const struct sp_limit_config *limit, enum sp_limit_kind kind);
/* The key's hash slot; where there are no slots they are all one. */
unsigned sp_redis_slot_of(const struct sp_redis_store *store, struct sp_span key);
/* Sends what asked[], held[] say; copies them. The caller says who waits. On failure nothing was sent, and what `held` owes is put off. */
int sp_redis_command_send(struct sp_redis_store *store, unsigned slot, struct sp_redis_asked *asked, struct sp_redis_held *held, size_t n,
                          bool peek, uint64_t now_us, struct sp_redis_pending **ret) SP_MUST_USE;
/* Answered or not, it is not under way any more. */
void sp_redis_command_free(struct sp_redis_pending *pending);
/* What it took for an ask that nothing comes of goes back to where it came from. */
void sp_redis_command_give_back(struct sp_redis_pending *pending);

/* ---- redis_asks.c ---- */

/* The command of an ask has its answer (decoded into `told`), or will have none. */
void sp_redis_ask_answered(struct sp_redis_pending *pending, const struct sp_redis_told *told);
void sp_redis_ask_failed(struct sp_redis_pending *pending);
void sp_redis_asks_due(struct sp_timer *timer);

/* ---- redis_settle.c ---- */

void sp_redis_settle_tick(struct sp_timer *timer);
void sp_redis_settle_wake(struct sp_redis_store *store); /* something is owed */
void sp_redis_settle_send(struct sp_redis_store *store); /* what is due, as far as there is room under way */

#endif
