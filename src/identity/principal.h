/* Making principals: one allocation each, so that what a request holds is freed in one piece. */
#ifndef SALLYPORT_IDENTITY_PRINCIPAL_H
#define SALLYPORT_IDENTITY_PRINCIPAL_H

#include <sallyport/identity.h>

/* Copies the fields and texts of `like` (its count of references apart; `account` is made from the others). role_names: the roles as the
 * token names them, each followed by a newline; kept so that another generation of the configuration can map them anew. One reference. */
int sp_principal_new(const struct sp_principal *like, struct sp_span role_names, struct sp_principal **ret) SP_MUST_USE;
struct sp_span sp_principal_role_names(const struct sp_principal *principal);
/* Which of the configuration's roles are named; other names grant nothing. */
uint64_t sp_roles_mask(const struct sp_config *config, struct sp_span role_names);

#endif
