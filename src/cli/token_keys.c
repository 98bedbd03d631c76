/* sallyport token keys: a key pair for signing development tokens, and the JSON Web Key Set that an issuer's `jwks` names. */
#include "token_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <unistd.h>

#include "commands.h"

static const char usage[] =
    "usage: sallyport token keys --out-private FILE --out-jwks FILE [--alg ES256|RS256|EdDSA]\n"
    "\n"
    "Makes a key pair for development: the private key as PEM (mode 0600), the public one as a JSON Web Key Set for an\n"
    "issuer's `jwks`. Neither file may exist. Real tokens come from an identity provider, which keeps its own keys.\n"
    "\n"
    "  --out-private FILE   for sallyport token --key\n"
    "  --out-jwks FILE      for `jwks` in the configuration\n"
    "  --alg ALGORITHM      ES256 (default), RS256, or EdDSA, with which sallyport token cannot sign\n"
    "  --help               this text\n";

static void free_key(EVP_PKEY **key) { EVP_PKEY_free(*key); }
static void free_number(BIGNUM **number) { BN_free(*number); }
static void free_file(BIO **file) { BIO_free_all(*file); }

static int failed(const char *what, const char *path) {
    fprintf(stderr, "sallyport token keys: %s %s\n", what, path);
    return SP_EXIT_FAILED;
}

static EVP_PKEY *make_key(const char *algorithm) {
    if (strcmp(algorithm, "ES256") == 0)
        return EVP_EC_gen("P-256");
    if (strcmp(algorithm, "RS256") == 0)
        return EVP_RSA_gen(2048);
    return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

#define NUMBER_MAX  256 /* bytes: an RSA modulus of 2048 bits */
#define NUMBER_TEXT (SP_BASE64URL_LEN(NUMBER_MAX) + 1)

/* len 0: without leading zeros. */
static bool number_text(const EVP_PKEY *key, const char *name, int len, char out[NUMBER_TEXT]) {
    _cleanup_(free_number) BIGNUM *number = NULL;
    uint8_t bytes[NUMBER_MAX];
    if (EVP_PKEY_get_bn_param(key, name, &number) != 1)
        return false;
    if (len == 0)
        len = BN_num_bytes(number);
    if (len > NUMBER_MAX || BN_bn2binpad(number, bytes, len) != len)
        return false;
    out[sp_base64url(bytes, (size_t)len, out)] = '\0';
    return true;
}

/* The members RFC 7638 §3.2 asks for, in its order and without white space, so that the text's SHA-256 is the key's thumbprint. */
static bool required_members(EVP_PKEY *key, struct sp_buffer *out) {
    char first[NUMBER_TEXT], second[NUMBER_TEXT];
    if (EVP_PKEY_is_a(key, "RSA"))
        return number_text(key, OSSL_PKEY_PARAM_RSA_N, 0, first) && number_text(key, OSSL_PKEY_PARAM_RSA_E, 0, second) &&
               sp_buffer_printf(out, "{\"e\":\"%s\",\"kty\":\"RSA\",\"n\":\"%s\"}", second, first) == 0;
    if (EVP_PKEY_is_a(key, "EC"))
        return number_text(key, OSSL_PKEY_PARAM_EC_PUB_X, 32, first) && number_text(key, OSSL_PKEY_PARAM_EC_PUB_Y, 32, second) &&
               sp_buffer_printf(out, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", first, second) == 0;
    uint8_t raw[32];
    size_t len = sizeof raw;
    if (EVP_PKEY_get_raw_public_key(key, raw, &len) != 1)
        return false;
    first[sp_base64url(raw, len, first)] = '\0';
    return sp_buffer_printf(out, "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"%s\"}", first) == 0;
}

static bool key_set_text(EVP_PKEY *key, const char *algorithm, struct sp_buffer *out) {
    _cleanup_(sp_buffer_free) struct sp_buffer members;
    sp_buffer_init(&members, 4096);
    uint8_t thumbprint[32];
    char kid[SP_BASE64URL_LEN(sizeof thumbprint) + 1];
    if (!required_members(key, &members))
        return false;
    struct sp_span text = sp_buffer_span(&members);
    if (EVP_Q_digest(NULL, "SHA256", NULL, text.at, text.len, thumbprint, NULL) != 1)
        return false;
    kid[sp_base64url(thumbprint, sizeof thumbprint, kid)] = '\0';
    return sp_buffer_printf(out, "{\"keys\":[{\"kid\":\"%s\",\"alg\":\"%s\",\"use\":\"sig\"," SP_SPAN_FMT "]}\n", kid, algorithm,
                            SP_SPAN_ARG(sp_span_from(text, 1))) == 0;
}

/* Never over a file that is there: it may be the only copy of a key. */
static BIO *create(const char *path, mode_t mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return NULL;
    BIO *file = BIO_new_fd(fd, BIO_CLOSE);
    if (!file)
        close(fd);
    return file;
}

static int write_private(EVP_PKEY *key, const char *path) {
    _cleanup_(free_file) BIO *file = create(path, 0600);
    if (!file)
        return failed(errno == EEXIST ? "there is already a file" : strerror(errno), path);
    if (PEM_write_bio_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1)
        return 0;
    unlink(path);
    return failed("cannot write", path);
}

static int write_key_set(struct sp_span text, const char *path) {
    _cleanup_(free_file) BIO *file = create(path, 0644);
    if (!file)
        return failed(errno == EEXIST ? "there is already a file" : strerror(errno), path);
    if (BIO_write(file, text.at, (int)text.len) == (int)text.len)
        return 0;
    unlink(path);
    return failed("cannot write", path);
}

static int make_files(const char *algorithm, const char *private_path, const char *jwks_path) {
    _cleanup_(free_key) EVP_PKEY *key = make_key(algorithm);
    _cleanup_(sp_buffer_free) struct sp_buffer set;
    sp_buffer_init(&set, 8192);
    if (!key || !key_set_text(key, algorithm, &set))
        return failed("cannot make a key for", algorithm);
    int r = write_private(key, private_path);
    if (r != 0)
        return r;
    r = write_key_set(sp_buffer_span(&set), jwks_path);
    if (r != 0)
        unlink(private_path); /* made just now, and of no use alone */
    return r;
}

int sp_command_token_keys(int argc, char **argv) {
    static const struct option options[] = {{"out-private", required_argument, NULL, 'p'},
                                            {"out-jwks", required_argument, NULL, 'j'},
                                            {"alg", required_argument, NULL, 'a'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *private_path = NULL, *jwks_path = NULL, *algorithm = "ES256";
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (option) {
        case 'p':
            private_path = optarg;
            break;
        case 'j':
            jwks_path = optarg;
            break;
        case 'a':
            algorithm = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return SP_EXIT_OK;
        default:
            return sp_wrong_option("token keys", option, argv);
        }
    }
    if (optind < argc)
        return sp_wrong_usage("token keys", "%s: one argument too many", argv[optind]);
    if (!private_path || !jwks_path)
        return sp_wrong_usage("token keys", "say where both files go with --out-private and --out-jwks");
    if (strcmp(algorithm, "ES256") != 0 && strcmp(algorithm, "RS256") != 0 && strcmp(algorithm, "EdDSA") != 0)
        return sp_wrong_usage("token keys", "--alg %s: it is ES256, RS256 or EdDSA", algorithm);
    return make_files(algorithm, private_path, jwks_path);
}
