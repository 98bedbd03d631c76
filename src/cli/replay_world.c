/* Limits of one configuration at work on requests of the past. */
#include "replay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include <sallyport/limit.h>

#define ENDS_MAX       1000000 /* requests under way, over all limits on concurrency */
#define WHO_MAX        512     /* bytes that name a caller */
#define NAME_TOLD      64      /* of one name: of a longer one so many, and a digest that tells it apart */
#define SWEEP_PATIENCE 65536   /* decisions after a sweep that made little room */

struct cell_key {
    size_t limit;
    char who[WHO_MAX + 1];
    size_t len;
};

struct sp_cell {
    struct sp_map_node node;
    uint32_t limit;
    bool pinned;                            /* of the request that is being decided: not to be forgotten */
    uint64_t asked, refused, differs, used; /* used: places taken */
    struct sp_bucket bucket[2];             /* by SP_LIMIT_REQUESTS and SP_LIMIT_TOKENS */
    uint64_t answered, tokens_us[2];        /* of those that were answered: how many, the sums of their tokens and of their durations */
    size_t len;
    char who[]; /* not terminated */
};

struct policy {
    const char *name; /* of the JSON, which the world holds */
    json_t *roles, *routes;
    uint32_t by;
    struct sp_bucket_policy bucket[2]; /* rate.amount 0: not bounded */
    uint64_t concurrency;
    bool shadow, logins;
    struct sp_world_counts counts;
};

struct place_end {
    uint64_t at_us;
    struct sp_cell *cell;
};

struct sp_world {
    json_t *limits;
    struct policy policies[SP_LIMITS_MAX];
    size_t n;
    struct sp_map cells;
    size_t cells_max;
    struct sp_hash_key hash_key;
    struct place_end *ends; /* a heap, the earliest first */
    size_t n_ends, ends_capacity;
    uint64_t left_out, patience;
    uint64_t answered, sums[2]; /* of all, for callers of whom nothing is known */
};

/* ---- Policies from JSON ---- */

static int read_bucket(json_t *bucket, struct sp_bucket_policy *ret) {
    if (!bucket || json_is_null(bucket))
        return 0;
    json_int_t amount = json_integer_value(json_object_get(bucket, "amount"));
    json_int_t period = json_integer_value(json_object_get(bucket, "period_us")),
               burst = json_integer_value(json_object_get(bucket, "burst"));
    if (amount <= 0 || period <= 0 || burst <= 0)
        return -EINVAL;
    *ret = (struct sp_bucket_policy){.rate = {(uint64_t)amount, (uint64_t)period}, .burst = (uint64_t)burst};
    return 0;
}

static int read_by(json_t *by, uint32_t *ret) {
    static const char *const names[] = {"subject", "tenant", "key", "address", "model", "route", "global"};
    json_t *item;
    size_t i;
    json_array_foreach(by, i, item) {
        uint32_t bit = 0;
        for (size_t j = 0; j < SP_COUNT(names); j++)
            if (json_is_string(item) && strcmp(json_string_value(item), names[j]) == 0)
                bit = 1u << j;
        if (bit == 0)
            return -EINVAL;
        *ret |= bit;
    }
    return *ret ? 0 : -EINVAL;
}

static int read_policy(json_t *limit, struct policy *ret) {
    json_t *places = json_object_get(limit, "concurrency"), *count = json_object_get(limit, "count");
    *ret = (struct policy){.name = json_string_value(json_object_get(limit, "name")),
                           .roles = json_object_get(limit, "roles"),
                           .routes = json_object_get(limit, "routes"),
                           .shadow = json_is_true(json_object_get(limit, "shadow")),
                           .logins = json_is_string(count) && strcmp(json_string_value(count), "unauthorized") == 0};
    if (!ret->name || json_integer_value(places) < 0 || read_by(json_object_get(limit, "by"), &ret->by) < 0 ||
        read_bucket(json_object_get(limit, "requests"), &ret->bucket[SP_LIMIT_REQUESTS]) < 0 ||
        read_bucket(json_object_get(limit, "tokens"), &ret->bucket[SP_LIMIT_TOKENS]) < 0)
        return -EINVAL;
    ret->concurrency = (uint64_t)json_integer_value(places);
    return 0;
}

