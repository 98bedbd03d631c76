/* sallyport ctl limits: the limits in force, or what they leave one subject. */
#include "limits_command.h"

#include <stdio.h>

#include "commands.h"
#include "status.h"

#define PATH_MAX_BYTES 4000 /* of what is asked for */

bool sp_limits_asks_of_somebody(const struct sp_limits_question *question) {
    return question->subject || question->tenant || question->key || question->address || question->model || question->route;
}

/* ---- The question ---- */

static int put_escaped(struct sp_buffer *path, const char *text) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    int r = 0;
    for (const char *at = text; *at && r == 0; at++)
        r = strchr(plain, *at) ? sp_buffer_append(path, at, 1) : sp_buffer_printf(path, "%%%02X", (unsigned)(unsigned char)*at);
    return r;
}

static int write_path(const struct sp_limits_question *question, struct sp_buffer *path) {
    const struct {
        const char *name, *value;
    } facts[] = {{"subject", question->subject}, {"tenant", question->tenant}, {"key", question->key},
                 {"address", question->address}, {"model", question->model},   {"route", question->route}};
    if (!sp_limits_asks_of_somebody(question))
        return sp_buffer_append(path, "/api/v1/limits", sizeof "/api/v1/limits");
    int r = sp_buffer_append_span(path, SP_SPAN("/api/v1/levels"));
    char separator = '?';
    for (size_t i = 0; i < SP_COUNT(facts) && r == 0; i++) {
        if (!facts[i].value)
            continue;
        r = sp_buffer_printf(path, "%c%s=", separator, facts[i].name);
        if (r == 0)
            r = put_escaped(path, facts[i].value);
        separator = '&';
    }
    return r == 0 ? sp_buffer_append(path, "", 1) : r;
}

/* ---- Cells ---- */

static json_t *joined(json_t *list) {
    char text[256] = "";
    size_t len = 0, i;
    json_t *item;
    json_array_foreach(list, i, item) {
        if (len < sizeof text)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", i > 0 ? "," : "", json_string_value(item));
    }
    return json_string(text);
}

static json_t *bucket_cell(json_t *bucket) {
    if (!json_is_object(bucket))
        return NULL;
    return json_sprintf("%s, burst %lld", json_string_value(json_object_get(bucket, "rate")),
                        (long long)json_integer_value(json_object_get(bucket, "burst")));
}

static json_t *mode_cell(json_t *limit) {
    const char *requests = json_string_value(json_object_get(json_object_get(limit, "requests"), "mode"));
    const char *tokens = json_string_value(json_object_get(json_object_get(limit, "tokens"), "mode"));
    if (requests && tokens && strcmp(requests, tokens) != 0)
        return json_sprintf("%s, tokens %s", requests, tokens);
    return json_string(requests ? requests : tokens ? tokens : json_string_value(json_object_get(limit, "mode")));
}

static json_t *duration_cell(json_t *ms) {
    long long value = json_integer_value(ms);
    if (!json_is_integer(ms) || value == 0)
        return NULL;
    if (value < 60000)
        return json_sprintf("%lld.%lld s", value / 1000, value % 1000 / 100);
    return value < 7200000 ? json_sprintf("%lld min", value / 60000) : json_sprintf("%lld h", value / 3600000);
}

static void set(json_t *row, const char *member, json_t *value) {
    if (value)
        json_object_set_new(row, member, value);
}

static void copy(json_t *row, json_t *from, const char *member) { json_object_set(row, member, json_object_get(from, member)); }

/* ---- Refusals ---- */

