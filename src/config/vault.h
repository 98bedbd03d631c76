/* Memory that is given up all at once, and wiped then: snapshots hold secrets. One thread. */
#ifndef SALLYPORT_CONFIG_VAULT_H
#define SALLYPORT_CONFIG_VAULT_H

#include <sallyport/base.h>

struct sp_vault_chunk;
struct sp_vault {
    struct sp_vault_chunk *chunks;
};

/* Zeroed, 16-byte aligned; NULL: out of memory. */
void *sp_vault_alloc(struct sp_vault *vault, size_t size) SP_MUST_USE;
void *sp_vault_array(struct sp_vault *vault, size_t count, size_t size) SP_MUST_USE; /* also NULL on overflow */
char *sp_vault_text(struct sp_vault *vault, struct sp_span text) SP_MUST_USE;        /* NUL-terminated copy */
void sp_vault_free(struct sp_vault *vault);

#endif
