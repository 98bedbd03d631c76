#include "pki.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <stdio.h>
#include <unistd.h>

/* Our client against our server, and where ours would refuse to be, against OpenSSL's. */
struct stage {
    struct test_subject root, other_root, server, client;
    struct sp_tls_tickets *tickets;
};

static int stage_set_up(void **state) {
    struct stage *stage = calloc(1, sizeof *stage);
    test_subject_make(&stage->root, NULL, &(struct test_wish){.cn = "Root", .authority = true});
    test_subject_make(&stage->other_root, NULL, &(struct test_wish){.cn = "Other", .authority = true});
    test_subject_make(
        &stage->server, &stage->root,
        &(struct test_wish){.cn = "in-the-subject.example", .alternatives = "DNS:gpu.internal,DNS:*.wild.example,IP:127.0.0.1"});
    test_subject_make(&stage->client, &stage->root, &(struct test_wish){.cn = "gateway", .usage = "clientAuth"});
    uint8_t key[1][80];
    sp_random(key, sizeof key);
    stage->tickets = sp_tls_tickets_new();
    sp_tls_tickets_set(stage->tickets, (const uint8_t(*)[80])key, 1);
    *state = stage;
    return 0;
}

static int stage_tear_down(void **state) {
    struct stage *stage = *state;
    test_subject_free(&stage->root);
    test_subject_free(&stage->other_root);
    test_subject_free(&stage->server);
    test_subject_free(&stage->client);
    sp_tls_tickets_free(stage->tickets);
    free(stage);
    return 0;
}

static struct sp_certificate_config own(const struct test_subject *subject) {
    return (struct sp_certificate_config){
        .chain = {.text = "tls/own.pem", .where = "sallyport.yaml:20:20"},
        .key = {.text = "tls/own.key", .where = "sallyport.yaml:21:12"},
        .chain_pem = subject->pem,
        .key_pem = subject->key_pem,
    };
}

static struct sp_tls_server *server_with(struct stage *stage, const struct test_subject *certificate, enum sp_client_certificate asks) {
    struct sp_certificate_config config = own(certificate);
    const struct sp_listener_config listener = {
        .address = {.text = "127.0.0.1:0", .where = "sallyport.yaml:3:14"},
        .certificates = &config,
        .n_certificates = 1,
        .client_certificate = asks,
        .client_ca_pem = stage->root.pem,
        .protocols = {.item = (const char *[]){"h2", "http/1.1"}, .count = 2},
    };
    char *error = NULL;
    struct sp_tls_server *tls = NULL;
    if (sp_tls_server_new(&listener, &sp_tls_signer_local, stage->tickets, &error, &tls) != 0)
        fail_msg("%s", error ? error : "no sentence");
    return tls;
}

static struct sp_tls_client *client_for(const struct test_subject *root, const struct test_subject *certificate, const char *name) {
    struct sp_tls_client_config config = {
        .ca = {.text = "tls/ca.pem", .where = "sallyport.yaml:19:10"},
        .ca_pem = root->pem,
    };
    if (certificate)
        config.own = own(certificate);
    char *error = NULL;
    struct sp_tls_client *tls = NULL;
    if (sp_tls_client_new(&config, name, "http/1.1", &sp_tls_signer_local, &error, &tls) != 0)
        fail_msg("%s", error ? error : "no sentence");
    return tls;
}

/* ---- One connection, both ends ours ---- */

struct pair {
    struct test_side client, server; /* one loop: the client's */
};

static int connect_client(struct test_side *client, struct sp_tls_client *tls) {
    uint16_t port = 0;
    int listener = test_side_listen(&port);
    struct sp_address to = {.bytes = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1}, .port = port};
    check(sp_transport_connect(client->loop, &to, NULL, tls, test_side_ready, client, &client->transport));
    int accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); /* on loopback it is there when connect(2) returns */
    assert_true(accepted >= 0);
    close(listener);
    return accepted;
}

