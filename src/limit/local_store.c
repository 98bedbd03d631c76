/* Buckets in shared memory: finding, making room, taking, giving back.
 *
 * How a key comes to have one cell and no more, though anybody may be inserting it at the same moment: a cell is first claimed, then the
 * window is read, then the claim is filled. Whoever reads another claim of the same key withdraws it; whoever reads a filled cell withdraws
 * its own. Of two who insert, at least the later reader sees the other, so never are both filled. A claim whose owner was killed is taken
 * over by the next who wants that key, or that cell. */
#include "local_store.h"

#include <errno.h>

#include "local_table.h"

#define DEBT_MAX (SPAN_MAX / 4) /* units */

void sp_local_open(void *segment, uint64_t (*clock_us)(void), struct sp_local_store *ret) {
    ret->segment = segment;
    ret->clock_us = clock_us;
    sp_random(&ret->claims, sizeof ret->claims);
}

size_t sp_local_segment_size(void) { return sizeof(struct sp_local_segment); }

struct sp_local_bucket sp_local_bucket_of_key(uint64_t key) {
    return (struct sp_local_bucket){.row = (unsigned)(key & ((1u << ROW_BITS) - 1)), .key = key};
}

struct sp_local_bucket sp_local_name(enum sp_local_space space, enum sp_limit_kind kind, unsigned slot, uint64_t subject_hash) {
    unsigned row = sp_local_row(space, kind, slot);
    uint64_t hash = (subject_hash ^ sp_local_spread(row)) & ~(uint64_t)((1u << ROW_BITS) - 1);
    if (hash == 0)
        hash = UINT64_C(1) << ROW_BITS;
    return (struct sp_local_bucket){.row = row, .key = hash | row};
}

uint64_t sp_local_overflowed(const struct sp_local_store *store) { return __atomic_load_n(&store->segment->overflowed, __ATOMIC_RELAXED); }

/* ---- The window ---- */

static struct sp_cell *window_cell(struct sp_local_segment *segment, uint64_t key, size_t i) {
    uint64_t first = (key >> ROW_BITS) & (TABLE_CELLS - 1) & ~UINT64_C(3); /* whole cache lines */
    return &segment->cells[(first + i) & (TABLE_CELLS - 1)];
}

void sp_local_expect(const struct sp_local_store *store, struct sp_local_bucket bucket) {
    for (size_t i = 0; i < WINDOW; i += LINE_CELLS)
        __builtin_prefetch(window_cell(store->segment, bucket.key, i), 1);
}

static struct sp_cell *find(struct sp_local_segment *segment, uint64_t key) {
    for (size_t i = 0; i < WINDOW; i++) {
        struct sp_cell *cell = window_cell(segment, key, i);
        if (sp_cell_key(cell) == key)
            return cell;
    }
    return NULL;
}

/* A cell that may be taken: empty, else one whose bucket is full, else a claim of another key, which is either about to be filled or was
 * left by a process that was killed. */
static struct sp_cell *find_room(struct sp_local_segment *segment, uint64_t key, uint64_t now, struct sp_cell *ret_seen) {
    struct sp_cell *claimed = NULL;
    for (size_t i = 0; i < WINDOW; i++) {
        struct sp_cell *cell = window_cell(segment, key, i);
        struct sp_cell seen = {.key = sp_cell_key(cell), .word = sp_cell_word(cell)};
        bool claim = seen.key != 0 && tag_of(seen.word) == 0;
        if (!claim && (seen.key == 0 || instant_of(seen.word) <= now)) {
            *ret_seen = seen;
            return cell;
        }
        if (claim && !claimed) {
            claimed = cell;
            *ret_seen = seen;
        }
    }
    return claimed;
}

static void mark_touched(struct sp_local_segment *segment, const struct sp_cell *cell) {
    size_t page = (size_t)(cell - segment->cells) / PAGE_CELLS;
    uint64_t bit = UINT64_C(1) << page % 64;
    if (!(__atomic_load_n(&segment->touched[page / 64], __ATOMIC_RELAXED) & bit))
        __atomic_fetch_or(&segment->touched[page / 64], bit, __ATOMIC_SEQ_CST);
}

