/* The facts of a certificate that a peer gave: text and numbers that need no OpenSSL to read. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "tls.h"

#define ALTERNATIVES_SHOWN_MAX 256 /* in the log */

struct peer {
    struct sp_peer_certificate facts; /* first: what is handed out */
    char *subject, *name, *serial;
};

/* ---- Names ---- */

char *sp_tls_name_text(const X509_NAME *name) {
    BIO *into = BIO_new(BIO_s_mem());
    char *bytes = NULL, *text = NULL;
    if (into && X509_NAME_print_ex(into, name, 0, XN_FLAG_RFC2253) >= 0) {
        long len = BIO_get_mem_data(into, &bytes);
        text = sp_span_dup(sp_span(bytes, (size_t)len));
    }
    BIO_free(into);
    return text;
}

char *sp_tls_serial_text(const X509 *certificate) {
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    char *digits = number ? BN_bn2hex(number) : NULL;
    char *text = digits ? strdup(digits) : NULL;
    OPENSSL_free(digits);
    BN_free(number);
    return text;
}

/* A server's: host names and addresses. */
static int append_alternative(struct sp_buffer *into, const GENERAL_NAME *alternative) {
    char text[SP_ADDRESS_TEXT_MAX];
    const ASN1_STRING *string = alternative->type == GEN_DNS     ? alternative->d.dNSName
                                : alternative->type == GEN_IPADD ? alternative->d.iPAddress
                                                                 : NULL;
    if (!string)
        return 0;
    struct sp_span name = sp_span((const char *)ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string));
    if (alternative->type == GEN_IPADD) {
        uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff};
        if (name.len != 4 && name.len != 16)
            return 0;
        memcpy(bytes + 16 - name.len, name.at, name.len);
        name = sp_span(text, sp_address_text(bytes, text));
    }
    int r = sp_buffer_len(into) > 0 ? sp_buffer_append_span(into, SP_SPAN(", ")) : 0;
    return r < 0 ? r : sp_buffer_append_span(into, name);
}

char *sp_tls_alternatives_text(const X509 *certificate) {
    struct sp_buffer text;
    sp_buffer_init(&text, ALTERNATIVES_SHOWN_MAX);
    GENERAL_NAMES *alternatives = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int r = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(alternatives) && r == 0; i++)
        r = append_alternative(&text, sk_GENERAL_NAME_value(alternatives, i)); /* what is too much is left out */
    GENERAL_NAMES_free(alternatives);
    char *copy = sp_buffer_len(&text) > 0 ? sp_span_dup(sp_buffer_span(&text)) : strdup("no name");
    sp_buffer_free(&text);
    return copy;
}

static enum sp_alternative_name kind_of(const GENERAL_NAME *alternative, const ASN1_IA5STRING **ret_text) {
    switch (alternative->type) {
    case GEN_DNS:
        *ret_text = alternative->d.dNSName;
        return SP_NAME_DNS;
    case GEN_URI:
        *ret_text = alternative->d.uniformResourceIdentifier;
        return SP_NAME_URI;
    case GEN_EMAIL:
        *ret_text = alternative->d.rfc822Name;
        return SP_NAME_EMAIL;
    default:
        return SP_NAME_NONE;
    }
}

/* A name that holds what cannot be seen would be read as another by somebody. */
static bool is_visible(struct sp_span text) {
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] <= 0x20 || text.at[i] >= 0x7f)
            return false;
    return text.len > 0;
}

static int take_name(struct peer *peer, const GENERAL_NAMES *alternatives) {
    for (int i = 0; i < sk_GENERAL_NAME_num(alternatives); i++) { /* -1 when there are none */
        const ASN1_IA5STRING *string = NULL;
        enum sp_alternative_name kind = kind_of(sk_GENERAL_NAME_value(alternatives, i), &string);
        if (kind == SP_NAME_NONE)
            continue;
        struct sp_span text = sp_span((const char *)ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string));
        if (!is_visible(text))
            return -EINVAL;
        if (text.len > SP_PEER_NAME_MAX)
            return -EMSGSIZE;
        peer->name = sp_span_dup(text);
        peer->facts.kind = kind;
        return peer->name ? 0 : -ENOMEM;
    }
    return 0;
}

/* ---- All of it ---- */

static int read_facts(struct peer *peer, X509 *certificate) {
    struct tm until;
    unsigned len = 0;
    peer->subject = sp_tls_name_text(X509_get_subject_name(certificate));
    peer->serial = sp_tls_serial_text(certificate);
    if (!peer->subject || !peer->serial)
        return -ENOMEM;
    if (strlen(peer->subject) > SP_PEER_NAME_MAX)
        return -EMSGSIZE;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &until) != 1 ||
        X509_digest(certificate, EVP_sha256(), peer->facts.thumbprint, &len) != 1)
        return -EINVAL;
    time_t not_after = timegm(&until);
    peer->facts.not_after_s = not_after > 0 ? (uint64_t)not_after : 0;
    GENERAL_NAMES *alternatives = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int r = take_name(peer, alternatives);
    GENERAL_NAMES_free(alternatives);
    return r;
}

int sp_tls_peer_new(X509 *certificate, struct sp_peer_certificate **ret) {
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return -ENOMEM;
    int r = read_facts(peer, certificate);
    ERR_clear_error();
    if (r < 0) {
        sp_tls_peer_free(&peer->facts);
        return r;
    }
    peer->facts.subject = peer->subject;
    peer->facts.name = peer->name ? peer->name : "";
    peer->facts.serial = peer->serial;
    *ret = &sp_take(peer)->facts;
    return 0;
}

void sp_tls_peer_free(struct sp_peer_certificate *facts) {
    if (!facts)
        return;
    struct peer *peer = SP_CONTAINER(facts, struct peer, facts);
    free(peer->subject);
    free(peer->name);
    free(peer->serial);
    free(peer);
}
