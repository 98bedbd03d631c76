#include "segment.h"

const struct sp_scale sp_scale_requests = {
    .n = 18,
    .seconds = true,
    .bound = {1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000,
              120000000, 300000000, 600000000},
    .text = {"0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "120", "300",
             "600"},
};

const struct sp_scale sp_scale_tokens = {
    .n = 14,
    .bound = {1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864},
    .text = {"1", "4", "16", "64", "256", "1024", "4096", "16384", "65536", "262144", "1048576", "4194304", "16777216", "67108864"},
};

const struct sp_scale sp_scale_first_token = {
    .n = 16,
    .seconds = true,
    .bound = {1000, 5000, 10000, 20000, 40000, 60000, 80000, 100000, 250000, 500000, 750000, 1000000, 2500000, 5000000, 7500000, 10000000},
    .text = {"0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5", "10"},
};

const struct sp_scale sp_scale_per_token = {
    .n = 13,
    .seconds = true,
    .bound = {10000, 25000, 50000, 75000, 100000, 150000, 200000, 300000, 400000, 500000, 750000, 1000000, 2500000},
    .text = {"0.01", "0.025", "0.05", "0.075", "0.1", "0.15", "0.2", "0.3", "0.4", "0.5", "0.75", "1", "2.5"},
};

void sp_histogram_add(struct sp_histogram *histogram, const struct sp_scale *scale, uint64_t value) {
    unsigned low = 0, high = scale->n;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (value <= scale->bound[middle])
            high = middle;
        else
            low = middle + 1;
    }
    sp_word_add(&histogram->bucket[low], 1);
    sp_word_add(&histogram->sum, value);
}