int sp_world_new(json_t *limits, size_t cells_max, struct sp_world **ret) {
    if (!json_is_array(limits) || json_array_size(limits) > SP_LIMITS_MAX)
        return -EINVAL;
    struct sp_world *world = calloc(1, sizeof *world);
    if (!world)
        return -ENOMEM;
    world->limits = json_incref(limits);
    world->cells_max = cells_max;
    sp_map_init(&world->cells);
    sp_random(&world->hash_key, sizeof world->hash_key);
    for (; world->n < json_array_size(limits); world->n++)
        if (read_policy(json_array_get(limits, world->n), &world->policies[world->n]) < 0) {
            sp_world_free(world);
            return -EINVAL;
        }
    *ret = world;
    return 0;
}

/* The map holds no list of its own: every chain is walked. */
static struct sp_cell *first_cell(const struct sp_map *map, size_t *chain) {
    while (*chain < map->n_chains && !map->chains[*chain])
        ++*chain;
    return *chain < map->n_chains ? SP_CONTAINER(map->chains[*chain], struct sp_cell, node) : NULL;
}

static struct sp_cell *next_cell(const struct sp_map *map, const struct sp_cell *cell, size_t *chain) {
    if (cell->node.next)
        return SP_CONTAINER(cell->node.next, struct sp_cell, node);
    ++*chain;
    return first_cell(map, chain);
}

void sp_world_free(struct sp_world *world) {
    if (!world)
        return;
    size_t chain = 0;
    for (struct sp_cell *cell = first_cell(&world->cells, &chain), *next; cell; cell = next) {
        next = next_cell(&world->cells, cell, &chain);
        free(cell);
    }
    sp_map_free(&world->cells);
    json_decref(world->limits);
    free(world->ends);
    free(world);
}

/* ---- Whose bucket ---- */

static void put(struct cell_key *key, const char *label, struct sp_span text) {
    static const struct sp_hash_key fixed = {1, 2};
    char digest[32] = "";
    size_t told = text.len;
    if (text.len > NAME_TOLD) {
        for (told = NAME_TOLD; told > 0 && ((unsigned char)text.at[told] & 0xc0) == 0x80;) /* not within a character */
            told--;
        (void)snprintf(digest, sizeof digest, "…%016llx", (unsigned long long)sp_hash_span(&fixed, text));
    }
    int n = snprintf(key->who + key->len, sizeof key->who - key->len, "%s%s" SP_SPAN_FMT "%s", key->len ? ", " : "", label, (int)told,
                     text.len ? text.at : "", digest);
    key->len = sp_min(key->len + (size_t)sp_max(n, 0), sizeof key->who - 1);
}

/* IPv6 counts per /64, as everywhere. */
static void put_address(struct cell_key *key, struct sp_span text) {
    char address[INET6_ADDRSTRLEN] = "", shown[INET6_ADDRSTRLEN + 4] = "";
    uint8_t bytes[16];
    if (text.len < sizeof address && text.len)
        memcpy(address, text.at, text.len);
    if (inet_pton(AF_INET6, address, bytes) != 1)
        return put(key, "address ", text);
    memset(bytes + 8, 0, 8);
    (void)snprintf(shown, sizeof shown, "%s/64", inet_ntop(AF_INET6, bytes, address, sizeof address));
    put(key, "address ", sp_span_text(shown));
}

static void key_of(const struct sp_world *world, size_t limit, const struct sp_logged *request, const struct sp_caller *caller,
                   struct cell_key *ret) {
    uint32_t by = world->policies[limit].by;
    ret->limit = limit;
    ret->len = 0;
    if (by & SP_BY_SUBJECT)
        put(ret, caller->api_key ? "" : "subject ", request->text[SP_LOGGED_SUBJECT]);
    if (by & SP_BY_TENANT)
        put(ret, "tenant ", request->text[SP_LOGGED_TENANT]);
    if (by & SP_BY_KEY)
        put(ret, "key ", request->text[SP_LOGGED_KEY]);
    if (by & SP_BY_MODEL)
        put(ret, "model ", request->text[SP_LOGGED_MODEL]);
    if (by & SP_BY_ROUTE)
        put(ret, "route ", request->text[SP_LOGGED_ROUTE]);
    if (by & SP_BY_ADDRESS)
        put_address(ret, request->text[SP_LOGGED_CLIENT]);
    if (by & SP_BY_GLOBAL)
        put(ret, "everybody", sp_span(NULL, 0));
}

