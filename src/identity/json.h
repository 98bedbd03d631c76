/* JSON from strangers as a tree, where time does not count (see json_value.h): one object, no duplicate members, bounded depth, nothing after it. */
#ifndef SALLYPORT_IDENTITY_JSON_H
#define SALLYPORT_IDENTITY_JSON_H

#include "json_value.h"

#include <jansson.h>

/* NULL: not such an object, or out of memory. The caller's reference. */
json_t *sp_json_object(struct sp_span text) SP_MUST_USE;
/* The text of a JSON string; false for everything else. A string cannot hold NUL: jansson refuses it. */
bool sp_json_text(const json_t *value, struct sp_span *ret) SP_MUST_USE;
/* 1 to max bytes without control characters (C0, DEL, C1): fit for a log line, a header, a key in Redis. */
bool sp_plain_text(struct sp_span text, size_t max);
void sp_json_release(json_t **value); /* for _cleanup_ */

#endif
