/* sallyport ctl: HTTP to the admin socket of a running gateway. */
#include <getopt.h>
#include <stdio.h>

#include <sallyport/revocations.h>

#include "commands.h"
#include "gateway.h"
#include "limits_command.h"
#include "status.h"

static const struct action {
    const char *name, *method, *path, *argument; /* argument NULL: none; path NULL: limits, which ask by themselves */
    sp_print_answer *print;                      /* NULL: the outcome alone */
} actions[] = {
    {"status", "GET", "/api/v1/status", NULL, sp_print_status},
    {"backends", "GET", "/api/v1/backends", NULL, sp_print_backends},
    {"reload", "POST", "/api/v1/reload", NULL, NULL},
    {"drain", "POST", "/api/v1/drain", NULL, NULL},
    {"loglevel", "PUT", "/api/v1/loglevel", "LEVEL", NULL},
    {"revoke", "POST", "/api/v1/keys/%s/revoke", "ID", NULL},
    {"limits", "GET", NULL, NULL, NULL},
};

static void help(void) {
    puts("usage: sallyport ctl ACTION [--json] [--socket PATH | --config FILE]\n"
         "       sallyport ctl limits [SUBJECT] [--tenant NAME] [--key ID] [--address IP] [--model NAME] [--route NAME] "
         "[--json] [--socket PATH | --config FILE]\n"
         "\n"
         "  status            processes, limits, backends and routes at a glance\n"
         "  backends          the model servers and whether they are up\n"
         "  limits            the limits, how often they admitted and refused, and the last refusals\n"
         "                    With a SUBJECT (of the access log; or key:NAME, jwt:ISSUER NAME, cert:NAME) or other facts:\n"
         "                    what they leave a caller, levels, debts, leases and places. Nothing is taken by looking\n"
         "  reload            read the configuration again; all or nothing\n"
         "  drain             finish what is in flight and end, as on TERM\n"
         "  loglevel LEVEL    error, warn, info or debug, until the next reload\n"
         "  revoke ID         refuse this API key from now on, here and on every gateway that shares the Redis, until\n"
         "                    they are started again; `sallyport key revoke` also writes it down\n"
         "\n"
         "  --tenant NAME     with limits: what else is known of the requests in question. A limit is shown where all\n"
         "  --key ID          that it counts by is known; what the file of API keys says of SUBJECT need not be said.\n"
         "  --address IP\n"
         "  --model NAME\n"
         "  --route NAME\n"
         "  --now             with revoke: what the key's callers have open ends too\n"
         "  --socket PATH     the gateway's admin socket (" SP_ADMIN_SOCKET_DEFAULT ")\n"
         "  --config FILE     take the socket's path from this configuration\n"
         "  --json            the answer as the gateway gave it\n"
         "  --help            this text\n"
         "\n"
         "Who may do what is decided by the groups under admin.groups. Exit status: 0 done, 1 refused or not\n"
         "reached, 2 wrong usage.");
}

/* ---- Asking ---- */

/* What is asked for: an action, with its argument in the path or the body. */
struct question {
    const struct action *action;
    const char *argument;
    bool now;
};

static int write_body(const struct question *question, struct sp_buffer *body) {
    if (question->now)
        return sp_buffer_append_span(body, SP_SPAN("{\"now\":true}"));
    if (!question->argument || strstr(question->action->path, "%s"))
        return sp_buffer_append_span(body, SP_SPAN("{}"));
    int r = sp_buffer_append_span(body, SP_SPAN("{\"level\":"));
    if (r >= 0)
        r = sp_buffer_append_json(body, sp_span_text(question->argument));
    return r < 0 ? r : sp_buffer_append_span(body, SP_SPAN("}"));
}

static int perform(const struct sp_gateway *gateway, const struct question *question, bool raw) {
    const struct action *action = question->action;
    const char *place = strstr(action->path, "%s");
    char path[128];
    snprintf(path, sizeof path, "%.*s%s%s", (int)(place ? (size_t)(place - action->path) : strlen(action->path)), action->path,
             place ? question->argument : "", place ? place + 2 : "");
    _cleanup_(sp_buffer_free) struct sp_buffer body;
    sp_buffer_init(&body, 16 * 1024);
    int r = write_body(question, &body);
    if (r >= 0)
        r = sp_buffer_append(&body, "", 1); /* its NUL */
    if (r < 0)
        return sp_wrong_usage("ctl", "this is no %s", action->argument);
    _cleanup_(sp_buffer_free) struct sp_buffer answer;
    sp_buffer_init(&answer, SP_ANSWER_MAX);
    bool reads = strcmp(action->method, "GET") == 0;
    long status = sp_gateway_ask(gateway, action->method, path, reads ? NULL : sp_buffer_span(&body).at, &answer);
    return status < 0 ? SP_EXIT_FAILED : sp_gateway_show(gateway, status, sp_buffer_span(&answer), raw, action->print);
}

