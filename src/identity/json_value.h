/* JSON from strangers, read without a tree: its values stand one after the other in memory of the caller's, each container before what is in
 * it, and their texts stay where they are. One object to the letter of RFC 8259, nothing after it; refused besides: a name that occurs twice
 * in one object, NUL (escaped too), a lone surrogate, numbers that neither an int64_t nor a double holds, what is nested deeper than
 * SP_JSON_DEPTH_MAX. Pure. */
#ifndef SALLYPORT_IDENTITY_JSON_VALUE_H
#define SALLYPORT_IDENTITY_JSON_VALUE_H

#include <sallyport/base.h>

#define SP_JSON_DEPTH_MAX 16

enum sp_json_kind { SP_JSON_NULL, SP_JSON_FALSE, SP_JSON_TRUE, SP_JSON_INTEGER, SP_JSON_REAL, SP_JSON_STRING, SP_JSON_ARRAY, SP_JSON_OBJECT };

struct sp_json_value {
    enum sp_json_kind kind;
    uint32_t size;       /* itself and all that is in it, in values */
    struct sp_span name; /* of a member; decoded. Empty: an element */
    union {
        struct sp_span text; /* STRING; decoded, UTF-8, without NUL */
        int64_t integer;     /* INTEGER: a number written without fraction and exponent */
        double real;
    };
};

/* How many a text of so many bytes can begin: with what parts them they take two bytes each, but for what the innermost one lies in. */
#define SP_JSON_VALUES_MAX(len) ((len) / 2 + SP_JSON_DEPTH_MAX + 2)

/* Reads `text` into `values`, which has room for SP_JSON_VALUES_MAX(len) of them; the object is the first. Strings are decoded in place: the
 * text is changed, must outlive the values, and has room for a byte more. False: not such an object, or out of memory. */
bool sp_json_value_read(char *text, size_t len, struct sp_json_value *values) SP_MUST_USE;

/* Below, NULL stands for a value that is not there. */
const struct sp_json_value *sp_json_value_member(const struct sp_json_value *object, struct sp_span name); /* NULL also of what is no object */
static inline bool sp_json_value_is(const struct sp_json_value *value, enum sp_json_kind kind) { return value && value->kind == kind; }
bool sp_json_value_text(const struct sp_json_value *value, struct sp_span *ret); /* false for all but strings */
/* What is directly in a container. */
#define sp_json_value_each(it, container) \
    for (const struct sp_json_value *it = (container) + 1; it != (container) + (container)->size; it += it->size)

#endif
