/* sallyport key: makes, lists, revokes and rotates API keys. The file holds digests only; a key itself is shown once, when it is made. */
#include "commands.h"

#include <errno.h>
#include <getopt.h>
#include <sallyport/config.h>
#include <sallyport/identity.h>
#include <stdio.h>
#include <sys/stat.h>

#define OVERLAP_DEFAULT_S (UINT64_C(24) * 3600)

static const char usage[] = "usage: sallyport key new    --file FILE --name NAME [--role ROLE]... [--tenant TENANT] [--expires 90d]\n"
                            "       sallyport key list   --file FILE [--json]\n"
                            "       sallyport key revoke --file FILE ID [--now] [--config FILE | --socket PATH]\n"
                            "       sallyport key rotate --file FILE ID [--overlap 24h] [--expires 90d|never]\n"
                            "\n"
                            "Makes and changes the file that `api_keys` in the configuration names. It holds digests, never keys.\n"
                            "new and rotate write the key, and nothing else, to standard output: it is shown this once.\n"
                            "A running gateway takes changes up at its next reload (sallyport ctl reload). With --now, --config or\n"
                            "--socket, revoke also tells it, when the file is written: it refuses the key from then on, as does every\n"
                            "gateway that shares its Redis. A revoked key does not come back: make a new one.\n"
                            "\n"
                            "  --file FILE        the file of keys; new makes it when there is none\n"
                            "  --name NAME        who uses the key; what limits by subject count, and what the log says\n"
                            "  --role ROLE        one of `roles` in the configuration; may be given several times\n"
                            "  --tenant TENANT    whom the user belongs to\n"
                            "  --expires TIME     from now on: 20m, 12h, 90d; or never (the default for new)\n"
                            "  --overlap TIME     how long the old key still counts after rotate (default 24h; 0 revokes it at once)\n"
                            "  --now              what the revoked key's callers have open ends too\n"
                            "  --config FILE      the gateway whose admin socket this configuration names\n"
                            "  --socket PATH      the gateway with this admin socket\n"
                            "  --json             a list for programs\n"
                            "  --help             this text\n";

struct options {
    const char *command, *file, *name, *tenant, *id;
    const char *roles[SP_ROLES_MAX];
    size_t n_roles;
    bool expires_given;
    uint64_t expires_at_s; /* 0: never */
    uint64_t overlap_s;
    bool json;
    const char *config, *socket_path; /* of the gateway to tell */
    bool now;
};

static int failed(const struct options *options, const char *format, ...) SP_PRINTF(2, 3);
static int failed(const struct options *options, const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "sallyport %s: ", options->command);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return SP_EXIT_FAILED;
}

/* ---- Options ---- */

/* "90d" → seconds; "0" needs no unit. */
static bool parse_time(const char *text, uint64_t *ret_s) {
    uint64_t ms = 0;
    if (strcmp(text, "0") != 0 && sp_parse_duration(sp_span_text(text), &ms) < 0)
        return false;
    *ret_s = sp_divide_up(ms, 1000);
    return true;
}

static bool parse_expiry(const char *text, struct options *options) {
    uint64_t seconds = 0, at = 0;
    if (strcmp(text, "never") != 0 && (!parse_time(text, &seconds) || seconds == 0 || __builtin_add_overflow(sp_wall_s(), seconds, &at)))
        return false;
    options->expires_given = true;
    options->expires_at_s = at;
    return true;
}

enum option_id { OPTION_FILE = 1, OPTION_NAME, OPTION_ROLE, OPTION_TENANT, OPTION_EXPIRES, OPTION_OVERLAP, OPTION_JSON, OPTION_NOW, OPTION_CONFIG,
                 OPTION_SOCKET, OPTION_HELP };

