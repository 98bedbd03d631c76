/* Server-sent events (WHATWG HTML §9.2.5 and §9.2.6), split into events and their data; private to src/http/. Pure, and holds no bytes:
 * what it says points into the bytes that were handed in. It must not know what the data mean. */
#ifndef SALLYPORT_HTTP_SSE_H
#define SALLYPORT_HTTP_SSE_H

#include <sallyport/base.h>

/* Where the reading of one stream stands. Begins zeroed. */
struct sp_sse {
    uint8_t state;   /* private to sse.c */
    uint8_t matched; /* of a field's name, or of the byte order mark */
    bool begun;      /* inside an event */
    bool data;       /* this event has had a line of data */
    bool after_cr;   /* a LF that comes now is the second half of a line end */
};

enum sp_sse_step {
    SP_SSE_MORE,  /* the input is used up */
    SP_SSE_BEGIN, /* an event begins with the next byte of the input */
    SP_SSE_DATA,  /* the next piece of the event's data; a LF joins its lines */
    SP_SSE_EVENT  /* the event has ended with the empty line just read (without the LF of a CRLF: see sp_sse_take_lf) */
};

/* An event is what stands between its first field and its empty line. Comments and empty lines before it are no part of it, and a byte
 * order mark at the beginning of the stream counts as an event of its own without data: it may pass before anything else has come. */
enum sp_sse_step sp_sse_next(struct sp_sse *sse, struct sp_span *input, struct sp_span *ret_data);
/* Takes the LF that belongs to a CR read before, if it is there: to be asked after an event and before each new input by whoever must know
 * to which event the byte belongs. */
bool sp_sse_take_lf(struct sp_sse *sse, struct sp_span *input);

#endif
