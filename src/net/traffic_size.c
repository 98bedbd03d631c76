/* The segment's size alone, for the supervisor, which creates it. */
#include "traffic.h"

size_t sp_traffic_segment_size(void) { return sizeof(struct sp_traffic_segment); }
