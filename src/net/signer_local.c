/* The signer of today: the private key is in this process. A key holder will give an object here that asks it for every signature. */
#include <openssl/err.h>
#include <openssl/pem.h>

#include "tls.h"

/* Never asks a terminal. */
static int no_passphrase(char *into, int size, int writing, void *unused) { return -1; }

static void *key_for(const struct sp_tls_signer *signer, const struct sp_certificate_config *certificate, char **ret_error) {
    const char *where = certificate->key.where ? certificate->key.where : "", *path = certificate->key.text ? certificate->key.text : "";
    if (!certificate->key_pem) {
        (void)sp_tls_refuse(ret_error, "%s: the private key %s was not handed over", where, path);
        return NULL;
    }
    BIO *pem = BIO_new_mem_buf(certificate->key_pem, -1);
    EVP_PKEY *key = pem ? PEM_read_bio_PrivateKey(pem, NULL, no_passphrase, NULL) : NULL;
    BIO_free(pem);
    if (key)
        return key;
    bool encrypted = strstr(certificate->key_pem, "ENCRYPTED") != NULL;
    ERR_clear_error();
    (void)sp_tls_refuse(ret_error,
                        encrypted ? "%s: the private key %s is encrypted with a passphrase, which a daemon cannot be asked for"
                                  : "%s: %s is not a private key in PEM form",
                        where, path);
    return NULL;
}

const struct sp_tls_signer sp_tls_signer_local = {.key_for = key_for};
