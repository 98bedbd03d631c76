/* What our parser makes of bytes on a connection: understand < FRAMES. A frame is a 32-bit length in network order and that many bytes,
 * which stand for all that one client sends. Written for each: one line "request METHOD PATH QUERY HOST MINOR LENGTH BODY" per request that
 * is accepted, whole, with its length in bytes as sent (text in hexadecimal, "-" when empty), then "end WHY". */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include <sallyport/http.h>

#define INPUT_MAX (1u << 20)

static void put(struct sp_span text) {
    putchar(' ');
    if (text.len == 0)
        putchar('-');
    for (size_t i = 0; i < text.len; i++)
        printf("%02x", (unsigned char)text.at[i]);
}

static bool read_body(const struct sp_http_request *request, struct sp_span *input, struct sp_buffer *body, enum sp_http_progress *ret) {
    struct sp_http_body state;
    sp_http_body_begin(&state, request->framing, request->content_length);
    do {
        struct sp_span payload = {0};
        size_t before = input->len;
        *ret = sp_http_body_next(&state, input, &payload);
        if (payload.len > 0 && sp_buffer_append(body, payload.at, payload.len) < 0)
            return false;
        if (*ret == SP_HTTP_INCOMPLETE && (input->len == 0 || (before == input->len && payload.len == 0)))
            return true;
    } while (*ret == SP_HTTP_INCOMPLETE);
    return true;
}

/* One request off the front of *input; NULL when there was one, else why there is none. */
static const char *understand_one(struct sp_span *input, bool *ret_last) {
    static char why[64];
    struct sp_http_scan scan = {0};
    struct sp_http_request request;
    const char *reason = "";
    size_t head_len = 0;
    unsigned status = 0;
    enum sp_http_progress progress = sp_http_find_head(&scan, *input, &head_len, &status);
    if (progress == SP_HTTP_COMPLETE)
        status = sp_http_parse_request(sp_span(input->at, head_len), &request, &reason);
    if (progress == SP_HTTP_INCOMPLETE)
        return "more";
    if (status != 0) {
        snprintf(why, sizeof why, "refused %u", status);
        return why;
    }
    struct sp_span rest = sp_span(input->at + head_len, input->len - head_len);
    _cleanup_(sp_buffer_free) struct sp_buffer body;
    sp_buffer_init(&body, INPUT_MAX);
    if (!read_body(&request, &rest, &body, &progress))
        abort();
    if (progress != SP_HTTP_COMPLETE)
        return progress == SP_HTTP_REFUSED ? "refused body" : "more";
    printf("request");
    put(request.method_name);
    put(request.path);
    put(request.query);
    put(request.host);
    printf(" %u %zu", request.minor, input->len - rest.len);
    put(sp_buffer_span(&body));
    putchar('\n');
    *input = rest;
    *ret_last = !request.keep_alive || request.upgrade;
    return NULL;
}

static void understand(struct sp_span input) {
    const char *end = NULL;
    bool last = false;
    while (!end)
        end = input.len == 0 ? "nothing" : last ? "close" : understand_one(&input, &last);
    printf("end %s\n", end);
}

int main(void) {
    uint32_t frame;
    while (fread(&frame, sizeof frame, 1, stdin) == 1) {
        size_t len = ntohl(frame);
        char *bytes = len <= INPUT_MAX ? malloc(len ? len : 1) : NULL;
        if (!bytes || fread(bytes, 1, len, stdin) != len)
            return 1;
        understand(sp_span(bytes, len));
        free(bytes);
    }
    return fflush(stdout) ? 1 : 0;
}
