/* identity, the part that every process may hold: which API keys are revoked while a gateway runs. Ids only; no key, no I/O, no OpenSSL.
 * It must not know who said so, nor whom it is told. */
#ifndef SALLYPORT_REVOCATIONS_H
#define SALLYPORT_REVOCATIONS_H

#include <sallyport/base.h>
#include <sallyport/config.h>

#define SP_KEY_ID_LEN 8 /* base62 digits */
/* More than a configuration has keys: after sp_revocations_keep_known() there is always room for one more. */
#define SP_REVOCATIONS_MAX 16384

struct sp_revocation {
    char id[SP_KEY_ID_LEN]; /* not NUL-terminated */
    bool now;               /* what its callers have open ends too */
};

/* The id of an API key? */
bool sp_key_id_valid(struct sp_span id);

/* A set. What is in it stays: there is no way back for a key but a new one. */
struct sp_revocations;
int sp_revocations_new(struct sp_revocations **ret) SP_MUST_USE;
void sp_revocations_free(struct sp_revocations *revocations); /* takes NULL */
/* 1: this was news (also `now` for a key that was revoked without); 0: known. -EINVAL: no id; -ENOSPC: full; -ENOMEM. */
int sp_revocations_add(struct sp_revocations *revocations, const struct sp_revocation *revocation) SP_MUST_USE;
/* The hot path: asked for every request with an API key. NULL: not revoked. Until the next change. */
const struct sp_revocation *sp_revocations_find(const struct sp_revocations *revocations, struct sp_span id);
void sp_revocations_clear(struct sp_revocations *revocations); /* it is empty again */
size_t sp_revocations_count(const struct sp_revocations *revocations);
/* In the order of their ids; until the next change. */
const struct sp_revocation *sp_revocations_at(const struct sp_revocations *revocations, size_t i);
/* Forgets the ids of keys that `config` does not have: after it there is room. -ENOMEM changes nothing. */
int sp_revocations_keep_known(struct sp_revocations *revocations, const struct sp_config *config) SP_MUST_USE;
/* Is there a key with this id in the configuration, revoked or not? */
bool sp_key_id_known(const struct sp_config *config, const char id[SP_KEY_ID_LEN]);

#endif
