/* What a worker answers when control asks how much the limits leave a subject: it looks, and takes nothing. */
#ifndef SALLYPORT_PROCESS_LEVELS_H
#define SALLYPORT_PROCESS_LEVELS_H

#include <sallyport/ipc.h>
#include <sallyport/limit.h>

struct sp_levels; /* one per worker */
int sp_levels_new(struct sp_limiter *limiter, struct sp_levels **ret) SP_MUST_USE;
void sp_levels_free(struct sp_levels *levels); /* takes NULL; before the limiter */
/* SP_MSG_LEVELS_WANTED. The answer goes to `channel`, at once or, with Redis, within its deadline. config is the one in force. */
void sp_levels_question(struct sp_levels *levels, struct sp_channel *channel, struct sp_config *config, struct sp_span payload);
void sp_levels_forget(struct sp_levels *levels); /* control is gone: nobody waits for an answer */

/* Who is meant, as limits count: the subject becomes an account, and what the file of API keys says of it is filled in where it was not
 * given. Texts point into `config`, `facts` or `account`. false: it could be several. */
#define SP_ACCOUNT_MAX SP_FACT_MAX
bool sp_levels_complete(const struct sp_config *config, struct sp_facts *facts, char account[SP_ACCOUNT_MAX + 1]) SP_MUST_USE;

#endif