static const struct option known_options[] = {
    {"file", required_argument, NULL, OPTION_FILE},
    {"name", required_argument, NULL, OPTION_NAME},
    {"role", required_argument, NULL, OPTION_ROLE},
    {"tenant", required_argument, NULL, OPTION_TENANT},
    {"expires", required_argument, NULL, OPTION_EXPIRES},
    {"overlap", required_argument, NULL, OPTION_OVERLAP},
    {"json", no_argument, NULL, OPTION_JSON},
    {"now", no_argument, NULL, OPTION_NOW},
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

/* Which options a verb takes: bits 1u << enum option_id. */
#define TAKES(option) (1u << OPTION_##option)

static int take_option(struct options *options, int id) {
    switch (id) {
    case OPTION_FILE:
        options->file = optarg;
        return 0;
    case OPTION_NAME:
        options->name = optarg;
        return 0;
    case OPTION_TENANT:
        options->tenant = optarg;
        return 0;
    case OPTION_JSON:
        options->json = true;
        return 0;
    case OPTION_NOW:
        options->now = true;
        return 0;
    case OPTION_CONFIG:
        options->config = optarg;
        return 0;
    case OPTION_SOCKET:
        options->socket_path = optarg;
        return 0;
    case OPTION_ROLE:
        if (options->n_roles == SP_ROLES_MAX)
            return sp_wrong_usage(options->command, "at most %d roles", SP_ROLES_MAX);
        options->roles[options->n_roles++] = optarg;
        return 0;
    case OPTION_EXPIRES:
        if (parse_expiry(optarg, options))
            return 0;
        return sp_wrong_usage(options->command, "--expires %s: say a time like 12h or 90d, or never", optarg);
    case OPTION_OVERLAP:
        if (parse_time(optarg, &options->overlap_s))
            return 0;
        return sp_wrong_usage(options->command, "--overlap %s: say a time like 30m or 24h, or 0", optarg);
    default:
        return SP_EXIT_USAGE; /* not reached: --help was answered before */
    }
}

static int parse_options(int argc, char **argv, uint32_t takes, bool takes_id, struct options *options) {
    opterr = 0;
    optind = 0;
    for (int id; (id = getopt_long(argc, argv, ":", known_options, NULL)) != -1;) {
        if (id == ':' || id == '?')
            return sp_wrong_option(options->command, id, argv);
        if (!(takes & 1u << id))
            return sp_wrong_usage(options->command, "it takes no --%s", known_options[id - 1].name);
        int r = take_option(options, id);
        if (r != 0)
            return r;
    }
    if (takes_id && optind < argc)
        options->id = argv[optind++];
    if (optind < argc)
        return sp_wrong_usage(options->command, "%s: one argument too many", argv[optind]);
    if (!options->file)
        return sp_wrong_usage(options->command, "say which file with --file");
    if (takes_id && !options->id)
        return sp_wrong_usage(options->command, "say which key by its ID (sallyport key list --file %s)", options->file);
    return 0;
}

/* ---- The file ---- */

static void free_errors(struct sp_config_errors *errors) { sp_config_errors_free(errors); }

/* What a link leads to is locked and replaced, not the link: the other names of the file must not go on with the keys as they were.
 * *ret is the file to use and is to be freed; 0, or the exit status after saying what is wrong. */
static int resolve(const struct options *options, char **ret) {
    struct stat status;
    bool is_link = lstat(options->file, &status) == 0 && S_ISLNK(status.st_mode);
    *ret = is_link ? realpath(options->file, NULL) : strdup(options->file);
    if (*ret)
        return 0;
    return is_link ? failed(options, "%s is a symbolic link, and where it leads cannot be found: %s", options->file, strerror(errno))
                   : failed(options, "%s", strerror(ENOMEM));
}

/* 0, or the exit status after saying what is wrong. */
static int load(const struct options *options, bool may_be_absent, struct sp_key_file **ret) {
    _cleanup_(free_errors) struct sp_config_errors errors = {0};
    int r = sp_key_file_load(options->file, &errors, ret);
    if (r == -ENOENT && may_be_absent)
        r = sp_key_file_new(ret);
    else if (r < 0 && errors.count > 0) {
        for (size_t i = 0; i < errors.count; i++)
            fprintf(stderr, "%s\n", errors.line[i]);
        return SP_EXIT_FAILED;
    }
    return r < 0 ? failed(options, "cannot read %s: %s", options->file, strerror(-r)) : 0;
}

static int lock(const struct options *options, int *ret_fd) {
    int r = sp_key_file_lock(options->file, ret_fd);
    return r < 0 ? failed(options, "cannot lock %s: %s; is its directory there, and may you write to it?", options->file, strerror(-r)) : 0;
}

static int save(const struct options *options, const struct sp_key_file *file) {
    int r = sp_key_file_save(options->file, file);
    return r < 0 ? failed(options, "cannot write %s: %s; nothing was changed", options->file, strerror(-r)) : 0;
}

/* By id only: several keys may share a name, and acting on the wrong one locks somebody out. */
static struct sp_api_key_config *find(const struct options *options, struct sp_key_file *file) {
    size_t namesakes = 0;
    for (size_t i = 0; i < sp_key_file_count(file); i++) {
        struct sp_api_key_config *key = sp_key_file_at(file, i);
        if (strcmp(key->id, options->id) == 0)
            return key;
        if (strcmp(key->name, options->id) == 0 && namesakes++ == 0)
            fprintf(stderr, "%s is a name; say the key's ID instead:\n", options->id);
        if (strcmp(key->name, options->id) == 0)
            fprintf(stderr, "  %s\n", key->id);
    }
    failed(options, "there is no key with the ID %s in %s", options->id, options->file);
    return NULL;
}

static void free_file(struct sp_key_file **file) { sp_key_file_free(*file); }
static void wipe_key(struct sp_api_key_text *key) { sp_wipe(key, sizeof *key); }

/* Adds a new key like `like` and saves; the key goes to standard output only after it is in the file. */
static int add_and_show(const struct options *options, struct sp_key_file *file, struct sp_api_key_config like) {
    _cleanup_(wipe_key) struct sp_api_key_text key;
    int r;
    do {
        r = sp_api_key_generate(&key);
        if (r < 0)
            return failed(options, "cannot make a key: %s", strerror(-r));
        memcpy(like.id, key.id, sizeof like.id);
        memcpy(like.digest, key.digest, sizeof like.digest);
        r = sp_key_file_add(file, &like);
    } while (r == -EEXIST);
    if (r == -EINVAL)
        return failed(options, "a name, a role or a tenant has characters the file cannot hold");
    if (r == -E2BIG)
        return failed(options, "%s is full; revoke keys nobody uses and take them out", options->file);
    if (r < 0)
        return failed(options, "%s", strerror(-r));
    r = save(options, file);
    if (r != 0)
        return r;
    if (printf("%s\n", key.text) < 0 || fflush(stdout) != 0)
        return failed(options, "the key %s could not be written to standard output: revoke it and make another", key.id);
    fprintf(stderr, "Key %s is in %s. It was shown this once. It counts after the next reload: sallyport ctl reload\n", key.id,
            options->file);
    return SP_EXIT_OK;
}

/* ---- The verbs ---- */

static int key_new(const struct options *options) {
    if (!options->name || !*options->name)
        return sp_wrong_usage(options->command, "say who will use the key with --name");
    _cleanup_(sp_close_fd) int lock_fd = -1;
    _cleanup_(free_file) struct sp_key_file *file = NULL;
    int r = lock(options, &lock_fd);
    if (r == 0)
        r = load(options, true, &file);
    if (r != 0)
        return r;
    struct sp_api_key_config key = {.name = options->name,
                                    .roles = {(const char **)options->roles, options->n_roles},
                                    .tenant = options->tenant,
                                    .expires_at_s = options->expires_at_s};
    return add_and_show(options, file, key);
}

/* Sets the time in the file, or leaves the one that stands there. */
static int write_revocation(const struct options *options) {
    _cleanup_(sp_close_fd) int lock_fd = -1;
    _cleanup_(free_file) struct sp_key_file *file = NULL;
    int r = lock(options, &lock_fd);
    if (r == 0)
        r = load(options, false, &file);
    if (r != 0)
        return r;
    struct sp_api_key_config *key = find(options, file);
    if (!key)
        return SP_EXIT_FAILED;
    if (key->revoked) {
        fprintf(stderr, "Key %s was revoked before; the file was not changed.\n", key->id);
        return SP_EXIT_OK;
    }
    key->revoked = true;
    key->revoked_at_s = sp_wall_s();
    r = save(options, file);
    if (r == 0)
        fprintf(stderr, "Key %s is revoked in %s.\n", options->id, options->file);
    return r;
}

/* The file first: whatever becomes of the gateway, the key does not come back with it. */
static int key_revoke(const struct options *options) {
    bool tell = options->now || options->config || options->socket_path;
    if (options->config && options->socket_path)
        return sp_wrong_usage(options->command, "--socket and --config together: give one");
    int r = write_revocation(options);
    if (r != SP_EXIT_OK)
        return r;
    if (!tell) {
        fprintf(stderr, "A running gateway refuses it after its next reload, or at once with `sallyport ctl revoke %s`, which gateways that "
                        "share its Redis follow; with --now what it has open ends too.\n", options->id);
        return SP_EXIT_OK;
    }
    if (sp_ctl_revoke(options->socket_path, options->config, options->id, options->now) == SP_EXIT_OK)
        return SP_EXIT_OK;
    return failed(options, "it stands in %s, but the running gateway was not told; see above", options->file);
}

static int key_rotate(const struct options *options) {
    _cleanup_(sp_close_fd) int lock_fd = -1;
    _cleanup_(free_file) struct sp_key_file *file = NULL;
    int r = lock(options, &lock_fd);
    if (r == 0)
        r = load(options, false, &file);
    if (r != 0)
        return r;
    struct sp_api_key_config *old = find(options, file);
    if (!old)
        return SP_EXIT_FAILED;
    if (old->revoked)
        return failed(options, "%s is revoked; make a new key with sallyport key new", old->id);
    /* The new key is neither given more time than its owner chose nor one that ends tomorrow: who rotates must say. */
    if (old->expires_at_s && !options->expires_given)
        return failed(options, "%s expires; say how long its successor lives with --expires 90d, or --expires never", old->id);

    uint64_t now_s = sp_wall_s(), ends_at_s;
    struct sp_api_key_config successor = *old;
    successor.expires_at_s = options->expires_at_s;
    if (options->overlap_s == 0) {
        old->revoked = true;
        old->revoked_at_s = now_s;
    } else if (!__builtin_add_overflow(now_s, options->overlap_s, &ends_at_s)) {
        old->expires_at_s = old->expires_at_s ? sp_min(old->expires_at_s, ends_at_s) : ends_at_s;
    }
    return add_and_show(options, file, successor);
}

/* ---- The list ---- */

static const char *state_of(const struct sp_api_key_config *key, uint64_t now_s) {
    return key->revoked ? "revoked" : key->expires_at_s && key->expires_at_s <= now_s ? "expired" : "active";
}

/* The times of one key as text; "" for none. Seconds are enough. */
static void time_text(uint64_t at_s, char out[SP_TIMESTAMP_LEN + 1]) {
    out[0] = '\0';
    if (!at_s)
        return;
    sp_timestamp(at_s * 1000, out);
    memcpy(out + 19, "Z", 2);
}

static int append_json_member(struct sp_buffer *out, const char *name, const char *value) {
    int r = sp_buffer_printf(out, ",\"%s\":", name);
    if (r == 0)
        r = value && *value ? sp_buffer_append_json(out, sp_span_text(value)) : sp_buffer_append_span(out, SP_SPAN("null"));
    return r;
}

static int append_json_key(struct sp_buffer *out, const struct sp_api_key_config *key, uint64_t now_s) {
    char expires[SP_TIMESTAMP_LEN + 1], revoked[SP_TIMESTAMP_LEN + 1];
    time_text(key->expires_at_s, expires);
    time_text(key->revoked_at_s, revoked);
    int r = sp_buffer_printf(out, "{\"id\":\"%s\"", key->id);
    r = r ? r : append_json_member(out, "name", key->name);
    r = r ? r : append_json_member(out, "tenant", key->tenant);
    r = r ? r : append_json_member(out, "state", state_of(key, now_s));
    r = r ? r : append_json_member(out, "expires", expires);
    r = r ? r : append_json_member(out, "revoked", revoked);
    r = r ? r : sp_buffer_append_span(out, SP_SPAN(",\"roles\":["));
    for (size_t i = 0; r == 0 && i < key->roles.count; i++) {
        r = i ? sp_buffer_append_span(out, SP_SPAN(",")) : 0;
        r = r ? r : sp_buffer_append_json(out, sp_span_text(key->roles.item[i]));
    }
    return r ? r : sp_buffer_append_span(out, SP_SPAN("]}"));
}

static int append_line(struct sp_buffer *out, const struct sp_api_key_config *key, uint64_t now_s) {
    char expires[SP_TIMESTAMP_LEN + 1];
    time_text(key->expires_at_s, expires);
    int r = sp_buffer_printf(out, "%-8s  %-7s  %-20s  %-24s  %-16s  ", key->id, state_of(key, now_s), *expires ? expires : "never",
                             key->name, key->tenant ? key->tenant : "-");
    for (size_t i = 0; r == 0 && i < key->roles.count; i++)
        r = sp_buffer_printf(out, "%s%s", i ? "," : "", key->roles.item[i]);
    return r ? r : sp_buffer_append_span(out, SP_SPAN("\n"));
}

static int append_list(struct sp_buffer *out, struct sp_key_file *file, bool json) {
    uint64_t now_s = sp_wall_s();
    int r = json ? sp_buffer_append_span(out, SP_SPAN("["))
                 : sp_buffer_printf(out, "%-8s  %-7s  %-20s  %-24s  %-16s  %s\n", "ID", "STATE", "EXPIRES", "NAME", "TENANT", "ROLES");
    for (size_t i = 0; r == 0 && i < sp_key_file_count(file); i++) {
        const struct sp_api_key_config *key = sp_key_file_at(file, i);
        if (json && i)
            r = sp_buffer_append_span(out, SP_SPAN(","));
        r = r ? r : json ? append_json_key(out, key, now_s) : append_line(out, key, now_s);
    }
    return r ? r : json ? sp_buffer_append_span(out, SP_SPAN("]\n")) : 0;
}

static int key_list(const struct options *options) {
    _cleanup_(free_file) struct sp_key_file *file = NULL;
    int r = load(options, false, &file);
    if (r != 0)
        return r;
    _cleanup_(sp_buffer_free) struct sp_buffer out;
    sp_buffer_init(&out, SIZE_MAX / 2);
    r = append_list(&out, file, options->json);
    if (r < 0)
        return failed(options, "%s", strerror(-r));
    struct sp_span list = sp_buffer_span(&out);
    if (fwrite(list.at, 1, list.len, stdout) != list.len || fflush(stdout) != 0)
        return failed(options, "cannot write the list: %s", strerror(errno));
    return SP_EXIT_OK;
}

static const struct {
    const char *name, *command;
    int (*run)(const struct options *options);
    uint32_t takes;
    bool takes_id;
} verbs[] = {
    {"new", "key new", key_new, TAKES(FILE) | TAKES(NAME) | TAKES(ROLE) | TAKES(TENANT) | TAKES(EXPIRES), false},
    {"list", "key list", key_list, TAKES(FILE) | TAKES(JSON), false},
    {"revoke", "key revoke", key_revoke, TAKES(FILE) | TAKES(NOW) | TAKES(CONFIG) | TAKES(SOCKET), true},
    {"rotate", "key rotate", key_rotate, TAKES(FILE) | TAKES(OVERLAP) | TAKES(EXPIRES), true},
};

int sp_command_key(int argc, char **argv) {
    struct options options = {.command = "key", .overlap_s = OVERLAP_DEFAULT_S};
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return fputs(usage, stdout) < 0 ? SP_EXIT_FAILED : SP_EXIT_OK;
    if (argc < 2)
        return sp_wrong_usage("key", "say what to do: new, list, revoke or rotate");
    for (size_t i = 0; i < SP_COUNT(verbs); i++) {
        if (strcmp(argv[1], verbs[i].name) != 0)
            continue;
        options.command = verbs[i].command;
        _cleanup_(sp_free_pointer) char *file = NULL;
        int r = parse_options(argc - 1, argv + 1, verbs[i].takes, verbs[i].takes_id, &options);
        if (r == 0)
            r = resolve(&options, &file);
        options.file = file;
        return r != 0 ? r : verbs[i].run(&options);
    }
    return sp_wrong_usage("key", "%s: it is new, list, revoke or rotate", argv[1]);
}