static void print_refusals(json_t *answer) {
    static const struct sp_column columns[] = {{"TIME", "time", false},     {"LIMIT", "limit", false},       {"OF", "kind", false},
                                               {"REASON", "reason", false}, {"ASKED", "asked", true},        {"LEFT", "left", true},
                                               {"WHO", "subject", false},   {"REQUEST", "request_id", false}};
    json_t *rows = json_array(), *refusal;
    size_t i;
    json_array_foreach(json_object_get(answer, "refusals"), i, refusal) {
        json_t *row = json_object(), *limit = json_object_get(refusal, "limit");
        bool shadow = json_is_true(json_object_get(refusal, "shadow"));
        copy(row, refusal, "time");
        set(row, "subject", sp_printable(json_string_value(json_object_get(refusal, "subject"))));
        set(row, "request_id", sp_printable(json_string_value(json_object_get(refusal, "request_id"))));
        set(row, "reason", shadow ? json_string("shadow") : sp_printable(json_string_value(json_object_get(refusal, "reason"))));
        if (json_is_object(limit)) {
            copy(row, limit, "kind");
            set(row, "limit", sp_printable(json_string_value(json_object_get(limit, "name"))));
            if (!shadow) {
                copy(row, limit, "asked");
                set(row, "left", json_incref(json_object_get(limit, "remaining")));
            }
        }
        json_array_append_new(rows, row);
    }
    sp_print_table("Last refusals (sallyport why REQUEST says more)", rows, columns, SP_COUNT(columns));
    json_decref(rows);
}

/* ---- All limits ---- */

static void print_limits(json_t *answer) {
    static const struct sp_column columns[] = {
        {"LIMIT", "name", false},          {"BY", "by", false},        {"REQUESTS", "requests", false}, {"TOKENS", "tokens", false},
        {"AT ONCE", "concurrency", true},  {"DECIDED", "mode", false}, {"ADMITTED", "admitted", true},  {"REFUSED", "refused", true},
        {"SHADOW", "shadow_refused", true}};
    json_t *redis = json_object_get(answer, "redis"), *decisions = json_object_get(answer, "decisions"), *rows = json_array(), *limit;
    size_t i;
    if (json_is_true(json_object_get(redis, "configured")))
        printf("Redis is %s. Decisions: %lld by leases, %lld by asking, %lld without Redis.\n",
               json_is_true(json_object_get(redis, "up")) ? "up" : "down: each limit does what its on_outage says",
               (long long)json_integer_value(json_object_get(decisions, "leased")),
               (long long)json_integer_value(json_object_get(decisions, "strict")),
               (long long)json_integer_value(json_object_get(decisions, "degraded")));
    else
        puts("Limits are kept in this machine's memory: no redis is configured.");
    json_array_foreach(json_object_get(answer, "limits"), i, limit) {
        json_t *row = json_object();
        static const char *const members[] = {"name", "concurrency", "admitted", "refused", "shadow_refused"};
        for (size_t j = 0; j < SP_COUNT(members); j++)
            copy(row, limit, members[j]);
        set(row, "by", joined(json_object_get(limit, "by")));
        set(row, "requests", bucket_cell(json_object_get(limit, "requests")));
        set(row, "tokens", bucket_cell(json_object_get(limit, "tokens")));
        set(row, "mode", mode_cell(limit));
        json_array_append_new(rows, row);
    }
    if (json_array_size(rows) == 0)
        puts("There are no limits.");
    sp_print_table("Limits", rows, columns, SP_COUNT(columns));
    json_decref(rows);
    print_refusals(answer);
}

/* ---- One subject ---- */

static void add_bucket(json_t *rows, json_t *level, const char *kind) {
    json_t *bucket = json_object_get(level, kind);
    if (!json_is_object(bucket))
        return;
    json_t *row = json_object();
    copy(row, level, "name");
    set(row, "kind", json_string(kind));
    copy(row, bucket, "level");
    copy(row, bucket, "burst");
    copy(row, bucket, "debt");
    copy(row, bucket, "leased");
    set(row, "full", duration_cell(json_object_get(bucket, "full_after_ms")));
    set(row, "refused", duration_cell(json_object_get(bucket, "refused_for_ms")));
    json_array_append_new(rows, row);
}

