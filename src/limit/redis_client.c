#include "redis_client.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>

#include "breaker.h"
#include "script.h"

#define OUT_MAX     (4u << 20) /* bytes waiting to be written; beyond, Redis is as good as away */
#define READ_BYTES  (16 * 1024)
#define GREETING_MS 1000 /* for connecting and greeting together */
#define SENTINEL_MS 500  /* the same, of a sentinel: there are others */

enum state {
    STATE_OFF,      /* not configured, or not connectable as configured */
    STATE_WAITING,  /* for the time of the next try */
    STATE_OPENING,  /* connecting */
    STATE_GREETING, /* connected; the answer to PING is outstanding */
    STATE_READY,
};

/* Our own commands, in the order sent at connect. */
enum greeting { GREET_AUTH, GREET_SELECT, GREET_ROLE, GREET_PING, GREET_POLICY, GREET_SCRIPT, GREET_COUNT = GREET_SCRIPT };

struct own_command {
    struct sp_redis_command command;
    struct sp_redis *redis;
    enum greeting what;
    const struct sp_redis_script *script;
    bool sent;
};

struct sp_redis {
    struct sp_loop *loop;
    sp_redis_changed *changed;
    void *owner;
    const struct sp_redis_config *config;
    struct sp_redis_place place;
    uint64_t where, user; /* place and which database; who, with which password */
    struct sp_tls_client *tls;
    enum state state;
    struct sp_transport *transport;
    struct sp_resp *resp;
    struct sp_buffer out;
    struct sp_list commands; /* sent or queued, in order */
    struct own_command own[GREET_COUNT], load[SP_REDIS_SCRIPTS_MAX], reload[SP_REDIS_SCRIPTS_MAX];
    uint64_t opened_us;
    struct sp_timer timer; /* WAITING: the next try; OPENING, GREETING: the end of patience */
    struct sp_turn_end turn_end;
    struct sp_breaker breaker;
    bool asked_info; /* CONFIG was not permitted: asked INFO instead */
    bool is_master;  /* ROLE says so */
    bool demoted;
    bool told_password; /* to a sentinel that asked */
    uint64_t timeouts, errors, reconnects;
    char problem[SP_LIMITER_PROBLEM_MAX];
    char eviction[SP_LIMITER_PROBLEM_MAX]; /* a problem that stays while connected */
};

static void lose(struct sp_redis *redis);

/* ---- Problems ---- */

static void failed(struct sp_redis *redis) {
    sp_breaker_failed(&redis->breaker);
    if (redis->breaker.open)
        lose(redis);
}

void sp_redis_failed(struct sp_redis *redis, const char *what, struct sp_span detail) {
    redis->errors++;
    sp_redis_note(redis->problem, what, detail);
    failed(redis);
}

void sp_redis_timed_out(struct sp_redis *redis) {
    redis->timeouts++;
    sp_redis_note(redis->problem, "Redis did not answer within the deadline", sp_span(NULL, 0));
    failed(redis);
}

void sp_redis_succeeded(struct sp_redis *redis) {
    if (redis->state != STATE_READY) /* an answer from before the greeting was done proves nothing yet */
        return;
    sp_breaker_succeeded(&redis->breaker);
}

/* The connection itself is at fault. */
static void broken(struct sp_redis *redis, const char *what, struct sp_span detail) {
    redis->errors++;
    sp_redis_note(redis->problem, what, detail);
    sp_breaker_failed(&redis->breaker);
    lose(redis);
}

void sp_redis_drop(struct sp_redis *redis, const char *what, struct sp_span detail) { broken(redis, what, detail); }

void sp_redis_demoted(struct sp_redis *redis, struct sp_span detail) {
    redis->demoted = true;
    broken(redis, "Redis is no master", detail);
}

bool sp_redis_was_demoted(const struct sp_redis *redis) { return redis->demoted; }

/* ---- Sending ---- */

