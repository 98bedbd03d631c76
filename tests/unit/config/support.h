/* What the tests of the configuration share. */
#ifndef TEST_CONFIG_SUPPORT_H
#define TEST_CONFIG_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sallyport/config.h>

/* A configuration that is right, in sections; what is added to it begins in line 9. */
#define LISTENERS                                                                                                                          \
    "listeners:\n"                                                                                                                         \
    "  - address: 127.0.0.1:8443\n"                                                                                                        \
    "    certificates: [{chain: c.pem, key: k.pem}]\n"
#define POOLS                                                                                                                              \
    "pools:\n"                                                                                                                             \
    "  p: {servers: [{url: \"http://127.0.0.1:8000\"}]}\n"
#define ROUTES                                                                                                                             \
    "routes:\n"                                                                                                                            \
    "  - {name: r, path: /, authenticate: [none], pool: p}\n"
#define BASE "version: 1\n" LISTENERS POOLS ROUTES

/* Without reading files. Names the text "t". */
int load_text(const char *yaml, const struct sp_document *previous, struct sp_config_errors *errors, struct sp_document **ret);
struct sp_document *load_right(const char *yaml, const struct sp_document *previous); /* fails the test on errors */
struct sp_config *decode(const struct sp_document *document, enum sp_config_reader reader);
struct sp_config *config_of(const char *yaml); /* loaded and decoded for a worker */

/* The errors of `yaml` are exactly these lines, in this order; NULL ends them. */
void assert_errors(const char *yaml, const char *const *lines);
#define ASSERT_ERRORS(yaml, ...) assert_errors(yaml, (const char *const[]){__VA_ARGS__, NULL})
/* The same for a file on disk, as sp_config_load() sees it. */
void assert_load_errors(const char *path, const char *const *lines);

/* A folder of its own for one test, removed with all in it. */
struct folder {
    char path[64];
};
void folder_make(struct folder *folder);
void folder_remove(struct folder *folder);
/* The path of `name` in it; static memory, four calls long. */
const char *in_folder(const struct folder *folder, const char *name);
void folder_write(const struct folder *folder, const char *name, const char *text, unsigned mode);
char *file_text(const char *path); /* malloc; fails the test */

#endif
