#include "resp.h"

#include <errno.h>
#include <hiredis/hiredis.h>

struct sp_resp {
    redisReader *reader;
    struct sp_resp_reply reply;
    char text[SP_RESP_BYTES_MAX]; /* of the reply's values */
    size_t text_len;
};

/* Where hiredis' next value belongs: the reply itself, or an item of it. NULL, which ends the decoding, for arrays in arrays. */
static struct sp_resp_value *place_of(const redisReadTask *task) {
    struct sp_resp *resp = task->privdata;
    if (!task->parent) {
        resp->reply.n = 0;
        resp->text_len = 0;
        return &resp->reply.value;
    }
    if (task->parent->parent || task->idx < 0 || (size_t)task->idx >= resp->reply.n)
        return NULL;
    return &resp->reply.item[task->idx];
}

static void *create_string(const redisReadTask *task, char *bytes, size_t len) {
    struct sp_resp *resp = task->privdata;
    struct sp_resp_value *value = place_of(task);
    if (!value || len > sizeof resp->text - resp->text_len)
        return NULL;
    char *copy = resp->text + resp->text_len;
    memcpy(copy, bytes, len);
    resp->text_len += len;
    enum sp_resp_type type = task->type == REDIS_REPLY_ERROR    ? SP_RESP_ERROR
                             : task->type == REDIS_REPLY_STATUS ? SP_RESP_STATUS
                                                                : SP_RESP_STRING;
    *value = (struct sp_resp_value){.type = type, .text = sp_span(copy, len)};
    return value;
}

static void *create_integer(const redisReadTask *task, long long integer) {
    struct sp_resp_value *value = place_of(task);
    if (value)
        *value = (struct sp_resp_value){.type = SP_RESP_INTEGER, .integer = integer};
    return value;
}

static void *create_nil(const redisReadTask *task) {
    struct sp_resp_value *value = place_of(task);
    if (value)
        *value = (struct sp_resp_value){.type = SP_RESP_NIL};
    return value;
}

static void *begin_array(const redisReadTask *task, size_t n) {
    struct sp_resp *resp = task->privdata;
    if (task->parent || task->type != REDIS_REPLY_ARRAY || n > SP_RESP_ITEMS_MAX)
        return NULL;
    struct sp_resp_value *value = place_of(task);
    *value = (struct sp_resp_value){.type = SP_RESP_ARRAY};
    resp->reply.n = n;
    return value;
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
