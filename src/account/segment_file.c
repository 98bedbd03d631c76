/* What the supervisor, which creates the segment, maps nothing and links nothing else of account, does with it. */
#include <unistd.h>

#include "segment.h"

_Static_assert(SP_BACKEND_UNKNOWN == 0, "a worker that is gone knows nothing");

size_t sp_counters_segment_size(void) { return sizeof(struct sp_counters_segment); }

/* A memory file takes them or, out of memory, not all of them: then they wait for the slot's next worker. */
static void write_zeros(int segment_fd, size_t at, size_t len) {
    static const uint8_t zeros[512];
    for (size_t n; len > 0; at += n, len -= n) {
        n = sp_min(len, sizeof zeros);
        ssize_t written = pwrite(segment_fd, zeros, n, (off_t)at);
        (void)written;
    }
}

void sp_counters_worker_gone(int segment_fd, unsigned worker_slot) {
    if (worker_slot >= SP_WORKERS_MAX)
        return;
    const struct sp_worker_block *block;
    size_t at = offsetof(struct sp_counters_segment, worker) + worker_slot * sizeof *block;
    write_zeros(segment_fd, at + offsetof(struct sp_worker_block, gauge), sizeof block->gauge);
    write_zeros(segment_fd, at + offsetof(struct sp_worker_block, queue), sizeof block->queue);
    write_zeros(segment_fd, at + offsetof(struct sp_worker_block, backend), sizeof block->backend);
}
