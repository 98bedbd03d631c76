/* The scripts without their comments, as Redis gets them; made at build time by embed.py. */
#ifndef SP_LIMIT_SCRIPT_H
#define SP_LIMIT_SCRIPT_H

#include <stddef.h>

extern const char sp_token_bucket_script[];
extern const size_t sp_token_bucket_script_len;
extern const char sp_token_bucket_sha1[]; /* 40 hex digits */
extern const char sp_revoke_script[];
extern const size_t sp_revoke_script_len;
extern const char sp_revoke_sha1[];

#endif
