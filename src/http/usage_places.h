/* Where in an answer something is read: the places of the five APIs, as a table. Private to src/http/usage_*.c. */
#ifndef SALLYPORT_HTTP_USAGE_PLACES_H
#define SALLYPORT_HTTP_USAGE_PLACES_H

#include <sallyport/base.h>

#include "bytes16.h"
#include "chars.h"

/* The numbers an answer may say, in all their names. */
enum sp_said_number {
    SP_SAID_PROMPT,
    SP_SAID_COMPLETION,
    SP_SAID_TOTAL,
    SP_SAID_INPUT,
    SP_SAID_OUTPUT,
    SP_SAID_CACHE_WRITTEN,
    SP_SAID_CACHE_READ,
    SP_SAID_COUNT,
    SP_SAID_INPUT_DETAILS = SP_SAID_COUNT /* no number: input_tokens_details is there, so input_tokens hold what caches gave (OpenAI) */
};

enum sp_place {
    SP_PLACE_NONE, /* skipped, whatever it is */
    SP_PLACE_TEXT, /* generated: its bytes are counted */
    SP_PLACE_ROOT,
    SP_PLACE_USAGE, /* three of them, in this order; inside, all are SP_PLACE_USAGE */
    SP_PLACE_MESSAGE_USAGE,
    SP_PLACE_RESPONSE_USAGE,
    SP_PLACE_INPUT_DETAILS,
    SP_PLACE_MESSAGE,
    SP_PLACE_RESPONSE,
    SP_PLACE_CHOICES,
    SP_PLACE_CHOICE_MESSAGE, /* or its delta */
    SP_PLACE_TOOL_CALLS,
    SP_PLACE_FUNCTION,
    SP_PLACE_DELTA,   /* of an event: Anthropic's is an object, OpenAI's the text itself */
    SP_PLACE_CONTENT, /* Anthropic's blocks */
    SP_PLACE_OUTPUT,  /* of Responses */
    SP_PLACE_PARTS,
    SP_PLACE_NUMBER, /* and the SP_SAID_COUNT - 1 after it: enum sp_said_number */
    SP_PLACE_COUNT = SP_PLACE_NUMBER + SP_SAID_COUNT
};

enum {
    SP_PLACE_DEPTH_MAX = 8
}; /* containers that have a place of their own, one in another: choices[].message.tool_calls[].function is 7 */

/* What may stand at a place: bits. A list's elements are objects with the members of the place. */
enum { SP_PLACE_OBJECT = 1, SP_PLACE_LIST = 2, SP_PLACE_COUNTED = 4 };
extern const uint8_t sp_place_takes[SP_PLACE_COUNT];

/* The members of an object that have a place. Length and second letter must tell them apart: these stand side by side, so that one look at
 * all says which name can be meant; mostly there is none. */
#define SP_PLACE_MARK(len, second) (uint16_t)((len) << 8 | (uint8_t)(second))
enum { SP_PLACE_MEMBERS_MAX = 8, SP_PLACE_NAME_MIN = 4, SP_PLACE_NAME_MAX = 31 };
struct sp_place_members {
    uint16_t mark[SP_PLACE_MEMBERS_MAX] __attribute__((aligned(16))); /* 0: no more */
    struct sp_place_member {
        char name[SP_PLACE_NAME_MAX];
        uint8_t place;
    } member[SP_PLACE_MEMBERS_MAX];
} __attribute__((aligned(512))); /* so that the index is only shifted */
extern const struct sp_place_members sp_place_members[SP_PLACE_NUMBER];

/* Of names of at least SP_PLACE_NAME_MIN bytes, eight a step; the last step may look once more at what the one before it has seen. */
static inline bool sp_place_same_name(const char *a, const char *b, size_t len) {
    if (len < 8)
        return memcmp(a, b, SP_PLACE_NAME_MIN) == 0 &&
               memcmp(a + len - SP_PLACE_NAME_MIN, b + len - SP_PLACE_NAME_MIN, SP_PLACE_NAME_MIN) == 0;
    for (size_t i = 0; i < len - 8; i += 8)
        if (sp_char_word(a + i) != sp_char_word(b + i))
            return false;
    return sp_char_word(a + len - 8) == sp_char_word(b + len - 8);
}

/* The place of a member, by its name as it stands between the quotes. */
static inline enum sp_place sp_place_of_member(enum sp_place object, struct sp_span name) {
    const struct sp_place_members *of = &sp_place_members[object];
    uint16_t marks __attribute__((vector_size(sizeof of->mark)));
    if (name.len < SP_PLACE_NAME_MIN || name.len > SP_PLACE_NAME_MAX)
        return SP_PLACE_NONE;
    memcpy(&marks, of->mark, sizeof marks);
    size_t at;
    if (!sp_bytes16_find((sp_bytes16)(marks == SP_PLACE_MARK(name.len, name.at[1])), &at))
        return SP_PLACE_NONE;
    const struct sp_place_member *member = &of->member[at / sizeof of->mark[0]];
    return sp_place_same_name(member->name, name.at, name.len) ? (enum sp_place)member->place : SP_PLACE_NONE;
}

#endif
