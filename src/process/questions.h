/* What workers ask control about issuers: newer keys, and opaque tokens. */
#ifndef SALLYPORT_PROCESS_QUESTIONS_H
#define SALLYPORT_PROCESS_QUESTIONS_H

#include <sallyport/admin.h>
#include <sallyport/ipc.h>

struct sp_questions;
/* `keys` is told when an issuer's key set has changed (a descriptor that stays ours) or is given up (-1): tell every worker. -ENOMEM. */
int sp_questions_new(struct sp_loop *loop, void (*keys)(void *owner, uint64_t issuer, int sealed_fd), void *owner,
                     struct sp_questions **ret) SP_MUST_USE;
void sp_questions_free(struct sp_questions *questions);                                           /* takes NULL */
int sp_questions_configure(struct sp_questions *questions, struct sp_config *config) SP_MUST_USE; /* -ENOMEM */
/* A worker's message; config is the one in force, NULL before the first. */
void sp_questions_message(struct sp_questions *questions, struct sp_channel *channel, struct sp_config *config, enum sp_message_type type,
                          struct sp_span payload);
void sp_questions_forget(struct sp_questions *questions, const struct sp_channel *channel); /* it is about to be freed */
/* Every key set there is, to one worker; errors as sp_channel_send(). */
int sp_questions_tell_keys(const struct sp_questions *questions, struct sp_channel *channel, const struct sp_config *config) SP_MUST_USE;

#endif
