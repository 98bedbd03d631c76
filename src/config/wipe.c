/* jansson's memory, wiped when it is given up. */
#include <jansson.h>
#include <malloc.h>

#include <sallyport/config.h>

/* malloc_usable_size() rather than a length kept in front, so that jansson's memory stays malloc's: what json_dumps() returns may be
 * handed to free(). */
static void wipe_and_free(void *memory) {
    if (memory)
        sp_wipe(memory, malloc_usable_size(memory));
    free(memory);
}

void sp_config_wipe_json(void) {
    size_t seed = 0;
    while (seed == 0) /* which would mean: choose one, by opening /dev/urandom */
        sp_random(&seed, sizeof seed);
    json_set_alloc_funcs(malloc, wipe_and_free);
    json_object_seed(seed);
}
