/* One client connection that speaks HTTP/1.1: shared by client.c (its life, reading requests), client_body.c (their
 * bodies) and http1.c (writing answers). */
#ifndef SALLYPORT_EXCHANGE_CLIENT_H
#define SALLYPORT_EXCHANGE_CLIENT_H

#include "private.h"

enum sp_client_state {
    SP_CLIENT_HANDSHAKE,
    SP_CLIENT_IDLE,     /* nothing of a request has come */
    SP_CLIENT_HEAD,     /* part of a head has come */
    SP_CLIENT_EXCHANGE, /* a request is under way */
    SP_CLIENT_FLUSH,    /* the answer is whole but not all written */
    SP_CLIENT_DISCARD,  /* the rest of a body that nobody wants */
    SP_CLIENT_CLOSED,
};

struct sp_client {
    struct sp_list node; /* in service->client_list */
    struct sp_service *service;
    struct sp_transport *transport;
    enum sp_client_state state;
    unsigned listener_slot;
    struct sp_exchange *exchange; /* in state EXCHANGE, else NULL */
    struct sp_buffer in, out;
    struct sp_http_scan scan;
    size_t looked_at;             /* of the head in `in`: more has come when it holds more */
    struct sp_timer timer;
    uint64_t deadline_ms;         /* the timer looks at it when it fires; UINT64_MAX: none */
    uint64_t repaid_ms;           /* of what its handshake waited for us */
    struct sp_deferred resume, free;

    /* the request under way */
    struct sp_http_body incoming;
    bool body_done, continue_wanted;
    /* the answer under way */
    bool close_after, chunked, length_told, no_body, out_of_step /* the next request's beginning is not certain */;
    bool wrote; /* progress since the timer last looked */
    bool gone;  /* it has closed its side, or all of it */
    uint64_t welcomed; /* the generation by whose rules it was let in */

    struct sp_client_facts facts;
    struct sp_auth_memory auth;
    struct sp_certificate_credential certificate; /* facts.certificate points here when there is one */
    struct sp_principal *known;
};

/* http1.c: writes what is assembled. false: the client is gone and the connection closed. */
bool sp_client_flush(struct sp_client *client);
/* client.c */
void sp_client_exchange_done(struct sp_client *client);
void sp_client_resume_later(struct sp_client *client);
void sp_client_deadline(struct sp_client *client, uint64_t after_ms); /* UINT64_MAX: none */
/* client_body.c: moves body bytes from *rest into the exchange, as long as there is memory for them; and from the connection, as far as they
 * have come. Both may end the exchange or close the connection. */
void sp_client_feed_body(struct sp_client *client, struct sp_span *rest);
void sp_client_read_body(struct sp_client *client);

#endif
