#include "resp.h"

#include <errno.h>
#include <hiredis/hiredis.h>

struct sp_resp {
    redisReader *reader;
    struct sp_resp_reply reply;
    char text[SP_RESP_BYTES_MAX]; /* of the reply's values */
    size_t text_len;
    sp_resp_visit *visit;
    void *visitor;
    size_t visited; /* values of this reply */
};

/* Keeps the value where it belongs: the reply itself, or an item of it. NULL, which ends the decoding, for what has no place. */
static void *keep(struct sp_resp *resp, const redisReadTask *task, const struct sp_resp_value *value) {
    struct sp_resp_value *place = &resp->reply.value;
    if (!task->parent) {
        resp->reply.n = resp->text_len = resp->visited = 0;
    } else {
        if (task->parent->parent || task->idx < 0 || (size_t)task->idx >= resp->reply.n)
            return NULL;
        place = &resp->reply.item[task->idx];
    }
    *place = *value;
    if (value->text.len == 0)
        return place;
    if (value->text.len > sizeof resp->text - resp->text_len)
        return NULL;
    char *copy = resp->text + resp->text_len;
    memcpy(copy, value->text.at, value->text.len);
    resp->text_len += value->text.len;
    place->text.at = copy;
    return place;
}

static void *show(struct sp_resp *resp, const redisReadTask *task, const struct sp_resp_value *value) {
    if (++resp->visited > SP_RESP_VISIT_MAX)
        return NULL;
    struct sp_resp_place place = {.index = (size_t)sp_max(task->idx, 0)};
    for (const redisReadTask *outer = task->parent; outer; outer = outer->parent)
        place.depth++;
    resp->visit(resp->visitor, value, &place);
    return &resp->reply; /* anything but NULL */
}

static void *take(const redisReadTask *task, const struct sp_resp_value *value) {
    struct sp_resp *resp = task->privdata;
    return resp->visit && task->parent ? show(resp, task, value) : keep(resp, task, value);
}

static void *create_string(const redisReadTask *task, char *bytes, size_t len) {
    enum sp_resp_type type = task->type == REDIS_REPLY_ERROR    ? SP_RESP_ERROR
                             : task->type == REDIS_REPLY_STATUS ? SP_RESP_STATUS
                                                                : SP_RESP_STRING;
    return take(task, &(struct sp_resp_value){.type = type, .text = sp_span(bytes, len)});
}

static void *create_integer(const redisReadTask *task, long long integer) {
    return take(task, &(struct sp_resp_value){.type = SP_RESP_INTEGER, .integer = integer});
}

static void *create_nil(const redisReadTask *task) { return take(task, &(struct sp_resp_value){.type = SP_RESP_NIL}); }

static void *begin_array(const redisReadTask *task, size_t n) {
    struct sp_resp *resp = task->privdata;
    bool visited = resp->visit != NULL;
    if (task->type != REDIS_REPLY_ARRAY || n > (visited ? SP_RESP_VISIT_MAX : SP_RESP_ITEMS_MAX) || (task->parent && !visited))
        return NULL;
    void *object = take(task, &(struct sp_resp_value){.type = SP_RESP_ARRAY, .integer = (int64_t)n});
    if (!visited)
        resp->reply.n = n;
    return object;
}

static void free_nothing(void *object) { (void)object; }

#if HIREDIS_MAJOR >= 1
static void *create_array(const redisReadTask *task, size_t n) { return begin_array(task, n); }
/* RESP3, which we never ask for. */
static void *refuse_double(const redisReadTask *task, double number, char *text, size_t len) { return NULL; }
static void *refuse_bool(const redisReadTask *task, int truth) { return NULL; }
static redisReplyObjectFunctions into_reply = {.createString = create_string,
                                               .createArray = create_array,
                                               .createInteger = create_integer,
                                               .createDouble = refuse_double,
                                               .createNil = create_nil,
                                               .createBool = refuse_bool,
                                               .freeObject = free_nothing};
#else
static void *create_array(const redisReadTask *task, int n) { return n < 0 ? NULL : begin_array(task, (size_t)n); }
static redisReplyObjectFunctions into_reply = {.createString = create_string,
                                               .createArray = create_array,
                                               .createInteger = create_integer,
                                               .createNil = create_nil,
                                               .freeObject = free_nothing};
#endif

int sp_resp_new(struct sp_resp **ret) {
    struct sp_resp *resp = calloc(1, sizeof *resp);
    if (!resp)
        return -ENOMEM;
    resp->reader = redisReaderCreateWithFunctions(&into_reply);
    if (!resp->reader) {
        free(resp);
        return -ENOMEM;
    }
    resp->reader->privdata = resp;
    *ret = resp;
    return 0;
}

void sp_resp_free(struct sp_resp *resp) {
    if (!resp)
        return;
    redisReaderFree(resp->reader);
    free(resp);
}

int sp_resp_feed(struct sp_resp *resp, const void *bytes, size_t len) {
    if (resp->reader->err)
        return -EPROTO;
    return redisReaderFeed(resp->reader, bytes, len) == REDIS_OK ? 0 : -ENOMEM;
}

int sp_resp_next(struct sp_resp *resp, const struct sp_resp_reply **ret) {
    void *object = NULL;
    if (redisReaderGetReply(resp->reader, &object) != REDIS_OK)
        return -EPROTO;
    if (object) {
        *ret = &resp->reply;
        return 1;
    }
    return resp->reader->len - resp->reader->pos > SP_RESP_BYTES_MAX ? -EPROTO : 0;
}

void sp_resp_visit_with(struct sp_resp *resp, sp_resp_visit *visit, void *owner) {
    resp->visit = visit;
    resp->visitor = owner;
}
