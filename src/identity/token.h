/* One JSON Web Token in compact form (RFC 7515 §7.1, RFC 7519, RFC 8725): taken apart, checked against one identity. */
#ifndef SALLYPORT_IDENTITY_TOKEN_H
#define SALLYPORT_IDENTITY_TOKEN_H

#include "issuer.h"

#define SP_JWT_MAX        8192 /* bytes of a token */
#define SP_JWT_HEADER_MAX 1024 /* bytes of its header, decoded */

/* Exactly two dots, and all else base64url: what is treated as a JWT rather than as an opaque token. */
bool sp_jwt_looks_like_one(struct sp_span text);
/* Where tokens are read, one after the other; an identity's. NULL: out of memory. */
struct sp_jwt_room;
struct sp_jwt_room *sp_jwt_room_new(void) SP_MUST_USE;
void sp_jwt_room_free(struct sp_jwt_room *room); /* takes NULL */
/* As sp_jwt_verify(); and whose token it was: with OK, and with WAIT, which says that newer keys of this issuer might verify it:
 * *ret_missing then identifies the key that is missing (the digest of issuer and kid). */
enum sp_auth_verdict sp_jwt_check(struct sp_identity *identity, struct sp_span token, uint64_t now_s, struct sp_principal **ret,
                                  const struct sp_issuer **ret_issuer, uint8_t ret_missing[32], const char **ret_reason) SP_MUST_USE;

#endif