static void pair_begin(struct pair *pair, struct sp_tls_server *server, struct sp_tls_client *client) {
    test_side_init(&pair->client);
    pair->server = (struct test_side){.loop = pair->client.loop, .read_all = true, .echo = true, .ended = 1};
    int accepted = connect_client(&pair->client, client);
    check(sp_transport_accept(pair->server.loop, accepted, server, test_side_ready, &pair->server, &pair->server.transport));
    turn_until(&pair->client, pair->client.seen & (SP_READY_OPEN | SP_READY_FAILED));
}

static void pair_end(struct pair *pair) {
    sp_transport_close(sp_take(pair->client.transport), false);
    sp_transport_close(sp_take(pair->server.transport), false);
    sp_loop_free(pair->client.loop);
}

static void exchange_bytes(struct pair *pair) {
    test_write_all(&pair->client, "ping", 4);
    turn_until(&pair->client, pair->client.got_len == 4);
    assert_memory_equal(pair->client.got, "ping", 4);
}

struct outcome {
    bool opened, refused_certificate;
    struct sp_tls_facts seen_by_server;
    char server_name[100], problem[600];
    bool resumed;
};

static struct outcome once(struct sp_tls_server *server, struct sp_tls_client *client) {
    struct outcome outcome = {0};
    struct pair pair;
    pair_begin(&pair, server, client);
    outcome.opened = sp_transport_is_open(pair.client.transport);
    if (outcome.opened) {
        turn_until(&pair.client, pair.server.seen & SP_READY_OPEN);
        exchange_bytes(&pair);
        struct sp_tls_facts facts;
        sp_transport_tls_facts(pair.client.transport, &facts);
        assert_string_equal(facts.version, "TLSv1.3");
        assert_string_equal(facts.alpn, "http/1.1");
        outcome.resumed = facts.resumed;
        sp_transport_tls_facts(pair.server.transport, &facts);
        assert_int_equal(facts.resumed, outcome.resumed);
        assert_string_equal(facts.alpn, "http/1.1"); /* though the server would rather speak h2 */
        (void)snprintf(outcome.server_name, sizeof outcome.server_name, "%s", facts.server_name);
        assert_string_equal(sp_transport_problem(pair.client.transport), "");
    } else {
        outcome.refused_certificate = sp_transport_refused_certificate(pair.client.transport);
        (void)snprintf(outcome.problem, sizeof outcome.problem, "%s", sp_transport_problem(pair.client.transport));
    }
    pair_end(&pair);
    return outcome;
}

/* ---- Names ---- */

static void assert_name(struct stage *stage, const char *name, bool opens, const char *sni) {
    struct sp_tls_server *server = server_with(stage, &stage->server, SP_CLIENT_CERT_NONE);
    struct sp_tls_client *client = client_for(&stage->root, NULL, name);
    struct outcome outcome = once(server, client);
    if (outcome.opened != opens)
        fail_msg("%s: %s", name, opens ? outcome.problem : "believed");
    if (opens) {
        assert_string_equal(outcome.server_name, sni);
    } else {
        char expected[600];
        (void)snprintf(expected, sizeof expected, "tls: the certificate for %s is refused: subject \"CN=in-the-subject.example\", serial ",
                       name);
        assert_true(outcome.refused_certificate);
        assert_memory_equal(outcome.problem, expected, strlen(expected));
    }
    sp_tls_client_unref(client);
    sp_tls_server_unref(server);
}

static void a_server_is_believed_for_the_names_in_its_certificate_and_no_other(void **state) {
    struct stage *stage = *state;
    assert_name(stage, "gpu.internal", true, "gpu.internal");
    assert_name(stage, "GPU.internal", true, "GPU.internal");
    assert_name(stage, "one.wild.example", true, "one.wild.example");
    assert_name(stage, "127.0.0.1", true, ""); /* an address is verified, and never sent as a name */
    assert_name(stage, "two.labels.wild.example", false, NULL);
    assert_name(stage, "wild.example", false, NULL);
    assert_name(stage, "other.internal", false, NULL);
    assert_name(stage, "127.0.0.2", false, NULL);
    assert_name(stage, "::1", false, NULL);
    assert_name(stage, "in-the-subject.example", false, NULL); /* RFC 9525: the subject is not asked */
}

