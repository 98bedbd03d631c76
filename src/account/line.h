/* One access log line, formatted by hand: this runs once per request. */
#ifndef SP_ACCOUNT_LINE_H
#define SP_ACCOUNT_LINE_H

#include <limits.h>

#include <sallyport/account.h>

/* A line with its newline never exceeds this: a write of it to a pipe is atomic (POSIX, write(2)). */
#define SP_LINE_MAX PIPE_BUF

/* Writes one line and returns its length. Bytes past it, up to SP_LINE_MAX, are undefined afterwards. */
size_t sp_access_line(const struct sp_access_record *record, char out[SP_LINE_MAX]);

#endif
