/* cli: one function per command of `sallyport`. argv[0] is the command's own name, the rest its arguments; the result is the exit status:
 * 0 done, 1 it could not be done, 2 wrong usage. Results go to stdout, everything else to stderr. */
#ifndef SALLYPORT_CLI_COMMANDS_H
#define SALLYPORT_CLI_COMMANDS_H

#include <sallyport/base.h>

enum { SP_EXIT_OK = 0, SP_EXIT_FAILED = 1, SP_EXIT_USAGE = 2 };

int sp_command_run(int argc, char **argv);
int sp_command_check(int argc, char **argv);
int sp_command_key(int argc, char **argv);
int sp_command_token(int argc, char **argv);
int sp_command_ctl(int argc, char **argv);
int sp_command_why(int argc, char **argv);
int sp_command_diff(int argc, char **argv);
int sp_command_version(int argc, char **argv);

/* What `sallyport ctl revoke` does: the running gateway refuses this key from now on. Either of socket_path and config may be NULL. */
int sp_ctl_revoke(const char *socket_path, const char *config, const char *key_id, bool now);

/* What `sallyport check` says good of, as a worker gets it; NULL: every error was said on stderr. */
struct sp_config;
struct sp_config *sp_checked_configuration(const char *path);

/* "sallyport COMMAND: WHY" and where help is, on stderr; always SP_EXIT_USAGE. */
int sp_wrong_usage(const char *command, const char *why, ...) SP_PRINTF(2, 3);
/* The same for what getopt_long(3) (with opterr = 0) refused: '?' unknown or ambiguous, ':' its argument is missing. */
int sp_wrong_option(const char *command, int getopt_result, char **argv);
/* For a word that the contract reserves and this version does not do; always SP_EXIT_USAGE. */
int sp_not_yet(const char *command, const char *word);

#endif
