/* A certificate chain and its key, from PEM text to objects, with one sentence for each way in which they may not do. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "tls.h"

#define RSA_BITS_MIN 2048
#define CHAIN_MAX    16

int sp_tls_refuse(char **ret_error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *sentence = NULL;
    if (vasprintf(&sentence, format, arguments) < 0)
        sentence = NULL;
    va_end(arguments);
    *ret_error = sentence;
    return -EINVAL;
}

const char *sp_tls_reason(void) {
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return reason ? reason : "unknown reason";
}

/* ---- Names ---- */

static bool usable_name(struct sp_span name) {
    if (name.len == 0 || memchr(name.at, '\0', name.len))
        return false; /* a NUL inside would make two readers see two names */
    const char *star = memchr(name.at, '*', name.len);
    return !star || (star == name.at && name.len > 2 && name.at[1] == '.' && !memchr(name.at + 1, '*', name.len - 1));
}

static int read_names(struct sp_tls_identity *identity) {
    GENERAL_NAMES *alternatives = X509_get_ext_d2i(identity->leaf, NID_subject_alt_name, NULL, NULL);
    int n = sk_GENERAL_NAME_num(alternatives); /* -1 when there are none */
    int r = 0;
    identity->names = n > 0 ? calloc((size_t)n, sizeof *identity->names) : NULL;
    if (n > 0 && !identity->names)
        r = -ENOMEM;
    for (int i = 0; i < n && r == 0; i++) {
        const GENERAL_NAME *alternative = sk_GENERAL_NAME_value(alternatives, i);
        if (alternative->type != GEN_DNS)
            continue;
        struct sp_span name =
            sp_span((const char *)ASN1_STRING_get0_data(alternative->d.dNSName), (size_t)ASN1_STRING_length(alternative->d.dNSName));
        if (!usable_name(name))
            continue;
        char *copy = sp_span_dup(name);
        if (!copy)
            r = -ENOMEM;
        else
            identity->names[identity->n_names++] = copy;
    }
    GENERAL_NAMES_free(alternatives);
    ERR_clear_error();
    return r;
}

/* RFC 6125 §6.4.3: the wildcard stands for exactly one label, the leftmost. */
enum sp_tls_match sp_tls_identity_match(const struct sp_tls_identity *identity, struct sp_span host) {
    const char *dot = memchr(host.at, '.', host.len);
    struct sp_span parent = dot && dot != host.at ? sp_span_from(host, (size_t)(dot - host.at)) : sp_span(NULL, 0);
    enum sp_tls_match best = SP_TLS_MATCH_NONE;
    for (size_t i = 0; i < identity->n_names; i++) {
        struct sp_span name = sp_span_text(identity->names[i]);
        if (sp_span_eq_nocase(name, host))
            return SP_TLS_MATCH_EXACT;
        if (parent.len > 0 && name.at[0] == '*' && sp_span_eq_nocase(sp_span_from(name, 1), parent))
            best = SP_TLS_MATCH_WILDCARD;
    }
    return best;
}

/* ---- The chain ---- */

static int read_chain(struct sp_tls_identity *identity, const char *pem_text) {
    BIO *pem = BIO_new_mem_buf(pem_text, -1);
    identity->chain = sk_X509_new_null();
    if (!pem || !identity->chain) {
        BIO_free(pem);
        return -ENOMEM;
    }
    identity->leaf = PEM_read_bio_X509(pem, NULL, NULL, NULL);
    while (identity->leaf && sk_X509_num(identity->chain) < CHAIN_MAX) {
        X509 *issuer = PEM_read_bio_X509(pem, NULL, NULL, NULL);
        if (!issuer)
            break;
        if (!sk_X509_push(identity->chain, issuer))
            X509_free(issuer);
    }
    BIO_free(pem);
    /* The end of the text is reported as "no start line"; anything else is a certificate that cannot be read. */
    unsigned long error = ERR_peek_last_error();
    bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return at_end ? 0 : -EINVAL;
}

static int check_key_strength(const struct sp_tls_identity *identity, const struct sp_text *chain, char **ret_error) {
    const EVP_PKEY *public_key = X509_get0_pubkey(identity->leaf);
    if (!public_key)
        return sp_tls_refuse(ret_error, "%s: the public key of the certificate in %s cannot be read: %s", chain->where, chain->text,
                             sp_tls_reason());
    if (EVP_PKEY_is_a(public_key, "RSA") && EVP_PKEY_get_bits(public_key) < RSA_BITS_MIN)
        return sp_tls_refuse(ret_error, "%s: the RSA key of the certificate in %s has %d bits; at least %d are needed", chain->where,
                             chain->text, EVP_PKEY_get_bits(public_key), RSA_BITS_MIN);
    return 0;
}

int sp_tls_identity_load(struct sp_tls_identity *identity, const struct sp_certificate_config *config, const struct sp_tls_signer *signer,
                         char **ret_error) {
    const struct sp_text *chain = &config->chain;
    if (!config->chain_pem)
        return sp_tls_refuse(ret_error, "%s: the certificate %s was not handed over", chain->where, chain->text);
    int r = read_chain(identity, config->chain_pem);
    if (r == -ENOMEM)
        return r;
    if (!identity->leaf)
        return sp_tls_refuse(ret_error, "%s: there is no certificate in PEM form in %s", chain->where, chain->text);
    if (r < 0)
        return sp_tls_refuse(ret_error, "%s: a certificate in %s cannot be read", chain->where, chain->text);
    r = check_key_strength(identity, chain, ret_error);
    if (r < 0)
        return r;
    identity->key = signer->key_for(signer, config, ret_error);
    if (!identity->key)
        return -EINVAL;
    if (X509_check_private_key(identity->leaf, identity->key) != 1) {
        ERR_clear_error();
        return sp_tls_refuse(ret_error, "%s: the key %s does not match the certificate in %s", config->key.where, config->key.text,
                             chain->text);
    }
    return read_names(identity);
}

void sp_tls_identity_free(struct sp_tls_identity *identity) {
    for (size_t i = 0; i < identity->n_names; i++)
        free(identity->names[i]);
    free(identity->names);
    X509_free(identity->leaf);
    sk_X509_pop_free(identity->chain, X509_free);
    EVP_PKEY_free(identity->key);
}
