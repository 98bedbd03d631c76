/* Giving out leased tokens, and knowing when to lease more. Everything but the tokens themselves is an estimate, which may be lost or
 * counted by halves where processes meet. */
#include "lease.h"

#include "lease_table.h"

__extension__ typedef unsigned __int128 wide;

#define T_US      (SP_LEASE_MS * UINT64_C(1000))
#define T         (T_US / LEASE_US_PER_UNIT)
#define LEAD      (T / 5)  /* what is alive lasts for less than this: more is asked for */
#define BUSY      4        /* takes in T that make a lease worth its while */
#define VIEW_LIFE (16 * T) /* so long it is shown what Redis told last */
#define TRIES     3        /* at counting, where others count at the same moment */

/* Demand of one window of length T: tokens in the lower bits, takes, as far as they matter, above. */
#define DEMAND_TOKEN_BITS 25
#define DEMAND_TOKENS_MAX ((UINT64_C(1) << DEMAND_TOKEN_BITS) - 1)
#define DEMAND_TAKES_MAX  (LEASE_AMOUNT_MAX >> DEMAND_TOKEN_BITS)

/* Times in a row that Redis had less than was wished for, and how long nobody asks ahead then. From PATIENT times on nobody asks at all:
 * the bucket is left to gather a good part of what it earns in T. */
#define SHORTS_MAX 5
#define PATIENT    3
static const uint64_t rest_us[SHORTS_MAX + 1] = {0, 6000, 12000, 25000, 50000, 75000};

struct demand {
    uint64_t takes, tokens; /* in T */
};

bool sp_lease_possible(const struct sp_rate *rate, uint64_t burst) {
    wide earned = (wide)rate->amount * T_US; /* in T, times the period */
    return rate->amount > 0 && rate->period_us > 0 && earned >= rate->period_us && (wide)burst * rate->period_us >= 2 * earned;
}

static uint64_t earned_in_lease(const struct sp_rate *rate) {
    wide earned = (wide)rate->amount * T_US;
    return (uint64_t)sp_min(sp_divide_up(earned, rate->period_us), (wide)LEASE_AMOUNT_MAX);
}

/* ---- Demand ---- */

static uint64_t add_demand(uint64_t amount, uint64_t cost) {
    uint64_t takes = sp_min((amount >> DEMAND_TOKEN_BITS) + 1, DEMAND_TAKES_MAX);
    uint64_t tokens = sp_min((amount & DEMAND_TOKENS_MAX) + sp_min(cost, DEMAND_TOKENS_MAX), DEMAND_TOKENS_MAX);
    return takes << DEMAND_TOKEN_BITS | tokens;
}

/* A window's cell stays for another T after the window's end: one that begins meanwhile follows it without a gap. */
static bool count_once(struct lease_window *window, uint64_t cost) {
    struct lease_seen *seen = &window->one[LEASE_DEMAND];
    uint64_t until = seen->cell ? lease_until(seen->was) : 0, amount = lease_amount(seen->was);
    if (seen->cell && window->now + T < until)
        return lease_put(window, LEASE_DEMAND, until, add_demand(amount, cost));
    bool follows = seen->cell && window->now < until;
    uint64_t begins = follows ? until - T : window->now;
    if (!lease_put(window, LEASE_DEMAND, begins + 2 * T, add_demand(0, cost)))
        return false;
    if (follows)
        (void)lease_put(window, LEASE_BEFORE, begins + T, amount);
    return true;
}

static struct demand count_demand(struct lease_window *window, uint64_t cost) {
    struct lease_seen *seen = &window->one[LEASE_DEMAND];
    for (int i = 0; i < TRIES && !count_once(window, cost); i++) {
        if (!seen->cell)
            return (struct demand){0};
        seen->was = (struct sp_cell){.key = sp_cell_key(seen->cell), .word = sp_cell_word(seen->cell)};
        if ((seen->was.key & LEASE_NAME_MASK) != window->name || (seen->was.key >> LEASE_SORT_SHIFT & 7) != LEASE_DEMAND)
            return (struct demand){0};
    }
    uint64_t now = lease_amount(seen->was), before = 0;
    if (lease_alive(&window->one[LEASE_BEFORE], window->now))
        before = lease_amount(window->one[LEASE_BEFORE].was);
    return (struct demand){.takes = sp_max(now >> DEMAND_TOKEN_BITS, before >> DEMAND_TOKEN_BITS),
                           .tokens = sp_max(now & DEMAND_TOKENS_MAX, before & DEMAND_TOKENS_MAX)};
}

