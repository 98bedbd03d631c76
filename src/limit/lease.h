/* Leases: tokens that were taken from the bucket in Redis ahead of demand, and are given out here, by all workers of this machine, without
 * asking. In shared memory, lock-free: every change is one swap of a cell of 16 bytes (lease_table.h), so a killed process leaves nothing
 * to repair.
 *
 * What is exact: a token given out here was debited in Redis after the request for it was sent, and is given out less than SP_LEASE_MS
 * after that. The instant at which it is given out is a reading of CLOCK_MONOTONIC after the swap that took it: a process that stood still
 * before its swap, or between the two, finds the token dead and does not give it, so no stop, however long, makes a token live longer. A
 * caller that goes on to wait for something else looks at the clock again before it uses the token (ret->expiry_us). The script keeps the
 * bucket at or below burst − rate · SP_LEASE_MS when it grants. See LIMITS. What may be lost: tokens that nobody asked for in time, a lease
 * that finds no room in the table, one that was asked for before a reload and comes after it, a token that a process took just before it
 * was killed or stopped. Never gained.
 *
 * How much is asked for ahead, and when: as much as SP_LEASE_MS of the demand measured here need, when what is alive will not last for
 * LEAD_MS; one asker at a time. Where Redis has less than was wished for, several times in a row, the subject's demand is beyond what its
 * limit allows: then it is asked again only after a while (75 ms at last), and what comes meanwhile is refused here, so that overload costs
 * Redis no more than ordinary demand does. What is refused is told to come back when that while is over.
 *
 * Nothing here knows Redis or the loop. */
#ifndef SP_LIMIT_LEASE_H
#define SP_LIMIT_LEASE_H

#include "decision.h"

#define SP_LEASE_MS 100 /* T */

struct sp_lease_segment; /* zeroed memory is an empty table */
size_t sp_lease_segment_size(void);

struct sp_leases {
    struct sp_lease_segment *segment;
    uint64_t (*clock_us)(void); /* of all processes of this machine: sp_clock_us() */
};

/* Whose: limit slot, kind (requests or tokens), and the keyed hash of the subject. */
struct sp_lease_name {
    uint64_t key;
};
struct sp_lease_name sp_lease_name(unsigned limit_slot, enum sp_limit_kind kind, uint64_t subject_hash);

/* May this policy be leased at all? burst ≥ 2 · rate · T, and at least one token per T. */
bool sp_lease_possible(const struct sp_rate *rate, uint64_t burst);

/* What is leased under this name will be asked for in a moment: where it lives is fetched, so that several are fetched at once. */
void sp_lease_expect(const struct sp_leases *leases, struct sp_lease_name name);

enum sp_lease_verdict {
    SP_LEASE_GIVEN,   /* taken */
    SP_LEASE_NONE,    /* not enough here: ask Redis */
    SP_LEASE_REFUSED, /* Redis has refused this subject until an instant that is not over: ret->bucket.retry_us */
};
struct sp_lease_answer {
    enum sp_lease_verdict verdict;
    uint64_t wish;      /* > 0: it would be good to ask Redis now for that many tokens (whole), ahead of demand; this caller, and no other,
                           is to do so: the next wish comes when the answer was deposited, or after SP_LEASE_MS */
    uint64_t expiry_us; /* GIVEN: of the grant it came from, for giving back: the token may be used while the clock is before this */
    struct sp_bucket_answer bucket; /* GIVEN, REFUSED: what clients are shown, an estimate: what Redis told last and what is alive here */
    uint64_t burst;
};
/* `cost` whole tokens, out of one grant: of those that have enough, the one that expires first. Counts the demand. A wish is never more
 * than rate · T rounded up; no wish for a cost that is. A subject that asks less than four times in SP_LEASE_MS gets none either.
 * now_us is a reading of the clock from before, and no clock is read here. What is GIVEN is still to be given out: once all that is wanted
 * together is taken, the clock is read, and what has expired by then nobody gets. */
void sp_lease_take(struct sp_leases *leases, struct sp_lease_name name, const struct sp_rate *rate, uint64_t burst, uint64_t cost,
                   uint64_t now_us, struct sp_lease_answer *ret);
/* Back into the grant it came from, if that is still alive: never into a later one. */
void sp_lease_give_back(struct sp_leases *leases, struct sp_lease_name name, uint64_t cost, uint64_t expiry_us);
/* Redis granted `tokens` of `wish` to a request sent at `sent_us`, and has `remaining` left. Drops what is too late. */
void sp_lease_deposit(struct sp_leases *leases, struct sp_lease_name name, uint64_t tokens, uint64_t wish, uint64_t sent_us,
                      uint64_t remaining);
/* Redis has just refused a cost of `cost` for retry_us from now: smaller costs are still asked for. For how long it is refused here, which
 * is what the client is to be told: retry_us or more. */
uint64_t sp_lease_refuse(struct sp_leases *leases, struct sp_lease_name name, uint64_t cost, uint64_t retry_us);
/* Tokens alive now; for how long it is still refused, 0: not. */
void sp_lease_peek(const struct sp_leases *leases, struct sp_lease_name name, uint64_t *ret_tokens, uint64_t *ret_refused_us);
/* A policy changed (reload): grants of this limit die at once. */
void sp_lease_forget(struct sp_leases *leases, unsigned limit_slot, enum sp_limit_kind kind);

#endif
