/* Connections in all and per address, and requests in flight per server, over all workers, without a lock.
 *
 * Each worker writes only its own part; what all have is the sum. To enter, a worker first counts the newcomer, then adds up, and takes
 * it back when that is too many: with a full fence between, two workers that let somebody in at the same instant cannot both miss the
 * other. So a cap is never exceeded; at the last free place both may refuse. */
#include "traffic.h"

#include <errno.h>

struct sp_traffic {
    struct sp_traffic_segment *segment;
    struct sp_traffic_part *own;
    struct sp_hash_key key;
};

/* One writer: no read-modify-write is needed. */
static void add(_Atomic uint32_t *count, int delta) {
    uint32_t old = atomic_load_explicit(count, memory_order_relaxed);
    if (delta < 0 && old == 0)
        return; /* a count below nothing would be four thousand million */
    atomic_store_explicit(count, old + (uint32_t)delta, memory_order_relaxed);
}

static unsigned slots_used(const struct sp_traffic *traffic) {
    uint32_t n = atomic_load_explicit(&traffic->segment->slots_used, memory_order_acquire); /* once: sp_min() would look twice */
    return sp_min(n, (uint32_t)SP_WORKERS_MAX);
}

static const struct sp_traffic_part *part_in_use(const struct sp_traffic *traffic, unsigned slot) {
    const struct sp_traffic_part *part = &traffic->segment->parts[slot];
    return atomic_load_explicit(&part->in_use, memory_order_acquire) == SP_TRAFFIC_IN_USE ? part : NULL;
}

int sp_traffic_open(void *segment, unsigned worker_slot, const struct sp_hash_key *key, struct sp_traffic **ret) {
    if (worker_slot >= SP_WORKERS_MAX)
        return -EINVAL;
    struct sp_traffic *traffic = calloc(1, sizeof *traffic);
    if (!traffic)
        return -ENOMEM;
    traffic->segment = segment;
    traffic->own = &traffic->segment->parts[worker_slot];
    traffic->key = *key;
    /* Pages never touched stay unallocated: only a part that had a worker before is cleared. */
    if (atomic_load(&traffic->own->in_use) != SP_TRAFFIC_NEVER_USED) {
        atomic_store(&traffic->own->in_use, SP_TRAFFIC_GONE);
        memset(traffic->own, 0, sizeof *traffic->own);
    }
    atomic_store_explicit(&traffic->own->in_use, SP_TRAFFIC_IN_USE, memory_order_release);
    uint32_t used = atomic_load(&traffic->segment->slots_used);
    while (used <= worker_slot && !atomic_compare_exchange_weak(&traffic->segment->slots_used, &used, worker_slot + 1))
        ;
    *ret = traffic;
    return 0;
}

void sp_traffic_free(struct sp_traffic *traffic) { free(traffic); }

/* ---- Addresses ---- */

static uint64_t address_hash(const struct sp_traffic *traffic, const uint8_t address[16]) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    bool v4 = memcmp(address, mapped, sizeof mapped) == 0;
    uint64_t hash = sp_hash(&traffic->key, address, v4 ? 16 : 8); /* a /64 is what one subscriber gets */
    return hash ? hash : 1;
}

/* Where `hash` is counted, or where it can be: NULL when neither is. */
static struct sp_traffic_address *find_own(struct sp_traffic_part *part, uint64_t hash, bool make) {
    struct sp_traffic_address *vacant = NULL;
    for (unsigned i = 0; i < SP_TRAFFIC_WINDOW; i++) {
        struct sp_traffic_address *address = &part->addresses[(hash + i) % SP_TRAFFIC_ADDRESSES];
        uint64_t here = atomic_load_explicit(&address->hash, memory_order_relaxed);
        if (here == hash)
            return address;
        if (!vacant && atomic_load_explicit(&address->count, memory_order_relaxed) == 0)
            vacant = address;
        if (here == 0)
            break;
    }
    if (!make || !vacant)
        return NULL;
    atomic_store_explicit(&vacant->hash, hash, memory_order_release);
    return vacant;
}

/* The writer may be giving the place to another address meanwhile: a count is believed if the hash is the same before and after. */
static uint32_t count_in(const struct sp_traffic_part *part, uint64_t hash) {
    for (unsigned i = 0; i < SP_TRAFFIC_WINDOW; i++) {
        const struct sp_traffic_address *address = &part->addresses[(hash + i) % SP_TRAFFIC_ADDRESSES];
        uint64_t here = atomic_load_explicit(&address->hash, memory_order_acquire);
        if (here == 0)
            return 0;
        if (here != hash)
            continue;
        uint32_t count = atomic_load_explicit(&address->count, memory_order_acquire);
        return atomic_load_explicit(&address->hash, memory_order_acquire) == hash ? count : 0;
    }
    return 0;
}

static uint64_t count_everywhere(const struct sp_traffic *traffic, uint64_t hash) {
    uint64_t sum = 0;
    for (unsigned slot = 0; slot < slots_used(traffic); slot++) {
        const struct sp_traffic_part *part = part_in_use(traffic, slot);
        if (part)
            sum += count_in(part, hash);
    }
    return sum;
}

/* ---- Connections ---- */

