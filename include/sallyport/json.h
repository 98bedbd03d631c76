/* json: what a request body asks for, read as it arrives: part of src/http/, and as pure. One pass over the bytes, no tree, no allocation;
 * whatever is not one object, RFC 8259 to the letter, is refused: besides malformed JSON and text that is not UTF-8 (RFC 3629) a byte order
 * mark, a lone escaped surrogate, a name that occurs twice in one object ("a" and "\u0061" are the same), a number that no double holds,
 * and what is past the bounds below.
 * It must not know models, routes or limits: it reports names and numbers as they stand in the body. */
#ifndef SALLYPORT_JSON_H
#define SALLYPORT_JSON_H

#include <sallyport/base.h>
#include <sallyport/http.h>

#define SP_JSON_DEPTH_MAX   64                  /* objects and arrays in each other */
#define SP_JSON_NUMBER_MAX  64                  /* characters of one number */
#define SP_JSON_MEMBERS_MAX 4096                /* of all objects that are open at one time: beyond that duplicates could not be told */
#define SP_MODEL_NAME_MAX   256                 /* bytes of a decoded name */
#define SP_ASKED_TOKENS_MAX INT64_C(1000000000) /* of max_tokens and n; more, a fraction or a negative number is refused */

/* Where a value stands in the body: bytes from its beginning. */
struct sp_json_place {
    uint64_t at;
    uint64_t len; /* 0: there is none */
};

/* What a body asks for: members of its outermost object, and what is counted inside them. Complete once the scan is. null means everywhere
 * that a member is not there; a member of another kind than said here is refused by its name, an empty model and one with a NUL too. So is
 * a member of the outermost object that is one of these but for its case ("Model"): there are readers that make no difference. */
struct sp_ask {
    char model[SP_MODEL_NAME_MAX]; /* decoded, UTF-8, without NUL, not terminated */
    size_t model_len;              /* 0: not named */
    struct sp_json_place model_at; /* the value with its quotes, or null; in multipart the part's content */
    bool stream;
    struct sp_json_place stream_options_at; /* the whole value, an object or null */
    bool include_usage;                     /* stream_options.include_usage is true */
    /* Only plain digits count as a number in these: 1.0 and 1e2 are refused. */
    uint64_t n;          /* answers wanted: the larger of n and best_of, each at least 1; 1 when neither is there */
    uint64_t max_tokens; /* the largest of max_tokens, max_completion_tokens, max_output_tokens and n_predict; 0: none, or all 0 */
    uint32_t messages;   /* elements of messages and of input where they are lists, without numbers (inputs may be lists of token ids) */
    uint32_t prompts;    /* elements of prompt where it is a list, without numbers: each is answered for itself */
    uint32_t images;     /* objects within messages, input, prompt, system, instructions, query, documents, text_1, text_2 or suffix, but
                            not in what a tool is called with, whose type is image_url, image or input_image */
    uint64_t text_bytes; /* of strings within these and within tools, functions and response_format, decoded: escapes count as the UTF-8
                            they stand for; of the last three, and of members named input or arguments within the others (what a tool is
                            called with), the members' names too, for the model is shown them; and 4 for each number. Without what images
                            and files carry: strings that are members named url, image_url, file_data or data (not where names count),
                            except the data of an object whose type is text, which is text */
    struct sp_json_place insert_at; /* where a member can be put in as the first: after the outermost "{"; len is 1 where the object is
                                       empty, so that no comma may follow, 0 otherwise */
};

/* Tokens that the prompt will take, as a stated estimate: one for four bytes of text (rounded up), eight for each message, 1,000 for each
 * image. */
uint64_t sp_ask_prompt_estimate(const struct sp_ask *ask);

struct sp_json_scan; /* one request's; see sp_json_scan_size */
/* A scan lives in memory of the caller's, of this size and aligned like max_align_t; nothing of it need be freed. 45 KiB: 40 of them are
 * the hashes of 4,096 names and what finds one among them, of which a usual body touches little. It need not be zeroed and can be used
 * again. */
size_t sp_json_scan_size(void);
/* hash_key: for telling duplicates, random and secret, so that nobody can choose names that collide. Copied. */
void sp_json_begin(struct sp_json_scan *scan, const struct sp_hash_key *hash_key);
/* The next bytes of the body, split anyhow: what is said never depends on how. REFUSED as soon as it can be known, and for ever after.
 * INCOMPLETE otherwise; also after the outermost value, for white space may follow. */
enum sp_http_progress sp_json_feed(struct sp_json_scan *scan, struct sp_span bytes);
/* The body has ended: COMPLETE or REFUSED. */
enum sp_http_progress sp_json_end(struct sp_json_scan *scan);
const struct sp_ask *sp_json_ask(const struct sp_json_scan *scan); /* holds once COMPLETE */
/* REFUSED: what is wrong and what to do, a constant English sentence for the client, and where, in bytes from the beginning. */
const char *sp_json_wrong(const struct sp_json_scan *scan, uint64_t *ret_at);

/* Whether a Content-Type leaves no doubt that what it is about is UTF-8: it has a malformed parameter, or a charset that is neither utf-8
 * nor us-ascii, and some reader may take the bytes for another text than these scanners do. */
bool sp_content_is_utf8(struct sp_span content_type);

/* ---- multipart/form-data (RFC 7578): uploads of audio, images and files name their model in a part of their own ---- */
struct sp_multipart_scan;
size_t sp_multipart_scan_size(void);
/* content_type: the field's value, not needed afterwards. -EINVAL: not multipart/form-data with a usable boundary (RFC 2046 §5.1.1): one,
 * of 1 to 70 of the bytes listed there, in double quotes or bare. */
int sp_multipart_begin(struct sp_multipart_scan *scan, struct sp_span content_type) SP_MUST_USE;
/* As their namesakes for JSON. Only model, stream (true or false), n and max_tokens… of struct sp_ask are set, from parts of these names;
 * two of one name, one that is a file or in another character set than UTF-8 and one longer than SP_MODEL_NAME_MAX are refused. Stricter
 * than RFC 2046 where readers are known to differ: no preamble, no epilogue but one line end, no white space after a boundary, CR LF only;
 * heads of at most 8 KiB with one Content-Disposition: form-data and one name in it, without backslashes; no folded lines; no
 * Content-Transfer-Encoding that changes bytes. */
enum sp_http_progress sp_multipart_feed(struct sp_multipart_scan *scan, struct sp_span bytes);
enum sp_http_progress sp_multipart_end(struct sp_multipart_scan *scan);
const struct sp_ask *sp_multipart_ask(const struct sp_multipart_scan *scan);
const char *sp_multipart_wrong(const struct sp_multipart_scan *scan, uint64_t *ret_at);

/* ---- Writing: text as a JSON string, quotes included, at most 6 · len + 2 bytes; what is not UTF-8 becomes U+FFFD. The length written.
 * ---- */
size_t sp_json_quote(struct sp_span text, char *out);

#endif
