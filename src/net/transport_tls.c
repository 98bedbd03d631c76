/* TLS as a kind of transport. OpenSSL does its I/O through a BIO of ours that makes a system call only where the transport knows that
 * bytes will move, so that one record costs one recv(2) and one send(2).
 *
 * What OpenSSL writes during the handshake is collected and leaves in one send(2) per flight. The session ticket, which OpenSSL writes
 * after the client's Finished, waits for the first answer when a request has already come: it then travels in the same send(2). */
#include "transport.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>

#include "tls.h"

#define RECORD_MAX SSL3_RT_MAX_PLAIN_LENGTH
#define FLIGHT_MAX (128u * 1024) /* a certificate chain is the bulk of it */

struct sp_tls_transport {
    struct sp_transport transport;
    SSL *ssl;
    struct sp_tls_server *server; /* one of these two, by whose side is ours */
    struct sp_tls_client *client;
    bool begun;              /* a client speaks first */
    struct sp_buffer flight; /* handshake bytes not yet sent */
    size_t unfinished;       /* bytes of the owner in a record that OpenSSL has not got rid of; the same must be offered again */
    bool starved;            /* what OpenSSL holds is less than a record, or of no use */
    bool finished;           /* close_notify came */
    bool said_farewell;
    bool blocked; /* our BIO said "not now" in the call that is going on */
    struct sp_tls_facts facts;
    struct sp_peer_certificate *peer; /* what a client gave; NULL: none */
};

static struct sp_tls_transport *tls_of(const struct sp_transport *transport) {
    return SP_CONTAINER((void *)transport, struct sp_tls_transport, transport);
}

struct sp_transport *sp_tls_transport_of(const SSL *ssl) {
    struct sp_tls_transport *tls = BIO_get_data(SSL_get_rbio(ssl));
    return &tls->transport;
}

struct sp_tls_client *sp_tls_client_of(const SSL *ssl) {
    struct sp_tls_transport *tls = BIO_get_data(SSL_get_rbio(ssl));
    return tls->client;
}

/* ---- The BIO ---- */

static int bio_read(BIO *bio, char *into, int len) {
    struct sp_tls_transport *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = len > 0 ? sp_transport_recv(&tls->transport, into, (size_t)len) : SP_IO_AGAIN;
    if (n > 0) {
        tls->starved = false;
        return (int)n;
    }
    if (n == SP_IO_AGAIN) {
        BIO_set_retry_read(bio);
        tls->blocked = true;
    }
    return -1; /* the end too: the transport remembers it, and OpenSSL would answer an end with an alert nobody reads */
}

/* Sends the held flight and then `record`: how many bytes of the record went. */
static ssize_t send_after_flight(struct sp_tls_transport *tls, const char *record, size_t len) {
    if (sp_buffer_len(&tls->flight) == 0)
        return sp_transport_send(&tls->transport, &(struct iovec){(void *)record, len}, 1);
    struct sp_span held = sp_buffer_span(&tls->flight);
    const struct iovec pieces[2] = {{(void *)held.at, held.len}, {(void *)record, len}};
    ssize_t n = sp_transport_send(&tls->transport, pieces, len > 0 ? 2 : 1);
    if (n < 0)
        return n;
    size_t of_flight = sp_min((size_t)n, held.len);
    sp_buffer_consume(&tls->flight, of_flight);
    if (sp_buffer_len(&tls->flight) > 0)
        return SP_IO_AGAIN;
    sp_buffer_free(&tls->flight);
    return n - (ssize_t)of_flight;
}

static int bio_write(BIO *bio, const char *from, int len) {
    struct sp_tls_transport *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    if (tls->transport.state == SP_TRANSPORT_OPENING)
        return sp_buffer_append(&tls->flight, from, (size_t)len) < 0 ? -1 : len;
    ssize_t n = send_after_flight(tls, from, (size_t)len);
    if (n > 0)
        return (int)n;
    if (n == 0 || n == SP_IO_AGAIN) {
        BIO_set_retry_write(bio);
        tls->blocked = true;
    }
    return -1;
}