/* ---- Cells ---- */

static struct sp_cell *find(const struct sp_world *world, const struct cell_key *key, uint64_t hash) {
    for (struct sp_map_node *node = sp_map_first(&world->cells, hash); node; node = sp_map_next(node)) {
        struct sp_cell *cell = SP_CONTAINER(node, struct sp_cell, node);
        if (cell->limit == key->limit && cell->len == key->len && memcmp(cell->who, key->who, key->len) == 0)
            return cell;
    }
    return NULL;
}

/* As good as absent: its buckets are full, nobody is in it, and nothing is to be told of it. */
static bool forgettable(const struct sp_world *world, struct sp_cell *cell, uint64_t now_us) {
    const struct policy *policy = &world->policies[cell->limit];
    if (cell->pinned || cell->used > 0 || cell->differs > 0)
        return false;
    for (unsigned kind = 0; kind < SP_COUNT(cell->bucket); kind++) {
        if (policy->bucket[kind].rate.amount == 0)
            continue;
        struct sp_bucket bucket = cell->bucket[kind], full;
        sp_bucket_advance(&policy->bucket[kind], now_us, &bucket);
        sp_bucket_fill(&policy->bucket[kind], now_us, &full);
        if (bucket.level_micro < full.level_micro)
            return false;
    }
    return true;
}

static void sweep(struct sp_world *world, uint64_t now_us) {
    size_t chain = 0, before = world->cells.count;
    for (struct sp_cell *cell = first_cell(&world->cells, &chain), *next; cell; cell = next) {
        next = next_cell(&world->cells, cell, &chain);
        if (!forgettable(world, cell, now_us))
            continue;
        sp_map_remove(&world->cells, &cell->node);
        free(cell);
    }
    if (world->cells.count > before - before / 4)
        world->patience = SWEEP_PATIENCE;
}

/* NULL: there is no room for another. */
static struct sp_cell *cell_of(struct sp_world *world, const struct cell_key *key, uint64_t now_us) {
    uint64_t hash = sp_hash(&world->hash_key, key->who, key->len) + key->limit;
    struct sp_cell *cell = find(world, key, hash);
    if (cell)
        return cell;
    if (world->cells.count >= world->cells_max) {
        if (world->patience > 0)
            world->patience--;
        else
            sweep(world, now_us);
    }
    cell = world->cells.count < world->cells_max ? calloc(1, sizeof *cell + key->len) : NULL;
    if (!cell)
        return NULL;
    cell->limit = (uint32_t)key->limit;
    cell->len = key->len;
    memcpy(cell->who, key->who, key->len);
    for (unsigned kind = 0; kind < SP_COUNT(cell->bucket); kind++)
        sp_bucket_fill(&world->policies[key->limit].bucket[kind], now_us, &cell->bucket[kind]);
    if (sp_map_add(&world->cells, &cell->node, hash) < 0) {
        free(cell);
        return NULL;
    }
    return cell;
}

/* ---- Places ---- */

static void sift_down(struct place_end *ends, size_t n, size_t at) {
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && ends[child + 1].at_us < ends[child].at_us)
            child++;
        if (ends[at].at_us <= ends[child].at_us)
            return;
        struct place_end held = ends[at];
        ends[at] = ends[child];
        ends[child] = held;
    }
}

static void free_places(struct sp_world *world, uint64_t now_us) {
    while (world->n_ends > 0 && world->ends[0].at_us <= now_us) {
        world->ends[0].cell->used--;
        world->ends[0] = world->ends[--world->n_ends];
        sift_down(world->ends, world->n_ends, 0);
    }
}

static bool grow_ends(struct sp_world *world) {
    size_t capacity = sp_min(sp_max(world->ends_capacity * 2, (size_t)1024), (size_t)ENDS_MAX);
    struct place_end *grown = capacity > world->ends_capacity ? reallocarray(world->ends, capacity, sizeof *grown) : NULL;
    if (!grown)
        return false;
    world->ends = grown;
    world->ends_capacity = capacity;
    return true;
}

