/* Bytes as if from Redis: in pieces, through the decoder, as a decision, and as a page of revoked keys. The first byte says how large the pieces are. */
#include <stdint.h>
#include <stdlib.h>

#include "redis_wire.h"
#include "resp.h"
#include "revocation_feed.h"

#define MUST(condition)                                                                                                                    \
    do {                                                                                                                                   \
        if (!(condition))                                                                                                                  \
            abort();                                                                                                                       \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* Reads every byte a value says it has. */
static void check_value(const struct sp_resp_value *value) {
    volatile char seen = 0;
    MUST(value->type <= SP_RESP_ARRAY);
    MUST(value->text.len <= SP_RESP_BYTES_MAX);
    for (size_t i = 0; i < value->text.len; i++)
        seen = (char)(seen ^ value->text.at[i]);
    (void)seen;
}

/* As answers to something that was asked of a bucket of 5 tokens; low digits of `what`: cost, high ones: lease. */
static void check_answers(const struct sp_resp_reply *reply, uint8_t what, bool peek) {
    struct sp_redis_asked asked[SP_REDIS_PARTS_MAX] = {0};
    struct sp_redis_told told[SP_REDIS_PARTS_MAX];
    size_t n = reply->n < 2 ? 0 : reply->n - 2;
    bool admitted = false;
    if (n > SP_REDIS_PARTS_MAX)
        return;
    for (size_t i = 0; i < n; i++)
        asked[i] = (struct sp_redis_asked){.policy = {{10, 1}, 5, 1}, .cost = what & 15u, .lease = what >> 4, .shadow = i == 2};
    if (sp_redis_wire_decode(reply, asked, n, peek, &admitted, told) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        const struct sp_bucket_answer *answer = &told[i].answer.bucket;
        MUST(answer->never == (asked[i].cost > told[i].answer.burst));
        MUST(!(answer->admitted && answer->never));
        MUST(answer->admitted ? answer->retry_us == 0 : answer->retry_us > 0);
        MUST(answer->never || answer->retry_us <= answer->reset_us);
        MUST(answer->remaining <= told[i].answer.burst);
        MUST(told[i].leased <= asked[i].lease && (told[i].leased == 0 || (admitted && !peek)));
        MUST(answer->admitted || asked[i].shadow || !admitted);
    }
}

static void check_page(const struct sp_resp_reply *reply, uint64_t last) {
    struct sp_revocation revoked[SP_REVOKED_PAGE];
    size_t n = 0;
    uint64_t read_to = 0;
    int members = sp_revoked_page(reply, last, revoked, &n, &read_to);
    if (members < 0)
        return;
    MUST(n <= (size_t)members && members <= SP_REVOKED_PAGE);
    MUST(read_to >= last && read_to < UINT64_C(1) << 53);
    for (size_t i = 0; i < n; i++)
        MUST(sp_key_id_valid(sp_span(revoked[i].id, SP_KEY_ID_LEN)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    if (len < 2)
        return 0;
    size_t piece = 1u + bytes[0];
    uint64_t cost = bytes[1];
    struct sp_resp *resp;
    if (sp_resp_new(&resp) < 0)
        return 0;
    bool broken = false;
    for (size_t at = 2; at < len; at += piece) {
        const struct sp_resp_reply *reply;
        int r = sp_resp_feed(resp, bytes + at, sp_min(piece, len - at));
        MUST(!broken || r < 0); /* an error is for good */
        while (r == 0 && (r = sp_resp_next(resp, &reply)) == 1) {
            MUST(reply->n <= SP_RESP_ITEMS_MAX);
            MUST(reply->n == 0 || reply->value.type == SP_RESP_ARRAY);
            check_value(&reply->value);
            for (size_t i = 0; i < reply->n; i++)
                check_value(&reply->item[i]);
            check_answers(reply, bytes[1], false);
            check_answers(reply, bytes[1], true);
            check_page(reply, cost);
            r = 0;
        }
        broken = broken || r < 0;
    }
    sp_resp_free(resp);
    return 0;
}
