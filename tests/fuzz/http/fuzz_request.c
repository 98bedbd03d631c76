/* A request head, found and parsed: the same however it arrives; and what is written from what was understood is understood the same. */
#include "invariants.h"

static struct sp_http_request before, after;

static void check_path(struct sp_span path) {
    if (sp_span_eq(path, SP_SPAN("*"))) {
        must(before.method == SP_HTTP_OPTIONS);
        return;
    }
    must(path.len > 0 && path.at[0] == '/');
    for (size_t i = 0; i < path.len; i++) {
        must(path.at[i] > 0x20 && path.at[i] < 0x7f && path.at[i] != '\\' && path.at[i] != '#' && path.at[i] != '?');
        struct sp_span rest = sp_span_from(path, i);
        must(!sp_span_starts(rest, SP_SPAN("//")) && !sp_span_starts(rest, SP_SPAN("/./")) && !sp_span_starts(rest, SP_SPAN("/../")));
        must(!sp_span_starts(rest, SP_SPAN("%2")) || (rest.len > 2 && !strchr("fFeE", rest.at[2])));
        must(!sp_span_starts(rest, SP_SPAN("%0")) && !sp_span_starts(rest, SP_SPAN("%1")));
    }
}

static void check_request(struct sp_span head) {
    must(is_within(before.target, head) && is_within(before.method_name, head) && sp_http_is_token(before.method_name));
    must(before.target.len <= SP_HTTP_TARGET_MAX);
    must(before.minor <= 1 && before.framing != SP_FRAMING_CLOSE);
    must((before.framing == SP_FRAMING_LENGTH) == (before.content_length > 0));
    must(before.framing != SP_FRAMING_CHUNKED || before.minor == 1);
    must(!before.keep_alive || before.minor == 1);
    must(!before.expect_continue || before.framing != SP_FRAMING_NONE);
    check_path(before.path);
    check_fields(&before.fields, head);
    struct sp_span host;
    uint16_t port;
    must(before.host.len > 0 ? sp_http_parse_authority(before.host, &host, &port) && port == 0 : before.minor == 0);
}

static void check_rewritten(void) {
    struct sp_buffer out;
    sp_buffer_init(&out, 3 * SP_HTTP_HEAD_MAX);
    struct sp_span host = before.host.len ? before.host : SP_SPAN("backend.test");
    must(sp_http_write_request_line(&out, before.method_name, SP_SPAN(""), before.path, before.query) == 0);
    must(sp_http_write_host(&out, host, before.port) == 0);
    write_end_to_end(&out, &before.fields);
    must(sp_http_write_framing(&out, before.framing, before.content_length) == 0);
    must(sp_http_write_end(&out) == 0);

    /* Rewriting adds a few bytes, so that a head at the very limit may pass it; nothing else may be refused. */
    struct found found = find_every_way(sp_buffer_span(&out));
    const char *reason;
    unsigned status = found.progress == SP_HTTP_COMPLETE ? sp_http_parse_request(sp_buffer_span(&out), &after, &reason) : found.status;
    if (status == 0) {
        must(found.head_len == sp_buffer_len(&out));
        must(after.method == before.method && sp_span_eq(after.method_name, before.method_name));
        must(sp_span_eq(after.path, before.path) && sp_span_eq(after.query, before.query));
        must(sp_span_eq(after.host, host) && after.port == before.port);
        must(after.framing == before.framing && after.content_length == before.content_length);
        check_same_end_to_end(&before.fields, &after.fields);
    } else {
        must(status == 431 && (sp_buffer_len(&out) > SP_HTTP_HEAD_MAX || before.fields.count == SP_HTTP_FIELDS_MAX));
    }
    sp_buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_span input = sp_span((const char *)bytes, len);
    struct found found = find_every_way(input);
    struct sp_span head = found.progress == SP_HTTP_COMPLETE ? sp_span(input.at, found.head_len) : input;
    const char *reason = NULL;
    unsigned status = sp_http_parse_request(head, &before, &reason);
    must(found.progress == SP_HTTP_COMPLETE || status != 0);
    if (status) {
        must(reason && (status == 400 || status == 414 || status == 417 || status == 431 || status == 501 || status == 505));
        return 0;
    }
    check_request(head);
    check_rewritten();
    return 0;
}