static int enqueue(struct sp_redis *redis, struct sp_redis_command *command, const char *bytes, size_t len) {
    int r = sp_buffer_append(&redis->out, bytes, len);
    if (r < 0)
        return r == -ENOSPC ? -ENOBUFS : r;
    sp_list_append(&redis->commands, &command->node);
    command->redis = redis;
    command->asking = command->asked = false;
    return 0;
}

bool sp_redis_usable(const struct sp_redis *redis) { return redis->state >= STATE_OPENING && !redis->breaker.open; }

bool sp_redis_connected(const struct sp_redis *redis) { return redis->state == STATE_READY && !redis->breaker.open; }

uint64_t sp_redis_opened_us(const struct sp_redis *redis) { return redis->opened_us; }

const struct sp_address *sp_redis_address(const struct sp_redis *redis) { return &redis->place.address; }

int sp_redis_send(struct sp_redis *redis, struct sp_redis_command *command, const char *bytes, size_t len) {
    return sp_redis_usable(redis) ? enqueue(redis, command, bytes, len) : -ENOTCONN;
}

int sp_redis_send_asking(struct sp_redis *redis, struct sp_redis_command *command, const char *bytes, size_t len) {
    static const char asking[] = "*1\r\n$6\r\nASKING\r\n";
    if (!sp_redis_usable(redis))
        return -ENOTCONN;
    int r = sp_buffer_reserve(&redis->out, sizeof asking - 1 + len); /* both or none */
    if (r < 0)
        return r == -ENOSPC ? -ENOBUFS : r;
    (void)!sp_buffer_append(&redis->out, asking, sizeof asking - 1);
    r = enqueue(redis, command, bytes, len);
    command->asking = true;
    return r;
}

static int send_own(struct sp_redis *redis, struct own_command *own, enum greeting what, const char *const *words, size_t n) {
    char *bytes = NULL;
    size_t lengths[4];
    for (size_t i = 0; i < n; i++)
        lengths[i] = strlen(words[i]);
    int len = redisFormatCommandArgv(&bytes, (int)n, (const char **)words, lengths);
    if (len < 0)
        return -ENOMEM;
    own->what = what;
    int r = enqueue(redis, &own->command, bytes, (size_t)len);
    own->sent = r == 0;
    sp_wipe(bytes, (size_t)len); /* AUTH carries the password */
    redisFreeCommand(bytes);
    return r;
}

static int load_scripts(struct sp_redis *redis, struct own_command own[SP_REDIS_SCRIPTS_MAX]) {
    int r = 0;
    for (size_t i = 0; i < sp_redis_n_scripts && r == 0; i++) {
        own[i].script = &sp_redis_scripts[i];
        if (!own[i].sent) /* else it is on its way */
            r = send_own(redis, &own[i], GREET_SCRIPT, (const char *const[]){"SCRIPT", "LOAD", own[i].script->text}, 3);
    }
    return r;
}

int sp_redis_load_scripts(struct sp_redis *redis) { return load_scripts(redis, redis->reload); }

static int authenticate(struct sp_redis *redis) {
    const struct sp_redis_config *config = redis->config;
    struct own_command *own = &redis->own[GREET_AUTH];
    if (config->username)
        return send_own(redis, own, GREET_AUTH, (const char *const[]){"AUTH", config->username, config->password}, 3);
    return send_own(redis, own, GREET_AUTH, (const char *const[]){"AUTH", config->password}, 2);
}

static int ping(struct sp_redis *redis) { return send_own(redis, &redis->own[GREET_PING], GREET_PING, (const char *const[]){"PING"}, 1); }

static int greet(struct sp_redis *redis) {
    const struct sp_redis_config *config = redis->config;
    struct own_command *own = redis->own;
    char database[16];
    (void)snprintf(database, sizeof database, "%u", config->database);
    if (redis->place.kind == SP_REDIS_SENTINEL)
        return ping(redis);
    int r = config->password ? authenticate(redis) : 0;
    if (r == 0 && config->database)
        r = send_own(redis, &own[GREET_SELECT], GREET_SELECT, (const char *const[]){"SELECT", database}, 2);
    if (r == 0)
        r = load_scripts(redis, redis->load);
    if (r == 0 && redis->place.kind == SP_REDIS_MASTER)
        r = send_own(redis, &own[GREET_ROLE], GREET_ROLE, (const char *const[]){"ROLE"}, 1);
    if (r == 0)
        r = ping(redis);
    if (r == 0)
        r = send_own(redis, &own[GREET_POLICY], GREET_POLICY, (const char *const[]){"CONFIG", "GET", "maxmemory-policy"}, 3);
    return r;
}

