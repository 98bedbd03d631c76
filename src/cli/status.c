/* Tables, and what the admin API says in them. */
#include <stdio.h>

#include <sallyport/base.h>

#include "status.h"

static const char *cell(json_t *row, const char *member, char number[24]) {
    json_t *value = json_object_get(row, member);
    if (json_is_string(value))
        return json_string_value(value);
    if (json_is_integer(value)) {
        snprintf(number, 24, "%lld", (long long)json_integer_value(value));
        return number;
    }
    if (json_is_boolean(value))
        return json_is_true(value) ? "yes" : "no";
    return "-";
}

json_t *sp_printable(const char *text) {
    char *copy = text ? strdup(text) : NULL;
    size_t len = 0;
    for (const char *at = copy; at && *at; at++) {
        unsigned char c = (unsigned char)*at, next = (unsigned char)at[1];
        bool c1 = c == 0xc2 && next >= 0x80 && next < 0xa0;
        copy[len++] = c < 0x20 || c == 0x7f || c1 ? '?' : (char)c;
        at += c1;
    }
    json_t *printable = copy ? json_stringn(copy, len) : NULL;
    free(copy);
    return printable;
}

static void print_cell(const struct sp_column *column, int width, const char *text, bool last) {
    if (column->right)
        printf("  %*s", width, text);
    else if (last)
        printf("  %s", text);
    else
        printf("  %-*s", width, text);
}

void sp_print_table(const char *heading, json_t *rows, const struct sp_column *columns, size_t n) {
    int width[SP_COLUMNS_MAX];
    char number[24];
    json_t *row;
    size_t i;
    if (json_array_size(rows) == 0)
        return;
    for (size_t c = 0; c < n; c++)
        width[c] = (int)strlen(columns[c].title);
    json_array_foreach(rows, i, row) for (size_t c = 0; c < n; c++)
        width[c] = sp_max(width[c], (int)strlen(cell(row, columns[c].member, number)));
    printf("\n%s\n", heading);
    for (size_t c = 0; c < n; c++)
        print_cell(&columns[c], width[c], columns[c].title, c + 1 == n);
    putchar('\n');
    json_array_foreach(rows, i, row) {
        for (size_t c = 0; c < n; c++)
            print_cell(&columns[c], width[c], cell(row, columns[c].member, number), c + 1 == n);
        putchar('\n');
    }
}

static void print_duration(json_int_t seconds) {
    if (seconds >= 86400)
        printf("%lld d %lld h", (long long)seconds / 86400, (long long)seconds % 86400 / 3600);
    else if (seconds >= 3600)
        printf("%lld h %lld min", (long long)seconds / 3600, (long long)seconds % 3600 / 60);
    else if (seconds >= 60)
        printf("%lld min %lld s", (long long)seconds / 60, (long long)seconds % 60);
    else
        printf("%lld s", (long long)seconds);
}

static void print_head(json_t *answer) {
    char number[24];
    printf("Sallyport %s", cell(answer, "version", number));
    printf(", generation %s", cell(answer, "generation", number));
    printf(" of %s\n", cell(answer, "configuration", number));
    printf("%s, up ", json_is_true(json_object_get(answer, "draining"))  ? "draining"
                      : json_is_true(json_object_get(answer, "ready")) ? "ready"
                                                                         : "not ready");
    print_duration(json_integer_value(json_object_get(answer, "uptime_s")));
    json_t *workers = json_object_get(answer, "workers"), *redis = json_object_get(answer, "redis");
    printf(", %s connections", cell(workers, "connections", number));
    printf(", %s requests in flight\n", cell(workers, "exchanges", number));
    if (json_is_true(json_object_get(redis, "configured")))
        printf("Redis is %s\n", json_is_true(json_object_get(redis, "up")) ? "up" : "down: limits are degraded");
}

void sp_print_backends(json_t *answer) {
    static const struct sp_column columns[] = {
        {"POOL", "pool", false}, {"UP", "up", false}, {"PROBE", "probe", false}, {"SERVER", "server", false}};
    sp_print_table("Backends", json_object_get(answer, "backends"), columns, SP_COUNT(columns));
}

void sp_print_status(json_t *answer) {
    static const struct sp_column processes[] = {
        {"PROCESS", "role", false},    {"SLOT", "slot", true},           {"PID", "pid", true},
        {"RESTARTS", "restarts", true}, {"STARTED", "started", false}};
    static const struct sp_column limits[] = {{"LIMIT", "name", false},
                                           {"ADMITTED", "admitted", true},
                                           {"REFUSED", "refused", true},
                                           {"SHADOW", "shadow_refused", true}};
    static const struct sp_column models[] = {{"MODEL", "name", false},
                                           {"TOKENS IN", "tokens_in", true},
                                           {"TOKENS OUT", "tokens_out", true},
                                           {"ESTIMATED", "tokens_estimated", true},
                                           {"POOL", "pool", false}};
    static const struct sp_column queues[] = {{"QUEUE OF", "pool", false}, {"WAITING", "waiting", true}};
    static const struct sp_column routes[] = {{"ROUTE", "name", false}, {"REQUESTS", "requests", true}, {"2XX", "2xx", true},
                                           {"3XX", "3xx", true},     {"4XX", "4xx", true},           {"5XX", "5xx", true}};
    print_head(answer);
    sp_print_table("Processes", json_object_get(answer, "processes"), processes, SP_COUNT(processes));
    sp_print_table("Routes", json_object_get(answer, "routes"), routes, SP_COUNT(routes));
    sp_print_table("Models", json_object_get(answer, "models"), models, SP_COUNT(models));
    sp_print_table("Limits", json_object_get(answer, "limits"), limits, SP_COUNT(limits));
    sp_print_table("Queues", json_object_get(answer, "queues"), queues, SP_COUNT(queues));
    sp_print_backends(answer);
}
