#include <sallyport/http.h>

void sp_http_body_begin(struct sp_http_body *body, enum sp_http_framing framing, uint64_t content_length) {
    *body = (struct sp_http_body){.framing = framing, .left = framing == SP_FRAMING_LENGTH ? content_length : 0};
}

enum sp_http_progress sp_http_body_next(struct sp_http_body *body, struct sp_span *input, struct sp_span *ret_payload) {
    size_t n = 0;
    switch (body->framing) {
    case SP_FRAMING_CHUNKED:
        return sp_http_chunks_next(&body->chunks, input, ret_payload);
    case SP_FRAMING_LENGTH:
        n = body->left < input->len ? (size_t)body->left : input->len;
        body->left -= n;
        break;
    case SP_FRAMING_CLOSE:
        n = input->len;
        break;
    case SP_FRAMING_NONE:
        break;
    }
    *ret_payload = sp_span(input->at, n);
    *input = sp_span_from(*input, n);
    return body->framing == SP_FRAMING_CLOSE || body->left > 0 ? SP_HTTP_INCOMPLETE : SP_HTTP_COMPLETE;
}
