/* Whom limits count, as it travels. */
#include <errno.h>

#include <sallyport/ipc.h>

int sp_facts_write(const struct sp_facts *facts, struct sp_msg_facts *ret, struct sp_buffer *texts) {
    struct sp_msg_facts message = {.given = facts->given};
    memcpy(message.address, facts->address, sizeof message.address);
    for (size_t i = 0; i < SP_FACT_TEXTS; i++) {
        if (facts->text[i].len > SP_FACT_MAX)
            return -EMSGSIZE;
        int r = sp_buffer_append_span(texts, facts->text[i]);
        if (r < 0)
            return r;
        message.len[i] = (uint16_t)facts->text[i].len;
    }
    *ret = message;
    return 0;
}

int sp_facts_read(const struct sp_msg_facts *message, struct sp_span texts, struct sp_facts *ret) {
    struct sp_facts facts = {.given = message->given};
    if (message->given >= 1u << SP_FACT_BITS)
        return -EBADMSG;
    memcpy(facts.address, message->address, sizeof facts.address);
    for (size_t i = 0; i < SP_FACT_TEXTS; i++) {
        size_t len = message->len[i];
        if (len > SP_FACT_MAX || len > texts.len)
            return -EBADMSG;
        facts.text[i] = sp_span(texts.at, len);
        texts = sp_span_from(texts, len);
    }
    if (texts.len > 0)
        return -EBADMSG;
    *ret = facts;
    return 0;
}
