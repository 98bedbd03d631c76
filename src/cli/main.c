/* sallyport: the command line. The table of commands is all there is to it. */
#include <getopt.h>
#include <stdio.h>

#include <sallyport/config.h>

#include "commands.h"

static const struct command {
    const char *name, *summary; /* summary NULL: reserved, not there yet */
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", "start the gateway in the foreground", sp_command_run},
    {"check", "say whether a configuration is good, or every error in it", sp_command_check},
    {"diff", "what a reload would change, limit by limit, and whom it would have refused", sp_command_diff},
    {"key", "make, list, revoke and rotate API keys", sp_command_key},
    {"token", "sign tokens for development", sp_command_token},
    {"ctl", "ask or tell a running gateway: status, backends, limits, reload, drain, log level", sp_command_ctl},
    {"why", "why a recent request was refused", sp_command_why},
    {"version", "the versions of Sallyport and of the libraries it uses", sp_command_version},
    {"model", NULL, NULL},
};

static void help(FILE *to) {
    fputs("usage: sallyport COMMAND [OPTION]...\n\n", to);
    for (size_t i = 0; i < SP_COUNT(commands); i++)
        if (commands[i].summary)
            fprintf(to, "  %-8s  %s\n", commands[i].name, commands[i].summary);
    fputs("\nEvery command says more with --help. The whole manual: man 8 sallyport\n", to);
}

int sp_wrong_usage(const char *command, const char *why, ...) {
    va_list arguments;
    fprintf(stderr, "sallyport %s: ", command);
    va_start(arguments, why);
    vfprintf(stderr, why, arguments);
    va_end(arguments);
    fprintf(stderr, "; see `sallyport %s --help`\n", command);
    return SP_EXIT_USAGE;
}

int sp_wrong_option(const char *command, int getopt_result, char **argv) {
    const char *option = argv[optind > 1 ? optind - 1 : 1];
    return getopt_result == ':' ? sp_wrong_usage(command, "%s needs an argument", option)
                                : sp_wrong_usage(command, "there is no option %s", option);
}

int sp_not_yet(const char *command, const char *word) {
    fprintf(stderr, "sallyport %s%s%s: not yet supported\n", command, word ? " " : "", word ? word : "");
    return SP_EXIT_USAGE;
}

static const struct command *find(const char *name) {
    for (size_t i = 0; i < SP_COUNT(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        help(stderr);
        return SP_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        help(stdout);
        return SP_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0)
        argv[1] += 2;
    const struct command *command = find(argv[1]);
    if (!command) {
        fprintf(stderr, "sallyport: there is no command %s; see `sallyport --help`\n", argv[1]);
        return SP_EXIT_USAGE;
    }
    if (!command->run)
        return sp_not_yet(command->name, NULL);
    opterr = 0;
    sp_config_wipe_json();
    int status = command->run(argc - 1, argv + 1);
    /* A full disk or a closed pipe must not look like success. */
    if (fflush(stdout) != 0 && status == SP_EXIT_OK) {
        perror("sallyport: standard output");
        return SP_EXIT_FAILED;
    }
    return status;
}
