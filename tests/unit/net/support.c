#include "support.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <unistd.h>

/* ---- Certificates ---- */

static char *bio_text(BIO *bio) {
    char *bytes = NULL;
    long len = BIO_get_mem_data(bio, &bytes);
    char *text = sp_span_dup(sp_span(bytes, (size_t)len));
    BIO_free(bio);
    assert_non_null(text);
    return text;
}

static EVP_PKEY *make_key(const char *kind) {
    struct sp_span bits = sp_span_text(kind), name;
    if (strcmp(kind, "EC") == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    assert_true(sp_span_split(&bits, ':', &name));
    uint64_t n = 0;
    assert_true(sp_span_u64(bits, &n));
    return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)n);
}

static void add_names(X509 *x509, const char *names) {
    GENERAL_NAMES *alternatives = sk_GENERAL_NAME_new_null();
    struct sp_span rest = sp_span_text(names), item;
    while (sp_span_split(&rest, ' ', &item)) {
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();
        assert_int_equal(ASN1_STRING_set(text, item.at, (int)item.len), 1);
        GENERAL_NAME_set0_value(name, GEN_DNS, text);
        assert_true(sk_GENERAL_NAME_push(alternatives, name) > 0);
    }
    assert_int_equal(X509_add1_ext_i2d(x509, NID_subject_alt_name, alternatives, 0, 0), 1);
    GENERAL_NAMES_free(alternatives);
}

void test_certificate_make(struct test_certificate *certificate, const char *kind, const char *names) {
    static long serial = 1;
    EVP_PKEY *key = make_key(kind);
    assert_non_null(key);
    X509 *x509 = X509_new();
    X509_set_version(x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x509), 24 * 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(x509, X509_get_subject_name(x509));
    X509_set_pubkey(x509, key);
    if (*names)
        add_names(x509, names);
    assert_true(X509_sign(x509, key, EVP_sha256()) > 0);
    BIO *chain = BIO_new(BIO_s_mem()), *private = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(chain, x509), 1);
    assert_int_equal(PEM_write_bio_PrivateKey(private, key, NULL, NULL, 0, NULL, NULL), 1);
    *certificate = (struct test_certificate){.chain_pem = bio_text(chain), .key_pem = bio_text(private)};
    certificate->config = (struct sp_certificate_config){
        .chain = {.text = "tls/chain.pem", .where = "sallyport.yaml:4:14"},
        .key = {.text = "tls/key.pem", .where = "sallyport.yaml:5:12"},
        .chain_pem = certificate->chain_pem,
        .key_pem = certificate->key_pem,
    };
    X509_free(x509);
    EVP_PKEY_free(key);
}

void test_certificate_free(struct test_certificate *certificate) {
    free(certificate->chain_pem);
    free(certificate->key_pem);
}

struct sp_tls_server *test_server(const struct test_certificate *certificates, size_t n, const char *protocols,
                                  struct sp_tls_tickets *tickets) {
    struct sp_certificate_config configs[8];
    assert_true(n <= SP_COUNT(configs));
    for (size_t i = 0; i < n; i++)
        configs[i] = certificates[i].config;
    const char *names[4];
    char *copies[4];
    size_t n_names = 0;
    struct sp_span rest = sp_span_text(protocols), item;
    while (sp_span_split(&rest, ' ', &item)) {
        assert_true(n_names < SP_COUNT(names));
        names[n_names] = copies[n_names] = sp_span_dup(item);
        n_names++;
    }
    const struct sp_listener_config listener = {
        .address = {.text = "127.0.0.1:0", .where = "sallyport.yaml:3:14"},
        .certificates = configs,
        .n_certificates = n,
        .protocols = {.item = names, .count = n_names},
    };
    char *error = NULL;
    struct sp_tls_server *server = NULL;
    if (sp_tls_server_new(&listener, &sp_tls_signer_local, tickets, &error, &server) != 0)
        fail_msg("%s", error ? error : "no sentence");
    for (size_t i = 0; i < n_names; i++)
        free(copies[i]);
    return server;
}

struct sp_tls_server *test_server_simple(void) {
    struct test_certificate certificate;
    test_certificate_make(&certificate, "EC", "localhost");
    struct sp_tls_server *server = test_server(&certificate, 1, "http/1.1", NULL);
    test_certificate_free(&certificate);
    return server;
}

/* ---- The server side ---- */

void test_side_init(struct test_side *side) {
    *side = (struct test_side){.read_all = true, .ended = 1};
    check(sp_loop_new(&side->loop));
}

void test_side_free(struct test_side *side) {
    sp_transport_close(side->transport, false);
    sp_loop_free(side->loop);
}

