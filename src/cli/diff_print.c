/* What sallyport diff found, as text. */
#include <stdio.h>

#include <sallyport/base.h>

#include "diff.h"
#include "replay.h"
#include "status.h"

static const char *text_of(json_t *object, const char *member) { return json_string_value(json_object_get(object, member)); }
static long long number_of(json_t *object, const char *member) { return (long long)json_integer_value(json_object_get(object, member)); }

static void put_text(const char *text) {
    json_t *printable = sp_printable(text);
    fputs(printable ? json_string_value(printable) : "?", stdout);
    json_decref(printable);
}

/* ---- Limits ---- */

static void print_field(json_t *field) {
    const char *old = text_of(field, "old"), *new = text_of(field, "new"), *effect = text_of(field, "effect");
    printf("    %s %s -> %s", text_of(field, "field"), old && *old ? old : "none", new && *new ? new : "none");
    if (effect)
        printf(": %s", effect);
    putchar('\n');
}

static void print_limits(json_t *limits) {
    json_t *limit, *field;
    size_t i, j;
    puts(json_array_size(limits) ? "Limits" : "There are no limits.");
    json_array_foreach(limits, i, limit) {
        printf("  %s: %s", text_of(limit, "name"), text_of(limit, "change"));
        if (text_of(limit, "is"))
            printf(" (%s): %s", text_of(limit, "is"), text_of(limit, "effect"));
        putchar('\n');
        json_array_foreach(json_object_get(limit, "fields"), j, field) print_field(field);
    }
}

static void print_sections(json_t *sections) {
    const char *name;
    json_t *lines, *line;
    size_t i;
    if (json_object_size(sections) > 0)
        puts("\nElsewhere");
    json_object_foreach(sections, name, lines) {
        printf("  %s: ", name);
        json_array_foreach(lines, i, line) {
            fputs(i > 0 ? "; " : "", stdout);
            put_text(json_string_value(line));
        }
        putchar('\n');
    }
}

void sp_diff_print(json_t *diff) {
    printf("Generation %lld of %s would become ", number_of(diff, "generation"), text_of(diff, "running") ? text_of(diff, "running") : "?");
    printf("%s.\n%s\n", text_of(diff, "file"), json_is_true(json_object_get(diff, "same")) ? "Nothing would change.\n" : "");
    print_limits(json_object_get(diff, "limits"));
    if (json_is_true(json_object_get(diff, "store_moves")))
        puts("  Buckets would be kept elsewhere (redis): everybody begins with full ones there.");
    print_sections(json_object_get(diff, "sections"));
    if (json_object_get(diff, "replay"))
        sp_replay_print(json_object_get(diff, "replay"));
}

/* ---- Replay ---- */

static void print_callers(json_t *limit, const char *member, const char *count, const char *heading) {
    json_t *callers = json_object_get(limit, member), *caller;
    size_t i;
    if (json_array_size(callers) == 0)
        return;
    printf("\n  %s by %s, %lld in all:\n", heading, text_of(limit, "name"), number_of(limit, count));
    json_array_foreach(callers, i, caller) {
        printf("    %8lld of %lld  ", number_of(caller, "refused"), number_of(caller, "requests"));
        put_text(text_of(caller, "who"));
        putchar('\n');
    }
}

static void print_counts(json_t *limits) {
    static const struct sp_column columns[] = {
        {"LIMIT", "name", false},   {"REQUESTS", "requests", true}, {"REFUSED IN LOG", "log", true},  {"REFUSED NOW", "now", true},
        {"WITH FILE", "new", true}, {"NEWLY", "newly", true},       {"NO LONGER", "no_longer", true}, {"SHADOW WITH FILE", "shadow", true}};
    json_t *rows = json_array(), *limit;
    size_t i;
    json_array_foreach(limits, i, limit) {
        json_t *now = json_object_get(limit, "now"), *new = json_object_get(limit, "new"), *row = json_object();
        json_object_set(row, "name", json_object_get(limit, "name"));
        json_object_set(row, "requests", json_object_get(new ? new : now, "requests"));
        json_object_set(row, "log", json_object_get(limit, "refused_in_log"));
        if (now)
            json_object_set(row, "now", json_object_get(now, "refused"));
        if (new) {
            json_object_set(row, "new", json_object_get(new, "refused"));
            json_object_set(row, "shadow", json_object_get(new, "shadow_refused"));
        }
        if (json_object_get(limit, "newly"))
            json_object_set(row, "newly", json_object_get(limit, "newly"));
        if (json_object_get(limit, "no_longer"))
            json_object_set(row, "no_longer", json_object_get(limit, "no_longer"));
        json_array_append_new(rows, row);
    }
    sp_print_table("Replayed, with full buckets at the beginning", rows, columns, SP_COUNT(columns));
    json_decref(rows);
}

static void print_unsure(json_t *replay) {
    static const struct {
        const char *member, *text;
    } reasons[] = {
        {"refused_in_log", "were refused then: what they would have used is taken from their caller's others"},
        {"roles_unknown", "came with a token or certificate, whose roles the log does not have (see --role)"},
        {"route_unknown", "were on routes that FILE does not have, and are asked about nothing there"},
        {"out_of_order", "were too far out of order and count as later than they were"},
        {"no_room", "decisions of a limit are left out, because there were too many callers to remember"},
    };
    json_t *unsure = json_object_get(replay, "unsure");
    puts("\n  Assumed: limits on tokens take what was used, not what was reserved for it; the roles of API keys are\n"
         "  those in FILE's api_keys.");
    for (size_t i = 0; i < SP_COUNT(reasons); i++)
        if (number_of(unsure, reasons[i].member) > 0)
            printf("  Note: %lld %s.\n", number_of(unsure, reasons[i].member), reasons[i].text);
}

void sp_replay_print(json_t *replay) {
    json_t *limit;
    size_t i;
    printf("\nReplay of %lld lines", number_of(replay, "lines"));
    if (number_of(replay, "skipped") > 0)
        printf(" (%lld of them torn, or no lines of an access log)", number_of(replay, "skipped"));
    if (text_of(replay, "from"))
        printf(", from %s to %s", text_of(replay, "from"), text_of(replay, "to"));
    printf("\n  %lld requests asked limits. Refused: %lld in the log, %lld with the limits in force, %lld with FILE:\n"
           "  %lld newly, %lld no longer.\n",
           number_of(replay, "requests"), number_of(replay, "refused_in_log"), number_of(replay, "refused_now"),
           number_of(replay, "refused_new"), number_of(replay, "newly_refused"), number_of(replay, "no_longer_refused"));
    print_counts(json_object_get(replay, "limits"));
    json_array_foreach(json_object_get(replay, "limits"), i, limit) {
        print_callers(limit, "newly_refused", "newly", "Newly refused");
        print_callers(limit, "no_longer_refused", "no_longer", "No longer refused");
    }
    print_unsure(replay);
}
