/* What nodes of a cluster and sentinels say: CLUSTER SLOTS and GET-MASTER-ADDR-BY-NAME in pieces, MOVED and ASK as text. The first byte
 * says which it is, the second how large the pieces are. */
#include <stdint.h>
#include <stdlib.h>

#include "redis_sentinel.h"
#include "redis_slot.h"

#define MUST(condition)                                                                                                                    \
    do {                                                                                                                                   \
        if (!(condition))                                                                                                                  \
            abort();                                                                                                                       \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const struct sp_address asked = {.bytes = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 9}, .port = 7009};

static struct sp_redis_slot_map map;
static struct sp_redis_slot_reader reader;

static void visit(void *owner, const struct sp_resp_value *value, const struct sp_resp_place *place) {
    volatile char seen = 0;
    MUST(place->depth >= 1 && value->type <= SP_RESP_ARRAY);
    for (size_t i = 0; i < value->text.len; i++)
        seen = (char)(seen ^ value->text.at[i]);
    (void)seen;
    sp_redis_slot_reader_visit(owner, value, place);
}

static void check_map(void) {
    MUST(map.n_nodes <= SP_REDIS_NODES);
    for (unsigned i = 0; i < SP_REDIS_SLOTS; i++)
        MUST(map.owner[i] == SP_REDIS_SLOT_NONE || map.owner[i] < map.n_nodes);
    for (unsigned i = 0; i < map.n_nodes; i++)
        MUST(map.node[i].port > 0);
}

static void check_reply(const struct sp_resp_reply *reply, bool slots) {
    struct sp_address master = {0};
    if (slots && sp_redis_slot_reader_end(&reader, reply) == 0)
        MUST(reply->value.type == SP_RESP_ARRAY && reply->n == 0);
    else if (!slots && sp_redis_master_parse(reply, &master) == 0)
        MUST(master.port > 0);
    check_map();
}

/* One reply after the other, as on a connection; once broken, it stays so. */
static void read_replies(const uint8_t *bytes, size_t len, size_t piece, bool slots) {
    struct sp_resp *resp;
    bool broken = false;
    if (sp_resp_new(&resp) < 0)
        return;
    sp_redis_slot_reader_begin(&reader, &map, &asked);
    sp_resp_visit_with(resp, slots ? visit : NULL, &reader);
    for (size_t at = 0; at < len; at += piece) {
        const struct sp_resp_reply *reply;
        int r = sp_resp_feed(resp, bytes + at, sp_min(piece, len - at));
        MUST(!broken || r < 0);
        while (r == 0 && (r = sp_resp_next(resp, &reply)) == 1) {
            check_reply(reply, slots);
            sp_redis_slot_reader_begin(&reader, &map, &asked);
            r = 0;
        }
        broken = broken || r < 0;
    }
    sp_resp_free(resp);
}

static void read_redirect(struct sp_span error) {
    struct sp_redis_redirect redirect;
    if (sp_redis_redirect_parse(error, &asked, &redirect) < 0)
        return;
    MUST(redirect.slot < SP_REDIS_SLOTS && redirect.to.port > 0);
    MUST(sp_span_starts(error, redirect.ask ? SP_SPAN("ASK") : SP_SPAN("MOVED")));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    if (len < 2)
        return 0;
    struct sp_span rest = sp_span((const char *)bytes + 2, len - 2);
    MUST(sp_redis_key_slot(rest) < SP_REDIS_SLOTS);
    if (bytes[0] == 'R')
        read_redirect(rest);
    else
        read_replies(bytes + 2, len - 2, 1u + bytes[1], bytes[0] == 'C');
    return 0;
}