uint64_t sp_traffic_connections(const struct sp_traffic *traffic, unsigned listener_slot) {
    uint64_t sum = 0;
    for (unsigned slot = 0; slot < slots_used(traffic); slot++) {
        const struct sp_traffic_part *part = part_in_use(traffic, slot);
        if (part)
            sum += atomic_load_explicit(&part->connections[listener_slot], memory_order_relaxed);
    }
    return sum;
}

enum sp_traffic_verdict sp_traffic_enter(struct sp_traffic *traffic, unsigned listener_slot, const uint8_t address[16], uint64_t max,
                                         uint64_t max_per_address) {
    uint64_t hash = address_hash(traffic, address);
    struct sp_traffic_address *place = find_own(traffic->own, hash, true);
    if (!place)
        return SP_TRAFFIC_ADDRESS_FULL; /* never let in uncounted */
    add(&traffic->own->connections[listener_slot], 1);
    add(&place->count, 1);
    atomic_thread_fence(memory_order_seq_cst);
    enum sp_traffic_verdict verdict = SP_TRAFFIC_OK;
    if (sp_traffic_connections(traffic, listener_slot) > max)
        verdict = SP_TRAFFIC_FULL;
    else if (count_everywhere(traffic, hash) > max_per_address)
        verdict = SP_TRAFFIC_ADDRESS_FULL;
    if (verdict != SP_TRAFFIC_OK) {
        add(&traffic->own->connections[listener_slot], -1);
        add(&place->count, -1);
    }
    return verdict;
}

void sp_traffic_leave(struct sp_traffic *traffic, unsigned listener_slot, const uint8_t address[16]) {
    add(&traffic->own->connections[listener_slot], -1);
    struct sp_traffic_address *place = find_own(traffic->own, address_hash(traffic, address), false);
    if (place)
        add(&place->count, -1);
}

/* ---- Requests in flight ---- */

void sp_traffic_server_add(struct sp_traffic *traffic, unsigned server_slot, int delta) {
    add(&traffic->own->in_flight[server_slot], delta);
    if (delta > 0)
        atomic_thread_fence(memory_order_seq_cst); /* add, then look: as for connections */
}

uint64_t sp_traffic_server_in_flight(const struct sp_traffic *traffic, unsigned server_slot) {
    uint64_t sum = 0;
    for (unsigned slot = 0; slot < slots_used(traffic); slot++) {
        const struct sp_traffic_part *part = part_in_use(traffic, slot);
        if (part)
            sum += atomic_load_explicit(&part->in_flight[server_slot], memory_order_relaxed);
    }
    return sum;
}

/* ---- Requests that wait ---- */

uint64_t sp_traffic_waiting(const struct sp_traffic *traffic, unsigned pool_slot) {
    uint64_t sum = 0;
    for (unsigned slot = 0; slot < slots_used(traffic); slot++) {
        const struct sp_traffic_part *part = part_in_use(traffic, slot);
        if (part)
            sum += atomic_load_explicit(&part->waiting[pool_slot], memory_order_relaxed);
    }
    return sum;
}

bool sp_traffic_wait(struct sp_traffic *traffic, unsigned pool_slot, uint64_t max) {
    add(&traffic->own->waiting[pool_slot], 1);
    atomic_thread_fence(memory_order_seq_cst);
    if (sp_traffic_waiting(traffic, pool_slot) <= max)
        return true;
    add(&traffic->own->waiting[pool_slot], -1);
    return false;
}

void sp_traffic_waits_no_more(struct sp_traffic *traffic, unsigned pool_slot) { add(&traffic->own->waiting[pool_slot], -1); }

void sp_traffic_tell_next(struct sp_traffic *traffic, unsigned pool_slot, uint64_t rank) {
    atomic_store_explicit(&traffic->own->next[pool_slot], rank, memory_order_relaxed);
}

unsigned sp_traffic_workers(const struct sp_traffic *traffic) { return slots_used(traffic); }

uint64_t sp_traffic_next_of(const struct sp_traffic *traffic, unsigned worker_slot, unsigned pool_slot) {
    const struct sp_traffic_part *part = part_in_use(traffic, worker_slot);
    return part && part != traffic->own ? atomic_load_explicit(&part->next[pool_slot], memory_order_relaxed) : 0;
}

#define TURN_TIME_BITS 48 /* of microseconds: nine years */

void sp_traffic_turn(struct sp_traffic *traffic, uint64_t who, uint64_t now_us) {
    uint64_t turn = who >> TURN_TIME_BITS << TURN_TIME_BITS | (now_us & ((UINT64_C(1) << TURN_TIME_BITS) - 1));
    atomic_store_explicit(&traffic->segment->turns[who % SP_TRAFFIC_TURNS], turn, memory_order_relaxed);
}

uint64_t sp_traffic_last_turn(const struct sp_traffic *traffic, uint64_t who) {
    uint64_t turn = atomic_load_explicit(&traffic->segment->turns[who % SP_TRAFFIC_TURNS], memory_order_relaxed);
    return turn >> TURN_TIME_BITS == who >> TURN_TIME_BITS ? turn & ((UINT64_C(1) << TURN_TIME_BITS) - 1) : 0;
}

uint64_t sp_traffic_hash(const struct sp_traffic *traffic, struct sp_span span) { return sp_hash_span(&traffic->key, span); }
