/* All sections but limits, in one line for each thing that differs. */
#include "diff.h"

#include <stdarg.h>
#include <stdio.h>

#include <sallyport/base.h>

enum { LEVELS_MAX = 16, PATH_MAX_BYTES = 128, VALUE_MAX = 60, LINE_MAX_BYTES = 512 };

/* A line that is being written; what does not fit is left out. */
struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

static void put(struct line *line, const char *format, ...) SP_PRINTF(2, 3);
static void put(struct line *line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line->text + line->len, sizeof line->text - line->len, format, arguments);
    va_end(arguments);
    line->len = sp_min(line->len + (size_t)sp_max(n, 0), sizeof line->text - 1);
}

/* "old -> new" where both are short, else that it changed. */
static void put_change(struct line *line, const char *name, json_t *old, json_t *new) {
    char *before = old ? json_dumps(old, JSON_ENCODE_ANY) : NULL, *after = new ? json_dumps(new, JSON_ENCODE_ANY) : NULL;
    bool hidden = strstr(name, "(contents)") || (before && strlen(before) > VALUE_MAX) || (after && strlen(after) > VALUE_MAX);
    put(line, "%s%s", line->len > 0 ? ", " : "", name);
    if (hidden)
        put(line, " changed");
    else
        put(line, " %s -> %s", before ? before : "none", after ? after : "none");
    free(before);
    free(after);
}

/* Two records to compare, and what their members' names begin with. */
struct level {
    json_t *old, *new;
    char prefix[PATH_MAX_BYTES];
};

static void name_member(char path[PATH_MAX_BYTES], const char *prefix, const char *name) {
    if (snprintf(path, PATH_MAX_BYTES, "%s%s%s", prefix, *prefix ? "." : "", name) >= PATH_MAX_BYTES)
        memcpy(path + PATH_MAX_BYTES - 4, "...", 4);
}

/* One record: what differs is put, records within wait in `within`. */
static size_t put_level(struct line *line, const struct level *level, struct level *within, size_t room) {
    const char *name;
    json_t *value;
    char path[PATH_MAX_BYTES];
    size_t n = 0;
    json_object_foreach(level->new, name, value) {
        json_t *before = json_object_get(level->old, name);
        if (json_equal(before, value))
            continue;
        name_member(path, level->prefix, name);
        if (!json_is_object(before) || !json_is_object(value) || n == room) {
            put_change(line, path, before, value);
            continue;
        }
        within[n] = (struct level){.old = before, .new = value};
        memcpy(within[n++].prefix, path, sizeof path);
    }
    json_object_foreach(level->old, name, value) if (!json_object_get(level->new, name)) {
        name_member(path, level->prefix, name);
        put_change(line, path, value, NULL);
    }
    return n;
}

/* Members that differ, those of records within as "timeouts.total"; more records than there is room for are told whole. */
static void put_members(struct line *line, json_t *old, json_t *new) {
    struct level levels[LEVELS_MAX] = {{.old = old, .new = new}};
    for (size_t at = 0, n = 1; at < n; at++)
        n += put_level(line, &levels[at], &levels[n], LEVELS_MAX - n);
}

static void add_item(json_t *lines, const char *name, json_t *old, json_t *new) {
    struct line line = {0};
    if (!old || !new) {
        json_array_append_new(lines, json_sprintf("%c%s", new ? '+' : '-', name));
    } else if (!json_equal(old, new)) {
        put_members(&line, old, new);
        json_array_append_new(lines, json_sprintf("%s: %s", name, line.text));
    }
}

static void compare_map(json_t *lines, json_t *old, json_t *new) {
    const char *name;
    json_t *value;
    json_object_foreach(new, name, value) add_item(lines, name, json_object_get(old, name), value);
    json_object_foreach(old, name, value) if (!json_object_get(new, name)) add_item(lines, name, value, NULL);
}

/* Items of a list have a name of one kind or another. */
static const char *name_of(json_t *item) {
    static const char *const members[] = {"name", "address", "issuer"};
    const char *name = NULL;
    for (size_t i = 0; i < SP_COUNT(members) && !name; i++)
        name = json_string_value(json_object_get(item, members[i]));
    return name ? name : "?";
}

static json_t *by_name(json_t *list, const char *name) {
    json_t *item;
    size_t i;
    json_array_foreach(list, i, item) if (strcmp(name_of(item), name) == 0) return item;
    return NULL;
}

/* What both have stands in another order: of routes the first that matches wins. */
static bool order_differs(json_t *old, json_t *new) {
    json_t *item;
    size_t i, at = 0;
    json_array_foreach(new, i, item) {
        if (!by_name(old, name_of(item)))
            continue;
        while (at < json_array_size(old) && !by_name(new, name_of(json_array_get(old, at))))
            at++;
        if (strcmp(name_of(json_array_get(old, at++)), name_of(item)) != 0)
            return true;
    }
    return false;
}

static void compare_list(json_t *lines, json_t *old, json_t *new) {
    json_t *item;
    size_t i;
    json_array_foreach(new, i, item) add_item(lines, name_of(item), by_name(old, name_of(item)), item);
    json_array_foreach(old, i, item) if (!by_name(new, name_of(item))) add_item(lines, name_of(item), item, NULL);
    if (order_differs(old, new))
        json_array_append_new(lines, json_string("the order"));
}

static bool is_map(const char *section) {
    return strcmp(section, "roles") == 0 || strcmp(section, "pools") == 0 || strcmp(section, "models") == 0;
}

static void compare_section(json_t *sections, const char *name, json_t *old, json_t *new) {
    struct line line = {0};
    json_t *lines = json_array();
    if (is_map(name)) {
        compare_map(lines, old, new);
    } else if (json_is_array(new) || json_is_array(old)) {
        compare_list(lines, old, new);
    } else {
        if (json_is_object(old) && json_is_object(new))
            put_members(&line, old, new);
        else if (json_is_object(old) || json_is_object(new))
            put(&line, "%s", new ? "added" : "removed");
        else
            put_change(&line, name, old, new);
        json_array_append_new(lines, json_string(line.text));
    }
    json_object_set_new(sections, name, lines);
}

json_t *sp_diff_sections(json_t *old, json_t *new) {
    json_t *sections = json_object(), *value;
    const char *name;
    json_object_foreach(new, name, value) if (strcmp(name, "limits") != 0 && !json_equal(value, json_object_get(old, name)))
        compare_section(sections, name, json_object_get(old, name), value);
    json_object_foreach(old, name, value) if (strcmp(name, "limits") != 0 && !json_object_get(new, name))
        compare_section(sections, name, value, NULL);
    return sections;
}

bool sp_diff_moves_store(json_t *old, json_t *new) {
    static const char *const where[] = {"url", "sentinel", "cluster", "prefix"};
    json_t *before = json_object_get(old, "redis"), *after = json_object_get(new, "redis");
    if (!before != !after)
        return true;
    for (size_t i = 0; i < SP_COUNT(where); i++) {
        json_t *a = json_object_get(before, where[i]), *b = json_object_get(after, where[i]);
        if (a != b && !json_equal(a, b))
            return true;
    }
    return false;
}
