/* Limits against limits, and what becomes of levels. What the sentences say is in doc/limits.md. */
#include "diff.h"

#include <stdarg.h>
#include <stdio.h>

#include <sallyport/base.h>

static const char *text_of(json_t *object, const char *member) { return json_string_value(json_object_get(object, member)); }

static json_t *sentence(const char *format, ...) SP_PRINTF(1, 2);
static json_t *sentence(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    json_t *text = json_vsprintf(format, arguments);
    va_end(arguments);
    return text;
}

/* Takes old, new and effect; NULL becomes null. */
static void add(json_t *fields, const char *field, json_t *old, json_t *new, json_t *effect) {
    json_array_append_new(fields, json_pack("{s:s,s:o,s:o,s:o}", "field", field, "old", old ? old : json_null(), "new",
                                            new ? new : json_null(), "effect", effect ? effect : json_null()));
}

/* ---- Buckets: requests, tokens ---- */

static json_t *number_text(json_t *number) { return sentence("%lld", (long long)json_integer_value(number)); }

static json_t *burst_effect(long long old, long long new) {
    return new < old ? sentence("callers above %lld keep %lld; nobody gets more", new, new)
                     : sentence("nobody gets a gift: levels stay and may now grow to %lld", new);
}

static json_t *mode_effect(const char *new) {
    if (strcmp(new, "strict") == 0)
        return sentence("every decision asks Redis; what leases hold ahead is dropped");
    return strcmp(new, "leased") == 0 ? sentence("decided on this machine, from what is taken from Redis ahead")
                                      : sentence("decided in this machine's memory");
}

static json_t *whole_bucket(json_t *bucket) {
    return json_is_object(bucket)
               ? sentence("%s, burst %lld", text_of(bucket, "rate"), (long long)json_integer_value(json_object_get(bucket, "burst")))
               : NULL;
}

static void compare_rates(const char *kind, json_t *old, json_t *new, json_t *fields) {
    json_t *amount = json_object_get(old, "amount"), *period = json_object_get(old, "period_us");
    if (json_equal(amount, json_object_get(new, "amount")) && json_equal(period, json_object_get(new, "period_us")))
        return;
    add(fields, kind, json_incref(json_object_get(old, "rate")), json_incref(json_object_get(new, "rate")),
        sentence("what accrues until the reload accrues at the old rate; no level jumps"));
}

static void compare_buckets(const char *kind, const char *burst, json_t *old_limit, json_t *new_limit, json_t *fields) {
    json_t *old = json_object_get(old_limit, kind), *new = json_object_get(new_limit, kind);
    if (!json_is_object(old) || !json_is_object(new)) {
        if (json_is_object(old) || json_is_object(new))
            add(fields, kind, whole_bucket(old), whole_bucket(new),
                json_is_object(new) ? sentence("every caller begins with a full bucket") : sentence("not bounded any more"));
        return;
    }
    compare_rates(kind, old, new, fields);
    json_t *old_burst = json_object_get(old, "burst"), *new_burst = json_object_get(new, "burst");
    if (!json_equal(old_burst, new_burst))
        add(fields, burst, number_text(old_burst), number_text(new_burst),
            burst_effect(json_integer_value(old_burst), json_integer_value(new_burst)));
    if (!json_equal(json_object_get(old, "mode"), json_object_get(new, "mode"))) {
        json_t *field = sentence("%s are decided", kind);
        add(fields, json_string_value(field), json_incref(json_object_get(old, "mode")), json_incref(json_object_get(new, "mode")),
            mode_effect(text_of(new, "mode")));
        json_decref(field);
    }
}

/* ---- The rest of a limit ---- */

static void compare_places(json_t *old_limit, json_t *new_limit, json_t *fields) {
    json_t *old = json_object_get(old_limit, "concurrency"), *new = json_object_get(new_limit, "concurrency");
    if (json_equal(old, new))
        return;
    json_t *effect = NULL;
    if (!json_is_integer(new))
        effect = sentence("not bounded any more");
    else if (!json_is_integer(old))
        effect = sentence("what is under way stays, and counts only if it began after the reload");
    else if (json_integer_value(new) < json_integer_value(old))
        effect = sentence("nobody is cut off; who has %lld or more begins nothing new until enough have ended",
                          (long long)json_integer_value(new));
    else
        effect = sentence("more may begin at once");
    add(fields, "concurrency", json_is_integer(old) ? number_text(old) : NULL, json_is_integer(new) ? number_text(new) : NULL, effect);
}

static json_t *joined(json_t *list) {
    json_t *text = json_string(""), *item;
    size_t i;
    json_array_foreach(list, i, item) {
        json_t *longer = sentence("%s%s%s", json_string_value(text), i > 0 ? ", " : "", json_string_value(item));
        json_decref(text);
        text = longer;
    }
    return text;
}

