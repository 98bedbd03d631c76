/* Whose bucket it is: the facts that a limit counts by, as a hash for this machine's table and as a key in Redis.
 *
 * Keys in Redis:  <prefix><limit's name>:{<subject>}      what the limit says of requests
 *                 <prefix><limit's name>:{<subject>}:t    of tokens
 *                 <prefix><limit's name>:{<subject>}:c    of requests at one time
 * where subject is one or more of these, parted by commas, in this order:
 *     s=<subject>  t=<tenant>  k=<key id>  m=<model>  r=<route>  a=<address>  g      (by: global)
 * So a caller has one key for each thing that each of its limits bounds, and a cluster keeps all that concern one subject in one slot, for
 * what is in braces is all that the slot is told by. A key of requests or tokens goes when its bucket would be full again, and not before
 * whoever settled lately could repeat it (token_bucket.lua); one of requests at one time when no gateway holds a place (slots.h).
 *
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
/* Writes the key, without NUL; its length, or -ENAMETOOLONG, or -EIO when SHA-256 fails. prefix "": the key as it is known before that. */
ssize_t sp_subject_redis_key(const char *prefix, const struct sp_limit_config *limit, enum sp_limit_kind kind,
                             const struct sp_limit_facts *facts, char out[SP_REDIS_KEY_MAX]) SP_MUST_USE;
/* The key of another kind of the same limit and subject, in place of this one's `len` bytes; its length. */
size_t sp_subject_other_kind(char key[SP_REDIS_KEY_MAX], size_t len, enum sp_limit_kind kind, enum sp_limit_kind other);
/* Whether a key without its prefix is one of this limit, and of what: 0, with *ret_kind set, or -ENOENT. */
int sp_subject_key_kind(struct sp_span key, const struct sp_limit_config *limit, enum sp_limit_kind *ret_kind) SP_MUST_USE;

#endif
