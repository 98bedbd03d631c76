/* sallyport token: signs tokens for development and tests, with libjwt. The gateway itself never signs a token it would accept. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <jwt.h>
#include <openssl/pem.h>
#include <sallyport/config.h>
#include <stdio.h>
#include <unistd.h>

#include "commands.h"
#include "token_keys.h"

#define KEY_FILE_MAX (64 * 1024)

static const char usage[] =
    "usage: sallyport token --key FILE --issuer ISSUER --audience AUDIENCE --subject SUBJECT [OPTION]...\n"
    "       sallyport token keys --out-private FILE --out-jwks FILE [--alg ES256|RS256|EdDSA]\n"
    "\n"
    "Signs a token for development and writes it, alone, to standard output. `sallyport token keys` makes a key for it.\n"
    "\n"
    "  --key FILE         private key, PEM; for HS256 the file with the secret\n"
    "  --alg ALGORITHM    RS256 RS384 RS512 ES256 ES384 ES512 or HS256; left out: what goes with the key\n"
    "  --issuer ISSUER    `iss`: an issuer of the configuration\n"
    "  --audience NAME    `aud`: one of the issuer's audience\n"
    "  --subject NAME     `sub`: who the caller is\n"
    "  --tenant NAME      `org_id`\n"
    "  --role ROLE        `roles`; may be given several times\n"
    "  --scope SCOPES     `scope`, parted by spaces\n"
    "  --expires TIME     from now on (default 1h)\n"
    "  --kid ID           which key of the key set; not needed where only one fits\n"
    "  --type TYPE        `typ` (default JWT); at+jwt needs a libjwt newer than Debian 12's\n"
    "  --help             this text\n"
    "\n"
    "PS256 to PS512 and EdDSA, which the gateway accepts too, cannot be signed with here: the libjwt of Debian 12 has neither.\n";

struct request {
    const char *key, *algorithm, *issuer, *audience, *subject, *tenant, *scope, *kid, *type;
    json_t *roles;
    uint64_t lifetime_s;
};

static int failed(const char *format, ...) SP_PRINTF(1, 2);
static int failed(const char *format, ...) {
    va_list arguments;
    fputs("sallyport token: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return SP_EXIT_FAILED;
}

static void free_jwt(jwt_t **jwt) { jwt_free(*jwt); }
static void free_json(json_t **value) { json_decref(*value); }
static void free_bio(BIO **bio) { BIO_free(*bio); }
static void free_key(EVP_PKEY **key) { EVP_PKEY_free(*key); }
static void free_secret(char **text) { sp_free_secret(*text); }

/* ---- The key ---- */

