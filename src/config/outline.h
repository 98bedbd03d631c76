/* What sp_config.outline holds. */
#ifndef SALLYPORT_CONFIG_OUTLINE_H
#define SALLYPORT_CONFIG_OUTLINE_H

#include <jansson.h>

#include "vault.h"

/* Of a checked document; *ret belongs to the vault. -ENOMEM. */
int sp_outline(const json_t *root, struct sp_vault *vault, const char **ret) SP_MUST_USE;

#endif
