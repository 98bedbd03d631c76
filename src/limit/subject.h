/* Whose bucket it is: the facts that a limit counts by, as a hash for this machine's table and as a key in Redis.
 *
 * A key in Redis is  <prefix><limit's name>:<subject>  where subject is one or more of these, parted by commas, in this order:
 *     s=<subject>  t=<tenant>  k=<key id>  m=<model>  r=<route>  a=<address>  g      (by: global)
 * Bytes other than letters, digits and . _ @ / + - are written %XX (upper case), so nothing a client sends can mean another key; addresses
 * are literal, IPv6 as its /64 ("2001:db8:0:1::/64"). A subject longer than SP_SUBJECT_TEXT_MAX bytes becomes # and its SHA-256 in hex. An
 * empty fact is counted like any other: all callers without a tenant share one bucket of a limit by tenant. */
#ifndef SP_LIMIT_SUBJECT_H
#define SP_LIMIT_SUBJECT_H

#include <sallyport/limit.h>

#define SP_SUBJECT_TEXT_MAX 128
#define SP_REDIS_KEY_MAX    1024 /* prefix, name and subject; a longer prefix or name is not a key (-ENAMETOOLONG) */

/* Equal facts, equal hash; `by` is part of it. Allocates nothing. */
uint64_t sp_subject_hash(const struct sp_hash_key *hash_key, uint32_t by, const struct sp_limit_facts *facts);
/* Writes the key, without NUL; its length, or -ENAMETOOLONG, or -EIO when SHA-256 fails. */
ssize_t sp_subject_redis_key(const char *prefix, const struct sp_limit_config *limit, const struct sp_limit_facts *facts,
                             char out[SP_REDIS_KEY_MAX]) SP_MUST_USE;

#endif
