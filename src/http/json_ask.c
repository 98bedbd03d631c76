#include "json_scan.h"

#include "chars.h"

#define ANY_KIND 0xff
#define OR_NULL  SP_JSON_IS_NULL

/* Members of the outermost object that somebody here asks for. null means that a member is not there. */
static const struct known {
    struct sp_span name;
    unsigned kinds;    /* set of enum sp_json_kind */
    uint64_t least;    /* of numbers */
    const char *wrong; /* said of any other kind, and of a number that does not do */
} known[SP_JSON_KNOWN_COUNT] = {
#define COUNT_OF(member, at_least, say)                                                                                                    \
    { SP_SPAN(member), SP_JSON_IS_NUMBER | OR_NULL, at_least, "The member \"" member "\" is not " say }
#define TOKENS(member)  COUNT_OF(member, 0, "a count of tokens; send an integer from 0 to 1000000000 in plain digits.")
#define ANSWERS(member) COUNT_OF(member, 1, "a count of answers; send an integer from 1 to 1000000000 in plain digits.")
#define TEXT(member)                                                                                                                       \
    { SP_SPAN(member), ANY_KIND, 0, NULL }
    [SP_JSON_MODEL] = {SP_SPAN("model"), SP_JSON_IS_STRING | OR_NULL, 0, "The member \"model\" is not a string; send the model's name."},
    [SP_JSON_STREAM] = {SP_SPAN("stream"), SP_JSON_IS_BOOLEAN | OR_NULL, 0, "The member \"stream\" is not a boolean; send true or false."},
    [SP_JSON_STREAM_OPTIONS] = {SP_SPAN("stream_options"), SP_JSON_IS_OBJECT | OR_NULL, 0,
                                "The member \"stream_options\" is not an object; send one or leave it out."},
    [SP_JSON_N] = ANSWERS("n"),
    [SP_JSON_BEST_OF] = ANSWERS("best_of"),
    [SP_JSON_MAX_TOKENS] = TOKENS("max_tokens"),
    [SP_JSON_MAX_COMPLETION_TOKENS] = TOKENS("max_completion_tokens"),
    [SP_JSON_MAX_OUTPUT_TOKENS] = TOKENS("max_output_tokens"),
    [SP_JSON_N_PREDICT] = TOKENS("n_predict"), /* llama.cpp's, which there stands above max_tokens */
    [SP_JSON_MESSAGES] = TEXT("messages"),
    [SP_JSON_INPUT] = TEXT("input"),
    [SP_JSON_PROMPT] = TEXT("prompt"),
    [SP_JSON_SYSTEM] = TEXT("system"),
    [SP_JSON_INSTRUCTIONS] = TEXT("instructions"),
    [SP_JSON_QUERY] = TEXT("query"),
    [SP_JSON_DOCUMENTS] = TEXT("documents"),
    [SP_JSON_TEXT_1] = TEXT("text_1"),
    [SP_JSON_TEXT_2] = TEXT("text_2"),
    [SP_JSON_SUFFIX] = TEXT("suffix"),
    [SP_JSON_TOOLS] = TEXT("tools"),
    [SP_JSON_FUNCTIONS] = TEXT("functions"),
    [SP_JSON_RESPONSE_FORMAT] = TEXT("response_format"),
#undef COUNT_OF
#undef TOKENS
#undef ANSWERS
#undef TEXT
};

/* By their length first: most names are not to be compared with any. */
enum sp_json_role sp_json_known(struct sp_span name) {
#define IF(role) sp_span_eq(name, known[SP_JSON_##role].name) ? SP_JSON_##role:
#define NONE     SP_JSON_ANYTHING
    switch (name.len) {
    case 1:
        return IF(N) NONE;
    case 5:
        return IF(MODEL) IF(INPUT) IF(TOOLS) IF(QUERY) NONE;
    case 6:
        return IF(STREAM) IF(PROMPT) IF(SYSTEM) IF(SUFFIX) IF(TEXT_1) IF(TEXT_2) NONE;
    case 7:
        return IF(BEST_OF) NONE;
    case 8:
        return IF(MESSAGES) NONE;
    case 9:
        return IF(N_PREDICT) IF(DOCUMENTS) IF(FUNCTIONS) NONE;
    case 10:
        return IF(MAX_TOKENS) NONE;
    case 12:
        return IF(INSTRUCTIONS) NONE;
    case 14:
        return IF(STREAM_OPTIONS) NONE;
    case 15:
        return IF(RESPONSE_FORMAT) NONE;
    case 17:
        return IF(MAX_OUTPUT_TOKENS) NONE;
    case 21:
        return IF(MAX_COMPLETION_TOKENS) NONE;
    default:
        return NONE;
    }
#undef IF
#undef NONE
}

/* In lower case, as Go, Java and .NET compare without regard for it: besides ASCII these four are equal to letters of it. 0: not at most
 * `size` bytes. */
