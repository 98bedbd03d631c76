#include <sallyport/http.h>

#include "chars.h"

/* The longest request line whose target still fits; the rest is method, version and the bytes between. */
#define FIRST_LINE_MAX (SP_HTTP_METHOD_MAX + 1 + SP_HTTP_TARGET_MAX + 1 + sizeof("HTTP/1.1\r\n") - 1)

static enum sp_http_progress refuse(unsigned status, unsigned *ret_status) {
    *ret_status = status;
    return SP_HTTP_REFUSED;
}

/* Goes from control byte to control byte. What it decides depends on the bytes before its place only, never on how many came at once. */
static inline enum sp_http_progress search(struct sp_http_scan *scan, struct sp_span bytes, size_t *ret_head_len, unsigned *ret_status) {
    for (;;) {
        size_t bound = scan->lines == 0 ? FIRST_LINE_MAX : SP_HTTP_HEAD_MAX;
        const char *end = bytes.at + sp_min(bytes.len, bound);
        const char *at = sp_next_control(bytes.at + scan->seen, end);
        scan->seen = (size_t)(at - bytes.at);
        if (at < end && *at != '\r') {
            if (*at != '\t')
                return refuse(400, ret_status);
            scan->seen++;
            continue;
        }
        if (end - at < 2) { /* nothing but perhaps the CR of a CRLF is left */
            if (bytes.len < bound)
                return SP_HTTP_INCOMPLETE;
            return refuse(scan->lines == 0 ? 414 : 431, ret_status);
        }
        if (at[1] != '\n')
            return refuse(400, ret_status);
        bool empty = scan->seen == scan->line_start;
        scan->seen += 2;
        scan->line_start = scan->seen;
        if (empty) {
            if (scan->lines == 0)
                return refuse(400, ret_status);
            *ret_head_len = scan->seen;
            return SP_HTTP_COMPLETE;
        }
        if (++scan->lines > 1 + SP_HTTP_FIELDS_MAX)
            return refuse(431, ret_status);
    }
}

enum sp_http_progress sp_http_find_head(struct sp_http_scan *scan, struct sp_span bytes, size_t *ret_head_len, unsigned *ret_status) {
    struct sp_http_scan place = *scan; /* a copy stays in registers: what is read could be part of *scan, for all the compiler knows */
    enum sp_http_progress progress = search(&place, bytes, ret_head_len, ret_status);
    *scan = place;
    return progress;
}
