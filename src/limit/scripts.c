#include <sallyport/base.h>

#include "script.h"

const struct sp_redis_script sp_redis_scripts[] = {
    {sp_token_bucket_script, sp_token_bucket_sha1},
    {sp_places_script, sp_places_sha1},
};
const size_t sp_redis_n_scripts = SP_COUNT(sp_redis_scripts);

_Static_assert(SP_COUNT(sp_redis_scripts) <= SP_REDIS_SCRIPTS_MAX, "each has a place");
