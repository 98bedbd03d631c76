#include "pki.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>

struct stage {
    struct test_subject root, intermediate, stranger;
    struct test_certificate server;
    struct sp_tls_tickets *tickets;
};

static int stage_set_up(void **state) {
    struct stage *stage = calloc(1, sizeof *stage);
    test_subject_make(&stage->root, NULL, &(struct test_wish){.cn = "Root", .authority = true});
    test_subject_make(&stage->intermediate, &stage->root, &(struct test_wish){.cn = "Issuing", .authority = true});
    test_subject_make(&stage->stranger, NULL, &(struct test_wish){.cn = "Stranger", .authority = true});
    test_certificate_make(&stage->server, "EC", "localhost");
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
    test_subject_free(&stage->intermediate);
    test_subject_free(&stage->stranger);
    test_certificate_free(&stage->server);
    sp_tls_tickets_free(stage->tickets);
    free(stage);
    return 0;
}

static int server_of(struct stage *stage, enum sp_client_certificate asks, const char *ca, const char *crl, char **ret_error,
                     struct sp_tls_server **ret) {
    const struct sp_listener_config listener = {
        .address = {.text = "127.0.0.1:0", .where = "sallyport.yaml:3:14"},
        .certificates = &stage->server.config,
        .n_certificates = 1,
        .client_certificate = asks,
        .client_ca = {.text = "tls/ca.pem", .where = "sallyport.yaml:6:16"},
        .client_crl = {.text = "tls/crl.pem", .where = "sallyport.yaml:7:17"},
        .client_ca_pem = ca,
        .client_crl_pem = crl,
    };
    return sp_tls_server_new(&listener, &sp_tls_signer_local, stage->tickets, ret_error, ret);
}

static struct sp_tls_server *server(struct stage *stage, enum sp_client_certificate asks, const char *crl) {
    char *error = NULL;
    struct sp_tls_server *made = NULL;
    if (server_of(stage, asks, stage->root.pem, crl, &error, &made) != 0)
        fail_msg("%s", error ? error : "no sentence");
    return made;
}

/* What one connection came to. */
struct outcome {
    bool opened, refused_certificate;
    char problem[600];
    int alert; /* SSL_R_ number that the client saw */
    bool known;
    struct sp_peer_certificate peer; /* text in the arrays below */
    char subject[200], name[200], serial[64];
    unsigned tickets;
    SSL_SESSION *session;
    bool resumed;
};

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    struct outcome *outcome = SSL_get_app_data(ssl);
    outcome->tickets++;
    SSL_SESSION_free(outcome->session);
    outcome->session = session;
    return 1;
}

static void note_peer(struct outcome *outcome, const struct sp_peer_certificate *peer) {
    outcome->known = peer != NULL;
    if (!peer)
        return;
    outcome->peer = *peer;
    (void)snprintf(outcome->subject, sizeof outcome->subject, "%s", peer->subject);
    (void)snprintf(outcome->name, sizeof outcome->name, "%s", peer->name);
    (void)snprintf(outcome->serial, sizeof outcome->serial, "%s", peer->serial);
}

/* One that fails in TLS 1.3 fails after the client's part is done: the alert comes with the first read. */
static void play(struct test_client *client, struct test_side *side, struct outcome *ret) {
    bool client_done = test_handshake(client, side);
    ret->opened = client_done && side->seen & SP_READY_OPEN;
    if (ret->opened) {
        char answer[4];
        test_client_write(client, "ping", 4);
        assert_true(test_client_read(client, side, answer, 4));
        note_peer(ret, sp_transport_peer_certificate(side->transport));
        ret->resumed = SSL_session_reused(client->ssl) != 0;
        (void)SSL_shutdown(client->ssl);
        return;
    }
    turn_until(side, side->seen & SP_READY_FAILED);
    ret->refused_certificate = sp_transport_refused_certificate(side->transport);
    (void)snprintf(ret->problem, sizeof ret->problem, "%s", sp_transport_problem(side->transport));
    assert_null(sp_transport_peer_certificate(side->transport));
    sp_transport_close(sp_take(side->transport), false);
    if (client_done)
        (void)test_client_end(client, side);
    ret->alert = test_client_error(client);
}