static void compare_words(json_t *old, json_t *new, json_t *fields) {
    static const struct {
        const char *member, *effect;
    } words[] = {{"mode", "see how requests and tokens are decided"},
                 {"on_outage", "the next time that Redis is away"},
                 {"count", "other requests count from the reload on; levels stay"}};
    for (size_t i = 0; i < SP_COUNT(words); i++)
        if (!json_equal(json_object_get(old, words[i].member), json_object_get(new, words[i].member)))
            add(fields, words[i].member, json_incref(json_object_get(old, words[i].member)),
                json_incref(json_object_get(new, words[i].member)), sentence("%s", words[i].effect));
    bool was = json_is_true(json_object_get(old, "shadow")), is = json_is_true(json_object_get(new, "shadow"));
    if (was != is)
        add(fields, "shadow", json_string(was ? "true" : "false"), json_string(is ? "true" : "false"),
            is ? sentence("refuses nobody any more; what it would refuse is counted and logged")
               : sentence("begins to refuse, with the levels that it has kept"));
    if (!json_equal(json_object_get(old, "by"), json_object_get(new, "by")))
        add(fields, "by", joined(json_object_get(old, "by")), joined(json_object_get(new, "by")),
            sentence("everybody begins with a full bucket: levels and debts stay with who was counted before"));
}

/* "+added -removed"; NULL: none. */
static json_t *membership(json_t *old, json_t *new) {
    json_t *text = json_string(""), *lists[] = {new, old};
    for (size_t side = 0; side < SP_COUNT(lists); side++) {
        json_t *item, *other = lists[1 - side], *candidate;
        size_t i, j;
        json_array_foreach(lists[side], i, item) {
            bool found = false;
            json_array_foreach(other, j, candidate) found = found || json_equal(item, candidate);
            if (found)
                continue;
            json_t *longer = sentence("%s%s%c%s", json_string_value(text), json_string_length(text) ? " " : "", side == 0 ? '+' : '-',
                                      json_string_value(item));
            json_decref(text);
            text = longer;
        }
    }
    if (json_string_length(text) > 0)
        return text;
    json_decref(text);
    return NULL;
}

static void compare_members(json_t *old, json_t *new, json_t *fields) {
    static const char *const members[][2] = {{"roles", "whose callers it holds from the reload on"},
                                             {"routes", "whose requests it holds from the reload on"}};
    for (size_t i = 0; i < SP_COUNT(members); i++) {
        json_t *change = membership(json_object_get(old, members[i][0]), json_object_get(new, members[i][0]));
        if (change)
            add(fields, members[i][0], joined(json_object_get(old, members[i][0])), joined(json_object_get(new, members[i][0])),
                sentence("%s: %s", json_string_value(change), members[i][1]));
        json_decref(change);
    }
}

static json_t *compare(json_t *old, json_t *new) {
    json_t *fields = json_array();
    compare_words(old, new, fields);
    compare_buckets("requests", "request_burst", old, new, fields);
    compare_buckets("tokens", "token_burst", old, new, fields);
    compare_places(old, new, fields);
    compare_members(old, new, fields);
    return json_pack("{s:s,s:s,s:o}", "name", text_of(new, "name"), "change", json_array_size(fields) ? "changed" : "unchanged", "fields",
                     fields);
}

/* ---- One that only one side has ---- */

static json_t *described(json_t *limit) {
    json_t *by = joined(json_object_get(limit, "by")), *requests = whole_bucket(json_object_get(limit, "requests")),
           *tokens = whole_bucket(json_object_get(limit, "tokens")), *roles = joined(json_object_get(limit, "roles")),
           *routes = joined(json_object_get(limit, "routes")), *places = json_object_get(limit, "concurrency");
    json_t *text =
        sentence("by %s%s%s%s%s", json_string_value(by), requests ? "; requests " : "", requests ? json_string_value(requests) : "",
                 tokens ? "; tokens " : "", tokens ? json_string_value(tokens) : "");
    json_t *at_once = json_is_integer(places) ? sentence("; at once %lld", (long long)json_integer_value(places)) : json_string("");
    json_t *whole =
        sentence("%s%s%s%s%s%s%s", json_string_value(text), json_string_value(at_once), json_string_length(roles) ? "; of roles " : "",
                 json_string_value(roles), json_string_length(routes) ? "; of routes " : "", json_string_value(routes),
                 json_is_true(json_object_get(limit, "shadow")) ? "; shadow" : "");
    json_t *const parts[] = {by, requests, tokens, roles, routes, text, at_once};
    for (size_t i = 0; i < SP_COUNT(parts); i++)
        json_decref(parts[i]);
    return whole;
}

static json_t *one_sided(json_t *limit, const char *change, const char *effect) {
    return json_pack("{s:s,s:s,s:o,s:s,s:[]}", "name", text_of(limit, "name"), "change", change, "is", described(limit), "effect", effect,
                     "fields");
}

static json_t *find(json_t *list, const char *name) {
    json_t *item;
    size_t i;
    json_array_foreach(list, i, item) if (name && text_of(item, "name") && strcmp(text_of(item, "name"), name) == 0) return item;
    return NULL;
}

json_t *sp_diff_limits(json_t *old, json_t *new) {
    json_t *changes = json_array(), *limit;
    size_t i;
    json_array_foreach(new, i, limit) {
        json_t *before = find(old, text_of(limit, "name"));
        json_array_append_new(changes, before ? compare(before, limit) : one_sided(limit, "added", "everybody begins with a full bucket"));
    }
    json_array_foreach(old, i, limit) if (!find(new, text_of(limit, "name")))
        json_array_append_new(changes, one_sided(limit, "removed", "its levels and debts count no more"));
    return changes;
}

bool sp_diff_limits_differ(json_t *limits) {
    json_t *limit;
    size_t i;
    json_array_foreach(limits, i, limit) if (strcmp(text_of(limit, "change"), "unchanged") != 0) return true;
    return false;
}
