/* A response head to a request whose method the first byte chooses: the same however it arrives; what is written from it is read alike. */
#include "invariants.h"

static struct sp_http_response before, after;

static void check_response(struct sp_span head, enum sp_http_method method) {
    must(before.status >= 100 && before.status <= 599 && before.minor <= 1);
    must(before.framing != SP_FRAMING_LENGTH || (before.has_content_length && before.content_length > 0));
    must(before.framing != SP_FRAMING_CHUNKED || (before.minor == 1 && !before.has_content_length));
    must(!before.keep_alive || (before.minor == 1 && before.framing != SP_FRAMING_CLOSE));
    if (method == SP_HTTP_HEAD || before.status < 200 || before.status == 204 || before.status == 304)
        must(before.framing == SP_FRAMING_NONE);
    check_fields(&before.fields, head);
}

static void check_rewritten(enum sp_http_method method) {
    struct sp_buffer out;
    sp_buffer_init(&out, 3 * SP_HTTP_HEAD_MAX);
    must(sp_http_write_status_line(&out, before.status) == 0);
    write_end_to_end(&out, &before.fields);
    if (before.has_content_length)
        must(sp_http_write_number(&out, SP_HTTP_NAME("content-length"), before.content_length) == 0);
    else
        must(sp_http_write_framing(&out, before.framing, 0) == 0);
    must(sp_http_write_end(&out) == 0);

    struct found found = find_every_way(sp_buffer_span(&out));
    const char *reason;
    if (found.progress == SP_HTTP_COMPLETE && sp_http_parse_response(sp_buffer_span(&out), method, &after, &reason) == 0) {
        must(after.status == before.status && after.framing == before.framing);
        must(after.content_length == before.content_length && after.has_content_length == before.has_content_length);
        check_same_end_to_end(&before.fields, &after.fields);
    } else {
        must(sp_buffer_len(&out) > SP_HTTP_HEAD_MAX);
    }
    sp_buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    if (len == 0)
        return 0;
    enum sp_http_method method = (enum sp_http_method)(bytes[0] % (SP_HTTP_METHOD_OTHER + 1));
    struct sp_span input = sp_span((const char *)bytes + 1, len - 1);
    struct found found = find_every_way(input);
    struct sp_span head = found.progress == SP_HTTP_COMPLETE ? sp_span(input.at, found.head_len) : input;
    const char *reason = NULL;
    int error = sp_http_parse_response(head, method, &before, &reason);
    must(found.progress == SP_HTTP_COMPLETE || error);
    must(!error || reason);
    if (!error) {
        check_response(head, method);
        check_rewritten(method);
    }
    return 0;
}
