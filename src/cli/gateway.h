/* Asking a running gateway over its admin socket; shared by the commands that do. */
#ifndef SALLYPORT_CLI_GATEWAY_H
#define SALLYPORT_CLI_GATEWAY_H

#include <jansson.h>

#include <sallyport/base.h>

#define SP_ADMIN_SOCKET_DEFAULT "/run/sallyport/admin.sock"

struct sp_gateway {
    const char *command;     /* for messages: "ctl" */
    const char *socket_path; /* NULL: that of `config`, or the usual one */
    const char *config;      /* NULL: none */
};
/* The HTTP status and the answer's bytes; body NULL: none. -1: why there is none was said on stderr. */
long sp_gateway_ask(const struct sp_gateway *gateway, const char *method, const char *path, const char *body,
                    struct sp_buffer *answer) SP_MUST_USE;
#define SP_ANSWER_MAX ((size_t)16 * 1024 * 1024)

/* What came of it, to stdout or stderr: the bytes as they are (raw), or what `print` makes of the object, or its message and errors. */
typedef void sp_print_answer(json_t *answer);
int sp_gateway_show(const struct sp_gateway *gateway, long status, struct sp_span bytes, bool raw, sp_print_answer *print) SP_MUST_USE;

#endif
