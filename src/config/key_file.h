/* The file of API keys, as the configuration reads it. */
#ifndef SALLYPORT_CONFIG_KEY_FILE_H
#define SALLYPORT_CONFIG_KEY_FILE_H

#include "source.h"

/* Reads and checks the file `source` is named after; then source->root holds "keys", a list without errors as far as findings say.
 * 0; -errno of opening it, -EINVAL, -EFBIG: with a finding; -ENOMEM. */
int sp_keys_read(struct sp_source *source) SP_MUST_USE;

#endif
