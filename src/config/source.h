/* YAML text → JSON values, and where each of them stood. Knows no key of the configuration. */
#ifndef SALLYPORT_CONFIG_SOURCE_H
#define SALLYPORT_CONFIG_SOURCE_H

#include <jansson.h>

#include "findings.h"
#include "vault.h"

#define SP_YAML_DEPTH_MAX    16
#define SP_YAML_SCALAR_MAX   8192
#define SP_CONFIG_BYTES_MAX  (1024 * 1024)
#define SP_CONFIG_VALUES_MAX 50000

struct sp_source {
    const char *name;  /* stands for the file in messages; borrowed */
    unsigned order;    /* of this file among those with findings */
    json_t *root;      /* an object; mappings keep the order of their keys */
    bool may_be_empty; /* a file without any value is an empty mapping */
    bool whole;        /* it was read to its end, and is worth checking even where something in it was refused */
    struct sp_findings *findings;
    /* private: */
    struct sp_map places;
    struct sp_hash_key hash_key;
    struct sp_vault memory;
};

void sp_source_init(struct sp_source *source, const char *name, unsigned order, struct sp_findings *findings);
void sp_source_free(struct sp_source *source);
/* Refuses aliases, anchors, tags, merge keys, more than one document, duplicate keys, control characters, and whatever exceeds the maxima.
 * 0; -EINVAL with a finding (see `whole`); -ENOMEM. */
int sp_source_read(struct sp_source *source, struct sp_span yaml, size_t max_bytes, size_t max_values) SP_MUST_USE;

/* Whether the file gives this member, even where it has been refused and taken out since. */
bool sp_source_gives(const struct sp_source *source, const json_t *object, const char *key);
/* Where a member's key or value, or an item, stood. What the file does not say (a default) stands where its container begins. */
struct sp_place sp_source_key(const struct sp_source *source, const json_t *object, const char *key);
struct sp_place sp_source_value(const struct sp_source *source, const json_t *object, const char *key);
struct sp_place sp_source_item(const struct sp_source *source, const json_t *array, size_t index);
struct sp_place sp_source_container(const struct sp_source *source, const json_t *container);

#define sp_source_error(source, place, ...) sp_findings_add((source)->findings, (source)->name, (source)->order, (place), __VA_ARGS__)

#endif