static void a_mismatch_says_which_names_there_are(void **state) {
    struct stage *stage = *state;
    struct sp_tls_server *server = server_with(stage, &stage->server, SP_CLIENT_CERT_NONE);
    struct sp_tls_client *client = client_for(&stage->root, NULL, "other.internal");
    struct outcome outcome = once(server, client);
    assert_non_null(strstr(outcome.problem, ": hostname mismatch, it is for gpu.internal, *.wild.example, 127.0.0.1"));
    sp_tls_client_unref(client);
    sp_tls_server_unref(server);
}

/* ---- Trust ---- */

static void assert_not_believed(struct stage *stage, const struct test_subject *root, const struct test_subject *issuer,
                                const struct test_wish *wish, const char *reason) {
    struct test_subject subject;
    test_subject_make(&subject, issuer, wish);
    struct sp_tls_server *server = server_with(stage, &subject, SP_CLIENT_CERT_NONE);
    struct sp_tls_client *client = client_for(root, NULL, "gpu.internal");
    struct outcome outcome = once(server, client);
    assert_false(outcome.opened);
    assert_true(outcome.refused_certificate);
    if (!strstr(outcome.problem, reason) || !strstr(outcome.problem, "the certificate for gpu.internal is refused: subject \"CN=gpu\""))
        fail_msg("%s", outcome.problem);
    sp_tls_client_unref(client);
    sp_tls_server_unref(server);
    test_subject_free(&subject);
}

static void what_does_not_pass_is_refused_with_the_reason(void **state) {
    struct stage *stage = *state;
    const char *name = "DNS:gpu.internal";
    assert_not_believed(stage, &stage->other_root, &stage->root, &(struct test_wish){.cn = "gpu", .alternatives = name},
                        ": unable to get local issuer certificate");
    assert_not_believed(stage, &stage->root, NULL, &(struct test_wish){.cn = "gpu", .alternatives = name}, ": self-signed certificate");
    assert_not_believed(stage, &stage->root, &stage->root,
                        &(struct test_wish){.cn = "gpu", .alternatives = name, .from_s = -7200, .until_s = -3600},
                        ": certificate has expired");
    assert_not_believed(stage, &stage->root, &stage->root, &(struct test_wish){.cn = "gpu", .alternatives = name, .usage = "clientAuth"},
                        ": unsuitable certificate purpose");
}

static void our_certificate_is_shown_where_it_is_asked_for(void **state) {
    struct stage *stage = *state;
    struct sp_tls_server *server = server_with(stage, &stage->server, SP_CLIENT_CERT_REQUIRED);
    struct sp_tls_client *with = client_for(&stage->root, &stage->client, "gpu.internal"),
                         *without = client_for(&stage->root, NULL, "gpu.internal");
    struct pair pair;
    pair_begin(&pair, server, with);
    turn_until(&pair.client, pair.server.seen & SP_READY_OPEN);
    const struct sp_peer_certificate *peer = sp_transport_peer_certificate(pair.server.transport);
    assert_non_null(peer);
    assert_string_equal(peer->subject, "CN=gateway");
    assert_null(sp_transport_peer_certificate(pair.client.transport)); /* that is about clients */
    exchange_bytes(&pair);
    pair_end(&pair);
    /* In TLS 1.3 the client has finished before the server can refuse: it learns by reading. */
    pair_begin(&pair, server, without);
    assert_true(sp_transport_is_open(pair.client.transport));
    turn_until(&pair.client, pair.client.ended != 1);
    assert_int_equal(pair.client.ended, -EPROTO);
    assert_string_equal(sp_transport_problem(pair.client.transport), "tls: tlsv13 alert certificate required");
    pair_end(&pair);
    sp_tls_client_unref(with);
    sp_tls_client_unref(without);
    sp_tls_server_unref(server);
}

/* ---- Sessions ---- */