/* ---- Asking ahead ---- */

/* For how long the grants satisfy the demand, used one after the other in the order in which they die. */
static uint64_t lasting(const struct lease_window *window, uint64_t tokens_in_t) {
    uint64_t at = 0;
    for (unsigned i = 0; i < window->n_grants; i++) {
        uint64_t life = lease_until(window->grant[i].was) - window->now;
        if (life > at)
            at = sp_min(life, at + lease_amount(window->grant[i].was) * T / tokens_in_t);
    }
    return at;
}

/* The cell of asks holds for T after the rest it speaks of, so that what is short again after that is known to be so in a row. */
static bool claim_ask(struct lease_window *window) {
    const struct lease_seen *ask = &window->one[LEASE_ASK];
    bool alive = lease_alive(ask, window->now);
    if (alive && window->now + T < lease_until(ask->was))
        return false;
    return lease_put(window, LEASE_ASK, window->now + 2 * T, alive ? lease_amount(ask->was) : 0);
}

/* Where one cost is more than T earns, nobody can be busy for longer than the burst lasts, and each lease that dies would cost a good part
 * of that: Redis is asked. */
static uint64_t wish_for(struct lease_window *window, const struct sp_rate *rate, uint64_t cost) {
    struct demand demand = count_demand(window, cost);
    uint64_t most = earned_in_lease(rate);
    if (demand.takes < BUSY || demand.tokens == 0 || cost > most)
        return 0;
    uint64_t at = lasting(window, demand.tokens);
    if (at >= LEAD || !claim_ask(window))
        return 0;
    uint64_t needed = (demand.tokens * (T - at) + T - 1) / T;
    return sp_min(needed, most);
}

/* Redis had less than was wished for, again, or not. How long nobody is to ask ahead; *ret_shorts: how often in a row that was so. */
static uint64_t rest_after(struct lease_window *window, bool fell_short, uint64_t *ret_shorts) {
    const struct lease_seen *ask = &window->one[LEASE_ASK];
    uint64_t shorts = lease_alive(ask, window->now) ? lease_amount(ask->was) : 0;
    *ret_shorts = fell_short ? sp_min(shorts + 1, (uint64_t)SHORTS_MAX) : 0;
    (void)lease_put(window, LEASE_ASK, window->now + lease_units(rest_us[*ret_shorts]) + T, *ret_shorts);
    return rest_us[*ret_shorts];
}

/* ---- What clients are shown ---- */

static uint64_t alive_tokens(const struct lease_window *window) {
    uint64_t tokens = 0;
    for (unsigned i = 0; i < window->n_grants; i++)
        tokens += lease_amount(window->grant[i].was);
    return tokens;
}

static void describe(const struct lease_window *window, const struct sp_rate *rate, uint64_t burst, struct sp_lease_answer *ret) {
    const struct lease_seen *view = &window->one[LEASE_VIEW];
    uint64_t remaining = alive_tokens(window);
    if (lease_alive(view, window->now)) {
        uint64_t since_us = (window->now + VIEW_LIFE - lease_until(view->was)) * LEASE_US_PER_UNIT;
        remaining += lease_amount(view->was) + (uint64_t)((wide)since_us * rate->amount / rate->period_us);
    }
    remaining = sp_min(remaining, burst);
    ret->burst = burst;
    ret->bucket.remaining = remaining;
    ret->bucket.reset_us = (uint64_t)sp_min((wide)(burst - remaining) * rate->period_us / rate->amount, (wide)UINT64_MAX);
}

/* ---- Takes ---- */

/* true: taken, and ret->expiry_us says from which. */
static bool take_alive(struct sp_leases *leases, struct sp_lease_name name, uint64_t cost, uint64_t now_us, struct lease_window *window,
                       struct sp_lease_answer *ret) {
    for (;;) {
        unsigned i = 0;
        lease_look(leases, name, now_us, window);
        while (i < window->n_grants && lease_amount(window->grant[i].was) < cost)
            i++;
        if (i == window->n_grants)
            return false;
        if (lease_change_grant(&window->grant[i], lease_amount(window->grant[i].was) - cost)) {
            ret->expiry_us = lease_until(window->grant[i].was) * LEASE_US_PER_UNIT;
            return true;
        }
    }
}

