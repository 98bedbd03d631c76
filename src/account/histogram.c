#include "segment.h"

const uint64_t sp_histogram_bounds_us[SP_HISTOGRAM_BOUNDS] = {
    1000,    2500,    5000,    10000,    25000,    50000,    100000,    250000,    500000,
    1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 120000000, 300000000, 600000000,
};
const char *const sp_histogram_bounds_text[SP_HISTOGRAM_BOUNDS] = {
    "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "120", "300", "600",
};

void sp_histogram_add(struct sp_histogram *histogram, uint64_t us) {
    unsigned low = 0, high = SP_HISTOGRAM_BOUNDS;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (us <= sp_histogram_bounds_us[middle])
            high = middle;
        else
            low = middle + 1;
    }
    sp_word_add(&histogram->bucket[low], 1);
    sp_word_add(&histogram->sum_us, us);
}
