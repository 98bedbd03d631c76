/* The scripts without their comments, as Redis gets them; made at build time by embed.py. */
#ifndef SP_LIMIT_SCRIPT_H
#define SP_LIMIT_SCRIPT_H

#include <stddef.h>

extern const char sp_token_bucket_script[];
extern const size_t sp_token_bucket_script_len;
extern const char sp_token_bucket_sha1[]; /* 40 hex digits */
extern const char sp_places_script[];
extern const size_t sp_places_script_len;
extern const char sp_places_sha1[];
extern const char sp_revoke_script[];
extern const size_t sp_revoke_script_len;
extern const char sp_revoke_sha1[];

/* Those that are called by their SHA-1: every connection brings all of them. */
#define SP_REDIS_SCRIPTS_MAX 8
struct sp_redis_script {
    const char *text, *sha1;
};
extern const struct sp_redis_script sp_redis_scripts[];
extern const size_t sp_redis_n_scripts;

#endif