static void read_what_there_is(struct test_side *side) {
    while (sp_transport_readable(side->transport) && side->got_len < sizeof side->got) {
        ssize_t n = sp_transport_read(side->transport, side->got + side->got_len, sizeof side->got - side->got_len);
        if (n == SP_IO_AGAIN)
            continue;
        if (n <= 0) {
            side->ended = n;
            return;
        }
        if (side->echo)
            test_write_all(side, side->got + side->got_len, (size_t)n);
        side->got_len += (size_t)n;
    }
}

void test_side_ready(void *owner, unsigned ready) {
    struct test_side *side = owner;
    side->seen |= ready;
    side->last = ready;
    side->calls++;
    if (ready & SP_READY_READ && side->close_inside) {
        sp_transport_close(sp_take(side->transport), false);
        return;
    }
    if (ready & SP_READY_READ && side->read_all)
        read_what_there_is(side);
}

int test_side_listen(uint16_t *ret_port) {
    int listener = -1;
    check(sp_listen("127.0.0.1", 0, 64, &listener));
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    check(getsockname(listener, (struct sockaddr *)&name, &size));
    *ret_port = ntohs(name.sin_port);
    return listener;
}

int test_connected(int *ret_accepted) {
    uint16_t port = 0;
    int listener = test_side_listen(&port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    check(connect(fd, (const struct sockaddr *)&to, sizeof to));
    check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
    *ret_accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(*ret_accepted >= 0);
    close(listener);
    return fd;
}

int test_side_accept(struct test_side *side, struct sp_tls_server *tls) {
    int accepted = -1, fd = test_connected(&accepted);
    check(sp_transport_accept(side->loop, accepted, tls, test_side_ready, side, &side->transport));
    return fd;
}

void test_write_all(struct test_side *side, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = sp_transport_write(side->transport, bytes, len);
        assert_true(n > 0);
        bytes += n;
        len -= (size_t)n;
    }
}

void test_use_up_turn(const struct sp_loop *loop) {
    uint64_t now = sp_clock_us(), until = now + (now - sp_loop_now_us(loop)) + SP_YIELDING_US;
    while (sp_clock_us() < until)
        ;
}

/* ---- The client side of TLS ---- */

void test_client_init(struct test_client *client, int fd) {
    assert_true(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    *client = (struct test_client){.context = SSL_CTX_new(TLS_client_method()), .fd = fd};
    client->ssl = SSL_new(client->context);
    SSL_set_fd(client->ssl, fd);
    SSL_set_connect_state(client->ssl);
    SSL_set_mode(client->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

void test_client_free(struct test_client *client) {
    SSL_free(client->ssl);
    SSL_CTX_free(client->context);
    if (client->fd >= 0)
        close(client->fd);
    ERR_clear_error();
}

bool test_handshake(struct test_client *client, struct test_side *side) {
    for (int i = 0; i < 2000; i++) {
        ERR_clear_error();
        int r = SSL_do_handshake(client->ssl);
        if (r == 1) {
            turn_until(side, !side->transport || side->seen & (SP_READY_OPEN | SP_READY_FAILED));
            return true;
        }
        int error = SSL_get_error(client->ssl, r);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
            return false;
        check(sp_loop_turn(side->loop, 1));
    }
    fail_msg("the handshake does not end");
    return false;
}

int test_client_error(const struct test_client *client) {
    unsigned long error = ERR_peek_last_error();
    return error ? ERR_GET_REASON(error) : 0;
}

void test_client_write(struct test_client *client, const char *bytes, size_t len) {
    size_t n = 0;
    assert_int_equal(SSL_write_ex(client->ssl, bytes, len, &n), 1);
    assert_int_equal(n, len);
}

static int read_step(struct test_client *client, char *into, size_t len, size_t *ret) {
    ERR_clear_error();
    int r = SSL_read_ex(client->ssl, into, len, ret);
    return r == 1 ? SSL_ERROR_NONE : SSL_get_error(client->ssl, r);
}

bool test_client_read(struct test_client *client, struct test_side *side, char *into, size_t len) {
    for (int i = 0; i < 4000 && len > 0; i++) {
        size_t n = 0;
        switch (read_step(client, into, len, &n)) {
        case SSL_ERROR_NONE:
            into += n;
            len -= n;
            break;
        case SSL_ERROR_WANT_READ:
            check(sp_loop_turn(side->loop, 1));
            break;
        default:
            return false;
        }
    }
    return len == 0;
}

int test_client_end(struct test_client *client, struct test_side *side) {
    for (int i = 0; i < 4000; i++) {
        char rest[4096];
        size_t n = 0;
        int error = read_step(client, rest, sizeof rest, &n);
        if (error == SSL_ERROR_ZERO_RETURN)
            return 0;
        if (error == SSL_ERROR_WANT_READ)
            check(sp_loop_turn(side->loop, 1));
        else if (error != SSL_ERROR_NONE)
            return error;
    }
    fail_msg("the connection does not end");
    return -1;
}
