/* What a check found: collected in any order, reported in the order of the file. */
#ifndef SALLYPORT_CONFIG_FINDINGS_H
#define SALLYPORT_CONFIG_FINDINGS_H

#include <sallyport/config.h>

#define SP_FINDINGS_MAX 500

struct sp_place {
    unsigned line, column; /* from 1 */
};

struct sp_finding;
struct sp_findings {
    struct sp_finding *item;
    size_t count, capacity;
    bool out_of_memory; /* something could not be noted */
};

/* `file` is borrowed until the findings are reported; `order` sorts files, the configuration itself being 0. */
void sp_findings_add(struct sp_findings *findings, const char *file, unsigned order, struct sp_place place, const char *format, ...)
    SP_PRINTF(5, 6);
/* Appends them to `errors` as lines. -EINVAL when there were any, 0 when none, -ENOMEM. */
int sp_findings_report(struct sp_findings *findings, struct sp_config_errors *errors) SP_MUST_USE;
void sp_findings_free(struct sp_findings *findings);

#endif
