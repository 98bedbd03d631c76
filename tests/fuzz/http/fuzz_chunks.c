/* A chunked body: the same payload and the same end however it arrives; and chunked anew it is the same payload. */
#include "invariants.h"

struct decoded {
    enum sp_http_progress progress;
    size_t used, payload_len;
    char *payload; /* as large as the input */
};

static struct decoded decode(struct sp_span bytes, size_t step) {
    struct decoded decoded = {.payload = malloc(bytes.len + 1)};
    struct sp_http_chunks chunks = {0};
    must(decoded.payload);
    while (decoded.progress == SP_HTTP_INCOMPLETE && decoded.used < bytes.len) {
        struct sp_span input = sp_span(bytes.at + decoded.used, sp_min(step, bytes.len - decoded.used)), given = input, payload;
        decoded.progress = sp_http_chunks_next(&chunks, &input, &payload);
        must(is_within(payload, given) && is_within(input, given) && input.at + input.len == given.at + given.len);
        must(decoded.progress != SP_HTTP_INCOMPLETE || input.len < given.len); /* it never stands still */
        if (payload.len)
            memcpy(decoded.payload + decoded.payload_len, payload.at, payload.len);
        decoded.payload_len += payload.len;
        decoded.used += given.len - input.len;
        must(decoded.payload_len <= decoded.used);
    }
    return decoded;
}

static void check_chunked_anew(const struct decoded *original) {
    struct sp_buffer out;
    sp_buffer_init(&out, original->payload_len * 8 + 64);
    for (size_t at = 0, size; at < original->payload_len; at += size) {
        char head[SP_HTTP_CHUNK_HEAD_MAX];
        size = sp_min(at % 300 + 1, original->payload_len - at);
        must(sp_buffer_append(&out, head, sp_http_chunk_head(size, head)) == 0);
        must(sp_buffer_append(&out, original->payload + at, size) == 0);
        must(sp_buffer_append_span(&out, SP_SPAN("\r\n")) == 0);
    }
    must(sp_buffer_append_span(&out, SP_HTTP_CHUNK_END) == 0);
    struct decoded again = decode(sp_buffer_span(&out), SIZE_MAX);
    must(again.progress == SP_HTTP_COMPLETE && again.used == sp_buffer_len(&out) && again.payload_len == original->payload_len);
    must(memcmp(again.payload, original->payload, again.payload_len) == 0);
    free(again.payload);
    sp_buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_span input = sp_span((const char *)bytes, len);
    struct decoded at_once = decode(input, SIZE_MAX);
    static const size_t steps[] = {1, 3, 64};
    for (size_t i = 0; i < SP_COUNT(steps); i++) {
        struct decoded stepwise = decode(input, steps[i]);
        must(stepwise.progress == at_once.progress && stepwise.used == at_once.used && stepwise.payload_len == at_once.payload_len);
        must(memcmp(stepwise.payload, at_once.payload, at_once.payload_len) == 0);
        free(stepwise.payload);
    }
    if (at_once.progress == SP_HTTP_COMPLETE)
        check_chunked_anew(&at_once);
    free(at_once.payload);
    return 0;
}
