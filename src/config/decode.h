/* A checked document's JSON → structs, along the table. */
#ifndef SALLYPORT_CONFIG_DECODE_H
#define SALLYPORT_CONFIG_DECODE_H

#include "value.h"

/* Fills `into`, a zeroed struct of record->size. -EINVAL when the JSON is not what the table says, -ENOMEM. */
int sp_record_decode(const struct sp_decoding *decoding, const struct sp_record *record, const json_t *object, void *into) SP_MUST_USE;

#endif
