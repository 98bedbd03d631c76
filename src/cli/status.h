/* The admin API's answers as text for people. */
#ifndef SALLYPORT_CLI_STATUS_H
#define SALLYPORT_CLI_STATUS_H

#include <jansson.h>

void sp_print_status(json_t *answer);
void sp_print_backends(json_t *answer);

#endif
