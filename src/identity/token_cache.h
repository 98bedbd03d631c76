/* Tokens that were verified, found again by their SHA-256. */
#ifndef SALLYPORT_IDENTITY_TOKEN_CACHE_H
#define SALLYPORT_IDENTITY_TOKEN_CACHE_H

#include "issuer.h"

/* The principal of a token verified before, with a reference for the caller; NULL: not known, expired, or verified under another
 * configuration or key set of its issuer. */
struct sp_principal *sp_token_cache_find(struct sp_token_cache *cache, const struct sp_identity *identity, const uint8_t digest[32],
                                         uint64_t now_s) SP_MUST_USE;
/* Remembers it, taking a reference; forgets another if full. Out of memory: does not. */
void sp_token_cache_add(struct sp_token_cache *cache, const struct sp_identity *identity, const struct sp_issuer *issuer,
                        const uint8_t digest[32], struct sp_principal *principal);
struct sp_refused;
struct sp_refused *sp_token_cache_refused(struct sp_token_cache *cache); /* the cache's */
/* Grows with every sp_token_cache_empty(): what was derived from the cache before no longer counts. */
uint64_t sp_token_cache_epoch(const struct sp_token_cache *cache);

#endif