/* 1 when nothing is held any more. */
static int bio_flush(BIO *bio, struct sp_tls_transport *tls) {
    BIO_clear_retry_flags(bio);
    if (sp_buffer_len(&tls->flight) == 0)
        return 1;
    if (SSL_get_state(tls->ssl) == TLS_ST_SW_SESSION_TICKET)
        return 1; /* see tls_open() */
    ssize_t n = send_after_flight(tls, NULL, 0);
    if (n >= 0)
        return 1;
    if (n == SP_IO_AGAIN) {
        BIO_set_retry_write(bio);
        tls->blocked = true;
    }
    return -1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    return command == BIO_CTRL_FLUSH ? bio_flush(bio, BIO_get_data(bio)) : 0;
}

/* Made once and kept: a process has one, and OpenSSL's own clean-up at exit does not need it. */
static BIO_METHOD *bio_method(void) {
    static BIO_METHOD *method;
    if (method)
        return method;
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sallyport transport");
    if (!method)
        return NULL;
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
    return method;
}

/* ---- What a call into OpenSSL came to ---- */

static bool protocol_error(void) { return ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_SSL; }

/* What OpenSSL's words leave open. */
static const char *explained(const struct sp_tls_transport *tls, int reason, const char *words) {
    switch (reason) {
    case SSL_R_UNSUPPORTED_PROTOCOL:
        return tls->client ? "unsupported protocol (the server has no TLS 1.2)" : "unsupported protocol (client offered no TLS 1.3)";
    case SSL_R_HTTP_REQUEST:
        return "plain HTTP where TLS is spoken";
    case SSL_R_WRONG_VERSION_NUMBER:
        return tls->client ? "the server does not speak TLS there" : words;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return "the client gave no certificate";
    default:
        return words;
    }
}

static int broken(struct sp_tls_transport *tls, const char *when) {
    struct sp_transport *transport = &tls->transport;
    if (protocol_error() && !transport->ended && !transport->recv_error) {
        int reason = ERR_GET_REASON(ERR_peek_last_error());
        const char *words = explained(tls, reason, sp_tls_reason());
        if (transport->send_error) /* the peer said why before it stopped listening: that is the reason, not the reset that we met first */
            free(sp_take(transport->problem));
        transport->certificate_refused |= reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE;
        sp_transport_set_problem(transport, "tls: %s", words);
        return -EPROTO;
    }
    ERR_clear_error();
    if (transport->ended) {
        sp_transport_set_problem(transport, "tls: peer closed %s", when);
        return -ECONNRESET;
    }
    if (transport->recv_error || transport->send_error)
        return -(transport->recv_error ? transport->recv_error : transport->send_error);
    sp_transport_set_problem(transport, "tls: failed %s", when);
    return -EPROTO;
}

/* Why SSL_do_handshake() or SSL_read() gave nothing. SSL_get_error() would first look at the thread's error queue, where other modules'
 * failures may lie; our BIO knows better. */
static int verdict(struct sp_tls_transport *tls, const char *when) {
    int want = SSL_want(tls->ssl);
    if (tls->blocked && want == SSL_READING)
        return SP_IO_AGAIN;
    if (tls->blocked && want == SSL_WRITING && !protocol_error())
        return SP_IO_AGAIN;
    return broken(tls, when);
}

/* ---- The kind ---- */

static const char *alpn_of(const struct sp_tls_transport *tls) {
    if (tls->client)
        return "http/1.1"; /* we offer nothing else */
    const unsigned char *chosen = NULL;
    unsigned len = 0;
    SSL_get0_alpn_selected(tls->ssl, &chosen, &len);
    struct sp_span name = sp_span((const char *)chosen, len);
    for (size_t i = 0; i < tls->server->n_protocols; i++)
        if (sp_span_eq(name, sp_span_text(tls->server->protocols[i])))
            return tls->server->protocols[i];
    return "http/1.1"; /* a client that offers nothing speaks what there was before ALPN */
}

static void learn_facts(struct sp_tls_transport *tls) {
    const char *group = SSL_group_to_name(tls->ssl, (int)SSL_get_negotiated_group(tls->ssl));
    const char *name = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
    tls->facts = (struct sp_tls_facts){
        .version = SSL_get_version(tls->ssl),
        .cipher = SSL_get_cipher_name(tls->ssl),
        .group = group ? group : "",
        .alpn = alpn_of(tls),
        .server_name = name ? name : "",
        .resumed = SSL_session_reused(tls->ssl) != 0,
    };
}

