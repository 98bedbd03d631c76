/* Where in an answer something is read: the places of the five APIs, as a table. Private to src/http/usage_*.c. */
#ifndef SALLYPORT_HTTP_USAGE_PLACES_H
#define SALLYPORT_HTTP_USAGE_PLACES_H

#include <sallyport/base.h>

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

/* The place of a member, by its name as it stands between the quotes. */
enum sp_place sp_place_of_member(enum sp_place object, struct sp_span name);

#endif