static size_t fold(struct sp_span name, char *out, size_t size) {
    static const struct {
        struct sp_span from;
        char to;
    } others[] = {{SP_SPAN("\u017f"), 's'}, {SP_SPAN("\u212a"), 'k'}, {SP_SPAN("\u0130"), 'i'}, {SP_SPAN("\u0131"), 'i'}};
    size_t n = 0;
    while (name.len > 0 && n < size) {
        size_t i = 0;
        while (i < SP_COUNT(others) && !sp_span_starts(name, others[i].from))
            i++;
        out[n++] = i < SP_COUNT(others) ? others[i].to : sp_char_lower(name.at[0]);
        name = sp_span_from(name, i < SP_COUNT(others) ? others[i].from.len : 1);
    }
    return name.len == 0 ? n : 0;
}

/* Whether it could be written otherwise in lower case. */
static bool has_case(struct sp_span name) {
    uint8_t all = 0;
    bool upper = false;
    for (size_t i = 0; i < name.len; i++) {
        all |= (uint8_t)name.at[i];
        upper |= (uint8_t)(name.at[i] - 'A') < 26;
    }
    return upper || all >= 0x80;
}

/* Not inlined: few names come here, and its room on the stack would be there for all. */
__attribute__((noinline)) enum sp_json_role sp_json_resembles(struct sp_span name) {
    if (!has_case(name)) /* as it should be, or none of them */
        return SP_JSON_ANYTHING;
    char folded[sizeof "max_completion_tokens" - 1]; /* the longest */
    size_t n = fold(name, folded, sizeof folded);
    enum sp_json_role role = sp_json_known(sp_span(folded, n));
    return role == SP_JSON_ANYTHING || sp_span_eq(name, known[role].name) ? SP_JSON_ANYTHING : role;
}

/* What an image or a file is carried in are strings, for a part may hold text beside them. What a tool is called with is free JSON, which
 * the model sees as it sees schemas: whatever its names, nothing in it is carried past the count. */
static enum sp_json_role member_of_part(struct sp_span name) {
    static const struct {
        struct sp_span name;
        enum sp_json_role role;
    } members[] = {
        {SP_SPAN("type"), SP_JSON_PART_TYPE},         {SP_SPAN("data"), SP_JSON_PART_DATA},         {SP_SPAN("url"), SP_JSON_PART_PAYLOAD},
        {SP_SPAN("image_url"), SP_JSON_PART_PAYLOAD}, {SP_SPAN("file_data"), SP_JSON_PART_PAYLOAD}, {SP_SPAN("input"), SP_JSON_TOOL},
        {SP_SPAN("arguments"), SP_JSON_TOOL},
    };
    for (size_t i = 0; i < SP_COUNT(members); i++)
        if (sp_span_eq(name, members[i].name))
            return members[i].role;
    return SP_JSON_PART;
}

/* Messages, input and what else becomes the prompt, and all within them. */
static bool is_prompt(enum sp_json_role role) {
    return (role >= SP_JSON_MESSAGES && role <= SP_JSON_SUFFIX) || (role >= SP_JSON_MESSAGE && role <= SP_JSON_PART_PAYLOAD);
}

/* Schemas and what tools are called with, and all within them. */
static bool is_tool(enum sp_json_role role) { return (role >= SP_JSON_TOOLS && role <= SP_JSON_RESPONSE_FORMAT) || role == SP_JSON_TOOL; }

enum sp_json_role sp_json_ask_member(struct sp_json_scan *scan, enum sp_json_role of, struct sp_span name, uint64_t after) {
    if (of == SP_JSON_OUTERMOST)
        return sp_json_known(name);
    if (of == SP_JSON_STREAM_OPTIONS)
        return sp_span_eq(name, SP_SPAN("include_usage")) ? SP_JSON_INCLUDE_USAGE : SP_JSON_ANYTHING;
    if (is_tool(of)) {
        scan->ask.text_bytes += sp_json_text_len(scan, after); /* a schema's names are shown to the model */
        return SP_JSON_TOOL;
    }
    return is_prompt(of) ? member_of_part(name) : SP_JSON_ANYTHING;
}

enum sp_json_role sp_json_ask_element(enum sp_json_role of) {
    if (of == SP_JSON_MESSAGES || of == SP_JSON_INPUT)
        return SP_JSON_MESSAGE;
    if (of == SP_JSON_PROMPT)
        return SP_JSON_ONE_PROMPT;
    return is_tool(of) ? SP_JSON_TOOL : is_prompt(of) ? SP_JSON_PART : SP_JSON_ANYTHING;
}

