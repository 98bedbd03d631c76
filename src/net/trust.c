/* Whom to believe: authorities and their lists of revocations, from PEM text into a context. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "tls.h"

/* The end of the text is reported as "no start line"; anything else is an item that cannot be read. */
static bool ended_well(void) {
    unsigned long error = ERR_peek_last_error();
    bool well = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return well;
}

/* ---- Authorities ---- */

int sp_tls_trust_authorities(SSL_CTX *context, const struct sp_text *ca, const char *pem, bool tell, char **ret_error) {
    BIO *text = BIO_new_mem_buf(pem, -1);
    if (!text)
        return -ENOMEM;
    size_t count = 0;
    bool added = true;
    X509 *authority;
    while (added && (authority = PEM_read_bio_X509(text, NULL, NULL, NULL))) {
        added = X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority) == 1 &&
                (!tell || SSL_CTX_add_client_CA(context, authority) == 1);
        count += added;
        X509_free(authority);
    }
    BIO_free(text);
    if (!added)
        return -ENOMEM;
    if (!ended_well())
        return sp_tls_refuse(ret_error, "%s: a certificate in %s cannot be read", ca->where, ca->text);
    if (count == 0)
        return sp_tls_refuse(ret_error, "%s: there is no certificate in PEM form in %s", ca->where, ca->text);
    return 0;
}

/* ---- Revocations ---- */

/* It may be renewed without us: this is for the log, each handshake judges anew. */
static void warn_of_age(const struct sp_text *file, const X509_CRL *list) {
    const ASN1_TIME *until = X509_CRL_get0_nextUpdate(list);
    if (!until || X509_cmp_time(until, NULL) >= 0)
        return;
    char *issuer = sp_tls_name_text(X509_CRL_get_issuer(list));
    sp_warn("%s: the list of revocations of \"%s\" in %s has expired: until it is renewed nobody with a certificate of that authority is "
            "let in",
            file->where, issuer ? issuer : "", file->text);
    free(issuer);
}

int sp_tls_trust_revocations(SSL_CTX *context, const struct sp_text *crl, const char *pem, char **ret_error) {
    BIO *text = BIO_new_mem_buf(pem, -1);
    if (!text)
        return -ENOMEM;
    size_t count = 0;
    bool added = true;
    X509_CRL *list;
    while (added && (list = PEM_read_bio_X509_CRL(text, NULL, NULL, NULL))) {
        added = X509_STORE_add_crl(SSL_CTX_get_cert_store(context), list) == 1;
        count += added;
        if (added)
            warn_of_age(crl, list);
        X509_CRL_free(list);
    }
    BIO_free(text);
    if (!added)
        return -ENOMEM;
    if (!ended_well())
        return sp_tls_refuse(ret_error, "%s: a list of revocations in %s cannot be read", crl->where, crl->text);
    if (count == 0)
        return sp_tls_refuse(ret_error, "%s: there is no list of revocations (X509 CRL) in PEM form in %s", crl->where, crl->text);
    (void)X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL); /* always 1 */
    return 0;
}