void sp_lease_take(struct sp_leases *leases, struct sp_lease_name name, const struct sp_rate *rate, uint64_t burst, uint64_t cost,
                   uint64_t now_us, struct sp_lease_answer *ret) {
    struct lease_window window SP_UNINITIALIZED;
    *ret = (struct sp_lease_answer){.verdict = SP_LEASE_NONE};
    if (take_alive(leases, name, cost, now_us, &window, ret)) {
        ret->verdict = SP_LEASE_GIVEN;
        ret->bucket.admitted = true;
        describe(&window, rate, burst, ret);
    } else if (lease_alive(&window.one[LEASE_REFUSAL], window.now) && cost >= lease_amount(window.one[LEASE_REFUSAL].was)) {
        /* The instant was rounded down, so that who waited as long as told before finds it over; what is told is rounded up. */
        uint64_t until = lease_until(window.one[LEASE_REFUSAL].was);
        ret->verdict = SP_LEASE_REFUSED;
        describe(&window, rate, burst, ret);
        ret->bucket.retry_us = (until + 1 - window.now) * LEASE_US_PER_UNIT;
        ret->bucket.reset_us = sp_max(ret->bucket.reset_us, ret->bucket.retry_us);
        (void)count_demand(&window, cost);
        return;
    }
    ret->wish = wish_for(&window, rate, cost);
}

void sp_lease_give_back(struct sp_leases *leases, struct sp_lease_name name, uint64_t cost, uint64_t expiry_us) {
    for (;;) {
        struct lease_window window;
        unsigned i = 0;
        lease_look(leases, name, leases->clock_us(), &window);
        while (i < window.n_grants && lease_until(window.grant[i].was) * LEASE_US_PER_UNIT != expiry_us)
            i++;
        if (i == window.n_grants || cost > LEASE_AMOUNT_MAX - lease_amount(window.grant[i].was))
            return;
        if (lease_change_grant(&window.grant[i], lease_amount(window.grant[i].was) + cost))
            return;
    }
}

/* ---- What Redis said ---- */

void sp_lease_deposit(struct sp_leases *leases, struct sp_lease_name name, uint64_t tokens, uint64_t wish, uint64_t sent_us,
                      uint64_t remaining) {
    struct lease_window window;
    uint64_t until = lease_units(sent_us + T_US), shorts;
    lease_look(leases, name, leases->clock_us(), &window);
    if (tokens > 0 && until > window.now)
        (void)lease_add_grant(&window, until, tokens);
    uint64_t rest = rest_after(&window, tokens < wish, &shorts);
    if (shorts >= PATIENT)
        (void)lease_put(&window, LEASE_REFUSAL, window.now + lease_units(rest), 1);
    (void)lease_put(&window, LEASE_VIEW, window.now + VIEW_LIFE, remaining);
}

uint64_t sp_lease_refuse(struct sp_leases *leases, struct sp_lease_name name, uint64_t cost, uint64_t retry_us) {
    struct lease_window window;
    uint64_t now_us = leases->clock_us(), shorts = 0, rest = 0;
    lease_look(leases, name, now_us, &window);
    if (lease_alive(&window.one[LEASE_ASK], window.now)) /* it was busy a moment ago */
        rest = rest_after(&window, true, &shorts);
    if (shorts >= PATIENT)
        retry_us = sp_max(retry_us, rest);
    uint64_t until_us = now_us + sp_min(retry_us, UINT64_MAX - now_us);
    (void)lease_put(&window, LEASE_REFUSAL, sp_min(lease_units(until_us), (UINT64_C(1) << 44) - 1), cost);
    return retry_us;
}

void sp_lease_peek(const struct sp_leases *leases, struct sp_lease_name name, uint64_t *ret_tokens, uint64_t *ret_refused_us) {
    struct lease_window window;
    uint64_t now_us = leases->clock_us();
    lease_look(leases, name, now_us, &window);
    const struct lease_seen *refusal = &window.one[LEASE_REFUSAL];
    *ret_tokens = alive_tokens(&window);
    *ret_refused_us = lease_alive(refusal, window.now) ? lease_until(refusal->was) * LEASE_US_PER_UNIT - now_us : 0;
}
