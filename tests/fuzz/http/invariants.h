/* What the fuzz targets of this folder promise in common. */
#ifndef SALLYPORT_FUZZ_HTTP_INVARIANTS_H
#define SALLYPORT_FUZZ_HTTP_INVARIANTS_H

#include <stdlib.h>

#include <sallyport/http.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static inline void must(bool promise) {
    if (!promise)
        abort();
}

struct found {
    enum sp_http_progress progress;
    size_t head_len;
    unsigned status;
};

/* Looks for a head while `step` more bytes arrive at a time. */
static inline struct found find_in_steps(struct sp_span bytes, size_t step) {
    struct sp_http_scan scan = {0};
    struct found found = {0};
    for (size_t have = sp_min(step, bytes.len);; have += sp_min(step, bytes.len - have)) {
        found.progress = sp_http_find_head(&scan, sp_span(bytes.at, have), &found.head_len, &found.status);
        if (found.progress != SP_HTTP_INCOMPLETE || have == bytes.len)
            return found;
    }
}

/* The same answer however the bytes arrive. */
static inline struct found find_every_way(struct sp_span bytes) {
    struct found at_once = find_in_steps(bytes, SIZE_MAX);
    static const size_t steps[] = {1, 7, 1021};
    for (size_t i = 0; i < SP_COUNT(steps); i++) {
        struct found stepwise = find_in_steps(bytes, steps[i]);
        must(stepwise.progress == at_once.progress && stepwise.head_len == at_once.head_len && stepwise.status == at_once.status);
    }
    must(at_once.progress != SP_HTTP_COMPLETE || (at_once.head_len >= 4 && at_once.head_len <= SP_HTTP_HEAD_MAX));
    must(at_once.progress != SP_HTTP_REFUSED || at_once.status == 400 || at_once.status == 414 || at_once.status == 431);
    return at_once;
}

static inline bool is_within(struct sp_span part, struct sp_span whole) {
    return part.at >= whole.at && part.at + part.len <= whole.at + whole.len;
}

/* What is said to be plain may be copied: to the byte it is the line that would be written, and that line can be written. */
static inline bool stands_as_written(const struct sp_http_field *field, struct sp_span head) {
    struct sp_buffer out;
    sp_buffer_init(&out, SP_HTTP_HEAD_MAX + sizeof(": \r\n"));
    bool same = sp_http_write_field(&out, field->name, field->value) == 0;
    struct sp_span line = sp_span(field->name.at, sp_buffer_len(&out));
    same = same && is_within(line, head) && sp_span_eq(line, sp_buffer_span(&out));
    sp_buffer_free(&out);
    return same;
}

static inline void check_fields(const struct sp_http_fields *fields, struct sp_span head) {
    must(fields->count <= SP_HTTP_FIELDS_MAX);
    for (unsigned i = 0; i < fields->count; i++) {
        const struct sp_http_field *field = &fields->item[i];
        must(is_within(field->name, head) && is_within(field->value, head));
        must(sp_http_is_token(field->name) && sp_http_is_field_value(field->value));
        must(sp_span_eq(field->value, sp_span_trim(field->value)));
        must(!field->plain || stands_as_written(field, head));
        must(field->id < SP_FIELD_COUNT && field->id == sp_http_field_find(field->name));
        must(fields->first[field->id] > 0 && fields->first[field->id] <= i + 1);
        must(fields->first[field->id] == i + 1 || fields->repeated & UINT64_C(1) << field->id);
    }
}

/* Writes what an intermediary passes on: end-to-end fields, without those that framing and routing write anew. */
static inline void write_end_to_end(struct sp_buffer *out, const struct sp_http_fields *fields) {
    for (unsigned i = 0; i < fields->count; i++) {
        const struct sp_http_field *field = &fields->item[i];
        if (!field->hop_by_hop && field->id != SP_FIELD_HOST && field->id != SP_FIELD_CONTENT_LENGTH)
            must(sp_http_write_parsed(out, field) == 0);
    }
}

/* The end-to-end fields of both, in the same order with the same values. */
static inline void check_same_end_to_end(const struct sp_http_fields *before, const struct sp_http_fields *after) {
    unsigned j = 0;
    for (unsigned i = 0; i < before->count; i++) {
        const struct sp_http_field *field = &before->item[i];
        if (field->hop_by_hop || field->id == SP_FIELD_HOST || field->id == SP_FIELD_CONTENT_LENGTH)
            continue;
        while (j < after->count &&
               (after->item[j].hop_by_hop || after->item[j].id == SP_FIELD_HOST || after->item[j].id == SP_FIELD_CONTENT_LENGTH))
            j++;
        must(j < after->count);
        must(sp_span_eq(field->name, after->item[j].name) && sp_span_eq(field->value, after->item[j].value));
        j++;
    }
}

#endif
