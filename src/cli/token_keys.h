/* sallyport token keys: the verb of `token` that makes a key pair. */
#ifndef SALLYPORT_CLI_TOKEN_KEYS_H
#define SALLYPORT_CLI_TOKEN_KEYS_H

int sp_command_token_keys(int argc, char **argv);

#endif