static void the_last_session_is_resumed_and_only_towards_its_own_name(void **state) {
    struct stage *stage = *state;
    struct sp_tls_server *server = server_with(stage, &stage->server, SP_CLIENT_CERT_NONE);
    struct sp_tls_client *client = client_for(&stage->root, NULL, "gpu.internal"), *elsewhere = NULL;
    check(sp_tls_client_for(client, "one.wild.example", &elsewhere));
    assert_false(once(server, client).resumed);
    assert_true(once(server, client).resumed);
    assert_true(once(server, client).resumed);
    assert_false(once(server, elsewhere).resumed);
    assert_true(once(server, elsewhere).resumed);
    struct sp_tls_client *anew = client_for(&stage->root, NULL, "gpu.internal");
    assert_false(once(server, anew).resumed);
    sp_tls_client_unref(anew);
    sp_tls_client_unref(client);
    sp_tls_client_unref(elsewhere);
    sp_tls_server_unref(server);
}

static void only_what_is_made_of_the_same_bytes_for_the_same_name_is_the_same(void **state) {
    struct stage *stage = *state;
    struct sp_tls_client *a = client_for(&stage->root, NULL, "gpu.internal"), *b = client_for(&stage->root, NULL, "gpu.internal"),
                         *name = NULL, *root = client_for(&stage->other_root, NULL, "gpu.internal"),
                         *certificate = client_for(&stage->root, &stage->client, "gpu.internal");
    check(sp_tls_client_for(a, "other.internal", &name));
    assert_true(sp_tls_client_same(a, b) && sp_tls_client_same(NULL, NULL));
    assert_false(sp_tls_client_same(a, name) || sp_tls_client_same(a, root) || sp_tls_client_same(a, certificate));
    assert_false(sp_tls_client_same(a, NULL) || sp_tls_client_same(NULL, a));
    sp_tls_client_unref(a);
    sp_tls_client_unref(b);
    sp_tls_client_unref(name);
    sp_tls_client_unref(root);
    sp_tls_client_unref(certificate);
}

/* ---- Servers that are not ours ---- */

struct foreign {
    struct test_side client;
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};

static void foreign_begin(struct foreign *foreign, struct stage *stage, struct sp_tls_client *client, int version) {
    test_side_init(&foreign->client);
    foreign->fd = connect_client(&foreign->client, client);
    foreign->context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_security_level(foreign->context, 0);
    assert_int_equal(SSL_CTX_set_min_proto_version(foreign->context, TLS1_VERSION), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(foreign->context, version), 1);
    assert_int_equal(SSL_CTX_use_certificate(foreign->context, stage->server.x509), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(foreign->context, stage->server.key), 1);
    foreign->ssl = SSL_new(foreign->context);
    SSL_set_fd(foreign->ssl, foreign->fd);
    SSL_set_accept_state(foreign->ssl);
    for (int i = 0; i < 2000 && !(foreign->client.seen & SP_READY_FAILED); i++) {
        ERR_clear_error();
        if (SSL_do_handshake(foreign->ssl) == 1 && foreign->client.seen & SP_READY_OPEN)
            break;
        check(sp_loop_turn(foreign->client.loop, 1));
    }
}

static void foreign_end(struct foreign *foreign) {
    SSL_free(foreign->ssl);
    SSL_CTX_free(foreign->context);
    close(foreign->fd);
    test_side_free(&foreign->client);
    ERR_clear_error();
}

static void a_server_that_has_only_tls_1_2_is_spoken_to(void **state) {
    struct stage *stage = *state;
    struct sp_tls_client *client = client_for(&stage->root, NULL, "gpu.internal");
    for (int round = 0; round < 2; round++) {
        struct foreign foreign;
        foreign_begin(&foreign, stage, client, TLS1_2_VERSION);
        assert_true(sp_transport_is_open(foreign.client.transport));
        struct sp_tls_facts facts;
        sp_transport_tls_facts(foreign.client.transport, &facts);
        assert_string_equal(facts.version, "TLSv1.2");
        test_write_all(&foreign.client, "ping", 4);
        char got[4];
        size_t n = 0;
        turn_until(&foreign.client, n > 0 || SSL_read_ex(foreign.ssl, got, sizeof got, &n) == 1);
        assert_memory_equal(got, "ping", 4);
        foreign_end(&foreign);
    }
    sp_tls_client_unref(client);
}