static struct outcome connect_with(struct sp_tls_server *tls, const struct test_subject *who, const struct test_subject *through,
                                   SSL_SESSION *session) {
    struct outcome outcome = {0};
    struct test_side side;
    struct test_client client;
    test_side_init(&side);
    side.echo = true;
    test_client_init(&client, test_side_accept(&side, tls));
    SSL_CTX_set_session_cache_mode(client.context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client.context, keep_session);
    SSL_set_security_level(client.ssl, 0); /* what is too weak is for the server to say */
    SSL_set_app_data(client.ssl, &outcome);
    if (who) {
        assert_int_equal(SSL_use_certificate(client.ssl, who->x509), 1);
        assert_int_equal(SSL_use_PrivateKey(client.ssl, who->key), 1);
    }
    if (through)
        assert_int_equal(SSL_add1_chain_cert(client.ssl, through->x509), 1);
    if (session)
        assert_int_equal(SSL_set_session(client.ssl, session), 1);
    play(&client, &side, &outcome);
    test_client_free(&client);
    test_side_free(&side);
    return outcome;
}

/* ---- Who is let in ---- */

static void a_good_certificate_is_known_by_all_its_facts(void **state) {
    struct stage *stage = *state;
    struct test_subject alice;
    test_subject_make(
        &alice, &stage->root,
        &(struct test_wish){.cn = "alice", .alternatives = "IP:192.0.2.1,URI:spiffe://example/alice,DNS:a.example", .usage = "clientAuth"});
    struct sp_tls_server *tls = server(stage, SP_CLIENT_CERT_REQUIRED, NULL);
    struct outcome outcome = connect_with(tls, &alice, NULL, NULL);
    assert_true(outcome.opened && outcome.known);
    assert_string_equal(outcome.subject, "CN=alice");
    assert_int_equal(outcome.peer.kind, SP_NAME_URI);
    assert_string_equal(outcome.name, "spiffe://example/alice");
    uint8_t thumbprint[32];
    assert_int_equal(X509_digest(alice.x509, EVP_sha256(), thumbprint, NULL), 1);
    assert_memory_equal(outcome.peer.thumbprint, thumbprint, 32);
    struct tm until;
    assert_int_equal(ASN1_TIME_to_tm(X509_get0_notAfter(alice.x509), &until), 1);
    assert_int_equal(outcome.peer.not_after_s, (uint64_t)timegm(&until));
    assert_true(strlen(outcome.serial) >= 4);
    sp_tls_server_unref(tls);
    test_subject_free(&alice);
}

static void a_chain_through_an_intermediate_is_followed_only_if_it_is_sent(void **state) {
    struct stage *stage = *state;
    struct test_subject bob;
    test_subject_make(&bob, &stage->intermediate, &(struct test_wish){.cn = "bob"});
    struct sp_tls_server *tls = server(stage, SP_CLIENT_CERT_REQUIRED, NULL);
    struct outcome whole = connect_with(tls, &bob, &stage->intermediate, NULL), part = connect_with(tls, &bob, NULL, NULL);
    assert_true(whole.opened && whole.known);
    assert_string_equal(whole.subject, "CN=bob");
    assert_int_equal(whole.peer.kind, SP_NAME_NONE);
    assert_string_equal(whole.name, "");
    assert_false(part.opened);
    sp_tls_server_unref(tls);
    test_subject_free(&bob);
}

static void where_it_is_optional_who_has_none_is_nobody(void **state) {
    struct stage *stage = *state;
    struct sp_tls_server *tls = server(stage, SP_CLIENT_CERT_OPTIONAL, NULL);
    struct outcome outcome = connect_with(tls, NULL, NULL, NULL);
    assert_true(outcome.opened);
    assert_false(outcome.known);
    SSL_SESSION_free(outcome.session);
    sp_tls_server_unref(tls);
}

