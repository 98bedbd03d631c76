/* What the files that write the Prometheus text share. */
#ifndef SP_ACCOUNT_EXPOSE_H
#define SP_ACCOUNT_EXPOSE_H

#include "segment.h"

int sp_expose_head(struct sp_buffer *out, const char *name, const char *type, const char *help) SP_MUST_USE;
/* name="value", escaped as the format says. */
int sp_expose_label(struct sp_buffer *out, const char *name, const char *value) SP_MUST_USE;

/* Histograms of several workers added up: zero to begin. */
struct sp_histogram_sum {
    uint64_t bucket[SP_BOUNDS_MAX + 1], sum;
};
void sp_histogram_sum(const struct sp_histogram *histogram, struct sp_histogram_sum *sum);
/* labels: as they stand between the braces, or "". */
int sp_expose_histogram(struct sp_buffer *out, const char *name, const char *labels, const struct sp_scale *scale,
                        const struct sp_histogram_sum *sum) SP_MUST_USE;

/* Tokens of language models (expose_usage.c). */
int sp_expose_usage(const struct sp_counters *counters, const struct sp_config *config, struct sp_buffer *out) SP_MUST_USE;

#endif
