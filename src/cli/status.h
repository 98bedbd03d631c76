/* The admin API's answers as text for people. */
#ifndef SALLYPORT_CLI_STATUS_H
#define SALLYPORT_CLI_STATUS_H

#include <jansson.h>
#include <stdbool.h>

/* Columns as wide as their widest cell; what a row does not have is a dash. Nothing is said of no rows. */
#define SP_COLUMNS_MAX 10
struct sp_column {
    const char *title, *member;
    bool right; /* numbers */
};
void sp_print_table(const char *heading, json_t *rows, const struct sp_column *columns, size_t n);
/* As JSON, with a ? for what a terminal would obey: clients chose some of it. NULL stays NULL. */
json_t *sp_printable(const char *text);

void sp_print_status(json_t *answer);
void sp_print_backends(json_t *answer);

#endif
