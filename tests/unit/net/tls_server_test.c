#include "support.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

/* ---- One connection after another ---- */

struct exchange {
    bool opened;       /* both sides */
    int client_error;  /* SSL_R_ number when not */
    char problem[200]; /* the server's */
    char alpn[32], server_name[128];
    bool resumed;
    X509 *leaf;           /* what the client was shown */
    SSL_SESSION *session; /* a ticket that came */
    unsigned tickets;     /* how many */
};

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    struct exchange *exchange = SSL_get_app_data(ssl);
    exchange->tickets++;
    SSL_SESSION_free(exchange->session);
    exchange->session = session;
    return 1; /* kept */
}

struct wish {
    const char *host; /* SNI; NULL: none */
    const char *alpn; /* wire form; NULL: none */
    SSL_SESSION *session;
    const char *signatures; /* what the client can verify; NULL: all */
    const char *ciphersuites;
};

static void connect_once(struct sp_tls_server *server, const struct wish *wish, struct exchange *ret) {
    *ret = (struct exchange){0};
    struct test_side side;
    struct test_client client;
    test_side_init(&side);
    side.echo = true;
    test_client_init(&client, test_side_accept(&side, server));
    SSL_CTX_set_session_cache_mode(client.context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client.context, keep_session);
    SSL *ssl = client.ssl;
    SSL_set_app_data(ssl, ret);
    if (wish->host)
        assert_int_equal(SSL_set_tlsext_host_name(ssl, wish->host), 1);
    if (wish->alpn)
        check(SSL_set_alpn_protos(ssl, (const unsigned char *)wish->alpn, (unsigned)strlen(wish->alpn)));
    if (wish->session)
        assert_int_equal(SSL_set_session(ssl, wish->session), 1);
    if (wish->signatures)
        assert_int_equal(SSL_set1_sigalgs_list(ssl, wish->signatures), 1);
    if (wish->ciphersuites)
        assert_int_equal(SSL_set_ciphersuites(ssl, wish->ciphersuites), 1);
    ret->opened = test_handshake(&client, &side) && side.seen & SP_READY_OPEN;
    if (ret->opened) {
        char answer[4];
        test_client_write(&client, "ping", 4); /* the ticket comes before the answer */
        assert_true(test_client_read(&client, &side, answer, 4));
        struct sp_tls_facts facts;
        sp_transport_tls_facts(side.transport, &facts);
        (void)snprintf(ret->alpn, sizeof ret->alpn, "%s", facts.alpn);
        (void)snprintf(ret->server_name, sizeof ret->server_name, "%s", facts.server_name);
        ret->resumed = facts.resumed;
        assert_int_equal(SSL_session_reused(ssl), facts.resumed);
        ret->leaf = SSL_get1_peer_certificate(ssl);
        (void)SSL_shutdown(ssl); /* else OpenSSL takes the session for a bad one */
    } else {
        ret->client_error = test_client_error(&client);
        turn_until(&side, side.seen & SP_READY_FAILED);
        (void)snprintf(ret->problem, sizeof ret->problem, "%s", sp_transport_problem(side.transport));
    }
    test_client_free(&client);
    test_side_free(&side);
}

static void exchange_free(struct exchange *exchange) {
    X509_free(exchange->leaf);
    SSL_SESSION_free(exchange->session);
}

static struct exchange one(struct sp_tls_server *server, const struct wish *wish) {
    struct exchange exchange;
    connect_once(server, wish, &exchange);
    return exchange;
}

/* ---- ALPN ---- */

static void assert_alpn(struct sp_tls_server *server, const char *offered, const char *expected) {
    struct exchange exchange = one(server, &(struct wish){.alpn = offered});
    assert_true(exchange.opened);
    assert_string_equal(exchange.alpn, expected);
    exchange_free(&exchange);
}