static int read_file(const char *path, char **ret) {
    _cleanup_(sp_close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return failed("cannot open %s: %s", path, strerror(errno));
    _cleanup_(free_secret) char *text = calloc(1, KEY_FILE_MAX + 1);
    if (!text)
        return failed("%s", strerror(ENOMEM));
    size_t len = 0;
    for (ssize_t n = 1; n > 0 && len < KEY_FILE_MAX; len += (size_t)n) {
        n = read(fd, text + len, KEY_FILE_MAX - len);
        if (n < 0)
            return failed("cannot read %s: %s", path, strerror(errno));
    }
    if (len == KEY_FILE_MAX)
        return failed("%s is too large for a key", path);
    *ret = sp_take(text);
    return 0;
}

static const struct {
    const char *name;
    jwt_alg_t algorithm;
    const char *type; /* of the key; NULL: a secret */
    int bits;         /* EC: exactly; else at least */
} algorithms[] = {
    {"ES256", JWT_ALG_ES256, "EC", 256},   {"ES384", JWT_ALG_ES384, "EC", 384},   {"ES512", JWT_ALG_ES512, "EC", 521},
    {"RS256", JWT_ALG_RS256, "RSA", 2048}, {"RS384", JWT_ALG_RS384, "RSA", 2048}, {"RS512", JWT_ALG_RS512, "RSA", 2048},
    {"HS256", JWT_ALG_HS256, NULL, 0},
};
#define NO_ALGORITHM SP_COUNT(algorithms)

static size_t algorithm_named(const char *name) {
    for (size_t i = 0; i < SP_COUNT(algorithms); i++)
        if (strcmp(name, algorithms[i].name) == 0)
            return i;
    return NO_ALGORITHM;
}

static bool goes_with(const EVP_PKEY *key, size_t i) {
    if (!algorithms[i].type || !EVP_PKEY_is_a(key, algorithms[i].type))
        return false;
    int bits = EVP_PKEY_get_bits(key);
    return strcmp(algorithms[i].type, "EC") == 0 ? bits == algorithms[i].bits : bits >= algorithms[i].bits;
}

/* Which algorithm to sign with: the one asked for if the key can do it, else the first that goes with the key. */
static int choose_algorithm(const struct request *request, const char *pem, size_t *ret) {
    size_t named = request->algorithm ? algorithm_named(request->algorithm) : NO_ALGORITHM;
    if (named != NO_ALGORITHM && !algorithms[named].type) {
        *ret = named;
        return 0;
    }
    _cleanup_(free_bio) BIO *bio = BIO_new_mem_buf(pem, -1);
    _cleanup_(free_key) EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;
    if (!key)
        return failed("%s is no private key in PEM without a passphrase; make one with sallyport token keys", request->key);
    for (size_t i = 0; i < SP_COUNT(algorithms); i++)
        if (goes_with(key, i) && (named == NO_ALGORITHM || named == i)) {
            *ret = i;
            return 0;
        }
    const char *type = EVP_PKEY_get0_type_name(key);
    if (named != NO_ALGORITHM)
        return failed("%s holds a key of type %s and %d bits, which does not go with %s", request->key, type ? type : "?",
                      EVP_PKEY_get_bits(key), algorithms[named].name);
    return failed(
        "%s holds a key of type %s and %d bits: libjwt cannot sign with it; use an EC (P-256, P-384, P-521) or RSA key (2048 bits)",
        request->key, type ? type : "?", EVP_PKEY_get_bits(key));
}

/* ---- The token ---- */

static char *claims_text(const struct request *request) {
    json_int_t now_s = (json_int_t)sp_wall_s();
    _cleanup_(free_json) json_t *claims = json_pack("{s:s, s:s, s:s, s:I, s:I}", "iss", request->issuer, "aud", request->audience, "sub",
                                                    request->subject, "iat", now_s, "exp", now_s + (json_int_t)request->lifetime_s);
    if (!claims || (request->tenant && json_object_set_new(claims, "org_id", json_string(request->tenant)) < 0) ||
        (request->scope && json_object_set_new(claims, "scope", json_string(request->scope)) < 0) ||
        (json_array_size(request->roles) && json_object_set(claims, "roles", request->roles) < 0))
        return NULL; /* not UTF-8, mostly */
    return json_dumps(claims, JSON_COMPACT);
}

static int sign(const struct request *request) {
    _cleanup_(free_secret) char *key = NULL;
    size_t chosen = NO_ALGORITHM;
    int r = read_file(request->key, &key);
    if (r == 0)
        r = choose_algorithm(request, key, &chosen);
    if (r != 0)
        return r;
    size_t len = strlen(key);
    if (!algorithms[chosen].type && len > 0 && key[len - 1] == '\n')
        len--; /* as the configuration reads secret_file */

    _cleanup_(free_secret) char *claims = claims_text(request);
    if (!claims)
        return failed("the claims must be UTF-8 text");
    _cleanup_(free_jwt) jwt_t *jwt = NULL;
    if (jwt_new(&jwt) != 0 || jwt_add_grants_json(jwt, claims) != 0 || jwt_add_header(jwt, "typ", request->type) != 0 ||
        (request->kid && jwt_add_header(jwt, "kid", request->kid) != 0) ||
        jwt_set_alg(jwt, algorithms[chosen].algorithm, (const unsigned char *)key, (int)len) != 0)
        return failed("libjwt refuses these claims or this key");
    _cleanup_(free_secret) char *token = jwt_encode_str(jwt);
    if (!token)
        return failed("libjwt cannot sign with %s as %s", request->key, algorithms[chosen].name);
    /* Older ones write JWT over what they were told. */
    const char *written = jwt_get_header(jwt, "typ");
    if (!written || strcmp(written, request->type) != 0)
        return failed("this libjwt writes the type %s whatever it is told, not %s; leave --type out", written ? written : "?",
                      request->type);
    if (printf("%s\n", token) < 0 || fflush(stdout) != 0)
        return failed("cannot write the token: %s", strerror(errno));
    return SP_EXIT_OK;
}

/* ---- Options ---- */

static bool is_known_elsewhere(const char *name) {
    for (unsigned i = 0; i < SP_ALG_COUNT; i++)
        if (strcmp(name, sp_jwt_algorithm_name((enum sp_jwt_algorithm)i)) == 0)
            return true;
    return false;
}

static int check_request(const struct request *request) {
    if (!request->key)
        return sp_wrong_usage("token", "say which private key with --key; sallyport token keys makes one");
    if (!request->issuer || !request->audience || !request->subject)
        return sp_wrong_usage("token", "say --issuer, --audience and --subject: the gateway refuses a token without them");
    if (!request->algorithm || algorithm_named(request->algorithm) != NO_ALGORITHM)
        return 0;
    if (is_known_elsewhere(request->algorithm))
        return failed("this libjwt cannot sign with %s, though the gateway accepts it; use ES256 or RS256 here", request->algorithm);
    return sp_wrong_usage("token", "--alg %s: it is one of RS256 RS384 RS512 ES256 ES384 ES512 HS256", request->algorithm);
}

static int take_lifetime(struct request *request, const char *text) {
    uint64_t ms;
    if (sp_parse_duration(sp_span_text(text), &ms) < 0 || ms < 1000)
        return sp_wrong_usage("token", "--expires %s: say a time like 10m, 1h or 7d", text);
    request->lifetime_s = ms / 1000;
    return 0;
}

static int take_option(struct request *request, int option, char **argv) {
    switch (option) {
    case 'k':
        request->key = optarg;
        return 0;
    case 'a':
        request->algorithm = optarg;
        return 0;
    case 'i':
        request->issuer = optarg;
        return 0;
    case 'u':
        request->audience = optarg;
        return 0;
    case 's':
        request->subject = optarg;
        return 0;
    case 't':
        request->tenant = optarg;
        return 0;
    case 'c':
        request->scope = optarg;
        return 0;
    case 'd':
        request->kid = optarg;
        return 0;
    case 'y':
        request->type = optarg;
        return 0;
    case 'e':
        return take_lifetime(request, optarg);
    case 'r':
        return json_array_append_new(request->roles, json_string(optarg)) < 0 ? failed("--role %s is not UTF-8", optarg) : 0;
    default:
        return sp_wrong_option("token", option, argv);
    }
}

static int sign_command(int argc, char **argv) {
    static const struct option options[] = {{"key", required_argument, NULL, 'k'},
                                            {"alg", required_argument, NULL, 'a'},
                                            {"issuer", required_argument, NULL, 'i'},
                                            {"audience", required_argument, NULL, 'u'},
                                            {"subject", required_argument, NULL, 's'},
                                            {"tenant", required_argument, NULL, 't'},
                                            {"role", required_argument, NULL, 'r'},
                                            {"scope", required_argument, NULL, 'c'},
                                            {"expires", required_argument, NULL, 'e'},
                                            {"kid", required_argument, NULL, 'd'},
                                            {"type", required_argument, NULL, 'y'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    _cleanup_(free_json) json_t *roles = json_array();
    struct request request = {.type = "JWT", .lifetime_s = 3600, .roles = roles};
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(usage, stdout);
            return SP_EXIT_OK;
        }
        int r = take_option(&request, option, argv);
        if (r != 0)
            return r;
    }
    if (optind < argc)
        return sp_wrong_usage("token", "%s: one argument too many", argv[optind]);
    int r = check_request(&request);
    return r != 0 ? r : sign(&request);
}

int sp_command_token(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "keys") == 0)
        return sp_command_token_keys(argc - 1, argv + 1);
    return sign_command(argc, argv);
}
