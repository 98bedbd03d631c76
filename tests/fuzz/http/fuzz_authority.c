/* host[:port]: what is accepted is made of plain bytes, and written again it is the same host and port. */
#include "invariants.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_span text = sp_span((const char *)bytes, len), host = {0}, again;
    uint16_t port = 0, port_again;
    if (!sp_http_parse_authority(text, &host, &port)) {
        must(!host.at && port == 0);
        return 0;
    }
    must(host.at == text.at && host.len > 0 && host.len <= text.len && host.len <= 255);
    must((port != 0) == (host.len < text.len));
    for (size_t i = 0; i < host.len; i++)
        must((uint8_t)host.at[i] > 0x20 && (uint8_t)host.at[i] < 0x7f && !strchr("\"#%&'(),/;<>?@\\^`{|}", host.at[i]));

    struct sp_buffer out;
    sp_buffer_init(&out, 1024);
    must(sp_http_write_host(&out, host, port) == 0);
    struct sp_span written = sp_buffer_span(&out);
    must(sp_span_starts(written, SP_SPAN("host: ")) && written.len > 8);
    must(sp_http_parse_authority(sp_span(written.at + 6, written.len - 8), &again, &port_again));
    must(sp_span_eq(again, host) && port_again == port);
    sp_buffer_free(&out);
    return 0;
}