static void flush(struct sp_redis *redis) {
    while (redis->transport && sp_transport_is_open(redis->transport) && sp_buffer_len(&redis->out) > 0) {
        struct sp_span out = sp_buffer_span(&redis->out);
        ssize_t n = sp_transport_write(redis->transport, out.at, out.len);
        if (n == SP_IO_AGAIN)
            return;
        if (n <= 0) {
            broken(redis, "the connection to Redis broke", sp_span_text(strerrordesc_np((int)-n)));
            return;
        }
        sp_buffer_consume(&redis->out, (size_t)n);
    }
}

static void turn_ended(struct sp_turn_end *hook) {
    struct sp_redis *redis = SP_CONTAINER(hook, struct sp_redis, turn_end);
    if (sp_buffer_len(&redis->out) > 0 && redis->transport && sp_transport_writable(redis->transport))
        flush(redis);
}

/* ---- Replies to our own commands ---- */

/* What maxmemory-policy is: from CONFIG GET, else from INFO. */
static struct sp_span eviction_policy(const struct sp_resp_reply *reply) {
    static const char field[] = "maxmemory_policy:";
    if (reply->value.type == SP_RESP_ARRAY && reply->n == 2 && reply->item[1].type == SP_RESP_STRING)
        return reply->item[1].text;
    if (reply->value.type != SP_RESP_STRING)
        return sp_span(NULL, 0);
    struct sp_span info = reply->value.text;
    const char *at = memmem(info.at, info.len, field, sizeof field - 1);
    if (!at)
        return sp_span(NULL, 0);
    struct sp_span rest = sp_span_from(info, (size_t)(at - info.at) + sizeof field - 1);
    const char *end = memchr(rest.at, '\r', rest.len);
    return sp_span(rest.at, end ? (size_t)(end - rest.at) : rest.len);
}

static void check_eviction(struct sp_redis *redis, const struct sp_resp_reply *reply) {
    struct sp_span policy = eviction_policy(reply);
    redis->eviction[0] = 0;
    if (policy.len == 0 && !redis->asked_info) {
        redis->asked_info = true;
        (void)send_own(redis, &redis->own[GREET_POLICY], GREET_POLICY, (const char *const[]){"INFO", "memory"}, 2);
    } else if (policy.len == 0) {
        sp_redis_note(redis->eviction, "Redis does not let us see its maxmemory-policy; it must be noeviction", sp_span(NULL, 0));
    } else if (!sp_span_eq(policy, SP_SPAN("noeviction"))) {
        sp_redis_note(redis->eviction, "Redis may evict buckets, which refills them; set maxmemory-policy to noeviction; it is", policy);
    }
}

static void greeted(struct sp_redis *redis) {
    uint64_t took_us = sp_clock_us() - redis->opened_us;
    if (redis->breaker.open && took_us > redis->config->deadline_ms * 1000) {
        broken(redis, "Redis answers, but slower than the deadline", sp_span(NULL, 0));
        return;
    }
    sp_timer_stop(&redis->timer);
    redis->state = STATE_READY;
    redis->problem[0] = 0;
    sp_breaker_succeeded(&redis->breaker);
    redis->changed(redis->owner, redis);
}

static void authenticated(struct sp_redis *redis, const struct sp_resp_reply *reply) {
    if (reply->value.type != SP_RESP_ERROR)
        return;
    if (redis->state == STATE_READY) /* Redis goes on with who we were, and so do decisions */
        sp_redis_note(redis->problem, "Redis refused the new user or password, and is still used with the old one", reply->value.text);
    else
        broken(redis, "Redis refused the user or password", reply->value.text);
}