static void raise_evicted_at(struct sp_local_segment *segment, uint64_t now) {
    uint64_t seen = __atomic_load_n(&segment->evicted_at, __ATOMIC_SEQ_CST);
    while (seen < now && !__atomic_compare_exchange_n(&segment->evicted_at, &seen, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
}

/* Reads the whole window after `mine` was claimed in `cell`. true: nobody else has the key, the claim may be filled. */
static bool alone(struct sp_local_segment *segment, struct sp_cell *cell, struct sp_cell mine) {
    for (size_t i = 0; i < WINDOW; i++) {
        struct sp_cell *other = window_cell(segment, mine.key, i);
        if (other == cell)
            continue;
        struct sp_cell seen = {.key = sp_cell_key(other), .word = sp_cell_word(other)};
        if (seen.key != mine.key)
            continue;
        if (tag_of(seen.word) == 0 && sp_cell_swap(other, seen, (struct sp_cell){0}))
            continue;
        (void)sp_cell_swap(cell, mine, (struct sp_cell){0});
        return false;
    }
    return true;
}

/* ---- An attempt: one cell, seen once, to be swapped once ---- */

/* The policy is read after the cell, and a cell's content only ever changes: so a swap from what was seen, to what this policy makes of it,
 * cannot succeed once the cell was swept for a later policy. */
static bool read_policy(struct sp_local_attempt *attempt) { return sp_local_current(attempt->row, &attempt->policy); }

static void use_overflow(struct sp_local_attempt *attempt) {
    attempt->cell = &attempt->row->overflow;
    attempt->overflow = true;
    attempt->seen = (struct sp_cell){.key = sp_cell_key(attempt->cell), .word = sp_cell_word(attempt->cell)};
}

/* The overflow bucket's level, in which everybody without a cell may have taken part. */
static uint64_t overflow_full_at(const struct sp_local_attempt *attempt) {
    uint64_t word = attempt->overflow ? attempt->seen.word : sp_cell_word(&attempt->row->overflow);
    return word == 0 ? 0 : sp_local_full_at(attempt->row, word, &attempt->policy, attempt->now);
}

/* A bucket that has no cell is full, unless others' clocks or the overflow bucket say that it cannot be yet. */
static uint64_t beginning(const struct sp_local_attempt *attempt) {
    uint64_t evicted = __atomic_load_n(&attempt->segment->evicted_at, __ATOMIC_SEQ_CST);
    return sp_max(sp_max(attempt->now, evicted), overflow_full_at(attempt));
}

/* Looks without making the bucket a cell. */
static bool look(struct sp_local_attempt *attempt) {
    struct sp_cell seen;
    attempt->cell = find(attempt->segment, attempt->bucket.key);
    if (attempt->cell) {
        attempt->seen = (struct sp_cell){.key = attempt->bucket.key, .word = sp_cell_word(attempt->cell)};
        if (sp_cell_key(attempt->cell) != attempt->bucket.key || tag_of(attempt->seen.word) == 0)
            attempt->cell = NULL; /* gone meanwhile, or not filled yet: as good as absent */
    }
    if (!attempt->cell && !find_room(attempt->segment, attempt->bucket.key, attempt->now, &seen))
        use_overflow(attempt);
    if (!read_policy(attempt))
        return false;
    attempt->full_at = !attempt->cell || attempt->overflow
                           ? beginning(attempt)
                           : sp_local_full_at(attempt->row, attempt->seen.word, &attempt->policy, attempt->now);
    return true;
}

static bool claim(struct sp_local_attempt *attempt, struct sp_local_store *store) {
    struct sp_cell seen;
    struct sp_cell *cell = find_room(attempt->segment, attempt->bucket.key, attempt->now, &seen);
    if (!cell) {
        use_overflow(attempt);
        return true;
    }
    mark_touched(attempt->segment, cell);
    if (seen.key != 0 && tag_of(seen.word) != 0)
        raise_evicted_at(attempt->segment, attempt->now);
    struct sp_cell mine = {.key = attempt->bucket.key, .word = instant_of(store->claims++)};
    if (!sp_cell_swap(cell, seen, mine))
        return false;
    attempt->cell = cell;
    attempt->seen = mine;
    return true;
}

enum found { FOUND, AGAIN, NO_POLICY };

/* The bucket's cell, made if it has none. AGAIN: others were at it; begin anew. */
static enum found seize(struct sp_local_attempt *attempt, struct sp_local_store *store) {
    attempt->cell = find(attempt->segment, attempt->bucket.key);
    if (attempt->cell) {
        attempt->seen = (struct sp_cell){.key = attempt->bucket.key, .word = sp_cell_word(attempt->cell)};
        if (sp_cell_key(attempt->cell) != attempt->bucket.key)
            return AGAIN; /* the word may be another's */
    } else if (!claim(attempt, store)) {
        return AGAIN;
    }
    bool is_claim = !attempt->overflow && tag_of(attempt->seen.word) == 0;
    if (is_claim && !alone(attempt->segment, attempt->cell, attempt->seen))
        return AGAIN;
    if (!read_policy(attempt))
        return NO_POLICY;
    attempt->full_at = is_claim || attempt->overflow ? beginning(attempt)
                                                     : sp_local_full_at(attempt->row, attempt->seen.word, &attempt->policy, attempt->now);
    return FOUND;
}

static bool finish(const struct sp_local_attempt *attempt, uint64_t full_at) {
    uint64_t key = attempt->overflow ? UINT64_C(1) << ROW_BITS | attempt->bucket.row : attempt->bucket.key;
    uint64_t word = word_of(attempt->policy.tag, full_at);
    if (attempt->seen.key == key && attempt->seen.word == word)
        return true;
    return sp_cell_swap(attempt->cell, attempt->seen, (struct sp_cell){.key = key, .word = word});
}

/* What was seen comes with look() or seize(). */
static void begin(const struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, struct sp_local_attempt *ret) {
    ret->segment = store->segment;
    ret->row = &store->segment->rows[bucket.row];
    ret->bucket = bucket;
    ret->now = units_of(now_us);
    ret->cell = NULL;
    ret->overflow = false;
}

/* ---- Answers ---- */

static bool admits(const struct sp_local_attempt *attempt, uint64_t cost) {
    const struct sp_local_policy *policy = &attempt->policy;
    if (cost > policy->burst)
        return false;
    uint64_t after = sp_max(attempt->full_at, attempt->now) + cost * policy->cost;
    return after <= attempt->now + policy->burst * policy->cost;
}

static uint64_t units_to_us(uint64_t units) { return units / UNITS_PER_US + (units % UNITS_PER_US != 0); }

static void describe(const struct sp_local_policy *policy, uint64_t now, uint64_t full_at, uint64_t cost, bool admitted,
                     struct sp_limit_answer *ret) {
    uint64_t missing = full_at > now ? full_at - now : 0;
    uint64_t capacity = policy->burst * policy->cost;
    *ret = (struct sp_limit_answer){.asked = true, .burst = policy->burst};
    ret->bucket.admitted = admitted;
    ret->bucket.never = cost > policy->burst;
    ret->bucket.remaining = missing < capacity ? (capacity - missing) / policy->cost : 0;
    ret->bucket.reset_us = units_to_us(missing);
    if (ret->bucket.never)
        ret->bucket.retry_us = UINT64_MAX;
    else if (!admitted)
        ret->bucket.retry_us = units_to_us(missing + cost * policy->cost - capacity);
}

/* ---- What the limiter asks for ---- */

int sp_local_peek(struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, uint64_t cost, struct sp_limit_answer *ret,
                  bool *ret_present) {
    struct sp_local_attempt attempt SP_UNINITIALIZED;
    begin(store, bucket, now_us, &attempt);
    if (!look(&attempt))
        return -ENOENT;
    bool present = attempt.cell && !attempt.overflow;
    if (present && tag_of(attempt.seen.word) != attempt.policy.tag)
        (void)finish(&attempt, attempt.full_at); /* it accrues at the new rate from now on, even if nobody takes */
    describe(&attempt.policy, attempt.now, attempt.full_at, cost, admits(&attempt, cost), ret);
    if (ret_present)
        *ret_present = present;
    return 0;
}

bool sp_local_fits(const struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, uint64_t cost,
                   struct sp_local_attempt *ret_seen) {
    begin(store, bucket, now_us, ret_seen);
    if (!look(ret_seen))
        return false;
    bool present = ret_seen->cell && !ret_seen->overflow;
    return !(present && tag_of(ret_seen->seen.word) != ret_seen->policy.tag) && admits(ret_seen, cost);
}

/* Charged to the overflow bucket because no cell was free: has somebody made the key a cell meanwhile, that does not know of this? */
static bool overflow_stands(struct sp_local_store *store, const struct sp_local_attempt *attempt, const struct sp_local_taken *taken) {
    if (find(attempt->segment, attempt->bucket.key)) {
        sp_local_give_back(store, taken);
        return false;
    }
    __atomic_fetch_add(&store->segment->overflowed, 1, __ATOMIC_RELAXED);
    return true;
}

static uint64_t full_after(const struct sp_local_attempt *attempt, uint64_t cost) {
    return sp_max(attempt->full_at, attempt->now) + cost * attempt->policy.cost;
}

static struct sp_local_taken taken_by(const struct sp_local_attempt *attempt, uint64_t cost) {
    return (struct sp_local_taken){.bucket = attempt->bucket,
                                   .cost = cost,
                                   .until = attempt->now + cost * attempt->policy.cost,
                                   .tag = attempt->policy.tag,
                                   .overflow = attempt->overflow};
}

int sp_local_take(struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, uint64_t cost, struct sp_limit_answer *ret,
                  struct sp_local_taken *ret_taken) {
    for (;;) {
        struct sp_local_attempt attempt SP_UNINITIALIZED;
        begin(store, bucket, now_us, &attempt);
        enum found found = seize(&attempt, store);
        if (found == NO_POLICY)
            return -ENOENT;
        if (found == AGAIN)
            continue;
        /* A refusal is written too where the bucket was not yet under the current policy: it accrues at the new rate from now on. */
        bool fits = admits(&attempt, cost);
        bool as_it_was = tag_of(attempt.seen.word) == attempt.policy.tag;
        uint64_t full_at = fits ? full_after(&attempt, cost) : attempt.full_at;
        struct sp_local_taken taken = taken_by(&attempt, cost);
        if ((fits || !as_it_was) && !finish(&attempt, full_at))
            continue;
        if (fits && attempt.overflow && !overflow_stands(store, &attempt, &taken))
            continue;
        describe(&attempt.policy, attempt.now, full_at, cost, fits, ret);
        if (fits)
            *ret_taken = taken;
        return 0;
    }
}

bool sp_local_take_seen(const struct sp_local_attempt *seen, uint64_t cost, struct sp_limit_answer *ret, struct sp_local_taken *ret_taken) {
    uint64_t full_at = full_after(seen, cost);
    if (!seen->cell || seen->overflow || !finish(seen, full_at))
        return false;
    describe(&seen->policy, seen->now, full_at, cost, true, ret);
    *ret_taken = taken_by(seen, cost);
    return true;
}

void sp_local_give_back(struct sp_local_store *store, const struct sp_local_taken *taken) {
    struct sp_local_row *row = &store->segment->rows[taken->bucket.row];
    for (;;) {
        struct sp_cell *cell = taken->overflow ? &row->overflow : find(store->segment, taken->bucket.key);
        if (!cell)
            return;
        struct sp_cell seen = {.key = sp_cell_key(cell), .word = sp_cell_word(cell)};
        struct sp_local_policy policy;
        if (!sp_local_current(row, &policy) || (!taken->overflow && seen.key != taken->bucket.key))
            return;
        /* Without this take the bucket may have been full ever since, and then what has accrued in the meantime would not have: that much
         * less is given, and nothing once the take has been made up for. */
        uint64_t now = units_of(store->clock_us());
        if (now >= taken->until || tag_of(seen.word) != taken->tag || policy.tag != taken->tag)
            return;
        uint64_t given = sp_min(taken->until - now, taken->cost * policy.cost);
        uint64_t full_at = instant_of(seen.word) - sp_min(given, instant_of(seen.word));
        if (sp_cell_swap(cell, seen, (struct sp_cell){.key = seen.key, .word = word_of(policy.tag, full_at)}))
            return;
    }
}

void sp_local_remember(struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, uint64_t full_in_us, bool may_rise) {
    for (;;) {
        struct sp_local_attempt attempt SP_UNINITIALIZED;
        begin(store, bucket, now_us, &attempt);
        if (full_in_us == 0 && !find(attempt.segment, bucket.key))
            return; /* full is absent */
        enum found found = seize(&attempt, store);
        if (found == NO_POLICY || attempt.overflow)
            return;
        uint64_t full_at = attempt.now + units_of(full_in_us);
        if (found == FOUND && finish(&attempt, may_rise ? full_at : sp_max(full_at, attempt.full_at)))
            return;
    }
}

/* When it is full after the settlement: a refund not before now, a debt not much later than an empty bucket. */
static uint64_t settled(const struct sp_local_attempt *attempt, int64_t delta) {
    const struct sp_local_policy *policy = &attempt->policy;
    uint64_t missing = attempt->full_at > attempt->now ? attempt->full_at - attempt->now : 0;
    uint64_t most = sp_min(policy->burst * policy->cost + DEBT_MAX, SPAN_MAX);
    uint64_t tokens = delta < 0 ? 0 - (uint64_t)delta : (uint64_t)delta, units;
    if (__builtin_mul_overflow(tokens, policy->cost, &units))
        units = UINT64_MAX;
    if (delta > 0)
        return attempt->now + missing - sp_min(units, missing);
    return attempt->now + sp_max(missing, sp_min(missing + sp_min(units, SPAN_MAX), most));
}

/* A bucket without a cell is full: nothing is given back to it. */
void sp_local_settle(struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, int64_t delta) {
    for (;;) {
        struct sp_local_attempt attempt SP_UNINITIALIZED;
        begin(store, bucket, now_us, &attempt);
        if (delta == 0 || (delta > 0 && !find(attempt.segment, bucket.key)))
            return;
        enum found found = seize(&attempt, store);
        if (found == NO_POLICY || (found == FOUND && attempt.overflow && delta > 0))
            return;
        if (found == AGAIN || !finish(&attempt, settled(&attempt, delta)))
            continue;
        /* Somebody may have made the key a cell meanwhile that does not know of a debt in the overflow bucket: it is charged there too. */
        if (!attempt.overflow || !find(attempt.segment, bucket.key))
            return;
    }
}

int sp_local_level(struct sp_local_store *store, struct sp_local_bucket bucket, uint64_t now_us, int64_t *ret) {
    struct sp_local_attempt attempt SP_UNINITIALIZED;
    begin(store, bucket, now_us, &attempt);
    if (!look(&attempt))
        return -ENOENT;
    const struct sp_local_policy *policy = &attempt.policy;
    uint64_t missing = attempt.full_at > attempt.now ? attempt.full_at - attempt.now : 0;
    *ret = (int64_t)policy->burst - (int64_t)sp_divide_up(missing, policy->cost);
    return 0;
}
