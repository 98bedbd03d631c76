/* sallyport diff: a configuration against the one in force, and the past against both. */
#include "diff.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include <sallyport/admin.h>

#include "commands.h"
#include "gateway.h"
#include "replay.h"

enum { EXIT_DIFFERS = 3 };

static void help(void) {
    puts("usage: sallyport diff --config FILE [--replay LOG [--role ROLE]...] [--socket PATH] [--json] [--exit-code]\n"
         "\n"
         "What a reload of FILE would change in the running gateway: limit by limit, with what becomes of levels and\n"
         "debts, then everything else. Changes nothing. FILE is checked as by `sallyport check`.\n"
         "\n"
         "  --config FILE     the configuration, sallyport.yaml(5)\n"
         "  --replay LOG      an access log (- is standard input): who would have been refused with FILE and is not with\n"
         "                    the limits in force, and the other way round\n"
         "  --role ROLE       with --replay: a role that callers with tokens and certificates have, since the log does not\n"
         "                    say; may be repeated\n"
         "  --socket PATH     the gateway's admin socket; left out: that of FILE, else " SP_ADMIN_SOCKET_DEFAULT "\n"
         "  --json            one JSON object\n"
         "  --exit-code       3 when something would change\n"
         "  --help            this text\n"
         "\n"
         "Exit status: 0 told, 1 FILE is not good or the gateway was not reached, 2 wrong usage.");
}

struct words {
    const char *config, *socket_path, *replay, *roles[SP_ROLES_MAX];
    size_t n_roles;
    bool json, exit_code, help;
};

/* ---- The gateway's side ---- */

/* NULL: why was said. */
static json_t *ask_gateway(const struct words *words, const struct sp_config *config) {
    const char *socket_path = words->socket_path ? words->socket_path : config->admin.socket.text;
    const struct sp_gateway gateway = {.command = "diff", .socket_path = socket_path ? socket_path : SP_ADMIN_SOCKET_DEFAULT};
    _cleanup_(sp_buffer_free) struct sp_buffer bytes;
    sp_buffer_init(&bytes, SP_ANSWER_MAX);
    long status = sp_gateway_ask(&gateway, "GET", "/api/v1/configuration", NULL, &bytes);
    if (status < 0)
        return NULL;
    struct sp_span span = sp_buffer_span(&bytes);
    if (status != 200) {
        (void)!sp_gateway_show(&gateway, status, span, false, NULL);
        return NULL;
    }
    json_t *answer = json_loadb(span.at, span.len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(json_object_get(answer, "configuration")) && json_is_array(json_object_get(answer, "limits")))
        return answer;
    fprintf(stderr, "sallyport diff: the gateway answered with something that is no configuration; is it of another version?\n");
    json_decref(answer);
    return NULL;
}

/* ---- The past ---- */

static json_t *replay_log(const struct words *words, const struct sp_config *config, json_t *now, json_t *new) {
    bool is_stdin = strcmp(words->replay, "-") == 0;
    _cleanup_(sp_close_fd) int opened = is_stdin ? -1 : open(words->replay, O_RDONLY | O_CLOEXEC);
    struct sp_replay *replay = NULL;
    int r = !is_stdin && opened < 0 ? -errno : sp_replay_new(now, new, config, words->roles, words->n_roles, &replay);
    if (r == 0)
        r = sp_replay_file(replay, is_stdin ? STDIN_FILENO : opened);
    json_t *answer = r == 0 ? sp_replay_end(replay) : NULL;
    sp_replay_free(replay);
    if (!answer)
        fprintf(stderr, "sallyport diff: cannot replay %s: %s\n", words->replay, strerror(r < 0 ? -r : ENOMEM));
    return answer;
}

/* ---- The answer ---- */

