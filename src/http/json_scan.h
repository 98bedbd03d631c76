/* The scanner of JSON bodies from inside: its state, and what its files ask of each other.
 *     json_scan.c     the grammar: which token may come next; the way in
 *     json_string.c   strings: escapes, UTF-8
 *     json_number.c   numbers and the three literals
 *     json_members.c  which names the open objects have already
 *     json_ask.c      what members mean
 *     json_wide.c     long runs of text, many bytes a step
 * Everything is one pass; a state says what may come next, so that a body may be split after any byte. */
#ifndef SALLYPORT_HTTP_JSON_SCAN_H
#define SALLYPORT_HTTP_JSON_SCAN_H

#include <sallyport/json.h>

#include "chars.h"

#define NOT_JSON(what) "The body is not valid JSON: " what

/* What may come next. First those between tokens, where white space may stand. */
enum sp_json_state {
    SP_JSON_BEGIN, /* the outermost object */
    SP_JSON_VALUE,
    SP_JSON_VALUE_OR_END, /* in an array that has just begun */
    SP_JSON_NAME,
    SP_JSON_NAME_OR_END, /* in an object that has just begun */
    SP_JSON_COLON,
    SP_JSON_COMMA_OR_END,
    SP_JSON_DONE,          /* nothing but white space */
    SP_JSON_TEXT,          /* of a string, a name or a value */
    SP_JSON_UTF8,          /* the rest of a character */
    SP_JSON_ESCAPE,        /* what follows a backslash */
    SP_JSON_HEX,           /* of \uXXXX */
    SP_JSON_LOW_BACKSLASH, /* after a high surrogate */
    SP_JSON_LOW_U,
    SP_JSON_NUMBER,
    SP_JSON_LITERAL,
    SP_JSON_REFUSED,
};

/* Kinds of value: bits, so that a set of them is a number. */
enum sp_json_kind {
    SP_JSON_IS_NONE = 0,
    SP_JSON_IS_OBJECT = 1,
    SP_JSON_IS_ARRAY = 2,
    SP_JSON_IS_STRING = 4,
    SP_JSON_IS_NUMBER = 8,
    SP_JSON_IS_BOOLEAN = 16,
    SP_JSON_IS_NULL = 32,
};

/* What a value is for us; see json_ask.c. First those that are members of the outermost object, in the order of its table there; up to
 * ONE_PROMPT a value's beginning means something. */
enum sp_json_role {
    SP_JSON_MODEL,
    SP_JSON_STREAM,
    SP_JSON_STREAM_OPTIONS,
    SP_JSON_N,
    SP_JSON_BEST_OF,
    SP_JSON_MAX_TOKENS,
    SP_JSON_MAX_COMPLETION_TOKENS,
    SP_JSON_MAX_OUTPUT_TOKENS,
    SP_JSON_N_PREDICT,
    SP_JSON_MESSAGES,
    SP_JSON_INPUT,
    SP_JSON_PROMPT,
    SP_JSON_SYSTEM,
    SP_JSON_INSTRUCTIONS,
    SP_JSON_QUERY,
    SP_JSON_DOCUMENTS,
    SP_JSON_TEXT_1,
    SP_JSON_TEXT_2,
    SP_JSON_SUFFIX,
    SP_JSON_TOOLS,
    SP_JSON_FUNCTIONS,
    SP_JSON_RESPONSE_FORMAT,
    SP_JSON_KNOWN_COUNT,
    SP_JSON_OUTERMOST = SP_JSON_KNOWN_COUNT,
    SP_JSON_INCLUDE_USAGE, /* of stream_options */
    SP_JSON_MESSAGE,       /* an element of messages or input */
    SP_JSON_ONE_PROMPT,    /* an element of prompt */
    SP_JSON_PART,          /* anything within one or within another prompt */
    SP_JSON_PART_TYPE,     /* a member named type there */
    SP_JSON_PART_DATA,     /* one named data */
    SP_JSON_PART_PAYLOAD,  /* one named url, image_url or file_data */
    SP_JSON_TOOL,          /* anything within tools, functions or response_format, or within a part's input or arguments */
    SP_JSON_ANYTHING,      /* else: must only be valid */
};

enum sp_json_capture {
    SP_JSON_SKIP,       /* nobody asks what the string says */
    SP_JSON_KEEP_NAME,  /* told from all others, whatever its length */
    SP_JSON_KEEP_VALUE, /* the first bytes of it */
};

struct sp_json_level {
    bool is_object;
    uint8_t role;          /* enum sp_json_role, of the container */
    uint8_t element_role;  /* of what is in an array */
    bool is_text;          /* a part whose type is text */
    uint16_t first_member; /* where its own begin among the open ones */
    uint64_t begins_at;
    uint64_t data_bytes; /* of strings that are its member data */
};

/* The names of all open objects, 64 bits for each: a stack, for the object that opened last closes first; and once an object has many,
 * chains through it for finding one without looking at all. */
#define SP_JSON_CHAINS_BITS 10
struct sp_json_members {
    struct sp_hash_key key;
    uint64_t multiplier; /* odd and secret */
    uint16_t count;
    bool chained; /* multiplier, chains and next hold */
    uint16_t chains[1 << SP_JSON_CHAINS_BITS]; /* 1 + index of the latest member there */
    uint16_t next[SP_JSON_MEMBERS_MAX];        /* the same: an earlier one of the same chain */
    uint64_t names[SP_JSON_MEMBERS_MAX];
};

