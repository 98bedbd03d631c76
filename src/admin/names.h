/* What limits count by, as JSON; shared by limits.c and levels.c. */
#ifndef SP_ADMIN_NAMES_H
#define SP_ADMIN_NAMES_H

#include <jansson.h>
#include <stdint.h>

json_t *sp_by_json(uint32_t by);

#endif