static void older_versions_are_not_spoken(void **state) {
    struct stage *stage = *state;
    struct sp_tls_client *client = client_for(&stage->root, NULL, "gpu.internal");
    struct foreign foreign;
    foreign_begin(&foreign, stage, client, TLS1_1_VERSION);
    assert_true(foreign.client.seen & SP_READY_FAILED);
    assert_memory_equal(sp_transport_problem(foreign.client.transport), "tls: ", 5);
    foreign_end(&foreign);
    sp_tls_client_unref(client);
}

static void a_server_without_tls_fails_with_a_sentence(void **state) {
    struct stage *stage = *state;
    struct sp_tls_client *client = client_for(&stage->root, NULL, "gpu.internal");
    struct test_side side;
    test_side_init(&side);
    int fd = connect_client(&side, client);
    const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    assert_int_equal(write(fd, answer, sizeof answer - 1), sizeof answer - 1);
    turn_until(&side, side.seen & SP_READY_FAILED);
    assert_string_equal(sp_transport_problem(side.transport), "tls: the server does not speak TLS there");
    assert_false(sp_transport_refused_certificate(side.transport));
    close(fd);
    test_side_free(&side);
    sp_tls_client_unref(client);
}

static void a_server_that_closes_in_the_handshake_fails_with_a_sentence(void **state) {
    struct stage *stage = *state;
    struct sp_tls_client *client = client_for(&stage->root, NULL, "gpu.internal");
    struct test_side side;
    test_side_init(&side);
    int fd = connect_client(&side, client);
    char hello[16];
    turn_until(&side, recv(fd, hello, sizeof hello, MSG_DONTWAIT | MSG_PEEK) > 0);
    shutdown(fd, SHUT_WR);
    turn_until(&side, side.seen & SP_READY_FAILED);
    assert_string_equal(sp_transport_problem(side.transport), "tls: peer closed during the handshake");
    close(fd);
    test_side_free(&side);
    sp_tls_client_unref(client);
}

/* ---- What cannot be configured ---- */

static void assert_sentence(const struct sp_tls_client_config *config, const char *sentence) {
    char *error = NULL;
    struct sp_tls_client *tls = NULL;
    assert_int_equal(sp_tls_client_new(config, "gpu.internal", NULL, &sp_tls_signer_local, &error, &tls), -EINVAL);
    assert_non_null(error);
    assert_string_equal(error, sentence);
    assert_int_equal(ERR_peek_error(), 0);
    free(error);
}

static void files_that_will_not_do_are_refused_in_one_sentence(void **state) {
    struct stage *stage = *state;
    struct sp_tls_client_config config = {.ca = {.text = "tls/ca.pem", .where = "sallyport.yaml:19:10"}, .ca_pem = "nothing"};
    assert_sentence(&config, "sallyport.yaml:19:10: there is no certificate in PEM form in tls/ca.pem");
    config.ca_pem = stage->root.pem;
    config.own = own(&stage->client);
    config.own.key_pem = stage->server.key_pem;
    assert_sentence(&config, "sallyport.yaml:21:12: the key tls/own.key does not match the certificate in tls/own.pem");
    config.ca_pem = NULL;
    assert_sentence(&config, "sallyport.yaml:19:10: there is no authority to verify the server with");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_is_believed_for_the_names_in_its_certificate_and_no_other),
        cmocka_unit_test(a_mismatch_says_which_names_there_are),
        cmocka_unit_test(what_does_not_pass_is_refused_with_the_reason),
        cmocka_unit_test(our_certificate_is_shown_where_it_is_asked_for),
        cmocka_unit_test(the_last_session_is_resumed_and_only_towards_its_own_name),
        cmocka_unit_test(only_what_is_made_of_the_same_bytes_for_the_same_name_is_the_same),
        cmocka_unit_test(a_server_that_has_only_tls_1_2_is_spoken_to),
        cmocka_unit_test(older_versions_are_not_spoken),
        cmocka_unit_test(a_server_without_tls_fails_with_a_sentence),
        cmocka_unit_test(a_server_that_closes_in_the_handshake_fails_with_a_sentence),
        cmocka_unit_test(files_that_will_not_do_are_refused_in_one_sentence),
    };
    return cmocka_run_group_tests(tests, stage_set_up, stage_tear_down);
}