static void where_it_is_required_who_has_none_is_refused(void **state) {
    struct stage *stage = *state;
    struct sp_tls_server *tls = server(stage, SP_CLIENT_CERT_REQUIRED, NULL);
    struct outcome outcome = connect_with(tls, NULL, NULL, NULL);
    assert_false(outcome.opened);
    assert_true(outcome.refused_certificate);
    assert_string_equal(outcome.problem, "tls: the client gave no certificate");
    assert_int_equal(outcome.alert, SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED);
    sp_tls_server_unref(tls);
}

static void a_listener_that_does_not_ask_learns_nothing(void **state) {
    struct stage *stage = *state;
    struct test_subject alice;
    test_subject_make(&alice, &stage->root, &(struct test_wish){.cn = "alice"});
    struct sp_tls_server *tls = server(stage, SP_CLIENT_CERT_NONE, NULL);
    struct outcome outcome = connect_with(tls, &alice, NULL, NULL);
    assert_true(outcome.opened);
    assert_false(outcome.known);
    SSL_SESSION_free(outcome.session);
    sp_tls_server_unref(tls);
    test_subject_free(&alice);
}

/* ---- Who is refused, and what is said ---- */

static void assert_refused(struct stage *stage, const char *crl, const struct test_subject *who, const char *expected, int alert) {
    struct sp_tls_server *required = server(stage, SP_CLIENT_CERT_REQUIRED, crl), *optional = server(stage, SP_CLIENT_CERT_OPTIONAL, crl);
    struct outcome outcome = connect_with(required, who, NULL, NULL), also = connect_with(optional, who, NULL, NULL);
    assert_false(outcome.opened || also.opened); /* a bad one is worse than none */
    assert_true(outcome.refused_certificate && also.refused_certificate);
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(who->x509), NULL);
    char *digits = BN_bn2hex(number), whole[600];
    char *subject = X509_NAME_oneline(X509_get_subject_name(who->x509), NULL, 0);
    (void)snprintf(whole, sizeof whole, "tls: the client's certificate is refused: subject \"%s\", serial %s%s", subject + 1, digits,
                   expected);
    assert_string_equal(outcome.problem, whole);
    assert_string_equal(also.problem, whole);
    assert_int_equal(outcome.alert, alert);
    OPENSSL_free(subject);
    OPENSSL_free(digits);
    BN_free(number);
    sp_tls_server_unref(required);
    sp_tls_server_unref(optional);
}

static void assert_refused_once(struct stage *stage, const struct test_subject *issuer, const struct test_wish *wish, const char *expected,
                                int alert) {
    struct test_subject who;
    test_subject_make(&who, issuer, wish);
    assert_refused(stage, NULL, &who, expected, alert);
    test_subject_free(&who);
}

static void the_log_is_told_whose_certificate_is_refused_and_why(void **state) {
    struct stage *stage = *state;
    assert_refused_once(stage, &stage->stranger, &(struct test_wish){.cn = "mallory"}, ": unable to get local issuer certificate",
                        SSL_R_TLSV1_ALERT_UNKNOWN_CA);
    assert_refused_once(stage, NULL, &(struct test_wish){.cn = "mallory"}, ": self-signed certificate", SSL_R_TLSV1_ALERT_UNKNOWN_CA);
    assert_refused_once(stage, &stage->root, &(struct test_wish){.cn = "late", .from_s = -7200, .until_s = -3600},
                        ": certificate has expired", SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED);
    assert_refused_once(stage, &stage->root, &(struct test_wish){.cn = "early", .from_s = 3600, .until_s = 7200},
                        ": certificate is not yet valid", SSL_R_SSLV3_ALERT_BAD_CERTIFICATE);
    assert_refused_once(stage, &stage->root, &(struct test_wish){.cn = "server", .usage = "serverAuth"}, ": unsuitable certificate purpose",
                        SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE);
    assert_refused_once(stage, &stage->root, &(struct test_wish){.cn = "weak", .key = "1024"}, ": EE certificate key too weak",
                        SSL_R_SSLV3_ALERT_BAD_CERTIFICATE);
}

