#include <errno.h>
#include <stdio.h>

#include "findings.h"

struct sp_finding {
    char *line;
    unsigned file_order;
    struct sp_place place;
    size_t noted; /* keeps what stands at one place in the order it was found */
};

static int make_room(struct sp_findings *findings) {
    if (findings->count < findings->capacity)
        return 0;
    size_t capacity = findings->capacity ? findings->capacity * 2 : 16;
    struct sp_finding *item = reallocarray(findings->item, capacity, sizeof *item);
    if (!item)
        return -ENOMEM;
    findings->item = item;
    findings->capacity = capacity;
    return 0;
}

void sp_findings_add(struct sp_findings *findings, const char *file, unsigned order, struct sp_place place, const char *format, ...) {
    if (findings->count > SP_FINDINGS_MAX)
        return;
    _cleanup_(sp_free_pointer) char *message = NULL;
    if (findings->count == SP_FINDINGS_MAX) {
        message = strdup("too many errors; the rest is not shown");
        order = UINT32_MAX;
    } else {
        va_list arguments;
        va_start(arguments, format);
        if (vasprintf(&message, format, arguments) < 0)
            message = NULL;
        va_end(arguments);
    }
    _cleanup_(sp_free_pointer) char *line = NULL;
    if (!message || asprintf(&line, "%s:%u:%u: %s", file, place.line, place.column, message) < 0 || make_room(findings) < 0) {
        findings->out_of_memory = true;
        return;
    }
    findings->item[findings->count] = (struct sp_finding){sp_take(line), order, place, findings->count};
    findings->count++;
}

static int compare(const void *left, const void *right) {
    const struct sp_finding *a = left, *b = right;
    if (a->file_order != b->file_order)
        return a->file_order < b->file_order ? -1 : 1;
    if (a->place.line != b->place.line)
        return a->place.line < b->place.line ? -1 : 1;
    if (a->place.column != b->place.column)
        return a->place.column < b->place.column ? -1 : 1;
    return a->noted < b->noted ? -1 : a->noted > b->noted;
}

int sp_findings_report(struct sp_findings *findings, struct sp_config_errors *errors) {
    if (findings->out_of_memory)
        return -ENOMEM;
    if (findings->count == 0)
        return 0;
    char **line = reallocarray(errors->line, errors->count + findings->count, sizeof *line);
    if (!line)
        return -ENOMEM;
    errors->line = line;
    qsort(findings->item, findings->count, sizeof *findings->item, compare);
    for (size_t i = 0; i < findings->count; i++)
        errors->line[errors->count++] = sp_take(findings->item[i].line);
    return -EINVAL;
}

void sp_findings_free(struct sp_findings *findings) {
    for (size_t i = 0; i < findings->count; i++)
        free(findings->item[i].line);
    free(findings->item);
    *findings = (struct sp_findings){0};
}

void sp_config_errors_free(struct sp_config_errors *errors) {
    for (size_t i = 0; i < errors->count; i++)
        free(errors->line[i]);
    free(errors->line);
    *errors = (struct sp_config_errors){0};
}
