#include "redis_store.h"

#include <errno.h>
#include <hiredis/hiredis.h>

#include "bucket.h"
#include "script.h"
#include "subject.h"

#define EXACT           (INT64_C(1) << 53)
#define TICK_US         1000 /* of a timer */
#define NUMBER_MAX      20   /* digits */
#define ARGS_PER_LIMIT  5    /* num den burst revision shadow */
#define REPLY_PER_LIMIT 7    /* verdict level remainder num den burst lag */
#define ARGV_MAX        (5 + SP_REQUEST_LIMITS_MAX * (1 + ARGS_PER_LIMIT))

_Static_assert(1 + SP_REQUEST_LIMITS_MAX * REPLY_PER_LIMIT <= SP_RESP_ITEMS_MAX, "the reply for the most limits fits");

/* A decision sent. It outlives its request: the reply that comes too late finds it here and is dropped. */
struct pending {
    struct sp_redis_command command;
    struct sp_redis_store *store;
    struct sp_limit_request *request; /* NULL: nobody waits any more */
    uint64_t due_us;
    char *bytes; /* the command, hiredis' */
    size_t len;
    bool resent;
};

/* A command being written: words, and the text of those that are made here. */
struct command {
    const char *word[ARGV_MAX];
    size_t len[ARGV_MAX];
    size_t n;
    char text[SP_REQUEST_LIMITS_MAX * (SP_REDIS_KEY_MAX + ARGS_PER_LIMIT * NUMBER_MAX) + 2 * NUMBER_MAX];
    size_t text_len;
};

struct sp_redis_store {
    struct sp_loop *loop;
    struct sp_redis *redis;
    const struct sp_config *config;
    sp_redis_answered *answered;
    void *owner;
    struct sp_pool pool;
    struct sp_list waiting; /* requests by their node, oldest first */
    struct sp_timer timer;  /* of the oldest's deadline */
    uint64_t commands;
    struct command command;
};

/* ---- Policies as the script wants them ---- */

struct sp_redis_ratio sp_redis_ratio_of(const struct sp_rate *rate) {
    uint64_t num = rate->amount > UINT64_MAX / SP_MICRO ? UINT64_MAX : rate->amount * SP_MICRO;
    uint64_t den = rate->period_us;
    uint64_t a = num, b = den;
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    num /= sp_max(a, 1u);
    den /= sp_max(a, 1u);
    uint64_t product;
    while (__builtin_mul_overflow(den, num + 1, &product) || product >= (uint64_t)EXACT || num == UINT64_MAX) {
        if (num == 1)
            break; /* den alone is beyond: the caller's period is longer than 285 years */
        num /= 2;
        den = den / 2 + den % 2;
    }
    return (struct sp_redis_ratio){.num = num, .den = sp_min(den, (uint64_t)EXACT / 2)};
}

/* A request that began under an older snapshot brings older policies: they give way to whatever is stored. */
static uint64_t revision_of(const struct sp_redis_store *store, const struct sp_limit_config *limit) {
    const struct sp_config *config = store->config;
    bool current = limit >= config->limits && limit < config->limits + config->n_limits;
    return current ? sp_min(config->loaded_wall_ms, (uint64_t)EXACT - 1) : 0;
}

/* ---- Asking ---- */

static bool counts(const struct sp_limit_config *limit) { return limit->requests.amount > 0; }

static void add_word(struct command *command, const char *word, size_t len) {
    command->word[command->n] = word;
    command->len[command->n++] = len;
}