static void print_buckets(json_t *levels) {
    static const struct sp_column columns[] = {{"LIMIT", "name", false},  {"OF", "kind", false},           {"LEVEL", "level", true},
                                               {"BURST", "burst", true},  {"DEBT", "debt", true},          {"FULL IN", "full", true},
                                               {"AHEAD", "leased", true}, {"REFUSED FOR", "refused", true}};
    json_t *rows = json_array(), *level;
    size_t i;
    json_array_foreach(levels, i, level) {
        add_bucket(rows, level, "requests");
        add_bucket(rows, level, "tokens");
    }
    sp_print_table("Levels (AHEAD: tokens that this machine holds already)", rows, columns, SP_COUNT(columns));
    json_decref(rows);
}

static void print_places(json_t *levels) {
    static const struct sp_column columns[] = {
        {"LIMIT", "name", false}, {"USED", "used", true}, {"HAD", "had", true}, {"MOST", "most", true}};
    json_t *rows = json_array(), *level;
    size_t i;
    json_array_foreach(levels, i, level) {
        json_t *places = json_object_get(level, "concurrency"), *row = json_is_object(places) ? json_copy(places) : NULL;
        if (!row)
            continue;
        copy(row, level, "name");
        json_array_append_new(rows, row);
    }
    sp_print_table("Requests at one time (USED here; HAD here from Redis)", rows, columns, SP_COUNT(columns));
    json_decref(rows);
}

static void print_who(json_t *answer) {
    static const struct {
        const char *member, *name;
    } facts[] = {{"account", "Caller"}, {"tenant", "tenant"}, {"key_id", "key"}, {"model", "model"}, {"route", "route"}};
    const char *separator = "";
    for (size_t i = 0; i < SP_COUNT(facts); i++) {
        json_t *text = sp_printable(json_string_value(json_object_get(answer, facts[i].member)));
        if (json_string_length(text) > 0) {
            printf("%s%s %s", separator, facts[i].name, json_string_value(text));
            separator = ", ";
        }
        json_decref(text);
    }
    fputs(*separator ? "\n" : "", stdout);
}

static bool any(json_t *levels, const char *member) {
    json_t *level;
    size_t i;
    json_array_foreach(levels, i, level) {
        if (json_is_true(json_object_get(level, member)))
            return true;
    }
    return false;
}

static void print_levels(json_t *answer) {
    json_t *levels = json_object_get(answer, "limits"), *unseen;
    size_t i;
    print_who(answer);
    if (any(levels, "degraded"))
        puts("Redis did not say: this is what this machine knows.");
    if (json_array_size(levels) == 0)
        puts("No limit counts by what was given.");
    print_buckets(levels);
    print_places(levels);
    json_array_foreach(json_object_get(answer, "not_shown"), i, unseen) {
        json_t *needs = joined(json_object_get(unseen, "needs"));
        printf("%sLimit %s is not shown: it also counts by %s.\n", i == 0 ? "\n" : "", json_string_value(json_object_get(unseen, "name")),
               json_string_value(needs));
        json_decref(needs);
    }
    print_refusals(answer);
}

int sp_ctl_limits(const struct sp_gateway *gateway, const struct sp_limits_question *question, bool json) {
    _cleanup_(sp_buffer_free) struct sp_buffer path, answer;
    sp_buffer_init(&path, PATH_MAX_BYTES);
    sp_buffer_init(&answer, SP_ANSWER_MAX);
    if (write_path(question, &path) < 0)
        return sp_wrong_usage("ctl", "what is asked about is too long");
    long status = sp_gateway_ask(gateway, "GET", sp_buffer_span(&path).at, NULL, &answer);
    if (status < 0)
        return SP_EXIT_FAILED;
    return sp_gateway_show(gateway, status, sp_buffer_span(&answer), json,
                           sp_limits_asks_of_somebody(question) ? print_levels : print_limits);
}