static const struct action *find(const char *name) {
    for (size_t i = 0; i < SP_COUNT(actions); i++)
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    return NULL;
}

int sp_ctl_revoke(const char *socket_path, const char *config, const char *key_id, bool now) {
    const struct question question = {.action = find("revoke"), .argument = key_id, .now = now};
    return perform(&(struct sp_gateway){"ctl", socket_path, config}, &question, false);
}

/* ---- The command line ---- */

struct words {
    struct sp_gateway gateway;
    struct sp_limits_question limits;
    bool json, now, help;
};

/* SP_EXIT_OK, or what to end with. */
static int read_options(int argc, char **argv, struct words *words) {
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},
                                            {"config", required_argument, NULL, 'c'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"now", no_argument, NULL, 'n'},
                                            {"tenant", required_argument, NULL, 't'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"address", required_argument, NULL, 'a'},
                                            {"model", required_argument, NULL, 'm'},
                                            {"route", required_argument, NULL, 'r'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (option) {
        case 's': words->gateway.socket_path = optarg; break;
        case 'c': words->gateway.config = optarg; break;
        case 'j': words->json = true; break;
        case 'n': words->now = true; break;
        case 't': words->limits.tenant = optarg; break;
        case 'k': words->limits.key = optarg; break;
        case 'a': words->limits.address = optarg; break;
        case 'm': words->limits.model = optarg; break;
        case 'r': words->limits.route = optarg; break;
        case 'h': words->help = true; break;
        default: return sp_wrong_option("ctl", option, argv);
        }
    }
    return SP_EXIT_OK;
}

static int limits(struct words *words, int argc, char **argv) {
    if (argc > 1)
        return sp_wrong_usage("ctl", "limits takes one subject at a time");
    if (words->now)
        return sp_wrong_usage("ctl", "--now goes with revoke");
    words->limits.subject = argc > 0 ? argv[0] : NULL;
    return sp_ctl_limits(&words->gateway, &words->limits, words->json);
}

int sp_command_ctl(int argc, char **argv) {
    struct words words = {.gateway.command = "ctl"};
    int status = read_options(argc, argv, &words);
    if (status != SP_EXIT_OK)
        return status;
    if (words.help) {
        help();
        return SP_EXIT_OK;
    }
    if (optind >= argc)
        return sp_wrong_usage("ctl", "an action is missing: status, backends, limits, reload, drain, loglevel or revoke");
    const struct action *action = find(argv[optind]);
    if (!action)
        return sp_wrong_usage("ctl", "there is no action %s", argv[optind]);
    if (words.gateway.socket_path && words.gateway.config)
        return sp_wrong_usage("ctl", "--socket and --config together: give one");
    if (!action->path)
        return limits(&words, argc - optind - 1, argv + optind + 1);
    int n_arguments = argc - optind - 1, n_wanted = action->argument ? 1 : 0;
    if (n_arguments != n_wanted)
        return sp_wrong_usage("ctl", "%s takes %s", action->name, action->argument ? action->argument : "no argument");
    if (sp_limits_asks_of_somebody(&words.limits))
        return sp_wrong_usage("ctl", "--tenant, --key, --address, --model and --route go with limits");
    const struct question question = {.action = action, .argument = n_wanted ? argv[optind + 1] : NULL, .now = words.now};
    bool revokes = strcmp(action->name, "revoke") == 0;
    if (words.now && !revokes)
        return sp_wrong_usage("ctl", "--now goes with revoke");
    if (revokes && !sp_key_id_valid(sp_span_text(question.argument)))
        return sp_wrong_usage("ctl", "%s is no key's ID: 8 letters and digits (sallyport key list)", question.argument);
    return perform(&words.gateway, &question, words.json);
}