/* Who the client has proved to be. Names that nobody could keep refuse it: cut short, they would be another's. */
static int learn_peer(struct sp_tls_transport *tls) {
    X509 *certificate = tls->server && tls->server->asks_clients ? SSL_get0_peer_certificate(tls->ssl) : NULL;
    if (!certificate)
        return 0;
    int r = sp_tls_peer_new(certificate, &tls->peer);
    if (r == -ENOMEM)
        return r;
    if (r < 0) {
        tls->transport.certificate_refused = true;
        sp_transport_set_problem(&tls->transport, "tls: the client's certificate is refused: %s",
                                 r == -EMSGSIZE ? "a name in it is too long" : "a name in it holds what is not visible ASCII");
        return -EPROTO;
    }
    return 0;
}

static bool tls_readable(const struct sp_transport *transport) {
    const struct sp_tls_transport *tls = tls_of(transport);
    if (tls->finished)
        return false;
    return transport->readable || (!tls->starved && SSL_has_pending(tls->ssl));
}

static int tls_open(struct sp_transport *transport) {
    struct sp_tls_transport *tls = tls_of(transport);
    if (tls->begun && !transport->readable && sp_buffer_len(&tls->flight) == 0)
        return SP_IO_AGAIN; /* the edge that says only that there is room */
    tls->begun = true;
    tls->blocked = false;
    if (SSL_do_handshake(tls->ssl) != 1)
        return verdict(tls, "during the handshake");
    ERR_clear_error(); /* a ticket that could not be opened leaves its reason behind */
    tls->starved = false;
    learn_facts(tls);
    int r = learn_peer(tls);
    if (r < 0)
        return r;
    if (tls->client && !tls->facts.resumed)
        tls->client->verified_ms = sp_loop_now_ms(transport->loop);
    if (!tls_readable(transport) && sp_buffer_len(&tls->flight) > 0) {
        /* No request has come along with the client's Finished: the ticket leaves by itself. What does not fit waits for the answer. */
        ssize_t n = send_after_flight(tls, NULL, 0);
        if (n < 0 && n != SP_IO_AGAIN)
            return (int)n;
    }
    return 0;
}

static ssize_t tls_read(struct sp_transport *transport, void *into, size_t len) {
    struct sp_tls_transport *tls = tls_of(transport);
    if (tls->finished)
        return 0;
    tls->blocked = false;
    size_t n = 0;
    if (SSL_read_ex(tls->ssl, into, len, &n) == 1)
        return (ssize_t)n;
    if (SSL_get_shutdown(tls->ssl) & SSL_RECEIVED_SHUTDOWN && !protocol_error()) {
        tls->finished = true;
        return 0;
    }
    tls->starved = true; /* until bytes come, or, when it is broken, for good */
    return verdict(tls, "without close_notify");
}

static ssize_t write_record(struct sp_tls_transport *tls, const void *from, size_t len) {
    if (tls->unfinished) {
        if (len < tls->unfinished)
            return -EINVAL; /* the record is sealed: the owner broke the rule to offer the same again */
        len = tls->unfinished;
    }
    tls->blocked = false;
    size_t n = 0;
    if (SSL_write_ex(tls->ssl, from, len, &n) == 1) {
        tls->unfinished = 0;
        return (ssize_t)n;
    }
    int r = verdict(tls, "while sending");
    if (r == SP_IO_AGAIN)
        tls->unfinished = len;
    return r;
}

static ssize_t tls_writev(struct sp_transport *transport, const struct iovec *pieces, int n) {
    struct sp_tls_transport *tls = tls_of(transport);
    if (!transport->writable)
        return transport->send_error ? -transport->send_error : SP_IO_AGAIN; /* do not seal what cannot leave */
    if (n == 1)
        return write_record(tls, pieces->iov_base, sp_min(pieces->iov_len, (size_t)RECORD_MAX));
    static char record[RECORD_MAX];
    size_t len = 0;
    for (int i = 0; i < n && len < sizeof record; i++) {
        size_t part = sp_min(pieces[i].iov_len, sizeof record - len);
        memcpy(record + len, pieces[i].iov_base, part);
        len += part;
    }
    return write_record(tls, record, len);
}

