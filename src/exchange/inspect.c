/* inspect: what is asked? Today its size; its model and tokens are found here once models can be configured. */
#include "private.h"

enum sp_stage_answer sp_stage_inspect(struct sp_exchange *x) {
    bool too_large = x->body.received > x->route->max_body;
    if (x->request.framing == SP_FRAMING_LENGTH)
        too_large = x->request.content_length > x->route->max_body;
    if (too_large)
        return sp_reply(x, 413, "request_too_large", "The request body is larger than this path takes.", "body too large");
    /* An Upgrade field is not looked at and does not pass: the request is then an ordinary one (RFC 9110 §7.8). */
    return SP_STAGE_NEXT;
}
