#include "usage_places.h"

#define MEMBER(i, member_name, member_place)                                                                                               \
    .mark[i] = SP_PLACE_MARK(sizeof(member_name) - 1, (member_name)[1]), .member[i] = {member_name, member_place}

/* Deltas of a stream are counted, not the events that say the same text again when it is whole (response.output_text.done and so on). */
const struct sp_place_members sp_place_members[SP_PLACE_NUMBER] = {
    [SP_PLACE_ROOT] = {MEMBER(0, "choices", SP_PLACE_CHOICES), MEMBER(1, "usage", SP_PLACE_USAGE), MEMBER(2, "delta", SP_PLACE_DELTA),
                       MEMBER(3, "message", SP_PLACE_MESSAGE), MEMBER(4, "response", SP_PLACE_RESPONSE),
                       MEMBER(5, "content", SP_PLACE_CONTENT), MEMBER(6, "output", SP_PLACE_OUTPUT)},
    [SP_PLACE_USAGE] = {MEMBER(0, "prompt_tokens", SP_PLACE_NUMBER + SP_SAID_PROMPT),
                        MEMBER(1, "completion_tokens", SP_PLACE_NUMBER + SP_SAID_COMPLETION),
                        MEMBER(2, "total_tokens", SP_PLACE_NUMBER + SP_SAID_TOTAL),
                        MEMBER(3, "input_tokens", SP_PLACE_NUMBER + SP_SAID_INPUT),
                        MEMBER(4, "output_tokens", SP_PLACE_NUMBER + SP_SAID_OUTPUT),
                        MEMBER(5, "cache_creation_input_tokens", SP_PLACE_NUMBER + SP_SAID_CACHE_WRITTEN),
                        MEMBER(6, "cache_read_input_tokens", SP_PLACE_NUMBER + SP_SAID_CACHE_READ),
                        MEMBER(7, "input_tokens_details", SP_PLACE_INPUT_DETAILS)},
    [SP_PLACE_MESSAGE] = {MEMBER(0, "usage", SP_PLACE_MESSAGE_USAGE)},
    [SP_PLACE_RESPONSE] = {MEMBER(0, "usage", SP_PLACE_RESPONSE_USAGE)},
    [SP_PLACE_CHOICES] = {MEMBER(0, "delta", SP_PLACE_CHOICE_MESSAGE), MEMBER(1, "text", SP_PLACE_TEXT),
                          MEMBER(2, "message", SP_PLACE_CHOICE_MESSAGE)},
    [SP_PLACE_CHOICE_MESSAGE] = {MEMBER(0, "content", SP_PLACE_TEXT), MEMBER(1, "reasoning_content", SP_PLACE_TEXT),
                                 MEMBER(2, "reasoning", SP_PLACE_TEXT), MEMBER(3, "thinking", SP_PLACE_TEXT),
                                 MEMBER(4, "refusal", SP_PLACE_TEXT), MEMBER(5, "tool_calls", SP_PLACE_TOOL_CALLS),
                                 MEMBER(6, "function_call", SP_PLACE_FUNCTION)},
    [SP_PLACE_TOOL_CALLS] = {MEMBER(0, "function", SP_PLACE_FUNCTION)},
    [SP_PLACE_FUNCTION] = {MEMBER(0, "arguments", SP_PLACE_TEXT), MEMBER(1, "name", SP_PLACE_TEXT)},
    [SP_PLACE_DELTA] = {MEMBER(0, "text", SP_PLACE_TEXT), MEMBER(1, "thinking", SP_PLACE_TEXT), MEMBER(2, "partial_json", SP_PLACE_TEXT)},
    [SP_PLACE_CONTENT] = {MEMBER(0, "text", SP_PLACE_TEXT), MEMBER(1, "thinking", SP_PLACE_TEXT), MEMBER(2, "input", SP_PLACE_TEXT)},
    [SP_PLACE_OUTPUT] = {MEMBER(0, "content", SP_PLACE_PARTS), MEMBER(1, "summary", SP_PLACE_PARTS), MEMBER(2, "arguments", SP_PLACE_TEXT),
                         MEMBER(3, "input", SP_PLACE_TEXT), MEMBER(4, "name", SP_PLACE_TEXT)},
    [SP_PLACE_PARTS] = {MEMBER(0, "text", SP_PLACE_TEXT), MEMBER(1, "refusal", SP_PLACE_TEXT)},
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
