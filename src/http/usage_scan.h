/* One JSON answer, or one event's data, looked through as it arrives for what it says about tokens; private to src/http/usage_*.c. No tree,
 * no allocation, and time that most of it takes is that of finding the next quote or bracket. It looks, it does not judge: of valid JSON
 * it finds exactly what a full parser would (a member's last value counts); what is not JSON it may read in any way, but never past its
 * memory. */
#ifndef SALLYPORT_HTTP_USAGE_SCAN_H
#define SALLYPORT_HTTP_USAGE_SCAN_H

#include "usage_places.h"

/* Numbers said in one `usage`, or so far in a stream. */
struct sp_said {
    uint32_t number[SP_SAID_COUNT]; /* at most SP_USAGE_TOKENS_MAX */
    uint8_t has;                    /* bits: enum sp_said_number */
};

enum { SP_SAID_AT_ROOT, SP_SAID_IN_MESSAGE, SP_SAID_IN_RESPONSE, SP_SAID_PLACES };

struct sp_usage_scan {
    uint64_t text_bytes; /* goes on over all documents of an answer */
    struct sp_said said[SP_SAID_PLACES];
    bool usage_is_object, choices_are_empty; /* the outermost ones */
    /* private to usage_scan.c */
    uint8_t state;
    uint8_t depth;                         /* containers entered that have a place */
    uint8_t place[1 + SP_PLACE_DEPTH_MAX]; /* of each, after one for the document */
    uint8_t lists;                         /* bits: which of them are lists; the innermost is the lowest */
    uint8_t value_place;                   /* of the value that comes, or is being read */
    uint8_t saying;                        /* which of said[] */
    bool escaped;                          /* inside a string: the next byte */
    bool counted;                          /* what is read now is generated text */
    bool doubtful;                         /* the number being read is none that counts */
    uint8_t name_len;
    char name[32]; /* of a member, where it came in pieces */
    uint64_t number;
    uint64_t skipped; /* depth inside what has no place */
};

void sp_usage_scan_begin(struct sp_usage_scan *scan); /* the next document; text_bytes stays */
void sp_usage_scan_feed(struct sp_usage_scan *scan, struct sp_span piece);
bool sp_usage_scan_has_object(const struct sp_usage_scan *scan); /* the outermost object is whole */
bool sp_usage_scan_is_object(const struct sp_usage_scan *scan);  /* and nothing but white space came after it */

#endif