static void take_place(struct sp_world *world, struct sp_cell *cell, uint64_t until_us) {
    if (world->n_ends == world->ends_capacity && !grow_ends(world)) {
        world->left_out++;
        return;
    }
    size_t at = world->n_ends++;
    for (; at > 0 && world->ends[(at - 1) / 2].at_us > until_us; at = (at - 1) / 2)
        world->ends[at] = world->ends[(at - 1) / 2];
    world->ends[at] = (struct place_end){until_us, cell};
    cell->used++;
}

/* ---- A request ---- */

struct asking {
    const struct sp_logged *request;
    struct sp_cell *cells[SP_REQUEST_LIMITS_MAX];
    size_t n;
};

static bool names(json_t *list, struct sp_span name) {
    json_t *item;
    size_t i;
    json_array_foreach(list, i, item) if (sp_span_eq(name, sp_span(json_string_value(item), json_string_length(item)))) return true;
    return false;
}

static bool applies(const struct policy *policy, const struct sp_logged *request, const struct sp_caller *caller) {
    if (policy->logins || request->login)
        return policy->logins && request->login;
    bool applies = request->asked && names(policy->routes, request->text[SP_LOGGED_ROUTE]);
    for (size_t i = 0; request->asked && i < caller->n_roles && !applies; i++)
        applies = names(policy->roles, sp_span_text(caller->roles[i]));
    return applies;
}

static void gather(struct sp_world *world, const struct sp_caller *caller, struct asking *asking) {
    struct cell_key key;
    for (size_t i = 0; i < world->n && asking->n < SP_COUNT(asking->cells); i++) {
        if (!applies(&world->policies[i], asking->request, caller))
            continue;
        key_of(world, i, asking->request, caller, &key);
        struct sp_cell *cell = cell_of(world, &key, asking->request->begin_us);
        if (!cell) {
            world->left_out++;
            continue;
        }
        cell->pinned = true;
        asking->cells[asking->n++] = cell;
    }
    for (size_t i = 0; i < asking->n; i++)
        asking->cells[i]->pinned = false;
}

/* What was answered says it itself; what was refused then would have been as the caller's others on average. which: 0 tokens, 1 time. */
static uint64_t amount_of(const struct sp_world *world, const struct sp_cell *cell, const struct sp_logged *request, unsigned which) {
    if (!request->refused)
        return which ? request->duration_us : (uint64_t)sp_max(request->tokens, INT64_C(0));
    if (cell->answered > 0)
        return cell->tokens_us[which] / cell->answered;
    return world->answered > 0 ? world->sums[which] / world->answered : 0;
}

static void learn(struct sp_world *world, const struct asking *asking) {
    const struct sp_logged *request = asking->request;
    uint64_t tokens = (uint64_t)sp_max(request->tokens, INT64_C(0));
    if (request->refused || request->login)
        return;
    world->answered++;
    world->sums[0] += tokens;
    world->sums[1] += request->duration_us;
    for (size_t i = 0; i < asking->n; i++) {
        asking->cells[i]->answered++;
        asking->cells[i]->tokens_us[0] += tokens;
        asking->cells[i]->tokens_us[1] += request->duration_us;
    }
}

/* How a cell answers, with its buckets as they would be afterwards. */
struct answer {
    bool refuses, of_places;
    uint64_t retry_us;
    struct sp_bucket after[2];
};

static struct answer ask(const struct sp_world *world, const struct sp_cell *cell, const struct sp_logged *request) {
    const struct policy *policy = &world->policies[cell->limit];
    struct answer answer = {.after = {cell->bucket[0], cell->bucket[1]}};
    if (policy->concurrency > 0 && !request->login && cell->used >= policy->concurrency)
        answer.refuses = answer.of_places = true;
    for (unsigned kind = 0; kind < SP_COUNT(answer.after); kind++) {
        const struct sp_bucket_policy *bucket = &policy->bucket[kind];
        uint64_t cost = kind == SP_LIMIT_TOKENS ? amount_of(world, cell, request, 0) : 1;
        if (bucket->rate.amount == 0 || cost == 0)
            continue;
        /* More than the burst is never taken at once: the rest was an overrun, which is settled as debt. */
        uint64_t taken = sp_min(cost, bucket->burst);
        struct sp_bucket_answer said = sp_bucket_take(bucket, request->begin_us, taken, &answer.after[kind]);
        if (said.admitted && cost > taken)
            sp_bucket_settle(bucket, request->begin_us, -(int64_t)((cost - taken) * SP_MICRO), &answer.after[kind]);
        answer.refuses = answer.refuses || !said.admitted;
        answer.retry_us = sp_max(answer.retry_us, said.retry_us);
    }
    return answer;
}

