#include "redis_slot.h"

#include <errno.h>

/* ---- Which slot ---- */

/* x^16 + x^12 + x^5 + 1, most significant bit first. */
static const uint16_t crc16[256] = {
    0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7, 0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
    0x1231, 0x0210, 0x3273, 0x2252, 0x52b5, 0x4294, 0x72f7, 0x62d6, 0x9339, 0x8318, 0xb37b, 0xa35a, 0xd3bd, 0xc39c, 0xf3ff, 0xe3de,
    0x2462, 0x3443, 0x0420, 0x1401, 0x64e6, 0x74c7, 0x44a4, 0x5485, 0xa56a, 0xb54b, 0x8528, 0x9509, 0xe5ee, 0xf5cf, 0xc5ac, 0xd58d,
    0x3653, 0x2672, 0x1611, 0x0630, 0x76d7, 0x66f6, 0x5695, 0x46b4, 0xb75b, 0xa77a, 0x9719, 0x8738, 0xf7df, 0xe7fe, 0xd79d, 0xc7bc,
    0x48c4, 0x58e5, 0x6886, 0x78a7, 0x0840, 0x1861, 0x2802, 0x3823, 0xc9cc, 0xd9ed, 0xe98e, 0xf9af, 0x8948, 0x9969, 0xa90a, 0xb92b,
    0x5af5, 0x4ad4, 0x7ab7, 0x6a96, 0x1a71, 0x0a50, 0x3a33, 0x2a12, 0xdbfd, 0xcbdc, 0xfbbf, 0xeb9e, 0x9b79, 0x8b58, 0xbb3b, 0xab1a,
    0x6ca6, 0x7c87, 0x4ce4, 0x5cc5, 0x2c22, 0x3c03, 0x0c60, 0x1c41, 0xedae, 0xfd8f, 0xcdec, 0xddcd, 0xad2a, 0xbd0b, 0x8d68, 0x9d49,
    0x7e97, 0x6eb6, 0x5ed5, 0x4ef4, 0x3e13, 0x2e32, 0x1e51, 0x0e70, 0xff9f, 0xefbe, 0xdfdd, 0xcffc, 0xbf1b, 0xaf3a, 0x9f59, 0x8f78,
    0x9188, 0x81a9, 0xb1ca, 0xa1eb, 0xd10c, 0xc12d, 0xf14e, 0xe16f, 0x1080, 0x00a1, 0x30c2, 0x20e3, 0x5004, 0x4025, 0x7046, 0x6067,
    0x83b9, 0x9398, 0xa3fb, 0xb3da, 0xc33d, 0xd31c, 0xe37f, 0xf35e, 0x02b1, 0x1290, 0x22f3, 0x32d2, 0x4235, 0x5214, 0x6277, 0x7256,
    0xb5ea, 0xa5cb, 0x95a8, 0x8589, 0xf56e, 0xe54f, 0xd52c, 0xc50d, 0x34e2, 0x24c3, 0x14a0, 0x0481, 0x7466, 0x6447, 0x5424, 0x4405,
    0xa7db, 0xb7fa, 0x8799, 0x97b8, 0xe75f, 0xf77e, 0xc71d, 0xd73c, 0x26d3, 0x36f2, 0x0691, 0x16b0, 0x6657, 0x7676, 0x4615, 0x5634,
    0xd94c, 0xc96d, 0xf90e, 0xe92f, 0x99c8, 0x89e9, 0xb98a, 0xa9ab, 0x5844, 0x4865, 0x7806, 0x6827, 0x18c0, 0x08e1, 0x3882, 0x28a3,
    0xcb7d, 0xdb5c, 0xeb3f, 0xfb1e, 0x8bf9, 0x9bd8, 0xabbb, 0xbb9a, 0x4a75, 0x5a54, 0x6a37, 0x7a16, 0x0af1, 0x1ad0, 0x2ab3, 0x3a92,
    0xfd2e, 0xed0f, 0xdd6c, 0xcd4d, 0xbdaa, 0xad8b, 0x9de8, 0x8dc9, 0x7c26, 0x6c07, 0x5c64, 0x4c45, 0x3ca2, 0x2c83, 0x1ce0, 0x0cc1,
    0xef1f, 0xff3e, 0xcf5d, 0xdf7c, 0xaf9b, 0xbfba, 0x8fd9, 0x9ff8, 0x6e17, 0x7e36, 0x4e55, 0x5e74, 0x2e93, 0x3eb2, 0x0ed1, 0x1ef0,
};

/* What of the key counts. */
static struct sp_span tag_of(struct sp_span key) {
    const char *open = key.len ? memchr(key.at, '{', key.len) : NULL;
    if (!open)
        return key;
    struct sp_span rest = sp_span_from(key, (size_t)(open - key.at) + 1);
    const char *close = rest.len ? memchr(rest.at, '}', rest.len) : NULL;
    return close && close > rest.at ? sp_span(rest.at, (size_t)(close - rest.at)) : key;
}

unsigned sp_redis_key_slot(struct sp_span key) {
    struct sp_span tag = tag_of(key);
    unsigned crc = 0;
    for (size_t i = 0; i < tag.len; i++)
        crc = (crc << 8 & 0xffff) ^ crc16[(crc >> 8 ^ (unsigned char)tag.at[i]) & 0xff];
    return crc % SP_REDIS_SLOTS;
}

/* ---- Who owns it ---- */

void sp_redis_slot_map_init(struct sp_redis_slot_map *map) {
    memset(map->owner, SP_REDIS_SLOT_NONE, sizeof map->owner);
    map->n_nodes = 0;
}

