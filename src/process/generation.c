/* A configuration with everything that is needed to hand it over. */
#include <errno.h>
#include <stdio.h>

#include "supervisor.h"

static int join_lines(const struct sp_config_errors *errors, char **ret) {
    struct sp_buffer text;
    sp_buffer_init(&text, SP_MESSAGE_MAX);
    for (size_t i = 0; i < errors->count; i++)
        /* What does not fit is left out: the first lines are what gets fixed first. */
        if (sp_buffer_printf(&text, "%s%s", i > 0 ? "\n" : "", errors->line[i]) < 0)
            break;
    *ret = sp_span_dup(sp_buffer_span(&text));
    sp_buffer_free(&text);
    return *ret ? 0 : -ENOMEM;
}

static int make_offer(const struct sp_document *document, enum sp_config_reader reader, int *ret_fd) {
    char *bytes = NULL;
    size_t len = 0;
    int r = sp_document_encode(document, reader, &bytes, &len);
    if (r < 0)
        return r;
    r = sp_sealed_bytes("sallyport-configuration", sp_span(bytes, len), ret_fd);
    sp_free_secret(bytes);
    return r;
}

static int prepare(struct sp_generation *generation) {
    int r = sp_document_snapshot(generation->document, SP_READER_SUPERVISOR, &generation->config);
    if (r >= 0)
        r = make_offer(generation->document, SP_READER_WORKER, &generation->offer_fd[SP_ROLE_WORKER]);
    if (r >= 0)
        r = make_offer(generation->document, SP_READER_CONTROL, &generation->offer_fd[SP_ROLE_CONTROL]);
    return r;
}

int sp_generation_load(const char *path, const struct sp_generation *previous, uint64_t number, char **ret_errors,
                       struct sp_generation **ret) {
    struct sp_generation *generation = calloc(1, sizeof *generation);
    if (!generation)
        return -ENOMEM;
    generation->number = number;
    for (int i = 0; i < SP_ROLE_COUNT; i++)
        generation->offer_fd[i] = -1;

    struct sp_config_errors errors = {0};
    int r = sp_config_load(path, previous ? previous->document : NULL, number, &errors, &generation->document);
    if (r == -EINVAL && join_lines(&errors, ret_errors) < 0)
        r = -ENOMEM;
    sp_config_errors_free(&errors);
    if (r >= 0) {
        r = prepare(generation);
        if (r < 0)
            r = sp_refuse(ret_errors, "%s: cannot be handed over: %s", path, strerror(-r));
    }
    if (r < 0) {
        sp_generation_free(generation);
        return r;
    }
    *ret = generation;
    return 0;
}

void sp_generation_free(struct sp_generation *generation) {
    if (!generation)
        return;
    for (int i = 0; i < SP_ROLE_COUNT; i++)
        sp_close_fd(&generation->offer_fd[i]);
    sp_config_unref(generation->config);
    sp_document_free(generation->document);
    free(generation);
}
