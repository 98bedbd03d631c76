/* Any text as a configuration: it is refused with at least one error, or it is a document that every reader can decode. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include <sallyport/config.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void require(bool holds) {
    if (!holds)
        abort();
}

static void require_decodable(const struct sp_document *document, enum sp_config_reader reader) {
    char *text = NULL;
    size_t text_len;
    struct sp_config *config = NULL;
    require(sp_document_encode(document, reader, &text, &text_len) == 0);
    require(sp_config_decode(sp_span(text, text_len), &config) == 0);
    require(config->n_listeners > 0 && config->n_pools > 0 && config->n_routes > 0 && config->workers > 0);
    for (size_t i = 0; i < config->n_routes; i++)
        require((config->routes[i].pool ? config->routes[i].pool->n_servers > 0 : config->routes[i].models_in_body) &&
                config->routes[i].authenticate != 0);
    for (size_t i = 0; i < config->n_models; i++)
        require(sp_config_model(config, sp_span_text(config->models[i].name)) == &config->models[i]);
    sp_config_unref(config);
    sp_free_secret(text);
}

/* "file:line:column: message", on one line. */
static void require_well_formed(const char *line) {
    unsigned colons = 0;
    for (const char *c = line; *c; c++) {
        require(*c != '\n' && *c != '\r');
        colons += *c == ':';
    }
    require(line[0] == 'f' && line[1] == ':' && line[2] >= '1' && line[2] <= '9' && colons >= 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL, *next = NULL;
    struct sp_span yaml = sp_span((const char *)bytes, len);
    int failed = sp_config_load_text("f", yaml, "/etc", false, NULL, 1, &errors, &document);
    if (failed) {
        require(failed == -EINVAL && errors.count > 0 && !document);
    } else {
        require(errors.count == 0 && document);
        require_decodable(document, SP_READER_WORKER);
        require_decodable(document, SP_READER_CONTROL);
        require(sp_config_load_text("f", yaml, "/etc", false, document, 2, &errors, &next) == 0);
        require_decodable(next, SP_READER_SUPERVISOR);
    }
    for (size_t i = 0; i < errors.count; i++)
        require_well_formed(errors.line[i]);
    sp_config_errors_free(&errors);
    sp_document_free(document);
    sp_document_free(next);
    return 0;
}
