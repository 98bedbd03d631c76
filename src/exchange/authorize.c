/* authorize: may they do this at all? By the route's roles and scopes. */
#include "private.h"

static enum sp_stage_answer missing_scope(struct sp_exchange *x) {
    /* RFC 6750 §3: the scope attribute names what would be needed. */
    struct sp_buffer challenge;
    sp_buffer_init(&challenge, 4096);
    int error = sp_buffer_append_span(&challenge, SP_SPAN("Bearer realm=\"sallyport\", error=\"insufficient_scope\", scope=\""));
    for (size_t i = 0; i < x->route->scopes.count && !error; i++) {
        if (i)
            error = sp_buffer_append(&challenge, " ", 1);
        if (!error)
            error = sp_buffer_append_span(&challenge, sp_span_text(x->route->scopes.item[i]));
    }
    if (!error)
        error = sp_buffer_append(&challenge, "\"", 1);
    struct sp_span value = SP_SPAN("Bearer realm=\"sallyport\", error=\"insufficient_scope\"");
    if (!error)
        (void)!sp_arena_copy(&x->arena, sp_buffer_span(&challenge), &value);
    sp_buffer_free(&challenge);
    return sp_reply_with(x, 403, "insufficient_scope", "The credential lacks a scope that this path needs.", "scope",
                         SP_SPAN("www-authenticate"), value);
}

enum sp_stage_answer sp_stage_authorize(struct sp_exchange *x) {
    if (x->route->roles && !(x->route->roles & x->roles))
        return sp_reply(x, 403, "permission_denied", "Your credential does not have a role that this path needs.", "role");
    for (size_t i = 0; i < x->route->scopes.count; i++)
        if (!sp_principal_has_scope(x->principal, sp_span_text(x->route->scopes.item[i])))
            return missing_scope(x);
    return SP_STAGE_NEXT;
}