static void commit(struct sp_world *world, const struct asking *asking, const struct answer *answers) {
    const struct sp_logged *request = asking->request;
    for (size_t i = 0; i < asking->n; i++) {
        struct sp_cell *cell = asking->cells[i];
        if (answers[i].refuses)
            continue; /* a shadow's */
        memcpy(cell->bucket, answers[i].after, sizeof cell->bucket);
        if (world->policies[cell->limit].concurrency > 0 && !request->login)
            take_place(world, cell, request->begin_us + amount_of(world, cell, request, 1));
    }
}

static void refuse(struct sp_world *world, struct sp_cell *cell) {
    cell->refused++;
    world->policies[cell->limit].counts.refused++;
}

/* Places come first; of buckets the one that takes longest is named: as the limiter does. */
static bool names_before(const struct answer *a, const struct answer *b) {
    return a->of_places != b->of_places ? a->of_places : a->retry_us > b->retry_us;
}

struct sp_world_verdict sp_world_run(struct sp_world *world, const struct sp_logged *request, const struct sp_caller *caller) {
    struct asking asking = {.request = request};
    struct answer answers[SP_REQUEST_LIMITS_MAX];
    const struct answer *refusing = NULL;
    free_places(world, request->begin_us);
    if (!caller->unknown_route)
        gather(world, caller, &asking);
    for (size_t i = 0; i < asking.n; i++) {
        struct policy *policy = &world->policies[asking.cells[i]->limit];
        asking.cells[i]->asked++;
        policy->counts.asked++;
        answers[i] = ask(world, asking.cells[i], request);
        if (answers[i].refuses && policy->shadow)
            policy->counts.shadow_refused++;
        else if (answers[i].refuses && (!refusing || names_before(&answers[i], refusing)))
            refusing = &answers[i];
    }
    learn(world, &asking);
    if (!refusing) {
        commit(world, &asking, answers);
        return (struct sp_world_verdict){0};
    }
    struct sp_cell *cell = asking.cells[refusing - answers];
    refuse(world, cell);
    return (struct sp_world_verdict){.refused = true, .limit = cell->limit, .cell = cell};
}

void sp_cell_differs(struct sp_cell *cell) { cell->differs++; }

/* ---- Telling ---- */

size_t sp_world_limits(const struct sp_world *world) { return world->n; }
const char *sp_world_name(const struct sp_world *world, size_t limit) { return world->policies[limit].name; }
uint64_t sp_world_left_out(const struct sp_world *world) { return world->left_out; }

struct sp_world_counts sp_world_counts(const struct sp_world *world, size_t limit) {
    struct sp_world_counts counts = world->policies[limit].counts;
    size_t chain = 0;
    for (const struct sp_cell *cell = first_cell(&world->cells, &chain); cell; cell = next_cell(&world->cells, cell, &chain))
        counts.differs += cell->limit == limit ? cell->differs : 0;
    return counts;
}

static int most_first(const void *a, const void *b) {
    const struct sp_cell *x = *(struct sp_cell *const *)a, *y = *(struct sp_cell *const *)b;
    if (x->differs != y->differs)
        return x->differs < y->differs ? 1 : -1;
    int order = memcmp(x->who, y->who, sp_min(x->len, y->len));
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

json_t *sp_world_callers(const struct sp_world *world, size_t limit, size_t most) {
    json_t *list = json_array();
    _cleanup_(sp_free_pointer) struct sp_cell **found = calloc(world->cells.count + 1, sizeof *found);
    size_t n = 0, chain = 0;
    for (struct sp_cell *cell = first_cell(&world->cells, &chain); found && cell; cell = next_cell(&world->cells, cell, &chain))
        if (cell->limit == limit && cell->differs > 0)
            found[n++] = cell;
    if (found)
        qsort(found, n, sizeof *found, most_first);
    for (size_t i = 0; i < sp_min(n, most); i++) {
        json_t *who = json_stringn(found[i]->who, found[i]->len);
        json_array_append_new(list, json_pack("{s:o,s:I,s:I}", "who", who ? who : json_string("?"), "requests", (json_int_t)found[i]->asked,
                                              "refused", (json_int_t)found[i]->differs));
    }
    return list;
}
