/* Times in nanoseconds, counted in classes that are 1.6 % wide at most, so that percentiles of millions cost 30 KiB. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <string.h>
#include <time.h>

enum { HISTOGRAM_STEPS = 64, HISTOGRAM_CLASSES = HISTOGRAM_STEPS * 60 };

struct histogram {
    uint64_t classes[HISTOGRAM_CLASSES];
    uint64_t count;
};

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline void histogram_add(struct histogram *histogram, uint64_t ns) {
    unsigned octave = ns < HISTOGRAM_STEPS ? 0 : (unsigned)(63 - __builtin_clzll(ns)) - 5;
    uint64_t class = octave == 0 ? ns : (uint64_t)octave * HISTOGRAM_STEPS + (ns >> (octave - 1)) - HISTOGRAM_STEPS;
    histogram->classes[class < HISTOGRAM_CLASSES ? class : HISTOGRAM_CLASSES - 1]++;
    histogram->count++;
}

/* The upper end of the class in which this part (0 to 1) of all is reached, in microseconds. */
static inline double histogram_us(const struct histogram *histogram, double part) {
    uint64_t wanted = (uint64_t)(part * (double)histogram->count), seen = 0;
    for (uint64_t class = 0; class < HISTOGRAM_CLASSES; class++) {
        seen += histogram->classes[class];
        if (seen > wanted || (seen == histogram->count && seen > 0)) {
            uint64_t octave = class / HISTOGRAM_STEPS, step = class % HISTOGRAM_STEPS;
            return (double)(octave == 0 ? step + 1 : (step + HISTOGRAM_STEPS + 1) << (octave - 1)) / 1000;
        }
    }
    return 0;
}

static inline void histogram_reset(struct histogram *histogram) {
    memset(histogram, 0, sizeof *histogram);
}

#endif
