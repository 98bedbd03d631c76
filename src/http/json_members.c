#include "json_scan.h"

#include <endian.h>
#include <errno.h>

/* An object with more members than this is the rule for nobody; up to there looking at all of them is less than to keep chains. */
enum { UNCHAINED_MAX = 16 };

void sp_json_members_begin(struct sp_json_members *members, const struct sp_hash_key *key) {
    members->key = *key;
    members->count = 0;
    members->chained = false;
}

/* The bytes of a name of 1 to 8 bytes, and above them, where there is room, its length. */
static uint64_t packed(struct sp_span name) {
    uint64_t bytes = 0;
    if (name.len >= 4) {
        uint32_t begin, end;
        memcpy(&begin, name.at, sizeof begin);
        memcpy(&end, name.at + name.len - 4, sizeof end);
        bytes = le32toh(begin) | (uint64_t)le32toh(end) << 8 * (name.len - 4);
    } else {
        bytes = (uint64_t)(uint8_t)name.at[0] | (uint64_t)(uint8_t)name.at[name.len / 2] << 8 * (name.len / 2) |
                (uint64_t)(uint8_t)name.at[name.len - 1] << 8 * (name.len - 1);
    }
    return name.len < 8 ? bytes | (uint64_t)name.len << 56 : bytes;
}

/* Short names are themselves: the last of eight bytes is none that would be a length. Longer ones are told by 64-bit keyed hashes alone:
 * that two of the 4096 that may be open are equal is less likely than one in 2^40, and nobody without the key can bring it about. */
static uint64_t identity(const struct sp_json_members *members, struct sp_span name) {
    bool is_short = name.len > 0 && (name.len < 8 || (name.len == 8 && (uint8_t)name.at[7] >= 8));
    return is_short ? packed(name) : sp_hash_span(&members->key, name);
}

/* Multiply-shift hashing (Dietzfelbinger and others 1997): with a secret multiplier nobody can fill one chain. */
static uint16_t *chain_of(struct sp_json_members *members, uint64_t name) {
    return &members->chains[name * members->multiplier >> (64 - SP_JSON_CHAINS_BITS)];
}

static void chain(struct sp_json_members *members, unsigned at) {
    uint16_t *chain = chain_of(members, members->names[at]);
    members->next[at] = *chain;
    *chain = (uint16_t)(at + 1);
}

/* From now on, all that are open and all that come. */
static void chain_all(struct sp_json_members *members) {
    members->chained = true;
    members->multiplier = sp_hash_span(&members->key, SP_SPAN("chains")) | 1;
    memset(members->chains, 0, sizeof members->chains);
    for (unsigned i = 0; i < members->count; i++)
        chain(members, i);
}

static int append(struct sp_json_members *members, uint64_t name) {
    if (members->count == SP_JSON_MEMBERS_MAX)
        return -ENOSPC;
    members->names[members->count++] = name;
    return 0;
}

__attribute__((noinline)) static int add_chained(struct sp_json_members *members, unsigned first, uint64_t name) {
    if (!members->chained)
        chain_all(members);
    /* A chain's later members come first in it: past `first` only outer objects' are left. */
    for (unsigned i = *chain_of(members, name); i > first; i = members->next[i - 1])
        if (members->names[i - 1] == name)
            return -EEXIST;
    int error = append(members, name);
    if (!error)
        chain(members, members->count - 1u);
    return error;
}

int sp_json_members_add(struct sp_json_members *members, unsigned first, struct sp_span name) {
    uint64_t added = identity(members, name);
    if (members->chained || members->count - first == UNCHAINED_MAX)
        return add_chained(members, first, added);
    for (unsigned i = first; i < members->count; i++)
        if (members->names[i] == added)
            return -EEXIST;
    return append(members, added);
}

void sp_json_members_close(struct sp_json_members *members, unsigned first) {
    if (!members->chained) {
        members->count = (uint16_t)first;
        return;
    }
    while (members->count > first) {
        members->count--;
        *chain_of(members, members->names[members->count]) = members->next[members->count];
    }
}