static void ponged(struct sp_redis *redis, const struct sp_resp_reply *reply) {
    bool refused = reply->value.type == SP_RESP_ERROR;
    bool wants_password = refused && redis->place.kind == SP_REDIS_SENTINEL && redis->config->password && !redis->told_password &&
                          sp_span_starts(reply->value.text, SP_SPAN("NOAUTH"));
    if (wants_password) {
        redis->told_password = true;
        if (authenticate(redis) < 0 || ping(redis) < 0)
            broken(redis, "there is no memory to greet a sentinel", sp_span(NULL, 0));
    } else if (refused) {
        broken(redis, "Redis refused PING", reply->value.text);
    } else {
        greeted(redis);
    }
}

/* ROLE: ["master", …], of which only the first is looked at. */
static void see_role(void *command, const struct sp_resp_value *value, const struct sp_resp_place *place) {
    struct sp_redis *redis = SP_CONTAINER(command, struct own_command, command)->redis;
    if (place->depth == 1 && place->index == 0)
        redis->is_master = value->type == SP_RESP_STRING && sp_span_eq(value->text, SP_SPAN("master"));
}

static void own_replied(struct sp_redis_command *command, const struct sp_resp_reply *reply) {
    struct own_command *own = SP_CONTAINER(command, struct own_command, command);
    struct sp_redis *redis = own->redis;
    own->sent = false;
    if (!reply)
        return;
    struct sp_span refusal = reply->value.type == SP_RESP_ERROR ? reply->value.text : sp_span(NULL, 0);
    bool refused = reply->value.type == SP_RESP_ERROR;
    switch (own->what) {
    case GREET_AUTH:
        authenticated(redis, reply);
        break;
    case GREET_SELECT:
        if (refused)
            broken(redis, "Redis refused the database", refusal);
        break;
    case GREET_SCRIPT:
        if (refused)
            broken(redis, "Redis refused the script", refusal);
        else if (!sp_span_eq(reply->value.text, sp_span_text(own->script->sha1)))
            broken(redis, "Redis knows the script by another name", sp_span(NULL, 0));
        break;
    case GREET_ROLE:
        if (refused)
            broken(redis, "Redis does not say whether it is the master", refusal);
        else if (!redis->is_master)
            sp_redis_demoted(redis, SP_SPAN("its sentinels say it is"));
        break;
    case GREET_PING:
        ponged(redis, reply);
        break;
    case GREET_POLICY:
        check_eviction(redis, reply);
        break;
    }
}

/* ---- Receiving ---- */

/* The next reply goes to the oldest command. Stops when a callback has ended this connection. */
static int deliver(struct sp_redis *redis, const struct sp_transport *transport) {
    while (redis->transport == transport) {
        const struct sp_resp_reply *reply;
        bool awaited = !sp_list_empty(&redis->commands);
        struct sp_redis_command *command = awaited ? sp_list_entry(redis->commands.next, struct sp_redis_command, node) : NULL;
        sp_resp_visit_with(redis->resp, awaited ? command->visit : NULL, command);
        int r = sp_resp_next(redis->resp, &reply);
        if (r == 0)
            return 0;
        if (r < 0 || !awaited)
            return -EPROTO;
        if (command->asking && !command->asked) {
            command->asked = true; /* that was ASKING's; had it been refused, the command will be too */
            continue;
        }
        sp_list_remove(&command->node);
        command->replied(command, reply);
    }
    return 0;
}

static void receive(struct sp_redis *redis) {
    static char bytes[READ_BYTES];
    const struct sp_transport *transport = redis->transport;
    while (redis->transport == transport && sp_transport_readable(redis->transport)) {
        ssize_t n = sp_transport_read(redis->transport, bytes, sizeof bytes);
        if (n == SP_IO_AGAIN)
            return;
        if (n <= 0) {
            broken(redis, n == 0 ? "Redis closed the connection" : "the connection to Redis broke",
                   sp_span_text(n == 0 ? NULL : strerrordesc_np((int)-n)));
            return;
        }
        int r = sp_resp_feed(redis->resp, bytes, (size_t)n);
        if (r == 0)
            r = deliver(redis, transport);
        if (r < 0 && redis->transport == transport)
            broken(redis, "Redis answered with something that is not Redis' protocol", sp_span(NULL, 0));
    }
}