static void a_chain_may_be_eight_authorities_deep(void **state) {
    struct stage *stage = *state;
    struct test_subject chain[10]; /* each signed by the one before */
    for (size_t i = 0; i < SP_COUNT(chain); i++) {
        char name[] = "authority 0";
        name[sizeof name - 2] = (char)('0' + i);
        test_subject_make(&chain[i], i ? &chain[i - 1] : &stage->root, &(struct test_wish){.cn = name, .authority = true});
    }
    for (size_t deep = 7; deep <= 9; deep++) {
        struct test_subject who;
        test_subject_make(&who, &chain[deep - 1], &(struct test_wish){.cn = "deep"});
        struct sp_tls_server *tls = server(stage, SP_CLIENT_CERT_REQUIRED, NULL);
        struct test_side side;
        struct test_client client;
        struct outcome outcome = {0};
        test_side_init(&side);
        side.echo = true;
        test_client_init(&client, test_side_accept(&side, tls));
        SSL_set_app_data(client.ssl, &outcome);
        assert_int_equal(SSL_use_certificate(client.ssl, who.x509), 1);
        assert_int_equal(SSL_use_PrivateKey(client.ssl, who.key), 1);
        for (size_t i = 0; i < deep; i++)
            assert_int_equal(SSL_add1_chain_cert(client.ssl, chain[i].x509), 1);
        play(&client, &side, &outcome);
        assert_int_equal(outcome.opened, deep <= 8);
        test_client_free(&client);
        test_side_free(&side);
        sp_tls_server_unref(tls);
        test_subject_free(&who);
    }
    for (size_t i = 0; i < SP_COUNT(chain); i++)
        test_subject_free(&chain[i]);
}

static void names_that_nobody_could_keep_whole_refuse_the_certificate(void **state) {
    struct stage *stage = *state;
    struct sp_tls_server *tls = server(stage, SP_CLIENT_CERT_REQUIRED, NULL);
    char name[SP_PEER_NAME_MAX + 16] = "DNS:";
    memset(name + 4, 'a', SP_PEER_NAME_MAX + 1);
    const struct {
        const char *alternatives, *problem;
    } cases[] = {
        {name, "tls: the client's certificate is refused: a name in it is too long"},
        {"URI:two words", "tls: the client's certificate is refused: a name in it holds what is not visible ASCII"},
    };
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        struct test_subject who;
        test_subject_make(&who, &stage->root, &(struct test_wish){.cn = "long", .alternatives = cases[i].alternatives});
        struct outcome outcome = connect_with(tls, &who, NULL, NULL);
        assert_false(outcome.opened);
        assert_true(outcome.refused_certificate);
        assert_string_equal(outcome.problem, cases[i].problem);
        test_subject_free(&who);
    }
    sp_tls_server_unref(tls);
}

/* ---- Revocation ---- */

static void what_is_revoked_is_refused_and_the_rest_is_not(void **state) {
    struct stage *stage = *state;
    struct test_subject good, revoked;
    test_subject_make(&good, &stage->root, &(struct test_wish){.cn = "good"});
    test_subject_make(&revoked, &stage->root, &(struct test_wish){.cn = "revoked"});
    _cleanup_(sp_free_pointer) char *crl = test_crl(&stage->root, &revoked, 3600);
    struct sp_tls_server *tls = server(stage, SP_CLIENT_CERT_REQUIRED, crl);
    struct outcome outcome = connect_with(tls, &good, NULL, NULL);
    assert_true(outcome.opened && outcome.known);
    sp_tls_server_unref(tls);
    assert_refused(stage, crl, &revoked, ": certificate revoked", SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED);
    test_subject_free(&good);
    test_subject_free(&revoked);
}

static void an_expired_list_lets_nobody_in(void **state) {
    struct stage *stage = *state;
    struct test_subject good;
    test_subject_make(&good, &stage->root, &(struct test_wish){.cn = "good"});
    _cleanup_(sp_free_pointer) char *crl = test_crl(&stage->root, NULL, -60);
    assert_refused(stage, crl, &good, ": CRL has expired", SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED);
    test_subject_free(&good);
}

