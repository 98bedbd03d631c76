/* sallyport check: refuses what a start would refuse, as far as that can be known without opening a port or asking a network. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include <jansson.h>

#include <sallyport/config.h>
#include <sallyport/identity.h>
#include <sallyport/net.h>
#include <sallyport/upstream.h>

#include "commands.h"

static void help(void) {
    puts("usage: sallyport check --config FILE [--json]\n"
         "\n"
         "Reads FILE and every file it names and says OK, or every error as FILE:LINE:COLUMN: MESSAGE. Opens no\n"
         "port and asks no network. As root it also demands `user:`, as a start would. Exit status: 0 good,\n"
         "1 not good, 2 wrong usage.\n"
         "\n"
         "  --config FILE   the configuration, sallyport.yaml(5)\n"
         "  --json          one JSON object: {\"ok\": …, \"errors\": [{\"file\", \"line\", \"column\", \"message\"}]}\n"
         "  --help          this text");
}

/* Lines found by any of the checks, in order. */
struct findings {
    char **line;
    size_t count;
};

static void add_line(struct findings *findings, const char *text) {
    char **grown = realloc(findings->line, (findings->count + 1) * sizeof *grown);
    char *copy = text ? strdup(text) : NULL;
    if (grown)
        findings->line = grown;
    if (!grown || !copy) {
        free(copy);
        return;
    }
    findings->line[findings->count++] = copy;
}

static void free_findings(struct findings *findings) {
    for (size_t i = 0; i < findings->count; i++)
        free(findings->line[i]);
    free(findings->line);
}

/* What a worker would say to the offer: keys that fit their certificates, key sets that can be used. */
static void check_as_worker(struct sp_config *config, struct findings *findings) {
    char *error = NULL;
    struct sp_identity *identity = NULL;
    if (sp_identity_new(config, &error, &identity) < 0)
        add_line(findings, error ? error : "issuers: out of memory");
    free(error);
    sp_identity_unref(identity);

    struct sp_tls_tickets *tickets = sp_tls_tickets_new();
    for (size_t i = 0; tickets && i < config->n_listeners; i++) {
        struct sp_tls_server *tls = NULL;
        error = NULL;
        if (sp_tls_server_new(&config->listeners[i], &sp_tls_signer_local, tickets, &error, &tls) < 0)
            add_line(findings, error ? error : "listeners: out of memory");
        free(error);
        sp_tls_server_unref(tls);
    }
    sp_tls_tickets_free(tickets);

    struct sp_upstream_tls *upstream_tls = NULL;
    error = NULL;
    if (sp_upstream_tls_new(config, &sp_tls_signer_local, &error, &upstream_tls) < 0)
        add_line(findings, error ? error : "pools: out of memory");
    free(error);
    sp_upstream_tls_free(upstream_tls);

    struct sp_tls_client *redis_tls = NULL;
    const struct sp_redis_config *redis = config->redis;
    error = NULL;
    const char *name = redis && redis->host ? redis->host : ""; /* sentinels and clusters name theirs when they are asked */
    if (redis && redis->tls && sp_tls_client_new(&redis->tls_client, name, NULL, &sp_tls_signer_local, &error, &redis_tls) < 0)
        add_line(findings, error ? error : "redis: out of memory");
    free(error);
    sp_tls_client_unref(redis_tls);
}

static void check_user(const struct sp_config *config, struct findings *findings) {
    if (geteuid() != 0 || config->user)
        return;
    char *line = NULL;
    if (asprintf(&line, "%s:1:1: started as root, `user:` must name the account that everything but the supervisor runs as",
                 config->path) < 0)
        line = NULL;
    add_line(findings, line);
    free(line);
}

/* *ret: the snapshot as a worker gets it; NULL where there is none. */
static void check_file(const char *path, struct findings *findings, struct sp_config **ret) {
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    struct sp_config *config = NULL;
    int r = sp_config_load(path, NULL, 1, &errors, &document);
    if (r >= 0)
        r = sp_document_snapshot(document, SP_READER_WORKER, &config);
    for (size_t i = 0; i < errors.count; i++)
        add_line(findings, errors.line[i]);
    if (r >= 0) {
        check_user(config, findings);
        check_as_worker(config, findings);
    } else if (findings->count == 0) {
        add_line(findings, strerror(-r));
    }
    sp_config_errors_free(&errors);
    sp_document_free(document);
    *ret = config;
}

struct sp_config *sp_checked_configuration(const char *path) {
    _cleanup_(free_findings) struct findings findings = {0};
    struct sp_config *config = NULL;
    check_file(path, &findings, &config);
    for (size_t i = 0; i < findings.count; i++)
        fprintf(stderr, "%s\n", findings.line[i]);
    if (findings.count > 0)
        sp_config_unref(sp_take(config));
    return config;
}

/* "file:line:column: message", taken apart from the right, since a file's name may hold colons. NULL when it does not look like that. */
static json_t *parsed_line(struct sp_span line) {
    const char *end = memmem(line.at, line.len, ": ", 2);
    if (!end)
        return NULL;
    struct sp_span place = sp_span(line.at, (size_t)(end - line.at));
    const char *second = memrchr(place.at, ':', place.len);
    const char *first = second ? memrchr(place.at, ':', (size_t)(second - place.at)) : NULL;
    uint64_t row = 0, column = 0;
    if (!first || !sp_span_u64(sp_span(first + 1, (size_t)(second - first - 1)), &row) ||
        !sp_span_u64(sp_span_from(place, (size_t)(second + 1 - place.at)), &column))
        return NULL;
    return json_pack("{s:s%, s:I, s:I, s:s%}", "file", place.at, (size_t)(first - place.at), "line", (json_int_t)row, "column",
                     (json_int_t)column, "message", end + 2, line.len - place.len - 2);
}

static void print_json(const struct findings *findings) {
    json_t *errors = json_array();
    for (size_t i = 0; i < findings->count; i++) {
        json_t *error = parsed_line(sp_span_text(findings->line[i]));
        json_array_append_new(errors, error ? error : json_pack("{s:s}", "message", findings->line[i]));
    }
    json_t *all = json_pack("{s:b, s:o}", "ok", findings->count == 0 ? 1 : 0, "errors", errors);
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

int sp_command_check(int argc, char **argv) {
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *path = NULL;
    bool json = false;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (option) {
        case 'c': path = optarg; break;
        case 'j': json = true; break;
        case 'h': help(); return SP_EXIT_OK;
        default: return sp_wrong_option("check", option, argv);
        }
    }
    if (optind < argc)
        return sp_wrong_usage("check", "%s is one word too many", argv[optind]);
    if (!path)
        return sp_wrong_usage("check", "--config FILE is missing");

    _cleanup_(free_findings) struct findings findings = {0};
    struct sp_config *config = NULL;
    check_file(path, &findings, &config);
    sp_config_unref(config);
    if (json)
        print_json(&findings);
    else if (findings.count == 0)
        puts("OK");
    for (size_t i = 0; !json && i < findings.count; i++)
        fprintf(stderr, "%s\n", findings.line[i]);
    return findings.count == 0 ? SP_EXIT_OK : SP_EXIT_FAILED;
}