static void transport_ready(void *owner, unsigned ready) {
    struct sp_redis *redis = owner;
    const struct sp_transport *transport = redis->transport;
    if (ready & SP_READY_FAILED) {
        broken(redis, "Redis cannot be reached", sp_span_text(sp_transport_problem(redis->transport)));
        return;
    }
    if (ready & SP_READY_OPEN) {
        redis->state = STATE_GREETING;
        redis->opened_us = sp_clock_us();
    }
    if (ready & (SP_READY_OPEN | SP_READY_WRITE))
        flush(redis);
    if (redis->transport == transport && (ready & (SP_READY_READ | SP_READY_GONE)))
        receive(redis);
}

/* ---- Connecting ---- */

/* Whoever waits for a reply is told once the connection is closed and `next` is the state. */
static void close_connection(struct sp_redis *redis, enum state next) {
    struct sp_list orphans;
    sp_list_init(&orphans);
    while (!sp_list_empty(&redis->commands)) {
        struct sp_list *node = redis->commands.next;
        sp_list_remove(node);
        sp_list_append(&orphans, node);
    }
    sp_transport_close(sp_take(redis->transport), true);
    sp_buffer_consume(&redis->out, sp_buffer_len(&redis->out));
    sp_resp_free(sp_take(redis->resp));
    sp_timer_stop(&redis->timer);
    redis->state = next;
    while (!sp_list_empty(&orphans)) {
        struct sp_redis_command *command = sp_list_entry(orphans.next, struct sp_redis_command, node);
        sp_list_remove(&command->node);
        command->replied(command, NULL);
    }
}

/* The connection is no more, and a next try is set. Callers touch nothing of the connection afterwards. */
static void lose(struct sp_redis *redis) {
    if (redis->state == STATE_OFF || redis->state == STATE_WAITING)
        return;
    close_connection(redis, STATE_WAITING);
    sp_timer_start(redis->loop, &redis->timer, sp_breaker_wait_ms(&redis->breaker, sp_random_u64_fast()));
    redis->changed(redis->owner, redis);
}

static void open_connection(struct sp_redis *redis) {
    redis->reconnects++;
    redis->asked_info = redis->is_master = redis->demoted = redis->told_password = false;
    redis->state = STATE_OPENING;
    unsigned patience_ms = redis->place.kind == SP_REDIS_SENTINEL ? SENTINEL_MS : GREETING_MS;
    sp_timer_start(redis->loop, &redis->timer, sp_max(patience_ms, redis->config->deadline_ms));
    int r = sp_resp_new(&redis->resp);
    if (r == 0)
        r = sp_transport_connect(redis->loop, redis->place.unix_path ? NULL : &redis->place.address, redis->place.unix_path, redis->tls,
                                 transport_ready, redis, &redis->transport);
    if (r == 0)
        r = greet(redis);
    if (r < 0)
        broken(redis, "Redis cannot be reached", sp_span_text(strerrordesc_np(-r)));
}

static void timer_fired(struct sp_timer *timer) {
    struct sp_redis *redis = SP_CONTAINER(timer, struct sp_redis, timer);
    if (redis->state == STATE_WAITING)
        open_connection(redis);
    else if (redis->state == STATE_OPENING)
        broken(redis, "Redis cannot be reached in time", sp_span(NULL, 0));
    else if (redis->state == STATE_GREETING)
        broken(redis, "Redis took the connection but does not answer", sp_span(NULL, 0));
}

/* ---- Life ---- */

static void own_init(struct sp_redis *redis, struct own_command *own) {
    own->redis = redis;
    own->command.replied = own_replied;
    sp_list_init(&own->command.node);
}

