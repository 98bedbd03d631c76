/* Heads of parts and the Content-Type that announces them (RFC 2046 §5.1.1, RFC 7578 §4). */
#ifndef SALLYPORT_HTTP_MULTIPART_HEAD_H
#define SALLYPORT_HTTP_MULTIPART_HEAD_H

#include <sallyport/base.h>

#define SP_MULTIPART_BOUNDARY_MAX 70

/* The boundary of multipart/form-data; false: another type, or no usable one. */
bool sp_multipart_boundary(struct sp_span content_type, struct sp_span *ret_boundary);

struct sp_multipart_head {
    struct sp_span name; /* borrowed from the head */
    bool is_file;        /* it has a file name */
    bool is_utf8;        /* no other character set is named */
};
/* A whole head, its empty line included. NULL, or why it is refused. */
const char *sp_multipart_parse_head(struct sp_span text, struct sp_multipart_head *ret_head);

#endif
