/* Alone in its file: the supervisor makes the segment and links nothing else of account. */
#include "segment.h"

size_t sp_counters_segment_size(void) { return sizeof(struct sp_counters_segment); }
