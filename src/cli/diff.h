/* sallyport diff: what a reload would change, as JSON, from two configurations told alike (see sp_limit_policies_json() and
 * sp_config.outline). Pure: asks nobody, prints nothing. What memory does not suffice for is missing in it. */
#ifndef SALLYPORT_CLI_DIFF_H
#define SALLYPORT_CLI_DIFF_H

#include <jansson.h>
#include <stdbool.h>

/* Limit by limit, in the order of the new one, then those removed: {"name", "change": "added" | "removed" | "changed" | "unchanged",
 * "effect"?, "fields": [{"field", "old", "new", "effect"}]}; old and new are text, null: not there. */
json_t *sp_diff_limits(json_t *old, json_t *new);
/* Every other section that differs, by its name: a list of what does, one text each. */
json_t *sp_diff_sections(json_t *old, json_t *new);
/* Whether buckets, with their levels, are kept elsewhere from the reload on. */
bool sp_diff_moves_store(json_t *old, json_t *new);
bool sp_diff_limits_differ(json_t *limits);

void sp_diff_print(json_t *diff); /* the whole answer as text */

#endif