static int tls_farewell(struct sp_transport *transport) {
    struct sp_tls_transport *tls = tls_of(transport);
    if (tls->said_farewell || transport->recv_error || transport->send_error)
        return 0;
    if (tls->unfinished)
        return SP_IO_AGAIN; /* half a record is out: nothing may follow it but its other half, which only the owner has */
    tls->blocked = false;
    int r = SSL_shutdown(tls->ssl); /* 0: ours is sent; 1: the peer's had come before */
    if (r < 0 && tls->blocked)
        return SP_IO_AGAIN;
    ERR_clear_error();
    tls->said_farewell = true;
    return 0;
}

static void tls_facts(const struct sp_transport *transport, struct sp_tls_facts *ret) {
    const struct sp_tls_transport *tls = tls_of(transport);
    *ret = tls->facts;
    if (!ret->version)
        sp_transport_plain.facts(transport, ret); /* the handshake is not done: nothing is known */
}

static const struct sp_peer_certificate *tls_peer(const struct sp_transport *transport) { return tls_of(transport)->peer; }

static void tls_free(struct sp_transport *transport) {
    struct sp_tls_transport *tls = tls_of(transport);
    SSL_free(tls->ssl);
    sp_buffer_free(&tls->flight);
    sp_tls_peer_free(tls->peer);
    sp_tls_server_unref(tls->server);
    sp_tls_client_unref(tls->client);
    free(tls);
}

static const struct sp_transport_kind tls_kind = {
    .open = tls_open,
    .read = tls_read,
    .writev = tls_writev,
    .readable = tls_readable,
    .farewell = tls_farewell,
    .facts = tls_facts,
    .peer = tls_peer,
    .free = tls_free,
};

const SSL *sp_tls_ssl_of(const struct sp_transport *transport, const struct sp_tls_server **ret_server) {
    if (transport->kind != &tls_kind || !tls_of(transport)->server)
        return NULL;
    *ret_server = tls_of(transport)->server;
    return tls_of(transport)->ssl;
}

/* ---- Beginning ---- */

static SSL *server_ssl(struct sp_tls_server *server) {
    SSL *ssl = SSL_new(server->context);
    if (!ssl)
        return NULL;
    SSL_set_accept_state(ssl);
    if (!sp_tls_tickets_usable(server->tickets))
        (void)SSL_set_num_tickets(ssl, 0); /* takes any number */
    return ssl;
}

/* Takes `ssl`, also where it fails; NULL: out of memory. */
static struct sp_tls_transport *new_transport(SSL *ssl) {
    BIO_METHOD *method = bio_method();
    BIO *bio = method ? BIO_new(method) : NULL;
    struct sp_tls_transport *tls = calloc(1, sizeof *tls);
    if (!ssl || !bio || !tls) {
        SSL_free(ssl);
        BIO_free(bio);
        free(tls);
        ERR_clear_error();
        return NULL;
    }
    sp_buffer_init(&tls->flight, FLIGHT_MAX);
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    tls->ssl = ssl;
    return tls;
}

static int begin(struct sp_tls_transport *tls, struct sp_loop *loop, int fd, enum sp_transport_state state, sp_transport_ready *ready,
                 void *owner, struct sp_transport **ret) {
    int r = sp_transport_start(&tls->transport, &tls_kind, loop, fd, state, ready, owner);
    if (r < 0) {
        tls_free(&tls->transport);
        return r;
    }
    *ret = &tls->transport;
    return 0;
}

int sp_tls_transport_accept(struct sp_loop *loop, int fd, struct sp_tls_server *server, sp_transport_ready *ready, void *owner,
                            struct sp_transport **ret) {
    struct sp_tls_transport *tls = new_transport(server_ssl(server));
    if (!tls)
        return -ENOMEM;
    tls->server = sp_tls_server_ref(server);
    tls->begun = true;
    tls->transport.opens_yielding = true;
    return begin(tls, loop, fd, SP_TRANSPORT_OPENING, ready, owner, ret);
}

int sp_tls_transport_connect(struct sp_loop *loop, int fd, struct sp_tls_client *client, sp_transport_ready *ready, void *owner,
                             struct sp_transport **ret) {
    struct sp_tls_transport *tls = new_transport(sp_tls_client_ssl(client, sp_loop_now_ms(loop)));
    if (!tls)
        return -ENOMEM;
    tls->client = sp_tls_client_ref(client);
    return begin(tls, loop, fd, SP_TRANSPORT_CONNECTING, ready, owner, ret);
}