static void every_authority_of_the_chain_must_have_a_list(void **state) {
    struct stage *stage = *state;
    struct test_subject bob;
    test_subject_make(&bob, &stage->intermediate, &(struct test_wish){.cn = "bob"});
    _cleanup_(sp_free_pointer) char *of_root = test_crl(&stage->root, NULL, 3600), *of_issuing = test_crl(&stage->intermediate, NULL, 3600);
    _cleanup_(sp_free_pointer) char *of_both = test_joined(of_root, of_issuing);
    _cleanup_(sp_free_pointer) char *against = test_crl(&stage->root, &stage->intermediate, 3600);
    _cleanup_(sp_free_pointer) char *against_issuing = test_joined(against, of_issuing);
    const struct {
        const char *crl;
        bool opens;
        const char *reason;
    } cases[] = {
        {of_both, true, NULL},
        {of_root, false, "unable to get certificate CRL"},
        {against_issuing, false, ", at its authority \"CN=Issuing\": certificate revoked"},
    };
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        struct sp_tls_server *tls = server(stage, SP_CLIENT_CERT_REQUIRED, cases[i].crl);
        struct outcome outcome = connect_with(tls, &bob, &stage->intermediate, NULL);
        assert_int_equal(outcome.opened, cases[i].opens);
        if (!cases[i].opens)
            assert_non_null(strstr(outcome.problem, cases[i].reason));
        sp_tls_server_unref(tls);
    }
    test_subject_free(&bob);
}

/* ---- Tickets ---- */

static void who_gave_a_certificate_gets_no_ticket(void **state) {
    struct stage *stage = *state;
    struct test_subject alice;
    test_subject_make(&alice, &stage->root, &(struct test_wish){.cn = "alice"});
    struct sp_tls_server *tls = server(stage, SP_CLIENT_CERT_OPTIONAL, NULL);
    struct outcome with = connect_with(tls, &alice, NULL, NULL), without = connect_with(tls, NULL, NULL, NULL);
    assert_true(with.opened && without.opened);
    assert_int_equal(with.tickets, 0);
    assert_int_equal(without.tickets, 1);
    struct outcome again = connect_with(tls, NULL, NULL, without.session);
    assert_true(again.opened && again.resumed && !again.known);
    SSL_SESSION_free(without.session);
    SSL_SESSION_free(again.session);
    sp_tls_server_unref(tls);
    test_subject_free(&alice);
}

static void a_ticket_from_before_certificates_were_required_is_worth_nothing(void **state) {
    struct stage *stage = *state;
    struct sp_tls_server *before = server(stage, SP_CLIENT_CERT_OPTIONAL, NULL), *after = server(stage, SP_CLIENT_CERT_REQUIRED, NULL);
    struct outcome first = connect_with(before, NULL, NULL, NULL);
    assert_int_equal(first.tickets, 1);
    struct outcome second = connect_with(after, NULL, NULL, first.session);
    assert_false(second.opened);
    SSL_SESSION_free(first.session);
    sp_tls_server_unref(before);
    sp_tls_server_unref(after);
}

/* ---- Connections from before a reload ---- */