struct sp_json_scan {
    struct sp_ask ask; /* its model is written before it is read, and so is what comes after `wrong_at`: neither is zeroed */
    const char *piece; /* the bytes at hand, and how many came before them */
    uint64_t before;
    uint8_t state;   /* enum sp_json_state */
    uint8_t role;    /* enum sp_json_role, of the value that comes next or is at hand */
    uint8_t capture; /* enum sp_json_capture */
    uint8_t depth;
    uint64_t token_at; /* where the value or name at hand began */

    /* A string. */
    uint64_t shrunk;             /* bytes that its escapes take more than what they stand for */
    uint8_t utf8_left;           /* bytes that are missing from a character */
    uint8_t utf8_low, utf8_high; /* what the next of them may be */
    uint8_t hex_left;
    uint16_t hex, high_surrogate;
    /* A number or a literal. */
    uint8_t number; /* enum number in json_number.c */
    bool has_exponent;
    const char *literal; /* what is left of it */
    uint8_t literal_kind;

    uint16_t text_len;
    const char *wrong;
    uint64_t wrong_at;

    char text[SP_MODEL_NAME_MAX + 1]; /* a captured name, value or number; a longer value is cut off, a longer name folded */
    struct sp_json_level levels[SP_JSON_DEPTH_MAX];
    struct sp_json_members members;
};

static inline uint64_t sp_json_offset(const struct sp_json_scan *scan, const char *at) {
    return scan->before + (uint64_t)(at - scan->piece);
}

/* Bytes of the string at hand, whose closing quote is before `after`, without its quotes and as UTF-8. */
static inline uint64_t sp_json_text_len(const struct sp_json_scan *scan, uint64_t after) {
    return after - scan->token_at - 2 - scan->shrunk;
}

/* Each of these takes the next bytes and returns where it stopped: at `end`, or before a byte for another state. */
const char *sp_json_begin_text(struct sp_json_scan *scan, const char *at, const char *end, enum sp_json_capture capture); /* at the quote */
const char *sp_json_take_text(struct sp_json_scan *scan, const char *at, const char *end);                                /* TEXT */
const char *sp_json_text_byte(struct sp_json_scan *scan, const char *at);                /* UTF8 to LOW_U: takes one */
const char *sp_json_number(struct sp_json_scan *scan, const char *at, const char *end);  /* NUMBER */
const char *sp_json_literal(struct sp_json_scan *scan, const char *at, const char *end); /* LITERAL */
const char *sp_json_begin_number(struct sp_json_scan *scan, const char *at);             /* at its first byte, which it takes */
const char *sp_json_begin_literal(struct sp_json_scan *scan, const char *at);
const char *sp_json_refuse(struct sp_json_scan *scan, const char *at, const char *wrong);
const char *sp_json_refuse_at(struct sp_json_scan *scan, const char *at, uint64_t wrong_at, const char *wrong);

/* How many bytes follow the first one of a character, and the bounds of the first that does (RFC 3629 §4). 0: none begins so. */
static inline unsigned sp_json_utf8_lead(uint8_t byte, uint8_t *ret_low, uint8_t *ret_high) {
    *ret_low = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;  /* below: written longer than need be */
    *ret_high = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf; /* above: surrogates, and what is past U+10FFFF */
    if (byte < 0xc2 || byte > 0xf4)
        return 0;
    return byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
}

/* ---- Members ---- */
void sp_json_members_begin(struct sp_json_members *members, const struct sp_hash_key *key);
void sp_json_members_close(struct sp_json_members *members, unsigned first);
/* -EEXIST: the object whose members begin at `first` has it already. -ENOSPC: one too many. */
int sp_json_members_add(struct sp_json_members *members, unsigned first, struct sp_span name);

/* ---- Meaning: a sentence where a value must be refused, NULL otherwise; `after` is where what has ended ended ---- */
enum sp_json_role sp_json_ask_member(struct sp_json_scan *scan, enum sp_json_role of, struct sp_span name, uint64_t after);
enum sp_json_role sp_json_ask_element(enum sp_json_role of);
const char *sp_json_ask_value(struct sp_json_scan *scan, enum sp_json_kind kind); /* one begins; its role is at most ONE_PROMPT */
const char *sp_json_ask_string(struct sp_json_scan *scan, struct sp_span text, uint64_t after); /* text: if its role has it kept */
const char *sp_json_ask_number(struct sp_json_scan *scan); /* in scan->text */
void sp_json_ask_literal(struct sp_json_scan *scan, uint64_t after);
void sp_json_ask_closed(struct sp_json_scan *scan, const struct sp_json_level *level,
                        uint64_t after); /* its role is at most OUTERMOST, or it is text */
/* Also for what is no JSON. */
enum sp_json_role sp_json_known(struct sp_span name); /* ANYTHING: no member somebody asks for */
/* The one that a reader without regard for case would take it for, ANYTHING if none or if it is written as it should be. */
enum sp_json_role sp_json_resembles(struct sp_span name);
bool sp_ask_is_count(enum sp_json_role role);         /* n, max_tokens and the like */
const char *sp_ask_count(struct sp_ask *ask, enum sp_json_role role, struct sp_span digits);
const char *sp_ask_model(struct sp_ask *ask, struct sp_span name);

/* ---- Wide steps ---- */
/* To the first byte that is not plain: a quote, a backslash, a control character, a part of a longer character; or `end`. */
const char *sp_json_plain(const char *at, const char *end);
/* The same, but past valid escapes and longer characters too where they can be told in wide steps: what it stops before may be one of them.
 * Adds to *shrunk as sp_json_scan.shrunk counts. */
const char *sp_json_run(const char *at, const char *end, uint64_t *shrunk);

#endif