static void the_servers_order_of_protocols_decides(void **state) {
    struct test_certificate certificate;
    test_certificate_make(&certificate, "EC", "localhost");
    struct sp_tls_server *both = test_server(&certificate, 1, "h2 http/1.1", NULL),
                         *one_only = test_server(&certificate, 1, "http/1.1", NULL);
    assert_alpn(both, "\10http/1.1\2h2", "h2");
    assert_alpn(both, "\10http/1.1", "http/1.1");
    assert_alpn(both, "\3foo\2h2", "h2");
    assert_alpn(both, NULL, "http/1.1");
    assert_alpn(one_only, "\2h2\10http/1.1", "http/1.1");
    sp_tls_server_unref(both);
    sp_tls_server_unref(one_only);
    test_certificate_free(&certificate);
}

static void a_client_without_a_common_protocol_gets_the_alert_for_it(void **state) {
    struct sp_tls_server *server = test_server_simple();
    struct exchange exchange = one(server, &(struct wish){.alpn = "\2h2\5spdy1"});
    assert_false(exchange.opened);
    assert_int_equal(exchange.client_error, SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
    assert_string_equal(exchange.problem, "tls: no application protocol");
    exchange_free(&exchange);
    sp_tls_server_unref(server);
}

/* ---- SNI ---- */

static void assert_shown(struct sp_tls_server *server, const char *host, const struct test_certificate *expected) {
    struct exchange exchange = one(server, &(struct wish){.host = host});
    assert_true(exchange.opened);
    BIO *pem = BIO_new_mem_buf(expected->chain_pem, -1);
    X509 *leaf = PEM_read_bio_X509(pem, NULL, NULL, NULL);
    if (X509_cmp(leaf, exchange.leaf) != 0)
        fail_msg("another certificate was shown for %s", host ? host : "no name");
    assert_string_equal(exchange.server_name, host ? host : "");
    X509_free(leaf);
    BIO_free(pem);
    exchange_free(&exchange);
}

static void the_name_asked_for_chooses_the_certificate(void **state) {
    struct test_certificate c[4];
    test_certificate_make(&c[0], "EC", "default.example");
    test_certificate_make(&c[1], "RSA:2048", "*.example.com");
    test_certificate_make(&c[2], "EC", "api.example.com other.example.net");
    test_certificate_make(&c[3], "EC", "f*o.example.org *");
    struct sp_tls_server *server = test_server(c, 4, "http/1.1", NULL);
    assert_shown(server, NULL, &c[0]);
    assert_shown(server, "default.example", &c[0]);
    assert_shown(server, "unknown.example", &c[0]);
    assert_shown(server, "www.example.com", &c[1]);
    assert_shown(server, "WWW.Example.COM", &c[1]);
    assert_shown(server, "api.example.com", &c[2]); /* exact before wildcard, though it comes later */
    assert_shown(server, "other.example.net", &c[2]);
    assert_shown(server, "a.b.example.com", &c[0]); /* a wildcard is one label */
    assert_shown(server, "example.com", &c[0]);
    assert_shown(server, "foo.example.org", &c[0]); /* no stars inside labels, and none alone */
    sp_tls_server_unref(server);
    for (size_t i = 0; i < SP_COUNT(c); i++)
        test_certificate_free(&c[i]);
}

static void of_two_keys_for_one_name_the_client_gets_what_it_can_verify(void **state) {
    struct test_certificate c[3];
    test_certificate_make(&c[0], "EC", "default.example");
    test_certificate_make(&c[1], "EC", "api.example.com");
    test_certificate_make(&c[2], "RSA:2048", "api.example.com");
    struct sp_tls_server *server = test_server(c, 3, "http/1.1", NULL);
    struct exchange ec = one(server, &(struct wish){.host = "api.example.com", .signatures = "ECDSA+SHA256"});
    struct exchange rsa = one(server, &(struct wish){.host = "api.example.com", .signatures = "RSA-PSS+SHA256:RSA+SHA256"});
    assert_true(ec.opened && rsa.opened);
    assert_true(EVP_PKEY_is_a(X509_get0_pubkey(ec.leaf), "EC"));
    assert_true(EVP_PKEY_is_a(X509_get0_pubkey(rsa.leaf), "RSA"));
    exchange_free(&ec);
    exchange_free(&rsa);
    sp_tls_server_unref(server);
    for (size_t i = 0; i < SP_COUNT(c); i++)
        test_certificate_free(&c[i]);
}

static void another_names_certificate_is_never_the_default(void **state) {
    struct test_certificate c[2];
    test_certificate_make(&c[0], "EC", "default.example");
    test_certificate_make(&c[1], "RSA:2048", "secret.example");
    struct sp_tls_server *server = test_server(c, 2, "http/1.1", NULL);
    /* This client could verify only the RSA one, which answers to another name: it is refused rather than shown it. */
    struct exchange exchange = one(server, &(struct wish){.host = "unknown.example", .signatures = "RSA-PSS+SHA256"});
    assert_false(exchange.opened);
    exchange_free(&exchange);
    sp_tls_server_unref(server);
    for (size_t i = 0; i < SP_COUNT(c); i++)
        test_certificate_free(&c[i]);
}

/* ---- Choice of cipher ---- */

static void a_client_without_aes_hardware_gets_chacha20(void **state) {
    struct sp_tls_server *server = test_server_simple();
    struct test_side side;
    struct test_client client;
    test_side_init(&side);
    test_client_init(&client, test_side_accept(&side, server));
    assert_int_equal(SSL_set_ciphersuites(client.ssl, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"), 1);
    assert_true(test_handshake(&client, &side));
    struct sp_tls_facts facts;
    sp_transport_tls_facts(side.transport, &facts);
    assert_string_equal(facts.cipher, "TLS_CHACHA20_POLY1305_SHA256");
    test_client_free(&client);
    test_side_free(&side);
    sp_tls_server_unref(server);
}

/* ---- Tickets ---- */

struct generations {
    struct test_certificate certificate;
    struct sp_tls_tickets *worker_a, *worker_b;
    uint8_t keys[4][80];
};

static int tickets_set_up(void **state) {
    struct generations *g = calloc(1, sizeof *g);
    test_certificate_make(&g->certificate, "EC", "localhost");
    sp_random(g->keys, sizeof g->keys);
    g->worker_a = sp_tls_tickets_new();
    g->worker_b = sp_tls_tickets_new();
    assert_true(g->worker_a && g->worker_b);
    sp_tls_tickets_set(g->worker_a, (const uint8_t(*)[80])g->keys, 1);
    sp_tls_tickets_set(g->worker_b, (const uint8_t(*)[80])g->keys, 1);
    *state = g;
    return 0;
}

static int tickets_tear_down(void **state) {
    struct generations *g = *state;
    sp_tls_tickets_free(g->worker_a);
    sp_tls_tickets_free(g->worker_b);
    test_certificate_free(&g->certificate);
    free(g);
    return 0;
}

static struct exchange at(struct generations *g, struct sp_tls_tickets *worker, SSL_SESSION *session) {
    struct sp_tls_server *server = test_server(&g->certificate, 1, "http/1.1", worker);
    struct exchange exchange = one(server, &(struct wish){.session = session, .host = "localhost"});
    sp_tls_server_unref(server);
    assert_true(exchange.opened);
    return exchange;
}

static void a_ticket_is_good_at_every_worker_and_after_a_reload(void **state) {
    struct generations *g = *state;
    struct exchange first = at(g, g->worker_a, NULL);
    assert_false(first.resumed);
    assert_int_equal(first.tickets, 1); /* one per handshake */
    assert_true(SSL_SESSION_is_resumable(first.session));
    struct exchange reloaded = at(g, g->worker_a, first.session);
    assert_true(reloaded.resumed);
    assert_int_equal(reloaded.tickets, 1); /* a ticket is to be used once: here is the next */
    struct exchange elsewhere = at(g, g->worker_b, reloaded.session);
    assert_true(elsewhere.resumed);
    assert_int_equal(elsewhere.tickets, 1);
    exchange_free(&first);
    exchange_free(&reloaded);
    exchange_free(&elsewhere);
}

static void a_rotated_key_still_opens_and_what_it_opened_is_sealed_anew(void **state) {
    struct generations *g = *state;
    struct exchange first = at(g, g->worker_a, NULL);
    uint8_t rotated[2][80];
    memcpy(rotated[0], g->keys[1], 80);
    memcpy(rotated[1], g->keys[0], 80);
    sp_tls_tickets_set(g->worker_a, (const uint8_t(*)[80])rotated, 2);
    struct exchange renewed = at(g, g->worker_a, first.session);
    assert_true(renewed.resumed);
    /* The old key is gone: its ticket is worth nothing, the renewed one still is. */
    sp_tls_tickets_set(g->worker_a, (const uint8_t(*)[80])rotated, 1);
    struct exchange old = at(g, g->worker_a, first.session), current = at(g, g->worker_a, renewed.session);
    assert_false(old.resumed);
    assert_true(current.resumed);
    exchange_free(&first);
    exchange_free(&renewed);
    exchange_free(&old);
    exchange_free(&current);
}

static void without_keys_there_are_no_tickets(void **state) {
    struct generations *g = *state;
    struct exchange first = at(g, g->worker_a, NULL);
    sp_tls_tickets_set(g->worker_b, NULL, 0);
    struct exchange without = at(g, g->worker_b, first.session);
    assert_false(without.resumed);
    assert_int_equal(without.tickets, 0);
    exchange_free(&first);
    exchange_free(&without);
}

static void more_keys_than_are_kept_do_no_harm(void **state) {
    struct generations *g = *state;
    sp_tls_tickets_set(g->worker_a, (const uint8_t(*)[80])g->keys, 4);
    struct exchange first = at(g, g->worker_a, NULL), second = at(g, g->worker_a, first.session);
    assert_true(second.resumed);
    exchange_free(&first);
    exchange_free(&second);
}

/* ---- What is refused, and how it is said ---- */

static void assert_refused(struct sp_certificate_config *certificate, enum sp_client_certificate clients, const char *sentence) {
    const struct sp_listener_config listener = {
        .address = {.text = "127.0.0.1:443", .where = "sallyport.yaml:3:14"},
        .certificates = certificate,
        .n_certificates = certificate ? 1 : 0,
        .client_certificate = clients,
    };
    char *error = NULL;
    struct sp_tls_server *server = NULL;
    assert_int_equal(sp_tls_server_new(&listener, &sp_tls_signer_local, NULL, &error, &server), -EINVAL);
    assert_null(server);
    assert_non_null(error);
    assert_string_equal(error, sentence);
    assert_int_equal(ERR_peek_error(), 0);
    free(error);
}

static void what_will_not_do_is_refused_in_one_sentence(void **state) {
    struct test_certificate good, other, weak;
    test_certificate_make(&good, "EC", "localhost");
    test_certificate_make(&other, "EC", "localhost");
    test_certificate_make(&weak, "RSA:1024", "localhost");
    struct sp_certificate_config c;

    assert_refused(NULL, SP_CLIENT_CERT_NONE, "sallyport.yaml:3:14: a listener with TLS needs a certificate");
    assert_refused(&good.config, SP_CLIENT_CERT_REQUIRED,
                   "sallyport.yaml:3:14: client certificates are asked for, but there is no client_ca to verify them with");
    c = good.config;
    c.key_pem = other.key_pem;
    assert_refused(&c, SP_CLIENT_CERT_NONE, "sallyport.yaml:5:12: the key tls/key.pem does not match the certificate in tls/chain.pem");
    c = good.config;
    c.chain_pem = "no certificate at all\n";
    assert_refused(&c, SP_CLIENT_CERT_NONE, "sallyport.yaml:4:14: there is no certificate in PEM form in tls/chain.pem");
    c.chain_pem = good.key_pem; /* swapped */
    assert_refused(&c, SP_CLIENT_CERT_NONE, "sallyport.yaml:4:14: there is no certificate in PEM form in tls/chain.pem");
    c = good.config;
    c.key_pem = good.chain_pem;
    assert_refused(&c, SP_CLIENT_CERT_NONE, "sallyport.yaml:5:12: tls/key.pem is not a private key in PEM form");
    c = good.config;
    c.chain_pem = NULL;
    assert_refused(&c, SP_CLIENT_CERT_NONE, "sallyport.yaml:4:14: the certificate tls/chain.pem was not handed over");
    c = good.config;
    c.key_pem = NULL;
    assert_refused(&c, SP_CLIENT_CERT_NONE, "sallyport.yaml:5:12: the private key tls/key.pem was not handed over");
    assert_refused(&weak.config, SP_CLIENT_CERT_NONE,
                   "sallyport.yaml:4:14: the RSA key of the certificate in tls/chain.pem has 1024 bits; at least 2048 are needed");
    test_certificate_free(&good);
    test_certificate_free(&other);
    test_certificate_free(&weak);
}

static void a_chain_that_ends_in_rubbish_is_refused(void **state) {
    struct test_certificate good;
    test_certificate_make(&good, "EC", "localhost");
    char *text = NULL;
    assert_true(asprintf(&text, "%s-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", good.chain_pem) > 0);
    struct sp_certificate_config c = good.config;
    c.chain_pem = text;
    assert_refused(&c, SP_CLIENT_CERT_NONE, "sallyport.yaml:4:14: a certificate in tls/chain.pem cannot be read");
    free(text);
    test_certificate_free(&good);
}

static void an_encrypted_key_is_refused_without_asking_for_its_passphrase(void **state) {
    struct test_certificate good;
    test_certificate_make(&good, "EC", "localhost");
    BIO *in = BIO_new_mem_buf(good.key_pem, -1), *out = BIO_new(BIO_s_mem());
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(out, key, EVP_aes_256_cbc(), "secret", 6, NULL, NULL), 1);
    assert_int_equal(BIO_write(out, "", 1), 1);
    char *pem = NULL;
    BIO_get_mem_data(out, &pem);
    struct sp_certificate_config c = good.config;
    c.key_pem = pem;
    assert_refused(&c, SP_CLIENT_CERT_NONE,
                   "sallyport.yaml:5:12: the private key tls/key.pem is encrypted with a passphrase, which a daemon cannot be asked for");
    EVP_PKEY_free(key);
    BIO_free(in);
    BIO_free(out);
    test_certificate_free(&good);
}

#define with_tickets(test) cmocka_unit_test_setup_teardown(test, tickets_set_up, tickets_tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_servers_order_of_protocols_decides),
        cmocka_unit_test(a_client_without_a_common_protocol_gets_the_alert_for_it),
        cmocka_unit_test(the_name_asked_for_chooses_the_certificate),
        cmocka_unit_test(of_two_keys_for_one_name_the_client_gets_what_it_can_verify),
        cmocka_unit_test(another_names_certificate_is_never_the_default),
        cmocka_unit_test(a_client_without_aes_hardware_gets_chacha20),
        with_tickets(a_ticket_is_good_at_every_worker_and_after_a_reload),
        with_tickets(a_rotated_key_still_opens_and_what_it_opened_is_sealed_anew),
        with_tickets(without_keys_there_are_no_tickets),
        with_tickets(more_keys_than_are_kept_do_no_harm),
        cmocka_unit_test(what_will_not_do_is_refused_in_one_sentence),
        cmocka_unit_test(a_chain_that_ends_in_rubbish_is_refused),
        cmocka_unit_test(an_encrypted_key_is_refused_without_asking_for_its_passphrase),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
