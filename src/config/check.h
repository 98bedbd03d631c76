/* One document, checked against the table: defaults filled in, paths resolved, contents of files put in. */
#ifndef SALLYPORT_CONFIG_CHECK_H
#define SALLYPORT_CONFIG_CHECK_H

#include "source.h"
#include "table.h"

struct sp_check {
    struct sp_source *source;
    const char *directory; /* relative paths are taken from here; "" the working directory */
    bool read_files;
    bool out_of_memory;
};

/* Walks source->root along `record`: what is wrong is noted and taken out, what is left out gets its default. */
void sp_check_record(struct sp_check *check, const struct sp_record *record, json_t *object);

/* The document gets member "name@" in `object`, with where `name` stood. */
void sp_check_note_place(struct sp_check *check, const char *name, json_t *object, struct sp_place place);

/* cross.c: what no row can say alone. Notes what is wrong; copes with a document in which much is missing. */
void sp_check_across(struct sp_check *check);

/* files.c: contents of the file that `object`'s member `field` names → member field->contents. Notes what is wrong. */
void sp_check_file(struct sp_check *check, const struct sp_field *field, json_t *object, const char *path, struct sp_place place);
/* The bytes of a whole file: regular, at most `max`. 0 or -errno (-EFBIG, -EISDIR, -EINVAL not a regular file). Free with sp_free_secret().
 */
int sp_read_file(const char *path, size_t max, unsigned *ret_mode, char **ret, size_t *ret_len) SP_MUST_USE;
/* `path` as seen from `directory`; malloc. NULL: out of memory. */
char *sp_path_from(const char *directory, const char *path) SP_MUST_USE;

/* hint.c: what was probably meant. NULL: nothing is near. */
struct sp_nearest {
    struct sp_span asked;
    const char *best;
    size_t distance;
};
void sp_nearest_offer(struct sp_nearest *nearest, const char *candidate);
#define SP_HINT_MAX 192
/* " (did you mean `x`?)", or "" */
const char *sp_nearest_hint(const struct sp_nearest *nearest, char out[SP_HINT_MAX]);

#define sp_check_error(check, place, ...) sp_source_error((check)->source, place, __VA_ARGS__)

#endif