static void add_number(struct command *command, uint64_t number) {
    char reversed[NUMBER_MAX];
    size_t n = sizeof reversed;
    do {
        reversed[--n] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    char *at = command->text + command->text_len;
    memcpy(at, reversed + n, sizeof reversed - n);
    command->text_len += sizeof reversed - n;
    add_word(command, at, sizeof reversed - n);
}

static int add_keys(struct sp_redis_store *store, const struct sp_limit_request *request) {
    struct command *command = &store->command;
    for (size_t i = 0; i < request->n_limits; i++) {
        if (!counts(request->limits[i]))
            continue;
        char *at = command->text + command->text_len;
        ssize_t len = sp_subject_redis_key(store->config->redis->prefix, request->limits[i], &request->facts, at);
        if (len < 0)
            return (int)len;
        command->text_len += (size_t)len;
        add_word(command, at, (size_t)len);
    }
    return 0;
}

static void add_policies(struct sp_redis_store *store, const struct sp_limit_request *request) {
    struct command *command = &store->command;
    for (size_t i = 0; i < request->n_limits; i++) {
        const struct sp_limit_config *limit = request->limits[i];
        if (!counts(limit))
            continue;
        struct sp_redis_ratio ratio = sp_redis_ratio_of(&limit->requests);
        add_number(command, ratio.num);
        add_number(command, ratio.den);
        add_number(command, sp_min(limit->request_burst, SP_REDIS_BURST_MAX));
        add_number(command, revision_of(store, limit));
        add_word(command, limit->shadow ? "1" : "0", 1);
    }
}

/* EVALSHA sha n key… cost (num den burst revision shadow)… [1] */
static int format(struct sp_redis_store *store, const struct sp_limit_request *request, char **ret, size_t *ret_len) {
    struct command *command = &store->command;
    size_t n = 0;
    for (size_t i = 0; i < request->n_limits; i++)
        n += counts(request->limits[i]);
    command->n = command->text_len = 0;
    add_word(command, "EVALSHA", 7);
    add_word(command, sp_token_bucket_sha1, strlen(sp_token_bucket_sha1));
    add_number(command, n);
    int r = add_keys(store, request);
    if (r < 0)
        return r;
    add_number(command, sp_min(request->cost, SP_REDIS_BURST_MAX + 1)); /* more never fits, and stays exact */
    add_policies(store, request);
    if (request->peek)
        add_word(command, "1", 1);
    int len = redisFormatCommandArgv(ret, (int)command->n, command->word, command->len);
    if (len < 0)
        return -ENOMEM;
    *ret_len = (size_t)len;
    return 0;
}

/* Timers are up to a tick late, decisions never: the timer is set a tick early and takes what is due within one. */
static void watch_deadline(struct sp_redis_store *store, uint64_t due_us) {
    uint64_t now = sp_clock_us(), ticks = due_us > now ? (due_us - now) / TICK_US : 0;
    sp_timer_start(store->loop, &store->timer, ticks > 0 ? ticks - 1 : 0);
}

static void replied(struct sp_redis_command *command, const struct sp_resp_reply *reply);

static void pending_free(struct pending *pending) {
    redisFreeCommand(pending->bytes);
    sp_pool_put(&pending->store->pool, pending);
}

int sp_redis_store_ask(struct sp_redis_store *store, struct sp_limit_request *request) {
    if (!sp_redis_usable(store->redis))
        return -ENOTCONN;
    struct pending *pending = sp_pool_get(&store->pool);
    if (!pending)
        return -ENOMEM;
    *pending = (struct pending){.command.replied = replied, .store = store, .request = request};
    sp_list_init(&pending->command.node);
    int r = format(store, request, &pending->bytes, &pending->len);
    if (r == 0)
        r = sp_redis_send(store->redis, &pending->command, pending->bytes, pending->len);
    if (r < 0) {
        pending_free(pending);
        return r;
    }
    store->commands++;
    pending->due_us = sp_clock_us() + store->config->redis->deadline_ms * 1000;
    request->pending = pending;
    if (sp_list_empty(&store->waiting))
        watch_deadline(store, pending->due_us);
    sp_list_append(&store->waiting, &request->node);
    return 0;
}

/* ---- Answers ---- */

static bool within(int64_t number, int64_t least, int64_t most) { return number >= least && number <= most; }

static int decode_bucket(const struct sp_resp_value *item, uint64_t cost, bool request_admitted, struct sp_limit_answer *ret) {
    for (size_t i = 0; i < REPLY_PER_LIMIT; i++)
        if (item[i].type != SP_RESP_INTEGER)
            return -EPROTO;
    int64_t verdict = item[0].integer, level = item[1].integer, remainder = item[2].integer, num = item[3].integer, den = item[4].integer,
            burst = item[5].integer, lag = item[6].integer;
    bool sane = within(verdict, 0, 2) && within(num, 1, EXACT) && within(den, 1, EXACT) && within(remainder, 0, den - 1) &&
                within(burst, 1, (int64_t)SP_REDIS_BURST_MAX) && within(level, -EXACT, burst * (int64_t)SP_MICRO) && within(lag, 0, EXACT);
    if (!sane)
        return -EPROTO;
    /* num / den micro-tokens per µs is num tokens per den seconds; the remainder's parts become as much smaller. */
    const struct sp_bucket_policy policy = {.rate = {.amount = (uint64_t)num, .period_us = (uint64_t)den * SP_MICRO},
                                            .burst = (uint64_t)burst};
    const struct sp_bucket bucket = {.level_micro = level, .time_us = (uint64_t)lag, .remainder = (uint64_t)remainder * SP_MICRO};
    *ret = (struct sp_limit_answer){.asked = true, .burst = (uint64_t)burst};
    ret->bucket = sp_bucket_describe(&policy, 0, cost, verdict == 0, &bucket);
    bool never = cost > (uint64_t)burst;
    /* Said to be taken, it must have been there; refused, it must not. */
    if ((verdict == 2) != never || (verdict == 0 && request_admitted && level < 0) || (verdict == 1 && level >= (int64_t)(cost * SP_MICRO)))
        return -EPROTO;
    return 0;
}

int sp_redis_decode(const struct sp_resp_reply *reply, uint64_t cost, size_t n, struct sp_limit_answer *ret) {
    if (reply->value.type != SP_RESP_ARRAY || reply->n != 1 + n * REPLY_PER_LIMIT || reply->item[0].type != SP_RESP_INTEGER ||
        !within(reply->item[0].integer, 0, 1))
        return -EPROTO;
    for (size_t i = 0; i < n; i++) {
        int r = decode_bucket(&reply->item[1 + i * REPLY_PER_LIMIT], cost, reply->item[0].integer == 1, &ret[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Answers come for the limits that were asked about; the request's others have no say. -EPROTO too where the script's own verdict on the
 * whole request is not what its parts amount to. */
static int decode_for(const struct sp_limit_request *request, const struct sp_resp_reply *reply,
                      struct sp_limit_answer answers[SP_REQUEST_LIMITS_MAX]) {
    struct sp_limit_answer dense[SP_REQUEST_LIMITS_MAX];
    size_t n = 0, at = 0;
    bool admitted = true;
    for (size_t i = 0; i < request->n_limits; i++)
        n += counts(request->limits[i]);
    int r = sp_redis_decode(reply, request->cost, n, dense);
    if (r < 0)
        return r;
    for (size_t i = 0; i < request->n_limits; i++) {
        answers[i] = counts(request->limits[i]) ? dense[at++] : (struct sp_limit_answer){0};
        admitted = admitted && !sp_answer_refuses(request->limits[i], &answers[i]);
    }
    return admitted == (reply->item[0].integer == 1) ? 0 : -EPROTO;
}

/* From here on nobody waits for this one. */
static struct sp_limit_request *detach(struct pending *pending) {
    struct sp_limit_request *request = sp_take(pending->request);
    if (request) {
        request->pending = NULL;
        sp_list_remove(&request->node);
    }
    return request;
}

/* The script is not there after a restart, a failover or SCRIPT FLUSH: load it and ask again, once, within the same deadline. */
static bool ask_again(struct pending *pending, const struct sp_resp_reply *reply) {
    struct sp_redis *redis = pending->store->redis;
    if (!pending->request || pending->resent || reply->value.type != SP_RESP_ERROR ||
        !sp_span_starts(reply->value.text, SP_SPAN("NOSCRIPT")) || sp_redis_load_script(redis) < 0)
        return false;
    pending->resent = true;
    if (sp_redis_send(redis, &pending->command, pending->bytes, pending->len) < 0)
        return false;
    pending->store->commands++;
    return true;
}

static void replied(struct sp_redis_command *command, const struct sp_resp_reply *reply) {
    struct pending *pending = SP_CONTAINER(command, struct pending, command);
    struct sp_redis_store *store = pending->store;
    if (reply && ask_again(pending, reply))
        return;
    struct sp_limit_request *request = detach(pending);
    pending_free(pending);
    if (!reply) {
        if (request)
            store->answered(store->owner, request, NULL);
        return;
    }
    struct sp_limit_answer answers[SP_REQUEST_LIMITS_MAX];
    bool error = reply->value.type == SP_RESP_ERROR;
    int r = error || !request ? 0 : decode_for(request, reply, answers);
    if (!error && r == 0) {
        if (request) { /* a late answer proves that Redis lives, not that it keeps the deadline */
            sp_redis_succeeded(store->redis);
            store->answered(store->owner, request, answers);
        }
        return;
    }
    /* The reply is gone once the failure has closed the connection, and the request may be gone once it was told: each is used first. */
    char said[96];
    size_t len = sp_min(reply->value.text.len, sizeof said);
    if (error)
        memcpy(said, reply->value.text.at, len);
    if (request)
        store->answered(store->owner, request, NULL);
    sp_redis_failed(store->redis, error ? "Redis refused a decision" : "Redis decided in an unknown form", sp_span(said, error ? len : 0));
}

static void deadline_passed(struct sp_timer *timer) {
    struct sp_redis_store *store = SP_CONTAINER(timer, struct sp_redis_store, timer);
    while (!sp_list_empty(&store->waiting)) {
        struct sp_limit_request *oldest = sp_list_entry(store->waiting.next, struct sp_limit_request, node);
        struct pending *pending = oldest->pending;
        if (pending->due_us > sp_clock_us() + TICK_US) {
            watch_deadline(store, pending->due_us);
            return;
        }
        (void)detach(pending);
        store->answered(store->owner, oldest, NULL);
        sp_redis_timed_out(store->redis);
    }
}

void sp_redis_store_cancel(struct sp_redis_store *store, struct sp_limit_request *request) {
    struct pending *pending = request->pending;
    if (pending)
        (void)detach(pending);
}

/* ---- Life ---- */

int sp_redis_store_new(struct sp_loop *loop, sp_redis_answered *answered, void *owner, struct sp_redis_store **ret) {
    struct sp_redis_store *store = calloc(1, sizeof *store);
    if (!store)
        return -ENOMEM;
    store->loop = loop;
    store->answered = answered;
    store->owner = owner;
    store->timer.fire = deadline_passed;
    sp_list_init(&store->waiting);
    sp_pool_init(&store->pool, sizeof(struct pending), 256);
    int r = sp_redis_new(loop, &store->redis);
    if (r < 0) {
        free(store);
        return r;
    }
    *ret = store;
    return 0;
}

void sp_redis_store_free(struct sp_redis_store *store) {
    if (!store)
        return;
    sp_list_each_safe(node, &store->waiting) {
        struct sp_limit_request *request = sp_list_entry(node, struct sp_limit_request, node);
        (void)detach(request->pending);
    }
    sp_timer_stop(&store->timer);
    sp_redis_free(store->redis);
    sp_pool_drain(&store->pool);
    free(store);
}

int sp_redis_store_configure(struct sp_redis_store *store, const struct sp_config *config, struct sp_tls_client *tls) {
    store->config = config;
    return sp_redis_configure(store->redis, config->redis, tls);
}

struct sp_redis *sp_redis_store_client(struct sp_redis_store *store) { return store->redis; }

void sp_redis_store_state(const struct sp_redis_store *store, struct sp_limiter_state *ret) {
    sp_redis_state(store->redis, ret);
    ret->commands = store->commands;
}
