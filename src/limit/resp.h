/* Redis' replies, decoded by hiredis' reader into one reply of fixed size. Of RESP2 only what our commands are answered with is understood:
 * a simple value, or one array of simple values. Anything larger or deeper is an error, the peer is not the Redis we know, unless somebody
 * visits: then the values of a nested array are shown one by one as they are read, and nothing of them is kept. */
#ifndef SP_LIMIT_RESP_H
#define SP_LIMIT_RESP_H

#include <sallyport/base.h>

#define SP_RESP_ITEMS_MAX 160
#define SP_RESP_BYTES_MAX (16 * 1024)  /* of one reply on the wire; visited: of what is not read yet */
#define SP_RESP_VISIT_MAX (512 * 1024) /* values of a reply that is visited; CLUSTER SLOTS is the largest */

enum sp_resp_type { SP_RESP_NIL, SP_RESP_INTEGER, SP_RESP_STRING, SP_RESP_STATUS, SP_RESP_ERROR, SP_RESP_ARRAY };

struct sp_resp_value {
    enum sp_resp_type type;
    int64_t integer;
    struct sp_span text; /* STRING, STATUS, ERROR */
};
struct sp_resp_reply {
    struct sp_resp_value value;
    size_t n; /* ARRAY: items */
    struct sp_resp_value item[SP_RESP_ITEMS_MAX];
};

/* Where a visited value stands. */
struct sp_resp_place {
    unsigned depth; /* 1: an item of the reply; 2: an item of that */
    size_t index;   /* among the items of the array it is in */
};
/* An ARRAY is shown before its items; integer: how many they are. Text is valid during the call. */
typedef void sp_resp_visit(void *owner, const struct sp_resp_value *value, const struct sp_resp_place *place);

struct sp_resp;
int sp_resp_new(struct sp_resp **ret) SP_MUST_USE;
void sp_resp_free(struct sp_resp *resp);                                           /* takes NULL */
int sp_resp_feed(struct sp_resp *resp, const void *bytes, size_t len) SP_MUST_USE; /* 0, -EPROTO after an error, -ENOMEM */
/* 1: *ret is the next reply, valid until the next call; 0: more bytes are needed; -EPROTO: this is not, or not our, RESP; for good. */
int sp_resp_next(struct sp_resp *resp, const struct sp_resp_reply **ret) SP_MUST_USE;
/* Who visits the reply that comes next, or is coming; NULL: nobody. A visited array is then returned with n = 0. */
void sp_resp_visit_with(struct sp_resp *resp, sp_resp_visit *visit, void *owner);

#endif
