/* Hash slots of a Redis cluster (Redis cluster specification): which slot a key is in, which node owns which slots, and what MOVED and ASK
 * say. Pure: bytes in, facts out; what a node says is bounded and believed only where it is well-formed. */
#ifndef SP_LIMIT_REDIS_SLOT_H
#define SP_LIMIT_REDIS_SLOT_H

#include <sallyport/base.h>
#include <sallyport/net.h>

#include "resp.h"

#define SP_REDIS_SLOTS     16384
#define SP_REDIS_NODES     64  /* that own slots, at most; what is owned by more is owned by nobody we know */
#define SP_REDIS_SLOT_NONE 255 /* in a map: nobody's */

/* CRC-16/XMODEM of the key, or of what is between its first { and the next } where that is not empty, mod 16384. */
unsigned sp_redis_key_slot(struct sp_span key);

struct sp_redis_slot_map {
    uint8_t owner[SP_REDIS_SLOTS]; /* index into node, or SP_REDIS_SLOT_NONE */
    struct sp_address node[SP_REDIS_NODES];
    unsigned n_nodes;
};
void sp_redis_slot_map_init(struct sp_redis_slot_map *map); /* nobody owns anything */
/* The node's index, added where it is new; -ENOSPC. */
int sp_redis_slot_map_node(struct sp_redis_slot_map *map, const struct sp_address *address) SP_MUST_USE;

/* The reply to CLUSTER SLOTS, value by value as the decoder meets them (sp_resp_visit):
 *     [[first, last, [host, port, id, [name, value, …]], [a replica …] …] …]
 * A host that is empty or nil is the asked node's own; one that is a name is looked up in the node's own words, `ip` among its names. A
 * range whose owner cannot be told so is nobody's. */
struct sp_redis_slot_reader {
    struct sp_redis_slot_map *map;
    struct sp_address asked; /* who answers */
    /* private: */
    int64_t first, last; /* of the range under way; -1: not told */
    struct sp_address node;
    bool in_owner, has_host, has_port, says_ip, broken;
};
void sp_redis_slot_reader_begin(struct sp_redis_slot_reader *reader, struct sp_redis_slot_map *map, const struct sp_address *asked);
void sp_redis_slot_reader_visit(struct sp_redis_slot_reader *reader, const struct sp_resp_value *value, const struct sp_resp_place *place);
/* The reply is complete: 0, or -EPROTO: it was something else, and the map is not to be used. */
int sp_redis_slot_reader_end(struct sp_redis_slot_reader *reader, const struct sp_resp_reply *reply) SP_MUST_USE;

/* "MOVED 3999 127.0.0.1:6381" or "ASK …"; IPv6 as ::1:6381. An empty host is the node's that said it. -EINVAL: neither, or not well-formed,
 * or a name, which is not looked up. */
struct sp_redis_redirect {
    bool ask; /* else moved */
    unsigned slot;
    struct sp_address to;
};
int sp_redis_redirect_parse(struct sp_span error, const struct sp_address *said_by, struct sp_redis_redirect *ret) SP_MUST_USE;

#endif
