/* What the tests of tokens share: an identity, tokens for it, and a word for "must be accepted" and for "must be refused". */
#ifndef TESTS_IDENTITY_EXPECT_H
#define TESTS_IDENTITY_EXPECT_H

#include "forge.h"

/* Of the running test: made by begin_test(), gone with end_test(). */
extern struct sp_config *config;
extern struct sp_identity *identity;
int begin_test(void **state);
int end_test(void **state);

enum sp_auth_verdict verify_at(struct sp_identity *by, const char *token_text, uint64_t now_s, struct sp_principal **ret,
                               const char **ret_reason);
/* These take the token and free it. */
struct sp_principal *accepted(char *token_text);
void refused(char *token_text, const char *reason);
void refused_at(char *token_text, uint64_t now_s, enum sp_auth_verdict verdict, const char *expected_reason);

/* Tokens signed as they should be, with the key p256: over these claims; over the usual ones and `more`, which begins with a comma;
 * over all but the times, and `times`; over the usual claims with this header. */
char *es256(const char *claims);
char *es256_with(const char *more);
char *es256_times(const char *times);
char *es256_header(const char *header);

void assert_span(struct sp_span span, const char *expected);

#endif