int sp_redis_new(struct sp_loop *loop, sp_redis_changed *changed, void *owner, struct sp_redis **ret) {
    struct sp_redis *redis = calloc(1, sizeof *redis);
    if (!redis)
        return -ENOMEM;
    redis->loop = loop;
    redis->changed = changed;
    redis->owner = owner;
    sp_list_init(&redis->commands);
    sp_buffer_init(&redis->out, OUT_MAX);
    redis->timer.fire = timer_fired;
    redis->turn_end.run = turn_ended;
    for (size_t i = 0; i < GREET_COUNT; i++)
        own_init(redis, &redis->own[i]);
    for (size_t i = 0; i < SP_REDIS_SCRIPTS_MAX; i++) {
        own_init(redis, &redis->load[i]);
        own_init(redis, &redis->reload[i]);
    }
    redis->own[GREET_ROLE].command.visit = see_role;
    sp_turn_end_add(loop, &redis->turn_end);
    *ret = redis;
    return 0;
}

static void disconnect(struct sp_redis *redis) {
    close_connection(redis, STATE_OFF);
    redis->breaker = (struct sp_breaker){0};
    redis->problem[0] = redis->eviction[0] = 0;
}

void sp_redis_free(struct sp_redis *redis) {
    if (!redis)
        return;
    disconnect(redis);
    sp_tls_client_unref(redis->tls);
    sp_turn_end_remove(&redis->turn_end);
    sp_buffer_free(&redis->out);
    free(redis);
}

static const struct sp_hash_key no_secret = {0};

static uint64_t where_of(const struct sp_redis_config *config, const struct sp_redis_place *place) {
    const uint64_t parts[] = {
        place->kind,
        place->unix_path != NULL,
        sp_hash_span(&no_secret, sp_span_text(place->unix_path)),
        sp_hash(&no_secret, place->address.bytes, sizeof place->address.bytes),
        place->address.port,
        config->database,
    };
    return sp_hash(&no_secret, parts, sizeof parts);
}

static uint64_t user_of(const struct sp_redis_config *config) {
    const uint64_t parts[] = {
        sp_hash_span(&no_secret, sp_span_text(config->username)),
        sp_hash_span(&no_secret, sp_span_text(config->password)),
        config->password != NULL,
    };
    return sp_hash(&no_secret, parts, sizeof parts);
}

/* Whether the connection that is there, or is being made, is the one that is wanted, or could be made so. */
static bool stay(struct sp_redis *redis, uint64_t where, uint64_t user, const struct sp_tls_client *tls) {
    if (redis->state == STATE_OFF || where != redis->where || !sp_tls_client_same(redis->tls, tls))
        return false;
    if (user == redis->user)
        return true;
    return redis->state == STATE_READY && redis->config->password && !redis->own[GREET_AUTH].sent &&
           redis->place.kind != SP_REDIS_SENTINEL && authenticate(redis) == 0;
}

void sp_redis_configure(struct sp_redis *redis, const struct sp_redis_config *config, const struct sp_redis_place *place,
                        struct sp_tls_client *tls) {
    uint64_t where = place ? where_of(config, place) : 0, user = place ? user_of(config) : 0;
    redis->config = config;
    redis->place = place ? *place : (struct sp_redis_place){0};
    bool stays = place && stay(redis, where, user, tls);
    redis->where = where;
    redis->user = user;
    if (stays)
        return;
    disconnect(redis);
    sp_tls_client_unref(redis->tls);
    redis->tls = tls ? sp_tls_client_ref(tls) : NULL;
    if (place)
        open_connection(redis);
}

void sp_redis_state(const struct sp_redis *redis, struct sp_limiter_state *ret) {
    ret->shared = redis->config != NULL;
    ret->up = sp_redis_connected(redis);
    ret->breaker_open = redis->breaker.open;
    ret->timeouts = redis->timeouts;
    ret->errors = redis->errors;
    ret->reconnects = redis->reconnects > 0 ? redis->reconnects - 1 : 0;
    bool evicts = redis->eviction[0] && !redis->problem[0] && redis->config && !redis->config->allow_eviction;
    (void)snprintf(ret->problem, sizeof ret->problem, "%s", evicts ? redis->eviction : redis->problem);
}
