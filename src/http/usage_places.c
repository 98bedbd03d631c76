#include "usage_places.h"

enum { NAME_MAX = 27, MEMBERS_MAX = 8 };

struct member {
    uint8_t place;
    uint8_t len; /* 0 ends a list that is not full */
    char name[NAME_MAX];
};

#define MEMBER(member_name, member_place)                                                                                                  \
    { member_place, sizeof(member_name) - 1, member_name }

/* Deltas of a stream are counted, not the events that say the same text again when it is whole (response.output_text.done and so on). */
static const struct member members[SP_PLACE_COUNT][MEMBERS_MAX] = {
    [SP_PLACE_ROOT] = {MEMBER("choices", SP_PLACE_CHOICES), MEMBER("usage", SP_PLACE_USAGE), MEMBER("delta", SP_PLACE_DELTA),
                       MEMBER("message", SP_PLACE_MESSAGE), MEMBER("response", SP_PLACE_RESPONSE), MEMBER("content", SP_PLACE_CONTENT),
                       MEMBER("output", SP_PLACE_OUTPUT)},
    [SP_PLACE_USAGE] = {MEMBER("prompt_tokens", SP_PLACE_NUMBER + SP_SAID_PROMPT),
                        MEMBER("completion_tokens", SP_PLACE_NUMBER + SP_SAID_COMPLETION),
                        MEMBER("total_tokens", SP_PLACE_NUMBER + SP_SAID_TOTAL), MEMBER("input_tokens", SP_PLACE_NUMBER + SP_SAID_INPUT),
                        MEMBER("output_tokens", SP_PLACE_NUMBER + SP_SAID_OUTPUT),
                        MEMBER("cache_creation_input_tokens", SP_PLACE_NUMBER + SP_SAID_CACHE_WRITTEN),
                        MEMBER("cache_read_input_tokens", SP_PLACE_NUMBER + SP_SAID_CACHE_READ),
                        MEMBER("input_tokens_details", SP_PLACE_INPUT_DETAILS)},
    [SP_PLACE_MESSAGE] = {MEMBER("usage", SP_PLACE_MESSAGE_USAGE)},
    [SP_PLACE_RESPONSE] = {MEMBER("usage", SP_PLACE_RESPONSE_USAGE)},
    [SP_PLACE_CHOICES] = {MEMBER("delta", SP_PLACE_CHOICE_MESSAGE), MEMBER("text", SP_PLACE_TEXT),
                          MEMBER("message", SP_PLACE_CHOICE_MESSAGE)},
    [SP_PLACE_CHOICE_MESSAGE] = {MEMBER("content", SP_PLACE_TEXT), MEMBER("reasoning_content", SP_PLACE_TEXT),
                                 MEMBER("reasoning", SP_PLACE_TEXT), MEMBER("thinking", SP_PLACE_TEXT), MEMBER("refusal", SP_PLACE_TEXT),
                                 MEMBER("tool_calls", SP_PLACE_TOOL_CALLS), MEMBER("function_call", SP_PLACE_FUNCTION)},
    [SP_PLACE_TOOL_CALLS] = {MEMBER("function", SP_PLACE_FUNCTION)},
    [SP_PLACE_FUNCTION] = {MEMBER("arguments", SP_PLACE_TEXT), MEMBER("name", SP_PLACE_TEXT)},
    [SP_PLACE_DELTA] = {MEMBER("text", SP_PLACE_TEXT), MEMBER("thinking", SP_PLACE_TEXT), MEMBER("partial_json", SP_PLACE_TEXT)},
    [SP_PLACE_CONTENT] = {MEMBER("text", SP_PLACE_TEXT), MEMBER("thinking", SP_PLACE_TEXT), MEMBER("input", SP_PLACE_TEXT)},
    [SP_PLACE_OUTPUT] = {MEMBER("content", SP_PLACE_PARTS), MEMBER("summary", SP_PLACE_PARTS), MEMBER("arguments", SP_PLACE_TEXT),
                         MEMBER("input", SP_PLACE_TEXT), MEMBER("name", SP_PLACE_TEXT)},
    [SP_PLACE_PARTS] = {MEMBER("text", SP_PLACE_TEXT), MEMBER("refusal", SP_PLACE_TEXT)},
};

const uint8_t sp_place_takes[SP_PLACE_COUNT] = {
    [SP_PLACE_TEXT] = SP_PLACE_COUNTED,
    [SP_PLACE_ROOT] = SP_PLACE_OBJECT,
    [SP_PLACE_USAGE] = SP_PLACE_OBJECT,
    [SP_PLACE_MESSAGE_USAGE] = SP_PLACE_OBJECT,
    [SP_PLACE_RESPONSE_USAGE] = SP_PLACE_OBJECT,
    [SP_PLACE_MESSAGE] = SP_PLACE_OBJECT,
    [SP_PLACE_RESPONSE] = SP_PLACE_OBJECT,
    [SP_PLACE_CHOICES] = SP_PLACE_LIST,
    [SP_PLACE_CHOICE_MESSAGE] = SP_PLACE_OBJECT,
    [SP_PLACE_TOOL_CALLS] = SP_PLACE_LIST,
    [SP_PLACE_FUNCTION] = SP_PLACE_OBJECT,
    [SP_PLACE_DELTA] = SP_PLACE_OBJECT | SP_PLACE_COUNTED,
    [SP_PLACE_CONTENT] = SP_PLACE_LIST,
    [SP_PLACE_OUTPUT] = SP_PLACE_LIST,
    [SP_PLACE_PARTS] = SP_PLACE_LIST,
};

enum sp_place sp_place_of_member(enum sp_place object, struct sp_span name) {
    const struct member *member = members[object];
    for (size_t i = 0; i < MEMBERS_MAX && member[i].len; i++)
        if (member[i].len == name.len && member[i].name[0] == name.at[0] && memcmp(member[i].name, name.at, name.len) == 0)
            return (enum sp_place)member[i].place;
    return SP_PLACE_NONE;
}