const char *sp_json_ask_value(struct sp_json_scan *scan, enum sp_json_kind kind) {
    if (scan->role < SP_JSON_KNOWN_COUNT && !(known[scan->role].kinds & kind))
        return known[scan->role].wrong;
    if (scan->role == SP_JSON_INCLUDE_USAGE && !(kind & (SP_JSON_IS_BOOLEAN | OR_NULL)))
        return "The member \"stream_options.include_usage\" is not a boolean; send true or false.";
    if (scan->role == SP_JSON_MESSAGE && kind != SP_JSON_IS_NUMBER) /* input may be a list of token ids */
        scan->ask.messages++;
    if (scan->role == SP_JSON_ONE_PROMPT && kind != SP_JSON_IS_NUMBER) /* the same */
        scan->ask.prompts++;
    if (scan->role == SP_JSON_OUTERMOST)
        scan->ask.insert_at = (struct sp_json_place){.at = scan->token_at + 1};
    return NULL;
}

const char *sp_ask_model(struct sp_ask *ask, struct sp_span name) {
    if (name.len == 0)
        return "The model's name is empty; send the name of a model.";
    if (name.len > SP_MODEL_NAME_MAX)
        return "The model's name is too long; send at most 256 bytes.";
    if (memchr(name.at, '\0', name.len))
        return "The model's name holds a NUL; send the name of a model.";
    memcpy(ask->model, name.at, name.len);
    ask->model_len = name.len;
    return NULL;
}

const char *sp_ask_count(struct sp_ask *ask, enum sp_json_role role, struct sp_span digits) {
    uint64_t count;
    if (!sp_span_u64(digits, &count) || count < known[role].least || count > SP_ASKED_TOKENS_MAX)
        return known[role].wrong;
    uint64_t *most = role == SP_JSON_N || role == SP_JSON_BEST_OF ? &ask->n : &ask->max_tokens;
    *most = sp_max(*most, count);
    return NULL;
}

bool sp_ask_is_count(enum sp_json_role role) { return role >= SP_JSON_N && role <= SP_JSON_N_PREDICT; }

static void part_has_type(struct sp_json_scan *scan, struct sp_span type) {
    static const struct sp_span images[] = {SP_SPAN("image_url"), SP_SPAN("image"), SP_SPAN("input_image")};
    for (size_t i = 0; i < SP_COUNT(images); i++)
        scan->ask.images += sp_span_eq(type, images[i]);
    if (sp_span_eq(type, SP_SPAN("text")))
        scan->levels[scan->depth - 1].is_text = true;
}

const char *sp_json_ask_string(struct sp_json_scan *scan, struct sp_span text, uint64_t after) {
    switch ((enum sp_json_role)scan->role) {
    case SP_JSON_MODEL:
        scan->ask.model_at = (struct sp_json_place){scan->token_at, after - scan->token_at};
        return sp_ask_model(&scan->ask, text);
    case SP_JSON_PART_TYPE:
        part_has_type(scan, text);
        scan->ask.text_bytes += sp_json_text_len(scan, after);
        break;
    case SP_JSON_PART_DATA:
        scan->levels[scan->depth - 1].data_bytes += sp_json_text_len(scan, after);
        break;
    case SP_JSON_PART_PAYLOAD:
        break;
    default:
        if (is_prompt(scan->role) || is_tool(scan->role))
            scan->ask.text_bytes += sp_json_text_len(scan, after);
    }
    return NULL;
}

const char *sp_json_ask_number(struct sp_json_scan *scan) {
    if (sp_ask_is_count(scan->role))
        return sp_ask_count(&scan->ask, scan->role, sp_span(scan->text, scan->text_len));
    if (is_prompt(scan->role) || is_tool(scan->role))
        scan->ask.text_bytes += 4;
    return NULL;
}

void sp_json_ask_literal(struct sp_json_scan *scan, uint64_t after) {
    struct sp_json_place place = {scan->token_at, after - scan->token_at};
    if (scan->role == SP_JSON_STREAM)
        scan->ask.stream = scan->text[0] == 't';
    else if (scan->role == SP_JSON_INCLUDE_USAGE)
        scan->ask.include_usage = scan->text[0] == 't';
    else if (scan->role == SP_JSON_MODEL)
        scan->ask.model_at = place;
    else if (scan->role == SP_JSON_STREAM_OPTIONS)
        scan->ask.stream_options_at = place;
}

void sp_json_ask_closed(struct sp_json_scan *scan, const struct sp_json_level *level, uint64_t after) {
    if (level->is_text)
        scan->ask.text_bytes += level->data_bytes;
    if (level->role == SP_JSON_STREAM_OPTIONS)
        scan->ask.stream_options_at = (struct sp_json_place){level->begins_at, after - level->begins_at};
    if (level->role == SP_JSON_OUTERMOST)
        scan->ask.insert_at.len = scan->members.count == 0;
}

uint64_t sp_ask_prompt_estimate(const struct sp_ask *ask) {
    return sp_divide_up(ask->text_bytes, 4) + UINT64_C(8) * ask->messages + UINT64_C(1000) * ask->images;
}
