#include "slots.h"

#include <errno.h>
#include <stdio.h>

#include <sallyport/config.h>

#define SLOTS_MAX SP_SERVERS_MAX /* the largest of them */
_Static_assert(SLOTS_MAX >= SP_ROUTES_MAX && SLOTS_MAX >= SP_POOLS_MAX && SLOTS_MAX >= SP_LIMITS_MAX && SLOTS_MAX >= SP_MODELS_MAX,
               "slots of every kind fit");

/* Adds identity → record for everything of one kind in a document. */
typedef int find_all(const json_t *root, const char *section, json_t *found);

struct slot_kind {
    const char *name, *section;
    size_t max;
    find_all *find;
};

static int find_named(const json_t *root, const char *section, json_t *found) {
    json_t *things = json_object_get(root, section);
    return things && json_object_update(found, things) < 0 ? -ENOMEM : 0;
}

static int find_listed(const json_t *root, const char *section, json_t *found) {
    const char *identity = strcmp(section, "listeners") == 0 ? "address" : "name";
    const json_t *things = json_object_get(root, section);
    for (size_t i = 0; i < json_array_size(things); i++) {
        json_t *thing = json_array_get(things, i);
        const char *name = json_string_value(json_object_get(thing, identity));
        if (!name || json_object_set(found, name, thing) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* A server is its pool and its url. */
static int find_servers(const json_t *root, const char *section, json_t *found) {
    json_t *pools = json_object_get(root, section);
    for (void *at = json_object_iter(pools); at; at = json_object_iter_next(pools, at)) {
        const json_t *servers = json_object_get(json_object_iter_value(at), "servers");
        for (size_t i = 0; i < json_array_size(servers); i++) {
            json_t *server = json_array_get(servers, i);
            _cleanup_(sp_free_pointer) char *name = NULL;
            if (asprintf(&name, "%s %s", json_object_iter_key(at), json_string_value(json_object_get(server, "url"))) < 0) {
                name = NULL;
                return -ENOMEM;
            }
            if (json_object_set(found, name, server) < 0)
                return -ENOMEM;
        }
    }
    return 0;
}

static const struct slot_kind kinds[] = {
    {.name = "listener", .section = "listeners", .max = SP_LISTENERS_MAX, .find = find_listed},
    {.name = "limit", .section = "limits", .max = SP_LIMITS_MAX, .find = find_named},
    {.name = "pool", .section = "pools", .max = SP_POOLS_MAX, .find = find_named},
    {.name = "server", .section = "pools", .max = SP_SERVERS_MAX, .find = find_servers},
    {.name = "model", .section = "models", .max = SP_MODELS_MAX, .find = find_named},
    {.name = "route", .section = "routes", .max = SP_ROUTES_MAX, .find = find_listed},
};

struct slots {
    size_t max, next;                   /* numbers from next on were never used */
    bool was[SLOTS_MAX], is[SLOTS_MAX]; /* in the previous document, in this one */
};

static bool slot_of(const struct slots *slots, const json_t *thing, size_t *ret) {
    const json_t *slot = json_object_get(thing, "slot");
    json_int_t number = json_integer_value(slot);
    if (!json_is_integer(slot) || number < 0 || (size_t)number >= slots->max)
        return false;
    *ret = (size_t)number;
    return true;
}

/* A freed number that nothing of the generation before still counts under, if there is one. Always finds one: things ≤ max. */
static size_t freed_slot(const struct slots *slots) {
    for (size_t i = 0; i < slots->max; i++)
        if (!slots->is[i] && !slots->was[i])
            return i;
    size_t any = 0;
    while (any + 1 < slots->max && slots->is[any])
        any++;
    return any;
}

static int give(struct slots *slots, json_t *thing, size_t slot) {
    slots->is[slot] = true;
    return json_object_set_new(thing, "slot", json_integer((json_int_t)slot)) < 0 ? -ENOMEM : 0;
}

static int assign(struct slots *slots, json_t *now, json_t *before) {
    const char *name;
    json_t *thing;
    size_t slot;
    int failed = 0;
    json_object_foreach(before, name, thing) if (slot_of(slots, thing, &slot)) slots->was[slot] = true;
    json_object_foreach(now, name, thing) if (!failed && slot_of(slots, json_object_get(before, name), &slot)) failed =
        give(slots, thing, slot);
    json_object_foreach(now, name, thing) if (!failed && !json_object_get(thing, "slot")) failed =
        give(slots, thing, slots->next < slots->max ? slots->next++ : freed_slot(slots));
    return failed;
}

static int assign_kind(const struct slot_kind *kind, json_t *root, const json_t *previous, json_t *taken) {
    struct slots slots = {.max = kind->max, .next = (size_t)json_integer_value(json_object_get(taken, kind->name))};
    json_t *now = json_object(), *before = json_object();
    int failed = now && before ? 0 : -ENOMEM;
    if (!failed)
        failed = kind->find(root, kind->section, now);
    if (!failed && previous)
        failed = kind->find(previous, kind->section, before);
    if (!failed)
        failed = assign(&slots, now, before);
    if (!failed && json_object_set_new(taken, kind->name, json_integer((json_int_t)slots.next)) < 0)
        failed = -ENOMEM;
    json_decref(now);
    json_decref(before);
    return failed;
}

int sp_slots_assign(json_t *root, const json_t *previous, json_t *taken) {
    for (size_t i = 0; i < SP_COUNT(kinds); i++) {
        int failed = assign_kind(&kinds[i], root, previous, taken);
        if (failed)
            return failed;
    }
    return 0;
}
