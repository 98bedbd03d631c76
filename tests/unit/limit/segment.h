/* A bucket segment as the supervisor would make it: zeroed memory shared with child processes. */
#ifndef TEST_SEGMENT_H
#define TEST_SEGMENT_H

#include <sallyport/limit.h>
#include <sys/mman.h>

static inline void *segment_new(void) {
    void *segment = mmap(NULL, sp_limit_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (segment == MAP_FAILED)
        abort();
    return segment;
}
static inline void segment_free(void *segment) { munmap(segment, sp_limit_segment_size()); }

#endif
