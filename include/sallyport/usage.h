/* usage: how many tokens an answer says it took, read as it passes: part of src/http/, and as pure. JSON answers and server-sent events
 * (WHATWG HTML §9.2) of OpenAI's chat completions, completions, responses and embeddings and of Anthropic's messages.
 * It must not know limits or exchanges. */
#ifndef SALLYPORT_USAGE_H
#define SALLYPORT_USAGE_H

#include <sallyport/base.h>
#include <sallyport/http.h>

#define SP_USAGE_TOKENS_MAX INT64_C(1000000000) /* a backend that says more is not believed: as if it had said nothing */
#define SP_SSE_EVENT_MAX    (256 * 1024)        /* a longer event is not held: it passes as it comes, whatever it is, and is read all the same */

enum sp_usage_form {
    SP_USAGE_NONE,  /* not looked at: another content type, or compressed */
    SP_USAGE_JSON,  /* application/json */
    SP_USAGE_EVENTS /* text/event-stream */
};
enum sp_usage_form sp_usage_form(struct sp_span content_type, struct sp_span content_encoding); /* empty spans: not there */

/* What an answer has said so far. Only these places speak, so that no generated text can: `usage` of the outermost object, and in events
 * also of its `message` (input alone: Anthropic's message_start) and of its `response`. Numbers are plain non-negative integers of at most
 * SP_USAGE_TOKENS_MAX; of a number that is said again (continuous usage, cumulative usage) the last one counts. An event speaks when it is
 * whole, a JSON answer when its outermost object is; what is not JSON says nothing. */
struct sp_usage {
    bool known;       /* both numbers were said, or follow from total_tokens and what was: embeddings and rankings have no output. In the
                         middle of a stream: as far as it has been said (vLLM's continuous usage) */
    bool input_known; /* that one at least: an Anthropic stream says it first */
    uint64_t input;   /* prompt_tokens; or input_tokens, with cache_creation_input_tokens and cache_read_input_tokens added unless there are
                         input_tokens_details (OpenAI's input_tokens hold what caches gave, Anthropic's do not). 0: not known */
    uint64_t output;  /* completion_tokens or output_tokens; 0 for embeddings, or not known */
    /* Generated text so far, for an estimate where nothing was said: the bytes between the quotes as they stand in the JSON (an escape counts
     * as it is written), of these places and no others; where one holds a list or an object instead of a string, all bytes of that:
     *   choices[]: text; delta and message: content, reasoning_content, reasoning, thinking, refusal, function_call.{name,arguments},
     *     tool_calls[].function.{name,arguments}
     *   delta of an event: itself (all response.*.delta), or its text, thinking and partial_json (content_block_delta)
     *   content[] (Anthropic, not streamed): text, thinking, input
     *   output[] (Responses, not streamed): name, arguments, input; content[] and summary[]: text, refusal
     * Events that say once more what deltas said (response.output_text.done, response.completed …) do not count again. */
    uint64_t text_bytes;
};

/* Where the reading of one answer stands: half a kilobyte, and what a held event takes. */
struct sp_usage_reader;
int sp_usage_reader_new(struct sp_usage_reader **ret) SP_MUST_USE; /* -ENOMEM. Kept in a pool by the caller; reused by begin */
void sp_usage_reader_free(struct sp_usage_reader *reader);         /* takes NULL */
/* Forgets everything and gives back what a held event took: with SP_USAGE_NONE before a reader goes to a pool.
 * withhold: the client did not ask for the extra event that `include_usage` brings (outermost: choices an empty list and usage an object):
 * it is read and not passed on. Means something for events only. */
void sp_usage_begin(struct sp_usage_reader *reader, enum sp_usage_form form, bool withhold);
bool sp_usage_withholds(const struct sp_usage_reader *reader); /* what is passed may be shorter than what is read */
/* Reads from the front of *input, which it shortens; *ret_pass is what the client gets now: a part of the input or of what was held back,
 * maybe nothing; it is valid until the next call and as long as the input is. Call again while *input is not empty, with the same bytes.
 * Without `withhold` every byte is passed at once, unchanged, in one run. With it an event (from its first field to its empty line) is held
 * until it is whole; comments between events pass at once. Bytes are never changed and never reordered; only the one event is left out.
 * Of an event that came in pieces, what was held and what came last are passed by two calls, for nothing is copied to be passed. Out of
 * memory, an event is passed on as it comes. A malformed answer is no error here: what cannot be read is passed on, and usage stays unknown. */
void sp_usage_read(struct sp_usage_reader *reader, struct sp_span *input, struct sp_span *ret_pass);
/* The answer has ended: *ret_pass is what was still held back, valid until begin or free (an event without its final empty line is passed on,
 * whatever it is; what it says counts). */
void sp_usage_end(struct sp_usage_reader *reader, struct sp_span *ret_pass);
const struct sp_usage *sp_usage_of(const struct sp_usage_reader *reader);

#endif
