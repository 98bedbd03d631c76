/* JSON values → members of C structs, as a row of the table says. One function per kind, used for checking and for decoding alike. */
#ifndef SALLYPORT_CONFIG_VALUE_H
#define SALLYPORT_CONFIG_VALUE_H

#include "table.h"

#define SP_SCALAR_MAX 64 /* no member of a scalar kind is larger */

/* One scalar, or one item of a list of them; `into` has the size of the row's member, or is NULL: only checked.
 * 0; -EINVAL: not of that kind or form; -ERANGE; -ENOTSUP: a choice that is not yet supported; -ENOMEM. */
int sp_scalar_read(struct sp_vault *vault, const struct sp_field *field, const json_t *value, void *into) SP_MUST_USE;

struct sp_decoding {
    struct sp_vault *vault;
    const json_t *root;       /* where names are looked up */
    struct sp_config *config; /* where pools are found, decoded before the routes that name them */
};
/* Any value, of a list of scalars too, but not of what is made of fields. `object` is what the value is a member of. */
int sp_value_read(const struct sp_decoding *decoding, const struct sp_field *field, const json_t *object, const json_t *value,
                  void *into) SP_MUST_USE;

/* The how-manieth member of root's object `section` has this name. */
bool sp_name_index(const json_t *root, const char *section, const char *name, size_t *ret);
/* The section that a kind's names refer to; NULL: they refer to nothing. */
const char *sp_kind_refers_to(enum sp_kind kind);

static inline struct sp_span sp_json_span(const json_t *text) { return sp_span(json_string_value(text), json_string_length(text)); }

#endif