/* Takes new_limits and replay (NULL: none). */
static json_t *make_diff(const char *file, json_t *answer, json_t *outline, json_t *new_limits, json_t *replay) {
    json_t *old = json_object_get(answer, "configuration");
    json_t *limits = sp_diff_limits(json_object_get(answer, "limits"), new_limits), *sections = sp_diff_sections(old, outline);
    bool moves = sp_diff_moves_store(old, outline), same = !sp_diff_limits_differ(limits) && json_object_size(sections) == 0;
    json_t *diff = json_pack("{s:s,s:O?,s:O?,s:b,s:o,s:b,s:o}", "file", file, "running", json_object_get(answer, "path"), "generation",
                             json_object_get(answer, "generation"), "same", same ? 1 : 0, "limits", limits, "store_moves", moves ? 1 : 0,
                             "sections", sections);
    if (replay)
        json_object_set_new(diff, "replay", replay);
    json_decref(new_limits);
    return diff;
}

static int tell(const struct words *words, json_t *diff) {
    if (words->json && json_dumpf(diff, stdout, JSON_INDENT(2)) == 0)
        putchar('\n');
    else if (!words->json)
        sp_diff_print(diff);
    return words->exit_code && !json_is_true(json_object_get(diff, "same")) ? EXIT_DIFFERS : SP_EXIT_OK;
}

static int compare(const struct words *words, const struct sp_config *config) {
    json_t *answer = ask_gateway(words, config), *new_limits = answer ? sp_limit_policies_json(config) : NULL;
    json_t *outline = new_limits ? json_loads(config->outline, 0, NULL) : NULL, *replay = NULL;
    int status = SP_EXIT_FAILED;
    if (outline && words->replay)
        replay = replay_log(words, config, json_object_get(answer, "limits"), new_limits);
    if (outline && (replay || !words->replay)) {
        json_t *diff = make_diff(words->config, answer, outline, json_incref(new_limits), replay);
        status = diff ? tell(words, diff) : SP_EXIT_FAILED;
        json_decref(diff);
    }
    json_decref(outline);
    json_decref(new_limits);
    json_decref(answer);
    return status;
}

/* ---- The command line ---- */

static int read_options(int argc, char **argv, struct words *words) {
    static const struct option options[] = {{"config", required_argument, NULL, 'c'}, {"socket", required_argument, NULL, 's'},
                                            {"replay", required_argument, NULL, 'r'}, {"role", required_argument, NULL, 'o'},
                                            {"json", no_argument, NULL, 'j'},         {"exit-code", no_argument, NULL, 'e'},
                                            {"help", no_argument, NULL, 'h'},         {0}};
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (option) {
        case 'c': words->config = optarg; break;
        case 's': words->socket_path = optarg; break;
        case 'r': words->replay = optarg; break;
        case 'o':
            if (words->n_roles == SP_COUNT(words->roles))
                return sp_wrong_usage("diff", "more than %d roles", SP_ROLES_MAX);
            words->roles[words->n_roles++] = optarg;
            break;
        case 'j': words->json = true; break;
        case 'e': words->exit_code = true; break;
        case 'h': words->help = true; break;
        default: return sp_wrong_option("diff", option, argv);
        }
    }
    return SP_EXIT_OK;
}

static bool has_role(const struct sp_config *config, const char *name) {
    for (size_t i = 0; i < config->n_roles; i++)
        if (strcmp(config->roles[i].name, name) == 0)
            return true;
    return false;
}

int sp_command_diff(int argc, char **argv) {
    struct words words = {0};
    int status = read_options(argc, argv, &words);
    if (status != SP_EXIT_OK)
        return status;
    if (words.help) {
        help();
        return SP_EXIT_OK;
    }
    if (optind < argc)
        return sp_wrong_usage("diff", "%s is one word too many", argv[optind]);
    if (!words.config)
        return sp_wrong_usage("diff", "--config FILE is missing");
    if (words.n_roles > 0 && !words.replay)
        return sp_wrong_usage("diff", "--role goes with --replay");
    struct sp_config *config = sp_checked_configuration(words.config);
    if (!config)
        return SP_EXIT_FAILED;
    for (size_t i = 0; i < words.n_roles && status == SP_EXIT_OK; i++)
        if (!has_role(config, words.roles[i]))
            status = sp_wrong_usage("diff", "%s has no role %s", words.config, words.roles[i]);
    if (status == SP_EXIT_OK)
        status = compare(&words, config);
    sp_config_unref(config);
    return status;
}
