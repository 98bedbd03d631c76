/* What a token says, judged by what its issuer's configuration asks for (RFC 7519 §4.1, RFC 9068 §4). Pure. */
#ifndef SALLYPORT_IDENTITY_CLAIMS_H
#define SALLYPORT_IDENTITY_CLAIMS_H

#include "json_value.h"

#include <sallyport/identity.h>

#define SP_CLAIM_TEXT_MAX 255 /* subject and tenant, in bytes; OpenID Connect Core §2 allows a sub no more */

/* Audience and times. OK, with the Unix time from which the token is no longer accepted; otherwise INVALID or EXPIRED with a reason.
 * EXPIRED only if nothing else is wrong here. */
enum sp_auth_verdict sp_claims_check(const struct sp_issuer_config *issuer, const struct sp_json_value *claims, uint64_t now_s,
                                     uint64_t *ret_expires_at_s, const char **ret_reason) SP_MUST_USE;
/* The same for an introspection answer (RFC 7662 §2.2), which may leave out exp: then *ret_expires_at_s is UINT64_MAX. */
enum sp_auth_verdict sp_claims_check_answer(const struct sp_issuer_config *issuer, const struct sp_json_value *claims, uint64_t now_s,
                                            uint64_t *ret_expires_at_s, const char **ret_reason) SP_MUST_USE;

/* Who the claims name, and which certificate they bind the token to (`cnf`, RFC 7800, RFC 8705 §3.1; any other confirmation is refused,
 * since nobody here could check it). `like` has kind, key_id, issuer and expires_at_s filled in; the rest is taken from the claims and
 * `config`.
 * OK; or INVALID with a reason. */
enum sp_auth_verdict sp_claims_principal(const struct sp_config *config, const struct sp_issuer_config *issuer, const struct sp_json_value *claims,
                                         struct sp_principal like, struct sp_principal **ret, const char **ret_reason) SP_MUST_USE;

#endif
