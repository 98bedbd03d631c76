/* sallyport run: becomes the supervisor, in the foreground, as a service manager wants it. */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include <sallyport/process.h>

#include "commands.h"

static const char supervisor[] = "sallyport-supervisor";

static void help(void) {
    puts("usage: sallyport run --config FILE\n"
         "\n"
         "Starts the gateway and stays in the foreground. Exit status: 0 after a clean drain, 1 when the\n"
         "configuration is not good, the start failed or draining took too long, 2 on wrong usage.\n"
         "\n"
         "Signals: HUP reads the configuration again; TERM and INT drain, a second one ends at once;\n"
         "USR1 opens the log files again.\n"
         "\n"
         "  --config FILE   the configuration, sallyport.yaml(5)\n"
         "  --help          this text");
}

int sp_command_run(int argc, char **argv) {
    static const struct option options[] = {{"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {0}};
    char *config = NULL;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (option) {
        case 'c': config = optarg; break;
        case 'h': help(); return SP_EXIT_OK;
        default: return sp_wrong_option("run", option, argv);
        }
    }
    if (optind < argc)
        return sp_wrong_usage("run", "%s is one word too many", argv[optind]);
    if (!config)
        return sp_wrong_usage("run", "--config FILE is missing");

    char path[PATH_MAX];
    int r = sp_program_path(supervisor, path, sizeof path);
    if (r < 0) {
        fprintf(stderr, "sallyport run: %s is neither beside this program nor in ../libexec/sallyport: install all four programs\n",
                supervisor);
        return SP_EXIT_FAILED;
    }
    char name[sizeof supervisor], flag[] = "--config";
    memcpy(name, supervisor, sizeof name);
    char *arguments[] = {name, flag, config, NULL};
    execv(path, arguments);
    fprintf(stderr, "sallyport run: cannot execute %s: %m\n", path);
    return SP_EXIT_FAILED;
}