static void who_is_here_is_judged_by_what_holds_now(void **state) {
    struct stage *stage = *state;
    struct test_subject alice;
    test_subject_make(&alice, &stage->root, &(struct test_wish){.cn = "alice"});
    _cleanup_(sp_free_pointer) char *nothing = test_crl(&stage->root, NULL, 3600), *against = test_crl(&stage->root, &alice, 3600),
                                    *expired = test_crl(&stage->root, NULL, -60);
    struct sp_tls_server *before = server(stage, SP_CLIENT_CERT_OPTIONAL, NULL), *same = server(stage, SP_CLIENT_CERT_OPTIONAL, NULL),
                         *none = server(stage, SP_CLIENT_CERT_NONE, NULL), *required = server(stage, SP_CLIENT_CERT_REQUIRED, NULL),
                         *checked = server(stage, SP_CLIENT_CERT_REQUIRED, nothing),
                         *revoked = server(stage, SP_CLIENT_CERT_OPTIONAL, against),
                         *stale = server(stage, SP_CLIENT_CERT_OPTIONAL, expired), *others = NULL;
    char *error = NULL;
    check(server_of(stage, SP_CLIENT_CERT_OPTIONAL, stage->stranger.pem, NULL, &error, &others));
    for (int with = 0; with <= 1; with++) {
        struct test_side side;
        struct test_client client;
        test_side_init(&side);
        test_client_init(&client, test_side_accept(&side, before));
        if (with) {
            assert_int_equal(SSL_use_certificate(client.ssl, alice.x509), 1);
            assert_int_equal(SSL_use_PrivateKey(client.ssl, alice.key), 1);
        }
        assert_true(test_handshake(&client, &side));
        assert_true(sp_tls_server_accepts(same, side.transport) && sp_tls_server_accepts(none, side.transport));
        assert_int_equal(sp_tls_server_accepts(required, side.transport), with);
        assert_int_equal(sp_tls_server_accepts(checked, side.transport), with);
        assert_int_equal(sp_tls_server_accepts(revoked, side.transport), !with);
        assert_int_equal(sp_tls_server_accepts(stale, side.transport), !with);
        assert_int_equal(sp_tls_server_accepts(others, side.transport), !with);
        assert_int_equal(ERR_peek_error(), 0);
        test_client_free(&client);
        test_side_free(&side);
    }
    struct sp_tls_server *const all[] = {before, same, none, required, checked, revoked, stale, others};
    for (size_t i = 0; i < SP_COUNT(all); i++)
        sp_tls_server_unref(all[i]);
    test_subject_free(&alice);
}

/* ---- What cannot be configured ---- */

static void assert_sentence(struct stage *stage, const char *ca, const char *crl, const char *sentence) {
    char *error = NULL;
    struct sp_tls_server *tls = NULL;
    assert_int_equal(server_of(stage, SP_CLIENT_CERT_REQUIRED, ca, crl, &error, &tls), -EINVAL);
    assert_non_null(error);
    assert_string_equal(error, sentence);
    assert_int_equal(ERR_peek_error(), 0);
    free(error);
}

static void files_that_will_not_do_are_refused_in_one_sentence(void **state) {
    struct stage *stage = *state;
    _cleanup_(sp_free_pointer) char *half = test_joined(stage->root.pem, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_sentence(stage, NULL, NULL,
                    "sallyport.yaml:3:14: client certificates are asked for, but there is no client_ca to verify them with");
    assert_sentence(stage, "nothing\n", NULL, "sallyport.yaml:6:16: there is no certificate in PEM form in tls/ca.pem");
    assert_sentence(stage, half, NULL, "sallyport.yaml:6:16: a certificate in tls/ca.pem cannot be read");
    assert_sentence(stage, stage->root.pem, stage->root.pem,
                    "sallyport.yaml:7:17: there is no list of revocations (X509 CRL) in PEM form in tls/crl.pem");
    assert_sentence(stage, stage->root.pem, "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
                    "sallyport.yaml:7:17: a list of revocations in tls/crl.pem cannot be read");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_certificate_is_known_by_all_its_facts),
        cmocka_unit_test(a_chain_through_an_intermediate_is_followed_only_if_it_is_sent),
        cmocka_unit_test(where_it_is_optional_who_has_none_is_nobody),
        cmocka_unit_test(where_it_is_required_who_has_none_is_refused),
        cmocka_unit_test(a_listener_that_does_not_ask_learns_nothing),
        cmocka_unit_test(the_log_is_told_whose_certificate_is_refused_and_why),
        cmocka_unit_test(a_chain_may_be_eight_authorities_deep),
        cmocka_unit_test(names_that_nobody_could_keep_whole_refuse_the_certificate),
        cmocka_unit_test(what_is_revoked_is_refused_and_the_rest_is_not),
        cmocka_unit_test(an_expired_list_lets_nobody_in),
        cmocka_unit_test(every_authority_of_the_chain_must_have_a_list),
        cmocka_unit_test(who_gave_a_certificate_gets_no_ticket),
        cmocka_unit_test(a_ticket_from_before_certificates_were_required_is_worth_nothing),
        cmocka_unit_test(who_is_here_is_judged_by_what_holds_now),
        cmocka_unit_test(files_that_will_not_do_are_refused_in_one_sentence),
    };
    return cmocka_run_group_tests(tests, stage_set_up, stage_tear_down);
}
