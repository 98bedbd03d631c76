/* What the supervisor, which creates the segment and maps nothing, does with it. */
#include <unistd.h>

#include "traffic.h"

size_t sp_traffic_segment_size(void) { return sizeof(struct sp_traffic_segment); }

void sp_traffic_worker_gone(int segment_fd, unsigned worker_slot) {
    const uint32_t gone = SP_TRAFFIC_GONE;
    if (worker_slot >= SP_WORKERS_MAX)
        return;
    size_t at = offsetof(struct sp_traffic_segment, parts) + worker_slot * sizeof(struct sp_traffic_part) +
                offsetof(struct sp_traffic_part, in_use);
    /* A memory file takes four bytes whole or, out of memory, not at all: then the counts wait for the slot's next worker. */
    ssize_t written = pwrite(segment_fd, &gone, sizeof gone, (off_t)at);
    (void)written;
}
