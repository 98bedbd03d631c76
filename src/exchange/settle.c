/* settle: whatever an exchange held goes back: the answer or decision it still waited for, its place in the queue and among those that run at
 * one time, the server's slot and connection. A request costs one, whatever became of it; of the tokens reserved for it the difference to
 * what it took is paid back or charged. */
#include "private.h"

void sp_stage_settle(struct sp_exchange *x) {
    sp_question_leave(x);
    sp_queue_leave(&x->ticket);
    sp_limiter_finish(x->service->parts.limiter, &x->limit, sp_tokens_used(x));
    x->limit_pending = false;
    struct sp_backend *backend = sp_take(x->backend);
    if (!backend)
        return;
    /* Only a connection on which both messages ended cleanly can carry another: an answer that came before the whole request was sent leaves
     * it in the middle of a message. One in the middle of an answer is reset, so that the server stops working for nobody. */
    if (x->answer_whole && x->request_sent && x->backend_keeps)
        sp_backend_keep(backend);
    else
        sp_backend_close(backend, !x->answer_whole);
}