static bool same_address(const struct sp_address *a, const struct sp_address *b) {
    return a->port == b->port && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

int sp_redis_slot_map_node(struct sp_redis_slot_map *map, const struct sp_address *address) {
    for (unsigned i = 0; i < map->n_nodes; i++)
        if (same_address(&map->node[i], address))
            return (int)i;
    if (map->n_nodes == SP_REDIS_NODES)
        return -ENOSPC;
    map->node[map->n_nodes] = *address;
    return (int)map->n_nodes++;
}

void sp_redis_slot_reader_begin(struct sp_redis_slot_reader *reader, struct sp_redis_slot_map *map, const struct sp_address *asked) {
    *reader = (struct sp_redis_slot_reader){.map = map, .asked = *asked, .first = -1, .last = -1};
    sp_redis_slot_map_init(map);
}

/* The range under way is over: it is its owner's, if that is somebody. */
static void assign(struct sp_redis_slot_reader *reader) {
    if (reader->first < 0 || reader->last < 0 || !reader->has_host || !reader->has_port)
        return;
    int node = sp_redis_slot_map_node(reader->map, &reader->node);
    if (node >= 0)
        memset(reader->map->owner + reader->first, node, (size_t)(reader->last - reader->first) + 1);
}

static void begin_range(struct sp_redis_slot_reader *reader, const struct sp_resp_value *value) {
    assign(reader);
    reader->first = reader->last = -1;
    reader->has_host = reader->has_port = reader->says_ip = false;
    reader->broken |= value->type != SP_RESP_ARRAY;
}

static void read_range(struct sp_redis_slot_reader *reader, const struct sp_resp_value *value, size_t index) {
    if (index >= 2) {
        reader->broken |= value->type != SP_RESP_ARRAY;
        return;
    }
    int64_t least = index == 0 ? 0 : reader->first;
    if (value->type != SP_RESP_INTEGER || value->integer < least || value->integer >= SP_REDIS_SLOTS)
        reader->broken = true;
    else
        *(index == 0 ? &reader->first : &reader->last) = value->integer;
}

static void read_owner(struct sp_redis_slot_reader *reader, const struct sp_resp_value *value, size_t index) {
    if (index == 0) {
        bool own = value->type == SP_RESP_NIL || (value->type == SP_RESP_STRING && value->text.len == 0);
        if (own)
            memcpy(reader->node.bytes, reader->asked.bytes, sizeof reader->node.bytes);
        reader->has_host = own || (value->type == SP_RESP_STRING && sp_address_parse(value->text, reader->node.bytes));
    } else if (index == 1 && value->type == SP_RESP_INTEGER && value->integer > 0 && value->integer <= UINT16_MAX) {
        reader->node.port = (uint16_t)value->integer;
        reader->has_port = true;
    }
}

/* Names and values in turn. */
static void read_word(struct sp_redis_slot_reader *reader, const struct sp_resp_value *value, size_t index) {
    if (index % 2 == 0)
        reader->says_ip = value->type == SP_RESP_STRING && sp_span_eq(value->text, SP_SPAN("ip"));
    else if (reader->says_ip && !reader->has_host && value->type == SP_RESP_STRING)
        reader->has_host = sp_address_parse(value->text, reader->node.bytes);
}

void sp_redis_slot_reader_visit(struct sp_redis_slot_reader *reader, const struct sp_resp_value *value, const struct sp_resp_place *place) {
    switch (place->depth) {
    case 1:
        begin_range(reader, value);
        break;
    case 2:
        read_range(reader, value, place->index);
        reader->in_owner = place->index == 2;
        break;
    case 3:
        if (reader->in_owner)
            read_owner(reader, value, place->index);
        break;
    case 4:
        if (reader->in_owner)
            read_word(reader, value, place->index);
        break;
    default:
        reader->broken = true;
    }
}

int sp_redis_slot_reader_end(struct sp_redis_slot_reader *reader, const struct sp_resp_reply *reply) {
    if (reply->value.type != SP_RESP_ARRAY || reader->broken)
        return -EPROTO;
    assign(reader);
    return 0;
}

/* ---- MOVED and ASK ---- */

int sp_redis_redirect_parse(struct sp_span error, const struct sp_address *said_by, struct sp_redis_redirect *ret) {
    struct sp_span word, slot, to;
    uint64_t number, port;
    if (!sp_span_split(&error, ' ', &word) || !sp_span_split(&error, ' ', &slot) || !sp_span_split(&error, ' ', &to))
        return -EINVAL;
    bool ask = sp_span_eq(word, SP_SPAN("ASK"));
    const char *colon = to.len ? memrchr(to.at, ':', to.len) : NULL;
    if ((!ask && !sp_span_eq(word, SP_SPAN("MOVED"))) || !colon || !sp_span_u64(slot, &number) || number >= SP_REDIS_SLOTS)
        return -EINVAL;
    size_t host_len = (size_t)(colon - to.at);
    if (!sp_span_u64(sp_span_from(to, host_len + 1), &port) || port == 0 || port > UINT16_MAX)
        return -EINVAL;
    struct sp_redis_redirect redirect = {.ask = ask, .slot = (unsigned)number, .to = {.port = (uint16_t)port}};
    if (host_len == 0)
        memcpy(redirect.to.bytes, said_by->bytes, sizeof redirect.to.bytes);
    else if (!sp_address_parse(sp_span(to.at, host_len), redirect.to.bytes))
        return -EINVAL;
    *ret = redirect;
    return 0;
}
